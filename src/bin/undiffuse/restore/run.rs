//! The work of `denoise`, `inpaint`, `restore` and `posterior`.

use std::path::{Path, PathBuf};

use undiffuse::chain::{Chain, ChainOptions, Flow};
use undiffuse::codec::scale_of;
use undiffuse::noise::{NoiseSource, Seeded};
use undiffuse::posterior::MethodKind;
use undiffuse::posterior::operator::ForwardOperator;
use undiffuse::sampler::{Sampler, SamplerKind, SchedulerConfig};
use undiffuse::tensor::Dims;
use undiffuse::values::Scale;
use undiffuse::{Error, ErrorKind, Result};

use super::auto;
use super::figures::{Agreement, Collected, Mean, psnr};
use super::fit;
use super::input::Input;
use super::method::MethodArgs;
use super::operator::{Operator, OperatorArgs};
use super::reading::Reading;
use super::sampling::SamplingArgs;
use super::sheet::{SAMPLES, Sheet, picture};
use super::stated::Stated;
use super::suited::{self, Setting};
use crate::arrays::Array;
use crate::estimate::{Run, tell};
use crate::format::{FormatArgs, Place};
use crate::interrupt;
use crate::output::{Output, progress};
use crate::preview::Preview;
use crate::source::ModelArgs;

/// The draw of a simulated measurement's noise; no chain comes near it.
const MEASUREMENT_DRAW: u64 = u64::MAX;

/// What to restore and where to put it.
#[derive(Debug)]
pub struct Job {
    /// The measurement, or with `simulate` the picture to measure.
    pub image: PathBuf,
    /// The clean picture, for the sheet and the figures.
    pub truth: Option<PathBuf>,
    /// Whether the measurement is made here.
    pub simulate: bool,
    /// How files are read.
    pub reading: Reading,
    /// A.
    pub operator: OperatorArgs,
    /// How p(x) r(x) is sampled.
    pub method: MethodArgs,
    /// The standard deviation of the measurement's noise.
    pub sigma: f64,
    /// The chain.
    pub sampling: SamplingArgs,
    /// Where the samples go.
    pub output: Option<PathBuf>,
    /// Where predictions are drawn while it runs.
    pub preview: Option<PathBuf>,
    /// How pictures and arrays are written.
    pub format: FormatArgs,
    /// Where their mean goes.
    pub mean: Option<PathBuf>,
    /// Where their variance goes.
    pub variance: Option<PathBuf>,
    /// Where the sheet goes.
    pub sheet: Option<PathBuf>,
    /// Where the measurement goes.
    pub measured: Option<PathBuf>,
    /// Samples of each picture.
    pub count: usize,
    /// Samples at once.
    pub batch: usize,
    /// The seed.
    pub seed: u64,
    /// The side of a tile.
    pub tile: Option<usize>,
    /// Megabytes that it may take.
    pub memory: Option<usize>,
    /// Whether maps of many samples are what the command is for.
    pub maps: bool,
}

impl Job {
    /// What the pictures are measurements by; with `simulate` they are still to be measured.
    pub fn measured_by(&self) -> Option<&OperatorArgs> {
        (!self.simulate).then_some(&self.operator)
    }
}

/// What was done.
pub struct Done {
    /// Pictures restored.
    pub images: usize,
    /// The dimensions of each.
    pub dims: Dims,
    /// The method's name.
    pub method: String,
    /// What was asked for, and if that was `auto` why it was taken.
    pub chosen: Option<String>,
    /// The least fraction of a group that its weights left effective.
    pub effective: Option<f64>,
    /// The sampler's name.
    pub sampler: &'static str,
    /// Network calls for each sample.
    pub calls: usize,
    /// Vector-Jacobian products for each sample.
    pub products: usize,
    /// The mean of |y - A x| / (sigma sqrt(m)), or without noise of the largest |y - A x|.
    pub consistency: Option<f64>,
    /// What the network ran on.
    pub device: String,
    /// Against the truth, in dB: the measurement as a picture, the samples, their mean.
    pub psnr: [Option<f64>; 3],
    /// Tiles of a picture, of a denoiser that takes any size.
    pub tiles: Option<usize>,
    /// Bytes that it said it would take.
    pub memory: Option<usize>,
}

