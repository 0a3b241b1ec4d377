use alloc::vec;
use alloc::vec::Vec;
use core::f64::consts::LN_2;

use super::*;
use crate::cancel::Cancel;
use crate::denoiser::{BitSequences, Call, Component, Covariance, Denoiser, FnDenoiser, GaussianMixture};
use crate::error::ErrorKind;
use crate::noise::{NoiseSource, Seeded};
use crate::process::{Binomial, Prediction, PredictionType, bernoulli_kl, normal_entropy, normal_kl};
use crate::sampler::{
    Ancestral2015, BitPrediction, Bits2015, Ending2015, Readout2015, Sampler, SamplerKind, SamplerOptions,
    SchedulerConfig, Steps, VarianceType, ddpm,
};
use crate::schedule::{Arithmetic, Betas, NoiseSchedule};
use crate::tensor::Dims;

static CANCEL: Cancel = Cancel::new();

fn schedule(betas: Betas) -> NoiseSchedule {
    NoiseSchedule::new(&betas, Arithmetic::Float64).unwrap()
}

fn authors(steps: usize, readout: Readout2015) -> Ancestral2015 {
    Ancestral2015::new(&schedule(Betas::authors_2015(steps, &[]).unwrap()), readout, Ending2015::Mean).unwrap()
}

fn normal(seed: u64, samples: usize, dims: usize, std: f32) -> Vec<f32> {
    let mut data = vec![0.0; samples * dims];
    Seeded::new(seed).normal(0, 0, dims, &mut data).unwrap();
    data.iter_mut().for_each(|v| *v *= std);
    data
}

/// The exact denoiser of N(0, v).
fn prior(v: f64, kind: PredictionType) -> GaussianMixture {
    let one = Component { weight: 1.0, mean: vec![0.0], covariance: Covariance::Diagonal(vec![v]) };
    GaussianMixture::new(Dims::new(&[1]).unwrap(), &[one], kind).unwrap()
}

/// K of the chain of N(0, v) whose steps have the exact mean and variance beta, by expectation over x_0 and x_t, with
/// white ends.
fn exact_k(s: &Ancestral2015, v: f64) -> f64 {
    let mut kl = 0.0;
    let steps = s.levels().len() - 1;
    for step in 0..steps {
        let (abar, previous) = (s.levels()[step].alpha_bar(), s.target(step).unwrap().alpha_bar());
        let beta = 1.0 - abar / previous;
        let posterior = (1.0 - previous) / (1.0 - abar) * beta;
        let of_x0 = previous.sqrt() * beta / (1.0 - abar);
        let error = of_x0 * of_x0 * v * (1.0 - abar) / (abar * v + 1.0 - abar);
        kl += normal_kl(0.0, posterior, 0.0, beta) + error / (2.0 * beta);
    }
    let (first, last) = (1.0 - s.levels()[steps].alpha_bar(), s.levels()[0].alpha_bar());
    let start = normal_entropy(first) + first * (v - 1.0) / 2.0;
    let prior = normal_entropy(1.0) + last * (v - 1.0) / 2.0;
    -kl - start + normal_entropy(1.0 - last) - prior
}

#[test]
fn a_network_at_zero_costs_nothing_on_white_data() {
    let data = normal(11, 4000, 3, 1.0);
    for readout in [Readout2015::Code, Readout2015::Paper, Readout2015::Prediction(PredictionType::Epsilon)] {
        let s = authors(30, readout);
        // eps of white noise is sigma x.
        let m = if matches!(readout, Readout2015::Prediction(_)) { 3 } else { 6 };
        let mut zero =
            FnDenoiser::new("white", Dims::new(&[3]).unwrap(), |call: &Call<'_>, x: &[f32], out: &mut [f32]| {
                out.fill(0.0);
                if m == 3 {
                    out.iter_mut().zip(x).for_each(|(o, x)| *o = call.level.sigma as f32 * x);
                }
                Ok(())
            })
            .with_output_len(m)
            .unwrap();
        // The paper's readout at z = 0 has mean x (1 - beta) in place of x sqrt(1 - beta), which is not white.
        let white = !matches!(readout, Readout2015::Paper);
        for edges in [Edges::Entropies, Edges::White] {
            let options = BoundOptions { edges, batch: 100, ..Default::default() };
            let r = bound(&mut zero, &s, &mut Seeded::new(2), &data, &options, &CANCEL).unwrap();
            let cost = r.l_null - r.k;
            let (cost, error) = (r.value(cost, Unit::BitsPerDim), r.value(r.standard_error, Unit::BitsPerDim));
            std::println!("{readout:?}, {edges:?}: cost {cost:.5} +- {error:.5} bits/dim, {} calls", r.calls);
            if white {
                // White data of these points, not of the distribution: their own excess of power is in White alone.
                assert!(cost.abs() < 4.0 * error + 1e-9, "{readout:?} {edges:?}: {cost} {error}");
                assert!(error < 0.02);
            } else {
                assert!(cost > 4.0 * error);
            }
            assert_eq!((r.calls, r.rows, r.dims, r.samples), (29 * 40, 29 * 4000, 3, 4000));
            assert!((r.l_null / LN_2 / 3.0 + 2.0471).abs() < 1e-4);
        }
    }
}

