//! The network of images of Sohl-Dickstein et al. 2015: multi-scale convolutions beside a dense path over the whole
//! image, then the same small network at every pixel, read out through bumps over time.
//!
//! Inputs: `sample` `[in_channels, H, W]`, `timestep` `[1]`. Output: `sample` `[2 * in_channels, H, W]`, z_mu of every
//! channel, then z_Sigma, as [`Readout2015`](crate::sampler::Readout2015) takes them. In order:
//!
//! 1. Each convolution layer, with f its nonlinearity and x_s the mean of x over blocks of 2^s:
//!    `y = (1 / S) sum_s up_s(f(K_s * x_s + b_s))`, K_s 3x3 with zeros around, up_s repeating pixels; or, after the
//!    paper's text, `y = f(sum_s up_s(K_s * x_s + b_s))`.
//! 2. The dense path: the image flattened channel by channel, linear layers with a nonlinearity after each, the last of
//!    `dense_out_channels * H * W`, which is an image again.
//! 3. The two side by side, the convolutions' channels divided by the root of their number, the dense path's likewise;
//!    the convolutions as they are where there is no dense path.
//! 4. Linear layers at every pixel, the last one without nonlinearity to `2 * in_channels * J` channels, as
//!    `[2, in_channels, J]`, whose product with the bumps g(t) ([`Op::TemporalBasis`]) is the output.
//!
//! Parameters: `conv.L.S.weight` `[out, in, 3, 3]` and `conv.L.S.bias`, layer L and scale S from 0 on, `[out]` or
//! untied `[out, H / 2^S, W / 2^S]`; `dense.N.weight`, `dense.N.bias`; `upper.N.weight` `[out, in]`, `upper.N.bias`.
//!
//! Without a dense path and with tied biases it is fully convolutional: the size is then a choice when it is built.
//! Sides are multiples of `2^(scales - 1)`.
//!
//! ```
//! use undiffuse::model::multiscale2015::{self, Multiscale2015Config};
//!
//! let config = Multiscale2015Config::from_json(
//!     r#"{"in_channels": 1, "scales": 3, "conv_channels": [8, 8], "upper_channels": [8], "num_train_timesteps": 500}"#,
//! )?;
//! let graph = multiscale2015::build(&config, config.size(Some([32, 64]))?)?;
//! assert_eq!(graph.dims(graph.outputs()[0].value).as_slice(), [2, 32, 64]);
//! # Ok::<(), undiffuse::Error>(())
//! ```

use alloc::format;
use alloc::vec::Vec;

use super::{SAMPLE, TIMESTEP};
use crate::error::{Result, err};
use crate::graph::{Graph, GraphBuilder, Kernel, Op, Padding, Role, ValueId, Window};

mod config;

pub use config::{Multiscale2015Config, Placement, TemporalWidth};

/// Translates a configuration for images of `size` = [height, width], see [`Multiscale2015Config::size`]. Errors (kind
/// `Config` or `Shape`): what does not go together.
pub fn build(c: &Multiscale2015Config, size: [usize; 2]) -> Result<Graph> {
    c.check()?;
    let [height, width] = c.size(Some(size))?;
    let mut l = Layers { g: GraphBuilder::new(), c };
    let image = l.g.input_as(Role::Sample, SAMPLE, &[c.in_channels, height, width])?;
    let t = l.g.input_as(Role::Timestep, TIMESTEP, &[1])?;

    let mut x = image;
    for (layer, &channels) in c.conv_channels.iter().enumerate() {
        x = l.multiscale(layer, x, channels)?;
    }
    if let Some(channels) = c.dense_out_channels {
        let dense = l.dense(image, channels)?;
        let scaled = |g: &mut GraphBuilder, x: ValueId| -> Result<ValueId> {
            let channels = g.dims(x)?.channels();
            g.affine(x, (1.0 / libm::sqrt(channels as f64)) as f32, 0.0)
        };
        let parts = [scaled(&mut l.g, x)?, scaled(&mut l.g, dense)?];
        x = l.g.concat(&parts)?;
    }
    for (i, &channels) in c.upper_channels.iter().enumerate() {
        x = l.g.linear(&format!("upper.{i}"), x, channels, true)?;
        x = l.g.activation(x, c.dense_act_fn)?;
    }
    let last = c.upper_channels.len();
    let out = c.in_channels.saturating_mul(2).saturating_mul(c.temporal_functions);
    x = l.g.linear(&format!("upper.{last}"), x, out, true)?;
    let basis = Op::TemporalBasis {
        steps: c.num_train_timesteps,
        functions: c.temporal_functions,
        width: c.temporal_width.of(c.temporal_functions),
    };
    let g = l.g.push(basis, &[t])?;
    let z = l.g.mat_vec(x, g)?;
    l.g.output(SAMPLE, z)?;
    l.g.finish()
}

