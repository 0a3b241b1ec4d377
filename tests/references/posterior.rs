//! The posterior methods against the published equations in NumPy: `tests/golden/make_posterior.py`, whose inputs and
//! noise are drawn here from the same recipe.

use crate::pcg;
use undiffuse::Result;
use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::denoiser::{Component, Covariance, GaussianMixture};
use undiffuse::noise::NoiseSource;
use undiffuse::posterior::operator::{
    BlockAverage, Clip, Dense, ForwardOperator, FourierMagnitude, Gamma, LinearOperator, Mask, Quantize,
};
use undiffuse::posterior::{
    At, Calibrated, CalibratedWhite, Clamp, Classifier, ClassifierRule, Daps, DapsOptions, Ddnm, Ddrm, DiffPir, Dps,
    Evidence, ExactProduct, Fps, FpsOptions, Known, KnownPixels, Mcg, MeanShift, Measurement, Misfit, Pigdm, PigdmRule,
    RSchedule, RedDiff, Sitcom, SitcomOptions, Tmpd,
};
use undiffuse::sampler::{
    DdimNoise, Jumps, PredictionType, Sampler, SamplerKind, SamplerOptions, SchedulerConfig, Steps, VarianceType,
};
use undiffuse::schedule::Arithmetic;
use undiffuse::tensor::Dims;
use undiffuse::weights::{SafeTensorsView, WeightSource};

const N: usize = 16;
const SAMPLES: usize = 2;
const FIRST: u64 = 5;
/// The first sample of a group of two.
const GROUP: u64 = 6;
const EVERY: usize = 4;
const ROOT_3: f32 = 1.732_050_8;
const KNOWN: [usize; 8] = [0, 1, 2, 5, 7, 8, 11, 14];
const EVIDENCE: u64 = 1 << 63;

fn dims() -> Dims {
    Dims::new(&[1, 4, 4]).unwrap()
}

fn wide(values: Vec<f32>) -> Vec<f64> {
    values.into_iter().map(f64::from).collect()
}

fn mean(k: u64) -> Vec<f64> {
    wide(pcg::uniform(1, k, N, 0.8))
}

fn variance(k: u64) -> Vec<f64> {
    wide(pcg::uniform(2, k, N, 1.0)).into_iter().map(|v| 0.06 + 0.05 * v).collect()
}

fn prior() -> GaussianMixture {
    let of = |k: u64, weight: f64| Component { weight, mean: mean(k), covariance: Covariance::Diagonal(variance(k)) };
    GaussianMixture::new(dims(), &[of(0, 0.4), of(1, 0.6)], PredictionType::Sample).unwrap()
}

fn mask() -> Mask {
    let known: Vec<bool> = (0..N).map(|i| KNOWN.contains(&i)).collect();
    Mask::new(dims(), &known).unwrap()
}

fn operator(name: &str) -> Box<dyn LinearOperator> {
    match name {
        "mask" => Box::new(mask()),
        "pool" => Box::new(BlockAverage::new(dims(), 2).unwrap()),
        _ => Box::new(Dense::new(dims(), Dims::new(&[5]).unwrap(), &pcg::uniform(3, 0, 5 * N, 0.5)).unwrap()),
    }
}

fn forward(name: &str) -> Box<dyn ForwardOperator> {
    match name {
        "clip" => Box::new(Clip::new(dims(), 2.0).unwrap()),
        "gamma" => Box::new(Gamma::new(dims(), 1.8).unwrap()),
        "quantize" => Box::new(Quantize::new(dims(), 4).unwrap()),
        "phase" => Box::new(FourierMagnitude::new(dims(), 2.0).unwrap()),
        linear => Box::new(operator(linear)),
    }
}

fn measure<O: ForwardOperator>(op: O, sigma: f64) -> Measurement<O> {
    measure_from(op, sigma, FIRST)
}

