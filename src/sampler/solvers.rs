//! The one table of samplers: names, and what makes each from a configuration.

use super::setup::Setup;
use super::{
    Compat, DdimOptions, DdimPrevious, Plan, SamplerKind, Steps, consistency, ddim, ddim_inverse, ddpm, deis,
    dpm_solver, edm, euler, flow, heun, karras_ve, kdpm2, lms, pndm, sa_solver, score_sde, unipc,
};
use crate::error::{Result, err};

/// A sampler.
pub(super) struct Solver {
    pub kind: SamplerKind,
    /// On the command line.
    pub name: &'static str,
    /// From a configuration of the sampler's own class.
    pub build: fn(&Setup<'_>) -> Result<Plan>,
}

const fn row(kind: SamplerKind, name: &'static str, build: fn(&Setup<'_>) -> Result<Plan>) -> Solver {
    Solver { kind, name, build }
}

/// All samplers. The order is that of the lists people see.
pub(super) const SOLVERS: [Solver; 35] = [
    row(SamplerKind::Ddpm, "ddpm", |s| ddpm(&s.schedule()?, &s.timesteps()?, s.prediction(), s.config.variance_type)),
    row(SamplerKind::Ddim, "ddim", |s| {
        let previous = match s.options.steps {
            Steps::Timesteps(_) => DdimPrevious::NextTimestep,
            _ if s.options.compat == Compat::Fixed => DdimPrevious::NextTimestep,
            _ => s.options.ddim_previous,
        };
        let set_alpha_to_one = s.config.set_alpha_to_one;
        let options = DdimOptions { eta: s.options.eta, noise: s.options.ddim_noise, set_alpha_to_one, previous };
        ddim(&s.schedule()?, &s.timesteps()?, s.prediction(), options)
    }),
    row(SamplerKind::Ancestral2015, "ancestral2015", no_list),
    row(SamplerKind::Bits2015, "bits2015", no_list),
    row(SamplerKind::DdimInverse, "ddim-inverse", ddim_inverse::build),
    row(SamplerKind::DpmSolverMultistep, "dpmsolver++", dpm_solver::multistep),
    row(SamplerKind::DpmSolverInverse, "dpmsolver++-inverse", dpm_solver::inverse),
    row(SamplerKind::DpmSolverSinglestep, "dpmsolver-singlestep", dpm_solver::singlestep),
    row(SamplerKind::DpmSolverSde, "dpmsolver-sde", dpm_solver::sde),
    row(SamplerKind::UniPc, "unipc", unipc::build),
    row(SamplerKind::Deis, "deis", deis::build),
    row(SamplerKind::SaSolver, "sa-solver", sa_solver::build),
    row(SamplerKind::Euler, "euler", euler::build),
    row(SamplerKind::EulerAncestral, "euler-ancestral", euler::build_ancestral),
    row(SamplerKind::Heun, "heun", heun::build),
    row(SamplerKind::Kdpm2, "kdpm2", kdpm2::build),
    row(SamplerKind::Kdpm2Ancestral, "kdpm2-ancestral", kdpm2::build_ancestral),
    row(SamplerKind::Lms, "lms", lms::build),
    row(SamplerKind::Pndm, "pndm", pndm::build),
    row(SamplerKind::Ipndm, "ipndm", pndm::build_improved),
    row(SamplerKind::EdmEuler, "edm-euler", edm::build_euler),
    row(SamplerKind::EdmHeun, "edm-heun", edm::build_heun),
    row(SamplerKind::EdmDpmSolver, "edm-dpmsolver++", edm::build_multistep),
    row(SamplerKind::CosineDpmSolver, "cosine-dpmsolver++", edm::build_cosine),
    row(SamplerKind::KarrasVe, "karras-ve", karras_ve::build),
    row(SamplerKind::ScoreSdeVe, "score-sde-ve", score_sde::build_ve),
    row(SamplerKind::ScoreSdeVp, "score-sde-vp", score_sde::build_vp),
    row(SamplerKind::Rk45, "rk45", no_list),
    row(SamplerKind::D3pm, "d3pm", no_list),
    row(SamplerKind::Lcm, "lcm", consistency::build_lcm),
    row(SamplerKind::Tcd, "tcd", consistency::build_tcd),
    row(SamplerKind::Cm, "cm", consistency::build_cm),
    row(SamplerKind::FlowEuler, "flow-euler", flow::build_euler),
    row(SamplerKind::FlowHeun, "flow-heun", flow::build_heun),
    row(SamplerKind::FlowLcm, "flow-lcm", flow::build_lcm),
];

/// The chains of 2015 and of classes, and adaptive samplers, are no plans: `SchedulerConfig::sampler` makes them before
/// it looks here.
fn no_list(setup: &Setup<'_>) -> Result<Plan> {
    Err(err!(Unsupported, "{} is no list of calls", setup.config.class.class_name()))
}
