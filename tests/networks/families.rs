//! Networks of other code bases from a directory of files to samples, as their users have them.

use crate::golden;
use crate::pcg;
use crate::scratch::Scratch;
use crate::seeded_file::seeded_file;
use serde_json::Value;
use undiffuse::ErrorKind;
use undiffuse::backend::Backend;
use undiffuse::backend::cpu::{Cpu, CpuOptions};
use undiffuse::backend::reference::Reference;
use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::denoiser::Conditions;
use undiffuse::model::ModelConfig;
use undiffuse::noise::Given;
use undiffuse::pipeline::{PipelineOptions, Source};
use undiffuse::sampler::{SamplerOptions, Steps};
use undiffuse::tensor::DType;

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
            Value::Array(all) => vec![all[0].as_f64().unwrap() as f32],
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
    // A class of another code base is not taken for diffusers'.
    refused(r#"{"_class_name":"UNet3DConditionModel"}"#, ErrorKind::Unsupported, "GuidedDiffusionUNet");
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
