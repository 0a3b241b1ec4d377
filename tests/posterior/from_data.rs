//! Image to image (Meng et al. 2022, algorithm 1): chains that begin at data with noise. With an exact denoiser of a
//! Gaussian prior where they end is known in closed form.

use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::denoiser::{Component, Covariance, Denoiser};
use undiffuse::error::ErrorKind;
use undiffuse::noise::{NoiseSource, Seeded};
use undiffuse::sampler::{
    Sampler, SamplerKind, SamplerOptions, SchedulerConfig, StateSpace, Steps, VarianceType, start_of_strength,
};
use undiffuse::schedule::Arithmetic;
use undiffuse::tensor::Dims;

use crate::every_sampler::{BoxedSampler, every, exact, two_parts};

const N: usize = 4;
const MEAN: f64 = 0.3;
const VARIANCE: f64 = 0.25;
const DATA: [f32; N] = [1.4, -1.2, 0.3, 0.7];
const SAMPLES: usize = 4096;

fn dims(n: usize) -> Dims {
    Dims::new(&[1, 2, n / 2]).unwrap()
}

fn sampler(kind: SamplerKind, steps: usize, change: impl Fn(&mut SchedulerConfig)) -> BoxedSampler {
    let mut config = SchedulerConfig { clip_sample: false, ..SchedulerConfig::new(kind) };
    change(&mut config);
    let options = SamplerOptions { steps: Steps::Count(steps), arithmetic: Arithmetic::Float64, ..Default::default() };
    config.sampler(&options).unwrap()
}

/// Mean of each element and their mean variance, of chains that begin at the data with this strength.
fn moments(sampler: &dyn Sampler, strength: f64) -> ([f64; N], f64) {
    let prior = Component { weight: 1.0, mean: vec![MEAN; N], covariance: Covariance::Diagonal(vec![VARIANCE; N]) };
    let denoiser = exact(sampler, dims(N), &[prior], SAMPLES);
    let options = ChainOptions { batch: SAMPLES, first_sample: 0 };
    let mut chain = Chain::new(denoiser, sampler, Seeded::new(3), &options).unwrap();
    chain.start_from_data(start_of_strength(sampler, strength).unwrap(), &DATA.repeat(SAMPLES), 0).unwrap();
    chain.run().unwrap();
    let mut mean = [0.0; N];
    for x in chain.x().chunks_exact(N) {
        mean.iter_mut().zip(x).for_each(|(m, x)| *m += f64::from(*x) / SAMPLES as f64);
    }
    let square = |x: &[f32]| x.iter().zip(&mean).map(|(x, m)| (f64::from(*x) - m).powi(2)).sum::<f64>();
    let variance = chain.x().chunks_exact(N).map(square).sum::<f64>() / (N * (SAMPLES - 1)) as f64;
    (mean, variance)
}

/// abar of betas from 1e-4 to 0.02, evenly spaced.
fn alpha_bar(t: usize) -> f64 {
    (0..=t).map(|i| 1.0 - (1e-4 + (0.02 - 1e-4) * i as f64 / 999.0)).product()
}

/// How far the moments lie from the closed form, in standard errors. At x_t = alpha x_0 + sigma z the flow leads to
/// m + r (x_t - alpha m) with r = sqrt(v / (alpha^2 v + sigma^2)), and the stochastic process draws from the posterior,
/// N(m + k (x_t - alpha m), v sigma^2 / (alpha^2 v + sigma^2)) with k = alpha v / (alpha^2 v + sigma^2).
fn deviations(got: ([f64; N], f64), [alpha, sigma]: [f64; 2], stochastic: bool) -> f64 {
    let total = alpha * alpha * VARIANCE + sigma * sigma;
    let (by, own) = match stochastic {
        true => (alpha * VARIANCE / total, VARIANCE * sigma * sigma / total),
        false => ((VARIANCE / total).sqrt(), 0.0),
    };
    let variance = own + by * by * sigma * sigma;
    let error = (variance / SAMPLES as f64).sqrt();
    let means = got.0.iter().zip(DATA).map(|(m, d)| (m - MEAN - by * alpha * (f64::from(d) - MEAN)).abs() / error);
    means.fold((got.1 / variance - 1.0).abs() * ((N * SAMPLES) as f64 / 2.0).sqrt(), f64::max)
}

