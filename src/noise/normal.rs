//! From uniform bits to a normal value.
//!
//! One 64-bit word makes one normal value, by the inverse of the normal distribution function: Wichura, Algorithm AS
//! 241 (PPND16), Applied Statistics 37 (1988), relative error about 1e-16. In the centre, 85 % of all values, it takes
//! only additions, multiplications and one division; in the tails one `log` and one `sqrt` of `libm` more. All of it is
//! f64 without fused operations, so the bits are the same on every platform.

// The coefficients as published, highest power last.
const CENTRE_NUM: [f64; 8] = [
    3.387_132_872_796_366_6,
    133.141_667_891_784_38,
    1_971.590_950_306_551_3,
    13_731.693_765_509_46,
    45_921.953_931_549_87,
    67_265.770_927_008_7,
    33_430.575_583_588_13,
    2_509.080_928_730_122_7,
];
const CENTRE_DEN: [f64; 8] = [
    1.0,
    42.313_330_701_600_91,
    687.187_007_492_057_9,
    5_394.196_021_424_751,
    21_213.794_301_586_597,
    39_307.895_800_092_71,
    28_729.085_735_721_943,
    5_226.495_278_852_854,
];
const NEAR_NUM: [f64; 8] = [
    1.423_437_110_749_683_5,
    4.630_337_846_156_546,
    5.769_497_221_460_691,
    3.647_848_324_763_204_5,
    1.270_458_252_452_368_4,
    0.241_780_725_177_450_6,
    0.022_723_844_989_269_184,
    7.745_450_142_783_414e-4,
];
const NEAR_DEN: [f64; 8] = [
    1.0,
    2.053_191_626_637_759,
    1.676_384_830_183_803_8,
    0.689_767_334_985_1,
    0.148_103_976_427_480_08,
    0.015_198_666_563_616_457,
    5.475_938_084_995_345e-4,
    1.050_750_071_644_416_9e-9,
];
const FAR_NUM: [f64; 8] = [
    6.657_904_643_501_103,
    5.463_784_911_164_114,
    1.784_826_539_917_291_3,
    0.296_560_571_828_504_87,
    0.026_532_189_526_576_124,
    0.001_242_660_947_388_078_4,
    2.711_555_568_743_487_6e-5,
    2.010_334_399_292_288_1e-7,
];
const FAR_DEN: [f64; 8] = [
    1.0,
    0.599_832_206_555_888,
    0.136_929_880_922_735_8,
    0.014_875_361_290_850_615,
    7.868_691_311_456_133e-4,
    1.846_318_317_510_054_8e-5,
    1.421_511_758_316_446e-7,
    2.044_263_103_389_939_8e-15,
];

fn polynomial(coefficients: &[f64; 8], x: f64) -> f64 {
    coefficients.iter().rev().fold(0.0, |sum, c| sum * x + c)
}

/// The z with P(Z <= z) = p for a standard normal Z. Relative error about 1e-15; p outside (0, 1) gives infinity or
/// NaN.
///
/// Equation: Wichura 1988, AS 241, PPND16.
pub fn inverse_normal_cdf(p: f64) -> f64 {
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        let r = 0.180625 - q * q;
        return q * polynomial(&CENTRE_NUM, r) / polynomial(&CENTRE_DEN, r);
    }
    let tail = if q < 0.0 { p } else { 1.0 - p };
    let r = libm::sqrt(-libm::log(tail));
    let z = if r <= 5.0 {
        polynomial(&NEAR_NUM, r - 1.6) / polynomial(&NEAR_DEN, r - 1.6)
    } else {
        polynomial(&FAR_NUM, r - 5.0) / polynomial(&FAR_DEN, r - 5.0)
    };
    if q < 0.0 { -z } else { z }
}

/// The normal value that 64 random bits stand for.
///
/// p = (2 k + 1) 2^-53 with k the upper 52 bits: exact in f64, symmetric about 1/2, never 0 or 1; |z| < 8.3.
pub(crate) fn normal_from_bits(bits: u64) -> f64 {
    let odd = ((bits >> 12) << 1) | 1;
    inverse_normal_cdf(odd as f64 * (1.0 / 9_007_199_254_740_992.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_the_distribution_function() {
        // scipy.special.ndtri (scipy 1.17.1, f64) at these p.
        for (p, z) in SCIPY {
            let got = inverse_normal_cdf(p);
            assert!((got - z).abs() <= 2e-15 * z.abs(), "p {p}: {got} against {z}");
            if p > 1e-3 {
                let up = inverse_normal_cdf(1.0 - p);
                assert!((up + z).abs() <= 1e-12, "p {p} mirrored: {up} against {z}");
            }
        }
        assert_eq!(inverse_normal_cdf(0.5), 0.0);
    }

    #[test]
    fn is_symmetric_and_bounded() {
        for bits in [0, 1 << 12, 0x1234_5678_9abc_def0, u64::MAX >> 1] {
            assert_eq!(normal_from_bits(bits), -normal_from_bits(!bits));
        }
        assert!(normal_from_bits(0) > -8.3 && normal_from_bits(u64::MAX) < 8.3);
        assert!(normal_from_bits(u64::MAX).is_finite());
    }

    #[test]
    fn is_monotone_across_the_seams() {
        for seam in [0.075, libm::exp(-25.0)] {
            let mut last = inverse_normal_cdf(seam * (1.0 - 1e-6));
            for i in -99..100 {
                let z = inverse_normal_cdf(seam * (1.0 + f64::from(i) * 1e-8));
                assert!(z > last, "at {seam} step {i}");
                last = z;
            }
        }
    }

    const SCIPY: [(f64, f64); 9] = [
        (1.1102230246251565e-16, -8.209536151601387),
        (1e-12, -7.034483825301131),
        (1e-06, -4.753424308822899),
        (0.001, -3.090232306167813),
        (0.02425, -1.972961051311885),
        (0.075, -1.4395314709384563),
        (0.2, -0.8416212335729142),
        (0.4, -0.2533471031357997),
        (0.499, -0.0025066308995717666),
    ];
}
