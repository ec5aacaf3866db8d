//! Words that stand for the variants of an enum, each written once.

/// Gives an enum its spellings: `ALL`, `name`, `Display`, `FromStr` and what serde needs, from one row a variant. Further words
/// after `|` are read and never written.
///
/// ```
/// #[derive(Clone, Copy, Debug, PartialEq)]
/// enum Fruit { Apple, Pear }
/// ir::spell!(Fruit, "fruit", [Apple "apple", Pear "pear" | "quince"]);
///
/// assert_eq!(("pear".parse(), "quince".parse()), (Ok(Fruit::Pear), Ok(Fruit::Pear)));
/// assert_eq!(Fruit::Apple.to_string(), "apple");
/// assert_eq!("plum".parse::<Fruit>(), Err("'plum' is no fruit: expected apple or pear".into()));
/// ```
#[macro_export]
macro_rules! spell {
    ($Enum:ident, $what:literal, [$($Variant:ident $name:literal $(| $also:literal)*),+]) => {
        impl $Enum {
            /// Every one.
            #[allow(dead_code)]
            pub const ALL: &[$Enum] = &[$($Enum::$Variant),+];
            /// The spelling.
            pub const fn name(self) -> &'static str {
                match self { $($Enum::$Variant => $name),+ }
            }
        }
        impl std::fmt::Display for $Enum {
            fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.pad(self.name())
            }
        }
        impl std::str::FromStr for $Enum {
            type Err = String;
            fn from_str(text: &str) -> std::result::Result<$Enum, String> {
                match text {
                    $($name $(| $also)* => Ok($Enum::$Variant),)+
                    _ => Err(format!("'{text}' is no {}: expected {}", $what, $crate::either(&[$($name),+]))),
                }
            }
        }
        impl TryFrom<String> for $Enum {
            type Error = String;
            fn try_from(text: String) -> std::result::Result<$Enum, String> {
                text.parse()
            }
        }
        impl From<$Enum> for String {
            fn from(v: $Enum) -> String {
                v.name().into()
            }
        }
    };
}

/// Words as people list them: `a, b or c`.
pub fn either(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).into(),
        [rest @ .., last] => format!("{} or {last}", rest.join(", ")),
    }
}
