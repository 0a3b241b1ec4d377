//! Malformed weights and configurations: each is an error that names the thing, and nothing panics.

use std::collections::BTreeMap;

use proptest::prelude::*;
use undiffuse::ErrorKind;
use undiffuse::graph::{Graph, GraphBuilder};
use undiffuse::model::ModelConfig;
use undiffuse::model::unet2d::{self, UNet2DConfig};
use undiffuse::tensor::DType;
use undiffuse::weights::{
    DiffusersNames, SafeTensorsFile, SafeTensorsView, ShardedFiles, TensorToWrite, WeightSource, check_params,
    diffusers, packed, write_safetensors,
};

use crate::scratch::Scratch;

/// A safetensors file with this header and this much data.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

fn written(tensors: &[(&str, &[usize])], value: f32) -> Vec<u8> {
    let tensors: Vec<_> =
        tensors.iter().map(|&(name, shape)| TensorToWrite { name, dtype: DType::F32, shape }).collect();
    let mut bytes = Vec::new();
    let mut fill = |_: &str, out: &mut [f32]| {
        out.fill(value);
        Ok(())
    };
    write_safetensors(&tensors, &BTreeMap::new(), &mut fill, &mut |b| {
        bytes.extend_from_slice(b);
        Ok(())
    })
    .unwrap();
    bytes
}

/// Both readers refuse the bytes, with a message that has all these words.
fn refused(bytes: &[u8], kind: ErrorKind, words: &[&str]) {
    let scratch = Scratch::new("refused");
    let path = scratch.write("w.safetensors", bytes);
    let from_memory = SafeTensorsView::parse(bytes).expect_err("the bytes are refused");
    let from_file = SafeTensorsFile::open(path).expect_err("the file is refused");
    for e in [from_memory, from_file] {
        assert_eq!(e.kind(), kind, "{e}");
        for w in words {
            assert!(e.message().contains(w), "{w:?} is not in {:?}", e.message());
        }
    }
}

