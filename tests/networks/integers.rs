//! Layers of 8-bit integers: the same integers on every path and in the reference, batches and threads that change no
//! bit, and how far they are from f32.

use std::collections::BTreeMap;

use crate::draw;
use undiffuse::Cancel;
use undiffuse::backend::cpu::{Cpu, CpuOptions, Path, WeightType};
use undiffuse::backend::reference::Reference;
use undiffuse::backend::{Backend, Network, ParamSource};
use undiffuse::calibrate::{CalibrationOptions, calibrate};
use undiffuse::graph::{Activation, Graph, GraphBuilder, Op, Padding, Quantisation, Window};
use undiffuse::model::unet2d::{self, UNet2DConfig};
use undiffuse::pipeline::{PipelineOptions, Precision, Source};
use undiffuse::tensor::{DType, Dims};
use undiffuse::weights::{TensorInfo, WeightSource};

/// The parameters of a graph, drawn, or as `change` makes them.
pub struct Drawn {
    pub graph: Graph,
    pub change: fn(&mut [f32]),
}

impl WeightSource for Drawn {
    fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.graph.params().iter().map(|p| p.name.as_str()).collect();
        names.sort_unstable();
        names
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        let found = self.graph.params().iter().find(|p| p.name == name)?;
        Some(TensorInfo { dtype: DType::F32, shape: found.dims.as_slice().to_vec() })
    }

    fn read_f32(&self, name: &str, out: &mut [f32]) -> undiffuse::Result<()> {
        let dims = self.info(name).map(|i| i.shape).unwrap_or_default();
        draw::Weights.read(name, &Dims::new(&dims)?, out)?;
        (self.change)(out);
        Ok(())
    }
}

fn source(graph: &Graph, change: fn(&mut [f32]), input: Quantisation) -> Source<'static> {
    let weights = Drawn { graph: graph.clone(), change };
    let mut source = Source::new(graph.to_json().unwrap(), None, Box::new(weights)).unwrap();
    source.set_activations(graph.params().iter().map(|p| (p.name.clone(), input)).collect());
    source
}

pub fn compiled(source: &Source<'_>, backend: &dyn Backend, precision: Precision) -> std::sync::Arc<dyn Network> {
    let options = PipelineOptions { precision, ..PipelineOptions::default() };
    std::sync::Arc::clone(source.compile(backend, &options).unwrap().network())
}

/// What a path does without, of what it has beyond its own instructions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Without {
    Nothing,
    /// AMX's tiles.
    Tiles,
    /// Also without dot products.
    DotProducts,
}

pub type Kernels = (Path, Without);

/// Every path that this CPU has, also those with dot products without them.
pub fn kernels() -> Vec<Kernels> {
    let has =
        |p: &Path| Cpu::with_options(CpuOptions { path: Some(*p), threads: Some(1), ..Default::default() }).is_ok();
    let found = Path::ALL.into_iter().filter(has);
    found
        .flat_map(|p| [Without::Nothing, Without::Tiles, Without::DotProducts].map(|w| (p, w)))
        .filter(|(p, without)| match without {
            Without::Nothing => true,
            Without::Tiles => *p == Path::Avx512,
            Without::DotProducts => matches!(p, Path::Avx512 | Path::Neon),
        })
        .collect()
}

pub fn cpu((path, without): Kernels, threads: usize) -> Cpu {
    let options = CpuOptions { path: Some(path), threads: Some(threads), weights: WeightType::F32 };
    let cpu = Cpu::with_options(options).unwrap();
    match without {
        Without::Nothing => cpu,
        Without::Tiles => cpu.without_tiles(),
        Without::DotProducts => cpu.without_dot_products(),
    }
}

pub fn run(net: &dyn Network, batch: usize, inputs: &[Vec<f32>]) -> Vec<f32> {
    let each: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    let mut out = vec![f32::NAN; batch * net.outputs()[0].elements()];
    let mut workspace = vec![f32::NAN; net.workspace_len(batch).unwrap()];
    net.run(batch, &each, &mut [&mut out], &mut workspace, &Cancel::new()).unwrap();
    out
}

pub fn relative(got: &[f32], want: &[f32]) -> f64 {
    let sum = |f: &dyn Fn(usize) -> f64| (0..want.len()).map(f).sum::<f64>();
    let off = sum(&|i| (f64::from(got[i]) - f64::from(want[i])).powi(2));
    (off / sum(&|i| f64::from(want[i]).powi(2))).sqrt()
}

/// Weights whose integers and factors are exact: multiples of 1/64 with a largest one of 127/64 in every row of any
/// length that is a multiple of 4.
pub fn exact(weights: &mut [f32]) {
    for (i, w) in weights.iter_mut().enumerate() {
        *w = if i % 4 == 0 { 127.0 / 64.0 } else { (*w * 400.0).round().clamp(-127.0, 127.0) / 64.0 };
    }
}

