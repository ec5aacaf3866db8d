//! Memory, threads and sessions.

mod memory;
mod pool;
mod session;

pub use memory::Block;
pub use pool::{Barrier, Pool};
pub use session::{NotFinite, Session};
