//! `--image` and `--strength` of `undiffuse sample`: samples that begin at pictures.

use std::path::PathBuf;

use undiffuse::pipeline::{Pipeline, Source};
use undiffuse::sampler::{Sampler, start_of_strength};
use undiffuse::tensor::Dims;
use undiffuse::values::Scale;
use undiffuse::{Error, ErrorKind, Result};

use crate::args::{Args, Outcome, usage};
use crate::arrays::Array;
use crate::restore::fit;
use crate::restore::input::Input;
use crate::restore::reading::Reading;
use crate::source::ModelArgs;

/// How much of the noise of x_T a picture gets, unless `--strength` says otherwise; diffusers' number.
const STRENGTH: f64 = 0.8;

/// The options.
#[derive(Debug, Default)]
pub struct ImageArgs {
    path: Option<PathBuf>,
    strength: Option<f64>,
    reading: Reading,
    /// An option of `reading` that was given.
    said: Option<String>,
}

impl ImageArgs {
    /// Takes an option if it is one of these; its value is read from `args`.
    pub fn option(&mut self, name: &str, args: &mut Args) -> Outcome<bool> {
        match name {
            "image" => self.path = Some(args.path()?),
            "strength" => {
                let strength = args.number("a number", 0.0..=1.0)?;
                if strength == 0.0 {
                    return usage!("--strength is 0, with which nothing is done, expected above 0 and at most 1");
                }
                self.strength = Some(strength);
            }
            "mask-threshold" => return Ok(false),
            other if self.reading.option(other, args)? => self.said = Some(other.into()),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Checks what concerns several options.
    pub fn check(&self) -> Outcome {
        let alone = self.strength.map(|_| "strength").or(self.said.as_deref());
        if let (None, Some(option)) = (&self.path, alone) {
            return usage!("--{option} is for --image, which is missing");
        }
        self.reading.check()
    }

    /// Whether there are pictures.
    pub fn is_given(&self) -> bool {
        self.path.is_some()
    }

    /// The pictures of `--image`, of whose size a model without one becomes; `None` without the option.
    ///
    /// Errors: kind `Unsupported` for a latent model; as [`Input::read`] and [`fit::check`].
    pub fn open(&self, model: &mut ModelArgs, source: &Source<'_>) -> Result<Option<Opened<'_>>> {
        let Some(path) = &self.path else { return Ok(None) };
        if source.is_latent() {
            let text =
                "--image: its samples are latents, and the encoder that makes latents of a picture is not here yet";
            return Err(Error::new(ErrorKind::Unsupported, format!("{}: {text}", model.name())));
        }
        let input = Input::read(path)?;
        input.check_opaque()?;
        fit::check(model, source, &input, &self.reading, None, false)?;
        Ok(Some(Opened { input, args: self }))
    }
}

/// A file of pictures that are the model's.
pub struct Opened<'a> {
    input: Input,
    args: &'a ImageArgs,
}

impl Opened<'_> {
    /// The pictures as what the model makes. Errors: as [`Input::items`].
    pub fn pictures(&self, pipeline: &Pipeline) -> Result<Pictures> {
        let dims = pipeline.sample_dims();
        let Array { mut data, shape } = self.input.items("the picture", &dims, &self.args.reading, Some(0.0))?;
        let scale = pipeline.scale();
        if scale != Scale::default() {
            scale.apply(&mut data);
        }
        let count = shape.first().copied().unwrap_or_default();
        Ok(Pictures { data, count, dims, strength: self.args.strength.unwrap_or(STRENGTH) })
    }
}

/// What samples begin at.
pub struct Pictures {
    data: Vec<f32>,
    count: usize,
    dims: Dims,
    strength: f64,
}

impl Pictures {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The step at which a run begins. Errors: as [`start_of_strength`].
    pub fn start(&self, sampler: &dyn Sampler) -> Result<usize> {
        start_of_strength(sampler, self.strength).map_err(|e| e.context("--image"))
    }

    /// Writes those of the samples from number `first` on, as many as `to` has room for: one picture is that of all.
    pub fn rows(&self, first: u64, to: &mut [f32]) {
        let n = self.dims.elements().max(1);
        for (i, to) in to.chunks_exact_mut(n).enumerate() {
            let number = first.saturating_add(i as u64) % self.count.max(1) as u64;
            if let Some(from) = self.data.chunks_exact(n).nth(number as usize) {
                to.copy_from_slice(from);
            }
        }
    }
}
