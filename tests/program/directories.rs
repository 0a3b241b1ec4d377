//! What is found in a directory, and what of it matters: schedulers that nobody asked for, folders of a model alone,
//! several sets of weights beside one another, names that a wrapper made longer, files that are not what they seem.
//! Every advice of an error is followed.

use crate::pcg;
use std::collections::BTreeMap;
use std::path::Path;

use undiffuse::backend::reference::Reference;
use undiffuse::denoiser::{Call, Denoiser};
use undiffuse::graph::Graph;
use undiffuse::model::unet2d::{self, UNet2DConfig};
use undiffuse::pipeline::{Pipeline, PipelineOptions, Source};
use undiffuse::sampler::{SamplerKind, SamplerOptions, Steps};
use undiffuse::schedule::Level;
use undiffuse::tensor::DType;
use undiffuse::{Cancel, Error, ErrorKind, Result};

use crate::scratch::Scratch;
use crate::seeded_file::seeded_file;

const MODEL: &str = r#"{"_class_name":"UNet2DModel","block_out_channels":[8,16],"down_block_types":["DownBlock2D","AttnDownBlock2D"],
    "up_block_types":["AttnUpBlock2D","UpBlock2D"],"norm_num_groups":4,"sample_size":4,"layers_per_block":1}"#;
const DDIM: &str = r#"{"_class_name":"DDIMScheduler","num_train_timesteps":100}"#;
const STEM: &str = "diffusion_pytorch_model";

fn graph() -> Graph {
    let config = UNet2DConfig::from_json(MODEL).unwrap();
    unet2d::build(&config, config.size(None).unwrap()).unwrap()
}

/// The weights that are meant, and others of the same shapes that must not be read in their place.
fn meant() -> Vec<u8> {
    seeded_file(&graph(), DType::F32, |_| true)
}

fn stale() -> Vec<u8> {
    seeded_file(&graph(), DType::BF16, |_| true)
}

/// The header of a safetensors file, and what follows it.
fn split(bytes: &[u8]) -> (serde_json::Map<String, serde_json::Value>, &[u8]) {
    let len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    (serde_json::from_slice(&bytes[8..8 + len]).unwrap(), &bytes[8 + len..])
}

fn joined(header: &serde_json::Map<String, serde_json::Value>, data: &[u8]) -> Vec<u8> {
    let header = serde_json::to_vec(header).unwrap();
    [&(header.len() as u64).to_le_bytes()[..], &header, data].concat()
}

/// The same file with other names.
fn renamed(bytes: &[u8], name: impl Fn(&str) -> String) -> Vec<u8> {
    let (header, data) = split(bytes);
    joined(&header.into_iter().map(|(n, v)| (name(&n), v)).collect(), data)
}

fn compiled(path: impl AsRef<Path>) -> Result<Pipeline> {
    Source::open(path)?.compile(&Reference, &PipelineOptions::default())
}

fn prediction(pipeline: &Pipeline) -> Vec<f32> {
    let n = pipeline.sample_dims().elements();
    let (x, mut out, cancel) = (pcg::uniform(1, 0, n, 1.0), vec![0.0; n], Cancel::new());
    let call = Call { level: Level::variance_preserving(40.0, 0.5), first_sample: 0, cancel: &cancel };
    pipeline.denoiser(1, &[]).unwrap().predict(&call, &x, &mut out).unwrap();
    out
}

/// What the weights that are meant predict, and the others.
fn predictions() -> [Vec<f32>; 2] {
    let made = [meant(), stale()].map(|weights| {
        let dir = Scratch::new("directories");
        dir.write("config.json", MODEL);
        dir.write(&format!("{STEM}.safetensors"), weights);
        prediction(&compiled(dir.path()).unwrap())
    });
    assert_ne!(made[0], made[1]);
    made
}

fn refused(path: impl AsRef<Path>, words: &[&str]) -> Error {
    let e = Source::open(path.as_ref()).err().unwrap_or_else(|| panic!("{} was read", path.as_ref().display()));
    words.iter().for_each(|w| assert!(e.message().contains(w), "{w:?} is not in {e}"));
    e
}

