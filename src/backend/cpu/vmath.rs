//! Vector functions over f32 slices: exp, sigmoid, tanh, the activations, and the row steps of a softmax.
//!
//! Each function works lane by lane, so a value's result depends neither on its place in the slice nor on the slice's
//! length, and each returns the [`Path`] that ran. Errors are against the exact function of the f32 argument; the tests
//! sweep them over every path.
#![allow(unsafe_code)] // Calls the generic vector code, compiled per path.

use super::isa::{Isa, Path};
use super::simd::{Simd, dispatch};
use crate::graph;

/// What is applied to a value after the affine part of a layer. The names are those of diffusers' `act_fn`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `x`.
    #[default]
    Identity,
    /// `x * sigmoid(x)`, also called swish. Relative error below 4e-7 for x > -87.
    Silu,
    /// `x * Phi(x)` with the exact normal distribution function. Absolute error below 3e-7 * max(1, |x|).
    Gelu,
    /// [`GeluTanh`](graph::Activation::GeluTanh). Absolute error below 3e-7 * max(1, |x|).
    GeluTanh,
    /// `x * tanh(ln(1 + exp(x)))`. Relative error below 6e-7 for x > -87.
    Mish,
    /// `max(x, 0)`.
    Relu,
}

/// exp(x), relative error below 2e-7; 0 below -104, infinity above 88.73, subnormal results to within one unit of
/// 2^-149.
#[inline(always)]
pub(crate) unsafe fn exp_v<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's contract is that of S.
    unsafe {
        // x second, so that NaN goes through.
        let x = S::min(S::splat(89.0), S::max(S::splat(-104.0), x));
        let n = S::round(S::mul(x, S::splat(core::f32::consts::LOG2_E)));
        // ln 2 in two parts, the first with few enough bits that n * LN2_HI is exact.
        const LN2_HI: f32 = 0.693_359_4;
        const LN2_LO: f32 = -2.121_944_4e-4;
        let r = S::mul_add(n, S::splat(-LN2_HI), x);
        let r = S::mul_add(n, S::splat(-LN2_LO), r);
        // (exp(r) - 1 - r) / r^2, a minimax fit on |r| <= ln(2)/2 (3e-9 of exp).
        let q = S::mul_add(r, S::splat(0.001_381_453_9), S::splat(0.008_368_749));
        let q = S::mul_add(r, q, S::splat(0.041_668_393));
        let q = S::mul_add(r, q, S::splat(0.166_665_2));
        let q = S::mul_add(r, q, S::splat(0.499_999_94));
        let p = S::add(S::splat(1.0), S::mul_add(S::mul(r, r), q, r));
        S::scale_pow2(p, n)
    }
}

#[inline(always)]
unsafe fn sigmoid_v<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's contract is that of S.
    unsafe { S::div(S::splat(1.0), S::add(S::splat(1.0), exp_v::<S>(S::sub(S::zero(), x)))) }
}

#[inline(always)]
pub(crate) unsafe fn silu_v<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's contract is that of S.
    unsafe { S::div(x, S::add(S::splat(1.0), exp_v::<S>(S::sub(S::zero(), x)))) }
}

/// SiLU for what becomes an integer of 8 bits: absolute error below 4e-6 * max(1, |x|), in fewer instructions.
#[inline(always)]
pub(crate) unsafe fn silu_near_v<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's contract is that of S.
    unsafe {
        // x second, so that NaN goes through.
        let near = S::min(S::splat(87.0), S::max(S::splat(-87.0), x));
        let t = S::mul(near, S::splat(-core::f32::consts::LOG2_E));
        let n = S::round(t);
        let r = S::sub(t, n);
        // 2^r, a minimax fit on |r| <= 1/2 (2.7e-6 in f32).
        let p = S::mul_add(r, S::splat(0.009_570_102), S::splat(0.055_917_863));
        let p = S::mul_add(r, p, S::splat(0.240_247_44));
        let p = S::mul_add(r, p, S::splat(0.693_121_8));
        let p = S::mul_add(r, p, S::splat(0.999_999_3));
        S::mul(x, S::inverse(S::add(S::splat(1.0), S::scale_normal(p, n))))
    }
}

