//! The probability flow against SciPy's `solve_ivp(method="RK45")`: as many network calls for each sample, and the same
//! x on the way (`tests/golden/make_rk45.py`).

use std::cell::RefCell;

use serde_json::Value;
use undiffuse::chain::{Chain, ChainOptions, Flow, never};
use undiffuse::denoiser::FnDenoiser;
use undiffuse::noise::Given;
use undiffuse::sampler::{PredictionType, Sampler, SamplerKind, SamplerOptions, SchedulerConfig, Steps};
use undiffuse::schedule::Arithmetic;
use undiffuse::tensor::Dims;

use crate::pcg;
use crate::samplers::denoise;

const BYTES: &[u8] = include_bytes!("../golden/rk45.safetensors");
/// Of x over max(1, |x|).
const BOUND: f64 = 1e-5;
const MARKS: usize = 6;

fn array(name: &str) -> Vec<f64> {
    let all = safetensors::SafeTensors::deserialize(BYTES).unwrap();
    let data = all.tensor(name).unwrap();
    data.data().chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect()
}

/// The configuration of a flow's model, and what its network gives.
fn model(flow: &str) -> (SchedulerConfig, &'static str) {
    let config = |json: &str| SchedulerConfig::from_json(json).unwrap();
    match flow {
        "vp" => (config(r#"{"_class_name": "ScoreSdeVpScheduler", "sampling_eps": 1e-3}"#), "epsilon"),
        "ve" => (config(r#"{"_class_name": "ScoreSdeVeScheduler", "sigma_max": 50, "sampling_eps": 1e-5}"#), "score"),
        "discrete" => (config(r#"{"_class_name": "DDIMScheduler", "clip_sample": false}"#), "epsilon"),
        "edm" => (config(r#"{"_class_name": "EDMEulerScheduler"}"#), "edm"),
        "straight" => (config(r#"{"_class_name": "FlowMatchEulerDiscreteScheduler"}"#), "flow_prediction"),
        other => panic!("{other}"),
    }
}

fn sampler(flow: &str, tolerance: f64, steps: usize) -> Box<dyn Sampler + Send + Sync> {
    let (rtol, atol, arithmetic) = (tolerance, tolerance, Arithmetic::Float64);
    let (sampler, steps) = (Some(SamplerKind::Rk45), Steps::Count(steps));
    let options = SamplerOptions { sampler, steps, rtol, atol, arithmetic, ..Default::default() };
    model(flow).0.sampler(&options).unwrap()
}

#[test]
fn calls_and_trajectories_are_those_of_scipy() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("../golden/rk45.json")).unwrap();
    let (x, times) = (array("x"), array("times"));
    assert_eq!((x.len(), times.len()), (cases.len() * 2 * MARKS * 3, cases.len() * MARKS));
    for ((case, right), times) in cases.iter().zip(x.chunks(2 * MARKS * 3)).zip(times.chunks(MARKS)) {
        let (flow, tolerance) = (case["flow"].as_str().unwrap(), case["tolerance"].as_f64().unwrap());
        let sampler = sampler(flow, tolerance, MARKS - 1);
        let prediction = model(flow).1;
        let calls = RefCell::new([0u64; 2]);
        let exact = FnDenoiser::new("exact", Dims::new(&[3, 1, 1]).unwrap(), |call, x, out| {
            assert_eq!(x.len(), 3, "a sample at a time");
            calls.borrow_mut()[call.first_sample as usize] += 1;
            let level = [call.level.alpha, call.level.sigma];
            // Of a preconditioned network y is alpha x_0 + sigma eps with EDM's own factor.
            for (c, (o, x)) in out.iter_mut().zip(x).enumerate() {
                *o = denoise(c, f64::from(*x), level, prediction, 0.5) as f32;
            }
            Ok(())
        });
        let start = pcg::uniform(3, 1, 6, 3f32.sqrt());
        let noise = Given::new(&start, &[], 2, 0).unwrap();
        let mut chain = Chain::new(exact, sampler, noise, &ChainOptions { batch: 2, first_sample: 0 }).unwrap();
        let mut worst = 0f64;
        let mut seen = 0;
        chain
            .run_with(never(), |p| {
                seen += 1;
                for (i, x) in p.x.iter().enumerate() {
                    let right = right[(i / 3 * MARKS + p.step + 1) * 3 + i % 3];
                    worst = worst.max((f64::from(*x) - right).abs() / right.abs().max(1.0));
                }
                Flow::Continue
            })
            .unwrap();
        let wanted = [0, 1].map(|i| case["calls"][i].as_u64().unwrap());
        println!("{flow} {tolerance:.0e}: {:?} calls, x within {worst:.1e} at times {times:.3?}", calls.borrow());
        assert_eq!((seen, *calls.borrow()), (MARKS - 1, wanted), "{flow} {tolerance}");
        assert!(worst < BOUND, "{flow} {tolerance}: {worst:.1e}");
    }
}

/// What is seen on the way changes nothing: the result has the same bits, and a saved chain goes on in the middle of a
/// long step.
#[test]
fn levels_that_are_seen_change_no_step() {
    for flow in ["vp", "discrete"] {
        let chain = |steps| {
            let prior = FnDenoiser::new("exact", Dims::new(&[3, 1, 1]).unwrap(), |call, x, out| {
                for (c, (o, x)) in out.iter_mut().zip(x).enumerate() {
                    *o = denoise(c, f64::from(*x), [call.level.alpha, call.level.sigma], "epsilon", 0.5) as f32;
                }
                Ok(())
            });
            let noise = undiffuse::noise::Seeded::new(4);
            Chain::new(prior, sampler(flow, 1e-3, steps), noise, &ChainOptions::default()).unwrap()
        };
        let [mut one, mut many] = [1, 200].map(chain);
        one.run().unwrap();
        let mut others = 0;
        while many.position() < many.steps() {
            let before = many.x().to_vec();
            many.step().unwrap();
            others += usize::from(before != many.x());
            let mut taken = chain(200);
            taken.restore(&many.save().unwrap()).unwrap();
            many = taken;
        }
        assert_eq!(others, 200, "{flow}: x moves at every level");
        assert_eq!(one.x(), many.x(), "{flow}");
    }
}

/// A model whose flow is not known, tolerances out of range and a network that breaks are errors.
#[test]
fn what_cannot_be_integrated_is_refused_by_name() {
    let options = SamplerOptions { sampler: Some(SamplerKind::Rk45), steps: Steps::Count(1), ..Default::default() };
    for class in ["IPNDMScheduler", "KarrasVeScheduler", "CMStochasticIterativeScheduler"] {
        let config = SchedulerConfig::from_json(&format!(r#"{{"_class_name": "{class}"}}"#)).unwrap();
        let e = config.sampler(&options).err().unwrap();
        assert!(e.message().contains(class) && e.kind() == undiffuse::ErrorKind::Unsupported, "{e}");
    }
    for (rtol, atol) in [(1e-9, 1e-5), (1e-5, 0.0), (f64::NAN, 1e-5), (1e-5, 2.0)] {
        let e = model("vp").0.sampler(&SamplerOptions { rtol, atol, ..options.clone() }).err().unwrap();
        assert!(e.message().contains("tol is"), "{e}");
    }
    // An error within a run leaves the chain where it was.
    let mut calls = 0;
    let broken = FnDenoiser::new("broken", Dims::new(&[1]).unwrap(), |_, x, out| {
        calls += 1;
        out.fill(if calls < 9 { x[0] } else { f32::INFINITY });
        Ok(())
    });
    let sampler = model("discrete").0.sampler(&options).unwrap();
    let mut chain = Chain::new(broken, sampler, undiffuse::noise::Seeded::new(1), &ChainOptions::default()).unwrap();
    let start = chain.x().to_vec();
    let e = chain.run().unwrap_err();
    assert_eq!(e.kind(), undiffuse::ErrorKind::NonFinite, "{e}");
    assert_eq!((chain.position(), chain.x()), (0, &*start));
    let config = SchedulerConfig { prediction_type: PredictionType::Sample, ..SchedulerConfig::new(SamplerKind::Rk45) };
    assert!(config.sampler(&options).is_ok());
    let again = SchedulerConfig::from_json(&config.to_json()).unwrap();
    assert_eq!((again.class, again.prediction_type), (SamplerKind::Rk45, PredictionType::Sample));
}
