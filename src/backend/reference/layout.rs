//! The loops of what moves values about, of norms at a position, of pooling and of linear attention.

use alloc::vec::Vec;

use super::Tensor;
use super::ops::{at_position, each_position, image};
use crate::error::{Result, ensure};
use crate::graph::{ChannelNorm, NormKind, Padding, ParamId, Window};
use crate::tensor::Dims;

/// The positions of a channel.
pub(super) fn channel(x: &Tensor, c: usize) -> &[f64] {
    let n = x.dims.positions();
    &x.data[c * n..(c + 1) * n]
}

pub(super) fn one_hot(x: f64, classes: usize) -> Result<Vec<f64>> {
    ensure!(
        x >= 0.0 && x < classes as f64 && libm::floor(x) == x,
        InvalidArgument,
        "class {x} of {classes}, expected a whole number below"
    );
    let mut y = alloc::vec![0.0; classes];
    y[x as usize] = 1.0;
    Ok(y)
}

pub(super) fn position_embedding([dim, height, width]: [usize; 3], scale: f64) -> Vec<f64> {
    let quarter = dim / 4;
    let mut y = Vec::with_capacity(dim * height * width);
    for c in 0..dim {
        let omega = libm::pow(10_000.0, -((c % quarter) as f64) / quarter as f64);
        for (row, column) in (0..height).flat_map(|r| (0..width).map(move |c| (r, c))) {
            let at = if c < 2 * quarter { column } else { row } as f64 * scale * omega;
            y.push(if c / quarter % 2 == 0 { libm::sin(at) } else { libm::cos(at) });
        }
    }
    y
}

/// One group's mean and the inverse of what it is divided by.
fn statistics(x: &[f64], n: &ChannelNorm) -> (f64, f64) {
    let (len, eps) = (x.len() as f64, f64::from(n.eps));
    let mean = if n.kind == NormKind::Layer { x.iter().sum::<f64>() / len } else { 0.0 };
    let square: f64 = x.iter().map(|v| (v - mean) * (v - mean)).sum();
    let r = match n.kind {
        NormKind::Layer | NormKind::Rms => 1.0 / libm::sqrt(square / len + eps),
        NormKind::L2 => libm::sqrt(len) / libm::sqrt(square).max(eps),
    };
    (mean, r)
}

/// A factor or offset of channel c of a group.
fn of_channel<'a>(id: Option<ParamId>, param: &dyn Fn(ParamId) -> &'a [f64], c: usize) -> Option<f64> {
    id.map(param).and_then(|values| values.get(c % values.len().max(1)).copied())
}

pub(super) fn channel_norm<'a>(x: &Tensor, n: &ChannelNorm, param: &dyn Fn(ParamId) -> &'a [f64]) -> Vec<f64> {
    let (c, per_group) = (x.dims.channels(), x.dims.channels() / n.groups);
    each_position(c, x.dims.positions(), |p| {
        let row: Vec<f64> = at_position(x, p).collect();
        let mut y = Vec::with_capacity(c);
        for group in row.chunks_exact(per_group) {
            let (mean, r) = statistics(group, n);
            for v in group {
                let (w, b) = (of_channel(n.weight, param, y.len()), of_channel(n.bias, param, y.len()));
                y.push((v - mean) * r * w.unwrap_or(1.0) + b.unwrap_or(0.0));
            }
        }
        y
    })
}

