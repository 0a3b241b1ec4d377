//! D3PM (Austin et al. 2021): the chain of classes, beside that of bits.

use alloc::vec::Vec;

use super::{Estimate, Sampler, Spread, StateSpace, check_len, check_no_state, check_prediction};
use crate::error::{Result, ensure, err};
use crate::noise::Fingerprint;
use crate::process::{Categorical, Linear};
use crate::schedule::{Level, NoiseSchedule, custom_timesteps};

/// What the probabilities mean that a network of classes gives for x_0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ClassPrediction {
    /// p(x_0 | x_t), from which the step follows by the posterior of the process: exact where they are. What a network
    /// is trained to give by cross-entropy alone.
    #[default]
    Clean,
    /// What D3PM's networks give, which were trained by the bound with the kernel of their eq. 4:
    /// [`Categorical::reverse_of_joint`]. With a mask it is the same.
    Joint,
}

#[derive(Clone, Copy, Debug)]
struct Step {
    alpha_bar: f64,
    previous: f64,
}

/// The sampler of K classes at each position: x_s is drawn from the kernel that follows from the network's p(x_0).
///
/// Samples are one-hot rows: `[..., positions, K]` values of f32, 1 for the class and 0 for the others; [`classes_of`]
/// reads them. The denoiser gets x_t in this form and gives as many logits (or probabilities). The x_0 of a step is its
/// probabilities, the "mean" those of x_s, which evidence may change; noise is uniform in [0, 1), K values a position,
/// and the class is that of the smallest -ln(u_k) / p_k, which is drawn with probability p_k (the authors' Gumbel
/// maximum with one logarithm less). x_T is uniform, or all mask.
///
/// With a mask, its logit is not read, since data never have it, and a position that is no mask any more stays what it
/// is.
///
/// Any list of timesteps will do: kernels go from level to level in closed form. The last leads to x_0. beta_t = 1 /
/// (T - t + 1), the schedule by mutual information of masks, is
/// [`Betas::erasing_evenly`](crate::schedule::Betas::erasing_evenly), the cosine of uniform transitions
/// [`Betas::cosine`](crate::schedule::Betas::cosine).
///
/// ```
/// use undiffuse::chain::{Chain, ChainOptions};
/// use undiffuse::denoiser::ClassSequences;
/// use undiffuse::noise::Seeded;
/// use undiffuse::process::Categorical;
/// use undiffuse::sampler::{ClassPrediction, D3pm, classes_of};
/// use undiffuse::schedule::{Arithmetic, Betas, NoiseSchedule};
/// use undiffuse::tensor::Dims;
///
/// // Two words of three letters; class 3 is the mask.
/// let process = Categorical::absorbing(4, 3)?;
/// let words = ClassSequences::new(Dims::new(&[3, 4])?, &[0, 1, 2, 2, 2, 0], &[1.0, 1.0], process)?;
/// let schedule = NoiseSchedule::new(&Betas::erasing_evenly(30)?, Arithmetic::Float64)?;
/// let timesteps: Vec<u32> = (0..30).rev().collect();
/// let sampler = D3pm::new(&schedule, &timesteps, process, ClassPrediction::Clean, false)?;
/// let mut chain = Chain::new(words, sampler, Seeded::new(0), &ChainOptions { batch: 8, ..Default::default() })?;
/// chain.run()?;
/// let letters: Vec<usize> = classes_of(chain.x(), 4).collect();
/// assert!(letters.chunks(3).all(|word| word == [0, 1, 2] || word == [2, 2, 0]));
/// # Ok::<(), undiffuse::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct D3pm {
    process: Categorical,
    prediction: ClassPrediction,
    logits: bool,
    levels: Vec<Level>,
    steps: Vec<Step>,
    fingerprint: u64,
}

