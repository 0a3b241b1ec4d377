//! The networks of 2015 against PyTorch in float64: outputs and gradients, on both backends; an import of the authors'
//! layout against NumPy; and their packed files through the pipeline to samples.

use crate::golden;
use crate::pcg;
use serde_json::Value;
use undiffuse::backend::cpu::Path;
use undiffuse::backend::cpu::{Cpu, CpuOptions};
use undiffuse::backend::reference::Reference;
use undiffuse::backend::{Backend, Network};
use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::graph::Graph;
use undiffuse::graph::vjp::vjp;
use undiffuse::model::{ModelConfig, ParamRole};
use undiffuse::noise::Seeded as Noise;
use undiffuse::pipeline::{Gradient, Pipeline, PipelineOptions, Source};
use undiffuse::sampler::SamplerOptions;
use undiffuse::tensor::DType;
use undiffuse::weights::{SafeTensorsView, TensorToWrite, write_safetensors};
use undiffuse::{Cancel, ErrorKind};

use crate::golden::{ROOT_3, relative_l2, stored};
use crate::scratch::Scratch;
use crate::seeded::Seeded;

/// The stream of inputs, as in make_2015.py.
const INPUT_SEED: u64 = 23;
/// The bound that the project promises.
const BOUND: f64 = 1e-5;

fn read(name: &str) -> Vec<u8> {
    std::fs::read(golden::path(name)).unwrap()
}

fn cases() -> Vec<Value> {
    golden::json("models_2015.json")["cases"].as_array().unwrap().clone()
}

fn config(case: &Value) -> ModelConfig {
    ModelConfig::from_json(&case["config"].to_string()).unwrap_or_else(|e| panic!("{}: {e}", case["name"]))
}

fn size(case: &Value) -> Option<[usize; 2]> {
    let shape = case["shape"].as_array().unwrap();
    let side = |i: usize| shape[i].as_u64().unwrap() as usize;
    (shape.len() == 3).then(|| [side(1), side(2)])
}

fn times(case: &Value) -> Vec<f32> {
    case["t"].as_array().unwrap().iter().map(|t| t.as_f64().unwrap() as f32).collect()
}

