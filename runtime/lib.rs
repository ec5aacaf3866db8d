//! Memory, threads and sessions.

mod memory;
mod peak;
mod pool;
mod session;

pub use memory::{Block, machine_memory};
pub use peak::fma_peak;
pub use pool::{Barrier, Pool};
pub use session::{NotFinite, Session};
