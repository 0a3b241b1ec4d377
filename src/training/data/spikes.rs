//! Spike trains: times in, windows of bits out.

use alloc::vec::Vec;
use std::path::Path;

use super::{Dataset, read_bounded, room};
use crate::error::{Result, ensure, err};
use crate::tensor::Dims;

/// What two spikes in one bin are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Collision {
    /// A mistake: the train is not binary at this bin width.
    #[default]
    Refuse,
    /// One spike.
    One,
}

/// The times of the spikes of one neuron, in the unit of their file.
#[derive(Clone, Debug, PartialEq)]
pub struct SpikeTimes(Vec<f64>);

impl SpikeTimes {
    /// Reads a text file. Errors as [`SpikeTimes::parse`], and kind `Io`; the message names the file.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = read_bounded(path)?;
        let text = core::str::from_utf8(&bytes).map_err(|_| err!(InvalidArgument, "{}: no text", path.display()))?;
        Self::parse(text).map_err(|e| e.context(path.display()))
    }

    /// One time to a line, rising; empty lines and lines that begin with `#` are skipped.
    ///
    /// Errors: kind `InvalidArgument` for a line that is no finite number, or a time before the last.
    pub fn parse(text: &str) -> Result<Self> {
        let mut times: Vec<f64> = Vec::new();
        for (i, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let time: f64 = line.parse().ok().filter(|t: &f64| t.is_finite()).ok_or_else(|| {
                let shown: alloc::string::String = line.chars().take(40).collect();
                err!(InvalidArgument, "line {} of the spike times is \"{shown}\", expected a number", i + 1)
            })?;
            if let Some(last) = times.last().filter(|&&last| time < last) {
                return Err(err!(InvalidArgument, "line {}: the spike at {time} stands after that at {last}", i + 1));
            }
            times.push(time);
        }
        Ok(Self(times))
    }

    /// The times.
    pub fn times(&self) -> &[f64] {
        &self.0
    }

    /// The windows of `bins` bins of `bin` units each that lie within `from` .. `to`, in the order of time: 1 where a
    /// spike falls into a bin, else 0. Bin k begins at `from` + k `bin`; window i begins at bin i `stride`. Two ranges
    /// of time that do not overlap are training and held-out data.
    ///
    /// Errors: kind `InvalidArgument` if no window fits, a number is 0 or not finite, or two spikes share a bin and
    /// `collision` refuses them; `OutOfMemory`.
    ///
    /// ```
    /// use undiffuse::training::data::{Collision, SpikeTimes};
    ///
    /// let spikes = SpikeTimes::parse("# microseconds\n500\n2100\n5900\n")?;
    /// let windows = spikes.windows(0.0, 6000.0, 1000.0, 3, 3, Collision::Refuse)?;
    /// assert_eq!(windows.values(), [1.0, 0.0, 1.0, 0.0, 0.0, 1.0]);
    /// # Ok::<(), undiffuse::Error>(())
    /// ```
    pub fn windows(
        &self,
        from: f64,
        to: f64,
        bin: f64,
        bins: usize,
        stride: usize,
        collision: Collision,
    ) -> Result<Dataset> {
        ensure!(
            from.is_finite() && to.is_finite() && bin > 0.0 && bin.is_finite() && stride > 0,
            InvalidArgument,
            "windows from {from} to {to} by bins of {bin} every {stride} bins, expected finite numbers above 0"
        );
        let dims = Dims::new(&[bins])?;
        // A width that a decimal number only nearly divides must not cost the last bin.
        let total = libm::floor((to - from) / bin * (1.0 + 1e-12));
        ensure!(
            total >= bins as f64 && total <= (1u64 << 24) as f64,
            InvalidArgument,
            "{total} bins of {bin} from {from} to {to}, expected at least a window of {bins} and at most 2^24"
        );
        let total = total as usize;
        let mut train = room("the spike train", total, &Dims::new(&[1])?)?;
        train.resize(total, 0.0);
        for &time in self.0.iter().filter(|&&t| t >= from && t < to) {
            // A spike in what is left after the last whole bin has none.
            let Some(at) = train.get_mut(libm::floor((time - from) / bin) as usize) else { continue };
            ensure!(
                *at == 0.0 || collision == Collision::One,
                InvalidArgument,
                "two spikes in the bin of {bin} at {time}: the train is not binary at this width"
            );
            *at = 1.0;
        }
        let count = (total - bins) / stride + 1;
        let mut values = room("the windows", count, &dims)?;
        train.windows(bins).step_by(stride).for_each(|w| values.extend_from_slice(w));
        Dataset::new(dims, values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_overlap_by_their_stride() {
        let spikes = SpikeTimes::parse("0.5\n\n1.5\n4.5\n").unwrap();
        let windows = |from, to, stride| spikes.windows(from, to, 1.0, 3, stride, Collision::Refuse).unwrap();
        assert_eq!(windows(0.0, 5.0, 1).values(), [1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
        assert_eq!(windows(0.0, 5.9, 2).values(), [1.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
        // A range of time knows nothing of the other.
        assert_eq!(windows(2.0, 5.0, 1).values(), [0.0, 0.0, 1.0]);
        // 0.3 / 0.1 is just below 3.
        assert_eq!(spikes.windows(0.0, 0.3, 0.1, 3, 1, Collision::Refuse).unwrap().count(), 1);
    }

    #[test]
    fn collisions_and_nonsense_are_refused() {
        let spikes = SpikeTimes::parse("0.1\n0.2\n").unwrap();
        let windows = |to, bin, stride, c| spikes.windows(0.0, to, bin, 2, stride, c);
        assert!(windows(2.0, 1.0, 1, Collision::Refuse).unwrap_err().message().contains("0.2"));
        assert_eq!(windows(2.0, 1.0, 1, Collision::One).unwrap().values(), [1.0, 0.0]);
        for (to, bin, stride) in
            [(1.0, 1.0, 1), (2.0, 0.0, 1), (2.0, -1.0, 1), (2.0, 1.0, 0), (f64::NAN, 1.0, 1), (1e300, 1.0, 1)]
        {
            assert!(windows(to, bin, stride, Collision::One).is_err(), "{to} {bin} {stride}");
        }
        for text in ["1\n0.5", "one", "inf", "NaN", "1 2"] {
            assert!(SpikeTimes::parse(text).is_err(), "{text}");
        }
        assert!(SpikeTimes::parse("# nothing").unwrap().times().is_empty());
    }
}
