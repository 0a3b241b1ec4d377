//! A network call on the cpu backend allocates nothing, on the caller's thread or on a worker, and no thread is busy
//! afterwards.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use undiffuse::backend::Network;
use undiffuse::backend::cpu::{Cpu, CpuOptions};
use undiffuse::graph::Graph;
use undiffuse::graph::vjp::vjp;
use undiffuse::model::ModelConfig;
use undiffuse::model::autoencoder::AutoencoderConfig;
use undiffuse::{Cancel, Result};

#[path = "common/draw.rs"]
mod draw;
#[path = "common/pcg.rs"]
mod pcg;

/// Counts what all threads ask of the system.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all calls go to the system's allocator as they are.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the caller's contract.
        unsafe { System.realloc(ptr, layout, size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Every block family and operation that a UNet can have, the networks of 2015 and those of other code bases.
const CONFIGS: [&str; 21] = [
    r#"{"block_out_channels": [8, 16], "down_block_types": ["DownBlock2D", "AttnDownBlock2D"], "sample_size": 12,
        "up_block_types": ["AttnUpBlock2D", "UpBlock2D"], "norm_num_groups": 4, "num_class_embeds": 3, "act_fn": "mish",
        "layers_per_block": 1, "attention_head_dim": 4}"#,
    r#"{"block_out_channels": [32, 32], "down_block_types": ["SkipDownBlock2D", "AttnSkipDownBlock2D"], "sample_size": 8,
        "up_block_types": ["AttnSkipUpBlock2D", "SkipUpBlock2D"], "layers_per_block": 1, "attention_head_dim": null,
        "time_embedding_type": "fourier", "freq_shift": 0, "center_input_sample": true}"#,
    r#"{"block_out_channels": [8, 16], "down_block_types": ["ResnetDownsampleBlock2D", "DownBlock2D"], "sample_size": 12,
        "up_block_types": ["UpBlock2D", "ResnetUpsampleBlock2D"], "norm_num_groups": 4, "layers_per_block": 1,
        "resnet_time_scale_shift": "scale_shift", "downsample_type": "resnet", "act_fn": "gelu"}"#,
    r#"{"_class_name": "Multiscale2015", "scales": 2, "conv_channels": [6, 6], "tied_biases": false, "dense_out_channels": 2,
        "sample_size": 12, "num_train_timesteps": 1000}"#,
    r#"{"_class_name": "Rbf2015", "num_train_timesteps": 1000}"#,
    r#"{"_class_name": "Mlp2015", "num_train_timesteps": 1000}"#,
    r#"{"_class_name": "GuidedDiffusionUNet", "image_size": 8, "num_channels": 32, "num_res_blocks": 1, "channel_mult": "1,2",
        "attention_resolutions": "4", "class_cond": true, "num_classes": 3}"#,
    r#"{"_class_name": "EDMPrecond", "img_resolution": 8, "model_channels": 16, "channel_mult": [1, 2], "num_blocks": 1,
        "encoder_type": "residual", "resample_filter": [1, 3, 3, 1], "attn_resolutions": [4], "label_dim": 3}"#,
    r#"{"_class_name": "ConditionalUnet1D", "input_dim": 5, "global_cond_dim": 6, "diffusion_step_embed_dim": 16,
        "down_dims": [16, 24], "n_groups": 4, "horizon": 8}"#,
    r#"{"_class_name": "denoising_diffusion_pytorch.Unet", "dim": 16, "dim_mults": [1, 2], "sample_size": 8}"#,
    r#"{"_class_name": "AnnotatedUNet", "dim": 8, "dim_mults": [1, 2], "condition_channels": 1, "sample_size": 8}"#,
    r#"{"_class_name": "DiTTransformer2DModel", "num_attention_heads": 2, "attention_head_dim": 12, "num_layers": 2,
        "sample_size": 6, "num_embeds_ada_norm": 5}"#,
    r#"{"_class_name": "UNet2DConditionModel", "block_out_channels": [8, 16], "norm_num_groups": 4, "sample_size": 8,
        "cross_attention_dim": 10, "attention_head_dim": 2, "layers_per_block": 1, "text_length": 7,
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"], "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"]}"#,
    r#"{"_class_name": "denoising_diffusion_pytorch.KarrasUnet", "image_size": 8, "dim": 8, "channels": 2, "num_downsamples": 1,
        "num_blocks_per_stage": 1, "attn_res": [4], "attn_dim_head": 8, "num_classes": 3}"#,
    r#"{"_class_name": "UNet1DModel", "extra_in_channels": 64, "block_out_channels": [32, 32], "sample_size": 16,
        "down_block_types": ["DownBlock1DNoSkip", "AttnDownBlock1D"], "up_block_types": ["AttnUpBlock1D", "UpBlock1DNoSkip"]}"#,
    r#"{"_class_name": "DiffusionModelUNet", "channels": [8, 16], "norm_num_groups": 4, "num_res_blocks": 1, "sample_size": 8,
        "attention_levels": [false, true], "num_head_channels": 4, "with_conditioning": true, "cross_attention_dim": 6}"#,
    r#"{"block_out_channels": [32, 32], "down_block_types": ["KDownBlock2D", "KDownBlock2D"], "sample_size": 8,
        "up_block_types": ["KCrossAttnUpBlock2D", "KUpBlock2D"], "layers_per_block": 2, "attention_head_dim": 8}"#,
    r#"{"_class_name": "denoising_diffusion_pytorch.Unet1D", "dim": 8, "dim_mults": [1, 2, 3], "attn_heads": 2,
        "attn_dim_head": 8, "seq_length": 16}"#,
    r#"{"_class_name": "FFDNet", "in_nc": 3, "out_nc": 3, "nc": 12, "nb": 4, "sample_size": 8}"#,
    r#"{"_class_name": "DRUNet", "in_channels": 1, "out_channels": 1, "nc": [6, 8, 10, 12], "nb": 2, "sample_size": 16}"#,
    r#"{"_class_name": "DnCNN", "nf": 8, "depth": 4, "sample_size": 8}"#,
];

