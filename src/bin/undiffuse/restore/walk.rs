//! A chain that begins at a picture, in the memory of the picture and its prediction.
//!
//! What [`undiffuse::chain::Chain`] does, bit by bit, where samples come one at a time and a step that fails or is
//! cancelled ends the run: so x may be changed in its place, and what a step makes besides x_0 a part at a time.

use undiffuse::denoiser::{Call, Denoiser};
use undiffuse::noise::Stream;
use undiffuse::posterior::{At, Jacobian};
use undiffuse::sampler::{Estimate, Plan, Sampler, add_noise};
use undiffuse::{Cancel, Error, ErrorKind, Result};

/// Values that a step takes on at once.
const PIECE: usize = 1 << 14;

/// Evidence of methods that ask for no product.
pub struct NoProducts;

impl Jacobian for NoProducts {
    fn vjp(&mut self, _: &[f32], _: &mut [f32]) -> Result<()> {
        Err(Error::new(ErrorKind::Unsupported, "a product of a network in tiles"))
    }
}

/// What a walk changes.
pub struct Buffers<'a> {
    /// x_t of the first level, and in the end the sample: one picture.
    pub x: &'a mut [f32],
    /// As long.
    pub x0: &'a mut [f32],
    /// As long as a part.
    pub eps: &'a mut [f32],
}

/// Which run it is.
pub struct Run<'a> {
    /// The steps, which keep no history.
    pub plan: &'a Plan,
    /// The seed of their noise.
    pub seed: u64,
    /// The number of the sample.
    pub number: u64,
    /// The flag that stops it.
    pub cancel: &'a Cancel,
}

/// Values of memory that a walk takes beside its buffers.
pub const MEMORY: usize = 3 * PIECE;

fn finite(values: &[f32], step: usize, plan: &Plan) -> Result<()> {
    if values.iter().all(|v| v.is_finite()) {
        return Ok(());
    }
    let text = format!("step {} of {} gave NaN or infinity", step + 1, plan.levels().len());
    Err(Error::new(ErrorKind::NonFinite, text))
}

/// Makes all steps. `act` is what evidence does to x_0 and eps of a part, whose number it is given.
pub fn walk<D: Denoiser>(
    denoiser: &mut D,
    run: &Run<'_>,
    buffers: Buffers<'_>,
    mut act: impl FnMut(&At, usize, &[f32], &mut [f32], &mut [f32]) -> Result<()>,
) -> Result<()> {
    let Run { plan, seed, number, cancel } = *run;
    let Buffers { x, x0, eps } = buffers;
    let part = eps.len().max(1);
    let mut memory = vec![0.0f32; MEMORY];
    let (mean, rest) = memory.split_at_mut(PIECE);
    let (noise, output) = rest.split_at_mut(PIECE);
    for (step, level) in plan.levels().iter().enumerate() {
        cancel.check()?;
        if plan.input_scale(step) != 1.0 || plan.state_len(1) != 0 {
            return Err(Error::new(ErrorKind::Unsupported, "a chain that scales x or keeps a history"));
        }
        let call = Call { level: *level, first_sample: number, cancel };
        denoiser.predict(&call, x, x0)?;
        finite(x0, step, plan)?;
        let target = plan.target(step)?;
        let at = At {
            step,
            steps: plan.levels().len(),
            level: *level,
            target,
            first_sample: 0,
            sample_len: part,
            range: None,
        };
        let mut stream = Stream::new(seed, number, step as u64 + 1);
        for (k, (x, x0)) in x.chunks_mut(part).zip(x0.chunks_mut(part)).enumerate() {
            let eps = eps.get_mut(..x.len()).unwrap_or(&mut []);
            for ((x, x0), eps) in x.chunks(PIECE).zip(x0.chunks_mut(PIECE)).zip(eps.chunks_mut(PIECE)) {
                let output = output.get_mut(..x.len()).unwrap_or(&mut []);
                output.copy_from_slice(x0);
                plan.predict(step, x, output, x0, eps)?;
            }
            act(&at, k, x, x0, eps)?;
            for ((x, x0), eps) in x.chunks_mut(PIECE).zip(x0.chunks(PIECE)).zip(eps.chunks(PIECE)) {
                let n = x.len();
                let (Some(mean), Some(noise), Some(output)) =
                    (mean.get_mut(..n), noise.get_mut(..n), output.get_mut(..n))
                else {
                    continue;
                };
                plan.mean(step, step, Estimate { x, x0, eps }, &[], &mut [], mean)?;
                if plan.needs_noise(step) {
                    noise.fill_with(|| stream.normal() as f32);
                }
                add_noise(plan.spread(step, n, output)?, output, noise, mean)?;
                x.copy_from_slice(mean);
            }
        }
        finite(x, step, plan)?;
    }
    Ok(())
}
