//! The generators of PyTorch, NumPy and JAX, value by value.
//!
//! `tests/golden/make_noise.py` made the values and names the versions.

use serde_json::Value;
use undiffuse::ErrorKind;
use undiffuse::noise::{DrawnFor, DrawnIn, NoiseSource, PythonGenerator, PythonNoise};

const TEXT: &str = include_str!("../golden/noise.json");

struct Case {
    name: String,
    seed: u64,
    samples: usize,
    len: usize,
    each: bool,
    drawn_in: DrawnIn,
    normal: bool,
    every: usize,
    draws: Vec<Vec<u32>>,
    /// Of all values of each draw, where not all are kept.
    hashes: Vec<u64>,
}

fn cases() -> Vec<Case> {
    let all: Vec<Value> = serde_json::from_str(TEXT).unwrap();
    let size = |v: &Value| v.as_u64().unwrap() as usize;
    all.iter()
        .map(|c| Case {
            name: c["generator"].as_str().unwrap().into(),
            seed: c["seed"].as_u64().unwrap(),
            samples: size(&c["samples"]),
            len: size(&c["len"]),
            each: c["each"].as_bool().unwrap(),
            drawn_in: match c["type"].as_str().unwrap() {
                "f32" => DrawnIn::F32,
                "f16" => DrawnIn::F16,
                _ => DrawnIn::Bf16,
            },
            normal: c["kind"] == "normal",
            every: size(&c["every"]),
            draws: serde_json::from_value(c["draws"].clone()).unwrap(),
            hashes: (c["hashes"].as_array().into_iter().flatten())
                .map(|h| u64::from_str_radix(h.as_str().unwrap(), 16).unwrap())
                .collect(),
        })
        .collect()
}

impl Case {
    fn source(&self) -> PythonNoise {
        let generator = PythonGenerator::of_name(&self.name).unwrap();
        let drawn_for = if self.each { DrawnFor::Each { at_once: 2 } } else { DrawnFor::AllOf(self.samples as u64) };
        PythonNoise::new(generator, self.seed, drawn_for, self.len).unwrap().with_type(self.drawn_in).unwrap()
    }

    fn fill(&self, source: &mut PythonNoise, first: usize, draw: usize, out: &mut [f32]) {
        let fill = if self.normal { PythonNoise::normal } else { PythonNoise::uniform };
        fill(source, first as u64, draw as u64, self.len, out).unwrap();
    }

    fn text(&self) -> String {
        format!("{} seed {} {} x {} normal {}", self.name, self.seed, self.samples, self.len, self.normal)
    }
}

/// How many f32 lie between them.
fn ulps(a: f32, b: u32) -> u32 {
    let order = |bits: u32| if bits >> 31 == 1 { i64::from(!bits | 1 << 31) - (1 << 31) } else { i64::from(bits) };
    order(a.to_bits()).abs_diff(order(b)).try_into().unwrap_or(u32::MAX)
}

#[test]
fn values_are_those_of_the_references() {
    let (mut compared, mut unequal) = (0, 0);
    for case in cases() {
        let mut source = case.source();
        let mut out = vec![0.0; case.samples * case.len];
        // All are known to the last bit but NumPy's normals, where exp and log of the C library decide one in 400,000.
        let exact = !case.normal || case.name != "numpy";
        for (draw, want) in case.draws.iter().enumerate() {
            case.fill(&mut source, 0, draw, &mut out);
            let got: Vec<f32> = out.iter().copied().step_by(case.every).collect();
            assert_eq!(got.len(), want.len());
            for (i, (g, w)) in got.iter().zip(want).enumerate() {
                let d = ulps(*g, *w);
                assert!(
                    d <= u32::from(!exact),
                    "{} draw {draw} value {i}: {g}, expected {}",
                    case.text(),
                    f32::from_bits(*w)
                );
                compared += 1;
                unequal += d;
            }
            if let Some(want) = case.hashes.get(draw).filter(|_| exact) {
                let hash = out.iter().fold(0u64, |h, v| h.wrapping_mul(31).wrapping_add(v.to_bits().into()));
                assert_eq!(hash, *want, "{} draw {draw}", case.text());
                compared += out.len();
            }
        }
    }
    println!("{compared} values, {unequal} of them not the same bits");
    assert!(compared > 3_000_000, "{compared}");
}

#[test]
fn any_order_and_any_batch_give_the_same() {
    for case in cases().iter().filter(|c| c.every == 1 && c.samples > 1) {
        let mut whole = vec![0.0; case.samples * case.len];
        let mut in_order = case.source();
        let mut other = case.source();
        let want: Vec<Vec<f32>> = (0..case.draws.len())
            .map(|draw| {
                case.fill(&mut in_order, 0, draw, &mut whole);
                whole.clone()
            })
            .collect();
        // The last sample first, from the last draw to the first.
        for (draw, want) in want.iter().enumerate().rev() {
            for sample in (0..case.samples).rev() {
                let mut one = vec![0.0; case.len];
                case.fill(&mut other, sample, draw, &mut one);
                assert_eq!(one, want[sample * case.len..][..case.len], "{} draw {draw} sample {sample}", case.text());
            }
        }
    }
}

