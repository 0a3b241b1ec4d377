//! The command-line program: samples from pretrained diffusion models. One file per command; the rest is what they share.

mod args;
mod arrays;
mod bench;
mod dataset;
mod devices;
mod evaluate;
mod format;
mod generate;
mod image;
mod info;
mod interrupt;
mod output;
mod pack;
mod picture;
mod predict;
mod restore;
mod sample;
mod source;
#[cfg(feature = "training")]
mod train;

use std::io::Write;
use std::process::ExitCode;

use args::{Args, Command, Failure, Outcome, distance, usage};
use lexopt::Arg;
use undiffuse::ErrorKind;

const COMMANDS: &[&Command] = &[
    &sample::COMMAND,
    &restore::DENOISE,
    &restore::INPAINT,
    &restore::RESTORE,
    &restore::POSTERIOR,
    &info::COMMAND,
    &predict::COMMAND,
    &pack::COMMAND,
    &evaluate::COMMAND,
    &bench::COMMAND,
    &devices::COMMAND,
    #[cfg(feature = "training")]
    &train::COMMAND,
];

/// What stands in the help between its beginning and its end.
#[cfg(feature = "training")]
macro_rules! training_help {
    () => {
        "  train      train a model as a JSON file says\n"
    };
}
#[cfg(not(feature = "training"))]
macro_rules! training_help {
    () => {
        ""
    };
}

const HELP: &str = concat!(
    "\
Samples from pretrained diffusion models.

usage: undiffuse COMMAND [ARGUMENT...]

  sample     make samples and write them as a picture or as arrays
  denoise    take noise out of a picture
  inpaint    fill in the unknown pixels of a picture
  restore    undo any linear measurement: masks, reduction, blur, a matrix
  posterior  maps of the mean and the variance of many restored pictures
  info       say what a model is and what memory it needs
  predict    call the network once on given tensors
  pack       turn a diffusers directory into one file
  evaluate   bound the log-likelihood of data under a model
  bench      time the network
  devices    list what networks can run on here
",
    training_help!(),
    "
`undiffuse COMMAND --help` explains a command; `undiffuse --version` prints the version.
Exit codes: 0 done, 1 failed, 2 wrong arguments, 130 interrupted.
"
);

fn main() -> ExitCode {
    let (text, code) = match run() {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Usage(text)) => (text, 2),
        Err(Failure::Run(e)) if e.kind() == ErrorKind::Cancelled => ("cancelled, nothing was written".into(), 130),
        Err(Failure::Run(e)) => (e.to_string(), 1),
        #[cfg(feature = "training")]
        Err(Failure::Stopped(text)) => (text, 130),
    };
    // Nobody is left to tell if standard error is closed.
    let _ = writeln!(std::io::stderr(), "undiffuse: {text}");
    ExitCode::from(code)
}

fn run() -> Outcome {
    let mut parser = lexopt::Parser::from_env();
    let name = match parser.next() {
        Ok(Some(Arg::Long("help") | Arg::Short('h'))) => return Ok(output::say(HELP)?),
        Ok(Some(Arg::Long("version") | Arg::Short('V'))) => {
            return Ok(output::say(concat!("undiffuse ", env!("CARGO_PKG_VERSION"), "\n"))?);
        }
        Ok(Some(Arg::Value(name))) => name,
        Ok(Some(other)) => return usage!("{}; see `undiffuse --help`", other.unexpected()),
        Ok(None) => return usage!("a command is missing; see `undiffuse --help`"),
        Err(e) => return usage!("{e}"),
    };
    let name = name.to_string_lossy();
    let Some(command) = COMMANDS.iter().find(|c| c.name == name) else {
        let near = COMMANDS.iter().map(|c| (distance(c.name, &name), c.name)).min().filter(|(d, _)| *d <= 2);
        let hint = near.map(|(_, c)| format!("did you mean {c}? ")).unwrap_or_default();
        return usage!("unknown command {name:?}: {hint}see `undiffuse --help`");
    };
    (command.run)(&mut Args::new(parser, command))
}
