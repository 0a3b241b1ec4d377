//! Attention and its gradients, head by head and sample by sample, as matrix products.

use alloc::vec::Vec;

use super::value::Value;
use crate::error::Result;
use crate::matmul::{Strided, product_f32};

/// The channels of head `h` of a sample as a matrix `[channels, positions]`.
fn head<'a>(x: Value<'a>, heads: usize, h: usize, sample: usize) -> Result<Strided<'a>> {
    let (c, p) = (x.channels() / heads, x.positions());
    Strided::new(&x.data[h * c * x.row() + sample * p..], c, p, x.row())
}

/// Softmax of each row of `n`, in place, after a factor.
fn softmax(rows: &mut [f32], n: usize, scale: f32) {
    for row in rows.chunks_exact_mut(n) {
        let max = row.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
        row.iter_mut().for_each(|v| *v = libm::expf((*v - max) * scale));
        let sum: f32 = row.iter().sum();
        row.iter_mut().for_each(|v| *v /= sum);
    }
}

pub(super) fn forward([q, k, v]: [Value<'_>; 3], heads: usize, out: &mut [f32], scratch: &mut Vec<f32>) -> Result<()> {
    let (tq, tk, dv) = (q.positions(), k.positions(), v.channels() / heads);
    let scale = 1.0 / libm::sqrtf((q.channels() / heads) as f32);
    let row = q.row();
    scratch.clear();
    scratch.resize(tq * tk, 0.0);
    for (h, s) in (0..heads).flat_map(|h| (0..q.batch).map(move |s| (h, s))) {
        product_f32(head(q, heads, h, s)?.transposed(), head(k, heads, h, s)?, 0.0, scratch, tk)?;
        softmax(scratch, tk, scale);
        let p = Strided::new(scratch, tq, tk, tk)?.transposed();
        product_f32(head(v, heads, h, s)?, p, 0.0, &mut out[h * dv * row + s * tq..], row)?;
    }
    Ok(())
}

/// With P the softmax of S = q^T k / sqrt(d): `dv = dy P`, `dP = dy^T v`, `dS = P (dP - sum(P dP))`, `dq = k dS^T`, `dk
/// = q dS`.
pub(super) fn backward(
    [q, k, v]: [Value<'_>; 3],
    dy: Value<'_>,
    heads: usize,
    query_only: bool,
    out: &mut [f32],
    scratch: &mut Vec<f32>,
) -> Result<()> {
    let (tq, tk) = (q.positions(), k.positions());
    let (d, dv) = (q.channels() / heads, v.channels() / heads);
    let scale = 1.0 / libm::sqrtf(d as f32);
    let row = q.row();
    scratch.clear();
    scratch.resize(2 * tq * tk, 0.0);
    for (h, s) in (0..heads).flat_map(|h| (0..q.batch).map(move |s| (h, s))) {
        let (p, dp) = scratch.split_at_mut(tq * tk);
        let (qh, kh, vh, dyh) =
            (head(q, heads, h, s)?, head(k, heads, h, s)?, head(v, heads, h, s)?, head(dy, heads, h, s)?);
        product_f32(qh.transposed(), kh, 0.0, p, tk)?;
        softmax(p, tk, scale);
        product_f32(dyh.transposed(), vh, 0.0, dp, tk)?;
        if !query_only {
            let at = (q.channels() + k.channels() + h * dv) * row + s * tk;
            product_f32(dyh, Strided::new(p, tq, tk, tk)?, 0.0, &mut out[at..], row)?;
        }
        for (p, dp) in p.chunks_exact(tk).zip(dp.chunks_exact_mut(tk)) {
            let mean: f32 = p.iter().zip(&*dp).map(|(p, dp)| p * dp).sum();
            dp.iter_mut().zip(p).for_each(|(dp, p)| *dp = p * (*dp - mean) * scale);
        }
        let ds = Strided::new(dp, tq, tk, tk)?;
        product_f32(kh, ds.transposed(), 0.0, &mut out[h * d * row + s * tq..], row)?;
        if !query_only {
            product_f32(qh, ds, 0.0, &mut out[(q.channels() + h * d) * row + s * tk..], row)?;
        }
    }
    Ok(())
}
