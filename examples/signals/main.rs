//! The methods of `posterior` on signals whose posteriors are known: a benchmark after Zach, Haouchat and Unser (ICLR
//! 2026).
//!
//! Signals of 64 values with independent increments of six laws, seen in four ways with noise 25 dB below the median
//! power. The denoiser is the prior's own Gibbs sampler, so what is off is off by the method. Signals are measured in
//! the root of their median mean square, so that the chain's noise and the ladder of split Gibbs fit all laws.
//!
//! Per cell two figures. The gap in dB: 10 log10 of the mean squared error of a method's mean over the least there is,
//! the posterior's variance; what so few samples would be off by if they were right is taken off. And the coverage: how
//! much of the posterior lies in the set that a method takes for the 90 % of highest density, whose threshold is the
//! 10th percentile of the density at its own samples; 0.90 is right, and what right draws give in the mean, however
//! few. Both are taken over draws of the posterior given y in place of the one signal that y came from, the same in the
//! mean and less in doubt; +- is the standard error over signals.
//!
//!     cargo run --release --features cli --example signals -- [--signals N] [--samples K] [--law NAME]
//!         [--operator NAME] [--method NAME] [--ensemble K] [--last N] [--levels N]
//!         [--products N] [--sweeps N]
//!
//! The samples of split Gibbs are whole groups of `--ensemble`; `--last` is how often its last return is made,
//! `--levels` how many levels lie on a way down, `--products` how many products it spends on a step, `--sweeps` how
//! many of the Gibbs sampler make one answer of the denoiser.
//!
//! It prints the table of `README.md` beside it.

mod posterior;
mod prior;

use std::time::Instant;

use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::noise::{Seeded, Stream};
use undiffuse::posterior::operator::Dense;
use undiffuse::posterior::{
    Calibrated, Ddrm, DiffPir, Dps, Evidence, Measurement, Misfit, Pigdm, PigdmRule, Recommended, SplitGibbs,
    SplitGibbsOptions, Tmpd,
};
use undiffuse::process::PredictionType;
use undiffuse::sampler::{SamplerKind, SchedulerConfig};
use undiffuse::tensor::Dims;
use undiffuse::{Error, ErrorKind, Result};

use posterior::{Matrix, OPERATORS, Seen, apply, matrix};
use prior::{Gibbs, LENGTH, Law, Signal};

/// Sweeps of the denoiser before it counts.
const BURN_IN: usize = 6;
/// The posterior's: before it counts, draws, sweeps between them. Draws that are not independent would be a gap of all
/// methods.
const REFERENCE: (usize, usize, usize) = (1000, 600, 30);

type Seeing = Measurement<Dense>;
type Make = fn(Seeing, &Args) -> Result<Box<dyn Evidence>>;

/// The row of draws of the posterior itself, by its Gibbs sampler: what the figures of a method without fault are, and
/// how far they scatter.
const EXACT: &str = "exact draws";

/// What is said of split Gibbs, or its default.
fn split_gibbs(args: &Args) -> SplitGibbsOptions {
    let usual = SplitGibbsOptions::default();
    SplitGibbsOptions {
        ensemble: args.ensemble.unwrap_or(usual.ensemble),
        last: args.last.unwrap_or(usual.last),
        products: args.products.unwrap_or(usual.products),
        ..usual
    }
}

const METHODS: [(&str, Make); 8] = [
    ("split Gibbs", |m, args| Ok(Box::new(SplitGibbs::new(m, &split_gibbs(args))?))),
    ("calibrated", |m, _| Ok(Box::new(Calibrated::new(m, 4)?.with_variance_products(2)?))),
    ("TMPD", |m, _| Ok(Box::new(Tmpd::new(m)?))),
    ("PiGDM", |m, _| Ok(Box::new(Pigdm::new(m, PigdmRule::Published)?))),
    ("DDRM", |m, _| Ok(Box::new(Ddrm::new(m, 1.0)?))),
    ("DDNM+", |m, _| Ok(Box::new(Ddrm::ddnm_plus(m)?))),
    ("DiffPIR, zeta 1", |m, _| Ok(Box::new(DiffPir::new(m, 1.0)?))),
    ("DPS, zeta 0.3", |m, _| Ok(Box::new(Dps::new(m, 0.3, Misfit::Gaussian)?))),
];

