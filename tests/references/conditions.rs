//! Models that see an image and a class beside x, against diffusers in float64 and PyTorch's autograd.

use serde_json::Value;
use undiffuse::backend::Backend;
use undiffuse::backend::cpu::{Cpu, CpuOptions};
use undiffuse::backend::reference::Reference;
use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::denoiser::{Call, Conditions, Denoiser, FnDenoiser, Guidance};
use undiffuse::graph::Role;
use undiffuse::noise::Given;
use undiffuse::pipeline::{Gradient, Pipeline, PipelineOptions, Source};
use undiffuse::sampler::{SamplerOptions, Steps};
use undiffuse::schedule::Level;
use undiffuse::tensor::Dims;
use undiffuse::weights::{TensorInfo, WeightSource};
use undiffuse::{Cancel, ErrorKind, Result};

use crate::golden::{self, ROOT_3, relative_l2, stored};
use crate::pcg;
use crate::seeded::Seeded;

const SEED: u64 = 41;
/// The bounds that the project promises.
const PREDICT: f64 = 1e-5;
const VJP: f64 = 1e-4;
const PIXELS: usize = 64;

/// The recipe's weights as a source.
struct Weights {
    seeded: Seeded,
    shapes: Vec<(String, Vec<usize>)>,
}

impl WeightSource for Weights {
    fn names(&self) -> Vec<&str> {
        self.shapes.iter().map(|(n, _)| n.as_str()).collect()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        let (_, shape) = self.shapes.iter().find(|(n, _)| n == name)?;
        Some(TensorInfo { dtype: undiffuse::tensor::DType::F32, shape: shape.clone() })
    }

    fn read_f32(&self, name: &str, out: &mut [f32]) -> Result<()> {
        let (_, shape) = self.shapes.iter().find(|(n, _)| n == name).unwrap();
        self.seeded.read(name, &Dims::new(shape)?, out)
    }
}

fn pipeline(config: &Value, backend: &dyn Backend, gradient: Gradient) -> Pipeline {
    let text = config.to_string();
    let graph = undiffuse::model::ModelConfig::from_json(&text).unwrap().build(None).unwrap();
    let shapes = graph.params().iter().map(|p| (p.name.clone(), p.dims.as_slice().to_vec())).collect();
    let source = Source::new(text, None, Box::new(Weights { seeded: Seeded::new(&graph), shapes })).unwrap();
    source.compile(backend, &PipelineOptions { gradient, ..Default::default() }).unwrap()
}

