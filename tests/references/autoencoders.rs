//! diffusers' autoencoders against diffusers in float64: decoders, encoders and their gradients, on both backends.

use crate::golden::{self, ROOT_3, relative_l2, stored};
use crate::pcg;
use crate::seeded::Seeded;
use serde_json::Value;
use undiffuse::backend::cpu::{Cpu, CpuOptions, Path};
use undiffuse::backend::reference::Reference;
use undiffuse::backend::{Backend, Network};
use undiffuse::graph::Graph;
use undiffuse::graph::vjp::vjp;
use undiffuse::model::ModelConfig;
use undiffuse::model::autoencoder::AutoencoderConfig;
use undiffuse::{Cancel, ErrorKind};

const INPUT_SEED: u64 = 43;
/// The bounds that the project promises, of a call and of a gradient.
const BOUND: f64 = 1e-5;
const GRADIENT_BOUND: f64 = 1e-4;

fn sizes(v: &Value) -> Vec<usize> {
    v.as_array().unwrap().iter().map(|x| x.as_u64().unwrap() as usize).collect()
}

/// Weights are those of the whole autoencoder's list of names.
fn run(
    backend: &dyn Backend,
    config: &AutoencoderConfig,
    graph: &Graph,
    inputs: &[&[f32]],
    batch: usize,
) -> Vec<Vec<f32>> {
    let whole = Seeded::of_names(config.parameters().unwrap().iter().map(|p| p.name.as_str()));
    let network: Box<dyn Network> =
        backend.compile(graph, &|n: &str, d: &_, out: &mut [f32]| whole.read(n, d, out)).unwrap();
    let mut outputs: Vec<Vec<f32>> = network.outputs().iter().map(|d| vec![f32::NAN; batch * d.elements()]).collect();
    let mut outs: Vec<&mut [f32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
    let mut workspace = vec![f32::NAN; network.workspace_len(batch).unwrap()];
    network.run(batch, inputs, &mut outs, &mut workspace, &Cancel::new()).unwrap();
    outputs
}

fn check(backend: &dyn Backend) {
    let bytes = std::fs::read(golden::path("autoencoders.safetensors")).unwrap();
    let mut failed = Vec::new();
    for (number, case) in golden::json("autoencoders.json")["cases"].as_array().unwrap().iter().enumerate() {
        let name = case["name"].as_str().unwrap();
        let config =
            AutoencoderConfig::from_json(&case["config"].to_string()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let parameters: usize = config.parameters().unwrap().iter().map(|p| p.dims.elements()).sum();
        assert_eq!(parameters as u64, case["parameters"].as_u64().unwrap(), "{name}");
        let (latent, image) = (sizes(&case["latent"]), sizes(&case["image"]));
        assert_eq!([latent[1] * config.factor(), latent[2] * config.factor()], image[1..], "{name}");
        let draw = |i: u64, n: usize, a: f32| pcg::uniform(INPUT_SEED, 10 * number as u64 + i, n, a);
        let (small, large) = (latent.iter().product::<usize>(), image.iter().product::<usize>());
        let z = draw(0, 2 * small, ROOT_3);
        let dy = draw(1, 2 * large, 1.0);
        let x = draw(2, config.in_channels * image[1] * image[2], 1.0);
        let graph = config.decoder([latent[1], latent[2]]).unwrap();
        let encoder = config.encoder([image[1], image[2]]).unwrap();
        let mut compare = |suffix: &str, got: &[f32], bound: f64| {
            let error = relative_l2(got, &stored(&bytes, &format!("{name}{suffix}")));
            println!("{}: {name}{suffix}: {error:.1e}", backend.name());
            if error.is_nan() || error > bound {
                failed.push(format!("{name}{suffix}: {error:.1e}"));
            }
        };
        compare("", &run(backend, &config, &graph, &[&z], 2)[0], BOUND);
        let gradient = run(backend, &config, &vjp(&graph, 0, 0).unwrap(), &[&z[..small], &dy[..large]], 1);
        compare(", gradient", &gradient[1], GRADIENT_BOUND);
        let dz = draw(3, small, 1.0);
        let gradient = run(backend, &config, &vjp(&encoder, 0, 0).unwrap(), &[&x, &dz], 1);
        compare(", encoder gradient", gradient.last().unwrap(), GRADIENT_BOUND);
        for (got, suffix) in run(backend, &config, &encoder, &[&x], 1).iter().zip([", encoder", ", logvar"]) {
            compare(suffix, got, BOUND);
        }
    }
    assert!(failed.is_empty(), "{}: {failed:#?}", backend.name());
}

#[test]
fn autoencoders_and_gradients_on_the_reference_backend() {
    check(&Reference);
}

#[test]
fn autoencoders_and_gradients_on_every_path_of_the_cpu_backend() {
    for path in Path::ALL {
        match Cpu::with_options(CpuOptions { path: Some(path), threads: Some(2), ..CpuOptions::default() }) {
            Ok(cpu) => check(&cpu),
            Err(e) => println!("skipped: {e}"),
        }
    }
}

#[test]
fn a_samples_bits_depend_on_nothing_but_itself() {
    let json = golden::json("autoencoders.json");
    for (number, case) in json["cases"].as_array().unwrap().iter().enumerate() {
        let config = AutoencoderConfig::from_json(&case["config"].to_string()).unwrap();
        let (latent, image) = (sizes(&case["latent"]), sizes(&case["image"]));
        let decoder = config.decoder([latent[1], latent[2]]).unwrap();
        let encoder = config.encoder([image[1], image[2]]).unwrap();
        for (part, graph) in [("decoder", &decoder), ("encoder", &encoder)] {
            let n = graph.dims(graph.inputs()[0].value).elements();
            let all = pcg::uniform(INPUT_SEED, 10 * number as u64 + 5, 4 * n, 1.0);
            let made = |threads, batch| {
                let options = CpuOptions { path: None, threads: Some(threads), ..CpuOptions::default() };
                run(&Cpu::with_options(options).unwrap(), &config, graph, &[&all[..batch * n]], batch)
            };
            let one = made(1, 1);
            for (threads, batch) in [(1, 3), (1, 4), (2, 1), (2, 3), (3, 1), (3, 4)] {
                for (got, one) in made(threads, batch).iter().zip(&one) {
                    assert_eq!(
                        got[..one.len()],
                        one[..],
                        "{part} of {}: {threads} threads, batch {batch}",
                        case["name"]
                    );
                }
            }
        }
    }
}

#[cfg(feature = "wgpu")]
mod wgpu {
    use super::check;
    use undiffuse::backend::wgpu::{Wgpu, WgpuOptions, adapters};

    #[test]
    #[ignore = "long: `.ci/run long`"]
    fn autoencoders_and_gradients_on_the_wgpu_backend() {
        let Some(adapter) = adapters().into_iter().find(|a| a.unusable.is_none()) else {
            println!("skipped: no Vulkan adapter");
            return;
        };
        check(&Wgpu::open(Some(adapter.index), WgpuOptions::default()).unwrap());
    }
}

#[test]
fn the_scale_of_latents_is_diffusers() {
    let scale = |keys: &str| {
        let json = format!(r#"{{"_class_name": "AutoencoderKL", "latent_channels": 2, {keys}}}"#);
        AutoencoderConfig::from_json(&json).map(|c| c.scale)
    };
    for (keys, want) in [
        (r#""scaling_factor": 0.5"#, [2.0, 4.0, -2.0, 6.0]),
        (r#""scaling_factor": 0.5, "shift_factor": 0.25"#, [2.25, 4.25, -1.75, 6.25]),
        // SDXL: x * std / factor + mean.
        (r#""scaling_factor": 0.5, "latents_mean": [1, 2], "latents_std": [2, 3]"#, [5.0, 9.0, -4.0, 20.0]),
    ] {
        let scale = scale(keys).unwrap();
        let mut x = [1.0f32, 2.0, -1.0, 3.0];
        scale.to_decoder(&mut x, 2);
        assert_eq!(x, want, "{keys}");
        scale.to_samples(&mut x, 2);
        assert_eq!(x, [1.0, 2.0, -1.0, 3.0], "{keys}");
    }
    for (keys, word) in [
        (r#""latents_mean": [1, 2]"#, "latents_std"),
        (r#""latents_mean": [1], "latents_std": [1]"#, "latents_mean"),
        (r#""latents_mean": [1, 2], "latents_std": [1, 0]"#, "latents_std"),
        (r#""latents_mean": [1, 2], "latents_std": [1, 1], "shift_factor": 1"#, "shift_factor"),
        (r#""scaling_factor": 0"#, "scaling_factor"),
    ] {
        let e = scale(keys).unwrap_err();
        assert!(e.kind() == ErrorKind::Config && e.message().contains(word), "{keys}: {e}");
    }
}

#[test]
fn what_is_no_autoencoder_is_refused_by_name() {
    for (json, kind, word) in [
        (r#"{"_class_name": "AutoencoderKLWan"}"#, ErrorKind::Unsupported, "AutoencoderKLWan"),
        ("{}", ErrorKind::Unsupported, "AutoencoderKL"),
        (r#"{"_class_name": "VQModel", "norm_type": "spatial"}"#, ErrorKind::Config, "norm_type"),
        (r#"{"_class_name": "VQModel", "lookup_from_codebook": true}"#, ErrorKind::Config, "lookup_from_codebook"),
        (r#"{"_class_name": "VQModel", "use_quant_conv": false}"#, ErrorKind::Config, "use_quant_conv"),
        (r#"{"_class_name": "AutoencoderKL", "block_out_channels": [8, 8]}"#, ErrorKind::Config, "block_out_channels"),
        (r#"{"_class_name": "AutoencoderTiny", "upsample_fn": "bilinear"}"#, ErrorKind::Config, "upsample_fn"),
        (r#"{"_class_name": "AutoencoderTiny", "num_decoder_blocks": [1]}"#, ErrorKind::Config, "num_decoder_blocks"),
    ] {
        let e = AutoencoderConfig::from_json(json).map(|_| ()).expect_err(json);
        assert!(e.kind() == kind && e.message().contains(word), "{json}: {e}");
    }
    let kl = AutoencoderConfig::from_json(r#"{"_class_name": "AutoencoderKL"}"#).unwrap();
    assert!(kl.decoder([0, 4]).is_err() && kl.decoder([1 << 20, 4]).is_err());
    let tiny = AutoencoderConfig::from_json(r#"{"_class_name": "AutoencoderTiny"}"#).unwrap();
    assert!(tiny.encoder([12, 8]).is_err());
    let e = ModelConfig::from_json(r#"{"_class_name": "VQModel"}"#).unwrap_err();
    assert!(e.kind() == ErrorKind::Unsupported && e.message().contains("no denoiser"), "{e}");
}
