//! Logarithm, sine and cosine in f32 as the vectorised kernels of PyTorch and of XLA round them.
//!
//! Both evaluate the polynomials of Moshier's Cephes library (logf, sinf, cosf) in f32, with fused multiply-adds, but
//! in different orders. What fuses with what decides the last bit, so each expression here is one rounding of theirs.
//! Found by comparing millions of values bit by bit; tests/golden/make_noise.py has the comparison.

/// a b + c, rounded once.
pub(super) fn fma(a: f32, b: f32, c: f32) -> f32 {
    libm::fmaf(a, b, c)
}

fn horner<const K: usize>(x: f32, coefficients: [f32; K]) -> f32 {
    coefficients.into_iter().reduce(|p, c| fma(p, x, c)).unwrap_or_default()
}

/// Of the logarithm's polynomial.
const LOG: [f32; 9] = [
    7.037_683_6e-2,
    -1.151_461_03e-1,
    1.167_699_87e-1,
    -1.242_014_08e-1,
    1.424_932_3e-1,
    -1.666_805_8e-1,
    2.000_071_4e-1,
    -2.499_999_4e-1,
    3.333_333e-1,
];
/// ln 2 in two parts.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;

/// A positive normal x as m 2^e: m - 1, with m in [sqrt(1/2), sqrt 2), and e.
fn split(x: f32) -> (f32, f32) {
    let bits = x.max(f32::MIN_POSITIVE).to_bits();
    let e = (bits >> 23) as f32 - 126.0;
    let m = f32::from_bits((bits & 0x007f_ffff) | 0x3f00_0000);
    if m < core::f32::consts::FRAC_1_SQRT_2 { ((m - 1.0) + m, e - 1.0) } else { (m - 1.0, e) }
}

/// PyTorch's logarithm of x in (0, 1], where AVX2 is to be had.
pub(super) fn torch_log(x: f32) -> f32 {
    let (x, e) = split(x);
    let z = x * x;
    let y = fma(horner(x, LOG) * x, z, e * LN2_LOW);
    fma(e, LN2_HIGH, x + fma(z, -0.5, y))
}

/// PyTorch's sine and cosine of x >= 0.
pub(super) fn torch_sin_cos(x: f32) -> (f32, f32) {
    const FOUR_OVER_PI: f32 = 1.273_239_5;
    // pi / 4 in three parts.
    const PARTS: [f32; 3] = [-0.785_156_25, -2.418_756_5e-4, -3.774_895e-8];
    let octant = ((x * FOUR_OVER_PI) as u32 + 1) & !1;
    let x = PARTS.into_iter().fold(x, |x, part| fma(octant as f32, part, x));
    let z = x * x;
    let c = horner(z, [2.443_315_7e-5, -1.388_731_6e-3, 4.166_664_6e-2]) * z;
    let c = fma(c, z, -(z * 0.5)) + 1.0;
    let s = fma(horner(z, [-1.951_529_6e-4, 8.332_161e-3, -1.666_665_5e-1]) * z, x, x);
    let (sin, cos) = if octant & 2 == 0 { (s, c) } else { (c, s) };
    let negative = |on: bool, v: f32| if on { -v } else { v };
    (negative(octant & 4 != 0, sin), negative(octant.wrapping_sub(2) & 4 == 0, cos))
}

/// XLA's logarithm of x in (0, 1].
fn xla_log(x: f32) -> f32 {
    let (x, e) = split(x);
    let (x2, x3) = (x * x, x * x * x);
    let [a, b, c, d, f, g, h, i, j] = LOG;
    let (p, q, r) = (horner(x, [a, b, c]), horner(x, [d, f, g]), horner(x, [h, i, j]));
    let y = fma(fma(fma(p, x3, q), x3, r), x3, e * LN2_LOW);
    fma(e, LN2_HIGH, fma(x2, -0.5, x) + y)
}

/// XLA's ln(1 + x) for x in (-1, 0].
pub(super) fn xla_log1p(x: f32) -> f32 {
    if x <= -0.414_213_57 {
        return xla_log(1.0 + x);
    }
    // Cephes' log1p.
    let numerator = [4.527e-5, 4.985_410_2e-1, 6.578_732_5, 2.991_191_9e1, 6.094_966_7e1, 5.711_296_5e1, 2.003_955_3e1];
    let denominator = [1.0, 1.506_290_9e1, 8.304_757e1, 2.217_624e2, 3.090_987_2e2, 2.164_278_9e2, 6.011_866e1];
    let x2 = x * x;
    x + fma(x2, -0.5, horner(x, numerator) / horner(x, denominator) * (x * x2))
}

/// XLA's inverse of the error function for x in (-1, 1): Giles, Approximating the erfinv function (2010).
pub(super) fn xla_erf_inv(x: f32) -> f32 {
    let w = -xla_log1p(-(x * x));
    let p = if w < 5.0 {
        const NEAR: [f32; 9] = [
            2.810_226_4e-8,
            3.432_739_4e-7,
            -3.523_387_7e-6,
            -4.391_506_5e-6,
            2.185_808_7e-4,
            -1.253_725_03e-3,
            -4.177_681_6e-3,
            2.466_407_3e-1,
            1.501_409_4,
        ];
        horner(w - 2.5, NEAR)
    } else {
        const FAR: [f32; 9] = [
            -2.002_142_6e-4,
            1.009_505_6e-4,
            1.349_343_2e-3,
            -3.673_428_4e-3,
            5.739_507_7e-3,
            -7.622_461_3e-3,
            9.438_870_5e-3,
            1.001_674_06,
            2.832_976_8,
        ];
        horner(libm::sqrtf(w) - 3.0, FAR)
    };
    p * x
}
