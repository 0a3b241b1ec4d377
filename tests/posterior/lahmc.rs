//! Look-ahead HMC leaves known densities as they are, and mixes faster per gradient than plain HMC on the rough well.

use undiffuse::noise::Stream;
use undiffuse::sampler::{Energy, LookAheadHmc, LookAheadOptions, Move, Particle};

/// Sum over dimensions of x^2 / (2 s1^2) + cos(2 pi x / s2).
struct RoughWell {
    s1: f64,
    s2: f64,
}

impl Energy for RoughWell {
    fn evaluate(&mut self, x: &[f64], gradient: &mut [f64]) -> undiffuse::Result<f64> {
        let k = std::f64::consts::TAU / self.s2;
        let mut e = 0.0;
        for (g, x) in gradient.iter_mut().zip(x) {
            *g = x / (self.s1 * self.s1) - k * (k * x).sin();
            e += 0.5 * (x / self.s1).powi(2) + (k * x).cos();
        }
        Ok(e)
    }
}

/// Exact draws of one coordinate, by the inverse of its distribution function on a grid.
struct Exact {
    low: f64,
    width: f64,
    cumulative: Vec<f64>,
}

impl Exact {
    fn new(well: &mut RoughWell) -> Self {
        let (cells, low) = (400_000, -9.0 * well.s1);
        let width = -2.0 * low / f64::from(cells);
        let mut sum = 0.0;
        let cumulative = (0..cells).map(|i| {
            let e = well.evaluate(&[low + (f64::from(i) + 0.5) * width], &mut [0.0]).unwrap();
            sum += (-e).exp();
            sum
        });
        Self { low, width, cumulative: cumulative.collect() }
    }

    fn draw(&self, u: f64) -> f64 {
        let target = u * self.cumulative.last().unwrap();
        let i = self.cumulative.partition_point(|&c| c < target);
        let before = if i == 0 { 0.0 } else { self.cumulative[i - 1] };
        self.low + (i as f64 + (target - before) / (self.cumulative[i] - before)) * self.width
    }

    /// The mean of f.
    fn mean(&self, f: impl Fn(f64) -> f64) -> f64 {
        let mut last = 0.0;
        let mut sum = 0.0;
        for (i, c) in self.cumulative.iter().enumerate() {
            sum += (c - last) * f(self.low + (i as f64 + 0.5) * self.width);
            last = *c;
        }
        sum / last
    }
}

/// Particles that start in the law, with their momenta.
fn start(energy: &mut dyn Energy, count: u64, n: usize, draw: &dyn Fn(&mut Stream) -> f64) -> Vec<Particle> {
    (0..count)
        .map(|i| {
            let mut s = Stream::new(71, i, 0);
            let x: Vec<f64> = (0..n).map(|_| draw(&mut s)).collect();
            let v: Vec<f64> = (0..n).map(|_| s.normal()).collect();
            Particle::new(energy, &x, &v).unwrap()
        })
        .collect()
}

/// How often each leap was taken, flips first.
fn run(sampler: &LookAheadHmc, energy: &mut dyn Energy, particles: &mut [Particle], updates: usize) -> Vec<usize> {
    let mut counts = vec![0; 5];
    for (i, p) in particles.iter_mut().enumerate() {
        for _ in 0..updates {
            match sampler.update(energy, p, 72, i as u64).unwrap() {
                Move::Leapt(a) => counts[a] += 1,
                Move::Flipped => counts[0] += 1,
            }
        }
    }
    counts
}

/// That the mean of f over independent particles is what it was, within four standard errors.
fn hold(what: &str, particles: &[Particle], exact: f64, f: impl Fn(&Particle) -> f64) {
    let n = particles.len() as f64;
    let values: Vec<f64> = particles.iter().map(f).collect();
    let mean = values.iter().sum::<f64>() / n;
    let error = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n / n).sqrt();
    assert!((mean - exact).abs() < 4.0 * error, "{what}: {mean} +- {error}, expected {exact}");
}

