//! What every board and the host run and print. A line that begins with `#` is of one machine: its memory, its
//! instructions. All other lines must be the same wherever the path that they begin with is there.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use undiffuse::backend::cpu::{Cpu, CpuOptions, Path, WeightType};
use undiffuse::chain::{Chain, Status};
use undiffuse::denoiser::{BitSequences, Conditions, Denoiser, NetworkDenoiser};
use undiffuse::noise::Seeded;
use undiffuse::pipeline::{Pipeline, PipelineOptions};
use undiffuse::posterior::{BitProduct, BitSchedule, Evidence, IndependentBits, NoEvidence, RSchedule};
use undiffuse::process::Binomial;
use undiffuse::sampler::{BitPrediction, Bits2015, Ending2015, Sampler, SamplerKind, SamplerOptions, Steps};
use undiffuse::schedule::{Arithmetic, Betas, NoiseSchedule};
use undiffuse::tensor::Dims;
use undiffuse::{Error, ErrorKind, Result};

/// f32 values of the one slice that all workspaces are cut from.
pub const ARENA: usize = if cfg!(feature = "digits") { 900_000 } else { 40_000 };

/// A model as the program carries it: in flash, at a multiple of 64.
#[repr(align(64))]
pub struct InFlash<T: ?Sized>(pub T);

static SWISS_ROLL: &InFlash<[u8]> = &InFlash(*include_bytes!("../../../../pretrained/swiss_roll.safetensors"));
static TINY: &InFlash<[u8]> = &InFlash(*include_bytes!("../../tiny.safetensors"));
static POLICY: &InFlash<[u8]> = &InFlash(*include_bytes!("../../policy.safetensors"));

/// What a machine has used since it was last asked.
pub struct Memory {
    /// Bytes of stack, at most.
    pub stack: usize,
    /// Bytes of heap in use now.
    pub heap: usize,
    /// Bytes of heap, at most.
    pub heap_most: usize,
}

/// A machine.
pub trait Board {
    /// Prints.
    fn print(&self, text: &str);

    /// From now on, or no longer, the allocator refuses whatever it is asked for.
    fn arm(&self, armed: bool);

    /// Instructions so far, where they are counted.
    fn instructions(&self) -> Option<u64> {
        None
    }

    /// What was used since the last call, where that is known.
    fn memory(&self) -> Option<Memory> {
        None
    }
}

/// Runs all samples on those of `paths` that this machine has, the first of which is the measure for the others.
pub fn all(board: &dyn Board, arena: &mut [f32], paths: &[Path]) -> Result<()> {
    let mut stack = 0;
    let mut first: Vec<Vec<f32>> = Vec::new();
    for &path in paths {
        let cpu = |weights| Cpu::with_options(CpuOptions { path: Some(path), threads: Some(1), weights });
        let Ok(backend) = cpu(WeightType::F32) else { continue };
        let mut run = Run { board, arena: &mut *arena, path, made: Vec::new(), stack: 0 };
        run.swiss_roll(&backend)?;
        run.tiny(&backend)?;
        run.policy(&cpu(WeightType::F16)?)?;
        run.bits()?;
        #[cfg(feature = "digits")]
        {
            run.digits(&backend)?;
            run.count(WeightType::F32, undiffuse::pipeline::Precision::F32, &backend)?;
            run.count(WeightType::Int8, undiffuse::pipeline::Precision::F32, &cpu(WeightType::Int8)?)?;
            run.count(WeightType::Int8, undiffuse::pipeline::Precision::Int8, &cpu(WeightType::Int8)?)?;
        }
        stack = stack.max(run.stack);
        let made = run.made;
        if first.is_empty() {
            first = made;
            continue;
        }
        let pairs = || first.iter().flatten().zip(made.iter().flatten());
        let worst = pairs().map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        board.print(&format!("{path} all samples within {worst:e} of the first path's\n"));
        if worst > MOST_APART {
            return Err(Error::new(ErrorKind::NonFinite, format!("expected at most {MOST_APART:e}")));
        }
    }
    if stack > STACK_BOUND {
        return Err(Error::new(
            ErrorKind::OutOfMemory,
            format!("{stack} bytes of stack, expected at most {STACK_BOUND}"),
        ));
    }
    Ok(())
}

