//! Split Gibbs sampling on mixtures whose posteriors are known in closed form: means, covariances and the weights of
//! the modes.
//!
//! The daily size holds few samples to bounds that are 5 % and what so few draws are off by; the whole size, 19,200
//! samples, is run by hand:
//!
//!     cargo test --release --all-features --test posterior split_gibbs:: -- --ignored --nocapture

use undiffuse::ErrorKind;
use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::denoiser::{Component, Covariance, GaussianMixture};
use undiffuse::noise::Seeded;
use undiffuse::posterior::operator::{Dense, Identity, LinearOperator, Mask};
use undiffuse::posterior::{Evidence, Measurement, SplitGibbs, SplitGibbsOptions};
use undiffuse::process::PredictionType;
use undiffuse::sampler::{Ladder, Sampler, SamplerKind, SamplerOptions, SchedulerConfig, Steps};
use undiffuse::tensor::Dims;

type Matrix = Vec<Vec<f64>>;

/// A Gaussian: weight, mean, covariance.
#[derive(Clone)]
struct Part(f64, Vec<f64>, Matrix);

/// Three Gaussians in the plane, the mixture of `mixture.rs`.
fn plane() -> Vec<Part> {
    vec![
        Part(0.5, vec![0.9, 0.3], vec![vec![0.10, 0.04], vec![0.04, 0.08]]),
        Part(0.3, vec![-0.8, 0.7], vec![vec![0.12, -0.05], vec![-0.05, 0.06]]),
        Part(0.2, vec![0.0, -1.0], vec![vec![0.05, 0.0], vec![0.0, 0.15]]),
    ]
}

/// Three Gaussians of 8 elements, standard deviations from 0.12 to 0.4 along directions that differ from one to the
/// next.
fn eight() -> Vec<Part> {
    let n = 8;
    let part = |k: usize, weight: f64| {
        let mean = (0..n).map(|i| ((i * i) as f64 * 0.9 + k as f64 * 2.1 + 0.4).sin() * 0.7).collect();
        // Householder's reflection, symmetric and orthogonal.
        let v: Vec<f64> = (0..n).map(|i| ((i + 1) as f64 * (1.3 + k as f64)).cos()).collect();
        let vv: f64 = v.iter().map(|v| v * v).sum();
        let q = |i: usize, j: usize| f64::from(u8::from(i == j)) - 2.0 * v[i] * v[j] / vv;
        let variance = |l: usize| (0.12 + 0.04 * l as f64).powi(2);
        let entry = |i: usize, j: usize| (0..n).map(|l| q(i, l) * variance(l) * q(j, l)).sum();
        Part(weight, mean, (0..n).map(|i| (0..n).map(|j| entry(i, j)).collect()).collect())
    };
    vec![part(0, 0.4), part(1, 0.35), part(2, 0.25)]
}

struct Problem {
    name: &'static str,
    op: Box<dyn LinearOperator>,
    y: Vec<f32>,
    s: f64,
}

/// Seen half-way between the first two means, so that modes compete.
fn problems(parts: &[Part]) -> Vec<Problem> {
    let n = parts[0].1.len();
    let dims = Dims::new(&[n]).unwrap();
    let m = n / 2 + 1;
    let entries: Vec<f32> = (0..m * n).map(|i| ((i * i + 3 * i) as f32 * 0.7).sin()).collect();
    let between: Vec<f32> = (0..n).map(|i| (0.5 * parts[0].1[i] + 0.5 * parts[1].1[i]) as f32).collect();
    let make = |name, op: Box<dyn LinearOperator>, s: f64| {
        let mut y = vec![0.0; op.output_dims().elements()];
        op.apply(&between, &mut y, &mut vec![0.0; op.scratch_len()]).unwrap();
        y.iter_mut().enumerate().for_each(|(i, y)| *y += (0.5 * s * (1.0 + 2.0 * i as f64).sin()) as f32);
        Problem { name, op, y, s }
    };
    vec![
        make("denoising, s 0.5", Box::new(Identity::new(dims).unwrap()), 0.5),
        make(
            "inpainting, s 0.1",
            Box::new(Mask::new(dims, &(0..n).map(|i| i % 2 == 0).collect::<Vec<_>>()).unwrap()),
            0.1,
        ),
        make("dense A, s 0.3", Box::new(Dense::new(dims, Dims::new(&[m]).unwrap(), &entries).unwrap()), 0.3),
    ]
}

