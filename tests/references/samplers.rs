//! Every sampler against diffusers: whole trajectories with given noise and an exact denoiser, over a pairwise cover of
//! the options (`tests/golden/make_samplers.py`).

use crate::pcg;
use std::collections::BTreeMap;

use serde_json::Value;
use undiffuse::sampler::{Churn, Sampler, SamplerOptions, SchedulerConfig, StepIo, Steps};
use undiffuse::schedule::Arithmetic;

const BYTES: &[u8] = include_bytes!("../golden/samplers.safetensors");
/// The bound that the project promises, on x over max(1, |x|).
const BOUND: f64 = 1e-5;
const CHANNELS: usize = 3;
/// Of which so many are kept.
const KEPT: usize = 2;

/// The arrays of the cases, which stand one after the other.
pub(crate) struct Arrays(BTreeMap<&'static str, (Vec<f64>, usize)>);

impl Arrays {
    pub(crate) fn read() -> Self {
        let all = safetensors::SafeTensors::deserialize(BYTES).unwrap();
        let one = |name| {
            let data = all.tensor(name).unwrap();
            let width = if data.dtype() == safetensors::Dtype::F64 { 8 } else { 4 };
            let values = data.data().chunks_exact(width).map(|b| match width {
                8 => f64::from_le_bytes(b.try_into().unwrap()),
                _ => f64::from(f32::from_le_bytes(b.try_into().unwrap())),
            });
            (name, (values.collect(), 0))
        };
        Self(["timesteps", "sigmas", "init", "levels", "x", "x_f32", "intervals"].into_iter().map(one).collect())
    }

    pub(crate) fn next(&mut self, name: &'static str, count: usize) -> Vec<f64> {
        let (values, at) = self.0.get_mut(name).unwrap();
        *at += count;
        values[*at - count..*at].to_vec()
    }
}

/// What an exact denoiser of the prior gives for y = alpha x_0 + sigma eps, in channel c.
pub(crate) fn denoise(c: usize, y: f64, [alpha, sigma]: [f64; 2], prediction: &str, sigma_data: f64) -> f64 {
    let c = c as f64;
    let parts = [(0.3f64, -0.6 + 0.1 * c, 0.25f64), (0.7, 0.5 - 0.1 * c, 0.4)];
    let logs = parts.map(|(w, m, s)| {
        let v = (alpha * s).powi(2) + sigma * sigma;
        (w.ln() - v.ln() / 2.0 - (y - alpha * m).powi(2) / (2.0 * v), (y - alpha * m) / v)
    });
    let top = logs[0].0.max(logs[1].0);
    let weights = logs.map(|(l, _)| (l - top).exp());
    let total: f64 = weights.iter().sum();
    let (mut x0, mut eps) = (0.0, 0.0);
    for (i, (_, m, s)) in parts.into_iter().enumerate() {
        let r = weights[i] / total;
        x0 += r * (m + alpha * s * s * logs[i].1);
        eps += r * sigma * logs[i].1;
    }
    let (s, d) = (sigma / alpha, sigma_data);
    let (skip, out) = (d * d / (s * s + d * d), s * d / (s * s + d * d).sqrt());
    match prediction {
        "epsilon" => eps,
        "sample" => x0,
        "v_prediction" => alpha * eps - sigma * x0,
        "flow_prediction" => eps - x0,
        "neg_epsilon" => -eps,
        "score" => -eps / sigma,
        "edm" => (x0 - skip * y / alpha) / out,
        "edm_v" => -(x0 - skip * y / alpha) / out,
        other => panic!("{other}"),
    }
}

fn options(case: &Value, config: &mut serde_json::Map<String, Value>) -> Option<SamplerOptions> {
    let mut options = SamplerOptions::default();
    if !case["solver_p"].is_null() {
        return None;
    }
    for (key, value) in case["set"].as_object().unwrap() {
        match key.as_str() {
            "num_inference_steps" => options.steps = Steps::Count(value.as_u64().unwrap() as usize),
            "timesteps" => {
                let list = value.as_array().unwrap();
                options.steps = Steps::Timesteps(list.iter().filter_map(Value::as_f64).map(|t| t as u32).collect());
            }
            "mu" => options.mu = value.as_f64(),
            "sigmas" => {
                let mut list: Vec<f64> = value.as_array().unwrap().iter().filter_map(Value::as_f64).collect();
                // Euler ends at the last, the flows behind it.
                list.extend(case["class"].as_str().unwrap().starts_with("FlowMatch").then_some(0.0));
                options.steps = Steps::Sigmas(list);
            }
            // TCD takes all timesteps of the training where it is given, whatever it is.
            "original_inference_steps" if case["class"] == "TCDScheduler" => return None,
            "original_inference_steps" => {
                config.insert(key.clone(), value.clone());
            }
            _ => return None,
        }
    }
    let step = case["step"].as_object().cloned().unwrap_or_default();
    let mut churn = Churn::default();
    for (key, value) in &step {
        let number = value.as_f64();
        match key.as_str() {
            "eta" if case["class"] == "TCDScheduler" => options.tcd_gamma = number.unwrap(),
            "eta" => options.eta = number.unwrap(),
            "use_clipped_model_output" => options.use_clipped_model_output = value.as_bool().unwrap(),
            "order" => options.order = value.as_u64().map(|v| v as usize),
            "s_churn" => churn.s_churn = number.unwrap(),
            "s_tmin" => churn.s_tmin = number.unwrap(),
            "s_tmax" => churn.s_tmax = number.unwrap(),
            "s_noise" => churn.s_noise = number.unwrap(),
            // Of the parts of Python that are no files.
            _ => return None,
        }
    }
    options.churn = churn;
    Some(options)
}

/// The largest difference of a trajectory to `right`, [call, 2].
fn run(case: &Value, sampler: &dyn Sampler, right: &[f64], [levels, intervals]: [&[f64]; 2], sigma_data: f64) -> f64 {
    let root3 = 3f32.sqrt();
    let learned = sampler.check_output_len(CHANNELS, CHANNELS).is_err();
    let mut x: Vec<f32> = pcg::uniform(3, 1, 6, root3)[..CHANNELS].to_vec();
    x.iter_mut().for_each(|v| *v = (f64::from(*v) * f64::from(sampler.initial_scale())) as f32);
    let mut state = vec![0.0; sampler.state_len(CHANNELS)];
    let (mut draw, mut worst) = (0, 0.0f64);
    let mut first_of_pair = vec![0.0; CHANNELS];
    let mut calls = 0;
    for step in 0..sampler.levels().len() {
        let scale = f64::from(sampler.input_scale(step));
        // What adds noise without a call is no step of diffusers; any output will do.
        let call = sampler.calls_network(step);
        let seen = [levels[2 * calls], levels[2 * calls + 1]];
        let mut output: Vec<f32> = x
            .iter()
            .enumerate()
            .map(|(c, x)| {
                denoise(c, scale * f64::from(*x), seen, case["prediction"].as_str().unwrap(), sigma_data) as f32
            })
            .collect();
        if learned
            || case["class"] == "DDPMScheduler"
                && case["config"]["variance_type"].as_str().is_some_and(|v| v.contains("learned"))
        {
            output.extend((0..CHANNELS).map(|c| 0.2 + 0.1 * c as f32));
        }
        let mut noise = Vec::new();
        if sampler.needs_noise(step) {
            noise = pcg::uniform(3, 2 + draw, 6, root3)[..CHANNELS].to_vec();
            // Where two draws of one motion overlap, the sampler makes the second of the first and of fresh noise.
            if case["class"] == "DPMSolverSDEScheduler" {
                let of = |i: usize| (intervals[2 * i] - intervals[2 * i + 1]).abs();
                if draw % 2 == 1 {
                    let shared = of(draw as usize - 1) / of(draw as usize);
                    let fresh = noise
                        .iter()
                        .zip(&first_of_pair)
                        .map(|(z, a)| ((f64::from(*z) - shared.sqrt() * f64::from(*a)) / (1.0 - shared).sqrt()) as f32);
                    noise = fresh.collect();
                } else {
                    first_of_pair.clone_from(&noise);
                }
            }
            draw += 1;
        }
        let (mut eps, mut x0, mut next, mut next_state) =
            (vec![0.0; CHANNELS], vec![0.0; CHANNELS], vec![0.0; CHANNELS], state.clone());
        let io = StepIo {
            x: &x,
            output: &mut output,
            noise: &noise,
            state: &state,
            next_state: &mut next_state,
            eps: &mut eps,
            x0: &mut x0,
            next: &mut next,
        };
        sampler.step(step, step, io).unwrap();
        (x, state) = (next, next_state);
        if !call {
            continue;
        }
        calls += 1;
        for (x, right) in x.iter().take(KEPT).zip(&right[(calls - 1) * KEPT..]) {
            let off = (f64::from(*x) - right).abs() / right.abs().max(1.0);
            worst = if off.is_nan() { f64::INFINITY } else { worst.max(off) };
        }
    }
    worst
}

#[test]
fn trajectories_are_those_of_diffusers() {
    let json: Value = serde_json::from_str(include_str!("../golden/samplers.json")).unwrap();
    let mut arrays = Arrays::read();
    let mut table: BTreeMap<String, (usize, f64, Vec<String>)> = BTreeMap::new();
    let mut wrong = Vec::new();
    for case in json["cases"].as_array().unwrap() {
        let count = |name: &str| case[name].as_u64().unwrap() as usize;
        let timesteps = arrays.next("timesteps", count("timesteps"));
        let sigmas = arrays.next("sigmas", count("sigmas"));
        let init = arrays.next("init", 1)[0];
        let levels = arrays.next("levels", 2 * count("calls"));
        let right = arrays.next("x", KEPT * count("calls"));
        let _ = arrays.next("x_f32", 2 * CHANNELS * count("calls"));
        let brownian = case["brownian"] == true;
        let intervals = arrays.next("intervals", if brownian { 2 * count("draws") } else { 0 });
        let class = case["class"].as_str().unwrap();
        let row = table.entry(class.into()).or_insert((0, 0.0, Vec::new()));
        let mut config = json["defaults"][class].as_object().unwrap().clone();
        config.insert("_class_name".into(), class.into());
        config.extend(case["config"].as_object().unwrap().clone());
        let about = format!("{class} {} {} {}", case["config"], case["set"], case["step"]);
        let Some(options) = options(case, &mut config) else {
            row.2.push(about);
            continue;
        };
        // The timesteps are those of the f32 run.
        let visited = options.clone();
        let options = SamplerOptions { arithmetic: Arithmetic::Float64, ..options };
        let sigma_data = config.get("sigma_data").and_then(Value::as_f64).unwrap_or(0.5);
        let made = SchedulerConfig::from_json(&Value::Object(config).to_string())
            .and_then(|c| Ok((c.sampler(&options)?, c.sampler(&visited)?)));
        let (sampler, visited) = match made {
            Ok(sampler) => sampler,
            Err(e) => {
                row.2.push(format!("{about}: {e}"));
                continue;
            }
        };
        let calls = (0..sampler.levels().len()).filter(|step| sampler.calls_network(*step)).count();
        let off = if calls == count("calls") {
            run(case, &sampler, &right, [&levels, &intervals], sigma_data)
        } else {
            f64::INFINITY
        };
        // What these networks are told is sigma, or the time of a network with T - 1 for its last.
        let told: &[f64] = match class {
            "ScoreSdeVeScheduler" => &sigmas,
            _ => &timesteps,
        };
        let unit = if class == "ScoreSdeVpScheduler" { 1999.0 } else { 1.0 };
        let visited = visited.levels().iter().enumerate().filter(|(step, _)| visited.calls_network(*step));
        let mut differ: Vec<f64> = visited.map(|(_, l)| l.timestep / unit).collect();
        if class == "ScoreSdeVeScheduler" {
            let each = calls / told.len();
            differ = differ.into_iter().step_by(each).collect();
        }
        // diffusers tells its Karras VE no timesteps, but indices of sigmas.
        if class == "KarrasVeScheduler" {
            differ.clear();
        }
        let differ = differ.iter().zip(told).map(|(l, t)| (l - t).abs() / t.abs().max(1.0));
        let timestep = differ.fold(0.0, f64::max);
        let scale = (f64::from(sampler.initial_scale()) - init).abs() / init;
        row.0 += 1;
        row.1 = row.1.max(off);
        // Where diffusers' own f32 run parts further from its f64 run, so may ours: such a case (a first sigma of
        // 20,000, say) multiplies the rounding of its f32 elements, and two programs round differently.
        let theirs = case["f32_differs"][0].as_f64().unwrap();
        // diffusers computes grids in f32. From sigma 20,000 the sigma of an ancestral step's lower level is lost
        // there: it tells the network 899.0 where 913.8 is meant.
        let lost = class == "KDPM2AncestralDiscreteScheduler" && init > 1e4;
        // Heun's step from sigma 14,142 to 34 multiplies the network's f32 output by 7,071 and takes half of an x of
        // 14,000 from it: f32 parts from f64 by 3.3e-3 in torch, 1.5e-2 here, 3.3e-2 in NumPy.
        let theirs = if class == "KarrasVeScheduler" && theirs > 1e-3 { 1e-2 } else { theirs };
        if off > BOUND.max(3.0 * theirs) || (timestep > 1e-4 && !lost) || scale > 1e-6 {
            wrong.push(format!(
                "theirs {theirs:.1e} x {off:.1e} timesteps {timestep:.1e} init {scale:.1e} calls {calls} of {}: {about}",
                count("calls")
            ));
        }
    }
    for (class, (count, worst, refused)) in &table {
        println!("{class}: {count} trajectories, at most {worst:.1e}; {} refused", refused.len());
        for text in refused {
            println!("    {text}");
        }
    }
    let compared: usize = table.values().map(|(count, ..)| count).sum();
    assert!(compared >= 520, "{compared} trajectories compared");
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
