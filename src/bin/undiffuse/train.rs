//! `undiffuse train`: a model from a configuration.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use undiffuse::backend::cpu::pool::{MAX_THREADS, Pool};
use undiffuse::training::config::TrainConfig;
use undiffuse::training::mean_field::MeanField;
use undiffuse::training::trainer::{StepReport, Trainer};
use undiffuse::{Cancel, Error, ErrorKind, Result};

use crate::args::{Args, Command, Failure, Outcome, Token, usage};
use crate::output::{self, Output};

/// The command.
pub const COMMAND: Command = Command {
    name: "train",
    help: "\
Trains a model as a JSON file says: its keys are in the documentation of undiffuse::training::config, examples of it
in examples/experiments.

usage: undiffuse train CONFIG [--output FILE] [--resume] [--threads N]

  CONFIG         the configuration; relative paths in it begin beside it
  --output FILE  the packed file with the trained weights; the default is CONFIG's name with .safetensors, here. A card is
                 begun beside it, unless there is one: the name with .md
  --resume       goes on from FILE.checkpoint, in the bits of a run that was never stopped
  --threads N    threads; the default is one for each core. Their number changes no bit

A checkpoint is written now and then, and when Ctrl-C stops the run; it is removed when the training is complete.
",
    run,
};

/// How often the loss is printed where no one watches a bar.
const EVERY: Duration = Duration::from_secs(10);

struct Options {
    config: PathBuf,
    output: PathBuf,
    resume: bool,
    threads: Option<usize>,
}

fn options(args: &mut Args) -> Outcome<Options> {
    let (mut config, mut output, mut resume, mut threads) = (None, None, false, None);
    while let Some(token) = args.next()? {
        match token {
            Token::Option(name) => match name.as_str() {
                "output" => output = Some(args.path()?),
                "resume" => resume = true,
                "threads" => threads = Some(args.number("a whole number", 1..=MAX_THREADS)?),
                other => return args.unknown(other),
            },
            Token::Value(path) if config.is_none() => config = Some(PathBuf::from(path)),
            Token::Value(other) => return args.unexpected(&other),
        }
    }
    let Some(config) = config else { return usage!("train needs CONFIG; {}", args.see_help()) };
    let named = || Path::new(config.file_name().unwrap_or_default()).with_extension("safetensors");
    let output = output.unwrap_or_else(named);
    Ok(Options { config, output, resume, threads })
}

fn run(args: &mut Args) -> Outcome {
    let o = options(args)?;
    let config = TrainConfig::open(&o.config)?;
    let cancel = crate::interrupt::install()?;
    let threads = match o.threads {
        Some(n) => Pool::new(n)?,
        None => Pool::with_all_cores()?,
    };
    // That it can be written is known before the work.
    let mut packed = Output::create(&o.output)?;
    let mut checkpoint = o.output.clone().into_os_string();
    checkpoint.push(".checkpoint");
    let checkpoint = PathBuf::from(checkpoint);
    let beside = o.config.parent().unwrap_or(Path::new("."));
    let threads = Arc::new(threads);
    let trainer = match o.resume {
        true => Trainer::resume(config, beside, threads, &checkpoint),
        false => Trainer::new(config, beside, threads),
    };
    let mut trainer = trainer.map_err(|e| e.context(o.config.display()))?;
    let last = train(&mut trainer, &checkpoint, cancel)?;
    trainer.pack(&mut |piece| Ok(packed.write_all(piece)?))?;
    packed.finish()?;
    card(&trainer, &o.output)?;
    match std::fs::remove_file(&checkpoint) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::from(e).context(checkpoint.display()).into());
        }
        _ => {}
    }
    let loss = last.map_or(String::new(), |r| format!(", {}", shown(&trainer, &r)));
    let field = trainer.mean_field();
    let json = json!({
        "output": o.output.display().to_string(),
        "steps": trainer.steps_done(),
        "loss": last.map(|r| r.loss),
        "mean_field": field.map(|f| json!({
            "sigma_w": f.sigma_w(),
            "sigma_b": f.sigma_b(),
            "chi_1": f.chi_1(),
            "q_star": f.q_star(),
            "c_star": f.c_star(),
            "xi_q": f.xi_q(),
            "xi_c": f.xi_c(),
        })),
    });
    let reach = field.map_or(String::new(), |f| format!("{}\n", reach(&f)));
    Ok(output::report(&format!("{}: {} steps{loss}\n{reach}", o.output.display(), trainer.steps_done()), &json)?)
}

