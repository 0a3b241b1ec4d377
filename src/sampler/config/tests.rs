//! Reading and writing configurations.

use proptest::prelude::*;

use super::super::{Compat, SampleClip, Sampler, SamplerOptions, StepIo, Steps};
use super::*;

use crate::schedule::Arithmetic;

fn error(text: &str) -> crate::Error {
    SchedulerConfig::from_json(text).unwrap_err()
}

#[test]
fn defaults_are_those_of_diffusers() {
    for kind in SamplerKind::NAMES.map(|(_, k)| k) {
        let text = alloc::format!(r#"{{"_class_name": "{}"}}"#, kind.class_name());
        assert_eq!(SchedulerConfig::from_json(&text).unwrap(), SchedulerConfig::new(kind));
    }
}

#[test]
fn what_is_written_is_read() {
    let mut config = SchedulerConfig::new(SamplerKind::Ddpm);
    config.num_train_timesteps = 3;
    config.trained_betas = Some(alloc::vec![0.1, 0.25, 0.5]);
    config.beta_schedule = BetaSchedule::Sigmoid;
    config.variance_type = VarianceType::LearnedRange;
    config.prediction_type = PredictionType::Sample;
    config.timestep_spacing = TimestepSpacing::Trailing;
    config.steps_offset = 1;
    config.clip_sample_range = 1.5;
    config.other.insert("_diffusers_version".into(), "0.42.1".into());
    config.other.insert("skip_prk_steps".into(), true.into());
    assert_eq!(SchedulerConfig::from_json(&config.to_json()).unwrap(), config);
}

#[test]
fn errors_name_the_thing() {
    let ddim = r#"{"_class_name": "DDIMScheduler", "#;
    for (rest, kind, part) in [
        (r#""eta_": 1}"#, ErrorKind::Config, "unknown key \"eta_\""),
        (r#""beta_schedule": "quadratic"}"#, ErrorKind::Config, "\"quadratic\", expected one of linear"),
        (r#""beta_start": "a"}"#, ErrorKind::Config, "beta_start is \"a\""),
        (r#""num_train_timesteps": 0}"#, ErrorKind::Config, "num_train_timesteps is 0"),
        (r#""num_train_timesteps": 1e3}"#, ErrorKind::Config, "num_train_timesteps is 1000.0"),
        (r#""clip_sample": 1}"#, ErrorKind::Config, "clip_sample is 1"),
        (r#""steps_offset": -1}"#, ErrorKind::Config, "steps_offset is -1"),
        (r#""trained_betas": [0.1]}"#, ErrorKind::Config, "trained_betas has 1 values"),
        (r#""trained_betas": [null]}"#, ErrorKind::Config, "trained_betas is null"),
        (r#""beta_end": Infinity}"#, ErrorKind::Config, "beta_end is Infinity"),
    ] {
        let e = error(&alloc::format!("{ddim}{rest}"));
        assert_eq!(e.kind(), kind, "{rest}: {e}");
        assert!(e.message().contains(part), "{rest}: {e}");
    }
    assert_eq!(error(r#"{"_class_name": "VQDiffusionScheduler"}"#).kind(), ErrorKind::Unsupported);
    assert!(error(r#"{"_class_name": "MyScheduler"}"#).message().contains("MyScheduler"));
    assert!(error("{}").message().contains("_class_name"));
    assert!(error("[]").message().contains("a list"));
    assert!(error("{").message().contains("the scheduler configuration"));
    assert_eq!(error(&"[".repeat(100_000)).kind(), ErrorKind::Config);
    assert_eq!(error(&" ".repeat(crate::json::MAX_TEXT + 1)).kind(), ErrorKind::Config);
}

#[test]
fn another_class_serves_when_a_sampler_is_named() {
    // As stable diffusion's, where PNDM's keys stand beside the common ones.
    let text = r#"{"_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", "beta_end": 0.012,
        "beta_schedule": "scaled_linear", "beta_start": 0.00085, "num_train_timesteps": 1000,
        "set_alpha_to_one": false, "skip_prk_steps": true, "steps_offset": 1, "trained_betas": null,
        "clip_sample": false}"#;
    assert_eq!(SchedulerConfig::from_json(text).unwrap().class, SamplerKind::Pndm);
    let config = SchedulerConfig::from_json_for(text, Some(SamplerKind::Ddim)).unwrap();
    // PNDM's own default of set_alpha_to_one is not carried over.
    assert_eq!((config.class, config.steps_offset, config.set_alpha_to_one), (SamplerKind::Ddim, 1, true));
    let sampler = config.sampler(&SamplerOptions { steps: Steps::Count(50), ..Default::default() }).unwrap();
    assert_eq!((sampler.levels()[0].timestep, sampler.levels()[49].timestep), (981.0, 1.0));
    // A class that is not implemented says what would run its model, and that does.
    let text = r#"{"_class_name": "DDPMWuerstchenScheduler", "beta_start": 0.0001, "beta_end": 0.02}"#;
    let e = error(text);
    assert!(e.kind() == ErrorKind::Unsupported && e.message().contains("as ddim"), "{e}");
    assert!(SchedulerConfig::from_json_for(text, Some(SamplerKind::Ddim)).is_ok());
    // Unless its file does not say by what.
    let e = error(r#"{"_class_name": "VQDiffusionScheduler"}"#);
    assert!(e.kind() == ErrorKind::Unsupported && e.message().contains("nor does its file say"), "{e}");
    let text = r#"{"_class_name": "RePaintScheduler", "beta_start": 0.0001, "beta_end": 0.02, "eta": 0.0}"#;
    assert!(SchedulerConfig::from_json_for(text, Some(SamplerKind::Ddim)).is_ok());
    // But not a model of another process.
    for (text, kind) in [
        (r#"{"_class_name": "VQDiffusionScheduler"}"#, SamplerKind::Ddim),
        (r#"{"_class_name": "EDMEulerScheduler"}"#, SamplerKind::Ddim),
        (r#"{"_class_name": "DDPMScheduler"}"#, SamplerKind::EdmEuler),
        (r#"{"_class_name": "FlowMatchEulerDiscreteScheduler"}"#, SamplerKind::Euler),
        (r#"{"_class_name": "FlowMatchEulerDiscreteScheduler"}"#, SamplerKind::Cm),
        (r#"{"_class_name": "UniPCMultistepScheduler", "use_flow_sigmas": true}"#, SamplerKind::Ddim),
    ] {
        let e = SchedulerConfig::from_json_for(text, Some(kind)).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported, "{text}");
        if let Ok(config) = SchedulerConfig::from_json(text) {
            assert_eq!(config.for_sampler(kind).unwrap_err().kind(), ErrorKind::Unsupported, "{text}");
        }
    }
}

#[test]
fn what_a_class_does_not_use_is_kept_and_not_judged() {
    // diffusers writes what another class left behind.
    let text = r#"{"_class_name": "DDIMScheduler", "lambda_min_clipped": -Infinity, "variance_type": null, "solver_order": "x",
        "tensor_format": "pt", "timestep_values": null, "noise_sampler_seed": 3}"#;
    let config = SchedulerConfig::from_json(text).unwrap();
    let plain = SchedulerConfig::new(SamplerKind::Ddim);
    assert_eq!(SchedulerConfig { other: plain.other.clone(), ..config.clone() }, plain);
    assert_eq!(SchedulerConfig::from_json(&config.to_json()).unwrap(), config);
    // Null says nothing to a class that uses the key; any other value does.
    assert_eq!(config.for_sampler(SamplerKind::Ddpm).unwrap().variance_type, VarianceType::FixedSmall);
    let e = config.for_sampler(SamplerKind::DpmSolverMultistep).unwrap_err();
    assert!(e.message().contains("solver_order is \"x\""), "{e}");
    for key in ["solver_p", "tau_func"] {
        let text = alloc::format!(r#"{{"_class_name": "UniPCMultistepScheduler", "{key}": {{}}}}"#);
        assert!(error(&text).message().contains(key));
    }
}

#[test]
fn the_clip_goes_with_the_model_unless_diffusers_forgets_it() {
    // DDPM clips where its file does not say otherwise.
    let text = r#"{"_class_name": "DDPMScheduler", "beta_schedule": "squaredcos_cap_v2"}"#;
    let config = SchedulerConfig::from_json(text).unwrap();
    let (none, one) = (SampleClip::None, SampleClip::Range(1.0));
    for kind in [SamplerKind::DpmSolverMultistep, SamplerKind::UniPc, SamplerKind::Euler, SamplerKind::Pndm] {
        // From the configuration of the model, and from one that was made for the sampler.
        let made = [config.clone(), SchedulerConfig::from_json_for(text, Some(kind)).unwrap()];
        assert!(made.iter().all(|c| c.model_clip() == one), "{kind:?}");
        let x0 = |compat| {
            let steps = Steps::Count(4);
            let options = SamplerOptions { sampler: Some(kind), steps, compat, ..Default::default() };
            let sampler = config.sampler(&options).unwrap();
            let (mut x0, mut eps) = ([0.0], [0.0]);
            sampler.predict(0, &[1.5], &[0.2], &mut x0, &mut eps).unwrap();
            let level = sampler.levels()[0];
            let again = (1.5 - level.alpha * f64::from(x0[0])) / level.sigma;
            assert!(compat == Compat::Diffusers || (f64::from(eps[0]) - again).abs() < 1e-6, "{kind:?}");
            x0[0]
        };
        assert!(x0(Compat::Diffusers).abs() > 1.2, "{kind:?}: {}", x0(Compat::Diffusers));
        assert!(x0(Compat::Fixed).abs() <= 1.0 && x0(Compat::Usual).abs() <= 1.0, "{kind:?}");
    }
    // What the caller changed counts; a sampler that the model was saved with does as its class does.
    let open = SchedulerConfig { clip_sample: false, ..config.clone() };
    assert_eq!((open.model_clip(), open.for_sampler(SamplerKind::Euler).unwrap().model_clip()), (none, none));
    let own = r#"{"_class_name": "EulerDiscreteScheduler", "clip_sample": true}"#;
    assert_eq!(SchedulerConfig::from_json(own).unwrap().model_clip(), none);
    let foreign =
        r#"{"_class_name": "RePaintScheduler", "beta_start": 0.001, "clip_sample": true, "clip_sample_range": 2.0}"#;
    let foreign = SchedulerConfig::from_json_for(foreign, Some(SamplerKind::UniPc)).unwrap();
    assert_eq!(foreign.model_clip(), SampleClip::Range(2.0));
}

#[test]
fn predict_epsilon_of_old_files_means_something() {
    let of = |rest: &str| SchedulerConfig::from_json(&alloc::format!(r#"{{"_class_name": "DDPMScheduler"{rest}}}"#));
    assert_eq!(of(r#", "predict_epsilon": false"#).unwrap().prediction_type, PredictionType::Sample);
    assert_eq!(of(r#", "predict_epsilon": true"#).unwrap().prediction_type, PredictionType::Epsilon);
    assert_eq!(of(r#", "predict_epsilon": null"#).unwrap().prediction_type, PredictionType::Epsilon);
    let e = of(r#", "predict_epsilon": false, "prediction_type": "epsilon""#).unwrap_err();
    assert!(e.message().contains("predict_epsilon"), "{e}");
}

#[test]
fn another_sampler_takes_the_model_and_its_own_defaults() {
    let ddpm = SchedulerConfig { beta_end: 0.03, ..SchedulerConfig::new(SamplerKind::Ddpm) };
    let heun = ddpm.for_sampler(SamplerKind::Heun).unwrap();
    // Heun's own betas are others; the model's stay.
    assert_eq!((heun.beta_start, heun.beta_end), (1e-4, 0.03));
    assert_eq!(heun.timestep_spacing, TimestepSpacing::Linspace);
    let text = r#"{"_class_name": "DDPMScheduler", "timestep_spacing": "trailing", "use_karras_sigmas": true}"#;
    let mut config = SchedulerConfig::from_json(text).unwrap();
    config.prediction_type = PredictionType::VPrediction;
    let heun = config.for_sampler(SamplerKind::Heun).unwrap();
    assert!(heun.timestep_spacing == TimestepSpacing::Trailing && heun.grid.use_karras_sigmas);
    assert_eq!(heun.prediction_type, PredictionType::VPrediction);
    // What the table says a class's defaults are, its keys accept.
    for class in CLASSES {
        for (name, preset) in class.keys() {
            let key = keys::find(name).unwrap_or_else(|| panic!("{name}"));
            (key.set)(&mut SchedulerConfig::new(class.sampler), &preset.value()).unwrap();
        }
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in ".{0,60}", key in "[a-z_]{1,20}", value in any::<f64>()) {
        let _ = SchedulerConfig::from_json(&text);
        let known = alloc::format!(r#"{{"_class_name": "DDIMScheduler", "{key}": {value}}}"#);
        let _ = SchedulerConfig::from_json(&known);
    }

    #[test]
    fn whatever_is_accepted_gives_finite_falling_levels(
        t in 1usize..300,
        part in 0.0..1.0f64,
        schedule in 0usize..6,
        spacing in 0usize..3,
        eta in 0.0..=1.0f64,
        start in 1e-6..0.5f64,
        end in 1e-6..0.5f64,
        double in any::<bool>(),
    ) {
        let n = (1 + (part * t as f64) as usize).min(t);
        for class in [SamplerKind::Ddpm, SamplerKind::Ddim] {
            let config = SchedulerConfig {
                num_train_timesteps: t,
                beta_start: start,
                beta_end: end,
                beta_schedule: BetaSchedule::NAMES[schedule].1,
                timestep_spacing: TimestepSpacing::NAMES[spacing].1,
                ..SchedulerConfig::new(class)
            };
            prop_assert_eq!(&SchedulerConfig::from_json(&config.to_json()).unwrap(), &config);
            let arithmetic = if double { Arithmetic::Float64 } else { Arithmetic::Float32 };
            let options = SamplerOptions { steps: Steps::Count(n), eta, arithmetic, ..Default::default() };
            // A product that vanishes before the last step is refused; all else works.
            let Ok(sampler) = config.sampler(&options) else { continue };
            prop_assert!(sampler.levels().windows(2).all(|w| w[0].alpha_bar() <= w[1].alpha_bar()));
            let (mut output, mut eps, mut x0, mut next) = ([0.5, -0.3], [0.0; 2], [0.0; 2], [0.0; 2]);
            for step in 0..n {
                let target = sampler.target(step).unwrap();
                prop_assert!(target.alpha_bar() >= sampler.levels()[step].alpha_bar());
                sampler.step(step, step, StepIo {
                    x: &[0.2, 1.0],
                    output: &mut output,
                    noise: if sampler.needs_noise(step) { &[1.0, -2.0] } else { &[] },
                    state: &[],
                    next_state: &mut [],
                    eps: &mut eps,
                    x0: &mut x0,
                    next: &mut next,
                }).unwrap();
                prop_assert!(next.iter().chain(&x0).all(|v| v.is_finite()), "{:?} {:?}", next, x0);
            }
            prop_assert!(sampler.target(n).is_err());
        }
    }
}

#[test]
fn one_configuration_serves_both_samplers() {
    let config = SchedulerConfig::new(SamplerKind::Ddpm);
    let options = SamplerOptions { steps: Steps::Count(10), ..Default::default() };
    assert_eq!(config.sampler(&options).unwrap().name(), "DDPM");
    let options = SamplerOptions { sampler: Some(SamplerKind::Ddim), ..options };
    let sampler = config.sampler(&options).unwrap();
    assert_eq!((sampler.name(), sampler.levels().len()), ("DDIM", 10));
}

#[test]
fn bad_options_are_refused() {
    let config = SchedulerConfig::new(SamplerKind::Ddim);
    for steps in
        [Steps::Count(0), Steps::Count(1001), Steps::Timesteps(Vec::new()), Steps::Timesteps(alloc::vec![5, 9])]
    {
        let e = config.sampler(&SamplerOptions { steps, ..Default::default() }).err().unwrap();
        assert_eq!(e.kind(), ErrorKind::InvalidArgument);
    }
    for eta in [-0.1, 1.1, f64::NAN] {
        assert!(config.sampler(&SamplerOptions { eta, ..Default::default() }).is_err());
    }
}

#[test]
fn the_chains_of_2015_have_keys_of_their_own() {
    use super::super::{BitPrediction, Ending2015, Readout2015};
    let gaussian = SchedulerConfig::from_json(
        r#"{"_class_name": "Ancestral2015Scheduler", "num_train_timesteps": 40, "readout": "prediction", "ending": "original",
            "prediction_type": "sample", "sample_scale": 2.5, "sample_shift": -1, "beta_schedule": "erasing_evenly"}"#,
    )
    .unwrap();
    assert_eq!(gaussian.chain_2015.readout, Readout2015::Prediction(PredictionType::Sample));
    assert_eq!((gaussian.chain_2015.sample_scale, gaussian.chain_2015.ending), (2.5, Ending2015::Original));
    assert_eq!(SchedulerConfig::from_json(&gaussian.to_json()).unwrap(), gaussian);
    // The last beta is 1, and the original loop leaves the first step out.
    let sampler = gaussian.sampler(&SamplerOptions::default()).unwrap();
    assert_eq!((sampler.name(), sampler.levels().len()), ("ancestral2015", 38));

    let bits = SchedulerConfig::from_json(
        r#"{"_class_name": "Bits2015Scheduler", "trained_betas": [0.5, 1.0], "num_train_timesteps": 2, "pi": 0.2,
            "bit_prediction": "clean", "bit_output": "probability"}"#,
    )
    .unwrap();
    assert_eq!((bits.chain_2015.bit_prediction, bits.chain_2015.logits), (BitPrediction::Clean, false));
    assert_eq!(SchedulerConfig::from_json(&bits.to_json()).unwrap(), bits);
    assert_eq!(bits.sampler(&SamplerOptions::default()).unwrap().levels().len(), 2);

    for class in [SamplerKind::Ancestral2015, SamplerKind::Bits2015] {
        let config = SchedulerConfig::new(class);
        assert_eq!(SchedulerConfig::from_json(&config.to_json()).unwrap(), config);
        let steps = match class {
            SamplerKind::Bits2015 => Steps::Count(7),
            _ => Steps::Sigmas(alloc::vec![1.0, 0.0]),
        };
        for options in [
            SamplerOptions { sampler: Some(SamplerKind::Ddim), ..Default::default() },
            SamplerOptions { steps, ..Default::default() },
            SamplerOptions { eta: 0.5, ..Default::default() },
        ] {
            assert_eq!(config.sampler(&options).err().unwrap().kind(), ErrorKind::Unsupported, "{options:?}");
        }
        let e = config.repaint(&SamplerOptions::default(), super::super::Jumps::default()).unwrap_err();
        assert!(e.message().contains("2015Scheduler"), "{e}");
    }
    // Fewer steps of the Gaussian chain, with and without noise; the original loop has no fewer.
    let options = SamplerOptions { steps: Steps::Count(10), eta: 0.5, ..Default::default() };
    let sampler = SchedulerConfig::new(SamplerKind::Ancestral2015).sampler(&options).unwrap();
    assert_eq!((sampler.levels()[0].timestep, sampler.levels()[9].timestep), (999.0, 99.0));
    assert!(sampler.needs_noise(8) && !sampler.needs_noise(9));
    assert_eq!(gaussian.sampler(&options).err().unwrap().kind(), ErrorKind::Unsupported);
    let ddpm = SchedulerConfig::new(SamplerKind::Ddpm);
    let options = SamplerOptions { sampler: Some(SamplerKind::Bits2015), ..Default::default() };
    assert!(ddpm.sampler(&options).err().unwrap().message().contains("DDPMScheduler"));
    for (class, rest, part) in [
        ("Ancestral2015Scheduler", r#""clip_sample": true"#, "clip_sample"),
        ("Ancestral2015Scheduler", r#""pi": 0.5"#, "unknown key \"pi\""),
        ("Ancestral2015Scheduler", r#""readout": "both""#, "expected one of code, paper, prediction"),
        ("Ancestral2015Scheduler", r#""sample_scale": 0"#, "sample_scale is 0"),
        ("Ancestral2015Scheduler", r#""num_train_timesteps": 1"#, "num_train_timesteps is 1"),
        ("Bits2015Scheduler", r#""readout": "code""#, "unknown key \"readout\""),
        ("Bits2015Scheduler", r#""pi": 1.5"#, "pi"),
        ("DDPMScheduler", r#""readout": "code""#, "unknown key \"readout\""),
        ("DDPMScheduler", r#""beta_schedule": "authors_2015""#, "authors_2015"),
    ] {
        let e = error(&alloc::format!(r#"{{"_class_name": "{class}", {rest}}}"#));
        assert!(e.kind() == ErrorKind::Config && e.message().contains(part), "{class} {rest}: {e}");
    }
}
