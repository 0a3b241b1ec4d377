//! Activations of the graph in terms of the vector functions.

use super::super::isa::Isa;
use super::super::vmath;
use crate::graph::Activation;

/// The activation as one that kernels apply themselves, if they have it.
pub(in super::super) fn in_kernel(f: Option<Activation>) -> Option<vmath::Activation> {
    match f {
        None => Some(vmath::Activation::Identity),
        Some(Activation::Silu) => Some(vmath::Activation::Silu),
        Some(Activation::Gelu) => Some(vmath::Activation::Gelu),
        Some(Activation::GeluTanh) => Some(vmath::Activation::GeluTanh),
        Some(Activation::Mish) => Some(vmath::Activation::Mish),
        Some(Activation::Relu) => Some(vmath::Activation::Relu),
        Some(_) => None,
    }
}

/// Applies `f` to all of `x`. Errors are as [`vmath`] states them; leaky ReLU has none but its product's.
pub(in super::super) fn activate(isa: Isa, f: Activation, x: &mut [f32]) {
    match (in_kernel(Some(f)), f) {
        (Some(f), _) => _ = vmath::activate(isa, f, x),
        (None, Activation::Sigmoid) => _ = vmath::sigmoid(isa, x),
        (None, Activation::Tanh) => _ = vmath::tanh(isa, x),
        (None, Activation::LeakyRelu { slope }) => {
            x.iter_mut().for_each(|v| *v = if *v > 0.0 { *v } else { *v * slope })
        }
        // Softplus, of the activations that are not matched above.
        (None, _) => _ = vmath::softplus(isa, x),
    }
}
