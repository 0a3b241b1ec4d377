//! A compiled network and its runs.
#![allow(unsafe_code)] // Workers take parts of one workspace and of the outputs.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::aligned::SharedMut;
use super::compile::{Program, Target, compile};
use super::heap::Heap;
use super::memory::Slices;
use super::packs::Packs;
use super::stored::WeightType;
use crate::backend::threads::{Threads, for_each};
use crate::backend::{Network, ParamSource, check_run};
use crate::cancel::Cancel;
use crate::error::{Result, ensure, err};
use crate::graph::fuse::{fuse, fuse_backward};
use crate::graph::{Graph, Input, LayerPrecision, Op};
use crate::tensor::Dims;

pub mod fixed;
pub mod shared;

use shared::{Call, On, Samples, Shared, Steps};

/// A network compiled for the CPU: see [`Network`] for how to call it.
pub struct CpuNetwork {
    target: Target,
    threads: Arc<dyn Threads>,
    workers: usize,
    signature: Arc<[Input]>,
    /// How many layers compute in something narrower than f32, and in what.
    narrow: Option<(usize, &'static str)>,
    program: Arc<Shared>,
}

/// Few samples at once keep their values in cache from step to step and need less memory, many have the weights read
/// less often: so many that the weights are read once for twice their bytes of values. Milliseconds for a batch of 16
/// on one Zen 5 core, so many at once (best of 33 and of 6 rounds), and what this gives:
///
/// | network | 1 | 2 | 4 | 8 | 16 | at once |
/// |---|---|---|---|---|---|---|
/// | the digits' | 17.9 | 16.9 | 17.4 | 17.8 | 17.9 | 4 |
/// | with its gradient | 39.7 | 38.1 | 39.6 | 42.5 | 43.5 | 2 |
/// | ddpm-cifar10-32 | 482 | 427 | 415 | 412 | 404 | 20 |
/// | with its gradient | 1049 | 929 | 910 | 891 | 900 | 8 |
///
/// A network that computes layers again ([`Keep::Fewest`](crate::graph::vjp::Keep::Fewest)) was asked for little
/// memory: a quarter as many.
fn samples_at_once(graph: &Graph, arena: usize) -> usize {
    let (mut weights, mut layers) = (0usize, Vec::new());
    for node in graph.nodes() {
        node.op.for_each_param(|id| weights = weights.saturating_add(graph.param(id).dims.elements()));
        if let Op::FusedConv(conv) = &node.op {
            layers.extend(conv.kernels.first().map(|k| k.weight));
        }
    }
    layers.sort_unstable();
    let again = layers.windows(2).any(|pair| matches!(pair, [a, b] if a == b));
    let values = arena.saturating_mul(if again { 8 } else { 2 });
    weights.div_ceil(values.max(1)).max(1)
}

/// How many samples of a batch each worker runs by itself, and at most how many of them at a time.
#[derive(Clone, Copy)]
struct Share {
    each: usize,
    piece: usize,
}

impl CpuNetwork {
    pub(super) fn new(
        target: Target,
        threads: Arc<dyn Threads>,
        heap: &Heap,
        packs: &Packs,
        graph: &Graph,
        params: &dyn ParamSource,
    ) -> Result<Self> {
        Self::unfused(target, threads, heap, packs, &fuse(&fuse_backward(graph)?)?, params)
    }

