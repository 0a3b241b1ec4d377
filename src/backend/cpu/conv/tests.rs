//! Convolutions and gathers against plain loops, on every path, for odd shapes, batch splits and task orders.
#![allow(unsafe_code)] // Runs tasks one by one.

use alloc::vec;
use alloc::vec::Vec;
use std::println;

use super::super::aligned::SharedMut;
use super::super::gather::{Affine, GatherArgs, GatherSource};
use super::super::heap::Heap;
use super::super::isa::{Isa, Path};
use super::super::stored::WeightType;
use super::super::vmath::Activation;
use super::{Algorithm, ConvArgs, ConvShape, PackedConv, Rows};
use crate::error::ErrorKind;
use crate::graph::Padding;

pub(super) fn numbers(n: usize, seed: u32) -> Vec<f32> {
    let mut s = seed;
    (0..n)
        .map(|_| {
            s = s.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (s >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

pub(super) fn paths() -> Vec<Isa> {
    let have = |p| {
        let isa = Isa::try_new(p);
        if isa.is_none() {
            println!("skipped: this CPU or build has no {p}");
        }
        isa
    };
    Path::ALL.into_iter().filter_map(have).collect()
}

fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}

/// `x` is the padded input.
pub(super) fn plain_conv(s: &ConvShape, batch: usize, x: &[f32], w: &[f32], bias: &[f32]) -> Vec<f64> {
    let [oh, ow] = s.output().unwrap();
    let [ph, pw] = s.padded().unwrap();
    let [kh, kw] = s.kernel;
    let (ci, co) = (s.in_channels, s.out_channels);
    let mut out = Vec::new();
    for n in 0..batch {
        for p in 0..oh * ow {
            let (y, xx) = (p / ow * s.stride[0], p % ow * s.stride[1]);
            for o in 0..co {
                let mut sum = bias.get(o).copied().map_or(0.0, f64::from);
                for ky in 0..kh {
                    for kx in 0..kw {
                        let at = ((n * ph + y + ky) * pw + xx + kx) * ci;
                        for c in 0..ci {
                            let wv = w[((o * ci + c) * kh + ky) * kw + kx];
                            sum += f64::from(x[at + c]) * f64::from(wv);
                        }
                    }
                }
                out.push(sum);
            }
        }
    }
    out
}

fn padded(s: &ConvShape, batch: usize, x: &[f32]) -> Vec<f32> {
    let [ph, pw] = s.padded().unwrap();
    let mut out = vec![0.0; batch * ph * pw * s.in_channels];
    for n in 0..batch {
        for y in 0..s.height {
            for xx in 0..s.width {
                let from = ((n * s.height + y) * s.width + xx) * s.in_channels;
                let to = ((n * ph + y + s.padding.top) * pw + xx + s.padding.left) * s.in_channels;
                out[to..to + s.in_channels].copy_from_slice(&x[from..from + s.in_channels]);
            }
        }
    }
    out
}

fn close(got: &[f32], want: &[f64], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let norm: f64 = want.iter().map(|v| v * v).sum();
    let off: f64 = got.iter().zip(want).map(|(g, w)| (f64::from(*g) - w).powi(2)).sum();
    assert!(off.sqrt() <= 2e-6 * norm.sqrt(), "{what}: relative error {:e}", (off / norm).sqrt());
}

fn shapes() -> Vec<ConvShape> {
    let down = Padding { top: 0, bottom: 1, left: 0, right: 1 };
    let mut v = Vec::new();
    for (h, w) in [(1, 1), (2, 3), (4, 4), (5, 17), (8, 8), (17, 6)] {
        for (ci, co) in [(1, 1), (3, 5), (5, 16), (16, 33), (33, 3), (128, 40)] {
            v.push(ConvShape::square(h, w, ci, co, 3, 1, Padding::all(1)));
            v.push(ConvShape::square(h, w, ci, co, 1, 1, Padding::all(0)));
            if h > 1 && w > 1 {
                v.push(ConvShape::square(h, w, ci, co, 3, 2, down));
                v.push(ConvShape::square(h, w, ci, co, 3, 2, Padding::all(1)));
                v.push(ConvShape::square(h, w, ci, co, 1, 2, Padding::all(0)));
            }
            if h >= 7 && w >= 7 && ci <= 16 {
                v.push(ConvShape::square(h, w, ci, co, 7, 1, Padding::all(0)));
                v.push(ConvShape::square(h, w, ci, co, 3, 1, Padding::all(0)));
                v.push(ConvShape { kernel: [2, 5], stride: [1, 2], ..ConvShape::square(h, w, ci, co, 1, 1, down) });
            }
        }
    }
    v.push(ConvShape::linear(37, 100));
    v
}

#[test]
fn convolutions_equal_plain_loops_on_every_path() {
    for s in shapes() {
        let batch = 3;
        let [oh, ow] = s.output().unwrap();
        let per = oh * ow * s.out_channels;
        let image = s.height * s.width * s.in_channels;
        let x = padded(&s, batch, &numbers(batch * image, 1));
        let w = numbers(s.out_channels * s.in_channels * s.kernel[0] * s.kernel[1], 2);
        let bias = numbers(s.out_channels, 3);
        let want = plain_conv(&s, batch, &x, &w, &bias);
        for (isa, algorithm) in paths().into_iter().flat_map(|i| [(i, Algorithm::Direct), (i, Algorithm::Winograd)]) {
            let Ok(conv) = PackedConv::with_algorithm(isa, s, algorithm, &w, Some(&bias)) else {
                assert!(algorithm == Algorithm::Winograd && (s.kernel != [3, 3] || s.stride != [1, 1]));
                continue;
            };
            assert_eq!(conv.algorithm(), algorithm);
            let mut scratch = vec![f32::NAN; conv.scratch_len()];
            let mut shared = vec![f32::NAN; conv.shared_len(batch).unwrap()];
            let mut out = vec![f32::NAN; batch * per];
            let call = conv.bind(batch, ConvArgs::new(&x, s.out_channels)).unwrap();
            let path = call.run(&mut out, &mut shared, &mut scratch).unwrap();
            assert_eq!(path, isa.path(), "forced path did not run");
            close(&out, &want, &alloc::format!("{s:?}, {algorithm:?} on {path}"));
            // One image at a time, for other numbers of workers, tasks in reverse: the same bits.
            let px = x.len() / batch;
            for n in 0..batch {
                let mut one = vec![0.0; per];
                let args = ConvArgs { workers: n + 2, ..ConvArgs::new(&x[n * px..(n + 1) * px], s.out_channels) };
                let call = conv.bind(1, args).unwrap();
                let tasks = call.on(SharedMut::new(&mut one), SharedMut::new(&mut shared)).unwrap();
                for stage in 0..call.stages() {
                    for t in (0..call.tasks(stage)).rev() {
                        // SAFETY: one thread, `one` is used by nobody else.
                        unsafe { tasks.run_task(stage, t, &mut scratch) };
                    }
                }
                assert_eq!(one, out[n * per..(n + 1) * per], "{s:?} on {path}: batch split changed bits");
            }
        }
    }
}

/// Narrow weights are the weights that they round to: the same sums as of these in f32, for all shapes, algorithms and
/// paths.
#[test]
fn narrow_weights_equal_what_they_round_to() {
    for s in shapes() {
        let batch = 2;
        let [oh, ow] = s.output().unwrap();
        let x = padded(&s, batch, &numbers(batch * s.height * s.width * s.in_channels, 1));
        let fan_in = s.in_channels * s.kernel[0] * s.kernel[1];
        let (w, bias) = (numbers(s.out_channels * fan_in, 2), numbers(s.out_channels, 3));
        for kind in [WeightType::F16, WeightType::Bf16, WeightType::Int8, WeightType::Int4] {
            let mut rounded = w.clone();
            kind.round(&mut rounded, s.out_channels, [s.in_channels, s.kernel[0] * s.kernel[1]]);
            assert_eq!(rounded == w, kind.of_layer(s.out_channels, fan_in) == WeightType::F32);
            let want = plain_conv(&s, batch, &x, &rounded, &bias);
            for (isa, algorithm) in paths().into_iter().flat_map(|i| [(i, Algorithm::Direct), (i, Algorithm::Winograd)])
            {
                if algorithm == Algorithm::Winograd && (s.kernel != [3, 3] || s.stride != [1, 1]) {
                    continue;
                }
                let stored = kind.of_layer(s.out_channels, fan_in);
                let conv = PackedConv::pack(&Heap::default(), isa, stored, s, algorithm, &w, Some(&bias)).unwrap();
                let mut scratch = vec![f32::NAN; conv.scratch_len()];
                let mut shared = vec![f32::NAN; conv.shared_len(batch).unwrap()];
                let mut out = vec![f32::NAN; batch * oh * ow * s.out_channels];
                let call = conv.bind(batch, ConvArgs::new(&x, s.out_channels)).unwrap();
                call.run(&mut out, &mut shared, &mut scratch).unwrap();
                close(&out, &want, &alloc::format!("{s:?}, {algorithm:?}, {kind} on {}", isa.path()));
            }
        }
    }
}

#[test]
fn narrow_weights_take_fewer_bytes_and_f16_refuses_what_it_cannot_hold() {
    let s = ConvShape::square(4, 4, 128, 96, 3, 1, Padding::all(1));
    let mut w = numbers(96 * 128 * 9, 2);
    for isa in paths() {
        let bytes = |kind| PackedConv::in_heap(&Heap::default(), isa, kind, s, &w, None).unwrap().bytes();
        let bias = 4 * 96;
        let [f32s, f16s, bf16s, int8s, int4s] = WeightType::ALL.map(bytes);
        assert_eq!(f16s - bias, (f32s - bias) / 2);
        assert_eq!(bf16s, f16s);
        assert_eq!(int8s - bias, (f32s - bias) / 4 + 4 * 96);
        // Half a byte each, and two bytes for 32.
        assert_eq!(int4s - bias, (f32s - bias) / 4 * 9 / 16);
    }
    w[5] = 7e4;
    let refused = |kind| PackedConv::in_heap(&Heap::default(), Isa::best(), kind, s, &w, None).is_err();
    assert_eq!(WeightType::ALL.map(refused), [false, true, false, false, false]);
}

#[test]
fn everything_added_at_the_store() {
    let batch = 3;
    for (h, w, ci, co) in [(4, 5, 8, 40), (3, 3, 5, 3), (8, 8, 16, 32)] {
        let s = ConvShape::square(h, w, ci, co, 3, 1, Padding::all(1));
        let x = padded(&s, batch, &numbers(batch * h * w * ci, 1));
        let (wt, bias) = (numbers(co * ci * 9, 2), numbers(co, 3));
        let (sample, residual) = (numbers(batch * (co + 7), 4), numbers(batch * h * w * (co + 2), 5));
        let plain = plain_conv(&s, batch, &x, &wt, &bias);
        for (activation, f) in [(Activation::Identity, (|x| x) as fn(f64) -> f64), (Activation::Silu, silu)] {
            let want: Vec<f64> = (0..plain.len())
                .map(|i| {
                    let (p, c) = (i / co, i % co);
                    let v = plain[i]
                        + f64::from(sample[p / (h * w) * (co + 7) + c])
                        + f64::from(residual[p * (co + 2) + c]);
                    f(v * 0.7)
                })
                .collect();
            for (isa, algorithm) in paths().into_iter().flat_map(|i| [(i, Algorithm::Direct), (i, Algorithm::Winograd)])
            {
                let conv = PackedConv::with_algorithm(isa, s, algorithm, &wt, Some(&bias)).unwrap();
                let stride = co + 5;
                let mut out = vec![9.0; batch * h * w * stride];
                let mut shared = vec![f32::NAN; conv.shared_len(batch).unwrap()];
                let args = ConvArgs {
                    sample: Some(Rows { data: &sample, stride: co + 7 }),
                    residual: Some(Rows { data: &residual, stride: co + 2 }),
                    scale: 0.7,
                    activation,
                    out_stride: stride,
                    ..ConvArgs::new(&x, co)
                };
                let mut scratch = vec![0.0; conv.scratch_len()];
                conv.bind(batch, args).unwrap().run(&mut out, &mut shared, &mut scratch).unwrap();
                let dense: Vec<f32> = out.chunks(stride).flat_map(|r| r[..co].to_vec()).collect();
                close(&dense, &want, "epilogue");
                assert!(out.chunks(stride).all(|r| r[co..].iter().all(|v| *v == 9.0)), "wrote between pixels");
            }
        }
    }
}

#[test]
fn too_little_memory_for_the_stages_is_refused() {
    let s = ConvShape::square(8, 8, 4, 4, 3, 1, Padding::all(1));
    let conv = PackedConv::with_algorithm(Isa::best(), s, Algorithm::Winograd, &numbers(144, 1), None).unwrap();
    let x = numbers(conv.input_len(1).unwrap(), 2);
    let call = conv.bind(1, ConvArgs::new(&x, 4)).unwrap();
    let [out, shared, scratch] = [256, conv.shared_len(1).unwrap(), conv.scratch_len()];
    for short in [[1, 0, 0], [0, 1, 0], [0, 0, 1]] {
        let [mut a, mut b, mut c] =
            [vec![0.0; out - short[0]], vec![0.0; shared - short[1]], vec![0.0; scratch - short[2]]];
        assert!(call.run(&mut a, &mut b, &mut c).is_err(), "{short:?}");
    }
    assert!(call.run(&mut vec![0.0; out], &mut vec![0.0; shared], &mut vec![0.0; scratch]).is_ok());
}

#[test]
fn two_sources_equal_one_concatenated() {
    let (batch, h, w) = (2, 3, 7);
    for (c0, c1, co) in [(1, 1, 1), (5, 3, 40), (16, 33, 17)] {
        let (a, b) = (numbers(batch * h * w * c0, 1), numbers(batch * h * w * c1, 2));
        let cat: Vec<f32> =
            a.chunks(c0).zip(b.chunks(c1)).flat_map(|(a, b)| a.iter().chain(b).copied().collect::<Vec<_>>()).collect();
        let s = ConvShape::square(h, w, c0 + c1, co, 1, 1, Padding::all(0));
        let wt = numbers(co * (c0 + c1), 3);
        for isa in paths() {
            let conv = PackedConv::new(isa, s, &wt, None).unwrap();
            let (mut one, mut two) = (vec![0.0; batch * h * w * co], vec![0.0; batch * h * w * co]);
            conv.bind(batch, ConvArgs::new(&cat, co)).unwrap().run(&mut one, &mut [], &mut []).unwrap();
            let args = ConvArgs { second: Some((&b, c1)), ..ConvArgs::new(&a, co) };
            conv.bind(batch, args).unwrap().run(&mut two, &mut [], &mut []).unwrap();
            assert_eq!(one, two);
        }
    }
}

#[test]
fn wrong_arguments_are_refused() {
    let isa = Isa::best();
    let s = ConvShape::square(4, 4, 3, 5, 3, 1, Padding::all(1));
    let w = numbers(135, 1);
    assert!(PackedConv::new(isa, s, &w[1..], None).is_err());
    assert!(PackedConv::new(isa, s, &w, Some(&[0.0; 4])).is_err());
    for bad in [
        ConvShape { height: 0, ..s },
        ConvShape { stride: [0, 1], ..s },
        ConvShape { kernel: [7, 3], ..s },
        ConvShape { out_channels: usize::MAX, ..s },
        ConvShape { padding: Padding::all(usize::MAX), ..s },
        ConvShape { height: usize::MAX, ..s },
    ] {
        assert!(PackedConv::new(isa, bad, &w, None).is_err(), "{bad:?}");
    }
    let conv = PackedConv::new(isa, s, &w, None).unwrap();
    let x = numbers(conv.input_len(2).unwrap(), 2);
    let mut out = vec![0.0; conv.output_len(2).unwrap()];
    let n = out.len();
    let mut tried = |batch: usize, x: &[f32], len: usize, f: &dyn Fn(&mut ConvArgs<'_>)| {
        let mut args = ConvArgs::new(x, 5);
        f(&mut args);
        let call = conv.bind(batch, args).map_err(|e| e.kind())?;
        call.run(&mut out[..len], &mut [], &mut []).map(|_| call.tasks(0)).map_err(|e| e.kind())
    };
    assert!(tried(2, &x, n, &|_| ()).is_ok());
    assert_eq!(tried(0, &[], 0, &|_| ()), Ok(0));
    assert!(tried(1, &x, n, &|_| ()).is_err());
    assert!(tried(2, &x[1..], n, &|_| ()).is_err());
    assert!(tried(2, &x, n - 1, &|_| ()).is_err());
    assert!(tried(usize::MAX, &x, n, &|_| ()).is_err());
    assert!(tried(2, &x, n, &|a| a.out_stride = 4).is_err());
    assert!(tried(2, &x, n, &|a| a.second = Some((&[0.0; 32], 1))).is_err());
    assert!(tried(2, &x, n, &|a| a.sample = Some(Rows { data: &[0.0; 9], stride: 5 })).is_err());
    assert!(tried(2, &x, n, &|a| a.sample = Some(Rows { data: &[0.0; 5], stride: 0 })).is_ok());
    assert!(tried(2, &x, n, &|a| a.residual = Some(Rows { data: &[0.0; 159], stride: 5 })).is_err());
}

#[test]
fn gathers_equal_plain_loops_on_every_path() {
    let odd = Padding { top: 0, bottom: 1, left: 2, right: 1 };
    for (h, w, c0, c1) in [(1, 1, 1, 0), (3, 5, 3, 0), (4, 4, 16, 6), (5, 2, 33, 16)] {
        for (upsample, padding) in [(1, Padding::all(1)), (2, Padding::all(1)), (1, Padding::default()), (3, odd)] {
            for (affine, activation) in [
                (false, Activation::Identity),
                (true, Activation::Silu),
                (true, Activation::Identity),
                (false, Activation::Relu),
            ] {
                let batch = 2;
                let c = c0 + c1;
                let (a, b) = (numbers(batch * h * w * (c0 + 1), 1), numbers(batch * h * w * c1, 2));
                // The affine map as the backend lays it out: factors, then offsets, sample after sample.
                let ab = numbers(batch * 2 * c, 3);
                let (oh, ow) =
                    (padding.top + h * upsample + padding.bottom, padding.left + w * upsample + padding.right);
                let mut want = vec![0.0f64; batch * oh * ow * c];
                for n in 0..batch {
                    for y in 0..h * upsample {
                        for x in 0..w * upsample {
                            for ch in 0..c {
                                let p = (n * h + y / upsample) * w + x / upsample;
                                let mut v = f64::from(if ch < c0 { a[p * (c0 + 1) + ch] } else { b[p * c1 + ch - c0] });
                                if affine {
                                    v = v * f64::from(ab[n * 2 * c + ch]) + f64::from(ab[n * 2 * c + c + ch]);
                                }
                                v = match activation {
                                    Activation::Silu => silu(v),
                                    Activation::Relu => v.max(0.0),
                                    _ => v,
                                };
                                want[((n * oh + y + padding.top) * ow + x + padding.left) * c + ch] = v;
                            }
                        }
                    }
                }
                for isa in paths() {
                    let mut out = vec![f32::NAN; want.len()];
                    let both = [
                        GatherSource { data: &a, channels: c0, stride: c0 + 1 },
                        GatherSource { data: &b, channels: c1, stride: c1 },
                    ];
                    let args = GatherArgs {
                        isa,
                        batch,
                        height: h,
                        width: w,
                        sources: &both[..if c1 > 0 { 2 } else { 1 }],
                        affine: affine.then_some(Affine { scale: &ab, shift: &ab[c..], stride: 2 * c }),
                        activation,
                        upsample,
                        padding,
                        halves: false,
                    };
                    let mut refused = |args: GatherArgs<'_>| args.bind().and_then(|call| call.run(&mut out)).is_err();
                    assert!(refused(GatherArgs { height: h + 1, ..args }));
                    assert!(refused(GatherArgs { padding: Padding::all(4), ..args }));
                    assert!(GatherArgs { upsample: 0, ..args }.bind().is_err());
                    args.bind().unwrap().run(&mut out).unwrap();
                    for (g, w) in out.iter().zip(&want) {
                        assert!((f64::from(*g) - w).abs() <= 1e-6 * (1.0 + w.abs()), "{g} for {w} on {}", isa.path());
                    }
                    // The same rounded, where that is possible.
                    let rounded = GatherArgs { halves: true, ..args };
                    let mut halves = vec![f32::NAN; out.len() / 2];
                    let can = c.is_multiple_of(2) && matches!(activation, Activation::Identity | Activation::Silu);
                    match rounded.bind() {
                        Ok(call) => assert_eq!(call.run(&mut halves), Ok(isa.path())),
                        Err(e) => assert_eq!((can, e.kind()), (false, ErrorKind::Unsupported)),
                    }
                    let each = halves.iter().flat_map(|v| [v.to_bits() as u16, (v.to_bits() >> 16) as u16]);
                    let same = each.zip(&out).all(|(h, v)| h == half::bf16::from_f32(*v).to_bits());
                    assert!(same || !can, "on {}", isa.path());
                }
            }
        }
    }
}