impl D3pm {
    /// The sampler for these decreasing `timesteps` of `schedule`. `logits`: whether the network gives logits in place
    /// of probabilities.
    ///
    /// Errors: kind `InvalidArgument` for a list that is empty, not decreasing or beyond the schedule; for a step from
    /// a level that has forgotten everything to another such, which has no kernel.
    pub fn new(
        schedule: &NoiseSchedule,
        timesteps: &[u32],
        process: Categorical,
        prediction: ClassPrediction,
        logits: bool,
    ) -> Result<Self> {
        let list = custom_timesteps(schedule.num_train_timesteps(), timesteps)?;
        let (mut levels, mut steps) = (Vec::new(), Vec::new());
        for (i, &t) in list.iter().enumerate() {
            let alpha_bar = schedule.alpha_bar(t)?;
            let previous = list.get(i + 1).map_or(Ok(1.0), |&s| schedule.alpha_bar(s))?;
            let forgotten = previous <= 0.0;
            ensure!(!forgotten, InvalidArgument, "the step from timestep {t} leads to a level that has forgotten x_0");
            levels.push(Level::variance_preserving(f64::from(t), alpha_bar));
            steps.push(Step { alpha_bar, previous });
        }
        let mask = process.mask().map_or(u64::MAX, |m| m as u64);
        let mut f = Fingerprint::new().bytes(b"d3pm").u64(process.classes() as u64).u64(mask);
        f = f.u64(prediction as u64).u64(u64::from(logits));
        for (s, level) in steps.iter().zip(&levels) {
            f = f.f64(level.timestep).f64(s.alpha_bar).f64(s.previous);
        }
        Ok(Self { process, prediction, logits, levels, steps, fingerprint: f.finish() })
    }

    /// The process.
    pub fn process(&self) -> &Categorical {
        &self.process
    }

    fn at(&self, step: usize) -> Result<&Step> {
        self.steps.get(step).ok_or_else(|| {
            err!(InvalidArgument, "step {step} of the chain of classes does not exist, there are {}", self.steps.len())
        })
    }

    /// That values are whole rows of classes.
    fn check_rows(&self, n: usize) -> Result<()> {
        let k = self.process.classes();
        ensure!(
            n > 0 && n.is_multiple_of(k),
            Shape,
            "a sample of {n} values is no whole number of positions of {k} classes each"
        );
        Ok(())
    }

    /// Writes the probabilities of x_0 at one position.
    fn probabilities(&self, x: &[f32], output: &[f32], x0: &mut [f32]) -> Result<()> {
        let here = one_hot(x)?;
        let mask = self.process.mask();
        if mask.is_some_and(|mask| mask != here) {
            x0.iter_mut().enumerate().for_each(|(k, v)| *v = if k == here { 1.0 } else { 0.0 });
            return Ok(());
        }
        let read = |k: usize| Some(k) != mask;
        let largest =
            output.iter().enumerate().filter(|(k, _)| read(*k)).fold(f32::NEG_INFINITY, |m, (_, v)| m.max(*v));
        let weight = |k: usize, v: f32| match (read(k), self.logits) {
            (false, _) => 0.0,
            (true, true) => libm::exp(f64::from(v) - f64::from(largest)),
            (true, false) => f64::from(v),
        };
        if !self.logits {
            let wrong = output.iter().find(|v| !(0.0..=1.0 + 1e-4).contains(*v));
            ensure!(wrong.is_none(), InvalidArgument, "the network gave {wrong:?} as the probability of a class");
        }
        let total: f64 = output.iter().enumerate().map(|(k, v)| weight(k, *v)).sum();
        let whole = total > 0.0 && (self.logits || mask.is_some() || (total - 1.0).abs() < 1e-3);
        ensure!(whole, InvalidArgument, "the network's probabilities of {} classes have the sum {total}", x.len());
        x0.iter_mut().zip(output).enumerate().for_each(|(k, (x0, &v))| *x0 = (weight(k, v) / total) as f32);
        Ok(())
    }
}

