//! Operators that are not linear: values and derivatives against autograd (`tests/golden/make_nonlinear.py`) and finite
//! differences, what refuses them, and what is got back from what they saw.

use crate::golden;
use crate::pcg;
use undiffuse::ErrorKind;
use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::denoiser::{Component, Covariance, GaussianMixture};
use undiffuse::noise::Seeded;
use undiffuse::posterior::operator::{
    Clip, Dense, ForwardCallback, ForwardOperator, FourierMagnitude, Gamma, LinearOperator, Quantize,
};
use undiffuse::posterior::{
    Daps, DapsOptions, Dps, Evidence, Measurement, MethodKind, MethodOperator, Misfit, RedDiff, Sitcom, SitcomOptions,
};
use undiffuse::process::PredictionType;
use undiffuse::sampler::{SamplerKind, SchedulerConfig};
use undiffuse::tensor::Dims;

fn dims() -> Dims {
    Dims::new(&[2, 3, 4]).unwrap()
}

fn operators() -> Vec<(&'static str, Box<dyn ForwardOperator>)> {
    vec![
        ("clip", Box::new(Clip::new(dims(), 1.7).unwrap())),
        ("gamma_045", Box::new(Gamma::new(dims(), 0.45).unwrap())),
        ("gamma_22", Box::new(Gamma::new(dims(), 2.2).unwrap())),
        ("quantize", Box::new(Quantize::new(dims(), 7).unwrap())),
        ("phase", Box::new(FourierMagnitude::new(dims(), 1.6).unwrap())),
    ]
}

fn forward(op: &dyn ForwardOperator, x: &[f32]) -> Vec<f32> {
    let mut y = vec![f32::NAN; op.codomain().elements()];
    op.forward(x, &mut y, &mut vec![f32::NAN; op.forward_scratch_len()]).unwrap();
    y
}

fn vjp(op: &dyn ForwardOperator, x: &[f32], v: &[f32]) -> Vec<f32> {
    let mut out = vec![f32::NAN; op.domain().elements()];
    op.vjp(x, v, &mut out, &mut vec![f32::NAN; op.forward_scratch_len()]).unwrap();
    out
}

#[test]
fn values_and_derivatives_are_those_of_autograd() {
    let golden = std::fs::read(golden::path("nonlinear.safetensors")).unwrap();
    for (i, (name, op)) in operators().iter().enumerate() {
        let (n, m) = (op.domain().elements(), op.codomain().elements());
        let (x, v) = (pcg::uniform(40, i as u64, n, 1.3), pcg::uniform(41, i as u64, m, 1.0));
        for (what, got) in [("y", forward(&**op, &x)), ("vjp", vjp(&**op, &x, &v))] {
            let want = golden::stored(&golden, &format!("{name}.{what}"));
            assert_eq!(got.len(), want.len());
            for (got, want) in got.iter().zip(&want) {
                assert!((got - want).abs() < 3e-6 * (1.0 + want.abs()), "{name}.{what}: {got} against {want}");
            }
        }
    }
}

/// <A(x + h u) - A(x - h u), v> = 2 h <u, J^T v>, where A has a derivative; and no slope is above the steepest.
#[test]
fn derivatives_are_those_of_finite_differences() {
    let sum = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    for (name, op) in operators().iter().filter(|(name, _)| *name != "quantize") {
        let (n, m) = (op.domain().elements(), op.codomain().elements());
        for k in 0..20 {
            let (x, u) = (pcg::uniform(50, k, n, 0.5), pcg::uniform(51, k, n, 1.0));
            let v = pcg::uniform(52, k, m, 1.0);
            let h = 1e-2f32;
            let at = |by: f32| -> Vec<f32> {
                forward(&**op, &x.iter().zip(&u).map(|(x, u)| x + by * u).collect::<Vec<_>>())
            };
            // Fourth order.
            let first = sum(&at(h), &v) - sum(&at(-h), &v);
            let second = sum(&at(2.0 * h), &v) - sum(&at(-2.0 * h), &v);
            let slope = (8.0 * first - second) / (12.0 * f64::from(h));
            let got = sum(&u, &vjp(&**op, &x, &v));
            let scale = sum(&u, &u).sqrt() * sum(&v, &v).sqrt();
            assert!((slope - got).abs() < 1e-3 * scale, "{name}, {k}: {got} against {slope}");
            assert!(got.abs() <= op.steepest().unwrap() * scale);
        }
    }
}

