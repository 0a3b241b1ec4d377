//! Blur whose kernel is a product of one over rows and one over columns.

use super::axis::Factor;
use super::cosine::Cosine;
use super::image;
use super::kernel::{Padding, check_taps, convolution};
use super::kron::{Kron, is_kron};
use crate::error::Result;
use crate::tensor::Dims;

/// y = k_rows k_columns^T * x in each channel: convolution (the kernel is not mirrored: an impulse shows it as it is),
/// its centre at tap `len / 2`, output as large as the image.
///
/// With [`Padding::Symmetric`] and an odd number of taps that read the same from both ends, as a Gaussian's do, the
/// decomposition is that of the cosine transform, for images of any size. Otherwise it is made axis by axis when the
/// operator is made, in O(n^3) of an axis: half a second for 256, half a minute for 1024. For circular edges
/// [`CircularBlur`](super::CircularBlur) has it at once.
#[derive(Clone, Debug)]
pub struct SeparableBlur {
    kron: Kron,
}

impl SeparableBlur {
    /// For images `dims` `[C, H, W]`; `down` acts along columns (over H), `across` along rows (over W).
    ///
    /// Errors: kind `Shape` if `dims` is no image; kind `InvalidArgument` for an empty or zero kernel, and where
    /// it is no cosine transform for a side above 1024; kind `NonFinite` for taps that are not finite.
    pub fn new(dims: Dims, down: &[f32], across: &[f32], padding: Padding) -> Result<Self> {
        let name = "separable blur";
        let [c, h, w] = image(name, dims)?;
        check_taps(name, down)?;
        check_taps(name, across)?;
        Ok(Self { kron: Kron::new(name, [Factor::Same(c), axis(down, h, padding)?, axis(across, w, padding)?])? })
    }
}

fn axis(taps: &[f32], n: usize, padding: Padding) -> Result<Factor<'_>> {
    if Cosine::suits(taps, padding) {
        return Ok(Factor::Blur(taps, n));
    }
    convolution(taps, n, padding).map(Factor::Dense)
}

is_kron!(SeparableBlur);
