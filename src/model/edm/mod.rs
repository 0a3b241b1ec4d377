//! The networks of EDM (Karras et al. 2022): `SongUNet` (ddpm++, ncsn++) and `DhariwalUNet` (ADM), each the F of its
//! preconditioning.
//!
//! What they take is c_in x and c_noise, and what they give is F: the scheduler's configuration beside them, diffusers'
//! `EDMEulerScheduler` or `EDMDPMSolverMultistepScheduler`, has the preconditioning. Inputs: `sample` `[C, H, W]`,
//! `timestep` `[1]` (c_noise), and with classes `class_labels` `[1]`, a number, which becomes the one-hot vector that
//! the code base takes. Output: `sample`. Parameters bear the names of the network's state dict; buffers of the filters
//! must be there, but the filter is the configuration's.

use crate::error::{Result, err};
use crate::graph::{Activation, Graph, GraphBuilder, Op, Role, ValueId};
use crate::model::family::{Architecture, Description, MAX_LEVELS};
use crate::model::{CLASS_LABELS, SAMPLE, TIMESTEP};

mod config;
mod layers;

pub use config::{EdmConfig, EdmNetwork, Side};

use layers::{Block, Conv, Layers, Resample};

/// The value of `_class_name`: the wrapper, whose `model_type` names the network.
pub(super) const CLASS: &str = "EDMPrecond";

impl Architecture for EdmConfig {
    fn describe(&self) -> Description {
        Description {
            class_name: CLASS,
            channels: self.img_channels,
            sample_size: Some([self.img_resolution; 2]),
            multiple: [1 << (self.channel_mult.len().clamp(1, MAX_LEVELS) - 1); 2],
            classes: (self.label_dim > 0).then_some(self.label_dim),
        }
    }

    fn build(&self, [height, width]: [usize; 2]) -> Result<Graph> {
        let mut g = GraphBuilder::new();
        let sample = g.input_as(Role::Sample, SAMPLE, &[self.img_channels, height, width])?;
        let t = g.input_as(Role::Timestep, TIMESTEP, &[1])?;
        let embedding = self.embed(&mut g, t)?;
        let mut l = Layers { g, c: self, embedding };
        let y = l.network(sample)?;
        l.g.output(SAMPLE, y)?;
        l.g.finish()
    }
}

impl EdmConfig {
    /// The activated embedding.
    fn embed(&self, g: &mut GraphBuilder, t: ValueId) -> Result<ValueId> {
        let song = self.model_type == EdmNetwork::Song;
        let noise = self.model_channels * if song { self.channel_mult_noise } else { 1 };
        let wide = self.model_channels * self.channel_mult_emb;
        let op = if song && !self.positional {
            // The code base swaps the halves, as ncsn++ has the sines first.
            Op::FourierEmbedding {
                weight: g.param("map_noise.freqs", &[noise / 2])?,
                log: false,
                flip_sin_to_cos: false,
            }
        } else {
            let freq_shift = if song { 1.0 } else { 0.0 };
            Op::SinusoidalEmbedding { dim: noise, flip_sin_to_cos: !song, freq_shift, max_period: 10_000.0 }
        };
        let mut e = g.push(op, &[t])?;
        let label = if self.label_dim > 0 {
            let class = g.input_as(Role::Class, CLASS_LABELS, &[1])?;
            Some(g.push(Op::OneHot { classes: self.label_dim }, &[class])?)
        } else {
            None
        };
        if let (Some(label), true) = (label, song) {
            let label = g.affine(label, libm::sqrt(self.label_dim as f64) as f32, 0.0)?;
            let label = g.linear("map_label", label, noise, true)?;
            e = g.add(e, label)?;
        }
        if self.augment_dim > 0 {
            // Without an augmentation its label is zeros, and there is no bias.
            g.param("map_augment.weight", &[noise, self.augment_dim])?;
        }
        e = g.linear("map_layer0", e, wide, true)?;
        e = g.activation(e, Activation::Silu)?;
        e = g.linear("map_layer1", e, wide, true)?;
        if let (Some(label), false) = (label, song) {
            let label = g.linear("map_label", label, wide, false)?;
            e = g.add(e, label)?;
        }
        g.activation(e, Activation::Silu)
    }
}

