//! Shapes of results, and the checks that make a graph well formed.

use alloc::vec::Vec;

#[cfg(feature = "training")]
use super::ParamGrad;
use super::{
    FusedConv, FusedConvAdjoint, FusedNormGrad, Graph, GroupNorm, Kernel, Node, Op, Param, ParamId, ValueType, Window,
};
use crate::error::{Result, ensure, err};
use crate::tensor::Dims;

mod layout;

/// What inference may look at: the argument types and the parameters.
pub(super) struct Context<'a> {
    pub args: &'a [ValueType],
    pub params: &'a [Param],
}

impl Context<'_> {
    fn arg(&self, i: usize) -> Result<Dims> {
        self.args
            .get(i)
            .map(|t| t.dims)
            .ok_or_else(|| err!(InvalidArgument, "argument {i} is missing, got {}", self.args.len()))
    }

    fn exactly(&self, n: usize) -> Result<()> {
        ensure!(self.args.len() == n, InvalidArgument, "{} arguments, expected {n}", self.args.len());
        Ok(())
    }

    fn param(&self, id: ParamId) -> Result<&Param> {
        self.params
            .get(id.index())
            .ok_or_else(|| err!(InvalidArgument, "parameter {} is not of this graph", id.index()))
    }

    fn param_is(&self, id: ParamId, dims: &[usize]) -> Result<()> {
        let p = self.param(id)?;
        ensure!(p.dims.as_slice() == dims, Shape, "parameter {} is {}, expected {dims:?}", p.name, p.dims);
        Ok(())
    }

    /// Checks a kernel for `inputs` channels and gives its output channels.
    fn kernel(&self, k: &Kernel, window: &Window, inputs: usize) -> Result<usize> {
        let p = self.param(k.weight)?;
        let (&out, rest) =
            p.dims.as_slice().split_first().ok_or_else(|| err!(Shape, "parameter {} is empty", p.name))?;
        let [kh, kw] = window.kernel;
        let groups = window.groups;
        ensure!(
            groups > 0 && inputs.is_multiple_of(groups) && out.is_multiple_of(groups),
            Shape,
            "{groups} groups of {inputs} channels to {out}, expected a divisor of both"
        );
        let inputs = inputs / groups;
        let fits = match *rest {
            [i] => window.is_point() && i == inputs,
            [i, 1] if window.is_point() => i == inputs,
            [i, w] => i == inputs && (1, w) == (kh, kw),
            [i, h, w] => i == inputs && (h, w) == (kh, kw),
            _ => false,
        };
        ensure!(fits, Shape, "parameter {} is {}, expected [{out}, {inputs}, {kh}, {kw}]", p.name, p.dims);
        if let Some(b) = k.bias {
            self.param_is(b, &[out])?;
        }
        Ok(out)
    }

    /// Checks the parameters of radial basis functions of `inputs` channels and gives how many there are.
    fn radial_basis(&self, centres: ParamId, widths: ParamId, inputs: usize) -> Result<usize> {
        let p = self.param(centres)?;
        let &[n, d] = p.dims.as_slice() else {
            return Err(err!(Shape, "parameter {} is {}, expected [units, {inputs}]", p.name, p.dims));
        };
        ensure!(d == inputs, Shape, "parameter {} is {}, expected [{n}, {inputs}]", p.name, p.dims);
        self.param_is(widths, &[n])?;
        Ok(n)
    }

    fn norm(&self, n: &GroupNorm, channels: usize) -> Result<()> {
        ensure!(
            n.groups > 0 && channels.is_multiple_of(n.groups),
            Shape,
            "group norm of {channels} channels in {} groups, expected a divisor",
            n.groups
        );
        ensure!(
            n.eps.is_finite() && n.eps >= 0.0,
            InvalidArgument,
            "group norm epsilon is {}, expected at least 0",
            n.eps
        );
        self.param_is(n.weight, &[channels])?;
        self.param_is(n.bias, &[channels])
    }

    /// The type of the first `n` arguments put together along channels.
    fn concat(&self, n: usize) -> Result<Dims> {
        ensure!(n >= 1, InvalidArgument, "nothing to concatenate, expected at least 1 argument");
        let first = self.arg(0)?;
        let mut channels = 0usize;
        for i in 0..n {
            let d = self.arg(i)?;
            ensure!(
                d.as_slice()[1..] == first.as_slice()[1..],
                Shape,
                "argument {i} is {d}, expected the positions of {first}"
            );
            channels = channels.checked_add(d.channels()).ok_or_else(|| err!(Shape, "too many channels"))?;
        }
        with_channels(first, channels)
    }

    fn fused_conv(&self, c: &FusedConv) -> Result<Dims> {
        let (pro, epi) = (&c.prologue, &c.epilogue);
        let joined = self.concat(pro.sources)?;
        let mut next = pro.sources;
        if pro.affine {
            let d = self.arg(next)?;
            ensure!(
                d.as_slice() == [2 * joined.channels()],
                Shape,
                "affine argument is {d}, expected [{}]",
                2 * joined.channels()
            );
            next += 1;
        }
        let shown = if pro.upsample == 1 { joined } else { upsampled(joined, pro.upsample)? };
        let mut out = 0usize;
        for k in &c.kernels {
            out = out.saturating_add(self.kernel(k, &c.window, joined.channels())?);
        }
        let result = if c.window.is_point() { with_channels(shown, out)? } else { windowed(shown, &c.window, out)? };
        if epi.channel {
            let d = self.arg(next)?;
            ensure!(d.as_slice() == [out], Shape, "channel argument is {d}, expected [{out}]");
            next += 1;
        }
        if epi.residual {
            let d = self.arg(next)?;
            ensure!(d == result, Shape, "residual argument is {d}, expected {result}");
            next += 1;
        }
        self.exactly(next)?;
        Ok(result)
    }
}

