//! Reading a JSON configuration key by key, so that no key or value is skipped in silence.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::ops::RangeInclusive;

use crate::error::{Error, Result, err};
use crate::json::{self, Value};

/// The keys of a configuration that have not been taken yet. A key that is absent, and a key whose value is `null`, are
/// told apart: `null` is a value, and only some keys accept it.
pub(super) struct Fields {
    left: json::Object,
}

impl Fields {
    /// Parses a JSON object. Keys that begin with `_` (metadata) can be taken but need not be.
    pub fn parse(json: &str) -> Result<Self> {
        Ok(Self { left: json::parse_object(json).map_err(|e| e.context("the model config is malformed"))? })
    }

    /// Takes a key's value if it is there.
    pub fn take(&mut self, key: &str) -> Option<Value> {
        self.left.remove(key)
    }

    /// Takes a key through `convert`, which gives `None` for a value that is not `expected`.
    pub fn with<T>(
        &mut self,
        key: &str,
        default: T,
        expected: impl fmt::Display,
        convert: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<T> {
        match self.take(key) {
            None => Ok(default),
            Some(v) => convert(&v).ok_or_else(|| wrong(key, &v, expected)),
        }
    }

    /// A whole number.
    pub fn integer(&mut self, key: &str, default: usize, range: RangeInclusive<usize>) -> Result<usize> {
        self.with(key, default, within(&range), |v| integer(v, &range))
    }

    /// A whole number or `null`.
    pub fn integer_or_null(
        &mut self,
        key: &str,
        default: Option<usize>,
        range: RangeInclusive<usize>,
    ) -> Result<Option<usize>> {
        self.with(key, default, format_args!("{} or null", within(&range)), |v| match v {
            Value::Null => Some(None),
            v => integer(v, &range).map(Some),
        })
    }

    /// A number.
    pub fn number(&mut self, key: &str, default: f64, range: RangeInclusive<f64>) -> Result<f64> {
        let expected = format!("a number from {:e} to {:e}", range.start(), range.end());
        self.with(key, default, expected, |v| v.as_f64().filter(|x| range.contains(x)))
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, key: &str, default: bool) -> Result<bool> {
        self.with(key, default, "true or false", Value::as_bool)
    }

    /// One of several words.
    pub fn word<T: Copy>(&mut self, key: &str, default: T, words: &[(&str, T)]) -> Result<T> {
        self.with(key, default, one_of(words), |v| word(v.as_str()?, words))
    }

    /// A list of 1 to `max` items.
    pub fn list<T>(
        &mut self,
        key: &str,
        default: Vec<T>,
        max: usize,
        expected: impl fmt::Display,
        item: impl Fn(&Value) -> Option<T>,
    ) -> Result<Vec<T>> {
        self.with(key, default, format_args!("a list of 1 to {max}, each {expected}"), |v| {
            let items = v.as_array().filter(|a| !a.is_empty() && a.len() <= max)?;
            items.iter().map(item).collect()
        })
    }

    /// Refuses what is left, except metadata and null, which says nothing. `known` are the keys that the configuration
    /// has, for the message.
    pub fn finish(self, known: &str) -> Result<()> {
        match self.left.into_iter().find(|(k, v)| !k.starts_with('_') && !v.is_null()) {
            None => Ok(()),
            Some((key, _)) => {
                Err(err!(Config, "unknown key {:?} in the model config, expected one of {known}", json::cut(&key)))
            }
        }
    }
}

/// Takes `sample_size`: a side, height and width, or null.
pub(super) fn sample_size(f: &mut Fields, max: usize) -> Result<Option<[usize; 2]>> {
    let range = 1..=max;
    match f.take("sample_size") {
        None | Some(Value::Null) => Ok(None),
        Some(v) => {
            let size = match v.as_array() {
                Some([h, w]) => integer(h, &range).zip(integer(w, &range)).map(|(h, w)| [h, w]),
                Some(_) => None,
                None => integer(&v, &range).map(|n| [n, n]),
            };
            let expected = format!("a whole number from 1 to {max}, two of them, or null");
            size.map(Some).ok_or_else(|| wrong("sample_size", &v, expected))
        }
    }
}

/// The error for a value that a key does not accept.
pub(super) fn wrong(key: &str, value: &Value, expected: impl fmt::Display) -> Error {
    err!(Config, "{key} is {} in the model config, expected {expected}", value.brief())
}

/// A whole number within a range; 2.0 counts as whole, as Python writes it so at times.
pub(super) fn integer(v: &Value, range: &RangeInclusive<usize>) -> Option<usize> {
    let n =
        v.as_u64().or_else(|| v.as_f64().filter(|x| (0.0..1e15).contains(x) && x % 1.0 == 0.0).map(|x| x as u64))?;
    usize::try_from(n).ok().filter(|n| range.contains(n))
}

/// The meaning of a word, in any case as diffusers takes it where it does.
pub(super) fn word<T: Copy>(text: &str, words: &[(&str, T)]) -> Option<T> {
    words.iter().find(|(w, _)| *w == text).map(|&(_, t)| t)
}

/// "a, b or c", for messages.
pub(super) fn one_of<T>(words: &[(&str, T)]) -> String {
    let quoted: Vec<String> = words.iter().map(|(w, _)| format!("{w:?}")).collect();
    format!("one of {}", quoted.join(", "))
}

fn within(range: &RangeInclusive<usize>) -> String {
    format!("a whole number from {} to {}", range.start(), range.end())
}
