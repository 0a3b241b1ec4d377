//! Every sampler that there is, with the options that change what it keeps or draws, and a denoiser that is exact for
//! each: what a network of its kind should give of a prior that is known. The list walks [`SamplerKind::NAMES`], so
//! that a new sampler is in it from the start.

#![allow(dead_code)]

use undiffuse::Result;
use undiffuse::denoiser::{BitSequences, Call, ClassSequences, Component, Covariance, Denoiser, GaussianMixture};
use undiffuse::process::{Binomial, Categorical, Linear, Prediction, PredictionType};
use undiffuse::sampler::{
    AlgorithmType, BitPrediction, Chain2015, Churn, ContinuousOptions, D3pmConfig, DdimNoise, FinalSigmas, Jumps,
    Readout2015, Sampler, SamplerKind, SamplerOptions, SchedulerConfig, StateSpace, Steps, VarianceType,
    euler_maruyama,
};
use undiffuse::schedule::{Arithmetic, Level, TimestepSpacing};
use undiffuse::tensor::Dims;

pub type BoxedSampler = Box<dyn Sampler + Send + Sync>;

/// A sampler and what it was made from.
pub struct Case {
    /// The name of the command line, and what is set.
    pub name: String,
    pub kind: Option<SamplerKind>,
    pub sampler: BoxedSampler,
}

