//! The Mersenne Twister, that PyTorch's CPU generator and NumPy's legacy generator draw from.

use alloc::boxed::Box;

const N: usize = 624;
const M: usize = 397;

/// MT19937: Matsumoto and Nishimura, ACM Transactions on Modeling and Computer Simulation 8 (1998), with the seeding of
/// 2002.
#[derive(Clone, Debug)]
pub(super) struct Mt19937 {
    state: Box<[u32; N]>,
    next: usize,
}

impl Mt19937 {
    pub(super) fn new(seed: u32) -> Self {
        let mut engine = Self { state: Box::new([0; N]), next: N };
        engine.seed(seed);
        engine
    }

    pub(super) fn seed(&mut self, seed: u32) {
        let mut last = seed;
        for (i, word) in (0u32..).zip(self.state.iter_mut()) {
            if i > 0 {
                last = 1_812_433_253u32.wrapping_mul(last ^ (last >> 30)).wrapping_add(i);
            }
            *word = last;
        }
        self.next = N;
    }

    fn refill(&mut self) {
        for i in 0..N {
            let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % N] & 0x7fff_ffff);
            let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + M) % N] ^ (y >> 1) ^ odd;
        }
        self.next = 0;
    }

    /// 32 random bits.
    pub(super) fn bits(&mut self) -> u32 {
        if self.next >= N {
            self.refill();
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ten_thousandth_value_of_the_usual_seed() {
        // The C++ standard, [rand.predef]: the 10,000th of a default-constructed mt19937 (seed 5489) is 4123659995.
        let mut engine = Mt19937::new(5489);
        assert_eq!(engine.bits(), 3_499_211_612);
        assert_eq!((2..=10_000).map(|_| engine.bits()).last(), Some(4_123_659_995));
        engine.seed(5489);
        assert_eq!(engine.bits(), 3_499_211_612);
    }
}