#[test]
fn quantised_values_are_their_own_levels() {
    let op = Quantize::new(Dims::new(&[6]).unwrap(), 3).unwrap();
    assert_eq!(forward(&op, &[-7.0, -0.6, -0.4, 0.2, 0.51, 9.0]), [-1.0, -1.0, 0.0, 0.0, 1.0, 1.0]);
    // Gamma is undone by its inverse, where it is no straight line.
    let dims = Dims::new(&[3]).unwrap();
    let x = [-0.9, 0.1, 1.0];
    let y = forward(&Gamma::new(dims, 2.0).unwrap(), &x);
    let back = forward(&Gamma::new(dims, 0.5).unwrap(), &y);
    assert!(x.iter().zip(&back).all(|(x, b)| (x - b).abs() < 1e-5), "{back:?}");
}

/// Magnitudes are those of the same picture, and of it turned by 180 degrees.
#[test]
fn a_turned_picture_has_the_same_magnitudes() {
    let op = FourierMagnitude::new(Dims::new(&[1, 5, 4]).unwrap(), 2.0).unwrap();
    assert_eq!(op.codomain().as_slice(), [1, 10, 8]);
    let x = pcg::uniform(60, 0, 20, 1.0);
    let turned: Vec<f32> = x.iter().rev().copied().collect();
    let (a, b) = (forward(&op, &x), forward(&op, &turned));
    assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5));
    // The sum of squares is that of the picture (Parseval).
    let squares = |v: &[f32]| v.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>();
    let u: Vec<f32> = x.iter().map(|x| 0.5 * x + 0.5).collect();
    assert!((squares(&a) - squares(&u)).abs() < 1e-5 * squares(&u));
}

#[test]
fn nonsense_is_refused() {
    for gain in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(Clip::new(dims(), gain).unwrap_err().kind(), ErrorKind::InvalidArgument);
        assert_eq!(Gamma::new(dims(), gain).unwrap_err().kind(), ErrorKind::InvalidArgument);
        assert_eq!(FourierMagnitude::new(dims(), gain).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
    assert!(Quantize::new(dims(), 1).is_err() && Quantize::new(dims(), 65537).is_err());
    assert_eq!(FourierMagnitude::new(Dims::new(&[9]).unwrap(), 2.0).unwrap_err().kind(), ErrorKind::Shape);
    for (name, op) in operators() {
        let (n, m) = (op.domain().elements(), op.codomain().elements());
        let mut scratch = vec![0.0; op.forward_scratch_len()];
        let (x, y) = (vec![0.1; n + 1], vec![0.1; m + 1]);
        let (mut to_x, mut to_y) = (x.clone(), y.clone());
        for e in [
            op.forward(&x, &mut to_y[..m], &mut scratch),
            op.forward(&x[..n], &mut to_y, &mut scratch),
            op.vjp(&x, &y[..m], &mut to_x[..n], &mut scratch),
            op.vjp(&x[..n], &y, &mut to_x[..n], &mut scratch),
            op.vjp(&x[..n], &y[..m], &mut to_x, &mut scratch),
        ] {
            assert_eq!(e.unwrap_err().kind(), ErrorKind::Shape, "{name}");
        }
        if !scratch.is_empty() {
            scratch.pop();
            assert_eq!(op.forward(&x[..n], &mut to_y[..m], &mut scratch).unwrap_err().kind(), ErrorKind::Shape);
        }
    }
}

/// A linear operator is a forward one; a callback of the same map, whose slope is found, gives the same samples.
#[test]
fn a_callback_does_as_what_it_copies() {
    let dims = Dims::new(&[1, 2, 2]).unwrap();
    let entries = pcg::uniform(61, 0, 12, 1.0);
    let dense = Dense::new(dims, Dims::new(&[3]).unwrap(), &entries).unwrap();
    let largest = dense.svd().unwrap().singular_values().iter().fold(0.0, |m, s| f32::max(m, *s));
    assert!((dense.steepest().unwrap() - f64::from(largest)).abs() < 1e-6);
    let copy = ForwardCallback::new(
        dims,
        Dims::new(&[3]).unwrap(),
        |x, y| dense.apply(x, y, &mut []),
        |_, v, out| dense.adjoint(v, out, &mut []),
    );
    let y = [0.4, -0.2, 0.1];
    let means = |op: &dyn ForwardOperator| {
        let options = DapsOptions { langevin_steps: 30, ..DapsOptions::default() };
        let evidence = Daps::new(Measurement::new(op, &y, 0.2).unwrap(), &options).unwrap();
        let x = sampled(&evidence, dims, 400);
        (0..4).map(|i| x.chunks(4).map(|x| x[i]).sum::<f32>() / 400.0).collect::<Vec<_>>()
    };
    let (a, b) = (means(&dense), means(&copy));
    // Steps a tenth shorter, the same noise.
    assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 0.05), "{a:?} {b:?}");
    let all = |value: f32| {
        move |to: &mut [f32]| {
            to.fill(value);
            Ok(())
        }
    };
    let (one, zero, nan) = (all(1.0), all(0.0), all(f32::NAN));
    let nothing = ForwardCallback::new(dims, dims, move |_, y| one(y), move |_, _, out| zero(out));
    let e = Daps::new(Measurement::new(nothing, &[0.0; 4], 0.1).unwrap(), &DapsOptions::default()).unwrap_err();
    assert!(e.kind() == ErrorKind::InvalidArgument && e.message().contains("does not change"), "{e}");
    let broken = ForwardCallback::new(dims, dims, move |_, y| nan(y), move |_, _, out| zero(out));
    assert_eq!(broken.forward(&[0.0; 4], &mut [0.0; 4], &mut []).unwrap_err().kind(), ErrorKind::NonFinite);
}

