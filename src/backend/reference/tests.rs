//! The oracle itself is checked by hand-worked cases here, its derivatives by finite differences, and whole networks
//! against PyTorch in tests/references/unet.rs.

use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::graph::fuse::fuse;
use crate::graph::vjp::vjp;
use crate::graph::{Activation, Binary, GraphBuilder, Padding};

#[cfg(feature = "training")]
mod params;

/// Runs a graph with one output on one sample; parameters count up 1, 2, 3 in their order.
fn run(g: GraphBuilder, inputs: &[&[f32]]) -> Vec<f32> {
    let graph = g.finish().unwrap();
    let counting = |_: &str, _: &Dims, out: &mut [f32]| {
        out.iter_mut().enumerate().for_each(|(i, v)| *v = i as f32 + 1.0);
        Ok(())
    };
    let net = Reference.compile(&graph, &counting).unwrap();
    let mut y = vec![0.0; net.outputs()[0].elements()];
    net.run(1, inputs, &mut [&mut y], &mut [], &Cancel::new()).unwrap();
    y
}

#[test]
fn a_convolution_is_a_cross_correlation_with_zero_padding() {
    let mut g = GraphBuilder::new();
    let x = g.input("x", &[1, 2, 3]).unwrap();
    let y = g.conv2d("c", x, 1, 3, 1, Padding::all(1)).unwrap();
    g.output("y", y).unwrap();
    // Kernel 1..9, bias 1. The first output sees the lower right 2x2 of the kernel: 5*1 + 6*2 + 8*4 + 9*5 = 94.
    assert_eq!(run(g, &[&[1., 2., 3., 4., 5., 6.]]), [95., 155., 107., 59., 92., 59.]);
}

#[test]
fn stride_two_with_padding_right_and_below_only() {
    let mut g = GraphBuilder::new();
    let x = g.input("x", &[1, 4, 4]).unwrap();
    let pad = Padding { bottom: 1, right: 1, ..Padding::default() };
    let y = g.conv2d("c", x, 1, 3, 2, pad).unwrap();
    assert_eq!(g.dims(y).unwrap().as_slice(), [1, 2, 2]);
    g.output("y", y).unwrap();
    let image: Vec<f32> = (0..16).map(|v| v as f32).collect();
    let naive = |r: usize, c: usize| {
        let mut sum = 1.0;
        for (a, b) in (0..3).flat_map(|a| (0..3).map(move |b| (a, b))) {
            if 2 * r + a < 4 && 2 * c + b < 4 {
                sum += (a * 3 + b + 1) as f32 * image[(2 * r + a) * 4 + 2 * c + b];
            }
        }
        sum
    };
    assert_eq!(run(g, &[&image]), [naive(0, 0), naive(0, 1), naive(1, 0), naive(1, 1)]);
}

#[test]
fn attention_over_equal_keys_is_the_mean() {
    let mut g = GraphBuilder::new();
    let q = g.input("q", &[2, 3]).unwrap();
    let k = g.input("k", &[2, 2]).unwrap();
    let v = g.input("v", &[4, 2]).unwrap();
    let y = g.push(Op::Attention { heads: 2 }, &[q, k, v]).unwrap();
    g.output("y", y).unwrap();
    let got = run(g, &[&[1.; 6], &[7., 7., -1., -1.], &[0., 2., 4., 6., 1., 1., -3., 3.]]);
    assert_eq!(got, [1., 1., 1., 5., 5., 5., 1., 1., 1., 0., 0., 0.]);
}

#[test]
fn embeddings_and_elementwise_functions() {
    let mut g = GraphBuilder::new();
    let t = g.input("t", &[1]).unwrap();
    let op = Op::SinusoidalEmbedding { dim: 4, flip_sin_to_cos: true, freq_shift: 0.0, max_period: 10000.0 };
    let e = g.push(op, &[t]).unwrap();
    let y = g.activation(e, Activation::Relu).unwrap();
    g.output("y", y).unwrap();
    let expected = [2f64.cos().max(0.0), 0.02f64.cos(), 2f64.sin(), 0.02f64.sin()].map(|v| v as f32);
    assert_eq!(run(g, &[&[2.0]]), expected);
}

