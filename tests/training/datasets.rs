//! Training end to end: it learns, it is the same bits for any number of threads and across a stop, and what it writes
//! is a pipeline.

use std::path::Path;
use std::sync::Arc;

use undiffuse::backend::cpu::pool::Pool;
use undiffuse::backend::cpu::{Cpu, CpuOptions};
use undiffuse::backend::threads::{Serial, Threads};
use undiffuse::evaluate::{BoundOptions, Unit, bound};
use undiffuse::noise::Seeded;
use undiffuse::pipeline::{PipelineOptions, Source};
use undiffuse::training::config::TrainConfig;
use undiffuse::training::data::{SwissRoll, heartbeats};
use undiffuse::training::trainer::Trainer;
use undiffuse::{Cancel, ErrorKind};

use crate::scratch::Scratch;

/// A swiss roll of much noise.
const ROLL: &str = r#"{
    "model": {"_class_name": "Rbf2015", "features": 2, "units": 16, "num_train_timesteps": 20},
    "scheduler": {"_class_name": "Ancestral2015Scheduler", "num_train_timesteps": 20},
    "data": {"kind": "swiss_roll", "count": 20000, "noise": 1.0, "scale": "unit_variance"},
    "loss": {"kind": "bound"}, "learning_rate": {"kind": "cosine", "peak": 2e-2},
    "batch": 500, "steps": 1500, "seed": 3, "learned_betas": {"rate": 0.5}, "ema": 0.99
}"#;

/// Heartbeats in few steps.
const BITS: &str = r#"{
    "model": {"_class_name": "Mlp2015", "features": 20, "hidden_features": [30], "act_fn": "tanh", "num_train_timesteps": 20},
    "scheduler": {"_class_name": "Bits2015Scheduler", "num_train_timesteps": 20, "pi": 0.2, "bit_prediction": "clean"},
    "data": {"kind": "heartbeat", "count": 5000},
    "loss": {"kind": "bound", "end": "network"}, "learning_rate": {"kind": "cosine", "peak": 1e-2},
    "batch": 200, "steps": 800
}"#;

fn trainer(config: &str, threads: Arc<dyn Threads>) -> Trainer {
    Trainer::new(TrainConfig::from_json(config).unwrap(), Path::new("."), threads).unwrap()
}

fn packed(trainer: &Trainer) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut sink = |piece: &[u8]| {
        bytes.extend_from_slice(piece);
        Ok(())
    };
    trainer.pack(&mut sink).unwrap();
    bytes
}

/// K and L_null in bits of a packed model on data, and the standard error of K.
fn evaluate(packed: &[u8], data: &[f32], options: &BoundOptions) -> (f64, f64, f64) {
    let cpu = Cpu::with_options(CpuOptions { threads: Some(1), ..CpuOptions::default() }).unwrap();
    let pipeline = Source::from_bytes(packed).unwrap().compile(&cpu, &PipelineOptions::default()).unwrap();
    let sampler = pipeline.sampler(&Default::default()).unwrap();
    let mut denoiser = pipeline.denoiser(options.batch, &[]).unwrap();
    let report = bound(&mut denoiser, &*sampler, &mut Seeded::new(5), data, options, &Cancel::new()).unwrap();
    let bits = |nats| report.value(nats, Unit::Bits);
    (bits(report.k), bits(report.l_null), bits(report.standard_error))
}

fn run(trainer: &mut Trainer) -> Vec<f64> {
    let mut losses = Vec::new();
    while !trainer.is_done() {
        losses.push(trainer.step(&Cancel::new()).unwrap().loss);
    }
    losses
}

#[test]
fn a_swiss_roll_is_learned() {
    let mut trainer = trainer(ROLL, Arc::new(Serial));
    let losses = run(&mut trainer);
    let mean = |l: &[f64]| l.iter().sum::<f64>() / l.len() as f64;
    println!("{} bits per dimension at first, {} at last", mean(&losses[..20]), mean(&losses[1450..]));
    let roll = SwissRoll { noise: 1.0, ..SwissRoll::default() };
    let (mut data, scale) = (roll.points(77, 2000).unwrap().values().to_vec(), trainer.scale());
    scale.apply(&mut data);
    let (k, null, error) = evaluate(&packed(&trainer), &data, &BoundOptions { batch: 250, ..BoundOptions::default() });
    let truth = -roll.entropy(64).unwrap() / std::f64::consts::LN_2 - 2.0 * scale.bits_per_dim();
    println!("K {k:.3} +- {error:.3}, L_null {null:.3}, truth {truth:.3}");
    assert!(mean(&losses[1450..]) < mean(&losses[..20]) - 0.12);
    // The loss of training and the evaluation are two programs for one number.
    assert!((-2.0 * mean(&losses[1400..]) - k).abs() < 0.06 + 3.0 * error);
    assert!(k - null > 0.3 && k < truth + 3.0 * error);
}

