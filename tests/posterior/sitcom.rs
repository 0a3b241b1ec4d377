//! SITCOM of a Gaussian prior seen element by element, whose optimum at each level is known: an affine map of x_t.

use crate::affine::gaussian;
use crate::stopped::{finished, prior};
use undiffuse::ErrorKind;
use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::noise::{NoiseSource, Seeded};
use undiffuse::posterior::operator::{Identity, Mask};
use undiffuse::posterior::{Evidence, Measurement, Sitcom, SitcomOptions};
use undiffuse::sampler::{DdimNoise, Plan, Sampler, SamplerKind, SamplerOptions, SchedulerConfig, Steps};
use undiffuse::schedule::Arithmetic;
use undiffuse::tensor::Dims;

const Y: f64 = 0.8;
const S: f64 = 0.3;
const MEAN: f64 = 0.3;
const VARIANCE: f64 = 0.9;

fn config() -> SchedulerConfig {
    SchedulerConfig { clip_sample: false, ..SchedulerConfig::new(SamplerKind::Ddpm) }
}

fn sampler(levels: usize, gradient_steps: usize) -> Plan {
    let steps = Steps::Count(levels);
    let options = SamplerOptions { steps, arithmetic: Arithmetic::Float64, ..Default::default() };
    config().input_optimization(&options, gradient_steps).unwrap()
}

fn mask() -> Mask {
    Mask::new(Dims::new(&[1, 1, 2]).unwrap(), &[true, false]).unwrap()
}

/// f = a x_t + b at the optimum of a level, for an element that y sees or not: by the equations of the paper and the
/// levels of the sampler alone.
fn optimum(alpha: f64, sigma: f64, lambda: f64, seen: bool) -> (f64, f64) {
    let c = alpha * VARIANCE / (alpha * alpha * VARIANCE + sigma * sigma);
    let own = MEAN - c * alpha * MEAN;
    if !seen {
        return (c, own);
    }
    // (c v + own - y)^2 + lambda (x - v)^2 is least at v = (lambda x + c (y - own)) / (lambda + c^2).
    let whole = lambda + c * c;
    (c * lambda / whole, own + c * c * (Y - own) / whole)
}

/// Steps carried to their end, sample by sample with the noise of the chain.
#[test]
fn a_level_ends_in_its_optimum() {
    let (levels, gradient_steps, batch) = (20, 800, 4);
    let plan = sampler(levels, gradient_steps);
    for lambda in [1.0, 0.2] {
        let o = SitcomOptions { gradient_steps, rate: 0.03, lambda, stop: Some(0.0) };
        let evidence = Sitcom::new(Measurement::new(mask(), &[Y as f32], S).unwrap(), &o).unwrap();
        let prior = gaussian(&[MEAN; 2], &vec![vec![VARIANCE, 0.0], vec![0.0, VARIANCE]]);
        let options = ChainOptions { batch, first_sample: 0 };
        let mut chain = Chain::with_evidence(prior, &plan, Seeded::new(3), evidence, &options).unwrap();
        chain.run().unwrap();

        let mut noise = Seeded::new(3);
        let mut draw = |number: u64| {
            let mut out = vec![0.0f32; 2 * batch];
            noise.normal(0, number, 2, &mut out).unwrap();
            out.into_iter().map(f64::from).collect::<Vec<f64>>()
        };
        let mut x = draw(0);
        for (step, level) in plan.levels().iter().enumerate().filter(|(step, _)| plan.settles(*step)) {
            let (to, z) = (plan.target(step).unwrap(), draw(step as u64 + 1));
            for (i, x) in x.iter_mut().enumerate() {
                let (a, b) = optimum(level.alpha, level.sigma, lambda, i % 2 == 0);
                *x = to.alpha * (a * *x + b) + to.sigma * z[i];
            }
        }
        let off = chain.x().iter().zip(&x).map(|(g, w)| (f64::from(*g) - w).abs()).fold(0.0, f64::max);
        println!("lambda {lambda}: off by {off:.2e}");
        assert!(off < 1e-3, "{off}: {:?} {x:?}", chain.x());
    }
}

/// What the docs say of the variance, by the law of such a chain.
#[test]
fn its_variance_is_next_to_none_where_y_sees() {
    let plan = sampler(20, 1);
    let law = |seen: bool| {
        let (mut mean, mut variance) = (0.0, 1.0);
        for (step, level) in plan.levels().iter().enumerate().filter(|(step, _)| plan.settles(*step)) {
            let (a, b) = optimum(level.alpha, level.sigma, 1.0, seen);
            let to = plan.target(step).unwrap();
            mean = to.alpha * (a * mean + b);
            variance = to.alpha * to.alpha * a * a * variance + to.sigma * to.sigma;
        }
        (mean, variance)
    };
    let posterior = 1.0 / (1.0 / VARIANCE + 1.0 / (S * S));
    let ((mean, seen), (of_prior, unseen)) = (law(true), law(false));
    println!(
        "seen {mean:.3}, {:.3} of the posterior's; unseen {of_prior:.3}, {:.3}",
        seen / posterior,
        unseen / VARIANCE
    );
    assert!((mean - Y).abs() < 0.04 && (seen / posterior - 0.05).abs() < 0.01);
    assert!((of_prior - MEAN).abs() < 1e-3 && (unseen / VARIANCE - 0.41).abs() < 0.01);
}

