//! What the network knows beside the image: the time and, in some models, a class.

use super::config::{ClassEmbedding, TimeEmbedding, UNet2DConfig};
use crate::error::{Result, err};
use crate::graph::{Activation, GraphBuilder, Op, Role, ValueId};

/// The name of the time input: `[1]`, a timestep, or sigma in Fourier models.
pub const TIMESTEP: &str = "timestep";
/// The name of the class input: `[1]`, or `[time_embed_dim]` if `class_embed_type` is `identity`. Only class models
/// have it.
pub const CLASS_LABELS: &str = "class_labels";

/// Makes the time input and the embedding of time and class, `[time_embed_dim]`. Gives (time input, embedding).
pub(super) fn embed(g: &mut GraphBuilder, c: &UNet2DConfig) -> Result<(ValueId, ValueId)> {
    let dim = c.time_embed_dim();
    let t = g.input_as(Role::Timestep, TIMESTEP, &[1])?;
    let projected = project(g, c, t)?;
    let time = mlp(g, "time_embedding", projected, dim)?;
    let class = match (c.class_embed_type, c.num_class_embeds) {
        (Some(ClassEmbedding::Timestep), _) => {
            let label = g.input_as(Role::Class, CLASS_LABELS, &[1])?;
            let projected = project(g, c, label)?;
            mlp(g, "class_embedding", projected, dim)?
        }
        (Some(ClassEmbedding::Identity), _) => g.input_as(Role::ClassVector, CLASS_LABELS, &[dim])?,
        (None, Some(rows)) => {
            let label = g.input_as(Role::Class, CLASS_LABELS, &[1])?;
            let table = g.param("class_embedding.weight", &[rows, dim])?;
            g.push(Op::Embedding { table }, &[label])?
        }
        (None, None) => return Ok((t, time)),
    };
    Ok((t, g.add(time, class)?))
}

/// A number as a vector, without weights or with the table or frequencies in `time_proj`.
fn project(g: &mut GraphBuilder, c: &UNet2DConfig, x: ValueId) -> Result<ValueId> {
    let channels = *c.block_out_channels.first().ok_or_else(|| err!(Config, "block_out_channels is empty"))?;
    let op = match c.time_embedding_type {
        TimeEmbedding::Positional => Op::SinusoidalEmbedding {
            dim: channels,
            flip_sin_to_cos: c.flip_sin_to_cos,
            freq_shift: c.freq_shift,
            max_period: 10_000.0,
        },
        TimeEmbedding::Fourier => Op::FourierEmbedding {
            weight: g.param("time_proj.weight", &[channels])?,
            log: true,
            flip_sin_to_cos: false,
        },
        TimeEmbedding::Learned => {
            let rows = c.num_train_timesteps.ok_or_else(|| err!(Config, "num_train_timesteps is null"))?;
            Op::Embedding { table: g.param("time_proj.weight", &[rows, channels])? }
        }
    };
    g.push(op, &[x])
}

/// Two linear maps with SiLU between them, whatever `act_fn` says.
pub(super) fn mlp(g: &mut GraphBuilder, name: &str, x: ValueId, dim: usize) -> Result<ValueId> {
    let h = g.linear(&alloc::format!("{name}.linear_1"), x, dim, true)?;
    let h = g.activation(h, Activation::Silu)?;
    g.linear(&alloc::format!("{name}.linear_2"), h, dim, true)
}
