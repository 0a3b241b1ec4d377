//! The seeds of the fuzz targets, cut short and with a few bytes changed: what a target does with its input ends
//! without a panic. The fuzzers themselves, which look for new inputs, are `.ci/run fuzz`.

use std::fs;
use std::path::Path;

use undiffuse::noise::Stream;

#[path = "../../fuzz/src/inputs.rs"]
mod inputs;

/// Changed inputs of each seed.
const CHANGED: u64 = 24;

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// A target's name and what it does with its input.
type Target = (&'static str, fn(&[u8]));

/// Now and then cut short, and with one to four bytes replaced.
fn changed(seed: &[u8], mut random: Stream) -> Vec<u8> {
    let mut below = |n: usize| (random.bits() % n as u64) as usize;
    let mut bytes = seed.to_vec();
    if below(4) == 0 {
        bytes.truncate(below(seed.len() + 1));
    }
    for _ in 0..1 + below(4) {
        if !bytes.is_empty() {
            let at = below(bytes.len());
            bytes[at] = below(256) as u8;
        }
    }
    bytes
}

#[test]
fn no_seed_panics_whole_cut_or_changed() {
    let targets: [Target; 8] = [
        ("chain_restore", inputs::chain_restore),
        ("graph", inputs::graph),
        ("onnx", inputs::onnx),
        ("packed", inputs::packed),
        ("safetensors", inputs::safetensors),
        ("scheduler_config", inputs::scheduler_config),
        ("training_data", inputs::training_data),
        ("unet_config", inputs::unet_config),
    ];
    let folders = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")).unwrap();
    let mut names: Vec<_> = folders.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    // The calls through C are a test of the C library.
    names.retain(|name| name != "c_calls");
    assert!(names.iter().eq(targets.iter().map(|(name, _)| name)), "{names:?}");
    for (name, run) in targets {
        let seeds = seeds(name);
        assert!(!seeds.is_empty(), "{name}");
        for (i, seed) in seeds.iter().enumerate() {
            run(seed);
            for k in 0..CHANGED {
                run(&changed(seed, Stream::new(2015, i as u64, k)));
            }
        }
    }
}
