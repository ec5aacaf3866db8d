//! Records in JSON, of which one field is the text. The others are passed over without being kept.

use super::config::ReadConfig;
use super::sink::{Fault, Reason, Sink, TRY_SKIPPING};
use super::source::{Piece, Source};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// Hands the documents of a record a line to the sink.
pub fn read_lines(source: &mut Source, config: &ReadConfig, sink: &mut Sink) -> crate::error::Result<()> {
    let mut line = vec![];
    loop {
        let number = source.line();
        match source.until(b"\n", config.max_document, &mut line)? {
            None => return Ok(()),
            Some(Piece::TooLong) => sink.bad(sink.too_long(sink.place(number)))?,
            Some(Piece::Whole) if line.trim_ascii().is_empty() => {}
            Some(Piece::Whole) => record(number, &line, config, sink)?,
        }
    }
}

/// Hands the documents of a file of records to the sink: a list of them, or one after another, over as many lines as they like.
pub fn read(source: &mut Source, config: &ReadConfig, sink: &mut Sink) -> crate::error::Result<()> {
    let (mut list, mut value) = (None, vec![]);
    loop {
        let at = source.line();
        let Some(first) = next(source)? else { break };
        match first {
            b' ' | b'\t' | b'\r' | b'\n' => source.consume(1)?,
            b',' if list.is_some() => source.consume(1)?,
            b'[' if list.is_none() => {
                list = Some(at);
                source.consume(1)?;
            }
            b']' if list.is_some() => {
                list = None;
                source.consume(1)?;
            }
            _ => match next_value(source, config.max_document, &mut value)? {
                Piece::TooLong => sink.bad(sink.too_long(sink.place(at)))?,
                Piece::Whole => record(at, &value, config, sink)?,
            },
        }
    }
    let Some(line) = list else { return Ok(()) };
    let what = format!("the list that begins here does not end, expected ]; is the file whole? Try {TRY_SKIPPING}");
    sink.bad(Fault { reason: Reason::BadRecord, place: sink.place(line), what, text: String::new() })
}

/// The next byte, which stays.
fn next(source: &mut Source) -> crate::error::Result<Option<u8>> {
    Ok(source.fill()?.first().copied())
}

/// The bytes of a value, whose first is at hand, by its quotes and brackets alone. More than `limit` are passed over.
fn next_value(source: &mut Source, limit: u64, value: &mut Vec<u8>) -> crate::error::Result<Piece> {
    let (mut scan, mut length) = (Scan::default(), 0);
    value.clear();
    loop {
        let bytes = source.fill()?;
        let (n, ends) = scan.over(bytes);
        if (length + n) as u64 <= limit {
            value.extend_from_slice(&bytes[..n]);
        }
        length += n;
        let at_end = bytes.is_empty();
        source.consume(n)?;
        if ends || at_end {
            return Ok(if length as u64 > limit { Piece::TooLong } else { Piece::Whole });
        }
    }
}

/// Where a value ends.
#[derive(Default)]
struct Scan {
    depth: u64,
    in_string: bool,
    escaped: bool,
    begun: bool,
}

impl Scan {
    /// How many bytes are the value's, and whether it ends with them.
    fn over(&mut self, bytes: &[u8]) -> (usize, bool) {
        for (n, byte) in bytes.iter().enumerate() {
            // a number or a word ends before what stands behind it; that alone is a value that is none
            if self.begun && self.depth == 0 && !self.in_string && matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b',' | b']' | b'}') {
                return (n, true);
            }
            self.begun = true;
            if self.step(*byte) {
                return (n + 1, true);
            }
        }
        (bytes.len(), false)
    }

    /// Goes over a byte; whether a string, a list or an object ends with it.
    fn step(&mut self, byte: u8) -> bool {
        if self.in_string {
            let closes = byte == b'"' && !self.escaped;
            self.escaped = byte == b'\\' && !self.escaped;
            self.in_string = !closes;
            return closes && self.depth == 0;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                return self.depth == 0;
            }
            _ => {}
        }
        false
    }
}

