//! The `Unet1D` of denoising-diffusion-pytorch: sequences as images of height 1.
//!
//! Inputs: `sample` `[channels, 1, L]`, `timestep` `[1]`. Output: `sample` `[out_dim, 1, L]`. Parameters bear the names
//! of the network's state dict, whose kernels have one dimension.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::super::family::{Architecture, Description, MAX_CHANNELS, MAX_LEVELS, MAX_SIZE, integers, skip};
use super::super::fields::Fields;
use super::super::{SAMPLE, TIMESTEP, take_class};
use super::{embed, refuse_self_condition};
use crate::error::{Result, ensure};
use crate::graph::{Activation, ChannelNorm, Graph, GraphBuilder, Kernel, NormKind, Op, Role, ValueId};

/// The value of `_class_name`.
pub(in crate::model) const CLASS: &str = "denoising_diffusion_pytorch.Unet1D";
/// Heads and channels of a head of the linear attentions, fixed there.
const LINEAR: [usize; 2] = [4, 32];

/// The arguments of the network's constructor, with its defaults, and `seq_length`.
#[derive(Clone, Debug, PartialEq)]
pub struct Unet1dConfig {
    /// The usual length, if there is one.
    pub seq_length: Option<usize>,
    /// Channels of the first level.
    pub dim: usize,
    /// Channels after the first convolution; `None` is `dim`.
    pub init_dim: Option<usize>,
    /// Channels of the output; `None` is `channels`, or with `learned_variance` twice that.
    pub out_dim: Option<usize>,
    /// A factor for each level, finest first.
    pub dim_mults: Vec<usize>,
    /// Channels of the input.
    pub channels: usize,
    /// Twice as many output channels.
    pub learned_variance: bool,
    /// Whether the time is embedded by stored frequencies, of so many values.
    pub learned_sinusoidal_dim: Option<usize>,
    /// The lowest frequency's period over 2 pi, where they are not stored.
    pub sinusoidal_pos_emb_theta: f32,
    /// Channels of a head of the attention in the middle.
    pub attn_dim_head: usize,
    /// Its heads.
    pub attn_heads: usize,
}

impl Unet1dConfig {
    /// Reads a configuration. Errors (kind `Config`) name the key, what is accepted and what stands there.
    pub fn from_json(json: &str) -> Result<Self> {
        let mut f = Fields::parse(json)?;
        take_class(&mut f, CLASS)?;
        skip(&mut f, &["dropout"]);
        refuse_self_condition(&mut f)?;
        let learned = f.boolean("learned_sinusoidal_cond", false)? | f.boolean("random_fourier_features", false)?;
        let learned_dim = f.integer("learned_sinusoidal_dim", 16, 2..=MAX_CHANNELS)?;
        let config = Self {
            seq_length: f.integer_or_null("seq_length", None, 1..=MAX_SIZE)?,
            dim: f.integer("dim", 64, 4..=MAX_CHANNELS)?,
            init_dim: f.integer_or_null("init_dim", None, 1..=MAX_CHANNELS)?,
            out_dim: f.integer_or_null("out_dim", None, 1..=MAX_CHANNELS)?,
            dim_mults: integers(&mut f, "dim_mults", &[1, 2, 4, 8], 1..=1024)?,
            channels: f.integer("channels", 3, 1..=MAX_CHANNELS)?,
            learned_variance: f.boolean("learned_variance", false)?,
            learned_sinusoidal_dim: learned.then_some(learned_dim),
            sinusoidal_pos_emb_theta: f.number("sinusoidal_pos_emb_theta", 10_000.0, 1.0..=1e12)? as f32,
            attn_dim_head: f.integer("attn_dim_head", 32, 1..=MAX_CHANNELS)?,
            attn_heads: f.integer("attn_heads", 4, 1..=1024)?,
        };
        ensure!(!config.dim_mults.is_empty(), Config, "dim_mults is empty, expected at least one level");
        f.finish(
            "seq_length, dim, init_dim, out_dim, dim_mults, channels, learned_variance, learned_sinusoidal_cond, \
             random_fourier_features, learned_sinusoidal_dim, sinusoidal_pos_emb_theta, attn_dim_head, attn_heads",
        )?;
        Ok(config)
    }
}

impl Architecture for Unet1dConfig {
    fn describe(&self) -> Description {
        Description {
            class_name: CLASS,
            channels: self.channels,
            sample_size: self.seq_length.map(|n| [1, n]),
            multiple: [1, 1 << (self.dim_mults.len().clamp(1, MAX_LEVELS) - 1)],
            classes: None,
        }
    }

