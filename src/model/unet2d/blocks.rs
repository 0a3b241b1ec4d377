//! The blocks: rows of layers at one image size.

use alloc::format;
use alloc::vec::Vec;
use core::f32::consts::SQRT_2;

use super::config::{BlockType, Resampling, TimeScaleShift};
use super::layers::{Layers, Resnet, Scale};
use crate::error::{Result, ensure, err};
use crate::graph::{Activation, ValueId};

/// Channels of the image that skip blocks carry along; fixed in diffusers.
const SKIP_CHANNELS: usize = 3;
/// Groups of the norm before attention in skip blocks; fixed in diffusers.
const SKIP_ATTENTION_GROUPS: usize = 32;

/// The groups that skip blocks give a norm.
fn skip_groups(channels: usize) -> usize {
    (channels / 4).min(32)
}

/// Which block it is.
#[derive(Clone, Copy)]
pub(super) struct Block {
    /// Its place on its way.
    pub index: usize,
    pub kind: BlockType,
    pub out: usize,
    /// The last one on its way keeps the size.
    pub last: bool,
}

impl Layers<'_> {
    fn groups(&self) -> Result<usize> {
        self.c.norm_num_groups.ok_or_else(|| err!(Config, "norm_num_groups is null, expected a number"))
    }

    /// The groups of the middle block and of the last norm.
    pub(super) fn groups_or_default(&self, channels: usize) -> usize {
        self.c.norm_num_groups.unwrap_or_else(|| skip_groups(channels))
    }

    /// A block on the way down. Pushes what the way up will take onto `kept`, and replaces `image`, the resampled input
    /// of skip blocks.
    pub(super) fn down_block(
        &mut self,
        block: Block,
        mut x: ValueId,
        kept: &mut Vec<ValueId>,
        image: &mut ValueId,
    ) -> Result<ValueId> {
        let Block { index, kind, out, last } = block;
        let name = format!("down_blocks.{index}");
        ensure!(kind != BlockType::KCrossAttn, Config, "{name} is of a type that there is upwards only");
        if kind == BlockType::K {
            return self.k_down(&name, x, block, kept);
        }
        for layer in 0..self.c.layers_per_block {
            let resnet = if kind.is_skip() {
                let groups = [skip_groups(self.g.dims(x)?.channels()), skip_groups(out)];
                Resnet { groups, divisor: SQRT_2, ..Resnet::new(out, 0) }
            } else {
                Resnet::new(out, self.groups()?)
            };
            x = self.resnet(&format!("{name}.resnets.{layer}"), x, &resnet)?;
            x = match kind {
                BlockType::Attn => {
                    let groups = self.groups()?;
                    self.attention(&format!("{name}.attentions.{layer}"), x, Some(groups), 1.0)?
                }
                BlockType::AttnSkip => {
                    self.attention(&format!("{name}.attentions.{layer}"), x, Some(SKIP_ATTENTION_GROUPS), SQRT_2)?
                }
                BlockType::Plain | BlockType::Resnet | BlockType::Skip | BlockType::K | BlockType::KCrossAttn => x,
            };
            kept.push(x);
        }
        if last {
            return Ok(x);
        }
        let sampler = format!("{name}.downsamplers.0");
        x = match kind {
            BlockType::Skip | BlockType::AttnSkip => {
                let resnet = Resnet {
                    scale: Scale::FirDown,
                    force_shortcut: true,
                    divisor: SQRT_2,
                    ..Resnet::new(out, skip_groups(out))
                };
                x = self.resnet(&format!("{name}.resnet_down"), x, &resnet)?;
                let channels = self.g.dims(*image)?.channels();
                ensure!(
                    channels == SKIP_CHANNELS,
                    Config,
                    "in_channels is {channels}, expected {SKIP_CHANNELS} with skip blocks"
                );
                *image = self.rescale(*image, Scale::FirDown)?;
                let from_image = self.conv1(&format!("{name}.skip_conv"), *image, out)?;
                let (is, needs) = (self.g.dims(from_image)?, self.g.dims(x)?);
                ensure!(
                    is == needs,
                    Config,
                    "{name}: its image is {is} and its features are {needs}: the blocks before it must be skip blocks"
                );
                self.g.add(x, from_image)?
            }
            BlockType::Plain => self.conv_down(&format!("{sampler}.conv"), x)?,
            BlockType::Attn if self.c.downsample_type == Resampling::Conv => {
                self.conv_down(&format!("{sampler}.conv"), x)?
            }
            BlockType::Attn | BlockType::Resnet | BlockType::K | BlockType::KCrossAttn => {
                let resnet = Resnet { scale: Scale::Down, ..Resnet::new(out, self.groups()?) };
                self.resnet(&sampler, x, &resnet)?
            }
        };
        kept.push(x);
        Ok(x)
    }

    /// The middle block: two residual layers with attention between them.
    pub(in crate::model) fn mid_block(&mut self, name: &str, x: ValueId) -> Result<ValueId> {
        let channels = self.g.dims(x)?.channels();
        let groups = self.groups_or_default(channels);
        let divisor = self.c.mid_block_scale_factor;
        let resnet = Resnet { divisor, ..Resnet::new(channels, groups) };
        let mut x = self.resnet(&format!("{name}.resnets.0"), x, &resnet)?;
        if self.c.add_attention {
            let groups = match (self.c.attn_norm_num_groups, self.c.resnet_time_scale_shift) {
                (Some(n), _) => Some(n),
                (None, TimeScaleShift::Default) => Some(groups),
                (None, TimeScaleShift::ScaleShift) => None,
            };
            x = self.attention(&format!("{name}.attentions.0"), x, groups, divisor)?;
        }
        self.resnet(&format!("{name}.resnets.1"), x, &resnet)
    }

    /// A block on the way up. Takes its values from `kept`, and adds to `image`, the output that skip blocks build up.
    pub(super) fn up_block(
        &mut self,
        block: Block,
        mut x: ValueId,
        kept: &mut Vec<ValueId>,
        image: &mut Option<ValueId>,
    ) -> Result<ValueId> {
        let Block { index, kind, out, last } = block;
        let name = format!("up_blocks.{index}");
        if matches!(kind, BlockType::K | BlockType::KCrossAttn) {
            return self.k_up(&name, x, block, kept);
        }
        for layer in 0..=self.c.layers_per_block {
            let from_down =
                kept.pop().ok_or_else(|| err!(Config, "{name}: there is nothing left from the way down"))?;
            let (before, skipped) = (self.g.dims(x)?.channels(), self.g.dims(from_down)?.channels());
            x = self.g.concat(&[x, from_down]).map_err(|e| e.context(&name))?;
            let resnet = if kind.is_skip() {
                let first = match kind {
                    // Not the quarter of the sum: diffusers divides only the second number, and weights were trained
                    // so.
                    BlockType::AttnSkip => (before + skipped / 4).min(32),
                    _ => skip_groups(before + skipped),
                };
                Resnet { groups: [first, skip_groups(out)], divisor: SQRT_2, ..Resnet::new(out, 0) }
            } else {
                Resnet::new(out, self.groups()?)
            };
            x = self.resnet(&format!("{name}.resnets.{layer}"), x, &resnet)?;
            if kind == BlockType::Attn {
                let groups = self.groups()?;
                x = self.attention(&format!("{name}.attentions.{layer}"), x, Some(groups), 1.0)?;
            }
        }
        if kind == BlockType::AttnSkip {
            x = self.attention(&format!("{name}.attentions.0"), x, Some(SKIP_ATTENTION_GROUPS), SQRT_2)?;
        }
        if kind.is_skip() {
            return self.up_skip(&name, x, out, last, image);
        }
        if last {
            return Ok(x);
        }
        let sampler = format!("{name}.upsamplers.0");
        match kind {
            BlockType::Attn | BlockType::Resnet
                if kind == BlockType::Resnet || self.c.upsample_type == Resampling::Resnet =>
            {
                let resnet = Resnet { scale: Scale::Up, ..Resnet::new(out, self.groups()?) };
                self.resnet(&sampler, x, &resnet)
            }
            _ => self.conv_up(&format!("{sampler}.conv"), x),
        }
    }

    /// The end of a skip block: its part of the image, and the resampling.
    fn up_skip(
        &mut self,
        name: &str,
        x: ValueId,
        out: usize,
        last: bool,
        image: &mut Option<ValueId>,
    ) -> Result<ValueId> {
        if let Some(coarser) = *image {
            *image = Some(self.rescale(coarser, Scale::FirUp)?);
        }
        if last {
            return Ok(x);
        }
        let h = self.g.group_norm(&format!("{name}.skip_norm"), x, skip_groups(out), self.c.norm_eps)?;
        let h = self.g.activation(h, Activation::Silu)?;
        let part = self.conv3(&format!("{name}.skip_conv"), h, SKIP_CHANNELS)?;
        *image = Some(match *image {
            Some(coarser) => self.g.add(part, coarser).map_err(|e| e.context(name))?,
            None => part,
        });
        let resnet =
            Resnet { scale: Scale::FirUp, force_shortcut: true, divisor: SQRT_2, ..Resnet::new(out, skip_groups(out)) };
        self.resnet(&format!("{name}.resnet_up"), x, &resnet)
    }
}
