//! `undiffuse denoise`, `inpaint`, `restore` and `posterior` as a person uses them: that they compute what the library
//! does, what they write, what they refuse, and that nothing is left half done.

use crate::program;
use std::path::Path;
use undiffuse::backend::cpu::Cpu;
use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::noise::{NoiseSource, Seeded};
use undiffuse::pipeline::{Gradient, Pipeline, PipelineOptions};
use undiffuse::posterior::operator::{BlockAverage, LinearOperator, Mask};
use undiffuse::posterior::{Calibrated, Ddrm, Evidence, Measurement};
use undiffuse::sampler::{DdimNoise, Jumps, Sampler, SamplerKind, SamplerOptions, Steps};
use undiffuse::tensor::Dims;

use crate::program::{command, files, ok, refused};
use crate::tiny::SIDE;
use crate::tiny_scratch::scratch;

pub const N: usize = SIDE * SIDE;

/// A .npy file.
fn npy(descr: &str, shape: &[usize], data: &[u8]) -> Vec<u8> {
    let dims: String = shape.iter().map(|d| format!("{d},")).collect();
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({dims}), }}\n");
    [b"\x93NUMPY\x01\x00", (header.len() as u16).to_le_bytes().as_slice(), header.as_bytes(), data].concat()
}

pub fn floats(shape: &[usize], data: &[f32]) -> Vec<u8> {
    npy("<f4", shape, &data.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())
}

/// The values of a .npy file that the program wrote, and the text of its shape.
pub fn values(path: impl AsRef<Path>) -> (String, Vec<f32>) {
    let bytes = std::fs::read(path).unwrap();
    let text = String::from_utf8_lossy(&bytes[10..128]).to_string();
    let shape = text.split_once("'shape': (").unwrap().1.split_once(')').unwrap().0.to_string();
    (shape, bytes[128..].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect())
}

/// A smooth picture in [-1, 1]; `i` tells several apart.
pub fn picture(i: usize) -> Vec<f32> {
    (0..N).map(|p| ((p % SIDE + i) as f32 * 0.7).sin() * (p / SIDE) as f32 / SIDE as f32).collect()
}

/// Runs a command of words on the tiny model.
fn on_model(dir: &Path, words: &str) -> String {
    let mut args: Vec<&str> = words.split_whitespace().collect();
    args.extend(["--model", "model"]);
    ok(dir, &args)
}

/// What the library makes of the same; with jumps by RePaint.
fn by_library(
    dir: &Path,
    evidence: impl Evidence,
    options: &SamplerOptions,
    jumps: Option<Jumps>,
    start: Option<&Ddrm<&Mask>>,
) -> Vec<f32> {
    let settings = PipelineOptions { gradient: Gradient::Full, ..Default::default() };
    let pipeline = Pipeline::open(dir.join("model"), &Cpu::new().unwrap(), &settings).unwrap();
    let sampler: Box<dyn Sampler + Send + Sync> = match jumps {
        Some(jumps) => Box::new(pipeline.scheduler().unwrap().repaint(options, jumps).unwrap()),
        None => pipeline.sampler(options).unwrap(),
    };
    let level = sampler.levels()[0];
    let denoiser = pipeline.denoiser(2, &[]).unwrap();
    let chain_options = ChainOptions { batch: 2, first_sample: 0 };
    let mut chain = Chain::with_evidence(denoiser, sampler, Seeded::new(3), evidence, &chain_options).unwrap();
    if let Some(start) = start {
        let mut x = [0.0; 2 * N];
        Seeded::new(3).normal(0, 0, N, &mut x).unwrap();
        start.start(&level, 0, &mut x).unwrap();
        chain.start_from(0, &x, 0).unwrap();
    }
    chain.run().unwrap();
    chain.x().to_vec()
}

