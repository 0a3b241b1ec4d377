//! The code that runs without an operating system, on the host: the model that the device carries is the one that the
//! tests know, and its samples are those of the reference backend. That the device gets the host's bits,
//! `.ci/run bare_metal` checks.

use crate::samples;
use crate::tiny;
use undiffuse::backend::cpu::Path;
use undiffuse::backend::cpu::{Cpu, CpuOptions};
use undiffuse::backend::reference::Reference;
use undiffuse::pipeline::Source;
use undiffuse::tensor::DType;
use undiffuse::weights::SafeTensorsView;

/// The tiny model, packed.
fn packed() -> Vec<u8> {
    let config = tiny::model_config("");
    let weights = tiny::weights(&config);
    let view = SafeTensorsView::parse(&weights).unwrap();
    let source = Source::new(config, Some(tiny::scheduler_config()), Box::new(view)).unwrap();
    let mut bytes = Vec::new();
    source
        .pack(DType::F16, &mut |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })
        .unwrap();
    bytes
}

/// To write the file anew: `UNDIFFUSE_BLESS=1 cargo test --test house no_std`.
#[test]
fn the_committed_model_is_the_tiny_one() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/no_std/tiny.safetensors");
    if std::env::var_os("UNDIFFUSE_BLESS").is_some() {
        std::fs::write(&path, packed()).unwrap();
    }
    assert!(std::fs::read(&path).unwrap() == packed(), "{} is another model", path.display());
}

#[test]
fn portable_samples_are_those_of_the_reference() {
    let model = packed();
    let portable =
        Cpu::with_options(CpuOptions { path: Some(Path::Portable), threads: Some(1), ..CpuOptions::default() })
            .unwrap();
    let x = samples::samples(&portable, &model).unwrap();
    assert_eq!(x.len(), 2 * tiny::SIDE * tiny::SIDE);
    assert!(x.iter().any(|v| v.abs() > 0.01));
    let expected = samples::samples(&Reference, &model).unwrap();
    let worst = x.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 1e-4, "they differ by {worst}");
    assert!(samples::report(&model).unwrap().contains(&format!("{:?}", &x[..8])));
}