/// log det and C^-1 b for several b, by Cholesky's decomposition.
fn solve(c: &Matrix, columns: &[Vec<f64>]) -> (f64, Matrix) {
    let n = c.len();
    let mut l = vec![vec![0.0; n]; n];
    for i in 0..n {
        for j in 0..=i {
            let sum = c[i][j] - (0..j).map(|k| l[i][k] * l[j][k]).sum::<f64>();
            l[i][j] = if i == j { sum.sqrt() } else { sum / l[j][j] };
        }
    }
    let solved = columns.iter().map(|b| {
        let mut x = b.clone();
        for i in 0..n {
            x[i] = (x[i] - (0..i).map(|k| l[i][k] * x[k]).sum::<f64>()) / l[i][i];
        }
        for i in (0..n).rev() {
            x[i] = (x[i] - (i + 1..n).map(|k| l[k][i] * x[k]).sum::<f64>()) / l[i][i];
        }
        x
    });
    (2.0 * (0..n).map(|i| l[i][i].ln()).sum::<f64>(), solved.collect())
}

/// The posterior, again a mixture, of weights that add up to 1.
fn conditioned(parts: &[Part], p: &Problem) -> Vec<Part> {
    let (n, m) = (parts[0].1.len(), p.y.len());
    let column = |j: usize| {
        let (mut e, mut a) = (vec![0.0; n], vec![0.0; m]);
        e[j] = 1.0;
        p.op.apply(&e, &mut a, &mut vec![0.0; p.op.scratch_len()]).unwrap();
        a.iter().map(|&a| f64::from(a)).collect::<Vec<_>>()
    };
    let a: Matrix = (0..n).map(column).collect();
    let mut out: Vec<Part> = Vec::new();
    for Part(weight, mean, c) in parts {
        // Rows of A C, and A C A^T + s^2.
        let ac: Matrix = (0..m).map(|i| (0..n).map(|j| (0..n).map(|k| a[k][i] * c[k][j]).sum()).collect()).collect();
        let s: Matrix = (0..m)
            .map(|i| {
                (0..m)
                    .map(|j| (0..n).map(|k| ac[i][k] * a[k][j]).sum::<f64>() + if i == j { p.s * p.s } else { 0.0 })
                    .collect()
            })
            .collect();
        let r: Vec<f64> = (0..m).map(|i| f64::from(p.y[i]) - (0..n).map(|k| a[k][i] * mean[k]).sum::<f64>()).collect();
        let columns: Vec<Vec<f64>> =
            std::iter::once(r.clone()).chain((0..n).map(|j| ac.iter().map(|row| row[j]).collect())).collect();
        let (log_det, x) = solve(&s, &columns);
        let log_w = weight.ln() - 0.5 * (log_det + r.iter().zip(&x[0]).map(|(a, b)| a * b).sum::<f64>());
        let mean = (0..n).map(|j| mean[j] + (0..m).map(|i| ac[i][j] * x[0][i]).sum::<f64>()).collect();
        let cov = (0..n)
            .map(|i| (0..n).map(|j| c[i][j] - (0..m).map(|k| ac[k][i] * x[1 + j][k]).sum::<f64>()).collect())
            .collect();
        out.push(Part(log_w, mean, cov));
    }
    let most = out.iter().fold(f64::NEG_INFINITY, |m, p| m.max(p.0));
    let total: f64 = out.iter().map(|p| (p.0 - most).exp()).sum();
    out.iter_mut().for_each(|p| p.0 = (p.0 - most).exp() / total);
    out
}

