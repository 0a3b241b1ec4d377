//! The network of the binary heartbeat of Sohl-Dickstein et al. 2015: hidden layers that all steps share, and a linear
//! readout of its own for each step.
//!
//! Inputs: `sample` `[features]`, `timestep` `[1]`, a whole number below T. Output: `sample` `[out_features]`,
//! `W_t h(x) + b_t`. In a binary chain these are, for each bit, the logit of the probability that
//! [`BitPrediction`](crate::sampler::BitPrediction) names; with twice as many outputs as features z_mu and z_Sigma of a
//! Gaussian one.
//!
//! Parameters: `hidden.N.weight` `[out, in]` and `hidden.N.bias` from N = 0 on; `readout.weight` `[T, out * in]`, row t
//! being W_t `[out, in]`, row-major; `readout.bias` `[T, out]`.
//!
//! ```
//! use undiffuse::model::mlp2015::{self, Mlp2015Config};
//!
//! let config = Mlp2015Config::from_json(r#"{"features": 20, "hidden_features": [50, 50, 50], "num_train_timesteps": 2000}"#)?;
//! let graph = mlp2015::build(&config)?;
//! assert_eq!(graph.dims(graph.outputs()[0].value).as_slice(), [20]);
//! # Ok::<(), undiffuse::Error>(())
//! ```

use alloc::format;
use alloc::vec::Vec;

use super::fields::Fields;
use super::{ACTIVATIONS, MAX_FEATURES, MLP, SAMPLE, TIMESTEP, take_class, take_steps, take_widths};
use crate::error::{Result, ensure, err};
use crate::graph::{Activation, Graph, GraphBuilder, Role};

/// The most hidden layers.
const MAX_LAYERS: usize = 64;

/// The configuration, its fields being the keys; `num_train_timesteps` must be there.
#[derive(Clone, Debug, PartialEq)]
pub struct Mlp2015Config {
    /// Values of a sample, 20 by default.
    pub features: usize,
    /// Values of the output; by default as many as `features`.
    pub out_features: usize,
    /// Units of each hidden layer, at least one of them; by default three of 50.
    pub hidden_features: Vec<usize>,
    /// After each hidden layer: `leaky_relu` (slope 0.05, the default), `softplus`, `tanh`, `relu` or `silu`.
    pub act_fn: Activation,
    /// Whether the input is taken as `2 x - 1`, which centres bits; false by default.
    pub center_input_sample: bool,
    /// T.
    pub num_train_timesteps: usize,
}

impl Mlp2015Config {
    /// Reads the text of a `config.json`. Errors (kind `Config`) name the key, what is accepted and what stands there.
    pub fn from_json(json: &str) -> Result<Self> {
        let mut f = Fields::parse(json)?;
        take_class(&mut f, MLP)?;
        let features = f.integer("features", 20, 1..=MAX_FEATURES)?;
        let config = Self {
            features,
            out_features: f.integer_or_null("out_features", None, 1..=2 * MAX_FEATURES)?.unwrap_or(features),
            hidden_features: take_widths(&mut f, "hidden_features", &[50, 50, 50], MAX_LAYERS)?,
            act_fn: f.word("act_fn", Activation::LeakyRelu { slope: 0.05 }, &ACTIVATIONS)?,
            center_input_sample: f.boolean("center_input_sample", false)?,
            num_train_timesteps: take_steps(&mut f)?,
        };
        f.finish("features, out_features, hidden_features, act_fn, center_input_sample, num_train_timesteps")?;
        ensure!(!config.hidden_features.is_empty(), Config, "hidden_features is empty, expected at least one layer");
        Ok(config)
    }
}

/// Translates a configuration. Errors (kind `Config` or `Shape`): there is no hidden layer, or there are too many
/// weights.
pub fn build(c: &Mlp2015Config) -> Result<Graph> {
    let &last = c.hidden_features.last().ok_or_else(|| err!(Config, "hidden_features is empty"))?;
    let row = c.out_features.checked_mul(last).ok_or_else(|| err!(Config, "{last} times {}", c.out_features))?;
    let mut g = GraphBuilder::new();
    let x = g.input_as(Role::Sample, SAMPLE, &[c.features])?;
    let t = g.input_as(Role::Timestep, TIMESTEP, &[1])?;
    let mut h = if c.center_input_sample { g.affine(x, 2.0, -1.0)? } else { x };
    for (i, &width) in c.hidden_features.iter().enumerate() {
        h = g.linear(&format!("hidden.{i}"), h, width, true)?;
        h = g.activation(h, c.act_fn)?;
    }
    let w = g.embedding("readout.weight", t, c.num_train_timesteps, row)?;
    let b = g.embedding("readout.bias", t, c.num_train_timesteps, c.out_features)?;
    let y = g.mat_vec(w, h)?;
    let y = g.add(y, b)?;
    g.output(SAMPLE, y)?;
    g.finish()
}
