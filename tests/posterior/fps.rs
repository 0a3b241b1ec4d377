//! FPS of a Gaussian prior, whose law is known in closed form: of one particle an affine map of the noise, of many a
//! Kalman filter that is given the noised y.

use crate::affine::{gaussian, whole};
use crate::stopped::{finished, prior};
use undiffuse::ErrorKind;
use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::noise::Seeded;
use undiffuse::posterior::operator::{Callback, Identity, Mask};
use undiffuse::posterior::{Evidence, Fps, FpsOptions, Measurement};
use undiffuse::sampler::{Sampler, SamplerKind, SamplerOptions, SchedulerConfig, Steps, conditional_std};
use undiffuse::tensor::Dims;

fn config() -> SchedulerConfig {
    SchedulerConfig { clip_sample: false, ..SchedulerConfig::new(SamplerKind::Ddpm) }
}

/// The recommended chain with another number of steps, or DDPM.
fn sampler(steps: usize, ddpm: bool) -> Box<dyn Sampler + Send + Sync> {
    let mut usual = Fps::new(seen(0.5), &FpsOptions::default()).unwrap().recommended();
    usual.steps = Some(steps);
    let options = SamplerOptions { steps: Steps::Count(steps), ..Default::default() };
    if ddpm { config().sampler(&options).unwrap() } else { usual.sampler(&config()).unwrap() }
}

fn mask() -> Mask {
    Mask::new(Dims::new(&[1, 1, 2]).unwrap(), &[true, false]).unwrap()
}

fn seen(sigma: f64) -> Measurement<Mask> {
    Measurement::new(mask(), &[1.0], sigma).unwrap()
}

/// Mean and variance of an element with the prior N(m, v), of which y was seen with the noise s, from one particle or
/// from so many that a particle's law given the noised y is the filter's. Of x, or the filter's mean, and y_t the joint
/// Gaussian is carried along; `own` is the filter's variance.
fn law(sampler: &dyn Sampler, (m, v): (f64, f64), (y, s): (f64, f64), many: bool) -> (f64, f64) {
    let begin = sampler.levels()[0];
    let (mut mean, mut mean_y) = (0.0, begin.alpha * y);
    let (mut xx, mut xy, mut yy) = (if many { 0.0 } else { 1.0 }, 0.0, begin.sigma * begin.sigma);
    let mut own = if many { 1.0 } else { 0.0 };
    for (step, t) in sampler.levels().iter().enumerate() {
        let to = sampler.target(step).unwrap();
        let c = conditional_std(sampler, step).unwrap();
        let rest = (to.sigma * to.sigma - c * c).max(0.0).sqrt() / t.sigma;
        let gain = t.alpha * v / (t.alpha * t.alpha * v + t.sigma * t.sigma);
        // The step's mean is a x_t + b.
        let of_x0 = to.alpha - rest * t.alpha;
        let (a, b) = (of_x0 * gain + rest, of_x0 * (m - gain * t.alpha * m));
        (mean, mean_y) = (a * mean + b, to.alpha * y + rest * (mean_y - t.alpha * y));
        (xx, xy, yy) = (a * a * xx, a * rest * xy, rest * rest * yy + c * c);
        own *= a * a;
        if to.sigma > 0.0 {
            // N(a x_t + b, spread) times the likelihood of y_s.
            let spread = own + c * c;
            let noise = to.alpha * to.alpha * s * s;
            let k = spread / (spread + noise);
            mean += k * (mean_y - mean);
            (xx, xy) = ((1.0 - k) * (1.0 - k) * xx + 2.0 * k * (1.0 - k) * xy + k * k * yy, (1.0 - k) * xy + k * yy);
            if many {
                own = spread * (1.0 - k);
            } else {
                xx += spread * (1.0 - k);
            }
        }
    }
    (mean, xx + own)
}

#[test]
fn one_particle_has_the_law_that_its_equations_say() {
    let (m, v) = ([0.3, -0.2], [0.9, 0.5]);
    for (steps, ddpm) in [(12, false), (30, false), (30, true)] {
        let sampler = sampler(steps, ddpm);
        let mut evidence = Fps::new(seen(0.3), &FpsOptions { ensemble: 1 }).unwrap();
        let prior = || gaussian(&m, &vec![vec![v[0], 0.0], vec![0.0, v[1]]]);
        let (mean, cov) = whole(|_| prior(), &*sampler, &mut evidence).unwrap();
        let want = law(&*sampler, (m[0], v[0]), (1.0, 0.3), false);
        println!("{steps}: {:?}, {:?} by the law", (mean[0], cov[0][0]), want);
        assert!((mean[0] - want.0).abs() < 2e-4 && (cov[0][0] / want.1 - 1.0).abs() < 2e-3);
        assert!(cov[0][1].abs() < 1e-3);
    }
}

