//! The wgpu backend against the reference, on an adapter of this machine: the first that can be used. Where there is
//! none, each test says that it was skipped. Software adapters will do (Mesa's lavapipe); CI has that one.

use undiffuse::backend::cpu::{Cpu, CpuOptions};
use undiffuse::backend::wgpu::{AdapterKind, Precision, Shader, Wgpu, WgpuOptions, adapters, shaders};
use undiffuse::backend::{Choice, Network};
use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::graph::vjp::vjp;
use undiffuse::graph::{Activation, Graph, GraphBuilder, Op, Padding};
use undiffuse::model::unet2d::{self, UNet2DConfig};
use undiffuse::noise::Seeded;
use undiffuse::pipeline::{Pipeline, PipelineOptions};
use undiffuse::sampler::{SamplerKind, SamplerOptions, Steps};
use undiffuse::{Cancel, ErrorKind};

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

/// Holds the cases of this name to a bound: relative L2 over each sample's outputs.
fn suite(options: WgpuOptions, bound: f64, wanted: impl Fn(&str) -> bool) {
    let Some(backend) = open(options) else { return };
    let (mut worst, mut failed) = ((0.0, String::new()), Vec::new());
    for mut case in op_suite::cases().into_iter().filter(|c| wanted(&c.name)) {
        case.bound = f64::INFINITY;
        for batch in [1, 3] {
            let d = hold::hold(&backend, &case, &hold::expected(&case, batch));
            if d > bound {
                failed.push(format!("{}, batch {batch}: {d:.2e}, expected at most {bound:.0e}", case.name));
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
    suite(WgpuOptions::default(), 2e-6, |_| true);
}

#[test]
fn every_operation_equals_the_reference_without_subgroups() {
    // Those whose kernels add up over a workgroup.
    suite(WgpuOptions { subgroups: false, ..WgpuOptions::default() }, 2e-6, |name| name.contains("norm"));
}

#[test]
fn every_operation_equals_the_reference_in_half_precision() {
    // Making pipelines takes a software adapter long. The fused convolutions of two sources have all other parts too.
    let options = WgpuOptions { precision: Precision::F16, ..WgpuOptions::default() };
    suite(options, 5e-3, |name| !name.starts_with("fused conv 0"));
}

/// A UNet of a few small blocks.
fn small_unet() -> Graph {
    let config = UNet2DConfig::from_json(
        r#"{"block_out_channels": [8, 16], "down_block_types": ["DownBlock2D", "AttnDownBlock2D"], "sample_size": [8, 6],
            "up_block_types": ["AttnUpBlock2D", "UpBlock2D"], "norm_num_groups": 4, "layers_per_block": 1,
            "resnet_time_scale_shift": "scale_shift", "attention_head_dim": 4, "downsample_type": "resnet"}"#,
    )
    .unwrap();
    unet2d::build(&config, config.size(None).unwrap()).unwrap()
}

/// The configuration of google/ddpm-cifar10-32.
fn cifar() -> Graph {
    let config = UNet2DConfig::from_json(include_str!("../benches/common/cifar.json")).unwrap();
    unet2d::build(&config, config.size(None).unwrap()).unwrap()
}

#[test]
fn the_gradient_of_a_unet_equals_the_reference() {
    let graph = vjp(&small_unet(), 0, 0).unwrap();
    for (precision, bound) in [(Precision::F32, 1e-5), (Precision::F16, 5e-3)] {
        let case = op_suite::Case { name: "gradient of a UNet".into(), graph: graph.clone(), bound };
        let Some(backend) = open(WgpuOptions { precision, ..WgpuOptions::default() }) else { return };
        println!("{precision:?}: {:.1e}", hold::hold(&backend, &case, &hold::expected(&case, 2)));
    }
}

#[test]
fn a_gradient_in_half_precision_takes_a_cotangent_of_any_size() {
    let options = WgpuOptions { precision: Precision::F16, ..WgpuOptions::default() };
    let Some(backend) = open(options) else { return };
    let graph = vjp(&small_unet(), 0, 0).unwrap();
    let net = backend.compile_network(&graph, &draw::Weights).unwrap();
    assert!(net.describe().ends_with(", gradients in f16"), "{}", net.describe());
    let mut inputs = draw::inputs(&graph, 3);
    let plain = hold::run(&net, 3, &inputs).unwrap().remove(1);
    // Powers of two change no digit, so each sample's gradient is the same but for the exponent.
    let factors = [2f32.powi(-60), 1.0, 2f32.powi(60)];
    let n = inputs[2].len() / 3;
    inputs[2].chunks_mut(n).zip(factors).for_each(|(v, by)| v.iter_mut().for_each(|v| *v *= by));
    let scaled = hold::run(&net, 3, &inputs).unwrap().remove(1);
    for (s, by) in factors.into_iter().enumerate() {
        let want: Vec<f32> = plain[s * n..][..n].iter().map(|v| v * by).collect();
        assert_eq!(scaled[s * n..][..n], want, "sample {s}");
    }
    // A cotangent of zeros gives zeros.
    inputs[2].fill(0.0);
    assert!(hold::run(&net, 3, &inputs).unwrap()[1].iter().all(|v| *v == 0.0));
}

#[test]
fn a_call_is_one_submission_and_takes_the_stated_bytes() {
    let Some(backend) = open(WgpuOptions::default()) else { return };
    let graph = cifar();
    let net = backend.compile_network(&graph, &draw::Weights).unwrap();
    assert!(net.weight_bytes() >= 4 * graph.parameter_count());
    let stated = net.device_bytes(1).unwrap();
    net.prepare(1).unwrap();
    assert_eq!(net.peak_device_bytes(), stated as u64);
    let before = net.submissions();
    hold::run(&net, 1, &draw::inputs(&graph, 1)).unwrap();
    let submissions = net.submissions() - before;
    println!("{} dispatches in {submissions} submissions, {stated} bytes", net.dispatches());
    assert!(submissions <= 3, "{submissions}");
    assert_eq!(net.peak_device_bytes(), stated as u64);
}

#[test]
fn memory_grows_to_the_stated_bytes_and_no_further() {
    let (plain, gradient) = (small_unet(), vjp(&small_unet(), 0, 0).unwrap());
    for precision in [Precision::F32, Precision::F16] {
        for graph in [&plain, &gradient] {
            // The account is the device's, so each network has one of its own.
            let Some(backend) = open(WgpuOptions { precision, ..WgpuOptions::default() }) else { return };
            let net = backend.compile_network(graph, &draw::Weights).unwrap();
            let mut most = 0;
            for batch in [1, 3, 2, 5, 4] {
                hold::run(&net, batch, &draw::inputs(graph, batch)).unwrap();
                most = most.max(net.device_bytes(batch).unwrap() as u64);
                assert_eq!(net.peak_device_bytes(), most, "{}, batch {batch}", net.describe());
            }
            assert!(net.workspace_len(0).is_err() && net.device_bytes(0).is_err());
            assert_eq!(net.workspace_len(1000).unwrap(), 0);
        }
    }
}

#[test]
fn a_sample_does_not_depend_on_its_batch() {
    let Some(backend) = open(WgpuOptions::default()) else { return };
    let graph = small_unet();
    let inputs = draw::inputs(&graph, 5);
    // One network for each batch, so that each is laid out for it.
    let run = |batch: usize, first: usize| {
        let net = backend.compile_network(&graph, &draw::Weights).unwrap();
        let part: Vec<Vec<f32>> =
            inputs.iter().map(|x| x[first * x.len() / 5..(first + batch) * x.len() / 5].to_vec()).collect();
        hold::run(&net, batch, &part).unwrap().remove(0)
    };
    let whole = run(5, 0);
    let n = whole.len() / 5;
    for first in 0..5 {
        assert_eq!(run(1, first), whole[first * n..][..n], "sample {first}");
    }
    assert_eq!(run(3, 1), whole[n..][..3 * n]);
}

#[test]
fn large_tiles_change_no_bit() {
    const BATCH: usize = 8;
    for precision in [Precision::F32, Precision::F16] {
        let options = WgpuOptions { precision, ..WgpuOptions::default() };
        let Some(backend) = open(options) else { return };
        // Whole tiles of 8 rows and 2 quads for an invocation, some that are not full, and tiles of 8 rows and a quad.
        for (channels, rows, quads) in [(128, 8.0, 2.0), (109, 8.0, 2.0), (64, 8.0, 1.0)] {
            let mut g = GraphBuilder::new();
            let x = g.input("x", &[3, 64, 65]).unwrap();
            let h = g.conv2d("in", x, 8, 1, 1, Padding::all(0)).unwrap();
            let h = g.conv2d("wide", h, channels, 3, 1, Padding::all(1)).unwrap();
            let y = g.conv2d("out", h, 1, 1, 1, Padding::all(0)).unwrap();
            g.output("y", y).unwrap();
            let graph = g.finish().unwrap();
            let tiles = |batch| {
                let all = shaders(&graph, batch, options).unwrap();
                let of = |s: &Shader, name: &str| s.constants.iter().find(|c| c.0 == name).map(|c| c.1);
                all.iter().any(|s| of(s, "ROWS") == Some(rows) && of(s, "QUADS") == Some(quads))
            };
            assert!(tiles(BATCH) && !tiles(1), "{channels} channels");
            let inputs = draw::inputs(&graph, BATCH);
            let run = |batch: usize, x: &[f32]| {
                let net = backend.compile_network(&graph, &draw::Weights).unwrap();
                hold::run(&net, batch, &[x.to_vec()]).unwrap().remove(0)
            };
            let whole = run(BATCH, &inputs[0]);
            let (n, m) = (inputs[0].len() / BATCH, whole.len() / BATCH);
            for s in [0, BATCH - 1] {
                assert!(run(1, &inputs[0][s * n..][..n]) == whole[s * m..][..m], "{channels} channels, sample {s}");
            }
        }
    }
}

#[test]
fn refusals_leave_the_network_usable() {
    let Some(backend) = open(WgpuOptions::default()) else { return };
    let mut g = GraphBuilder::new();
    let (x, class) = (g.input("x", &[4, 3, 3]).unwrap(), g.input("class", &[1]).unwrap());
    let table = g.param("table", &[3, 4]).unwrap();
    let e = g.push(Op::Embedding { table }, &[class]).unwrap();
    let y = g.add(x, e).unwrap();
    g.output("y", y).unwrap();
    let net = backend.compile_network(&g.finish().unwrap(), &draw::Weights).unwrap();
    let (x, mut y, cancel) = ([1.0; 36], [0.0; 36], Cancel::new());
    let mut run = |x: &[f32], class: f32, cancel: &Cancel| {
        net.run(1, &[x, &[class]], &mut [&mut y], &mut [], cancel).map_err(|e| (e.kind(), e.message().to_string()))
    };
    run(&x, 2.0, &cancel).unwrap();
    assert_eq!(run(&x[..35], 2.0, &cancel).unwrap_err().0, ErrorKind::Shape);
    let (kind, text) = run(&x, 3.0, &cancel).unwrap_err();
    assert_eq!(kind, ErrorKind::InvalidArgument);
    assert!(text.contains("class 3 of an embedding with 3 rows"), "{text}");
    cancel.cancel();
    assert_eq!(run(&x, 2.0, &cancel).unwrap_err().0, ErrorKind::Cancelled);
    cancel.reset();
    run(&x, 0.0, &cancel).unwrap();
}

#[test]
fn a_cancel_from_another_thread_ends_the_wait() {
    let Some(backend) = open(WgpuOptions::default()) else { return };
    // Long enough on any device for the other thread to see the work handed over; one shader to compile.
    let mut g = GraphBuilder::new();
    let mut h = g.input("x", &[64, 64, 64]).unwrap();
    for layer in 0..8 {
        h = g.conv2d(&format!("layer{layer}"), h, 64, 3, 1, Padding::all(1)).unwrap();
    }
    g.output("y", h).unwrap();
    let graph = g.finish().unwrap();
    let net = backend.compile_network(&graph, &draw::Weights).unwrap();
    let (inputs, cancel) = (draw::inputs(&graph, 1), Cancel::new());
    let ins: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    let mut y = vec![0.0; net.outputs()[0].elements()];
    net.prepare(1).unwrap();
    let before = net.submissions();
    let result = std::thread::scope(|scope| {
        scope.spawn(|| {
            // Until the call has handed its work to the device.
            while net.submissions() == before {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            cancel.cancel();
        });
        net.run(1, &ins, &mut [&mut y], &mut [], &cancel)
    });
    // A device that was faster than the other thread has done the call.
    if let Err(e) = result {
        assert_eq!(e.kind(), ErrorKind::Cancelled);
    }
    cancel.reset();
    net.run(1, &ins, &mut [&mut y], &mut [], &cancel).unwrap();
    assert_eq!(y, hold::run(&net, 1, &inputs).unwrap()[0]);
}

#[test]
fn what_cannot_be_had_is_an_error() {
    let e = Wgpu::open(Some(1000), WgpuOptions::default()).map(|_| ()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Device);
    assert!(e.message().contains("wgpu:1000"), "{e}");
    let real = adapters().iter().any(|a| a.kind != AdapterKind::Software && a.unusable.is_none());
    // A software adapter is never taken unless it is named.
    let backend = Choice::Auto.open(&CpuOptions::default()).unwrap();
    assert_eq!(backend.name(), if real { "wgpu" } else { "cpu" });
    let mut g = GraphBuilder::new();
    let x = g.input("x", &[2]).unwrap();
    g.output("x", x).unwrap();
    let net = backend.compile(&g.finish().unwrap(), &draw::Weights).unwrap();
    assert_eq!(net.describe().starts_with("cpu"), !real);
    if !real {
        let e = Choice::Wgpu(None).open(&CpuOptions::default()).map(|_| ()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Device);
        assert!(e.message().contains("no GPU was found"), "{e}");
    }
}

#[test]
fn a_network_too_large_for_a_binding_is_refused_before_any_memory_is_taken() {
    let Some(backend) = open(WgpuOptions::default()) else { return };
    let mut g = GraphBuilder::new();
    let x = g.input("x", &[1, 8192, 8192]).unwrap();
    let y = g.activation(x, Activation::Tanh).unwrap();
    g.output("y", y).unwrap();
    let e = backend.compile_network(&g.finish().unwrap(), &draw::Weights).map(|_| ()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
    assert!(e.message().contains("bytes"), "{e}");
}

/// DDIM from one seed on a backend.
fn images(backend: &dyn undiffuse::backend::Backend, steps: usize, batch: usize) -> Vec<f32> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/pretrained/digits.safetensors");
    let pipeline = Pipeline::open(path, backend, &PipelineOptions::default()).unwrap();
    let options = SamplerOptions { sampler: Some(SamplerKind::Ddim), steps: Steps::Count(steps), ..Default::default() };
    let (denoiser, sampler) = (pipeline.denoiser(batch, &[]).unwrap(), pipeline.sampler(&options).unwrap());
    let options = ChainOptions { batch, ..Default::default() };
    let mut chain = Chain::new(denoiser, sampler, Seeded::new(7), &options).unwrap();
    chain.run().unwrap();
    chain.x().to_vec()
}

/// Runs two images on the cpu and on the adapter.
fn image_of_the_cpu(steps: usize) {
    let Some(backend) = open(WgpuOptions::default()) else { return };
    let (cpu, gpu) = (images(&Cpu::new().unwrap(), steps, 2), images(&backend, steps, 2));
    let worst = cpu.iter().zip(&gpu).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!("{steps} steps of DDIM: at most {worst:.1e} apart");
    assert!(worst <= 1e-3, "{worst}");
}

#[test]
fn one_seed_gives_the_image_of_the_cpu() {
    image_of_the_cpu(10);
}

#[test]
#[ignore = "long: `.ci/run long`"]
fn one_seed_gives_the_image_of_the_cpu_in_50_steps() {
    image_of_the_cpu(50);
}
