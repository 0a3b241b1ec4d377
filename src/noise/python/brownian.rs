//! Increments of a Brownian motion as torchsde's tree makes them, for the samplers that diffusers gives one.

use alloc::vec::Vec;

use super::torch_cpu::TorchCpu;
use super::{DrawnFor, PythonGenerator, PythonNoise};
use crate::error::{Result, ensure, err};
use crate::memory::zeros;
use crate::noise::{ENCODER_DRAW, Fingerprint, NoiseSource, check_batch};

/// A draw, and the sigmas between which it lies: before and after, falling.
pub type Between = (u64, [f64; 2]);

/// What a [`BrownianTree`] is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TreeSeed {
    /// This (`noise_sampler_seed` of `DPMSolverSDEScheduler`). Below 2^63.
    Given(u64),
    /// Drawn by the generator of x_T after x_T, as diffusers does without `noise_sampler_seed` where the program called
    /// `torch.manual_seed(seed)`. (With a generator of the pipeline's own the seed is that of nobody, and no run is
    /// another's.)
    Drawn,
}

/// The noise of diffusers' `BrownianTreeNoiseSampler` on a CPU: x_T by `torch.randn`, and for each step the increment
/// of one Brownian motion between two sigmas over the root of their distance, by torchsde's `BrownianTree`.
///
/// The motion is known at both ends of the sigmas of a run; between them it is halved again and again, each half with a
/// generator seeded by its place. So its values depend on the seed and on the place alone, not on the steps. Sigmas are
/// rounded to 6 decimals: two programs whose sigmas differ in the last bit of f32, as torch's and ours may, see motions
/// that differ by up to 1e-3. Feed the sigmas of the other program where that matters
/// ([`Steps::Sigmas`](crate::sampler::Steps::Sigmas), and the intervals here).
///
/// With [`DrawnFor::AllOf`] there is one motion for all samples, of which a sample is a part; with [`DrawnFor::Each`]
/// each sample has one of its own, of `seed + i`, as diffusers' `BatchedBrownianTree` with a list of seeds.
///
/// Increments are those of torchsde 0.2.6, PyTorch 2.15 and NumPy 2.4 within 1e-6 (`tests/references/brownian.rs`).
/// Memory: six draws; nothing is allocated after [`BrownianTree::new`]. Draws may be asked for in any order.
///
/// ```
/// use undiffuse::noise::{BrownianTree, DrawnFor, NoiseSource, TreeSeed};
///
/// // Draw 1 is the increment from sigma 14 to 5, draw 2 that from 5 to 1.
/// let between = [(1, [14.0, 5.0]), (2, [5.0, 1.0])];
/// let mut noise = BrownianTree::new(0, TreeSeed::Given(7), DrawnFor::AllOf(1), 4, &between)?;
/// let mut z = [0.0; 4];
/// noise.normal(0, 2, 4, &mut z)?;
/// assert!(z.iter().all(|v| v.abs() < 5.0));
/// # Ok::<(), undiffuse::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct BrownianTree {
    start: PythonNoise,
    seed: u64,
    tree: TreeSeed,
    drawn_for: DrawnFor,
    sample_len: usize,
    /// By draw, ascending: sigma before and after.
    between: Vec<Between>,
    /// The ends of the motion.
    ends: [f64; 2],
    engine: TorchCpu,
    /// Values that an encoder draws before x_T.
    encoded: Option<usize>,
    /// What the row holds: a draw, and whose.
    made: Option<(u64, u64)>,
    row: Vec<f32>,
    noise: Vec<f32>,
    /// The increments of a piece, and of its neighbour.
    here: Vec<f32>,
    there: Vec<f32>,
    /// The increment of a right half, while the left one is looked at.
    right: Vec<f32>,
}

/// A piece of the motion.
#[derive(Clone, Copy, Debug)]
struct Piece {
    start: f64,
    end: f64,
    /// Its place among those of its depth.
    place: u64,
    depth: u32,
}

impl Piece {
    fn middle(&self) -> f64 {
        rounded(0.5 * (self.end + self.start))
    }

    fn halves(&self) -> [Self; 2] {
        let (middle, depth, place) = (self.middle(), self.depth + 1, self.place.wrapping_mul(2));
        let (left, right) =
            (Self { end: middle, depth, place, ..*self }, Self { start: middle, depth, place: place | 1, ..*self });
        [left, right]
    }
}

