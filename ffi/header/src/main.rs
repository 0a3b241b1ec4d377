//! Writes include/undiffuse.h from the items of `undiffuse-ffi` and their comments; with `--check`, says whether it is
//! up to date.
//!
//!     cargo run -p undiffuse-ffi-header [-- --check]

use std::path::Path;
use std::process::ExitCode;

/// What stands at the top.
const PREAMBLE: &str = include_str!("preamble.h");

/// The macros, after the includes.
const MACROS: &str = include_str!("macros.h");

/// Headings, each before the function that it names.
const HEADINGS: &[(&str, &str)] = &[
    ("undiffuse_status_name", "Errors"),
    ("undiffuse_version_string", "Versions"),
    ("undiffuse_cancel_new", "Cancel flags"),
    ("undiffuse_device_count", "Devices"),
    ("undiffuse_model_options_init", "Models"),
    ("undiffuse_schedule_options_init", "Samplers"),
    ("undiffuse_noise_normal", "Noise"),
    ("undiffuse_operator_identity", "Operators"),
    ("undiffuse_method_options_init", "Evidence"),
    ("undiffuse_session_options_init", "Sessions"),
    ("undiffuse_guidance_init", "Conditions"),
    ("undiffuse_bound_options_init", "Evaluation"),
];

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = match generate(&root.join("ffi")) {
        Ok(text) => text,
        Err(e) => {
            eprintln!("{e}");
            return ExitCode::FAILURE;
        }
    };
    let path = root.join("include/undiffuse.h");
    if std::env::args().any(|a| a == "--check") {
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        if committed == text {
            println!("include/undiffuse.h is up to date");
            return ExitCode::SUCCESS;
        }
        let line = committed.lines().zip(text.lines()).position(|(a, b)| a != b).unwrap_or(0) + 1;
        eprintln!(
            "include/undiffuse.h is not what the items say, from line {line} on: cargo run -p undiffuse-ffi-header"
        );
        return ExitCode::FAILURE;
    }
    match std::fs::write(&path, text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{}: {e}", path.display());
            ExitCode::FAILURE
        }
    }
}

fn generate(ffi: &Path) -> Result<String, String> {
    let config = cbindgen::Config::from_file(ffi.join("cbindgen.toml"))?;
    let bindings =
        cbindgen::Builder::new().with_crate(ffi).with_config(config).generate().map_err(|e| e.to_string())?;
    let mut bytes = Vec::new();
    bindings.write(&mut bytes);
    let text = String::from_utf8(bytes).map_err(|e| e.to_string())?;
    let text = with_macros(&with_short_enums(&with_headings(&without_struct(&with_comments_set(&text)))?)?)?;
    Ok(text.replace("@PREAMBLE@", PREAMBLE.trim_end()))
}

/// Puts one macro in the place of what cbindgen writes around each enum, so that it has one width in C and C++.
fn with_short_enums(text: &str) -> Result<String, String> {
    let unlike = |what: &str| format!("cbindgen writes {what} in another way, which this program does not know");
    let mut out = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let name = line.strip_prefix("enum ").filter(|n| !n.contains(' '));
        match (name, line) {
            (Some(name), _) => {
                let condition = lines.next().filter(|l| l.starts_with("#if defined(__cplusplus)"));
                condition.ok_or_else(|| unlike("an enum"))?;
                let width = lines.next().and_then(|l| l.trim().strip_prefix(": "));
                let width = width.ok_or_else(|| unlike("the width of an enum"))?;
                let end = lines.next().filter(|l| l.starts_with("#endif"));
                end.and_then(|_| lines.next().filter(|l| l.trim() == "{")).ok_or_else(|| unlike("an enum"))?;
                out.push_str(&format!("UNDIFFUSE_ENUM({name}, {width}) {{\n"));
            }
            // The names in C, which the macro gives.
            (None, "#ifndef __cplusplus") => {
                let end = lines.by_ref().find(|l| l.starts_with("#endif") && l.contains("__cplusplus"));
                end.ok_or_else(|| unlike("the names of an enum"))?;
            }
            _ => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    match out.contains("__STDC_VERSION__") {
        true => Err(unlike("an enum")),
        false => Ok(out),
    }
}

/// Puts the macros in and before each function.
fn with_macros(text: &str) -> Result<String, String> {
    const INCLUDE: &str = "#include <stdint.h>\n";
    const FUNCTIONS: &str = "extern \"C\" {\n";
    let (head, rest) = text.split_once(INCLUDE).ok_or("the header does not include stdint.h")?;
    let (types, functions) = rest.split_once(FUNCTIONS).ok_or("the header has no functions")?;
    let mut out = format!("{head}{INCLUDE}{MACROS}{types}{FUNCTIONS}");
    let mut rest = functions;
    while let Some((before, declaration)) = declaration(rest) {
        out.push_str(before);
        let strict = declaration.starts_with("undiffuse_status ") && declaration.contains("undiffuse_error **");
        out.push_str(if strict { "UNDIFFUSE_NODISCARD UNDIFFUSE_API\n" } else { "UNDIFFUSE_API\n" });
        out.push_str(declaration);
        rest = &rest[before.len() + declaration.len()..];
    }
    Ok(out + rest)
}

/// The next declaration of a function, up to its semicolon, and what stands before it.
fn declaration(text: &str) -> Option<(&str, &str)> {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if line.starts_with(|c: char| c.is_ascii_lowercase()) && line.contains('(') {
            let end = text[at..].find(';')?;
            return Some((&text[..at], &text[at..=at + end]));
        }
        at += line.len();
    }
    None
}