#[test]
fn they_make_what_the_library_makes() {
    let s = scratch();
    let dir = s.path();
    let dims = Dims::new(&[1, SIDE, SIDE]).unwrap();
    let ddim = |steps, eta, ddim_noise| SamplerOptions {
        sampler: Some(SamplerKind::Ddim),
        steps: Steps::Count(steps),
        eta,
        ddim_noise,
        ..Default::default()
    };

    // Super-resolution of two pictures, each sample with its own measurement.
    let shrink = BlockAverage::new(dims, 2).unwrap();
    let mut y = vec![0.0; 2 * N / 4];
    let mut scratch = vec![0.0; shrink.scratch_len()];
    for (i, y) in y.chunks_exact_mut(N / 4).enumerate() {
        shrink.apply(&picture(i), y, &mut scratch).unwrap();
    }
    s.write("y.npy", floats(&[2, 1, SIDE / 2, SIDE / 2], &y));
    on_model(dir, "restore y.npy --operator sr2 --sigma 0.1 --iterations 2 --steps 6 --seed 3 --output a.npy");
    let evidence = Calibrated::new(Measurement::each(&shrink, &y, 0, 0.1).unwrap(), 2).unwrap();
    let want =
        by_library(dir, evidence, &ddim(6, 1.0, DdimNoise::Posterior), Some(Jumps { length: 4, resamplings: 2 }), None);
    assert_eq!(values(dir.join("a.npy")), (format!("2, 1, {SIDE}, {SIDE}"), want));

    // Inpainting of one picture, two samples of it; the unknown pixels of the picture play no part.
    let known: Vec<bool> = (0..N).map(|p| p % SIDE > 2).collect();
    s.write("mask.npy", npy("|b1", &[SIDE, SIDE], &known.iter().map(|&k| u8::from(k)).collect::<Vec<_>>()));
    s.write("x.npy", floats(&[SIDE, SIDE], &picture(0)));
    on_model(
        dir,
        "inpaint x.npy --mask mask.npy --sigma 0.2 --method ddrm --steps 5 --seed 3 --count 2 --output b.npy",
    );
    let mask = Mask::new(dims, &known).unwrap();
    let mut seen = vec![0.0; mask.known().len()];
    mask.apply(&picture(0), &mut seen, &mut []).unwrap();
    let ddrm = Ddrm::new(Measurement::new(&mask, &seen, 0.2).unwrap(), 1.0).unwrap();
    let want = by_library(dir, ddrm.clone(), &ddim(5, 0.85, DdimNoise::Level), None, Some(&ddrm));
    assert_eq!(values(dir.join("b.npy")).1, want);
}

#[test]
fn every_method_runs_on_every_operator_or_says_what_does() {
    let s = scratch();
    let dir = s.path();
    s.write("x.npy", floats(&[SIDE, SIDE], &picture(0)));
    s.write("mask.npy", npy("|u1", &[SIDE, SIDE], &(0..N).map(|p| u8::from(p > 20) * 255).collect::<Vec<_>>()));
    s.write("taps.npy", floats(&[3, 2], &[0.1, 0.2, 0.2, 0.3, 0.1, 0.1]));
    let rows: Vec<f32> = (0..5 * N).map(|i| (i as f32 * 0.37).sin()).collect();
    s.write("matrix.npy", floats(&[5, N], &rows));
    let exact = ["mcg", "ddnm", "repaint"];
    let methods = [
        "calibrated",
        "split-gibbs --ensemble 3",
        "daps --langevin-steps 5 --flow-steps 2",
        "red-diff --rate 0.05 --lambda 0.5",
        "sitcom --gradient-steps 2 --rate 0.05 --lambda 0.5 --stop 0.1",
        "fps --ensemble 3",
        "white",
        "dps --misfit laplace",
        "mcg",
        "pigdm",
        "tmpd",
        "ddrm",
        "ddnm",
        "ddnm+",
        "diffpir",
        "repaint",
        "exact-product",
        "mean-shift",
        "clamp",
    ];
    let operators = [
        "identity",
        "mask --mask mask.npy",
        "box",
        "box:1,2,3x4",
        "half",
        "half:left",
        "random",
        "channels:0",
        "sr2",
        "sr4",
        "bicubic-sr2",
        "blur",
        "blur:1,3",
        "kernel --kernel taps.npy",
        "grey",
        "hadamard",
        "hadamard:7",
        "dense --matrix matrix.npy",
    ];
    let (mut ran, mut refusals) = (0, 0);
    for (i, operator) in operators.iter().enumerate() {
        for (j, method) in methods.iter().enumerate() {
            // Each fourth operator with all methods, the others with each fourth: half as many processes.
            if i % 4 != 0 && (i + j) % 4 != 0 {
                continue;
            }
            // The mean shift is refused where the evidence is narrower than a step.
            let sigma = if exact.contains(method) {
                "0"
            } else if *method == "mean-shift" {
                "5"
            } else {
                "0.1"
            };
            let words = format!(
                "restore x.npy --simulate --operator {operator} --method {method} --sigma {sigma} --steps 3 --model model \
                 --output out.npy"
            );
            let args: Vec<&str> = words.split_whitespace().collect();
            let masks = ["mask", "box", "half", "random"].iter().any(|m| operator.starts_with(m));
            let fits = match *method {
                "repaint" => masks,
                "clamp" => masks || *operator == "identity",
                _ => true,
            };
            if fits {
                let said = ok(dir, &args);
                assert!(said.contains("network calls") && said.contains("PSNR: measurement"), "{words}: {said}");
                assert!(values(dir.join("out.npy")).1.iter().all(|v| v.is_finite()), "{words}");
                ran += 1;
            } else {
                let before = files(dir);
                refused(dir, &args, 2, "take ");
                refused(dir, &args, 2, "diffpir");
                assert_eq!(files(dir), before);
                refusals += 1;
            }
        }
    }
    assert!(ran > 80 && refusals > 5, "{ran} and {refusals}");
}

