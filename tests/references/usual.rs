//! What runs where nothing is chosen: every sampler over sigmas, chosen by name, stays in the range of the samples, and
//! what a file says stands. `examples/samplers/README.md` has what was measured.

use undiffuse::backend::cpu::Cpu;
use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::noise::Seeded;
use undiffuse::pipeline::{Pipeline, PipelineOptions};
use undiffuse::sampler::{Compat, SamplerKind, SamplerOptions, SchedulerConfig, Sigmas, Steps};

fn digits() -> Pipeline {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/pretrained/digits.safetensors");
    Pipeline::open(path, &Cpu::new().unwrap(), &PipelineOptions::default()).unwrap()
}

fn samples(pipeline: &Pipeline, batch: usize, options: &SamplerOptions) -> Vec<f32> {
    let (denoiser, sampler) = (pipeline.denoiser(batch, &[]).unwrap(), pipeline.sampler(options).unwrap());
    let mut chain = Chain::new(denoiser, sampler, Seeded::new(0), &ChainOptions { batch, first_sample: 0 }).unwrap();
    chain.run().unwrap();
    chain.x().to_vec()
}

#[test]
fn no_sampler_by_its_name_ruins_the_picture() {
    use SamplerKind::*;
    let pipeline = digits();
    for kind in [
        UniPc,
        DpmSolverMultistep,
        DpmSolverSinglestep,
        DpmSolverSde,
        Deis,
        Euler,
        EulerAncestral,
        Heun,
        Kdpm2,
        Kdpm2Ancestral,
        Lms,
    ] {
        let usual = SamplerOptions::default_for(&pipeline.scheduler().unwrap(), Some(kind));
        let steps = Steps::Count(15);
        let x = samples(&pipeline, 4, &SamplerOptions { steps: steps.clone(), ..usual.clone() });
        let largest = |x: &[f32]| x.iter().fold(0f32, |m, v| m.max(v.abs()));
        // A digit is a few bright strokes on black.
        let bright = x.iter().filter(|v| **v > 0.0).count() as f64 / x.len() as f64;
        assert!(largest(&x) < 1.1 && (0.02..0.3).contains(&bright), "{kind:?}: {} {bright}", largest(&x));
        let forgets = samples(&pipeline, 4, &SamplerOptions { steps, ..usual }.with_compat(Compat::Diffusers));
        println!("{kind:?}: {:.3}, {:.1} % bright; as diffusers {:.1}", largest(&x), 100.0 * bright, largest(&forgets));
    }
}

/// What the model was saved with runs as it says, and levels that a file spreads stay its own.
#[test]
fn what_a_file_says_stands() {
    let of = |text: &str, kind| {
        let usual = SamplerOptions::default_for(&SchedulerConfig::from_json(text).unwrap(), kind);
        (usual.sampler.unwrap(), usual.sigmas, usual.order)
    };
    let (configured, usual) = (Sigmas::Configured, Sigmas::Usual);
    let ddpm = r#"{"_class_name": "DDPMScheduler"}"#;
    assert_eq!(of(ddpm, None), (SamplerKind::UniPc, usual, Some(3)));
    assert_eq!(of(ddpm, Some(SamplerKind::Heun)), (SamplerKind::Heun, usual, None));
    assert_eq!(of(ddpm, Some(SamplerKind::Pndm)), (SamplerKind::Pndm, configured, None));
    let few = r#"{"_class_name": "DDPMScheduler", "num_train_timesteps": 50}"#;
    assert_eq!(of(few, None), (SamplerKind::Ddim, configured, None));
    let own = r#"{"_class_name": "EulerDiscreteScheduler"}"#;
    assert_eq!(of(own, None), (SamplerKind::Euler, configured, None));
    let spread = r#"{"_class_name": "DDPMScheduler", "use_karras_sigmas": true}"#;
    assert_eq!(of(spread, Some(SamplerKind::UniPc)), (SamplerKind::UniPc, configured, None));
    let spaced = r#"{"_class_name": "DDPMScheduler", "timestep_spacing": "trailing"}"#;
    assert_eq!(of(spaced, Some(SamplerKind::Euler)), (SamplerKind::Euler, configured, None));
}
