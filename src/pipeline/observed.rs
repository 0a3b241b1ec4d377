//! A network whose further outputs are looked at: the ranges of what layers read.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::backend::{Network, check_run};
use crate::cancel::Cancel;
use crate::error::{Result, err};
use crate::graph::{Input, Quantisation};
use crate::tensor::Dims;

/// Shows the first output of a network, and keeps the least and the largest values of the others.
pub struct Observed {
    inner: Arc<dyn Network>,
    names: Vec<Vec<String>>,
    /// Of each further output, the largest of -x and of x, as [`key`] makes them.
    extremes: Vec<[AtomicU32; 2]>,
}

/// Whole numbers in the order of the floats.
fn key(v: f32) -> u32 {
    let bits = v.to_bits();
    if bits >> 31 == 0 { bits | 1 << 31 } else { !bits }
}

/// The float of such a number.
fn value(key: u32) -> f32 {
    f32::from_bits(if key >> 31 == 1 { key & !(1 << 31) } else { !key })
}

impl Observed {
    /// Of a network with one output more than `names`, which says of each of them whose input it is.
    pub fn new(inner: Arc<dyn Network>, names: Vec<Vec<String>>) -> Self {
        let least = || AtomicU32::new(key(f32::NEG_INFINITY));
        let extremes = names.iter().map(|_| [least(), least()]).collect();
        Self { inner, names, extremes }
    }

    /// What the layers need, by the names of their weights. Those whose input was always 0, or not finite, are left
    /// out.
    pub fn ranges(&self) -> BTreeMap<String, Quantisation> {
        let mut found = BTreeMap::new();
        for (names, [low, high]) in self.names.iter().zip(&self.extremes) {
            let of = |k: &AtomicU32| value(k.load(Ordering::Relaxed));
            if let Ok(q) = Quantisation::of_range(-of(low), of(high)) {
                found.extend(names.iter().map(|name| (name.clone(), q)));
            }
        }
        found
    }

    fn others(&self) -> &[Dims] {
        self.inner.outputs().get(1..).unwrap_or(&[])
    }
}

impl Network for Observed {
    fn inputs(&self) -> &[Dims] {
        self.inner.inputs()
    }

    fn signature(&self) -> &[Input] {
        self.inner.signature()
    }

    fn outputs(&self) -> &[Dims] {
        self.inner.outputs().get(..1).unwrap_or(&[])
    }

    fn weight_bytes(&self) -> usize {
        self.inner.weight_bytes()
    }

    fn workspace_len(&self, batch: usize) -> Result<usize> {
        let others = self.others().iter().try_fold(0usize, |n, d| n.checked_add(d.elements().checked_mul(batch)?));
        let all = others.zip(self.inner.workspace_len(batch).map(Some)?).and_then(|(a, b)| a.checked_add(b));
        all.ok_or_else(|| err!(OutOfMemory, "a batch of {batch} is too large for this machine"))
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn run(
        &self,
        batch: usize,
        inputs: &[&[f32]],
        outputs: &mut [&mut [f32]],
        workspace: &mut [f32],
        cancel: &Cancel,
    ) -> Result<()> {
        check_run(self, batch, inputs, outputs, workspace)?;
        let mut rest = workspace;
        let mut all: Vec<&mut [f32]> = outputs.iter_mut().map(|o| &mut **o).collect();
        for dims in self.others() {
            let (own, behind) = rest.split_at_mut(dims.elements() * batch);
            all.push(own);
            rest = behind;
        }
        self.inner.run(batch, inputs, &mut all, rest, cancel)?;
        for (values, [low, high]) in all.iter().skip(1).zip(&self.extremes) {
            for v in values.iter() {
                low.fetch_max(key(-v), Ordering::Relaxed);
                high.fetch_max(key(*v), Ordering::Relaxed);
            }
        }
        Ok(())
    }
}
