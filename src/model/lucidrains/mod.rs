//! The `Unet` of denoising-diffusion-pytorch (Phil Wang), version 2.
//!
//! Inputs: `sample` `[channels, H, W]`, `timestep` `[1]`. Output: `sample` `[out_dim, H, W]`. Parameters bear the names
//! of the network's state dict, without what its trainer and its EMA put before them. Self-conditioning and the
//! networks before version 2 are refused.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

mod first;
mod karras;
mod one_dim;

pub use first::AnnotatedUNetConfig;
pub(super) use first::CLASS as ANNOTATED;
pub(super) use karras::CLASS as KARRAS;
pub use karras::KarrasUnetConfig;
pub(super) use one_dim::CLASS as ONE_DIM;
pub use one_dim::Unet1dConfig;

use super::family::{Architecture, Description, MAX_CHANNELS, MAX_LEVELS, MAX_SIZE, integers, skip};
use super::fields::{Fields, sample_size};
use super::{SAMPLE, TIMESTEP, take_class};
use crate::error::{Result, ensure};
use crate::graph::{Activation, ChannelNorm, Graph, GraphBuilder, NormKind, Op, Padding, Role, ValueId};

/// The value of `_class_name`.
pub(super) const CLASS: &str = "denoising_diffusion_pytorch.Unet";
/// Learned keys and values of each attention.
const MEMORY: usize = 4;

/// The arguments of the network's constructor, with its defaults, and `sample_size`.
#[derive(Clone, Debug, PartialEq)]
pub struct UnetConfig {
    /// The usual height and width, if there is one.
    pub sample_size: Option<[usize; 2]>,
    /// Channels of the first level.
    pub dim: usize,
    /// Channels after the first convolution; `None` is `dim`.
    pub init_dim: Option<usize>,
    /// Channels of the output; `None` is `channels`, or with `learned_variance` twice that.
    pub out_dim: Option<usize>,
    /// A factor for each level, finest first.
    pub dim_mults: Vec<usize>,
    /// Channels of the input.
    pub channels: usize,
    /// Twice as many output channels.
    pub learned_variance: bool,
    /// Whether the time is embedded by stored frequencies (`learned_sinusoidal_cond` or `random_fourier_features`), of
    /// so many values.
    pub learned_sinusoidal_dim: Option<usize>,
    /// The lowest frequency's period over 2 pi, where they are not stored.
    pub sinusoidal_pos_emb_theta: f32,
    /// Channels of a head, for each level.
    pub attn_dim_head: Vec<usize>,
    /// Heads, for each level.
    pub attn_heads: Vec<usize>,
    /// Whether a level has softmax attention, and not a linear one.
    pub full_attn: Vec<bool>,
}

impl UnetConfig {
    /// Reads a configuration. Errors (kind `Config`) name the key, what is accepted and what stands there.
    pub fn from_json(json: &str) -> Result<Self> {
        let mut f = Fields::parse(json)?;
        take_class(&mut f, CLASS)?;
        skip(&mut f, &["dropout", "flash_attn"]);
        refuse_self_condition(&mut f)?;
        let dim_mults = integers(&mut f, "dim_mults", &[1, 2, 4, 8], 1..=1024)?;
        let levels = dim_mults.len();
        ensure!(levels > 0, Config, "dim_mults is empty, expected at least one level");
        let learned = f.boolean("learned_sinusoidal_cond", false)? | f.boolean("random_fourier_features", false)?;
        let learned_dim = f.integer("learned_sinusoidal_dim", 16, 2..=MAX_CHANNELS)?;
        let of_levels = |f: &mut Fields, key: &str, default: usize| -> Result<Vec<usize>> {
            let list = integers(f, key, &[default], 1..=MAX_CHANNELS)?;
            match list.as_slice() {
                &[one] => Ok(alloc::vec![one; levels]),
                all => {
                    ensure!(all.len() == levels, Config, "{key} has {} entries, expected 1 or {levels}", all.len());
                    Ok(list)
                }
            }
        };
        let (attn_dim_head, attn_heads) =
            (of_levels(&mut f, "attn_dim_head", 32)?, of_levels(&mut f, "attn_heads", 4)?);
        // Nothing, and likewise false, is the innermost level alone.
        let usual: Vec<bool> = (0..levels).map(|i| i + 1 == levels).collect();
        let expected = format!("true, false, null or a list of {levels}");
        let full_attn = f.with("full_attn", usual.clone(), expected, |v| match (v.as_bool(), v.as_array()) {
            (Some(true), _) => Some(alloc::vec![true; levels]),
            (Some(false), _) => Some(usual.clone()),
            (None, Some(list)) if list.len() == levels => list.iter().map(|v| v.as_bool()).collect(),
            _ => v.is_null().then(|| usual.clone()),
        })?;
        let config = Self {
            sample_size: sample_size(&mut f, MAX_SIZE)?,
            dim: f.integer("dim", 64, 4..=MAX_CHANNELS)?,
            init_dim: f.integer_or_null("init_dim", None, 1..=MAX_CHANNELS)?,
            out_dim: f.integer_or_null("out_dim", None, 1..=MAX_CHANNELS)?,
            dim_mults,
            channels: f.integer("channels", 3, 1..=MAX_CHANNELS)?,
            learned_variance: f.boolean("learned_variance", false)?,
            learned_sinusoidal_dim: learned.then_some(learned_dim),
            sinusoidal_pos_emb_theta: f.number("sinusoidal_pos_emb_theta", 10_000.0, 1.0..=1e12)? as f32,
            attn_dim_head,
            attn_heads,
            full_attn,
        };
        f.finish(
            "sample_size, dim, init_dim, out_dim, dim_mults, channels, learned_variance, learned_sinusoidal_cond, \
             random_fourier_features, learned_sinusoidal_dim, sinusoidal_pos_emb_theta, attn_dim_head, attn_heads, full_attn",
        )?;
        Ok(config)
    }
}

