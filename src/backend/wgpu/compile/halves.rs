//! Which values of a graph are kept in half precision.
//!
//! Rounding what a derivative is taken at moves a gradient by more than rounding the gradient itself: a kink or a flat
//! place is in another place then, by 0.8 to 2 % in small UNets. The backward pass on the other hand is linear in the
//! cotangent, so its roundings add up and no more. So in a graph with a gradient what the host gives as a cotangent
//! goes back in f16, and what leads up to it stays f32. A linear map can also be given any scale: the host brings each
//! sample's cotangent to a size at which f16 has room on both sides.

use alloc::vec::Vec;

use crate::backend::wgpu::Precision;
use crate::graph::{Binary, FusedConv, Graph, Op};

/// What is kept in f16, of values with positions that the host does not see, and of the weights that meet them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::backend::wgpu) enum Halves {
    /// Nothing.
    None,
    /// Everything.
    All,
    /// What is linear in a cotangent.
    Backward(Backward),
}

/// The part of a graph that is linear in an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::backend::wgpu) struct Backward {
    /// The number of the input.
    pub cotangent: usize,
    /// For each value, whether it is linear in it.
    linear: Vec<bool>,
    /// For each output, whether it is.
    pub outputs: Vec<bool>,
}

impl Halves {
    /// Of a graph where `wanted` is asked for. A graph with gradients that are linear in no one input is kept in f32.
    pub fn of(graph: &Graph, wanted: Precision) -> Self {
        match wanted {
            Precision::F32 => Self::None,
            Precision::F16 if !graph.nodes().iter().any(|n| is_gradient(&n.op)) => Self::All,
            Precision::F16 => (0..graph.inputs().len())
                .find_map(|input| Backward::by(graph, input))
                .map_or(Self::None, Self::Backward),
        }
    }

    /// Whether the value of this number is.
    pub fn has(&self, value: usize) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Backward(b) => b.linear.get(value) == Some(&true),
        }
    }
}

impl Backward {
    /// The values that are linear in an input, if these are all gradients of the graph and whatever else depends on the
    /// input.
    fn by(graph: &Graph, input: usize) -> Option<Self> {
        let mut linear = Vec::with_capacity(graph.nodes().len());
        for node in graph.nodes() {
            let args: Vec<bool> = node.args.iter().map(|a| linear.get(a.index()).copied().unwrap_or(false)).collect();
            let here = match node.op {
                Op::Input(slot) => slot.index() == input,
                ref op => match args.contains(&true) {
                    true if is_linear(op, &args) => true,
                    true => return None,
                    false if is_gradient(op) => return None,
                    false => false,
                },
            };
            linear.push(here);
        }
        let outputs: Vec<bool> = graph.outputs().iter().map(|p| linear.get(p.value.index()) == Some(&true)).collect();
        outputs.contains(&true).then_some(Self { cotangent: input, linear, outputs })
    }
}

/// Whether an operation is linear in the arguments that are, some of which are.
fn is_linear(op: &Op, args: &[bool]) -> bool {
    let all = !args.contains(&false);
    let only_last = |n: usize| args.len() == n && args.iter().rev().skip(1).all(|a| !a) && args.last() == Some(&true);
    match op {
        Op::Binary(Binary::Mul) | Op::MatVec | Op::Outer | Op::VecMat => !all,
        Op::Binary(Binary::Div) => matches!(args, [true, false]),
        Op::Affine { shift, .. } => *shift == 0.0,
        Op::Linear(kernel) | Op::Conv2d { kernel, .. } => kernel.bias.is_none(),
        Op::FusedConv(c) => is_matrix(c) && all,
        Op::Binary(Binary::Add)
        | Op::Concat
        | Op::SliceChannels { .. }
        | Op::PadChannels { .. }
        | Op::UpsampleNearest { .. }
        | Op::AveragePool { .. }
        | Op::Fir { .. }
        | Op::Reshape { .. }
        | Op::SumPositions
        | Op::ConvAdjoint { .. }
        | Op::DepthToSpace { .. }
        | Op::SpaceToDepth { .. }
        | Op::ReflectPad(_)
        | Op::ReflectPadAdjoint(_)
        | Op::ShuffleChannels { .. }
        | Op::ConcatPositions
        | Op::SlicePositions { .. }
        | Op::PadPositions { .. }
        | Op::FusedConvAdjoint(_) => all,
        Op::ActivationGrad(_)
        | Op::GroupNormGrad(_)
        | Op::ChannelNormGrad(_)
        | Op::MaxPoolGrad(_)
        | Op::SoftmaxGrad
        | Op::RadialBasisGrad { .. } => only_last(2),
        Op::AttentionGrad { .. } | Op::LinearAttentionGrad { .. } => only_last(4),
        Op::FusedNormGrad(n) => {
            let forward = n.sources + 2 * usize::from(n.modulated);
            let (before, after) = args.split_at(forward.min(args.len()));
            !before.contains(&true) && !after.contains(&false)
        }
        _ => false,
    }
}

