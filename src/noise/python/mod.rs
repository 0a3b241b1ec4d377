//! Noise as Python's libraries draw it.

mod brownian;
mod jax;
mod mt19937;
mod numpy;
mod single;
mod torch_cpu;
mod torch_cuda;

use alloc::vec::Vec;
use core::fmt;

use half::{bf16, f16};

pub use self::brownian::{Between, BrownianTree, TreeSeed};
use self::jax::Jax;
use self::numpy::{Numpy, NumpyLegacy};
use self::torch_cpu::TorchCpu;
use self::torch_cuda::TorchCuda;
use super::{ENCODER_DRAW, Fingerprint, NoiseSource, check_batch};
use crate::error::{Result, ensure, err};
use crate::memory::{room, zeros};

/// A generator of a Python library.
///
/// Uniform values are the same bits as there. Normal values too, as far as they can be: those of `TorchCpu` and `Jax`
/// are what these libraries compute on CPUs with AVX2 and FMA (elsewhere theirs differ by up to 2e-6); those of `Numpy`
/// and `NumpyLegacy` hang on the C library's logarithm in the last bit of f64, which shows in one of 400,000 after
/// rounding to f32; those of `TorchCuda` are computed in f64 and rounded once, where a GPU's own functions err by up to
/// 2 ulp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PythonGenerator {
    /// `torch.Generator("cpu").manual_seed(seed)`, by `torch.randn` (and `torch.rand`) of contiguous f32 tensors:
    /// MT19937.
    ///
    /// A draw of fewer than 16 values is another one than the beginning of a longer draw. Tensors of f64 and those in
    /// channels-last order have other values in PyTorch; those of f16 and bf16 are these, rounded. Of the seed, the
    /// lower 32 bits count.
    TorchCpu,
    /// `torch.Generator("cuda").manual_seed(seed)`: Philox 4x32-10.
    ///
    /// `threads` is what the GPU runs at once: its multiprocessors times the threads of each, as
    /// `multi_processor_count` and `max_threads_per_multi_processor` of `torch.cuda.get_device_properties()` say; it
    /// decides the order of what is longer than that. `None` stands for every GPU, and refuses draws of more than
    /// [`PythonGenerator::EVERY_GPU`] values.
    TorchCuda {
        /// Multiprocessors times threads of each.
        threads: Option<u32>,
    },
    /// `numpy.random.default_rng(seed).standard_normal(shape).astype(numpy.float32)`, and `random(shape)`: PCG64.
    Numpy,
    /// `numpy.random.RandomState(seed).standard_normal(shape).astype(numpy.float32)`, and `random_sample(shape)`:
    /// MT19937. Also what `numpy.random.seed(seed)` and `numpy.random.randn` give. The seed is below 2^32.
    NumpyLegacy,
    /// `jax.random.normal(jax.random.fold_in(jax.random.key(seed), k), shape)` for the k-th draw of a chain, from 0,
    /// and `uniform`: threefry, with `jax_threefry_partitionable` as it is by default. The seed is below 2^32. (JAX has
    /// no order of draws of its own, since its generator has no state.)
    Jax,
}

impl PythonGenerator {
    /// The names, as the program and the C ABI have them; `torch-cuda:270336` gives the threads.
    pub const NAMES: [&str; 5] = ["torch-cpu", "torch-cuda", "numpy", "numpy-legacy", "jax"];
    /// The most values of a draw of `torch-cuda` that are the same on every GPU. The smallest that PyTorch 2.15 runs on
    /// (compute capability 7.5 and up) is the Orin Nano with four multiprocessors of 1,536 threads.
    pub const EVERY_GPU: usize = 6144;

    /// The generator of this name. `None` if there is none.
    ///
    /// ```
    /// use undiffuse::noise::PythonGenerator;
    ///
    /// assert_eq!(PythonGenerator::of_name("torch-cpu"), Some(PythonGenerator::TorchCpu));
    /// let h200 = PythonGenerator::TorchCuda { threads: Some(132 * 2048) };
    /// assert_eq!(PythonGenerator::of_name("torch-cuda:270336"), Some(h200));
    /// assert_eq!(h200.to_string(), "torch-cuda:270336");
    /// ```
    pub fn of_name(name: &str) -> Option<Self> {
        Some(match name {
            "torch-cpu" => Self::TorchCpu,
            "torch-cuda" => Self::TorchCuda { threads: None },
            "numpy" => Self::Numpy,
            "numpy-legacy" => Self::NumpyLegacy,
            "jax" => Self::Jax,
            _ => Self::TorchCuda { threads: Some(name.strip_prefix("torch-cuda:")?.parse().ok()?) },
        })
    }

