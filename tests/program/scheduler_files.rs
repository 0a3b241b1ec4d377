//! Every scheduler configuration that 14 releases of diffusers save (`tests/golden/make_scheduler_configs.py`), beside
//! a model: what `info` and `sample` make of it.

use serde_json::Value;

use crate::program::{ok, run};
use crate::tiny;
use crate::tiny_scratch::{scratch, scratch_with};

/// Classes of which no file is sampled from as it stands, and what is said.
const REFUSED: [(&str, &str); 19] = [
    ("AmusedScheduler", NOTHING),
    ("BlockRefinementScheduler", NOTHING),
    ("CogVideoXDDIMScheduler", NOTHING),
    ("CogVideoXDPMScheduler", NOTHING),
    ("ConsistencyDecoderScheduler", NOTHING),
    ("DDPMWuerstchenScheduler", NOTHING),
    ("DiscreteDDIMScheduler", NOTHING),
    ("EntropyBoundScheduler", NOTHING),
    ("FlowMapEulerDiscreteScheduler", NOTHING),
    ("HeliosDMDScheduler", NOTHING),
    ("HeliosScheduler", NOTHING),
    ("LTXEulerAncestralRFScheduler", NOTHING),
    ("MiniMaxH3Scheduler", NOTHING),
    ("PiflowScheduler", NOTHING),
    ("RePaintScheduler", "its betas are, so another sampler runs the model when asked for, as ddim"),
    ("SCMScheduler", NOTHING),
    ("UnCLIPScheduler", NOTHING),
    ("VQDiffusionScheduler", NOTHING),
    // Of the files of this class only those with a shift that follows from the image.
    ("FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting"),
];
const NOTHING: &str = "is not implemented; nor does its file say what another sampler could run the model by";

/// Samplers that files are also run with: one for each process that files are of.
const SAMPLERS: [&str; 4] = ["ddim", "unipc", "flow-euler", "edm-heun"];

fn reason(class: &str, file: &Value) -> Option<&'static str> {
    let (_, reason) = REFUSED.iter().find(|(name, _)| *name == class)?;
    (class != "FlowMatchEulerDiscreteScheduler" || file["use_dynamic_shifting"] == true).then_some(reason)
}

/// What the program said to standard error, or nothing where it made a sample of finite values.
fn sampled(dir: &std::path::Path, more: &[&str]) -> String {
    // Of the cpu alone: to ask for the adapters of a GPU takes longer than to sample.
    let args = ["sample", "model", "--backend", "cpu", "--steps", "4", "--count", "1", "--output", "x.npy"];
    let args = [&args, more].concat();
    let out = run(dir, &args);
    let said = String::from_utf8(out.stderr).unwrap();
    if out.status.success() {
        assert!(said.is_empty() && dir.join("x.npy").is_file(), "{args:?}: {said}");
        std::fs::remove_file(dir.join("x.npy")).unwrap();
    } else {
        assert_eq!(out.status.code(), Some(1), "{args:?}: {said}");
        let lines = (1..=2).contains(&said.lines().count());
        assert!(said.starts_with("undiffuse: ") && lines && !dir.join("x.npy").exists(), "{args:?}: {said}");
    }
    said
}

#[test]
fn every_file_is_sampled_from_or_refused_by_name() {
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/scheduler_configs.json")).unwrap();
    let rows: Vec<Value> = serde_json::from_str(&text).unwrap();
    let classes: std::collections::BTreeSet<&str> = rows.iter().map(|r| r["class"].as_str().unwrap()).collect();
    assert!(rows.len() >= 150 && classes.len() >= 50, "{} files of {} classes", rows.len(), classes.len());
    // A learned variance is in a second half of the network's channels.
    let learned = scratch_with(&tiny::model_config("").replace(r#""out_channels": 1"#, r#""out_channels": 2"#));
    let plain = scratch();
    let (mut works, mut refused) = (0, 0);
    for row in &rows {
        let (class, text) = (row["class"].as_str().unwrap(), row["file"].as_str().unwrap());
        let what = format!("{class} of {}, {}", row["version"], row["from"]);
        let scratch = if text.contains("learned") { &learned } else { &plain };
        scratch.write("model/scheduler/scheduler_config.json", text);
        let dir = scratch.path();
        // Python's -Infinity is no JSON elsewhere.
        let file: Value = serde_json::from_str(&text.replace("-Infinity", "-1e300")).unwrap();
        let expected = reason(class, &file);
        let info = ok(dir, &["info", "model"]);
        // The variants for parallel sampling step as those without.
        assert!(info.contains(&class.replace("Parallel", "")), "{what}: {info}");
        let said = sampled(dir, &[]);
        match expected {
            None => {
                assert!(said.is_empty(), "{what}: {said}");
                assert!(!info.contains("not understood"), "{what}: {info}");
                works += 1;
            }
            Some(reason) => {
                assert!(said.contains(reason), "{what}: {said}");
                if class != "FlowMatchEulerDiscreteScheduler" {
                    assert!(said.contains(class) && info.contains(reason), "{what}: {said}{info}");
                }
                refused += 1;
            }
        }
        for sampler in SAMPLERS {
            let said = sampled(dir, &["--sampler", sampler]);
            // What is advised is not what was done, and can be done. All name the file or its class.
            let advised = said.trim_end().rsplit_once("expected ").map_or("", |(_, list)| list);
            let advised: Vec<&str> = advised.split(" or ").filter(|word| !word.is_empty()).collect();
            assert!(!advised.contains(&sampler), "{what} with {sampler}: {said}");
            if let Some(first) = advised.first() {
                let again = sampled(dir, &["--sampler", first]);
                let of_image = again.contains("mu is missing");
                assert!(again.is_empty() || of_image, "{what}: advised {first}, and then: {again}");
            }
            let named = said.contains(class) || said.contains("scheduler") || said.contains("mu is missing");
            assert!(said.is_empty() || named, "{what} with {sampler}: {said}");
        }
        if expected.is_some_and(|reason| reason.ends_with("as ddim")) {
            assert_eq!(sampled(dir, &["--sampler", "ddim"]), "", "{what}");
        }
        if expected == Some("use_dynamic_shifting") {
            assert_eq!(sampled(dir, &["--mu", "0.8"]), "", "{what}");
        }
    }
    assert_eq!((works, refused), (139, 19));
    plain.write("model/scheduler/scheduler_config.json", r#"{"_class_name": "FlowMatchEulerDiscreteScheduler"}"#);
    assert!(sampled(plain.path(), &["--mu", "0.8"]).contains("does not say use_dynamic_shifting"));
}
