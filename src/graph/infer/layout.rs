//! Shapes of what moves values about, of norms at a position, of pooling and of linear attention.

use super::{Context, image, windowed, with_channels};
use crate::error::{Result, ensure, err};
use crate::graph::{ChannelNorm, Op};
use crate::tensor::Dims;

impl Context<'_> {
    fn channel_norm(&self, n: &ChannelNorm, channels: usize) -> Result<()> {
        ensure!(
            n.groups > 0 && channels.is_multiple_of(n.groups),
            Shape,
            "a norm of {channels} channels in {} groups, expected a divisor",
            n.groups
        );
        ensure!(n.eps.is_finite() && n.eps >= 0.0, InvalidArgument, "epsilon is {}, expected at least 0", n.eps);
        for id in n.weight.into_iter().chain(n.bias) {
            let p = self.param(id)?;
            let fits = [channels, channels / n.groups].contains(&p.dims.elements());
            ensure!(fits, Shape, "parameter {} is {}, expected [{channels}]", p.name, p.dims);
        }
        Ok(())
    }

    /// The dimensions of q with v's channels.
    fn linear_attention(&self, heads: usize) -> Result<Dims> {
        let (q, k, v) = (self.arg(0)?, self.arg(1)?, self.arg(2)?);
        let fits = heads > 0
            && q.channels().is_multiple_of(heads)
            && v.channels().is_multiple_of(heads)
            && k.channels() == q.channels()
            && k.positions() == v.positions();
        ensure!(fits, Shape, "linear attention with {heads} heads of q {q}, k {k}, v {v}");
        with_channels(q, v.channels())
    }
}

/// Factors that are no zeros, and their product.
fn block([fh, fw]: [usize; 2]) -> Result<usize> {
    fh.checked_mul(fw).filter(|&n| n > 0).ok_or_else(|| err!(InvalidArgument, "blocks of {fh} x {fw} pixels"))
}

/// Positions in a row.
fn positions(channels: usize, n: usize) -> Result<Dims> {
    Dims::new(&[channels, n])
}