    /// Compiles the operations as they are.
    fn unfused(
        target: Target,
        threads: Arc<dyn Threads>,
        heap: &Heap,
        packs: &Packs,
        graph: &Graph,
        params: &dyn ParamSource,
    ) -> Result<Self> {
        let Program { steps, inputs, outputs, arena, ends } = compile(target, heap, packs, graph, params)?;
        let workers = threads.count().max(1);
        let count = |of: fn(LayerPrecision) -> bool| graph.params().iter().filter(|p| of(p.precision)).count();
        let integers = count(|p| matches!(p, LayerPrecision::Int8(_)));
        let halves = count(|p| p == LayerPrecision::Bf16);
        Ok(Self {
            target,
            threads,
            workers,
            signature: graph.signature().into(),
            narrow: [("int8", integers), ("bf16", halves)].into_iter().find(|(_, n)| *n > 0).map(|(name, n)| (n, name)),
            program: Arc::new(Shared {
                inputs: graph.inputs().iter().map(|p| graph.dims(p.value)).collect(),
                outputs: graph.outputs().iter().map(|p| graph.dims(p.value)).collect(),
                input_views: inputs.into(),
                output_views: outputs.into(),
                steps: Steps::Owned(steps),
                offsets: arena.offsets.into(),
                arena: arena.size,
                ends: ends.into(),
                at_once: samples_at_once(graph, arena.size),
            }),
        })
    }

    /// As it would be as a part of a program, for batches up to `batch`.
    #[cfg(test)]
    pub(crate) fn into_fixed(self, batch: usize) -> Result<fixed::FixedNetwork> {
        let workspace = self.workspace_len(batch)?;
        let shared = Arc::into_inner(self.program).ok_or_else(|| err!(InvalidArgument, "others have it too"))?;
        // SAFETY: the compiler made it.
        Ok(unsafe { fixed::FixedNetwork::new(shared, batch, workspace) })
    }

    /// The operations that a call runs, in order, by name.
    pub fn operations(&self) -> impl ExactSizeIterator<Item = &'static str> + '_ {
        self.program.steps.iter().map(|s| s.name())
    }

    /// [`Network::run`] that calls `after(i)` when operation `i` of [`CpuNetwork::operations`] is done: for profiles.
    /// The results are the same. All workers are at the same operation; a batch of which `run` would give each worker
    /// some samples is run in pieces of that size for all, and `after` is called for each piece.
    ///
    /// # Errors
    /// As [`Network::run`].
    pub fn run_observed(
        &self,
        batch: usize,
        inputs: &[&[f32]],
        outputs: &mut [&mut [f32]],
        workspace: &mut [f32],
        cancel: &Cancel,
        after: &mut dyn FnMut(usize),
    ) -> Result<()> {
        check_run(self, batch, inputs, outputs, workspace)?;
        let call = Call { batch, inputs, outputs: Slices::new(outputs), workspace: SharedMut::new(workspace), cancel };
        let share = self.share(batch);
        let piece = if share.each == 0 { batch } else { share.piece.saturating_mul(self.workers) };
        self.together(&call, 0, piece, after)
    }

    /// What each worker gets of a batch for itself: then none waits for another, and nothing crosses from core to core.
    /// What is left of the batch, fewer samples than workers, they run together, step by step.
    ///
    /// Two pieces a worker, if there are that many, so that one that is held up does not hold up the call; more where
    /// fewer [at once](samples_at_once) are faster.
    fn share(&self, batch: usize) -> Share {
        let each = batch / self.workers;
        let piece = if self.workers == 1 { each } else { each.min(2).max(each.div_ceil(2)) };
        Share { each, piece: piece.min(self.program.at_once) }
    }

    /// Runs the shares of all workers.
    fn apart(&self, call: &Call<'_>, Share { each, piece }: Share) -> Result<()> {
        let len = self.program.need(piece, 1).unwrap_or(usize::MAX);
        let pieces = each.div_ceil(piece.max(1));
        // Of about one size.
        let piece = each.div_ceil(pieces.max(1));
        for_each(&*self.threads, self.workers, call.cancel, pieces * self.workers, &|worker, i| {
            let (share, done) = (i / pieces, i % pieces * piece);
            let samples = Samples { first: share * each + done, count: piece.min(each.saturating_sub(done)) };
            if samples.count == 0 {
                return Ok(());
            }
            // SAFETY: no two threads have the same worker number at the same time.
            let workspace = unsafe { call.workspace.part(worker.saturating_mul(len), len) };
            self.program.run(self.on(1), call, samples, workspace, &mut |_| {})
        })
    }

