//! Seeded weights and inputs for any graph.
//!
//! A test program includes it by `#[path = "../common/draw.rs"] mod draw;`, beside `pcg`.

use undiffuse::Result;
use undiffuse::backend::ParamSource;
use undiffuse::graph::{Graph, Port};
use undiffuse::tensor::Dims;

use crate::pcg;

/// Weights drawn by name: uniform, of deviation one over the root of their inputs, so that values keep their size.
pub struct Weights;

impl ParamSource for Weights {
    fn read(&self, name: &str, dims: &Dims, out: &mut [f32]) -> Result<()> {
        let stream = name.bytes().fold(7u64, |h, b| h.wrapping_mul(31).wrapping_add(u64::from(b)));
        let fan_in = if dims.rank() == 1 { 1 } else { dims.positions() };
        out.copy_from_slice(&pcg::uniform(1, stream, out.len(), (3.0 / fan_in as f32).sqrt()));
        Ok(())
    }
}

/// A batch of inputs: `class` (`class_labels`) is a row number, `t` (`timestep`) a step, all others are uniform with
/// variance 1, plus `input_shift` if the name ends so.
pub fn inputs(graph: &Graph, batch: usize) -> Vec<Vec<f32>> {
    let input = |(i, port): (usize, &Port)| {
        let n = batch * graph.dims(port.value).elements();
        let v = pcg::uniform(2, i as u64, n, 3f32.sqrt());
        match port.name.as_str() {
            "class" | "class_labels" => (0..n).map(|i| (i % 3) as f32).collect(),
            "t" | "timestep" => v.iter().map(|v| (v.abs() * 500.0).floor() + 1.0).collect(),
            name if name.ends_with("shifted") => v.iter().map(|v| v + 30.0).collect(),
            _ => v,
        }
    };
    graph.inputs().iter().enumerate().map(input).collect()
}
