//! FFDNet (Zhang et al. 2018): a denoiser of a stated sigma.
//!
//! Inputs: `sample` `[in_nc, H, W]`, `timestep` `[1]`, which is sigma, both in the units in which images lie in 0 to 1.
//! Output: `sample`, the image without the noise. Sides are even, so that nothing is padded. Parameters bear the names
//! of KAIR's state dict, without the `model.` that all of them begin with.

use super::family::{Architecture, Description, MAX_CHANNELS, MAX_SIZE};
use super::fields::{Fields, sample_size};
use super::{SAMPLE, TIMESTEP, take_class};
use crate::error::Result;
use crate::graph::{Activation, Graph, GraphBuilder, Op, Padding, Role};

/// The value of `_class_name`.
pub(super) const CLASS: &str = "FFDNet";

/// The arguments of the network's constructor, with its defaults, and `sample_size`; `act_mode` is `R`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FfdNetConfig {
    /// The usual height and width, if there is one.
    pub sample_size: Option<[usize; 2]>,
    /// Channels of the input.
    pub in_nc: usize,
    /// Channels of the output.
    pub out_nc: usize,
    /// Channels of the layers.
    pub nc: usize,
    /// Convolutions, at least 2.
    pub nb: usize,
}

impl FfdNetConfig {
    /// Reads a configuration. Errors (kind `Config`) name the key, what is accepted and what stands there.
    pub fn from_json(json: &str) -> Result<Self> {
        let mut f = Fields::parse(json)?;
        take_class(&mut f, CLASS)?;
        f.word("act_mode", (), &[("R", ())])?;
        let config = Self {
            sample_size: sample_size(&mut f, MAX_SIZE)?,
            in_nc: f.integer("in_nc", 1, 1..=MAX_CHANNELS)?,
            out_nc: f.integer("out_nc", 1, 1..=MAX_CHANNELS)?,
            nc: f.integer("nc", 64, 1..=MAX_CHANNELS)?,
            nb: f.integer("nb", 15, 2..=1024)?,
        };
        f.finish("sample_size, in_nc, out_nc, nc, nb, act_mode")?;
        Ok(config)
    }
}

impl Architecture for FfdNetConfig {
    fn describe(&self) -> Description {
        Description {
            class_name: CLASS,
            channels: self.in_nc,
            sample_size: self.sample_size,
            multiple: [2; 2],
            classes: None,
        }
    }

    fn reach(&self) -> Option<usize> {
        // 3 x 3 at half of the resolution.
        Some(2 * self.nb)
    }

    fn build(&self, [height, width]: [usize; 2]) -> Result<Graph> {
        let mut g = GraphBuilder::new();
        let sample = g.input_as(Role::Sample, SAMPLE, &[self.in_nc, height, width])?;
        let sigma = g.input_as(Role::Timestep, TIMESTEP, &[1])?;
        let blocks = |up| {
            let (factor, blocks_first) = ([2, 2], false);
            if up { Op::DepthToSpace { factor, blocks_first } } else { Op::SpaceToDepth { factor, blocks_first } }
        };
        let x = g.push(blocks(false), &[sample])?;
        // Sigma at every pixel.
        let zeros = g.slice_channels(x, 0, 1)?;
        let zeros = g.affine(zeros, 0.0, 0.0)?;
        let map = g.add(zeros, sigma)?;
        let mut x = g.concat(&[x, map])?;
        for layer in 0..self.nb {
            let last = layer + 1 == self.nb;
            let out = if last { 4 * self.out_nc } else { self.nc };
            x = g.conv2d(&alloc::format!("{}", 2 * layer), x, out, 3, 1, Padding::all(1))?;
            if !last {
                x = g.activation(x, Activation::Relu)?;
            }
        }
        let y = g.push(blocks(true), &[x])?;
        g.output(SAMPLE, y)?;
        g.finish()
    }
}
