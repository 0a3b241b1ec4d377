//! Every operation of a graph in small, odd shapes.
//!
//! A test program includes it by `#[path = "../common/op_suite.rs"] mod op_suite;`, with `hold`, which holds a backend
//! to the reference in each case.

use undiffuse::Result;
use undiffuse::graph::{
    Activation, Binary, Epilogue, FusedConv, FusedConvAdjoint, FusedNormGrad, Graph, GraphBuilder, GroupNorm, Kernel,
    Op, Padding, Prologue, ValueId, Window,
};
use undiffuse::tensor::Dims;

/// One graph and how far a backend may be from the reference: relative L2 over each sample's outputs.
pub struct Case {
    pub name: String,
    pub graph: Graph,
    pub bound: f64,
}

/// Collects cases.
#[derive(Default)]
struct Cases(Vec<Case>);

impl Cases {
    fn add(
        &mut self,
        name: impl Into<String>,
        bound: f64,
        build: impl FnOnce(&mut GraphBuilder) -> Result<Vec<ValueId>>,
    ) {
        let name = name.into();
        let mut g = GraphBuilder::new();
        let graph = build(&mut g).and_then(|outputs| {
            for (i, v) in outputs.into_iter().enumerate() {
                g.output(&format!("y{i}"), v)?;
            }
            g.finish()
        });
        let graph = graph.unwrap_or_else(|e| panic!("{name}: {e}"));
        self.0.push(Case { name, graph, bound });
    }
}

const ACTIVATIONS: [Activation; 9] = [
    Activation::Silu,
    Activation::Mish,
    Activation::Gelu,
    Activation::Relu,
    Activation::LeakyRelu { slope: 0.2 },
    Activation::Sigmoid,
    Activation::Tanh,
    Activation::Softplus,
    Activation::GeluTanh,
];

/// All cases.
pub fn cases() -> Vec<Case> {
    let mut c = Cases::default();
    convolutions(&mut c);
    fused(&mut c);
    norms(&mut c);
    elementwise(&mut c);
    images(&mut c);
    attention(&mut c);
    embeddings(&mut c);
    products(&mut c);
    basis(&mut c);
    backward(&mut c);
    c.0
}

fn convolutions(c: &mut Cases) {
    let one = Padding::all(1);
    let lower = Padding { bottom: 1, right: 1, ..Padding::default() };
    for (ci, co, h, w, k, stride, padding) in [
        (1, 1, 1, 1, 1, 1, Padding::all(0)),
        (3, 5, 6, 7, 3, 1, one),
        (1, 32, 9, 5, 3, 1, one),
        (16, 3, 8, 8, 3, 1, one),
        (17, 33, 5, 6, 3, 1, one),
        (32, 48, 8, 8, 3, 1, one),
        (64, 64, 4, 4, 3, 1, one),
        (8, 16, 7, 9, 3, 2, one),
        (8, 16, 8, 8, 3, 2, lower),
        (6, 10, 5, 5, 3, 1, Padding { top: 2, bottom: 0, left: 0, right: 1 }),
        (4, 7, 6, 5, 1, 1, Padding::all(0)),
        (4, 7, 6, 5, 1, 2, Padding::all(0)),
        (5, 9, 8, 6, 5, 1, Padding::all(2)),
        (20, 40, 2, 2, 3, 1, one),
    ] {
        let name = format!("conv2d {ci}x{h}x{w} to {co}, kernel {k}, stride {stride}, {padding:?}");
        c.add(name, 1e-6, |g| {
            let x = g.input("x", &[ci, h, w])?;
            Ok(vec![g.conv2d("c", x, co, k, stride, padding)?])
        });
    }
    for (i, o, dims) in [(1, 1, &[][..]), (7, 33, &[]), (128, 70, &[]), (40, 24, &[5]), (9, 17, &[3, 4])] {
        for bias in [false, true] {
            c.add(format!("linear {i} to {o} at {dims:?}, bias {bias}"), 1e-6, |g| {
                let all: Vec<usize> = std::iter::once(i).chain(dims.iter().copied()).collect();
                let x = g.input("x", &all)?;
                Ok(vec![g.linear("l", x, o, bias)?])
            });
        }
    }
}