    /// Runs the samples from `first` on, `piece` at a time, step by step, all workers at one step.
    fn together(&self, call: &Call<'_>, first: usize, piece: usize, after: &mut dyn FnMut(usize)) -> Result<()> {
        for first in (first..call.batch).step_by(piece) {
            // SAFETY: nobody else runs this call, and what the piece before had there is not used any more.
            let workspace = unsafe { call.workspace.part(0, call.workspace.len()) };
            let count = piece.min(call.batch - first);
            self.program.run(self.on(self.workers), call, Samples { first, count }, workspace, after)?;
        }
        Ok(())
    }

    /// `workers` of this network's.
    fn on(&self, workers: usize) -> On<'_> {
        On { isa: self.target.isa, threads: &*self.threads, workers }
    }
}

impl Network for CpuNetwork {
    fn inputs(&self) -> &[Dims] {
        &self.program.inputs
    }

    fn signature(&self) -> &[Input] {
        &self.signature
    }

    fn outputs(&self) -> &[Dims] {
        &self.program.outputs
    }

    fn weight_bytes(&self) -> usize {
        self.program.steps.iter().map(|s| s.weight_bytes()).sum()
    }

    fn workspace_len(&self, batch: usize) -> Result<usize> {
        ensure!(batch > 0, InvalidArgument, "the batch is 0, expected at least 1");
        // Never less for a larger batch, so that what is enough for a batch is enough for the rest of a run.
        let Share { each, piece } = self.share(batch);
        let together = match each {
            0 => self.program.need(batch, self.workers),
            _ => piece.checked_mul(self.workers).and_then(|n| self.program.need(n, self.workers)),
        };
        let apart =
            if each == 0 { Some(0) } else { self.program.need(piece, 1).and_then(|n| n.checked_mul(self.workers)) };
        let fits = |floats: usize| floats.checked_mul(size_of::<f32>()).is_some_and(|n| n <= isize::MAX as usize);
        // Pieces need little, but the caller's slices must be possible.
        let ports = self.program.inputs.iter().chain(&*self.program.outputs);
        let caller = ports.map(|d| d.elements().checked_mul(batch)).all(|n| n.is_some_and(fits));
        together
            .zip(apart)
            .map(|(together, apart)| together.max(apart))
            .filter(|&n| caller && fits(n))
            .ok_or_else(|| err!(InvalidArgument, "a batch of {batch} is too large for this machine"))
    }

    fn on_threads(&self, threads: Arc<dyn Threads>) -> Result<Arc<dyn Network>> {
        let workers = threads.count().max(1);
        let (signature, program) = (Arc::clone(&self.signature), Arc::clone(&self.program));
        let (target, narrow) = (self.target, self.narrow);
        Ok(Arc::new(Self { target, threads, workers, signature, narrow, program }))
    }

    fn describe(&self) -> String {
        let s = if self.workers == 1 { "" } else { "s" };
        let kept = match self.target.weights {
            WeightType::F32 => String::new(),
            narrow => format!(", {narrow} weights"),
        };
        let narrow = self.narrow.map_or_else(String::new, |(n, name)| format!(", {n} layers in {name}"));
        format!("cpu {}, {} thread{s}{kept}{narrow}", self.target.isa.path(), self.workers)
    }

    #[cfg(feature = "embed")]
    fn emit_fixed(&self, batch: usize, to: &mut crate::emit::Emitter) -> Result<String> {
        let workspace = self.workspace_len(batch)?;
        let shared = crate::emit::Emit::emit(&*self.program, to)?;
        Ok(format!("unsafe {{ FixedNetwork::new({shared}, {batch}, {workspace}) }}"))
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
        let call = Call { batch, inputs, outputs: Slices::new(outputs), workspace: SharedMut::new(workspace), cancel };
        let share = self.share(batch);
        if share.each > 0 {
            self.apart(&call, share)?;
        }
        self.together(&call, share.each * self.workers, self.workers, &mut |_| {})
    }
}

#[cfg(test)]
mod tests {
    use super::super::isa::Isa;
    use super::*;
    use crate::backend::Backend;
    use crate::backend::reference::Reference;
    use crate::backend::threads::Serial;
    use crate::error::ErrorKind;
    use crate::graph::{Activation, GraphBuilder, Padding};
    use alloc::vec;

