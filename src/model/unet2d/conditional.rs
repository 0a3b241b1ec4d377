//! diffusers' `UNet2DConditionModel`: the network of Stable Diffusion 1, 2 and XL.
//!
//! Inputs: `sample` `[C, H, W]` (latents), `timestep` `[1]`, in class models `class_labels`, and [`TEXT`]
//! `[cross_attention_dim, L]`, the tokens of a text encoder, which the caller computes and gives as
//! `[L, cross_attention_dim]`; with `addition_embed_type` `text_time` also [`TEXT_EMBEDS`], the pooled text, and
//! [`TIME_IDS`], numbers such as the sizes of the picture. Output: `sample`. Parameters bear the names of diffusers'
//! state dict.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::config::{BlockType, TimeEmbedding, TimeScaleShift, UNet2DConfig};
use super::layers::{Embedding, Layers, Resnet};
use super::{SAMPLE, embeddings};
use crate::error::{Result, ensure, err};
use crate::graph::{Activation, Graph, GraphBuilder, Op, Role, ValueId};
use crate::model::family::{Architecture, Description, MAX_CHANNELS, MAX_LEVELS, integers, skip};
use crate::model::fields::{Fields, one_of, word};
use crate::model::take_class;

/// The value of `_class_name`.
pub(in crate::model) const CLASS: &str = "UNet2DConditionModel";
/// The name of the input for the tokens of a text.
pub const TEXT: &str = "encoder_hidden_states";
/// The name of the input for a text as one vector, `[D]`.
pub const TEXT_EMBEDS: &str = "text_embeds";
/// The name of the input for what is known of the picture, `[N]`: of Stable Diffusion XL its original height and width,
/// the crop's top and left, the height and width aimed at.
pub const TIME_IDS: &str = "time_ids";
/// Of the norm before a transformer, fixed in diffusers.
const TRANSFORMER_EPS: f32 = 1e-6;
/// Of its layer norms.
const LAYER_EPS: f32 = 1e-5;

/// The values of Stable Diffusion XL's pooled text, and its numbers: its refiner's and of all others.
const POOLED: usize = 1280;
const REFINER_IDS: usize = 5;
const IDS: usize = 6;

/// What `addition_embed_type` `text_time` embeds beside the timestep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextTime {
    /// Values of the text's vector.
    pub text: usize,
    /// How many numbers.
    pub ids: usize,
    /// Values of each number's embedding (`addition_time_embed_dim`).
    pub dim: usize,
}

/// The configuration, under diffusers' names and with its defaults, and two keys of this library's: `text_length`, the
/// tokens of a text (77), and `time_ids`, how many numbers an `addition_embed_type` of `text_time` has (6; 5 where that
/// leaves 1280 values for the text, as in the refiner).
#[derive(Clone, Debug, PartialEq)]
pub struct UNet2DConditionConfig {
    /// What it has in common with a `UNet2DModel`.
    pub base: UNet2DConfig,
    /// Which blocks down have cross attention.
    pub down_cross: Vec<bool>,
    /// Which blocks up have it.
    pub up_cross: Vec<bool>,
    /// Values of a token.
    pub cross_attention_dim: usize,
    /// Heads of each block (`num_attention_heads`, or what diffusers calls `attention_head_dim`).
    pub heads: Vec<usize>,
    /// Transformer layers of each block with cross attention.
    pub transformer_layers_per_block: Vec<usize>,
    /// Whether a transformer's projections are linear maps and not 1x1 convolutions: their weights have other
    /// dimensions.
    pub use_linear_projection: bool,
    /// Tokens of a text.
    pub text_length: usize,
    /// What else is embedded, if anything.
    pub text_time: Option<TextTime>,
}

/// What is refused unless it has this value, its default.
const FIXED: [(&str, &str); 12] = [
    ("only_cross_attention", "false"),
    ("dual_cross_attention", "false"),
    ("encoder_hid_dim", "null"),
    ("encoder_hid_dim_type", "null"),
    ("resnet_skip_time_act", "false"),
    ("time_embedding_act_fn", "null"),
    ("timestep_post_act", "null"),
    ("time_cond_proj_dim", "null"),
    ("attention_type", "\"default\""),
    ("class_embeddings_concat", "false"),
    ("cross_attention_norm", "null"),
    ("reverse_transformer_layers_per_block", "null"),
];

