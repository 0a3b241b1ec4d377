//! The rules every operator keeps, over all of them.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::error::ErrorKind;
use crate::noise::Stream;

fn dims(d: &[usize]) -> Dims {
    Dims::new(d).unwrap()
}

fn random(stream: u64, len: usize) -> Vec<f32> {
    let mut s = Stream::new(11, 5, stream);
    (0..len).map(|_| s.normal() as f32).collect()
}

fn sum(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// The largest difference over the largest magnitude.
fn difference(got: &[f32], want: &[f32]) -> f64 {
    assert_eq!(got.len(), want.len());
    let scale = want.iter().fold(1e-30f32, |m, v| m.max(v.abs()));
    got.iter().zip(want).map(|(g, w)| f64::from((g - w).abs() / scale)).fold(0.0, f64::max)
}

fn shift(x: &[f32], y: &mut [f32]) -> Result<()> {
    y.copy_from_slice(&x[1..]);
    Ok(())
}

fn unshift(y: &[f32], x: &mut [f32]) -> Result<()> {
    x[0] = 0.0;
    x[1..].copy_from_slice(y);
    Ok(())
}

/// Each with a name, and the rank it should have, where it has a decomposition.
fn all() -> Vec<(&'static str, Box<dyn LinearOperator>, Option<usize>)> {
    let colour = dims(&[3, 8, 12]);
    let odd = dims(&[2, 7, 9]);
    let flags: Vec<bool> = random(1, 96).iter().map(|v| *v > 0.3).collect();
    let each: Vec<bool> = random(2, 288).iter().map(|v| *v > 0.3).collect();
    let count = |f: &[bool]| f.iter().filter(|&&k| k).count();
    let motion = [0.0, 0.3, 0.1, 0.2, 0.5, 0.1, -0.1, 0.05, 0.2, 0.0, 0.3, 0.1];
    let g = gaussian_kernel(5, 1.0).unwrap();
    let low_rank: Vec<f32> =
        (0..35).map(|i| (((i / 7 + 1) * (i % 7)) as f32 + if i / 7 == 2 { 1.0 } else { 0.0 }) * 0.02).collect();
    let boxed = |o: Result<Box<dyn LinearOperator>>| o.unwrap();
    macro_rules! op {
        ($name:literal, $op:expr, $rank:expr) => {
            ($name, boxed($op.map(|o| Box::new(o) as Box<dyn LinearOperator>)), $rank)
        };
    }
    vec![
        op!("identity", Identity::new(colour), Some(288)),
        op!("mask of positions", Mask::new(colour, &flags), Some(3 * count(&flags))),
        op!("mask of elements", Mask::new(colour, &each), Some(count(&each))),
        op!("box", Mask::without_box(odd, 2, 3, 4, 4), Some(2 * (63 - 16))),
        op!("channels", Channels::new(colour, &[2, 0]), Some(192)),
        op!("grey", Grey::mean(colour), Some(96)),
        op!("luma", Grey::weighted(colour, &[0.299, 0.587, 0.114]), Some(96)),
        op!("average 2", BlockAverage::new(colour, 2), Some(72)),
        op!("average 4", BlockAverage::new(colour, 4), Some(18)),
        op!("bicubic 2", Bicubic::new(colour, 2, Padding::Symmetric), Some(72)),
        op!("bicubic 4", Bicubic::new(colour, 4, Padding::Circular), Some(18)),
        op!("bicubic 2, zeros", Bicubic::new(colour, 2, Padding::Zero), Some(72)),
        op!("blur, zeros", SeparableBlur::new(odd, &g, &[0.2, 0.5, 0.4], Padding::Zero), Some(126)),
        op!("blur, symmetric", SeparableBlur::new(odd, &g, &g, Padding::Symmetric), Some(126)),
        op!("blur, taps of both signs", SeparableBlur::new(odd, &[0.45, 0.4, 0.45], &g, Padding::Symmetric), Some(126)),
        op!("blur, a direction lost", SeparableBlur::new(odd, &g, &[0.5; 3], Padding::Symmetric), Some(112)),
        op!("blur, uneven taps", SeparableBlur::new(odd, &g, &[0.2, 0.5, 0.4], Padding::Symmetric), Some(126)),
        op!("blur, circular and separable", SeparableBlur::new(odd, &g, &g, Padding::Circular), Some(126)),
        op!("kernel, even sides", CircularBlur::new(colour, &motion, 3, 4), Some(288)),
        op!("kernel, odd sides", CircularBlur::new(odd, &motion, 4, 3), Some(126)),
        op!("kernel, even and odd", CircularBlur::new(dims(&[1, 6, 5]), &motion, 4, 3), Some(30)),
        op!("kernel, odd and even", CircularBlur::new(dims(&[1, 5, 6]), &motion, 4, 3), Some(30)),
        op!("kernel with zeros", CircularBlur::new(dims(&[1, 4, 4]), &[0.5, 0.5], 1, 2), Some(12)),
        op!("kernel on one row", CircularBlur::new(dims(&[2, 1, 8]), &motion[1..4], 1, 3), Some(16)),
        op!("kernel on one column", CircularBlur::new(dims(&[2, 8, 1]), &motion[1..4], 3, 1), Some(16)),
        op!("Hadamard", Hadamard::new(dims(&[3, 8, 4]), 9, 4), Some(27)),
        op!("Hadamard, all", Hadamard::new(dims(&[1, 4, 4]), 16, 4), Some(16)),
        op!("dense, wide", Dense::new(dims(&[2, 10]), dims(&[7]), &random(3, 140)), Some(7)),
        op!("dense, tall", Dense::new(dims(&[5]), dims(&[3, 4]), &random(4, 60)), Some(5)),
        op!("dense, low rank", Dense::new(dims(&[7]), dims(&[5]), &low_rank), Some(2)),
        op!(
            "callback",
            Ok::<_, crate::Error>(Callback::new(dims(&[6]), dims(&[5]), shift, unshift).with_pseudo_inverse(unshift)),
            None
        ),
    ]
}

#[test]
fn adjoints_are_adjoint() {
    for (name, op, _) in all() {
        let (n, m) = (op.input_dims().elements(), op.output_dims().elements());
        let (u, v) = (random(20, n), random(21, m));
        let (mut au, mut atv) = (vec![9.0; m], vec![9.0; n]);
        let mut scratch = vec![f32::NAN; op.scratch_len()];
        op.apply(&u, &mut au, &mut scratch).unwrap();
        op.adjoint(&v, &mut atv, &mut scratch).unwrap();
        let (left, right) = (sum(&au, &v), sum(&u, &atv));
        let scale = libm::sqrt(sum(&au, &au) * sum(&v, &v));
        assert!((left - right).abs() < 1e-6 * scale, "{name}: {left} and {right}");
    }
}

#[test]
fn pseudo_inverses_invert() {
    for (name, op, _) in all() {
        let (n, m) = (op.input_dims().elements(), op.output_dims().elements());
        let mut scratch = vec![f32::NAN; op.solve_scratch_len()];
        let (mut y, mut x, mut again) = (vec![9.0; m], vec![9.0; n], vec![9.0; m]);
        op.apply(&random(22, n), &mut y, &mut scratch).unwrap();
        op.pseudo_inverse(&y, &mut x, &mut scratch).unwrap();
        op.apply(&x, &mut again, &mut scratch).unwrap();
        assert!(difference(&again, &y) < 1e-5, "{name}: A A^+ A differs from A by {}", difference(&again, &y));
        // A^+ A A^+ = A^+.
        let mut twice = vec![9.0; n];
        op.pseudo_inverse(&again, &mut twice, &mut scratch).unwrap();
        assert!(difference(&twice, &x) < 2e-4, "{name}: A^+ A A^+ differs from A^+ by {}", difference(&twice, &x));
    }
}

#[test]
fn decompositions_are_those_of_the_operator() {
    for (name, op, rank) in all() {
        let Some(svd) = op.svd() else {
            assert_eq!(rank, None, "{name}");
            continue;
        };
        let (n, m) = (op.input_dims().elements(), op.output_dims().elements());
        let s = svd.singular_values();
        let k = s.len();
        assert_eq!(Some(s.iter().filter(|&&s| s > 0.0).count()), rank, "{name}");
        assert!(s.iter().all(|s| *s >= 0.0) && k <= m.min(n), "{name}");
        let mut scratch = vec![f32::NAN; op.scratch_len()];
        let x = random(23, n);
        let (mut y, mut z, mut usz) = (vec![9.0; m], vec![9.0; k], vec![9.0; m]);
        op.apply(&x, &mut y, &mut scratch).unwrap();
        svd.vt(&x, &mut z, &mut scratch).unwrap();
        z.iter_mut().zip(s).for_each(|(z, s)| *z *= s);
        svd.u(&z, &mut usz, &mut scratch).unwrap();
        assert!(difference(&usz, &y) < 2e-6, "{name}: U S V^T differs from A by {}", difference(&usz, &y));
        // Both bases are orthonormal, and the transposes are transposes.
        let c = random(24, k);
        let (mut vc, mut uc, mut back) = (vec![9.0; n], vec![9.0; m], vec![9.0; k]);
        svd.v(&c, &mut vc, &mut scratch).unwrap();
        svd.vt(&vc, &mut back, &mut scratch).unwrap();
        assert!(difference(&back, &c) < 2e-6, "{name}: V^T V by {}", difference(&back, &c));
        svd.u(&c, &mut uc, &mut scratch).unwrap();
        svd.ut(&uc, &mut back, &mut scratch).unwrap();
        assert!(difference(&back, &c) < 2e-6, "{name}: U^T U by {}", difference(&back, &c));
        if let Some(coordinates) = svd.coordinates() {
            let picked: Vec<f32> = (0..k).map(|i| vc[coordinates.get(i).unwrap()]).collect();
            assert_eq!(picked, c, "{name}: the columns of V are no unit vectors");
        }
        let (mut vtx, mut uty) = (vec![9.0; k], vec![9.0; k]);
        svd.vt(&x, &mut vtx, &mut scratch).unwrap();
        svd.ut(&y, &mut uty, &mut scratch).unwrap();
        let scale = libm::sqrt(sum(&x, &x) * sum(&c, &c));
        assert!((sum(&vtx, &c) - sum(&x, &vc)).abs() < 1e-6 * scale, "{name}: V^T is not the transpose of V");
        let scale = libm::sqrt(sum(&y, &y) * sum(&c, &c));
        assert!((sum(&uty, &c) - sum(&y, &uc)).abs() < 1e-6 * scale, "{name}: U^T is not the transpose of U");
    }
}

#[test]
fn solves_solve() {
    for (name, op, rank) in all() {
        if rank.is_none() {
            continue;
        }
        let (n, m) = (op.input_dims().elements(), op.output_dims().elements());
        let mut scratch = vec![f32::NAN; op.solve_scratch_len()];
        let r = random(25, m);
        for c in [0.01, 1.0, 30.0] {
            let (mut out, mut atr, mut aatr) = (vec![9.0; m], vec![9.0; n], vec![9.0; m]);
            op.solve(c, &r, &mut out, &mut scratch).unwrap();
            op.adjoint(&out, &mut atr, &mut scratch).unwrap();
            op.apply(&atr, &mut aatr, &mut scratch).unwrap();
            aatr.iter_mut().zip(&out).for_each(|(a, o)| *a += c as f32 * o);
            // What f32 leaves, times the condition of what is inverted.
            let largest = op.svd().unwrap().singular_values().iter().fold(0.0f32, |m, &s| m.max(s));
            let bound = 2e-6 * (1.0 + f64::from(largest * largest) / c);
            assert!(difference(&aatr, &r) < bound, "{name}, c = {c}: {}", difference(&aatr, &r));
        }
        for c in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let e = op.solve(c, &r, &mut vec![0.0; m], &mut scratch).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{name}, c = {c}");
        }
    }
}

