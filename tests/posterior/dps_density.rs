//! DPS and MCG step by a vector of fixed length, so not even a Gaussian prior gives them a Gaussian. What they sample
//! is still known: the density of one element, carried through every step on a grid. The chains must have its mean and
//! variance, which are not the posterior's.

use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::denoiser::{Component, Covariance, GaussianMixture};
use undiffuse::noise::Seeded;
use undiffuse::posterior::operator::{Identity, Mask};
use undiffuse::posterior::{Dps, Evidence, Mcg, Measurement, Misfit};
use undiffuse::process::{Posterior, PredictionType};
use undiffuse::sampler::{Sampler, SamplerKind, SamplerOptions, SchedulerConfig, Steps, VarianceType};
use undiffuse::schedule::{Arithmetic, Level};
use undiffuse::tensor::Dims;

const SAMPLES: usize = 40_000;
const REACH: f64 = 5.0;

fn ddpm(steps: usize) -> Box<dyn Sampler + Send + Sync> {
    let config = SchedulerConfig {
        clip_sample: false,
        variance_type: VarianceType::FixedSmall,
        ..SchedulerConfig::new(SamplerKind::Ddpm)
    };
    let (steps, arithmetic) = (Steps::Count(steps), Arithmetic::Float64);
    config.sampler(&SamplerOptions { steps, arithmetic, ..Default::default() }).unwrap()
}

/// Point `i` of a grid of so many.
fn place(i: usize, points: usize) -> f64 {
    REACH * (2.0 * i as f64 / (points - 1) as f64 - 1.0)
}

/// Adds mass as a normal density to the grid.
fn deposit(density: &mut [f64], mean: f64, std: f64, mass: f64) {
    let points = density.len();
    let h = place(1, points) - place(0, points);
    let index = |x: f64| ((x + REACH) / h).clamp(0.0, (points - 1) as f64);
    let scale = mass / (std * (2.0 * std::f64::consts::PI).sqrt());
    for (i, d) in
        density.iter_mut().enumerate().take(index(mean + 5.0 * std) as usize + 1).skip(index(mean - 5.0 * std) as usize)
    {
        let z = (place(i, points) - mean) / std;
        *d += scale * (-0.5 * z * z).exp();
    }
}

/// Where an element goes from `u`, with what probability.
type Moves<'a> = &'a dyn Fn(usize, &Level, &Posterior, f64) -> Vec<(f64, f64)>;

/// Mean and variance of the element after all steps.
fn carried(sampler: &dyn Sampler, points: usize, moves: Moves<'_>) -> (f64, f64) {
    let h = place(1, points) - place(0, points);
    let mut density = vec![0.0; points];
    deposit(&mut density, 0.0, 1.0, 1.0);
    let (mut mean, mut square) = (0.0, 0.0);
    for (step, level) in sampler.levels().iter().enumerate() {
        let target = sampler.target(step).unwrap();
        let p = Posterior::new(level.alpha_bar(), target.alpha_bar(), Arithmetic::Float64);
        let mut next = vec![0.0; points];
        for (i, d) in density.iter().enumerate().filter(|(_, d)| **d > 1e-9) {
            for (to, share) in moves(step, level, &p, place(i, points)) {
                if sampler.needs_noise(step) {
                    deposit(&mut next, to, p.variance.sqrt(), d * h * share);
                } else {
                    mean += d * h * share * to;
                    square += d * h * share * to * to;
                }
            }
        }
        density = next;
    }
    (mean, square - mean * mean)
}

/// Mean and variance of element `i` of the chain's samples.
fn sampled(prior: GaussianMixture, sampler: &dyn Sampler, evidence: impl Evidence, i: usize) -> (f64, f64) {
    let options = ChainOptions { batch: SAMPLES, first_sample: 0 };
    let mut chain = Chain::with_evidence(prior, sampler, Seeded::new(3), evidence, &options).unwrap();
    chain.run().unwrap();
    let n = chain.x().len() / SAMPLES;
    let values = || chain.x().chunks_exact(n).map(|x| f64::from(x[i]));
    let mean = values().sum::<f64>() / SAMPLES as f64;
    (mean, values().map(|v| (v - mean) * (v - mean)).sum::<f64>() / SAMPLES as f64)
}