/// A kernel `[out, inputs, k, k]` with bias.
fn kernel(g: &mut GraphBuilder, name: &str, out: usize, inputs: usize, k: usize) -> Result<Kernel> {
    let weight = g.param(&format!("{name}.weight"), &[out, inputs, k, k])?;
    Ok(Kernel { weight, bias: Some(g.param(&format!("{name}.bias"), &[out])?) })
}

fn fused(c: &mut Cases) {
    let window = |k: usize| Window::new([k, k], 1, Padding::all(k / 2));
    // Which parts are there, in all combinations that mean something.
    for bits in 0..64 {
        let on = |i: usize| bits >> i & 1 == 1;
        let (affine, upsample, channel, residual, k) =
            (on(0), 1 + usize::from(on(1)), on(2), on(3), if on(4) { 3 } else { 1 });
        let sources: &[usize] = if on(5) { &[5, 12] } else { &[17] };
        let activation = ACTIVATIONS[bits % 9];
        c.add(format!("fused conv {bits:06b}"), 1e-6, |g| {
            let mut args = Vec::new();
            for (i, &n) in sources.iter().enumerate() {
                args.push(g.input(&format!("x{i}"), &[n, 4, 5])?);
            }
            if affine {
                args.push(g.input("ab", &[34])?);
            }
            if channel {
                args.push(g.input("v", &[20])?);
            }
            if residual {
                args.push(g.input("r", &[20, 4 * upsample, 5 * upsample])?);
            }
            let op = FusedConv {
                window: window(k),
                kernels: vec![kernel(g, "a", 13, 17, k)?, kernel(g, "b", 7, 17, k)?],
                prologue: Prologue {
                    sources: sources.len(),
                    affine,
                    activation: on(0).then_some(activation),
                    upsample,
                },
                epilogue: Epilogue {
                    channel,
                    residual,
                    scale: if on(1) { 0.5 } else { 1.0 },
                    activation: on(2).then_some(ACTIVATIONS[(bits + 3) % 9]),
                },
            };
            Ok(vec![g.push(Op::FusedConv(op), &args)?])
        });
    }
    c.add("fused conv of six sources", 1e-6, |g| {
        let args = (1..=6).map(|n| g.input(&format!("x{n}"), &[n, 3, 3])).collect::<Result<Vec<_>>>()?;
        let mut op = FusedConv::plain(window(3), vec![kernel(g, "a", 4, 21, 3)?]);
        op.prologue.sources = 6;
        Ok(vec![g.push(Op::FusedConv(op), &args)?])
    });
    c.add("convolutions that share a weight", 1e-6, |g| {
        let x = g.input("x", &[6, 5, 5])?;
        let h = g.conv2d("c", x, 6, 3, 1, Padding::all(1))?;
        Ok(vec![g.conv2d("c", h, 6, 3, 1, Padding::all(1))?])
    });
}

fn norms(c: &mut Cases) {
    for (channels, groups, h, w) in
        [(4, 2, 3, 5), (32, 32, 4, 4), (96, 1, 5, 3), (33, 3, 9, 8), (160, 32, 2, 2), (6, 3, 1, 1)]
    {
        for modulated in [false, true] {
            c.add(format!("group norm {channels}x{h}x{w} in {groups}, modulated {modulated}"), 1e-6, |g| {
                let x = g.input("x", &[channels, h, w])?;
                let mut y = g.group_norm("n", x, groups, 1e-5)?;
                if modulated {
                    let (m, s) = (g.input("m", &[channels])?, g.input("s", &[channels])?);
                    y = g.mul(y, m)?;
                    y = g.add(y, s)?;
                }
                let y = g.activation(y, Activation::Silu)?;
                Ok(vec![y])
            });
        }
    }
    // The factors alone: where a mean is 30 deviations large, the value after the norm has lost digits in any f32
    // backend.
    for (parts, groups) in [(&[4, 2][..], 3), (&[20, 44], 4), (&[5, 70, 21], 8), (&[64], 16)] {
        c.add(format!("group norm affine of {parts:?} in {groups}, shifted"), 1e-6, |g| {
            let channels: usize = parts.iter().sum();
            let mut args = Vec::new();
            for (i, &n) in parts.iter().enumerate() {
                args.push(g.input(&format!("x{i} shifted"), &[n, 11, 13])?);
            }
            let norm = GroupNorm {
                groups,
                eps: 1e-6,
                weight: g.param("n.weight", &[channels])?,
                bias: g.param("n.bias", &[channels])?,
            };
            Ok(vec![g.push(Op::GroupNormAffine { norm, sources: parts.len(), modulated: false }, &args)?])
        });
    }
    for activation in [None, Some(Activation::Silu), Some(Activation::Tanh)] {
        c.add(format!("apply affine, {activation:?}"), 1e-6, |g| {
            let (x, ab) = (g.input("x", &[19, 4, 3])?, g.input("ab", &[38])?);
            Ok(vec![g.push(Op::ApplyAffine { activation }, &[x, ab])?])
        });
    }
}