fn moments(parts: &[Part]) -> (Vec<f64>, Matrix) {
    let n = parts[0].1.len();
    let mean: Vec<f64> = (0..n).map(|i| parts.iter().map(|p| p.0 * p.1[i]).sum()).collect();
    let entry = |i: usize, j: usize| {
        parts.iter().map(|p| p.0 * (p.2[i][j] + (p.1[i] - mean[i]) * (p.1[j] - mean[j]))).sum::<f64>()
    };
    let cov = (0..n).map(|i| (0..n).map(|j| entry(i, j)).collect()).collect();
    (mean, cov)
}

/// In %: the error of the mean over the root of the trace, the covariance's relative to its norm, the largest error of
/// a mode's weight; and of each the root mean square that so many independent draws are off by.
struct Errors {
    got: [f64; 3],
    draws: [f64; 3],
}

fn errors(x: &[f32], posterior: &[Part]) -> Errors {
    let n = posterior[0].1.len();
    let rows: Vec<Vec<f64>> = x.chunks_exact(n).map(|r| r.iter().map(|&v| f64::from(v)).collect()).collect();
    let count = rows.len() as f64;
    let (want, cov) = moments(posterior);
    let mean: Vec<f64> = (0..n).map(|i| rows.iter().map(|r| r[i]).sum::<f64>() / count).collect();
    let off: f64 = mean.iter().zip(&want).map(|(a, b)| (a - b).powi(2)).sum();
    let trace: f64 = (0..n).map(|i| cov[i][i]).sum();
    let (mut square, mut norm, mut of_draws) = (0.0, 0.0, 0.0);
    for i in 0..n {
        for j in 0..n {
            let products: Vec<f64> = rows.iter().map(|r| (r[i] - mean[i]) * (r[j] - mean[j])).collect();
            let got = products.iter().sum::<f64>() / count;
            square += (got - cov[i][j]).powi(2);
            norm += cov[i][j].powi(2);
            of_draws += products.iter().map(|p| (p - got).powi(2)).sum::<f64>() / count / count;
        }
    }
    // Responsibilities.
    let inverses: Vec<(f64, Matrix)> = posterior
        .iter()
        .map(|p| {
            solve(&p.2, &(0..n).map(|i| (0..n).map(|j| f64::from(u8::from(i == j))).collect()).collect::<Vec<_>>())
        })
        .collect();
    let mut weights = vec![0.0; posterior.len()];
    for r in &rows {
        let logs: Vec<f64> = posterior
            .iter()
            .zip(&inverses)
            .map(|(p, (log_det, inverse))| {
                let d: Vec<f64> = r.iter().zip(&p.1).map(|(x, m)| x - m).collect();
                let square: f64 = (0..n).map(|i| d[i] * (0..n).map(|j| inverse[j][i] * d[j]).sum::<f64>()).sum();
                p.0.ln() - 0.5 * (square + log_det)
            })
            .collect();
        let most = logs.iter().fold(f64::NEG_INFINITY, |m: f64, &l| m.max(l));
        let total: f64 = logs.iter().map(|l| (l - most).exp()).sum();
        weights.iter_mut().zip(logs).for_each(|(w, l)| *w += (l - most).exp() / total / count);
    }
    let weight = weights.iter().zip(posterior).map(|(w, p)| (w - p.0).abs()).fold(0.0, f64::max);
    let of_weight = posterior.iter().map(|p| (p.0 * (1.0 - p.0) / count).sqrt()).fold(0.0, f64::max);
    Errors {
        got: [(off / trace).sqrt(), (square / norm).sqrt(), weight].map(|e| 100.0 * e),
        draws: [(1.0 / count).sqrt(), (of_draws / norm).sqrt(), of_weight].map(|e| 100.0 * e),
    }
}

fn prior(parts: &[Part]) -> GaussianMixture {
    let part = |p: &Part| Component { weight: p.0, mean: p.1.clone(), covariance: Covariance::Full(p.2.concat()) };
    let dims = Dims::new(&[parts[0].1.len()]).unwrap();
    GaussianMixture::new(dims, &parts.iter().map(part).collect::<Vec<_>>(), PredictionType::Epsilon).unwrap()
}

