//! `undiffuse denoise`, `inpaint`, `restore` and `posterior`: the arguments. They are one job with other beginnings.
//!
//! [`operator`] and [`method`] know the names on the command line and make the library's objects; [`run`] does the
//! work; [`input`] reads, [`sheet`] draws, [`figures`] counts.

mod auto;
mod channels;
mod figures;
pub mod fit;
pub mod input;
mod method;
mod operator;
pub mod reading;
mod run;
mod sampling;
mod sheet;
mod start;
mod stated;
mod suited;

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::json;
use undiffuse::posterior::MethodKind;

use crate::args::{Args, Command, Outcome, Token, usage};
use crate::format::FormatArgs;
use crate::output;
use crate::source::{ModelArgs, model_options};
use method::MethodArgs;
use operator::OperatorArgs;
use reading::Reading;
use run::{Done, Job, restore};
use sampling::SamplingArgs;

/// The names of all methods.
pub fn method_names() -> Vec<&'static str> {
    method::named().into_iter().map(|(name, _)| name).collect()
}

/// Samples at once, unless `--batch` says otherwise.
const BATCH: usize = 16;
/// Samples of `posterior`, unless `--count` says otherwise.
const SAMPLES: usize = 64;
/// The largest side of a tile.
const MAX_TILE: usize = 1 << 13;
/// The most samples of one picture.
const MAX_COUNT: usize = 100_000_000;

/// What the four helps share.
macro_rules! common {
    () => {
        concat!(
            "
  --grey          a model of grey pictures takes pictures with colours: 0.299 R + 0.587 G + 0.114 B
  --colour        a model of colours takes grey pictures: the same in three channels
  --fit HOW       brings pictures to the model's size: cover (resized, then cut), stretch (resized) or crop (the middle,
                  not resized: resizing changes noise)
  --values WHAT   what an array's numbers are: bytes (0 to 255, default of uint8), unit (0 to 1), data (as they are,
                  default of floats) or BLACK..WHITE, as in 0..65535
  --axes AXES     what an array's dimensions are: hw, chw, nhw, nchw, hwc or nhwc
  --simulate      IMAGE is clean: measure it here, with noise of the seed; it is then the truth
  --truth FILE    the clean picture, for --sheet and the PSNR
  --output FILE   the samples: X.png, X.jpg or X.webp (a grid), X.npy or X.safetensors; with {} in its name a file for each
                  sample, {} being its number; - is standard output
  --format KIND   for standard output: png (default), jpg, webp, npy or safetensors
  --depth BITS    of a .png: 8 (default) or 16
  --mean FILE     their mean, likewise
  --variance FILE  their variance, X.npy or X.safetensors
  --sheet FILE    a PNG with a row for each picture: truth (if known), measurement, up to 4 samples, mean, standard
                  deviation (black 0, white 1)
  --measured FILE  the measurement, likewise
  --preview FILE  draws the predicted x_0 to a .png while it runs; - draws it on the terminal
  --model PATH    a diffusers UNet2DModel pipeline directory or a packed file (default: the embedded digits)
  --batch N       samples at once (default 16, whole groups of split-gibbs and fps); it changes the time and the memory, not the
                  samples
  --seed N        (default 0) of x_T, the noise, and what is simulated
",
            model_options!(),
            "  --size HxW      runs the model at another size than its own
  --tile N        denoisers of a stated sigma (pretrained/photo.md) take pictures of any size in tiles of N x N pixels: default 512, fewer
                  where the picture is smaller or --memory says so. The size of the tiles changes nothing but the memory and the time
  --memory MB     of such a denoiser: refuses what takes more megabytes, once smaller tiles do not help. What it takes is said before
                  it begins
  --backend NAME  auto (default), cpu, wgpu, wgpu:INDEX (see `undiffuse devices`) or reference
  --threads N     threads of the cpu backend (default: all)
  --weights TYPE  how the cpu backend keeps weights: f32 (default), f16, bf16, int8 or int4 (narrower is smaller, and faster where few values share
                  a weight; sums are f32)
  --precision P   what the network computes in: f32 (default), bf16 (linear and small layers, with AMX large ones too; it gains by AMX
                  and by AMD's bf16) or int8 (8-bit integers in layers of a model that `pack --calibrate` wrote)

Of single methods, as `undiffuse restore --help` explains:

  --iterations N       of calibrated
  --variance-products N  of calibrated and split-gibbs
  --ensemble K         of split-gibbs and fps
  --ladder-top X       of split-gibbs
  --ladder-ratio R     of split-gibbs
  --calls N            of auto
  --langevin-steps N   of daps
  --langevin-length H  of daps
  --flow-steps K       of daps
  --gradient-steps K   of sitcom
  --stop D             of sitcom
  --jump-length J      of calibrated and repaint
  --resamplings R      of calibrated and repaint
  --prior-variance V   of white
  --zeta Z             of dps, mcg and diffpir
  --misfit NAME        of dps
  --rule NAME          of pigdm
  --eta-b B            of ddrm
  --lambda L           of diffpir, red-diff and sitcom
  --rate R             of red-diff and sitcom
  --schedule NAME      of exact-product and mean-shift
  --known NAME         of clamp

IMAGE is a PNG, JPEG, WebP or .npy file, or - for one from standard input: [H, W], [C, H, W], [N, C, H, W] or, of grey pictures, [N, H, W]; several pictures are
restored side by side. Pictures and arrays of uint8 are grey levels and become -1 to 1; floats are taken as they are, in [-1, 1].
S is a standard deviation in these units: 1 is half the range, 0.1 are 12.75 grey levels.
It prints network calls, |y - A x| / (sigma sqrt(m)), which is near 1 for a sample of the posterior, and with a truth the
PSNR in dB over the range of 2, of values clipped to [-1, 1], averaged over pictures.
"
        )
    };
}

