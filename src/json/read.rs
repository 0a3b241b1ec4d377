//! The reader: one pass over the text, by recursive descent.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{MAX_DEPTH, MAX_TEXT, MAX_VALUES, Object, Value, cut};
use crate::error::{Error, Result, ensure, err};
use crate::sniff::seems_to_be;

pub(super) fn parse(text: &str) -> Result<Value> {
    ensure!(text.len() <= MAX_TEXT, Config, "the text has {} bytes, expected at most {MAX_TEXT}", text.len());
    let mut reader = Reader { text, at: 0, values: 0 };
    let value = reader.value(0).map_err(|e| match seems_to_be(text.as_bytes()) {
        mishap if !mishap.is_empty() && !text.starts_with('{') => err!(Config, "this is no JSON{mishap}"),
        _ => e,
    })?;
    reader.space();
    if reader.peek().is_some() { Err(reader.wrong("the end of the text")) } else { Ok(value) }
}

/// The words that are values; the last three are Python's.
const WORDS: [(&str, Value); 6] = [
    ("null", Value::Null),
    ("true", Value::Bool(true)),
    ("false", Value::Bool(false)),
    ("NaN", Value::Number(f64::NAN)),
    ("Infinity", Value::Number(f64::INFINITY)),
    ("-Infinity", Value::Number(f64::NEG_INFINITY)),
];

struct Reader<'t> {
    text: &'t str,
    /// The byte that is read next; always at the beginning of a character.
    at: usize,
    values: usize,
}

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// Steps over a byte if it is next.
    fn eat(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    /// The error for what stands here.
    fn wrong(&self, expected: &str) -> Error {
        match self.rest().chars().next() {
            Some(c) => self.error(format!("found {c:?}, expected {expected}")),
            None => self.error(format!("the text ends, expected {expected}")),
        }
    }

    fn error(&self, what: String) -> Error {
        let before = self.text.get(..self.at).unwrap_or_default();
        let line = 1 + before.matches('\n').count();
        let column = 1 + before.chars().rev().take_while(|&c| c != '\n').count();
        err!(Config, "line {line}, column {column}: {what}")
    }

    fn value(&mut self, depth: usize) -> Result<Value> {
        self.space();
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(self.error(format!("more than {MAX_VALUES} values")));
        }
        if depth > MAX_DEPTH {
            return Err(self.error(format!("more than {MAX_DEPTH} lists and objects within one another")));
        }
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => Ok(Value::String(self.string()?)),
            _ => match WORDS.into_iter().find(|(word, _)| self.rest().starts_with(word)) {
                Some((word, value)) => {
                    self.at += word.len();
                    Ok(value)
                }
                None => self.number(),
            },
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value> {
        self.at += 1;
        let mut map = Object::new();
        self.space();
        if self.eat(b'}') {
            return Ok(Value::Object(map));
        }
        loop {
            self.space();
            let key_at = self.at;
            if self.peek() != Some(b'"') {
                return Err(self.wrong("a key in double quotes"));
            }
            let key = self.string()?;
            self.space();
            if !self.eat(b':') {
                return Err(self.wrong("':'"));
            }
            let value = self.value(depth + 1)?;
            if map.contains_key(&key) {
                self.at = key_at;
                return Err(self.error(format!("the key {:?} stands twice", cut(&key))));
            }
            map.insert(key, value);
            self.space();
            if self.eat(b'}') {
                return Ok(Value::Object(map));
            }
            if !self.eat(b',') {
                return Err(self.wrong("',' or '}'"));
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value> {
        self.at += 1;
        let mut items = Vec::new();
        self.space();
        if self.eat(b']') {
            return Ok(Value::Array(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.space();
            if self.eat(b']') {
                return Ok(Value::Array(items));
            }
            if !self.eat(b',') {
                return Err(self.wrong("',' or ']'"));
            }
        }
    }

    fn number(&mut self) -> Result<Value> {
        let start = self.at;
        self.eat(b'-');
        if !self.eat(b'0') && self.digits() == 0 {
            self.at = start;
            return Err(self.wrong("a value"));
        }
        let mut whole = true;
        if self.eat(b'.') {
            whole = false;
            if self.digits() == 0 {
                return Err(self.wrong("a digit"));
            }
        }
        if self.eat(b'e') || self.eat(b'E') {
            whole = false;
            if !self.eat(b'+') {
                self.eat(b'-');
            }
            if self.digits() == 0 {
                return Err(self.wrong("a digit"));
            }
        }
        let digits = self.text.get(start..self.at).unwrap_or_default();
        if let (true, Ok(n)) = (whole, digits.parse()) {
            return Ok(Value::Integer(n));
        }
        // As in Python, a number that is too large is infinite.
        let number = digits.parse().map_err(|_| err!(Config, "{} is no number", cut(digits)))?;
        Ok(Value::Number(number))
    }

    /// Steps over digits and counts them.
    fn digits(&mut self) -> usize {
        let start = self.at;
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        self.at - start
    }

    /// A text whose opening quote is next.
    fn string(&mut self) -> Result<String> {
        self.at += 1;
        let mut out = String::new();
        loop {
            let plain = self.rest();
            let len = plain.bytes().take_while(|&b| b != b'"' && b != b'\\' && b >= 0x20).count();
            out.push_str(plain.get(..len).unwrap_or_default());
            self.at += len;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => {
                    let escape = self.at;
                    self.at += 1;
                    match self.escaped() {
                        Some(c) => out.push(c),
                        None => {
                            self.at = escape;
                            return Err(self.error("the escape is none of JSON's, or half of a pair".into()));
                        }
                    }
                }
                _ => return Err(self.wrong("the closing quote of a string")),
            }
        }
    }

    /// What stands behind a backslash.
    fn escaped(&mut self) -> Option<char> {
        let letter = self.peek()?;
        self.at += 1;
        Some(match letter {
            b'"' | b'\\' | b'/' => char::from(letter),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.hex()?;
                let code = match first {
                    // UTF-16's first half of a pair.
                    0xd800..=0xdbff => {
                        let second = (self.eat(b'\\') && self.eat(b'u')).then(|| self.hex())??;
                        0x10000 + ((first - 0xd800) << 10) + second.checked_sub(0xdc00).filter(|&s| s < 0x400)?
                    }
                    code => code,
                };
                char::from_u32(code)?
            }
            _ => return None,
        })
    }

    /// Four hexadecimal digits.
    fn hex(&mut self) -> Option<u32> {
        let digits = self.rest().get(..4).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
        self.at += 4;
        u32::from_str_radix(digits, 16).ok()
    }
}
