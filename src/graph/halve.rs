//! Precision as a pass: layers whose inputs and weights are rounded to bf16.
//!
//! A layer (a convolution or a linear map) whose weight's [`Param`](super::Param) says so rounds its input and its
//! weights to the nearest bf16, ties to even, and adds their products, which are exact in f32, in f32. All else is as
//! it was. So every backend that has such layers computes the same numbers but for the roundings of the sums.

use super::{Graph, LayerPrecision, Node, Op, ValueId};

/// The fewest output channels, and the fewest weights of each, of a layer of bf16: what has fewer, as the first and the
/// last layer of a network, saves nothing.
const LEAST: [usize; 2] = [16, 64];

/// The fewest keys of an attention of bf16.
const KEYS: usize = 32;

/// Pixels up to which a 3x3 layer is one of bf16 on every backend. With more, Winograd's method in f32 has so few
/// products that a processor's dot products of bf16 do not make up for it (benches/README.md); tiles do.
const PIXELS: usize = 64;

impl Graph {
    /// Whether a layer may be one of bf16: of more than one position, since what has one is few values.
    fn suits_bf16(&self, node: &Node, x: ValueId, all: bool) -> bool {
        let Some((kernel, window)) = node.layer() else { return false };
        let (weight, dims) = (self.param(kernel.weight).dims, self.dims(x));
        let (outs, fan_in) = (weight.channels(), weight.positions());
        let ins = weight.as_slice().get(1).copied().unwrap_or(0);
        let filtered = window.is_some_and(|w| w.kernel == [3, 3] && w.stride == 1 && w.dilation == 1);
        let many = filtered && dims.positions() > PIXELS;
        // Two channels are multiplied at once.
        node.ty.dims.positions() > 1 && (all || !many) && ins % 2 == 0 && outs >= LEAST[0] && fan_in >= LEAST[1]
    }

    /// The same graph with layers of bf16: those that suit. All layers of a value are of bf16 or none is, and all uses
    /// of a weight are. With `all` they are also those that Winograd's method would do in f32, and attention is of bf16
    /// too.
    pub(crate) fn halved(mut self, all: bool) -> Self {
        let suited = self.layers_by_input(|graph, node, x| graph.suits_bf16(node, x, all));
        for weight in suited.into_iter().flat_map(|(_, weights)| weights) {
            self.params[weight.index()].precision = LayerPrecision::Bf16;
        }
        for id in (0..self.nodes.len()).filter(|_| all) {
            let keys = self.nodes[id].args.get(1).map_or(0, |k| self.dims(*k).positions());
            match self.nodes[id].op {
                Op::Attention { heads } if keys >= KEYS => self.nodes[id].op = Op::AttentionBf16 { heads },
                _ => {}
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{GraphBuilder, Padding};

    #[test]
    fn only_layers_that_gain_are_of_bf16() {
        let mut g = GraphBuilder::new();
        let x = g.input("x", &[3, 16, 16]).unwrap();
        let h = g.conv2d("first", x, 32, 3, 1, Padding::all(1)).unwrap();
        let h = g.conv2d("large", h, 32, 3, 1, Padding::all(1)).unwrap();
        let h = g.conv2d("pointwise", h, 64, 1, 1, Padding::all(0)).unwrap();
        let h = g.conv2d("down", h, 64, 3, 2, Padding::all(1)).unwrap();
        let h = g.conv2d("small", h, 64, 3, 1, Padding::all(1)).unwrap();
        let y = g.conv2d("last", h, 3, 3, 1, Padding::all(1)).unwrap();
        g.output("y", y).unwrap();
        let e = g.input("e", &[64]).unwrap();
        let e = g.linear("embedding", e, 64, true).unwrap();
        g.output("e", e).unwrap();
        let graph = g.finish().unwrap();
        // "pointwise" has 32 weights for each channel; "last" has few channels.
        for (all, want) in
            [(false, &["down.weight", "small.weight"][..]), (true, &["large.weight", "down.weight", "small.weight"])]
        {
            let graph = graph.clone().halved(all);
            let of = graph.params().iter().filter(|p| p.precision == LayerPrecision::Bf16);
            assert!(of.map(|p| p.name.as_str()).eq(want.iter().copied()));
        }
    }
}
