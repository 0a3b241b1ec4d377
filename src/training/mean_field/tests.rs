use alloc::vec::Vec;
use core::f64::consts::PI;

use super::*;
use crate::noise::Stream;

const LEAKY: Nonlinearity = Nonlinearity::LeakyRelu { slope: 0.05 };
const RELU: Nonlinearity = Nonlinearity::LeakyRelu { slope: 0.0 };

fn phi(kind: Nonlinearity, x: f64) -> f64 {
    match kind {
        Nonlinearity::Tanh => libm::tanh(x),
        Nonlinearity::Erf => libm::erf(x),
        Nonlinearity::LeakyRelu { slope } => x.max(slope * x),
    }
}

/// E[f(z)] by midpoints 1e-3 apart.
fn mean(f: impl Fn(f64) -> f64) -> f64 {
    let h = 1e-3;
    let at = |i: i32| h * (f64::from(i) + 0.5);
    (-9000..9000).map(|i| f(at(i)) * (-0.5 * at(i) * at(i)).exp()).sum::<f64>() * h / (2.0 * PI).sqrt()
}

/// Nodes and weights of Gauss and Hermite for the standard normal density: the roots of the orthonormal polynomial,
/// and one over the sum of the squares of those before it.
fn gauss_hermite(n: usize) -> Vec<(f64, f64)> {
    let value = |x: f64| {
        let (mut p, mut before, mut sum) = (1.0, 0.0, 0.0);
        for k in 1..=n {
            sum += p * p;
            let next = (x * p - ((k - 1) as f64).sqrt() * before) / (k as f64).sqrt();
            (before, p) = (p, next);
        }
        (p, 1.0 / sum)
    };
    let end = 2.0 * (n as f64).sqrt() + 1.0;
    let steps = 400 * n;
    let at = |i: usize| end * (2.0 * (i as f64 + 0.5) / steps as f64 - 1.0);
    let root = |i: usize| {
        let (low, high) = (value(at(i)).0, value(at(i + 1)).0);
        (low * high < 0.0)
            .then(|| bisect(at(i) + 2.0 * end, at(i + 1) + 2.0 * end, |x| value(x - 2.0 * end).0 * low > 0.0))
    };
    let roots = (0..steps - 1).filter_map(root).map(|x| x - 2.0 * end);
    roots.map(|x| (x, value(x).1)).collect()
}

#[test]
fn means_are_integrals() {
    for kind in [Nonlinearity::Tanh, Nonlinearity::Erf, LEAKY, RELU] {
        for q in [1e-3, 0.1, 0.3, 0.6, 1.0, 9.0, 100.0] {
            let m = kind.means(q);
            let of = |q: f64| mean(|z| phi(kind, q.sqrt() * z).powi(2));
            // Midpoints meet the kink of ReLU's square at its second derivative.
            let bound = if matches!(kind, Nonlinearity::LeakyRelu { .. }) { 1e-7 * q } else { 1e-10 };
            assert!((m.square - of(q)).abs() < bound, "{kind} {q}: {} {}", m.square, of(q));
            let h = 1e-4 * q;
            let slope = (of(q + h) - of(q - h)) / (2.0 * h);
            assert!((m.square_slope - slope).abs() < 1e-6 * slope, "{kind} {q}: {} {slope}", m.square_slope);
            let of_slopes = |x: f64| match kind {
                Nonlinearity::LeakyRelu { slope } if x < 0.0 => slope * slope,
                Nonlinearity::LeakyRelu { .. } => 1.0,
                Nonlinearity::Tanh => x.cosh().powi(-4),
                Nonlinearity::Erf => 4.0 / PI * (-2.0 * x * x).exp(),
            };
            let slopes = mean(|z| of_slopes(q.sqrt() * z));
            assert!((m.slopes - slopes).abs() < 1e-10, "{kind} {q}: {} {slopes}", m.slopes);
            // Two inputs that are the same are one, and Price's theorem: d E[phi phi] / dc = q E[phi' phi'].
            assert!((kind.product(q, 1.0) - m.square).abs() < 1e-10 * (1.0 + q));
            assert!((kind.slope_product(q, 1.0) - m.slopes).abs() < 1e-10);
            for c in [-0.7, 0.0, 0.5, 0.9] {
                let h = 1e-4;
                let difference = (kind.product(q, c + h) - kind.product(q, c - h)) / (2.0 * h);
                let slope = q * kind.slope_product(q, c);
                assert!((difference - slope).abs() < 1e-6 * (1.0 + q), "{kind} {q} {c}: {difference} {slope}");
            }
        }
    }
}