/// The methods that the refusal of a command names.
fn named_methods(dir: &Path, words: &str) -> Vec<String> {
    let out = program::run(dir, &words.split_whitespace().collect::<Vec<_>>());
    assert_eq!(out.status.code(), Some(2), "{words}");
    let said = String::from_utf8(out.stderr).unwrap();
    let list = said.trim().rsplit_once(": take ").unwrap_or_else(|| panic!("{words}: {said}")).1;
    list.split(", ").map(String::from).collect()
}

#[test]
fn every_method_that_a_refusal_names_works() {
    let s = scratch();
    let dir = s.path();
    s.write("x.npy", floats(&[SIDE, SIDE], &picture(0)));
    for (words, method) in [
        ("denoise x.npy --sigma 0", "calibrated"),
        ("restore x.npy --simulate --operator sr2 --sigma 0.1", "repaint"),
        ("restore x.npy --simulate --operator sr2 --sigma 0", "repaint"),
        ("restore x.npy --simulate --operator blur --sigma 0.1", "clamp"),
        ("restore x.npy --simulate --operator sr2 --sigma 0.1", "ddnm"),
        ("inpaint x.npy --operator half --sigma 0.1", "mcg"),
        ("inpaint x.npy --operator half --sigma 0", "white"),
        ("inpaint x.npy --operator half --sigma 0", "ddnm+"),
    ] {
        // What goes may depend on the number of steps.
        let words = format!("{words} --model model --output out.npy --steps 3");
        let methods = named_methods(dir, &format!("{words} --method {method}"));
        assert!(methods.len() >= 3, "{words}: {methods:?}");
        for method in methods {
            ok(dir, &format!("{words} --method {method}").split_whitespace().collect::<Vec<_>>());
        }
    }
}