#[test]
fn ends_where_a_gaussian_prior_says() {
    for strength in [0.3, 0.6] {
        // Every timestep of the training; of N steps the first N strength come last.
        let ddpm = sampler(SamplerKind::Ddpm, 1000, |c| c.variance_type = VarianceType::FixedSmall);
        let abar = alpha_bar((1000.0 * strength) as usize - 1);
        let seen = deviations(moments(&*ddpm, strength), [abar.sqrt(), (1.0 - abar).sqrt()], true);
        assert!(seen < 4.5, "DDPM at {strength}: {seen} standard errors");

        let n = 500;
        let k = n - (n as f64 * strength) as usize;
        let euler = sampler(SamplerKind::Euler, n, |c| c.grid.use_karras_sigmas = true);
        let [low, high] = [0, 999].map(|t| ((1.0 - alpha_bar(t)) / alpha_bar(t)).sqrt().powf(1.0 / 7.0));
        let sigma = (high + k as f64 / (n - 1) as f64 * (low - high)).powi(7);
        let seen = deviations(moments(&*euler, strength), [1.0, sigma], false);
        assert!(seen < 4.5, "Euler over Karras's sigmas at {strength}: {seen} standard errors");

        let flow = sampler(SamplerKind::FlowEuler, n, |_| {});
        let t = 1.0 - k as f64 / (n - 1) as f64 * (1.0 - 1e-3);
        let seen = deviations(moments(&*flow, strength), [1.0 - t, t], false);
        assert!(seen < 4.5, "a flow at {strength}: {seen} standard errors");
        // What is measured tells one start from another.
        assert!(deviations(moments(&*flow, strength), [1.0 - 1.1 * t, 1.1 * t], false) > 10.0);
    }
}

#[test]
fn every_sampler_begins_at_its_own_level_with_the_noise_of_each_sample() {
    let (mut checked, mut refused) = (0, Vec::new());
    for case in every(12) {
        let (name, sampler) = (&case.name, &*case.sampler as &dyn Sampler);
        let chain = |batch: usize| {
            let denoiser: Box<dyn Denoiser> = exact(sampler, dims(6), &two_parts(6), batch);
            Chain::new(denoiser, sampler, Seeded::new(7), &ChainOptions { batch, first_sample: 0 }).unwrap()
        };
        let data: Vec<f32> = (0..4 * 6).map(|i| (i * i % 7) as f32 / 4.0 - 0.8).collect();
        let steps = sampler.levels().len();
        let mut whole = chain(4);
        let end = sampler.target(steps - 1).unwrap().noise_to_signal();
        let inverse = end > sampler.levels()[0].noise_to_signal();
        if inverse || sampler.space() != StateSpace::Real {
            let before = whole.x().to_vec();
            assert_eq!(whole.start_from_data(0, &data, 9).unwrap_err().kind(), ErrorKind::Unsupported, "{name}");
            assert_eq!(start_of_strength(sampler, 0.5).unwrap_err().kind(), ErrorKind::Unsupported, "{name}");
            assert_eq!(whole.x(), before);
            refused.push(case.kind.unwrap());
            continue;
        }
        for start in (0..=steps).filter(|&step| step == 0 || step % 3 == 2 || step == steps) {
            if start > 0 && !sampler.settles(start - 1) {
                let e = whole.start_from_data(start, &data, 9).unwrap_err();
                assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{name}");
                continue;
            }
            whole.start_from_data(start, &data, 9).unwrap();
            let level = match start < steps {
                true => sampler.levels()[start],
                false => sampler.target(steps - 1).unwrap(),
            };
            let mut x = vec![0.0; data.len()];
            Seeded::new(7).normal(9, 0, 6, &mut x).unwrap();
            x.iter_mut().zip(&data).for_each(|(z, d)| *z = level.alpha as f32 * d + level.sigma as f32 * *z);
            assert_eq!((whole.x(), whole.position(), whole.first_sample()), (&x[..], start, 9), "{name}");
            whole.run().unwrap();
            // As the x that the caller makes, and one by one.
            let mut given = chain(4);
            given.start_from(start, &x, 9).unwrap();
            given.run().unwrap();
            assert!(given.x() == whole.x(), "{name} from step {start}: not as from its x");
            let mut one = chain(1);
            for (i, row) in data.chunks(6).enumerate() {
                one.start_from_data(start, row, 9 + i as u64).unwrap();
                one.run().unwrap();
                assert!(one.x() == &whole.x()[6 * i..6 * (i + 1)], "{name} from step {start}: sample {i} alone");
            }
            checked += 1;
        }
    }
    assert!(checked > 150, "{checked}");
    use SamplerKind::{Bits2015, D3pm, DdimInverse, DpmSolverInverse};
    for kind in [Bits2015, D3pm, DdimInverse, DpmSolverInverse] {
        assert!(refused.contains(&kind), "{kind:?}");
    }
    assert_eq!(refused.len(), 4, "{refused:?}");
}

