//! A number that stands for settings, so that a saved chain is continued with those that made it.

/// FNV-1a, 64 bit. It finds accidents (another sampler, seed or file), not forgery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(u64);

impl Default for Fingerprint {
    fn default() -> Self {
        Self::new()
    }
}

impl Fingerprint {
    /// The fingerprint of nothing.
    pub const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// Adds bytes.
    #[must_use]
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        for &b in bytes {
            self.0 = (self.0 ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        self
    }

    /// Adds an integer.
    #[must_use]
    pub fn u64(self, value: u64) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    /// Adds the bits of a number.
    #[must_use]
    pub fn f64(self, value: f64) -> Self {
        self.u64(value.to_bits())
    }

    /// Adds the bits of numbers, and how many they are.
    #[must_use]
    pub fn f32s(self, values: &[f32]) -> Self {
        values.iter().fold(self.u64(values.len() as u64), |f, v| f.bytes(&v.to_bits().to_le_bytes()))
    }

    /// Adds the bits of many numbers and how many they are, as fast as memory gives them: two numbers a word, every
    /// other word to another of four sums, because each multiplication waits for the one before. Not the sum that
    /// [`Fingerprint::f32s`] makes.
    #[must_use]
    pub(crate) fn weights(self, values: &[f32]) -> Self {
        let mix = |sum: u64, word: u64| {
            let mixed = (sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            // A multiplication brings no bit down, and the highest nowhere.
            mixed ^ mixed >> 32
        };
        let word = |a: f32, b: f32| u64::from(a.to_bits()) | u64::from(b.to_bits()) << 32;
        let mut lanes = [0u64, 1, 2, 3].map(|lane| mix(self.0, lane));
        let (eights, rest) = values.as_chunks::<8>();
        for &[a, b, c, d, e, f, g, h] in eights {
            let words = [word(a, b), word(c, d), word(e, f), word(g, h)];
            for (lane, word) in lanes.iter_mut().zip(words) {
                *lane = mix(*lane, word);
            }
        }
        let rest = rest.iter().fold(self.u64(values.len() as u64), |f, v| f.bytes(&v.to_bits().to_le_bytes()));
        lanes.iter().fold(rest, |f, &lane| f.u64(lane))
    }

    /// The number.
    pub const fn finish(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        // The test vectors of the FNV authors.
        assert_eq!(Fingerprint::new().finish(), 0xcbf2_9ce4_8422_2325);
        assert_eq!(Fingerprint::new().bytes(b"a").finish(), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(Fingerprint::new().bytes(b"foobar").finish(), 0x85944171f73967e8);
    }

    #[test]
    fn order_and_length_count() {
        let f = Fingerprint::new();
        assert_ne!(f.f32s(&[1.0, 2.0]), f.f32s(&[2.0, 1.0]));
        assert_ne!(f.f32s(&[1.0]).f32s(&[]), f.f32s(&[]).f32s(&[1.0]));
    }

    #[test]
    fn every_bit_of_every_weight_counts_and_so_does_its_place() {
        let weights: [f32; 21] = core::array::from_fn(|i| i as f32 - 9.5);
        let mut seen = alloc::collections::BTreeSet::new();
        let mut add = |values: &[f32]| assert!(seen.insert(Fingerprint::new().weights(values).finish()), "{values:?}");
        for n in 0..=weights.len() {
            add(&weights[..n]);
        }
        for i in 0..weights.len() {
            for bit in 0..32 {
                let mut other = weights;
                other[i] = f32::from_bits(other[i].to_bits() ^ 1 << bit);
                add(&other);
            }
            for j in 0..i {
                let mut other = weights;
                other.swap(i, j);
                add(&other);
            }
        }
        assert_ne!(Fingerprint::new().u64(1).weights(&weights), Fingerprint::new().u64(2).weights(&weights));
    }
}
