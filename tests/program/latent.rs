//! Latent pipelines on the command line: what samples, what it writes, what is refused.

use crate::formats::{bytes_of, npy, safetensors, tensor, words};
use crate::program::{ok, refused};
use crate::scratch::Scratch;
use crate::seeded::Seeded;
use crate::seeded_file::seeded_tensors;
use crate::tiny::{self, SIDE};
use undiffuse::model::autoencoder::AutoencoderConfig;
use undiffuse::tensor::DType;

const VQ: &str = r#"{"_class_name": "VQModel", "block_out_channels": [4, 8], "norm_num_groups": 4, "num_vq_embeddings": 16, "latent_channels": 1,
    "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"], "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D"]}"#;

/// `pipe`, of 1 x 8 x 8 latents and 3 x 16 x 16 images.
fn pipeline() -> Scratch {
    let (s, unet) = (Scratch::new("latent"), tiny::model_config(""));
    s.write("pipe/unet/config.json", &unet);
    s.write("pipe/unet/diffusion_pytorch_model.safetensors", tiny::weights(&unet));
    s.write("pipe/scheduler/scheduler_config.json", tiny::scheduler_config());
    s.write("pipe/vqvae/config.json", VQ);
    let params = AutoencoderConfig::from_json(VQ).unwrap().parameters().unwrap();
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
        "bytes of weights",
        "bytes of workspace",
        "vqvae/config.json",
    ] {
        assert!(info.contains(line), "{line}: {info}");
    }
    let json: serde_json::Value = serde_json::from_str(&goes("info pipe --json")).unwrap();
    assert_eq!((&json["decoder"]["class"], &json["decoder"]["tiles"]), (&"VQModel".into(), &1.into()));
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
    let begun = "sample pipe --image x.npy --count 1 --steps 2";
    refused(dir, &words(begun), 1, "samples are latents, and the encoder");
    ok(dir, &words(&begun.replace("pipe", &unet)));
    // What calls the network alone works on it.
    ok(dir, &words("bench pipe --calls 1"));
    // A decoder that cannot be read bars images alone.
    s.write("pipe/vqvae/config.json", r#"{"_class_name": "AutoencoderKLWan"}"#);
    refused(dir, &words("sample pipe --count 1 --steps 2"), 1, "AutoencoderKLWan");
    ok(dir, &words("sample pipe --count 1 --steps 2 --latents --output l.npy"));
    ok(dir, &words("bench pipe --calls 1"));
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
