//! The house rules that the compiler does not check: the one-way order of the modules, where `unsafe` may stand, that
//! nothing outside tests can panic by name, that files stay short and comments narrow. The order is the map of modules
//! in ARCHITECTURE.md: a module may use what its row names, and a row may name only rows above it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Files, or folders with all they hold, in which `unsafe` may stand.
const UNSAFE: [&str; 4] = ["src/backend/cpu/", "src/matmul.rs", "ffi/src/", "ffi/freestanding/src/"];

/// What must not stand outside tests.
const PANICS: [&str; 9] = [
    ".unwrap()",
    ".expect(",
    ".unwrap_err()",
    ".expect_err(",
    "panic!",
    "unreachable!",
    "todo!",
    "unimplemented!",
    "process::abort",
];

const MAX_LINES: usize = 600;

/// Columns of a comment, as rustfmt.toml has them for code; tables, formulas and code in it may be wider.
const MAX_COLUMNS: usize = 120;

/// One rule that a file breaks.
type Complaint = String;

/// What each module may use, from the table of ARCHITECTURE.md whose rows are "| `module` | purpose | `used`, `used`
/// |".
type Order = BTreeMap<String, BTreeSet<String>>;

fn read_order(architecture: &str) -> Result<Order, Complaint> {
    let names = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_string).collect::<BTreeSet<_>>();
    let mut order = Order::new();
    for row in architecture.lines().filter(|l| l.starts_with("| `")) {
        let cells: Vec<&str> = row.split('|').collect();
        let (Some(module), [_, _, _, uses, _]) = (cells[1].split('`').nth(1), cells.as_slice()) else {
            return Err(format!("ARCHITECTURE.md: expected three cells in the row {row}"));
        };
        let uses = names(uses);
        if let Some(later) = uses.iter().find(|u| !order.contains_key(*u)) {
            return Err(format!("ARCHITECTURE.md: `{module}` names `{later}`, which does not stand above it"));
        }
        order.insert(module.to_string(), uses);
    }
    Ok(order)
}

/// The text with comments, strings and character literals blanked out; line breaks stay.
fn code_only(source: &str) -> String {
    let s: Vec<char> = source.chars().collect();
    let mut out = String::with_capacity(source.len());
    let mut i = 0;
    let blank = |out: &mut String, from: usize, to: usize| {
        out.extend(s[from..to.min(s.len())].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
    };
    while i < s.len() {
        let rest = &s[i..];
        let begins = |t: &str| rest.len() >= t.len() && rest.iter().zip(t.chars()).all(|(&a, b)| a == b);
        let word_before = i > 0 && (s[i - 1].is_alphanumeric() || s[i - 1] == '_');
        let end = if begins("//") {
            i + rest.iter().position(|&c| c == '\n').unwrap_or(rest.len())
        } else if begins("/*") {
            let (mut j, mut depth) = (i + 2, 1);
            while j < s.len() && depth > 0 {
                match (s[j], s.get(j + 1)) {
                    ('/', Some('*')) => (depth, j) = (depth + 1, j + 2),
                    ('*', Some('/')) => (depth, j) = (depth - 1, j + 2),
                    _ => j += 1,
                }
            }
            j
        } else if !word_before && (begins("r\"") || begins("r#") || begins("br\"") || begins("br#")) {
            let open = i + rest.iter().take_while(|&&c| c == 'b' || c == 'r').count();
            let hashes = s[open..].iter().take_while(|&&c| c == '#').count();
            if s.get(open + hashes) == Some(&'"') {
                let mut j = open + hashes + 1;
                while j < s.len() && !(s[j] == '"' && s[j + 1..].iter().take_while(|&&c| c == '#').count() >= hashes) {
                    j += 1;
                }
                j + 1 + hashes
            } else {
                i
            }
        } else if s[i] == '"' {
            let mut j = i + 1;
            while j < s.len() && s[j] != '"' {
                j += if s[j] == '\\' { 2 } else { 1 };
            }
            j + 1
        } else if s[i] == '\'' && s.get(i + 1) == Some(&'\\') {
            i + 3 + s[i + 3..].iter().position(|&c| c == '\'').map_or(0, |p| p + 1)
        } else if s[i] == '\'' && s.get(i + 2) == Some(&'\'') {
            i + 3
        } else {
            i
        };
        if end > i {
            blank(&mut out, i, end);
            i = end;
        } else {
            out.push(s[i]);
            i += 1;
        }
    }
    out
}

/// Where the item that begins at `from` ends: past its first `;` or its braces, whichever comes first.
fn item_end(code: &str, from: usize) -> usize {
    let mut depth = 0;
    for (at, c) in code[from..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return from + at + 1;
                }
            }
            ';' if depth == 0 => return from + at + 1,
            _ => {}
        }
    }
    code.len()
}

