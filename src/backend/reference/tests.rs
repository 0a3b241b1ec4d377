//! The oracle itself is checked by hand-worked cases here and against PyTorch in tests/unet_golden.rs.

use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::graph::{Activation, GraphBuilder, Padding};

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
