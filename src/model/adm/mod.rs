//! The `UNetModel` of guided-diffusion (ADM, Dhariwal and Nichol 2021) and of improved-diffusion (Nichol and Dhariwal
//! 2021).
//!
//! [`AdmConfig`] reads the flags that their scripts take, which no checkpoint contains: they are written beside it.
//! Parameters bear the names of the checkpoint. Inputs: `sample` `[C, H, W]`, `timestep` `[1]`, and with `class_cond`
//! `class_labels` `[1]`. Output: `sample` `[C, H, W]`, with `learn_sigma` `[2 * C, H, W]`, the second half being the
//! interpolated log-variance of the scheduler's `learned_range`.
//!
//! With `large_size` and `small_size`, the flags of `sr_create_model`, it is the `SuperResModel`: it also has the input
//! [`LOW_RES`], an image that is smaller by the quotient of the two, enlarges it by linear interpolation and puts it
//! behind x along the channels.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::family::{self, Architecture, Description, MAX_CHANNELS, MAX_LEVELS, MAX_SIZE, integers};
use super::fields::Fields;
use super::{CLASS_LABELS, SAMPLE, TIMESTEP, take_class};
use crate::error::{Result, ensure, err};
use crate::graph::{Activation, Graph, GraphBuilder, Op, Padding, Role, ValueId};

/// The value of `_class_name`.
pub(super) const CLASS: &str = "GuidedDiffusionUNet";
/// The name of the input for the small image of a `SuperResModel`.
pub const LOW_RES: &str = "low_res";
/// Of every norm.
const GROUPS: usize = 32;
const EPS: f32 = 1e-5;

/// The flags of guided-diffusion's `create_model` and `sr_create_model`, with their defaults; those of training and of
/// the diffusion are not read.
#[derive(Clone, Debug, PartialEq)]
pub struct AdmConfig {
    /// Height and width, 64 by default; `large_size` of a `SuperResModel`.
    pub image_size: usize,
    /// Of a `SuperResModel`: how much smaller the image is that it enlarges (`large_size / small_size`).
    pub enlarges: Option<usize>,
    /// Channels of the input, 3.
    pub in_channels: usize,
    /// Channels of the first level, 128.
    pub num_channels: usize,
    /// Residual layers of each level on the way down, 2.
    pub num_res_blocks: usize,
    /// For each level, finest first, a factor of `num_channels`; by default what the scripts give the image size. In
    /// quarters: 2 is 0.5.
    pub channel_mult: Vec<usize>,
    /// The image sizes at which there is attention, `"16,8"`.
    pub attention_resolutions: Vec<usize>,
    /// Heads, 4, if `num_head_channels` is -1 (`None`).
    pub num_heads: usize,
    /// Heads on the way up; -1 (`None`) is `num_heads`.
    pub num_heads_upsample: Option<usize>,
    /// Channels of a head.
    pub num_head_channels: Option<usize>,
    /// Whether it takes a class, of `num_classes` (1000).
    pub class_cond: bool,
    /// The rows of its table of classes.
    pub num_classes: usize,
    /// Whether the embedding scales and shifts the second norm, true, or is added before it.
    pub use_scale_shift_norm: bool,
    /// Whether residual layers resample, and not convolutions.
    pub resblock_updown: bool,
    /// The order of channels of the attention's projection: q, k, v of all heads, or (false) of each head in turn.
    pub use_new_attention_order: bool,
    /// Twice as many output channels.
    pub learn_sigma: bool,
}

/// The factors that the scripts give an image size, in quarters.
fn usual_factors(image_size: usize) -> &'static [usize] {
    match image_size {
        512 => &[2, 4, 4, 8, 8, 16, 16],
        256 => &[4, 4, 8, 8, 16, 16],
        128 => &[4, 4, 8, 12, 16],
        64 => &[4, 8, 12, 16],
        32 => &[4, 8, 8, 8],
        _ => &[],
    }
}

/// The same of `sr_create_model`.
fn usual_factors_of_super_resolution(large_size: usize) -> &'static [usize] {
    match large_size {
        256 | 512 => &[4, 4, 8, 8, 16, 16],
        64 => &[4, 8, 12, 16],
        _ => &[],
    }
}

/// Takes `large_size` and `small_size`, which go together: the first, and how often the second is contained in it.
fn super_resolution(f: &mut Fields) -> Result<Option<(usize, usize)>> {
    let mut size = |key: &str| f.integer_or_null(key, None, 1..=MAX_SIZE);
    match (size("large_size")?, size("small_size")?) {
        (None, None) => Ok(None),
        (Some(large), Some(small)) if large.is_multiple_of(small) => Ok(Some((large, large / small))),
        (large, small) => {
            let text = |n: Option<usize>| n.map_or("missing".into(), |n| format!("{n}"));
            Err(err!(
                Config,
                "large_size is {} and small_size {} in the model config, expected both and the first to be a multiple of the second",
                text(large),
                text(small)
            ))
        }
    }
}

