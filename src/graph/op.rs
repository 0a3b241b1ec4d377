//! The operations of a [`Graph`](super::Graph).
//!
//! Values are described for one sample; every operation acts on each sample of a batch alone. A value's first dimension
//! is its channels and the others are positions, so that `Linear` on an image `[C, H, W]` is a 1x1 convolution and
//! attention sees `H * W` tokens, with no reshape in between.

use alloc::vec::Vec;

use super::{Activation, Binary, ChannelNorm, GroupNorm, InputId, Kernel, Padding, ParamId, Window};
use crate::tensor::Dims;

/// What a fused convolution does to its input before the window: concatenate the sources along channels, then
/// `x * a + b` per sample and channel, then an activation, then nearest upsampling.
/// Zero padding comes last, so it stays zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prologue {
    /// How many leading arguments are sources; at least 1.
    pub sources: usize,
    /// Whether the argument after the sources is a `[2 * C]` value with `a` then `b`.
    pub affine: bool,
    /// Applied after the affine map.
    pub activation: Option<Activation>,
    /// 1, or the factor by which rows and columns are repeated.
    pub upsample: usize,
}

/// What a fused convolution does to its result: `activation((result + bias + v + residual) * scale)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Epilogue {
    /// Whether an argument `v` of shape `[out]` is added at every position.
    pub channel: bool,
    /// Whether an argument of the result's shape is added; it is the last argument.
    pub residual: bool,
    /// The factor; 1 for none.
    pub scale: f32,
    /// Applied last.
    pub activation: Option<Activation>,
}

/// A convolution or linear map with what surrounds it.
/// Arguments in order: the sources, the affine value, the channel value, the residual (each where it is there).
#[derive(Clone, Debug, PartialEq)]
pub struct FusedConv {
    /// The window; a point window for linear maps.
    pub window: Window,
    /// The weights; several are stacked along the output channels.
    pub kernels: Vec<Kernel>,
    /// Before the window.
    pub prologue: Prologue,
    /// After it.
    pub epilogue: Epilogue,
}

/// The gradient of an activated, perhaps modulated group norm of a concatenation.
///
/// Arguments in order: the sources; m and s `[C]`, if modulated; dy; the residual, if there is one. The result, of the
/// shape of the concatenation x, is the gradient by x of the inner product of dy with `activation(norm(x) * m + s)`,
/// plus the residual.
#[derive(Clone, Debug, PartialEq)]
pub struct FusedNormGrad {
    /// The norm.
    pub norm: GroupNorm,
    /// How many leading arguments are sources; at least 1.
    pub sources: usize,
    /// Whether m and s follow.
    pub modulated: bool,
    /// What was applied to the norm's value.
    pub activation: Option<Activation>,
    /// Whether an argument of the result's shape is added; it is the last argument.
    pub residual: bool,
}

/// The adjoint of a convolution or linear map of stacked kernels, plus a residual.
///
/// Arguments in order: dy, with the channels of all kernels; the residual, if there is one.
#[derive(Clone, Debug, PartialEq)]
pub struct FusedConvAdjoint {
    /// The window of the map.
    pub window: Window,
    /// The weights of the map, stacked along its output channels, each `[O, C, kh, kw]` or `[O, C]`.
    pub weights: Vec<ParamId>,
    /// What the map takes, and so what this makes.
    pub dims: Dims,
    /// Whether an argument of the result's shape is added; it is the last argument.
    pub residual: bool,
}

