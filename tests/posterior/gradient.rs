//! DPS's gradient through a network against PyTorch's autograd: `tests/golden/make_gradient.py`.

use crate::golden;
use crate::pcg;
use undiffuse::backend::Backend;
use undiffuse::backend::cpu::Cpu;
use undiffuse::backend::reference::Reference;
use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::noise::Seeded;
use undiffuse::pipeline::{Gradient, PipelineOptions, Source};
use undiffuse::posterior::operator::BlockAverage;
use undiffuse::posterior::{At, Dps, Evidence, Jacobian, Kernel, Measurement, Misfit};
use undiffuse::sampler::{SamplerOptions, Spread};
use undiffuse::schedule::Arithmetic;
use undiffuse::tensor::Dims;
use undiffuse::weights::SafeTensorsView;

const BOUND: f64 = 1e-4;

/// DPS, with what it adds to the mean of a step written down.
struct Watched {
    dps: Dps<BlockAverage>,
    added: Vec<f32>,
}

impl Evidence for Watched {
    fn name(&self) -> &str {
        self.dps.name()
    }
    fn scratch_len(&self, dims: Dims, batch: usize) -> usize {
        self.dps.scratch_len(dims, batch)
    }
    fn needs_vjp(&self) -> bool {
        true
    }
    fn estimate(
        &mut self,
        at: &At,
        x: &[f32],
        x0: &mut [f32],
        eps: &mut [f32],
        jacobian: &mut dyn Jacobian,
        scratch: &mut [f32],
    ) -> undiffuse::Result<()> {
        self.dps.estimate(at, x, x0, eps, jacobian, scratch)
    }
    fn kernel(&mut self, at: &At, x: &[f32], _: Kernel<'_>, scratch: &mut [f32]) -> undiffuse::Result<()> {
        self.added = vec![0.0; x.len()];
        let mean = &mut self.added;
        let alone = Kernel { mean, noise: &mut [], spread: Spread::None, stds: &mut [], std_stride: 0 };
        self.dps.kernel(at, x, alone, scratch)
    }
    fn fingerprint(&self) -> u64 {
        self.dps.fingerprint()
    }
}

fn check(backend: &dyn Backend) {
    let json = golden::json("unet.json");
    let shape: Vec<usize> =
        json["chain"]["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect();
    let (samples, n) = (shape[0], shape[1..].iter().product::<usize>());
    let bytes = std::fs::read(golden::path("chain_weights.safetensors")).unwrap();
    let weights = Box::new(SafeTensorsView::parse(&bytes).unwrap());
    let scheduler = Some(r#"{"_class_name": "DDPMScheduler", "clip_sample": false}"#.to_string());
    let source = Source::new(json["chain"]["config"].to_string(), scheduler, weights).unwrap();
    let pipeline =
        source.compile(backend, &PipelineOptions { gradient: Gradient::Full, ..Default::default() }).unwrap();
    let arithmetic = Arithmetic::Float64;
    let sampler = pipeline.sampler(&SamplerOptions { arithmetic, ..Default::default() }).unwrap();

    let op = BlockAverage::new(Dims::new(&shape[1..]).unwrap(), 2).unwrap();
    let seen = Measurement::exact(op, &pcg::uniform(32, 0, n / 4, 0.8)).unwrap();
    let watched = Watched { dps: Dps::new(seen, 1.0, Misfit::Gaussian).unwrap(), added: Vec::new() };
    let denoiser = pipeline.denoiser(samples, &[]).unwrap();
    let options = ChainOptions { batch: samples, ..Default::default() };
    let mut chain = Chain::with_evidence(denoiser, sampler, Seeded::new(0), watched, &options).unwrap();
    let stored = std::fs::read(golden::path("gradient.safetensors")).unwrap();
    for t in [900, 300, 20] {
        let x = pcg::uniform(31, t, samples * n, golden::ROOT_3);
        chain.start_from(999 - t as usize, &x, 0).unwrap();
        chain.step().unwrap();
        // The step goes down the gradient.
        let got: Vec<f32> = chain.evidence().added.iter().map(|v| -v).collect();
        let error = golden::relative_l2(&got, &golden::stored(&stored, &format!("gradient.{t}")));
        println!("{}: timestep {t}: {error:.1e}", backend.name());
        assert!(error <= BOUND, "{} at timestep {t}: {error:e}", backend.name());
    }
}

#[test]
fn the_gradient_is_autograds() {
    check(&Reference);
    check(&Cpu::new().unwrap());
}
