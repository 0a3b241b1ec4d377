//! NaN and infinity are errors wherever floats enter or leave a denoiser or a step, never a silent result.

use undiffuse::backend::cpu::Cpu;
use undiffuse::backend::reference::Reference;
use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::denoiser::{BitSequences, Call, Component, Covariance, Denoiser, FnDenoiser, GaussianMixture, Product};
use undiffuse::noise::{NoiseSource, Seeded};
use undiffuse::pipeline::{Pipeline, PipelineOptions};
use undiffuse::process::{Binomial, PredictionType};
use undiffuse::sampler::{Jumps, Sampler, SamplerKind, SamplerOptions, SchedulerConfig, StepIo, Steps};
use undiffuse::schedule::Level;
use undiffuse::tensor::Dims;
use undiffuse::{Cancel, ErrorKind, Result};

const BAD: [f32; 3] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
static CANCEL: Cancel = Cancel::new();

fn call(level: Level) -> Call<'static> {
    Call { level, first_sample: 7, cancel: &CANCEL }
}

fn refuses(result: Result<()>, what: &str, bad: f32) {
    match result {
        Err(e) => assert_eq!(e.kind(), ErrorKind::NonFinite, "{what} {bad}: {e}"),
        Ok(()) => panic!("{what} {bad} was taken"),
    }
}

/// One sample with a NaN or infinity among two, in x and in the cotangent; what is good goes before and after.
fn takes_finite_numbers_alone(d: &mut dyn Denoiser, level: Level) {
    let name = d.name().to_string();
    let n = d.sample_dims().elements();
    let (mut x, mut v) = (vec![0.0f32; 2 * n], vec![1.0f32; 2 * d.output_len()]);
    let (mut out, mut product) = (v.clone(), x.clone());
    for bad in BAD {
        for at in [0, 2 * n - 1] {
            d.predict(&call(level), &x, &mut out).unwrap();
            x[at] = bad;
            refuses(d.predict(&call(level), &x, &mut out), &name, bad);
            if d.has_vjp() {
                refuses(d.vjp(&call(level), &x, &v, &mut product), &format!("x of the VJP of {name}"), bad);
            }
            x[at] = 0.0;
            if d.has_vjp() {
                d.vjp(&call(level), &x, &v, &mut product).unwrap();
                v[at] = bad;
                refuses(d.vjp(&call(level), &x, &v, &mut product), &format!("v of {name}"), bad);
                v[at] = 1.0;
            }
        }
    }
}

fn mixture(kind: PredictionType) -> GaussianMixture {
    let component = Component { weight: 1.0, mean: vec![0.1, -0.2], covariance: Covariance::Diagonal(vec![0.2, 0.3]) };
    GaussianMixture::new(Dims::new(&[2]).unwrap(), &[component], kind).unwrap()
}

#[test]
fn denoisers_refuse_nan_and_infinity() {
    let level = Level::variance_preserving(50.0, 0.5);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/no_std/tiny.safetensors");
    let options = PipelineOptions { gradient: true.into(), ..Default::default() };
    let cpu = Cpu::new().unwrap();
    for backend in [&cpu as &dyn undiffuse::backend::Backend, &Reference] {
        let pipeline = Pipeline::open(path, backend, &options).unwrap();
        takes_finite_numbers_alone(&mut pipeline.denoiser(2, &[]).unwrap(), level);
    }
    for kind in [PredictionType::Epsilon, PredictionType::Sample, PredictionType::VPrediction] {
        takes_finite_numbers_alone(&mut mixture(kind), level);
        let mut product = Product::new((1.0, mixture(kind)), (0.5, mixture(kind)), kind, 2).unwrap();
        takes_finite_numbers_alone(&mut product, level);
    }
    let rows = [true, false, false, true];
    let mut bits =
        BitSequences::new(Dims::new(&[2]).unwrap(), &rows, &[1.0, 2.0], Binomial::new(0.5).unwrap()).unwrap();
    takes_finite_numbers_alone(&mut bits, level);
    let copy = |_: &Call<'_>, x: &[f32], out: &mut [f32]| {
        out.copy_from_slice(x);
        Ok(())
    };
    let mut closure = FnDenoiser::new("copy", Dims::new(&[2]).unwrap(), copy).with_vjp(|_, _, v, out| {
        out.copy_from_slice(v);
        Ok(())
    });
    takes_finite_numbers_alone(&mut closure, level);
}

