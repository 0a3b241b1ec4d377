//! The runtime built without the feature `training` has none of it: no such symbol stands in the library.
#![cfg(feature = "training")]

use std::path::PathBuf;
use std::process::Command;

/// What the names of training's items and of the gradients by parameters are in symbols: each word after its length.
const SYMBOLS: [&str; 3] = ["8undiffuse8training", "9ParamGrad", "10param_grad"];

fn found(bytes: &[u8]) -> Vec<&'static str> {
    SYMBOLS.into_iter().filter(|s| bytes.windows(s.len()).any(|w| w == s.as_bytes())).collect()
}

#[test]
fn a_library_without_the_feature_has_no_training() {
    // This program was built with the feature, so the words can be found.
    let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    assert_eq!(found(&own), SYMBOLS);
    // And the library's own words can be found in what is built without.
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("symbols");
    let done = Command::new(env!("CARGO"))
        .args(["build", "--lib", "--no-default-features", "--features", "std", "--target-dir"])
        .arg(&target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let library = std::fs::read(target.join("debug/libundiffuse.rlib")).unwrap();
    let word = b"8undiffuse8sampler";
    assert!(library.windows(word.len()).any(|w| w == word));
    assert_eq!(found(&library), [""; 0]);
}

/// So that the linker keeps what the test looks for in its own program.
#[test]
fn training_is_linked() {
    use undiffuse::graph::GraphBuilder;
    use undiffuse::training::engine::{Engine, EngineOptions};
    let mut g = GraphBuilder::new();
    let x = g.input("x", &[2]).unwrap();
    let y = g.linear("l", x, 1, true).unwrap();
    g.output("y", y).unwrap();
    let threads = std::sync::Arc::new(undiffuse::backend::cpu::threads::Serial);
    assert!(Engine::new(&g.finish().unwrap(), &[], threads, EngineOptions::default()).is_ok());
}