fn elementwise(c: &mut Cases) {
    for f in ACTIVATIONS {
        c.add(format!("{f:?}"), 1e-6, |g| {
            let x = g.input("x", &[21, 5, 3])?;
            Ok(vec![g.activation(x, f)?])
        });
    }
    for f in [Binary::Add, Binary::Mul, Binary::Div] {
        for dims in [&[21, 5, 3][..], &[21], &[1]] {
            c.add(format!("{f:?} of {dims:?}"), 1e-6, |g| {
                let (x, y) = (g.input("x", &[21, 5, 3])?, g.input("y shifted", dims)?);
                let x = g.affine(x, 2.0, -1.0)?;
                Ok(vec![g.push(Op::Binary(f), &[x, y])?])
            });
        }
    }
    c.add("a value that stays while others are made of it in place", 1e-6, |g| {
        let x = g.input("x", &[8, 3, 3])?;
        let a = g.affine(x, 0.5, 1.0)?;
        let b = g.activation(a, Activation::Tanh)?;
        let s = g.slice_channels(a, 2, 5)?;
        let t = g.activation(s, Activation::Silu)?;
        let d = g.add(b, a)?;
        Ok(vec![d, t, a, x])
    });
    c.add("large planes", 1e-6, |g| {
        let x = g.input("x", &[3, 40, 70])?;
        let y = g.activation(x, Activation::Silu)?;
        let z = g.concat(&[x, y])?;
        Ok(vec![z, y])
    });
}

fn images(c: &mut Cases) {
    c.add("concat, slice", 1e-7, |g| {
        let (a, b) = (g.input("a", &[3, 4, 5])?, g.input("b", &[18, 4, 5])?);
        let y = g.concat(&[a, b, a])?;
        let s = g.slice_channels(y, 2, 17)?;
        let t = g.slice_channels(s, 1, 3)?;
        let u = g.concat(&[t, s])?;
        Ok(vec![y, s, u])
    });
    for factor in 1..=3 {
        c.add(format!("upsample by {factor}"), 1e-7, |g| {
            let x = g.input("x", &[5, 3, 4])?;
            Ok(vec![g.push(Op::UpsampleNearest { factor }, &[x])?])
        });
        c.add(format!("average pool by {factor}"), 1e-6, |g| {
            let x = g.input("x", &[18, 7, 9])?;
            Ok(vec![g.push(Op::AveragePool { factor }, &[x])?])
        });
    }
    for (taps, up, down, pad) in [
        (&[1f32, 3., 3., 1.][..], 1, 2, [1isize, 1]),
        (&[1., 3., 3., 1.], 2, 1, [2, 1]),
        (&[1., 2., 4.], 1, 1, [1, 1]),
        (&[1., 2.], 3, 2, [-1, 2]),
        (&[2.], 1, 1, [0, -2]),
    ] {
        c.add(format!("fir {taps:?}, up {up}, down {down}, pad {pad:?}"), 1e-6, |g| {
            let x = g.input("x", &[9, 6, 5])?;
            Ok(vec![g.push(Op::Fir { taps: taps.to_vec(), up, down, pad }, &[x])?])
        });
    }
}

