//! Every evidence method with every sampler: a pair runs to finite samples, or is refused when the chain is made by an error
//! that names method or sampler and what is wrong. Both lists are walked whole, so a new pair has to be thought of here.

use undiffuse::ErrorKind;
use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::denoiser::{BitSequences, Component, Covariance, GaussianMixture};
use undiffuse::noise::Seeded;
use undiffuse::posterior::operator::Mask;
use undiffuse::posterior::{
    At, BitProduct, BitSchedule, Calibrated, CalibratedWhite, Clamp, Classifier, ClassifierRule, Ddnm, Ddrm, DiffPir,
    Dps, Evidence, ExactProduct, FnLogR, IndependentBits, Known, KnownPixels, Mcg, MeanShift, Measurement, Misfit,
    NoEvidence, Pigdm, PigdmRule, RSchedule, SplitGibbs, SplitGibbsOptions, Tmpd,
};
use undiffuse::process::{Binomial, PredictionType};
use undiffuse::sampler::{
    Ancestral2015, BitPrediction, Bits2015, DdimNoise, Ending2015, Jumps, Readout2015, Sampler, SamplerKind,
    SamplerOptions, SchedulerConfig, Steps, VarianceType,
};
use undiffuse::schedule::{Arithmetic, Betas, NoiseSchedule};
use undiffuse::tensor::Dims;

const N: usize = 6;
const KNOWN: [bool; N] = [true, true, false, false, true, false];

fn dims() -> Dims {
    Dims::new(&[1, 2, 3]).unwrap()
}

fn prior() -> GaussianMixture {
    let at = |m: f64| Component { weight: 1.0, mean: vec![m; N], covariance: Covariance::Diagonal(vec![0.1; N]) };
    GaussianMixture::new(dims(), &[at(-0.5), at(0.4)], PredictionType::Epsilon).unwrap()
}

fn bits() -> BitSequences {
    let rows: Vec<bool> = (0..3).flat_map(|phase| (0..N).map(move |i| i % 3 == phase)).collect();
    BitSequences::new(dims(), &rows, &[1.0; 3], Binomial::new(0.5).unwrap()).unwrap()
}

/// The values are possible as bits too.
fn noisy() -> Measurement<Mask> {
    Measurement::new(Mask::new(dims(), &KNOWN).unwrap(), &[1.0, 0.0, 0.0], 0.1).unwrap()
}

/// Noise so wide that the mean shift, good where log r curves little over a step, stands the largest step of any chain.
fn wide() -> Measurement<Mask> {
    Measurement::new(Mask::new(dims(), &KNOWN).unwrap(), &[1.0, 0.0, 0.0], 2.0).unwrap()
}

fn exact() -> Measurement<Mask> {
    Measurement::exact(Mask::new(dims(), &KNOWN).unwrap(), &[1.0, 0.0, 0.0]).unwrap()
}

fn towards_one(_: &At, x: &[f32], out: &mut [f32]) -> undiffuse::Result<()> {
    out.iter_mut().zip(x).for_each(|(g, x)| *g = 1.0 - x);
    Ok(())
}

/// What a method needs of a sampler.
#[derive(Clone, Copy, PartialEq)]
enum Needs {
    /// Nothing.
    Anything,
    /// Real numbers.
    Real,
    /// Real numbers and a step that adds noise.
    Noise,
    /// Real numbers, and noise of one size at every step that is at most the level's.
    NoiseWithinLevel,
    /// Returns from x_0 into ever less noise.
    Ladder,
    /// Bits.
    Bits,
}