#[test]
fn wrong_lengths_are_refused() {
    for (name, op, rank) in all() {
        let (n, m) = (op.input_dims().elements(), op.output_dims().elements());
        let k = op.svd().map_or(0, |s| s.singular_values().len());
        let x = vec![0.0; n.max(m) + 1];
        let shape = |r: Result<()>, what: &str| {
            assert_eq!(r.unwrap_err().kind(), ErrorKind::Shape, "{name}: {what}");
        };
        let mut to = x.clone();
        let mut scratch = vec![0.0; op.solve_scratch_len()];
        for (from, into, what) in
            [(n + 1, m, "long x"), (n - 1, m, "short x"), (n, m + 1, "long y"), (n, m - 1, "short y")]
        {
            shape(op.apply(&x[..from], &mut to[..into], &mut scratch), what);
            shape(op.adjoint(&x[..into], &mut to[..from], &mut scratch), what);
            shape(op.pseudo_inverse(&x[..into], &mut to[..from], &mut scratch), what);
        }
        let Some(svd) = op.svd() else { continue };
        assert!(rank.is_some());
        shape(op.solve(1.0, &x[..m + 1], &mut to[..m], &mut scratch), "long r");
        shape(op.solve(1.0, &x[..m], &mut to[..m - 1], &mut scratch), "short result");
        shape(op.solve(1.0, &x[..m], &mut to[..m], &mut scratch[1..]), "short scratch");
        shape(svd.vt(&x[..n + 1], &mut to[..k], &mut scratch), "long x to V^T");
        shape(svd.vt(&x[..n], &mut to[..k - 1], &mut scratch), "short z from V^T");
        shape(svd.v(&x[..k - 1], &mut to[..n], &mut scratch), "short z to V");
        shape(svd.v(&x[..k], &mut to[..n + 1], &mut scratch), "long x from V");
        shape(svd.ut(&x[..m + 1], &mut to[..k], &mut scratch), "long y to U^T");
        shape(svd.ut(&x[..m], &mut to[..k - 1], &mut scratch), "short w from U^T");
        shape(svd.u(&x[..k - 1], &mut to[..m], &mut scratch), "short w to U");
        shape(svd.u(&x[..k], &mut to[..m + 1], &mut scratch), "long y from U");
        if op.scratch_len() > 0 {
            shape(svd.vt(&x[..n], &mut to[..k], &mut scratch[..op.scratch_len() - 1]), "short scratch");
        }
    }
}