/// All samples at once.
fn run(network: &dyn Network, inputs: &[&[f32]], batch: usize) -> Vec<Vec<f32>> {
    let mut outputs: Vec<Vec<f32>> = network.outputs().iter().map(|d| vec![f32::NAN; batch * d.elements()]).collect();
    let mut outs: Vec<&mut [f32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
    let mut workspace = vec![f32::NAN; network.workspace_len(batch).unwrap()];
    network.run(batch, inputs, &mut outs, &mut workspace, &Cancel::new()).unwrap();
    outputs
}

fn compile(backend: &dyn Backend, graph: &Graph, of: &Graph) -> Box<dyn Network> {
    let seeded = Seeded::new(of);
    backend.compile(graph, &|n: &str, d: &_, out: &mut [f32]| seeded.read(n, d, out)).unwrap()
}

/// A backend, its name and the bound that the project promises for it.
type Held = (String, Box<dyn Backend>, f64);

/// The cpu backend on each path that this CPU has, the reference and, where there is an adapter, the wgpu backend in
/// each of its precisions.
fn backends() -> Vec<Held> {
    let mut all: Vec<Held> = vec![("reference".into(), Box::new(Reference), BOUND)];
    for path in Path::ALL {
        match Cpu::with_options(CpuOptions { path: Some(path), threads: Some(2), ..CpuOptions::default() }) {
            Ok(cpu) => all.push((format!("cpu {path}"), Box::new(cpu), BOUND)),
            Err(e) => println!("skipped: {e}"),
        }
    }
    #[cfg(feature = "wgpu")]
    {
        use undiffuse::backend::wgpu::{Precision, Wgpu, WgpuOptions, adapters};
        for (precision, bound) in [(Precision::F32, BOUND), (Precision::F16, 5e-3)] {
            let fits = |f16| f16 || precision == Precision::F32;
            match adapters().into_iter().find(|a| a.unusable.is_none() && fits(a.f16)) {
                Some(a) => {
                    let options = WgpuOptions { precision, ..WgpuOptions::default() };
                    let gpu = Wgpu::open(Some(a.index), options).unwrap();
                    all.push((format!("wgpu {}, {precision:?}", a.name), Box::new(gpu), bound));
                }
                None => println!("skipped: no Vulkan adapter for {precision:?}"),
            }
        }
    }
    all
}

#[test]
fn outputs_and_gradients_are_those_of_pytorch() {
    let bytes = read("models_2015.safetensors");
    let backends = backends();
    for (index, case) in cases().iter().enumerate() {
        let name = case["name"].as_str().unwrap();
        let graph = config(case).build(size(case)).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(graph.parameter_count() as u64, case["parameters"].as_u64().unwrap(), "{name}");
        let gradient = vjp(&graph, 0, 0).unwrap();
        let t = times(case);
        let [n, m] = [graph.inputs()[0].value, graph.outputs()[0].value].map(|v| graph.dims(v).elements());
        let x = pcg::uniform(INPUT_SEED, index as u64, t.len() * n, ROOT_3);
        let v = pcg::uniform(INPUT_SEED, 1000 + index as u64, t.len() * m, 1.0);
        let want = ["output", "vjp"].map(|what| stored(&bytes, &format!("{name}.{what}")));
        for (backend_name, backend, bound) in &backends {
            let plain = run(&*compile(backend.as_ref(), &graph, &graph), &[&x, &t], t.len());
            let with = run(&*compile(backend.as_ref(), &gradient, &graph), &[&x, &t, &v], t.len());
            for (what, got, want, n) in
                [("output", &plain[0], &want[0], m), ("output", &with[0], &want[0], m), ("vjp", &with[1], &want[1], n)]
            {
                for (row, (got, want)) in got.chunks(n).zip(want.chunks(n)).enumerate() {
                    let error = relative_l2(got, want);
                    assert!(error <= *bound, "{name} on {backend_name}: {what} {row} is off by {error:.2e}");
                }
            }
        }
    }
}

/// As training takes them: the engine, over several lanes and chunks.
#[cfg(feature = "training")]
#[test]
fn gradients_by_weights_are_those_of_pytorch() {
    use undiffuse::backend::threads::Serial;
    use undiffuse::training::engine::{Batch, Engine, EngineOptions};
    use undiffuse::weights::WeightSource;
    let bytes = read("models_2015.safetensors");
    let mut seen = 0;
    for (index, case) in cases().iter().enumerate() {
        let name = case["name"].as_str().unwrap();
        if SafeTensorsView::parse(&bytes).unwrap().info(&format!("{name}.gradient")).is_none() {
            continue;
        }
        seen += 1;
        let graph = config(case).build(size(case)).unwrap();
        let t = times(case);
        let [n, m] = [graph.inputs()[0].value, graph.outputs()[0].value].map(|v| graph.dims(v).elements());
        let x = pcg::uniform(INPUT_SEED, index as u64, t.len() * n, ROOT_3);
        let v = pcg::uniform(INPUT_SEED, 1000 + index as u64, t.len() * m, 1.0);
        let options = EngineOptions { lanes: 2, chunk: Some(2) };
        let mut engine = Engine::new(&graph, &[], std::sync::Arc::new(Serial), options).unwrap();
        let slots = engine.params().to_vec();
        let mut params = vec![0.0; engine.param_len()];
        let drawn = Seeded::new(&graph);
        for slot in &slots {
            drawn.read(&slot.name, &slot.dims, &mut params[slot.offset..][..slot.dims.elements()]).unwrap();
        }
        let loss = |first: usize, y: &[&[f32]], dy: &mut [&mut [f32]]| {
            let v = &v[first * m..][..y[0].len()];
            dy[0].copy_from_slice(v);
            Ok(y[0].iter().zip(v).map(|(y, v)| f64::from(*y) * f64::from(*v)).sum())
        };
        let mut gradient = vec![f32::NAN; params.len()];
        let batch = Batch { samples: t.len(), inputs: &[&x, &t] };
        engine.gradients(&params, batch, &loss, &mut gradient, &mut [], &Cancel::new()).unwrap();
        let mut by_name: Vec<_> = slots.iter().collect();
        by_name.sort_by_key(|slot| &slot.name);
        let got: Vec<f32> = by_name.iter().flat_map(|s| &gradient[s.offset..][..s.dims.elements()]).copied().collect();
        let error = relative_l2(&got, &stored(&bytes, &format!("{name}.gradient")));
        println!("{name}: {error:.2e}");
        assert!(error <= BOUND, "{name}: {error:.2e}");
    }
    assert!(seen >= 7, "{seen}");
}

#[test]
fn an_import_of_the_authors_layout_computes_what_their_code_does() {
    let bytes = read("models_2015.safetensors");
    let [x, t, want] = ["x", "t", "output"].map(|n| stored(&bytes, &format!("imported.{n}")));
    let packed = read("imported_2015.safetensors");
    for (name, backend, bound) in backends() {
        let pipeline = Pipeline::from_bytes(&packed, backend.as_ref(), &PipelineOptions::default()).unwrap();
        assert_eq!(pipeline.sample_dims().as_slice(), [2, 4, 8]);
        let got = &run(&**pipeline.network(), &[&x, &t], t.len())[0];
        let error = relative_l2(got, &want);
        assert!(error <= bound, "{name}: {error:.2e}");
        assert_eq!(pipeline.sampler(&SamplerOptions::default()).unwrap().levels().len(), 30);
    }
}

#[test]
fn every_parameter_has_its_role() {
    let role_of = |case: &str, name: &str| {
        let case = cases().into_iter().find(|c| c["name"] == case).unwrap();
        let (config, graph) = (config(&case), config(&case).build(size(&case)).unwrap());
        config.role(graph.params().iter().find(|p| p.name == name).unwrap_or_else(|| panic!("{name}")))
    };
    for (case, name, role) in [
        ("untied_dense", "conv.1.2.weight", ParamRole::Conv),
        ("untied_dense", "conv.1.2.bias", ParamRole::Bias),
        ("untied_dense", "dense.2.weight", ParamRole::Dense),
        ("untied_dense", "upper.0.weight", ParamRole::Dense),
        ("untied_dense", "upper.1.weight", ParamRole::Readout),
        ("untied_dense", "upper.1.bias", ParamRole::Bias),
        ("untied_after_sum", "upper.0.weight", ParamRole::Readout),
        ("swiss_roll", "basis.centres", ParamRole::Centre),
        ("swiss_roll", "basis.widths", ParamRole::Width),
        ("swiss_roll", "readout.weight", ParamRole::Readout),
        ("heartbeat", "hidden.0.weight", ParamRole::Dense),
        ("heartbeat", "readout.weight", ParamRole::Readout),
        ("heartbeat", "readout.bias", ParamRole::Bias),
    ] {
        assert_eq!(role_of(case, name), role, "{case}: {name}");
    }
}

const IMAGES: &str = r#"{"_class_name": "Multiscale2015", "scales": 2, "conv_channels": [4], "upper_channels": [4],
    "temporal_functions": 3, "num_train_timesteps": 12}"#;