/// Python's `round(x, 6)`, of 0 <= x < 2^32.
fn rounded(x: f64) -> f64 {
    let scaled = x * 1e6;
    // What the product lost.
    let lost = libm::fma(x, 1e6, -scaled);
    let whole = libm::floor(scaled);
    let above = (scaled - whole - 0.5) + lost;
    let up = above > 0.0 || (above == 0.0 && libm::fmod(whole, 2.0) != 0.0);
    (if up { whole + 1.0 } else { whole }) / 1e6
}

/// The first word of NumPy's `SeedSequence(entropy, spawn_key=key, pool_size=24).generate_state(4)`.
fn first_word(entropy: u64, key: Option<(u64, u32)>) -> u32 {
    const POOL: usize = 24;
    let mut hash = 0x43b0_d7e5u32;
    let mut mixed = |value: u32| {
        let value = value ^ hash;
        hash = hash.wrapping_mul(0x931e_8875);
        let value = value.wrapping_mul(hash);
        value ^ value >> 16
    };
    let mix = |a: u32, b: u32| {
        let value = 0xca01_f9ddu32.wrapping_mul(a).wrapping_sub(0x4973_f715u32.wrapping_mul(b));
        value ^ value >> 16
    };
    let mut pool = [0u32; POOL];
    for (i, word) in pool.iter_mut().enumerate() {
        *word = mixed(match i {
            0 => entropy as u32,
            1 => (entropy >> 32) as u32,
            _ => 0,
        });
    }
    for from in 0..POOL {
        for to in (0..POOL).filter(|to| *to != from) {
            pool[to] = mix(pool[to], mixed(pool[from]));
        }
    }
    // A number is as many words as it needs, at least one.
    let (place, depth) = key.unwrap_or_default();
    let words = [place as u32, (place >> 32) as u32, depth];
    let used = [key.is_some(), place >> 32 != 0, key.is_some()];
    for (word, _) in words.into_iter().zip(used).filter(|(_, used)| *used) {
        for to in &mut pool {
            *to = mix(*to, mixed(word));
        }
    }
    let hash = 0x8b51_f9ddu32;
    let value = (pool[0] ^ hash).wrapping_mul(hash.wrapping_mul(0x58f3_8ded));
    value ^ value >> 16
}

impl BrownianTree {
    /// The noise of `torch.manual_seed(seed)` for samples of `sample_len` values: draw 0 is x_T, and `between` says of
    /// which draws, ascending, what is the sigma before and after (falling).
    ///
    /// Errors: kind `InvalidArgument` for draws that do not ascend or contain 0, sigmas that do not fall, are not above
    /// 0 or not below 2^32, or none, and a seed of a tree from 2^63; as [`PythonNoise::new`].
    pub fn new(seed: u64, tree: TreeSeed, drawn_for: DrawnFor, sample_len: usize, between: &[Between]) -> Result<Self> {
        let start =
            PythonNoise::new(PythonGenerator::TorchCpu, seed, drawn_for, sample_len)?.with_draws(alloc::vec![0])?;
        ensure!(
            between.is_sorted_by(|a, b| a.0 < b.0) && between.first().is_some_and(|b| b.0 > 0),
            InvalidArgument,
            "the {} draws of a Brownian motion do not ascend from 1 on, or there are none",
            between.len()
        );
        if let Some((draw, [from, to])) =
            between.iter().find(|(_, [from, to])| !(*to > 0.0 && from > to && *from < 4294967296.0))
        {
            return Err(err!(
                InvalidArgument,
                "draw {draw} of a Brownian motion goes from sigma {from} to {to}, expected to fall and to stay above 0 and below 2^32"
            ));
        }
        if let TreeSeed::Given(tree) = tree {
            ensure!(tree < 1 << 63, InvalidArgument, "the seed of a Brownian tree is {tree}, expected below 2^63");
        }
        let samples = match drawn_for {
            DrawnFor::AllOf(samples) => usize::try_from(samples).unwrap_or(usize::MAX),
            DrawnFor::Each { .. } => 1,
        };
        let len = samples.saturating_mul(sample_len);
        let buffer = || zeros("a Brownian motion", len);
        // Without sigma 0, to which a last step goes without noise.
        let largest = between.iter().fold(0.0, |m: f64, (_, [from, _])| m.max(*from));
        let smallest = between.iter().fold(f64::INFINITY, |m, (_, [_, to])| m.min(*to));
        let mut all = crate::memory::room("a Brownian motion", between.len())?;
        all.extend_from_slice(between);
        Ok(Self {
            start,
            seed,
            tree,
            drawn_for,
            sample_len,
            between: all,
            ends: [smallest, largest],
            engine: TorchCpu::new(seed),
            encoded: None,
            made: None,
            row: buffer()?,
            noise: buffer()?,
            here: buffer()?,
            there: buffer()?,
            right: buffer()?,
        })
    }

