//! The optimisers against PyTorch's (`tests/golden/make_optim.py`), their states, and what they refuse.

use crate::pcg;
use undiffuse::training::optim::{
    Adam, AdamOptions, Ema, EmaDecay, Evaluation, Optimizer, RmsFloor, RmsProp, RmsPropOptions, WeightDecay, clip_norm,
};
use undiffuse::training::state::{StateArray, from_bytes, to_bytes};
use undiffuse::weights::{SafeTensorsView, WeightSource};
use undiffuse::{ErrorKind, Result};

const N: usize = 16;

fn adam(options: AdamOptions) -> Box<dyn Optimizer> {
    Box::new(Adam::new(options, N).unwrap())
}

/// The optimisers of the script, by its names.
fn make(name: &str) -> Box<dyn Optimizer> {
    let decay = |beta1, beta2, weight_decay| AdamOptions { beta1, beta2, weight_decay, ..AdamOptions::default() };
    match name {
        "adam" => adam(AdamOptions::default()),
        "adam_coupled" => adam(AdamOptions { eps: 1e-3, ..decay(0.8, 0.95, WeightDecay::Coupled(0.1)) }),
        "adamw" => adam(AdamOptions::adamw()),
        "adamw_strong" => adam(decay(0.5, 0.9, WeightDecay::Decoupled(2.0))),
        "rmsprop" => {
            let options = RmsPropOptions { decay: 0.9, floor: RmsFloor::Added(1e-8) };
            Box::new(RmsProp::new(options, N).unwrap())
        }
        _ => Box::new(RmsProp::new(RmsPropOptions::default(), N).unwrap()),
    }
}

const NAMES: [&str; 6] = ["adam", "adam_coupled", "adamw", "adamw_strong", "rmsprop", "authors"];

fn step(optimizer: &mut dyn Optimizer, params: &mut [f32], k: u64) -> Result<()> {
    let scale = |i: usize| [1e-3, 1.0, 30.0][usize::from(i > 4) + usize::from(i > 10)];
    let noise = pcg::uniform(52, k, N, 1.0);
    let gradient: Vec<f32> = (0..N).map(|i| noise[i] * scale(i) + params[i]).collect();
    let at = Evaluation { minibatch: 0, cost: 0.0, gradient: &gradient };
    optimizer.step(params, at, if k < 25 { 1e-2 } else { 3e-3 })
}

#[test]
fn steps_are_those_of_pytorch() {
    let bytes = include_bytes!("../golden/optim.safetensors");
    let stored = SafeTensorsView::parse(bytes).unwrap();
    for name in &NAMES[..5] {
        let (mut optimizer, mut params) = (make(name), pcg::uniform(51, 0, N, 1.0));
        for k in 0..50 {
            step(&mut *optimizer, &mut params, k).unwrap();
            if [1, 10, 50].contains(&(k + 1)) {
                let mut expected = [0.0; N];
                stored.read_f32(&format!("{name}.{}", k + 1), &mut expected).unwrap();
                for (got, want) in params.iter().zip(expected) {
                    // f32 parameters and moments against f64 ones.
                    assert!((got - want).abs() < 1e-6, "{name} after step {}: {got}, expected {want}", k + 1);
                }
            }
        }
    }
}

#[test]
fn the_authors_rms_is_the_root_or_the_floor() {
    let mut optimizer = RmsProp::new(RmsPropOptions::default(), 2).unwrap();
    let mut params = [1.0f32, 1.0];
    let gradient = [2.0, 1e-6];
    optimizer.step(&mut params, Evaluation { minibatch: 0, cost: 0.0, gradient: &gradient }, 0.5).unwrap();
    // sqrt(0.1 * 4) is above the floor of 1e-5, sqrt(0.1 * 1e-12) below.
    let expected = [1.0 - 0.5 * 2.0 / 0.4f64.sqrt(), 1.0 - 0.5 * 1e-6 / 1e-5];
    assert!((f64::from(params[0]) - expected[0]).abs() < 1e-7 && (f64::from(params[1]) - expected[1]).abs() < 1e-7);
}

#[test]
fn a_restored_optimizer_goes_on_in_the_same_bits() {
    for name in NAMES {
        let (mut one, mut params) = (make(name), pcg::uniform(51, 0, N, 1.0));
        (0..20).for_each(|k| step(&mut *one, &mut params, k).unwrap());
        let saved = from_bytes(&to_bytes(&one.state()).unwrap()).unwrap();
        let (mut other, mut copy) = (make(name), params.clone());
        other.restore(&saved).unwrap();
        for k in 20..40 {
            step(&mut *one, &mut params, k).unwrap();
            step(&mut *other, &mut copy, k).unwrap();
        }
        assert_eq!(params, copy, "{name}");
        assert_eq!(one.state(), other.state(), "{name}");
    }
}

