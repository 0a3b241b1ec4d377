//! The operators of super-resolution: an image made smaller.

use super::axis::Factor;
use super::image;
use super::kernel::{Padding, shrink};
use super::kron::{Kron, is_kron};
use crate::error::{Result, ensure};
use crate::tensor::Dims;

/// The mean of blocks of factor x factor. All singular values are 1 / factor.
#[derive(Clone, Debug)]
pub struct BlockAverage {
    kron: Kron,
}

impl BlockAverage {
    /// For images `dims` `[C, H, W]`.
    ///
    /// Errors: kind `Shape` if `dims` is no image; kind `InvalidArgument` if the factor is 0 or 1 or divides not both
    /// sides.
    pub fn new(dims: Dims, factor: usize) -> Result<Self> {
        let name = "block average";
        let [c, h, w] = divided(name, dims, factor)?;
        let factors = [Factor::Same(c), Factor::Means(h, factor), Factor::Means(w, factor)];
        Ok(Self { kron: Kron::new(name, factors)? })
    }
}

/// Bicubic reduction with anti-aliasing: Keys's cubic with a = -1/2, stretched by the factor, as Pillow's `BICUBIC` and
/// Matlab's `imresize` have it. Inside an image all three agree; at the edge this one sees what [`Padding`] says
/// (symmetric is Matlab's), where Pillow drops the outer taps and rescales the rest.
#[derive(Clone, Debug)]
pub struct Bicubic {
    kron: Kron,
}

impl Bicubic {
    /// For images `dims` `[C, H, W]`.
    ///
    /// Errors: as [`BlockAverage::new`]; kind `InvalidArgument` where a side would be above 1024 when reduced.
    pub fn new(dims: Dims, factor: usize, padding: Padding) -> Result<Self> {
        let name = "bicubic reduction";
        let [c, h, w] = divided(name, dims, factor)?;
        let axis = |n| shrink(n, factor, padding, 2.0, keys).map(Factor::Dense);
        Ok(Self { kron: Kron::new(name, [Factor::Same(c), axis(h)?, axis(w)?])? })
    }
}

/// Keys 1981, a = -1/2.
fn keys(x: f64) -> f64 {
    let x = x.abs();
    if x <= 1.0 {
        (1.5 * x - 2.5) * x * x + 1.0
    } else if x < 2.0 {
        ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    } else {
        0.0
    }
}

/// The sides of an image that a factor divides.
fn divided(name: &str, dims: Dims, factor: usize) -> Result<[usize; 3]> {
    let [c, h, w] = image(name, dims)?;
    ensure!(
        factor >= 2 && h.is_multiple_of(factor) && w.is_multiple_of(factor),
        InvalidArgument,
        "{name}: factor {factor} for an image of {h} x {w}, expected at least 2 and a divisor of both sides"
    );
    Ok([c, h, w])
}

is_kron!(BlockAverage, Bicubic);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::posterior::operator::{LinearOperator, Svd};
    use alloc::vec;

    #[test]
    fn bicubic_weights_are_the_published_ones() {
        // The response to one row of impulses: the weights of factor 2 are those at 1/4, 3/4, 5/4 and 7/4, halved.
        let op = Bicubic::new(Dims::new(&[1, 2, 16]).unwrap(), 2, Padding::Symmetric).unwrap();
        let mut scratch = vec![0.0; op.solve_scratch_len()];
        let mut y = [0.0; 8];
        let expected = [-0.011_718_75, -0.035_156_25, 0.113_281_25, 0.433_593_75];
        for (at, weight) in (5..9).zip(expected) {
            let mut x = [0.0; 32];
            (x[at], x[16 + at]) = (1.0, 1.0);
            op.apply(&x, &mut y, &mut scratch).unwrap();
            assert!((y[4] - weight).abs() < 1e-7, "{at}: {}", y[4]);
        }
    }

    #[test]
    fn a_constant_stays_constant() {
        for padding in [Padding::Symmetric, Padding::Circular] {
            let op = Bicubic::new(Dims::new(&[2, 12, 8]).unwrap(), 4, padding).unwrap();
            let mut y = vec![0.0; 12];
            op.apply(&[0.7; 192], &mut y, &mut vec![0.0; op.scratch_len()]).unwrap();
            assert!(y.iter().all(|v| (v - 0.7).abs() < 1e-6), "{y:?}");
        }
    }

    #[test]
    fn blocks_have_equal_singular_values() {
        let op = BlockAverage::new(Dims::new(&[1, 8, 12]).unwrap(), 4).unwrap();
        assert_eq!(op.singular_values().len(), 6);
        assert!(op.singular_values().iter().all(|s| (s - 0.25).abs() < 1e-7));
    }

    #[test]
    fn factors_that_do_not_fit_are_refused() {
        let dims = Dims::new(&[1, 8, 12]).unwrap();
        for factor in [0, 1, 3, 8, usize::MAX] {
            assert!(BlockAverage::new(dims, factor).is_err(), "{factor}");
            assert!(Bicubic::new(dims, factor, Padding::Zero).is_err(), "{factor}");
        }
    }
}