fn methods() -> Vec<(Needs, Box<dyn Evidence>)> {
    use Needs::*;
    let constant = RSchedule::Constant;
    let odds = IndependentBits::new(&[0.9, 0.1, 0.1, 0.9, 0.1, 0.1], BitSchedule::Paper(constant)).unwrap();
    let closure = FnLogR::new(|_, _: &_, x: &[f32], out: &mut [f32]| {
        out.iter_mut().zip(x).for_each(|(g, x)| *g = 1.0 - x);
        Ok(())
    });
    vec![
        (Anything, Box::new(NoEvidence)),
        (Real, Box::new(Calibrated::new(noisy(), 2).unwrap())),
        (Noise, Box::new(CalibratedWhite::new(noisy(), 1.0).unwrap())),
        (Real, Box::new(Dps::new(noisy(), 0.3, Misfit::Gaussian).unwrap())),
        (Real, Box::new(Mcg::new(exact(), 0.3).unwrap())),
        (Real, Box::new(Pigdm::new(noisy(), PigdmRule::Published).unwrap())),
        (Real, Box::new(Pigdm::new(noisy(), PigdmRule::Score).unwrap())),
        (Real, Box::new(Tmpd::new(noisy()).unwrap())),
        (NoiseWithinLevel, Box::new(Ddrm::new(noisy(), 1.0).unwrap())),
        (NoiseWithinLevel, Box::new(Ddrm::ddnm_plus(noisy()).unwrap())),
        (Real, Box::new(Ddnm::new(exact()).unwrap())),
        (Real, Box::new(DiffPir::new(noisy(), 1.0).unwrap())),
        (Real, Box::new(KnownPixels::new(exact()).unwrap())),
        (Noise, Box::new(ExactProduct::new(noisy(), constant).unwrap())),
        (Noise, Box::new(MeanShift::new(wide(), RSchedule::Ramp))),
        (Noise, Box::new(MeanShift::new(closure, constant))),
        (Anything, Box::new(Clamp::new(noisy(), Known::Clean).unwrap())),
        (Real, Box::new(Clamp::new(noisy(), Known::Renoised).unwrap())),
        (Real, Box::new(Classifier::new("score", 1.0, ClassifierRule::Score, towards_one).unwrap())),
        (Noise, Box::new(Classifier::new("mean", 1.0, ClassifierRule::Mean, towards_one).unwrap())),
        (Ladder, Box::new(SplitGibbs::new(noisy(), &SplitGibbsOptions { ensemble: 2, ..Default::default() }).unwrap())),
        (Bits, Box::new(BitProduct::new(odds))),
    ]
}

/// What a sampler gives.
#[derive(Clone, Copy, PartialEq)]
enum Gives {
    NoNoise,
    Noise,
    NoiseWithinLevel,
    Ladder,
    Bits,
}

type BoxedSampler = Box<dyn Sampler + Send + Sync>;

fn samplers() -> Vec<(&'static str, Gives, BoxedSampler)> {
    let of = |kind, variance, eta, ddim_noise| {
        let config = SchedulerConfig { variance_type: variance, ..SchedulerConfig::new(kind) };
        let options = SamplerOptions { steps: Steps::Count(12), eta, ddim_noise, ..Default::default() };
        config.sampler(&options).unwrap()
    };
    let (ddim, small) = (SamplerKind::Ddim, VarianceType::FixedSmall);
    let config = SchedulerConfig::new(SamplerKind::Ddpm);
    let options = SamplerOptions { steps: Steps::Count(12), ..Default::default() };
    let repaint = config.repaint(&options, Jumps { length: 3, resamplings: 2 }).unwrap();
    let ladder = config.split_gibbs(&options, &undiffuse::sampler::Ladder::to(0.1)).unwrap();
    let schedule = NoiseSchedule::new(&Betas::erasing_evenly(30).unwrap(), Arithmetic::Float64).unwrap();
    let readout = Readout2015::Prediction(PredictionType::Epsilon);
    let ancestral = |ending| Box::new(Ancestral2015::new(&schedule, readout, ending).unwrap());
    let half = Binomial::new(0.5).unwrap();
    let binary = Bits2015::new(&schedule, half, BitPrediction::Clean, false, Ending2015::Mean).unwrap();
    vec![
        ("DDIM, eta 0", Gives::NoNoise, of(ddim, small, 0.0, DdimNoise::Posterior)),
        ("DDIM, eta 1", Gives::NoiseWithinLevel, of(ddim, small, 1.0, DdimNoise::Posterior)),
        ("DDIM, eta 0.85 of the level", Gives::NoiseWithinLevel, of(ddim, small, 0.85, DdimNoise::Level)),
        ("DDPM, fixed_small", Gives::NoiseWithinLevel, of(SamplerKind::Ddpm, small, 0.0, DdimNoise::Posterior)),
        ("DDPM, fixed_large", Gives::Noise, of(SamplerKind::Ddpm, VarianceType::FixedLarge, 0.0, DdimNoise::Posterior)),
        ("RePaint", Gives::NoiseWithinLevel, Box::new(repaint)),
        ("split Gibbs", Gives::Ladder, Box::new(ladder)),
        ("2015", Gives::Noise, ancestral(Ending2015::Mean)),
        ("2015, original ending", Gives::Noise, ancestral(Ending2015::Original)),
        ("bits", Gives::Bits, Box::new(binary)),
    ]
}

