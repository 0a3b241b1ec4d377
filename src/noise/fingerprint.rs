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
}
