//! JAX's generator.

use super::single::xla_erf_inv;

/// Draw k is `jax.random.normal(jax.random.fold_in(jax.random.key(seed), k), shape)`: threefry, partitionable.
#[derive(Clone, Copy, Debug)]
pub(super) struct Jax {
    seed: u32,
    draw: u32,
}

impl Jax {
    pub(super) fn new(seed: u32) -> Self {
        Self { seed, draw: 0 }
    }

    /// As if a draw had been made.
    pub(super) fn skip(&mut self) {
        self.draw = self.draw.wrapping_add(1);
    }

    /// 32 bits for each value of a draw: the two words of its index, each other's exclusive or.
    fn bits(&mut self, out: &mut [f32], value: impl Fn(u32) -> f32) {
        let key = threefry([0, self.seed], [0, self.draw]);
        for (i, out) in (0u64..).zip(out) {
            let [a, b] = threefry(key, [(i >> 32) as u32, i as u32]);
            *out = value(a ^ b);
        }
        self.skip();
    }

    pub(super) fn uniforms(&mut self, out: &mut [f32]) {
        self.bits(out, uniform);
    }

    pub(super) fn normals(&mut self, out: &mut [f32]) {
        // The greatest f32 below 0 in [-1, 1): from there to 1 the span rounds to 2.
        let lowest = 1.0f32.next_down();
        self.bits(out, |bits| {
            let u = (uniform(bits) * 2.0 - lowest).max(-lowest);
            core::f32::consts::SQRT_2 * xla_erf_inv(u)
        });
    }
}

/// [0, 1) in steps of 2^-23.
fn uniform(bits: u32) -> f32 {
    f32::from_bits(bits >> 9 | 0x3f80_0000) - 1.0
}

/// Threefry 2x32 with 20 rounds: Salmon, Moraes, Dror and Shaw (2011).
fn threefry(key: [u32; 2], counter: [u32; 2]) -> [u32; 2] {
    const ROTATIONS: [[u32; 4]; 2] = [[13, 15, 26, 6], [17, 29, 16, 24]];
    let [k, l] = key;
    let keys = [k, l, k ^ l ^ 0x1bd1_1bda];
    let mut x = [counter[0].wrapping_add(k), counter[1].wrapping_add(l)];
    for group in 0..5u32 {
        for rotation in ROTATIONS[group as usize % 2] {
            x[0] = x[0].wrapping_add(x[1]);
            x[1] = x[1].rotate_left(rotation) ^ x[0];
        }
        let at = group as usize + 1;
        x[0] = x[0].wrapping_add(keys[at % 3]);
        x[1] = x[1].wrapping_add(keys[(at + 1) % 3]).wrapping_add(group + 1);
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authors_vectors() {
        // kat_vectors of Random123 1.14, threefry2x32 20.
        assert_eq!(threefry([0; 2], [0; 2]), [0x6b200159, 0x99ba4efe]);
        assert_eq!(threefry([u32::MAX; 2], [u32::MAX; 2]), [0x1cb996fc, 0xbb002be7]);
        assert_eq!(threefry([0x13198a2e, 0x03707344], [0x243f6a88, 0x85a308d3]), [0xc4923a9c, 0x483df7a0]);
    }
}
