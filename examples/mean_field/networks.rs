//! Wide random networks, to see what the theory says of them.

use undiffuse::noise::Stream;
use undiffuse::training::mean_field::MeanField;

/// Units of a layer.
pub const WIDTH: usize = 1000;
/// Triples of inputs that one network sees.
const TRIPLES: usize = 16;
/// x, y and a second y of each triple; then the same x a little longer.
const KINDS: usize = 4;
const LANES: usize = KINDS * TRIPLES;

/// How the inputs of a triple lie.
#[derive(Clone, Copy)]
pub struct Inputs {
    /// The variance of their entries, and that of the longer x.
    pub q: [f64; 2],
    /// The correlation of x with the two y.
    pub c: [f64; 2],
}

/// Means over networks and triples after a layer.
#[derive(Clone, Copy, Default)]
pub struct Seen {
    /// As [`Inputs`] has them.
    pub q: [f64; 2],
    /// Likewise.
    pub c: [f64; 2],
}

/// What `count` networks make of inputs, layer by layer, the inputs first. Each network is seen apart, so that the
/// spread of anything can be told.
pub fn run(field: &MeanField, inputs: Inputs, layers: usize, count: usize, seed: u64) -> Vec<Vec<Seen>> {
    let workers = std::thread::available_parallelism().map_or(1, |n| n.get());
    let mut seen: Vec<Vec<Seen>> = vec![Vec::new(); count];
    std::thread::scope(|scope| {
        for (worker, part) in seen.chunks_mut(count.div_ceil(workers)).enumerate() {
            scope.spawn(move || {
                for (i, seen) in part.iter_mut().enumerate() {
                    *seen = one(field, inputs, layers, seed, (worker * count.div_ceil(workers) + i) as u64);
                }
            });
        }
    });
    seen
}

fn one(field: &MeanField, inputs: Inputs, layers: usize, seed: u64, network: u64) -> Vec<Seen> {
    let mut stream = Stream::new(seed, network, 0);
    // Unit by unit, so that a row of weights meets a unit of all inputs at once.
    let mut x = vec![[0.0; LANES]; WIDTH];
    for triple in 0..TRIPLES {
        let [a, b] = [0; 2].map(|_| (0..WIDTH).map(|_| stream.normal()).collect::<Vec<f64>>());
        let (a, b) = apart(a, b);
        let (long, short) = (inputs.q[1].sqrt(), inputs.q[0].sqrt());
        for (unit, (a, b)) in x.iter_mut().zip(a.iter().zip(&b)) {
            let at = |c: f64| (short * (c * a + (1.0 - c * c).max(0.0).sqrt() * b)) as f32;
            unit[KINDS * triple..][..KINDS].copy_from_slice(&[
                (short * a) as f32,
                at(inputs.c[0]),
                at(inputs.c[1]),
                (long * a) as f32,
            ]);
        }
    }
    let mut seen = vec![measure(&x)];
    let (w, b) = (field.sigma_w() / (WIDTH as f64).sqrt(), field.sigma_b());
    for _ in 0..layers {
        x.iter_mut().flatten().for_each(|v| *v = phi(field, *v));
        let mut next = vec![[0.0; LANES]; WIDTH];
        for unit in &mut next {
            *unit = [(b * stream.normal()) as f32; LANES];
            for x in &x {
                let weight = (w * stream.normal()) as f32;
                unit.iter_mut().zip(x).for_each(|(to, x)| *to += weight * x);
            }
        }
        x = next;
        seen.push(measure(&x));
    }
    seen
}

fn phi(field: &MeanField, x: f32) -> f32 {
    use undiffuse::training::mean_field::Nonlinearity::{Erf, LeakyRelu, Tanh};
    match field.nonlinearity() {
        Tanh => x.tanh(),
        Erf => libm::erff(x),
        LeakyRelu { slope } => x.max(slope as f32 * x),
        other => unreachable!("{other} has no network here"),
    }
}

/// Two vectors of mean square 1 at right angles.
fn apart(mut a: Vec<f64>, mut b: Vec<f64>) -> (Vec<f64>, Vec<f64>) {
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>() / WIDTH as f64;
    let norm = dot(&a, &a).sqrt();
    a.iter_mut().for_each(|v| *v /= norm);
    let along = dot(&a, &b);
    b.iter_mut().zip(&a).for_each(|(b, a)| *b -= along * a);
    let norm = dot(&b, &b).sqrt();
    b.iter_mut().for_each(|v| *v /= norm);
    (a, b)
}

fn measure(x: &[[f32; LANES]]) -> Seen {
    let mut sums = Seen::default();
    for triple in 0..TRIPLES {
        let of = |i: usize, k: usize| {
            let at = |unit: &[f32; LANES], kind: usize| f64::from(unit[KINDS * triple + kind]);
            x.iter().map(|unit| at(unit, i) * at(unit, k)).sum::<f64>() / WIDTH as f64
        };
        let q = [of(0, 0), of(3, 3)];
        let c = [1, 2].map(|k| of(0, k) / (q[0] * of(k, k)).sqrt());
        for i in 0..2 {
            sums.q[i] += q[i] / TRIPLES as f64;
            sums.c[i] += c[i] / TRIPLES as f64;
        }
    }
    sums
}
