//! The encoder and decoder of `AutoencoderKL` and `VQModel`: the residual layers of a UNet without a time.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::activation;
use crate::error::{Result, ensure};
use crate::graph::Activation;
use crate::graph::{Graph, GraphBuilder, Op, Role, ValueId};
use crate::model::SAMPLE;
use crate::model::family::{MAX_CHANNELS, MAX_LEVELS, integers};
use crate::model::fields::{Fields, one_of, word};
use crate::model::unet2d::UNet2DConfig;
use crate::model::unet2d::layers::{Layers, Resnet};

/// Epsilon of all norms, fixed in diffusers.
const EPS: f32 = 1e-6;

/// The keys of a configuration, for messages.
pub(super) const KL_KEYS: &str = "in_channels, out_channels, down_block_types, up_block_types, block_out_channels, \
    layers_per_block, act_fn, latent_channels, norm_num_groups, sample_size, scaling_factor, shift_factor, latents_mean, \
    latents_std, force_upcast, use_quant_conv, use_post_quant_conv, mid_block_add_attention";
/// The same of a `VQModel`.
pub(super) const VQ_KEYS: &str = "in_channels, out_channels, down_block_types, up_block_types, block_out_channels, \
    layers_per_block, act_fn, latent_channels, sample_size, num_vq_embeddings, norm_num_groups, vq_embed_dim, \
    scaling_factor, norm_type, mid_block_add_attention, lookup_from_codebook, force_upcast";

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Vae {
    /// What is common to all layers.
    base: UNet2DConfig,
    /// Which blocks have attention after each residual layer.
    down_attention: Vec<bool>,
    up_attention: Vec<bool>,
    latent: usize,
    /// Rows and values of a row, of a `VQModel`.
    pub codebook: Option<[usize; 2]>,
    quant_conv: bool,
    post_quant_conv: bool,
}

impl Vae {
    /// Takes what is neither of the ends nor of the scale.
    pub fn take(f: &mut Fields, latent: usize, codebook: Option<[usize; 2]>) -> Result<Self> {
        let kinds = |f: &mut Fields, key: &str, words: [(&str, bool); 2]| {
            f.list(key, Vec::from([false]), MAX_LEVELS, one_of(&words), |v| word(v.as_str()?, &words))
        };
        let down = kinds(f, "down_block_types", [("DownEncoderBlock2D", false), ("AttnDownEncoderBlock2D", true)])?;
        let up = kinds(f, "up_block_types", [("UpDecoderBlock2D", false), ("AttnUpDecoderBlock2D", true)])?;
        let widths = integers(f, "block_out_channels", &[64], 1..=MAX_CHANNELS)?;
        ensure!(
            !widths.is_empty() && down.len() == widths.len() && up.len() == widths.len(),
            Config,
            "block_out_channels, down_block_types and up_block_types have {}, {} and {} entries, expected as many",
            widths.len(),
            down.len(),
            up.len()
        );
        let flag = |f: &mut Fields, key: &str| if codebook.is_none() { f.boolean(key, true) } else { Ok(true) };
        let (quant_conv, post_quant_conv) = (flag(f, "use_quant_conv")?, flag(f, "use_post_quant_conv")?);
        let base = UNet2DConfig {
            block_out_channels: widths,
            layers_per_block: f.integer("layers_per_block", 1, 1..=64)?,
            norm_num_groups: Some(f.integer("norm_num_groups", 32, 1..=MAX_CHANNELS)?),
            norm_eps: EPS,
            act_fn: activation(f, Activation::Silu)?,
            add_attention: f.boolean("mid_block_add_attention", true)?,
            // A single head.
            attention_head_dim: None,
            // A row at the bottom and a column at the right.
            downsample_padding: 0,
            ..UNet2DConfig::from_json("{}")?
        };
        Ok(Self { base, down_attention: down, up_attention: up, latent, codebook, quant_conv, post_quant_conv })
    }

    pub fn levels(&self) -> usize {
        self.base.block_out_channels.len()
    }

    fn groups(&self) -> usize {
        self.base.norm_num_groups.unwrap_or(32)
    }