/// An error, and what it advises instead.
#[test]
fn what_an_error_advises_works() {
    let s = scratch();
    let dir = s.path();
    s.write("x.npy", floats(&[SIDE, SIDE], &picture(0)));
    s.write("two.npy", floats(&[2, SIDE, SIDE], &[picture(0), picture(1)].concat()));
    s.write("all.npy", npy("|u1", &[SIDE, SIDE], &[255; N]));
    let half = "restore x.npy --operator half --sigma 0.1";
    let sr2 = "restore x.npy --simulate --operator sr2 --sigma 0.1 --steps 3";
    for (wrong, code, text, right) in [
        (
            format!("{half} --eta 0.5 --steps 3"),
            2,
            "--eta is for --sampler ddim",
            format!("{half} --eta 0.5 --steps 3 --sampler ddim"),
        ),
        (format!("{sr2} --method diffpir --eta 1"), 2, "give --zeta", format!("{sr2} --method diffpir --zeta 1")),
        (format!("{sr2} --zeta 1"), 2, "--zeta is for dps, mcg, diffpir", format!("{sr2} --zeta 1 --method dps")),
        (
            format!("{sr2} --sampler ddim --resamplings 2"),
            2,
            "for --sampler repaint",
            format!("{sr2} --sampler repaint --resamplings 2"),
        ),
        (
            format!("{half} --sampler ancestral2015 --steps 5"),
            2,
            "leave out --steps",
            format!("{half} --sampler ancestral2015 --method white"),
        ),
        (
            format!("{half} --method white --sampler ddim --eta 0 --steps 3"),
            1,
            "take ddpm, ddim with eta 1",
            format!("{half} --method white --sampler ddpm --steps 3"),
        ),
        (
            "inpaint x.npy --operator blur".into(),
            2,
            "for others there is `undiffuse restore`",
            "restore x.npy --operator blur --steps 3".into(),
        ),
        (
            "inpaint x.npy --mask all.npy".into(),
            1,
            "for denoising use the identity",
            "restore x.npy --operator identity --steps 3".into(),
        ),
        (
            format!("{half} --steps 3 --measured y.png"),
            1,
            "write .npy or .safetensors",
            format!("{half} --steps 3 --measured y.npy"),
        ),
        (
            format!("{half} --steps 3 --variance v.npy"),
            2,
            "needs at least 2 samples of each",
            format!("{half} --steps 3 --variance v.npy --count 2"),
        ),
        (
            format!("{half} --steps 3 --count 2 --variance v.png"),
            2,
            "--sheet draws the standard deviation",
            format!("{half} --steps 3 --count 2 --sheet v.png"),
        ),
        (
            "posterior x.npy --operator half --steps 3 --count 2".into(),
            2,
            "needs --mean, --variance, --sheet or --output",
            "posterior x.npy --operator half --steps 3 --count 2 --mean m.png".into(),
        ),
    ] {
        let with_model = |words: &str| format!("{words} --model model");
        let (wrong, right) = (with_model(&wrong), with_model(&right));
        refused(dir, &wrong.split_whitespace().collect::<Vec<_>>(), code, text);
        ok(dir, &right.split_whitespace().collect::<Vec<_>>());
    }
}

#[test]
fn every_sampler_carries_evidence() {
    let s = scratch();
    let dir = s.path();
    s.write("x.npy", floats(&[SIDE, SIDE], &picture(0)));
    for sampler in ["ddim --steps 4", "ddim --steps 4 --eta 0", "ddpm --steps 4", "ancestral2015", "repaint --steps 12"]
    {
        let said = on_model(dir, &format!("restore x.npy --operator half --sigma 0.1 --sampler {sampler}"));
        assert!(said.contains("restored.png: 1 x 1 samples of [1, 8, 8] by calibrated"), "{said}");
    }
    let args = "restore x.npy --operator half --method white --sampler ddim --eta 0 --model model";
    refused(dir, &args.split_whitespace().collect::<Vec<_>>(), 1, "take ddpm, ddim with eta 1");
}

