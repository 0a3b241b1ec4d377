//! Blur whose kernel is a product of one over rows and one over columns.

use super::image;
use super::kernel::{Padding, check_taps, convolution};
use super::kron::{Factor, Kron, is_kron};
use crate::error::Result;
use crate::tensor::Dims;

/// y = k_rows k_columns^T * x in each channel: convolution (the kernel is not mirrored: an impulse shows it as it is),
/// its centre at tap `len / 2`, output as large as the image.
///
/// The decomposition is made axis by axis when the operator is made, in O(n^3) of an axis: half a second for 256, half
/// a minute for 1024. For circular edges [`CircularBlur`](super::CircularBlur) has it at once.
#[derive(Clone, Debug)]
pub struct SeparableBlur {
    kron: Kron,
}

impl SeparableBlur {
    /// For images `dims` `[C, H, W]`; `down` acts along columns (over H), `across` along rows (over W).
    ///
    /// Errors: kind `Shape` if `dims` is no image; kind `InvalidArgument` for an empty or zero kernel or a side above
    /// 1024; kind `NonFinite` for taps that are not finite.
    pub fn new(dims: Dims, down: &[f32], across: &[f32], padding: Padding) -> Result<Self> {
        let name = "separable blur";
        let [c, h, w] = image(name, dims)?;
        check_taps(name, down)?;
        check_taps(name, across)?;
        let axis = |taps: &[f32], n| convolution(taps, n, padding).map(Factor::Dense);
        Ok(Self { kron: Kron::new(name, [Factor::Same(c), axis(down, h)?, axis(across, w)?])? })
    }
}

is_kron!(SeparableBlur);
