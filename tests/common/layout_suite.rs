//! The operations of transformers, of one-dimensional networks and of pixels moved about, in small, odd shapes: what
//! `tests/golden/make_operations.py` makes with PyTorch under the same names.
//!
//! A test program includes it by `#[path = "../common/layout_suite.rs"] mod layout_suite;`.

use undiffuse::Result;
use undiffuse::graph::{Activation, ChannelNorm, Graph, GraphBuilder, Kernel, NormKind, Op, Padding, ValueId, Window};

/// What is built on the inputs.
type Build = fn(&mut GraphBuilder, &[ValueId]) -> Result<ValueId>;

/// A graph of one output, whose gradient by its first input is known where `gradient`.
pub struct Layout {
    pub name: &'static str,
    pub inputs: &'static [(&'static str, &'static [usize])],
    pub gradient: bool,
    build: Build,
}

impl Layout {
    pub fn graph(&self) -> Graph {
        let mut g = GraphBuilder::new();
        let inputs = self.inputs.iter().map(|(name, dims)| g.input(name, dims)).collect::<Result<Vec<_>>>();
        let made = inputs.and_then(|x| {
            let y = (self.build)(&mut g, &x)?;
            g.output("y", y)?;
            g.finish()
        });
        made.unwrap_or_else(|e| panic!("{}: {e}", self.name))
    }
}

fn grouped(g: &mut GraphBuilder, x: ValueId, weight: &[usize], window: Window) -> Result<ValueId> {
    let kernel = Kernel { weight: g.param("c.weight", weight)?, bias: Some(g.param("c.bias", &weight[..1])?) };
    g.push(Op::Conv2d { window, kernel }, &[x])
}

fn norm(
    g: &mut GraphBuilder,
    x: ValueId,
    kind: NormKind,
    groups: usize,
    eps: f32,
    params: &[usize],
) -> Result<ValueId> {
    let mut ids = Vec::new();
    for (name, n) in ["a.norm.weight", "a.norm.bias"].iter().zip(params) {
        ids.push(g.param(name, &[*n])?);
    }
    let (weight, bias) = (ids.first().copied(), ids.get(1).copied());
    g.push(Op::ChannelNorm(ChannelNorm { kind, groups, eps, weight, bias }), &[x])
}

const IMAGE: &[(&str, &[usize])] = &[("x", &[12, 6, 4])];