fn prior(dims: Dims) -> GaussianMixture {
    let n = dims.elements();
    let part = |m: f64| Component { weight: 1.0, mean: vec![m; n], covariance: Covariance::Diagonal(vec![0.04; n]) };
    GaussianMixture::new(dims, &[part(-0.4), part(0.4)], PredictionType::Epsilon).unwrap()
}

fn sampled(evidence: &(impl Evidence + Clone), dims: Dims, batch: usize) -> Vec<f32> {
    let config = SchedulerConfig { clip_sample: false, ..SchedulerConfig::new(SamplerKind::Ddpm) };
    let sampler = evidence.recommended().sampler(&config).unwrap();
    let options = ChainOptions { batch, first_sample: 0 };
    let mut chain = Chain::with_evidence(prior(dims), sampler, Seeded::new(7), evidence.clone(), &options).unwrap();
    chain.run().unwrap();
    chain.x().to_vec()
}

/// Samples agree with what was seen, of every operator and all methods.
#[test]
fn what_was_seen_is_met() {
    let dims = Dims::new(&[1, 4, 4]).unwrap();
    let truth: Vec<f32> = pcg::uniform(62, 0, 16, 0.3).iter().map(|v| 0.4 + v).collect();
    let s = 0.05f32;
    let cases: Vec<(&str, Box<dyn ForwardOperator>)> = vec![
        ("clip", Box::new(Clip::new(dims, 2.0).unwrap())),
        ("gamma", Box::new(Gamma::new(dims, 2.2).unwrap())),
        ("quantize", Box::new(Quantize::new(dims, 9).unwrap())),
        ("phase", Box::new(FourierMagnitude::new(dims, 2.0).unwrap())),
    ];
    for (name, op) in cases {
        let mut y = forward(&*op, &truth);
        y.iter_mut().zip(pcg::uniform(63, 0, 256, 3f32.sqrt() * s)).for_each(|(y, z)| *y += z);
        let seen = || Measurement::new(&*op, &y, f64::from(s)).unwrap();
        let daps = sampled(&Daps::new(seen(), &DapsOptions::default()).unwrap(), dims, 8);
        let dps = sampled(&Dps::new(seen(), 0.3, Misfit::Gaussian).unwrap(), dims, 8);
        let red_diff = sampled(&RedDiff::new(seen(), 0.05, 0.25).unwrap(), dims, 8);
        let sitcom = sampled(&Sitcom::new(seen(), &SitcomOptions::default()).unwrap(), dims, 8);
        let all = [("DAPS", daps, 1.6), ("DPS", dps, 3.0), ("RED-diff", red_diff, 3.0), ("SITCOM", sitcom, 3.0)];
        for (method, x, most) in all {
            let misfits: Vec<f32> = x
                .chunks(16)
                .map(|x| {
                    let r: f32 = forward(&*op, x).iter().zip(&y).map(|(a, y)| (a - y) * (a - y)).sum();
                    (r / y.len() as f32).sqrt() / s
                })
                .collect();
            let mean = misfits.iter().sum::<f32>() / misfits.len() as f32;
            println!("{method}, {name}: {mean:.2} s");
            assert!(mean < most, "{method}, {name}: {misfits:?}");
        }
    }
}

/// Which methods take what is not linear is said by their kind.
#[test]
fn the_kinds_name_who_takes_them() {
    let takes: Vec<&str> = MethodKind::NAMES
        .iter()
        .filter(|(_, kind)| kind.traits().operator == MethodOperator::Forward)
        .map(|(name, _)| *name)
        .collect();
    assert_eq!(takes, ["dps", "daps", "red-diff", "sitcom"]);
}
