//! Runs a network and its backward sweep for a batch, in `f32`.
//!
//! A value `[C, ..]` of a chunk of B samples lies in memory as `[C, B, positions]`: linear maps are one matrix product
//! each, channels are contiguous, and an element-wise operation does not see the batch at all. Weights and images are
//! multiplied where they lie, neither packed nor unfolded, since each is read a few times only before it changes.
//!
//! The batch is cut into *lanes*, each a run of samples with a gradient of its own; a lane is worked through in chunks,
//! and the lanes' gradients are added in their order. Lanes and chunks depend on the batch and the options alone, so
//! the result is the same bits for any number of threads.

use alloc::sync::Arc;
use alloc::vec::Vec;
use std::sync::{Mutex, PoisonError};

use crate::backend::threads::{Threads, for_each};
use crate::cancel::Cancel;
use crate::error::{Result, ensure, err};
use crate::graph::gradients::gradients;
use crate::graph::{Graph, Op};
use crate::tensor::Dims;

mod attention;
mod basis;
mod conv;
mod elementwise;
mod embed;
mod norm;
mod param;
mod planes;
mod program;
mod resample;
mod value;

use program::{Program, Workspace};

/// How a batch is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineOptions {
    /// Runs of samples that threads can work on at the same time, at least 1. More lanes need more memory, a gradient
    /// each. Other lanes are other roundings.
    pub lanes: usize,
    /// The most samples at a time within a lane; `None` for as many as keep a value in cache.
    pub chunk: Option<usize>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self { lanes: 4, chunk: None }
    }
}

/// Where a parameter stands in the flat vector of all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParamSlot {
    /// Its name in the graph.
    pub name: alloc::string::String,
    /// Its dimensions.
    pub dims: Dims,
    /// Where it begins.
    pub offset: usize,
}

/// What [`Engine::gradients`] asks of a loss: from the outputs of samples `first ..` to the sum of their losses and, by
/// each output, the gradient of that sum. Outputs and gradients are row-major with the batch first. It is called from
/// several threads.
pub type Loss<'a> = dyn Fn(usize, &[&[f32]], &mut [&mut [f32]]) -> Result<f64> + Sync + 'a;

/// A network ready to be trained.
pub struct Engine {
    program: Program,
    slots: Vec<ParamSlot>,
    param_len: usize,
    lanes: usize,
    chunk: usize,
    threads: Arc<dyn Threads>,
    workspaces: Vec<Mutex<Workspace>>,
    sums: Vec<Mutex<Lane>>,
}

/// What a network gets: for each input the values of all samples, row-major with the batch first.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// How many samples.
    pub samples: usize,
    /// The inputs, in the graph's order.
    pub inputs: &'a [&'a [f32]],
}

/// What a lane does with a chunk of its part: the samples from a place on, and how many.
type Work<'a> = dyn Fn(&Program, &mut Workspace, &mut Lane, &mut Part<'_>, usize, usize) -> Result<()> + Sync + 'a;

/// What a lane has found.
#[derive(Default)]
struct Lane {
    gradient: Vec<f32>,
    loss: f64,
    failed: Option<crate::Error>,
}

/// The part of a lane in the buffers of a call.
struct Part<'a> {
    first: usize,
    count: usize,
    inputs: Vec<&'a [f32]>,
    written: Vec<&'a mut [f32]>,
}

impl Engine {
    /// Takes a network as its model built it, and finds the backward sweep by its parameters and by the inputs of the
    /// numbers `inputs`.
    ///
    /// Errors: those of [`gradients`]; `InvalidArgument` for 0 lanes, more than 4096, or a chunk of 0.
    pub fn new(graph: &Graph, inputs: &[usize], threads: Arc<dyn Threads>, options: EngineOptions) -> Result<Self> {
        let EngineOptions { lanes, chunk } = options;
        ensure!((1..=4096).contains(&lanes), InvalidArgument, "{lanes} lanes, expected 1 to 4096");
        ensure!(chunk != Some(0), InvalidArgument, "a chunk of 0 samples, expected at least 1");
        let whole = gradients(graph, inputs)?;
        let mut slots = Vec::new();
        let mut offset = 0usize;
        for p in graph.params() {
            slots.push(ParamSlot { name: p.name.clone(), dims: p.dims, offset });
            offset = offset
                .checked_add(p.dims.elements())
                .ok_or_else(|| err!(OutOfMemory, "the parameters are too many for this machine"))?;
        }
        let largest = whole.graph.nodes().iter().filter(|n| !matches!(n.op, Op::ParamGrad(_)));
        let largest = largest.map(|n| n.ty.dims.elements()).max().unwrap_or(1);
        // A mebibyte for the largest value.
        let chunk = chunk.unwrap_or_else(|| ((1usize << 18) / largest).clamp(1, 256));
        let program = Program::new(graph, whole, inputs.len())?;
        Ok(Self {
            program,
            slots,
            param_len: offset,
            lanes,
            chunk,
            workspaces: (0..threads.count()).map(|_| Mutex::new(Workspace::default())).collect(),
            threads,
            sums: (0..lanes).map(|_| Mutex::new(Lane::default())).collect(),
        })
    }

