//! From a network's output to x_0 and eps: shared by all samplers and all evidence.

use crate::error::{Result, ensure};
use crate::schedule::Level;

/// What the network was trained to give. The names are diffusers'.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PredictionType {
    /// The noise eps.
    #[default]
    Epsilon,
    /// x_0 itself.
    Sample,
    /// v = alpha eps - sigma x_0 (Salimans and Ho 2022).
    VPrediction,
    /// The velocity eps - x_0 of a straight path x_t = (1 - sigma) x_0 + sigma eps (Lipman 2023, Liu 2023). Only for
    /// levels with alpha + sigma = 1.
    Flow,
}

impl PredictionType {
    /// All of them, with the names that configurations use.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("epsilon", Self::Epsilon),
        ("sample", Self::Sample),
        ("v_prediction", Self::VPrediction),
        ("flow_prediction", Self::Flow),
    ];
}

/// What is done to a predicted x_0 before it is used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum SampleClip {
    /// Nothing.
    #[default]
    None,
    /// Clamp to -r ..= r.
    Range(f32),
    /// Dynamic thresholding (Saharia 2022): s is the quantile `ratio` of one sample's |x_0|, brought into 1 ..= max;
    /// clamp to -s ..= s and divide by s. Per sample, so it does not depend on the batch.
    Dynamic {
        /// The quantile, 0 ..= 1; interpolated linearly.
        ratio: f32,
        /// The largest s.
        max: f32,
    },
}

/// x_0 = x0_x * x + x0_output * output and eps = eps_x * x + eps_output * output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Linear {
    /// d x_0 / d x with the output held fixed.
    pub x0_x: f64,
    /// d x_0 / d output.
    pub x0_output: f64,
    /// d eps / d x with the output held fixed.
    pub eps_x: f64,
    /// d eps / d output.
    pub eps_output: f64,
}

/// How x_0 and eps follow from the network's output.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Prediction {
    /// What the output is.
    pub kind: PredictionType,
    /// What is done to x_0.
    pub clip: SampleClip,
    /// Whether eps is computed again from the clipped x_0 (`use_clipped_model_output`).
    pub rederive_eps: bool,
}

impl Prediction {
    /// Errors (kind `InvalidArgument`) for a clip that is no range.
    pub fn check(&self) -> Result<()> {
        match self.clip {
            SampleClip::None => {}
            SampleClip::Range(r) => {
                ensure!(r > 0.0 && r.is_finite(), InvalidArgument, "clip_sample_range is {r}, expected above 0")
            }
            SampleClip::Dynamic { ratio, max } => {
                ensure!(
                    (0.0..=1.0).contains(&ratio),
                    InvalidArgument,
                    "dynamic_thresholding_ratio is {ratio}, expected 0 to 1"
                );
                ensure!(max > 0.0 && max.is_finite(), InvalidArgument, "sample_max_value is {max}, expected above 0");
            }
        }
        Ok(())
    }

    /// The linear part, for a level.
    pub fn linear(&self, level: &Level) -> Linear {
        let (a, s) = (level.alpha, level.sigma);
        match self.kind {
            PredictionType::Epsilon => Linear { x0_x: 1.0 / a, x0_output: -s / a, eps_x: 0.0, eps_output: 1.0 },
            PredictionType::Sample => Linear { x0_x: 0.0, x0_output: 1.0, eps_x: 1.0 / s, eps_output: -a / s },
            PredictionType::VPrediction => Linear { x0_x: a, x0_output: -s, eps_x: s, eps_output: a },
            PredictionType::Flow => Linear { x0_x: 1.0, x0_output: -s, eps_x: 1.0, eps_output: a },
        }
    }