fn run(batch: usize, first_sample: u64, stop: Option<usize>) -> Vec<f32> {
    let identity = Identity::new(Dims::new(&[1, 2, 2]).unwrap()).unwrap();
    let o = SitcomOptions { gradient_steps: 7, ..SitcomOptions::default() };
    let options = ChainOptions { batch, first_sample };
    let chain = || {
        let evidence = Sitcom::new(Measurement::new(&identity, &[0.2, -0.1, 0.3, 0.0], 0.2).unwrap(), &o).unwrap();
        let sampler = evidence.recommended().sampler(&config()).unwrap();
        Chain::with_evidence(prior(), sampler, Seeded::new(5), evidence, &options).unwrap()
    };
    finished(chain, stop)
}

#[test]
fn a_sample_depends_on_its_number_alone_wherever_it_was_saved() {
    let whole = run(3, 40, None);
    let alone: Vec<f32> = (40..43).flat_map(|i| run(1, i, None)).collect();
    assert_eq!(whole, alone);
    for stop in [1, 4, 8, 77] {
        assert_eq!(whole, run(3, 40, Some(stop)), "after {stop} steps");
    }
}

/// A level's steps end at delta: samples are as far from y as its noise is, where none would meet it exactly.
#[test]
fn steps_end_where_the_noise_of_y_is_met() {
    let misfit = |stop: Option<f64>| {
        let identity = Identity::new(Dims::new(&[1, 2, 2]).unwrap()).unwrap();
        let o = SitcomOptions { gradient_steps: 60, lambda: 0.0, stop, ..SitcomOptions::default() };
        let y = [0.7, 0.1, 0.5, 0.2];
        let evidence = Sitcom::new(Measurement::new(&identity, &y, 0.2).unwrap(), &o).unwrap();
        let options = ChainOptions { batch: 32, first_sample: 0 };
        let plan = sampler(20, 60);
        let mut chain = Chain::with_evidence(prior(), &plan, Seeded::new(5), evidence, &options).unwrap();
        chain.run().unwrap();
        let of = |x: &[f32]| (x.iter().zip(&y).map(|(x, y)| f64::from((x - y) * (x - y))).sum::<f64>() / 4.0).sqrt();
        chain.x().chunks(4).map(of).collect::<Vec<f64>>()
    };
    let (usual, to_the_end) = (misfit(None), misfit(Some(0.0)));
    println!("{usual:.3?} {to_the_end:.3?}");
    assert!(usual.iter().all(|m| *m < 0.201 + 1e-6) && usual.iter().any(|m| *m > 0.15));
    assert!(to_the_end.iter().all(|m| *m < 0.02));
}

#[test]
fn misfits_are_refused_by_what_would_fit() {
    let make = |o: &SitcomOptions| Sitcom::new(Measurement::new(mask(), &[0.8], S).unwrap(), o);
    let usual = SitcomOptions::default();
    for o in [
        SitcomOptions { gradient_steps: 0, ..usual },
        SitcomOptions { gradient_steps: 100_001, ..usual },
        SitcomOptions { rate: 0.0, ..usual },
        SitcomOptions { rate: f64::NAN, ..usual },
        SitcomOptions { lambda: -1.0, ..usual },
        SitcomOptions { lambda: f64::INFINITY, ..usual },
        SitcomOptions { stop: Some(-0.1), ..usual },
        SitcomOptions { stop: Some(f64::NAN), ..usual },
    ] {
        assert_eq!(make(&o).unwrap_err().kind(), ErrorKind::InvalidArgument, "{o:?}");
    }
    // Without noise in y it goes on to 0.001.
    assert!(Sitcom::new(Measurement::exact(mask(), &[0.8]).unwrap(), &usual).is_ok());
    // Each level once, and flows from it, have no calls for the steps.
    let steps = SamplerOptions {
        steps: Steps::Count(20),
        eta: 1.0,
        ddim_noise: DdimNoise::Level,
        sampler: Some(SamplerKind::Ddim),
        ..Default::default()
    };
    let samplers: [Box<dyn Sampler>; 2] =
        [Box::new(config().sampler(&steps).unwrap()), Box::new(config().decoupled_annealing(&steps, 3).unwrap())];
    for sampler in samplers {
        let prior = gaussian(&[MEAN; 2], &vec![vec![0.9, 0.0], vec![0.0, 0.5]]);
        let options = ChainOptions::default();
        let e = Chain::with_evidence(prior, sampler, Seeded::new(1), make(&usual).unwrap(), &options).err().unwrap();
        assert!(
            e.kind() == ErrorKind::Unsupported && e.message().contains("take the sampler that it recommends"),
            "{e}"
        );
    }
    let numbers: Vec<u64> = [usual, SitcomOptions { lambda: 0.5, ..usual }, SitcomOptions { stop: Some(0.5), ..usual }]
        .iter()
        .map(|o| make(o).unwrap().fingerprint())
        .collect();
    assert!(numbers[0] != numbers[1] && numbers[0] != numbers[2] && numbers[1] != numbers[2]);
}