#[test]
fn the_2015_operations_by_hand() {
    // Channel by channel, whatever the layout: [2, 1, 3] to [3, 2, 1].
    let mut g = GraphBuilder::new();
    let x = g.input("x", &[2, 1, 3]).unwrap();
    let y = g.reshape(x, &[3, 2, 1]).unwrap();
    g.output("y", y).unwrap();
    assert_eq!(run(g, &[&[1., 2., 3., 4., 5., 6.]]), [1., 2., 3., 4., 5., 6.]);

    // Centres (1, 2) and (3, 4), widths 1 and 2, at (2, 2): -1/2 and -(1 + 4)/8.
    let mut g = GraphBuilder::new();
    let x = g.input("x", &[2]).unwrap();
    let (centres, widths) = (g.param("c", &[2, 2]).unwrap(), g.param("w", &[2]).unwrap());
    let y = g.push(Op::RadialBasis { centres, widths }, &[x]).unwrap();
    g.output("y", y).unwrap();
    assert_eq!(run(g, &[&[2., 2.]]), [-0.5, -0.625]);

    let mut g = GraphBuilder::new();
    let x = g.input("x", &[2, 2]).unwrap();
    let y = g.push(Op::Softmax, &[x]).unwrap();
    g.output("y", y).unwrap();
    let ln3 = libm::logf(3.0);
    for (got, want) in run(g, &[&[0., 7., ln3, 7.]]).iter().zip([0.25, 0.5, 0.75, 0.5]) {
        assert!((got - want).abs() < 1e-7, "{got} for {want}");
    }

    // Matrices ((1, 2), (3, 4)) and ((10, 20), (30, 40)) at two positions, times (1, -1).
    let mut g = GraphBuilder::new();
    let (m, v) = (g.input("m", &[4, 2]).unwrap(), g.input("v", &[2]).unwrap());
    let y = g.mat_vec(m, v).unwrap();
    assert_eq!(g.dims(y).unwrap().as_slice(), [2, 2]);
    g.output("y", y).unwrap();
    assert_eq!(run(g, &[&[1., 10., 2., 20., 3., 30., 4., 40.], &[1., -1.]]), [-1., -10., -1., -10.]);

    // Two bumps over three steps: at the middle one they are equal; at the first, 1 : exp(-2 / w^2); clamped before it.
    let basis = |t: f32| {
        let mut g = GraphBuilder::new();
        let x = g.input("t", &[1]).unwrap();
        let y = g.push(Op::TemporalBasis { steps: 3, functions: 2, width: 1.0 }, &[x]).unwrap();
        g.output("y", y).unwrap();
        run(g, &[&[t]])
    };
    let first = 1.0 / (1.0 + libm::expf(-2.0));
    assert_eq!(basis(1.0), [0.5, 0.5]);
    assert!((basis(0.0)[0] - first).abs() < 1e-7 && basis(-5.0) == basis(0.0) && basis(9.0) == basis(2.0));
    assert!((basis(0.25)[0] - (0.75 * first + 0.125)).abs() < 1e-7);
    assert!(basis(f32::NAN)[1].is_nan());
}

#[test]
fn what_does_not_fit_the_2015_operations_is_refused() {
    let mut g = GraphBuilder::new();
    let x = g.input("x", &[6, 2, 2]).unwrap();
    let (four, three) = (g.input("four", &[4]).unwrap(), g.input("three", &[3]).unwrap());
    let t = g.input("t", &[1]).unwrap();
    let p = g.param("p", &[6, 2]).unwrap();
    let mut refused =
        |op: Op, args: &[ValueId]| assert_eq!(g.push(op, args).unwrap_err().kind(), crate::ErrorKind::Shape);
    refused(Op::Reshape { dims: Dims::new(&[23]).unwrap() }, &[x]);
    refused(Op::ElementBias { bias: p }, &[x]);
    refused(Op::RadialBasis { centres: p, widths: p }, &[x]);
    refused(Op::MatVec, &[x, four]);
    refused(Op::MatVec, &[three, x]);
    refused(Op::Outer, &[three, x]);
    refused(Op::VecMat, &[x, three]);
    refused(Op::SoftmaxGrad, &[x, three]);
    refused(Op::TemporalBasis { steps: 9, functions: 2, width: 0.1 }, &[three]);
    for (steps, functions, width) in [(1, 2, 0.1), (2, 1, 0.1), (2, 2, 0.0), (2, 2, f64::NAN)] {
        assert!(g.push(Op::TemporalBasis { steps, functions, width }, &[t]).is_err());
    }
}