fn measure_from<O: ForwardOperator>(op: O, sigma: f64, first: u64) -> Measurement<O> {
    let m = op.codomain().elements();
    let mut scratch = vec![0.0; op.forward_scratch_len()];
    let mut y = vec![0.0; SAMPLES * m];
    for (i, y) in y.chunks_exact_mut(m).enumerate() {
        let z = wide(pcg::uniform(4, i as u64, N, ROOT_3));
        let x: Vec<f32> = mean(1).iter().zip(variance(1)).zip(z).map(|((m, v), z)| (m + v.sqrt() * z) as f32).collect();
        op.forward(&x, y, &mut scratch).unwrap();
        y.iter_mut().zip(pcg::uniform(5, i as u64, m, ROOT_3)).for_each(|(y, n)| *y += sigma as f32 * n);
    }
    Measurement::each(op, &y, first, sigma).unwrap()
}

/// Every draw from the recipe, by its number.
struct Drawn;

impl NoiseSource for Drawn {
    fn normal(&mut self, first: u64, draw: u64, n: usize, out: &mut [f32]) -> Result<()> {
        for (row, sample) in out.chunks_exact_mut(n).zip(first..) {
            row.copy_from_slice(&pcg::uniform(1000 + sample, draw, n, ROOT_3));
        }
        Ok(())
    }
    fn fingerprint(&self) -> u64 {
        1
    }
}

fn config(class: SamplerKind) -> SchedulerConfig {
    SchedulerConfig {
        clip_sample: false,
        prediction_type: PredictionType::Sample,
        variance_type: VarianceType::FixedSmall,
        ..SchedulerConfig::new(class)
    }
}

fn options(eta: f64, ddim_noise: DdimNoise) -> SamplerOptions {
    let steps = Steps::Timesteps((0..20).map(|i| 950 - 50 * i).collect());
    SamplerOptions { steps, eta, ddim_noise, arithmetic: Arithmetic::Float64, ..Default::default() }
}

fn sampler(name: &str, eta: f64) -> Box<dyn Sampler + Send + Sync> {
    let class = if name == "ddpm" { SamplerKind::Ddpm } else { SamplerKind::Ddim };
    config(class).sampler(&options(eta, DdimNoise::Level)).unwrap()
}

/// The stored arrays.
struct Golden {
    bytes: Vec<u8>,
}

impl Golden {
    fn open() -> Self {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/posterior.safetensors");
        Self { bytes: std::fs::read(path).unwrap() }
    }

    fn get(&self, name: &str) -> Vec<f32> {
        let view = SafeTensorsView::parse(&self.bytes).unwrap();
        let mut out = vec![0.0; view.info(name).unwrap().shape.iter().product()];
        view.read_f32(name, &mut out).unwrap();
        out
    }

    /// Runs the chain and compares x after every few steps and at the end.
    fn check(&self, name: &str, sampler: &dyn Sampler, evidence: impl Evidence, noise: impl NoiseSource) {
        self.check_from(name, sampler, evidence, noise, None);
    }

    fn check_from(
        &self,
        name: &str,
        sampler: &dyn Sampler,
        evidence: impl Evidence,
        noise: impl NoiseSource,
        start: Option<&[f32]>,
    ) {
        self.check_at(name, sampler, evidence, noise, start, FIRST);
    }

    fn check_at(
        &self,
        name: &str,
        sampler: &dyn Sampler,
        evidence: impl Evidence,
        noise: impl NoiseSource,
        start: Option<&[f32]>,
        first_sample: u64,
    ) {
        let want = self.get(name);
        let options = ChainOptions { batch: SAMPLES, first_sample };
        let mut chain = Chain::with_evidence(prior(), sampler, noise, evidence, &options).unwrap();
        if let Some(x) = start {
            chain.start_from(0, x, first_sample).unwrap();
        }
        let (mut got, mut settled) = (Vec::new(), 0);
        while chain.position() < chain.steps() {
            let settles = sampler.settles(chain.position());
            chain.step().unwrap();
            settled += usize::from(settles);
            if settles && settled % EVERY == 0 || chain.position() == chain.steps() {
                got.extend_from_slice(chain.x());
            }
        }
        assert_eq!(got.len(), want.len(), "{name}");
        for (i, (g, w)) in got.iter().zip(&want).enumerate() {
            let checkpoint = i / (SAMPLES * N);
            assert!((g - w).abs() <= 1e-5, "{name}, checkpoint {checkpoint}, value {i}: {g} against {w}");
        }
    }
}

