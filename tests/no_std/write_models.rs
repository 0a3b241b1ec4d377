// For build scripts: the models of models.rs as Rust, and a robot policy's network whose weights are drawn.

use std::path::Path;

use undiffuse::embed::{EmbedOptions, generate, generate_source};
use undiffuse::graph::Graph;
use undiffuse::model::ModelConfig;
use undiffuse::noise::Stream;
use undiffuse::pipeline::Source;
use undiffuse::sampler::{SamplerKind, SamplerOptions, Steps};
use undiffuse::tensor::DType;
use undiffuse::weights::{TensorInfo, WeightSource};

#[allow(dead_code)]
#[path = "models.rs"]
mod models;

const POLICY: &str = r#"{"_class_name": "ConditionalUnet1D", "input_dim": 2, "global_cond_dim": 10, "diffusion_step_embed_dim": 32,
    "down_dims": [16, 32], "horizon": 16}"#;
const SCHEDULER: &str = r#"{"_class_name": "DDIMScheduler", "num_train_timesteps": 100, "beta_schedule": "squaredcos_cap_v2"}"#;

/// Weights of about the size of trained ones.
struct Drawn(Graph);

impl WeightSource for Drawn {
    fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.0.params().iter().map(|p| p.name.as_str()).collect();
        names.sort_unstable();
        names
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        let param = self.0.params().iter().find(|p| p.name == name)?;
        Some(TensorInfo { dtype: DType::F32, shape: param.dims.as_slice().to_vec() })
    }

    fn read_f32(&self, name: &str, out: &mut [f32]) -> undiffuse::Result<()> {
        let mut stream = Stream::new(name.bytes().map(u64::from).sum(), 0, 0);
        out.fill_with(|| 0.2 * (2.0 * stream.uniform() as f32 - 1.0));
        Ok(())
    }
}

/// All of them into `out`, a file each; paths begin in the folder of a build script in a folder beside this file.
pub fn write(out: &Path) -> undiffuse::Result<()> {
    for case in models::CASES {
        let (weights, precision) = (case.weights, case.precision);
        let options = EmbedOptions { weights, precision, sampler: Some((case.sampler)()), ..Default::default() };
        generate(format!("../../../{}", case.file), &options, out.join(format!("{}.rs", case.name)))?;
    }
    let graph = ModelConfig::from_json(POLICY)?.build(None)?;
    let policy = Source::new(POLICY.into(), Some(SCHEDULER.into()), Box::new(Drawn(graph)))?;
    let sampler = SamplerOptions { sampler: Some(SamplerKind::Ddim), steps: Steps::Count(10), ..Default::default() };
    let options = EmbedOptions { sampler: Some(sampler), ..Default::default() };
    generate_source(&policy, &options, out.join("unet1d.rs"))?;
    for file in ["build.rs", "../models.rs", "../write_models.rs"] {
        println!("cargo::rerun-if-changed={file}");
    }
    Ok(())
}
