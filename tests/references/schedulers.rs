//! Schedules, timesteps, single steps and whole chains equal those of diffusers, array by array, with given noise.
//!
//! `tests/golden/make_schedulers.py` made the arrays and names the versions.

use crate::pcg;
use safetensors::SafeTensors;
use serde_json::Value;
use undiffuse::chain::{Chain, ChainOptions, Flow, never};
use undiffuse::denoiser::{Call, Denoiser, FnDenoiser};
use undiffuse::noise::Given;
use undiffuse::sampler::{PredictionType, SamplerKind, SamplerOptions, SchedulerConfig, StepIo, Steps};
use undiffuse::schedule::{Arithmetic, BetaSchedule, Betas, NoiseSchedule, TimestepSpacing, spaced_timesteps};
use undiffuse::tensor::Dims;

const BYTES: &[u8] = include_bytes!("../golden/schedulers.safetensors");
/// The f32 nearest to the square root of 3: uniform values in +-sqrt(3) have unit variance.
const ROOT3: f32 = 1.732_050_8;

struct Golden {
    tensors: SafeTensors<'static>,
    cases: Vec<Value>,
}

impl Golden {
    fn of(part: &str) -> Self {
        let (_, metadata) = SafeTensors::read_metadata(BYTES).unwrap();
        let text = &metadata.metadata().as_ref().unwrap()[part];
        let cases = serde_json::from_str(text).unwrap();
        Self { tensors: SafeTensors::deserialize(BYTES).unwrap(), cases }
    }

    fn f32s(&self, name: &str) -> Vec<f32> {
        let data = self.tensors.tensor(name).unwrap();
        assert_eq!(data.dtype(), safetensors::Dtype::F32);
        data.data().chunks_exact(4).map(|c| f32::from_le_bytes(c.try_into().unwrap())).collect()
    }

    fn i32s(&self, name: &str) -> Vec<i32> {
        let data = self.tensors.tensor(name).unwrap();
        assert_eq!(data.dtype(), safetensors::Dtype::I32);
        data.data().chunks_exact(4).map(|c| i32::from_le_bytes(c.try_into().unwrap())).collect()
    }
}

/// The configuration of a case, and the run's options beside it.
fn read(case: &Value, arithmetic: Arithmetic) -> (SchedulerConfig, SamplerOptions) {
    let config = SchedulerConfig::from_json(&case["config"].to_string()).unwrap();
    let options = SamplerOptions {
        steps: Steps::Count(case["steps"].as_u64().unwrap() as usize),
        eta: case["eta"].as_f64().unwrap_or(0.0),
        use_clipped_model_output: case["use_clipped_model_output"].as_bool().unwrap_or(false),
        arithmetic,
        ..Default::default()
    };
    (config, options)
}

fn max_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, |m, d| if d.is_nan() { f32::NAN } else { m.max(d) })
}

#[test]
fn schedules() {
    let golden = Golden::of("schedules");
    assert_eq!(golden.cases.len(), 15);
    for (i, case) in golden.cases.iter().enumerate() {
        let mut config = case.clone();
        config["_class_name"] = "DDPMScheduler".into();
        let betas = SchedulerConfig::from_json(&config.to_string()).unwrap().betas();
        let s = NoiseSchedule::new(&betas, Arithmetic::Float32).unwrap();
        // Most are equal to the last bit. torch's sigmoid and vectorised square root (used by the rescaling) are not
        // rounded correctly on every CPU, so there an ulp of 1 decides: it is what 1 - beta keeps of beta.
        let ulp = f64::from(f32::EPSILON);
        let rescaled = betas.rescale_zero_snr;
        let plain =
            NoiseSchedule::new(&Betas { rescale_zero_snr: false, ..betas.clone() }, Arithmetic::Float64).unwrap();
        let last_root = plain.alphas_cumprod().last().unwrap().sqrt();
        let exact = !rescaled && betas.schedule != BetaSchedule::Sigmoid;
        for (name, got) in [("betas", s.betas()), ("alphas_cumprod", s.alphas_cumprod())] {
            let want = golden.f32s(&format!("{name}.{i}"));
            assert_eq!(got.len(), want.len());
            for (t, (got, want)) in got.iter().zip(&want).enumerate() {
                let want = f64::from(*want);
                let bound = match (exact, rescaled) {
                    (true, _) => 0.0,
                    (_, false) => 2.0 * ulp * want,
                    // The roots lose what the last one, subtracted, takes from them.
                    (_, true) => 8.0 * ulp * (1.0 + last_root / s.alphas_cumprod()[t].sqrt()),
                };
                assert!((got - want).abs() <= bound, "{case} {name} at {t}: {got} against {want}");
            }
        }
        // In f64 they are the same up to what f32 loses.
        let s = NoiseSchedule::new(&betas, Arithmetic::Float64).unwrap();
        let want = golden.f32s(&format!("alphas_cumprod.{i}"));
        for (t, (got, want)) in s.alphas_cumprod().iter().zip(&want).enumerate() {
            assert!((got - f64::from(*want)).abs() <= 3e-6, "{case} in f64 at {t}: {got} against {want}");
        }
    }
}

