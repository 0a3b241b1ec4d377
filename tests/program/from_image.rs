//! Image to image on the command line: `sample --image FILE --strength S`.

use std::path::Path;

use image::{GrayImage, Luma, RgbImage};
use undiffuse::noise::{NoiseSource, PythonGenerator, Seeded};
use undiffuse::sampler::{Sampler, SamplerKind, SamplerOptions, SchedulerConfig, Steps};

use crate::formats::{bytes_of, npy, safetensors, tensor, words};
use crate::program::{files, ok, refused};
use crate::scratch::Scratch;
use crate::tiny::{self, SIDE};
use crate::tiny_scratch::scratch;

const N: usize = SIDE * SIDE;

/// Grey levels of three pictures, none like another.
fn level(picture: u32, x: u32, y: u32) -> u8 {
    (x * 37 + y * 11 + x * y * 5 + picture * 83) as u8
}

/// The same as the model takes them.
fn data(picture: u32) -> Vec<f32> {
    let side = SIDE as u32;
    (0..N as u32).map(|i| f32::from(level(picture, i % side, i / side)) / 127.5 - 1.0).collect()
}

/// The tiny model with `0.png` to `2.png`, and `all.npy` of all three.
fn setting() -> Scratch {
    let s = scratch();
    for picture in 0..3 {
        let image = GrayImage::from_fn(SIDE as u32, SIDE as u32, |x, y| Luma([level(picture, x, y)]));
        image.save(s.path().join(format!("{picture}.png"))).unwrap();
    }
    let all: Vec<f32> = (0..3).flat_map(data).collect();
    s.write("all.npy", npy("<f4", "3, 1, 8, 8", &bytes_of(&all)));
    s
}

/// The samples of `sample model` with these options.
fn made(dir: &Path, options: &str) -> Vec<f32> {
    ok(dir, &words(&format!("sample model --output x.safetensors {options}")));
    tensor(dir, "x.safetensors", "x_0")
}

fn refuses(dir: &Path, options: &str, code: i32, text: &str) {
    let before = files(dir);
    refused(dir, &words(&format!("sample model --output never.npy {options}")), code, text);
    assert_eq!(files(dir), before, "{options}");
}

#[test]
fn samples_begin_at_the_picture_with_the_noise_of_their_level() {
    let s = setting();
    let dir = s.path();
    let run = "--image 0.png --strength 0.5 --steps 10 --sampler ddim --count 3";
    let samples = made(dir, &format!("{run} --trace t.safetensors"));
    let trace = tensor(dir, "t.safetensors", "x_t");
    // x where it begins and after each of the 5 steps that are left.
    assert_eq!((samples.len(), trace.len()), (3 * N, 6 * 3 * N));
    assert_eq!(trace[5 * 3 * N..], samples);
    let config = SchedulerConfig::from_json(&tiny::scheduler_config()).unwrap();
    let config = SchedulerConfig { class: SamplerKind::Ddim, ..config };
    let options = SamplerOptions { steps: Steps::Count(10), ..Default::default() };
    let level = config.sampler(&options).unwrap().levels()[5];
    assert!(level.alpha > 0.3 && level.sigma > 0.3);
    let mut noise = vec![0.0; 3 * N];
    Seeded::new(0).normal(0, 0, N, &mut noise).unwrap();
    for (i, (x, z)) in trace.iter().zip(&noise).enumerate() {
        let want = level.alpha * f64::from(data(0)[i % N]) + level.sigma * f64::from(*z);
        assert!((f64::from(*x) - want).abs() < 1e-5, "value {i}: {x} {want}");
    }
    // A sample depends on nothing but its number.
    assert_eq!(made(dir, &format!("{run} --batch 1 --threads 1")), samples);
    assert_eq!(made(dir, &format!("{run} --batch 2 --threads 2")), samples);
    let shards = [1, 2].map(|i| made(dir, &format!("{run} --shard {i}/2"))).concat();
    assert_eq!(shards, samples);
    // Nor on how the picture is stored, and the usual strength is diffusers'.
    s.write("one.npy", npy("<f4", "8, 8", &bytes_of(&data(0))));
    assert_eq!(made(dir, &run.replace("0.png", "one.npy")), samples);
    assert_ne!(made(dir, &run.replace("0.png", "1.png")), samples);
    let said = ok(dir, &words("sample model --image 0.png --steps 10 --sampler ddim --count 1"));
    assert!(said.contains("8 steps of"), "{said}");
    let said = ok(dir, &words("sample model --image 0.png --steps 10 --sampler ddim --count 1 --strength 0.55 --json"));
    assert_eq!(serde_json::from_str::<serde_json::Value>(&said).unwrap()["steps"], 5);
}

