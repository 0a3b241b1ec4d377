//! The chain of classes against exact enumeration: what it draws, with evidence, and its bound.

use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::denoiser::{ClassSequences, Denoiser};
use undiffuse::evaluate::{BoundOptions, Edges, bound};
use undiffuse::noise::Seeded;
use undiffuse::posterior::{
    At, CalibratedClasses, ClassProduct, ClassSchedule, Evidence, IndependentClasses, Jacobian, Kernel, NoEvidence,
};
use undiffuse::process::Categorical;
use undiffuse::sampler::{ClassPrediction, D3pm, Sampler, classes_of};
use undiffuse::schedule::{Arithmetic, Betas, NoiseSchedule};
use undiffuse::tensor::Dims;
use undiffuse::{Cancel, ErrorKind, Result};

/// Three classes of data, and with a mask a fourth.
const DATA: usize = 3;
const POSITIONS: usize = 3;

fn processes() -> [Categorical; 2] {
    [Categorical::uniform(DATA).unwrap(), Categorical::absorbing(DATA + 1, DATA).unwrap()]
}

fn sampler(process: Categorical, steps: usize) -> D3pm {
    let schedule = NoiseSchedule::new(&Betas::erasing_evenly(steps).unwrap(), Arithmetic::Float64).unwrap();
    let timesteps: Vec<u32> = (0..steps as u32).rev().collect();
    D3pm::new(&schedule, &timesteps, process, ClassPrediction::Clean, false).unwrap()
}

fn dims(process: &Categorical) -> Dims {
    Dims::new(&[POSITIONS, process.classes()]).unwrap()
}

/// All sequences of `count` classes at three positions.
fn states(count: usize) -> Vec<[u32; POSITIONS]> {
    let digit = |s: usize, i: u32| (s / count.pow(i) % count) as u32;
    (0..count.pow(POSITIONS as u32)).map(|s| [digit(s, 0), digit(s, 1), digit(s, 2)]).collect()
}

/// Positions that are independent of each other.
fn independent() -> Vec<f64> {
    let p = [[0.5, 0.3, 0.2], [0.1, 0.1, 0.8], [0.25, 0.6, 0.15]];
    states(DATA).iter().map(|s| s.iter().zip(p).map(|(k, p)| p[*k as usize]).product()).collect()
}

/// Neighbours like to be alike.
fn correlated() -> Vec<f64> {
    let weight = |s: &[u32; 3]| {
        let alike = s.windows(2).filter(|w| w[0] == w[1]).count() as f64;
        (1.2 * alike + 0.3 * f64::from(s[0])).exp()
    };
    normalised(states(DATA).iter().map(weight).collect())
}

fn normalised(mut p: Vec<f64>) -> Vec<f64> {
    let total: f64 = p.iter().sum();
    p.iter_mut().for_each(|p| *p /= total);
    p
}

fn prior(p: &[f64], process: Categorical) -> ClassSequences {
    ClassSequences::new(dims(&process), &states(DATA).concat(), p, process).unwrap()
}

fn total_variation(a: &[f64], b: &[f64]) -> f64 {
    0.5 * a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f64>()
}

/// Keeps the probabilities that evidence left for each class.
struct Capture<E> {
    inner: E,
    probabilities: Vec<f32>,
}

impl<E: Evidence> Evidence for Capture<E> {
    fn name(&self) -> &str {
        self.inner.name()
    }
    fn check(&self, dims: Dims, sampler: &dyn Sampler) -> Result<()> {
        self.inner.check(dims, sampler)
    }
    fn scratch_len(&self, dims: Dims, batch: usize) -> usize {
        self.inner.scratch_len(dims, batch)
    }
    fn estimate(
        &mut self,
        at: &At,
        x: &[f32],
        x0: &mut [f32],
        eps: &mut [f32],
        jacobian: &mut dyn Jacobian,
        scratch: &mut [f32],
    ) -> Result<()> {
        self.inner.estimate(at, x, x0, eps, jacobian, scratch)
    }
    fn kernel(&mut self, at: &At, x: &[f32], kernel: Kernel<'_>, scratch: &mut [f32]) -> Result<()> {
        let Kernel { mean, noise, spread, stds, std_stride } = kernel;
        self.inner.kernel(at, x, Kernel { mean: &mut *mean, noise, spread, stds, std_stride }, scratch)?;
        self.probabilities = mean.to_vec();
        Ok(())
    }
    fn fingerprint(&self) -> u64 {
        0
    }
}

