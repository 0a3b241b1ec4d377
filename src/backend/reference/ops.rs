//! The loops. Each takes one sample's tensors and gives the elements of the result; shapes were checked when the graph
//! was built.

use alloc::vec::Vec;
use core::f64::consts::{FRAC_2_SQRT_PI, PI, SQRT_2};

use super::Tensor;
use crate::error::{Result, ensure};
use crate::graph::{Activation, Binary, GroupNorm, Window};
use crate::tensor::Dims;

pub(super) fn image(d: Dims) -> [usize; 3] {
    match *d.as_slice() {
        [c, h, w] => [c, h, w],
        _ => [d.channels(), 1, d.positions()],
    }
}

pub(super) fn conv2d(x: &Tensor, weight: &[f64], bias: Option<&[f64]>, window: &Window, out: Dims) -> Vec<f64> {
    let [ci, hi, wi] = image(x.dims);
    let [co, ho, wo] = image(out);
    let [kh, kw] = window.kernel;
    let (s, p, step) = (window.stride, window.padding, window.dilation);
    let (ins, outs) = (ci / window.groups, co / window.groups);
    let mut y = alloc::vec![0.0; co * ho * wo];
    for o in 0..co {
        let plane = &mut y[o * ho * wo..][..ho * wo];
        if let Some(b) = bias {
            plane.fill(b[o]);
        }
        for i in o / outs * ins..(o / outs + 1) * ins {
            for (ky, kx) in (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx))) {
                let w = weight[((o * ins + i % ins) * kh + ky) * kw + kx];
                let (ky, kx) = (ky * step, kx * step);
                for yo in 0..ho {
                    let Some(yi) = (yo * s + ky).checked_sub(p.top).filter(|&v| v < hi) else { continue };
                    let row = &x.data[(i * hi + yi) * wi..][..wi];
                    // The outputs whose input column xo * s + kx - left lies in the image.
                    let from = p.left.saturating_sub(kx).div_ceil(s);
                    let to = (wi + p.left).saturating_sub(kx).div_ceil(s).min(wo);
                    for xo in from..to {
                        plane[yo * wo + xo] += w * row[xo * s + kx - p.left];
                    }
                }
            }
        }
    }
    y
}

/// The `[2 * C]` factors and offsets of a group norm.
pub(super) fn group_norm_affine(x: &Tensor, n: &GroupNorm, weight: &[f64], bias: &[f64]) -> Vec<f64> {
    let c = x.dims.channels();
    let per_group = c / n.groups;
    let mut ab = alloc::vec![0.0; 2 * c];
    for (g, group) in x.data.chunks_exact(per_group * x.dims.positions()).enumerate() {
        let mean = group.iter().sum::<f64>() / group.len() as f64;
        let variance = group.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / group.len() as f64;
        let r = 1.0 / libm::sqrt(variance + f64::from(n.eps));
        for i in g * per_group..(g + 1) * per_group {
            ab[i] = weight[i] * r;
            ab[c + i] = bias[i] - weight[i] * r * mean;
        }
    }
    ab
}

pub(super) fn apply_affine(x: &Tensor, ab: &[f64]) -> Vec<f64> {
    let (a, b) = ab.split_at(x.dims.channels());
    let n = x.dims.positions();
    x.data.iter().enumerate().map(|(i, v)| v * a[i / n] + b[i / n]).collect()
}

pub(super) fn activate(x: &Tensor, f: Activation) -> Vec<f64> {
    let sigmoid = |v: f64| 1.0 / (1.0 + libm::exp(-v));
    let softplus = |v: f64| v.max(0.0) + libm::log1p(libm::exp(-v.abs()));
    let apply = |&v: &f64| match f {
        Activation::Silu => v * sigmoid(v),
        Activation::Mish => v * libm::tanh(softplus(v)),
        Activation::Gelu => v * 0.5 * (1.0 + libm::erf(v / SQRT_2)),
        Activation::GeluTanh => {
            v * 0.5 * (1.0 + libm::tanh(SQRT_2 * FRAC_2_SQRT_PI * 0.5 * (v + 0.044715 * v * v * v)))
        }
        Activation::Relu => v.max(0.0),
        Activation::LeakyRelu { slope } => {
            if v > 0.0 {
                v
            } else {
                v * f64::from(slope)
            }
        }
        Activation::Sigmoid => sigmoid(v),
        Activation::Tanh => libm::tanh(v),
        Activation::Softplus => softplus(v),
    };
    x.data.iter().map(apply).collect()
}

pub(super) fn binary(a: &Tensor, b: &Tensor, f: Binary) -> Vec<f64> {
    let n = a.dims.positions();
    let at = |i: usize| {
        if b.dims == a.dims {
            b.data[i]
        } else if b.data.len() == 1 {
            b.data[0]
        } else {
            b.data[i / n]
        }
    };
    let apply = |(i, &v): (usize, &f64)| match f {
        Binary::Add => v + at(i),
        Binary::Mul => v * at(i),
        Binary::Div => v / at(i),
    };
    a.data.iter().enumerate().map(apply).collect()
}