#[test]
fn the_grid_has_the_arcsine_kernel_of_erf_and_beats_gauss_and_hermite() {
    for (q, c) in [(0.2, 0.6), (1.0, -0.3), (4.0, 0.95), (30.0, 0.5)] {
        let (want, got) = (Nonlinearity::Erf.product(q, c), means::pairs(q, c, libm::erf));
        assert!((want - got).abs() < 1e-10, "{q} {c}: {want} {got}");
    }
    let nodes = gauss_hermite(100);
    assert_eq!(nodes.len(), 100);
    assert!((nodes.iter().map(|(x, w)| w * x.powi(4)).sum::<f64>() - 3.0).abs() < 1e-9);
    let theirs = |q: f64| nodes.iter().map(|(x, w)| w * (q.sqrt() * x).tanh().powi(2)).sum::<f64>();
    let off = |q: f64| (theirs(q) - Nonlinearity::Tanh.means(q).square).abs();
    assert!(off(0.3) < 1e-10, "{}", off(0.3));
    // Not because the grid fails there: `means_are_integrals` holds it to 1e-10.
    assert!(off(25.0) > 1e-6, "{}", off(25.0));
}

#[test]
fn values_are_those_of_the_papers() {
    // Without biases: chaos from sigma_w = 1 on for tanh, sqrt(pi) / 2 for erf, sqrt(2) for ReLU (He et al. 2015).
    for (kind, edge) in [(Nonlinearity::Tanh, 1.0), (Nonlinearity::Erf, PI.sqrt() / 2.0), (RELU, 2.0f64.sqrt())] {
        let field = MeanField::critical(kind, 0.0).unwrap();
        assert!((field.sigma_w() - edge).abs() < 1e-12, "{kind}");
        assert!((field.chi_1() - 1.0).abs() < 1e-12 && field.xi_c() == f64::INFINITY);
        assert!(MeanField::new(kind, 0.98 * edge, 0.0).unwrap().chi_1() < 1.0);
        assert!(MeanField::new(kind, 1.02 * edge, 0.0).unwrap().chi_1() > 1.0);
    }
    for sigma_w in [0.5, 1.0, 3.0] {
        let field = MeanField::new(RELU, sigma_w, 0.3).unwrap();
        assert!((field.chi_1() - sigma_w * sigma_w / 2.0).abs() < 1e-12);
    }
    // Schoenholz et al. 2017: with sigma_b^2 = 0.05 tanh has its edge at sigma_w^2 = 1.76.
    let field = MeanField::critical(Nonlinearity::Tanh, 0.05f64.sqrt()).unwrap();
    assert!((field.sigma_w().powi(2) - 1.76).abs() < 0.005, "{}", field.sigma_w().powi(2));
    // Small biases: q* = (3 sigma_b^2 / 4)^(1/3) and sigma_w^2 = 1 + 2 q*, by the series of tanh.
    let field = MeanField::critical(Nonlinearity::Tanh, 1e-4).unwrap();
    let q = (0.75e-8f64).cbrt();
    assert!((field.q_star() / q - 1.0).abs() < 0.01 && (field.w - 1.0 - 2.0 * q).abs() < 0.02 * q, "{field:?}");
    // Poole et al. 2016, figure 2: sigma_b = 0.3 is ordered at sigma_w = 1.3, chaotic at 2.5 and 4.
    let of = |sigma_w| MeanField::new(Nonlinearity::Tanh, sigma_w, 0.3).unwrap();
    assert!(of(1.3).chi_1() < 1.0 && of(1.3).c_star() == 1.0);
    assert!(of(2.5).chi_1() > 1.0 && of(4.0).c_star() < of(2.5).c_star() && of(2.5).c_star() < 1.0);
    // An odd phi without biases takes any two inputs to right angles.
    assert!(MeanField::new(Nonlinearity::Erf, 3.0, 0.0).unwrap().c_star() < 1e-12);
}

#[test]
fn fixed_points_are_reached_as_fast_as_the_depth_scales_say() {
    for (kind, w, b) in [
        (Nonlinearity::Tanh, 1.3, 0.3),
        (Nonlinearity::Tanh, 2.5, 0.3),
        (Nonlinearity::Erf, 0.8, 0.5),
        (Nonlinearity::Erf, 2.0, 0.1),
        (LEAKY, 1.0, 0.4),
        (RELU, 1.2, 1.0),
    ] {
        let field = MeanField::new(kind, w, b).unwrap();
        let (q, c) = (field.q_star(), field.c_star());
        assert!((field.q_map(q) - q).abs() < 1e-10 * q && (field.c_map(c) - c).abs() < 1e-8, "{field:?}");
        let rate = (field.q_map(q * 1.0001) - q) / (q * 0.0001);
        assert!((-1.0 / rate.ln() / field.xi_q() - 1.0).abs() < 1e-3, "{field:?}: {rate}");
        let rate = (c - field.c_map(c - 1e-5)) / 1e-5;
        // At 1 the c-map of ReLU has a root as its next term.
        let bound = if matches!(kind, Nonlinearity::LeakyRelu { .. }) { 0.02 } else { 1e-3 };
        assert!((-1.0 / rate.ln() / field.xi_c() - 1.0).abs() < bound, "{field:?}: {rate}");
        assert!((field.chi(1.0) - field.chi_1()).abs() < 1e-10);
    }
    // Leaky ReLU without biases: signals fade, stay or grow.
    let of = |w| MeanField::new(LEAKY, w, 0.0).unwrap().q_star();
    let edge = MeanField::critical(LEAKY, 0.0).unwrap();
    assert_eq!([of(1.0), of(edge.sigma_w()), of(2.0)], [0.0, 1.0, f64::INFINITY]);
    assert!((edge.c_map(0.3) - MeanField::new(LEAKY, 2.0, 0.0).unwrap().c_map(0.3)).abs() < 1e-12);
    assert!(MeanField::new(LEAKY, 2.0, 1.0).unwrap().c_map(0.5).is_finite());
}