/// With z the normalised x of a group, r its factor and g = weight * dy: `dx = r (g - mean(g) - z mean(g z))`, the mean
/// of g only where a mean was taken off; nothing but `r g` where the divisor is eps itself.
pub(super) fn channel_norm_grad<'a>(
    x: &Tensor,
    dy: &Tensor,
    n: &ChannelNorm,
    param: &dyn Fn(ParamId) -> &'a [f64],
) -> Vec<f64> {
    let (c, per_group) = (x.dims.channels(), x.dims.channels() / n.groups);
    each_position(c, x.dims.positions(), |p| {
        let (row, dy): (Vec<f64>, Vec<f64>) = at_position(x, p).zip(at_position(dy, p)).unzip();
        let mut dx = Vec::with_capacity(c);
        for (x, dy) in row.chunks_exact(per_group).zip(dy.chunks_exact(per_group)) {
            let (mean, r) = statistics(x, n);
            let first = dx.len();
            let weight = |i: usize| of_channel(n.weight, param, first + i).unwrap_or(1.0);
            let g: Vec<f64> = dy.iter().enumerate().map(|(i, d)| d * weight(i)).collect();
            let z: Vec<f64> = x.iter().map(|v| (v - mean) * r).collect();
            let len = per_group as f64;
            let mean_g = if n.kind == NormKind::Layer { g.iter().sum::<f64>() / len } else { 0.0 };
            let constant =
                n.kind == NormKind::L2 && libm::sqrt(x.iter().map(|v| v * v).sum::<f64>()) <= f64::from(n.eps);
            let mean_gz = if constant { 0.0 } else { g.iter().zip(&z).map(|(g, z)| g * z).sum::<f64>() / len };
            dx.extend(g.iter().zip(&z).map(|(g, z)| r * (g - mean_g - z * mean_gz)));
        }
        dx
    })
}

/// Depth to space, or back.
pub(super) fn depth_to_space(x: &Tensor, [fh, fw]: [usize; 2], blocks_first: bool, up: bool) -> Vec<f64> {
    let [c, h, w] = image(x.dims);
    // The dimensions of the side with more channels.
    let (deep, h, w) = if up { (c, h, w) } else { (c * fh * fw, h / fh, w / fw) };
    let shallow = deep / (fh * fw);
    let mut y = alloc::vec![0.0; x.data.len()];
    for (channel, i, j) in (0..shallow).flat_map(|c| (0..fh).flat_map(move |i| (0..fw).map(move |j| (c, i, j)))) {
        let d = if blocks_first { (i * fw + j) * shallow + channel } else { (channel * fh + i) * fw + j };
        for (row, column) in (0..h).flat_map(|r| (0..w).map(move |c| (r, c))) {
            let wide = (channel * h * fh + row * fh + i) * w * fw + column * fw + j;
            let narrow = (d * h + row) * w + column;
            if up {
                y[wide] = x.data[narrow];
            } else {
                y[narrow] = x.data[wide];
            }
        }
    }
    y
}

/// Mirrors the margin, or adds it to what it mirrors.
pub(super) fn reflect_pad(x: &Tensor, p: &Padding, out: Dims, adjoint: bool) -> Vec<f64> {
    let [c, h, w] = image(if adjoint { out } else { x.dims });
    let [_, hp, wp] = image(if adjoint { x.dims } else { out });
    let inside = |at: usize, before: usize, n: usize| {
        let at = at.abs_diff(before);
        if at < n { at } else { 2 * (n - 1) - at }
    };
    let mut y = alloc::vec![0.0; out.elements()];
    for (i, row, column) in (0..c).flat_map(|i| (0..hp).flat_map(move |r| (0..wp).map(move |c| (i, r, c)))) {
        let wide = (i * hp + row) * wp + column;
        let narrow = (i * h + inside(row, p.top, h)) * w + inside(column, p.left, w);
        if adjoint {
            y[narrow] += x.data[wide];
        } else {
            y[wide] = x.data[narrow];
        }
    }
    y
}

pub(super) fn shuffle_channels(x: &Tensor, rows: usize, columns: usize) -> Vec<f64> {
    let run = x.data.len() / (rows * columns);
    let order = (0..columns).flat_map(|b| (0..rows).map(move |a| a * columns + b));
    order.flat_map(|i| x.data[i * run..(i + 1) * run].iter().copied()).collect()
}

/// For each output the place of the largest value under its window, and the value.
pub(super) fn max_pool(x: &Tensor, window: &Window, out: Dims) -> Vec<(usize, f64)> {
    let [c, h, w] = image(x.dims);
    let [_, ho, wo] = image(out);
    let ([kh, kw], s, p) = (window.kernel, window.stride, window.padding);
    let mut y = Vec::with_capacity(out.elements());
    for (i, yo, xo) in (0..c).flat_map(|i| (0..ho).flat_map(move |yo| (0..wo).map(move |xo| (i, yo, xo)))) {
        let mut best = (0, f64::NEG_INFINITY);
        for (ky, kx) in (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx))) {
            let inside = |at: usize, before: usize, size: usize| at.checked_sub(before).filter(|&v| v < size);
            if let (Some(yi), Some(xi)) = (inside(yo * s + ky, p.top, h), inside(xo * s + kx, p.left, w)) {
                let at = (i * h + yi) * w + xi;
                if x.data[at] > best.1 || x.data[at].is_nan() || best.1 == f64::NEG_INFINITY {
                    best = (at, x.data[at]);
                }
            }
        }
        y.push(best);
    }
    y
}

