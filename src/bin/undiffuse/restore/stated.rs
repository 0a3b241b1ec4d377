//! Denoisers of a stated sigma: pictures of any size, in tiles where they are large.

mod samples;
mod truth;

use std::cell::Cell;

use indicatif::ProgressBar;
use undiffuse::denoiser::{Call, Denoiser, NetworkDenoiser, Tiled};
use undiffuse::pipeline::{Pipeline, Source};
use undiffuse::posterior::MethodKind;
use undiffuse::sampler::{DdimNoise, ModelPreconditioning, Plan, PreconditioningRule};
use undiffuse::schedule::Level;
use undiffuse::tensor::Dims;
use undiffuse::{Cancel, Error, ErrorKind, Result};

use super::channels::Parts;
use super::fit;
use super::input::Input;
use super::method::OfDenoiser;
use super::run::{Done, Job, Places, Units, compared, data};
use crate::arrays::Array;
use crate::estimate::{Run, tell};
use crate::interrupt;
use crate::output::{note, progress};
use crate::source::ModelArgs;

/// The side of a tile where nothing else is said. Where a run would take more bytes than this, it becomes smaller by
/// so much, down to the least, if its pictures leave room for such tiles.
const TILE: usize = 512;
const USUAL_MEMORY: usize = 390_000_000;
const SMALLER: usize = 64;
const LEAST_TILE: usize = 256;
const LEAST_TILE_MEMORY: usize = 40_000_000;
/// Bytes of the program itself.
const PROGRAM: usize = 16_000_000;
/// Steps of the reverse chain.
const REVERSE_STEPS: usize = 32;
/// The least noise that a call is made at, of that of the first.
const LEAST: f64 = 0.02;
/// Steps of DiffPIR, the noise of the first of the range of pictures (DPIR's, Zhang et al. 2021), and that of the last.
const PIR_STEPS: usize = 24;
const PIR_FROM: f64 = 49.0 / 255.0;
const PIR_TO: f64 = 1.0 / 255.0;

/// What is known of such a denoiser before it is compiled.
pub struct Stated {
    preconditioning: ModelPreconditioning,
    /// White less black in its units.
    range: f64,
    /// How far its network sees, if that has an end.
    reach: Option<usize>,
    multiple: [usize; 2],
}

/// A compiled denoiser of tiles, and of whole pictures.
struct Compiled {
    pipeline: Pipeline,
    tile: [usize; 2],
    /// Bytes of weights and of all that one tile takes.
    bytes: usize,
}

fn refused(kind: ErrorKind, model: &ModelArgs, text: String) -> Error {
    Error::new(kind, format!("{}: {text}", model.name()))
}

impl Stated {
    /// If the model is one. Errors: its preconditioning cannot be read.
    pub fn of(source: &Source<'_>) -> Result<Option<Self>> {
        let Some(preconditioning) = source.preconditioning()? else { return Ok(None) };
        let PreconditioningRule::Denoiser { black, white } = preconditioning.rule else { return Ok(None) };
        let (reach, multiple) = (source.model().reach(), source.model().multiple());
        Ok(Some(Self { preconditioning, range: white - black, reach, multiple }))
    }

    /// As [`super::run::restore`].
    pub fn restore(&self, model: &mut ModelArgs, job: &mut Job, source: &Source<'_>, input: Input) -> Result<Done> {
        self.check(model, job)?;
        fit::check(model, source, &input, &job.reading, job.measured_by(), self.reach.is_some(), None)?;
        // What is said once tiles of some size have been compiled.
        let size = model.size().or(source.model().sample_size());
        let (Some(channels), Some(size)) = (source.model().channels(), size) else {
            let text = "the size of its pictures is not known: give --size".to_string();
            return Err(refused(ErrorKind::InvalidArgument, model, text));
        };
        let dims = Dims::new(&[channels, size[0], size[1]])?;
        let parts = Parts::new(&job.operator, dims, job.seed, &input, &job.reading)?;
        let (truth, y) = data(job, input, parts.whole()?.forward())?;
        let work = Work { stated: self, job, parts: &parts, dims, size };
        if job.method.of_denoiser == Some(OfDenoiser::Mmse) {
            return work.one_call(model, source, truth, y);
        }
        work.samples(model, source, truth, y)
    }