#[test]
fn of_several_pictures_each_is_one_samples() {
    let s = setting();
    let dir = s.path();
    for sampler in ["ddpm", "heun", "unipc"] {
        let run = |image: &str, more: &str| {
            made(dir, &format!("--image {image} --steps 6 --sampler {sampler} --strength 0.4 {more}"))
        };
        let all = run("all.npy", "");
        assert_eq!(all.len(), 3 * N);
        for i in 0..3 {
            let one = run(&format!("{i}.png"), "--count 3");
            let range = i * N..(i + 1) * N;
            assert!(all[range.clone()] == one[range], "{sampler}: sample {i}");
        }
        assert_eq!(run("all.npy", "--batch 2"), all, "{sampler}");
        assert_eq!([run("all.npy", "--shard 1/2"), run("all.npy", "--shard 2/2")].concat(), all, "{sampler}");
    }
    refuses(dir, "--image all.npy --steps 6 --count 4", 1, "3 pictures, and there are 4 samples");
}

#[test]
fn the_noise_may_be_a_files_or_torchs() {
    let s = setting();
    let dir = s.path();
    let run = "--image 1.png --steps 6 --sampler ddpm --strength 0.5 --count 3";
    // torch draws that of the picture first, and then only that of the steps that are made.
    let torch = made(dir, &format!("{run} --noise torch-cpu --seed 5"));
    assert_eq!(made(dir, &format!("{run} --noise torch-cpu --seed 5 --batch 2")), torch);
    let draws =
        undiffuse::noise::PythonNoise::new(PythonGenerator::TorchCpu, 5, undiffuse::noise::DrawnFor::AllOf(3), N);
    let mut draws = draws.unwrap();
    let mut x_t = vec![0.0; 3 * N];
    draws.normal(0, 0, N, &mut x_t).unwrap();
    let mut noise = vec![0.0; 6 * 3 * N];
    for (draw, step) in [3, 4, 5].into_iter().enumerate() {
        let to = &mut noise[step * 3 * N..(step + 1) * 3 * N];
        draws.normal(0, draw as u64 + 1, N, to).unwrap();
    }
    s.write("noise.safetensors", safetensors(&[("x_T", &[3, 1, 8, 8], &x_t), ("noise", &[6, 3, 1, 8, 8], &noise)]));
    assert_eq!(made(dir, &format!("{run} --noise noise.safetensors")), torch);
}

