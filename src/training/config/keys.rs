//! Reading a JSON object key by key, so that an error says which key of which part, and no key is skipped in silence.

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;
use core::ops::RangeInclusive;

use crate::error::{Result, ensure, err};
use crate::json::{self, Value};

/// The keys of an object that have not been taken yet.
pub(super) struct Keys {
    path: String,
    left: json::Object,
}

impl Keys {
    /// The keys of a whole configuration.
    pub fn parse(text: &str) -> Result<Self> {
        let left = json::parse_object(text).map_err(|e| e.context("the training config is malformed"))?;
        Ok(Self { path: String::new(), left })
    }

    fn name(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_string() } else { format!("{}.{key}", self.path) }
    }

    /// The value of a key that must be there.
    pub fn need(&mut self, key: &str) -> Result<Value> {
        self.left.remove(key).ok_or_else(|| err!(Config, "the training config has no {}", self.name(key)))
    }

    /// The value of a key, unless it is absent or `null`.
    pub fn take(&mut self, key: &str) -> Option<Value> {
        self.left.remove(key).filter(|v| !v.is_null())
    }

    /// The keys of an object within, empty if it is absent.
    pub fn part(&mut self, key: &str) -> Result<Self> {
        let path = self.name(key);
        let left = match self.take(key) {
            None => json::Object::new(),
            Some(Value::Object(map)) => map,
            Some(other) => return Err(err!(Config, "{path} is {}, expected an object", other.brief())),
        };
        Ok(Self { path, left })
    }

    /// Whether a key is there and not `null`, which is then forgotten.
    pub fn has(&mut self, key: &str) -> bool {
        if self.left.get(key).is_some_and(Value::is_null) {
            self.left.remove(key);
        }
        self.left.contains_key(key)
    }

    /// Whether a key's value is a number.
    pub fn is_number(&self, key: &str) -> bool {
        self.left.get(key).is_some_and(Value::is_number)
    }

    fn wrong<T>(&self, key: &str, value: &Value, expected: impl fmt::Display) -> Result<T> {
        Err(err!(Config, "{} is {} in the training config, expected {expected}", self.name(key), value.brief()))
    }

    /// A number, or `default` where there is none. Without a default it must be there.
    pub fn number(&mut self, key: &str, default: Option<f64>, range: RangeInclusive<f64>) -> Result<f64> {
        let value = match (self.take(key), default) {
            (None, Some(default)) => return Ok(default),
            (None, None) => self.need(key)?,
            (Some(value), _) => value,
        };
        match value.as_f64() {
            Some(v) if range.contains(&v) => Ok(v),
            _ => self.wrong(key, &value, format_args!("a number from {:e} to {:e}", range.start(), range.end())),
        }
    }

    /// A number or nothing.
    pub fn maybe_number(&mut self, key: &str, range: RangeInclusive<f64>) -> Result<Option<f64>> {
        if self.has(key) { self.number(key, None, range).map(Some) } else { Ok(None) }
    }

    /// A whole number, or `default`; without a default it must be there.
    pub fn integer(&mut self, key: &str, default: Option<u64>, range: RangeInclusive<u64>) -> Result<u64> {
        let value = match (self.take(key), default) {
            (None, Some(default)) => return Ok(default),
            (None, None) => self.need(key)?,
            (Some(value), _) => value,
        };
        match value.as_u64() {
            Some(v) if range.contains(&v) => Ok(v),
            _ => self.wrong(key, &value, format_args!("a whole number from {} to {}", range.start(), range.end())),
        }
    }

    /// A count.
    pub fn count(&mut self, key: &str, default: Option<usize>, max: usize) -> Result<usize> {
        let n = self.integer(key, default.map(|d| d as u64), 1..=max as u64)?;
        usize::try_from(n).map_err(|_| err!(Config, "{} is {n}, too large for this machine", self.name(key)))
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, key: &str, default: bool) -> Result<bool> {
        match self.take(key) {
            None => Ok(default),
            Some(Value::Bool(b)) => Ok(b),
            Some(other) => self.wrong(key, &other, "true or false"),
        }
    }

    /// A text that must be there.
    pub fn text(&mut self, key: &str) -> Result<String> {
        match self.need(key)? {
            Value::String(s) => Ok(s),
            other => self.wrong(key, &other, "a text"),
        }
    }

    /// One of several words.
    pub fn word<T: Copy>(&mut self, key: &str, default: Option<T>, words: &[(&str, T)]) -> Result<T> {
        let value = match (self.take(key), default) {
            (None, Some(default)) => return Ok(default),
            (None, None) => self.need(key)?,
            (Some(value), _) => value,
        };
        match words.iter().find(|(word, _)| value.as_str() == Some(word)) {
            Some((_, meaning)) => Ok(*meaning),
            None => {
                let all: alloc::vec::Vec<String> = words.iter().map(|(w, _)| format!("{w:?}")).collect();
                self.wrong(key, &value, all.join(" or "))
            }
        }
    }

    /// A list of whole numbers, each from 1 to `max`.
    pub fn counts(&mut self, key: &str, max: u64) -> Result<Option<alloc::vec::Vec<usize>>> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let item = |v: &Value| v.as_u64().filter(|n| (1..=max).contains(n)).and_then(|n| usize::try_from(n).ok());
        match value.as_array().and_then(|a| a.iter().map(item).collect()) {
            Some(list) => Ok(Some(list)),
            None => self.wrong(key, &value, format_args!("a list of whole numbers from 1 to {max}")),
        }
    }

    /// Refuses what is left.
    pub fn finish(self) -> Result<()> {
        if let Some((key, _)) = self.left.iter().find(|(k, _)| !k.starts_with('_')) {
            let key: String = self.name(key).chars().take(80).collect();
            ensure!(false, Config, "the training config has the unknown key {key}");
        }
        Ok(())
    }
}
