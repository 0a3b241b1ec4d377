//! The process and the chain of classes against NumPy's explicit transition matrices (`tests/golden/make_d3pm.py`).

use crate::pcg;
use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::denoiser::{Call, FnDenoiser};
use undiffuse::noise::NoiseSource;
use undiffuse::process::{Categorical, Forgetting};
use undiffuse::sampler::{ClassPrediction, D3pm, Estimate, Sampler, classes_of};
use undiffuse::schedule::{Arithmetic, Betas, NoiseSchedule};
use undiffuse::tensor::Dims;

const T: usize = 12;
const K: usize = 4;
const N: usize = 3;
const P: usize = 5;

/// The eight bytes of each value of an array.
fn stored(name: &str) -> Vec<[u8; 8]> {
    let bytes = std::fs::read(crate::golden::path("d3pm.safetensors")).unwrap();
    let (length, rest) = bytes.split_at(8);
    let (header, data) = rest.split_at(u64::from_le_bytes(length.try_into().unwrap()) as usize);
    let header: serde_json::Value = serde_json::from_slice(header).unwrap();
    let at = |i: usize| header[name]["data_offsets"][i].as_u64().unwrap() as usize;
    data[at(0)..at(1)].chunks_exact(8).map(|b| b.try_into().unwrap()).collect()
}

fn numbers(name: &str) -> Vec<f64> {
    stored(name).into_iter().map(f64::from_le_bytes).collect()
}

fn cases() -> impl Iterator<Item = (String, Betas, Categorical)> {
    let schedules: [(&str, Betas); 3] = [
        ("linear", Betas { num_train_timesteps: T, start: 0.02, end: 1.0, ..Betas::default() }),
        ("cosine", Betas::cosine(T).unwrap()),
        ("mutual", Betas::erasing_evenly(T).unwrap()),
    ];
    schedules.into_iter().flat_map(|(name, betas)| {
        [("uniform", Forgetting::Uniform), ("absorbing", Forgetting::Absorbing { mask: 1 })]
            .map(|(kind, f)| (format!("{name}.{kind}."), betas.clone(), Categorical::new(K, f).unwrap()))
    })
}

fn largest_difference(what: &str, got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len(), "{what}");
    let off = got.iter().zip(want).map(|(g, w)| (g - w).abs()).fold(0.0, f64::max);
    assert!(off < 1e-12, "{what} is off by {off:e}");
}

#[test]
fn the_process_is_that_of_explicit_matrices() {
    for (name, betas, process) in cases() {
        let schedule = NoiseSchedule::new(&betas, Arithmetic::Float64).unwrap();
        largest_difference("betas", schedule.betas(), &numbers(&format!("{name}betas")));
        let all = |each: usize| (0..T).flat_map(move |t| (0..each).map(move |i| (t, i)));
        let abar = |t: usize| schedule.alphas_cumprod()[t];
        let before = |t: usize| if t == 0 { 1.0 } else { abar(t - 1) };
        let got: Vec<f64> = all(K * K).map(|(t, i)| process.marginal(abar(t), i / K, i % K)).collect();
        largest_difference(&format!("{name}marginal"), &got, &numbers(&format!("{name}marginal")));
        let got: Vec<f64> = all(K * K * K)
            .map(|(t, i)| {
                let p = process.posterior(abar(t), before(t), i / K / K, i / K % K, i % K);
                if p.is_nan() { 0.0 } else { p }
            })
            .collect();
        largest_difference(&format!("{name}posterior"), &got, &numbers(&format!("{name}posterior")));

        // In f32, as the library has probabilities.
        let mut p = [0.1f64, if process.mask().is_some() { 0.0 } else { 0.2 }, 0.4, 0.3];
        let total: f64 = p.iter().sum();
        p.iter_mut().for_each(|p| *p /= total);
        let p = p.map(|p| p as f32);
        for (kind, joint) in [("clean", false), ("joint", true)] {
            let mut got = vec![0.0; T * K * K];
            for (t, x_t) in all(K) {
                let row = &mut got[(t * K + x_t) * K..][..K];
                match joint {
                    true => process.reverse_of_joint(abar(t), before(t), &p, x_t, |k, v| row[k] = v),
                    false => process.reverse(abar(t), before(t), &p, x_t, |k, v| row[k] = v),
                }
            }
            let want = numbers(&format!("{name}{kind}"));
            let off = got.iter().zip(&want).map(|(g, w)| (g - w).abs()).fold(0.0, f64::max);
            assert!(off < 1e-7, "{name}{kind} is off by {off:e}");
        }
    }
}

