//! What each method of `posterior` samples, against posteriors known in closed form: 20,000 samples of each.
//!
//! Priors: correlated Gaussians of 2 and 8 elements and a mixture of three Gaussians in the plane, with their exact
//! denoisers. Per row: the error of the mean over the root of the posterior's trace; the Frobenius error of the
//! covariance, relative; and the root of the energy distance from exact draws over their own mean distance (of 2,000 of
//! each). All in %. The row "exact draws" is what sampling alone is off by. The last lines are the reference's
//! one-dimensional table of the methods of 2015.
//!
//!     cargo run --release --example posterior_table [2d|8d|mixture|2015] [denoising|inpainting|dense]
//!
//! Without arguments it takes a good hour of processor time, most of it for 8 elements.

use std::sync::atomic::{AtomicUsize, Ordering};

use undiffuse::Result;
use undiffuse::chain::{Chain, ChainOptions, ParticleOptions, Particles};
use undiffuse::denoiser::{Component, Covariance, GaussianMixture};
use undiffuse::noise::{Seeded, Stream};
use undiffuse::posterior::operator::{Dense, Identity, LinearOperator, Mask};
use undiffuse::posterior::{
    Calibrated, CalibratedWhite, Clamp, Ddnm, Ddrm, DiffPir, Dps, Evidence, ExactProduct, Known, KnownPixels, Mcg,
    MeanShift, Measurement, Misfit, NoEvidence, Pigdm, PigdmRule, RSchedule, Tmpd,
};
use undiffuse::process::PredictionType;
use undiffuse::sampler::{
    Ancestral2015, DdimNoise, Ending2015, Readout2015, Sampler, SamplerKind, SamplerOptions, SchedulerConfig, Steps,
    VarianceType,
};
use undiffuse::schedule::{Arithmetic, Betas, NoiseSchedule};
use undiffuse::tensor::Dims;

const SAMPLES: usize = 20_000;

/// A Gaussian: weight, mean, covariance.
type Part = (f64, Vec<f64>, Vec<Vec<f64>>);

/// What a method takes and how it is made of it.
type Seen = Measurement<&'static (dyn LinearOperator + Sync)>;
type Make = fn(Seen) -> Result<Box<dyn Evidence>>;

struct Problem {
    name: &'static str,
    op: Box<dyn LinearOperator + Sync>,
    y: Vec<f32>,
    /// The noise; 0 for none.
    s: f64,
}

/// Name, whether for measurements without noise, sampler (steps, eta, rule of DDIM's noise), evidence.
struct Method {
    name: &'static str,
    exact: bool,
    steps: usize,
    ddim: Option<(f64, DdimNoise)>,
    make: Make,
}

const fn ddpm(name: &'static str, steps: usize, make: Make) -> Method {
    Method { name, exact: false, steps, ddim: None, make }
}

/// RePaint takes a mask by its type.
fn repaint(m: Seen) -> Result<Box<dyn Evidence>> {
    let dims = m.operator().input_dims();
    let mask = Mask::new(dims, &(0..dims.elements()).map(|i| i % 2 == 0).collect::<Vec<_>>())?;
    Ok(Box::new(KnownPixels::new(Measurement::exact(mask, m.values(0)?)?)?))
}

