//! An operation that has no kernel here: the reference's loops in f64, sample by sample.
//!
//! It makes an operation usable on this backend before anybody has written its kernel. It is slow, and the only step
//! that takes memory while it runs.
#![allow(unsafe_code)] // Reads and writes rows of the arena.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::super::memory::View;
use super::{Run, Step, row_of};
use crate::backend::reference::Reference;
use crate::backend::{Backend, Network, ParamSource};
use crate::error::{Result, ensure};
use crate::graph::{Graph, ValueId, alone};
use crate::memory::zeros;

pub(in super::super) struct Fallback {
    name: &'static str,
    network: Box<dyn Network>,
    args: Vec<View>,
    out: View,
}

impl Fallback {
    /// The node that makes `id`, with its parameters.
    pub fn new(graph: &Graph, id: ValueId, params: &dyn ParamSource, args: Vec<View>, out: View) -> Result<Self> {
        let network = Reference.compile(&alone(graph, id)?, params)?;
        Ok(Self { name: graph.node(id).op.name(), network, args, out })
    }

    fn sample(&self, run: &Run<'_>, sample: usize) -> Result<()> {
        let mut inputs = Vec::new();
        for v in &self.args {
            // SAFETY: the plan keeps arguments unwritten while a step reads them.
            let from = unsafe { run.memory.read_samples(v, sample, 1) };
            let (n, c) = (v.positions(), v.channels);
            let mut to = zeros("an argument", n * c)?;
            for p in 0..n {
                let row = row_of(from, p * v.stride, c);
                ensure!(row.len() == c, Shape, "row {p} is not inside its buffer");
                row.iter().enumerate().for_each(|(i, v)| to[i * n + p] = *v);
            }
            inputs.push(to);
        }
        let (n, c) = (self.out.positions(), self.out.channels);
        let mut value = zeros("a value", n * c)?;
        let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
        self.network.run(1, &inputs, &mut [&mut value], &mut [], run.cancel)?;
        // SAFETY: the plan gives the result to this step alone, and a sample is one task's.
        let out = unsafe { run.memory.write_samples(&self.out, sample, 1) };
        for p in 0..n {
            // SAFETY: as above.
            let row = unsafe { out.part(p * self.out.stride, c) };
            ensure!(row.len() == c, Shape, "row {p} is not inside its buffer");
            row.iter_mut().enumerate().for_each(|(i, v)| *v = value[i * n + p]);
        }
        Ok(())
    }
}

impl Step for Fallback {
    fn name(&self) -> &'static str {
        self.name
    }

    fn weight_bytes(&self) -> usize {
        self.network.weight_bytes()
    }

    fn run(&self, run: &Run<'_>) -> Result<()> {
        // Whatever its size, it is worth a thread.
        run.each(usize::MAX, run.batch, &|_, sample| self.sample(run, sample))
    }
}
