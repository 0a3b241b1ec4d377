//! The published methods on Gaussian priors with their exact denoiser: mean and covariance without sampling error,
//! against the closed-form posterior where a method is exact, and against what its page claims where it is not; and
//! what is refused.

use crate::affine::{Matrix, errors, gaussian, identity, posterior, result, whole};
use crate::pcg;
use undiffuse::ErrorKind;
use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::denoiser::FnDenoiser;
use undiffuse::noise::Seeded;
use undiffuse::posterior::operator::{Callback, Dense, Identity, LinearOperator, Mask};
use undiffuse::posterior::{
    At, Classifier, ClassifierRule, Daps, DapsOptions, Ddnm, Ddrm, DiffPir, Dps, Evidence, KnownPixels, Mcg,
    Measurement, Misfit, Pigdm, PigdmRule, Tmpd,
};
use undiffuse::sampler::{
    DdimNoise, Jumps, Sampler, SamplerKind, SamplerOptions, SchedulerConfig, Steps, VarianceType,
};
use undiffuse::schedule::Arithmetic;
use undiffuse::tensor::Dims;

fn config(kind: SamplerKind) -> SchedulerConfig {
    SchedulerConfig { clip_sample: false, variance_type: VarianceType::FixedSmall, ..SchedulerConfig::new(kind) }
}

fn options(steps: usize, eta: f64, ddim_noise: DdimNoise) -> SamplerOptions {
    SamplerOptions {
        steps: Steps::Count(steps),
        eta,
        ddim_noise,
        arithmetic: Arithmetic::Float64,
        ..Default::default()
    }
}

fn ddpm(steps: usize) -> Box<dyn Sampler + Send + Sync> {
    config(SamplerKind::Ddpm).sampler(&options(steps, 0.0, DdimNoise::Posterior)).unwrap()
}

fn ddim(steps: usize, eta: f64, noise: DdimNoise) -> Box<dyn Sampler + Send + Sync> {
    config(SamplerKind::Ddim).sampler(&options(steps, eta, noise)).unwrap()
}

fn dims(n: usize) -> Dims {
    Dims::new(&[1, 1, n]).unwrap()
}

fn correlated(n: usize) -> (Vec<f64>, Matrix) {
    let cov = |i: usize, j: usize| 0.6 * (-(i as f64 - j as f64).abs() / 2.5).exp() + if i == j { 0.05 } else { 0.0 };
    let mean = (0..n).map(|i| 0.4 * (i as f64).sin()).collect();
    (mean, (0..n).map(|i| (0..n).map(|j| cov(i, j)).collect()).collect())
}

fn mask(n: usize) -> Mask {
    Mask::new(dims(n), &(0..n).map(|i| i % 2 == 0).collect::<Vec<_>>()).unwrap()
}

fn dense(n: usize) -> Dense {
    let m = n / 2 + 1;
    let entries: Vec<f32> = (0..m * n).map(|i| ((i * i + 3 * i) as f32 * 0.7).sin()).collect();
    Dense::new(dims(n), Dims::new(&[m]).unwrap(), &entries).unwrap()
}

fn y(m: usize) -> Vec<f32> {
    (0..m).map(|i| 0.8 - 0.5 * i as f32 / m as f32).collect()
}