macro_rules! operator_files {
    () => {
        "
  --mask FILE     of the operator mask: a picture or .npy [H, W]: white (255, 1 or True) is known, black (0) is not
  --alpha-mask    of the operator mask, instead: what is transparent in IMAGE is not known
  --mask-threshold T
                  masks with values between: known from this share of white on, above 0 to 1
  --kernel FILE   of the operator kernel: the taps, .npy [H, W]
  --matrix FILE   of the operator dense: .npy [m, n]"
    };
}

macro_rules! method_help {
    () => {
        "
  --method NAME   how the posterior is sampled (default calibrated, of a denoiser of a stated sigma mmse for one picture of noise, reverse for
                  several, diffpir for the rest); `undiffuse restore --help` lists them
  --sampler NAME  ddim, ddpm, ancestral2015 or repaint (default: the method's)
  --steps N       network calls of the sampler (default: the method's)
  --eta X         ddim's noise, 0 to 1 (default: the method's)"
    };
}

/// `undiffuse denoise`.
pub const DENOISE: Command = Command {
    name: "denoise",
    help: concat!(
        "\
Takes white noise out of a picture by sampling from p(picture | noisy picture).

usage: undiffuse denoise IMAGE --sigma S [OPTION...]

  --sigma S       the standard deviation of the noise, in units of [-1, 1]
  --count N       samples of each picture (default 1), written to --output (default denoised.png, unless --sheet or maps
                  are asked for)",
        method_help!(),
        common!()
    ),
    run: |args| run(args, &DENOISE, "identity", Some("denoised.png"), 1),
};

/// `undiffuse inpaint`.
pub const INPAINT: Command = Command {
    name: "inpaint",
    help: concat!(
        "\
Fills in the unknown pixels of a picture.

usage: undiffuse inpaint IMAGE --mask MASK [OPTION...]

  --mask MASK     a picture or .npy [H, W]: white (255, 1 or True) is known, black (0) is to be filled in
  --alpha-mask    instead: what is transparent in IMAGE is to be filled in
  --mask-threshold T
                  masks with values between: known from this share of white on, above 0 to 1
  --operator O    instead of --mask: box, half or random; `undiffuse restore --help` explains them
  --sigma S       the standard deviation of noise on the known pixels (default 0.01, or 0 where the method says so)
  --count N       samples of each picture (default 1), written to --output (default inpainted.png, unless --sheet or maps
                  are asked for)",
        method_help!(),
        common!()
    ),
    run: |args| run(args, &INPAINT, "mask", Some("inpainted.png"), 1),
};

/// `undiffuse restore`.
pub const RESTORE: Command = Command {
    name: "restore",
    help: concat!(
        "\
Samples pictures from what an operator A and noise left of them: y = A(x) + sigma z.

usage: undiffuse restore IMAGE --operator O [--method NAME] [OPTION...]

O, what is measured:
",
        include_str!("operators.txt"),
        "
NAME, how the posterior is sampled, and what it runs with unless --sampler, --steps and --eta say otherwise:
",
        include_str!("methods.txt"),
        "
  --operator O    what is measured, as above
  --method NAME   how the posterior is sampled, as above",
        operator_files!(),
        "
  --sigma S       the standard deviation of the noise (default 0.01, or 0 where the method says so)
  --sampler NAME  ddim, ddpm, ancestral2015 (all training timesteps) or repaint
  --steps N       network calls of the sampler; timesteps of repaint
  --eta X         ddim's noise, 0 to 1
  --count N       samples of each picture (default 1), written to --output (default restored.png, unless --sheet or maps
                  are asked for)",
        common!()
    ),
    run: |args| run(args, &RESTORE, "", Some("restored.png"), 1),
};

/// `undiffuse posterior`.
pub const POSTERIOR: Command = Command {
    name: "posterior",
    help: concat!(
        "\
Maps of the mean and the variance of many restored pictures, pixel by pixel.

usage: undiffuse posterior IMAGE --operator O [--mean FILE] [--variance FILE] [--sheet FILE] [OPTION...]

  --operator O    what is measured; `undiffuse restore --help` explains it",
        operator_files!(),
        "
  --sigma S       the standard deviation of the noise (default 0.01, or 0 where the method says so)
  --count N       samples of each picture (default 64)",
        method_help!(),
        common!()
    ),
    run: |args| run(args, &POSTERIOR, "", None, SAMPLES),
};

/// Reads the arguments of one of the four, which begins with an operator (or none), an output and a count.
fn run(args: &mut Args, command: &Command, operator: &str, output: Option<&str>, count: usize) -> Outcome {
    let mut model = ModelArgs::default();
    let mut image: Option<PathBuf> = None;
    let mut sigma: Option<f64> = None;
    let mut job = Job {
        image: PathBuf::new(),
        truth: None,
        simulate: false,
        reading: Reading::default(),
        operator: OperatorArgs::new(operator),
        method: MethodArgs::default(),
        sigma: 0.0,
        sampling: SamplingArgs::default(),
        output: None,
        preview: None,
        format: FormatArgs::default(),
        mean: None,
        variance: None,
        sheet: None,
        measured: None,
        count,
        batch: BATCH,
        seed: 0,
        tile: None,
        memory: None,
        maps: output.is_none(),
    };
    while let Some(token) = args.next()? {
        let name = match token {
            Token::Option(name) => name,
            Token::Value(path) => {
                if image.is_some() {
                    return args.unexpected(&path);
                }
                image = Some(path.into());
                continue;
            }
        };
        match name.as_str() {
            "sigma" => sigma = Some(args.number("a number", 0.0..=1e6)?),
            "simulate" => job.simulate = true,
            "truth" => job.truth = Some(args.path()?),
            "output" => job.output = Some(args.path()?),
            "preview" => job.preview = Some(args.path()?),
            "mean" => job.mean = Some(args.path()?),
            "variance" => job.variance = Some(args.path()?),
            "sheet" => job.sheet = Some(args.path()?),
            "measured" => job.measured = Some(args.path()?),
            "count" => job.count = args.number("a whole number", 1..=MAX_COUNT)?,
            "batch" => job.batch = args.number("a whole number", 1..=MAX_COUNT)?,
            "tile" => job.tile = Some(args.number("a whole number", 1..=MAX_TILE)?),
            "memory" => job.memory = Some(args.number("a whole number", 1..=usize::MAX / 1_000_000)?),
            "seed" => job.seed = args.number("a whole number", 0..=u64::MAX)?,
            "class" => model.set_classes(args)?,
            // What is measured is the command's.
            "operator" if command.name == "denoise" => return args.unknown("operator"),
            other => {
                let known = model.option(other, args)?
                    || model.condition(other, args)?
                    || job.reading.option(other, args)?
                    || job.format.option(other, args)?
                    || job.operator.option(other, args)?
                    || job.method.option(other, args)?
                    || job.sampling.option(other, args)?;
                if !known {
                    return args.unknown(other);
                }
            }
        }
    }
    let Some(image) = image else { return usage!("{} needs IMAGE; {}", command.name, args.see_help()) };
    job.image = image;
    check(&mut job, command, sigma, output, args)?;
    model.check()?;

    let start = Instant::now();
    let done = restore(&mut model, &mut job)?;
    let seconds = start.elapsed().as_secs_f64();
    let outputs = [&job.output, &job.mean, &job.variance, &job.sheet, &job.measured];
    let outputs: Vec<_> = outputs.into_iter().flatten().map(|p| p.display().to_string()).collect();
    let [measurement, samples, mean] = done.psnr;
    let json = json!({
        "outputs": outputs,
        "pictures": done.images,
        "samples_of_each": job.count,
        "shape": done.dims.as_slice(),
        "method": done.method,
        "chosen_because": done.chosen,
        "effective": done.effective,
        "sampler": done.sampler,
        "network_calls": done.calls,
        "products": done.products,
        "sigma": job.sigma,
        "consistency": done.consistency.filter(|_| job.sigma > 0.0),
        "largest_misfit": done.consistency.filter(|_| job.sigma == 0.0),
        "psnr": { "measurement": measurement, "samples": samples, "mean": mean },
        "tiles": done.tiles,
        "memory_bytes": done.memory,
        "device": done.device,
        "seconds": seconds,
    });
    Ok(output::report(&report(&job, &done, seconds), &json)?)
}

/// Checks what concerns several options, and settles what was left open.
fn check(job: &mut Job, command: &Command, sigma: Option<f64>, output: Option<&str>, args: &Args) -> Outcome {
    if command.name == "denoise" && sigma.is_none() {
        return usage!("denoise needs --sigma; {}", args.see_help());
    }
    if command.name == "inpaint" && !job.operator.is_mask() {
        return usage!(
            "inpaint is for --mask or --operator box, half or random; for others there is `undiffuse restore`"
        );
    }
    if job.operator.text().is_empty() {
        return usage!("{} needs --operator; {}", command.name, args.see_help());
    }
    job.reading.check()?;
    if job.reading.threshold.is_some() && !(job.operator.is_alpha() || job.operator.mask_file().is_some()) {
        return usage!("--mask-threshold is for --mask and --alpha-mask");
    }
    job.operator.check()?;
    job.sigma = job.method.check(&job.operator, sigma)?;
    job.sampling.check(&job.method, &job.operator)?;
    if job.simulate && job.truth.is_some() {
        return usage!("--truth has no use with --simulate, whose IMAGE is the truth");
    }
    if job.variance.as_ref().is_some_and(|p| job.format.is_picture(p)) {
        return usage!("--variance is written as .npy or .safetensors; --sheet draws the standard deviation");
    }
    if job.variance.is_some() && job.count < 2 {
        return usage!("--variance needs at least 2 samples of each picture");
    }
    let outputs = [&job.output, &job.mean, &job.variance, &job.sheet, &job.measured];
    if output.is_none() && outputs.iter().all(|o| o.is_none()) {
        return usage!("{} needs --mean, --variance, --sheet or --output; {}", command.name, args.see_help());
    }
    // Who asks for a sheet or maps alone gets no further file.
    if [&job.output, &job.mean, &job.variance, &job.sheet].iter().all(|o| o.is_none()) {
        job.output = output.map(PathBuf::from);
    }
    // A preview on `-` is on the terminal, no file.
    let preview = job.preview.as_ref().filter(|p| p.as_path() != Path::new(output::STANDARD));
    let outputs = [&job.output, &job.mean, &job.variance, &job.sheet, &job.measured];
    let named: Vec<_> = outputs.into_iter().flatten().chain(preview).collect();
    if let Some(twice) = named.iter().enumerate().find_map(|(i, p)| named.get(..i)?.contains(p).then_some(p)) {
        return usage!("two outputs name the same file, {}", twice.display());
    }
    // The sheet is a PNG always.
    let formed: Vec<_> = [&job.output, &job.mean, &job.variance, &job.measured].into_iter().flatten().collect();
    job.format.check(&formed)?;
    let inputs = [Some(&job.image), job.truth.as_ref(), job.operator.mask_file()];
    if inputs.into_iter().flatten().filter(|p| p.as_path() == Path::new(output::STANDARD)).count() > 1 {
        return usage!("two inputs are standard input");
    }
    Ok(())
}

/// What the program says of a run.
fn report(job: &Job, done: &Done, seconds: f64) -> String {
    let outputs = [&job.output, &job.mean, &job.variance, &job.sheet, &job.measured];
    let files: Vec<_> = outputs.into_iter().flatten().map(|p| p.display().to_string()).collect();
    let mut text = format!(
        "{}: {} x {} samples of {} by {}, {} network calls and {} vector-Jacobian products each ({}), {seconds:.1} s\n",
        files.join(", "),
        done.images,
        job.count,
        done.dims,
        done.method,
        done.calls,
        done.products,
        done.sampler,
    );
    if let Some(c) = done.consistency {
        if job.sigma > 0.0 {
            text.push_str(&format!("consistency |y - A x| / (sigma sqrt(m)): {c:.3}\n"));
        } else {
            text.push_str(&format!("largest |y - A x|: {c:.2e}\n"));
        }
    }
    if let Some(effective) = done.effective {
        text.push_str(&format!("groups: at the least {:.0} % of a group was effective\n", 100.0 * effective));
        // Of FPS the weights of first levels say little of what is left at the last.
        if effective < 0.1 && job.method.method == Some(MethodKind::SplitGibbs) {
            text.push_str(
                "the groups are no picture of the posterior: take --ladder-ratio nearer 1, or a larger --ensemble\n",
            );
        }
    }
    let names = ["measurement", "samples", "their mean"];
    let psnr: Vec<_> = names.iter().zip(done.psnr).filter_map(|(n, p)| Some(format!("{n} {:.2} dB", p?))).collect();
    if !psnr.is_empty() {
        text.push_str(&format!("PSNR: {}\n", psnr.join(", ")));
    }
    text
}
