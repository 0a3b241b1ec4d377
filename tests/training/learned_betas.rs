//! The trainer's gradient of the bound by the betas, in f32 and by log-odds, beside that of `betas::BoundGradient`,
//! which was derived apart from it, in f64 and by the betas.

use undiffuse::noise::Stream;
use undiffuse::sampler::Readout2015;
use undiffuse::schedule::{Arithmetic, Betas, NoiseSchedule};
use undiffuse::training::betas::BoundGradient;
use undiffuse::training::loss::{BySchedule, End, GaussianBound, Loss};

const T: usize = 40;
const N: usize = 5;

/// A linear network, another one at each step: 2 N outputs of N inputs.
fn matrix(step: usize) -> Vec<f64> {
    let mut s = Stream::new(95, step as u64, 0);
    (0..2 * N * N).map(|_| 0.4 * s.normal()).collect()
}

fn narrow(x: &[f64]) -> Vec<f32> {
    x.iter().map(|&v| v as f32).collect()
}

#[test]
fn two_derivations_agree() {
    let schedule = NoiseSchedule::new(&Betas::authors_2015(T, &[]).unwrap(), Arithmetic::Float64).unwrap();
    let betas = schedule.betas();
    for readout in [Readout2015::Code, Readout2015::Paper] {
        let mut exact = BoundGradient::new(betas, readout).unwrap();
        let loss = GaussianBound::new(betas, readout, End::Entropies).unwrap();
        let count = (T - 1) as f64;
        assert_eq!(loss.times(), 1..T);
        let (mut sums, mut costs) = (vec![BySchedule::default(); T], [exact.add_ends(1.0, N), loss.constant(N)]);
        for (step, sum) in sums.iter_mut().enumerate().skip(1) {
            let mut s = Stream::new(96, step as u64, 0);
            let x0: Vec<f64> = (0..N).map(|_| f64::from(s.normal() as f32)).collect();
            let z: Vec<f64> = (0..N).map(|_| s.normal()).collect();
            let (m, mut x) = (matrix(step), vec![0.0; N]);
            exact.noised(step, &x0, &z, &mut x).unwrap();
            let output: Vec<f64> = m.chunks(N).map(|row| row.iter().zip(&x).map(|(m, x)| m * x).sum()).collect();
            let through = |cotangent: &[f64], i: usize| (0..2 * N).map(|o| cotangent[o] * m[o * N + i]).sum::<f64>();
            let mut vjp = |cotangent: &[f64], out: &mut [f64]| {
                out.iter_mut().enumerate().for_each(|(i, out)| *out = through(cotangent, i));
                Ok(())
            };
            costs[0] += exact.add(step, 1.0, &x0, &z, &output, &mut vjp).unwrap();

            let (x0, x) = (narrow(&x0), narrow(&x));
            let (mut gradient, mut by_x) = ([0.0; 2 * N], [0.0; N]);
            let (value, direct) =
                loss.evaluate_with_schedule(step, (&x0, &x), &narrow(&output), &mut gradient, &mut by_x);
            let cotangent = gradient.map(f64::from);
            by_x.iter_mut().enumerate().for_each(|(i, by)| *by += through(&cotangent, i) as f32);
            let path = loss.through_x(step, &x0, &x, &by_x);
            costs[1] += value / count;
            sum.before += (direct.before + path.before) / count;
            sum.beta += (direct.beta + path.beta) / count;
        }
        assert!((costs[0] - costs[1]).abs() < 1e-5 * costs[0].abs(), "{readout:?}: {costs:?} nats");
        let mut got = vec![0.0; T];
        loss.by_log_odds(&sums, N, 1.0, &mut got);
        let want: Vec<f64> = exact.gradient().iter().zip(betas).map(|(g, b)| g * b * (1.0 - b)).collect();
        let norm = want[1..].iter().map(|w| w * w).sum::<f64>().sqrt();
        for (step, (got, want)) in got.iter().zip(&want).enumerate().skip(1) {
            // f32 values of x, outputs and cotangents against f64 ones.
            assert!(
                (got - want).abs() < 1e-5 * norm,
                "{readout:?}, step {step}: {got}, expected {want}, of norm {norm}"
            );
        }
    }
}
