//! The program as a person uses it: what it writes, what it refuses, and that nothing is left half done.

use crate::pcg;
use crate::tiny;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use undiffuse::noise::{NoiseSource, Seeded};
use undiffuse::tensor::DType;
use undiffuse::weights::{SafeTensorsFile, TensorToWrite, WeightSource, write_safetensors};

use crate::program::{command, files, ok, refused, run};
use crate::scratch::Scratch;
use crate::tiny::SIDE;
use crate::tiny_scratch::{scratch, scratch_with};

const PIXELS: usize = SIDE * SIDE;

/// `sample model` with these options and an output.
fn sample(dir: &Path, output: &str, options: &str) {
    let mut args = vec!["sample", "model", "--output", output];
    args.extend(options.split_whitespace());
    let said = ok(dir, &args);
    assert!(said.starts_with(&format!("{output}: ")), "{said}");
}

/// A tensor of a file: its shape and values.
fn tensor(path: PathBuf, name: &str) -> (Vec<usize>, Vec<f32>) {
    let file = SafeTensorsFile::open(path).unwrap();
    let shape = file.info(name).unwrap().shape;
    let mut values = vec![0.0; shape.iter().product()];
    file.read_f32(name, &mut values).unwrap();
    (shape, values)
}

fn write_tensors(path: &Path, tensors: &[(&str, &[usize], &[f32])]) {
    let mut bytes = Vec::new();
    let list: Vec<_> =
        tensors.iter().map(|&(name, shape, _)| TensorToWrite { name, dtype: DType::F32, shape }).collect();
    let mut fill = |name: &str, out: &mut [f32]| {
        out.copy_from_slice(tensors.iter().find(|t| t.0 == name).unwrap().2);
        Ok(())
    };
    write_safetensors(&list, &BTreeMap::new(), &mut fill, &mut |b| {
        bytes.extend_from_slice(b);
        Ok(())
    })
    .unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn the_three_formats_hold_the_same_samples() {
    let s = scratch();
    for name in ["x.safetensors", "x.npy", "x.png"] {
        sample(s.path(), name, "--count 5 --steps 4");
    }
    let (shape, x) = tensor(s.path().join("x.safetensors"), "x_0");
    assert_eq!(shape, [5, 1, SIDE, SIDE]);
    assert!(x.iter().all(|v| v.abs() <= 1.0) && x.iter().any(|v| v.abs() > 0.01));

    let npy = std::fs::read(s.path().join("x.npy")).unwrap();
    let data = &npy[128..];
    let values: Vec<f32> = data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    assert!(String::from_utf8_lossy(&npy[..128]).contains("'shape': (5, 1, 8, 8)"));
    assert_eq!(values, x);

    let file = std::io::BufReader::new(std::fs::File::open(s.path().join("x.png")).unwrap());
    let mut reader = png::Decoder::new(file).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    let (width, height) = (3 * (SIDE + 2) - 2, 2 * (SIDE + 2) - 2);
    assert_eq!(
        (info.width as usize, info.height as usize, info.color_type),
        (width, height, png::ColorType::Grayscale)
    );
    for (i, image) in x.chunks_exact(PIXELS).enumerate() {
        let (top, left) = (i / 3 * (SIDE + 2), i % 3 * (SIDE + 2));
        for (p, v) in image.iter().enumerate() {
            let expected = ((v / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0).round_ties_even() as u8;
            assert_eq!(pixels[(top + p / SIDE) * width + left + p % SIDE], expected, "image {i}, pixel {p}");
        }
    }
}

#[test]
fn batches_threads_and_shards_give_the_same_bits() {
    let s = scratch();
    let options = "--count 15 --steps 3 --eta 1";
    let get = |name: &str, more: &str| {
        let seed = if more.contains("--seed") { "" } else { "--seed 9" };
        sample(s.path(), name, &format!("{options} {seed} {more}"));
        tensor(s.path().join(name), "x_0").1
    };
    let whole = get("whole.safetensors", "");
    assert_eq!(get("batch1.safetensors", "--batch 1 --threads 1"), whole);
    assert_eq!(get("batch3.safetensors", "--batch 3 --threads 2"), whole);
    // The last batch is smaller, and no multiple of the threads.
    assert_eq!(get("batch8.safetensors", "--batch 8 --threads 2"), whole);
    let joined: Vec<f32> =
        (1..=3).flat_map(|i| get(&format!("part{i}.safetensors"), &format!("--shard {i}/3 --batch 2"))).collect();
    assert_eq!(joined, whole);
    assert_ne!(get("other.safetensors", "--seed 10"), whole);
}

#[test]
fn given_noise_and_a_trace_repeat_a_seeded_run() {
    let s = scratch();
    let (count, steps) = (3usize, 5usize);
    for (sampler, name) in [("--sampler ddim --eta 0.7", "ddim"), ("--sampler ddpm", "ddpm")] {
        sample(s.path(), "a.safetensors", &format!("{sampler} --count 3 --steps 5 --seed 4 --trace ta.safetensors"));
        let draw = |k: u64| {
            let mut z = vec![0.0; count * PIXELS];
            Seeded::new(4).normal(0, k, PIXELS, &mut z).unwrap();
            z
        };
        let noise: Vec<f32> = (1..=steps as u64).flat_map(draw).collect();
        let image = [count, 1, SIDE, SIDE];
        let all = [steps, count, 1, SIDE, SIDE];
        write_tensors(&s.path().join("noise.safetensors"), &[("x_T", &image, &draw(0)), ("noise", &all, &noise)]);
        sample(
            s.path(),
            "b.safetensors",
            &format!("{sampler} --steps 5 --batch 2 --noise noise.safetensors --trace tb.safetensors"),
        );
        let (a, b) = (tensor(s.path().join("a.safetensors"), "x_0"), tensor(s.path().join("b.safetensors"), "x_0"));
        assert_eq!(a, b, "{name}");
        let (shape, trace) = tensor(s.path().join("ta.safetensors"), "x_t");
        assert_eq!(shape, [steps + 1, count, 1, SIDE, SIDE]);
        assert_eq!(trace[..count * PIXELS], draw(0), "{name}: the trace begins at x_T");
        assert_eq!(trace[steps * count * PIXELS..], a.1, "{name}: the trace ends at x_0");
        assert_eq!((shape, trace), tensor(s.path().join("tb.safetensors"), "x_t"), "{name}");
    }
}

#[test]
fn predict_is_the_first_step_of_a_chain() {
    let s = scratch();
    let x = pcg::uniform(3, 0, 2 * PIXELS, 1.0);
    let image = [2, 1, SIDE, SIDE];
    write_tensors(&s.path().join("in.safetensors"), &[("sample", &image, &x), ("timestep", &[], &[40.0])]);
    write_tensors(&s.path().join("in2.safetensors"), &[("sample", &image, &x), ("timestep", &[2], &[40.0, 40.0])]);
    let mut results = Vec::new();
    for (input, backend) in [("in", "cpu"), ("in2", "cpu"), ("in", "reference")] {
        let file = format!("{input}.safetensors");
        ok(s.path(), &["predict", "model", "--input", &file, "--output", "y.safetensors", "--backend", backend]);
        results.push(tensor(s.path().join("y.safetensors"), "sample"));
    }
    assert_eq!(results[0].0, image);
    assert_eq!(results[0], results[1]);
    let worst = results[0].1.iter().zip(&results[2].1).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst > 0.0 && worst < 1e-4, "cpu and reference differ by {worst}");
}

#[test]
fn predict_refuses_nan_and_infinity() {
    let s = scratch();
    let image = [1, 1, SIDE, SIDE];
    let refused = |bad: f32, name: &str, x: &[f32], timestep: f32| {
        write_tensors(&s.path().join("in.safetensors"), &[("sample", &image, x), ("timestep", &[], &[timestep])]);
        let out = run(s.path(), &["predict", "model", "--input", "in.safetensors", "--output", "y.safetensors"]);
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.code() == Some(1) && text.contains(name), "{name} {bad}: {text}");
        assert!(!s.path().join("y.safetensors").exists(), "{name} {bad} left a file");
    };
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut x = vec![0.0; PIXELS];
        refused(bad, "timestep holds", &x, bad);
        x[5] = bad;
        refused(bad, "sample holds", &x, 40.0);
    }
    let mut x = vec![0.0; PIXELS];
    (x[0], x[1]) = (f32::MAX, -f32::MAX);
    refused(f32::MAX, "the prediction holds", &x, 40.0);
}

