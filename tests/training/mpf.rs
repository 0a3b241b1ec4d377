//! Minimum probability flow finds the couplings of a 50-unit Ising model from samples.

use undiffuse::noise::Stream;
use undiffuse::training::data::{Dataset, Ising};
use undiffuse::training::mpf::Mpf;

const UNITS: usize = 50;

/// Couplings of every pair of spins, normal of variance 1 / 50.
fn truth() -> Ising {
    let mut k = vec![0.0; UNITS * UNITS];
    let mut stream = Stream::new(81, 0, 0);
    for i in 0..UNITS {
        for j in 0..i {
            let value = stream.normal() / (UNITS as f64).sqrt();
            (k[i * UNITS + j], k[j * UNITS + i]) = (value, value);
        }
    }
    Ising::from_spins(UNITS, &k).unwrap()
}

fn relative_error(got: &Ising, want: &Ising) -> f64 {
    let square = |f: &dyn Fn(usize) -> f64| (0..UNITS * UNITS).map(|i| f(i).powi(2)).sum::<f64>();
    let (got, want) = (got.couplings(), want.couplings());
    (square(&|i| got[i] - want[i]) / square(&|i| want[i])).sqrt()
}

#[test]
fn the_couplings_of_fifty_units_are_found() {
    let truth = truth();
    let samples = truth.samples(82, 40_000, 60).unwrap();
    let mut last = f64::INFINITY;
    for (count, bound) in [(2_500, 0.4), (10_000, 0.18), (40_000, 0.09)] {
        let part = samples.values()[..count * UNITS].to_vec();
        let mpf = Mpf::new(&Dataset::new(samples.dims(), part).unwrap()).unwrap();
        let (model, report) = mpf.fit(Default::default()).unwrap();
        let error = relative_error(&model, &truth);
        println!("{count} samples: relative error {error:.4}, {} evaluations", report.evaluations);
        assert!(report.converged && error < bound && error < 0.6 * last, "{count} samples: {error}, {report:?}");
        last = error;
    }
}