/// All of them.
pub fn cases() -> Vec<Layout> {
    let case = |name, inputs, build: Build| Layout { name, inputs, gradient: true, build };
    let fixed = |name, inputs, build: Build| Layout { name, inputs, gradient: false, build };
    vec![
        case("dilation 2", &[("x", &[5, 9, 8])], |g, x| {
            grouped(g, x[0], &[7, 5, 3, 3], Window { dilation: 2, ..Window::new([3, 3], 1, Padding::all(2)) })
        }),
        case("dilation 3, stride 2", &[("x", &[4, 9, 11])], |g, x| {
            grouped(g, x[0], &[6, 4, 3, 2], Window { dilation: 3, ..Window::new([3, 2], 2, Padding::all(1)) })
        }),
        case("three groups", &[("x", &[18, 5, 7])], |g, x| {
            grouped(g, x[0], &[12, 6, 3, 3], Window { groups: 3, ..Window::new([3, 3], 1, Padding::all(1)) })
        }),
        case("depthwise", &[("x", &[37, 6, 5])], |g, x| {
            grouped(g, x[0], &[37, 1, 3, 3], Window { groups: 37, ..Window::new([3, 3], 2, Padding::all(1)) })
        }),
        case("depthwise, two outputs, dilation 2", &[("x", &[3, 8, 8])], |g, x| {
            let window = Window { groups: 3, dilation: 2, ..Window::new([5, 5], 1, Padding::all(4)) };
            grouped(g, x[0], &[6, 1, 5, 5], window)
        }),
        case("transposed", &[("x", &[5, 4, 3])], |g, x| g.conv_transpose2d("c", x[0], 7, 4, 2, 1)),
        case("transposed, stride 3", &[("x", &[4, 3, 5])], |g, x| g.conv_transpose2d("c", x[0], 6, 3, 3, 0)),
        case("transposed of a row", &[("x", &[6, 1, 7])], |g, x| g.conv_transpose1d("c", x[0], 5, 4, 2, 1)),
        case("row", &[("x", &[6, 1, 16])], |g, x| g.conv1d("c", x[0], 9, 5, 1, 2)),
        case("row, stride 2", &[("x", &[6, 1, 16])], |g, x| g.conv1d("c", x[0], 6, 3, 2, 1)),
        case("layer norm", IMAGE, |g, x| norm(g, x[0], NormKind::Layer, 1, 1e-5, &[12, 12])),
        case("layer norm without factors", &[("x", &[35, 9])], |g, x| norm(g, x[0], NormKind::Layer, 1, 1e-6, &[])),
        case("rms norm", &[("x", &[19, 4, 3])], |g, x| norm(g, x[0], NormKind::Rms, 1, 1e-5, &[19])),
        case("pixel norm", IMAGE, |g, x| norm(g, x[0], NormKind::Rms, 1, 1e-8, &[])),
        case("l2 norm", IMAGE, |g, x| norm(g, x[0], NormKind::L2, 1, 1e-12, &[12])),
        case("rms norm of three heads", IMAGE, |g, x| norm(g, x[0], NormKind::Rms, 3, 1e-6, &[4])),
        case("layer norm of two heads", IMAGE, |g, x| norm(g, x[0], NormKind::Layer, 2, 1e-6, &[6, 6])),
        case("depth to space", IMAGE, |g, x| g.push(Op::DepthToSpace { factor: [2, 2], blocks_first: false }, &[x[0]])),
        case("depth to space, blocks first", IMAGE, |g, x| {
            g.push(Op::DepthToSpace { factor: [2, 3], blocks_first: true }, &[x[0]])
        }),
        case("space to depth", IMAGE, |g, x| g.push(Op::SpaceToDepth { factor: [2, 2], blocks_first: false }, &[x[0]])),
        case("space to depth, blocks first", IMAGE, |g, x| {
            g.push(Op::SpaceToDepth { factor: [3, 2], blocks_first: true }, &[x[0]])
        }),
        case("shuffle channels", IMAGE, |g, x| g.push(Op::ShuffleChannels { rows: 2, columns: 3 }, &[x[0]])),
        case("gelu tanh", IMAGE, |g, x| {
            let x = g.affine(x[0], 3.0, 0.5)?;
            g.activation(x, Activation::GeluTanh)
        }),
        case("geglu", IMAGE, |g, x| {
            let (h, gate) = (g.slice_channels(x[0], 0, 6)?, g.slice_channels(x[0], 6, 6)?);
            let gate = g.activation(gate, Activation::Gelu)?;
            g.mul(h, gate)
        }),
        case("positions", &[("x", &[5, 3, 2]), ("y", &[5, 4])], |g, x| {
            let all = g.push(Op::ConcatPositions, &[x[1], x[0], x[0]])?;
            let some = g.push(Op::SlicePositions { start: 2, len: 10 }, &[all])?;
            let more = g.push(Op::PadPositions { before: 2, after: 3 }, &[some])?;
            g.mul(more, more)
        }),
        case("attention with memory", &[("x", &[8, 3, 3])], |g, x| {
            let [q, k, v] = ["q", "k", "v"].map(|n| g.linear(n, x[0], 8, true));
            let (mk, mv) = (g.parameter("mk", &[8, 4], &[8, 4])?, g.parameter("mv", &[2, 4, 4], &[8, 4])?);
            let k = g.push(Op::ConcatPositions, &[mk, k?])?;
            let v = g.push(Op::ConcatPositions, &[mv, v?])?;
            g.push(Op::Attention { heads: 2 }, &[q?, k, v])
        }),
        case("linear attention", &[("x", &[8, 5, 4])], |g, x| {
            let (q, k, v) =
                (g.linear("q", x[0], 8, true)?, g.linear("k", x[0], 8, true)?, g.linear("v", x[0], 6, true)?);
            g.push(Op::LinearAttention { heads: 2 }, &[q, k, v])
        }),
        case("linear attention with memory", &[("x", &[8, 9, 9])], |g, x| {
            let (q, k, v) =
                (g.linear("q", x[0], 8, true)?, g.linear("k", x[0], 8, true)?, g.linear("v", x[0], 8, true)?);
            let (mk, mv) = (g.parameter("mk", &[8, 4], &[8, 4])?, g.parameter("mv", &[8, 4], &[8, 4])?);
            let k = g.push(Op::ConcatPositions, &[mk, k])?;
            let v = g.push(Op::ConcatPositions, &[mv, v])?;
            g.push(Op::LinearAttention { heads: 4 }, &[q, k, v])
        }),
        case("reflect pad", IMAGE, |g, x| {
            g.push(Op::ReflectPad(Padding { top: 2, bottom: 1, left: 3, right: 0 }), &[x[0]])
        }),
        case("max pool", &[("x", &[5, 6, 8])], |g, x| {
            g.push(Op::MaxPool(Window::new([2, 2], 2, Padding::all(0))), &[x[0]])
        }),
        case("max pool that overlaps", &[("x", &[5, 7, 6])], |g, x| {
            g.push(Op::MaxPool(Window::new([3, 3], 2, Padding::all(1))), &[x[0]])
        }),
        case("position embedding", &[("x", &[16, 3, 5])], |g, x| {
            let p = g.push(Op::PositionEmbedding { dims: [16, 3, 5], scale: 0.5 }, &[])?;
            g.mul(x[0], p)
        }),
        case("nearest row", &[("x", &[3, 5, 4])], |g, x| {
            let table = g.param("table", &[17, 3])?;
            g.push(Op::NearestRow { table }, &[x[0]])
        }),
        fixed("one hot", &[("class", &[1])], |g, x| {
            let h = g.push(Op::OneHot { classes: 4 }, &[x[0]])?;
            g.linear("l", h, 6, true)
        }),
    ]
}