static METHODS: &[Method] = &[
    ddpm("none (the prior), DDPM 1000", 1000, |_| Ok(Box::new(NoEvidence))),
    ddpm("calibrated, DDPM 1000", 1000, |m| Ok(Box::new(Calibrated::new(m, 4)?))),
    Method {
        ddim: Some((0.0, DdimNoise::Posterior)),
        ..ddpm("calibrated, DDIM 1000", 1000, |m| Ok(Box::new(Calibrated::new(m, 4)?)))
    },
    ddpm("calibrated, white prior, DDPM 1000", 1000, |m| Ok(Box::new(CalibratedWhite::new(m, 1.0)?))),
    ddpm("2015 exact product, constant, DDPM 1000", 1000, |m| Ok(Box::new(ExactProduct::new(m, RSchedule::Constant)?))),
    ddpm("2015 exact product, ramp, DDPM 1000", 1000, |m| Ok(Box::new(ExactProduct::new(m, RSchedule::Ramp)?))),
    ddpm("2015 mean shift, constant, DDPM 1000", 1000, |m| Ok(Box::new(MeanShift::new(m, RSchedule::Constant)))),
    ddpm("PiGDM, score, DDPM 1000", 1000, |m| Ok(Box::new(Pigdm::new(m, PigdmRule::Score)?))),
    Method {
        ddim: Some((1.0, DdimNoise::Posterior)),
        ..ddpm("PiGDM, published, DDIM 100", 100, |m| Ok(Box::new(Pigdm::new(m, PigdmRule::Published)?)))
    },
    ddpm("TMPD, DDPM 1000", 1000, |m| Ok(Box::new(Tmpd::new(m)?))),
    ddpm("DPS, zeta 0.3, DDPM 1000", 1000, |m| Ok(Box::new(Dps::new(m, 0.3, Misfit::Gaussian)?))),
    ddpm("DPS, zeta 0.03, DDPM 1000", 1000, |m| Ok(Box::new(Dps::new(m, 0.03, Misfit::Gaussian)?))),
    Method {
        ddim: Some((0.85, DdimNoise::Level)),
        ..ddpm("DDRM, eta 0.85, DDIM 20", 20, |m| Ok(Box::new(Ddrm::new(m, 1.0)?)))
    },
    ddpm("DDNM+, DDPM 1000", 1000, |m| Ok(Box::new(Ddrm::ddnm_plus(m)?))),
    Method {
        ddim: Some((1.0, DdimNoise::Level)),
        ..ddpm("DiffPIR, zeta 1, DDIM 100", 100, |m| Ok(Box::new(DiffPir::new(m, 1.0)?)))
    },
    Method { exact: true, ..ddpm("2015 clamp, DDPM 1000", 1000, |m| Ok(Box::new(Clamp::new(m, Known::Clean)?))) },
    Method {
        exact: true,
        ..ddpm("2015 clamp, noised, DDPM 1000", 1000, |m| Ok(Box::new(Clamp::new(m, Known::Renoised)?)))
    },
    Method {
        exact: true,
        ddim: Some((0.85, DdimNoise::Level)),
        ..ddpm("DDNM, DDIM 100", 100, |m| Ok(Box::new(Ddnm::new(m)?)))
    },
    Method { exact: true, ..ddpm("RePaint without jumps, DDPM 250", 250, repaint) },
    Method { exact: true, ..ddpm("MCG, zeta 0.03, DDPM 1000", 1000, |m| Ok(Box::new(Mcg::new(m, 0.03)?))) },
];

fn sampler(steps: usize, ddim: Option<(f64, DdimNoise)>) -> Result<Box<dyn Sampler + Send + Sync>> {
    let kind = if ddim.is_some() { SamplerKind::Ddim } else { SamplerKind::Ddpm };
    let (eta, ddim_noise) = ddim.unwrap_or((0.0, DdimNoise::Posterior));
    let config =
        SchedulerConfig { clip_sample: false, variance_type: VarianceType::FixedSmall, ..SchedulerConfig::new(kind) };
    let (steps, arithmetic) = (Steps::Count(steps), Arithmetic::Float64);
    config.sampler(&SamplerOptions { steps, eta, ddim_noise, arithmetic, ..Default::default() })
}

fn gaussian(n: usize) -> Vec<Part> {
    if n == 2 {
        return vec![(1.0, vec![0.3, -0.2], vec![vec![0.9, 0.6], vec![0.6, 0.7]])];
    }
    let cov = |i: usize, j: usize| 0.6 * (-(i as f64 - j as f64).abs() / 2.5).exp() + if i == j { 0.05 } else { 0.0 };
    let mean = (0..n).map(|i| 0.4 * (i as f64).sin()).collect();
    vec![(1.0, mean, (0..n).map(|i| (0..n).map(|j| cov(i, j)).collect()).collect())]
}

fn mixture() -> Vec<Part> {
    vec![
        (0.5, vec![0.9, 0.3], vec![vec![0.10, 0.04], vec![0.04, 0.08]]),
        (0.3, vec![-0.8, 0.7], vec![vec![0.12, -0.05], vec![-0.05, 0.06]]),
        (0.2, vec![0.0, -1.0], vec![vec![0.05, 0.0], vec![0.0, 0.15]]),
    ]
}

fn denoiser(parts: &[Part]) -> Result<GaussianMixture> {
    let one = |(weight, mean, cov): &Part| Component {
        weight: *weight,
        mean: mean.clone(),
        covariance: Covariance::Full(cov.concat()),
    };
    let dims = Dims::new(&[1, 1, parts[0].1.len()])?;
    GaussianMixture::new(dims, &parts.iter().map(one).collect::<Vec<_>>(), PredictionType::Epsilon)
}

