//! Models whose last level has no signal (`rescale_betas_zero_snr`, v_prediction, trailing timesteps; Lin et al. 2024):
//! the evidence's weight there is that at infinite noise, none, and every method comes as near to the posterior of
//! normal data as with a schedule that ends in a trace of it.

use crate::affine::{Matrix, errors, posterior, whole};
use crate::every_sampler::Exact;
use undiffuse::chain::{Chain, ChainOptions, Status};
use undiffuse::denoiser::{Component, Covariance};
use undiffuse::noise::Seeded;
use undiffuse::posterior::operator::Mask;
use undiffuse::posterior::{
    Calibrated, CalibratedWhite, Daps, DapsOptions, Ddrm, DiffPir, Dps, Evidence, ExactProduct, Fps, FpsOptions,
    Measurement, Misfit, OptimalVariance, Pigdm, PigdmRule, RSchedule, SplitGibbs, SplitGibbsOptions, Tmpd,
};
use undiffuse::process::PredictionType;
use undiffuse::sampler::{Sampler, SamplerKind, SchedulerConfig, VarianceType};
use undiffuse::schedule::TimestepSpacing;
use undiffuse::tensor::Dims;

const Y: f32 = 0.8;
const S: f64 = 0.3;

fn dims() -> Dims {
    Dims::new(&[1, 1, 2]).unwrap()
}

fn mask() -> Mask {
    Mask::new(dims(), &[true, false]).unwrap()
}

fn seen() -> Measurement<Mask> {
    Measurement::new(mask(), &[Y], S).unwrap()
}

fn prior() -> (Vec<f64>, Matrix) {
    (vec![0.3, -0.2], vec![vec![0.9, 0.6], vec![0.6, 0.7]])
}

fn config(zero: bool) -> SchedulerConfig {
    SchedulerConfig {
        clip_sample: false,
        variance_type: VarianceType::FixedSmall,
        prediction_type: PredictionType::VPrediction,
        timestep_spacing: TimestepSpacing::Trailing,
        rescale_betas_zero_snr: zero,
        ..SchedulerConfig::new(SamplerKind::Ddpm)
    }
}

fn denoiser(sampler: &dyn Sampler, batch: usize) -> Exact {
    let (mean, covariance) = prior();
    let part = Component { weight: 1.0, mean, covariance: Covariance::Full(covariance.concat()) };
    Exact::new(sampler, dims(), &[part], batch)
}

fn methods() -> Vec<Box<dyn Evidence>> {
    let langevin = DapsOptions { langevin_steps: 5, flow_steps: 1, ..DapsOptions::default() };
    vec![
        Box::new(OptimalVariance::new(2).unwrap()),
        Box::new(Calibrated::new(seen(), 2).unwrap().with_variance_products(2).unwrap()),
        Box::new(Calibrated::new(seen(), 2).unwrap().with_variance_products(0).unwrap()),
        Box::new(CalibratedWhite::new(seen(), 1.0).unwrap()),
        Box::new(Tmpd::new(seen()).unwrap()),
        Box::new(Pigdm::new(seen(), PigdmRule::Published).unwrap()),
        Box::new(Ddrm::new(seen(), 1.0).unwrap()),
        Box::new(Ddrm::ddnm_plus(seen()).unwrap()),
        Box::new(DiffPir::new(seen(), 1.0).unwrap()),
        Box::new(ExactProduct::new(seen(), RSchedule::Constant).unwrap()),
        Box::new(Daps::new(seen(), &langevin).unwrap()),
        Box::new(Fps::new(seen(), &FpsOptions { ensemble: 1 }).unwrap()),
    ]
}

#[test]
fn a_level_without_signal_costs_no_accuracy() {
    let (m, s) = prior();
    for mut evidence in methods() {
        let want = if evidence.name() == "optimal variance" {
            (m.clone(), s.clone())
        } else {
            posterior(&m, &s, &mask(), &[Y], S)
        };
        let mut of = |zero: bool| {
            let sampler = evidence.recommended().sampler(&config(zero)).unwrap();
            // DAPS begins at the noisiest level that has a signal.
            let begins = sampler.levels()[0].alpha;
            assert!((begins == 0.0) == (zero && evidence.name() != "DAPS"), "{}: {begins}", evidence.name());
            errors(&whole(|batch| denoiser(&*sampler, batch), &*sampler, &mut *evidence).unwrap(), &want)
        };
        let (trace, none) = (of(false), of(true));
        println!("{}: {trace:.4?}, without signal {none:.4?}", evidence.name());
        assert!(none.0 < trace.0 + 0.01 && none.1 < trace.1 + 0.01, "{}: {trace:?} {none:?}", evidence.name());
    }
}

/// What is no affine map of its noise: the same seed leads to nearly the same mean.
#[test]
fn methods_that_are_sampled_do_too() {
    let mean = |make: &dyn Fn() -> Box<dyn Evidence>, zero: bool| {
        let evidence = make();
        let sampler = evidence.recommended().sampler(&config(zero)).unwrap();
        let options = ChainOptions { batch: 512, first_sample: 0 };
        let mut chain =
            Chain::with_evidence(denoiser(&*sampler, 512), &*sampler, Seeded::new(3), evidence, &options).unwrap();
        chain.run().unwrap();
        assert_eq!(chain.status(), Status::Done);
        [0, 1].map(|i| chain.x().chunks(2).map(|x| f64::from(x[i])).sum::<f64>() / 512.0)
    };
    let makes: [&dyn Fn() -> Box<dyn Evidence>; 2] =
        [&|| Box::new(Dps::new(seen(), 0.3, Misfit::Gaussian).unwrap()), &|| {
            Box::new(SplitGibbs::new(seen(), &SplitGibbsOptions { ensemble: 64, ..Default::default() }).unwrap())
        }];
    for make in makes {
        let (trace, none) = (mean(make, false), mean(make, true));
        println!("{trace:?} {none:?}");
        assert!((0..2).all(|i| (trace[i] - none[i]).abs() < 0.05), "{trace:?} {none:?}");
    }
}