fn config() -> SchedulerConfig {
    SchedulerConfig { clip_sample: false, ..SchedulerConfig::new(SamplerKind::Ddpm) }
}

/// Runs a problem with `count` samples; prints a row; gives the errors and the chain's calls.
fn run(parts: &[Part], p: &Problem, count: usize, steps: usize, options: &SplitGibbsOptions) -> (Errors, usize) {
    let seen = Measurement::new(&*p.op, &p.y, p.s).unwrap();
    let evidence = SplitGibbs::new(seen, options).unwrap();
    let run = SamplerOptions { steps: Steps::Count(steps), ..Default::default() };
    let sampler = config().split_gibbs(&run, &evidence.ladder()).unwrap();
    let calls = sampler.levels().len();
    let batch = ChainOptions { batch: count, first_sample: 0 };
    let mut chain = Chain::with_evidence(prior(parts), sampler, Seeded::new(17), evidence, &batch).unwrap();
    chain.run().unwrap();
    let e = errors(chain.x(), &conditioned(parts, p));
    let [mean, cov, weight] = e.got;
    let effective = chain.evidence().effective().unwrap_or(1.0);
    println!(
        "| {} | {} | {steps} levels, groups of {}, {} products | {calls} | {mean:.1} | {cov:.1} | {weight:.1} | {effective:.2} |",
        parts[0].1.len(),
        p.name,
        options.ensemble,
        options.products
    );
    (e, calls)
}

/// 5 % for mean and covariance and 2 points for weights, on top of three times what so few independent draws are off
/// by.
#[test]
fn mixtures_are_within_five_per_cent_and_two_points() {
    for parts in [plane(), eight()] {
        for p in problems(&parts) {
            let (e, calls) = run(&parts, &p, 1920, 60, &SplitGibbsOptions::default());
            for (i, least) in [5.0, 5.0, 2.0].into_iter().enumerate() {
                let bound = least + 3.0 * e.draws[i];
                assert!(e.got[i] < bound, "{}, {calls} calls: {:?} expected below {bound}", p.name, e.got);
            }
        }
    }
}

/// Without the weighing the modes have the weights that the ladder happened to leave them: what groups are for.
#[test]
fn groups_of_one_have_the_wrong_weights() {
    let parts = eight();
    let p = &problems(&parts)[1];
    let options = SplitGibbsOptions { ensemble: 1, ..Default::default() };
    let (e, _) = run(&parts, p, 960, 20, &options);
    assert!(e.got[2] > 5.0, "{:?}", e.got);
}