    /// As [`PythonNoise::with_encoder`].
    pub fn with_encoder(mut self, images: u64) -> Result<Self> {
        self.start = self.start.with_encoder(images)?;
        (self.encoded, self.made) = (self.start.encoder_len(), None);
        Ok(self)
    }

    /// Says where the motion begins and ends, in place of the smallest and largest sigma of its draws; what lies beyond
    /// is taken for the end.
    ///
    /// Errors: kind `InvalidArgument` for ends that are not 0 <= smallest < largest < 2^32.
    pub fn with_ends(mut self, smallest: f64, largest: f64) -> Result<Self> {
        ensure!(
            smallest >= 0.0 && largest > smallest && largest < 4294967296.0,
            InvalidArgument,
            "a Brownian motion from sigma {smallest} to {largest}, expected to rise from 0 or more to below 2^32"
        );
        (self.ends, self.made) = ([smallest, largest], None);
        Ok(self)
    }

    /// The tree's seed, for sample number `sample` where each has its own.
    fn entropy(&mut self, sample: u64) -> u64 {
        match self.tree {
            TreeSeed::Given(seed) => seed.wrapping_add(sample),
            TreeSeed::Drawn => {
                self.engine.seed(self.seed.wrapping_add(sample));
                if let Some(before) = self.encoded.and_then(|len| self.noise.get_mut(..len)) {
                    self.engine.normals(before);
                }
                self.engine.normals(&mut self.noise);
                self.engine.below_2_63()
            }
        }
    }

    /// The increments of one half of a piece whose own stand in `here`, to `here` or, of the other half, to `there`.
    fn halve(&mut self, entropy: u64, piece: &Piece, left_here: bool) {
        let (left, right) = (piece.middle() - piece.start, piece.end - piece.middle());
        let part = 1.0 / (piece.end - piece.start);
        self.engine.seed(u64::from(first_word(entropy, Some((piece.place, piece.depth)))));
        self.engine.normals(&mut self.noise);
        // Scalars are rounded to f32 where they meet a tensor.
        let (by_left, by_part) = (left as f32, part as f32);
        let deviation = libm::sqrt(left * right * part) as f32;
        for ((here, there), z) in self.here.iter_mut().zip(&mut self.there).zip(&self.noise) {
            let of_left = by_left * *here * by_part + deviation * z;
            let of_right = *here - of_left;
            (*here, *there) = if left_here { (of_left, of_right) } else { (of_right, of_left) };
        }
    }

    /// Writes the increment from a smaller sigma to a larger to the row.
    fn increment(&mut self, sample: u64, [larger, smaller]: [f64; 2]) {
        let entropy = self.entropy(sample);
        let [low, high] = self.ends.map(rounded);
        let (a, b) = (rounded(smaller).clamp(low, high), rounded(larger).clamp(low, high));
        self.row.fill(0.0);
        if a >= b {
            return;
        }
        self.engine.seed(u64::from(first_word(entropy, None)));
        self.engine.normals(&mut self.here);
        let root = libm::sqrt(self.ends[1] - self.ends[0]) as f32;
        self.here.iter_mut().for_each(|w| *w *= root);
        let mut piece = Piece { start: low, end: high, place: 0, depth: 0 };
        // Down to the piece that is the interval, or whose halves both have a part of it.
        loop {
            if (piece.start, piece.end) == (a, b) {
                self.row.copy_from_slice(&self.here);
                return;
            }
            let middle = piece.middle();
            let [left, right] = piece.halves();
            let in_left = b <= middle;
            if !in_left && a < middle {
                break;
            }
            self.halve(entropy, &piece, in_left);
            piece = if in_left { left } else { right };
        }
        // What ends where the left half ends: whole right halves of ever smaller pieces.
        let [left, right] = piece.halves();
        self.halve(entropy, &piece, true);
        self.right.copy_from_slice(&self.there);
        let mut piece = left;
        while piece.start < a {
            let [left, right] = piece.halves();
            let whole = a < right.start;
            self.halve(entropy, &piece, whole);
            if whole {
                self.add_there();
            }
            piece = if whole { left } else { right };
        }
        self.add_here();
        // And what begins where the right half begins.
        self.here.copy_from_slice(&self.right);
        let mut piece = right;
        while piece.end > b {
            let [left, right] = piece.halves();
            let whole = b > left.end;
            self.halve(entropy, &piece, !whole);
            if whole {
                self.add_there();
            }
            piece = if whole { right } else { left };
        }
        self.add_here();
    }

