//! The cpu backend against the reference: every operation, every path of this CPU, one to three threads, batches of one
//! and three.

use crate::draw;
use crate::hold;
use crate::op_suite;
use undiffuse::backend::Backend;
use undiffuse::backend::cpu::Path;
use undiffuse::backend::cpu::{Cpu, CpuOptions};
use undiffuse::graph::vjp::vjp;
use undiffuse::model::unet2d::{self, UNet2DConfig};

/// A backend for each path of this CPU; with 1, 2 and 3 threads in turn.
fn backends() -> Vec<Cpu> {
    let mut found = Vec::new();
    for path in Path::ALL {
        for threads in 1..=3 {
            match Cpu::with_options(CpuOptions { path: Some(path), threads: Some(threads), ..CpuOptions::default() }) {
                Ok(cpu) => {
                    assert_eq!(cpu.path(), path);
                    found.push(cpu);
                }
                Err(e) => println!("skipped: {e}"),
            }
        }
    }
    assert!(found.iter().any(|c| c.path() == Path::Portable));
    found
}

#[test]
fn every_operation_equals_the_reference() {
    let backends = backends();
    let mut worst = std::collections::BTreeMap::new();
    for case in op_suite::cases() {
        for batch in [1, 3] {
            let expected = hold::expected(&case, batch);
            for backend in &backends {
                let d = hold::hold(backend, &case, &expected);
                let w = worst.entry(format!("{}", backend.path())).or_insert((0.0, String::new()));
                if d > w.0 {
                    *w = (d, case.name.clone());
                }
            }
        }
    }
    for (path, (d, name)) in worst {
        println!("{path}: worst relative L2 {d:.1e} in {name}");
    }
}

#[test]
fn a_network_says_what_it_runs_on() {
    for backend in backends() {
        let case = &op_suite::cases()[1];
        let net = backend.compile(&case.graph, &draw::Weights).unwrap();
        assert!(net.describe().contains(&backend.path().to_string()), "{}", net.describe());
        assert!(net.weight_bytes() > 0);
    }
}

#[test]
fn the_gradient_of_a_unet_equals_the_reference() {
    let config = UNet2DConfig::from_json(
        r#"{"block_out_channels": [8, 16], "down_block_types": ["DownBlock2D", "AttnDownBlock2D"], "sample_size": [8, 6],
            "up_block_types": ["AttnUpBlock2D", "UpBlock2D"], "norm_num_groups": 4, "layers_per_block": 1,
            "resnet_time_scale_shift": "scale_shift", "attention_head_dim": 4, "downsample_type": "resnet"}"#,
    )
    .unwrap();
    let graph = vjp(&unet2d::build(&config, config.size(None).unwrap()).unwrap(), 0, 0).unwrap();
    let case = op_suite::Case { name: "gradient of a UNet".into(), graph, bound: 1e-5 };
    let expected = hold::expected(&case, 2);
    for backend in backends() {
        println!("{backend:?}: {:.1e}", hold::hold(&backend, &case, &expected));
    }
}
