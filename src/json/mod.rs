//! JSON as Python writes and reads it: also the numbers `NaN`, `Infinity` and `-Infinity`, which the standard forbids
//! and `json.dump` writes. Configurations of diffusers hold them (`"lambda_min_clipped": -Infinity`).
//!
//! ```
//! use undiffuse::json::{Value, parse};
//!
//! let value = parse(r#"{"lambda_min_clipped": -Infinity, "trained_betas": null, "steps_offset": 1}"#)?;
//! let Value::Object(map) = &value else { unreachable!() };
//! assert_eq!(map["steps_offset"].as_u64(), Some(1));
//! // No accessor gives an infinite number; who accepts one matches on `Value::Number`.
//! assert_eq!((map["lambda_min_clipped"].as_f64(), &map["lambda_min_clipped"]), (None, &Value::Number(f64::NEG_INFINITY)));
//! assert_eq!(value.to_string(), r#"{"lambda_min_clipped":-Infinity,"steps_offset":1,"trained_betas":null}"#);
//! # Ok::<(), undiffuse::Error>(())
//! ```

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::error::Result;

mod read;

/// The longest text that is read, in bytes. The index of a model in a thousand shards and a configuration with 100,000
/// betas are shorter.
pub const MAX_TEXT: usize = 8 << 20;
/// The most values of one text, keys not counted.
pub const MAX_VALUES: usize = 1 << 18;
/// The most lists and objects within one another.
pub const MAX_DEPTH: usize = 64;

/// The values of an object by key. The order of the text is not kept.
pub type Object = BTreeMap<String, Value>;

/// A value. NaN equals NaN, so that a text equals itself.
#[derive(Clone, Debug)]
pub enum Value {
    /// `null`, Python's `None`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number without point and exponent.
    Integer(i128),
    /// Any other number, also NaN and the infinities, and an integer beyond [`Value::Integer`].
    Number(f64),
    /// A text.
    String(String),
    /// A list.
    Array(Vec<Value>),
    /// Values under keys.
    Object(Object),
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Integer(a), Self::Integer(b)) => a == b,
            (Self::Number(a), Self::Number(b)) => a == b || (a.is_nan() && b.is_nan()),
            (Self::String(a), Self::String(b)) => a == b,
            (Self::Array(a), Self::Array(b)) => a == b,
            (Self::Object(a), Self::Object(b)) => a == b,
            _ => false,
        }
    }
}

/// Reads a text that is one value, and nothing behind it but white space.
///
/// Errors (kind `Config`) say at which line and column: what is no JSON, a key that stands twice in one object (Python
/// takes the last; two values for one thing are a mistake here), more than [`MAX_TEXT`] bytes, [`MAX_VALUES`] values or
/// [`MAX_DEPTH`] levels.
pub fn parse(text: &str) -> Result<Value> {
    read::parse(text)
}

/// As [`parse`], for a text that must be an object.
pub fn parse_object(text: &str) -> Result<Object> {
    match parse(text)? {
        Value::Object(map) => Ok(map),
        other => Err(crate::error::err!(Config, "the text is {}, expected an object", other.kind())),
    }
}

impl Value {
    /// What it is, for messages: "null", "a number", "a list".
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Integer(_) | Self::Number(_) => "a number",
            Self::String(_) => "a string",
            Self::Array(_) => "a list",
            Self::Object(_) => "an object",
        }
    }

    /// Its text, at most 80 characters, for messages.
    pub fn brief(&self) -> String {
        cut(&format!("{self}"))
    }

    /// Whether it is `null`.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Whether it is a number, also NaN or infinite.
    pub fn is_number(&self) -> bool {
        matches!(self, Self::Integer(_) | Self::Number(_))
    }

    /// `true` or `false`.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(b) => Some(*b),
            _ => None,
        }
    }

    /// A finite number.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Integer(n) => Some(*n as f64),
            Self::Number(x) => Some(*x).filter(|x| x.is_finite()),
            _ => None,
        }
    }

    /// A number without point and exponent, from 0.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Integer(n) => u64::try_from(*n).ok(),
            _ => None,
        }
    }

    /// A text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(s) => Some(s),
            _ => None,
        }
    }

    /// A list.
    pub fn as_array(&self) -> Option<&[Self]> {
        match self {
            Self::Array(a) => Some(a),
            _ => None,
        }
    }

    /// An object.
    pub fn as_object(&self) -> Option<&Object> {
        match self {
            Self::Object(o) => Some(o),
            _ => None,
        }
    }
}