    /// The parameters in the order of the flat vector.
    pub fn params(&self) -> &[ParamSlot] {
        &self.slots
    }

    /// The length of the flat vector of parameters, and of a gradient.
    pub fn param_len(&self) -> usize {
        self.param_len
    }

    /// The dimensions of the network's inputs, for one sample.
    pub fn inputs(&self) -> &[Dims] {
        &self.program.inputs
    }

    /// The dimensions of the network's outputs, for one sample.
    pub fn outputs(&self) -> &[Dims] {
        &self.program.outputs
    }

    /// Runs the network; outputs are row-major with the batch first.
    ///
    /// Errors: `Shape` if a buffer has the wrong length, `Cancelled`, and what an operation refuses.
    pub fn forward(
        &mut self,
        params: &[f32],
        batch: Batch<'_>,
        outputs: &mut [&mut [f32]],
        cancel: &Cancel,
    ) -> Result<()> {
        let dims = self.program.outputs.clone();
        let parts = self.parts(params, batch, outputs, &dims)?;
        self.run(parts, cancel, &|program, ws, _, part, at, n| {
            program.load(ws, &part.inputs, at, n);
            program.forward(ws, params, n)?;
            for (i, out) in part.written.iter_mut().enumerate() {
                program.output(ws, i, at, n, out);
            }
            Ok(())
        })
        .map(|_| ())
    }

    /// The sum of the losses of a batch; its gradient by the parameters, written to `gradient`; and by the inputs that
    /// the engine was made for, written to `input_gradients`.
    ///
    /// Errors: as [`Engine::forward`], and what the loss refuses.
    pub fn gradients(
        &mut self,
        params: &[f32],
        batch: Batch<'_>,
        loss: &Loss<'_>,
        gradient: &mut [f32],
        input_gradients: &mut [&mut [f32]],
        cancel: &Cancel,
    ) -> Result<f64> {
        let len = self.param_len;
        ensure!(gradient.len() == len, Shape, "the gradient has {} values, expected {len}", gradient.len());
        let dims = self.program.input_gradients.clone();
        let parts = self.parts(params, batch, input_gradients, &dims)?;
        let total = self.run(parts, cancel, &|program, ws, lane, part, at, n| {
            program.load(ws, &part.inputs, at, n);
            program.forward(ws, params, n)?;
            lane.loss += program.loss(ws, n, part.first + at, loss)?;
            program.backward(ws, params, &mut lane.gradient, n)?;
            for (i, out) in part.written.iter_mut().enumerate() {
                program.input_gradient(ws, i, at, n, out);
            }
            Ok(())
        })?;
        self.reduce(gradient, cancel)?;
        Ok(total)
    }

