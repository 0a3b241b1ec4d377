//! What the fuzz targets do with their bytes: no input may panic, hang or ask for memory without bound.

use undiffuse::backend::cpu::Path;
use undiffuse::backend::cpu::{Cpu, CpuOptions};
use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::denoiser::{Denoiser, FnDenoiser};
use undiffuse::graph::Graph;
use undiffuse::import::{self, ImportOptions};
use undiffuse::model::ModelConfig;
use undiffuse::noise::{Fingerprint, Seeded};
use undiffuse::pipeline::{PipelineOptions, Source};
use undiffuse::sampler::{SamplerKind, SamplerOptions, SchedulerConfig, Steps};
use undiffuse::tensor::Dims;
use undiffuse::training::data::{Collision, Colors, SpikeTimes, parse_idx, parse_npy, parse_png};
use undiffuse::training::state::{from_bytes, to_bytes};
use undiffuse::weights::{SafeTensorsView, WeightSource, check_params};

/// Opens a safetensors file and reads all of it.
pub fn safetensors(data: &[u8]) {
    let Ok(view) = SafeTensorsView::parse(data) else { return };
    for name in view.names() {
        let info = view.info(name).expect("a listed tensor has an entry");
        let count: usize = info.shape.iter().product();
        assert!(count <= data.len(), "{count} elements in {} bytes", data.len());
        let mut values = vec![0.0; count];
        if view.read_f32(name, &mut values).is_ok() {
            assert!(values.iter().all(|v| v.is_finite()));
        }
    }
}

/// Reads a model's configuration, of whatever class, and translates it for the smallest image that it allows.
pub fn unet_config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(config) = ModelConfig::from_json(text) else { return };
    if let Ok(graph) = config.build_any() {
        graph.params().iter().for_each(|p| _ = config.role(p));
        graph.parameter_count();
        graph.flops();
    }
}

/// Reads a graph, writes and reads it again, and fuses and differentiates it where it is small.
pub fn graph(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(graph) = Graph::from_json(text) else { return };
    let written = graph.to_json().expect("what is read can be written");
    let again = Graph::from_json(&written).expect("what is written can be read");
    assert_eq!(again.to_json().expect("as before"), written);
    graph.flops();
    if graph.nodes().len() < 100 {
        let _ = undiffuse::graph::fuse::fuse(&graph);
        let _ = undiffuse::graph::vjp::vjp(&graph, 0, 0);
    }
    let _ = ModelConfig::from_json(text);
}

/// Translates an ONNX file; what comes of it can be written and has all of its weights.
pub fn onnx(data: &[u8]) {
    let Ok(network) = import::from_bytes(data, &ImportOptions::default()) else { return };
    let text = network.graph().to_json().expect("what is made can be written");
    assert_eq!(&Graph::from_json(&text).expect("and read"), network.graph());
    check_params(network.graph(), &network).expect("its weights are those of its graph");
}

/// Reads a scheduler's configuration, writes and reads it again, and makes both samplers with a few steps.
pub fn scheduler_config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(config) = SchedulerConfig::from_json(text) else { return };
    let again = SchedulerConfig::from_json(&config.to_json()).expect("what is written can be read");
    assert_eq!(again, config);
    let few = |kind| SamplerOptions { sampler: Some(kind), steps: Steps::Count(3), eta: 0.5, ..Default::default() };
    for options in [few(SamplerKind::Ddpm), few(SamplerKind::Ddim), SamplerOptions::default()] {
        let Ok(sampler) = config.sampler(&options) else { continue };
        let mut x = [0.25, -0.5];
        for step in 0..sampler.levels().len().min(50) {
            let (mut output, mut next, mut eps, mut x0) = ([0.1; 4], [0.0; 2], [0.0; 2], [0.0; 2]);
            let output = if sampler.check_output_len(2, 2).is_ok() { &mut output[..2] } else { &mut output[..] };
            let io = undiffuse::sampler::StepIo {
                x: &x,
                output,
                noise: &[0.3, -0.3],
                state: &[],
                next_state: &mut [],
                eps: &mut eps,
                x0: &mut x0,
                next: &mut next,
            };
            if sampler.step(step, step, io).is_ok() {
                x = next;
            }
        }
    }
}

/// Opens a packed file and compiles it.
pub fn packed(data: &[u8]) {
    let Ok(source) = Source::from_bytes(data) else { return };
    let options = CpuOptions { path: Some(Path::Portable), threads: Some(1), ..CpuOptions::default() };
    let backend = Cpu::with_options(options).expect("the portable path is everywhere");
    if let Ok(pipeline) = source.compile(&backend, &PipelineOptions::default()) {
        let _ = pipeline.workspace_bytes(1);
        let _ = pipeline.sampler(&SamplerOptions::default());
    }
}

/// A chain of two samples of three values, at x_T.
pub fn chain() -> Chain<'static, impl Denoiser, impl undiffuse::sampler::Sampler, Seeded> {
    let dims = Dims::new(&[3]).expect("a shape");
    let denoiser = FnDenoiser::new("half", dims, |_, x, out| {
        out.iter_mut().zip(x).for_each(|(o, x)| *o = x * 0.5);
        Ok(())
    });
    let options = SamplerOptions { steps: Steps::Count(5), ..Default::default() };
    let sampler = SchedulerConfig::new(SamplerKind::Ddpm).sampler(&options).expect("the defaults make a sampler");
    let options = ChainOptions { batch: 2, first_sample: 0 };
    Chain::new(denoiser, sampler, Seeded::new(1), &options).expect("the parts fit")
}

/// Restores a chain from bytes, as they are and with fingerprint and checksum set right, and runs it to its end.
pub fn chain_restore(data: &[u8]) {
    let mut chain = chain();
    let saved = chain.save().expect("a chain can be saved");
    let mut mended = data.to_vec();
    // The layout stands in src/chain/save.rs: the fingerprint is the u64 at 16, the sum the last one.
    if let (Some(to), Some(from)) = (mended.get_mut(16..24), saved.get(16..24)) {
        to.copy_from_slice(from);
    }
    if let Some(body) = mended.len().checked_sub(8) {
        let sum = Fingerprint::new().bytes(&mended[..body]).finish();
        mended[body..].copy_from_slice(&sum.to_le_bytes());
    }
    for bytes in [data, &mended] {
        if chain.restore(bytes).is_ok() && chain.run().is_ok() {
            assert!(chain.x().iter().all(|v| v.is_finite()));
        }
    }
}

/// Reads bytes as each format of training data and as a saved state of training; each knows its own.
pub fn training_data(data: &[u8]) {
    for read in [parse_npy(data), parse_idx(data), parse_png(data, Colors::ToGrey), parse_png(data, Colors::ToRgb)] {
        let Ok(set) = read else { continue };
        assert_eq!(set.count() * set.dims().elements(), set.values().len());
        assert!(set.values().iter().all(|v| v.is_finite()));
    }
    if let Ok(spikes) = std::str::from_utf8(data).map_err(drop).and_then(|t| SpikeTimes::parse(t).map_err(drop)) {
        let last = spikes.times().last().copied().unwrap_or(0.0);
        // A range as long as the times say is the caller's own wish, and may be large.
        for (from, bin) in [(last - 1000.0, 1.0), (last - 10.0, 0.25)] {
            let _ = spikes.windows(from, last, bin, 3, 2, Collision::One);
        }
    }
    if let Ok(state) = from_bytes(data) {
        let again = from_bytes(&to_bytes(&state).expect("what was read can be written")).expect("and read");
        assert_eq!(again.len(), state.len());
    }
}
