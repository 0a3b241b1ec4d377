//! DRUNet (Zhang et al. 2021): a denoiser of a stated sigma.
//!
//! Inputs: `sample` `[in_channels, H, W]`, `timestep` `[1]`, which is sigma, both in the units in which images lie in 0
//! to 1. Output: `sample`, the image without the noise. Sides are multiples of 8, so that nothing is padded (deepinv
//! pads sides below 32 that are no multiples of 16, KAIR does not). Parameters bear the names of the state dict that
//! deepinv and KAIR have in common; there are no biases.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::family::{Architecture, Description, MAX_CHANNELS, MAX_SIZE, integers};
use super::fields::{Fields, sample_size};
use super::{SAMPLE, TIMESTEP, take_class};
use crate::error::{Result, ensure};
use crate::graph::{Activation, Graph, GraphBuilder, Kernel, Op, Padding, Role, ValueId, Window};
use crate::tensor::Dims;

/// The value of `_class_name`.
pub(super) const CLASS: &str = "DRUNet";
/// Levels, fixed.
const LEVELS: usize = 4;

/// The arguments of deepinv's constructor, with its defaults, and `sample_size`. `act_mode` is `R`, `downsample_mode`
/// `strideconv`, `upsample_mode` `convtranspose`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrUnetConfig {
    /// The usual height and width, if there is one.
    pub sample_size: Option<[usize; 2]>,
    /// Channels of the input, without that of sigma.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Channels of the four levels.
    pub nc: Vec<usize>,
    /// Residual blocks of a level.
    pub nb: usize,
}

impl DrUnetConfig {
    /// Reads a configuration. Errors (kind `Config`) name the key, what is accepted and what stands there.
    pub fn from_json(json: &str) -> Result<Self> {
        let mut f = Fields::parse(json)?;
        take_class(&mut f, CLASS)?;
        f.word("act_mode", (), &[("R", ())])?;
        f.word("downsample_mode", (), &[("strideconv", ())])?;
        f.word("upsample_mode", (), &[("convtranspose", ())])?;
        let nc = integers(&mut f, "nc", &[64, 128, 256, 512], 1..=MAX_CHANNELS)?;
        ensure!(nc.len() == LEVELS, Config, "nc has {} entries, expected {LEVELS}", nc.len());
        let config = Self {
            sample_size: sample_size(&mut f, MAX_SIZE)?,
            in_channels: f.integer("in_channels", 3, 1..=MAX_CHANNELS)?,
            out_channels: f.integer("out_channels", 3, 1..=MAX_CHANNELS)?,
            nc,
            nb: f.integer("nb", 4, 1..=64)?,
        };
        f.finish("sample_size, in_channels, out_channels, nc, nb, act_mode, downsample_mode, upsample_mode")?;
        Ok(config)
    }
}

impl Architecture for DrUnetConfig {
    fn describe(&self) -> Description {
        Description {
            class_name: CLASS,
            channels: self.in_channels,
            sample_size: self.sample_size,
            multiple: [1 << (LEVELS - 1); 2],
            classes: None,
        }
    }

    fn reach(&self) -> Option<usize> {
        // 3 x 3 at each resolution, twice a block, before the deepest and after it, and at the deepest; the ends; and
        // the side of what the deepest level sees as one.
        let blocks: usize = (0..LEVELS - 1).map(|level| 2 << level).sum::<usize>() + (1 << (LEVELS - 1));
        Some(2 * self.nb * blocks + 2 + (1 << (LEVELS - 1)))
    }

    fn build(&self, [height, width]: [usize; 2]) -> Result<Graph> {
        let mut b = Blocks(GraphBuilder::new());
        let sample = b.0.input_as(Role::Sample, SAMPLE, &[self.in_channels, height, width])?;
        let sigma = b.0.input_as(Role::Timestep, TIMESTEP, &[1])?;
        // Sigma at every pixel.
        let zeros = b.0.slice_channels(sample, 0, 1)?;
        let zeros = b.0.affine(zeros, 0.0, 0.0)?;
        let map = b.0.add(zeros, sigma)?;
        let x = b.0.concat(&[sample, map])?;
        let at = |level: usize| self.nc.get(level).copied().unwrap_or(1);
        let plain = Window::new([3, 3], 1, Padding::all(1));
        let halves = Window::new([2, 2], 2, Padding::all(0));
        let mut x = b.conv("m_head", x, at(0), plain)?;
        let mut kept = Vec::new();
        for level in 1..LEVELS {
            kept.push(x);
            let name = format!("m_down{level}");
            x = b.residuals(|i| format!("{name}.{i}"), x, self.nb)?;
            x = b.conv(&format!("{name}.{}", self.nb), x, at(level), halves)?;
        }
        let deepest = x;
        // What is alone in a sequence has no number.
        x = b.residuals(|i| if self.nb == 1 { "m_body".into() } else { format!("m_body.{i}") }, x, self.nb)?;
        let mut skip = deepest;
        for level in (1..LEVELS).rev() {
            let name = format!("m_up{level}");
            x = b.0.add(x, skip)?;
            x = b.doubled(&format!("{name}.0"), x, at(level - 1), halves)?;
            x = b.residuals(|i| format!("{name}.{}", i + 1), x, self.nb)?;
            skip = kept.pop().unwrap_or(skip);
        }
        x = b.0.add(x, skip)?;
        let y = b.conv("m_tail", x, self.out_channels, plain)?;
        b.0.output(SAMPLE, y)?;
        b.0.finish()
    }
}

/// Layers without biases.
struct Blocks(GraphBuilder);

impl Blocks {
    fn conv(&mut self, name: &str, x: ValueId, out: usize, window: Window) -> Result<ValueId> {
        let inputs = self.0.dims(x)?.channels();
        let weight = self.0.param(&format!("{name}.weight"), &[out, inputs, window.kernel[0], window.kernel[1]])?;
        let kernel = Kernel { weight, bias: None };
        self.0.push(Op::Conv2d { window, kernel }, &[x]).map_err(|e| e.context(name))
    }

    /// The adjoint of a convolution that halves the sides.
    fn doubled(&mut self, name: &str, x: ValueId, out: usize, window: Window) -> Result<ValueId> {
        let dims = self.0.dims(x)?;
        let &[inputs, h, w] = dims.as_slice() else { return Ok(x) };
        let weight = self.0.param(&format!("{name}.weight"), &[inputs, out, 2, 2])?;
        let dims = Dims::new(&[out, 2 * h, 2 * w])?;
        self.0.push(Op::ConvAdjoint { window, weight, dims }, &[x]).map_err(|e| e.context(name))
    }

    /// Residual blocks of two convolutions.
    fn residuals(&mut self, name: impl Fn(usize) -> String, mut x: ValueId, count: usize) -> Result<ValueId> {
        let window = Window::new([3, 3], 1, Padding::all(1));
        for i in 0..count {
            let (name, channels) = (name(i), self.0.dims(x)?.channels());
            let h = self.conv(&format!("{name}.res.0"), x, channels, window)?;
            let h = self.0.activation(h, Activation::Relu)?;
            let h = self.conv(&format!("{name}.res.2"), h, channels, window)?;
            x = self.0.add(h, x)?;
        }
        Ok(x)
    }
}
