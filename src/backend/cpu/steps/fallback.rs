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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::isa::Isa;
    use crate::backend::cpu::memory::Memory;
    use crate::backend::threads::Serial;
    use crate::cancel::Cancel;
    use crate::graph::{GraphBuilder, Op, Padding, Window};
    use crate::tensor::Dims;

    #[test]
    fn each_sample_has_the_references_values() {
        let mut g = GraphBuilder::new();
        let x = g.input("x", &[2, 2, 3]).unwrap();
        let y = g.push(Op::MaxPool(Window::new([2, 2], 1, Padding::all(0))), &[x]).unwrap();
        g.output("y", y).unwrap();
        let graph = g.finish().unwrap();
        let none = |_: &str, _: &Dims, _: &mut [f32]| Ok(());
        let view = |id| View::dense(if id == x { 0 } else { 1 }, graph.dims(id));
        let step = Fallback::new(&graph, y, &none, alloc::vec![view(x)], view(y)).unwrap();
        // Two samples of 3 x 2 pixels of 2 channels, and after them room for 2 x 1 pixels of each.
        let (batch, offsets, mut workspace) = (2, [0, 16], [0.0; 2 * 32 + 15]);
        let memory = Memory::new(&mut workspace, batch, &offsets, 32, 0).unwrap();
        // SAFETY: one thread, one view at a time.
        let values = unsafe { memory.write(&view(x)).part(0, 24) };
        values.iter_mut().enumerate().for_each(|(i, v)| *v = (i * 7 % 24) as f32);
        let cancel = Cancel::new();
        let run = Run { isa: Isa::PORTABLE, batch, memory, threads: &Serial, workers: 1, cancel: &cancel };
        step.run(&run).unwrap();
        // SAFETY: as above.
        let made = unsafe { memory.read(&view(y)) };
        let at = |sample: usize, column: usize, channel: usize| {
            let pixel = |row: usize, c: usize| (((sample * 2 + row) * 3 + column + c) * 2 + channel) * 7 % 24;
            [pixel(0, 0), pixel(0, 1), pixel(1, 0), pixel(1, 1)].into_iter().max().unwrap() as f32
        };
        let want = (0..2).flat_map(|s| (0..2).flat_map(move |x| (0..2).map(move |c| at(s, x, c))));
        assert_eq!(made, want.collect::<Vec<_>>());
    }
}