/// The exact distribution of the chain's result over the data's sequences, by carrying that of x_T through every
/// kernel.
fn distribution(p: &[f64], process: Categorical, steps: usize, evidence: impl Evidence) -> Vec<f64> {
    let count = process.classes();
    let all = states(count);
    let one_hot: Vec<f32> =
        all.iter().flatten().flat_map(|k| (0..count).map(move |i| f32::from(u8::from(i == *k as usize)))).collect();
    let options = ChainOptions { batch: all.len(), first_sample: 0 };
    let capture = Capture { inner: evidence, probabilities: Vec::new() };
    let mut chain =
        Chain::with_evidence(prior(p, process), sampler(process, steps), Seeded::new(0), capture, &options).unwrap();
    let mut now: Vec<f64> = all.iter().map(|s| s.iter().map(|k| process.stationary(*k as usize)).product()).collect();
    for step in 0..steps {
        // What cannot be reached has no prediction: a state that can takes its place, with no weight.
        let reached = now.iter().position(|p| *p > 0.0).unwrap();
        let width = POSITIONS * count;
        let of = |(s, p): (usize, &f64)| &one_hot[if *p > 0.0 { s } else { reached } * width..][..width];
        let x = now.iter().enumerate().map(of).collect::<Vec<_>>().concat();
        chain.start_from(step, &x, 0).unwrap();
        chain.step().unwrap();
        let mut next = vec![0.0; all.len()];
        for (weight, row) in now.iter().zip(chain.evidence().probabilities.chunks_exact(width)) {
            if *weight > 0.0 {
                for (next, s) in next.iter_mut().zip(&all) {
                    let of = |(i, k): (usize, &u32)| f64::from(row[i * count + *k as usize]);
                    *next += weight * s.iter().enumerate().map(of).product::<f64>();
                }
            }
        }
        now = next;
    }
    let left: f64 = all.iter().zip(&now).filter(|(s, _)| s.contains(&(DATA as u32))).map(|(_, p)| p).sum();
    assert!(left < 1e-9, "{left} of the samples have a mask");
    let data = |(s, p): (&[u32; 3], &f64)| s.iter().all(|k| (*k as usize) < DATA).then_some(*p);
    all.iter().zip(&now).filter_map(data).collect()
}

#[test]
fn the_reverse_chain_of_an_exact_denoiser_ends_in_the_data() {
    for process in processes() {
        // Independent positions: exactly, in however many steps.
        for steps in [2, 7, 40] {
            let tv = total_variation(&distribution(&independent(), process, steps, NoEvidence), &independent());
            println!("{process:?}, {steps} steps, independent: {tv:.2e}");
            assert!(tv < 1e-5, "{process:?}, {steps} steps: {tv}");
        }
        // Others in the limit of small steps, in which no two positions change at once.
        let off = [50, 100, 200].map(|steps| {
            let tv = total_variation(&distribution(&correlated(), process, steps, NoEvidence), &correlated());
            println!("{process:?}, {steps} steps, correlated: {tv:.2e}");
            tv
        });
        assert!(off[2] < 0.003 && off[0] > 1.8 * off[1] && off[1] > 1.8 * off[2], "{process:?}: {off:?}");
    }
}

/// What is seen: position 0 is class 2 or, half as likely, 0; position 2 is not class 1.
fn seen(process: &Categorical) -> Vec<f32> {
    let rows = [[0.5, 0.0, 1.0], [1.0; 3], [1.0, 0.0, 1.0]];
    let rest = process.classes() - DATA;
    rows.iter().flat_map(|r| r.iter().copied().chain(std::iter::repeat_n(1.0, rest))).collect()
}

fn posterior(p: &[f64], process: &Categorical) -> Vec<f64> {
    let (r, count) = (seen(process), process.classes());
    let weight =
        |s: &[u32; 3]| s.iter().enumerate().map(|(i, k)| f64::from(r[i * count + *k as usize])).product::<f64>();
    normalised(states(DATA).iter().zip(p).map(|(s, p)| p * weight(s)).collect())
}

#[test]
fn evidence_leads_to_the_posterior() {
    for process in processes() {
        let classes =
            || IndependentClasses::new(process.classes(), &seen(&process), ClassSchedule::White(process)).unwrap();
        let want = posterior(&independent(), &process);
        let tv = total_variation(&distribution(&independent(), process, 9, CalibratedClasses::new(classes())), &want);
        println!("{process:?}, calibrated, independent: {tv:.2e}");
        assert!(tv < 1e-5, "{process:?}: {tv}");
        // The product is calibrated to a white prior, and exact for one.
        let white = vec![1.0 / 27.0; 27];
        let want = posterior(&white, &process);
        let tv = total_variation(&distribution(&white, process, 9, ClassProduct::new(classes())), &want);
        println!("{process:?}, product, white: {tv:.2e}");
        assert!(tv < 1e-5, "{process:?}: {tv}");
        // For others the page says what to expect: nearer than without.
        let want = posterior(&correlated(), &process);
        let without = total_variation(&distribution(&correlated(), process, 60, NoEvidence), &want);
        for (name, tv) in [
            (
                "calibrated",
                total_variation(&distribution(&correlated(), process, 60, CalibratedClasses::new(classes())), &want),
            ),
            (
                "product",
                total_variation(&distribution(&correlated(), process, 60, ClassProduct::new(classes())), &want),
            ),
        ] {
            println!("{process:?}, {name}, correlated: {tv:.3}, without evidence {without:.3}");
            assert!(tv < 0.5 * without, "{name}: {tv}");
        }
    }
}

