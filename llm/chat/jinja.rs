//! Jinja as Hugging Face's libraries run chat templates, in bounds: no template reads a file or a network, runs for long or grows without end.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Value};
use regex::Regex;
use serde::Serialize;
use std::fmt::Write;
use std::sync::LazyLock;

/// Steps, and bytes made, after which a template is given up.
pub const STEPS: u64 = 1 << 24;
/// How deep macros and blocks may stand in each other.
pub const DEPTH: usize = 128;
/// The most bytes of a text that a template makes.
pub const BYTES: usize = 1 << 24;

/// What stands where a trained part begins and ends: characters that are none, of which no text has one.
pub const BEGINS: char = '\u{FDD0}';
/// See [`BEGINS`].
pub const ENDS: char = '\u{FDD1}';
/// What stands in an answer's place while it is looked for.
pub const LOOKED_FOR: &str = "\u{FDD2}x\u{FDD2}";

/// A template that was read.
pub struct Jinja {
    env: Environment<'static>,
    /// Whether it says itself what is trained.
    pub marks: bool,
}

const NAME: &str = "chat_template";

impl Jinja {
    /// Reads a template; `date` is what it takes for today, a year, a month and a day. The error says where it is wrong.
    pub fn parse(source: &str, date: [u16; 3]) -> Result<Jinja, String> {
        static MARK: LazyLock<Regex> =
            LazyLock::new(|| Regex::new(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}").expect("the expression is well-formed"));
        let marks = MARK.is_match(source);
        // a block that prints one character, so that spaces around it are taken away as they are around the block it stands for
        let replaced = MARK.replace_all(source, |c: &regex::Captures| {
            let mark = if c.get(2).is_some() { ENDS } else { BEGINS };
            format!("{{%{} if true %}}{{{{ '{mark}' }}}}{{% endif {}%}}", &c[1], &c[3])
        });
        let mut env = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().expect("the usual marks are no two alike");
        env.set_syntax(syntax);
        env.set_fuel(Some(STEPS));
        env.set_recursion_limit(DEPTH);
        env.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        env.add_filter("tojson", tojson);
        env.add_function("raise_exception", |why: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, format!("{REFUSES}{why}")))
        });
        env.add_function("strftime_now", move |format: String| strftime(&format, date));
        env.add_template_owned(NAME, replaced.into_owned()).map_err(|e| said(&e))?;
        Ok(Jinja { env, marks })
    }

    /// The text of some values.
    pub fn render(&self, values: &impl Serialize) -> Result<String, String> {
        let template = self.env.get_template(NAME).map_err(|e| said(&e))?;
        let mut out = Bounded(vec![]);
        match template.render_captured_to(Serde(values), &mut out) {
            _ if out.0.len() > BYTES => {
                Err(format!("its text has more than {BYTES} bytes, the limit of a conversation's: it repeats something without end"))
            }
            Ok(_) => String::from_utf8(out.0).map_err(|e| e.to_string()),
            Err(e) => Err(said(&e)),
        }
    }
}

