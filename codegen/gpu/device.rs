//! A device: its memory, its compiled kernels, its launches. Everything a driver may refuse is an error with its cause.
#![allow(unsafe_code)]

use super::{BINDING, Dialect, Source};
use crate::kernel::Kernel;
use crate::lower::Gpu;
use crate::routine::Address;
use cubecl::bytes::Bytes;
use cubecl::client::Client;
use cubecl::prelude::*;
use cubecl::server::Handle;
use cubecl_environment::stream::StreamId;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What CubeCL calls a device, open for work.
pub struct Device {
    client: Client,
    dialect: Dialect,
    /// Whether groups of planes multiply: on Hopper alone.
    hopper: bool,
}

/// A piece of a device's memory.
#[derive(Clone)]
pub struct Memory {
    handle: Arc<Handle>,
    bytes: usize,
}

impl Memory {
    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.bytes
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }
    /// Whether it is the same memory.
    pub fn is(&self, other: &Memory) -> bool {
        Arc::ptr_eq(&self.handle, &other.handle)
    }
}

/// A kernel ready to be launched on its operands.
pub struct Entry {
    source: Source,
    /// Each operand's binding, and where in it the operand begins, in its vectors, where the kernel asks.
    operands: Vec<(Handle, Option<u32>)>,
}

/// Launches recorded, to be repeated as one submission.
pub struct Recording(cubecl::client::Graph);

/// Multiprocessors of a device that does not say.
const PROCESSORS: usize = 32;

impl Device {
    /// Opens a device by the name people give it: `wgpu` (the best there is), `wgpu:software`, `cuda` or `cuda:1`.
    pub fn open(name: &str) -> Result<Device, String> {
        let (runtime, which) = name.split_once(':').unwrap_or((name, ""));
        let (found, dialect) = match (runtime, which) {
            ("wgpu", "") => (wgpu(cubecl::device::WgpuDeviceKind::DefaultDevice), Dialect::Wgsl),
            ("wgpu", "software") => (wgpu(cubecl::device::WgpuDeviceKind::Cpu), Dialect::Wgsl),
            ("cuda", _) => {
                let index = if which.is_empty() { Ok(0) } else { which.parse() };
                let index = index.map_err(|_| format!("device {name}: {which} is no number; try cuda:0"))?;
                (cubecl::Device::cuda(index).map_err(|e| e.to_string()), Dialect::Cuda)
            }
            _ => return Err(format!("there is no device {name}; there are cpu, wgpu, wgpu:software, cuda and cuda:N")),
        };
        let hint = match runtime {
            "cuda" => "is the NVIDIA driver installed? Does nvidia-smi list the device? --device cpu always works",
            _ => "is a Vulkan driver installed? Debian's mesa-vulkan-drivers has one in software; --device cpu always works",
        };
        let device = found.map_err(|e| format!("device {name}: {e}; {hint}"))?;
        let client = guarded(|| device.client()).map_err(|e| format!("device {name}: {e}; {hint}"))?;
        Ok(Device { client, dialect, hopper: dialect == Dialect::Cuda && hopper(which) })
    }

    /// A device that a client of CubeCL reaches.
    #[cfg(feature = "cuda")]
    pub(super) fn of(client: Client, dialect: Dialect) -> Device {
        Device { client, dialect, hopper: true }
    }

    /// The name that the driver gives the device.
    pub fn name(&self) -> &str {
        &self.client.properties().identity.name
    }

    /// What kernels need to know of the device.
    pub fn target(&self) -> Gpu {
        let hardware = &self.client.properties().hardware;
        let processors = hardware.num_streaming_multiprocessors.map_or(PROCESSORS, |n| n as usize);
        // asynchronous copies came with the tensor cores whose matrices these kernels take
        let tensor = self.dialect == Dialect::Cuda && self.client.features().copy_async;
        Gpu { processors, shared: hardware.max_shared_memory_size, tensor, hopper: tensor && self.hopper }
    }

    /// The most bytes that a kernel can be given at once.
    pub fn largest_buffer(&self) -> usize {
        usize::try_from(self.client.properties().memory.max_page_size).unwrap_or(usize::MAX)
    }

    /// Bytes of memory, where the driver says.
    pub fn memory(&self) -> Option<usize> {
        self.client.properties().memory.max_memory().map(|n| n as usize)
    }

