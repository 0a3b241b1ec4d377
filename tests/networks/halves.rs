//! Layers of bf16: the reference's sums on every path, batches and threads that change no bit, and how far they are
//! from f32.

use crate::draw;
use crate::integers::{
    Drawn, Without, compiled, cpu, exact, kernels, relative, run, same_by_three_threads, small_unet, surrounded,
};
use undiffuse::Result;
use undiffuse::backend::cpu::{Cpu, Path};
use undiffuse::backend::reference::Reference;
use undiffuse::backend::{Backend, Network, ParamSource};
use undiffuse::graph::{Graph, GraphBuilder, Kernel, Op, Padding, Role, Window};
use undiffuse::pipeline::{Precision, Source};

fn source(graph: &Graph, change: fn(&mut [f32])) -> Source<'static> {
    let weights = Drawn { graph: graph.clone(), change };
    Source::new(graph.to_json().unwrap(), None, Box::new(weights)).unwrap()
}

/// The reference, which rounds the layers that a processor's backend would.
struct Like(Cpu);

impl Backend for Like {
    fn name(&self) -> &'static str {
        Reference.name()
    }

    fn compile(&self, graph: &Graph, params: &dyn ParamSource) -> Result<Box<dyn Network>> {
        Reference.compile(graph, params)
    }

    fn bf16_beats_winograd(&self) -> bool {
        self.0.bf16_beats_winograd()
    }
}

/// Inputs that are multiples of 1/16 once they are rounded.
fn sixteenths(n: usize) -> Vec<f32> {
    (0..n).map(|i| (((i * 7919 + 13) % 251) as f32 / 16.0 - 7.0) * (1.0 + (i % 4) as f32 / 4096.0)).collect()
}

#[test]
fn every_path_has_the_references_sums() {
    let wide = Window { dilation: 2, ..Window::new([3, 3], 1, Padding { top: 3, bottom: 1, left: 0, right: 4 }) };
    let even = Window::new([3, 3], 2, Padding { top: 0, bottom: 1, left: 0, right: 1 });
    let row = Window::new([1, 5], 1, Padding { left: 2, right: 2, ..Padding::default() });
    let same = Window::new([3, 3], 1, Padding::all(1));
    // Widths that fill no tile and no panel, in which sums are exact in f32.
    let small = [[64, 64, 8, 8], [66, 66, 7, 5], [130, 130, 6, 9]];
    let large = [[64, 64, 9, 11], [70, 70, 17, 21]];
    let halved = [[64, 256, 8, 10], [70, 280, 16, 20]];
    let each = [(Window::POINT, large.as_slice()), (row, &large), (wide, &large), (even, &halved), (same, &small)];
    for (window, [ins, outs, h, w]) in each.into_iter().flat_map(|(v, sizes)| sizes.iter().map(move |s| (v, *s))) {
        let mut g = GraphBuilder::new();
        // A source wants as many values as it is given.
        let sample = g.input_as(Role::Sample, "sample", &[ins, h, w]).unwrap();
        let weight = g.param("c.weight", &[outs, ins, window.kernel[0], window.kernel[1]]).unwrap();
        let bias = g.param("c.bias", &[outs]).unwrap();
        let y = g.push(Op::Conv2d { window, kernel: Kernel { weight, bias: Some(bias) } }, &[sample]).unwrap();
        g.output("y", y).unwrap();
        let source = source(&g.finish().unwrap(), exact);
        let x = [sixteenths(2 * ins * h * w)];
        let want = run(&*compiled(&source, &Reference, Precision::Bf16), 2, &x);
        assert_ne!(want, run(&*compiled(&source, &Reference, Precision::F32), 2, &x), "nothing was rounded");
        for kernel in kernels() {
            for threads in [1, 3, 8] {
                let got = run(&*compiled(&source, &cpu(kernel, threads), Precision::Bf16), 2, &x);
                assert!(got == want, "{window:?} {ins} to {outs} on {kernel:?}: {:e}", relative(&got, &want));
            }
        }
    }
}

/// Where tiles multiply bf16, 3x3 layers of many pixels are of bf16 too.
#[test]
fn large_images_are_rounded_where_tiles_multiply_them() {
    let best = Cpu::new().unwrap();
    if !best.bf16_beats_winograd() {
        return println!("skipped: no AMX, or no leave to use it");
    }
    for [ins, outs, h, w] in [[64, 64, 9, 11], [40, 40, 16, 17], [66, 132, 33, 5]] {
        let mut g = GraphBuilder::new();
        let sample = g.input_as(Role::Sample, "sample", &[ins, h, w]).unwrap();
        let y = g.conv2d("c", sample, outs, 3, 1, Padding::all(1)).unwrap();
        g.output("y", y).unwrap();
        let source = source(&g.finish().unwrap(), exact);
        let x = [sixteenths(3 * ins * h * w)];
        let plain = run(&*compiled(&source, &Reference, Precision::Bf16), 3, &x);
        let want = run(&*compiled(&source, &Like(best.clone()), Precision::Bf16), 3, &x);
        assert_ne!(want, plain, "nothing was rounded");
        for threads in [1, 3, 8] {
            let got = run(&*compiled(&source, &cpu((Path::Avx512, Without::Nothing), threads), Precision::Bf16), 3, &x);
            assert!(got == want, "{ins} to {outs}, {h} x {w}: {:e}", relative(&got, &want));
        }
    }
}

