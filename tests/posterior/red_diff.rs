//! RED-diff on problems whose minimum is known, and what it keeps from step to step.

use crate::stopped::finished;
use undiffuse::ErrorKind;
use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::denoiser::{Component, Covariance, GaussianMixture};
use undiffuse::noise::Seeded;
use undiffuse::posterior::operator::{Identity, Mask};
use undiffuse::posterior::{Evidence, Measurement, RedDiff};
use undiffuse::process::PredictionType;
use undiffuse::sampler::{DdimNoise, Sampler, SamplerKind, SamplerOptions, SchedulerConfig, Steps};
use undiffuse::tensor::Dims;

fn dims() -> Dims {
    Dims::new(&[1, 2, 2]).unwrap()
}

fn prior(mean: f64, variance: f64) -> GaussianMixture {
    let covariance = Covariance::Diagonal(vec![variance; 4]);
    let part = Component { weight: 1.0, mean: vec![mean; 4], covariance };
    GaussianMixture::new(dims(), &[part], PredictionType::Epsilon).unwrap()
}

fn ddim(steps: usize) -> Box<dyn Sampler + Send + Sync> {
    let config = SchedulerConfig { clip_sample: false, ..SchedulerConfig::new(SamplerKind::Ddim) };
    let (eta, ddim_noise) = (1.0, DdimNoise::Level);
    config.sampler(&SamplerOptions { steps: Steps::Count(steps), eta, ddim_noise, ..Default::default() }).unwrap()
}

fn evidence() -> RedDiff<Mask> {
    let mask = Mask::new(dims(), &[true, true, false, false]).unwrap();
    RedDiff::new(Measurement::new(mask, &[0.7, -0.4], 0.1).unwrap(), 0.02, 0.25).unwrap()
}

/// As the noise falls the model's weight does, so seen values end where they were measured; what was not seen is drawn
/// to the prior's mean; and all samples end there: there is no variance.
#[test]
fn a_point_is_led_to_the_mode() {
    let options = ChainOptions { batch: 64, first_sample: 0 };
    let mut chain = Chain::with_evidence(prior(0.2, 0.01), ddim(1000), Seeded::new(3), evidence(), &options).unwrap();
    chain.run().unwrap();
    for (i, want) in [0.7, -0.4, 0.2, 0.2].into_iter().enumerate() {
        let values = || chain.x().chunks(4).map(|x| f64::from(x[i]));
        let mean = values().sum::<f64>() / 64.0;
        let deviation = (values().map(|x| (x - mean) * (x - mean)).sum::<f64>() / 63.0).sqrt();
        println!("{i}: {mean:.4} +- {deviation:.4}");
        assert!((mean - want).abs() < 0.03, "{i}: {mean}");
        // The prior's own is 0.1.
        assert!(deviation < 0.06, "{i}: {deviation}");
    }
}

fn run(batch: usize, first_sample: u64, stop: Option<usize>) -> Vec<f32> {
    let options = ChainOptions { batch, first_sample };
    let chain = || Chain::with_evidence(prior(0.1, 0.2), ddim(40), Seeded::new(5), evidence(), &options).unwrap();
    finished(chain, stop)
}

#[test]
fn its_moments_are_saved_with_the_chain_and_apart_for_each_sample() {
    let whole = run(3, 40, None);
    let alone: Vec<f32> = (40..43).flat_map(|i| run(1, i, None)).collect();
    assert_eq!(whole, alone);
    for stop in [1, 2, 17, 39] {
        assert_eq!(whole, run(3, 40, Some(stop)), "after {stop} steps");
    }
    // And a chain that begins again has forgotten them.
    let options = ChainOptions { batch: 3, first_sample: 40 };
    let mut c = Chain::with_evidence(prior(0.1, 0.2), ddim(40), Seeded::new(5), evidence(), &options).unwrap();
    c.run().unwrap();
    c.restart(41, 2).unwrap();
    c.run().unwrap();
    assert_eq!(c.x(), &whole[4..]);
}

#[test]
fn misfits_are_refused_by_what_would_fit() {
    let seen = || Measurement::new(Identity::new(dims()).unwrap(), &[0.0; 4], 0.1).unwrap();
    for (rate, lambda) in [(0.0, 1.0), (f64::NAN, 1.0), (0.1, 0.0), (0.1, f64::INFINITY)] {
        assert_eq!(RedDiff::new(seen(), rate, lambda).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
    let config = SchedulerConfig::new(SamplerKind::Ddpm);
    let ddpm = config.sampler(&SamplerOptions { steps: Steps::Count(20), ..Default::default() }).unwrap();
    let evidence = RedDiff::new(seen(), 0.1, 0.25).unwrap();
    assert_eq!(evidence.kept_len(dims()), 13);
    let chain = Chain::with_evidence(prior(0.0, 0.1), ddpm, Seeded::new(1), evidence, &ChainOptions::default());
    let e = chain.err().unwrap();
    assert!(e.kind() == ErrorKind::Unsupported && e.message().contains("eta 1 of the level"), "{e}");
}