const POINTS: &str = r#"{"_class_name": "Rbf2015", "features": 2, "units": 5, "num_train_timesteps": 12}"#;
const BITS: &str = r#"{"_class_name": "Mlp2015", "features": 6, "hidden_features": [7], "num_train_timesteps": 12}"#;
const GAUSSIAN_CHAIN: &str =
    r#"{"_class_name": "Ancestral2015Scheduler", "num_train_timesteps": 12, "beta_schedule": "erasing_evenly"}"#;
const BINARY_CHAIN: &str = r#"{"_class_name": "Bits2015Scheduler", "num_train_timesteps": 12, "pi": 0.2}"#;

/// A directory with a model whose weights are drawn and multiplied by `factor`.
fn directory(model: &str, scheduler: &str, factor: f32) -> Scratch {
    let dir = Scratch::new("models-2015");
    dir.write("config.json", model);
    dir.write("scheduler_config.json", scheduler);
    let graph = ModelConfig::from_json(model).unwrap().build_any().unwrap();
    let seeded = Seeded::new(&graph);
    let tensors: Vec<TensorToWrite<'_>> = graph
        .params()
        .iter()
        .map(|p| TensorToWrite { name: &p.name, dtype: DType::F32, shape: p.dims.as_slice() })
        .collect();
    let mut bytes = Vec::new();
    let mut fill = |name: &str, out: &mut [f32]| {
        let p = graph.params().iter().find(|p| p.name == name).unwrap();
        seeded.read(name, &p.dims, out)?;
        let scaled = name.starts_with("readout") || name.starts_with("upper.1");
        out.iter_mut().filter(|_| scaled).for_each(|v| *v *= factor);
        Ok(())
    };
    write_safetensors(&tensors, &Default::default(), &mut fill, &mut |b| {
        bytes.extend_from_slice(b);
        Ok(())
    })
    .unwrap();
    dir.write("model.safetensors", bytes);
    dir
}

fn sampled(pipeline: &Pipeline, seed: u64, count: usize, batch: usize) -> Vec<f32> {
    let mut samples = Vec::new();
    for first in (0..count).step_by(batch) {
        let options = ChainOptions { batch: batch.min(count - first), first_sample: first as u64 };
        let sampler = pipeline.sampler(&SamplerOptions::default()).unwrap();
        let denoiser = pipeline.denoiser(batch, &[]).unwrap();
        let mut chain = Chain::new(denoiser, sampler, Noise::new(seed), &options).unwrap();
        chain.run().unwrap();
        samples.extend_from_slice(chain.x());
    }
    samples
}

