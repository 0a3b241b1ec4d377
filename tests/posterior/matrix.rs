//! Every evidence method with every sampler: a pair reaches the posterior of a Gaussian prior that is known in closed
//! form, as nearly as the method claims of itself and the sampler reaches the prior, or is refused when the chain is
//! made, by an error that names the sampler, what is wrong and what to take. Both lists are walked whole, and the table
//! in the docs is what comes out:
//!
//!     UNDIFFUSE_WRITE_MATRIX=1 cargo test --release --all-features --test posterior matrix
//!
//! Moments are without sampling error: a chain with a Gaussian prior is affine in its noise, so each value of noise is
//! given alone (`affine::whole`). DPS and MCG divide by a norm and are sampled.

use crate::affine::{Matrix, errors, posterior, whole};
use crate::every_sampler::{Case, Exact, every};
use std::collections::BTreeMap;
use undiffuse::ErrorKind;
use undiffuse::chain::{Chain, ChainOptions, ParticleOptions, Particles};
use undiffuse::denoiser::{BitSequences, Component, Covariance, Denoiser};
use undiffuse::noise::Seeded;
use undiffuse::posterior::operator::Mask;
use undiffuse::posterior::{
    At, BitProduct, BitSchedule, Calibrated, CalibratedBits, CalibratedClasses, CalibratedWhite, Clamp, ClassProduct,
    ClassSchedule, Classifier, ClassifierRule, Daps, DapsOptions, Ddnm, Ddrm, DiffPir, Dps, Evidence, ExactProduct,
    FnLogR, Fps, FpsOptions, IndependentBits, IndependentClasses, Known, KnownPixels, Mcg, MeanShift, Measurement,
    Misfit, NoEvidence, OptimalVariance, Pigdm, PigdmRule, RSchedule, RedDiff, Sitcom, SitcomOptions, SplitGibbs,
    SplitGibbsOptions, Tmpd,
};
use undiffuse::process::Binomial;
use undiffuse::sampler::{Sampler, SamplerKind, SchedulerConfig, StateSpace};
use undiffuse::schedule::Level;
use undiffuse::tensor::Dims;

const STEPS: usize = 60;
const SAMPLES: usize = 2000;
/// What is seen of the first of two elements, and its noise.
const Y: f32 = 0.8;
const S: f64 = 0.3;

type Moments = (Vec<f64>, Matrix);

fn dims() -> Dims {
    Dims::new(&[1, 1, 2]).unwrap()
}

fn mask() -> Mask {
    Mask::new(dims(), &[true, false]).unwrap()
}

fn noisy() -> Measurement<Mask> {
    Measurement::new(mask(), &[Y], S).unwrap()
}

fn exact() -> Measurement<Mask> {
    Measurement::exact(mask(), &[Y]).unwrap()
}

/// The prior under which a method knows its posterior.
#[derive(Clone, Copy, PartialEq)]
enum Prior {
    Correlated,
    Independent,
    White,
}

impl Prior {
    fn moments(self) -> Moments {
        match self {
            Self::Correlated => (vec![0.3, -0.2], vec![vec![0.9, 0.6], vec![0.6, 0.7]]),
            Self::Independent => (vec![0.3, -0.2], vec![vec![0.9, 0.0], vec![0.0, 0.7]]),
            Self::White => (vec![0.0, 0.0], vec![vec![1.0, 0.0], vec![0.0, 1.0]]),
        }
    }

    fn denoiser(self, sampler: &dyn Sampler, batch: usize) -> Exact {
        let (mean, covariance) = self.moments();
        // A prior of correlated elements is not carried element by element.
        if !sampler.predicts_mean()
            && self == Self::Independent
            && ["LCM", "flow LCM", "consistency"].contains(&sampler.name())
        {
            return Exact::distilled(sampler, dims(), &mean, &[covariance[0][0], covariance[1][1]], batch);
        }
        Exact::new(
            sampler,
            dims(),
            &[Component { weight: 1.0, mean, covariance: Covariance::Full(covariance.concat()) }],
            batch,
        )
    }
}