#[test]
fn maps_are_the_moments_of_the_samples() {
    let s = scratch();
    let dir = s.path();
    s.write("x.npy", floats(&[2, SIDE, SIDE], &[picture(0), picture(1)].concat()));
    let common = "x.npy --simulate --operator box --sigma 0.1 --steps 4";
    on_model(
        dir,
        &format!("posterior {common} --count 3 --mean m.npy --variance v.npy --sheet sheet.png --measured y.npy"),
    );
    on_model(dir, &format!("restore {common} --count 3 --batch 4 --output all.npy"));
    let (shape, all) = values(dir.join("all.npy"));
    assert_eq!(shape, format!("6, 1, {SIDE}, {SIDE}"));
    let ((shape, m), (_, v)) = (values(dir.join("m.npy")), values(dir.join("v.npy")));
    assert_eq!(shape, format!("2, 1, {SIDE}, {SIDE}"));
    for i in 0..2 * N {
        let of: Vec<f64> = (0..3).map(|k| f64::from(all[(i / N * 3 + k) * N + i % N])).collect();
        let mean = of.iter().sum::<f64>() / 3.0;
        let variance = of.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 2.0;
        assert!((f64::from(m[i]) - mean).abs() < 1e-6 && (f64::from(v[i]) - variance).abs() < 1e-6);
    }
    assert_eq!(values(dir.join("y.npy")).0, "2, 48");
    // Truth, measurement, three samples, mean, deviation; two rows.
    let png = std::fs::read(dir.join("sheet.png")).unwrap();
    let side = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap()) as usize;
    assert_eq!((side(16), side(20)), (7 * (SIDE + 2) - 2, 2 * (SIDE + 2) - 2));
}

#[test]
fn pictures_go_in_and_out_as_grey_levels() {
    let s = scratch();
    let dir = s.path();
    let bytes: Vec<u8> = (0..N).map(|i| (i * 4) as u8).collect();
    s.write("bytes.npy", npy("|u1", &[SIDE, SIDE], &bytes));
    // A measurement that is written as a picture and read again is the same in grey levels.
    on_model(dir, "denoise bytes.npy --sigma 0.3 --steps 2 --measured y.png --output a.npy");
    on_model(dir, "denoise y.png --sigma 0.3 --steps 2 --output b.npy");
    let floats_in: Vec<f32> = bytes.iter().map(|&b| f32::from(b) / 127.5 - 1.0).collect();
    s.write("floats.npy", floats(&[1, 1, SIDE, SIDE], &floats_in));
    on_model(dir, "denoise floats.npy --sigma 0.3 --steps 2 --output c.npy");
    let a = values(dir.join("a.npy")).1;
    assert_eq!(a, values(dir.join("b.npy")).1);
    assert_eq!(a, values(dir.join("c.npy")).1);
    // The picture is known: what is called the truth takes part in the figures only.
    let said = on_model(dir, "denoise floats.npy --truth bytes.npy --sigma 0.3 --steps 2 --output d.npy");
    assert!(said.contains("PSNR: measurement ") && values(dir.join("d.npy")).1 == a, "{said}");
}

#[test]
fn a_picture_of_another_size_is_restored_when_asked_for() {
    let s = scratch();
    let dir = s.path();
    let wide: Vec<f32> = (0..12 * 16).map(|i| (i as f32 * 0.1).sin()).collect();
    s.write("wide.npy", floats(&[12, 16], &wide));
    let words = "inpaint wide.npy --operator box:4x4 --steps 2 --model model --output o.npy";
    let mut args: Vec<&str> = words.split_whitespace().collect();
    refused(dir, &args, 1, "wide.npy: the picture is [1, 12, 16], the model's are [1, 8, 8]: give --size 12x16");
    args.extend(["--size", "12x16"]);
    ok(dir, &args);
    assert_eq!(values(dir.join("o.npy")).0, "1, 1, 12, 16");
}

