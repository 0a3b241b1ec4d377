//! Latent pipelines on the command line: what samples, what it writes, what is refused.

use crate::formats::{bytes_of, npy, safetensors, tensor, words};
use crate::program::{ok, refused};
use crate::scratch::Scratch;
use crate::seeded::Seeded;
use crate::seeded_file::seeded_tensors;
use crate::tiny::{self, SIDE};
use undiffuse::backend::cpu::Cpu;
use undiffuse::codec::{Codec, DECODE_BYTES};
use undiffuse::model::autoencoder::AutoencoderConfig;
use undiffuse::noise::{DrawnFor, ENCODER_DRAW, NoiseSource, PythonGenerator, PythonNoise, Seeded as Noise};
use undiffuse::pipeline::{Encoding, Pipeline, PipelineOptions};
use undiffuse::sampler::{Sampler, SamplerKind, SamplerOptions, Steps};
use undiffuse::tensor::DType;

const VQ: &str = r#"{"_class_name": "VQModel", "block_out_channels": [4, 8], "norm_num_groups": 4, "num_vq_embeddings": 16, "latent_channels": 1,
    "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"], "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D"]}"#;

const KL: &str = r#"{"_class_name": "AutoencoderKL", "block_out_channels": [4, 8], "norm_num_groups": 4, "latent_channels": 1,
    "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"], "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D"]}"#;

/// `pipe`, of 1 x 8 x 8 latents and 3 x 16 x 16 images.
fn pipeline() -> Scratch {
    pipeline_of(VQ)
}

fn pipeline_of(autoencoder: &str) -> Scratch {
    let (s, unet) = (Scratch::new("latent"), tiny::model_config(""));
    s.write("pipe/unet/config.json", &unet);
    s.write("pipe/unet/diffusion_pytorch_model.safetensors", tiny::weights(&unet));
    s.write("pipe/scheduler/scheduler_config.json", tiny::scheduler_config());
    s.write("pipe/vqvae/config.json", autoencoder);
    let params = AutoencoderConfig::from_json(autoencoder).unwrap().parameters().unwrap();
    let seeded = Seeded::of_names(params.iter().map(|p| p.name.as_str()));
    s.write("pipe/vqvae/diffusion_pytorch_model.safetensors", seeded_tensors(&seeded, &params, DType::F32));
    s.write(
        "pipe/model_index.json",
        r#"{"_class_name": "LDMPipeline", "unet": ["diffusers", "UNet2DModel"], "scheduler": ["diffusers", "DDPMScheduler"],
            "vqvae": ["diffusers", "VQModel"], "safety_checker": [null, null], "tokenizer": ["transformers", "CLIPTokenizer"]}"#,
    );
    s
}

