use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::denoiser::{Component, Covariance, FnDenoiser, GaussianMixture};
use crate::error::ErrorKind;
use crate::noise::{Given, Seeded};
use crate::sampler::{Linear, PredictionType, SamplerKind, SamplerOptions, SchedulerConfig, Steps};
use crate::tensor::Dims;

const N: usize = 6;

fn prior() -> GaussianMixture {
    let at = |m: f64| Component {
        weight: 1.0,
        mean: (0..N).map(|i| m * (1.0 + 0.1 * i as f64)).collect(),
        covariance: Covariance::Diagonal(vec![0.04; N]),
    };
    GaussianMixture::new(Dims::new(&[1, 2, 3]).unwrap(), &[at(-0.5), at(0.4)], PredictionType::Epsilon).unwrap()
}

fn sampler(kind: SamplerKind, steps: usize, eta: f64) -> Box<dyn Sampler + Send + Sync> {
    SchedulerConfig::new(kind)
        .sampler(&SamplerOptions { steps: Steps::Count(steps), eta, ..Default::default() })
        .unwrap()
}

fn chain(batch: usize, first_sample: u64) -> Chain<'static, GaussianMixture, Box<dyn Sampler + Send + Sync>, Seeded> {
    let options = ChainOptions { batch, first_sample };
    Chain::new(prior(), sampler(SamplerKind::Ddpm, 10, 0.0), Seeded::new(7), &options).unwrap()
}

fn run(batch: usize, first_sample: u64) -> Vec<f32> {
    let mut c = chain(batch, first_sample);
    c.run().unwrap();
    c.x().to_vec()
}

#[test]
fn batches_and_shards_join() {
    let all = run(5, 100);
    let split = [run(2, 100), run(1, 102), run(2, 103)].concat();
    assert_eq!(all, split);
    // One session, partial batches.
    let mut c = chain(3, 0);
    let mut joined = Vec::new();
    for (first, count) in [(100, 3), (103, 2)] {
        c.restart(first, count).unwrap();
        c.run().unwrap();
        assert_eq!(c.x0().len(), count * N);
        joined.extend_from_slice(c.x());
    }
    assert_eq!(all, joined);
    c.restart(100, 3).unwrap();
    c.run().unwrap();
    assert_eq!(c.x(), &all[..3 * N], "a partial batch before must leave no trace");
}

#[test]
fn a_restored_chain_ends_in_the_same_bits() {
    let want = run(3, 5);
    for at in 0..=10 {
        let mut c = chain(3, 5);
        for _ in 0..at {
            c.step().unwrap();
        }
        let bytes = c.save().unwrap();
        let x0 = c.x0().to_vec();
        let mut d = chain(4, 900);
        d.step().unwrap();
        d.restore(&bytes).unwrap();
        assert_eq!((d.position(), d.count(), d.first_sample()), (at, 3, 5));
        assert_eq!(d.x0(), x0);
        d.run().unwrap();
        assert_eq!(d.x(), want, "saved at step {at}");
    }
}

#[test]
fn foreign_and_damaged_bytes_are_refused_and_change_nothing() {
    let mut saved = chain(2, 0);
    saved.step().unwrap();
    let bytes = saved.save().unwrap();
    let mut c = chain(2, 50);
    c.step().unwrap();
    let before = c.save().unwrap();
    let mut refuse = |bytes: &[u8], part: &str| {
        let e = c.restore(bytes).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{e}");
        assert!(e.message().contains(part), "{e}");
        assert_eq!(c.save().unwrap(), before);
    };
    for len in 0..bytes.len() {
        refuse(&bytes[..len], "");
    }
    for i in 0..bytes.len() {
        for bit in [0, 7] {
            let mut b = bytes.clone();
            b[i] ^= 1 << bit;
            refuse(&b, "");
        }
    }
    refuse(&[&bytes[..], &[0]].concat(), "checksum");
    refuse(
        b"PK\x03\x04 something else that is long enough to hold a header of the right size and some more bytes",
        "no saved",
    );
    let mut newer = bytes.clone();
    newer[8] = 9;
    refuse(&newer, "version 9");
    // Good bytes of other settings.
    let other = |kind, steps, seed, batch| {
        let mut c =
            Chain::new(prior(), sampler(kind, steps, 0.0), Seeded::new(seed), &ChainOptions { batch, first_sample: 0 })
                .unwrap();
        c.step().unwrap();
        c.save().unwrap()
    };
    refuse(&other(SamplerKind::Ddim, 10, 7, 2), "another");
    refuse(&other(SamplerKind::Ddpm, 11, 7, 2), "another");
    refuse(&other(SamplerKind::Ddpm, 10, 8, 2), "another");
    refuse(&other(SamplerKind::Ddpm, 10, 7, 3), "3 samples");
}

