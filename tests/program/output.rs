//! What the program writes and says: formats, several files, standard input and output, summaries for programs, help,
//! completions, manual pages, previews, and what a long run is told to take.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use image::{ColorType, DynamicImage, GrayImage, Luma};
use serde_json::Value;
use undiffuse::noise::{DrawnFor, NoiseSource, PythonGenerator, PythonNoise};

use crate::program::{command, files, ok, refused, run};
use crate::scratch::Scratch;
use crate::tiny::SIDE;
use crate::tiny_scratch::scratch;

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

fn done(dir: &Path, text: &str) -> String {
    ok(dir, &words(text))
}

/// The samples that the program wrote as .npy.
fn npy(path: impl AsRef<Path>) -> Vec<f32> {
    undiffuse::npy::read(path).unwrap().values
}

/// Samples and their grey levels as 8 and as 16 bits say them.
fn close(x: &[f32], levels: impl Iterator<Item = f64>, step: f64) {
    let mut count = 0;
    for (x, level) in x.iter().zip(levels) {
        assert!((f64::from(x.clamp(-1.0, 1.0)) - (2.0 * level - 1.0)).abs() <= step, "{x} {level}");
        count += 1;
    }
    assert_eq!(count, x.len());
}

const SAMPLE: &str = "sample model --count 1 --steps 3 --seed 5";

#[test]
fn noise_is_drawn_as_python_draws_it() {
    let s = scratch();
    let (dir, n) = (s.path(), SIDE * SIDE);
    let get = |more: &str| {
        done(dir, &format!("sample model --sampler ddpm --steps 3 --output x.npy --trace t.safetensors {more}"));
        npy(dir.join("x.npy"))
    };
    let whole = get("--noise torch-cpu --count 4 --seed 7 --batch 4");
    let mut x_t = vec![0.0; 4 * n];
    let mut source = PythonNoise::new(PythonGenerator::TorchCpu, 7, DrawnFor::AllOf(4), n).unwrap();
    source.normal(0, 0, n, &mut x_t).unwrap();
    let bytes = std::fs::read(dir.join("t.safetensors")).unwrap();
    let trace = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let x_t: Vec<u8> = x_t.iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_eq!(trace.tensor("x_t").unwrap().data()[..x_t.len()], x_t);
    // Neither the batch nor the shard changes what is drawn for four samples.
    assert_eq!(get("--noise torch-cpu --count 4 --seed 7 --batch 3"), whole);
    assert_eq!(get("--noise torch-cpu --count 4 --seed 7 --shard 2/2"), whole[2 * n..]);
    // But how many there are does.
    assert_ne!(get("--noise torch-cpu --count 3 --seed 7"), whole[..3 * n]);
    // With a generator each, sample 1 of seed 7 is sample 0 of seed 8.
    let each = get("--noise torch-cpu --each-seed --count 3 --seed 7 --batch 2");
    assert_eq!(get("--noise torch-cpu --count 1 --seed 8"), each[n..2 * n]);
    assert_eq!(get("--noise pcg --count 2 --seed 7"), get("--count 2 --seed 7"));
    let others: Vec<_> =
        PythonGenerator::NAMES.iter().map(|g| get(&format!("--noise {g} --count 1 --seed 7"))).collect();
    assert!(others.iter().enumerate().all(|(i, x)| !others[..i].contains(x)));
    for (code, text, named) in [
        (2, "--noise n.safetensors --each-seed", "--each-seed is for --noise with the name"),
        (2, "--each-seed", "--each-seed is for --noise with the name"),
        (1, "--noise ./torch-cpu", "./torch-cpu"),
        (1, "--noise numpy-legacy --seed 4294967296", "seed 4294967296 of numpy-legacy, expected below 2^32"),
        (1, "--noise torch-cuda --count 97", "as in torch-cuda:270336"),
    ] {
        refused(dir, &words(&format!("sample model {text}")), code, named);
    }
    done(dir, "sample model --noise torch-cuda:270336 --count 97 --steps 1");
}

#[test]
fn every_format_of_pictures_holds_the_samples() {
    let s = scratch();
    let dir = s.path();
    done(dir, &format!("{SAMPLE} --output x.npy"));
    let x = npy(dir.join("x.npy"));
    for name in ["x.png", "x.jpg", "x.jpeg", "x.webp"] {
        done(dir, &format!("{SAMPLE} --output {name}"));
        let image = image::open(dir.join(name)).unwrap();
        assert_eq!((image.width() as usize, image.height() as usize), (SIDE, SIDE), "{name}");
        let step = if name.contains(".j") { 0.2 } else { 1.01 / 255.0 };
        close(&x, image.to_luma8().into_raw().into_iter().map(|v| f64::from(v) / 255.0), step);
    }
    done(dir, &format!("{SAMPLE} --output x.png --depth 16"));
    let image = image::open(dir.join("x.png")).unwrap();
    assert_eq!(image.color(), ColorType::L16);
    close(&x, image.to_luma16().into_raw().into_iter().map(|v| f64::from(v) / 65535.0), 1.01 / 65535.0);
    // What is written is read back.
    done(
        dir,
        "denoise x.webp --sigma 0.1 --method ddrm --steps 2 --model model --output y.jpg --measured y.png --depth 16",
    );
    refused(dir, &words(&format!("{SAMPLE} --output x.jpg --depth 16")), 2, "--depth 16 is for a .png");
    refused(
        dir,
        &words("sample model --size 8x16 --count 829921 --steps 1 --output x.webp"),
        1,
        "16383 pixels that a side may have: write .png",
    );
}

