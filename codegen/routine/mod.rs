//! A function as kernels over buffers: composites become core ops, ops are grouped, values get homes and buffers places.

mod dag;
mod emit;
mod expand;
mod group;
mod heads;
mod homes;
mod layout;
mod needed;
mod placement;
mod prepare;
mod program;
mod reach;
mod role;
mod score;
mod sharing;
mod state;
mod steps;
mod update;

pub use program::{Address, Call, Program, Region};
pub use reach::COUNT_MAX;
pub use steps::{Buffer, BufferKind, LoopInput, LoopResult, LoopStep, Place, Routine, Step, Table};
