//! `KDownBlock2D`, `KUpBlock2D` and `KCrossAttnUpBlock2D`: residual layers whose norms have the embedding's factors and
//! offsets, and filters with mirrored edges between the levels.

use alloc::format;
use alloc::vec::Vec;

use super::blocks::Block;
use super::config::BlockType;
use super::layers::Layers;
use crate::error::{Result, ensure, err};
use crate::graph::{ChannelNorm, Kernel, NormKind, Op, Padding, ValueId, Window};

/// Channels of a group of a norm, fixed in diffusers.
const GROUP: usize = 32;
/// Epsilon of the norm before attention, fixed in diffusers.
const ATTENTION_EPS: f32 = 1e-5;
/// The filter's one-dimensional taps, with sum 1.
const TAPS: [f32; 4] = [0.125, 0.375, 0.375, 0.125];

impl Layers<'_> {
    pub(super) fn k_down(
        &mut self,
        name: &str,
        mut x: ValueId,
        block: Block,
        kept: &mut Vec<ValueId>,
    ) -> Result<ValueId> {
        for layer in 0..self.c.layers_per_block {
            x = self.k_resnet(&format!("{name}.resnets.{layer}"), x, [block.out; 2], block.out)?;
            kept.push(x);
        }
        if block.last {
            return Ok(x);
        }
        let x = self.g.push(Op::ReflectPad(Padding::all(1)), &[x])?;
        self.g.push(Op::Fir { taps: TAPS.into(), up: 1, down: 2, pad: [0, 0] }, &[x])
    }

    /// Of what the way down has kept for its layers it takes the last alone, as diffusers does.
    pub(super) fn k_up(&mut self, name: &str, x: ValueId, block: Block, kept: &mut Vec<ValueId>) -> Result<ValueId> {
        let layers = self.c.layers_per_block;
        let skip = kept.last().copied().filter(|_| kept.len() >= layers);
        let skip = skip.ok_or_else(|| err!(Config, "{name}: there is nothing left from the way down"))?;
        kept.truncate(kept.len() - layers);
        let mut x = self.g.concat(&[x, skip]).map_err(|e| e.context(name))?;
        let (is, needs) = (self.g.dims(x)?.channels(), 2 * block.out);
        ensure!(is == needs, Config, "{name}: {is} channels, expected {needs}, twice its own");
        // The last layer makes the channels of the next block.
        let upwards: Vec<usize> = self.c.block_out_channels.iter().rev().copied().collect();
        let next = upwards.get(block.index + 1).or(upwards.last()).copied().unwrap_or(block.out);
        // diffusers takes such a block for the first of an upsampler, whose layers have no room for what it joins.
        let first = block.kind == BlockType::KCrossAttn && [block.out, self.c.time_embed_dim()] == [next; 2];
        ensure!(
            !first,
            Config,
            "{name}: KCrossAttnUpBlock2D of {next} channels in and out with a time embedding of as many, which diffusers \
             cannot run; expected a time_embedding_dim that differs"
        );
        for layer in 0..layers {
            let out = if layer + 1 == layers { next } else { block.out };
            // In a block with attention the second convolution alone does.
            let inner = if block.kind == BlockType::KCrossAttn { block.out } else { out };
            x = self.k_resnet(&format!("{name}.resnets.{layer}"), x, [inner, out], block.out)?;
            if block.kind == BlockType::KCrossAttn {
                let name = format!("{name}.attentions.{layer}");
                x = self.k_attention(&name, x, block.out).map_err(|e| e.context(&name))?;
            }
        }
        if block.last {
            return Ok(x);
        }
        let x = self.g.push(Op::ReflectPad(Padding::all(1)), &[x])?;
        // The zeros between pixels take half of the filter's sum in each direction.
        self.g.push(Op::Fir { taps: TAPS.map(|t| 2.0 * t).into(), up: 2, down: 1, pad: [0, -1] }, &[x])
    }

    /// With the channels of its two convolutions. The second norm's groups are those of `block` channels, whatever it
    /// is of.
    fn k_resnet(&mut self, name: &str, x: ValueId, outs: [usize; 2], block: usize) -> Result<ValueId> {
        self.k_resnet_inner(name, x, outs, block).map_err(|e| e.context(name))
    }

    fn k_resnet_inner(&mut self, name: &str, x: ValueId, [inner, out]: [usize; 2], block: usize) -> Result<ValueId> {
        let channels = self.g.dims(x)?.channels();
        let eps = self.c.norm_eps;
        let h = self.k_norm(&format!("{name}.norm1"), x, channels / GROUP, eps)?;
        let h = self.g.activation(h, self.c.act_fn)?;
        let h = self.conv3(&format!("{name}.conv1"), h, inner)?;
        let h = self.k_norm(&format!("{name}.norm2"), h, block / GROUP, eps)?;
        let h = self.g.activation(h, self.c.act_fn)?;
        let h = self.conv3(&format!("{name}.conv2"), h, out)?;
        let shortcut = if channels == out {
            x
        } else {
            let weight = self.g.param(&format!("{name}.conv_shortcut.weight"), &[out, channels, 1, 1])?;
            self.g.push(Op::Conv2d { window: Window::POINT, kernel: Kernel { weight, bias: None } }, &[x])?
        };
        self.g.add(h, shortcut)
    }

    /// Attention of the pixels to one another, which is what the block's cross attention is in a network without
    /// tokens. A head has as many channels as `attention_head_dim` says, or `block`.
    fn k_attention(&mut self, name: &str, x: ValueId, block: usize) -> Result<ValueId> {
        let channels = self.g.dims(x)?.channels();
        let head = self.c.attention_head_dim.unwrap_or(block);
        let heads = channels / head.max(1);
        ensure!(heads > 0, Config, "attention_head_dim is {head}, expected at most the {channels} channels");
        let h = self.k_norm(&format!("{name}.norm2"), x, (channels / GROUP).max(1), ATTENTION_EPS)?;
        // A norm of tokens, which are not there: the file has it, the network does not use it.
        self.g.param(&format!("{name}.attn2.norm_cross.weight"), &[channels])?;
        self.g.param(&format!("{name}.attn2.norm_cross.bias"), &[channels])?;
        let mut qkv = Vec::new();
        for part in ["to_q", "to_k", "to_v"] {
            qkv.push(self.g.linear(&format!("{name}.attn2.{part}"), h, heads * head, true)?);
        }
        let h = self.g.push(Op::Attention { heads }, &qkv)?;
        let h = self.g.linear(&format!("{name}.attn2.to_out.0"), h, channels, true)?;
        self.g.add(h, x)
    }

    /// Group normalisation with factors and offsets from the embedding.
    fn k_norm(&mut self, name: &str, x: ValueId, groups: usize, eps: f32) -> Result<ValueId> {
        let dims = self.g.dims(x)?;
        let c = dims.channels();
        ensure!(
            groups > 0 && c.is_multiple_of(groups),
            Config,
            "a norm of {c} channels in {groups} groups, expected a divisor: these blocks have a group for {GROUP} channels"
        );
        // A group's channels lie one after the other, so that a norm of one position does what a group norm does,
        // without its parameters.
        let h = self.g.reshape(x, &[dims.elements()])?;
        let norm = ChannelNorm { kind: NormKind::Layer, groups, eps, weight: None, bias: None };
        let h = self.g.push(Op::ChannelNorm(norm), &[h])?;
        let h = self.g.reshape(h, dims.as_slice())?;
        let raw = self.embedding.ok_or_else(|| err!(Config, "{name} needs an embedding"))?.raw;
        let e = self.g.linear(&format!("{name}.linear"), raw, 2 * c, true)?;
        let (scale, shift) = (self.g.slice_channels(e, 0, c)?, self.g.slice_channels(e, c, c)?);
        let scale = self.g.affine(scale, 1.0, 1.0)?;
        let h = self.g.mul(h, scale)?;
        self.g.add(h, shift)
    }
}
