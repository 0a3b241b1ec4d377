//! `ndarray` at the public edge (feature `ndarray`): views of what the library holds, and arrays where it takes slices.
//!
//! Nothing is copied. A view that goes in must be in standard (row-major, contiguous) layout, else the call is an error
//! of kind `Shape` that says so; `array.as_standard_layout()` makes one.
//!
//! ```
//! use ndarray::{Array3, Array4};
//! use undiffuse::arrays::view;
//! use undiffuse::chain::{Chain, ChainOptions};
//! use undiffuse::denoiser::{Component, GaussianMixture};
//! use undiffuse::noise::Given;
//! use undiffuse::process::PredictionType;
//! use undiffuse::sampler::{SamplerKind, SamplerOptions, SchedulerConfig, Steps};
//! use undiffuse::tensor::Dims;
//!
//! // Two samples of one row of two pixels, from given noise, under a prior fitted to data.
//! let data = Array3::from_shape_fn((50, 1, 2), |(i, _, j)| (i as f32 * 0.02 - 0.5) * (1.0 + j as f32));
//! let prior = Component::fitted_to(data.view(), 1e-3)?;
//! let prior = GaussianMixture::new(Dims::new(&[1, 1, 2])?, &[prior], PredictionType::Epsilon)?;
//! let x_t = Array4::from_elem((2, 1, 1, 2), 0.5);
//! let noise = Given::from_arrays(x_t.view(), None, 0)?;
//!
//! let config = SchedulerConfig::new(SamplerKind::Ddim);
//! let sampler = config.sampler(&SamplerOptions { steps: Steps::Count(10), ..Default::default() })?;
//! let mut chain = Chain::new(prior, sampler, noise, &ChainOptions { batch: 2, ..Default::default() })?;
//! chain.run_with(undiffuse::chain::never(), |p| {
//!     let preview = view(&[2, 1, 1, 2], p.x0);
//!     assert!(preview.is_ok_and(|v| v.shape() == [2, 1, 1, 2]));
//!     undiffuse::chain::Flow::Continue
//! })?;
//! assert_eq!(chain.x_array()?.shape(), [2, 1, 1, 2]);
//! # Ok::<(), undiffuse::Error>(())
//! ```

use alloc::vec::Vec;

use ndarray::{ArrayView, ArrayViewD, Dimension, IxDyn};

use crate::chain::Chain;
use crate::denoiser::{Component, Denoiser};
use crate::error::{Result, ensure, err};
use crate::noise::{Given, NoiseSource};
use crate::posterior::Evidence;
use crate::posterior::operator::Dense;
use crate::sampler::Sampler;
use crate::tensor::Dims;

/// `values` as an array of this shape, without a copy. Errors: kind `Shape` if the lengths do not agree.
pub fn view<'a>(shape: &[usize], values: &'a [f32]) -> Result<ArrayViewD<'a, f32>> {
    ArrayView::from_shape(IxDyn(shape), values)
        .map_err(|_| err!(Shape, "{} values do not make an array of shape {shape:?}", values.len()))
}

/// The values of an array row by row, without a copy. Errors: kind `Shape` if it is not in standard layout.
pub fn values<'a, D: Dimension>(what: &str, array: ArrayView<'a, f32, D>) -> Result<&'a [f32]> {
    let shape: Vec<usize> = array.shape().into();
    array.to_slice().ok_or_else(|| err!(Shape, "{what} of shape {shape:?} is not in standard layout"))
}

impl<'w, D: Denoiser, S: Sampler, N: NoiseSource, E: Evidence> Chain<'w, D, S, N, E> {
    /// [`Chain::x`] as an array `[count, ...dims]`.
    pub fn x_array(&self) -> Result<ArrayViewD<'_, f32>> {
        view(&self.batch_shape(), self.x())
    }

    /// [`Chain::x0`] as an array `[count, ...dims]`.
    pub fn x0_array(&self) -> Result<ArrayViewD<'_, f32>> {
        view(&self.batch_shape(), self.x0())
    }

    fn batch_shape(&self) -> Vec<usize> {
        let mut shape = alloc::vec![self.count()];
        shape.extend(self.denoiser().sample_dims().as_slice());
        shape
    }
}