    fn add_here(&mut self) {
        self.row.iter_mut().zip(&self.here).for_each(|(sum, w)| *sum += w);
    }

    fn add_there(&mut self) {
        self.row.iter_mut().zip(&self.there).for_each(|(sum, w)| *sum += w);
    }

    /// Makes the row the draw of a sample's motion.
    fn make(&mut self, draw: u64, sample: u64) -> Result<()> {
        if self.made == Some((draw, sample)) {
            return Ok(());
        }
        let at = self.between.binary_search_by_key(&draw, |b| b.0).ok();
        let Some(&(_, between)) = at.and_then(|at| self.between.get(at)) else {
            return Err(err!(
                InvalidArgument,
                "the Brownian motion was made for {} draws, and draw {draw} is none of them",
                self.between.len()
            ));
        };
        self.made = None;
        self.increment(sample, between);
        let [from, to] = between.map(|s| s as f32);
        // Sigma falls, and the motion is that of a rising one.
        let root = libm::sqrtf(from - to);
        ensure!(
            root.is_finite() && root > 0.0,
            InvalidArgument,
            "sigmas {from} and {to} of a Brownian motion are the same in f32"
        );
        self.row.iter_mut().for_each(|w| *w = -*w / root);
        self.made = Some((draw, sample));
        Ok(())
    }
}

impl NoiseSource for BrownianTree {
    fn normal(&mut self, first_sample: u64, draw: u64, sample_len: usize, out: &mut [f32]) -> Result<()> {
        if draw == 0 || draw == ENCODER_DRAW {
            return self.start.normal(first_sample, draw, sample_len, out);
        }
        check_batch("noise", sample_len, out)?;
        let n = self.sample_len;
        ensure!(sample_len == n, Shape, "the Brownian motion has samples of {n} values, the chain's have {sample_len}");
        match self.drawn_for {
            DrawnFor::AllOf(samples) => {
                let start = usize::try_from(first_sample).unwrap_or(usize::MAX).saturating_mul(n);
                let end = start.saturating_add(out.len());
                self.make(draw, 0)?;
                let values = self.row.get(start..end).ok_or_else(|| {
                    err!(
                        InvalidArgument,
                        "the Brownian motion is for {samples} samples at once, asked for {} from sample {first_sample}",
                        out.len() / n
                    )
                })?;
                out.copy_from_slice(values);
            }
            DrawnFor::Each { .. } => {
                for (i, out) in (0u64..).zip(out.chunks_exact_mut(n)) {
                    self.make(draw, first_sample.wrapping_add(i))?;
                    out.copy_from_slice(&self.row);
                }
            }
        }
        Ok(())
    }

