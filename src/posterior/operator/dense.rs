//! A matrix given entry by entry.

use super::axis::Factor;
use super::jacobi::Matrix;
use super::kron::{Kron, Map};
use super::{LinearOperator, Svd};
use crate::error::{Result, ensure};
use crate::tensor::Dims;

/// y = M x for a dense matrix M of m x n.
#[derive(Clone, Debug)]
pub struct Dense {
    input: Dims,
    output: Dims,
    kron: Kron,
}

impl Dense {
    /// `matrix` has m rows of n values; n is the number of elements of `input`, m that of `output`.
    ///
    /// The decomposition is made here, O(min(m, n)^2 max(m, n)). Errors: kind `Shape` for another length; kind
    /// `NonFinite`; kind `InvalidArgument` if the matrix is 0 or both of its sides are above 1024.
    pub fn new(input: Dims, output: Dims, matrix: &[f32]) -> Result<Self> {
        let (n, m) = (input.elements(), output.elements());
        ensure!(
            Some(matrix.len()) == m.checked_mul(n),
            Shape,
            "the matrix has {} entries, expected {m} rows of {n}",
            matrix.len()
        );
        let full = Matrix::from_fn(m, n, |i, j| matrix.get(i * n + j).copied().map_or(0.0, f64::from))?;
        let kron = Kron::new("dense matrix", [Factor::Dense(full), Factor::Same(1), Factor::Same(1)])?;
        Ok(Self { input, output, kron })
    }
}

impl LinearOperator for Dense {
    fn name(&self) -> &'static str {
        self.kron.name()
    }
    fn input_dims(&self) -> Dims {
        self.input
    }
    fn output_dims(&self) -> Dims {
        self.output
    }
    fn scratch_len(&self) -> usize {
        self.kron.scratch_len()
    }
    fn apply(&self, x: &[f32], y: &mut [f32], scratch: &mut [f32]) -> Result<()> {
        self.kron.map(Map::A, x, y, scratch)
    }
    fn adjoint(&self, y: &[f32], x: &mut [f32], scratch: &mut [f32]) -> Result<()> {
        self.kron.map(Map::At, y, x, scratch)
    }
    fn svd(&self) -> Option<&dyn Svd> {
        Some(self)
    }
}

impl Svd for Dense {
    fn singular_values(&self) -> &[f32] {
        self.kron.singular_values()
    }
    fn vt(&self, x: &[f32], z: &mut [f32], scratch: &mut [f32]) -> Result<()> {
        self.kron.map(Map::Vt, x, z, scratch)
    }
    fn v(&self, z: &[f32], x: &mut [f32], scratch: &mut [f32]) -> Result<()> {
        self.kron.map(Map::V, z, x, scratch)
    }
    fn ut(&self, y: &[f32], w: &mut [f32], scratch: &mut [f32]) -> Result<()> {
        self.kron.map(Map::Ut, y, w, scratch)
    }
    fn u(&self, w: &[f32], y: &mut [f32], scratch: &mut [f32]) -> Result<()> {
        self.kron.map(Map::U, w, y, scratch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn nonsense_is_refused() {
        let (n, m) = (Dims::new(&[3]).unwrap(), Dims::new(&[2]).unwrap());
        assert_eq!(Dense::new(n, m, &[1.0; 5]).unwrap_err().kind(), ErrorKind::Shape);
        assert_eq!(Dense::new(n, m, &[0.0; 6]).unwrap_err().kind(), ErrorKind::InvalidArgument);
        assert_eq!(Dense::new(n, m, &[f32::NAN; 6]).unwrap_err().kind(), ErrorKind::NonFinite);
    }
}
