//! What operations are made of: windows, weights, norms, elementwise functions.

use super::ParamId;

/// An elementwise function.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Activation {
    /// `x * sigmoid(x)`, also called swish.
    Silu,
    /// `x * tanh(softplus(x))`.
    Mish,
    /// `x * Phi(x)` with the exact normal distribution function, as `torch.nn.GELU()`.
    Gelu,
    /// `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))`, as `torch.nn.GELU(approximate="tanh")`.
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
    /// `x` where positive, else `slope * x`.
    LeakyRelu {
        /// The factor below zero.
        slope: f32,
    },
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
    /// `ln(1 + exp(x))`.
    Softplus,
}

/// How two values combine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Binary {
    /// `a + b`.
    Add,
    /// `a * b`.
    Mul,
    /// `a / b`.
    Div,
}

/// Rows and columns of zeros around an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Padding {
    /// Rows above.
    pub top: usize,
    /// Rows below.
    pub bottom: usize,
    /// Columns to the left.
    pub left: usize,
    /// Columns to the right.
    pub right: usize,
}

impl Padding {
    /// The same on all four sides.
    pub const fn all(n: usize) -> Self {
        Self { top: n, bottom: n, left: n, right: n }
    }
}

/// The window of a two-dimensional convolution. As in every network library it is a cross-correlation: kernels are not
/// flipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Kernel height and width.
    pub kernel: [usize; 2],
    /// Step between outputs, the same in both directions.
    pub stride: usize,
    /// Zeros around the input.
    pub padding: Padding,
    /// Step between the taps of the kernel, the same in both directions; 1 is a kernel without gaps.
    pub dilation: usize,
    /// Into how many groups of equal size the channels of input and output are cut, each group of the output being made
    /// of the same group of the input. 1 is an ordinary convolution, as many as there are channels a depthwise one.
    pub groups: usize,
}

impl Window {
    /// A 1x1 window: the convolution is a linear map of channels at each position.
    pub const POINT: Self = Self::new([1, 1], 1, Padding::all(0));

    /// A window without dilation and groups. A one-dimensional one has a kernel `[1, k]` and acts on `[C, 1, W]`; its
    /// stride does nothing to the single row.
    pub const fn new(kernel: [usize; 2], stride: usize, padding: Padding) -> Self {
        Self { kernel, stride, padding, dilation: 1, groups: 1 }
    }

    /// Rows and columns that the kernel spans, dilation included.
    pub fn span(&self) -> [usize; 2] {
        self.kernel.map(|k| k.saturating_sub(1).saturating_mul(self.dilation).saturating_add(k.min(1)))
    }

    /// Whether it is one without dilation and groups, which every backend has.
    pub fn is_plain(&self) -> bool {
        self.dilation == 1 && self.groups == 1
    }

    /// Whether this is [`Window::POINT`].
    pub fn is_point(&self) -> bool {
        *self == Self::POINT
    }
}

/// One weight matrix with its bias. The weight is `[out, in]` for a point window, else or also `[out, in, kh, kw]` (of
/// a one-dimensional kernel also `[out, in, kw]`), with `in / groups` in place of `in`; the bias is `[out]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// The weight.
    pub weight: ParamId,
    /// The bias, if any.
    pub bias: Option<ParamId>,
}

/// Group normalisation: each sample's channels in `groups` equal groups are shifted and scaled to mean 0 and variance 1
/// over all channels and positions of the group (variance with divisor n), then per channel by `weight` and `bias`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupNorm {
    /// How many groups; divides the channels.
    pub groups: usize,
    /// Added to the variance under the root.
    pub eps: f32,
    /// Factor per channel, `[C]`.
    pub weight: ParamId,
    /// Offset per channel, `[C]`.
    pub bias: ParamId,
}

/// By what [`ChannelNorm`] divides, and what it does before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NormKind {
    /// `(x - mean) / sqrt(variance + eps)`, variance with divisor n (Ba et al. 2016).
    Layer,
    /// `x / sqrt(mean(x^2) + eps)` (Zhang and Sennrich 2019); without factors also called pixel norm (Karras et al.
    /// 2018).
    Rms,
    /// `x * sqrt(n) / max(|x|, eps)`, as `torch.nn.functional.normalize` times the root of the channels.
    L2,
}

/// Normalisation at each position alone: its channels, in `groups` equal groups of n, are normalised as `kind` says,
/// then multiplied by `weight` and shifted by `bias`, where there are any. Each has C elements, or C / groups for all
/// groups alike (the norm of q and k in each head).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChannelNorm {
    /// What is computed.
    pub kind: NormKind,
    /// How many groups; divides the channels. 1 is the usual layer norm.
    pub groups: usize,
    /// See [`NormKind`].
    pub eps: f32,
    /// Factors.
    pub weight: Option<ParamId>,
    /// Offsets.
    pub bias: Option<ParamId>,
}
