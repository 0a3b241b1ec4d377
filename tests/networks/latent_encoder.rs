//! Encoders of latent pipelines: image to image as diffusers makes it, tiles, what is refused.

use crate::golden;
use crate::latent::{BOUND, INPUT_SEED, autoencoder, directory, part};
use crate::pcg;
use serde_json::{Value, json};
use undiffuse::backend::Backend;
use undiffuse::backend::cpu::{Cpu, CpuOptions};
use undiffuse::backend::reference::Reference;
use undiffuse::chain::{Chain, ChainOptions, never};
use undiffuse::codec::{Codec, DECODE_BYTES, Decoder, Encoder};
use undiffuse::denoiser::{Conditions, Guidance};
use undiffuse::model::autoencoder::AutoencoderConfig;
use undiffuse::noise::Given;
use undiffuse::pipeline::{Decoding, Encoding, Pipeline, PipelineOptions, Source};
use undiffuse::sampler::{SamplerOptions, Steps, start_of_strength};
use undiffuse::tensor::Dims;
use undiffuse::weights::SafeTensorsView;
use undiffuse::{Cancel, Error, ErrorKind};

/// The bound that the project promises of a call, relative.
const CALL: f64 = 1e-5;

fn cpu(threads: usize) -> Cpu {
    Cpu::with_options(CpuOptions { threads: Some(threads), ..Default::default() }).unwrap()
}

/// The latents of two pictures, the latents that a chain makes of them, and their images.
fn run(pipeline: &Pipeline, number: u64, case: &Value, strength: f64) -> [Vec<f32>; 3] {
    let draw = |i: u64, n: usize, a: f32| pcg::uniform(INPUT_SEED, 10 * number + i, n, a);
    let (n, batch) = (pipeline.sample_dims().elements(), 2);
    let mut codec = pipeline.codec().unwrap();
    assert_eq!(codec.encoded_dims().unwrap().as_slice(), [3, 16, 16]);
    let mut begun = vec![f32::NAN; batch * n];
    let (pictures, posterior) = (draw(4, batch * 3 * 16 * 16, 1.0), draw(3, batch * n, golden::ROOT_3));
    codec.encode(&pictures, Some(&posterior), &mut begun, never()).unwrap();

    let sampler = pipeline.sampler(&SamplerOptions { steps: Steps::Count(5), ..Default::default() }).unwrap();
    let denoiser = match case["guidance"].as_f64() {
        None => pipeline.denoiser(batch, &[]).unwrap(),
        Some(scale) => {
            let text = |i| Conditions::new().with("encoder_hidden_states", &draw(i, 70, 1.0));
            pipeline.guided(batch, &text(1), &Guidance::new(scale as f32, text(2))).unwrap()
        }
    };
    let start = draw(0, batch * n, golden::ROOT_3);
    let given = Given::new(&start, &[], batch, 0).unwrap();
    let mut chain = Chain::new(denoiser, sampler, given, &ChainOptions { batch, ..Default::default() }).unwrap();
    let step = start_of_strength(chain.sampler(), strength).unwrap();
    chain.start_from_data(step, &begun, 0).unwrap();
    chain.run().unwrap();
    let mut images = vec![f32::NAN; batch * codec.data_dims().elements()];
    codec.decode(chain.x(), &mut images, never()).unwrap();
    [begun, chain.x().to_vec(), images]
}