/// Attention where tiles multiply: heads and keys that fill no tile, values of other channels, keys of another size.
#[test]
fn attention_is_rounded_where_tiles_multiply_it() {
    let best = Cpu::new().unwrap();
    if !best.bf16_beats_winograd() {
        return println!("skipped: no AMX, or no leave to use it");
    }
    for (heads, dim, value_dim, [h, w], keys) in
        [(1, 64, 64, [8, 8], 64), (3, 40, 80, [7, 5], 35), (2, 80, 80, [9, 11], 77), (5, 33, 66, [1, 3], 129)]
    {
        let mut g = GraphBuilder::new();
        let q = g.input_as(Role::Sample, "sample", &[heads * dim, h, w]).unwrap();
        let k = g.input_as(Role::Tokens, "k", &[heads * dim, keys]).unwrap();
        let v = g.input_as(Role::Tokens, "v", &[heads * value_dim, keys]).unwrap();
        let y = g.push(Op::Attention { heads }, &[q, k, v]).unwrap();
        g.output("sample", y).unwrap();
        let graph = g.finish().unwrap();
        let source = source(&graph, |_| {});
        let x = draw::inputs(&graph, 3);
        let plain = run(&*compiled(&source, &Reference, Precision::Bf16), 3, &x);
        let want = run(&*compiled(&source, &Like(best.clone()), Precision::Bf16), 3, &x);
        let apart = relative(&want, &plain);
        let kernel = (Path::Avx512, Without::Nothing);
        let one = run(&*compiled(&source, &cpu(kernel, 1), Precision::Bf16), 3, &x);
        // A weight near the middle of two bf16 may become either.
        let error = relative(&one, &want);
        println!("{heads} x {dim}, {keys} keys: {error:e}, {apart:e} from f32");
        assert!(error < 0.1 * apart && apart < 1e-2, "{heads} x {dim}, {keys} keys: {error:e}, {apart:e} from f32");
        same_by_three_threads(&source, kernel, Precision::Bf16, &x, &one);
    }
}

/// A layer of two inputs that are read where they lie, of odd numbers of channels.
#[test]
fn two_sources_are_one_row() {
    let mut g = GraphBuilder::new();
    let sample = g.input_as(Role::Sample, "sample", &[33, 9, 7]).unwrap();
    let other = g.input_as(Role::Image, "image", &[37, 9, 7]).unwrap();
    let both = g.concat(&[sample, other]).unwrap();
    let y = g.conv2d("c", both, 33, 1, 1, Padding::all(0)).unwrap();
    g.output("y", y).unwrap();
    let source = source(&g.finish().unwrap(), exact);
    let x = [sixteenths(2 * 33 * 63), sixteenths(2 * 37 * 63)];
    let want = run(&*compiled(&source, &Reference, Precision::Bf16), 2, &x);
    for kernel in kernels() {
        assert!(run(&*compiled(&source, &cpu(kernel, 2), Precision::Bf16), 2, &x) == want, "{kernel:?}");
    }
}

#[test]
fn what_surrounds_a_layer_is_the_references_too() {
    let graph = surrounded();
    let source = source(&graph, |_| {});
    let x = [draw::inputs(&graph, 3).swap_remove(0)];
    let plain = run(&*compiled(&source, &Reference, Precision::F32), 3, &x);
    for kernel in kernels() {
        let want = run(&*compiled(&source, &Like(cpu(kernel, 1)), Precision::Bf16), 3, &x);
        let apart = relative(&want, &plain);
        let one = run(&*compiled(&source, &cpu(kernel, 1), Precision::Bf16), 3, &x);
        let error = relative(&one, &want);
        // An input near the middle of two bf16 may become either.
        println!("{error:e} on {kernel:?}, {apart:e} from f32");
        assert!(error > 0.0 && error < 0.3 * apart, "{error:e} on {kernel:?}, {apart:e} from f32");
        same_by_three_threads(&source, kernel, Precision::Bf16, &x, &one);
    }
}

#[test]
fn a_unet_in_bf16_is_near() {
    let graph = small_unet();
    let source = source(&graph, |_| {});
    let inputs = draw::inputs(&graph, 2);
    let cpu = Cpu::new().unwrap();
    let plain = run(&*compiled(&source, &cpu, Precision::F32), 2, &inputs);
    let narrow = compiled(&source, &cpu, Precision::Bf16);
    let error = relative(&run(&*narrow, 2, &inputs), &plain);
    println!("{error:e} from f32");
    assert!((1e-4..1e-2).contains(&error), "{error:e}");
    let all = compiled(&source, &cpu, Precision::F32).weight_bytes();
    assert!(narrow.weight_bytes() < all * 8 / 10, "{} of {all}", narrow.weight_bytes());
}
