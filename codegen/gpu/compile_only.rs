//! A CUDA device that is none: it has the properties of a real one, turns every launch into CUDA C++, and runs nothing. With it the whole
//! way to a device, from memory to arguments to text, is gone on a machine that has no such device.

use super::device::Device;
use super::{Dialect, build};
use cubecl::bytes::Bytes;
use cubecl::device::DeviceId;
use cubecl::ir::features::{Features, Plane};
use cubecl::ir::{
    ContiguousElements, DeviceIdentity, DeviceProperties, HardwareProperties, MemoryDeviceProperties, MmaProperties, TargetProperties, VectorSize,
};
use cubecl::{Compiler, CubeCount, CubeKernel};
use cubecl_common::device::{DeviceService, ServerUtilitiesHandle, ServiceId};
use cubecl_cpp::cuda::mma::manual::contiguous_elements_cuda;
use cubecl_cpp::shared::{CompilationOptions, CppCompiler};
use cubecl_cpp::{register_supported_types, target::Cuda};
use cubecl_environment::future::DynFut;
use cubecl_environment::stream::StreamId;
use cubecl_server::allocator::ContiguousMemoryLayoutPolicy;
use cubecl_server::logging::ServerLogger;
use cubecl_server::memory_management::{ManagedMemoryHandle, MemoryAllocationMode, StreamMemoryReport};
use cubecl_server::server::{
    BufferBinding, CopyDescriptor, KernelArguments, ProfileError, ProfilingToken, Server, ServerCommunication, ServerError, ServerStorage,
    ServerUtilities,
};
use cubecl_server::storage::{BytesResource, BytesStorage, ManagedResource};
use std::sync::{Arc, Mutex};

/// A launch as a device would have got it.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Launched {
    pub kernel: String,
    /// The text, or why there is none.
    pub text: Result<String, String>,
    pub buffers: usize,
    pub cubes: String,
}

/// Launches of all such devices, in order, since they were last taken.
static LAUNCHED: Mutex<Vec<Launched>> = Mutex::new(Vec::new());