/// Blanks every item under `#[cfg(test)]` and gives the names of the modules that it declares in files of their own.
fn without_tests(code: &str) -> (String, Vec<String>) {
    let (mut out, mut files, mut at) = (String::new(), Vec::new(), 0);
    while let Some(found) = code[at..].find("#[cfg(test)]") {
        let (begin, end) = (at + found, item_end(code, at + found));
        let item = code[begin..end].trim_end();
        if let Some(name) = item.strip_suffix(';').and_then(|d| d.rsplit_once("mod ")).map(|(_, n)| n.trim()) {
            files.push(name.to_string());
        }
        out.push_str(&code[at..begin]);
        out.extend(code[begin..end].chars().filter(|&c| c == '\n'));
        at = end;
    }
    out.push_str(&code[at..]);
    (out, files)
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The identifiers that may follow `crate::` at `at`: one, or those of a braced list.
fn first_names(code: &str, at: usize) -> Vec<String> {
    let word = |t: &str| t.trim_start().chars().take_while(|&c| is_word(c)).collect::<String>();
    let rest = code[at..].trim_start();
    let Some(list) = rest.strip_prefix('{') else { return vec![word(rest)] };
    let (mut names, mut depth) = (vec![word(list)], 0);
    for (i, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(word(&list[i + 1..])),
            _ => {}
        }
    }
    names.retain(|n| !n.is_empty());
    names
}

/// The module of a file under `src`, and how deep it lies below the crate root; `None` for the root itself and the
/// programs.
fn module_of(path: &str) -> Option<(String, usize)> {
    let inner = path.strip_prefix("src/")?.strip_suffix(".rs")?;
    let inner = inner.strip_suffix("/mod").unwrap_or(inner);
    if inner == "lib" || inner.starts_with("bin/") {
        return None;
    }
    Some((inner.split('/').next()?.to_string(), inner.split('/').count()))
}

/// The places where `code` names a module of the crate: (line, module).
fn uses(code: &str, depth: usize, complaints: &mut Vec<Complaint>, path: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(is_word) {
            continue;
        }
        found.extend(first_names(code, at + "crate::".len()).into_iter().map(|n| (line_of(code, at), n)));
    }
    let mut at = 0;
    while let Some(next) = code[at..].find("super::") {
        let begin = at + next;
        let count = code[begin..].split("super::").take_while(|part| part.trim().is_empty()).count();
        at = begin + count * "super::".len();
        if count >= depth {
            complaints
                .push(format!("{path}:{}: `super` reaches the crate root: write `crate::`", line_of(code, begin)));
        }
    }
    found
}

