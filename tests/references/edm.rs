//! Heun's method with churn: EDM's own sampler against its algorithm in NumPy (`tests/golden/make_edm.py`), and what
//! f32 makes of diffusers' Karras VE at sigma 10,000.

use serde_json::Value;
use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::denoiser::FnDenoiser;
use undiffuse::noise::Given;
use undiffuse::process::Prediction;
use undiffuse::sampler::{
    CallNoise, Churn, Mix, Of, Path, Plan, Preconditioning, Sampler, SamplerOptions, SchedulerConfig, ScoreUnit, Steps,
    churned_heun,
};
use undiffuse::schedule::{Arithmetic, Level};
use undiffuse::tensor::Dims;

use crate::pcg;
use crate::samplers::{Arrays, denoise};

const BYTES: &[u8] = include_bytes!("../golden/edm.safetensors");
const CHANNELS: usize = 3;

fn array(name: &str) -> Vec<f64> {
    let all = safetensors::SafeTensors::deserialize(BYTES).unwrap();
    let data = all.tensor(name).unwrap();
    data.data().chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect()
}

#[test]
fn edm_heun_is_algorithm_2() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("../golden/edm.json")).unwrap();
    let (all_sigmas, all_x) = (array("sigmas"), array("x"));
    let (mut sigmas, mut x) = (&*all_sigmas, &*all_x);
    let root3 = 3f32.sqrt();
    for case in &cases {
        let number = |key: &str| case[key].as_f64().unwrap();
        let steps = number("steps") as usize;
        let churn = Churn {
            s_churn: number("s_churn"),
            s_tmin: number("s_tmin"),
            s_tmax: number("s_tmax"),
            s_noise: number("s_noise"),
        };
        // EDM's networks predict behind a preconditioning; the class of diffusers has its keys and defaults.
        let config = SchedulerConfig::new(undiffuse::sampler::SamplerKind::EdmHeun);
        let (list, arithmetic) = (Steps::Count(steps), Arithmetic::Float64);
        let sampler = config.sampler(&SamplerOptions { steps: list, churn, arithmetic, ..Default::default() }).unwrap();
        // A noising step stands before the two calls of each step, and before the one of the last.
        let calls = sampler.levels().len();
        assert_eq!(calls, 3 * steps - 1);
        let mut noise = vec![0.0; calls * 2 * CHANNELS];
        for (i, row) in noise.chunks_mut(2 * CHANNELS).enumerate().filter(|(i, _)| i % 3 == 0) {
            row.copy_from_slice(&pcg::uniform(3, 2 + i as u64 / 3, 6, root3));
        }
        let start = pcg::uniform(3, 1, 6, root3);
        let exact = FnDenoiser::new("exact", Dims::new(&[CHANNELS, 1, 1]).unwrap(), |call, x, out| {
            for (i, (o, x)) in out.iter_mut().zip(x).enumerate() {
                *o = denoise(i % CHANNELS, f64::from(*x), [call.level.alpha, call.level.sigma], "edm", 0.5) as f32;
            }
            Ok(())
        });
        let given = Given::new(&start, &noise, 2, 0).unwrap();
        let options = ChainOptions { batch: 2, first_sample: 0 };
        let mut chain = Chain::new(exact, &*sampler, given, &options).unwrap();
        let (mut worst, mut of_sigmas) = (0f64, 0f64);
        for step in 0..steps {
            let at = sampler.levels()[3 * step].sigma;
            of_sigmas = of_sigmas.max((at - sigmas[step]).abs() / sigmas[step]);
            let calls = if step + 1 == steps { 2 } else { 3 };
            (0..calls).for_each(|_| assert!(chain.step().is_ok()));
            for (x, right) in chain.x().iter().zip(&x[6 * step..]) {
                worst = worst.max((f64::from(*x) - right).abs() / right.abs().max(1.0));
            }
        }
        println!("{case}: x within {worst:.1e}, sigmas {of_sigmas:.1e}");
        assert!(worst <= 1e-5 && of_sigmas < 1e-10, "{case}: {worst:e} {of_sigmas:e}");
        (sigmas, x) = (&sigmas[steps + 1..], &x[6 * steps..]);
    }
    assert!(cases.len() == 6 && sigmas.is_empty() && x.is_empty());
}

/// What becomes of a network's output.
#[derive(Clone, Copy, PartialEq)]
enum Output {
    Exact,
    /// Rounded to f32, as every network gives it; all else in f64.
    Rounded,
}

