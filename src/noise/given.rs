//! Noise that the caller supplies.

use super::{Fingerprint, NoiseSource, check_batch};
use crate::error::{Result, ensure, err};

/// x_T and the noise of every step as arrays, for example those of another program.
///
/// Only normal values; a binary chain cannot run on it.
///
/// ```
/// use undiffuse::noise::{Given, NoiseSource};
///
/// let x_t = [0.1, 0.2, 0.3, 0.4]; // two samples of two values
/// let noise = [1.0, 2.0, 3.0, 4.0]; // one step
/// let mut given = Given::new(&x_t, &noise, 2, 0)?;
/// let mut out = [0.0; 2];
/// given.normal(1, 1, 2, &mut out)?; // sample 1, the noise of the first step
/// assert_eq!(out, [3.0, 4.0]);
/// # Ok::<(), undiffuse::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    x_t: &'a [f32],
    noise: &'a [f32],
    samples: usize,
    sample_len: usize,
    first_sample: u64,
}

impl<'a> Given<'a> {
    /// `x_t` is `[samples, ...]`; `noise` is `[steps, samples, ...]` and may be empty where no step needs any; the
    /// first of the samples is number `first_sample`.
    ///
    /// Errors: kind `Shape` if the lengths fit no number of samples or steps; kind `NonFinite` for NaN or infinity.
    pub fn new(x_t: &'a [f32], noise: &'a [f32], samples: usize, first_sample: u64) -> Result<Self> {
        ensure!(samples > 0, InvalidArgument, "given noise is for 0 samples, expected at least 1");
        ensure!(
            !x_t.is_empty() && x_t.len().is_multiple_of(samples),
            Shape,
            "given x_T has {} values, expected a multiple of its {samples} samples",
            x_t.len()
        );
        ensure!(
            noise.len().is_multiple_of(x_t.len()),
            Shape,
            "given noise has {} values, expected a multiple of the {} of x_T",
            noise.len(),
            x_t.len()
        );
        for (name, values) in [("x_T", x_t), ("noise", noise)] {
            if let Some(at) = values.iter().position(|v| !v.is_finite()) {
                return Err(err!(NonFinite, "given {name} is not finite at element {at}"));
            }
        }
        Ok(Self { x_t, noise, samples, sample_len: x_t.len() / samples, first_sample })
    }

    /// How many steps have noise.
    pub fn steps(&self) -> usize {
        self.noise.len() / self.x_t.len()
    }
}

impl NoiseSource for Given<'_> {
    fn normal(&mut self, first_sample: u64, draw: u64, sample_len: usize, out: &mut [f32]) -> Result<()> {
        check_batch("given noise", sample_len, out)?;
        ensure!(
            sample_len == self.sample_len,
            Shape,
            "given noise has samples of {} values, the chain's have {sample_len}",
            self.sample_len
        );
        let (rows, draw_index) = match draw.checked_sub(1) {
            None => (self.x_t, 0),
            Some(step) => (self.noise, usize::try_from(step).unwrap_or(usize::MAX)),
        };
        let samples = out.len() / sample_len;
        first_sample
            .checked_sub(self.first_sample)
            .and_then(|row| usize::try_from(row).ok())
            .filter(|row| row.checked_add(samples).is_some_and(|end| end <= self.samples))
            .and_then(|row| {
                let start = draw_index.checked_mul(self.samples)?.checked_add(row)?.checked_mul(sample_len)?;
                out.copy_from_slice(rows.get(start..start.checked_add(out.len())?)?);
                Some(())
            })
            .ok_or_else(|| {
                err!(
                    InvalidArgument,
                    "given noise has samples {} to {} with x_T and {} steps, asked for draw {draw} of {samples} samples \
                     from {first_sample}",
                    self.first_sample,
                    self.first_sample.saturating_add(self.samples as u64 - 1),
                    self.steps()
                )
            })
    }

    fn fingerprint(&self) -> u64 {
        Fingerprint::new().bytes(b"given").u64(self.first_sample).f32s(self.x_t).f32s(self.noise).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    const X: [f32; 4] = [0.0, 1.0, 2.0, 3.0];
    const Z: [f32; 8] = [10.0, 11.0, 12.0, 13.0, 20.0, 21.0, 22.0, 23.0];

    #[test]
    fn rows_are_found() {
        let mut g = Given::new(&X, &Z, 2, 50).unwrap();
        assert_eq!(g.steps(), 2);
        let mut both = [0.0; 4];
        g.normal(50, 2, 2, &mut both).unwrap();
        assert_eq!(both, [20.0, 21.0, 22.0, 23.0]);
        let mut one = [0.0; 2];
        g.normal(51, 0, 2, &mut one).unwrap();
        assert_eq!(one, [2.0, 3.0]);
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        let mut g = Given::new(&X, &Z, 2, 50).unwrap();
        let mut out = [0.0; 2];
        for (sample, draw) in [(49, 0), (52, 0), (50, 3), (u64::MAX, 1), (50, u64::MAX), (0, 1)] {
            let e = g.normal(sample, draw, 2, &mut out).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{sample} {draw}");
        }
        assert_eq!(g.normal(51, 0, 2, &mut [0.0; 4]).unwrap_err().kind(), ErrorKind::InvalidArgument);
        assert_eq!(g.normal(50, 0, 4, &mut [0.0; 4]).unwrap_err().kind(), ErrorKind::Shape);
        assert_eq!(g.uniform(50, 0, 2, &mut out).unwrap_err().kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn misfits_are_refused() {
        assert!(Given::new(&X, &Z, 0, 0).is_err());
        assert!(Given::new(&X, &Z, 3, 0).is_err());
        assert!(Given::new(&[], &[], 1, 0).is_err());
        assert!(Given::new(&X, &Z[..5], 2, 0).is_err());
        assert_eq!(Given::new(&[0.0, f32::NAN], &[], 1, 0).unwrap_err().kind(), ErrorKind::NonFinite);
    }
}