/// The gradient of the true log p(y | x_t) under the correlated prior.
fn likelihood(level: &Level, x: &[f32], out: &mut [f32]) {
    let (m, s) = Prior::Correlated.moments();
    let (a, v) = (level.alpha, level.sigma * level.sigma);
    let c = [[a * a * s[0][0] + v, a * a * s[0][1]], [a * a * s[1][0], a * a * s[1][1] + v]];
    let det = c[0][0] * c[1][1] - c[0][1] * c[1][0];
    let inverse = [[c[1][1] / det, -c[0][1] / det], [-c[1][0] / det, c[0][0] / det]];
    let k = [0, 1].map(|i| a * (0..2).map(|j| inverse[i][j] * s[j][0]).sum::<f64>());
    let mean = m[0] + (0..2).map(|i| k[i] * (f64::from(x[i]) - a * m[i])).sum::<f64>();
    let variance = s[0][0] - a * (k[0] * s[0][0] + k[1] * s[1][0]);
    let by = (f64::from(Y) - mean) / (variance + S * S);
    out.iter_mut().zip(k).for_each(|(out, k)| *out = (k * by) as f32);
}

fn classifier(rule: ClassifierRule) -> Box<dyn Evidence> {
    let gradient = |at: &At, x: &[f32], out: &mut [f32]| {
        x.chunks(2).zip(out.chunks_mut(2)).for_each(|(x, out)| likelihood(&at.level, x, out));
        Ok(())
    };
    Box::new(Classifier::new("classifier", 1.0, rule, gradient).unwrap())
}

/// How near a method claims to come.
#[derive(Clone, Copy)]
enum Claim {
    /// The prior itself.
    Nothing,
    /// The posterior, by the predicted x_0: as near as the sampler comes to the prior.
    Exact,
    /// The posterior in the limit of small steps, whose Gaussians it multiplies.
    InTheLimit,
    /// What its page says: the errors in %, of mean and covariance, of chains with noise and of such without.
    Biased([f64; 2], [f64; 2]),
    /// Not the posterior: `red_diff` holds it to what it minimises.
    Sampled,
    /// Bits and classes: `binary_chain` and `class_chain` hold them to exact enumeration.
    Bits,
    /// Goes with a sampler of its own alone, where `split_gibbs` holds it.
    OwnSampler,
}

struct Method {
    /// In the table.
    name: &'static str,
    prior: Prior,
    claim: Claim,
    make: fn() -> Box<dyn Evidence>,
}

