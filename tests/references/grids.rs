//! Grids of sigmas against the programs that have them: Align Your Steps, ComfyUI's `simple`, k-diffusion's
//! polyexponential (`tests/golden/make_grids.py`), as the levels of a sampler.

use serde_json::Value;
use undiffuse::ErrorKind;
use undiffuse::sampler::{Sampler, SamplerKind, SamplerOptions, SchedulerConfig, Sigmas, Steps};
use undiffuse::schedule::{AlignYourSteps, Arithmetic};

fn config(extra: &str) -> SchedulerConfig {
    let betas = r#""beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012"#;
    SchedulerConfig::from_json(&format!(r#"{{"_class_name": "EulerDiscreteScheduler", {betas}{extra}}}"#)).unwrap()
}

fn made(config: &SchedulerConfig, sigmas: Sigmas, steps: usize) -> undiffuse::Result<Box<dyn Sampler + Send + Sync>> {
    let (steps, arithmetic) = (Steps::Count(steps), Arithmetic::Float64);
    config.sampler(&SamplerOptions { steps, sigmas, arithmetic, ..Default::default() })
}

fn list(sampler: &dyn Sampler) -> Vec<f64> {
    let levels = sampler.levels();
    levels.iter().map(|l| l.sigma).chain([sampler.target(levels.len() - 1).unwrap().sigma]).collect()
}

#[test]
fn grids_are_those_of_their_programs() {
    let rows: Vec<Value> = serde_json::from_str(include_str!("../golden/grids.json")).unwrap();
    // Networks of video models are told ln(sigma) / 4.
    let (images, video) = (config(""), config(r#", "prediction_type": "v_prediction", "timestep_type": "continuous""#));
    let mut worst = 0f64;
    for row in &rows {
        let (kind, steps) = (row["kind"].as_str().unwrap(), row["steps"].as_u64().unwrap() as usize);
        let sigmas = match kind {
            "simple" => Sigmas::Simple,
            "polyexponential" => Sigmas::Polyexponential { rho: row["rho"].as_f64().unwrap() },
            name => Sigmas::AlignYourSteps(AlignYourSteps::NAMES.iter().find(|(n, _)| *n == name).unwrap().1),
        };
        let config = if kind == "ays-svd" { &video } else { &images };
        let sampler = made(config, sigmas, steps).unwrap();
        let right: Vec<f64> = row["sigmas"].as_array().unwrap().iter().filter_map(Value::as_f64).collect();
        let got = list(&*sampler);
        assert_eq!(got.len(), steps + 1, "{row}");
        for (got, right) in got.iter().zip(&right) {
            worst = worst.max((got - right).abs() / right.max(1.0));
        }
        // x_T has the whole variance of the first level.
        let first = right[0];
        assert!((f64::from(sampler.initial_scale()) - (first * first + 1.0).sqrt()).abs() < 1e-4 * first, "{row}");
    }
    println!("{} grids, at most {worst:.1e}", rows.len());
    assert!(rows.len() == 35 && worst < 1e-10, "{worst:e}");
}

#[test]
fn a_solver_keeps_its_own_end_and_others_refuse() {
    let ays = Sigmas::AlignYourSteps(AlignYourSteps::StableDiffusion);
    // UniPC that ends at the smallest sigma takes the table's.
    let own = config(r#", "final_sigmas_type": "sigma_min""#);
    let options = SamplerOptions {
        sampler: Some(SamplerKind::UniPc),
        steps: Steps::Count(10),
        sigmas: ays,
        arithmetic: Arithmetic::Float64,
        ..Default::default()
    };
    let unipc = own.sampler(&options).unwrap();
    let end = unipc.target(9).unwrap();
    assert!((end.noise_to_signal() - 0.029).abs() < 1e-12, "{end:?}");
    // EDM's preconditioned networks have sigmas of their own.
    let edm = SchedulerConfig::from_json(r#"{"_class_name": "EDMEulerScheduler"}"#).unwrap();
    let svd = Sigmas::AlignYourSteps(AlignYourSteps::StableVideoDiffusion);
    let sampler = made(&edm, svd, 10).unwrap();
    assert_eq!((sampler.levels()[0].sigma, sampler.target(9).unwrap().sigma), (700.0, 0.0));
    assert!((sampler.initial_scale() - 700.0).abs() < 0.1);
    let poly = list(&*made(&edm, Sigmas::Polyexponential { rho: 1.0 }, 5).unwrap());
    assert!((poly[0] - 80.0).abs() < 1e-9 && (poly[4] - 0.002).abs() < 1e-12 && poly[5] == 0.0, "{poly:?}");
    for (class, sigmas) in [
        ("DDIMScheduler", ays),
        ("DDPMScheduler", Sigmas::Simple),
        ("FlowMatchEulerDiscreteScheduler", ays),
        ("EDMEulerScheduler", Sigmas::Simple),
        ("LCMScheduler", Sigmas::Polyexponential { rho: 1.0 }),
    ] {
        let config = SchedulerConfig::from_json(&format!(r#"{{"_class_name": "{class}"}}"#)).unwrap();
        let e = made(&config, sigmas, 4).err().unwrap();
        assert_eq!(e.kind(), ErrorKind::Unsupported, "{class}: {e}");
    }
    // A table that begins beyond the model's training, no steps, and a power that is none.
    for (sigmas, steps) in [(svd, 10), (Sigmas::Polyexponential { rho: 0.0 }, 4), (ays, 0), (Sigmas::Simple, 1001)] {
        let e = made(&config(""), sigmas, steps).err().unwrap();
        assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{sigmas:?}: {e}");
    }
}
