use alloc::vec;

use super::*;
use crate::noise::Stream;
use crate::process::{Posterior, normal_kl};
use crate::training::optim::{Adam, AdamOptions, Evaluation, Optimizer};

const T: usize = 6;
const N: usize = 3;

/// A small network: z_mu = A x + sin(x + step), z_Sigma = tanh(B x - step / 4).
struct Net {
    a: Vec<f64>,
    b: Vec<f64>,
}

impl Net {
    fn new() -> Self {
        let mut s = Stream::new(91, 0, 0);
        let mut matrix = || (0..N * N).map(|_| 0.5 * s.normal()).collect::<Vec<f64>>();
        Self { a: matrix(), b: matrix() }
    }

    fn times(m: &[f64], x: &[f64]) -> Vec<f64> {
        m.chunks(N).map(|row| row.iter().zip(x).map(|(m, x)| m * x).sum()).collect()
    }

    fn output(&self, step: usize, x: &[f64]) -> Vec<f64> {
        let means = Self::times(&self.a, x).into_iter().zip(x).map(|(a, x)| a + libm::sin(x + step as f64));
        let sigmas = Self::times(&self.b, x).into_iter().map(|b| libm::tanh(b - 0.25 * step as f64));
        means.chain(sigmas).collect()
    }

    fn vjp(&self, step: usize, x: &[f64], cotangent: &[f64], out: &mut [f64]) {
        let b = Self::times(&self.b, x);
        for (i, out) in out.iter_mut().enumerate() {
            *out = cotangent[i] * libm::cos(x[i] + step as f64);
            for k in 0..N {
                let t = libm::tanh(b[k] - 0.25 * step as f64);
                *out += cotangent[k] * self.a[k * N + i] + cotangent[N + k] * (1.0 - t * t) * self.b[k * N + i];
            }
        }
    }
}

/// Data and frozen noise of all steps.
fn frozen() -> (Vec<f64>, Vec<Vec<f64>>) {
    let mut s = Stream::new(92, 0, 0);
    let mut draw = || (0..N).map(|_| s.normal()).collect::<Vec<f64>>();
    (draw(), (0..T).map(|_| draw()).collect())
}

/// The whole bound, with its gradient by the betas. Without `through` the network's part is left out.
fn bound(betas: &[f64], readout: Readout2015, through: bool) -> (f64, Vec<f64>) {
    let (net, (x0, z)) = (Net::new(), frozen());
    let mut g = BoundGradient::new(betas, readout).unwrap();
    let mut cost = g.add_ends(1.0, N);
    for (step, z) in z.iter().enumerate().skip(1) {
        let mut x = vec![0.0; N];
        g.noised(step, &x0, z, &mut x).unwrap();
        let output = net.output(step, &x);
        let mut vjp = |cotangent: &[f64], out: &mut [f64]| {
            out.fill(0.0);
            if through {
                net.vjp(step, &x, cotangent, out);
            }
            Ok(())
        };
        cost += g.add(step, 1.0, &x0, z, &output, &mut vjp).unwrap();
    }
    (cost, g.gradient())
}

fn start() -> NoiseSchedule {
    NoiseSchedule::new(&Betas::authors_2015(T, &[]).unwrap(), Arithmetic::Float64).unwrap()
}

#[test]
fn the_value_is_the_bound_of_the_paper() {
    let schedule = start();
    let (net, (x0, z)) = (Net::new(), frozen());
    for readout in [Readout2015::Code, Readout2015::Paper] {
        let abars = schedule.alphas_cumprod();
        let ends = normal_entropy(schedule.betas()[0]) - normal_entropy(1.0 - abars[T - 1]) + normal_entropy(1.0);
        let mut expected = N as f64 * ends;
        for (step, z) in z.iter().enumerate().skip(1) {
            let (beta, abar) = (schedule.betas()[step], abars[step]);
            let p = Posterior::new(abar, abars[step - 1], Arithmetic::Float64);
            let x: Vec<f64> =
                x0.iter().zip(z).map(|(x0, z)| libm::sqrt(abar) * x0 + libm::sqrt(1.0 - abar) * z).collect();
            let output = net.output(step, &x);
            for i in 0..N {
                let (z_mu, z_sigma) = (output[i], output[N + i]);
                let logit = libm::log(beta / (1.0 - beta));
                let sigmoid = |v: f64| 1.0 / (1.0 + libm::exp(-v));
                let (mean, variance) = match readout {
                    Readout2015::Code => (
                        x[i] * libm::sqrt(1.0 - beta) + z_mu * libm::sqrt(beta),
                        sigmoid(z_sigma / libm::sqrt(T as f64) + logit),
                    ),
                    _ => {
                        let v = sigmoid(z_sigma + logit);
                        ((x[i] - z_mu) * (1.0 - v) + z_mu, v)
                    }
                };
                expected += normal_kl(p.x0 * x0[i] + p.x * x[i], p.variance, mean, variance);
            }
        }
        let (cost, _) = bound(schedule.betas(), readout, true);
        assert!((cost - expected).abs() < 1e-10 * expected.abs(), "{cost} {expected}");
    }
}

