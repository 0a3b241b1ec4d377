//! What a model is given beside x: `--condition`, `--class` and `--guidance`.

use std::path::{Path, PathBuf};

use undiffuse::denoiser::{Conditions, Guidance, NetworkDenoiser};
use undiffuse::graph::{Input, Role};
use undiffuse::npy::Element;
use undiffuse::pipeline::Pipeline;
use undiffuse::tensor::DType;
use undiffuse::weights::{SafeTensorsFile, WeightSource};
use undiffuse::{Error, ErrorKind, Result};

use crate::args::{Args, Classes, Outcome, usage};
use crate::arrays::Array;
use crate::picture::{Picture, is_picture};

/// The options.
#[derive(Debug, Default)]
pub struct ConditionArgs {
    positive: Vec<(String, PathBuf)>,
    negative: Vec<(String, PathBuf)>,
    negative_classes: Option<Classes>,
    scale: Option<f32>,
    rescale: Option<f32>,
    interval: Option<[f64; 2]>,
}

/// What a denoiser is made with.
#[derive(Debug)]
pub struct Given {
    /// For the network.
    pub conditions: Conditions,
    /// With `--guidance`.
    pub guidance: Option<Guidance>,
}

impl Given {
    /// The denoiser.
    pub fn denoiser(&self, pipeline: &Pipeline, batch: usize) -> Result<NetworkDenoiser> {
        match &self.guidance {
            None => pipeline.denoiser_with(batch, &self.conditions),
            Some(guidance) => pipeline.guided(batch, &self.conditions, guidance),
        }
    }

    /// The bytes of its memory.
    pub fn workspace_bytes(&self, pipeline: &Pipeline, batch: usize) -> Result<usize> {
        match &self.guidance {
            None => pipeline.workspace_bytes(batch),
            Some(_) => pipeline.guided_workspace_bytes(batch),
        }
    }
}