impl UNet2DConditionConfig {
    /// Reads the text of a `config.json`. Errors (kind `Config`) name the key, what is accepted and what stands there.
    pub fn from_json(json: &str) -> Result<Self> {
        let mut f = Fields::parse(json)?;
        take_class(&mut f, CLASS)?;
        for (key, only) in FIXED {
            f.with(key, (), only, |v| (v.brief() == only).then_some(()))?;
        }
        skip(&mut f, &["upcast_attention", "addition_embed_type_num_heads", "mid_block_only_cross_attention"]);
        let text_time = text_time(&mut f)?;
        f.word("mid_block_type", (), &[("UNetMidBlock2DCrossAttn", ())])?;
        let cross = |f: &mut Fields, key: &str, default: [bool; 4], words: [(&str, bool); 2]| {
            f.list(key, default.into(), MAX_LEVELS, one_of(&words), |v| word(v.as_str()?, &words))
        };
        let down_cross = cross(
            &mut f,
            "down_block_types",
            [true, true, true, false],
            [("CrossAttnDownBlock2D", true), ("DownBlock2D", false)],
        )?;
        let up_cross = cross(
            &mut f,
            "up_block_types",
            [false, true, true, true],
            [("UpBlock2D", false), ("CrossAttnUpBlock2D", true)],
        )?;
        let widths = integers(&mut f, "block_out_channels", &[320, 640, 1280, 1280], 1..=MAX_CHANNELS)?;
        let levels = widths.len();
        ensure!(
            (1..=MAX_LEVELS).contains(&levels) && down_cross.len() == levels && up_cross.len() == levels,
            Config,
            "block_out_channels, down_block_types and up_block_types have {levels}, {} and {} entries, expected as many",
            down_cross.len(),
            up_cross.len()
        );
        let of_levels = |f: &mut Fields, key: &str, default: &[usize]| -> Result<Vec<usize>> {
            let list = integers(f, key, default, 1..=MAX_CHANNELS)?;
            match list.as_slice() {
                &[one] => Ok(vec![one; levels]),
                all => {
                    ensure!(all.len() == levels, Config, "{key} has {} entries, expected 1 or {levels}", all.len());
                    Ok(list)
                }
            }
        };
        let head_dim = of_levels(&mut f, "attention_head_dim", &[8])?;
        let heads = match f.take("num_attention_heads").filter(|v| !v.is_null()) {
            None => head_dim,
            Some(v) => {
                let range = 1..=MAX_CHANNELS;
                let read = match v.as_array() {
                    Some(all) => all.iter().map(|v| crate::model::fields::integer(v, &range)).collect(),
                    None => crate::model::fields::integer(&v, &range).map(|n| vec![n; levels]),
                };
                read.filter(|h: &Vec<usize>| h.len() == levels).ok_or_else(|| {
                    crate::model::fields::wrong("num_attention_heads", &v, "a number or one for each block")
                })?
            }
        };
        let (cross_attention_dim, text_length) =
            (f.integer("cross_attention_dim", 1280, 1..=MAX_CHANNELS)?, f.integer("text_length", 77, 1..=1 << 16)?);
        let transformer_layers_per_block = of_levels(&mut f, "transformer_layers_per_block", &[1])?;
        let use_linear_projection = f.boolean("use_linear_projection", false)?;
        f.with("conv_in_kernel", (), "3", |v| (v.as_u64() == Some(3)).then_some(()))?;
        f.with("conv_out_kernel", (), "3", |v| (v.as_u64() == Some(3)).then_some(()))?;
        f.with("resnet_out_scale_factor", (), "1.0", |v| (v.as_f64() == Some(1.0)).then_some(()))?;
        let (in_channels, out_channels) =
            (f.integer("in_channels", 4, 1..=MAX_CHANNELS)?, f.integer("out_channels", 4, 1..=MAX_CHANNELS)?);
        let flip_sin_to_cos = f.boolean("flip_sin_to_cos", true)?;
        // What is left is a UNet2DModel's, whose reader refuses the rest.
        let base = UNet2DConfig::rest(f)?;
        ensure!(
            base.norm_num_groups.is_some()
                && base.resnet_time_scale_shift == TimeScaleShift::Default
                && base.time_embedding_type == TimeEmbedding::Positional,
            Config,
            "norm_num_groups is null, resnet_time_scale_shift \"scale_shift\" or time_embedding_type not \"positional\" in the model config, \
             expected a number, \"default\" and \"positional\""
        );
        let base = UNet2DConfig {
            in_channels,
            out_channels,
            flip_sin_to_cos,
            down_block_types: vec![BlockType::Plain; levels],
            up_block_types: vec![BlockType::Plain; levels],
            block_out_channels: widths,
            ..base
        };
        Ok(Self {
            base,
            down_cross,
            up_cross,
            cross_attention_dim,
            heads,
            transformer_layers_per_block,
            use_linear_projection,
            text_length,
            text_time,
        })
    }
}

