//! Latent pipelines: a directory with a denoiser, a scheduler and an autoencoder, to images.

use crate::golden;
use crate::pcg;
use crate::scratch::Scratch;
use crate::seeded::Seeded;
use crate::seeded_file::seeded_tensors;
use serde_json::{Value, json};
use undiffuse::backend::Backend;
use undiffuse::backend::cpu::{Cpu, CpuOptions};
use undiffuse::backend::reference::Reference;
use undiffuse::chain::{Chain, ChainOptions, never};
use undiffuse::codec::Decoder;
use undiffuse::denoiser::{Conditions, Guidance};
use undiffuse::graph::Param;
use undiffuse::model::ModelConfig;
use undiffuse::model::autoencoder::AutoencoderConfig;
use undiffuse::noise::Given;
use undiffuse::pipeline::{Decoding, Pipeline, PipelineOptions, Source};
use undiffuse::sampler::{SamplerOptions, Steps};
use undiffuse::tensor::{DType, Dims};
use undiffuse::weights::SafeTensorsView;
use undiffuse::{Cancel, ErrorKind};

pub const INPUT_SEED: u64 = 44;
/// The bound that the project promises for a whole chain with given noise, relative.
pub const BOUND: f64 = 1e-3;

/// A file of drawn parameters.
fn file(params: &[Param]) -> Vec<u8> {
    let seeded = Seeded::of_names(params.iter().map(|p| p.name.as_str()));
    seeded_tensors(&seeded, params, DType::F32)
}

/// The weights of an autoencoder.
pub fn autoencoder(config: &Value) -> Vec<u8> {
    file(&AutoencoderConfig::from_json(&config.to_string()).unwrap().parameters().unwrap())
}

/// The name of the autoencoder's part of a case.
pub fn part(case: &Value) -> &'static str {
    if case["vae"].is_object() { "vae" } else { "vqvae" }
}

/// A pipeline as diffusers saves it.
pub fn directory(case: &Value) -> Scratch {
    let (unet, part) = (case["unet"].to_string(), part(case));
    let graph = ModelConfig::from_json(&unet).unwrap().build(None).unwrap();
    let scratch = Scratch::new("latent");
    scratch.write("unet/config.json", &unet);
    scratch.write("unet/diffusion_pytorch_model.safetensors", file(graph.params()));
    scratch.write("scheduler/scheduler_config.json", case["scheduler"].to_string());
    scratch.write(&format!("{part}/config.json"), case[part].to_string());
    scratch.write(&format!("{part}/diffusion_pytorch_model.safetensors"), autoencoder(&case[part]));
    let mut index = json!({"_class_name": "LDMPipeline", "unet": ["diffusers", "UNet2DModel"], "scheduler": ["diffusers", "DDIMScheduler"]});
    index[part] = json!(["diffusers", case[part]["_class_name"]]);
    index["safety_checker"] = json!(["stable_diffusion", "StableDiffusionSafetyChecker"]);
    index["text_encoder"] = json!(["transformers", "CLIPTextModel"]);
    index["requires_safety_checker"] = json!(true);
    scratch.write("model_index.json", index.to_string());
    scratch
}

fn cases() -> Vec<Value> {
    golden::json("latent.json")["cases"].as_array().unwrap().clone()
}

fn compiled(source: &Source<'_>, backend: &dyn Backend, decoding: Decoding) -> Pipeline {
    source.compile(backend, &PipelineOptions { decoding, ..Default::default() }).unwrap()
}

/// Latents and images of a case.
fn run(pipeline: &Pipeline, number: u64, case: &Value) -> [Vec<f32>; 2] {
    let draw = |i: u64, n: usize, a: f32| pcg::uniform(INPUT_SEED, 10 * number + i, n, a);
    let (n, batch) = (pipeline.sample_dims().elements(), if part(case) == "vae" { 1 } else { 2 });
    let sampler = pipeline.sampler(&SamplerOptions { steps: Steps::Count(5), ..Default::default() }).unwrap();
    let start = draw(0, batch * n, golden::ROOT_3);
    let given = Given::new(&start, &[], batch, 0).unwrap();
    let denoiser = match case["guidance"].as_f64() {
        None => pipeline.denoiser(batch, &[]).unwrap(),
        Some(scale) => {
            let text = |i| Conditions::new().with("encoder_hidden_states", &draw(i, 70, 1.0));
            pipeline.guided(batch, &text(1), &Guidance::new(scale as f32, text(2))).unwrap()
        }
    };
    let mut chain = Chain::new(denoiser, sampler, given, &ChainOptions { batch, ..Default::default() }).unwrap();
    chain.run().unwrap();
    let mut codec = pipeline.codec().unwrap();
    let mut images = vec![f32::NAN; batch * codec.data_dims().elements()];
    codec.decode(chain.x(), &mut images, never()).unwrap();
    [chain.x().to_vec(), images]
}

