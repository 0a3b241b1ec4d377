//! A prototype: convolutions as direct products of bf16 with sums of f32, by VDPBF16PS. It is here to be timed beside
//! the library's kernels of f32, which benches/README.md reports; nothing else uses it.

use std::hint::black_box;
use std::time::{Duration, Instant};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    pub const ROWS: usize = 14;
    /// Columns of a panel: two vectors.
    pub const COLUMNS: usize = 32;

    /// `H` rows by 32 columns: the sum over three or one runs of `len` pairs of channels, `step` bytes apart.
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn tile<const H: usize>(
        a: &[*const u8; ROWS],
        runs: usize,
        step: usize,
        len: usize,
        b: *const u8,
        out: *mut f32,
    ) {
        let mut acc = [[_mm512_setzero_ps(); 2]; H];
        let mut b = b;
        // SAFETY: the caller gives memory for all of it.
        unsafe {
            for run in 0..runs {
                for k in 0..len {
                    let w = [_mm512_loadu_si512(b.cast()), _mm512_loadu_si512(b.add(64).cast())];
                    _mm_prefetch::<_MM_HINT_T0>(b.wrapping_add(4096).cast());
                    _mm_prefetch::<_MM_HINT_T0>(b.wrapping_add(4160).cast());
                    b = b.add(128);
                    for i in 0..H {
                        let x = _mm512_set1_epi32(a[i].add(run * step + 4 * k).cast::<i32>().read_unaligned());
                        for j in 0..2 {
                            acc[i][j] = _mm512_dpbf16_ps(
                                acc[i][j],
                                core::mem::transmute::<__m512i, __m512bh>(x),
                                core::mem::transmute::<__m512i, __m512bh>(w[j]),
                            );
                        }
                    }
                }
            }
            for (i, acc) in acc.iter().enumerate() {
                _mm512_storeu_ps(out.add(i * COLUMNS), acc[0]);
                _mm512_storeu_ps(out.add(i * COLUMNS + 16), acc[1]);
            }
        }
    }

    type TileFn = unsafe fn(&[*const u8; ROWS], usize, usize, usize, *const u8, *mut f32);

    /// By height, less 7.
    pub static TILES: [TileFn; 8] =
        [tile::<7>, tile::<8>, tile::<9>, tile::<10>, tile::<11>, tile::<12>, tile::<13>, tile::<14>];
}

/// Seconds of a layer of one image, the sum of its tasks' best of all rounds; `None` without the instructions or for
/// sizes that fill no tile.
#[cfg(target_arch = "x86_64")]
pub fn seconds(side: usize, ins: usize, outs: usize, filter: usize, rounds: usize) -> Option<f64> {
    use x86::{COLUMNS, ROWS, TILES};
    let has = std::arch::is_x86_feature_detected!("avx512f") && std::arch::is_x86_feature_detected!("avx512bf16");
    if !has || !outs.is_multiple_of(COLUMNS) || !ins.is_multiple_of(2) {
        return None;
    }
    let pitch = (side + filter - 1) * ins * 2;
    // The bits of ones: speed does not depend on them.
    let ones = |bytes: usize| vec![0x3f80u16; bytes / 2];
    let (a, panel) = (ones((side + filter - 1) * pitch), filter * filter * ins * COLUMNS * 2);
    // What is asked for in advance lies behind the last panel too.
    let b = ones(outs / COLUMNS * panel + 8192);
    let mut out = vec![0f32; side * side * outs];
    let pixels = side * side;
    let height = pixels.div_ceil(pixels.div_ceil(ROWS));
    let kernel = TILES.get(height.checked_sub(7)?)?;
    let mut best = vec![Duration::MAX; outs / COLUMNS * pixels.div_ceil(8 * height)];
    for _ in 0..rounds {
        for (task, best) in best.iter_mut().enumerate() {
            let (column, first) = (task / pixels.div_ceil(8 * height), task % pixels.div_ceil(8 * height) * 8 * height);
            let start = Instant::now();
            let mut sums = [0f32; ROWS * COLUMNS];
            for pixel in (first..pixels.min(first + 8 * height)).step_by(height) {
                let rows = std::array::from_fn(|r| {
                    let p = (pixel + r).min(pixels - 1);
                    a.as_ptr().cast::<u8>().wrapping_add(p / side * pitch + p % side * ins * 2)
                });
                let at = b.as_ptr().cast::<u8>().wrapping_add(column * panel);
                // SAFETY: the instructions were found; the rows are inside the padded input, the panel inside B.
                unsafe { kernel(&rows, filter, pitch, filter * ins / 2, at, sums.as_mut_ptr()) };
                for (r, row) in sums.chunks_exact(COLUMNS).enumerate().take(height.min(pixels - pixel)) {
                    let to = (pixel + r) * outs + column * COLUMNS;
                    out[to..to + COLUMNS].copy_from_slice(row);
                }
            }
            *best = start.elapsed().min(*best);
        }
        black_box(&out);
    }
    Some(best.iter().sum::<Duration>().as_secs_f64())
}

/// As on x86-64, where there is no such instruction.
#[cfg(not(target_arch = "x86_64"))]
pub fn seconds(_: usize, _: usize, _: usize, _: usize, _: usize) -> Option<f64> {
    let _ = (black_box(0), Duration::ZERO, Instant::now());
    None
}