struct Layers<'a> {
    g: GraphBuilder,
    c: &'a Multiscale2015Config,
}

impl Layers<'_> {
    /// One layer, from the coarsest scale to the finest.
    fn multiscale(&mut self, layer: usize, x: ValueId, channels: usize) -> Result<ValueId> {
        let (c, scales) = (self.c, self.c.scales);
        // The mean of means of equal blocks is the mean of the whole block.
        let mut means = Vec::from([x]);
        for _ in 1..scales {
            let finer = *means.last().unwrap_or(&x);
            means.push(self.g.push(Op::AveragePool { factor: 2 }, &[finer])?);
        }
        let mut sum: Option<ValueId> = None;
        for (scale, &x) in means.iter().enumerate().rev() {
            let name = format!("conv.{layer}.{scale}");
            let mut y = self.conv(&name, x, channels).map_err(|e| e.context(&name))?;
            if c.activation_placement == Placement::PerScale {
                y = self.g.activation(y, c.act_fn)?;
            }
            if let Some(coarser) = sum {
                let coarser = self.g.push(Op::UpsampleNearest { factor: 2 }, &[coarser])?;
                y = self.g.add(y, coarser)?;
            }
            sum = Some(y);
        }
        let y = sum.ok_or_else(|| err!(Config, "scales is 0"))?;
        match c.activation_placement {
            Placement::AfterSum => self.g.activation(y, c.act_fn),
            Placement::PerScale if scales > 1 => self.g.affine(y, 1.0 / scales as f32, 0.0),
            Placement::PerScale => Ok(y),
        }
    }

    /// A 3x3 convolution that keeps the size, with its bias.
    fn conv(&mut self, name: &str, x: ValueId, out: usize) -> Result<ValueId> {
        let dims = self.g.dims(x)?;
        if self.c.tied_biases {
            return self.g.conv2d(name, x, out, 3, 1, Padding::all(1));
        }
        let weight = self.g.param(&format!("{name}.weight"), &[out, dims.channels(), 3, 3])?;
        let window = Window::new([3, 3], 1, Padding::all(1));
        let y = self.g.push(Op::Conv2d { window, kernel: Kernel { weight, bias: None } }, &[x])?;
        let dims = self.g.dims(y)?;
        let bias = self.g.param(&format!("{name}.bias"), dims.as_slice())?;
        self.g.push(Op::ElementBias { bias }, &[y])
    }

    /// The dense path, from the image to `channels` images.
    fn dense(&mut self, image: ValueId, channels: usize) -> Result<ValueId> {
        let dims = self.g.dims(image)?;
        let &[_, height, width] = dims.as_slice() else { return Err(err!(Shape, "the image is {dims}")) };
        let mut h = self.g.reshape(image, &[dims.elements()])?;
        // The configuration bounds each factor far below an overflow.
        let last = channels.saturating_mul(height).saturating_mul(width);
        for (i, &n) in self.c.dense_channels.iter().chain(&[last]).enumerate() {
            h = self.g.linear(&format!("dense.{i}"), h, n, true)?;
            h = self.g.activation(h, self.c.dense_act_fn)?;
        }
        self.g.reshape(h, &[channels, height, width])
    }
}