#[cfg(feature = "training")]
impl Context<'_> {
    /// The dimensions of a parameter's gradient, whose argument dy must be what the operation makes.
    fn param_grad(&self, of: &ParamGrad) -> Result<Dims> {
        let forward = |op: &Op| infer(op, &Context { args: self.args.get(..1).unwrap_or(&[]), params: self.params });
        let (made, dims) = match *of {
            ParamGrad::Bias => {
                self.exactly(1)?;
                return Dims::new(&[self.arg(0)?.channels()]);
            }
            ParamGrad::Weight { window, weight } => {
                ensure!(window.is_plain(), Unsupported, "a convolution with dilation or groups cannot be trained here");
                let kernel = Kernel { weight, bias: None };
                let op = if window.is_point() { Op::Linear(kernel) } else { Op::Conv2d { window, kernel } };
                (forward(&op)?, self.param(weight)?.dims)
            }
            ParamGrad::NormWeight(norm) => (forward(&Op::GroupNorm(norm))?, Dims::new(&[self.arg(0)?.channels()])?),
            ParamGrad::Frequencies { weight, log, flip_sin_to_cos } => {
                (forward(&Op::FourierEmbedding { weight, log, flip_sin_to_cos })?, self.param(weight)?.dims)
            }
            ParamGrad::ElementBias => {
                self.exactly(1)?;
                return self.arg(0);
            }
            ParamGrad::Centres { centres, widths } => {
                (forward(&Op::RadialBasis { centres, widths })?, self.param(centres)?.dims)
            }
            ParamGrad::Widths { centres, widths } => {
                (forward(&Op::RadialBasis { centres, widths })?, self.param(widths)?.dims)
            }
            ParamGrad::Table(table) => (forward(&Op::Embedding { table })?, self.param(table)?.dims),
        };
        self.exactly(2)?;
        let dy = self.arg(1)?;
        ensure!(dy == made, Shape, "the gradient is {dy}, expected {made}");
        Ok(dims)
    }
}

