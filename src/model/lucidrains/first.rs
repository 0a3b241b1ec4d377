//! The `UNet` of "The Annotated Diffusion Model" (Rogge and Rasul 2022), which is denoising-diffusion-pytorch before
//! version 2: group norms, and convolutions of standardised weights, which the export standardises, once.
//!
//! Inputs: `sample` `[channels - condition_channels, H, W]`, `timestep` `[1]`, and with `condition_channels` `image`
//! `[condition_channels, H, W]`, concatenated behind the sample. Output: `sample` `[out_dim, H, W]`.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::error::{Result, ensure};
use crate::graph::{Activation, Graph, GraphBuilder, Kernel, Op, Padding, Role, ValueId, Window};
use crate::model::family::{Architecture, Description, MAX_CHANNELS, MAX_LEVELS, MAX_SIZE, integers};
use crate::model::fields::{Fields, sample_size};
use crate::model::{IMAGE, SAMPLE, TIMESTEP, take_class};

/// The value of `_class_name`.
pub(in crate::model) const CLASS: &str = "AnnotatedUNet";
const EPS: f32 = 1e-5;
/// Heads, and the channels of one, of every attention.
const HEADS: usize = 4;
const HEAD: usize = 32;

/// The arguments of the network's constructor, and what its copies have changed in its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnotatedUNetConfig {
    /// The usual height and width, if there is one.
    pub sample_size: Option<[usize; 2]>,
    /// Channels of the first level, and of the embedded timestep before its maps.
    pub dim: usize,
    /// Channels after the first convolution; `None` is `dim`.
    pub init_dim: Option<usize>,
    /// Side of the first convolution, odd: 1, or 7 in older copies.
    pub init_kernel: usize,
    /// Channels of the output; `None` is those of the sample.
    pub out_dim: Option<usize>,
    /// A factor for each level, finest first.
    pub dim_mults: Vec<usize>,
    /// Channels of the first convolution's input.
    pub channels: usize,
    /// How many of them are an image's that the network is given.
    pub condition_channels: usize,
    /// Groups of the norms of residual layers.
    pub resnet_block_groups: usize,
    /// Channels of the embedding; `None` is four times `dim`.
    pub time_dim: Option<usize>,
    /// Whether the last layer is stored as a transposed convolution.
    pub final_conv_transposed: bool,
}

impl AnnotatedUNetConfig {
    /// Reads a configuration. Errors (kind `Config`) name the key, what is accepted and what stands there.
    pub fn from_json(json: &str) -> Result<Self> {
        let mut f = Fields::parse(json)?;
        take_class(&mut f, CLASS)?;
        let config = Self {
            sample_size: sample_size(&mut f, MAX_SIZE)?,
            dim: f.integer("dim", 64, 4..=MAX_CHANNELS)?,
            init_dim: f.integer_or_null("init_dim", None, 1..=MAX_CHANNELS)?,
            init_kernel: f.integer("init_kernel", 1, 1..=63)?,
            out_dim: f.integer_or_null("out_dim", None, 1..=MAX_CHANNELS)?,
            dim_mults: integers(&mut f, "dim_mults", &[1, 2, 4, 8], 1..=1024)?,
            channels: f.integer("channels", 3, 1..=MAX_CHANNELS)?,
            condition_channels: f.integer("condition_channels", 0, 0..=MAX_CHANNELS)?,
            resnet_block_groups: f.integer("resnet_block_groups", 4, 1..=MAX_CHANNELS)?,
            time_dim: f.integer_or_null("time_dim", None, 1..=MAX_CHANNELS)?,
            final_conv_transposed: f.boolean("final_conv_transposed", false)?,
        };
        f.finish(
            "sample_size, dim, init_dim, init_kernel, out_dim, dim_mults, channels, condition_channels, resnet_block_groups, time_dim, \
             final_conv_transposed",
        )?;
        ensure!(!config.dim_mults.is_empty(), Config, "dim_mults is empty, expected at least one level");
        ensure!(config.init_kernel % 2 == 1, Config, "init_kernel is {}, expected an odd number", config.init_kernel);
        ensure!(
            config.condition_channels < config.channels,
            Config,
            "condition_channels is {} of {} channels, expected fewer",
            config.condition_channels,
            config.channels
        );
        Ok(config)
    }