pub(super) fn concat(parts: &[&Tensor]) -> Tensor {
    if let [one] = parts {
        return (*one).clone();
    }
    let data = parts.iter().flat_map(|p| p.data.iter().copied()).collect();
    let mut dims: Vec<usize> = parts[0].dims.as_slice().into();
    dims[0] = parts.iter().map(|p| p.dims.channels()).sum();
    // The graph has checked this sum; the fallback is never taken.
    Tensor { dims: Dims::new(&dims).unwrap_or(parts[0].dims), data }
}

pub(super) fn upsample(x: &Tensor, factor: usize) -> Vec<f64> {
    let [c, h, w] = image(x.dims);
    let mut y = Vec::with_capacity(x.data.len() * factor * factor);
    for (i, r) in (0..c).flat_map(|i| (0..h * factor).map(move |r| (i, r))) {
        let row = &x.data[(i * h + r / factor) * w..][..w];
        y.extend((0..w * factor).map(|col| row[col / factor]));
    }
    y
}

pub(super) fn average_pool(x: &Tensor, factor: usize, out: Dims) -> Vec<f64> {
    let [_, h, w] = image(x.dims);
    let [c, ho, wo] = image(out);
    let mut y = alloc::vec![0.0; c * ho * wo];
    for i in 0..c {
        for (r, col) in (0..ho * factor).flat_map(|r| (0..wo * factor).map(move |col| (r, col))) {
            y[(i * ho + r / factor) * wo + col / factor] += x.data[(i * h + r) * w + col] / (factor * factor) as f64;
        }
    }
    y
}

pub(super) fn fir(x: &Tensor, taps: &[f32], up: usize, down: usize, pad: [isize; 2], out: Dims) -> Vec<f64> {
    let [_, h, w] = image(x.dims);
    let [c, ho, wo] = image(out);
    let n = taps.len();
    // What the padded and zero-stuffed image has at (r, col) of channel i.
    let at = |i: usize, r: usize, col: usize| {
        let inside = |v: usize, size: usize| {
            v.checked_add_signed(-pad[0]).filter(|v| v.is_multiple_of(up) && v / up < size).map(|v| v / up)
        };
        match (inside(r, h), inside(col, w)) {
            (Some(r), Some(col)) => x.data[(i * h + r) * w + col],
            _ => 0.0,
        }
    };
    let mut y = Vec::with_capacity(c * ho * wo);
    for i in 0..c {
        for (r, col) in (0..ho).flat_map(|r| (0..wo).map(move |col| (r, col))) {
            let mut sum = 0.0;
            for (a, b) in (0..n).flat_map(|a| (0..n).map(move |b| (a, b))) {
                let tap = f64::from(taps[n - 1 - a]) * f64::from(taps[n - 1 - b]);
                sum += tap * at(i, r * down + a, col * down + b);
            }
            y.push(sum);
        }
    }
    y
}

/// `kept` is what is kept of a factor of the products.
pub(super) fn attention(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize, kept: impl Fn(f64) -> f64) -> Vec<f64> {
    let (tq, tk) = (q.dims.positions(), k.dims.positions());
    let (d, dv) = (q.dims.channels() / heads, v.dims.channels() / heads);
    let mut y = alloc::vec![0.0; heads * dv * tq];
    let mut p = alloc::vec![0.0; tk];
    for (h, i) in (0..heads).flat_map(|h| (0..tq).map(move |i| (h, i))) {
        for (j, p) in p.iter_mut().enumerate() {
            let dot: f64 = (h * d..(h + 1) * d).map(|c| kept(q.data[c * tq + i]) * kept(k.data[c * tk + j])).sum();
            *p = dot / libm::sqrt(d as f64);
        }
        let max = p.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
        p.iter_mut().for_each(|p| *p = libm::exp(*p - max));
        let sum: f64 = p.iter().sum();
        p.iter_mut().for_each(|p| *p = kept(*p / sum));
        for c in h * dv..(h + 1) * dv {
            y[c * tq + i] = (0..tk).map(|j| p[j] * kept(v.data[c * tk + j])).sum::<f64>();
        }
    }
    y
}

fn sin_cos(angles: &[f64], flip: bool) -> Vec<f64> {
    let sines = angles.iter().map(|&a| libm::sin(a));
    let cosines = angles.iter().map(|&a| libm::cos(a));
    if flip { cosines.chain(sines).collect() } else { sines.chain(cosines).collect() }
}

pub(super) fn sinusoidal(x: f64, dim: usize, flip: bool, shift: f64, max_period: f64) -> Vec<f64> {
    let half = dim / 2;
    let frequency = |i: usize| libm::exp(-libm::log(max_period) * i as f64 / (half as f64 - shift));
    let angles: Vec<f64> = (0..half).map(|i| x * frequency(i)).collect();
    let mut y = sin_cos(&angles, flip);
    y.resize(dim, 0.0);
    y
}