/// A walk of which a third is seen, but for a hole: what y says nothing of moves by the noise of a return, and would
/// be lost by and by to weights that hold nothing about it. Of independent draws a group's mean is off by the
/// posterior's trace over K; with weights of the x_0 that were drawn, as this method had, it was off by 5.3 times that.
#[test]
fn what_y_does_not_see_is_not_lost_to_weights() {
    const N: usize = 24;
    let (groups, k) = (24, 32);
    let walk = (0..N).map(|i| (0..N).map(|j| 0.05 * (1 + i.min(j)) as f64).collect()).collect();
    let parts = [Part(1.0, vec![0.0; N], walk)];
    let dims = Dims::new(&[N]).unwrap();
    let known: Vec<bool> = (0..N).map(|i| i % 3 == 0 && !(8..17).contains(&i)).collect();
    let y: Vec<f32> = known.iter().enumerate().filter(|(_, k)| **k).map(|(i, _)| 0.05 * i as f32).collect();
    let p = Problem { name: "a hole", op: Box::new(Mask::new(dims, &known).unwrap()), y, s: 0.03 };
    let (mean, cov) = moments(&conditioned(&parts, &p));
    let trace: f64 = (0..N).map(|i| cov[i][i]).sum();

    let options = SplitGibbsOptions { ensemble: k, ..Default::default() };
    let evidence = SplitGibbs::new(Measurement::new(&*p.op, &p.y, p.s).unwrap(), &options).unwrap();
    let sampler = evidence.recommended().sampler(&config()).unwrap();
    let batch = ChainOptions { batch: groups * k, first_sample: 0 };
    let mut chain = Chain::with_evidence(prior(&parts), sampler, Seeded::new(8), evidence, &batch).unwrap();
    chain.run().unwrap();

    let (mut off, mut within) = (0.0, 0.0);
    for group in chain.x().chunks_exact(N * k) {
        for (i, mean) in mean.iter().enumerate().take(N) {
            let values: Vec<f64> = group.iter().skip(i).step_by(N).map(|&x| f64::from(x)).collect();
            let m = values.iter().sum::<f64>() / k as f64;
            off += (m - mean).powi(2) * k as f64 / trace / groups as f64;
            within += values.iter().map(|v| (v - m).powi(2)).sum::<f64>() / (k - 1) as f64 / trace / groups as f64;
        }
    }
    let effective = chain.evidence().effective().unwrap();
    println!(
        "a group's mean is off by {off:.2} of trace / K, its variance is {within:.2} of the posterior's, {effective:.2}"
    );
    assert!((0.5..2.5).contains(&off), "{off}");
    assert!((within - 1.0).abs() < 0.15, "{within}");
}

/// What a run gives that is saved and goes on in another chain after so many steps.
fn sampled_with_a_stop(batch: usize, first_sample: u64, count: usize, stop: Option<usize>) -> Vec<f32> {
    let parts = plane();
    let p = problems(&parts).remove(1);
    let options = SplitGibbsOptions { ensemble: 4, ..Default::default() };
    let batch = ChainOptions { batch, first_sample };
    let chain = || {
        let evidence = SplitGibbs::new(Measurement::new(&*p.op, &p.y, p.s).unwrap(), &options).unwrap();
        let sampler = evidence.recommended().sampler(&config()).unwrap();
        let mut chain = Chain::with_evidence(prior(&parts), sampler, Seeded::new(5), evidence, &batch).unwrap();
        chain.restart(first_sample, count).unwrap();
        chain
    };
    let mut first = chain();
    if let Some(stop) = stop {
        for _ in 0..stop {
            first.step().unwrap();
        }
        let saved = first.save().unwrap();
        first = chain();
        first.restore(&saved).unwrap();
    }
    first.run().unwrap();
    first.x().to_vec()
}

fn sampled(batch: usize, first_sample: u64, count: usize) -> Vec<f32> {
    sampled_with_a_stop(batch, first_sample, count, None)
}

#[test]
fn a_run_that_was_saved_anywhere_ends_in_the_same_bits() {
    let whole = sampled(8, 0, 8);
    for stop in [1, 2, 3, 5, 8, 13, 21, 34] {
        assert!(sampled_with_a_stop(8, 0, 8, Some(stop)) == whole, "after {stop} steps");
    }
}

#[test]
fn a_group_is_the_same_in_every_batch() {
    let whole = sampled(12, 0, 12);
    assert_eq!(whole[..8], sampled(4, 0, 4)[..]);
    assert_eq!(whole[8..], sampled(8, 4, 8)[..]);
    assert_eq!(whole[16..], sampled(12, 8, 4)[..]);
}