#[test]
fn evidence_of_another_space_is_refused() {
    let process = Categorical::uniform(DATA).unwrap();
    let white = || ClassSchedule::White(process);
    let classes = IndependentClasses::new(DATA, &seen(&process), white()).unwrap();
    let bits = undiffuse::posterior::IndependentBits::new(
        &[0.5; 9],
        undiffuse::posterior::BitSchedule::White(undiffuse::process::Binomial::new(0.5).unwrap()),
    )
    .unwrap();
    let options = ChainOptions::default();
    let make = || prior(&correlated(), process);
    let bits = undiffuse::posterior::BitProduct::new(bits);
    let e = Chain::with_evidence(make(), sampler(process, 5), Seeded::new(0), bits, &options).err().unwrap();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
    let ddim = undiffuse::sampler::SchedulerConfig::new(undiffuse::sampler::SamplerKind::Ddim);
    let ddim = ddim.sampler(&Default::default()).unwrap();
    let e = Chain::with_evidence(make(), ddim, Seeded::new(0), ClassProduct::new(classes), &options).err().unwrap();
    assert!(e.kind() == ErrorKind::Unsupported && e.message().contains("d3pm"), "{e}");
    for (weights, kind) in [
        (vec![0.5; 8], ErrorKind::Shape),
        (vec![0.0; 9], ErrorKind::InvalidArgument),
        (vec![-1.0; 9], ErrorKind::InvalidArgument),
        (vec![f32::NAN; 9], ErrorKind::InvalidArgument),
    ] {
        assert_eq!(IndependentClasses::new(DATA, &weights, white()).unwrap_err().kind(), kind);
    }
    let new = |rows: &[u32]| ClassSequences::new(dims(&process), rows, &[1.0], process).unwrap_err().kind();
    assert_eq!((new(&[0, 1]), new(&[0, 1, 3])), (ErrorKind::Shape, ErrorKind::InvalidArgument));
}

#[test]
fn a_chain_of_classes_is_saved_and_sharded_like_any_other() {
    for process in processes() {
        let s = sampler(process, 30);
        let make = |batch, first_sample| {
            let options = ChainOptions { batch, first_sample };
            Chain::new(prior(&correlated(), process), &s, Seeded::new(9), &options).unwrap()
        };
        let run = |batch, first_sample| {
            let mut c = make(batch, first_sample);
            c.run().unwrap();
            c.x().to_vec()
        };
        let want = run(3, 5);
        assert_eq!(want, [run(1, 5), run(2, 6)].concat());
        let mut c = make(3, 5);
        for _ in 0..11 {
            c.step().unwrap();
        }
        let mut d = make(3, 5);
        d.restore(&c.save().unwrap()).unwrap();
        d.run().unwrap();
        assert_eq!(d.x(), want);
        // What is drawn is what was enumerated.
        let options = ChainOptions { batch: 4000, first_sample: 0 };
        let mut c = Chain::new(prior(&correlated(), process), &s, Seeded::new(1), &options).unwrap();
        c.run().unwrap();
        let drawn: Vec<usize> = classes_of(c.x(), process.classes()).collect();
        let mut counts = vec![0.0; 27];
        drawn.chunks_exact(3).for_each(|s| counts[s[0] + 3 * s[1] + 9 * s[2]] += 1.0 / 4000.0);
        let tv = total_variation(&counts, &distribution(&correlated(), process, 30, NoEvidence));
        println!("{process:?}: 4000 samples differ by {tv:.3}");
        assert!(tv < 0.045, "{tv}");
    }
}