#[test]
fn methods_without_derivatives_are_the_published_ones() {
    let golden = Golden::open();
    for op in ["mask", "pool", "dense"] {
        for s in ["ddim", "ddpm"] {
            let exact = || measure(operator(op), 0.0);
            let noisy = || measure(operator(op), 0.2);
            golden.check(&format!("ddnm.{op}.{s}"), &*sampler(s, 0.85), Ddnm::new(exact()).unwrap(), Drawn);
            golden.check(&format!("ddrm.{op}.{s}"), &*sampler(s, 0.85), Ddrm::new(noisy(), 1.0).unwrap(), Drawn);
            golden.check(&format!("diffpir.{op}.{s}"), &*sampler(s, 0.5), DiffPir::new(noisy(), 0.8).unwrap(), Drawn);
        }
    }
    for op in ["mask", "dense"] {
        let plus = Ddrm::ddnm_plus(measure(operator(op), 0.2)).unwrap();
        golden.check(&format!("ddnm_plus.{op}.ddim"), &*sampler("ddim", 0.85), plus, Drawn);
    }
    let weighted = Ddrm::new(measure(operator("dense"), 0.2), 0.7).unwrap();
    golden.check("ddrm_07.dense.ddim", &*sampler("ddim", 0.6), weighted, Drawn);
    let exact = DiffPir::new(measure(operator("pool"), 0.0), 1.0).unwrap();
    golden.check("diffpir_exact.pool.ddim", &*sampler("ddim", 0.5), exact, Drawn);

    let ddrm = Ddrm::new(measure(operator("dense"), 0.2), 1.0).unwrap();
    let from = sampler("ddim", 0.85);
    let mut x = vec![0.0; SAMPLES * N];
    Drawn.normal(FIRST, 0, N, &mut x).unwrap();
    ddrm.start(&from.levels()[0], FIRST, &mut x).unwrap();
    golden.check_from("ddrm_start.dense.ddim", &*from, ddrm, Drawn, Some(&x));
}

fn posterior_ddim(eta: f64) -> Box<dyn Sampler + Send + Sync> {
    config(SamplerKind::Ddim).sampler(&options(eta, DdimNoise::Posterior)).unwrap()
}

#[test]
fn methods_with_derivatives_are_the_published_ones() {
    let golden = Golden::open();
    for s in ["ddim", "ddpm"] {
        let with = |eta: f64| if s == "ddpm" { sampler(s, 0.0) } else { posterior_ddim(eta) };
        for op in ["mask", "pool", "dense"] {
            let noisy = || measure(operator(op), 0.2);
            let dps = Dps::new(noisy(), 0.3, Misfit::Gaussian).unwrap();
            golden.check(&format!("dps.{op}.{s}"), &*with(0.5), dps, Drawn);
            let pigdm = Pigdm::new(noisy(), PigdmRule::Published).unwrap();
            golden.check(&format!("pigdm.{op}.{s}"), &*with(1.0), pigdm, Drawn);
            golden.check(&format!("tmpd.{op}.{s}"), &*with(0.5), Tmpd::new(noisy()).unwrap(), Drawn);
        }
        for op in ["mask", "dense"] {
            let mcg = Mcg::new(measure(operator(op), 0.0), 0.3).unwrap();
            golden.check(&format!("mcg.{op}.{s}"), &*with(0.5), mcg, Drawn);
        }
        for (name, rule, eta) in
            [("classifier", ClassifierRule::Score, 0.5), ("classifier_mean", ClassifierRule::Mean, 1.0)]
        {
            let seen = measure(mask(), 0.2);
            let evidence = Classifier::new("seen", 1.5, rule, |at: &At, x: &[f32], out: &mut [f32]| {
                for ((x, out), sample) in x.chunks_exact(N).zip(out.chunks_exact_mut(N)).zip(at.first_sample..) {
                    let mut r = [0.0; KNOWN.len()];
                    seen.residual(sample, x, &mut r, &mut [])?;
                    seen.operator().adjoint(&r, out, &mut [])?;
                }
                Ok(())
            });
            golden.check(&format!("{name}.mask.{s}"), &*with(eta), evidence.unwrap(), Drawn);
        }
    }
    let exact = Pigdm::new(measure(operator("pool"), 0.0), PigdmRule::Published).unwrap();
    golden.check("pigdm_exact.pool.ddim", &*posterior_ddim(1.0), exact, Drawn);

    let seen = measure(operator("pool"), 0.2);
    let y: Vec<f32> = (FIRST..FIRST + 2).flat_map(|s| seen.values(s).unwrap()).map(|y| y.abs() + 0.5).collect();
    let counts = Measurement::each(operator("pool"), &y, FIRST, 0.2).unwrap();
    let poisson = Dps::new(counts, 0.3, Misfit::Poisson).unwrap();
    golden.check("dps_poisson.pool.ddpm", &*sampler("ddpm", 0.0), poisson, Drawn);
    let laplace = Dps::new(measure(operator("pool"), 0.2), 0.3, Misfit::Laplace).unwrap();
    golden.check("dps_laplace.pool.ddpm", &*sampler("ddpm", 0.0), laplace, Drawn);
}