#[test]
fn what_is_exact_reaches_the_posterior() {
    // A posterior much narrower than the prior shows the chain's own discretisation: 2.6 % at a noise of 0.3.
    let n = 4;
    let white = (vec![0.0; n], identity(n));
    let independent = {
        let cov = (0..n).map(|i| (0..n).map(|j| if i == j { 0.2 + 0.3 * i as f64 } else { 0.0 }).collect()).collect();
        (vec![0.3, -0.2, 0.1, 0.5], cov)
    };
    let within = |name: &str, got: &(Vec<f64>, Matrix), want: &(Vec<f64>, Matrix)| {
        let (mean, cov) = errors(got, want);
        println!("| {name} | {:.2} % | {:.2} % |", 100.0 * mean, 100.0 * cov);
        assert!(mean < 0.02 && cov < 0.02, "{name}: {mean} {cov}");
    };
    let operators: [Box<dyn LinearOperator>; 3] =
        [Box::new(Identity::new(dims(n)).unwrap()), Box::new(mask(n)), Box::new(dense(n))];
    for op in &operators {
        let seen = || Measurement::new(&**op, &y(op.output_dims().elements()), 0.5).unwrap();
        let want = posterior(&white.0, &white.1, &**op, seen().values(0).unwrap(), 0.5);
        for (name, sampler) in [("DDPM", ddpm(1000)), ("DDIM", ddim(1000, 0.0, DdimNoise::Posterior))] {
            let score = Pigdm::new(seen(), PigdmRule::Score).unwrap();
            let got = result(gaussian(&white.0, &white.1), &*sampler, score);
            within(&format!("PiGDM, score, white prior, {}, {name}", op.name()), &got, &want);
        }
    }
    for (name, sampler) in [("DDPM", ddpm(1000)), ("DDIM", ddim(1000, 0.0, DdimNoise::Posterior))] {
        let op = mask(n);
        let want = posterior(&independent.0, &independent.1, &op, &y(2), 0.5);
        let tmpd = Tmpd::new(Measurement::new(op, &y(2), 0.5).unwrap()).unwrap();
        let got = result(gaussian(&independent.0, &independent.1), &*sampler, tmpd);
        within(&format!("TMPD, independent prior, mask, {name}"), &got, &want);
    }
    // A classifier that knows p(c | x_t): for a white prior it is N(y; alpha x_t, sigma^2 + s^2).
    let want = posterior(&white.0, &white.1, &operators[0], &y(n), 0.5);
    for rule in [ClassifierRule::Score, ClassifierRule::Mean] {
        let exact = Classifier::new("exact", 1.0, rule, |at: &At, x: &[f32], out: &mut [f32]| {
            let (a, v) = (at.level.alpha, at.level.sigma * at.level.sigma + 0.25);
            for (x, out) in x.chunks_exact(n).zip(out.chunks_exact_mut(n)) {
                for ((x, out), y) in x.iter().zip(out).zip(y(n)) {
                    *out = (a * (f64::from(y) - a * f64::from(*x)) / v) as f32;
                }
            }
            Ok(())
        });
        let got = result(gaussian(&white.0, &white.1), &*ddpm(1000), exact.unwrap());
        within(&format!("classifier, {rule:?}"), &got, &want);
    }
}

/// Name, sampler, evidence.
type Method<'a> = (&'a str, Box<dyn Sampler + Send + Sync>, Box<dyn Evidence + 'a>);

