//! Embeddings of numbers: one value `[1]` of each sample to a vector.

use alloc::vec::Vec;
use core::f64::consts::PI;

use super::value::Value;
use crate::error::{Result, ensure, err};
use crate::graph::{Op, ParamId};

/// Runs an embedding; angles are f64.
pub(super) fn forward<'p>(op: &Op, x: Value<'_>, param: &dyn Fn(ParamId) -> &'p [f32], out: &mut [f32]) -> Result<()> {
    let batch = x.batch;
    match *op {
        Op::SinusoidalEmbedding { dim, flip_sin_to_cos, freq_shift, max_period } => {
            let half = dim / 2;
            let exponent = -libm::log(f64::from(max_period)) / (half as f64 - f64::from(freq_shift));
            out.fill(0.0);
            for (sample, &t) in x.data.iter().enumerate() {
                let angle = |i: usize| f64::from(t) * libm::exp(exponent * i as f64);
                waves(half, flip_sin_to_cos, angle, |c, v| out[c * batch + sample] = v);
            }
        }
        Op::FourierEmbedding { weight, log, flip_sin_to_cos } => {
            let w = param(weight);
            for (sample, &t) in x.data.iter().enumerate() {
                let t = if log { libm::log(f64::from(t)) } else { f64::from(t) };
                let angle = |i: usize| t * f64::from(w[i]) * 2.0 * PI;
                waves(w.len(), flip_sin_to_cos, angle, |c, v| out[c * batch + sample] = v);
            }
        }
        Op::Embedding { table } => {
            let table = param(table);
            let n = out.len() / batch;
            let rows = table.len() / n;
            for &t in x.data {
                let known = t >= 0.0 && t < rows as f32 && libm::floorf(t) == t;
                ensure!(known, InvalidArgument, "class {t} of an embedding with {rows} rows");
            }
            for (c, to) in out.chunks_exact_mut(batch).enumerate() {
                to.iter_mut().zip(x.data).for_each(|(to, &t)| *to = table[t as usize * n + c]);
            }
        }
        Op::TemporalBasis { steps, functions, width } => {
            for (sample, &t) in x.data.iter().enumerate() {
                let g = temporal_basis(f64::from(t), steps, functions, width);
                g.into_iter().enumerate().for_each(|(j, g)| out[j * batch + sample] = g as f32);
            }
        }
        ref op => return Err(err!(Unsupported, "{} is no embedding", op.name())),
    }
    Ok(())
}

/// See [`Op::TemporalBasis`].
fn temporal_basis(t: f64, steps: usize, functions: usize, width: f64) -> Vec<f64> {
    let t = t.clamp(0.0, (steps - 1) as f64);
    let below = libm::floor(t);
    let whole = |step: f64| {
        let x = 2.0 * step / (steps - 1) as f64 - 1.0;
        let power = |j: usize| {
            let d = (x - 2.0 * j as f64 / (functions - 1) as f64 + 1.0) / width;
            -0.5 * d * d
        };
        let max = (0..functions).map(power).fold(f64::NEG_INFINITY, f64::max);
        let bumps: Vec<f64> = (0..functions).map(|j| libm::exp(power(j) - max)).collect();
        let sum: f64 = bumps.iter().sum();
        bumps.into_iter().map(|b| b / sum).collect::<Vec<_>>()
    };
    let (a, b) = (whole(below), whole((below + 1.0).min((steps - 1) as f64)));
    let part = t - below;
    a.into_iter().zip(b).map(|(a, b)| (1.0 - part) * a + part * b).collect()
}

fn waves(half: usize, cosines_first: bool, angle: impl Fn(usize) -> f64, mut put: impl FnMut(usize, f32)) {
    let (sine, cosine) = if cosines_first { (half, 0) } else { (0, half) };
    for i in 0..half {
        let (s, c) = libm::sincos(angle(i));
        put(sine + i, s as f32);
        put(cosine + i, c as f32);
    }
}

/// Adds the gradient by the frequencies of [`Op::FourierEmbedding`].
pub(super) fn add_frequencies(x: Value<'_>, dy: Value<'_>, w: &[f32], log: bool, cosines_first: bool, to: &mut [f32]) {
    let n = w.len();
    for (sample, &t) in x.data.iter().enumerate() {
        let t = 2.0 * PI * if log { libm::log(f64::from(t)) } else { f64::from(t) };
        let (sine, cosine) = if cosines_first { (n, 0) } else { (0, n) };
        for (i, (to, &w)) in to.iter_mut().zip(w).enumerate() {
            let (s, c) = libm::sincos(t * f64::from(w));
            let at = |first: usize| f64::from(dy.data[(first + i) * dy.batch + sample]);
            *to += (t * (c * at(sine) - s * at(cosine))) as f32;
        }
    }
}
