//! NumPy's generators: `default_rng`, and the legacy `RandomState`.

use alloc::boxed::Box;

use rand_core::Rng;
use rand_pcg::Pcg64;

use super::mt19937::Mt19937;

/// `numpy.random.default_rng(seed)`: PCG64, normals by the ziggurat of 256 strips (Marsaglia and Tsang 2000, as NumPy
/// varies it).
#[derive(Clone, Debug)]
pub(super) struct Numpy {
    bits: Pcg64,
    strips: Box<Strips>,
}

impl Numpy {
    pub(super) fn new(seed: u64) -> Self {
        Self { bits: seeded(seed), strips: Box::new(Strips::new()) }
    }

    pub(super) fn seed(&mut self, seed: u64) {
        self.bits = seeded(seed);
    }

    fn uniform(&mut self) -> f64 {
        (self.bits.next_u64() >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0)
    }

    /// `random(n)`, f64 rounded to f32.
    pub(super) fn uniforms(&mut self, out: &mut [f32]) {
        out.fill_with(|| self.uniform() as f32);
    }

    /// `standard_normal(n)`, f64 rounded to f32.
    pub(super) fn normals(&mut self, out: &mut [f32]) {
        out.fill_with(|| self.normal() as f32);
    }

    fn normal(&mut self) -> f64 {
        loop {
            let word = self.bits.next_u64();
            let strip = (word & 0xff) as usize;
            let negative = word >> 8 & 1 == 1;
            let size = word >> 9 & ((1 << 52) - 1);
            let x = size as f64 * self.strips.width[strip];
            let signed = |x: f64, negative: bool| if negative { -x } else { x };
            if size < self.strips.inside[strip] {
                return signed(x, negative);
            }
            if strip == 0 {
                // The tail. Its sign is another bit.
                loop {
                    let over = -libm::log1p(-self.uniform()) / RIGHT;
                    let height = -libm::log1p(-self.uniform());
                    if height + height > over * over {
                        return signed(RIGHT + over, size >> 8 & 1 == 1);
                    }
                }
            }
            let (below, above) = (self.strips.height[strip], self.strips.height[strip - 1]);
            if (above - below) * self.uniform() + below < libm::exp(-0.5 * x * x) {
                return signed(x, negative);
            }
        }
    }
}

/// Where the tail begins: with it, the 256 strips have the same area.
const RIGHT: f64 = 3.654_152_885_361_008_8;

#[derive(Clone, Debug)]
struct Strips {
    /// A strip's values below this, of 2^52, lie under the curve without a look at it.
    inside: [u64; 256],
    /// The strip's width over 2^52.
    width: [f64; 256],
    /// The density, without its factor, at the strip's right end.
    height: [f64; 256],
}

impl Strips {
    fn new() -> Self {
        let density = |x: f64| libm::exp(-0.5 * x * x);
        let one = 4_503_599_627_370_496.0; // 2^52
        let tail = libm::sqrt(core::f64::consts::FRAC_PI_2) * libm::erfc(RIGHT * core::f64::consts::FRAC_1_SQRT_2);
        let area = RIGHT * density(RIGHT) + tail;
        let mut strips = Self { inside: [0; 256], width: [0.0; 256], height: [0.0; 256] };
        // Strip 0 is the lowest one and the tail, as wide as its area says.
        let base = area / density(RIGHT);
        (strips.inside[0], strips.width[0], strips.height[0]) = ((RIGHT / base * one) as u64, base / one, 1.0);
        let mut x = RIGHT;
        for i in (1..256).rev() {
            (strips.width[i], strips.height[i]) = (x / one, density(x));
            let next = libm::sqrt(-2.0 * libm::log(area / x + density(x)));
            // The topmost strip has none.
            strips.inside[i] = if i > 1 { (next / x * one) as u64 } else { 0 };
            x = next;
        }
        strips
    }
}

/// `SeedSequence(seed)` makes four words of 64 bits: the state and the stream of PCG64.
fn seeded(seed: u64) -> Pcg64 {
    let mut hash = 0x43b0_d7e5u32;
    let mut mixed = |value: u32| {
        let value = value ^ hash;
        hash = hash.wrapping_mul(0x931e_8875);
        let value = value.wrapping_mul(hash);
        value ^ value >> 16
    };
    let mut pool = [seed as u32, (seed >> 32) as u32, 0, 0].map(&mut mixed);
    for from in 0..4 {
        for to in (0..4).filter(|to| *to != from) {
            let value =
                0xca01_f9ddu32.wrapping_mul(pool[to]).wrapping_sub(0x4973_f715u32.wrapping_mul(mixed(pool[from])));
            pool[to] = value ^ value >> 16;
        }
    }
    let mut hash = 0x8b51_f9ddu32;
    let mut words = [0u32; 8];
    for (word, value) in words.iter_mut().zip(pool.into_iter().cycle()) {
        let value = value ^ hash;
        hash = hash.wrapping_mul(0x58f3_8ded);
        let value = value.wrapping_mul(hash);
        *word = value ^ value >> 16;
    }
    let [a, b, c, d, e, f, g, h] = words.map(u128::from);
    Pcg64::new((b << 32 | a) << 64 | d << 32 | c, (f << 32 | e) << 64 | h << 32 | g)
}

/// `numpy.random.RandomState(seed)`: MT19937, normals by Marsaglia's polar method in f64.
#[derive(Clone, Debug)]
pub(super) struct NumpyLegacy {
    engine: Mt19937,
    /// The second value of the last pair. It outlives a draw.
    kept: Option<f64>,
}

impl NumpyLegacy {
    pub(super) fn new(seed: u32) -> Self {
        Self { engine: Mt19937::new(seed), kept: None }
    }

    pub(super) fn seed(&mut self, seed: u32) {
        self.engine.seed(seed);
        self.kept = None;
    }

    fn uniform(&mut self) -> f64 {
        let (high, low) = (self.engine.bits() >> 5, self.engine.bits() >> 6);
        (f64::from(high) * 67_108_864.0 + f64::from(low)) / 9_007_199_254_740_992.0
    }

    /// `random_sample(n)`, f64 rounded to f32.
    pub(super) fn uniforms(&mut self, out: &mut [f32]) {
        out.fill_with(|| self.uniform() as f32);
    }

    /// `standard_normal(n)`, f64 rounded to f32.
    pub(super) fn normals(&mut self, out: &mut [f32]) {
        out.fill_with(|| self.normal() as f32);
    }

    fn normal(&mut self) -> f64 {
        if let Some(z) = self.kept.take() {
            return z;
        }
        loop {
            let (x, y) = (2.0 * self.uniform() - 1.0, 2.0 * self.uniform() - 1.0);
            let square = x * x + y * y;
            if square < 1.0 && square != 0.0 {
                let factor = libm::sqrt(-2.0 * libm::log(square) / square);
                self.kept = Some(factor * x);
                return factor * y;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strips_are_equal_and_fill_the_curve() {
        let s = Strips::new();
        let one = 4_503_599_627_370_496.0;
        // Strip i reaches from the height at its right end to the height of the strip above.
        let area = s.width[0] * one * s.height[255];
        for i in 1..256 {
            let strip = s.width[i] * one * (s.height[i - 1] - s.height[i]);
            assert!((strip / area - 1.0).abs() < 1e-11, "strip {i}: {strip} against {area}");
        }
        assert!(s.width.windows(2).skip(1).all(|w| w[0] < w[1]));
    }
}
