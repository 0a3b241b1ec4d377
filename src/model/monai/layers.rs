//! The layers of MONAI's network.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::DiffusionModelUNetConfig;
use crate::error::{Result, ensure};
use crate::graph::{Activation, GraphBuilder, Op, Padding, ValueId};

/// Epsilon of the transformers' layer norms, PyTorch's own.
const LAYER_EPS: f32 = 1e-5;

/// What a residual layer does to the size.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    Same,
    Up,
    Down,
}

pub(super) struct Layers<'a> {
    pub g: GraphBuilder,
    pub c: &'a DiffusionModelUNetConfig,
    /// Activated.
    pub embedding: ValueId,
    pub context: Option<ValueId>,
}

impl Layers<'_> {
    /// MONAI's `Convolution`, whose weights stand under `conv`; it keeps the size, or halves it with a stride of 2.
    pub fn conv(&mut self, name: &str, x: ValueId, out: usize, k: usize, stride: usize) -> Result<ValueId> {
        self.g.conv2d(&format!("{name}.conv"), x, out, k, stride, Padding::all(k / 2)).map_err(|e| e.context(name))
    }

    fn norm(&mut self, name: &str, x: ValueId) -> Result<ValueId> {
        self.g.group_norm(name, x, self.c.norm_num_groups, self.c.norm_eps)
    }

    pub fn res(&mut self, name: &str, x: ValueId, out: usize, scale: Scale) -> Result<ValueId> {
        self.res_inner(name, x, out, scale).map_err(|e| e.context(name))
    }

    fn res_inner(&mut self, name: &str, x: ValueId, out: usize, scale: Scale) -> Result<ValueId> {
        let of = |part: &str| -> String { format!("{name}.{part}") };
        let channels = self.g.dims(x)?.channels();
        let h = self.norm(&of("norm1"), x)?;
        let h = self.g.activation(h, Activation::Silu)?;
        let (h, x) = (self.scaled(h, scale)?, self.scaled(x, scale)?);
        let h = self.conv(&of("conv1"), h, out, 3, 1)?;
        let e = self.g.linear(&of("time_emb_proj"), self.embedding, out, true)?;
        let h = self.g.add(h, e)?;
        let h = self.norm(&of("norm2"), h)?;
        let h = self.g.activation(h, Activation::Silu)?;
        let h = self.conv(&of("conv2"), h, out, 3, 1)?;
        let shortcut = if channels == out { x } else { self.conv(&of("skip_connection"), x, out, 1, 1)? };
        self.g.add(h, shortcut)
    }

    fn scaled(&mut self, x: ValueId, scale: Scale) -> Result<ValueId> {
        match scale {
            Scale::Same => Ok(x),
            Scale::Up => self.g.push(Op::UpsampleNearest { factor: 2 }, &[x]),
            Scale::Down => self.g.push(Op::AveragePool { factor: 2 }, &[x]),
        }
    }

    /// Attention of a level: to the pixels alone, or a transformer that sees the context.
    pub fn attention(&mut self, name: &str, x: ValueId, level: usize) -> Result<ValueId> {
        let head = self.c.num_head_channels.get(level).copied().unwrap_or(1);
        let made = match self.context {
            None => self.spatial(name, x, head),
            Some(context) => self.transformer(name, x, context, head),
        };
        made.map_err(|e| e.context(name))
    }

    fn spatial(&mut self, name: &str, x: ValueId, head: usize) -> Result<ValueId> {
        let channels = self.g.dims(x)?.channels();
        ensure!(
            channels.is_multiple_of(head),
            Config,
            "num_head_channels is {head}, expected a divisor of {channels} channels"
        );
        let h = self.norm(&format!("{name}.norm"), x)?;
        let h = self.self_attention(&format!("{name}.attn"), h, channels / head, true)?;
        self.g.add(h, x)
    }

    fn transformer(&mut self, name: &str, x: ValueId, context: ValueId, head: usize) -> Result<ValueId> {
        let channels = self.g.dims(x)?.channels();
        // Rounded down as in MONAI: what does not fill a head is projected away.
        let heads = channels / head;
        ensure!(
            heads > 0,
            Config,
            "num_head_channels is {head}, expected at most the {channels} channels of the level"
        );
        let h = self.norm(&format!("{name}.norm"), x)?;
        let mut h = self.conv(&format!("{name}.proj_in"), h, heads * head, 1, 1)?;
        for layer in 0..self.c.transformer_num_layers {
            h = self.layer(&format!("{name}.transformer_blocks.{layer}"), h, context, heads)?;
        }
        let h = self.conv(&format!("{name}.proj_out"), h, channels, 1, 1)?;
        self.g.add(h, x)
    }

    /// Attention to itself, to the context, and two maps with a gate between them.
    fn layer(&mut self, name: &str, x: ValueId, context: ValueId, heads: usize) -> Result<ValueId> {
        let of = |part: &str| -> String { format!("{name}.{part}") };
        let channels = self.g.dims(x)?.channels();
        let h = self.g.layer_norm(&of("norm1"), x, LAYER_EPS)?;
        let h = self.self_attention(&of("attn1"), h, heads, false)?;
        let x = self.g.add(h, x)?;
        let h = self.g.layer_norm(&of("norm2"), x, LAYER_EPS)?;
        let mut qkv = Vec::new();
        for (part, from) in [("to_q", h), ("to_k", context), ("to_v", context)] {
            qkv.push(self.g.linear(&of(&format!("attn2.{part}")), from, channels, false)?);
        }
        let h = self.g.push(Op::Attention { heads }, &qkv)?;
        let h = self.g.linear(&of("attn2.out_proj"), h, channels, true)?;
        let x = self.g.add(h, x)?;
        let inner = 4 * channels;
        let h = self.g.layer_norm(&of("norm3"), x, LAYER_EPS)?;
        let both = self.g.linear(&of("ff.linear1"), h, 2 * inner, true)?;
        let (h, gate) = (self.g.slice_channels(both, 0, inner)?, self.g.slice_channels(both, inner, inner)?);
        let gate = self.g.activation(gate, Activation::Gelu)?;
        let h = self.g.mul(h, gate)?;
        let h = self.g.linear(&of("ff.linear2"), h, channels, true)?;
        self.g.add(h, x)
    }

    /// MONAI's `SABlock`.
    fn self_attention(&mut self, name: &str, x: ValueId, heads: usize, bias: bool) -> Result<ValueId> {
        let channels = self.g.dims(x)?.channels();
        let mut qkv = Vec::new();
        if self.c.use_combined_linear {
            let all = self.g.linear(&format!("{name}.qkv"), x, 3 * channels, bias)?;
            for i in 0..3 {
                qkv.push(self.g.slice_channels(all, i * channels, channels)?);
            }
        } else {
            for part in ["to_q", "to_k", "to_v"] {
                qkv.push(self.g.linear(&format!("{name}.{part}"), x, channels, bias)?);
            }
        }
        let h = self.g.push(Op::Attention { heads }, &qkv)?;
        if self.c.include_fc { self.g.linear(&format!("{name}.out_proj"), h, channels, true) } else { Ok(h) }
    }
}