impl Context<'_> {
    fn fused_norm_grad(&self, n: &FusedNormGrad) -> Result<Dims> {
        let x = self.concat(n.sources)?;
        self.norm(&n.norm, x.channels())?;
        let mut next = n.sources;
        if n.modulated {
            for i in [next, next + 1] {
                let d = self.arg(i)?;
                ensure!(d.as_slice() == [x.channels()], Shape, "argument {i} is {d}, expected [{}]", x.channels());
            }
            next += 2;
        }
        for what in ["gradient", "residual"].iter().take(1 + usize::from(n.residual)) {
            let d = self.arg(next)?;
            ensure!(d == x, Shape, "the {what} is {d}, expected {x}");
            next += 1;
        }
        self.exactly(next)?;
        Ok(x)
    }

    fn fused_conv_adjoint(&self, c: &FusedConvAdjoint) -> Result<Dims> {
        let mut out = 0usize;
        for &weight in &c.weights {
            out = out.saturating_add(self.kernel(&Kernel { weight, bias: None }, &c.window, c.dims.channels())?);
        }
        ensure!(out > 0, InvalidArgument, "no weights, expected at least 1");
        let point = c.window.is_point();
        let made = if point { with_channels(c.dims, out)? } else { windowed(c.dims, &c.window, out)? };
        let d = self.arg(0)?;
        ensure!(d == made, Shape, "the argument is {d}, expected {made}, which the map makes of {}", c.dims);
        if c.residual {
            let d = self.arg(1)?;
            ensure!(d == c.dims, Shape, "residual argument is {d}, expected {}", c.dims);
        }
        self.exactly(1 + usize::from(c.residual))?;
        Ok(c.dims)
    }
}

fn with_channels(d: Dims, channels: usize) -> Result<Dims> {
    let mut v: Vec<usize> = d.as_slice().into();
    v[0] = channels;
    Dims::new(&v)
}

fn image(d: Dims) -> Result<[usize; 3]> {
    <[usize; 3]>::try_from(d.as_slice()).map_err(|_| err!(Shape, "the argument is {d}, expected an image [C, H, W]"))
}

fn upsampled(d: Dims, factor: usize) -> Result<Dims> {
    let [c, h, w] = image(d)?;
    ensure!(factor >= 1, InvalidArgument, "upsampling factor is 0, expected at least 1");
    Dims::new(&[c, h.saturating_mul(factor), w.saturating_mul(factor)])
}

fn windowed(d: Dims, window: &Window, out: usize) -> Result<Dims> {
    let [_, h, w] = image(d)?;
    ensure!(
        window.stride >= 1 && window.dilation >= 1,
        InvalidArgument,
        "a window of stride {} and dilation {}, expected at least 1",
        window.stride,
        window.dilation
    );
    let p = window.padding;
    let along = |size: usize, before: usize, after: usize, kernel: usize| {
        size.checked_add(before)
            .and_then(|s| s.checked_add(after))
            .and_then(|s| s.checked_sub(kernel))
            .filter(|_| kernel > 0)
            .map(|s| s / window.stride + 1)
            .ok_or_else(|| {
                err!(Shape, "a kernel of {kernel} does not fit {size} pixels padded by {before} and {after}")
            })
    };
    let [kh, kw] = window.span();
    Dims::new(&[out, along(h, p.top, p.bottom, kh)?, along(w, p.left, p.right, kw)?])
}

