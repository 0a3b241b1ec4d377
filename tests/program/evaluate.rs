//! `undiffuse evaluate` as a person uses it: it prints what the library finds, and refuses what makes no sense.

use crate::pcg;
use crate::tiny;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use undiffuse::Cancel;
use undiffuse::backend::cpu::Cpu;
use undiffuse::evaluate::{BoundOptions, Edges, Times, Unit, bound};
use undiffuse::noise::Seeded;
use undiffuse::npy;
use undiffuse::pipeline::{Pipeline, PipelineOptions};
use undiffuse::sampler::{SamplerKind, SamplerOptions};
use undiffuse::schedule::Arithmetic;

use crate::scratch::Scratch;
use crate::tiny::SIDE;

fn run(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_undiffuse")).current_dir(dir).args(args).stdin(Stdio::null()).output().unwrap()
}

fn ok(dir: &Path, args: &[&str]) -> String {
    let out = run(dir, args);
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

fn refused(dir: &Path, args: &[&str], code: i32, word: &str) {
    let out = run(dir, args);
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.code() == Some(code) && said.contains(word), "{args:?}: {:?} {said}", out.status.code());
}

/// The first number of the line that begins with `name`.
fn number(text: &str, name: &str) -> f64 {
    let line = text.lines().find(|l| l.starts_with(name)).unwrap_or_else(|| panic!("no {name} in\n{text}"));
    line[name.len()..].split_whitespace().next().unwrap().trim_end_matches([',', ':']).parse().unwrap()
}

/// A .npy file of f32 samples.
fn npy(shape: &str, values: &[f32]) -> Vec<u8> {
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape}), }}");
    header += &" ".repeat(118 - 1 - header.len());
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    bytes.extend(header.bytes());
    values.iter().for_each(|v| bytes.extend(v.to_le_bytes()));
    bytes
}

/// The tiny network as `model`, and bytes of five images as `bytes.npy`.
fn scratch() -> Scratch {
    let scratch = Scratch::new("evaluate");
    let config = tiny::model_config("");
    scratch.write("model/unet/config.json", &config);
    scratch.write("model/unet/diffusion_pytorch_model.safetensors", tiny::weights(&config));
    scratch.write("model/scheduler/scheduler_config.json", tiny::scheduler_config());
    let bytes: Vec<f32> =
        pcg::uniform(3, 0, 5 * SIDE * SIDE, 1.0).iter().map(|v| (127.5 + 127.5 * v).round()).collect();
    scratch.write("bytes.npy", npy("5, 1, 8, 8", &bytes));
    scratch
}

#[test]
fn the_bound_is_the_librarys() {
    let dir = scratch();
    let path = dir.path();
    let said =
        ok(path, &["evaluate", "model", "--data", "bytes.npy", "--values", "bytes", "--times", "20", "--seed", "4"]);
    assert!(said.contains("256 grey levels") && said.contains("20 of 99 steps"), "{said}");
    let pipeline = Pipeline::open(path.join("model"), &Cpu::new().unwrap(), &PipelineOptions::default()).unwrap();
    let sampler =
        SamplerOptions { sampler: Some(SamplerKind::Ddpm), arithmetic: Arithmetic::Float64, ..Default::default() };
    let sampler = pipeline.sampler(&sampler).unwrap();
    let data: Vec<f32> = npy::read(path.join("bytes.npy"))
        .unwrap()
        .values
        .iter()
        .map(|v| (f64::from(*v) / 127.5 - 1.0) as f32)
        .collect();
    let options =
        BoundOptions { times: Times::Sampled(20), edges: Edges::Discretized { levels: 256 }, ..Default::default() };
    let mut denoiser = pipeline.denoiser(32, &[]).unwrap();
    let r = bound(&mut denoiser, &sampler, &mut Seeded::new(4), &data, &options, &Cancel::new()).unwrap();
    let k = r.value(r.k, Unit::BitsPerDim);
    assert!((number(&said, "K ") - k).abs() < 1e-4 * k.abs() + 1e-4, "{k}\n{said}");
    assert_eq!(number(&said, "cost"), r.calls as f64);
    assert!((number(&said, "uniform") + 8.0).abs() < 1e-9);
    // Two of the five alone, in other units, with another end.
    let options = ["--skip", "1", "--count", "2", "--times", "5", "--ends", "network", "--bits-per", "sample"];
    let said = ok(path, &[&["evaluate", "model", "--data", "bytes.npy", "--values", "bytes"], &options[..]].concat());
    assert!(said.contains("2 samples of 64 values") && said.contains("bits per sample"), "{said}");
    // Bytes are a 127.5th of what the model sees.
    let (scaled, raw) = (number(&said, "K "), number(&said, "in the data's units"));
    assert!((scaled - raw - 64.0 * 127.5f64.log2()).abs() < 1e-2, "{said}");
}