/// Takes `addition_embed_type` and the keys of `text_time`.
fn text_time(f: &mut Fields) -> Result<Option<TextTime>> {
    let added = f.with("addition_embed_type", false, "\"text_time\" or null", |v| match v.as_str() {
        Some(text) => (text == "text_time").then_some(true),
        None => v.is_null().then_some(false),
    })?;
    if !added {
        // They mean nothing without it.
        skip(f, &["addition_time_embed_dim", "projection_class_embeddings_input_dim", "time_ids"]);
        return Ok(None);
    }
    let mut needed = |key: &str| {
        let n = f.integer_or_null(key, None, 2..=MAX_CHANNELS)?;
        n.ok_or_else(|| {
            err!(Config, "{key} is missing from the model config, and addition_embed_type is \"text_time\"")
        })
    };
    let (dim, all) = (needed("addition_time_embed_dim")?, needed("projection_class_embeddings_input_dim")?);
    let refiner = all.checked_sub(REFINER_IDS * dim) == Some(POOLED);
    let ids = f.integer("time_ids", if refiner { REFINER_IDS } else { IDS }, 1..=64)?;
    let text = all.checked_sub(ids * dim).filter(|n| *n > 0);
    let text = text.ok_or_else(|| {
        err!(
            Config,
            "projection_class_embeddings_input_dim is {all} in the model config, expected more than {ids} numbers of {dim} values"
        )
    })?;
    Ok(Some(TextTime { text, ids, dim }))
}

impl TextTime {
    /// What is added to the embedding of the timestep.
    fn embed(self, g: &mut GraphBuilder, c: &UNet2DConfig) -> Result<ValueId> {
        let text = g.input_as(Role::Vector, TEXT_EMBEDS, &[self.text])?;
        let ids = g.input_as(Role::Vector, TIME_IDS, &[self.ids])?;
        let mut parts = vec![text];
        for i in 0..self.ids {
            let id = g.slice_channels(ids, i, 1)?;
            let (dim, flip_sin_to_cos, freq_shift) = (self.dim, c.flip_sin_to_cos, c.freq_shift);
            let waves = Op::SinusoidalEmbedding { dim, flip_sin_to_cos, freq_shift, max_period: 10_000.0 };
            parts.push(g.push(waves, &[id])?);
        }
        let all = g.concat(&parts)?;
        embeddings::mlp(g, "add_embedding", all, c.time_embed_dim())
    }
}

impl Architecture for UNet2DConditionConfig {
    fn describe(&self) -> Description {
        Description {
            class_name: CLASS,
            channels: self.base.in_channels,
            sample_size: self.base.sample_size,
            multiple: [1 << (self.heads.len().clamp(1, MAX_LEVELS) - 1); 2],
            classes: self.base.class_embed_type.map_or(self.base.num_class_embeds, |_| None),
        }
    }

    fn build(&self, [height, width]: [usize; 2]) -> Result<Graph> {
        let c = &self.base;
        let levels = c.block_out_channels.len();
        let groups = c.norm_num_groups.unwrap_or(32);
        let mut g = GraphBuilder::new();
        let sample = g.input_as(Role::Sample, SAMPLE, &[c.in_channels, height, width])?;
        let (_, mut embedding) = embeddings::embed(&mut g, c)?;
        if let Some(added) = self.text_time {
            let added = added.embed(&mut g, c)?;
            embedding = g.add(embedding, added)?;
        }
        let text = g.input_as(Role::Tokens, TEXT, &[self.cross_attention_dim, self.text_length])?;
        let raw = embedding;
        let activated = g.activation(raw, Activation::Silu)?;
        let embedding = Some(Embedding { activated, raw });
        let mut l = Conditional { l: Layers { g, c, embedding }, c: self, text };
        let at = |list: &[usize], level: usize| list.get(level).copied().unwrap_or(1);

        let image = if c.center_input_sample { l.l.g.affine(sample, 2.0, -1.0)? } else { sample };
        let mut x = l.l.conv3("conv_in", image, at(&c.block_out_channels, 0))?;
        let mut kept = vec![x];
        for level in 0..levels {
            let (name, out) = (format!("down_blocks.{level}"), at(&c.block_out_channels, level));
            for layer in 0..c.layers_per_block {
                x = l.l.resnet(&format!("{name}.resnets.{layer}"), x, &Resnet::new(out, groups))?;
                if self.down_cross.get(level) == Some(&true) {
                    x = l.transformer(&format!("{name}.attentions.{layer}"), x, level)?;
                }
                kept.push(x);
            }
            if level + 1 < levels {
                x = l.l.conv_down(&format!("{name}.downsamplers.0.conv"), x)?;
                kept.push(x);
            }
        }
        let coarsest = at(&c.block_out_channels, levels - 1);
        let middle = Resnet { divisor: c.mid_block_scale_factor, ..Resnet::new(coarsest, groups) };
        x = l.l.resnet("mid_block.resnets.0", x, &middle)?;
        x = l.transformer("mid_block.attentions.0", x, levels - 1)?;
        x = l.l.resnet("mid_block.resnets.1", x, &middle)?;
        for (i, level) in (0..levels).rev().enumerate() {
            let (name, out) = (format!("up_blocks.{i}"), at(&c.block_out_channels, level));
            for layer in 0..=c.layers_per_block {
                let skip = kept.pop().ok_or_else(|| err!(Config, "{name}: there is nothing left from the way down"))?;
                x = l.l.g.concat(&[x, skip]).map_err(|e| e.context(&name))?;
                x = l.l.resnet(&format!("{name}.resnets.{layer}"), x, &Resnet::new(out, groups))?;
                if self.up_cross.get(i) == Some(&true) {
                    x = l.transformer(&format!("{name}.attentions.{layer}"), x, level)?;
                }
            }
            if level > 0 {
                x = l.l.conv_up(&format!("{name}.upsamplers.0.conv"), x)?;
            }
        }
        let h = l.l.g.group_norm("conv_norm_out", x, groups, c.norm_eps)?;
        let h = l.l.g.activation(h, c.act_fn)?;
        let y = l.l.conv3("conv_out", h, c.out_channels)?;
        l.l.g.output(SAMPLE, y)?;
        l.l.g.finish()
    }
}

