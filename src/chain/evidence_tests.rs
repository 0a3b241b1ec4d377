//! The three places that evidence has in a step.

use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::denoiser::{Component, Covariance, FnDenoiser, GaussianMixture};
use crate::error::ErrorKind;
use crate::noise::Seeded;
use crate::posterior::Jacobian;
use crate::process::PredictionType;
use crate::sampler::{SamplerKind, SamplerOptions, SchedulerConfig, Steps};
use crate::tensor::Dims;

const N: usize = 3;

fn prior(kind: PredictionType) -> GaussianMixture {
    let at = |m: f64| Component {
        weight: 1.0,
        mean: (0..N).map(|i| m * (1.0 + 0.1 * i as f64)).collect(),
        covariance: Covariance::Full(vec![0.5, 0.2, 0.0, 0.2, 0.4, 0.1, 0.0, 0.1, 0.3]),
    };
    GaussianMixture::new(Dims::new(&[N]).unwrap(), &[at(-0.5), at(0.4)], kind).unwrap()
}

fn sampler(kind: PredictionType) -> alloc::boxed::Box<dyn Sampler + Send + Sync> {
    let mut config = SchedulerConfig::new(SamplerKind::Ddpm);
    config.prediction_type = kind;
    config.clip_sample = false;
    config.sampler(&SamplerOptions { steps: Steps::Count(4), ..Default::default() }).unwrap()
}

/// What a [`Probe`] does wrong, or right.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Watch,
    Shift,
    FailInEstimate,
    NanInKernel,
    NanInMerge,
    DrawAndRestore,
    UnannouncedVjp,
    Vjp,
}

struct Probe {
    mode: Mode,
    seen: Vec<(u8, usize, usize)>,
    gradient: Vec<f32>,
}

impl Probe {
    fn new(mode: Mode) -> Self {
        Self { mode, seen: Vec::new(), gradient: Vec::new() }
    }
}

impl Evidence for Probe {
    fn name(&self) -> &str {
        "probe"
    }
    fn scratch_len(&self, dims: Dims, batch: usize) -> usize {
        dims.elements() * batch + 1
    }
    fn needs_vjp(&self) -> bool {
        self.mode == Mode::Vjp
    }
    fn estimate(
        &mut self,
        at: &At,
        x: &[f32],
        x0: &mut [f32],
        eps: &mut [f32],
        jacobian: &mut dyn Jacobian,
        scratch: &mut [f32],
    ) -> Result<()> {
        self.seen.push((1, at.step, x.len()));
        assert_eq!((x.len(), x.len(), at.sample_len), (x0.len(), eps.len(), N));
        scratch.fill(at.step as f32);
        match self.mode {
            Mode::FailInEstimate => return Err(err!(Callback, "the sensor is off")),
            Mode::Shift => x0.iter_mut().for_each(|v| *v += 1.0),
            Mode::UnannouncedVjp => jacobian.vjp(x, &mut vec![0.0; x.len()])?,
            Mode::Vjp => {
                self.gradient = vec![0.0; x.len()];
                let v: Vec<f32> = (0..x.len()).map(|i| 1.0 - 0.3 * i as f32).collect();
                jacobian.vjp(&v, &mut self.gradient)?;
            }
            _ => {}
        }
        Ok(())
    }
    fn kernel(&mut self, at: &At, x: &[f32], kernel: Kernel<'_>, scratch: &mut [f32]) -> Result<()> {
        self.seen.push((2, at.step, x.len()));
        assert!(scratch.iter().all(|s| *s == at.step as f32), "scratch is kept within a step");
        let noisy = kernel.spread != Spread::None;
        assert_eq!((kernel.mean.len(), kernel.noise.len()), (x.len(), if noisy { x.len() } else { 0 }));
        if self.mode == Mode::NanInKernel {
            kernel.mean[0] = f32::NAN;
        }
        Ok(())
    }
    fn merge(
        &mut self,
        at: &At,
        x: &[f32],
        next: &mut [f32],
        noise: &mut dyn NoiseSource,
        _: &mut [f32],
    ) -> Result<()> {
        self.seen.push((3, at.step, x.len()));
        match self.mode {
            Mode::NanInMerge => next[1] = f32::INFINITY,
            Mode::DrawAndRestore => {
                let kept = next.to_vec();
                noise.normal(at.first_sample, at.draw(0), N, next)?;
                let other = next.to_vec();
                noise.normal(at.first_sample, at.draw(1), N, next)?;
                assert_ne!(next, other);
                next.copy_from_slice(&kept);
            }
            _ => {}
        }
        Ok(())
    }
    fn fingerprint(&self) -> u64 {
        self.mode as u64 + 1
    }
}

