//! The binomial chain of 2015 against exact enumeration, with and without evidence.

use undiffuse::Result;
use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::denoiser::{BitSequences, Call, FnDenoiser};
use undiffuse::noise::{Given, Seeded};
use undiffuse::posterior::operator::Mask;
use undiffuse::posterior::{
    At, BitProduct, BitSchedule, CalibratedBits, Clamp, Evidence, FnBitR, IndependentBits, Jacobian, Kernel, Known,
    Measurement, NoEvidence, RSchedule,
};
use undiffuse::process::Binomial;
use undiffuse::sampler::{BitPrediction, Bits2015, Ending2015, Sampler};
use undiffuse::schedule::{Arithmetic, Betas, NoiseSchedule};
use undiffuse::tensor::Dims;

const N: usize = 10;
const STATES: usize = 1 << N;

fn sampler(steps: usize, pi: f64) -> Bits2015 {
    let schedule = NoiseSchedule::new(&Betas::erasing_evenly(steps).unwrap(), Arithmetic::Float64).unwrap();
    Bits2015::new(&schedule, Binomial::new(pi).unwrap(), BitPrediction::Clean, false, Ending2015::Mean).unwrap()
}

fn bit(state: usize, i: usize) -> bool {
    state >> i & 1 == 1
}

/// The number of a state from its bits.
fn state(x: &[f32]) -> usize {
    x.iter().enumerate().map(|(i, &b)| usize::from(b >= 0.5) << i).sum()
}

fn as_f32(b: bool) -> f32 {
    f32::from(u8::from(b))
}

/// A chain of spins with a field: neighbours like to agree.
fn ising() -> Vec<f64> {
    let spin = |s: usize, i: usize| if bit(s, i) { 1.0 } else { -1.0 };
    let energy = |s: usize| -> f64 {
        (0..N - 1).map(|i| 0.7 * spin(s, i) * spin(s, i + 1)).sum::<f64>()
            + (0..N).map(|i| 0.2 * spin(s, i)).sum::<f64>()
    };
    normalised((0..STATES).map(|s| energy(s).exp()).collect())
}

fn normalised(mut p: Vec<f64>) -> Vec<f64> {
    let total: f64 = p.iter().sum();
    p.iter_mut().for_each(|p| *p /= total);
    p
}

fn total_variation(a: &[f64], b: &[f64]) -> f64 {
    0.5 * a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f64>()
}

/// Keeps the probabilities that evidence left for each bit.
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

/// The exact distribution of the chain's result over all states, by carrying that of x_T through every kernel.
fn distribution(prior: &[f64], steps: usize, pi: f64, evidence: impl Evidence) -> Vec<f64> {
    let process = Binomial::new(pi).unwrap();
    // P(x_0,i = 1 | x_t) for all states, by enumeration, once a step.
    let (mut table, mut of_step) = (Vec::new(), f64::NAN);
    let denoiser =
        FnDenoiser::new("enumeration", Dims::new(&[N]).unwrap(), |call: &Call<'_>, x: &[f32], out: &mut [f32]| {
            if of_step != call.level.timestep {
                let abar = call.level.alpha_bar();
                let all = noised(prior, &process, abar);
                table = vec![0.0; STATES * N];
                for i in 0..N {
                    let ones: Vec<f64> = (0..STATES).map(|s| if bit(s, i) { prior[s] } else { 0.0 }).collect();
                    let ones = noised(&ones, &process, abar);
                    (0..STATES).for_each(|s| table[s * N + i] = (ones[s] / all[s]).min(1.0) as f32);
                }
                of_step = call.level.timestep;
            }
            for (x, out) in x.chunks_exact(N).zip(out.chunks_exact_mut(N)) {
                out.copy_from_slice(&table[state(x) * N..][..N]);
            }
            Ok(())
        });
    let options = ChainOptions { batch: STATES, first_sample: 0 };
    let capture = Capture { inner: evidence, probabilities: Vec::new() };
    let mut chain = Chain::with_evidence(denoiser, sampler(steps, pi), Seeded::new(0), capture, &options).unwrap();
    let all: Vec<f32> = (0..STATES).flat_map(|s| (0..N).map(move |i| as_f32(bit(s, i)))).collect();
    let mut p: Vec<f64> =
        (0..STATES).map(|s| (0..N).map(|i| if bit(s, i) { pi } else { 1.0 - pi }).product()).collect();
    let mut reached = vec![0.0; STATES];
    for step in 0..steps {
        chain.start_from(step, &all, 0).unwrap();
        chain.step().unwrap();
        let mut next = vec![0.0; STATES];
        for (weight, bits) in p.iter().zip(chain.evidence().probabilities.chunks_exact(N)) {
            reached[0] = *weight;
            for (i, &one) in bits.iter().enumerate() {
                let (low, high) = reached.split_at_mut(1 << i);
                for (l, h) in low.iter_mut().zip(high) {
                    (*l, *h) = (*l * (1.0 - f64::from(one)), *l * f64::from(one));
                }
            }
            next.iter_mut().zip(&reached).for_each(|(n, r)| *n += r);
        }
        p = next;
    }
    p
}

