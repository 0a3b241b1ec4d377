//! What holds for every sampler, and what the golden arrays cannot show.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::error::ErrorKind;
use crate::schedule::{Arithmetic, BetaSchedule, TimestepSpacing};

type Boxed = Box<dyn Sampler + Send + Sync>;

fn make(config: &SchedulerConfig, options: SamplerOptions) -> Boxed {
    config.sampler(&options).unwrap()
}

fn ten() -> SamplerOptions {
    SamplerOptions { steps: Steps::Count(10), ..Default::default() }
}

#[test]
fn the_diffusers_target_is_the_next_timestep_only_with_leading_spacing() {
    for (_, timestep_spacing) in TimestepSpacing::NAMES {
        for steps in [7, 50] {
            let config = SchedulerConfig { timestep_spacing, ..SchedulerConfig::new(SamplerKind::Ddim) };
            let of = |ddim_previous| {
                make(&config, SamplerOptions { steps: Steps::Count(steps), ddim_previous, ..Default::default() })
            };
            let agrees = |s: &Boxed| (0..steps - 1).all(|i| s.target(i).unwrap() == s.levels()[i + 1]);
            assert!(agrees(&of(DdimPrevious::NextTimestep)), "{timestep_spacing:?}");
            let leading = timestep_spacing == TimestepSpacing::Leading;
            let trailing_divides = timestep_spacing == TimestepSpacing::Trailing && 1000 % steps == 0;
            assert_eq!(
                agrees(&of(DdimPrevious::Diffusers)),
                leading || trailing_divides,
                "{timestep_spacing:?} {steps}"
            );
            assert_eq!(of(DdimPrevious::NextTimestep).target(steps - 1).unwrap().alpha, 1.0);
        }
    }
}

#[test]
fn custom_timesteps_lead_to_each_other() {
    let options = SamplerOptions { steps: Steps::Timesteps(vec![900, 400, 390, 3]), ..Default::default() };
    for kind in [SamplerKind::Ddpm, SamplerKind::Ddim] {
        let s = make(&SchedulerConfig::new(kind), options.clone());
        let visited: Vec<f64> = s.levels().iter().map(|l| l.timestep).collect();
        assert_eq!(visited, [900.0, 400.0, 390.0, 3.0]);
        assert!((0..3).all(|i| s.target(i).unwrap() == s.levels()[i + 1]), "{}", s.name());
        assert_eq!(s.target(3).unwrap().sigma, 0.0);
    }
}

#[test]
fn fixed_large_log_is_what_was_meant() {
    let of = |variance_type| make(&SchedulerConfig { variance_type, ..SchedulerConfig::new(SamplerKind::Ddpm) }, ten());
    let (a, b) = (of(VarianceType::FixedLarge), of(VarianceType::FixedLargeLog));
    for step in 0..10 {
        let spread = b.spread(step, 1, &mut [0.0]).unwrap();
        assert_eq!(a.spread(step, 1, &mut [0.0]).unwrap(), spread);
        assert_eq!(spread == Spread::None, step == 9);
    }
}

#[test]
fn a_learned_variance_that_is_none_is_an_error() {
    let of = |variance_type| make(&SchedulerConfig { variance_type, ..SchedulerConfig::new(SamplerKind::Ddpm) }, ten());
    let s = of(VarianceType::Learned);
    let e = s.spread(0, 2, &mut [0.0, 0.0, 0.25, -0.5]).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NonFinite);
    assert!(e.message().contains("element 1 is -0.5") && e.message().contains("900"), "{e}");
    let mut output = [9.0, 9.0, 0.25, 4.0];
    assert_eq!(s.spread(0, 2, &mut output).unwrap(), Spread::PerElement);
    assert_eq!(output, [9.0, 9.0, 0.5, 2.0]);
    // Between the two logarithms: the ends are the fixed variances.
    let s = of(VarianceType::LearnedRange);
    let mut output = [0.0, 0.0, -1.0, 1.0];
    s.spread(4, 2, &mut output).unwrap();
    for (got, fixed) in [(output[2], VarianceType::FixedSmall), (output[3], VarianceType::FixedLarge)] {
        let Spread::Scalar(std) = of(fixed).spread(4, 2, &mut [0.0; 2]).unwrap() else { panic!("no scalar") };
        assert!((got - std).abs() < 1e-6 * std);
    }
    assert_eq!(s.spread(4, 2, &mut [0.0; 2]).unwrap_err().kind(), ErrorKind::Shape);
}

#[test]
fn a_learned_half_is_ignored_where_it_is_not_asked_for() {
    for kind in [SamplerKind::Ddpm, SamplerKind::Ddim] {
        let s = make(&SchedulerConfig::new(kind), ten());
        let (mut x0, mut eps) = ([0.0; 2], [0.0; 2]);
        s.predict(3, &[0.1, 0.2], &[0.3, 0.4, 77.0, 77.0], &mut x0, &mut eps).unwrap();
        let (with, eps_with) = (x0, eps);
        s.predict(3, &[0.1, 0.2], &[0.3, 0.4], &mut x0, &mut eps).unwrap();
        assert_eq!((with, eps_with), (x0, eps));
    }
}