#[test]
fn a_class_that_is_no_row_is_an_error() {
    let mut g = GraphBuilder::new();
    let t = g.input("class", &[1]).unwrap();
    let table = g.param("table.weight", &[3, 2]).unwrap();
    let y = g.push(Op::Embedding { table }, &[t]).unwrap();
    g.output("y", y).unwrap();
    let graph = g.finish().unwrap();
    let zeros = |_: &str, _: &Dims, _: &mut [f32]| Ok(());
    let net = Reference.compile(&graph, &zeros).unwrap();
    let mut y = [0.0; 2];
    for class in [3.0, -1.0, 0.5, f32::NAN] {
        assert!(net.run(1, &[&[class]], &mut [&mut y], &mut [], &Cancel::new()).is_err(), "{class}");
    }
    assert!(net.run(1, &[&[2.0]], &mut [&mut y], &mut [], &Cancel::new()).is_ok());
}

#[test]
fn wrong_buffers_and_a_cancelled_run_are_errors() {
    let mut g = GraphBuilder::new();
    let x = g.input("x", &[2]).unwrap();
    let y = g.affine(x, 2.0, 1.0).unwrap();
    g.output("y", y).unwrap();
    let graph = g.finish().unwrap();
    let net = Reference.compile(&graph, &|_: &str, _: &Dims, _: &mut [f32]| Ok(())).unwrap();
    let mut y = [0.0; 4];
    let cancel = Cancel::new();
    assert!(net.run(2, &[&[0.0; 3]], &mut [&mut y], &mut [], &cancel).is_err());
    assert!(net.run(0, &[&[]], &mut [&mut []], &mut [], &cancel).is_err());
    assert!(net.run(2, &[], &mut [&mut y], &mut [], &cancel).is_err());
    cancel.cancel();
    let e = net.run(2, &[&[0.0; 4]], &mut [&mut y], &mut [], &cancel).unwrap_err();
    assert_eq!(e.kind(), crate::ErrorKind::Cancelled);
    cancel.reset();
    net.run(2, &[&[0., 1., 2., 3.]], &mut [&mut y], &mut [], &cancel).unwrap();
    assert_eq!(y, [1., 3., 5., 7.]);
}