/// The least common multiple of a power of two and a factor.
fn lcm(power: usize, factor: usize) -> usize {
    let common = 1 << power.trailing_zeros().min(factor.trailing_zeros());
    power / common * factor
}

/// A count, or -1 for none.
fn optional(f: &mut Fields, key: &str, most: usize) -> Result<Option<usize>> {
    f.with(key, None, format_args!("-1 or a whole number from 1 to {most}"), |v| match v.as_f64()? {
        -1.0 => Some(None),
        n if n >= 1.0 && n <= most as f64 && libm::floor(n) == n => Some(Some(n as usize)),
        _ => None,
    })
}

impl AdmConfig {
    /// Reads the flags as a JSON object. Errors (kind `Config`) name the key, what is accepted and what stands there.
    pub fn from_json(json: &str) -> Result<Self> {
        let mut f = Fields::parse(json)?;
        take_class(&mut f, CLASS)?;
        family::skip(
            &mut f,
            &[
                "dropout",
                "use_checkpoint",
                "use_fp16",
                "diffusion_steps",
                "noise_schedule",
                "timestep_respacing",
                "use_kl",
            ],
        );
        family::skip(&mut f, &["predict_xstart", "rescale_timesteps", "rescale_learned_sigmas", "sigma_small"]);
        let super_resolution = super_resolution(&mut f)?;
        let image_size = f.integer("image_size", 64, 1..=MAX_SIZE)?;
        let image_size = super_resolution.map_or(image_size, |(large, _)| large);
        let usual = if super_resolution.is_some() { usual_factors_of_super_resolution } else { usual_factors };
        let expected = format!("at most {MAX_LEVELS} multiples of 0.25");
        let factors = f.with("channel_mult", Vec::new(), expected, |v| {
            let quarter = |n: f64| (n > 0.0 && n <= 64.0 && n * 4.0 % 1.0 == 0.0).then_some((n * 4.0) as usize);
            let list: Vec<usize> = match (v.as_array(), v.as_str()) {
                (Some(list), _) => list.iter().map(|v| v.as_f64().and_then(quarter)).collect::<Option<_>>()?,
                (None, Some("")) => Vec::new(),
                (None, Some(text)) => {
                    text.split(',').map(|t| t.trim().parse().ok().and_then(quarter)).collect::<Option<_>>()?
                }
                _ => return None,
            };
            (list.len() <= MAX_LEVELS).then_some(list)
        })?;
        let config = Self {
            image_size,
            enlarges: super_resolution.map(|(_, factor)| factor),
            in_channels: f.integer("in_channels", 3, 1..=MAX_CHANNELS)?,
            num_channels: f.integer("num_channels", 128, 1..=MAX_CHANNELS)?,
            num_res_blocks: f.integer("num_res_blocks", 2, 1..=64)?,
            channel_mult: if factors.is_empty() { usual(image_size).to_vec() } else { factors },
            attention_resolutions: integers(&mut f, "attention_resolutions", &[16, 8], 1..=MAX_SIZE)?,
            num_heads: f.integer("num_heads", 4, 1..=MAX_CHANNELS)?,
            num_heads_upsample: optional(&mut f, "num_heads_upsample", MAX_CHANNELS)?,
            num_head_channels: optional(&mut f, "num_head_channels", MAX_CHANNELS)?,
            class_cond: f.boolean("class_cond", false)?,
            num_classes: f.integer("num_classes", 1000, 1..=1 << 24)?,
            use_scale_shift_norm: f.boolean("use_scale_shift_norm", true)?,
            resblock_updown: f.boolean("resblock_updown", false)?,
            use_new_attention_order: f.boolean("use_new_attention_order", false)?,
            learn_sigma: f.boolean("learn_sigma", false)?,
        };
        f.finish(
            "image_size, large_size, small_size, in_channels, num_channels, num_res_blocks, channel_mult, attention_resolutions, num_heads, \
             num_heads_upsample, num_head_channels, class_cond, num_classes, use_scale_shift_norm, resblock_updown, \
             use_new_attention_order, learn_sigma",
        )?;
        ensure!(
            !config.channel_mult.is_empty(),
            Config,
            "channel_mult is missing from the model config, and an image_size of {image_size} has no usual one"
        );
        Ok(config)
    }

    fn width(&self, level: usize) -> usize {
        self.num_channels * self.channel_mult.get(level).copied().unwrap_or(4) / 4
    }

    /// What the height and width are halved by on the way down.
    fn coarseness(&self) -> usize {
        1 << (self.channel_mult.len().clamp(1, MAX_LEVELS) - 1)
    }
}