#[test]
fn a_latent_pipeline_is_sampled_described_and_packed() {
    let s = pipeline();
    let dir = s.path();
    let goes = |text: &str| ok(dir, &words(text));
    let info = goes("info pipe");
    for line in [
        "[1, 8, 8] of latents, f32",
        "VQModel, from [1, 8, 8] to [3, 16, 16], in one piece",
        "encoder       VQModel, from [3, 16, 16] to [1, 8, 8], a point, in one piece",
        "latents       the decoder takes x / 0.18215 + 0",
        "bytes of weights",
        "bytes of workspace",
        "vqvae/config.json",
    ] {
        assert!(info.contains(line), "{line}: {info}");
    }
    let json: serde_json::Value = serde_json::from_str(&goes("info pipe --json")).unwrap();
    assert_eq!((&json["decoder"]["class"], &json["decoder"]["tiles"]), (&"VQModel".into(), &1.into()));
    let (encoder, scale) = (&json["encoder"], &json["latent_scale"]);
    assert_eq!((&encoder["shape"], &encoder["posterior"]), (&serde_json::json!([3, 16, 16]), &false.into()));
    assert!(encoder["weights"].as_u64() > Some(0) && scale["divisor"].is_array(), "{encoder} {scale}");
    // Of its denoiser alone there are no such parts.
    assert!(!goes("info pipe/unet").contains("\nencoder"));
    // Images, and the latents that they were made of.
    let said: serde_json::Value = serde_json::from_str(&goes(
        "sample pipe --count 3 --steps 2 --output out.safetensors --trace t.safetensors --json",
    ))
    .unwrap();
    assert_eq!(said["shape"], serde_json::json!([3, 16, 16]));
    let images = tensor(dir, "out.safetensors", "x_0");
    assert_eq!(images.len(), 3 * 3 * 16 * 16);
    goes("sample pipe --count 3 --steps 2 --output latents.safetensors --latents");
    let latents = tensor(dir, "latents.safetensors", "x_0");
    assert_eq!(latents.len(), 3 * SIDE * SIDE);
    let trace = tensor(dir, "t.safetensors", "x_t");
    assert_eq!(trace[2 * latents.len()..], latents);
    goes("sample pipe/unet --count 3 --steps 2 --output alone.safetensors");
    assert_eq!(tensor(dir, "alone.safetensors", "x_0"), latents);
    // Pictures, and while it runs.
    goes("sample pipe --count 2 --steps 2 --batch 1 --preview seen.png --output out-{}.png");
    assert!(["seen.png", "out-0.png", "out-1.png"].iter().all(|f| dir.join(f).is_file()));
    // One file.
    goes("pack pipe one.safetensors --dtype f32");
    goes("sample one.safetensors --count 3 --steps 2 --batch 2 --output again.safetensors");
    assert_eq!(tensor(dir, "again.safetensors", "x_0"), images);
    // In tiles, of larger latents.
    let whole = goes("info pipe --size 32");
    assert!(whole.contains("[3, 64, 64], in one piece"), "{whole}");
    let tiled = goes("info pipe --size 32 --decode-bytes 300000");
    assert!(tiled.contains("tiles of") && tiled.contains("[3, 64, 64]"), "{tiled}");
    goes("sample pipe --size 32 --decode-bytes 300000 --count 1 --steps 2 --output tiled.safetensors");
    assert_eq!(tensor(dir, "tiled.safetensors", "x_0").len(), 3 * 64 * 64);
    refused(dir, &words("sample pipe --decode-bytes 1000 --count 1 --steps 2"), 1, "8 x 8 latents takes");
}