impl Layers<'_> {
    fn network(&mut self, sample: ValueId) -> Result<ValueId> {
        let c = self.c;
        let (song, levels) = (c.model_type == EdmNetwork::Song, c.channel_mult.len());
        let width = |level: usize| c.model_channels * c.channel_mult.get(level).copied().unwrap_or(1);
        let (mut x, mut aux) = (sample, sample);
        let mut kept = alloc::vec::Vec::new();
        for level in 0..levels {
            if level == 0 {
                let first = if song { c.model_channels } else { width(0) };
                x =
                    self.conv(&c.name("enc", 0, "conv"), x, Conv { out: first, kernel: 3, resample: Resample::Same })?;
            } else {
                let out = self.channels(x)?;
                let block = Block { out, resample: Resample::Down, attention: false };
                x = self.block(&c.name("enc", level, "down"), x, block)?;
                x = self.encoder_side(level, x, &mut aux)?;
            }
            kept.push(x);
            for i in 0..c.num_blocks {
                let block = Block { out: width(level), resample: Resample::Same, attention: c.attends(level) };
                x = self.block(&c.name("enc", level, &alloc::format!("block{i}")), x, block)?;
                kept.push(x);
            }
        }
        let mut image = None;
        for level in (0..levels).rev() {
            let out = self.channels(x)?;
            if level + 1 == levels {
                for (name, attention) in [("in0", true), ("in1", false)] {
                    x =
                        self.block(&c.name("dec", level, name), x, Block { out, resample: Resample::Same, attention })?;
                }
            } else {
                let block = Block { out, resample: Resample::Up, attention: false };
                x = self.block(&c.name("dec", level, "up"), x, block)?;
            }
            for i in 0..=c.num_blocks {
                let skip = kept.pop().ok_or_else(|| err!(Config, "there is nothing left from the way down"))?;
                x = self.g.concat(&[x, skip])?;
                let attention = c.attends(level) && (!song || i == c.num_blocks);
                let block = Block { out: width(level), resample: Resample::Same, attention };
                x = self.block(&c.name("dec", level, &alloc::format!("block{i}")), x, block)?;
            }
            if song && (c.decoder == Side::Skip || level == 0) {
                image = Some(self.decoder_side(level, x, image)?);
            }
        }
        if let Some(image) = image {
            return Ok(image);
        }
        let h = self.norm("out_norm", x, 1e-5)?;
        let h = self.g.activation(h, Activation::Silu)?;
        self.conv("out_conv", h, Conv { out: c.img_channels, kernel: 3, resample: Resample::Same })
    }

    /// What a `SongUNet` adds to a level's first value.
    fn encoder_side(&mut self, level: usize, x: ValueId, aux: &mut ValueId) -> Result<ValueId> {
        let c = self.c;
        if c.model_type != EdmNetwork::Song {
            return Ok(x);
        }
        let out = self.channels(x)?;
        match c.encoder {
            Side::Standard => Ok(x),
            Side::Skip => {
                let channels = self.channels(*aux)?;
                let down = Conv { out: channels, kernel: 0, resample: Resample::Down };
                *aux = self.conv(&c.name("enc", level, "aux_down"), *aux, down)?;
                let point = Conv { out, kernel: 1, resample: Resample::Same };
                let part = self.conv(&c.name("enc", level, "aux_skip"), *aux, point)?;
                self.g.add(x, part)
            }
            Side::Residual => {
                let part = self.filtered_conv(&c.name("enc", level, "aux_residual"), *aux, out)?;
                let sum = self.g.add(x, part)?;
                *aux = self.g.affine(sum, core::f32::consts::FRAC_1_SQRT_2, 0.0)?;
                Ok(*aux)
            }
        }
    }

    /// A level's part of the image, added to that of the coarser ones.
    fn decoder_side(&mut self, level: usize, x: ValueId, image: Option<ValueId>) -> Result<ValueId> {
        let c = self.c;
        let coarser = match image {
            None => None,
            Some(image) => {
                let up = Conv { out: c.img_channels, kernel: 0, resample: Resample::Up };
                Some(self.conv(&c.name("dec", level, "aux_up"), image, up)?)
            }
        };
        let h = self.norm(&c.name("dec", level, "aux_norm"), x, 1e-6)?;
        let h = self.g.activation(h, Activation::Silu)?;
        let part = Conv { out: c.img_channels, kernel: 3, resample: Resample::Same };
        let part = self.conv(&c.name("dec", level, "aux_conv"), h, part)?;
        coarser.map_or(Ok(part), |coarser| self.g.add(part, coarser))
    }
}