#[cfg(feature = "training")]
#[test]
fn a_2015_network_at_zero_knows_what_white_noise_knows() {
    use std::collections::BTreeMap;
    use undiffuse::tensor::DType;
    use undiffuse::weights::{TensorToWrite, write_safetensors};
    let dir = Scratch::new("evaluate");
    dir.write(
        "roll/unet/config.json",
        r#"{"_class_name": "Rbf2015", "features": 2, "units": 3, "num_train_timesteps": 10}"#,
    );
    let scheduler = r#"{"_class_name": "Ancestral2015Scheduler", "num_train_timesteps": 10, "sample_scale": 0.1461}"#;
    dir.write("roll/scheduler/scheduler_config.json", scheduler);
    let shapes: [(&str, &[usize]); 3] =
        [("basis.centres", &[3, 2]), ("basis.widths", &[3]), ("readout.weight", &[10, 12])];
    let list: Vec<_> = shapes.iter().map(|&(name, shape)| TensorToWrite { name, dtype: DType::F32, shape }).collect();
    let mut bytes = Vec::new();
    let mut fill = |name: &str, out: &mut [f32]| {
        out.fill(if name == "basis.widths" { 1.0 } else { 0.0 });
        Ok(())
    };
    write_safetensors(&list, &BTreeMap::new(), &mut fill, &mut |piece| {
        bytes.extend_from_slice(piece);
        Ok(())
    })
    .unwrap();
    dir.write("roll/unet/diffusion_pytorch_model.safetensors", bytes);
    let said = ok(dir.path(), &["evaluate", "roll", "--data", "swiss_roll:3000", "--draws", "2"]);
    let (k, null) = (number(&said, "K "), number(&said, "L_null"));
    assert!((null + 2.0471).abs() < 1e-4, "{said}");
    assert!((k - null).abs() < 0.1 && said.contains("of which draws"), "{said}");
    // The network knows nothing, so the reverse steps have the entropy of the forward ones, which bounds from above.
    let said_steps = ok(dir.path(), &["evaluate", "roll", "--data", "swiss_roll:50:1:1.5:2.5", "--table"]);
    let rows: Vec<Vec<f64>> = said_steps
        .lines()
        .skip_while(|l| !l.contains("from below"))
        .skip(1)
        .map(|l| l.split_whitespace().map(|w| w.parse().unwrap()).collect())
        .collect();
    assert_eq!(rows.len(), 9, "{said_steps}");
    assert!(rows.iter().all(|r| r[3] < r[2] && (r[2] - r[4]).abs() < 1e-3), "{said_steps}");
    assert!((number(&said, "in the data's units") - (k + 0.1461f64.log2())).abs() < 1e-3, "{said}");
    refused(dir.path(), &["evaluate", "roll", "--data", "heartbeat:20"], 1, "the model's samples");
}

#[test]
fn a_parzen_window_of_the_data_itself_is_narrow() {
    let dir = scratch();
    let near: Vec<f32> = pcg::uniform(5, 0, 40 * 64, 0.05);
    dir.write("samples.npy", npy("40, 1, 8, 8", &near));
    let far: Vec<f32> = pcg::uniform(6, 0, 40 * 64, 0.9);
    dir.write("far.npy", npy("40, 1, 8, 8", &far));
    let parzen = |samples: &str| ok(dir.path(), &["evaluate", "--data", "samples.npy", "--parzen", samples]);
    // Samples of a model that was hardly trained are samples; grey levels are none.
    dir.write("wild.npy", npy("40, 1, 8, 8", &far.iter().map(|v| 4.0 * v).collect::<Vec<_>>()));
    assert!(number(&parzen("wild.npy"), "Parzen window") < number(&parzen("far.npy"), "Parzen window"));
    dir.write("grey.npy", npy("40, 1, 8, 8", &far.iter().map(|v| 255.0 * v.abs()).collect::<Vec<_>>()));
    let wrong = "expected -1 to 1, as `undiffuse sample` writes them";
    refused(dir.path(), &["evaluate", "--data", "samples.npy", "--parzen", "grey.npy"], 1, wrong);
    let (right, wrong) = (parzen("samples.npy"), parzen("far.npy"));
    assert!(number(&right, "bandwidth") == 0.1 && right.contains("36 of the data"), "{right}");
    assert!(number(&right, "Parzen window") > number(&wrong, "Parzen window"), "{right}{wrong}");
}

#[test]
fn nonsense_is_refused() {
    let dir = scratch();
    let path = dir.path();
    refused(path, &["evaluate", "model"], 2, "--data");
    refused(path, &["evaluate", "model", "--data", "bytes.npy", "--dat", "x"], 2, "--data?");
    refused(path, &["evaluate", "model", "--data", "bytes.npy"], 1, "--values");
    refused(path, &["evaluate", "model", "--data", "bytes.npy", "--values", "unit"], 1, "--values");
    refused(path, &["evaluate", "model", "--data", "bytes.npy", "--values", "bytes", "--skip", "5"], 1, "samples");
    refused(path, &["evaluate", "model", "--data", "none.npy"], 1, "none.npy");
    let builds = if cfg!(feature = "training") { "mnist.idx" } else { "without the feature training" };
    refused(path, &["evaluate", "model", "--data", "mnist.idx"], 1, builds);
    let grey = ["--values", "bytes", "--dequantize", "--ends", "grey"];
    refused(path, &[&["evaluate", "model", "--data", "bytes.npy"], &grey[..]].concat(), 1, "grey levels");
}

