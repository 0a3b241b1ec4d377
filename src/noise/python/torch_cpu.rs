//! PyTorch's CPU generator.

use super::mt19937::Mt19937;
use super::single::{torch_log, torch_sin_cos};

/// `torch.Generator("cpu").manual_seed(seed)`, of whose seed MT19937 takes the lower 32 bits.
#[derive(Clone, Debug)]
pub(super) struct TorchCpu {
    engine: Mt19937,
    /// The second value of the last pair that the scalar path made. It outlives a draw, also one on the other path.
    kept: Option<f64>,
}

impl TorchCpu {
    pub(super) fn new(seed: u64) -> Self {
        Self { engine: Mt19937::new(seed as u32), kept: None }
    }

    pub(super) fn seed(&mut self, seed: u64) {
        self.engine.seed(seed as u32);
        self.kept = None;
    }

    fn uniform(&mut self) -> f32 {
        (self.engine.bits() & 0x00ff_ffff) as f32 * (1.0 / 16_777_216.0)
    }

    fn uniform_f64(&mut self) -> f64 {
        let word = u64::from(self.engine.bits()) << 32 | u64::from(self.engine.bits());
        (word & ((1 << 53) - 1)) as f64 * (1.0 / 9_007_199_254_740_992.0)
    }

    pub(super) fn uniforms(&mut self, out: &mut [f32]) {
        out.fill_with(|| self.uniform());
    }

    /// `torch.randint(0, 2**63 - 1, [])`.
    pub(super) fn below_2_63(&mut self) -> u64 {
        let word = u64::from(self.engine.bits()) << 32 | u64::from(self.engine.bits());
        word % ((1 << 63) - 1)
    }

    /// `torch.randn` of a contiguous tensor of this many values: below 16 value by value, in f64; from 16 in blocks of
    /// 16, in f32.
    pub(super) fn normals(&mut self, out: &mut [f32]) {
        let tail = match out.len() {
            0..16 => return out.fill_with(|| self.scalar() as f32),
            len => len % 16,
        };
        self.uniforms(out);
        out.as_chunks_mut().0.iter_mut().for_each(box_muller);
        // The last 16 are drawn anew, so values of the last whole block go.
        if let Some(last) = out.last_chunk_mut().filter(|_| tail > 0) {
            self.uniforms(last);
            box_muller(last);
        }
    }

    fn scalar(&mut self) -> f64 {
        if let Some(z) = self.kept.take() {
            return z;
        }
        let (u, v) = (self.uniform_f64(), self.uniform_f64());
        let r = libm::sqrt(-2.0 * libm::log1p(-v));
        let (sin, cos) = libm::sincos(2.0 * core::f64::consts::PI * u);
        self.kept = Some(r * sin);
        r * cos
    }
}

/// Values 0 to 7 and 8 to 15 are the two coordinates of eight pairs.
fn box_muller(block: &mut [f32; 16]) {
    let (first, second) = block.split_at_mut(8);
    for (u, v) in first.iter_mut().zip(second) {
        let r = libm::sqrtf(-2.0 * torch_log(1.0 - *u));
        let (sin, cos) = torch_sin_cos(core::f32::consts::TAU * *v);
        (*u, *v) = (r * cos, r * sin);
    }
}
