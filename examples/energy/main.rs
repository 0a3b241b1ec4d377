//! A trained diffusion model perturbed by an energy-based one, which Sohl-Dickstein et al. 2015 name as future work.
//!
//! `cargo run --release --features training --example energy`
//!
//! p is the binary chain of 2015 with a network, trained here on 10 bits that like to equal their neighbours. r(x) =
//! exp(-E(x)) is an energy-based model of its own, which minimum probability flow finds from samples of another law:
//! once an Ising model, once the free energy of a restricted Boltzmann machine. Nobody normalises r, and no network is
//! trained for the product. What is sampled is held to the product of both over all 1024 states: p's law is carried
//! through every step of the chain, with the network called on all states, so nothing in the comparison is sampled but
//! the samples.

mod machine;

use std::path::Path;
use std::sync::Arc;

use machine::{HIDDEN, Machine};
use undiffuse::backend::cpu::Cpu;
use undiffuse::backend::cpu::pool::Pool;
use undiffuse::chain::{Chain, ChainOptions, ParticleOptions, Particles};
use undiffuse::denoiser::{Call, Denoiser};
use undiffuse::noise::{Seeded, Stream};
use undiffuse::pipeline::{Pipeline, PipelineOptions};
use undiffuse::posterior::BitEnergy;
use undiffuse::sampler::{Estimate, Sampler};
use undiffuse::tensor::Dims;
use undiffuse::training::config::TrainConfig;
use undiffuse::training::data::{Dataset, Ising};
use undiffuse::training::mpf::Mpf;
use undiffuse::training::trainer::Trainer;
use undiffuse::{Cancel, Result};

const BITS: usize = 10;
const STATES: usize = 1 << BITS;
const STEPS: usize = 50;
/// Particles of one posterior sample, and how many of these.
const PARTICLES: usize = 64;
const RUNS: usize = 1 << 13;

fn main() -> Result<()> {
    let pipeline = trained(&chain_of_spins()?.samples(1, 20_000, 30)?)?;
    let sampler = pipeline.sampler(&Default::default())?;
    let p = law(&pipeline, &*sampler)?;
    let data = boltzmann(&energies(&chain_of_spins()?));
    println!("the trained chain, T = {STEPS}: total variation from the law of its data {}", percent(&p, &data));

    let truth = pairs_at_odds()?;
    let (fitted, report) = Mpf::new(&truth.samples(2, 20_000, 50)?)?.fit(Default::default())?;
    let square = |f: &dyn Fn(usize) -> f64| (0..BITS * BITS).map(|i| f(i).powi(2)).sum::<f64>();
    let (got, want) = (fitted.couplings(), truth.couplings());
    println!(
        "minimum probability flow: couplings within {:.1} % after {} evaluations\n",
        100.0 * (square(&|i| got[i] - want[i]) / square(&|i| want[i])).sqrt(),
        report.evaluations
    );

    let truth = boltzmann(&Machine::random(6, 1.2).energies());
    let (machine, report) = Machine::fit(&counted(&truth, 100_000), 8)?;
    println!(
        "the same of a Boltzmann machine with {HIDDEN} hidden units: total variation from the law of its data {} after {} \
         evaluations",
        percent(&boltzmann(&machine.energies()), &truth),
        report.evaluations
    );
    println!("total variation from p r over all {STATES} states, in % (of this, counting so many draws)");
    println!("{:26}{:>12}{:>22}{:>26}", "", "p itself", "the mean field alone", "64 particles");
    let free = || BitEnergy::new(Dims::new(&[BITS])?, |v: &[f32], g: &mut [f32]| Ok(machine.free_energy(v, g)));
    let ising = || BitEnergy::ising(BITS, fitted.couplings());
    compare("Ising, fitted", &pipeline, &*sampler, &p, &energies(&fitted), &ising)?;

    compare("machine, fitted", &pipeline, &*sampler, &p, &machine.energies(), &free)
}