#[test]
fn timesteps() {
    let golden = Golden::of("timesteps");
    let all = golden.i32s("timesteps");
    let mut rest = all.as_slice();
    for case in &golden.cases {
        let n = case["steps"].as_u64().unwrap() as usize;
        let (want, tail) = rest.split_at(n);
        rest = tail;
        let name = case["timestep_spacing"].as_str().unwrap();
        let (_, spacing) = TimestepSpacing::NAMES.into_iter().find(|(n, _)| *n == name).unwrap();
        let offset = case["steps_offset"].as_u64().unwrap() as u32;
        let got = spaced_timesteps(spacing, 1000, n, offset).unwrap();
        assert!(got.iter().zip(want).all(|(g, w)| i64::from(*g) == i64::from(*w)), "{case}: {got:?} against {want:?}");
    }
    assert!(rest.is_empty() && golden.cases.len() > 40);
}

#[test]
fn single_steps() {
    const N: usize = 18;
    let golden = Golden::of("single_steps");
    let results = golden.f32s("single_steps");
    assert_eq!(results.len(), golden.cases.len() * 2 * 2 * N);
    let (x, z) = (pcg::uniform(1, 0, 2 * N, 1.8), pcg::uniform(1, 2, 2 * N, ROOT3));
    let mut worst = 0.0f32;
    for (case, want) in golden.cases.iter().zip(results.chunks_exact(4 * N)) {
        let (config, options) = read(case, Arithmetic::Float32);
        let sampler = config.sampler(&options).unwrap();
        let learned = config.class == SamplerKind::Ddpm && config.variance_type.is_learned();
        let m = if learned { 2 * N } else { N };
        let mut output = pcg::uniform(1, 1, 2 * m, 1.5);
        if config.variance_type == undiffuse::sampler::VarianceType::Learned {
            output.chunks_exact_mut(m).for_each(|o| o[N..].iter_mut().for_each(|v| *v *= *v));
        }
        let step = case["index"].as_u64().unwrap() as usize;
        let (mut eps, mut x0, mut next) = ([0.0; N], [0.0; N], [0.0; N]);
        for i in 0..2 {
            let noise: &[f32] = if sampler.needs_noise(step) { &z[i * N..][..N] } else { &[] };
            let io = StepIo {
                x: &x[i * N..][..N],
                output: &mut output[i * m..][..m],
                noise,
                state: &[],
                next_state: &mut [],
                eps: &mut eps,
                x0: &mut x0,
                next: &mut next,
            };
            sampler.step(step, 0, io).unwrap();
            // x_0 = (x - sigma eps) / alpha: an ulp of what is subtracted grows by 1 / alpha, 158 at t = 999 (torch's
            // sigma is an ulp off at some t, see above), and x_s takes it with the factor alpha_s at most.
            let magnified =
                if config.prediction_type == PredictionType::Epsilon { sampler.levels()[step].alpha } else { 1.0 };
            let x0_bound = 6.0 * f32::EPSILON * (1.0 / magnified as f32).min(1e6);
            let x_bound = 5e-7 + x0_bound * sampler.target(step).unwrap().alpha as f32;
            for (name, got, want, bound) in
                [("x_s", next, &want[i * N..][..N], x_bound), ("x_0", x0, &want[(2 + i) * N..][..N], x0_bound)]
            {
                // Without clipping the first x_0 is some hundreds large.
                let scale = want.iter().fold(1.0f32, |m, v| m.max(v.abs()));
                let d = max_difference(&got, want) / scale;
                assert!(d <= bound, "{case} sample {i}: {name} differs by {d}");
                if name == "x_s" {
                    worst = worst.max(d);
                }
            }
        }
    }
    println!("{} single steps, largest difference of x_s {worst:e}", golden.cases.len());
}