    /// Its name and the numbers that say how it differs from others of the name.
    fn key(self) -> (&'static str, u64) {
        match self {
            Self::TorchCpu => ("torch-cpu", 0),
            Self::TorchCuda { threads } => ("torch-cuda", threads.map_or(0, u64::from)),
            Self::Numpy => ("numpy", 0),
            Self::NumpyLegacy => ("numpy-legacy", 0),
            Self::Jax => ("jax", 0),
        }
    }
}

impl fmt::Display for PythonGenerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key() {
            (name, 0) => f.write_str(name),
            (name, threads) => write!(f, "{name}:{threads}"),
        }
    }
}

/// What one draw of a Python program is for. A sample depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrawnFor {
    /// All of these samples, from sample 0 on: `randn((samples, ...), generator=generator)`, as diffusers' pipelines
    /// with `batch_size=samples` and one generator draw. The sample depends on how many there are.
    AllOf(u64),
    /// One sample, each with a generator of its own: sample i's has the seed `seed + i`. It is what diffusers'
    /// pipelines draw with `generator=[torch.Generator().manual_seed(seed + i) for i in range(n)]`, and no sample
    /// depends on another.
    Each {
        /// How many generators are kept. With fewer than are asked for at once, the draws are right and slow.
        at_once: usize,
    },
}

/// The type that a Python program draws in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DrawnIn {
    /// f32.
    #[default]
    F32,
    /// f16. PyTorch draws f32 and rounds.
    F16,
    /// bf16. PyTorch draws f32 and rounds.
    Bf16,
}

/// The noise of a Python program with the same seed.
///
/// Such a generator has a state, so a draw depends on the draws before it. The source knows how long a draw is and
/// which draws the chain makes, keeps the state after the last one, and begins again from the seed when it is asked for
/// an earlier one: draws may be asked for in any order, and batches and shards do not change them. All draws of a chain
/// are of one kind, normal or uniform. Memory: a draw, and the state (2.5 kB; of `Numpy`, 6 kB), times `at_once` with
/// [`DrawnFor::Each`]; nothing is allocated after [`PythonNoise::new`].
///
/// Draws of evidence (numbers from 2^63) are refused with kind `Unsupported`, since no such program makes them.
///
/// ```
/// use undiffuse::noise::{DrawnFor, NoiseSource, PythonGenerator, PythonNoise};
///
/// // torch.manual_seed(0); torch.randn(1, 1, 4, 4)
/// let mut noise = PythonNoise::new(PythonGenerator::TorchCpu, 0, DrawnFor::AllOf(1), 16)?;
/// let mut x_t = [0.0; 16];
/// noise.normal(0, 0, 16, &mut x_t)?;
/// assert_eq!(x_t[..3], [-1.125_839_8, -1.152_360_2, -0.250_578_58]);
/// # Ok::<(), undiffuse::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct PythonNoise {
    generator: PythonGenerator,
    seed: u64,
    drawn_for: DrawnFor,
    drawn_in: DrawnIn,
    sample_len: usize,
    /// The draws that are made, ascending; `None` for all.
    draws: Option<Vec<u64>>,
    /// The images whose encoder's distributions are sampled before all draws.
    encoded: Option<u64>,
    lanes: Vec<Lane>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Normal,
    Uniform,
}

/// A generator and its last draw.
#[derive(Clone, Debug)]
struct Lane {
    /// Whose it is, with [`DrawnFor::Each`].
    sample: u64,
    state: State,
    /// How many draws were made.
    made: u64,
    /// Of which kind they are.
    kind: Kind,
    /// Values of the first draw, the others being of a whole row.
    first: usize,
    row: Vec<f32>,
}

#[derive(Clone, Debug)]
enum State {
    TorchCpu(TorchCpu),
    TorchCuda(TorchCuda),
    Numpy(Numpy),
    NumpyLegacy(NumpyLegacy),
    Jax(Jax),
}

fn u32_seed(generator: PythonGenerator, seed: u64) -> Result<u32> {
    u32::try_from(seed).map_err(|_| err!(InvalidArgument, "seed {seed} of {generator}, expected below 2^32"))
}

