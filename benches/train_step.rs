//! Steps of training the authors' MNIST network (examples/experiments/mnist.json): forward, backward, Adam.
//!
//!     cargo bench --bench train_step -- [batch N] [threads N] [rounds N] [chunk N]
//!
//! A step is whole: batch, noise, gradients of the bound by all 2.3 million parameters, optimiser. The images are
//! noise; speed does not depend on them. The figure is the best of all rounds.
//!
//! `serve`, for benches/training.py: makes one step for each line on the standard input and answers with its
//! nanoseconds.

use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use undiffuse::backend::cpu::pool::Pool;
use undiffuse::noise::{NoiseSource, Seeded};
use undiffuse::training::config::TrainConfig;
use undiffuse::training::trainer::Trainer;
use undiffuse::{Cancel, Result};

/// The configuration of the experiment with other data and another optimiser. `{batch}` and `{path}` are put in.
const CONFIG: &str = r#"{
    "model": {
        "_class_name": "Multiscale2015", "in_channels": 1, "sample_size": 28, "scales": 3, "conv_channels": [20, 20, 20, 20],
        "tied_biases": false, "dense_channels": [500, 500, 500], "dense_out_channels": 2, "upper_channels": [20],
        "num_train_timesteps": 1000
    },
    "scheduler": {"_class_name": "Ancestral2015Scheduler", "num_train_timesteps": 1000, "beta_schedule": "authors_2015"},
    "data": {"kind": "npy", "path": "{path}", "values": "data"}, "loss": {"kind": "bound"}, "optimizer": {"kind": "adam"},
    "learning_rate": 1e-3, "batch": {batch}, "steps": 1000000, "lanes": 2{chunk}
}"#;

/// As many images of 28 x 28 as a batch has, as a .npy file.
fn images(path: &Path, count: usize) -> Result<()> {
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({count}, 1, 28, 28), }}");
    header.extend(std::iter::repeat_n(' ', 117 - header.len()));
    header.push('\n');
    let mut values = vec![0.0; count * 784];
    Seeded::new(7).normal(0, 0, count * 784, &mut values)?;
    let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    bytes.extend(header.bytes());
    bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    Ok(std::fs::write(path, bytes)?)
}

fn main() -> Result<()> {
    let (mut batch, mut threads, mut rounds, mut chunk, mut serve) = (128, 2, 10, 0, false);
    let mut args = std::env::args().skip(1).filter(|a| a != "--bench");
    while let Some(a) = args.next() {
        let to = match a.as_str() {
            "batch" => &mut batch,
            "threads" => &mut threads,
            "rounds" => &mut rounds,
            "chunk" => &mut chunk,
            "serve" => {
                serve = true;
                continue;
            }
            other => panic!("{other}: no such option"),
        };
        *to =
            args.next().and_then(|v| v.parse().ok()).filter(|&n| n > 0).unwrap_or_else(|| panic!("{a} needs a number"));
    }
    let path = std::env::temp_dir().join(format!("undiffuse-bench-{}.npy", std::process::id()));
    images(&path, batch)?;
    let chunk = if chunk > 0 { format!(", \"chunk\": {chunk}") } else { String::new() };
    let config = CONFIG
        .replace("{batch}", &batch.to_string())
        .replace("{chunk}", &chunk)
        .replace("{path}", &path.to_string_lossy());
    let trainer = Trainer::new(TrainConfig::from_json(&config)?, Path::new("."), Arc::new(Pool::new(threads)?));
    std::fs::remove_file(&path)?;
    let mut trainer = trainer?;
    let mut step = || -> Result<Duration> {
        let start = Instant::now();
        trainer.step(&Cancel::new())?;
        Ok(start.elapsed())
    };
    if serve {
        println!("ready");
        for line in std::io::stdin().lock().lines() {
            line?;
            println!("{}", step()?.as_nanos());
            std::io::stdout().flush()?;
        }
        return Ok(());
    }
    let times = (0..rounds).map(|_| step()).collect::<Result<Vec<_>>>()?;
    let best = times.iter().min().copied().unwrap_or_default();
    println!("batch {batch}, {threads} threads: {:.1} ms a step, the best of {rounds}", best.as_secs_f64() * 1e3);
    Ok(())
}