/// An operation. Models are written with the primitive ones; the fused ones come from [`fuse`](super::fuse::fuse).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Op {
    /// An argument of the network.
    Input(InputId),
    /// Image `[C, H, W]` to `[O, H', W']`, `H' = (H + top + bottom - kh) / stride + 1` rounded down.
    Conv2d {
        /// Kernel size, stride, padding.
        window: Window,
        /// Weight `[O, C, kh, kw]` and bias `[O]`.
        kernel: Kernel,
    },
    /// `[I, ..]` to `[O, ..]`, at every position: `y = W x + b`. Weight `[O, I]` (or `[O, I, 1]`, `[O, I, 1, 1]`).
    Linear(Kernel),
    /// See [`GroupNorm`].
    GroupNorm(GroupNorm),
    /// Elementwise.
    Activation(Activation),
    /// `a op b`, where `b` has the shape of `a`, or `[C]` (the same at every position), or `[1]` (the same everywhere).
    Binary(Binary),
    /// `x * scale + shift`.
    Affine {
        /// The factor.
        scale: f32,
        /// The offset.
        shift: f32,
    },
    /// All arguments along channels; their positions agree.
    Concat,
    /// Channels `start .. start + len`.
    SliceChannels {
        /// The first channel kept.
        start: usize,
        /// How many.
        len: usize,
    },
    /// Image `[C, H, W]` to `[C, H * factor, W * factor]` by repeating pixels.
    UpsampleNearest {
        /// How often each row and column is repeated.
        factor: usize,
    },
    /// Image `[C, H, W]` to `[C, H / factor, W / factor]`, mean over whole windows; what is left at the edge is
    /// dropped.
    AveragePool {
        /// Window and stride.
        factor: usize,
    },
    /// Each channel alone: insert `up - 1` zeros after every pixel, pad (or, where negative, crop) by `pad` = [before,
    /// after] in both directions, convolve with the outer product of `taps` with itself (a true convolution: taps
    /// flipped), keep every `down`-th pixel.
    Fir {
        /// One-dimensional taps.
        taps: Vec<f32>,
        /// Upsampling factor.
        up: usize,
        /// Downsampling factor.
        down: usize,
        /// Zeros before and after, for rows and for columns.
        pad: [isize; 2],
    },
    /// Arguments q, k, v of shape `[heads * d, ..]`: `softmax(q^T k / sqrt(d)) v` for each head; head h has channels
    /// `h * d .. (h + 1) * d`. k and v agree in positions; the result has the shape of q with v's channels.
    Attention {
        /// How many heads.
        heads: usize,
    },
    /// [`Op::Attention`] whose q, k and v are rounded to the nearest bf16, ties to even, and so are the softmax's
    /// weights; products are exact and added in f32. [`Precision::Bf16`](crate::pipeline::Precision::Bf16) makes it of
    /// attention over 32 keys or more, for a backend that multiplies bf16 by tiles.
    AttentionBf16 {
        /// How many heads.
        heads: usize,
    },
    /// `[1]` to `[dim]`: sine and cosine of the value times a geometric series of frequencies (Vaswani et al. 2017).
    /// The frequencies are `exp(-ln(max_period) * i / (dim / 2 - freq_shift))`, i in `0 .. dim / 2`; an odd `dim` ends
    /// in a zero.
    SinusoidalEmbedding {
        /// Output size.
        dim: usize,
        /// Cosines first.
        flip_sin_to_cos: bool,
        /// Subtracted from `dim / 2` in the exponent's denominator.
        freq_shift: f32,
        /// The lowest frequency's period over 2 pi; 10000 in diffusers.
        max_period: f32,
    },
    /// `[1]` to `[2 * n]`: `[sin, cos](2 pi x w)` with stored frequencies w `[n]`, of `ln x` if `log`.
    FourierEmbedding {
        /// The frequencies.
        weight: ParamId,
        /// Takes the logarithm first.
        log: bool,
        /// Cosines first.
        flip_sin_to_cos: bool,
    },
    /// `[1]`, a row number, to that row of a `[rows, dim]` table. A number that is no row is an error of the run.
    Embedding {
        /// The table.
        table: ParamId,
    },
    /// The same elements under other dimensions: number i in row-major order, channels outermost as network inputs and
    /// outputs lie (NCHW), stays number i. So `[C, H, W]` flattened to `[C * H * W]` is channel by channel, whatever a
    /// backend's layout.
    Reshape {
        /// The dimensions of the result, of as many elements.
        dims: Dims,
    },
    /// `x + b` with a parameter b of x's own dimensions: a bias for each element ("untied").
    ElementBias {
        /// The bias.
        bias: ParamId,
    },
    /// `[D, ..]` to `[N, ..]` at every position: `y_k = -|x - c_k|^2 / (2 w_k^2)`, the logarithms of N Gaussian bumps.
    /// [`Op::Softmax`] of it makes normalised radial basis functions. A width of 0 gives what is not finite; its sign
    /// has no effect.
    RadialBasis {
        /// c, `[N, D]`.
        centres: ParamId,
        /// w, `[N]`.
        widths: ParamId,
    },
    /// `[D, ..]` to `[D, ..]`: at every position the row of a `[rows, D]` table that lies nearest to x in Euclidean
    /// distance, of equally near ones the first; NaN where x is not finite. The quantisation of VQ-VAEs (van den Oord
    /// et al. 2017). Its derivative is by convention that of the identity ("straight through").
    NearestRow {
        /// The table.
        table: ParamId,
    },
    /// `y_k = exp(x_k) / sum_j exp(x_j)` over the channels at every position.
    Softmax,
    /// `[1]`, a step t, to `[J]`: the bump functions of Sohl-Dickstein et al. 2015, by which one network serves all
    /// steps.
    ///
    /// At a whole t, `g_j` is proportional to `exp(-(x_t - c_j)^2 / (2 w^2))` and sums to 1 over j, where x_t runs
    /// evenly from -1 to 1 over t = 0 .. T - 1, so do the centres c_j over j = 0 .. J - 1. Between whole steps the
    /// values are interpolated linearly; t is clamped to 0 .. T - 1, and NaN gives NaN.
    TemporalBasis {
        /// T, at least 2.
        steps: usize,
        /// J, at least 2.
        functions: usize,
        /// w: `1 / (J - 1)`, half the distance of the centres, in the authors' code; `2 / (J - 1)` in the paper.
        width: f64,
    },
    /// Arguments m `[G * J, ..]`, v `[J]`: the product of a matrix that is a value, `[G, J]` row-major at every
    /// position, with a vector. The result is `[G, ..]`, `y_g = sum_j m_(g J + j) v_j`. With m a row of an
    /// [`Op::Embedding`] it is a linear map chosen by a number; with v of [`Op::TemporalBasis`] it is a readout that
    /// moves with time.
    MatVec,
    /// The adjoint of [`Op::MatVec`] by m. Arguments dy `[G, ..]`, v `[J]`; the result is `[G * J, ..]`, `y_(g J + j) =
    /// dy_g v_j`.
    Outer,
    /// The adjoint of [`Op::MatVec`] by v. Arguments m `[G * J, ..]`, dy `[G, ..]`; the result is `[J]`,
    /// `y_j = sum_g m_(g J + j) dy_g`, also summed over positions.
    VecMat,
    /// Arguments y, the value of [`Op::Softmax`], and dy: the gradient by its argument, `y_k (dy_k - sum_j y_j dy_j)`.
    SoftmaxGrad,
    /// Arguments x `[D, ..]` and dy `[N, ..]`: the gradient by x of the inner product of dy with [`Op::RadialBasis`],
    /// `sum_k dy_k (c_k - x) / w_k^2`.
    RadialBasisGrad {
        /// c, `[N, D]`.
        centres: ParamId,
        /// w, `[N]`.
        widths: ParamId,
    },
    /// The adjoint of [`Op::Conv2d`] or, with a point window, of [`Op::Linear`], without bias: of the map from `[C,
    /// ..]` with `dims` to the argument's `[O, ..]`. Its value is what the transposed matrix of that map makes of the
    /// argument.
    ConvAdjoint {
        /// The window of the map.
        window: Window,
        /// The weight of the map, `[O, C, kh, kw]` or `[O, C]`.
        weight: ParamId,
        /// What the map takes, and so what this makes.
        dims: Dims,
    },
    /// Arguments x and dy: `dy * f'(x)`.
    ActivationGrad(Activation),
    /// Arguments x and dy: the gradient by x of the inner product of dy with the group norm of x.
    GroupNormGrad(GroupNorm),
    /// Arguments q, k, v, dy: the gradients by q, k and v of the inner product of dy with [`Op::Attention`], stacked
    /// along channels in that order; q and k have as many positions. With `query_only` the gradient by q alone.
    AttentionGrad {
        /// How many heads.
        heads: usize,
        /// Leaves k and v out.
        query_only: bool,
    },
    /// `[C, ..]` to `[before + C + after, ..]` with zeros: the adjoint of [`Op::SliceChannels`].
    PadChannels {
        /// Zero channels in front.
        before: usize,
        /// Zero channels behind.
        after: usize,
    },
    /// `[C, ..]` to `[C]`: the sum over positions, the adjoint of adding one number per channel.
    SumPositions,
    /// No argument: a parameter's elements, row-major, as a value of these dimensions, of as many elements. The same
    /// for every sample.
    Parameter {
        /// The parameter.
        param: ParamId,
        /// Its dimensions as a value.
        dims: Dims,
    },
    /// No argument, `[dim, H, W]`: the fixed positions of vision transformers (diffusers' `get_2d_sincos_pos_embed`). A
    /// quarter each, from the front: sine and cosine of the column, sine and cosine of the row, each times `10000^(-4 i
    /// / dim)`, i in `0 .. dim / 4`.
    PositionEmbedding {
        /// Channels, a multiple of 4, then height and width.
        dims: [usize; 3],
        /// What rows and columns are multiplied by.
        scale: f64,
    },
    /// `[1]`, a class number, to `[classes]`: 1 in its place, else 0. A number that is no class is an error of the run.
    OneHot {
        /// How many classes.
        classes: usize,
    },
    /// See [`ChannelNorm`].
    ChannelNorm(ChannelNorm),
    /// Arguments x and dy: the gradient by x of the inner product of dy with [`Op::ChannelNorm`] of x.
    ChannelNormGrad(ChannelNorm),
    /// Image `[C * fh * fw, H, W]` to `[C, H * fh, W * fw]` (`torch.nn.PixelShuffle`): pixel (i, j) of a block is
    /// channel `c * fh * fw + i * fw + j`, or with `blocks_first` channel `(i * fw + j) * C + c`.
    DepthToSpace {
        /// fh and fw.
        factor: [usize; 2],
        /// The order of channels.
        blocks_first: bool,
    },
    /// The inverse of [`Op::DepthToSpace`], `[C, H, W]` to `[C * fh * fw, H / fh, W / fw]`; the factors divide the
    /// sides.
    SpaceToDepth {
        /// fh and fw.
        factor: [usize; 2],
        /// The order of channels.
        blocks_first: bool,
    },
    /// Image `[C, H, W]` with rows and columns around it that mirror those inside, the outermost once
    /// (`torch.nn.functional.pad` with `reflect`); each padding is below the side.
    ReflectPad(Padding),
    /// The adjoint of [`Op::ReflectPad`]: what stands in the margin is added to what it mirrors.
    ReflectPadAdjoint(Padding),
    /// Channels as a matrix of `rows` x `columns` runs of channels, transposed. It sorts what was projected head by
    /// head: `[heads][3][d]` to `[3][heads][d]`.
    ShuffleChannels {
        /// Rows of the argument.
        rows: usize,
        /// Columns of the argument.
        columns: usize,
    },
    /// Arguments of equal channels, their positions one after the other: `[C, n]`.
    ConcatPositions,
    /// Positions `start .. start + len` in row-major order: `[C, len]`.
    SlicePositions {
        /// The first position kept.
        start: usize,
        /// How many.
        len: usize,
    },
    /// `[C, n]` to `[C, before + n + after]` with zeros: the adjoint of [`Op::SlicePositions`].
    PadPositions {
        /// Zeros in front.
        before: usize,
        /// Zeros behind.
        after: usize,
    },
    /// Image `[C, H, W]`, each channel alone: the largest value under the window. What is padded is never the largest.
    MaxPool(Window),
    /// Arguments x and dy: each element of dy where the largest value, of equal ones the first, stood.
    MaxPoolGrad(Window),
    /// Arguments q, k, v of shape `[heads * d, ..]`, in each head `(softmax(k) v^T)^T softmax(q)`, k's softmax over its
    /// positions and q's over the head's channels (Shen et al. 2021). k and v agree in positions; the result has those
    /// of q with v's channels.
    LinearAttention {
        /// How many heads.
        heads: usize,
    },
    /// Arguments q, k, v, dy: the gradients by q, k and v of the inner product of dy with [`Op::LinearAttention`],
    /// stacked along channels; q and k have as many positions.
    LinearAttentionGrad {
        /// How many heads.
        heads: usize,
    },
    /// Fused: arguments are the sources of a concatenation, then, if `modulated`, two values `[C]`, m and s.
    /// The result `[2 * C]` holds a and b per channel such that the group norm of x is `x * a + b`, and if modulated
    /// `norm(x) * m + s` is.
    GroupNormAffine {
        /// The norm.
        norm: GroupNorm,
        /// How many leading arguments are sources.
        sources: usize,
        /// Whether m and s follow.
        modulated: bool,
    },
    /// Fused: `x * a + b` with a `[2 * C]` second argument as [`Op::GroupNormAffine`] makes it, then the activation.
    ApplyAffine {
        /// Applied last.
        activation: Option<Activation>,
    },
    /// Fused: see [`FusedConv`].
    FusedConv(FusedConv),
    /// Fused, from [`fuse_backward`](super::fuse::fuse_backward): see [`FusedNormGrad`].
    FusedNormGrad(FusedNormGrad),
    /// Fused, from [`fuse_backward`](super::fuse::fuse_backward): see [`FusedConvAdjoint`].
    FusedConvAdjoint(FusedConvAdjoint),
    /// The part of one use of a parameter, by one sample, in a gradient; see [`ParamGrad`].
    #[cfg(feature = "training")]
    ParamGrad(ParamGrad),
}