#[test]
fn a_refused_step_or_state_changes_nothing() {
    for name in NAMES {
        let (mut o, mut params) = (make(name), pcg::uniform(51, 0, N, 1.0));
        step(&mut *o, &mut params, 0).unwrap();
        let (state, before) = (o.state(), params.clone());
        let mut bad = [0.0; N];
        bad[3] = f32::NAN;
        let good = [0.1; N];
        for (gradient, rate, kind) in [
            (&bad[..], 1.0, ErrorKind::NonFinite),
            (&good[1..], 1.0, ErrorKind::Shape),
            (&good, -1.0, ErrorKind::InvalidArgument),
            (&good, f64::INFINITY, ErrorKind::InvalidArgument),
        ] {
            let at = Evaluation { minibatch: 0, cost: 0.0, gradient };
            assert_eq!(o.step(&mut params, at, rate).unwrap_err().kind(), kind, "{name}");
        }
        let mut more = state.clone();
        more.push(StateArray::u64("more", &[1]));
        for wrong in [&state[1..], &more] {
            assert_eq!(o.restore(wrong).unwrap_err().kind(), ErrorKind::Weights, "{name}");
        }
        assert_eq!((o.state(), &params), (state, &before), "{name}");
    }
}

#[test]
fn options_without_sense_are_refused() {
    let adam = |options| Adam::new(options, 1).is_err();
    let base = AdamOptions::default();
    assert!(adam(AdamOptions { beta1: 1.0, ..base }) && adam(AdamOptions { beta2: -0.1, ..base }));
    assert!(adam(AdamOptions { eps: f64::NAN, ..base }));
    assert!(adam(AdamOptions { weight_decay: WeightDecay::Decoupled(-1.0), ..base }));
    let rms = |decay, floor| RmsProp::new(RmsPropOptions { decay, floor }, 1).is_err();
    assert!(rms(1.0, RmsFloor::Added(1e-8)) && rms(0.9, RmsFloor::Added(0.0)) && rms(0.9, RmsFloor::AtLeast(-1.0)));
    assert!(Ema::new(EmaDecay::Constant(1.0), &[0.0]).is_err());
}

#[test]
fn the_average_is_the_sum_it_stands_for() {
    let mut ema = Ema::new(EmaDecay::Constant(0.9), &[1.0]).unwrap();
    [2.0, 3.0].iter().for_each(|&p| ema.update(&[p]).unwrap());
    let mut out = [0.0];
    ema.write(&mut out).unwrap();
    assert!((out[0] - (0.81 + 0.09 * 2.0 + 0.1 * 3.0)).abs() < 1e-7);

    // min(decay, 1 / 10, 2 / 11, ...).
    let mut warm = Ema::new(EmaDecay::Warm(0.15), &[1.0]).unwrap();
    [0.0, 0.0].iter().for_each(|&p| warm.update(&[p]).unwrap());
    let state = from_bytes(&to_bytes(&warm.state()).unwrap()).unwrap();
    let mut other = Ema::new(EmaDecay::Warm(0.15), &[5.0]).unwrap();
    other.restore(&state).unwrap();
    other.write(&mut out).unwrap();
    assert!((out[0] - 0.1 * 0.15).abs() < 1e-8);
    assert!(ema.update(&[1.0, 2.0]).is_err() && ema.write(&mut [0.0; 2]).is_err());
}

#[test]
fn a_long_gradient_is_scaled_down() {
    let mut gradient = [3.0f32, -4.0];
    assert_eq!(clip_norm(&mut gradient, 10.0).unwrap(), 5.0);
    assert_eq!(gradient, [3.0, -4.0]);
    assert_eq!(clip_norm(&mut gradient, 1.0).unwrap(), 5.0);
    assert!((gradient[0] - 0.6).abs() < 1e-7 && (gradient[1] + 0.8).abs() < 1e-7);
    assert!(clip_norm(&mut gradient, 0.0).is_err() && clip_norm(&mut gradient, f64::NAN).is_err());
    assert!(!clip_norm(&mut [f32::NAN], 1.0).unwrap().is_finite());
}
