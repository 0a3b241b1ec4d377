//! MONAI's `DiffusionModelUNet` in two dimensions (Pinaya et al. 2022, after Rombach et al. 2022).
//!
//! Inputs: `sample` `[in_channels, H, W]`, `timestep` `[1]`, in class models `class_labels` `[1]`, and with
//! conditioning [`CONTEXT`] `[cross_attention_dim, context_length]`, which the caller gives as
//! `[context_length, cross_attention_dim]`. Output: `sample` `[out_channels, H, W]`. Parameters bear the names of
//! MONAI's state dict.
//!
//! A network with more channels in than out sees an image beside x, as MONAI's inferers put it there in their mode
//! `concat`: `sample` is then `[out_channels, H, W]` and the input [`IMAGE`] has the other channels.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::family::{Architecture, Description, MAX_CHANNELS, MAX_LEVELS, MAX_SIZE, integers, skip};
use super::fields::{Fields, sample_size};
use super::{CLASS_LABELS, IMAGE, SAMPLE, TIMESTEP, take_class};
use crate::error::{Result, ensure, err};
use crate::graph::{Activation, Graph, GraphBuilder, Op, Padding, Role};

mod layers;

use layers::{Layers, Scale};

/// The value of `_class_name`.
pub(super) const CLASS: &str = "DiffusionModelUNet";
/// The name of the input for what the samples are conditioned on.
pub const CONTEXT: &str = "context";

/// The arguments of the network's constructor, with its defaults, and two keys of this library's: `sample_size` and
/// `context_length`.
#[derive(Clone, Debug, PartialEq)]
pub struct DiffusionModelUNetConfig {
    /// The usual height and width, if there is one.
    pub sample_size: Option<[usize; 2]>,
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Residual layers of each level down; a level up has one more.
    pub num_res_blocks: Vec<usize>,
    /// Channels of each level, finest first.
    pub channels: Vec<usize>,
    /// Which levels have attention; the middle always has it.
    pub attention_levels: Vec<bool>,
    /// Groups of the norms; divides all channels.
    pub norm_num_groups: usize,
    /// Epsilon of the group norms.
    pub norm_eps: f32,
    /// Whether residual layers change the size, and not convolutions.
    pub resblock_updown: bool,
    /// Channels of a head, for each level.
    pub num_head_channels: Vec<usize>,
    /// Transformer layers of each attention that sees the context, where there is one.
    pub transformer_num_layers: usize,
    /// Values of a token of the context; `None` without conditioning.
    pub cross_attention_dim: Option<usize>,
    /// Tokens of the context, 1.
    pub context_length: usize,
    /// Rows of the class table.
    pub num_class_embeds: Option<usize>,
    /// Whether self-attention ends in a linear map.
    pub include_fc: bool,
    /// Whether one matrix projects queries, keys and values of self-attention.
    pub use_combined_linear: bool,
}

/// The keys of a configuration, for messages.
const KNOWN: &str = "sample_size, spatial_dims, in_channels, out_channels, num_res_blocks, channels, attention_levels, \
    norm_num_groups, norm_eps, resblock_updown, num_head_channels, with_conditioning, transformer_num_layers, \
    cross_attention_dim, context_length, num_class_embeds, include_fc, use_combined_linear";

