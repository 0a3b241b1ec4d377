//! Reverse-mode differentiation as a graph transform: from a network y = f(x, ...) to one that also gives `v^T df/dx`.
//!
//! Guidance methods need this vector-Jacobian product; training needs the same with more inputs. The result is an
//! ordinary graph: it is fused, planned and compiled like any other, and its memory is known before it runs.

use alloc::vec::Vec;

use super::fuse::{fuse, fuse_backward};
use super::plan::most_alive;
use super::rebuild::Rebuild;
use super::recompute::{Again, cuts};
use super::{Binary, Graph, Kernel, Op, ParamId, Role, ValueId, Window};
use crate::error::{Result, ensure, err};
use crate::tensor::Dims;

/// The network of `graph` with one more input, `cotangent`, of the dimensions of output number `output`, and one more
/// output, `gradient`, of the dimensions of input number `input`: the vector-Jacobian product of the cotangent with
/// that output by that input.
///
/// Errors: `InvalidArgument` if there is no such input or output, or the output does not depend on the input;
/// `Unsupported` if an operation between them has no derivative here (it is named).
pub fn vjp(graph: &Graph, output: usize, input: usize) -> Result<Graph> {
    vjp_keeping(graph, output, input, Keep::All)
}

/// What a backward sweep keeps of the forward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Keep {
    /// All that it needs.
    #[default]
    All,
    /// What crosses the cuts between segments of the network; it computes the rest again. The cuts are those, of some,
    /// that leave the fewest values alive at once. The gradient is the same, and so are its bits on the cpu backend, as
    /// the cuts stand between what is fused.
    Fewest,
}

/// As [`vjp`], keeping no more than `keep` says. With [`Keep::Fewest`] the graph of ddpm-cifar10-32 has 0.55 times as
/// many values alive at once, and runs half of the forward pass a second time.
///
/// Errors: as [`vjp`].
pub fn vjp_keeping(graph: &Graph, output: usize, input: usize, keep: Keep) -> Result<Graph> {
    let y = graph
        .outputs()
        .get(output)
        .ok_or_else(|| err!(InvalidArgument, "output {output} of {}", graph.outputs().len()))?
        .value;
    let x = graph
        .inputs()
        .get(input)
        .ok_or_else(|| err!(InvalidArgument, "input {input} of {}", graph.inputs().len()))?
        .value;
    let mut depends = alloc::vec![false; graph.nodes().len()];
    depends[x.index()] = true;
    for id in graph.ids() {
        let through = graph.node(id).args.iter().any(|a| depends[a.index()]);
        depends[id.index()] |= through;
    }
    ensure!(depends[y.index()], InvalidArgument, "output {output} does not depend on input {input}");
    let mut best = sweep(graph, x, y, &depends, None)?;
    if keep == Keep::All {
        return Ok(best);
    }
    let alive = |g: &Graph| -> Result<usize> { Ok(most_alive(&fuse(&fuse_backward(g)?)?)) };
    let mut fewest = alive(&best)?;
    let mut better = |chosen: &[usize]| -> Result<bool> {
        if chosen.is_empty() {
            return Ok(false);
        }
        let candidate = sweep(graph, x, y, &depends, Some(Again::new(graph, &depends, chosen)))?;
        let count = alive(&candidate)?;
        let fewer = count < fewest;
        if fewer {
            (best, fewest) = (candidate, count);
        }
        Ok(fewer)
    };
    // Every cut, every second, every third and so on; then each cut more or less, as long as that helps.
    let all = cuts(graph, &depends);
    let mut chosen = Vec::new();
    for step in 1..=MOST_SKIPPED {
        let some: Vec<usize> = all.iter().copied().step_by(step).collect();
        if better(&some)? {
            chosen = some;
        }
    }
    let mut helped = true;
    while core::mem::take(&mut helped) {
        for cut in all.iter().rev() {
            let mut other = chosen.clone();
            match other.binary_search(cut) {
                Ok(i) => _ = other.remove(i),
                Err(i) => other.insert(i, *cut),
            }
            if better(&other)? {
                (chosen, helped) = (other, true);
            }
        }
    }
    Ok(best)
}

