//! The `KarrasUnet` of denoising-diffusion-pytorch: the magnitude-preserving network of Karras et al. 2024
//! ("Analyzing and Improving the Training Dynamics of Diffusion Models"), figure 21, configuration G.
//!
//! Inputs: `sample` `[channels, image_size, image_size]`, `timestep` `[1]`, and with classes `class_labels` `[1]`, a
//! number. Output: `sample`. Parameters bear the names of the network's state dict. Its code normalises each weight in
//! every call (algorithm 1 there): here it is done once, when the weight is read, and the graph has what is left
//! of it, a division by the root of the fan-in.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::super::family::{Architecture, Description, MAX_CHANNELS, MAX_SIZE, integers, skip};
use super::super::fields::Fields;
use super::super::{CLASS_LABELS, SAMPLE, TIMESTEP, take_class};
use super::{MEMORY, refuse_self_condition};
use crate::error::{Result, ensure, err};
use crate::graph::{
    Activation, ChannelNorm, Graph, GraphBuilder, Kernel, NormKind, Op, Padding, Role, ValueId, Window,
};

/// The value of `_class_name`.
pub(in crate::model) const CLASS: &str = "denoising_diffusion_pytorch.KarrasUnet";
/// The least norm of what is normalised, weights and values.
const EPS: f64 = 1e-4;
/// What a SiLU of unit normals has as its root mean square (equation 81).
const SILU: f64 = 0.596;

/// The arguments of the network's constructor, with its defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct KarrasUnetConfig {
    /// Height and width; the network takes no others.
    pub image_size: usize,
    /// Channels of the first level.
    pub dim: usize,
    /// The most channels of a level; each has twice those of the one before.
    pub dim_max: usize,
    /// How many classes there are, if it is told one.
    pub num_classes: Option<usize>,
    /// Channels of a sample.
    pub channels: usize,
    /// How often the size is halved.
    pub num_downsamples: usize,
    /// Layers of each level.
    pub num_blocks_per_stage: usize,
    /// The sizes of levels that have attention.
    pub attn_res: Vec<usize>,
    /// Values of the embedded timestep.
    pub fourier_dim: usize,
    /// Channels of a head.
    pub attn_dim_head: usize,
    /// The share of what the way down has in a concatenation.
    pub mp_cat_t: f64,
    /// The share of the class in the embedding.
    pub mp_add_emb_t: f64,
    /// The share of the shortcut around attention.
    pub attn_res_mp_add_t: f64,
}

/// The share of the shortcut around a layer. The constructor's `resnet_mp_add_t` goes nowhere in the code base.
const LAYER_SHARE: f64 = 0.3;

impl KarrasUnetConfig {
    /// Reads a configuration. Errors (kind `Config`) name the key, what is accepted and what stands there.
    pub fn from_json(json: &str) -> Result<Self> {
        let mut f = Fields::parse(json)?;
        take_class(&mut f, CLASS)?;
        skip(&mut f, &["dropout", "attn_flash", "resnet_mp_add_t"]);
        refuse_self_condition(&mut f)?;
        let size = f.integer_or_null("image_size", None, 1..=MAX_SIZE)?;
        let config = Self {
            image_size: size.ok_or_else(|| err!(Config, "image_size is missing from the model config"))?,
            dim: f.integer("dim", 192, 1..=MAX_CHANNELS)?,
            dim_max: f.integer("dim_max", 768, 1..=MAX_CHANNELS)?,
            num_classes: f.integer_or_null("num_classes", None, 1..=1 << 24)?,
            channels: f.integer("channels", 4, 1..=MAX_CHANNELS)?,
            num_downsamples: f.integer("num_downsamples", 3, 0..=12)?,
            num_blocks_per_stage: f.integer("num_blocks_per_stage", 4, 1..=1024)?,
            attn_res: integers(&mut f, "attn_res", &[16, 8], 1..=MAX_SIZE)?,
            fourier_dim: f.integer("fourier_dim", 16, 2..=MAX_CHANNELS)?,
            attn_dim_head: f.integer("attn_dim_head", 64, 1..=MAX_CHANNELS)?,
            mp_cat_t: f.number("mp_cat_t", 0.5, 0.0..=1.0)?,
            mp_add_emb_t: f.number("mp_add_emb_t", 0.5, 0.0..=1.0)?,
            attn_res_mp_add_t: f.number("attn_res_mp_add_t", 0.3, 0.0..=1.0)?,
        };
        f.finish(
            "image_size, dim, dim_max, num_classes, channels, num_downsamples, num_blocks_per_stage, attn_res, fourier_dim, \
             attn_dim_head, mp_cat_t, mp_add_emb_t, attn_res_mp_add_t, resnet_mp_add_t",
        )?;
        ensure!(
            config.image_size.is_multiple_of(1 << config.num_downsamples),
            Config,
            "image_size is {}, expected a multiple of {} for {} halvings",
            config.image_size,
            1usize << config.num_downsamples,
            config.num_downsamples
        );
        ensure!(
            config.fourier_dim.is_multiple_of(2),
            Config,
            "fourier_dim is {}, expected an even number",
            config.fourier_dim
        );
        Ok(config)
    }