struct Conditional<'a> {
    l: Layers<'a>,
    c: &'a UNet2DConditionConfig,
    text: ValueId,
}

impl Conditional<'_> {
    fn transformer(&mut self, name: &str, x: ValueId, level: usize) -> Result<ValueId> {
        self.transformer_inner(name, x, level).map_err(|e| e.context(name))
    }

    fn transformer_inner(&mut self, name: &str, x: ValueId, level: usize) -> Result<ValueId> {
        let channels = self.l.g.dims(x)?.channels();
        let heads = self.c.heads.get(level).copied().unwrap_or(1);
        ensure!(channels.is_multiple_of(heads), Config, "{channels} channels in {heads} heads, expected a divisor");
        let groups = self.l.c.norm_num_groups.unwrap_or(32);
        let h = self.l.g.group_norm(&format!("{name}.norm"), x, groups, TRANSFORMER_EPS)?;
        let mut h = self.projected(&format!("{name}.proj_in"), h, channels)?;
        for layer in 0..self.c.transformer_layers_per_block.get(level).copied().unwrap_or(1) {
            h = self.layer(&format!("{name}.transformer_blocks.{layer}"), h, heads)?;
        }
        let h = self.projected(&format!("{name}.proj_out"), h, channels)?;
        self.l.g.add(h, x)
    }

    fn projected(&mut self, name: &str, x: ValueId, out: usize) -> Result<ValueId> {
        if self.c.use_linear_projection { self.l.g.linear(name, x, out, true) } else { self.l.conv1(name, x, out) }
    }

    /// Attention to itself, to the text, and two maps with a gate between them.
    fn layer(&mut self, name: &str, x: ValueId, heads: usize) -> Result<ValueId> {
        let of = |part: &str| -> String { format!("{name}.{part}") };
        let h = self.l.g.layer_norm(&of("norm1"), x, LAYER_EPS)?;
        let h = self.attention(&of("attn1"), h, h, heads)?;
        let x = self.l.g.add(h, x)?;
        let h = self.l.g.layer_norm(&of("norm2"), x, LAYER_EPS)?;
        let h = self.attention(&of("attn2"), h, self.text, heads)?;
        let x = self.l.g.add(h, x)?;
        let g = &mut self.l.g;
        let inner = 4 * g.dims(x)?.channels();
        let h = g.layer_norm(&of("norm3"), x, LAYER_EPS)?;
        let both = g.linear(&of("ff.net.0.proj"), h, 2 * inner, true)?;
        let (h, gate) = (g.slice_channels(both, 0, inner)?, g.slice_channels(both, inner, inner)?);
        let gate = g.activation(gate, Activation::Gelu)?;
        let h = g.mul(h, gate)?;
        let h = g.linear(&of("ff.net.2"), h, inner / 4, true)?;
        g.add(h, x)
    }

    fn attention(&mut self, name: &str, x: ValueId, context: ValueId, heads: usize) -> Result<ValueId> {
        let g = &mut self.l.g;
        let channels = g.dims(x)?.channels();
        let mut qkv = Vec::new();
        for (part, of) in [("to_q", x), ("to_k", context), ("to_v", context)] {
            qkv.push(g.linear(&format!("{name}.{part}"), of, channels, false)?);
        }
        let h = g.push(Op::Attention { heads }, &qkv)?;
        g.linear(&format!("{name}.to_out.0"), h, channels, true)
    }
}
