//! Autoencoders between images and the latents that a latent diffusion model works on: diffusers' `AutoencoderKL`,
//! `VQModel` and `AutoencoderTiny`.
//!
//! An autoencoder is no denoiser. Its decoder is a network from `sample`, latents `[c, h, w]`, to `sample`, images
//! `[C, f h, f w]` in [-1, 1]; its encoder goes the other way. Parameters bear the names of diffusers' state dict, each
//! network having those of its half. A denoiser's samples are latents in another scale: [`LatentScale`].
//!
//! ```
//! use undiffuse::model::autoencoder::AutoencoderConfig;
//!
//! let config = AutoencoderConfig::from_json(
//!     r#"{"_class_name": "AutoencoderKL", "block_out_channels": [32, 64], "latent_channels": 4,
//!         "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"],
//!         "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D"]}"#,
//! )?;
//! let graph = config.decoder([8, 8])?;
//! assert_eq!(graph.dims(graph.outputs()[0].value).as_slice(), [3, 16, 16]);
//! # Ok::<(), undiffuse::Error>(())
//! ```

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use super::family::{MAX_CHANNELS, MAX_LEVELS, MAX_SIZE, skip};
use super::fields::{Fields, integer, sample_size};
use super::unet2d::config::act_fn;
use crate::error::{Result, ensure, err};
use crate::graph::{Activation, Graph};
use crate::json::Value;

mod tiny;
mod vae;

use tiny::Tiny;
use vae::Vae;

/// How the samples of a denoiser become what a decoder takes: `z = x / divisor + shift` in each channel.
///
/// diffusers writes `scaling_factor` and `shift_factor` (`z = x / scaling_factor + shift_factor`), or `latents_mean`
/// and `latents_std` for each channel (`z = x * std / scaling_factor + mean`).
#[derive(Clone, Debug, PartialEq)]
pub struct LatentScale {
    /// Of each channel.
    pub divisor: Vec<f64>,
    /// Of each channel.
    pub shift: Vec<f64>,
}

impl LatentScale {
    /// Samples of a denoiser, `[N, c, ..]` with `positions` values in a channel, to what the decoder takes; in f64,
    /// rounded once.
    pub fn to_decoder(&self, values: &mut [f32], positions: usize) {
        self.each(values, positions, |x, divisor, shift| x / divisor + shift);
    }

    /// The inverse of [`LatentScale::to_decoder`]: what an encoder makes to samples.
    pub fn to_samples(&self, values: &mut [f32], positions: usize) {
        self.each(values, positions, |z, divisor, shift| (z - shift) * divisor);
    }

    fn each(&self, values: &mut [f32], positions: usize, f: impl Fn(f64, f64, f64) -> f64) {
        let of_channels = self.divisor.iter().zip(&self.shift).cycle();
        for (plane, (divisor, shift)) in values.chunks_mut(positions.max(1)).zip(of_channels) {
            plane.iter_mut().for_each(|v| *v = f(f64::from(*v), *divisor, *shift) as f32);
        }
    }

    /// Takes the four keys. `default` is `scaling_factor`'s.
    fn take(f: &mut Fields, channels: usize, default: f64) -> Result<Self> {
        let factor = f.number("scaling_factor", default, 1e-6..=1e6)?;
        let number = |v: &Value| v.as_f64().filter(|x| x.abs() <= 1e6);
        let shift = f.with("shift_factor", None, "a number or null", |v| match v {
            Value::Null => Some(None),
            v => number(v).map(Some),
        })?;
        let mut list = |key: &str| {
            let expected = alloc::format!("null or {channels} numbers");
            f.with(key, None, expected, |v| match v {
                Value::Null => Some(None),
                v => {
                    let items = v.as_array().filter(|a| a.len() == channels)?;
                    items.iter().map(number).collect::<Option<Vec<f64>>>().map(Some)
                }
            })
        };
        let (mean, std) = (list("latents_mean")?, list("latents_std")?);
        match (mean, std) {
            (Some(mean), Some(std)) => {
                ensure!(
                    shift.is_none_or(|s| s == 0.0),
                    Config,
                    "shift_factor is there beside latents_mean, expected one of them"
                );
                ensure!(std.iter().all(|s| *s > 0.0), Config, "latents_std is {std:?}, expected numbers above 0");
                Ok(Self { divisor: std.iter().map(|s| factor / s).collect(), shift: mean })
            }
            (None, None) => {
                Ok(Self { divisor: alloc::vec![factor; channels], shift: alloc::vec![shift.unwrap_or(0.0); channels] })
            }
            _ => Err(err!(Config, "one of latents_mean and latents_std is null, expected both or none")),
        }
    }
}