fn attention(c: &mut Cases) {
    for (heads, dim, value_dim, queries, keys) in [
        (1, 1, 1, 1, 1),
        (1, 8, 8, 16, 16),
        (2, 5, 3, 7, 9),
        (4, 16, 16, 33, 33),
        (1, 64, 32, 30, 70),
        (3, 4, 8, 40, 1),
    ] {
        c.add(
            format!("attention, {heads} heads of {dim} and {value_dim}, {queries} queries, {keys} keys"),
            2e-6,
            |g| {
                let q = g.input("q", &[heads * dim, queries])?;
                let k = g.input("k", &[heads * dim, keys])?;
                let v = g.input("v", &[heads * value_dim, keys])?;
                Ok(vec![g.push(Op::Attention { heads }, &[q, k, v])?])
            },
        );
    }
    c.add("self-attention of an image through one projection", 2e-6, |g| {
        let x = g.input("x", &[24, 5, 4])?;
        let h = g.group_norm("n", x, 4, 1e-6)?;
        let q = g.linear("q", h, 24, true)?;
        let k = g.linear("k", h, 24, true)?;
        let v = g.linear("v", h, 24, true)?;
        let h = g.push(Op::Attention { heads: 3 }, &[q, k, v])?;
        let h = g.linear("o", h, 24, true)?;
        let y = g.add(h, x)?;
        Ok(vec![g.affine(y, std::f32::consts::FRAC_1_SQRT_2, 0.0)?])
    });
}

fn embeddings(c: &mut Cases) {
    for (dim, flip_sin_to_cos, freq_shift) in [(32, true, 0.0), (7, false, 1.0)] {
        c.add(format!("sinusoidal embedding of {dim}"), 1e-7, |g| {
            let t = g.input("t", &[1])?;
            let op = Op::SinusoidalEmbedding { dim, flip_sin_to_cos, freq_shift, max_period: 10000.0 };
            Ok(vec![g.push(op, &[t])?])
        });
    }
    for (log, flip_sin_to_cos) in [(true, true), (false, false)] {
        c.add(format!("fourier embedding, log {log}"), 1e-7, |g| {
            let t = g.input("t", &[1])?;
            let weight = g.param("w", &[9])?;
            Ok(vec![g.push(Op::FourierEmbedding { weight, log, flip_sin_to_cos }, &[t])?])
        });
    }
    c.add("embedding", 0.0, |g| {
        let class = g.input("class", &[1])?;
        let table = g.param("table", &[3, 10])?;
        Ok(vec![g.push(Op::Embedding { table }, &[class])?])
    });
}

fn products(c: &mut Cases) {
    for (from, to) in [
        (&[5, 3, 4][..], &[60][..]),
        (&[60], &[5, 3, 4]),
        (&[6, 4, 5], &[3, 5, 8]),
        (&[2, 9], &[3, 2, 3]),
        (&[1, 7, 5], &[35]),
        (&[70, 8, 9], &[5040]),
    ] {
        c.add(format!("reshape {from:?} to {to:?}"), 0.0, |g| {
            let x = g.input("x", from)?;
            Ok(vec![g.reshape(x, to)?])
        });
    }
    for dims in [&[21, 5, 3][..], &[9], &[3, 40, 50]] {
        c.add(format!("a bias for each element of {dims:?}"), 1e-7, |g| {
            let x = g.input("x", dims)?;
            let (a, b) = (g.param("a", dims)?, g.param("b", dims)?);
            let y = g.push(Op::ElementBias { bias: a }, &[x])?;
            let z = g.affine(x, 2.0, 0.0)?;
            Ok(vec![y, g.push(Op::ElementBias { bias: b }, &[z])?])
        });
    }
    for (groups, len, positions) in [(2, 10, &[9, 7][..]), (4, 16, &[]), (20, 50, &[]), (1, 1, &[3]), (3, 100, &[2, 2])]
    {
        let dims = move |c: usize| -> Vec<usize> { std::iter::once(c).chain(positions.iter().copied()).collect() };
        c.add(format!("matrix of {groups} x {len} at {positions:?}: products"), 1e-6, |g| {
            let m = g.input("m", &dims(groups * len))?;
            let v = g.input("v", &[len])?;
            let dy = g.input("dy", &dims(groups))?;
            Ok(vec![g.mat_vec(m, v)?, g.push(Op::Outer, &[dy, v])?, g.push(Op::VecMat, &[m, dy])?])
        });
    }
    c.add("a linear map for each step", 1e-6, |g| {
        let (h, t) = (g.input("h", &[12])?, g.input("class", &[1])?);
        let m = g.embedding("readout.weight", t, 3, 5 * 12)?;
        let b = g.embedding("readout.bias", t, 3, 5)?;
        let y = g.mat_vec(m, h)?;
        Ok(vec![g.add(y, b)?])
    });
}