    /// Zeroed memory.
    pub fn zeros(&self, bytes: usize) -> Result<Memory, String> {
        let memory = self.empty(bytes)?;
        self.write(&memory, &vec![0; bytes])?;
        Ok(memory)
    }

    /// Memory with whatever was there.
    pub fn empty(&self, bytes: usize) -> Result<Memory, String> {
        // whole words, and never nothing: an operand without elements is bound all the same
        let size = bytes.next_multiple_of(BINDING).max(BINDING);
        if size > self.largest_buffer() {
            let mib = |n: usize| n.div_ceil(1 << 20);
            return Err(format!(
                "{}: a buffer of {} MiB is too large; this device binds at most {} MiB: use a smaller batch, context or model, or another device",
                self.name(),
                mib(size),
                mib(self.largest_buffer())
            ));
        }
        let handle = guarded(|| self.client.memory_dedicated_allocation((), |()| self.client.empty(size)))?;
        Ok(Memory { handle: Arc::new(handle), bytes })
    }

    /// Writes the whole of a piece of memory.
    pub fn write(&self, to: &Memory, bytes: &[u8]) -> Result<(), String> {
        assert_eq!(to.bytes, bytes.len(), "a write fills its memory");
        self.write_at(to, 0, bytes)
    }

    /// Writes a part of a piece of memory, from byte `at` on; both are of whole words.
    pub fn write_at(&self, to: &Memory, at: usize, bytes: &[u8]) -> Result<(), String> {
        assert!(at + bytes.len() <= to.bytes, "a write stays in its memory");
        if bytes.is_empty() {
            return Ok(());
        }
        let room = to.handle.size_in_used() - (at + bytes.len()) as u64;
        let part = (*to.handle).clone().offset_start(at as u64).offset_end(room);
        guarded(|| self.client.write(&part, Bytes::from_bytes_vec(bytes.to_vec())))
    }

    /// Reads the whole of a piece of memory, after all that was launched before.
    pub fn read(&self, from: &Memory) -> Result<Vec<u8>, String> {
        let bytes = guarded(|| self.client.read_one((*from.handle).clone()))?.map_err(|e| self.failed(&e))?;
        Ok(bytes[..from.bytes].to_vec())
    }

    /// Waits for all that was launched, and reports what failed.
    pub fn sync(&self) -> Result<(), String> {
        guarded(|| cubecl::future::block_on(self.client.sync()))?.map_err(|e| self.failed(&e))
    }

    /// Prepares a kernel for its operands: the memory of each, and where in it the operand lies.
    pub fn entry(&self, source: &Source, operands: &[(&Memory, Address)]) -> Entry {
        let kernel = &source.kernel;
        let bind = |i: usize| {
            let (memory, address) = &operands[i];
            let from = address.offset / BINDING * BINDING;
            let size = (address.offset - from + address.bytes).next_multiple_of(16).max(16) as u64;
            let handle = (*memory.handle).clone().offset_start(from as u64);
            let rest = handle.size_in_used().saturating_sub(size);
            let within = (address.offset - from) / kernel.params[i].elem.bytes() / kernel.widths[i] as usize;
            (handle.offset_end(rest), source.offsets[i].then_some(within as u32))
        };
        let operands: Vec<_> = (0..operands.len()).map(bind).collect();
        Entry { source: source.clone(), operands }
    }

    /// A kernel for this device, if it fits it. Its text is made once here, because an emission that fails at launch would be silent.
    pub fn source(&self, kernel: &Kernel, offsets: &[bool]) -> Result<Source, String> {
        let hardware = &self.client.properties().hardware;
        let refuse =
            |what: &str, have: usize, most: usize| Err(format!("{}: kernel {} needs {have} {what}, and there are {most}", self.name(), kernel.name));
        let bindings = kernel.params.len() + 1;
        if bindings > hardware.max_bindings as usize {
            return refuse("bindings", bindings, hardware.max_bindings as usize);
        }
        let threads = kernel.cube.unwrap_or(1);
        if threads > hardware.max_units_per_cube as usize {
            return refuse("threads a cube", threads, hardware.max_units_per_cube as usize);
        }
        if kernel.shared_bytes() > hardware.max_shared_memory_size {
            return refuse("bytes of shared memory", kernel.shared_bytes(), hardware.max_shared_memory_size);
        }
        let missing = |e: &crate::kernel::Elem| !self.client.properties().supports_type(super::build::memory_elem(*e));
        if let Some(elem) = kernel.params.iter().map(|p| p.elem).chain(kernel.shared.iter().map(|s| s.elem)).find(missing) {
            return Err(format!("{} has no {elem}, which kernel {} needs: use another precision, or another --device", self.name(), kernel.name));
        }
        let source = Source::new(kernel, offsets, self.dialect);
        source.text()?;
        Ok(source)
    }

