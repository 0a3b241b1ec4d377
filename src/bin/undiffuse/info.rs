//! `undiffuse info`: what a model is and what it needs.

use serde_json::{Value, json};
use undiffuse::Result;
use undiffuse::graph::Input;
use undiffuse::model::ModelConfig;
use undiffuse::model::autoencoder::LatentScale;
use undiffuse::pipeline::{Decoding, Pipeline};
use undiffuse::sampler::{PreconditioningRule, SamplerKind, SchedulerConfig};

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
  --model PATH    the model, by the option that all commands have
  --batch N       samples at once (default 1)
  --scheduler S   a scheduler_config.json, a pipeline's directory or JSON text, in place of the
                  model's own
  --size HxW      size of the images where the model names none; of a latent model that of the latents
  --decode-bytes N
                  of a latent model: decodes in tiles what would take more than N bytes in one piece (default 1073741824)
  --backend NAME  auto (default), cpu, wgpu, wgpu:INDEX (see `undiffuse devices`) or reference
  --threads N     threads of the cpu backend (default: all)
  --weights TYPE  how the cpu backend keeps weights: f32 (default), f16, bf16, int8 or int4 (narrower is smaller, and faster where few values share
                  a weight; sums are f32)
  --precision P   what the network computes in: f32 (default), bf16 (linear and small layers, with AMX large ones too; it gains by AMX
                  and by AMD's bf16) or int8 (8-bit integers in layers of a model that `pack --calibrate` wrote)
",
    run,
};

/// What a sample's elements are, which the scheduler says.
fn samples(pipeline: &Pipeline, scheduler: &Result<SchedulerConfig>) -> &'static str {
    if pipeline.decoder().is_some() {
        return "latents, f32";
    }
    let is_of_images = pipeline.model().is_of_images();
    match scheduler.as_ref().map(|s| s.class) {
        Ok(SamplerKind::Ancestral2015) => "f32",
        Ok(SamplerKind::Bits2015) => "bits, as f32",
        Ok(SamplerKind::D3pm) => "classes, one-hot rows of f32",
        Err(_) if !is_of_images => "f32",
        _ => "f32 in [-1, 1]",
    }
}