pub(super) fn fourier(x: f64, weight: &[f64], log: bool, flip: bool) -> Vec<f64> {
    let x = if log { libm::log(x) } else { x };
    let angles: Vec<f64> = weight.iter().map(|w| x * w * 2.0 * PI).collect();
    sin_cos(&angles, flip)
}

pub(super) fn embedding(x: f64, table: &[f64], dims: Dims) -> Result<Vec<f64>> {
    let n = dims.elements();
    let rows = table.len() / n;
    ensure!(
        x >= 0.0 && x < rows as f64 && libm::floor(x) == x,
        InvalidArgument,
        "class {x} of an embedding with {rows} rows"
    );
    Ok(table[x as usize * n..][..n].into())
}

/// The elements of one position, channel by channel.
pub(super) fn at_position(x: &Tensor, position: usize) -> impl Iterator<Item = f64> {
    x.data.iter().copied().skip(position).step_by(x.dims.positions())
}

/// Puts `n` channels together that `f` gives for each position.
pub(super) fn each_position(n: usize, positions: usize, f: impl Fn(usize) -> Vec<f64>) -> Vec<f64> {
    let mut y = alloc::vec![0.0; n * positions];
    for p in 0..positions {
        for (k, v) in f(p).into_iter().enumerate() {
            y[k * positions + p] = v;
        }
    }
    y
}

pub(super) fn radial_basis(x: &Tensor, centres: &[f64], widths: &[f64]) -> Vec<f64> {
    let d = x.dims.channels();
    each_position(widths.len(), x.dims.positions(), |p| {
        let distance = |c: &[f64]| at_position(x, p).zip(c).map(|(x, c)| (x - c) * (x - c)).sum::<f64>();
        centres.chunks_exact(d).zip(widths).map(|(c, w)| -distance(c) / (2.0 * w * w)).collect()
    })
}

pub(super) fn nearest_row(x: &Tensor, table: &[f64]) -> Vec<f64> {
    let d = x.dims.channels();
    each_position(d, x.dims.positions(), |p| {
        let distance = |row: &[f64]| at_position(x, p).zip(row).map(|(x, c)| (x - c) * (x - c)).sum::<f64>();
        let (mut nearest, mut least) = (None, f64::INFINITY);
        for row in table.chunks_exact(d) {
            if distance(row) < least {
                (nearest, least) = (Some(row), distance(row));
            }
        }
        nearest.map_or_else(|| alloc::vec![f64::NAN; d], <[f64]>::to_vec)
    })
}

pub(super) fn softmax(x: &Tensor) -> Vec<f64> {
    each_position(x.dims.channels(), x.dims.positions(), |p| {
        let max = at_position(x, p).fold(f64::NEG_INFINITY, f64::max);
        let e: Vec<f64> = at_position(x, p).map(|v| libm::exp(v - max)).collect();
        let sum: f64 = e.iter().sum();
        e.iter().map(|e| e / sum).collect()
    })
}

pub(super) fn temporal_basis(t: f64, steps: usize, functions: usize, width: f64) -> Vec<f64> {
    let grid = |i: f64, n: usize| 2.0 * i / (n - 1) as f64 - 1.0;
    let whole = |t: f64| -> Vec<f64> {
        let bump = |j: usize| {
            let d = (grid(t, steps) - grid(j as f64, functions)) / width;
            -0.5 * d * d
        };
        let logs: Vec<f64> = (0..functions).map(bump).collect();
        let max = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = logs.iter().map(|l| libm::exp(l - max)).sum();
        logs.iter().map(|l| libm::exp(l - max) / sum).collect()
    };
    let t = t.clamp(0.0, (steps - 1) as f64);
    let below = libm::floor(t);
    let part = t - below;
    let above = (below + 1.0).min((steps - 1) as f64);
    whole(below).iter().zip(whole(above)).map(|(a, b)| (1.0 - part) * a + part * b).collect()
}

pub(super) fn mat_vec(m: &Tensor, v: &Tensor) -> Vec<f64> {
    let j = v.data.len();
    each_position(m.dims.channels() / j, m.dims.positions(), |p| {
        let row: Vec<f64> = at_position(m, p).collect();
        row.chunks_exact(j).map(|r| r.iter().zip(&v.data).map(|(m, v)| m * v).sum()).collect()
    })
}

pub(super) fn outer(dy: &Tensor, v: &Tensor) -> Vec<f64> {
    each_position(dy.dims.channels() * v.data.len(), dy.dims.positions(), |p| {
        at_position(dy, p).flat_map(|d| v.data.iter().map(move |v| d * v)).collect()
    })
}

pub(super) fn vec_mat(m: &Tensor, dy: &Tensor) -> Vec<f64> {
    let mut y = alloc::vec![0.0; m.dims.channels() / dy.dims.channels()];
    for p in 0..m.dims.positions() {
        let row: Vec<f64> = at_position(m, p).collect();
        for (r, d) in row.chunks_exact(y.len()).zip(at_position(dy, p)) {
            y.iter_mut().zip(r).for_each(|(y, m)| *y += m * d);
        }
    }
    y
}