#[test]
fn a_gaussian_prior_gives_its_exact_bound_and_the_entropy_in_the_limit() {
    let v = 0.25;
    let truth = -normal_entropy(v);
    let mut gaps = Vec::new();
    for steps in [10, 40, 160] {
        let s = authors(steps, Readout2015::Prediction(PredictionType::Sample));
        let want = exact_k(&s, v);
        let data = normal(5, 4000, 1, v.sqrt() as f32);
        let options = BoundOptions { edges: Edges::White, draws: 2, batch: 500, ..Default::default() };
        let mut d = prior(v, PredictionType::Sample);
        let r = bound(&mut d, &s, &mut Seeded::new(1), &data, &options, &CANCEL).unwrap();
        std::println!(
            "T = {steps}: K {:.5} +- {:.5} ({:.5} of it draws), exact {want:.5}, truth {truth:.5}",
            r.k,
            r.standard_error,
            r.monte_carlo_error
        );
        assert!((r.k - want).abs() < 4.0 * r.standard_error, "T = {steps}: {} and {want}", r.k);
        assert!(r.monte_carlo_error < r.standard_error && r.monte_carlo_error > 0.0);
        assert!((r.k + r.kl + r.start - r.end + r.prior).abs() < 1e-12);
        gaps.push(truth - want);
    }
    // The bound falls short of the truth by less and less: nearly as 1 / T.
    assert!(gaps[2] > 0.0 && gaps[1] < 0.5 * gaps[0] && gaps[2] < 0.5 * gaps[1], "{gaps:?}");
}

#[test]
fn kinds_of_prediction_and_ddpm_agree() {
    let data = normal(6, 300, 1, 0.5);
    let options = BoundOptions { edges: Edges::White, batch: 64, ..Default::default() };
    let k = |kind, readout| {
        let s = authors(25, readout);
        bound(&mut prior(0.25, kind), &s, &mut Seeded::new(1), &data, &options, &CANCEL).unwrap().k
    };
    use PredictionType::{Epsilon, Sample, VPrediction};
    let ks = [Epsilon, Sample, VPrediction].map(|kind| k(kind, Readout2015::Prediction(kind)));
    assert!(ks.iter().all(|k| (k - ks[0]).abs() < 1e-4), "{ks:?}");
    // DDPM with variance beta is the same chain.
    let betas = schedule(Betas::authors_2015(25, &[]).unwrap());
    let steps: Vec<u32> = (0..25).rev().collect();
    let prediction = Prediction { kind: Sample, ..Default::default() };
    let chain = ddpm(&betas, &steps, prediction, VarianceType::FixedLarge).unwrap();
    let r = bound(&mut prior(0.25, Sample), &chain, &mut Seeded::new(1), &data, &options, &CANCEL).unwrap();
    assert!((r.k - ks[1]).abs() < 1e-4, "{} {ks:?}", r.k);
    // Entropies of its steps lie between the bounds of Eq. 24, which hold for q and nearly for a good chain of its.
    assert!(r.steps.iter().all(|s| s.lower <= s.upper + 1e-12 && (s.entropy - s.upper).abs() < 1e-6), "{:?}", r.steps);
}

