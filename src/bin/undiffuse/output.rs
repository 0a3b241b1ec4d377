//! Files that are there whole or not at all, text for standard output, and a bar while the user waits.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use undiffuse::{Error, Result};

/// A file that is written under a temporary name beside its own and takes its name when [`Output::finish`] is called.
/// Dropped before that, it leaves nothing.
#[derive(Debug)]
pub struct Output {
    path: PathBuf,
    temporary: PathBuf,
    file: BufWriter<File>,
    finished: bool,
}

impl Output {
    /// Begins a file, so that a place that cannot be written is known before any work. Refuses to replace what is no
    /// regular file or is read-only.
    pub fn create(path: &Path) -> Result<Self> {
        Self::create_inner(path).map_err(|e| Error::from(e).context(format!("cannot write {}", path.display())))
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
        let file = BufWriter::new(File::create_new(&temporary)?);
        Ok(Self { path, temporary, file, finished: false })
    }

    /// Writes what is buffered and gives the file its name.
    pub fn finish(mut self) -> Result<()> {
        let done = self.file.flush().and_then(|()| fs::rename(&self.temporary, &self.path));
        self.finished = done.is_ok();
        done.map_err(|e| Error::from(e).context(format!("cannot write {}", self.path.display())))
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if !self.finished {
            // Nobody is left to tell if it fails.
            let _ = fs::remove_file(&self.temporary);
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

/// A bar on standard error, if that is a terminal.
pub fn progress(steps: usize) -> ProgressBar {
    let bar = ProgressBar::new(steps as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} step {pos} of {len}, {eta} left") {
        bar.set_style(style);
    }
    bar
}
