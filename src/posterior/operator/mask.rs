//! The operator of inpainting.

use alloc::vec::Vec;

use super::{Coordinates, LinearOperator, Svd, check, image};
use crate::error::{Result, ensure, err};
use crate::memory::{filled, room};
use crate::tensor::Dims;

/// Keeps some elements of a sample: y holds the known values in ascending order of their position, nothing else.
///
/// A^T puts them back and leaves 0 elsewhere, which is also the picture to show of a measurement. All singular values
/// are 1, U is the identity.
#[derive(Clone, Debug)]
pub struct Mask {
    input: Dims,
    output: Dims,
    known: Vec<usize>,
    ones: Vec<f32>,
}

impl Mask {
    /// From one flag for each element of a sample, or one for each position (H x W), which then holds for all channels;
    /// `true` is known.
    ///
    /// Errors: kind `Shape` for another length; kind `InvalidArgument` if nothing or everything is known.
    pub fn new(dims: Dims, known: &[bool]) -> Result<Self> {
        let (n, positions) = (dims.elements(), dims.positions());
        ensure!(
            known.len() == n || known.len() == positions,
            Shape,
            "the mask has {} flags, expected {n} for samples of shape {dims} or {positions} for all channels alike",
            known.len()
        );
        let count = known.iter().filter(|&&k| k).count();
        ensure!(
            count > 0,
            InvalidArgument,
            "the mask hides everything; without evidence, sample from the model as it is"
        );
        ensure!(count < known.len(), InvalidArgument, "the mask hides nothing; for denoising use the identity");
        let mut indices = room("known elements", count * (n / known.len()))?;
        indices.extend((0..n).zip(known.iter().cycle()).filter(|&(_, &k)| k).map(|(i, _)| i));
        Ok(Self {
            input: dims,
            output: Dims::new(&[indices.len()])?,
            ones: filled("an operator", indices.len(), 1.0)?,
            known: indices,
        })
    }

    /// An image whose rectangle of `height` x `width` from row `top` and column `left` is unknown, in all channels.
    ///
    /// Errors: kind `Shape` if `dims` is no image `[C, H, W]`; kind `InvalidArgument` if the rectangle leaves the
    /// image, is empty or covers it.
    pub fn without_box(dims: Dims, top: usize, left: usize, height: usize, width: usize) -> Result<Self> {
        let [_, h, w] = image("a box mask", dims)?;
        let ends = (top.checked_add(height), left.checked_add(width));
        let (Some(bottom), Some(right)) = ends else {
            return Err(err!(InvalidArgument, "the box of {height} x {width} at ({top}, {left}) has no end"));
        };
        ensure!(
            bottom <= h && right <= w && height > 0 && width > 0,
            InvalidArgument,
            "the box of {height} x {width} at ({top}, {left}) does not lie in an image of {h} x {w}"
        );
        let mut known = filled("an operator", h.saturating_mul(w), true)?;
        for row in known.chunks_exact_mut(w).take(bottom).skip(top) {
            row.iter_mut().take(right).skip(left).for_each(|k| *k = false);
        }
        Self::new(dims, &known)
    }

    /// The positions of the known elements, ascending: y_i is element `known()[i]` of x.
    pub fn known(&self) -> &[usize] {
        &self.known
    }

    fn gather(&self, call: &str, x: &[f32], y: &mut [f32]) -> Result<()> {
        check(self, call, x.len(), y.len(), 0, 0)?;
        // Every index is below n, which `check` compared with the length of x.
        y.iter_mut().zip(&self.known).for_each(|(y, &i)| *y = x[i]);
        Ok(())
    }

    fn scatter(&self, call: &str, y: &[f32], x: &mut [f32]) -> Result<()> {
        check(self, call, x.len(), y.len(), 0, 0)?;
        x.fill(0.0);
        y.iter().zip(&self.known).for_each(|(&y, &i)| x[i] = y);
        Ok(())
    }
}

impl LinearOperator for Mask {
    fn name(&self) -> &'static str {
        "mask"
    }
    fn input_dims(&self) -> Dims {
        self.input
    }
    fn output_dims(&self) -> Dims {
        self.output
    }
    fn apply(&self, x: &[f32], y: &mut [f32], _: &mut [f32]) -> Result<()> {
        self.gather("A", x, y)
    }
    fn adjoint(&self, y: &[f32], x: &mut [f32], _: &mut [f32]) -> Result<()> {
        self.scatter("A^T", y, x)
    }
    fn svd(&self) -> Option<&dyn Svd> {
        Some(self)
    }
}

impl Svd for Mask {
    fn singular_values(&self) -> &[f32] {
        &self.ones
    }
    fn vt(&self, x: &[f32], z: &mut [f32], _: &mut [f32]) -> Result<()> {
        self.gather("V^T", x, z)
    }
    fn v(&self, z: &[f32], x: &mut [f32], _: &mut [f32]) -> Result<()> {
        self.scatter("V", z, x)
    }
    fn ut(&self, y: &[f32], w: &mut [f32], _: &mut [f32]) -> Result<()> {
        copy(y, w)
    }
    fn u(&self, w: &[f32], y: &mut [f32], _: &mut [f32]) -> Result<()> {
        copy(w, y)
    }
    fn coordinates(&self) -> Option<Coordinates<'_>> {
        Some(Coordinates::Some(&self.known))
    }
}

fn copy(from: &[f32], to: &mut [f32]) -> Result<()> {
    super::check_len("mask", "U", "a measurement", to.len(), from.len())?;
    to.copy_from_slice(from);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_box_hides_its_rectangle_in_every_channel() {
        let dims = Dims::new(&[2, 3, 4]).unwrap();
        let m = Mask::without_box(dims, 1, 1, 2, 2).unwrap();
        assert_eq!(m.known(), [0, 1, 2, 3, 4, 7, 8, 11, 12, 13, 14, 15, 16, 19, 20, 23]);
    }

    #[test]
    fn masks_that_are_none_are_refused() {
        let dims = Dims::new(&[2, 3, 4]).unwrap();
        for (flags, kind) in [
            (filled("an operator", 24, false), ErrorKind::InvalidArgument),
            (filled("an operator", 12, true), ErrorKind::InvalidArgument),
            (filled("an operator", 13, true), ErrorKind::Shape),
            (filled("an operator", 0, true), ErrorKind::Shape),
        ] {
            assert_eq!(Mask::new(dims, &flags.unwrap()).unwrap_err().kind(), kind);
        }
        for (top, left, h, w) in [(2, 0, 2, 1), (0, 4, 1, 1), (0, 0, 3, 4), (0, 0, 0, 1), (usize::MAX, 0, 2, 1)] {
            assert!(Mask::without_box(dims, top, left, h, w).is_err(), "{top} {left} {h} {w}");
        }
        assert_eq!(Mask::without_box(Dims::new(&[5]).unwrap(), 0, 0, 1, 1).unwrap_err().kind(), ErrorKind::Shape);
    }
}