    /// Settles the method, and refuses what has no meaning here.
    fn check(&self, model: &ModelArgs, job: &mut Job) -> Result<()> {
        let invalid = |text: String| refused(ErrorKind::InvalidArgument, model, text);
        let unsupported = |text: String| refused(ErrorKind::Unsupported, model, text);
        if model.has_scheduler() {
            return Err(invalid("--scheduler: a denoiser of a stated sigma has no schedule: leave it out".into()));
        }
        if !job.method.is_said {
            let several = job.count > 1 || job.maps || job.variance.is_some() || job.sampling.steps().is_some();
            let identity = if several { OfDenoiser::Reverse } else { OfDenoiser::Mmse };
            job.method.method = Some(MethodKind::DiffPir);
            job.method.of_denoiser = job.operator.is_identity().then_some(identity);
        }
        let name = job.method.name();
        if job.method.method != Some(MethodKind::DiffPir) {
            let known = if job.operator.is_identity() { "mmse, reverse or diffpir" } else { "diffpir" };
            let text = format!(
                "--method {name} draws from noise alone, which a denoiser of a stated sigma cannot: take {known}"
            );
            return Err(unsupported(text));
        }
        if let Some(option) = job.method.unread().or(job.sampling.of_chain()) {
            return Err(invalid(format!(
                "--{option} is of no method that goes with a denoiser of a stated sigma: leave it out"
            )));
        }
        if job.method.of_denoiser == Some(OfDenoiser::Mmse) && (job.count > 1 || job.variance.is_some()) {
            return Err(invalid(
                "--method mmse gives one picture, the posterior's mean: --method reverse draws samples".into(),
            ));
        }
        if job.preview.is_some() {
            return Err(unsupported(
                "--preview: it draws pictures of the network's size, not of tiles: leave it out".into(),
            ));
        }
        // In units of [-1, 1], as the user says it.
        let most = self.preconditioning.sigma_max.map_or(f64::INFINITY, |s| 2.0 * s / self.range);
        if job.sigma > most * (1.0 + 1e-6) {
            return Err(unsupported(format!(
                "--sigma is {}, and it was trained for noise up to {most:.4} in units of [-1, 1]",
                job.sigma
            )));
        }
        let step = self.multiple[0].max(self.multiple[1]);
        if job.tile.is_some_and(|tile| !tile.is_multiple_of(step)) {
            return Err(invalid(format!("--tile is {}, expected a multiple of {step}", job.tile.unwrap_or_default())));
        }
        if let (None, true) = (self.reach, job.tile.is_some()) {
            return Err(unsupported("--tile: how far its network sees is not known, so it takes one size".into()));
        }
        Ok(())
    }

    /// Compiles for tiles of the side that was said, or that memory allows beside `pictures` bytes of the rest.
    fn compile(&self, model: &mut ModelArgs, source: &Source<'_>, work: &Work<'_>, rest: usize) -> Result<Compiled> {
        let [m, n] = self.multiple;
        let whole = [work.size[0].next_multiple_of(m), work.size[1].next_multiple_of(n)];
        let overlap = self.reach.map_or(0, Tiled::<NetworkDenoiser>::overlap);
        let step = m.max(n);
        // Where nothing is said, smaller tiles where they help.
        let free = work.job.memory.is_none() && work.job.tile.is_none() && self.reach.is_some();
        let usual = (free && rest.saturating_add(LEAST_TILE_MEMORY) <= USUAL_MEMORY).then_some(USUAL_MEMORY);
        let limit = work.job.memory.map(|mb| mb.saturating_mul(1_000_000)).or(usual);
        let mut side = work.job.tile.unwrap_or_else(|| TILE.max((2 * overlap).next_multiple_of(step)));
        loop {
            let tile = if self.reach.is_some() { whole.map(|n| n.min(side)) } else { work.size };
            model.set_size(tile);
            let pipeline = model.compile(source)?;
            let values = tile.iter().product::<usize>().saturating_mul(2 * work.dims.channels());
            let own = pipeline.weight_bytes().saturating_add(pipeline.workspace_bytes(1)?);
            let own = own.saturating_add(pipeline.device_bytes(1)?);
            let bytes = own.saturating_add(values.saturating_mul(size_of::<f32>()));
            let all = bytes.saturating_add(rest).max(work.reading()).saturating_add(PROGRAM);
            if limit.is_none_or(|limit| all <= limit) {
                return Ok(Compiled { pipeline, tile, bytes: all });
            }
            let by = if free { side.saturating_sub(SMALLER) } else { side.min(whole[0].max(whole[1])) / 2 };
            let smaller = by.next_multiple_of(step);
            let last = work.job.tile.is_some() || self.reach.is_none() || smaller <= overlap + step;
            if free && (last || smaller < LEAST_TILE) {
                return Ok(Compiled { pipeline, tile, bytes: all });
            }
            if last {
                let text = format!(
                    "it takes {} MB, of which {} for the pictures themselves, more than --memory {}",
                    all.div_ceil(1_000_000),
                    (all - bytes.min(all)).div_ceil(1_000_000),
                    work.job.memory.unwrap_or_default()
                );
                return Err(refused(ErrorKind::OutOfMemory, model, text));
            }
            side = smaller;
        }
    }
}

