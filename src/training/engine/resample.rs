//! What changes the size of images, plane by plane.

use super::value::{Value, image};
use crate::tensor::Dims;

pub(super) fn upsample(x: Value<'_>, factor: usize, out: &mut [f32]) {
    let [_, h, w] = image(x.dims);
    debug_assert_eq!(out.len(), x.channels() * x.batch * h * w * factor * factor);
    for (row, to) in x.data.chunks_exact(w).zip(out.chunks_exact_mut(factor * factor * w)) {
        let (first, rest) = to.split_at_mut(factor * w);
        match factor {
            // The usual factors as constants, which the compiler turns into vectors.
            2 => repeat::<2>(row, [1.0; 2], first),
            4 => repeat::<4>(row, [1.0; 4], first),
            _ => first.chunks_exact_mut(factor).zip(row).for_each(|(to, v)| to.fill(*v)),
        }
        rest.chunks_exact_mut(factor * w).for_each(|to| to.copy_from_slice(first));
    }
}

/// Each value `N` times, with these factors.
fn repeat<const N: usize>(row: &[f32], by: [f32; N], to: &mut [f32]) {
    to.as_chunks_mut::<N>().0.iter_mut().zip(row).for_each(|(to, v)| *to = by.map(|by| by * v));
}

pub(super) fn average_pool(x: Value<'_>, factor: usize, dims: Dims, out: &mut [f32]) {
    let [_, h, w] = image(x.dims);
    let [_, ho, wo] = image(dims);
    let scale = 1.0 / (factor * factor) as f32;
    let mut sums = alloc::vec![0.0; w];
    for (plane, to) in x.data.chunks_exact(h * w).zip(out.chunks_exact_mut(ho * wo)) {
        for (rows, to) in plane.chunks_exact(factor * w).zip(to.chunks_exact_mut(wo)) {
            let (first, rest) = rows.split_at(w);
            sums.copy_from_slice(first);
            for row in rest.chunks_exact(w) {
                sums.iter_mut().zip(row).for_each(|(sum, v)| *sum += v);
            }
            match factor {
                2 => means::<2>(&sums, scale, to),
                4 => means::<4>(&sums, scale, to),
                _ => {
                    to.iter_mut().zip(sums.chunks_exact(factor)).for_each(|(to, v)| *to = v.iter().sum::<f32>() * scale)
                }
            }
        }
    }
}

/// `scale` times the sums of runs of `N`.
fn means<const N: usize>(row: &[f32], scale: f32, to: &mut [f32]) {
    to.iter_mut().zip(row.as_chunks::<N>().0).for_each(|(to, v)| *to = v.iter().sum::<f32>() * scale);
}

/// What [`fir`] does where each output sees one pixel, each pixel `N` by `N` outputs: the adjoint of a mean.
fn spread<const N: usize>(x: Value<'_>, taps: [f32; N], dims: Dims, out: &mut [f32]) {
    let ([_, h, w], [_, ho, wo]) = (image(x.dims), image(dims));
    out.fill(0.0);
    for (plane, to) in x.data.chunks_exact(h * w).zip(out.chunks_exact_mut(ho * wo)) {
        for (row, to) in plane.chunks_exact(w).zip(to.chunks_mut(N * wo)) {
            for (tap, to) in taps.iter().zip(to.chunks_exact_mut(wo)) {
                repeat(row, taps.map(|other| tap * other), to);
            }
        }
    }
}

/// Only pixels of x are visited, so that inserted zeros cost nothing.
pub(super) fn fir(x: Value<'_>, taps: &[f32], [up, down]: [usize; 2], pad: [isize; 2], dims: Dims, out: &mut [f32]) {
    let [_, h, w] = image(x.dims);
    let [_, ho, wo] = image(dims);
    let n = taps.len();
    if down == 1 && up == n && pad[0] + 1 == n as isize {
        if let Ok(taps) = <[f32; 2]>::try_from(taps) {
            return spread(x, taps, dims, out);
        }
        if let Ok(taps) = <[f32; 4]>::try_from(taps) {
            return spread(x, taps, dims, out);
        }
    }
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