/// The uniform values that the script draws.
struct Script;

impl NoiseSource for Script {
    fn normal(&mut self, _: u64, _: u64, _: usize, _: &mut [f32]) -> undiffuse::Result<()> {
        unreachable!("classes are drawn by uniform values")
    }
    fn uniform(&mut self, first: u64, draw: u64, len: usize, out: &mut [f32]) -> undiffuse::Result<()> {
        let all = pcg::uniform(7, draw, N * P * K, 0.5);
        out.iter_mut().zip(&all[first as usize * len..]).for_each(|(out, u)| *out = u + 0.5);
        Ok(())
    }
    fn fingerprint(&self) -> u64 {
        1
    }
}

#[test]
fn chains_are_those_of_the_authors_gumbel_noise() {
    for (name, betas, process) in cases() {
        let schedule = NoiseSchedule::new(&betas, Arithmetic::Float64).unwrap();
        let timesteps: Vec<u32> = (0..T as u32).rev().collect();
        let sampler = D3pm::new(&schedule, &timesteps, process, ClassPrediction::Clean, true).unwrap();
        let dims = Dims::new(&[P, K]).unwrap();
        let logits = FnDenoiser::new("logits", dims, |call: &Call<'_>, _: &[f32], out: &mut [f32]| {
            let step = T as u64 - 1 - call.level.timestep as u64;
            let all = pcg::uniform(8, step, N * P * K, 2.0);
            out.copy_from_slice(&all[call.first_sample as usize * P * K..][..out.len()]);
            Ok(())
        });
        let mut chain = Chain::new(logits, &sampler, Script, &ChainOptions { batch: N, first_sample: 0 }).unwrap();
        let mut got: Vec<usize> = classes_of(chain.x(), K).collect();
        while chain.position() < T {
            chain.step().unwrap();
            got.extend(classes_of(chain.x(), K));
        }
        let want: Vec<usize> =
            stored(&format!("{name}chain")).into_iter().map(|b| i64::from_le_bytes(b) as usize).collect();
        assert_eq!(got, want, "{name}");
    }
}

#[test]
fn the_kernel_of_joint_probabilities_is_not_that_of_clean_ones() {
    let schedule = NoiseSchedule::new(&Betas::cosine(T).unwrap(), Arithmetic::Float64).unwrap();
    let process = Categorical::uniform(K).unwrap();
    let kernel = |prediction| {
        let s = D3pm::new(&schedule, &[8, 3], process, prediction, false).unwrap();
        let x = [0.0, 1.0, 0.0, 0.0];
        let (mut x0, mut eps, mut mean) = ([0.0; K], [0.0; K], [0.0; K]);
        s.predict(0, &x, &[0.1, 0.2, 0.4, 0.3], &mut x0, &mut eps).unwrap();
        s.mean(0, 0, Estimate { x: &x, x0: &x0, eps: &eps }, &[], &mut [], &mut mean).unwrap();
        assert!((mean.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        mean
    };
    let (clean, joint) = (kernel(ClassPrediction::Clean), kernel(ClassPrediction::Joint));
    // The probability of x_t's own class is counted twice.
    assert!(joint[1] > clean[1] + 0.01, "{clean:?} and {joint:?}");
}