#[test]
fn a_strength_is_a_share_of_the_steps() {
    for case in every(12) {
        let (name, sampler) = (&case.name, &*case.sampler as &dyn Sampler);
        let levels = sampler.levels();
        let Ok(first) = start_of_strength(sampler, 1.0) else {
            assert!(sampler.space() != StateSpace::Real || case.kind.is_none() || name.contains("inverse"), "{name}");
            continue;
        };
        assert_eq!(first, 0, "{name}");
        let settled = (0..levels.len()).filter(|&step| sampler.settles(step)).count();
        for (strength, before) in [(0.999, 1.0), (0.5, 0.999), (0.26, 0.5)] {
            let start = start_of_strength(sampler, strength).unwrap();
            assert!(start >= start_of_strength(sampler, before).unwrap(), "{name}");
            let left = (start..levels.len()).filter(|&step| sampler.settles(step)).count();
            assert_eq!(left, (settled as f64 * strength).floor() as usize, "{name} at {strength}");
            assert!(start == 0 || sampler.settles(start - 1), "{name}");
        }
    }
    // diffusers' numbers: int(N strength) as Python computes it, in doubles.
    for (steps, strength, run) in [(50, 0.8, 40), (50, 0.75, 37), (10, 0.3, 3), (100, 0.29, 28), (20, 0.999, 19)] {
        let ddim = sampler(SamplerKind::Ddim, steps, |_| {});
        assert_eq!(start_of_strength(&ddim, strength).unwrap(), steps - run, "{strength} of {steps}");
    }
    let ddim = sampler(SamplerKind::Ddim, 20, |_| {});
    for strength in [0.0, -0.5, 1.0001, f64::NAN, f64::INFINITY] {
        let e = start_of_strength(&ddim, strength).unwrap_err();
        assert!(e.kind() == ErrorKind::InvalidArgument && e.message().contains("at most 1"), "{e}");
    }
    let e = start_of_strength(&ddim, 0.049).unwrap_err();
    assert!(e.kind() == ErrorKind::InvalidArgument && e.message().contains("at least 0.05"), "{e}");
}

#[test]
fn of_data_at_a_level_without_signal_nothing_is_left() {
    // v, since eps says nothing of x_0 there.
    let none = sampler(SamplerKind::Ddim, 10, |c| {
        (c.rescale_betas_zero_snr, c.prediction_type) = (true, undiffuse::process::PredictionType::VPrediction);
        c.timestep_spacing = undiffuse::schedule::TimestepSpacing::Trailing;
    });
    let little = sampler(SamplerKind::Ddim, 1000, |_| {});
    for (sampler, within) in [(none, 0.0), (little, 0.02)] {
        let denoiser = exact(&*sampler, dims(6), &two_parts(6), 2);
        let options = ChainOptions { batch: 2, first_sample: 5 };
        let mut chain = Chain::new(denoiser, &sampler, Seeded::new(7), &options).unwrap();
        let x_t = chain.x().to_vec();
        chain.run().unwrap();
        let ends = chain.x().to_vec();
        chain.start_from_data(start_of_strength(&sampler, 1.0).unwrap(), &[0.9; 12], 5).unwrap();
        let worst = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst(chain.x(), &x_t) <= within, "{}", worst(chain.x(), &x_t));
        chain.run().unwrap();
        assert!(worst(chain.x(), &ends) <= within, "{}", worst(chain.x(), &ends));
    }
}

#[test]
fn what_cannot_be_begun_at_leaves_the_chain_where_it_was() {
    let heun = sampler(SamplerKind::Heun, 5, |_| {});
    let denoiser = exact(&*heun, dims(6), &two_parts(6), 2);
    let options = ChainOptions { batch: 2, first_sample: 0 };
    let mut chain = Chain::new(denoiser, &heun, Seeded::new(7), &options).unwrap();
    chain.step().unwrap();
    let before = chain.save().unwrap();
    let (fine, steps) = ([0.5; 6], heun.levels().len());
    let mut of = |step: usize, data: &[f32], first: u64, kind: ErrorKind, text: &str| {
        let e = chain.start_from_data(step, data, first).unwrap_err();
        assert!(e.kind() == kind && e.message().contains(text), "{e}");
        assert_eq!(chain.save().unwrap(), before, "{text}");
    };
    of(0, &fine[..5], 0, ErrorKind::Shape, "5 values, expected a multiple of 6");
    of(0, &[], 0, ErrorKind::Shape, "0 values");
    of(0, &[0.5; 18], 0, ErrorKind::InvalidArgument, "3 samples at once");
    of(0, &fine, u64::MAX, ErrorKind::InvalidArgument, "too large");
    of(1, &fine, 0, ErrorKind::InvalidArgument, "finishes what the step before it began");
    of(steps + 1, &fine, 0, ErrorKind::InvalidArgument, "cannot start from step");
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        of(0, &[0.5, bad, 0.5, 0.5, 0.5, 0.5], 0, ErrorKind::NonFinite, "not finite");
    }
    // Data at no level of noise are the result.
    chain.start_from_data(steps, &fine, 0).unwrap();
    assert_eq!((chain.status(), chain.x()), (undiffuse::chain::Status::Done, &fine[..]));
}
