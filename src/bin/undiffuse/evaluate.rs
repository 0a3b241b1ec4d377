//! `undiffuse evaluate`: what a model is worth on data.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use undiffuse::codec::scale_of;
use undiffuse::evaluate::{
    Bound, BoundOptions, Edges, Times, Unit, bound_with, null_fitted_gaussian, parzen, parzen_bandwidth,
    parzen_bandwidths, parzen_bandwidths_near,
};
use undiffuse::noise::Seeded;
use undiffuse::sampler::{Sampler, SamplerKind, SamplerOptions, SchedulerConfig, StateSpace};
use undiffuse::schedule::Arithmetic;
use undiffuse::values::Scale;
use undiffuse::{Error, ErrorKind, Result};

use crate::args::{Args, Command, Outcome, Token, usage};
use crate::dataset::{Data, Expected, fits};
use crate::estimate::{Run, tell};
use crate::output::progress;
use crate::restore::reading::values;
use crate::source::{ModelArgs, model_options};
use crate::{interrupt, output};

/// The command.
pub const COMMAND: Command = Command {
    name: "evaluate",
    help: concat!(
        "\
Evaluates a lower bound K on the log-likelihood of data under a model, or the Parzen window estimate of samples.

usage: undiffuse evaluate [PATH] --data FILE [OPTION...]

  PATH            a pipeline directory or a packed file (default: the embedded digits)
  --model PATH    the model, by the option that all commands have
  --data FILE     a .npy file whose first dimension counts samples, an idx file (also .gz), or a folder of PNGs;
                  or heartbeat:N, swiss_roll:N, swiss_roll:N:NOISE, swiss_roll:N:NOISE:FROM:TO (angles over pi), samples of these
                  generators with the seed.
                  In builds without the feature training: .npy only
  --values WHAT   what the data's values are: bytes (0 to 255, default of PNG and of uint8), unit (0 to 1), BLACK..WHITE, as
                  in 0..65535, or data (as the model's samples are written, default of floats; images in [-1, 1]). Other
                  whole numbers need it
  --grey          a model of grey images takes a folder of images with colours, as their grey
  --colour        a model of colours takes a folder of grey images, three times the same channel
  --skip N        leaves out the first N samples
  --count N       takes that many (default: all)
  --dequantize    adds noise uniform over one grey level, so that K is that of a density of real numbers
  --ends NAME     entropies (default of the 2015 chain), white, network (default of bits) or grey (default of other
                  models on bytes and unit): see below
  --times N       evaluates that many steps for each sample, chosen evenly at random (default: all)
  --draws N       draws of x_t for each sample and step (default 1)
  --batch N       rows of one network call (default 32)
  --seed N        (default 0)
  --bits-per WHAT  dim (default) or sample
  --table         also a line for each step: its divergence, the entropy of p(x_s | x_t) and what bounds that of the
                  forward process reversed, from below and above (Sohl-Dickstein et al. 2015, Eq. 24)
  --parzen FILE   no bound: the Parzen window of the samples in a .npy file that `undiffuse sample` wrote; the bandwidth is
                  the best of ten from 0.1 to 1, and then of eleven around that one, for the first tenth of the data; the
                  estimate is for the others
",
        model_options!(),
        "  --size HxW      size of the images where the model names none
  --backend NAME  auto (default), cpu or reference
  --threads N     threads of the cpu backend (default: all)
  --weights TYPE  how the cpu backend keeps weights: f32 (default), f16, bf16, int8 or int4 (narrower is smaller, and faster where few values share
                  a weight; sums are f32)
  --precision P   what the network computes in: f32 (default), bf16 (linear and small layers, with AMX large ones too; it gains by AMX
                  and by AMD's bf16) or int8 (8-bit integers in layers of a model that `pack --calibrate` wrote)

The chain that is evaluated is the 2015 chain or the chain of classes of the model, or DDPM with all timesteps. Its ends p(x^0 | x^1) and p(x^T):
  entropies       the paper's terms H_start, H_end, H_prior, which hold on average where the data have unit variance
  white           the same distributions, evaluated for each sample
  network         the chain's own last step; of real numbers a Gaussian with variance beta_1
  grey            that Gaussian's mass in each of 256 grey levels: K bounds the log-probability of bytes
"
    ),
    run,
};

/// Which ends, as the command line has them.
#[derive(Clone, Copy, PartialEq)]
enum Ends {
    Entropies,
    White,
    Network,
    Grey,
}

struct Job {
    model: ModelArgs,
    data: Data,
    ends: Option<Ends>,
    options: BoundOptions,
    seed: u64,
    unit: Unit,
    parzen: Option<PathBuf>,
    steps: bool,
}

fn run(args: &mut Args) -> Outcome {
    let mut job = Job {
        model: ModelArgs::default(),
        data: Data::default(),
        ends: None,
        options: BoundOptions::default(),
        seed: 0,
        unit: Unit::BitsPerDim,
        parzen: None,
        steps: false,
    };
    let whole = "a whole number";
    while let Some(token) = args.next()? {
        match token {
            Token::Option(name) => match name.as_str() {
                "data" => job.data.from = Some(args.path()?),
                "values" => job.data.values = Some(values(args)?),
                "grey" => job.data.grey = true,
                "colour" => job.data.colour = true,
                "skip" => job.data.skip = args.number(whole, 0..=usize::MAX)?,
                "count" => job.data.count = Some(args.number(whole, 1..=usize::MAX)?),
                "dequantize" => job.data.dequantize = true,
                "ends" => {
                    let names = [
                        ("entropies", Ends::Entropies),
                        ("white", Ends::White),
                        ("network", Ends::Network),
                        ("grey", Ends::Grey),
                    ];
                    job.ends = Some(args.choice(&names)?);
                }
                "times" => job.options.times = Times::Sampled(args.number(whole, 1..=usize::MAX)?),
                "draws" => job.options.draws = args.number(whole, 1..=1_000_000)?,
                "batch" => job.options.batch = args.number(whole, 1..=usize::MAX)?,
                "seed" => job.seed = args.number(whole, 0..=u64::MAX)?,
                "bits-per" => job.unit = args.choice(&[("dim", Unit::BitsPerDim), ("sample", Unit::Bits)])?,
                "table" => job.steps = true,
                "parzen" => job.parzen = Some(args.path()?),
                "class" => job.model.set_classes(args)?,
                other => {
                    if !job.model.option(other, args)? && !job.model.condition(other, args)? {
                        return args.unknown(other);
                    }
                }
            },
            Token::Value(path) => job.model.value(path, args)?,
        }
    }
    job.model.check()?;
    if job.data.from.is_none() {
        return usage!("evaluate needs --data; {}", args.see_help());
    }
    job.data.seed = job.seed;
    let (text, json) = match job.parzen.take() {
        Some(samples) => window(&job, &samples)?,
        None => evaluate(job)?,
    };
    Ok(output::report(&text, &json)?)
}

/// The Parzen window estimate.
fn window(job: &Job, samples: &Path) -> Result<(String, Value)> {
    let cancel = interrupt::install()?;
    let data = job.data.read()?;
    let path = samples;
    let samples = Data { from: Some(path.into()), sampled: true, ..Data::default() }
        .read()
        .map_err(|e| Error::new(e.kind(), format!("--parzen {e}")))?;
    let n = data.dims.elements();
    if !(fits(&samples.dims, &data.dims) || fits(&data.dims, &samples.dims)) {
        let text = format!("the samples are {}, the data {}", samples.dims, data.dims);
        return Err(Error::new(ErrorKind::Shape, text));
    }
    // Images from [-1, 1] to [0, 1], the scale of the published protocol.
    let image = data.dims.rank() == 3;
    let unit = |x: &[f32]| -> Vec<f32> { x.iter().map(|x| if image { 0.5 * x + 0.5 } else { *x }).collect() };
    let (samples, data) = (unit(&samples.x), unit(&data.x));
    let count = data.len() / n;
    let (validation, test) = data.split_at(count.div_ceil(10).min(count - 1) * n);
    let coarse = parzen_bandwidth(&samples, validation, n, &parzen_bandwidths(), cancel)?;
    let bandwidth = parzen_bandwidth(&samples, validation, n, &parzen_bandwidths_near(coarse), cancel)?;
    let found = parzen(&samples, test, n, bandwidth, cancel)?;
    let value = |nats| job.unit.of(nats, n);
    let json = json!({
        "log_likelihood": value(found.log_likelihood),
        "standard_error": value(found.standard_error),
        "unit": name(job.unit),
        "bandwidth": bandwidth,
        "samples": samples.len() / n,
        "data": test.len() / n,
        "data_for_the_bandwidth": validation.len() / n,
    });
    let text = format!(
        "Parzen window  {:.4} +- {:.4} {} ({:.2} +- {:.2} nats per sample)\n\
         bandwidth      {bandwidth:.4}, the best from 0.1 to 1 in steps of 5 % for {} samples of the data\n\
         samples        {} of the model against {} of the data, values {}\n",
        value(found.log_likelihood),
        value(found.standard_error),
        name(job.unit),
        found.log_likelihood,
        found.standard_error,
        validation.len() / n,
        samples.len() / n,
        test.len() / n,
        if image { "in [0, 1]" } else { "as they are" },
    );
    Ok((text, json))
}

fn name(unit: Unit) -> &'static str {
    match unit {
        Unit::Nats => "nats per sample",
        Unit::Bits => "bits per sample",
        Unit::BitsPerDim => "bits per dimension",
    }
}

/// The bound.
fn evaluate(mut job: Job) -> Result<(String, Value)> {
    let cancel = interrupt::install()?;
    let source = job.model.open()?;
    // A scheduler that is missing is named when the model is compiled.
    let bits = source.scheduler().is_ok_and(|s| s.class == SamplerKind::Bits2015);
    job.data.of = Expected { channels: source.model().channels(), bits };
    let mut data = job.data.read()?;
    if let ([_, height, width], true) = (data.dims.as_slice(), source.model().needs_size()) {
        job.model.set_size([*height, *width]);
    }
    let pipeline = job.model.compile(&source)?;
    let dims = pipeline.sample_dims();
    if !fits(&data.dims, &dims) {
        let text = format!("the data are {}, the model's samples {dims}", data.dims);
        return Err(Error::new(ErrorKind::Shape, text));
    }
    let config = job.model.scheduler(&pipeline, Some(SamplerKind::Ddpm))?;
    let class = config.class;
    let sampler = chain(&config)?;
    // A hundredth more is the noise over one grey level.
    if !class.has_own_class() && data.x.iter().any(|v| v.abs() > 1.01) {
        let text = "the model's samples lie in [-1, 1], the data's values do not: give --values";
        return Err(Error::new(ErrorKind::InvalidArgument, text));
    }
    let scale = scale_of(&config);
    if scale != Scale::default() {
        data.rescale(scale.scl, scale.shft);
    }
    let bits = sampler.space() != StateSpace::Real;
    let ends = job.ends.unwrap_or(match (bits, class.is_2015(), data.levels) {
        (true, _, _) => Ends::Network,
        (_, true, _) => Ends::Entropies,
        (_, _, true) => Ends::Grey,
        _ => Ends::Network,
    });
    if ends == Ends::Grey && !data.levels {
        let text = "--ends grey is for data of 256 grey levels: --values bytes or unit without --dequantize";
        return Err(Error::new(ErrorKind::InvalidArgument, text));
    }
    job.options.edges = match ends {
        Ends::Entropies => Edges::Entropies,
        Ends::White => Edges::White,
        Ends::Network => Edges::Network,
        Ends::Grey => Edges::Discretized { levels: 256 },
    };
    let given = job.model.given(&pipeline)?;
    let mut denoiser = given.denoiser(&pipeline, job.options.batch)?;
    let times = match job.options.times {
        Times::All => sampler.levels().len(),
        Times::Sampled(k) => k.min(sampler.levels().len()),
    };
    let rows = (data.x.len() / dims.elements()).saturating_mul(times).saturating_mul(job.options.draws);
    let batch = job.options.batch;
    let less = "Fewer --times or a smaller --count";
    let run = Run {
        pipeline: &pipeline,
        batch,
        batches: rows.div_ceil(batch),
        calls: 1,
        products: 0,
        workspace: given.workspace_bytes(&pipeline, batch)?,
        results: 0,
        less,
    };
    if let Some(&level) = sampler.levels().first() {
        tell(&run, &mut denoiser, level, cancel)?;
    }
    let bar = progress(0, None);
    let observe = &mut |p: undiffuse::evaluate::Progress| {
        bar.set_length(p.total);
        bar.set_position(p.done);
    };
    let noise = &mut Seeded::new(job.seed);
    let report = bound_with(&mut denoiser, &sampler, noise, &data.x, &job.options, cancel, observe)?;
    bar.finish_and_clear();
    let json = as_json(&job, &sampler, ends, &report);
    Ok((text(&job, &sampler, ends, &report, &data), json))
}

/// The chain that is evaluated.
fn chain(config: &SchedulerConfig) -> Result<Box<dyn Sampler + Send + Sync>> {
    let class = config.class;
    let kind = if class.has_own_class() { class } else { SamplerKind::Ddpm };
    let options = SamplerOptions { sampler: Some(kind), arithmetic: Arithmetic::Float64, ..SamplerOptions::default() };
    config.sampler(&options)
}

fn as_json(job: &Job, sampler: &dyn Sampler, ends: Ends, report: &Bound) -> Value {
    let value = |nats: f64| report.value(nats, job.unit);
    let steps = report.steps.iter().map(|s| {
        json!({
            "sigma": s.level.sigma, "alpha": s.level.alpha, "divergence": value(s.kl), "entropy": value(s.entropy),
            "from_below": value(s.lower), "from_above": value(s.upper),
        })
    });
    json!({
        "model": job.model.name(),
        "sampler": sampler.name(),
        "samples": report.samples,
        "dims": report.dims,
        "k": value(report.k),
        "standard_error": value(report.standard_error),
        "unit": name(job.unit),
        "ends": match ends {
            Ends::Entropies => "entropies",
            Ends::White => "white",
            Ends::Network => "network",
            Ends::Grey => "grey",
        },
        "l_null": value(report.l_null),
        "divergences": value(report.kl),
        "h_start": value(report.start),
        "h_end": value(report.end),
        "h_prior": value(report.prior),
        "calls": report.calls,
        "rows": report.rows,
        "seconds": report.seconds,
        "steps": steps.collect::<Vec<_>>(),
    })
}

fn text(job: &Job, sampler: &dyn Sampler, ends: Ends, report: &Bound, data: &crate::dataset::Loaded) -> String {
    let (unit, n) = (job.unit, report.dims);
    let value = |nats: f64| format!("{:.4}", report.value(nats, unit));
    let what = match ends {
        Ends::Entropies => "the ends are the paper's entropies",
        Ends::White => "the ends are the white chain's, evaluated for each sample",
        Ends::Network => "the last step is the chain's own",
        Ends::Grey => "of the log-probability of the 256 grey levels",
    };
    let steps = match job.options.times {
        Times::All => format!("all {} steps", report.steps.len()),
        Times::Sampled(k) => format!("{k} of {} steps for each sample", report.steps.len()),
    };
    let mut lines = vec![
        ("model", format!("{}, the chain {} of {} steps", job.model.name(), sampler.name(), sampler.levels().len())),
        ("data", format!("{} samples of {n} values", report.samples)),
        ("K", format!("{} +- {} {}: {what}", value(report.k), value(report.standard_error), name(unit))),
    ];
    if ends == Ends::Grey {
        lines.push(("uniform", format!("{}, all levels alike", value(-(256f64.ln()) * n as f64))));
    } else {
        lines.push(("L_null", value(report.l_null)));
        lines.push(("K - L_null", format!("{} +- {}", value(report.k - report.l_null), value(report.standard_error))));
    }
    if sampler.space() == StateSpace::Real && ends != Ends::Grey {
        let fitted = null_fitted_gaussian(&data.x, n);
        lines.push(("Gaussian", format!("{}, of one fitted variance", value(fitted))));
        if data.scale != 1.0 {
            let raw = report.raw_k(data.scale);
            lines.push(("in the data's units", format!("{}, x being {:.6} of them", value(raw), data.scale)));
        }
    }
    let parts =
        [("divergences", report.kl), ("H_start", report.start), ("H_end", report.end), ("H_prior", report.prior)];
    let parts: Vec<String> = parts.iter().map(|(name, nats)| format!("{name} {}", value(*nats))).collect();
    lines.push(("of which", parts.join(", ")));
    lines.push(("error", format!("over the samples, with the draws in it; {steps}, {} draws", job.options.draws)));
    if job.options.draws > 1 {
        lines.push(("of which draws", value(report.monte_carlo_error)));
    }
    lines.push(("cost", format!("{} network calls, {} rows, {:.2} s", report.calls, report.rows, report.seconds)));
    let mut text: String = lines.iter().map(|(name, text)| format!("{name:<19} {text}\n")).collect();
    if job.steps {
        text += "\n  1 - abar   divergence      entropy   from below   from above\n";
        for s in &report.steps {
            let noise = s.level.sigma * s.level.sigma / (s.level.sigma * s.level.sigma + s.level.alpha * s.level.alpha);
            let [kl, entropy, lower, upper] = [s.kl, s.entropy, s.lower, s.upper].map(value);
            text += &format!("{noise:10.6} {kl:>12} {entropy:>12} {lower:>12} {upper:>12}\n");
        }
    }
    text
}
