//! CUDA C++ to machine code with no device: NVIDIA's run-time compiler, where it is installed.
#![allow(unsafe_code)]

use crate::common::required;
use cudarc::nvrtc::{result, sys};
use std::ffi::{CStr, CString};
use std::path::PathBuf;
use std::sync::LazyLock;

/// The folder with the toolkit's headers, or why tests are skipped.
static INCLUDE: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let headers = std::env::var_os("CUDA_PATH").map(|p| PathBuf::from(p).join("include"));
    // SAFETY: the call only tries to load a library.
    let library = unsafe { sys::is_culib_present() };
    match headers {
        Some(path) if library && path.is_dir() => Some(path),
        _ => {
            required("nvrtc", "CUDA_PATH names no toolkit with headers, or libnvrtc is not on the library path");
            None
        }
    }
});

/// Whether there is a compiler.
pub fn present() -> bool {
    INCLUDE.is_some()
}

/// What a text compiles to.
pub struct Compiled {
    pub ptx: String,
    pub cubin: Vec<u8>,
}

/// Compiles a text for an architecture, through to its machine code.
pub fn compile(text: &str, architecture: &str) -> Result<Compiled, String> {
    let include = INCLUDE.as_ref().expect("there is a compiler");
    let text = CString::new(text).expect("a text has no zero");
    let why = |e: result::NvrtcError| format!("{e:?}");
    let program = result::create_program(text.as_c_str(), None).map_err(why)?;
    let options = [
        format!("--gpu-architecture={architecture}"),
        format!("--include-path={}", include.display()),
        format!("--include-path={}/cccl", include.display()),
        "-lineinfo".into(),
    ];
    // SAFETY: the program was just created, is used by this thread alone, and destroyed once, at the end.
    unsafe {
        if result::compile_program(program, &options).is_err() {
            let log = result::get_program_log(program).map_err(why)?;
            return Err(CStr::from_ptr(log.as_ptr()).to_string_lossy().into_owned());
        }
        let ptx = result::get_ptx(program).map_err(why)?;
        let ptx = CStr::from_ptr(ptx.as_ptr()).to_string_lossy().into_owned();
        let mut size = 0;
        sys::nvrtcGetCUBINSize(program, &mut size).result().map_err(why)?;
        let mut cubin = vec![0u8; size];
        sys::nvrtcGetCUBIN(program, cubin.as_mut_ptr().cast()).result().map_err(why)?;
        result::destroy_program(program).map_err(why)?;
        Ok(Compiled { ptx, cubin })
    }
}