/// How far samples of two paths may lie apart, which round in another order.
const MOST_APART: f32 = 1e-3;
/// The most stack that a run may take, of the 64 KiB that a board sets aside.
const STACK_BOUND: usize = 32 << 10;

/// A run of all samples on one path.
pub struct Run<'a> {
    pub board: &'a dyn Board,
    pub arena: &'a mut [f32],
    pub path: Path,
    /// The samples so far.
    pub made: Vec<Vec<f32>>,
    /// Bytes, at most.
    stack: usize,
}

impl Run<'_> {
    /// All forty steps of the network of 2015.
    fn swiss_roll(&mut self, backend: &Cpu) -> Result<()> {
        let pipeline = Pipeline::from_bytes(&SWISS_ROLL.0, backend, &PipelineOptions::default())?;
        let sampler = pipeline.sampler(&SamplerOptions::default())?;
        self.network("swiss roll", &pipeline, &sampler, NoEvidence, 4)
    }

    /// A U-Net with attention.
    fn tiny(&mut self, backend: &Cpu) -> Result<()> {
        let pipeline = Pipeline::from_bytes(&TINY.0, backend, &PipelineOptions::default())?;
        let sampler = ddim(&pipeline, 4)?;
        self.network("tiny U-Net", &pipeline, &sampler, NoEvidence, 2)
    }

    /// A robot's actions by the 1-D U-Net of Diffusion Policy, given what it observes, with weights in f16.
    fn policy(&mut self, backend: &Cpu) -> Result<()> {
        let pipeline = Pipeline::from_bytes(&POLICY.0, backend, &PipelineOptions::default())?;
        let sampler = ddim(&pipeline, 4)?;
        let observed = Conditions::new().with("global_cond", &[0.5, -0.25, 1.0, 0.125]);
        self.network_with("robot policy, f16", &pipeline, &observed, &sampler, NoEvidence, 2)
    }

    /// Heartbeats of the 2015 paper, completed from half of their bits: see `examples/known_bits.rs`.
    fn bits(&mut self) -> Result<()> {
        let process = Binomial::new(0.2)?;
        let rows: Vec<bool> = (0..5).flat_map(|phase| (0..20).map(move |i| i % 5 == phase)).collect();
        let heartbeats = BitSequences::new(Dims::new(&[20])?, &rows, &[1.0; 5], process)?;
        let schedule = NoiseSchedule::new(&Betas::erasing_evenly(200)?, Arithmetic::Float64)?;
        let sampler = Bits2015::new(&schedule, process, BitPrediction::Clean, false, Ending2015::Mean)?;
        let known: Vec<Option<bool>> = (0..20).map(|i| (i < 10).then_some(i % 5 == 3)).collect();
        let evidence = BitProduct::new(IndependentBits::known(&known, BitSchedule::Paper(RSchedule::Constant)));
        let name = "heartbeats, binary";
        let before = self.board.instructions();
        let x = chain((self.board, self.path, name), heartbeats, &sampler, evidence, 2, self.arena)?;
        self.report(name, 0, before, x)
    }

    /// As `network_with`, of a network that takes no conditions.
    pub fn network(
        &mut self,
        name: &str,
        pipeline: &Pipeline,
        sampler: &dyn Sampler,
        evidence: impl Evidence,
        batch: usize,
    ) -> Result<()> {
        self.network_with(name, pipeline, &Conditions::new(), sampler, evidence, batch)
    }

    /// A run of a network whose memory and whose chain's workspace are cut from the arena; first what is refused where
    /// either is one value too short.
    fn network_with(
        &mut self,
        name: &str,
        pipeline: &Pipeline,
        conditions: &Conditions,
        sampler: &dyn Sampler,
        evidence: impl Evidence,
        batch: usize,
    ) -> Result<()> {
        let len = NetworkDenoiser::<&mut [f32]>::memory_len(pipeline.networks(), batch)?;
        let got = self.arena.len();
        let short = || Error::new(ErrorKind::OutOfMemory, format!("{name}: the arena has {got} values, of {len}"));
        let (memory, rest) = self.arena.split_at_mut_checked(len).ok_or_else(short)?;
        let one_less = memory.get_mut(1..).ok_or_else(short)?;
        self.board.print(&refusal(self.path, name, pipeline.denoiser_with_in_memory(batch, conditions, one_less).err())?);
        let denoiser = pipeline.denoiser_with_in_memory(batch, conditions, memory)?;
        let before = self.board.instructions();
        let x = chain((self.board, self.path, name), denoiser, sampler, evidence, batch, rest)?;
        self.report(name, len, before, x)
    }

    /// Prints a sum over all bits of the samples and the first of them; and what the run took, where that is known.
    fn report(&mut self, name: &str, workspace: usize, before: Option<u64>, x: Vec<f32>) -> Result<()> {
        let after = self.board.instructions();
        let (path, first) = (self.path, x.get(..4).unwrap_or(&[]));
        self.board.print(&format!("{path} {name}: {:016x} {first:?}\n", checksum(&x)));
        self.made.push(x);
        if let Some(Memory { stack, heap, heap_most }) = self.board.memory() {
            self.stack = self.stack.max(stack);
            let (workspace, count) = (4 * workspace, after.zip(before).map_or(0, |(a, b)| a - b));
            self.board.print(&format!(
                "# {path} {name}: {count} instructions; stack {stack} bytes, workspace {workspace}, heap {heap}, {heap_most} while it was made\n"
            ));
        }
        Ok(())
    }
}