/// Bytes up to the limit, and one more.
struct Bounded(Vec<u8>);

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let room = (BYTES + 1).saturating_sub(self.0.len());
        self.0.extend(&bytes[..bytes.len().min(room)]);
        if bytes.len() > room { Err(std::io::Error::other("the limit of bytes")) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Before what a template says that refuses a conversation.
const REFUSES: &str = "it refuses the conversation: ";

/// What is wrong, with the line.
fn said(e: &Error) -> String {
    let line = e.line().map_or(String::new(), |line| format!("line {line}: "));
    let detail = e.detail().unwrap_or_default();
    let cause = std::error::Error::source(e).map_or(String::new(), |c| format!(": {c}"));
    match e.kind() {
        ErrorKind::OutOfFuel => {
            format!("{line}it took more than {STEPS} steps, the limit of a conversation's: it loops, or makes a value that grows")
        }
        _ if detail.starts_with(REFUSES) => format!("{line}{detail}"),
        _ if detail.contains("recursion limit") => {
            format!("{line}it stands more than {DEPTH} deep in itself, the limit of macros and blocks: it calls itself without end")
        }
        kind if detail.is_empty() => format!("{line}{kind}{cause}"),
        kind => format!("{line}{kind}: {detail}{cause}"),
    }
}

/// JSON as Python's `json.dumps` writes it, which is what transformers gives templates.
fn tojson(value: Value, indent: Option<usize>, kwargs: Kwargs) -> Result<Value, Error> {
    let indent = kwargs.get::<Option<usize>>("indent")?.or(indent);
    let flag = |name: &str| Ok::<_, Error>(kwargs.get::<Option<bool>>(name)?.unwrap_or(false));
    let (ascii, sorted) = (flag("ensure_ascii")?, flag("sort_keys")?);
    let separators: Option<Vec<String>> = kwargs.get("separators")?;
    kwargs.assert_all_used()?;
    let comma = if indent.is_some() { "," } else { ", " };
    let [comma, colon] = match separators.as_deref() {
        Some([comma, colon]) => [comma.clone(), colon.clone()],
        _ => [comma.to_string(), ": ".to_string()],
    };
    let mut out = String::new();
    Style { indent: indent.map(|n| n.min(64)), comma, colon, ascii, sorted }.write(&value, 0, &mut out)?;
    Ok(Value::from(out))
}

/// How JSON is written.
struct Style {
    indent: Option<usize>,
    comma: String,
    colon: String,
    ascii: bool,
    sorted: bool,
}

impl Style {
    fn write(&self, value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
        if depth > DEPTH {
            return Err(Error::new(ErrorKind::BadSerialization, format!("a value has more than {DEPTH} lists in lists")));
        }
        let parts = match value.kind() {
            ValueKind::String => {
                self.text(value.as_str().unwrap_or_default(), out);
                return Ok(());
            }
            ValueKind::Map => {
                let pair = |key: Value| Ok((Some(key.to_string()), value.get_item(&key)?));
                let mut parts = value.try_iter()?.map(pair).collect::<Result<Vec<_>, Error>>()?;
                if self.sorted {
                    parts.sort_by(|a, b| a.0.cmp(&b.0));
                }
                parts
            }
            ValueKind::Seq | ValueKind::Iterable => value.try_iter()?.map(|v| (None, v)).collect(),
            _ => {
                let plain = serde_json::to_value(value).map_err(|e| Error::new(ErrorKind::BadSerialization, e.to_string()))?;
                out.push_str(&plain.to_string());
                return Ok(());
            }
        };
        let brackets = if value.kind() == ValueKind::Map { ['{', '}'] } else { ['[', ']'] };
        self.inner(brackets, &parts, depth, out)
    }

    fn inner(&self, [open, close]: [char; 2], parts: &[(Option<String>, Value)], depth: usize, out: &mut String) -> Result<(), Error> {
        let line = |depth: usize, out: &mut String| {
            if let Some(indent) = self.indent.filter(|_| !parts.is_empty()) {
                out.push('\n');
                out.push_str(&" ".repeat(indent * depth));
            }
        };
        out.push(open);
        for (i, (key, value)) in parts.iter().enumerate() {
            if i > 0 {
                out.push_str(&self.comma);
            }
            line(depth + 1, out);
            if let Some(key) = key {
                self.text(key, out);
                out.push_str(&self.colon);
            }
            self.write(value, depth + 1, out)?;
        }
        line(depth, out);
        out.push(close);
        Ok(())
    }

    fn text(&self, s: &str, out: &mut String) {
        let quoted = serde_json::Value::from(s).to_string();
        for c in quoted.chars() {
            if self.ascii && !c.is_ascii() {
                c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| write!(out, "\\u{unit:04x}").expect("a string takes all"));
            } else if c == '\u{7f}' && self.ascii {
                out.push_str("\\u007f");
            } else {
                out.push(c);
            }
        }
    }
}

const MONTHS: [&str; 12] = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// A date as `strftime` writes it, at midnight; a sign it does not know stays.
fn strftime(format: &str, [year, month, day]: [u16; 3]) -> String {
    let (y, m, d) = (usize::from(year), usize::from(month), usize::from(day));
    // Sakamoto's method
    let shifted = y - usize::from(m < 3);
    let weekday = (shifted + shifted / 4 - shifted / 100 + shifted / 400 + [0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4][m - 1] + d) % 7;
    let mut out = String::new();
    let mut signs = format.chars();
    while let Some(c) = signs.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let sign = signs.next();
        let text = match sign {
            Some('Y') => format!("{y:04}"),
            Some('y') => format!("{:02}", y % 100),
            Some('m') => format!("{m:02}"),
            Some('d') => format!("{d:02}"),
            Some('B') => MONTHS[m - 1].into(),
            Some('b' | 'h') => MONTHS[m - 1][..3].into(),
            Some('A') => DAYS[weekday].into(),
            Some('a') => DAYS[weekday][..3].into(),
            Some('F') => format!("{y:04}-{m:02}-{d:02}"),
            Some('H' | 'M' | 'S') => "00".into(),
            Some('T') => "00:00:00".into(),
            Some('%') => "%".into(),
            Some(other) => format!("%{other}"),
            None => "%".into(),
        };
        out.push_str(&text);
    }
    out
}

/// A date as people write it: a year, a month and a day, as 2024-07-26.
pub fn date(text: &str) -> Result<[u16; 3], String> {
    let wrong = || format!("{text:?} is no date: expected a year, a month and a day, as in 2024-07-26");
    let parts: Vec<u16> = text.split('-').map(|p| p.parse().map_err(|_| wrong())).collect::<Result<_, String>>()?;
    match parts[..] {
        [y @ 1..=9999, m @ 1..=12, d @ 1..=31] => Ok([y, m, d]),
        _ => Err(wrong()),
    }
}

/// Why a text is no date, if it is none.
pub fn valid_date(text: &str) -> Result<(), String> {
    date(text).map(|_| ())
}
