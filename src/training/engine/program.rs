//! A network and its backward sweep as steps over buffers that values share.

use alloc::vec::Vec;

use super::value::{Value, gather, scatter};
use super::{Loss, attention, basis, conv, elementwise, embed, norm, param, resample};
use crate::backend::cpu::isa::Isa;
use crate::error::{Result, err};
use crate::graph::gradients::Gradients;
use crate::graph::{Graph, Node, Op, ParamId, ValueId, Window};
use crate::tensor::Dims;

/// What one thread works in.
#[derive(Default)]
pub(super) struct Workspace {
    buffers: Vec<Vec<f32>>,
    /// For whatever a step needs.
    scratch: Vec<f32>,
    /// Outputs and cotangents of the network as rows of samples.
    rows: Vec<Vec<f32>>,
}

/// The steps.
pub(super) struct Program {
    graph: Graph,
    isa: Isa,
    /// The nodes before this one are the network's own.
    network_len: usize,
    /// For each node that makes a value: its buffer.
    buffer: Vec<usize>,
    /// Elements of each buffer, for one sample.
    sizes: Vec<usize>,
    /// For each node: the range of the flat gradient to which it adds, if it is the gradient of a parameter.
    target: Vec<Option<core::ops::Range<usize>>>,
    ranges: Vec<core::ops::Range<usize>>,
    pub inputs: Vec<Dims>,
    pub outputs: Vec<Dims>,
    pub input_gradients: Vec<Dims>,
}

impl Program {
    /// Takes the network, it with its backward sweep, and by how many inputs that differentiates.
    pub fn new(network: &Graph, whole: Gradients, by_inputs: usize) -> Result<Self> {
        let graph = whole.graph;
        let (nodes, outputs) = (graph.nodes(), network.outputs().len());
        let mut ranges = Vec::new();
        let mut at = 0;
        for p in graph.params() {
            ranges.push(at..at + p.dims.elements());
            at += p.dims.elements();
        }
        let mut target = alloc::vec![None; nodes.len()];
        for (port, id) in graph.outputs().iter().skip(outputs + by_inputs).zip(&whole.params) {
            target[port.value.index()] = ranges.get(id.index()).cloned();
        }
        // The time at which each value is read last.
        let mut last: Vec<usize> = (0..nodes.len()).collect();
        for (i, node) in nodes.iter().enumerate() {
            node.args.iter().for_each(|a| last[a.index()] = i);
        }
        for port in network.outputs() {
            // Read when the loss is computed, between the two sweeps.
            last[port.value.index()] = last[port.value.index()].max(network.nodes().len());
        }
        for port in graph.inputs().iter().skip(network.inputs().len()) {
            // Written at that time, all together.
            let id = port.value.index();
            last[id] = last[id].max(network.nodes().len() + outputs);
        }
        for port in graph.outputs().iter().skip(outputs).take(by_inputs) {
            last[port.value.index()] = nodes.len();
        }
        let (mut buffer, mut sizes, mut busy) = (Vec::new(), Vec::<usize>::new(), Vec::<usize>::new());
        for (i, node) in nodes.iter().enumerate() {
            let size = if target[i].is_some() { 0 } else { node.ty.dims.elements() };
            let inputs_first = matches!(node.op, Op::Input(_));
            // Inputs are all written before the first step, so none may stand where another value was.
            let free = (0..sizes.len()).filter(|&b| busy[b] < i && !inputs_first);
            let found = free.min_by_key(|&b| (sizes[b] < size, sizes[b].abs_diff(size)));
            let b = found.unwrap_or_else(|| {
                sizes.push(0);
                busy.push(0);
                sizes.len() - 1
            });
            sizes[b] = sizes[b].max(size);
            busy[b] = last[i];
            buffer.push(b);
        }
        let dims = |ports: &[crate::graph::Port]| ports.iter().map(|p| graph.dims(p.value)).collect::<Vec<_>>();
        let (all_in, all_out) = (dims(graph.inputs()), dims(graph.outputs()));
        Ok(Self {
            isa: Isa::best(),
            network_len: network.nodes().len(),
            buffer,
            sizes,
            target,
            ranges,
            inputs: all_in.into_iter().take(network.inputs().len()).collect(),
            outputs: all_out.iter().take(outputs).copied().collect(),
            input_gradients: all_out.into_iter().skip(outputs).take(by_inputs).collect(),
            graph,
        })
    }

