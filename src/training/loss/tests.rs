//! Losses against the formulas of `process`, and their gradients against finite differences.

use alloc::vec::Vec;
use std::println;

use super::*;
use crate::process::{Binomial, PredictionType, bernoulli_kl, normal_kl};
use crate::sampler::{BitPrediction, Readout2015};
use crate::schedule::{Arithmetic, Betas, NoiseSchedule};

const N: usize = 3;

fn betas() -> Vec<f64> {
    NoiseSchedule::new(&Betas::authors_2015(12, &[]).unwrap(), Arithmetic::Float64).unwrap().betas().to_vec()
}

fn readouts() -> [Readout2015; 5] {
    use PredictionType::{Epsilon, Sample, VPrediction};
    let later = [Epsilon, Sample, VPrediction].map(Readout2015::Prediction);
    [Readout2015::Code, Readout2015::Paper, later[0], later[1], later[2]]
}

/// x_0, x_t and an output, each a little different at each t.
fn drawn(loss: &dyn Loss, t: usize, bits: bool) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let mut stream = Stream::new(3, t as u64, 0);
    let x0: Vec<f32> = (0..N).map(|_| if bits { (stream.bits() & 1) as f32 } else { stream.normal() as f32 }).collect();
    let mut x = alloc::vec![0.0; N];
    loss.corrupt(t, &x0, &mut stream, &mut x);
    let output = (0..loss.output_len(N)).map(|_| (0.5 * stream.normal()) as f32).collect();
    (x0, x, output)
}

/// Holds the gradient by the output to central differences, at every t.
fn check_gradient(name: &str, loss: &dyn Loss, bits: bool) {
    let mut worst = 0f64;
    for t in loss.times() {
        let (x0, x, output) = drawn(loss, t, bits);
        let mut gradient = alloc::vec![f32::NAN; output.len()];
        let mut unused = gradient.clone();
        loss.evaluate(t, &x0, &x, &output, &mut gradient);
        for i in 0..output.len() {
            let step = 1.0 / 1024.0f32;
            let mut at = |by: f32| {
                let mut moved = output.clone();
                moved[i] += by;
                (f64::from(moved[i]), loss.evaluate(t, &x0, &x, &moved, &mut unused))
            };
            let ((a, high), (b, low)) = (at(step), at(-step));
            let (numeric, exact) = ((high - low) / (a - b), f64::from(gradient[i]));
            let off = (numeric - exact).abs() / numeric.abs().max(exact.abs()).max(0.1);
            assert!(off < 1e-3, "{name} at {t}, output {i}: {exact}, {numeric} by differences");
            worst = worst.max(off);
        }
    }
    println!("{name}: {worst:.1e}");
}

#[test]
fn gradients_are_those_of_differences() {
    for end in [End::Entropies, End::Network] {
        for readout in readouts() {
            check_gradient("Gaussian", &GaussianBound::new(&betas(), readout, end).unwrap(), false);
        }
        for prediction in [BitPrediction::Previous, BitPrediction::Clean] {
            let process = Binomial::new(0.2).unwrap();
            check_gradient("bits", &BinomialBound::new(&betas(), process, prediction, end).unwrap(), true);
        }
    }
    for kind in [PredictionType::Epsilon, PredictionType::Sample, PredictionType::VPrediction] {
        for weight in [SnrWeight::None, SnrWeight::MinSnr { gamma: 5.0 }] {
            check_gradient("squared error", &SquaredError::new(&betas(), kind, weight).unwrap(), false);
        }
    }
}

#[test]
fn the_divergence_is_that_of_the_process() {
    let (betas, w) = (betas(), 11.0);
    let loss = GaussianBound::new(&betas, Readout2015::Code, End::Entropies).unwrap();
    let s = NoiseSchedule::new(&Betas::explicit(betas.clone()), Arithmetic::Float64).unwrap();
    for t in loss.times() {
        let (x0, x, output) = drawn(&loss, t, false);
        let got = loss.evaluate(t, &x0, &x, &output, &mut [0.0; 2 * N]);
        let (abar, before) = (s.alphas_cumprod()[t], s.alphas_cumprod()[t - 1]);
        let q = crate::process::Posterior::new(abar, before, Arithmetic::Float64);
        let want: f64 = (0..N)
            .map(|i| {
                let (x0, x, b) = (f64::from(x0[i]), f64::from(x[i]), betas[t]);
                let mean = x * (1.0 - b).sqrt() + f64::from(output[i]) * b.sqrt();
                let odds = b / (1.0 - b) * (f64::from(output[N + i]) / 12f64.sqrt()).exp();
                normal_kl(q.x0 * x0 + q.x * x, q.variance, mean, odds / (1.0 + odds))
            })
            .sum();
        assert!((got - w * want).abs() < 1e-9 * (1.0 + w * want), "{t}: {got}, {want}");
    }
    let process = Binomial::new(0.2).unwrap();
    for prediction in [BitPrediction::Previous, BitPrediction::Clean] {
        let loss = BinomialBound::new(&betas, process, prediction, End::Entropies).unwrap();
        for t in loss.times() {
            let (x0, x, output) = drawn(&loss, t, true);
            let got = loss.evaluate(t, &x0, &x, &output, &mut [0.0; N]);
            let before = s.alphas_cumprod()[t - 1];
            let want: f64 = (0..N)
                .map(|i| {
                    let m = 1.0 / (1.0 + (-f64::from(output[i])).exp());
                    let p = match prediction {
                        BitPrediction::Previous => m,
                        BitPrediction::Clean => process.reverse(betas[t], before, m, x[i] == 1.0),
                    };
                    bernoulli_kl(process.posterior(betas[t], before, f64::from(x0[i]), x[i] == 1.0), p)
                })
                .sum();
            assert!((got - w * want).abs() < 1e-9 * (1.0 + w * want), "{t}: {got}, {want}");
        }
    }
}

