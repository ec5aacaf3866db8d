//! Conversations: records as people keep them, templates that make a text of each, and which of its tokens are answers.

mod answers;
mod encode;
mod jinja;
mod records;
mod source;
mod template;

pub use answers::Rendered;
pub use encode::{Chat, Encoded};
pub use jinja::{BYTES, DEPTH, STEPS, valid_date};
pub use records::{Conversation, Message, Role, lines, read_records, records_of};
pub(crate) use records::{check, message};
pub use source::{Counts, Parts, contents, talk};
pub use template::{FILE, SHIPPED, Shipped, Template};
