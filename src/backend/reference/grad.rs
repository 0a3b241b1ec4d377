//! The loops of the backward operations.

use alloc::vec::Vec;
use core::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, PI, SQRT_2};

use super::Tensor;
use super::ops::{at_position, each_position, image};
use crate::graph::{Activation, GroupNorm, Window};
use crate::tensor::Dims;

/// Scatters what [`super::ops::conv2d`] gathers.
pub(super) fn conv2d(dy: &Tensor, weight: &[f64], window: &Window, x: Dims) -> Vec<f64> {
    let [ci, hi, wi] = image(x);
    let [co, ho, wo] = image(dy.dims);
    let [kh, kw] = window.kernel;
    let (s, p, step) = (window.stride, window.padding, window.dilation);
    let (ins, outs) = (ci / window.groups, co / window.groups);
    let mut dx = alloc::vec![0.0; ci * hi * wi];
    for (o, i) in (0..co).flat_map(|o| (o / outs * ins..(o / outs + 1) * ins).map(move |i| (o, i))) {
        for (ky, kx) in (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx))) {
            let w = weight[((o * ins + i % ins) * kh + ky) * kw + kx];
            let (ky, kx) = (ky * step, kx * step);
            for (yo, xo) in (0..ho).flat_map(|yo| (0..wo).map(move |xo| (yo, xo))) {
                let inside = |at: usize, before: usize, size: usize| at.checked_sub(before).filter(|&v| v < size);
                if let (Some(yi), Some(xi)) = (inside(yo * s + ky, p.top, hi), inside(xo * s + kx, p.left, wi)) {
                    dx[(i * hi + yi) * wi + xi] += w * dy.data[(o * ho + yo) * wo + xo];
                }
            }
        }
    }
    dx
}

pub(super) fn activation(x: &Tensor, dy: &Tensor, f: Activation) -> Vec<f64> {
    let sigmoid = |v: f64| 1.0 / (1.0 + libm::exp(-v));
    let softplus = |v: f64| v.max(0.0) + libm::log1p(libm::exp(-v.abs()));
    let slope = |v: f64| match f {
        Activation::Silu => sigmoid(v) * (1.0 + v * (1.0 - sigmoid(v))),
        Activation::Mish => {
            let t = libm::tanh(softplus(v));
            t + v * (1.0 - t * t) * sigmoid(v)
        }
        Activation::Gelu => {
            let density = libm::exp(-v * v / 2.0) / libm::sqrt(2.0 * PI);
            0.5 * (1.0 + libm::erf(v * FRAC_1_SQRT_2)) + v * density
        }
        Activation::GeluTanh => {
            let root = SQRT_2 * FRAC_2_SQRT_PI * 0.5;
            let t = libm::tanh(root * (v + 0.044715 * v * v * v));
            0.5 * (1.0 + t) + 0.5 * v * (1.0 - t * t) * root * (1.0 + 3.0 * 0.044715 * v * v)
        }
        Activation::Relu => f64::from(v > 0.0),
        Activation::LeakyRelu { slope } => {
            if v > 0.0 {
                1.0
            } else {
                f64::from(slope)
            }
        }
        Activation::Sigmoid => sigmoid(v) * (1.0 - sigmoid(v)),
        Activation::Tanh => 1.0 - libm::tanh(v) * libm::tanh(v),
        Activation::Softplus => sigmoid(v),
    };
    x.data.iter().zip(&dy.data).map(|(&v, g)| g * slope(v)).collect()
}

