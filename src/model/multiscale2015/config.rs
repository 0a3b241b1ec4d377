//! The configuration of [`multiscale2015`](super).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::error::{Result, ensure, err};
use crate::graph::Activation;
use crate::json::Value;
use crate::model::fields::{Fields, one_of, sample_size, word};
use crate::model::{ACTIVATIONS, MULTISCALE, take_class, take_steps, take_widths};

/// The most layers of one kind.
const MAX_LAYERS: usize = 64;
/// The most channels.
const MAX_CHANNELS: usize = 1 << 12;
/// The largest height or width.
const MAX_SIZE: usize = 1 << 13;

/// Where a multi-scale layer has its nonlinearity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// After the convolution at each scale, and the mean over scales: the authors' code.
    #[default]
    PerScale,
    /// After the sum over scales: the paper's text.
    AfterSum,
}

/// The width of the bumps over time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TemporalWidth {
    /// Half the distance of their centres: the authors' code.
    #[default]
    Code,
    /// That distance: the paper's text.
    Paper,
}

impl TemporalWidth {
    /// The width of `functions` bumps whose centres run from -1 to 1.
    pub fn of(self, functions: usize) -> f64 {
        let spacing = 2.0 / (functions as f64 - 1.0);
        match self {
            Self::Code => spacing / 2.0,
            Self::Paper => spacing,
        }
    }
}

/// The configuration, its fields being the keys; `num_train_timesteps` must be there. The defaults are the authors' for
/// MNIST, but without a dense path and with tied biases.
#[derive(Clone, Debug, PartialEq)]
pub struct Multiscale2015Config {
    /// Height and width of the images, one number if they are equal. It must be there with a dense path or untied
    /// biases, and is then the only size; else it is the usual one, or null.
    pub sample_size: Option<[usize; 2]>,
    /// Channels of the image, 1 by default.
    pub in_channels: usize,
    /// S, 1 by default.
    pub scales: usize,
    /// Channels of each convolution layer, at least one; by default four of 20.
    pub conv_channels: Vec<usize>,
    /// Units of each hidden layer of the dense path; none by default. Ignored without `dense_out_channels`, and refused
    /// if there are any.
    pub dense_channels: Vec<usize>,
    /// Channels of the dense path's image; null (the default) for no dense path.
    pub dense_out_channels: Option<usize>,
    /// Channels of each hidden layer of the network at every pixel; by default one of 20.
    pub upper_channels: Vec<usize>,
    /// The convolutions' nonlinearity: `leaky_relu` (slope 0.05, the default), `softplus`, `tanh`, `relu` or `silu`.
    pub act_fn: Activation,
    /// That of the dense path and of the network at every pixel; by default, and where null, the convolutions'.
    pub dense_act_fn: Activation,
    /// `per_scale` (the default) or `after_sum`.
    pub activation_placement: Placement,
    /// Whether a convolution has one bias for each channel (the default) or one for each element.
    pub tied_biases: bool,
    /// J, 10 by default.
    pub temporal_functions: usize,
    /// `code` (the default) or `paper`.
    pub temporal_width: TemporalWidth,
    /// T.
    pub num_train_timesteps: usize,
}

const KNOWN: &str = "sample_size, in_channels, scales, conv_channels, dense_channels, dense_out_channels, upper_channels, act_fn, \
    dense_act_fn, activation_placement, tied_biases, temporal_functions, temporal_width, num_train_timesteps";

impl Multiscale2015Config {
    /// Reads the text of a `config.json`. Errors (kind `Config`) name the key, what is accepted and what stands there.
    pub fn from_json(json: &str) -> Result<Self> {
        let mut f = Fields::parse(json)?;
        take_class(&mut f, MULTISCALE)?;
        let act_fn = f.word("act_fn", Activation::LeakyRelu { slope: 0.05 }, &ACTIVATIONS)?;
        let or_null = format!("{} or null", one_of(&ACTIVATIONS));
        let config = Self {
            sample_size: sample_size(&mut f, MAX_SIZE)?,
            in_channels: f.integer("in_channels", 1, 1..=MAX_CHANNELS)?,
            scales: f.integer("scales", 1, 1..=12)?,
            conv_channels: take_widths(&mut f, "conv_channels", &[20; 4], MAX_LAYERS)?,
            dense_channels: take_widths(&mut f, "dense_channels", &[], MAX_LAYERS)?,
            dense_out_channels: f.integer_or_null("dense_out_channels", None, 1..=MAX_CHANNELS)?,
            upper_channels: take_widths(&mut f, "upper_channels", &[20], MAX_LAYERS)?,
            act_fn,
            dense_act_fn: f.with("dense_act_fn", act_fn, or_null, |v| match v {
                Value::Null => Some(act_fn),
                v => word(v.as_str()?, &ACTIVATIONS),
            })?,
            activation_placement: f.word(
                "activation_placement",
                Placement::PerScale,
                &[("per_scale", Placement::PerScale), ("after_sum", Placement::AfterSum)],
            )?,
            tied_biases: f.boolean("tied_biases", true)?,
            temporal_functions: f.integer("temporal_functions", 10, 2..=1000)?,
            temporal_width: f.word(
                "temporal_width",
                TemporalWidth::Code,
                &[("code", TemporalWidth::Code), ("paper", TemporalWidth::Paper)],
            )?,
            num_train_timesteps: take_steps(&mut f)?,
        };
        f.finish(KNOWN)?;
        config.check()?;
        Ok(config)
    }

    /// Checks what concerns several keys.
    pub(super) fn check(&self) -> Result<()> {
        ensure!(!self.conv_channels.is_empty(), Config, "conv_channels is empty, expected at least one layer");
        ensure!(
            self.dense_out_channels.is_some() || self.dense_channels.is_empty(),
            Config,
            "dense_channels has {} layers, but dense_out_channels is null",
            self.dense_channels.len()
        );
        ensure!(
            self.is_convolutional() || self.sample_size.is_some(),
            Config,
            "sample_size is null, expected the size of the images: a dense path and untied biases depend on it"
        );
        Ok(())
    }

    /// Whether it takes images of many sizes.
    pub fn is_convolutional(&self) -> bool {
        self.dense_out_channels.is_none() && self.tied_biases
    }

    /// The name of the last linear map's weight.
    pub(in crate::model) fn last_layer(&self) -> String {
        format!("upper.{}.weight", self.upper_channels.len())
    }

    /// The height and width to build for: `wanted` if given, else the configuration's. Errors (kind `Config`): neither
    /// is there; the network has another, fixed one; or the coarsest scale does not divide a side, as means over blocks
    /// would then leave an edge out.
    pub fn size(&self, wanted: Option<[usize; 2]>) -> Result<[usize; 2]> {
        let size = wanted
            .or(self.sample_size)
            .ok_or_else(|| err!(Config, "sample_size is null in the model config, so the image size must be given"))?;
        ensure!(
            self.is_convolutional() || self.sample_size == Some(size),
            Config,
            "the image is {} x {}, but the model's dense path or untied biases are for {:?}",
            size[0],
            size[1],
            self.sample_size.unwrap_or_default()
        );
        let multiple = 1usize << self.scales.saturating_sub(1).min(16);
        for side in size {
            ensure!(
                side > 0 && side <= MAX_SIZE && side.is_multiple_of(multiple),
                Config,
                "the image is {} x {}, expected multiples of {multiple} up to {MAX_SIZE}, as {} scales need",
                size[0],
                size[1],
                self.scales
            );
        }
        Ok(size)
    }
}