fn numbers(v: &Value) -> Vec<f64> {
    v.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

/// The arrays of a case and what it is given.
struct Case {
    name: &'static str,
    config: Value,
    t: Vec<f64>,
    channels: usize,
    conditions: Conditions,
    file: Vec<u8>,
}

impl Case {
    fn new(name: &'static str) -> Self {
        let json = golden::json("conditions.json");
        let config = json["configs"][name].clone();
        let of = |key: &str| config[key].as_u64().unwrap() as usize;
        let (t, channels) = (numbers(&json["t"]), of("out_channels"));
        let beside = of("in_channels") - channels;
        let image = pcg::uniform(SEED, 1, t.len() * beside * PIXELS, ROOT_3);
        let mut conditions = Conditions::new().with("image", &image);
        if !config["num_class_embeds"].is_null() {
            let labels: Vec<i64> = json["labels"].as_array().unwrap().iter().map(|l| l.as_i64().unwrap()).collect();
            conditions = conditions.with_classes(&labels);
        }
        let file = std::fs::read(golden::path("conditions.safetensors")).unwrap();
        Self { name, config, t, channels, conditions, file }
    }

    fn len(&self) -> usize {
        self.channels * PIXELS
    }

    fn drawn(&self, stream: u64) -> Vec<f32> {
        pcg::uniform(SEED, stream, self.t.len() * self.len(), ROOT_3)
    }

    fn stored(&self, key: &str) -> Vec<f32> {
        stored(&self.file, &format!("{}.{key}", self.name))
    }

    /// Prediction and product of each sample, called by itself under its own number.
    fn run(&self, denoiser: &mut dyn Denoiser) -> (Vec<f32>, Vec<f32>) {
        let (x, v) = (self.drawn(0), self.drawn(2));
        let (mut y, mut dx) = (vec![f32::NAN; x.len()], vec![f32::NAN; x.len()]);
        let (n, cancel) = (self.len(), Cancel::new());
        for (i, &t) in self.t.iter().enumerate() {
            let at = i * n..(i + 1) * n;
            let call = Call { level: Level::variance_preserving(t, 0.5), first_sample: i as u64, cancel: &cancel };
            denoiser.predict(&call, &x[at.clone()], &mut y[at.clone()]).unwrap();
            denoiser.vjp(&call, &x[at.clone()], &v[at.clone()], &mut dx[at]).unwrap();
        }
        (y, dx)
    }

    /// The worst errors of a sample's prediction and product.
    fn errors(&self, key: &str, denoiser: &mut dyn Denoiser) -> (f64, f64) {
        let (y, dx) = self.run(denoiser);
        let worst = |got: &[f32], want: &[f32]| {
            got.chunks(self.len()).zip(want.chunks(self.len())).map(|(g, w)| relative_l2(g, w)).fold(0.0, f64::max)
        };
        (worst(&y, &self.stored(key)), worst(&dx, &self.stored(&format!("{key}.vjp"))))
    }
}

const NAMES: [&str; 2] = ["super_resolution", "class_and_image"];

fn cpu(threads: usize) -> Cpu {
    Cpu::with_options(CpuOptions { path: None, threads: Some(threads), ..CpuOptions::default() }).unwrap()
}

#[test]
fn an_image_beside_x_is_concatenated_as_diffusers_scripts_do() {
    for name in NAMES {
        let case = Case::new(name);
        for backend in [&Reference as &dyn Backend, &cpu(2)] {
            let pipeline = pipeline(&case.config, backend, Gradient::Full);
            let mut denoiser = pipeline.denoiser_with(2, &case.conditions).unwrap();
            let (y, dx) = case.errors("predict", &mut denoiser);
            println!("{name} on {}: {y:.1e}, vjp {dx:.1e}", backend.name());
            assert!(y <= PREDICT && dx <= VJP, "{name} on {}: {y:e}, {dx:e}", backend.name());
        }
    }
}

#[test]
fn inputs_are_listed_with_their_roles() {
    let case = Case::new("class_and_image");
    let pipeline = pipeline(&case.config, &Reference, Gradient::None);
    let inputs: Vec<_> =
        pipeline.inputs().iter().map(|i| (i.name.as_str(), i.role, i.dims.to_string(), i.rows)).collect();
    let expected = [
        ("sample", Role::Sample, "[1, 8, 8]", None),
        ("image", Role::Image, "[2, 8, 8]", None),
        ("timestep", Role::Timestep, "[1]", None),
        ("class_labels", Role::Class, "[1]", Some(5)),
    ];
    assert_eq!(inputs, expected.map(|(n, r, d, rows)| (n, r, d.to_string(), rows)));
    assert_eq!(pipeline.sample_dims().as_slice(), [1, 8, 8]);
}

#[test]
fn a_samples_bits_depend_neither_on_its_batch_nor_on_threads() {
    let case = Case::new("class_and_image");
    let (x, n, count, cancel) = (case.drawn(0), case.len(), case.t.len(), Cancel::new());
    let mut first: Option<Vec<u32>> = None;
    for threads in [1, 2, 3] {
        let pipeline = pipeline(&case.config, &cpu(threads), Gradient::None);
        for batch in [1, 3, 4] {
            let mut denoiser = pipeline.denoiser_with(batch, &case.conditions).unwrap();
            let mut y = vec![f32::NAN; x.len()];
            for (i, (x, y)) in x.chunks(batch * n).zip(y.chunks_mut(batch * n)).enumerate() {
                let level = Level::variance_preserving(7.0, 0.5);
                let call = Call { level, first_sample: (count + i * batch) as u64, cancel: &cancel };
                denoiser.predict(&call, x, y).unwrap();
            }
            let bits: Vec<u32> = y.iter().map(|v| v.to_bits()).collect();
            assert_eq!(first.get_or_insert_with(|| bits.clone()), &bits, "{threads} threads, batches of {batch}");
        }
    }
}

#[test]
fn conditions_that_do_not_suit_are_refused_by_name() {
    let case = Case::new("class_and_image");
    let pipeline = pipeline(&case.config, &Reference, Gradient::None);
    let image = case.conditions.get("image").unwrap();
    let refused = |conditions: &Conditions, kind: ErrorKind, texts: &[&str]| {
        let e = pipeline.denoiser_with(2, conditions).map(|_| ()).unwrap_err();
        assert!(e.kind() == kind && texts.iter().all(|t| e.message().contains(t)), "{e}");
    };
    refused(&Conditions::new().with_classes(&[1]), ErrorKind::InvalidArgument, &["\"image\"", "[2, 8, 8]"]);
    refused(&Conditions::new().with("image", image), ErrorKind::InvalidArgument, &["class model"]);
    refused(&case.conditions.clone().with_classes(&[5]), ErrorKind::InvalidArgument, &["class 5", "0 to 4"]);
    refused(
        &case.conditions.clone().with("mask", &[1.0]),
        ErrorKind::InvalidArgument,
        &["\"mask\"", "image, class_labels"],
    );
    refused(&case.conditions.clone().with("image", &image[1..]), ErrorKind::Shape, &["\"image\"", "511", "128"]);
    refused(&case.conditions.clone().with("image", &[f32::NAN; 128]), ErrorKind::NonFinite, &["\"image\""]);
    // Without any, the older constructor asks for what it cannot give.
    let e = pipeline.denoiser(1, &[1.0]).map(|_| ()).unwrap_err();
    assert!(e.message().contains("the model needs the condition \"image\""), "{e}");
}

#[test]
fn a_condition_can_be_set_between_calls_and_saved_chains_know_it() {
    let case = Case::new("super_resolution");
    let pipeline = pipeline(&case.config, &Reference, Gradient::Full);
    let all = case.conditions.get("image").unwrap();
    let mut denoiser = pipeline.denoiser_with(1, &Conditions::new().with("image", &all[..192])).unwrap();
    let one = denoiser.fingerprint();
    assert!(!denoiser.looks_at_numbers());
    denoiser.set_condition("image", all).unwrap();
    assert!(denoiser.looks_at_numbers() && denoiser.fingerprint() != one);
    let e = denoiser.set_condition("image", &all[..5]).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Shape);
    let e = denoiser.set_condition("mask", all).unwrap_err();
    assert!(e.message().contains("\"mask\""), "{e}");
    let (y, _) = case.errors("predict", &mut denoiser);
    assert!(y <= PREDICT, "{y:e}");
}