/// By cosines and by the matrix, also with taps beyond both ends.
#[test]
fn a_mirrored_blur_is_its_matrix() {
    for (w, len) in [(1, 3), (2, 5), (9, 5), (12, 31), (61, 13)] {
        let taps = gaussian_kernel(len, len as f64 / 4.0).unwrap();
        let matrix = super::kernel::convolution(&taps, w, Padding::Symmetric).unwrap();
        let op = SeparableBlur::new(dims(&[1, 3, w]), &[1.0], &taps, Padding::Symmetric).unwrap();
        let x = random(31, 3 * w);
        let mut y = vec![0.0; 3 * w];
        op.apply(&x, &mut y, &mut vec![0.0; op.scratch_len()]).unwrap();
        for (x, y) in x.chunks_exact(w).zip(y.chunks_exact(w)) {
            for (row, y) in matrix.data.chunks_exact(w).zip(y) {
                let expected: f64 = row.iter().zip(x).map(|(m, x)| m * f64::from(*x)).sum();
                assert!((f64::from(*y) - expected).abs() < 1e-6, "{w} {len}: {y}, expected {expected}");
            }
        }
    }
}

/// Sides of photographs, which no matrix is decomposed for: what `solve` gives solves, to f32's precision over c.
#[test]
fn photographs_are_small_enough() {
    let large = dims(&[1, 6, 4032]);
    let g = gaussian_kernel(9, 1.5).unwrap();
    let ops: [Box<dyn LinearOperator>; 2] = [
        Box::new(SeparableBlur::new(large, &g, &g, Padding::Symmetric).unwrap()),
        Box::new(BlockAverage::new(large, 3).unwrap()),
    ];
    for op in ops {
        let (m, c) = (op.output_dims().elements(), 0.01);
        let r = random(32, m);
        let (mut out, mut back, mut again) = (vec![0.0; m], vec![0.0; 6 * 4032], vec![0.0; m]);
        let mut scratch = vec![f32::NAN; op.solve_scratch_len()];
        op.solve(c, &r, &mut out, &mut scratch).unwrap();
        op.adjoint(&out, &mut back, &mut scratch).unwrap();
        op.apply(&back, &mut again, &mut scratch).unwrap();
        again.iter_mut().zip(&out).for_each(|(a, o)| *a += c as f32 * o);
        assert!(difference(&again, &r) < 1e-5, "{}: {}", op.name(), difference(&again, &r));
    }
}

