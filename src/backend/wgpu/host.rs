//! Values that the host computes: embeddings of a network input. They are a few numbers for each sample, and a device's
//! sine of a timestep would be wrong in the fourth digit.

use alloc::vec::Vec;

use super::weights::read;
use crate::backend::ParamSource;
use crate::error::{Result, ensure, err};
use crate::graph::{Graph, Op, ParamId};

/// A number for each sample that the host knows: a value of an input with `x * scale + shift` applied, in turn.
#[derive(Clone, Debug)]
pub(super) struct Scalar {
    pub input: usize,
    /// Which of the input's values it is.
    pub index: usize,
    /// The input's values.
    pub len: usize,
    pub affine: Vec<[f64; 2]>,
}

impl Scalar {
    /// The value of an input that has one.
    pub fn input(input: usize) -> Self {
        Self { input, index: 0, len: 1, affine: Vec::new() }
    }
}

/// How a value is made of a number.
#[derive(Clone, Debug)]
pub(super) enum Recipe {
    /// The number itself.
    Number,
    /// Sines and cosines of the number, or its logarithm, times the frequencies.
    Waves { frequencies: Frequencies, log: bool, cosines_first: bool },
    /// A row of a table.
    Row(ParamId),
    /// 1 in the number's place.
    OneHot,
    /// The bump functions of `Op::TemporalBasis` with this width.
    Bumps { steps: usize, functions: usize, width: f64 },
}

/// Where frequencies come from.
#[derive(Clone, Debug)]
pub(super) enum Frequencies {
    Known(Vec<f64>),
    /// 2 pi times a parameter.
    Param(ParamId),
}

/// A value that the host computes.
#[derive(Clone, Debug)]
pub(super) struct HostValue {
    pub of: Scalar,
    pub recipe: Recipe,
    /// Elements for a sample.
    pub len: usize,
    /// What the recipe needs of the weights, once they are read.
    pub data: Vec<f64>,
}

impl HostValue {
    /// The recipe of an embedding.
    pub fn new(op: &Op, of: Scalar, len: usize) -> Result<Self> {
        let recipe = match *op {
            Op::SinusoidalEmbedding { dim, flip_sin_to_cos, freq_shift, max_period } => {
                let half = dim / 2;
                let exponent = -libm::log(f64::from(max_period)) / (half as f64 - f64::from(freq_shift));
                let frequencies = (0..half).map(|i| libm::exp(exponent * i as f64)).collect();
                let frequencies = Frequencies::Known(frequencies);
                Recipe::Waves { frequencies, log: false, cosines_first: flip_sin_to_cos }
            }
            Op::FourierEmbedding { weight, log, flip_sin_to_cos } => {
                Recipe::Waves { frequencies: Frequencies::Param(weight), log, cosines_first: flip_sin_to_cos }
            }
            Op::Embedding { table } => Recipe::Row(table),
            Op::OneHot { .. } => Recipe::OneHot,
            Op::TemporalBasis { steps, functions, width } => Recipe::Bumps { steps, functions, width },
            ref op => return Err(err!(Unsupported, "{} is not computed on the host", op.name())),
        };
        Ok(Self { of, recipe, len, data: Vec::new() })
    }

    /// Reads what the recipe needs.
    pub fn load(&mut self, graph: &Graph, source: &dyn ParamSource) -> Result<()> {
        self.data = match &self.recipe {
            Recipe::Waves { frequencies: Frequencies::Known(f), .. } => f.clone(),
            Recipe::Waves { frequencies: Frequencies::Param(id), .. } => {
                read(graph, source, *id)?.iter().map(|w| f64::from(*w) * 2.0 * core::f64::consts::PI).collect()
            }
            Recipe::Row(id) => read(graph, source, *id)?.iter().map(|w| f64::from(*w)).collect(),
            Recipe::Number | Recipe::OneHot | Recipe::Bumps { .. } => Vec::new(),
        };
        Ok(())
    }

    /// Calls `put` with each element for a sample whose input is `x`, in order. Errors: `InvalidArgument` for a row
    /// that the table does not have.
    pub fn each(&self, x: f32, put: &mut dyn FnMut(f32)) -> Result<()> {
        let x = self.of.affine.iter().fold(f64::from(x), |x, [scale, shift]| x * scale + shift);
        match self.recipe {
            Recipe::Number => put(x as f32),
            Recipe::Waves { log, cosines_first, .. } => {
                let x = if log { libm::log(x) } else { x };
                for cosines in [cosines_first, !cosines_first] {
                    for f in &self.data {
                        put(if cosines { libm::cos(x * f) } else { libm::sin(x * f) } as f32);
                    }
                }
                for _ in 2 * self.data.len()..self.len {
                    put(0.0);
                }
            }
            Recipe::Bumps { steps, functions, width } => {
                let last = (steps - 1) as f64;
                // NaN stays NaN.
                let t = if x < 0.0 { 0.0 } else { x.min(last) };
                let t = if x.is_nan() { x } else { t };
                let below = libm::floor(t);
                let (at, above) = (bumps(below, steps, functions, width), (below + 1.0).min(last));
                let next = bumps(above, steps, functions, width);
                at.zip(next).for_each(|(a, b)| put(((1.0 - (t - below)) * a + (t - below) * b) as f32));
            }
            Recipe::OneHot => {
                ensure!(
                    x >= 0.0 && x < self.len as f64 && libm::floor(x) == x,
                    InvalidArgument,
                    "class {x} of {}, expected a whole number below",
                    self.len
                );
                (0..self.len).for_each(|i| put(if i == x as usize { 1.0 } else { 0.0 }));
            }
            Recipe::Row(_) => {
                let rows = self.data.len() / self.len.max(1);
                ensure!(
                    x >= 0.0 && x < rows as f64 && libm::floor(x) == x,
                    InvalidArgument,
                    "class {x} of an embedding with {rows} rows"
                );
                self.data.iter().skip(x as usize * self.len).take(self.len).for_each(|v| put(*v as f32));
            }
        }
        Ok(())
    }
}

/// The functions at a whole step, which sum to 1.
fn bumps(t: f64, steps: usize, functions: usize, width: f64) -> impl Iterator<Item = f64> {
    let grid = |i: f64, n: usize| 2.0 * i / (n - 1) as f64 - 1.0;
    let log = move |j: usize| {
        let d = (grid(t, steps) - grid(j as f64, functions)) / width;
        -0.5 * d * d
    };
    let greatest = (0..functions).map(log).fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = (0..functions).map(|j| libm::exp(log(j) - greatest)).sum();
    (0..functions).map(move |j| libm::exp(log(j) - greatest) / sum)
}
