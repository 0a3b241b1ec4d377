//! The gradients of every operation, by its parameters and by its arguments, against finite differences in `f64`.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};

use super::*;
use crate::graph::gradients::gradients;
use crate::graph::{ChannelNorm, Kernel, NormKind, Window};

/// Relative to the larger of the two; the promise is 1e-3.
const BOUND: f64 = 1e-6;
const STEP: f64 = 1e-5;

/// Operations without a gradient, each with the reason.
const NONE: [(&str, &str); 28] = [
    ("input", "makes its value of nothing"),
    ("sinusoidal_embedding", "has no parameter, and its argument is the time, which no parameter moves"),
    ("nearest_row", "is constant almost everywhere; its derivative is the straight-through one of VQ-VAE"),
    ("conv_adjoint", "stands in backward sweeps, which are not differentiated again"),
    ("activation_grad", "the same"),
    ("group_norm_grad", "the same"),
    ("attention_grad", "the same"),
    ("pad_channels", "the same"),
    ("sum_positions", "the same"),
    ("param_grad", "the same"),
    ("attention_bf16", "is made by the pass of bf16, and gradients are taken before it"),
    ("outer", "stands in backward sweeps"),
    ("vec_mat", "the same"),
    ("softmax_grad", "the same"),
    ("radial_basis_grad", "the same"),
    ("temporal_basis", "has no parameter, and its argument is the time"),
    ("group_norm_affine", "is made by fusion, and gradients are taken before it"),
    ("apply_affine", "the same"),
    ("fused_conv", "the same"),
    ("fused_norm_grad", "is made by fusion of a backward sweep"),
    ("fused_conv_adjoint", "the same"),
    ("channel_norm_grad", "stands in backward sweeps"),
    ("linear_attention_grad", "the same"),
    ("max_pool_grad", "the same"),
    ("reflect_pad_adjoint", "the same"),
    ("position_embedding", "has neither parameter nor argument"),
    ("one_hot", "has no parameter, and its argument is a number of a class"),
    ("parameter", "is refused by name: `what_has_no_gradient_is_named`"),
];

/// A graph of which each input is differentiated too, or none.
struct Case {
    name: String,
    graph: Graph,
    inputs: bool,
}

fn case(name: impl ToString, inputs: bool, build: impl FnOnce(&mut GraphBuilder) -> Result<Vec<ValueId>>) -> Case {
    let name = name.to_string();
    let mut g = GraphBuilder::new();
    let outputs = build(&mut g).unwrap_or_else(|e| panic!("{name}: {e}"));
    for (i, y) in outputs.into_iter().enumerate() {
        g.output(&alloc::format!("y{i}"), y).unwrap();
    }
    Case { name, graph: g.finish().unwrap(), inputs }
}

fn convolutions(cases: &mut Vec<Case>) {
    let lower = Padding { bottom: 1, right: 1, ..Padding::default() };
    for (k, stride, padding) in
        [(3, 1, Padding::all(1)), (3, 2, lower), (1, 2, Padding::all(0)), (5, 1, Padding::all(2))]
    {
        cases.push(case(alloc::format!("conv, kernel {k}, stride {stride}"), true, |g| {
            let x = g.input("x", &[2, 6, 5])?;
            Ok(vec![g.conv2d("c", x, 3, k, stride, padding)?])
        }));
    }
    for dims in [&[4][..], &[4, 3], &[4, 3, 2]] {
        cases.push(case(alloc::format!("linear at {dims:?}"), true, |g| {
            let x = g.input("x", dims)?;
            let y = g.linear("l", x, 5, true)?;
            Ok(vec![g.linear("m", y, 2, false)?])
        }));
    }
    cases.push(case("one weight in two layers, and two outputs", true, |g| {
        let x = g.input("x", &[3, 4, 4])?;
        let h = g.conv2d("c", x, 3, 3, 1, Padding::all(1))?;
        let h = g.activation(h, Activation::Tanh)?;
        let y = g.conv2d("c", h, 3, 3, 1, Padding::all(1))?;
        Ok(vec![y, h])
    }));
}