/// A directory of these files.
fn directory(files: &[(&str, &[u8])]) -> Scratch {
    let dir = Scratch::new("directories");
    files.iter().for_each(|(name, bytes)| {
        dir.write(name, bytes);
    });
    dir
}

/// Two shards and their index.
fn sharded(dir: &Scratch, folder: &str, variant: &str, weights: impl Fn(&dyn Fn(&str) -> bool) -> Vec<u8>) {
    let mut map = BTreeMap::new();
    for (number, first) in [(1, true), (2, false)] {
        let name = format!("{STEM}{variant}-0000{number}-of-00002.safetensors");
        let here = |n: &str| n.starts_with("up_blocks") == first;
        dir.write(&format!("{folder}{name}"), weights(&here));
        map.extend(graph().params().iter().filter(|p| here(&p.name)).map(|p| (p.name.clone(), name.clone())));
    }
    let index = serde_json::json!({ "metadata": { "total_size": 1 }, "weight_map": map });
    dir.write(&format!("{folder}{STEM}.safetensors.index{variant}.json"), index.to_string());
}

fn remarks(path: impl AsRef<Path>) -> String {
    Source::open(path).unwrap().remarks().join("; ")
}

#[test]
fn a_scheduler_that_is_not_used_is_not_judged() {
    let [want, _] = predictions();
    let weights = meant();
    let unet: [(&str, &[u8]); 2] =
        [("unet/config.json", MODEL.as_bytes()), ("unet/diffusion_pytorch_model.safetensors", &weights)];
    // The text, whether it is one that a sampler can be made of, and whether DDIM can run in its place.
    for (scheduler, own, ddim) in [
        (DDIM, true, true),
        (r#"{"_class_name":"PNDMScheduler","num_train_timesteps":100,"skip_prk_steps":false}"#, true, true),
        (r#"{"_class_name":"EulerDiscreteScheduler","num_train_timesteps":100}"#, true, true),
        (r#"{"_class_name":"UniPCMultistepScheduler","num_train_timesteps":100}"#, true, true),
        (r#"{"_class_name":"NoSuchScheduler"}"#, false, false),
        (r#"{"_class_name":"DDIMScheduler","no_such_key":1}"#, false, false),
        ("{", false, false),
        ("<html>", false, false),
    ] {
        let dir = directory(&unet);
        dir.write("scheduler/scheduler_config.json", scheduler);
        let mut source = Source::open(dir.path()).unwrap();
        let pipeline = source.compile(&Reference, &PipelineOptions::default()).unwrap();
        assert_eq!(prediction(&pipeline), want, "{scheduler}");
        if let Err(e) = pipeline.sampler(&SamplerOptions::default()) {
            assert!(!own, "{scheduler}: {e}");
            assert!(e.message().contains("scheduler_config.json"), "{e}");
        }
        let wanted = SamplerOptions { sampler: Some(SamplerKind::Ddim), steps: Steps::Count(5), ..Default::default() };
        match pipeline.sampler(&wanted) {
            Ok(sampler) => assert!(ddim && sampler.name() == "DDIM" && sampler.levels().len() == 5, "{scheduler}"),
            Err(e) => assert!(!ddim, "{scheduler}: {e}"),
        }
        assert!(pipeline.scheduler_json().is_some() && source.scheduler_json() == Some(scheduler));

        // What takes its place is all that is read.
        source.set_scheduler_json(DDIM.into()).unwrap();
        let pipeline = source.compile(&Reference, &PipelineOptions::default()).unwrap();
        assert_eq!(pipeline.sampler(&wanted).unwrap().name(), "DDIM");
        assert_eq!(source.set_scheduler_json("{} {}".into()).unwrap_err().kind(), ErrorKind::Config);

        // And a packed file keeps it as it is.
        let source = Source::open(dir.path()).unwrap();
        let mut packed = Vec::new();
        let sink = &mut |b: &[u8]| {
            packed.extend_from_slice(b);
            Ok(())
        };
        source.pack(DType::F32, sink).unwrap();
        let again = Source::from_bytes(&packed).unwrap();
        assert_eq!(again.scheduler_json(), Some(scheduler));
        assert_eq!(prediction(&again.compile(&Reference, &PipelineOptions::default()).unwrap()), want);
    }
}

#[test]
fn every_scheduler_file_of_diffusers_leaves_the_network_usable() {
    let [want, _] = predictions();
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/scheduler_configs.json")).unwrap();
    let cases: serde_json::Value = serde_json::from_str(&text).unwrap();
    let files: Vec<&str> = cases.as_array().unwrap().iter().map(|c| c["file"].as_str().unwrap()).collect();
    assert!(files.len() > 100);
    let dir = directory(&[("config.json", MODEL.as_bytes()), ("model.safetensors", &meant())]);
    for file in files {
        dir.write("scheduler_config.json", file);
        let mut source = Source::open(dir.path()).unwrap();
        assert_eq!(source.scheduler_json(), Some(file));
        // Python's words for numbers are JSON here too.
        source.set_scheduler_json(file.into()).unwrap();
        assert_eq!(prediction(&source.compile(&Reference, &PipelineOptions::default()).unwrap()), want, "{file}");
    }
}

#[test]
fn a_model_alone_is_found_in_every_folder_that_holds_one() {
    let [want, other] = predictions();
    let (meant, stale) = (meant(), stale());
    let files = |folder: &str, weights: &[u8]| {
        let name = |file: &str| format!("{folder}{file}");
        [
            (name("config.json"), MODEL.as_bytes().to_vec()),
            (name("diffusion_pytorch_model.safetensors"), weights.to_vec()),
        ]
    };
    // unet.save_pretrained
    let dir = Scratch::new("directories");
    let write = |(name, bytes): (String, Vec<u8>)| {
        dir.write(&name, bytes);
    };
    files("lone/", &meant).into_iter().for_each(write);
    // accelerate, with an average of the weights and its optimizer's state beside
    files("checkpoint-500/unet/", &meant).into_iter().for_each(write);
    files("checkpoint-500/unet_ema/", &stale).into_iter().for_each(write);
    dir.write("checkpoint-500/optimizer.bin", b"PK\x03\x04");
    files("averaged/unet_ema/", &meant).into_iter().for_each(write);
    files("pipeline/unet/", &meant).into_iter().for_each(write);
    dir.write("pipeline/scheduler/scheduler_config.json", DDIM);
    dir.write(
        "pipeline/model_index.json",
        r#"{"unet":["diffusers","UNet2DModel"],"scheduler":["diffusers","DDIMScheduler"]}"#,
    );
    let at = |path: &str| dir.path().join(path);
    for (path, right, has_scheduler) in [
        ("lone", &want, false),
        ("lone/diffusion_pytorch_model.safetensors", &want, false),
        ("checkpoint-500", &want, false),
        ("checkpoint-500/unet", &want, false),
        ("checkpoint-500/unet_ema", &other, false),
        ("averaged", &want, false),
        ("pipeline", &want, true),
        ("pipeline/unet", &want, true),
        ("pipeline/unet/diffusion_pytorch_model.safetensors", &want, true),
    ] {
        let pipeline = compiled(at(path)).unwrap();
        assert_eq!(&prediction(&pipeline), right, "{path}");
        assert_eq!(pipeline.scheduler_json().is_some(), has_scheduler, "{path}");
        match pipeline.sampler(&SamplerOptions::default()) {
            Ok(_) => assert!(has_scheduler),
            Err(e) => assert!(e.kind() == ErrorKind::Config && e.message().contains("one must be given"), "{e}"),
        }
        let source = Source::open(at(path)).unwrap();
        assert_eq!(source.files().len(), 2 + usize::from(has_scheduler), "{path}");
        assert!(source.files().iter().all(|f| Path::new(f).is_file()));
    }
    assert!(remarks(at("checkpoint-500")).contains("unet_ema is not read"));
    assert_eq!(remarks(at("lone")), "");

    // A part that is not known, or not there, bars the whole, but not the network in it.
    let unet = at("pipeline/unet");
    for (part, kind) in [("movq", ErrorKind::Unsupported), ("vqvae", ErrorKind::Io)] {
        let index = format!(r#"{{"unet":["diffusers","UNet2DModel"],"{part}":["diffusers","VQModel"]}}"#);
        dir.write("pipeline/model_index.json", index);
        let e = refused(at("pipeline"), &[part, &unet.display().to_string()]);
        assert_eq!(e.kind(), kind);
    }
    assert_eq!(prediction(&compiled(unet).unwrap()), want);

    // A scheduler of each layout: the one that goes with the model's is read.
    dir.write("pipeline/model_index.json", "{}");
    dir.write("pipeline/scheduler_config.json", "{}");
    assert!(Source::open(at("pipeline")).unwrap().scheduler_json().is_some_and(|s| s == DDIM));
    assert!(remarks(at("pipeline")).contains("scheduler_config.json is not read"));
}

#[test]
fn an_index_goes_before_a_file_beside_it() {
    let [want, _] = predictions();
    let part = |dtype| move |here: &dyn Fn(&str) -> bool| seeded_file(&graph(), dtype, here);
    let plain = format!("{STEM}.safetensors");
    let index = format!("{STEM}.safetensors.index.json");
    let shard = |n: usize| format!("{STEM}-0000{n}-of-00002.safetensors");

    // One file, then shards: the file is stale.
    let dir = directory(&[("config.json", MODEL.as_bytes()), (&plain, &stale())]);
    sharded(&dir, "", "", part(DType::F32));
    assert_eq!(prediction(&compiled(dir.path()).unwrap()), want);
    assert!(remarks(dir.path()).contains(&format!("{plain} is not read: {index} is followed")));
    assert!(Source::open(dir.path()).unwrap().files().last().unwrap().ends_with(&index));

    // A shard is missing: it cannot be known which is meant, and what is asked for by name is read.
    std::fs::remove_file(dir.path().join(shard(1))).unwrap();
    dir.write(&plain, meant());
    let path = dir.path().join(&plain);
    let e = refused(dir.path(), &[&index, &shard(1), "2 files", "1 are missing", &path.display().to_string()]);
    assert_eq!(e.kind(), ErrorKind::Io);
    assert_eq!(prediction(&compiled(&path).unwrap()), want);

    // Shards, then one file: save_pretrained deletes them and leaves their index.
    std::fs::remove_file(dir.path().join(shard(2))).unwrap();
    assert_eq!(prediction(&compiled(dir.path()).unwrap()), want);
    assert!(remarks(dir.path()).contains(&format!("{index} is not followed")));
    std::fs::remove_file(&path).unwrap();
    assert!(!refused(dir.path(), &[&index, "2 are missing", &shard(2)]).message().contains("its path"));

    // The index by name; shards without an index are nobody's.
    sharded(&dir, "", "", part(DType::F32));
    assert_eq!(prediction(&compiled(dir.path().join(&index)).unwrap()), want);
    std::fs::remove_file(dir.path().join(&index)).unwrap();
    refused(dir.path(), &["no weights"]);
}

#[test]
fn a_variant_is_read_where_it_is_the_only_one_or_named() {
    let [want, other] = predictions();
    let part = |here: &dyn Fn(&str) -> bool| seeded_file(&graph(), DType::F32, here);
    let (plain, half, ema) =
        (format!("{STEM}.safetensors"), format!("{STEM}.fp16.safetensors"), format!("{STEM}.non_ema.safetensors"));
    let config: (&str, &[u8]) = ("config.json", MODEL.as_bytes());

    let dir = directory(&[config, (&half, &meant())]);
    assert_eq!(prediction(&compiled(dir.path()).unwrap()), want);
    // As diffusers does, the one without a variant before the others.
    dir.write(&plain, stale());
    assert_eq!(prediction(&compiled(dir.path()).unwrap()), other);
    assert!(remarks(dir.path()).contains(&format!("{half} is not read: {plain} is")));
    assert_eq!(prediction(&compiled(dir.path().join(&half)).unwrap()), want);

    let dir = directory(&[config, (&half, &meant()), (&ema, &stale())]);
    refused(dir.path(), &[&half, &ema, "give the path"]);
    assert_eq!(prediction(&compiled(dir.path().join(&half)).unwrap()), want);
    assert_eq!(prediction(&compiled(dir.path().join(&ema)).unwrap()), other);

    let dir = directory(&[config]);
    sharded(&dir, "", ".fp16", part);
    assert_eq!(prediction(&compiled(dir.path()).unwrap()), want);
    assert!(Source::open(dir.path()).unwrap().files().last().unwrap().ends_with(".index.fp16.json"));
    // A stale file of the same variant.
    dir.write(&half, stale());
    assert_eq!(prediction(&compiled(dir.path()).unwrap()), want);
    assert!(remarks(dir.path()).contains(&half));
}

#[test]
fn a_packed_file_in_a_directory_is_a_model_of_its_own() {
    let [want, other] = predictions();
    let pack = |weights: &[u8]| {
        let dir = directory(&[("config.json", MODEL.as_bytes()), ("model.safetensors", weights)]);
        let mut packed = Vec::new();
        Source::open(dir.path())
            .unwrap()
            .pack(DType::F32, &mut |b| {
                packed.extend_from_slice(b);
                Ok(())
            })
            .unwrap();
        packed
    };
    let dir = directory(&[("packed.safetensors", &pack(&meant()))]);
    let path = dir.path().join("packed.safetensors");
    for config in ["", "config.json"] {
        if !config.is_empty() {
            dir.write(config, MODEL);
        }
        refused(dir.path(), &["packed file", &path.display().to_string()]);
        assert_eq!(prediction(&compiled(&path).unwrap()), want);
    }
    dir.write("weights.safetensors", stale());
    assert_eq!(prediction(&compiled(dir.path()).unwrap()), other);
    assert!(remarks(dir.path()).contains("packed.safetensors is not read"));
    // Under diffusers' own name it would be taken for the directory's weights.
    let main = format!("{STEM}.safetensors");
    dir.write(&main, pack(&meant()));
    refused(dir.path(), &[&main, "packed file"]);
    assert_eq!(prediction(&compiled(dir.path().join(&main)).unwrap()), want);
}

#[test]
fn two_models_in_one_directory_are_told_apart() {
    let [want, other] = predictions();
    let dir = directory(&[
        ("config.json", MODEL.as_bytes()),
        ("diffusion_pytorch_model.safetensors", &stale()),
        ("unet/config.json", MODEL.as_bytes()),
        ("unet/diffusion_pytorch_model.safetensors", &meant()),
    ]);
    let unet = dir.path().join("unet");
    refused(dir.path(), &["another in unet/", &unet.display().to_string(), "path of the weights"]);
    assert_eq!(prediction(&compiled(&unet).unwrap()), want);
    let flat = dir.path().join("diffusion_pytorch_model.safetensors");
    assert_eq!(prediction(&compiled(&flat).unwrap()), other);
    // A pipeline says that the parts are its own.
    dir.write("model_index.json", r#"{"unet":["diffusers","UNet2DModel"],"scheduler":["diffusers","DDPMScheduler"]}"#);
    assert_eq!(prediction(&compiled(dir.path()).unwrap()), want);
    assert!(remarks(dir.path()).contains("config.json is not read"));
    // A configuration without weights is of something else.
    std::fs::remove_file(dir.path().join("model_index.json")).unwrap();
    std::fs::remove_file(&flat).unwrap();
    assert_eq!(prediction(&compiled(dir.path()).unwrap()), want);
}

#[test]
fn what_a_wrapper_put_before_every_name_is_taken_off() {
    let [want, _] = predictions();
    let weights = meant();
    let dir = directory(&[("config.json", MODEL.as_bytes())]);
    let file = format!("{STEM}.safetensors");
    for prefix in [
        "module.",
        "_orig_mod.",
        "model.",
        "ema_model.",
        "unet.",
        "module._orig_mod.",
        "_orig_mod.module.",
        "ema_model.module.model.",
    ] {
        dir.write(&file, renamed(&weights, |n| format!("{prefix}{n}")));
        assert_eq!(prediction(&compiled(dir.path()).unwrap()), want, "{prefix}");
        assert!(remarks(dir.path()).contains(&format!("{prefix:?}")), "{prefix}: {}", remarks(dir.path()));
    }
    // In shards as well, whose index has the long names.
    std::fs::remove_file(dir.path().join(&file)).unwrap();
    sharded(&dir, "", "", |here| seeded_file(&graph(), DType::F32, here));
    for n in [1, 2] {
        let shard = dir.path().join(format!("{STEM}-0000{n}-of-00002.safetensors"));
        let bytes = std::fs::read(&shard).unwrap();
        std::fs::write(&shard, renamed(&bytes, |n| format!("module.{n}"))).unwrap();
    }
    let index = dir.path().join(format!("{STEM}.safetensors.index.json"));
    let text = std::fs::read_to_string(&index).unwrap();
    let mut text: serde_json::Value = serde_json::from_str(&text).unwrap();
    let map = text["weight_map"].as_object().unwrap();
    let map = map.iter().map(|(k, v)| (format!("module.{k}"), v.clone())).collect();
    text["weight_map"] = serde_json::Value::Object(map);
    std::fs::write(&index, text.to_string()).unwrap();
    assert_eq!(prediction(&compiled(dir.path()).unwrap()), want);

    // Where not all have it, nothing is taken off.
    let dir = directory(&[("config.json", MODEL.as_bytes())]);
    dir.write(&file, renamed(&weights, |n| if n.starts_with("conv_in") { n.into() } else { format!("module.{n}") }));
    let e = compiled(dir.path()).err().unwrap();
    assert!(e.kind() == ErrorKind::Weights && e.message().contains("module."), "{e}");
    // A model and its average in one file: which of them is not known.
    let (mut header, data) = split(&weights);
    let doubled: Vec<(String, serde_json::Value)> = header
        .iter()
        .flat_map(|(name, entry)| {
            let mut second = entry.clone();
            for end in second["data_offsets"].as_array_mut().unwrap() {
                *end = (end.as_u64().unwrap() + data.len() as u64).into();
            }
            [(format!("model.{name}"), entry.clone()), (format!("ema_model.{name}"), second)]
        })
        .collect();
    header = doubled.into_iter().collect();
    let count = graph().params().len();
    dir.write(&file, joined(&header, &[data, data].concat()));
    refused(dir.path(), &[&format!("{count} tensors under \"model.\""), "\"ema_model.\""]);
    dir.write(&file, renamed(&weights, |n| format!("ema_model.{n}")));
    assert_eq!(prediction(&compiled(dir.path()).unwrap()), want);
}

#[test]
fn a_file_that_is_something_else_is_called_what_it_is() {
    const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/v1\noid sha256:4665a8\nsize 142\n";
    const PAGE: &[u8] = b"<!DOCTYPE html>\n<html><head></head></html>";
    let [want, _] = predictions();
    let file = "diffusion_pytorch_model.safetensors";
    let dir = directory(&[("config.json", MODEL.as_bytes())]);
    for (bytes, word) in
        [(POINTER, "Git LFS pointer"), (PAGE, "web page"), (b"GGUF\x03\0\0\0\0", "GGUF"), (b"{\"a\":1}\n\n\n", "JSON")]
    {
        dir.write(file, bytes);
        let e = refused(dir.path(), &[word, file]);
        assert_eq!(e.kind(), ErrorKind::Weights);
    }
    dir.write(file, meant());
    for (bytes, word) in [(POINTER, "Git LFS pointer"), (PAGE, "web page")] {
        dir.write("config.json", bytes);
        let e = refused(dir.path(), &[word]);
        assert_eq!(e.kind(), ErrorKind::Config);
    }
    // The files themselves in their place.
    dir.write("config.json", MODEL);
    assert_eq!(prediction(&compiled(dir.path()).unwrap()), want);
}

#[test]
fn headers_as_other_writers_have_them() {
    let [want, _] = predictions();
    let weights = meant();
    let file = format!("{STEM}.safetensors");
    let dir = directory(&[("config.json", MODEL.as_bytes())]);
    let (header, data) = split(&weights);
    let text = serde_json::to_string(&header).unwrap();
    let with_null = text.replacen('{', "{\"__metadata__\":null,", 1);
    for text in [with_null, format!("  \n{text}"), format!("{text}      ")] {
        dir.write(&file, [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), data].concat());
        assert_eq!(prediction(&compiled(dir.path()).unwrap()), want);
    }
}