/// Every rule that the file breaks.
fn check(path: &str, source: &str, is_test: bool, order: &Order) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    let lines = source.lines().count();
    if lines > MAX_LINES {
        complaints.push(format!("{path}: {lines} lines, expected at most {MAX_LINES}"));
    }
    for (i, _) in
        source.lines().enumerate().filter(|(_, l)| ["// / ", "// ! "].iter().any(|m| l.trim_start().starts_with(m)))
    {
        complaints.push(format!("{path}:{}: documentation that was wrapped into a plain comment", i + 1));
    }
    let mut fenced = false;
    for (i, line) in source.lines().enumerate() {
        let comment = line.trim_start().strip_prefix("//").map(|c| c.trim_start_matches(['/', '!']).trim_start());
        let Some(comment) = comment else { continue };
        fenced ^= comment.starts_with("```");
        let columns = line.chars().count();
        if columns > MAX_COLUMNS && !fenced && !comment.starts_with('|') {
            complaints
                .push(format!("{path}:{}: a comment of {columns} columns, expected at most {MAX_COLUMNS}", i + 1));
        }
    }
    if is_test || !(path.starts_with("src/") || path.starts_with("ffi/")) || path.starts_with("ffi/tests/") {
        return complaints;
    }
    let (code, _) = without_tests(&code_only(source));
    if let Some((module, depth)) = module_of(path) {
        let Some(may) = order.get(&module) else {
            complaints.push(format!("{path}: the module `{module}` has no row in the map of ARCHITECTURE.md"));
            return complaints;
        };
        for (line, name) in uses(&code, depth, &mut complaints, path) {
            // A name that is no module is an item that the crate root names again, or a macro.
            if name != module && order.contains_key(&name) && !may.contains(&name) {
                complaints
                    .push(format!("{path}:{line}: `{module}` uses `{name}`, which its row in the map does not name"));
            }
        }
    }
    if !UNSAFE.iter().any(|allowed| path.starts_with(allowed)) {
        for (at, _) in code.match_indices("unsafe") {
            let word = !code[..at].ends_with(is_word) && !code[at + 6..].starts_with(is_word);
            if word {
                complaints.push(format!("{path}:{}: `unsafe` outside {UNSAFE:?}", line_of(&code, at)));
            }
        }
    }
    for text in PANICS {
        for (at, _) in code.match_indices(text) {
            if text.starts_with('.') || !code[..at].ends_with(is_word) {
                complaints.push(format!("{path}:{}: `{text}` outside a test", line_of(&code, at)));
            }
        }
    }
    complaints
}

fn rust_files(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().is_none_or(|n| n != "target") {
                rust_files(&path, out);
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

/// All Rust files of the repository: path from its root with `/`, and text.
fn sources() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "tests", "examples", "benches", "fuzz", "ffi"] {
        if root.join(folder).is_dir() {
            rust_files(&root.join(folder), &mut files);
        }
    }
    files
        .into_iter()
        .map(|p| {
            let name = p.strip_prefix(root).unwrap().components().map(|c| c.as_os_str().to_str().unwrap());
            (name.collect::<Vec<_>>().join("/"), fs::read_to_string(&p).unwrap())
        })
        .collect()
}

/// The files that hold tests only: those that a `#[cfg(test)] mod NAME;` declares, and all below them.
fn test_files(sources: &BTreeMap<String, String>) -> BTreeSet<String> {
    let mut prefixes = Vec::new();
    for (path, text) in sources.iter().filter(|(p, _)| p.starts_with("src/") || p.starts_with("ffi/")) {
        let folder =
            match path.strip_suffix("/mod.rs").or(path.strip_suffix("/lib.rs")).or(path.strip_suffix("/main.rs")) {
                Some(folder) => folder.to_string(),
                None => path.trim_end_matches(".rs").to_string(),
            };
        for name in without_tests(&code_only(text)).1 {
            prefixes.push(format!("{folder}/{name}.rs"));
            prefixes.push(format!("{folder}/{name}/"));
        }
    }
    sources.keys().filter(|p| prefixes.iter().any(|x| p.starts_with(x.as_str()))).cloned().collect()
}