#[inline(always)]
unsafe fn tanh_v<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's contract is that of S.
    unsafe {
        let a = S::abs(x);
        let one = S::splat(1.0);
        let e = exp_v::<S>(S::add(a, a));
        let far = S::sub(one, S::div(S::splat(2.0), S::add(e, one)));
        let far = S::select_lt(x, S::zero(), S::sub(S::zero(), far), far);
        // tanh(x)/x - 1 over x^2, a minimax fit on |x| <= 0.65 (7e-9).
        let s = S::mul(x, x);
        let p = S::mul_add(s, S::splat(-0.005_528_574_3), S::splat(0.020_483_263));
        let p = S::mul_add(s, p, S::splat(-0.053_692_95));
        let p = S::mul_add(s, p, S::splat(0.133_308_99));
        let p = S::mul_add(s, p, S::splat(-0.333_332_63));
        let near = S::mul_add(S::mul(x, s), p, x);
        S::select_lt(a, S::splat(0.625), near, far)
    }
}

/// ln(1 + exp(x)) = max(x, 0) + ln(1 + u) with u = exp(-|x|).
#[inline(always)]
unsafe fn softplus_v<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's contract is that of S.
    unsafe {
        let u = exp_v::<S>(S::sub(S::zero(), S::abs(x)));
        // ln(1 + u) = 2 artanh(s) with s = u / (2 + u), at most 1/3: the series up to s^17 (2e-9).
        let s = S::div(u, S::add(u, S::splat(2.0)));
        let q = S::mul(s, s);
        let p = S::mul_add(q, S::splat(1.0 / 17.0), S::splat(1.0 / 15.0));
        let p = S::mul_add(q, p, S::splat(1.0 / 13.0));
        let p = S::mul_add(q, p, S::splat(1.0 / 11.0));
        let p = S::mul_add(q, p, S::splat(1.0 / 9.0));
        let p = S::mul_add(q, p, S::splat(1.0 / 7.0));
        let p = S::mul_add(q, p, S::splat(1.0 / 5.0));
        let p = S::mul_add(q, p, S::splat(1.0 / 3.0));
        let half = S::mul_add(S::mul(s, q), p, s);
        // x second, so that NaN goes through.
        S::add(S::max(S::zero(), x), S::add(half, half))
    }
}

/// The normal distribution function and exp(-x^2 / 2).
#[inline(always)]
unsafe fn normal_v<S: Simd>(x: S::V) -> (S::V, S::V) {
    // SAFETY: the caller's contract is that of S.
    unsafe {
        let z = S::mul(S::abs(x), S::splat(core::f32::consts::FRAC_1_SQRT_2));
        // erfc(z) = t P(t) exp(-z^2) with t = 1 / (1 + 0.39 z), a minimax fit on 0 <= z <= 4.2 (9e-9).
        let t = S::div(S::splat(1.0), S::mul_add(z, S::splat(0.39), S::splat(1.0)));
        let p = S::mul_add(t, S::splat(-0.227_537_48), S::splat(0.886_665_8));
        let p = S::mul_add(t, p, S::splat(-0.635_402_7));
        let p = S::mul_add(t, p, S::splat(0.649_561_35));
        let p = S::mul_add(t, p, S::splat(0.091_387_64));
        let p = S::mul_add(t, p, S::splat(0.235_325_34));
        let e = exp_v::<S>(S::sub(S::zero(), S::mul(z, z)));
        let half = S::mul(S::mul(S::mul(t, p), S::splat(0.5)), e);
        (S::select_lt(x, S::zero(), half, S::sub(S::splat(1.0), half)), e)
    }
}

#[inline(always)]
unsafe fn gelu_v<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's contract is that of S.
    unsafe { S::mul(x, normal_v::<S>(x).0) }
}

/// Twice the argument of the tangent in the approximate GELU: `(1 + tanh(u)) / 2 = sigmoid(2 u)`.
#[inline(always)]
unsafe fn gelu_tanh_argument<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's contract is that of S.
    unsafe {
        let cubic = S::mul_add(S::mul(x, x), S::splat(0.071_354_814), S::splat(1.595_769_1));
        S::mul(x, cubic)
    }
}

