//! A network behind a preconditioning, called by the samplers of every process, against the denoiser that it stands
//! for: of normal data the x_0 that is expected is known, so the network F is what its preconditioning (Karras et al.
//! 2022, table 1; Lipman et al. 2023) leaves of it, told c_noise and shown c_in x alone.

use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::denoiser::FnDenoiser;
use undiffuse::noise::Seeded;
use undiffuse::sampler::{
    Churn, DdimNoise, ModelPreconditioning, PreconditioningRule, SamplerKind, SamplerOptions, SchedulerConfig, Steps,
};
use undiffuse::schedule::Level;
use undiffuse::tensor::Dims;
use undiffuse::{ErrorKind, Result};

/// The standard deviation of the data.
const DATA: f64 = 0.7;

/// What a network behind a preconditioning gives for data of `DATA`: from what it is told and what it sees.
type Net = fn(told: f64, seen: f64) -> f64;

/// x_0 expected of x = x_0 + sigma eps.
fn expected(x: f64, sigma: f64) -> f64 {
    x * DATA * DATA / (DATA * DATA + sigma * sigma)
}

fn edm(told: f64, seen: f64) -> f64 {
    let (sigma, d) = ((4.0 * told).exp(), 0.5);
    let root = (sigma * sigma + d * d).sqrt();
    let x = seen * root;
    (expected(x, sigma) - x * d * d / (root * root)) * root / (sigma * d)
}

fn ve(told: f64, seen: f64) -> f64 {
    let sigma = 2.0 * told.exp();
    (expected(seen, sigma) - seen) / sigma
}

fn vp(told: f64, seen: f64) -> f64 {
    let t = told / 999.0;
    let sigma = (0.5 * 19.9 * t * t + 0.1 * t).exp_m1().sqrt();
    let x = seen * (sigma * sigma + 1.0).sqrt();
    (x - expected(x, sigma)) / sigma
}

/// z - x_0 expected of (1 - t) x_0 + t z.
fn flow(told: f64, seen: f64) -> f64 {
    let t = told / 1000.0;
    let variance = (1.0 - t) * (1.0 - t) * DATA * DATA + t * t;
    seen * (t - (1.0 - t) * DATA * DATA) / variance
}