fn agree(name: &str, got: (f64, f64), want: (f64, f64), posterior: (f64, f64)) {
    println!(
        "| {name} | {:.3}, {:.4} | {:.3}, {:.4} | {:.3}, {:.4} |",
        got.0, got.1, want.0, want.1, posterior.0, posterior.1
    );
    // Five standard errors.
    let n = SAMPLES as f64;
    assert!((got.0 - want.0).abs() < 5.0 * (want.1 / n).sqrt() + 1e-3, "{name}: mean {} for {}", got.0, want.0);
    assert!((got.1 / want.1 - 1.0).abs() < 5.0 * (2.0 / n).sqrt() + 5e-3, "{name}: variance {} for {}", got.1, want.1);
}

#[test]
fn dps_samples_what_its_recursion_says() {
    println!("| N(0, 1), y = 1 | mean, variance | on the grid | posterior of s = 1 |\n|---|---|---|---|");
    let sampler = ddpm(100);
    for zeta in [0.02, 0.1, 0.5] {
        let want = carried(&*sampler, 2001, &|_, level, p, u| {
            let x0 = level.alpha * u;
            vec![(p.x0 * x0 + p.x * u + zeta * level.alpha * (1.0 - x0).signum(), 1.0)]
        });
        let dims = Dims::new(&[1]).unwrap();
        let one = Component { weight: 1.0, mean: vec![0.0], covariance: Covariance::Diagonal(vec![1.0]) };
        let prior = GaussianMixture::new(dims, &[one], PredictionType::Epsilon).unwrap();
        let seen = Measurement::new(Identity::new(dims).unwrap(), &[1.0], 1.0).unwrap();
        let dps = Dps::new(seen, zeta, Misfit::Gaussian).unwrap();
        agree(&format!("DPS, zeta {zeta}"), sampled(prior, &*sampler, dps, 0), want, (0.5, 0.5));
    }
}

#[test]
fn mcg_samples_what_its_recursion_says() {
    println!("| unknown element | mean, variance | on the grid | posterior |\n|---|---|---|---|");
    let (m, s, y) = ([0.3, -0.2], [[0.9, 0.6], [0.6, 0.7]], 0.8);
    let sampler = ddpm(20);
    let posterior = (m[1] + s[0][1] / s[0][0] * (y - m[0]), s[1][1] - s[0][1] * s[0][1] / s[0][0]);
    for zeta in [0.02, 0.2] {
        let want = carried(&*sampler, 301, &|step, level, p, u| {
            // x_0 = m + J (x - alpha m) with J = alpha S (alpha^2 S + sigma^2 I)^-1.
            let (a, v) = (level.alpha, level.sigma * level.sigma);
            let c = [[a * a * s[0][0] + v, a * a * s[0][1]], [a * a * s[1][0], a * a * s[1][1] + v]];
            let det = c[0][0] * c[1][1] - c[0][1] * c[1][0];
            let inverse = [[c[1][1] / det, -c[0][1] / det], [-c[1][0] / det, c[0][0] / det]];
            let j = |r: usize, k: usize| a * (s[r][0] * inverse[0][k] + s[r][1] * inverse[1][k]);
            // The known element is normal by itself: x_T at first, then y noised.
            let (mean, std) = if step == 0 { (0.0, 1.0) } else { (a * y, level.sigma) };
            let nodes = 41;
            let weights: Vec<(f64, f64)> = (0..nodes)
                .map(|i| 5.0 * (2.0 * f64::from(i) / f64::from(nodes - 1) - 1.0))
                .map(|z| (mean + std * z, (-0.5 * z * z).exp()))
                .collect();
            let total: f64 = weights.iter().map(|w| w.1).sum();
            let of = |&(k, w): &(f64, f64)| {
                let d = [k - a * m[0], u - a * m[1]];
                let x0 = [m[0] + j(0, 0) * d[0] + j(0, 1) * d[1], m[1] + j(1, 0) * d[0] + j(1, 1) * d[1]];
                (p.x0 * x0[1] + p.x * u + zeta * j(0, 1) * (y - x0[0]).signum(), w / total)
            };
            weights.iter().map(of).collect()
        });
        let one = Component { weight: 1.0, mean: m.to_vec(), covariance: Covariance::Full(s.concat()) };
        let dims = Dims::new(&[1, 1, 2]).unwrap();
        let prior = GaussianMixture::new(dims, &[one], PredictionType::Epsilon).unwrap();
        let seen = Measurement::exact(Mask::new(dims, &[true, false]).unwrap(), &[y as f32]).unwrap();
        agree(
            &format!("MCG, zeta {zeta}"),
            sampled(prior, &*sampler, Mcg::new(seen, zeta).unwrap(), 1),
            want,
            posterior,
        );
    }
}
