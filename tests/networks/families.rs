//! Networks of other code bases from a directory of files to samples, as their users have them.

use crate::golden;
use crate::pcg;
use crate::scratch::Scratch;
use crate::seeded_file::seeded_file;
use serde_json::Value;
use undiffuse::backend::Backend;
use undiffuse::backend::cpu::{Cpu, CpuOptions};
use undiffuse::backend::reference::Reference;
use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::denoiser::Conditions;
use undiffuse::model::ModelConfig;
use undiffuse::noise::Given;
use undiffuse::pipeline::{PipelineOptions, Source};
use undiffuse::sampler::{SamplerKind, SamplerOptions, SchedulerConfig, Steps};
use undiffuse::tensor::DType;
use undiffuse::weights::{TensorToWrite, write_safetensors};
use undiffuse::{Cancel, ErrorKind};

const INPUT_SEED: u64 = 41;
/// The bound that the project promises for a whole chain with given noise, relative.
const BOUND: f64 = 1e-3;

fn size(case: &Value) -> [usize; 2] {
    [1, 2].map(|i| case["shape"][i].as_u64().unwrap() as usize)
}

/// A directory with a case's configuration, drawn weights and a scheduler.
fn directory(case: &Value) -> Scratch {
    let config = case["config"].to_string();
    let graph = ModelConfig::from_json(&config).unwrap().build(Some(size(case))).unwrap();
    let scratch = Scratch::new("family");
    scratch.write("config.json", &config);
    scratch.write("diffusion_pytorch_model.safetensors", seeded_file(&graph, DType::F32, |_| true));
    scratch.write("scheduler_config.json", case["scheduler"].to_string());
    scratch
}

/// The end of a chain from a given start.
fn end(backend: &dyn Backend, number: usize, case: &Value) -> Vec<f32> {
    let dir = directory(case);
    let source = Source::open(dir.path()).unwrap_or_else(|e| panic!("{}: {e}", case["name"]));
    let options = PipelineOptions { size: Some(size(case)), ..Default::default() };
    let pipeline = source.compile(backend, &options).unwrap_or_else(|e| panic!("{}: {e}", case["name"]));
    let steps = case["steps"].as_u64().unwrap() as usize;
    let sampler = pipeline.sampler(&SamplerOptions { steps: Steps::Count(steps), ..Default::default() }).unwrap();
    let stream = |i: u64| 100 * number as u64 + i;
    let n = pipeline.sample_dims().elements();
    let mut conditions = Conditions::default();
    let mut next = 0;
    for input in pipeline.inputs().iter().filter(|i| i.role.is_condition()) {
        let row = match &case["inputs"][&input.name] {
            Value::Array(all) => match &all[0] {
                Value::Array(row) => row.iter().map(|v| v.as_f64().unwrap() as f32).collect(),
                number => vec![number.as_f64().unwrap() as f32],
            },
            _ => {
                next += 1;
                pcg::uniform(INPUT_SEED, stream(next), input.dims.elements(), 1.0)
            }
        };
        conditions = conditions.with(&input.name, &row);
    }
    let start = pcg::uniform(INPUT_SEED, stream(50), n, golden::ROOT_3);
    let noise: Vec<f32> = (0..sampler.levels().len() as u64)
        .flat_map(|i| pcg::uniform(INPUT_SEED, stream(51 + i), n, golden::ROOT_3))
        .collect();
    let given = Given::new(&start, &noise, 1, 0).unwrap();
    let denoiser = pipeline.denoiser_with(1, &conditions).unwrap_or_else(|e| panic!("{}: {e}", case["name"]));
    let mut chain = Chain::new(denoiser, sampler, given, &ChainOptions { batch: 1, ..Default::default() }).unwrap();
    chain.run().unwrap();
    chain.x().to_vec()
}

