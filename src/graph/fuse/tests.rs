//! The fused graph computes what the graph computes, and it is as fused as it should be.

use alloc::vec::Vec;
use alloc::{format, vec};

use super::*;
use crate::Cancel;
use crate::backend::reference::Reference;
use crate::backend::{Backend, ParamSource};
use crate::graph::{GraphBuilder, Padding};
use crate::tensor::Dims;

/// A value that depends on a name and an index and on nothing else, within -0.5 .. 0.5.
fn value(name: &str, i: usize) -> f32 {
    let h = name.bytes().fold(i as u64 * 0x9E37_79B9, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01B3));
    ((h ^ (h >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 40) as f32 / (1u64 << 24) as f32 - 0.5
}

struct Named;

impl ParamSource for Named {
    fn read(&self, name: &str, _: &Dims, out: &mut [f32]) -> Result<()> {
        out.iter_mut().enumerate().for_each(|(i, v)| *v = value(name, i));
        Ok(())
    }
}

fn run(graph: &Graph, batch: usize) -> Vec<Vec<f32>> {
    let net = Reference.compile(graph, &Named).unwrap();
    let inputs: Vec<Vec<f32>> = graph
        .inputs()
        .iter()
        .zip(net.inputs())
        .map(|(port, d)| (0..batch * d.elements()).map(|i| 2.0 * value(&port.name, i)).collect())
        .collect();
    let mut outputs: Vec<Vec<f32>> = net.outputs().iter().map(|d| vec![0.0; batch * d.elements()]).collect();
    let refs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    let mut outs: Vec<&mut [f32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
    net.run(batch, &refs, &mut outs, &mut [], &Cancel::new()).unwrap();
    outputs
}

/// Fuses, checks that both graphs agree to `f64` rounding (seen through `f32` outputs), and gives the fused operations'
/// names.
fn fused_ops(graph: &Graph) -> (Graph, Vec<&'static str>) {
    let fused = fuse(graph).unwrap();
    for (a, b) in run(graph, 2).iter().zip(run(&fused, 2)) {
        for (x, y) in a.iter().zip(b) {
            assert!((x - y).abs() <= 2.0 * f32::EPSILON * x.abs().max(1.0), "{x} became {y}");
        }
    }
    assert_eq!(graph.params(), fused.params());
    assert_eq!(graph.flops(), fused.flops());
    let names = fused.nodes().iter().map(|n| n.op.name()).collect();
    (fused, names)
}

/// A residual block as diffusers has it, on a concatenation, with a shortcut.
fn resnet(g: &mut GraphBuilder, name: &str, x: ValueId, emb: ValueId, out: usize, scale_shift: bool) -> ValueId {
    let n = |s: &str| format!("{name}.{s}");
    let h = g.group_norm(&n("norm1"), x, 2, 1e-5).unwrap();
    let h = g.activation(h, Activation::Silu).unwrap();
    let mut h = g.conv2d(&n("conv1"), h, out, 3, 1, Padding::all(1)).unwrap();
    let t = g.activation(emb, Activation::Silu).unwrap();
    let t = g.linear(&n("time_emb_proj"), t, if scale_shift { 2 * out } else { out }, true).unwrap();
    if !scale_shift {
        h = g.add(h, t).unwrap();
    }
    h = g.group_norm(&n("norm2"), h, 2, 1e-5).unwrap();
    if scale_shift {
        let scale = g.slice_channels(t, 0, out).unwrap();
        let scale = g.affine(scale, 1.0, 1.0).unwrap();
        let shift = g.slice_channels(t, out, out).unwrap();
        h = g.mul(h, scale).unwrap();
        h = g.add(h, shift).unwrap();
    }
    h = g.activation(h, Activation::Silu).unwrap();
    h = g.conv2d(&n("conv2"), h, out, 3, 1, Padding::all(1)).unwrap();
    let shortcut = g.conv2d(&n("conv_shortcut"), x, out, 1, 1, Padding::all(0)).unwrap();
    let y = g.add(shortcut, h).unwrap();
    g.affine(y, 0.5, 0.0).unwrap()
}

#[test]
fn a_residual_block_on_a_concatenation_becomes_five_operations() {
    for scale_shift in [false, true] {
        let mut g = GraphBuilder::new();
        let a = g.input("a", &[3, 4, 5]).unwrap();
        let b = g.input("b", &[1, 4, 5]).unwrap();
        let emb = g.input("emb", &[6]).unwrap();
        let x = g.concat(&[a, b]).unwrap();
        let y = resnet(&mut g, "r", x, emb, 6, scale_shift);
        g.output("y", y).unwrap();
        let (fused, mut names) = fused_ops(&g.finish().unwrap());
        names.sort_unstable();
        let convs = names.iter().filter(|n| **n == "fused_conv").count();
        let norms = names.iter().filter(|n| **n == "group_norm_affine").count();
        // conv1, conv2, the shortcut, the time projection; with scale-shift also two slices and the 1 + scale.
        assert_eq!((convs, norms), (4, 2), "{names:?}");
        let rest = names.iter().filter(|n| !["fused_conv", "group_norm_affine", "input"].contains(n)).count();
        assert_eq!(rest, if scale_shift { 3 } else { 0 }, "{names:?}");
        let last = fused.node(fused.outputs()[0].value);
        let Op::FusedConv(c) = &last.op else { panic!("{last:?}") };
        assert!(c.epilogue.residual && c.epilogue.scale == 0.5 && c.prologue.sources == 2);
    }
}

#[test]
fn all_time_projections_are_one() {
    let mut g = GraphBuilder::new();
    let x = g.input("x", &[4, 3, 3]).unwrap();
    let emb = g.input("emb", &[6]).unwrap();
    let h = resnet(&mut g, "r0", x, emb, 4, false);
    let h = resnet(&mut g, "r1", h, emb, 2, true);
    let y = resnet(&mut g, "r2", h, emb, 4, false);
    g.output("y", y).unwrap();
    let (fused, _) = fused_ops(&g.finish().unwrap());
    let stacked = fused.nodes().iter().find_map(|n| match &n.op {
        Op::FusedConv(c) if c.kernels.len() == 3 => Some((c.prologue.activation, n.ty.dims.channels())),
        _ => None,
    });
    assert_eq!(stacked, Some((Some(Activation::Silu), 4 + 4 + 4)));
}

#[test]
fn attention_reads_slices_of_one_projection() {
    let mut g = GraphBuilder::new();
    let x = g.input("x", &[4, 2, 3]).unwrap();
    let h = g.group_norm("group_norm", x, 2, 1e-6).unwrap();
    let [q, k, v] = ["to_q", "to_k", "to_v"].map(|n| g.linear(n, h, 4, true).unwrap());
    let h = g.push(Op::Attention { heads: 2 }, &[q, k, v]).unwrap();
    let h = g.linear("to_out.0", h, 4, true).unwrap();
    let y = g.add(h, x).unwrap();
    g.output("y", y).unwrap();
    let (_, names) = fused_ops(&g.finish().unwrap());
    let expected = [
        "input",
        "group_norm_affine",
        "fused_conv",
        "slice_channels",
        "slice_channels",
        "slice_channels",
        "attention",
        "fused_conv",
    ];
    assert_eq!(names, expected);
}

#[test]
fn upsampling_and_the_head_go_into_their_convolutions() {
    let mut g = GraphBuilder::new();
    let x = g.input("x", &[4, 2, 3]).unwrap();
    let up = g.push(Op::UpsampleNearest { factor: 2 }, &[x]).unwrap();
    let h = g.conv2d("up", up, 6, 3, 1, Padding::all(1)).unwrap();
    let h = g.group_norm("norm_out", h, 3, 1e-5).unwrap();
    let h = g.activation(h, Activation::Silu).unwrap();
    let y = g.conv2d("out", h, 2, 3, 1, Padding::all(1)).unwrap();
    g.output("y", y).unwrap();
    let (_, names) = fused_ops(&g.finish().unwrap());
    assert_eq!(names, ["input", "fused_conv", "group_norm_affine", "fused_conv"]);
}

#[test]
fn values_used_twice_stay() {
    let mut g = GraphBuilder::new();
    let x = g.input("x", &[4, 2, 2]).unwrap();
    let n = g.group_norm("n", x, 2, 1e-5).unwrap();
    let a = g.activation(n, Activation::Mish).unwrap();
    let c1 = g.conv2d("c1", a, 4, 3, 1, Padding::all(1)).unwrap();
    let c2 = g.conv2d("c2", a, 4, 3, 1, Padding::all(1)).unwrap();
    let sum = g.add(c1, c2).unwrap();
    let both = g.concat(&[sum, c1]).unwrap();
    g.output("y", both).unwrap();
    g.output("a", a).unwrap();
    let (_, names) = fused_ops(&g.finish().unwrap());
    assert_eq!(names, ["input", "group_norm_affine", "apply_affine", "fused_conv", "fused_conv", "concat"]);
}

#[test]
fn an_unused_input_stays_an_input() {
    let mut g = GraphBuilder::new();
    let x = g.input("x", &[2]).unwrap();
    g.input("class_labels", &[1]).unwrap();
    let y = g.linear("l", x, 3, false).unwrap();
    let y = g.activation(y, Activation::Gelu).unwrap();
    g.output("y", y).unwrap();
    let (fused, names) = fused_ops(&g.finish().unwrap());
    assert_eq!(fused.inputs().len(), 2);
    assert_eq!(names, ["input", "input", "fused_conv"]);
}