#[derive(Clone, Copy, Default)]
struct Figures {
    gap: f64,
    coverage: f64,
}

/// For each method its calls and the figures of one signal, none where it diverged.
type Signals = Vec<(usize, Option<Figures>)>;

struct Args {
    signals: usize,
    samples: usize,
    law: Option<String>,
    operator: Option<String>,
    method: Option<String>,
    ensemble: Option<usize>,
    last: Option<usize>,
    levels: Option<usize>,
    products: Option<usize>,
    sweeps: usize,
}

fn args() -> Result<Args> {
    let mut args = Args {
        signals: 2,
        samples: 24,
        law: None,
        operator: None,
        method: None,
        ensemble: None,
        last: None,
        levels: None,
        products: None,
        sweeps: 16,
    };
    let wrong = |text: String| Error::new(ErrorKind::InvalidArgument, text);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| wrong(format!("{word} needs a value")))?;
        let number = || value.parse().map_err(|_| wrong(format!("{word} is {value:?}, expected a number")));
        match word.as_str() {
            "--signals" => args.signals = number()?,
            "--samples" => args.samples = number()?,
            "--law" => args.law = Some(value),
            "--operator" => args.operator = Some(value),
            "--method" => args.method = Some(value),
            "--ensemble" => args.ensemble = Some(number()?),
            "--last" => args.last = Some(number()?),
            "--levels" => args.levels = Some(number()?),
            "--products" => args.products = Some(number()?),
            "--sweeps" => args.sweeps = number()?,
            _ => return Err(wrong(format!("unknown option {word}"))),
        }
    }
    if args.signals < 1 || args.samples < 2 || args.sweeps < 1 || args.ensemble == Some(0) {
        return Err(wrong("expected at least 1 signal, 2 samples, 1 sweep and groups of 1".into()));
    }
    let methods = METHODS.iter().map(|(name, _)| *name).chain([EXACT]);
    let choices: [(&str, &Option<String>, Vec<&str>); 3] = [
        ("--law", &args.law, Law::ALL.iter().map(|(name, _)| *name).collect()),
        ("--operator", &args.operator, OPERATORS.to_vec()),
        ("--method", &args.method, methods.collect()),
    ];
    for (option, wanted, names) in choices {
        if !names.iter().any(|name| asked(wanted, name)) {
            let wanted = wanted.as_deref().unwrap_or("");
            return Err(wrong(format!("{option} is {wanted:?}, expected a part of one of {}", names.join("; "))));
        }
    }
    Ok(args)
}

fn asked(wanted: &Option<String>, name: &str) -> bool {
    wanted.as_ref().is_none_or(|w| name.contains(w.as_str()))
}

/// Those that were asked for.
fn methods(args: &Args) -> impl Iterator<Item = (&'static str, Option<Make>)> {
    let exact = [(EXACT, None)].into_iter().chain(METHODS.iter().map(|&(name, make)| (name, Some(make))));
    exact.filter(|(name, _)| asked(&args.method, name))
}

fn mean(signals: &[Signal]) -> Signal {
    std::array::from_fn(|i| signals.iter().map(|x| x[i]).sum::<f64>() / signals.len() as f64)
}

/// The sum over elements of the variance.
fn trace(signals: &[Signal], mean: &Signal) -> f64 {
    let total: f64 = signals.iter().map(|x| distance(x, mean)).sum();
    total / (signals.len() as f64 - 1.0)
}

fn distance(a: &Signal, b: &Signal) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum()
}

