//! The training engine against the reference backend: outputs and gradients of every operation that has one, and the
//! same bits for any number of threads.

use crate::draw;
use crate::op_suite;
use crate::pcg;
use std::collections::BTreeSet;
use std::sync::Arc;

use undiffuse::Cancel;
use undiffuse::backend::cpu::pool::Pool;
use undiffuse::backend::reference::Reference;
use undiffuse::backend::threads::{Serial, Threads};
use undiffuse::backend::{Backend, ParamSource};
use undiffuse::graph::gradients::gradients;
use undiffuse::graph::{Graph, GraphBuilder, Op, Padding};
use undiffuse::training::engine::{Batch, Engine, EngineOptions};

const BATCH: usize = 5;

/// What one evaluation gives.
struct Found {
    outputs: Vec<Vec<f32>>,
    gradient: Vec<f32>,
    by_inputs: Vec<Vec<f32>>,
}

fn cotangents(graph: &Graph, batch: usize) -> Vec<Vec<f32>> {
    let draw = |(i, port): (usize, &undiffuse::graph::Port)| {
        pcg::uniform(9, i as u64, batch * graph.dims(port.value).elements(), 1.0)
    };
    graph.outputs().iter().enumerate().map(draw).collect()
}

/// By the engine; the loss is the inner product with the cotangents.
fn engine(graph: &Graph, by: &[usize], threads: Arc<dyn Threads>, options: EngineOptions, batch: usize) -> Found {
    let mut engine = Engine::new(graph, by, threads, options).unwrap();
    let mut params = vec![0.0; engine.param_len()];
    for slot in engine.params() {
        draw::Weights.read(&slot.name, &slot.dims, &mut params[slot.offset..][..slot.dims.elements()]).unwrap();
    }
    let inputs = draw::inputs(graph, batch);
    let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    let room = |dims: &[undiffuse::tensor::Dims]| -> Vec<Vec<f32>> {
        dims.iter().map(|d| vec![f32::NAN; batch * d.elements()]).collect()
    };
    let mut outputs = room(engine.outputs());
    let mut outs: Vec<&mut [f32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
    let at = Batch { samples: batch, inputs: &inputs };
    engine.forward(&params, at, &mut outs, &Cancel::new()).unwrap();
    let by_dims: Vec<_> = by.iter().map(|&i| engine.inputs()[i]).collect();
    let mut by_inputs = room(&by_dims);
    let mut bys: Vec<&mut [f32]> = by_inputs.iter_mut().map(Vec::as_mut_slice).collect();
    let mut gradient = vec![f32::NAN; params.len()];
    let (v, dims) = (cotangents(graph, batch), engine.outputs().to_vec());
    let loss = |first: usize, y: &[&[f32]], dy: &mut [&mut [f32]]| {
        let mut sum = 0.0;
        for (((y, dy), v), d) in y.iter().zip(dy).zip(&v).zip(&dims) {
            let v = &v[first * d.elements()..][..y.len()];
            dy.copy_from_slice(v);
            sum += y.iter().zip(v).map(|(a, b)| f64::from(a * b)).sum::<f64>();
        }
        Ok(sum)
    };
    let value = engine.gradients(&params, at, &loss, &mut gradient, &mut bys, &Cancel::new()).unwrap();
    let expected: f64 = outputs.iter().zip(&v).flat_map(|(y, v)| y.iter().zip(v)).map(|(a, b)| f64::from(a * b)).sum();
    assert!((value - expected).abs() <= 1e-4 * (1.0 + expected.abs()));
    Found { outputs, gradient, by_inputs }
}

/// By the reference backend, which runs the same transform in f64.
fn reference(graph: &Graph, by: &[usize], batch: usize) -> Found {
    let whole = gradients(graph, by).unwrap();
    let net = Reference.compile(&whole.graph, &draw::Weights).unwrap();
    let inputs = [draw::inputs(graph, batch), cotangents(graph, batch)].concat();
    let ins: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    let mut all: Vec<Vec<f32>> = net.outputs().iter().map(|d| vec![0.0; batch * d.elements()]).collect();
    let mut outs: Vec<&mut [f32]> = all.iter_mut().map(Vec::as_mut_slice).collect();
    net.run(batch, &ins, &mut outs, &mut [], &Cancel::new()).unwrap();
    let parts = all.split_off(graph.outputs().len() + by.len());
    let by_inputs = all.split_off(graph.outputs().len());
    let mut sums: Vec<Vec<f64>> = graph.params().iter().map(|p| vec![0.0; p.dims.elements()]).collect();
    for (id, part) in whole.params.iter().zip(&parts) {
        let sum = &mut sums[id.index()];
        let n = sum.len();
        part.iter().enumerate().for_each(|(i, v)| sum[i % n] += f64::from(*v));
    }
    Found { outputs: all, gradient: sums.concat().iter().map(|v| *v as f32).collect(), by_inputs }
}

fn distance(got: &[f32], want: &[f32]) -> f64 {
    let square = |f: &dyn Fn(usize) -> f64| (0..want.len()).map(|i| f(i) * f(i)).sum::<f64>();
    let off = square(&|i| f64::from(got[i]) - f64::from(want[i])).sqrt();
    if off.is_nan() { f64::INFINITY } else { off / square(&|i| f64::from(want[i])).sqrt().max(1e-30) }
}

/// What the suite of backends has only beside operations without a gradient.
fn more_cases() -> Vec<op_suite::Case> {
    let mut g = GraphBuilder::new();
    let (x, t) = (g.input("x", &[2, 3]).unwrap(), g.input("t", &[1]).unwrap());
    let (centres, widths) = (g.param("centres", &[6, 2]).unwrap(), g.param("widths", &[6]).unwrap());
    let y = g.push(Op::RadialBasis { centres, widths }, &[x]).unwrap();
    let y = g.push(Op::Softmax, &[y]).unwrap();
    let y = g.linear("up", y, 9, true).unwrap();
    let basis = g.push(Op::TemporalBasis { steps: 900, functions: 3, width: 0.5 }, &[t]).unwrap();
    let y = g.push(Op::MatVec, &[y, basis]).unwrap();
    let wave = Op::SinusoidalEmbedding { dim: 8, flip_sin_to_cos: false, freq_shift: 0.0, max_period: 1e4 };
    let wave = g.push(wave, &[t]).unwrap();
    let wave = g.linear("wave", wave, 3, true).unwrap();
    let y = g.add(y, wave).unwrap();
    g.output("y", y).unwrap();
    vec![op_suite::Case { name: "radial basis, softmax, time".into(), graph: g.finish().unwrap(), bound: 1e-6 }]
}

fn differentiable(graph: &Graph) -> Vec<usize> {
    let fixed = ["t", "timestep", "class", "class_labels"];
    let all = graph.inputs().iter().enumerate().filter(|(_, p)| !fixed.contains(&p.name.as_str()));
    all.map(|(i, _)| i).filter(|&i| gradients(graph, &[i]).is_ok()).collect()
}

#[test]
fn gradients_are_those_of_the_reference() {
    let options = EngineOptions { lanes: 2, chunk: Some(2) };
    let (mut worst, mut seen) = ((0.0, String::new()), BTreeSet::new());
    for case in op_suite::cases().into_iter().chain(more_cases()) {
        let by = differentiable(&case.graph);
        if gradients(&case.graph, &by).is_err() || (by.is_empty() && case.graph.params().is_empty()) {
            continue;
        }
        let got = engine(&case.graph, &by, Arc::new(Serial), options, BATCH);
        let want = reference(&case.graph, &by, BATCH);
        let pairs = got.outputs.iter().zip(&want.outputs).chain(got.by_inputs.iter().zip(&want.by_inputs));
        for (got, want) in pairs.chain([(&got.gradient, &want.gradient)]) {
            let d = distance(got, want);
            assert!(d <= case.bound.max(1e-6), "{}: relative L2 {d:.1e}", case.name);
            if d > worst.0 {
                worst = (d, case.name.clone());
            }
        }
        seen.extend(case.graph.nodes().iter().map(|n| n.op.name()));
    }
    println!("worst relative L2 {:.1e} in {}; {seen:?}", worst.0, worst.1);
    assert_eq!(seen.len(), 22, "{seen:?}");
}

fn small_net() -> Graph {
    let mut g = GraphBuilder::new();
    let x = g.input("x", &[3, 8, 8]).unwrap();
    let h = g.conv2d("a", x, 7, 3, 1, Padding::all(1)).unwrap();
    let h = g.group_norm("n", h, 7, 1e-3).unwrap();
    let h = g.activation(h, undiffuse::graph::Activation::Silu).unwrap();
    let p = g.push(Op::AveragePool { factor: 2 }, &[h]).unwrap();
    let p = g.linear("l", p, 7, true).unwrap();
    let p = g.push(Op::UpsampleNearest { factor: 2 }, &[p]).unwrap();
    let h = g.add(h, p).unwrap();
    let y = g.conv2d("b", h, 3, 3, 1, Padding::all(1)).unwrap();
    g.output("y", y).unwrap();
    g.finish().unwrap()
}

#[test]
fn bits_do_not_depend_on_threads() {
    let graph = small_net();
    for lanes in [1, 4, 7] {
        let options = EngineOptions { lanes, chunk: Some(3) };
        let one = engine(&graph, &[0], Arc::new(Serial), options, 13);
        for threads in [2, 3] {
            let more = engine(&graph, &[0], Arc::new(Pool::new(threads).unwrap()), options, 13);
            assert!(one.gradient.iter().zip(&more.gradient).all(|(a, b)| a.to_bits() == b.to_bits()));
            assert_eq!((&one.outputs, &one.by_inputs), (&more.outputs, &more.by_inputs));
        }
    }
}

#[test]
fn wrong_calls_are_refused() {
    let graph = small_net();
    let options = EngineOptions::default();
    assert!(Engine::new(&graph, &[], Arc::new(Serial), EngineOptions { lanes: 0, ..options }).is_err());
    assert!(Engine::new(&graph, &[], Arc::new(Serial), EngineOptions { chunk: Some(0), ..options }).is_err());
    assert!(Engine::new(&graph, &[1], Arc::new(Serial), options).is_err());
    let mut engine = Engine::new(&graph, &[], Arc::new(Serial), options).unwrap();
    let params = vec![0.1; engine.param_len()];
    let (x, mut gradient) = (vec![0.5; 2 * 192], vec![0.0; params.len()]);
    let cancel = Cancel::new();
    fn at<'a>(samples: usize, inputs: &'a [&'a [f32]]) -> Batch<'a> {
        Batch { samples, inputs }
    }
    let refuse = |_: usize, _: &[&[f32]], _: &mut [&mut [f32]]| {
        Err(undiffuse::Error::new(undiffuse::ErrorKind::Callback, "the loss has no value"))
    };
    let e = engine.gradients(&params, at(2, &[&x]), &refuse, &mut gradient, &mut [], &cancel).unwrap_err();
    assert_eq!(e.message(), "the loss has no value");
    let fine = |_: usize, y: &[&[f32]], dy: &mut [&mut [f32]]| {
        dy[0].copy_from_slice(y[0]);
        Ok(0.0)
    };
    assert!(engine.gradients(&params, at(3, &[&x]), &fine, &mut gradient, &mut [], &cancel).is_err());
    assert!(engine.gradients(&params, at(0, &[&[]]), &fine, &mut gradient, &mut [], &cancel).is_err());
    assert!(engine.gradients(&params[1..], at(2, &[&x]), &fine, &mut gradient, &mut [], &cancel).is_err());
    assert!(engine.gradients(&params, at(2, &[&x]), &fine, &mut gradient[1..], &mut [], &cancel).is_err());
    assert!(engine.gradients(&params, at(2, &[]), &fine, &mut gradient, &mut [], &cancel).is_err());
    cancel.cancel();
    let e = engine.gradients(&params, at(2, &[&x]), &fine, &mut gradient, &mut [], &cancel).unwrap_err();
    assert_eq!(e.kind(), undiffuse::ErrorKind::Cancelled);
    cancel.reset();
    engine.gradients(&params, at(2, &[&x]), &fine, &mut gradient, &mut [], &cancel).unwrap();
    assert!(gradient.iter().any(|g| *g != 0.0));
}
