//! Times the CPU kernels on the layers of the ddpm-cifar10-32 network, on one thread.
//!
//!     cargo bench --features bench --bench kernels -- \
//!         [avx512|avx2|portable] [direct|winograd|bf16] [batch N] [only TEXT] [layer SIDE,IN,OUT,FILTER]... \
//!         [rounds N] [errors]
//!
//! Layers take turns, each figure is the sum over the layer's tasks of the best of all rounds (a task is shorter than a
//! time slice, so that other processes disturb it less), and every ratio is to the peak of fused multiply-adds measured
//! in the same process on the same path. `layer` gives other layers than those of that network. `errors` prints each
//! algorithm's relative L2 error against sums in f64 instead, for inputs like those of a network (SiLU of normal
//! values).

use std::hint::black_box;
use std::time::{Duration, Instant};

use undiffuse::backend::cpu::heap::Heap;
use undiffuse::backend::cpu::kernels::{
    Activation, Affine, Algorithm, ConvArgs, ConvShape, GatherArgs, GatherSource, Isa, PackedConv, SharedMut,
    choose_algorithm,
};
use undiffuse::backend::cpu::{AlignedBuf, Cpu, CpuOptions, Path};
use undiffuse::graph::Padding;

#[path = "common/peak.rs"]
mod peak;

