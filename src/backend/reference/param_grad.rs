//! The loops of the gradients by parameters.

use alloc::vec::Vec;
use core::f64::consts::PI;

use super::Tensor;
use super::ops::{self, image};
use crate::graph::{GroupNorm, ParamGrad, ParamId, Window};
use crate::tensor::Dims;

/// What one sample adds to the gradient by a parameter of `dims`. `param` looks parameters up.
pub(super) fn gradient<'a>(
    of: &ParamGrad,
    args: &[&Tensor],
    dims: Dims,
    param: &dyn Fn(ParamId) -> &'a [f64],
) -> Vec<f64> {
    match *of {
        ParamGrad::Weight { ref window, .. } => weight(args[0], args[1], window, dims),
        ParamGrad::Bias => args[0].data.chunks_exact(args[0].dims.positions()).map(|c| c.iter().sum()).collect(),
        ParamGrad::NormWeight(ref norm) => norm_weight(args[0], args[1], norm),
        ParamGrad::Frequencies { weight, log, flip_sin_to_cos } => {
            let x = if log { libm::log(args[0].data[0]) } else { args[0].data[0] };
            let (first, second) = args[1].data.split_at(dims.elements());
            let (sin, cos) = if flip_sin_to_cos { (second, first) } else { (first, second) };
            let by = |((w, sin), cos): ((&f64, &f64), &f64)| {
                let angle = 2.0 * PI * x * w;
                2.0 * PI * x * (libm::cos(angle) * sin - libm::sin(angle) * cos)
            };
            param(weight).iter().zip(sin).zip(cos).map(by).collect()
        }
        ParamGrad::ElementBias => args[0].data.clone(),
        ParamGrad::Centres { centres, widths } => radial(args[0], args[1], param(centres), param(widths)).0,
        ParamGrad::Widths { centres, widths } => radial(args[0], args[1], param(centres), param(widths)).1,
        ParamGrad::Table(_) => {
            let n = args[1].data.len();
            let mut table = alloc::vec![0.0; dims.elements()];
            // The forward pass has refused a number that is no row.
            table[args[0].data[0] as usize * n..][..n].copy_from_slice(&args[1].data);
            table
        }
    }
}

fn weight(x: &Tensor, dy: &Tensor, window: &Window, dims: Dims) -> Vec<f64> {
    let [ci, hi, wi] = image(x.dims);
    let [co, ho, wo] = image(dy.dims);
    let [kh, kw] = window.kernel;
    let (s, p) = (window.stride, window.padding);
    let mut dw = Vec::with_capacity(dims.elements());
    for (o, i) in (0..co).flat_map(|o| (0..ci).map(move |i| (o, i))) {
        for (ky, kx) in (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx))) {
            let mut sum = 0.0;
            for (yo, xo) in (0..ho).flat_map(|yo| (0..wo).map(move |xo| (yo, xo))) {
                let inside = |at: usize, before: usize, size: usize| at.checked_sub(before).filter(|&v| v < size);
                if let (Some(yi), Some(xi)) = (inside(yo * s + ky, p.top, hi), inside(xo * s + kx, p.left, wi)) {
                    sum += dy.data[(o * ho + yo) * wo + xo] * x.data[(i * hi + yi) * wi + xi];
                }
            }
            dw.push(sum);
        }
    }
    dw
}

/// The sum of dy times the normalised x, per channel.
fn norm_weight(x: &Tensor, dy: &Tensor, norm: &GroupNorm) -> Vec<f64> {
    let c = x.dims.channels();
    let ab = ops::group_norm_affine(x, norm, &alloc::vec![1.0; c], &alloc::vec![0.0; c]);
    let normalised = ops::apply_affine(x, &ab);
    let n = x.dims.positions();
    let by = |(z, dy): (&[f64], &[f64])| z.iter().zip(dy).map(|(z, dy)| z * dy).sum();
    normalised.chunks_exact(n).zip(dy.data.chunks_exact(n)).map(by).collect()
}

/// Of y_k = -|x - c_k|^2 / (2 w_k^2): by c_k the sum of dy_k (x - c_k) / w_k^2, by w_k that of dy_k |x - c_k|^2 /
/// w_k^3.
fn radial(x: &Tensor, dy: &Tensor, centres: &[f64], widths: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let (d, n) = (x.dims.channels(), x.dims.positions());
    let (mut dc, mut dw) = (alloc::vec![0.0; centres.len()], alloc::vec![0.0; widths.len()]);
    for (k, p) in (0..widths.len()).flat_map(|k| (0..n).map(move |p| (k, p))) {
        let (w, dy) = (widths[k], dy.data[k * n + p]);
        for i in 0..d {
            let off = x.data[i * n + p] - centres[k * d + i];
            dc[k * d + i] += dy * off / (w * w);
            dw[k] += dy * off * off / (w * w * w);
        }
    }
    (dc, dw)
}
