//! The layers that all blocks are made of.

use alloc::format;
use alloc::vec::Vec;

use super::config::{TimeScaleShift, UNet2DConfig};
use crate::error::{Result, ensure};
use crate::graph::{GraphBuilder, Op, Padding, ValueId};

/// Half of `(1, 3, 3, 1) / 4`: the one-dimensional taps of the FIR filter, with sum 1.
const FIR: [f32; 4] = [0.125, 0.375, 0.375, 0.125];

/// What changes the image size inside a residual layer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::model) enum Scale {
    Same,
    /// Nearest upsampling by 2.
    Up,
    /// Average pooling by 2.
    Down,
    /// Upsampling by 2 with the FIR filter.
    FirUp,
    /// Downsampling by 2 with the FIR filter.
    FirDown,
}

/// What differs between residual layers.
pub(in crate::model) struct Resnet {
    pub out: usize,
    /// Groups of the first and of the second norm.
    pub groups: [usize; 2],
    pub scale: Scale,
    /// A 1x1 convolution on the shortcut even where the channels agree.
    pub force_shortcut: bool,
    /// What the sum is divided by.
    pub divisor: f32,
}

impl Resnet {
    /// A layer of the plain kind.
    pub fn new(out: usize, groups: usize) -> Self {
        Self { out, groups: [groups; 2], scale: Scale::Same, force_shortcut: false, divisor: 1.0 }
    }
}

/// The embedding of time and class.
#[derive(Clone, Copy)]
pub(in crate::model) struct Embedding {
    /// Activated, which every residual layer projects.
    pub activated: ValueId,
    /// As it is, which those of K blocks project.
    pub raw: ValueId,
}

/// Builds layers into one graph.
pub(in crate::model) struct Layers<'a> {
    pub g: GraphBuilder,
    pub c: &'a UNet2DConfig,
    /// The embedding of time and class; autoencoders have none.
    pub embedding: Option<Embedding>,
}