/// Name, side, channels in and out, filter, how often the network has it.
type Layer = (&'static str, usize, usize, usize, usize, usize);

const LAYERS: &[Layer] = &[
    ("conv_in", 32, 3, 128, 3, 1),
    ("32 128-128", 32, 128, 128, 3, 7),
    ("32 256-128", 32, 256, 128, 3, 2),
    ("32 384-128", 32, 384, 128, 3, 1),
    ("32 256-256", 32, 256, 256, 3, 1),
    ("16 128-256", 16, 128, 256, 3, 1),
    ("16 256-256", 16, 256, 256, 3, 7),
    ("16 384-256", 16, 384, 256, 3, 1),
    ("16 512-256", 16, 512, 256, 3, 2),
    ("8 256-256", 8, 256, 256, 3, 8),
    ("8 512-256", 8, 512, 256, 3, 3),
    ("4 256-256", 4, 256, 256, 3, 11),
    ("4 512-256", 4, 512, 256, 3, 3),
    ("1x1 32 256-128", 32, 256, 128, 1, 2),
    ("1x1 32 384-128", 32, 384, 128, 1, 1),
    ("1x1 16 512-256", 16, 512, 256, 1, 2),
    ("1x1 16 256-768", 16, 256, 768, 1, 5),
    ("conv_out", 32, 128, 3, 3, 1),
    // Not in that network.
    ("28 32-32", 28, 32, 32, 3, 0),
    ("28 96-32", 28, 96, 32, 3, 0),
    ("14 64-64", 14, 64, 64, 3, 0),
    ("14 128-64", 14, 128, 64, 3, 0),
    ("7 64-64", 7, 64, 64, 3, 0),
    ("7 128-64", 7, 128, 64, 3, 0),
    ("16 16-16", 16, 16, 16, 3, 0),
    ("8 32-32", 8, 32, 32, 3, 0),
    ("64 128-128", 64, 128, 128, 3, 0),
    ("8 512-512", 8, 512, 512, 3, 0),
];

fn zeroed(len: usize) -> undiffuse::Result<AlignedBuf> {
    Heap::default().zeroed(len)
}

struct Case {
    name: String,
    /// Whether `choose_algorithm` takes this one.
    chosen: bool,
    flops: f64,
    count: usize,
    conv: PackedConv,
    batch: usize,
    /// The best time of each task, stage after stage.
    best: Vec<Duration>,
}

fn fill(x: &mut [f32], seed: u32) {
    let mut s = seed;
    for v in x {
        s = s.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *v = (s >> 8) as f32 / (1 << 23) as f32 - 1.0;
    }
}

fn main() {
    if let Err(e) = run() {
        eprintln!("{e}");
        std::process::exit(1);
    }
}

fn run() -> undiffuse::Result<()> {
    let (mut isa, mut algorithm) = (Isa::best(), None);
    let (mut batches, mut only, mut rounds, mut errors) = (vec![1, 16], String::new(), 15, false);
    let mut layers: Vec<Layer> = Vec::new();
    let mut args = std::env::args().skip(1).filter(|a| a != "--bench");
    while let Some(a) = args.next() {
        match a.as_str() {
            "direct" => algorithm = Some(Algorithm::Direct),
            "winograd" => algorithm = Some(Algorithm::Winograd),
            "errors" => errors = true,
            "bf16" => algorithm = Some(Algorithm::Bf16),
            "batch" => batches = args.next().and_then(|v| v.parse().ok()).into_iter().collect(),
            "layer" => {
                // The name lives as long as the program.
                let text: &'static str = args.next().unwrap_or_default().leak();
                let sizes: Vec<usize> = text.split(',').filter_map(|v| v.parse().ok()).collect();
                if let [side, ins, outs, filter] = sizes[..] {
                    layers.push((text, side, ins, outs, filter, 0));
                }
            }
            "only" => only = args.next().unwrap_or_default(),
            "rounds" => rounds = args.next().and_then(|v| v.parse().ok()).unwrap_or(rounds),
            name => match Path::ALL.into_iter().find(|p| p.to_string() == name).and_then(Isa::try_new) {
                Some(i) => isa = i,
                None => {
                    eprintln!("{name}: no such option, or this CPU has not this path");
                    std::process::exit(2);
                }
            },
        }
    }
    if layers.is_empty() {
        layers = LAYERS.to_vec();
    }
    layers.retain(|l| l.0.contains(&only));
    if errors {
        return bench_errors(isa, &layers);
    }
    for batch in batches {
        bench(isa, algorithm, batch, &layers, rounds)?;
        bench_gathers(isa, batch, rounds)?;
    }
    Ok(())
}

fn bench(
    isa: Isa,
    algorithm: Option<Algorithm>,
    batch: usize,
    layers: &[Layer],
    rounds: usize,
) -> undiffuse::Result<()> {
    let mut cases = Vec::new();
    // As in a network, all layers share the memory of activations.
    let (mut most, mut scratch_len) = ([0; 3], 0);
    let all = [Algorithm::Direct, Algorithm::Winograd, Algorithm::Bf16];
    for (&(name, side, ci, co, k, count), a) in layers.iter().flat_map(|l| all.map(|a| (l, a))) {
        if algorithm.is_some_and(|only| only != a && (k == 3 || only == Algorithm::Bf16)) {
            continue;
        }
        let s = ConvShape::square(side, side, ci, co, k, 1, Padding::all(k / 2));
        let mut w = zeroed(ci * co * k * k)?;
        fill(&mut w, 1);
        let Ok(conv) = PackedConv::with_algorithm(isa, s, a, &w, None) else { continue };
        let chosen = a == choose_algorithm(&s);
        for (most, len) in most.iter_mut().zip([conv.input_len(batch), conv.output_len(batch), conv.shared_len(batch)])
        {
            *most = len.unwrap_or(0).max(*most);
        }
        scratch_len = conv.scratch_len().max(scratch_len);
        let flops = 2.0 * (batch * side * side * ci * co * k * k) as f64;
        cases.push(Case { name: name.into(), chosen, flops, count, conv, batch, best: Vec::new() });
    }
    let [mut input, mut out, mut shared] = [zeroed(most[0])?, zeroed(most[1])?, zeroed(most[2])?];
    let mut scratch = zeroed(scratch_len)?;
    fill(&mut input, 2);
    let cpu = Cpu::with_options(CpuOptions { path: Some(isa.path()), threads: Some(1), ..CpuOptions::default() })?;
    let mut peak: f64 = 0.0;
    for _ in 0..rounds {
        peak = peak.max(peak::gflops(&cpu));
        for c in &mut cases {
            let input = &input[..c.conv.input_len(batch).unwrap_or(0)];
            let call = c.conv.bind(c.batch, ConvArgs::new(input, c.conv.shape().out_channels))?;
            let tasks = call.on(SharedMut::new(&mut out), SharedMut::new(&mut shared))?;
            let mut n = 0;
            for stage in 0..call.stages() {
                for i in 0..call.tasks(stage) {
                    let start = Instant::now();
                    // SAFETY: one thread, stage after stage.
                    let path = unsafe { tasks.run_task(stage, i, &mut scratch) };
                    let took = start.elapsed();
                    assert_eq!(path, isa.path(), "another path ran");
                    match c.best.get_mut(n) {
                        Some(b) => *b = took.min(*b),
                        None => c.best.push(took),
                    }
                    n += 1;
                }
            }
            black_box(&out);
        }
    }
    println!("{} batch {batch}, 1 thread; peak {peak:.1} GFLOP/s", isa.path());
    println!("{:18} {:10} {:>9} {:>9} {:>7}", "layer", "(* chosen)", "us/image", "GFLOP/s", "of peak");
    let mut total = 0.0;
    for c in &cases {
        let s = c.best.iter().sum::<Duration>().as_secs_f64();
        let g = c.flops / s / 1e9;
        let per_image = s * 1e6 / batch as f64;
        let algorithm = format!("{:?}{}", c.conv.algorithm(), if c.chosen { "*" } else { "" });
        println!("{:18} {algorithm:10} {per_image:9.1} {g:9.1} {:6.1}%", c.name, 100.0 * g / peak);
        if c.chosen {
            total += s * c.count as f64 / batch as f64;
        }
    }
    println!("all of the network's convolutions: {:.1} ms per image", total * 1e3);
    Ok(())
}

/// Gathers: side, channels. Affine, SiLU and a border of one pixel, as before a 3x3 convolution.
fn bench_gathers(isa: Isa, batch: usize, rounds: usize) -> undiffuse::Result<()> {
    println!("{:18} {:10} {:>9} {:>9}", "gather", "", "us/image", "GB/s");
    for (side, channels) in [(32, 128), (32, 384), (16, 256), (8, 256), (28, 32)] {
        let mut input = zeroed(batch * side * side * channels)?;
        let mut affine = zeroed(2 * batch * channels)?;
        let mut out = zeroed(batch * (side + 2) * (side + 2) * channels)?;
        fill(&mut input, 1);
        fill(&mut affine, 2);
        let (scale, shift) = affine.split_at(batch * channels);
        let args = GatherArgs {
            isa,
            batch,
            height: side,
            width: side,
            sources: &[GatherSource { data: &input, channels, stride: channels }],
            affine: Some(Affine { scale, shift, stride: channels }),
            activation: Activation::Silu,
            upsample: 1,
            padding: Padding::all(1),
            halves: false,
        };
        let call = args.bind()?;
        let mut best = Duration::MAX;
        for _ in 0..20 * rounds {
            let start = Instant::now();
            call.run(&mut out)?;
            best = best.min(start.elapsed());
        }
        let s = best.as_secs_f64();
        let bytes = 4 * (input.len() + out.len());
        let name = format!("{side} {channels}");
        println!("{name:18} {:10} {:9.1} {:9.1}", "", s * 1e6 / batch as f64, bytes as f64 / s / 1e9);
    }
    Ok(())
}

/// Values that are nearly normal with standard deviation 1.
fn normals(x: &mut [f32], seed: u32) {
    let mut twelve = vec![0.0; 12 * x.len()];
    fill(&mut twelve, seed);
    for (x, t) in x.iter_mut().zip(twelve.chunks_exact(12)) {
        *x = t.iter().sum::<f32>() / 2.0;
    }
}

fn bench_errors(isa: Isa, layers: &[Layer]) -> undiffuse::Result<()> {
    println!("{:18} {:>10} {:>10}   relative L2 error on {}", "layer", "Direct", "Winograd", isa.path());
    for &(name, side, ci, co, k, _) in layers {
        let s = ConvShape::square(side, side, ci, co, k, 1, Padding::all(k / 2));
        let mut w = vec![0.0; ci * co * k * k];
        normals(&mut w, 1);
        let pitch = side + 2 * (k / 2);
        let mut input = vec![0.0; pitch * pitch * ci];
        normals(&mut input, 2);
        for (i, x) in input.iter_mut().enumerate() {
            let (row, column) = (i / ci / pitch, i / ci % pitch);
            let inside = |p: usize| p >= k / 2 && p < side + k / 2;
            *x = if inside(row) && inside(column) { *x / (1.0 + (-*x).exp()) } else { 0.0 };
        }
        // Every pixel of a small image, some of a large one.
        let pixels: Vec<usize> = (0..side * side).step_by((side * side / 64).max(1) | 1).collect();
        let mut want = Vec::new();
        for p in &pixels {
            for o in 0..co {
                let mut sum = 0.0;
                for (tap, c) in (0..k * k).flat_map(|t| (0..ci).map(move |c| (t, c))) {
                    let at = ((p / side + tap / k) * pitch + p % side + tap % k) * ci + c;
                    sum += f64::from(input[at]) * f64::from(w[(o * ci + c) * k * k + tap]);
                }
                want.push(sum);
            }
        }
        let norm: f64 = want.iter().map(|v| v * v).sum();
        print!("{name:18}");
        for a in [Algorithm::Direct, Algorithm::Winograd] {
            let Ok(conv) = PackedConv::with_algorithm(isa, s, a, &w, None) else { continue };
            let mut out = vec![0.0; side * side * co];
            let mut shared = vec![0.0; conv.shared_len(1).unwrap_or(0)];
            let call = conv.bind(1, ConvArgs::new(&input, co))?;
            call.run(&mut out, &mut shared, &mut vec![0.0; conv.scratch_len()])?;
            let got = pixels.iter().flat_map(|p| &out[p * co..(p + 1) * co]);
            let off: f64 = got.zip(&want).map(|(g, w)| (f64::from(*g) - w).powi(2)).sum();
            print!(" {:10.2e}", (off / norm).sqrt());
        }
        println!();
    }
    Ok(())
}
