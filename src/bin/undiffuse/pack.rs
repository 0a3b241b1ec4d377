//! `undiffuse pack`: a diffusers directory as one file.

use std::io::Write;
use std::path::{Path, PathBuf};

use undiffuse::Result;
use undiffuse::pipeline::Source;
use undiffuse::tensor::DType;

use crate::args::{Args, Command, Outcome, Token, usage};
use crate::interrupt;
use crate::output::{self, Output};

/// The command.
pub const COMMAND: Command = Command {
    name: "pack",
    help: "\
Turns a diffusers pipeline directory into one file that needs no file system to load.

usage: undiffuse pack DIRECTORY OUTPUT [--dtype f16|bf16|f32]

  DIRECTORY     a UNet2DModel pipeline: unet/config.json, unet/*.safetensors, scheduler/scheduler_config.json,
                or all of them in one directory
  OUTPUT        the packed file, a .safetensors file
  --dtype TYPE  how matrices and kernels are stored: f16 (default), bf16 or f32; biases and norms stay f32
",
    run,
};

fn run(args: &mut Args) -> Outcome {
    let mut paths: Vec<PathBuf> = Vec::new();
    let mut dtype = DType::F16;
    while let Some(token) = args.next()? {
        match token {
            Token::Option(name) => match name.as_str() {
                "dtype" => {
                    dtype = args.choice(&[("f16", DType::F16), ("bf16", DType::BF16), ("f32", DType::F32)])?;
                }
                "help" | "h" => return Ok(output::say(COMMAND.help)?),
                other => return args.unknown(other),
            },
            Token::Value(path) if paths.len() < 2 => paths.push(path.into()),
            Token::Value(other) => return args.unexpected(&other),
        }
    }
    let [directory, to] = paths.as_slice() else {
        return usage!("pack needs DIRECTORY and OUTPUT; {}", args.see_help());
    };
    let bytes = pack(directory, to, dtype)?;
    Ok(output::say(&format!("{}: {bytes} bytes\n", to.display()))?)
}

/// Gives the bytes written.
fn pack(directory: &Path, to: &Path, dtype: DType) -> Result<u64> {
    let source = Source::open(directory)?;
    let cancel = interrupt::install()?;
    let mut out = Output::create(to)?;
    let mut bytes = 0;
    source.pack(dtype, &mut |piece| {
        cancel.check()?;
        bytes += piece.len() as u64;
        Ok(out.write_all(piece)?)
    })?;
    out.finish()?;
    Ok(bytes)
}