fn others(cases: &mut Vec<Case>) {
    cases.push(case("group norm", true, |g| {
        let x = g.input("x", &[4, 3, 3])?;
        Ok(vec![g.group_norm("n", x, 2, 1e-3)?])
    }));
    let slope = 0.05;
    use Activation::{Gelu, LeakyRelu, Mish, Relu, Sigmoid, Silu, Softplus, Tanh};
    for f in [Silu, Mish, Gelu, Relu, LeakyRelu { slope }, Sigmoid, Tanh, Softplus] {
        cases.push(case(alloc::format!("{f:?}"), true, |g| {
            let x = g.input("x", &[3, 4])?;
            let y = g.linear("l", x, 6, true)?;
            Ok(vec![g.activation(y, f)?])
        }));
    }
    for f in [Binary::Add, Binary::Mul, Binary::Div] {
        for by in [&[3, 2, 2][..], &[3], &[1]] {
            cases.push(case(alloc::format!("{f:?} of {by:?}"), true, |g| {
                let (a, b) = (g.input("a", &[3, 2, 2])?, g.input("b", by)?);
                let b = g.affine(b, 0.5, 2.0)?;
                Ok(vec![g.push(Op::Binary(f), &[a, b])?])
            }));
        }
    }
    cases.push(case("concat, slice, upsample, pool, affine", true, |g| {
        let x = g.input("x", &[3, 4, 4])?;
        let h = g.linear("l", x, 4, true)?;
        let p = g.push(Op::AveragePool { factor: 2 }, &[h])?;
        let p = g.push(Op::UpsampleNearest { factor: 2 }, &[p])?;
        let both = g.concat(&[p, x, h])?;
        let s = g.slice_channels(both, 2, 7)?;
        Ok(vec![g.affine(s, -0.7, 0.1)?])
    }));
    cases.push(case("fir", true, |g| {
        let x = g.input("x", &[2, 6, 4])?;
        Ok(vec![g.push(Op::Fir { taps: vec![0.1, 0.4, 0.3, 0.2], up: 1, down: 2, pad: [1, 1] }, &[x])?])
    }));
    cases.push(case("attention", true, |g| {
        let x = g.input("x", &[4, 2, 3])?;
        let [q, k, v] = ["q", "k", "v"].map(|n| g.linear(n, x, 4, true));
        Ok(vec![g.push(Op::Attention { heads: 2 }, &[q?, k?, v?])?])
    }));
    for (log, flip_sin_to_cos) in [(true, false), (false, true)] {
        cases.push(case("fourier embedding", false, |g| {
            let t = g.input("time", &[1])?;
            let weight = g.param("w", &[4])?;
            Ok(vec![g.push(Op::FourierEmbedding { weight, log, flip_sin_to_cos }, &[t])?])
        }));
    }
    cases.push(case("sinusoidal and learned embeddings under a linear map", false, |g| {
        let (t, class) = (g.input("time", &[1])?, g.input("class", &[1])?);
        let wave = Op::SinusoidalEmbedding { dim: 4, flip_sin_to_cos: true, freq_shift: 0.0, max_period: 1e4 };
        let t = g.push(wave, &[t])?;
        let t = g.linear("l", t, 3, true)?;
        let table = g.param("table", &[3, 3])?;
        let class = g.push(Op::Embedding { table }, &[class])?;
        Ok(vec![g.add(t, class)?])
    }));
}

fn of_2015(cases: &mut Vec<Case>) {
    cases.push(case("a bias for each element, reshaped", true, |g| {
        let x = g.input("x", &[3, 2, 2])?;
        let bias = g.param("b", &[3, 2, 2])?;
        let y = g.push(Op::ElementBias { bias }, &[x])?;
        let y = g.push(Op::Reshape { dims: Dims::new(&[12])? }, &[y])?;
        let y = g.linear("l", y, 4, true)?;
        Ok(vec![g.push(Op::Reshape { dims: Dims::new(&[2, 2])? }, &[y])?])
    }));
    for dims in [&[2][..], &[2, 3]] {
        cases.push(case("normalised radial basis functions", true, |g| {
            let x = g.input("x", dims)?;
            let (centres, widths) = (g.param("centres", &[4, 2])?, g.param("widths", &[4])?);
            let y = g.push(Op::RadialBasis { centres, widths }, &[x])?;
            Ok(vec![y, g.push(Op::Softmax, &[y])?])
        }));
    }
    for dims in [&[12][..], &[12, 3]] {
        cases.push(case("a matrix that is a value", true, |g| {
            let (m, v) = (g.input("m", dims)?, g.input("v", &[4])?);
            let v = g.linear("l", v, 3, true)?;
            Ok(vec![g.push(Op::MatVec, &[m, v])?])
        }));
    }
    cases.push(case("a readout for each step, and one by the temporal basis", false, |g| {
        let (x, t) = (g.input("x", &[3])?, g.input("class", &[1])?);
        let table = g.param("table", &[4, 6])?;
        let m = g.push(Op::Embedding { table }, &[t])?;
        let y = g.push(Op::MatVec, &[m, x])?;
        let time = g.input("time", &[1])?;
        let basis = g.push(Op::TemporalBasis { steps: 7, functions: 3, width: 0.5 }, &[time])?;
        let m = g.linear("l", x, 6, true)?;
        Ok(vec![y, g.push(Op::MatVec, &[m, basis])?])
    }));
}

