//! Precision as a pass: layers that compute in 8-bit integers.
//!
//! A layer (a convolution or a linear map) whose weight's [`Param`](super::Param) says how its input becomes integers
//! computes in them: `q = clamp(round(x / scale) + zero, -128, 127)` for the input, where ties go to even,
//! `round(w / s_o)` for the weights of output channel o, s_o being their largest absolute value / 127, and
//! `y_o = sum (q - zero) q_w * (s_o scale) + bias`, the sum being exact. All else is as it was, in floating point. So
//! every backend that has such layers gets the same integers out of the same input.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use super::rebuild::Rebuild;
use super::{Graph, Kernel, Node, Op, ParamId, ValueId, Window};
use crate::error::{Result, ensure};

/// The fewest output channels, and the fewest weights of each, of a layer of integers: the first and the last layer of
/// a network, which have fewer, are where 8 bits lose most and save least.
const LEAST: [usize; 2] = [16, 64];
/// The most weights of an output channel, so that 32 bits hold every sum.
const MOST: usize = 1 << 16;

/// What a layer, a convolution or a linear map, computes in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LayerPrecision {
    /// Single precision, or better.
    #[default]
    F32,
    /// Its input and its weights are rounded to the nearest bf16, ties to even; their products are added in f32.
    Bf16,
    /// 8-bit integers, with exact sums.
    Int8(Quantisation),
}

/// How the input of a layer becomes 8-bit integers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantisation {
    scale: f32,
    zero: i8,
}

// The scale is finite.
impl Eq for Quantisation {}

impl Quantisation {
    /// Errors (kind `Config`): the scale is not positive and finite, or so small that its inverse is not.
    pub fn new(scale: f32, zero: i8) -> Result<Self> {
        ensure!(
            scale > 0.0 && scale.is_finite() && (1.0 / scale).is_finite(),
            Config,
            "the scale of 8-bit integers is {scale}, expected a positive number"
        );
        Ok(Self { scale, zero })
    }

    /// For values from `low` to `high`, and 0, which padding is. Errors: as [`Quantisation::new`], as for a range of 0
    /// alone or one that is not finite.
    pub fn of_range(low: f32, high: f32) -> Result<Self> {
        let (low, high) = (low.min(0.0), high.max(0.0));
        let scale = (high - low) / 255.0;
        let zero = libm::rintf(-128.0 - low / scale).clamp(-128.0, 127.0) as i8;
        Self::new(scale, zero)
    }

    /// What one of the integers is worth.
    pub const fn scale(self) -> f32 {
        self.scale
    }

    /// The integer of 0.
    pub const fn zero(self) -> i8 {
        self.zero
    }

    /// The integer of `x` less that of 0: exact arithmetic but for the inverse of the scale, which is rounded to f32.
    pub(crate) fn offset(self, x: f64) -> f64 {
        let zero = f64::from(self.zero);
        libm::rint(x * f64::from(1.0 / self.scale) + zero).clamp(-128.0, 127.0) - zero
    }
}

impl Node {
    /// The layer of a node, if it is one without groups; a linear map has no window.
    pub(super) fn layer(&self) -> Option<(&Kernel, Option<&Window>)> {
        match &self.op {
            Op::Conv2d { window, kernel } if window.groups == 1 => Some((kernel, Some(window))),
            Op::Linear(kernel) => Some((kernel, None)),
            _ => None,
        }
    }
}

impl Graph {
    /// Whether a layer of this weight, of an input of so many positions, may be one of integers.
    fn suits(&self, weight: ParamId, positions: usize) -> bool {
        let dims = self.param(weight).dims;
        let (outs, fan_in) = (dims.channels(), dims.positions());
        let ins = dims.as_slice().get(1).copied().unwrap_or(0);
        // Four channels are multiplied at once; what has one position is few values, as a time embedding is.
        positions > 1 && ins % 4 == 0 && outs >= LEAST[0] && (LEAST[1]..=MOST).contains(&fan_in)
    }

    /// The values that layers of which `suits` is true read, each with the weights of these layers: it is true of all
    /// layers of a value, whose weights have no other use.
    pub(super) fn layers_by_input(
        &self,
        suits: impl Fn(&Self, &Node, ValueId) -> bool,
    ) -> Vec<(ValueId, Vec<ParamId>)> {
        let mut users = alloc::vec![0usize; self.params().len()];
        let mut readers: BTreeMap<ValueId, (bool, Vec<ParamId>)> = BTreeMap::new();
        for node in self.nodes() {
            node.op.for_each_param(|p| users[p.index()] += 1);
            if let (Some((kernel, _)), Some(&x)) = (node.layer(), node.args.first()) {
                let (all, weights) = readers.entry(x).or_insert((true, Vec::new()));
                *all &= suits(self, node, x);
                weights.push(kernel.weight);
            }
        }
        let suited = readers.into_iter().filter(|(_, (all, w))| *all && w.iter().all(|w| users[w.index()] == 1));
        suited.map(|(x, (_, weights))| (x, weights)).collect()
    }

