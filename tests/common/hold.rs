//! How to hold a backend to the reference. A new backend adds a test file that calls [`hold`] with each case of
//! `op_suite`.
//!
//! A test program includes it by `#[path = "../common/hold.rs"] mod hold;`, beside `pcg`, `draw` and `op_suite`.

use undiffuse::backend::reference::Reference;
use undiffuse::backend::{Backend, Network};
use undiffuse::{Cancel, Result};

use crate::draw::{Weights, inputs};
use crate::op_suite::Case;

/// Runs a network, with a workspace of exactly the stated length that holds rubbish.
pub fn run(net: &dyn Network, batch: usize, inputs: &[Vec<f32>]) -> Result<Vec<Vec<f32>>> {
    let mut outputs: Vec<Vec<f32>> = net.outputs().iter().map(|d| vec![f32::NAN; batch * d.elements()]).collect();
    let ins: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    let mut outs: Vec<&mut [f32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
    let mut workspace = vec![f32::NAN; net.workspace_len(batch)?];
    net.run(batch, &ins, &mut outs, &mut workspace, &Cancel::new())?;
    Ok(outputs)
}

/// The relative L2 distance of `got` from `want`; infinite if a value is not finite.
pub fn distance(got: &[f32], want: &[f32]) -> f64 {
    let sum = |f: &dyn Fn(usize) -> f64| (0..want.len()).map(f).sum::<f64>();
    let off = sum(&|i| (f64::from(got[i]) - f64::from(want[i])).powi(2));
    let d = (off / sum(&|i| f64::from(want[i]).powi(2)).max(1e-300)).sqrt();
    if d.is_finite() { d } else { f64::INFINITY }
}

/// What the reference makes of each case at a batch, computed once for all backends under test.
pub struct Expected {
    pub batch: usize,
    pub inputs: Vec<Vec<f32>>,
    pub outputs: Vec<Vec<f32>>,
}

pub fn expected(case: &Case, batch: usize) -> Expected {
    let inputs = inputs(&case.graph, batch);
    let net = Reference.compile(&case.graph, &Weights).unwrap();
    let outputs = run(&*net, batch, &inputs).unwrap();
    Expected { batch, inputs, outputs }
}

/// Holds a backend to the reference in one case; gives the largest distance.
pub fn hold(backend: &dyn Backend, case: &Case, expected: &Expected) -> f64 {
    let net = backend.compile(&case.graph, &Weights).unwrap_or_else(|e| panic!("{}: {e}", case.name));
    let got = run(&*net, expected.batch, &expected.inputs).unwrap_or_else(|e| panic!("{}: {e}", case.name));
    let mut worst = 0f64;
    for (got, want) in got.iter().zip(&expected.outputs) {
        let n = want.len() / expected.batch;
        for (got, want) in got.chunks(n).zip(want.chunks(n)) {
            worst = worst.max(distance(got, want));
        }
    }
    assert!(
        worst <= case.bound,
        "{} on {}, batch {}: relative L2 {worst:.2e}, expected at most {:.0e}",
        case.name,
        net.describe(),
        expected.batch,
        case.bound
    );
    worst
}