fn softmax(x: impl Iterator<Item = f64> + Clone) -> Vec<f64> {
    let max = x.clone().fold(f64::NEG_INFINITY, f64::max);
    let e: Vec<f64> = x.map(|v| libm::exp(v - max)).collect();
    let sum: f64 = e.iter().sum();
    e.iter().map(|e| e / sum).collect()
}

/// The softmax of q at each position over a head's channels, of k in each channel over positions, and the context
/// `[d][e]`, of head h.
fn head([q, k, v]: [&Tensor; 3], heads: usize, h: usize) -> [Vec<Vec<f64>>; 3] {
    let (d, e) = (q.dims.channels() / heads, v.dims.channels() / heads);
    let soft_q = |p: usize| softmax((h * d..(h + 1) * d).map(|c| channel(q, c)[p]));
    let soft_q = (0..q.dims.positions()).map(soft_q).collect();
    let soft_k: Vec<Vec<f64>> = (h * d..(h + 1) * d).map(|c| softmax(channel(k, c).iter().copied())).collect();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let context = soft_k.iter().map(|k| (h * e..(h + 1) * e).map(|c| dot(k, channel(v, c))).collect()).collect();
    [soft_q, soft_k, context]
}

pub(super) fn linear_attention(qkv: [&Tensor; 3], heads: usize) -> Vec<f64> {
    let [q, _, v] = qkv;
    let (n, e) = (q.dims.positions(), v.dims.channels() / heads);
    let mut y = Vec::with_capacity(v.dims.channels() * n);
    for h in 0..heads {
        let [soft_q, _, context] = head(qkv, heads, h);
        for c in 0..e {
            y.extend(soft_q.iter().map(|q| q.iter().zip(&context).map(|(q, row)| q * row[c]).sum::<f64>()));
        }
    }
    y
}

/// With Q and K the softmaxes and M = K v^T: `dQ = M dy`, `dM = Q dy^T`, `dv = dM^T K`, `dK = dM v`, and the softmaxes'
/// own gradients.
pub(super) fn linear_attention_grad(qkv: [&Tensor; 3], dy: &Tensor, heads: usize) -> [Vec<f64>; 3] {
    let [q, k, v] = qkv;
    let (n, m) = (q.dims.positions(), k.dims.positions());
    let (d, e) = (q.dims.channels() / heads, v.dims.channels() / heads);
    let mut grads = [q, k, v].map(|t| alloc::vec![0.0; t.data.len()]);
    for h in 0..heads {
        let [soft_q, soft_k, context] = head(qkv, heads, h);
        let dy_at = |c: usize, p: usize| channel(dy, h * e + c)[p];
        let mut d_context = alloc::vec![alloc::vec![0.0; e]; d];
        for (p, soft) in soft_q.iter().enumerate() {
            let dq: Vec<f64> = context.iter().map(|row| (0..e).map(|c| row[c] * dy_at(c, p)).sum()).collect();
            let mean: f64 = soft.iter().zip(&dq).map(|(s, g)| s * g).sum();
            for i in 0..d {
                grads[0][(h * d + i) * n + p] = soft[i] * (dq[i] - mean);
                (0..e).for_each(|c| d_context[i][c] += soft[i] * dy_at(c, p));
            }
        }
        for i in 0..d {
            let dk: Vec<f64> =
                (0..m).map(|p| (0..e).map(|c| d_context[i][c] * channel(v, h * e + c)[p]).sum()).collect();
            let mean: f64 = soft_k[i].iter().zip(&dk).map(|(s, g)| s * g).sum();
            for p in 0..m {
                grads[1][(h * d + i) * m + p] = soft_k[i][p] * (dk[p] - mean);
                (0..e).for_each(|c| grads[2][(h * e + c) * m + p] += d_context[i][c] * soft_k[i][p]);
            }
        }
    }
    grads
}
