//! The tiny model in a directory of a test's own.

use crate::scratch::Scratch;
use crate::tiny;

/// A directory that holds the tiny model as `model`, a nested pipeline.
pub fn scratch() -> Scratch {
    scratch_with(&tiny::model_config(""))
}

pub fn scratch_with(model_config: &str) -> Scratch {
    let scratch = Scratch::new("cli");
    scratch.write("model/unet/config.json", model_config);
    scratch.write("model/unet/diffusion_pytorch_model.safetensors", tiny::weights(model_config));
    scratch.write("model/scheduler/scheduler_config.json", tiny::scheduler_config());
    scratch
}
