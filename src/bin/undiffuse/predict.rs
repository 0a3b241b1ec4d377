//! `undiffuse predict`: one network call.

use std::path::{Path, PathBuf};

use serde_json::json;
use undiffuse::denoiser::Conditions;
use undiffuse::error::check_finite;
use undiffuse::graph::{Input, Role};
use undiffuse::pipeline::Decoding;
use undiffuse::pipeline::Pipeline;
use undiffuse::{Error, ErrorKind, Result};

use crate::args::{Args, Command, Outcome, Token, usage};
use crate::arrays::{Array, ArrayFile, write_safetensors_f32};
use crate::interrupt;
use crate::output::{self, Output};
use crate::source::ModelArgs;

/// The command.
pub const COMMAND: Command = Command {
    name: "predict",
    help: "\
Calls the network once, as diffusers' UNet2DModel is called.

usage: undiffuse predict [PATH] --input FILE --output FILE [OPTION...]

  PATH            a diffusers pipeline directory or a packed file (default: the embedded digits)
  --model PATH    the model, by the option that all commands have
  --input FILE    a safetensors file: sample [N, C, H, W], floating-point; timestep [], [1] or [N];
                  for a class model class_labels [N], or [N, D] where a class is a vector; the last two
                  may be int64 or int32; what else the model takes (`undiffuse info` lists it), under its name, for all samples
                  or [N, ...]
  --condition NAME=FILE
                  such an input from a file of its own: .npy, .safetensors or, of an image, a picture
  --output FILE   the safetensors file to write: sample [N, C, H, W], f32
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
    let (mut input, mut to): (Option<PathBuf>, Option<PathBuf>) = (None, None);
    while let Some(token) = args.next()? {
        match token {
            Token::Option(name) => match name.as_str() {
                "input" => input = Some(args.path()?),
                "output" => to = Some(args.path()?),
                other => {
                    let known = !matches!(other, "size" | "scheduler")
                        && (model.option(other, args)? || (other == "condition" && model.condition(other, args)?));
                    if !known {
                        return args.unknown(other);
                    }
                }
            },
            Token::Value(path) => model.value(path, args)?,
        }
    }
    let (Some(input), Some(to)) = (input, to) else {
        return usage!("predict needs --input and --output; {}", args.see_help());
    };
    model.check()?;
    let shape = predict(&mut model, &input, &to)?;
    let json = json!({ "output": to.display().to_string(), "shape": shape });
    Ok(output::report(&format!("{}\n", to.display()), &json)?)
}

/// Gives the shape of the prediction.
fn predict(model: &mut ModelArgs, input: &Path, to: &Path) -> Result<Vec<usize>> {
    let named = |e: Error| e.context(input.display());
    let file = ArrayFile::open_any(input)?;
    if file.get("sample")?.is_none() {
        file.check_names(&["sample", "timestep", "class_labels"])?;
    }
    let sample = file.need("sample")?;
    let of_images = || {
        let text = format!("sample is {:?}, expected [N, C, H, W]", sample.shape);
        named(Error::new(ErrorKind::Shape, text))
    };
    let &[batch, channels, ..] = sample.shape.as_slice() else { return Err(of_images()) };
    if let &[_, _, height, width] = sample.shape.as_slice() {
        model.set_size([height, width]);
    }
    let source = model.open()?;
    if source.model().is_of_images() != (sample.shape.len() == 4) {
        return Err(match source.model().is_of_images() {
            true => of_images(),
            false => {
                let text = format!("sample is {:?}, but the model is not of images", sample.shape);
                named(Error::new(ErrorKind::Shape, text))
            }
        });
    }
    let timestep = file.numbers("timestep")?;
    let timestep = timestep.map(|t| per_sample("timestep", t, batch).map_err(named)).transpose()?;
    let classes = file.numbers("class_labels")?;

    for (name, array) in
        [("sample", Some(&sample)), ("timestep", timestep.as_ref()), ("class_labels", classes.as_ref())]
    {
        array.map_or(Ok(()), |a| check_finite(name, &a.data)).map_err(named)?;
    }

    let cancel = interrupt::install()?;
    let out = Output::create(to)?;
    let pipeline = model.compile(&source)?;
    let network = pipeline.network();
    let names: Vec<&str> =
        pipeline.inputs().iter().map(|i| i.name.as_str()).chain(["sample", "timestep", "class_labels"]).collect();
    file.check_names(&names)?;
    check_classes(&pipeline, classes.as_ref(), batch).map_err(named)?;
    let beside = Beside { file: &file, given: model.conditions().read(pipeline.inputs())?, batch };
    let [of_x, rest] = split_channels(&sample, channels, &pipeline);
    let mut held = Vec::new();
    for i in pipeline.inputs() {
        held.push(match i.role {
            Role::Sample => of_x.clone(),
            Role::Timestep => timestep.as_ref().ok_or_else(|| file.missing("timestep"))?.data.clone(),
            role if role.is_class() => classes.iter().flat_map(|c| c.data.iter().copied()).collect(),
            // As diffusers' UNet2DModel is called: x and the image are one array.
            Role::Image if !rest.is_empty() => rest.clone(),
            _ => beside.rows(i)?,
        });
    }
    let inputs: Vec<&[f32]> = held.iter().map(Vec::as_slice).collect();
    let mut shape = vec![batch];
    shape.extend(network.outputs().iter().flat_map(|d| d.as_slice()));
    let mut prediction = Array::zeros("the prediction", &shape)?;
    let mut workspace = Array::zeros("the workspace", &[network.workspace_len(batch)?])?;
    network
        .run(batch, &inputs, &mut [&mut prediction.data], &mut workspace.data, cancel)
        .map_err(|e| e.context(format_args!("{} with the tensors of {}", model.name(), input.display())))?;
    check_finite("the prediction", &prediction.data)?;
    write(&prediction, out)?;
    Ok(prediction.shape)
}

