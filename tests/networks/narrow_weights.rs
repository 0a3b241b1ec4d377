//! Narrow weights on the cpu backend: a network of them is, to the bit or nearly, the f32 network of the weights that
//! they round to.

use std::collections::BTreeMap;

use crate::draw;
use undiffuse::Cancel;
use undiffuse::backend::cpu::{Cpu, CpuOptions, Path, WeightType};
use undiffuse::backend::reference::Reference;
use undiffuse::backend::{Backend, Choice, Network, ParamSource};
use undiffuse::graph::Graph;
use undiffuse::graph::vjp::vjp;
use undiffuse::model::unet2d::{self, UNet2DConfig};
use undiffuse::tensor::{DType, Dims};
use undiffuse::weights::{SafeTensorsView, TensorToWrite, WeightSource, write_safetensors};

const BATCH: usize = 3;

/// Winograd's convolutions, direct ones, attention, linear layers.
fn graph() -> Graph {
    let config = UNet2DConfig::from_json(
        r#"{"block_out_channels": [32, 64], "down_block_types": ["DownBlock2D", "AttnDownBlock2D"], "in_channels": 3,
            "up_block_types": ["AttnUpBlock2D", "UpBlock2D"], "norm_num_groups": 4, "sample_size": 12, "out_channels": 3,
            "layers_per_block": 1, "attention_head_dim": 8}"#,
    )
    .unwrap();
    unet2d::build(&config, config.size(None).unwrap()).unwrap()
}

/// The drawn weights after `round`, which knows how many belong to one output.
fn rounded(round: impl Fn(&mut [f32], usize)) -> impl ParamSource {
    move |name: &str, dims: &Dims, out: &mut [f32]| {
        draw::Weights.read(name, dims, out)?;
        if dims.rank() > 1 {
            round(out, dims.elements() / dims.as_slice()[0]);
        }
        Ok(())
    }
}

fn f16(w: f32) -> f32 {
    half::f16::from_f32(w).to_f32()
}

fn bf16(w: f32) -> f32 {
    half::bf16::from_f32(w).to_f32()
}

fn int8(weights: &mut [f32], fan_in: usize) {
    if fan_in < 64 || weights.len() / fan_in < 16 {
        return;
    }
    for row in weights.chunks_mut(fan_in) {
        let scale = row.iter().fold(0f32, |m, w| m.max(w.abs())) / 127.0;
        row.iter_mut().for_each(|w| *w = (*w / scale).round() * scale);
    }
}

/// The drawn weights as a file of 4-bit integers gives them back.
struct Int4(fn(usize, usize) -> bool);

impl ParamSource for Int4 {
    fn read(&self, name: &str, dims: &Dims, out: &mut [f32]) -> undiffuse::Result<()> {
        draw::Weights.read(name, dims, out)?;
        let shape = dims.as_slice();
        if !(self.0)(shape[0], dims.elements() / shape[0]) {
            return Ok(());
        }
        let tensors = [TensorToWrite { name, dtype: DType::I4, shape }];
        let (mut bytes, values) = (Vec::new(), out.to_vec());
        let mut fill = |_: &str, to: &mut [f32]| {
            to.copy_from_slice(&values);
            Ok(())
        };
        write_safetensors(&tensors, &BTreeMap::new(), &mut fill, &mut |b| {
            bytes.extend_from_slice(b);
            Ok(())
        })?;
        SafeTensorsView::parse(&bytes)?.read_f32(name, out)
    }
}

fn cpu(path: Path, threads: usize, weights: WeightType) -> Option<Cpu> {
    let cpu = Cpu::with_options(CpuOptions { path: Some(path), threads: Some(threads), weights });
    if cpu.is_err() {
        println!("skipped: this CPU or build has no {path}");
    }
    cpu.ok()
}

fn run(cpu: &Cpu, graph: &Graph, params: &dyn ParamSource) -> (Vec<f32>, usize) {
    let net = cpu.compile_network(graph, params).unwrap();
    (outputs(&net, graph), net.weight_bytes())
}