fn methods() -> Vec<Method> {
    use Claim::*;
    use Prior::*;
    let m = |name, prior, claim, make| Method { name, prior, claim, make };
    // Of a chain without noise where it goes with none.
    let noise_only = |of| Biased(of, of);
    vec![
        m("`OptimalVariance`", Correlated, Nothing, || Box::new(OptimalVariance::new(2).unwrap())),
        m("`Calibrated`", Correlated, Exact, || {
            Box::new(Calibrated::new(noisy(), 2).unwrap().with_variance_products(2).unwrap())
        }),
        m("`Calibrated`, `variance_products` 0", Correlated, Exact, || {
            Box::new(Calibrated::new(noisy(), 2).unwrap().with_variance_products(0).unwrap())
        }),
        m("`Tmpd`", Correlated, Exact, || Box::new(Tmpd::new(noisy()).unwrap())),
        m("`Pigdm`, score", White, Exact, || Box::new(Pigdm::new(noisy(), PigdmRule::Score).unwrap())),
        m("`Classifier`, score", Correlated, Exact, || classifier(ClassifierRule::Score)),
        m("`Classifier`, mean", Correlated, InTheLimit, || classifier(ClassifierRule::Mean)),
        m("`MeanShift` of a closure", Correlated, InTheLimit, || {
            let log_r = |_: u64, level: &Level, x: &[f32], out: &mut [f32]| {
                likelihood(level, x, out);
                Ok(())
            };
            Box::new(MeanShift::new(FnLogR::new(log_r), RSchedule::Constant))
        }),
        m("`CalibratedWhite`", White, InTheLimit, || Box::new(CalibratedWhite::new(noisy(), 1.0).unwrap())),
        m("`ExactProduct`", Correlated, noise_only([6.7, 23.5]), || {
            Box::new(ExactProduct::new(noisy(), RSchedule::Constant).unwrap())
        }),
        m("`MeanShift` of a measurement", Correlated, noise_only([6.6, 22.6]), || {
            Box::new(MeanShift::new(noisy(), RSchedule::Constant))
        }),
        m("`Pigdm`, published", Correlated, Biased([17.0, 34.0], [24.2, 43.4]), || {
            Box::new(Pigdm::new(noisy(), PigdmRule::Published).unwrap())
        }),
        m("`Dps`", Correlated, Biased([18.2, 30.8], [27.3, 41.8]), || {
            Box::new(Dps::new(noisy(), 0.3, Misfit::Gaussian).unwrap())
        }),
        m("`Daps`", Correlated, noise_only([33.0, 60.0]), || {
            let options = DapsOptions { langevin_steps: 10, flow_steps: 1, ..DapsOptions::default() };
            Box::new(Daps::new(noisy(), &options).unwrap())
        }),
        m("`RedDiff`", Correlated, Sampled, || Box::new(RedDiff::new(noisy(), 0.05, 0.25).unwrap())),
        m("`Sitcom`", Correlated, OwnSampler, || {
            Box::new(Sitcom::new(noisy(), &SitcomOptions { gradient_steps: 3, ..Default::default() }).unwrap())
        }),
        m("`Fps`", Correlated, noise_only([33.0, 60.0]), || {
            Box::new(Fps::new(noisy(), &FpsOptions { ensemble: 1 }).unwrap())
        }),
        m("`Mcg`", Independent, Exact, || Box::new(Mcg::new(exact(), 0.3).unwrap())),
        m("`Ddrm`", Correlated, noise_only([14.5, 25.8]), || Box::new(Ddrm::new(noisy(), 1.0).unwrap())),
        m("`Ddrm::ddnm_plus`", Correlated, noise_only([14.5, 25.8]), || Box::new(Ddrm::ddnm_plus(noisy()).unwrap())),
        m("`DiffPir`", Correlated, Biased([15.8, 30.1], [24.4, 47.9]), || {
            Box::new(DiffPir::new(noisy(), 1.0).unwrap())
        }),
        m("`Ddnm`", Independent, Exact, || Box::new(Ddnm::new(exact()).unwrap())),
        m("`KnownPixels`", Independent, Exact, || Box::new(KnownPixels::new(exact()).unwrap())),
        m("`Clamp`, noised", Independent, Exact, || Box::new(Clamp::new(exact(), Known::Renoised).unwrap())),
        m("`Clamp`, clean", Independent, Exact, || Box::new(Clamp::new(exact(), Known::Clean).unwrap())),
        m("`SplitGibbs`", Correlated, OwnSampler, || {
            let seen = Measurement::new(mask(), &[Y], 0.1).unwrap();
            Box::new(SplitGibbs::new(seen, &SplitGibbsOptions { ensemble: 2, ..Default::default() }).unwrap())
        }),
        m("`BitProduct`, `CalibratedBits`", Independent, Bits, || {
            let odds = IndependentBits::new(&[0.9, 0.5], BitSchedule::Paper(RSchedule::Constant)).unwrap();
            Box::new(BitProduct::new(odds))
        }),
        m("`ClassProduct`, `CalibratedClasses`", Independent, Bits, || Box::new(ClassProduct::new(first_class()))),
    ]
}

/// Nine to one for the first class.
fn first_class() -> IndependentClasses {
    IndependentClasses::new(2, &[0.9, 0.1], ClassSchedule::Paper(RSchedule::Constant)).unwrap()
}

fn truth(method: &Method) -> Moments {
    let (m, s) = method.prior.moments();
    match method.claim {
        Claim::Nothing => (m, s),
        _ if method.prior == Prior::Independent => posterior(&m, &s, &mask(), &[Y], 0.0),
        _ => posterior(&m, &s, &mask(), &[Y], S),
    }
}

fn weighted(rows: &[f32], weights: &[f64]) -> Moments {
    let all = || rows.chunks(2).zip(weights).map(|(r, w)| ([f64::from(r[0]), f64::from(r[1])], *w));
    let mean: Vec<f64> = (0..2).map(|i| all().map(|(r, w)| w * r[i]).sum()).collect();
    let of = |i: usize, j: usize| all().map(|(r, w)| w * (r[i] - mean[i]) * (r[j] - mean[j])).sum();
    let cov = (0..2).map(|i| (0..2).map(|j| of(i, j)).collect()).collect();
    (mean, cov)
}