/// The launches since the last call.
pub fn take_launched() -> Vec<Launched> {
    std::mem::take(&mut *LAUNCHED.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
}

/// The device.
pub fn compile_only() -> Device {
    Device::of(cubecl::client::Client::load::<CompileOnly>(DeviceId::new(0, 0)), Dialect::Cuda)
}

#[derive(Debug)]
struct CompileOnly {
    utilities: Arc<ServerUtilities>,
    options: CompilationOptions,
}

/// What a Hopper has that our kernels ask for.
fn properties() -> (DeviceProperties, TargetProperties) {
    let hardware = HardwareProperties {
        load_width: 128,
        vector_register_count: None,
        plane_size_min: 32,
        plane_size_max: 32,
        max_bindings: 1024,
        max_shared_memory_size: 227 * 1024,
        max_cube_count: (i32::MAX as u32, 65535, 65535),
        max_units_per_cube: 1024,
        max_cube_dim: (1024, 1024, 64),
        num_streaming_multiprocessors: Some(132),
        num_tensor_cores: Some(4),
        min_tensor_cores_dim: Some(8),
        num_cpu_cores: None,
        last_level_cache_size: None,
        max_vector_size: VectorSize::MAX,
        cube_mma_reserved_shared_memory: 0,
    };
    let identity = DeviceIdentity { name: "compiles and runs nothing".into(), fingerprint: "compile-only".into(), physical: None };
    let memory = MemoryDeviceProperties::new(64 << 30, 512);
    let mut p = DeviceProperties::new(Features::default(), memory, hardware, cubecl::profile::TimingMethod::System, identity);
    register_supported_types(&mut p);
    p.features.plane.insert(Plane::Sync);
    p.features.plane.insert(Plane::Ops);
    p.features.copy_async = true;
    p.features.memory_reinterpret = true;
    p.features.alignment = true;
    for elem in [crate::kernel::Elem::BF16, crate::kernel::Elem::F16] {
        p.features.matmul.ldmatrix.insert(build::memory_elem(elem));
    }
    let row_major = cubecl::cmma::MatrixLayout::RowMajor;
    let mma = MmaProperties {
        register_size_bits: 32,
        const_plane_size: 32,
        register_layout_a: row_major,
        register_layout_b: cubecl::cmma::MatrixLayout::ColMajor,
        register_layout_acc: row_major,
        register_duplication_a: 1,
        register_duplication_b: 1,
        register_duplication_acc: 1,
        contiguous_elements: ContiguousElements::new(contiguous_elements_cuda),
    };
    (p, TargetProperties { mma })
}

impl DeviceService for CompileOnly {
    fn init(id: DeviceId) -> Self {
        let (device, target) = properties();
        let policy = ContiguousMemoryLayoutPolicy::new(512);
        let service = ServiceId::of::<CompileOnly>(id);
        let (utilities, _) = ServerUtilities::init(service, "compile-only", device, target, Arc::new(ServerLogger::default()), policy);
        let mut options = CompilationOptions { warp_size: 32, ..Default::default() };
        options.supports_features.grid_constants = true;
        Self { utilities: Arc::new(utilities), options }
    }
    fn utilities(&self) -> ServerUtilitiesHandle {
        self.utilities.clone()
    }
}

impl ServerCommunication for CompileOnly {}

impl Server for CompileOnly {
    fn logger(&self) -> Arc<ServerLogger> {
        self.utilities.logger.clone()
    }
    fn utilities(&self) -> Arc<ServerUtilities> {
        self.utilities.clone()
    }
    fn initialize_memory(&mut self, _: ManagedMemoryHandle, _: u64, _: StreamId) -> Result<(), ServerError> {
        Ok(())
    }
    fn read(&mut self, from: Vec<CopyDescriptor>, _: StreamId) -> DynFut<Result<Vec<Bytes>, ServerError>> {
        let zeros = |d: CopyDescriptor| Bytes::from_bytes_vec(vec![0; d.handle.size_in_used() as usize]);
        Box::pin(async move { Ok(from.into_iter().map(zeros).collect()) })
    }
    fn write(&mut self, _: Vec<(CopyDescriptor, Bytes)>, _: StreamId) {}
    fn sync(&mut self, _: Vec<BufferBinding>, _: StreamId) -> DynFut<Result<(), ServerError>> {
        Box::pin(async { Ok(()) })
    }
    fn check(&mut self, _: Vec<BufferBinding>, _: StreamId) -> Result<(), ServerError> {
        Ok(())
    }
    #[allow(unsafe_code)]
    unsafe fn launch(
        &mut self,
        kernel: Box<dyn CubeKernel>,
        count: CubeCount,
        arguments: KernelArguments,
        _: StreamId,
        _: cubecl_server::dry_run::LaunchMode,
    ) {
        let text = cubecl::define_kernel(&*kernel)
            .and_then(|d| CppCompiler::<Cuda>::default().compile(d, &self.options))
            .map(|k| k.to_string())
            .map_err(|e| e.to_string());
        let launched = Launched { kernel: kernel.name().into(), text, buffers: arguments.resources.len(), cubes: format!("{count:?}") };
        LAUNCHED.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(launched);
    }
    fn flush(&mut self, _: StreamId) -> Result<(), ServerError> {
        Ok(())
    }
    fn memory_report(&mut self, _: StreamId) -> Option<StreamMemoryReport> {
        None
    }
    fn memory_cleanup(&mut self, _: StreamId) -> Result<(), ServerError> {
        Ok(())
    }
    fn start_profile(&mut self, _: StreamId) -> Result<ProfilingToken, ServerError> {
        unreachable!("nobody profiles what does not run")
    }
    fn end_profile(&mut self, _: StreamId, _: ProfilingToken) -> Result<cubecl_common::profile::ProfileDuration, ProfileError> {
        unreachable!("nobody profiles what does not run")
    }
    fn allocation_mode(&mut self, _: MemoryAllocationMode, _: StreamId) {}
}

impl ServerStorage for CompileOnly {
    type Storage = BytesStorage;
    fn get_resource(&mut self, _: BufferBinding, _: StreamId) -> Result<ManagedResource<BytesResource>, ServerError> {
        unreachable!("memory that holds nothing is given to nobody")
    }
}