#[test]
fn several_samples_are_several_files_when_asked() {
    let s = scratch();
    let dir = s.path();
    done(dir, "sample model --count 11 --steps 2 --output all.npy");
    let all = npy(dir.join("all.npy"));
    done(dir, "sample model --count 11 --steps 2 --output out-{}.npy");
    for i in 0..11 {
        let one = npy(dir.join(format!("out-{i:02}.npy")));
        assert_eq!(one, all[i * SIDE * SIDE..(i + 1) * SIDE * SIDE], "{i}");
    }
    // A shard's samples keep their numbers.
    done(dir, "sample model --count 11 --shard 2/2 --steps 2 --output part-{}.npy");
    assert!(!dir.join("part-04.npy").exists());
    assert_eq!(npy(dir.join("part-05.npy")), npy(dir.join("out-05.npy")));
    done(dir, "sample model --count 3 --steps 2 --output {}.png");
    assert!(["0.png", "1.png", "2.png"].iter().all(|name| dir.join(name).exists()));
    done(dir, "inpaint 0.png --operator half --steps 2 --count 2 --model model --output r{}.webp");
    assert!(dir.join("r0.webp").exists() && dir.join("r1.webp").exists());
    let before = files(dir);
    refused(dir, &words("sample model --count 3 --steps 1 --output nowhere/{}.png"), 1, "cannot write nowhere/0.png");
    assert_eq!(files(dir), before);
}