    fn attends(&self, size: usize) -> bool {
        self.attn_res.contains(&size)
    }

    /// The layers of the way up, in order.
    fn ups(&self) -> Vec<Block> {
        let layer = |out, attends| Block { out, attends, resample: false };
        let (mut made, mut dim, mut size) = (Vec::new(), self.dim, self.image_size);
        // The first of each level takes what the convolution before it on the way down has made.
        made.resize(self.num_blocks_per_stage + 1, layer(dim, false));
        for _ in 0..self.num_downsamples {
            made.push(Block { out: dim, attends: self.attends(size), resample: true });
            size /= 2;
            dim = self.dim_max.min(2 * dim);
            made.resize(made.len() + self.num_blocks_per_stage + 1, layer(dim, self.attends(size)));
        }
        made.reverse();
        made
    }
}

/// A layer of the way up.
#[derive(Clone, Copy)]
struct Block {
    out: usize,
    attends: bool,
    /// Twice the size, and nothing from the way down.
    resample: bool,
}

/// What the network's code makes of a weight before it uses it: each row, of all that makes one output channel, over
/// its root mean square. Other parameters stay as they are.
fn adapt(name: &str, dims: &[usize], values: &mut [f32]) {
    let (true, &[rows, ..]) = (name.ends_with(".weight"), dims) else { return };
    let n = values.len() / rows.max(1);
    for row in values.chunks_exact_mut(n.max(1)) {
        let norm = libm::sqrt(row.iter().map(|v| f64::from(*v) * f64::from(*v)).sum());
        let factor = libm::sqrt(n as f64) / norm.max(EPS);
        row.iter_mut().for_each(|v| *v = (f64::from(*v) * factor) as f32);
    }
}

impl Architecture for KarrasUnetConfig {
    fn describe(&self) -> Description {
        Description {
            class_name: CLASS,
            channels: self.channels,
            sample_size: Some([self.image_size; 2]),
            multiple: [self.image_size; 2],
            classes: self.num_classes,
        }
    }

    fn adapt(&self, name: &str, dims: &[usize], values: &mut [f32]) {
        adapt(name, dims, values);
    }