/// In groups of 500 particles, 40 of them: what is left is the error of 40 sequences.
#[test]
fn many_particles_are_a_kalman_filter() {
    let (particles, groups) = (500, 40);
    let sampler = sampler(30, false);
    let evidence = Fps::new(seen(0.5), &FpsOptions { ensemble: particles }).unwrap();
    let prior = gaussian(&[0.0; 2], &vec![vec![1.0, 0.0], vec![0.0, 1.0]]);
    let options = ChainOptions { batch: particles * groups, first_sample: 0 };
    let mut chain = Chain::with_evidence(prior, &*sampler, Seeded::new(2), evidence, &options).unwrap();
    chain.run().unwrap();
    assert!(chain.evidence().effective().unwrap() > 0.1);
    let want = law(&*sampler, (0.0, 1.0), (1.0, 0.5), true);
    let all = || chain.x().chunks(2).map(|x| f64::from(x[0]));
    let count = (particles * groups) as f64;
    let mean = all().sum::<f64>() / count;
    let variance = all().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count;
    println!("{mean:.4} {variance:.4}, by the law {want:.4?}");
    // A quarter of the variance is between sequences.
    assert!((mean - want.0).abs() < 0.05 && (variance / want.1 - 1.0).abs() < 0.15);
}

/// The table of the docs: mean and variance over the posterior's.
#[test]
fn y_is_counted_once_for_each_level() {
    let want = [
        (20, [(0.95, 3.28), (0.98, 1.29), (0.88, 0.70), (1.07, 0.38), (0.91, 0.52), (1.38, 0.33)]),
        (100, [(0.99, 0.92), (1.00, 0.41), (0.99, 0.56), (1.19, 0.19), (1.04, 0.53), (1.74, 0.20)]),
        (1000, [(1.00, 0.55), (1.01, 0.17), (1.03, 0.52), (1.23, 0.08), (1.09, 0.55), (1.92, 0.08)]),
    ];
    for (steps, row) in want {
        let sampler = sampler(steps, false);
        let of = |s: f64, many| {
            let variance = 1.0 / (1.0 + 1.0 / (s * s));
            let (mean, got) = law(&*sampler, (0.0, 1.0), (1.0, s), many);
            (mean / (variance / (s * s)), got / variance)
        };
        let got: Vec<(f64, f64)> = [0.1, 0.5, 1.0].into_iter().flat_map(|s| [of(s, false), of(s, true)]).collect();
        println!("{steps}: {got:.2?}");
        for (got, want) in got.iter().zip(row) {
            assert!((got.0 - want.0).abs() < 0.011 && (got.1 - want.1).abs() < 0.011, "{steps}: {got:?} {want:?}");
        }
    }
}

fn run(batch: usize, first_sample: u64, stop: Option<usize>) -> Vec<f32> {
    let identity = Identity::new(Dims::new(&[1, 2, 2]).unwrap()).unwrap();
    let sampler = sampler(20, false);
    let options = ChainOptions { batch, first_sample };
    let chain = || {
        let seen = Measurement::new(&identity, &[0.2, -0.1, 0.3, 0.0], 0.2).unwrap();
        let evidence = Fps::new(seen, &FpsOptions { ensemble: 3 }).unwrap();
        Chain::with_evidence(prior(), &*sampler, Seeded::new(5), evidence, &options).unwrap()
    };
    finished(chain, stop)
}

#[test]
fn a_group_depends_on_its_number_alone_wherever_it_was_saved() {
    let whole = run(9, 39, None);
    let alone: Vec<f32> = (13..16).flat_map(|i| run(3, 3 * i, None)).collect();
    assert_eq!(whole, alone);
    for stop in [1, 2, 13] {
        assert_eq!(whole, run(9, 39, Some(stop)), "after {stop} steps");
    }
}

#[test]
fn misfits_are_refused_by_what_would_fit() {
    let e = Fps::new(seen(0.3), &FpsOptions { ensemble: 0 }).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidArgument);
    let dims = Dims::new(&[1, 1, 2]).unwrap();
    let copy = |from: &[f32], to: &mut [f32]| {
        to.copy_from_slice(from);
        Ok(())
    };
    let without = Callback::new(dims, dims, copy, copy);
    let e = Fps::new(Measurement::new(without, &[0.0; 2], 0.1).unwrap(), &FpsOptions::default()).unwrap_err();
    assert!(e.kind() == ErrorKind::Unsupported && e.message().contains("singular value decomposition"), "{e}");

    let make = || Fps::new(seen(0.3), &FpsOptions { ensemble: 2 }).unwrap();
    let gaussian = || gaussian(&[0.0; 2], &vec![vec![0.9, 0.0], vec![0.0, 0.5]]);
    let chain = |sampler: &dyn Sampler, batch: usize| {
        let options = ChainOptions { batch, first_sample: 0 };
        Chain::with_evidence(gaussian(), sampler, Seeded::new(1), make(), &options).err().unwrap()
    };
    let e = chain(&*sampler(20, false), 3);
    assert!(e.kind() == ErrorKind::InvalidArgument && e.message().contains("whole groups of 2"), "{e}");
    let ddim = SamplerOptions { sampler: Some(SamplerKind::Ddim), steps: Steps::Count(20), ..Default::default() };
    let e = chain(&*config().sampler(&ddim).unwrap(), 2);
    assert!(e.kind() == ErrorKind::Unsupported && e.message().contains("ddim with eta above 0"), "{e}");
}