/// Operations without parameters of their own, behind a layer that has some.
fn layouts(cases: &mut Vec<Case>) {
    let norm = |kind, groups| Op::ChannelNorm(ChannelNorm { kind, groups, eps: 1e-3, weight: None, bias: None });
    let pool = Op::MaxPool(Window::new([2, 2], 2, Padding::all(0)));
    let mirror = Op::ReflectPad(Padding { top: 1, bottom: 2, left: 0, right: 1 });
    let ops = [
        ("layer norm", norm(NormKind::Layer, 1)),
        ("rms norm of two heads", norm(NormKind::Rms, 2)),
        ("l2 norm", norm(NormKind::L2, 1)),
        ("depth to space", Op::DepthToSpace { factor: [2, 1], blocks_first: false }),
        ("space to depth", Op::SpaceToDepth { factor: [2, 2], blocks_first: true }),
        ("shuffle channels", Op::ShuffleChannels { rows: 2, columns: 2 }),
        ("slice positions", Op::SlicePositions { start: 3, len: 7 }),
        ("pad positions", Op::PadPositions { before: 2, after: 1 }),
        ("mirrored edges", mirror),
        ("max pool", pool),
    ];
    for (name, op) in ops {
        cases.push(case(name, true, |g| {
            let x = g.input("x", &[3, 4, 6])?;
            let y = g.linear("l", x, 4, true)?;
            Ok(vec![g.push(op, &[y])?])
        }));
    }
    cases.push(case("linear attention over all positions and some again", true, |g| {
        let x = g.input("x", &[4, 2, 3])?;
        let [q, k, v] = ["q", "k", "v"].map(|n| g.linear(n, x, 4, true));
        let (k, v) = (k?, v?);
        let k = g.push(Op::ConcatPositions, &[k, k])?;
        let v = g.push(Op::ConcatPositions, &[v, x])?;
        Ok(vec![g.push(Op::LinearAttention { heads: 2 }, &[q?, k, v])?])
    }));
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    layouts(&mut cases);
    convolutions(&mut cases);
    others(&mut cases);
    of_2015(&mut cases);
    cases
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The network with drawn parameters; widths stay away from 0.
fn drawn(graph: &Graph) -> ReferenceNetwork {
    let mut net = compiled(graph);
    for (_, values) in graph.params().iter().zip(&mut net.params).filter(|(p, _)| p.name == "widths") {
        values.iter_mut().for_each(|w| *w = w.abs() + 0.5);
    }
    net
}

/// Holds all directional derivatives of the inner product of the outputs with drawn cotangents to central differences.
fn check(case: &Case) -> f64 {
    let Case { name, graph, inputs: differentiate } = case;
    let wanted: Vec<usize> = if *differentiate { (0..graph.inputs().len()).collect() } else { Vec::new() };
    let whole = gradients(graph, &wanted).unwrap_or_else(|e| panic!("{name}: {e}"));
    let (f, df) = (drawn(graph), drawn(&whole.graph));
    let cancel = Cancel::new();
    let inputs: Vec<Vec<f64>> = f
        .graph
        .inputs()
        .iter()
        .zip(&f.inputs)
        .enumerate()
        .map(|(i, (port, d))| match &*port.name {
            "class" => vec![1.0],
            "time" => vec![2.7],
            _ => seeded(i as u64, d.elements()).iter().map(|x| x + 0.01).collect(),
        })
        .collect();
    let cotangents: Vec<Vec<f64>> =
        (0..f.outputs.len()).map(|i| seeded(50 + i as u64, f.outputs[i].elements())).collect();
    let value = |net: &ReferenceNetwork, inputs: &[Vec<f64>]| {
        let y = net.evaluate(inputs, &cancel).unwrap();
        y.iter().zip(&cotangents).map(|(y, v)| dot(y, v)).sum::<f64>()
    };
    let all = df.evaluate(&[inputs.clone(), cotangents.clone()].concat(), &cancel).unwrap();
    let found = &all[f.outputs.len()..];
    let mut worst = 0f64;
    let mut hold = |what: &str, exact: f64, numeric: f64| {
        let off = (exact - numeric).abs() / exact.abs().max(numeric.abs()).max(1e-2);
        assert!(off <= BOUND, "{name} by {what}: {exact} exactly, {numeric} by differences");
        worst = worst.max(off);
    };
    for (&i, gradient) in wanted.iter().zip(found) {
        let d = seeded(70 + i as u64, gradient.len());
        let at = |by: f64| {
            let mut moved = inputs.clone();
            moved[i].iter_mut().zip(&d).for_each(|(x, d)| *x += by * d);
            value(&f, &moved)
        };
        hold(&graph.inputs()[i].name, dot(gradient, &d), (at(STEP) - at(-STEP)) / (2.0 * STEP));
    }
    for (i, param) in graph.params().iter().enumerate() {
        let d = seeded(90 + i as u64, param.dims.elements());
        let parts = whole.params.iter().zip(&found[wanted.len()..]).filter(|(id, _)| id.index() == i);
        let exact: f64 = parts.map(|(_, gradient)| dot(gradient, &d)).sum();
        let at = |by: f64| {
            let mut net = drawn(graph);
            net.params[i].iter_mut().zip(&d).for_each(|(w, d)| *w += by * d);
            value(&net, &inputs)
        };
        hold(&param.name, exact, (at(STEP) - at(-STEP)) / (2.0 * STEP));
    }
    worst
}

/// The names of all operations, from the source of [`Op::name`], so that a new one cannot be forgotten here.
fn operations() -> BTreeSet<&'static str> {
    let source = include_str!("../../../graph/op.rs");
    let names = &source[source.find("pub fn name(").unwrap()..source.find("pub fn for_each_param").unwrap()];
    names.lines().filter_map(|l| l.split("=> \"").nth(1)?.split('"').next()).collect()
}