    fn graph() -> Graph {
        let mut g = GraphBuilder::new();
        let x = g.input("x", &[4, 6, 5]).unwrap();
        g.input("unused", &[2]).unwrap();
        let n = g.group_norm("n", x, 2, 1e-5).unwrap();
        let n = g.activation(n, Activation::Silu).unwrap();
        let h = g.conv2d("c", n, 4, 3, 1, Padding::all(1)).unwrap();
        let h = g.linear("l", h, 4, false).unwrap();
        let y = g.add(h, x).unwrap();
        g.output("y", y).unwrap();
        g.finish().unwrap()
    }

    fn params(name: &str, _: &Dims, out: &mut [f32]) -> Result<()> {
        let seed = name.bytes().map(usize::from).sum::<usize>();
        out.iter_mut().enumerate().for_each(|(i, v)| *v = ((i * 7 + seed) % 13) as f32 / 6.0 - 1.0);
        Ok(())
    }

    fn x() -> Vec<f32> {
        (0..240).map(|i| (i % 17) as f32 / 4.0 - 2.0).collect()
    }

    #[test]
    fn a_graph_without_fusion_gives_the_same() {
        let mut want = vec![0.0; 240];
        let inputs: [&[f32]; 2] = [&x(), &[0.0; 4]];
        let oracle = Reference.compile(&graph(), &params).unwrap();
        oracle.run(2, &inputs, &mut [&mut want], &mut [], &Cancel::new()).unwrap();
        let net = CpuNetwork::unfused(
            Isa::best().into(),
            Arc::new(Serial),
            &Heap::default(),
            &Packs::default(),
            &graph(),
            &params,
        )
        .unwrap();
        let names: Vec<_> = net.operations().collect();
        assert_eq!(names, ["group_norm_affine", "group_norm", "activation", "conv2d", "linear", "binary"]);
        let mut got = vec![0.0; 240];
        let mut workspace = vec![f32::NAN; net.workspace_len(2).unwrap()];
        net.run(2, &inputs, &mut [&mut got], &mut workspace, &Cancel::new()).unwrap();
        for (g, w) in got.iter().zip(&want) {
            assert!((g - w).abs() <= 1e-5 * w.abs().max(1.0), "{g} for {w}");
        }
    }

    #[test]
    fn refusals_leave_the_network_usable() {
        let net = CpuNetwork::new(
            Isa::best().into(),
            Arc::new(Serial),
            &Heap::default(),
            &Packs::default(),
            &graph(),
            &params,
        )
        .unwrap();
        let (mut y, cancel) = (vec![0.0; 120], Cancel::new());
        let x = x();
        let mut workspace = vec![0.0; net.workspace_len(1).unwrap()];
        let mut run = |x: &[f32], workspace: &mut [f32], cancel: &Cancel| {
            net.run(1, &[x, &[0.0; 2]], &mut [&mut y], workspace, cancel).map_err(|e| e.kind())
        };
        let short = workspace.len() - 1;
        assert_eq!(run(&x[..119], &mut workspace, &cancel), Err(ErrorKind::Shape));
        assert_eq!(run(&x[..120], &mut workspace[..short], &cancel), Err(ErrorKind::OutOfMemory));
        cancel.cancel();
        assert_eq!(run(&x[..120], &mut workspace, &cancel), Err(ErrorKind::Cancelled));
        cancel.reset();
        assert_eq!(run(&x[..120], &mut workspace, &cancel), Ok(()));
        assert!(net.workspace_len(0).is_err());
        assert!(net.workspace_len(usize::MAX / 2).is_err());
        let mut other = vec![0.0; 120];
        // Any place of the workspace will do.
        let mut workspace = vec![0.0; net.workspace_len(1).unwrap() + 1];
        net.run(1, &[&x[..120], &[0.0; 2]], &mut [&mut other], &mut workspace[1..], &cancel).unwrap();
        assert_eq!(other, y);
    }