    /// Fills `x0` and `eps` (n values each) from `x` (n values) and the first n values of `output`. `alpha` and `sigma`
    /// are the level's, rounded to f32. Elements are f32; of differing lengths the shortest counts.
    pub fn apply(&self, alpha: f32, sigma: f32, x: &[f32], output: &[f32], x0: &mut [f32], eps: &mut [f32]) {
        // The order of operations is diffusers'.
        match self.kind {
            PredictionType::Epsilon => map(x, output, x0, |x, o| (x - sigma * o) / alpha),
            PredictionType::Sample => map(x, output, x0, |_, o| o),
            PredictionType::VPrediction => map(x, output, x0, |x, o| alpha * x - sigma * o),
            PredictionType::Flow => map(x, output, x0, |x, o| x - sigma * o),
        }
        self.clip.apply(x0, eps);
        let noise = |x: f32, x0: f32| (x - alpha * x0) / sigma;
        match self.kind {
            _ if self.rederive_eps => map(x, x0, eps, noise),
            PredictionType::Epsilon => map(x, output, eps, |_, o| o),
            PredictionType::Sample => map(x, output, eps, noise),
            PredictionType::VPrediction => map(x, output, eps, |x, o| alpha * o + sigma * x),
            PredictionType::Flow => map(x, output, eps, |x, o| x + alpha * o),
        }
    }

    /// As [`Prediction::apply`] where x_0 and eps before clipping are `linear` and not what [`Prediction::kind`] says:
    /// a network behind a preconditioning, or one whose x_t is scaled otherwise than the network's. Coefficients are
    /// rounded to f32.
    pub fn apply_linear(
        &self,
        linear: &Linear,
        [alpha, sigma]: [f32; 2],
        x: &[f32],
        output: &[f32],
        x0: &mut [f32],
        eps: &mut [f32],
    ) {
        let sum = |a: f64, b: f64| {
            let (a, b) = (a as f32, b as f32);
            move |x: f32, o: f32| a * x + b * o
        };
        map(x, output, x0, sum(linear.x0_x, linear.x0_output));
        self.clip.apply(x0, eps);
        if self.rederive_eps {
            map(x, x0, eps, |x, x0| (x - alpha * x0) / sigma);
        } else {
            map(x, output, eps, sum(linear.eps_x, linear.eps_output));
        }
    }
}

fn map(a: &[f32], b: &[f32], out: &mut [f32], f: impl Fn(f32, f32) -> f32) {
    out.iter_mut().zip(a).zip(b).for_each(|((out, &a), &b)| *out = f(a, b));
}

impl SampleClip {
    /// Clips one sample's x_0. `scratch`, as long, is overwritten where a quantile is needed.
    fn apply(self, x0: &mut [f32], scratch: &mut [f32]) {
        match self {
            Self::None => {}
            Self::Range(r) => x0.iter_mut().for_each(|v| *v = clamp(*v, r)),
            Self::Dynamic { ratio, max } => {
                scratch.iter_mut().zip(&*x0).for_each(|(e, v)| *e = v.abs());
                let s = quantile(scratch, ratio).max(1.0).min(max);
                x0.iter_mut().for_each(|v| *v = clamp(*v, s) / s);
            }
        }
    }
}

/// Clamp that keeps NaN, so that a broken value is found and not hidden.
fn clamp(v: f32, r: f32) -> f32 {
    if v > r {
        r
    } else if v < -r {
        -r
    } else {
        v
    }
}

