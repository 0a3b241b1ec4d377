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
    use super::super::isa::{Isa, Path};
    use super::super::simd::dispatch;
    use super::*;

    const COUNT: usize = 64;

    /// The same by one vector and by several.
    struct Made {
        stored: [[u16; COUNT]; 2],
        loaded: [[f32; COUNT]; 2],
        bytes: [[u8; COUNT]; 2],
        differences: [[f32; COUNT]; 2],
    }

    #[inline(always)]
    unsafe fn make_body<S: Simd>(from: &[f32; COUNT], made: &mut Made) {
        // SAFETY: COUNT is a multiple of four vectors of any path.
        unsafe {
            let Made { stored: [one, two], loaded, bytes, differences } = made;
            for i in (0..COUNT).step_by(S::LANES) {
                let v = S::load(from.as_ptr().add(i));
                S::store_bf16(one.as_mut_ptr().add(i), S::LANES, v);
                S::store(loaded[0].as_mut_ptr().add(i), S::load_bf16(one.as_ptr().add(i)));
                S::store_low_bytes(bytes[0].as_mut_ptr().add(i), S::LANES, v);
                let (p, q) = (from.as_ptr().cast::<i32>(), from.as_ptr().add(i));
                let d = S::load_differences(p, q.cast(), S::LANES);
                S::store(differences[0].as_mut_ptr().add(i), d);
                S::store(differences[1].as_mut_ptr().add(i), S::differences(p, v));
            }
            for i in (0..COUNT).step_by(2 * S::LANES) {
                let p = from.as_ptr().add(i);
                S::store_two_bf16(two.as_mut_ptr().add(i), [S::load(p), S::load(p.add(S::LANES))]);
                let [v, w] = S::load_two_bf16(one.as_ptr().add(i));
                S::store(loaded[1].as_mut_ptr().add(i), v);
                S::store(loaded[1].as_mut_ptr().add(i + S::LANES), w);
            }
            for i in (0..COUNT).step_by(4 * S::LANES) {
                let p = from.as_ptr().add(i);
                let (q, r, s) = (p.add(S::LANES), p.add(2 * S::LANES), p.add(3 * S::LANES));
                let v = [S::load(p), S::load(q), S::load(r), S::load(s)];
                S::store_four_low_bytes(bytes[1].as_mut_ptr().add(i), v);
            }
        }
    }
    dispatch! { unsafe fn make_raw = make_body(from: &[f32; COUNT], made: &mut Made) }

    #[test]
    fn several_vectors_are_what_each_is() {
        let special = [0x7f7f_ffff, 0x7f80_0000, 0x7f80_0001, 0x7fff_ffff, 0xff80_0001, 0xffff_ffff, 0x8000_0000];
        let mut drawn = 0x9e37_79b9u32;
        for (isa, first) in
            Path::ALL.into_iter().filter_map(Isa::try_new).flat_map(|isa| (0..500).map(move |i| (isa, i)))
        {
            let from: [f32; COUNT] = core::array::from_fn(|i| {
                drawn = drawn.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // Ties too, of which one bit below those kept is set.
                let bits = if drawn.is_multiple_of(3) { drawn & 0xffff_0000 | 0x8000 } else { drawn };
                f32::from_bits(*special.get(i + first).unwrap_or(&bits))
            });
            let mut made = Made {
                stored: [[0; COUNT]; 2],
                loaded: [[0.0; COUNT]; 2],
                bytes: [[0; COUNT]; 2],
                differences: [[0.0; COUNT]; 2],
            };
            // SAFETY: an Isa proves the features.
            unsafe { make_raw(isa, &from, &mut made) };
            for i in 0..COUNT {
                let [one, two] = made.stored.map(|s| widen(s[i]));
                let same = one.to_bits() == two.to_bits() || (one.is_nan() && two.is_nan());
                assert!(same && one.is_nan() == from[i].is_nan(), "{isa:?}: {:e} is {one:e}, {two:e}", from[i]);
            }
            assert_eq!(made.loaded[0].map(f32::to_bits), made.loaded[1].map(f32::to_bits), "{isa:?}");
            assert_eq!(made.bytes[0], made.bytes[1], "{isa:?}");
            assert_eq!(made.differences[0], made.differences[1], "{isa:?}");
        }
    }

    #[test]
    fn narrowing_is_rounding_to_nearest_even() {
        for bits in (0..=u32::MAX).step_by(10_007).chain([0x7f7f_ffff, 0x7f80_0000, 0x7fff_ffff, 0xff80_0001]) {
            let v = f32::from_bits(bits);
            let (got, want) = (widen(narrow(v)), half::bf16::from_f32(v).to_f32());
            assert!(got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan()), "{v:e}");
        }
    }
}
