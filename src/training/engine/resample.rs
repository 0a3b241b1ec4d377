//! What changes the size of images, plane by plane.

use super::value::{Value, image};
use crate::tensor::Dims;

pub(super) fn upsample(x: Value<'_>, factor: usize, out: &mut [f32]) {
    let [_, h, w] = image(x.dims);
    for (row, to) in x.data.chunks_exact(w).zip(out.chunks_exact_mut(factor * factor * w)) {
        let (first, rest) = to.split_at_mut(factor * w);
        first.chunks_exact_mut(factor).zip(row).for_each(|(to, v)| to.fill(*v));
        rest.chunks_exact_mut(factor * w).for_each(|to| to.copy_from_slice(first));
    }
    debug_assert_eq!(out.len() / (factor * factor * w), x.channels() * x.batch * h);
}

pub(super) fn average_pool(x: Value<'_>, factor: usize, dims: Dims, out: &mut [f32]) {
    let [_, h, w] = image(x.dims);
    let [_, ho, wo] = image(dims);
    let scale = 1.0 / (factor * factor) as f32;
    for (plane, to) in x.data.chunks_exact(h * w).zip(out.chunks_exact_mut(ho * wo)) {
        for (r, to) in to.chunks_exact_mut(wo).enumerate() {
            to.fill(0.0);
            for row in plane[r * factor * w..].chunks_exact(w).take(factor) {
                to.iter_mut().zip(row.chunks_exact(factor)).for_each(|(to, v)| *to += v.iter().sum::<f32>());
            }
            to.iter_mut().for_each(|to| *to *= scale);
        }
    }
}

/// Only pixels of x are visited, so that inserted zeros cost nothing.
pub(super) fn fir(x: Value<'_>, taps: &[f32], [up, down]: [usize; 2], pad: [isize; 2], dims: Dims, out: &mut [f32]) {
    let [_, h, w] = image(x.dims);
    let [_, ho, wo] = image(dims);
    let n = taps.len();
    // The outputs that see pixel v, each with the tap: out * down + a - pad = v * up, where tap n - 1 - a is used.
    let seen = |v: usize, size: usize| {
        (0..n).filter_map(move |a| {
            let at = (v * up) as isize + pad[0] - a as isize;
            let out = usize::try_from(at).ok().filter(|at| at.is_multiple_of(down)).map(|at| at / down);
            out.filter(|&o| o < size).map(|o| (o, taps[n - 1 - a]))
        })
    };
    out.fill(0.0);
    for (plane, to) in x.data.chunks_exact(h * w).zip(out.chunks_exact_mut(ho * wo)) {
        for (r, row) in plane.chunks_exact(w).enumerate() {
            for (ro, tap) in seen(r, ho) {
                for (c, v) in row.iter().enumerate() {
                    for (co, other) in seen(c, wo) {
                        to[ro * wo + co] += tap * other * v;
                    }
                }
            }
        }
    }
}