/// What [`gradients`](super::gradients::gradients) asks of a parameter's use: the gradient, by the parameter, of the
/// inner product of dy with what the operation makes of its argument x. Like every value it is that of one sample; a
/// gradient is their sum over a batch.
#[cfg(feature = "training")]
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum ParamGrad {
    /// Of the weight of [`Op::Conv2d`] or, with a point window, of [`Op::Linear`]; arguments x and dy.
    Weight {
        /// The window of the map.
        window: Window,
        /// The weight.
        weight: ParamId,
    },
    /// Of a bias `[C]`, argument dy: the sum over positions.
    Bias,
    /// Of the factors of a group norm, arguments x and dy.
    NormWeight(GroupNorm),
    /// Of the frequencies of [`Op::FourierEmbedding`], arguments x and dy.
    Frequencies {
        /// The frequencies.
        weight: ParamId,
        /// As in the operation.
        log: bool,
        /// As in the operation.
        flip_sin_to_cos: bool,
    },
    /// Of the table of [`Op::Embedding`], arguments the row number and dy.
    Table(ParamId),
    /// Of the bias of [`Op::ElementBias`], argument dy: dy itself.
    ElementBias,
    /// Of the centres of [`Op::RadialBasis`], arguments x and dy.
    Centres {
        /// The centres.
        centres: ParamId,
        /// The widths.
        widths: ParamId,
    },
    /// Of its widths, arguments x and dy.
    Widths {
        /// The centres.
        centres: ParamId,
        /// The widths.
        widths: ParamId,
    },
}