/// Errors in % of mean and covariance, or why there are none.
fn outcome(case: &Case, method: &Method) -> undiffuse::Result<[f64; 2]> {
    let sampler = &*case.sampler;
    let mut evidence = (method.make)();
    let denoiser = |batch| method.prior.denoiser(sampler, batch);
    let got = if matches!(evidence.name(), "DPS" | "MCG" | "RED-diff") {
        let options = ChainOptions { batch: SAMPLES, first_sample: 0 };
        let mut chain = Chain::with_evidence(denoiser(SAMPLES), sampler, Seeded::new(1), evidence, &options)?;
        chain.run().unwrap();
        weighted(chain.x(), &[1.0 / SAMPLES as f64; SAMPLES])
    } else {
        whole(denoiser, sampler, &mut *evidence)?
    };
    let (mean, cov) = errors(&got, &truth(method));
    Ok([100.0 * mean, 100.0 * cov])
}

fn particles(case: &Case) -> undiffuse::Result<[f64; 2]> {
    let (m, s) = Prior::Correlated.moments();
    let options = ParticleOptions { count: 2 * SAMPLES, ..Default::default() };
    let denoiser = Prior::Correlated.denoiser(&*case.sampler, 2 * SAMPLES);
    let mut particles = Particles::new(denoiser, &*case.sampler, Seeded::new(1), noisy(), &options)?;
    particles.run(0).unwrap();
    let weights: Vec<f64> = particles.weights().collect();
    let (mean, cov) = errors(&weighted(particles.x(), &weights), &posterior(&m, &s, &mask(), &[Y], S));
    Ok([100.0 * mean, 100.0 * cov])
}

/// Whether errors are within what the method claims. `own` is what the sampler's prior is off by.
fn holds(claim: Claim, sampled: bool, noisy: bool, [mean, cov]: [f64; 2], own: [f64; 2]) -> bool {
    let error = if sampled { 5.0 } else { 0.0 };
    match claim {
        Claim::Nothing => mean < 2.0 && cov < 2.0,
        // The posterior is narrower than the prior, and a step's own error larger beside it.
        Claim::Exact => mean < 4.0 + own[0] + error && cov < 2.0 + 4.0 * own[1] + error,
        Claim::InTheLimit => mean < 12.0 + own[0] && cov < 15.0 + 5.0 * own[1],
        Claim::Biased(with, without) => {
            let [m, c] = if noisy { with } else { without };
            mean < m + 8.0 + own[0] && cov < c + 15.0 + own[1]
        }
        Claim::Bits | Claim::OwnSampler | Claim::Sampled => true,
    }
}

/// The reasons, by a part of the message.
const REASONS: [(char, &str, &str); 14] = [
    (
        'g',
        "whose steps are no Gaussians",
        "the size of a step follows from its draw, or (`rk45`) from what the network gives",
    ),
    ('s', "loses x_0 in rounding", "the levels have so much noise that f32 loses x_0"),
    ('a', "take the sampler that it recommends", "the method has a sampler of its own, [`Evidence::recommended`]"),
    ('d', "goes the other way", "the sampler goes from data to noise"),
    ('b', "is for chains of real numbers", "the method is for real numbers, the sampler makes bits or classes"),
    ('r', "needs a binary chain", "the method is for bits, the sampler makes other samples"),
    ('o', "needs a chain of classes", "the method is for classes, the sampler makes other samples"),
    ('x', "takes the predicted x_0 for the mean", "x_0 is not the mean of x_0 given x_t: distilled networks, churn"),
    (
        'h',
        "cannot be drawn",
        "x_0 cannot be drawn, since a step is made of several (take `variance_products` 0), or is rounded",
    ),
    ('k', "makes anew", "the method changes x_s, which a corrector makes anew"),
    (
        'n',
        "multiplies the Gaussian",
        "the method multiplies the Gaussian of a step, which has no noise, too little, or has it in an inner stage",
    ),
    ('e', "of which alone", "the method changes x_0 and not eps, of which alone the sampler makes its steps"),
    ('l', "noise above 0 and at most", "the method needs noise at every step, at most the level's"),
    ('v', "one standard deviation", "the method needs noise of one size for all elements"),
];
/// The curvature of log r.
const CURVED: (char, &str, &str) =
    ('c', "curves little", "log r curves too much for steps as wide as those of 60 (take more, or `ExactProduct`)");

fn letter(message: &str) -> Option<char> {
    REASONS.iter().chain([&CURVED]).find(|(_, part, _)| message.contains(part)).map(|(letter, ..)| *letter)
}