/// Foreign text in a message: cut, and without control characters.
pub(crate) fn cut(text: &str) -> String {
    const SHOWN: usize = 80;
    let mut short: String = text.chars().take(SHOWN).map(|c| if c.is_control() { '?' } else { c }).collect();
    if text.chars().nth(SHOWN).is_some() {
        short.push_str("...");
    }
    short
}

macro_rules! from {
    ($($t:ty => $v:ident $(as $as:ty)?),*) => {
        $(impl From<$t> for Value {
            fn from(v: $t) -> Self {
                Self::$v(v $(as $as)?)
            }
        })*
    };
}
from!(bool => Bool, i32 => Integer as i128, i64 => Integer as i128, u32 => Integer as i128, u64 => Integer as i128,
    usize => Integer as i128, f64 => Number, String => String, Object => Object);

impl From<&str> for Value {
    fn from(v: &str) -> Self {
        Self::String(v.into())
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    /// `None` is `null`.
    fn from(v: Option<T>) -> Self {
        v.map_or(Self::Null, Into::into)
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(v: Vec<T>) -> Self {
        Self::Array(v.into_iter().map(Into::into).collect())
    }
}

impl fmt::Display for Value {
    /// The text: on one line, or with `{:#}` a line for each value, indented by 2. [`parse`] gives the same value back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_value(self, f, 0)
    }
}

fn write_value(value: &Value, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
    match value {
        Value::Null => f.write_str("null"),
        Value::Bool(b) => write!(f, "{b}"),
        Value::Integer(n) => write!(f, "{n}"),
        // Python's words.
        Value::Number(x) if x.is_nan() => f.write_str("NaN"),
        Value::Number(x) if x.is_infinite() => f.write_str(if *x > 0.0 { "Infinity" } else { "-Infinity" }),
        // The shortest digits that read back as the same number.
        Value::Number(x) => write!(f, "{x:?}"),
        Value::String(s) => write_text(s, f),
        Value::Array(items) => write_all(items, ['[', ']'], f, depth, |v, f| write_value(v, f, depth + 1)),
        Value::Object(map) => write_all(map, ['{', '}'], f, depth, |(key, v), f| {
            write_text(key, f)?;
            f.write_str(if f.alternate() { ": " } else { ":" })?;
            write_value(v, f, depth + 1)
        }),
    }
}

fn write_all<T>(
    items: impl IntoIterator<Item = T>,
    [open, close]: [char; 2],
    f: &mut fmt::Formatter<'_>,
    depth: usize,
    mut each: impl FnMut(T, &mut fmt::Formatter<'_>) -> fmt::Result,
) -> fmt::Result {
    use fmt::Write;
    let line = |f: &mut fmt::Formatter<'_>, depth: usize| {
        if f.alternate() { write!(f, "\n{:1$}", "", 2 * depth) } else { Ok(()) }
    };
    f.write_char(open)?;
    let mut empty = true;
    for item in items {
        if !empty {
            f.write_char(',')?;
        }
        empty = false;
        line(f, depth + 1)?;
        each(item, f)?;
    }
    if !empty {
        line(f, depth)?;
    }
    f.write_char(close)
}

fn write_text(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    use fmt::Write;
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            c if u32::from(c) < 0x20 => write!(f, "\\u{:04x}", u32::from(c))?,
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}

#[cfg(test)]
mod tests;
