//! `undiffuse help`, `completions` and `man`: what is known of all commands, for people and for shells. All of it comes
//! from the commands' own texts.

use std::io::Write;
use std::path::PathBuf;

use clap_complete::Shell;
use undiffuse::{Error, Result};

use crate::args::{Args, Command, Outcome, Token, distance, usage};
use crate::help::{Block, Entry, parse, render};
use crate::output::{self, Output};
use crate::{COMMANDS, choices};

/// `undiffuse help`.
pub const HELP: Command = Command {
    name: "help",
    help: "\
Explains a command, or lists them all.

usage: undiffuse help [COMMAND]

  COMMAND  a command, as `undiffuse help` lists them
",
    run: help,
};

/// `undiffuse completions`.
pub const COMPLETIONS: Command = Command {
    name: "completions",
    help: "\
Prints what a shell needs to complete commands and options.

usage: undiffuse completions SHELL

  SHELL  bash, zsh, fish, elvish or powershell

For bash: undiffuse completions bash > ~/.local/share/bash-completion/completions/undiffuse; for zsh: a file _undiffuse in a folder of
fpath; for fish: ~/.config/fish/completions/undiffuse.fish.
",
    run: completions,
};

/// `undiffuse man`.
pub const MAN: Command = Command {
    name: "man",
    help: "\
Prints the manual page of the program or of a command, or writes all of them.

usage: undiffuse man [COMMAND] [--output DIRECTORY]

  COMMAND             a command; without it the page of the program
  --output DIRECTORY  writes the pages undiffuse.1 and undiffuse-COMMAND.1 there, which is made if need be

`undiffuse man sample | man -l -` shows a page.
",
    run: man,
};

/// The list of all commands, as `undiffuse --help` prints it.
pub fn overview() -> String {
    let entries = COMMANDS.iter().map(|c| Entry { term: c.name.into(), text: about(c) });
    let mut blocks = parse("Samples from pretrained diffusion models.\n\nusage: undiffuse COMMAND [ARGUMENT...]\n");
    blocks.push(Block::List(entries.collect()));
    blocks.extend(parse(ENDING));
    render(&blocks)
}

const ENDING: &str = "\
`undiffuse help COMMAND` or `undiffuse COMMAND --help` explains a command; `undiffuse --version` prints the version.

Exit codes: 0 done, 1 failed, 2 wrong arguments, 130 interrupted.
";

/// The first sentence of a command's help, or what stands in it before a colon.
fn about(command: &Command) -> String {
    let text = command.help.lines().take_while(|l| !l.is_empty()).collect::<Vec<_>>().join(" ");
    let end = [". ", ": "].iter().filter_map(|mark| text.find(mark)).min();
    let end = end.unwrap_or(text.trim_end_matches('.').len());
    text.get(..end).unwrap_or(&text).to_string()
}

/// The command of a name, which may not be there.
pub fn find(name: &str) -> Outcome<&'static Command> {
    if let Some(command) = COMMANDS.iter().find(|c| c.name == name) {
        return Ok(command);
    }
    let near = COMMANDS.iter().map(|c| (distance(c.name, name), c.name)).min().filter(|(d, _)| *d <= 2);
    let hint = near.map(|(_, c)| format!("did you mean {c}? ")).unwrap_or_default();
    usage!("unknown command {name:?}: {hint}see `undiffuse --help`")
}

fn help(args: &mut Args) -> Outcome {
    let mut command = None;
    while let Some(token) = args.next()? {
        match token {
            Token::Option(name) => return args.unknown(&name),
            Token::Value(value) if command.is_none() => command = Some(find(&value.to_string_lossy())?),
            Token::Value(value) => return args.unexpected(&value),
        }
    }
    Ok(output::say(&command.map_or_else(overview, Command::printed))?)
}

fn completions(args: &mut Args) -> Outcome {
    let shells = [
        ("bash", Shell::Bash),
        ("zsh", Shell::Zsh),
        ("fish", Shell::Fish),
        ("elvish", Shell::Elvish),
        ("powershell", Shell::PowerShell),
    ];
    let mut shell = None;
    while let Some(token) = args.next()? {
        match token {
            Token::Option(name) => return args.unknown(&name),
            Token::Value(value) if shell.is_none() => {
                let found = shells.iter().find(|(name, _)| value == *name);
                let Some((_, found)) = found else {
                    return usage!("SHELL is {value:?}, expected bash, zsh, fish, elvish or powershell");
                };
                shell = Some(*found);
            }
            Token::Value(value) => return args.unexpected(&value),
        }
    }
    let Some(shell) = shell else { return usage!("completions needs SHELL; {}", args.see_help()) };
    let mut bytes = Vec::new();
    clap_complete::generate(shell, &mut program(), "undiffuse", &mut bytes);
    Ok(output::say(&String::from_utf8_lossy(&bytes))?)
}

