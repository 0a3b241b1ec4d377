//! The configuration of diffusers' `UNet2DModel`, checked.

use alloc::vec::Vec;

use crate::error::{Result, ensure, err};
use crate::graph::Activation;
use crate::json::Value;
use crate::model::fields::{Fields, integer, one_of, sample_size, word};

/// The most blocks on each way; real models have up to 7.
const MAX_BLOCKS: usize = 16;
/// The most channels of one value; real models have up to 1536.
const MAX_CHANNELS: usize = 1 << 15;
/// The largest height or width.
const MAX_SIZE: usize = 1 << 13;

/// What stands in a block beside its residual layers: the stem of diffusers' block names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockType {
    /// `DownBlock2D`, `UpBlock2D`.
    Plain,
    /// `AttnDownBlock2D`, `AttnUpBlock2D`: attention after each residual layer.
    Attn,
    /// `ResnetDownsampleBlock2D`, `ResnetUpsampleBlock2D`: a residual layer resamples.
    Resnet,
    /// `SkipDownBlock2D`, `SkipUpBlock2D`: an image of 3 channels is resampled alongside with an FIR filter (Song et
    /// al. 2021, NCSN++).
    Skip,
    /// `AttnSkipDownBlock2D`, `AttnSkipUpBlock2D`: both.
    AttnSkip,
    /// `KDownBlock2D`, `KUpBlock2D`: norms whose factors and offsets are the embedding's, filters with mirrored edges.
    K,
    /// `KCrossAttnUpBlock2D`, upwards only: attention after each residual layer of a K block. Its tokens are the
    /// pixels, since this network has no others.
    KCrossAttn,
}

impl BlockType {
    /// Whether its groups follow from its channels and not from `norm_num_groups`.
    pub fn is_skip(self) -> bool {
        matches!(self, Self::Skip | Self::AttnSkip)
    }
}

/// How a block changes the image size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resampling {
    /// A convolution, after nearest upsampling or with stride 2.
    Conv,
    /// A residual layer with nearest upsampling or average pooling inside.
    Resnet,
}

/// How a timestep becomes a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeEmbedding {
    /// Sine and cosine of fixed frequencies (Ho et al. 2020).
    Positional,
    /// Sine and cosine of stored frequencies, of the logarithm of sigma; the output is divided by sigma (Song et al.
    /// 2021).
    Fourier,
    /// A row of a table.
    Learned,
}

/// What the class argument is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClassEmbedding {
    /// A number, embedded as a timestep is.
    Timestep,
    /// A vector that is added to the time embedding.
    Identity,
}

/// How the time embedding enters a residual layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeScaleShift {
    /// It is added before the second norm.
    Default,
    /// It scales and shifts the result of the second norm.
    ScaleShift,
}

/// The configuration of diffusers' `UNet2DModel`, under its names. See the fields' documentation there for how they
/// were meant; here stands what they do. A missing key has diffusers' default.
#[derive(Clone, Debug, PartialEq)]
pub struct UNet2DConfig {
    /// Height and width of the images, if the model has a usual one.
    pub sample_size: Option<[usize; 2]>,
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Whether the input is taken as `2 x - 1`.
    pub center_input_sample: bool,
    /// How a timestep becomes a vector.
    pub time_embedding_type: TimeEmbedding,
    /// Channels of the time embedding; `None` is four times the first of `block_out_channels`.
    pub time_embedding_dim: Option<usize>,
    /// See [`Op::SinusoidalEmbedding`](crate::graph::Op::SinusoidalEmbedding).
    pub freq_shift: f32,
    /// Cosines before sines in the positional embedding.
    pub flip_sin_to_cos: bool,
    /// Blocks on the way down, finest first.
    pub down_block_types: Vec<BlockType>,
    /// Whether there is a middle block (`mid_block_type` is `"UNetMidBlock2D"`, not `null`).
    pub mid_block: bool,
    /// Blocks on the way up, coarsest first.
    pub up_block_types: Vec<BlockType>,
    /// Channels of each block, finest first.
    pub block_out_channels: Vec<usize>,
    /// Residual layers in each block down; a block up has one more.
    pub layers_per_block: usize,
    /// What the middle block's layers are divided by.
    pub mid_block_scale_factor: f32,
    /// Zeros around the image before a strided convolution: 1 on all sides, or (0) one at the right and at the bottom.
    pub downsample_padding: usize,
    /// How `AttnDownBlock2D` halves the size.
    pub downsample_type: Resampling,
    /// How `AttnUpBlock2D` doubles the size.
    pub upsample_type: Resampling,
    /// The activation of the residual layers.
    pub act_fn: Activation,
    /// Channels of an attention head; `None` is a single head.
    pub attention_head_dim: Option<usize>,
    /// Groups of the norms; `None` (only with skip blocks) is a quarter of the channels, at most 32.
    pub norm_num_groups: Option<usize>,
    /// Groups of the norm before the middle attention; `None` is `norm_num_groups`, or no norm with scale and shift.
    pub attn_norm_num_groups: Option<usize>,
    /// Epsilon of all norms.
    pub norm_eps: f32,
    /// How the time embedding enters a residual layer.
    pub resnet_time_scale_shift: TimeScaleShift,
    /// Whether the middle block has attention.
    pub add_attention: bool,
    /// What the class argument is, if it is not a row number of a table.
    pub class_embed_type: Option<ClassEmbedding>,
    /// Rows of the class table.
    pub num_class_embeds: Option<usize>,
    /// Rows of the learned time table.
    pub num_train_timesteps: Option<usize>,
}

