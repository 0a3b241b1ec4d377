//! The sheet: a row for each picture with what is known of it, side by side.

use undiffuse::posterior::operator::LinearOperator;
use undiffuse::tensor::Dims;
use undiffuse::{Error, ErrorKind, Result};

use super::figures::Collected;
use super::operator::Operator;
use crate::arrays::Array;
use crate::image::{Grid, Kind};
use crate::output::Output;

/// Rows of a sheet; further pictures are left out.
pub const ROWS: usize = 16;
/// Samples in a row.
pub const SAMPLES: usize = 4;

/// A measurement as a picture: as it is where it has the picture's shape, otherwise A^+ y; none where A is not linear
/// and gives another shape.
pub fn picture(operator: &Operator, y: &[f32], dims: &Dims) -> Result<Option<Vec<f32>>> {
    match operator.as_linear() {
        Some(operator) => backwards(operator, y, dims).map(Some),
        None => Ok((operator.forward().codomain() == *dims).then(|| y.to_vec())),
    }
}

/// As [`picture`], of a linear operator.
pub fn backwards(operator: &dyn LinearOperator, y: &[f32], dims: &Dims) -> Result<Vec<f32>> {
    if operator.output_dims() == *dims {
        return Ok(y.to_vec());
    }
    let mut scratch = Array::zeros("the scratch", &[operator.solve_scratch_len()])?.data;
    let mut x = Array::zeros("a picture", dims.as_slice())?.data;
    operator.pseudo_inverse(y, &mut x, &mut scratch)?;
    Ok(x)
}

/// The columns of a sheet for `count` samples of each picture.
struct Columns {
    truth: bool,
    samples: usize,
    moments: bool,
}

impl Columns {
    fn len(&self) -> usize {
        usize::from(self.truth) + 1 + self.samples + 2 * usize::from(self.moments)
    }
}

/// A sheet that is known to be possible.
pub struct Sheet {
    grid: Grid,
    columns: Columns,
    rows: usize,
    /// Values of a picture.
    elements: usize,
}

impl Sheet {
    /// For `images` pictures of `dims`, `count` samples of each. Errors: they are no pictures for a PNG.
    pub fn new(images: usize, count: usize, truth: bool, dims: &Dims) -> Result<Self> {
        let columns = Columns { truth, samples: count.min(SAMPLES), moments: count > 1 };
        let rows = images.min(ROWS);
        let grid = Grid::with_columns(rows * columns.len(), columns.len(), dims.as_slice())?;
        Ok(Self { grid, columns, rows, elements: dims.elements() })
    }

    /// Writes it: truth, measurement (black where it is no picture), samples, mean, standard deviation (black 0, white
    /// 1, which is half the range).
    pub fn write(
        &self,
        truth: Option<&Array>,
        measured: &[Option<Vec<f32>>],
        collected: &Collected,
        kept: usize,
        out: Output,
    ) -> Result<()> {
        let Collected { samples, mean, variance, .. } = collected;
        self.draw(truth, measured, (samples, kept), Some((mean, variance)), out)
    }

    /// As [`Sheet::write`], of one sample of each picture.
    pub fn write_samples(
        &self,
        truth: Option<&Array>,
        measured: &[Option<Vec<f32>>],
        samples: &Array,
        out: Output,
    ) -> Result<()> {
        self.draw(truth, measured, (samples, 1), None, out)
    }

    fn draw(
        &self,
        truth: Option<&Array>,
        measured: &[Option<Vec<f32>>],
        (samples, kept): (&Array, usize),
        moments: Option<(&Array, &Array)>,
        mut out: Output,
    ) -> Result<()> {
        let n = self.elements.max(1);
        let missing = || Error::new(ErrorKind::Shape, "the sheet has too few pictures");
        let mut all = Vec::new();
        for i in 0..self.rows {
            let item = |a: &Array, i: usize| a.data.chunks_exact(n).nth(i).map(<[f32]>::to_vec).ok_or_else(missing);
            if let (true, Some(truth)) = (self.columns.truth, truth) {
                all.extend(item(truth, i)?);
            }
            match measured.get(i).ok_or_else(missing)? {
                Some(measured) => all.extend(measured),
                None => all.extend(std::iter::repeat_n(-1.0, n)),
            }
            for k in 0..self.columns.samples {
                all.extend(item(samples, i * kept + k)?);
            }
            if let (true, Some((mean, variance))) = (self.columns.moments, moments) {
                all.extend(item(mean, i)?);
                all.extend(item(variance, i)?.iter().map(|v| 2.0 * v.sqrt() - 1.0));
            }
        }
        self.grid.write(&all, Kind::Png, &mut out)?;
        out.finish()
    }
}
