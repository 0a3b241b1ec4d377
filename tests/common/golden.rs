//! Cases, seeded weights and inputs of `tests/golden/make_unet.py`, which states the recipe.
//!
//! A test file includes it by `#[path = "common/golden.rs"] mod golden;`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use undiffuse::Result;
use undiffuse::graph::Graph;
use undiffuse::tensor::Dims;
use undiffuse::weights::{SafeTensorsView, WeightSource};

use crate::pcg;

pub const WEIGHT_SEED: u64 = 20;
pub const INPUT_SEED: u64 = 21;
/// Unit variance for uniform values.
pub const ROOT_3: f32 = 1.732_050_8;

pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

pub fn json() -> Value {
    serde_json::from_str(&std::fs::read_to_string(path("unet.json")).unwrap()).unwrap()
}

/// A stored golden tensor.
pub fn stored(bytes: &[u8], name: &str) -> Vec<f32> {
    let view = SafeTensorsView::parse(bytes).unwrap();
    let mut out = vec![0.0; view.info(name).unwrap().shape.iter().product()];
    view.read_f32(name, &mut out).unwrap();
    out
}

/// The seeded weights of a graph.
pub struct Seeded {
    streams: BTreeMap<String, u64>,
}

impl Seeded {
    pub fn new(graph: &Graph) -> Self {
        let mut names: Vec<&str> = graph.params().iter().map(|p| p.name.as_str()).collect();
        names.sort_unstable();
        Self { streams: names.iter().zip(0..).map(|(n, i)| (n.to_string(), i)).collect() }
    }

    /// Fills a parameter; the form in which a backend asks.
    pub fn read(&self, name: &str, dims: &Dims, out: &mut [f32]) -> Result<()> {
        let stream = self.streams[name];
        let norm = ["norm.weight", "norm1.weight", "norm2.weight", "norm_out.weight"].iter().any(|e| name.ends_with(e));
        let a = if dims.rank() > 1 {
            (3.0 / dims.positions() as f64).sqrt() as f32
        } else if name == "time_proj.weight" {
            16.0
        } else if norm {
            0.3
        } else {
            0.2
        };
        let centre = if dims.rank() == 1 && norm { 1.0 } else { 0.0 };
        for (o, v) in out.iter_mut().zip(pcg::uniform(WEIGHT_SEED, stream, dims.elements(), a)) {
            *o = centre + v;
        }
        Ok(())
    }
}

/// The relative L2 distance of `got` from `want`.
pub fn relative_l2(got: &[f32], want: &[f32]) -> f64 {
    assert_eq!(got.len(), want.len());
    let square = |v: f64| v * v;
    let error: f64 = got.iter().zip(want).map(|(&g, &w)| square(f64::from(g) - f64::from(w))).sum();
    let norm: f64 = want.iter().map(|&w| square(f64::from(w))).sum();
    (error / norm).sqrt()
}
