//! The kernel language, what writes it, what prints it and what runs it as it will be printed.

mod interpret;
mod language;
mod text;
mod writer;

pub use interpret::{Memory, interpret};
pub use language::*;
pub use writer::{Writer, load};
