//! Which reverse chain carries the evidence.

use undiffuse::posterior::{Algorithm, Evidence, MethodKind};
use undiffuse::sampler::{
    Ancestral2015, DdimNoise, Ending2015, Jumps, Readout2015, Sampler, SamplerKind, SamplerOptions, SchedulerConfig,
    Steps,
};
use undiffuse::schedule::{Arithmetic, NoiseSchedule};
use undiffuse::{Error, ErrorKind, Result};

use super::method::{MethodArgs, OfDenoiser, SamplerName};
use super::operator::OperatorArgs;
use crate::args::{Args, Outcome, usage};

/// `--sampler`, `--steps` and `--eta`.
#[derive(Debug, Default)]
pub struct SamplingArgs {
    sampler: Option<SamplerName>,
    steps: Option<usize>,
    eta: Option<f64>,
}

impl SamplingArgs {
    /// Takes an option if it is one of these; its value is read from `args`.
    pub fn option(&mut self, name: &str, args: &mut Args) -> Outcome<bool> {
        match name {
            "sampler" => {
                self.sampler = Some(args.choice(&[
                    ("ddim", SamplerName::Ddim),
                    ("ddpm", SamplerName::Ddpm),
                    ("ancestral2015", SamplerName::Ancestral2015),
                    ("repaint", SamplerName::RePaint),
                ])?);
            }
            "steps" => self.steps = Some(args.number("a whole number", 1..=usize::MAX)?),
            "eta" => self.eta = Some(args.number("a number", 0.0..=1.0)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// `--steps`.
    pub fn steps(&self) -> Option<usize> {
        self.steps
    }

    /// The option that chooses another chain than the method's, if one was given.
    pub fn of_chain(&self) -> Option<&'static str> {
        self.sampler.map(|_| "sampler").or(self.eta.map(|_| "eta"))
    }

    /// Checks what concerns several options.
    pub fn check(&self, method: &MethodArgs, operator: &OperatorArgs) -> Outcome {
        if method.method.is_none() && (self.sampler.is_some() || self.steps.is_some() || self.eta.is_some()) {
            return usage!("--sampler, --steps and --eta are of a method; --method auto takes --calls");
        }
        if let (Some(of), Some(option)) = (method.of_denoiser, self.of_chain()) {
            return usage!("--method {} has a chain of its own: leave out --{option}", of.name());
        }
        if method.of_denoiser == Some(OfDenoiser::Mmse) && self.steps.is_some() {
            return usage!("--method mmse is one call: leave out --steps");
        }
        let own = [MethodKind::SplitGibbs, MethodKind::Daps, MethodKind::Sitcom]
            .into_iter()
            .find(|kind| method.method == Some(*kind));
        if let Some(kind) = own.filter(|_| self.sampler.is_some()) {
            return usage!("--method {kind} has a chain of its own: leave out --sampler");
        }
        let sampler = self.sampler.unwrap_or(SamplerName::of(method.recommended(operator).algorithm));
        if self.eta.is_some() && sampler != SamplerName::Ddim {
            return usage!("--eta is for --sampler ddim");
        }
        if self.eta.is_some() && method.method == Some(MethodKind::DiffPir) {
            return usage!("--eta is sqrt(zeta) with --method diffpir: give --zeta");
        }
        if let Some(option) = method.of_jumps().filter(|_| sampler != SamplerName::RePaint) {
            return usage!("--{option} is for --sampler repaint");
        }
        if self.steps.is_some() && sampler == SamplerName::Ancestral2015 {
            return usage!("--sampler ancestral2015 makes every training timestep: leave out --steps");
        }
        Ok(())
    }

    /// The sampler for a model with this scheduler. `evidence` is the method's, whose measurement split Gibbs's ladder
    /// follows from.
    pub fn build(
        &self,
        config: &SchedulerConfig,
        method: &MethodArgs,
        operator: &OperatorArgs,
        evidence: &dyn Evidence,
    ) -> Result<Box<dyn Sampler + Send + Sync>> {
        let usual = method.recommended(operator);
        let own = config.class;
        if let Algorithm::SplitGibbs(ladder) = evidence.recommended().algorithm {
            let steps = self.steps.or(usual.steps).map_or(Steps::All, Steps::Count);
            return Ok(Box::new(config.split_gibbs(&SamplerOptions { steps, ..SamplerOptions::default() }, &ladder)?));
        }
        if let Algorithm::DecoupledAnnealing { flow_steps } = usual.algorithm {
            let steps = self.steps.or(usual.steps).map(|n| n.min(config.num_train_timesteps));
            let options = SamplerOptions { steps: steps.map_or(Steps::All, Steps::Count), ..SamplerOptions::default() };
            return Ok(Box::new(config.decoupled_annealing(&options, flow_steps)?));
        }
        if let Algorithm::InputOptimization { gradient_steps } = usual.algorithm {
            let steps = self.steps.or(usual.steps).map(|n| n.min(config.num_train_timesteps));
            let options = SamplerOptions { steps: steps.map_or(Steps::All, Steps::Count), ..SamplerOptions::default() };
            return Ok(Box::new(config.input_optimization(&options, gradient_steps)?));
        }
        let sampler = self.sampler.unwrap_or(match own.has_own_class() {
            true => SamplerName::Ancestral2015,
            false => SamplerName::of(usual.algorithm),
        });
        if own.has_own_class() && sampler == SamplerName::Ancestral2015 {
            return self.all_steps(config, own);
        }
        let (eta, ddim_noise) = match usual.algorithm {
            Algorithm::Ddim { eta, noise } => (eta, noise),
            Algorithm::Ddpm
            | Algorithm::RePaint(_)
            | Algorithm::SplitGibbs(_)
            | Algorithm::DecoupledAnnealing { .. }
            | Algorithm::InputOptimization { .. } => (1.0, DdimNoise::Posterior),
        };
        // What is published for a thousand timesteps is all of them where a model has fewer.
        let most = config.num_train_timesteps;
        let mut options = SamplerOptions {
            steps: Steps::Count(self.steps.unwrap_or(usual.steps.map_or(most, |n| n.min(most)))),
            eta: self.eta.unwrap_or(eta),
            ddim_noise,
            ..SamplerOptions::default()
        };
        match sampler {
            SamplerName::Ddim => options.sampler = Some(SamplerKind::Ddim),
            SamplerName::Ddpm
            | SamplerName::SplitGibbs
            | SamplerName::DecoupledAnnealing
            | SamplerName::InputOptimization => options.sampler = Some(SamplerKind::Ddpm),
            SamplerName::RePaint => {
                let jumps = match usual.algorithm {
                    Algorithm::RePaint(jumps) => jumps,
                    _ => Jumps::default(),
                };
                return Ok(Box::new(config.repaint(&options, method.jumps(jumps))?));
            }
            SamplerName::Ancestral2015 => {
                if config.preconditioning.is_some() {
                    let text = "ancestral2015 with a network behind a preconditioning, expected another sampler";
                    return Err(Error::new(ErrorKind::Unsupported, text));
                }
                let schedule = NoiseSchedule::new(&config.betas(), Arithmetic::Float64)?;
                let readout = Readout2015::Prediction(config.prediction_type);
                return Ok(Box::new(Ancestral2015::new(&schedule, readout, Ending2015::Mean)?));
            }
        }
        config.sampler(&options)
    }

    /// The chain of a model of 2015, which has no other.
    fn all_steps(&self, config: &SchedulerConfig, own: SamplerKind) -> Result<Box<dyn Sampler + Send + Sync>> {
        if self.steps.is_some() || self.eta.is_some() {
            let text = "the model is of 2015 and makes every training timestep: leave out --steps and --eta";
            return Err(Error::new(ErrorKind::InvalidArgument, text));
        }
        config.sampler(&SamplerOptions { sampler: Some(own), ..SamplerOptions::default() })
    }
}
