//! The encoder and decoder of `AutoencoderTiny`, which distils a larger autoencoder (TAESD).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{activation, per_level};
use crate::error::{Result, ensure};
use crate::graph::{Activation, Graph, GraphBuilder, Kernel, Op, Padding, Role, ValueId, Window};
use crate::model::SAMPLE;
use crate::model::family::MAX_CHANNELS;
use crate::model::fields::Fields;

/// The keys of a configuration, for messages.
pub(super) const KEYS: &str = "in_channels, out_channels, encoder_block_out_channels, decoder_block_out_channels, act_fn, \
    upsample_fn, latent_channels, upsampling_scaling_factor, num_encoder_blocks, num_decoder_blocks, latent_magnitude, \
    latent_shift, force_upcast, scaling_factor, shift_factor";
/// What latents are softly held within.
const BOUND: f32 = 3.0;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tiny {
    pub latent_channels: usize,
    /// Channels of all layers of a half.
    encoder_width: usize,
    decoder_width: usize,
    /// Blocks of each level.
    encoder_blocks: Vec<usize>,
    decoder_blocks: Vec<usize>,
    upsampling: usize,
    act_fn: Activation,
}

/// A half's blocks and the channels that all its levels have.
fn half(f: &mut Fields, half: &str, blocks: [usize; 4]) -> Result<(usize, Vec<usize>)> {
    let (wide, deep) = (format!("{half}_block_out_channels"), format!("num_{half}_blocks"));
    let widths = per_level(f, &wide, &[64; 4], MAX_CHANNELS)?;
    let blocks = per_level(f, &deep, &blocks, 64)?;
    let width = widths.first().copied().unwrap_or(0);
    ensure!(
        widths.len() == blocks.len() && width > 0 && widths.iter().all(|w| *w == width),
        Config,
        "{wide} is {widths:?} with {} of {deep}, expected as many, all alike and above 0",
        blocks.len()
    );
    Ok((width, blocks))
}

impl Tiny {
    pub fn take(f: &mut Fields) -> Result<Self> {
        f.word("upsample_fn", (), &[("nearest", ())])?;
        let (encoder_width, encoder_blocks) = half(f, "encoder", [1, 3, 3, 3])?;
        let (decoder_width, decoder_blocks) = half(f, "decoder", [3, 3, 3, 1])?;
        let tiny = Self {
            latent_channels: f.integer("latent_channels", 4, 1..=MAX_CHANNELS)?,
            encoder_width,
            decoder_width,
            encoder_blocks,
            decoder_blocks,
            upsampling: f.integer("upsampling_scaling_factor", 2, 1..=4)?,
            act_fn: activation(f, Activation::Relu)?,
        };
        let factor = tiny.upsampling.checked_pow(tiny.decoder_blocks.len() as u32 - 1);
        ensure!(
            factor.is_some_and(|n| n <= 1 << 15),
            Config,
            "upsampling_scaling_factor is {} with {} levels, expected a factor of at most 32768",
            tiny.upsampling,
            tiny.decoder_blocks.len()
        );
        Ok(tiny)
    }

    pub fn factor(&self) -> usize {
        self.upsampling.saturating_pow(self.decoder_blocks.len().saturating_sub(1) as u32)
    }

    pub fn encoder_factor(&self) -> usize {
        1 << self.encoder_blocks.len().saturating_sub(1)
    }

    pub fn decoder(&self, dims: [usize; 3], out_channels: usize) -> Result<Graph> {
        let mut s = Sequence { g: GraphBuilder::new(), half: "decoder", next: 0, act_fn: self.act_fn };
        let x = s.g.input_as(Role::Sample, SAMPLE, &dims)?;
        let x = s.g.affine(x, 1.0 / BOUND, 0.0)?;
        let x = s.g.activation(x, Activation::Tanh)?;
        let x = s.g.affine(x, BOUND, 0.0)?;
        let x = s.conv(x, self.decoder_width, 1, true)?;
        let mut x = s.g.activation(x, self.act_fn)?;
        s.next += 1;
        for (i, &blocks) in self.decoder_blocks.iter().enumerate() {
            for _ in 0..blocks {
                x = s.block(x)?;
            }
            if i + 1 == self.decoder_blocks.len() {
                x = s.conv(x, out_channels, 1, true)?;
            } else {
                x = s.g.push(Op::UpsampleNearest { factor: self.upsampling }, &[x])?;
                s.next += 1;
                x = s.conv(x, self.decoder_width, 1, false)?;
            }
        }
        // The layers work on 0 to 1.
        let y = s.g.affine(x, 2.0, -1.0)?;
        s.g.output(SAMPLE, y)?;
        s.g.finish()
    }

    pub fn encoder(&self, dims: [usize; 3]) -> Result<Graph> {
        let mut s = Sequence { g: GraphBuilder::new(), half: "encoder", next: 0, act_fn: self.act_fn };
        let x = s.g.input_as(Role::Sample, SAMPLE, &dims)?;
        let mut x = s.g.affine(x, 0.5, 0.5)?;
        for (i, &blocks) in self.encoder_blocks.iter().enumerate() {
            x = if i == 0 { s.conv(x, self.encoder_width, 1, true)? } else { s.conv(x, self.encoder_width, 2, false)? };
            for _ in 0..blocks {
                x = s.block(x)?;
            }
        }
        let y = s.conv(x, self.latent_channels, 1, true)?;
        s.g.output(SAMPLE, y)?;
        s.g.finish()
    }
}

/// Layers under the numbers of a `torch.nn.Sequential`.
struct Sequence {
    g: GraphBuilder,
    half: &'static str,
    next: usize,
    act_fn: Activation,
}

impl Sequence {
    fn name(&mut self) -> String {
        let name = format!("{}.layers.{}", self.half, self.next);
        self.next += 1;
        name
    }

    fn conv(&mut self, x: ValueId, out: usize, stride: usize, bias: bool) -> Result<ValueId> {
        let name = self.name();
        if bias {
            return self.g.conv2d(&name, x, out, 3, stride, Padding::all(1)).map_err(|e| e.context(&name));
        }
        let inputs = self.g.dims(x)?.channels();
        let weight = self.g.param(&format!("{name}.weight"), &[out, inputs, 3, 3])?;
        let window = Window::new([3, 3], stride, Padding::all(1));
        let made = self.g.push(Op::Conv2d { window, kernel: Kernel { weight, bias: None } }, &[x]);
        made.map_err(|e| e.context(&name))
    }

    /// Three convolutions beside a shortcut.
    fn block(&mut self, x: ValueId) -> Result<ValueId> {
        let (name, channels) = (self.name(), self.g.dims(x)?.channels());
        let mut h = x;
        for layer in [0, 2, 4] {
            h = self.g.conv2d(&format!("{name}.conv.{layer}"), h, channels, 3, 1, Padding::all(1))?;
            if layer < 4 {
                h = self.g.activation(h, self.act_fn)?;
            }
        }
        let sum = self.g.add(h, x)?;
        self.g.activation(sum, Activation::Relu)
    }
}