/// The embedding of the time, activated: the network itself only ever activates it. `learned` values of stored
/// frequencies, or waves of fixed ones.
fn embed(g: &mut GraphBuilder, t: ValueId, dim: usize, learned: Option<usize>, theta: f32) -> Result<ValueId> {
    let e = match learned {
        None => {
            g.push(Op::SinusoidalEmbedding { dim, flip_sin_to_cos: false, freq_shift: 1.0, max_period: theta }, &[t])?
        }
        Some(n) => {
            let weight = g.param("time_mlp.0.weights", &[n / 2])?;
            let waves = g.push(Op::FourierEmbedding { weight, log: false, flip_sin_to_cos: false }, &[t])?;
            g.concat(&[t, waves])?
        }
    };
    let e = g.linear("time_mlp.1", e, 4 * dim, true)?;
    let e = g.activation(e, Activation::Gelu)?;
    let e = g.linear("time_mlp.3", e, 4 * dim, true)?;
    g.activation(e, Activation::Silu)
}

/// Takes `self_condition`, which is false.
fn refuse_self_condition(f: &mut Fields) -> Result<()> {
    let self_condition = f.boolean("self_condition", false)?;
    ensure!(
        !self_condition,
        Unsupported,
        "self_condition is true: a network that sees its own last prediction is not read"
    );
    Ok(())
}

impl Architecture for UnetConfig {
    fn describe(&self) -> Description {
        Description {
            class_name: CLASS,
            channels: self.channels,
            sample_size: self.sample_size,
            multiple: [1 << (self.dim_mults.len().clamp(1, MAX_LEVELS) - 1); 2],
            classes: None,
        }
    }

    fn build(&self, [height, width]: [usize; 2]) -> Result<Graph> {
        let mut g = GraphBuilder::new();
        let sample = g.input_as(Role::Sample, SAMPLE, &[self.channels, height, width])?;
        let t = g.input_as(Role::Timestep, TIMESTEP, &[1])?;
        let embedding = embed(&mut g, t, self.dim, self.learned_sinusoidal_dim, self.sinusoidal_pos_emb_theta)?;
        let mut l = Layers { g, c: self, embedding };
        let levels = self.dim_mults.len();
        let first = self.init_dim.unwrap_or(self.dim);
        let widths: Vec<usize> = [first].into_iter().chain(self.dim_mults.iter().map(|m| m * self.dim)).collect();
        let mut x = l.g.conv2d("init_conv", sample, first, 7, 1, Padding::all(3))?;
        let start = x;
        let mut kept = Vec::new();
        for (level, pair) in widths.windows(2).enumerate() {
            let (name, &[inner, outer]) = (format!("downs.{level}"), pair) else { continue };
            x = l.res(&format!("{name}.0"), x, inner)?;
            kept.push(x);
            x = l.res(&format!("{name}.1"), x, inner)?;
            x = l.attention(&format!("{name}.2"), x, level, self.full_attn.get(level) == Some(&true))?;
            kept.push(x);
            x = if level + 1 < levels {
                let h = l.g.push(Op::SpaceToDepth { factor: [2, 2], blocks_first: false }, &[x])?;
                l.g.conv2d(&format!("{name}.3.1"), h, outer, 1, 1, Padding::all(0))?
            } else {
                l.conv3(&format!("{name}.3"), x, outer)?
            };
        }
        let coarsest = widths.last().copied().unwrap_or(first);
        x = l.res("mid_block1", x, coarsest)?;
        x = l.attention("mid_attn", x, levels - 1, true)?;
        x = l.res("mid_block2", x, coarsest)?;
        for (i, pair) in widths.windows(2).rev().enumerate() {
            let (name, &[inner, outer]) = (format!("ups.{i}"), pair) else { continue };
            let level = levels - 1 - i;
            for layer in 0..2 {
                let both: Vec<ValueId> = [x].into_iter().chain(kept.pop()).collect();
                x = l.g.concat(&both)?;
                x = l.res(&format!("{name}.{layer}"), x, outer)?;
            }
            x = l.attention(&format!("{name}.2"), x, level, self.full_attn.get(level) == Some(&true))?;
            x = if level > 0 {
                let up = l.g.push(Op::UpsampleNearest { factor: 2 }, &[x])?;
                l.conv3(&format!("{name}.3.1"), up, inner)?
            } else {
                l.conv3(&format!("{name}.3"), x, inner)?
            };
        }
        x = l.g.concat(&[x, start])?;
        x = l.res("final_res_block", x, first)?;
        let out = self.out_dim.unwrap_or(self.channels * if self.learned_variance { 2 } else { 1 });
        let y = l.g.conv2d("final_conv", x, out, 1, 1, Padding::all(0))?;
        l.g.output(SAMPLE, y)?;
        l.g.finish()
    }
}

