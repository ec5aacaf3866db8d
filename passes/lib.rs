//! Graph to graph: the compiler's middle, in order.
//!
//! Built → normal form → composites found ([`fuse`]) → differentiated ([`grad`]) → forward and backward optimised together
//! ([`joint`]) → optimizer added ([`train_step`]). Each stage is a graph that prints, parses, verifies and evaluates.
//!
//! ```
//! use passes::{Opt, optimize};
//!
//! let written: ir::Graph = "\
//! main(%0 x: f32[2,4]) {
//!   %1 = max[-1] %0 : f32[2,1]
//!   %2 = sub %0, %1 : f32[2,4]
//!   %3 = exp %2     : f32[2,4]
//!   %4 = sum[-1] %3 : f32[2,1]
//!   %5 = div %3, %4 : f32[2,4]
//!   return y=%5
//! }
//! ".parse().unwrap();
//! let stages = optimize(&written, None, Opt::Egg).unwrap();
//! assert!(stages.fused.to_string().contains("%1 = softmax %0"));
//! ```

#![deny(clippy::wildcard_enum_match_arm)]

mod choose;
mod climb;
mod cost;
mod cut;
mod exact;
mod explain;
mod extract;
mod flops;
mod fuse;
mod grad;
mod group;
mod joint;
mod optimizer;
mod outlier;
mod pair;
mod parts;
mod pipeline;
mod plan;
mod precision;
mod rule;
pub mod rules;
mod score;
mod score_grad;
mod state;
mod tape;
mod term;
mod tiles;
mod train;

pub use choose::{Choice, Choices, Method, Plan};
pub use cost::Machine;
pub use cut::{Saveable, cheapest_cut};
pub use explain::{Proof, ProofStep, explain, replay};
pub use extract::Problem;
pub use flops::flops;
pub use fuse::{FuncReport, Fuser, Opt, fuse, fuse_func};
pub use grad::grad;
pub use group::{Group, Which, is_like};
pub use joint::joint;
pub use optimizer::*;
pub use outlier::{OUTLIER_WINDOW, Outliers};
pub use pipeline::{Goal, Options, Stages, compile, optimize};
pub use plan::{ALIGN, Arena, Interval, plan};
pub use precision::lower_precision;
pub use rule::{Legality, Match, NODES_MAX, Report, Rewriter, Rule, rule, saturate};
pub use state::State;
pub use term::{EGraph, Fact, Term, Terms, Typed, World, add_func, egraph};
pub use tiles::{Tiles, tile_rows};
pub use train::{ACCUMULATE_MAX, Update, mean_loss, train_step};
