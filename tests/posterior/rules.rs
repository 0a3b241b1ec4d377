//! What every evidence method keeps to: misfits are refused with a clear error, failures leave a usable chain, and a
//! sample does not depend on its batch.

use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::denoiser::{Call, Component, Covariance, Denoiser, FnDenoiser, GaussianMixture};
use undiffuse::noise::Seeded;
use undiffuse::posterior::operator::{Callback, Identity, LinearOperator, Mask, gaussian_kernel};
use undiffuse::posterior::operator::{Padding, SeparableBlur};
use undiffuse::posterior::{
    BitProduct, BitSchedule, Calibrated, CalibratedWhite, Clamp, Evidence, ExactProduct, FnLogR, IndependentBits,
    Known, MeanShift, Measurement, NoEvidence, RSchedule,
};
use undiffuse::process::PredictionType;
use undiffuse::sampler::{
    Ancestral2015, Ending2015, Readout2015, Sampler, SamplerKind, SamplerOptions, SchedulerConfig, Steps,
};
use undiffuse::schedule::{Arithmetic, Betas, NoiseSchedule};
use undiffuse::tensor::Dims;
use undiffuse::{Error, ErrorKind};

const N: usize = 12;

fn dims() -> Dims {
    Dims::new(&[1, 3, 4]).unwrap()
}

fn prior() -> GaussianMixture {
    let at = |m: f64| Component {
        weight: 1.0,
        mean: (0..N).map(|i| m + 0.03 * i as f64).collect(),
        covariance: Covariance::Diagonal(vec![0.1; N]),
    };
    GaussianMixture::new(dims(), &[at(-0.5), at(0.4)], PredictionType::Epsilon).unwrap()
}

fn sampler(kind: SamplerKind, eta: f64) -> Box<dyn Sampler + Send + Sync> {
    let config = SchedulerConfig::new(kind);
    config.sampler(&SamplerOptions { steps: Steps::Count(20), eta, ..Default::default() }).unwrap()
}

fn ddpm() -> Box<dyn Sampler + Send + Sync> {
    sampler(SamplerKind::Ddpm, 0.0)
}

fn mask() -> Mask {
    Mask::without_box(dims(), 0, 1, 2, 2).unwrap()
}

fn blur() -> SeparableBlur {
    let g = gaussian_kernel(3, 0.8).unwrap();
    SeparableBlur::new(dims(), &g, &g, Padding::Symmetric).unwrap()
}

fn y(op: &dyn LinearOperator) -> Vec<f32> {
    (0..op.output_dims().elements()).map(|i| 0.3 - 0.05 * i as f32).collect()
}

fn all() -> Vec<Box<dyn Evidence>> {
    let (m, b) = (mask(), blur());
    let (ym, yb) = (y(&m), y(&b));
    let masked = || Measurement::new(mask(), &ym, 0.1).unwrap();
    let blurred = || Measurement::new(blur(), &yb, 0.1).unwrap();
    // Wider than the steps, as the mean shift needs it.
    let wide = || (Measurement::new(mask(), &ym, 2.0).unwrap(), Measurement::new(blur(), &yb, 2.0).unwrap());
    vec![
        Box::new(MeanShift::new(wide().0, RSchedule::Constant)),
        Box::new(MeanShift::new(wide().1, RSchedule::Ramp)),
        Box::new(MeanShift::new(
            FnLogR::new(|_, _: &_, x: &[f32], out: &mut [f32]| {
                out.iter_mut().zip(x).for_each(|(o, x)| *o = 1.0 - x);
                Ok(())
            }),
            RSchedule::Constant,
        )),
        Box::new(ExactProduct::new(blurred(), RSchedule::Constant).unwrap()),
        Box::new(Clamp::new(masked(), Known::Clean).unwrap()),
        Box::new(Clamp::new(masked(), Known::Renoised).unwrap()),
        Box::new(CalibratedWhite::new(blurred(), 1.0).unwrap()),
        Box::new(Calibrated::new(blurred(), 3).unwrap()),
        Box::new(Calibrated::new(masked(), 2).unwrap()),
    ]
}

fn run(evidence: impl Evidence, batch: usize, first_sample: u64) -> Vec<f32> {
    let options = ChainOptions { batch, first_sample };
    let mut c = Chain::with_evidence(prior(), ddpm(), Seeded::new(5), evidence, &options).unwrap();
    c.run().unwrap();
    c.x().to_vec()
}

#[test]
fn a_sample_does_not_depend_on_its_batch() {
    for mut e in all() {
        let together = run(&mut *e, 3, 40);
        let alone: Vec<f32> = (40..43).flat_map(|i| run(&mut *e, 1, i)).collect();
        assert_eq!(together, alone, "{}", e.name());
    }
}

