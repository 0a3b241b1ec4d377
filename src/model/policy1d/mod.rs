//! The `ConditionalUnet1D` of Diffusion Policy (Chi et al. 2023) and LeRobot's `DiffusionConditionalUnet1d`.
//!
//! Inputs: `sample` `[input_dim, 1, horizon]` (both code bases hold an action sequence as `[horizon, input_dim]`: it is
//! transposed here), `timestep` `[1]`, and `global_cond` `[global_cond_dim]`, what the robot observes, where there is
//! any. Output: `sample`.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::family::{Architecture, Description, MAX_CHANNELS, MAX_LEVELS, MAX_SIZE, integers};
use super::fields::Fields;
use super::{SAMPLE, TIMESTEP, take_class};
use crate::error::{Result, ensure, err};
use crate::graph::{Activation, Graph, GraphBuilder, Op, Role, ValueId};

/// The value of `_class_name`.
pub(super) const CLASS: &str = "ConditionalUnet1D";
/// The name of the input for what is observed.
pub const GLOBAL_COND: &str = "global_cond";
const EPS: f32 = 1e-5;
/// Groups of the last norm: both code bases leave them at the default there, whatever `n_groups` is.
const LAST_GROUPS: usize = 8;

/// Whose names the parameters bear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Naming {
    /// Diffusion Policy: `down_modules.0.0.blocks.0.block.0`, `down_modules.0.2.conv`.
    DiffusionPolicy,
    /// LeRobot: `down_modules.0.0.conv1.block.0`, `down_modules.0.2`.
    LeRobot,
}

/// The arguments of the network's constructor, with Diffusion Policy's defaults, and two keys of this library's:
/// `naming` (`diffusion_policy` or `lerobot`) and `horizon`.
#[derive(Clone, Debug, PartialEq)]
pub struct ConditionalUnet1dConfig {
    /// Values of one step of a sequence.
    pub input_dim: usize,
    /// Values of the condition; `None` for none.
    pub global_cond_dim: Option<usize>,
    /// Values of the embedded timestep, 256.
    pub diffusion_step_embed_dim: usize,
    /// Channels of the levels, finest first.
    pub down_dims: Vec<usize>,
    /// Odd, 3.
    pub kernel_size: usize,
    /// Groups of the norms but the last, 8.
    pub n_groups: usize,
    /// Whether the condition also scales (FiLM).
    pub cond_predict_scale: bool,
    /// The usual length of a sequence, if there is one.
    pub horizon: Option<usize>,
    /// See [`Naming`].
    pub naming: Naming,
}

impl ConditionalUnet1dConfig {
    /// Reads a configuration. Errors (kind `Config`) name the key, what is accepted and what stands there.
    pub fn from_json(json: &str) -> Result<Self> {
        let mut f = Fields::parse(json)?;
        take_class(&mut f, CLASS)?;
        if f.integer_or_null("local_cond_dim", None, 1..=MAX_CHANNELS)?.is_some() {
            return Err(err!(
                Unsupported,
                "local_cond_dim is given in the model config, and local conditions are not implemented"
            ));
        }
        let namings = [("diffusion_policy", Naming::DiffusionPolicy), ("lerobot", Naming::LeRobot)];
        let config = Self {
            input_dim: f.integer("input_dim", 2, 1..=MAX_CHANNELS)?,
            global_cond_dim: f.integer_or_null("global_cond_dim", None, 1..=MAX_CHANNELS)?,
            diffusion_step_embed_dim: f.integer("diffusion_step_embed_dim", 256, 4..=MAX_CHANNELS)?,
            down_dims: integers(&mut f, "down_dims", &[256, 512, 1024], 1..=MAX_CHANNELS)?,
            kernel_size: f.integer("kernel_size", 3, 1..=255)?,
            n_groups: f.integer("n_groups", 8, 1..=MAX_CHANNELS)?,
            cond_predict_scale: f.boolean("cond_predict_scale", false)?,
            horizon: f.integer_or_null("horizon", None, 1..=MAX_SIZE)?,
            naming: f.word("naming", Naming::DiffusionPolicy, &namings)?,
        };
        f.finish(
            "input_dim, global_cond_dim, diffusion_step_embed_dim, down_dims, kernel_size, n_groups, \
             cond_predict_scale, horizon, naming",
        )?;
        ensure!(!config.down_dims.is_empty(), Config, "down_dims is empty, expected at least one level");
        ensure!(config.kernel_size % 2 == 1, Config, "kernel_size is {}, expected an odd number", config.kernel_size);
        Ok(config)
    }
}

impl Architecture for ConditionalUnet1dConfig {
    fn describe(&self) -> Description {
        Description {
            class_name: CLASS,
            channels: self.input_dim,
            sample_size: self.horizon.map(|n| [1, n]),
            multiple: [1, 1 << (self.down_dims.len().clamp(1, MAX_LEVELS) - 1)],
            classes: None,
        }
    }