    fn own_channels(&self) -> usize {
        self.channels - self.condition_channels
    }
}

impl Architecture for AnnotatedUNetConfig {
    fn describe(&self) -> Description {
        Description {
            class_name: CLASS,
            channels: self.own_channels(),
            sample_size: self.sample_size,
            multiple: [1 << (self.dim_mults.len().clamp(1, MAX_LEVELS) - 1); 2],
            classes: None,
        }
    }

    fn build(&self, [height, width]: [usize; 2]) -> Result<Graph> {
        let mut g = GraphBuilder::new();
        let mut x = g.input_as(Role::Sample, SAMPLE, &[self.own_channels(), height, width])?;
        let t = g.input_as(Role::Timestep, TIMESTEP, &[1])?;
        if self.condition_channels > 0 {
            let image = g.input_as(Role::Image, IMAGE, &[self.condition_channels, height, width])?;
            x = g.concat(&[x, image])?;
        }
        let (dim, wide) = (self.dim, self.time_dim.unwrap_or(4 * self.dim));
        let e = Op::SinusoidalEmbedding { dim, flip_sin_to_cos: false, freq_shift: 1.0, max_period: 10_000.0 };
        let e = g.push(e, &[t])?;
        let e = g.linear("time_mlp.1", e, wide, true)?;
        let e = g.activation(e, Activation::Gelu)?;
        let e = g.linear("time_mlp.3", e, wide, true)?;
        let embedding = g.activation(e, Activation::Silu)?;
        let mut l = Layers { g, groups: self.resnet_block_groups, embedding };
        let levels = self.dim_mults.len();
        let first = self.init_dim.unwrap_or(dim);
        let widths: Vec<usize> = [first].into_iter().chain(self.dim_mults.iter().map(|m| m * dim)).collect();
        let k = self.init_kernel;
        x = l.g.conv2d("init_conv", x, first, k, 1, Padding::all(k / 2))?;
        let start = x;
        let mut kept = Vec::new();
        for (level, pair) in widths.windows(2).enumerate() {
            let (name, &[inner, outer]) = (format!("downs.{level}"), pair) else { continue };
            x = l.res(&format!("{name}.0"), x, inner)?;
            kept.push(x);
            x = l.res(&format!("{name}.1"), x, inner)?;
            x = l.attention(&format!("{name}.2.fn"), x, false)?;
            kept.push(x);
            x = if level + 1 < levels {
                let h = l.g.push(Op::SpaceToDepth { factor: [2, 2], blocks_first: false }, &[x])?;
                l.g.conv2d(&format!("{name}.3.1"), h, outer, 1, 1, Padding::all(0))?
            } else {
                l.g.conv2d(&format!("{name}.3"), x, outer, 3, 1, Padding::all(1))?
            };
        }
        let coarsest = widths.last().copied().unwrap_or(first);
        x = l.res("mid_block1", x, coarsest)?;
        x = l.attention("mid_attn.fn", x, true)?;
        x = l.res("mid_block2", x, coarsest)?;
        for (i, pair) in widths.windows(2).rev().enumerate() {
            let (name, &[inner, outer]) = (format!("ups.{i}"), pair) else { continue };
            for layer in 0..2 {
                let both: Vec<ValueId> = [x].into_iter().chain(kept.pop()).collect();
                x = l.g.concat(&both)?;
                x = l.res(&format!("{name}.{layer}"), x, outer)?;
            }
            x = l.attention(&format!("{name}.2.fn"), x, false)?;
            x = if i + 1 < levels {
                let up = l.g.push(Op::UpsampleNearest { factor: 2 }, &[x])?;
                l.g.conv2d(&format!("{name}.3.1"), up, inner, 3, 1, Padding::all(1))?
            } else {
                l.g.conv2d(&format!("{name}.3"), x, inner, 3, 1, Padding::all(1))?
            };
        }
        x = l.g.concat(&[x, start])?;
        x = l.res("final_res_block", x, dim)?;
        let out = self.out_dim.unwrap_or(self.own_channels());
        let y = if self.final_conv_transposed {
            l.g.conv_transpose2d("final_conv", x, out, 1, 1, 0)?
        } else {
            l.g.conv2d("final_conv", x, out, 1, 1, Padding::all(0))?
        };
        l.g.output(SAMPLE, y)?;
        l.g.finish()
    }
}