/// The keys of a configuration, for messages.
const KNOWN: &str = "sample_size, in_channels, out_channels, center_input_sample, time_embedding_type, time_embedding_dim, \
    freq_shift, flip_sin_to_cos, down_block_types, mid_block_type, up_block_types, block_out_channels, layers_per_block, \
    mid_block_scale_factor, downsample_padding, downsample_type, upsample_type, dropout, act_fn, attention_head_dim, \
    norm_num_groups, attn_norm_num_groups, norm_eps, resnet_time_scale_shift, add_attention, class_embed_type, \
    num_class_embeds, num_train_timesteps";

/// What diffusers' `EMAModel` adds to a configuration that it saves; it says nothing about the network.
const EMA_KEYS: [&str; 7] =
    ["decay", "inv_gamma", "min_decay", "optimization_step", "power", "update_after_step", "use_ema_warmup"];

const DOWN_TYPES: [(&str, BlockType); 6] = [
    ("KDownBlock2D", BlockType::K),
    ("DownBlock2D", BlockType::Plain),
    ("AttnDownBlock2D", BlockType::Attn),
    ("ResnetDownsampleBlock2D", BlockType::Resnet),
    ("SkipDownBlock2D", BlockType::Skip),
    ("AttnSkipDownBlock2D", BlockType::AttnSkip),
];

const UP_TYPES: [(&str, BlockType); 7] = [
    ("KUpBlock2D", BlockType::K),
    ("KCrossAttnUpBlock2D", BlockType::KCrossAttn),
    ("UpBlock2D", BlockType::Plain),
    ("AttnUpBlock2D", BlockType::Attn),
    ("ResnetUpsampleBlock2D", BlockType::Resnet),
    ("SkipUpBlock2D", BlockType::Skip),
    ("AttnSkipUpBlock2D", BlockType::AttnSkip),
];

const ACTIVATIONS: [(&str, Activation); 5] = [
    ("silu", Activation::Silu),
    ("swish", Activation::Silu),
    ("mish", Activation::Mish),
    ("gelu", Activation::Gelu),
    ("relu", Activation::Relu),
];

const RESAMPLINGS: [(&str, Resampling); 2] = [("conv", Resampling::Conv), ("resnet", Resampling::Resnet)];

/// Before version 0.1 diffusers named its blocks with this in front.
const OLD_PREFIX: &str = "UNetRes";

/// Takes `act_fn`, in any case as diffusers takes it.
pub(in crate::model) fn act_fn(f: &mut Fields, default: Activation) -> Result<Activation> {
    f.with("act_fn", default, one_of(&ACTIVATIONS), |v| word(&v.as_str()?.to_ascii_lowercase(), &ACTIVATIONS))
}