#[test]
fn heartbeats_are_learned() {
    let mut trainer = trainer(BITS, Arc::new(Serial));
    run(&mut trainer);
    let data = heartbeats(7, 500).unwrap();
    let options = BoundOptions { edges: undiffuse::evaluate::Edges::Network, batch: 250, ..BoundOptions::default() };
    let (k, null, error) = evaluate(&packed(&trainer), data.values(), &options);
    println!("K {k:.3} +- {error:.3}, L_null {null:.3}");
    assert!(k > -5.5 && k < -2.32 + 3.0 * error, "{k}");
}

#[test]
fn bits_do_not_depend_on_threads_or_stops() {
    for config in [ROLL, BITS] {
        let config = config.replace(r#""steps": 1500"#, r#""steps": 30"#).replace(r#""steps": 800"#, r#""steps": 30"#);
        let mut one = trainer(&config, Arc::new(Serial));
        run(&mut one);
        let expected = (packed(&one), one.save().unwrap());
        for threads in [2, 3] {
            let mut more = trainer(&config, Arc::new(Pool::new(threads).unwrap()));
            while more.steps_done() < 11 {
                more.step(&Cancel::new()).unwrap();
            }
            // A stop in the middle of a step leaves nothing behind.
            let cancel = Cancel::new();
            cancel.cancel();
            assert_eq!(more.step(&cancel).unwrap_err().kind(), ErrorKind::Cancelled);
            let saved = more.save().unwrap();
            let mut again = trainer(&config, Arc::new(Pool::new(threads).unwrap()));
            again.restore(&saved).unwrap();
            run(&mut again);
            assert!(packed(&again) == expected.0, "{threads} threads");
        }
    }
}

#[test]
fn a_pretrained_model_is_trained_on() {
    let short = |steps: usize, init: &str| {
        let fixed = ROLL.replace(r#" "learned_betas": {"rate": 0.5},"#, "");
        fixed.replace(r#""steps": 1500"#, &format!(r#""steps": {steps}, "init": {init}"#))
    };
    let mut first = trainer(&short(300, "{}"), Arc::new(Serial));
    let learned = run(&mut first);
    let dir = Scratch::new("trained-on");
    dir.write("roll.safetensors", packed(&first));
    // A relative path begins beside the configuration. The run is where the other ended, to the bit.
    let trainer_of = |config: &str| Trainer::new(TrainConfig::from_json(config)?, dir.path(), Arc::new(Serial));
    let from_file = r#"{"weights": "roll.safetensors"}"#;
    let mut on = trainer_of(&short(20, from_file).replace("2e-2", "2e-4")).unwrap();
    assert!(packed(&on) == packed(&first));
    let saved = on.save().unwrap();
    let losses = run(&mut on);
    let mean = |l: &[f64]| l.iter().sum::<f64>() / l.len() as f64;
    let (drawn, last, again) = (mean(&learned[..10]), mean(&learned[290..]), mean(&losses[..10]));
    println!("loss {drawn:.3} from drawn weights, {last:.3} at last, {again:.3} from the file");
    // Of the same batches and draws as the first ten from drawn weights.
    assert!(again < 0.5 * (drawn + last), "{again}");
    // To go on from a checkpoint the file is not needed any more.
    dir.write("on.checkpoint", &saved);
    let (file, away) = (dir.path().join("roll.safetensors"), dir.path().join("away.safetensors"));
    std::fs::rename(&file, &away).unwrap();
    let config = TrainConfig::from_json(&short(20, from_file).replace("2e-2", "2e-4")).unwrap();
    let checkpoint = dir.path().join("on.checkpoint");
    let mut resumed = Trainer::resume(config, dir.path(), Arc::new(Serial), checkpoint).unwrap();
    run(&mut resumed);
    assert!(packed(&resumed) == packed(&on));
    std::fs::rename(&away, &file).unwrap();
    // Such a run is another than one that begins at drawn weights.
    assert!(trainer(&short(20, "{}"), Arc::new(Serial)).restore(&saved).unwrap_err().message().contains("init"));

    let refused = |config: &str, name: &str| {
        let e = trainer_of(config).map(|_| ()).unwrap_err();
        assert!(e.message().contains(name), "{e}");
    };
    refused(&short(20, r#"{"weights": "roll.safetensors", "draw_readout": true}"#), "init.draw_readout");
    refused(&short(20, r#"{"weights": "no.safetensors"}"#), "no.safetensors");
    refused(&short(20, r#"{"weights": 3}"#), "init.weights is 3");
    refused(&short(20, r#"{"weights": ""}"#), "init.weights is \"\"");
    let wider = short(20, from_file).replace(r#""units": 16"#, r#""units": 17"#);
    refused(&wider, "its model's configuration is not that of the training config");
    dir.write("cut.safetensors", &packed(&first)[..200]);
    refused(&short(20, r#"{"weights": "cut.safetensors"}"#), "cut.safetensors");
}

#[test]
fn every_optimiser_and_loss_runs() {
    let optimisers = [
        (r#"{"kind": "adamw", "weight_decay": 0.01}"#, 1e-2, 100),
        (r#"{"kind": "rmsprop"}"#, 1e-3, 100),
        (r#"{"kind": "sfo", "history": 5}"#, 1.0, 40),
    ];
    for (optimiser, rate, steps) in optimisers {
        let config = format!(
            r#"{{"model": {{"_class_name": "Mlp2015", "features": 2, "hidden_features": [16], "num_train_timesteps": 10}},
                "scheduler": {{"_class_name": "Ancestral2015Scheduler", "num_train_timesteps": 10, "readout": "prediction",
                               "prediction_type": "sample"}},
                "data": {{"kind": "swiss_roll", "count": 1000, "noise": 1.0, "scale": "unit_variance"}},
                "loss": {{"kind": "squared_error", "snr_weight": "min_snr"}}, "optimizer": {optimiser},
                "learning_rate": {rate}, "batch": 100, "steps": {steps}}}"#
        );
        let mut trainer = trainer(&config, Arc::new(Serial));
        let losses = run(&mut trainer);
        let mean = |l: &[f64]| l.iter().sum::<f64>() / l.len() as f64;
        let (first, last) = (mean(&losses[..5]), mean(&losses[losses.len() - 5..]));
        println!("{optimiser}: {first:.3} to {last:.3}");
        assert!(last < 0.8 * first, "{optimiser}: {first} to {last}");
    }
}

#[test]
fn wrong_configurations_are_refused_by_name() {
    let refused = |from: &str, to: &str, name: &str| {
        assert!(ROLL.contains(from), "{from}");
        let text = ROLL.replace(from, to);
        let e = TrainConfig::from_json(&text)
            .and_then(|c| Trainer::new(c, Path::new("."), Arc::new(Serial)))
            .map(|_| ())
            .unwrap_err();
        assert!(e.message().contains(name), "{to}: {e}");
    };
    refused(r#""batch": 500"#, r#""bach": 500"#, "no batch");
    refused(r#""seed": 3"#, r#""sed": 3"#, "unknown key sed");
    refused(r#""seed": 3"#, r#""steps": 3"#, "stands twice");
    refused(r#""batch": 500"#, r#""batch": 0"#, "batch is 0");
    refused(r#""count": 20000"#, r#""count": "many""#, "data.count is \"many\"");
    refused(r#""noise": 1.0"#, r#""nose": 1.0"#, "data.nose");
    refused("swiss_roll", "roulade", "data.kind");
    refused(r#"{"kind": "bound"}"#, r#"{"kind": "bond"}"#, "loss.kind");
    refused(r#"{"kind": "bound"}"#, r#"{"kind": "squared_error"}"#, "prediction_type");
    refused(r#""peak": 2e-2"#, r#""peak": -1"#, "learning_rate.peak");
    refused(r#""units": 16"#, r#""units": 0"#, "units");
    refused(r#""features": 2"#, r#""features": 3"#, "samples of [3]");
    refused(r#""units": 16, "num_train_timesteps": 20"#, r#""num_train_timesteps": 30"#, "num_train_timesteps is 30");
    refused(r#""count": 20000"#, r#""count": 20000, "take": 20001"#, "data.take");
    refused("Ancestral2015Scheduler", "DDPMScheduler", "loss.kind is bound");
    let karras = r#"{"_class_name": "denoising_diffusion_pytorch.KarrasUnet", "image_size": 8}"#;
    let rbf = r#"{"_class_name": "Rbf2015", "features": 2, "units": 16, "num_train_timesteps": 20}"#;
    refused(rbf, karras, "KarrasUnet is not trained here");
    assert!(TrainConfig::from_json("[]").is_err() && TrainConfig::from_json("{").is_err());
}

#[test]
fn checkpoints_of_others_are_refused() {
    let mut a = trainer(ROLL, Arc::new(Serial));
    a.step(&Cancel::new()).unwrap();
    let saved = a.save().unwrap();
    let mut b = trainer(&ROLL.replace(r#""seed": 3"#, r#""seed": 4"#), Arc::new(Serial));
    assert!(b.restore(&saved).unwrap_err().message().contains("another training"));
    assert!(trainer(ROLL, Arc::new(Serial)).restore(&saved[..saved.len() - 1]).is_err());
    // More steps may be made than was planned.
    let mut longer = trainer(&ROLL.replace(r#""steps": 1500"#, r#""steps": 1600"#), Arc::new(Serial));
    longer.restore(&saved).unwrap();
    assert_eq!(longer.steps_done(), 1);
}