/// Recomputes the checksum, as an attacker would.
fn forge(mut bytes: Vec<u8>, at: usize, value: &[u8]) -> Vec<u8> {
    bytes[at..at + value.len()].copy_from_slice(value);
    let body = bytes.len() - 8;
    let sum = Fingerprint::new().bytes(&bytes[..body]).finish();
    bytes[body..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

#[test]
fn forged_bytes_are_refused() {
    let mut c = chain(2, 0);
    c.step().unwrap();
    let bytes = c.save().unwrap();
    let step = 24;
    for (at, value) in [
        (step, 11u64),
        (step, u64::MAX),
        (step + 8, 2),
        (step + 16, u64::MAX),
        (step + 24, 0),
        (step + 24, u64::MAX),
        (step + 24, 1),
        (step + 32, u64::MAX),
        (step + 40, 1 << 60),
    ] {
        assert!(c.restore(&forge(bytes.clone(), at, &value.to_le_bytes())).is_err(), "{at} {value}");
    }
    let nan = forge(bytes.clone(), step + 48, &f32::NAN.to_le_bytes());
    assert!(c.restore(&nan).unwrap_err().message().contains("NaN"));
    assert_eq!(c.save().unwrap(), bytes);
    c.restore(&bytes).unwrap();
}

#[test]
fn cancel_and_stop_leave_a_chain_that_goes_on() {
    let want = run(2, 0);
    let mut c = chain(2, 0);
    let cancel = Cancel::new();
    let mut seen = Vec::new();
    let status = c.run_with(&cancel, |p| {
        seen.push((p.step, p.steps, p.level.timestep as u32, p.x.len(), p.x0.len()));
        if p.step == 2 { Flow::Stop } else { Flow::Continue }
    });
    assert_eq!(status.unwrap(), Status::Running);
    assert_eq!(seen, [(0, 10, 900, 12, 12), (1, 10, 800, 12, 12), (2, 10, 700, 12, 12)]);
    let e = c.run_with(&cancel, |p| {
        if p.step == 5 {
            cancel.cancel();
        }
        Flow::Continue
    });
    assert_eq!(e.unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(c.position(), 6);
    cancel.reset();
    assert_eq!(c.run_with(&cancel, |_| Flow::Continue).unwrap(), Status::Done);
    assert_eq!(c.x(), want);
    assert_eq!(c.step().unwrap(), Status::Done, "a step after the last does nothing");
    assert_eq!(c.x(), want);
}

#[test]
fn a_broken_denoiser_is_named_and_can_be_retried() {
    let mut calls = 0;
    let dims = Dims::new(&[1, 2, 3]).unwrap();
    let mut exact = prior();
    let flaky = FnDenoiser::new("flaky", dims, |call: &Call<'_>, x: &[f32], out: &mut [f32]| {
        calls += 1;
        match calls {
            3 => out.fill(0.0),
            5 => return Err(err!(Callback, "the engine went away")),
            _ => return exact.predict(call, x, out),
        }
        out[N + 1] = f32::NAN;
        Ok(())
    });
    let options = ChainOptions { batch: 2, first_sample: 40 };
    let mut c = Chain::new(flaky, sampler(SamplerKind::Ddpm, 10, 0.0), Seeded::new(7), &options).unwrap();
    let e = c.run().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NonFinite);
    for part in ["step 3 of 10", "timestep 700", "flaky", "NaN", "sample 41"] {
        assert!(e.message().contains(part), "{e}");
    }
    let e = c.run().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Callback);
    assert!(e.message().contains("step 4 of 10") && e.message().contains("went away"), "{e}");
    c.run().unwrap();
    assert_eq!(c.x(), run(2, 40));
}