/// What is changed of the defaults, by the reader's name for it.
type Variant = (&'static str, fn(&mut SchedulerConfig, &mut SamplerOptions));

/// A model whose last level has no signal, as Lin et al. 2024 train them.
fn zero_snr(c: &mut SchedulerConfig) {
    (c.rescale_betas_zero_snr, c.prediction_type) = (true, PredictionType::VPrediction);
    c.timestep_spacing = TimestepSpacing::Trailing;
}

/// The ways to run a kind that differ in history, stages or noise; of a kind that is not named the defaults.
fn variants(kind: SamplerKind) -> Vec<Variant> {
    use SamplerKind::*;
    let usual: Variant = ("", |_, _| {});
    let order_3: Variant = ("order 3", |c, _| c.solver.solver_order = 3);
    match kind {
        Ddpm => vec![
            ("fixed_small", |c, _| c.variance_type = VarianceType::FixedSmall),
            ("fixed_large", |c, _| c.variance_type = VarianceType::FixedLarge),
            ("learned_range", |c, _| c.variance_type = VarianceType::LearnedRange),
            ("terminal SNR of zero", |c, _| zero_snr(c)),
        ],
        Ddim => vec![
            ("eta 0", |_, _| {}),
            ("eta 1", |_, o| o.eta = 1.0),
            ("eta 0.85 of the level", |_, o| (o.eta, o.ddim_noise) = (0.85, DdimNoise::Level)),
            ("eta 1 of the level", |_, o| (o.eta, o.ddim_noise) = (1.0, DdimNoise::Level)),
            ("terminal SNR of zero", |c, _| zero_snr(c)),
            ("terminal SNR of zero, eta 1 of the level", |c, o| {
                zero_snr(c);
                (o.eta, o.ddim_noise) = (1.0, DdimNoise::Level);
            }),
        ],
        DpmSolverMultistep => vec![
            ("order 1", |c, _| c.solver.solver_order = 1),
            ("order 2", |_, _| {}),
            order_3,
            ("dpmsolver", |c, _| {
                (c.solver.algorithm_type, c.grid.final_sigmas_type) = (AlgorithmType::DpmSolver, FinalSigmas::SigmaMin);
            }),
            ("sde-dpmsolver++", |c, _| c.solver.algorithm_type = AlgorithmType::SdeDpmSolverPlusPlus),
            ("flow", |c, _| {
                (c.grid.use_flow_sigmas, c.prediction_type) = (true, PredictionType::Flow);
            }),
        ],
        DpmSolverSinglestep => vec![("order 2", |_, _| {}), order_3],
        UniPc => vec![
            ("order 2", |_, _| {}),
            order_3,
            ("on eps", |c, _| (c.solver.predict_x0, c.grid.final_sigmas_type) = (false, FinalSigmas::SigmaMin)),
            ("no corrector", |c, _| c.solver.disable_corrector = (0..1000).collect()),
        ],
        Deis => vec![("order 2", |_, _| {}), order_3],
        Euler => vec![usual, ("churn", |_, o| o.churn = Churn { s_churn: 4.0, ..Churn::default() })],
        Pndm => vec![usual, ("skip_prk_steps", |c, _| c.solver.skip_prk_steps = true)],
        Tcd => vec![usual, ("gamma 0", |_, o| o.tcd_gamma = 0.0)],
        EdmHeun => vec![usual, ("churn", |_, o| o.churn = Churn { s_churn: 4.0, ..Churn::default() })],
        ScoreSdeVe => vec![usual, ("no corrections", |c, _| c.solver.correct_steps = 0)],
        _ => vec![usual],
    }
}

/// All of them, with about so many calls (two stages a step make twice as many).
pub fn every(steps: usize) -> Vec<Case> {
    let mut all = Vec::new();
    for (cli, kind) in SamplerKind::NAMES {
        for (what, change) in variants(kind) {
            let name = if what.is_empty() { cli.to_string() } else { format!("{cli}, {what}") };
            let mut config = SchedulerConfig { clip_sample: false, ..SchedulerConfig::new(kind) };
            let mut options =
                SamplerOptions { steps: Steps::Count(steps), arithmetic: Arithmetic::Float64, ..Default::default() };
            // No fewer than the steps of the run.
            config.num_train_timesteps = config.num_train_timesteps.max(steps);
            config.solver.original_inference_steps = config.solver.original_inference_steps.max(steps);
            if kind == SamplerKind::D3pm {
                config.num_train_timesteps = steps;
                config.d3pm = D3pmConfig { num_classes: 2, logits: false, ..D3pmConfig::default() };
            }
            if kind.is_2015() {
                config.num_train_timesteps = steps;
                options.steps = Steps::All;
                config.prediction_type = PredictionType::Epsilon;
                let readout = Readout2015::Prediction(PredictionType::Epsilon);
                let bit_prediction = BitPrediction::Clean;
                config.chain_2015 = Chain2015 { readout, bit_prediction, logits: false, ..Chain2015::default() };
            }
            change(&mut config, &mut options);
            let sampler = config.sampler(&options).unwrap_or_else(|e| panic!("{name}: {e}"));
            all.push(Case { name, kind: Some(kind), sampler });
        }
    }
    let config = SchedulerConfig { clip_sample: false, ..SchedulerConfig::new(SamplerKind::Ddpm) };
    let options = SamplerOptions { steps: Steps::Count(steps), arithmetic: Arithmetic::Float64, ..Default::default() };
    let jumps = config.repaint(&options, Jumps { length: 2, resamplings: 2 }).unwrap();
    all.push(Case { name: "RePaint's schedule".into(), kind: None, sampler: Box::new(jumps) });
    let continuous = ContinuousOptions { steps, ..ContinuousOptions::default() };
    let continuous = euler_maruyama(&continuous, Prediction::default()).unwrap();
    all.push(Case { name: "Euler-Maruyama".into(), kind: None, sampler: Box::new(continuous) });
    all
}

/// A denoiser for a case, over samples of `dims` whose prior is these components.
pub fn exact(sampler: &dyn Sampler, dims: Dims, parts: &[Component], batch: usize) -> Box<dyn Denoiser> {
    match sampler.space() {
        StateSpace::Classes { count, .. } => {
            let positions = dims.elements() / count;
            let rows: Vec<u32> = (0..2).flat_map(|class| (0..positions).map(move |i| (i as u32 + class) % 2)).collect();
            Box::new(ClassSequences::new(dims, &rows, &[1.0, 2.0], Categorical::uniform(count).unwrap()).unwrap())
        }
        StateSpace::Bits { .. } => {
            let n = dims.elements();
            let rows: Vec<bool> = (0..3).flat_map(|phase| (0..n).map(move |i| i % 3 == phase)).collect();
            Box::new(BitSequences::new(dims, &rows, &[1.0; 3], Binomial::new(0.5).unwrap()).unwrap())
        }
        _ => Box::new(Exact::new(sampler, dims, parts, batch)),
    }
}

/// Two Gaussians.
pub fn two_parts(n: usize) -> [Component; 2] {
    [-0.5, 0.4].map(|m| Component {
        weight: 1.0,
        mean: (0..n).map(|i| m * (1.0 + 0.1 * i as f64)).collect(),
        covariance: Covariance::Diagonal(vec![0.04; n]),
    })
}

/// What makes the sampler's x_0 the mean of x_0 given x_t of a mixture: its network's output, worked out from how the
/// sampler reads it.
pub struct Exact {
    prior: GaussianMixture,
    /// Of each call the level that the network is shown, that of x, what x is multiplied by, and how x_0 follows.
    calls: Vec<(Level, Level, f64, Linear)>,
    outputs: usize,
    x: Vec<f32>,
    of: Vec<f32>,
    /// Of a sampler that chooses its levels, whose network gives eps: there are no calls to look up.
    adaptive: bool,
    /// Mean and variances of a prior of independent elements, of which x_0 is where the flow leads: what a network is
    /// distilled to give.
    distilled: Option<(Vec<f64>, Vec<f64>)>,
}

impl Exact {
    pub fn new(sampler: &dyn Sampler, dims: Dims, parts: &[Component], batch: usize) -> Self {
        let n = dims.elements();
        let calls = sampler.levels().iter().enumerate().map(|(i, &level)| {
            let by = f64::from(sampler.input_scale(i));
            let seen = Level { alpha: by * level.alpha, sigma: by * level.sigma, ..level };
            (seen, level, by, sampler.linear(i).unwrap())
        });
        Self {
            prior: GaussianMixture::new(dims, parts, PredictionType::Sample).unwrap(),
            calls: calls.collect(),
            outputs: if sampler.check_output_len(n, n).is_ok() { n } else { 2 * n },
            x: vec![0.0; batch * n],
            of: vec![0.0; batch * n],
            adaptive: sampler.adaptive().is_some(),
            distilled: None,
        }
    }

    /// For samplers of consistency models, of the prior N(`mean`, diag(`variances`)): x_0 is the end of the probability
    /// flow through x_t.
    pub fn distilled(sampler: &dyn Sampler, dims: Dims, mean: &[f64], variances: &[f64], batch: usize) -> Self {
        let covariance = Covariance::Diagonal(variances.to_vec());
        let part = Component { weight: 1.0, mean: mean.to_vec(), covariance };
        Self { distilled: Some((mean.to_vec(), variances.to_vec())), ..Self::new(sampler, dims, &[part], batch) }
    }

    fn find(&self, call: &Call<'_>) -> (Level, f64, Linear) {
        if self.adaptive {
            return (call.level, 1.0, Prediction::default().linear(&call.level));
        }
        let found = self.calls.iter().find(|c| c.0 == call.level);
        let &(_, level, by, linear) = found.unwrap_or_else(|| panic!("{:?} is no level of the sampler", call.level));
        (level, by, linear)
    }
}

impl Denoiser for Exact {
    fn name(&self) -> &str {
        "exact"
    }
    fn sample_dims(&self) -> Dims {
        self.prior.sample_dims()
    }
    fn output_len(&self) -> usize {
        self.outputs
    }
    fn predict(&mut self, call: &Call<'_>, input: &[f32], out: &mut [f32]) -> Result<()> {
        let n = self.prior.sample_dims().elements();
        let (level, by, l) = self.find(call);
        let (x, x0) = (&mut self.x[..input.len()], &mut self.of[..input.len()]);
        x.iter_mut().zip(input).for_each(|(x, i)| *x = (f64::from(*i) / by) as f32);
        match &self.distilled {
            None => self.prior.predict(&Call { level, ..*call }, x, x0)?,
            Some((mean, variances)) => {
                for (i, (x0, x)) in x0.iter_mut().zip(&*x).enumerate() {
                    let (m, v) = (mean[i % n], variances[i % n]);
                    let at = (v / (level.alpha * level.alpha * v + level.sigma * level.sigma)).sqrt();
                    *x0 = (m + at * (f64::from(*x) - level.alpha * m)) as f32;
                }
            }
        }
        for ((x, x0), out) in x.chunks(n).zip(x0.chunks(n)).zip(out.chunks_mut(self.outputs)) {
            // A learned variance is somewhere between its bounds.
            out.fill(0.2);
            for ((x, x0), out) in x.iter().zip(x0).zip(out) {
                let (x, x0) = (f64::from(*x), f64::from(*x0));
                // Without noise x is x_0, and there is no eps.
                *out = if level.sigma > 0.0 { ((x0 - l.x0_x * x) / l.x0_output) as f32 } else { 0.0 };
            }
        }
        Ok(())
    }
    fn has_vjp(&self) -> bool {
        self.distilled.is_none()
    }
    fn vjp(&mut self, call: &Call<'_>, input: &[f32], v: &[f32], out: &mut [f32]) -> Result<()> {
        let n = self.prior.sample_dims().elements();
        let (level, by, l) = self.find(call);
        let (x, own) = (&mut self.x[..input.len()], &mut self.of[..input.len()]);
        x.iter_mut().zip(input).for_each(|(x, i)| *x = (f64::from(*i) / by) as f32);
        for (own, v) in own.chunks_mut(n).zip(v.chunks(self.outputs)) {
            own.copy_from_slice(&v[..n]);
        }
        self.prior.vjp(&Call { level, ..*call }, x, own, out)?;
        for (out, v) in out.iter_mut().zip(own) {
            *out = ((f64::from(*out) - l.x0_x * f64::from(*v)) / (l.x0_output * by)) as f32;
        }
        Ok(())
    }
}