fn outputs(net: &dyn Network, graph: &Graph) -> Vec<f32> {
    let inputs = draw::inputs(graph, BATCH);
    let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    let mut outputs: Vec<Vec<f32>> = net.outputs().iter().map(|d| vec![f32::NAN; BATCH * d.elements()]).collect();
    let mut out: Vec<&mut [f32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
    let mut workspace = vec![f32::NAN; net.workspace_len(BATCH).unwrap()];
    net.run(BATCH, &inputs, &mut out, &mut workspace, &Cancel::new()).unwrap();
    outputs.concat()
}

fn relative(got: &[f32], want: &[f32]) -> f64 {
    let sum = |f: &dyn Fn(usize) -> f64| (0..want.len()).map(f).sum::<f64>();
    let off = sum(&|i| (f64::from(got[i]) - f64::from(want[i])).powi(2));
    (off / sum(&|i| f64::from(want[i]).powi(2))).sqrt()
}

#[test]
fn f16_and_bf16_give_the_bits_of_the_weights_they_round_to() {
    let forward = graph();
    let backward = vjp(&forward, 0, 0).unwrap();
    for graph in [&forward, &backward] {
        for path in Path::ALL {
            for (kind, round) in [(WeightType::F16, f16 as fn(f32) -> f32), (WeightType::Bf16, bf16)] {
                let Some(plain) = cpu(path, 1, WeightType::F32) else { continue };
                let params = rounded(|w, _| w.iter_mut().for_each(|w| *w = round(*w)));
                let (want, f32_bytes) = run(&plain, graph, &params);
                for threads in [1, 3] {
                    let narrow = cpu(path, threads, kind).unwrap();
                    // Rounding twice is rounding once.
                    for source in [&params as &dyn ParamSource, &draw::Weights] {
                        let (got, bytes) = run(&narrow, graph, source);
                        assert!(got == want, "{kind} on {path}, {threads} threads");
                        assert!(bytes < f32_bytes * 53 / 100, "{bytes} of {f32_bytes} bytes");
                    }
                }
            }
        }
    }
}

#[test]
fn int8_is_the_network_of_its_integers_and_factors_and_so_is_its_gradient() {
    let forward = graph();
    let backward = vjp(&forward, 0, 0).unwrap();
    for (graph, most) in [(&forward, 32), (&backward, 75)] {
        for path in Path::ALL {
            let (Some(plain), Some(narrow)) = (cpu(path, 1, WeightType::F32), cpu(path, 2, WeightType::Int8)) else {
                continue;
            };
            let (want, f32_bytes) = run(&plain, graph, &rounded(int8));
            let (got, bytes) = run(&narrow, graph, &draw::Weights);
            let error = relative(&got, &want);
            assert!(error < 3e-6, "{error:e} on {path}");
            assert!(bytes < f32_bytes * most / 100, "{bytes} of {f32_bytes} bytes");
            // And 8 bits do change it, by as much as one expects of them.
            let (exact, _) = run(&plain, graph, &draw::Weights);
            let error = relative(&got, &exact);
            assert!((1e-4..3e-2).contains(&error), "{error:e} on {path}");
        }
    }
}

/// The measure is the reference backend with the weights that a packed file of 4-bit integers has: files and kernels
/// round alike, and rounding twice is rounding once.
#[test]
fn int4_is_the_network_of_its_integers_and_scales_and_so_is_its_gradient() {
    let pays = |outs, fan_in| outs >= 16 && fan_in >= 64;
    let forward = graph();
    let backward = vjp(&forward, 0, 0).unwrap();
    for (graph, most) in [(&forward, 19), (&backward, 70)] {
        let want = outputs(&*Reference.compile(graph, &Int4(pays)).unwrap(), graph);
        let exact = outputs(&*Reference.compile(graph, &draw::Weights).unwrap(), graph);
        for path in Path::ALL {
            let (Some(plain), Some(narrow)) = (cpu(path, 1, WeightType::F32), cpu(path, 2, WeightType::Int4)) else {
                continue;
            };
            let (_, f32_bytes) = run(&plain, graph, &draw::Weights);
            let (got, bytes) = run(&narrow, graph, &draw::Weights);
            let error = relative(&got, &want);
            assert!(error < 3e-6, "{error:e} on {path}");
            assert!(bytes < f32_bytes * most / 100, "{bytes} of {f32_bytes} bytes");
            assert_eq!(run(&narrow, graph, &Int4(pays)).0, got, "{path}");
            // And 4 bits do change it, by as much as one expects of them.
            let error = relative(&got, &exact);
            assert!((1e-2..0.3).contains(&error), "{error:e} on {path}");
        }
    }
}

#[test]
fn only_the_cpu_backend_has_them_and_says_so() {
    let narrow = |weights| CpuOptions { weights, ..CpuOptions::default() };
    assert_eq!(
        Choice::Reference.open(&narrow(WeightType::F16)).err().unwrap().kind(),
        undiffuse::ErrorKind::Unsupported
    );
    let auto = Choice::Auto.open(&narrow(WeightType::Int8)).unwrap();
    assert_eq!(auto.name(), "cpu");
    let net = auto.compile(&graph(), &draw::Weights).unwrap();
    assert!(net.describe().ends_with(", int8 weights"), "{}", net.describe());
    assert_eq!(
        "f8".parse::<WeightType>().unwrap_err().to_string(),
        "weights are \"f8\", expected f32, f16, bf16, int8 or int4"
    );
    // A weight that f16 has not is refused with its name.
    let large = |name: &str, dims: &Dims, out: &mut [f32]| {
        draw::Weights.read(name, dims, out)?;
        if name == "conv_in.weight" {
            out[0] = 1e5;
        }
        Ok(())
    };
    let cpu = Cpu::new().unwrap().with_weights(WeightType::F16);
    let e = cpu.compile_network(&graph(), &large).err().unwrap().to_string();
    assert!(e.contains("conv_in.weight") && e.contains("give bf16 or f32 weights"), "{e}");
}