#[test]
fn what_works_on_data_says_what_to_give() {
    let s = pipeline();
    let dir = s.path();
    s.write("x.npy", npy("<f4", "1, 1, 8, 8", &bytes_of(&[0.5; SIDE * SIDE])));
    let unet = format!("pipe{0}unet", std::path::MAIN_SEPARATOR);
    for command in [
        "denoise x.npy --model pipe --sigma 0.5 --steps 2",
        "restore x.npy --model pipe --operator sr2 --simulate --steps 2",
        "evaluate --model pipe --data x.npy --times 2 --ends network",
    ] {
        refused(dir, &words(command), 1, &format!("to work on latents, give {unet}"));
        ok(dir, &words(&command.replace("pipe", &unet)));
    }
    // Pictures of the form of the data are no better: no option on them would help.
    s.write("data.npy", npy("<f4", "1, 3, 16, 16", &bytes_of(&[0.5; PIXELS])));
    for command in [
        "denoise data.npy --model pipe --sigma 0.5 --steps 2",
        "restore data.npy --model pipe --operator identity --sigma 0.1 --steps 2",
        "posterior data.npy --model pipe --operator identity --sigma 0.1 --steps 2 --mean never.npy",
        "inpaint data.npy --model pipe --operator half --steps 2",
    ] {
        refused(dir, &words(command), 1, &format!("to work on latents, give {unet}"));
    }
    let begun = "sample pipe --image x.npy --count 1 --steps 2";
    refused(dir, &words(begun), 1, "is [1, 8, 8], the model's are [3, 16, 16]");
    ok(dir, &words(&begun.replace("pipe", &unet)));
    // What calls the network alone works on it.
    ok(dir, &words("bench pipe --calls 1"));
    // A decoder that cannot be read bars images alone.
    s.write("pipe/vqvae/config.json", r#"{"_class_name": "AutoencoderKLWan"}"#);
    refused(dir, &words("sample pipe --count 1 --steps 2"), 1, "AutoencoderKLWan");
    ok(dir, &words("sample pipe --count 1 --steps 2 --latents --output l.npy"));
    ok(dir, &words("bench pipe --calls 1"));
}

/// Values of a latent and of a picture.
const N: usize = SIDE * SIDE;
const PIXELS: usize = 3 * 4 * N;

/// Two pictures, as the model takes them.
fn pictures() -> Vec<f32> {
    (0..2 * PIXELS).map(|i| f32::from((i * i * 7 + i * 13) as u8) / 127.5 - 1.0).collect()
}

/// A pipeline with `two.npy`, and `one.png` and `one.npy` of the first of them.
fn with_pictures(autoencoder: &str) -> (Scratch, Codec) {
    let (s, all) = (pipeline_of(autoencoder), pictures());
    s.write("two.npy", npy("<f4", "2, 3, 16, 16", &bytes_of(&all)));
    s.write("one.npy", npy("<f4", "3, 16, 16", &bytes_of(&all[..PIXELS])));
    let side = 2 * SIDE as u32;
    let level = |c: u32, x: u32, y: u32| ((all[((c * side + y) * side + x) as usize] + 1.0) * 127.5).round() as u8;
    let image = image::RgbImage::from_fn(side, side, |x, y| image::Rgb([0, 1, 2].map(|c| level(c, x, y))));
    image.save(s.path().join("one.png")).unwrap();
    let options = PipelineOptions { encoding: Encoding::Within(DECODE_BYTES), ..Default::default() };
    let codec = Pipeline::open(s.path().join("pipe"), &Cpu::new().unwrap(), &options).unwrap().codec().unwrap();
    (s, codec)
}

/// Where the samples of `--image` begin, of `count` pictures; each with the noise of its number.
fn begun(codec: &mut Codec, noise: &mut dyn NoiseSource, count: usize) -> Vec<f32> {
    let (mut z, mut x) = (vec![0.0; count * N], vec![0.0; count * N]);
    noise.normal(0, ENCODER_DRAW, N, &mut z).unwrap();
    codec.encode(&pictures()[..count * PIXELS], Some(&z), &mut x, &undiffuse::Cancel::new()).unwrap();
    x
}

#[test]
fn samples_begin_at_encoded_pictures() {
    for autoencoder in [VQ, KL] {
        let (s, mut codec) = with_pictures(autoencoder);
        let dir = s.path();
        let made = |options: &str| {
            ok(dir, &words(&format!("sample pipe --steps 6 --sampler ddim --output x.safetensors {options}")));
            tensor(dir, "x.safetensors", "x_0")
        };
        let config =
            undiffuse::sampler::SchedulerConfig::from_json_for(&tiny::scheduler_config(), Some(SamplerKind::Ddim));
        let options = SamplerOptions { sampler: Some(SamplerKind::Ddim), steps: Steps::Count(6), ..Default::default() };
        let sampler = config.unwrap().sampler(&options).unwrap();
        let level = sampler.levels()[3];
        // One picture is that of all samples, whose noise differs; of several each is one sample's.
        for (file, count, pictures) in [("one.npy", 3, 1), ("two.npy", 2, 2)] {
            let run = format!("--image {file} --strength 0.5 --seed 9 --count {count}");
            let images = made(&format!("{run} --trace t.safetensors"));
            assert_eq!(images.len(), count * PIXELS);
            let trace = tensor(dir, "t.safetensors", "x_t");
            assert_eq!(trace.len(), 4 * count * N);
            let (from, mut z) = (begun(&mut codec, &mut Noise::new(9), pictures), vec![0.0; count * N]);
            Noise::new(9).normal(0, 0, N, &mut z).unwrap();
            for (i, (x, z)) in trace.iter().zip(&z).enumerate() {
                let want = level.alpha * f64::from(from[i % (pictures * N)]) + level.sigma * f64::from(*z);
                assert!((f64::from(*x) - want).abs() < 1e-4, "{autoencoder}: value {i}: {x} {want}");
            }
            assert_eq!(made(&format!("{run} --batch 1 --threads 1")), images);
            assert_eq!([1, 2].map(|i| made(&format!("{run} --shard {i}/2"))).concat(), images);
            assert_eq!(made(&format!("{run} --latents")), trace[3 * count * N..]);
        }
        // However it is stored, and of a packed file.
        let run = "--image one.npy --strength 0.5 --count 1";
        let images = made(run);
        assert_eq!(made(&run.replace("npy", "png")), images);
        ok(dir, &words("pack pipe packed.safetensors --dtype f32"));
        let packed = format!("sample packed.safetensors --steps 6 --sampler ddim --output p.safetensors {run}");
        ok(dir, &words(&packed));
        assert_eq!(tensor(dir, "p.safetensors", "x_0"), images);
    }
}

#[test]
fn an_encoders_noise_may_be_a_files_or_torchs() {
    let (s, _) = with_pictures(KL);
    let dir = s.path();
    let run = |options: &str| {
        ok(
            dir,
            &words(&format!("sample pipe --steps 6 --sampler ddim --strength 0.5 --output x.safetensors {options}")),
        );
        tensor(dir, "x.safetensors", "x_0")
    };
    let torch = |drawn_for, images| {
        let noise = PythonNoise::new(PythonGenerator::TorchCpu, 5, drawn_for, N).unwrap();
        noise.with_draws(vec![0]).unwrap().with_encoder(images).unwrap()
    };
    let draw = |noise: &mut PythonNoise, draw: u64, count: usize| {
        let mut z = vec![0.0; count * N];
        noise.normal(0, draw, N, &mut z).unwrap();
        z
    };
    for (file, pictures) in [("one.png", 1), ("two.npy", 2)] {
        // As diffusers draws: the encoder's noise, then that of the latents.
        let mut noise = torch(DrawnFor::AllOf(2), pictures as u64);
        let (x_t, posterior) = (draw(&mut noise, 0, 2), draw(&mut noise, ENCODER_DRAW, pictures));
        s.write(
            "noise.safetensors",
            safetensors(&[("x_T", &[2, 1, 8, 8], &x_t), ("posterior", &[pictures, 1, 8, 8], &posterior)]),
        );
        let given = run(&format!("--image {file} --noise noise.safetensors"));
        assert_eq!(run(&format!("--image {file} --noise torch-cpu --seed 5 --count 2")), given, "{file}");
    }
    // With a generator for each sample the picture is encoded for each.
    let each = run("--image one.png --noise torch-cpu --each-seed --seed 5 --count 2 --batch 1");
    assert_eq!(run("--image one.png --noise torch-cpu --each-seed --seed 6 --count 1"), each[PIXELS..]);
    let mut noise = torch(DrawnFor::Each { at_once: 1 }, 1);
    let (x_t, posterior) = (draw(&mut noise, 0, 1), draw(&mut noise, ENCODER_DRAW, 1));
    s.write("one.safetensors", safetensors(&[("x_T", &[1, 1, 8, 8], &x_t), ("posterior", &[1, 1, 8, 8], &posterior)]));
    assert_eq!(run("--image one.png --noise one.safetensors"), each[..PIXELS]);
    let begun = "sample pipe --image one.png --steps 2 --noise";
    s.write("less.safetensors", safetensors(&[("x_T", &[1, 1, 8, 8], &x_t)]));
    refused(dir, &words(&format!("{begun} less.safetensors")), 1, "posterior [1, 1, 8, 8] is missing");
    s.write("flat.safetensors", safetensors(&[("x_T", &[1, 1, 8, 8], &x_t), ("posterior", &[N], &posterior)]));
    refused(dir, &words(&format!("{begun} flat.safetensors")), 1, "posterior is [64], expected [1, 1, 8, 8]");
    refused(dir, &words("sample pipe --steps 2 --noise one.safetensors"), 1, "no picture is encoded to a distribution");
}

#[test]
fn pictures_of_other_sizes_are_fitted_or_refused_with_what_to_give() {
    let (s, _) = with_pictures(KL);
    let dir = s.path();
    for (name, width, height) in [("odd", 17, 16), ("large", 32, 48), ("small", 4, 6)] {
        let image = image::RgbImage::from_fn(width, height, |x, y| image::Rgb([(x * 7) as u8, (y * 5) as u8, 90]));
        image.save(dir.join(format!("{name}.png"))).unwrap();
    }
    image::GrayImage::new(16, 16).save(dir.join("grey.png")).unwrap();
    let run = "sample pipe --count 1 --steps 2 --output x.safetensors --image";
    for (options, text) in [
        (
            "odd.png",
            "odd.png: the picture is [3, 16, 17], the model's are [3, 16, 16]: give --size 8x8 --fit crop, or --fit cover",
        ),
        ("large.png", "the picture is [3, 48, 32], the model's are [3, 16, 16]: give --size 24x16, or --fit cover"),
        ("small.png --size 3x3", "give --size 2x2 --fit cover"),
        ("grey.png", "the picture is grey and is [1, 16, 16], the model's are [3, 16, 16]: give --colour"),
        ("one.png --size 16", "give --fit cover"),
    ] {
        refused(dir, &words(&format!("{run} {options}")), 1, text);
    }
    // What is advised works.
    for (options, pixels) in [
        ("odd.png --size 8x8 --fit crop", PIXELS),
        ("odd.png --fit cover", PIXELS),
        ("large.png --size 24x16", 6 * PIXELS),
        ("large.png --size 24x16 --decode-bytes 200000", 6 * PIXELS),
        ("large.png --fit cover", PIXELS),
        ("grey.png --colour", PIXELS),
        ("one.png --size 16 --fit cover", 4 * PIXELS),
    ] {
        ok(dir, &words(&format!("{run} {options}")));
        assert_eq!(tensor(dir, "x.safetensors", "x_0").len(), pixels, "{options}");
    }
    // A model without a size takes that of the picture.
    let config = std::fs::read_to_string(dir.join("pipe/unet/config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    config.as_object_mut().unwrap().remove("sample_size");
    s.write("pipe/unet/config.json", config.to_string());
    ok(dir, &words(&format!("{run} large.png")));
    assert_eq!(tensor(dir, "x.safetensors", "x_0").len(), 6 * PIXELS);
    refused(
        dir,
        &words(&format!("{run} odd.png")),
        1,
        "of 3 channels, with sides that are multiples of 2: give --size 8x8 --fit crop",
    );
    // An autoencoder that cannot be read bars pictures too.
    s.write("pipe/vqvae/config.json", r#"{"_class_name": "AutoencoderKLWan"}"#);
    refused(dir, &words(&format!("{run} one.png --latents")), 1, "AutoencoderKLWan");
}

#[test]
fn a_network_without_a_level_is_called_without_one() {
    let s = Scratch::new("dncnn");
    let config = r#"{"_class_name": "DnCNN", "naming": "kair", "nb": 2, "nc": 4, "sample_size": 8}"#;
    s.write("net/config.json", config);
    s.write("net/diffusion_pytorch_model.safetensors", tiny::weights(config));
    s.write("x.safetensors", safetensors(&[("sample", &[1, 1, 8, 8], &[0.5; 64])]));
    ok(s.path(), &words("predict net --input x.safetensors --output y.safetensors"));
    assert_eq!(tensor(s.path(), "y.safetensors", "sample").len(), 64);
    // One that has a level is refused without.
    let unet = tiny::model_config("");
    s.write("unet/config.json", &unet);
    s.write("unet/diffusion_pytorch_model.safetensors", tiny::weights(&unet));
    let predict = words("predict unet --input x.safetensors --output z.safetensors");
    refused(s.path(), &predict, 1, "x.safetensors: the tensor timestep is missing");
}
