//! diffusers' `DiTTransformer2DModel` (DiT, Peebles and Xie 2023).
//!
//! Inputs: `sample` `[C, H, W]` (latents), `timestep` `[1]`, `class_labels` `[1]`; the class after the last is "no
//! class", for guidance. Output: `sample` `[out_channels, H, W]`, with twice the channels the second half being the
//! interpolated log-variance. Parameters bear the names of diffusers' state dict.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::family::{Architecture, Description, MAX_CHANNELS, MAX_SIZE, skip};
use super::fields::Fields;
use super::{CLASS_LABELS, SAMPLE, TIMESTEP, take_class};
use crate::error::{Result, ensure};
use crate::graph::{Activation, ChannelNorm, Graph, GraphBuilder, NormKind, Op, Padding, Role, ValueId};

/// The value of `_class_name`.
pub(super) const CLASS: &str = "DiTTransformer2DModel";
/// Of the norms without factors, fixed in diffusers.
const EPS: f32 = 1e-6;
/// Values of the projected timestep, fixed in diffusers.
const TIME: usize = 256;

/// The configuration, under diffusers' names and with its defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct DitConfig {
    /// Heads of each attention.
    pub num_attention_heads: usize,
    /// Channels of a head.
    pub attention_head_dim: usize,
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Blocks.
    pub num_layers: usize,
    /// Whether q, k and v have biases.
    pub attention_bias: bool,
    /// Height and width of the latents.
    pub sample_size: usize,
    /// Side of a patch.
    pub patch_size: usize,
    /// Classes.
    pub num_embeds_ada_norm: usize,
    /// `gelu-approximate` or `gelu`, between the two maps of a block.
    pub activation_fn: Activation,
    /// Of the norm before those.
    pub norm_eps: f32,
    /// Whether that norm has factors and offsets.
    pub norm_elementwise_affine: bool,
}

impl DitConfig {
    /// Reads the text of a `config.json`. Errors (kind `Config`) name the key, what is accepted and what stands there.
    pub fn from_json(json: &str) -> Result<Self> {
        let mut f = Fields::parse(json)?;
        take_class(&mut f, CLASS)?;
        skip(&mut f, &["dropout", "norm_num_groups", "upcast_attention"]);
        f.word("norm_type", (), &[("ada_norm_zero", ())])?;
        let in_channels = f.integer("in_channels", 4, 1..=MAX_CHANNELS)?;
        let activations = [("gelu-approximate", Activation::GeluTanh), ("gelu", Activation::Gelu)];
        let config = Self {
            num_attention_heads: f.integer("num_attention_heads", 16, 1..=1024)?,
            attention_head_dim: f.integer("attention_head_dim", 72, 1..=1024)?,
            in_channels,
            out_channels: f.integer_or_null("out_channels", None, 1..=MAX_CHANNELS)?.unwrap_or(in_channels),
            num_layers: f.integer("num_layers", 28, 1..=1024)?,
            attention_bias: f.boolean("attention_bias", true)?,
            sample_size: f.integer("sample_size", 32, 1..=MAX_SIZE)?,
            patch_size: f.integer("patch_size", 2, 1..=256)?,
            num_embeds_ada_norm: f.integer("num_embeds_ada_norm", 1000, 1..=1 << 24)?,
            activation_fn: f.word("activation_fn", Activation::GeluTanh, &activations)?,
            norm_eps: f.number("norm_eps", 1e-5, 0.0..=1.0)? as f32,
            norm_elementwise_affine: f.boolean("norm_elementwise_affine", false)?,
        };
        f.finish(
            "num_attention_heads, attention_head_dim, in_channels, out_channels, num_layers, attention_bias, sample_size, patch_size, \
             num_embeds_ada_norm, activation_fn, norm_type, norm_eps, norm_elementwise_affine",
        )?;
        Ok(config)
    }

    fn width(&self) -> usize {
        self.num_attention_heads * self.attention_head_dim
    }
}

impl Architecture for DitConfig {
    fn describe(&self) -> Description {
        Description {
            class_name: CLASS,
            channels: self.in_channels,
            sample_size: Some([self.sample_size; 2]),
            multiple: [self.patch_size; 2],
            classes: Some(self.num_embeds_ada_norm + 1),
        }
    }