#[test]
fn missing_noise_is_an_error_before_anything_moves() {
    let x_t = vec![0.25; 2 * N];
    let noise = vec![0.5; 3 * 2 * N];
    let given = Given::new(&x_t, &noise, 2, 0).unwrap();
    let mut c =
        Chain::new(prior(), sampler(SamplerKind::Ddpm, 10, 0.0), given, &ChainOptions { batch: 2, first_sample: 0 })
            .unwrap();
    assert_eq!(c.x(), x_t);
    let e = c.run().unwrap_err();
    assert_eq!((e.kind(), c.position()), (ErrorKind::InvalidArgument, 3));
    assert!(e.message().contains("3 steps"), "{e}");
    // DDIM with eta 0 needs none.
    let given = Given::new(&x_t, &[], 2, 0).unwrap();
    Chain::new(prior(), sampler(SamplerKind::Ddim, 10, 0.0), given, &ChainOptions { batch: 2, first_sample: 0 })
        .unwrap()
        .run()
        .unwrap();
}

#[test]
fn a_callers_workspace_is_enough_and_exact() {
    let s = sampler(SamplerKind::Ddpm, 10, 0.0);
    let parts = || Chain::builder(prior(), &s, Seeded::new(7)).batch(3);
    let mut memory = vec![f32::NAN; parts().workspace_len().unwrap()];
    let mut c = parts().workspace(&mut memory).build().unwrap();
    c.run().unwrap();
    assert_eq!(c.x(), run(3, 0));
    let e = parts().workspace(&mut memory[1..]).build().err().unwrap();
    assert_eq!(e.kind(), ErrorKind::OutOfMemory);
}

#[test]
fn misfits_are_refused() {
    let s = || sampler(SamplerKind::Ddpm, 10, 0.0);
    let make = |batch| Chain::new(prior(), s(), Seeded::new(0), &ChainOptions { batch, first_sample: 0 });
    assert_eq!(make(0).err().unwrap().kind(), ErrorKind::InvalidArgument);
    assert_eq!(make(usize::MAX / 2).err().unwrap().kind(), ErrorKind::OutOfMemory);
    let late = ChainOptions { batch: 2, first_sample: u64::MAX };
    assert_eq!(Chain::new(prior(), s(), Seeded::new(0), &late).err().unwrap().kind(), ErrorKind::InvalidArgument);
    let learned = SchedulerConfig {
        variance_type: crate::sampler::VarianceType::Learned,
        ..SchedulerConfig::new(SamplerKind::Ddpm)
    };
    let learned = learned.sampler(&SamplerOptions::default()).unwrap();
    let e = Chain::new(prior(), learned, Seeded::new(0), &ChainOptions::default()).err().unwrap();
    assert_eq!(e.kind(), ErrorKind::Shape);
    assert!(e.message().contains("learned variance"), "{e}");
    let mut c = make(2).unwrap();
    let before = c.x().to_vec();
    assert!(c.restart(0, 3).is_err() && c.restart(0, 0).is_err() && c.restart(u64::MAX, 1).is_err());
    assert!(c.start_from(11, &[0.0; N], 0).is_err());
    assert!(c.start_from(0, &[0.0; N + 1], 0).is_err());
    assert_eq!(c.start_from(0, &[f32::NAN; N], 0).unwrap_err().kind(), ErrorKind::NonFinite);
    assert_eq!((c.x(), c.count()), (&before[..], 2));
}