/// The bound of one position in exact sums: sum over t and x_t of q(x_t | x_0) KL(q(x_s | x_t, x_0) || p(x_s | x_t)),
/// the last the loss of x_0.
fn enumerated(process: &Categorical, p: &[f64; DATA], steps: usize, x0: usize) -> f64 {
    let count = process.classes();
    let abar = |i: usize| (steps - i) as f64 / steps as f64;
    let data = |k: usize| p.get(k).copied().unwrap_or(0.0);
    let mut k = 0.0;
    for i in 1..=steps {
        for x_t in 0..count {
            let reach = process.marginal(abar(i), x0, x_t);
            if reach == 0.0 {
                continue;
            }
            let total: f64 = (0..count).map(|c| data(c) * process.marginal(abar(i), c, x_t)).sum();
            let posterior: Vec<f64> = (0..count).map(|c| data(c) * process.marginal(abar(i), c, x_t) / total).collect();
            for x_s in 0..count {
                // Bayes over all x_0 by hand, not by the closed form.
                let step = |c: usize| {
                    let sum: f64 = (0..count)
                        .map(|s| process.marginal(abar(i - 1), c, s) * process.forward(abar(i) / abar(i - 1), s, x_t))
                        .sum();
                    let both = process.marginal(abar(i - 1), c, x_s) * process.forward(abar(i) / abar(i - 1), x_s, x_t);
                    if sum > 0.0 { both / sum } else { 0.0 }
                };
                let model: f64 = (0..count).map(|c| posterior[c] * step(c)).sum();
                let q = step(x0);
                if q > 0.0 {
                    k -= reach * q * (q / model).ln();
                }
            }
        }
    }
    // KL(q(x_T | x_0) || pi) is 0, since abar_T is.
    k
}

#[test]
fn the_bound_is_the_enumerated_one() {
    let p = [0.5, 0.3, 0.2];
    for process in processes() {
        let count = process.classes();
        let steps = 6;
        let dims = Dims::new(&[1, count]).unwrap();
        let mut denoiser = ClassSequences::new(dims, &[0, 1, 2], &p, process).unwrap();
        let options = BoundOptions { draws: 20_000, edges: Edges::Network, batch: 1000, ..Default::default() };
        let mut expected = 0.0;
        for (x0, weight) in p.iter().enumerate() {
            let data: Vec<f32> = (0..count).map(|k| f32::from(u8::from(k == x0))).collect();
            let s = sampler(process, steps);
            let found = bound(&mut denoiser, &s, &mut Seeded::new(4), &data, &options, &Cancel::new()).unwrap();
            let want = enumerated(&process, &p, steps, x0);
            println!("{process:?}, class {x0}: {:.4} +- {:.4}, enumerated {want:.4}", found.k, found.monte_carlo_error);
            assert!((found.k - want).abs() < 4.0 * found.monte_carlo_error + 1e-5, "{} and {want}", found.k);
            // One position: the exact denoiser's bound is tight, and log p is that of the data.
            assert!(want <= weight.ln() + 1e-9);
            assert_eq!(found.dims, 1);
            for s in &found.steps {
                assert!(s.lower <= s.upper + 1e-12);
            }
            expected += weight * want;
        }
        // With one position the reverse chain is exact, so the mean gap is the divergence of paths alone: none.
        let entropy: f64 = p.iter().map(|p| p * p.ln()).sum();
        println!("{process:?}: mean bound {expected:.4}, minus the entropy {entropy:.4}");
        assert!(expected <= entropy + 1e-9 && expected > entropy - 1e-6, "{expected} and {entropy}");
        // Another end, or one that is not reached.
        let data: Vec<f32> = (0..count).map(|k| f32::from(u8::from(k == 0))).collect();
        let s = sampler(process, steps);
        let e = bound(&mut denoiser, &s, &mut Seeded::new(4), &data, &BoundOptions::default(), &Cancel::new());
        assert_eq!(e.unwrap_err().kind(), ErrorKind::Unsupported);
        let e = bound(&mut denoiser, &s, &mut Seeded::new(4), &vec![0.5; count], &options, &Cancel::new());
        assert_eq!(e.unwrap_err().kind(), ErrorKind::InvalidArgument);
        assert!(denoiser.fingerprint() != 0);
    }
    let process = processes()[1];
    let schedule = NoiseSchedule::new(&Betas::cosine(20).unwrap(), Arithmetic::Float64).unwrap();
    let s = D3pm::new(&schedule, &[19, 10, 0], process, ClassPrediction::Clean, false).unwrap();
    let mut denoiser = ClassSequences::new(Dims::new(&[1, 4]).unwrap(), &[0, 1, 2], &p, process).unwrap();
    let options = BoundOptions { edges: Edges::Network, ..Default::default() };
    let e = bound(&mut denoiser, &s, &mut Seeded::new(4), &[1.0, 0.0, 0.0, 0.0], &options, &Cancel::new()).unwrap_err();
    assert!(e.message().contains("minus infinity"), "{e}");
}
