//! The work of `undiffuse sample`.

use std::path::{Path, PathBuf};

use undiffuse::chain::{Chain, ChainOptions, Flow};
use undiffuse::codec::Encoder;
use undiffuse::noise::{
    BrownianTree, DrawnFor, ENCODER_DRAW, Given, NoiseSource, PythonGenerator, PythonNoise, Seeded, TreeSeed,
};
use undiffuse::pipeline::Pipeline;
use undiffuse::posterior::{Evidence, NoEvidence, OptimalVariance};
use undiffuse::sampler::{
    Compat, Sampler, SamplerKind, SamplerOptions, SchedulerConfig, Sigmas, Steps, brownian_intervals,
};
use undiffuse::tensor::Dims;
use undiffuse::{Error, ErrorKind, Result};

use crate::arrays::{Array, ArrayFile, write_safetensors_f32};
use crate::estimate::{Run, tell};
use crate::format::{FormatArgs, Place};
use crate::from_image::{ImageArgs, Pictures};
use crate::interrupt;
use crate::output::{Output, progress};
use crate::preview::Preview;
use crate::source::ModelArgs;

/// Samples, unless `--count`, a file of `--noise` or several pictures say otherwise.
const COUNT: usize = 36;

/// What to sample and where to put it.
#[derive(Debug)]
pub struct Job {
    /// The samples; the extension names the format.
    pub output: PathBuf,
    /// How the samples are written.
    pub format: FormatArgs,
    /// Where every x_t goes.
    pub trace: Option<PathBuf>,
    /// Where predictions are drawn while it runs.
    pub preview: Option<PathBuf>,
    /// Pictures to begin at.
    pub image: ImageArgs,
    /// Where x_T and the noise come from.
    pub noise: Noise,
    /// Samples of the whole run; `None` for as many as the noise's file or that of the pictures has, or the usual.
    pub count: Option<usize>,
    /// Samples at once.
    pub batch: usize,
    /// The part (from 1) of how many.
    pub shard: (usize, usize),
    /// The seed.
    pub seed: u64,
    /// The sampler; `None` for the model's usual one.
    pub sampler: Option<SamplerKind>,
    /// The steps of a sample; `None` for the sampler's usual number.
    pub steps: Option<Steps>,
    /// How sigmas are spread; `None` as usual.
    pub sigmas: Option<Sigmas>,
    /// The tolerance of a solver that chooses its steps.
    pub tolerance: Option<f64>,
    /// The solver's order; `None` for its usual one.
    pub order: Option<usize>,
    /// The shift of a flow that has none of its own.
    pub mu: Option<f64>,
    /// DDIM's noise.
    pub eta: Option<f64>,
    /// Whose formulas are taken where diffusers' are known to be wrong.
    pub compat: Compat,
    /// Vector-Jacobian products a step for its covariance.
    pub variance_products: usize,
}

/// Where x_T and the noise come from.
#[derive(Clone, Debug)]
pub enum Noise {
    /// The library's own streams of the seed.
    Seeded,
    /// A file.
    File(PathBuf),
    /// A Python library's generator of the seed: one for the run, or one `each`.
    Python {
        /// Which.
        generator: PythonGenerator,
        /// Whether every sample has one, of the seed plus its number.
        each: bool,
    },
}

impl Job {
    /// The file of the noise, where it comes from one.
    fn noise_file(&self) -> Option<&Path> {
        match &self.noise {
            Noise::File(path) => Some(path),
            Noise::Seeded | Noise::Python { .. } => None,
        }
    }

