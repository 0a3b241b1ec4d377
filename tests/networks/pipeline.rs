//! From a directory, a file or bytes to predictions.

use crate::pcg;
use undiffuse::backend::cpu::{Cpu, CpuOptions};
use undiffuse::backend::reference::Reference;
use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::denoiser::{Call, Denoiser, NetworkDenoiser};
use undiffuse::graph::Graph;
use undiffuse::model::unet2d::{self, UNet2DConfig};
use undiffuse::noise::Seeded;
use undiffuse::pipeline::{Gradient, Pipeline, PipelineOptions, Source};
use undiffuse::sampler::{SamplerKind, SamplerOptions, SchedulerConfig, Steps};
use undiffuse::schedule::Level;
use undiffuse::tensor::DType;
use undiffuse::{Cancel, ErrorKind};

use crate::scratch::Scratch;
use crate::seeded_file::seeded_file;

const MODEL: &str = r#"{"_class_name":"UNetUnconditionalModel","block_out_channels":[8,16],
    "down_block_types":["DownBlock2D","AttnDownBlock2D"],"up_block_types":["AttnUpBlock2D","UpBlock2D"],
    "norm_num_groups":4,"sample_size":8,"layers_per_block":1}"#;
const SCHEDULER: &str = r#"{"_class_name":"DDIMScheduler","num_train_timesteps":100}"#;

fn graph(model: &str) -> Graph {
    let config = UNet2DConfig::from_json(model).unwrap();
    unet2d::build(&config, config.size(None).unwrap()).unwrap()
}

