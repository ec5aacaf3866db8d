//! How good a model is: the loss of texts, beside what counting would do.

mod ngram;
mod rows;
mod score;
mod text;

pub use ngram::{Counting, ORDERS, SMOOTHING};
pub use rows::{Request, Row, rows};
pub use score::{Fill, Score, Scorer, score_graph};
pub use text::{Counted, TextLoss, Windows, text_loss};