impl Layers<'_> {
    /// Norm, activation, resampling, convolution; time; norm, activation, convolution; shortcut.
    pub fn resnet(&mut self, name: &str, x: ValueId, r: &Resnet) -> Result<ValueId> {
        self.resnet_inner(name, x, r).map_err(|e| e.context(name))
    }

    fn resnet_inner(&mut self, name: &str, x: ValueId, r: &Resnet) -> Result<ValueId> {
        let (eps, act) = (self.c.norm_eps, self.c.act_fn);
        let channels = self.g.dims(x)?.channels();
        let h = self.g.group_norm(&format!("{name}.norm1"), x, r.groups[0], eps)?;
        let h = self.g.activation(h, act)?;
        let (h, x) = match r.scale {
            Scale::Same => (h, x),
            scale => (self.rescale(h, scale)?, self.rescale(x, scale)?),
        };
        let h = self.conv3(&format!("{name}.conv1"), h, r.out)?;
        let h = match (self.embedding, self.c.resnet_time_scale_shift) {
            (None, _) => self.g.group_norm(&format!("{name}.norm2"), h, r.groups[1], eps)?,
            (Some(e), TimeScaleShift::Default) => {
                let time = self.g.linear(&format!("{name}.time_emb_proj"), e.activated, r.out, true)?;
                let h = self.g.add(h, time)?;
                self.g.group_norm(&format!("{name}.norm2"), h, r.groups[1], eps)?
            }
            (Some(e), TimeScaleShift::ScaleShift) => {
                let time = self.g.linear(&format!("{name}.time_emb_proj"), e.activated, 2 * r.out, true)?;
                let scale = self.g.slice_channels(time, 0, r.out)?;
                let scale = self.g.affine(scale, 1.0, 1.0)?;
                let shift = self.g.slice_channels(time, r.out, r.out)?;
                let h = self.g.group_norm(&format!("{name}.norm2"), h, r.groups[1], eps)?;
                let h = self.g.mul(h, scale)?;
                self.g.add(h, shift)?
            }
        };
        let h = self.g.activation(h, act)?;
        let h = self.conv3(&format!("{name}.conv2"), h, r.out)?;
        let shortcut = if r.force_shortcut || channels != r.out {
            self.conv1(&format!("{name}.conv_shortcut"), x, r.out)?
        } else {
            x
        };
        let sum = self.g.add(h, shortcut)?;
        self.divided(sum, r.divisor)
    }

    /// Self-attention over the pixels with a residual connection. `groups` is for the norm before it, if there is one.
    pub fn attention(&mut self, name: &str, x: ValueId, groups: Option<usize>, divisor: f32) -> Result<ValueId> {
        self.attention_inner(name, x, groups, divisor).map_err(|e| e.context(name))
    }

    fn attention_inner(&mut self, name: &str, x: ValueId, groups: Option<usize>, divisor: f32) -> Result<ValueId> {
        let channels = self.g.dims(x)?.channels();
        let head = self.c.attention_head_dim.unwrap_or(channels);
        // Rounded down as in diffusers: what does not fill a head is left out.
        let heads = channels / head.max(1);
        ensure!(heads > 0, Config, "attention_head_dim is {head}, expected at most the block's {channels} channels");
        let inner = heads * head;
        let h = match groups {
            Some(n) => self.g.group_norm(&format!("{name}.group_norm"), x, n, self.c.norm_eps)?,
            None => x,
        };
        let mut qkv = Vec::new();
        for part in ["to_q", "to_k", "to_v"] {
            qkv.push(self.g.linear(&format!("{name}.{part}"), h, inner, true)?);
        }
        let h = self.g.push(Op::Attention { heads }, &qkv)?;
        let h = self.g.linear(&format!("{name}.to_out.0"), h, channels, true)?;
        let sum = self.g.add(h, x)?;
        self.divided(sum, divisor)
    }

    /// A 3x3 convolution that keeps the size.
    pub fn conv3(&mut self, name: &str, x: ValueId, out: usize) -> Result<ValueId> {
        self.g.conv2d(name, x, out, 3, 1, Padding::all(1)).map_err(|e| e.context(name))
    }

    /// A 1x1 convolution, weight `[out, C, 1, 1]`.
    pub fn conv1(&mut self, name: &str, x: ValueId, out: usize) -> Result<ValueId> {
        self.g.conv2d(name, x, out, 1, 1, Padding::all(0)).map_err(|e| e.context(name))
    }

    /// A 3x3 convolution that halves the size.
    pub fn conv_down(&mut self, name: &str, x: ValueId) -> Result<ValueId> {
        let channels = self.g.dims(x)?.channels();
        let padding = match self.c.downsample_padding {
            0 => Padding { top: 0, bottom: 1, left: 0, right: 1 },
            n => Padding::all(n),
        };
        self.g.conv2d(name, x, channels, 3, 2, padding).map_err(|e| e.context(name))
    }

    /// Nearest upsampling and a 3x3 convolution.
    pub fn conv_up(&mut self, name: &str, x: ValueId) -> Result<ValueId> {
        let channels = self.g.dims(x)?.channels();
        let h = self.rescale(x, Scale::Up)?;
        self.conv3(name, h, channels)
    }

    /// Changes the size without weights.
    pub fn rescale(&mut self, x: ValueId, scale: Scale) -> Result<ValueId> {
        let fir = |taps: [f32; 4], up, down, pad| Op::Fir { taps: taps.into(), up, down, pad };
        let op = match scale {
            Scale::Same => return Ok(x),
            Scale::Up => Op::UpsampleNearest { factor: 2 },
            Scale::Down => Op::AveragePool { factor: 2 },
            // The zeros between pixels take half of the filter's sum in each direction.
            Scale::FirUp => fir(FIR.map(|w| 2.0 * w), 2, 1, [2, 1]),
            Scale::FirDown => fir(FIR, 1, 2, [1, 1]),
        };
        self.g.push(op, &[x])
    }

    fn divided(&mut self, x: ValueId, divisor: f32) -> Result<ValueId> {
        if divisor == 1.0 { Ok(x) } else { self.g.affine(x, 1.0 / divisor, 0.0) }
    }
}
