//! diffusers' `UNet1DModel`: sequences as images of height 1.
//!
//! Inputs: `sample` `[in_channels, 1, L]`, `timestep` `[1]`. Output: `sample` `[out_channels, 1, L]`. Parameters bear
//! the names of diffusers' state dict, those of attention today's (`to_q` for `query`, as for `UNet2DModel`). The
//! filters that change the length are fixed there: their buffers must be in the file, but are not read.
//!
//! Of the blocks there are two families: Dance Diffusion's (`DownBlock1DNoSkip`, `DownBlock1D`, `AttnDownBlock1D`,
//! `UNetMidBlock1D` and the blocks up), whose timestep, not embedded further, joins the channels of the first block,
//! and those of planning in reinforcement learning (`DownResnetBlock1D`, `MidResTemporalBlock1D`, `UpResnetBlock1D`,
//! `OutConv1DBlock`), which need `use_timestep_embedding`. Value functions, which are no denoisers, are refused.

use alloc::format;
use alloc::vec::Vec;

use super::family::{Architecture, Description, MAX_CHANNELS, MAX_LEVELS, MAX_SIZE, integers, skip};
use super::fields::{Fields, one_of, sample_size, word};
use super::unet2d::act_fn_or_null;
use super::{SAMPLE, TIMESTEP, take_class};
use crate::error::{Result, ensure, err};
use crate::graph::{Activation, Graph, GraphBuilder, Op, Role};

mod layers;

use layers::Layers;

/// The value of `_class_name`.
pub(super) const CLASS: &str = "UNet1DModel";

/// A block down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Down1d {
    /// `DownBlock1DNoSkip`: the timestep joins the channels; the length stays.
    NoSkip,
    /// `DownBlock1D`.
    Plain,
    /// `AttnDownBlock1D`.
    Attn,
    /// `DownResnetBlock1D`.
    Resnet,
}

/// The middle block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mid1d {
    /// `UNetMidBlock1D`.
    Attn,
    /// `MidResTemporalBlock1D`.
    Resnet,
}

/// A block up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Up1d {
    /// `UpBlock1DNoSkip`: the length stays.
    NoSkip,
    /// `UpBlock1D`.
    Plain,
    /// `AttnUpBlock1D`.
    Attn,
    /// `UpResnetBlock1D`.
    Resnet,
}

/// How a timestep becomes a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeEmbedding1d {
    /// Stored frequencies.
    Fourier,
    /// Fixed ones.
    Positional,
}

/// The configuration, under diffusers' names and with its defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct UNet1DConfig {
    /// The usual length.
    pub sample_size: Option<usize>,
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Channels that the first block has room for besides.
    pub extra_in_channels: usize,
    /// How a timestep becomes a vector.
    pub time_embedding_type: TimeEmbedding1d,
    /// Values of a vector of stored frequencies; `None` is twice the first of `block_out_channels`.
    pub time_embedding_dim: Option<usize>,
    /// Cosines before sines.
    pub flip_sin_to_cos: bool,
    /// Whether two linear maps follow.
    pub use_timestep_embedding: bool,
    /// See [`Op::SinusoidalEmbedding`].
    pub freq_shift: f32,
    /// Blocks down, finest first.
    pub down_block_types: Vec<Down1d>,
    /// The middle block.
    pub mid_block_type: Mid1d,
    /// Blocks up, coarsest first.
    pub up_block_types: Vec<Up1d>,
    /// Whether the network ends in an `OutConv1DBlock`.
    pub out_block: bool,
    /// Channels of each block, finest first.
    pub block_out_channels: Vec<usize>,
    /// Of the embedding and of the last block.
    pub act_fn: Option<Activation>,
    /// Groups of the last block's norm.
    pub norm_num_groups: Option<usize>,
    /// Residual layers of a `Resnet` block besides its first.
    pub layers_per_block: usize,
}

const DOWN: [(&str, Down1d); 4] = [
    ("DownBlock1DNoSkip", Down1d::NoSkip),
    ("DownBlock1D", Down1d::Plain),
    ("AttnDownBlock1D", Down1d::Attn),
    ("DownResnetBlock1D", Down1d::Resnet),
];
const UP: [(&str, Up1d); 4] = [
    ("UpBlock1DNoSkip", Up1d::NoSkip),
    ("UpBlock1D", Up1d::Plain),
    ("AttnUpBlock1D", Up1d::Attn),
    ("UpResnetBlock1D", Up1d::Resnet),
];

