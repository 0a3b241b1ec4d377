//! Group normalisation and its gradients. Where a group is small its gradient is what is left of a difference, so all
//! of it is f64.

use super::value::Value;
use crate::graph::GroupNorm;

/// Mean and inverse deviation of one group of one sample, summed in f64.
fn moments(x: Value<'_>, channels: core::ops::Range<usize>, sample: usize, eps: f32) -> (f64, f64) {
    let n = (channels.len() * x.positions()) as f64;
    let planes = || channels.clone().flat_map(|c| x.plane(c, sample)).map(|&v| f64::from(v));
    let mean = planes().sum::<f64>() / n;
    let variance = planes().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n;
    (mean, 1.0 / libm::sqrt(variance + f64::from(eps)))
}

/// Calls `f` with the channels of each group, each sample, and its moments.
fn groups(x: Value<'_>, n: &GroupNorm, mut f: impl FnMut(core::ops::Range<usize>, usize, f64, f64)) {
    let size = x.channels() / n.groups;
    for (g, sample) in (0..n.groups).flat_map(|g| (0..x.batch).map(move |s| (g, s))) {
        let channels = g * size..(g + 1) * size;
        let (mean, r) = moments(x, channels.clone(), sample, n.eps);
        f(channels, sample, mean, r);
    }
}

pub(super) fn forward(x: Value<'_>, n: &GroupNorm, weight: &[f32], bias: &[f32], out: &mut [f32]) {
    let (p, row) = (x.positions(), x.row());
    groups(x, n, |channels, sample, mean, r| {
        for c in channels {
            let (a, b) = (f64::from(weight[c]) * r, f64::from(bias[c]));
            let to = &mut out[c * row + sample * p..][..p];
            to.iter_mut().zip(x.plane(c, sample)).for_each(|(y, v)| *y = ((f64::from(*v) - mean) * a + b) as f32);
        }
    });
}

/// With z the normalised x and g = weight * dy: `dx = r (g - mean(g) - z mean(g z))`.
pub(super) fn backward(x: Value<'_>, dy: Value<'_>, n: &GroupNorm, weight: &[f32], out: &mut [f32]) {
    let (p, row) = (x.positions(), x.row());
    groups(x, n, |channels, sample, mean, r| {
        let (mut sum, mut product) = (0.0f64, 0.0f64);
        for c in channels.clone() {
            let w = f64::from(weight[c]);
            for (v, d) in x.plane(c, sample).iter().zip(dy.plane(c, sample)) {
                sum += w * f64::from(*d);
                product += w * f64::from(*d) * (f64::from(*v) - mean) * r;
            }
        }
        let count = (channels.len() * p) as f64;
        let (sum, product) = (sum / count, product / count);
        for c in channels {
            let to = &mut out[c * row + sample * p..][..p];
            for ((to, v), d) in to.iter_mut().zip(x.plane(c, sample)).zip(dy.plane(c, sample)) {
                let z = (f64::from(*v) - mean) * r;
                *to = (r * (f64::from(weight[c]) * f64::from(*d) - sum - z * product)) as f32;
            }
        }
    });
}

/// Adds the sums of dy times the normalised x.
pub(super) fn add_weight(x: Value<'_>, dy: Value<'_>, n: &GroupNorm, to: &mut [f32]) {
    groups(x, n, |channels, sample, mean, r| {
        for c in channels {
            let all = x.plane(c, sample).iter().zip(dy.plane(c, sample));
            to[c] += all.map(|(v, d)| (f64::from(*v) - mean) * r * f64::from(*d)).sum::<f64>() as f32;
        }
    });
}