#[test]
fn a_run_is_continued_after_saving() {
    for mut e in all() {
        let want = run(&mut *e, 2, 3);
        let name = e.name().to_string();
        let options = ChainOptions { batch: 2, first_sample: 3 };
        let saved = {
            let mut c = Chain::with_evidence(prior(), ddpm(), Seeded::new(5), &mut *e, &options).unwrap();
            (0..7).for_each(|_| assert!(c.step().is_ok()));
            c.save().unwrap()
        };
        let mut d = Chain::with_evidence(prior(), ddpm(), Seeded::new(5), &mut *e, &options).unwrap();
        d.restore(&saved).unwrap();
        d.run().unwrap();
        assert_eq!(d.x(), want, "{name}");
    }
}

#[test]
fn clamped_values_are_those_given() {
    let m = mask();
    let x = run(Clamp::new(Measurement::new(&m, &y(&m), 0.1).unwrap(), Known::Clean).unwrap(), 2, 0);
    for sample in x.chunks_exact(N) {
        let known: Vec<f32> = m.known().iter().map(|&i| sample[i]).collect();
        assert_eq!(known, y(&m));
    }
}

#[test]
fn each_sample_can_have_its_own_measurement() {
    let id = Identity::new(dims()).unwrap();
    let ys: Vec<f32> = (0..2 * N).map(|i| if i < N { 0.4 } else { -0.5 }).collect();
    let both = run(Calibrated::new(Measurement::each(&id, &ys, 8, 0.2).unwrap(), 2).unwrap(), 2, 8);
    for (i, y) in ys.chunks(N).enumerate() {
        let one = run(Calibrated::new(Measurement::new(&id, y, 0.2).unwrap(), 2).unwrap(), 1, 8 + i as u64);
        assert_eq!(one, both[i * N..][..N]);
    }
    // A sample without a measurement.
    let e = Calibrated::new(Measurement::each(&id, &ys, 8, 0.2).unwrap(), 2).unwrap();
    let options = ChainOptions { batch: 2, first_sample: 9 };
    let mut c = Chain::with_evidence(prior(), ddpm(), Seeded::new(5), e, &options).unwrap();
    let e = c.step().unwrap_err();
    assert!(e.kind() == ErrorKind::InvalidArgument && e.message().contains("sample 10"), "{e}");
    c.restart(8, 2).unwrap();
    c.run().unwrap();
    assert_eq!(c.x(), both, "the chain is usable after");
}

fn copy(from: &[f32], to: &mut [f32]) -> undiffuse::Result<()> {
    to.copy_from_slice(from);
    Ok(())
}

fn refused(denoiser: impl Denoiser, sampler: impl Sampler, evidence: impl Evidence) -> Error {
    Chain::with_evidence(denoiser, sampler, Seeded::new(0), evidence, &ChainOptions::default()).err().unwrap()
}