#[test]
fn a_packed_file_is_the_directory() {
    let s = scratch();
    sample(s.path(), "a.safetensors", "--count 2 --steps 3");
    for dtype in ["f32", "f16", "bf16"] {
        ok(s.path(), &["pack", "model", "packed.safetensors", "--dtype", dtype]);
        ok(s.path(), &["sample", "packed.safetensors", "--count", "2", "--steps", "3", "--output", "b.safetensors"]);
        let same = tensor(s.path().join("a.safetensors"), "x_0") == tensor(s.path().join("b.safetensors"), "x_0");
        assert_eq!(same, dtype == "f32", "{dtype}");
    }
}

#[test]
fn a_class_model_takes_its_classes_in_turn() {
    let s = scratch_with(&tiny::model_config(r#", "num_class_embeds": 4"#));
    let get = |name: &str, options: &str| {
        sample(s.path(), name, &format!("--steps 2 {options}"));
        tensor(s.path().join(name), "x_0").1
    };
    let (both, one) = (get("a.safetensors", "--count 2 --class 3,1"), get("b.safetensors", "--count 2 --class 1"));
    assert_ne!(both[..PIXELS], one[..PIXELS]);
    assert_eq!(both[PIXELS..], one[PIXELS..]);
    for (class, text) in [("", "class"), ("--class 4", "class 4")] {
        let mut args = vec!["sample", "model", "--count", "1"];
        args.extend(class.split_whitespace());
        let out = run(s.path(), &args);
        assert_eq!(out.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&out.stderr).contains(text), "{out:?}");
    }
}

#[test]
fn info_and_bench_say_what_a_model_is() {
    let s = scratch();
    let info = ok(s.path(), &["info", "model", "--batch", "3"]);
    let bench = ok(s.path(), &["bench", "model", "--batch", "3", "--calls", "2"]);
    for part in
        ["[1, 8, 8]", "parameters", "GFLOP", "batch of 3", "\"block_out_channels\": [8, 16]", "squaredcos_cap_v2"]
    {
        assert!(info.contains(part), "{part}: {info}");
    }
    for part in ["ms per step", "2 calls", "GFLOP/s", "workspace", "peak"] {
        assert!(bench.contains(part), "{part}: {bench}");
    }
}

#[test]
fn the_embedded_digits_are_there() {
    let s = Scratch::new("cli");
    let said = ok(s.path(), &["sample", "--count", "1", "--steps", "1"]);
    assert!(said.starts_with("samples.png: 1 samples of [1, 28, 28]"), "{said}");
    assert!(ok(s.path(), &["info"]).contains("embedded"));
}

#[test]
fn help_is_on_standard_output() {
    let s = Scratch::new("cli");
    for args in [&["--help"][..], &["-h"], &["sample", "--help"], &["info", "-h"], &["predict", "--help"]] {
        assert!(ok(s.path(), args).contains("usage: undiffuse"));
    }
    for command in ["pack", "bench"] {
        assert!(ok(s.path(), &[command, "--help"]).contains(&format!("usage: undiffuse {command}")));
    }
    assert_eq!(ok(s.path(), &["--version"]), format!("undiffuse {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn devices_are_listed_and_the_one_that_ran_is_named() {
    let s = scratch();
    let said = ok(s.path(), &["devices"]);
    assert!(said.starts_with("cpu "), "{said}");
    let said = ok(s.path(), &["sample", "model", "--count", "1", "--steps", "1", "--backend", "cpu"]);
    assert!(said.contains(", on cpu "), "{said}");
    let out = run(s.path(), &["sample", "model", "--backend", "wgpu:1000"]);
    assert_eq!(out.status.code(), Some(1));
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(text.contains("wgpu:1000") || text.contains("without the feature `wgpu`"), "{text}");
}

/// A machine without any driver, and one whose only adapter is software.
#[cfg(feature = "wgpu")]
#[test]
fn without_a_gpu_the_cpu_runs_unless_one_is_named() {
    use undiffuse::backend::wgpu::{AdapterKind, adapters};
    let s = scratch();
    let hidden = |args: &[&str]| {
        let mut command = command(s.path(), args);
        // The names of the loader's older and newer variable.
        let out = command.env("VK_ICD_FILENAMES", "/nonexistent").env("VK_DRIVER_FILES", "/nonexistent").output();
        let out = out.unwrap();
        let [said, complaint] = [out.stdout, out.stderr].map(|text| String::from_utf8(text).unwrap());
        (out.status.code(), said, complaint)
    };
    let (code, said, _) = hidden(&["devices"]);
    assert!(code == Some(0) && said.starts_with("cpu ") && said.contains("no adapter of a GPU was found"), "{said}");
    let short = ["sample", "model", "--count", "1", "--steps", "1"];
    let (code, said, complaint) = hidden(&short);
    assert!(code == Some(0) && said.contains(", on cpu ") && complaint.is_empty(), "{said}{complaint}");
    for (name, text) in [("wgpu", "no GPU was found"), ("wgpu:0", "there is no adapter wgpu:0: this machine has 0")] {
        let (code, _, complaint) = hidden(&[&short[..], &["--backend", name]].concat());
        assert!(code == Some(1) && complaint.contains(text), "{complaint}");
    }
    let all = adapters();
    if all.iter().all(|a| a.kind == AdapterKind::Software) {
        assert!(ok(s.path(), &short).contains(", on cpu "));
    }
    let Some(a) = all.iter().find(|a| a.unusable.is_none()) else {
        println!("skipped in part: no Vulkan adapter");
        return;
    };
    let name = format!("wgpu:{}", a.index);
    let said = ok(s.path(), &[&short[..], &["--backend", &name]].concat());
    assert!(said.contains(&format!(", on {name} {}", a.name)), "{said}");
    assert!(ok(s.path(), &["devices"]).contains(&name));
}

#[test]
fn wrong_arguments_are_refused_with_a_hint() {
    let s = scratch();
    let before = files(s.path());
    for (args, text) in [
        ("", "a command is missing"),
        ("smaple", "did you mean sample?"),
        ("--fast", "'--fast'"),
        ("sample model --cuont 3", "did you mean --count?"),
        ("sample model --sharpness 3", "unknown option --sharpness"),
        ("sample model -x", "unknown option -x; see"),
        ("sample model -o x.png", "unknown option -o: did you mean --output or --order? see"),
        ("sample --weights f8", "--weights is \"f8\", expected f32 or f16 or bf16 or int8 or int4"),
        ("sample --weights f16 --backend reference", "--weights f16 is for the cpu backend, not for reference"),
        ("sample model --count", "--count needs a value"),
        ("sample model --count 0", "--count is \"0\", expected a whole number from 1"),
        ("sample model --count -1", "--count is \"-1\""),
        ("sample model --count 1e3", "--count is \"1e3\""),
        ("sample model --count 99999999999999999999", "--count"),
        ("sample model --batch 0", "--batch is \"0\""),
        ("sample model --steps 0", "--steps is \"0\""),
        ("sample model --eta 1.5", "--eta is \"1.5\", expected a number from 0 to 1"),
        ("sample model --eta nan", "--eta is \"nan\""),
        ("sample model --sampler ddpm --eta 0", "ddpm has none"),
        ("sample model --sampler eule", "--sampler is \"eule\", expected ddpm or ddim"),
        (
            "sample model --backend cuda",
            "--backend: the backend is \"cuda\", expected auto, cpu, wgpu, wgpu:INDEX or reference",
        ),
        ("sample model --backend reference --threads 2", "--threads"),
        ("sample model --threads 0", "--threads is \"0\""),
        ("sample model --shard 0/2", "--shard is \"0/2\""),
        ("sample model --shard 3/2", "--shard is \"3/2\""),
        ("sample model --shard 2", "--shard is \"2\""),
        ("sample model --size 8x", "--size is \"8x\""),
        ("sample model --class a", "--class is \"a\""),
        ("sample model other", "one model is expected, got model and other"),
        ("sample --model model other", "one model is expected"),
        ("sample model --image a.png --image b.png", "--image is given twice"),
        ("sample --model model --model other", "--model is given twice"),
        ("predict model --input a.npy --input b.npy", "--input is given twice"),
        ("sample --calibrate", "unknown option --calibrate; see"),
        ("sample model --noise n.safetensors --seed 1", "--seed"),
        ("sample model --output a.npy --trace a.npy", "the same file"),
        ("pack model", "pack needs DIRECTORY and OUTPUT"),
        ("pack model x.safetensors y", "unexpected argument \"y\""),
        ("pack model x.safetensors --dtype f8", "--dtype is \"f8\", expected f16 or bf16 or f32"),
        ("predict model --input x", "predict needs --input and --output"),
        ("predict model --size 3", "unknown option --size"),
        ("bench model --calls 0", "--calls is \"0\""),
        ("info model --count 1", "unknown option --count"),
    ] {
        refused(s.path(), &args.split_whitespace().collect::<Vec<_>>(), 2, text);
    }
    assert_eq!(files(s.path()), before);
}

#[test]
fn bad_models_and_files_are_refused_and_leave_nothing() {
    let s = scratch();
    let dir = s.path();
    std::fs::create_dir(dir.join("empty")).unwrap();
    std::fs::create_dir(dir.join("folder.png")).unwrap();
    s.write("pickle/config.json", tiny::model_config(""));
    s.write("pickle/diffusion_pytorch_model.bin", b"\x80\x02}q\x00.");
    s.write("alone/config.json", tiny::model_config(""));
    s.write("alone/diffusion_pytorch_model.safetensors", tiny::weights(&tiny::model_config("")));
    s.write("key/config.json", tiny::model_config(r#", "speed": 3"#));
    s.write("key/diffusion_pytorch_model.safetensors", tiny::weights(&tiny::model_config("")));
    s.write("weights.bin", b"PK\x03\x04....");
    s.write("text.safetensors", b"this is no safetensors file");
    let whole = tiny::weights(&tiny::model_config(""));
    s.write("short/config.json", tiny::model_config(""));
    s.write("short/scheduler_config.json", tiny::scheduler_config());
    s.write("short/diffusion_pytorch_model.safetensors", &whole[..whole.len() / 2]);
    s.write("bare.safetensors", &whole);
    write_tensors(&dir.join("small.safetensors"), &[("x_T", &[1, 1, 4, 4], &[0.0; 16])]);
    write_tensors(&dir.join("flat.safetensors"), &[("x_T", &[16], &[0.0; 16])]);
    write_tensors(&dir.join("still.safetensors"), &[("x_T", &[1, 1, SIDE, SIDE], &[0.0; PIXELS])]);
    write_tensors(&dir.join("named.safetensors"), &[("latents", &[1], &[0.0])]);
    write_tensors(&dir.join("image.safetensors"), &[("sample", &[1, SIDE, SIDE], &[0.0; PIXELS])]);
    let image: (&str, &[usize], &[f32]) = ("sample", &[1, 1, SIDE, SIDE], &[0.0; PIXELS]);
    write_tensors(&dir.join("untimed.safetensors"), &[image]);
    write_tensors(&dir.join("times.safetensors"), &[image, ("timestep", &[3], &[0.0; 3])]);
    write_tensors(
        &dir.join("classes.safetensors"),
        &[image, ("timestep", &[], &[0.0]), ("class_labels", &[1], &[0.0])],
    );
    let nan = [f32::NAN; PIXELS];
    write_tensors(&dir.join("zero.safetensors"), &[("x_T", &[0, 1, SIDE, SIDE], &[])]);
    let read_only = s.write("kept.png", b"kept");
    let mut permissions = std::fs::metadata(&read_only).unwrap().permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(&read_only, permissions).unwrap();

    let before = files(dir);
    for (args, text) in [
        ("sample nowhere", "nowhere"),
        ("sample empty", "empty"),
        ("sample pickle", "pickle"),
        ("sample weights.bin", "pickle"),
        ("sample text.safetensors", "text.safetensors"),
        ("sample bare.safetensors", "no configuration"),
        ("sample short", "truncated"),
        ("sample key", "speed"),
        ("sample alone", "scheduler"),
        ("sample model --steps 101", "101"),
        ("sample model --sampler ddim --sigmas karras", "with the sampler ddim of this model"),
        ("sample model --count 1 --steps 1 --shard 2/3", "part 2 of 3 has none of the 1 samples"),
        ("sample model --class 1", "class"),
        ("sample model --size 9", "9 x 9"),
        ("sample model --count 1 --output nowhere/x.png", "cannot write nowhere/x.png"),
        ("sample model --count 1 --output folder.png", "no regular file"),
        ("sample model --count 1 --output kept.png", "read-only"),
        ("sample model --count 1 --output x.bmp", "expected .png, .jpg, .webp, .npy or .safetensors"),
        ("sample model --count 1 --output x", "expected .png, .jpg, .webp, .npy or .safetensors"),
        ("sample model --count 1 --output x.npy --trace nowhere/t.safetensors", "cannot write nowhere/t.safetensors"),
        ("sample model --count 100000000 --output x.png", "too large"),
        ("sample model --noise nowhere.safetensors", "nowhere.safetensors"),
        ("sample model --noise small.safetensors", "x_T is [1, 1, 4, 4], expected [1, 1, 8, 8]"),
        ("sample model --noise flat.safetensors", "x_T is [16], expected [N, C, H, W]"),
        ("sample model --noise zero.safetensors", "x_T is [0, 1, 8, 8]"),
        ("sample model --noise named.safetensors", "unknown tensor latents, expected x_T, noise"),
        ("sample model --noise still.safetensors --count 2", "x_T has 1 samples, --count says 2"),
        ("sample model --noise still.safetensors --steps 4 --eta 1", "noise [4, 1, 1, 8, 8] is missing"),
        ("predict model --input nowhere --output y.safetensors", "nowhere"),
        (
            "predict model --input image.safetensors --output y.safetensors",
            "sample is [1, 8, 8], expected [N, C, H, W]",
        ),
        ("predict model --input untimed.safetensors --output y.safetensors", "timestep is missing"),
        ("predict model --input times.safetensors --output y.safetensors", "timestep is [3], expected [], [1] or [1]"),
        ("predict model --input classes.safetensors --output y.safetensors", "classes.safetensors"),
        ("predict model --input named.safetensors --output y.safetensors", "unknown tensor latents"),
        ("pack empty x.safetensors", "empty"),
        ("pack model nowhere/x.safetensors", "cannot write"),
        ("info empty", "empty"),
        ("bench nowhere", "nowhere"),
    ] {
        refused(dir, &args.split_whitespace().collect::<Vec<_>>(), 1, text);
        assert_eq!(files(dir), before, "{args}");
    }
    // A tensor of NaN is refused by the reader of weights, so it is written as bytes.
    let mut bytes = std::fs::read(dir.join("still.safetensors")).unwrap();
    let start = bytes.len() - PIXELS * 4;
    bytes[start..].copy_from_slice(&nan.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>());
    s.write("nan.safetensors", bytes);
    refused(dir, &["sample", "model", "--noise", "nan.safetensors"], 1, "x_T");
    assert_eq!(std::fs::read(read_only).unwrap(), b"kept");
}

#[test]
fn the_model_is_named_alike_everywhere() {
    let s = scratch();
    sample(s.path(), "a.npy", "--count 1 --steps 2");
    ok(s.path(), &["sample", "--model", "model", "--count", "1", "--steps", "2", "--output", "b.npy"]);
    assert_eq!(std::fs::read(s.path().join("a.npy")).unwrap(), std::fs::read(s.path().join("b.npy")).unwrap());
    assert_eq!(ok(s.path(), &["info", "--model", "model"]), ok(s.path(), &["info", "model"]));
}

#[test]
fn a_model_of_few_timesteps_needs_no_steps() {
    let s = scratch();
    let few = tiny::scheduler_config().replace("\"num_train_timesteps\": 100", "\"num_train_timesteps\": 30");
    s.write("model/scheduler/scheduler_config.json", few);
    for (options, steps) in [("", "30 steps of ddim"), ("--sampler ddpm", "30 steps of ddpm"), ("--steps 7", "7 steps")]
    {
        let mut args = vec!["sample", "model", "--count", "1"];
        args.extend(options.split_whitespace());
        let said = ok(s.path(), &args).to_lowercase();
        assert!(said.contains(steps), "{options}: {said}");
    }
    refused(s.path(), &["sample", "model", "--steps", "31"], 1, "31");
}

#[test]
fn an_output_is_replaced_only_by_a_whole_one() {
    let s = scratch();
    s.write("x.npy", b"before");
    refused(s.path(), &["sample", "model", "--steps", "101", "--output", "x.npy"], 1, "101");
    assert_eq!(std::fs::read(s.path().join("x.npy")).unwrap(), b"before");
    sample(s.path(), "x.npy", "--count 1 --steps 1");
    assert!(std::fs::read(s.path().join("x.npy")).unwrap().starts_with(b"\x93NUMPY"));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let s = scratch();
    let mut child =
        command(s.path(), &["info", "model"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success() && out.stderr.is_empty(), "{out:?}");
}

#[cfg(unix)]
#[test]
fn an_interrupt_leaves_nothing_and_says_so() {
    let s = scratch();
    let before = files(s.path());
    for signal in ["INT", "TERM"] {
        let args = ["sample", "model", "--count", "1000000", "--sampler", "ddpm", "--output", "x.safetensors"];
        let child = command(s.path(), &args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Signals are caught before the temporary file is made, and the run takes hours.
        while files(s.path()) == before {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let sent = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let out = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr).to_string();
        assert_eq!(out.status.code(), Some(130), "{said}");
        assert!(said.contains("cancelled") && said.lines().count() == 1, "{said}");
        assert_eq!(files(s.path()), before);
    }
}

const IMAGES: &str = r#"{"_class_name": "Multiscale2015", "scales": 2, "conv_channels": [4], "upper_channels": [4],
    "temporal_functions": 3, "num_train_timesteps": 9}"#;
const POINTS: &str = r#"{"_class_name": "Rbf2015", "features": 2, "units": 5, "num_train_timesteps": 9}"#;
const BITS: &str = r#"{"_class_name": "Mlp2015", "features": 6, "hidden_features": [7], "num_train_timesteps": 9}"#;
const GAUSSIAN: &str = r#"{"_class_name": "Ancestral2015Scheduler", "num_train_timesteps": 9}"#;
const BINARY: &str = r#"{"_class_name": "Bits2015Scheduler", "num_train_timesteps": 9, "pi": 0.2}"#;

fn of_2015(model: &str, scheduler: &str) -> Scratch {
    let dir = Scratch::new("cli");
    dir.write("model/config.json", model);
    dir.write("model/scheduler_config.json", scheduler);
    dir.write("model/model.safetensors", tiny::weights(model));
    dir
}

fn samples(dir: &Scratch, name: &str) -> (Vec<usize>, Vec<f32>) {
    tensor(dir.path().join(name), "x_0")
}

#[test]
fn a_network_of_2015_says_what_it_is_and_samples() {
    for (model, scheduler, size, shape, what) in [
        (IMAGES, GAUSSIAN, "--size 4x6", &[5, 1, 4, 6][..], "Multiscale2015"),
        (POINTS, GAUSSIAN, "", &[5, 2], "Rbf2015"),
        (BITS, BINARY, "", &[5, 6], "Mlp2015"),
    ] {
        let dir = of_2015(model, scheduler);
        ok(dir.path(), &["pack", "model", "m.safetensors", "--dtype", "f32"]);
        let run = |command: &str| {
            let words: Vec<&str> = command.split_whitespace().chain(size.split_whitespace()).collect();
            ok(dir.path(), &words)
        };
        let info = run("info m.safetensors");
        assert!(
            info.contains(what) && info.contains("2015Scheduler") && info.contains("num_train_timesteps"),
            "{info}"
        );
        let said = run("sample m.safetensors --count 5 --seed 3 --output a.safetensors");
        assert!(said.contains("9 steps of") && said.contains("2015"), "{said}");
        run("sample model --count 5 --seed 3 --batch 2 --output b.safetensors");
        let (a, b) = (samples(&dir, "a.safetensors"), samples(&dir, "b.safetensors"));
        assert_eq!(a, b);
        assert_eq!(a.0, shape);
        assert!(a.1.iter().all(|v| v.is_finite()));
        run("sample m.safetensors --count 5 --seed 3 --output a.npy");
        let npy = std::fs::read(dir.path().join("a.npy")).unwrap();
        assert!(npy.ends_with(&a.1.last().unwrap().to_le_bytes()));
        if model == BITS {
            assert!(a.1.iter().all(|&v| v == 0.0 || v == 1.0));
        }
        if model == IMAGES {
            run("sample m.safetensors --count 5 --output a.png");
        } else {
            refused(dir.path(), &["sample", "model", "--output", "a.png"], 1, "write .npy");
        }
    }
}

#[test]
fn samples_are_scaled_back_to_the_data() {
    let plain = of_2015(POINTS, GAUSSIAN);
    let scaled = of_2015(POINTS, &GAUSSIAN.replace('}', r#", "sample_scale": 4, "sample_shift": 0.5}"#));
    for dir in [&plain, &scaled] {
        ok(dir.path(), &["sample", "model", "--count", "3", "--output", "x.safetensors"]);
    }
    let (x, y) = (samples(&plain, "x.safetensors").1, samples(&scaled, "x.safetensors").1);
    for (x, y) in x.iter().zip(&y) {
        assert!((4.0 * y + 0.5 - x).abs() < 1e-5, "{x} {y}");
    }
}

#[test]
fn what_a_chain_of_2015_has_not_is_refused() {
    let dir = of_2015(IMAGES, GAUSSIAN);
    let before = files(dir.path());
    for (args, text) in [
        ("sample model", "give --size"),
        ("sample model --size 5", "multiples of 2"),
        ("sample model --size 4 --sampler ddim", "DDIMScheduler"),
        ("sample model --size 4 --sigmas 1,0", "no list of sigmas"),
        ("sample model --size 4 --steps 10", "at most the 9 that the model was trained with"),
        ("sample model --size 4 --eta 0.5", "which the 9 steps of a chain of 2015 do not have"),
        ("sample --sampler bits2015", "which the sampler Bits2015Scheduler cannot run"),
    ] {
        refused(dir.path(), &args.split_whitespace().collect::<Vec<_>>(), 1, text);
        assert_eq!(files(dir.path()), before, "{args}");
    }
    let dir = of_2015(POINTS, GAUSSIAN);
    refused(dir.path(), &["sample", "model", "--size", "4"], 1, "no images");
}