const RULES: [(&str, &str, Net); 5] = [
    ("edm", r#"{"type": "edm"}"#, edm),
    ("ve", r#"{"type": "ve"}"#, ve),
    ("vp", r#"{"type": "vp"}"#, vp),
    ("flow", r#"{"type": "flow"}"#, flow),
    ("denoiser", r#"{"type": "denoiser"}"#, |told, seen| expected(seen, told)),
];

/// The end of a chain of a few steps.
fn end(config: &SchedulerConfig, options: &SamplerOptions, net: impl Fn(Level, f64) -> f64) -> Result<Vec<f32>> {
    let denoiser = FnDenoiser::new("normal", Dims::new(&[5])?, move |call, x, out| {
        out.iter_mut().zip(x).for_each(|(o, x)| *o = net(call.level, f64::from(*x)) as f32);
        Ok(())
    });
    let mut chain =
        Chain::new(denoiser, config.sampler(options)?, Seeded::new(3), &ChainOptions { batch: 2, first_sample: 0 })?;
    chain.run()?;
    Ok(chain.x().to_vec())
}

#[test]
fn every_sampler_calls_a_network_behind_any_preconditioning() {
    use SamplerKind::*;
    let kinds = [
        Ddpm,
        Ddim,
        DpmSolverMultistep,
        DpmSolverSinglestep,
        DpmSolverSde,
        UniPc,
        Deis,
        SaSolver,
        Euler,
        EulerAncestral,
        Heun,
        Kdpm2,
        Kdpm2Ancestral,
        Lms,
        Pndm,
        EdmEuler,
        EdmHeun,
        EdmDpmSolver,
        FlowEuler,
        FlowHeun,
        FlowLcm,
        ScoreSdeVp,
    ];
    let (mut seen, mut worst) = (0, 0.0f32);
    for kind in kinds {
        let plain = SchedulerConfig::new(kind);
        let options = SamplerOptions { steps: Steps::Count(8), ..Default::default() };
        // What the sampler's own kind of network gives at a level, for x as the sampler scales it.
        let own = move |level: Level, x: f64| {
            let sigma = level.sigma / level.alpha;
            match kind {
                EdmEuler | EdmHeun | EdmDpmSolver => edm(level.timestep, x),
                FlowEuler | FlowHeun | FlowLcm => flow(level.timestep, x),
                _ => {
                    // A scaled x preserves variance.
                    let x = x * (sigma * sigma + 1.0).sqrt();
                    (x - expected(x, sigma)) / sigma
                }
            }
        };
        let want = end(&plain, &options, own).unwrap_or_else(|e| panic!("{kind:?}: {e}"));
        for (name, json, net) in RULES {
            let preconditioning = Some(ModelPreconditioning::from_json(json).unwrap());
            let config = SchedulerConfig { preconditioning, ..plain.clone() };
            let got = match end(&config, &options, |level, x| net(level.timestep, x)) {
                Ok(got) => got,
                // A flow begins at pure noise, sigma of which has no logarithm.
                Err(e) if e.message().contains("no label") && matches!(kind, FlowEuler | FlowHeun | FlowLcm) => {
                    continue;
                }
                Err(e) => panic!("{kind:?}, {name}: {e}"),
            };
            seen += 1;
            for (g, w) in got.iter().zip(&want) {
                worst = worst.max((g - w).abs());
                assert!((g - w).abs() < 2e-4, "{kind:?}, {name}: {g} and {w}");
            }
        }
    }
    println!("{seen} pairs, at most {worst:.1e} apart");
    assert!(seen >= 5 * kinds.len() - 12, "{seen}");
}

#[test]
fn a_configuration_with_a_preconditioning_runs_with_samplers_of_other_processes_and_is_written_again() {
    let json = r#"{"_class_name": "EDMEulerScheduler", "preconditioning": {"type": "vp", "sigma_max": 200}}"#;
    let config = SchedulerConfig::from_json(json).unwrap();
    assert_eq!(SchedulerConfig::from_json(&config.to_json()).unwrap(), config);
    for kind in [SamplerKind::Ddim, SamplerKind::FlowEuler, SamplerKind::UniPc] {
        let read = SchedulerConfig::from_json_for(json, Some(kind)).unwrap();
        assert_eq!(read.preconditioning, config.preconditioning);
        assert_eq!(config.for_sampler(kind).unwrap().preconditioning, config.preconditioning);
    }
    // Without it they are for another process.
    assert!(
        SchedulerConfig::from_json_for(r#"{"_class_name": "EDMEulerScheduler"}"#, Some(SamplerKind::Ddim)).is_err()
    );
    let options = SamplerOptions { sampler: Some(SamplerKind::Ddim), steps: Steps::Count(4), ..Default::default() };
    let sampler = config.sampler(&options).unwrap();
    // Told (M - 1) t of each level.
    let level = sampler.levels()[0];
    let sigma = level.sigma / level.alpha;
    let t = level.timestep / 999.0;
    assert!(((0.5 * 19.9 * t * t + 0.1 * t).exp_m1().sqrt() / sigma - 1.0).abs() < 1e-9);
}

#[test]
fn what_does_not_suit_is_refused_with_the_reason() {
    let refused = |json: &str, options: SamplerOptions, kind: ErrorKind, word: &str| {
        let made = SchedulerConfig::from_json(json).and_then(|c| c.sampler(&options).map(|_| ()));
        let e = made.expect_err(json);
        assert!(e.kind() == kind && e.message().contains(word), "{json}: {e}");
    };
    let with = |class: &str, rest: &str| format!(r#"{{"_class_name": "{class}", "preconditioning": {rest}}}"#);
    let (unsupported, config) = (ErrorKind::Unsupported, ErrorKind::Config);
    let eight = || SamplerOptions { steps: Steps::Count(8), ..Default::default() };
    let edm = r#"{"type": "edm", "sigma_min": 0.002, "sigma_max": 80}"#;
    refused(
        &with("DDIMScheduler", r#"{"type": "edm", "sigma_max": 20}"#),
        eight(),
        unsupported,
        "trained from 0 to 20",
    );
    refused(&with("FlowMatchEulerDiscreteScheduler", r#"{"type": "ve"}"#), eight(), unsupported, "no label");
    refused(&with("IPNDMScheduler", r#"{"type": "ve"}"#), eight(), unsupported, "no label");
    refused(&with("LCMScheduler", edm), SamplerOptions { steps: Steps::Count(4), ..eight() }, unsupported, "distilled");
    refused(&with("ScoreSdeVeScheduler", edm), eight(), unsupported, "score");
    let churn = Churn { s_churn: 4.0, ..Churn::default() };
    refused(&with("EDMEulerScheduler", edm), SamplerOptions { churn, ..eight() }, unsupported, "edm-heun");
    refused(&with("Ancestral2015Scheduler", edm), eight(), unsupported, "2015");
    let rk45 = SamplerOptions { sampler: Some(SamplerKind::Rk45), ..Default::default() };
    refused(&with("DDIMScheduler", edm), rk45, unsupported, "preconditioning");
    refused(&with("DDIMScheduler", "7"), eight(), config, "preconditioning is 7");
    refused(&with("DDIMScheduler", r#"{"type": "edm2"}"#), eight(), config, "edm2");
    refused(&with("DDIMScheduler", r#"{"type": "edm", "sigma_dat": 1}"#), eight(), config, "sigma_dat");
    refused(&with("DDIMScheduler", r#"{"type": "edm", "sigma_data": 0}"#), eight(), config, "sigma_data is 0");
    refused(&with("DDIMScheduler", r#"{"type": "ve", "sigma_min": 3, "sigma_max": 2}"#), eight(), config, "below");
    let v =
        r#"{"_class_name": "DDIMScheduler", "prediction_type": "v_prediction", "preconditioning": {"type": "edm"}}"#;
    refused(v, eight(), config, "prediction_type");
    let learned =
        r#"{"_class_name": "DDPMScheduler", "variance_type": "learned_range", "preconditioning": {"type": "vp"}}"#;
    refused(learned, eight(), unsupported, "learned variance");
    // Of EDM's own range all goes.
    let json = with("EDMDPMSolverMultistepScheduler", edm);
    SchedulerConfig::from_json(&json).unwrap().sampler(&eight()).unwrap();
    let heun = |churn| SamplerOptions { churn, sampler: Some(SamplerKind::EdmHeun), ..eight() };
    SchedulerConfig::from_json(&json).unwrap().sampler(&heun(Churn { s_tmax: 50.0, ..churn })).unwrap();
    // The first step would raise sigma over what the network was trained for.
    refused(&json, heun(churn), unsupported, "trained from 0.002 to 80");
}

/// A denoiser of a stated sigma of data N(0, DATA^2).
fn denoiser(n: usize, p: ModelPreconditioning) -> impl undiffuse::denoiser::Denoiser {
    FnDenoiser::new("denoiser", Dims::new(&[n]).unwrap(), move |call, x: &[f32], out: &mut [f32]| {
        assert!(p.sigma_max.is_none_or(|most| call.level.timestep <= most * (1.0 + 1e-6)));
        out.iter_mut().zip(x).for_each(|(o, x)| *o = expected(f64::from(*x), call.level.timestep) as f32);
        Ok(())
    })
}

#[test]
fn a_chain_from_a_noisy_picture_draws_from_the_posterior() {
    let p = ModelPreconditioning::from_json(r#"{"type": "denoiser", "sigma_max": 0.5}"#).unwrap();
    let (n, s, y) = (40_000, 0.5, 0.9);
    let law = |steps: i32| {
        let sigmas: Vec<f64> =
            (0..=steps).map(|i| s * 0.01f64.powf(f64::from(i) / f64::from(steps))).chain([0.0]).collect();
        let plan = p.chain(&sigmas, 1.0, DdimNoise::Posterior).unwrap();
        let options = ChainOptions::default();
        let mut chain = Chain::new(denoiser(n, p), plan, Seeded::new(5), &options).unwrap();
        chain.start_from(0, &vec![y as f32; n], 0).unwrap();
        chain.run().unwrap();
        let mean = chain.x().iter().map(|v| f64::from(*v)).sum::<f64>() / n as f64;
        (mean, chain.x().iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n as f64)
    };
    let (mean, variance) = (expected(y, s), DATA * DATA * s * s / (DATA * DATA + s * s));
    let (got, spread) = law(400);
    // Standard errors are 0.002 and 0.7 %; the steps leave 1 % of the variance.
    assert!((got - mean).abs() < 0.008 && (spread / variance - 1.0).abs() < 0.035, "{got} {mean} {spread} {variance}");
    // The program's 32 steps: the mean is right, the variance too small by what it says of them.
    let (got, spread) = law(31);
    assert!(
        (got - mean).abs() < 0.008 && (0.75..1.0).contains(&(spread / variance)),
        "{got} {mean} {}",
        spread / variance
    );
    for (sigmas, word) in
        [(vec![0.6, 0.0], "was trained from 0 to 0.5"), (vec![0.5], "does not fall"), (vec![0.1, 0.2], "does not fall")]
    {
        let e = p.chain(&sigmas, 1.0, DdimNoise::Posterior).unwrap_err();
        assert!(e.message().contains(word), "{e}");
    }
    assert!(p.chain(&[0.5, 0.0], 1.5, DdimNoise::Level).is_err());
}

#[test]
fn a_denoisers_preconditioning_is_read_and_written() {
    let text = r#"{"type": "denoiser", "black": -1, "white": 1, "sigma_max": 0.5}"#;
    let p = ModelPreconditioning::from_json(text).unwrap();
    assert_eq!(p.rule, PreconditioningRule::Denoiser { black: -1.0, white: 1.0 });
    assert_eq!(ModelPreconditioning::from_json(&p.to_json()).unwrap(), p);
    let usual = ModelPreconditioning::from_json(r#"{"type": "denoiser"}"#).unwrap();
    assert_eq!(usual.rule, PreconditioningRule::Denoiser { black: 0.0, white: 1.0 });
    let call = usual.at(&Level::variance_preserving(7.0, 0.8)).unwrap();
    assert!((call.label - 0.5).abs() < 1e-12 && (call.input_scale - 1.25f64.sqrt()).abs() < 1e-12);
    for (text, word) in [
        (r#"{"type": "denoiser", "black": 1}"#, "expected it below"),
        (r#"{"type": "denoiser", "black": "0"}"#, "black is"),
        (r#"{"type": "denoiser", "sigma_data": 1}"#, "unknown key"),
        (r#"{"type": "edm", "white": 1}"#, "unknown key"),
    ] {
        let e = ModelPreconditioning::from_json(text).unwrap_err();
        assert!(e.kind() == ErrorKind::Config && e.message().contains(word), "{text}: {e}");
    }
}