    fn build(&self, [height, width]: [usize; 2]) -> Result<Graph> {
        ensure!(
            [height, width] == [self.image_size; 2],
            Config,
            "a {CLASS} of {height} x {width} samples, expected its image_size, {}",
            self.image_size
        );
        let mut g = GraphBuilder::new();
        let sample = g.input_as(Role::Sample, SAMPLE, &[self.channels, height, width])?;
        let t = g.input_as(Role::Timestep, TIMESTEP, &[1])?;
        let weight = g.param("to_time_emb.0.weights", &[self.fourier_dim / 2])?;
        let waves = g.push(Op::FourierEmbedding { weight, log: false, flip_sin_to_cos: false }, &[t])?;
        let mut l = Layers { g, c: self, embedding: waves };
        let wide = 4 * self.dim;
        let mut e = l.map("to_time_emb.1", waves, wide, core::f64::consts::SQRT_2)?;
        if let Some(classes) = self.num_classes {
            let class = l.g.input_as(Role::Class, CLASS_LABELS, &[1])?;
            let class = l.g.push(Op::OneHot { classes }, &[class])?;
            let class = l.map("to_class_emb", class, wide, libm::sqrt(classes as f64))?;
            e = l.sum(e, class, self.mp_add_emb_t)?;
        }
        // Every map of it divides by the SiLU's magnitude.
        l.embedding = l.g.activation(e, Activation::Silu)?;

        // A channel of ones stands in for biases, which no layer has.
        let ones = l.g.slice_channels(sample, 0, 1)?;
        let ones = l.g.affine(ones, 0.0, 1.0)?;
        let first = l.g.concat(&[ones, sample])?;
        let mut x = l.map_of("input_block", first, self.dim, 3, self.channels, 1.0)?;
        let mut kept = Vec::from([x]);
        let (mut out, mut size, mut number) = (self.dim, self.image_size, 0);
        for level in 0..=self.num_downsamples {
            if level > 0 {
                size /= 2;
                out = self.dim_max.min(2 * out);
            }
            for layer in 0..self.num_blocks_per_stage + usize::from(level > 0) {
                let (down, attends) = (level > 0 && layer == 0, level > 0 && self.attends(size));
                x = l.encoder(&format!("downs.{number}"), x, out, down, attends)?;
                kept.push(x);
                number += 1;
            }
        }
        for i in 0..2 {
            let block = Block { out, attends: self.attends(size), resample: false };
            x = l.decoder(&format!("mids.{i}"), x, block)?;
        }
        for (i, block) in self.ups().into_iter().enumerate() {
            let name = format!("ups.{i}");
            if !block.resample {
                let skip = kept.pop().ok_or_else(|| err!(Config, "{name}: there is nothing left from the way down"))?;
                x = l.joined(x, skip)?;
            }
            x = l.decoder(&name, x, block)?;
        }
        let y = l.map_of("output_block.0", x, self.channels, 3, self.dim, 1.0)?;
        let y = l.gained("output_block.1", y)?;
        l.g.output(SAMPLE, y)?;
        l.g.finish()
    }
}

struct Layers<'a> {
    g: GraphBuilder,
    c: &'a KarrasUnetConfig,
    /// Activated, not divided.
    embedding: ValueId,
}

