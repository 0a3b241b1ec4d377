//! `undiffuse import`: ONNX files by the program, checked against the original's arrays before they are written.

use std::path::PathBuf;

use undiffuse::weights::{SafeTensorsView, WeightSource};

use crate::formats::npy;
use crate::program::{ok, refused};
use crate::scratch::Scratch;

const GOLDEN: &[u8] = include_bytes!("../golden/onnx.safetensors");

fn onnx(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/onnx").join(name)
}

/// The golden arrays of a file as `.npy`, and the words that check by them.
fn arrays(s: &Scratch, file: &str) -> Vec<String> {
    let view = SafeTensorsView::parse(GOLDEN).unwrap();
    let mut words = Vec::new();
    for name in view.names() {
        let Some(short) = name.strip_prefix(&format!("{file}/")) else { continue };
        let shape = view.info(name).unwrap().shape;
        let mut values = vec![0.0; shape.iter().product()];
        view.read_f32(name, &mut values).unwrap();
        let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let text: String = shape.iter().map(|d| format!("{d}, ")).collect();
        s.write(&format!("{short}.npy"), npy("<f4", &text, &data));
        match short {
            "out" => words.extend(["--check-output".to_string(), "out.npy".to_string()]),
            short => words.extend(["--check-input".to_string(), format!("{short}={short}.npy")]),
        }
    }
    words
}

#[test]
fn an_import_is_checked_and_then_predicts_and_samples() {
    let s = Scratch::new("import");
    for file in ["image_dynamo", "row_dynamo", "image_script"] {
        let from = onnx(&format!("{file}.onnx"));
        let checks = arrays(&s, file);
        let mut words = vec!["import", from.to_str().unwrap(), "m.safetensors", "--json"];
        words.extend(checks.iter().map(String::as_str));
        let said: serde_json::Value = serde_json::from_str(&ok(s.path(), &words)).unwrap();
        assert!(said["relative_error"].as_f64().unwrap() < 1e-5, "{said}");
        assert_eq!(said["bytes"], std::fs::metadata(s.path().join("m.safetensors")).unwrap().len());
        assert_eq!(said["inputs"][0]["name"], "sample", "{said}");
        // Another array as the output is not what the network makes.
        std::fs::remove_file(s.path().join("m.safetensors")).unwrap();
        let wrong: Vec<&str> = words.iter().map(|w| if *w == "out.npy" { "sample.npy" } else { w }).collect();
        refused(s.path(), &wrong, 1, "relative L2");
        assert!(!s.path().join("m.safetensors").exists());
    }
    let from = onnx("image_script.onnx");
    let scheduler = r#"{"_class_name": "DDPMScheduler", "num_train_timesteps": 50}"#;
    let said = ok(s.path(), &["import", from.to_str().unwrap(), "m.safetensors", "--scheduler", scheduler]);
    assert!(said.contains("input timestep (timestep) [1]"), "{said}");
    ok(s.path(), &["sample", "m.safetensors", "--count", "1", "--steps", "3", "--output", "x.npy"]);
    assert!(ok(s.path(), &["info", "m.safetensors"]).contains("Graph"));
}

#[test]
fn wrong_words_are_refused_by_name() {
    let s = Scratch::new("import");
    let from = onnx("row_script.onnx");
    let from = from.to_str().unwrap();
    for (words, code, text) in [
        (&["import", from][..], 2, "MODEL and OUTPUT"),
        (&["import", from, "m.safetensors", "--role", "sample"], 2, "NAME=VALUE"),
        (&["import", from, "m.safetensors", "--role", "sample=noise"], 2, "expected value, sample"),
        (&["import", from, "m.safetensors", "--role", "noise=sample"], 1, "no input \"noise\""),
        (&["import", from, "m.safetensors", "--input", "sample=1x2x"], 2, "as in 1x3x32x32"),
        (&["import", from, "m.safetensors", "--input", "sample=1x2x9"], 1, "dimension 2 is 8"),
        (&["import", from, "m.safetensors", "--check-output", "out.npy"], 2, "belong together"),
        (&["import", from, "m.safetensors", "--prediction", "noise"], 1, "say which output"),
        (&["import", "none.onnx", "m.safetensors"], 1, "none.onnx"),
    ] {
        refused(s.path(), words, code, text);
    }
    assert!(!s.path().join("m.safetensors").exists());
    let checks = arrays(&s, "row_script");
    let mut words = vec!["import", from, "m.safetensors"];
    words.extend(checks.iter().filter(|w| !w.starts_with("context=")).map(String::as_str));
    let at = words
        .windows(2)
        .position(|w| w == ["--check-input", "--check-input"])
        .unwrap_or_else(|| words.windows(2).position(|w| w[0] == "--check-input" && w[1].starts_with("--")).unwrap());
    words.remove(at);
    refused(s.path(), &words, 1, "--check-input context=FILE is missing");
    s.write("pickle.onnx", b"PK\x03\x04");
    refused(s.path(), &["import", "pickle.onnx", "m.safetensors"], 1, "pickle.onnx: no ONNX file");
}