/// A denoiser whose calls are counted on a bar.
struct Counted<'a, D> {
    inner: D,
    bar: &'a ProgressBar,
    calls: &'a Cell<usize>,
}

impl<D: Denoiser> Denoiser for Counted<'_, D> {
    fn name(&self) -> &str {
        self.inner.name()
    }
    fn sample_dims(&self) -> Dims {
        self.inner.sample_dims()
    }
    fn output_len(&self) -> usize {
        self.inner.output_len()
    }
    fn max_batch(&self) -> usize {
        self.inner.max_batch()
    }
    fn looks_at_numbers(&self) -> bool {
        self.inner.looks_at_numbers()
    }
    fn predict(&mut self, call: &Call<'_>, x: &[f32], out: &mut [f32]) -> Result<()> {
        self.inner.predict(call, x, out)?;
        self.calls.set(self.calls.get() + 1);
        self.bar.inc(1);
        Ok(())
    }
}

/// One job.
struct Work<'a> {
    stated: &'a Stated,
    job: &'a Job,
    parts: &'a Parts,
    dims: Dims,
    size: [usize; 2],
}

impl Work<'_> {
    /// Bytes that were taken while the file was read: its own, its picture's, a copy, and what was made of it.
    fn reading(&self) -> usize {
        self.dims.elements().saturating_mul(4 * size_of::<f32>()).saturating_add(self.parts.bytes())
    }

    /// Says what will be done and what it takes.
    fn say(&self, compiled: &Compiled, tiles: usize) -> Result<()> {
        let ([h, w], [th, tw]) = (self.size, compiled.tile);
        let mb = compiled.bytes.div_ceil(1_000_000);
        note(&match tiles {
            1 => format!("{h} x {w} pixels in one piece, {mb} MB"),
            _ => format!("{h} x {w} pixels in {tiles} tiles of {th} x {tw}, {mb} MB"),
        })
    }

    /// The denoiser of whole pictures.
    fn denoiser<'b>(
        &self,
        tile: NetworkDenoiser,
        bar: &'b ProgressBar,
        calls: &'b Cell<usize>,
    ) -> Result<Tiled<Counted<'b, NetworkDenoiser>>> {
        let reach = self.stated.reach.unwrap_or(0);
        Tiled::new(Counted { inner: tile, bar, calls }, self.size, reach, self.stated.multiple)
            .map_err(|e| if self.job.tile.is_some() { e.context("--tile") } else { e })
    }

    /// How many calls of the network a picture takes.
    fn tiles(&self, tile: [usize; 2]) -> Result<usize> {
        let none = undiffuse::denoiser::FnDenoiser::new("", Dims::new(&[1, tile[0], tile[1]])?, |_, _, _| Ok(()));
        let tiled = Tiled::new(none, self.size, self.stated.reach.unwrap_or(0), self.stated.multiple);
        tiled.map(|t| t.tiles()).map_err(|e| if self.job.tile.is_some() { e.context("--tile") } else { e })
    }

    /// One prediction of each picture.
    fn one_call(&self, model: &mut ModelArgs, source: &Source<'_>, truth: Option<Array>, mut y: Array) -> Result<Done> {
        let (job, n) = (self.job, self.dims.elements());
        let images = y.shape.first().copied().unwrap_or_default();
        let places = Places::new(job, images, &self.dims, &self.dims, truth.is_some())?;
        // What was read and what is made, also as bytes.
        let pictures = 2 + usize::from(places.take_measured()) + usize::from(truth.is_some());
        let held = y.data.len().saturating_mul(4 * pictures + 2).saturating_add(self.parts.bytes());
        let compiled = self.stated.compile(model, source, self, held)?;
        let pipeline = &compiled.pipeline;
        let tiles = self.tiles(compiled.tile)?;
        self.say(&compiled, tiles)?;
        let mut tile = model.given(pipeline)?.denoiser(pipeline, 1)?;
        let units = Units(pipeline.scale());
        let sigma = units.0.scl * job.sigma;
        let label = self.stated.preconditioning.at(&Level::exploding(0.0, sigma))?.label;
        let level = Level::exploding(label, sigma);
        let cancel = interrupt::install()?;
        self.tell(&compiled, &mut tile, level, [images * tiles, 1], cancel)?;
        let measured_psnr = compared(truth.as_ref(), &mut y.data.chunks_exact(n), n);
        let kept = places.take_measured().then(|| y.clone());
        units.0.apply(&mut y.data);
        let bar = progress(images * tiles, None);
        let calls = Cell::new(0);
        let mut denoiser = self.denoiser(tile, &bar, &calls)?;
        let mut made = Array::zeros("the pictures", &[&[images], self.dims.as_slice()].concat())?;
        for (i, (y, made)) in y.data.chunks_exact(n).zip(made.data.chunks_exact_mut(n)).enumerate() {
            denoiser.predict(&Call { level, first_sample: i as u64, cancel }, y, made)?;
        }
        units.0.undo(&mut made.data);
        bar.finish_and_clear();
        let y = kept.unwrap_or(y);
        let done = Done {
            images,
            dims: self.dims,
            method: OfDenoiser::Mmse.name().into(),
            chosen: None,
            effective: None,
            sampler: "one call",
            calls: 1,
            products: 0,
            consistency: None,
            device: pipeline.network().describe(),
            psnr: [measured_psnr, compared(truth.as_ref(), &mut made.data.chunks_exact(n), n), None],
            tiles: Some(tiles),
            memory: Some(compiled.bytes),
        };
        drop(denoiser);
        let rows = if job.sheet.is_some() { &y.data[..] } else { &[] };
        let rows: Vec<_> = rows.chunks_exact(n.max(1)).map(|y| Some(y.to_vec())).collect();
        places.write_one(truth.as_ref(), &y, &rows, &made)?;
        Ok(done)
    }

    /// Says how long it will take, if that is long: so many calls of the network, in so many steps.
    fn tell(
        &self,
        compiled: &Compiled,
        tile: &mut NetworkDenoiser,
        level: Level,
        [batches, calls]: [usize; 2],
        cancel: &Cancel,
    ) -> Result<()> {
        let pipeline = &compiled.pipeline;
        let results = compiled.bytes.saturating_sub(pipeline.weight_bytes() + pipeline.workspace_bytes(1)?);
        let workspace = pipeline.workspace_bytes(1)?;
        let less = if calls > 1 { "Fewer --steps or --count" } else { "Smaller pictures" };
        let run = Run { pipeline, batch: 1, batches, calls, products: 0, workspace, results, less };
        tell(&run, tile, level, cancel)
    }

    /// The levels of the chain, in the denoiser's units.
    fn plan(&self, sigma: f64) -> Result<Plan> {
        let (job, range) = (self.job, self.stated.range);
        let geometric = |from: f64, to: f64, steps: usize| -> Vec<f64> {
            let ratio = to / from;
            let at = |i: usize| from * ratio.powf(i as f64 / (steps.max(2) - 1) as f64);
            (0..steps).map(at).chain([0.0]).collect()
        };
        if job.method.of_denoiser == Some(OfDenoiser::Reverse) {
            let sigmas = geometric(sigma, LEAST * sigma, job.sampling.steps().unwrap_or(REVERSE_STEPS));
            return self.stated.preconditioning.chain(&sigmas, 1.0, DdimNoise::Posterior);
        }
        let most = self.stated.preconditioning.sigma_max.unwrap_or(f64::INFINITY);
        let from = (PIR_FROM * range).max(sigma).min(most);
        let to = (PIR_TO * range).max(sigma).min(0.5 * from);
        let sigmas = geometric(from, to, job.sampling.steps().unwrap_or(PIR_STEPS));
        let zeta = job.method.zeta(&job.operator);
        self.stated.preconditioning.chain(&sigmas, zeta.sqrt(), DdimNoise::Level)
    }

    /// What the denoiser's units are of those of pictures.
    fn scale(&self) -> undiffuse::values::Scale {
        let (scl, black) = match self.stated.preconditioning.rule {
            PreconditioningRule::Denoiser { black, white } => (0.5 * (white - black), black),
            _ => (1.0, -1.0),
        };
        undiffuse::values::Scale { scl, shft: black + scl }
    }
}