impl State {
    fn new(generator: PythonGenerator, seed: u64) -> Result<Self> {
        Ok(match generator {
            PythonGenerator::TorchCpu => Self::TorchCpu(TorchCpu::new(seed)),
            PythonGenerator::TorchCuda { threads } => {
                Self::TorchCuda(TorchCuda::new(seed, threads.unwrap_or(PythonGenerator::EVERY_GPU as u32)))
            }
            PythonGenerator::Numpy => Self::Numpy(Numpy::new(seed)),
            PythonGenerator::NumpyLegacy => Self::NumpyLegacy(NumpyLegacy::new(u32_seed(generator, seed)?)),
            PythonGenerator::Jax => Self::Jax(Jax::new(u32_seed(generator, seed)?)),
        })
    }

    fn seed(&mut self, generator: PythonGenerator, seed: u64) -> Result<()> {
        match self {
            Self::TorchCpu(g) => g.seed(seed),
            Self::TorchCuda(g) => g.seed(seed),
            Self::Numpy(g) => g.seed(seed),
            Self::NumpyLegacy(g) => g.seed(u32_seed(generator, seed)?),
            Self::Jax(g) => *g = Jax::new(u32_seed(generator, seed)?),
        }
        Ok(())
    }

    fn draw(&mut self, kind: Kind, out: &mut [f32]) {
        match (self, kind) {
            (Self::TorchCpu(g), Kind::Normal) => g.normals(out),
            (Self::TorchCpu(g), Kind::Uniform) => g.uniforms(out),
            (Self::TorchCuda(g), Kind::Normal) => g.normals(out),
            (Self::TorchCuda(g), Kind::Uniform) => g.uniforms(out),
            (Self::Numpy(g), Kind::Normal) => g.normals(out),
            (Self::Numpy(g), Kind::Uniform) => g.uniforms(out),
            (Self::NumpyLegacy(g), Kind::Normal) => g.normals(out),
            (Self::NumpyLegacy(g), Kind::Uniform) => g.uniforms(out),
            (Self::Jax(g), Kind::Normal) => g.normals(out),
            (Self::Jax(g), Kind::Uniform) => g.uniforms(out),
        }
    }

    /// Makes a draw that nobody looks at, into `row`, or as if it had been made.
    fn skip(&mut self, kind: Kind, row: &mut [f32]) {
        match self {
            Self::TorchCuda(g) => g.skip(row.len()),
            Self::Jax(g) => g.skip(),
            _ => self.draw(kind, row),
        }
    }
}

impl Lane {
    fn start(&mut self, generator: PythonGenerator, seed: u64, sample: u64) -> Result<()> {
        self.state.seed(generator, seed)?;
        (self.sample, self.made) = (sample, 0);
        Ok(())
    }

    /// Makes `row` the draw with this many before it.
    fn seek(&mut self, generator: PythonGenerator, seed: u64, kind: Kind, before: u64) -> Result<()> {
        if self.kind == kind && self.made.checked_sub(1) == Some(before) {
            return Ok(());
        }
        if self.kind != kind || self.made > before {
            self.start(generator, seed, self.sample)?;
        }
        self.kind = kind;
        while self.made <= before {
            let len = if self.made == 0 { self.first } else { self.row.len() };
            let to = self.row.get_mut(..len).unwrap_or_default();
            if self.made < before {
                self.state.skip(kind, to)
            } else {
                self.state.draw(kind, to)
            }
            self.made += 1;
        }
        Ok(())
    }
}