    /// The noise of this run's samples, that of a file apart: `total` samples, `batch` at once, from step `start` on;
    /// `images` is how many are encoded to distributions, which are sampled before all else.
    fn source(
        &self,
        config: &SchedulerConfig,
        sampler: &dyn Sampler,
        start: usize,
        [total, batch, len]: [usize; 3],
        images: Option<usize>,
    ) -> Result<Box<dyn NoiseSource>> {
        let Noise::Python { generator, each } = self.noise else { return Ok(Box::new(Seeded::new(self.seed))) };
        let drawn_for = if each { DrawnFor::Each { at_once: batch } } else { DrawnFor::AllOf(total as u64) };
        // diffusers gives this sampler a Brownian motion.
        if let (PythonGenerator::TorchCpu, Ok((between, [low, high]))) = (generator, brownian_intervals(sampler)) {
            let tree = config.noise_sampler_seed()?.map_or(TreeSeed::Drawn, TreeSeed::Given);
            let tree = BrownianTree::new(self.seed, tree, drawn_for, len, &between)?.with_ends(low, high)?;
            return Ok(match images {
                Some(images) => Box::new(tree.with_encoder(images as u64)?),
                None => Box::new(tree),
            });
        }
        let steps = (start..sampler.levels().len()).filter(|step| sampler.needs_noise(*step));
        let draws = core::iter::once(0).chain(steps.map(|step| step as u64 + 1)).collect();
        let noise = PythonNoise::new(generator, self.seed, drawn_for, len)?.with_draws(draws)?;
        Ok(match images {
            Some(images) => Box::new(noise.with_encoder(images as u64)?),
            None => Box::new(noise),
        })
    }

    /// The sampler of the run.
    fn options(&self, config: &SchedulerConfig, sampler: Option<SamplerKind>) -> SamplerOptions {
        let usual = SamplerOptions::default_for(config, sampler);
        let usual = usual.with_compat(self.compat);
        let steps = self.steps.clone().unwrap_or(usual.steps);
        let (sigmas, order) = (self.sigmas.unwrap_or(usual.sigmas), self.order.or(usual.order));
        let [rtol, atol] = self.tolerance.map_or([usual.rtol, usual.atol], |t| [t, t]);
        let (eta, mu) = (self.eta.unwrap_or_default(), self.mu);
        SamplerOptions { steps, sigmas, eta, mu, order, rtol, atol, ..usual }
    }
}

/// What was done.
pub struct Done {
    /// The number of the first sample.
    pub first: u64,
    /// Samples written.
    pub samples: usize,
    /// The dimensions of each.
    pub dims: Dims,
    /// Network calls for each.
    pub steps: usize,
    /// The algorithm.
    pub sampler: &'static str,
    /// What the network ran on.
    pub device: String,
}

/// x_T and noise of a file.
struct GivenNoise {
    x_t: Array,
    noise: Option<Array>,
    posterior: Option<Array>,
}

impl GivenNoise {
    fn read(path: &Path) -> Result<Self> {
        let file = ArrayFile::open(path, &["x_T", "noise", "posterior"])?;
        let (x_t, noise, posterior) = (file.need("x_T")?, file.get("noise")?, file.get("posterior")?);
        if x_t.shape.len() < 2 || x_t.data.is_empty() {
            return Err(Error::new(
                ErrorKind::Shape,
                format!("{}: x_T is {:?}, expected [N, C, H, W]", path.display(), x_t.shape),
            ));
        }
        Ok(Self { x_t, noise, posterior })
    }

    fn count(&self) -> usize {
        self.x_t.shape.first().copied().unwrap_or_default()
    }

    /// Checks it against the run, in which `images` are encoded to distributions.
    fn check(&self, dims: &Dims, sampler: &dyn Sampler, images: Option<usize>) -> Result<()> {
        let mut expected = vec![self.count()];
        expected.extend(dims.as_slice());
        let shape = |what: &str, got: &[usize], expected: &[usize]| {
            let text = format!("{what} is {got:?}, expected {expected:?}");
            if got == expected { Ok(()) } else { Err(Error::new(ErrorKind::Shape, text)) }
        };
        shape("x_T", &self.x_t.shape, &expected)?;
        match (&self.posterior, images) {
            (Some(posterior), Some(images)) => {
                shape("posterior", &posterior.shape, &[&[images], dims.as_slice()].concat())?
            }
            (None, Some(images)) => {
                let expected = [&[images], dims.as_slice()].concat();
                let text =
                    format!("posterior {expected:?} is missing, with which the encoder's distribution is sampled");
                return Err(Error::new(ErrorKind::Weights, text));
            }
            (Some(_), None) => {
                let text = "posterior is given, and no picture is encoded to a distribution";
                return Err(Error::new(ErrorKind::Weights, text));
            }
            (None, None) => {}
        }
        let steps = sampler.levels().len();
        expected.insert(0, steps);
        match &self.noise {
            Some(noise) => shape("noise", &noise.shape, &expected),
            None if (0..steps).any(|step| sampler.needs_noise(step)) => {
                Err(Error::new(ErrorKind::Weights, format!("noise {expected:?} is missing, which the sampler needs")))
            }
            None => Ok(()),
        }
    }