/// Inputs in steps of 1/8, also beyond what the integers reach.
fn eighths(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 + 13) % 301) as f32 / 8.0 - 19.0).collect()
}

#[test]
fn every_path_has_the_references_integers() {
    let input = Quantisation::new(0.125, -9).unwrap();
    let wide = Window { dilation: 2, ..Window::new([3, 3], 1, Padding { top: 3, bottom: 1, left: 0, right: 4 }) };
    let even = Window::new([3, 3], 2, Padding { top: 0, bottom: 1, left: 0, right: 1 });
    let row = Window::new([1, 5], 1, Padding { left: 2, right: 2, ..Padding::default() });
    // Widths that fill no tile and no panel, and images of several strips. A source wants as many values as it is
    // given.
    let odd = [[64, 64, 9, 11], [68, 68, 7, 5], [72, 72, 40, 41]];
    let halved = [[64, 256, 8, 10], [68, 272, 6, 4], [72, 288, 40, 42]];
    let same = Window::new([3, 3], 1, Padding::all(1));
    let each = [(Window::POINT, odd), (same, odd), (row, odd), (wide, odd), (even, halved)];
    for (window, [ins, outs, h, w]) in each.into_iter().flat_map(|(v, sizes)| sizes.map(|sizes| (v, sizes))) {
        let mut g = GraphBuilder::new();
        let x = g.input_as(undiffuse::graph::Role::Sample, "sample", &[ins, h, w]).unwrap();
        let [kh, kw] = window.kernel;
        let weight = g.param("c.weight", &[outs, ins, kh, kw]).unwrap();
        let bias = g.param("c.bias", &[outs]).unwrap();
        let kernel = undiffuse::graph::Kernel { weight, bias: Some(bias) };
        let y = g.push(Op::Conv2d { window, kernel }, &[x]).unwrap();
        g.output("y", y).unwrap();
        let graph = g.finish().unwrap();
        let source = source(&graph, exact, input);
        let x = [eighths(2 * ins * h * w)];
        let want = run(&*compiled(&source, &Reference, Precision::Int8), 2, &x);
        let plain = run(&*compiled(&source, &Reference, Precision::F32), 2, &x);
        assert_ne!(want, plain, "nothing was clamped");
        for kernel in kernels() {
            // More workers than samples share rows, or columns where there are few rows.
            for threads in [1, 3, 8] {
                let got = run(&*compiled(&source, &cpu(kernel, threads), Precision::Int8), 2, &x);
                assert!(got == want, "{window:?} {ins} to {outs} on {kernel:?}: {:e}", relative(&got, &want));
            }
        }
    }
}

/// What stands before and behind a layer, in one graph: a norm, activations that are and are not made on the way, a
/// concatenation, upsampling, a residual, a channel value.
pub fn surrounded() -> Graph {
    let mut g = GraphBuilder::new();
    let x = g.input_as(undiffuse::graph::Role::Sample, "sample", &[32, 6, 5]).unwrap();
    let a = g.conv2d("a", x, 64, 3, 1, Padding::all(1)).unwrap();
    let n = g.group_norm("n", a, 4, 1e-5).unwrap();
    let n = g.activation(n, Activation::Silu).unwrap();
    let b = g.conv2d("b", n, 64, 3, 1, Padding::all(1)).unwrap();
    let b = g.add(b, a).unwrap();
    let both = g.concat(&[a, b]).unwrap();
    let n = g.group_norm("m", both, 4, 1e-5).unwrap();
    let n = g.activation(n, Activation::Tanh).unwrap();
    let c = g.conv2d("c", n, 32, 3, 1, Padding::all(1)).unwrap();
    let c = g.activation(c, Activation::Softplus).unwrap();
    let up = g.push(Op::UpsampleNearest { factor: 2 }, &[both]).unwrap();
    let d = g.conv2d("d", up, 32, 3, 2, Padding::all(1)).unwrap();
    let d = g.add(d, c).unwrap();
    let last = g.conv2d("e", d, 32, 3, 1, Padding::all(1)).unwrap();
    g.output("y", last).unwrap();
    g.finish().unwrap()
}