fn run(args: &mut Args) -> Outcome {
    let mut model = ModelArgs::default();
    model.set_decoding(Decoding::default());
    model.set_encodes();
    let mut batch = 1;
    while let Some(token) = args.next()? {
        match token {
            Token::Option(name) => match name.as_str() {
                "batch" => batch = args.number("a whole number", 1..=usize::MAX)?,
                other => {
                    if !model.option(other, args)? && (other == "latents" || !model.decoding(other, args)?) {
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
    let scheduler = pipeline.scheduler();
    let lines = [
        ("model", format!("{}, {}", model.name(), pipeline.model().class_name())),
        ("samples", format!("{} of {}", pipeline.sample_dims(), samples(&pipeline, &scheduler))),
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
    for (name, part) in parts(&pipeline)? {
        text.push_str(&format!("{name:<14}{part}\n"));
    }
    let scale = if pipeline.decoder().is_some() { source.autoencoder()?.map(|config| config.scale) } else { None };
    if let Some(scale) = &scale {
        let [divisor, shift] = numbers(scale);
        text.push_str(&format!("{:<14}the decoder takes x / {divisor} + {shift}\n", "latents"));
    }
    for input in pipeline.inputs() {
        let classes = input.rows.map_or(String::new(), |n| format!(", 0 to {}", n.saturating_sub(1)));
        let (dims, role) = (input.given_dims(), input.role.name());
        text.push_str(&format!("{:<14}{} {dims}, {role}, {}{classes}\n", "input", input.name, element(input)));
    }
    for file in source.files() {
        text.push_str(&format!("{:<14}{file}\n", "read"));
    }
    for remark in source.remarks() {
        text.push_str(&format!("{:<14}{remark}\n", "note"));
    }
    // The model's own, or what its scheduler says.
    let preconditioning = source.preconditioning().ok().flatten();
    let preconditioning = preconditioning.or(scheduler.as_ref().ok().and_then(|s| s.preconditioning));
    let begins_at_pictures = preconditioning.is_some_and(|p| matches!(p.rule, PreconditioningRule::Denoiser { .. }));
    let preconditioning = preconditioning.map(|p| p.to_json());
    if let Some(p) = &preconditioning {
        let row = p.split_whitespace().collect::<Vec<_>>().join(" ");
        text.push_str(&format!("{:<14}{row}\n", "precondition"));
    }
    match source.model() {
        ModelConfig::Graph(graph) => {
            text.push_str(&format!("\nmodel config\na graph of {} operations in the file\n", graph.nodes().len()));
        }
        _ => text.push_str(&format!("\nmodel config\n{}\n", source.model_json().trim())),
    }
    let json = json!({
        "model": model.name(),
        "class": pipeline.model().class_name(),
        "shape": pipeline.sample_dims().as_slice(),
        "samples": samples(&pipeline, &scheduler),
        "decoder": decoder_json(&pipeline)?,
        "encoder": encoder_json(&pipeline)?,
        "latent_scale": scale.as_ref().map(|s| json!({ "divisor": s.divisor, "shift": s.shift })),
        "inputs": pipeline.inputs().iter().map(|i| json!({
            "name": i.name,
            "role": i.role.name(),
            "shape": i.given_dims().as_slice(),
            "element": element(i),
            "classes": i.rows,
        })).collect::<Vec<_>>(),
        "parameters": pipeline.parameter_count(),
        "flops": pipeline.flops(),
        "backend": pipeline.network().describe(),
        "batch": batch,
        "weights": pipeline.weight_bytes(),
        "device": pipeline.device_bytes(batch)?,
        "workspace": pipeline.workspace_bytes(batch)?,
        "read": source.files().iter().map(ToString::to_string).collect::<Vec<_>>(),
        "notes": source.remarks().iter().map(ToString::to_string).collect::<Vec<_>>(),
        "model_config": parsed(source.model_json()),
        "scheduler_config": scheduler.as_ref().ok().map(|s| parsed(&s.to_json())),
        "preconditioning": preconditioning.as_deref().map(parsed),
        "scheduler_found": source.scheduler_json().map(parsed),
        "scheduler_error": scheduler.as_ref().err().map(ToString::to_string),
    });
    text.push_str(&match (scheduler, source.scheduler_json()) {
        (Ok(config), _) => format!("\nscheduler config\n{}\n", config.to_json()),
        // As it stands, with what keeps a sampler from running as it says.
        (Err(e), Some(found)) => format!("\nscheduler config, not understood: {e}\n{}\n", found.trim()),
        (Err(_), None) if begins_at_pictures => {
            "\nscheduler config\nnone, as a denoiser of a stated sigma has no schedule\n".into()
        }
        (Err(_), None) => "\nscheduler config\nnone; commands that need one take --scheduler\n".into(),
    });
    Ok(output::report(&text, &json)?)
}

/// In how many pieces an autoencoder runs.
fn pieces(tiles: usize, [h, w]: [usize; 2]) -> String {
    match tiles {
        1 => "in one piece".into(),
        n => format!("in {n} tiles of {h} x {w} latents"),
    }
}

/// Divisor and shift, of each channel where they differ.
fn numbers(scale: &LatentScale) -> [String; 2] {
    [&scale.divisor, &scale.shift].map(|of| match of.as_slice() {
        [first, rest @ ..] if rest.iter().all(|v| v == first) => first.to_string(),
        each => format!("{each:?}"),
    })
}

/// The lines on the parts of a latent model beside its denoiser: name, what there is to say.
fn parts(pipeline: &Pipeline) -> Result<Vec<(&'static str, String)>> {
    let mut lines = Vec::new();
    let mut class = "";
    if let Some(d) = pipeline.decoder() {
        class = d.class_name();
        let pieces = pieces(d.tiles(), d.tile());
        lines.extend([
            ("decoder", format!("{class}, from {} to {}, {pieces}", pipeline.sample_dims(), d.data_dims()?)),
            ("decoder", format!("{} parameters, {} bytes of weights", d.parameter_count(), d.weight_bytes())),
            ("decoder", format!("{} bytes of workspace, {} on a device", pipeline.codec_bytes()?, d.device_bytes()?)),
        ]);
    }
    if let Some(e) = pipeline.encoder() {
        let what = if e.has_posterior() { "a distribution, sampled" } else { "a point" };
        let pieces = pieces(e.tiles(), e.tile());
        lines.push((
            "encoder",
            format!("{class}, from {} to {}, {what}, {pieces}", e.data_dims()?, pipeline.sample_dims()),
        ));
        lines.push(("encoder", format!("{} bytes of weights, for `sample --image`", e.weight_bytes())));
    }
    Ok(lines)
}

/// The same of the encoder for scripts; null where there is none.
fn encoder_json(pipeline: &Pipeline) -> Result<Value> {
    let Some(e) = pipeline.encoder() else { return Ok(Value::Null) };
    Ok(json!({
        "shape": e.data_dims()?.as_slice(),
        "posterior": e.has_posterior(),
        "tiles": e.tiles(),
        "tile": e.tile(),
        "weights": e.weight_bytes(),
    }))
}

/// The same for scripts; null where there is none.
fn decoder_json(pipeline: &Pipeline) -> Result<Value> {
    let Some(d) = pipeline.decoder() else { return Ok(Value::Null) };
    Ok(json!({
        "class": d.class_name(),
        "shape": d.data_dims()?.as_slice(),
        "tiles": d.tiles(),
        "tile": d.tile(),
        "parameters": d.parameter_count(),
        "weights": d.weight_bytes(),
        "device": d.device_bytes()?,
        "workspace": pipeline.codec_bytes()?,
    }))
}

/// What an input's elements are.
fn element(input: &Input) -> &'static str {
    if input.rows.is_some() { "whole number" } else { "f32" }
}

/// JSON as it stands in a file, or its text where that is JSON as only Python has it.
fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}