#[inline(always)]
unsafe fn gelu_tanh_v<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's contract is that of S.
    unsafe { S::mul(x, sigmoid_v::<S>(gelu_tanh_argument::<S>(x))) }
}

#[inline(always)]
unsafe fn mish_v<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's contract is that of S.
    unsafe {
        // With u = exp(x): tanh(ln(1 + u)) = u (u + 2) / (u (u + 2) + 2). Beyond 20 it is 1 in f32.
        let u = exp_v::<S>(S::min(S::splat(20.0), x));
        let n = S::mul(u, S::add(u, S::splat(2.0)));
        S::mul(x, S::div(n, S::add(n, S::splat(2.0))))
    }
}

#[inline(always)]
unsafe fn relu_v<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's contract is that of S. x second, so that NaN goes through.
    unsafe { S::max(S::zero(), x) }
}

/// The derivative of an activation of the graph, within 1e-6 of its value or of the largest, about 1.
#[inline(always)]
pub(crate) unsafe fn slope_v<S: Simd>(f: graph::Activation, x: S::V) -> S::V {
    // SAFETY: the caller's contract is that of S.
    unsafe {
        let one = S::splat(1.0);
        match f {
            graph::Activation::Silu => {
                let s = sigmoid_v::<S>(x);
                S::mul(s, S::mul_add(x, S::sub(one, s), one))
            }
            graph::Activation::Sigmoid => {
                let s = sigmoid_v::<S>(x);
                S::mul(s, S::sub(one, s))
            }
            graph::Activation::Softplus => sigmoid_v::<S>(x),
            graph::Activation::Tanh => {
                let t = tanh_v::<S>(x);
                S::sub(one, S::mul(t, t))
            }
            graph::Activation::Mish => {
                // As in `mish_v`, with t the factor of x: t' = (1 - t^2) sigmoid(x).
                let u = exp_v::<S>(S::min(S::splat(20.0), x));
                let n = S::mul(u, S::add(u, S::splat(2.0)));
                let t = S::div(n, S::add(n, S::splat(2.0)));
                let rest = S::div(S::splat(2.0), S::add(n, S::splat(2.0)));
                S::mul_add(S::mul(x, S::mul(rest, S::add(one, t))), sigmoid_v::<S>(x), t)
            }
            graph::Activation::Gelu => {
                let (cdf, e) = normal_v::<S>(x);
                S::mul_add(S::mul(x, e), S::splat(0.398_942_28), cdf)
            }
            graph::Activation::GeluTanh => {
                // Beyond 12 the slope is 0 or 1; there the square must not overflow. x second, so that NaN goes
                // through.
                let x = S::min(S::splat(12.0), S::max(S::splat(-12.0), x));
                let s = sigmoid_v::<S>(gelu_tanh_argument::<S>(x));
                let inner = S::mul_add(S::mul(x, x), S::splat(0.214_064_44), S::splat(1.595_769_1));
                S::mul_add(S::mul(x, inner), S::mul(s, S::sub(one, s)), s)
            }
            graph::Activation::Relu => S::select_lt(S::zero(), x, one, S::zero()),
            graph::Activation::LeakyRelu { slope } => S::select_lt(S::zero(), x, one, S::splat(slope)),
        }
    }
}

/// Applies `f` to all of `x[..n]`.
#[inline(always)]
unsafe fn map<S: Simd>(x: *mut f32, n: usize, f: impl Fn(S::V) -> S::V) {
    let mut i = 0;
    // SAFETY: i + LANES <= n, or the tail's length is given; x holds n floats.
    unsafe {
        while i + S::LANES <= n {
            S::store(x.add(i), f(S::load(x.add(i))));
            i += S::LANES;
        }
        if i < n {
            S::store_n(x.add(i), n - i, f(S::load_n(x.add(i), n - i)));
        }
    }
}