/// The denoiser of make_schedulers.py: independent N(m, s^2) under the linear schedule, in f64, rounded once.
fn gaussian_denoiser(n: usize, prediction: &str, learned: bool) -> Box<dyn Denoiser> {
    let m: Vec<f64> = pcg::uniform(2, 0, n, 0.6).into_iter().map(f64::from).collect();
    let s2: Vec<f64> = (0..n).map(|i| (0.05 + 0.3 * (i % 5) as f64).powi(2)).collect();
    let mut abar = 1.0;
    let table: Vec<f64> = (0..1000)
        .map(|t| {
            abar *= 1.0 - (1e-4 + (0.02 - 1e-4) * f64::from(t) / 999.0);
            abar
        })
        .collect();
    let prediction = prediction.to_string();
    let len = if learned { 2 * n } else { n };
    let predict = move |call: &Call<'_>, x: &[f32], out: &mut [f32]| {
        let abar = table[call.level.timestep as usize];
        let (a, sigma) = (abar.sqrt(), (1.0 - abar).sqrt());
        for (x, out) in x.chunks_exact(n).zip(out.chunks_exact_mut(len)) {
            for i in 0..n {
                let h = (f64::from(x[i]) - a * m[i]) / (a * a * s2[i] + sigma * sigma);
                let (eps, x0) = (sigma * h, m[i] + a * s2[i] * h);
                out[i] = match prediction.as_str() {
                    "epsilon" => eps,
                    "sample" => x0,
                    _ => a * eps - sigma * x0,
                } as f32;
                if learned {
                    out[n + i] = m[i] as f32;
                }
            }
        }
        Ok(())
    };
    let dims = Dims::new(&[1, 4, 4]).unwrap();
    Box::new(FnDenoiser::new("gaussian", dims, predict).with_output_len(len).unwrap())
}

/// Every case's largest difference over the ten kept x_t, with its name.
fn run_chains(arithmetic: Arithmetic) -> Vec<(String, f32)> {
    const N: usize = 16;
    let golden = Golden::of("chains");
    let of_case = |(i, case): (usize, &Value)| {
        let (config, options) = read(case, arithmetic);
        let steps = case["steps"].as_u64().unwrap() as usize;
        let x_t = pcg::uniform(2, 1, 2 * N, ROOT3);
        let noise: Vec<f32> = (0..steps).flat_map(|k| pcg::uniform(2, 2 + k as u64, 2 * N, ROOT3)).collect();
        let prediction = case["config"]["prediction_type"].as_str().unwrap_or("epsilon");
        let denoiser = gaussian_denoiser(N, prediction, config.variance_type.is_learned());
        let sampler = config.sampler(&options).unwrap();
        let given = Given::new(&x_t, &noise, 2, 0).unwrap();
        let mut chain = Chain::new(denoiser, sampler, given, &ChainOptions { batch: 2, first_sample: 0 }).unwrap();
        let want = golden.f32s(&format!("chain.{i}"));
        let mut kept = want.chunks_exact(2 * N);
        let mut worst = 0.0f32;
        chain
            .run_with(never(), |p| {
                if (p.step + 1) % (steps / 10) == 0 {
                    worst = worst.max(max_difference(p.x, kept.next().unwrap()));
                }
                Flow::Continue
            })
            .unwrap();
        assert!(kept.next().is_none());
        (case.to_string(), worst)
    };
    golden.cases.iter().enumerate().map(of_case).collect()
}

#[test]
fn chains() {
    for (case, worst) in run_chains(Arithmetic::Float32) {
        println!("{worst:e} {case}");
        assert!(worst <= 1e-5, "{case}: {worst:e}");
    }
}

#[test]
fn chains_in_f64_differ_by_what_the_reference_loses() {
    for (case, worst) in run_chains(Arithmetic::Float64) {
        println!("{worst:e} {case}");
        assert!(worst <= 1e-3, "{case}: {worst:e}");
    }
}
