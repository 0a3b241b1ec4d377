//! The transform of filters, G g G^T, a row of points at a time.
#![allow(unsafe_code)] // Raw panels of weights, within bounds that `products` keeps.

use super::super::super::gemm::{Bf16, Entry, F16, F32, Int4, Int8};
use super::super::super::simd::{Simd, dispatch, unroll};
use super::PATCH;

/// G: the filter as a polynomial at each point, over the product of the point's distances to the others.
pub(super) const G: [[f32; 3]; PATCH] = {
    const P: f64 = 0.625 * 0.625 * 1.5 * 1.5;
    const NA: f64 = 2.0 * 0.625 * 0.625 * (0.625 * 0.625 - 1.5 * 1.5);
    const NB: f64 = 2.0 * 1.5 * 1.5 * (1.5 * 1.5 - 0.625 * 0.625);
    const fn row(p: f64, n: f64) -> [f32; 3] {
        [(1.0 / n) as f32, (p / n) as f32, (p * p / n) as f32]
    }
    [row(0.0, P), row(0.625, NA), row(-0.625, NA), row(1.5, NB), row(-1.5, NB), [0.0, 0.0, 1.0]]
};

pub struct Filter {
    /// `[channel][tap][width]`, of the type that the function is for; of those with scales `[tap][channel][width]`.
    pub weights: *const u8,
    /// `[width]`, for types with factors.
    pub factor: *const f32,
    /// All, the first of those to transform, and their number.
    pub channels: [usize; 3],
    pub width: usize,
    /// The row of G.
    pub g: *const [f32; 3],
    /// `[6 points][channel][width]`.
    pub out: *mut f32,
}

/// One row of G g G^T.
#[inline(always)]
unsafe fn filter_body<S: Simd, E: Entry>(t: &Filter) {
    // SAFETY: the caller gives weights and room for all channels and widths.
    unsafe {
        let g = [S::splat((*t.g)[0]), S::splat((*t.g)[1]), S::splat((*t.g)[2])];
        let rows = E::GROUP.max(1);
        let [all, first, channels] = t.channels;
        for c in 0..channels {
            for v in (0..t.width).step_by(S::LANES) {
                let mut f = [S::zero(); 3];
                unroll!(x in [0 1 2] => {
                    let mut taps = [S::zero(); 3];
                    unroll!(y in [0 1 2] => {
                        let tap = 3 * y + x;
                        if E::GROUP > 0 {
                            let k = tap * all + first + c;
                            let group = t.weights.add(k / rows * (2 * t.width + E::bytes(rows * t.width)));
                            let entry = group.add(2 * t.width + E::bytes(k % rows * t.width + v));
                            taps[y] = S::mul(E::load::<S>(entry), S::load_bf16(group.add(2 * v).cast()));
                        } else {
                            taps[y] = E::load::<S>(t.weights.add(E::bytes((9 * (first + c) + tap) * t.width + v)));
                            if E::BITS == 8 && !t.factor.is_null() {
                                taps[y] = S::mul(taps[y], S::load(t.factor.add(v)));
                            }
                        }
                    });
                    f[x] = S::mul_add(g[2], taps[2], S::mul_add(g[1], taps[1], S::mul(g[0], taps[0])));
                });
                let even_a = S::mul_add(S::splat(G[1][2]), f[2], S::mul(S::splat(G[1][0]), f[0]));
                let odd_a = S::mul(S::splat(G[1][1]), f[1]);
                let even_b = S::mul_add(S::splat(G[3][2]), f[2], S::mul(S::splat(G[3][0]), f[0]));
                let odd_b = S::mul(S::splat(G[3][1]), f[1]);
                let out = t.out.add(c * t.width + v);
                let plane = channels * t.width;
                S::store(out, S::mul(S::splat(G[0][0]), f[0]));
                S::store(out.add(plane), S::add(even_a, odd_a));
                S::store(out.add(2 * plane), S::sub(even_a, odd_a));
                S::store(out.add(3 * plane), S::add(even_b, odd_b));
                S::store(out.add(4 * plane), S::sub(even_b, odd_b));
                S::store(out.add(5 * plane), f[2]);
            }
        }
    }
}

macro_rules! filters {
    ($($body:ident $raw:ident $entry:ty),*) => {
        $(
            #[inline(always)]
            unsafe fn $body<S: Simd>(t: &Filter) {
                // SAFETY: the caller's contract.
                unsafe { filter_body::<S, $entry>(t) }
            }
            dispatch! { pub unsafe fn $raw = $body(t: &Filter) }
        )*
    };
}

filters! {
    filter_f32 filter_f32_raw F32,
    filter_f16 filter_f16_raw F16,
    filter_bf16 filter_bf16_raw Bf16,
    filter_int8 filter_int8_raw Int8,
    filter_int4 filter_int4_raw Int4
}