#[test]
fn image_to_image_in_latents_is_diffusers() {
    let bytes = std::fs::read(golden::path("latent.safetensors")).unwrap();
    let (file, cpu) = (golden::json("latent.json"), cpu(2));
    let strength = file["strength"].as_f64().unwrap();
    let mut failed = Vec::new();
    for (number, case) in (2..).zip(file["image_to_image"].as_array().unwrap()) {
        let (name, dir) = (case["name"].as_str().unwrap(), directory(case));
        let source = Source::open(dir.path()).unwrap();
        for backend in [&Reference as &dyn Backend, &cpu] {
            let options = PipelineOptions { encoding: Encoding::Within(DECODE_BYTES), ..Default::default() };
            let pipeline = source.compile(backend, &options).unwrap();
            let [begun, latents, images] = run(&pipeline, number, case, strength);
            for (got, suffix, bound) in
                [(&begun, ", begun", CALL), (&latents, ", latents", BOUND), (&images, "", BOUND)]
            {
                let error = golden::relative_l2(got, &golden::stored(&bytes, &format!("{name}{suffix}")));
                println!("{}: {name}{suffix}: {error:.1e}", backend.name());
                if error.is_nan() || error > bound {
                    failed.push(format!("{}: {name}{suffix}: {error:.1e}", backend.name()));
                }
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

fn two_levels(class: &str, more: Value) -> Value {
    let mut config = json!({"_class_name": class, "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"],
        "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D"], "block_out_channels": [8, 16], "norm_num_groups": 4,
        "scaling_factor": 0.5});
    for (key, value) in more.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

fn compiled(config: &Value, dims: [usize; 3], within: usize, backend: &dyn Backend) -> Result<Encoder, Error> {
    let (parsed, bytes) = (AutoencoderConfig::from_json(&config.to_string()).unwrap(), autoencoder(config));
    Encoder::compile(&parsed, &SafeTensorsView::parse(&bytes).unwrap(), dims, within, backend)
}

fn codec(encoder: Encoder, dims: [usize; 3]) -> Codec {
    Codec::new(Dims::new(&dims).unwrap(), Default::default(), None, Some(encoder)).unwrap()
}

fn encoded(codec: &mut Codec, data: &[f32], noise: Option<&[f32]>) -> Vec<f32> {
    let mut x = vec![f32::NAN; codec.sample_dims().elements()];
    codec.encode(data, noise, &mut x, never()).unwrap();
    x
}

/// A picture, smooth as pictures are: waves and a little noise.
fn picture([c, h, w]: [usize; 3]) -> Vec<f32> {
    let noise = pcg::uniform(INPUT_SEED, 2000, c * h * w, 0.1);
    let at = |i: usize| {
        let (ch, y, x) = (i / (h * w), i / w % h, i % w);
        0.7 * (0.17 * x as f32 + ch as f32).sin() * (0.13 * y as f32 + 0.5).cos() + noise[i]
    };
    (0..c * h * w).map(at).collect()
}

fn deviation(values: &[f32]) -> f64 {
    let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / values.len() as f64;
    (values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
}

/// The root mean square difference of tiles from one piece over the standard deviation of the latents, at most: of
/// networks with norms and attention, which see their tile alone, with norms, and with neither.
const KL: f64 = 0.15;
const NORMS: f64 = 0.15;
const LOCAL: f64 = 0.01;

#[test]
fn tiles_differ_little_from_one_piece() {
    let cpu = cpu(2);
    let dims = [4, 64, 96];
    let tiny = json!({"_class_name": "AutoencoderTiny", "decoder_block_out_channels": [8, 8], "num_decoder_blocks": [1, 1],
        "encoder_block_out_channels": [8, 8], "num_encoder_blocks": [1, 1]});
    let kl = two_levels("AutoencoderKL", json!({}));
    let norms = two_levels("AutoencoderKL", json!({"mid_block_add_attention": false}));
    let mut failed = Vec::new();
    for (config, name, bound) in [(&kl, "kl", KL), (&norms, "norms", NORMS), (&tiny, "tiny", LOCAL)] {
        let whole = compiled(config, dims, usize::MAX, &cpu).unwrap();
        assert_eq!((whole.tiles(), whole.tile()), (1, [64, 96]));
        assert_eq!(whole.data_dims().unwrap().as_slice(), [3, 128, 192]);
        let bytes = |e: &Encoder| Codec::<Vec<f32>>::memory_len(None, Some(e)).unwrap() * 4;
        let tiled = compiled(config, dims, bytes(&whole) / 5, &cpu).unwrap();
        assert!(tiled.tiles() > 1 && bytes(&tiled) < bytes(&whole), "{name}");
        let (data, count) = (picture([3, 128, 192]), tiled.tiles());
        let one = encoded(&mut codec(whole, dims), &data, None);
        let many = encoded(&mut codec(tiled, dims), &data, None);
        let difference: Vec<f32> = many.iter().zip(&one).map(|(a, b)| a - b).collect();
        let square = difference.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / one.len() as f64;
        let error = square.sqrt() / deviation(&one);
        println!("{name}: {count} tiles: {error:.4} of the deviation");
        if !(error > 0.0 && error <= bound) {
            failed.push(format!("{name}: {error:.4}"));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn an_encoders_bits_hang_on_nothing_else_and_what_does_not_fit_is_refused() {
    let dims = [4, 20, 24];
    let (config, data) = (two_levels("AutoencoderKL", json!({})), picture([3, 40, 48]));
    let n = dims.iter().product();
    let noise = pcg::uniform(INPUT_SEED, 2001, n, golden::ROOT_3);
    for (within, is_whole) in [(usize::MAX, true), (90_000, false)] {
        let with = |threads| codec(compiled(&config, dims, within, &cpu(threads)).unwrap(), dims);
        assert_eq!(with(1).encoder().unwrap().tiles() == 1, is_whole);
        let want = encoded(&mut with(1), &data, Some(&noise));
        assert_eq!(encoded(&mut with(3), &data, Some(&noise)), want);
        // In a batch, and after a run that was stopped.
        let mut codec = with(2);
        let (mut both, cancel) = (vec![0.0; 2 * n], Cancel::new());
        let (pair, noises) = ([&data[..], &data].concat(), [&noise[..], &noise].concat());
        cancel.cancel();
        assert_eq!(codec.encode(&pair, None, &mut both, &cancel).unwrap_err().kind(), ErrorKind::Cancelled);
        codec.encode(&pair, Some(&noises), &mut both, never()).unwrap();
        assert!(both[..n] == want && both[n..] == want);
        // The mode is the mean, around which noise lies on both sides.
        let mode = encoded(&mut codec, &data, None);
        let other: Vec<f32> = noise.iter().map(|z| -z).collect();
        let mirrored = encoded(&mut codec, &data, Some(&other));
        assert_eq!(encoded(&mut codec, &data, Some(&vec![0.0; n])), mode);
        for ((a, b), mean) in want.iter().zip(&mirrored).zip(&mode) {
            assert!((0.5 * (a + b) - mean).abs() < 1e-5, "{a} {b} {mean}");
        }
        assert!(want.iter().zip(&mode).filter(|(a, b)| (*a - *b).abs() > 1e-3).count() > n / 2);

        let mut x = vec![0.0; n];
        let mut refused = |data: &[f32], noise: Option<&[f32]>, x: &mut [f32], kind: ErrorKind, word: &str| {
            let e = codec.encode(data, noise, x, never()).unwrap_err();
            assert!(e.kind() == kind && e.message().contains(word), "{e}");
        };
        refused(&data[1..], None, &mut x, ErrorKind::Shape, "expected 5760 and 1920");
        refused(&data, None, &mut x[1..], ErrorKind::Shape, "1919 of samples");
        refused(&data, Some(&noise[1..]), &mut x, ErrorKind::Shape, "1919 values, expected 1920");
        let bad: Vec<f32> = data.iter().map(|v| if *v > 0.5 { f32::NAN } else { *v }).collect();
        refused(&bad, None, &mut x, ErrorKind::NonFinite, "data to encode");
        let bad: Vec<f32> = noise.iter().map(|v| if *v > 1.0 { f32::INFINITY } else { *v }).collect();
        refused(&data, Some(&bad), &mut x, ErrorKind::NonFinite, "noise");
    }
    // The smallest tile takes more than a thousand bytes.
    let refused = |dims, within, kind: ErrorKind, words: [&str; 2]| {
        let e = compiled(&config, dims, within, &cpu(1)).err().unwrap();
        assert!(e.kind() == kind && words.iter().all(|w| e.message().contains(w)), "{e}");
    };
    refused(dims, 1000, ErrorKind::OutOfMemory, ["encoding a tile of 8 x 8 latents takes", "at most 1000"]);
    refused([3, 8, 8], usize::MAX, ErrorKind::Shape, ["3 channels", "encodes to 4"]);
    refused([4, 1 << 20, 8], usize::MAX, ErrorKind::Config, ["2097152 x 16", "up to"]);
    let memory = vec![0.0; 10];
    let encoder = compiled(&config, dims, usize::MAX, &cpu(1)).unwrap();
    let needed = Codec::<Vec<f32>>::memory_len(None, Some(&encoder)).unwrap();
    let e = Codec::in_memory(Dims::new(&dims).unwrap(), Default::default(), None, Some(encoder.clone()), memory);
    let e = e.err().unwrap();
    assert!(e.message().contains("10 values") && e.message().contains(&needed.to_string()), "{e}");
    let e = Codec::new(Dims::new(&[4, 8, 8]).unwrap(), Default::default(), None, Some(encoder)).err().unwrap();
    assert!(e.kind() == ErrorKind::Shape && e.message().contains("the encoder's"), "{e}");
}

#[test]
fn noise_samples_only_what_is_a_distribution() {
    let dims = [4, 8, 8];
    let vq = two_levels("VQModel", json!({"num_vq_embeddings": 20, "latent_channels": 4}));
    let mut codec = codec(compiled(&vq, dims, usize::MAX, &cpu(1)).unwrap(), dims);
    assert!(!codec.encoder().unwrap().has_posterior());
    let (data, noise) = (picture([3, 16, 16]), vec![2.0; 256]);
    let want = encoded(&mut codec, &data, None);
    assert_eq!(encoded(&mut codec, &data, Some(&noise)), want);
}

#[test]
fn the_logarithm_of_a_variance_is_held_to_diffusers_range() {
    let (dims, data) = ([4, 8, 8], picture([3, 16, 16]));
    let config = two_levels("AutoencoderKL", json!({}));
    let (parsed, bytes) = (AutoencoderConfig::from_json(&config.to_string()).unwrap(), autoencoder(&config));
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let entries: Value = serde_json::from_slice(&bytes[8..header]).unwrap();
    let start = header + entries["quant_conv.bias"]["data_offsets"][0].as_u64().unwrap() as usize;
    for (bias, deviation) in [(200.0f32, 10f64.exp()), (-200.0, (-15f64).exp())] {
        let mut bytes = bytes.clone();
        // The first four are the mean's.
        for value in bytes[start + 16..start + 32].chunks_exact_mut(4) {
            value.copy_from_slice(&bias.to_le_bytes());
        }
        let view = SafeTensorsView::parse(&bytes).unwrap();
        let encoder = Encoder::compile(&parsed, &view, dims, usize::MAX, &cpu(1)).unwrap();
        let mut codec = codec(encoder, dims);
        let (mode, noise) = (encoded(&mut codec, &data, None), vec![1.0; 256]);
        for (x, mode) in encoded(&mut codec, &data, Some(&noise)).iter().zip(&mode) {
            // Half of it, as scaling_factor is 0.5; a mean is below 4, and rounded.
            let got = f64::from(*x) - f64::from(*mode);
            assert!((got - 0.5 * deviation).abs() <= 1e-6 * (deviation + 1.0), "{bias}: {got}");
        }
    }
}

#[test]
fn latents_without_an_encoder_and_other_samples() {
    let case = &golden::json("latent.json")["image_to_image"][0];
    let dir = directory(case);
    let source = Source::open(dir.path()).unwrap();
    let compile =
        |decoding, encoding| source.compile(&Reference, &PipelineOptions { decoding, encoding, ..Default::default() });
    let (image, mut x) = (vec![0.1; 3 * 16 * 16], vec![0.0; 4 * 8 * 8]);
    // Not asked for: the pictures of latents cannot be had, but latents as data can.
    let pipeline = compile(Decoding::default(), Encoding::None).unwrap();
    assert!(pipeline.encoder().is_none());
    let e = pipeline.codec().unwrap().encode(&image, None, &mut x, never()).unwrap_err();
    let says = e.message().contains("AutoencoderKL") && e.message().contains("encoding");
    assert!(e.kind() == ErrorKind::Unsupported && says, "{e}");
    let mut codec = compile(Decoding::None, Encoding::None).unwrap().codec().unwrap();
    let latents = pcg::uniform(INPUT_SEED, 2002, 256, 1.0);
    codec.encode(&latents, None, &mut x, never()).unwrap();
    assert_eq!(x, latents);
    // The encoder alone, and with the decoder, whose memory is then shared.
    let [alone, both] = [Decoding::None, Decoding::default()]
        .map(|decoding| compile(decoding, Encoding::Within(DECODE_BYTES)).unwrap());
    let of = |pipeline: &Pipeline| {
        let mut x = vec![0.0; 256];
        pipeline.codec().unwrap().encode(&image, None, &mut x, never()).unwrap();
        x
    };
    assert_eq!(of(&alone), of(&both));
    let decoder = compile(Decoding::default(), Encoding::None).unwrap();
    let bytes = [&alone, &decoder].map(|p| p.codec_bytes().unwrap());
    assert_eq!(both.codec_bytes().unwrap(), bytes[0].max(bytes[1]));
    assert!(alone.encoder().unwrap().weight_bytes() > 0);
    // A file that lacks a tensor of the encoder's is refused, also where only the decoder is wanted.
    let (name, config) = (part(case), &case[part(case)]);
    let parsed = AutoencoderConfig::from_json(&config.to_string()).unwrap();
    let bytes = autoencoder(config);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    assert!(text.contains("encoder.conv_out.bias"));
    // A name of the same length that no autoencoder has.
    let other = bytes.windows(22).position(|w| w == b"\"encoder.conv_out.bias").unwrap();
    let mut bytes = bytes.clone();
    bytes[other + 9] = b'k';
    let view = SafeTensorsView::parse(&bytes).unwrap();
    let dims = [4, 8, 8];
    let refusals = [
        Decoder::compile(&parsed, &view, dims, DECODE_BYTES, &Reference).err().unwrap(),
        Encoder::compile(&parsed, &view, dims, DECODE_BYTES, &Reference).err().unwrap(),
    ];
    for e in refusals {
        assert!(e.kind() == ErrorKind::Weights && e.message().contains("encoder.conv_out.bias"), "{name}: {e}");
    }
}