#[test]
fn every_pair_reaches_the_posterior_or_is_refused_by_name() {
    let methods = methods();
    let cases = every(STEPS);
    let mut wrong = Vec::new();
    let mut rows = Vec::new();
    let (mut works, mut refused) = (0, 0);
    for case in &cases {
        let sampler = &*case.sampler;
        let bits = sampler.space() != StateSpace::Real;
        // Noise that is added before a step goes on in x and is none of the step's.
        let noisy = (0..sampler.levels().len()).any(|step| sampler.settles(step) && sampler.needs_noise(step));
        let mut owns: BTreeMap<u8, [f64; 2]> = BTreeMap::new();
        let mut own = |prior: Prior| {
            *owns.entry(prior as u8).or_insert_with(|| {
                // The size of a Langevin step makes a chain no affine map of its noise.
                if !sampler.takes_evidence() {
                    let options = ChainOptions { batch: SAMPLES, first_sample: 0 };
                    let denoiser = prior.denoiser(sampler, SAMPLES);
                    let mut chain = Chain::new(denoiser, sampler, Seeded::new(1), &options).unwrap();
                    chain.run().unwrap();
                    let (mean, cov) = errors(&weighted(chain.x(), &[1.0 / SAMPLES as f64; SAMPLES]), &prior.moments());
                    return [100.0 * mean, 100.0 * cov];
                }
                let got = whole(|batch| prior.denoiser(sampler, batch), sampler, &mut NoEvidence).unwrap();
                let (mean, cov) = errors(&got, &prior.moments());
                [100.0 * mean, 100.0 * cov]
            })
        };
        let mut cells = Vec::new();
        let mut judge = |name: &str, claim, prior, sampled, got: undiffuse::Result<[f64; 2]>| match got {
            Ok(errors) => {
                works += 1;
                if !bits && !holds(claim, sampled, noisy, errors, own(prior)) {
                    wrong.push(format!("{name} with {}: {errors:.1?}, of the prior {:.1?}", case.name, own(prior)));
                }
                cells.push("·".to_string());
            }
            Err(e) => {
                refused += 1;
                let letter = letter(e.message());
                // By the sampler's name, and with what works.
                let named = e.message().contains(sampler.name()) && e.message().contains("take ");
                if e.kind() != ErrorKind::Unsupported || letter.is_none() || !named {
                    wrong.push(format!("{name} with {}: {e}", case.name));
                }
                cells.push(letter.unwrap_or('?').to_string());
            }
        };
        for method in &methods {
            let got = if bits { of_bits(case, (method.make)()) } else { outcome(case, method) };
            judge(method.name, method.claim, method.prior, matches!(method.name, "`Dps`" | "`Mcg`"), got);
        }
        let got = if bits { Ok([0.0; 2]) } else { particles(case) };
        judge("`Particles`", Claim::Exact, Prior::Correlated, true, got);
        rows.push(format!("| {} | {} |", case.name, cells.join(" | ")));
    }
    println!("{works} pairs work, {refused} are refused");
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    let text = table(&methods, &rows, works, refused);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/posterior/samplers.md");
    if std::env::var_os("UNDIFFUSE_WRITE_MATRIX").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap();
    assert!(
        written == text,
        "src/posterior/samplers.md is not what comes out: see the top of tests/posterior/matrix.rs"
    );
}

fn of_bits(case: &Case, evidence: Box<dyn Evidence>) -> undiffuse::Result<[f64; 2]> {
    if let StateSpace::Classes { .. } = case.sampler.space() {
        let prior = || crate::every_sampler::exact(&*case.sampler, dims(), &[], 8);
        let options = ChainOptions { batch: 8, first_sample: 0 };
        let calibrated: Box<dyn Evidence> = Box::new(CalibratedClasses::new(first_class()));
        for evidence in [evidence, calibrated] {
            let mut chain = Chain::with_evidence(prior(), &*case.sampler, Seeded::new(1), evidence, &options)?;
            chain.run().unwrap();
            assert!(chain.x().chunks(2).all(|row| row == [0.0, 1.0] || row == [1.0, 0.0]), "{:?}", chain.x());
        }
        return Ok([0.0; 2]);
    }
    let half = Binomial::new(0.5).unwrap();
    let prior = || BitSequences::new(dims(), &[true, false, false, true], &[1.0, 2.0], half).unwrap();
    let options = ChainOptions { batch: 8, first_sample: 0 };
    let run = |evidence: Box<dyn Evidence>| {
        let mut chain = Chain::with_evidence(prior(), &*case.sampler, Seeded::new(1), evidence, &options)?;
        chain.run().unwrap();
        Ok(chain.x().to_vec())
    };
    let x = run(evidence)?;
    assert!(x.iter().all(|v| [0.0, 1.0, Y].contains(v)), "{x:?}");
    let odds = IndependentBits::new(&[0.9, 0.5], BitSchedule::Paper(RSchedule::Constant)).unwrap();
    run(Box::new(CalibratedBits::new(odds))).map(|_| [0.0; 2])
}

