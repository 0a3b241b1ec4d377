use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::cancel::Cancel;
use crate::noise::Stream;

fn full(n: usize, seed: u64) -> Vec<f64> {
    let mut rng = Stream::new(seed, 1, 0);
    let b: Vec<f64> = (0..n * n).map(|_| 0.5 * rng.normal()).collect();
    (0..n * n)
        .map(|i| {
            (0..n).map(|k| b[i / n * n + k] * b[i % n * n + k]).sum::<f64>() + if i / n == i % n { 0.05 } else { 0.0 }
        })
        .collect()
}

fn components(n: usize) -> Vec<Component> {
    let mean = |k: u64| {
        let mut rng = Stream::new(9, k, 0);
        (0..n).map(|_| rng.normal()).collect::<Vec<f64>>()
    };
    vec![
        Component { weight: 0.5, mean: mean(0), covariance: Covariance::Full(full(n, 3)) },
        Component {
            weight: 1.5,
            mean: mean(1),
            covariance: Covariance::Diagonal((1..=n).map(|i| 0.1 * i as f64).collect()),
        },
        Component { weight: 1.0, mean: mean(2), covariance: Covariance::Full(full(n, 4)) },
    ]
}

fn mixture(n: usize, kind: PredictionType) -> GaussianMixture {
    GaussianMixture::new(Dims::new(&[n]).unwrap(), &components(n), kind).unwrap()
}

fn call<'a>(level: Level, cancel: &'a Cancel) -> Call<'a> {
    Call { level, first_sample: 0, cancel }
}

/// log N(x; m, s^2).
fn log_normal(x: f64, m: f64, var: f64) -> f64 {
    -0.5 * ((x - m) * (x - m) / var + libm::log(2.0 * core::f64::consts::PI * var))
}

#[test]
fn one_dimension_equals_numerical_integration() {
    let c = [
        Component { weight: 0.3, mean: vec![-0.8], covariance: Covariance::Full(vec![0.09]) },
        Component { weight: 0.7, mean: vec![0.5], covariance: Covariance::Diagonal(vec![0.04]) },
    ];
    let cancel = Cancel::new();
    for abar in [0.05, 0.5, 0.99] {
        let level = Level::variance_preserving(0.0, abar);
        for x in [-1.5f32, -0.1, 0.7] {
            // p(x_0) N(x; alpha x_0, sigma^2) on a fine grid of x_0.
            let (mut mass, mut first) = (0.0, 0.0);
            let step = 1e-3;
            for i in -6000..=6000 {
                let x0 = f64::from(i) * step;
                let prior = 0.3 * libm::exp(log_normal(x0, -0.8, 0.09)) + 0.7 * libm::exp(log_normal(x0, 0.5, 0.04));
                let p = prior * libm::exp(log_normal(f64::from(x), level.alpha * x0, level.sigma * level.sigma));
                mass += p * step;
                first += x0 * p * step;
            }
            let x0 = first / mass;
            let eps = (f64::from(x) - level.alpha * x0) / level.sigma;
            for (kind, want) in [
                (PredictionType::Sample, x0),
                (PredictionType::Epsilon, eps),
                (PredictionType::VPrediction, level.alpha * eps - level.sigma * x0),
            ] {
                let mut g = GaussianMixture::new(Dims::new(&[1]).unwrap(), &c, kind).unwrap();
                let mut out = [0.0];
                g.predict(&call(level, &cancel), &[x], &mut out).unwrap();
                assert!((f64::from(out[0]) - want).abs() < 1e-6 * (1.0 + want.abs()), "{kind:?} {abar} {x}");
                assert!((g.log_density(&level, &[x]).unwrap() - libm::log(mass)).abs() < 1e-9);
            }
        }
    }
}

#[test]
fn eps_is_minus_sigma_times_the_score() {
    // The score by central differences of log_density, whose own truth the test above shows in one dimension.
    let n = 4;
    let mut g = mixture(n, PredictionType::Epsilon);
    let cancel = Cancel::new();
    for abar in [0.1, 0.6, 0.97] {
        let level = Level::variance_preserving(0.0, abar);
        let x = [0.5f32, -0.25, 0.125, 1.0];
        let mut out = [0.0; 4];
        g.predict(&call(level, &cancel), &x, &mut out).unwrap();
        for i in 0..n {
            let h = 1.0 / 1024.0;
            let at = |g: &mut GaussianMixture, d: f32| {
                let mut y = x;
                y[i] += d;
                g.log_density(&level, &y).unwrap()
            };
            let score = (at(&mut g, h) - at(&mut g, -h)) / f64::from(2.0 * h);
            let eps = -level.sigma * score;
            assert!((f64::from(out[i]) - eps).abs() < 2e-4 * (1.0 + eps.abs()), "{abar} {i}: {} {eps}", out[i]);
        }
    }
}

