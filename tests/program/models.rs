//! Which model a command runs, with which scheduler and for which classes, as a person names them. Every advice of an
//! error is followed.

use crate::pcg;
use crate::program;
use crate::tiny;
use std::path::Path;

use crate::formats::{bytes_of, npy, safetensors, tensor, words};
use crate::program::{files, ok, refused};
use crate::tiny::SIDE;
use crate::tiny_scratch::{scratch, scratch_with};

const PIXELS: usize = SIDE * SIDE;

/// Runs what must succeed.
fn goes(dir: &Path, text: &str) -> String {
    ok(dir, &words(text))
}

/// The samples of `sample` with these options.
fn samples(dir: &Path, text: &str) -> Vec<f32> {
    goes(dir, &format!("sample {text} --output out.safetensors"));
    tensor(dir, "out.safetensors", "x_0")
}

#[test]
fn a_scheduler_is_given_where_there_is_none() {
    let s = scratch();
    let dir = s.path();
    let alone = tiny::model_config("");
    s.write("alone/config.json", &alone);
    s.write("alone/diffusion_pytorch_model.safetensors", tiny::weights(&alone));
    s.write("scheduler_config.json", tiny::scheduler_config());
    s.write(
        "in.safetensors",
        safetensors(&[("sample", &[1, 1, SIDE, SIDE], &[0.1; PIXELS]), ("timestep", &[], &[7.0])]),
    );
    // What needs no scheduler.
    let said = goes(dir, "info alone");
    assert!(said.contains("take --scheduler") && said.contains("alone/diffusion_pytorch_model.safetensors"), "{said}");
    goes(dir, "bench alone --calls 1");
    goes(dir, "predict alone --input in.safetensors --output y.safetensors");
    goes(dir, "predict model --input in.safetensors --output z.safetensors");
    assert_eq!(tensor(dir, "y.safetensors", "sample"), tensor(dir, "z.safetensors", "sample"));

    // What does says how it is given, and each of these ways works.
    s.write("x.npy", npy("<f4", "1, 1, 8, 8", &bytes_of(&[0.5; PIXELS])));
    for command in [
        "sample alone --count 1",
        "evaluate alone --data x.npy --times 2",
        "denoise x.npy --model alone --sigma 0.5 --steps 2",
        "restore x.npy --model alone --operator sr2 --simulate --steps 2",
    ] {
        refused(
            dir,
            &words(command),
            1,
            "give --scheduler FILE, or --scheduler '{\"_class_name\": \"DDPMScheduler\"}'",
        );
    }
    let want = samples(dir, "model --count 2 --steps 3");
    assert_eq!(samples(dir, "alone --count 2 --steps 3 --scheduler scheduler_config.json"), want);
    assert_eq!(samples(dir, "alone --count 2 --steps 3 --scheduler model"), want);
    assert_eq!(samples(dir, "alone --count 2 --steps 3 --scheduler model/scheduler"), want);
    let json = r#"{"_class_name": "DDPMScheduler"}"#;
    ok(dir, &["sample", "alone", "--count", "1", "--steps", "2", "--scheduler", json]);
    assert!(goes(dir, "evaluate alone --data x.npy --times 2 --scheduler model").contains("100 steps"));
    goes(dir, "denoise x.npy --model alone --sigma 0.5 --steps 2 --scheduler model --output d.png");
    goes(dir, "restore x.npy --model alone --operator sr2 --simulate --steps 2 --scheduler model --output r.png");
    goes(
        dir,
        "posterior x.npy --model alone --operator sr2 --simulate --count 2 --steps 2 --scheduler model --mean m.png",
    );
    goes(dir, "inpaint x.npy --model alone --operator half --steps 2 --scheduler model --output i.png");

    // A packed file takes one with it, or goes without.
    goes(dir, "pack alone bare.safetensors --dtype f32");
    refused(dir, &words("sample bare.safetensors --count 1"), 1, "--scheduler");
    assert_eq!(samples(dir, "bare.safetensors --count 2 --steps 3 --scheduler model"), want);
    goes(dir, "pack alone with.safetensors --dtype f32 --scheduler model");
    assert_eq!(samples(dir, "with.safetensors --count 2 --steps 3"), want);

    let before = files(dir);
    refused(dir, &words("pack nowhere x.safetensors --scheduler model"), 1, "nowhere");
    assert_eq!(files(dir), before);
    // What is given is judged before the model's own, and what has no use for it does not take it.
    refused(dir, &words("sample model --scheduler nowhere"), 1, "--scheduler nowhere");
    refused(dir, &["sample", "model", "--scheduler", "{1}"], 1, "--scheduler");
    refused(dir, &words("sample model --scheduler in.safetensors"), 1, "--scheduler");
    for command in ["bench model --scheduler model", "predict model --scheduler model"] {
        refused(dir, &words(command), 2, "unknown option --scheduler");
    }
}

