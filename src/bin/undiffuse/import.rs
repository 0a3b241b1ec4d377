//! `undiffuse import`: an ONNX file of a denoiser as a packed file.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::json;
use undiffuse::graph::{Input, Role};
use undiffuse::import::{self, ImportOptions, Imported};
use undiffuse::npy::{self, NpyArray};
use undiffuse::pipeline::{PipelineOptions, Source};
use undiffuse::tensor::DType;
use undiffuse::{Cancel, Error, ErrorKind, Result};

use crate::args::{Args, Command, Outcome, Token, usage};
use crate::interrupt;
use crate::output::{self, Output};
use crate::source::scheduler_text;

/// The relative error above which nothing is written.
const TOLERANCE: f64 = 1e-4;

/// The command.
pub const COMMAND: Command = Command {
    name: "import",
    help: "\
Turns an ONNX file of a denoiser, as PyTorch's exporters write it, into a packed file.

usage: undiffuse import MODEL OUTPUT [OPTION...]

  MODEL         an .onnx file, exported for one sample (or an open batch); weights beside it are read too
  OUTPUT        the packed file, a .safetensors file; it has the network itself, for one size
  --role NAME=ROLE
                what an input is for: sample, timestep, class, class_vector, vector, tokens, image, mask or value.
                Known by name are sample and x; timestep, timesteps, time, t and noise_labels; class_labels and y;
                encoder_hidden_states and context (tokens); global_cond (a vector). Any other must be said
  --input NAME=DIMS
                the dimensions of an input that the file leaves open, as in sample=1x3x32x32
  --prediction NAME
                the output that is the prediction, where the file has several
  --dtype TYPE  how matrices and kernels are stored: f32 (default), f16 or bf16; the check below is before that
  --scheduler S  a scheduler_config.json, a pipeline's directory or JSON text, for sampling
  --check-input NAME=FILE
                an input of a run of the original, a .npy array with the batch: one for each input
  --check-output FILE
                what the original made of them, a .npy array: the imported network is run on the same, and the
                relative L2 error is told; above the tolerance nothing is written
  --tolerance E  the largest relative error (default: 1e-4)
",
    run,
};

#[derive(Default)]
struct Check {
    inputs: BTreeMap<String, PathBuf>,
    output: Option<PathBuf>,
    tolerance: f64,
}

fn run(args: &mut Args) -> Outcome {
    let mut options = ImportOptions::default();
    let mut check = Check { tolerance: TOLERANCE, ..Check::default() };
    let mut paths: Vec<PathBuf> = Vec::new();
    let (mut dtype, mut scheduler) = (DType::F32, None);
    while let Some(token) = args.next()? {
        match token {
            Token::Option(name) => match name.as_str() {
                "role" => {
                    let (input, role) = pair(args, "--role", "sample=sample")?;
                    let words = Role::NAMES.iter().filter(|(_, r)| *r != Role::Cotangent);
                    let known: Vec<&str> = words.map(|(word, _)| *word).collect();
                    let found = Role::NAMES.iter().find(|(word, _)| *word == role && known.contains(word));
                    match found {
                        Some((_, role)) => once(&mut options.roles, "--role", input, *role)?,
                        None => return usage!("--role {input} is {role:?}, expected {}", known.join(", ")),
                    }
                }
                "input" => {
                    let (input, text) = pair(args, "--input", "sample=1x3x32x32")?;
                    let dims: Option<Vec<usize>> = text.split('x').map(|d| d.parse().ok().filter(|&n| n > 0)).collect();
                    match dims {
                        Some(dims) => once(&mut options.dims, "--input", input, dims)?,
                        None => return usage!("--input {input} is {text:?}, expected dimensions as in 1x3x32x32"),
                    }
                }
                "prediction" => options.output = Some(args.text()?),
                "dtype" => {
                    dtype = args.choice(&[("f32", DType::F32), ("f16", DType::F16), ("bf16", DType::BF16)])?;
                }
                "scheduler" => scheduler = Some(args.text()?),
                "check-input" => {
                    let (input, file) = pair(args, "--check-input", "sample=x.npy")?;
                    once(&mut check.inputs, "--check-input", input, file.into())?;
                }
                "check-output" => check.output = Some(args.path()?),
                "tolerance" => check.tolerance = args.number("a number", 0.0..=1e9)?,
                other => return args.unknown(other),
            },
            Token::Value(path) if paths.len() < 2 => paths.push(path.into()),
            Token::Value(other) => return args.unexpected(&other),
        }
    }
    let [from, to] = paths.as_slice() else {
        return usage!("import needs MODEL and OUTPUT; {}", args.see_help());
    };
    if check.inputs.is_empty() != check.output.is_none() {
        return usage!("--check-input and --check-output belong together; {}", args.see_help());
    }
    let scheduler = scheduler.map(|s| scheduler_text(&s)).transpose()?;
    let done = import(from, to, &options, scheduler, dtype, &check)?;
    let mut text = format!("{}: {} bytes, {} parameters\n", to.display(), done.bytes, done.parameters);
    for input in &done.inputs {
        text.push_str(&format!("  input {} ({}) {}\n", input.name, input.role.name(), input.given_dims()));
    }
    if let Some(error) = done.error {
        text.push_str(&format!("  relative error {error:.2e} on the given arrays\n"));
    }
    let inputs = done.inputs.iter();
    let inputs: Vec<_> =
        inputs.map(|i| json!({ "name": i.name, "role": i.role.name(), "dims": i.given_dims().as_slice() })).collect();
    let json = json!({
        "output": to.display().to_string(),
        "bytes": done.bytes,
        "parameters": done.parameters,
        "inputs": inputs,
        "relative_error": done.error,
    });
    Ok(output::report(&text, &json)?)
}

