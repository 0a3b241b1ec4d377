//! `undiffuse sample`: the arguments; [`crate::generate`] does the work.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Instant;

use serde_json::json;
use undiffuse::noise::PythonGenerator;
use undiffuse::pipeline::Decoding;
use undiffuse::sampler::{Compat, SamplerKind, Sigmas, Steps};
use undiffuse::schedule::{AlignYourSteps, SigmaSpacing};

use crate::args::{Args, Command, Outcome, Token, usage};
use crate::format::FormatArgs;
use crate::from_image::ImageArgs;
use crate::generate::{Job, Noise, generate};
use crate::output;
use crate::source::{ModelArgs, model_options};

/// Samples at once, unless `--batch` says otherwise.
const BATCH: usize = 16;
/// The most samples of one run.
const MAX_COUNT: usize = 100_000_000;
/// The command.
pub const COMMAND: Command = Command {
    name: "sample",
    help: concat!(
        "\
Makes samples.

usage: undiffuse sample [PATH] [OPTION...]

  PATH            a pipeline directory (diffusers' UNet2DModel, a latent pipeline, a network of 2015) or a packed file (default: the embedded digits)
  --model PATH    the model, by the option that all commands have
  --output FILE   X.png, X.jpg or X.webp (a grid), X.npy or X.safetensors (f32, images in [-1, 1], [N, C, H, W]) (default:
                  samples.png); with {} in its name a file for each sample, {} being its number; - is standard output
  --format KIND   for standard output: png (default), jpg, webp, npy or safetensors
  --depth BITS    of a .png: 8 (default) or 16
  --image FILE    image to image (SDEdit): begins at this picture with some noise and not at noise alone; a PNG, JPEG, WebP or .npy, or - for standard
                  input; of several pictures [N, C, H, W] each is one sample's. --fit cover, stretch or crop brings it to the model's size,
                  --grey and --colour to its channels; --values and --axes say what an array's numbers and axes are (see `undiffuse help restore`);
                  a latent model encodes it
  --strength S    above 0 and at most 1 (default 0.8): how much of it is made anew; of N steps the last int(N S) are run, as in diffusers
  --count N       how many samples (default 36, or as many as --image has pictures where it has several)
  --batch N       how many at once (default 16); it changes the time and the memory, not the samples
  --sampler NAME  the model's own (default; unipc where that is ddpm), ddpm, ddim, dpmsolver++, unipc, euler, euler-ancestral, heun,
                  deis, lms, pndm or another; a wrong name lists all
  --steps N       steps of a sample (default: 20 of unipc, dpmsolver++ and deis, all of ddpm and the chains of 2015, 4 of distilled models,
                  50 of others, or all where the model has fewer); some samplers make two calls a step
  --timesteps L   or these timesteps, as in 999,500,1
  --sigmas L      or these sigmas, sqrt((1 - abar) / abar), with that of the result at the end, as in 80,5,0.5,0
                  or NAME: how the sigmas of --steps are spread: karras, exponential, beta, lu, simple (ComfyUI's), or a table of Align Your Steps,
                  ays-sd15, ays-sdxl or ays-svd (for samplers over the sigmas of discrete betas; the tables for EDM's too)
  --tolerance X   of rk45, relative and absolute, 1e-7 to 1 (default 1e-5): it makes as many calls as that takes, for each sample its own, and
                  --steps says at how many levels x is seen
  --order N       the order of a solver that has one (default: 3 of unipc where the model was saved with another, else the file's)
  --mu M          the shift of a flow whose scheduler says use_dynamic_shifting: its logarithm (time_shift_type exponential) or itself
                  (linear), which follows from the size of the image
  --eta X         DDIM's noise, 0 (default) to 1; with it the sampler is ddim
  --variance-products N
                  vector-Jacobian products a step, 0 (default) to 16, for the covariance that a step of its length should have:
                  with 2 few steps give the variances of a thousand, whatever variance_type says. For ddpm and ddim; each
                  takes some two calls
  --compat NAME   with a sampler other than the model was saved with: usual (default) keeps the model's clip of x_0 and takes sigmas by Karras's
                  rule, from 60 down, unless the file has its own; diffusers does what diffusers does, which forgets the clip; fixed is
                  usual with what diffusers has wrong put right (its third orders, churn, beta and log_linear sigmas, DDIM's steps, zero SNR)
  --seed N        (default 0) sample i of a seed is the same in every run
",
        model_options!(),
        "  --size HxW      size of the images where the model names none; of a latent model that of the latents
  --decode-bytes N
                  of a latent model (vae or vqvae beside unet): decodes in tiles what would take more than N bytes in one piece (default
                  1073741824), and encodes --image so; --latents decodes nothing and writes the latents
  --backend NAME  auto (default), cpu, wgpu, wgpu:INDEX (see `undiffuse devices`) or reference
  --threads N     threads of the cpu backend (default: all)
  --weights TYPE  how the cpu backend keeps weights: f32 (default), f16, bf16, int8 or int4 (narrower is smaller, and faster where few values share
                  a weight; sums are f32)
  --precision P   what the network computes in: f32 (default), bf16 (linear and small layers, with AMX large ones too; it gains by AMX
                  and by AMD's bf16) or int8 (8-bit integers in layers of a model that `pack --calibrate` wrote)
  --shard I/N     only part I of N (from 1): the parts, joined in order, are the whole run
  --noise FILE    take x_T [N, C, H, W] and, if noise is needed, noise [steps, N, C, H, W] from a safetensors file; for --image with an
                  AutoencoderKL also posterior [pictures, C, H, W], which samples the encoder's distribution
                  or NAME: draw it of --seed as a Python program does: torch-cpu, torch-cuda, numpy, numpy-legacy or jax (pcg, the default,
                  is our own; a file of such a name is ./NAME). All samples are drawn at once, so they depend on how many --count says
  --each-seed     with such a NAME: sample i has a generator of its own, of seed + i, as diffusers with a list of generators
  --preview FILE  draws the predicted x_0 to a .png while it runs; - draws it on the terminal
  --trace FILE    also write x_t [steps + 1, N, C, H, W], from x_T to x_0, to a safetensors file
"
    ),
    run,
};

fn run(args: &mut Args) -> Outcome {
    let mut model = ModelArgs::default();
    model.set_decoding(Decoding::default());
    let mut job = Job {
        output: PathBuf::from("samples.png"),
        format: FormatArgs::default(),
        trace: None,
        preview: None,
        image: ImageArgs::default(),
        noise: Noise::Seeded,
        count: None,
        batch: BATCH,
        shard: (1, 1),
        seed: 0,
        sampler: None,
        steps: None,
        sigmas: None,
        tolerance: None,
        order: None,
        mu: None,
        eta: None,
        compat: Compat::Usual,
        variance_products: 0,
    };
    let (mut seed, mut each_seed) = (None, false);
    while let Some(token) = args.next()? {
        match token {
            Token::Option(name) => match name.as_str() {
                "output" => job.output = args.path()?,
                "trace" => job.trace = Some(args.path()?),
                "preview" => job.preview = Some(args.path()?),
                "noise" => job.noise = noise(args.path()?),
                "each-seed" => each_seed = true,
                "count" => job.count = Some(args.number("a whole number", 1..=MAX_COUNT)?),
                "batch" => job.batch = args.number("a whole number", 1..=MAX_COUNT)?,
                "steps" => set_steps(&mut job, Steps::Count(args.number("a whole number", 1..=usize::MAX)?))?,
                "timesteps" => set_steps(&mut job, Steps::Timesteps(list(args, "timesteps", "999,500,1")?))?,
                "sigmas" => sigmas(&mut job, args)?,
                "tolerance" => job.tolerance = Some(args.number("a number", 1e-7..=1.0)?),
                "order" => job.order = Some(args.number("a whole number", 1..=9)?),
                "mu" => job.mu = Some(args.number("a number", -100.0..=100.0)?),
                "sampler" => job.sampler = Some(args.choice(&SamplerKind::NAMES)?),
                "compat" => {
                    job.compat = args.choice(&Compat::NAMES)?;
                }
                "variance-products" => job.variance_products = args.number("a whole number", 0..=16)?,
                "eta" => job.eta = Some(args.number("a number", 0.0..=1.0)?),
                "seed" => seed = Some(args.number("a whole number", 0..=u64::MAX)?),
                "class" => model.set_classes(args)?,
                "shard" => job.shard = shard(args)?,
                other => {
                    if !model.option(other, args)?
                        && !model.decoding(other, args)?
                        && !model.condition(other, args)?
                        && !job.format.option(other, args)?
                        && !job.image.option(other, args)?
                    {
                        return args.unknown(other);
                    }
                }
            },
            Token::Value(path) => model.value(path, args)?,
        }
    }
    model.check()?;
    job.image.check()?;
    job.format.check(&[&job.output])?;
    let other = |s: SamplerKind| SamplerKind::NAMES.iter().find(|(_, k)| *k == s && s != SamplerKind::Ddim);
    if let (Some((name, _)), true) = (job.sampler.and_then(other), job.eta.is_some()) {
        return usage!("--eta is for ddim; {name} has none");
    }
    match &mut job.noise {
        Noise::Python { each, .. } => *each = each_seed,
        _ if each_seed => {
            return usage!("--each-seed is for --noise with the name of a Python generator, as in --noise torch-cpu");
        }
        Noise::File(_) if seed.is_some() => {
            return usage!("--seed has no use with a file of --noise, which gives all noise");
        }
        Noise::File(_) | Noise::Seeded => {}
    }
    if job.variance_products > 0 && !matches!(job.noise, Noise::Seeded) {
        return usage!("--variance-products draws more noise than --noise gives: leave out one of them");
    }
    // A preview on `-` is on the terminal, no file.
    let preview = job.preview.as_ref().filter(|p| p.as_os_str() != output::STANDARD);
    let named: Vec<_> = std::iter::once(&job.output).chain(&job.trace).chain(preview).collect();
    if let Some(twice) = named.iter().enumerate().find_map(|(i, p)| named.get(..i)?.contains(p).then_some(p)) {
        return usage!("two outputs name the same file, {}", twice.display());
    }
    job.seed = seed.unwrap_or_default();

    let start = Instant::now();
    model.set_gradient(job.variance_products > 0);
    let done = generate(&mut model, &job)?;
    let (seconds, output) = (start.elapsed().as_secs_f64(), job.output.display());
    let text = format!(
        "{output}: {} samples of {}, {} steps of {}, on {}, {seconds:.1} s\n",
        done.samples, done.dims, done.steps, done.sampler, done.device,
    );
    let json = json!({
        "output": output.to_string(),
        "samples": done.samples,
        "first_sample": done.first,
        "shape": done.dims.as_slice(),
        "steps": done.steps,
        "sampler": done.sampler,
        "device": done.device,
        "seconds": seconds,
    });
    Ok(output::report(&text, &json)?)
}

/// Takes the steps of a run, which only one option may say.
fn set_steps(job: &mut Job, steps: Steps) -> Outcome {
    if job.steps.is_some() {
        return usage!("--steps, --timesteps and --sigmas each say which steps are made, expected one of them");
    }
    job.steps = Some(steps);
    Ok(())
}

/// Sigmas, or how they are spread.
fn sigmas(job: &mut Job, args: &mut Args) -> Outcome {
    let text = args.text()?;
    let whole = |spacing| Sigmas::Range { spacing, min: 0.0, max: f64::INFINITY };
    let table = AlignYourSteps::NAMES.into_iter().find(|(name, _)| *name == text);
    job.sigmas = Some(match (text.as_str(), table) {
        (_, Some((_, model))) => Sigmas::AlignYourSteps(model),
        ("karras", _) => whole(SigmaSpacing::Karras),
        ("exponential", _) => whole(SigmaSpacing::Exponential),
        ("beta", _) => whole(SigmaSpacing::Beta),
        ("lu", _) => whole(SigmaSpacing::Lu),
        ("simple", _) => Sigmas::Simple,
        _ => return set_steps(job, Steps::Sigmas(numbers(&text, "sigmas", "80,5,0.5,0 or a name (see --help)")?)),
    });
    Ok(())
}

/// Numbers with commas between them.
fn list<T: FromStr>(args: &mut Args, name: &str, example: &str) -> Outcome<Vec<T>> {
    numbers(&args.text()?, name, example)
}

fn numbers<T: FromStr>(text: &str, name: &str, example: &str) -> Outcome<Vec<T>> {
    let numbers: Option<Vec<T>> = text.split(',').map(|part| part.trim().parse().ok()).collect();
    match numbers {
        Some(numbers) => Ok(numbers),
        None => usage!("--{name} is {text:?}, expected numbers as in {example}"),
    }
}

/// What `--noise` names.
fn noise(path: PathBuf) -> Noise {
    match path.to_str() {
        Some("pcg") => Noise::Seeded,
        name => match name.and_then(PythonGenerator::of_name) {
            Some(generator) => Noise::Python { generator, each: false },
            None => Noise::File(path),
        },
    }
}

fn shard(args: &mut Args) -> Outcome<(usize, usize)> {
    let text = args.text()?;
    let parts = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
    match parts {
        Some((i, n)) if 0 < i && i <= n => Ok((i, n)),
        _ => usage!("--shard is {text:?}, expected I/N with I from 1 to N, as in 2/4"),
    }
}