/// A network at zero is the white Gaussian model: for data of unit variance its bound is that model's log-likelihood,
/// so the cost is 0.
#[test]
fn nothing_learned_costs_nothing() {
    let loss = GaussianBound::new(&betas(), Readout2015::Code, End::Entropies).unwrap();
    let (count, mut sum) = (4000, 0.0);
    for i in 0..count {
        let mut stream = Stream::new(8, i, 0);
        // Two points at -1 and 1 have unit variance too.
        let x0: Vec<f32> = (0..N).map(|_| if stream.bits() & 1 == 1 { 1.0 } else { -1.0 }).collect();
        let mut x = [0.0; N];
        for t in loss.times() {
            loss.corrupt(t, &x0, &mut stream, &mut x);
            sum += loss.evaluate(t, &x0, &x, &[0.0; 2 * N], &mut [0.0; 2 * N]) / loss.times().len() as f64;
        }
    }
    let cost = sum / count as f64 + loss.constant(N) - N as f64 * crate::process::normal_entropy(1.0);
    assert!(cost.abs() < 0.02, "{cost}");
}

#[test]
fn gradients_by_the_schedule_are_those_of_differences() {
    // The loss of fixed noise, of outputs that are linear in x_t, at all steps, as a function of the log-odds.
    let start = betas();
    let odds: Vec<f64> = start.iter().map(|b| (b / (1.0 - b)).ln()).collect();
    for (readout, end) in
        [Readout2015::Code, Readout2015::Paper].into_iter().flat_map(|r| [(r, End::Entropies), (r, End::Network)])
    {
        let make = |u: &[f64]| {
            let betas: Vec<f64> = u.iter().map(|u| 1.0 / (1.0 + (-u).exp())).collect();
            GaussianBound::new(&betas, readout, end).unwrap()
        };
        // f64 copies of what a step does; x is not rounded, so that differences see no steps.
        let slope = [0.4, -0.3, 0.2];
        let run = |u: &[f64], by: &mut [f64]| {
            let loss = make(u);
            let w = loss.times().len() as f64;
            let (mut total, mut sums) = (loss.constant(N), alloc::vec![BySchedule::default(); u.len()]);
            for t in loss.times() {
                let (x0, ..) = drawn(&loss, t, false);
                let (mut stream, mut x) = (Stream::new(4, t as u64, 0), [0.0; N]);
                loss.corrupt(t, &x0, &mut stream, &mut x);
                let output: Vec<f32> = (0..2 * N).map(|i| (slope[i % 3] * f64::from(x[i % N])) as f32).collect();
                let (mut gradient, mut by_x) = ([0.0; 2 * N], [0.0; N]);
                let (value, direct) = loss.evaluate_with_schedule(t, (&x0, &x), &output, &mut gradient, &mut by_x);
                assert_eq!(value, loss.evaluate(t, &x0, &x, &output, &mut [0.0; 2 * N]));
                for i in 0..2 * N {
                    by_x[i % N] += slope[i % 3] as f32 * gradient[i];
                }
                let through = loss.through_x(t, &x0, &x, &by_x);
                sums[t].before += (direct.before + through.before) / w;
                sums[t].beta += (direct.beta + through.beta) / w;
                total += value / w;
            }
            loss.by_log_odds(&sums, N, 1.0, by);
            total
        };
        let mut exact = alloc::vec![f64::NAN; odds.len()];
        run(&odds, &mut exact);
        assert_eq!(exact[0], 0.0);
        for i in 1..odds.len() {
            let at = |by: f64| {
                let mut u = odds.clone();
                u[i] += by;
                run(&u, &mut alloc::vec![0.0; odds.len()])
            };
            let numeric = (at(1e-2) - at(-1e-2)) / 2e-2;
            let off = (numeric - exact[i]).abs() / (0.02 + numeric.abs());
            assert!(off < 5e-3, "{readout:?} {end:?} {i}: {}, {numeric} by differences", exact[i]);
        }
    }
}

#[test]
fn nonsense_is_refused() {
    let bound = |b: &[f64]| GaussianBound::new(b, Readout2015::Code, End::Entropies);
    for bad in [&[0.1][..], &[0.1, 0.0], &[0.1, 1.0, 0.1], &[0.1, f64::NAN], &[1.5, 0.1]] {
        assert!(bound(bad).is_err(), "{bad:?}");
    }
    // A last beta of 1 leaves a step that nothing can be learned at.
    assert_eq!(bound(&[0.1, 0.5, 1.0]).unwrap().times(), 1..2);
    let process = Binomial::new(0.2).unwrap();
    assert!(BinomialBound::new(&[0.1], process, BitPrediction::Clean, End::Network).is_err());
    assert!(SquaredError::new(&[0.1, 1.0], PredictionType::Epsilon, SnrWeight::None).is_err());
    let weight = SnrWeight::MinSnr { gamma: 0.0 };
    assert!(SquaredError::new(&[0.1, 0.2], PredictionType::Epsilon, weight).is_err());
    assert!(check(&bound(&[0.1, 0.5]).unwrap(), 4, 4).is_err() && check(&bound(&[0.1, 0.5]).unwrap(), 4, 8).is_ok());
}