/// The places of all that a job writes, known to be possible before the work.
pub struct Places {
    samples: Option<Place>,
    mean: Option<Place>,
    variance: Option<Place>,
    measured: Option<Place>,
    sheet: Option<(Sheet, Output)>,
    /// Samples of each picture that are kept.
    pub kept: usize,
}

impl Places {
    /// For pictures of `dims` and measurements of `measured`.
    pub fn new(job: &Job, images: usize, dims: &Dims, measured: &Dims, truth: bool) -> Result<Self> {
        let place = |path: &Option<PathBuf>, count: usize, dims: &Dims| {
            path.as_ref().map(|path| Place::new(path, 0, count, dims, &job.format)).transpose()
        };
        let samples = place(&job.output, images.saturating_mul(job.count), dims)?;
        let mean = place(&job.mean, images, dims)?;
        let variance = place(&job.variance, images, dims)?;
        let measured = place(&job.measured, images, measured)?;
        let sheet = job.sheet.as_ref().map(|_| Sheet::new(images, job.count, truth, dims)).transpose()?;
        let sheet = sheet.zip(job.sheet.as_deref().map(sheet_file).transpose()?);
        let kept = if samples.is_some() { job.count } else { job.count.min(SAMPLES) };
        Ok(Self { samples, mean, variance, measured, sheet, kept })
    }

    /// Whether the measurements are written or drawn.
    pub fn take_measured(&self) -> bool {
        self.measured.is_some() || self.sheet.is_some()
    }

    /// Writes pictures that are the samples and their means, and have no spread, in the memory that they are in.
    pub fn write_one(
        self,
        truth: Option<&Array>,
        y: &Array,
        measured: &[Option<Vec<f32>>],
        made: &Array,
    ) -> Result<()> {
        if let Some((sheet, output)) = self.sheet {
            sheet.write_samples(truth, measured, made, output)?;
        }
        for (to, array) in [(self.measured, y), (self.samples, made), (self.mean, made)] {
            if let Some(place) = to {
                place.write(array)?;
            }
        }
        Ok(())
    }

    /// Writes it all.
    pub fn write(
        self,
        truth: Option<&Array>,
        y: &Array,
        measured: &[Option<Vec<f32>>],
        collected: &Collected,
    ) -> Result<()> {
        for (to, array) in [
            (self.samples, &collected.samples),
            (self.mean, &collected.mean),
            (self.variance, &collected.variance),
            (self.measured, y),
        ] {
            if let Some(place) = to {
                place.write(array)?;
            }
        }
        match self.sheet {
            Some((sheet, output)) => sheet.write(truth, measured, collected, self.kept, output),
            None => Ok(()),
        }
    }
}

/// The mean of the PSNRs of pictures against the truth, if it is known.
pub fn compared(truth: Option<&Array>, pictures: &mut dyn Iterator<Item = &[f32]>, n: usize) -> Option<f64> {
    let mut mean = Mean::default();
    if let Some(truth) = truth {
        pictures.zip(truth.data.chunks_exact(n.max(1))).for_each(|(x, t)| mean.add(psnr(x, t)));
    }
    mean.get()
}

/// y = A x + sigma z for every picture, `[N, ...output]`.
fn measure(operator: &dyn ForwardOperator, pictures: &Array, sigma: f64, seed: Option<u64>) -> Result<Array> {
    let (n, m) = (operator.domain().elements(), operator.codomain().elements());
    let count = pictures.data.len() / n.max(1);
    let mut y = Array::zeros("the measurement", &[&[count], operator.codomain().as_slice()].concat())?;
    let mut scratch = Array::zeros("the scratch", &[operator.forward_scratch_len()])?.data;
    let mut z = Array::zeros("the noise", &[if seed.is_some() { m } else { 0 }])?.data;
    for (i, (y, x)) in y.data.chunks_exact_mut(m.max(1)).zip(pictures.data.chunks_exact(n.max(1))).enumerate() {
        operator.forward(x, y, &mut scratch)?;
        if let Some(seed) = seed {
            Seeded::new(seed).normal(i as u64, MEASUREMENT_DRAW, m, &mut z)?;
            y.iter_mut().zip(&z).for_each(|(y, z)| *y = (f64::from(*y) + sigma * f64::from(*z)) as f32);
        }
    }
    Ok(y)
}

