//! Subword tokenizers: words against the regular expressions they are, ids against the `tokenizers` crate and files in use.

use crate::common::{Random, required};
use llm::text::{Algorithm, Learning, Specials, Split, Splitter, Subword, WordCounts};
use llm::{Kind, Tokenizer};
use std::path::{Path, PathBuf};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

/// Text of this project's samples; where they are absent the tests that need them are skipped.
pub fn sample(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(name);
    if path.exists() {
        return Some(path);
    }
    required("data", &format!("there is no {name} beside this project"));
    None
}

/// Characters that splitting looks at, and some that it does not.
const CHARACTERS: &[char] = &[
    'a',
    'b',
    'S',
    's',
    'T',
    'é',
    'É',
    'ſ',
    'ǅ',
    'ʰ',
    '中',
    'ª',
    '\u{301}',
    '\u{93F}',
    '1',
    '2',
    '9',
    '½',
    'Ⅷ',
    '٣',
    ' ',
    ' ',
    ' ',
    '\n',
    '\n',
    '\r',
    '\t',
    '\u{A0}',
    '\u{2028}',
    '\u{85}',
    '\u{200B}',
    '\'',
    '\'',
    '/',
    '.',
    ',',
    '!',
    '#',
    '_',
    '<',
    '|',
    '>',
    '🥚',
    '\u{1F468}',
    '\u{200D}',
    '\0',
    '\u{FEFF}',
    'l',
    'L',
    'v',
    'e',
    'r',
    'd',
    'm',
];

pub fn random_text(random: &mut Random, length: usize) -> String {
    (0..length).map(|_| if random.below(40) == 0 { any(random) } else { CHARACTERS[random.below(CHARACTERS.len())] }).collect()
}

fn any(random: &mut Random) -> char {
    char::from_u32(random.bits() % 0x11_0000).unwrap_or('\u{FFFD}')
}

#[test]
fn words_are_the_matches_of_their_expression() {
    let mut random = Random(1);
    for split in Split::ALL.iter().copied().filter(|s| s.pattern().is_some()) {
        let regex = fancy_regex::Regex::new(split.pattern().unwrap()).unwrap();
        for round in 0..3000 {
            let n = random.below(if round % 100 == 0 { 300 } else { 12 });
            let text = random_text(&mut random, n);
            let want: Vec<&str> = regex.find_iter(&text).map(|m| m.unwrap().as_str()).collect();
            assert_eq!(split.words(&text).collect::<Vec<_>>(), want, "{split}: {text:?}");
        }
    }
    assert_eq!(Split::None.words("a b").collect::<Vec<_>>(), ["a b"]);
    assert_eq!(Split::Gpt2Digits.words("in 2024's  x").collect::<Vec<_>>(), ["in", " ", "2", "0", "2", "4", "'s", " ", " x"]);
    assert_eq!(Split::Gpt2.words("").count(), 0);
}

#[test]
fn expressions_of_other_projects_are_known() {
    for split in Split::ALL.iter().copied() {
        if let Some(pattern) = split.pattern() {
            assert_eq!(Split::of_pattern(pattern), Some(split));
        }
    }
    let tiktoken = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s";
    assert_eq!(Split::of_pattern(tiktoken), Some(Split::Gpt4));
    // and mean the same
    let (ours, theirs) = (fancy_regex::Regex::new(Split::Gpt4.pattern().unwrap()).unwrap(), fancy_regex::Regex::new(tiktoken).unwrap());
    let mut random = Random(2);
    for _ in 0..2000 {
        let text = random_text(&mut random, 10);
        let of = |r: &fancy_regex::Regex| r.find_iter(&text).map(|m| m.unwrap().range()).collect::<Vec<_>>();
        assert_eq!(of(&ours), of(&theirs), "{text:?}");
    }
    assert_eq!(Split::of_pattern(r"\w+"), None);
}