#[test]
fn the_gradient_is_that_of_differences() {
    let betas = start().betas().to_vec();
    for readout in [Readout2015::Code, Readout2015::Paper] {
        let (_, gradient) = bound(&betas, readout, true);
        let (_, without) = bound(&betas, readout, false);
        for i in 0..T {
            let h = 1e-6 * betas[i];
            let at = |h: f64| {
                let mut moved = betas.clone();
                moved[i] += h;
                bound(&moved, readout, true).0
            };
            let difference = (at(h) - at(-h)) / (2.0 * h);
            let error = (gradient[i] - difference).abs() / difference.abs();
            assert!(error < 1e-6, "{readout:?}, beta {i}: {} and {difference}", gradient[i]);
            // The network's part counts.
            assert!((without[i] - difference).abs() > 1e-3 * difference.abs(), "{readout:?}, beta {i}");
        }
    }
}

#[test]
fn both_parametrisations_have_their_gradient() {
    let schedule = start();
    for learned in [LearnedBetas::by_basis(&schedule, 3).unwrap(), LearnedBetas::free(&schedule).unwrap()] {
        let n = learned.parameters();
        // Zero is the start, up to rounding.
        let betas = learned.betas(&vec![0.0; n]).unwrap();
        assert!(betas.iter().zip(schedule.betas()).all(|(a, b)| (a - b).abs() < 1e-12));
        let c: Vec<f64> = (0..n).map(|i| 0.3 * i as f64 - 0.4).collect();
        let cost = |c: &[f64]| bound(&learned.betas(c).unwrap(), Readout2015::Code, true);
        let gradient = learned.pull_back(&c, &cost(&c).1).unwrap();
        for i in 0..n {
            let at = |h: f64| {
                let mut moved = c.clone();
                moved[i] += h;
                cost(&moved).0
            };
            let difference = (at(1e-5) - at(-1e-5)) / 2e-5;
            assert!(
                (gradient[i] - difference).abs() < 1e-6 * difference.abs().max(0.1),
                "{i}: {} {difference}",
                gradient[i]
            );
        }
        assert!(learned.betas(&c[1..]).is_err() && learned.pull_back(&c, &[0.0; 2]).is_err());
    }
    // The paper's last beta, 1, is moved just below.
    let even = NoiseSchedule::new(&Betas::erasing_evenly(T).unwrap(), Arithmetic::Float64).unwrap();
    let betas = LearnedBetas::free(&even).unwrap().betas(&[0.0; T - 1]).unwrap();
    assert!(betas[T - 1] < 1.0 && betas[T - 1] > 0.9999 && (betas[1] - even.betas()[1]).abs() < 1e-12);
}

#[test]
fn learning_betas_raises_the_bound_and_they_are_stored_exactly() {
    let schedule = start();
    let learned = LearnedBetas::free(&schedule).unwrap();
    let mut c = vec![0.0f32; T - 1];
    let mut adam = Adam::new(AdamOptions::default(), T - 1).unwrap();
    let before = bound(schedule.betas(), Readout2015::Code, true).0;
    let wide = |c: &[f32]| c.iter().map(|&c| f64::from(c)).collect::<Vec<f64>>();
    for _ in 0..200 {
        let c64 = wide(&c);
        let (cost, by_betas) = bound(&learned.betas(&c64).unwrap(), Readout2015::Code, true);
        let gradient: Vec<f32> = learned.pull_back(&c64, &by_betas).unwrap().iter().map(|&g| g as f32).collect();
        adam.step(&mut c, Evaluation { minibatch: 0, cost, gradient: &gradient }, 0.02).unwrap();
    }
    let betas = learned.betas(&wide(&c)).unwrap();
    let after = bound(&betas, Readout2015::Code, true).0;
    assert!(after < before - 0.5, "{before} nats before, {after} after");
    assert_eq!(betas[0], schedule.betas()[0]);

    use crate::sampler::{SamplerKind, SchedulerConfig};
    let mut config = SchedulerConfig::new(SamplerKind::Ancestral2015);
    (config.num_train_timesteps, config.trained_betas) = (T, Some(betas.clone()));
    let read = SchedulerConfig::from_json(&config.to_json()).unwrap();
    assert_eq!(read.trained_betas, Some(betas));
}

#[test]
fn nonsense_is_refused() {
    use crate::process::PredictionType;
    let new = BoundGradient::new;
    assert!(new(&[0.1], Readout2015::Code).is_err() && new(&[0.1, 1.0], Readout2015::Code).is_err());
    assert!(new(&[0.1, f64::NAN], Readout2015::Code).is_err());
    assert!(new(&[0.1, 0.2], Readout2015::Prediction(PredictionType::Epsilon)).is_err());
    let mut g = new(&[0.1, 0.2], Readout2015::Code).unwrap();
    let vjp = &mut |_: &[f64], out: &mut [f64]| {
        out.fill(f64::NAN);
        Ok(())
    };
    for (step, x0, output) in [(0, &[1.0][..], &[0.0, 0.0][..]), (2, &[1.0], &[0.0, 0.0]), (1, &[1.0], &[0.0])] {
        assert!(g.add(step, 1.0, x0, &[0.0], output, vjp).is_err());
    }
    assert!(g.add(1, 1.0, &[1.0], &[0.0], &[0.0, 0.0], vjp).is_err());
    assert_eq!(g.gradient(), [0.0; 2]);
}
