//! The tokens of a vocabulary that are no text, and those that go on with a word.

use super::collate::sentinels;
use super::documents::Unit;
use crate::config::{Aim, Config};
use crate::text::{END_OF_TEXT, Kind, Tokenizer};

/// What objectives need of a vocabulary besides words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Number of tokens.
    pub size: usize,
    /// What fills rows up; the first token where there is no such.
    pub pad: i32,
    /// What a token is hidden behind.
    pub mask: Option<i32>,
    /// What begins a text that is read as a whole.
    pub begin: Option<i32>,
    /// What ends each of its parts.
    pub separator: Option<i32>,
    /// What ends a document.
    pub end: Option<i32>,
    /// What stand for spans that are hidden, in their order.
    pub sentinels: Vec<i32>,
    /// What stand before the beginning, the end and the middle of a text whose middle is asked.
    pub fim: Option<[i32; 3]>,
    /// Every token that is no text, in order.
    pub special: Vec<i32>,
    /// For each token whether it goes on with the word of the one before; empty where nobody asks.
    pub within: Vec<bool>,
}

/// Names of special tokens, the first of which is what a vocabulary gets that is made here; one of SentencePiece's kind gets the second.
const PAD: [&str; 2] = ["[PAD]", "<pad>"];
const MASK: [&str; 2] = ["[MASK]", "<mask>"];
const BEGIN: [&str; 2] = ["[CLS]", "<s>"];
const SEPARATOR: [&str; 2] = ["[SEP]", "</s>"];
const FIM: [[&str; 2]; 3] = [["<|fim_prefix|>", "<fim_prefix>"], ["<|fim_suffix|>", "<fim_suffix>"], ["<|fim_middle|>", "<fim_middle>"]];

/// The name of the sentinel of a number, as T5 has them.
fn sentinel(number: usize) -> String {
    format!("<extra_id_{number}>")
}

/// The most sentinels that are looked for, and that a vocabulary gets.
const SENTINELS: usize = 100;

impl Config {
    /// Special tokens that what is asked needs, by the names that a tokenizer which is learned from the text gets them.
    pub fn specials(&self) -> Vec<String> {
        let of = |names: [&str; 2]| names[usize::from(self.data.tokenizer == Kind::Unigram)].to_string();
        let end = match self.data.tokenizer {
            Kind::WordPiece | Kind::Unigram => of(SEPARATOR),
            Kind::Char | Kind::Byte | Kind::Bpe | Kind::File => END_OF_TEXT.into(),
        };
        match self.aim() {
            Aim::NextToken if self.data.documents == Unit::Chat => self.chat.specials(),
            Aim::NextToken | Aim::Prefix | Aim::Preferences | Aim::Rewards | Aim::Policy | Aim::Imitation => vec![],
            Aim::Fim => FIM.map(of).into_iter().chain([end]).collect(),
            Aim::Classes if self.model.kind() == models::Kind::Encoder => [PAD, BEGIN, SEPARATOR].map(of).to_vec(),
            Aim::Classes => vec![of(PAD)],
            Aim::Masked => [PAD, BEGIN, SEPARATOR, MASK].map(of).to_vec(),
            Aim::Answer => vec![of(PAD), end],
            Aim::Spans => {
                let count = sentinels(&self.objective, self.train.context).min(SENTINELS);
                [of(PAD), end].into_iter().chain((0..count).map(sentinel)).collect()
            }
        }
    }
}

impl Marks {
    /// Those of a tokenizer.
    pub fn of(tokenizer: &Tokenizer) -> Marks {
        let id = |names: &[&str]| names.iter().find_map(|name| tokenizer.id(name));
        let fim = FIM.map(|names| id(&names));
        let size = tokenizer.size();
        let marks = Marks {
            size,
            pad: id(&PAD).unwrap_or(0),
            mask: id(&MASK),
            begin: id(&BEGIN),
            separator: id(&SEPARATOR),
            end: tokenizer.end_of_text(),
            sentinels: (0..SENTINELS).map_while(|n| tokenizer.id(&sentinel(n))).collect(),
            fim: if let [Some(a), Some(b), Some(c)] = fim { Some([a, b, c]) } else { None },
            special: vec![],
            within: vec![],
        };
        let named = [id(&PAD), marks.mask, marks.begin, marks.separator, marks.end, id(&["[UNK]", "<unk>"])];
        let mut special: Vec<i32> = named.into_iter().flatten().chain(marks.sentinels.iter().copied()).chain(fim.into_iter().flatten()).collect();
        special.sort_unstable();
        special.dedup();
        Marks { within: (0..size as i32).map(|id| goes_on(tokenizer, id)).collect(), special, ..marks }
    }

    /// What fills rows up where one looks for it to find where a text ends: a token for that, or what ends a document.
    pub fn filling(&self, end: Option<i32>) -> i32 {
        if self.is_text(self.pad) { end.unwrap_or(self.pad) } else { self.pad }
    }

    /// Whether a token is text.
    pub fn is_text(&self, id: i32) -> bool {
        self.special.binary_search(&id).is_err()
    }

    /// Tokens that are text.
    pub fn texts(&self) -> usize {
        self.size - self.special.len()
    }

    /// The token of a number among those that are text.
    pub fn text(&self, number: usize) -> i32 {
        // each special token up to it moves it one further
        self.special.iter().fold(number as i32, |id, special| if *special <= id { id + 1 } else { id })
    }
}

/// Whether a token goes on with a word: `##` begins one of WordPiece that does; in other vocabularies a letter or digit that no space
/// comes before.
fn goes_on(tokenizer: &Tokenizer, id: i32) -> bool {
    let mut bytes = vec![];
    tokenizer.bytes(id, &mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    match text.strip_prefix("##") {
        Some(_) => true,
        None if tokenizer.id("[CLS]").is_some() && tokenizer.id("[UNK]").is_some() => false,
        None => text.chars().next().is_some_and(|c| c.is_alphanumeric() || c == '\u{FFFD}'),
    }
}