fn chain(mode: Mode) -> Chain<'static, GaussianMixture, alloc::boxed::Box<dyn Sampler + Send + Sync>, Seeded, Probe> {
    let kind = PredictionType::Epsilon;
    let options = ChainOptions { batch: 2, first_sample: 9 };
    Chain::with_evidence(prior(kind), sampler(kind), Seeded::new(3), Probe::new(mode), &options).unwrap()
}

fn unconditional() -> Vec<f32> {
    let kind = PredictionType::Epsilon;
    let options = ChainOptions { batch: 2, first_sample: 9 };
    let mut c = Chain::new(prior(kind), sampler(kind), Seeded::new(3), &options).unwrap();
    c.run().unwrap();
    c.x().to_vec()
}

#[test]
fn evidence_is_called_in_order_and_changes_nothing_by_itself() {
    for mode in [Mode::Watch, Mode::DrawAndRestore, Mode::Vjp] {
        let mut c = chain(mode);
        c.run().unwrap();
        assert_eq!(c.x(), unconditional());
        let expected: Vec<_> = (0..4).flat_map(|s| [1, 2, 3].map(|p| (p, s, 2 * N))).collect();
        assert_eq!(c.evidence().seen, expected);
    }
    let mut c = chain(Mode::Shift);
    c.run().unwrap();
    assert_ne!(c.x(), unconditional());
    // A partial batch.
    let mut c = chain(Mode::Watch);
    c.restart(10, 1).unwrap();
    c.run().unwrap();
    assert_eq!(c.x(), &unconditional()[N..]);
}

#[test]
fn failures_name_the_evidence_and_move_nothing() {
    for (mode, kind, part) in [
        (Mode::FailInEstimate, ErrorKind::Callback, "the sensor is off"),
        (Mode::NanInKernel, ErrorKind::NonFinite, "NaN"),
        (Mode::NanInMerge, ErrorKind::NonFinite, "infinity"),
        (Mode::UnannouncedVjp, ErrorKind::Unsupported, "not announced"),
    ] {
        let mut c = chain(mode);
        let before = c.save().unwrap();
        let e = c.step().unwrap_err();
        assert_eq!(e.kind(), kind, "{e}");
        assert!(e.message().contains(part) && e.message().contains("evidence \"probe\""), "{e}");
        assert_eq!(c.save().unwrap(), before);
    }
}

#[test]
fn saved_chains_know_their_evidence() {
    let mut c = chain(Mode::Watch);
    c.step().unwrap();
    let saved = c.save().unwrap();
    assert!(chain(Mode::Shift).restore(&saved).is_err());
    let mut d = chain(Mode::Watch);
    d.restore(&saved).unwrap();
    d.run().unwrap();
    assert_eq!(d.x(), unconditional());
}

#[test]
fn the_jacobian_is_that_of_x0() {
    for kind in [PredictionType::Epsilon, PredictionType::Sample, PredictionType::VPrediction] {
        let options = ChainOptions { batch: 2, first_sample: 9 };
        let s = sampler(kind);
        let mut c = Chain::with_evidence(prior(kind), &s, Seeded::new(3), Probe::new(Mode::Vjp), &options).unwrap();
        let x = c.x().to_vec();
        c.step().unwrap();
        let got = c.evidence().gradient.clone();
        // By differences of v . x_0.
        let level = s.levels()[0];
        let mut exact = prior(PredictionType::Sample);
        let mut inner = |x: &[f32]| {
            let mut x0 = vec![0.0; 2 * N];
            exact.predict(&Call { level, first_sample: 9, cancel: never() }, x, &mut x0).unwrap();
            x0.iter().enumerate().map(|(i, v)| f64::from(*v) * (1.0 - 0.3 * i as f64)).sum::<f64>()
        };
        for i in 0..2 * N {
            let h = 0.02;
            let (mut up, mut down) = (x.clone(), x.clone());
            up[i] += h;
            down[i] -= h;
            let want = (inner(&up) - inner(&down)) / f64::from(up[i] - down[i]);
            assert!((f64::from(got[i]) - want).abs() < 2e-4, "{kind:?}, {i}: {} and {want}", got[i]);
        }
    }
}

#[test]
fn a_denoiser_without_derivatives_is_refused_where_they_are_needed() {
    let d = FnDenoiser::new("plain", Dims::new(&[N]).unwrap(), |_: &Call<'_>, _: &[f32], _: &mut [f32]| Ok(()));
    let options = ChainOptions::default();
    let s = sampler(PredictionType::Epsilon);
    let e = Chain::with_evidence(d, &s, Seeded::new(0), Probe::new(Mode::Vjp), &options).err().unwrap();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
    assert!(e.message().contains("probe") && e.message().contains("plain"), "{e}");
}
