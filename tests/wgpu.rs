//! The wgpu backend against the reference, on an adapter of this machine: the first that can be used. Where there is none, each test says
//! that it was skipped. Software adapters will do (Mesa's lavapipe); CI has that one.

use undiffuse::backend::wgpu::{Precision, Wgpu, WgpuOptions, adapters};

#[path = "common/draw.rs"]
mod draw;
#[path = "common/hold.rs"]
mod hold;
#[path = "common/op_suite.rs"]
mod op_suite;
#[path = "common/pcg.rs"]
mod pcg;

/// The first adapter that can do what the options ask for.
fn open(options: WgpuOptions) -> Option<Wgpu> {
    let half = options.precision == Precision::F16;
    let found = adapters().into_iter().find(|a| a.unusable.is_none() && (a.f16 || !half));
    let Some(adapter) = found else {
        println!("skipped: no Vulkan adapter{}", if half { " with f16" } else { "" });
        return None;
    };
    Some(Wgpu::open(Some(adapter.index), options).unwrap())
}

/// Holds all cases; `bound` says how far a case may be off.
fn suite(options: WgpuOptions, bound: impl Fn(&op_suite::Case) -> f64) {
    let Some(backend) = open(options) else { return };
    let (mut worst, mut failed) = ((0.0, String::new()), Vec::new());
    for mut case in op_suite::cases() {
        case.bound = f64::INFINITY;
        let most = bound(&case);
        for batch in [1, 3] {
            let d = hold::hold(&backend, &case, &hold::expected(&case, batch));
            if d > most {
                failed.push(format!("{}, batch {batch}: {d:.2e}, expected at most {most:.0e}", case.name));
            }
            if d > worst.0 {
                worst = (d, case.name.clone());
            }
        }
    }
    println!("{:?}: worst relative L2 {:.1e} in {}", backend.adapter().name, worst.0, worst.1);
    assert!(failed.is_empty(), "{} cases:\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn every_operation_equals_the_reference() {
    suite(WgpuOptions::default(), |_| 2e-6);
}

#[test]
fn every_operation_equals_the_reference_without_subgroups() {
    suite(WgpuOptions { subgroups: false, ..WgpuOptions::default() }, |_| 2e-6);
}

#[test]
fn every_operation_equals_the_reference_in_half_precision() {
    suite(WgpuOptions { precision: Precision::F16, ..WgpuOptions::default() }, |_| 5e-3);
}