fn problems(n: usize) -> Result<Vec<Problem>> {
    let dims = Dims::new(&[1, 1, n])?;
    let mask = || Mask::new(dims, &(0..n).map(|i| i % 2 == 0).collect::<Vec<_>>());
    let m = if n == 2 { 1 } else { n / 2 + 1 };
    let entries: Vec<f32> =
        (0..m * n).map(|i| ((i * i + 3 * i) as f32 * 0.7).sin() + if n == 2 { 0.7 } else { 0.0 }).collect();
    let y = |m: usize| (0..m).map(|i| 0.8 - 0.5 * i as f32 / m as f32).collect::<Vec<f32>>();
    let dense = Dense::new(dims, Dims::new(&[m])?, &entries)?;
    Ok(vec![
        Problem { name: "denoising, s 0.5", op: Box::new(Identity::new(dims)?), y: y(n), s: 0.5 },
        Problem { name: "inpainting, s 0.1", op: Box::new(mask()?), y: y(n.div_ceil(2)), s: 0.1 },
        Problem { name: "dense A, s 0.3", op: Box::new(dense), y: y(m), s: 0.3 },
        Problem { name: "inpainting, no noise", op: Box::new(mask()?), y: y(n.div_ceil(2)), s: 0.0 },
    ])
}

/// The posterior's parts: each Gaussian conditioned on one value of y after the other.
fn condition(parts: &[Part], p: &Problem) -> Result<Vec<Part>> {
    let n = p.op.input_dims().elements();
    let mut scratch = vec![0.0; p.op.scratch_len()];
    let mut out = parts.to_vec();
    for (k, &y) in p.y.iter().enumerate() {
        let (mut unit, mut row) = (vec![0.0; p.y.len()], vec![0.0; n]);
        unit[k] = 1.0;
        p.op.adjoint(&unit, &mut row, &mut scratch)?;
        let a: Vec<f64> = row.iter().map(|&v| f64::from(v)).collect();
        for (weight, mean, cov) in &mut out {
            let sa: Vec<f64> = cov.iter().map(|c| dot(c, &a)).collect();
            let v = dot(&a, &sa) + p.s * p.s;
            let r = f64::from(y) - dot(&a, mean);
            *weight *= (-r * r / (2.0 * v)).exp() / v.sqrt();
            mean.iter_mut().zip(&sa).for_each(|(m, g)| *m += g * r / v);
            for (row, g) in cov.iter_mut().zip(&sa) {
                row.iter_mut().zip(&sa).for_each(|(c, h)| *c -= g * h / v);
            }
        }
    }
    let total: f64 = out.iter().map(|p| p.0).sum();
    out.iter_mut().for_each(|p| p.0 /= total);
    Ok(out)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn moments(parts: &[Part]) -> (Vec<f64>, Vec<Vec<f64>>) {
    let n = parts[0].1.len();
    let mean: Vec<f64> = (0..n).map(|i| parts.iter().map(|(w, m, _)| w * m[i]).sum()).collect();
    let cov =
        |i: usize, j: usize| parts.iter().map(|(w, m, c)| w * (c[i][j] + m[i] * m[j])).sum::<f64>() - mean[i] * mean[j];
    let cov = (0..n).map(|i| (0..n).map(|j| cov(i, j)).collect()).collect();
    (mean, cov)
}

/// Draws from the parts, by Cholesky.
fn exact_draws(parts: &[Part], seed: u64) -> Vec<f32> {
    let n = parts[0].1.len();
    let factor = |c: &Vec<Vec<f64>>| {
        let mut l = vec![vec![0.0f64; n]; n];
        for i in 0..n {
            for j in 0..=i {
                let rest = c[i][j] - (0..j).map(|k| l[i][k] * l[j][k]).sum::<f64>();
                l[i][j] = if i == j {
                    rest.max(0.0).sqrt()
                } else if l[j][j] > 1e-9 {
                    rest / l[j][j]
                } else {
                    0.0
                };
            }
        }
        l
    };
    let factors: Vec<_> = parts.iter().map(|p| factor(&p.2)).collect();
    let mut out = Vec::new();
    for i in 0..SAMPLES as u64 {
        let mut stream = Stream::new(seed, i, 0);
        let mut u = stream.uniform();
        let k = parts
            .iter()
            .position(|p| {
                u -= p.0;
                u < 0.0
            })
            .unwrap_or(0);
        let z: Vec<f64> = (0..n).map(|_| stream.normal()).collect();
        out.extend((0..n).map(|j| (parts[k].1[j] + dot(&factors[k][j], &z)) as f32));
    }
    out
}

/// The three errors in %.
fn errors(x: &[f32], parts: &[Part], draws: &[f32]) -> [f64; 3] {
    let n = parts[0].1.len();
    let (mean, cov) = moments(parts);
    let count = (x.len() / n) as f64;
    let rows = || x.chunks_exact(n).map(|r| r.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>());
    let mut got = vec![0.0; n];
    rows().for_each(|r| got.iter_mut().zip(r).for_each(|(g, v)| *g += v / count));
    let mut second = vec![vec![0.0; n]; n];
    for r in rows() {
        let d: Vec<f64> = r.iter().zip(&got).map(|(v, g)| v - g).collect();
        for (row, a) in second.iter_mut().zip(&d) {
            row.iter_mut().zip(&d).for_each(|(s, b)| *s += a * b / count);
        }
    }
    let off: Vec<f64> = got.iter().zip(&mean).map(|(g, m)| g - m).collect();
    let trace: f64 = (0..n).map(|i| cov[i][i]).sum();
    let (g, w) = (second.concat(), cov.concat());
    let e: Vec<f64> = g.iter().zip(&w).map(|(g, w)| g - w).collect();
    // The mean distance between two sets of points.
    let few = 2000 * n;
    let between = |a: &[f32], b: &[f32]| {
        let mut sum = 0.0;
        for a in a.chunks_exact(n) {
            for b in b.chunks_exact(n) {
                sum += f64::from(a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f32>()).sqrt();
            }
        }
        sum / ((a.len() / n) * (b.len() / n)) as f64
    };
    // Both sets with themselves, so that what is peculiar to a set drops out; a point with itself does not count.
    let (a, b) = (&x[..few], &draws[..few]);
    let apart = (few / n) as f64 / (few / n - 1) as f64;
    let own = apart * between(b, b);
    let energy = 2.0 * between(a, b) - apart * between(a, a) - own;
    [
        100.0 * (dot(&off, &off) / trace).sqrt(),
        100.0 * (dot(&e, &e) / dot(&w, &w)).sqrt(),
        100.0 * (energy.max(0.0) / own).sqrt(),
    ]
}

fn measurement(p: &'static Problem) -> Result<Seen> {
    if p.s > 0.0 { Measurement::new(&*p.op, &p.y, p.s) } else { Measurement::exact(&*p.op, &p.y) }
}

fn run(parts: &[Part], p: &'static Problem, method: &Method) -> Result<Vec<f32>> {
    let options = ChainOptions { batch: SAMPLES, first_sample: 0 };
    let evidence = (method.make)(measurement(p)?)?;
    let sampler = sampler(method.steps, method.ddim)?;
    let mut chain = Chain::with_evidence(denoiser(parts)?, sampler, Seeded::new(11), evidence, &options)?;
    chain.run()?;
    Ok(chain.x().to_vec())
}

/// 20,000 particles once, drawn from by weight.
fn particles(parts: &[Part], p: &'static Problem) -> Result<Vec<f32>> {
    let options = ParticleOptions { count: SAMPLES, ..Default::default() };
    let mut particles =
        Particles::new(denoiser(parts)?, sampler(1000, None)?, Seeded::new(12), measurement(p)?, &options)?;
    particles.run(0)?;
    let n = parts[0].1.len();
    let weights: Vec<f64> = particles.weights().collect();
    let (mut of, mut reached, mut out) = (0, weights[0], Vec::new());
    for k in 0..SAMPLES {
        while reached < (k as f64 + 0.5) / SAMPLES as f64 && of + 1 < SAMPLES {
            of += 1;
            reached += weights[of];
        }
        out.extend_from_slice(&particles.x()[of * n..(of + 1) * n]);
    }
    // In an order that has nothing to do with the weights.
    let mut mixed: Vec<f32> = Vec::new();
    (0..SAMPLES).for_each(|k| mixed.extend_from_slice(&out[k * 7919 % SAMPLES * n..][..n]));
    Ok(mixed)
}

fn table(name: &str, parts: &[Part]) -> Result<()> {
    let n = parts[0].1.len();
    println!("\n{name}: mean / covariance / energy, in %\n");
    println!("| problem | method | mean | covariance | energy |\n|---|---|---|---|---|");
    let only = std::env::args().nth(2).unwrap_or_default();
    for p in problems(n)?.into_iter().filter(|p| p.name.starts_with(&only)) {
        // They live as long as the program, so that threads may share them.
        let p: &'static Problem = Box::leak(Box::new(p));
        let posterior = condition(parts, p)?;
        let draws = exact_draws(&posterior, 1);
        let rows: Vec<&Method> =
            METHODS.iter().filter(|m| m.exact == (p.s == 0.0) || m.name.starts_with("none")).collect();
        let others = 2;
        let next = AtomicUsize::new(0);
        let mut lines: Vec<(usize, String)> = std::thread::scope(|scope| {
            let work = || {
                let mut lines = Vec::new();
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    let (name, x) = match i.checked_sub(others) {
                        None if i == 0 => ("exact draws", Ok(exact_draws(&posterior, 2))),
                        None if p.s > 0.0 => ("20,000 particles, DDPM 1000", particles(parts, p)),
                        None => continue,
                        Some(k) if k < rows.len() => (rows[k].name, run(parts, p, rows[k])),
                        Some(_) => return lines,
                    };
                    let row = match x {
                        Ok(x) => {
                            let [mean, cov, energy] = errors(&x, &posterior, &draws);
                            format!("| {} | {name} | {mean:.1} | {cov:.1} | {energy:.1} |", p.name)
                        }
                        Err(e) => format!("| {} | {name} | {:?} | | |", p.name, e.kind()),
                    };
                    lines.push((i, row));
                }
            };
            let threads: Vec<_> =
                (0..std::thread::available_parallelism().map_or(1, usize::from)).map(|_| scope.spawn(work)).collect();
            threads.into_iter().filter_map(|t| t.join().ok()).flatten().collect()
        });
        lines.sort();
        lines.iter().for_each(|(_, line)| println!("{line}"));
    }
    Ok(())
}

