//! DnCNN (Zhang et al. 2017): a denoiser that is told no level, of the noise that it was trained for.
//!
//! Input: `sample` `[C, H, W]`, in the units in which images lie in 0 to 1. Output: `sample`, the image without the
//! noise. Parameters bear the names of deepinv's state dict, or with `naming` `kair` those of KAIR's, without the
//! `model.` that all of them begin with; deepinv's network makes what is added to the image, KAIR's what is taken off.

use alloc::format;

use super::family::{Architecture, Description, MAX_CHANNELS, MAX_SIZE};
use super::fields::{Fields, sample_size};
use super::{SAMPLE, take_class};
use crate::error::{Result, ensure};
use crate::graph::{Activation, Graph, GraphBuilder, Padding, Role};

/// The value of `_class_name`.
pub(super) const CLASS: &str = "DnCNN";

/// The arguments of the network's constructor, with deepinv's defaults or KAIR's, and `sample_size`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnCnnConfig {
    /// The usual height and width, if there is one.
    pub sample_size: Option<[usize; 2]>,
    /// Channels of an image.
    pub channels: usize,
    /// Channels of the layers.
    pub width: usize,
    /// Convolutions, at least 2.
    pub depth: usize,
    /// Whether names and sign are KAIR's and not deepinv's.
    pub kair: bool,
}

impl DnCnnConfig {
    /// Reads a configuration. Errors (kind `Config`) name the key, what is accepted and what stands there.
    pub fn from_json(json: &str) -> Result<Self> {
        let mut f = Fields::parse(json)?;
        take_class(&mut f, CLASS)?;
        let kair = f.word("naming", false, &[("deepinv", false), ("kair", true)])?;
        let (keys, defaults, known) = if kair {
            f.word("act_mode", (), &[("R", ())])?;
            (["in_nc", "out_nc", "nc", "nb"], [1, 1, 64, 17], "sample_size, naming, in_nc, out_nc, nc, nb, act_mode")
        } else {
            f.with("bias", (), "true", |v| (v.as_bool() == Some(true)).then_some(()))?;
            let known = "sample_size, naming, in_channels, out_channels, nf, depth, bias";
            (["in_channels", "out_channels", "nf", "depth"], [3, 3, 64, 20], known)
        };
        let [channels, out, width] = [0, 1, 2].map(|i| f.integer(keys[i], defaults[i], 1..=MAX_CHANNELS));
        let (channels, out) = (channels?, out?);
        ensure!(channels == out, Config, "{} is {channels} and {} is {out}, expected as many", keys[0], keys[1]);
        let depth = f.integer(keys[3], defaults[3], 2..=1024)?;
        let config = Self { sample_size: sample_size(&mut f, MAX_SIZE)?, channels, width: width?, depth, kair };
        f.finish(known)?;
        Ok(config)
    }
}

impl Architecture for DnCnnConfig {
    fn describe(&self) -> Description {
        Description {
            class_name: CLASS,
            channels: self.channels,
            sample_size: self.sample_size,
            multiple: [1; 2],
            classes: None,
        }
    }

    fn reach(&self) -> Option<usize> {
        Some(self.depth)
    }

    fn build(&self, [height, width]: [usize; 2]) -> Result<Graph> {
        let mut g = GraphBuilder::new();
        let sample = g.input_as(Role::Sample, SAMPLE, &[self.channels, height, width])?;
        let mut x = sample;
        for layer in 0..self.depth {
            let last = layer + 1 == self.depth;
            let name = match (self.kair, layer) {
                (true, _) => format!("{}", 2 * layer),
                (false, 0) => "in_conv".into(),
                (false, _) if last => "out_conv".into(),
                (false, _) => format!("conv_list.{}", layer - 1),
            };
            x = g.conv2d(&name, x, if last { self.channels } else { self.width }, 3, 1, Padding::all(1))?;
            if !last {
                x = g.activation(x, Activation::Relu)?;
            }
        }
        if self.kair {
            x = g.affine(x, -1.0, 0.0)?;
        }
        let y = g.add(x, sample)?;
        g.output(SAMPLE, y)?;
        g.finish()
    }
}