    fn build(&self, [height, length]: [usize; 2]) -> Result<Graph> {
        ensure!(height == 1, Config, "a {CLASS} of {height} x {length} samples, expected a height of 1");
        let mut g = GraphBuilder::new();
        let sample = g.input_as(Role::Sample, SAMPLE, &[self.channels, 1, length])?;
        let t = g.input_as(Role::Timestep, TIMESTEP, &[1])?;
        let embedding = embed(&mut g, t, self.dim, self.learned_sinusoidal_dim, self.sinusoidal_pos_emb_theta)?;
        let mut l = Layers { g, embedding };
        let levels = self.dim_mults.len();
        let first = self.init_dim.unwrap_or(self.dim);
        let widths: Vec<usize> = [first].into_iter().chain(self.dim_mults.iter().map(|m| m * self.dim)).collect();
        let mut x = l.g.conv1d("init_conv", sample, first, 7, 1, 3)?;
        let start = x;
        let mut kept = Vec::new();
        for (level, pair) in widths.windows(2).enumerate() {
            let (name, &[inner, outer]) = (format!("downs.{level}"), pair) else { continue };
            x = l.res(&format!("{name}.0"), x, inner)?;
            kept.push(x);
            x = l.res(&format!("{name}.1"), x, inner)?;
            x = l.attention(&format!("{name}.2.fn"), x, LINEAR, false)?;
            kept.push(x);
            let (k, stride) = if level + 1 < levels { (4, 2) } else { (3, 1) };
            x = l.g.conv1d(&format!("{name}.3"), x, outer, k, stride, 1)?;
        }
        let coarsest = widths.last().copied().unwrap_or(first);
        x = l.res("mid_block1", x, coarsest)?;
        x = l.attention("mid_attn.fn", x, [self.attn_heads, self.attn_dim_head], true)?;
        x = l.res("mid_block2", x, coarsest)?;
        for (i, pair) in widths.windows(2).rev().enumerate() {
            let (name, &[inner, outer]) = (format!("ups.{i}"), pair) else { continue };
            for layer in 0..2 {
                let both: Vec<ValueId> = [x].into_iter().chain(kept.pop()).collect();
                x = l.g.concat(&both)?;
                x = l.res(&format!("{name}.{layer}"), x, outer)?;
            }
            x = l.attention(&format!("{name}.2.fn"), x, LINEAR, false)?;
            x = if i + 1 < levels {
                // Each position twice.
                let twice = l.g.concat(&[x, x])?;
                let up = l.g.push(Op::DepthToSpace { factor: [1, 2], blocks_first: true }, &[twice])?;
                l.g.conv1d(&format!("{name}.3.1"), up, inner, 3, 1, 1)?
            } else {
                l.g.conv1d(&format!("{name}.3"), x, inner, 3, 1, 1)?
            };
        }
        x = l.g.concat(&[x, start])?;
        x = l.res("final_res_block", x, first)?;
        let out = self.out_dim.unwrap_or(self.channels * if self.learned_variance { 2 } else { 1 });
        let y = l.g.linear_row("final_conv", x, out)?;
        l.g.output(SAMPLE, y)?;
        l.g.finish()
    }
}

struct Layers {
    g: GraphBuilder,
    /// Activated.
    embedding: ValueId,
}

impl Layers {
    fn norm(&mut self, name: &str, x: ValueId) -> Result<ValueId> {
        let c = self.g.dims(x)?.channels();
        let weight = Some(self.g.param(&format!("{name}.g"), &[1, c, 1])?);
        let norm = ChannelNorm { kind: NormKind::L2, groups: 1, eps: 1e-12, weight, bias: None };
        self.g.push(Op::ChannelNorm(norm), &[x])
    }

    fn res(&mut self, name: &str, x: ValueId, out: usize) -> Result<ValueId> {
        self.res_inner(name, x, out).map_err(|e| e.context(name))
    }

    fn res_inner(&mut self, name: &str, x: ValueId, out: usize) -> Result<ValueId> {
        let of = |part: &str| -> String { format!("{name}.{part}") };
        let channels = self.g.dims(x)?.channels();
        let e = self.g.linear(&of("mlp.1"), self.embedding, 2 * out, true)?;
        let (scale, shift) = (self.g.slice_channels(e, 0, out)?, self.g.slice_channels(e, out, out)?);
        let scale = self.g.affine(scale, 1.0, 1.0)?;
        let h = self.g.conv1d(&of("block1.proj"), x, out, 3, 1, 1)?;
        let h = self.norm(&of("block1.norm"), h)?;
        let h = self.g.mul(h, scale)?;
        let h = self.g.add(h, shift)?;
        let h = self.g.activation(h, Activation::Silu)?;
        let h = self.g.conv1d(&of("block2.proj"), h, out, 3, 1, 1)?;
        let h = self.norm(&of("block2.norm"), h)?;
        let h = self.g.activation(h, Activation::Silu)?;
        let shortcut = if channels == out { x } else { self.g.linear_row(&of("res_conv"), x, out)? };
        self.g.add(h, shortcut)
    }

    /// Attention of either kind.
    fn attention(&mut self, name: &str, x: ValueId, shape: [usize; 2], full: bool) -> Result<ValueId> {
        self.attention_inner(name, x, shape, full).map_err(|e| e.context(name))
    }

    fn attention_inner(&mut self, name: &str, x: ValueId, shape: [usize; 2], full: bool) -> Result<ValueId> {
        let [heads, head] = shape;
        let (c, inner) = (self.g.dims(x)?.channels(), heads * head);
        let h = self.norm(&format!("{name}.norm"), x)?;
        let weight = self.g.param(&format!("{name}.fn.to_qkv.weight"), &[3 * inner, c, 1])?;
        let qkv = self.g.push(Op::Linear(Kernel { weight, bias: None }), &[h])?;
        let mut args = Vec::new();
        for i in 0..3 {
            args.push(self.g.slice_channels(qkv, i * inner, inner)?);
        }
        let h = if full {
            let h = self.g.push(Op::Attention { heads }, &args)?;
            self.g.linear_row(&format!("{name}.fn.to_out"), h, c)?
        } else {
            let h = self.g.push(Op::LinearAttention { heads }, &args)?;
            let h = self.g.affine(h, 1.0 / libm::sqrt(head as f64) as f32, 0.0)?;
            let h = self.g.linear_row(&format!("{name}.fn.to_out.0"), h, c)?;
            self.norm(&format!("{name}.fn.to_out.1"), h)?
        };
        self.g.add(h, x)
    }
}
