//! Chains whose result is known: with the exact denoiser of a Gaussian every step is linear, so mean and covariance of
//! x_0 follow from a recursion, and with many steps they are the prior's.

use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::denoiser::{Component, Covariance, GaussianMixture};
use undiffuse::noise::{NoiseSource, Seeded};
use undiffuse::process::Posterior;
use undiffuse::sampler::{PredictionType, Sampler, SamplerKind, SamplerOptions, SchedulerConfig, Steps, VarianceType};
use undiffuse::schedule::{Arithmetic, Level};
use undiffuse::tensor::Dims;

const MEAN: [f64; 2] = [0.3, -0.2];
/// Eigenvalues 0.41 and 0.09 along (0.8, 0.6) and (-0.6, 0.8).
const AXES: [[f64; 2]; 2] = [[0.8, 0.6], [-0.6, 0.8]];
const VARIANCES: [f64; 2] = [0.41, 0.09];

fn covariance() -> Vec<f64> {
    (0..4).map(|i| (0..2).map(|k| VARIANCES[k] * AXES[k][i / 2] * AXES[k][i % 2]).sum()).collect()
}

fn prior(kind: PredictionType) -> GaussianMixture {
    let component = Component { weight: 1.0, mean: MEAN.to_vec(), covariance: Covariance::Full(covariance()) };
    GaussianMixture::new(Dims::new(&[2]).unwrap(), &[component], kind).unwrap()
}

/// One step of a sampler as x_s = of_x0 x_0 + of_eps eps + of_x x + std z.
struct Rule {
    of_x0: f64,
    of_eps: f64,
    of_x: f64,
    variance: f64,
}

fn ddpm_rule(t: &Level, s: &Level, large: bool, last: bool) -> Rule {
    let p = Posterior::new(t.alpha_bar(), s.alpha_bar(), Arithmetic::Float64);
    let variance = if last {
        0.0
    } else if large {
        p.beta
    } else {
        p.variance
    };
    Rule { of_x0: p.x0, of_eps: 0.0, of_x: p.x, variance }
}

fn ddim_rule(t: &Level, s: &Level, eta: f64) -> Rule {
    let p = Posterior::new(t.alpha_bar(), s.alpha_bar(), Arithmetic::Float64);
    let variance = eta * eta * p.variance;
    Rule { of_x0: s.alpha, of_eps: (1.0 - s.alpha_bar() - variance).max(0.0).sqrt(), of_x: 0.0, variance }
}

/// The exact mean and variance of the result along an axis whose prior has mean `m` and variance `v`.
fn recursion(sampler: &dyn Sampler, m: f64, v: f64, rule: impl Fn(usize, &Level, &Level) -> Rule) -> (f64, f64) {
    let (mut mean, mut var) = (0.0, 1.0);
    for (i, t) in sampler.levels().iter().enumerate() {
        let r = rule(i, t, &sampler.target(i).unwrap());
        // x_0 = m + g (x - alpha m), eps = (x - alpha x_0) / sigma.
        let g = t.alpha * v / (t.alpha_bar() * v + t.sigma * t.sigma);
        let slope = r.of_x0 * g + r.of_eps * (1.0 - t.alpha * g) / t.sigma + r.of_x;
        let x0_at = |x: f64| m + g * (x - t.alpha * m);
        mean = r.of_x0 * x0_at(mean) + r.of_eps * (mean - t.alpha * x0_at(mean)) / t.sigma + r.of_x * mean;
        var = slope * slope * var + r.variance;
    }
    (mean, var)
}

/// Sample mean and covariance of a run.
fn moments(sampler: &dyn Sampler, kind: PredictionType, samples: usize) -> ([f64; 2], [f64; 3]) {
    let options = ChainOptions { batch: samples, first_sample: 0 };
    let mut chain = Chain::new(prior(kind), sampler, Seeded::new(11), &options).unwrap();
    chain.run().unwrap();
    let n = samples as f64;
    let rows = || chain.x().chunks_exact(2).map(|r| [f64::from(r[0]), f64::from(r[1])]);
    let mean = [0, 1].map(|i| rows().map(|r| r[i]).sum::<f64>() / n);
    let second = |i: usize, j: usize| rows().map(|r| (r[i] - mean[i]) * (r[j] - mean[j])).sum::<f64>() / n;
    (mean, [second(0, 0), second(0, 1), second(1, 1)])
}