    fn width(&self, level: usize) -> usize {
        self.base.block_out_channels.get(level).copied().unwrap_or(1)
    }

    fn layers(&self) -> Layers<'_> {
        Layers { g: GraphBuilder::new(), c: &self.base, embedding: None }
    }

    /// Residual layers, each with attention behind it if `attention`.
    fn block(&self, l: &mut Layers<'_>, name: &str, mut x: ValueId, shape: (usize, usize, bool)) -> Result<ValueId> {
        let (layers, out, attention) = shape;
        for layer in 0..layers {
            x = l.resnet(&format!("{name}.resnets.{layer}"), x, &Resnet::new(out, self.groups()))?;
            if attention {
                x = l.attention(&format!("{name}.attentions.{layer}"), x, Some(self.groups()), 1.0)?;
            }
        }
        Ok(x)
    }

    /// The last norm, activation and convolution.
    fn end(&self, l: &mut Layers<'_>, half: &str, x: ValueId, out: usize) -> Result<ValueId> {
        let name = format!("{half}.conv_norm_out");
        let h = l.g.group_norm(&name, x, self.groups(), EPS).map_err(|e| e.context(&name))?;
        let h = l.g.activation(h, Activation::Silu)?;
        l.conv3(&format!("{half}.conv_out"), h, out)
    }

    pub fn decoder(&self, dims: [usize; 3], out_channels: usize) -> Result<Graph> {
        let mut l = self.layers();
        let mut x = l.g.input_as(Role::Sample, SAMPLE, &dims)?;
        if let Some([rows, dim]) = self.codebook {
            let table = l.g.param("quantize.embedding.weight", &[rows, dim])?;
            x = l.g.push(Op::NearestRow { table }, &[x])?;
        }
        if self.post_quant_conv {
            x = l.conv1("post_quant_conv", x, self.latent)?;
        }
        let of = |part: String| format!("decoder.{part}");
        let levels = self.levels();
        x = l.conv3("decoder.conv_in", x, self.width(levels - 1))?;
        x = l.mid_block("decoder.mid_block", x)?;
        for i in 0..levels {
            let (name, out) = (of(format!("up_blocks.{i}")), self.width(levels - 1 - i));
            let attention = self.up_attention.get(i) == Some(&true);
            x = self.block(&mut l, &name, x, (self.base.layers_per_block + 1, out, attention))?;
            if i + 1 < levels {
                x = l.conv_up(&format!("{name}.upsamplers.0.conv"), x)?;
            }
        }
        let y = self.end(&mut l, "decoder", x, out_channels)?;
        l.g.output(SAMPLE, y)?;
        l.g.finish()
    }

    pub fn encoder(&self, dims: [usize; 3]) -> Result<Graph> {
        let mut l = self.layers();
        let x = l.g.input_as(Role::Sample, SAMPLE, &dims)?;
        let mut x = l.conv3("encoder.conv_in", x, self.width(0))?;
        for i in 0..self.levels() {
            let (name, attention) = (format!("encoder.down_blocks.{i}"), self.down_attention.get(i) == Some(&true));
            x = self.block(&mut l, &name, x, (self.base.layers_per_block, self.width(i), attention))?;
            if i + 1 < self.levels() {
                x = l.conv_down(&format!("{name}.downsamplers.0.conv"), x)?;
            }
        }
        x = l.mid_block("encoder.mid_block", x)?;
        let moments = if self.codebook.is_some() { self.latent } else { 2 * self.latent };
        let mut y = self.end(&mut l, "encoder", x, moments)?;
        if self.quant_conv {
            y = l.conv1("quant_conv", y, self.codebook.map_or(moments, |[_, dim]| dim))?;
        }
        if self.codebook.is_some() {
            l.g.output(SAMPLE, y)?;
        } else {
            let mean = l.g.slice_channels(y, 0, self.latent)?;
            let logvar = l.g.slice_channels(y, self.latent, self.latent)?;
            l.g.output(SAMPLE, mean)?;
            l.g.output("logvar", logvar)?;
        }
        l.g.finish()
    }
}
