//! Posteriors known in closed form: Gaussian priors with their exact denoiser and linear measurements. Mean and
//! covariance of each method by propagation through the chain, without sampling error, against the truth.

use crate::affine::{Matrix, errors, gaussian, posterior, result};
use undiffuse::posterior::operator::{Dense, Identity, LinearOperator, Mask};
use undiffuse::posterior::{Calibrated, CalibratedWhite, ExactProduct, MeanShift, Measurement, NoEvidence, RSchedule};
use undiffuse::process::PredictionType;
use undiffuse::sampler::{
    Ancestral2015, Ending2015, Readout2015, Sampler, SamplerKind, SamplerOptions, SchedulerConfig, Steps, VarianceType,
};
use undiffuse::schedule::{Arithmetic, Betas, NoiseSchedule};
use undiffuse::tensor::Dims;

fn sampler(kind: SamplerKind, steps: usize, eta: f64) -> Box<dyn Sampler + Send + Sync> {
    let config =
        SchedulerConfig { clip_sample: false, variance_type: VarianceType::FixedSmall, ..SchedulerConfig::new(kind) };
    let arithmetic = Arithmetic::Float64;
    config.sampler(&SamplerOptions { steps: Steps::Count(steps), eta, arithmetic, ..Default::default() }).unwrap()
}

/// Correlated priors over 2 and 8 elements.
fn priors() -> [(Vec<f64>, Matrix); 2] {
    let two = (vec![0.3, -0.2], vec![vec![0.9, 0.6], vec![0.6, 0.7]]);
    let cov = |i: usize, j: usize| 0.6 * (-(i as f64 - j as f64).abs() / 2.5).exp() + if i == j { 0.05 } else { 0.0 };
    let eight = (
        (0..8).map(|i| 0.4 * f64::from(i).sin()).collect(),
        (0..8).map(|i| (0..8).map(|j| cov(i, j)).collect()).collect(),
    );
    [two, eight]
}

/// A name, the operator, y and s.
type Problem = (&'static str, Box<dyn LinearOperator>, Vec<f32>, f64);

/// Denoising, inpainting, a dense matrix.
fn problems(n: usize) -> Vec<Problem> {
    let dims = Dims::new(&[1, 1, n]).unwrap();
    let known: Vec<bool> = (0..n).map(|i| i % 2 == 0).collect();
    let m = n / 2 + 1;
    let entries: Vec<f32> = (0..m * n).map(|i| ((i * i + 3 * i) as f32 * 0.7).sin()).collect();
    let y = |m: usize| (0..m).map(|i| 0.8 - 0.5 * i as f32 / m as f32).collect::<Vec<f32>>();
    vec![
        ("denoising", Box::new(Identity::new(dims).unwrap()), y(n), 0.5),
        ("inpainting", Box::new(Mask::new(dims, &known).unwrap()), y(n / 2), 0.1),
        ("dense", Box::new(Dense::new(dims, Dims::new(&[m]).unwrap(), &entries).unwrap()), y(m), 0.3),
    ]
}

#[test]
fn the_calibrated_method_reaches_gaussian_posteriors() {
    let ddpm = sampler(SamplerKind::Ddpm, 1000, 0.0);
    let ddim = sampler(SamplerKind::Ddim, 1000, 0.0);
    println!("| prior | problem | method | mean | covariance |\n|---|---|---|---|---|");
    for (m, s) in &priors() {
        let n = m.len();
        for (problem, op, y, noise) in problems(n) {
            let want = posterior(m, s, &*op, &y, noise);
            let seen = || Measurement::new(&*op, &y, noise).unwrap();
            let line = |method: &str, got: &(Vec<f64>, Matrix)| {
                let (mean, cov) = errors(got, &want);
                println!("| {n}-D | {problem} | {method} | {:.2} % | {:.2} % |", 100.0 * mean, 100.0 * cov);
                (mean, cov)
            };
            for (name, sampler) in [("DDPM", &ddpm), ("DDIM", &ddim)] {
                let all = Calibrated::new(seen(), n + 2).unwrap().with_variance_products(n).unwrap();
                let (mean, cov) = line(&format!("calibrated, {name}"), &result(gaussian(m, s), &**sampler, all));
                assert!(mean < 0.01 && cov < 0.005, "{n}-D {problem} {name}: {mean} {cov}");
            }
            for iterations in [1, 3] {
                let few = Calibrated::new(seen(), iterations).unwrap().with_variance_products(0).unwrap();
                line(&format!("calibrated, {iterations} iterations"), &result(gaussian(m, s), &*ddpm, few));
            }
            let white = CalibratedWhite::new(seen(), 1.0).unwrap();
            line("calibrated, white", &result(gaussian(m, s), &*ddpm, white));
            let product = ExactProduct::new(seen(), RSchedule::Constant).unwrap();
            line("2015, exact product", &result(gaussian(m, s), &*ddpm, product));
            let product = ExactProduct::new(seen(), RSchedule::Ramp).unwrap();
            line("2015, exact product, ramp", &result(gaussian(m, s), &*ddpm, product));
        }
    }
}

#[test]
fn without_evidence_the_harness_gives_the_prior() {
    for (m, s) in priors() {
        let got = result(gaussian(&m, &s), &*sampler(SamplerKind::Ddpm, 1000, 0.0), NoEvidence);
        let (mean, cov) = errors(&got, &(m, s));
        assert!(mean < 0.01 && cov < 0.02, "{mean} {cov}");
    }
}

/// reference values of the 2015 methods, derived for data N(0, 1), its exact reverse kernel, y = 1, s = 1, T = 1000.
#[test]
fn the_2015_methods_have_their_known_bias() {
    let betas = Betas::erasing_evenly(1000).unwrap();
    let schedule = NoiseSchedule::new(&betas, Arithmetic::Float64).unwrap();
    let readout = Readout2015::Prediction(PredictionType::Epsilon);
    let chain = Ancestral2015::new(&schedule, readout, Ending2015::Original).unwrap();
    let seen = || Measurement::new(Identity::new(Dims::new(&[1, 1, 1]).unwrap()).unwrap(), &[1.0], 1.0).unwrap();
    let white = || gaussian(&[0.0], &vec![vec![1.0]]);
    let expect = |name: &str, got: (Vec<f64>, Matrix), mean: f64, variance: f64| {
        println!("{name}: {:.4} {:.4}", got.0[0], got.1[0][0]);
        assert!((got.0[0] - mean).abs() < 1e-3, "{name}: mean {}", got.0[0]);
        assert!((got.1[0][0] - variance).abs() < 1e-3, "{name}: variance {}", got.1[0][0]);
    };
    let product = |s| ExactProduct::new(seen(), s).unwrap();
    expect("constant, closed form", result(white(), &chain, product(RSchedule::Constant)), 0.667, 0.334);
    let shift = |s| MeanShift::new(seen(), s);
    expect("constant, Eq. 61", result(white(), &chain, shift(RSchedule::Constant)), 0.667, 0.334);
    expect("ramp, Eq. 61", result(white(), &chain, shift(RSchedule::Ramp)), 0.462, 0.433);
    let calibrated = CalibratedWhite::new(seen(), 1.0).unwrap();
    expect("calibrated, white", result(white(), &chain, calibrated), 0.499, 0.501);
    let calibrated = Calibrated::new(seen(), 2).unwrap().with_variance_products(2).unwrap();
    expect("calibrated", result(white(), &chain, calibrated), 0.5, 0.5);
}