impl UNet1DConfig {
    /// Reads the text of a `config.json`. Errors (kind `Config`; `Unsupported` for a value function) name the key, what
    /// is accepted and what stands there.
    pub fn from_json(json: &str) -> Result<Self> {
        let mut f = Fields::parse(json)?;
        take_class(&mut f, CLASS)?;
        skip(&mut f, &["sample_rate"]);
        let mids = [
            ("UNetMidBlock1D", Some(Mid1d::Attn)),
            ("MidResTemporalBlock1D", Some(Mid1d::Resnet)),
            ("ValueFunctionMidBlock1D", None),
        ];
        let mid_block_type = f.word("mid_block_type", Some(Mid1d::Attn), &mids)?;
        let ends = [("OutConv1DBlock", Some(true)), ("ValueFunction", None)];
        let out_block = f.with("out_block_type", Some(false), "\"OutConv1DBlock\" or null", |v| match v.as_str() {
            Some(text) => word(text, &ends),
            None => v.is_null().then_some(Some(false)),
        })?;
        let (Some(mid_block_type), Some(out_block)) = (mid_block_type, out_block) else {
            return Err(err!(
                Unsupported,
                "mid_block_type or out_block_type is that of a ValueFunction, which gives one number and is no denoiser"
            ));
        };
        let each = f.boolean("downsample_each_block", false)?;
        let block_out_channels = integers(&mut f, "block_out_channels", &[32, 32, 64], 1..=MAX_CHANNELS)?;
        let usual = [Down1d::NoSkip, Down1d::Plain, Down1d::Attn];
        let down_block_types =
            f.list("down_block_types", usual.into(), MAX_LEVELS, one_of(&DOWN), |v| word(v.as_str()?, &DOWN))?;
        let usual = [Up1d::Attn, Up1d::Plain, Up1d::NoSkip];
        let up_block_types =
            f.list("up_block_types", usual.into(), MAX_LEVELS, one_of(&UP), |v| word(v.as_str()?, &UP))?;
        let embeddings = [("fourier", TimeEmbedding1d::Fourier), ("positional", TimeEmbedding1d::Positional)];
        let size = sample_size(&mut f, MAX_SIZE)?;
        let config = Self {
            sample_size: size.map(|[_, n]| n),
            in_channels: f.integer("in_channels", 2, 1..=MAX_CHANNELS)?,
            out_channels: f.integer("out_channels", 2, 1..=MAX_CHANNELS)?,
            extra_in_channels: f.integer("extra_in_channels", 0, 0..=MAX_CHANNELS)?,
            time_embedding_type: f.word("time_embedding_type", TimeEmbedding1d::Fourier, &embeddings)?,
            time_embedding_dim: f.integer_or_null("time_embedding_dim", None, 2..=MAX_CHANNELS)?,
            flip_sin_to_cos: f.boolean("flip_sin_to_cos", true)?,
            use_timestep_embedding: f.boolean("use_timestep_embedding", false)?,
            freq_shift: f.number("freq_shift", 0.0, -1e6..=1e6)? as f32,
            down_block_types,
            mid_block_type,
            up_block_types,
            out_block,
            act_fn: act_fn_or_null(&mut f)?,
            norm_num_groups: f.integer_or_null("norm_num_groups", Some(8), 1..=MAX_CHANNELS)?,
            layers_per_block: f.integer("layers_per_block", 1, 0..=1024)?,
            block_out_channels,
        };
        f.finish(
            "sample_size, in_channels, out_channels, extra_in_channels, time_embedding_type, time_embedding_dim, flip_sin_to_cos, \
             use_timestep_embedding, freq_shift, down_block_types, mid_block_type, up_block_types, out_block_type, block_out_channels, \
             act_fn, norm_num_groups, layers_per_block, downsample_each_block",
        )?;
        // Of other blocks it changes nothing; with these the way up has nothing as long to go with what the last makes.
        ensure!(
            !each
                || !(config.down_block_types.last() == Some(&Down1d::Resnet) || config.mid_block_type == Mid1d::Resnet),
            Unsupported,
            "downsample_each_block is true in the model config, expected false where the last block down is a DownResnetBlock1D or the middle one a \
             MidResTemporalBlock1D: only value functions run so in diffusers"
        );
        config.check()?;
        Ok(config)
    }

    /// What does not go together.
    fn check(&self) -> Result<()> {
        let (down, up) = (self.down_block_types.len(), self.up_block_types.len());
        let levels = self.block_out_channels.len();
        ensure!(
            levels == down && (1..=down).contains(&up),
            Config,
            "block_out_channels, down_block_types and up_block_types have {levels}, {down} and {up} entries, expected as many of the first two and no \
             more of the third"
        );
        let resnets = self.down_block_types.contains(&Down1d::Resnet)
            || self.up_block_types.contains(&Up1d::Resnet)
            || self.mid_block_type == Mid1d::Resnet;
        ensure!(
            !resnets || self.use_timestep_embedding,
            Config,
            "use_timestep_embedding is false in the model config, expected true for DownResnetBlock1D, MidResTemporalBlock1D and UpResnetBlock1D"
        );
        ensure!(
            self.time_embedding_type == TimeEmbedding1d::Positional || self.waves().is_multiple_of(2),
            Config,
            "time_embedding_dim is {} in the model config, expected an even number",
            self.waves()
        );
        let joined = self.down_block_types.iter().position(|b| *b == Down1d::NoSkip);
        ensure!(
            joined.is_none_or(|at| at == 0 && !self.use_timestep_embedding && self.extra_in_channels == self.waves()),
            Config,
            "a DownBlock1DNoSkip joins the {} values of the timestep to the channels: expected it to be the first block, use_timestep_embedding \
             false and extra_in_channels {}",
            self.waves(),
            self.waves()
        );
        ensure!(
            joined.is_some() || self.extra_in_channels == 0,
            Config,
            "extra_in_channels is {} in the model config, expected 0 where the first block is no DownBlock1DNoSkip",
            self.extra_in_channels
        );
        ensure!(
            self.act_fn.is_some() || !(self.use_timestep_embedding || self.out_block),
            Config,
            "act_fn is null in the model config, expected an activation for the embedding and the last block"
        );
        Ok(())
    }