impl PythonNoise {
    /// The noise of this generator and seed for samples of `sample_len` values. Every draw number is a draw, unless
    /// [`PythonNoise::with_draws`] says otherwise.
    ///
    /// Errors: kind `InvalidArgument` for a length or number of samples of 0, a seed that the generator has not,
    /// threads below 256, or a draw of `torch-cuda` that is too long to be the same on every GPU; kind `OutOfMemory`.
    pub fn new(generator: PythonGenerator, seed: u64, drawn_for: DrawnFor, sample_len: usize) -> Result<Self> {
        let (lanes, samples) = match drawn_for {
            DrawnFor::AllOf(samples) => (1, usize::try_from(samples).unwrap_or(usize::MAX)),
            DrawnFor::Each { at_once } => (at_once, 1),
        };
        ensure!(
            lanes > 0 && samples > 0 && sample_len > 0,
            InvalidArgument,
            "{generator} noise is for 0 samples or for samples of 0 values, expected at least 1"
        );
        let len = samples
            .checked_mul(sample_len)
            .ok_or_else(|| err!(OutOfMemory, "no memory for draws of {samples} samples of {sample_len} values"))?;
        if let PythonGenerator::TorchCuda { threads } = generator {
            ensure!(
                threads.is_some() || len <= PythonGenerator::EVERY_GPU,
                InvalidArgument,
                "a draw of {len} values by torch-cuda depends on the GPU: say how many threads it runs at once, \
                 multi_processor_count times max_threads_per_multi_processor, as in torch-cuda:270336"
            );
            ensure!(
                threads.is_none_or(|t| t >= 256),
                InvalidArgument,
                "{generator} names too few threads, expected 256 or more"
            );
            ensure!(
                i32::try_from(len).is_ok(),
                Unsupported,
                "a draw of {len} values by {generator}: PyTorch splits what has 2^31 values or more"
            );
        }
        let mut all = room("generators", lanes)?;
        for _ in 0..lanes {
            let row = zeros(format_args!("a draw of {generator}"), len)?;
            all.push(Lane {
                sample: 0,
                state: State::new(generator, seed)?,
                made: 0,
                kind: Kind::Normal,
                first: len,
                row,
            });
        }
        Ok(Self {
            generator,
            seed,
            drawn_for,
            drawn_in: DrawnIn::F32,
            sample_len,
            draws: None,
            encoded: None,
            lanes: all,
        })
    }

    /// Says which draws the chain makes, ascending: those of the steps that need noise, and 0 for x_T. The other
    /// program makes no others, and its generator's state does not move at other steps.
    ///
    /// Errors: kind `InvalidArgument` if they do not ascend.
    pub fn with_draws(mut self, draws: Vec<u64>) -> Result<Self> {
        ensure!(
            draws.is_sorted_by(|a, b| a < b),
            InvalidArgument,
            "the draws of {} noise do not ascend",
            self.generator
        );
        self.draws = Some(draws);
        Ok(self)
    }

    /// Says that the program first samples an encoder's distributions of latents ([`ENCODER_DRAW`]), as diffusers'
    /// pipelines of image to image do: of `images` images in one draw, which are then repeated; with
    /// [`DrawnFor::Each`] of each sample's own.
    ///
    /// Errors: kind `InvalidArgument` for no images or more than samples; kind `Unsupported` for `Jax`, whose draws
    /// are numbered.
    pub fn with_encoder(mut self, images: u64) -> Result<Self> {
        let generator = self.generator;
        ensure!(generator != PythonGenerator::Jax, Unsupported, "jax noise has no draw of an encoder's");
        let (most, images) = match self.drawn_for {
            DrawnFor::AllOf(samples) => (samples, images),
            DrawnFor::Each { .. } => (u64::MAX, images),
        };
        ensure!(
            images > 0 && images <= most,
            InvalidArgument,
            "{images} images are encoded for {generator} noise, expected from 1 to {most}"
        );
        if let DrawnFor::AllOf(_) = self.drawn_for {
            // No more than a row, whose length is checked.
            let first = usize::try_from(images).unwrap_or(usize::MAX).saturating_mul(self.sample_len);
            for lane in &mut self.lanes {
                lane.first = first;
                lane.start(generator, self.seed, lane.sample)?;
            }
        }
        self.encoded = Some(images);
        Ok(self)
    }

    /// Says in which type the other program draws. The values are still f32 here.
    ///
    /// Errors: kind `Unsupported` for f16 or bf16 of `Jax`, which draws other values then.
    pub fn with_type(mut self, drawn_in: DrawnIn) -> Result<Self> {
        ensure!(
            drawn_in == DrawnIn::F32 || self.generator != PythonGenerator::Jax,
            Unsupported,
            "jax draws other values in half precision, which are not here"
        );
        self.drawn_in = drawn_in;
        Ok(self)
    }

    /// Values of an encoder's draw.
    fn encoder_len(&self) -> Option<usize> {
        self.encoded.and(self.lanes.first()).map(|lane| lane.first)
    }

