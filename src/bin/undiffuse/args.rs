//! What the commands share in reading their arguments: errors that name the option, and hints.

use std::ffi::OsString;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use lexopt::{Arg, Parser};
use undiffuse::Error;

use crate::{help, output};

/// Why a command ends early.
#[derive(Debug)]
pub enum Failure {
    /// The command line is wrong: exit code 2.
    Usage(String),
    /// The command failed: exit code 1.
    Run(Error),
    /// Nothing failed: the help was asked for and printed.
    Helped,
    /// The user stopped it, and it left what the text says: exit code 130.
    #[cfg(feature = "training")]
    Stopped(String),
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Self::Run(e)
    }
}

/// The result of a command.
pub type Outcome<T = ()> = Result<T, Failure>;

/// `Err(Failure::Usage)` of a message that is made as by `format!`.
macro_rules! usage {
    ($($arg:tt)*) => { Err($crate::args::Failure::Usage(format!($($arg)*))) };
}
pub(crate) use usage;

/// A command: its name, its help, and what runs it.
pub struct Command {
    /// As the user types it.
    pub name: &'static str,
    /// The whole text of `--help`. Its words that begin with `--` are the options that a hint may propose.
    pub help: &'static str,
    /// Reads its arguments and runs.
    pub run: fn(&mut Args) -> Outcome,
}

/// Options that were called otherwise: the command, the old name and the new one.
const RENAMED: [(&str, &str, &str); 4] = [
    ("train", "o", "output"),
    ("posterior", "samples", "count"),
    ("evaluate", "samples", "count"),
    ("evaluate", "steps", "table"),
];

/// Options that are given once for each of several names, as NAME=VALUE, and those of one command.
const REPEATED: [&str; 3] = ["condition", "negative", "role"];
const REPEATED_BY: [(&str, &str); 2] = [("import", "input"), ("import", "check-input")];

/// The options of all commands.
const EVERYWHERE: &str = "
Everywhere:

  --json       the summary as one JSON object (examples/json.md has the fields)
  -q, --quiet  no bar, no notes, no summary
  -h, --help   this text
";

impl Command {
    /// Its help in parts.
    pub fn blocks(&self) -> Vec<help::Block> {
        let mut blocks = help::parse(self.help);
        blocks.extend(help::parse(EVERYWHERE));
        blocks
    }

    /// Its help as it is printed.
    pub fn printed(&self) -> String {
        help::render(&self.blocks())
    }
}

/// The arguments of one command, one after the other.
pub struct Args {
    parser: Parser,
    command: &'static Command,
    last: String,
    seen: Vec<String>,
}

/// What `--class` says.
#[derive(Clone, Debug)]
pub enum Classes {
    /// Numbers.
    List(Vec<f32>),
    /// An array `[N]` or `[N, D]`.
    File(PathBuf),
}

/// An argument.
pub enum Token {
    /// `--name` (or `-n`, as `n`); its value is asked for by [`Args::value`].
    Option(String),
    /// Anything else.
    Value(OsString),
}

impl Args {
    /// The arguments that follow a command.
    pub fn new(parser: Parser, command: &'static Command) -> Self {
        Self { parser, command, last: String::new(), seen: Vec::new() }
    }

    fn is_repeated(&self, name: &str) -> bool {
        REPEATED.contains(&name) || REPEATED_BY.contains(&(self.command.name, name))
    }

    /// The next argument that is the command's own: `--help`, `--quiet` and `--json` are all commands'.
    pub fn next(&mut self) -> Outcome<Option<Token>> {
        loop {
            match self.any()? {
                Some(Token::Option(name)) => match name.as_str() {
                    "help" | "h" => {
                        output::say(&self.command.printed())?;
                        return Err(Failure::Helped);
                    }
                    "quiet" | "q" => output::set_quiet(),
                    "json" => output::set_json(),
                    // The last would be taken in silence.
                    _ if self.seen.contains(&name) && !self.is_repeated(&name) => {
                        return usage!("{} is given twice, expected once; {}", self.last, self.see_help());
                    }
                    _ => {
                        self.seen.push(name.clone());
                        return Ok(Some(Token::Option(name)));
                    }
                },
                token => return Ok(token),
            }
        }
    }

    fn any(&mut self) -> Outcome<Option<Token>> {
        let token = match self.parser.next() {
            Ok(None) => return Ok(None),
            Ok(Some(Arg::Long(name))) => Token::Option(name.to_string()),
            Ok(Some(Arg::Short(letter))) => Token::Option(letter.to_string()),
            Ok(Some(Arg::Value(value))) => Token::Value(value),
            Err(e) => return usage!("{e}"),
        };
        if let Token::Option(name) = &token {
            self.last = if name.chars().count() == 1 { format!("-{name}") } else { format!("--{name}") };
        }
        Ok(Some(token))
    }

