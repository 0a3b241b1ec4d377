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
use super::{Fingerprint, NoiseSource, check_batch};
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
        while self.made < before {
            self.state.skip(kind, &mut self.row);
            self.made += 1;
        }
        self.state.draw(kind, &mut self.row);
        self.made += 1;
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
            all.push(Lane { sample: 0, state: State::new(generator, seed)?, made: 0, kind: Kind::Normal, row });
        }
        Ok(Self { generator, seed, drawn_for, drawn_in: DrawnIn::F32, sample_len, draws: None, lanes: all })
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

    /// How many draws come before draw `draw`.
    fn before(&self, draw: u64) -> Result<u64> {
        ensure!(
            draw < 1 << 63,
            Unsupported,
            "{} noise has the draws of a chain alone, and evidence asks for noise of its own",
            self.generator
        );
        let Some(draws) = &self.draws else { return Ok(draw) };
        draws.binary_search(&draw).map(|at| at as u64).map_err(|_| {
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
        for draw in self.draws.iter().flatten() {
            f = f.u64(*draw);
        }
        f.finish()
    }
}