    /// Writes the noise of an encoder's distribution, for picture `number`.
    fn posterior(&self, number: u64, to: &mut [f32]) {
        let rows = self.posterior.as_ref().map(|p| p.data.chunks_exact(to.len().max(1)));
        if let Some(row) = rows.and_then(|mut rows| rows.nth(number as usize)) {
            to.copy_from_slice(row);
        }
    }

    fn source(&self) -> Result<Given<'_>> {
        Given::new(&self.x_t.data, self.noise.as_ref().map_or(&[], |n| &n.data), self.count(), 0)
    }
}

/// Runs a job. Whatever fails or is interrupted leaves no file.
pub fn generate(model: &mut ModelArgs, job: &Job) -> Result<Done> {
    let given = job.noise_file().map(GivenNoise::read).transpose()?;
    let in_noise = |e: Error| job.noise_file().iter().fold(e, |e, path| e.context(path.display()));
    // Before a large model is compiled for nothing.
    if !job.image.is_given() {
        part(job, given.as_ref(), None).map_err(in_noise)?;
    }

    let source = model.open()?;
    let image = job.image.open(model, &source)?;
    let pipeline = model.compile(&source)?;
    let pictures = image.map(|image| image.pictures(&pipeline)).transpose()?;
    let Part { total, first, count } = part(job, given.as_ref(), pictures.as_ref()).map_err(in_noise)?;
    let dims = pipeline.sample_dims();
    let given_beside = model.given(&pipeline)?;
    // Who says eta wants DDIM; a chain of 2015 says itself that it has none.
    let of_2015 = || pipeline.scheduler_for(None).is_ok_and(|c| c.class.has_own_class());
    let wanted = job.sampler.or_else(|| (job.eta.is_some() && !of_2015()).then_some(SamplerKind::Ddim));
    let config = model.scheduler(&pipeline, wanted)?;
    let sampler = config.sampler(&job.options(&config, wanted))?;
    let encodes = pipeline.encoder().is_some_and(Encoder::has_posterior);
    let images = pictures.as_ref().filter(|_| encodes).map(Pictures::count);
    if let Some(given) = &given {
        given.check(&dims, &sampler, images).map_err(in_noise)?;
    }
    let cancel = interrupt::install()?;
    let mut preview = Preview::new(job.preview.as_deref(), &pipeline)?;
    let mut codec = pipeline.codec()?;
    let data = codec.data_dims();
    let place = Place::new(&job.output, first, count, &data, &job.format)?;
    let trace_output = job.trace.as_deref().map(Output::create).transpose()?;

    let start = pictures.as_ref().map_or(Ok(0), |pictures| pictures.start(&sampler))?;
    let (steps, name) = (sampler.levels().len() - start, sampler.name());
    let shape = |outer: &[usize], dims: &Dims| [outer, dims.as_slice()].concat();
    let mut samples = Array::zeros("the samples", &shape(&[count], &data))?;
    let mut trace = match trace_output {
        Some(_) => Some(Array::zeros("the trace", &shape(&[steps + 1, count], &dims))?),
        None => None,
    };
    let batch = job.batch.min(count);
    let mut noise: Box<dyn NoiseSource + '_> = match &given {
        Some(given) => Box::new(given.source().map_err(in_noise)?),
        None => job.source(&config, &*sampler, start, [total, batch, dims.elements()], images)?,
    };

    let mut denoiser = given_beside.denoiser(&pipeline, batch)?;
    let batches = count.div_ceil(batch);
    let results = (samples.data.len() + trace.as_ref().map_or(0, |t| t.data.len())).saturating_mul(size_of::<f32>());
    let run = Run {
        pipeline: &pipeline,
        batch,
        batches,
        calls: steps,
        products: steps * job.variance_products,
        workspace: given_beside.workspace_bytes(&pipeline, batch)?.saturating_add(codec_bytes(&pipeline)?),
        results,
        less: "Fewer --steps or --count",
    };
    // How many calls there will be is not known of a sampler that chooses them.
    if let Some(&level) = sampler.levels().get(start).filter(|_| sampler.adaptive().is_none()) {
        tell(&run, &mut denoiser, level, cancel)?;
    }
    let evidence: Box<dyn Evidence> = match job.variance_products {
        0 => Box::new(NoEvidence),
        products => Box::new(OptimalVariance::new(products)?),
    };
    let n = dims.elements();
    let mut posterior = |number: u64, z: &mut [f32]| match &given {
        Some(given) => {
            given.posterior(number, z);
            Ok(())
        }
        None => noise.normal(number, ENCODER_DRAW, n, z),
    };
    let each = matches!(job.noise, Noise::Python { each: true, .. });
    let range = [first, count as u64];
    let pictures = pictures.map(|p| p.encode(&mut codec, range, each, &mut posterior, cancel)).transpose()?;
    let options = ChainOptions { batch, first_sample: first };
    let mut chain = Chain::with_evidence(denoiser, sampler, noise, evidence, &options)?;
    let bar = progress(batches * steps, preview.as_ref());
    let made = data.elements();
    let mut begun = Array::zeros("the pictures", &[if pictures.is_some() { batch } else { 0 }, n])?.data;
    for (i, out) in samples.data.chunks_mut(batch * made).enumerate() {
        let begin = i * batch;
        let (number, at_once) = (first + begin as u64, out.len() / made);
        match (&pictures, begun.get_mut(..at_once * n)) {
            (Some(pictures), Some(rows)) => {
                pictures.rows(number, rows);
                chain.start_from_data(start, rows, number)?;
            }
            _ => chain.restart(number, at_once)?,
        }
        let mut keep = |row: usize, x: &[f32]| {
            // Row `row` of the trace has all samples; a batch is a part of it.
            let at = (row * count + begin) * n;
            if let Some(to) = trace.as_mut().and_then(|t| t.data.get_mut(at..at + x.len())) {
                to.copy_from_slice(x);
            }
        };
        keep(0, chain.x());
        chain.run_with(cancel, |progress| {
            keep(progress.step + 1 - start, progress.x);
            Preview::show(&mut preview, progress.x0, progress.step + 1 == progress.steps);
            bar.inc(1);
            Flow::Continue
        })?;
        codec.decode(chain.x(), out, cancel)?;
    }
    bar.finish_and_clear();

    if let (Some(trace), Some(mut out)) = (&trace, trace_output) {
        write_safetensors_f32(&[("x_t", trace)], &mut out)?;
        out.finish()?;
    }
    place.write(&samples)?;
    Ok(Done { first, samples: count, dims: data, steps, sampler: name, device: pipeline.network().describe() })
}