#[test]
fn a_model_of_2015_sees_pictures_in_its_own_units() {
    let s = scratch();
    let dir = s.path();
    let scheduler = r#"{"_class_name": "Ancestral2015Scheduler", "num_train_timesteps": 20, "readout": "prediction",
        "beta_schedule": "linear", "sample_scale": 2.0, "sample_shift": 0.5}"#;
    s.write("model/scheduler/scheduler_config.json", scheduler);
    s.write("x.npy", floats(&[SIDE, SIDE], &picture(0)));
    on_model(dir, "inpaint x.npy --operator half --method clamp --output a.npy");
    let a = values(dir.join("a.npy")).1;
    let (known, unknown) = (&a[..N / 2], &a[N / 2..]);
    assert!(known.iter().zip(picture(0)).all(|(a, x)| (a - x).abs() < 1e-6), "what is known comes back as it was");
    assert!(unknown.iter().zip(&picture(0)[N / 2..]).any(|(a, x)| (a - x).abs() > 0.01));
    // Noise is in the units of pictures too: so much of it that the evidence says next to nothing, and so little that
    // it says all.
    let said = on_model(dir, "denoise x.npy --simulate --sigma 0.01 --method exact-product --output b.npy");
    assert!(said.contains("20 network calls") && said.contains("ancestral2015"), "{said}");
    let worst = values(dir.join("b.npy")).1.iter().zip(picture(0)).map(|(a, x)| (a - x).abs()).fold(0.0, f32::max);
    assert!(worst < 0.1, "{worst}");
    let args = "denoise x.npy --sigma 0.1 --model model --steps 5";
    refused(dir, &args.split_whitespace().collect::<Vec<_>>(), 1, "leave out --steps");
    let args = "denoise x.npy --sigma 0.1 --model model --sampler ddim";
    refused(dir, &args.split_whitespace().collect::<Vec<_>>(), 1, "Ancestral2015Scheduler");
}

#[test]
fn wrong_arguments_are_refused_with_a_hint() {
    let s = scratch();
    let dir = s.path();
    s.write("x.npy", floats(&[SIDE, SIDE], &picture(0)));
    let before = files(dir);
    for (args, text) in [
        ("denoise", "denoise needs IMAGE"),
        ("denoise x.npy", "denoise needs --sigma"),
        ("denoise x.npy --sigma -1", "--sigma is \"-1\", expected a number from 0"),
        ("denoise x.npy --sigma nan", "--sigma is \"nan\""),
        ("denoise x.npy --sigma inf", "--sigma is \"inf\""),
        ("denoise x.npy --sigma 0", "needs noise, --sigma above 0: take dps, red-diff, sitcom, fps, mcg, pigdm"),
        ("denoise x.npy --sigma 0.1 --operator box", "unknown option --operator"),
        ("denoise x.npy y.npy --sigma 0.1", "unexpected argument \"y.npy\""),
        ("denoise x.npy --sgima 0.1", "did you mean --sigma?"),
        ("denoise x.npy --sigma 0.1 --mask m.png", "--mask has no use with --operator identity"),
        ("inpaint x.npy", "--operator mask needs --mask FILE or --alpha-mask"),
        ("inpaint x.npy --mask m.png --alpha-mask", "--mask has no use with --alpha-mask"),
        ("denoise x.npy --sigma 0.1 --grey --colour", "--grey and --colour exclude each other"),
        ("denoise x.npy --sigma 0.1 --values 1..1", "--values is \"1..1\", expected bytes, unit, data or BLACK..WHITE"),
        ("denoise x.npy --sigma 0.1 --axes cwh", "--axes is \"cwh\", expected hw or chw"),
        ("denoise x.npy --sigma 0.1 --fit down", "--fit is \"down\", expected cover or stretch or crop"),
        ("denoise x.npy --sigma 0.1 --mask-threshold 0.5", "--mask-threshold is for --mask and --alpha-mask"),
        ("inpaint x.npy --mask m.png --mask-threshold 0", "--mask-threshold is \"0\""),
        ("inpaint x.npy --operator blur", "for others there is `undiffuse restore`"),
        ("restore x.npy", "restore needs --operator"),
        ("restore x.npy --operator blurr", "--operator is \"blurr\", expected identity"),
        ("restore x.npy --operator dense", "--operator dense needs --matrix FILE"),
        ("restore x.npy --operator kernel", "--operator kernel needs --kernel FILE"),
        ("restore x.npy --operator sr2 --method magic", "--method is \"magic\", expected calibrated or"),
        (
            "restore x.npy --operator sr2 --method ddnm --sigma 0.1",
            "is for measurements without noise, --sigma 0: take",
        ),
        (
            "restore x.npy --operator sr2 --zeta 1",
            "--zeta is for dps, mcg, diffpir; --method calibrated does not read it",
        ),
        ("restore x.npy --operator sr2 --method dps --iterations 2", "--iterations is for calibrated;"),
        (
            "restore x.npy --operator sr2 --ensemble 2",
            "--ensemble is for split-gibbs, fps; --method calibrated does not",
        ),
        ("restore x.npy --operator sr2 --calls 2", "--calls is for auto"),
        ("restore x.npy --operator sr2 --method auto --steps 2", "--method auto takes --calls"),
        ("restore x.npy --operator sr2 --method split-gibbs --sampler ddim", "leave out --sampler"),
        ("restore x.npy --operator sr2 --method split-gibbs --variance-products 0", "expected 1 to 16 for split-gibbs"),
        ("restore x.npy --operator sr2 --method split-gibbs --sigma 0", "--method split-gibbs needs noise"),
        ("restore x.npy --operator sr2 --method dps --jump-length 2", "--jump-length is for calibrated, repaint"),
        ("restore x.npy --operator sr2 --sampler ddim --resamplings 2", "--resamplings is for --sampler repaint"),
        ("restore x.npy --operator sr2 --method dps --zeta 0", "--zeta is \"0\""),
        ("restore x.npy --operator sr2 --method diffpir --zeta 2", "expected at most 1 for diffpir"),
        ("restore x.npy --operator sr2 --method diffpir --eta 1", "give --zeta"),
        ("restore x.npy --operator sr2 --method dps --eta 1", "--eta is for --sampler ddim"),
        ("restore x.npy --operator sr2 --sampler ancestral2015 --steps 5", "leave out --steps"),
        ("restore x.npy --operator sr2 --sampler euler", "--sampler is \"euler\", expected ddim or ddpm or"),
        ("restore x.npy --operator sr2 --simulate --truth x.npy", "whose IMAGE is the truth"),
        ("restore x.npy --operator sr2 --variance v.npy", "--variance needs at least 2 samples"),
        ("restore x.npy --operator sr2 --mean a.npy --output a.npy", "two outputs name the same file, a.npy"),
        ("posterior x.npy --operator sr2", "posterior needs --mean, --variance, --sheet or --output"),
        ("posterior x.npy --operator sr2 --variance v.png", "--sheet draws the standard deviation"),
        ("posterior x.npy --operator sr2 --samples 3", "--samples is called --count now"),
        ("posterior x.npy --operator sr2 --count 0", "--count is \"0\""),
    ] {
        refused(dir, &args.split_whitespace().collect::<Vec<_>>(), 2, text);
    }
    assert_eq!(files(dir), before);
    for name in ["denoise", "inpaint", "restore", "posterior"] {
        let help = ok(dir, &[name, "--help"]);
        let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            words.contains(&format!("usage: undiffuse {name} IMAGE")) && words.contains("S is a standard deviation")
        );
        assert!(help.lines().all(|l| l.chars().count() < 100), "{name}");
    }
}