/// The dimensions of what `op` makes of these arguments, or why it cannot.
pub(super) fn infer(op: &Op, cx: &Context<'_>) -> Result<Dims> {
    let unary = || cx.exactly(1).and_then(|()| cx.arg(0));
    match op {
        Op::Input(_) => Err(err!(InvalidArgument, "an input has no arguments to infer from")),
        Op::Conv2d { window, kernel } => {
            let d = unary()?;
            let out = cx.kernel(kernel, window, image(d)?[0])?;
            windowed(d, window, out)
        }
        Op::Linear(kernel) => {
            let d = unary()?;
            with_channels(d, cx.kernel(kernel, &Window::POINT, d.channels())?)
        }
        Op::GroupNorm(norm) => {
            let d = unary()?;
            cx.norm(norm, d.channels())?;
            Ok(d)
        }
        Op::Activation(_) | Op::Affine { .. } => unary(),
        Op::Binary(_) => {
            cx.exactly(2)?;
            let (a, b) = (cx.arg(0)?, cx.arg(1)?);
            let fits = b == a || b.as_slice() == [a.channels()] || b.as_slice() == [1];
            ensure!(fits, Shape, "the second argument is {b}, expected {a}, [{}] or [1]", a.channels());
            Ok(a)
        }
        Op::Concat => cx.concat(cx.args.len()),
        &Op::SliceChannels { start, len } => {
            let d = unary()?;
            let fits = len > 0 && start.checked_add(len).is_some_and(|end| end <= d.channels());
            ensure!(fits, Shape, "channels {start} and {len} following are not within {d}");
            with_channels(d, len)
        }
        &Op::UpsampleNearest { factor } => upsampled(unary()?, factor),
        &Op::AveragePool { factor } => {
            let [c, h, w] = image(unary()?)?;
            ensure!(
                factor >= 1 && h >= factor && w >= factor,
                Shape,
                "pooling by {factor} does not fit {h} x {w} pixels"
            );
            Dims::new(&[c, h / factor, w / factor])
        }
        Op::Fir { taps, up, down, pad } => {
            let [c, h, w] = image(unary()?)?;
            ensure!(
                !taps.is_empty() && *up >= 1 && *down >= 1,
                InvalidArgument,
                "a filter needs taps and factors of at least 1"
            );
            let along = |size: usize| {
                size.checked_mul(*up)
                    .and_then(|s| s.checked_add_signed(pad[0]))
                    .and_then(|s| s.checked_add_signed(pad[1]))
                    .and_then(|s| s.checked_sub(taps.len()))
                    .map(|s| s / down + 1)
                    .ok_or_else(|| err!(Shape, "a filter of {} taps does not fit {size} pixels", taps.len()))
            };
            Dims::new(&[c, along(h)?, along(w)?])
        }
        &(Op::Attention { heads } | Op::AttentionBf16 { heads }) => {
            cx.exactly(3)?;
            let (q, k, v) = (cx.arg(0)?, cx.arg(1)?, cx.arg(2)?);
            let fits = heads > 0
                && q.channels().is_multiple_of(heads)
                && v.channels().is_multiple_of(heads)
                && k.channels() == q.channels()
                && k.positions() == v.positions();
            ensure!(fits, Shape, "attention with {heads} heads of q {q}, k {k}, v {v}");
            with_channels(q, v.channels())
        }
        &Op::SinusoidalEmbedding { dim, freq_shift, max_period, .. } => {
            let d = unary()?;
            ensure!(d.as_slice() == [1], Shape, "an embedding of {d}, expected [1]");
            ensure!(
                dim >= 2 && freq_shift.is_finite() && (dim / 2) as f32 != freq_shift && max_period > 0.0,
                InvalidArgument,
                "sinusoidal embedding of size {dim} with freq_shift {freq_shift}, max_period {max_period}"
            );
            Dims::new(&[dim])
        }
        Op::FourierEmbedding { weight, .. } => {
            let d = unary()?;
            ensure!(d.as_slice() == [1], Shape, "an embedding of {d}, expected [1]");
            let p = cx.param(*weight)?;
            ensure!(p.dims.rank() == 1, Shape, "parameter {} is {}, expected one dimension", p.name, p.dims);
            Dims::new(&[p.dims.elements().saturating_mul(2)])
        }
        Op::Embedding { table } => {
            let d = unary()?;
            ensure!(d.as_slice() == [1], Shape, "an embedding of {d}, expected [1]");
            let p = cx.param(*table)?;
            ensure!(p.dims.rank() == 2, Shape, "parameter {} is {}, expected [rows, dim]", p.name, p.dims);
            Dims::new(&p.dims.as_slice()[1..])
        }
        &Op::Reshape { dims } => {
            let d = unary()?;
            ensure!(
                d.elements() == dims.elements(),
                Shape,
                "{d} with {} elements cannot become {dims} with {}",
                d.elements(),
                dims.elements()
            );
            Ok(dims)
        }
        &Op::ElementBias { bias } => {
            let d = unary()?;
            cx.param_is(bias, d.as_slice())?;
            Ok(d)
        }
        &Op::RadialBasis { centres, widths } => {
            let d = unary()?;
            with_channels(d, cx.radial_basis(centres, widths, d.channels())?)
        }
        &Op::NearestRow { table } => {
            let d = unary()?;
            let p = cx.param(table)?;
            let fits = p.dims.rank() == 2 && p.dims.positions() == d.channels();
            ensure!(fits, Shape, "parameter {} is {}, expected [rows, {}]", p.name, p.dims, d.channels());
            Ok(d)
        }
        Op::Softmax => unary(),
        &Op::TemporalBasis { steps, functions, width } => {
            let d = unary()?;
            ensure!(d.as_slice() == [1], Shape, "the basis of {d}, expected a step [1]");
            ensure!(
                steps >= 2 && functions >= 2 && width.is_finite() && width > 0.0,
                InvalidArgument,
                "a basis of {functions} functions over {steps} steps with width {width}, expected at least 2, 2 and above 0"
            );
            Dims::new(&[functions])
        }
        Op::MatVec => {
            cx.exactly(2)?;
            let (m, v) = (cx.arg(0)?, cx.arg(1)?);
            let fits = v.rank() == 1 && m.channels().is_multiple_of(v.elements());
            ensure!(fits, Shape, "a matrix {m} times a vector {v}, expected a divisor of {} channels", m.channels());
            with_channels(m, m.channels() / v.elements())
        }
        Op::Outer => {
            cx.exactly(2)?;
            let (dy, v) = (cx.arg(0)?, cx.arg(1)?);
            ensure!(v.rank() == 1, Shape, "the outer product of {dy} with {v}, expected a vector");
            with_channels(dy, dy.channels().saturating_mul(v.elements()))
        }
        Op::VecMat => {
            cx.exactly(2)?;
            let (m, dy) = (cx.arg(0)?, cx.arg(1)?);
            let fits = m.channels().is_multiple_of(dy.channels()) && m.as_slice().get(1..) == dy.as_slice().get(1..);
            ensure!(
                fits,
                Shape,
                "a vector {dy} times a matrix {m}, expected its positions and a divisor of its channels"
            );
            Dims::new(&[m.channels() / dy.channels()])
        }
        Op::SoftmaxGrad => {
            cx.exactly(2)?;
            let (y, dy) = (cx.arg(0)?, cx.arg(1)?);
            ensure!(y == dy, Shape, "the gradient is {dy}, expected {y}");
            Ok(y)
        }
        &Op::RadialBasisGrad { centres, widths } => {
            cx.exactly(2)?;
            let (x, dy) = (cx.arg(0)?, cx.arg(1)?);
            let made = with_channels(x, cx.radial_basis(centres, widths, x.channels())?)?;
            ensure!(dy == made, Shape, "the gradient is {dy}, expected {made}");
            Ok(x)
        }
        &Op::ConvAdjoint { window, weight, dims } => {
            let d = unary()?;
            let kernel = Kernel { weight, bias: None };
            let out = cx.kernel(&kernel, &window, dims.channels())?;
            let made = if window.is_point() { with_channels(dims, out)? } else { windowed(dims, &window, out)? };
            ensure!(d == made, Shape, "the argument is {d}, expected {made}, which the map makes of {dims}");
            Ok(dims)
        }
        Op::ActivationGrad(_) | Op::GroupNormGrad(_) => {
            cx.exactly(2)?;
            let (x, dy) = (cx.arg(0)?, cx.arg(1)?);
            ensure!(x == dy, Shape, "the gradient is {dy}, expected {x}");
            if let Op::GroupNormGrad(norm) = op {
                cx.norm(norm, x.channels())?;
            }
            Ok(x)
        }
        &Op::AttentionGrad { heads, query_only } => {
            cx.exactly(4)?;
            let (q, k, v, dy) = (cx.arg(0)?, cx.arg(1)?, cx.arg(2)?, cx.arg(3)?);
            let forward = Context { args: &cx.args[..3], params: cx.params };
            let y = infer(&Op::Attention { heads }, &forward)?;
            ensure!(dy == y, Shape, "the gradient is {dy}, expected {y}");
            if query_only {
                return Ok(q);
            }
            ensure!(
                q.positions() == k.positions(),
                Shape,
                "gradients of attention of q {q} and k {k}, expected equal positions"
            );
            with_channels(q, q.channels().saturating_add(k.channels()).saturating_add(v.channels()))
        }
        &Op::PadChannels { before, after } => {
            let d = unary()?;
            with_channels(d, d.channels().saturating_add(before).saturating_add(after))
        }
        Op::SumPositions => Dims::new(&[unary()?.channels()]),
        &Op::GroupNormAffine { ref norm, sources, modulated } => {
            cx.exactly(sources + if modulated { 2 } else { 0 })?;
            let c = cx.concat(sources)?.channels();
            cx.norm(norm, c)?;
            for i in sources..cx.args.len() {
                let d = cx.arg(i)?;
                ensure!(d.as_slice() == [c], Shape, "argument {i} is {d}, expected [{c}]");
            }
            Dims::new(&[2 * c])
        }
        Op::ApplyAffine { .. } => {
            cx.exactly(2)?;
            let (x, ab) = (cx.arg(0)?, cx.arg(1)?);
            ensure!(
                ab.as_slice() == [2 * x.channels()],
                Shape,
                "affine argument is {ab}, expected [{}]",
                2 * x.channels()
            );
            Ok(x)
        }
        Op::FusedConv(c) => cx.fused_conv(c),
        Op::FusedNormGrad(n) => cx.fused_norm_grad(n),
        Op::FusedConvAdjoint(c) => cx.fused_conv_adjoint(c),
        #[cfg(feature = "training")]
        Op::ParamGrad(of) => cx.param_grad(of),
        op => layout::infer(op, cx),
    }
}

