#!/bin/sh
# Checks and times the kernels on an NVIDIA GPU, which often stands where there is no Rust, no LLVM and no network.
#
#   benches/gpu.sh pack [ARCHIVE]   where the toolchain is: one archive of two stripped programs (feature cuda alone), scripts, a manifest
#   benches/gpu.sh run ARCHIVE      where the GPU is: checks every template, the models and 1,000 random programs, then times, within
#                                   nine minutes; writes gpu.json and prints a table
#
# There it needs a driver, CUDA's run-time compiler with its headers (CUDA_PATH, /usr/local/cuda or Python's nvidia packages), python3,
# and torch with transformers to compare with.
set -eu

pack() {
  cd "$(dirname "$0")/.."
  archive="${1:-target/eggcorn-gpu.tar.gz}"
  case "$archive" in /*) ;; *) archive="$PWD/$archive" ;; esac
  out="$(mktemp -d)"
  trap 'rm -rf "$out"' EXIT
  mkdir "$out/eggcorn-gpu"
  echo "== building with cuda alone"
  CARGO_PROFILE_RELEASE_DEBUG=0
  export CARGO_PROFILE_RELEASE_DEBUG
  cargo build --release --quiet --no-default-features --features cuda --bin eggcorn
  tests="$(cargo test --release --quiet --no-default-features --features cuda --test it --no-run --message-format=json |
    sed -n 's/.*"name":"it".*"executable":"\([^"]*\)".*/\1/p' | tail -1)"
  cp target/release/eggcorn "$out/eggcorn-gpu/eggcorn"
  cp "$tests" "$out/eggcorn-gpu/checks"
  strip "$out/eggcorn-gpu/eggcorn" "$out/eggcorn-gpu/checks"
  cp benches/gpu.sh benches/gpu.py "$out/eggcorn-gpu/"
  (
    cd "$out/eggcorn-gpu"
    echo "commit $(cd "$OLDPWD" && git rev-parse HEAD 2>/dev/null || echo unknown)"
    echo "machine $(uname -sm)"
    echo "libc $(cat eggcorn checks | strings | grep -oE '^GLIBC_[0-9]+\.[0-9]+' | sort -u -t_ -k2 -V | tail -1)"
    sha256sum eggcorn checks gpu.sh gpu.py
  ) >"$out/manifest"
  mv "$out/manifest" "$out/eggcorn-gpu/manifest"
  tar -C "$out" -czf "$archive" eggcorn-gpu
  ls -l "$out/eggcorn-gpu" | awk 'NR > 1 { printf "   %-10s %6.1f MB\n", $NF, $5 / 1e6 }'
  echo "== $archive: $(wc -c <"$archive" | awk '{ printf "%.1f MB", $1 / 1e6 }')"
}

missing() {
  echo "MISSING: $1"
  echo "  $2"
  lacking=1
}

# Names what is not here, all of it, and stops if anything is.
preflight() {
  lacking=0
  if ! sha256sum -c --quiet <<EOF
$(grep -E '^[0-9a-f]{64} ' manifest)
EOF
  then missing "a whole archive" "its files are not those of its manifest: copy it again"; fi
  if ! ./eggcorn --version >/dev/null 2>&1; then
    missing "a system that runs these programs" "they were built on $(sed -n 's/^machine //p' manifest), and need $(sed -n 's/^libc //p' manifest): $(./eggcorn --version 2>&1 | head -1)"
  fi
  if ! command -v python3 >/dev/null 2>&1; then missing "python3" "it runs and collects the measurements"; fi
  if ! command -v nvidia-smi >/dev/null 2>&1 || ! nvidia-smi -L >/dev/null 2>&1; then
    missing "an NVIDIA device" "nvidia-smi lists none: is the driver installed?"
  fi
  find_nvrtc || missing "CUDA's run-time compiler" "set CUDA_PATH to a toolkit, or: pip install nvidia-cuda-nvrtc nvidia-cuda-runtime"
  if [ "$lacking" = 1 ]; then
    echo "nothing was checked or measured"
    exit 2
  fi
}

# The compiler's library and its headers, under the names that programs look for.
find_nvrtc() {
  sites="$(python3 -c 'import site, sys; print("\n".join([*site.getsitepackages(), site.getusersitepackages(), *sys.path]))' 2>/dev/null || true)"
  for root in "${CUDA_PATH:-}" /usr/local/cuda $(for s in $sites; do echo "$s/nvidia/cu13" "$s/nvidia/cuda_nvrtc" "$s/nvidia/cu12"; done); do
    [ -n "$root" ] || continue
    lib="$(find "$root/lib64" "$root/lib" "$root/targets" -name 'libnvrtc.so*' 2>/dev/null | sort | head -1 || true)"
    [ -n "$lib" ] || continue
    headers="$(for h in "$root" "$(dirname "$root")/cuda_runtime"; do if [ -e "$h/include/cuda_fp16.h" ]; then echo "$h"; fi; done | head -1)"
    [ -n "$headers" ] || continue
    mkdir -p lib
    ln -sf "$lib" lib/libnvrtc.so
    CUDA_PATH="$headers"
    LD_LIBRARY_PATH="$PWD/lib:$(dirname "$lib")${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    export CUDA_PATH LD_LIBRARY_PATH
    return 0
  done
  return 1
}

run() {
  from="$PWD"
  if [ -f "${1:-}" ]; then
    out="$(mktemp -d)"
    tar -C "$out" -xzf "$1"
    cd "$out/eggcorn-gpu"
  elif [ -f "$(dirname "$0")/manifest" ]; then
    cd "$(dirname "$0")"
  else
    echo "usage: gpu.sh run ARCHIVE (made by gpu.sh pack)"
    exit 1
  fi
  preflight
  python3 gpu.py ./eggcorn --checks ./checks --json "${OUT:-$from}/gpu.json" --minutes "${MINUTES:-8.5}"
}

case "${1:-}" in
  pack) shift; pack "$@" ;;
  run) shift; run "$@" ;;
  *) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 1 ;;
esac
