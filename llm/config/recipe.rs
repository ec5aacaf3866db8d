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

/// The configuration of a recipe.
pub fn recipe(name: &str, models: &Models) -> Result<Config> {
    let Some(recipe) = RECIPES.iter().find(|r| r.name == name) else {
        let names: Vec<&str> = RECIPES.iter().map(|r| r.name).collect();
        return Err(Error(format!("there is no recipe {name}; there are {}{}", names.join(", "), hint(name, &names))));
    };
    Config::parse(recipe.text, &format!("recipe {name}"), models)
}