#[test]
fn a_model_whose_samples_are_scaled_begins_at_the_scaled_picture() {
    let s = Scratch::new("image");
    let model = r#"{"_class_name": "Multiscale2015", "scales": 2, "conv_channels": [4], "upper_channels": [4],
        "temporal_functions": 3, "num_train_timesteps": 9}"#;
    s.write("model/config.json", model);
    let scheduler =
        |more: &str| format!(r#"{{"_class_name": "Ancestral2015Scheduler", "num_train_timesteps": 9{more}}}"#);
    s.write("model/scheduler_config.json", scheduler(r#", "sample_scale": 0.5, "sample_shift": -0.25"#));
    s.write("model/model.safetensors", tiny::weights(model));
    let picture = [0.8f32, -0.6, 0.1, -0.9];
    s.write("p.npy", npy("<f4", "4, 4", &bytes_of(&picture.repeat(4))));
    let dir = s.path();
    // The size is the picture's, as the model has none.
    made(dir, "--image p.npy --strength 0.5 --count 2 --trace t.safetensors");
    let trace = tensor(dir, "t.safetensors", "x_t");
    let level = SchedulerConfig::from_json(&scheduler(""))
        .unwrap()
        .sampler(&SamplerOptions { steps: Steps::All, ..Default::default() });
    let levels = level.unwrap();
    let level = levels.levels()[levels.levels().len() - 4];
    let mut noise = [0.0; 16];
    Seeded::new(0).normal(1, 0, 16, &mut noise).unwrap();
    for (i, (x, z)) in trace[16..32].iter().zip(noise).enumerate() {
        let x0 = 0.5 * f64::from(picture[i % 4]) - 0.25;
        let want = level.alpha * x0 + level.sigma * f64::from(z);
        assert!((f64::from(*x) - want).abs() < 1e-5, "value {i}: {x} {want}");
    }
}

#[test]
fn pictures_of_another_form_are_brought_to_the_models_or_refused() {
    let s = setting();
    let dir = s.path();
    let side = 2 * SIDE as u32;
    RgbImage::from_fn(side, side, |x, y| image::Rgb([level(0, x, y), level(1, x, y), level(2, x, y)]))
        .save(dir.join("large.png"))
        .unwrap();
    refuses(dir, "--image large.png --steps 2", 1, "give --grey --size 16x16, or --grey --fit cover");
    refuses(
        dir,
        "--image large.png --grey --steps 2",
        1,
        "is [3, 16, 16], the model's are [1, 8, 8]: give --size 16x16, or --fit cover",
    );
    // What is advised works.
    assert_eq!(made(dir, "--image large.png --grey --fit cover --steps 2 --count 1").len(), N);
    assert_eq!(made(dir, "--image large.png --grey --size 16x16 --steps 2 --count 1").len(), 4 * N);
    s.write(
        "levels.npy",
        npy("<f4", "8, 8", &bytes_of(&data(0).iter().map(|v| 127.5 * v + 127.5).collect::<Vec<_>>())),
    );
    refuses(dir, "--image levels.npy --steps 2", 1, "expected -1 to 1: give --values 0..255");
    let run = "--steps 4 --strength 0.5 --count 1 --image";
    assert_eq!(made(dir, &format!("{run} levels.npy --values 0..255")), made(dir, &format!("{run} 0.png")));
    let mut nan = data(0);
    nan[7] = f32::NAN;
    s.write("nan.npy", npy("<f4", "8, 8", &bytes_of(&nan)));
    refuses(dir, "--image nan.npy --steps 2", 1, "value 7 is not finite");
    s.write("list.npy", npy("<f4", "64", &bytes_of(&data(0))));
    refuses(dir, "--image list.npy --steps 2", 1, "expected [H, W]");
    refuses(dir, "--image missing.png --steps 2", 1, "missing.png");
}

#[test]
fn what_has_no_meaning_is_refused() {
    let s = setting();
    let dir = s.path();
    for option in ["strength 0.5", "fit cover", "grey", "values 0..255", "axes hw"] {
        let name = option.split(' ').next().unwrap();
        refuses(dir, &format!("--{option}"), 2, &format!("--{name} is for --image, which is missing"));
    }
    for (strength, text) in [("0", "above 0"), ("1.5", "from 0 to 1"), ("NaN", "from 0 to 1"), ("much", "from 0 to 1")]
    {
        refuses(dir, &format!("--image 0.png --strength {strength}"), 2, text);
    }
    refuses(dir, "--image 0.png --grey --colour", 2, "exclude each other");
    refuses(dir, "--image 0.png --mask-threshold 0.5", 2, "unknown option --mask-threshold");
    let few = "--image 0.png --sampler ddim --steps 10 --strength 0.05";
    refuses(dir, few, 1, "of 10 steps a strength of 0.05 runs none, expected at least 0.1");
    let tiny = "--image 0.png --steps 10 --strength 1e-300";
    refuses(dir, tiny, 1, "a strength of 1e-300 runs none");
    refuses(dir, "--image 0.png --sampler ddim-inverse --steps 4", 1, "leads from data to noise");
    let bits = Scratch::new("image");
    let model = r#"{"_class_name": "Mlp2015", "features": 6, "hidden_features": [7], "num_train_timesteps": 9}"#;
    bits.write("model/config.json", model);
    bits.write("model/scheduler_config.json", r#"{"_class_name": "Bits2015Scheduler", "num_train_timesteps": 9}"#);
    bits.write("model/model.safetensors", tiny::weights(model));
    bits.write("x.npy", npy("<f4", "6", &bytes_of(&[1.0; 6])));
    refuses(bits.path(), "--image x.npy", 1, "bits, which no Gaussian noise is added to");
}
