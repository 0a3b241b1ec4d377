//! Radial basis functions, the softmax over channels, and products with a matrix that is a value.

use alloc::vec::Vec;

use super::value::Value;
use crate::backend::cpu::isa::Isa;
use crate::backend::cpu::vmath;
use crate::graph::Op;

/// Runs one of the operations without parameters; `false` if it is none of them.
pub(super) fn run(isa: Isa, op: &Op, args: &[Value<'_>], out: &mut [f32], scratch: &mut Vec<f32>) -> bool {
    match (op, args) {
        (Op::Softmax, [x]) => softmax(isa, *x, out, scratch),
        (Op::SoftmaxGrad, [y, dy]) => softmax_backward(*y, *dy, out, scratch),
        (Op::MatVec, [m, v]) => mat_vec(*m, *v, out),
        (Op::Outer, [dy, v]) => outer(*dy, *v, out),
        (Op::VecMat, [m, dy]) => vec_mat(*m, *dy, out),
        _ => return false,
    }
    true
}

/// `y_k = -|x - c_k|^2 / (2 w_k^2)`.
pub(super) fn radial(x: Value<'_>, centres: &[f32], widths: &[f32], out: &mut [f32]) {
    let d = x.channels();
    for ((y, c), w) in out.chunks_exact_mut(x.row()).zip(centres.chunks_exact(d)).zip(widths) {
        y.fill(0.0);
        let scale = -0.5 / (w * w);
        for (i, c) in c.iter().enumerate() {
            y.iter_mut().zip(x.channel(i)).for_each(|(y, x)| *y += scale * (x - c) * (x - c));
        }
    }
}

/// `dx = sum_k dy_k (c_k - x) / w_k^2`.
pub(super) fn radial_backward(x: Value<'_>, dy: Value<'_>, centres: &[f32], widths: &[f32], out: &mut [f32]) {
    let d = x.channels();
    out.fill(0.0);
    for (i, to) in out.chunks_exact_mut(x.row()).enumerate() {
        for (k, w) in widths.iter().enumerate() {
            let (c, scale) = (centres[k * d + i], 1.0 / (w * w));
            let all = to.iter_mut().zip(x.channel(i)).zip(dy.channel(k));
            all.for_each(|((to, x), dy)| *to += dy * (c - x) * scale);
        }
    }
}

/// Adds `sum dy_k (x - c_k) / w_k^2`.
pub(super) fn add_centres(x: Value<'_>, dy: Value<'_>, centres: &[f32], widths: &[f32], to: &mut [f32]) {
    let d = x.channels();
    for (at, (to, c)) in to.iter_mut().zip(centres).enumerate() {
        let (k, i) = (at / d, at % d);
        let sum: f32 = x.channel(i).iter().zip(dy.channel(k)).map(|(x, dy)| dy * (x - c)).sum();
        *to += sum / (widths[k] * widths[k]);
    }
}

/// Adds `sum dy_k |x - c_k|^2 / w_k^3`.
pub(super) fn add_widths(x: Value<'_>, dy: Value<'_>, centres: &[f32], widths: &[f32], to: &mut [f32]) {
    let d = x.channels();
    for (k, (to, w)) in to.iter_mut().zip(widths).enumerate() {
        let of = |i: usize| -> f32 {
            let c = centres[k * d + i];
            x.channel(i).iter().zip(dy.channel(k)).map(|(x, dy)| dy * (x - c) * (x - c)).sum()
        };
        *to += (0..d).map(of).sum::<f32>() / (w * w * w);
    }
}

fn softmax(isa: Isa, x: Value<'_>, out: &mut [f32], scratch: &mut Vec<f32>) {
    let row = x.row();
    scratch.clear();
    scratch.resize(row, f32::NEG_INFINITY);
    for x in x.data.chunks_exact(row) {
        scratch.iter_mut().zip(x).for_each(|(max, x)| *max = max.max(*x));
    }
    for (y, x) in out.chunks_exact_mut(row).zip(x.data.chunks_exact(row)) {
        y.iter_mut().zip(x).zip(&*scratch).for_each(|((y, x), max)| *y = x - max);
        vmath::exp(isa, y);
    }
    scratch.fill(0.0);
    for y in out.chunks_exact(row) {
        scratch.iter_mut().zip(y).for_each(|(sum, y)| *sum += y);
    }
    for y in out.chunks_exact_mut(row) {
        y.iter_mut().zip(&*scratch).for_each(|(y, sum)| *y /= sum);
    }
}

fn softmax_backward(y: Value<'_>, dy: Value<'_>, out: &mut [f32], scratch: &mut Vec<f32>) {
    let row = y.row();
    scratch.clear();
    scratch.resize(row, 0.0);
    for (y, dy) in y.data.chunks_exact(row).zip(dy.data.chunks_exact(row)) {
        scratch.iter_mut().zip(y.iter().zip(dy)).for_each(|(sum, (y, dy))| *sum += y * dy);
    }
    for ((to, y), dy) in out.chunks_exact_mut(row).zip(y.data.chunks_exact(row)).zip(dy.data.chunks_exact(row)) {
        to.iter_mut().zip(y.iter().zip(dy)).zip(&*scratch).for_each(|((to, (y, dy)), sum)| *to = y * (dy - sum));
    }
}

/// Calls `f(planes, scalar)` for the positions of each sample with the factor of that sample.
fn each_sample(positions: usize, a: &mut [f32], b: &[f32], v: &[f32], f: impl Fn(&mut f32, f32, f32)) {
    if positions == 1 {
        a.iter_mut().zip(b).zip(v).for_each(|((a, b), v)| f(a, *b, *v));
        return;
    }
    for ((a, b), v) in a.chunks_exact_mut(positions).zip(b.chunks_exact(positions)).zip(v) {
        a.iter_mut().zip(b).for_each(|(a, b)| f(a, *b, *v));
    }
}

fn mat_vec(m: Value<'_>, v: Value<'_>, out: &mut [f32]) {
    let j = v.channels();
    out.fill(0.0);
    for (g, y) in out.chunks_exact_mut(m.row()).enumerate() {
        for i in 0..j {
            each_sample(m.positions(), y, m.channel(g * j + i), v.channel(i), |y, m, v| *y += m * v);
        }
    }
}

fn outer(dy: Value<'_>, v: Value<'_>, out: &mut [f32]) {
    let j = v.channels();
    for (at, to) in out.chunks_exact_mut(dy.row()).enumerate() {
        each_sample(dy.positions(), to, dy.channel(at / j), v.channel(at % j), |to, dy, v| *to = dy * v);
    }
}

fn vec_mat(m: Value<'_>, dy: Value<'_>, out: &mut [f32]) {
    let (j, batch, p) = (m.channels() / dy.channels(), m.batch, m.positions());
    out.fill(0.0);
    for g in 0..dy.channels() {
        for (i, to) in out.chunks_exact_mut(batch).enumerate() {
            let (m, dy) = (m.channel(g * j + i), dy.channel(g));
            if p == 1 {
                to.iter_mut().zip(m.iter().zip(dy)).for_each(|(to, (m, dy))| *to += m * dy);
            } else {
                let planes = m.chunks_exact(p).zip(dy.chunks_exact(p));
                to.iter_mut().zip(planes).for_each(|(to, (m, dy))| {
                    *to += m.iter().zip(dy).map(|(m, dy)| m * dy).sum::<f32>();
                });
            }
        }
    }
}
