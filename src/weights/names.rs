//! Names that diffusers has changed over time.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::{TensorInfo, WeightSource, missing};
use crate::error::{Result, ensure, err};

/// The attention layers' names before diffusers 0.14 and since.
const RENAMED: [(&str, &str); 4] =
    [(".query.", ".to_q."), (".key.", ".to_k."), (".value.", ".to_v."), (".proj_attn.", ".to_out.0.")];

/// What wrappers put before every name: DataParallel and DDP, torch.compile, a module that has the network as `model`
/// or `unet`, and an EMA of it.
const WRAPPERS: [&str; 5] = ["module.", "_orig_mod.", "model.", "ema_model.", "unet."];

/// A source of diffusers weights under today's names. What a wrapper put before every name ([`DiffusersNames::prefix`])
/// is taken off; legacy attention names `query`, `key`, `value` and `proj_attn` are shown as `to_q`, `to_k`, `to_v` and
/// `to_out.0`.
#[derive(Debug)]
pub struct DiffusersNames<S> {
    inner: S,
    /// Today's name to the stored one.
    stored: BTreeMap<String, String>,
    prefix: String,
}

impl<S: WeightSource> DiffusersNames<S> {
    /// Wraps a source. Errors (kind `Weights`): it holds a tensor under its old and its new name, or more than one
    /// model, each under another wrapper's prefix.
    pub fn new(inner: S) -> Result<Self> {
        let mut stored = BTreeMap::new();
        let names = inner.names();
        let prefix = prefix(&names)?;
        for name in names {
            let today = today(name.get(prefix.len()..).unwrap_or(name));
            let twice = stored.insert(today.clone(), name.to_string());
            ensure!(twice.is_none(), Weights, "tensor {today} stands twice, under an old name and under today's");
        }
        Ok(Self { inner, stored, prefix })
    }

    /// What stands before every name in the file and is taken off: any of `module.`, `_orig_mod.`, `model.`,
    /// `ema_model.` and `unet.`, also several. Mostly empty.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }
}

fn prefix(names: &[&str]) -> Result<String> {
    let mut prefix = String::new();
    let behind = |prefix: &str, wrapper: &str| {
        names.iter().filter(|n| n.get(prefix.len()..).is_some_and(|n| n.starts_with(wrapper))).count()
    };
    loop {
        let counts = WRAPPERS.map(|wrapper| (wrapper, behind(&prefix, wrapper)));
        if let Some((wrapper, _)) = counts.iter().find(|(_, n)| *n > 0 && *n == names.len()) {
            prefix.push_str(wrapper);
            continue;
        }
        let mut some = counts.iter().filter(|(_, n)| *n > 0);
        if let (Some((a, n)), Some((b, m))) = (some.next(), some.next()) {
            return Err(err!(
                Weights,
                "there are {n} tensors under \"{prefix}{a}\" and {m} under \"{prefix}{b}\", expected one model: save one of them alone"
            ));
        }
        return Ok(prefix);
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
