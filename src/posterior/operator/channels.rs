//! Operators on the channels of an image.

use super::axis::Factor;
use super::image;
use super::jacobi::Matrix;
use super::kron::{Kron, is_kron};
use crate::error::{Result, ensure, err};
use crate::tensor::Dims;

/// Keeps some channels of an image, in the order they are named. All singular values are 1.
#[derive(Clone, Debug)]
pub struct Channels {
    kron: Kron,
}

impl Channels {
    /// Of images `dims` `[C, H, W]`, the channels `kept`.
    ///
    /// Errors: kind `Shape` if `dims` is no image; kind `InvalidArgument` if no channel is kept, or one twice, or one
    /// that does not exist.
    pub fn new(dims: Dims, kept: &[usize]) -> Result<Self> {
        let [c, h, w] = image("a channel selection", dims)?;
        ensure!(!kept.is_empty(), InvalidArgument, "a channel selection keeps no channel");
        for (i, &k) in kept.iter().enumerate() {
            ensure!(k < c, InvalidArgument, "channel {k} is to be kept, the image has {c}");
            ensure!(
                !kept.iter().take(i).any(|&earlier| earlier == k),
                InvalidArgument,
                "channel {k} is to be kept twice"
            );
        }
        let pick = Matrix::from_fn(kept.len(), c, |i, j| f64::from(u8::from(kept.get(i) == Some(&j))))?;
        let factors = [Factor::Dense(pick), Factor::Same(h), Factor::Same(w)];
        Ok(Self { kron: Kron::new("channel selection", factors)? })
    }
}

/// A weighted sum over the channels of an image: `[C, H, W]` to `[1, H, W]`.
#[derive(Clone, Debug)]
pub struct Grey {
    kron: Kron,
}

impl Grey {
    /// The mean of the channels.
    ///
    /// Errors: kind `Shape` if `dims` is no image.
    pub fn mean(dims: Dims) -> Result<Self> {
        let [c, ..] = image("grey-scale", dims)?;
        Self::build(dims, |_| 1.0 / c as f64)
    }

    /// With a weight for each channel, for example Rec. 601's 0.299, 0.587, 0.114.
    ///
    /// Errors: kind `Shape` if `dims` is no image or has another number of channels; kinds `NonFinite` and
    /// `InvalidArgument` for weights that are not finite or all 0.
    pub fn weighted(dims: Dims, weights: &[f64]) -> Result<Self> {
        let [c, ..] = image("grey-scale", dims)?;
        if weights.len() != c {
            return Err(err!(Shape, "grey-scale has {} weights, the image {c} channels", weights.len()));
        }
        Self::build(dims, |j| weights.get(j).copied().unwrap_or(0.0))
    }

    fn build(dims: Dims, weight: impl Fn(usize) -> f64) -> Result<Self> {
        let [c, h, w] = image("grey-scale", dims)?;
        let sum = Matrix::from_fn(1, c, |_, j| weight(j))?;
        let factors = [Factor::Dense(sum), Factor::Same(h), Factor::Same(w)];
        Ok(Self { kron: Kron::new("grey-scale", factors)? })
    }
}

is_kron!(Channels, Grey);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_is_refused() {
        let dims = Dims::new(&[3, 2, 2]).unwrap();
        for kept in [&[][..], &[3], &[0, 0], &[usize::MAX]] {
            assert!(Channels::new(dims, kept).is_err(), "{kept:?}");
        }
        for weights in [&[][..], &[1.0, 1.0], &[0.0; 3], &[f64::NAN, 1.0, 1.0]] {
            assert!(Grey::weighted(dims, weights).is_err(), "{weights:?}");
        }
        assert!(Grey::mean(Dims::new(&[3, 4]).unwrap()).is_err());
    }
}
