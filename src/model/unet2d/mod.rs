//! diffusers' `UNet2DModel` (version 0.42): the network of DDPM, DDIM, NCSN++, consistency models and most small image
//! models.
//!
//! [`UNet2DConfig`] reads `config.json`, [`build`] makes the graph. Parameters bear the names of diffusers' state dict.
//! Inputs: `sample` `[in_channels, H, W]`; [`TIMESTEP`] `[1]`; in class models [`CLASS_LABELS`]. Output: `sample`
//! `[out_channels, H, W]`.
//!
//! A model with more channels in than out, `in_channels = out_channels + k`, sees an image of k channels beside x
//! (super-resolution, image to image): `sample` is then `[out_channels, H, W]` and the input [`IMAGE`] `[k, H, W]`, put
//! behind x along the channels, as `torch.cat([x, image], dim=1)`.
//!
//! ```
//! use undiffuse::model::unet2d::{self, UNet2DConfig};
//! # fn main() -> undiffuse::Result<()> {
//! let config = UNet2DConfig::from_json(
//!     r#"{"block_out_channels": [8, 16], "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
//!         "up_block_types": ["AttnUpBlock2D", "UpBlock2D"], "norm_num_groups": 4, "sample_size": 16}"#,
//! )?;
//! let graph = unet2d::build(&config, config.size(None)?)?;
//! assert_eq!(graph.outputs()[0].name, "sample");
//! assert_eq!(graph.params()[0].name, "time_embedding.linear_1.weight");
//! # Ok(())
//! # }
//! ```

use alloc::vec;
use alloc::vec::Vec;

use crate::error::{Result, ensure, err};
use crate::graph::{Activation, Graph, GraphBuilder, Role};

mod blocks;
pub mod conditional;
pub(in crate::model) mod config;
mod embeddings;
mod k_blocks;
pub(in crate::model) mod layers;

pub(in crate::model) use config::act_fn_or_null;
pub use config::{BlockType, ClassEmbedding, Resampling, TimeEmbedding, TimeScaleShift, UNet2DConfig};
pub use embeddings::{CLASS_LABELS, TIMESTEP};

use super::IMAGE;
use blocks::Block;
use layers::{Embedding, Layers};

/// The name of the image input and of the output.
pub const SAMPLE: &str = "sample";

/// Translates a configuration for images of `size` = [height, width], see [`UNet2DConfig::size`]. Errors (kind `Config`
/// or `Shape`): keys or sizes that do not go together, naming the layer.
pub fn build(config: &UNet2DConfig, size: [usize; 2]) -> Result<Graph> {
    config.check()?;
    let [height, width] = config.size(Some(size))?;
    let channels = &config.block_out_channels;
    let blocks = channels.len();
    let (&finest, &coarsest) =
        channels.first().zip(channels.last()).ok_or_else(|| err!(Config, "block_out_channels is empty"))?;

    let mut g = GraphBuilder::new();
    let sample = g.input_as(Role::Sample, SAMPLE, &[config.sample_channels(), height, width])?;
    let beside = match config.image_channels() {
        0 => None,
        k => Some(g.input_as(Role::Image, IMAGE, &[k, height, width])?),
    };
    let (time, embedding) = embeddings::embed(&mut g, config)?;
    let raw = embedding;
    let activated = g.activation(raw, config.act_fn)?;
    let mut l = Layers { g, c: config, embedding: Some(Embedding { activated, raw }) };

    let seen = match beside {
        None => sample,
        Some(beside) => l.g.concat(&[sample, beside])?,
    };
    let mut image = if config.center_input_sample { l.g.affine(seen, 2.0, -1.0)? } else { seen };
    let mut x = l.conv3("conv_in", image, finest)?;
    let mut kept = vec![x];
    for (index, (&kind, &out)) in config.down_block_types.iter().zip(channels).enumerate() {
        let block = Block { index, kind, out, last: index + 1 == blocks };
        x = l.down_block(block, x, &mut kept, &mut image)?;
    }
    if config.mid_block {
        ensure!(l.g.dims(x)?.channels() == coarsest, Config, "the middle block needs {coarsest} channels");
        x = l.mid_block("mid_block", x)?;
    }
    let mut added = None;
    let upwards: Vec<usize> = channels.iter().rev().copied().collect();
    for (index, (&kind, &out)) in config.up_block_types.iter().zip(&upwards).enumerate() {
        let block = Block { index, kind, out, last: index + 1 == blocks };
        x = l.up_block(block, x, &mut kept, &mut added)?;
    }
    let groups = l.groups_or_default(finest);
    let h = l.g.group_norm("conv_norm_out", x, groups, config.norm_eps).map_err(|e| e.context("conv_norm_out"))?;
    let h = l.g.activation(h, Activation::Silu)?;
    let mut y = l.conv3("conv_out", h, config.out_channels)?;
    if let Some(added) = added {
        let (is, needs) = (l.g.dims(added)?, l.g.dims(y)?);
        ensure!(
            is == needs,
            Config,
            "skip blocks make an image {is}, expected {needs}: out_channels must be 3 and the last blocks skip blocks"
        );
        y = l.g.add(y, added)?;
    }
    if config.time_embedding_type == TimeEmbedding::Fourier {
        y = l.g.div(y, time)?;
    }
    l.g.output(SAMPLE, y)?;
    l.g.finish()
}
