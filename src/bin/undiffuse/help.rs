//! The help of a command as data, from one text: it is printed from it, and so are man pages and completions.
//!
//! A text has paragraphs that end at an empty line. The first says what the command does; one that begins with `usage:`
//! says how it is called; a line of two blanks, a term and two blanks or more begins an entry of a list, and lines that
//! are further in go on with it. An entry whose term begins with `-` is an option.

/// The widest line that is printed.
pub const WIDTH: usize = 98;
/// Where explanations begin, at the most.
const MAX_INDENT: usize = 22;

/// A part of a help.
#[derive(Clone, Debug, PartialEq)]
pub enum Block {
    /// Lines as they are: how the command is called.
    Usage(Vec<String>),
    /// A text.
    Paragraph(String),
    /// Terms that are explained.
    List(Vec<Entry>),
}

/// A term and what it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Such as `--count N`, `PATH` or `sr4`.
    pub term: String,
    /// The explanation.
    pub text: String,
}

/// An option of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name<'a> {
    /// Its letter, if it has one.
    pub short: Option<char>,
    /// Its name without the dashes.
    pub long: &'a str,
    /// The word for its value, if it takes one.
    pub value: Option<&'a str>,
}

impl Entry {
    /// The option that it explains, if it does.
    pub fn option(&self) -> Option<Name<'_>> {
        let (before, rest) = self.term.split_once("--")?;
        let short = before.strip_prefix('-').and_then(|s| s.chars().next());
        let (long, value) = rest.split_once(' ').map_or((rest, None), |(long, value)| (long, Some(value)));
        Some(Name { short, long, value })
    }
}

/// The parts of a text.
pub fn parse(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    // Whether the next line goes on with the block before it.
    let mut open = false;
    for line in text.lines() {
        let inner = line.trim_start();
        let indent = line.len() - inner.len();
        if inner.is_empty() {
            open = false;
            continue;
        }
        let entry = (indent == 2).then(|| match inner.split_once("  ") {
            Some((term, text)) => Some((term, text.trim())),
            // A term too long for its line.
            None => inner.starts_with('-').then_some((inner, "")),
        });
        match (entry.flatten(), blocks.last_mut().filter(|_| open)) {
            (Some((term, text)), last) => {
                let entry = Entry { term: term.into(), text: text.into() };
                match last {
                    Some(Block::List(entries)) => entries.push(entry),
                    _ => blocks.push(Block::List(vec![entry])),
                }
            }
            (None, Some(Block::List(entries))) if indent > 2 => {
                if let Some(entry) = entries.last_mut() {
                    append(&mut entry.text, inner);
                }
            }
            (None, Some(Block::Paragraph(text))) => append(text, inner),
            (None, Some(Block::Usage(lines))) => lines.push(inner.into()),
            (None, _) => blocks.push(match inner.strip_prefix("usage: ") {
                Some(usage) => Block::Usage(vec![usage.into()]),
                None => Block::Paragraph(inner.into()),
            }),
        }
        open = true;
    }
    blocks
}

fn append(text: &mut String, more: &str) {
    if !text.is_empty() {
        text.push(' ');
    }
    text.push_str(more);
}

/// Words in lines of at most `width` characters.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    // What stands in square brackets, as [N, C, H, W], stays together.
    let mut words: Vec<String> = Vec::new();
    let mut open = false;
    for word in text.split_whitespace() {
        match words.last_mut() {
            Some(last) if open => append(last, word),
            _ => words.push(word.into()),
        }
        let whole = words.last().map_or("", String::as_str);
        open = whole.matches('[').count() > whole.matches(']').count() && whole.len() < width;
    }
    for word in &words {
        if let Some(line) = lines.last_mut() {
            if line.is_empty() || line.chars().count() + 1 + word.chars().count() <= width {
                append(line, word);
            } else {
                lines.push(word.clone());
            }
        }
    }
    lines
}

/// The text as it is printed.
pub fn render(blocks: &[Block]) -> String {
    let mut parts = Vec::new();
    for block in blocks {
        parts.push(match block {
            Block::Usage(lines) => {
                let mut out = String::new();
                for (i, line) in lines.iter().enumerate() {
                    let begin = if i == 0 { "usage: " } else { "       " };
                    // What does not fit goes on below.
                    for (k, line) in wrap(line, WIDTH - 11).iter().enumerate() {
                        out.push_str(&format!("{}{line}\n", if k == 0 { begin } else { "           " }));
                    }
                }
                out
            }
            Block::Paragraph(text) => wrap(text, WIDTH).iter().map(|line| format!("{line}\n")).collect(),
            Block::List(entries) => list(entries),
        });
    }
    parts.join("\n")
}

fn list(entries: &[Entry]) -> String {
    let longest = entries.iter().map(|e| e.term.chars().count()).filter(|n| n + 4 <= MAX_INDENT).max();
    let indent = longest.map_or(MAX_INDENT, |n| n + 4);
    let mut out = String::new();
    for entry in entries {
        let mut lines = wrap(&entry.text, WIDTH - indent).into_iter();
        let term = entry.term.chars().count() + 4;
        if term > indent {
            out.push_str(&format!("  {}\n", entry.term));
        } else {
            let first = lines.next().unwrap_or_default();
            out.push_str(format!("  {:width$}{first}", entry.term, width = indent - 2).trim_end());
            out.push('\n');
        }
        lines.for_each(|line| out.push_str(&format!("{:indent$}{line}\n", "")));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
Does something
in two lines.

usage: undiffuse something [PATH]
       undiffuse something --else

  PATH       where
  --count N  how many,
             or more
  --a-very-long-option VALUE
             what it is

The end.
";

    #[test]
    fn a_text_is_read_and_printed() {
        let blocks = parse(TEXT);
        let entry = |term: &str, text: &str| Entry { term: term.into(), text: text.into() };
        let want = [
            Block::Paragraph("Does something in two lines.".into()),
            Block::Usage(vec!["undiffuse something [PATH]".into(), "undiffuse something --else".into()]),
            Block::List(vec![
                entry("PATH", "where"),
                entry("--count N", "how many, or more"),
                entry("--a-very-long-option VALUE", "what it is"),
            ]),
            Block::Paragraph("The end.".into()),
        ];
        assert_eq!(blocks, want);
        let printed = render(&blocks);
        assert_eq!(parse(&printed), want, "{printed}");
        assert!(
            printed.contains("  --count N  how many, or more\n  --a-very-long-option VALUE\n             what it is\n")
        );
        let Block::List(entries) = &blocks[2] else { panic!("no list") };
        let options: Vec<_> = entries.iter().filter_map(Entry::option).collect();
        let name = |long, value| Name { short: None, long, value: Some(value) };
        assert_eq!(options, [name("count", "N"), name("a-very-long-option", "VALUE")]);
        let quiet = Entry { term: "-q, --quiet".into(), text: String::new() };
        assert_eq!(quiet.option(), Some(Name { short: Some('q'), long: "quiet", value: None }));
    }

    #[test]
    fn lines_are_no_wider_than_they_may_be() {
        let text = "word ".repeat(300);
        let lines = wrap(&text, 40);
        assert!(lines.iter().all(|l| l.len() <= 40) && lines[..lines.len() - 1].iter().all(|l| l.len() > 34));
        assert_eq!(wrap("of [N, C, H, W] or so", 12), ["of", "[N, C, H, W]", "or so"]);
    }
}