/// Correlated priors, where none of these is exact: the table of their bias.
#[test]
fn biases_are_what_the_pages_say() {
    let n = 8;
    let (m, s) = correlated(n);
    let run = |sampler: &dyn Sampler, evidence: &mut dyn Evidence| result(gaussian(&m, &s), sampler, evidence);
    println!("| problem | method | calls | mean | covariance |\n|---|---|---|---|---|");
    let operators: [(&str, Box<dyn LinearOperator>, f64); 3] = [
        ("denoising", Box::new(Identity::new(dims(n)).unwrap()), 0.5),
        ("inpainting", Box::new(mask(n)), 0.1),
        ("dense", Box::new(dense(n)), 0.3),
    ];
    for (problem, op, noise) in &operators {
        let k = op.output_dims().elements();
        let seen = || Measurement::new(&**op, &y(k), *noise).unwrap();
        let want = posterior(&m, &s, &**op, &y(k), *noise);
        let prior = errors(&(m.clone(), s.clone()), &want);
        let line = |method: &str, calls: usize, got: &(Vec<f64>, Matrix)| {
            let (mean, cov) = errors(got, &want);
            println!("| {problem} | {method} | {calls} | {:.1} % | {:.1} % |", 100.0 * mean, 100.0 * cov);
            (mean, cov)
        };
        line("none (the prior)", 1000, &(m.clone(), s.clone()));
        let level = |steps: usize, eta: f64| ddim(steps, eta, DdimNoise::Level);
        let mut methods: Vec<Method<'_>> = vec![
            ("DDRM", level(20, 0.85), Box::new(Ddrm::new(seen(), 1.0).unwrap())),
            ("DDRM", level(1000, 0.85), Box::new(Ddrm::new(seen(), 1.0).unwrap())),
            ("DDNM+, DDPM", ddpm(1000), Box::new(Ddrm::ddnm_plus(seen()).unwrap())),
            ("DiffPIR, zeta 1", level(100, 1.0), Box::new(DiffPir::new(seen(), 1.0).unwrap())),
            ("DiffPIR, zeta 0.25", level(100, 0.5), Box::new(DiffPir::new(seen(), 1.0).unwrap())),
            ("DiffPIR, DDPM", ddpm(1000), Box::new(DiffPir::new(seen(), 1.0).unwrap())),
            (
                "PiGDM, published",
                ddim(100, 1.0, DdimNoise::Posterior),
                Box::new(Pigdm::new(seen(), PigdmRule::Published).unwrap()),
            ),
            ("PiGDM, score", ddpm(1000), Box::new(Pigdm::new(seen(), PigdmRule::Score).unwrap())),
            ("TMPD", ddpm(1000), Box::new(Tmpd::new(seen()).unwrap())),
        ];
        for (method, sampler, evidence) in &mut methods {
            let got = run(&**sampler, &mut **evidence);
            let (mean, _) = line(method, sampler.levels().len(), &got);
            assert!(mean < 0.5 * prior.0, "{problem}, {method}: {mean}, the prior is off by {}", prior.0);
        }
        // Its loop within a step has draws that `result` does not tell apart.
        let plan = config(SamplerKind::Ddpm).decoupled_annealing(&options(50, 0.0, DdimNoise::Posterior), 4).unwrap();
        let langevin = DapsOptions { langevin_steps: 20, ..DapsOptions::default() };
        let mut daps = Daps::new(seen(), &langevin).unwrap();
        let got = whole(|_| gaussian(&m, &s), &plan, &mut daps).unwrap();
        let (mean, _) = line("DAPS", plan.levels().len(), &got);
        assert!(mean < 0.5 * prior.0, "{problem}, DAPS: {mean}, the prior is off by {}", prior.0);
    }
}

#[test]
fn exact_measurements_are_met_and_jumps_make_parts_agree() {
    let n = 4;
    let (m, s) = correlated(n);
    let op = mask(n);
    let want = posterior(&m, &s, &op, &y(2), 1e-4);
    let exact = || Measurement::exact(op.clone(), &y(2)).unwrap();
    let met = |name: &str, got: &(Vec<f64>, Matrix)| {
        for (&i, y) in op.known().iter().zip(y(2)) {
            assert!((got.0[i] - f64::from(y)).abs() < 1e-5 && got.1[i][i].abs() < 1e-9, "{name}: {got:?}");
        }
        let (mean, cov) = errors(got, &want);
        println!("| inpainting without noise | {name} | {:.1} % | {:.1} % |", 100.0 * mean, 100.0 * cov);
        mean
    };
    let ddnm = result(gaussian(&m, &s), &*ddim(100, 0.85, DdimNoise::Level), Ddnm::new(exact()).unwrap());
    met("DDNM", &ddnm);
    let ancestral = result(gaussian(&m, &s), &*ddpm(250), KnownPixels::new(exact()).unwrap());
    let once = met("RePaint without jumps", &ancestral);
    let jumps = config(SamplerKind::Ddpm)
        .repaint(&options(250, 0.0, DdimNoise::Posterior), Jumps { length: 10, resamplings: 10 })
        .unwrap();
    assert_eq!(jumps.levels().len(), 2410);
    let often = met("RePaint", &result(gaussian(&m, &s), &jumps, KnownPixels::new(exact()).unwrap()));
    assert!(often < 0.5 * once, "{often} against {once}");
    // MCG's step is not affine, but what it leaves of the known part is.
    let prior = gaussian(&m, &s);
    let options = ChainOptions { batch: 3, first_sample: 0 };
    let mcg = Mcg::new(exact(), 0.3).unwrap();
    let mut chain = Chain::with_evidence(prior, ddpm(100), Seeded::new(1), mcg, &options).unwrap();
    chain.run().unwrap();
    for x in chain.x().chunks_exact(n) {
        op.known().iter().zip(y(2)).for_each(|(&i, y)| assert!((x[i] - y).abs() < 1e-5, "{x:?}"));
    }
}