/// Takes `act_fn` where there may be none.
pub(in crate::model) fn act_fn_or_null(f: &mut Fields) -> Result<Option<Activation>> {
    f.with("act_fn", None, format_args!("{} or null", one_of(&ACTIVATIONS)), |v| match v.as_str() {
        Some(text) => word(&text.to_ascii_lowercase(), &ACTIVATIONS).map(Some),
        None => v.is_null().then_some(None),
    })
}

impl UNet2DConfig {
    /// Reads the text of a `config.json`. Errors (kind `Config`) name the key, what is accepted and what stands there:
    /// malformed or too deep JSON, an unknown key or value, a number out of its range, lists that do not go together.
    pub fn from_json(json: &str) -> Result<Self> {
        let mut f = Fields::parse(json)?;
        if let Some(class) = f.take("_class_name") {
            let known = matches!(class.as_str(), Some("UNet2DModel" | "UNetUnconditionalModel"));
            ensure!(
                known,
                Unsupported,
                "the model is of class {class}, expected \"UNet2DModel\" or its old name \"UNetUnconditionalModel\""
            );
        }
        Self::rest(f)
    }

    /// Reads all keys but the class.
    pub(super) fn rest(mut f: Fields) -> Result<Self> {
        for key in EMA_KEYS {
            f.take(key);
        }
        let blocks = |f: &mut Fields, key: &str, default: [BlockType; 4], types: &[(&str, BlockType)]| {
            f.list(key, default.into(), MAX_BLOCKS, one_of(types), |v| {
                let name = v.as_str()?;
                word(name.strip_prefix(OLD_PREFIX).unwrap_or(name), types)
            })
        };
        use BlockType::{Attn, Plain};
        let config = Self {
            sample_size: sample_size(&mut f, MAX_SIZE)?,
            in_channels: f.integer("in_channels", 3, 1..=MAX_CHANNELS)?,
            out_channels: f.integer("out_channels", 3, 1..=MAX_CHANNELS)?,
            center_input_sample: f.boolean("center_input_sample", false)?,
            time_embedding_type: f.word(
                "time_embedding_type",
                TimeEmbedding::Positional,
                &[
                    ("positional", TimeEmbedding::Positional),
                    ("fourier", TimeEmbedding::Fourier),
                    ("learned", TimeEmbedding::Learned),
                ],
            )?,
            time_embedding_dim: f.integer_or_null("time_embedding_dim", None, 0..=4 * MAX_CHANNELS)?.filter(|&d| d > 0),
            freq_shift: f.number("freq_shift", 0.0, -1e6..=1e6)? as f32,
            flip_sin_to_cos: f.boolean("flip_sin_to_cos", true)?,
            down_block_types: blocks(&mut f, "down_block_types", [Plain, Attn, Attn, Attn], &DOWN_TYPES)?,
            mid_block: f.with("mid_block_type", true, "\"UNetMidBlock2D\" or null", |v| match v {
                Value::Null => Some(false),
                v => (v.as_str()? == "UNetMidBlock2D").then_some(true),
            })?,
            up_block_types: blocks(&mut f, "up_block_types", [Attn, Attn, Attn, Plain], &UP_TYPES)?,
            block_out_channels: f.list(
                "block_out_channels",
                [224, 448, 672, 896].into(),
                MAX_BLOCKS,
                "a whole number from 1 to 32768",
                |v| integer(v, &(1..=MAX_CHANNELS)),
            )?,
            layers_per_block: f.integer("layers_per_block", 2, 1..=64)?,
            mid_block_scale_factor: f.number("mid_block_scale_factor", 1.0, 1e-3..=1e3)? as f32,
            downsample_padding: f.integer("downsample_padding", 1, 0..=1)?,
            downsample_type: f.word("downsample_type", Resampling::Conv, &RESAMPLINGS)?,
            upsample_type: f.word("upsample_type", Resampling::Conv, &RESAMPLINGS)?,
            act_fn: act_fn(&mut f, Activation::Silu)?,
            attention_head_dim: f.integer_or_null("attention_head_dim", Some(8), 1..=MAX_CHANNELS)?,
            norm_num_groups: f.integer_or_null("norm_num_groups", Some(32), 1..=MAX_CHANNELS)?,
            attn_norm_num_groups: f.integer_or_null("attn_norm_num_groups", None, 1..=MAX_CHANNELS)?,
            norm_eps: f.number("norm_eps", 1e-5, 0.0..=1.0)? as f32,
            resnet_time_scale_shift: f.word(
                "resnet_time_scale_shift",
                TimeScaleShift::Default,
                &[("default", TimeScaleShift::Default), ("scale_shift", TimeScaleShift::ScaleShift)],
            )?,
            add_attention: f.boolean("add_attention", true)?,
            class_embed_type: f.with("class_embed_type", None, "\"timestep\", \"identity\" or null", |v| match v {
                Value::Null => Some(None),
                v => {
                    word(v.as_str()?, &[("timestep", ClassEmbedding::Timestep), ("identity", ClassEmbedding::Identity)])
                        .map(Some)
                }
            })?,
            num_class_embeds: f.integer_or_null("num_class_embeds", None, 1..=1 << 24)?,
            num_train_timesteps: f.integer_or_null("num_train_timesteps", None, 1..=1 << 24)?,
        };
        // Checked although inference drops nothing.
        f.number("dropout", 0.0, 0.0..=1.0)?;
        f.finish(KNOWN)?;
        config.check()?;
        Ok(config)
    }

