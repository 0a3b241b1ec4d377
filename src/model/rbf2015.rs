//! The network of the swiss roll of Sohl-Dickstein et al. 2015: one hidden layer of normalised radial basis functions
//! that f_mu and f_Sigma share, and a readout of its own for each step and each of the two.
//!
//! Inputs: `sample` `[D]`, `timestep` `[1]`, a whole number below T. Output: `sample` `[2 * D]`, z_mu then z_Sigma, as
//! [`Readout2015`](crate::sampler::Readout2015) takes it:
//!
//! ```text
//! phi_k(x) = exp(-|x - c_k|^2 / (2 w_k^2)) / sum_j exp(-|x - c_j|^2 / (2 w_j^2)),   z(x, t) = W_t phi(x)
//! ```
//!
//! The units sum to 1, so that a bias would add nothing. Parameters: `basis.centres` `[units, D]`, `basis.widths`
//! `[units]`, `readout.weight` `[T, 2 * D * units]`, row t being W_t `[2 * D, units]`, row-major.
//!
//! ```
//! use undiffuse::model::rbf2015::{self, Rbf2015Config};
//!
//! let config = Rbf2015Config::from_json(r#"{"features": 2, "units": 16, "num_train_timesteps": 40}"#)?;
//! let graph = rbf2015::build(&config)?;
//! assert_eq!(graph.dims(graph.outputs()[0].value).as_slice(), [4]);
//! assert_eq!(graph.parameter_count(), 16 * 2 + 16 + 40 * 4 * 16);
//! # Ok::<(), undiffuse::Error>(())
//! ```

use super::fields::Fields;
use super::{MAX_FEATURES, RBF, SAMPLE, TIMESTEP, take_class, take_steps};
use crate::error::{Result, err};
use crate::graph::{Graph, GraphBuilder, Op, Role};

/// The configuration. Keys: `features`, `units`, `num_train_timesteps` (which must be there).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rbf2015Config {
    /// D, 2 by default.
    pub features: usize,
    /// Hidden units, 16 by default.
    pub units: usize,
    /// T.
    pub num_train_timesteps: usize,
}

impl Rbf2015Config {
    /// Reads the text of a `config.json`. Errors (kind `Config`) name the key, what is accepted and what stands there.
    pub fn from_json(json: &str) -> Result<Self> {
        let mut f = Fields::parse(json)?;
        take_class(&mut f, RBF)?;
        let config = Self {
            features: f.integer("features", 2, 1..=MAX_FEATURES)?,
            units: f.integer("units", 16, 1..=MAX_FEATURES)?,
            num_train_timesteps: take_steps(&mut f)?,
        };
        f.finish("features, units, num_train_timesteps")?;
        Ok(config)
    }
}

/// Translates a configuration. Errors (kind `Shape`): it has too many weights.
pub fn build(c: &Rbf2015Config) -> Result<Graph> {
    let out = c.features.checked_mul(2).ok_or_else(|| err!(Config, "features is {}, too many", c.features))?;
    let row = out.checked_mul(c.units).ok_or_else(|| err!(Config, "{out} times {} weights a step", c.units))?;
    let mut g = GraphBuilder::new();
    let x = g.input_as(Role::Sample, SAMPLE, &[c.features])?;
    let t = g.input_as(Role::Timestep, TIMESTEP, &[1])?;
    let centres = g.param("basis.centres", &[c.units, c.features])?;
    let widths = g.param("basis.widths", &[c.units])?;
    let h = g.push(Op::RadialBasis { centres, widths }, &[x])?;
    let h = g.push(Op::Softmax, &[h])?;
    let w = g.embedding("readout.weight", t, c.num_train_timesteps, row)?;
    let z = g.mat_vec(w, h)?;
    g.output(SAMPLE, z)?;
    g.finish()
}