struct Layers {
    g: GraphBuilder,
    groups: usize,
    /// Activated.
    embedding: ValueId,
}

impl Layers {
    fn res(&mut self, name: &str, x: ValueId, out: usize) -> Result<ValueId> {
        self.res_inner(name, x, out).map_err(|e| e.context(name))
    }

    fn res_inner(&mut self, name: &str, x: ValueId, out: usize) -> Result<ValueId> {
        let of = |part: &str| -> String { format!("{name}.{part}") };
        let (channels, groups, g) = (self.g.dims(x)?.channels(), self.groups, &mut self.g);
        let e = g.linear(&of("mlp.1"), self.embedding, 2 * out, true)?;
        let (scale, shift) = (g.slice_channels(e, 0, out)?, g.slice_channels(e, out, out)?);
        let scale = g.affine(scale, 1.0, 1.0)?;
        let h = g.conv2d(&of("block1.proj"), x, out, 3, 1, Padding::all(1))?;
        let h = g.group_norm(&of("block1.norm"), h, groups, EPS)?;
        let h = g.mul(h, scale)?;
        let h = g.add(h, shift)?;
        let h = g.activation(h, Activation::Silu)?;
        let h = g.conv2d(&of("block2.proj"), h, out, 3, 1, Padding::all(1))?;
        let h = g.group_norm(&of("block2.norm"), h, groups, EPS)?;
        let h = g.activation(h, Activation::Silu)?;
        let shortcut = if channels == out { x } else { g.conv2d(&of("res_conv"), x, out, 1, 1, Padding::all(0))? };
        g.add(h, shortcut)
    }

    fn attention(&mut self, name: &str, x: ValueId, full: bool) -> Result<ValueId> {
        let (c, inner, g) = (self.g.dims(x)?.channels(), HEADS * HEAD, &mut self.g);
        let h = g.group_norm(&format!("{name}.norm"), x, 1, EPS)?;
        let weight = g.param(&format!("{name}.fn.to_qkv.weight"), &[3 * inner, c, 1, 1])?;
        let qkv = g.push(Op::Conv2d { window: Window::POINT, kernel: Kernel { weight, bias: None } }, &[h])?;
        let mut parts = Vec::new();
        for i in 0..3 {
            parts.push(g.slice_channels(qkv, i * inner, inner)?);
        }
        let h = if full {
            let h = g.push(Op::Attention { heads: HEADS }, &parts)?;
            g.conv2d(&format!("{name}.fn.to_out"), h, c, 1, 1, Padding::all(0))?
        } else {
            let h = g.push(Op::LinearAttention { heads: HEADS }, &parts)?;
            let h = g.affine(h, 1.0 / libm::sqrt(HEAD as f64) as f32, 0.0)?;
            let h = g.conv2d(&format!("{name}.fn.to_out.0"), h, c, 1, 1, Padding::all(0))?;
            g.group_norm(&format!("{name}.fn.to_out.1"), h, 1, EPS)?
        };
        g.add(h, x)
    }
}
