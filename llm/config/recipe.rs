//! Recipes: configurations with a name, in the program.

use super::{Config, Models};
use crate::error::{Error, Result, hint};

/// A configuration with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// Its name.
    pub name: &'static str,
    /// It, as TOML; the first line is a comment that says what it is for.
    pub text: &'static str,
}

/// Every recipe: the files in `recipes/`, by name.
pub const RECIPES: &[Recipe] = include!(concat!(env!("OUT_DIR"), "/recipes.rs"));

impl Recipe {
    /// What it is for.
    pub fn about(&self) -> &'static str {
        self.text.lines().next().unwrap_or_default().trim_start_matches('#').trim()
    }
}

/// The configuration of a recipe, or of a model with the usual training.
pub fn recipe(name: &str, models: &Models) -> Result<Config> {
    if let Some(recipe) = RECIPES.iter().find(|r| r.name == name) {
        return Config::parse(recipe.text, &format!("recipe {name}"), models);
    }
    let names: Vec<&str> = RECIPES.iter().map(|r| r.name).chain(models.names()).collect();
    let unknown = |_| Error(format!("there is no recipe or model {name}; there are {}{}", names.join(", "), hint(name, &names)));
    models.by_name(name).map(Config::of).map_err(unknown)
}