fn basis(c: &mut Cases) {
    for (steps, functions, width) in [(1000, 10, 1.0 / 9.0), (1000, 10, 2.0 / 9.0), (40, 3, 0.01), (2, 2, 5.0)] {
        c.add(format!("temporal basis of {functions} over {steps}, width {width:.2}"), 1e-7, |g| {
            let t = g.input("t", &[1])?;
            // Whole steps and quarters; some lie beyond the last.
            let quarter = g.affine(t, if steps == 1000 { 0.25 } else { 0.03125 }, 0.0)?;
            let op = || Op::TemporalBasis { steps, functions, width };
            Ok(vec![g.push(op(), &[t])?, g.push(op(), &[quarter])?])
        });
    }
    for (inputs, units, positions) in [(2, 16, &[][..]), (3, 5, &[4, 3]), (20, 70, &[6])] {
        let dims = move |c: usize| -> Vec<usize> { std::iter::once(c).chain(positions.iter().copied()).collect() };
        c.add(format!("radial basis of {units} in {inputs} dimensions at {positions:?}"), 1e-6, |g| {
            let x = g.input("x", &dims(inputs))?;
            let dy = g.input("dy", &dims(units))?;
            let (centres, widths) = (g.param("centres", &[units, inputs])?, g.param("widths", &[units])?);
            let y = g.push(Op::RadialBasis { centres, widths }, &[x])?;
            Ok(vec![y, g.push(Op::RadialBasisGrad { centres, widths }, &[x, dy])?])
        });
        c.add(format!("softmax of {units} at {positions:?}"), 1e-6, |g| {
            let (x, dy) = (g.input("x", &dims(units))?, g.input("dy", &dims(units))?);
            let y = g.affine(x, 3.0, 0.0)?;
            let y = g.push(Op::Softmax, &[y])?;
            Ok(vec![y, g.push(Op::SoftmaxGrad, &[y, dy])?, g.push(Op::SoftmaxGrad, &[x, dy])?])
        });
    }
}

fn backward(c: &mut Cases) {
    let one = Padding::all(1);
    let lower = Padding { bottom: 1, right: 1, ..Padding::default() };
    for (ci, co, h, w, k, stride, padding) in [
        (5, 7, 6, 7, 3, 1, one),
        (33, 20, 8, 8, 3, 1, one),
        (4, 9, 7, 6, 3, 2, one),
        (4, 9, 8, 8, 3, 2, lower),
        (3, 2, 5, 5, 3, 1, Padding { top: 3, bottom: 0, left: 0, right: 1 }),
        (6, 5, 4, 4, 1, 1, Padding::all(0)),
        (4, 9, 7, 6, 1, 2, Padding::all(0)),
        (1, 20, 8, 7, 3, 1, one),
        (2, 40, 5, 6, 3, 1, Padding { top: 3, bottom: 0, left: 0, right: 1 }),
        (32, 8, 44, 44, 3, 2, lower),
    ] {
        c.add(format!("adjoint of conv {ci}x{h}x{w} to {co}, kernel {k}, stride {stride}, {padding:?}"), 1e-6, |g| {
            let window = Window::new([k, k], stride, padding);
            let weight = g.param("c.weight", &[co, ci, k, k])?;
            let out = |n: usize, before: usize, after: usize| (n + before + after - k) / stride + 1;
            let size = [co, out(h, padding.top, padding.bottom), out(w, padding.left, padding.right)];
            let dy = g.input("dy", &size)?;
            Ok(vec![g.push(Op::ConvAdjoint { window, weight, dims: Dims::new(&[ci, h, w])? }, &[dy])?])
        });
    }
    for dims in [&[12][..], &[12, 7]] {
        c.add(format!("adjoint of a linear map at {dims:?}"), 1e-6, |g| {
            let weight = g.param("l.weight", &[12, 5])?;
            let dy = g.input("dy", dims)?;
            let made: Vec<usize> = std::iter::once(5).chain(dims[1..].iter().copied()).collect();
            Ok(vec![g.push(Op::ConvAdjoint { window: Window::POINT, weight, dims: Dims::new(&made)? }, &[dy])?])
        });
    }
    for f in ACTIVATIONS {
        c.add(format!("gradient of {f:?}"), 1e-6, |g| {
            let (x, dy) = (g.input("x", &[21, 5, 3])?, g.input("dy", &[21, 5, 3])?);
            let y = g.push(Op::ActivationGrad(f), &[x, dy])?;
            let s = g.slice_channels(x, 3, 10)?;
            let z = g.slice_channels(dy, 9, 10)?;
            Ok(vec![y, g.push(Op::ActivationGrad(f), &[s, z])?])
        });
    }
    for (channels, groups, h, w) in [(6, 3, 4, 5), (96, 1, 3, 3), (33, 3, 9, 8), (8, 4, 1, 1)] {
        c.add(format!("gradient of group norm {channels}x{h}x{w} in {groups}"), 2e-6, |g| {
            let (x, dy) = (g.input("x", &[channels, h, w])?, g.input("dy", &[channels, h, w])?);
            let weight = g.param("n.weight", &[channels])?;
            let bias = g.param("n.bias", &[channels])?;
            Ok(vec![g.push(Op::GroupNormGrad(GroupNorm { groups, eps: 1e-2, weight, bias }), &[x, dy])?])
        });
    }
    fused_backward(c);
    for (heads, dim, value_dim, queries, keys, query_only) in [
        (1, 8, 8, 16, 16, false),
        (2, 5, 3, 7, 7, false),
        (3, 16, 20, 65, 65, false),
        (2, 5, 3, 7, 9, true),
        (1, 32, 32, 40, 33, true),
    ] {
        let name =
            format!("gradient of attention, {heads} heads of {dim} and {value_dim}, {queries} queries, {keys} keys");
        c.add(name, 2e-6, |g| {
            let q = g.input("q", &[heads * dim, queries])?;
            let k = g.input("k", &[heads * dim, keys])?;
            let v = g.input("v", &[heads * value_dim, keys])?;
            let dy = g.input("dy", &[heads * value_dim, queries])?;
            Ok(vec![g.push(Op::AttentionGrad { heads, query_only }, &[q, k, v, dy])?])
        });
    }
    for (before, after) in [(0, 3), (2, 0), (4, 17)] {
        c.add(format!("pad channels by {before} and {after}, sum positions"), 1e-6, |g| {
            let x = g.input("x", &[19, 4, 3])?;
            let y = g.push(Op::PadChannels { before, after }, &[x])?;
            Ok(vec![y, g.push(Op::SumPositions, &[y])?])
        });
    }
}