pub(super) fn infer(op: &Op, cx: &Context<'_>) -> Result<Dims> {
    let unary = || cx.exactly(1).and_then(|()| cx.arg(0));
    match op {
        &Op::Parameter { param, dims } => {
            cx.exactly(0)?;
            let p = cx.param(param)?;
            let fits = p.dims.elements() == dims.elements();
            ensure!(fits, Shape, "parameter {} is {}, expected the elements of {dims}", p.name, p.dims);
            Ok(dims)
        }
        &Op::PositionEmbedding { dims, scale } => {
            cx.exactly(0)?;
            ensure!(
                dims[0].is_multiple_of(4) && scale.is_finite(),
                InvalidArgument,
                "a position embedding of {} channels, scale {scale}, expected a multiple of 4 and a finite scale",
                dims[0]
            );
            Dims::new(&dims)
        }
        &Op::OneHot { classes } => {
            let d = unary()?;
            ensure!(d.as_slice() == [1], Shape, "a class of {d}, expected [1]");
            Dims::new(&[classes])
        }
        Op::ChannelNorm(n) => {
            let d = unary()?;
            cx.channel_norm(n, d.channels())?;
            Ok(d)
        }
        Op::ChannelNormGrad(n) => {
            cx.exactly(2)?;
            let (x, dy) = (cx.arg(0)?, cx.arg(1)?);
            ensure!(x == dy, Shape, "the gradient is {dy}, expected {x}");
            cx.channel_norm(n, x.channels())?;
            Ok(x)
        }
        &Op::DepthToSpace { factor, .. } => {
            let [c, h, w] = image(unary()?)?;
            let n = block(factor)?;
            ensure!(c.is_multiple_of(n), Shape, "{c} channels, expected a multiple of {n}");
            Dims::new(&[c / n, h.saturating_mul(factor[0]), w.saturating_mul(factor[1])])
        }
        &Op::SpaceToDepth { factor, .. } => {
            let [c, h, w] = image(unary()?)?;
            let n = block(factor)?;
            let fits = h.is_multiple_of(factor[0]) && w.is_multiple_of(factor[1]);
            ensure!(fits, Shape, "{h} x {w} pixels, expected multiples of {} and {}", factor[0], factor[1]);
            Dims::new(&[c.saturating_mul(n), h / factor[0], w / factor[1]])
        }
        &Op::ReflectPad(p) | &Op::ReflectPadAdjoint(p) => {
            let d = unary()?;
            let [c, h, w] = image(d)?;
            let adjoint = matches!(op, Op::ReflectPadAdjoint(_));
            let side = |n: usize, before: usize, after: usize| {
                let pads = before.checked_add(after)?;
                let inside = if adjoint { n.checked_sub(pads)? } else { n };
                let fits = before.max(after) < inside;
                fits.then_some(if adjoint { inside } else { n.checked_add(pads)? })
            };
            let sides = side(h, p.top, p.bottom).zip(side(w, p.left, p.right));
            let (h, w) = sides.ok_or_else(|| err!(Shape, "{d} padded by {p:?}, expected less than its sides"))?;
            Dims::new(&[c, h, w])
        }
        &Op::ShuffleChannels { rows, columns } => {
            let d = unary()?;
            let n = rows.checked_mul(columns).filter(|&n| n > 0 && d.channels().is_multiple_of(n));
            ensure!(n.is_some(), Shape, "{} channels as {rows} x {columns} runs", d.channels());
            Ok(d)
        }
        Op::ConcatPositions => {
            let first = cx.arg(0)?;
            let mut n = 0usize;
            for i in 0..cx.args.len() {
                let d = cx.arg(i)?;
                ensure!(
                    d.channels() == first.channels(),
                    Shape,
                    "argument {i} is {d}, expected the channels of {first}"
                );
                n = n.saturating_add(d.positions());
            }
            positions(first.channels(), n)
        }
        &Op::SlicePositions { start, len } => {
            let d = unary()?;
            let fits = len > 0 && start.checked_add(len).is_some_and(|end| end <= d.positions());
            ensure!(fits, Shape, "positions {start} and {len} following are not within {d}");
            positions(d.channels(), len)
        }
        &Op::PadPositions { before, after } => {
            let d = unary()?;
            positions(d.channels(), d.positions().saturating_add(before).saturating_add(after))
        }
        Op::MaxPool(window) => {
            let d = unary()?;
            // Each window then holds at least one pixel.
            let (p, [kh, kw]) = (window.padding, window.kernel);
            let fits = window.is_plain() && p.top.max(p.bottom) < kh && p.left.max(p.right) < kw;
            ensure!(fits, Shape, "pooling by {window:?}, expected padding below the kernel, no dilation and no groups");
            windowed(d, window, d.channels())
        }
        &Op::MaxPoolGrad(window) => {
            cx.exactly(2)?;
            let (x, dy) = (cx.arg(0)?, cx.arg(1)?);
            let y = infer(&Op::MaxPool(window), &Context { args: &cx.args[..1], params: cx.params })?;
            ensure!(dy == y, Shape, "the gradient is {dy}, expected {y}");
            Ok(x)
        }
        &Op::LinearAttention { heads } => {
            cx.exactly(3)?;
            cx.linear_attention(heads)
        }
        &Op::LinearAttentionGrad { heads } => {
            cx.exactly(4)?;
            let (y, dy, q, k, v) = (cx.linear_attention(heads)?, cx.arg(3)?, cx.arg(0)?, cx.arg(1)?, cx.arg(2)?);
            ensure!(dy == y, Shape, "the gradient is {dy}, expected {y}");
            let fits = q.positions() == k.positions();
            ensure!(fits, Shape, "gradients of linear attention of q {q} and k {k}, expected equal positions");
            with_channels(q, q.channels().saturating_add(k.channels()).saturating_add(v.channels()))
        }
        op => Err(err!(Unsupported, "{} has no shape here", op.name())),
    }
}