/// Each sample's own measurement is that of its group's first.
#[test]
fn groups_have_measurements_of_their_own() {
    let dims = Dims::new(&[1]).unwrap();
    let part = Component { weight: 1.0, mean: vec![0.0], covariance: Covariance::Diagonal(vec![0.25]) };
    let y: Vec<f32> = (0..64).map(|i| if i < 32 { 1.0 } else { -1.0 }).collect();
    let seen = Measurement::each(Identity::new(dims).unwrap(), &y, 0, 0.1).unwrap();
    let evidence = SplitGibbs::new(seen, &SplitGibbsOptions { ensemble: 32, ..Default::default() }).unwrap();
    let sampler = evidence.recommended().sampler(&config()).unwrap();
    let prior = GaussianMixture::new(dims, &[part], PredictionType::Epsilon).unwrap();
    let options = ChainOptions { batch: 64, first_sample: 0 };
    let mut chain = Chain::with_evidence(prior, sampler, Seeded::new(2), evidence, &options).unwrap();
    chain.run().unwrap();
    let mean = |x: &[f32]| x.iter().sum::<f32>() / 32.0;
    // 0.25 / (0.25 + 0.01), with a deviation of 0.098 / sqrt(32).
    assert!((mean(&chain.x()[..32]) - 0.96).abs() < 0.07 && (mean(&chain.x()[32..]) + 0.96).abs() < 0.07);
}

#[test]
fn misfits_are_refused_by_what_would_fit() {
    let parts = plane();
    let p = problems(&parts).remove(0);
    let make = |options: &SplitGibbsOptions| SplitGibbs::new(Measurement::new(&*p.op, &p.y, p.s).unwrap(), options);
    let usual = SplitGibbsOptions::default();
    for options in [
        SplitGibbsOptions { ensemble: 0, ..usual },
        SplitGibbsOptions { products: 0, ..usual },
        SplitGibbsOptions { products: 17, ..usual },
        SplitGibbsOptions { largest: 0.0, ..usual },
        SplitGibbsOptions { ratio: Some(1.0), ..usual },
        SplitGibbsOptions { last: 0, ..usual },
    ] {
        assert_eq!(make(&options).err().unwrap().kind(), ErrorKind::InvalidArgument, "{options:?}");
    }
    let exact = SplitGibbs::new(Measurement::exact(&*p.op, &p.y).unwrap(), &usual);
    assert!(exact.err().unwrap().message().contains("sigma above 0"));

    let chain = |sampler: &dyn Sampler, batch: usize| {
        let options = ChainOptions { batch, first_sample: 0 };
        Chain::with_evidence(prior(&parts), sampler, Seeded::new(1), make(&usual).unwrap(), &options).map(|_| ())
    };
    let ddpm = config().sampler(&SamplerOptions { steps: Steps::Count(20), ..Default::default() }).unwrap();
    let e = chain(&*ddpm, 64).unwrap_err();
    assert!(e.kind() == ErrorKind::Unsupported && e.message().contains("take the sampler that it recommends"), "{e}");
    // A ladder for a measurement with more noise.
    let steps = SamplerOptions { steps: Steps::Count(20), ..Default::default() };
    let short = config().split_gibbs(&steps, &Ladder::to(0.6)).unwrap();
    assert_eq!(chain(&short, 64).unwrap_err().kind(), ErrorKind::Unsupported);
    let right = make(&usual).unwrap().recommended().sampler(&config()).unwrap();
    assert!(chain(&*right, 65).unwrap_err().message().contains("whole groups of 64"));
    let evidence = make(&usual).unwrap();
    let options = ChainOptions { batch: 64, first_sample: 0 };
    let mut chain = Chain::with_evidence(prior(&parts), right, Seeded::new(1), evidence, &options).unwrap();
    chain.restart(3, 64).unwrap();
    assert!(chain.run().unwrap_err().message().contains("64 samples from number 3 on"));
}

#[test]
#[ignore = "takes minutes; its table is in the docs of SplitGibbs"]
fn mixtures_by_19200_samples() {
    println!("| n | measurement | | calls | mean, % | covariance, % | weights, points | effective |");
    for parts in [plane(), eight()] {
        for p in problems(&parts) {
            for (steps, ensemble, products) in
                [(30, 64, 2), (45, 64, 2), (60, 64, 2), (120, 64, 2), (60, 1920, 2), (60, 16, 2)]
            {
                let options = SplitGibbsOptions { ensemble, products, ..Default::default() };
                run(&parts, &p, 19_200, steps, &options);
            }
        }
    }
}
