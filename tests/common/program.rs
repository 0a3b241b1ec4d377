//! The program run in a directory, for tests of its commands.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

pub fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_undiffuse"));
    command.current_dir(dir).args(args).stdin(Stdio::null());
    // Mesa writes to stderr where there is none, once a driver is opened.
    command.env("XDG_RUNTIME_DIR", dir);
    command
}

pub fn run(dir: &Path, args: &[&str]) -> Output {
    command(dir, args).output().unwrap()
}

/// Runs what must succeed and gives its standard output.
pub fn ok(dir: &Path, args: &[&str]) -> String {
    let out = run(dir, args);
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    assert!(out.stderr.is_empty(), "{args:?} wrote to stderr, which is no terminal");
    String::from_utf8(out.stdout).unwrap()
}

/// All files below a directory.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { all.extend(files(&path)) } else { all.push(path) }
    }
    all.sort();
    all
}

/// Runs what must fail, in one or two lines that contain `text`.
pub fn refused(dir: &Path, args: &[&str], code: i32, text: &str) {
    let out = run(dir, args);
    let said = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(code), "{args:?}: {said}");
    assert!(out.stdout.is_empty(), "{args:?}");
    assert!((1..=2).contains(&said.lines().count()) && said.len() < 1000, "{args:?}: {said}");
    assert!(said.starts_with("undiffuse: ") && said.contains(text), "{args:?}: {said}");
}