#[test]
fn sampled_steps_are_unbiased_and_cheaper() {
    let data = normal(7, 3000, 1, 0.5);
    let s = authors(60, Readout2015::Prediction(PredictionType::Epsilon));
    let mut d = prior(0.25, PredictionType::Epsilon);
    let mut run = |times, seed| {
        let options = BoundOptions { times, edges: Edges::White, batch: 50, ..Default::default() };
        bound(&mut d, &s, &mut Seeded::new(seed), &data, &options, &CANCEL).unwrap()
    };
    let all = run(Times::All, 1);
    let few = run(Times::Sampled(6), 2);
    assert_eq!((all.rows, few.rows), (59 * 3000, 6 * 3000));
    assert!((few.k - all.k).abs() < 4.0 * (few.standard_error + all.monte_carlo_error.max(0.0)), "{} {}", few.k, all.k);
    assert!(few.standard_error > all.standard_error);
    assert_eq!(run(Times::Sampled(59), 1).k, all.k, "as many strata as steps are all steps");
    assert_eq!(few.steps.iter().map(|s| s.rows).sum::<u64>(), few.rows);
}

#[test]
fn a_point_does_not_depend_on_its_batch_or_shard() {
    let data = normal(8, 30, 2, 0.7);
    let s = authors(12, Readout2015::Code);
    let mut net = FnDenoiser::new("net", Dims::new(&[2]).unwrap(), |call: &Call<'_>, x: &[f32], out: &mut [f32]| {
        for ((out, x), number) in out.chunks_exact_mut(4).zip(x.chunks_exact(2)).zip(call.first_sample..) {
            // As of a class model with three classes in turn.
            let class = 0.1 * (number % 3) as f32;
            out.copy_from_slice(&[0.1 * x[0] + class, -0.2 * x[1], 0.3, call.level.sigma as f32]);
        }
        Ok(())
    })
    .with_output_len(4)
    .unwrap();
    for times in [Times::All, Times::Sampled(3)] {
        let mut run = |data: &[f32], batch, first_sample| {
            let options = BoundOptions { times, draws: 2, batch, first_sample, ..Default::default() };
            bound(&mut net, &s, &mut Seeded::new(3), data, &options, &CANCEL).unwrap().per_sample
        };
        let whole = run(&data, 7, 100);
        assert_eq!(whole, run(&data, 30, 100));
        assert_eq!(whole, [run(&data[..22], 4, 100), run(&data[22..], 5, 111)].concat());
        assert_ne!(whole, run(&data, 7, 0));
    }
}

#[test]
fn fixed_small_costs_a_bound_what_the_docs_say() {
    let v = 0.25;
    let prior = Component { weight: 1.0, mean: vec![0.0; 4], covariance: Covariance::Diagonal(vec![v; 4]) };
    let mut d = GaussianMixture::new(Dims::new(&[4]).unwrap(), &[prior], PredictionType::Epsilon).unwrap();
    let data = normal(4, 300, 4, v.sqrt() as f32);
    let options = SamplerOptions { arithmetic: Arithmetic::Float64, ..Default::default() };
    let [small, large] = [VarianceType::FixedSmall, VarianceType::FixedLarge].map(|variance_type| {
        let config = SchedulerConfig { clip_sample: false, variance_type, ..SchedulerConfig::new(SamplerKind::Ddpm) };
        let s = config.sampler(&options).unwrap();
        let all = BoundOptions { edges: Edges::White, batch: 300, ..Default::default() };
        let r = bound(&mut d, &s, &mut Seeded::new(1), &data, &all, &CANCEL).unwrap();
        r.value(r.k, Unit::BitsPerDim)
    });
    std::println!("fixed_small {small:.4}, fixed_large {large:.4} bits per dimension");
    // In closed form 0.6584 and 0.0016 below the best variance.
    assert!((large - small - 0.6568).abs() < 0.05, "{small} {large}");
}