/// Runs the program with bytes on standard input.
fn piped(dir: &Path, text: &str, input: &[u8]) -> Output {
    let mut child = command(dir, &words(text));
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn standard_input_and_output_are_files() {
    let s = scratch();
    let dir = s.path();
    let side = SIDE as u32;
    GrayImage::from_fn(side, side, |x, y| Luma([(x * 30 + y) as u8])).save(dir.join("x.png")).unwrap();
    let rest = "--sigma 0.3 --method ddrm --steps 2 --model model";
    done(dir, &format!("denoise x.png {rest} --output a.npy"));
    let before = files(dir);
    let input = std::fs::read(dir.join("x.png")).unwrap();
    let out = piped(dir, &format!("denoise - {rest} --output - --format npy"), &input);
    assert!(out.status.success());
    assert_eq!(out.stdout, std::fs::read(dir.join("a.npy")).unwrap());
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(said.starts_with("-: 1 x 1 samples"), "{said}");
    let out = run(dir, &words(&format!("{SAMPLE} --output - --quiet")));
    assert!(out.status.success() && out.stderr.is_empty());
    assert_eq!(image::load_from_memory(&out.stdout).unwrap().width(), side);
    assert_eq!(files(dir), before);
    let out = piped(dir, &format!("denoise - {rest}"), b"nothing");
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(out.status.code() == Some(1) && said.contains("standard input: unknown kind of file"), "{said}");
    refused(dir, &words(&format!("{SAMPLE} --output x.npy --format npy")), 2, "--format is for standard output");
    refused(dir, &words(&format!("denoise - {rest} --truth -")), 2, "two inputs are standard input");
    refused(dir, &words(&format!("denoise x.png {rest} --output - --mean -")), 2, "two outputs name the same file, -");
}

/// The fields that examples/json.md lists for a command.
fn documented(section: &str) -> BTreeSet<String> {
    let text = include_str!("../../examples/json.md");
    let part = text.split("\n## ").find(|part| part.starts_with(&format!("{section}\n"))).unwrap();
    let fields = part.lines().filter_map(|l| l.strip_prefix("| `")?.split_once('`'));
    fields.map(|(name, _)| name.to_string()).collect()
}

/// Checks that what a run printed is one object with the fields of a section.
fn summary(printed: &str, section: &str) -> Value {
    assert_eq!(printed.lines().count(), 1, "{printed}");
    let value: Value = serde_json::from_str(printed).unwrap();
    let fields: BTreeSet<String> = value.as_object().unwrap().keys().cloned().collect();
    assert_eq!(fields, documented(section), "{section}");
    value
}

#[test]
fn a_summary_for_programs_has_the_fields_that_are_documented() {
    let s = scratch();
    let dir = s.path();
    let v = summary(&done(dir, &format!("{SAMPLE} --json --output x.npy")), "sample");
    assert_eq!((&v["samples"], &v["steps"], &v["shape"]), (&1.into(), &3.into(), &serde_json::json!([1, SIDE, SIDE])));
    assert!(v["seconds"].as_f64().unwrap() > 0.0);
    let restores = "denoise, inpaint, restore, posterior";
    for (text, sigma) in [
        ("denoise x.npy --sigma 0.3 --method ddrm", 0.3),
        ("inpaint x.npy --operator half --method ddnm", 0.0),
        ("restore x.npy --simulate --operator sr2", 0.01),
        ("posterior x.npy --operator half --count 2 --mean m.npy", 0.01),
    ] {
        let v = summary(&done(dir, &format!("{text} --steps 2 --model model --json")), restores);
        assert_eq!(v["sigma"], sigma, "{text}");
        assert_eq!(v["consistency"].is_null(), sigma == 0.0, "{text}");
        assert_eq!(v["largest_misfit"].is_null(), sigma != 0.0, "{text}");
        assert_eq!(v["psnr"]["samples"].is_null(), !text.contains("simulate"), "{text}");
    }
    let v = summary(&done(dir, "evaluate model --data x.npy --times 3 --json"), "evaluate");
    assert!(v["k"].as_f64().unwrap().is_finite() && v["steps"].as_array().unwrap().len() > 3);
    done(dir, "sample model --count 20 --steps 2 --output many.npy");
    let v = summary(&done(dir, "evaluate --data many.npy --parzen many.npy --json"), "evaluate --parzen");
    assert_eq!(v["samples"], 20);
    let v = summary(&done(dir, "devices --json"), "devices");
    assert_eq!(v["devices"][0]["name"], "cpu");
    let v = summary(&done(dir, "info model --batch 3 --json"), "info");
    assert_eq!((&v["class"], &v["batch"], &v["shape"][1]), (&"UNet2DModel".into(), &3.into(), &SIDE.into()));
    assert_eq!(v["model_config"]["block_out_channels"][1], 16);
    assert!(v["scheduler_error"].is_null() && v["read"].as_array().unwrap().len() >= 2, "{v}");
    let v = summary(&done(dir, "bench --model model --calls 3 --json"), "bench");
    assert!(v["calls"] == 3 && v["seconds_min"].as_f64().unwrap() > 0.0);
    let v = summary(&done(dir, "pack model packed.safetensors --json"), "pack");
    assert_eq!(v["bytes"], std::fs::metadata(dir.join("packed.safetensors")).unwrap().len());
    let header = format!(
        r#"{{"sample":{{"dtype":"F32","shape":[1,1,{SIDE},{SIDE}],"data_offsets":[0,256]}},"timestep":{{"dtype":"F32","shape":[],"data_offsets":[256,260]}}}}"#
    );
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.bytes());
    file.extend([0; 260]);
    s.write("in.safetensors", file);
    let v = summary(&done(dir, "predict model --input in.safetensors --output y.safetensors --json"), "predict");
    assert_eq!(v["shape"], serde_json::json!([1, 1, SIDE, SIDE]));
    // Beside samples on standard output it stands on standard error.
    let out = run(dir, &words(&format!("{SAMPLE} --output - --json")));
    summary(&String::from_utf8(out.stderr).unwrap(), "sample");
    assert!(out.stdout.starts_with(b"\x89PNG"));
    assert_eq!(done(dir, &format!("{SAMPLE} --quiet")), "");
    assert_eq!(done(dir, &format!("{SAMPLE} -q")), "");
}

const COMMANDS: [&str; 15] = [
    "sample",
    "denoise",
    "inpaint",
    "restore",
    "posterior",
    "info",
    "predict",
    "pack",
    "import",
    "evaluate",
    "bench",
    "devices",
    "help",
    "completions",
    "man",
];

#[test]
fn help_is_one_text_under_a_hundred_columns() {
    let s = Scratch::new("cli");
    let dir = s.path();
    let all = done(dir, "help");
    assert_eq!(all, done(dir, "--help"));
    for name in COMMANDS {
        assert!(all.contains(&format!("\n  {name} ")), "{name} in {all}");
        let text = done(dir, &format!("help {name}"));
        assert_eq!(text, done(dir, &format!("{name} --help")));
        assert_eq!(text, done(dir, &format!("{name} -h")));
        assert!(text.contains(&format!("usage: undiffuse {name}")), "{text}");
        let mut options = BTreeSet::new();
        for line in text.lines() {
            assert!(line.chars().count() < 100, "{name}: {line}");
            let option = line.strip_prefix("  --").and_then(|l| l.split_whitespace().next());
            assert!(option.is_none_or(|o| options.insert(o.to_string())), "{name} lists {option:?} twice");
        }
    }
    refused(dir, &["help", "smaple"], 2, "did you mean sample?");
}

