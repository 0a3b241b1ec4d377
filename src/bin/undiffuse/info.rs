//! `undiffuse info`: what a model is and what it needs.

use undiffuse::sampler::SamplerKind;

use crate::args::{Args, Command, Outcome, Token};
use crate::output;
use crate::source::ModelArgs;

/// The command.
pub const COMMAND: Command = Command {
    name: "info",
    help: "\
Says what a model is, how it is configured and what memory a run needs.

usage: undiffuse info [PATH] [OPTION...]

  PATH            a diffusers pipeline directory or a packed file (default: the embedded digits)
  --batch N       samples at once (default 1)
  --size HxW      size of the images where the model names none
  --backend NAME  auto (default), cpu, wgpu, wgpu:INDEX (see `undiffuse devices`) or reference
  --threads N     threads of the cpu backend (default: all)
",
    run,
};

/// What a sample's elements are.
fn samples(class: SamplerKind) -> &'static str {
    match class {
        SamplerKind::Ddpm | SamplerKind::Ddim => "f32 in [-1, 1]",
        SamplerKind::Ancestral2015 => "f32",
        SamplerKind::Bits2015 => "bits, as f32",
    }
}

fn run(args: &mut Args) -> Outcome {
    let mut model = ModelArgs::default();
    let mut batch = 1;
    while let Some(token) = args.next()? {
        match token {
            Token::Option(name) => match name.as_str() {
                "batch" => batch = args.number("a whole number", 1..=usize::MAX)?,
                "help" | "h" => return Ok(output::say(COMMAND.help)?),
                other => {
                    if !model.option(other, args)? {
                        return args.unknown(other);
                    }
                }
            },
            Token::Value(path) => model.value(path, args)?,
        }
    }
    model.check()?;
    let source = model.open()?;
    let pipeline = model.compile(&source)?;
    let lines = [
        ("model", format!("{}, {}", model.name(), pipeline.model().class_name())),
        ("samples", format!("{} of {}", pipeline.sample_dims(), samples(pipeline.scheduler().class))),
        ("parameters", pipeline.parameter_count().to_string()),
        ("network call", format!("{:.3} GFLOP for one sample", pipeline.flops() as f64 / 1e9)),
        ("backend", pipeline.network().describe()),
        ("weights", format!("{} bytes", pipeline.weight_bytes())),
        ("device", format!("{} bytes for a batch of {batch}", pipeline.device_bytes(batch)?)),
        ("workspace", format!("{} bytes for a batch of {batch}", pipeline.workspace_bytes(batch)?)),
    ];
    let mut text = String::new();
    for (name, value) in lines {
        text.push_str(&format!("{name:<14}{value}\n"));
    }
    text.push_str(&format!("\nmodel config\n{}\n", source.model_json().trim()));
    text.push_str(&format!("\nscheduler config\n{}\n", pipeline.scheduler().to_json()));
    Ok(output::say(&text)?)
}