#[test]
fn a_gaussian_stays_a_gaussian() {
    // Steps so long that a fourth of the first leaps is refused.
    let mut energy = |x: &[f64], g: &mut [f64]| {
        g.copy_from_slice(&[x[0], x[1] * 4.0, x[2] * 0.04]);
        0.5 * (x[0] * g[0] + x[1] * g[1] + x[2] * g[2])
    };
    for leaps in [1, 4] {
        let options = LookAheadOptions { step: 0.9, steps: 3, leaps, corruption: 0.3 };
        let sampler = LookAheadHmc::new(options).unwrap();
        let mut particles: Vec<Particle> = (0..20_000)
            .map(|i| {
                let mut s = Stream::new(70, i, 0);
                let x = [s.normal(), s.normal() / 2.0, s.normal() * 5.0];
                Particle::new(&mut energy, &x, &[s.normal(), s.normal(), s.normal()]).unwrap()
            })
            .collect();
        let counts = run(&sampler, &mut energy, &mut particles, 7);
        println!("{leaps} leaps: {counts:?}");
        assert!(counts[0] > 1000 && (leaps == 1 || counts[2..].iter().all(|&c| c > 100)), "{counts:?}");
        for (i, variance) in [1.0, 0.25, 25.0].into_iter().enumerate() {
            hold("mean", &particles, 0.0, |p| p.x()[i]);
            hold("variance", &particles, variance, |p| p.x()[i].powi(2));
            hold("fourth moment", &particles, 3.0 * variance * variance, |p| p.x()[i].powi(4));
            hold("momentum", &particles, 1.0, |p| p.momentum()[i].powi(2));
            hold("mean of x v", &particles, 0.0, |p| p.x()[i] * p.momentum()[i]);
        }
        hold("covariance", &particles, 0.0, |p| p.x()[0] * p.x()[1]);
    }
}

#[test]
fn the_rough_well_stays_as_it_is() {
    let mut well = RoughWell { s1: 10.0, s2: 4.0 };
    let exact = Exact::new(&mut well);
    for leaps in [1, 4] {
        let options = LookAheadOptions { step: 1.1, steps: 4, leaps, ..Default::default() };
        let sampler = LookAheadHmc::new(options).unwrap();
        let mut particles = start(&mut well, 20_000, 1, &|s| exact.draw(s.uniform()));
        let counts = run(&sampler, &mut well, &mut particles, 9);
        println!("{leaps} leaps: {counts:?}");
        assert!(counts[0] > 1000, "{counts:?}");
        let cos = |x: f64| (std::f64::consts::FRAC_PI_2 * x).cos();
        hold("mean", &particles, 0.0, |p| p.x()[0]);
        hold("variance", &particles, exact.mean(|x| x * x), |p| p.x()[0].powi(2));
        hold("cosine", &particles, exact.mean(cos), |p| cos(p.x()[0]));
        hold("squared cosine", &particles, exact.mean(|x| cos(x) * cos(x)), |p| cos(p.x()[0]).powi(2));
        hold("momentum", &particles, 1.0, |p| p.momentum()[0].powi(2));
    }
}

/// The autocorrelation of x at multiples of `every` gradient evaluations.
fn autocorrelation(leaps: usize, every: f64, points: usize) -> (Vec<f64>, Vec<usize>) {
    let mut well = RoughWell { s1: 100.0, s2: 4.0 };
    let exact = Exact::new(&mut well);
    let options = LookAheadOptions { step: 1.0, steps: 10, leaps, corruption: 0.2 };
    let sampler = LookAheadHmc::new(options).unwrap();
    let mut particles = start(&mut well, 300, 2, &|s| exact.draw(s.uniform()));
    let updates = 2000;
    let mut paths = vec![];
    let mut counts = vec![0; 5];
    for (i, p) in particles.iter_mut().enumerate() {
        let mut path = vec![];
        for _ in 0..updates {
            path.push([p.x()[0], p.x()[1]]);
            match sampler.update(&mut well, p, 73, i as u64).unwrap() {
                Move::Leapt(a) => counts[a] += 1,
                Move::Flipped => counts[0] += 1,
            }
        }
        paths.push(path);
    }
    let gradients: u64 = particles.iter().map(Particle::gradients).sum();
    let per_update = gradients as f64 / (updates * particles.len()) as f64;
    let variance = exact.mean(|x| x * x);
    let at = |lag: usize| {
        let (mut sum, mut n) = (0.0, 0.0);
        for path in &paths {
            for (a, b) in path.iter().zip(&path[lag..]) {
                sum += a[0] * b[0] + a[1] * b[1];
                n += 2.0;
            }
        }
        sum / n / variance
    };
    ((0..points).map(|k| at((k as f64 * every / per_update).round() as usize)).collect(), counts)
}

#[test]
fn the_rough_well_mixes_faster_per_gradient() {
    let (plain, moved) = autocorrelation(1, 500.0, 9);
    let (look, leapt) = autocorrelation(4, 500.0, 9);
    println!("flips and leaps: HMC {moved:?}, look-ahead {leapt:?}");
    println!("| gradients | HMC | look-ahead |");
    for (k, (a, b)) in plain.iter().zip(&look).enumerate() {
        println!("| {} | {a:.2} | {b:.2} |", 500 * k);
    }
    // The rates at which the correlation decays over 3000 evaluations.
    let rate = |a: &[f64]| (a[0] / a[6]).ln();
    let ratio = rate(&look) / rate(&plain);
    println!("{ratio:.2} times the rate");
    assert!(ratio > 3.0, "look-ahead HMC forgets {ratio} times as fast as HMC, expected more than 3 times");
}
