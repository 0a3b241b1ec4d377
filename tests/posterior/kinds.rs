//! What `MethodKind` says of each method is what the method does: its products, its chain, the noise and the operators
//! that it takes.

use undiffuse::ErrorKind;
use undiffuse::posterior::operator::{Dense, Mask};
use undiffuse::posterior::{
    Calibrated, CalibratedWhite, Clamp, Daps, DapsOptions, Ddnm, Ddrm, DiffPir, Dps, Evidence, ExactProduct, Fps,
    FpsOptions, Known, KnownPixels, Mcg, MeanShift, Measurement, MethodKind, MethodNoise, MethodOperator, Misfit,
    Pigdm, PigdmRule, RSchedule, RedDiff, Sitcom, SitcomOptions, SplitGibbs, SplitGibbsOptions, Tmpd,
};
use undiffuse::tensor::Dims;

const KNOWN: [bool; 4] = [true, false, true, false];

fn dims() -> Dims {
    Dims::new(&[1, 2, 2]).unwrap()
}

fn mask() -> Mask {
    Mask::new(dims(), &KNOWN).unwrap()
}

fn measured(sigma: f64) -> undiffuse::Result<Measurement<Mask>> {
    let y = [0.5, -0.5];
    if sigma == 0.0 { Measurement::exact(mask(), &y) } else { Measurement::new(mask(), &y, sigma) }
}

/// The method with its options at their defaults.
fn make(kind: MethodKind, sigma: f64) -> undiffuse::Result<Box<dyn Evidence>> {
    let seen = measured(sigma)?;
    Ok(match kind {
        MethodKind::Calibrated => Box::new(Calibrated::new(seen, 2)?),
        MethodKind::SplitGibbs => Box::new(SplitGibbs::new(seen, &SplitGibbsOptions::default())?),
        MethodKind::CalibratedWhite => Box::new(CalibratedWhite::new(seen, 1.0)?),
        MethodKind::Dps => Box::new(Dps::new(seen, 0.5, Misfit::Gaussian)?),
        MethodKind::Daps => Box::new(Daps::new(seen, &DapsOptions::default())?),
        MethodKind::RedDiff => Box::new(RedDiff::new(seen, 0.1, 0.25)?),
        MethodKind::Sitcom => Box::new(Sitcom::new(seen, &SitcomOptions::default())?),
        MethodKind::Fps => Box::new(Fps::new(seen, &FpsOptions::default())?),
        MethodKind::Mcg => Box::new(Mcg::new(seen, 0.5)?),
        MethodKind::Pigdm => Box::new(Pigdm::new(seen, PigdmRule::Published)?),
        MethodKind::Tmpd => Box::new(Tmpd::new(seen)?),
        MethodKind::Ddrm => Box::new(Ddrm::new(seen, 1.0)?),
        MethodKind::Ddnm => Box::new(Ddnm::new(seen)?),
        MethodKind::DdnmPlus => Box::new(Ddrm::ddnm_plus(seen)?),
        MethodKind::DiffPir => Box::new(DiffPir::new(seen, 1.0)?),
        MethodKind::KnownPixels => Box::new(KnownPixels::new(seen)?),
        MethodKind::ExactProduct => Box::new(ExactProduct::new(seen, RSchedule::Constant)?),
        MethodKind::MeanShift => Box::new(MeanShift::new(seen, RSchedule::Constant)),
        MethodKind::Clamp => Box::new(Clamp::new(seen, Known::Clean)?),
        other => panic!("no case for {other}"),
    })
}

#[test]
fn a_kind_says_what_its_method_says() {
    for (name, kind) in MethodKind::NAMES {
        let of = kind.traits();
        assert_eq!((of.name, name.parse::<MethodKind>().unwrap()), (name, kind));
        let sigma = if of.noise == MethodNoise::Zero { 0.0 } else { 0.5 };
        assert!(of.noise.takes(sigma) && !of.noise.takes(-0.5) && !of.noise.takes(f64::NAN), "{name}");
        let evidence = make(kind, sigma).unwrap();
        assert_eq!(evidence.needs_vjp(), of.products > 0, "{name}");
        if kind == MethodKind::SplitGibbs {
            assert_eq!(evidence.recommended().steps, of.recommended.steps);
        } else {
            assert_eq!(evidence.recommended(), of.recommended, "{name}");
        }
    }
}

#[test]
fn noise_that_a_method_divides_by_is_asked_for() {
    for (name, kind) in MethodKind::NAMES {
        // The mean shift looks at it together with the sampler.
        if kind == MethodKind::MeanShift {
            continue;
        }
        let made = make(kind, 0.0);
        let asked = made.is_err_and(|e| e.kind() == ErrorKind::InvalidArgument && e.to_string().contains("noise"));
        assert_eq!(asked, kind.traits().noise == MethodNoise::Positive, "{name}");
    }
}

#[test]
fn only_methods_of_elements_refuse_a_matrix() {
    let dense = || Dense::new(dims(), Dims::new(&[2]).unwrap(), &[0.5, 0.1, 0.0, 0.2, 0.0, 0.3, 0.9, 0.1]).unwrap();
    let seen = || Measurement::new(dense(), &[0.5, -0.5], 0.5).unwrap();
    let refused = Clamp::new(seen(), Known::Clean).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    let named = MethodKind::NAMES.map(|(_, kind)| (kind, kind.traits().operator));
    let all = [MethodOperator::Any, MethodOperator::Forward];
    let picky: Vec<_> = named.into_iter().filter(|(_, o)| !all.contains(o)).collect();
    // `KnownPixels` takes a mask by its type.
    let wanted = [(MethodKind::KnownPixels, MethodOperator::Mask), (MethodKind::Clamp, MethodOperator::Elements)];
    assert_eq!(picky, wanted);
    assert!(Calibrated::new(seen(), 2).is_ok() && ExactProduct::new(seen(), RSchedule::Constant).is_ok());
}

#[test]
fn an_unknown_name_is_told_the_names() {
    let error = "dsp".parse::<MethodKind>().unwrap_err().to_string();
    assert!(error.contains("\"dsp\"") && error.contains("split-gibbs") && error.contains("clamp"), "{error}");
}
