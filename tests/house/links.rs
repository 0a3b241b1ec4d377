//! Every link of a Markdown file to a file of this repository leads somewhere.

use std::fs;
use std::path::{Path, PathBuf};

/// All Markdown files below `dir`, but those of build folders.
fn markdown(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && name != "node_modules" && !name.starts_with('.') {
            markdown(&path, found);
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
}

/// What stands in the round brackets of `[text](target)`, outside blocks of code.
fn targets(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for prose in text.split("```").step_by(2) {
        for part in prose.split("](").skip(1) {
            found.extend(part.split([')', ' ', '\n']).next());
        }
    }
    found
}

/// The anchor that GitHub and crates.io give a heading.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn links_lead_to_files_and_headings_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    markdown(root, &mut files);
    let mut count = 0;
    for file in &files {
        let text = fs::read_to_string(file).unwrap();
        for target in targets(&text) {
            // Elsewhere, or an item of a text that rustdoc includes.
            if target.contains("://") || target.contains("::") || target.starts_with("mailto:") {
                continue;
            }
            let (path, heading) = target.split_once('#').map_or((target, None), |(p, h)| (p, Some(h)));
            let other = if path.is_empty() { file.clone() } else { file.parent().unwrap().join(path) };
            assert!(other.exists(), "{}: there is no {target}", file.display());
            if let (Some(heading), Some("md")) = (heading, other.extension().and_then(|e| e.to_str())) {
                let other = fs::read_to_string(&other).unwrap();
                let known = other.lines().filter(|l| l.starts_with('#')).any(|l| anchor(l) == heading);
                assert!(known, "{}: there is no heading of {target}", file.display());
            }
            count += 1;
        }
    }
    assert!(files.len() > 10 && count > 50, "{} files with {count} links: the walk misses some", files.len());
}