/// What the decoder and the encoder of a latent model take.
fn codec_bytes(pipeline: &Pipeline) -> Result<usize> {
    let weights =
        [pipeline.decoder().map_or(0, |d| d.weight_bytes()), pipeline.encoder().map_or(0, |e| e.weight_bytes())];
    Ok(weights.into_iter().fold(pipeline.codec_bytes()?, usize::saturating_add))
}

/// The samples of this run.
struct Part {
    /// Those of all shards.
    total: usize,
    /// The number of the first.
    first: u64,
    /// How many this shard has.
    count: usize,
}

/// Which samples this run makes.
fn part(job: &Job, given: Option<&GivenNoise>, pictures: Option<&Pictures>) -> Result<Part> {
    let invalid = |text: String| Err(Error::new(ErrorKind::InvalidArgument, text));
    let total = match (job.count, given.map(GivenNoise::count)) {
        (Some(count), Some(there)) if count != there => {
            return invalid(format!("x_T has {there} samples, --count says {count}"));
        }
        (count, there) => there.or(count),
    };
    let several = pictures.map(Pictures::count).filter(|&n| n > 1);
    let total = total.or(several).unwrap_or(COUNT);
    if let Some(n) = several.filter(|&n| n != total) {
        return invalid(format!(
            "--image has {n} pictures, and there are {total} samples: give one picture, or one for each"
        ));
    }
    let (i, n) = job.shard;
    // Wide enough for any count and shard.
    let border = |i: usize| (total as u128 * i as u128 / n as u128) as usize;
    let (begin, end) = (border(i - 1), border(i));
    if begin == end {
        return invalid(format!("part {i} of {n} has none of the {total} samples"));
    }
    Ok(Part { total, first: begin as u64, count: end - begin })
}