fn write(prediction: &Array, mut out: Output) -> Result<()> {
    write_safetensors_f32(&[("sample", prediction)], &mut out)?;
    out.finish()
}

/// Where the inputs beside x are.
struct Beside<'a> {
    file: &'a ArrayFile,
    given: Conditions,
    batch: usize,
}

impl Beside<'_> {
    /// The values of an input for all samples, as the network takes them.
    fn rows(&self, input: &Input) -> Result<Vec<f32>> {
        let rows = match self.given.get(&input.name) {
            Some(rows) => rows.to_vec(),
            None => {
                let array = self.file.numbers(&input.name)?.ok_or_else(|| self.file.missing(&input.name))?;
                let (dims, shape) = (input.given_dims(), array.shape.as_slice());
                let fits = shape == dims.as_slice() || shape.split_first().is_some_and(|(_, s)| s == dims.as_slice());
                if !fits {
                    let text = format!("{} is {shape:?}, expected {dims} for each sample", input.name);
                    return Err(Error::new(ErrorKind::Shape, text));
                }
                array.data
            }
        };
        let len = input.dims.elements().max(1);
        let count = rows.len() / len;
        if count != 1 && count != self.batch {
            let text = format!("{} has {count} entries, expected 1 or {}", input.name, self.batch);
            return Err(Error::new(ErrorKind::Shape, text));
        }
        check_finite(&input.name, &rows)?;
        let mut all = Vec::with_capacity(len * self.batch);
        for i in 0..self.batch {
            let row = rows.get(i % count.max(1) * len..).and_then(|r| r.get(..len)).unwrap_or_default();
            match (input.role, input.dims.as_slice()) {
                // [L, D] as given, [D, L] as the network takes them.
                (Role::Tokens, &[d, l]) => {
                    all.extend((0..len).map(|j| row.get(j % l * d + j / l).copied().unwrap_or_default()));
                }
                _ => all.extend_from_slice(row),
            }
        }
        Ok(all)
    }
}

/// x, and the image that stands behind it along the channels if the array has as many as both; else all of it is x.
fn split_channels(sample: &Array, channels: usize, pipeline: &Pipeline) -> [Vec<f32>; 2] {
    let first = |role: Role| pipeline.inputs().iter().find(|i| i.role == role).map_or(0, |i| i.dims.channels());
    let (of_x, of_image) = (first(Role::Sample), first(Role::Image));
    if of_image == 0 || channels != of_x + of_image {
        return [sample.data.clone(), Vec::new()];
    }
    let (mut x, mut image) = (Vec::new(), Vec::new());
    let positions = sample.shape.iter().skip(2).product::<usize>();
    for one in sample.data.chunks_exact((channels * positions).max(1)) {
        let (a, b) = one.split_at(of_x * positions);
        x.extend_from_slice(a);
        image.extend_from_slice(b);
    }
    [x, image]
}

/// Whether there is a row of classes for each sample of a class model.
fn check_classes(pipeline: &Pipeline, classes: Option<&Array>, batch: usize) -> Result<()> {
    let len = pipeline.class_len();
    let Some(classes) = classes.filter(|_| len > 0) else {
        let given = classes.map_or(&[][..], |c| &c.data);
        return pipeline.check_classes(given).map_err(|e| e.context("class_labels"));
    };
    let fits = match *classes.shape.as_slice() {
        [n] => n == batch && len == 1,
        [n, d] => n == batch && d == len,
        _ => false,
    };
    if !fits {
        let expected = if len == 1 { format!("[{batch}]") } else { format!("[{batch}, {len}]") };
        let text = format!("class_labels is {:?}, expected {expected}", classes.shape);
        return Err(Error::new(ErrorKind::Shape, text));
    }
    pipeline.check_classes(&classes.data).map_err(|e| e.context("class_labels"))
}

/// One value for all samples, or one for each, as one for each.
fn per_sample(name: &str, mut array: Array, batch: usize) -> Result<Array> {
    let shape = array.shape.as_slice();
    if !(shape.is_empty() || shape == [1] || shape == [batch]) {
        return Err(Error::new(ErrorKind::Shape, format!("{name} is {shape:?}, expected [], [1] or [{batch}]")));
    }
    if let &[one] = array.data.as_slice() {
        array = Array { shape: vec![batch], data: vec![one; batch] };
    }
    Ok(array)
}