impl Op {
    /// The operation's name, for messages and reports.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Input(_) => "input",
            Self::Conv2d { .. } => "conv2d",
            Self::Linear(_) => "linear",
            Self::GroupNorm(_) => "group_norm",
            Self::Activation(_) => "activation",
            Self::Binary(_) => "binary",
            Self::Affine { .. } => "affine",
            Self::Concat => "concat",
            Self::SliceChannels { .. } => "slice_channels",
            Self::UpsampleNearest { .. } => "upsample_nearest",
            Self::AveragePool { .. } => "average_pool",
            Self::Fir { .. } => "fir",
            Self::Attention { .. } => "attention",
            Self::AttentionBf16 { .. } => "attention_bf16",
            Self::SinusoidalEmbedding { .. } => "sinusoidal_embedding",
            Self::FourierEmbedding { .. } => "fourier_embedding",
            Self::Embedding { .. } => "embedding",
            Self::Reshape { .. } => "reshape",
            Self::ElementBias { .. } => "element_bias",
            Self::RadialBasis { .. } => "radial_basis",
            Self::NearestRow { .. } => "nearest_row",
            Self::Softmax => "softmax",
            Self::TemporalBasis { .. } => "temporal_basis",
            Self::MatVec => "mat_vec",
            Self::Outer => "outer",
            Self::VecMat => "vec_mat",
            Self::SoftmaxGrad => "softmax_grad",
            Self::RadialBasisGrad { .. } => "radial_basis_grad",
            Self::ConvAdjoint { .. } => "conv_adjoint",
            Self::ActivationGrad(_) => "activation_grad",
            Self::GroupNormGrad(_) => "group_norm_grad",
            Self::AttentionGrad { .. } => "attention_grad",
            Self::PadChannels { .. } => "pad_channels",
            Self::SumPositions => "sum_positions",
            Self::Parameter { .. } => "parameter",
            Self::PositionEmbedding { .. } => "position_embedding",
            Self::OneHot { .. } => "one_hot",
            Self::ChannelNorm(_) => "channel_norm",
            Self::ChannelNormGrad(_) => "channel_norm_grad",
            Self::DepthToSpace { .. } => "depth_to_space",
            Self::SpaceToDepth { .. } => "space_to_depth",
            Self::ReflectPad(_) => "reflect_pad",
            Self::ReflectPadAdjoint(_) => "reflect_pad_adjoint",
            Self::ShuffleChannels { .. } => "shuffle_channels",
            Self::ConcatPositions => "concat_positions",
            Self::SlicePositions { .. } => "slice_positions",
            Self::PadPositions { .. } => "pad_positions",
            Self::MaxPool(_) => "max_pool",
            Self::MaxPoolGrad(_) => "max_pool_grad",
            Self::LinearAttention { .. } => "linear_attention",
            Self::LinearAttentionGrad { .. } => "linear_attention_grad",
            Self::GroupNormAffine { .. } => "group_norm_affine",
            Self::ApplyAffine { .. } => "apply_affine",
            Self::FusedConv(_) => "fused_conv",
            Self::FusedNormGrad(_) => "fused_norm_grad",
            Self::FusedConvAdjoint(_) => "fused_conv_adjoint",
            #[cfg(feature = "training")]
            Self::ParamGrad(_) => "param_grad",
        }
    }

    /// Calls `f` with every parameter that the operation reads.
    pub fn for_each_param(&self, mut f: impl FnMut(ParamId)) {
        let mut kernel = |k: &Kernel| {
            f(k.weight);
            if let Some(b) = k.bias {
                f(b);
            }
        };
        match self {
            Self::Conv2d { kernel: k, .. } | Self::Linear(k) => kernel(k),
            Self::FusedConv(c) => c.kernels.iter().for_each(kernel),
            Self::GroupNorm(n)
            | Self::GroupNormGrad(n)
            | Self::GroupNormAffine { norm: n, .. }
            | Self::FusedNormGrad(FusedNormGrad { norm: n, .. }) => {
                f(n.weight);
                f(n.bias);
            }
            Self::FourierEmbedding { weight, .. } | Self::ConvAdjoint { weight, .. } => f(*weight),
            Self::FusedConvAdjoint(c) => c.weights.iter().for_each(|w| f(*w)),
            Self::Embedding { table } | Self::NearestRow { table } => f(*table),
            Self::Parameter { param, .. } => f(*param),
            Self::ChannelNorm(n) | Self::ChannelNormGrad(n) => n.weight.into_iter().chain(n.bias).for_each(f),
            #[cfg(feature = "training")]
            Self::ParamGrad(ParamGrad::Frequencies { weight, .. }) => f(*weight),
            #[cfg(feature = "training")]
            Self::ParamGrad(ParamGrad::Centres { centres, widths } | ParamGrad::Widths { centres, widths }) => {
                f(*centres);
                f(*widths);
            }
            Self::ElementBias { bias } => f(*bias),
            Self::RadialBasis { centres, widths } | Self::RadialBasisGrad { centres, widths } => {
                f(*centres);
                f(*widths);
            }
            _ => {}
        }
    }
}
