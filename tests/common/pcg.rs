//! Seeded f32 values that the NumPy scripts draw too (`tests/golden/pcg.py` states the recipe), so that large inputs
//! and the weights of large networks need not be committed.
//!
//! A test program includes it by `#[path = "../common/pcg.rs"] mod pcg;`.

use rand_core::Rng;
use rand_pcg::Pcg64;

/// `count` values, uniform in [-a, a], of the generator named by `seed` and `stream`.
pub fn uniform(seed: u64, stream: u64, count: usize, a: f32) -> Vec<f32> {
    let mut rng = Pcg64::new(u128::from(seed) << 64 | u128::from(stream), u128::from(stream));
    (0..count)
        .map(|_| {
            let u = (rng.next_u64() >> 40) as f32 * (1.0 / 16_777_216.0);
            (u * 2.0 - 1.0) * a
        })
        .collect()
}