/// Hands a record's text to the sink.
pub fn record(line: u64, bytes: &[u8], config: &ReadConfig, sink: &mut Sink) -> crate::error::Result<()> {
    let place = sink.place(line);
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(e) => return sink.bad(sink.bad_encoding(place, line, bytes, &e)),
    };
    let (reason, what) = match field(text, &config.field) {
        Ok(Found::Text(text)) => return sink.document(place, &text),
        Ok(Found::Missing) => (Reason::MissingField, format!("this record has no field '{}', expected a string there; try --field", config.field)),
        Ok(Found::Other(kind)) => (Reason::BadRecord, format!("the field '{}' is {kind}, expected a string; try --field", config.field)),
        Ok(Found::NoRecord(kind)) => (Reason::BadRecord, format!("this is {kind}, expected an object with a field '{}'; try --format", config.field)),
        Err(e) => {
            let why = e.to_string();
            let why = why.split(" at line ").next().unwrap_or(&why);
            (Reason::BadRecord, format!("this is not JSON at its byte {}: {why}, expected an object; try --format text", e.column()))
        }
    };
    let text = text.chars().take(200).collect();
    sink.bad(Fault { reason, place, what: format!("{what}, or {TRY_SKIPPING}"), text })
}

/// What a record has where its text should be.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Text(String),
    Missing,
    Other(&'static str),
    NoRecord(&'static str),
}

/// The field of a name in a record: one of that whole name, or the field in a field that its dots mean; of several strings the first.
fn field(json: &str, name: &str) -> serde_json::Result<Found> {
    let mut reader = serde_json::Deserializer::from_str(json);
    let found = Want::Record(name).deserialize(&mut reader)?;
    reader.end()?;
    Ok(found)
}

/// What is wanted of a value: a field by name, of the record itself or of a field of it, or text.
#[derive(Clone, Copy)]
enum Want<'a> {
    Record(&'a str),
    Field(&'a str),
    Text,
}

impl Want<'_> {
    /// What it means that another kind of value stands there.
    fn other(self, kind: &'static str) -> Found {
        match self {
            Want::Record(_) => Found::NoRecord(kind),
            Want::Field(_) => Found::Missing,
            Want::Text => Found::Other(kind),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Want<'_> {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Found, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Want<'_> {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Found, E> {
        Ok(self.other("true or false"))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Found, E> {
        Ok(self.other("a number"))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Found, E> {
        Ok(self.other("a number"))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Found, E> {
        Ok(self.other("a number"))
    }

    fn visit_unit<E>(self) -> Result<Found, E> {
        Ok(match self {
            Want::Record(_) => Found::NoRecord("null"),
            Want::Field(_) | Want::Text => Found::Missing,
        })
    }

    fn visit_str<E>(self, text: &str) -> Result<Found, E> {
        Ok(match self {
            Want::Text => Found::Text(text.into()),
            Want::Record(_) | Want::Field(_) => self.other("a string"),
        })
    }

    fn visit_string<E>(self, text: String) -> Result<Found, E> {
        Ok(match self {
            Want::Text => Found::Text(text),
            Want::Record(_) | Want::Field(_) => self.other("a string"),
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Found, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(self.other("a list"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found, A::Error> {
        let (Want::Record(name) | Want::Field(name)) = self else {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(self.other("an object"));
        };
        let mut found = Found::Missing;
        while let Some(want) = map.next_key_seed(Key(name))? {
            match want {
                Some(want) if !matches!(found, Found::Text(_)) => found = map.next_value_seed(want)?,
                Some(_) | None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }
}

/// Looks whether a key leads to the field of a name.
struct Key<'a>(&'a str);

impl<'de, 'a> DeserializeSeed<'de> for Key<'a> {
    type Value = Option<Want<'a>>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_str(self)
    }
}

impl<'a> Visitor<'_> for Key<'a> {
    type Value = Option<Want<'a>>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        if key == self.0 {
            return Ok(Some(Want::Text));
        }
        Ok(self.0.strip_prefix(key).and_then(|rest| rest.strip_prefix('.')).map(Want::Field))
    }
}