/// `torch.nn.functional.interpolate(x, scale_factor=factor, mode="bilinear")`: each pixel repeated, and of these the
/// mean over `factor` pixels around each. The mirrored edge is the repeated one, as it is shorter than a pixel was.
fn enlarged(g: &mut GraphBuilder, x: ValueId, factor: usize) -> Result<ValueId> {
    if factor == 1 {
        return Ok(x);
    }
    let (half, weight) = (factor / 2, 1.0 / factor as f32);
    let mut taps = alloc::vec![weight; 2 * half + 1];
    if factor.is_multiple_of(2) {
        // The outermost are half within.
        for end in [0, 2 * half] {
            taps[end] = weight / 2.0;
        }
    }
    let x = g.push(Op::UpsampleNearest { factor }, &[x])?;
    let x = g.push(Op::ReflectPad(Padding::all(half)), &[x])?;
    g.push(Op::Fir { taps, up: 1, down: 1, pad: [0, 0] }, &[x])
}

impl Architecture for AdmConfig {
    fn describe(&self) -> Description {
        Description {
            class_name: CLASS,
            channels: self.in_channels,
            sample_size: Some([self.image_size; 2]),
            multiple: [lcm(self.coarseness(), self.enlarges.unwrap_or(1)); 2],
            classes: self.class_cond.then_some(self.num_classes),
        }
    }

    fn build(&self, [height, width]: [usize; 2]) -> Result<Graph> {
        let mut g = GraphBuilder::new();
        let sample = g.input_as(Role::Sample, SAMPLE, &[self.in_channels, height, width])?;
        let t = g.input_as(Role::Timestep, TIMESTEP, &[1])?;
        let (wide, dim) = (4 * self.num_channels, self.num_channels);
        let embedding = Op::SinusoidalEmbedding { dim, flip_sin_to_cos: true, freq_shift: 0.0, max_period: 10_000.0 };
        let e = g.push(embedding, &[t])?;
        let e = g.linear("time_embed.0", e, wide, true)?;
        let e = g.activation(e, Activation::Silu)?;
        let mut e = g.linear("time_embed.2", e, wide, true)?;
        if self.class_cond {
            let class = g.input_as(Role::Class, CLASS_LABELS, &[1])?;
            let row = g.embedding("label_emb.weight", class, self.num_classes, wide)?;
            e = g.add(e, row)?;
        }
        let embedding = g.activation(e, Activation::Silu)?;
        let mut seen = sample;
        if let Some(factor) = self.enlarges {
            let small = [self.in_channels, height / factor, width / factor];
            let small = g.input_as(Role::Image, LOW_RES, &small)?;
            let large = enlarged(&mut g, small, factor)?;
            seen = g.concat(&[sample, large])?;
        }
        let mut l = Layers { g, c: self, embedding };
        let levels = self.channel_mult.len();
        // Attention follows the number of halvings, whatever size the network is built for.
        let attends = |level: usize| {
            self.attention_resolutions.iter().any(|&r| self.image_size / r.max(1) == 1usize << level.min(63))
        };

        let mut x = l.g.conv2d("input_blocks.0.0", seen, self.width(0), 3, 1, Padding::all(1))?;
        let (mut kept, mut block) = (Vec::from([x]), 0);
        for level in 0..levels {
            for _ in 0..self.num_res_blocks {
                block += 1;
                let name = format!("input_blocks.{block}");
                x = l.res(&format!("{name}.0"), x, self.width(level), Scale::Same)?;
                if attends(level) {
                    x = l.attention(&format!("{name}.1"), x, self.num_heads)?;
                }
                kept.push(x);
            }
            if level + 1 < levels {
                block += 1;
                let name = format!("input_blocks.{block}.0");
                x = if self.resblock_updown {
                    l.res(&name, x, self.width(level), Scale::Down)?
                } else {
                    l.g.conv2d(&format!("{name}.op"), x, self.width(level), 3, 2, Padding::all(1))?
                };
                kept.push(x);
            }
        }
        x = l.res("middle_block.0", x, self.width(levels - 1), Scale::Same)?;
        x = l.attention("middle_block.1", x, self.num_heads)?;
        x = l.res("middle_block.2", x, self.width(levels - 1), Scale::Same)?;
        let mut block = 0;
        for level in (0..levels).rev() {
            for i in 0..=self.num_res_blocks {
                let name = format!("output_blocks.{block}");
                let skip: Vec<ValueId> = [x].into_iter().chain(kept.pop()).collect();
                x = l.g.concat(&skip).map_err(|e| e.context(&name))?;
                x = l.res(&format!("{name}.0"), x, self.width(level), Scale::Same)?;
                let mut next = 1;
                if attends(level) {
                    x = l.attention(&format!("{name}.1"), x, self.num_heads_upsample.unwrap_or(self.num_heads))?;
                    next = 2;
                }
                if level > 0 && i == self.num_res_blocks {
                    let name = format!("{name}.{next}");
                    x = if self.resblock_updown {
                        l.res(&name, x, self.width(level), Scale::Up)?
                    } else {
                        let up = l.g.push(Op::UpsampleNearest { factor: 2 }, &[x])?;
                        l.conv3(&format!("{name}.conv"), up, self.width(level))?
                    };
                }
                block += 1;
            }
        }
        let h = l.g.group_norm("out.0", x, GROUPS, EPS)?;
        let h = l.g.activation(h, Activation::Silu)?;
        let y = l.conv3("out.2", h, self.in_channels * if self.learn_sigma { 2 } else { 1 })?;
        l.g.output(SAMPLE, y)?;
        l.g.finish()
    }
}