/// What a method makes of one measurement, of signals divided by `scale`.
fn sample(make: Make, law: Law, scale: f64, seen: &Seen<'_>, args: &Args, seed: u64) -> Result<(Vec<Signal>, usize)> {
    let a: Vec<f32> = seen.a.iter().flatten().map(|&a| a as f32).collect();
    let y: Vec<f32> = seen.y.iter().map(|&y| (y / scale) as f32).collect();
    let operator = Dense::new(Dims::new(&[LENGTH])?, Dims::new(&[y.len()])?, &a)?;
    let evidence = make(Measurement::new(operator, &y, seen.s / scale)?, args)?;
    let kind = PredictionType::Sample;
    let config =
        SchedulerConfig { clip_sample: false, prediction_type: kind, ..SchedulerConfig::new(SamplerKind::Ddpm) };
    let recommended = evidence.recommended();
    let sampler = Recommended { steps: args.levels.or(recommended.steps), ..recommended }.sampler(&config)?;
    let calls = sampler.levels().len();
    // Only split Gibbs has a plan with returns to x_0, and groups.
    let group = if sampler.name() == "split Gibbs" { split_gibbs(args).ensemble } else { 1 };
    let options = ChainOptions { batch: args.samples.next_multiple_of(group), first_sample: 0 };
    // The variances of Gaussian increments are known.
    let (burn_in, sweeps) = if matches!(law, Law::Gauss(_)) { (0, 1) } else { (BURN_IN, args.sweeps) };
    let denoiser = Gibbs::new(law, scale, burn_in, sweeps)?;
    let mut chain = Chain::with_evidence(denoiser, sampler, Seeded::new(seed), evidence, &options)?;
    chain.run()?;
    let rows = chain.x().chunks_exact(LENGTH);
    Ok((rows.map(|x| std::array::from_fn(|i| scale * f64::from(x[i]))).collect(), calls))
}

fn figures(law: Law, seen: &Seen<'_>, reference: &[Signal], samples: &[Signal]) -> Figures {
    let (m, s) = (mean(reference), mean(samples));
    let least = trace(reference, &m);
    // What the means of so many right draws are off by.
    let off = distance(&m, &s) - least / samples.len() as f64 - least / reference.len() as f64;
    let mut heights: Vec<f64> = samples.iter().map(|x| seen.log_posterior(law, x)).collect();
    heights.sort_by(f64::total_cmp);
    // Above the k-th lowest of K right draws lies 1 - k / (K + 1) of the posterior in the mean: so many that it is 0.9.
    let place = (0.1 * (heights.len() as f64 + 1.0) - 1.0).max(0.0);
    let (low, part) = (place as usize, place.fract());
    let threshold = heights[low] + part * (heights[(low + 1).min(heights.len() - 1)] - heights[low]);
    let inside = reference.iter().filter(|x| seen.log_posterior(law, x) >= threshold).count();
    let gap = 10.0 * (1.0 + off.max(-0.9 * least) / least).log10();
    Figures { gap, coverage: inside as f64 / reference.len() as f64 }
}

