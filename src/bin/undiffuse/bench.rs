//! `undiffuse bench`: how fast the network is here.

use std::time::Instant;

use serde_json::json;
use undiffuse::denoiser::Conditions;
use undiffuse::denoiser::{Call, Denoiser};
use undiffuse::model::ModelConfig;
use undiffuse::model::unet2d::TimeEmbedding;
use undiffuse::noise::{NoiseSource, Seeded};
use undiffuse::pipeline::Decoding;
use undiffuse::pipeline::Pipeline;
use undiffuse::schedule::Level;
use undiffuse::{Cancel, Result};

use crate::args::{Args, Command, Outcome, Token};
use crate::arrays::Array;
use crate::source::ModelArgs;
use crate::{interrupt, output};

/// The command.
pub const COMMAND: Command = Command {
    name: "bench",
    help: "\
Times the network: one call is one denoising step of a batch.

usage: undiffuse bench [PATH] [OPTION...]

  PATH            a diffusers pipeline directory or a packed file (default: the embedded digits)
  --model PATH    the model, by the option that all commands have
  --batch N       samples at once (default 1)
  --calls N       timed calls (default 20), after one that is not timed
  --size HxW      size of the images where the model names none
  --backend NAME  auto (default), cpu, wgpu, wgpu:INDEX (see `undiffuse devices`) or reference
  --threads N     threads of the cpu backend (default: all)
  --weights TYPE  how the cpu backend keeps weights: f32 (default), f16, bf16, int8 or int4 (narrower is smaller, and faster where few values share
                  a weight; sums are f32)
  --precision P   what the network computes in: f32 (default), bf16 (linear and small layers, with AMX large ones too; it gains by AMX
                  and by AMD's bf16) or int8 (8-bit integers in layers of a model that `pack --calibrate` wrote)
",
    run,
};

fn run(args: &mut Args) -> Outcome {
    let mut model = ModelArgs::default();
    model.set_decoding(Decoding::None);
    let (mut batch, mut calls) = (1, 20);
    while let Some(token) = args.next()? {
        match token {
            Token::Option(name) => match name.as_str() {
                "batch" => batch = args.number("a whole number", 1..=usize::MAX)?,
                "calls" => calls = args.number("a whole number", 1..=1_000_000)?,
                other => {
                    if other == "scheduler" || !model.option(other, args)? {
                        return args.unknown(other);
                    }
                }
            },
            Token::Value(path) => model.value(path, args)?,
        }
    }
    model.check()?;
    let pipeline = model.compile(&model.open()?)?;
    let seconds = time(&pipeline, batch, calls, interrupt::install()?)?;
    let (min, median) = (seconds.first().copied(), seconds.get(seconds.len() / 2).copied());
    let (min, median) = (min.unwrap_or(f64::NAN), median.unwrap_or(f64::NAN));
    let gflop = pipeline.flops() as f64 * batch as f64 / 1e9;
    let peak = peak_bytes();
    let json = json!({
        "model": model.name(),
        "device": pipeline.network().describe(),
        "batch": batch,
        "calls": calls,
        "seconds_min": min,
        "seconds_median": median,
        "gflops_max": gflop / min,
        "gflops_median": gflop / median,
        "weights": pipeline.weight_bytes(),
        "workspace": pipeline.workspace_bytes(batch)?,
        "device_bytes": pipeline.device_bytes(batch)?,
        "peak": peak,
    });
    let peak = peak.map_or("unknown".into(), |b| format!("{b} bytes resident, the whole program"));
    let text = format!(
        "{}, {}, batch {batch}\n\
         ms per step   {:.3} min, {:.3} median of {calls} calls; {:.3} min per sample\n\
         GFLOP/s       {:.1} max, {:.1} median\n\
         weights       {} bytes\n\
         workspace     {} bytes\n\
         device        {} bytes\n\
         peak          {peak}\n",
        model.name(),
        pipeline.network().describe(),
        min * 1e3,
        median * 1e3,
        min * 1e3 / batch as f64,
        gflop / min,
        gflop / median,
        pipeline.weight_bytes(),
        pipeline.workspace_bytes(batch)?,
        pipeline.device_bytes(batch)?,
    );
    Ok(output::report(&text, &json)?)
}

/// Seconds of each call, sorted.
fn time(pipeline: &Pipeline, batch: usize, calls: usize, cancel: &Cancel) -> Result<Vec<f64>> {
    // Every model has a timestep 0, but the logarithm of a sigma needs one above.
    let of_sigma =
        matches!(pipeline.model(), ModelConfig::UNet2D(c) if c.time_embedding_type == TimeEmbedding::Fourier);
    let level = Level::variance_preserving(f64::from(u8::from(of_sigma)), 0.5);
    // A class model gets class 0; all that is beside x is zeros.
    let mut conditions = Conditions::new();
    for input in pipeline.inputs().iter().filter(|i| i.role.is_condition()) {
        conditions.set(&input.name, vec![0.0; input.dims.elements()]);
    }
    let mut denoiser = pipeline.denoiser_with(batch, &conditions)?;
    let mut x = Array::zeros("the samples", &[batch, pipeline.sample_dims().elements()])?;
    Seeded::new(0).normal(0, 0, pipeline.sample_dims().elements(), &mut x.data)?;
    let mut out = Array::zeros("the prediction", &[batch, denoiser.output_len()])?;
    let mut seconds = Vec::new();
    for call in 0..=calls {
        let start = Instant::now();
        denoiser.predict(&Call { level, first_sample: 0, cancel }, &x.data, &mut out.data)?;
        if call > 0 {
            seconds.push(start.elapsed().as_secs_f64());
        }
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds)
}

/// The most memory that the process has held, where the system says so.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kb| kb * 1024)
}