#[test]
fn a_directory_samples_as_its_own_code_does() {
    let (json, bytes) = (golden::json("families.json"), std::fs::read(golden::path("families.safetensors")).unwrap());
    let cpu = Cpu::with_options(CpuOptions { path: None, threads: Some(2), ..CpuOptions::default() }).unwrap();
    let mut failed = Vec::new();
    for (number, case) in json["cases"].as_array().unwrap().iter().enumerate() {
        let name = case["name"].as_str().unwrap();
        let want = golden::stored(&bytes, &format!("{name}, chain"));
        for backend in [&Reference as &dyn Backend, &cpu] {
            let error = golden::relative_l2(&end(backend, number, case), &want);
            println!("{}: chain of {name}: {error:.1e}", backend.name());
            if error.is_nan() || error > BOUND {
                failed.push(format!("{}: {name}: {error:.1e}", backend.name()));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let refused = |json: &str, kind: ErrorKind, word: &str| {
        let made = ModelConfig::from_json(json).and_then(|c| c.build(None).map(|_| ()));
        let e = made.expect_err(json);
        assert!(e.kind() == kind && e.message().contains(word), "{json}: {e}");
    };
    let config = ErrorKind::Config;
    refused(r#"{"_class_name":"GuidedDiffusionUNet","image_size":48}"#, config, "channel_mult");
    refused(r#"{"_class_name":"GuidedDiffusionUNet","num_channel":32}"#, config, "num_channel");
    refused(r#"{"_class_name":"GuidedDiffusionUNet","num_channels":40}"#, ErrorKind::Shape, "input_blocks.1.0");
    refused(r#"{"_class_name":"GuidedDiffusionUNet","large_size":256}"#, config, "small_size");
    refused(r#"{"_class_name":"GuidedDiffusionUNet","large_size":256,"small_size":60}"#, config, "small_size 60");
    refused(r#"{"_class_name":"GuidedDiffusionUNet","large_size":128,"small_size":32}"#, config, "channel_mult");
    refused(r#"{"_class_name":"ConditionalUnet1D","local_cond_dim":3}"#, ErrorKind::Unsupported, "local_cond_dim");
    refused(
        r#"{"_class_name":"UNet2DConditionModel","addition_embed_type":"text_time"}"#,
        config,
        "addition_time_embed_dim",
    );
    refused(
        r#"{"_class_name":"UNet2DConditionModel","addition_embed_type":"text_time","addition_time_embed_dim":256,
            "projection_class_embeddings_input_dim":1536}"#,
        config,
        "expected more than 6 numbers of 256",
    );
    refused(
        r#"{"_class_name":"UNet2DConditionModel","addition_embed_type":"text_image"}"#,
        config,
        "addition_embed_type",
    );
    refused(r#"{"_class_name":"EDMPrecond","resample_filter":[1,2,3,1]}"#, config, "resample_filter");
    refused(r#"{"_class_name":"EDMPrecond","model_type":"EDM2"}"#, config, "model_type");
    refused(r#"{"_class_name":"ConditionalUnet1D","kernel_size":4}"#, config, "kernel_size");
    refused(r#"{"_class_name":"ConditionalUnet1D"}"#, config, "0 x 0");
    refused(
        r#"{"_class_name":"denoising_diffusion_pytorch.Unet","self_condition":true}"#,
        ErrorKind::Unsupported,
        "self_condition",
    );
    refused(
        r#"{"_class_name":"denoising_diffusion_pytorch.Unet","sample_size":20,"dim_mults":[1,2,4,8]}"#,
        config,
        "20 x 20",
    );
    refused(
        r#"{"_class_name":"denoising_diffusion_pytorch.Unet1D","self_condition":true}"#,
        ErrorKind::Unsupported,
        "self_condition",
    );
    refused(r#"{"_class_name":"denoising_diffusion_pytorch.Unet1D","seq_length":12}"#, config, "1 x 12");
    refused(r#"{"_class_name":"DRUNet","nc":[4,4]}"#, config, "nc");
    refused(r#"{"_class_name":"DRUNet","upsample_mode":"upconv","sample_size":16}"#, config, "upsample_mode");
    refused(r#"{"_class_name":"DRUNet","sample_size":20}"#, config, "20 x 20");
    refused(r#"{"_class_name":"DnCNN","bias":false}"#, config, "bias");
    refused(r#"{"_class_name":"DnCNN","naming":"kair","act_mode":"BR"}"#, config, "act_mode");
    refused(r#"{"_class_name":"DnCNN","in_channels":1}"#, config, "out_channels");
    refused(r#"{"_class_name":"DiTTransformer2DModel","norm_type":"ada_norm"}"#, config, "norm_type");
    refused(r#"{"_class_name":"DiTTransformer2DModel","sample_size":31}"#, config, "31 x 31");
    let unsupported = ErrorKind::Unsupported;
    refused(r#"{"_class_name":"denoising_diffusion_pytorch.KarrasUnet"}"#, config, "image_size");
    refused(r#"{"_class_name":"denoising_diffusion_pytorch.KarrasUnet","image_size":20}"#, config, "multiple of 8");
    refused(r#"{"_class_name":"DiffusionModelUNet","spatial_dims":3}"#, unsupported, "spatial_dims");
    refused(r#"{"_class_name":"DiffusionModelUNet","channels":[32,40],"attention_levels":[false,true]}"#, config, "40");
    refused(r#"{"_class_name":"DiffusionModelUNet","with_conditioning":true}"#, config, "cross_attention_dim");
    refused(r#"{"_class_name":"DiffusionModelUNet","channels":[32,32]}"#, config, "attention_levels");
    refused(
        r#"{"_class_name":"DiffusionModelUNet","sample_size":32,"num_head_channels":24}"#,
        config,
        "num_head_channels",
    );
    refused(r#"{"_class_name":"UNet1DModel"}"#, config, "extra_in_channels 64");
    refused(
        r#"{"_class_name":"UNet1DModel","mid_block_type":"ValueFunctionMidBlock1D"}"#,
        unsupported,
        "ValueFunction",
    );
    refused(
        r#"{"_class_name":"UNet1DModel","mid_block_type":"MidResTemporalBlock1D"}"#,
        config,
        "use_timestep_embedding",
    );
    refused(r#"{"_class_name":"UNet1DModel","use_timestep_embedding":true}"#, config, "DownBlock1DNoSkip");
    refused(r#"{"_class_name":"UNet1DModel","extra_in_channels":64,"sample_size":20}"#, config, "1 x 20");
    refused(
        r#"{"_class_name":"UNet1DModel","extra_in_channels":32,"sample_size":32,"block_out_channels":[16,16,16]}"#,
        config,
        "at least 32",
    );
    refused(
        r#"{"_class_name":"UNet1DModel","use_timestep_embedding":true,"down_block_types":["DownResnetBlock1D"],"block_out_channels":[32],
            "downsample_each_block":true}"#,
        unsupported,
        "downsample_each_block",
    );
    // Of blocks that halve of their own accord it changes nothing.
    let each = |value: &str| {
        let text = format!(r#"{{"_class_name":"UNet1DModel","extra_in_channels":64,"downsample_each_block":{value}}}"#);
        ModelConfig::from_json(&text).unwrap()
    };
    assert_eq!(each("true"), each("false"));
    // A class of another code base is not taken for diffusers'.
    refused(r#"{"_class_name":"UNet3DConditionModel"}"#, ErrorKind::Unsupported, "GuidedDiffusionUNet");
}

#[test]
fn weights_are_adapted_once_whatever_file_they_come_from() {
    let config = r#"{"_class_name": "denoising_diffusion_pytorch.KarrasUnet", "image_size": 8, "dim": 8, "channels": 2,
        "num_downsamples": 1, "num_blocks_per_stage": 1, "attn_res": [4], "attn_dim_head": 8}"#;
    let graph = ModelConfig::from_json(config).unwrap().build(None).unwrap();
    let scratch = Scratch::new("adapted");
    scratch.write("config.json", config);
    scratch.write("diffusion_pytorch_model.safetensors", seeded_file(&graph, DType::F32, |_| true));
    let source = Source::open(scratch.path()).unwrap();
    let (mut packed, mut as_graph) = (Vec::new(), Vec::new());
    let sink = |to: &mut Vec<u8>, piece: &[u8]| to.extend_from_slice(piece);
    source
        .pack(DType::F32, &mut |p| {
            sink(&mut packed, p);
            Ok(())
        })
        .unwrap();
    source
        .pack_graph(None, DType::F32, &mut |p| {
            sink(&mut as_graph, p);
            Ok(())
        })
        .unwrap();
    let run = |source: &Source<'_>| {
        let pipeline = source.compile(&Reference, &PipelineOptions::default()).unwrap();
        let x = pcg::uniform(INPUT_SEED, 7, 2 * 8 * 8, 1.0);
        let mut out = vec![0.0; x.len()];
        let mut workspace = vec![0.0; pipeline.network().workspace_len(1).unwrap()];
        let inputs: [&[f32]; 2] = [&x, &[0.3]];
        pipeline.network().run(1, &inputs, &mut [&mut out], &mut workspace, &Cancel::new()).unwrap();
        out
    };
    let want = run(&source);
    assert_eq!(run(&Source::from_bytes(&packed).unwrap()), want);
    assert_eq!(run(&Source::from_bytes(&as_graph).unwrap()), want);
}

#[test]
fn a_preconditioning_goes_with_its_model() {
    let config = r#"{"_class_name": "EDMPrecond", "img_resolution": 8, "model_channels": 16, "channel_mult": [1], "num_blocks": 1,
        "attn_resolutions": []}"#;
    let graph = ModelConfig::from_json(config).unwrap().build(None).unwrap();
    let scratch = Scratch::new("preconditioning");
    scratch.write("config.json", config);
    scratch.write("diffusion_pytorch_model.safetensors", seeded_file(&graph, DType::F32, |_| true));
    scratch.write("scheduler_config.json", r#"{"_class_name": "EDMEulerScheduler"}"#);
    scratch.write("preconditioning.json", r#"{"type": "vp", "M": 500, "sigma_max": 90}"#);
    let mut source = Source::open(scratch.path()).unwrap();
    let vp = source.preconditioning().unwrap().unwrap();
    assert_eq!((vp.sigma_max, source.scheduler().unwrap().preconditioning), (Some(90.0), Some(vp)));
    // Another scheduler has it too, and so has one that the caller gives.
    source.set_scheduler_json(r#"{"_class_name": "DDIMScheduler"}"#.into()).unwrap();
    assert_eq!(source.scheduler().unwrap().preconditioning, Some(vp));
    let given = PipelineOptions { scheduler: Some(SchedulerConfig::new(SamplerKind::UniPc)), ..Default::default() };
    assert_eq!(source.compile(&Reference, &given).unwrap().scheduler().unwrap().preconditioning, Some(vp));
    for dtype in [DType::F32, DType::F16] {
        let mut packed = Vec::new();
        source
            .pack(dtype, &mut |p| {
                packed.extend_from_slice(p);
                Ok(())
            })
            .unwrap();
        assert_eq!(Source::from_bytes(&packed).unwrap().scheduler().unwrap().preconditioning, Some(vp));
    }
    source.set_scheduler_json(r#"{"_class_name": "DDIMScheduler", "preconditioning": {"type": "ve"}}"#.into()).unwrap();
    assert!(source.scheduler().unwrap_err().message().contains("expected one"));
    source.set_preconditioning_json(None).unwrap();
    assert_ne!(source.scheduler().unwrap().preconditioning, Some(vp));
    assert!(source.set_preconditioning_json(Some(r#"{"type": "vp2"}"#.into())).is_err());
    scratch.write("preconditioning.json", "{");
    let e = Source::open(scratch.path()).unwrap().scheduler().unwrap_err();
    assert!(e.kind() == ErrorKind::Config && e.message().contains("preconditioning"), "{e}");
}

#[test]
fn attention_of_sequences_has_its_names_in_the_file() {
    let config = r#"{"_class_name": "UNet1DModel", "extra_in_channels": 64, "block_out_channels": [32, 32], "sample_size": 16,
        "down_block_types": ["DownBlock1DNoSkip", "AttnDownBlock1D"], "up_block_types": ["AttnUpBlock1D", "UpBlock1DNoSkip"]}"#;
    let graph = ModelConfig::from_json(config).unwrap().build(None).unwrap();
    let dims: Vec<_> = graph.params().iter().map(|p| (p.name.clone(), p.dims)).collect();
    let old = |name: &str| {
        [(".to_q.", ".query."), (".to_k.", ".key."), (".to_v.", ".value."), (".to_out.0.", ".proj_attn.")]
            .iter()
            .fold(name.to_string(), |n, (new, old)| n.replace(new, old))
    };
    assert!(dims.iter().any(|(n, _)| old(n) == "mid_block.attentions.5.query.weight"));
    let names: Vec<String> = dims.iter().map(|(n, _)| old(n)).collect();
    let tensors: Vec<TensorToWrite<'_>> = names
        .iter()
        .zip(&dims)
        .map(|(name, (_, d))| TensorToWrite { name, dtype: DType::F32, shape: d.as_slice() })
        .collect();
    let mut bytes = Vec::new();
    let mut read = |_: &str, out: &mut [f32]| {
        out.fill(0.1);
        Ok(())
    };
    write_safetensors(&tensors, &Default::default(), &mut read, &mut |b| {
        bytes.extend_from_slice(b);
        Ok(())
    })
    .unwrap();
    let scratch = Scratch::new("sequences");
    scratch.write("config.json", config);
    scratch.write("diffusion_pytorch_model.safetensors", bytes);
    Source::open(scratch.path()).unwrap().graph(None).unwrap();
}

#[test]
fn a_size_is_anything_that_the_levels_divide() {
    let config =
        ModelConfig::from_json(r#"{"_class_name":"denoising_diffusion_pytorch.Unet","dim":8,"dim_mults":[1,2]}"#)
            .unwrap();
    assert!(config.needs_size() && config.build(None).is_err());
    let graph = config.build(Some([6, 10])).unwrap();
    assert_eq!(graph.dims(graph.outputs()[0].value).as_slice(), [3, 6, 10]);
    assert_eq!(config.build_any().unwrap().params(), graph.params());
    assert!(config.build(Some([6, 9])).is_err() && config.build(Some([1 << 20, 2])).is_err());
}
