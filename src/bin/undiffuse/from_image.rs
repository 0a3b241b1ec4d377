//! `--image` and `--strength` of `undiffuse sample`: samples that begin at pictures.

use std::path::PathBuf;

use undiffuse::codec::{Codec, Encoder};
use undiffuse::pipeline::{Pipeline, Source};
use undiffuse::sampler::{Sampler, start_of_strength};
use undiffuse::{Cancel, Result};

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
    /// Errors: of a latent model those of its autoencoder's configuration; as [`Input::read`] and [`fit::check`].
    pub fn open(&self, model: &mut ModelArgs, source: &Source<'_>) -> Result<Option<Opened<'_>>> {
        let Some(path) = &self.path else { return Ok(None) };
        let encoder = source.autoencoder()?;
        model.set_encodes();
        let input = Input::read(path)?;
        input.check_opaque()?;
        fit::check(model, source, &input, &self.reading, None, false, encoder.as_ref())?;
        Ok(Some(Opened { input, args: self }))
    }
}

/// A file of pictures that are the model's.
pub struct Opened<'a> {
    input: Input,
    args: &'a ImageArgs,
}

impl Opened<'_> {
    /// The pictures as what the model makes, or encodes. Errors: as [`Input::items`].
    pub fn pictures(&self, pipeline: &Pipeline) -> Result<Pictures> {
        let dims = pipeline.encoder().map_or(Ok(pipeline.sample_dims()), Encoder::data_dims)?;
        let Array { data, shape } = self.input.items("the picture", &dims, &self.args.reading, Some(0.0))?;
        let count = shape.first().copied().unwrap_or_default();
        Ok(Pictures { data, count, strength: self.args.strength.unwrap_or(STRENGTH) })
    }
}

/// Pictures.
pub struct Pictures {
    data: Vec<f32>,
    count: usize,
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

    /// What `count` samples from number `first` on begin at: of one picture all at the same, unless `each` samples the
    /// encoder's distribution with noise of its own. `noise` writes that of a picture's number, or of a sample's.
    ///
    /// Errors: as [`Codec::encode`]; those of `noise`.
    pub fn encode(
        &self,
        codec: &mut Codec,
        [first, count]: [u64; 2],
        each: bool,
        noise: &mut dyn FnMut(u64, &mut [f32]) -> Result<()>,
        cancel: &Cancel,
    ) -> Result<Begun> {
        let has_posterior = codec.encoder().is_some_and(Encoder::has_posterior);
        let is_one = self.count == 1 && !(each && has_posterior);
        let numbers = if is_one { 0..1 } else { first..first.saturating_add(count) };
        let (len, m) = (codec.sample_dims().elements(), codec.encoded_dims()?.elements());
        let rows = numbers.clone().count();
        let mut data = Array::zeros("what samples begin at", &[rows, len])?.data;
        let mut z = Array::zeros("the encoder's noise", &[if has_posterior { len } else { 0 }])?.data;
        for (number, x) in numbers.clone().zip(data.chunks_exact_mut(len)) {
            let picture = (number % self.count.max(1) as u64) as usize * m;
            let picture = self.data.get(picture..picture.saturating_add(m)).unwrap_or_default();
            if has_posterior {
                noise(number, &mut z)?;
            }
            codec.encode(picture, has_posterior.then_some(&z), x, cancel).map_err(|e| e.context("--image"))?;
        }
        Ok(Begun { data, len, first: numbers.start, is_one })
    }
}

/// What samples begin at.
pub struct Begun {
    data: Vec<f32>,
    len: usize,
    first: u64,
    is_one: bool,
}

impl Begun {
    /// Writes those of the samples from number `first` on, as many as `to` has room for.
    pub fn rows(&self, first: u64, to: &mut [f32]) {
        for (i, to) in to.chunks_exact_mut(self.len).enumerate() {
            let row = if self.is_one { 0 } else { first.saturating_sub(self.first) as usize + i };
            if let Some(from) = self.data.chunks_exact(self.len).nth(row) {
                to.copy_from_slice(from);
            }
        }
    }
}
