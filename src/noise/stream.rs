//! The seeded streams.
//!
//! # The key schedule
//! With mix = the SplitMix64 finaliser (Steele, Lea and Flood 2014; Stafford's variant 13) and all sums modulo 2^64:
//!
//! ```text
//! s = mix(seed + 0x9e3779b97f4a7c15)
//! u = mix(sample + s)
//! v = mix(draw + u)
//! h = mix(v ^ s)
//! generator = PCG XSL-RR 128/64 (state = h * 2^64 + mix(h + u), stream = u * 2^64 + v)
//! ```
//!
//! For one seed, (sample, draw) -> (u, v) is a bijection, so no two draws share a stream, and neighbouring keys give
//! unrelated states. These bits are a promise: a change to them is a breaking change.

use rand_core::Rng;
use rand_pcg::Pcg64;

use super::normal::normal_from_bits;
use super::{Fingerprint, NoiseSource, check_batch};
use crate::error::Result;

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The random values of one draw of one sample, one after another.
///
/// ```
/// let mut stream = undiffuse::noise::Stream::new(7, 0, 0);
/// let z = stream.normal();
/// assert!((0.0..1.0).contains(&stream.uniform()));
/// assert_eq!(undiffuse::noise::Stream::new(7, 0, 0).normal(), z);
/// ```
#[derive(Clone, Debug)]
pub struct Stream(Pcg64);

impl Stream {
    /// The stream of draw `draw` of sample `sample` of seed `seed`, at its first value.
    pub fn new(seed: u64, sample: u64, draw: u64) -> Self {
        let s = mix(seed.wrapping_add(0x9e37_79b9_7f4a_7c15));
        let u = mix(sample.wrapping_add(s));
        let v = mix(draw.wrapping_add(u));
        let h = mix(v ^ s);
        let state = u128::from(h) << 64 | u128::from(mix(h.wrapping_add(u)));
        Self(Pcg64::new(state, u128::from(u) << 64 | u128::from(v)))
    }

    /// 64 random bits. Every other value takes exactly one such word, so value i of a stream is word i transformed.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform in [0, 1): the upper 53 bits times 2^-53.
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0)
    }

    /// Standard normal, by [`inverse_normal_cdf`](super::inverse_normal_cdf) of (2 k + 1) 2^-53 with k the upper 52
    /// bits.
    pub fn normal(&mut self) -> f64 {
        normal_from_bits(self.bits())
    }
}

/// Streams keyed by (seed, sample, draw): the library's own noise.
///
/// Normal values are computed in f64 and rounded once to f32. Uniform values in [0, 1) are the upper 24 bits of a word
/// times 2^-24, exact in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seeded {
    seed: u64,
}

impl Seeded {
    /// The source of this seed.
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The seed.
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    fn fill(
        &self,
        first_sample: u64,
        draw: u64,
        sample_len: usize,
        out: &mut [f32],
        value: impl Fn(&mut Stream) -> f32,
    ) -> Result<()> {
        check_batch("seeded noise", sample_len, out)?;
        for (i, sample) in out.chunks_exact_mut(sample_len).enumerate() {
            let mut stream = Stream::new(self.seed, first_sample.wrapping_add(i as u64), draw);
            sample.fill_with(|| value(&mut stream));
        }
        Ok(())
    }
}

impl NoiseSource for Seeded {
    fn normal(&mut self, first_sample: u64, draw: u64, sample_len: usize, out: &mut [f32]) -> Result<()> {
        self.fill(first_sample, draw, sample_len, out, |s| s.normal() as f32)
    }

    fn uniform(&mut self, first_sample: u64, draw: u64, sample_len: usize, out: &mut [f32]) -> Result<()> {
        self.fill(first_sample, draw, sample_len, out, |s| (s.bits() >> 40) as f32 * (1.0 / 16_777_216.0))
    }