    /// Makes the buffers of a workspace for chunks of `chunk` samples.
    pub fn prepare(&self, ws: &mut Workspace, chunk: usize) -> Result<()> {
        ws.buffers.resize(self.sizes.len(), Vec::new());
        for (buffer, &size) in ws.buffers.iter_mut().zip(&self.sizes) {
            let len = size.checked_mul(chunk).ok_or_else(|| err!(OutOfMemory, "a chunk of {chunk} is too large"))?;
            if buffer.len() < len {
                buffer
                    .try_reserve_exact(len - buffer.len())
                    .map_err(|_| err!(OutOfMemory, "no memory for a chunk of {chunk} samples"))?;
                buffer.resize(len, 0.0);
            }
        }
        Ok(())
    }

    /// Brings `n` samples, from `at` on, of rows of inputs into their buffers.
    pub fn load(&self, ws: &mut Workspace, inputs: &[&[f32]], at: usize, n: usize) {
        for ((port, rows), dims) in self.graph.inputs().iter().zip(inputs).zip(&self.inputs) {
            let size = dims.elements();
            let to = &mut ws.buffers[self.buffer[port.value.index()]];
            gather(&rows[at * size..][..n * size], *dims, n, &mut to[..n * size]);
        }
    }

    /// The network's own nodes.
    pub fn forward(&self, ws: &mut Workspace, params: &[f32], n: usize) -> Result<()> {
        for id in self.graph.ids().take(self.network_len) {
            self.step(ws, id, params, &mut [], n)?;
        }
        Ok(())
    }

    /// The backward sweep, after [`Program::loss`].
    pub fn backward(&self, ws: &mut Workspace, params: &[f32], gradient: &mut [f32], n: usize) -> Result<()> {
        for id in self.graph.ids().skip(self.network_len) {
            self.step(ws, id, params, gradient, n)?;
        }
        Ok(())
    }

    /// Writes output number `i` of `n` samples from row `at` on.
    pub fn output(&self, ws: &Workspace, i: usize, at: usize, n: usize, rows: &mut [f32]) {
        if let Some(port) = self.graph.outputs().get(i) {
            let value = self.value(ws, port.value, n);
            let size = value.dims.elements();
            scatter(value.data, value.dims, n, &mut rows[at * size..][..n * size]);
        }
    }

    /// The same of the gradient by the input that stands at place `i` of those asked for.
    pub fn input_gradient(&self, ws: &Workspace, i: usize, at: usize, n: usize, rows: &mut [f32]) {
        self.output(ws, self.outputs.len() + i, at, n, rows);
    }

    /// Asks the loss for its value and brings the cotangents into their buffers.
    pub fn loss(&self, ws: &mut Workspace, n: usize, first: usize, loss: &Loss<'_>) -> Result<f64> {
        let count = self.outputs.len();
        let mut rows = core::mem::take(&mut ws.rows);
        rows.resize(2 * count, Vec::new());
        let (outputs, cotangents) = rows.split_at_mut(count);
        for (i, ((y, dy), dims)) in outputs.iter_mut().zip(&mut *cotangents).zip(&self.outputs).enumerate() {
            y.resize(n * dims.elements(), 0.0);
            dy.clear();
            dy.resize(n * dims.elements(), 0.0);
            self.output(ws, i, 0, n, y);
        }
        let y: Vec<&[f32]> = outputs.iter().map(Vec::as_slice).collect();
        let mut dy: Vec<&mut [f32]> = cotangents.iter_mut().map(Vec::as_mut_slice).collect();
        let value = loss(first, &y, &mut dy)?;
        for ((port, dy), dims) in
            self.graph.inputs().iter().skip(self.inputs.len()).zip(&*cotangents).zip(&self.outputs)
        {
            let to = &mut ws.buffers[self.buffer[port.value.index()]];
            gather(dy, *dims, n, &mut to[..n * dims.elements()]);
        }
        ws.rows = rows;
        Ok(value)
    }