#[test]
fn two_ways_to_one_circular_blur_agree() {
    let d = dims(&[2, 7, 10]);
    let (down, across) = ([0.1, 0.5, 0.3], [0.2, -0.1, 0.4, 0.3]);
    let full: Vec<f32> = down.iter().flat_map(|a| across.iter().map(move |b| a * b)).collect();
    let (one, other) =
        (SeparableBlur::new(d, &down, &across, Padding::Circular).unwrap(), CircularBlur::new(d, &full, 3, 4).unwrap());
    let x = random(30, 140);
    let (mut a, mut b) = (vec![0.0; 140], vec![0.0; 140]);
    one.apply(&x, &mut a, &mut vec![0.0; one.scratch_len()]).unwrap();
    other.apply(&x, &mut b, &mut []).unwrap();
    assert!(difference(&a, &b) < 1e-6);
    let sorted = |s: &[f32]| {
        let mut s = s.to_vec();
        s.sort_by(f32::total_cmp);
        s
    };
    assert!(difference(&sorted(one.singular_values()), &sorted(other.singular_values())) < 1e-6);
}

#[test]
fn an_impulse_shows_the_kernel() {
    let kernel = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let op = CircularBlur::new(dims(&[1, 4, 5]), &kernel, 2, 3).unwrap();
    let (mut x, mut y) = ([0.0; 20], [0.0; 20]);
    x[2 * 5 + 2] = 1.0;
    op.apply(&x, &mut y, &mut []).unwrap();
    // Centre of the kernel: row 1, column 1.
    assert_eq!(y[5..10], [0.0, 1.0, 2.0, 3.0, 0.0]);
    assert_eq!(y[10..15], [0.0, 4.0, 5.0, 6.0, 0.0]);
    assert!(CircularBlur::new(dims(&[1, 2, 5]), &kernel, 3, 2).is_err(), "larger than the image");
    assert!(CircularBlur::new(dims(&[1, 4, 5]), &kernel, 2, 2).is_err(), "another number of taps");
}