    fn fingerprint(&self) -> u64 {
        Fingerprint::new().bytes(b"seeded").u64(self.seed).finish()
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use super::*;

    fn normals(seed: u64, sample: u64, draw: u64, n: usize) -> Vec<f64> {
        let mut s = Stream::new(seed, sample, draw);
        (0..n).map(|_| s.normal()).collect()
    }

    #[test]
    fn first_values_are_pinned() {
        let mut s = Stream::new(0, 0, 0);
        assert_eq!([s.bits(), s.bits()], PIN_BITS);
        let mut z = [0.0; 4];
        Seeded::new(42).normal(3, 17, 4, &mut z).unwrap();
        assert_eq!(z.map(f32::to_bits), PIN_NORMAL.map(f32::to_bits));
        Seeded::new(42).uniform(3, 17, 4, &mut z).unwrap();
        assert_eq!(z, PIN_UNIFORM);
    }

    // Computed by NumPy's PCG64 and scipy.special.ndtri from the key schedule above.
    const PIN_BITS: [u64; 2] = [0x87045d2915e20b87, 0x2f181fd3bda47144];
    const PIN_NORMAL: [f32; 4] = [-0.20001274, -0.0920431, 0.44767162, -0.035738427];
    const PIN_UNIFORM: [f32; 4] = [0.4207353, 0.46333188, 0.6728049, 0.48574543];

    #[test]
    fn a_sample_does_not_depend_on_its_batch() {
        let mut all = vec![0.0; 5 * 7];
        Seeded::new(9).normal(100, 3, 7, &mut all).unwrap();
        for (i, want) in all.chunks(7).enumerate() {
            let mut one = vec![0.0; 7];
            Seeded::new(9).normal(100 + i as u64, 3, 7, &mut one).unwrap();
            assert_eq!(one, want);
        }
    }

    #[test]
    fn wrong_buffers_are_refused() {
        assert!(Seeded::new(1).normal(0, 0, 4, &mut [0.0; 7]).is_err());
        assert!(Seeded::new(1).uniform(0, 0, 0, &mut [0.0; 7]).is_err());
    }

    #[test]
    fn moments_of_the_normal() {
        let n = 400_000;
        let z = normals(1, 2, 3, n);
        let moment = |k: i32| z.iter().map(|v| libm::pow(*v, f64::from(k))).sum::<f64>() / n as f64;
        // Standard errors: sqrt((E z^2k - (E z^k)^2) / n) = 1, sqrt 2, sqrt 15, sqrt 96 over sqrt n; four of them.
        let se = 4.0 / libm::sqrt(n as f64);
        assert!(moment(1).abs() < se, "mean {}", moment(1));
        assert!((moment(2) - 1.0).abs() < se * 1.42, "variance {}", moment(2));
        assert!(moment(3).abs() < se * 3.9, "skewness {}", moment(3));
        assert!((moment(4) - 3.0).abs() < se * 9.8, "kurtosis {}", moment(4));
    }

    #[test]
    fn the_distribution_is_normal() {
        // Kolmogorov-Smirnov: sqrt(n) D < 1.95 with probability 0.999.
        let n = 100_000;
        let mut z = normals(5, 0, 0, n);
        z.sort_by(f64::total_cmp);
        let cdf = |x: f64| 0.5 * libm::erfc(-x * core::f64::consts::FRAC_1_SQRT_2);
        let d = z.iter().enumerate().map(|(i, &v)| (cdf(v) - (i as f64 + 0.5) / n as f64).abs()).fold(0.0, f64::max);
        assert!(d * libm::sqrt(n as f64) < 1.95, "D {d}");
    }

    #[test]
    fn neighbouring_keys_are_uncorrelated() {
        let n = 50_000;
        let bound = 4.5 / libm::sqrt(n as f64);
        let base = normals(10, 10, 10, n);
        for (seed, sample, draw) in [(11, 10, 10), (10, 11, 10), (10, 10, 11), (9, 10, 10), (10, 10, 9), (10, 9, 11)] {
            let other = normals(seed, sample, draw, n);
            for lag in [0, 1, 2] {
                let c = base.iter().zip(&other[lag..]).map(|(a, b)| a * b).sum::<f64>() / n as f64;
                assert!(c.abs() < bound, "({seed}, {sample}, {draw}) at lag {lag}: {c}");
            }
        }
        let lagged = base.iter().zip(&base[1..]).map(|(a, b)| a * b).sum::<f64>() / n as f64;
        assert!(lagged.abs() < bound, "lag 1: {lagged}");
    }

    #[test]
    fn first_values_of_consecutive_keys_are_random() {
        // What a sample's first pixel is, over samples and draws: each 64-bit position is set half of the time.
        for of in [|i: u64| (i, 0, 0), |i| (0, i, 0), |i| (0, 0, i)] {
            let mut ones = [0u32; 64];
            for i in 0..10_000 {
                let (seed, sample, draw) = of(i);
                let bits = Stream::new(seed, sample, draw).bits();
                ones.iter_mut().enumerate().for_each(|(b, n)| *n += (bits >> b & 1) as u32);
            }
            for (b, n) in ones.iter().enumerate() {
                assert!((f64::from(*n) - 5000.0).abs() < 5.0 * 50.0, "bit {b}: {n}");
            }
        }
    }

    #[test]
    fn uniform_fills_its_range() {
        let n = 100_000;
        let mut u = vec![0.0; n];
        Seeded::new(3).uniform(0, 0, n, &mut u).unwrap();
        let mut bins = [0u32; 16];
        for v in &u {
            assert!((0.0..1.0).contains(v));
            bins[(v * 16.0) as usize] += 1;
        }
        let expected = n as f64 / 16.0;
        let chi2: f64 = bins.iter().map(|&b| (f64::from(b) - expected) * (f64::from(b) - expected) / expected).sum();
        assert!(chi2 < 37.7, "chi-square of 15 degrees at 0.999 is 37.7, got {chi2}");
    }
}