/// What `fuse_backward` makes.
fn fused_backward(c: &mut Cases) {
    for bits in 0..8usize {
        let (modulated, residual, several) = (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0);
        for activation in std::iter::once(None).chain(ACTIVATIONS.map(Some)) {
            let sources: &[usize] = if several { &[5, 70, 21] } else { &[96] };
            c.add(format!("fused norm gradient {bits:03b} of {activation:?}"), 2e-6, |g| {
                let mut args = Vec::new();
                for (i, &n) in sources.iter().enumerate() {
                    args.push(g.input(&format!("x{i}"), &[n, 9, 8])?);
                }
                if modulated {
                    args.extend([g.input("m", &[96])?, g.input("s", &[96])?]);
                }
                args.push(g.input("dy", &[96, 9, 8])?);
                if residual {
                    args.push(g.input("r", &[96, 9, 8])?);
                }
                let weight = g.param("n.weight", &[96])?;
                let bias = g.param("n.bias", &[96])?;
                let norm = GroupNorm { groups: [8, 96, 1][bits % 3], eps: 1e-2, weight, bias };
                let op = FusedNormGrad { norm, sources: sources.len(), modulated, activation, residual };
                Ok(vec![g.push(Op::FusedNormGrad(op), &args)?])
            });
        }
    }
    for (k, ci, residual) in [(1, 17, false), (1, 17, true), (3, 17, true), (3, 2, true)] {
        c.add(format!("fused adjoint of two {k}x{k} convolutions of {ci}, residual {residual}"), 1e-6, |g| {
            let weights = vec![g.param("a.weight", &[13, ci, k, k])?, g.param("b.weight", &[7, ci, k, k])?];
            let mut args = vec![g.input("dy", &[20, 4, 5])?];
            if residual {
                args.push(g.input("r", &[ci, 4, 5])?);
            }
            let op = {
                let window = Window::new([k, k], 1, Padding::all(k / 2));
                FusedConvAdjoint { window, weights, dims: Dims::new(&[ci, 4, 5])?, residual }
            };
            Ok(vec![g.push(Op::FusedConvAdjoint(op), &args)?])
        });
    }
}