/// The reference's table: data N(0, 1), its exact reverse kernel, y = 1, s = 1, T = 1000; here by 20,000 samples.
fn table2015() -> Result<()> {
    println!("\nN(0, 1), y = 1, s = 1, the chain of 2015 with T = 1000: mean and variance\n");
    println!("| method | mean | variance | expected |\n|---|---|---|---|");
    let schedule = NoiseSchedule::new(&Betas::erasing_evenly(1000)?, Arithmetic::Float64)?;
    let chain = Ancestral2015::new(&schedule, Readout2015::Prediction(PredictionType::Epsilon), Ending2015::Original)?;
    let seen = || Measurement::new(Identity::new(Dims::new(&[1, 1, 1])?)?, &[1.0], 1.0);
    let methods: [(&str, Box<dyn Evidence>, &str); 6] = [
        ("constant r, closed form", Box::new(ExactProduct::new(seen()?, RSchedule::Constant)?), "0.667, 0.334"),
        ("constant r, Eq. 61", Box::new(MeanShift::new(seen()?, RSchedule::Constant)), "0.667, 0.334"),
        ("ramp, Eq. 61", Box::new(MeanShift::new(seen()?, RSchedule::Ramp)), "0.462, 0.433"),
        ("calibrated, white", Box::new(CalibratedWhite::new(seen()?, 1.0)?), "0.499, 0.501"),
        ("calibrated", Box::new(Calibrated::new(seen()?, 2)?), "0.5, 0.5"),
        ("none", Box::new(NoEvidence), "0, 1"),
    ];
    let prior = vec![(1.0, vec![0.0], vec![vec![1.0]])];
    for (name, evidence, expected) in methods {
        let options = ChainOptions { batch: SAMPLES, first_sample: 0 };
        let mut run = Chain::with_evidence(denoiser(&prior)?, &chain, Seeded::new(13), evidence, &options)?;
        run.run()?;
        let n = SAMPLES as f64;
        let mean = run.x().iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let variance = run.x().iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
        println!("| {name} | {mean:.3} | {variance:.3} | {expected} |");
    }
    Ok(())
}

fn main() -> Result<()> {
    let only = std::env::args().nth(1);
    let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
    if wanted("2015") {
        table2015()?;
    }
    if wanted("2d") {
        table("A correlated Gaussian of 2 elements", &gaussian(2))?;
    }
    if wanted("8d") {
        table("A correlated Gaussian of 8 elements", &gaussian(8))?;
    }
    if wanted("mixture") {
        table("A mixture of three Gaussians in the plane", &mixture())?;
    }
    Ok(())
}
