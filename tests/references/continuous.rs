//! The chain in continuous time against NumPy (`tests/golden/make_continuous.py`), and its bound in the limit of many
//! steps.

use crate::pcg;
use undiffuse::Cancel;
use undiffuse::chain::{Chain, ChainOptions, Flow};
use undiffuse::denoiser::{Component, Covariance, GaussianMixture};
use undiffuse::evaluate::{BoundOptions, Edges, bound};
use undiffuse::noise::{Given, NoiseSource, Seeded};
use undiffuse::process::{Prediction, PredictionType, Rate};
use undiffuse::sampler::{ContinuousOptions, Sampler, TimeSpacing, euler_maruyama};
use undiffuse::tensor::Dims;
use undiffuse::weights::{SafeTensorsView, WeightSource};

const N: usize = 6;
/// Unit variance for uniform values.
const ROOT_3: f32 = 1.732_050_8;

fn stored(name: &str) -> Vec<f32> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/continuous.safetensors");
    let bytes = std::fs::read(file).unwrap();
    let view = SafeTensorsView::parse(&bytes).unwrap();
    let mut out = vec![0.0; view.info(name).unwrap().shape.iter().product()];
    view.read_f32(name, &mut out).unwrap();
    out
}

/// One element of the mixture's: a sample of one value, so that elements are independent.
fn mixture(kind: PredictionType) -> GaussianMixture {
    let part = |m: f64, v: f64| Component { weight: 1.0, mean: vec![m], covariance: Covariance::Diagonal(vec![v]) };
    GaussianMixture::new(Dims::new(&[1]).unwrap(), &[part(-0.6, 0.05), part(0.9, 0.2)], kind).unwrap()
}

#[test]
fn chains_are_those_of_numpy() {
    let base = ContinuousOptions { time_scale: 1.0, time_shift: 0.0, ..Default::default() };
    let constant = ContinuousOptions { rate: Rate::Constant(6.0), t_min: 0.01, steps: 60, ..base };
    let linear = ContinuousOptions {
        rate: Rate::Linear { start: 0.2, end: 12.0 },
        t_min: 0.05,
        steps: 45,
        spacing: TimeSpacing::Uniform,
        ..base
    };
    for (name, options) in [("constant", constant), ("linear", linear)] {
        let want = stored(name);
        for kind in [PredictionType::Sample, PredictionType::Epsilon] {
            let sampler = euler_maruyama(&options, Prediction { kind, ..Default::default() }).unwrap();
            let draw = |i| pcg::uniform(41, i, N, ROOT_3);
            let noise: Vec<f32> = (1..options.steps as u64).flat_map(draw).collect();
            let x_t = draw(0);
            let given = Given::new(&x_t, &noise, N, 0).unwrap();
            let run = ChainOptions { batch: N, first_sample: 0 };
            let mut chain = Chain::new(mixture(kind), &sampler, given, &run).unwrap();
            let mut got = Vec::new();
            chain
                .run_with(&Cancel::new(), |p| {
                    if (p.step + 1) % 10 == 0 || p.step + 1 == p.steps {
                        got.extend_from_slice(p.x);
                    }
                    Flow::Continue
                })
                .unwrap();
            assert_eq!(got.len(), want.len());
            let worst = got.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            println!("{name} {kind:?}: {worst:.1e}");
            assert!(worst < 2e-5, "{name} {kind:?}: {worst:e}");
            for (i, w) in stored(&format!("{name}_weights")).iter().enumerate() {
                assert!((options.kl_weight(i) / f64::from(*w) - 1.0).abs() < 1e-6, "{name} {i}");
            }
        }
    }
}

#[test]
fn the_bound_grows_with_the_steps_and_its_divergences_become_the_weights() {
    // N(0, 0.25): E (f0 - x_0)^2 = v (1 - abar) / (abar v + 1 - abar).
    let v = 0.25;
    let one = Component { weight: 1.0, mean: vec![0.0], covariance: Covariance::Diagonal(vec![v]) };
    let mut d = GaussianMixture::new(Dims::new(&[1]).unwrap(), &[one], PredictionType::Sample).unwrap();
    let mut data = vec![0.0; 2000];
    Seeded::new(1).normal(0, 0, 1, &mut data).unwrap();
    data.iter_mut().for_each(|x| *x *= 0.5);
    let prediction = Prediction { kind: PredictionType::Sample, ..Default::default() };
    let mut last = f64::NEG_INFINITY;
    for steps in [30, 300] {
        let rate = Rate::Constant(8.0);
        let process = ContinuousOptions { rate, steps, ..Default::default() };
        let s = euler_maruyama(&process, prediction).unwrap();
        let options = BoundOptions { edges: Edges::White, batch: 500, ..Default::default() };
        let r = bound(&mut d, &s, &mut Seeded::new(2), &data, &options, &Cancel::new()).unwrap();
        let limit: f64 = (0..steps - 1)
            .map(|i| {
                let abar = s.levels()[i].alpha_bar();
                process.kl_weight(i) * v * (1.0 - abar) / (abar * v + 1.0 - abar)
            })
            .sum();
        let truth = -0.5 * (1.0 + (2.0 * std::f64::consts::PI * v).ln());
        println!(
            "{steps} steps: K {:.4} +- {:.4} of {truth:.4}; divergences {:.4}, by weights {limit:.4}",
            r.k, r.standard_error, r.kl
        );
        assert!(r.k > last && r.k < truth + 4.0 * r.standard_error);
        if steps == 300 {
            assert!((r.kl - limit).abs() < 0.05 * limit + 4.0 * r.standard_error, "{} {limit}", r.kl);
        }
        last = r.k;
    }
}