/// Samples p r in two ways and prints how far they are from it.
fn compare<F: FnMut(&[f32], &mut [f32]) -> Result<f64>>(
    name: &str,
    pipeline: &Pipeline,
    sampler: &dyn Sampler,
    p: &[f64],
    energies: &[f64],
    energy: &dyn Fn() -> Result<BitEnergy<F>>,
) -> Result<()> {
    let want = normalised(p.iter().zip(energies).map(|(p, e)| p * (-e).exp()).collect());
    let counting = |draws: usize| 40.0 * want.iter().map(|p| p.sqrt()).sum::<f64>() / (draws as f64).sqrt();

    let batch = 1 << 14;
    let mut chain = Chain::with_evidence(
        pipeline.denoiser(batch, &[])?,
        sampler,
        Seeded::new(3),
        energy()?,
        &ChainOptions { batch, first_sample: 0 },
    )?;
    let mut alone = vec![0.0; STATES];
    for run in 0..8 {
        chain.restart((run * batch) as u64, batch)?;
        chain.run()?;
        chain.x().chunks_exact(BITS).for_each(|x| alone[state(x)] += 1.0 / (8 * batch) as f64);
    }

    let options = ParticleOptions { count: PARTICLES, ..Default::default() };
    let denoiser = pipeline.denoiser(PARTICLES, &[])?;
    let mut particles = Particles::guided(denoiser, sampler, Seeded::new(4), energy()?, energy()?, &options)?;
    let mut weighed = vec![0.0; STATES];
    for run in 0..RUNS {
        particles.run(run as u64)?;
        for (w, x) in particles.weights().zip(particles.x().chunks_exact(BITS)) {
            weighed[state(x)] += w / RUNS as f64;
        }
    }
    println!(
        "{name:26}{:>12}{:>22}{:>26}",
        percent(p, &want),
        format!("{} ({:.2})", percent(&alone, &want), counting(8 * batch)),
        format!("{} ({:.2})", percent(&weighed, &want), counting(PARTICLES * RUNS)),
    );
    Ok(())
}

/// The exact law of what the chain ends in, by carrying that of x_T through every step.
fn law(pipeline: &Pipeline, sampler: &dyn Sampler) -> Result<Vec<f64>> {
    let mut denoiser = pipeline.denoiser(STATES, &[])?;
    let x: Vec<f32> = (0..STATES).flat_map(bits).collect();
    let mut p = vec![1.0 / STATES as f64; STATES];
    let (mut output, mut reached) = (vec![0.0; STATES * BITS], vec![0.0; STATES]);
    for (step, &level) in sampler.levels().iter().enumerate() {
        denoiser.predict(&Call { level, first_sample: 0, cancel: &Cancel::new() }, &x, &mut output)?;
        let mut next = vec![0.0; STATES];
        for ((p, x), output) in p.iter().zip(x.chunks_exact(BITS)).zip(output.chunks_exact(BITS)) {
            let (mut x0, mut eps, mut ones) = ([0.0; BITS], [0.0; BITS], [0.0; BITS]);
            sampler.predict(step, x, output, &mut x0, &mut eps)?;
            sampler.mean(step, 0, Estimate { x, x0: &x0, eps: &eps }, &[], &mut [], &mut ones)?;
            // Bit by bit, each splits the mass of what stands.
            reached[0] = *p;
            for (i, &one) in ones.iter().enumerate() {
                let (low, high) = reached.split_at_mut(1 << i);
                for (l, h) in low.iter_mut().zip(high) {
                    (*l, *h) = (*l * (1.0 - f64::from(one)), *l * f64::from(one));
                }
            }
            next.iter_mut().zip(&reached).for_each(|(n, r)| *n += r);
        }
        p = next;
    }
    Ok(p)
}