    /// Checks the buffers of a call and cuts them into lanes.
    fn parts<'a>(
        &self,
        params: &[f32],
        Batch { samples: batch, inputs }: Batch<'a>,
        written: &'a mut [&mut [f32]],
        written_dims: &[Dims],
    ) -> Result<Vec<Mutex<Part<'a>>>> {
        let len = self.param_len;
        ensure!(params.len() == len, Shape, "the network got {} parameters, expected {len}", params.len());
        ensure!(batch > 0, InvalidArgument, "the batch is 0, expected at least 1");
        let check = |what: &str, dims: &[Dims], lens: &[usize]| -> Result<()> {
            ensure!(lens.len() == dims.len(), Shape, "{} {what}s, expected {}", lens.len(), dims.len());
            for (i, (d, &n)) in dims.iter().zip(lens).enumerate() {
                let fits = d.elements().checked_mul(batch) == Some(n);
                ensure!(fits, Shape, "{what} {i} has {n} values, expected {batch} times {d}");
            }
            Ok(())
        };
        check("input", self.inputs(), &inputs.iter().map(|x| x.len()).collect::<Vec<_>>())?;
        check("result", written_dims, &written.iter().map(|x| x.len()).collect::<Vec<_>>())?;
        let (per, more) = (batch / self.lanes, batch % self.lanes);
        let mut parts = Vec::new();
        let mut first = 0;
        let mut rest: Vec<&mut [f32]> = written.iter_mut().map(|w| &mut **w).collect();
        for lane in 0..self.lanes {
            let count = per + usize::from(lane < more);
            let mine =
                inputs.iter().zip(self.inputs()).map(|(x, d)| &x[first * d.elements()..][..count * d.elements()]);
            let (head, tail) = rest
                .into_iter()
                .zip(written_dims)
                .map(|(w, d)| w.split_at_mut(count * d.elements()))
                .unzip::<_, _, Vec<_>, Vec<_>>();
            rest = tail;
            parts.push(Mutex::new(Part { first, count, inputs: mine.collect(), written: head }));
            first += count;
        }
        Ok(parts)
    }

    /// Works through all lanes; gives the sum of what they have as their loss.
    fn run(&self, parts: Vec<Mutex<Part<'_>>>, cancel: &Cancel, chunk: &Work<'_>) -> Result<f64> {
        let one = |worker: usize, i: usize| -> Result<()> {
            let (Some(part), Some(lane), Some(ws)) = (parts.get(i), self.sums.get(i), self.workspaces.get(worker))
            else {
                return Err(err!(InvalidArgument, "lane {i} or thread {worker} does not exist"));
            };
            // A lane that failed by panicking was already an error; nothing here is left half made.
            let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
            let mut lane = lane.lock().unwrap_or_else(PoisonError::into_inner);
            let mut ws = ws.lock().unwrap_or_else(PoisonError::into_inner);
            let lane = &mut *lane;
            lane.gradient.clear();
            lane.gradient.resize(self.param_len, 0.0);
            (lane.loss, lane.failed) = (0.0, None);
            let mut at = 0;
            while at < part.count {
                cancel.check()?;
                let n = self.chunk.min(part.count - at);
                self.program.prepare(&mut ws, self.chunk)?;
                if let Err(e) = chunk(&self.program, &mut ws, lane, &mut part, at, n) {
                    lane.failed = Some(e.clone());
                    return Err(e);
                }
                at += n;
            }
            Ok(())
        };
        let workers = self.threads.count().min(self.workspaces.len());
        let done = for_each(&*self.threads, workers, cancel, self.lanes, &one);
        let mut total = 0.0;
        for lane in &self.sums {
            let mut lane = lane.lock().unwrap_or_else(PoisonError::into_inner);
            if let (Err(_), Some(e)) = (&done, lane.failed.take()) {
                return Err(e);
            }
            total += lane.loss;
        }
        done.map(|()| total)
    }

    /// Adds the lanes' gradients in their order.
    fn reduce(&self, gradient: &mut [f32], cancel: &Cancel) -> Result<()> {
        const PIECE: usize = 1 << 15;
        let lanes: Vec<_> = self.sums.iter().map(|l| l.lock().unwrap_or_else(PoisonError::into_inner)).collect();
        let sources: Vec<&[f32]> = lanes.iter().map(|l| l.gradient.as_slice()).collect();
        let pieces: Vec<Mutex<&mut [f32]>> = gradient.chunks_mut(PIECE).map(Mutex::new).collect();
        for_each(&*self.threads, self.threads.count(), cancel, pieces.len(), &|_, i| {
            let Some(piece) = pieces.get(i) else { return Ok(()) };
            let mut piece = piece.lock().unwrap_or_else(PoisonError::into_inner);
            let range = i * PIECE..i * PIECE + piece.len();
            for (l, source) in sources.iter().enumerate() {
                let Some(source) = source.get(range.clone()) else { continue };
                if l == 0 {
                    piece.copy_from_slice(source);
                } else {
                    piece.iter_mut().zip(source).for_each(|(sum, v)| *sum += v);
                }
            }
            Ok(())
        })
    }
}

impl core::fmt::Debug for Engine {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { param_len, lanes, chunk, .. } = self;
        write!(f, "Engine({param_len} parameters, {lanes} lanes, chunks of {chunk})")
    }
}