#[test]
fn every_network_packs_into_one_file_that_samples() {
    let cpu = Cpu::new().unwrap();
    for (model, scheduler, dims) in
        [(IMAGES, GAUSSIAN_CHAIN, &[1, 4, 6][..]), (POINTS, GAUSSIAN_CHAIN, &[2]), (BITS, BINARY_CHAIN, &[6])]
    {
        let options = PipelineOptions { size: (dims.len() == 3).then_some([4, 6]), ..Default::default() };
        let dir = directory(model, scheduler, 1.0);
        let source = Source::open(dir.path()).unwrap();
        let mut packed = Vec::new();
        source
            .pack(DType::F32, &mut |b| {
                packed.extend_from_slice(b);
                Ok(())
            })
            .unwrap();
        let from_dir = source.compile(&cpu, &options).unwrap();
        let pipeline = Pipeline::from_bytes(&packed, &cpu, &options).unwrap();
        assert_eq!((pipeline.sample_dims().as_slice(), pipeline.fingerprint()), (dims, from_dir.fingerprint()));
        let whole = sampled(&pipeline, 3, 7, 7);
        assert_eq!(whole, sampled(&from_dir, 3, 7, 2), "{model}: batches");
        assert!(whole.iter().all(|v| v.is_finite()) && whole[..dims[0]] != whole[dims.iter().product()..][..dims[0]]);
        if model == BITS {
            assert!(whole.iter().all(|&v| v == 0.0 || v == 1.0));
        }
        // The gradient network compiles as well.
        let with = source.compile(&cpu, &PipelineOptions { gradient: Gradient::Full, ..options }).unwrap();
        assert!(with.networks().gradient.is_some());
    }
}

#[test]
fn a_readout_of_zeros_is_the_isotropic_model() {
    for (model, options) in
        [(POINTS, PipelineOptions::default()), (IMAGES, PipelineOptions { size: Some([2, 2]), ..Default::default() })]
    {
        let dir = directory(model, GAUSSIAN_CHAIN, 0.0);
        let x = sampled(&Pipeline::open(dir.path(), &Reference, &options).unwrap(), 5, 2000, 500);
        let mean = x.iter().map(|&v| f64::from(v)).sum::<f64>() / x.len() as f64;
        let variance = x.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / x.len() as f64;
        // The last step gives its mean, without the noise of beta_1 = 1 / 12.
        let expected = 1.0 - 1.0 / 12.0;
        let error = (2.0 / x.len() as f64).sqrt();
        assert!(mean.abs() < 4.0 * error && (variance - expected).abs() < 4.0 * error, "{model}: {mean} {variance}");
    }
}

#[test]
fn a_convolutional_network_takes_any_size_that_its_scales_divide() {
    let config = ModelConfig::from_json(IMAGES).unwrap();
    assert!(config.needs_size() && config.build(None).is_err());
    for size in [[2, 2], [6, 10], [64, 32]] {
        let graph = config.build(Some(size)).unwrap();
        assert_eq!(graph.dims(graph.outputs()[0].value).as_slice(), [2, size[0], size[1]]);
    }
    let e = config.build(Some([5, 4])).unwrap_err();
    assert!(e.kind() == ErrorKind::Config && e.message().contains("multiples of 2"), "{e}");

    let fixed = IMAGES.replace("\"scales\": 2", "\"scales\": 2, \"tied_biases\": false, \"sample_size\": [4, 6]");
    let fixed = ModelConfig::from_json(&fixed).unwrap();
    assert!(fixed.build(None).is_ok() && fixed.build(Some([4, 6])).is_ok());
    assert!(fixed.build(Some([6, 4])).unwrap_err().message().contains("[4, 6]"));
    let points = ModelConfig::from_json(POINTS).unwrap();
    assert!(points.build(Some([4, 4])).unwrap_err().message().contains("Rbf2015"));
}

