//! Every shader of the wgpu backend, in every form in which an operation or a model uses it, is valid WGSL. No GPU is
//! needed.

use std::collections::BTreeSet;

use undiffuse::backend::wgpu::{Precision, Shader, WgpuOptions, shaders};
use undiffuse::graph::Graph;
use undiffuse::graph::fuse::{fuse, fuse_backward};
use undiffuse::graph::vjp::vjp;
use undiffuse::model::unet2d::{self, UNet2DConfig};
use wgpu::naga;

#[path = "common/layout_suite.rs"]
mod layout_suite;
#[path = "common/op_suite.rs"]
mod op_suite;

/// What naga says of a shader, its override constants applied.
fn validate(shader: &Shader) -> Result<(), String> {
    let error = |e: &dyn std::fmt::Debug| format!("{}: {e:?}\n{:?}\n{}", shader.name, shader.constants, shader.source);
    let module = naga::front::wgsl::parse_str(&shader.source).map_err(|e| error(&e.emit_to_string(&shader.source)))?;
    let validator =
        || naga::valid::Validator::new(naga::valid::ValidationFlags::all(), naga::valid::Capabilities::all());
    let info = validator().validate(&module).map_err(|e| error(&e.emit_to_string(&shader.source)))?;
    let constants = shader.constants.iter().map(|(k, v)| (k.to_string(), *v)).collect();
    let entry = Some((naga::ShaderStage::Compute, "main"));
    let (module, _) =
        naga::back::pipeline_constants::process_overrides(&module, &info, entry, &constants).map_err(|e| error(&e))?;
    validator().validate(&module).map_err(|e| error(&e))?;
    Ok(())
}

fn graphs() -> Vec<(String, Graph)> {
    let mut graphs = Vec::new();
    for case in op_suite::cases() {
        assert!(case.bound < 1.0);
        graphs.push((format!("{}, fused", case.name), fuse(&case.graph).unwrap()));
        graphs.push((case.name, case.graph));
    }
    for case in layout_suite::cases() {
        let graph = case.graph();
        let graph = if case.gradient { vjp(&graph, 0, 0).unwrap() } else { graph };
        graphs.push((format!("{}, fused", case.name), fuse(&fuse_backward(&graph).unwrap()).unwrap()));
        graphs.push((case.name.into(), graph));
    }
    let config = UNet2DConfig::from_json(include_str!("../benches/common/cifar.json")).unwrap();
    let graph = unet2d::build(&config, config.size(None).unwrap()).unwrap();
    graphs.push((
        "the gradient of ddpm-cifar10-32".into(),
        fuse(&fuse_backward(&vjp(&graph, 0, 0).unwrap()).unwrap()).unwrap(),
    ));
    graphs.push(("ddpm-cifar10-32".into(), fuse(&graph).unwrap()));
    graphs
}

#[test]
fn every_shader_is_valid() {
    let (mut seen, mut kernels) = (BTreeSet::new(), BTreeSet::new());
    for (name, graph) in graphs() {
        for precision in [Precision::F32, Precision::F16] {
            for subgroups in [false, true] {
                for batch in [1, 16] {
                    let all = shaders(&graph, batch, WgpuOptions { precision, subgroups });
                    for shader in all.unwrap_or_else(|e| panic!("{name}: {e}")) {
                        kernels.insert(shader.name);
                        // Constants change few things that validation looks at: a text once with all its constants.
                        if seen.insert(format!("{} {:?}", shader.source, shader.constants)) {
                            validate(&shader).unwrap_or_else(|e| panic!("{name}: {e}"));
                        }
                    }
                }
            }
        }
    }
    println!("{} shaders of {} kernels: {kernels:?}", seen.len(), kernels.len());
}

#[test]
fn a_wrong_shader_is_found() {
    let shader = |source: &str| Shader { name: "x", source: source.into(), constants: vec![] };
    assert!(validate(&shader("@compute @workgroup_size(1) fn main() {}")).is_ok());
    assert!(validate(&shader("@compute @workgroup_size(1) fn main() { let x: u32 = 1.5; }")).is_err());
    assert!(validate(&shader("override N: u32; @compute @workgroup_size(N) fn main() {}")).is_err());
}
