//! The Parzen window estimate of a log-likelihood from samples alone.

use alloc::vec::Vec;

use super::report::mean_and_error;
use crate::cancel::Cancel;
use crate::error::{Result, ensure, err};
use crate::matmul::{Mat, add_product};
use crate::memory::room;

/// Rows of the data and of the samples that are compared in one product of matrices.
const DATA_ROWS: usize = 64;
const SAMPLE_ROWS: usize = 512;

/// What a Parzen window says of data, in nats per sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parzen {
    /// The mean over the data of log p.
    pub log_likelihood: f64,
    /// Its standard error over the data; NaN for one point.
    pub standard_error: f64,
    /// The bandwidth.
    pub bandwidth: f64,
}

/// The mean log-likelihood of `data` under an even mixture of Gaussians N(sample, bandwidth^2 I), one around each of
/// `samples`; both `[rows, dims]` row by row in the same scale.
///
/// The protocol behind published figures (Goodfellow et al. 2014, after Breuleux et al. 2011): 10,000 samples of the
/// model and the test images, both in [0, 1]; the bandwidth is the one of [`parzen_bandwidths`] under which a
/// validation set is most likely ([`parzen_bandwidth`]), or of [`parzen_bandwidths_near`] that one; what is reported
/// is the mean over the test set and its standard error. It judges samples and not the model, has a large bias where
/// dims is large, and its values compare only with others of the same number of samples.
///
/// f64 throughout; the distances are products of matrices, a test set of 10,000 against 10,000 samples of 784 values
/// takes 1.6e11 operations.
///
/// Errors: kind `Shape` for rows that are not whole; `InvalidArgument` for no rows or a bandwidth that is not above 0;
/// `NonFinite` for samples or data that are not finite; `OutOfMemory`; `Cancelled`.
pub fn parzen(samples: &[f32], data: &[f32], dims: usize, bandwidth: f64, cancel: &Cancel) -> Result<Parzen> {
    evaluate(samples, data, dims, &[bandwidth], cancel)?.first().copied().ok_or_else(none)
}

/// The bandwidth of `candidates` under which `validation` is most likely; the distances are computed once for all.
/// Arguments and errors as [`parzen`].
pub fn parzen_bandwidth(
    samples: &[f32],
    validation: &[f32],
    dims: usize,
    candidates: &[f64],
    cancel: &Cancel,
) -> Result<f64> {
    let all = evaluate(samples, validation, dims, candidates, cancel)?;
    let best = all.iter().max_by(|a, b| a.log_likelihood.total_cmp(&b.log_likelihood));
    best.map(|b| b.bandwidth).ok_or_else(none)
}

fn none() -> crate::Error {
    err!(InvalidArgument, "a Parzen window got no bandwidth")
}

/// Ten bandwidths from 0.1 to 1, evenly in the logarithm.
pub fn parzen_bandwidths() -> [f64; 10] {
    core::array::from_fn(|i| libm::pow(10.0, i as f64 / 9.0 - 1.0))
}

/// Bandwidths around `best` of [`parzen_bandwidths`], 5 % apart, up to its neighbours there and from 0.1 to 1: of ten
/// the best may be some nats from the best there is. `best` is the sixth.
pub fn parzen_bandwidths_near(best: f64) -> [f64; 11] {
    core::array::from_fn(|i| (best * libm::pow(10.0, (i as f64 - 5.0) / 45.0)).clamp(0.1, 1.0))
}

/// log of a sum of exponentials that grows term by term: the largest exponent and the sum relative to it.
#[derive(Clone, Copy)]
struct LogSum {
    largest: f64,
    sum: f64,
}

impl LogSum {
    const NONE: Self = Self { largest: f64::NEG_INFINITY, sum: 0.0 };

    fn add(&mut self, exponent: f64) {
        if exponent <= self.largest {
            self.sum += libm::exp(exponent - self.largest);
        } else {
            self.sum = self.sum * libm::exp(self.largest - exponent) + 1.0;
            self.largest = exponent;
        }
    }
}

