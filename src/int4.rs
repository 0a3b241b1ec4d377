//! Weights of 4 bits: integers from -8 to 7 in groups that share a scale, as files and the cpu backend keep them.
//!
//! A group is [`GROUP`] consecutive weights of an output channel in the order (ky, kx, input channel), so that what a
//! product sums one after the other has one scale; a channel's last group may be shorter. Scales are bf16: of the error
//! that 4 bits make they are a thousandth, as f16 would be, and they have the range of f32.

use core::array;

use half::bf16;

/// Weights that share a scale.
pub const GROUP: usize = 32;

/// What the largest weight of a group is tried as. With the whole numbers among them, weights that were rounded once
/// are found again exactly: a largest integer of 1, 2 or 3 stands as 4 or 6 of a scale that is a half or a quarter.
const LARGEST: [f32; 10] = [8.0, 7.0, 6.0, 5.0, 4.0, 7.5, 6.5, 5.5, 8.5, 9.0];

/// A float this large has no room for a fraction.
const MAGIC: f32 = 12_582_912.0;

/// Whether a layer of `outs` output channels with `fan_in` weights each is kept so: the first and the last layer of a
/// network, which have few of either, are where narrow weights lose most and save least.
pub const fn pays(outs: usize, fan_in: usize) -> bool {
    outs >= 16 && fan_in >= 64
}

/// Groups of an output channel of `fan_in` weights.
pub const fn groups(fan_in: usize) -> usize {
    fan_in.div_ceil(GROUP)
}

/// A group's scale and integers, those after the last weight 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Group {
    pub scale: bf16,
    pub integers: [i8; GROUP],
}

impl Group {
    /// Of at most [`GROUP`] finite weights, of which `at` gives each: the scale that makes the sum of squared errors
    /// small, of those that make the largest weight one of `LARGEST`, with either sign, and of the best for each
    /// one's integers.
    pub fn of(len: usize, at: impl Fn(usize) -> f32) -> Self {
        let len = len.min(GROUP);
        let weights: [f32; GROUP] = array::from_fn(|i| if i < len { at(i) } else { 0.0 });
        let largest = weights.iter().fold(0f32, |m, w| m.max(w.abs()));
        // In units of the largest, so that no square is out of range.
        let units = weights.map(|w| w / largest);
        let mut best = (Self { scale: bf16::ZERO, integers: [0; GROUP] }, f32::INFINITY);
        if !(largest > 0.0 && largest.is_finite()) {
            return best.0;
        }
        for part in LARGEST.into_iter().flat_map(|n| [-1.0 / n, 1.0 / n]) {
            let mut part = part;
            for _ in 0..2 {
                let scale = bf16::from_f32(part * largest);
                let Some((integers, error, fitted)) = rounded(&units, scale.to_f32() / largest) else { break };
                if error < best.1 && (scale.to_f32() * 8.0).is_finite() {
                    best = (Self { scale, integers: integers.map(|q| q as i8) }, error);
                }
                part = fitted;
            }
            // Smaller than what any other scale of 8 bits leaves of the largest: they were rounded before.
            if best.1 < 1e-9 {
                break;
            }
        }
        best.0
    }

    /// The weight that integer `i` stands for; 0 beyond the group.
    pub fn weight(&self, i: usize) -> f32 {
        self.integers.get(i).map_or(0.0, |q| f32::from(*q) * self.scale.to_f32())
    }
}

/// Values as multiples of a scale, the sum of squared errors, and the scale that fits these integers best; `None` for a
/// scale of 0.
fn rounded(values: &[f32; GROUP], scale: f32) -> Option<([f32; GROUP], f32, f32)> {
    let inverse = 1.0 / scale;
    if !inverse.is_finite() || inverse == 0.0 {
        return None;
    }
    let integers = values.map(|v| ((v * inverse).clamp(-8.0, 7.0) + MAGIC) - MAGIC);
    let (mut error, mut products, mut squares) = (0.0, 0.0, 0.0);
    for (v, q) in values.iter().zip(&integers) {
        let off = v - q * scale;
        error += off * off;
        products += v * q;
        squares += q * q;
    }
    Some((integers, error, if squares > 0.0 { products / squares } else { 0.0 }))
}

/// Two integers as a byte, the first one in its lower half.
pub const fn pair(first: i8, second: i8) -> u8 {
    (first as u8 & 15) | ((second as u8) << 4)
}

/// The integers of a byte.
pub const fn unpair(byte: u8) -> [i8; 2] {
    [((byte << 4) as i8) >> 4, (byte as i8) >> 4]
}

