//! The vector operations that all kernels are written in, once, generically; one implementation per path.
//!
//! A kernel body is an `#[inline(always)]` function over `S: Simd`; [`dispatch`] and the tables in `gemm` put it into a
//! function compiled with the path's target features, where every operation becomes its instruction. A body has no
//! closures: one that is not inlined is a function without those features, in which every operation is a call. Only the
//! modules of this folder use it.
#![allow(unsafe_code)] // Vendor intrinsics and raw loads and stores; the bodies say what they read and write.
#![allow(clippy::missing_safety_doc)] // One contract for all of it, stated on the trait.

use super::isa::Path;

/// Vectors of `LANES` f32.
///
/// # Safety
/// Every function needs the instructions of `PATH` (a caller holds an [`Isa`](super::isa::Isa) of it) and, if it takes
/// a pointer, that the `LANES` (or `n`) floats there are valid; no alignment is needed.
pub(crate) trait Simd: Copy {
    const PATH: Path;
    const LANES: usize;
    /// Whether the functions of several vectors at once, [`differences`](Self::differences) among them, take fewer
    /// instructions than as many of one.
    const TOGETHER: bool = false;
    type V: Copy;

    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(p: *const f32) -> Self::V;
    unsafe fn store(p: *mut f32, v: Self::V);
    /// The first `n <= LANES` floats; the other lanes are 0.
    unsafe fn load_n(p: *const f32, n: usize) -> Self::V;
    /// Stores the first `n <= LANES` lanes.
    unsafe fn store_n(p: *mut f32, n: usize, v: Self::V);
    /// [`load_n`](Self::load_n), quick where `n` is `LANES`.
    #[inline(always)]
    unsafe fn load_most(p: *const f32, n: usize) -> Self::V {
        // SAFETY: the trait's contract.
        unsafe { if n == Self::LANES { Self::load(p) } else { Self::load_n(p, n) } }
    }
    /// [`store_n`](Self::store_n), quick where `n` is `LANES`.
    #[inline(always)]
    unsafe fn store_most(p: *mut f32, n: usize, v: Self::V) {
        // SAFETY: the trait's contract.
        unsafe { if n == Self::LANES { Self::store(p, v) } else { Self::store_n(p, n, v) } }
    }
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`; one rounding except on the portable path and on simd128.
    unsafe fn mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The smaller; `b` if one is NaN (or NaN, on NEON).
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// The larger; `b` if one is NaN (or NaN, on NEON).
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn abs(a: Self::V) -> Self::V;
    /// `a < b ? t : e` by lane.
    unsafe fn select_lt(a: Self::V, b: Self::V, t: Self::V, e: Self::V) -> Self::V;
    /// The nearest integer, for `|a| < 2^22`.
    unsafe fn round(a: Self::V) -> Self::V;
    /// `a * 2^n` for integer-valued `|n| <= 252`, with one rounding where the result is subnormal.
    unsafe fn scale_pow2(a: Self::V, n: Self::V) -> Self::V;
    /// The same for `|n| <= 126` and `1/2 <= a < 2`; what is below the normal numbers may be any subnormal one.
    #[inline(always)]
    unsafe fn scale_normal(a: Self::V, n: Self::V) -> Self::V {
        // SAFETY: the trait's contract.
        unsafe { Self::scale_pow2(a, n) }
    }
    /// Asks for the cache line at `p`, which need not be valid memory.
    #[inline(always)]
    unsafe fn prefetch(_p: *const f32) {}
    /// The same into the second level of cache.
    #[inline(always)]
    unsafe fn prefetch_far(_p: *const f32) {}

    /// `LANES` numbers of f16, as their bits, made f32.
    #[inline(always)]
    unsafe fn load_f16(p: *const u16) -> Self::V {
        // SAFETY: the trait's contract.
        unsafe { decode::<Self, u16>(p, |bits| half::f16::from_bits(bits).to_f32()) }
    }
    /// `LANES` numbers of bf16, as their bits, made f32.
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> Self::V {
        // SAFETY: the trait's contract.
        unsafe { decode::<Self, u16>(p, |bits| f32::from_bits(u32::from(bits) << 16)) }
    }
    /// The same for the first `n <= LANES`; the other lanes are 0.
    #[inline(always)]
    unsafe fn load_bf16_n(p: *const u16, n: usize) -> Self::V {
        let mut a = [0u16; 16];
        for (i, v) in a.iter_mut().enumerate().take(n) {
            // SAFETY: i < n.
            *v = unsafe { *p.add(i) };
        }
        // SAFETY: LANES <= 16 for every path.
        unsafe { Self::load_bf16(a.as_ptr()) }
    }
    /// `LANES` integers, made f32.
    #[inline(always)]
    unsafe fn load_i8(p: *const i8) -> Self::V {
        // SAFETY: the trait's contract.
        unsafe { decode::<Self, i8>(p, f32::from) }
    }

    /// `LANES` integers of 4 bits from half as many bytes, the first one in the lowest bits, made f32.
    #[inline(always)]
    unsafe fn load_i4(p: *const u8) -> Self::V {
        let mut a = [0.0; 16];
        for (i, pair) in a.as_chunks_mut::<2>().0.iter_mut().enumerate().take(Self::LANES / 2) {
            // SAFETY: i < LANES / 2.
            *pair = crate::int4::unpair(unsafe { *p.add(i) }).map(f32::from);
        }
        // SAFETY: the trait's contract; LANES <= 16.
        unsafe { Self::load(a.as_ptr()) }
    }

    /// `1 / a` for `1 <= a < 2^127`; relative error below 3e-7.
    #[inline(always)]
    unsafe fn inverse(a: Self::V) -> Self::V {
        // SAFETY: the trait's contract.
        unsafe { Self::div(Self::splat(1.0), a) }
    }
    /// `*p - *q` of the first `n <= LANES` integers, made f32; the other lanes are any.
    #[inline(always)]
    unsafe fn load_differences(p: *const i32, q: *const i32, n: usize) -> Self::V {
        let mut a = [0.0; 16];
        for (i, v) in a.iter_mut().enumerate().take(n) {
            // SAFETY: i < n.
            *v = unsafe { (*p.add(i)).wrapping_sub(*q.add(i)) } as f32;
        }
        // SAFETY: the trait's contract; LANES <= 16.
        unsafe { Self::load(a.as_ptr()) }
    }
    /// `*p - q` of `LANES` integers, made f32, where `q` has their bits.
    #[inline(always)]
    unsafe fn differences(p: *const i32, q: Self::V) -> Self::V {
        // SAFETY: the trait's contract.
        unsafe {
            let q = Self::to_array(q);
            Self::load_differences(p, q.as_ptr().cast(), Self::LANES)
        }
    }
    /// Stores the first `n <= LANES` lanes as the nearest bf16, see [`narrow`](super::halves::narrow).
    #[inline(always)]
    unsafe fn store_bf16(p: *mut u16, n: usize, v: Self::V) {
        // SAFETY: the trait's contract.
        let a = unsafe { Self::to_array(v) };
        for (i, v) in a.into_iter().enumerate().take(n) {
            // SAFETY: i < n.
            unsafe { *p.add(i) = super::halves::narrow(v) };
        }
    }
    /// Stores the lowest byte of each of the first `n <= LANES` lanes.
    #[inline(always)]
    unsafe fn store_low_bytes(p: *mut u8, n: usize, v: Self::V) {
        // SAFETY: the trait's contract.
        let a = unsafe { Self::to_array(v) };
        for (i, v) in a.into_iter().enumerate().take(n) {
            // SAFETY: i < n.
            unsafe { *p.add(i) = v.to_bits() as u8 };
        }
    }
    /// [`load_bf16`](Self::load_bf16) of two vectors.
    #[inline(always)]
    unsafe fn load_two_bf16(p: *const u16) -> [Self::V; 2] {
        // SAFETY: the trait's contract.
        unsafe { [Self::load_bf16(p), Self::load_bf16(p.add(Self::LANES))] }
    }
    /// [`store_bf16`](Self::store_bf16) of two whole vectors.
    #[inline(always)]
    unsafe fn store_two_bf16(p: *mut u16, v: [Self::V; 2]) {
        for (i, v) in v.into_iter().enumerate() {
            // SAFETY: the trait's contract.
            unsafe { Self::store_bf16(p.add(i * Self::LANES), Self::LANES, v) };
        }
    }
    /// [`store_low_bytes`](Self::store_low_bytes) of four whole vectors.
    #[inline(always)]
    unsafe fn store_four_low_bytes(p: *mut u8, v: [Self::V; 4]) {
        for (i, v) in v.into_iter().enumerate() {
            // SAFETY: the trait's contract.
            unsafe { Self::store_low_bytes(p.add(i * Self::LANES), Self::LANES, v) };
        }
    }

    #[inline(always)]
    unsafe fn zero() -> Self::V {
        // SAFETY: the trait's contract.
        unsafe { Self::splat(0.0) }
    }

    /// The lanes in memory order; those at `LANES..` are 0.
    #[inline(always)]
    unsafe fn to_array(v: Self::V) -> [f32; 16] {
        let mut a = [0.0; 16];
        // SAFETY: LANES <= 16 for every path.
        unsafe { Self::store(a.as_mut_ptr(), v) };
        a
    }
}

/// `LANES` numbers from `p` on, each by `f`.
#[inline(always)]
unsafe fn decode<S: Simd, T: Copy>(p: *const T, f: impl Fn(T) -> f32) -> S::V {
    let mut a = [0.0; 16];
    for (i, v) in a.iter_mut().enumerate().take(S::LANES) {
        // SAFETY: i < LANES, for which the caller's `p` is valid.
        *v = f(unsafe { p.add(i).read_unaligned() });
    }
    // SAFETY: LANES <= 16 for every path; the caller answers for the instructions.
    unsafe { S::load(a.as_ptr()) }
}

/// 1.5 * 2^23: a float this large has no room for a fraction, so adding it rounds to an integer.
const MAGIC: f32 = 12_582_912.0;

/// Four lanes in plain Rust.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

/// The portable path's vector.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
pub(crate) struct F4([f32; 4]);

#[inline(always)]
fn map2(a: F4, b: F4, f: impl Fn(f32, f32) -> f32) -> F4 {
    F4([f(a.0[0], b.0[0]), f(a.0[1], b.0[1]), f(a.0[2], b.0[2]), f(a.0[3], b.0[3])])
}

impl Simd for Portable {
    const PATH: Path = Path::Portable;
    const LANES: usize = 4;
    type V = F4;

    #[inline(always)]
    unsafe fn splat(x: f32) -> F4 {
        F4([x; 4])
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> F4 {
        // SAFETY: the trait's contract.
        F4(unsafe { p.cast::<[f32; 4]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: F4) {
        // SAFETY: the trait's contract.
        unsafe { p.cast::<[f32; 4]>().write_unaligned(v.0) }
    }
    #[inline(always)]
    unsafe fn load_n(p: *const f32, n: usize) -> F4 {
        let mut a = [0.0; 4];
        for (i, v) in a.iter_mut().enumerate().take(n) {
            // SAFETY: i < n.
            *v = unsafe { *p.add(i) };
        }
        F4(a)
    }
    #[inline(always)]
    unsafe fn store_n(p: *mut f32, n: usize, v: F4) {
        for (i, v) in v.0.into_iter().enumerate().take(n) {
            // SAFETY: i < n.
            unsafe { *p.add(i) = v };
        }
    }
    #[inline(always)]
    unsafe fn add(a: F4, b: F4) -> F4 {
        map2(a, b, |x, y| x + y)
    }
    #[inline(always)]
    unsafe fn sub(a: F4, b: F4) -> F4 {
        map2(a, b, |x, y| x - y)
    }
    #[inline(always)]
    unsafe fn mul(a: F4, b: F4) -> F4 {
        map2(a, b, |x, y| x * y)
    }
    #[inline(always)]
    unsafe fn div(a: F4, b: F4) -> F4 {
        map2(a, b, |x, y| x / y)
    }
    #[inline(always)]
    unsafe fn mul_add(a: F4, b: F4, c: F4) -> F4 {
        map2(map2(a, b, |x, y| x * y), c, |x, y| x + y)
    }
    #[inline(always)]
    unsafe fn min(a: F4, b: F4) -> F4 {
        map2(a, b, |x, y| if x < y { x } else { y })
    }
    #[inline(always)]
    unsafe fn max(a: F4, b: F4) -> F4 {
        map2(a, b, |x, y| if x > y { x } else { y })
    }
    #[inline(always)]
    unsafe fn abs(a: F4) -> F4 {
        map2(a, a, |x, _| f32::from_bits(x.to_bits() & 0x7fff_ffff))
    }
    #[inline(always)]
    unsafe fn select_lt(a: F4, b: F4, t: F4, e: F4) -> F4 {
        let pick = |i: usize| if a.0[i] < b.0[i] { t.0[i] } else { e.0[i] };
        F4([pick(0), pick(1), pick(2), pick(3)])
    }
    #[inline(always)]
    unsafe fn round(a: F4) -> F4 {
        map2(a, a, |x, _| (x + MAGIC) - MAGIC)
    }
    #[inline(always)]
    unsafe fn scale_normal(a: F4, n: F4) -> F4 {
        // As below, in one factor.
        map2(a, n, |x, n| x * f32::from_bits((n + MAGIC).to_bits().wrapping_sub(MAGIC.to_bits() - 127) << 23))
    }
    #[inline(always)]
    unsafe fn load_differences(p: *const i32, q: *const i32, n: usize) -> F4 {
        let mut a = [0.0; 4];
        if n == 4 {
            // SAFETY: the trait's contract.
            let (p, q) = unsafe { (p.cast::<[i32; 4]>().read(), q.cast::<[i32; 4]>().read()) };
            let each = |i: usize| p[i].wrapping_sub(q[i]) as f32;
            return F4([each(0), each(1), each(2), each(3)]);
        }
        for (i, v) in a.iter_mut().enumerate().take(n) {
            // SAFETY: i < n.
            *v = unsafe { (*p.add(i)).wrapping_sub(*q.add(i)) } as f32;
        }
        F4(a)
    }
    #[inline(always)]
    unsafe fn store_bf16(p: *mut u16, n: usize, v: F4) {
        let narrow = v.0.map(super::halves::narrow);
        // SAFETY: the trait's contract.
        unsafe { store_some(p, n, narrow) }
    }
    #[inline(always)]
    unsafe fn store_low_bytes(p: *mut u8, n: usize, v: F4) {
        let bytes = v.0.map(|v| v.to_bits() as u8);
        // SAFETY: the trait's contract.
        unsafe { store_some(p, n, bytes) }
    }
    #[inline(always)]
    unsafe fn load_i4(p: *const u8) -> F4 {
        // SAFETY: the trait's contract.
        let bits = u32::from(unsafe { p.cast::<u16>().read_unaligned() }.to_le());
        let each = |i: u32| ((bits << (28 - 4 * i)) as i32 >> 28) as f32;
        F4([each(0), each(1), each(2), each(3)])
    }
    #[inline(always)]
    unsafe fn scale_pow2(a: F4, n: F4) -> F4 {
        // 2^n in two exact halves, as n may lie beyond the exponents of normal numbers.
        map2(a, n, |x, n| {
            // The integer stands in the low bits of n + MAGIC. For NaN it is any, and x is NaN too.
            let n = (n + MAGIC).to_bits().wrapping_sub(MAGIC.to_bits()) as i32;
            let half = n >> 1;
            let p = |e: i32| f32::from_bits((e.wrapping_add(127) as u32) << 23);
            x * p(half) * p(n.wrapping_sub(half))
        })
    }
}

/// Stores the first `n <= 4` of `v`.
#[inline(always)]
unsafe fn store_some<T: Copy>(p: *mut T, n: usize, v: [T; 4]) {
    if n == 4 {
        // SAFETY: the caller has four there.
        return unsafe { p.cast::<[T; 4]>().write_unaligned(v) };
    }
    for (i, v) in v.into_iter().enumerate().take(n) {
        // SAFETY: i < n.
        unsafe { *p.add(i) = v };
    }
}

/// Functions of [`Simd`] that are one expression each; for the modules below.
#[cfg(any(
    target_arch = "x86_64",
    all(target_arch = "aarch64", target_feature = "neon"),
    all(target_arch = "wasm32", target_feature = "simd128")
))]
macro_rules! op {
    ($($name:ident($($a:ident: $t:ty),*) $(-> $r:ty)? { $e:expr })*) => {
        $(
            #[inline(always)]
            unsafe fn $name($($a: $t),*) $(-> $r)? {
                // SAFETY: the trait's contract gives the instructions and the memory.
                #[allow(unused_unsafe)]
                unsafe { $e }
            }
        )*
    };
}

#[cfg(any(target_arch = "x86_64", all(target_arch = "aarch64", target_feature = "neon")))]
pub(super) use op;

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub(crate) use wasm::Simd128;

#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
pub(crate) use arm::Neon;

#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
mod arm;

/// Runs the body with `$i` = 0, 1, ... below the constant `$n`, at most 14, or with the numbers listed, without a loop:
/// arrays indexed by `$i` live in registers even where the compiler is told to keep code small and unrolls nothing, as
/// in the profile `ffi`.
macro_rules! unroll {
    ($i:ident in [$($k:literal)*] => $body:block) => {
        $({
            let $i: usize = $k;
            $body
        })*
    };
    ($i:ident in $n:expr => $body:block) => {
        $crate::backend::cpu::simd::unroll!(@ $i, $n, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13)
    };
    (@ $i:ident, $n:expr, $body:block, $($k:literal)*) => {
        $(if const { $k < $n } {
            let $i: usize = $k;
            $body
        })*
    };
}
pub(crate) use unroll;

/// Makes `fn $name(isa, args) -> Path` out of a body generic over `Simd`: it runs the body compiled for the path of
/// `isa` and returns that path. The second form makes an `unsafe fn` whose contract is the body's.
macro_rules! dispatch {
    ($(#[$doc:meta])* $vis:vis unsafe fn $name:ident = $body:ident($($a:ident: $t:ty),* $(,)?)) => {
        $(#[$doc])*
        $vis unsafe fn $name(isa: $crate::backend::cpu::isa::Isa, $($a: $t),*) -> $crate::backend::cpu::isa::Path {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            unsafe fn avx2($($a: $t),*) -> $crate::backend::cpu::isa::Path {
                // SAFETY: the features are enabled here; the rest is the caller's contract.
                unsafe { $body::<$crate::backend::cpu::simd::Avx2>($($a),*) };
                $crate::backend::cpu::isa::Path::Avx2
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512vl,avx512dq,avx512bw")]
            unsafe fn avx512($($a: $t),*) -> $crate::backend::cpu::isa::Path {
                // SAFETY: as above.
                unsafe { $body::<$crate::backend::cpu::simd::Avx512>($($a),*) };
                $crate::backend::cpu::isa::Path::Avx512
            }
            match isa.path() {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: an Isa of this path proves the features.
                $crate::backend::cpu::isa::Path::Avx2 => unsafe { avx2($($a),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: an Isa of this path proves the features.
                $crate::backend::cpu::isa::Path::Avx512 => unsafe { avx512($($a),*) },
                #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
                $crate::backend::cpu::isa::Path::Neon => {
                    // SAFETY: the build has NEON; the rest is the caller's contract.
                    unsafe { $body::<$crate::backend::cpu::simd::Neon>($($a),*) };
                    $crate::backend::cpu::isa::Path::Neon
                }
                #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
                $crate::backend::cpu::isa::Path::Simd128 => {
                    // SAFETY: the build has simd128; the rest is the caller's contract.
                    unsafe { $body::<$crate::backend::cpu::simd::Simd128>($($a),*) };
                    $crate::backend::cpu::isa::Path::Simd128
                }
                _ => {
                    // SAFETY: plain Rust; the rest is the caller's contract.
                    unsafe { $body::<$crate::backend::cpu::simd::Portable>($($a),*) };
                    $crate::backend::cpu::isa::Path::Portable
                }
            }
        }
    };
}
pub(crate) use dispatch;
