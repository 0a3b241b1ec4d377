//! PyTorch's CUDA generator.

/// Threads of a block of PyTorch's kernels.
const BLOCK: u64 = 256;
/// 2^-32.
const SCALE: f32 = 1.0 / 4_294_967_296.0;

/// `torch.Generator("cuda").manual_seed(seed)`.
///
/// A draw of n values runs on min(n, threads) threads, in blocks of 256. Thread t takes the words of Philox with
/// counter (offset / 4 + k, t) for its k-th group of four values, which are `threads` elements apart. The offset then
/// grows by what one thread has taken, so a draw depends on the sizes of the draws before it and on nothing else.
#[derive(Clone, Copy, Debug)]
pub(super) struct TorchCuda {
    seed: u64,
    /// Philox counters taken by each thread so far.
    offset: u64,
    /// What the GPU runs at once at most.
    blocks: u64,
}

impl TorchCuda {
    pub(super) fn new(seed: u64, threads: u32) -> Self {
        Self { seed, offset: 0, blocks: u64::from(threads) / BLOCK }
    }

    pub(super) fn seed(&mut self, seed: u64) {
        (self.seed, self.offset) = (seed, 0);
    }

    pub(super) fn uniforms(&mut self, out: &mut [f32]) {
        // curand's are in (0, 1]; PyTorch makes 1 a 0.
        let one = |word: u32| match word as f32 * SCALE + SCALE / 2.0 {
            1.0 => 0.0,
            u => u,
        };
        self.fill(out, |words| words.map(one));
    }

    pub(super) fn normals(&mut self, out: &mut [f32]) {
        self.fill(out, |[a, b, c, d]| {
            let ((a, b), (c, d)) = (box_muller(a, b), box_muller(c, d));
            [a, b, c, d]
        });
    }

    /// As if a draw of this many values had been made.
    pub(super) fn skip(&mut self, len: usize) {
        let groups = (len as u64).div_ceil(4 * self.threads(len)).max(1);
        self.offset = self.offset.wrapping_add(groups);
    }

    fn threads(&self, len: usize) -> u64 {
        (len as u64).div_ceil(BLOCK).min(self.blocks).max(1) * BLOCK
    }

    fn fill(&mut self, out: &mut [f32], values: impl Fn([u32; 4]) -> [f32; 4]) {
        let threads = usize::try_from(self.threads(out.len())).unwrap_or(usize::MAX);
        let key = [self.seed as u32, (self.seed >> 32) as u32];
        for (group, four) in (0u64..).zip(out.chunks_mut(threads.saturating_mul(4))) {
            let count = self.offset.wrapping_add(group);
            for thread in 0..threads.min(four.len()) {
                let t = thread as u64;
                let words = philox([count as u32, (count >> 32) as u32, t as u32, (t >> 32) as u32], key);
                for (at, value) in (thread..four.len()).step_by(threads).zip(values(words)) {
                    four[at] = value;
                }
            }
        }
        self.skip(out.len());
    }
}

/// Philox 4x32 with 10 rounds: Salmon, Moraes, Dror and Shaw, Parallel random numbers: as easy as 1, 2, 3 (2011).
fn philox(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let product = |a: u32, b: u32| {
        let p = u64::from(a) * u64::from(b);
        ((p >> 32) as u32, p as u32)
    };
    let ([mut a, mut b, mut c, mut d], [mut k, mut l]) = (counter, key);
    for round in 0..10 {
        if round > 0 {
            (k, l) = (k.wrapping_add(0x9e37_79b9), l.wrapping_add(0xbb67_ae85));
        }
        let ((h0, l0), (h1, l1)) = (product(0xd251_1f53, a), product(0xcd9e_8d57, c));
        (a, b, c, d) = (h1 ^ b ^ k, l1, h0 ^ d ^ l, l0);
    }
    [a, b, c, d]
}

/// curand's: the sine comes first. The reference computes in f32 with the GPU's functions (2 ulp); here in f64, rounded
/// once.
fn box_muller(a: u32, b: u32) -> (f32, f32) {
    let u = a as f32 * SCALE + SCALE / 2.0;
    let v = b as f32 * (SCALE * core::f32::consts::TAU) + SCALE / 2.0 * core::f32::consts::TAU;
    let r = libm::sqrt(-2.0 * libm::log(f64::from(u)));
    let (sin, cos) = libm::sincos(f64::from(v));
    ((r * sin) as f32, (r * cos) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authors_vectors() {
        // kat_vectors of Random123 1.14, philox4x32 10.
        let ones = u32::MAX;
        assert_eq!(philox([0; 4], [0; 2]), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
        assert_eq!(philox([ones; 4], [ones; 2]), [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
        let pi = [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344];
        assert_eq!(philox(pi, [0xa4093822, 0x299f31d0]), [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]);
    }
}