impl Sampler for D3pm {
    fn name(&self) -> &'static str {
        "d3pm"
    }

    fn space(&self) -> StateSpace {
        StateSpace::Classes { count: self.process.classes(), mask: self.process.mask() }
    }

    fn levels(&self) -> &[Level] {
        &self.levels
    }

    fn target(&self, step: usize) -> Result<Level> {
        self.at(step)?;
        Ok(self.levels.get(step + 1).copied().unwrap_or(Level::CLEAN))
    }

    fn needs_noise(&self, step: usize) -> bool {
        step < self.steps.len()
    }

    fn check_output_len(&self, n: usize, output_len: usize) -> Result<()> {
        self.check_rows(n)?;
        ensure!(
            output_len == n,
            Shape,
            "the network gives {output_len} values for a sample of {n}, expected a logit for each class of each position"
        );
        Ok(())
    }

    /// Kind `Unsupported`: classes have no derivative.
    fn linear(&self, _step: usize) -> Result<Linear> {
        Err(err!(Unsupported, "a chain of classes has no Jacobian"))
    }

    /// Kind `InvalidArgument` for an x that is not one-hot, or probabilities that are none.
    fn predict(&self, step: usize, x: &[f32], output: &[f32], x0: &mut [f32], eps: &mut [f32]) -> Result<()> {
        self.at(step)?;
        self.check_output_len(x.len(), output.len())?;
        check_prediction(x.len(), x0, eps)?;
        let k = self.process.classes();
        for ((x, output), x0) in x.chunks_exact(k).zip(output.chunks_exact(k)).zip(x0.chunks_exact_mut(k)) {
            self.probabilities(x, output, x0)?;
        }
        eps.copy_from_slice(x0);
        Ok(())
    }

    fn mean(
        &self,
        step: usize,
        _done: usize,
        estimate: Estimate<'_>,
        state: &[f32],
        next_state: &mut [f32],
        mean: &mut [f32],
    ) -> Result<()> {
        let &Step { alpha_bar, previous } = self.at(step)?;
        self.check_rows(mean.len())?;
        check_len("x", estimate.x.len(), mean.len())?;
        check_len("x_0", estimate.x0.len(), mean.len())?;
        check_no_state(state, next_state)?;
        let k = self.process.classes();
        let rows = estimate.x.chunks_exact(k).zip(estimate.x0.chunks_exact(k));
        for ((x, p), mean) in rows.zip(mean.chunks_exact_mut(k)) {
            let here = one_hot(x)?;
            let write = |k: usize, v: f64| {
                if let Some(mean) = mean.get_mut(k) {
                    *mean = v as f32;
                }
            };
            match self.prediction {
                ClassPrediction::Clean => self.process.reverse(alpha_bar, previous, p, here, write),
                ClassPrediction::Joint => self.process.reverse_of_joint(alpha_bar, previous, p, here, write),
            }
        }
        Ok(())
    }

    fn spread(&self, step: usize, _n: usize, _output: &mut [f32]) -> Result<Spread> {
        self.at(step)?;
        Ok(Spread::Classes { count: self.process.classes() })
    }

    fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}

/// The class of each position of one-hot rows, `count` values each: that of the largest value.
pub fn classes_of(x: &[f32], count: usize) -> impl Iterator<Item = usize> + '_ {
    x.chunks_exact(count.max(1)).map(|row| largest(row.iter().map(|v| f64::from(*v))))
}

/// The class of a one-hot row.
fn one_hot(x: &[f32]) -> Result<usize> {
    let mut at = None;
    for (k, v) in x.iter().enumerate() {
        let one = *v == 1.0;
        ensure!(
            one && at.is_none() || *v == 0.0,
            InvalidArgument,
            "x has {v} as class {k} of a position, expected one 1 among zeros"
        );
        at = if one { Some(k) } else { at };
    }
    at.ok_or_else(|| err!(InvalidArgument, "x has no class at a position, expected one 1 among zeros"))
}

/// The first of the largest.
fn largest(values: impl Iterator<Item = f64>) -> usize {
    let best = values.enumerate().fold((0, f64::NEG_INFINITY), |best, (k, v)| if v > best.1 { (k, v) } else { best });
    best.0
}

/// The smallest uniform value that is told from 0: half of the distance of those of 24 bits.
const LEAST: f64 = 1.0 / 33_554_432.0;

/// Draws a class by its probabilities, which need no sum of 1, with a uniform value for each: the smallest of
/// exponential variables of these rates.
pub(crate) fn draw_class(probabilities: &[f32], uniform: &[f32]) -> usize {
    // Of rate p an exponential variable is -ln(u) / p; a class of probability 0 never comes.
    let score = |(p, u): (&f32, &f32)| match f64::from(*p) {
        p if p > 0.0 => libm::log(f64::from(*u).max(LEAST)) / p,
        _ => f64::NEG_INFINITY,
    };
    largest(probabilities.iter().zip(uniform).map(score))
}