/// With z the normalised x of a group, r its inverse deviation and g = weight * dy: `dx = r (g - mean(g) - z mean(g
/// z))`.
pub(super) fn group_norm(x: &Tensor, dy: &Tensor, n: &GroupNorm, weight: &[f64]) -> Vec<f64> {
    let positions = x.dims.positions();
    let size = x.dims.channels() / n.groups * positions;
    let mut dx = Vec::with_capacity(x.data.len());
    for (group, (x, dy)) in x.data.chunks_exact(size).zip(dy.data.chunks_exact(size)).enumerate() {
        let mean_of = |v: &[f64]| v.iter().sum::<f64>() / size as f64;
        let mean = mean_of(x);
        let variance = mean_of(&x.iter().map(|v| (v - mean) * (v - mean)).collect::<Vec<_>>());
        let r = 1.0 / libm::sqrt(variance + f64::from(n.eps));
        let g: Vec<f64> = dy.iter().enumerate().map(|(i, d)| d * weight[(group * size + i) / positions]).collect();
        let z: Vec<f64> = x.iter().map(|v| (v - mean) * r).collect();
        let gz: Vec<f64> = g.iter().zip(&z).map(|(g, z)| g * z).collect();
        let (mean_g, mean_gz) = (mean_of(&g), mean_of(&gz));
        dx.extend(g.iter().zip(&z).map(|(g, z)| r * (g - mean_g - z * mean_gz)));
    }
    dx
}

/// With P the softmax of S = q^T k / sqrt(d): `dv = P^T dy`, `dP = dy^T v`, `dS = P (dP - sum(P dP))`, `dq = dS k`, `dk
/// = dS^T q`.
pub(super) fn attention([q, k, v]: [&Tensor; 3], dy: &Tensor, heads: usize) -> [Vec<f64>; 3] {
    let (tq, tk) = (q.dims.positions(), k.dims.positions());
    let (d, dv) = (q.dims.channels() / heads, v.dims.channels() / heads);
    let root = libm::sqrt(d as f64);
    let mut grads = [q, k, v].map(|t| alloc::vec![0.0; t.data.len()]);
    for (h, i) in (0..heads).flat_map(|h| (0..tq).map(move |i| (h, i))) {
        let (qk, vy) = (h * d..(h + 1) * d, h * dv..(h + 1) * dv);
        let dot = |j: usize| qk.clone().map(|c| q.data[c * tq + i] * k.data[c * tk + j]).sum::<f64>() / root;
        let scores: Vec<f64> = (0..tk).map(dot).collect();
        let max = scores.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
        let e: Vec<f64> = scores.iter().map(|s| libm::exp(s - max)).collect();
        let sum: f64 = e.iter().sum();
        let dp = |j: usize| vy.clone().map(|c| dy.data[c * tq + i] * v.data[c * tk + j]).sum::<f64>();
        let dp: Vec<f64> = (0..tk).map(dp).collect();
        let mean: f64 = e.iter().zip(&dp).map(|(e, dp)| e / sum * dp).sum();
        for j in 0..tk {
            let p = e[j] / sum;
            let ds = p * (dp[j] - mean) / root;
            for c in qk.clone() {
                grads[0][c * tq + i] += ds * k.data[c * tk + j];
                grads[1][c * tk + j] += ds * q.data[c * tq + i];
            }
            for c in vy.clone() {
                grads[2][c * tk + j] += p * dy.data[c * tq + i];
            }
        }
    }
    grads
}

pub(super) fn softmax(y: &Tensor, dy: &Tensor) -> Vec<f64> {
    each_position(y.dims.channels(), y.dims.positions(), |p| {
        let mean: f64 = at_position(y, p).zip(at_position(dy, p)).map(|(y, d)| y * d).sum();
        at_position(y, p).zip(at_position(dy, p)).map(|(y, d)| y * (d - mean)).collect()
    })
}

pub(super) fn radial_basis(x: &Tensor, dy: &Tensor, centres: &[f64], widths: &[f64]) -> Vec<f64> {
    let d = x.dims.channels();
    each_position(d, x.dims.positions(), |p| {
        let mut dx = alloc::vec![0.0; d];
        for ((c, w), dy) in centres.chunks_exact(d).zip(widths).zip(at_position(dy, p)) {
            for ((dx, c), x) in dx.iter_mut().zip(c).zip(at_position(x, p)) {
                *dx += dy * (c - x) / (w * w);
            }
        }
        dx
    })
}