    /// The same device with a queue of work of its own: what is recorded there is this one's alone.
    pub fn queue(&self) -> Device {
        static NEXT: AtomicU64 = AtomicU64::new(1 << 32);
        let mut client = self.client.clone();
        let id = StreamId { value: NEXT.fetch_add(1, Ordering::Relaxed) };
        // SAFETY: the number is no other queue's, and work that another queue wrote is read only after its results were.
        unsafe { client.set_stream(id) };
        Device { client, dialect: self.dialect, hopper: self.hopper }
    }

    /// Announces that the launches which follow will be recorded after they have run once. Then nothing else may be asked of this queue
    /// until they are.
    pub fn prepare(&self) -> Result<(), String> {
        guarded(|| self.client.graph_prepare())?.map_err(|e| self.failed(&e))
    }

    /// Records launches without running them.
    pub fn record(&self, launches: &[Entry]) -> Result<Recording, String> {
        guarded(|| {
            self.client.start_capture()?;
            launches.iter().for_each(|e| self.launch(e));
            self.client.stop_capture()
        })?
        .map(Recording)
        .map_err(|e| self.failed(&e))
    }

    /// Repeats what was recorded.
    pub fn replay(&self, recording: &Recording) -> Result<(), String> {
        // SAFETY: who recorded it keeps every operand alive, uses this queue alone, and reads results in its order.
        guarded(|| unsafe { recording.0.replay() })?.map_err(|e| self.failed(&e))
    }

    /// Launches a kernel; it runs after those launched before.
    pub fn launch(&self, entry: &Entry) {
        let (x, y, _) = entry.source.cubes();
        if x == 0 {
            return;
        }
        let mut launcher = KernelLauncher::new(entry.source.settings());
        for (i, (handle, _)) in entry.operands.iter().enumerate() {
            let bytes = entry.source.kernel.params[i].elem.bytes() * entry.source.kernel.widths[i] as usize;
            let count = handle.size_in_used() as usize / bytes;
            // SAFETY: the handle covers the operand, whose size the program's types fix.
            launcher.register_buffer(unsafe { BufferArg::from_raw_parts(handle.clone(), count) }, bytes);
        }
        for offset in entry.operands.iter().filter_map(|o| o.1) {
            launcher.register_scalar(offset);
        }
        launcher.launch(CubeCount::Static(x as u32, y as u32, 1), entry.source.clone(), &self.client);
    }

    fn failed(&self, e: &dyn std::fmt::Display) -> String {
        let text = e.to_string();
        let noise = |l: &&str| {
            l.is_empty() || l.starts_with("Caused by") || l.starts_with("Backtrace") || l.starts_with("No backtrace") || l.starts_with("Asked at")
        };
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !noise(l)).collect();
        format!("{}: {}", self.name(), lines.join("; "))
    }
}

/// Whether a CUDA device, by its number, is of the generation whose groups of planes multiply: compute capability 9.
#[cfg(feature = "cuda")]
fn hopper(which: &str) -> bool {
    use cudarc::driver::{result::device, sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR as MAJOR};
    let ordinal = which.parse().unwrap_or(0);
    // SAFETY: the device was just opened, so the driver is there and has it.
    device::get(ordinal).and_then(|d| unsafe { device::get_attribute(d, MAJOR) }).is_ok_and(|major| major == 9)
}

#[cfg(not(feature = "cuda"))]
fn hopper(_: &str) -> bool {
    false
}

fn wgpu(kind: cubecl::device::WgpuDeviceKind) -> Result<cubecl::Device, String> {
    // elsewhere than on Linux the platform's own interface is the better one
    let first = if cfg!(target_os = "linux") { cubecl::Device::vulkan(kind.clone()) } else { cubecl::Device::wgpu(kind.clone()) };
    first.or_else(|_| cubecl::Device::wgpu(kind)).map_err(|e| e.to_string())
}

/// Runs what may panic where a driver fails.
fn guarded<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).map_err(|cause| {
        let text = cause.downcast_ref::<String>().map(String::as_str).or_else(|| cause.downcast_ref::<&str>().copied());
        format!("the driver gave up: {}", text.unwrap_or("it does not say why"))
    })
}