#[test]
fn dps_follows_the_gradient_of_the_misfit() {
    let n = 4;
    let (m, s) = correlated(n);
    let sampler = ddpm(10);
    let seen = || Measurement::new(dense(n), &y(3), 0.1).unwrap();
    let start: Vec<f32> = (0..n).map(|i| (i as f32 * 1.3).cos()).collect();
    for (step, misfit) in [0, 5, 9].into_iter().flat_map(|s| [(s, Misfit::Gaussian), (s, Misfit::Laplace)]) {
        let next = |evidence: &mut dyn Evidence, x: &[f32]| {
            let options = ChainOptions::default();
            let mut chain =
                Chain::with_evidence(gaussian(&m, &s), &sampler, Seeded::new(4), evidence, &options).unwrap();
            chain.start_from(step, x, 0).unwrap();
            chain.step().unwrap();
            (chain.x().to_vec(), chain.x0().to_vec())
        };
        let zeta = 0.2;
        let (with, _) = next(&mut Dps::new(seen(), zeta, misfit).unwrap(), &start);
        let (without, _) = next(&mut undiffuse::posterior::NoEvidence, &start);
        let norm = |x: &[f32]| {
            let (_, x0) = next(&mut undiffuse::posterior::NoEvidence, x);
            let (mut r, mut scratch) = (vec![0.0; 3], vec![0.0; seen().operator().scratch_len()]);
            seen().residual(0, &x0, &mut r, &mut scratch).unwrap();
            match misfit {
                Misfit::Laplace => r.iter().map(|r| f64::from(r.abs())).sum::<f64>() / 3f64.sqrt(),
                _ => r.iter().map(|r| f64::from(r * r)).sum::<f64>().sqrt(),
            }
        };
        for i in 0..n {
            let h = 0.05;
            let (mut up, mut down) = (start.clone(), start.clone());
            up[i] += h;
            down[i] -= h;
            let slope = (norm(&up) - norm(&down)) / f64::from(up[i] - down[i]);
            let got = f64::from(without[i] - with[i]) / zeta;
            assert!((got - slope).abs() < 2e-3 * slope.abs().max(0.1), "step {step}, {i}: {got} and {slope}");
        }
    }
}

