//! Where a run begins that begins at data, and how noisy it makes them: image to image.

use super::{Sampler, StateSpace};
use crate::error::{Result, ensure};
use crate::schedule::Level;

/// Whether noise to signal does not rise from `a` to `b`; to rounding.
fn falls(a: f64, b: f64) -> bool {
    b <= a * (1.0 + 1e-6)
}

/// The step at which a run of a `strength` begins, from 0; to be given to
/// [`Chain::start_from_data`](crate::chain::Chain::start_from_data).
///
/// Of N steps of the sampler, which an inner stage is not one of ([`Sampler::settles`]), the last
/// min(int(N strength), N) are run, as `get_timesteps` of diffusers' `StableDiffusionImg2ImgPipeline` has it; the
/// product is a double. Strength 1 runs all of them, and begins at the level of the first: what little signal that
/// level has is the data's. (diffusers' pipelines of flows, as `StableDiffusion3Img2ImgPipeline`, round the number of
/// steps up; its `LCMScheduler` spreads N timesteps below the strength instead, which is a list of timesteps here.)
///
/// Errors: kind `InvalidArgument` for a strength that is not above 0 and at most 1, and where it leaves no step; kind
/// `Unsupported` for samplers of bits and classes, and for those whose noise rises on the way: of an inversion, or of a
/// schedule that goes back.
///
/// ```
/// use undiffuse::sampler::{Sampler, SamplerKind, SamplerOptions, SchedulerConfig, Steps, start_of_strength};
///
/// let options = SamplerOptions { steps: Steps::Count(20), ..Default::default() };
/// let ddim = SchedulerConfig::new(SamplerKind::Ddim).sampler(&options)?;
/// assert_eq!(start_of_strength(&ddim, 0.3)?, 14);
/// // Two calls a step, one for the last: the last 6 of 20 steps are 11 of 39 calls.
/// let heun = SchedulerConfig::new(SamplerKind::Heun).sampler(&options)?;
/// assert_eq!((heun.levels().len(), start_of_strength(&heun, 0.3)?), (39, 28));
/// # Ok::<(), undiffuse::Error>(())
/// ```
pub fn start_of_strength<S: Sampler + ?Sized>(sampler: &S, strength: f64) -> Result<usize> {
    ensure!(
        strength > 0.0 && strength <= 1.0,
        InvalidArgument,
        "the strength is {strength}, expected above 0 and at most 1"
    );
    let calls = sampler.levels().len();
    let starts = || (0..calls).filter(|&step| step == 0 || sampler.settles(step - 1));
    let (mut steps, mut before) = (0usize, f64::INFINITY);
    for step in starts() {
        let noise = level_of_start(sampler, step)?.noise_to_signal();
        ensure!(
            falls(before, noise),
            Unsupported,
            "the noise of {} rises at step {step}, so that a strength says nothing of how much of the data stays: give \
             the step itself",
            sampler.name()
        );
        (steps, before) = (steps.saturating_add(1), noise);
    }
    let run = ((steps as f64 * strength) as usize).min(steps);
    ensure!(
        run > 0,
        InvalidArgument,
        "of {steps} steps a strength of {strength:?} runs none, expected at least {}",
        1.0 / steps as f64
    );
    starts().nth(steps - run).ok_or_else(|| crate::error::err!(InvalidArgument, "{} has no steps", sampler.name()))
}

/// Checks that a run may begin at step `step`, or be done with the number of steps.
///
/// Errors: kind `InvalidArgument` for a step that there is not or that an inner stage leads to.
pub(crate) fn check_start<S: Sampler + ?Sized>(sampler: &S, step: usize) -> Result<()> {
    let steps = sampler.levels().len();
    ensure!(step <= steps, InvalidArgument, "cannot start from step {step}, there are {steps}");
    ensure!(
        step == 0 || sampler.settles(step - 1),
        InvalidArgument,
        "cannot start from step {step}, which finishes what the step before it began"
    );
    Ok(())
}

/// The level of x at the start of step `step`, at which data are to be noised; of the result after the last.
///
/// Errors: as [`check_start`]; kind `Unsupported` for samplers of bits and classes, and for a run that leads to more
/// noise than it starts from.
pub(crate) fn level_of_start<S: Sampler + ?Sized>(sampler: &S, step: usize) -> Result<Level> {
    let (name, levels) = (sampler.name(), sampler.levels());
    let elements = match sampler.space() {
        StateSpace::Real => "",
        StateSpace::Bits { .. } => "bits",
        StateSpace::Classes { .. } => "classes",
    };
    ensure!(
        elements.is_empty(),
        Unsupported,
        "{name} makes {elements}, which no Gaussian noise is added to: a start from data is for samplers of real values"
    );
    check_start(sampler, step)?;
    let end = sampler.target(levels.len().saturating_sub(1))?;
    let level = levels.get(step).copied().unwrap_or(end);
    ensure!(
        falls(level.noise_to_signal(), end.noise_to_signal()),
        Unsupported,
        "{name} leads from data to noise, and takes data without noise as the x of step 0"
    );
    Ok(level)
}