/// The rows of one law and operator: for each method its figures of every signal.
fn cell(law: Law, a: &Matrix, args: &Args) -> Result<Vec<(usize, Vec<Figures>)>> {
    let signals: Vec<Signal> = (0..400).map(|i| law.draw(&mut Stream::new(1, i, 0))).collect();
    let median = |mut v: Vec<f64>| {
        v.sort_by(f64::total_cmp);
        v[v.len() / 2]
    };
    let power = |y: &[f64]| y.iter().map(|y| y * y).sum::<f64>() / y.len() as f64;
    let scale = median(signals.iter().map(|x| power(x)).collect()).sqrt();
    let s = (median(signals.iter().map(|x| power(&apply(a, x))).collect()) / 10f64.powf(2.5)).sqrt();
    let one = |i: usize| -> Result<Signals> {
        let mut rng = Stream::new(2, i as u64, 0);
        let mut y = apply(a, &signals[i]);
        y.iter_mut().for_each(|y| *y += s * rng.normal());
        let seen = Seen { a, y, s };
        let reference = seen.posterior(law, REFERENCE.0, REFERENCE.1, REFERENCE.2, i as u64);
        methods(args)
            .map(|(_, make)| {
                let Some(make) = make else {
                    let draws = seen.posterior(law, REFERENCE.0, args.samples, REFERENCE.2, 1000 + i as u64);
                    return Ok((0, Some(figures(law, &seen, &reference, &draws))));
                };
                Ok(match sample(make, law, scale, &seen, args, i as u64) {
                    Ok((samples, calls)) => (calls, Some(figures(law, &seen, &reference, &samples))),
                    // A method that diverges is a row of the table.
                    Err(e) if e.kind() == ErrorKind::NonFinite => (0, None),
                    Err(e) => return Err(e),
                })
            })
            .collect()
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(args.signals);
    let parts: Vec<Result<Vec<Signals>>> = std::thread::scope(|scope| {
        let one = &one;
        let spawn = |t: usize| scope.spawn(move || (t..args.signals).step_by(threads).map(one).collect());
        let running: Vec<_> = (0..threads).map(spawn).collect();
        let failed = || Err(Error::new(ErrorKind::Callback, "a thread of the benchmark failed"));
        running.into_iter().map(|r| r.join().unwrap_or_else(|_| failed())).collect()
    });
    let mut rows: Vec<(usize, Vec<Figures>)> = methods(args).map(|_| (0, Vec::new())).collect();
    for signal in parts.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten() {
        rows.iter_mut().zip(signal).for_each(|(row, (calls, f))| {
            row.0 = row.0.max(calls);
            row.1.extend(f);
        });
    }
    Ok(rows)
}

fn shown(values: &[Figures], of: fn(&Figures) -> f64) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().map(of).sum::<f64>() / n;
    let variance = values.iter().map(|v| (of(v) - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
    (mean, (variance / n).sqrt())
}

/// gap / coverage, each +- its standard error, and where it diverged.
fn entry(values: &[Figures], signals: usize) -> String {
    if values.is_empty() {
        return "diverged".into();
    }
    let (gap, coverage) = (shown(values, |f| f.gap), shown(values, |f| f.coverage));
    let diverged = match signals - values.len() {
        0 => String::new(),
        n => format!(", diverged on {n}"),
    };
    format!("{:.2} +- {:.2} / {:.2} +- {:.2}{diverged}", gap.0, gap.1, coverage.0, coverage.1)
}

fn main() -> Result<()> {
    let args = args()?;
    let begun = Instant::now();
    println!("{} signals, {} samples of each: gap in dB / coverage of the 90 % set.", args.signals, args.samples);
    let laws: Vec<_> = Law::ALL.iter().filter(|(name, _)| asked(&args.law, name)).collect();
    for operator in OPERATORS.iter().filter(|name| asked(&args.operator, name)) {
        let mut rows = vec![String::new(); METHODS.len() + 1];
        let mut most = vec![0; METHODS.len() + 1];
        for (name, law) in &laws {
            for (i, (calls, values)) in cell(*law, &matrix(operator), &args)?.into_iter().enumerate() {
                most[i] = most[i].max(calls);
                rows[i].push_str(&format!(" {} |", entry(&values, args.signals)));
                let each: Vec<String> = values.iter().map(|f| format!("{:.2}", f.gap)).collect();
                eprintln!("{name}, {operator}, row {}: gaps {}", i + 1, each.join(" "));
            }
            eprintln!("{name}, {operator}: {:.0} s", begun.elapsed().as_secs_f64());
        }
        let names: Vec<_> = laws.iter().map(|(name, _)| *name).collect();
        println!("\n| {operator} | calls | {} |\n|---|---|{}", names.join(" | "), "---|".repeat(laws.len()));
        for ((method, _), (row, calls)) in methods(&args).zip(rows.iter().zip(most)) {
            println!("| {method} | {calls} |{row}");
        }
    }
    Ok(())
}