#[test]
fn starting_in_the_middle_takes_up_a_run() {
    let want = run(1, 3);
    let mut c = chain(1, 3);
    for _ in 0..4 {
        c.step().unwrap();
    }
    let x = c.x().to_vec();
    let mut d = chain(1, 0);
    d.start_from(4, &x, 3).unwrap();
    d.run().unwrap();
    assert_eq!(d.x(), want);
    d.start_from(10, &x, 3).unwrap();
    assert_eq!((d.status(), d.x()), (Status::Done, &x[..]));
}

/// x_s = x + 0.1 (eps + the eps of the step before): it carries state, scales its input and x_T, and adds no noise.
struct TwoStep(Vec<Level>);

impl Sampler for TwoStep {
    fn name(&self) -> &'static str {
        "two-step"
    }
    fn levels(&self) -> &[Level] {
        &self.0
    }
    fn target(&self, _step: usize) -> Result<Level> {
        Ok(self.0[0])
    }
    fn initial_scale(&self) -> f32 {
        3.0
    }
    fn input_scale(&self, step: usize) -> f32 {
        1.0 / (1.0 + step as f32)
    }
    fn state_len(&self, n: usize) -> usize {
        n + 1
    }
    fn needs_noise(&self, _step: usize) -> bool {
        false
    }
    fn check_output_len(&self, _n: usize, _output_len: usize) -> Result<()> {
        Ok(())
    }
    fn linear(&self, _step: usize) -> Result<Linear> {
        Ok(Linear { x0_x: 1.0, x0_output: 0.0, eps_x: 0.0, eps_output: 1.0 })
    }
    fn predict(&self, _step: usize, x: &[f32], output: &[f32], x0: &mut [f32], eps: &mut [f32]) -> Result<()> {
        x0.copy_from_slice(x);
        eps.copy_from_slice(output);
        Ok(())
    }
    fn mean(
        &self,
        _step: usize,
        done: usize,
        e: Estimate<'_>,
        state: &[f32],
        next_state: &mut [f32],
        mean: &mut [f32],
    ) -> Result<()> {
        assert_eq!(state[N], done as f32, "the state counts the steps");
        for i in 0..N {
            mean[i] = e.x[i] + 0.1 * (e.eps[i] + state[i]);
        }
        next_state[..N].copy_from_slice(e.eps);
        next_state[N] = state[N] + 1.0;
        Ok(())
    }
    fn spread(&self, _step: usize, _n: usize, _output: &mut [f32]) -> Result<Spread> {
        Ok(Spread::None)
    }
    fn fingerprint(&self) -> u64 {
        1
    }
}

#[test]
fn state_and_scales_belong_to_the_chain() {
    let s = TwoStep((0..6).map(|i| Level::variance_preserving(f64::from(i), 0.5)).collect());
    let dims = Dims::new(&[N]).unwrap();
    let double = || {
        FnDenoiser::new("double", dims, |_: &Call<'_>, x: &[f32], out: &mut [f32]| {
            out.iter_mut().zip(x).for_each(|(o, x)| *o = 2.0 * x);
            Ok(())
        })
    };
    let make = || Chain::new(double(), &s, Seeded::new(1), &ChainOptions { batch: 2, first_sample: 0 }).unwrap();
    let mut c = make();
    // By hand.
    let mut x = vec![0.0; 2 * N];
    Seeded::new(1).normal(0, 0, N, &mut x).unwrap();
    x.iter_mut().for_each(|v| *v *= 3.0);
    assert_eq!(c.x(), x);
    let mut last = vec![0.0; 2 * N];
    for step in 0..6 {
        let scale = 1.0 / (1.0 + step as f32);
        for (x, last) in x.iter_mut().zip(&mut last) {
            let eps = 2.0 * (scale * *x);
            *x += 0.1 * (eps + *last);
            *last = eps;
        }
    }
    c.step().unwrap();
    c.step().unwrap();
    let saved = c.save().unwrap();
    c.run().unwrap();
    assert_eq!(c.x(), x);
    let mut d = make();
    d.restore(&saved).unwrap();
    d.run().unwrap();
    assert_eq!(d.x(), x, "the state is saved too");
    d.restart(0, 2).unwrap();
    d.run().unwrap();
    assert_eq!(d.x(), x, "a restart clears the state");
}
