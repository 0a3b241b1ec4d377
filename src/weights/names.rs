//! Names that diffusers has changed over time.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::{TensorInfo, WeightSource, missing};
use crate::error::{Result, ensure};

/// The attention layers' names before diffusers 0.14 and since.
const RENAMED: [(&str, &str); 4] =
    [(".query.", ".to_q."), (".key.", ".to_k."), (".value.", ".to_v."), (".proj_attn.", ".to_out.0.")];

/// A source of diffusers weights under today's names: legacy attention names `query`, `key`, `value` and `proj_attn` are
/// shown as `to_q`, `to_k`, `to_v` and `to_out.0`.
#[derive(Debug)]
pub struct DiffusersNames<S> {
    inner: S,
    /// Today's name to the stored one.
    stored: BTreeMap<String, String>,
}

impl<S: WeightSource> DiffusersNames<S> {
    /// Wraps a source. Errors (kind `Weights`): it holds a tensor under its old and its new name.
    pub fn new(inner: S) -> Result<Self> {
        let mut stored = BTreeMap::new();
        for name in inner.names() {
            let today = today(name);
            let twice = stored.insert(today.clone(), name.to_string());
            ensure!(twice.is_none(), Weights, "tensor {today} stands twice, under an old name and under today's");
        }
        Ok(Self { inner, stored })
    }
}

fn today(name: &str) -> String {
    // Only within attention blocks: elsewhere these words may mean something else.
    if name.contains("attentions.") {
        for (old, new) in RENAMED {
            if let Some((path, what)) = name.rsplit_once(old)
                && (what == "weight" || what == "bias")
            {
                return format!("{path}{new}{what}");
            }
        }
    }
    name.to_string()
}

impl<S: WeightSource> WeightSource for DiffusersNames<S> {
    fn names(&self) -> Vec<&str> {
        self.stored.keys().map(|s| s.as_str()).collect()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        self.inner.info(self.stored.get(name)?)
    }

    fn read_f32(&self, name: &str, out: &mut [f32]) -> Result<()> {
        self.inner.read_f32(self.stored.get(name).ok_or_else(|| missing(name))?, out)
    }
}