    fn build(&self, [height, width]: [usize; 2]) -> Result<Graph> {
        ensure!(height == 1, Config, "a {CLASS} of {height} x {width} samples, expected a height of 1");
        let mut g = GraphBuilder::new();
        let mut x = g.input_as(Role::Sample, SAMPLE, &[self.input_dim, 1, width])?;
        let t = g.input_as(Role::Timestep, TIMESTEP, &[1])?;
        let dim = self.diffusion_step_embed_dim;
        let e = Op::SinusoidalEmbedding { dim, flip_sin_to_cos: false, freq_shift: 1.0, max_period: 10_000.0 };
        let e = g.push(e, &[t])?;
        let e = g.linear("diffusion_step_encoder.1", e, 4 * dim, true)?;
        let e = g.activation(e, Activation::Mish)?;
        let mut e = g.linear("diffusion_step_encoder.3", e, dim, true)?;
        if let Some(n) = self.global_cond_dim {
            let condition = g.input_as(Role::Vector, GLOBAL_COND, &[n])?;
            e = g.concat(&[e, condition])?;
        }
        let embedding = g.activation(e, Activation::Mish)?;
        let mut l = Layers { g, c: self, embedding };
        let (dims, levels) = (&self.down_dims, self.down_dims.len());
        let (finest, coarsest) = (dims[0], dims[levels - 1]);
        let resample = if self.naming == Naming::LeRobot { "" } else { ".conv" };
        let mut kept = Vec::new();
        for (level, &out) in dims.iter().enumerate() {
            let name = format!("down_modules.{level}");
            x = l.res(&format!("{name}.0"), x, out)?;
            x = l.res(&format!("{name}.1"), x, out)?;
            kept.push(x);
            if level + 1 < levels {
                x = l.g.conv1d(&format!("{name}.2{resample}"), x, out, 3, 2, 1)?;
            }
        }
        for i in 0..2 {
            x = l.res(&format!("mid_modules.{i}"), x, coarsest)?;
        }
        for (i, level) in (1..levels).rev().enumerate() {
            let (name, out) = (format!("up_modules.{i}"), dims[level - 1]);
            let both: Vec<ValueId> = [x].into_iter().chain(kept.pop()).collect();
            x = l.g.concat(&both)?;
            x = l.res(&format!("{name}.0"), x, out)?;
            x = l.res(&format!("{name}.1"), x, out)?;
            x = l.g.conv_transpose1d(&format!("{name}.2{resample}"), x, out, 4, 2, 1)?;
        }
        ensure!(
            finest.is_multiple_of(LAST_GROUPS),
            Config,
            "down_dims begins with {finest} in the model config, expected a multiple of {LAST_GROUPS}, the groups of the last norm"
        );
        x = l.block("final_conv.0", x, finest, LAST_GROUPS)?;
        let y = l.g.conv1d("final_conv.1", x, self.input_dim, 1, 1, 0)?;
        l.g.output(SAMPLE, y)?;
        l.g.finish()
    }
}

struct Layers<'a> {
    g: GraphBuilder,
    c: &'a ConditionalUnet1dConfig,
    /// Activated.
    embedding: ValueId,
}

impl Layers<'_> {
    /// Convolution, norm, activation.
    fn block(&mut self, name: &str, x: ValueId, out: usize, groups: usize) -> Result<ValueId> {
        let k = self.c.kernel_size;
        let h = self.g.conv1d(&format!("{name}.block.0"), x, out, k, 1, k / 2)?;
        let h = self.g.group_norm(&format!("{name}.block.1"), h, groups, EPS)?;
        self.g.activation(h, Activation::Mish)
    }

    fn res(&mut self, name: &str, x: ValueId, out: usize) -> Result<ValueId> {
        self.res_inner(name, x, out).map_err(|e| e.context(name))
    }

    fn res_inner(&mut self, name: &str, x: ValueId, out: usize) -> Result<ValueId> {
        let part = |i: usize| -> String {
            match self.c.naming {
                Naming::DiffusionPolicy => format!("{name}.blocks.{i}"),
                Naming::LeRobot => format!("{name}.conv{}", i + 1),
            }
        };
        let [first, second] = [part(0), part(1)];
        let groups = self.c.n_groups;
        let mut h = self.block(&first, x, out, groups)?;
        let encoder = format!("{name}.cond_encoder.1");
        if self.c.cond_predict_scale {
            let e = self.g.linear(&encoder, self.embedding, 2 * out, true)?;
            let (scale, shift) = (self.g.slice_channels(e, 0, out)?, self.g.slice_channels(e, out, out)?);
            h = self.g.mul(h, scale)?;
            h = self.g.add(h, shift)?;
        } else {
            let e = self.g.linear(&encoder, self.embedding, out, true)?;
            h = self.g.add(h, e)?;
        }
        let h = self.block(&second, h, out, groups)?;
        let shortcut = if self.g.dims(x)?.channels() == out {
            x
        } else {
            self.g.conv1d(&format!("{name}.residual_conv"), x, out, 1, 1, 0)?
        };
        self.g.add(h, shortcut)
    }
}