#[test]
fn bad_files_are_refused_and_leave_nothing() {
    let s = scratch();
    let dir = s.path();
    s.write("x.npy", floats(&[SIDE, SIDE], &picture(0)));
    s.write("small.npy", floats(&[SIDE / 2, SIDE / 2], &picture(0)[..N / 4]));
    s.write("odd.npy", floats(&[SIDE, SIDE + 1], &[picture(0), vec![0.0; SIDE]].concat()));
    s.write("three.npy", floats(&[3, SIDE, SIDE], &[picture(0), picture(1), picture(2)].concat()));
    s.write("two.npy", floats(&[2, SIDE, SIDE], &[picture(0), picture(1)].concat()));
    s.write("nan.npy", floats(&[SIDE, SIDE], &[f32::NAN; N]));
    s.write("all.npy", npy("|u1", &[SIDE, SIDE], &[255; N]));
    s.write("none.npy", npy("|u1", &[SIDE, SIDE], &[0; N]));
    s.write("grey.npy", npy("|u1", &[SIDE, SIDE], &[128; N]));
    s.write("text.png", b"no picture");
    s.write("cut.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR");
    s.write("text.npy", b"no array");
    s.write("vector.npy", floats(&[3], &[1.0; 3]));
    s.write("narrow.npy", floats(&[2, 5], &[1.0; 10]));
    s.write("zero.npy", floats(&[3, 3], &[0.0; 9]));
    let before = files(dir);
    for (args, text) in [
        ("denoise nowhere.png --sigma 0.1", "nowhere.png"),
        ("denoise text.png --sigma 0.1", "text.png: unknown kind of file, expected a PNG, JPEG, WebP or .npy"),
        ("denoise text.npy --sigma 0.1", "text.npy: unknown kind of file"),
        ("denoise cut.png --sigma 0.1", "cut.png: the PNG cannot be read"),
        ("denoise vector.npy --sigma 0.1", "the array has shape [3], expected [H, W], [C, H, W] or [N, C, H, W]"),
        ("denoise nan.npy --sigma 0.1", "nan.npy: value 0 is not finite"),
        ("denoise small.npy --sigma 0.1", "the picture is [1, 4, 4], the model's are [1, 8, 8]: give --size 4x4"),
        (
            "denoise three.npy --sigma 0.1",
            "[3, 8, 8], which may be 3 grey pictures or 3 channels of one: give --axes nhw",
        ),
        ("denoise three.npy --sigma 0.1 --axes nhw --truth two.npy", "pictures for measurements"),
        (
            "restore x.npy --operator sr2",
            "the picture is 16x16 of which [8, 8] is a measurement, the model's are 8x8: give --size 16x16",
        ),
        ("restore odd.npy --operator blur", "the picture is [1, 8, 9], the model's are [1, 8, 8]"),
        ("restore x.npy --operator sr3 --simulate", "block average"),
        ("restore x.npy --operator hadamard", "the measurement by"),
        ("restore x.npy --operator hadamard:99 --simulate", "expected 1 to 64"),
        ("restore x.npy --operator box:9x9 --simulate", "box"),
        ("restore x.npy --operator box:8x8 --simulate", "hides everything"),
        ("restore x.npy --operator channels:1 --simulate", "channel"),
        ("restore x.npy --operator dense --matrix vector.npy", "expected [m, n]"),
        ("restore x.npy --operator dense --matrix narrow.npy", "narrow.npy"),
        ("restore x.npy --operator kernel --kernel zero.npy", "zero.npy"),
        ("restore x.npy --operator blur:2,4", "odd number"),
        ("inpaint x.npy --mask all.npy", "the mask hides nothing; for denoising use the identity"),
        ("inpaint x.npy --mask none.npy", "the mask hides everything"),
        ("inpaint x.npy --mask grey.npy", "the mask holds 128, expected 0 for unknown and 1 for known"),
        ("inpaint x.npy --mask small.npy", "small.npy"),
        ("inpaint x.npy --operator half --steps 101", "101"),
        ("inpaint x.npy --operator half --sheet sheet.jpg", "a sheet is a .png file"),
        ("inpaint x.npy --operator half --output x.bmp", "unknown kind of file"),
        ("inpaint x.npy --operator half --output nowhere/x.png", "cannot write"),
        ("inpaint x.npy --operator half --measured y.png", "write .npy"),
        ("inpaint x.npy --operator half --model nowhere", "nowhere"),
    ] {
        let mut args: Vec<&str> = args.split_whitespace().collect();
        if !args.contains(&"--model") {
            args.extend(["--model", "model"]);
        }
        refused(dir, &args, 1, text);
        assert_eq!(files(dir), before, "{args:?}");
    }
}

#[cfg(unix)]
#[test]
fn an_interrupt_leaves_nothing() {
    let s = scratch();
    let dir = s.path();
    s.write("x.npy", floats(&[SIDE, SIDE], &picture(0)));
    let before = files(dir);
    let words = "posterior x.npy --operator half --count 10000000 --mean m.png --variance v.npy --model model";
    let (out, err) = (std::process::Stdio::piped(), std::process::Stdio::piped());
    let child = command(dir, &words.split_whitespace().collect::<Vec<_>>()).stdout(out).stderr(err).spawn().unwrap();
    // Signals are caught before the temporary files are made, and the run takes hours.
    while files(dir) == before {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let kill = std::process::Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(130), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(files(dir), before);
}