/// See [`Graph::flops`].
pub(super) fn flops(g: &Graph, node: &Node) -> u64 {
    let mul = |v: &[usize]| v.iter().fold(2u64, |a, &b| a.saturating_mul(b as u64));
    let kernel = |k: &Kernel| {
        let w = g.param(k.weight).dims;
        mul(&[w.elements(), node.ty.dims.positions()])
    };
    match &node.op {
        Op::Conv2d { kernel: k, .. } | Op::Linear(k) => kernel(k),
        &Op::ConvAdjoint { weight, .. } => {
            mul(&[g.param(weight).dims.elements(), node.args.first().map_or(0, |&a| g.dims(a).positions())])
        }
        Op::FusedConv(c) => c.kernels.iter().map(kernel).sum(),
        Op::FusedConvAdjoint(c) => {
            let positions = node.args.first().map_or(0, |&a| g.dims(a).positions());
            c.weights.iter().map(|&w| mul(&[g.param(w).dims.elements(), positions])).sum()
        }
        Op::Attention { .. } | Op::AttentionBf16 { .. } => {
            let (q, v) = (g.dims(node.args[0]), g.dims(node.args[2]));
            mul(&[q.elements(), v.positions()]) + mul(&[q.positions(), v.elements()])
        }
        Op::MatVec => mul(&[node.args.first().map_or(0, |&m| g.dims(m).elements())]),
        &Op::LinearAttention { heads } => {
            let (q, v) = (g.dims(node.args[0]), g.dims(node.args[2]));
            let d = q.channels() / heads.max(1);
            mul(&[v.elements(), d]) + mul(&[q.positions(), v.channels(), d])
        }
        _ => 0,
    }
}
