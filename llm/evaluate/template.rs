//! Templates and expressions of tasks, as lm-evaluation-harness has them: Jinja with methods of Python's strings.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Error, ErrorKind, State, UndefinedBehavior, Value};
use regex::Regex;
use serde_json::Value as Json;
use std::sync::LazyLock;

/// Steps after which a template is given up.
const STEPS: u64 = 1 << 20;

/// What runs templates.
pub struct Templates(Environment<'static>);

impl Default for Templates {
    fn default() -> Templates {
        let mut env = Environment::new();
        env.set_undefined_behavior(UndefinedBehavior::Strict);
        env.set_syntax(SyntaxConfig::builder().keep_trailing_newline(true).build().expect("the usual marks are no two alike"));
        env.set_fuel(Some(STEPS));
        env.set_unknown_method_callback(method);
        env.add_filter("wikihow", |text: String| wikihow(&text));
        env.add_filter("before", |text: String, mark: String| text.split_once(&mark).map_or(text.clone(), |(before, _)| before.into()));
        env.add_filter("after", |text: String, mark: String| text.split_once(&mark).map_or(String::new(), |(_, after)| after.into()));
        Templates(env)
    }
}

impl Templates {
    /// A template with a document's fields.
    pub fn text(&self, template: &str, fields: &Json) -> Result<String, String> {
        self.0.render_str(template, Serde(fields)).map_err(|e| plain(&e))
    }

    /// An expression's value.
    pub fn value(&self, expression: &str, fields: &Json) -> Result<Json, String> {
        let value = self.0.compile_expression(expression).and_then(|e| e.eval(Serde(fields))).map_err(|e| plain(&e))?;
        serde_json::to_value(&value).map_err(|e| e.to_string())
    }
}

/// What is wrong, without where in a template that has no name.
fn plain(e: &Error) -> String {
    let detail = e.detail().map_or(String::new(), |d| format!(": {d}"));
    let cause = std::error::Error::source(e).map_or(String::new(), |c| format!(": {c}"));
    format!("{}{detail}{cause}", e.kind())
}

/// Python's methods: those of strings, and `index` of a list.
fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    if name == "index" && args.len() == 1 {
        let missing = || Error::new(ErrorKind::InvalidOperation, format!("{} is not in the list", args[0]));
        return value.try_iter()?.position(|v| v == args[0]).map(Value::from).ok_or_else(missing);
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args)
}

/// A text of HellaSwag without what WikiHow's pages left in it.
fn wikihow(text: &str) -> String {
    static BRACKETS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\[.*?\]").expect("the expression is well-formed"));
    let text = text.trim().replace(" [title]", ". ");
    BRACKETS.replace_all(&text, "").replace("  ", " ")
}