fn order() -> Order {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md");
    read_order(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn the_sources_keep_the_rules() {
    let (sources, order) = (sources(), order());
    assert!(sources.contains_key("src/lib.rs"), "no sources found");
    let tests = test_files(&sources);
    let complaints: Vec<_> =
        sources.iter().flat_map(|(path, text)| check(path, text, tests.contains(path), &order)).collect();
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

/// The front page of the documentation lists the public modules, in the order of the map and by its words.
#[test]
fn the_front_page_has_the_map() {
    let read = |path: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let (map, lib) = (read("ARCHITECTURE.md"), read("src/lib.rs"));
    let row = |line: &str| {
        let cells: Vec<String> = line.split('|').map(|c| c.replace(['[', ']'], "").trim().to_string()).collect();
        (cells.get(1).map(|name| name.replace('`', "")).unwrap_or_default(), cells.get(2).cloned().unwrap_or_default())
    };
    let public: Vec<_> = map
        .lines()
        .filter(|l| l.starts_with("| `"))
        .map(row)
        .filter(|(name, _)| lib.contains(&format!("\npub mod {name};")))
        .collect();
    let (_, page) = lib.split_once("//! # The modules").unwrap();
    let listed: Vec<_> =
        page.lines().filter_map(|l| l.strip_prefix("//! ")).filter(|l| l.contains('`')).map(row).collect();
    assert!(public.len() > 15);
    for (want, got) in public.iter().zip(&listed) {
        assert!(want.0 == got.0 && got.1.starts_with(&want.1), "ARCHITECTURE.md has {want:?}, src/lib.rs {got:?}");
    }
    assert_eq!(public.len(), listed.len(), "src/lib.rs lists other modules than the public ones of ARCHITECTURE.md");
}

#[test]
fn a_row_of_the_map_names_only_what_its_module_uses() {
    let (sources, order) = (sources(), order());
    let tests = test_files(&sources);
    let mut unused = order.clone();
    for (path, text) in sources.iter().filter(|(path, _)| !tests.contains(*path)) {
        let Some((module, depth)) = module_of(path) else { continue };
        let code = without_tests(&code_only(text)).0;
        for (_, name) in uses(&code, depth, &mut Vec::new(), path) {
            unused.get_mut(&module).map(|names| names.remove(&name));
        }
    }
    unused.retain(|_, names| !names.is_empty());
    assert!(unused.is_empty(), "not used: {unused:?}");
}

/// What the checker says of one file under a small map.
fn complaints(path: &str, source: &str) -> Vec<Complaint> {
    let map = "| `error` | x | |\n| `tensor` | x | `error` |\n| `noise` | x | `error` |\n| `graph` | x | `error`, `tensor` |\n\
               | `weights` | x | `graph` |\n| `model` | x | `weights` |\n| `backend` | x | `graph` |\n\
               | `denoiser` | x | `backend` |\n| `chain` | x | `error`, `noise`, `denoiser` |";
    check(path, source, false, &read_order(map).unwrap())
}

#[test]
fn a_map_whose_rows_name_later_rows_is_refused() {
    assert!(read_order("| `a` | x | |\n| `b` | x | `a` |").is_ok());
    assert!(read_order("| `b` | x | `a` |\n| `a` | x | |").is_err());
    assert!(read_order("| `a` | x | `a` |").is_err());
    assert!(read_order("| `a` | x |").is_err());
}

#[test]
fn a_module_that_reaches_up_is_found() {
    for (path, source) in [
        ("src/noise/mod.rs", "use crate::chain::Chain;"),
        ("src/graph/builder.rs", "use crate::{error::Error, backend::{Network, cpu}};"),
        ("src/weights/mod.rs", "fn f() -> crate::model::Model { todo() }"),
        ("src/noise/mod.rs", "use super::chain::Chain;"),
        ("src/noise/stream.rs", "use super::super::chain::Chain;"),
        ("src/error.rs", "use crate::graph::Graph;"),
        ("src/error.rs", "use crate::tensor::Dims;"),
        ("src/elsewhere.rs", "fn nothing() {}"),
    ] {
        assert_eq!(complaints(path, source).len(), 1, "{path}: {source}");
    }
}

#[test]
fn a_module_that_keeps_the_order_is_not() {
    for (path, source) in [
        ("src/chain/mod.rs", "use crate::{error::{Error, Result}, denoiser::Denoiser, noise};"),
        ("src/weights/view.rs", "use super::header::Header;\nuse crate::graph::Graph;"),
        (
            "src/noise/mod.rs",
            "// use crate::chain::Chain;\n/* crate::chain /* nested */ */ const A: &str = \"crate::chain\";",
        ),
        ("src/noise/mod.rs", "#[cfg(test)]\nmod tests { use crate::chain::Chain; fn f() { x.unwrap() } }"),
        ("src/noise/mod.rs", "const Q: char = '\"'; const R: &str = r#\"panic!(\"\"#; fn f<'a>(x: &'a str) {}"),
        ("src/graph/mod.rs", "//! let x = f().unwrap();\nuse crate::Result;"),
        ("src/bin/undiffuse/main.rs", "use undiffuse::chain::Chain;\nuse crate::sample;"),
    ] {
        assert_eq!(complaints(path, source), [""; 0], "{path}");
    }
}

#[test]
fn unsafe_and_panics_and_long_files_are_found() {
    for source in [
        "fn f() { unsafe { g() } }",
        "unsafe impl Send for X {}",
        "fn f() { x.unwrap(); }",
        "fn f() { x\n    .expect(\"y\"); }",
        "fn f() { panic!(\"y\") }",
        "fn f() { core::unreachable!() }",
        "fn f() { todo!() }",
        "#[cfg(test)]\nmod tests;\nfn f() { x.unwrap(); }",
    ] {
        assert_eq!(complaints("src/chain/mod.rs", source).len(), 1, "{source}");
    }
    assert_eq!(complaints("src/backend/cpu/simd.rs", "unsafe fn f() {}").len(), 0);
    assert_eq!(complaints("src/chain/mod.rs", "#![deny(unsafe_code)]\nfn f() { x.unwrap_or(1); }").len(), 0);
    assert_eq!(complaints("tests/x.rs", &"\n".repeat(MAX_LINES + 1)).len(), 1);
    assert_eq!(complaints("tests/x.rs", &"\n".repeat(MAX_LINES)).len(), 0);
    let comment = |words: &str| format!("    /// {}", words.repeat(30));
    assert_eq!(complaints("src/graph/x.rs", &comment("word ")).len(), 1);
    assert_eq!(complaints("src/graph/x.rs", &comment("| 1 ")).len(), 0);
    assert_eq!(complaints("src/graph/x.rs", &comment("one")).len(), 0);
    assert_eq!(complaints("src/graph/x.rs", "    // / / Errors: none.\n// / A ratio\n// ! ! A module").len(), 3);
    assert_eq!(complaints("src/graph/x.rs", "    // a / b\n/// / b").len(), 0);
    assert_eq!(complaints("ffi/src/guard.rs", "fn f() { unsafe { g() } }").len(), 0);
    assert_eq!(complaints("ffi/src/guard.rs", "fn f() { x.unwrap() }").len(), 1);
    assert_eq!(complaints("ffi/tests/c.rs", "fn f() { x.unwrap() }").len(), 0);
}

#[test]
fn a_file_of_tests_is_known_by_its_declaration() {
    let file = |path: &str, text: &str| (path.to_string(), text.to_string());
    let sources = BTreeMap::from([
        file("src/chain/mod.rs", "#[cfg(test)]\nmod tests;\nmod save;"),
        file("src/chain/tests.rs", ""),
        file("src/chain/save.rs", "#[cfg(test)]\n#[path = \"x\"]\nmod cases;"),
        file("src/chain/save/cases.rs", ""),
    ]);
    let found: Vec<_> = test_files(&sources).into_iter().collect();
    assert_eq!(found, ["src/chain/save/cases.rs", "src/chain/tests.rs"]);
}