/// The autoencoders of latent models.
const AUTOENCODERS: [&str; 3] = [
    r#"{"_class_name": "AutoencoderKL", "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"],
        "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D"], "block_out_channels": [8, 8], "norm_num_groups": 4}"#,
    r#"{"_class_name": "VQModel", "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"], "num_vq_embeddings": 40,
        "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D"], "block_out_channels": [8, 8], "norm_num_groups": 4}"#,
    r#"{"_class_name": "AutoencoderTiny", "encoder_block_out_channels": [8, 8], "decoder_block_out_channels": [8, 8],
        "num_encoder_blocks": [1, 1], "num_decoder_blocks": [1, 1]}"#,
];

/// Every family's network, with its gradient, and every autoencoder's decoder and encoder.
fn graphs() -> Vec<(String, Graph)> {
    let mut graphs = Vec::new();
    for json in CONFIGS {
        let graph = ModelConfig::from_json(json).unwrap().build(None).unwrap();
        graphs.push((format!("the gradient of {json}"), vjp(&graph, 0, 0).unwrap()));
        graphs.push((json.into(), graph));
    }
    for json in AUTOENCODERS {
        let config = AutoencoderConfig::from_json(json).unwrap();
        graphs.push((format!("the decoder of {json}"), config.decoder([6, 8]).unwrap()));
        graphs.push((format!("the encoder of {json}"), config.encoder([12, 16]).unwrap()));
    }
    graphs
}

/// The time that this process has spent on all its threads, in clock ticks.
#[cfg(target_os = "linux")]
fn ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

// Without the test harness (see Cargo.toml), whose own thread allocates when it likes: the counter counts the whole
// process.
fn main() {
    let graphs = graphs();
    for threads in [1, 3] {
        let cpu =
            Cpu::with_options(CpuOptions { path: None, threads: Some(threads), ..CpuOptions::default() }).unwrap();
        for (name, graph) in &graphs {
            let net = cpu.compile_network(graph, &draw::Weights).unwrap();
            let inputs = draw::inputs(graph, 2);
            let mut outputs: Vec<Vec<f32>> = net.outputs().iter().map(|d| vec![0.0; 2 * d.elements()]).collect();
            let ins: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
            let mut outs: Vec<&mut [f32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
            let mut workspace = vec![0.0; net.workspace_len(2).unwrap()];
            let cancel = Cancel::new();
            let mut call = || -> Result<usize> {
                let before = ALLOCATIONS.load(Ordering::SeqCst);
                net.run(2, &ins, &mut outs, &mut workspace, &cancel)?;
                Ok(ALLOCATIONS.load(Ordering::SeqCst) - before)
            };
            assert_eq!((call(), call()), (Ok(0), Ok(0)), "{threads} threads: {name}");
            // What is stated is needed: one value less is refused with both numbers.
            let stated = workspace.len();
            if stated > 0 {
                let short = net.run(2, &ins, &mut outs, &mut workspace[1..], &cancel).unwrap_err();
                let said = [stated, stated - 1].iter().all(|n| short.message().contains(&n.to_string()));
                assert!(said, "{name}: {short}: expected {stated} and one less");
            }
        }
        #[cfg(target_os = "linux")]
        {
            let before = ticks();
            std::thread::sleep(std::time::Duration::from_millis(300));
            // A busy worker would take 30 ticks of 10 ms.
            let spent = ticks() - before;
            assert!(spent <= 2, "{spent} ticks spent while asleep");
        }
    }
    // The counter counts.
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    drop(vec![0u8; 100]);
    assert!(ALLOCATIONS.load(Ordering::SeqCst) > before);
    println!("test a_call_allocates_nothing_and_leaves_no_thread_busy ... ok");
}