/// Whether a program is there; CI installs those that the tests want.
fn has(program: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok();
    if !there {
        println!("skipped in part: no {program}");
    }
    there
}

#[test]
fn shells_complete_what_the_commands_take() {
    let s = Scratch::new("cli");
    let dir = s.path();
    for (shell, has_word) in
        [("bash", "--operator"), ("zsh", "--operator"), ("fish", "operator"), ("powershell", "--operator")]
    {
        let text = done(dir, &format!("completions {shell}"));
        for word in [has_word, "posterior", "exact-product", "nhwc", "iterations"] {
            assert!(text.contains(word), "{shell}: {word}");
        }
    }
    for shell in ["zsh", "fish"] {
        if has(shell) {
            let file = s.write(&format!("c.{shell}"), done(dir, &format!("completions {shell}")));
            let out = Command::new(shell).arg("-n").arg(file).output().unwrap();
            assert!(out.status.success() && out.stderr.is_empty(), "{out:?}");
        }
    }
    refused(dir, &["completions", "tcsh"], 2, "expected bash, zsh, fish");
    if has("bash") {
        s.write("c.bash", done(dir, "completions bash"));
        let complete = |line: &str| {
            let script = format!(
                "source c.bash; COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _undiffuse undiffuse \
                 \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD - 1]}}\"; echo \"${{COMPREPLY[@]}}\""
            );
            let out = Command::new("bash").args(["-c", &script]).current_dir(dir).output().unwrap();
            String::from_utf8(out.stdout).unwrap().trim().to_string()
        };
        assert_eq!(complete("undiffuse po"), "posterior");
        assert_eq!(complete("undiffuse restore --oper"), "--operator");
        assert_eq!(complete("undiffuse restore --method ddn"), "ddnm ddnm+");
    }
}

#[test]
fn manual_pages_come_from_the_same_texts() {
    let s = Scratch::new("cli");
    let dir = s.path();
    let page = done(dir, "man restore");
    for word in [".TH", "undiffuse\\-restore", "\\-\\-operator", "Walsh"] {
        assert!(page.contains(word), "{word} in {page}");
    }
    assert!(done(dir, "man").contains("undiffuse"));
    assert_eq!(done(dir, "man --output pages"), "");
    let pages = files(&dir.join("pages"));
    assert!(pages.len() > COMMANDS.len() && pages.contains(&dir.join("pages/undiffuse.1")), "{pages:?}");
    assert_eq!(std::fs::read_to_string(dir.join("pages/undiffuse-restore.1")).unwrap(), page);
    refused(dir, &["man", "restore", "--output", "x"], 2, "leave out restore");
}

#[test]
fn a_preview_shows_the_last_prediction() {
    let s = scratch();
    let dir = s.path();
    let said = done(dir, &format!("{SAMPLE} --output x.png --preview p.png"));
    assert!(said.starts_with("x.png: "));
    // DDIM without noise ends at the x_0 that its last step predicts.
    let open = |name: &str| -> DynamicImage { image::open(dir.join(name)).unwrap() };
    assert_eq!(open("p.png"), open("x.png"));
    let out = run(dir, &words(&format!("{SAMPLE} --output x.png --preview -")));
    let drawn = String::from_utf8(out.stderr).unwrap();
    // At least the first and the last; four lines of eight pixels' columns each.
    assert!(
        out.status.success() && drawn.lines().count() >= 8 && drawn.lines().all(|l| l.matches('▀').count() == SIDE)
    );
    done(dir, "inpaint x.png --operator half --steps 2 --model model --preview q.png");
    assert_eq!(open("q.png").width() as usize, SIDE);
    refused(dir, &words(&format!("{SAMPLE} --preview p.gif")), 1, "a preview is a .png file");
    refused(dir, &words(&format!("{SAMPLE} --preview nowhere/p.png")), 1, "cannot write nowhere/p.png");
    refused(dir, &words(&format!("{SAMPLE} --output p.png --preview p.png")), 2, "the same file");
    refused(
        dir,
        &words("inpaint x.png --operator half --model model --output p.png --preview p.png"),
        2,
        "the same file",
    );
}

#[cfg(unix)]
#[test]
fn a_run_of_over_a_minute_says_so_before() {
    use std::io::{BufRead, BufReader};
    let s = Scratch::new("cli");
    let before = files(s.path());
    let args = words("sample --count 100000 --sampler ddpm --output x.npy --backend cpu");
    let mut child = command(s.path(), &args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("undiffuse: this will take about ") && line.contains(" MB of memory"), "{line}");
    assert!(line.contains("6250 batches of 16, 1000 network calls each"), "{line}");
    let sent = Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(files(s.path()), before);
}