/// The quantile of `values` with linear interpolation, in f32 as `torch.quantile` computes it; reorders `values`.
fn quantile(values: &mut [f32], ratio: f32) -> f32 {
    let Some(last) = values.len().checked_sub(1) else { return 0.0 };
    let rank = (ratio * last as f32).clamp(0.0, last as f32);
    let lower = (rank as usize).min(last);
    let weight = rank - lower as f32;
    let (_, &mut below, rest) = values.select_nth_unstable_by(lower, f32::total_cmp);
    let above = rest.iter().copied().min_by(f32::total_cmp).unwrap_or(below);
    if weight < 0.5 { below + weight * (above - below) } else { above - (above - below) * (1.0 - weight) }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn all_types_agree_on_one_pair() {
        let level = Level::variance_preserving(0.0, 0.36);
        let (a, s) = (0.6f32, 0.8f32);
        let (x0, eps) = (0.5f32, -0.25f32);
        let x = [a * x0 + s * eps];
        for (kind, output) in [
            (PredictionType::Epsilon, eps),
            (PredictionType::Sample, x0),
            (PredictionType::VPrediction, a * eps - s * x0),
        ] {
            for rederive_eps in [false, true] {
                let p = Prediction { kind, rederive_eps, ..Default::default() };
                let (mut got_x0, mut got_eps) = ([0.0], [0.0]);
                p.apply(a, s, &x, &[output, 99.0], &mut got_x0, &mut got_eps);
                assert!((got_x0[0] - x0).abs() < 1e-6 && (got_eps[0] - eps).abs() < 1e-6, "{kind:?}");
                let l = p.linear(&level);
                let (x, o) = (f64::from(x[0]), f64::from(output));
                assert!((l.x0_x * x + l.x0_output * o - f64::from(x0)).abs() < 1e-6, "{kind:?}");
                assert!((l.eps_x * x + l.eps_output * o - f64::from(eps)).abs() < 1e-6, "{kind:?}");
            }
        }
    }

    #[test]
    fn clipping_leaves_eps_unless_asked() {
        let p = |rederive_eps| Prediction { clip: SampleClip::Range(1.0), rederive_eps, ..Default::default() };
        let (mut x0, mut eps) = ([0.0], [0.0]);
        p(false).apply(0.6, 0.8, &[3.0], &[0.5], &mut x0, &mut eps);
        assert_eq!((x0, eps), ([1.0], [0.5]));
        p(true).apply(0.6, 0.8, &[3.0], &[0.5], &mut x0, &mut eps);
        assert_eq!((x0, eps), ([1.0], [(3.0 - 0.6) / 0.8]));
    }

    #[test]
    fn quantiles_interpolate() {
        assert_eq!(quantile(&mut [3.0, 1.0, 2.0], 0.5), 2.0);
        assert_eq!(quantile(&mut [3.0, 1.0, 2.0, 0.0], 0.5), 1.5);
        assert!((quantile(&mut [4.0, 0.0], 0.9) - 3.6).abs() < 1e-6);
        assert_eq!(quantile(&mut [4.0, 7.0, 0.0], 1.0), 7.0);
        assert_eq!(quantile(&mut [4.0, 7.0, 0.0], 0.0), 0.0);
        assert_eq!(quantile(&mut [], 0.3), 0.0);
    }

    #[test]
    fn thresholding_divides_what_it_clamps() {
        let clip = SampleClip::Dynamic { ratio: 1.0, max: 2.0 };
        let p = Prediction { kind: PredictionType::Sample, clip, ..Default::default() };
        let (mut x0, mut eps) = (vec![0.0; 3], vec![0.0; 3]);
        p.apply(0.6, 0.8, &[0.0; 3], &[0.5, -1.0, 4.0], &mut x0, &mut eps);
        assert_eq!(x0, [0.25, -0.5, 1.0]);
        p.apply(0.6, 0.8, &[0.0; 3], &[0.25, -0.5, 0.75], &mut x0, &mut eps);
        assert_eq!(x0, [0.25, -0.5, 0.75], "s is at least 1");
    }

    #[test]
    fn nan_is_not_hidden() {
        for clip in [SampleClip::Range(1.0), SampleClip::Dynamic { ratio: 0.9, max: 2.0 }] {
            let p = Prediction { kind: PredictionType::Sample, clip, ..Default::default() };
            let (mut x0, mut eps) = ([0.0; 2], [0.0; 2]);
            p.apply(0.6, 0.8, &[0.0; 2], &[f32::NAN, 0.0], &mut x0, &mut eps);
            assert!(x0[0].is_nan());
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for clip in [
            SampleClip::Range(0.0),
            SampleClip::Range(f32::NAN),
            SampleClip::Dynamic { ratio: 1.1, max: 1.0 },
            SampleClip::Dynamic { ratio: f32::NAN, max: 1.0 },
            SampleClip::Dynamic { ratio: 0.5, max: f32::INFINITY },
        ] {
            assert!(Prediction { clip, ..Default::default() }.check().is_err(), "{clip:?}");
        }
    }
}
