//! The attributes of a node, taken one by one; what is left was not understood.

use alloc::string::String;
use alloc::vec::Vec;

use super::model::Attribute;
use super::protobuf::shown;
use super::tensor::Tensor;
use crate::error::{Result, ensure, err};

pub(super) struct Attributes<'a> {
    list: Vec<(&'a str, Attribute<'a>)>,
}

impl<'a> Attributes<'a> {
    pub fn new(list: &[(&'a str, Attribute<'a>)]) -> Self {
        Self { list: list.to_vec() }
    }

    pub fn take(&mut self, name: &str) -> Option<Attribute<'a>> {
        let at = self.list.iter().position(|(n, _)| *n == name)?;
        Some(self.list.swap_remove(at).1)
    }

    fn with<T>(&mut self, name: &str, what: &str, of: impl FnOnce(Attribute<'a>) -> Option<T>) -> Result<Option<T>> {
        match self.take(name) {
            None => Ok(None),
            Some(value) => {
                let made = of(value).ok_or_else(|| err!(InvalidArgument, "its attribute {name} is no {what}"))?;
                Ok(Some(made))
            }
        }
    }

    pub fn int(&mut self, name: &str, default: i64) -> Result<i64> {
        let of = |v| if let Attribute::Int(n) = v { Some(n) } else { None };
        Ok(self.with(name, "number", of)?.unwrap_or(default))
    }

    pub fn need_int(&mut self, name: &str) -> Result<i64> {
        let of = |v| if let Attribute::Int(n) = v { Some(n) } else { None };
        self.with(name, "number", of)?.ok_or_else(|| err!(InvalidArgument, "its attribute {name} is missing"))
    }

    /// A whole number that must not be below 0.
    pub fn size(&mut self, name: &str, default: usize) -> Result<usize> {
        let n = self.int(name, default as i64)?;
        usize::try_from(n).map_err(|_| err!(InvalidArgument, "its attribute {name} is {n}, expected a size"))
    }

    pub fn float(&mut self, name: &str, default: f32) -> Result<f32> {
        let of = |v| if let Attribute::Float(n) = v { Some(n) } else { None };
        Ok(self.with(name, "float", of)?.unwrap_or(default))
    }

    pub fn text(&mut self, name: &str, default: &str) -> Result<String> {
        let of = |v| match v {
            Attribute::Text(bytes) => core::str::from_utf8(bytes).ok().map(String::from),
            _ => None,
        };
        Ok(self.with(name, "text", of)?.unwrap_or_else(|| default.into()))
    }

    pub fn ints(&mut self, name: &str) -> Result<Option<Vec<i64>>> {
        let list = self.with(name, "list of numbers", |v| if let Attribute::Ints(n) = v { Some(n) } else { None })?;
        let most = if name == "value_ints" { usize::MAX } else { 1 << 10 };
        let n = list.as_ref().map_or(0, Vec::len);
        ensure!(n <= most, Unsupported, "its attribute {name} has {n} numbers, expected at most {most}");
        Ok(list)
    }

    pub fn floats(&mut self, name: &str) -> Result<Option<Vec<f32>>> {
        self.with(name, "list of floats", |v| if let Attribute::Floats(n) = v { Some(n) } else { None })
    }

    /// Numbers that older operator sets have as an attribute, newer ones as an argument.
    pub fn ints_or(&mut self, name: &str, arg: Option<&Tensor>) -> Result<Option<Vec<i64>>> {
        let attribute = self.ints(name)?;
        match arg {
            Some(t) => Ok(Some(t.whole(name)?.to_vec())),
            None => Ok(attribute),
        }
    }

    /// A tensor that stands in the node itself.
    pub fn tensor(&mut self, name: &str) -> Result<Option<Tensor>> {
        let proto = self.with(name, "tensor", |v| if let Attribute::Tensor(t) = v { Some(t) } else { None })?;
        let mut none = |_: &str, _, _| Err(err!(Unsupported, "a tensor of a node has its data elsewhere"));
        proto.map(|t| t.read(&mut none)).transpose()
    }

    /// Attributes that change nothing here.
    pub fn ignore(&mut self, names: &[&str]) {
        self.list.retain(|(n, _)| !names.contains(n));
    }

    /// That nothing is left.
    pub fn finish(&self) -> Result<()> {
        match self.list.first() {
            None => Ok(()),
            Some((name, Attribute::Graph)) => Err(err!(
                Unsupported,
                "its attribute {:?} is a graph, expected a network without branches",
                shown(name)
            )),
            Some((name, Attribute::Other(kind))) => {
                Err(err!(Unsupported, "its attribute {:?} is of type {kind}", shown(name)))
            }
            Some((name, _)) => Err(err!(Unsupported, "its attribute {:?} has no counterpart", shown(name))),
        }
    }
}
