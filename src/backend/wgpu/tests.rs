//! What goes wrong on a device becomes an error, and what is laid out fits.

use alloc::vec;
use alloc::vec::Vec;

use ::wgpu;

use super::gpu::Gpu;
use super::network::WgpuNetwork;
use super::weights::{Entry, Pack, place};
use super::*;
use crate::backend::reference::Reference;
use crate::cancel::Cancel;
use crate::error::ErrorKind;
use crate::graph::{Activation, GraphBuilder, Padding};
use crate::tensor::{DType, Dims};

/// The first adapter that can be used.
fn open() -> Option<Arc<Gpu>> {
    let Some(adapter) = adapters().into_iter().find(|a| a.unusable.is_none()) else {
        std::println!("skipped: no Vulkan adapter");
        return None;
    };
    Some(Arc::new(Gpu::open(Some(adapter.index), true).unwrap()))
}

fn graph() -> Graph {
    let mut g = GraphBuilder::new();
    let x = g.input("x", &[4, 6, 5]).unwrap();
    g.input("unused", &[2]).unwrap();
    let n = g.group_norm("n", x, 2, 1e-5).unwrap();
    let n = g.activation(n, Activation::Silu).unwrap();
    let h = g.conv2d("c", n, 4, 3, 1, Padding::all(1)).unwrap();
    let h = g.linear("l", h, 4, false).unwrap();
    let y = g.add(h, x).unwrap();
    g.output("y", y).unwrap();
    g.finish().unwrap()
}

fn params(name: &str, _: &Dims, out: &mut [f32]) -> Result<()> {
    let seed = name.bytes().map(usize::from).sum::<usize>();
    out.iter_mut().enumerate().for_each(|(i, v)| *v = ((i * 7 + seed) % 13) as f32 / 6.0 - 1.0);
    Ok(())
}

fn run(net: &dyn Network) -> Result<Vec<f32>> {
    let x: Vec<f32> = (0..240).map(|i| (i % 17) as f32 / 4.0 - 2.0).collect();
    let mut y = vec![0.0; 240];
    net.run(2, &[&x, &[0.0; 4]], &mut [&mut y], &mut [], &Cancel::new())?;
    Ok(y)
}

#[test]
fn a_graph_without_fusion_gives_the_same() {
    let Some(gpu) = open() else { return };
    let net = WgpuNetwork::unfused(gpu, Precision::F32, &graph(), &params).unwrap();
    let want = run(&*Reference.compile(&graph(), &params).unwrap()).unwrap();
    for (g, w) in run(&net).unwrap().iter().zip(&want) {
        assert!((g - w).abs() <= 1e-5 * w.abs().max(1.0), "{g} for {w}");
    }
}

#[test]
fn a_lost_device_is_an_error_each_time() {
    let Some(gpu) = open() else { return };
    let net = WgpuNetwork::new(Arc::clone(&gpu), Precision::F32, &graph(), &params).unwrap();
    run(&net).unwrap();
    gpu.device.destroy();
    for _ in 0..2 {
        let e = run(&net).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Device, "{e}");
    }
    let e = WgpuNetwork::new(gpu, Precision::F32, &graph(), &params).map(|_| ()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Device, "{e}");
}

#[test]
fn what_a_device_finds_wrong_is_an_error_and_the_device_stays_usable() {
    let Some(gpu) = open() else { return };
    let net = WgpuNetwork::new(Arc::clone(&gpu), Precision::F32, &graph(), &params).unwrap();
    let want = run(&net).unwrap();
    let wrong = || {
        gpu.device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: None,
            source: wgpu::ShaderSource::Wgsl("fn main() { nonsense }".into()),
        })
    };
    let e = gpu.guarded(|| Ok(wrong())).map(|_| ()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Device);
    assert!(!e.message().contains('\n'), "{e}");
    assert_eq!(run(&net).unwrap(), want);
    // One that no scope sees is told by the next call, once.
    drop(wrong());
    assert_eq!(run(&net).unwrap_err().kind(), ErrorKind::Device);
    assert_eq!(run(&net).unwrap(), want);
}

#[test]
fn memory_that_cannot_be_had_is_an_error() {
    let Some(gpu) = open() else { return };
    let usage = wgpu::BufferUsages::STORAGE;
    let e = gpu.buffer("too much", gpu.max_buffer.saturating_add(1), usage).map(|_| ()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::OutOfMemory);
    assert!(e.message().contains("too much"), "{e}");
    let net = WgpuNetwork::new(gpu, Precision::F32, &graph(), &params).unwrap();
    assert!(net.device_bytes(usize::MAX).is_ok() && run(&net).is_ok());
}

#[test]
fn buffers_of_weights_are_filled_in_order_and_not_over() {
    let entry = |len| Entry::new(Pack::Values(vec![0.0; len]), &graph(), DType::F32).unwrap();
    let entries = [entry(10), entry(64), entry(65), entry(300)];
    let places = place(&entries, 1024);
    assert_eq!(places.of, [(0, 0), (0, 256), (0, 512), (1, 0)]);
    assert_eq!(places.buffers, [1024, 1280]);
    assert!(Entry::new(Pack::Values(vec![0.0; (32 << 20) + 1]), &graph(), DType::F32).is_err());
}

#[test]
fn shaders_need_no_device() {
    let all = shaders(&graph(), 1, WgpuOptions::default()).unwrap();
    let mut names: Vec<_> = all.iter().map(|s| s.name).collect();
    names.dedup();
    assert_eq!(names, ["norm", "elementwise", "conv", "elementwise"]);
}
