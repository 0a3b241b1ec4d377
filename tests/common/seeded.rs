//! The drawn side of `tests/golden/make_unet.py` and `make_2015.py`, which state the recipe: weights of a graph. Needs
//! the module `pcg`.
//!
//! A test program includes it by `#[path = "../common/seeded.rs"] mod seeded;`.

use std::collections::BTreeMap;

use undiffuse::Result;
use undiffuse::graph::Graph;
use undiffuse::tensor::Dims;

use crate::pcg;

const WEIGHT_SEED: u64 = 20;

/// The seeded weights of a graph.
pub struct Seeded {
    streams: BTreeMap<String, u64>,
}

impl Seeded {
    pub fn new(graph: &Graph) -> Self {
        Self::of_names(graph.params().iter().map(|p| p.name.as_str()))
    }

    /// Those of a state dict with these names, of which a graph may have a part.
    pub fn of_names<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let mut names: Vec<&str> = names.collect();
        names.sort_unstable();
        Self { streams: names.iter().zip(0..).map(|(n, i)| (n.to_string(), i)).collect() }
    }

    /// Fills a parameter; the form in which a backend asks.
    pub fn read(&self, name: &str, dims: &Dims, out: &mut [f32]) -> Result<()> {
        let stream = self.streams[name];
        // About 1: factors of norms, widths of radial basis functions.
        let unit = ["norm.weight", "norm1.weight", "norm2.weight", "norm_out.weight", "basis.widths"];
        let norm = unit.iter().any(|e| name.ends_with(e));
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
