//! `undiffuse pack`: a diffusers directory as one file.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::json;
use undiffuse::Result;
use undiffuse::backend::cpu::Cpu;
use undiffuse::calibrate::{CalibrationOptions, calibrate};
use undiffuse::tensor::DType;

use crate::args::{Args, Command, Outcome, Token, usage};
use crate::interrupt;
use crate::output::{self, Output};
use crate::source::ModelArgs;

/// The command.
pub const COMMAND: Command = Command {
    name: "pack",
    help: "\
Turns a diffusers pipeline directory into one file that needs no file system to load.

usage: undiffuse pack DIRECTORY OUTPUT [OPTION...]

  DIRECTORY     a UNet2DModel pipeline: unet/config.json, unet/*.safetensors, scheduler/scheduler_config.json,
                or all of them in one directory; or a model's own directory, without a scheduler
  OUTPUT        the packed file, a .safetensors file
  --weights W   how matrices and kernels are stored: f16 (default), bf16, f32, int8, integers with a
                factor for each output channel, or int4, with one for each 32 weights; biases and norms stay f32
  --dtype W     the same
  --calibrate   with the scales that --precision int8 needs, from what layers read while 16 samples are made;
                a file that has them already keeps them without
  --scheduler S  a scheduler_config.json, a pipeline's directory or JSON text, in place of the model's
                 own or where it has none
  --graph       with the network itself in place of its configuration: one graph, for one size
  --size HxW    the size of that graph, where it is not the model's own
",
    run,
};

/// How weights are stored, by name.
const TYPES: [(&str, DType); 5] =
    [("f16", DType::F16), ("bf16", DType::BF16), ("f32", DType::F32), ("int8", DType::I8), ("int4", DType::I4)];

fn run(args: &mut Args) -> Outcome {
    let mut model = ModelArgs::default();
    let mut paths: Vec<PathBuf> = Vec::new();
    let (mut dtype, mut graph, mut calibrated) = (DType::F16, false, false);
    while let Some(token) = args.next()? {
        match token {
            Token::Option(name) => match name.as_str() {
                "weights" | "dtype" => dtype = args.choice(&TYPES)?,
                "graph" => graph = true,
                "calibrate" => calibrated = true,
                other => {
                    if !matches!(other, "scheduler" | "size") || !model.option(other, args)? {
                        return args.unknown(other);
                    }
                }
            },
            Token::Value(path) if paths.len() < 2 => paths.push(path.into()),
            Token::Value(other) => return args.unexpected(&other),
        }
    }
    let [directory, to] = paths.as_slice() else {
        return usage!("pack needs DIRECTORY and OUTPUT; {}", args.see_help());
    };
    if model.size().is_some() && !graph {
        return usage!("--size is for --graph; a configuration serves all sizes");
    }
    model.value(directory.into(), args)?;
    let bytes = pack(&model, to, dtype, [graph, calibrated])?;
    let json = json!({ "output": to.display().to_string(), "bytes": bytes });
    Ok(output::report(&format!("{}: {bytes} bytes\n", to.display()), &json)?)
}

/// Gives the bytes written.
fn pack(model: &ModelArgs, to: &Path, dtype: DType, [graph, calibrated]: [bool; 2]) -> Result<u64> {
    let mut source = model.open()?;
    let cancel = interrupt::install()?;
    if calibrated {
        let options = CalibrationOptions { size: model.size(), ..CalibrationOptions::default() };
        source.set_activations(calibrate(&source, &Cpu::new()?, &options).map_err(|e| e.context("--calibrate"))?);
    }
    let mut out = Output::create(to)?;
    let mut bytes = 0;
    let mut sink = |piece: &[u8]| {
        cancel.check()?;
        bytes += piece.len() as u64;
        Ok(out.write_all(piece)?)
    };
    match graph {
        true => source.pack_graph(model.size(), dtype, &mut sink)?,
        false => source.pack(dtype, &mut sink)?,
    }
    out.finish()?;
    Ok(bytes)
}