/// Numbers that look random, -1 to 1.
fn seeded(seed: u64, n: usize) -> Vec<f64> {
    let mix = |i: u64| {
        let h = (i + seed * 7919).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (h ^ (h >> 31)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 11
    };
    (0..n as u64).map(|i| mix(i) as f64 / (1u64 << 52) as f64 - 1.0).collect()
}

fn compiled(graph: &Graph) -> ReferenceNetwork {
    let params = graph.params().iter().enumerate().map(|(i, p)| seeded(100 + i as u64, p.dims.elements())).collect();
    let dims = |ports: &[crate::graph::Port]| ports.iter().map(|p| graph.dims(p.value)).collect();
    let (inputs, outputs, signature) = (dims(graph.inputs()), dims(graph.outputs()), graph.signature());
    ReferenceNetwork { inputs, outputs, signature, graph: graph.clone(), params }
}

/// Compares `<v, (f(x + h d) - f(x - h d)) / 2h>` with `<vjp(v), d>` in `f64`, for the graph as built and fused.
fn check_derivative(name: &str, g: GraphBuilder) {
    let graph = g.finish().unwrap();
    let with_vjp = vjp(&graph, 0, 0).unwrap_or_else(|e| panic!("{name}: {e}"));
    let (f, df) = (compiled(&graph), compiled(&with_vjp));
    let fused = compiled(&fuse(&with_vjp).unwrap());
    let cancel = Cancel::new();
    let mut inputs: Vec<Vec<f64>> = f
        .inputs
        .iter()
        .enumerate()
        .map(|(i, d)| seeded(i as u64, d.elements()).iter().map(|x| x + 0.01).collect())
        .collect();
    let (d, v) = (seeded(50, f.inputs[0].elements()), seeded(51, f.outputs[0].elements()));
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let h = 1e-5;
    let at = |scale: f64| {
        let mut shifted = inputs.clone();
        shifted[0].iter_mut().zip(&d).for_each(|(x, d)| *x += scale * h * d);
        dot(&f.evaluate(&shifted, &cancel).unwrap()[0], &v)
    };
    let numeric = (at(1.0) - at(-1.0)) / (2.0 * h);
    inputs.push(v);
    for net in [&df, &fused] {
        let exact = dot(&net.evaluate(&inputs, &cancel).unwrap()[f.outputs.len()], &d);
        assert!(
            (numeric - exact).abs() <= 1e-7 * (1.0 + exact.abs()),
            "{name}: {numeric} by differences, {exact} by vjp"
        );
    }
}

/// A test case: its name, the input's dimensions, and what is built on the input.
type Case = (&'static str, &'static [usize], fn(&mut GraphBuilder, ValueId) -> Result<ValueId>);

#[test]
fn every_derivative_agrees_with_finite_differences() {
    let cases: &[Case] = &[
        ("conv", &[2, 5, 4], |g, x| g.conv2d("c", x, 3, 3, 1, Padding::all(1))),
        ("conv, stride 2, padded below", &[2, 6, 4], |g, x| {
            g.conv2d("c", x, 3, 3, 2, Padding { bottom: 1, right: 1, ..Padding::default() })
        }),
        ("linear", &[4, 3, 2], |g, x| g.linear("l", x, 5, true)),
        ("group norm", &[4, 3, 3], |g, x| g.group_norm("n", x, 2, 1e-3)),
        ("fused residual block", &[4, 4, 4], |g, x| {
            let h = g.group_norm("n", x, 2, 1e-3)?;
            let h = g.activation(h, Activation::Silu)?;
            let h = g.conv2d("c", h, 4, 3, 1, Padding::all(1))?;
            let h = g.add(h, x)?;
            g.affine(h, 0.7, 0.0)
        }),
        ("a product of two values that both depend", &[4, 3, 3], |g, x| {
            let up = g.push(Op::AveragePool { factor: 3 }, &[x])?;
            let up = g.push(Op::UpsampleNearest { factor: 3 }, &[up])?;
            g.mul(x, up)
        }),
        ("concat, slice, upsample", &[4, 2, 2], |g, x| {
            let a = g.slice_channels(x, 1, 2)?;
            let b = g.activation(x, Activation::Tanh)?;
            let c = g.concat(&[a, b, a])?;
            g.push(Op::UpsampleNearest { factor: 3 }, &[c])
        }),
        ("average pool that drops an edge", &[2, 5, 5], |g, x| g.push(Op::AveragePool { factor: 2 }, &[x])),
        ("fir down", &[2, 6, 4], |g, x| {
            g.push(Op::Fir { taps: vec![0.1, 0.4, 0.3, 0.2], up: 1, down: 2, pad: [1, 1] }, &[x])
        }),
        ("fir up", &[2, 3, 4], |g, x| {
            g.push(Op::Fir { taps: vec![0.1, 0.4, 0.3, 0.2], up: 2, down: 1, pad: [2, 1] }, &[x])
        }),
        ("fir that crops", &[1, 6, 6], |g, x| {
            g.push(Op::Fir { taps: vec![0.5, 0.3, 0.2], up: 1, down: 1, pad: [-1, 2] }, &[x])
        }),
        ("self attention", &[4, 2, 3], |g, x| {
            let [q, k, v] = ["q", "k", "v"].map(|n| g.linear(n, x, 4, true));
            g.push(Op::Attention { heads: 2 }, &[q?, k?, v?])
        }),
        ("attention to another input", &[4, 5], |g, x| {
            let context = g.input("context", &[4, 3])?;
            g.push(Op::Attention { heads: 1 }, &[x, context, context])
        }),
        ("a channel vector from the input", &[3], |g, x| {
            let image = g.input("image", &[3, 2, 2])?;
            let y = g.mul(image, x)?;
            g.add(y, x)
        }),
        ("flatten, dense, back", &[2, 3, 2], |g, x| {
            let h = g.reshape(x, &[12])?;
            let h = g.linear("l", h, 12, true)?;
            let h = g.reshape(h, &[3, 2, 2])?;
            let bias = g.param("b", &[3, 2, 2])?;
            let h = g.push(Op::ElementBias { bias }, &[h])?;
            g.activation(h, Activation::Tanh)
        }),
        ("radial basis", &[3, 2, 2], |g, x| {
            let (centres, widths) = (g.param("c", &[5, 3])?, g.param("w", &[5])?);
            g.push(Op::RadialBasis { centres, widths }, &[x])
        }),
        ("softmax", &[5, 2, 2], |g, x| {
            let y = g.affine(x, 3.0, 0.0)?;
            g.push(Op::Softmax, &[y])
        }),
        ("a matrix from the input times a basis of time", &[6, 2, 3], |g, x| {
            let t = g.input("t", &[1])?;
            let v = g.push(Op::TemporalBasis { steps: 3, functions: 3, width: 0.7 }, &[t])?;
            g.mat_vec(x, v)
        }),
        ("a row of a table times the input", &[4], |g, x| {
            let t = g.input("t", &[1])?;
            let zero = g.affine(t, 0.0, 1.0)?;
            let m = g.embedding("table", zero, 3, 5 * 4)?;
            g.mat_vec(m, x)
        }),
        ("a matrix at many positions times the input", &[4], |g, x| {
            let m = g.input("m", &[8, 3, 2])?;
            let y = g.mat_vec(m, x)?;
            g.activation(y, Activation::Tanh)
        }),
        ("a product whose factors both depend", &[6], |g, x| {
            let v = g.linear("l", x, 3, false)?;
            let y = g.mat_vec(x, v)?;
            g.mat_vec(x, y)
        }),
        ("division by an input", &[3, 2, 2], |g, x| {
            let sigma = g.input("sigma", &[1])?;
            g.div(x, sigma)
        }),
    ];
    for &(name, dims, build) in cases {
        let mut g = GraphBuilder::new();
        let x = g.input("x", dims).unwrap();
        let y = build(&mut g, x).unwrap_or_else(|e| panic!("{name}: {e}"));
        g.output("y", y).unwrap();
        check_derivative(name, g);
    }
    let slope = 0.05;
    use Activation::{Gelu, LeakyRelu, Mish, Relu, Sigmoid, Silu, Softplus, Tanh};
    for f in [Silu, Mish, Gelu, Relu, LeakyRelu { slope }, Sigmoid, Tanh, Softplus] {
        let mut g = GraphBuilder::new();
        let x = g.input("x", &[9]).unwrap();
        let y = g.affine(x, 4.0, 0.0).unwrap();
        let y = g.activation(y, f).unwrap();
        g.output("y", y).unwrap();
        check_derivative("activation", g);
    }
}

#[test]
fn what_has_no_derivative_is_named() {
    let mut g = GraphBuilder::new();
    let x = g.input("x", &[1]).unwrap();
    let y = g.input("y", &[1]).unwrap();
    let e = g
        .push(Op::SinusoidalEmbedding { dim: 4, flip_sin_to_cos: true, freq_shift: 0.0, max_period: 1e4 }, &[x])
        .unwrap();
    let z = g.push(Op::Binary(Binary::Div), &[e, y]).unwrap();
    g.output("z", z).unwrap();
    let graph = g.finish().unwrap();
    assert!(vjp(&graph, 0, 0).unwrap_err().message().contains("sinusoidal_embedding"));
    assert!(vjp(&graph, 1, 0).is_err() && vjp(&graph, 0, 2).is_err());
    let mut g = GraphBuilder::new();
    let x = g.input("x", &[2]).unwrap();
    g.input("unused", &[2]).unwrap();
    g.output("x", x).unwrap();
    assert!(vjp(&g.finish().unwrap(), 0, 1).unwrap_err().message().contains("does not depend"));
}