/// Where weight `k` of a channel, in the order (tap, input channel), stands in the order (input channel, tap) of files
/// and graphs.
pub fn place(k: usize, fan_in: usize, channels: usize) -> usize {
    let channels = channels.max(1);
    (k % channels) * (fan_in / channels).max(1) + k / channels
}

/// Replaces a channel's weights, in the order (input channel, tap), by what they become.
pub fn round(row: &mut [f32], channels: usize) {
    let n = row.len();
    for first in (0..n).step_by(GROUP) {
        let len = GROUP.min(n - first);
        let at = |i: usize| place(first + i, n, channels);
        let group = Group::of(len, |i| row.get(at(i)).copied().unwrap_or(0.0));
        for i in 0..len {
            if let Some(w) = row.get_mut(at(i)) {
                *w = group.weight(i);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn numbers(n: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        (0..n)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect()
    }

    #[test]
    fn bytes_hold_all_pairs() {
        for (a, b) in (-8..8).flat_map(|a| (-8..8).map(move |b| (a, b))) {
            assert_eq!(unpair(pair(a, b)), [a, b]);
        }
    }

    #[test]
    fn a_groups_error_is_at_most_half_a_step_and_less_than_that_of_the_plain_scale() {
        let squares = |w: &[f32], at: &dyn Fn(usize) -> f32| -> f32 {
            w.iter().enumerate().map(|(i, w)| (w - at(i)).powi(2)).sum()
        };
        let (mut found, mut plain) = (0.0, 0.0);
        for seed in 0..200 {
            let w = numbers(GROUP, seed);
            let group = Group::of(GROUP, |i| w[i]);
            found += squares(&w, &|i| group.weight(i));
            let step = w.iter().fold(0f32, |m, w| m.max(w.abs())) / 7.0;
            plain += squares(&w, &|i| (w[i] / step).round() * step);
            // With the largest as 7 none is further off than half of a seventh, but for what 8 bits of a scale miss.
            let half = w.iter().fold(0f32, |m, w| m.max(w.abs())) / 14.0 * 1.02;
            assert!(squares(&w, &|i| group.weight(i)) <= 32.0 * half * half, "{seed}");
        }
        assert!(found < 0.9 * plain, "{found} beside {plain}");
    }

    #[test]
    fn what_was_rounded_is_found_again_to_the_bit() {
        for (seed, scale) in (0..400).zip([1.0f32, 3e-3, 1e-30, 1e30, 2e37].into_iter().cycle()) {
            let w: Vec<f32> = numbers(64, seed).iter().map(|v| v * scale).collect();
            let mut once = w.clone();
            round(&mut once, 64);
            let mut twice = once.clone();
            round(&mut twice, 64);
            assert_eq!(once, twice, "{seed}");
            assert!(once.iter().all(|w| w.is_finite()));
        }
        // Every largest integer.
        for most in 1..=8i8 {
            for (seed, scale) in [(1, 0.011), (2, -0.7), (3, 5e-20)] {
                let scale = bf16::from_f32(scale).to_f32();
                let q: Vec<f32> = numbers(GROUP, seed).iter().map(|v| (v * f32::from(most)).round().min(7.0)).collect();
                let w: Vec<f32> = q.iter().map(|q| q * scale).collect();
                let group = Group::of(GROUP, |i| w[i]);
                assert!(w.iter().enumerate().all(|(i, w)| group.weight(i) == *w), "{most} {scale}");
            }
        }
    }

    #[test]
    fn groups_that_are_short_or_have_nothing() {
        let zeros = Group::of(GROUP, |_| 0.0);
        assert!((0..GROUP).all(|i| zeros.weight(i) == 0.0));
        let short = Group::of(3, |i| [0.5, -1.0, 0.25][i]);
        assert_eq!([0, 1, 2, 3].map(|i| short.weight(i)), [0.5, -1.0, 0.25, 0.0]);
        for extreme in [f32::MAX, f32::MIN_POSITIVE, 1e-45] {
            let group = Group::of(2, |i| [extreme, -extreme / 2.0][i]);
            assert!(group.weight(0).is_finite(), "{extreme}");
        }
    }

    #[test]
    fn places_are_a_permutation() {
        let mut seen: Vec<usize> = (0..36).map(|k| place(k, 36, 4)).collect();
        assert_eq!(seen[..5], [0, 9, 18, 27, 1]);
        seen.sort_unstable();
        assert_eq!(seen, (0..36).collect::<Vec<_>>());
    }
}
