//! Files that are there whole or not at all, text for standard output, and a bar while the user waits.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use undiffuse::{Error, Result};

use crate::preview::Preview;

/// What a path of one `-` means: standard input or output.
pub const STANDARD: &str = "-";

static QUIET: AtomicBool = AtomicBool::new(false);
static JSON: AtomicBool = AtomicBool::new(false);
/// Whether standard output is a file of samples.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// A number in a message, which is not written with all of its zeros.
pub fn number(x: f32) -> String {
    if x.abs() < 1e7 { x.to_string() } else { format!("{x:e}") }
}

/// From now on there is no bar, no note and no summary.
pub fn set_quiet() {
    QUIET.store(true, Ordering::Relaxed);
}

/// Whether nobody wants to be told how a run goes.
pub fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// From now on a summary is JSON.
pub fn set_json() {
    JSON.store(true, Ordering::Relaxed);
}

/// A file that is written under a temporary name beside its own and takes its name when [`Output::finish`] is called.
/// Dropped before that, it leaves nothing. What is written to `-` goes to standard output then, all at once.
#[derive(Debug)]
pub struct Output {
    path: PathBuf,
    sink: Sink,
}

#[derive(Debug)]
enum Sink {
    Standard(Vec<u8>),
    File { temporary: PathBuf, file: Option<BufWriter<File>>, finished: bool },
}

impl Output {
    /// Begins a file, so that a place that cannot be written is known before any work. Refuses to replace what is no
    /// regular file or is read-only.
    pub fn create(path: &Path) -> Result<Self> {
        if path == Path::new(STANDARD) {
            TAKEN.store(true, Ordering::Relaxed);
            return Ok(Self { path: path.into(), sink: Sink::Standard(Vec::new()) });
        }
        Self::create_inner(path).map_err(|e| Error::from(e).context(format_args!("cannot write {}", path.display())))
    }

    fn create_inner(path: &Path) -> io::Result<Self> {
        let mut path = path.to_path_buf();
        match fs::metadata(&path) {
            Ok(there) if !there.is_file() => return Err(io::Error::other("it is there and no regular file")),
            Ok(there) if there.permissions().readonly() => return Err(io::Error::other("it is there and read-only")),
            // The file behind a symbolic link is meant, not the link.
            Ok(_) => path = fs::canonicalize(&path)?,
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        let name = path.file_name().ok_or_else(|| io::Error::other("it names no file"))?;
        let mut temporary = OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{}.part", std::process::id()));
        let temporary = path.with_file_name(temporary);
        let file = Some(BufWriter::new(File::create_new(&temporary)?));
        Ok(Self { path, sink: Sink::File { temporary, file, finished: false } })
    }

    /// Writes what is buffered and closes the file, which keeps its temporary name until [`Output::finish`].
    pub fn close(&mut self) -> Result<()> {
        let done = match &mut self.sink {
            Sink::Standard(_) => Ok(()),
            Sink::File { file, .. } => file.take().map_or(Ok(()), |mut file| file.flush()),
        };
        done.map_err(|e| Error::from(e).context(format_args!("cannot write {}", self.path.display())))
    }

    /// Writes what is buffered and gives the file its name.
    pub fn finish(mut self) -> Result<()> {
        self.close()?;
        let done = match &mut self.sink {
            Sink::Standard(bytes) => {
                let mut out = io::stdout().lock();
                out.write_all(bytes).and_then(|()| out.flush())
            }
            Sink::File { temporary, finished, .. } => {
                let done = fs::rename(temporary, &self.path);
                *finished = done.is_ok();
                done
            }
        };
        done.map_err(|e| Error::from(e).context(format_args!("cannot write {}", self.path.display())))
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.sink {
            Sink::Standard(all) => {
                all.try_reserve(bytes.len()).map_err(|_| io::Error::from(ErrorKind::OutOfMemory))?;
                all.write(bytes)
            }
            Sink::File { file: Some(file), .. } => file.write(bytes),
            Sink::File { file: None, .. } => Err(io::Error::other("the file is closed")),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.sink {
            Sink::File { file: Some(file), .. } => file.flush(),
            _ => Ok(()),
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Sink::File { temporary, file, finished: false } = &mut self.sink {
            drop(file.take());
            // Nobody is left to tell if it fails.
            let _ = fs::remove_file(temporary);
        }
    }
}

/// Writes text to standard output. A reader that has gone away is no failure.
pub fn say(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Error::from(e).context("standard output")),
        _ => Ok(()),
    }
}

/// What a run did, for a person or, with `--json`, for a program: one object of these fields. It stands on standard
/// output, or on standard error where that is taken by samples.
pub fn report(text: &str, json: &Value) -> Result<()> {
    if JSON.load(Ordering::Relaxed) {
        let line = format!("{json}\n");
        return if TAKEN.load(Ordering::Relaxed) { complain(&line) } else { say(&line) };
    }
    if QUIET.load(Ordering::Relaxed) {
        return Ok(());
    }
    if TAKEN.load(Ordering::Relaxed) { complain(text) } else { say(text) }
}

/// A line for the user beside what is asked for, unless `--quiet`.
pub fn note(text: &str) -> Result<()> {
    if QUIET.load(Ordering::Relaxed) { Ok(()) } else { complain(&format!("undiffuse: {text}\n")) }
}

fn complain(text: &str) -> Result<()> {
    io::stderr().lock().write_all(text.as_bytes()).map_err(|e| Error::from(e).context("standard error"))
}

/// A bar on standard error, if that is a terminal and nothing is drawn there.
pub fn progress(steps: usize, preview: Option<&Preview>) -> ProgressBar {
    if preview.is_some_and(Preview::is_on_terminal) || is_quiet() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(steps as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} step {pos} of {len}, {eta} left") {
        bar.set_style(style);
    }
    bar
}
