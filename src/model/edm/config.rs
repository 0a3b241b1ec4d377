//! The configuration of EDM's networks.

use alloc::string::String;
use alloc::vec::Vec;

use super::CLASS;
use crate::error::{Result, ensure};
use crate::model::family::{MAX_CHANNELS, MAX_LEVELS, MAX_SIZE, integers, skip};
use crate::model::fields::Fields;
use crate::model::take_class;

/// Which of the two networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EdmNetwork {
    /// `SongUNet`: ddpm++ and ncsn++ (Song et al. 2021).
    Song,
    /// `DhariwalUNet`: ADM (Dhariwal and Nichol 2021).
    Dhariwal,
}

/// How a finer level reaches a coarser one beside the blocks of a `SongUNet`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Side {
    /// Not at all.
    Standard,
    /// The image itself, resampled.
    Skip,
    /// The image through a convolution at each level; only of an encoder.
    Residual,
}

/// The arguments of the network's constructor, with EDM's defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct EdmConfig {
    /// Which network.
    pub model_type: EdmNetwork,
    /// Height and width.
    pub img_resolution: usize,
    /// Channels of input and output.
    pub img_channels: usize,
    /// Classes, 0 for none.
    pub label_dim: usize,
    /// Values of the augmentation's label, which sampling leaves out, but whose weights the checkpoint has.
    pub augment_dim: usize,
    /// Channels of the first level: 128, or 192 of a `DhariwalUNet`.
    pub model_channels: usize,
    /// A factor for each level, finest first.
    pub channel_mult: Vec<usize>,
    /// Channels of the embedding over `model_channels`.
    pub channel_mult_emb: usize,
    /// Residual layers of each level on the way down.
    pub num_blocks: usize,
    /// The resolutions with attention.
    pub attn_resolutions: Vec<usize>,
    /// Whether the noise level is embedded by fixed frequencies (`positional`), or stored ones (`fourier`).
    pub positional: bool,
    /// Channels of that embedding over `model_channels`.
    pub channel_mult_noise: usize,
    /// `encoder_type`.
    pub encoder: Side,
    /// `decoder_type`.
    pub decoder: Side,
    /// Taps of the resampling filter, symmetric and of even number.
    pub resample_filter: Vec<usize>,
}

impl EdmConfig {
    /// Reads the arguments of `EDMPrecond` with those of its network. Errors (kind `Config`) name the key, what is
    /// accepted and what stands there.
    pub fn from_json(json: &str) -> Result<Self> {
        let mut f = Fields::parse(json)?;
        take_class(&mut f, CLASS)?;
        // The preconditioning is the scheduler's; dropout and augmentation are training's.
        skip(&mut f, &["dropout", "label_dropout", "use_fp16", "sigma_min", "sigma_max", "sigma_data"]);
        let types = [("SongUNet", EdmNetwork::Song), ("DhariwalUNet", EdmNetwork::Dhariwal)];
        let model_type = f.word("model_type", EdmNetwork::Song, &types)?;
        let song = model_type == EdmNetwork::Song;
        let (mult, attention): (&[usize], &[usize]) =
            if song { (&[1, 2, 2, 2], &[16]) } else { (&[1, 2, 3, 4], &[32, 16, 8]) };
        let config = Self {
            model_type,
            img_resolution: f.integer("img_resolution", 32, 1..=MAX_SIZE)?,
            img_channels: f.integer("img_channels", 3, 1..=MAX_CHANNELS)?,
            label_dim: f.integer("label_dim", 0, 0..=1 << 24)?,
            augment_dim: f.integer("augment_dim", 0, 0..=MAX_CHANNELS)?,
            model_channels: f.integer("model_channels", if song { 128 } else { 192 }, 4..=MAX_CHANNELS)?,
            channel_mult: integers(&mut f, "channel_mult", mult, 1..=64)?,
            channel_mult_emb: f.integer("channel_mult_emb", 4, 1..=64)?,
            num_blocks: f.integer("num_blocks", if song { 4 } else { 3 }, 1..=64)?,
            attn_resolutions: integers(&mut f, "attn_resolutions", attention, 1..=MAX_SIZE)?,
            positional: f.word("embedding_type", true, &[("positional", true), ("fourier", false)])?,
            channel_mult_noise: f.integer("channel_mult_noise", 1, 1..=64)?,
            encoder: f.word(
                "encoder_type",
                Side::Standard,
                &[("standard", Side::Standard), ("skip", Side::Skip), ("residual", Side::Residual)],
            )?,
            decoder: f.word("decoder_type", Side::Standard, &[("standard", Side::Standard), ("skip", Side::Skip)])?,
            resample_filter: integers(&mut f, "resample_filter", &[1, 1], 0..=1 << 16)?,
        };
        f.finish(
            "model_type, img_resolution, img_channels, label_dim, augment_dim, model_channels, channel_mult, channel_mult_emb, \
             num_blocks, attn_resolutions, embedding_type, channel_mult_noise, encoder_type, decoder_type, resample_filter",
        )?;
        ensure!(!config.channel_mult.is_empty(), Config, "channel_mult is empty, expected at least one level");
        let taps = &config.resample_filter;
        let symmetric =
            taps.iter().eq(taps.iter().rev()) && taps.len().is_multiple_of(2) && taps.iter().any(|&t| t > 0);
        ensure!(symmetric, Config, "resample_filter is {taps:?}, expected an even number of symmetric taps");
        Ok(config)
    }

    /// The name of a block.
    pub(super) fn name(&self, way: &str, level: usize, block: &str) -> String {
        let res = self.img_resolution >> level.min(MAX_LEVELS);
        alloc::format!("{way}.{res}x{res}_{block}")
    }

    pub(super) fn attends(&self, level: usize) -> bool {
        self.attn_resolutions.contains(&(self.img_resolution >> level.min(MAX_LEVELS)))
    }
}
