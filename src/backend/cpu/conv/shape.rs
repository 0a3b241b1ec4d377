//! The sizes of a convolution.

use crate::error::{Result, ensure, err};
use crate::graph::Padding;

/// The sizes of a convolution of one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvShape {
    /// Rows of the input, without padding.
    pub height: usize,
    /// Columns of the input, without padding.
    pub width: usize,
    /// Channels of the input (of both sources together).
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Rows and columns of the filter.
    pub kernel: [usize; 2],
    /// Steps down and to the right.
    pub stride: [usize; 2],
    /// Zeros around the input.
    pub padding: Padding,
    /// Step between the taps of the filter.
    pub dilation: usize,
}

impl ConvShape {
    /// A linear layer on rows: a 1x1 convolution of a 1x1 image, where the batch counts the rows.
    #[cfg(any(test, feature = "bench"))]
    pub const fn linear(in_features: usize, out_features: usize) -> Self {
        Self::square(1, 1, in_features, out_features, 1, 1, Padding::all(0))
    }

    /// A convolution with a square filter and one stride.
    pub const fn square(
        height: usize,
        width: usize,
        in_channels: usize,
        out_channels: usize,
        kernel: usize,
        stride: usize,
        padding: Padding,
    ) -> Self {
        Self {
            height,
            width,
            in_channels,
            out_channels,
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding,
            dilation: 1,
        }
    }

    /// Rows and columns of the padded input.
    pub fn padded(&self) -> Option<[usize; 2]> {
        let p = &self.padding;
        Some([
            self.height.checked_add(p.top)?.checked_add(p.bottom)?,
            self.width.checked_add(p.left)?.checked_add(p.right)?,
        ])
    }

    /// Rows and columns of the output.
    ///
    /// # Errors
    /// `Shape` if a size is 0, overflows, or the filter does not fit in the padded input.
    pub fn output(&self) -> Result<[usize; 2]> {
        let [ph, pw] = self.padded().ok_or_else(|| err!(Shape, "convolution of {self:?} is too large"))?;
        let [kh, kw] = self.kernel;
        let sizes = [self.height, self.width, self.in_channels, self.out_channels, kh, kw];
        let nonzero = !sizes.contains(&0) && !self.stride.contains(&0) && self.dilation > 0;
        ensure!(nonzero, Shape, "convolution with a size of 0: {self:?}");
        let span = |k: usize| (k - 1).saturating_mul(self.dilation).saturating_add(1);
        let (kh, kw) = (span(kh), span(kw));
        ensure!(kh <= ph && kw <= pw, Shape, "a {kh}x{kw} filter does not fit in the padded input of {ph}x{pw}");
        Ok([(ph - kh) / self.stride[0] + 1, (pw - kw) / self.stride[1] + 1])
    }

    /// Floats of one padded image of `channels` channels.
    pub(super) fn image_len(&self, channels: usize) -> Option<usize> {
        let [ph, pw] = self.padded()?;
        ph.checked_mul(pw)?.checked_mul(channels)
    }

    pub(super) fn weight_len(&self) -> Option<usize> {
        let [kh, kw] = self.kernel;
        self.out_channels.checked_mul(self.in_channels)?.checked_mul(kh)?.checked_mul(kw)
    }
}
