//! `undiffuse train` as a person uses it: what it leaves, that a stop in the middle changes no bit, and what it
//! refuses.

use std::path::Path;
use std::process::Output;

use undiffuse::pipeline::Source;

use crate::program::{command, files, ok, refused, run};
use crate::scratch::Scratch;

/// A swiss roll in few steps.
const ROLL: &str = r#"{
    "model": {"_class_name": "Rbf2015", "features": 2, "units": 4, "num_train_timesteps": 10},
    "scheduler": {"_class_name": "Ancestral2015Scheduler", "num_train_timesteps": 10},
    "data": {"kind": "swiss_roll", "count": 500, "noise": 1.0, "scale": "unit_variance"},
    "loss": {"kind": "bound"}, "learning_rate": 1e-2, "batch": 20, "steps": STEPS, "seed": 3,
    "learned_betas": {"rate": 0.5}, "ema": 0.9, "checkpoint_every": 50
}"#;

fn roll(steps: u64) -> String {
    ROLL.replace("STEPS", &steps.to_string())
}

fn read(dir: &Path, name: &str) -> Vec<u8> {
    std::fs::read(dir.join(name)).unwrap()
}

/// The names of the files in a directory.
fn names(dir: &Path) -> Vec<String> {
    files(dir).iter().map(|p| p.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_training_leaves_weights_and_a_card() {
    let s = Scratch::new("train");
    let dir = s.path();
    s.write("roll.json", roll(60));
    let said = ok(dir, &["train", "roll.json"]);
    assert!(said.starts_with("roll.safetensors: 60 steps, K ") && said.contains("bits per dimension"), "{said}");
    // The checkpoint of step 50 has gone.
    assert_eq!(names(dir), ["roll.json", "roll.md", "roll.safetensors"]);
    let card = String::from_utf8(read(dir, "roll.md")).unwrap();
    for part in
        ["# roll.safetensors", "Rbf2015, 172 parameters", "betas but the first learned", "| 3 |", "\"steps\": 60"]
    {
        assert!(card.contains(part), "no {part} in\n{card}");
    }
    let weights = read(dir, "roll.safetensors");
    let source = Source::from_bytes(&weights).unwrap();
    assert!(source.scheduler().unwrap().trained_betas.as_ref().is_some_and(|b| b.len() == 10));

    // The same again, in another place and with other numbers of threads; a card that is there stays.
    s.write("a.md", "mine");
    for threads in ["1", "2"] {
        ok(dir, &["train", "roll.json", "--output", "a.safetensors", "--threads", threads]);
        assert!(read(dir, "a.safetensors") == weights, "{threads} threads");
    }
    assert_eq!(read(dir, "a.md"), b"mine");
    s.write("other.json", roll(60).replace(r#""seed": 3"#, r#""seed": 4"#));
    ok(dir, &["train", "other.json"]);
    assert!(read(dir, "other.safetensors") != weights);
    // What was trained can be used.
    ok(dir, &["sample", "roll.safetensors", "--count", "3", "--output", "x.npy"]);
}

/// Trains until there is a checkpoint, then interrupts it.
#[cfg(unix)]
fn interrupted(dir: &Path, args: &[&str]) -> Output {
    let mut child =
        command(dir, args).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    while !dir.join("roll.safetensors.checkpoint").exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before its first checkpoint");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let sent = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    child.wait_with_output().unwrap()
}

#[cfg(unix)]
#[test]
fn a_stopped_training_goes_on_in_the_same_bits() {
    let s = Scratch::new("train");
    let dir = s.path();
    // It cannot end before it is stopped.
    s.write("roll.json", roll(1 << 40));
    let out = interrupted(dir, &["train", "roll.json", "--threads", "2"]);
    let said = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(130), "{said}");
    let done: u64 =
        said.strip_prefix("undiffuse: stopped after step ").unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(done >= 50 && said.contains("--resume goes on from roll.safetensors.checkpoint"), "{said}");
    assert_eq!(names(dir), ["roll.json", "roll.safetensors.checkpoint"]);
    // More steps may be planned than were at first, or fewer.
    s.write("roll.json", roll(done + 30));
    let said = ok(dir, &["train", "roll.json", "--resume", "--threads", "1"]);
    assert!(said.contains(&format!("{} steps", done + 30)), "{said}");
    assert_eq!(names(dir), ["roll.json", "roll.md", "roll.safetensors"]);
    ok(dir, &["train", "roll.json", "--output", "whole.safetensors"]);
    assert!(read(dir, "roll.safetensors") == read(dir, "whole.safetensors"));
    s.write("roll.json", roll(50));
    let said = ok(dir, &["train", "roll.json", "--output", "short.safetensors", "--json"]);
    let summary: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(summary["steps"], 50);
    let fields: Vec<_> = summary.as_object().unwrap().keys().map(String::as_str).collect();
    // Those of examples/json.md.
    assert_eq!(fields, ["loss", "mean_field", "output", "steps"]);
    refused(dir, &["train", "roll.json", "-o", "x"], 2, "-o is called --output now");
}

#[test]
fn what_cannot_be_trained_is_refused() {
    let s = Scratch::new("train");
    let dir = s.path();
    let before = |name: &str, text: &str, from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        s.write(name, text.replace(from, to));
    };
    s.write("roll.json", roll(5));
    before("unknown.json", &roll(5), r#""seed""#, r#""sed""#);
    before(
        "missing.json",
        &roll(5),
        r#""kind": "swiss_roll", "count": 500, "noise": 1.0"#,
        r#""kind": "npy", "path": "none.npy""#,
    );
    before("wrong.json", &roll(5), r#""features": 2"#, r#""features": 3"#);
    s.write("cut.json", &roll(5)[..100]);
    s.write("bytes.json", b"\xff\xfe");
    s.write("long.json", vec![b' '; (4 << 20) + 1]);
    let there = names(dir);
    refused(dir, &["train"], 2, "CONFIG");
    refused(dir, &["train", "roll.json", "--resum"], 2, "--resume?");
    refused(dir, &["train", "roll.json", "--threads", "0"], 2, "--threads is \"0\"");
    refused(dir, &["train", "none.json"], 1, "none.json");
    refused(dir, &["train", "unknown.json"], 1, "unknown.json: the training config has the unknown key sed");
    refused(dir, &["train", "missing.json"], 1, "none.npy");
    refused(dir, &["train", "wrong.json"], 1, "samples of [3]");
    refused(dir, &["train", "cut.json"], 1, "cut.json: the training config is malformed");
    refused(dir, &["train", "bytes.json"], 1, "bytes.json: no UTF-8 text");
    refused(dir, &["train", "long.json"], 1, "longer than 4194304 bytes");
    refused(dir, &["train", "roll.json", "--resume"], 1, "roll.safetensors.checkpoint");
    refused(dir, &["train", "roll.json", "--output", "no/where.safetensors"], 1, "where.safetensors");
    // Nothing was written.
    assert_eq!(names(dir), there);
    for broken in [&b""[..], b"not a checkpoint", &[0xff; 64]] {
        s.write("roll.safetensors.checkpoint", broken);
        refused(
            dir,
            &["train", "roll.json", "--resume"],
            1,
            "roll.safetensors.checkpoint: the saved state is malformed",
        );
        assert_eq!(read(dir, "roll.safetensors.checkpoint"), broken);
    }
    // Without --resume, a checkpoint that lies there is no concern.
    assert_eq!(run(dir, &["train", "roll.json"]).status.code(), Some(0));
}