#[test]
fn headers_that_lie_are_refused() {
    use ErrorKind::Weights;
    refused(b"", Weights, &["0 bytes", "at least 8"]);
    refused(b"1234567", Weights, &["7 bytes"]);
    refused(&u64::MAX.to_le_bytes(), Weights, &["18446744073709551615"]);
    refused(&file("{", 0), Weights, &["malformed"]);
    refused(&file("[]", 0), Weights, &["malformed"]);
    refused(&file(&"[".repeat(100_000), 0), Weights, &["malformed"]);
    let mut long = file("{}", 0);
    long[0] = 3;
    refused(&long, Weights, &["claims 3 bytes", "at most 2"]);

    let tensor = |rest: &str| format!(r#"{{"conv.weight":{{"dtype":{rest}}}}}"#);
    refused(&file(&tensor(r#""F32","shape":[2],"data_offsets":[0,8]"#), 4), Weights, &["conv.weight", "truncated"]);
    refused(&file(&tensor(r#""F32","shape":[2],"data_offsets":[8,0]"#), 8), Weights, &["conv.weight", "8 to 0"]);
    refused(&file(&tensor(r#""F32","shape":[3],"data_offsets":[0,8]"#), 8), Weights, &["conv.weight", "expected 12"]);
    refused(&file(&tensor(r#""F32","shape":[2],"data_offsets":[0,8]"#), 9), Weights, &["byte 8", "has 9"]);
    refused(&file(&tensor(r#""F32","shape":[2],"data_offsets":[1,9]"#), 9), Weights, &["0 to 1", "no tensor"]);
    refused(&file(&tensor(r#""U8","shape":[1],"data_offsets":[0,1]"#), 1), Weights, &["conv.weight", "U8"]);
    refused(&file(&tensor(r#""X9","shape":[1],"data_offsets":[0,8]"#), 8), Weights, &["conv.weight", "X9"]);
    refused(&file(&tensor(r#""F32","shape":[-1],"data_offsets":[0,8]"#), 8), Weights, &["conv.weight"]);
    for shape in ["[4294967296,4294967296,4]", "[18446744073709551615,2]", "[9223372036854775808]"] {
        refused(
            &file(&tensor(&format!(r#""F32","shape":{shape},"data_offsets":[0,8]"#)), 8),
            Weights,
            &["conv.weight", "too many"],
        );
    }
    let one = r#""a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
    refused(&file(&format!("{{{one},{one}}}"), 4), Weights, &["tensor a", "twice"]);
    let two = r#""b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
    refused(&file(&format!("{{{one},{two}}}"), 4), Weights, &["tensor b", "overlaps"]);
    refused(&file(r#"{"__metadata__":{"k":"v","k":"w"}}"#, 0), Weights, &["k stands twice"]);
    refused(&file(r#"{"__metadata__":{"k":1}}"#, 0), Weights, &["malformed"]);
}

#[test]
fn a_pickle_is_refused_with_the_way_out() {
    refused(b"PK\x03\x04\x00\x00\x08\x08\x00\x00archive/data.pkl", ErrorKind::Weights, &["pickle", "convert_bin.py"]);
    refused(b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n", ErrorKind::Weights, &["pickle", "convert_bin.py"]);
    let scratch = Scratch::new("pickle");
    scratch.write("config.json", "{}");
    scratch.write("diffusion_pytorch_model.bin", b"PK\x03\x04");
    let e = diffusers::open(scratch.path()).err().unwrap();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
    for w in ["diffusion_pytorch_model.bin", "pickle", "convert_bin.py"] {
        assert!(e.message().contains(w), "{e}");
    }
}

#[test]
fn numbers_that_are_not_finite_are_refused_by_name() {
    for (value, word) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
        let bytes = written(&[("fine", &[3]), ("norm.bias", &[2, 2])], value);
        let scratch = Scratch::new("nan");
        let file = SafeTensorsFile::open(scratch.write("w.safetensors", &bytes)).unwrap();
        let view = SafeTensorsView::parse(&bytes).unwrap();
        for source in [&view as &dyn WeightSource, &file] {
            let e = source.read_f32("norm.bias", &mut [0.0; 4]).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Weights);
            assert!(e.message().contains("norm.bias") && e.message().contains(word), "{e}");
        }
    }
    // Finite as f64, infinite as f32.
    let mut bytes = file(r#"{"w":{"dtype":"F64","shape":[1],"data_offsets":[0,8]}}"#, 0);
    bytes.extend_from_slice(&1e300f64.to_le_bytes());
    let e = SafeTensorsView::parse(&bytes).unwrap().read_f32("w", &mut [0.0]).unwrap_err();
    assert!(e.message().contains("tensor w") && e.message().contains("inf"), "{e}");
}

#[test]
fn a_value_that_f16_cannot_hold_is_not_packed() {
    let bytes = written(&[("w", &[1, 1])], 1e6);
    let configs = packed::PackedConfigs {
        activations: None,
        model: "{}".into(),
        scheduler: Some("{}".into()),
        preconditioning: None,
        decoder: None,
    };
    let source = SafeTensorsView::parse(&bytes).unwrap();
    let e = packed::write(&configs, &source, DType::F16, &mut |_| Ok(())).unwrap_err();
    assert!(e.message().contains("tensor w") && e.message().contains("1000000"), "{e}");
}

#[test]
fn reading_asks_for_the_right_name_and_length() {
    let bytes = written(&[("w", &[2])], 1.0);
    let view = SafeTensorsView::parse(&bytes).unwrap();
    assert!(view.read_f32("v", &mut [0.0; 2]).unwrap_err().message().contains("tensor v is missing"));
    assert!(view.read_f32("w", &mut [0.0; 3]).unwrap_err().message().contains("tensor w has 2"));
}

fn two_layers() -> Graph {
    let mut g = GraphBuilder::new();
    let x = g.input("x", &[3]).unwrap();
    let h = g.linear("first", x, 4, true).unwrap();
    let y = g.linear("second", h, 2, true).unwrap();
    g.output("y", y).unwrap();
    g.finish().unwrap()
}

#[test]
fn missing_extra_and_misshapen_tensors_are_named() {
    let all: [(&str, &[usize]); 4] =
        [("first.weight", &[4, 3]), ("first.bias", &[4]), ("second.weight", &[2, 4]), ("second.bias", &[2])];
    let graph = two_layers();
    let check = |tensors: &[(&str, &[usize])]| {
        let bytes = written(tensors, 1.0);
        check_params(&graph, &SafeTensorsView::parse(&bytes).unwrap()).map_err(|e| e.message().to_string())
    };
    assert_eq!(check(&all), Ok(()));
    assert!(check(&all[1..]).unwrap_err().contains("1 missing: first.weight"));
    let mut extra = all.to_vec();
    extra.push(("third.bias", &[1]));
    assert!(check(&extra).unwrap_err().contains("1 not in the model: third.bias"));
    let mut misshapen = all;
    misshapen[2].1 = &[4, 2];
    assert!(check(&misshapen).unwrap_err().contains("second.weight is [4, 2] and not [2, 4]"));
    let none = check(&[]).unwrap_err();
    assert!(none.contains("4 missing: first.weight, first.bias, second.weight, second.bias"), "{none}");
    let many: Vec<String> = (0..50).map(|i| format!("x{i:02}")).collect();
    let many: Vec<(&str, &[usize])> = many.iter().map(|n| (n.as_str(), &[1][..])).collect();
    assert!(check(&many).unwrap_err().contains("50 not in the model: x00, x01, x02, x03 and 46 more"));
}

#[test]
fn a_tensor_under_two_names_is_refused() {
    let bytes = written(&[("a.attentions.0.query.weight", &[1]), ("a.attentions.0.to_q.weight", &[1])], 1.0);
    let e = DiffusersNames::new(SafeTensorsView::parse(&bytes).unwrap()).unwrap_err();
    assert!(e.message().contains("a.attentions.0.to_q.weight stands twice"), "{e}");
}

#[test]
fn an_index_cannot_lead_out_of_its_directory_or_lie() {
    let weights = written(&[("w", &[1])], 1.0);
    for (name, words) in [
        ("../w.safetensors", "plain name"),
        ("/etc/w.safetensors", "plain name"),
        ("..\\\\w.safetensors", "plain name"),
        ("C:w.safetensors", "plain name"),
        ("w.bin", "plain name"),
        (".safetensors", "plain name"),
        ("absent.safetensors", "absent.safetensors"),
        ("other.safetensors", "w is not in other.safetensors"),
    ] {
        let scratch = Scratch::new("index");
        scratch.write("w.safetensors", &weights);
        scratch.write("other.safetensors", written(&[("v", &[1])], 1.0));
        let index = scratch.write("inner/m.safetensors.index.json", format!(r#"{{"weight_map":{{"w":"{name}"}}}}"#));
        scratch.write("inner/other.safetensors", written(&[("v", &[1])], 1.0));
        let e = ShardedFiles::open(index).unwrap_err();
        assert!(e.message().contains(words), "{name}: {e}");
    }
    let scratch = Scratch::new("index");
    scratch.write("a.safetensors", written(&[("w", &[1]), ("hidden", &[1])], 1.0));
    let index = scratch.write("i.safetensors.index.json", r#"{"weight_map":{"w":"a.safetensors"}}"#);
    assert!(ShardedFiles::open(index).unwrap_err().message().contains("tensor hidden"));
    for text in
        ["", "{}", "[]", r#"{"weight_map":{"w":1}}"#, r#"{"weight_map":{"w":"a.safetensors","w":"a.safetensors"}}"#]
    {
        let index = scratch.write("j.safetensors.index.json", text);
        let e = ShardedFiles::open(index).unwrap_err();
        assert!(e.message().contains("index is malformed") && e.message().contains("j.safetensors.index.json"), "{e}");
    }
}

#[test]
fn directories_without_a_model_are_refused_by_name() {
    let weights = written(&[("w", &[1])], 1.0);
    let open = |files: &[(&str, &[u8])]| {
        let scratch = Scratch::new("dir");
        files.iter().for_each(|(name, bytes)| {
            scratch.write(name, bytes);
        });
        diffusers::open(scratch.path()).err().unwrap()
    };
    assert!(open(&[]).message().contains("empty"));
    assert!(open(&[("readme.md", b"x")]).message().contains("no config.json"));
    assert!(open(&[("config.json", b"{}")]).message().contains("no weights"));
    let several = open(&[("config.json", b"{}"), ("a.fp16.safetensors", &weights), ("b.safetensors", &weights)]);
    assert!(several.message().contains("a.fp16.safetensors, b.safetensors"), "{several}");
    for (part, kind) in [("vqvae", ErrorKind::Io), ("controlnet", ErrorKind::Unsupported)] {
        let index = format!(r#"{{"unet":["diffusers","UNet2DModel"],"{part}":["diffusers","VQModel"]}}"#);
        let e = open(&[("config.json", b"{}"), ("model_index.json", index.as_bytes())]);
        assert!(e.kind() == kind && e.message().contains(part), "{e}");
    }
    assert!(open(&[("config.json", b"{}"), ("model_index.json", b"{")]).message().contains("model_index.json"));
    let absent = diffusers::open("no/such/directory").err().unwrap();
    assert_eq!(absent.kind(), ErrorKind::Io);
    assert!(absent.message().contains("no/such/directory"));
    assert!(SafeTensorsFile::open("no/such/file").unwrap_err().message().contains("no/such/file"));
    let scratch = Scratch::new("dir");
    assert_eq!(SafeTensorsFile::open(scratch.path()).unwrap_err().kind(), ErrorKind::Io);
}

#[test]
fn files_that_were_not_packed_are_refused() {
    let e = packed::open(&written(&[("w", &[1])], 1.0)).unwrap_err();
    assert!(e.message().contains("undiffuse pack"), "{e}");
    let e = packed::open(&file(r#"{"__metadata__":{"undiffuse.format":"9"}}"#, 0)).unwrap_err();
    assert!(e.message().contains("\"9\""), "{e}");
    let e = packed::open(&file(r#"{"__metadata__":{"undiffuse.format":"1"}}"#, 0)).unwrap_err();
    assert!(e.message().contains("undiffuse.model"), "{e}");
}

/// A valid configuration of two blocks with `extra` keys in place of its own.
fn config(extra: &str) -> Result<UNet2DConfig, undiffuse::Error> {
    let mut map: serde_json::Map<String, serde_json::Value> = serde_json::from_str(
        r#"{"block_out_channels":[8,16],"down_block_types":["DownBlock2D","AttnDownBlock2D"],
            "up_block_types":["AttnUpBlock2D","UpBlock2D"],"norm_num_groups":4,"sample_size":16,"layers_per_block":1}"#,
    )
    .unwrap();
    let extra: serde_json::Map<String, serde_json::Value> = serde_json::from_str(extra).unwrap();
    map.extend(extra);
    UNet2DConfig::from_json(&serde_json::Value::Object(map).to_string())
}

#[test]
fn unknown_keys_and_values_are_refused_by_name() {
    assert!(config("{}").is_ok());
    assert!(config(r#"{"_class_name":"UNet2DModel","_diffusers_version":"0.1.0","_anything":{}}"#).is_ok());
    assert!(config(r#"{"_class_name":"UNetUnconditionalModel"}"#).is_ok());
    for (extra, words) in [
        (r#"{"colour":1}"#, &["colour", "sample_size"][..]),
        (r#"{"_class_name":"UNet2DConditionModel"}"#, &["UNet2DConditionModel", "UNet2DModel"]),
        (r#"{"act_fn":"tanh"}"#, &["act_fn", "tanh", "silu"]),
        (r#"{"act_fn":1}"#, &["act_fn", "1"]),
        (
            r#"{"down_block_types":["DownBlock2D","DownBlock3D"]}"#,
            &["down_block_types", "DownBlock3D", "AttnDownBlock2D"],
        ),
        (r#"{"down_block_types":[]}"#, &["down_block_types", "a list of 1"]),
        (r#"{"up_block_types":["UpBlock2D"]}"#, &["up_block_types", "1 entries", "expected 2"]),
        (r#"{"up_block_types":["DownBlock2D","UpBlock2D"]}"#, &["up_block_types", "UpBlock2D"]),
        (r#"{"block_out_channels":[8,0]}"#, &["block_out_channels"]),
        (r#"{"block_out_channels":[8,1e99]}"#, &["block_out_channels"]),
        (r#"{"block_out_channels":8}"#, &["block_out_channels"]),
        (r#"{"in_channels":0}"#, &["in_channels", "0", "from 1"]),
        (r#"{"in_channels":-1}"#, &["in_channels", "-1"]),
        (r#"{"in_channels":1.5}"#, &["in_channels", "1.5"]),
        (r#"{"in_channels":18446744073709551615}"#, &["in_channels"]),
        (r#"{"in_channels":null}"#, &["in_channels", "null"]),
        (r#"{"layers_per_block":100000000}"#, &["layers_per_block"]),
        (r#"{"center_input_sample":"yes"}"#, &["center_input_sample", "true or false"]),
        (r#"{"time_embedding_type":"sinusoidal"}"#, &["time_embedding_type", "sinusoidal", "positional"]),
        (r#"{"time_embedding_type":"learned"}"#, &["num_train_timesteps"]),
        (r#"{"mid_block_type":"UNetMidBlock2DCrossAttn"}"#, &["mid_block_type", "UNetMidBlock2D"]),
        (r#"{"mid_block_scale_factor":0}"#, &["mid_block_scale_factor"]),
        (r#"{"downsample_padding":2}"#, &["downsample_padding", "2"]),
        (r#"{"downsample_type":"fir"}"#, &["downsample_type", "fir", "resnet"]),
        (r#"{"upsample_type":null}"#, &["upsample_type", "null"]),
        (r#"{"resnet_time_scale_shift":"ada_group"}"#, &["resnet_time_scale_shift", "ada_group", "scale_shift"]),
        (r#"{"class_embed_type":"projection"}"#, &["class_embed_type", "projection", "timestep"]),
        (r#"{"num_class_embeds":0}"#, &["num_class_embeds"]),
        (r#"{"norm_num_groups":null}"#, &["norm_num_groups", "null"]),
        (r#"{"norm_eps":-1}"#, &["norm_eps", "-1"]),
        (r#"{"dropout":2}"#, &["dropout", "2"]),
        (r#"{"freq_shift":4}"#, &["freq_shift", "4"]),
        (r#"{"sample_size":[16]}"#, &["sample_size"]),
        (r#"{"sample_size":[16,0]}"#, &["sample_size"]),
        (r#"{"sample_size":"big"}"#, &["sample_size", "big"]),
    ] {
        let e = config(extra).expect_err(extra);
        assert!(matches!(e.kind(), ErrorKind::Config | ErrorKind::Unsupported), "{extra}: {:?}", e.kind());
        for w in words {
            assert!(e.message().contains(w), "{extra}: {w:?} is not in {e}");
        }
    }
}

#[test]
fn models_of_diffusers_that_are_not_implemented_are_called_so() {
    for (class, word) in [
        ("UNet3DConditionModel", "not implemented"),
        ("AutoencoderKLWan", "not implemented"),
        ("AutoencoderKL", "no denoiser"),
        ("PixArtTransformer2DModel", "not implemented"),
        ("SongUNet", "expected \"UNet2DModel\""),
    ] {
        let e = ModelConfig::from_json(&format!(r#"{{"_class_name":"{class}"}}"#)).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported);
        assert!(e.message().contains(class) && e.message().contains(word), "{e}");
    }
}

#[test]
fn a_model_config_is_read_as_python_writes_it() {
    let plain = config("{}").unwrap();
    // A key of a later version that is not set.
    assert_eq!(config(r#"{"a_key_to_come":null}"#).unwrap(), plain);
    // json.dump's words for numbers that no key accepts.
    let text = |value: &str| {
        format!(
            r#"{{"block_out_channels":[8,16],"down_block_types":["DownBlock2D","AttnDownBlock2D"],
            "up_block_types":["AttnUpBlock2D","UpBlock2D"],"norm_num_groups":4,"norm_eps":{value}}}"#
        )
    };
    assert!(UNet2DConfig::from_json(&text("1e-6")).is_ok());
    for value in ["NaN", "Infinity", "-Infinity"] {
        let e = UNet2DConfig::from_json(&text(value)).unwrap_err();
        assert!(e.message().contains(&format!("norm_eps is {value}")), "{e}");
        // In a key that says nothing here they do not matter.
        assert!(UNet2DConfig::from_json(&text(&format!("1e-6,\"_note\":{value}"))).is_ok());
    }
}

#[test]
fn malformed_and_deep_json_is_refused() {
    for text in ["", "{", "null", "[]", "{\"a\":}", "\u{0}", r#"{"in_channels":1,"in_channels":1}"#] {
        let e = UNet2DConfig::from_json(text).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Config, "{text}: {e}");
        assert!(e.message().contains("malformed"), "{text}: {e}");
    }
    let deep = format!("{{\"_deep\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(UNet2DConfig::from_json(&deep).unwrap_err().message().contains("malformed"));
}

#[test]
fn keys_that_do_not_go_together_are_refused_where_they_meet() {
    let build = |extra: &str, size: Option<[usize; 2]>| {
        let c = config(extra)?;
        unet2d::build(&c, c.size(size)?)
    };
    assert!(build("{}", None).is_ok());
    let skip = r#""down_block_types":["SkipDownBlock2D","SkipDownBlock2D"],"up_block_types":["SkipUpBlock2D","SkipUpBlock2D"]"#;
    for (extra, size, words) in [
        (r#"{"norm_num_groups":3}"#.to_string(), None, &["resnets.0", "group", "3"][..]),
        (r#"{"attention_head_dim":64}"#.into(), None, &["attention_head_dim", "64", "16"]),
        (r#"{"attn_norm_num_groups":5}"#.into(), None, &["mid_block.attentions.0", "5"]),
        ("{}".into(), Some([15, 16]), &["15 x 16", "multiples of 2"]),
        ("{}".into(), Some([0, 16]), &["0 x 16"]),
        ("{}".into(), Some([1 << 20, 16]), &["1048576"]),
        (r#"{"sample_size":null}"#.into(), None, &["sample_size is null"]),
        (format!(r#"{{{skip},"in_channels":1}}"#), None, &["in_channels is 1", "expected 3"]),
        (format!(r#"{{{skip},"out_channels":1}}"#), None, &["out_channels must be 3"]),
        (
            r#"{"up_block_types":["SkipUpBlock2D","UpBlock2D"]}"#.into(),
            None,
            &["skip blocks make an image"],
        ),
        (
            r#"{"block_out_channels":[8,8,8],"down_block_types":["DownBlock2D","SkipDownBlock2D","DownBlock2D"],"up_block_types":["UpBlock2D","UpBlock2D","UpBlock2D"]}"#.into(),
            None,
            &["down_blocks.1", "must be skip blocks"],
        ),
    ] {
        let e = build(&extra, size).expect_err(&extra);
        for w in words {
            assert!(e.message().contains(w), "{extra}: {w:?} is not in {e}");
        }
    }
}

/// The bytes of a small packed pipeline.
fn small_packed() -> Vec<u8> {
    let bytes = written(&[("a.attentions.0.query.weight", &[3, 2]), ("b", &[5]), ("c", &[1, 2, 1, 2])], 0.5);
    let configs = packed::PackedConfigs {
        activations: None,
        model: "{}".into(),
        scheduler: Some("{}".into()),
        preconditioning: None,
        decoder: None,
    };
    let mut out = Vec::new();
    packed::write(&configs, &SafeTensorsView::parse(&bytes).unwrap(), DType::F16, &mut |b| {
        out.extend_from_slice(b);
        Ok(())
    })
    .unwrap();
    out
}

/// Reads all there is to read; only a panic is wrong.
fn read_everything(bytes: &[u8]) {
    let Ok(view) = SafeTensorsView::parse(bytes) else { return };
    let Ok(names) = DiffusersNames::new(view) else { return };
    for name in names.names() {
        let shape = names.info(name).unwrap().shape;
        let mut out = vec![0.0; shape.iter().product()];
        let _ = names.read_f32(name, &mut out);
    }
    let _ = packed::open(bytes);
    let _ = check_params(&two_layers(), &names);
}

proptest! {
    #[test]
    fn flipped_bits_never_panic(flips in prop::collection::vec((any::<prop::sample::Index>(), 0u8..8), 1..6)) {
        let mut bytes = small_packed();
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        read_everything(&bytes);
    }

    #[test]
    fn truncated_files_are_refused(cut in any::<prop::sample::Index>()) {
        let mut bytes = small_packed();
        bytes.truncate(cut.index(bytes.len()));
        prop_assert!(SafeTensorsView::parse(&bytes).is_err());
        let scratch = Scratch::new("cut");
        prop_assert!(SafeTensorsFile::open(scratch.write("w.safetensors", &bytes)).is_err());
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        read_everything(&bytes);
    }

    #[test]
    fn random_headers_never_panic(
        shape in prop::collection::vec(any::<u64>(), 0..6), start in any::<u64>(), end in any::<u64>(), data in 0usize..64,
    ) {
        let header = format!(r#"{{"t":{{"dtype":"F16","shape":{shape:?},"data_offsets":[{start},{end}]}}}}"#);
        read_everything(&file(&header, data));
    }

    #[test]
    fn no_config_can_panic(
        channels in prop::collection::vec(1usize..40, 1..4),
        kinds in prop::collection::vec((0usize..5, 0usize..5), 1..4),
        groups in prop::option::of(1usize..9),
        head in prop::option::of(1usize..20),
        size in (0usize..20, 0usize..20),
        flags in any::<[bool; 6]>(),
        image in (1usize..4, 1usize..4),
    ) {
        let down = ["DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D", "SkipDownBlock2D", "AttnSkipDownBlock2D"];
        let up = ["UpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D", "SkipUpBlock2D", "AttnSkipUpBlock2D"];
        let text = serde_json::json!({
            "block_out_channels": channels,
            "down_block_types": kinds.iter().map(|k| down[k.0]).collect::<Vec<_>>(),
            "up_block_types": kinds.iter().map(|k| up[k.1]).collect::<Vec<_>>(),
            "norm_num_groups": groups,
            "attention_head_dim": head,
            "in_channels": image.0,
            "out_channels": image.1,
            "add_attention": flags[0],
            "resnet_time_scale_shift": if flags[1] { "scale_shift" } else { "default" },
            "time_embedding_type": if flags[2] { "fourier" } else { "positional" },
            "mid_block_type": if flags[3] { Some("UNetMidBlock2D") } else { None },
            "downsample_type": if flags[4] { "resnet" } else { "conv" },
            "downsample_padding": usize::from(flags[5]),
        });
        if let Ok(c) = UNet2DConfig::from_json(&text.to_string())
            && let Ok(size) = c.size(Some([size.0, size.1]))
        {
            let _ = unet2d::build(&c, size);
        }
    }
}