/// How deep a signal reached in the network that the training began with.
fn reach(field: &MeanField) -> String {
    let (chi, xi) = (field.chi_1(), field.xi_c());
    let what = match field.c_star() {
        _ if xi.is_infinite() && chi < 1.0 + 1e-6 => {
            "the edge of chaos: a signal passes any number of layers".to_string()
        }
        _ if xi.is_infinite() => "chaos: signals grow with every layer".to_string(),
        1.0 => format!("order: a difference of inputs, or a gradient, falls by e in {xi:.1} layers"),
        _ => format!("chaos: the likeness of inputs falls by e in {xi:.1} layers"),
    };
    format!("hidden layers began with chi_1 {chi:.3}, {what}")
}

fn shown(trainer: &Trainer, report: &StepReport) -> String {
    if trainer.is_bound() {
        format!("K {:.4} bits per dimension on the last batch", -report.loss)
    } else {
        format!("loss {:.5} on the last batch", report.loss)
    }
}

/// Makes all steps that are left; gives the report of the last.
fn train(trainer: &mut Trainer, checkpoint: &Path, cancel: &Cancel) -> Outcome<Option<StepReport>> {
    let steps = trainer.config().steps;
    let bar = if output::is_quiet() { ProgressBar::hidden() } else { ProgressBar::new(steps) };
    let bar = bar.with_position(trainer.steps_done());
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}, {eta} left") {
        bar.set_style(style);
    }
    bar.reset_eta();
    let watched = output::is_quiet() || std::io::stderr().is_terminal();
    let (mut report, mut said, mut smooth) = (None, Instant::now(), None);
    while !trainer.is_done() {
        let r = match trainer.step(cancel) {
            Ok(r) => r,
            Err(e) if e.kind() == ErrorKind::Cancelled => {
                bar.finish_and_clear();
                save(trainer, checkpoint)?;
                let at = trainer.steps_done();
                let text =
                    format!("stopped after step {at} of {steps}; --resume goes on from {}", checkpoint.display());
                return Err(Failure::Stopped(text));
            }
            Err(e) => return Err(e.into()),
        };
        // A mean over about 50 batches says more than one.
        let mean = smooth.map_or(r.loss, |s: f64| s + 0.02 * (r.loss - s));
        smooth = Some(mean);
        report = Some(r);
        let loss = if trainer.is_bound() { format!("K {:.4} bits/dim", -mean) } else { format!("loss {mean:.5}") };
        bar.set_message(loss.clone());
        bar.inc(1);
        if !watched && said.elapsed() > EVERY {
            said = Instant::now();
            let left = bar.eta().as_secs();
            writeln!(std::io::stderr(), "step {} of {steps}, {loss}, {left} s left", r.step).map_err(Error::from)?;
        }
        if r.step % trainer.config().checkpoint_every == 0 && !trainer.is_done() {
            save(trainer, checkpoint)?;
        }
    }
    bar.finish_and_clear();
    Ok(report)
}

fn save(trainer: &Trainer, path: &Path) -> Result<()> {
    let mut file = Output::create(path)?;
    file.write_all(&trainer.save()?)?;
    file.finish()
}

/// Begins a card, where there is none.
fn card(trainer: &Trainer, weights: &Path) -> Result<()> {
    let path = weights.with_extension("md");
    if path.exists() {
        return Ok(());
    }
    let name = weights.file_name().unwrap_or_default().to_string_lossy();
    let mut file = Output::create(&path)?;
    file.write_all(trainer.card(&name).as_bytes())?;
    file.finish()
}