    fn build(&self, [height, width]: [usize; 2]) -> Result<Graph> {
        let side = self.sample_size;
        // Its positions are those of one size.
        ensure!(
            [height, width] == [side; 2],
            Config,
            "a {CLASS} of {height} x {width} samples, expected its sample_size, {side} x {side}"
        );
        let (dim, p) = (self.width(), self.patch_size);
        let mut g = GraphBuilder::new();
        let sample = g.input_as(Role::Sample, SAMPLE, &[self.in_channels, height, width])?;
        let t = g.input_as(Role::Timestep, TIMESTEP, &[1])?;
        let class = g.input_as(Role::Class, CLASS_LABELS, &[1])?;
        let op = Op::SinusoidalEmbedding { dim: TIME, flip_sin_to_cos: true, freq_shift: 1.0, max_period: 10_000.0 };
        let time = g.push(op, &[t])?;
        let mut l = Layers { g, c: self, time, class };
        let x = l.g.conv2d("pos_embed.proj", sample, dim, p, p, Padding::all(0))?;
        let op = Op::PositionEmbedding { dims: [dim, height / p, width / p], scale: 1.0 };
        let positions = l.g.push(op, &[])?;
        let mut x = l.g.add(x, positions)?;
        for i in 0..self.num_layers {
            let name = format!("transformer_blocks.{i}");
            x = l.block(&name, x).map_err(|e| e.context(&name))?;
        }
        let e = l.embedding("transformer_blocks.0.norm1.emb")?;
        let e = l.g.linear("proj_out_1", e, 2 * dim, true)?;
        let (shift, scale) = (l.g.slice_channels(e, 0, dim)?, l.g.slice_channels(e, dim, dim)?);
        let h = l.norm(x)?;
        let h = l.modulated(h, scale, shift)?;
        let y = l.g.linear("proj_out_2", h, p * p * self.out_channels, true)?;
        let y = l.g.push(Op::DepthToSpace { factor: [p, p], blocks_first: true }, &[y])?;
        l.g.output(SAMPLE, y)?;
        l.g.finish()
    }
}

struct Layers<'a> {
    g: GraphBuilder,
    c: &'a DitConfig,
    /// Projected.
    time: ValueId,
    class: ValueId,
}

impl Layers<'_> {
    /// Layer normalisation without factors.
    fn norm(&mut self, x: ValueId) -> Result<ValueId> {
        let norm = ChannelNorm { kind: NormKind::Layer, groups: 1, eps: EPS, weight: None, bias: None };
        self.g.push(Op::ChannelNorm(norm), &[x])
    }

    /// `x * (1 + scale) + shift`.
    fn modulated(&mut self, x: ValueId, scale: ValueId, shift: ValueId) -> Result<ValueId> {
        let scale = self.g.affine(scale, 1.0, 1.0)?;
        let x = self.g.mul(x, scale)?;
        self.g.add(x, shift)
    }

    /// The activated embedding of time and class; every block has its own.
    fn embedding(&mut self, name: &str) -> Result<ValueId> {
        let dim = self.c.width();
        let e = self.g.linear(&format!("{name}.timestep_embedder.linear_1"), self.time, dim, true)?;
        let e = self.g.activation(e, Activation::Silu)?;
        let e = self.g.linear(&format!("{name}.timestep_embedder.linear_2"), e, dim, true)?;
        let (table, rows) = (format!("{name}.class_embedder.embedding_table.weight"), self.c.num_embeds_ada_norm + 1);
        let row = self.g.embedding(&table, self.class, rows, dim)?;
        let e = self.g.add(e, row)?;
        self.g.activation(e, Activation::Silu)
    }

    fn block(&mut self, name: &str, x: ValueId) -> Result<ValueId> {
        let of = |part: &str| -> String { format!("{name}.{part}") };
        let (c, dim) = (self.c, self.c.width());
        let e = self.embedding(&of("norm1.emb"))?;
        let e = self.g.linear(&of("norm1.linear"), e, 6 * dim, true)?;
        let mut parts = Vec::new();
        for i in 0..6 {
            parts.push(self.g.slice_channels(e, i * dim, dim)?);
        }
        let h = self.norm(x)?;
        let h = self.modulated(h, parts[1], parts[0])?;
        let mut qkv = Vec::new();
        for part in ["attn1.to_q", "attn1.to_k", "attn1.to_v"] {
            qkv.push(self.g.linear(&of(part), h, dim, c.attention_bias)?);
        }
        let h = self.g.push(Op::Attention { heads: c.num_attention_heads }, &qkv)?;
        let h = self.g.linear(&of("attn1.to_out.0"), h, dim, true)?;
        let h = self.g.mul(h, parts[2])?;
        let x = self.g.add(h, x)?;
        let h = if c.norm_elementwise_affine {
            self.g.layer_norm(&of("norm3"), x, c.norm_eps)?
        } else {
            let norm = ChannelNorm { kind: NormKind::Layer, groups: 1, eps: c.norm_eps, weight: None, bias: None };
            self.g.push(Op::ChannelNorm(norm), &[x])?
        };
        let h = self.modulated(h, parts[4], parts[3])?;
        let h = self.g.linear(&of("ff.net.0.proj"), h, 4 * dim, true)?;
        let h = self.g.activation(h, c.activation_fn)?;
        let h = self.g.linear(&of("ff.net.2"), h, dim, true)?;
        let h = self.g.mul(h, parts[5])?;
        self.g.add(h, x)
    }
}