impl DiffusionModelUNetConfig {
    /// Reads a configuration. Errors name the key, what is accepted and what stands there: kind `Unsupported` for
    /// another number of spatial dimensions than 2, else kind `Config`.
    pub fn from_json(json: &str) -> Result<Self> {
        let mut f = Fields::parse(json)?;
        take_class(&mut f, CLASS)?;
        skip(&mut f, &["upcast_attention", "dropout_cattn", "use_flash_attention"]);
        let dimensions = f.integer("spatial_dims", 2, 1..=3)?;
        ensure!(
            dimensions == 2,
            Unsupported,
            "spatial_dims is {dimensions}: networks of images are read, with spatial_dims 2, and no others"
        );
        let channels = integers(&mut f, "channels", &[32, 64, 64, 64], 1..=MAX_CHANNELS)?;
        let levels = channels.len();
        ensure!(levels > 0, Config, "channels is empty, expected at least one level");
        let of_levels = |f: &mut Fields, key: &str, default: usize, range| -> Result<Vec<usize>> {
            let list = integers(f, key, &[default], range)?;
            match list.as_slice() {
                &[one] => Ok(vec![one; levels]),
                all => {
                    ensure!(all.len() == levels, Config, "{key} has {} entries, expected 1 or {levels}", all.len());
                    Ok(list)
                }
            }
        };
        let num_res_blocks = of_levels(&mut f, "num_res_blocks", 2, 1..=1024)?;
        let num_head_channels = of_levels(&mut f, "num_head_channels", 8, 1..=MAX_CHANNELS)?;
        let usual = vec![false, false, true, true];
        let attention_levels = f.list("attention_levels", usual, MAX_LEVELS, "true or false", |v| v.as_bool())?;
        ensure!(
            attention_levels.len() == levels,
            Config,
            "attention_levels has {} entries, expected as many as channels, {levels}",
            attention_levels.len()
        );
        let conditioned = f.boolean("with_conditioning", false)?;
        let cross_attention_dim = f.integer_or_null("cross_attention_dim", None, 1..=MAX_CHANNELS)?;
        ensure!(
            conditioned == cross_attention_dim.is_some(),
            Config,
            "with_conditioning is {conditioned} and cross_attention_dim is {}, expected a number with conditioning and null without",
            cross_attention_dim.map_or(String::from("null"), |n| format!("{n}"))
        );
        let norm_num_groups = f.integer("norm_num_groups", 32, 1..=MAX_CHANNELS)?;
        let odd = channels.iter().find(|c| !c.is_multiple_of(norm_num_groups));
        ensure!(
            odd.is_none(),
            Config,
            "channels has {}, expected multiples of norm_num_groups, {norm_num_groups}",
            odd.unwrap_or(&0)
        );
        let config = Self {
            sample_size: sample_size(&mut f, MAX_SIZE)?,
            in_channels: f.integer("in_channels", 1, 1..=MAX_CHANNELS)?,
            out_channels: f.integer("out_channels", 1, 1..=MAX_CHANNELS)?,
            num_res_blocks,
            channels,
            attention_levels,
            norm_num_groups,
            norm_eps: f.number("norm_eps", 1e-6, 0.0..=1.0)? as f32,
            resblock_updown: f.boolean("resblock_updown", false)?,
            num_head_channels,
            transformer_num_layers: f.integer("transformer_num_layers", 1, 1..=1024)?,
            cross_attention_dim,
            context_length: f.integer("context_length", 1, 1..=1 << 16)?,
            num_class_embeds: f.integer_or_null("num_class_embeds", None, 1..=1 << 24)?,
            include_fc: f.boolean("include_fc", true)?,
            use_combined_linear: f.boolean("use_combined_linear", false)?,
        };
        f.finish(KNOWN)?;
        Ok(config)
    }

    /// Channels of the image that is concatenated to x: what the input has more than the output, mostly 0.
    pub fn image_channels(&self) -> usize {
        self.in_channels.saturating_sub(self.out_channels)
    }

    /// Channels of x.
    pub fn sample_channels(&self) -> usize {
        self.in_channels - self.image_channels()
    }

    fn width(&self, level: usize) -> usize {
        self.channels.get(level).copied().unwrap_or(1)
    }

    fn attends(&self, level: usize) -> bool {
        self.attention_levels.get(level) == Some(&true)
    }
}

impl Architecture for DiffusionModelUNetConfig {
    fn describe(&self) -> Description {
        Description {
            class_name: CLASS,
            channels: self.sample_channels(),
            sample_size: self.sample_size,
            multiple: [1 << (self.channels.len().clamp(1, MAX_LEVELS) - 1); 2],
            classes: self.num_class_embeds,
        }
    }

