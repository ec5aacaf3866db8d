//! Text to batches.

mod batch;
mod collate;
mod documents;
mod labelled;
mod made;
mod marks;
pub(crate) mod mixture;
mod own_text;
mod packing;
mod permutation;
mod piece;
mod read;
mod sentences;
mod shards;
mod sources;
mod token_file;
mod tokens;
mod windows;

pub use batch::{Batch, Column, Values};
pub use collate::{Collator, target};
pub use documents::{Unit, pairs, symbols};
pub use labelled::{Labelled, Parts, TextReader};
pub use made::{Made, SYMBOLS, Task};
pub use marks::Marks;
pub use mixture::Stage;
pub use own_text::OWN_TEXT;
pub use packing::Packing;
pub use permutation::{Permutation, random};
pub use piece::Piece;
pub use read::read_text;
pub use shards::{Header, INDEX, Index, IndexFile, IndexParts, IndexTokenizer, Shards};
pub use sources::{Data, HeldOut, Source};
pub use token_file::{TokenFile, Width};
pub use tokens::{TokenFiles, Tokens};