    fn value<'w>(&self, ws: &'w Workspace, id: ValueId, n: usize) -> Value<'w> {
        let dims = self.graph.dims(id);
        Value { data: &ws.buffers[self.buffer[id.index()]][..n * dims.elements()], dims, batch: n }
    }

    fn step(&self, ws: &mut Workspace, id: ValueId, params: &[f32], gradient: &mut [f32], n: usize) -> Result<()> {
        let node = self.graph.node(id);
        if matches!(node.op, Op::Input(_)) {
            return Ok(());
        }
        let mut scratch = core::mem::take(&mut ws.scratch);
        let args = |ws| -> Vec<Value<'_>> { node.args.iter().map(|&a| self.value(ws, a, n)).collect() };
        let done = if let (Op::ParamGrad(of), Some(range)) = (&node.op, &self.target[id.index()]) {
            let to = gradient.get_mut(range.clone()).unwrap_or_default();
            let frequencies = |id: ParamId| self.param(params, id);
            param::add(self.isa, of, &args(ws), to, &frequencies, &mut scratch)
        } else {
            let b = self.buffer[id.index()];
            let mut out = core::mem::take(&mut ws.buffers[b]);
            let done = self.node(node, &args(ws), params, &mut out[..n * node.ty.dims.elements()], &mut scratch);
            ws.buffers[b] = out;
            done
        };
        ws.scratch = scratch;
        done.map_err(|e| e.context(node.op.name()))
    }

    fn param<'p>(&self, params: &'p [f32], id: ParamId) -> &'p [f32] {
        self.ranges.get(id.index()).and_then(|r| params.get(r.clone())).unwrap_or_default()
    }

    fn node(
        &self,
        node: &Node,
        args: &[Value<'_>],
        params: &[f32],
        out: &mut [f32],
        scratch: &mut Vec<f32>,
    ) -> Result<()> {
        let param = |id: ParamId| self.param(params, id);
        let dims = node.ty.dims;
        let arg = |i: usize| args.get(i).copied().ok_or_else(|| err!(InvalidArgument, "argument {i} is missing"));
        let x = arg(0)?;
        let batch = x.batch;
        match node.op {
            Op::Conv2d { window, kernel } => {
                let bias = kernel.bias.map(param);
                conv::forward(self.isa, x, (param(kernel.weight), bias), &window, dims, out, scratch)
            }
            Op::Linear(kernel) => {
                let bias = kernel.bias.map(param);
                conv::forward(self.isa, x, (param(kernel.weight), bias), &Window::POINT, dims, out, scratch)
            }
            Op::ConvAdjoint { window, weight, .. } => {
                conv::adjoint(self.isa, x, param(weight), &window, dims, out, scratch)
            }
            Op::GroupNorm(n) => {
                norm::forward(x, &n, param(n.weight), param(n.bias), out);
                Ok(())
            }
            Op::GroupNormGrad(n) => {
                norm::backward(x, arg(1)?, &n, param(n.weight), out);
                Ok(())
            }
            Op::Attention { heads } => attention::forward([x, arg(1)?, arg(2)?], heads, out, scratch),
            Op::AttentionGrad { heads, query_only } => {
                attention::backward([x, arg(1)?, arg(2)?], arg(3)?, heads, query_only, out, scratch)
            }
            Op::SinusoidalEmbedding { .. }
            | Op::FourierEmbedding { .. }
            | Op::Embedding { .. }
            | Op::TemporalBasis { .. } => embed::forward(&node.op, x, &param, out),
            Op::UpsampleNearest { factor } => {
                resample::upsample(x, factor, out);
                Ok(())
            }
            Op::AveragePool { factor } => {
                resample::average_pool(x, factor, dims, out);
                Ok(())
            }
            Op::Fir { ref taps, up, down, pad } => {
                resample::fir(x, taps, [up, down], pad, dims, out);
                Ok(())
            }
            Op::RadialBasis { centres, widths } => {
                basis::radial(x, param(centres), param(widths), out);
                Ok(())
            }
            Op::RadialBasisGrad { centres, widths } => {
                basis::radial_backward(x, arg(1)?, param(centres), param(widths), out);
                Ok(())
            }
            Op::ElementBias { bias } => {
                for (i, (y, x)) in
                    out.chunks_exact_mut(x.positions()).zip(x.data.chunks_exact(x.positions())).enumerate()
                {
                    let bias = &param(bias)[i / batch * x.len()..];
                    y.iter_mut().zip(x).zip(bias).for_each(|((y, x), b)| *y = x + b);
                }
                Ok(())
            }
            Op::Reshape { .. } => {
                elementwise::reshape(x, dims, out);
                Ok(())
            }
            ref op if basis::run(self.isa, op, args, out, scratch) => Ok(()),
            ref op => elementwise::run(self.isa, op, args, out),
        }
    }
}
