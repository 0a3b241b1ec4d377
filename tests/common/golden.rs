//! The stored side of `tests/golden/make_unet.py` and `make_2015.py`: their cases and outputs.
//!
//! A test program includes it by `#[path = "../common/golden.rs"] mod golden;`.

use std::path::{Path, PathBuf};

use serde_json::Value;
use undiffuse::weights::{SafeTensorsView, WeightSource};

/// Unit variance for uniform values.
pub const ROOT_3: f32 = 1.732_050_8;

pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

pub fn json(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path(name)).unwrap()).unwrap()
}

/// A stored golden tensor.
pub fn stored(bytes: &[u8], name: &str) -> Vec<f32> {
    let view = SafeTensorsView::parse(bytes).unwrap();
    let mut out = vec![0.0; view.info(name).unwrap().shape.iter().product()];
    view.read_f32(name, &mut out).unwrap();
    out
}

/// The relative L2 distance of `got` from `want`.
pub fn relative_l2(got: &[f32], want: &[f32]) -> f64 {
    assert_eq!(got.len(), want.len());
    let square = |v: f64| v * v;
    let error: f64 = got.iter().zip(want).map(|(&g, &w)| square(f64::from(g) - f64::from(w))).sum();
    let norm: f64 = want.iter().map(|&w| square(f64::from(w))).sum();
    (error / norm).sqrt()
}