#[test]
fn the_whole_image_does_not_change_a_part_of_it_far_from_the_edge() {
    // Two layers of two scales see at most 12 pixels around.
    let text = IMAGES.replace("[4], \"upper", "[4, 4], \"upper");
    let config = ModelConfig::from_json(&text).unwrap();
    let centre = |side: usize| {
        let graph = config.build(Some([side, side])).unwrap();
        let network = compile(&Reference, &graph, &graph);
        let at = |y: usize, x: usize| ((y * 37 + x * 11) % 17) as f32 / 8.0 - 1.0;
        // The same picture, centred.
        let off = 100 - side / 2;
        let image: Vec<f32> = (0..side * side).map(|i| at(i / side + off, i % side + off)).collect();
        let y = run(&*network, &[&image, &[3.0]], 1).remove(0);
        y[side / 2 * side + side / 2]
    };
    assert!((centre(32) - centre(48)).abs() < 1e-6);
    assert!((centre(32) - centre(4)).abs() > 1e-3);
}

#[test]
fn what_a_configuration_must_not_say_is_named() {
    let multi = |rest: &str| format!(r#"{{"_class_name": "Multiscale2015", "num_train_timesteps": 9{rest}}}"#);
    for (text, part) in [
        (multi(", \"conv_channel\": [3]"), "conv_channel"),
        (multi(", \"conv_channels\": []"), "conv_channels is empty"),
        (multi(", \"dense_channels\": [3]"), "dense_out_channels is null"),
        (multi(", \"dense_out_channels\": 2"), "sample_size is null"),
        (multi(", \"tied_biases\": false"), "sample_size is null"),
        (multi(", \"act_fn\": \"gelu\""), "act_fn is \"gelu\""),
        (multi(", \"temporal_functions\": 1"), "temporal_functions is 1"),
        (multi(", \"temporal_width\": \"both\""), "temporal_width"),
        (multi(", \"scales\": 0"), "scales is 0"),
        (r#"{"_class_name": "Multiscale2015"}"#.into(), "num_train_timesteps is missing"),
        (r#"{"_class_name": "Rbf2015"}"#.into(), "num_train_timesteps is missing"),
        (r#"{"_class_name": "Rbf2015", "num_train_timesteps": 4, "unit": 3}"#.into(), "\"unit\""),
        (
            r#"{"_class_name": "Mlp2015", "num_train_timesteps": 4, "hidden_features": []}"#.into(),
            "hidden_features is empty",
        ),
        (r#"{"_class_name": "Mlp2015", "num_train_timesteps": 4, "hidden_features": [0]}"#.into(), "hidden_features"),
    ] {
        let e = ModelConfig::from_json(&text).unwrap_err();
        assert!(e.kind() == ErrorKind::Config && e.message().contains(part), "{text}: {e}");
    }
    let e = ModelConfig::from_json(r#"{"_class_name": "Unet3D"}"#).unwrap_err();
    assert!(e.kind() == ErrorKind::Unsupported && e.message().contains("Unet3D"), "{e}");
    // More weights than there can be.
    let text =
        r#"{"_class_name": "Mlp2015", "features": 65536, "hidden_features": [65536], "num_train_timesteps": 100000}"#;
    assert!(ModelConfig::from_json(text).unwrap().build(None).is_err());

    let dir = directory(POINTS, &GAUSSIAN_CHAIN.replace("12", "13"), 1.0);
    let pipeline = Pipeline::open(dir.path(), &Reference, &PipelineOptions::default()).unwrap();
    let e = pipeline.sampler(&SamplerOptions::default()).err().unwrap();
    assert!(e.message().contains("12 timesteps") && e.message().contains("13"), "{e}");
    let dir = directory(BITS, GAUSSIAN_CHAIN, 1.0);
    let pipeline = Pipeline::open(dir.path(), &Reference, &PipelineOptions::default()).unwrap();
    let sampler = pipeline.sampler(&SamplerOptions::default()).unwrap();
    let chain = Chain::new(pipeline.denoiser(1, &[]).unwrap(), sampler, Noise::new(1), &ChainOptions::default());
    assert_eq!(chain.err().unwrap().kind(), ErrorKind::Shape);
    // A step that is no row of the tables.
    let graph = ModelConfig::from_json(BITS).unwrap().build(None).unwrap();
    for backend in [&Reference as &dyn Backend, &Cpu::new().unwrap()] {
        let network = compile(backend, &graph, &graph);
        let mut workspace = vec![0.0; network.workspace_len(1).unwrap()];
        for t in [12.0, -1.0, 2.5] {
            let mut y = [0.0; 6];
            let e = network.run(1, &[&[0.0; 6], &[t]], &mut [&mut y], &mut workspace, &Cancel::new()).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{t}");
        }
    }
    assert!(SafeTensorsView::parse(&read("imported_2015.safetensors")).unwrap().metadata("undiffuse.model").is_some());
}