/// `NAME=VALUE`.
fn pair(args: &mut Args, option: &str, example: &str) -> Outcome<(String, String)> {
    let text = args.text()?;
    match text.split_once('=').filter(|(name, value)| !name.is_empty() && !value.is_empty()) {
        Some((name, value)) => Ok((name.into(), value.into())),
        None => usage!("{option} is {text:?}, expected NAME=VALUE as in {example}"),
    }
}

fn once<T>(map: &mut BTreeMap<String, T>, option: &str, name: String, value: T) -> Outcome {
    if map.contains_key(&name) {
        return usage!("{option} names the input {name:?} twice");
    }
    map.insert(name, value);
    Ok(())
}

struct Done {
    bytes: u64,
    parameters: usize,
    inputs: Vec<Input>,
    error: Option<f64>,
}

fn import(
    from: &Path,
    to: &Path,
    options: &ImportOptions,
    scheduler: Option<String>,
    dtype: DType,
    check: &Check,
) -> Result<Done> {
    let cancel = interrupt::install()?;
    let mut out = Output::create(to)?;
    let network = import::open(from, options)?;
    let (parameters, inputs) = (network.graph().parameter_count(), network.graph().signature());
    let source = source(network, scheduler).map_err(|e| e.context(from.display()))?;
    let error = match &check.output {
        None => None,
        Some(output) => {
            let error = relative_error(&source, &inputs, &check.inputs, output, cancel)?;
            if error.is_nan() || error > check.tolerance {
                let text = format!(
                    "{}: the imported network differs from {} by {error:.2e} (relative L2), expected at most {:.0e}; nothing was written",
                    from.display(),
                    output.display(),
                    check.tolerance
                );
                return Err(Error::new(ErrorKind::InvalidArgument, text));
            }
            Some(error)
        }
    };
    let mut bytes = 0;
    source.pack(dtype, &mut |piece: &[u8]| {
        cancel.check()?;
        bytes += piece.len() as u64;
        Ok(out.write_all(piece)?)
    })?;
    out.finish()?;
    Ok(Done { bytes, parameters, inputs, error })
}

fn source(network: Imported, scheduler: Option<String>) -> Result<Source<'static>> {
    Source::new(network.graph().to_json()?, scheduler, Box::new(network))
}

/// The relative L2 error of the network on given inputs, by what the original made of them.
fn relative_error(
    source: &Source<'_>,
    inputs: &[Input],
    files: &BTreeMap<String, PathBuf>,
    output: &Path,
    cancel: &Cancel,
) -> Result<f64> {
    let shape = |text: String| Error::new(ErrorKind::Shape, text);
    if let Some(other) = files.keys().find(|name| !inputs.iter().any(|i| i.name == **name)) {
        let names: Vec<&str> = inputs.iter().map(|i| i.name.as_str()).collect();
        let text = format!("--check-input {other}: the network has no such input, but {}", names.join(", "));
        return Err(Error::new(ErrorKind::InvalidArgument, text));
    }
    let mut arrays: Vec<NpyArray> = Vec::new();
    for input in inputs {
        let path = files.get(&input.name).ok_or_else(|| {
            let text = format!("--check-input {}=FILE is missing: each input needs one", input.name);
            Error::new(ErrorKind::InvalidArgument, text)
        })?;
        arrays.push(npy::read(path)?);
    }
    let wanted = npy::read(output)?;
    let batch = wanted.shape.first().copied().unwrap_or(1);
    let backend = undiffuse::backend::cpu::Cpu::new()?;
    let pipeline = source.compile(&backend, &PipelineOptions::default())?;
    let network = pipeline.network();
    let mut held: Vec<Vec<f32>> = Vec::new();
    for (input, array) in inputs.iter().zip(&arrays) {
        let len = input.dims.elements();
        let rows = array.values.len() / len.max(1);
        if array.values.len() != rows * len || (rows != batch && rows != 1) {
            let text = format!(
                "--check-input {} is {:?}, expected a batch of 1 or {batch} of {}",
                input.name,
                array.shape,
                input.given_dims()
            );
            return Err(shape(text));
        }
        undiffuse::error::check_finite(&input.name, &array.values)?;
        let mut all = Vec::with_capacity(len * batch);
        for i in 0..batch {
            let row = array.values.chunks_exact(len.max(1)).nth(i % rows.max(1)).unwrap_or_default();
            match (input.role, input.dims.as_slice()) {
                // [L, D] as given, [D, L] as the network takes them.
                (Role::Tokens, &[d, l]) => {
                    all.extend((0..len).map(|j| row.get(j % l * d + j / l).copied().unwrap_or_default()));
                }
                _ => all.extend_from_slice(row),
            }
        }
        held.push(all);
    }
    let len = network.outputs().first().map_or(0, |d| d.elements());
    if wanted.values.len() != len * batch {
        let text = format!(
            "--check-output is {:?}, but the network makes {} for each sample",
            wanted.shape,
            network.outputs().first().map_or(String::new(), ToString::to_string)
        );
        return Err(shape(text));
    }
    let given: Vec<&[f32]> = held.iter().map(Vec::as_slice).collect();
    let mut made = vec![0.0; len * batch];
    let mut workspace = vec![0.0; network.workspace_len(batch)?];
    network.run(batch, &given, &mut [&mut made], &mut workspace, cancel)?;
    let square = |v: f32| f64::from(v) * f64::from(v);
    let difference: f64 = made.iter().zip(&wanted.values).map(|(a, b)| square(a - b)).sum();
    let norm: f64 = wanted.values.iter().map(|&b| square(b)).sum();
    Ok((difference / norm).sqrt())
}