    /// Values of the timestep before any map.
    fn waves(&self) -> usize {
        let first = self.block_out_channels.first().copied().unwrap_or(1);
        match self.time_embedding_type {
            TimeEmbedding1d::Fourier => self.time_embedding_dim.unwrap_or(2 * first),
            TimeEmbedding1d::Positional => first,
        }
    }

    /// How often the length is halved.
    fn halvings(&self) -> usize {
        let levels = self.down_block_types.len();
        let halves = |(level, block): (usize, &Down1d)| match block {
            Down1d::NoSkip => false,
            Down1d::Plain | Down1d::Attn => true,
            Down1d::Resnet => level + 1 < levels,
        };
        self.down_block_types.iter().enumerate().filter(|b| halves(*b)).count()
            + usize::from(self.mid_block_type == Mid1d::Attn)
    }
}

impl Architecture for UNet1DConfig {
    fn describe(&self) -> Description {
        Description {
            class_name: CLASS,
            channels: self.in_channels,
            sample_size: self.sample_size.map(|n| [1, n]),
            multiple: [1, 1 << self.halvings().min(MAX_LEVELS + 1)],
            classes: None,
        }
    }

    fn build(&self, [height, length]: [usize; 2]) -> Result<Graph> {
        ensure!(height == 1, Config, "a {CLASS} of {height} x {length} samples, expected a height of 1");
        let mut g = GraphBuilder::new();
        let sample = g.input_as(Role::Sample, SAMPLE, &[self.in_channels, 1, length])?;
        let t = g.input_as(Role::Timestep, TIMESTEP, &[1])?;
        let (first, dim) = (self.block_out_channels.first().copied().unwrap_or(1), self.waves());
        let mut e = match self.time_embedding_type {
            TimeEmbedding1d::Fourier => {
                let weight = g.param("time_proj.weight", &[dim / 2])?;
                g.push(Op::FourierEmbedding { weight, log: false, flip_sin_to_cos: self.flip_sin_to_cos }, &[t])?
            }
            TimeEmbedding1d::Positional => {
                let (flip_sin_to_cos, freq_shift) = (self.flip_sin_to_cos, self.freq_shift);
                g.push(Op::SinusoidalEmbedding { dim, flip_sin_to_cos, freq_shift, max_period: 10_000.0 }, &[t])?
            }
        };
        if let (true, Some(f)) = (self.use_timestep_embedding, self.act_fn) {
            e = g.linear("time_mlp.linear_1", e, 4 * first, true)?;
            e = g.activation(e, f)?;
            e = g.linear("time_mlp.linear_2", e, first, true)?;
        }
        let resnets = self.use_timestep_embedding;
        let activated = if resnets { g.activation(e, Activation::Mish)? } else { e };
        let mut l = Layers { g, sample, embedding: e, activated, layers: self.layers_per_block };

        let levels = self.block_out_channels.len();
        let mut x = sample;
        let mut kept = Vec::new();
        for (level, (block, &out)) in self.down_block_types.iter().zip(&self.block_out_channels).enumerate() {
            let name = format!("down_blocks.{level}");
            let (next, skip) = l.down(&name, x, *block, out, level + 1 < levels).map_err(|e| e.context(&name))?;
            x = next;
            kept.push(skip);
        }
        let coarsest = self.block_out_channels.last().copied().unwrap_or(first);
        x = l.middle("mid_block", x, self.mid_block_type, coarsest).map_err(|e| e.context("mid_block"))?;
        let last = if self.out_block { first } else { self.out_channels };
        for (i, block) in self.up_block_types.iter().enumerate() {
            let name = format!("up_blocks.{i}");
            let out = match i + 1 == self.up_block_types.len() {
                true => last,
                false => self.block_out_channels.iter().rev().nth(i + 1).copied().unwrap_or(last),
            };
            let skip = kept.pop().ok_or_else(|| err!(Config, "{name}: there is nothing left from the way down"))?;
            x = l.up(&name, x, skip, *block, out, i + 1 < levels).map_err(|e| e.context(&name))?;
        }
        if let (true, Some(f)) = (self.out_block, self.act_fn) {
            let groups = self.norm_num_groups.unwrap_or((first / 4).clamp(1, 32));
            x = l.g.conv1d("out_block.final_conv1d_1", x, first, 5, 1, 2)?;
            x = l.g.group_norm("out_block.final_conv1d_gn", x, groups, layers::EPS)?;
            x = l.g.activation(x, f)?;
            x = l.g.linear_row("out_block.final_conv1d_2", x, self.out_channels)?;
        }
        l.g.output(SAMPLE, x)?;
        l.g.finish()
    }
}
