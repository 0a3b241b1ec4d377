//! Compressed sensing by part of a Walsh-Hadamard transform.

use alloc::vec::Vec;

use super::{LinearOperator, Svd, check, check_len, image, split};
use crate::error::{Result, ensure};
use crate::memory::filled;
use crate::noise::Stream;
use crate::tensor::Dims;

/// Shuffles the positions of an image, alike in all channels, transforms each channel by the orthonormal Walsh-Hadamard
/// matrix (Sylvester's order) and keeps the first `measurements` coefficients: y is `[C, measurements]`.
///
/// H x W must be a power of 2. All singular values are 1, U is the identity, V^T is A.
#[derive(Clone, Debug)]
pub struct Hadamard {
    input: Dims,
    output: Dims,
    order: Vec<usize>,
    kept: usize,
    ones: Vec<f32>,
}

impl Hadamard {
    /// For images `dims` `[C, H, W]`. `seed` picks the shuffle: Fisher-Yates with the stream
    /// [`Stream::new`]`(seed, 0, 0)`.
    ///
    /// Errors: kind `Shape` if `dims` is no image or H x W no power of 2; kind `InvalidArgument` if `measurements` is 0
    /// or above H x W.
    pub fn new(dims: Dims, measurements: usize, seed: u64) -> Result<Self> {
        let [c, h, w] = image("Walsh-Hadamard sensing", dims)?;
        let positions = dims.positions();
        ensure!(
            positions.is_power_of_two(),
            Shape,
            "Walsh-Hadamard sensing of images of {h} x {w}, expected a power of 2 in all"
        );
        ensure!(
            (1..=positions).contains(&measurements),
            InvalidArgument,
            "Walsh-Hadamard sensing with {measurements} measurements, expected 1 to {positions}"
        );
        let mut order = filled("an operator", positions, 0)?;
        order.iter_mut().enumerate().for_each(|(i, o)| *o = i);
        let mut stream = Stream::new(seed, 0, 0);
        for i in (1..positions).rev() {
            // A word scaled to 0 ..= i: no division, and a bias of at most (i + 1) / 2^64.
            let j = ((u128::from(stream.bits()) * (i as u128 + 1)) >> 64) as usize;
            order.swap(i, j);
        }
        let output = Dims::new(&[c, measurements])?;
        Ok(Self {
            input: dims,
            output,
            order,
            kept: measurements,
            ones: filled("an operator", output.elements(), 1.0)?,
        })
    }

    fn forward(&self, call: &str, x: &[f32], y: &mut [f32], scratch: &mut [f32]) -> Result<()> {
        check(self, call, x.len(), y.len(), scratch.len(), self.scratch_len())?;
        let (work, _) = split(scratch, self.order.len())?;
        for (x, y) in x.chunks_exact(self.order.len()).zip(y.chunks_exact_mut(self.kept)) {
            work.iter_mut().zip(&self.order).for_each(|(w, &from)| *w = x[from]);
            transform(work);
            y.copy_from_slice(&work[..self.kept]);
        }
        Ok(())
    }

    fn backward(&self, call: &str, y: &[f32], x: &mut [f32], scratch: &mut [f32]) -> Result<()> {
        check(self, call, x.len(), y.len(), scratch.len(), self.scratch_len())?;
        let (work, _) = split(scratch, self.order.len())?;
        for (x, y) in x.chunks_exact_mut(self.order.len()).zip(y.chunks_exact(self.kept)) {
            let (head, tail) = work.split_at_mut(self.kept);
            head.copy_from_slice(y);
            tail.fill(0.0);
            transform(work);
            work.iter().zip(&self.order).for_each(|(&w, &to)| x[to] = w);
        }
        Ok(())
    }
}

/// The orthonormal transform in place; its own inverse.
fn transform(v: &mut [f32]) {
    let mut half = 1;
    while half < v.len() {
        for pair in v.chunks_exact_mut(2 * half) {
            let (a, b) = pair.split_at_mut(half);
            a.iter_mut().zip(b).for_each(|(a, b)| (*a, *b) = (*a + *b, *a - *b));
        }
        half *= 2;
    }
    let scale = (1.0 / libm::sqrt(v.len() as f64)) as f32;
    v.iter_mut().for_each(|v| *v *= scale);
}

impl LinearOperator for Hadamard {
    fn name(&self) -> &'static str {
        "Walsh-Hadamard sensing"
    }
    fn input_dims(&self) -> Dims {
        self.input
    }
    fn output_dims(&self) -> Dims {
        self.output
    }
    fn scratch_len(&self) -> usize {
        self.order.len()
    }
    fn apply(&self, x: &[f32], y: &mut [f32], scratch: &mut [f32]) -> Result<()> {
        self.forward("A", x, y, scratch)
    }
    fn adjoint(&self, y: &[f32], x: &mut [f32], scratch: &mut [f32]) -> Result<()> {
        self.backward("A^T", y, x, scratch)
    }
    fn svd(&self) -> Option<&dyn Svd> {
        Some(self)
    }
}

impl Svd for Hadamard {
    fn singular_values(&self) -> &[f32] {
        &self.ones
    }
    fn vt(&self, x: &[f32], z: &mut [f32], scratch: &mut [f32]) -> Result<()> {
        self.forward("V^T", x, z, scratch)
    }
    fn v(&self, z: &[f32], x: &mut [f32], scratch: &mut [f32]) -> Result<()> {
        self.backward("V", z, x, scratch)
    }
    fn ut(&self, y: &[f32], w: &mut [f32], _: &mut [f32]) -> Result<()> {
        check_len(self.name(), "U^T", "a measurement", y.len(), self.ones.len())?;
        check_len(self.name(), "U^T", "an output", w.len(), self.ones.len())?;
        w.copy_from_slice(y);
        Ok(())
    }
    fn u(&self, w: &[f32], y: &mut [f32], scratch: &mut [f32]) -> Result<()> {
        self.ut(w, y, scratch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn the_transform_is_sylvesters() {
        let mut v = [1.0, 2.0, 3.0, 4.0];
        transform(&mut v);
        assert_eq!(v, [5.0, -1.0, -2.0, 0.0]);
        let mut one = [3.0];
        transform(&mut one);
        assert_eq!(one, [3.0]);
    }

    #[test]
    fn a_shuffle_is_a_permutation() {
        let mut order = Hadamard::new(Dims::new(&[1, 8, 8]).unwrap(), 8, 5).unwrap().order;
        assert_ne!(order[..8], [0, 1, 2, 3, 4, 5, 6, 7]);
        order.sort_unstable();
        assert!(order.iter().enumerate().all(|(i, &o)| i == o));
    }

    #[test]
    fn nonsense_is_refused() {
        let new = |dims: &[usize], m| Hadamard::new(Dims::new(dims).unwrap(), m, 0).unwrap_err().kind();
        assert_eq!(new(&[1, 3, 4], 2), ErrorKind::Shape);
        assert_eq!(new(&[16], 2), ErrorKind::Shape);
        assert_eq!(new(&[1, 4, 4], 0), ErrorKind::InvalidArgument);
        assert_eq!(new(&[1, 4, 4], 17), ErrorKind::InvalidArgument);
    }
}
