//! On the cpu backend a sample's result is the same bits for any number of threads, any batch it is in, and any
//! neighbours.

use crate::draw;
use std::sync::Arc;

use undiffuse::Cancel;
use undiffuse::backend::Network;
use undiffuse::backend::cpu::Path;
use undiffuse::backend::cpu::network::CpuNetwork;
use undiffuse::backend::cpu::{Cpu, CpuOptions};
use undiffuse::backend::threads::Threads;
use undiffuse::graph::Graph;
use undiffuse::model::unet2d::{self, UNet2DConfig};

const BATCH: usize = 16;

fn graph() -> Graph {
    let config = UNet2DConfig::from_json(
        r#"{"block_out_channels": [16, 32], "down_block_types": ["DownBlock2D", "AttnDownBlock2D"], "in_channels": 3,
            "up_block_types": ["AttnUpBlock2D", "UpBlock2D"], "norm_num_groups": 4, "sample_size": 10, "out_channels": 3,
            "layers_per_block": 1, "attention_head_dim": 8}"#,
    )
    .unwrap();
    unet2d::build(&config, config.size(None).unwrap()).unwrap()
}

/// The output of a batch, cut into calls of `split` samples.
fn run(net: &CpuNetwork, inputs: &[Vec<f32>], split: usize) -> Vec<u32> {
    let mut y = vec![f32::NAN; BATCH * net.outputs()[0].elements()];
    let mut workspace = vec![f32::NAN; net.workspace_len(split).unwrap()];
    let n = net.outputs()[0].elements() * split;
    for (i, y) in y.chunks_mut(n).enumerate() {
        let part = |(v, d): (&Vec<f32>, &undiffuse::tensor::Dims)| {
            v[i * split * d.elements()..][..split * d.elements()].to_vec()
        };
        let inputs: Vec<Vec<f32>> = inputs.iter().zip(net.inputs()).map(part).collect();
        let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
        net.run(split, &inputs, &mut [y], &mut workspace, &Cancel::new()).unwrap();
    }
    y.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn threads_and_batches_do_not_change_a_bit() {
    let graph = graph();
    let inputs = draw::inputs(&graph, BATCH);
    for path in Path::ALL {
        let mut first = None;
        for threads in [1, 2, 3] {
            let Ok(cpu) =
                Cpu::with_options(CpuOptions { path: Some(path), threads: Some(threads), ..CpuOptions::default() })
            else {
                println!("skipped: this CPU or build has no {path}");
                break;
            };
            let net = cpu.compile_network(&graph, &draw::Weights).unwrap();
            for split in [16, 8, 2, 1] {
                let y = run(&net, &inputs, split);
                assert!(y.iter().all(|v| f32::from_bits(*v).is_finite()));
                match &first {
                    None => first = Some(y),
                    Some(first) => assert!(first == &y, "{path}, {threads} threads, calls of {split}"),
                }
            }
        }
    }
}

#[test]
fn networks_in_several_threads_share_a_pool() {
    let graph = graph();
    let inputs = draw::inputs(&graph, BATCH);
    let cpu = Cpu::with_options(CpuOptions { path: None, threads: Some(2), ..CpuOptions::default() }).unwrap();
    let net = cpu.compile_network(&graph, &draw::Weights).unwrap();
    let want = run(&net, &inputs, 4);
    std::thread::scope(|s| {
        for _ in 0..3 {
            s.spawn(|| {
                // Another network of the same backend, so both use its workers.
                let net = cpu.clone().compile_network(&graph, &draw::Weights).unwrap();
                for _ in 0..3 {
                    assert!(run(&net, &inputs, 4) == want);
                }
            });
        }
    });
}

/// A host's own threads: new ones for every call, one more than it says.
struct Host;

impl Threads for Host {
    fn count(&self) -> usize {
        2
    }

    fn run(&self, work: &(dyn Fn() + Sync)) {
        std::thread::scope(|s| {
            s.spawn(work);
            s.spawn(work);
            work();
        });
    }
}

#[test]
fn a_host_may_give_its_threads() {
    let graph = graph();
    let inputs = draw::inputs(&graph, BATCH);
    let serial = Cpu::with_options(CpuOptions { path: None, threads: Some(1), ..CpuOptions::default() }).unwrap();
    let hosted = Cpu::with_threads(None, Arc::new(Host)).unwrap();
    let nets = [serial, hosted].map(|cpu| cpu.compile_network(&graph, &draw::Weights).unwrap());
    assert!(run(&nets[0], &inputs, 16) == run(&nets[1], &inputs, 16));
    assert!(nets[1].describe().ends_with("2 threads"));
}