/// sum over x_0 of f(x_0) q(x_t | x_0) for every x_t.
fn noised(f: &[f64], process: &Binomial, abar: f64) -> Vec<f64> {
    let mut f = f.to_vec();
    let (one, zero) = (process.marginal(abar, 1.0), process.marginal(abar, 0.0));
    for i in 0..N {
        for s in (0..STATES).filter(|&s| !bit(s, i)) {
            let (a, b) = (f[s], f[s | 1 << i]);
            f[s] = (1.0 - zero) * a + (1.0 - one) * b;
            f[s | 1 << i] = zero * a + one * b;
        }
    }
    f
}

/// The first five bits as read through a channel that flips one in ten: 1 0 0 1 1.
const READ: [bool; 5] = [true, false, false, true, true];

fn likelihood(flip: f64) -> Vec<f64> {
    let of = |s: usize| READ.iter().enumerate().map(|(i, &b)| if bit(s, i) == b { 1.0 - flip } else { flip }).product();
    (0..STATES).map(of).collect()
}

fn odds(flip: f64) -> Vec<f32> {
    (0..N).map(|i| READ.get(i).map_or(0.5, |&b| if b { 1.0 - flip } else { flip }) as f32).collect()
}

#[test]
fn enumeration_agrees_within_a_percent() {
    let prior = ising();
    for (steps, pi) in [(300, 0.5), (300, 0.3)] {
        let tv = total_variation(&distribution(&prior, steps, pi, NoEvidence), &prior);
        println!("no evidence, T = {steps}, pi = {pi}: {:.3} %", 100.0 * tv);
        assert!(tv < 0.01, "{tv}");
    }
    let (steps, pi) = (300, 0.5);
    let process = Binomial::new(pi).unwrap();
    for flip in [0.1, 0.0] {
        let r = likelihood(flip);
        let joint: Vec<f64> = prior.iter().zip(&r).map(|(p, r)| p * r).collect();
        let want = normalised(joint.clone());
        // p(y | x_s) itself, known here by enumeration.
        let (mut table, mut of_step) = (Vec::new(), usize::MAX);
        let exact = FnBitR::new(|at: &At, _, x: &[f32], out: &mut [f32]| {
            if of_step != at.step {
                let abar = at.target.alpha_bar();
                let (seen, all) = (noised(&joint, &process, abar), noised(&prior, &process, abar));
                table = seen.iter().zip(&all).map(|(s, a)| s / a).collect::<Vec<f64>>();
                of_step = at.step;
            }
            let state = state(x);
            for (i, out) in out.iter_mut().enumerate() {
                let (one, zero): (f64, f64) = (table[state | 1 << i], table[state & !(1 << i)]);
                *out = if one + zero > 0.0 { (one / (one + zero)) as f32 } else { 0.5 };
            }
            Ok(())
        });
        let tv = total_variation(&distribution(&prior, steps, pi, BitProduct::new(exact)), &want);
        println!("flips {flip}, calibrated by p(y | x_t): {:.3} %", 100.0 * tv);
        assert!(tv < 0.01, "flips {flip}: {tv}");
        // By the model's own certainty of each bit.
        let bits = IndependentBits::new(&odds(flip), BitSchedule::White(process)).unwrap();
        let tv = total_variation(&distribution(&prior, steps, pi, CalibratedBits::new(bits)), &want);
        println!("flips {flip}, calibrated bits: {:.2} %", 100.0 * tv);
        // What is not calibrated to the prior does not get there; the library says so, and this test sees to it.
        for (name, schedule) in [
            ("white", BitSchedule::White(process)),
            ("2015, constant", BitSchedule::Paper(RSchedule::Constant)),
            ("2015, ramp", BitSchedule::Paper(RSchedule::Ramp)),
        ] {
            let evidence = BitProduct::new(IndependentBits::new(&odds(flip), schedule).unwrap());
            let tv = total_variation(&distribution(&prior, steps, pi, evidence), &want);
            println!("flips {flip}, {name}: {:.2} %", 100.0 * tv);
            assert!(tv > 0.01, "{name}: {tv}");
        }
    }
}