    /// Checks what concerns several keys. [`UNet2DConfig::from_json`] has done it; a config made by hand is checked
    /// when it is translated.
    pub(super) fn check(&self) -> Result<()> {
        let n = self.block_out_channels.len();
        ensure!(
            (1..=MAX_BLOCKS).contains(&n),
            Config,
            "block_out_channels has {n} entries, expected 1 to {MAX_BLOCKS}"
        );
        for (key, len) in
            [("down_block_types", self.down_block_types.len()), ("up_block_types", self.up_block_types.len())]
        {
            ensure!(len == n, Config, "{key} has {len} entries, expected {n} as in block_out_channels");
        }
        if self.norm_num_groups.is_none() {
            let all_skip = self.down_block_types.iter().chain(&self.up_block_types).all(|b| b.is_skip());
            ensure!(all_skip, Config, "norm_num_groups is null, expected a number unless all blocks are skip blocks");
        }
        ensure!(
            self.time_embedding_type != TimeEmbedding::Learned || self.num_train_timesteps.is_some(),
            Config,
            "num_train_timesteps is null, expected a number with time_embedding_type \"learned\""
        );
        if self.time_embedding_type == TimeEmbedding::Positional {
            let half = self.block_out_channels.first().copied().unwrap_or(0) / 2;
            ensure!(
                half as f32 != self.freq_shift,
                Config,
                "freq_shift is {}, expected anything but half of the first block_out_channels",
                self.freq_shift
            );
        }
        Ok(())
    }

    /// Channels of x: those of the input that are not of an [image beside it](UNet2DConfig::image_channels).
    pub fn sample_channels(&self) -> usize {
        self.in_channels - self.image_channels()
    }

    /// Channels of the image that is concatenated to x: what the input has more than the output, mostly 0.
    pub fn image_channels(&self) -> usize {
        self.in_channels.saturating_sub(self.out_channels)
    }

    /// Channels of the time embedding.
    pub fn time_embed_dim(&self) -> usize {
        self.time_embedding_dim
            .unwrap_or_else(|| self.block_out_channels.first().copied().unwrap_or(1).saturating_mul(4))
    }

    /// The height and width to build for: `wanted` if given, else the configuration's. Errors (kind `Config`): neither
    /// is there, or they cannot be halved as often as the model does.
    pub fn size(&self, wanted: Option<[usize; 2]>) -> Result<[usize; 2]> {
        let size = wanted
            .or(self.sample_size)
            .ok_or_else(|| err!(Config, "sample_size is null in the model config, so the image size must be given"))?;
        let multiple = 1usize << (self.block_out_channels.len().clamp(1, MAX_BLOCKS) - 1);
        for side in size {
            ensure!(
                side > 0 && side <= MAX_SIZE && side.is_multiple_of(multiple),
                Config,
                "the image is {} x {}, expected multiples of {multiple} up to {MAX_SIZE}, as {} blocks need",
                size[0],
                size[1],
                self.block_out_channels.len()
            );
        }
        Ok(size)
    }
}