/// A block of rows in f64, and the squared length of each.
fn block(rows: &[f32], dims: usize, to: &mut Vec<f64>, squares: &mut Vec<f64>) {
    to.clear();
    to.extend(rows.iter().map(|v| f64::from(*v)));
    squares.clear();
    squares.extend(to.chunks_exact(dims).map(|r| r.iter().map(|v| v * v).sum::<f64>()));
}

fn evaluate(samples: &[f32], data: &[f32], dims: usize, bandwidths: &[f64], cancel: &Cancel) -> Result<Vec<Parzen>> {
    for (what, values) in [("samples", samples), ("data", data)] {
        ensure!(
            dims > 0 && values.len().is_multiple_of(dims),
            Shape,
            "the {what} of a Parzen window have {} values, expected a multiple of {dims}",
            values.len()
        );
        ensure!(!values.is_empty(), InvalidArgument, "a Parzen window got no {what}");
        ensure!(values.iter().all(|v| v.is_finite()), NonFinite, "the {what} of a Parzen window are not all finite");
    }
    if bandwidths.is_empty() {
        return Err(none());
    }
    for &b in bandwidths {
        ensure!(b > 0.0 && b.is_finite(), InvalidArgument, "the bandwidth of a Parzen window is {b}, expected above 0");
    }
    let (count, centres) = (data.len() / dims, samples.len() / dims);
    let values = |rows: usize| rows.checked_mul(dims).ok_or_else(|| err!(OutOfMemory, "rows of {dims} are too long"));
    let (mut x, mut y) = (
        room("a Parzen window", values(DATA_ROWS.min(count))?)?,
        room("a Parzen window", values(SAMPLE_ROWS.min(centres))?)?,
    );
    let (mut x2, mut y2) = (room("a Parzen window", DATA_ROWS)?, room("a Parzen window", SAMPLE_ROWS)?);
    let mut distances = room("a Parzen window", DATA_ROWS * SAMPLE_ROWS)?;
    let mut logs = room("all bandwidths", DATA_ROWS.saturating_mul(bandwidths.len()))?;
    // [bandwidths, count].
    let total = count.checked_mul(bandwidths.len());
    let mut found =
        room("a Parzen window", total.ok_or_else(|| err!(OutOfMemory, "too many bandwidths for {count} rows"))?)?;
    found.resize(count * bandwidths.len(), 0.0);

    for (at, rows) in data.chunks(DATA_ROWS * dims).enumerate() {
        block(rows, dims, &mut x, &mut x2);
        logs.clear();
        logs.resize(x2.len() * bandwidths.len(), LogSum::NONE);
        for rows in samples.chunks(SAMPLE_ROWS * dims) {
            cancel.check()?;
            block(rows, dims, &mut y, &mut y2);
            // |x - y|^2 = |x|^2 + |y|^2 - 2 x y.
            distances.clear();
            distances.extend(x2.iter().flat_map(|x2| y2.iter().map(move |y2| x2 + y2)));
            let y = Mat::new(&y, y2.len(), dims)?.transposed();
            add_product(-2.0, Mat::new(&x, x2.len(), dims)?, y, &mut distances)?;
            for (logs, distances) in logs.chunks_exact_mut(bandwidths.len()).zip(distances.chunks_exact(y2.len())) {
                for (log, b) in logs.iter_mut().zip(bandwidths) {
                    let scale = -0.5 / (b * b);
                    distances.iter().for_each(|d| log.add(scale * d.max(0.0)));
                }
            }
        }
        for (i, logs) in logs.chunks_exact(bandwidths.len()).enumerate() {
            for ((log, b), found) in logs.iter().zip(bandwidths).zip(found.chunks_exact_mut(count)) {
                let normaliser = dims as f64 * libm::log(b * libm::sqrt(2.0 * core::f64::consts::PI));
                if let Some(found) = found.get_mut(at * DATA_ROWS + i) {
                    *found = log.largest + libm::log(log.sum / centres as f64) - normaliser;
                }
            }
        }
    }
    let report = |(&bandwidth, found): (&f64, &[f64])| {
        let (log_likelihood, standard_error) = mean_and_error(found);
        Parzen { log_likelihood, standard_error, bandwidth }
    };
    Ok(bandwidths.iter().zip(found.chunks_exact(count)).map(report).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::noise::{NoiseSource, Seeded};

    static CANCEL: Cancel = Cancel::new();

    #[test]
    fn the_blocks_make_the_plain_sum() {
        let dims = 3;
        let (mut samples, mut data) = (alloc::vec![0.0; 700 * dims], alloc::vec![0.0; 70 * dims]);
        Seeded::new(1).normal(0, 0, dims, &mut samples).unwrap();
        Seeded::new(2).normal(0, 0, dims, &mut data).unwrap();
        for b in [0.05, 0.5, 2.0] {
            let log = |x: &[f32]| {
                let d2 = |y: &[f32]| x.iter().zip(y).map(|(x, y)| f64::from(x - y) * f64::from(x - y)).sum::<f64>();
                let sum: f64 = samples.chunks_exact(dims).map(|y| libm::exp(-d2(y) / (2.0 * b * b))).sum();
                libm::log(sum / 700.0) - 1.5 * libm::log(2.0 * core::f64::consts::PI * b * b)
            };
            let want = data.chunks_exact(dims).map(log).sum::<f64>() / 70.0;
            let got = parzen(&samples, &data, dims, b, &CANCEL).unwrap();
            assert!((got.log_likelihood - want).abs() < 1e-4 * want.abs(), "{b}: {got:?} {want}");
            assert!(got.standard_error > 0.0);
        }
    }

    #[test]
    fn many_samples_find_the_density() {
        // The window of samples from N(0, 1) is N(0, 1 + b^2).
        let (mut samples, mut data) = (alloc::vec![0.0; 20_000], alloc::vec![0.0; 2_000]);
        Seeded::new(3).normal(0, 0, 1, &mut samples).unwrap();
        Seeded::new(4).normal(0, 0, 1, &mut data).unwrap();
        let b = parzen_bandwidth(&samples, &data, 1, &parzen_bandwidths(), &CANCEL).unwrap();
        let got = parzen(&samples, &data, 1, b, &CANCEL).unwrap();
        let v = 1.0 + b * b;
        let of = |x: &f32| -0.5 * (f64::from(*x) * f64::from(*x) / v + libm::log(2.0 * core::f64::consts::PI * v));
        let want = data.iter().map(of).sum::<f64>() / 2000.0;
        assert!(b < 0.4 && (got.log_likelihood - want).abs() < 0.01, "{got:?} {want}");
        let fine = parzen_bandwidths_near(b);
        assert!(fine[5] == b && (fine[10] / b - parzen_bandwidths()[1] * 10.0).abs() < 1e-12, "{fine:?}");
        assert_eq!((parzen_bandwidths_near(0.1)[0], parzen_bandwidths_near(1.0)[10]), (0.1, 1.0));
        let few = &data[..200];
        let of = |b: f64| parzen(&samples, few, 1, b, &CANCEL).unwrap().log_likelihood;
        let best = parzen_bandwidth(&samples, few, 1, &fine, &CANCEL).unwrap();
        assert!(fine.contains(&best) && fine.iter().all(|&b| of(b) <= of(best)));
        assert_eq!(parzen_bandwidths()[9], 1.0);
        assert!((parzen_bandwidths()[0] - 0.1).abs() < 1e-15);
    }

    #[test]
    fn nonsense_is_refused() {
        let kind = |s: &[f32], d: &[f32], b| parzen(s, d, 2, b, &CANCEL).unwrap_err().kind();
        assert_eq!(kind(&[0.0; 3], &[0.0; 2], 1.0), ErrorKind::Shape);
        assert_eq!(kind(&[], &[0.0; 2], 1.0), ErrorKind::InvalidArgument);
        assert_eq!(kind(&[0.0; 2], &[0.0; 2], 0.0), ErrorKind::InvalidArgument);
        assert_eq!(kind(&[f32::NAN; 2], &[0.0; 2], 1.0), ErrorKind::NonFinite);
        assert!(parzen_bandwidth(&[0.0; 2], &[0.0; 2], 2, &[], &CANCEL).is_err());
        let cancel = Cancel::new();
        cancel.cancel();
        assert_eq!(parzen(&[0.0; 2], &[0.0; 2], 2, 1.0, &cancel).unwrap_err().kind(), ErrorKind::Cancelled);
    }
}