#[test]
fn a_latent_pipeline_makes_diffusers_images() {
    let bytes = std::fs::read(golden::path("latent.safetensors")).unwrap();
    let cpu = Cpu::with_options(CpuOptions { threads: Some(2), ..Default::default() }).unwrap();
    let mut failed = Vec::new();
    for (number, case) in cases().iter().enumerate() {
        let (name, dir) = (case["name"].as_str().unwrap(), directory(case));
        let source = Source::open(dir.path()).unwrap();
        assert!(source.is_latent());
        assert!(source.remarks().iter().any(|r| r.contains("text_encoder")), "{:?}", source.remarks());
        for backend in [&Reference as &dyn Backend, &cpu] {
            let pipeline = compiled(&source, backend, Decoding::default());
            assert_eq!(pipeline.data_dims().unwrap().as_slice(), [3, 16, 16]);
            let [latents, images] = run(&pipeline, number as u64, case);
            for (got, suffix) in [(&latents, ", latents"), (&images, "")] {
                let error = golden::relative_l2(got, &golden::stored(&bytes, &format!("{name}{suffix}")));
                println!("{}: {name}{suffix}: {error:.1e}", backend.name());
                if error.is_nan() || error > BOUND {
                    failed.push(format!("{}: {name}{suffix}: {error:.1e}", backend.name()));
                }
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn a_packed_file_has_the_decoder_and_gives_the_same_images() {
    let cpu = Cpu::with_options(CpuOptions { threads: Some(2), ..Default::default() }).unwrap();
    for (number, case) in cases().iter().enumerate() {
        let dir = directory(case);
        let source = Source::open(dir.path()).unwrap();
        let want = run(&compiled(&source, &cpu, Decoding::default()), number as u64, case);
        let pack = |source: &Source<'_>, graph: bool| {
            let mut packed = Vec::new();
            let mut sink = |b: &[u8]| {
                packed.extend_from_slice(b);
                Ok(())
            };
            if graph { source.pack_graph(None, DType::F32, &mut sink) } else { source.pack(DType::F32, &mut sink) }
                .unwrap();
            packed
        };
        for graph in [false, true] {
            let bytes = pack(&source, graph);
            let again = Source::from_bytes(&bytes).unwrap();
            assert!(again.is_latent());
            assert_eq!(run(&compiled(&again, &cpu, Decoding::default()), number as u64, case), want);
            assert_eq!(pack(&again, false), bytes);
            dir.write("packed.safetensors", &bytes);
            let on_disk = Source::open(dir.path().join("packed.safetensors")).unwrap();
            assert_eq!(run(&compiled(&on_disk, &cpu, Decoding::default()), number as u64, case), want);
        }
    }
}

/// Latents, smooth as those of images are: waves and little noise.
fn latents(dims: [usize; 3], seed: u64) -> Vec<f32> {
    let [c, h, w] = dims;
    let noise = pcg::uniform(INPUT_SEED, 1000 + seed, c * h * w, 0.3);
    let at = |i: usize| {
        let (ch, y, x) = (i / (h * w), i / w % h, i % w);
        let wave = (0.35 * x as f32 + ch as f32).sin() * (0.27 * y as f32 + 0.5).cos();
        1.2 * wave + noise[i]
    };
    (0..c * h * w).map(at).collect()
}

fn decoder(config: &Value, dims: [usize; 3], within: usize, backend: &dyn Backend) -> Decoder {
    let (parsed, bytes) = (AutoencoderConfig::from_json(&config.to_string()).unwrap(), autoencoder(config));
    Decoder::compile(&parsed, &SafeTensorsView::parse(&bytes).unwrap(), dims, within, backend).unwrap()
}

fn decode(decoder: Decoder, dims: [usize; 3], x: &[f32]) -> Vec<f32> {
    let mut codec =
        undiffuse::codec::Codec::new(Dims::new(&dims).unwrap(), Default::default(), Some(decoder), None).unwrap();
    let mut data = vec![f32::NAN; codec.data_dims().elements()];
    codec.decode(x, &mut data, never()).unwrap();
    data
}

/// The root mean square of `values` by columns of rows of `width`.
fn by_column(values: &[f32], width: usize) -> Vec<f64> {
    let mut sums = vec![0.0; width];
    for row in values.chunks_exact(width) {
        sums.iter_mut().zip(row).for_each(|(s, v)| *s += f64::from(*v).powi(2));
    }
    sums.iter().map(|s| (s / (values.len() / width) as f64).sqrt()).collect()
}

/// Steps from each pixel to the next of its row.
fn steps(image: &[f32], width: usize) -> Vec<f32> {
    image.chunks_exact(width).flat_map(|row| row.windows(2).map(|p| p[1] - p[0])).collect()
}

fn largest(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

/// The root mean square difference of tiles from one piece over the standard deviation of the image, at most: of
/// networks with norms and attention, which see their tile alone, with norms, and with neither, where all of it comes
/// from the tiles' borders.
const KL: f64 = 0.15;
const NORMS: f64 = 0.15;
const TINY: f64 = 0.01;
/// The largest step that tiles add between two columns, over that which two halves that are decoded apart add where
/// they meet: how much of a seam is left.
const SEAM: f64 = 0.5;

#[test]
fn tiles_differ_little_from_one_piece_and_leave_no_seam() {
    let cpu = Cpu::with_options(CpuOptions { threads: Some(2), ..Default::default() }).unwrap();
    let dims = [4, 64, 96];
    let blocks = json!({"_class_name": "AutoencoderKL", "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"],
        "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D"], "block_out_channels": [8, 16], "norm_num_groups": 4,
        "scaling_factor": 1.0});
    let mut norms = blocks.clone();
    norms["mid_block_add_attention"] = json!(false);
    let tiny = json!({"_class_name": "AutoencoderTiny", "decoder_block_out_channels": [8, 8], "num_decoder_blocks": [1, 1],
        "encoder_block_out_channels": [8, 8], "num_encoder_blocks": [1, 1]});
    let mut failed = Vec::new();
    for (config, name, bound) in [(&blocks, "kl", KL), (&norms, "norms", NORMS), (&tiny, "tiny", TINY)] {
        let (x, width) = (latents(dims, 1), 2 * dims[2]);
        let whole = decoder(config, dims, usize::MAX, &cpu);
        assert_eq!(whole.tiles(), 1);
        let bytes = |d: &Decoder| undiffuse::codec::Codec::<Vec<f32>>::memory_len(Some(d), None).unwrap() * 4;
        let tiled = decoder(config, dims, bytes(&whole) / 5, &cpu);
        let [th, tw] = tiled.tile();
        assert!(tiled.tiles() > 1 && bytes(&tiled) < bytes(&whole), "{name}");
        let (one, many) = (decode(whole.clone(), dims, &x), decode(tiled.clone(), dims, &x));
        let apart: Vec<f32> = {
            let [c, h, w] = [dims[0], dims[1], dims[2] / 2];
            let side = |i: usize| {
                let half: Vec<f32> = x.chunks_exact(2 * w).flat_map(|row| row[i * w..(i + 1) * w].to_vec()).collect();
                decode(decoder(config, [c, h, w], usize::MAX, &cpu), [c, h, w], &half)
            };
            let (left, right) = (side(0), side(1));
            left.chunks_exact(width / 2).zip(right.chunks_exact(width / 2)).flat_map(|(a, b)| [a, b].concat()).collect()
        };
        let mean = one.iter().map(|v| f64::from(*v)).sum::<f64>() / one.len() as f64;
        let deviation = (one.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / one.len() as f64).sqrt();
        let minus = |a: &[f32]| -> Vec<f32> { a.iter().zip(&one).map(|(a, b)| a - b).collect() };
        let square: f64 = minus(&many).iter().map(|v| f64::from(*v).powi(2)).sum();
        let error = (square / one.len() as f64).sqrt() / deviation;
        let added = largest(&by_column(&steps(&minus(&many), width), width - 1));
        let cut = by_column(&steps(&minus(&apart), width), width - 1)[width / 2 - 1];
        let seam = added / cut;
        println!(
            "{name}: {} tiles of {th} x {tw}: {error:.4} of the deviation, {seam:.3} of a cut's step",
            tiled.tiles()
        );
        if !(error <= bound && seam <= SEAM) {
            failed.push(format!("{name}: {error:.4}, {seam:.3}"));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn tiles_have_the_same_bits_for_any_number_of_threads_and_can_be_cancelled() {
    let dims = [4, 24, 20];
    let config = cases()[1]["vae"].clone();
    let x = latents(dims, 2);
    let cpu = |threads| Cpu::with_options(CpuOptions { threads: Some(threads), ..Default::default() }).unwrap();
    let tiled = |threads| decoder(&config, dims, 60_000, &cpu(threads));
    assert!(tiled(1).tiles() > 1);
    let want = decode(tiled(1), dims, &x);
    for threads in [2, 3] {
        assert_eq!(decode(tiled(threads), dims, &x), want);
    }
    let mut codec =
        undiffuse::codec::Codec::new(Dims::new(&dims).unwrap(), Default::default(), Some(tiled(2)), None).unwrap();
    let mut data = vec![0.0; codec.data_dims().elements()];
    let cancel = Cancel::new();
    cancel.cancel();
    assert_eq!(codec.decode(&x, &mut data, &cancel).unwrap_err().kind(), ErrorKind::Cancelled);
    codec.decode(&x, &mut data, never()).unwrap();
    assert_eq!(data, want);
    // Other lengths, and what is no number.
    assert_eq!(codec.decode(&x[1..], &mut data, never()).unwrap_err().kind(), ErrorKind::Shape);
    assert_eq!(codec.decode(&x, &mut data[1..], never()).unwrap_err().kind(), ErrorKind::Shape);
    let bad: Vec<f32> = x.iter().map(|v| if *v > 0.0 { f32::NAN } else { *v }).collect();
    assert_eq!(codec.decode(&bad, &mut data, never()).unwrap_err().kind(), ErrorKind::NonFinite);
    // The smallest tile takes more than a thousand bytes.
    let (parsed, bytes) = (AutoencoderConfig::from_json(&config.to_string()).unwrap(), autoencoder(&config));
    let view = SafeTensorsView::parse(&bytes).unwrap();
    let e = Decoder::compile(&parsed, &view, dims, 1000, &cpu(1)).err().unwrap();
    assert!(e.kind() == ErrorKind::OutOfMemory && e.message().contains("8 x 8"), "{e}");
    let e = Decoder::compile(&parsed, &view, [3, 8, 8], 1 << 30, &cpu(1)).err().unwrap();
    assert!(e.kind() == ErrorKind::Shape && e.message().contains("3 channels"), "{e}");
}

#[test]
fn what_a_latent_pipeline_lacks_is_said_where_it_is_used() {
    let case = &cases()[0];
    let dir = directory(case);
    let compile = |decoding| {
        let source = Source::open(dir.path())?;
        source.compile(&Reference, &PipelineOptions { decoding, ..Default::default() }).map(|_| ())
    };
    let refused = |kind: ErrorKind, word: &str| {
        let e = compile(Decoding::default()).unwrap_err();
        assert!(e.kind() == kind && e.message().contains(word), "{e}");
        // Latents need no decoder.
        compile(Decoding::None).unwrap();
    };
    compile(Decoding::default()).unwrap();
    let (config, weights) = ("vqvae/config.json", "vqvae/diffusion_pytorch_model.safetensors");
    dir.write(config, r#"{"_class_name": "AutoencoderKLWan"}"#);
    refused(ErrorKind::Unsupported, "AutoencoderKLWan");
    let mut other = case["vqvae"].clone();
    other["num_vq_embeddings"] = json!(41);
    dir.write(config, other.to_string());
    refused(ErrorKind::Weights, "quantize.embedding.weight");
    other = case["vqvae"].clone();
    other["vq_embed_dim"] = json!(4);
    dir.write(config, other.to_string());
    refused(ErrorKind::Shape, "3 channels");
    dir.write(config, case["vqvae"].to_string());
    std::fs::remove_file(dir.path().join(weights)).unwrap();
    refused(ErrorKind::Io, "vqvae");
    dir.write("vqvae/diffusion_pytorch_model.bin", "PK");
    refused(ErrorKind::Unsupported, "pickle");
    // A part that is listed is there; one that sampling would need is refused.
    std::fs::remove_file(dir.path().join(config)).unwrap();
    let e = Source::open(dir.path()).err().unwrap();
    assert!(e.kind() == ErrorKind::Io && e.message().contains("vqvae"), "{e}");
    dir.write("model_index.json", r#"{"unet": ["diffusers", "UNet2DModel"], "movq": ["diffusers", "VQModel"]}"#);
    let e = Source::open(dir.path()).err().unwrap();
    let alone = dir.path().join("unet").display().to_string();
    assert!(e.kind() == ErrorKind::Unsupported && e.message().contains("movq") && e.message().contains(&alone), "{e}");
    assert!(!Source::open(dir.path().join("unet")).unwrap().is_latent());
}