#[test]
fn a_cut_changes_no_word() {
    let mut random = Random(3);
    let mut cuts = 0;
    for split in Split::ALL.iter().copied() {
        for _ in 0..2000 {
            let text = random_text(&mut random, 30).replace(' ', if random.below(2) == 0 { " " } else { " a" });
            let limit = random.below(text.len() + 2);
            let Some(at) = split.cut(&text, limit) else { continue };
            assert!(at > 0 && at <= limit && at < text.len());
            let whole: Vec<&str> = split.words(&text).collect();
            let parts: Vec<&str> = split.words(&text[..at]).chain(split.words(&text[at..])).collect();
            assert_eq!(parts, whole, "{split}: {text:?} at {at}");
            cuts += 1;
        }
    }
    let all = |splitter: Splitter, text: &str| {
        let mut words = vec![];
        splitter.words(text, &mut |w| words.push(w.to_string()));
        words
    };
    for splitter in [Splitter::Bert { lowercase: true }, Splitter::Metaspace] {
        for _ in 0..2000 {
            let text = random_text(&mut random, 30).replace(' ', if random.below(2) == 0 { " " } else { " a" });
            let Some(at) = splitter.cut(&text, random.below(text.len() + 2)) else { continue };
            let parts = [all(splitter, &text[..at]), all(splitter, &text[at..])].concat();
            assert_eq!(parts, all(splitter, &text), "{splitter:?}: {text:?} at {at}");
            cuts += 1;
        }
    }
    assert!(cuts > 1500, "{cuts}");
    assert_eq!(Split::None.cut("a b c", 4), None);
    assert_eq!(Split::Gpt2.cut("one two three", 12), Some(7));
}

/// A vocabulary of a text, learned here.
fn learned(learning: &Learning, text: &str) -> Subword {
    let mut counts = WordCounts::new(learning.splitter(), 2, usize::MAX);
    counts.add(text).unwrap();
    learning.learn(&counts.finish().unwrap(), &mut |_| true).unwrap()
}

/// The crate's tokenizer of a file.
fn reference(json: &str) -> tokenizers::Tokenizer {
    tokenizers::Tokenizer::from_bytes(json).unwrap()
}

const TEXT: &str = llm::OWN_TEXT;

/// What the crate learns from the same text.
fn their_merges(text: &str, split: Split, vocabulary: usize, least: u64) -> Vec<(String, String)> {
    let mut tokenizer = tokenizers::Tokenizer::new(BPE::default());
    match split.pattern().filter(|_| split != Split::Gpt2) {
        None => drop(tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)))),
        Some(pattern) => {
            let split = tokenizers::pre_tokenizers::split::Split::new(
                tokenizers::pre_tokenizers::split::SplitPattern::Regex(pattern.into()),
                tokenizers::SplitDelimiterBehavior::Isolated,
                false,
            );
            let bytes = ByteLevel::new(false, true, false);
            let all = vec![split.unwrap().into(), bytes.into()];
            tokenizer.with_pre_tokenizer(Some(tokenizers::pre_tokenizers::sequence::Sequence::new(all)));
        }
    }
    let mut trainer: tokenizers::models::TrainerWrapper = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(vocabulary)
        .min_frequency(least)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build()
        .into();
    tokenizer.train(&mut trainer, std::iter::once(text)).unwrap();
    let json: serde_json::Value = serde_json::from_str(&tokenizer.to_string(false).unwrap()).unwrap();
    serde_json::from_value(json["model"]["merges"].clone()).unwrap()
}

#[test]
fn learning_is_that_of_the_crate() {
    let mut random = Random(4);
    let noise = random_text(&mut random, 20_000);
    for (text, split, vocabulary, least) in [
        (TEXT, Split::Gpt2, 1500, 2),
        (TEXT, Split::Gpt4o, 900, 1),
        (&noise, Split::Gpt4, 700, 0),
        ("", Split::Gpt2, 300, 0),
        ("ab ab", Split::Gpt2, 300, 0),
    ] {
        if text.is_empty() {
            continue;
        }
        let ours = learned(&Learning { vocabulary: vocabulary + 1, split, least, ..Learning::default() }, text);
        let json: serde_json::Value = serde_json::from_str(ours.json()).unwrap();
        let merges: Vec<(String, String)> = serde_json::from_value(json["model"]["merges"].clone()).unwrap();
        assert_eq!(merges, their_merges(text, split, vocabulary, least), "{split}");
        assert!(merges.len() > 1 && merges.len() <= vocabulary - 256);
    }
}

