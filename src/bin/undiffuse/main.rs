//! The command-line program: samples from pretrained diffusion models. One file per command; the rest is what they
//! share.

mod args;
mod arrays;
mod bench;
mod choices;
mod conditions;
mod dataset;
mod devices;
mod estimate;
mod evaluate;
mod format;
mod from_image;
mod generate;
mod help;
mod image;
mod import;
mod info;
mod interrupt;
mod output;
mod pack;
mod picture;
mod predict;
mod preview;
mod restore;
mod sample;
mod shell;
mod source;
#[cfg(feature = "training")]
mod train;

use std::io::Write;
use std::process::ExitCode;

use args::{Args, Command, Failure, Outcome, usage};
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
    &import::COMMAND,
    &evaluate::COMMAND,
    &bench::COMMAND,
    &devices::COMMAND,
    #[cfg(feature = "training")]
    &train::COMMAND,
    &shell::HELP,
    &shell::COMPLETIONS,
    &shell::MAN,
];

fn main() -> ExitCode {
    let (text, code) = match run() {
        Ok(()) | Err(Failure::Helped) => return ExitCode::SUCCESS,
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
        Ok(Some(Arg::Long("help") | Arg::Short('h'))) => return Ok(output::say(&shell::overview())?),
        Ok(Some(Arg::Long("version") | Arg::Short('V'))) => {
            return Ok(output::say(concat!("undiffuse ", env!("CARGO_PKG_VERSION"), "\n"))?);
        }
        Ok(Some(Arg::Value(name))) => name,
        Ok(Some(other)) => return usage!("{}; see `undiffuse --help`", other.unexpected()),
        Ok(None) => return usage!("a command is missing; see `undiffuse --help`"),
        Err(e) => return usage!("{e}"),
    };
    let name = name.to_string_lossy();
    let command = shell::find(&name)?;
    (command.run)(&mut Args::new(parser, command))
}