#[test]
fn published_values_of_a_gpu() {
    // torch.randn(3, 4, device="cuda") of seed 0, as the Stable Diffusion web UI prints it for its own imitation
    // (2023), which computes in f64 where the GPU and this library round the angle to f32: up to 2e-7 times the radius.
    let want = [
        -0.924_662_6,
        -0.425_344_15,
        -2.643_845_7,
        0.145_183_88,
        -0.120_866_47,
        -0.579_725_6,
        -0.622_851_2,
        -0.328_387_1,
        -1.074_542_3,
        -0.363_144_07,
        -1.671_050_7,
        2.265_505,
    ];
    let mut out = [0.0; 12];
    let generator = PythonGenerator::TorchCuda { threads: None };
    PythonNoise::new(generator, 0, DrawnFor::AllOf(1), 12).unwrap().normal(0, 0, 12, &mut out).unwrap();
    for (g, w) in out.iter().zip(want) {
        assert!((g - w).abs() <= 1e-6, "{g}, expected {w}");
    }
}

#[test]
fn a_draw_that_is_not_made_moves_nothing() {
    // The program draws x_T and the noise of steps 0 and 3 alone.
    let make = || PythonNoise::new(PythonGenerator::TorchCpu, 5, DrawnFor::AllOf(1), 20).unwrap();
    let mut all = make();
    let mut some = make().with_draws(vec![0, 1, 4]).unwrap();
    let (mut a, mut b) = ([0.0; 20], [0.0; 20]);
    for (draw, same_as) in [(0, 0), (1, 1), (4, 2)] {
        some.normal(0, draw, 20, &mut a).unwrap();
        all.normal(0, same_as, 20, &mut b).unwrap();
        assert_eq!(a, b, "draw {draw}");
    }
    let e = some.normal(0, 2, 20, &mut a).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidArgument);
    assert!(make().with_draws(vec![0, 2, 2]).is_err());
}

#[test]
fn what_the_reference_has_not_is_refused() {
    let new = |generator, seed, drawn_for, len| PythonNoise::new(generator, seed, drawn_for, len);
    let all = DrawnFor::AllOf(2);
    let cuda = |threads| PythonGenerator::TorchCuda { threads };
    for (generator, seed, drawn_for, len) in [
        (PythonGenerator::NumpyLegacy, 1 << 32, all, 4),
        (PythonGenerator::Jax, 1 << 32, all, 4),
        (PythonGenerator::Numpy, 0, DrawnFor::AllOf(0), 4),
        (PythonGenerator::Numpy, 0, DrawnFor::Each { at_once: 0 }, 4),
        (PythonGenerator::Numpy, 0, all, 0),
        (cuda(Some(255)), 0, all, 4),
        (cuda(None), 0, all, PythonGenerator::EVERY_GPU / 2 + 1),
    ] {
        let e = new(generator, seed, drawn_for, len).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{generator} {seed} {drawn_for:?} {len}: {e}");
    }
    // What the last of them advises.
    let e = new(cuda(None), 0, all, 49_152).unwrap_err().to_string();
    let advice = e.rsplit_once("as in ").unwrap().1;
    new(PythonGenerator::of_name(advice).unwrap(), 0, all, 49_152).unwrap();

    let mut source = new(PythonGenerator::TorchCpu, 0, all, 4).unwrap();
    let mut out = [0.0; 8];
    for (first, draw, len, kind) in [
        (0, 1 << 63, 4, ErrorKind::Unsupported),
        (1, 0, 4, ErrorKind::InvalidArgument),
        (u64::MAX, 0, 4, ErrorKind::InvalidArgument),
        (0, 0, 8, ErrorKind::Shape),
        (0, 0, 3, ErrorKind::Shape),
    ] {
        assert_eq!(source.normal(first, draw, len, &mut out).unwrap_err().kind(), kind, "{first} {draw} {len}");
    }
    let each = new(PythonGenerator::Jax, u64::from(u32::MAX), DrawnFor::Each { at_once: 2 }, 4);
    let e = each.unwrap().normal(0, 0, 4, &mut out).unwrap_err();
    assert!(e.to_string().contains("seed 4294967296 of jax"), "{e}");
    assert!(new(PythonGenerator::Jax, 0, all, 4).unwrap().with_type(DrawnIn::Bf16).is_err());
    let mut half = new(PythonGenerator::TorchCpu, 0, all, 4).unwrap().with_type(DrawnIn::F16).unwrap();
    assert_eq!(half.uniform(0, 0, 4, &mut out).unwrap_err().kind(), ErrorKind::Unsupported);
    for name in ["torch", "torch-cuda:", "torch-cuda:-1", "torch-cuda:4294967296", "pcg", ""] {
        assert_eq!(PythonGenerator::of_name(name), None, "{name}");
    }
}

#[test]
fn fingerprints_differ() {
    let of = |name: &str, seed, drawn_for| {
        PythonNoise::new(PythonGenerator::of_name(name).unwrap(), seed, drawn_for, 4).unwrap().fingerprint()
    };
    let mut seen: Vec<u64> = PythonGenerator::NAMES.map(|name| of(name, 0, DrawnFor::AllOf(2))).to_vec();
    seen.push(of("torch-cuda:512", 0, DrawnFor::AllOf(2)));
    seen.push(of("numpy", 1, DrawnFor::AllOf(2)));
    seen.push(of("numpy", 0, DrawnFor::AllOf(3)));
    seen.push(of("numpy", 0, DrawnFor::Each { at_once: 2 }));
    let count = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), count);
    // How many generators are kept changes no value.
    assert_eq!(of("numpy", 0, DrawnFor::Each { at_once: 2 }), of("numpy", 0, DrawnFor::Each { at_once: 3 }));
}