#[test]
fn what_a_closure_gives_is_looked_at() {
    for bad in BAD {
        let mut d = FnDenoiser::new("of mine", Dims::new(&[2]).unwrap(), |_, _, out| {
            out.fill(0.0);
            out[3] = bad;
            Ok(())
        })
        .with_vjp(|_, _, _, out| {
            out.fill(bad);
            Ok(())
        });
        let (level, mut out) = (Level::variance_preserving(1.0, 0.5), [0.0; 4]);
        let e = d.predict(&call(level), &[0.0; 4], &mut out).unwrap_err();
        assert_eq!(
            (e.kind(), e.message()),
            (ErrorKind::NonFinite, &*format!("the denoiser \"of mine\" gave {bad} in sample 8"))
        );
        refuses(d.vjp(&call(level), &[0.0; 4], &[0.0; 4], &mut out), "the closure's product", bad);
    }
}

/// A finite x whose prediction is not.
#[test]
fn a_network_that_overflows_says_so() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/no_std/tiny.safetensors");
    let pipeline = Pipeline::open(path, &Cpu::new().unwrap(), &PipelineOptions::default()).unwrap();
    let mut d = pipeline.denoiser(1, &[]).unwrap();
    let mut x = vec![0.0; 64];
    (x[0], x[1]) = (f32::MAX, -f32::MAX);
    let level = Level::variance_preserving(50.0, 0.5);
    refuses(d.predict(&call(level), &x, &mut [0.0; 64]), "an overflow", f32::MAX);
    d.predict(&call(level), &[0.0; 64], &mut [0.0; 64]).unwrap();
}

fn samplers() -> Vec<Box<dyn Sampler + Send + Sync>> {
    let mut all: Vec<Box<dyn Sampler + Send + Sync>> = Vec::new();
    for clip in [true, false] {
        let config = SchedulerConfig { clip_sample: clip, ..SchedulerConfig::new(SamplerKind::Ddpm) };
        let options =
            |kind| SamplerOptions { sampler: Some(kind), steps: Steps::Count(5), eta: 1.0, ..Default::default() };
        all.push(config.sampler(&options(SamplerKind::Ddpm)).unwrap());
        all.push(config.sampler(&options(SamplerKind::Ddim)).unwrap());
        all.push(Box::new(config.repaint(&options(SamplerKind::Ddpm), Jumps::default()).unwrap()));
    }
    for (_, kind) in SamplerKind::NAMES.into_iter().filter(|(_, k)| k.is_2015()) {
        all.push(SchedulerConfig::new(kind).sampler(&SamplerOptions::default()).unwrap());
    }
    all
}

#[test]
fn a_step_refuses_nan_and_infinity_even_where_it_clips() {
    let (n, mut tried) = (300, 0);
    for s in samplers() {
        let m = if s.check_output_len(n, n).is_ok() { n } else { 2 * n };
        // (x, output, noise), each with nothing or one bad value in it.
        let step = |bad: [Option<f32>; 3]| {
            let [mut x, mut noise] = [vec![0.0f32; n], vec![0.5; n]];
            let mut output = vec![0.25f32; m];
            for (values, bad) in [&mut x, &mut output, &mut noise].into_iter().zip(bad) {
                bad.into_iter().for_each(|b| values[n - 1] = b);
            }
            let k = s.state_len(n);
            let (state, mut next_state) = (vec![0.0; k], vec![0.0; k]);
            let [mut eps, mut x0, mut next] = [vec![0.0; n], vec![0.0; n], vec![0.0; n]];
            let io = StepIo {
                x: &x,
                output: &mut output,
                noise: &noise,
                state: &state,
                next_state: &mut next_state,
                eps: &mut eps,
                x0: &mut x0,
                next: &mut next,
            };
            s.step(0, 0, io)
        };
        step([None; 3]).unwrap();
        for bad in BAD {
            for i in 0..3 {
                let mut values = [None; 3];
                values[i] = Some(bad);
                refuses(step(values), &format!("{} array {i}", s.name()), bad);
                tried += 1;
            }
        }
    }
    assert_eq!(tried, 8 * 9);
}

/// Noise whose draw 0 has one bad value.
struct Spoiled(f32);

impl NoiseSource for Spoiled {
    fn normal(&mut self, first: u64, draw: u64, sample_len: usize, out: &mut [f32]) -> Result<()> {
        Seeded::new(1).normal(first, draw, sample_len, out)?;
        if draw == 0 {
            out[1] = self.0;
        }
        Ok(())
    }

    fn uniform(&mut self, first: u64, draw: u64, sample_len: usize, out: &mut [f32]) -> Result<()> {
        self.normal(first, draw, sample_len, out)
    }

    fn fingerprint(&self) -> u64 {
        0
    }
}

#[test]
fn a_chain_does_not_begin_with_nan() {
    let config = SchedulerConfig::new(SamplerKind::Ddpm);
    for bad in BAD {
        let sampler = config.sampler(&SamplerOptions { steps: Steps::Count(5), ..Default::default() }).unwrap();
        let made = Chain::new(mixture(PredictionType::Epsilon), sampler, Spoiled(bad), &ChainOptions::default());
        refuses(made.map(|_| ()), "x_T", bad);
    }
}