/// The binary chain with a network of two hidden layers, trained on `data`.
fn trained(data: &Dataset) -> Result<Pipeline> {
    let folder = std::env::temp_dir().join(format!("undiffuse-energy-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({}, {BITS}), }}\n", data.count());
    let mut npy = b"\x93NUMPY\x01\x00".to_vec();
    npy.extend((header.len() as u16).to_le_bytes());
    npy.extend(header.bytes());
    npy.extend(data.values().iter().map(|&v| v as u8));
    std::fs::write(folder.join("bits.npy"), npy)?;
    let config = TrainConfig::from_json(&format!(
        r#"{{
            "model": {{"_class_name": "Mlp2015", "features": {BITS}, "hidden_features": [64, 64], "act_fn": "tanh",
                "center_input_sample": true, "num_train_timesteps": {STEPS}}},
            "scheduler": {{"_class_name": "Bits2015Scheduler", "num_train_timesteps": {STEPS}, "beta_schedule": "erasing_evenly",
                "bit_prediction": "clean"}},
            "data": {{"kind": "npy", "path": "bits.npy", "values": "data"}},
            "loss": {{"kind": "bound", "end": "network"}},
            "learning_rate": {{"kind": "cosine", "peak": 1e-2, "floor": 1e-5, "warmup": 100}},
            "init": {{"critical": {{"sigma_b": 0.1}}}},
            "batch": 1000, "steps": 2000, "seed": 1, "ema": 0.998
        }}"#
    ))?;
    let mut trainer = Trainer::new(config, Path::new(&folder), Arc::new(Pool::with_all_cores()?))?;
    while !trainer.is_done() {
        trainer.step(&Cancel::new())?;
    }
    let mut packed = Vec::new();
    trainer.pack(&mut |piece| {
        packed.extend_from_slice(piece);
        Ok(())
    })?;
    let file = folder.join("bits.safetensors");
    std::fs::write(&file, packed)?;
    let pipeline = Pipeline::open(&file, &Cpu::new()?, &PipelineOptions::default());
    std::fs::remove_dir_all(&folder)?;
    pipeline
}

/// What p is trained on: neighbours like to agree, and a field.
fn chain_of_spins() -> Result<Ising> {
    let mut k = vec![0.0; BITS * BITS];
    for i in 0..BITS {
        k[i * BITS + i] = 0.2;
        if i + 1 < BITS {
            (k[i * BITS + i + 1], k[(i + 1) * BITS + i]) = (0.5, 0.5);
        }
    }
    Ising::from_spins(BITS, &k)
}

/// What r is fitted to: all pairs coupled, with either sign.
fn pairs_at_odds() -> Result<Ising> {
    let mut k = vec![0.0; BITS * BITS];
    let mut stream = Stream::new(5, 0, 0);
    for i in 0..BITS {
        for j in 0..=i {
            let value = 0.35 * stream.normal();
            (k[i * BITS + j], k[j * BITS + i]) = (value, value);
        }
    }
    Ising::from_spins(BITS, &k)
}

fn energies(model: &Ising) -> Vec<f64> {
    (0..STATES).map(|s| model.energy(&bits(s).map(f64::from))).collect()
}

/// The law exp(-E).
fn boltzmann(energies: &[f64]) -> Vec<f64> {
    normalised(energies.iter().map(|e| (-e).exp()).collect())
}

/// The shares of states among so many draws.
fn counted(p: &[f64], draws: usize) -> Vec<f64> {
    let mut stream = Stream::new(7, 0, 0);
    let mut shares = vec![0.0; STATES];
    for _ in 0..draws {
        let mut left = stream.uniform();
        let state = p.iter().position(|p| {
            left -= p;
            left < 0.0
        });
        shares[state.unwrap_or(STATES - 1)] += 1.0 / draws as f64;
    }
    shares
}

fn bits(state: usize) -> [f32; BITS] {
    std::array::from_fn(|i| (state >> i & 1) as f32)
}

fn state(x: &[f32]) -> usize {
    x.iter().enumerate().map(|(i, &b)| usize::from(b >= 0.5) << i).sum()
}

fn normalised(mut p: Vec<f64>) -> Vec<f64> {
    let total: f64 = p.iter().sum();
    p.iter_mut().for_each(|p| *p /= total);
    p
}

/// The total variation of two laws.
fn percent(a: &[f64], b: &[f64]) -> String {
    format!("{:.2}", 50.0 * a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f64>())
}