#[test]
fn predictions_satisfy_their_definitions() {
    let n = 5;
    let cancel = Cancel::new();
    let level = Level::variance_preserving(0.0, 0.4);
    let x: Vec<f32> = (0..2 * n).map(|i| 0.3 * i as f32 - 1.0).collect();
    let get = |kind| {
        let mut out = vec![0.0; 2 * n];
        mixture(n, kind).predict(&call(level, &cancel), &x, &mut out).unwrap();
        out
    };
    let (eps, x0, v) = (get(PredictionType::Epsilon), get(PredictionType::Sample), get(PredictionType::VPrediction));
    for i in 0..2 * n {
        let (e, z, v) = (f64::from(eps[i]), f64::from(x0[i]), f64::from(v[i]));
        assert!((level.alpha * z + level.sigma * e - f64::from(x[i])).abs() < 1e-6);
        assert!((level.alpha * e - level.sigma * z - v).abs() < 1e-6);
    }
}

#[test]
fn a_full_diagonal_equals_a_diagonal() {
    let n = 3;
    let d = [0.2, 0.5, 1.5];
    let mean = vec![0.1, -0.4, 0.9];
    let dense = (0..9).map(|i| if i / 3 == i % 3 { d[i / 3] } else { 0.0 }).collect();
    let of = |covariance| {
        let c = Component { weight: 1.0, mean: mean.clone(), covariance };
        let mut g = GaussianMixture::new(Dims::new(&[n]).unwrap(), &[c], PredictionType::Sample).unwrap();
        let mut out = [0.0; 3];
        let cancel = Cancel::new();
        g.predict(&call(Level::variance_preserving(0.0, 0.3), &cancel), &[0.4, 0.2, -0.7], &mut out).unwrap();
        out
    };
    let (a, b) = (of(Covariance::Full(dense)), of(Covariance::Diagonal(d.to_vec())));
    // And the closed form: mu + a s / (a^2 s + sigma^2) (x - a mu).
    let alpha = libm::sqrt(0.3);
    for i in 0..n {
        let x = [0.4f32, 0.2, -0.7][i];
        let want = mean[i] + alpha * d[i] / (0.3 * d[i] + 0.7) * (f64::from(x) - alpha * mean[i]);
        assert!((f64::from(a[i]) - want).abs() < 1e-7 && a[i] == b[i], "{i}");
    }
}

#[test]
fn vjp_equals_finite_differences() {
    let n = 4;
    let cancel = Cancel::new();
    for (_, kind) in PredictionType::NAMES {
        let mut g = mixture(n, kind);
        for abar in [0.1, 0.7] {
            let c = call(Level::variance_preserving(0.0, abar), &cancel);
            let x = [0.5f32, -0.25, 0.125, 1.0];
            let v = [0.3f32, -1.0, 0.7, 0.2];
            let mut got = [0.0; 4];
            g.vjp(&c, &x, &v, &mut got).unwrap();
            for i in 0..n {
                let h = 1.0 / 256.0;
                let mut at = |d: f32| {
                    let (mut y, mut out) = (x, [0.0; 4]);
                    y[i] += d;
                    g.predict(&c, &y, &mut out).unwrap();
                    out.iter().zip(&v).map(|(o, v)| f64::from(*o) * f64::from(*v)).sum::<f64>()
                };
                // Fourth order, so that the step may be large against f32 rounding.
                let d = (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / f64::from(12.0 * h);
                assert!((f64::from(got[i]) - d).abs() < 1e-4 * (1.0 + d.abs()), "{kind:?} {abar} {i}: {} {d}", got[i]);
            }
        }
    }
}

#[test]
fn far_from_every_mode_stays_finite() {
    let mut g = mixture(3, PredictionType::Sample);
    let cancel = Cancel::new();
    for abar in [1.0, 0.999_999, 1e-6, 0.0] {
        let mut out = [0.0; 3];
        let level = Level::variance_preserving(0.0, abar);
        g.predict(&call(level, &cancel), &[1e4, -1e4, 0.0], &mut out).unwrap();
        assert!(out.iter().all(|v| v.is_finite()), "{abar}: {out:?}");
        assert!(g.log_density(&level, &[1e4, -1e4, 0.0]).unwrap().is_finite());
    }
}

#[test]
fn nonsense_is_refused() {
    let dims = Dims::new(&[2]).unwrap();
    let good = || Component { weight: 1.0, mean: vec![0.0; 2], covariance: Covariance::Diagonal(vec![1.0; 2]) };
    let bad = [
        Component { weight: 0.0, ..good() },
        Component { weight: f64::INFINITY, ..good() },
        Component { mean: vec![0.0], ..good() },
        Component { mean: vec![0.0, f64::NAN], ..good() },
        Component { covariance: Covariance::Diagonal(vec![1.0]), ..good() },
        Component { covariance: Covariance::Diagonal(vec![1.0, -1.0]), ..good() },
        Component { covariance: Covariance::Diagonal(vec![1.0, f64::NAN]), ..good() },
        Component { covariance: Covariance::Full(vec![1.0, 2.0, 2.0, 1.0]), ..good() },
        Component { covariance: Covariance::Full(vec![1.0, 0.5, 0.0, 1.0]), ..good() },
    ];
    for c in bad {
        let e = GaussianMixture::new(dims, &[good(), c.clone()], PredictionType::Epsilon).unwrap_err();
        assert_eq!(e.kind(), crate::ErrorKind::InvalidArgument, "{c:?}");
        assert!(e.message().contains("component 1"), "{e}");
    }
    assert!(GaussianMixture::new(dims, &[], PredictionType::Epsilon).is_err());
}
