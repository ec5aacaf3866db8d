//! What a stage did to a part: figures that add up over parts, and examples.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What became of a part, or of many.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// What the part was made of and how, as a checksum: with another it is made again.
    pub made_of: String,
    /// Checksum of the part's documents.
    pub checksum: String,
    /// Documents read.
    pub documents_in: u64,
    /// Bytes of their text.
    pub bytes_in: u64,
    /// Documents written.
    pub documents: u64,
    /// Bytes of their text.
    pub bytes: u64,
    /// What was removed or changed, by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tallies: BTreeMap<String, Tally>,
    /// Other counts of the stage, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counts: BTreeMap<String, u64>,
}

/// What one reason removed or changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// How many things: documents, lines, matches, as the reason says.
    pub times: u64,
    /// Bytes that went.
    pub bytes: u64,
    /// The first of them.
    pub examples: Vec<Example>,
}

/// A thing that was removed or changed, shortened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// The document.
    pub id: String,
    /// The beginning of what it was.
    pub text: String,
}

/// Examples kept a reason.
const EXAMPLES: usize = 5;
/// Characters kept an example.
const LONGEST: usize = 200;

impl Report {
    /// Counts something under a reason, and keeps it as an example where there are few yet.
    pub fn tally(&mut self, reason: &str, bytes: usize, id: &str, text: &str) {
        self.tally_times(reason, 1, bytes, id, text);
    }

    /// Counts something that happened several times under a reason, with one example.
    pub fn tally_times(&mut self, reason: &str, times: u64, bytes: usize, id: &str, text: &str) {
        // a key is made for the first of a kind alone
        if !self.tallies.contains_key(reason) {
            self.tallies.insert(reason.to_string(), Tally::default());
        }
        let tally = self.tallies.get_mut(reason).expect("it was just put there");
        tally.times += times;
        tally.bytes += bytes as u64;
        if tally.examples.len() < EXAMPLES {
            tally.examples.push(Example { id: id.into(), text: text.chars().take(LONGEST).collect() });
        }
    }

    /// Adds to a count.
    pub fn count(&mut self, name: &str, by: u64) {
        *self.counts.entry(name.to_string()).or_default() += by;
    }

    /// Adds another part's figures; its examples follow where there is room. The checksums become those of both in order.
    pub fn add(&mut self, other: &Report) {
        let both = |a: &str, b: &str| if a.is_empty() { b.to_string() } else { super::part::hash(format!("{a} {b}").as_bytes()) };
        self.made_of = both(&self.made_of, &other.made_of);
        self.checksum = both(&self.checksum, &other.checksum);
        self.documents_in += other.documents_in;
        self.bytes_in += other.bytes_in;
        self.documents += other.documents;
        self.bytes += other.bytes;
        for (reason, more) in &other.tallies {
            let tally = self.tallies.entry(reason.clone()).or_default();
            tally.times += more.times;
            tally.bytes += more.bytes;
            let room = EXAMPLES.saturating_sub(tally.examples.len());
            tally.examples.extend(more.examples.iter().take(room).cloned());
        }
        for (name, n) in &other.counts {
            self.count(name, *n);
        }
    }
}
