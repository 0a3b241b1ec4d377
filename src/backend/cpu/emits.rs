//! Compiled networks as parts of a program: see [`emit`](crate::emit).

use alloc::format;
use alloc::string::String;

use super::aligned::Floats;
use super::conv::{Algorithm, ConvShape, Method, PackedConv};
use super::gemm::Segment;
use super::isa::{Isa, Path};
use super::memory::View;
use super::network::shared::{Shared, Steps};
use super::steps::attention::Attention;
use super::steps::attention_grad::AttentionGrad;
#[cfg(all(target_arch = "x86_64", feature = "std"))]
use super::steps::attention_tiles::AttentionTiles;
use super::steps::basis::{NearestRow, RadialBasis, RadialBasisGrad, Softmax, SoftmaxGrad};
use super::steps::channel_norm::ChannelNorm;
use super::steps::channel_norm_grad::ChannelNormGrad;
use super::steps::conv::{Conv, Gather, Packed};
use super::steps::convert::Convert;
use super::steps::elementwise::{Elementwise, Map};
use super::steps::embed::{Embed, Kind};
use super::steps::fallback::Fallback;
use super::steps::fold::Fold;
use super::steps::grad::{ActivationGrad, SumPositions};
use super::steps::integer::{IntegerConv, Integers};
use super::steps::linear_attention::{LinearAttention, LinearAttentionGrad};
use super::steps::mat_vec::{MatVec, Outer, VecMat};
use super::steps::max_pool::{MaxPool, MaxPoolGrad};
use super::steps::norm::GroupNormAffine;
use super::steps::norm_grad::NormGrad;
use super::steps::resample::{Axis, Resample};
use super::steps::reshape::{ElementBias, Reshape};
use super::steps::rows::{Constant, CopyRows, Order, Rearrange};
use super::stored::{Stored, WeightType};
use super::vmath;
use crate::emit::{Emit, Emitter, emits, emits_shown};
use crate::error::{Result, ensure, err};
use crate::graph::{Activation, Binary, NormKind, Padding, Window};

emits_shown! {
    View => "",
    Segment => "",
    Padding => "",
    ConvShape => "",
    Activation => "Activation::",
    vmath::Activation => "KernelActivation::",
    Binary => "Binary::",
    NormKind => "NormKind::",
    Order => "Order::",
    WeightType => "WeightType::",
}

emits! {
    Attention { heads, q, k, v, out, key_len, value_len, block }
    Axis { terms, ends }
    ChannelNorm { x, out, kind, groups, eps, weight, bias }
    Constant { name, values, out }
    Conv { name, sources, gather, weights, owner, channel, residual, scale, activation, out }
    Convert { x, out }
    CopyRows { name, x, out, from, to, count, pad }
    ElementBias { x, out, bias }
    Fold { name, parts, window, residual, out }
    Elementwise { name, x, out, map }
    Embed { name, x, out, kind }
    Gather { affine, activation, upsample, padding }
    GroupNormAffine { sources, modulation, out, groups, eps, weight, bias, statistics }
    IntegerConv { name, sources, affine, silu, upsample, layer, channel, residual, scale, activation, out }
    Integers { shape, out_size, weights, columns, segments, inverse, zero, tile_rows }
    LinearAttention { heads, q, k, v, out }
    MatVec { m, v, out }
    MaxPool { window, x, out }
    NearestRow { x, out, table }
    PackedConv { isa, shape, out_size, weights, bias, method, segments }
    RadialBasis { x, out, centres, widths }
    Rearrange { name, x, out, order }
    Resample { name, x, out, rows, columns }
    Reshape { x, out }
    Softmax { x, out }
}

/// Steps that no program has as a part of it: those of gradients, and what has no kernel and takes memory as it runs.
macro_rules! emits_not {
    ($($type:ident: $what:literal),* $(,)?) => {$(
        impl Emit for $type {
            fn emit(&self, _: &mut Emitter) -> Result<String> {
                Err(err!(Unsupported, concat!($what, " cannot be a part of a program")))
            }
        }
    )*};
}
emits_not! {
    ActivationGrad: "the gradient of an activation",
    AttentionGrad: "the gradient of attention",
    ChannelNormGrad: "the gradient of a norm of channels",
    Fallback: "an operation without a kernel",
    LinearAttentionGrad: "the gradient of linear attention",
    MaxPoolGrad: "the gradient of max pooling",
    NormGrad: "the gradient of a norm",
    Outer: "an outer product",
    RadialBasisGrad: "the gradient of a radial basis",
    SoftmaxGrad: "the gradient of softmax",
    SumPositions: "a sum over positions",
    VecMat: "a product of a vector and a matrix",
}

#[cfg(all(target_arch = "x86_64", feature = "std"))]
emits_not! {
    AttentionTiles: "attention by tiles",
}