#[test]
fn ids_are_those_of_the_crate() {
    let mut random = Random(5);
    for split in [Split::Gpt2, Split::Gpt2Digits, Split::Gpt4, Split::Llama3, Split::Qwen2, Split::Gpt4o, Split::None] {
        let ours = learned(&Learning { vocabulary: 1000, split, specials: vec!["<|user|>".into()], ..Learning::default() }, &TEXT[..40_000]);
        let theirs = reference(ours.json());
        let mut plain = reference(ours.json());
        plain.set_encode_special_tokens(true);
        for round in 0..400 {
            let n = random.below(if round % 50 == 0 { 3000 } else { 30 });
            let mut text = random_text(&mut random, n);
            if round % 3 == 0 {
                text = format!("{text}<|endoftext|>{text}<|user|><|us");
            }
            let want = theirs.encode_fast(text.as_str(), false).unwrap();
            assert_eq!(ours.encode(&text, Specials::Token).unwrap(), want.get_ids(), "{split}: {text:?}");
            let want = plain.encode_fast(text.as_str(), false).unwrap();
            assert_eq!(ours.encode(&text, Specials::Text).unwrap(), want.get_ids(), "{split}: {text:?}");
            let tokenizer = Tokenizer::parse(ours.json()).unwrap();
            let ids = tokenizer.encode_with(&text, Specials::Token).unwrap();
            assert_eq!(tokenizer.decode(&ids), text);
            assert_eq!(tokenizer.encode_in(&text.repeat(40), Specials::Text, 3).unwrap(), tokenizer.encode(&text.repeat(40)).unwrap());
        }
    }
}

/// A word of a megabyte is merged in time.
#[test]
fn long_words_are_merged_as_short_ones() {
    let subword = learned(&Learning { vocabulary: 600, split: Split::None, ..Learning::default() }, &TEXT[..20_000]);
    let mut random = Random(6);
    let theirs = reference(subword.json());
    for n in [63, 64, 65, 66, 200, 5000] {
        let text: String = (0..n).map(|_| TEXT.as_bytes()[random.below(20_000)] as char).collect();
        assert_eq!(subword.encode(&text, Specials::Text).unwrap(), theirs.encode_fast(text.as_str(), false).unwrap().get_ids());
    }
    assert!(subword.encode(&"ab ".repeat(350_000), Specials::Text).unwrap().len() < 1_050_000);
}

/// minbpe's example from Wikipedia.
#[test]
fn three_merges_of_aaabdaaabac() {
    use llm::text::{Alphabet, Ties, learn_merges};
    let tokens = (0..=255u8).map(|b| vec![b]).collect();
    let word = b"aaabdaaabac".iter().map(|b| u32::from(*b)).collect();
    let learned = learn_merges([(word, 1)].into_iter(), Alphabet { tokens, join: &|a, b| [a, b].concat(), ties: Ties::First }, 259, 1, &mut |_| true);
    let mut ids: Vec<u32> = b"aaabdaaabac".iter().map(|b| u32::from(*b)).collect();
    for (pair, id) in learned.pairs {
        let mut at = 0;
        while at + 1 < ids.len() {
            if (ids[at], ids[at + 1]) == pair {
                ids.splice(at..at + 2, [id]);
            }
            at += 1;
        }
    }
    assert_eq!(ids, [258, 100, 258, 97, 99]);
    assert_eq!(learned.counts, [4, 2, 2]);
}

#[test]
fn counts_in_little_memory_are_the_same() {
    let mut random = Random(7);
    let text = random_text(&mut random, 60_000) + TEXT;
    let count = |threads: usize, memory: usize, splitter: Splitter| {
        let mut counts = WordCounts::new(splitter, threads, memory);
        let half = splitter.cut(&text, text.len() / 2).unwrap();
        counts.add(&text[..half]).unwrap();
        counts.add(&text[half..]).unwrap();
        counts.finish().unwrap()
    };
    for splitter in [Splitter::Bytes(Split::Gpt2), Splitter::Bert { lowercase: true }, Splitter::Metaspace] {
        let all = count(1, usize::MAX, splitter);
        assert_eq!(all.least, 1);
        assert_eq!(count(3, usize::MAX, splitter), all);
        // room for all in the end, but not on the way
        let spilled = count(2, 1_500_000, splitter);
        assert_eq!(spilled.words, all.words);
        let few = count(2, 60_000, splitter);
        assert!(few.least > 1 && few.words.len() < all.words.len());
        assert_eq!(few.words, all.words.into_iter().filter(|w| w.1 >= few.least).collect::<Vec<_>>());
    }
}