/// Runs a chain with an allocator that refuses everything; first what is refused where the workspace is one value too
/// short.
fn chain<E: Evidence>(
    (board, path, name): (&dyn Board, Path, &str),
    mut denoiser: impl Denoiser,
    sampler: &dyn Sampler,
    mut evidence: E,
    batch: usize,
    workspace: &mut [f32],
) -> Result<Vec<f32>> {
    let parts = Chain::builder(&mut denoiser, sampler, Seeded::new(42)).evidence(&mut evidence).batch(batch);
    let need = parts.workspace_len()?;
    let short = workspace.get_mut(..need.saturating_sub(1)).unwrap_or_default();
    board.print(&refusal(path, name, parts.workspace(short).build().err())?);

    let parts = Chain::builder(denoiser, sampler, Seeded::new(42)).evidence(evidence).batch(batch);
    let mut chain = parts.workspace(workspace).build()?;
    board.arm(true);
    let done = loop {
        match chain.step() {
            Ok(Status::Running) => {}
            Ok(Status::Done) => break Ok(()),
            Err(e) => break Err(e),
        }
    };
    board.arm(false);
    done.map(|()| chain.x().to_vec())
}

/// Few steps of DDIM with noise.
pub fn ddim(pipeline: &Pipeline, steps: usize) -> Result<impl Sampler + use<>> {
    let (sampler, steps) = (Some(SamplerKind::Ddim), Steps::Count(steps));
    pipeline.sampler(&SamplerOptions { sampler, steps, eta: 1.0, ..SamplerOptions::default() })
}

/// What was said of memory that is too short.
fn refusal(path: Path, name: &str, error: Option<Error>) -> Result<String> {
    match error {
        Some(e) if e.kind() == ErrorKind::OutOfMemory => Ok(format!("{path} {name}: {e}\n")),
        Some(e) => Err(e),
        None => Err(Error::new(ErrorKind::InvalidArgument, format!("{name}: memory that is too short was taken"))),
    }
}

/// FNV-1a over the bytes.
fn checksum(values: &[f32]) -> u64 {
    let bytes = values.iter().flat_map(|v| v.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}