/// The truth, if it is known, and the measurement.
pub fn data(job: &Job, input: Input, operator: &dyn ForwardOperator) -> Result<(Option<Array>, Array)> {
    let dims = operator.domain();
    let reading = &job.reading;
    let clean = job.truth.as_deref().map(Input::read).transpose()?;
    if input.is_picture()
        && clean.as_ref().is_none_or(Input::is_picture)
        && (reading.values.is_some() || reading.axes.is_some())
    {
        let text = format!("{}: --values and --axes are for arrays: what a picture's are is known", input.name());
        return Err(Error::new(ErrorKind::InvalidArgument, text));
    }
    let noise = job.operator.keeps_range()?.then_some(job.sigma);
    if !job.operator.is_alpha() {
        input.check_opaque()?;
    }
    let (mut truth, y) = if job.simulate {
        let truth = input.items("the picture", &dims, reading, Some(0.0))?;
        let y = measure(operator, &truth, job.sigma, Some(job.seed))?;
        (Some(truth), y)
    } else if job.operator.sees_whole() {
        let pictures = input.items("the picture", &dims, reading, noise)?;
        drop(input);
        (None, measure(operator, &pictures, 0.0, None)?)
    } else {
        let what = format!("the measurement by {}", operator.label());
        (None, input.items(&what, &operator.codomain(), reading, noise)?)
    };
    if let Some(input) = clean {
        input.check_opaque()?;
        let clean = input.items("the truth", &dims, reading, Some(0.0))?;
        if clean.shape.first() != y.shape.first() {
            let text = format!("{}: {:?} pictures for measurements {:?}", input.name(), clean.shape, y.shape);
            return Err(Error::new(ErrorKind::Shape, text));
        }
        truth = Some(clean);
    }
    Ok((truth, y))
}

fn sheet_file(path: &Path) -> Result<Output> {
    match path.extension() {
        Some(e) if e.eq_ignore_ascii_case("png") => Output::create(path),
        _ => Err(Error::new(ErrorKind::InvalidArgument, format!("{}: a sheet is a .png file", path.display()))),
    }
}