fn goes(needs: Needs, gives: Gives) -> bool {
    match (needs, gives) {
        (Needs::Anything, _) => true,
        (Needs::Bits, _) | (_, Gives::Bits) => needs == Needs::Bits && gives == Gives::Bits,
        (Needs::Real, _) => true,
        (Needs::Noise, _) => gives != Gives::NoNoise,
        (Needs::NoiseWithinLevel, _) => matches!(gives, Gives::NoiseWithinLevel | Gives::Ladder),
        (Needs::Ladder, _) => gives == Gives::Ladder,
    }
}

/// A chain's samples, or why there is none.
fn run(gives: Gives, sampler: BoxedSampler, evidence: &mut dyn Evidence) -> undiffuse::Result<Vec<f32>> {
    let options = ChainOptions { batch: 2, first_sample: 0 };
    if gives == Gives::Bits {
        let mut chain = Chain::with_evidence(bits(), sampler, Seeded::new(1), evidence, &options)?;
        chain.run().unwrap();
        return Ok(chain.x().to_vec());
    }
    let mut chain = Chain::with_evidence(prior(), sampler, Seeded::new(1), evidence, &options)?;
    chain.run().unwrap();
    Ok(chain.x().to_vec())
}

#[test]
fn a_pair_works_or_is_refused_by_name() {
    let (mut works, mut refused) = (0, 0);
    for i in 0..samplers().len() {
        let plain = run(samplers()[i].1, samplers().swap_remove(i).2, &mut NoEvidence).unwrap();
        for (needs, mut evidence) in methods() {
            let (label, gives, sampler) = samplers().swap_remove(i);
            let (name, sampler_name) = (evidence.name().to_string(), sampler.name());
            let got = run(gives, sampler, &mut *evidence);
            if goes(needs, gives) {
                let x = got.unwrap_or_else(|e| panic!("{name} with {label}: {e}"));
                assert!(x.iter().all(|v| v.is_finite() && v.abs() < 10.0), "{name} with {label}: {x:?}");
                assert_eq!(x == plain, name == "none", "{name} with {label} should change the samples");
                works += 1;
            } else {
                let e = got.err().unwrap_or_else(|| panic!("{name} with {label} should be refused"));
                assert_eq!(e.kind(), ErrorKind::Unsupported, "{name} with {label}: {e}");
                assert!(e.message().contains(sampler_name), "{name} with {label}: {e}");
                refused += 1;
            }
        }
    }
    println!("{works} pairs work, {refused} are refused");
    assert_eq!(works + refused, samplers().len() * methods().len());
}

/// The recommended sampler is one that the method goes with, for a model of ordinary length and for one with few timesteps.
#[test]
fn what_a_method_recommends_works() {
    for train in [1000, 12] {
        for (_, mut evidence) in methods().into_iter().filter(|m| m.0 != Needs::Bits) {
            let name = evidence.name().to_string();
            // DDPM's usual variance is fixed_small.
            let config = SchedulerConfig { num_train_timesteps: train, ..SchedulerConfig::new(SamplerKind::Ddpm) };
            let sampler = evidence.recommended().sampler(&config).unwrap();
            let calls = sampler.levels().len();
            let x = run(Gives::Noise, sampler, &mut *evidence).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(x.iter().all(|v| v.is_finite() && v.abs() < 10.0), "{name}: {x:?}");
            let expected = match (evidence.name(), train) {
                ("calibrated", 1000) => 36,
                ("split Gibbs", 1000) => 182,
                ("RePaint", 1000) => 2410,
                ("DDRM", 1000) => 20,
                ("calibrated to a white prior", 1000) => 250,
                ("DDNM" | "DDNM+" | "DiffPIR" | "PiGDM" | "TMPD", 1000) => 100,
                (_, 1000) => 1000,
                ("calibrated", _) => 20,
                ("split Gibbs", _) => 49,
                ("RePaint", _) => 102,
                _ => 12,
            };
            assert_eq!(calls, expected, "{name} of {train} timesteps");
        }
    }
}