    /// How many draws come before draw `draw`.
    fn before(&self, draw: u64) -> Result<u64> {
        ensure!(
            draw < 1 << 63,
            Unsupported,
            "{} noise has the draws of a chain alone, and evidence asks for noise of its own",
            self.generator
        );
        if draw == ENCODER_DRAW {
            ensure!(
                self.encoded.is_some(),
                InvalidArgument,
                "{} noise was made without an encoder's draw",
                self.generator
            );
            return Ok(0);
        }
        let encoders = u64::from(self.encoded.is_some());
        let Some(draws) = &self.draws else { return Ok(draw + encoders) };
        draws.binary_search(&draw).map(|at| at as u64 + encoders).map_err(|_| {
            err!(
                InvalidArgument,
                "{} noise was made for {} draws, and draw {draw} is none of them",
                self.generator,
                draws.len()
            )
        })
    }

    fn fill(&mut self, kind: Kind, first_sample: u64, draw: u64, sample_len: usize, out: &mut [f32]) -> Result<()> {
        check_batch("noise", sample_len, out)?;
        let (generator, n) = (self.generator, self.sample_len);
        ensure!(sample_len == n, Shape, "{generator} noise has samples of {n} values, the chain's have {sample_len}");
        ensure!(
            kind == Kind::Normal || self.drawn_in == DrawnIn::F32,
            Unsupported,
            "uniform values of {generator} in half precision are not here"
        );
        let before = self.before(draw)?;
        match self.drawn_for {
            DrawnFor::AllOf(samples) => {
                let samples = if draw == ENCODER_DRAW { self.encoded.unwrap_or(0) } else { samples };
                let count = out.len() / n;
                let last = first_sample.checked_add(count as u64).filter(|end| *end <= samples);
                ensure!(
                    last.is_some(),
                    InvalidArgument,
                    "{generator} noise is drawn for {samples} samples at once, asked for {count} from sample {first_sample}"
                );
                for lane in &mut self.lanes {
                    lane.seek(generator, self.seed, kind, before)?;
                    // As `new` checked, the samples of a draw are countable.
                    let start = usize::try_from(first_sample).unwrap_or(usize::MAX).saturating_mul(n);
                    if let Some(values) = lane.row.get(start..).and_then(|row| row.get(..out.len())) {
                        out.copy_from_slice(values);
                    }
                }
            }
            DrawnFor::Each { .. } => {
                let lanes = self.lanes.len() as u64;
                for (i, out) in (0u64..).zip(out.chunks_exact_mut(n)) {
                    let sample = first_sample.wrapping_add(i);
                    let seed = self.seed.wrapping_add(sample);
                    let Some(lane) = self.lanes.get_mut((sample % lanes) as usize) else { continue };
                    if lane.sample != sample || lane.made == 0 {
                        lane.start(generator, seed, sample)?;
                    }
                    lane.seek(generator, seed, kind, before)?;
                    out.copy_from_slice(&lane.row);
                }
            }
        }
        match self.drawn_in {
            DrawnIn::F32 => {}
            DrawnIn::F16 => out.iter_mut().for_each(|v| *v = f16::from_f32(*v).to_f32()),
            DrawnIn::Bf16 => out.iter_mut().for_each(|v| *v = bf16::from_f32(*v).to_f32()),
        }
        Ok(())
    }
}

impl NoiseSource for PythonNoise {
    fn normal(&mut self, first_sample: u64, draw: u64, sample_len: usize, out: &mut [f32]) -> Result<()> {
        self.fill(Kind::Normal, first_sample, draw, sample_len, out)
    }

    fn uniform(&mut self, first_sample: u64, draw: u64, sample_len: usize, out: &mut [f32]) -> Result<()> {
        self.fill(Kind::Uniform, first_sample, draw, sample_len, out)
    }