/// Makes one-hot rows of probabilities, with as many uniform values.
pub(crate) fn draw_classes(count: usize, uniform: &[f32], x: &mut [f32]) {
    for (x, uniform) in x.chunks_exact_mut(count.max(1)).zip(uniform.chunks_exact(count.max(1))) {
        let class = draw_class(x, uniform);
        x.iter_mut().enumerate().for_each(|(k, v)| *v = if k == class { 1.0 } else { 0.0 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::noise::{NoiseSource, Seeded};
    use crate::sampler::add_noise;
    use crate::schedule::{Arithmetic, Betas};
    use alloc::vec;

    fn sampler(process: Categorical, logits: bool) -> D3pm {
        let schedule = NoiseSchedule::new(&Betas::erasing_evenly(10).unwrap(), Arithmetic::Float64).unwrap();
        D3pm::new(&schedule, &[9, 6, 3, 0], process, ClassPrediction::Clean, logits).unwrap()
    }

    #[test]
    fn classes_come_as_often_as_their_probabilities_say() {
        let p = [0.1f32, 0.0, 0.6, 0.3];
        let (draws, mut counts) = (40_000, [0usize; 4]);
        let mut u = vec![0.0; 4 * draws];
        Seeded::new(3).uniform(0, 1, 4 * draws, &mut u).unwrap();
        u.chunks_exact(4).for_each(|u| counts[draw_class(&p, u)] += 1);
        for (count, p) in counts.iter().zip(p) {
            let (share, p) = (*count as f64 / draws as f64, f64::from(p));
            assert!((share - p).abs() < 4.0 * (p * (1.0 - p) / draws as f64).sqrt() + 1e-12, "{counts:?}");
        }
        assert_eq!(draw_class(&[0.0, 1.0], &[0.5, 0.0]), 1);
    }

    #[test]
    fn a_step_draws_one_class_a_position() {
        let s = sampler(Categorical::uniform(3).unwrap(), true);
        let x = [1.0, 0.0, 0.0, 0.0, 0.0, 1.0];
        let (mut x0, mut eps, mut next) = ([0.0; 6], [0.0; 6], [0.0; 6]);
        s.predict(3, &x, &[0.0, 1.0, 2.0, 80.0, 0.0, 0.0], &mut x0, &mut eps).unwrap();
        assert!((x0[2] - 0.665_241).abs() < 1e-6 && x0[3] == 1.0, "{x0:?}");
        s.mean(3, 0, Estimate { x: &x, x0: &x0, eps: &eps }, &[], &mut [], &mut next).unwrap();
        assert!(next.iter().zip(&x0).all(|(a, b)| (a - b).abs() < 1e-6), "the last step draws x_0 itself");
        add_noise(s.spread(3, 6, &mut []).unwrap(), &[], &[0.5; 6], &mut next).unwrap();
        assert_eq!(next, [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]);
        assert_eq!(classes_of(&next, 3).collect::<Vec<_>>(), [2, 0]);
    }

    #[test]
    fn a_mask_is_never_predicted_and_what_is_none_stays() {
        let s = sampler(Categorical::absorbing(3, 0).unwrap(), true);
        let x = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0];
        let (mut x0, mut eps, mut next) = ([0.0; 6], [0.0; 6], [0.0; 6]);
        s.predict(1, &x, &[90.0, 0.0, 0.0, 0.0, 0.0, 9.0], &mut x0, &mut eps).unwrap();
        assert_eq!(x0, [0.0, 0.5, 0.5, 0.0, 1.0, 0.0]);
        s.mean(1, 0, Estimate { x: &x, x0: &x0, eps: &eps }, &[], &mut [], &mut next).unwrap();
        // From abar 0.3 to 0.6: of seven parts that are masked four stay so.
        let want = [4.0f32 / 7.0, 1.5 / 7.0, 1.5 / 7.0, 0.0, 1.0, 0.0];
        assert!(next.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-6), "{next:?}");
    }

    #[test]
    fn nonsense_is_refused() {
        let s = sampler(Categorical::uniform(2).unwrap(), false);
        let (mut a, mut b) = ([0.0; 2], [0.0; 2]);
        let one = [1.0, 0.0];
        for (x, p) in
            [(one, [0.5, 0.4]), (one, [1.2, -0.2]), ([1.0; 2], [0.5; 2]), ([0.0; 2], [0.5; 2]), ([0.5; 2], [0.5; 2])]
        {
            assert_eq!(s.predict(0, &x, &p, &mut a, &mut b).unwrap_err().kind(), ErrorKind::InvalidArgument);
        }
        assert!(s.check_output_len(3, 3).is_err() && s.check_output_len(4, 8).is_err() && s.linear(0).is_err());
        assert!(s.target(4).is_err() && s.target(3).unwrap() == Level::CLEAN);
    }
}
