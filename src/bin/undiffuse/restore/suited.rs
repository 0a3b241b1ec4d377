//! Whether a method goes with a model's chain; if not, which do.

use undiffuse::posterior::{Evidence, MethodKind};
use undiffuse::sampler::{Sampler, SchedulerConfig};
use undiffuse::tensor::Dims;
use undiffuse::{Error, Result};

use super::method::MethodArgs;
use super::operator::Operator;
use super::run::Job;

/// What a run is made of but for the method.
pub struct Setting<'a> {
    /// What was asked for.
    pub job: &'a Job,
    /// The model's chain.
    pub scheduler: &'a SchedulerConfig,
    /// A.
    pub operator: &'a Operator,
    /// The dimensions of a sample.
    pub dims: Dims,
    /// The measurements, in the model's units.
    pub rows: &'a [f32],
    /// Whether each sample has one of its own.
    pub each: bool,
    /// The noise, in the model's units.
    pub sigma: f64,
}

/// Checks evidence against the sampler that it will act on. Errors name the methods that go with the model, the
/// operator and the options.
pub fn check(setting: &Setting<'_>, evidence: &dyn Evidence, sampler: &dyn Sampler) -> Result<()> {
    let Err(e) = evidence.check(setting.dims, sampler) else { return Ok(()) };
    let e = e.context(format_args!("--method {}", setting.job.method.name()));
    let others: Vec<&str> =
        MethodKind::NAMES.iter().filter(|(_, m)| goes(setting, *m)).map(|(name, _)| *name).collect();
    if others.is_empty() {
        return Err(e);
    }
    Err(Error::new(e.kind(), format!("{e}: take --method {}", others.join(", "))))
}

/// Whether a method with its usual options would run.
pub fn goes(setting: &Setting<'_>, method: MethodKind) -> bool {
    let Setting { job, scheduler, operator, dims, rows, each, sigma } = setting;
    let args = MethodArgs::of(method);
    if args.check(&job.operator, Some(job.sigma)).is_err() || job.sampling.check(&args, &job.operator).is_err() {
        return false;
    }
    let Ok(prepared) = args.prepare(operator, args.zeta(&job.operator), rows, *each, *sigma) else { return false };
    let sampler = job.sampling.build(scheduler, &args, &job.operator, &prepared.evidence);
    sampler.is_ok_and(|sampler| prepared.evidence.check(*dims, &sampler).is_ok())
}