/// Laplace noise, and three values of 64 that say nothing: of the misfit of that noise the mean is the nearer one,
/// whatever zeta.
#[test]
fn values_that_are_far_off_weigh_little_in_the_misfit_of_laplace_noise() {
    let n = 64;
    let row = |i: usize| (0..n).map(|j| 0.25 * 0.9f64.powi(i.abs_diff(j) as i32)).collect::<Vec<f64>>();
    let (m, s): (_, Matrix) = (vec![0.0; n], (0..n).map(row).collect());
    let truth: Vec<f32> = (0..n).map(|i| 0.6 * (i as f32 * 0.15).sin()).collect();
    let mut y = truth.clone();
    for (i, (y, u)) in y.iter_mut().zip(pcg::uniform(71, 0, n, 1.0)).enumerate() {
        *y += if i % 24 == 7 { 3.0 } else { -0.05 * u.signum() * (1.0 - u.abs()).max(1e-6).ln() };
    }
    let error = |misfit, zeta| {
        let identity = Identity::new(dims(n)).unwrap();
        let evidence = Dps::new(Measurement::new(identity, &y, 0.07).unwrap(), zeta, misfit).unwrap();
        let options = ChainOptions { batch: 64, first_sample: 0 };
        let mut chain = Chain::with_evidence(gaussian(&m, &s), ddpm(100), Seeded::new(4), evidence, &options).unwrap();
        chain.run().unwrap();
        let mean = |i: usize| chain.x().chunks(n).map(|x| x[i]).sum::<f32>() / 64.0;
        ((0..n).map(|i| (mean(i) - truth[i]).powi(2)).sum::<f32>() / n as f32).sqrt()
    };
    for zeta in [0.3, 1.0, 3.0] {
        let (gaussian, laplace) = (error(Misfit::Gaussian, zeta), error(Misfit::Laplace, zeta));
        println!("zeta {zeta}: off by {gaussian:.3} with the Gaussian misfit, {laplace:.3} with that of Laplace noise");
        assert!(laplace < gaussian, "{zeta}: {laplace} {gaussian}");
    }
}

fn copied(from: &[f32], to: &mut [f32]) -> undiffuse::Result<()> {
    to.copy_from_slice(from);
    Ok(())
}