fn check(name: &str, sampler: &dyn Sampler, kind: PredictionType, rule: impl Fn(usize, &Level, &Level) -> Rule + Copy) {
    // The bounds are standard errors of as many.
    const SAMPLES: usize = 1000;
    let along = [0, 1].map(|k| {
        let m = AXES[k][0] * MEAN[0] + AXES[k][1] * MEAN[1];
        recursion(sampler, m, VARIANCES[k], rule)
    });
    let mean = [0, 1].map(|i| (0..2).map(|k| along[k].0 * AXES[k][i]).sum::<f64>());
    let cov = [(0, 0), (0, 1), (1, 1)].map(|(i, j)| (0..2).map(|k| along[k].1 * AXES[k][i] * AXES[k][j]).sum::<f64>());
    let (got_mean, got_cov) = moments(sampler, kind, SAMPLES);
    println!("{name}: exact {mean:?} {cov:?}, sampled {got_mean:?} {got_cov:?}");
    let n = SAMPLES as f64;
    for i in 0..2 {
        let se = (cov[2 * i] / n).sqrt();
        assert!((got_mean[i] - mean[i]).abs() < 4.0 * se, "{name}: mean {i} {} against {}", got_mean[i], mean[i]);
    }
    for (c, (i, j)) in [(0, 0), (0, 1), (1, 1)].into_iter().enumerate() {
        // Of a Gaussian's sample covariance: (c_ii c_jj + c_ij^2) / n.
        let se = ((cov[2 * i] * cov[2 * j] + cov[c] * cov[c]) / n).sqrt();
        assert!((got_cov[c] - cov[c]).abs() < 4.0 * se, "{name}: covariance {c} {} against {}", got_cov[c], cov[c]);
    }
    // Many steps: the prior itself, within 2 %.
    if sampler.levels().len() == 1000 {
        let want = covariance();
        for (c, w) in [want[0], want[1], want[3]].into_iter().enumerate() {
            assert!((cov[c] - w).abs() < 0.02 * want[0], "{name}: covariance {c} {} against the prior's {w}", cov[c]);
        }
        assert!((0..2).all(|i| (mean[i] - MEAN[i]).abs() < 0.02), "{name}: mean {mean:?}");
    }
}

fn config(kind: SamplerKind, prediction_type: PredictionType) -> SchedulerConfig {
    SchedulerConfig { clip_sample: false, prediction_type, ..SchedulerConfig::new(kind) }
}

#[test]
fn ddpm_reaches_the_prior() {
    for (variance_type, steps, prediction) in [
        (VarianceType::FixedSmall, 1000, PredictionType::Epsilon),
        (VarianceType::FixedSmallLog, 50, PredictionType::VPrediction),
        (VarianceType::FixedLarge, 100, PredictionType::Sample),
        (VarianceType::FixedLargeLog, 100, PredictionType::Sample),
    ] {
        let config = SchedulerConfig { variance_type, ..config(SamplerKind::Ddpm, prediction) };
        for arithmetic in [Arithmetic::Float32, Arithmetic::Float64] {
            let options = SamplerOptions { steps: Steps::Count(steps), arithmetic, ..Default::default() };
            let sampler = config.sampler(&options).unwrap();
            let large = matches!(variance_type, VarianceType::FixedLarge | VarianceType::FixedLargeLog);
            check(&format!("DDPM {variance_type:?} {steps}"), &*sampler, prediction, |i, t, s| {
                ddpm_rule(t, s, large, i + 1 == steps)
            });
        }
    }
}

#[test]
fn ddim_reaches_the_prior() {
    for (eta, steps, prediction) in [
        (0.0, 1000, PredictionType::Epsilon),
        (1.0, 1000, PredictionType::VPrediction),
        (0.0, 50, PredictionType::Sample),
        (0.5, 50, PredictionType::Epsilon),
    ] {
        let options = SamplerOptions { steps: Steps::Count(steps), eta, ..Default::default() };
        let sampler = config(SamplerKind::Ddim, prediction).sampler(&options).unwrap();
        check(&format!("DDIM eta {eta} {steps}"), &*sampler, prediction, |_, t, s| ddim_rule(t, s, eta));
    }
}

#[test]
fn ddim_with_eta_0_is_the_deterministic_map_of_the_recursion() {
    let options = SamplerOptions { steps: Steps::Count(50), arithmetic: Arithmetic::Float64, ..Default::default() };
    let sampler = config(SamplerKind::Ddim, PredictionType::Epsilon).sampler(&options).unwrap();
    let mut chain = Chain::new(
        prior(PredictionType::Epsilon),
        &sampler,
        Seeded::new(3),
        &ChainOptions { batch: 8, first_sample: 0 },
    )
    .unwrap();
    chain.run().unwrap();
    let mut x_t = [0.0; 16];
    Seeded::new(3).normal(0, 0, 2, &mut x_t).unwrap();
    for (from, to) in x_t.chunks_exact(2).zip(chain.x().chunks_exact(2)) {
        for (axis, v) in AXES.iter().zip(VARIANCES) {
            let dot = |x: &[f32]| axis[0] * f64::from(x[0]) + axis[1] * f64::from(x[1]);
            let m = axis[0] * MEAN[0] + axis[1] * MEAN[1];
            // The map is affine: its value at 0 is the recursion's mean, its slope the root of the variance.
            let (at_zero, variance) = recursion(&*sampler, m, v, |_, t, s| ddim_rule(t, s, 0.0));
            let want = at_zero + variance.sqrt() * dot(from);
            assert!((dot(to) - want).abs() < 2e-5, "{} against {want}", dot(to));
        }
    }
}
