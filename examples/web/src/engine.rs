//! The state behind the exports.

use undiffuse::backend::cpu::Cpu;
use undiffuse::chain::{Chain, ChainOptions, Status, never};
use undiffuse::denoiser::{Call, Denoiser, NetworkDenoiser};
use undiffuse::noise::{NoiseSource, Seeded};
use undiffuse::pipeline::{Gradient, Pipeline, PipelineOptions};
use undiffuse::posterior::operator::{Identity, LinearOperator, Mask};
use undiffuse::posterior::{Calibrated, Ddrm, Evidence, Measurement, NoEvidence};
use undiffuse::sampler::{Sampler, SamplerKind, SamplerOptions, Steps};
use undiffuse::schedule::Level;
use undiffuse::tensor::Dims;
use undiffuse::{Error, ErrorKind, Result};

use crate::task::{Method, Task};

type BoxedSampler = Box<dyn Sampler + Send + Sync>;
type Run = Chain<'static, NetworkDenoiser, BoxedSampler, Seeded, Box<dyn Evidence>>;

/// One model and one run.
#[derive(Default)]
pub struct Engine {
    bytes: Vec<u8>,
    values: Vec<f32>,
    pub text: String,
    pipeline: Option<Pipeline>,
    run: Option<Run>,
    /// Of `predict`, which has no run: the denoiser, its batch, and what it said.
    predictor: Option<(NetworkDenoiser, usize)>,
    prediction: Vec<f32>,
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}

fn refused(what: &str, n: usize) -> Error {
    Error::new(ErrorKind::OutOfMemory, format!("no memory for {what} of {n} values"))
}

impl Engine {
    pub fn room_for_bytes(&mut self, n: usize) -> Option<&mut [u8]> {
        self.bytes.clear();
        self.bytes.try_reserve_exact(n).ok()?;
        self.bytes.resize(n, 0);
        Some(&mut self.bytes)
    }

    pub fn room_for_values(&mut self, n: usize) -> Option<&mut [f32]> {
        self.values.clear();
        self.values.try_reserve_exact(n).ok()?;
        self.values.resize(n, 0.0);
        Some(&mut self.values)
    }

    pub fn load(&mut self, gradient: bool) -> Result<()> {
        (self.pipeline, self.run, self.predictor) = (None, None, None);
        let bytes = std::mem::take(&mut self.bytes);
        let cpu = Cpu::new()?;
        let options = PipelineOptions { gradient: Gradient::from(gradient), ..PipelineOptions::default() };
        let pipeline = Pipeline::from_bytes(&bytes, &cpu, &options)?;
        let dims = pipeline.sample_dims();
        self.text = format!(
            r#"{{"dims": {:?}, "parameters": {}, "classLen": {}, "weightBytes": {}, "path": "{}"}}"#,
            dims.as_slice(),
            pipeline.parameter_count(),
            pipeline.class_len(),
            pipeline.weight_bytes(),
            cpu.path()
        );
        self.pipeline = Some(pipeline);
        Ok(())
    }

    pub fn begin(&mut self) -> Result<()> {
        self.run = None;
        self.prediction = Vec::new();
        let task: Task = serde_json::from_slice(&self.bytes).map_err(|e| invalid(format!("the task: {e}")))?;
        let pipeline = self.pipeline.as_ref().ok_or_else(no_model)?;
        let dims = pipeline.sample_dims();
        let n = dims.elements();
        let (image, mask) = self.values.split_at(n.min(self.values.len()));
        let run = match &task {
            Task::Sample { sampler, steps, eta, classes, seed, count } => {
                let sampler = plain_sampler(pipeline, sampler.as_deref(), *steps, *eta)?;
                new_run(pipeline, classes, sampler, *seed, *count, Box::new(NoEvidence))?
            }
            Task::Denoise { sigma, method, classes, seed, count } => {
                check_picture(image, dims)?;
                if !mask.is_empty() {
                    return Err(invalid(format!("the picture has {} values, expected {n}", self.values.len())));
                }
                let seen = Measurement::new(Identity::new(dims)?, image, *sigma)?;
                restored(pipeline, *method, seen, classes, *seed, *count)?
            }
            Task::Inpaint { sigma, method, classes, seed, count } => {
                check_picture(image, dims)?;
                let known: Vec<bool> = mask.iter().map(|v| *v != 0.0).collect();
                let mask = Mask::new(dims, &known)?;
                let y: Vec<f32> = mask.known().iter().filter_map(|&i| image.get(i).copied()).collect();
                restored(pipeline, *method, Measurement::new(mask, &y, *sigma)?, classes, *seed, *count)?
            }
        };
        self.run = Some(run);
        Ok(())
    }

