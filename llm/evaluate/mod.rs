//! How good a model is: the loss of texts and questions with answers, beside what chance and counting would do; and translations.

mod asked;
mod bayes;
mod documents;
mod metrics;
mod ngram;
mod question;
mod rows;
mod samples;
mod score;
mod seam;
mod task;
mod template;
mod text;
mod tracked;
mod translation;

pub use asked::{Asked, TaskFiles, scores};
pub use bayes::NaiveBayes;
pub use documents::Document;
pub use metrics::{Mean, Norm, Summary, groups};

pub use ngram::{Counting, ORDERS, SMOOTHING};
pub use question::{Examples, Question, questions};
pub use rows::{Request, Row, rows};
pub use samples::Sample;
pub use score::{Fill, Score, Scorer, score_graph};
pub use seam::Seam;
pub use task::{Form, Task};
pub use text::{Counted, TextLoss, Windows, text_loss};
pub use tracked::Tracked;
pub use translation::{Bleu, Chrf, Corpus};