#[test]
fn wrong_lengths_and_steps_are_errors() {
    for kind in [SamplerKind::Ddpm, SamplerKind::Ddim] {
        let s = make(&SchedulerConfig::new(kind), SamplerOptions { eta: 1.0, ..ten() });
        let mut two = [0.0; 2];
        let mut other = [0.0; 2];
        assert_eq!(
            s.predict(10, &[0.0; 2], &[0.0; 2], &mut two, &mut other).unwrap_err().kind(),
            ErrorKind::InvalidArgument
        );
        assert_eq!(s.predict(0, &[0.0; 2], &[0.0; 3], &mut two, &mut other).unwrap_err().kind(), ErrorKind::Shape);
        assert_eq!(s.predict(0, &[0.0; 1], &[0.0; 1], &mut two, &mut other).unwrap_err().kind(), ErrorKind::Shape);
        let good = Estimate { x: &[0.0; 2], x0: &[0.0; 2], eps: &[0.0; 2] };
        let short = Estimate { x0: &[0.0; 1], ..good };
        assert_eq!(s.mean(0, 0, short, &[], &mut [], &mut two).unwrap_err().kind(), ErrorKind::Shape);
        assert_eq!(s.mean(0, 0, good, &[0.0], &mut [], &mut two).unwrap_err().kind(), ErrorKind::Shape);
        assert_eq!(s.mean(10, 0, good, &[], &mut [], &mut two).unwrap_err().kind(), ErrorKind::InvalidArgument);
        assert!(s.spread(10, 2, &mut two).is_err() && s.linear(10).is_err() && s.target(10).is_err());
        assert!(!s.needs_noise(10) && s.needs_noise(0));
        assert_eq!(add_noise(Spread::Scalar(1.0), &[], &[], &mut two).unwrap_err().kind(), ErrorKind::Shape);
        assert_eq!(add_noise(Spread::PerElement, &[0.0; 3], &[0.0; 2], &mut two).unwrap_err().kind(), ErrorKind::Shape);
    }
}

#[test]
fn linear_is_what_predict_does_without_clipping() {
    for kind in [SamplerKind::Ddpm, SamplerKind::Ddim] {
        for (_, prediction_type) in PredictionType::NAMES {
            let config = SchedulerConfig { prediction_type, clip_sample: false, ..SchedulerConfig::new(kind) };
            let s = make(&config, SamplerOptions { arithmetic: Arithmetic::Float64, ..ten() });
            for step in 0..10 {
                let (x, output) = ([0.7f32], [-0.4f32]);
                let (mut x0, mut eps) = ([0.0], [0.0]);
                s.predict(step, &x, &output, &mut x0, &mut eps).unwrap();
                let l = s.linear(step).unwrap();
                let at = |of_x: f64, of_output: f64| of_x * f64::from(x[0]) + of_output * f64::from(output[0]);
                let (want_x0, want_eps) = (at(l.x0_x, l.x0_output), at(l.eps_x, l.eps_output));
                assert!(
                    (f64::from(x0[0]) - want_x0).abs() < 3e-6 * (1.0 + want_x0.abs()),
                    "{kind:?} {prediction_type:?}"
                );
                assert!(
                    (f64::from(eps[0]) - want_eps).abs() < 3e-6 * (1.0 + want_eps.abs()),
                    "{kind:?} {prediction_type:?}"
                );
            }
        }
    }
}

#[test]
fn ddim_with_eta_1_is_ddpm() {
    // Same mean and variance where nothing is clipped (Song 2020, section 4.1).
    let of = |kind| {
        let config = SchedulerConfig { clip_sample: false, ..SchedulerConfig::new(kind) };
        make(&config, SamplerOptions { eta: 1.0, arithmetic: Arithmetic::Float64, ..ten() })
    };
    let (a, b) = (of(SamplerKind::Ddpm), of(SamplerKind::Ddim));
    for step in 0..10 {
        let next = |s: &Boxed| {
            let (mut output, mut x0, mut eps, mut next) = ([0.3], [0.0], [0.0], [0.0]);
            let io = StepIo {
                x: &[0.8],
                output: &mut output,
                noise: &[-1.5],
                state: &[],
                next_state: &mut [],
                eps: &mut eps,
                x0: &mut x0,
                next: &mut next,
            };
            s.step(step, 0, io).unwrap();
            next[0]
        };
        assert!((next(&a) - next(&b)).abs() < 5e-6 * next(&a).abs().max(1.0), "step {step}: {} {}", next(&a), next(&b));
    }
}

#[test]
fn fingerprints_tell_settings_apart() {
    let base = SchedulerConfig::new(SamplerKind::Ddim);
    let options = SamplerOptions { eta: 0.5, ..ten() };
    let of = |c: &SchedulerConfig, o: &SamplerOptions| c.sampler(o).unwrap().fingerprint();
    let all = [
        of(&base, &options),
        of(&base, &SamplerOptions { eta: 0.6, ..options.clone() }),
        of(&base, &SamplerOptions { sampler: Some(SamplerKind::Ddpm), ..options.clone() }),
        of(&base, &SamplerOptions { steps: Steps::Count(11), ..options.clone() }),
        of(&base, &SamplerOptions { use_clipped_model_output: true, ..options.clone() }),
        of(&base, &SamplerOptions { arithmetic: Arithmetic::Float64, ..options.clone() }),
        of(&SchedulerConfig { prediction_type: PredictionType::Sample, ..base.clone() }, &options),
        of(&SchedulerConfig { clip_sample: false, ..base.clone() }, &options),
        of(&SchedulerConfig { clip_sample_range: 2.0, ..base.clone() }, &options),
        of(&SchedulerConfig { thresholding: true, ..base.clone() }, &options),
        of(&SchedulerConfig { beta_schedule: BetaSchedule::SquaredcosCapV2, ..base.clone() }, &options),
        of(&SchedulerConfig { timestep_spacing: TimestepSpacing::Trailing, ..base.clone() }, &options),
    ];
    for (i, a) in all.iter().enumerate() {
        assert!(all[..i].iter().all(|b| a != b), "{i}");
    }
    assert_eq!(all[0], of(&base, &options));
}