    fn fingerprint(&self) -> u64 {
        let (name, number) = self.generator.key();
        let (each, samples) = match self.drawn_for {
            DrawnFor::AllOf(samples) => (0, samples),
            DrawnFor::Each { .. } => (1, 0),
        };
        let start = Fingerprint::new().bytes(b"python").bytes(name.as_bytes()).u64(number).u64(self.seed);
        let mut f = start.u64(each).u64(samples).u64(self.drawn_in as u64).u64(self.sample_len as u64);
        if let Some(images) = self.encoded {
            f = f.bytes(b"encoder").u64(images);
        }
        for draw in self.draws.iter().flatten() {
            f = f.u64(*draw);
        }
        f.finish()
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use super::*;

    const N: usize = 16;

    fn noise(generator: PythonGenerator, drawn_for: DrawnFor) -> PythonNoise {
        PythonNoise::new(generator, 5, drawn_for, N).unwrap()
    }

    fn drawn(noise: &mut PythonNoise, first: u64, draw: u64, samples: usize) -> Vec<f32> {
        let mut out = vec![0.0; samples * N];
        noise.normal(first, draw, N, &mut out).unwrap();
        out
    }

    #[test]
    fn an_encoder_draws_before_x_t() {
        // Draws of multiples of 16 values are the pieces of a longer one.
        for generator in [PythonGenerator::TorchCpu, PythonGenerator::Numpy, PythonGenerator::NumpyLegacy] {
            let mut pieces = noise(generator, DrawnFor::AllOf(1));
            let all: Vec<f32> = (0..8).flat_map(|draw| drawn(&mut pieces, 0, draw, 1)).collect();
            let mut both =
                noise(generator, DrawnFor::AllOf(3)).with_draws(vec![0, 4]).unwrap().with_encoder(2).unwrap();
            // In any order.
            assert_eq!(drawn(&mut both, 0, 4, 3), all[5 * N..], "{generator}");
            assert_eq!(drawn(&mut both, 0, 0, 3), all[2 * N..5 * N], "{generator}");
            assert_eq!(drawn(&mut both, 0, ENCODER_DRAW, 2), all[..2 * N], "{generator}");
            assert_eq!(drawn(&mut both, 1, ENCODER_DRAW, 1), all[N..2 * N], "{generator}");
            assert_eq!(drawn(&mut both, 1, 0, 2), all[3 * N..5 * N], "{generator}");
            let e = both.normal(2, ENCODER_DRAW, N, &mut [0.0; N]).unwrap_err();
            assert!(e.message().contains("for 2 samples"), "{e}");
            // With a generator for each, of each its own.
            let mut each = noise(generator, DrawnFor::Each { at_once: 2 }).with_encoder(1).unwrap();
            assert_eq!(drawn(&mut each, 0, 0, 1), all[N..2 * N], "{generator}");
            assert_eq!(drawn(&mut each, 0, ENCODER_DRAW, 1), all[..N], "{generator}");
            assert_ne!(drawn(&mut each, 1, ENCODER_DRAW, 1), all[..N], "{generator}");
        }
        let mut without = noise(PythonGenerator::TorchCpu, DrawnFor::AllOf(3));
        let fingerprint = without.fingerprint();
        let e = without.normal(0, ENCODER_DRAW, N, &mut [0.0; N]).unwrap_err();
        assert!(e.message().contains("without an encoder's draw"), "{e}");
        for images in [0, 4] {
            let e = without.clone().with_encoder(images).unwrap_err();
            assert!(e.message().contains(&alloc::format!("{images} images")) && e.message().contains("to 3"), "{e}");
        }
        assert_ne!(without.with_encoder(1).unwrap().fingerprint(), fingerprint);
        assert!(noise(PythonGenerator::Jax, DrawnFor::AllOf(3)).with_encoder(1).is_err());
    }

    #[test]
    fn a_brownian_motion_begins_after_an_encoders_draw() {
        let tree = || BrownianTree::new(5, TreeSeed::Drawn, DrawnFor::AllOf(2), N, &[(1, [4.0, 1.0])]).unwrap();
        let all = drawn(&mut noise(PythonGenerator::TorchCpu, DrawnFor::AllOf(3)), 0, 0, 3);
        let (mut with, mut x_t, mut z) = (tree().with_encoder(1).unwrap(), [0.0; 2 * N], [0.0; N]);
        with.normal(0, ENCODER_DRAW, N, &mut z).unwrap();
        with.normal(0, 0, N, &mut x_t).unwrap();
        assert!(z == all[..N] && x_t == all[N..]);
        // Its seed comes after both, so that the motion is another.
        let mut motions = [[0.0; 2 * N]; 2];
        with.normal(0, 1, N, &mut motions[0]).unwrap();
        tree().normal(0, 1, N, &mut motions[1]).unwrap();
        assert_ne!(motions[0], motions[1]);
        assert!(tree().normal(0, ENCODER_DRAW, N, &mut z).is_err());
    }
}