/// The longest segment that is tried, in places where the network can be cut.
const MOST_SKIPPED: usize = 4;

/// The forward pass and then the backward sweep from `y` to `x`.
fn sweep(graph: &Graph, x: ValueId, y: ValueId, depends: &[bool], again: Option<Again>) -> Result<Graph> {
    let mut forward = Rebuild::new(graph);
    for id in graph.ids() {
        forward.copy(id)?;
    }
    let cotangent = forward.new.input_as(Role::Cotangent, "cotangent", graph.dims(y).as_slice())?;
    let gradients = alloc::vec![None; graph.nodes().len()];
    let mut reverse = Reverse { forward, depends: depends.to_vec(), gradients, again };
    reverse.gradients[y.index()] = Some(cotangent);
    for id in graph.ids().rev().filter(|&id| id > x) {
        if let Some(dy) = reverse.gradients[id.index()] {
            reverse.node(id, dy).map_err(|e| e.context(graph.node(id).op.name()))?;
        }
    }
    let gradient =
        reverse.gradients[x.index()].ok_or_else(|| err!(InvalidArgument, "no gradient reaches input {}", x.index()))?;
    let mut forward = reverse.forward;
    forward.outputs()?;
    forward.new.output("gradient", gradient)?;
    forward.new.finish()
}

/// The state of the backward sweep: the gradient collected so far for each value of the old graph.
pub(super) struct Reverse<'a> {
    pub forward: Rebuild<'a>,
    pub depends: Vec<bool>,
    pub gradients: Vec<Option<ValueId>>,
    /// What is computed again, if anything is.
    pub again: Option<Again>,
}

