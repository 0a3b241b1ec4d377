//! The binary heartbeat.

use super::{Dataset, draw, room};
use crate::error::{Result, ensure};
use crate::noise::Stream;
use crate::tensor::Dims;

/// Length of a sequence, and of its period.
const LENGTH: usize = 20;
const PERIOD: usize = 5;

/// The paper's binary heartbeat: sequences of 20 bits in which every fifth is 1, the first of them at one of the first
/// five places, each as likely. The truth is -log2 5 = -2.322 bits per sequence.
///
/// Sample i takes the stream (seed, i, [`draw::GENERATE`]). Errors: kind `InvalidArgument` for none or too many;
/// `OutOfMemory`.
pub fn heartbeats(seed: u64, count: usize) -> Result<Dataset> {
    ensure!(count > 0, InvalidArgument, "0 heartbeats, expected at least 1");
    let dims = Dims::new(&[LENGTH])?;
    let mut values = room("the heartbeats", count, &dims)?;
    for i in 0..count {
        let first = (Stream::new(seed, i as u64, draw::GENERATE).uniform() * PERIOD as f64) as usize;
        values.extend((0..LENGTH).map(|at| f32::from(u8::from(at % PERIOD == first))));
    }
    Dataset::new(dims, values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_sequences_are_equally_likely() {
        let data = heartbeats(1, 10_000).unwrap();
        let mut counts = [0; PERIOD];
        for i in 0..data.count() {
            let first = data.sample(i).iter().position(|&v| v == 1.0).unwrap();
            assert!(data.sample(i).iter().enumerate().all(|(at, &v)| (v == 1.0) == (at % PERIOD == first)));
            counts[first] += 1;
        }
        // 2000 each, standard deviation 40.
        assert!(counts.iter().all(|&c| (c - 2000i32).abs() < 160), "{counts:?}");
        assert_eq!(heartbeats(1, 3).unwrap().values(), &data.values()[..60]);
        assert!(heartbeats(1, 0).is_err() && heartbeats(1, usize::MAX).is_err());
    }
}
