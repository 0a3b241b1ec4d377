//! Rows of bf16: values that wait between layers in half of the memory.
#![allow(unsafe_code)] // Raw rows of the arena.

use super::simd::Simd;

/// `n <= LANES` values from element `i` on of a row of f32 or bf16; the other lanes are 0.
///
/// # Safety
/// The row has them, and the CPU the instructions of `S`.
#[inline(always)]
pub(super) unsafe fn load<S: Simd>(row: *const u8, half: bool, i: usize, n: usize) -> S::V {
    // SAFETY: the caller's contract.
    unsafe {
        if !half {
            let p = row.cast::<f32>().add(i);
            return S::load_most(p, n);
        }
        let p = row.cast::<u16>().add(i);
        if n == S::LANES { S::load_bf16(p) } else { S::load_bf16_n(p, n) }
    }
}

/// The nearest bf16, as its bits; of two the even one. NaN stays NaN.
#[inline(always)]
pub(super) fn narrow(v: f32) -> u16 {
    let bits = v.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    let nan = bits & 0x7fff_ffff > 0x7f80_0000;
    ((if nan { bits | 0x40_0000 } else { rounded }) >> 16) as u16
}

/// The f32 of a bf16.
#[inline(always)]
pub(super) fn widen(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrowing_is_rounding_to_nearest_even() {
        for bits in (0..=u32::MAX).step_by(10_007).chain([0x7f7f_ffff, 0x7f80_0000, 0x7fff_ffff, 0xff80_0001]) {
            let v = f32::from_bits(bits);
            let (got, want) = (widen(narrow(v)), half::bf16::from_f32(v).to_f32());
            assert!(got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan()), "{v:e}");
        }
    }
}
