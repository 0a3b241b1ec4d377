//! What works element by element or moves channels.

use super::value::Value;
use crate::backend::cpu::isa::Isa;
use crate::backend::cpu::vmath;
use crate::error::{Result, err};
use crate::graph::{Activation, Binary, Op};
use crate::tensor::Dims;

/// Runs one of the operations of this file. Others are `Unsupported`: the fused ones, which no model is built of.
pub(super) fn run(isa: Isa, op: &Op, args: &[Value<'_>], out: &mut [f32]) -> Result<()> {
    match (op, args) {
        (&Op::Activation(f), [x]) => activate(isa, f, x.data, out),
        (&Op::ActivationGrad(f), [x, dy]) => slope(isa, f, x.data, dy.data, out),
        (&Op::Affine { scale, shift }, [x]) => {
            out.iter_mut().zip(x.data).for_each(|(y, x)| *y = x * scale + shift);
        }
        (&Op::Binary(f), [a, b]) => match f {
            Binary::Add => binary(*a, *b, out, |a, b| a + b),
            Binary::Mul => binary(*a, *b, out, |a, b| a * b),
            Binary::Div => binary(*a, *b, out, |a, b| a / b),
        },
        (Op::Concat, parts) => {
            let mut rest = out;
            for part in parts {
                let (head, tail) = rest.split_at_mut(part.data.len());
                head.copy_from_slice(part.data);
                rest = tail;
            }
        }
        (&Op::SliceChannels { start, .. }, [x]) => out.copy_from_slice(&x.data[start * x.row()..][..out.len()]),
        (&Op::PadChannels { before, .. }, [x]) => {
            out.fill(0.0);
            out[before * x.row()..][..x.data.len()].copy_from_slice(x.data);
        }
        (&(Op::PadPositions { before: at, .. } | Op::SlicePositions { start: at, .. }), [x]) => {
            let (from, rows) = (x.positions(), x.channels() * x.batch);
            let to = out.len() / rows.max(1);
            out.fill(0.0);
            let n = from.min(to);
            for (y, x) in out.chunks_exact_mut(to).zip(x.data.chunks_exact(from)) {
                if from < to {
                    y[at..at + n].copy_from_slice(x);
                } else {
                    y.copy_from_slice(&x[at..at + n]);
                }
            }
        }
        (Op::SumPositions, [x]) => {
            out.iter_mut().zip(x.data.chunks_exact(x.positions())).for_each(|(y, x)| *y = x.iter().sum());
        }
        (op, _) => return Err(err!(Unsupported, "{} cannot be trained", op.name())),
    }
    Ok(())
}

/// The same elements of each sample under other dimensions.
pub(super) fn reshape(x: Value<'_>, dims: Dims, out: &mut [f32]) {
    let (from, to) = (x.positions(), dims.positions());
    // The longest runs that stay together.
    let (mut run, mut rest) = (from, to);
    while rest > 0 {
        (run, rest) = (rest, run % rest);
    }
    for e in (0..dims.elements()).step_by(run) {
        for sample in 0..x.batch {
            let at = |p: usize| (e / p * x.batch + sample) * p + e % p;
            out[at(to)..][..run].copy_from_slice(&x.data[at(from)..][..run]);
        }
    }
}

fn binary(a: Value<'_>, b: Value<'_>, out: &mut [f32], f: impl Fn(f32, f32) -> f32) {
    if a.data.len() == b.data.len() {
        out.iter_mut().zip(a.data.iter().zip(b.data)).for_each(|(y, (a, b))| *y = f(*a, *b));
        return;
    }
    // One value for each channel, or for all, of each sample: `[C, batch]` or `[1, batch]`.
    let p = a.positions();
    for ((y, a), b) in out.chunks_exact_mut(p).zip(a.data.chunks_exact(p)).zip(b.data.iter().cycle()) {
        y.iter_mut().zip(a).for_each(|(y, a)| *y = f(*a, *b));
    }
}

fn softplus(v: f32) -> f32 {
    v.max(0.0) + libm::log1pf(libm::expf(-v.abs()))
}

fn activate(isa: Isa, f: Activation, x: &[f32], out: &mut [f32]) {
    match f {
        Activation::Relu => out.iter_mut().zip(x).for_each(|(y, x)| *y = x.max(0.0)),
        Activation::LeakyRelu { slope } => {
            out.iter_mut().zip(x).for_each(|(y, &x)| *y = if x > 0.0 { x } else { x * slope });
        }
        Activation::Softplus => out.iter_mut().zip(x).for_each(|(y, &x)| *y = softplus(x)),
        Activation::Silu
        | Activation::Mish
        | Activation::Gelu
        | Activation::GeluTanh
        | Activation::Sigmoid
        | Activation::Tanh => {
            out.copy_from_slice(x);
            match f {
                Activation::Silu => vmath::silu(isa, out),
                Activation::Mish => vmath::mish(isa, out),
                Activation::Gelu => vmath::gelu(isa, out),
                Activation::GeluTanh => vmath::gelu_tanh(isa, out),
                Activation::Sigmoid => vmath::sigmoid(isa, out),
                _ => vmath::tanh(isa, out),
            };
        }
    }
}

fn slope(isa: Isa, f: Activation, x: &[f32], dy: &[f32], out: &mut [f32]) {
    // Some slopes are a function of the sigmoid or the hyperbolic tangent.
    match f {
        Activation::Silu | Activation::Sigmoid | Activation::Softplus => {
            out.copy_from_slice(x);
            vmath::sigmoid(isa, out);
        }
        Activation::Tanh => {
            out.copy_from_slice(x);
            vmath::tanh(isa, out);
        }
        _ => {}
    }
    let all = out.iter_mut().zip(x.iter().zip(dy));
    match f {
        Activation::Silu => all.for_each(|(s, (x, dy))| *s = dy * (*s * (1.0 + x * (1.0 - *s)))),
        Activation::Sigmoid => all.for_each(|(s, (_, dy))| *s = dy * (*s * (1.0 - *s))),
        Activation::Softplus => all.for_each(|(s, (_, dy))| *s *= dy),
        Activation::Tanh => all.for_each(|(t, (_, dy))| *t = dy * (1.0 - *t * *t)),
        Activation::Relu => all.for_each(|(to, (&x, &dy))| *to = if x > 0.0 { dy } else { 0.0 }),
        Activation::LeakyRelu { slope } => all.for_each(|(to, (&x, &dy))| *to = if x > 0.0 { dy } else { dy * slope }),
        Activation::Mish => all.for_each(|(to, (&x, dy))| {
            let t = libm::tanhf(softplus(x));
            *to = dy * (t + x * (1.0 - t * t) / (1.0 + libm::expf(-x)));
        }),
        Activation::GeluTanh => all.for_each(|(to, (&x, dy))| {
            let t = libm::tanhf(0.797_884_6 * (x + 0.044_715 * x * x * x));
            *to = dy * (0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * 0.797_884_6 * (1.0 + 0.134_145 * x * x));
        }),
        Activation::Gelu => all.for_each(|(to, (&x, dy))| {
            let density = libm::expf(-x * x / 2.0) * 0.398_942_3;
            *to = dy * (0.5 * (1.0 + libm::erff(x * core::f32::consts::FRAC_1_SQRT_2)) + x * density);
        }),
    }
}