    /// A run's last batch may be smaller than the one that the workspace was made for.
    #[test]
    fn a_workspace_is_enough_for_every_smaller_batch() {
        for workers in 1..=5 {
            let net = |n| -> CpuNetwork {
                let threads = Arc::new(crate::backend::cpu::pool::Pool::new(n).unwrap());
                CpuNetwork::new(Isa::best().into(), threads, &Heap::default(), &Packs::default(), &graph(), &params)
                    .unwrap()
            };
            let (one, net) = (net(1), net(workers));
            let x: Vec<f32> =
                x().into_iter().cycle().take(120 * 24).enumerate().map(|(i, v)| v + i as f32 / 3e3).collect();
            let run = |net: &CpuNetwork, batch: usize, workspace: &mut [f32]| {
                let mut y = vec![0.0; 120 * batch];
                let inputs: [&[f32]; 2] = [&x[..120 * batch], &vec![0.0; 2 * batch]];
                net.run(batch, &inputs, &mut [&mut y], workspace, &Cancel::new()).unwrap();
                let mut observed = vec![0.0; 120 * batch];
                net.run_observed(batch, &inputs, &mut [&mut observed], workspace, &Cancel::new(), &mut |_| {}).unwrap();
                assert_eq!(y, observed);
                y
            };
            let want = run(&one, 24, &mut vec![0.0; one.workspace_len(24).unwrap()]);
            let mut before = 0;
            for batch in 1..=24 {
                let len = net.workspace_len(batch).unwrap();
                assert!(len >= before, "{workers} workers, batch {batch}: {len} after {before}");
                before = len;
                let got = run(&net, batch, &mut vec![f32::NAN; len]);
                assert_eq!(got, want[..120 * batch], "{workers} workers, batch {batch}");
            }
        }
    }

    /// Two calls of the work, one after the other, as a host with one free thread may make them.
    struct Twice;

    impl Threads for Twice {
        fn count(&self) -> usize {
            2
        }

        fn run(&self, work: &(dyn Fn() + Sync)) {
            work();
            work();
        }
    }

    #[test]
    fn other_threads_share_the_weights_and_give_the_same_bits() {
        let net = CpuNetwork::new(
            Isa::best().into(),
            Arc::new(Serial),
            &Heap::default(),
            &Packs::default(),
            &graph(),
            &params,
        )
        .unwrap();
        let inputs: [&[f32]; 2] = [&x(), &[0.0; 4]];
        let run = |net: &dyn Network| {
            let (mut y, mut workspace) = (vec![0.0; 240], vec![0.0; net.workspace_len(2).unwrap()]);
            net.run(2, &inputs, &mut [&mut y], &mut workspace, &Cancel::new()).unwrap();
            y
        };
        let want = run(&net);
        let other = net.on_threads(Arc::new(Twice)).unwrap();
        assert!(other.describe().ends_with("2 threads"));
        assert_eq!(Arc::strong_count(&net.program), 2);
        drop(net);
        assert_eq!(run(&*other), want);
        let oracle = Reference.compile(&graph(), &params).unwrap();
        let refused = oracle.on_threads(Arc::new(Serial)).map(|_| ());
        assert_eq!(refused.map_err(|e| e.kind()), Err(ErrorKind::Unsupported));
    }

    #[test]
    fn a_cancel_from_within_stops_between_operations() {
        let net = CpuNetwork::new(
            Isa::best().into(),
            Arc::new(Serial),
            &Heap::default(),
            &Packs::default(),
            &graph(),
            &params,
        )
        .unwrap();
        let mut workspace = vec![0.0; net.workspace_len(1).unwrap()];
        let (mut y, cancel, mut done) = (vec![0.0; 120], Cancel::new(), 0);
        let e = net.run_observed(1, &[&x()[..120], &[0.0; 2]], &mut [&mut y], &mut workspace, &cancel, &mut |_| {
            done += 1;
            cancel.cancel();
        });
        assert_eq!((e.map_err(|e| e.kind()), done), (Err(ErrorKind::Cancelled), 1));
    }
}