#[test]
fn a_scheduler_of_any_class_bars_nothing_that_does_not_need_it() {
    let s = scratch();
    let dir = s.path();
    s.write(
        "in.safetensors",
        safetensors(&[("sample", &[1, 1, SIDE, SIDE], &[0.1; PIXELS]), ("timestep", &[], &[7.0])]),
    );
    let want = samples(dir, "model --count 1 --steps 3 --sampler ddim");
    goes(dir, "predict model --input in.safetensors --output z.safetensors");
    for (scheduler, has_betas) in [
        (tiny::scheduler_config().replace("DDPMScheduler", "PNDMScheduler"), true),
        (tiny::scheduler_config().replace("DDPMScheduler", "EulerDiscreteScheduler"), true),
        (tiny::scheduler_config().replace("DDPMScheduler", "DPMSolverMultistepScheduler"), true),
        (r#"{"_class_name": "NoSuchScheduler"}"#.into(), false),
        ("no JSON".into(), false),
    ] {
        s.write("model/scheduler/scheduler_config.json", &scheduler);
        assert!(goes(dir, "info model").contains("model/scheduler/scheduler_config.json"));
        goes(dir, "bench model --calls 1");
        goes(dir, "predict model --input in.safetensors --output y.safetensors");
        assert_eq!(tensor(dir, "y.safetensors", "sample"), tensor(dir, "z.safetensors", "sample"));
        goes(dir, "pack model packed.safetensors --dtype f32");
        for path in ["model", "packed.safetensors"] {
            let asked = format!("{path} --count 1 --steps 3 --sampler ddim");
            if has_betas {
                assert_eq!(samples(dir, &asked), want, "{scheduler}");
            } else {
                let said = program::run(dir, &words(&format!("sample {asked}")));
                assert_eq!(said.status.code(), Some(1), "{scheduler}");
            }
            let scheduler = tiny::scheduler_config();
            let args = format!("sample {asked} --output o.safetensors --scheduler");
            ok(dir, &[&words(&args)[..], &[&scheduler]].concat());
            assert_eq!(tensor(dir, "o.safetensors", "x_0"), want);
        }
    }
}

#[test]
fn info_says_which_files_it_read_and_what_it_passed_over() {
    let s = scratch();
    let (dir, config) = (s.path(), tiny::model_config(""));
    s.write("model/unet/diffusion_pytorch_model.fp16.safetensors", tiny::weights(&config));
    let said = goes(dir, "info model");
    for line in [
        "read          model/unet/config.json",
        "read          model/scheduler/scheduler_config.json",
        "read          model/unet/diffusion_pytorch_model.safetensors",
        "note          diffusion_pytorch_model.fp16.safetensors is not read: diffusion_pytorch_model.safetensors is",
    ] {
        assert!(said.lines().any(|l| l == line), "{line}: {said}");
    }
    assert!(!goes(dir, "info").contains("\nread"), "the digits are in no file");
}

#[test]
fn a_class_is_a_number_of_a_table_a_number_or_a_vector() {
    // As many values as the time embedding: four times the first of block_out_channels.
    const WIDTH: usize = 32;
    let row = |at: u64| pcg::uniform(5, at, WIDTH, 1.0);
    let both = [row(0), row(1)].concat();
    for (keys, expected) in [
        (r#", "num_class_embeds": 4"#, "whole numbers from 0 to 3: give --class LIST"),
        (r#", "class_embed_type": "timestep""#, "numbers: give --class LIST"),
        (r#", "class_embed_type": "identity""#, "rows of 32 values: give --class FILE"),
    ] {
        let s = scratch_with(&tiny::model_config(keys));
        let dir = s.path();
        let vector = keys.contains("identity");
        if vector {
            s.write("rows.npy", npy("<f4", "2, 32", &bytes_of(&both)));
            s.write("first.npy", npy("<f4", "32,", &bytes_of(&row(0))));
            s.write("second.safetensors", safetensors(&[("class_labels", &[1, WIDTH], &row(1))]));
        } else {
            // int64, as NumPy and PyTorch have whole numbers.
            s.write("rows.npy", npy("<i8", "2,", &[3i64.to_le_bytes(), 1i64.to_le_bytes()].concat()));
            s.write("first.npy", npy("<i8", "", &3i64.to_le_bytes()));
            s.write("second.safetensors", safetensors(&[("class_labels", &[1], &[1.0])]));
            let listed = samples(dir, "model --count 3 --steps 2 --class 3,1");
            assert_eq!(listed, samples(dir, "model --count 3 --steps 2 --class rows.npy"));
        }
        let in_turn = samples(dir, "model --count 3 --steps 2 --batch 2 --class rows.npy");
        let first = samples(dir, "model --count 3 --steps 2 --class first.npy");
        let second = samples(dir, "model --count 3 --steps 2 --class second.safetensors");
        assert_eq!(in_turn, [&first[..PIXELS], &second[PIXELS..2 * PIXELS], &first[2 * PIXELS..]].concat());
        assert_ne!(first, second);

        // Every command that runs a chain says what it lacks, and takes it.
        s.write("x.npy", npy("<f4", "3, 1, 8, 8", &bytes_of(&pcg::uniform(6, 0, 3 * PIXELS, 0.9))));
        for command in [
            "sample model --count 1 --steps 2",
            "evaluate model --data x.npy --times 2",
            "denoise x.npy --model model --sigma 0.5 --steps 2",
            "inpaint x.npy --model model --operator half --steps 2",
            "restore x.npy --model model --operator sr2 --simulate --steps 2",
            "posterior x.npy --model model --operator sr2 --simulate --count 2 --steps 2 --mean mean.npy",
        ] {
            refused(dir, &words(command), 1, expected);
            goes(dir, &format!("{command} --class rows.npy"));
        }
        goes(dir, "bench model --calls 1");
        if vector {
            refused(dir, &words("sample model --count 1 --class 1,2"), 1, "--class: 2 class values are given");
            s.write("wrong.npy", npy("<f4", "2, 16", &bytes_of(&both[..32])));
            refused(dir, &words("sample model --count 1 --class wrong.npy"), 1, "[2, 16], expected [N, 32]");
        } else {
            refused(dir, &words("sample model --count 1 --class second.npy"), 1, "second.npy");
            s.write("wrong.npy", npy("<f4", "2, 16", &bytes_of(&both[..32])));
            refused(dir, &words("sample model --count 1 --class wrong.npy"), 1, "[2, 16], expected [N]");
        }
        if keys.contains("num") {
            refused(dir, &words("sample model --count 1 --class 4"), 1, "--class: class 4 is none of the model's");
            refused(dir, &words("sample model --count 1 --class 0.5"), 1, "class 0.5");
        }
        s.write("nan.npy", npy("<f4", "1, 32", &bytes_of(&[f32::NAN; WIDTH])));
        refused(dir, &words("sample model --count 1 --class nan.npy"), 1, "nan.npy");
    }
    let s = scratch();
    refused(s.path(), &words("sample model --class 1"), 1, "--class: classes are given, but the model takes none");
}

#[test]
fn a_bound_of_a_class_model_is_that_of_each_samples_class() {
    let s = scratch_with(&tiny::model_config(r#", "num_class_embeds": 4"#));
    let dir = s.path();
    s.write("x.npy", npy("<f4", "5, 1, 8, 8", &bytes_of(&pcg::uniform(6, 0, 5 * PIXELS, 0.9))));
    // Steps chosen for each sample leave gaps between the samples of a call.
    for steps in ["", "--times 7 --draws 2"] {
        let k = |options: &str| {
            let said = goes(dir, &format!("evaluate model --data x.npy {steps} {options}"));
            let line = said.lines().find(|l| l.starts_with("K ")).unwrap().to_string();
            line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap()
        };
        let whole = k("--class 0,3");
        for batch in [1, 2, 7] {
            assert_eq!(whole, k(&format!("--class 0,3 --batch {batch}")), "{steps} batch {batch}");
        }
        assert_eq!(k("--class 2"), k("--class 2,2,2"));
        assert_ne!(whole, k("--class 3,0"));
    }
}

/// A safetensors file whose last tensors are whole numbers.
fn with_labels(labels: &[(&str, &str, &str, &[u8])]) -> Vec<u8> {
    let mut header =
        format!(r#"{{"sample":{{"dtype":"F32","shape":[2,1,{SIDE},{SIDE}],"data_offsets":[0,{}]}}"#, 8 * PIXELS);
    let mut data = bytes_of(&pcg::uniform(7, 0, 2 * PIXELS, 1.0));
    for (name, dtype, shape, bytes) in labels {
        let end = data.len() + bytes.len();
        header += &format!(r#","{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{},{end}]}}"#, data.len());
        data.extend_from_slice(bytes);
    }
    header.push('}');
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

#[test]
fn labels_and_timesteps_are_whole_numbers_where_pytorch_has_them_so() {
    let s = scratch_with(&tiny::model_config(r#", "num_class_embeds": 4"#));
    let dir = s.path();
    let i64s = |v: &[i64]| v.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let i32s = |v: &[i32]| v.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let predict = |labels: &[(&str, &str, &str, &[u8])]| {
        s.write("in.safetensors", with_labels(labels));
        goes(dir, "predict model --input in.safetensors --output y.safetensors");
        tensor(dir, "y.safetensors", "sample")
    };
    let floats = predict(&[
        ("timestep", "F32", "[2]", &bytes_of(&[7.0, 40.0])),
        ("class_labels", "F32", "[2]", &bytes_of(&[3.0, 1.0])),
    ]);
    let longs = predict(&[("timestep", "I64", "[2]", &i64s(&[7, 40])), ("class_labels", "I64", "[2]", &i64s(&[3, 1]))]);
    let ints = predict(&[("timestep", "I32", "[2]", &i32s(&[7, 40])), ("class_labels", "I32", "[2]", &i32s(&[3, 1]))]);
    assert!(floats == longs && floats == ints);

    let label: (&str, &str, &str, &[u8]) = ("class_labels", "I64", "[2]", &i64s(&[3, 1]));
    let step: (&str, &str, &str, &[u8]) = ("timestep", "I64", "[]", &i64s(&[7]));
    for (labels, text) in [
        (&[step][..], "class_labels: this is a class model"),
        (&[step, ("class_labels", "I64", "[1]", &i64s(&[3]))], "class_labels is [1], expected [2]"),
        (&[step, ("class_labels", "I64", "[2]", &i64s(&[3, 4]))], "class 4 is none of the model's"),
        (&[step, ("class_labels", "I64", "[2]", &i64s(&[3, -1]))], "class -1 is none"),
        (&[("timestep", "I64", "[]", &i64s(&[1 << 40])), label], "timestep holds 1099511627776"),
    ] {
        s.write("in.safetensors", with_labels(labels));
        refused(dir, &words("predict model --input in.safetensors --output y.safetensors"), 1, text);
    }
    // A picture or a weight of whole numbers is none.
    let whole = String::from_utf8_lossy(&with_labels(&[step, label])).into_owned();
    assert!(whole.contains("\"sample\""));
    let bytes = with_labels(&[step, label]);
    let at = bytes.windows(5).position(|w| w == b"\"F32\"").unwrap();
    let mut other = bytes.clone();
    other[at..at + 5].copy_from_slice(b"\"I32\"");
    s.write("in.safetensors", other);
    refused(
        dir,
        &words("predict model --input in.safetensors --output y.safetensors"),
        1,
        "sample has elements of type i32",
    );
    let weights = "model/unet/diffusion_pytorch_model.safetensors";
    let mut bytes = std::fs::read(dir.join(weights)).unwrap();
    let at = bytes.windows(5).position(|w| w == b"\"F32\"").unwrap();
    bytes[at..at + 5].copy_from_slice(b"\"I32\"");
    s.write(weights, bytes);
    refused(dir, &words("info model"), 1, "elements of type i32");
}
