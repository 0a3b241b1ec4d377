//! The runtime built without the feature `training` has none of it: no such symbol stands in the library.

use std::path::PathBuf;
use std::process::Command;

/// A path as it stands in symbols, each word after its length. It is put together at run time, so that this program
/// does not hold it as a text of its own.
fn mangled(path: &str) -> String {
    path.split("::").map(|word| format!("{}{word}", word.len())).collect()
}

/// Paths of training's items and of the gradients by parameters, and whether the bytes of a program hold them.
fn found(bytes: &[u8]) -> [bool; 3] {
    ["undiffuse::training", "graph::gradients", "reference::param_grad"].map(|path| holds(bytes, path))
}

fn holds(bytes: &[u8], path: &str) -> bool {
    let name = mangled(path);
    bytes.windows(name.len()).any(|w| w == name.as_bytes())
}

#[test]
fn a_library_without_the_feature_has_no_training() {
    // This program was built with the feature, so the words can be found.
    let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    assert_eq!(found(&own), [true; 3]);
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
    assert!(holds(&library, "undiffuse::evaluate") && holds(&library, "undiffuse::graph"));
    assert_eq!(found(&library), [false; 3]);
}

/// So that the linker keeps what the test looks for in its own program.
#[test]
fn training_is_linked() {
    use undiffuse::backend::reference::Reference;
    use undiffuse::graph::GraphBuilder;
    use undiffuse::training::engine::{Engine, EngineOptions};
    let mut g = GraphBuilder::new();
    let x = g.input("x", &[2]).unwrap();
    let y = g.linear("l", x, 1, true).unwrap();
    g.output("y", y).unwrap();
    let threads = std::sync::Arc::new(undiffuse::backend::threads::Serial);
    let graph = g.finish().unwrap();
    let whole = undiffuse::graph::gradients::gradients(&graph, &[]).unwrap().graph;
    let zeros = |_: &str, _: &undiffuse::tensor::Dims, out: &mut [f32]| {
        out.fill(0.0);
        Ok(())
    };
    assert!(undiffuse::backend::Backend::compile(&Reference, &whole, &zeros).is_ok());
    assert!(Engine::new(&graph, &[], threads, EngineOptions::default()).is_ok());
}