    /// The values that layers of integers may read, each with the weights of its layers.
    fn suited(&self) -> Vec<(ValueId, Vec<ParamId>)> {
        self.layers_by_input(|graph, node, x| {
            node.layer().is_some_and(|(kernel, _)| graph.suits(kernel.weight, graph.dims(x).positions()))
        })
    }

    /// The same graph with layers of integers: those that suit and whose weights `ranges` knows by name.
    pub(crate) fn quantised(mut self, ranges: &BTreeMap<String, Quantisation>) -> Self {
        for (_, weights) in self.suited() {
            let known: Option<Vec<Quantisation>> =
                weights.iter().map(|&w| ranges.get(&self.param(w).name).copied()).collect();
            // Those that read the same value must agree, as their input is made once.
            let Some(first) = known.as_ref().and_then(|k| k.first().copied()) else { continue };
            if known.is_some_and(|k| k.iter().all(|q| *q == first)) {
                weights.iter().for_each(|w| self.params[w.index()].precision = LayerPrecision::Int8(first));
            }
        }
        self
    }

    /// The same graph with the inputs of the layers that may be of integers as further outputs, and for each of these
    /// the names of the layers' weights: what a calibration looks at.
    pub(crate) fn observed(&self) -> Result<(Self, Vec<Vec<String>>)> {
        let mut rebuild = Rebuild::new(self);
        for id in self.ids() {
            rebuild.copy(id)?;
        }
        rebuild.outputs()?;
        let mut names = Vec::new();
        for (x, weights) in self.suited() {
            let x = rebuild.mapped(x)?;
            rebuild.new.output("layer input", x)?;
            names.push(weights.iter().map(|&w| self.param(w).name.clone()).collect());
        }
        Ok((rebuild.new.finish()?, names))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Activation, GraphBuilder, Padding};

    #[test]
    fn a_range_is_covered_and_zero_is_exact() {
        for (low, high) in [(-0.3f32, 5.0f32), (-4.0, 4.0), (1.0, 3.0), (-7.0, -1.0), (-1e-20, 1e-20)] {
            let q = Quantisation::of_range(low, high).unwrap();
            assert_eq!(q.offset(0.0), 0.0);
            for x in [low, high, 0.3 * low + 0.7 * high] {
                let back = q.offset(x.into()) * f64::from(q.scale());
                // Half of an integer, and as much again at the ends, as zero was rounded.
                assert!((back - f64::from(x)).abs() <= f64::from(q.scale()) * 1.001, "{x} is {back}");
            }
        }
        for (low, high) in [(0.0, 0.0), (f32::NAN, f32::NAN), (0.0, f32::INFINITY), (-1e-44, 0.0)] {
            assert!(Quantisation::of_range(low, high).is_err(), "{low} to {high}");
        }
    }

    #[test]
    fn only_layers_that_suit_are_of_integers() {
        let mut g = GraphBuilder::new();
        let x = g.input("x", &[3, 8, 8]).unwrap();
        let h = g.conv2d("first", x, 32, 3, 1, Padding::all(1)).unwrap();
        let a = g.activation(h, Activation::Silu).unwrap();
        let h = g.conv2d("middle", a, 32, 3, 1, Padding::all(1)).unwrap();
        let q = g.linear("narrow", h, 32, true).unwrap();
        let y = g.conv2d("last", q, 3, 3, 1, Padding::all(1)).unwrap();
        g.output("y", y).unwrap();
        let graph = g.finish().unwrap();
        let (observed, names) = graph.observed().unwrap();
        assert_eq!(names, [["middle.weight"]]);
        assert_eq!(observed.outputs()[1].value, a);
        let any = Quantisation::of_range(-1.0, 1.0).unwrap();
        let ranges = graph.params().iter().map(|p| (p.name.clone(), any)).collect();
        let quantised = graph.clone().quantised(&ranges);
        let of = |p: &&crate::graph::Param| p.precision != LayerPrecision::F32;
        assert_eq!(
            quantised.params().iter().filter(of).map(|p| p.name.as_str()).collect::<Vec<_>>(),
            ["middle.weight"]
        );
        assert_eq!(graph.clone().quantised(&BTreeMap::new()), graph);
    }
}