#[test]
fn bert_word_pieces() {
    let vocabulary = ["[UNK]", "[CLS]", "[SEP]", "want", "##want", "##ed", "wa", "un", "runn", "##ing"];
    let vocab: serde_json::Value =
        vocabulary.iter().enumerate().map(|(i, t)| (t.to_string(), serde_json::json!(i))).collect::<serde_json::Map<_, _>>().into();
    let json = serde_json::json!({"added_tokens": [], "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"}, "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true}, "post_processor": null,
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": vocab}});
    let tokenizer = Tokenizer::parse(&json.to_string()).unwrap();
    let words = |text: &str| tokenizer.encode(text).unwrap().iter().map(|id| vocabulary[*id as usize]).collect::<Vec<_>>();
    assert_eq!(words("unwanted running"), ["un", "##want", "##ed", "runn", "##ing"]);
    assert_eq!(words("unwantedX running"), ["[UNK]", "runn", "##ing"]);
    assert_eq!(tokenizer.decode(&tokenizer.encode("unwanted running").unwrap()), "unwanted running");
    let mut decoder = llm::Decoder::new(&tokenizer);
    let pieces: String = tokenizer.encode("Unwanted running").unwrap().iter().map(|id| decoder.push(*id)).collect();
    assert_eq!(pieces + &decoder.finish(), "unwanted running");
}

/// WordPiece and Unigram are learned, open in the crate, and are the same whatever the threads.
#[test]
fn other_kinds_are_learned() {
    let text = &TEXT[..60_000];
    for (algorithm, kind) in [(Algorithm::WordPiece, Kind::WordPiece), (Algorithm::Unigram, Kind::Unigram)] {
        let learning = Learning { algorithm, vocabulary: 500, ..Learning::default() };
        let subword = learned(&learning, text);
        assert!((300..=500).contains(&subword.size()), "{algorithm}: {}", subword.size());
        assert_eq!(learned(&learning, text), subword, "{algorithm} twice");
        let theirs = reference(subword.json());
        let sentence = "let mut value = graph.inputs.len();";
        let ids = subword.encode(sentence, Specials::Token).unwrap();
        assert_eq!(ids, theirs.encode_fast(sentence, false).unwrap().get_ids());
        let tokenizer = Tokenizer::learned(kind, &learning, text).unwrap();
        let ids = tokenizer.encode(sentence).unwrap();
        let mut decoder = llm::Decoder::new(&tokenizer);
        let streamed: String = ids.iter().map(|id| decoder.push(*id)).collect();
        assert_eq!(streamed + &decoder.finish(), tokenizer.decode(&ids), "{algorithm}");
    }
}

/// What the crate's trainer of WordPiece has for the same text.
#[test]
fn word_pieces_are_learned_as_the_crate_learns_them() {
    use tokenizers::models::wordpiece::{WordPiece, WordPieceTrainer};
    let text = &TEXT[..60_000];
    let ours = learned(&Learning { algorithm: Algorithm::WordPiece, vocabulary: 700, ..Learning::default() }, text);
    let mut theirs = tokenizers::Tokenizer::new(WordPiece::default());
    theirs.with_normalizer(Some(tokenizers::normalizers::BertNormalizer::default())).unwrap();
    theirs.with_pre_tokenizer(Some(tokenizers::pre_tokenizers::bert::BertPreTokenizer));
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(|s| tokenizers::AddedToken::from(s, true)).to_vec();
    let trainer = WordPieceTrainer::builder().show_progress(false).vocab_size(700).min_frequency(2).special_tokens(special).build();
    let mut trainer: tokenizers::models::TrainerWrapper = trainer.into();
    theirs.train(&mut trainer, std::iter::once(text)).unwrap();
    let vocabulary = |json: &str| -> std::collections::BTreeSet<String> {
        let json: serde_json::Value = serde_json::from_str(json).unwrap();
        json["model"]["vocab"].as_object().unwrap().keys().cloned().collect()
    };
    let (ours, theirs) = (vocabulary(ours.json()), vocabulary(&theirs.to_string(false).unwrap()));
    let missing = theirs.difference(&ours).count();
    // characters are numbered otherwise there, so that pairs met equally often come in another order
    assert!(missing * 20 < theirs.len(), "{missing} of {} are not ours", theirs.len());
}

#[test]
fn gpt2s_own_files() {
    let Some(folder) = sample("gpt2") else { return };
    let gpt2 = Tokenizer::open(&folder.join("encoder.json"), None).unwrap();
    assert_eq!(gpt2.size(), 50257);
    let ids = |text: &str| gpt2.encode_with(text, Specials::Token).unwrap();
    assert_eq!(ids("hello world"), [31373, 995]);
    assert_eq!(ids("hello <|endoftext|>"), [31373, 220, 50256]);
    assert_ne!(gpt2.encode("hello <|endoftext|>").unwrap(), ids("hello <|endoftext|>"));
    assert_eq!(gpt2.end_of_text(), Some(50256));
    let zeros: [&[i32]; 17] = [
        &[15],
        &[405],
        &[830],
        &[2388],
        &[20483],
        &[10535],
        &[24598],
        &[8269],
        &[10535, 830],
        &[8269, 405],
        &[8269, 830],
        &[8269, 2388],
        &[8269, 20483],
        &[8269, 10535],
        &[8269, 24598],
        &[25645],
        &[8269, 10535, 830],
    ];
    for (n, want) in zeros.iter().enumerate() {
        assert_eq!(ids(&"0".repeat(n + 1)), *want, "{} zeros", n + 1);
    }
    let verdict = std::fs::read_to_string(folder.join("../the-verdict.txt")).unwrap();
    assert_eq!((verdict.chars().count(), ids(&verdict).len()), (20_479, 5_145));
    let shakespeare = std::fs::read_to_string(folder.join("../tinyshakespeare.txt")).unwrap();
    let (train, rest) = shakespeare.split_at(1_003_854);
    assert_eq!((shakespeare.len(), ids(train).len(), ids(rest).len()), (1_115_394, 301_966, 36_059));
    // what is written of it is what it was
    let again = Tokenizer::parse(&gpt2.to_json()).unwrap();
    assert_eq!(again.encode(&verdict).unwrap(), gpt2.encode(&verdict).unwrap());
    let theirs = reference(&gpt2.to_json());
    let mut random = Random(8);
    for _ in 0..500 {
        let text = random_text(&mut random, 40);
        let want: Vec<i32> = theirs.encode_fast(text.as_str(), false).unwrap().get_ids().iter().map(|i| *i as i32).collect();
        assert_eq!(ids(&text), want, "{text:?}");
        assert_eq!(gpt2.decode(&want), text);
    }
}

/// As good as what the crate's trainer makes of the same text.
#[test]
fn unigram_pieces_are_as_likely_as_the_crates() {
    use tokenizers::models::unigram::{Unigram, UnigramTrainer};
    use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
    let text = &TEXT[..60_000];
    let ours = learned(&Learning { algorithm: Algorithm::Unigram, vocabulary: 800, ..Learning::default() }, text);
    let mut theirs = tokenizers::Tokenizer::new(Unigram::default());
    theirs.with_pre_tokenizer(Some(Metaspace::new('▁', PrependScheme::Always, true)));
    let special = ["<unk>", "<s>", "</s>"].map(|s| tokenizers::AddedToken::from(s, true)).to_vec();
    let trainer = UnigramTrainer::builder().show_progress(false).vocab_size(800).special_tokens(special).unk_token(Some("<unk>".into())).build();
    let mut trainer: tokenizers::models::TrainerWrapper = trainer.unwrap().into();
    theirs.train(&mut trainer, std::iter::once(text)).unwrap();
    let (have, want) = (ours.encode(text, Specials::Text).unwrap().len(), theirs.encode_fast(text, false).unwrap().len());
    assert!((0.9..1.02).contains(&(have as f64 / want as f64)), "{have} tokens, and {want} by theirs");
}

#[test]
fn of_equal_pairs_the_first_or_the_lower() {
    use llm::text::{Alphabet, Ties, learn_merges};
    let even = |ties: Ties| {
        let tokens = (0..=255u8).map(|b| vec![b]).collect();
        let words = ["zy", "ab", "ay"].map(|w| (w.bytes().map(u32::from).collect(), 1));
        learn_merges(words.into_iter(), Alphabet { tokens, join: &|a, b| [a, b].concat(), ties }, 258, 1, &mut |_| true).pairs
    };
    let (a, b, y, z) = (97, 98, 121, 122);
    assert_eq!(even(Ties::LowerIds), [((a, b), 256), ((a, y), 257)]);
    assert_eq!(even(Ties::First), [((z, y), 256), ((a, b), 257)]);
}

/// The book's byte-pair encoding of the-verdict to 1,000 tokens: characters, a mark for a space before a word, ties by what stands first. Its
/// encoder merges from left to right whatever the rank, again and again, so that is done here.
#[test]
fn the_books_tokens_of_the_verdict() {
    use llm::text::{Alphabet, Ties, learn_merges};
    let Some(path) = sample("the-verdict.txt") else { return };
    let text = std::fs::read_to_string(path).unwrap();
    let mut tokens: Vec<Vec<u8>> = (0..256u32).map(|c| char::from_u32(c).unwrap().to_string().into_bytes()).collect();
    tokens.extend(["Ġ", "<|endoftext|>"].map(|t| t.as_bytes().to_vec()));
    let ids = |word: &str| -> Vec<u32> { word.chars().map(|c| if c == 'Ġ' { 256 } else { c as u32 }).collect() };
    let mut counted: Vec<(String, u64)> = vec![];
    for (number, line) in text.split('\n').enumerate() {
        let words = line.split_whitespace().enumerate().map(|(i, w)| if i == 0 { w.to_string() } else { format!("Ġ{w}") });
        for word in (number > 0).then(|| "\n".to_string()).into_iter().chain(words) {
            match counted.iter_mut().find(|c| c.0 == word) {
                Some(c) => c.1 += 1,
                None => counted.push((word, 1)),
            }
        }
    }
    let words = counted.iter().map(|(w, n)| (ids(w), *n));
    let learned = learn_merges(words, Alphabet { tokens, join: &|a, b| [a, b].concat(), ties: Ties::First }, 1000, 1, &mut |_| true);
    assert_eq!(learned.pairs.len(), 742);
    let merges: std::collections::HashMap<(u32, u32), u32> = learned.pairs.into_iter().collect();
    // a word that is a token is it at once
    let whole = |word: &str| learned.tokens.iter().position(|t| t == word.as_bytes()).map(|id| vec![id as u32]);
    let mut all = vec![];
    for word in ["Jack", "Ġembraced", "Ġbeauty", "Ġthrough", "Ġart", "Ġand", "Ġlife."] {
        let mut word = whole(word).unwrap_or_else(|| ids(word));
        loop {
            let (mut next, mut at) = (vec![], 0);
            while at < word.len() {
                let merged = word.get(at + 1).and_then(|b| merges.get(&(word[at], *b)));
                next.push(*merged.unwrap_or(&word[at]));
                at += if merged.is_some() { 2 } else { 1 };
            }
            if next.len() == word.len() {
                break;
            }
            word = next;
        }
        all.extend(word);
    }
    assert_eq!(all, [74, 361, 310, 109, 98, 420, 397, 100, 300, 428, 116, 121, 519, 699, 299, 808, 534]);
}

#[test]
fn a_vocabulary_grows_at_its_end() {
    for (algorithm, known) in [(Algorithm::Bpe, "<|endoftext|>"), (Algorithm::WordPiece, "[SEP]"), (Algorithm::Unigram, "</s>")] {
        let before = learned(&Learning { algorithm, vocabulary: 500, ..Learning::default() }, &TEXT[..30_000]);
        let more = ["<|user|>", known, "<|end|>", "<|user|>"].map(String::from);
        let after = before.with_specials(&more).unwrap();
        assert_eq!(after.size(), before.size() + 2, "{algorithm}");
        let text = "let x = <|user|>let y<|end|>";
        let ids = after.encode(text, Specials::Token).unwrap();
        let n = before.size() as u32;
        assert!(ids.contains(&n) && ids.last() == Some(&(n + 1)), "{ids:?}");
        assert_eq!(after.encode("let y = graph;", Specials::Token).unwrap(), before.encode("let y = graph;", Specials::Token).unwrap());
        assert_eq!(reference(after.json()).encode_fast(text, false).unwrap().get_ids(), ids);
        assert!(before.with_specials(&[" ".into()]).is_err());
    }
}