    pub fn step(&mut self) -> Result<()> {
        let run = self.run.as_mut().ok_or_else(|| invalid("no task was begun".into()))?;
        if run.status() == Status::Running {
            run.step_with(never())?;
        }
        Ok(())
    }

    pub fn predict(&mut self, samples: usize, timestep: f64) -> Result<()> {
        self.run = None;
        let pipeline = self.pipeline.as_ref().ok_or_else(no_model)?;
        let predictor = match &mut self.predictor {
            Some((denoiser, batch)) if *batch == samples => denoiser,
            other => &mut other.insert((pipeline.denoiser(samples, &[])?, samples)).0,
        };
        let n = samples.checked_mul(predictor.output_len()).unwrap_or(usize::MAX);
        if self.prediction.len() != n {
            self.prediction.clear();
            self.prediction.try_reserve_exact(n).map_err(|_| refused("a prediction", n))?;
            self.prediction.resize(n, 0.0);
        }
        let call = Call { level: Level { timestep, ..Level::CLEAN }, first_sample: 0, cancel: never() };
        predictor.predict(&call, &self.values, &mut self.prediction)
    }

    pub fn x(&self) -> &[f32] {
        self.run.as_ref().map_or(&self.prediction, Chain::x)
    }

    pub fn x0(&self) -> &[f32] {
        self.run.as_ref().map_or(&self.prediction, Chain::x0)
    }

    pub fn position(&self) -> usize {
        self.run.as_ref().map_or(0, Chain::position)
    }

    pub fn steps(&self) -> usize {
        self.run.as_ref().map_or(0, Chain::steps)
    }
}

fn no_model() -> Error {
    invalid("no model was loaded".into())
}

fn check_picture(image: &[f32], dims: Dims) -> Result<()> {
    if image.len() == dims.elements() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Shape, format!("the picture has {} values, expected {dims}", image.len())))
}

fn plain_sampler(pipeline: &Pipeline, name: Option<&str>, steps: Option<usize>, eta: f64) -> Result<BoxedSampler> {
    let kind = match name {
        None => None,
        Some(name) => {
            let found = SamplerKind::NAMES.iter().find(|(n, _)| *n == name).map(|(_, kind)| *kind);
            Some(found.ok_or_else(|| {
                let names: Vec<&str> = SamplerKind::NAMES.iter().map(|(n, _)| *n).collect();
                invalid(format!("the sampler \"{name}\" is unknown, expected one of {}", names.join(", ")))
            })?)
        }
    };
    let config = pipeline.scheduler_for(kind)?;
    let usual = SamplerOptions::default_for(&config, kind);
    let steps = steps.map_or(usual.steps.clone(), Steps::Count);
    config.sampler(&SamplerOptions { steps, eta, ..usual })
}

fn new_run(
    pipeline: &Pipeline,
    classes: &[f32],
    sampler: BoxedSampler,
    seed: u64,
    count: usize,
    evidence: Box<dyn Evidence>,
) -> Result<Run> {
    let denoiser = pipeline.denoiser(count, classes)?;
    let options = ChainOptions { batch: count, first_sample: 0 };
    Chain::with_evidence(denoiser, sampler, Seeded::new(seed), evidence, &options)
}

fn restored<O: LinearOperator + Clone + 'static>(
    pipeline: &Pipeline,
    method: Method,
    seen: Measurement<O>,
    classes: &[f32],
    seed: u64,
    count: usize,
) -> Result<Run> {
    let config = pipeline.scheduler()?;
    match method {
        Method::Ddrm => {
            let ddrm = Ddrm::new(seen, 1.0)?;
            let sampler = ddrm.recommended().sampler(&config)?;
            let first = sampler.levels().first().copied();
            let mut run = new_run(pipeline, classes, sampler, seed, count, Box::new(ddrm.clone()))?;
            let Some(level) = first else { return Ok(run) };
            // The paper's x_T, which knows the picture already.
            let n = pipeline.sample_dims().elements();
            let mut x = run.x().to_vec();
            Seeded::new(seed).normal(0, 0, n, &mut x)?;
            ddrm.start(&level, 0, &mut x)?;
            run.start_from(0, &x, 0)?;
            Ok(run)
        }
        Method::Calibrated => {
            let evidence = Calibrated::new(seen, 2)?;
            let sampler = evidence.recommended().sampler(&config)?;
            new_run(pipeline, classes, sampler, seed, count, Box::new(evidence))
        }
    }
}