    /// The value of the option that came last.
    pub fn value(&mut self) -> Outcome<OsString> {
        match self.parser.value() {
            Ok(value) => Ok(value),
            Err(_) => usage!("{} needs a value; {}", self.last, self.see_help()),
        }
    }

    /// The value as a path.
    pub fn path(&mut self) -> Outcome<PathBuf> {
        self.value().map(PathBuf::from)
    }

    /// The value as text.
    pub fn text(&mut self) -> Outcome<String> {
        let value = self.value()?;
        value.into_string().map_err(|v| Failure::Usage(format!("{} is {v:?}, expected UTF-8 text", self.last)))
    }

    /// The value as a number in a range; `what` names it, as in "a whole number".
    pub fn number<T: FromStr + PartialOrd + Display>(&mut self, what: &str, range: RangeInclusive<T>) -> Outcome<T> {
        let text = self.text()?;
        match text.parse::<T>() {
            Ok(n) if range.contains(&n) => Ok(n),
            _ => usage!("{} is {text:?}, expected {what} from {} to {}", self.last, range.start(), range.end()),
        }
    }

    /// The value as one of a list of words.
    pub fn choice<T: Copy>(&mut self, choices: &[(&str, T)]) -> Outcome<T> {
        let text = self.text()?;
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text) {
            return Ok(*value);
        }
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        usage!("{} is {text:?}, expected {}", self.last, words.join(" or "))
    }

    /// The value as classes: a list of numbers, or a file of rows.
    pub fn classes(&mut self) -> Outcome<Classes> {
        let text = self.text()?;
        if [".npy", ".safetensors"].iter().any(|e| text.to_ascii_lowercase().ends_with(e)) {
            return Ok(Classes::File(text.into()));
        }
        let number = |s: &str| s.parse::<f32>().ok().filter(|c| c.is_finite());
        match text.split(',').map(number).collect() {
            Some(list) => Ok(Classes::List(list)),
            None => {
                usage!(
                    "{} is {text:?}, expected numbers with commas, as in 0,1,2, or a .npy or .safetensors file",
                    self.last
                )
            }
        }
    }

    /// The error for an option that the command does not have, with the one that may have been meant.
    pub fn unknown<T>(&self, option: &str) -> Outcome<T> {
        let shown = &self.last;
        let renamed = RENAMED.iter().find(|(command, old, _)| self.command.name == *command && *old == option);
        if let Some((_, _, new)) = renamed {
            return usage!("{shown} is called --{new} now");
        }
        let blocks = self.command.blocks();
        let entries = blocks.iter().flat_map(|b| match b {
            help::Block::List(entries) => entries.as_slice(),
            _ => &[],
        });
        // Options that stand in the texts of others, as those of methods do, are words of them.
        let words = entries.flat_map(|e| e.term.split_whitespace().chain(e.text.split_whitespace()));
        let known = words.filter_map(|w| w.strip_prefix("--"));
        // A text may also name another command's.
        let known = known.map(|w| w.trim_end_matches(|c: char| !c.is_alphanumeric())).filter(|w| *w != option);
        if option.len() == 1 {
            let mut begun: Vec<String> = known.filter(|w| w.starts_with(option)).map(|w| format!("--{w}")).collect();
            begun.dedup();
            return match begun.is_empty() {
                false => usage!("unknown option {shown}: did you mean {}? {}", begun.join(" or "), self.see_help()),
                true => usage!("unknown option {shown}; {}", self.see_help()),
            };
        }
        let near = known.map(|w| (distance(w, option), w)).min().filter(|(d, _)| *d <= 2);
        match near {
            Some((_, word)) => usage!("unknown option {shown}: did you mean --{word}? {}", self.see_help()),
            None => usage!("unknown option {shown}; {}", self.see_help()),
        }
    }

    /// The error for an argument that the command has no use for.
    pub fn unexpected<T>(&self, value: &OsString) -> Outcome<T> {
        usage!("unexpected argument {value:?}; {}", self.see_help())
    }

    /// Where the user finds what is possible.
    pub fn see_help(&self) -> String {
        format!("see `undiffuse {} --help`", self.command.name)
    }
}

/// How many letters must be put in, left out or changed to make one word of the other.
pub fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (above, &y) in row.iter_mut().zip(std::iter::once(&'\0').chain(&b)) {
            // The first column has no letter of `b`.
            let here = if y == '\0' { i + 1 } else { (diagonal + usize::from(x != y)).min(left + 1).min(*above + 1) };
            diagonal = std::mem::replace(above, here);
            left = here;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_levenshtein() {
        for (a, b, d) in [("", "", 0), ("abc", "", 3), ("", "abc", 3), ("count", "cuont", 2), ("kitten", "sitting", 3)]
        {
            assert_eq!(distance(a, b), d, "{a} {b}");
        }
    }
}