/// Leaves the word `struct` to the definitions: each struct has a typedef.
fn without_struct(text: &str) -> String {
    let plain = |line: &str| match line.starts_with("typedef struct ") {
        true => format!("{line}\n"),
        false => format!("{}\n", line.replace("struct undiffuse_", "undiffuse_")),
    };
    text.lines().map(plain).collect()
}

/// Sets the text of each comment anew, in lines of at most 100 columns.
fn with_comments_set(text: &str) -> String {
    let mut out = String::new();
    let mut comment: Option<(usize, Vec<String>)> = None;
    for line in text.lines() {
        let inner = line.trim_start();
        match &mut comment {
            None if inner == "/**" => comment = Some((line.len() - inner.len(), vec![String::new()])),
            None => {
                out.push_str(line);
                out.push('\n');
            }
            Some((indent, paragraphs)) if inner == "*/" => {
                out.push_str(&set(*indent, paragraphs));
                comment = None;
            }
            Some((_, paragraphs)) => {
                let words = inner.trim_start_matches('*').trim();
                match paragraphs.last_mut() {
                    Some(last) if !words.is_empty() => {
                        if !last.is_empty() {
                            last.push(' ');
                        }
                        last.push_str(words);
                    }
                    _ => paragraphs.push(String::new()),
                }
            }
        }
    }
    out
}

fn set(indent: usize, paragraphs: &[String]) -> String {
    const COLUMNS: usize = 100;
    let margin = " ".repeat(indent);
    if let [one] = paragraphs
        && indent + one.len() + 7 <= COLUMNS
    {
        return format!("{margin}/** {one} */\n");
    }
    let mut out = format!("{margin}/**\n");
    for (i, paragraph) in paragraphs.iter().enumerate() {
        if i > 0 {
            out.push_str(&format!("{margin} *\n"));
        }
        let mut line = String::new();
        for word in paragraph.split(' ') {
            if !line.is_empty() && indent + 4 + line.len() + word.len() > COLUMNS {
                out.push_str(&format!("{margin} * {line}\n"));
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        out.push_str(&format!("{margin} * {line}\n"));
    }
    out + &format!("{margin} */\n")
}

/// Puts each heading before the comment of its function.
fn with_headings(text: &str) -> Result<String, String> {
    let mut lines: Vec<String> = text.lines().map(str::to_string).collect();
    for (function, heading) in HEADINGS {
        let declared = format!("{function}(");
        let at = lines.iter().position(|l| l.contains(&declared) && !l.trim_start().starts_with('*'));
        let at = at.ok_or_else(|| format!("there is no function {function} to put a heading before"))?;
        let begin = lines[..at].iter().rposition(|l| l.starts_with("/**"));
        let begin = begin.ok_or_else(|| format!("{function} has no comment"))?;
        let rule = format!("/* ---- {heading} {} */", "-".repeat(80 - heading.len()));
        lines.splice(begin..begin, [rule, String::new()]);
    }
    lines.push(String::new());
    Ok(lines.join("\n"))
}
