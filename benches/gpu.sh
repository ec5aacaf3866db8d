#!/bin/sh
# One call on a machine with an NVIDIA GPU: builds, checks every kernel there, times, and prints a short table last.
# Needs Rust, LLVM 19, a CUDA toolkit of the driver's version (CUDA_PATH); python3 with torch and transformers to compare with.
set -u
cd "$(dirname "$0")/.."
if ! command -v nvidia-smi >/dev/null 2>&1 || ! nvidia-smi -L >/dev/null 2>&1; then
  echo "there is no NVIDIA device here: nothing was measured"
  exit 1
fi
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
export CUDA_PATH="${CUDA_PATH:-/usr/local/cuda}"
export LD_LIBRARY_PATH="$CUDA_PATH/lib64:$CUDA_PATH/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
features="${FEATURES:-llvm,cuda}"
if ! command -v llvm-config-19 >/dev/null 2>&1; then features=cuda; fi
command -v llvm-config-19 >/dev/null 2>&1 && LLVM_SYS_191_PREFIX="$(llvm-config-19 --prefix)" && export LLVM_SYS_191_PREFIX
echo "== building ($features)"
cargo build --release --quiet --no-default-features --features "$features" || exit 1
echo "== checking: every template, the models, random programs (EGGCORN_FUZZ=heavy for a thousand)"
REQUIRE=cuda cargo test --release --quiet --no-default-features --features "$features" --test it -- devices::cuda 2>&1 | tail -15
if command -v compute-sanitizer >/dev/null 2>&1; then
  echo "== compute-sanitizer on the templates"
  it=$(ls -t target/release/deps/it-* | grep -v '\.d$' | head -1)
  compute-sanitizer --error-exitcode 9 "$it" devices::cuda::every_template devices::cuda::products 2>&1 | tail -3
fi
echo "== kernels that memory bounds"
./target/release/eggcorn bench ops --device cuda --steps 30
echo "== training and decoding"
"${PYTHON:-python3}" benches/gpu.py ./target/release/eggcorn "${ROUNDS:-2}"