    fn build(&self, [height, width]: [usize; 2]) -> Result<Graph> {
        let mut g = GraphBuilder::new();
        let mut sample = g.input_as(Role::Sample, SAMPLE, &[self.sample_channels(), height, width])?;
        let t = g.input_as(Role::Timestep, TIMESTEP, &[1])?;
        if self.image_channels() > 0 {
            let image = g.input_as(Role::Image, IMAGE, &[self.image_channels(), height, width])?;
            sample = g.concat(&[sample, image])?;
        }
        let (dim, wide) = (self.width(0), 4 * self.width(0));
        ensure!(dim > 1, Config, "channels begins with {dim}, expected at least 2, for the embedding of the timestep");
        let waves = Op::SinusoidalEmbedding { dim, flip_sin_to_cos: true, freq_shift: 0.0, max_period: 10_000.0 };
        let e = g.push(waves, &[t])?;
        let e = g.linear("time_embed.0", e, wide, true)?;
        let e = g.activation(e, Activation::Silu)?;
        let mut e = g.linear("time_embed.2", e, wide, true)?;
        if let Some(rows) = self.num_class_embeds {
            let class = g.input_as(Role::Class, CLASS_LABELS, &[1])?;
            let row = g.embedding("class_embedding.weight", class, rows, wide)?;
            e = g.add(e, row)?;
        }
        let context = match self.cross_attention_dim {
            None => None,
            Some(n) => Some(g.input_as(Role::Tokens, CONTEXT, &[n, self.context_length])?),
        };
        let embedding = g.activation(e, Activation::Silu)?;
        let mut l = Layers { g, c: self, embedding, context };
        let levels = self.channels.len();

        let mut x = l.conv("conv_in", sample, dim, 3, 1)?;
        let mut kept = vec![x];
        for level in 0..levels {
            let (name, out) = (format!("down_blocks.{level}"), self.width(level));
            for i in 0..self.num_res_blocks.get(level).copied().unwrap_or(1) {
                x = l.res(&format!("{name}.resnets.{i}"), x, out, Scale::Same)?;
                if self.attends(level) {
                    x = l.attention(&format!("{name}.attentions.{i}"), x, level)?;
                }
                kept.push(x);
            }
            if level + 1 < levels {
                x = match self.resblock_updown {
                    true => l.res(&format!("{name}.downsampler"), x, out, Scale::Down)?,
                    false => l.conv(&format!("{name}.downsampler.op"), x, out, 3, 2)?,
                };
                kept.push(x);
            }
        }
        let coarsest = self.width(levels - 1);
        x = l.res("middle_block.resnet_1", x, coarsest, Scale::Same)?;
        x = l.attention("middle_block.attention", x, levels - 1)?;
        x = l.res("middle_block.resnet_2", x, coarsest, Scale::Same)?;
        for (block, level) in (0..levels).rev().enumerate() {
            let (name, out) = (format!("up_blocks.{block}"), self.width(level));
            for i in 0..=self.num_res_blocks.get(level).copied().unwrap_or(1) {
                let skip = kept.pop().ok_or_else(|| err!(Config, "{name}: there is nothing left from the way down"))?;
                x = l.g.concat(&[x, skip]).map_err(|e| e.context(&name))?;
                x = l.res(&format!("{name}.resnets.{i}"), x, out, Scale::Same)?;
                if self.attends(level) {
                    x = l.attention(&format!("{name}.attentions.{i}"), x, level)?;
                }
            }
            if level > 0 {
                x = match self.resblock_updown {
                    true => l.res(&format!("{name}.upsampler"), x, out, Scale::Up)?,
                    false => {
                        let up = l.g.push(Op::UpsampleNearest { factor: 2 }, &[x])?;
                        l.conv(&format!("{name}.upsampler.postconv"), up, out, 3, 1)?
                    }
                };
            }
        }
        let h = l.g.group_norm("out.0", x, self.norm_num_groups, self.norm_eps)?;
        let h = l.g.activation(h, Activation::Silu)?;
        let y = l.g.conv2d("out.2.conv", h, self.out_channels, 3, 1, Padding::all(1))?;
        l.g.output(SAMPLE, y)?;
        l.g.finish()
    }
}