#[test]
fn misfits_are_refused() {
    let b = blur();
    let seen = || Measurement::new(&b, &y(&b), 0.1).unwrap();
    // A sampler without noise has nothing to multiply.
    for e in [
        refused(prior(), sampler(SamplerKind::Ddim, 0.0), ExactProduct::new(seen(), RSchedule::Constant).unwrap()),
        refused(prior(), sampler(SamplerKind::Ddim, 0.0), CalibratedWhite::new(seen(), 1.0).unwrap()),
        refused(prior(), sampler(SamplerKind::Ddim, 0.0), MeanShift::new(seen(), RSchedule::Constant)),
    ] {
        assert_eq!(e.kind(), ErrorKind::Unsupported);
        assert!(e.message().contains("DDIM"), "{e}");
    }
    // Another shape.
    let small = Identity::new(Dims::new(&[1, 2, 2]).unwrap()).unwrap();
    let other = || Measurement::new(&small, &[0.0; 4], 0.1).unwrap();
    for e in [
        refused(prior(), ddpm(), Calibrated::new(other(), 1).unwrap()),
        refused(prior(), ddpm(), CalibratedWhite::new(other(), 1.0).unwrap()),
        refused(prior(), ddpm(), MeanShift::new(other(), RSchedule::Constant)),
        refused(prior(), ddpm(), Clamp::new(other(), Known::Clean).unwrap()),
    ] {
        assert_eq!(e.kind(), ErrorKind::Shape);
        assert!(e.message().contains("[1, 2, 2]") && e.message().contains("[1, 3, 4]"), "{e}");
    }
    // No derivative.
    let plain = FnDenoiser::new("plain", dims(), |_: &Call<'_>, _: &[f32], _: &mut [f32]| Ok(()));
    assert_eq!(refused(plain, ddpm(), Calibrated::new(seen(), 1).unwrap()).kind(), ErrorKind::Unsupported);
    // Bits and real numbers.
    let bits = BitProduct::new(IndependentBits::new(&[0.5; N], BitSchedule::Paper(RSchedule::Constant)).unwrap());
    assert_eq!(refused(prior(), ddpm(), bits).kind(), ErrorKind::Unsupported);
    // What a method cannot do without.
    let exact = || Measurement::exact(&b, &y(&b)).unwrap();
    assert_eq!(Calibrated::new(exact(), 1).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(Calibrated::new(seen(), 0).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(CalibratedWhite::new(seen(), 0.0).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(
        refused(prior(), ddpm(), MeanShift::new(exact(), RSchedule::Constant)).kind(),
        ErrorKind::InvalidArgument
    );
    assert_eq!(Clamp::new(seen(), Known::Clean).unwrap_err().kind(), ErrorKind::Unsupported);
    let callback = Callback::new(dims(), dims(), copy, copy);
    let seen = Measurement::new(callback, &[0.0; N], 0.1).unwrap();
    assert_eq!(ExactProduct::new(seen, RSchedule::Constant).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn a_callback_operator_does_for_the_calibrated_method() {
    let callback = Callback::new(dims(), dims(), copy, copy);
    let id = Identity::new(dims()).unwrap();
    let y = [0.2; N];
    let a = run(Calibrated::new(Measurement::new(callback, &y, 0.3).unwrap(), 4).unwrap(), 1, 0);
    let b = run(Calibrated::new(Measurement::new(id, &y, 0.3).unwrap(), 4).unwrap(), 1, 0);
    assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 2e-3), "{a:?} and {b:?}");
}

#[test]
fn a_callback_that_fails_leaves_a_usable_chain() {
    let mut calls = 0;
    let r = FnLogR::new(|_, _: &_, _: &[f32], out: &mut [f32]| {
        calls += 1;
        match calls {
            3 => Err(Error::new(ErrorKind::Callback, "no sensor")),
            5 => {
                out.fill(f32::NAN);
                Ok(())
            }
            _ => {
                out.fill(0.0);
                Ok(())
            }
        }
    });
    let evidence = MeanShift::new(r, RSchedule::Constant);
    let mut c = Chain::with_evidence(prior(), ddpm(), Seeded::new(5), evidence, &ChainOptions::default()).unwrap();
    let e = c.run().unwrap_err();
    assert!(e.kind() == ErrorKind::Callback && e.message().contains("step 3 of 20"), "{e}");
    let e = c.run().unwrap_err();
    assert!(e.kind() == ErrorKind::NonFinite && e.message().contains("step 4 of 20"), "{e}");
    c.run().unwrap();
    assert_eq!(c.x(), run(NoEvidence, 1, 0), "evidence that says nothing changes nothing");
}

#[test]
fn a_learned_variance_is_multiplied_element_by_element() {
    // A network of the 2015 readout: with a mask each known element is a product of two Gaussians.
    let schedule = NoiseSchedule::new(&Betas::authors_2015(40, &[]).unwrap(), Arithmetic::Float64).unwrap();
    let chain = Ancestral2015::new(&schedule, Readout2015::Code, Ending2015::Mean).unwrap();
    let network = || {
        FnDenoiser::new("2015", dims(), |_: &Call<'_>, x: &[f32], out: &mut [f32]| {
            for (x, out) in x.chunks_exact(N).zip(out.chunks_exact_mut(2 * N)) {
                (0..N).for_each(|i| (out[i], out[N + i]) = (0.1 * x[i], i as f32 - 4.0));
            }
            Ok(())
        })
        .with_output_len(2 * N)
        .unwrap()
    };
    let m = mask();
    let step = |evidence: &mut dyn Evidence| {
        let options = ChainOptions::default();
        let mut c = Chain::with_evidence(network(), &chain, Seeded::new(4), evidence, &options).unwrap();
        c.start_from(20, &[0.3; N], 0).unwrap();
        c.step().unwrap();
        c.x().to_vec()
    };
    let (s, y) = (0.25, vec![0.7; m.known().len()]);
    let mut product = ExactProduct::new(Measurement::new(&m, &y, s).unwrap(), RSchedule::Constant).unwrap();
    let mut z = [0.0; N];
    undiffuse::noise::NoiseSource::normal(&mut Seeded::new(4), 0, 21, N, &mut z).unwrap();
    let (plain, with) = (step(&mut NoEvidence), step(&mut product));
    let beta = schedule.betas()[39 - 20];
    for i in 0..N {
        let mu = 0.3 * (1.0 - beta).sqrt() + 0.03 * beta.sqrt();
        let logit = (beta / (1.0 - beta)).ln() + (i as f64 - 4.0) / 40f64.sqrt();
        let variance = 1.0 / (1.0 + (-logit).exp());
        let z = f64::from(z[i]);
        assert!((f64::from(plain[i]) - (mu + variance.sqrt() * z)).abs() < 1e-5);
        let want = if m.known().contains(&i) {
            let v = 1.0 / (1.0 / variance + 1.0 / (s * s));
            v * (mu / variance + 0.7 / (s * s)) + v.sqrt() * z
        } else {
            f64::from(plain[i])
        };
        assert!((f64::from(with[i]) - want).abs() < 1e-5, "{i}: {} and {want}", with[i]);
    }
    let e = ExactProduct::new(Measurement::new(blur(), &[0.0; N], s).unwrap(), RSchedule::Constant).unwrap();
    let mut c = Chain::with_evidence(network(), &chain, Seeded::new(0), e, &ChainOptions::default()).unwrap();
    assert_eq!(c.step().unwrap_err().kind(), ErrorKind::Unsupported);
}