#[test]
fn the_methods_of_2015_and_the_calibrated_ones_are_their_equations() {
    let golden = Golden::open();
    for s in ["ddim", "ddpm"] {
        let at = |eta: f64| if s == "ddpm" { sampler(s, 0.0) } else { posterior_ddim(eta) };
        for op in ["mask", "pool", "dense"] {
            let noisy = |sigma: f64| measure(operator(op), sigma);
            // What multiplies a step's Gaussian asks for all of its noise.
            let check = |name: &str, eta: f64, e: Box<dyn Evidence>| {
                golden.check(&format!("{name}.{op}.{s}"), &*at(eta), e, Drawn);
            };
            check("exact_product", 1.0, Box::new(ExactProduct::new(noisy(0.2), RSchedule::Constant).unwrap()));
            check("mean_shift", 1.0, Box::new(MeanShift::new(noisy(1.2), RSchedule::Constant)));
            check("white", 1.0, Box::new(CalibratedWhite::new(noisy(0.2), 0.7).unwrap()));
            check(
                "calibrated",
                0.5,
                Box::new(Calibrated::new(noisy(0.2), 12).unwrap().with_variance_products(0).unwrap()),
            );
            check(
                "calibrated_2",
                0.5,
                Box::new(Calibrated::new(noisy(0.2), 2).unwrap().with_variance_products(0).unwrap()),
            );
        }
        for (name, known) in [("clamp", Known::Clean), ("clamp_noised", Known::Renoised)] {
            let clamp = Clamp::new(measure(mask(), 0.0), known).unwrap();
            golden.check(&format!("{name}.mask.{s}"), &*at(0.5), clamp, Drawn);
        }
    }
    let ramp = ExactProduct::new(measure(operator("dense"), 0.2), RSchedule::Ramp).unwrap();
    golden.check("exact_product_ramp.dense.ddpm", &*sampler("ddpm", 0.0), ramp, Drawn);
    let ramp = MeanShift::new(measure(operator("dense"), 0.6), RSchedule::Ramp);
    golden.check("mean_shift_ramp.dense.ddpm", &*sampler("ddpm", 0.0), ramp, Drawn);
}

/// The noise of `repaint_with_jumps`, draw by draw.
struct Stored {
    noise: Vec<f32>,
    own: Vec<f32>,
}

impl NoiseSource for Stored {
    fn normal(&mut self, first: u64, draw: u64, n: usize, out: &mut [f32]) -> Result<()> {
        let (from, step) = match draw {
            0 => return Drawn.normal(first, draw, n, out),
            d if d & EVIDENCE != 0 => (&self.own, (d & !EVIDENCE) / 16),
            d => (&self.noise, d - 1),
        };
        out.copy_from_slice(&from[step as usize * out.len()..][..out.len()]);
        Ok(())
    }
    fn fingerprint(&self) -> u64 {
        2
    }
}