fn heartbeats(process: Binomial) -> BitSequences {
    let rows: Vec<bool> = (0..5).flat_map(|phase| (0..20).map(move |i| i % 5 == phase)).collect();
    BitSequences::new(Dims::new(&[20]).unwrap(), &rows, &[1.0; 5], process).unwrap()
}

/// The phase of a valid sequence.
fn phase(bits: &[f32]) -> Option<usize> {
    (0..5).find(|phase| bits.iter().enumerate().all(|(i, &b)| b == as_f32(i % 5 == *phase)))
}

#[test]
fn heartbeats_are_drawn_and_completed_from_half_of_their_bits() {
    let samples = 400;
    let pi = 0.2;
    let options = ChainOptions { batch: samples, first_sample: 0 };
    let s = sampler(2000, pi);
    let prior = || heartbeats(*s.process());
    let mut chain = Chain::new(prior(), &s, Seeded::new(1), &options).unwrap();
    assert!(chain.x().iter().all(|&b| b == 0.0 || b == 1.0));
    chain.run().unwrap();
    let phases: Vec<_> = chain.x().chunks_exact(20).filter_map(phase).collect();
    let each: Vec<_> = (0..5).map(|p| phases.iter().filter(|&&q| q == p).count()).collect();
    println!("drawn: {} of {samples} valid, phases {each:?}", phases.len());
    assert!(phases.len() * 100 >= samples * 99);
    assert!(each.iter().all(|&n| n > 40), "{each:?}");
    // Half of the bits, every second one, of phase 3.
    let known: Vec<bool> = (0..20).map(|i| i % 2 == 0).collect();
    let mask = Mask::new(Dims::new(&[20]).unwrap(), &known).unwrap();
    let y: Vec<f32> = (0..20).filter(|i| i % 2 == 0).map(|i| as_f32(i % 5 == 3)).collect();
    let clamp = Clamp::new(Measurement::exact(&mask, &y).unwrap(), Known::Clean).unwrap();
    let bits: Vec<_> = (0..20).map(|i| known[i].then_some(i % 5 == 3)).collect();
    let odds = BitProduct::new(IndependentBits::known(&bits, BitSchedule::Paper(RSchedule::Constant)));
    let evidence: [(&str, Box<dyn Evidence>); 2] = [("clamp", Box::new(clamp)), ("odds", Box::new(odds))];
    for (name, evidence) in evidence {
        let options = ChainOptions { batch: 100, first_sample: 0 };
        let mut chain = Chain::with_evidence(prior(), &s, Seeded::new(2), evidence, &options).unwrap();
        chain.run().unwrap();
        let right = chain.x().chunks_exact(20).filter(|x| phase(x) == Some(3)).count();
        println!("{name}: {right} of 100 completed");
        assert!(right >= 99, "{name}: {right}");
    }
}

#[test]
fn a_binary_chain_is_saved_and_sharded_like_any_other() {
    let s = sampler(30, 0.2);
    let run = |batch, first_sample| {
        let options = ChainOptions { batch, first_sample };
        let mut c = Chain::new(heartbeats(*s.process()), &s, Seeded::new(9), &options).unwrap();
        c.run().unwrap();
        c.x().to_vec()
    };
    let want = run(3, 5);
    assert_eq!(want, [run(1, 5), run(2, 6)].concat());
    let options = ChainOptions { batch: 3, first_sample: 5 };
    let make = || Chain::new(heartbeats(*s.process()), &s, Seeded::new(9), &options).unwrap();
    let mut c = make();
    for _ in 0..11 {
        c.step().unwrap();
    }
    let mut d = make();
    d.restore(&c.save().unwrap()).unwrap();
    d.run().unwrap();
    assert_eq!(d.x(), want);
    // A source of normal values only cannot drive it.
    let given = Given::new(&[0.0; 20], &[], 1, 0).unwrap();
    let e = Chain::new(heartbeats(*s.process()), &s, given, &ChainOptions::default()).err().unwrap();
    assert_eq!(e.kind(), undiffuse::ErrorKind::Unsupported);
}