/// x of the first two channels after each call, by the coefficients of a plan and in f64.
fn run(plan: &Plan, output: Output, of_draw: impl Fn(usize) -> Vec<f64>) -> Vec<[f64; 2]> {
    let mut x: Vec<f64> = of_draw(0).iter().map(|z| z * f64::from(plan.initial_scale())).collect();
    let mut history = vec![vec![0.0; 2]; 8];
    let (mut draws, mut all) = (0, Vec::new());
    for (done, call) in plan.calls().iter().enumerate() {
        let level = [call.level.alpha, call.level.sigma];
        let eps: Vec<f64> = (0..2)
            .map(|c| {
                let eps = denoise(c, x[c], level, "epsilon", 0.5);
                if output == Output::Rounded { f64::from(eps as f32) } else { eps }
            })
            .collect();
        let x0: Vec<f64> = x.iter().zip(&eps).map(|(x, e)| (x - level[1] * e) / level[0]).collect();
        let sum = |mix: &Mix, i: usize| -> f64 {
            let of = |of: Of| match of {
                Of::X => x[i],
                Of::X0 => x0[i],
                Of::Eps => eps[i],
                Of::History(h) => history[h][i],
            };
            mix.0.iter().map(|t| t.by * of(t.of)).sum()
        };
        let update = &call.updates[done.min(call.updates.len() - 1)];
        let kept: Vec<Vec<f64>> = update.keep.iter().map(|m| vec![sum(m, 0), sum(m, 1)]).collect();
        let mut next = vec![sum(&update.mean, 0), sum(&update.mean, 1)];
        if let CallNoise::Std(std) = call.noise {
            draws += 1;
            next.iter_mut().zip(of_draw(draws)).for_each(|(x, z)| *x += std * z);
        }
        history.splice(..kept.len(), kept);
        x = next;
        if call.evaluates {
            all.push([x[0], x[1]]);
        }
    }
    all
}

/// From sigma 10,000 diffusers' Karras VE steps to 34. With every number in f64 our coefficients give its trajectory to
/// rounding, so nothing is wrong with them; rounding the network's output alone, as f32 does, is what moves x there by
/// more than 1e-3.
#[test]
fn karras_ve_parts_from_diffusers_by_the_rounding_of_the_output_alone() {
    let json: Value = serde_json::from_str(include_str!("../golden/samplers.json")).unwrap();
    let mut arrays = Arrays::read();
    let mut seen = Vec::new();
    for case in json["cases"].as_array().unwrap() {
        let count = |name: &str| case[name].as_u64().unwrap() as usize;
        arrays.next("timesteps", count("timesteps"));
        arrays.next("sigmas", count("sigmas"));
        arrays.next("init", 1);
        arrays.next("levels", 2 * count("calls"));
        let right = arrays.next("x", 2 * count("calls"));
        arrays.next("x_f32", 6 * count("calls"));
        arrays.next("intervals", if case["brownian"] == true { 2 * count("draws") } else { 0 });
        if case["class"] != "KarrasVeScheduler" {
            continue;
        }
        let mut config = json["defaults"]["KarrasVeScheduler"].as_object().unwrap().clone();
        config.extend(case["config"].as_object().unwrap().clone());
        let number = |key: &str| config[key].as_f64().unwrap();
        let (n, top, bottom) = (count("sigmas"), number("sigma_max").powi(2), number("sigma_min").powi(2));
        let sigmas = (0..n).map(|i| top * (bottom / top).powf(i as f64 / (n - 1) as f64)).chain([0.0]);
        let levels: Vec<Level> = sigmas.map(|s| if s == 0.0 { Level::CLEAN } else { Level::exploding(s, s) }).collect();
        let path = Path {
            levels: &levels,
            prediction: Prediction::default(),
            preconditioning: Preconditioning::Score { unit: ScoreUnit::MinusEps },
            initial_scale: number("sigma_max"),
        };
        let churn = Churn {
            s_churn: number("s_churn"),
            s_tmin: number("s_min"),
            s_tmax: number("s_max"),
            s_noise: number("s_noise"),
        };
        let plan = churned_heun("Karras VE", &path, churn, |sigma| sigma).unwrap();
        let of_draw = |k: usize| -> Vec<f64> {
            pcg::uniform(3, 1 + k as u64, 6, 3f32.sqrt())[..2].iter().map(|v| f64::from(*v)).collect()
        };
        let off = |output| {
            let x = run(&plan, output, of_draw);
            assert_eq!(2 * x.len(), right.len());
            let each = x.iter().flatten().zip(&right).map(|(x, r): (&f64, &f64)| (x - r).abs() / r.abs().max(1.0));
            each.fold(0.0, f64::max)
        };
        let (exact, rounded) = (off(Output::Exact), off(Output::Rounded));
        println!(
            "sigma {top}, {n} steps, churn {}: in f64 {exact:.1e}, output in f32 {rounded:.1e}",
            number("s_churn")
        );
        // What a step makes of a rounding it makes of f64's too.
        assert!(exact < 1e-14_f64.max(10.0 * rounded * 2f64.powi(24 - 53)), "{case}: {exact:e}");
        seen.push((top, churn.s_churn, rounded));
    }
    assert_eq!(seen.len(), 4);
    let worst = seen.iter().find(|(top, churn, _)| *top == 1e4 && *churn == 5.0).unwrap();
    assert!((1e-4..1e-1).contains(&worst.2), "{seen:?}");
    assert!(seen.iter().filter(|s| *s != worst).all(|s| s.2 < 1e-5), "{seen:?}");
}