#[test]
fn what_surrounds_a_layer_is_the_references_too() {
    let graph = surrounded();
    let source = source(&graph, |_| {}, Quantisation::of_range(-3.0, 4.0).unwrap());
    let x = [draw::inputs(&graph, 3).swap_remove(0)];
    let want = run(&*compiled(&source, &Reference, Precision::Int8), 3, &x);
    let plain = run(&*compiled(&source, &Reference, Precision::F32), 3, &x);
    let apart = relative(&want, &plain);
    let mut of_path = BTreeMap::new();
    for kernel in kernels() {
        let path = kernel.0;
        let one = run(&*compiled(&source, &cpu(kernel, 1), Precision::Int8), 3, &x);
        // What computes the integers changes nothing.
        let first = of_path.entry(path.to_string()).or_insert_with(|| one.clone());
        assert!(one == *first, "VNNI changes {:e}", relative(&one, first));
        let error = relative(&one, &want);
        // Values between layers are bf16, and an input near the middle of two integers may become either.
        println!("{error:e} on {path}, {apart:e} from f32");
        assert!(error < apart.min(2e-2), "{error:e} on {path}, {apart:e} from f32");
        assert!(error > 0.0);
        same_by_three_threads(&source, kernel, Precision::Int8, &x, &one);
    }
}

/// That three threads give for a batch of three what one did, and its second sample alone.
pub fn same_by_three_threads(source: &Source<'_>, kernel: Kernels, precision: Precision, x: &[Vec<f32>], one: &[f32]) {
    let net = compiled(source, &cpu(kernel, 3), precision);
    assert_eq!(run(&*net, 3, x), one, "{kernel:?}");
    let second: Vec<_> = x.iter().map(|x| x[x.len() / 3..2 * x.len() / 3].to_vec()).collect();
    let alone = run(&*net, 1, &second);
    assert_eq!(alone, one[one.len() / 3..2 * one.len() / 3], "{kernel:?}");
}

/// With attention, of 16x16 pixels.
pub fn small_unet() -> Graph {
    let config = UNet2DConfig::from_json(
        r#"{"block_out_channels": [32, 64], "down_block_types": ["DownBlock2D", "AttnDownBlock2D"], "in_channels": 3,
            "up_block_types": ["AttnUpBlock2D", "UpBlock2D"], "norm_num_groups": 4, "sample_size": 16, "out_channels": 3,
            "layers_per_block": 1, "attention_head_dim": 8}"#,
    )
    .unwrap();
    unet2d::build(&config, config.size(None).unwrap()).unwrap()
}

#[test]
fn a_unet_in_integers_is_small_and_near() {
    let graph = small_unet();
    let weights = Drawn { graph: graph.clone(), change: |_| {} };
    let scheduler = Some(r#"{"_class_name": "DDIMScheduler"}"#.into());
    let mut source = Source::new(graph.to_json().unwrap(), scheduler, Box::new(weights)).unwrap();
    let inputs = draw::inputs(&graph, 2);
    let cpu = Cpu::new().unwrap();
    let options = CalibrationOptions { samples: 4, steps: Some(4), ..CalibrationOptions::default() };
    source.set_activations(calibrate(&source, &cpu, &options).unwrap());
    assert!(!source.activations().contains_key("conv_in.weight") && source.activations().len() > 10);
    let plain = compiled(&source, &cpu, Precision::F32);
    // The layers that stay in floating point keep their weights as f32 without it.
    let narrow = compiled(&source, &cpu.clone().with_weights(WeightType::Int8), Precision::Int8);
    let error = relative(&run(&*narrow, 2, &inputs), &run(&*plain, 2, &inputs));
    println!("{error:e} from f32");
    assert!((1e-4..1e-1).contains(&error), "{error:e}");
    let (of, all) = (narrow.weight_bytes(), plain.weight_bytes());
    assert!(of < all * 3 / 10, "{of} of {all}");
    let bytes = |net: &dyn Network| net.workspace_len(1).unwrap() * 4;
    assert!(bytes(&*narrow) < bytes(&*plain) / 2, "{} of {}", bytes(&*narrow), bytes(&*plain));
}

#[test]
fn integers_without_scales_are_refused_and_scales_are_packed() {
    let graph = surrounded();
    let mut source = source(&graph, |_| {}, Quantisation::of_range(-1.0, 2.0).unwrap());
    let mut bytes = Vec::new();
    source
        .pack(DType::I8, &mut |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })
        .unwrap();
    let packed = Source::from_bytes(&bytes).unwrap();
    assert_eq!(packed.activations(), source.activations());
    let x = [draw::inputs(&graph, 1).swap_remove(0)];
    let portable = cpu((Path::Portable, Without::Nothing), 1);
    // The file's integers are those that would be made of its weights.
    let of = |s: &Source<'_>| run(&*compiled(s, &portable, Precision::Int8), 1, &x);
    assert!(relative(&of(&packed), &of(&source)) < 2e-3);
    source.set_activations(BTreeMap::new());
    let options = PipelineOptions { precision: Precision::Int8, ..PipelineOptions::default() };
    let e = source.compile(&portable, &options).err().unwrap().to_string();
    assert!(e.contains("undiffuse pack --calibrate"), "{e}");
}
