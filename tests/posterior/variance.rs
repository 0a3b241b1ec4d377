//! The variances of chains of few steps: a Gaussian in 8 dimensions with its exact denoiser, seen and unseen.

use crate::affine::{Matrix, gaussian, posterior, result};
use undiffuse::ErrorKind;
use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::noise::Seeded;
use undiffuse::posterior::operator::Dense;
use undiffuse::posterior::{Calibrated, Evidence, Measurement, NoEvidence, OptimalVariance, Recommended};
use undiffuse::sampler::{Sampler, SamplerKind, SamplerOptions, SchedulerConfig, Steps, VarianceType};
use undiffuse::schedule::BetaSchedule;
use undiffuse::tensor::Dims;

const N: usize = 8;
const M: usize = 5;
const NOISE: f64 = 0.3;

/// Standard deviations from 0.13 to 0.42 along the directions of a Householder reflection.
fn prior() -> (Vec<f64>, Matrix) {
    let v: Vec<f64> = (0..N).map(|i| 1.0 + 0.5 * (2.0 * i as f64).sin()).collect();
    let square: f64 = v.iter().map(|v| v * v).sum();
    let axis = |i: usize, k: usize| f64::from(u8::from(i == k)) - 2.0 * v[i] * v[k] / square;
    let std = |k: usize| 0.13 + 0.29 * k as f64 / 7.0;
    let cov = |i: usize, j: usize| (0..N).map(|k| std(k).powi(2) * axis(i, k) * axis(j, k)).sum();
    ((0..N).map(|i| 0.4 * (i as f64).sin()).collect(), (0..N).map(|i| (0..N).map(|j| cov(i, j)).collect()).collect())
}

fn seen() -> Measurement<Dense> {
    let entries: Vec<f32> = (0..M * N).map(|i| ((i * i + 3 * i) as f32 * 0.7).sin()).collect();
    let op = Dense::new(Dims::new(&[1, 1, N]).unwrap(), Dims::new(&[M]).unwrap(), &entries).unwrap();
    let y: Vec<f32> = (0..M).map(|i| 0.8 - 0.5 * i as f32 / M as f32).collect();
    Measurement::new(op, &y, NOISE).unwrap()
}

/// The posterior, and what A makes of it.
fn truth() -> (Vec<f64>, Matrix) {
    let (m, s) = prior();
    let seen = seen();
    posterior(&m, &s, seen.operator(), seen.values(0).unwrap(), NOISE)
}

fn config(variance_type: VarianceType, beta_schedule: BetaSchedule) -> SchedulerConfig {
    SchedulerConfig { clip_sample: false, variance_type, beta_schedule, ..SchedulerConfig::new(SamplerKind::Ddpm) }
}

const KINDS: [(VarianceType, BetaSchedule); 4] = [
    (VarianceType::FixedSmall, BetaSchedule::Linear),
    (VarianceType::FixedLarge, BetaSchedule::Linear),
    (VarianceType::FixedSmall, BetaSchedule::SquaredcosCapV2),
    (VarianceType::FixedLarge, BetaSchedule::SquaredcosCapV2),
];

/// The eigenvalues of a symmetric matrix and its eigenvectors, rows of the second, by the power method with deflation.
fn directions(c: &Matrix) -> Vec<(f64, Vec<f64>)> {
    let mut left = c.clone();
    let times =
        |a: &Matrix, v: &[f64]| -> Vec<f64> { a.iter().map(|r| r.iter().zip(v).map(|(a, v)| a * v).sum()).collect() };
    (0..N)
        .map(|k| {
            let mut v: Vec<f64> = (0..N).map(|i| ((i * 7 + k * 3 + 1) as f64).sin()).collect();
            let mut value = 0.0;
            for _ in 0..20_000 {
                let w = times(&left, &v);
                value = w.iter().map(|w| w * w).sum::<f64>().sqrt();
                v = w.iter().map(|w| w / value).collect();
            }
            (0..N).for_each(|i| (0..N).for_each(|j| left[i][j] -= value * v[i] * v[j]));
            (value, v)
        })
        .collect()
}

/// For each direction of the truth: the variance over the true one, and the gap of the means in true standard
/// deviations.
fn along(got: &(Vec<f64>, Matrix), want: &(Vec<f64>, Matrix)) -> Vec<(f64, f64)> {
    let of = |(value, v): (f64, Vec<f64>)| {
        let variance: f64 = (0..N).map(|i| (0..N).map(|j| v[i] * got.1[i][j] * v[j]).sum::<f64>()).sum();
        let gap: f64 = (0..N).map(|i| v[i] * (got.0[i] - want.0[i])).sum();
        (variance / value, gap.abs() / value.sqrt())
    };
    directions(&want.1).into_iter().map(of).collect()
}

fn show(name: &str, along: &[(f64, f64)]) {
    let of = |f: &dyn Fn(&(f64, f64)) -> f64| along.iter().map(f).collect::<Vec<_>>();
    let variances: Vec<String> = of(&|a| a.0).iter().map(|v| format!("{v:.2}")).collect();
    let gap = of(&|a| a.1).into_iter().fold(0.0, f64::max);
    println!("{name}: variances over the truth {}; means within {gap:.4} standard deviations", variances.join(" "));
}