/// Whether a fused convolution is only that.
fn is_matrix(c: &FusedConv) -> bool {
    let (pro, epi) = (&c.prologue, &c.epilogue);
    c.kernels.iter().all(|k| k.bias.is_none()) && !pro.affine && pro.activation.is_none() && epi.activation.is_none()
}

/// Whether an operation is there for a gradient.
fn is_gradient(op: &Op) -> bool {
    matches!(
        op,
        Op::ConvAdjoint { .. }
            | Op::FusedConvAdjoint(_)
            | Op::ActivationGrad(_)
            | Op::GroupNormGrad(_)
            | Op::FusedNormGrad(_)
            | Op::AttentionGrad { .. }
            | Op::ChannelNormGrad(_)
            | Op::MaxPoolGrad(_)
            | Op::LinearAttentionGrad { .. }
            | Op::ReflectPadAdjoint(_)
            | Op::SoftmaxGrad
            | Op::RadialBasisGrad { .. }
            | Op::Outer
            | Op::VecMat
            | Op::PadChannels { .. }
            | Op::SumPositions
    )
}

/// The factor, a power of two, that brings the largest of these numbers to between 32 and 64; 1 if it is 0 or not
/// finite.
pub(in crate::backend::wgpu) fn scale(values: &[f32]) -> f32 {
    let most = values.iter().fold(0f32, |m, v| m.max(v.abs()));
    if most == 0.0 || values.iter().any(|v| !v.is_finite()) {
        return 1.0;
    }
    // Within what both the factor and its inverse can be.
    let exponent = (5 - libm::ilogbf(most)).clamp(-120, 120);
    libm::scalbnf(1.0, exponent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::vjp::vjp;
    use crate::graph::{Activation, GraphBuilder};

    /// x and another input through a softmax and an activation.
    fn graph() -> Graph {
        let mut g = GraphBuilder::new();
        let (x, y) = (g.input("x", &[3, 4]).unwrap(), g.input("y", &[3, 4]).unwrap());
        let h = g.linear("l", x, 3, true).unwrap();
        let h = g.push(Op::Softmax, &[h]).unwrap();
        let h = g.add(h, y).unwrap();
        let h = g.activation(h, Activation::Silu).unwrap();
        g.output("h", h).unwrap();
        g.finish().unwrap()
    }

    #[test]
    fn what_is_linear_in_the_cotangent_is_half() {
        assert_eq!(Halves::of(&graph(), Precision::F16), Halves::All);
        let gradient = vjp(&graph(), 0, 0).unwrap();
        assert_eq!(Halves::of(&gradient, Precision::F32), Halves::None);
        let Halves::Backward(b) = Halves::of(&gradient, Precision::F16) else { panic!() };
        assert_eq!((b.cotangent, b.outputs.as_slice()), (2, &[false, true][..]));
        for (node, linear) in gradient.nodes().iter().zip(&b.linear) {
            let cotangent = matches!(node.op, Op::Input(slot) if slot.index() == 2);
            assert_eq!(*linear, is_gradient(&node.op) || cotangent, "{}", node.op.name());
        }
    }

    #[test]
    fn a_gradient_that_is_not_linear_is_single() {
        let mut g = GraphBuilder::new();
        let (x, v) = (g.input("x", &[3, 4]).unwrap(), g.input("v", &[3, 4]).unwrap());
        let d = g.push(Op::ActivationGrad(Activation::Tanh), &[x, v]).unwrap();
        let d = g.activation(d, Activation::Relu).unwrap();
        g.output("d", d).unwrap();
        assert_eq!(Halves::of(&g.finish().unwrap(), Precision::F16), Halves::None);
    }

    #[test]
    fn scales_are_powers_of_two_that_can_be_undone() {
        for (v, want) in [(1.0, 32.0), (-40.0, 1.0), (64.0, 0.5), (0.0, 1.0), (f32::INFINITY, 1.0), (f32::NAN, 1.0)] {
            assert_eq!(scale(&[0.25, v, 0.0][1..]), want, "{v}");
        }
        for v in [f32::MAX, f32::MIN_POSITIVE, 1e-45] {
            let by = scale(&[v]);
            assert!(by.is_normal() && (1.0 / by).is_normal() && v * by * (1.0 / by) == v, "{v}");
        }
        assert_eq!(scale(&[]), 1.0);
    }
}