#[test]
fn the_networks_own_last_step_and_grey_levels() {
    // Data are grey levels -1, 0 and 1 of three; the mixture of points knows them exactly.
    let points: Vec<Component> = [-1.0, 0.0, 1.0]
        .map(|m| Component { weight: 1.0, mean: vec![m], covariance: Covariance::Diagonal(vec![0.0]) })
        .to_vec();
    let mut d = GaussianMixture::new(Dims::new(&[1]).unwrap(), &points, PredictionType::Epsilon).unwrap();
    let config = SchedulerConfig { clip_sample: false, beta_end: 0.02, ..SchedulerConfig::new(SamplerKind::Ddpm) };
    let options = SamplerOptions { arithmetic: Arithmetic::Float64, ..Default::default() };
    let s = config.sampler(&options).unwrap();
    let data: Vec<f32> = (0..240).map(|i| (i % 3) as f32 - 1.0).collect();
    let mut run = |edges| {
        let options = BoundOptions { edges, batch: 240, ..Default::default() };
        bound(&mut d, &s, &mut Seeded::new(1), &data, &options, &CANCEL).unwrap()
    };
    // log 1/3, from which 1000 steps with the posterior's variance take little.
    let r = run(Edges::Discretized { levels: 3 });
    std::println!(
        "three levels: K {:.4} +- {:.4} nats, truth {:.4}, start {:.2e}",
        r.k,
        r.standard_error,
        -(3f64).ln(),
        r.start
    );
    assert!(r.k - 4.0 * r.standard_error < -(3f64).ln() && r.k > -(3f64).ln() - 0.1, "{}", r.k);
    assert!(r.start.abs() < 1e-9, "the last step hits its bin: {}", r.start);
    // As a density, the Gaussian's peak: -log sqrt(2 pi e 1e-4), since x^1 knows x^0 to a deviation of 0.01.
    let r = run(Edges::Network);
    assert!((r.start - 0.5 * (2.0 * core::f64::consts::PI * 1e-4f64).ln()).abs() < 0.01, "{}", r.start);
    let original = Ancestral2015::new(
        &schedule(Betas::authors_2015(10, &[]).unwrap()),
        Readout2015::Prediction(PredictionType::Epsilon),
        Ending2015::Original,
    );
    let options = BoundOptions { edges: Edges::Network, ..Default::default() };
    let e = bound(&mut d, &original.unwrap(), &mut Seeded::new(1), &data, &options, &CANCEL).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
}

fn bits_sampler(steps: usize, pi: f64) -> Bits2015 {
    let s = schedule(Betas::erasing_evenly(steps).unwrap());
    Bits2015::new(&s, Binomial::new(pi).unwrap(), BitPrediction::Clean, false, Ending2015::Mean).unwrap()
}

fn heartbeat(n: usize, pi: f64) -> (BitSequences, Vec<f32>) {
    let rows: Vec<bool> = (0..5).flat_map(|phase| (0..n).map(move |i| i % 5 == phase)).collect();
    let process = Binomial::new(f64::from(pi as f32)).unwrap();
    let data = rows.iter().map(|&b| f32::from(u8::from(b))).collect();
    (BitSequences::new(Dims::new(&[n]).unwrap(), &rows, &[1.0; 5], process).unwrap(), data)
}

#[test]
fn heartbeats_have_the_bound_that_enumeration_gives() {
    let (n, steps, pi) = (10, 40, 0.2);
    let s = bits_sampler(steps, pi);
    let (mut d, data) = heartbeat(n, pi);
    let process = Binomial::new(f64::from(pi as f32)).unwrap();
    // All x_t of all x_0, each with its probability.
    let (mut kl, mut start) = (0.0, 0.0);
    let states: Vec<f32> = (0..1usize << n).flat_map(|s| (0..n).map(move |i| (s >> i & 1) as f32)).collect();
    let mut out = vec![0.0; states.len()];
    for (step, &level) in s.levels().iter().enumerate() {
        d.predict(&Call { level, first_sample: 0, cancel: &CANCEL }, &states, &mut out).unwrap();
        let (abar, previous) = (level.alpha_bar(), s.target(step).unwrap().alpha_bar());
        let beta = 1.0 - abar / previous;
        for x0 in data.chunks_exact(n) {
            for (x, m) in states.chunks_exact(n).zip(out.chunks_exact(n)) {
                let (mut p, mut cost) = (0.2, 0.0);
                for ((&x0, &x), &m) in x0.iter().zip(x).zip(m) {
                    let one = process.marginal(abar, f64::from(x0));
                    p *= if x == 1.0 { one } else { 1.0 - one };
                    let q = process.posterior(beta, previous, f64::from(x0), x == 1.0);
                    cost += bernoulli_kl(q, process.reverse(beta, previous, f64::from(m), x == 1.0));
                }
                if step + 1 < steps { kl += p * cost } else { start += p * cost }
            }
        }
    }
    // At abar_T = 0, q(x_T | x_0) is the prior itself.
    let want = -kl - start;
    let points: Vec<f32> = data.iter().copied().cycle().take(data.len() * 200).collect();
    let options = BoundOptions { edges: Edges::Network, draws: 2, batch: 250, ..Default::default() };
    let r = bound(&mut d, &s, &mut Seeded::new(1), &points, &options, &CANCEL).unwrap();
    let bits = |v| v / LN_2;
    std::println!(
        "K {:.4} +- {:.4} bits, exact {:.4}, truth {:.4}",
        bits(r.k),
        bits(r.standard_error),
        bits(want),
        -(5f64).log2()
    );
    assert!((r.k - want).abs() < 4.0 * r.standard_error, "{} and {want}", r.k);
    assert!(want < -(5f64).ln() && r.standard_error < 0.02);
    assert!((r.l_null / LN_2 + 7.219).abs() < 1e-3);
    assert!((r.end - r.prior).abs() < 1e-9);
    // Half of the draws' error is gone with four times as many.
    assert!(r.monte_carlo_error > 0.0 && r.monte_carlo_error <= 1.2 * r.standard_error);
}