#[test]
fn repaint_is_the_published_one_with_and_without_jumps() {
    let golden = Golden::open();
    let evidence = || KnownPixels::new(measure(mask(), 0.0)).unwrap();
    golden.check("repaint.mask.ddpm", &*sampler("ddpm", 0.0), evidence(), Drawn);
    let jumps = Jumps { length: 4, resamplings: 2 };
    let sampler = config(SamplerKind::Ddpm).repaint(&options(0.0, DdimNoise::Posterior), jumps).unwrap();
    let noise = Stored { noise: golden.get("repaint_jumps.noise"), own: golden.get("repaint_jumps.own") };
    golden.check("repaint_jumps.x", &sampler, evidence(), noise);
}

#[test]
fn daps_is_the_published_one() {
    let golden = Golden::open();
    let of = DapsOptions { langevin_steps: 5, ..DapsOptions::default() };
    for op in ["mask", "dense"] {
        let sampler = config(SamplerKind::Ddpm).decoupled_annealing(&options(0.0, DdimNoise::Posterior), 3).unwrap();
        assert!(sampler.levels().len() > 50);
        golden.check(&format!("daps.{op}"), &sampler, Daps::new(measure(forward(op), 0.2), &of).unwrap(), Drawn);
    }
    // One step of the flow is DDIM of eta 1 of the level.
    for op in ["clip", "gamma", "phase"] {
        let plan = config(SamplerKind::Ddpm).decoupled_annealing(&options(0.0, DdimNoise::Posterior), 1).unwrap();
        for sampler in [&plan as &dyn Sampler, &*sampler("ddim", 1.0)] {
            golden.check(&format!("daps.{op}"), sampler, Daps::new(measure(forward(op), 0.2), &of).unwrap(), Drawn);
        }
    }
}

#[test]
fn red_diff_is_the_published_one() {
    let golden = Golden::open();
    for op in ["dense", "clip"] {
        let evidence = RedDiff::new(measure(forward(op), 0.2), 0.1, 0.25).unwrap();
        golden.check(&format!("red_diff.{op}"), &*sampler("ddim", 1.0), evidence, Drawn);
    }
}

#[test]
fn sitcom_is_the_published_one() {
    let golden = Golden::open();
    for (op, stop) in [("dense", None), ("dense", Some(0.0)), ("gamma", Some(0.1)), ("quantize", None)] {
        let options = SitcomOptions { gradient_steps: 6, rate: 0.05, lambda: 0.4, stop };
        let sampler = config(SamplerKind::Ddpm).input_optimization(&options_of_sitcom(), 6).unwrap();
        let name = format!("sitcom.{op}.{}", if stop.is_some() { "own" } else { "usual" });
        golden.check(&name, &sampler, Sitcom::new(measure(forward(op), 0.2), &options).unwrap(), Drawn);
    }
}

fn options_of_sitcom() -> SamplerOptions {
    options(0.0, DdimNoise::Posterior)
}

#[test]
fn fps_is_the_published_one() {
    let golden = Golden::open();
    for op in ["mask", "pool", "dense"] {
        for s in ["ddim", "ddpm"] {
            let fps = Fps::new(measure(operator(op), 0.2), &FpsOptions { ensemble: 1 }).unwrap();
            golden.check(&format!("fps.{op}.{s}"), &*sampler(s, 0.95f64.sqrt()), fps, Drawn);
        }
    }
    // Groups begin at numbers that are whole multiples of their size.
    let fps = Fps::new(measure_from(operator("dense"), 0.2, GROUP), &FpsOptions { ensemble: 2 }).unwrap();
    golden.check_at("fps_group.dense.ddim", &*sampler("ddim", 0.95f64.sqrt()), fps, Drawn, None, GROUP);
    let exact = Fps::new(measure(operator("pool"), 0.0), &FpsOptions { ensemble: 1 }).unwrap();
    golden.check("fps_exact.pool.ddim", &*sampler("ddim", 0.95f64.sqrt()), exact, Drawn);
}

#[test]
fn dps_of_what_is_not_linear_is_the_published_one() {
    let golden = Golden::open();
    for op in ["clip", "gamma", "quantize", "phase"] {
        let dps = Dps::new(measure(forward(op), 0.2), 0.3, Misfit::Gaussian).unwrap();
        golden.check(&format!("dps.{op}"), &*sampler("ddpm", 0.0), dps, Drawn);
    }
}
