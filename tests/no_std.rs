//! What a program without an operating system must print. `tests/no_std/thumbv7em` runs the same code on the same model; `.ci/run
//! bare_metal` compares its output with `tests/no_std/expected.txt`, and this test says what the host gets.

extern crate alloc;

#[path = "common/pcg.rs"]
mod pcg;
#[path = "no_std/run.rs"]
mod run;
#[path = "common/tiny.rs"]
mod tiny;

use undiffuse::pipeline::Source;
use undiffuse::tensor::DType;
use undiffuse::weights::SafeTensorsView;

/// The tiny model, packed.
fn packed() -> Vec<u8> {
    let config = tiny::model_config("");
    let weights = tiny::weights(&config);
    let view = SafeTensorsView::parse(&weights).unwrap();
    let mut bytes = Vec::new();
    let source = Source::new(config, Some(tiny::scheduler_config()), Box::new(view)).unwrap();
    source.pack(DType::F16, &mut |piece| Ok(bytes.extend_from_slice(piece))).unwrap();
    bytes
}

/// To make the files anew: `UNDIFFUSE_BLESS=1 cargo test --test no_std`.
fn is(file: &str, bytes: &[u8]) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/no_std").join(file);
    if std::env::var_os("UNDIFFUSE_BLESS").is_some() {
        std::fs::write(&path, bytes).unwrap();
    }
    let kept = std::fs::read(&path).unwrap();
    assert!(
        kept == bytes,
        "tests/no_std/{file} differs from what this build makes: {}",
        String::from_utf8_lossy(bytes)
    );
}

#[test]
fn the_committed_model_is_the_tiny_one() {
    is("tiny.safetensors", &packed());
}

#[test]
fn the_host_gets_what_the_device_must_print() {
    let x = run::samples(&packed()).unwrap();
    assert_eq!(x.len(), 2 * tiny::SIDE * tiny::SIDE);
    assert!(x.iter().all(|v| v.abs() <= 1.0) && x.iter().any(|v| v.abs() > 0.01));
    is("expected.txt", format!("{:016x}\n{:?}\n", run::checksum(&x), &x[..8]).as_bytes());
}
