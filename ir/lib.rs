//! What a program is.
//!
//! A [`Graph`] is a list of functions, the last of which is `main`. A [`Func`] is a list of nodes in order of dependence: an [`Op`],
//! operands that come before it, a [`Type`]. A model of N equal layers is one function and one `repeat`. Parameters are named
//! leaves; updating them is a result of main named `@path`, so the graph itself has no effects.
//!
//! Ops come in two tiers. *Core* ops have a meaning of their own in [`eval`]. *Composite* ops (softmax, attention, …) have a
//! [`definition`] in core ops, and that body is their meaning. What is data about an op is one row of [`Op::spec`]; its type rule is
//! one arm of [`infer`]. Elementwise ops broadcast like numpy; reductions keep their axes with size 1 and count them from the end.
//!
//! Models are written with [`Scope`] and [`Tensor`]; [`Graph`]'s `Display` and `FromStr` are the text format.
//!
//! ```
//! use ir::{Builder, DType, Env, Graph, Value, eval};
//!
//! let b = Builder::default();
//! let s = b.scope();
//! let x = s.input("x", DType::F32, [2usize, 3]);
//! b.output("y", x.contract("tc,dc->td", s.param("w", [4usize, 3])).exp());
//! let graph = b.finish().unwrap();
//!
//! let again: Graph = graph.to_string().parse().unwrap();
//! let env = Env::from([("x".into(), Value::new(vec![2, 3], vec![1.0; 6])), ("w".into(), Value::new(vec![4, 3], vec![0.5; 12]))]);
//! assert_eq!(eval(&again, &env).unwrap()["y"].data, [1.5f64.exp(); 8]);
//! ```

mod builder;
mod define;
mod eval;
mod graph;
mod infer;
mod limits;
pub mod names;
mod naming;
mod op;
mod score;
mod spelling;
mod text;
mod types;
mod verify;
mod visible;

pub use builder::{Builder, ModelError, ModelErrors, Places, Scope, Shape, Tensor};
pub use define::definition;
pub use eval::{Env, Value, binary, eval, eval_func, eval_op, random_bits, unary};
pub use graph::{Func, Graph, Loc, Node, NodeId, stack};
pub use infer::{attention_sizes, axis, broadcast, call, captured_gradient, infer, score_dims};
pub use limits::{OPS_MAX, check_bound, check_limits};
pub use naming::check_name;
pub use op::{Attn, Axes, Bin, Class, Ein, Labels, Lie, Loop, Name, Op, Red, Row, Spec, Un, num};
pub use score::{Arg, CAPTURED_MAX, SCORE_STEPS_MAX, ScoreFn, ScoreStep};
pub use spelling::either;
pub use text::ParseError;
pub use types::{DType, Dim, Dims, ELEMENTS_MAX, RANK_MAX, Type, parse_dims};
pub use verify::verify;
pub use visible::Visible;