#[test]
fn a_long_heartbeat_comes_within_a_tenth_of_a_bit() {
    // The paper's T and length; its own network reached -2.414 of -2.322 bits.
    let s = bits_sampler(2000, 0.2);
    let (mut d, data) = heartbeat(20, 0.2);
    let points: Vec<f32> = data.iter().copied().cycle().take(data.len() * 40).collect();
    for (edges, times) in [(Edges::Network, Times::All), (Edges::Entropies, Times::Sampled(200))] {
        let options = BoundOptions { edges, times, batch: 200, ..Default::default() };
        let r = bound(&mut d, &s, &mut Seeded::new(1), &points, &options, &CANCEL).unwrap();
        let (k, error) = (r.value(r.k, Unit::Bits), r.value(r.standard_error, Unit::Bits));
        std::println!("{edges:?} {times:?}: K {k:.4} +- {error:.4} bits per sequence");
        assert!(k - 4.0 * error < -2.322 && k + 4.0 * error > -2.414, "{k} {error}");
    }
}

#[test]
fn nonsense_is_refused() {
    let s = authors(10, Readout2015::Prediction(PredictionType::Epsilon));
    let kind = |s: &dyn Sampler, data: &[f32], options: BoundOptions| {
        let mut d = prior(1.0, PredictionType::Epsilon);
        bound(&mut d, s, &mut Seeded::new(1), data, &options, &CANCEL).unwrap_err().kind()
    };
    let o = BoundOptions::default();
    assert_eq!(kind(&s, &[], o), ErrorKind::InvalidArgument);
    assert_eq!(kind(&s, &[f32::NAN], o), ErrorKind::InvalidArgument);
    assert_eq!(kind(&s, &[0.0], BoundOptions { draws: 0, ..o }), ErrorKind::InvalidArgument);
    assert_eq!(kind(&s, &[0.0], BoundOptions { batch: 0, ..o }), ErrorKind::InvalidArgument);
    assert_eq!(kind(&s, &[0.0], BoundOptions { times: Times::Sampled(0), ..o }), ErrorKind::InvalidArgument);
    let levels = Edges::Discretized { levels: 1 };
    assert_eq!(kind(&s, &[0.0], BoundOptions { edges: levels, ..o }), ErrorKind::InvalidArgument);
    assert_eq!(kind(&bits_sampler(5, 0.5), &[0.5], o), ErrorKind::InvalidArgument);
    assert_eq!(kind(&authors(10, Readout2015::Code), &[0.5], o), ErrorKind::Shape);
    let levels = Edges::Discretized { levels: 256 };
    assert_eq!(kind(&bits_sampler(5, 0.5), &[1.0], BoundOptions { edges: levels, ..o }), ErrorKind::Unsupported);
    let ddim = SchedulerConfig::new(SamplerKind::Ddim);
    let ddim = ddim.sampler(&SamplerOptions { steps: Steps::Count(5), ..Default::default() }).unwrap();
    assert_eq!(kind(&ddim, &[0.5], o), ErrorKind::Unsupported);
    let cancel = Cancel::new();
    cancel.cancel();
    let mut d = prior(1.0, PredictionType::Epsilon);
    let e = bound(&mut d, &s, &mut Seeded::new(1), &[0.0], &o, &cancel).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Cancelled);
    let mut nan = FnDenoiser::new("nan", Dims::new(&[1]).unwrap(), |_: &Call<'_>, _: &[f32], out: &mut [f32]| {
        out.fill(f32::NAN);
        Ok(())
    });
    let e = bound(&mut nan, &s, &mut Seeded::new(1), &[0.0; 3], &o, &CANCEL).unwrap_err();
    assert!(e.kind() == ErrorKind::NonFinite && e.message().contains("sample 0"), "{e}");
}