fn table(methods: &[Method], rows: &[String], works: usize, refused: usize) -> String {
    let names: Vec<&str> = methods.iter().map(|m| m.name).chain(["`Particles`"]).collect();
    let mut text = format!(
        "# Which sampler\n\n\
         Every method with every sampler, {STEPS} steps: · works, a letter is refused when the chain is made, kind `Unsupported`, for the reason \
         below. {works} pairs work, {refused} are refused.\n\n\
         What works reaches the posterior of a Gaussian prior that is known in closed form, as near as the method claims and the sampler \
         reaches the prior: `tests/posterior/matrix.rs`, which wrote this. A process that does not preserve variance (`euler` and its like, \
         EDM's, flows) is mapped to the one that methods are published for by its levels, see [`Level::scale`](crate::schedule::Level::scale).\n\n"
    );
    for (i, name) in names.iter().enumerate() {
        text += &format!("{}. {name}\n", i + 1);
    }
    let numbers: Vec<String> = (1..=names.len()).map(|i| i.to_string()).collect();
    text += &format!("\n| sampler | {} |\n{}|\n", numbers.join(" | "), "|---".repeat(names.len() + 1));
    rows.iter().for_each(|row| text += &format!("{row}\n"));
    text += "\n";
    for (letter, _, what) in REASONS.iter().chain([&CURVED]) {
        if rows.iter().any(|r| r.split('|').skip(2).any(|cell| cell.trim() == letter.to_string())) {
            text += &format!("- {letter}: {what}\n");
        }
    }
    text
}

/// The recommended sampler is one that the method goes with, for a model of ordinary length and for one with few
/// timesteps.
#[test]
fn what_a_method_recommends_works() {
    for train in [1000, 12] {
        for method in methods().into_iter().filter(|m| !matches!(m.claim, Claim::Bits)) {
            let name = method.name;
            let evidence = (method.make)();
            // DDPM's usual variance is fixed_small.
            let config = SchedulerConfig { num_train_timesteps: train, ..SchedulerConfig::new(SamplerKind::Ddpm) };
            let sampler = evidence.recommended().sampler(&config).unwrap();
            let calls = sampler.levels().len();
            let denoiser: Box<dyn Denoiser> = Box::new(method.prior.denoiser(&*sampler, 2));
            let (published, options) = (evidence.name().to_string(), ChainOptions { batch: 2, first_sample: 0 });
            let chain = Chain::with_evidence(denoiser, sampler, Seeded::new(1), evidence, &options);
            let mut chain = chain.unwrap_or_else(|e| panic!("{name}: {e}"));
            chain.run().unwrap();
            assert!(chain.x().iter().all(|v| v.is_finite() && v.abs() < 10.0), "{name}: {:?}", chain.x());
            let expected = match (published.as_str(), train) {
                ("calibrated", 1000) => 36,
                ("RePaint", 1000) => 2410,
                ("split Gibbs", 1000) => 157,
                ("DDRM", 1000) => 20,
                ("optimal variance", 1000) => 50,
                ("calibrated to a white prior", 1000) => 250,
                ("DDNM" | "DDNM+" | "DiffPIR" | "PiGDM" | "TMPD", 1000) => 100,
                // Fewer timesteps below a level than steps of its flow.
                ("DAPS", 1000) => calls.clamp(48, 50),
                ("DAPS", _) => calls.clamp(6, 12),
                ("SITCOM", 1000) => 20 * 4,
                ("SITCOM", _) => 12 * 4,
                (_, 1000) => 1000,
                ("calibrated", _) => 20,
                ("RePaint", _) => 102,
                // Fewer levels, and still more than once through them.
                ("split Gibbs", _) => calls.clamp(13, 156),
                _ => 12,
            };
            assert_eq!(calls, expected, "{name} of {train} timesteps");
        }
    }
}