impl Layers<'_> {
    /// A linear map of a vector, times `factor`.
    fn map(&mut self, name: &str, x: ValueId, out: usize, factor: f64) -> Result<ValueId> {
        let inputs = self.g.dims(x)?.channels();
        let weight = self.g.param(&format!("{name}.weight"), &[out, inputs])?;
        let y = self.g.push(Op::Linear(Kernel { weight, bias: None }), &[x])?;
        self.g.affine(y, (factor / libm::sqrt(inputs as f64)) as f32, 0.0)
    }

    /// A convolution, times `factor`.
    fn conv(&mut self, name: &str, x: ValueId, out: usize, k: usize, factor: f64) -> Result<ValueId> {
        let inputs = self.g.dims(x)?.channels();
        self.map_of(name, x, out, k, inputs, factor)
    }

    /// The same where fewer channels are counted in the fan-in than there are.
    fn map_of(&mut self, name: &str, x: ValueId, out: usize, k: usize, fan: usize, factor: f64) -> Result<ValueId> {
        let inputs = self.g.dims(x)?.channels();
        let weight = self.g.param(&format!("{name}.weight"), &[out, inputs, k, k])?;
        let kernel = Kernel { weight, bias: None };
        let op = match k {
            1 => Op::Linear(kernel),
            _ => Op::Conv2d { window: Window::new([k, k], 1, Padding::all(k / 2)), kernel },
        };
        let y = self.g.push(op, &[x])?;
        self.g.affine(y, (factor / libm::sqrt((fan * k * k) as f64)) as f32, 0.0)
    }

    /// Times a stored number.
    fn gained(&mut self, name: &str, x: ValueId) -> Result<ValueId> {
        let gain = self.g.parameter(&format!("{name}.gain"), &[1], &[1])?;
        self.g.mul(x, gain)
    }

    /// `(1 - t) a + t b`, of unit variance for such a and b (equation 88).
    fn sum(&mut self, a: ValueId, b: ValueId, t: f64) -> Result<ValueId> {
        let norm = magnitude(t);
        let a = self.g.affine(a, ((1.0 - t) / norm) as f32, 0.0)?;
        let b = self.g.affine(b, (t / norm) as f32, 0.0)?;
        self.g.add(a, b)
    }

    /// Both along channels, with the magnitudes that each would have alone (equation 103).
    fn joined(&mut self, a: ValueId, b: ValueId) -> Result<ValueId> {
        let (t, na, nb) = (self.c.mp_cat_t, self.g.dims(a)?.channels() as f64, self.g.dims(b)?.channels() as f64);
        let c = libm::sqrt(na + nb) / magnitude(t);
        let a = self.g.affine(a, (c * (1.0 - t) / libm::sqrt(na)) as f32, 0.0)?;
        let b = self.g.affine(b, (c * t / libm::sqrt(nb)) as f32, 0.0)?;
        self.g.concat(&[a, b])
    }

    /// Each pixel's channels, in groups, over their root mean square (equation 30).
    fn pixel_norm(&mut self, x: ValueId, groups: usize) -> Result<ValueId> {
        let norm = ChannelNorm { kind: NormKind::L2, groups, eps: EPS as f32, weight: None, bias: None };
        self.g.push(Op::ChannelNorm(norm), &[x])
    }

    fn encoder(&mut self, name: &str, x: ValueId, out: usize, down: bool, attends: bool) -> Result<ValueId> {
        self.encoder_inner(name, x, out, down, attends).map_err(|e| e.context(name))
    }

    fn encoder_inner(&mut self, name: &str, x: ValueId, out: usize, down: bool, attends: bool) -> Result<ValueId> {
        let mut x = x;
        if down {
            // Bilinear interpolation to half the size takes the mean of four pixels.
            x = self.g.push(Op::AveragePool { factor: 2 }, &[x])?;
            x = self.conv(&format!("{name}.downsample_conv"), x, out, 1, 1.0)?;
        }
        x = self.pixel_norm(x, 1)?;
        self.layer(name, x, x, out, attends)
    }

    fn decoder(&mut self, name: &str, x: ValueId, block: Block) -> Result<ValueId> {
        self.decoder_inner(name, x, block).map_err(|e| e.context(name))
    }

    fn decoder_inner(&mut self, name: &str, x: ValueId, block: Block) -> Result<ValueId> {
        let mut x = x;
        if block.resample {
            // Bilinear interpolation to twice the size: pixels repeated, then a filter, at whose edge the outermost
            // pixel goes on. Its copy is the pixel beside it, so that mirroring says the same.
            let taps = [0.25, 0.5, 0.25].into();
            x = self.g.push(Op::UpsampleNearest { factor: 2 }, &[x])?;
            x = self.g.push(Op::ReflectPad(Padding::all(1)), &[x])?;
            x = self.g.push(Op::Fir { taps, up: 1, down: 1, pad: [0, 0] }, &[x])?;
        }
        let shortcut = match self.g.dims(x)?.channels() == block.out {
            true => x,
            false => self.conv(&format!("{name}.res_conv"), x, block.out, 1, 1.0)?,
        };
        self.layer(name, x, shortcut, block.out, block.attends)
    }

    /// What both kinds of layers end in.
    fn layer(&mut self, name: &str, x: ValueId, shortcut: ValueId, out: usize, attends: bool) -> Result<ValueId> {
        let of = |part: &str| -> String { format!("{name}.{part}") };
        let h = self.g.activation(x, Activation::Silu)?;
        let h = self.conv(&of("block1.1"), h, out, 3, 1.0 / SILU)?;
        let e = self.map(&of("to_emb.0"), self.embedding, out, 1.0 / SILU)?;
        let e = self.gained(&of("to_emb.1"), e)?;
        let e = self.g.affine(e, 1.0, 1.0)?;
        let h = self.g.mul(h, e)?;
        let h = self.g.activation(h, Activation::Silu)?;
        let share = magnitude(LAYER_SHARE);
        let h = self.conv(&of("block2.2"), h, out, 3, (1.0 - LAYER_SHARE) / share / SILU)?;
        let shortcut = self.g.affine(shortcut, (LAYER_SHARE / share) as f32, 0.0)?;
        let x = self.g.add(h, shortcut)?;
        if attends { self.attention(&of("attn"), x) } else { Ok(x) }
    }

    /// Attention to the pixels and to some learned keys and values, all of unit magnitude.
    fn attention(&mut self, name: &str, x: ValueId) -> Result<ValueId> {
        let (c, head) = (self.g.dims(x)?.channels(), self.c.attn_dim_head);
        let heads = c.div_ceil(head).max(2);
        let inner = heads.saturating_mul(head);
        ensure!(
            inner <= MAX_CHANNELS,
            Config,
            "{heads} heads of {head} channels, expected at most {MAX_CHANNELS} in all"
        );
        let qkv = self.conv(&format!("{name}.to_qkv"), x, 3 * inner, 1, 1.0)?;
        // [head][token][channel] to [head][channel][token].
        let dims = [2 * heads, MEMORY, head];
        let memory = self.g.parameter(&format!("{name}.mem_kv"), &[2, heads, MEMORY, head], &dims)?;
        let memory = self.g.push(Op::SpaceToDepth { factor: [1, head], blocks_first: false }, &[memory])?;
        let q = self.g.slice_channels(qkv, 0, inner)?;
        let mut args = alloc::vec![self.pixel_norm(q, heads)?];
        for i in 0..2 {
            let learned = self.g.slice_channels(memory, i * inner, inner)?;
            let own = self.g.slice_channels(qkv, (i + 1) * inner, inner)?;
            let both = self.g.push(Op::ConcatPositions, &[learned, own])?;
            args.push(self.pixel_norm(both, heads)?);
        }
        let h = self.g.push(Op::Attention { heads }, &args)?;
        let (t, share) = (self.c.attn_res_mp_add_t, magnitude(self.c.attn_res_mp_add_t));
        let h = self.conv(&format!("{name}.to_out"), h, c, 1, (1.0 - t) / share)?;
        let x = self.g.affine(x, (t / share) as f32, 0.0)?;
        self.g.add(h, x)
    }
}

/// The magnitude of `(1 - t) a + t b` for independent a and b of unit magnitude.
fn magnitude(t: f64) -> f64 {
    libm::sqrt((1.0 - t) * (1.0 - t) + t * t)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_weights_get_unit_magnitude_and_nothing_else_does() {
        let mut values = [3.0, -4.0, 1e-6, 0.0];
        adapt("downs.0.block1.1.weight", &[2, 2], &mut values);
        // Rows of root mean square 1, but for one below the least norm.
        assert!((values[0] - 0.848_528_1).abs() < 1e-6 && (values[1] + 1.131_370_8).abs() < 1e-6);
        assert!((values[2] - 0.014_142_14).abs() < 1e-7);
        let mut gain = [0.3];
        adapt("output_block.1.gain", &[1], &mut gain);
        assert_eq!(gain, [0.3]);
    }
}
