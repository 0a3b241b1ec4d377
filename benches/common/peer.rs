//! The part of a peer's program that knows nothing of the peer; benches/rten has the rest of one.
//!
//!     PROGRAM serve|once FOLDER THREADS
//!
//! FOLDER holds `network.onnx` and `inputs.txt`, a line for each input: its name, `f32` or `i64`, its dimensions; its
//! values lie in `NAME.bin` as the processor holds them. `serve` makes one call, leaves its result in `y-PROGRAM.bin`,
//! says "ready" and then makes a call for each empty line on the standard input, answering with its nanoseconds; any
//! other line it answers with the most bytes that the process has had. `once` makes one call, says "done" and these
//! bytes, and ends.

use std::error::Error;
use std::fs;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

#[path = "resident.rs"]
mod resident;

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// An input's values, in the type that the file wants.
pub enum Values {
    F32(Vec<f32>),
    I64(Vec<i64>),
}

pub struct Input {
    pub name: String,
    pub dims: Vec<usize>,
    pub values: Values,
}

/// What a peer is to load.
pub struct Job {
    pub model: PathBuf,
    pub inputs: Vec<Input>,
    pub threads: usize,
    /// One call only, so that nothing pays that is done for later ones.
    pub once: bool,
}

/// A call of the loaded network, which gives the first output.
pub type Call = Box<dyn FnMut() -> Result<Vec<f32>>>;

fn numbers<const N: usize, T>(path: &Path, from: fn([u8; N]) -> T) -> Result<Vec<T>> {
    Ok(fs::read(path)?.as_chunks().0.iter().map(|b| from(*b)).collect())
}

fn inputs(folder: &Path) -> Result<Vec<Input>> {
    let text = fs::read_to_string(folder.join("inputs.txt"))?;
    text.lines()
        .map(|line| {
            let mut words = line.split_whitespace();
            let (Some(name), Some(kind)) = (words.next(), words.next()) else {
                return Err(format!("inputs.txt: expected a name and a type, got {line:?}").into());
            };
            let dims = words.map(str::parse).collect::<std::result::Result<Vec<usize>, _>>()?;
            let path = folder.join(format!("{name}.bin"));
            let values = match kind {
                "f32" => Values::F32(numbers(&path, f32::from_ne_bytes)?),
                "i64" => Values::I64(numbers(&path, i64::from_ne_bytes)?),
                other => return Err(format!("inputs.txt: {other}: no such type").into()),
            };
            Ok(Input { name: name.into(), dims, values })
        })
        .collect()
}

fn run(program: &str, load: fn(Job) -> Result<Call>) -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [what, folder, threads] = args.as_slice() else { return Err("usage: serve|once FOLDER THREADS".into()) };
    let once = match what.as_str() {
        "once" => true,
        "serve" => false,
        other => return Err(format!("{other}: expected serve or once").into()),
    };
    let folder = Path::new(folder);
    let job = Job { model: folder.join("network.onnx"), inputs: inputs(folder)?, threads: threads.parse()?, once };
    let mut call = load(job)?;
    let y = call()?;
    let mut out = std::io::stdout().lock();
    if once {
        writeln!(out, "done {}", resident::most())?;
        return Ok(());
    }
    let bytes: Vec<u8> = y.iter().flat_map(|v| v.to_ne_bytes()).collect();
    fs::write(folder.join(format!("y-{program}.bin")), bytes)?;
    writeln!(out, "ready {program}")?;
    out.flush()?;
    for line in std::io::stdin().lock().lines() {
        let answer = if line?.is_empty() {
            let start = Instant::now();
            call()?;
            start.elapsed().as_nanos()
        } else {
            resident::most() as u128
        };
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

/// The whole program, but for how its peer loads and calls.
pub fn main(program: &str, load: fn(Job) -> Result<Call>) {
    if let Err(e) = run(program, load) {
        eprintln!("{program}: {e}");
        std::process::exit(1);
    }
}