fn man(args: &mut Args) -> Outcome {
    let (mut command, mut to) = (None, None::<PathBuf>);
    while let Some(token) = args.next()? {
        match token {
            Token::Option(name) if name == "output" => to = Some(args.path()?),
            Token::Option(name) => return args.unknown(&name),
            Token::Value(value) if command.is_none() => command = Some(find(&value.to_string_lossy())?),
            Token::Value(value) => return args.unexpected(&value),
        }
    }
    match (command, to) {
        (None, None) => Ok(output::say(&page(program())?)?),
        (Some(command), None) => Ok(output::say(&page(page_of(command))?)?),
        (None, Some(folder)) => Ok(pages(&folder)?),
        (Some(command), Some(_)) => usage!("--output writes the pages of all commands: leave out {}", command.name),
    }
}

fn pages(folder: &std::path::Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|e| Error::from(e).context(folder.display()))?;
    let mut all = vec![("undiffuse.1".to_string(), program())];
    all.extend(COMMANDS.iter().map(|c| (format!("undiffuse-{}.1", c.name), page_of(c))));
    for (name, command) in all {
        let mut file = Output::create(&folder.join(name))?;
        file.write_all(page(command)?.as_bytes())?;
        file.finish()?;
    }
    Ok(())
}

/// A manual page.
fn page(command: clap::Command) -> Result<String> {
    let mut bytes = Vec::new();
    clap_mangen::Man::new(command).render(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A command under the name that its page has.
fn page_of(command: &Command) -> clap::Command {
    let name = format!("undiffuse-{}", command.name);
    described(command).name(name.clone()).display_name(name).version(env!("CARGO_PKG_VERSION"))
}

/// The whole program as clap knows programs; clap parses nothing here, it only writes.
fn program() -> clap::Command {
    clap::Command::new("undiffuse")
        .about("Samples from pretrained diffusion models")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_help_subcommand(true)
        .after_help(ENDING)
        .subcommands(COMMANDS.iter().map(|c| described(c)))
}

fn described(command: &Command) -> clap::Command {
    let mut out = clap::Command::new(command.name).about(about(command)).disable_help_flag(true);
    let (mut seen, mut rest) = (Vec::new(), Vec::new());
    for (i, block) in command.blocks().into_iter().enumerate() {
        match block {
            Block::Usage(lines) => {
                for name in positionals(&lines) {
                    out = out.arg(
                        clap::Arg::new(name.clone()).value_name(name.clone()).value_hint(clap::ValueHint::AnyPath),
                    );
                }
                out = out.override_usage(lines.join("\n"));
            }
            Block::List(entries) => {
                let (options, others): (Vec<_>, Vec<_>) = entries.into_iter().partition(|e| e.option().is_some());
                for entry in options {
                    let Some(option) = entry.option() else { continue };
                    if seen.contains(&option.long.to_string()) {
                        continue;
                    }
                    seen.push(option.long.to_string());
                    out = out.arg(argument(command, &entry));
                }
                if !others.is_empty() {
                    rest.push(Block::List(others));
                }
            }
            // The first is what the command does.
            Block::Paragraph(text) if i > 0 && !text.ends_with(':') => rest.push(Block::Paragraph(text)),
            Block::Paragraph(_) => {}
        }
    }
    out.after_help(render(&rest))
}

fn argument(command: &Command, entry: &Entry) -> clap::Arg {
    let Some(option) = entry.option() else { return clap::Arg::new(entry.term.clone()) };
    let mut arg = clap::Arg::new(option.long.to_string()).long(option.long.to_string()).help(entry.text.clone());
    if let Some(short) = option.short {
        arg = arg.short(short);
    }
    let Some(value) = option.value else { return arg.action(clap::ArgAction::SetTrue) };
    arg = arg.value_name(value.to_string());
    let words = choices::of(command.name, option.long);
    if words.is_empty() {
        let path = ["FILE", "PATH", "MASK", "DIRECTORY"].contains(&value);
        arg.value_hint(if path { clap::ValueHint::AnyPath } else { clap::ValueHint::Other })
    } else {
        // The text names them.
        arg.value_parser(clap::builder::PossibleValuesParser::new(words)).hide_possible_values(true)
    }
}

/// The arguments of a usage that are no options: words of capitals, but for those that follow an option.
fn positionals(lines: &[String]) -> Vec<String> {
    let Some(line) = lines.first() else { return Vec::new() };
    let mut names = Vec::new();
    let mut after_option = false;
    for word in line.split_whitespace().skip(2) {
        let name = word.trim_matches(['[', ']']);
        let capitals = !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase());
        if capitals && !after_option {
            names.push(name.to_string());
        }
        after_option = name.starts_with('-');
    }
    names
}
