//! Writes the committed seeds of the fuzz targets: small inputs that are valid, or wrong in one place.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use undiffuse::model::unet2d::{self, UNet2DConfig};
use undiffuse::pipeline::Source;
use undiffuse::tensor::DType;
use undiffuse::training::state::{StateArray, to_bytes};
use undiffuse::weights::{SafeTensorsView, TensorToWrite, write_safetensors};

fn main() {
    safetensors();
    configs();
    graphs();
    onnx();
    packed();
    chains();
    training_data();
    c_calls();
}

fn seed(target: &str, name: &str, bytes: impl AsRef<[u8]>) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&dir).expect("the corpus can be written");
    fs::write(dir.join(name), bytes).expect("the corpus can be written");
}

fn tensors(list: &[TensorToWrite<'_>], metadata: &BTreeMap<String, String>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut fill = |_: &str, out: &mut [f32]| {
        out.iter_mut().zip(1..).for_each(|(v, i)| *v = 1.0 / i as f32);
        Ok(())
    };
    let mut sink = |piece: &[u8]| {
        bytes.extend_from_slice(piece);
        Ok(())
    };
    write_safetensors(list, metadata, &mut fill, &mut sink).expect("the seed is well formed");
    bytes
}

fn safetensors() {
    let none = BTreeMap::new();
    let one = |dtype, shape| tensors(&[TensorToWrite { name: "a.weight", dtype, shape }], &none);
    for (name, dtype) in [("f64", DType::F64), ("f32", DType::F32), ("f16", DType::F16), ("bf16", DType::BF16)] {
        seed("safetensors", name, one(dtype, &[2, 3]));
    }
    seed("safetensors", "scalar", one(DType::F32, &[]));
    seed("safetensors", "empty_tensor", one(DType::F32, &[0, 4]));
    seed("safetensors", "no_tensor", tensors(&[], &none));
    let metadata = BTreeMap::from([("format".into(), "pt".into()), ("k".into(), "\u{e9}".into())]);
    let two = [("b", DType::F16, &[2][..]), ("a", DType::F32, &[1, 2][..])];
    let two = two.map(|(name, dtype, shape)| TensorToWrite { name, dtype, shape });
    let two = tensors(&two, &metadata);
    seed("safetensors", "two_with_metadata", &two);
    seed("safetensors", "cut", &two[..two.len() - 3]);
    seed("safetensors", "long_header", [&u64::MAX.to_le_bytes()[..], b"{}"].concat());
    for (name, entry) in [
        ("overflow", r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}}"#),
        ("backwards", r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#),
        ("hole", r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#),
        ("integers", r#"{"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}"#),
    ] {
        seed("safetensors", name, [&(entry.len() as u64).to_le_bytes()[..], entry.as_bytes(), &[0; 8]].concat());
    }
}

/// Two of the golden files, one cut and one with an operation that is unknown.
fn onnx() {
    let image = include_bytes!("../../../tests/golden/onnx/image_dynamo.onnx");
    let row = include_bytes!("../../../tests/golden/onnx/row_script.onnx");
    seed("onnx", "image", image);
    seed("onnx", "row", row);
    seed("onnx", "cut", &row[..row.len() / 2]);
    let name = b"LeakyRelu";
    let at = row.windows(name.len()).position(|w| w == name).expect("the file has it");
    seed("onnx", "unknown_operation", [&row[..at], b"LeakyRule", &row[at + name.len()..]].concat());
}

/// A denoiser with an image beside x.
const GRAPH: &str = r#"{"_class_name":"Graph","version":1,"parameters":{"b":[4],"c":[4,2,3,3],"e":[4,4],"o":[1,4]},"nodes":[{"op":"input","name":"sample","role":"sample","dims":[1,4,4]},{"op":"input","name":"timestep","role":"timestep","dims":[1]},{"op":"input","name":"image","role":"image","dims":[1,4,4]},{"op":"concat","args":[0,2]},{"op":"conv2d","args":[3],"kernel":[3,3],"padding":[1,1,1,1],"weight":"c","bias":"b"},{"op":"group_norm","args":[4],"groups":2,"eps":1e-5,"weight":"b","bias":"b"},{"op":"activation","args":[5],"function":"silu"},{"op":"sinusoidal_embedding","args":[1],"dim":4,"freq_shift":0,"max_period":10000},{"op":"linear","args":[7],"weight":"e"},{"op":"binary","args":[6,8],"function":"add"},{"op":"attention","args":[9,9,9],"heads":2},{"op":"upsample_nearest","args":[10],"factor":2},{"op":"average_pool","args":[11],"factor":2},{"op":"linear","args":[12],"weight":"o"}],"outputs":[{"name":"sample","value":13}]}"#;

fn graphs() {
    seed("graph", "denoiser", GRAPH);
    seed("graph", "cycle", GRAPH.replace(r#""args":[3]"#, r#""args":[5]"#));
    seed("graph", "unknown_operation", GRAPH.replace("upsample_nearest", "upsample_bilinear"));
    seed("graph", "overflow", GRAPH.replace("[4,2,3,3]", "[4294967296,4294967296,3,3]"));
    seed("graph", "roles_twice", GRAPH.replace(r#""role":"timestep""#, r#""role":"sample""#));
    seed("graph", "deep", format!(r#"{{"_class_name":"Graph","version":1,"nodes":{}"#, "[".repeat(100)));
}

const MODEL: &str = r#"{"sample_size":4,"in_channels":1,"out_channels":1,"block_out_channels":[4],"layers_per_block":1,
"norm_num_groups":2,"down_block_types":["DownBlock2D"],"up_block_types":["UpBlock2D"],"add_attention":false}"#;
const SCHEDULER: &str = r#"{"_class_name":"DDIMScheduler","num_train_timesteps":10}"#;

fn configs() {
    seed("unet_config", "small", MODEL);
    seed("unet_config", "defaults", r#"{"_class_name":"UNet2DModel"}"#);
    seed(
        "unet_config",
        "every_key",
        r#"{"_class_name":"UNet2DModel","_diffusers_version":"0.42.1","act_fn":"mish","add_attention":true,
"attention_head_dim":4,"attn_norm_num_groups":2,"block_out_channels":[8,8],"center_input_sample":true,
"class_embed_type":"timestep","down_block_types":["SkipDownBlock2D","AttnSkipDownBlock2D"],"downsample_padding":0,
"downsample_type":"resnet","dropout":0.1,"flip_sin_to_cos":false,"freq_shift":1,"in_channels":3,"layers_per_block":2,
"mid_block_scale_factor":1.5,"mid_block_type":"UNetMidBlock2D","norm_eps":1e-6,"norm_num_groups":4,
"num_class_embeds":5,"num_train_timesteps":100,"out_channels":6,"resnet_time_scale_shift":"scale_shift",
"sample_size":[8,16],"time_embedding_dim":16,"time_embedding_type":"fourier",
"up_block_types":["AttnSkipUpBlock2D","SkipUpBlock2D"],"upsample_type":"resnet"}"#,
    );
    seed(
        "unet_config",
        "multiscale2015",
        r#"{"_class_name":"Multiscale2015","sample_size":[8,4],"in_channels":3,"scales":2,"conv_channels":[4,5],
"dense_channels":[6],"dense_out_channels":2,"upper_channels":[7],"act_fn":"softplus","dense_act_fn":"tanh",
"activation_placement":"after_sum","tied_biases":false,"temporal_functions":4,"temporal_width":"paper","num_train_timesteps":9}"#,
    );
    seed("unet_config", "rbf2015", r#"{"_class_name":"Rbf2015","features":2,"units":4,"num_train_timesteps":9}"#);
    seed(
        "unet_config",
        "mlp2015",
        r#"{"_class_name":"Mlp2015","features":4,"out_features":8,"hidden_features":[5],"act_fn":"relu",
"center_input_sample":true,"num_train_timesteps":9}"#,
    );
    seed(
        "scheduler_config",
        "ancestral2015",
        r#"{"_class_name":"Ancestral2015Scheduler","num_train_timesteps":9,"beta_schedule":"erasing_evenly","readout":"prediction",
"prediction_type":"sample","ending":"original","sample_scale":2.5,"sample_shift":-1}"#,
    );
    seed(
        "scheduler_config",
        "bits2015",
        r#"{"_class_name":"Bits2015Scheduler","num_train_timesteps":3,"trained_betas":[0.1,0.2,1.0],"pi":0.2,
"bit_prediction":"clean","bit_output":"probability"}"#,
    );
    seed("unet_config", "unknown_key", r#"{"speed":1}"#);
    seed("unet_config", "deep", "[".repeat(2000));
    seed("scheduler_config", "small", SCHEDULER);
    seed("scheduler_config", "class_only", r#"{"_class_name":"DDPMScheduler"}"#);
    seed(
        "scheduler_config",
        "every_key",
        r#"{"_class_name":"DDPMScheduler","_diffusers_version":"0.42.1","beta_start":0.001,"beta_end":0.2,
"beta_schedule":"scaled_linear","trained_betas":null,"variance_type":"learned_range","clip_sample":false,
"clip_sample_range":2.0,"prediction_type":"v_prediction","thresholding":true,"dynamic_thresholding_ratio":0.9,
"sample_max_value":1.5,"timestep_spacing":"trailing","steps_offset":1,"rescale_betas_zero_snr":true,
"num_train_timesteps":20,"set_alpha_to_one":false}"#,
    );
    seed(
        "scheduler_config",
        "trained",
        r#"{"_class_name":"DDIMScheduler","num_train_timesteps":3,"trained_betas":[0.1,0.2,0.3]}"#,
    );
    for schedule in ["squaredcos_cap_v2", "sigmoid", "laplace"] {
        let text =
            format!(r#"{{"_class_name":"DDPMScheduler","beta_schedule":"{schedule}","timestep_spacing":"linspace"}}"#);
        seed("scheduler_config", schedule, text);
    }
}

/// Numbers that spell calls, see `c_calls`: slot, function, its arguments.
fn c_calls() {
    let model = [0, 0, 0, 0, 1, 1];
    let sampler = [0, 1, 0, 2, 3, 50, 0, 1, 1, 0, 0, 50, 0, 0];
    let mask = [0, 3, 1, 0, 4];
    let evidence = [0, 5, 0, 2, 30, 0, 0, 1, 2, 50, 100];
    let session = [0, 7, 2, 0, 5, 1, 0, 0, 7];
    let with_evidence = [1, 8, 1, 0, 5, 1, 0, 0, 0];
    let (run, step, bound) = ([0, 11, 0], [0, 13, 0], [0, 19, 2, 2, 1, 3, 0, 0, 0, 8]);
    let all = [&model[..], &sampler, &mask, &evidence, &session, &with_evidence, &step, &run, &bound];
    seed("c_calls", "run", [&model[..], &sampler, &session, &run].concat());
    seed("c_calls", "bound", [&model[..], &bound, &[0, 20, 4]].concat());
    seed("c_calls", "evidence", all.concat());
    seed("c_calls", "cancel", [&[0, 25, 0, 26, 0][..], &model, &session, &run, &[0, 26, 1], &run].concat());
    seed("c_calls", "saved", [&model[..], &session, &step, &[0, 16, 6, 0, 255, 0, 0], &run].concat());
    seed("c_calls", "without_handles", (0u8..30).flat_map(|f| [0, f, 7, 7, 7]).collect::<Vec<_>>());
}

fn packed() {
    let config = UNet2DConfig::from_json(MODEL).expect("the seed is well formed");
    let graph = unet2d::build(&config, [4, 4]).expect("the seed is well formed");
    let params = graph.params().iter();
    let list: Vec<_> =
        params.map(|p| TensorToWrite { name: &p.name, dtype: DType::F16, shape: p.dims.as_slice() }).collect();
    let weights = tensors(&list, &BTreeMap::new());
    let view = SafeTensorsView::parse(&weights).expect("the seed is well formed");
    let source = Source::new(MODEL.into(), Some(SCHEDULER.into()), Box::new(view)).expect("the seed is well formed");
    let mut bytes = Vec::new();
    source
        .pack(DType::F16, &mut |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })
        .expect("the seed can be packed");
    seed("packed", "small", &bytes);
    seed("packed", "cut", &bytes[..bytes.len() / 2]);
    seed("packed", "bare", &weights);
}

fn chains() {
    let mut chain = undiffuse_fuzz::chain();
    seed("chain_restore", "begin", chain.save().expect("a chain can be saved"));
    chain.step().expect("a step can be made");
    let middle = chain.save().expect("a chain can be saved");
    seed("chain_restore", "cut", &middle[..40]);
    seed("chain_restore", "middle", middle);
    chain.run().expect("the chain runs");
    seed("chain_restore", "end", chain.save().expect("a chain can be saved"));
}

fn training_data() {
    let npy = |header: &str, data: &[u8]| {
        [&b"\x93NUMPY\x01\x00"[..], &(header.len() as u16).to_le_bytes(), header.as_bytes(), data].concat()
    };
    seed("training_data", "npy", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }", &[0; 8]));
    let huge = "{'descr': '|u1', 'fortran_order': False, 'shape': (65536, 65536), }";
    seed("training_data", "npy_huge", npy(huge, &[0; 8]));
    seed("training_data", "idx", [0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 7, 9]);
    seed("training_data", "spikes", "# microseconds\n6700\n9900\n13900.5\n");
    let state = [StateArray::f32("m", &[1.0]), StateArray::f64("w", &[2.0]), StateArray::u64("step", &[3])];
    seed("training_data", "state", to_bytes(&state).expect("the seed is well formed"));
    for (name, color, data) in [
        ("png_grey", png::ColorType::Grayscale, &[1, 2][..]),
        ("png_rgb", png::ColorType::Rgb, &[1, 2, 3, 4, 5, 6]),
        ("png_alpha", png::ColorType::Rgba, &[0; 8]),
    ] {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, 2, 1);
        encoder.set_color(color);
        encoder.write_header().and_then(|mut w| w.write_image_data(data)).expect("the seed is well formed");
        seed("training_data", name, bytes);
    }
}