#[test]
fn misfits_of_method_operator_and_sampler_are_named() {
    let n = 4;
    let noisy = || Measurement::new(dense(n), &y(3), 0.1).unwrap();
    let copy = || Callback::new(dims(n), dims(n), copied, copied);
    let free = || Measurement::new(copy(), &y(n), 0.1).unwrap();
    let exact_free = || Measurement::exact(copy(), &y(n)).unwrap();
    for (kind, e) in [
        (ErrorKind::InvalidArgument, Ddnm::new(noisy()).err()),
        (ErrorKind::InvalidArgument, Mcg::new(noisy(), 0.3).err()),
        (ErrorKind::InvalidArgument, KnownPixels::new(Measurement::new(mask(n), &y(2), 0.1).unwrap()).err()),
        (ErrorKind::InvalidArgument, Tmpd::new(exact_free()).err()),
        (ErrorKind::InvalidArgument, Ddrm::ddnm_plus(Measurement::exact(dense(n), &y(3)).unwrap()).err()),
        (ErrorKind::InvalidArgument, Ddrm::new(noisy(), 1.5).err()),
        (ErrorKind::InvalidArgument, DiffPir::new(noisy(), 0.0).err()),
        (ErrorKind::InvalidArgument, DiffPir::new(noisy(), f64::NAN).err()),
        (ErrorKind::InvalidArgument, Dps::new(noisy(), -1.0, Misfit::Gaussian).err()),
        (
            ErrorKind::InvalidArgument,
            Dps::new(Measurement::exact(mask(n), &[0.5, 0.0]).unwrap(), 1.0, Misfit::Poisson).err(),
        ),
        (ErrorKind::Unsupported, Ddnm::new(exact_free()).err()),
        (ErrorKind::Unsupported, Mcg::new(exact_free(), 0.3).err()),
        (ErrorKind::Unsupported, Ddrm::new(free(), 1.0).err()),
        (ErrorKind::Unsupported, DiffPir::new(free(), 1.0).err()),
        (ErrorKind::Unsupported, DiffPir::new(exact_free(), 1.0).err()),
        (ErrorKind::Unsupported, Pigdm::new(free(), PigdmRule::Score).err()),
    ] {
        let e = e.expect("refused");
        assert_eq!(e.kind(), kind, "{e}");
    }

    let (m, s) = correlated(n);
    let options = ChainOptions::default();
    let refused = |sampler: &dyn Sampler, evidence: &mut dyn Evidence, size: usize| {
        let (m, s) = if size == n { (m.clone(), s.clone()) } else { correlated(size) };
        Chain::with_evidence(gaussian(&m, &s), sampler, Seeded::new(0), evidence, &options).err().expect("refused")
    };
    // DDRM draws noise of its own size: DDIM without noise and too wide a variance cannot give it.
    let wide = SchedulerConfig { variance_type: VarianceType::FixedLarge, ..config(SamplerKind::Ddpm) };
    let wide = wide.sampler(&SamplerOptions { steps: Steps::Count(10), ..Default::default() }).unwrap();
    let ddrm = || Ddrm::new(noisy(), 1.0).unwrap();
    for sampler in [&ddim(10, 0.0, DdimNoise::Level), &wide] {
        let e = refused(&**sampler, &mut ddrm(), n);
        assert!(e.kind() == ErrorKind::Unsupported && e.message().contains("DDRM"), "{e}");
    }
    let mut nothing =
        Classifier::new("c", 1.0, ClassifierRule::Mean, |_: &At, _: &[f32], _: &mut [f32]| Ok(())).unwrap();
    let e = refused(&*ddim(10, 0.0, DdimNoise::Posterior), &mut nothing, n);
    assert_eq!(e.kind(), ErrorKind::Unsupported, "{e}");
    let mut methods: Vec<Box<dyn Evidence>> = vec![
        Box::new(ddrm()),
        Box::new(DiffPir::new(noisy(), 1.0).unwrap()),
        Box::new(Dps::new(noisy(), 1.0, Misfit::Gaussian).unwrap()),
        Box::new(Pigdm::new(noisy(), PigdmRule::Score).unwrap()),
        Box::new(Tmpd::new(noisy()).unwrap()),
        Box::new(Ddnm::new(Measurement::exact(dense(n), &y(3)).unwrap()).unwrap()),
        Box::new(Mcg::new(Measurement::exact(dense(n), &y(3)).unwrap(), 1.0).unwrap()),
        Box::new(KnownPixels::new(Measurement::exact(mask(n), &y(2)).unwrap()).unwrap()),
    ];
    for evidence in &mut methods {
        let e = refused(&*ddpm(10), evidence, n + 1);
        assert!(e.kind() == ErrorKind::Shape && e.message().contains("shape"), "{e}");
        // Those that need derivatives say so to a denoiser without.
        let plain = FnDenoiser::new("plain", dims(n), |_: &_, _: &[f32], _: &mut [f32]| Ok(()));
        let chain = Chain::with_evidence(plain, ddpm(10), Seeded::new(0), &mut *evidence, &options);
        let e = chain.err().map(|e| e.kind());
        assert_eq!(e, evidence.needs_vjp().then_some(ErrorKind::Unsupported), "{}", evidence.name());
    }
}

#[test]
fn a_failing_classifier_stops_the_step_and_no_more() {
    let n = 2;
    let (m, s) = correlated(n);
    let mut calls = 0;
    let flaky = Classifier::new("flaky", 1.0, ClassifierRule::Score, |_: &At, _: &[f32], out: &mut [f32]| {
        calls += 1;
        out.fill(if calls == 2 { f32::NAN } else { 0.1 });
        Ok(())
    });
    let options = ChainOptions::default();
    let mut chain = Chain::with_evidence(gaussian(&m, &s), ddpm(5), Seeded::new(0), flaky.unwrap(), &options).unwrap();
    chain.step().unwrap();
    let before = chain.x().to_vec();
    let e = chain.step().unwrap_err();
    assert!(e.kind() == ErrorKind::NonFinite && e.message().contains("flaky"), "{e}");
    assert_eq!((chain.position(), chain.x()), (1, &before[..]));
    chain.run().unwrap();
}