/// Wide random networks have these variances and correlations, within what chance and a finite width leave.
#[test]
fn random_networks_follow_the_maps() {
    const N: usize = 300;
    const NETWORKS: u64 = 64;
    const LAYERS: usize = 4;
    for (kind, w, b) in [(Nonlinearity::Tanh, 2.5, 0.3), (Nonlinearity::Erf, 1.0, 0.2), (LEAKY, 1.3, 0.5)] {
        let field = MeanField::new(kind, w, b).unwrap();
        let (q, c) = (field.q_star(), 0.4);
        let mut seen = [[0.0; NETWORKS as usize]; 2];
        for net in 0..NETWORKS {
            let mut stream = Stream::new(31, net, 0);
            let mut draw = |n: usize| (0..n).map(|_| stream.normal()).collect::<Vec<f64>>();
            // Two inputs whose variance is q* and whose correlation is c, not only in the mean.
            let (mut x, mut y) = (draw(N), draw(N));
            let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>() / N as f64;
            let norm = dot(&x, &x).sqrt();
            x.iter_mut().for_each(|x| *x /= norm);
            let along = dot(&x, &y);
            y.iter_mut().zip(&x).for_each(|(y, x)| *y -= along * x);
            let norm = dot(&y, &y).sqrt();
            y.iter_mut().zip(&x).for_each(|(y, x)| *y = c * x + (1.0 - c * c).sqrt() * *y / norm);
            [&mut x, &mut y].into_iter().flatten().for_each(|v| *v *= q.sqrt());
            for _ in 0..LAYERS {
                let (weights, biases) = (draw(N * N), draw(N));
                let layer = |x: &[f64]| -> Vec<f64> {
                    let h: Vec<f64> = x.iter().map(|&x| phi(kind, x)).collect();
                    let rows = weights.chunks_exact(N).zip(&biases);
                    rows.map(|(row, z)| w * dot(row, &h) * (N as f64).sqrt() + b * z).collect()
                };
                (x, y) = (layer(&x), layer(&y));
            }
            seen[0][net as usize] = dot(&x, &x);
            seen[1][net as usize] = dot(&x, &y) / (dot(&x, &x) * dot(&y, &y)).sqrt();
        }
        let want = [q, (0..LAYERS).fold(c, |c, _| field.c_map(c))];
        for (seen, (want, unit)) in seen.iter().zip([(want[0], q), (want[1], 1.0)]) {
            let mean = seen.iter().sum::<f64>() / NETWORKS as f64;
            let spread = seen.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / (NETWORKS as f64 - 1.0);
            let error = (spread / NETWORKS as f64).sqrt();
            std::println!("{kind} {w} {b}: {mean:.4} +- {error:.4}, theory {want:.4}");
            // A finite width moves the means by some 1 / N for each layer.
            assert!((mean - want).abs() < 4.0 * error + 0.01 * unit, "{field:?}: {mean} +- {error}, {want}");
            assert!(error < 0.03 * unit);
        }
    }
}

#[test]
fn nonsense_is_refused() {
    for (w, b) in [(0.0, 0.0), (-1.0, 0.0), (f64::NAN, 0.0), (11.0, 0.0), (1.0, -0.1), (1.0, f64::INFINITY)] {
        assert!(MeanField::new(Nonlinearity::Tanh, w, b).is_err(), "{w} {b}");
    }
    for slope in [-0.1, 1.0, f64::NAN] {
        assert!(MeanField::new(Nonlinearity::LeakyRelu { slope }, 1.0, 0.0).is_err());
    }
    assert!(MeanField::critical(Nonlinearity::Tanh, 20.0).is_err() && MeanField::critical(LEAKY, 0.1).is_err());
    assert_eq!(Nonlinearity::of(Activation::Silu), None);
    assert_eq!(Nonlinearity::of(Activation::LeakyRelu { slope: 0.05 }), Some(LEAKY));
}
