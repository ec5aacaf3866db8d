//! Changes of a stage's settings, as people write them.

use crate::config::settings::{fit, read};
use crate::error::{Error, Result, hint};
use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::Table;

/// The same settings with one changed: `key=value`, or `section.key=value`. Ranges are not checked yet.
pub fn set<C: Serialize + DeserializeOwned>(section: &str, config: &C, assignment: &str) -> Result<C> {
    let fail = |why: String| Error(format!("--set {assignment}: {why}"));
    let (path, value) = assignment.split_once('=').ok_or_else(|| fail(format!("expected key=value, as in {section}.key=1")))?;
    let key = path.trim().strip_prefix(section).and_then(|k| k.strip_prefix('.')).unwrap_or(path.trim());
    let mut keys = Table::try_from(config).expect("settings have a TOML form");
    let known: Vec<&str> = keys.keys().map(String::as_str).collect();
    let Some(old) = keys.get(key) else { return Err(fail(format!("there is no setting {section}.{key}{}", hint(key, &known)))) };
    let new = read(value);
    let shown = new.to_string();
    let new = fit(old, new).map_err(|e| fail(format!("{section}.{key} is {shown}, expected {e}, as in {key} = {old}")))?;
    keys.insert(key.into(), new);
    keys.try_into().map_err(|e: toml::de::Error| fail(format!("{section}.{key}: {}", e.message())))
}