/// The configuration of an autoencoder, under diffusers' names and with its defaults.
///
/// Refused by name: `norm_type` `spatial`, `lookup_from_codebook`, other upsampling than `nearest`.
#[derive(Clone, Debug, PartialEq)]
pub struct AutoencoderConfig {
    /// Channels of the images that the encoder takes.
    pub in_channels: usize,
    /// Channels of the images that the decoder makes.
    pub out_channels: usize,
    /// Height and width of the images that it was trained with, if it says so.
    pub sample_size: Option<[usize; 2]>,
    /// From the scale of a denoiser's samples to the decoder's.
    pub scale: LatentScale,
    network: Network,
}

#[derive(Clone, Debug, PartialEq)]
enum Network {
    Vae(Box<Vae>),
    Tiny(Tiny),
}

/// The class names of diffusers.
const KL: &str = "AutoencoderKL";
const VQ: &str = "VQModel";
const TINY: &str = "AutoencoderTiny";

impl AutoencoderConfig {
    /// The class names in configurations.
    pub const CLASSES: &'static [&'static str] = &[KL, VQ, TINY];

    /// Reads the text of a `config.json`, whose `_class_name` says which autoencoder it is.
    ///
    /// Errors: kind `Unsupported` for another class; kind `Config` naming the key, what is accepted and what stands
    /// there.
    pub fn from_json(json: &str) -> Result<Self> {
        let mut f = Fields::parse(json)?;
        let class = f.take("_class_name");
        match class.as_ref().and_then(Value::as_str) {
            Some(KL) => Self::vae(f, KL),
            Some(VQ) => Self::vae(f, VQ),
            Some(TINY) => Self::tiny(f),
            _ => Err(err!(
                Unsupported,
                "the autoencoder is of class {}, expected one of {}",
                class.map_or(String::from("none"), |v| v.brief()),
                Self::CLASSES.join(", ")
            )),
        }
    }

    fn vae(mut f: Fields, class: &str) -> Result<Self> {
        let (in_channels, out_channels) = ends(&mut f)?;
        let quantises = class == VQ;
        let latent = f.integer("latent_channels", if quantises { 3 } else { 4 }, 1..=MAX_CHANNELS)?;
        let codebook = if quantises {
            f.word("norm_type", (), &[("group", ())])?;
            f.with("lookup_from_codebook", (), "false", |v| (v.as_bool() == Some(false)).then_some(()))?;
            let rows = f.integer("num_vq_embeddings", 256, 1..=1 << 24)?;
            Some([rows, f.integer_or_null("vq_embed_dim", None, 1..=MAX_CHANNELS)?.unwrap_or(latent)])
        } else {
            None
        };
        let scale = LatentScale::take(&mut f, codebook.map_or(latent, |[_, dim]| dim), 0.18215)?;
        let network = Network::Vae(Box::new(Vae::take(&mut f, latent, codebook)?));
        let sample_size = sample_size(&mut f, 1 << 16)?;
        skip(&mut f, &["force_upcast"]);
        f.finish(if quantises { vae::VQ_KEYS } else { vae::KL_KEYS })?;
        Ok(Self { in_channels, out_channels, sample_size, scale, network })
    }

    fn tiny(mut f: Fields) -> Result<Self> {
        let (in_channels, out_channels) = ends(&mut f)?;
        let tiny = Tiny::take(&mut f)?;
        let scale = LatentScale::take(&mut f, tiny.latent_channels, 1.0)?;
        // What training rounds latents to, and what diffusers adds when it saves.
        skip(&mut f, &["latent_magnitude", "latent_shift", "force_upcast", "block_out_channels"]);
        f.finish(tiny::KEYS)?;
        Ok(Self { in_channels, out_channels, sample_size: None, scale, network: Network::Tiny(tiny) })
    }

    /// The value of `_class_name`.
    pub fn class_name(&self) -> &'static str {
        match &self.network {
            Network::Vae(v) if v.codebook.is_some() => VQ,
            Network::Vae(_) => KL,
            Network::Tiny(_) => TINY,
        }
    }

    /// Channels of the latents: what the decoder takes.
    pub fn latent_channels(&self) -> usize {
        self.scale.divisor.len()
    }

    /// How many times the height and width of its latents an image has.
    pub fn factor(&self) -> usize {
        match &self.network {
            Network::Vae(v) => 1 << (v.levels() - 1),
            Network::Tiny(t) => t.factor(),
        }
    }

    /// The network from latents of this height and width to images. That of a `VQModel` quantises first, as
    /// `VQModel.decode` does: each position's latents become the nearest row of the codebook.
    ///
    /// Errors (kind `Config` or `Shape`): a size of 0 or one whose image is larger than 2^16, or layers that do not go
    /// together.
    pub fn decoder(&self, [height, width]: [usize; 2]) -> Result<Graph> {
        let fits = |n: usize| n > 0 && n <= MAX_SIZE;
        ensure!(
            fits(height) && fits(width),
            Config,
            "latents of {height} x {width}, expected sides from 1 to {MAX_SIZE}"
        );
        let dims = [self.latent_channels(), height, width];
        match &self.network {
            Network::Vae(v) => v.decoder(dims, self.out_channels),
            Network::Tiny(t) => t.decoder(dims, self.out_channels),
        }
    }

    /// The network from images in [-1, 1] of this height and width, mostly multiples of [`AutoencoderConfig::factor`],
    /// to latents, in the decoder's scale. Of an `AutoencoderKL` they are the mean of the distribution, and a second
    /// output `logvar` is the logarithm of its variance, which diffusers clamps to -30 to 20; those of a `VQModel` are
    /// not quantised.
    ///
    /// Errors: as [`AutoencoderConfig::decoder`].
    pub fn encoder(&self, [height, width]: [usize; 2]) -> Result<Graph> {
        let factor = self.encoder_factor();
        let fits = |n: usize| n > 0 && n <= MAX_SIZE && n.is_multiple_of(factor);
        ensure!(
            fits(height) && fits(width),
            Config,
            "images of {height} x {width}, expected multiples of {factor} up to {MAX_SIZE}"
        );
        let dims = [self.in_channels, height, width];
        match &self.network {
            Network::Vae(v) => v.encoder(dims),
            Network::Tiny(t) => t.encoder(dims),
        }
    }

    /// The names and dimensions of all parameters: the decoder's and the encoder's.
    pub fn parameters(&self) -> Result<Vec<crate::graph::Param>> {
        let (decoder, encoder) = (self.decoder([1, 1])?, self.encoder([self.encoder_factor(); 2])?);
        let mut seen = BTreeSet::new();
        let all = decoder.params().iter().chain(encoder.params());
        Ok(all.filter(|p| seen.insert(p.name.as_str())).cloned().collect())
    }

    /// How many times the height and width of its latents an image has that the encoder takes: mostly
    /// [`AutoencoderConfig::factor`].
    pub fn encoder_factor(&self) -> usize {
        match &self.network {
            Network::Vae(_) => self.factor(),
            Network::Tiny(t) => t.encoder_factor(),
        }
    }
}

/// `in_channels` and `out_channels`.
fn ends(f: &mut Fields) -> Result<(usize, usize)> {
    Ok((f.integer("in_channels", 3, 1..=MAX_CHANNELS)?, f.integer("out_channels", 3, 1..=MAX_CHANNELS)?))
}

/// Takes a list of as many numbers as there are levels.
fn per_level(f: &mut Fields, key: &str, default: &[usize], most: usize) -> Result<Vec<usize>> {
    let range = 0..=most;
    let expected = alloc::format!("a whole number up to {most}");
    f.list(key, default.to_vec(), MAX_LEVELS, expected, |v| integer(v, &range))
}

/// Takes `act_fn`.
fn activation(f: &mut Fields, default: Activation) -> Result<Activation> {
    act_fn(f, default)
}
