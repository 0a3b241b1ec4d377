//! The swiss rolls and leaves that ship, held to what their cards promise.

use std::f64::consts::{LN_2, PI};

use undiffuse::Cancel;
use undiffuse::backend::cpu::Cpu;
use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::evaluate::{BoundOptions, Edges, Times, Unit, bound};
use undiffuse::noise::{NoiseSource, Seeded, Stream};
use undiffuse::pipeline::{PipelineOptions, Source};
use undiffuse::training::data::{DeadLeaves, Scale, SwissRoll};

/// The energy distance 2 E|a - b| - E|a - a'| - E|b - b'| of as many values each, without bias.
fn energy(a: &[f64], b: &[f64]) -> f64 {
    // The sum of |x - y| over all pairs, by rank.
    let pairs = |x: &[f64]| {
        let mut x = x.to_vec();
        x.sort_by(f64::total_cmp);
        let n = x.len() as f64;
        x.iter().enumerate().map(|(i, v)| (2.0 * i as f64 + 1.0 - n) * v).sum::<f64>()
    };
    let (n, within, all) = (a.len() as f64, pairs(a) + pairs(b), pairs(&[a, b].concat()));
    2.0 * (all - within) / (n * n) - 2.0 * within / (n * (n - 1.0))
}

/// The mean of it over directions of the plane.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    let seen = |x: &[f32], (c, s): (f64, f64)| -> Vec<f64> {
        x.chunks_exact(2).map(|p| c * f64::from(p[0]) + s * f64::from(p[1])).collect()
    };
    let directions = (0..8).map(|i| PI * (f64::from(i) + 0.5) / 8.0).map(|t| (t.cos(), t.sin()));
    directions.map(|d| energy(&seen(a, d), &seen(b, d))).sum::<f64>() / 8.0
}

/// Points of a Gaussian with the mean and covariance of `data`.
fn gaussian(data: &[f32]) -> Vec<f32> {
    let n = data.len() as f64 / 2.0;
    let mean = [0, 1].map(|c| data.iter().skip(c).step_by(2).map(|&v| f64::from(v)).sum::<f64>() / n);
    let moment = |i: usize, j: usize| {
        data.chunks_exact(2).map(|p| (f64::from(p[i]) - mean[i]) * (f64::from(p[j]) - mean[j])).sum::<f64>() / n
    };
    let a = moment(0, 0).sqrt();
    let b = moment(0, 1) / a;
    let c = (moment(1, 1) - b * b).sqrt();
    let mut z = vec![0.0; data.len()];
    Seeded::new(6).normal(0, 0, z.len(), &mut z).unwrap();
    for p in z.chunks_exact_mut(2) {
        let (u, v) = (f64::from(p[0]), f64::from(p[1]));
        (p[0], p[1]) = ((mean[0] + a * u) as f32, (mean[1] + b * u + c * v) as f32);
    }
    z
}

/// The roll of one turn, wide enough for 16 units.
#[test]
fn one_turn_is_near_the_truth() {
    let roll = SwissRoll { from: 1.5 * PI, to: 3.5 * PI, noise: 0.4 };
    hold("swiss_roll", roll, Edges::Entropies, 2.45, 100.0);
}

/// The narrow one, as far above L_null as the paper's.
#[test]
fn a_narrow_roll_is_as_far_above_noise_as_the_papers() {
    let roll = SwissRoll { from: 1.5 * PI, to: 2.25 * PI, noise: 0.041 };
    hold("swiss_roll_narrow", roll, Edges::Network, 6.45, 100.0);
}

