//! What people write for a setting, and what it means: near misses are understood, the rest is refused in their words.

use toml::Value;

/// The value of `--set key=value`: TOML, or what is nearly TOML (`.001`, `5.`, `007`, `True`), or else a word.
pub fn read(text: &str) -> Value {
    let text = text.trim();
    let table = format!("x = {text}").parse::<toml::Table>().ok().filter(|t| t.len() == 1);
    if let Some(value) = table.and_then(|mut t| t.remove("x")) {
        return value;
    }
    let plain = text.replace('_', "");
    let number = plain.parse::<i64>().map(Value::Integer).or_else(|_| plain.parse::<f64>().map(Value::Float));
    match text.to_ascii_lowercase().as_str() {
        "true" => Value::Boolean(true),
        "false" => Value::Boolean(false),
        _ => number.unwrap_or_else(|_| Value::String(text.into())),
    }
}

/// A value as the kind of setting that stands there already: a whole number may be written `1e3` or `5.0`, a fraction `1`.
/// The error says what was expected.
pub fn fit(old: &Value, new: Value) -> Result<Value, String> {
    // beyond 2⁵³ not every whole number is one of these
    let whole = |x: f64| x.fract() == 0.0 && x.abs() < 9e15;
    match (old, new) {
        (Value::Integer(_), Value::Float(x)) if whole(x) => Ok(Value::Integer(x as i64)),
        (Value::Float(_), Value::Integer(n)) => Ok(Value::Float(n as f64)),
        (Value::String(_), Value::Integer(_) | Value::Float(_) | Value::Boolean(_)) => Err(kind(old).into()),
        (Value::String(_), Value::Datetime(date)) => Ok(Value::String(date.to_string())),
        (old, new) if old.same_type(&new) => Ok(new),
        (old, _) => Err(kind(old).into()),
    }
}

/// A kind of value in people's words.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::String(_) => "a word",
        Value::Array(_) => "a list",
        Value::Table(_) => "a section",
        Value::Datetime(_) => "a date",
    }
}

/// Where each key of a TOML text stands: the section, the key and the line, in the order of the text. Keys outside any section have "".
pub fn lines(text: &str) -> Vec<(String, String, usize)> {
    let line = |at: usize| 1 + text[..at].matches('\n').count();
    let Ok(table) = toml::de::DeTable::parse(text) else { return vec![] };
    let mut found = vec![];
    for (section, value) in table.get_ref() {
        let name = section.get_ref().to_string();
        match value.get_ref() {
            toml::de::DeValue::Table(keys) => {
                found.extend(keys.keys().map(|k| (name.clone(), k.get_ref().to_string(), line(k.span().start))));
            }
            _ => found.push((String::new(), name, line(section.span().start))),
        }
    }
    found
}

/// What is wrong with a TOML text, with the file and the line.
pub fn syntax_error(text: &str, file: &str, error: &toml::de::Error) -> String {
    let Some(span) = error.span() else { return format!("{file}: {}", error.message()) };
    let at = span.start.min(text.len());
    let start = text[..at].rfind('\n').map_or(0, |i| i + 1);
    let (number, line) = (1 + text[..at].matches('\n').count(), text[start..].lines().next().unwrap_or_default());
    let value = line.split_once('=').map(|(key, value)| (key.trim(), value.split('#').next().unwrap_or_default()));
    // what --set understands has a TOML form: show it
    let attempt = value.map(|(key, value)| format!("{key} = {}", read(value))).filter(|a| a.parse::<toml::Table>().is_ok());
    let attempt = attempt.map_or(String::new(), |a| format!("; try {a}"));
    format!("{file}:{number}: {} in: {}{attempt}", error.message(), line.trim())
}

/// Words of a type that says which there are, as serde has them.
pub mod word {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::fmt::Display;
    use std::str::FromStr;

    pub fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub fn deserialize<'d, T: FromStr<Err = String>, D: Deserializer<'d>>(deserializer: D) -> Result<T, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
