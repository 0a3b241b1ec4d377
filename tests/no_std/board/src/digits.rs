//! The digits of `pretrained`: a sample, a denoise, an inpaint; instructions of one call of their network.

use alloc::format;
use alloc::vec;

use undiffuse::Result;
use undiffuse::backend::cpu::{Cpu, WeightType};
use undiffuse::chain::never;
use undiffuse::denoiser::{Call, Denoiser, NetworkDenoiser};
use undiffuse::noise::{NoiseSource, Seeded};
use undiffuse::pipeline::{Gradient, Pipeline, PipelineOptions, Precision};
use undiffuse::posterior::operator::{Identity, LinearOperator, Mask};
use undiffuse::posterior::{Calibrated, Ddnm, Measurement, NoEvidence};
use undiffuse::sampler::Sampler;
use undiffuse::{Error, ErrorKind};

use crate::samples::{InFlash, Run, ddim};

static DIGITS: &InFlash<[u8]> = &InFlash(*include_bytes!("../../../../pretrained/digits.safetensors"));

impl Run<'_> {
    /// A digit; the digit out of noise; the digit from its upper half.
    pub fn digits(&mut self, backend: &Cpu) -> Result<()> {
        let options = PipelineOptions { gradient: Gradient::Full, ..PipelineOptions::default() };
        let pipeline = Pipeline::from_bytes(&DIGITS.0, backend, &options)?;
        let dims = pipeline.sample_dims();
        self.network("digit", &pipeline, &ddim(&pipeline, 2)?, NoEvidence, 1)?;
        let digit = self.made.last().cloned().unwrap_or_default();

        let mut noisy = vec![0.0; digit.len()];
        Seeded::new(4).normal(0, 0, digit.len(), &mut noisy)?;
        noisy.iter_mut().zip(&digit).for_each(|(z, x)| *z = x + 0.6 * *z);
        let seen = Measurement::new(Identity::new(dims)?, &noisy, 0.6)?;
        self.network(
            "denoised",
            &pipeline,
            &ddim(&pipeline, 2)?,
            Calibrated::new(seen, 1)?.with_variance_products(0)?,
            1,
        )?;

        let upper = Mask::without_box(dims, 14, 0, 14, 28)?;
        let mut half = vec![0.0; upper.output_dims().elements()];
        upper.apply(&digit, &mut half, &mut vec![0.0; upper.scratch_len()])?;
        self.network("inpainted", &pipeline, &ddim(&pipeline, 2)?, Ddnm::new(Measurement::exact(upper, &half)?)?, 1)
    }

    /// Instructions of one call of the network of the digits, and a sample with such weights.
    pub fn count(&mut self, weights: WeightType, precision: Precision, backend: &Cpu) -> Result<()> {
        let options = PipelineOptions { precision, ..PipelineOptions::default() };
        let pipeline = Pipeline::from_bytes(&DIGITS.0, backend, &options)?;
        let name = match precision {
            Precision::F32 => weights.name().into(),
            other => format!("{} weights and {} arithmetic", weights.name(), other.name()),
        };
        let sampler = ddim(&pipeline, 2)?;
        if weights != WeightType::F32 {
            self.network(&format!("digit, {name}"), &pipeline, &sampler, NoEvidence, 1)?;
        }
        if precision != Precision::F32 {
            // Paths round in another order, and then a value near the middle of two integers becomes either: how far
            // their samples are apart says nothing.
            self.made.pop();
        }
        let len = NetworkDenoiser::<&mut [f32]>::memory_len(pipeline.networks(), 1)?;
        let mut denoiser = pipeline.denoiser_in_memory(1, &[], &mut *self.arena)?;
        let (x, mut out) = (vec![0.5; 784], vec![0.0; 784]);
        let level = *sampler.levels().first().ok_or_else(|| Error::new(ErrorKind::Config, "no step"))?;
        let before = self.board.instructions();
        denoiser.predict(&Call { level, first_sample: 0, cancel: never() }, &x, &mut out)?;
        if let (Some(before), Some(after)) = (before, self.board.instructions()) {
            let (count, flops) = (after - before, pipeline.flops());
            let each = count as f64 / flops as f64;
            let text = format!(
                "# {}: one call of the digits, {name}: {count} instructions, {each:.2} for each of {flops} operations; \
                 weights {} bytes, workspace {} bytes\n",
                self.path,
                pipeline.weight_bytes(),
                4 * len
            );
            self.board.print(&text);
        }
        Ok(())
    }
}