#[test]
fn gradients_of_every_operation_are_those_of_finite_differences() {
    let cases = cases();
    let mut covered: BTreeSet<&str> = NONE.iter().map(|(name, _)| *name).collect();
    for case in &cases {
        let worst = check(case);
        std::println!("{}: {worst:.1e}", case.name);
        covered.extend(case.graph.nodes().iter().map(|n| n.op.name()));
    }
    let missing: Vec<_> = operations().into_iter().filter(|name| !covered.contains(name)).collect();
    assert!(missing.is_empty(), "no case for {missing:?}");
    assert!(operations().len() > 20);
    // A name in the table of exceptions is an operation, and has no derivative.
    assert!(NONE.iter().all(|(name, _)| operations().contains(name)));
}

#[test]
fn what_has_no_gradient_is_named() {
    let mut g = GraphBuilder::new();
    let x = g.input("x", &[3, 4, 4]).unwrap();
    let y = g.conv2d("c", x, 2, 3, 1, Padding::all(1)).unwrap();
    g.output("y", y).unwrap();
    let graph = g.finish().unwrap();
    let fused = crate::graph::fuse::fuse(&graph).unwrap();
    assert!(gradients(&fused, &[]).unwrap_err().message().contains("fused_conv"));
    assert!(gradients(&graph, &[1]).unwrap_err().message().contains("input 1 of 1"));
    for window in
        [Window { groups: 3, ..Window::POINT }, Window { dilation: 2, ..Window::new([2, 2], 1, Padding::all(0)) }]
    {
        let mut g = GraphBuilder::new();
        let x = g.input("x", &[3, 4, 4]).unwrap();
        let weight = g.param("w", &[3, 3 / window.groups, window.kernel[0], window.kernel[1]]).unwrap();
        let y = g.push(Op::Conv2d { window, kernel: Kernel { weight, bias: None } }, &[x]).unwrap();
        g.output("y", y).unwrap();
        let e = gradients(&g.finish().unwrap(), &[]).unwrap_err();
        assert!(e.message().contains("groups or dilation"), "{e}");
    }
    let mut g = GraphBuilder::new();
    let x = g.input("x", &[3]).unwrap();
    let p = g.parameter("p", &[3], &[3]).unwrap();
    let y = g.mul(x, p).unwrap();
    g.output("y", y).unwrap();
    assert!(gradients(&g.finish().unwrap(), &[]).unwrap_err().message().contains("parameter has no derivative"));
    let mut g = GraphBuilder::new();
    let x = g.input("x", &[3]).unwrap();
    g.input("unused", &[1]).unwrap();
    let y = g.linear("l", x, 2, true).unwrap();
    g.output("y", y).unwrap();
    assert!(gradients(&g.finish().unwrap(), &[1]).unwrap_err().message().contains("unused"));
}

#[test]
fn the_backward_sweep_stands_behind_the_network() {
    let case = &cases()[0];
    let whole = gradients(&case.graph, &[]).unwrap();
    let (before, behind) = whole.graph.nodes().split_at(case.graph.nodes().len());
    assert_eq!(before, case.graph.nodes());
    assert!(matches!(behind[0].op, Op::Input(_)));
    assert_eq!(whole.graph.outputs().len(), case.graph.outputs().len() + whole.params.len());
}
