//! A tiny model with seeded weights, for tests that need a whole model but no trained one.

use std::collections::BTreeMap;

use undiffuse::model::ModelConfig;
use undiffuse::tensor::DType;
use undiffuse::weights::{TensorToWrite, write_safetensors};

/// One image is `[1, SIDE, SIDE]`.
pub const SIDE: usize = 8;

/// The model's configuration; `more` are further keys, each with a comma before it.
pub fn model_config(more: &str) -> String {
    format!(
        r#"{{"_class_name": "UNet2DModel", "sample_size": {SIDE}, "in_channels": 1, "out_channels": 1,
            "block_out_channels": [8, 16], "layers_per_block": 1, "norm_num_groups": 4, "attention_head_dim": 8,
            "down_block_types": ["DownBlock2D", "AttnDownBlock2D"], "up_block_types": ["AttnUpBlock2D", "UpBlock2D"]{more}}}"#
    )
}

/// The scheduler's configuration.
pub fn scheduler_config() -> String {
    r#"{"_class_name": "DDPMScheduler", "num_train_timesteps": 100, "beta_schedule": "squaredcos_cap_v2"}"#.into()
}

/// The weights of a configuration as a safetensors file.
pub fn weights(model_config: &str) -> Vec<u8> {
    let graph = ModelConfig::from_json(model_config).unwrap().build_any().unwrap();
    let tensors: Vec<_> = graph
        .params()
        .iter()
        .map(|p| TensorToWrite { name: &p.name, dtype: DType::F32, shape: p.dims.as_slice() })
        .collect();
    let mut bytes = Vec::new();
    let mut fill = |name: &str, out: &mut [f32]| {
        let stream = graph.params().iter().position(|p| p.name == name).unwrap() as u64;
        out.copy_from_slice(&crate::pcg::uniform(1, stream, out.len(), 0.2));
        Ok(())
    };
    write_safetensors(&tensors, &BTreeMap::new(), &mut fill, &mut |piece| {
        bytes.extend_from_slice(piece);
        Ok(())
    })
    .unwrap();
    bytes
}