/// What a residual layer does to the size.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scale {
    Same,
    Up,
    Down,
}

struct Layers<'a> {
    g: GraphBuilder,
    c: &'a AdmConfig,
    /// Activated.
    embedding: ValueId,
}

impl Layers<'_> {
    fn conv3(&mut self, name: &str, x: ValueId, out: usize) -> Result<ValueId> {
        self.g.conv2d(name, x, out, 3, 1, Padding::all(1))
    }

    fn res(&mut self, name: &str, x: ValueId, out: usize, scale: Scale) -> Result<ValueId> {
        self.res_inner(name, x, out, scale).map_err(|e| e.context(name))
    }

    fn res_inner(&mut self, name: &str, mut x: ValueId, out: usize, scale: Scale) -> Result<ValueId> {
        let of = |part: &str| -> String { format!("{name}.{part}") };
        let channels = self.g.dims(x)?.channels();
        let h = self.g.group_norm(&of("in_layers.0"), x, GROUPS, EPS)?;
        let mut h = self.g.activation(h, Activation::Silu)?;
        let resample = match scale {
            Scale::Same => None,
            Scale::Up => Some(Op::UpsampleNearest { factor: 2 }),
            Scale::Down => Some(Op::AveragePool { factor: 2 }),
        };
        if let Some(op) = resample {
            h = self.g.push(op.clone(), &[h])?;
            x = self.g.push(op, &[x])?;
        }
        let mut h = self.conv3(&of("in_layers.2"), h, out)?;
        if self.c.use_scale_shift_norm {
            let e = self.g.linear(&of("emb_layers.1"), self.embedding, 2 * out, true)?;
            let (scale, shift) = (self.g.slice_channels(e, 0, out)?, self.g.slice_channels(e, out, out)?);
            let scale = self.g.affine(scale, 1.0, 1.0)?;
            h = self.g.group_norm(&of("out_layers.0"), h, GROUPS, EPS)?;
            h = self.g.mul(h, scale)?;
            h = self.g.add(h, shift)?;
        } else {
            let e = self.g.linear(&of("emb_layers.1"), self.embedding, out, true)?;
            h = self.g.add(h, e)?;
            h = self.g.group_norm(&of("out_layers.0"), h, GROUPS, EPS)?;
        }
        let h = self.g.activation(h, Activation::Silu)?;
        let h = self.conv3(&of("out_layers.3"), h, out)?;
        if channels != out {
            x = self.g.conv2d(&of("skip_connection"), x, out, 1, 1, Padding::all(0))?;
        }
        self.g.add(h, x)
    }

    fn attention(&mut self, name: &str, x: ValueId, heads: usize) -> Result<ValueId> {
        self.attention_inner(name, x, heads).map_err(|e| e.context(name))
    }

    fn attention_inner(&mut self, name: &str, x: ValueId, heads: usize) -> Result<ValueId> {
        let c = self.g.dims(x)?.channels();
        let heads = self.c.num_head_channels.map_or(heads, |n| c / n);
        ensure!(
            heads > 0 && c.is_multiple_of(heads),
            Config,
            "attention of {c} channels in {heads} heads, expected a divisor"
        );
        let h = self.g.group_norm(&format!("{name}.norm"), x, GROUPS, EPS)?;
        let mut qkv = self.g.linear_row(&format!("{name}.qkv"), h, 3 * c)?;
        if !self.c.use_new_attention_order {
            qkv = self.g.push(Op::ShuffleChannels { rows: heads, columns: 3 }, &[qkv])?;
        }
        let mut parts = Vec::new();
        for i in 0..3 {
            parts.push(self.g.slice_channels(qkv, i * c, c)?);
        }
        let h = self.g.push(Op::Attention { heads }, &parts)?;
        let h = self.g.linear_row(&format!("{name}.proj_out"), h, c)?;
        self.g.add(h, x)
    }
}