/// The leaves, at another size than they were trained at, held to what mixtures of 32 conditional Gaussians reach on
/// the test images of examples/dead_leaves, -1.160 bits per pixel, give or take what 24 other images leave.
#[test]
fn dead_leaves_are_as_likely_as_mixtures_find_them() {
    const SIZE: usize = 96;
    let path = format!("{}/pretrained/dead_leaves.safetensors", env!("CARGO_MANIFEST_DIR"));
    let source = Source::open(path).unwrap();
    let chain = source.scheduler().unwrap().chain_2015;
    let options = PipelineOptions { size: Some([SIZE; 2]), ..Default::default() };
    let pipeline = source.compile(&Cpu::new().unwrap(), &options).unwrap();
    let leaves = DeadLeaves { min_radius: 0.125, max_radius: 32.0, subpixels: 8, ..DeadLeaves::new(SIZE) };
    let images = leaves.images(77, 24).unwrap();
    let mut stream = Stream::new(77, 0, 1 << 40);
    let mut values: Vec<f32> = images
        .values()
        .iter()
        .map(|v| f64::from(((f64::from(*v) + 0.02 * stream.normal()) * 256.0) as u8))
        .collect::<Vec<_>>()
        .iter()
        .map(|grey| ((grey + stream.uniform()) / 127.5 - 1.0) as f32)
        .collect();
    Scale { scl: chain.sample_scale, shft: chain.sample_shift }.apply(&mut values);
    let mut denoiser = pipeline.denoiser(4, &[]).unwrap();
    let sampler = pipeline.sampler(&Default::default()).unwrap();
    let options =
        BoundOptions { batch: 4, edges: Edges::Network, times: Times::Sampled(50), ..BoundOptions::default() };
    let report = bound(&mut denoiser, &*sampler, &mut Seeded::new(1), &values, &options, &Cancel::new()).unwrap();
    let [k, error] = [report.k, report.standard_error].map(|v| report.value(v, Unit::BitsPerDim));
    println!("K {k:.3} +- {error:.3}");
    assert!(error < 0.04 && k > -1.16 - 2.0 * error, "{k} +- {error}");
}

/// K at least `least` bits above L_null and at most 0.3 below the truth; samples `times` nearer to the data than a
/// Gaussian.
fn hold(name: &str, roll: SwissRoll, edges: Edges, least: f64, times: f64) {
    let path = format!("{}/pretrained/{name}.safetensors", env!("CARGO_MANIFEST_DIR"));
    let source = Source::open(path).unwrap();
    let chain = source.scheduler().unwrap().chain_2015;
    let scale = Scale { scl: chain.sample_scale, shft: chain.sample_shift };
    let pipeline = source.compile(&Cpu::new().unwrap(), &PipelineOptions::default()).unwrap();
    let points = |seed: u64, count: usize| {
        let mut values = roll.points(seed, count).unwrap().values().to_vec();
        scale.apply(&mut values);
        values
    };

    let options = BoundOptions { batch: 500, edges, ..BoundOptions::default() };
    let mut denoiser = pipeline.denoiser(500, &[]).unwrap();
    let sampler = pipeline.sampler(&Default::default()).unwrap();
    let held_out = points(99, 4000);
    let report = bound(&mut denoiser, &*sampler, &mut Seeded::new(1), &held_out, &options, &Cancel::new()).unwrap();
    let [k, null, error] = [report.k, report.l_null, report.standard_error].map(|v| report.value(v, Unit::Bits));
    let truth = -roll.entropy(128).unwrap() / LN_2 - 2.0 * scale.bits_per_dim();
    println!("K {k:.3} +- {error:.3}, {:.3} above L_null, truth {truth:.3}, gap {:.3}", k - null, truth - k);
    assert!(k - null > least && truth - k < 0.3 && k < truth + 2.0 * error);

    // With 20,000 points, chance alone moves the distance of the narrow roll by half.
    let (count, batch) = (200_000, 20_000);
    let mut samples = Vec::new();
    for first_sample in (0..count as u64).step_by(batch) {
        let options = ChainOptions { batch, first_sample };
        let denoiser = pipeline.denoiser(batch, &[]).unwrap();
        let sampler = pipeline.sampler(&Default::default()).unwrap();
        let mut chain = Chain::new(denoiser, sampler, Seeded::new(4), &options).unwrap();
        chain.run().unwrap();
        samples.extend_from_slice(chain.x());
    }
    let data = points(98, count);
    let (model, fit) = (distance(&samples, &data), distance(&gaussian(&data), &data));
    println!("energy distance {model:.5}, of a Gaussian {fit:.5}, {:.0} times", fit / model);
    assert!(fit > times * model);
}