impl Emit for Window {
    fn emit(&self, _: &mut Emitter) -> Result<String> {
        let Self { kernel, stride, padding: p, dilation, groups } = self;
        let sides = format!("top: {}, bottom: {}, left: {}, right: {}", p.top, p.bottom, p.left, p.right);
        Ok(format!(
            "Window {{ kernel: {kernel:?}, stride: {stride}, padding: Padding {{ {sides} }}, dilation: {dilation}, \
             groups: {groups} }}"
        ))
    }
}

impl Emit for Floats {
    fn emit(&self, to: &mut Emitter) -> Result<String> {
        Ok(format!("Floats::Static({})", to.floats(self)))
    }
}

impl Emit for Isa {
    fn emit(&self, _: &mut Emitter) -> Result<String> {
        ensure!(
            self.path() == Path::Portable,
            Unsupported,
            "a program has portable kernels, not those for {}",
            self.path()
        );
        Ok(String::from("Isa::PORTABLE"))
    }
}

impl Emit for Stored {
    fn emit(&self, to: &mut Emitter) -> Result<String> {
        let (kind, column) = (self.kind.emit(to)?, self.column);
        let (buffer, factors) = (self.buffer.emit(to)?, self.factors.emit(to)?);
        // The paths other than the portable one are refused with the convolution's.
        let tiles = self.kind as usize;
        Ok(format!(
            "Stored {{ kind: {kind}, column: {column}, buffer: {buffer}, factors: {factors}, tiles: PORTABLE_TILES[{tiles}] }}"
        ))
    }
}

impl Emit for &'static Method {
    fn emit(&self, _: &mut Emitter) -> Result<String> {
        match self.algorithm() {
            Algorithm::Direct => return Ok(String::from("Method::DIRECT")),
            Algorithm::Bf16 => return Ok(String::from("Method::BF16")),
            Algorithm::Winograd => {}
        }
        let found = Method::WINOGRAD.iter().position(|m| core::ptr::eq(*m, *self));
        let found = found.ok_or_else(|| err!(Unsupported, "a convolution by an unknown method"))?;
        Ok(format!("Method::WINOGRAD[{found}]"))
    }
}

impl Emit for Packed {
    fn emit(&self, to: &mut Emitter) -> Result<String> {
        Ok(format!("Packed::Static(&{})", to.once::<PackedConv>("PackedConv", self)?))
    }
}

impl Emit for Kind {
    fn emit(&self, to: &mut Emitter) -> Result<String> {
        Ok(match self {
            Self::Waves { frequencies, log, cosines_first } => {
                let frequencies = frequencies.emit(to)?;
                format!("Kind::Waves {{ frequencies: {frequencies}, log: {log}, cosines_first: {cosines_first} }}")
            }
            Self::Table { table } => format!("Kind::Table {{ table: {} }}", table.emit(to)?),
            Self::OneHot => String::from("Kind::OneHot"),
            Self::Bumps { steps, width } => format!("Kind::Bumps {{ steps: {steps}, width: {} }}", width.emit(to)?),
        })
    }
}

impl Emit for Map {
    fn emit(&self, to: &mut Emitter) -> Result<String> {
        Ok(match self {
            Self::Copy => String::from("Map::Copy"),
            Self::Zero => String::from("Map::Zero"),
            Self::Activation(f) => format!("Map::Activation({})", f.emit(to)?),
            Self::Affine { scale, shift } => {
                format!("Map::Affine {{ scale: {}, shift: {} }}", scale.emit(to)?, shift.emit(to)?)
            }
            Self::Binary { op, y } => format!("Map::Binary {{ op: {}, y: {y:?} }}", op.emit(to)?),
            Self::Channel { op, y } => format!("Map::Channel {{ op: {}, y: {y:?} }}", op.emit(to)?),
            Self::Scalar { op, y } => format!("Map::Scalar {{ op: {}, y: {y:?} }}", op.emit(to)?),
            Self::ApplyAffine { ab, activation } => {
                format!("Map::ApplyAffine {{ ab: {ab:?}, activation: {} }}", activation.emit(to)?)
            }
        })
    }
}

impl Emit for Steps {
    fn emit(&self, to: &mut Emitter) -> Result<String> {
        let mut list = String::from("Steps::Static(&[");
        for (i, step) in self.iter().enumerate() {
            let text = step.emit(to).map_err(|e| e.context(format_args!("operation {i}, {}", step.name())))?;
            let of = text.split_once(' ').map_or("", |(of, _)| of);
            list.push_str(&format!("&&{}, ", to.item(of, &text)));
        }
        list.push_str("])");
        Ok(list)
    }
}

emits! {
    Shared { inputs, outputs, input_views, output_views, steps, offsets, arena, ends, at_once }
}