    fn fingerprint(&self) -> u64 {
        let tree = match self.tree {
            TreeSeed::Given(seed) => [0, seed],
            TreeSeed::Drawn => [1, 0],
        };
        let f = Fingerprint::new().bytes(b"brownian").u64(self.start.fingerprint()).u64(tree[0]).u64(tree[1]);
        let f = f.f64(self.ends[0]).f64(self.ends[1]);
        self.between.iter().fold(f, |f, (draw, [from, to])| f.u64(*draw).f64(*from).f64(*to)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Word = (u64, Option<(u64, u32)>, u32);
    const WORDS: [Word; 8] = [
        (0, None, 4025752534),
        (7, None, 1376543887),
        (1099511627779, None, 1141977856),
        (7, Some((0, 0)), 261727054),
        (7, Some((1, 1)), 36132934),
        (4611686018427387915, Some((12345, 20)), 25782807),
        (5, Some((8589934593, 34)), 334609685),
        (4294967296, Some((4294967296, 33)), 3422010323),
    ];
    const ROUNDED: [(f64, f64); 13] = [
        (0.0, 0.0),
        (1.0000005, 1.000001),
        (2.5000005, 2.500001),
        (5e-07, 0.0),
        (1.5e-06, 2e-06),
        (14.614641, 14.614641),
        (14.6146415, 14.614641),
        (157.4073485, 157.407349),
        (1234.5678905, 1234.56789),
        (20000.1234565, 20000.123457),
        (0.1234565, 0.123456),
        (0.1234575, 0.123457),
        (3.0000005, 3.000001),
    ];

    #[test]
    fn words_are_those_of_numpy() {
        // SeedSequence(s, spawn_key=k, pool_size=24).generate_state(1), numpy 2.4.6.
        for (seed, key, word) in WORDS {
            assert_eq!(first_word(seed, key), word, "{seed} {key:?}");
        }
    }

    /// torch.manual_seed(3); torch.randn(20); torch.randint(0, 2**63 - 1, []) with PyTorch 2.15.0.
    #[test]
    fn a_seed_that_is_drawn_comes_after_x_t() {
        let mut tree = BrownianTree::new(3, TreeSeed::Drawn, DrawnFor::AllOf(1), 20, &[(1, [2.0, 1.0])]).unwrap();
        assert_eq!(tree.entropy(0), 4_782_363_506_487_925_608);
    }

    #[test]
    fn decimals_are_rounded_as_in_python() {
        for (x, right) in ROUNDED {
            assert_eq!(rounded(x), right, "{x}");
        }
    }

    #[test]
    fn increments_add_up_and_have_the_variance_of_their_length() {
        let between = [(1, [9.0, 4.0]), (2, [4.0, 3.7]), (3, [3.7, 1.0]), (4, [9.0, 1.0])];
        // Draws need not be of disjoint intervals.
        let mut tree = BrownianTree::new(3, TreeSeed::Given(5), DrawnFor::AllOf(1), 20_000, &between).unwrap();
        let mut all = Vec::new();
        for (draw, [from, to]) in between {
            let mut z = alloc::vec![0.0f32; 20_000];
            tree.normal(0, draw, 20_000, &mut z).unwrap();
            let variance = z.iter().map(|z| f64::from(*z) * f64::from(*z)).sum::<f64>() / 20_000.0;
            assert!((variance - 1.0).abs() < 0.04, "{draw}: {variance}");
            let by = ((from - to) as f32).sqrt();
            z.iter_mut().for_each(|z| *z *= by);
            all.push(z);
        }
        for (i, whole) in all[3].iter().enumerate() {
            assert!((all[0][i] + all[1][i] + all[2][i] - whole).abs() < 1e-4);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let make = |between: &[Between]| BrownianTree::new(0, TreeSeed::Drawn, DrawnFor::AllOf(2), 4, between);
        for bad in [&[][..], &[(0, [2.0, 1.0])], &[(2, [2.0, 1.0]), (1, [1.0, 0.5])], &[(1, [1.0, 2.0])]] {
            assert_eq!(make(bad).unwrap_err().kind(), crate::ErrorKind::InvalidArgument, "{bad:?}");
        }
        assert!(make(&[(1, [2.0, 0.0])]).is_err() && make(&[(1, [f64::NAN, 1.0])]).is_err());
        let mut tree = make(&[(1, [2.0, 1.0])]).unwrap();
        let mut z = [0.0; 4];
        assert!(tree.normal(0, 2, 4, &mut z).is_err() && tree.normal(2, 1, 4, &mut z).is_err());
        assert!(tree.normal(0, 1, 3, &mut z[..3]).is_err() && tree.normal(1, 1, 4, &mut z).is_ok());
        assert!(BrownianTree::new(0, TreeSeed::Given(1 << 63), DrawnFor::AllOf(1), 4, &[(1, [2.0, 1.0])]).is_err());
    }
}