macro_rules! in_place {
    ($($(#[$doc:meta])* $name:ident, $raw:ident, $body:ident, $lane:ident;)*) => {
        $(
            #[inline(always)]
            unsafe fn $body<S: Simd>(x: *mut f32, n: usize) {
                // A closure would be a function of its own, compiled without the path's instructions where it is too
                // long to be inlined.
                let mut i = 0;
                // SAFETY: i + LANES <= n, or the tail's length is given; x holds n floats.
                unsafe {
                    while i + S::LANES <= n {
                        S::store(x.add(i), $lane::<S>(S::load(x.add(i))));
                        i += S::LANES;
                    }
                    if i < n {
                        S::store_n(x.add(i), n - i, $lane::<S>(S::load_n(x.add(i), n - i)));
                    }
                }
            }
            dispatch! { unsafe fn $raw = $body(x: *mut f32, n: usize) }
            $(#[$doc])*
            // Some of them only training calls.
            #[cfg_attr(not(feature = "training"), allow(dead_code))]
            pub fn $name(isa: Isa, x: &mut [f32]) -> Path {
                // SAFETY: the slice holds x.len() floats.
                unsafe { $raw(isa, x.as_mut_ptr(), x.len()) }
            }
        )*
    };
}

in_place! {
    /// exp(x) in place: relative error below 2e-7; 0 below -104, infinity above 88.73; subnormal results to within
    /// 2^-149; NaN stays NaN.
    exp, exp_raw, exp_body, exp_v;
    /// 1 / (1 + exp(-x)) in place: relative error below 3e-7 for x > -87, below that at most 2e-38 off.
    sigmoid, sigmoid_raw, sigmoid_body, sigmoid_v;
    /// tanh(x) in place: relative error below 3e-7.
    tanh, tanh_raw, tanh_body, tanh_v;
    /// [`Activation::Silu`] in place.
    silu, silu_raw, silu_body, silu_v;
    /// [`Activation::Gelu`] in place.
    gelu, gelu_raw, gelu_body, gelu_v;
    /// [`Activation::GeluTanh`] in place.
    gelu_tanh, gelu_tanh_raw, gelu_tanh_body, gelu_tanh_v;
    /// [`Activation::Mish`] in place.
    mish, mish_raw, mish_body, mish_v;
    /// [`Activation::Relu`] in place.
    relu, relu_raw, relu_body, relu_v;
    /// ln(1 + exp(x)) in place: relative error below 4e-7 for x > -87, below that at most 2e-38 off.
    softplus, softplus_raw, softplus_body, softplus_v;
}

/// Applies an activation in place.
pub fn activate(isa: Isa, activation: Activation, x: &mut [f32]) -> Path {
    match activation {
        Activation::Identity => isa.path(),
        Activation::Silu => silu(isa, x),
        Activation::Gelu => gelu(isa, x),
        Activation::GeluTanh => gelu_tanh(isa, x),
        Activation::Mish => mish(isa, x),
        Activation::Relu => relu(isa, x),
    }
}

#[inline(always)]
unsafe fn softmax_body<S: Simd>(x: *mut f32, n: usize, scale: f32) {
    // SAFETY: x holds n floats; the rest is the contract of S.
    unsafe {
        let full = n - n % S::LANES;
        let mut top = S::splat(f32::NEG_INFINITY);
        let mut i = 0;
        while i < full {
            top = S::max(top, S::load(x.add(i)));
            i += S::LANES;
        }
        let mut max =
            S::to_array(top).into_iter().take(S::LANES).fold(f32::NEG_INFINITY, |a, b| if b > a { b } else { a });
        while i < n {
            let v = *x.add(i);
            max = if v > max { v } else { max };
            i += 1;
        }
        // scale > 0, so the largest logit is scale * max. Multiplying before subtracting keeps it at exactly 0.
        let (s, m) = (S::splat(scale), S::splat(max * scale));
        let mut sum = S::zero();
        let mut i = 0;
        while i < full {
            let e = exp_v::<S>(S::sub(S::mul(S::load(x.add(i)), s), m));
            S::store(x.add(i), e);
            sum = S::add(sum, e);
            i += S::LANES;
        }
        let mut total = 0.0;
        if i < n {
            let e = exp_v::<S>(S::sub(S::mul(S::load_n(x.add(i), n - i), s), m));
            S::store_n(x.add(i), n - i, e);
            total = S::to_array(e).into_iter().take(n - i).sum();
        }
        total += S::to_array(sum).into_iter().sum::<f32>();
        let inv = S::splat(1.0 / total);
        map::<S>(x, n, |v| S::mul(v, inv));
    }
}
dispatch! { unsafe fn softmax_raw = softmax_body(x: *mut f32, n: usize, scale: f32) }

/// softmax(scale * row) in place, for `scale > 0`: each value is within 1e-6 of itself, the sum is 1 to within 1e-6. A
/// NaN anywhere makes the row NaN. An empty row is left alone.
pub fn softmax_row(isa: Isa, row: &mut [f32], scale: f32) -> Path {
    // SAFETY: the slice holds row.len() floats.
    unsafe { softmax_raw(isa, row.as_mut_ptr(), row.len(), scale) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use std::println;

    fn paths() -> Vec<Isa> {
        let have = |p| {
            let isa = Isa::try_new(p);
            if isa.is_none() {
                println!("skipped: this CPU or build has no {p}");
            }
            isa
        };
        Path::ALL.into_iter().filter_map(have).collect()
    }

    /// Every 8191st float of the range, both signs, and the extremes.
    fn sweep(lo: f32, hi: f32) -> Vec<f32> {
        let mut v: Vec<f32> =
            (0..u32::MAX / 8191).map(|i| f32::from_bits(i * 8191)).filter(|x| *x >= lo && *x <= hi).collect();
        v.extend([lo, hi, 0.0, -0.0, f32::MIN_POSITIVE, -f32::MIN_POSITIVE, 1e-40, -1e-40]);
        v
    }

    fn check(name: &str, f: fn(Isa, &mut [f32]) -> Path, exact: fn(f64) -> f64, lo: f32, hi: f32, rel: f64, abs: f64) {
        for isa in paths() {
            let xs = sweep(lo, hi);
            let mut ys = xs.clone();
            assert_eq!(f(isa, &mut ys), isa.path(), "{name}: forced path did not run");
            let mut worst = (0.0, 0.0);
            for (x, y) in xs.iter().zip(&ys) {
                let want = exact(f64::from(*x));
                let bound = rel * want.abs() + abs;
                let off = (f64::from(*y) - want).abs();
                assert!(off <= bound, "{name} on {}: f({x:e}) = {y:e}, expected {want:e}", isa.path());
                if want.abs() > 1e-30 && off / want.abs() > worst.1 {
                    worst = (*x, off / want.abs());
                }
            }
            println!(
                "{name} on {}: {} values, worst relative error {:.2e} at {:e}",
                isa.path(),
                xs.len(),
                worst.1,
                worst.0
            );
        }
    }

    fn sigmoid64(x: f64) -> f64 {
        1.0 / (1.0 + (-x).exp())
    }

    #[test]
    fn exp_error() {
        check("exp", exp, f64::exp, -87.0, 88.7, 2e-7, 0.0);
        check("exp, subnormal", exp, f64::exp, -110.0, -87.0, 2e-7, 1.5e-45);
    }

    #[test]
    fn sigmoid_silu_error() {
        check("sigmoid", sigmoid, sigmoid64, -87.0, 1e30, 3e-7, 0.0);
        check("sigmoid, far", sigmoid, sigmoid64, -1e30, -87.0, 3e-7, 2e-38);
        check("silu", silu, |x| x * sigmoid64(x), -87.0, 1e30, 4e-7, 2e-45);
        check("silu, far", silu, |x| x * sigmoid64(x), -1e30, -87.0, 4e-7, 2e-36);
    }

    #[inline(always)]
    unsafe fn near_body<S: Simd>(x: *mut f32, n: usize) {
        for i in (0..n).step_by(S::LANES) {
            let n = (n - i).min(S::LANES);
            // SAFETY: n floats from element i on.
            unsafe { S::store_n(x.add(i), n, silu_near_v::<S>(S::load_n(x.add(i), n))) };
        }
    }
    dispatch! { unsafe fn near_raw = near_body(x: *mut f32, n: usize) }

    #[test]
    fn silu_near_error() {
        // SAFETY: the slice.
        let near: fn(Isa, &mut [f32]) -> Path = |isa, x| unsafe { near_raw(isa, x.as_mut_ptr(), x.len()) };
        check("silu, near", near, |x| x * sigmoid64(x), -87.0, 1e30, 4e-6, 4e-6);
        check("silu, near, far", near, |x| x * sigmoid64(x), -1e30, -87.0, 4e-6, 4e-6);
    }

    #[test]
    fn tanh_error() {
        check("tanh", tanh, f64::tanh, -1e30, 1e30, 3e-7, 2e-45);
    }

    #[test]
    fn softplus_error() {
        check("softplus", softplus, |x| x.max(0.0) + (-x.abs()).exp().ln_1p(), -1e30, 1e30, 4e-7, 2e-38);
    }

    #[test]
    fn gelu_error() {
        let gelu64 = |x: f64| x * 0.5 * libm::erfc(-x * core::f64::consts::FRAC_1_SQRT_2);
        check("gelu", gelu, gelu64, -1.0, 1.0, 1e-45, 3e-7);
        check("gelu", gelu, gelu64, 1.0, 1e30, 3e-7, 0.0);
        check("gelu", gelu, gelu64, -1e30, -1.0, 0.0, 3e-7);
    }

    #[test]
    fn mish_relu_error() {
        check("mish", mish, |x| x * x.exp().ln_1p().tanh(), -87.0, 300.0, 6e-7, 2e-45);
        check("relu", relu, |x| x.max(0.0), -1e30, 1e30, 0.0, 0.0);
    }

    #[test]
    fn special_values_and_tails() {
        for isa in paths() {
            let all: [fn(Isa, &mut [f32]) -> Path; 8] = [exp, sigmoid, tanh, silu, gelu, mish, relu, softplus];
            for f in all {
                // A value's result does not depend on where it stands or how long the slice is; NaN stays NaN.
                let xs: Vec<f32> = (0..37).map(|i| (i as f32 - 18.0) * 0.37).collect();
                let mut whole = xs.clone();
                f(isa, &mut whole);
                for n in 0..xs.len() {
                    let mut part = xs[n..].to_vec();
                    f(isa, &mut part);
                    assert_eq!(part, whole[n..]);
                    let mut head = xs[..n].to_vec();
                    f(isa, &mut head);
                    assert_eq!(head, whole[..n]);
                }
                let mut nan = [0.5, f32::NAN, 0.5];
                f(isa, &mut nan);
                assert!(nan[1].is_nan() && nan[0] == nan[2] && !nan[0].is_nan());
            }
            let mut x = [f32::INFINITY, f32::NEG_INFINITY, 1e4, -1e4];
            exp(isa, &mut x);
            assert_eq!(x, [f32::INFINITY, 0.0, f32::INFINITY, 0.0]);
            let mut x = [f32::INFINITY, f32::NEG_INFINITY];
            sigmoid(isa, &mut x);
            assert_eq!(x, [1.0, 0.0]);
            let mut x = [f32::INFINITY, f32::NEG_INFINITY];
            tanh(isa, &mut x);
            assert_eq!(x, [1.0, -1.0]);
        }
    }

    #[test]
    fn softmax_rows() {
        for isa in paths() {
            for n in [1, 2, 3, 4, 7, 16, 17, 33, 64, 257] {
                for shift in [0.0, 1000.0, -1000.0] {
                    let xs: Vec<f32> = (0..n).map(|i| ((i * 37) % 29) as f32 * 0.5 + shift).collect();
                    let logits: Vec<f64> = xs.iter().map(|x| f64::from(x - shift) * 0.25).collect();
                    let sum: f64 = logits.iter().map(|x| x.exp()).sum();
                    let mut ys = xs.clone();
                    assert_eq!(softmax_row(isa, &mut ys, 0.25), isa.path());
                    for (y, l) in ys.iter().zip(&logits) {
                        assert!((f64::from(*y) * sum / l.exp() - 1.0).abs() < 1e-6);
                    }
                }
            }
            let mut one = [3.0, f32::NEG_INFINITY, 3.0];
            softmax_row(isa, &mut one, 1.0);
            assert_eq!(one, [0.5, 0.0, 0.5]);
            let mut nan = [3.0, f32::NAN, 3.0];
            softmax_row(isa, &mut nan, 1.0);
            assert!(nan.iter().all(|v| v.is_nan()));
            softmax_row(isa, &mut [], 1.0);
        }
    }
}