/// Mean and covariance of `count` samples.
fn sampled(sampler: &dyn Sampler, evidence: impl Evidence, count: usize) -> (Vec<f64>, Matrix) {
    let (m, s) = prior();
    let options = ChainOptions { batch: count, first_sample: 0 };
    let mut chain = Chain::with_evidence(gaussian(&m, &s), sampler, Seeded::new(3), evidence, &options).unwrap();
    chain.run().unwrap();
    let rows = || chain.x().chunks_exact(N);
    let mean: Vec<f64> = (0..N).map(|i| rows().map(|r| f64::from(r[i])).sum::<f64>() / count as f64).collect();
    let product = |r: &[f32], i: usize, j: usize| (f64::from(r[i]) - mean[i]) * (f64::from(r[j]) - mean[j]);
    let cov = |i: usize, j: usize| rows().map(|r| product(r, i, j)).sum::<f64>() / count as f64;
    let cov = (0..N).map(|i| (0..N).map(|j| cov(i, j)).collect()).collect();
    (mean, cov)
}

#[test]
fn the_default_run_of_36_calls_has_the_posteriors_variances() {
    let want = truth();
    for (variance_type, betas) in KINDS {
        let config = config(variance_type, betas);
        let sampler = Recommended::CALIBRATED.sampler(&config).unwrap();
        assert_eq!(sampler.levels().len(), 36);
        // With a product for each direction every step is affine: no sampling error. f32 leaves little of the Jacobian
        // at high noise, which costs the narrowest direction up to 2 %.
        let name = format!("{variance_type:?}, {betas:?}");
        let (m, s) = prior();
        let evidence = Calibrated::new(seen(), N + 2).unwrap().with_variance_products(N).unwrap();
        let exact = along(&result(gaussian(&m, &s), &*sampler, evidence), &want);
        show(&format!("{name}, {N} products, exactly"), &exact);
        assert!(exact.iter().all(|&(v, m)| (v - 1.0).abs() < 0.03 && m < 0.01), "{name}: {exact:?}");
        // The variance of 20,000 samples is known to 1 %.
        let evidence = Calibrated::new(seen(), M).unwrap().with_variance_products(2).unwrap();
        let usual = along(&sampled(&*sampler, evidence, 20_000), &want);
        show(&format!("{name}, 2 products, 20,000 samples"), &usual);
        assert!(usual.iter().all(|&(v, m)| (v - 1.0).abs() < 0.05 && m < 0.02), "{name}: {usual:?}");
        // Without them the spread is the sampler's own, far too small.
        let none = Calibrated::new(seen(), N + 2).unwrap().with_variance_products(0).unwrap();
        let none = along(&result(gaussian(&m, &s), &*sampler, none), &want);
        show(&format!("{name}, 0 products, exactly"), &none);
        assert!(none.iter().any(|&(v, _)| v < 0.5));
    }
}

#[test]
fn few_steps_without_evidence_have_the_priors_variances() {
    let want = prior();
    for (variance_type, betas) in KINDS {
        for (kind, eta) in [(SamplerKind::Ddpm, 0.0), (SamplerKind::Ddim, 0.0), (SamplerKind::Ddim, 1.0)] {
            let options = SamplerOptions { sampler: Some(kind), steps: Steps::Count(36), eta, ..Default::default() };
            let sampler = config(variance_type, betas).sampler(&options).unwrap();
            let name = format!("{kind:?} {eta}, {variance_type:?}, {betas:?}");
            let (m, s) = prior();
            let exact = along(&result(gaussian(&m, &s), &*sampler, OptimalVariance::new(N).unwrap()), &want);
            show(&format!("{name}, {N} products, exactly"), &exact);
            // x_T has no trace of the prior's mean, where squaredcos leaves some at its first level; what is
            // deterministic keeps that to the end.
            let most = if kind == SamplerKind::Ddim && eta == 0.0 { 0.05 } else { 0.01 };
            assert!(exact.iter().all(|&(v, m)| (v - 1.0).abs() < 0.03 && m < most), "{name}: {exact:?}");
            let own = along(&result(gaussian(&m, &s), &*sampler, NoEvidence), &want);
            show(&format!("{name}, 0 products, exactly"), &own);
            if betas == BetaSchedule::Linear && eta == 0.0 {
                let two = along(&sampled(&*sampler, OptimalVariance::new(2).unwrap(), 20_000), &want);
                show(&format!("{name}, 2 products, 20,000 samples"), &two);
                assert!(two.iter().all(|&(v, m)| (v - 1.0).abs() < 0.05 && m < 0.02), "{name}: {two:?}");
            }
        }
    }
}

#[test]
fn samplers_that_remember_are_refused_by_name() {
    let (m, s) = prior();
    let options = SamplerOptions { sampler: Some(SamplerKind::UniPc), steps: Steps::Count(10), ..Default::default() };
    let sampler = config(VarianceType::FixedSmall, BetaSchedule::Linear).sampler(&options).unwrap();
    let of = |evidence: Box<dyn Evidence>| {
        Chain::with_evidence(gaussian(&m, &s), &*sampler, Seeded::new(0), evidence, &ChainOptions::default()).err()
    };
    let e = of(Box::new(Calibrated::new(seen(), 2).unwrap())).unwrap();
    assert!(e.kind() == ErrorKind::Unsupported && e.message().contains("variance_products 0"), "{e}");
    assert!(of(Box::new(Calibrated::new(seen(), 2).unwrap().with_variance_products(0).unwrap())).is_none());
    assert_eq!(of(Box::new(OptimalVariance::new(2).unwrap())).unwrap().kind(), ErrorKind::Unsupported);
    assert_eq!(
        Calibrated::new(seen(), 2).unwrap().with_variance_products(17).unwrap_err().kind(),
        ErrorKind::InvalidArgument
    );
}
