//! Denoisers of a stated sigma: pictures of any size, in tiles that change nothing, in memory that is said before.

use std::path::Path;

use image::{GrayImage, Luma, Rgb, RgbImage, Rgba, RgbaImage};
use undiffuse::backend::Backend;
use undiffuse::backend::reference::Reference;
use undiffuse::model::ModelConfig;
use undiffuse::tensor::Dims;

use crate::formats::{bytes_of, npy, safetensors, words};
use crate::pcg;
use crate::program::{files, ok, refused, run};
use crate::scratch::Scratch;

/// Layers of the network, whose reach is twice as many pixels.
const LAYERS: usize = 3;
const CHANNELS: usize = 6;

/// A directory with `model`, an FFDNet of small random weights, which is not far from a smoothing of what it sees, for
/// pictures of so many channels.
fn model(channels: usize) -> Scratch {
    let dir = Scratch::new("photographs");
    write_model(&dir, "model", channels, Some(r#"{"type": "denoiser", "sigma_max": 0.3}"#));
    dir
}

fn write_model(dir: &Scratch, name: &str, channels: usize, preconditioning: Option<&str>) {
    let mut all = Vec::new();
    for layer in 0..LAYERS {
        let inputs = if layer == 0 { 4 * channels + 1 } else { CHANNELS };
        let outputs = if layer + 1 == LAYERS { 4 * channels } else { CHANNELS };
        let shape = vec![outputs, inputs, 3, 3];
        let weight = pcg::uniform(1, layer as u64, outputs * inputs * 9, 0.12);
        all.push((format!("{}.weight", 2 * layer), shape, weight));
        all.push((format!("{}.bias", 2 * layer), vec![outputs], pcg::uniform(2, layer as u64, outputs, 0.2)));
    }
    let tensors: Vec<_> = all.iter().map(|(n, s, v)| (n.as_str(), s.as_slice(), v.as_slice())).collect();
    dir.write(&format!("{name}/diffusion_pytorch_model.safetensors"), safetensors(&tensors));
    let config = format!(
        r#"{{"_class_name": "FFDNet", "in_nc": {channels}, "out_nc": {channels}, "nc": {CHANNELS}, "nb": {LAYERS}}}"#
    );
    dir.write(&format!("{name}/config.json"), config);
    if let Some(text) = preconditioning {
        dir.write(&format!("{name}/preconditioning.json"), text);
    }
}

/// Grey levels without symmetry.
fn level(x: u32, y: u32, c: u32) -> u8 {
    (x * 37 + y * 11 + x * y * 5 + c * 71) as u8
}

fn picture(dir: &Scratch, name: &str, width: u32, height: u32) {
    let pixel = |x, y| Rgb([0, 1, 2].map(|c| level(x, y, c)));
    RgbImage::from_fn(width, height, pixel).save(dir.path().join(name)).unwrap();
}

/// The picture that a command makes, and what it says as JSON.
fn made(dir: &Path, text: &str) -> (Vec<usize>, Vec<f32>, serde_json::Value) {
    let said = ok(dir, &words(&format!("{text} --output out.npy --quiet --json")));
    let array = undiffuse::npy::read(dir.join("out.npy")).unwrap();
    (array.shape, array.values, serde_json::from_str(&said).unwrap())
}

fn refuses(dir: &Path, text: &str, code: i32, word: &str) {
    let before = files(dir);
    refused(dir, &words(text), code, word);
    assert_eq!(files(dir), before, "{text}");
}

fn largest_gap(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).fold(0.0, |most, (a, b)| most.max((a - b).abs()))
}

#[test]
fn tiles_and_threads_change_nothing() {
    let s = model(3);
    let dir = s.path();
    picture(&s, "x.png", 131, 94);
    for command in [
        "denoise x.png --sigma 0.2",
        "denoise x.png --sigma 0.2 --method reverse --steps 4 --seed 3",
        "restore x.png --operator blur:1.5 --sigma 0.05 --steps 3",
        "inpaint x.png --operator random:0.3 --sigma 0.05 --steps 3",
    ] {
        let command = format!("{command} --model model");
        let (shape, whole, json) = made(dir, &command);
        assert_eq!((shape, json["tiles"].as_u64()), (vec![1, 3, 94, 131], Some(1)), "{command}");
        // Twice the reach and the ramp are 28, 30 in whole cells.
        for (tile, tiles) in [(32, None), (48, None), (64, Some(2 * 3)), (96, Some(2))] {
            let (_, got, json) = made(dir, &format!("{command} --tile {tile}"));
            assert!(tiles.is_none_or(|n| json["tiles"] == n), "{command} {tile}: {}", json["tiles"]);
            let gap = largest_gap(&got, &whole);
            assert!(gap < 2e-5, "{command} --tile {tile}: {gap}");
        }
        let threads = |n: usize| made(dir, &format!("{command} --tile 48 --threads {n}")).1;
        assert_eq!(threads(1), threads(2), "{command}");
    }
    // What is one call is the mean as well, and what it is against the truth is said.
    let text = "denoise x.png --simulate --sigma 0.1 --model model --mean m.npy --sheet s.png --measured y.npy";
    let (shape, got, json) = made(dir, text);
    assert_eq!((shape, json["method"].as_str()), (vec![1, 3, 94, 131], Some("mmse")));
    assert_eq!(undiffuse::npy::read(dir.join("m.npy")).unwrap().values, got);
    assert!(json["psnr"]["samples"].is_number() && json["psnr"]["mean"].is_null() && json["consistency"].is_null());
    let y = undiffuse::npy::read(dir.join("y.npy")).unwrap().values;
    let noise = y.iter().zip(picture_values(131, 94)).map(|(y, x)| f64::from(y - x).powi(2)).sum::<f64>();
    assert!((noise / y.len() as f64).sqrt() > 0.09 && (noise / y.len() as f64).sqrt() < 0.11);
}

fn picture_values(width: u32, height: u32) -> Vec<f32> {
    let pixels = |c| (0..height).flat_map(move |y| (0..width).map(move |x| f32::from(level(x, y, c)) / 127.5 - 1.0));
    (0..3).flat_map(pixels).collect()
}

#[test]
fn the_network_is_called_in_its_own_units_and_odd_sides_repeat_the_last_pixel() {
    let s = model(3);
    let dir = s.path();
    picture(&s, "x.png", 21, 15);
    let (_, got, _) = made(dir, "denoise x.png --sigma 0.2 --model model");
    // The same by hand: 0 to 1, half of sigma, one row and column more.
    let x = picture_values(21, 15);
    let padded = |c: usize, y: usize, k: usize| 0.5 * (x[(c * 15 + y.min(14)) * 21 + k.min(20)] + 1.0);
    let given: Vec<f32> = (0..3 * 16 * 22).map(|i| padded(i / (16 * 22), i / 22 % 16, i % 22)).collect();
    s.write("in.safetensors", safetensors(&[("sample", &[1, 3, 16, 22], &given), ("timestep", &[1], &[0.1])]));
    // Which `predict` takes from the model.
    write_model(&s, "sized", 3, None);
    let sized = std::fs::read_to_string(dir.join("sized/config.json")).unwrap();
    s.write("sized/config.json", sized.replace("{", r#"{"sample_size": [16, 22], "#));
    ok(dir, &words("predict sized --input in.safetensors --output y.safetensors"));
    let want = crate::formats::tensor(dir, "y.safetensors", "sample");
    for (i, v) in got.iter().enumerate() {
        let (c, y, k) = (i / (15 * 21), i / 21 % 15, i % 21);
        assert!((v - (2.0 * want[(c * 16 + y) * 22 + k] - 1.0)).abs() < 1e-5, "{i}");
    }
}

#[test]
fn memory_is_said_before_and_kept_to() {
    let s = model(3);
    let dir = s.path();
    picture(&s, "x.png", 700, 600);
    let out = run(dir, &words("denoise x.png --sigma 0.2 --model model --output o.png --json"));
    let said = String::from_utf8(out.stderr).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let bytes = json["memory_bytes"].as_u64().unwrap();
    let line = format!("600 x 700 pixels in 4 tiles of 512 x 512, {} MB", bytes.div_ceil(1_000_000));
    assert!(said.contains(&line), "{said} {line}");
    // In less, smaller tiles, where it is the run that takes the most and not the reading.
    let several = "denoise x.png --sigma 0.2 --model model --method reverse --steps 2 --count 2";
    let (_, want, json) = made(dir, several);
    let less = json["memory_bytes"].as_u64().unwrap() / 1_000_000 - 3;
    let (_, got, json) = made(dir, &format!("{several} --memory {less}"));
    assert!(
        json["memory_bytes"].as_u64().unwrap() <= less * 1_000_000 && json["tiles"].as_u64().unwrap() > 4,
        "{json}"
    );
    assert!(largest_gap(&got, &want) < 1e-5);
    let refusal = "for the pictures themselves, more than --memory 5";
    refuses(dir, "denoise x.png --sigma 0.2 --model model --memory 5", 1, refusal);
    refuses(dir, "denoise x.png --sigma 0.2 --model model --memory 20 --tile 512", 1, "more than --memory 20");
}

#[cfg(unix)]
#[test]
fn an_interrupted_chain_of_tiles_leaves_nothing() {
    let s = model(3);
    let dir = s.path();
    picture(&s, "x.png", 90, 70);
    let before = files(dir);
    let text = "inpaint x.png --operator half --sigma 0.05 --steps 20000 --tile 48 --model model --mean m.npy";
    let mut child = crate::program::command(dir, &words(text));
    let child = child.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    while files(dir) == before {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    // Signals are caught soon after the temporary files are made.
    std::thread::sleep(std::time::Duration::from_secs(2));
    let sent = std::process::Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(130), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(files(dir), before);
}

#[test]
fn what_a_denoiser_cannot_do_is_refused_with_what_it_can() {
    let s = model(3);
    let dir = s.path();
    picture(&s, "x.png", 40, 30);
    let noisy = "denoise x.png --sigma 0.2 --model model";
    for (text, word) in [
        ("denoise x.png --sigma 0.7 --model model", "it was trained for noise up to 0.6000 in units of [-1, 1]"),
        (&format!("{noisy} --method calibrated"), "take mmse, reverse or diffpir"),
        ("restore x.png --operator sr2 --model model --method ddrm", "take diffpir"),
        ("restore x.png --operator sr2 --model model --method auto", "take diffpir"),
        (&format!("{noisy} --count 3 --method mmse"), "--method reverse draws samples"),
        (&format!("{noisy} --scheduler {{}}"), "has no schedule"),
        (&format!("{noisy} --preview p.png"), "--preview"),
        (&format!("{noisy} --tile 33"), "expected a multiple of 2"),
        (&format!("{noisy} --tile 28"), "expected more than the"),
        (&format!("{noisy} --jump-length 3"), "is of no method"),
        ("sample model --count 1", "give --size"),
        ("sample model --count 1 --size 8", "draws none from noise alone"),
        ("denoise x.png --sigma 0.2 --grey --tile 32", "which it is none of"),
        ("denoise x.png --sigma 0.2 --grey --method mmse", "--method mmse is for denoisers of a stated sigma"),
    ] {
        refuses(dir, text, 1, word);
    }
    for (text, word) in [
        ("restore x.png --operator sr2 --model model --method mmse", "takes noise out of a picture"),
        (&format!("{noisy} --method reverse --eta 0.5"), "leave out --eta"),
        (&format!("{noisy} --method mmse --steps 3"), "leave out --steps"),
        ("restore x.png --operator identity --sigma 0 --model model --method mmse", "needs noise"),
    ] {
        refuses(dir, text, 2, word);
    }
    // A directory that does not say how its network is called is not guessed at, and the advice works.
    write_model(&s, "bare", 3, None);
    refuses(dir, "denoise x.png --sigma 0.2 --model bare", 1, "preconditioning.json");
    // Channels and transparency are as with other models.
    GrayImage::from_fn(9, 7, |x, y| Luma([level(x, y, 0)])).save(dir.join("grey.png")).unwrap();
    refuses(dir, "denoise grey.png --sigma 0.2 --model model", 1, "give --colour");
    assert_eq!(made(dir, "denoise grey.png --sigma 0.2 --model model --colour").0, [1, 3, 7, 9]);
    RgbaImage::from_fn(9, 7, |x, y| Rgba([9, 9, 9, level(x, y, 0)])).save(dir.join("alpha.png")).unwrap();
    refuses(dir, "denoise alpha.png --sigma 0.2 --model model", 1, "pixels are transparent");
}

#[test]
fn grey_models_many_pictures_and_maps() {
    let s = model(1);
    let dir = s.path();
    let values: Vec<f32> = (0..2 * 35).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect();
    s.write("x.npy", npy("<f4", "2, 1, 5, 7", &bytes_of(&values)));
    assert_eq!(made(dir, "denoise x.npy --sigma 0.2 --model model").0, [2, 1, 5, 7]);
    let said = ok(
        dir,
        &words(
            "posterior x.npy --operator identity --sigma 0.2 --count 3 --steps 3 --model model --mean m.npy --variance v.npy --quiet --json",
        ),
    );
    assert!(said.contains("\"method\":\"reverse\"") && said.contains("\"network_calls\":3"), "{said}");
    let variance = undiffuse::npy::read(dir.join("v.npy")).unwrap().values;
    assert!(variance.len() == 70 && variance.iter().all(|v| *v > 0.0));
    // A packed file knows it too.
    ok(dir, &words("pack model packed.safetensors --dtype f32"));
    let (_, want, _) = made(dir, "denoise x.npy --sigma 0.2 --model model");
    assert_eq!(made(dir, "denoise x.npy --sigma 0.2 --model packed.safetensors").1, want);
}

/// How far beyond the square of the family's multiple that it lies in a pixel of the prediction sees a change of x, and
/// the reach.
fn changes(config: &str, size: usize) -> (usize, usize) {
    let model = ModelConfig::from_json(config).unwrap();
    let graph = model.build(Some([size; 2])).unwrap();
    let read = |name: &str, dims: &Dims, out: &mut [f32]| -> undiffuse::Result<()> {
        // All positive, so that nothing cancels and no rectifier closes.
        let key = name.bytes().fold(7, |sum, b| sum * 31 % 1009 + u64::from(b));
        let scale = 1.0 / dims.elements() as f32 * dims.as_slice()[0] as f32;
        out.copy_from_slice(&pcg::uniform(key, 1, out.len(), 0.2 * scale));
        out.iter_mut().for_each(|v| *v += scale);
        Ok(())
    };
    let network = Reference.compile(&graph, &read).unwrap();
    let multiple = model.multiple()[0];
    // The last pixel of a square, and the first.
    let mut furthest = 0;
    let at = (size / 2) / multiple * multiple;
    for place in [at, at + multiple - 1] {
        let predict = |by: f32| {
            let mut x = vec![0.5f32; size * size];
            x[place * size + place] += by;
            let (image, level): (&[f32], &[f32]) = (&x, &[0.1]);
            let inputs: Vec<&[f32]> = [image, level].into_iter().take(network.inputs().len()).collect();
            let mut y = vec![0.0f32; size * size];
            let mut workspace = vec![0.0; network.workspace_len(1).unwrap()];
            network.run(1, &inputs, &mut [&mut y[..]], &mut workspace, undiffuse::chain::never()).unwrap();
            y
        };
        let (before, after) = (predict(0.0), predict(1e6));
        for (i, _) in before.iter().zip(&after).enumerate().filter(|(_, (a, b))| a != b) {
            // Both ways: what a pixel changes, and which square it is seen from.
            let far = |p: usize| {
                let (low, high) = (p / multiple * multiple, p / multiple * multiple + multiple - 1);
                low.saturating_sub(place).max(place.saturating_sub(high))
            };
            furthest = furthest.max(far(i / size)).max(far(i % size));
        }
    }
    (furthest, model.reach().unwrap())
}

#[test]
fn nothing_beyond_the_reach_changes_a_prediction() {
    let ffdnet = r#"{"_class_name": "FFDNet", "in_nc": 1, "out_nc": 1, "nc": 2, "nb": 4}"#;
    assert_eq!(changes(ffdnet, 40), (8, 8));
    let dncnn = r#"{"_class_name": "DnCNN", "in_channels": 1, "out_channels": 1, "nf": 2, "depth": 5}"#;
    assert_eq!(changes(dncnn, 21), (5, 5));
    let drunet = r#"{"_class_name": "DRUNet", "in_channels": 1, "out_channels": 1, "nc": [1, 1, 1, 1], "nb": 1}"#;
    let (furthest, reach) = changes(drunet, 144);
    assert!(furthest <= reach && furthest + 24 >= reach, "{furthest} {reach}");
}