/// Runs a job. Whatever fails or is interrupted leaves no file.
pub fn restore(model: &mut ModelArgs, job: &mut Job) -> Result<Done> {
    let input = Input::read(&job.image)?;
    let source = model.open()?;
    if let Some(stated) = Stated::of(&source)? {
        return stated.restore(model, job, &source, input);
    }
    for (name, given) in [("tile", job.tile.is_some()), ("memory", job.memory.is_some())] {
        if given {
            let text = format!("{}: --{name} is for denoisers of a stated sigma, which it is none of", model.name());
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
    }
    if let Some(of) = job.method.of_denoiser {
        let text = "is for denoisers of a stated sigma, which it is none of: leave it out";
        return Err(Error::new(ErrorKind::Unsupported, format!("{}: --method {} {text}", model.name(), of.name())));
    }
    fit::check(model, &source, &input, &job.reading, job.measured_by(), false, None)?;
    let asked = job.method.method;
    model.set_gradient(asked.is_none_or(MethodKind::needs_vjp));
    let pipeline = match model.compile(&source) {
        Err(e) if asked.is_none() && e.kind() == ErrorKind::Unsupported => {
            model.set_gradient(false);
            model.compile(&source)?
        }
        compiled => compiled?,
    };
    let given = model.given(&pipeline)?;
    let dims = pipeline.sample_dims();
    let n = dims.elements();
    let operator = job.operator.build(dims, job.seed, Some(&input), &job.reading)?;
    let (truth, y) = data(job, input, operator.forward())?;
    let images = y.shape.first().copied().unwrap_or_default();

    // One measurement is all samples' own; of several, each sample gets its picture's.
    let m = operator.forward().codomain().elements();
    // Methods run DDIM, DDPM or RePaint whatever a diffusers model was trained with.
    let scheduler = model.scheduler(&pipeline, Some(SamplerKind::Ddpm))?;
    let units = Units::of(&scheduler);
    let seen = units.measurement(&operator, &y)?;
    let sigma = units.0.scl * job.sigma;
    let chosen = match asked {
        None => {
            let (operator, rows) = (&operator, &seen.data);
            let setting = Setting { job, scheduler: &scheduler, operator, dims, rows, each: images > 1, sigma };
            let choice = auto::choose(&setting, pipeline.networks().gradient.is_some())?;
            job.method = MethodArgs::of(choice.method);
            eprintln!("--method auto takes {}: {}", choice.method.name(), choice.reason);
            Some(choice.reason)
        }
        Some(_) => None,
    };
    let job = &*job;
    // Of a method that weighs samples against one another whole groups are made.
    let group = job.method.ensemble();
    let each = job.count.div_ceil(group).checked_mul(group);
    let total = each.and_then(|each| images.checked_mul(each)).filter(|&t| t > 0);
    let (Some(each), Some(total)) = (each, total) else {
        return Err(Error::new(ErrorKind::InvalidArgument, "too many samples"));
    };
    let rows = if images == 1 { seen } else { repeated(&seen, m, each)? };
    let zeta = job.method.zeta(&job.operator);
    let prepared = job.method.prepare(&operator, zeta, &rows.data, images > 1, sigma)?;
    let sampler = job.sampling.build(&scheduler, &job.method, &job.operator, &prepared.evidence)?;

    let setting =
        Setting { job, scheduler: &scheduler, operator: &operator, dims, rows: &rows.data, each: images > 1, sigma };
    suited::check(&setting, &prepared.evidence, &sampler)?;

    let cancel = interrupt::install()?;
    let places = Places::new(job, images, &dims, &operator.forward().codomain(), truth.is_some())?;
    let kept = places.kept;
    let mut collected = Collected::new(dims, images, job.count, kept)?;

    let (steps, sampler_name, method) = (sampler.levels().len(), sampler.name(), prepared.evidence.name().to_string());
    let first_level = sampler.levels().first().copied();
    let batch = (job.batch.min(total) / group).max(1) * group;
    let mut denoiser = given.denoiser(&pipeline, batch)?;
    let batches = total.div_ceil(batch);
    // SITCOM's inner calls have one, the last of a level none.
    let inner = || (0..steps).filter(|&step| !sampler.settles(step)).count();
    let products = match job.method.method {
        Some(MethodKind::Sitcom) => inner(),
        _ => steps * job.method.products(),
    };
    let results = (collected.samples.data.len() + 2 * collected.mean.data.len()).saturating_mul(size_of::<f32>());
    let run = Run {
        pipeline: &pipeline,
        batch,
        batches,
        calls: steps,
        products,
        workspace: given.workspace_bytes(&pipeline, batch)?,
        results,
        less: "Fewer --steps or --count",
    };
    if let Some(level) = first_level {
        tell(&run, &mut denoiser, level, cancel)?;
    }
    let mut preview = Preview::new(job.preview.as_deref(), &pipeline)?;
    let options = ChainOptions { batch, first_sample: 0 };
    let mut chain = Chain::with_evidence(denoiser, sampler, Seeded::new(job.seed), prepared.evidence, &options)?;
    let bar = progress(batches * steps, preview.as_ref());
    let mut start = Array::zeros("x_T", &[batch, n])?.data;
    let mut x = Array::zeros("a sample", &[n])?.data;
    let mut figures = Agreement::new(operator.forward(), &y, truth.as_ref(), job.sigma)?;
    for begin in (0..total).step_by(batch) {
        let count = batch.min(total - begin);
        chain.restart(begin as u64, count)?;
        if let (Some(ddrm), Some(level), Some(x)) = (&prepared.start, first_level, start.get_mut(..count * n)) {
            Seeded::new(job.seed).normal(begin as u64, 0, n, x)?;
            ddrm.start(&level, begin as u64, x)?;
            chain.start_from(0, x, begin as u64)?;
        }
        chain.run_with(cancel, |progress| {
            bar.inc(1);
            Preview::show(&mut preview, progress.x0, progress.step + 1 == progress.steps);
            Flow::Continue
        })?;
        for (i, sample) in chain.x().chunks_exact(n).enumerate() {
            units.data(sample, &mut x);
            let (image, number) = ((begin + i) / each, (begin + i) % each);
            if number < job.count {
                figures.add(image, &x)?;
                collected.add(&x)?;
            }
        }
    }
    bar.finish_and_clear();

    let measured: Vec<Option<Vec<f32>>> =
        y.data.chunks_exact(m).map(|y| picture(&operator, y, &dims)).collect::<Result<_>>()?;
    let measured_psnr = match measured.iter().map(Option::as_deref).collect::<Option<Vec<&[f32]>>>() {
        Some(pictures) => compared(truth.as_ref(), &mut pictures.into_iter(), n),
        None => None,
    };
    let done = Done {
        images,
        dims,
        method,
        chosen,
        effective: chain.evidence().effective(),
        sampler: sampler_name,
        calls: steps,
        products,
        consistency: figures.consistency.get(),
        device: pipeline.network().describe(),
        psnr: [
            measured_psnr,
            figures.psnr.get(),
            compared(truth.as_ref(), &mut collected.mean.data.chunks_exact(n), n).filter(|_| job.count > 1),
        ],
        tiles: None,
        memory: None,
    };

    // Everything is computed; what is left is to write.
    places.write(truth.as_ref(), &y, &measured, &collected)?;
    Ok(done)
}

/// From pictures to what the model makes: [`scale_of`].
pub struct Units(pub Scale);

impl Units {
    fn of(config: &SchedulerConfig) -> Self {
        Self(scale_of(config))
    }

    /// A measurement of pictures as one of what the model makes: A (scale x + shift) = scale A x + shift A 1.
    /// Errors: kind `Unsupported` where the scale is not 1 and A is not linear.
    pub fn measurement(&self, operator: &Operator, y: &Array) -> Result<Array> {
        let mut out = y.clone();
        if self.0 == Scale::default() {
            return Ok(out);
        }
        let operator = operator.linear().map_err(|e| e.context("a model whose samples are scaled"))?;
        let mut ones = Array::zeros("a picture", operator.input_dims().as_slice())?.data;
        ones.fill(1.0);
        let mut of_ones = Array::zeros("A 1", operator.output_dims().as_slice())?.data;
        let mut scratch = Array::zeros("the scratch", &[operator.scratch_len()])?.data;
        operator.apply(&ones, &mut of_ones, &mut scratch)?;
        for row in out.data.chunks_exact_mut(of_ones.len().max(1)) {
            for (y, one) in row.iter_mut().zip(&of_ones) {
                *y = (self.0.scl * f64::from(*y) + self.0.shft * f64::from(*one)) as f32;
            }
        }
        Ok(out)
    }

    /// A picture from what the model made.
    pub fn data(&self, sample: &[f32], picture: &mut [f32]) {
        picture.copy_from_slice(sample);
        if self.0 != Scale::default() {
            self.0.undo(picture);
        }
    }
}

/// Every row of `m` values `count` times.
pub fn repeated(y: &Array, m: usize, count: usize) -> Result<Array> {
    let images = y.data.len() / m.max(1);
    let mut rows = Array::zeros("the measurements", &[images, count, m])?;
    for (i, to) in rows.data.chunks_exact_mut(m.max(1)).enumerate() {
        if let Some(from) = y.data.chunks_exact(m.max(1)).nth(i / count.max(1)) {
            to.copy_from_slice(from);
        }
    }
    Ok(rows)
}