/// A class model, with a table of five.
fn class_model() -> String {
    MODEL.replacen('{', r#"{"num_class_embeds":5,"#, 1)
}

fn nested(model: &str, dtype: DType) -> Scratch {
    let scratch = Scratch::new("pipeline");
    scratch.write("unet/config.json", model);
    scratch.write("unet/diffusion_pytorch_model.safetensors", seeded_file(&graph(model), dtype, |_| true));
    scratch.write("scheduler/scheduler_config.json", SCHEDULER);
    scratch
}

fn pack(source: &Source<'_>, dtype: DType) -> Vec<u8> {
    let mut bytes = Vec::new();
    source
        .pack(dtype, &mut |b| {
            bytes.extend_from_slice(b);
            Ok(())
        })
        .unwrap();
    bytes
}

/// Predicts three images, numbered from `first_sample`, in calls of `batch`.
fn predict(pipeline: &Pipeline, batch: usize, classes: &[f32], first_sample: u64) -> Vec<f32> {
    let mut denoiser = pipeline.denoiser(batch, classes).unwrap();
    let n = pipeline.sample_dims().elements();
    let x = pcg::uniform(1, 0, 3 * n, 1.0);
    let mut out = vec![0.0; 3 * n];
    let cancel = Cancel::new();
    for (i, (x, out)) in x.chunks(batch * n).zip(out.chunks_mut(batch * n)).enumerate() {
        let first_sample = first_sample + (i * batch) as u64;
        let call = Call { level: Level::variance_preserving(40.0, 0.5), first_sample, cancel: &cancel };
        denoiser.predict(&call, x, out).unwrap();
    }
    out
}

fn worst(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn directories_packed_files_and_bytes_predict_the_same() {
    let cpu = Cpu::new().unwrap();
    let options = PipelineOptions::default();
    let dir = nested(MODEL, DType::F32);
    let from_dir = Pipeline::open(dir.path(), &cpu, &options).unwrap();
    let want = predict(&from_dir, 3, &[], 0);
    assert!(worst(&want, &predict(&Pipeline::open(dir.path(), &Reference, &options).unwrap(), 3, &[], 0)) < 1e-5);
    assert_eq!(from_dir.parameter_count(), graph(MODEL).parameter_count());

    let packed = pack(&Source::open(dir.path()).unwrap(), DType::F32);
    assert_eq!(packed, pack(&Source::from_bytes(&packed).unwrap(), DType::F32), "packing again changes nothing");
    let from_bytes = Pipeline::from_bytes(&packed, &cpu, &options).unwrap();
    assert_eq!(want, predict(&from_bytes, 3, &[], 0));
    assert_eq!(from_dir.fingerprint(), from_bytes.fingerprint());
    let file = dir.write("model.safetensors", &packed);
    assert_eq!(want, predict(&Pipeline::open(file, &cpu, &options).unwrap(), 3, &[], 0));

    for (dtype, bound) in [(DType::F16, 5e-3), (DType::BF16, 5e-2)] {
        let small = pack(&Source::open(dir.path()).unwrap(), dtype);
        assert!(small.len() < packed.len() * 6 / 10);
        let rounded = Pipeline::from_bytes(&small, &cpu, &options).unwrap();
        let difference = worst(&want, &predict(&rounded, 3, &[], 0));
        assert!(difference > 0.0 && difference < bound, "{dtype}: {difference}");
        assert_ne!(rounded.fingerprint(), from_dir.fingerprint());
    }
}

#[test]
fn flat_sharded_and_legacy_weights_predict_the_same() {
    let cpu = Cpu::new().unwrap();
    let options = PipelineOptions::default();
    let dir = nested(MODEL, DType::F32);
    let want = predict(&Pipeline::open(dir.path(), &cpu, &options).unwrap(), 3, &[], 0);

    let graph = graph(MODEL);
    let flat = Scratch::new("sharded");
    flat.write("config.json", MODEL);
    flat.write("scheduler_config.json", SCHEDULER);
    let mut index = serde_json::Map::new();
    for (number, first) in [(1, true), (2, false)] {
        let name = format!("diffusion_pytorch_model-0000{number}-of-00002.safetensors");
        let here = |n: &str| n.starts_with("up_blocks") == first;
        flat.write(&name, seeded_file(&graph, DType::F32, here));
        graph.params().iter().filter(|p| here(&p.name)).for_each(|p| {
            index.insert(p.name.clone(), name.clone().into());
        });
    }
    let index = serde_json::json!({ "metadata": {}, "weight_map": index });
    flat.write("diffusion_pytorch_model.safetensors.index.json", index.to_string());
    assert_eq!(want, predict(&Pipeline::open(flat.path(), &cpu, &options).unwrap(), 3, &[], 0));

    // The header's text holds the names; the old ones have other lengths, so the file is written anew around them.
    let bytes = seeded_file(&graph, DType::F32, |_| true);
    let header_len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header = String::from_utf8(bytes[8..8 + header_len].to_vec()).unwrap();
    for (new, old) in [("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")] {
        assert!(header.contains(new));
        header = header.replace(new, old);
    }
    let mut legacy = (header.len() as u64).to_le_bytes().to_vec();
    legacy.extend_from_slice(header.as_bytes());
    legacy.extend_from_slice(&bytes[8 + header_len..]);
    dir.write("unet/diffusion_pytorch_model.safetensors", legacy);
    assert_eq!(want, predict(&Pipeline::open(dir.path(), &cpu, &options).unwrap(), 3, &[], 0));
}

#[test]
fn a_class_belongs_to_a_sample_and_not_to_a_batch() {
    let model = class_model();
    let dir = nested(&model, DType::F32);
    let pipeline = Pipeline::open(dir.path(), &Cpu::new().unwrap(), &PipelineOptions::default()).unwrap();
    let classes = [0.0, 4.0];
    let whole = predict(&pipeline, 3, &classes, 10);
    assert_eq!(whole, predict(&pipeline, 1, &classes, 10));
    assert_eq!(whole, predict(&pipeline, 2, &classes, 10));
    let n = pipeline.sample_dims().elements();
    // Sample 10 has entry 0, sample 11 entry 1, sample 12 entry 0.
    let all_0 = predict(&pipeline, 3, &[0.0], 10);
    assert_eq!(whole[..n], all_0[..n]);
    assert_ne!(whole[n..2 * n], all_0[n..2 * n]);
    assert_eq!(whole[2 * n..], all_0[2 * n..]);

    let refused = |classes: &[f32]| pipeline.denoiser(1, classes).err().unwrap();
    for classes in [&[5.0][..], &[-1.0], &[0.5], &[f32::NAN], &[1.0, f32::INFINITY]] {
        assert!(refused(classes).message().contains("0 to 4"), "{classes:?}");
    }
    assert!(refused(&[]).message().contains("class model"));
    let dir = nested(MODEL, DType::F32);
    let plain = Pipeline::open(dir.path(), &Reference, &PipelineOptions::default()).unwrap();
    assert!(plain.denoiser(1, &[0.0]).err().unwrap().message().contains("takes none"));
}

#[test]
fn memory_is_known_before_and_bounded() {
    let dir = nested(MODEL, DType::F32);
    let pipeline = Pipeline::open(dir.path(), &Cpu::new().unwrap(), &PipelineOptions::default()).unwrap();
    let values = pipeline.workspace_bytes(2).unwrap() / 4;
    let networks = pipeline.networks();
    let mut memory = vec![0.0; values];
    let e = NetworkDenoiser::in_memory(networks.clone(), 2, &[], &mut memory[1..]).err().unwrap();
    assert_eq!(e.kind(), ErrorKind::OutOfMemory);
    assert!(e.message().contains(&values.to_string()), "{e}");
    let mut denoiser = NetworkDenoiser::in_memory(networks.clone(), 2, &[], memory.as_mut_slice()).unwrap();

    let n = pipeline.sample_dims().elements();
    let x = pcg::uniform(1, 0, 3 * n, 1.0);
    let cancel = Cancel::new();
    let call = Call { level: Level::variance_preserving(40.0, 0.5), first_sample: 0, cancel: &cancel };
    let mut out = vec![0.0; 2 * n];
    denoiser.predict(&call, &x[..2 * n], &mut out).unwrap();
    assert_eq!(out, predict(&pipeline, 3, &[], 0)[..2 * n]);
    let e = denoiser.predict(&call, &x, &mut vec![0.0; 3 * n]).unwrap_err();
    assert!(e.message().contains("3 samples, expected 1 to 2"), "{e}");
    assert!(denoiser.predict(&call, &[], &mut []).is_err());
    assert_eq!(denoiser.predict(&call, &x[..n], &mut out).unwrap_err().kind(), ErrorKind::Shape);
    cancel.cancel();
    assert_eq!(denoiser.predict(&call, &x[..2 * n], &mut out).unwrap_err().kind(), ErrorKind::Cancelled);

    assert_eq!(pipeline.denoiser(0, &[]).err().unwrap().kind(), ErrorKind::InvalidArgument);
    assert!(pipeline.workspace_bytes(usize::MAX).is_err());
    assert!(pipeline.denoiser(usize::MAX / 2, &[]).is_err());
}

#[test]
fn what_a_source_lacks_is_named() {
    let options = PipelineOptions::default();
    let dir = nested(MODEL, DType::F32);
    std::fs::remove_file(dir.path().join("scheduler/scheduler_config.json")).unwrap();
    let source = Source::open(dir.path()).unwrap();
    // Only a sampler needs it.
    let alone = source.compile(&Reference, &options).unwrap();
    let e = alone.sampler(&SamplerOptions::default()).err().unwrap();
    assert!(e.message().contains("scheduler_config.json"), "{e}");
    assert_eq!((alone.scheduler_json(), predict(&alone, 1, &[], 0).len()), (None, 3 * 192));
    let packed = pack(&source, DType::F32);
    assert!(Source::from_bytes(&packed).unwrap().scheduler_json().is_none());
    let given = PipelineOptions { scheduler: Some(SchedulerConfig::new(SamplerKind::Ddpm)), ..Default::default() };
    let pipeline = source.compile(&Reference, &given).unwrap();
    assert_eq!(pipeline.sampler(&SamplerOptions::default()).unwrap().name(), "DDPM");

    let other_size = PipelineOptions { size: Some([12, 8]), ..given.clone() };
    assert_eq!(source.compile(&Reference, &other_size).unwrap().sample_dims().as_slice(), [3, 12, 8]);
    let odd = PipelineOptions { size: Some([9, 8]), ..given };
    assert!(source.compile(&Reference, &odd).err().unwrap().message().contains("9 x 8"));

    let dir = nested(MODEL, DType::F32);
    let weights = "unet/diffusion_pytorch_model.safetensors";
    dir.write(weights, seeded_file(&graph(MODEL), DType::F32, |n| !n.contains("mid_block.resnets.1")));
    let e = Pipeline::open(dir.path(), &Reference, &options).err().unwrap();
    assert_eq!(e.kind(), ErrorKind::Weights);
    assert!(e.message().contains("mid_block.resnets.1.norm1.weight"), "{e}");
    dir.write("unet/config.json", MODEL.replace("\"layers_per_block\":1", "\"layers_per_block\":3"));
    assert!(Pipeline::open(dir.path(), &Reference, &options).err().unwrap().message().contains("missing"));
    dir.write("unet/config.json", MODEL.replace("sample_size", "sampel_size"));
    let e = Pipeline::open(dir.path(), &Reference, &options).err().unwrap();
    assert!(e.message().contains("sampel_size"), "{e}");

    // A NaN in one weight is found when the weights are read, by either backend.
    let mut bytes = seeded_file(&graph(MODEL), DType::F32, |_| true);
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    dir.write("unet/config.json", MODEL);
    dir.write(weights, &bytes);
    let last = graph(MODEL).params().iter().map(|p| p.name.clone()).max().unwrap();
    for e in [
        Pipeline::open(dir.path(), &Reference, &options).err().unwrap(),
        Pipeline::open(dir.path(), &Cpu::new().unwrap(), &options).err().unwrap(),
    ] {
        assert_eq!(e.kind(), ErrorKind::Weights);
        assert!(e.message().contains(&last) && e.message().contains("NaN"), "{e}");
    }
    std::fs::remove_file(dir.path().join("unet/config.json")).unwrap();
    let e = Source::open(dir.path().join(weights)).err().unwrap();
    assert!(e.message().contains("undiffuse pack"), "{e}");
}

/// Samples `first .. first + count`, made in batches.
fn sampled(pipeline: &Pipeline, eta: f64, first: u64, count: usize, batch: usize) -> Vec<f32> {
    let options = SamplerOptions { steps: Steps::Count(6), eta, ..Default::default() };
    let mut images = Vec::new();
    for start in (0..count).step_by(batch) {
        let batch = batch.min(count - start);
        let options = (pipeline.sampler(&options).unwrap(), ChainOptions { batch, first_sample: first + start as u64 });
        let denoiser = pipeline.denoiser(batch, &[1.0, 0.0, 3.0]).unwrap();
        let mut chain = Chain::new(denoiser, options.0, Seeded::new(9), &options.1).unwrap();
        chain.run().unwrap();
        images.extend_from_slice(chain.x());
    }
    images
}

#[test]
fn images_are_the_same_bits_for_any_batch_shard_and_number_of_threads() {
    let dir = nested(&class_model(), DType::F16);
    let open = |threads| {
        let cpu = Cpu::with_options(CpuOptions { threads: Some(threads), ..Default::default() }).unwrap();
        Pipeline::open(dir.path(), &cpu, &PipelineOptions::default()).unwrap()
    };
    let (one, two) = (open(1), open(2));
    for eta in [0.0, 1.0] {
        let whole = sampled(&one, eta, 0, 16, 16);
        assert!(whole.iter().all(|v| v.is_finite()) && whole[..192] != whole[192..384]);
        assert_eq!(whole, sampled(&one, eta, 0, 16, 1), "16 times batch 1");
        assert_eq!(whole, sampled(&two, eta, 0, 16, 16), "2 threads");
        assert_eq!(whole, sampled(&two, eta, 0, 16, 5), "batches of 5 and a rest");
        let shards = [sampled(&two, eta, 0, 6, 4), sampled(&one, eta, 6, 10, 4)].concat();
        assert_eq!(whole, shards, "two shards");
    }
}

#[test]
fn gradients_are_there_when_asked_for() {
    let dir = nested(MODEL, DType::F32);
    let source = Source::open(dir.path()).unwrap();
    let without = source.compile(&Reference, &PipelineOptions::default()).unwrap();
    let with = source.compile(&Reference, &PipelineOptions { gradient: Gradient::Full, ..Default::default() }).unwrap();
    assert_eq!(with.weight_bytes(), 2 * without.weight_bytes());
    assert!(with.workspace_bytes(2).unwrap() > without.workspace_bytes(2).unwrap());
    assert_eq!(with.fingerprint(), without.fingerprint());
    assert_eq!(predict(&with, 2, &[], 0), predict(&without, 2, &[], 0));

    let n = with.sample_dims().elements();
    let cancel = Cancel::new();
    let call = Call { level: Level::variance_preserving(40.0, 0.5), first_sample: 0, cancel: &cancel };
    let (x, v, mut out) = (pcg::uniform(1, 0, n, 1.0), pcg::uniform(1, 1, n, 1.0), vec![0.0; n]);
    let mut denoiser = with.denoiser(1, &[]).unwrap();
    assert!(denoiser.has_vjp());
    denoiser.vjp(&call, &x, &v, &mut out).unwrap();
    assert!(out.iter().all(|v| v.is_finite()) && out.iter().any(|&v| v != 0.0));
    let mut denoiser = without.denoiser(1, &[]).unwrap();
    assert!(!denoiser.has_vjp());
    assert_eq!(denoiser.vjp(&call, &x, &v, &mut out).unwrap_err().kind(), ErrorKind::Unsupported);
}