struct Layers<'a> {
    g: GraphBuilder,
    c: &'a UnetConfig,
    /// Activated.
    embedding: ValueId,
}

impl Layers<'_> {
    fn conv3(&mut self, name: &str, x: ValueId, out: usize) -> Result<ValueId> {
        self.g.conv2d(name, x, out, 3, 1, Padding::all(1))
    }

    fn norm(&mut self, name: &str, x: ValueId) -> Result<ValueId> {
        let c = self.g.dims(x)?.channels();
        let weight = Some(self.g.param(&format!("{name}.g"), &[1, c, 1, 1])?);
        self.g
            .push(Op::ChannelNorm(ChannelNorm { kind: NormKind::L2, groups: 1, eps: 1e-12, weight, bias: None }), &[x])
    }

    fn res(&mut self, name: &str, x: ValueId, out: usize) -> Result<ValueId> {
        self.res_inner(name, x, out).map_err(|e| e.context(name))
    }

    fn res_inner(&mut self, name: &str, x: ValueId, out: usize) -> Result<ValueId> {
        let of = |part: &str| -> String { format!("{name}.{part}") };
        let channels = self.g.dims(x)?.channels();
        let e = self.g.linear(&of("mlp.1"), self.embedding, 2 * out, true)?;
        let (scale, shift) = (self.g.slice_channels(e, 0, out)?, self.g.slice_channels(e, out, out)?);
        let scale = self.g.affine(scale, 1.0, 1.0)?;
        let h = self.conv3(&of("block1.proj"), x, out)?;
        let h = self.norm(&of("block1.norm"), h)?;
        let h = self.g.mul(h, scale)?;
        let h = self.g.add(h, shift)?;
        let h = self.g.activation(h, Activation::Silu)?;
        let h = self.conv3(&of("block2.proj"), h, out)?;
        let h = self.norm(&of("block2.norm"), h)?;
        let h = self.g.activation(h, Activation::Silu)?;
        let shortcut =
            if channels == out { x } else { self.g.conv2d(&of("res_conv"), x, out, 1, 1, Padding::all(0))? };
        self.g.add(h, shortcut)
    }

    /// Attention, of either kind, to the pixels and to some learned keys and values.
    fn attention(&mut self, name: &str, x: ValueId, level: usize, full: bool) -> Result<ValueId> {
        self.attention_inner(name, x, level, full).map_err(|e| e.context(name))
    }

    fn attention_inner(&mut self, name: &str, x: ValueId, level: usize, full: bool) -> Result<ValueId> {
        let at = |list: &[usize]| list.get(level).copied().unwrap_or(1);
        let (heads, head) = (at(&self.c.attn_heads), at(&self.c.attn_dim_head));
        let (c, inner) = (self.g.dims(x)?.channels(), heads * head);
        let h = self.norm(&format!("{name}.norm"), x)?;
        let weight = self.g.param(&format!("{name}.to_qkv.weight"), &[3 * inner, c, 1, 1])?;
        let qkv = self.g.push(Op::Linear(crate::graph::Kernel { weight, bias: None }), &[h])?;
        let q = self.g.slice_channels(qkv, 0, inner)?;
        let memory_name = format!("{name}.mem_kv");
        let memory = if full {
            // [head][token][channel] to [head][channel][token].
            let m = self.g.parameter(&memory_name, &[2, heads, MEMORY, head], &[2 * heads, MEMORY, head])?;
            self.g.push(Op::SpaceToDepth { factor: [1, head], blocks_first: false }, &[m])?
        } else {
            self.g.parameter(&memory_name, &[2, heads, head, MEMORY], &[2 * inner, MEMORY])?
        };
        let mut args = alloc::vec![q];
        for i in 0..2 {
            let learned = self.g.slice_channels(memory, i * inner, inner)?;
            let own = self.g.slice_channels(qkv, (i + 1) * inner, inner)?;
            args.push(self.g.push(Op::ConcatPositions, &[learned, own])?);
        }
        let h = if full {
            let h = self.g.push(Op::Attention { heads }, &args)?;
            self.g.conv2d(&format!("{name}.to_out"), h, c, 1, 1, Padding::all(0))?
        } else {
            let h = self.g.push(Op::LinearAttention { heads }, &args)?;
            let h = self.g.affine(h, 1.0 / libm::sqrt(head as f64) as f32, 0.0)?;
            let h = self.g.conv2d(&format!("{name}.to_out.0"), h, c, 1, 1, Padding::all(0))?;
            self.norm(&format!("{name}.to_out.1"), h)?
        };
        self.g.add(h, x)
    }
}