impl ConditionArgs {
    /// Takes an option if it is one of these; its value is read from `args`.
    pub fn option(&mut self, name: &str, args: &mut Args) -> Outcome<bool> {
        match name {
            "condition" => add(&mut self.positive, name, args)?,
            "negative" => add(&mut self.negative, name, args)?,
            "negative-class" => self.negative_classes = Some(args.classes()?),
            "guidance" => self.scale = Some(args.number("a number", -1000.0..=1000.0)?),
            "guidance-rescale" => self.rescale = Some(args.number("a number", 0.0..=1.0)?),
            "guidance-interval" => self.interval = Some(interval(args)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Checks what concerns several options.
    pub fn check(&self) -> Outcome {
        let negative = !self.negative.is_empty() || self.negative_classes.is_some();
        match self.scale {
            None if negative || self.rescale.is_some() || self.interval.is_some() => usage!(
                "--negative, --negative-class, --guidance-rescale and --guidance-interval are for --guidance, which is missing"
            ),
            Some(_) if !negative => usage!(
                "--guidance needs what to guide away from: --negative-class LIST (the label that stands for none) or --negative NAME=FILE"
            ),
            _ => Ok(()),
        }
    }

    /// The files read; `classes` are those of `--class`, checked.
    pub fn given(&self, pipeline: &Pipeline, classes: &[f32]) -> Result<Given> {
        let inputs = pipeline.inputs();
        let class = inputs.iter().find(|i| i.role.is_class());
        let mut conditions = read("--condition", &self.positive, inputs)?;
        if let Some(class) = class {
            conditions.set(&class.name, classes.to_vec());
        }
        if let Some(input) =
            inputs.iter().find(|i| i.role.is_condition() && !i.role.is_class() && conditions.get(&i.name).is_none())
        {
            return Err(invalid(format!(
                "the model needs the condition {:?}, {} for each sample: give --condition {}=FILE",
                input.name,
                input.given_dims(),
                input.name
            )));
        }
        let Some(scale) = self.scale else { return Ok(Given { conditions, guidance: None }) };
        let mut negative = read("--negative", &self.negative, inputs)?;
        if let Some(list) = &self.negative_classes {
            let class =
                class.ok_or_else(|| invalid("--negative-class is given, but the model takes no classes".into()))?;
            let rows = crate::source::class_rows(list, pipeline)?;
            pipeline.check_classes(&rows).map_err(|e| e.context("--negative-class"))?;
            negative.set(&class.name, rows);
        }
        let mut guidance = Guidance::new(scale, negative);
        guidance.rescale = self.rescale.unwrap_or(guidance.rescale);
        guidance.interval = self.interval.unwrap_or(guidance.interval);
        Ok(Given { conditions, guidance: Some(guidance) })
    }

    /// For a command that calls the network itself: the files of `--condition`.
    pub fn read(&self, inputs: &[Input]) -> Result<Conditions> {
        read("--condition", &self.positive, inputs)
    }
}

fn invalid(text: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, text)
}

/// `NAME=FILE`.
fn add(to: &mut Vec<(String, PathBuf)>, option: &str, args: &mut Args) -> Outcome {
    let text = args.text()?;
    let Some((name, file)) = text.split_once('=').filter(|(n, f)| !n.is_empty() && !f.is_empty()) else {
        return usage!("--{option} is {text:?}, expected NAME=FILE, as in image=low.png");
    };
    if to.iter().any(|(n, _)| n == name) {
        return usage!("--{option} gives {name} twice");
    }
    to.push((name.into(), file.into()));
    Ok(())
}

/// `LOW,HIGH`.
fn interval(args: &mut Args) -> Outcome<[f64; 2]> {
    let text = args.text()?;
    let parts = text.split_once(',').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    match parts {
        Some((low, high)) if 0.0 <= low && low < high => Ok([low, high]),
        _ => usage!("--guidance-interval is {text:?}, expected LOW,HIGH with 0 <= LOW < HIGH, as in 0.2,5"),
    }
}

fn read(option: &str, files: &[(String, PathBuf)], inputs: &[Input]) -> Result<Conditions> {
    let mut conditions = Conditions::new();
    for (name, path) in files {
        let named = |e: Error| e.context(format_args!("{option} {name}={}", path.display()));
        let is = |i: &&Input| i.name == *name && i.role.is_condition();
        let input = inputs.iter().find(is).ok_or_else(|| {
            let known: Vec<&str> = inputs.iter().filter(|i| i.role.is_condition()).map(|i| i.name.as_str()).collect();
            named(match known.as_slice() {
                [] => invalid("the model takes no condition".into()),
                known => invalid(format!("the model has no such condition, expected {}", known.join(", "))),
            })
        })?;
        if input.role.is_class() {
            let other = if option == "--condition" { "--class" } else { "--negative-class" };
            return Err(named(invalid(format!("classes are given by {other}"))));
        }
        conditions.set(name, rows(path, input).map_err(named)?);
    }
    Ok(conditions)
}

/// The rows of a file: a picture, a .npy, or the tensor of a .safetensors that has the input's name.
fn rows(path: &Path, input: &Input) -> Result<Vec<f32>> {
    let (of_image, dims) = (matches!(input.role, Role::Image | Role::Mask), input.given_dims());
    let ends = |e: &str| path.extension().is_some_and(|x| x.eq_ignore_ascii_case(e));
    let (array, whole) = if ends("npy") {
        let array = undiffuse::npy::read(path)?;
        let whole = !matches!(array.element, Element::F16 | Element::F32 | Element::F64 | Element::Bool);
        (Array { shape: array.shape, data: array.values }, whole)
    } else if ends("safetensors") {
        let file = SafeTensorsFile::open(path)?;
        let info = file.info(&input.name).ok_or_else(|| {
            let text = format!("the file has no tensor {}, but {}", input.name, file.names().join(", "));
            Error::new(ErrorKind::Weights, text)
        })?;
        let mut array = Array::zeros(&input.name, &info.shape)?;
        file.read_numbers(&input.name, &mut array.data)?;
        (array, !matches!(info.dtype, DType::F32 | DType::F16 | DType::BF16))
    } else {
        let bytes = std::fs::read(path).map_err(Error::from)?;
        if !(of_image && is_picture(&bytes)) {
            let kinds = if of_image { "a picture, a .npy or a .safetensors" } else { "a .npy or a .safetensors" };
            return Err(invalid(format!("the file is none that the condition {:?} is read from: {kinds}", input.name)));
        }
        let picture = Picture::decode(&bytes)?;
        let shape = vec![picture.channels, picture.height, picture.width];
        let of = |v: &f32| if input.role == Role::Mask { v / 255.0 } else { v / 127.5 - 1.0 };
        (Array { shape, data: picture.data.iter().map(of).collect() }, false)
    };
    if of_image && whole {
        let text = "an array of whole numbers, whose black and white nobody says: give floats as the model was trained on, or a picture";
        return Err(invalid(text.into()));
    }
    let one = array.shape == dims.as_slice();
    if !one && array.shape.split_first().is_none_or(|(_, rest)| rest != dims.as_slice()) {
        let each: Vec<String> = dims.as_slice().iter().map(ToString::to_string).collect();
        let text = format!("its shape is {:?}, expected {dims} or [N, {}]", array.shape, each.join(", "));
        return Err(Error::new(ErrorKind::Shape, text));
    }
    Ok(array.data)
}
