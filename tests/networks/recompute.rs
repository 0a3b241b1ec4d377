//! The gradient network that keeps little of its forward pass: the same gradient in about half of the memory, known
//! before it runs.

use crate::pcg;
use crate::seeded;
use undiffuse::Cancel;
use undiffuse::backend::cpu::Cpu;
use undiffuse::backend::{Backend, Network};
use undiffuse::graph::Graph;
use undiffuse::graph::fuse::{fuse, fuse_backward};
use undiffuse::graph::plan::most_alive;
use undiffuse::graph::vjp::{Keep, vjp_keeping};
use undiffuse::model::unet2d::{self, UNet2DConfig};

const CIFAR: &str = include_str!("../../benches/common/cifar.json");
const EDGE: &str = include_str!("../../benches/common/edge.json");

fn graph(json: &str) -> Graph {
    let config = UNet2DConfig::from_json(json).unwrap();
    unet2d::build(&config, config.size(None).unwrap()).unwrap()
}

fn fused(graph: &Graph, keep: Keep) -> Graph {
    fuse(&fuse_backward(&vjp_keeping(graph, 0, 0, keep).unwrap()).unwrap()).unwrap()
}

#[test]
fn fewer_values_are_alive() {
    for (name, json, bound) in [("cifar", CIFAR, 0.55), ("edge", EDGE, 0.75)] {
        let graph = graph(json);
        let [all, fewest] = [Keep::All, Keep::Fewest].map(|keep| fused(&graph, keep));
        let ratio = most_alive(&fewest) as f64 / most_alive(&all) as f64;
        let again = fewest.flops() as f64 - all.flops() as f64;
        println!(
            "{name}: {} values alive of {}, {ratio:.3}; {:.2} of the forward pass again",
            most_alive(&fewest),
            most_alive(&all),
            again / graph.flops() as f64
        );
        assert!(ratio <= bound, "{name}: {ratio}");
        assert!(again < graph.flops() as f64);
    }
}

#[test]
fn the_gradient_is_the_same_bits_in_the_planned_memory() {
    let unet2d_cases = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/unet.json")).unwrap();
    let cases: serde_json::Value = serde_json::from_str(&unet2d_cases).unwrap();
    let cpu = Cpu::new().unwrap();
    let mut checked = 0;
    let mut check = |name: &str, graph: &Graph| {
        let weights = seeded::Seeded::new(graph);
        let read = |n: &str, d: &_, out: &mut [f32]| weights.read(n, d, out);
        let networks =
            [Keep::All, Keep::Fewest].map(|keep| cpu.compile(&vjp_keeping(graph, 0, 0, keep).unwrap(), &read).unwrap());
        let run = |net: &dyn Network| {
            let draw = |i: usize, n: usize| {
                if n == 1 { vec![3.0] } else { pcg::uniform(7, i as u64, n, 1.7) }
            };
            let inputs: Vec<Vec<f32>> = net.inputs().iter().enumerate().map(|(i, d)| draw(i, d.elements())).collect();
            let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
            let mut outputs: Vec<Vec<f32>> = net.outputs().iter().map(|d| vec![0.0; d.elements()]).collect();
            let mut outs: Vec<&mut [f32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
            let len = net.workspace_len(1).unwrap();
            net.run(1, &inputs, &mut outs, &mut vec![f32::NAN; len], &Cancel::new()).unwrap();
            (outputs, len)
        };
        let [(all, long), (fewest, short)] = [run(&*networks[0]), run(&*networks[1])];
        println!("{name}: a workspace of {short} f32 in place of {long}, {:.3}", short as f64 / long as f64);
        assert!(all.iter().flatten().all(|v| v.is_finite()) && short <= long);
        for batch in [2, 5, 16] {
            let [long, short] = [0, 1].map(|i: usize| networks[i].workspace_len(batch).unwrap());
            assert!(short <= long, "{name}, batch {batch}: {short} f32 in place of {long}");
        }
        // The bits, since the cuts leave together what is fused together.
        assert!(all == fewest, "{name}: the outputs differ");
        checked += 1;
    };
    check("edge", &graph(EDGE));
    for case in cases["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        if name != "ddpm_cifar10_32" {
            let config = UNet2DConfig::from_json(&case["config"].to_string()).unwrap();
            let size = [0, 1].map(|i| case["size"][i].as_u64().unwrap() as usize);
            check(name, &unet2d::build(&config, size).unwrap());
        }
    }
    assert!(checked > 10);
}

#[test]
fn networks_compiled_together_hold_common_weights_once() {
    let graph = graph(EDGE);
    let weights = seeded::Seeded::new(&graph);
    let read = |n: &str, d: &_, out: &mut [f32]| weights.read(n, d, out);
    let backward = [Keep::All, Keep::Fewest].map(|keep| vjp_keeping(&graph, 0, 0, keep).unwrap());
    let cpu = Cpu::new().unwrap();
    let together = cpu.compile_together(&[&graph, &backward[0], &backward[1]], &read).unwrap();
    let bytes: Vec<usize> = together.iter().map(|n| n.weight_bytes()).collect();
    let alone = cpu.compile(&backward[1], &read).unwrap().weight_bytes();
    println!(
        "weights of the network, of its gradient besides, of that with recomputation besides: {bytes:?}; alone {alone}"
    );
    // The filters of the way back are the forward ones turned round, so as many. Norms, embeddings and what is stacked
    // in another way are held by each.
    assert!(bytes[1] < bytes[0] + bytes[0] / 20 && bytes[2] < bytes[0] / 10, "{bytes:?}");
    assert!(alone < bytes[0] + bytes[1] + bytes[2]);
}
