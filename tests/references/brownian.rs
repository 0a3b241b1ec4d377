//! DPM-Solver SDE with the noise of torchsde's Brownian tree: from a seed the trajectory of diffusers
//! (`tests/golden/make_brownian.py`).

use serde_json::Value;
use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::denoiser::FnDenoiser;
use undiffuse::noise::{BrownianTree, DrawnFor, NoiseSource, TreeSeed};
use undiffuse::sampler::{Sampler, SamplerOptions, SchedulerConfig, Steps, brownian_intervals};
use undiffuse::schedule::Arithmetic;
use undiffuse::tensor::Dims;

use crate::samplers::denoise;

const BYTES: &[u8] = include_bytes!("../golden/brownian.safetensors");

/// The arrays, from which the cases take one after the other.
struct Arrays(Vec<(&'static str, Vec<f64>, usize)>);

impl Arrays {
    fn read() -> Self {
        let all = safetensors::SafeTensors::deserialize(BYTES).unwrap();
        let one = |name| {
            let data = all.tensor(name).unwrap();
            let width = if data.dtype() == safetensors::Dtype::F64 { 8 } else { 4 };
            let values = data.data().chunks_exact(width).map(|b| match width {
                8 => f64::from_le_bytes(b.try_into().unwrap()),
                _ => f64::from(f32::from_le_bytes(b.try_into().unwrap())),
            });
            (name, values.collect(), 0)
        };
        Self(["sigmas", "intervals", "draws", "x_t", "x", "end"].map(one).into())
    }

    fn next(&mut self, name: &str, count: usize) -> Vec<f64> {
        let (_, values, at) = self.0.iter_mut().find(|(n, ..)| *n == name).unwrap();
        *at += count;
        values[*at - count..*at].to_vec()
    }
}

/// Of draws of disjoint intervals, as many as the plan has.
fn disjoint(intervals: &[f64]) -> Vec<(u64, [f64; 2])> {
    let pairs = intervals.chunks(4).enumerate();
    pairs.flat_map(|(k, i)| [(2 * k as u64 + 1, [i[0], i[1]]), (2 * k as u64 + 2, [i[1], i[3]])]).collect()
}

fn away(got: &[f32], right: &[f64]) -> f64 {
    assert_eq!(got.len(), right.len());
    got.iter().zip(right).map(|(g, r)| (f64::from(*g) - r).abs() / r.abs().max(1.0)).fold(0.0, f64::max)
}

#[test]
fn a_seed_gives_the_trajectory_of_diffusers() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("../golden/brownian.json")).unwrap();
    let mut arrays = Arrays::read();
    for case in &cases {
        let shape: Vec<usize> =
            case["shape"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect();
        let (batch, pixels) = (shape[0], shape[2] * shape[3]);
        let (n, steps) = (3 * pixels, case["steps"].as_u64().unwrap() as usize);
        let (all, draws) = (batch * n, 2 * (steps - 1));
        let sigmas = arrays.next("sigmas", steps + 1);
        let intervals = arrays.next("intervals", 2 * draws);
        let answers = arrays.next("draws", draws * all);
        let x_t = arrays.next("x_t", all);
        let seen = arrays.next("x", 2 * (2 * steps - 1));
        let end = arrays.next("end", all);

        let (seed, each) = (case["seed"].as_u64().unwrap(), case["each"].as_bool().unwrap());
        let tree = case["tree"].as_u64().map_or(TreeSeed::Drawn, TreeSeed::Given);
        let drawn_for = if each { DrawnFor::Each { at_once: batch } } else { DrawnFor::AllOf(batch as u64) };
        let ends = [sigmas[steps - 1], sigmas[0]];
        let noise = |between: &[(u64, [f64; 2])]| {
            BrownianTree::new(seed, tree, drawn_for, n, between).unwrap().with_ends(ends[0], ends[1]).unwrap()
        };

        // The draws themselves: what the tree was asked, and, of the second of a step, what the plan makes of its own.
        let asked: Vec<(u64, [f64; 2])> =
            intervals.chunks(2).enumerate().map(|(k, i)| (k as u64 + 1, [i[0], i[1]])).collect();
        let mut source = noise(&asked);
        let mut worst = 0f64;
        for (k, right) in answers.chunks(all).enumerate() {
            let mut z = vec![0.0; all];
            source.normal(0, k as u64 + 1, n, &mut z).unwrap();
            worst = worst.max(away(&z, right));
        }
        assert!(worst < 2e-6, "{case}: draws differ by {worst:e}");

        let mut config = case["config"].as_object().unwrap().clone();
        config.insert("_class_name".into(), "DPMSolverSDEScheduler".into());
        let config = SchedulerConfig::from_json(&Value::Object(config).to_string()).unwrap();
        let arithmetic = Arithmetic::Float64;
        let options = SamplerOptions { steps: Steps::Sigmas(sigmas), arithmetic, ..Default::default() };
        let sampler = config.sampler(&options).unwrap();
        // Where the tree is asked, found by ourselves.
        let (own, own_ends) = brownian_intervals(&*sampler).unwrap();
        let fed = disjoint(&intervals);
        let same = own.iter().zip(&fed).filter(|(a, b)| a == b).count();
        assert_eq!((own_ends, own.len()), (ends, fed.len()));
        let chain = |batch: usize, first_sample: u64| {
            let dims = Dims::new(&[3, shape[2], shape[3]]).unwrap();
            let exact = FnDenoiser::new("exact", dims, move |call, x, out| {
                for (i, (o, x)) in out.iter_mut().zip(x).enumerate() {
                    let level = [call.level.alpha, call.level.sigma];
                    *o = denoise(i / pixels % 3, f64::from(*x), level, "epsilon", 0.5) as f32;
                }
                Ok(())
            });
            Chain::new(exact, &*sampler, noise(&fed), &ChainOptions { batch, first_sample }).unwrap()
        };
        let mut run = chain(batch, 0);
        let scale = f64::from(sampler.initial_scale());
        let start: Vec<f32> = run.x().iter().map(|x| (f64::from(*x) / scale) as f32).collect();
        assert!(away(&start, &x_t) < 1e-6, "{case}: x_T");
        let mut worst = 0f64;
        for right in seen.chunks(2) {
            run.step().unwrap();
            let x = run.x();
            worst = worst.max(away(&[x[0], x[all - 1]], right));
        }
        let of_end = away(run.x(), &end);
        println!("{case}: x within {worst:.1e}, at the end {of_end:.1e}; {same} of {} intervals found", fed.len());
        assert!(worst.max(of_end) <= 1e-5, "{case}: {worst:e} {of_end:e}");

        // The last sample alone, saved and taken up in the middle of a step.
        let last = batch as u64 - 1;
        let mut alone = chain(1, last);
        (0..3).for_each(|_| assert!(alone.step().is_ok()));
        let saved = alone.save().unwrap();
        let mut taken = chain(1, 0);
        taken.restore(&saved).unwrap();
        taken.run().unwrap();
        assert_eq!(taken.x(), &run.x()[all - n..], "{case}");
    }
    assert_eq!(cases.len(), 10);
}

#[test]
fn other_samplers_have_no_such_noise() {
    let config = SchedulerConfig::from_json(r#"{"_class_name": "EulerDiscreteScheduler"}"#).unwrap();
    let euler = config.sampler(&SamplerOptions { steps: Steps::Count(4), ..Default::default() }).unwrap();
    let e = brownian_intervals(&*euler).unwrap_err();
    assert!(e.message().contains("Euler") && e.kind() == undiffuse::ErrorKind::Unsupported, "{e}");
}