fn guidance(scale: f32, rescale: f32) -> Guidance {
    let none = golden::json("conditions.json")["none"].as_i64().unwrap();
    Guidance { rescale, ..Guidance::new(scale, Conditions::new().with_classes(&[none])) }
}

#[test]
fn guidance_is_that_of_diffusers_and_its_product_that_of_autograd() {
    let case = Case::new("class_and_image");
    for backend in [&Reference as &dyn Backend, &cpu(2)] {
        let pipeline = pipeline(&case.config, backend, Gradient::Full);
        for (scale, rescale) in [(3.0, 0.0), (3.0, 0.7), (0.0, 0.0)] {
            let mut denoiser = pipeline.guided(2, &case.conditions, &guidance(scale, rescale)).unwrap();
            let key = format!("guided.{scale}.{rescale}");
            let (y, dx) = case.errors(&key, &mut denoiser);
            println!("{key} on {}: {y:.1e}, vjp {dx:.1e}", backend.name());
            assert!(y <= PREDICT && dx <= VJP, "{key} on {}: {y:e}, {dx:e}", backend.name());
        }
        // Of scale 1, and beyond the interval, it is the prediction: the levels of this test have sigma = alpha.
        let elsewhere = [[2.0, 10.0], [0.0, 0.9]].map(|interval| Guidance { interval, ..guidance(3.0, 0.7) });
        for guidance in [guidance(1.0, 0.7)].into_iter().chain(elsewhere) {
            let mut denoiser = pipeline.guided(1, &case.conditions, &guidance).unwrap();
            let (y, dx) = case.errors("predict", &mut denoiser);
            assert!(y <= PREDICT && dx <= VJP, "{guidance:?}: {y:e}, {dx:e}");
        }
    }
}

#[test]
fn a_guided_chain_is_that_of_diffusers() {
    let case = Case::new("class_and_image");
    let pipeline = pipeline(&case.config, &cpu(2), Gradient::None);
    let inner = pipeline.guided(2, &case.conditions, &guidance(2.0, 0.0)).unwrap();
    // The readout that is 0.05 of the recipe's: the guided prediction is linear in it.
    let mut inner = inner;
    let denoiser = FnDenoiser::new("a small readout", pipeline.sample_dims(), move |call, x, out| {
        inner.predict(call, x, out)?;
        out.iter_mut().for_each(|o| *o *= 0.05);
        Ok(())
    });
    let config = r#"{"_class_name": "DDIMScheduler", "clip_sample": false}"#;
    let config = undiffuse::sampler::SchedulerConfig::from_json(config).unwrap();
    let sampler = config.sampler(&SamplerOptions { steps: Steps::Count(10), ..Default::default() }).unwrap();
    let x_t = pcg::uniform(SEED, 3, 2 * case.len(), ROOT_3);
    let noise = Given::new(&x_t, &[], 2, 0).unwrap();
    let mut chain = Chain::new(denoiser, sampler, noise, &ChainOptions { batch: 2, first_sample: 0 }).unwrap();
    chain.run().unwrap();
    let error = relative_l2(chain.x(), &stored(&case.file, "chain"));
    println!("{error:.1e}");
    assert!(error <= 1e-3, "{error:e}");
}

#[test]
fn a_guided_samples_bits_do_not_depend_on_its_batch() {
    let case = Case::new("class_and_image");
    let (x, n, cancel) = (case.drawn(0), case.len(), Cancel::new());
    let mut first: Option<Vec<u32>> = None;
    for (threads, batch) in [(1, 1), (2, 3), (3, 4)] {
        let pipeline = pipeline(&case.config, &cpu(threads), Gradient::None);
        let mut denoiser = pipeline.guided(batch, &case.conditions, &guidance(3.0, 0.7)).unwrap();
        let mut y = vec![f32::NAN; x.len()];
        for (i, (x, y)) in x.chunks(batch * n).zip(y.chunks_mut(batch * n)).enumerate() {
            let level = Level::variance_preserving(7.0, 0.5);
            denoiser.predict(&Call { level, first_sample: (i * batch) as u64, cancel: &cancel }, x, y).unwrap();
        }
        let bits: Vec<u32> = y.iter().map(|v| v.to_bits()).collect();
        assert_eq!(first.get_or_insert_with(|| bits.clone()), &bits, "{threads} threads, batches of {batch}");
    }
}