impl<'a> Given<'a> {
    /// As [`Given::new`], from x_T `[samples, ...dims]` and, where steps need it, noise `[steps, samples, ...dims]`.
    ///
    /// Errors: as there, and kind `Shape` if the shapes do not agree or an array is not in standard layout.
    pub fn from_arrays<D: Dimension>(
        x_t: ArrayView<'a, f32, D>,
        noise: Option<ArrayView<'a, f32, D::Larger>>,
        first_sample: u64,
    ) -> Result<Self> {
        let samples = x_t.shape().first().copied().unwrap_or(0);
        if let Some(noise) = &noise {
            let (got, expected) = (noise.shape(), x_t.shape());
            ensure!(
                got.get(1..) == Some(expected),
                Shape,
                "noise has shape {got:?}, expected [steps] and {expected:?}"
            );
        }
        let steps = noise.map(|n| values("noise", n)).transpose()?;
        Given::new(values("x_T", x_t)?, steps.unwrap_or(&[]), samples, first_sample)
    }
}

impl Component {
    /// As [`Component::fitted`], from samples `[N, ...dims]`.
    pub fn fitted_to<D: Dimension>(samples: ArrayView<'_, f32, D>, noise: f64) -> Result<Self> {
        let n = samples.shape().get(1..).unwrap_or(&[]).iter().product();
        Component::fitted(values("data", samples)?, n, noise)
    }
}

impl Dense {
    /// As [`Dense::new`], from a matrix of as many columns as `input` and rows as `output` has values.
    pub fn from_array(input: Dims, output: Dims, matrix: ndarray::ArrayView2<'_, f32>) -> Result<Self> {
        let (got, expected) = (matrix.dim(), (output.elements(), input.elements()));
        ensure!(
            got == expected,
            Shape,
            "the matrix is {} x {}, expected {} x {}",
            got.0,
            got.1,
            expected.0,
            expected.1
        );
        Dense::new(input, output, values("the matrix", matrix)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use alloc::vec;
    use ndarray::{Array2, Array3, Array4, array};

    #[test]
    fn what_does_not_fit_is_refused() {
        assert_eq!(view(&[2, 2], &[0.0; 3]).unwrap_err().kind(), ErrorKind::Shape);
        assert_eq!(view(&[usize::MAX, 2], &[0.0; 3]).unwrap_err().kind(), ErrorKind::Shape);
        let turned = array![[1.0f32, 2.0, 3.0], [4.0, 5.0, 6.0]].reversed_axes();
        assert!(values("m", turned.view()).unwrap_err().message().contains("standard layout"));
        assert_eq!(values("m", turned.as_standard_layout().view()).unwrap(), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        let (x, noise) = (Array3::zeros((2, 3, 1)), Array4::zeros((5, 3, 2, 1)));
        let e = Given::from_arrays(x.view(), Some(noise.view()), 0).unwrap_err();
        assert!(e.message().contains("[5, 3, 2, 1]"), "{e}");
        let noise = Array4::ones((5, 2, 3, 1));
        assert_eq!(Given::from_arrays(x.view(), Some(noise.view()), 7).unwrap().steps(), 5);
        assert!(Component::fitted_to(Array3::<f32>::zeros((0, 3, 1)).view(), 0.0).is_err());
    }

    #[test]
    fn a_matrix_is_taken_as_it_stands() {
        let (n, m) = (Dims::new(&[3]).unwrap(), Dims::new(&[2]).unwrap());
        let matrix: Array2<f32> = array![[1.0, 0.0, 2.0], [0.0, 1.0, 0.0]];
        assert!(Dense::from_array(n, m, matrix.view()).is_ok());
        let e = Dense::from_array(m, n, matrix.view()).unwrap_err();
        assert_eq!(e.message(), "the matrix is 2 x 3, expected 3 x 2");
    }
}