/// The line of the bound.
fn bound_line(text: &str) -> String {
    text.lines().find(|l| l.starts_with("K ")).unwrap().to_string()
}

#[test]
fn data_mean_what_their_type_says_or_somebody() {
    let dir = scratch();
    let path = dir.path();
    let rest = ["--times", "3", "--seed", "4"];
    let evaluate = |more: &[&str]| ok(path, &[&["evaluate", "model", "--data"], more, &rest[..]].concat());
    let right = bound_line(&evaluate(&["bytes.npy", "--values", "bytes"]));
    let levels: Vec<u8> = npy::read(path.join("bytes.npy")).unwrap().values.iter().map(|&v| v as u8).collect();
    let typed = |descr: &str, shape: &str, data: &[u8]| {
        let mut bytes = npy(shape, &[]);
        let text = String::from_utf8_lossy(&bytes[10..]).replace("<f4", descr);
        bytes.splice(10.., text.bytes());
        bytes.extend(data);
        bytes
    };
    dir.write("u1.npy", typed("|u1", "5, 1, 8, 8", &levels));
    assert_eq!(bound_line(&evaluate(&["u1.npy"])), right);
    let wide: Vec<u8> = levels.iter().flat_map(|&v| [v, 0]).collect();
    dir.write("u2.npy", typed("<u2", "5, 1, 8, 8", &wide));
    refused(path, &["evaluate", "model", "--data", "u2.npy"], 1, "the numbers are uint16");
    refused(path, &["evaluate", "model", "--data", "u2.npy"], 1, "give --values 0..255");
    assert_eq!(bound_line(&evaluate(&["u2.npy", "--values", "0..255"])), right);
    dir.write("bool.npy", typed("|b1", "5, 1, 8, 8", &levels.iter().map(|v| v & 1).collect::<Vec<_>>()));
    refused(path, &["evaluate", "model", "--data", "bool.npy"], 1, "the numbers are bool");
    // As many values in another order are other images.
    dir.write("flat.npy", typed("|u1", "5, 64", &levels));
    dir.write("last.npy", typed("|u1", "5, 8, 8, 1", &levels));
    dir.write("wide.npy", typed("|u1", "5, 4, 16", &levels));
    assert_eq!(bound_line(&evaluate(&["flat.npy"])), right);
    for (name, shape) in [("last.npy", "5, 8, 8, 1"), ("wide.npy", "5, 4, 16")] {
        refused(path, &["evaluate", "model", "--data", name], 1, "the model's samples [1, 8, 8]");
        dir.write("samples.npy", npy(shape, &[0.5; 320]));
        refused(path, &["evaluate", "--data", "u1.npy", "--parzen", "samples.npy"], 1, "the data [1, 8, 8]");
    }
    refused(
        path,
        &["evaluate", "--data", "u1.npy", "--parzen", "u2.npy"],
        1,
        "--parzen u2.npy: the numbers are uint16",
    );
}

#[cfg(feature = "training")]
#[test]
fn a_folder_of_colours_is_grey_only_when_asked() {
    use image::{DynamicImage, GrayImage, Luma, Rgb, RgbImage};
    let dir = scratch();
    let path = dir.path();
    for name in ["grey", "rgb", "colour"] {
        std::fs::create_dir(path.join(name)).unwrap();
    }
    for i in 0..2 {
        let grey = GrayImage::from_fn(8, 8, |x, y| Luma([(x * 20 + y * 7 + i) as u8]));
        grey.save(path.join(format!("grey/{i}.png"))).unwrap();
        DynamicImage::from(grey).to_rgba8().save(path.join(format!("rgb/{i}.png"))).unwrap();
        let colour = RgbImage::from_fn(8, 8, |x, y| Rgb([(x * 20) as u8, (y * 7) as u8, i as u8]));
        colour.save(path.join(format!("colour/{i}.png"))).unwrap();
    }
    let evaluate = |more: &[&str]| {
        bound_line(&ok(path, &[&["evaluate", "model", "--times", "3", "--ends", "network", "--data"], more].concat()))
    };
    assert_eq!(evaluate(&["grey"]), evaluate(&["rgb"]));
    refused(path, &["evaluate", "model", "--data", "colour"], 1, "colour/0.png: the image has colours, [3, 8, 8]");
    refused(path, &["evaluate", "model", "--data", "colour"], 1, "give --grey");
    evaluate(&["colour", "--grey"]);
    // A model of colours.
    let config = tiny::model_config("")
        .replace("\"in_channels\": 1, \"out_channels\": 1", "\"in_channels\": 3, \"out_channels\": 3");
    dir.write("model/unet/config.json", &config);
    dir.write("model/unet/diffusion_pytorch_model.safetensors", tiny::weights(&config));
    evaluate(&["colour"]);
    refused(path, &["evaluate", "model", "--data", "grey"], 1, "give --colour");
    evaluate(&["grey", "--colour"]);
}