impl Reverse<'_> {
    fn dims(&self, old: ValueId) -> Dims {
        self.forward.old.dims(old)
    }

    pub fn needs(&self, old: ValueId) -> bool {
        self.depends[old.index()]
    }

    pub fn push(&mut self, op: Op, args: &[ValueId]) -> Result<ValueId> {
        self.forward.new.push(op, args)
    }

    /// What an old value became, as the gradient of node `of` sees it.
    fn value(&mut self, of: ValueId, old: ValueId) -> Result<ValueId> {
        match &mut self.again {
            None => self.forward.mapped(old),
            Some(again) => again.value(&mut self.forward, &self.depends, of, old),
        }
    }

    /// Adds `dx` to the gradient of an old value.
    pub fn collect(&mut self, old: ValueId, dx: ValueId) -> Result<()> {
        let sum = match self.gradients[old.index()] {
            Some(so_far) => self.push(Op::Binary(Binary::Add), &[so_far, dx])?,
            None => dx,
        };
        self.gradients[old.index()] = Some(sum);
        Ok(())
    }

    /// Hands the gradient `dy` of a node's value on to those of its arguments that depend on the input.
    pub fn node(&mut self, id: ValueId, dy: ValueId) -> Result<()> {
        let node = self.forward.old.node(id);
        let args = node.args.as_slice();
        if !args.iter().any(|&a| self.needs(a)) {
            return Ok(());
        }
        let arg = |i: usize| args.get(i).copied().ok_or_else(|| err!(InvalidArgument, "argument {i} is missing"));
        match &node.op {
            &Op::Conv2d { window, ref kernel } => self.conv(arg(0)?, window, kernel.weight, dy),
            Op::Linear(kernel) => self.conv(arg(0)?, Window::POINT, kernel.weight, dy),
            Op::GroupNorm(norm) => self.with_input(id, arg(0)?, Op::GroupNormGrad(*norm), dy),
            &Op::Activation(f) => self.with_input(id, arg(0)?, Op::ActivationGrad(f), dy),
            &Op::Affine { scale, .. } => {
                let dx = self.push(Op::Affine { scale, shift: 0.0 }, &[dy])?;
                self.collect(arg(0)?, dx)
            }
            &Op::Binary(f) => self.binary(id, f, arg(0)?, arg(1)?, dy),
            Op::Concat => {
                let mut start = 0;
                for &a in args {
                    let len = self.dims(a).channels();
                    if self.needs(a) {
                        let dx = self.push(Op::SliceChannels { start, len }, &[dy])?;
                        self.collect(a, dx)?;
                    }
                    start += len;
                }
                Ok(())
            }
            &Op::SliceChannels { start, len } => {
                let after = self.dims(arg(0)?).channels() - start - len;
                let dx = self.push(Op::PadChannels { before: start, after }, &[dy])?;
                self.collect(arg(0)?, dx)
            }
            &Op::PadChannels { before, .. } => {
                let len = self.dims(arg(0)?).channels();
                self.with(arg(0)?, Op::SliceChannels { start: before, len }, dy)
            }
            &Op::UpsampleNearest { factor } => {
                let mean = self.push(Op::AveragePool { factor }, &[dy])?;
                let dx = self.push(Op::Affine { scale: (factor * factor) as f32, shift: 0.0 }, &[mean])?;
                self.collect(arg(0)?, dx)
            }
            &Op::AveragePool { factor } => {
                // Inserting zeros and filtering with ones repeats pixels, and pads the edge that pooling dropped.
                let taps = alloc::vec![1.0 / factor as f32; factor];
                self.fir_adjoint(arg(0)?, id, &taps, [1, factor], [0, 0], dy)
            }
            Op::Fir { taps, up, down, pad } => self.fir_adjoint(arg(0)?, id, taps, [*up, *down], *pad, dy),
            &Op::Attention { heads } => self.attention(id, heads, [arg(0)?, arg(1)?, arg(2)?], dy),
            Op::Reshape { .. } => {
                let dx = self.push(Op::Reshape { dims: self.dims(arg(0)?) }, &[dy])?;
                self.collect(arg(0)?, dx)
            }
            Op::ElementBias { .. } | Op::NearestRow { .. } => self.collect(arg(0)?, dy),
            &Op::RadialBasis { centres, widths } => {
                self.with_input(id, arg(0)?, Op::RadialBasisGrad { centres, widths }, dy)
            }
            Op::Softmax => {
                let y = self.value(id, id)?;
                let dx = self.push(Op::SoftmaxGrad, &[y, dy])?;
                self.collect(arg(0)?, dx)
            }
            Op::MatVec => self.mat_vec(id, arg(0)?, arg(1)?, dy),
            &Op::ConvAdjoint { window, weight, .. } => {
                let kernel = Kernel { weight, bias: None };
                let op = if window.is_point() { Op::Linear(kernel) } else { Op::Conv2d { window, kernel } };
                self.with(arg(0)?, op, dy)
            }
            Op::ChannelNorm(norm) => self.with_input(id, arg(0)?, Op::ChannelNormGrad(*norm), dy),
            &Op::MaxPool(window) => self.with_input(id, arg(0)?, Op::MaxPoolGrad(window), dy),
            &Op::DepthToSpace { factor, blocks_first } => {
                self.with(arg(0)?, Op::SpaceToDepth { factor, blocks_first }, dy)
            }
            &Op::SpaceToDepth { factor, blocks_first } => {
                self.with(arg(0)?, Op::DepthToSpace { factor, blocks_first }, dy)
            }
            &Op::ReflectPad(p) => self.with(arg(0)?, Op::ReflectPadAdjoint(p), dy),
            &Op::ReflectPadAdjoint(p) => self.with(arg(0)?, Op::ReflectPad(p), dy),
            &Op::ShuffleChannels { rows, columns } => {
                self.with(arg(0)?, Op::ShuffleChannels { rows: columns, columns: rows }, dy)
            }
            Op::ConcatPositions => {
                let mut start = 0;
                for &a in args {
                    let len = self.dims(a).positions();
                    if self.needs(a) {
                        self.positions(a, Op::SlicePositions { start, len }, dy)?;
                    }
                    start += len;
                }
                Ok(())
            }
            &Op::SlicePositions { start, len } => {
                let after = self.dims(arg(0)?).positions() - start - len;
                self.positions(arg(0)?, Op::PadPositions { before: start, after }, dy)
            }
            &Op::PadPositions { before, .. } => {
                let len = self.dims(arg(0)?).positions();
                self.positions(arg(0)?, Op::SlicePositions { start: before, len }, dy)
            }
            &Op::LinearAttention { heads } => {
                let stacked = Op::LinearAttentionGrad { heads };
                self.stacked(id, stacked, [arg(0)?, arg(1)?, arg(2)?], dy)
            }
            op => Err(err!(Unsupported, "{} has no derivative by a network input here", op.name())),
        }
    }

    fn conv(&mut self, x: ValueId, window: Window, weight: ParamId, dy: ValueId) -> Result<()> {
        let dx = self.push(Op::ConvAdjoint { window, weight, dims: self.dims(x) }, &[dy])?;
        self.collect(x, dx)
    }

    /// An operation whose gradient is a function of dy alone.
    fn with(&mut self, x: ValueId, op: Op, dy: ValueId) -> Result<()> {
        let dx = self.push(op, &[dy])?;
        self.collect(x, dx)
    }

    /// A gradient that comes as positions in a row, for a value that may be an image.
    fn positions(&mut self, x: ValueId, op: Op, dy: ValueId) -> Result<()> {
        let mut dx = self.push(op, &[dy])?;
        let dims = self.dims(x);
        if dims.rank() != 2 {
            dx = self.push(Op::Reshape { dims }, &[dx])?;
        }
        self.collect(x, dx)
    }

    /// An operation whose gradient is a function of its input and of dy.
    fn with_input(&mut self, of: ValueId, x: ValueId, op: Op, dy: ValueId) -> Result<()> {
        let input = self.value(of, x)?;
        let dx = self.push(op, &[input, dy])?;
        self.collect(x, dx)
    }

    fn binary(&mut self, of: ValueId, f: Binary, a: ValueId, b: ValueId, dy: ValueId) -> Result<()> {
        if self.needs(a) {
            let da = match f {
                Binary::Add => dy,
                Binary::Mul | Binary::Div => {
                    let by = self.value(of, b)?;
                    self.push(Op::Binary(f), &[dy, by])?
                }
            };
            self.collect(a, da)?;
        }
        if self.needs(b) {
            let full = match f {
                Binary::Add => dy,
                Binary::Mul => {
                    let by = self.value(of, a)?;
                    self.push(Op::Binary(Binary::Mul), &[dy, by])?
                }
                Binary::Div => {
                    let (a, by) = (self.value(of, a)?, self.value(of, b)?);
                    let y = self.push(Op::Binary(Binary::Div), &[a, by])?;
                    let y = self.push(Op::Binary(Binary::Div), &[y, by])?;
                    let minus = self.push(Op::Affine { scale: -1.0, shift: 0.0 }, &[y])?;
                    self.push(Op::Binary(Binary::Mul), &[minus, dy])?
                }
            };
            let (da, db) = (self.dims(a), self.dims(b));
            let db = if da == db {
                full
            } else {
                let by_channel = self.push(Op::SumPositions, &[full])?;
                if db.as_slice() == [da.channels()] {
                    by_channel
                } else {
                    // One value for all channels: they become positions, to be summed too.
                    let row = self.push(Op::Reshape { dims: Dims::new(&[1, da.channels()])? }, &[by_channel])?;
                    self.push(Op::SumPositions, &[row])?
                }
            };
            self.collect(b, db)?;
        }
        Ok(())
    }

    /// The adjoint of [`Op::Fir`] from `x` to `y`: the same with the taps reversed, the factors `[up, down]` exchanged,
    /// and paddings that give back the size of x.
    fn fir_adjoint(
        &mut self,
        x: ValueId,
        y: ValueId,
        taps: &[f32],
        [up, down]: [usize; 2],
        pad: [isize; 2],
        dy: ValueId,
    ) -> Result<()> {
        let (from, to) = (self.dims(y), self.dims(x));
        let along = |axis: usize| -> Result<[isize; 2]> {
            let (from, to, n) = (from.as_slice()[axis] as isize, to.as_slice()[axis] as isize, taps.len() as isize);
            let before = n - 1 - pad[0];
            Ok([before, (to - 1) * up as isize + n - from * down as isize - before])
        };
        let (rows, columns) = (along(1)?, along(2)?);
        ensure!(
            rows == columns,
            Unsupported,
            "the filter of a {to} image has no derivative here, expected equal sides"
        );
        let reversed = taps.iter().rev().copied().collect();
        let dx = self.push(Op::Fir { taps: reversed, up: down, down: up, pad: rows }, &[dy])?;
        self.collect(x, dx)
    }

    fn mat_vec(&mut self, of: ValueId, m: ValueId, v: ValueId, dy: ValueId) -> Result<()> {
        if self.needs(m) {
            let by = self.value(of, v)?;
            let dm = self.push(Op::Outer, &[dy, by])?;
            self.collect(m, dm)?;
        }
        if self.needs(v) {
            let by = self.value(of, m)?;
            let dv = self.push(Op::VecMat, &[by, dy])?;
            self.collect(v, dv)?;
        }
        Ok(())
    }

    fn attention(&mut self, of: ValueId, heads: usize, [q, k, v]: [ValueId; 3], dy: ValueId) -> Result<()> {
        let query_only = !self.needs(k) && !self.needs(v);
        if query_only {
            let args = [self.value(of, q)?, self.value(of, k)?, self.value(of, v)?, dy];
            let dx = self.push(Op::AttentionGrad { heads, query_only }, &args)?;
            return self.collect(q, dx);
        }
        self.stacked(of, Op::AttentionGrad { heads, query_only }, [q, k, v], dy)
    }

    /// Attention of some kind, whose gradients by q, k and v come stacked along channels.
    fn stacked(&mut self, of: ValueId, grad: Op, qkv: [ValueId; 3], dy: ValueId) -> Result<()> {
        let [q, k, v] = qkv;
        let (queries, keys) = (self.dims(q).positions(), self.dims(k).positions());
        ensure!(
            queries <= keys,
            Unsupported,
            "attention of {queries} queries to {keys} keys that depend on the input has no derivative here, expected as many keys"
        );
        let mut args = [self.value(of, q)?, self.value(of, k)?, self.value(of, v)?, dy];
        if queries < keys {
            // Queries whose result has no cotangent add nothing to the gradients by k and v.
            for i in [0, 3] {
                args[i] = self.push(Op::PadPositions { before: 0, after: keys - queries }, &[args[i]])?;
            }
        }
        let stacked = self.push(grad, &args)?;
        let mut start = 0;
        for x in qkv {
            let len = self.dims(x).channels();
            if self.needs(x) {
                let mut dx = self.push(Op::SliceChannels { start, len }, &[stacked])?;
                if x == q && queries < keys {
                    dx = self.push(Op::SlicePositions { start: 0, len: queries }, &[dx])?;
                }
                let dims = self.dims(x);
                if self.forward.new.dims(dx)? != dims {
                    dx = self.push(Op::Reshape { dims }, &[dx])?;
                }
                self.collect(x, dx)?;
            }
            start += len;
        }
        Ok(())
    }
}
