//! Which method: its name and options on the command line, what it goes with, and what makes it.

use undiffuse::posterior::operator::{ForwardOperator, LinearOperator};
use undiffuse::posterior::{
    Algorithm, Calibrated, CalibratedWhite, Clamp, Daps, DapsOptions, Ddnm, Ddrm, DiffPir, Dps, Evidence, ExactProduct,
    Fps, FpsOptions, Known, KnownPixels, Mcg, MeanShift, Measurement, MethodKind, MethodNoise, MethodOperator, Misfit,
    Pigdm, PigdmRule, RSchedule, Recommended, RedDiff, Sitcom, SitcomOptions, SplitGibbs, SplitGibbsOptions, Tmpd,
};
use undiffuse::sampler::Jumps;
use undiffuse::{Error, ErrorKind, Result};

use super::operator::{Operator, OperatorArgs, Task};
use crate::args::{Args, Outcome, usage};

/// The standard deviation of the noise, where nothing is said and the method needs some.
pub const DEFAULT_SIGMA: f64 = 0.01;

/// As the user types it.
const AUTO: &str = "auto";

/// The algorithms that carry evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SamplerName {
    Ddim,
    Ddpm,
    Ancestral2015,
    RePaint,
    /// No word on the command line: it is that of its method alone.
    SplitGibbs,
    /// Likewise.
    DecoupledAnnealing,
    /// Likewise.
    InputOptimization,
}

impl SamplerName {
    /// The name of what a method recommends.
    pub fn of(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Ddpm => Self::Ddpm,
            Algorithm::Ddim { .. } => Self::Ddim,
            Algorithm::RePaint(_) => Self::RePaint,
            Algorithm::SplitGibbs(_) => Self::SplitGibbs,
            Algorithm::DecoupledAnnealing { .. } => Self::DecoupledAnnealing,
            Algorithm::InputOptimization { .. } => Self::InputOptimization,
        }
    }
}

/// What denoisers of a stated sigma do with a noisy picture, and other models do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfDenoiser {
    /// One call: the mean of the posterior.
    Mmse,
    /// The reverse chain from the picture itself: samples of the posterior.
    Reverse,
}

impl OfDenoiser {
    /// As the user types it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mmse => "mmse",
            Self::Reverse => "reverse",
        }
    }
}

/// What `--method` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// A method.
    Kind(MethodKind),
    /// `auto`.
    Auto,
    /// Of denoisers of a stated sigma.
    OfDenoiser(OfDenoiser),
}

/// What `--method` takes.
pub fn named() -> Vec<(&'static str, Named)> {
    let mut names: Vec<_> = MethodKind::NAMES.map(|(name, kind)| (name, Named::Kind(kind))).into();
    names.push((AUTO, Named::Auto));
    names.extend([OfDenoiser::Mmse, OfDenoiser::Reverse].map(|of| (of.name(), Named::OfDenoiser(of))));
    names
}

/// The options that a method reads.
fn options(method: Named) -> &'static [&'static str] {
    let kind = match method {
        Named::Kind(kind) => kind,
        Named::Auto => return &["calls"],
        Named::OfDenoiser(_) => return &[],
    };
    match kind {
        MethodKind::Calibrated => &["iterations", "variance-products", "jump-length", "resamplings"],
        MethodKind::SplitGibbs => &["variance-products", "ensemble", "ladder-top", "ladder-ratio"],
        MethodKind::CalibratedWhite => &["prior-variance"],
        MethodKind::Dps => &["zeta", "misfit"],
        MethodKind::Mcg => &["zeta"],
        MethodKind::Daps => &["langevin-steps", "langevin-length", "flow-steps"],
        MethodKind::RedDiff => &["rate", "lambda"],
        MethodKind::Sitcom => &["gradient-steps", "rate", "lambda", "stop"],
        MethodKind::Fps => &["ensemble"],
        MethodKind::Pigdm => &["rule"],
        MethodKind::Ddrm => &["eta-b"],
        MethodKind::DiffPir => &["zeta", "lambda"],
        MethodKind::KnownPixels => &["jump-length", "resamplings"],
        MethodKind::ExactProduct | MethodKind::MeanShift => &["schedule"],
        MethodKind::Clamp => &["known"],
        _ => &[],
    }
}

fn takes_operator(kind: MethodKind, operator: &OperatorArgs) -> bool {
    match kind.traits().operator {
        MethodOperator::Mask => operator.is_mask(),
        MethodOperator::Elements => operator.picks_pixels(),
        MethodOperator::Forward => true,
        _ => operator.is_linear(),
    }
}

/// The methods for an operator and a noise, for messages.
fn fitting(operator: &OperatorArgs, sigma: f64) -> String {
    // Whether the mean shift goes depends on the noise of each step, so it is not advised unseen.
    let fits = MethodKind::NAMES.iter().filter(|(_, m)| *m != MethodKind::MeanShift);
    let fits = fits.filter(|(_, m)| takes_operator(*m, operator) && m.traits().noise.takes(sigma));
    fits.map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// `--method` and its options.
#[derive(Clone, Debug)]
pub struct MethodArgs {
    /// The method; `None` is `auto`, which chooses when model, operator and noise are known: see [`super::auto`].
    pub method: Option<MethodKind>,
    /// In its place, what denoisers of a stated sigma do.
    pub of_denoiser: Option<OfDenoiser>,
    /// Whether it was said.
    pub is_said: bool,
    given: Vec<String>,
    iterations: usize,
    variance_products: Option<usize>,
    split_gibbs: SplitGibbsOptions,
    /// Samples of a group, of the methods that have groups.
    ensemble: Option<usize>,
    daps: DapsOptions,
    sitcom: SitcomOptions,
    /// What `auto` may spend: network calls of a sample, a product counted as two.
    pub calls: Option<usize>,
    prior_variance: f64,
    zeta: Option<f64>,
    misfit: Misfit,
    rule: PigdmRule,
    eta_b: f64,
    lambda: Option<f64>,
    rate: Option<f64>,
    schedule: RSchedule,
    known: Known,
    jump_length: Option<usize>,
    resamplings: Option<usize>,
}

impl Default for MethodArgs {
    fn default() -> Self {
        Self {
            method: Some(MethodKind::Calibrated),
            of_denoiser: None,
            is_said: false,
            given: Vec::new(),
            iterations: 2,
            variance_products: None,
            split_gibbs: SplitGibbsOptions::default(),
            ensemble: None,
            daps: DapsOptions::default(),
            sitcom: SitcomOptions::default(),
            calls: None,
            prior_variance: 1.0,
            zeta: None,
            misfit: Misfit::Gaussian,
            rule: PigdmRule::Published,
            eta_b: 1.0,
            lambda: None,
            rate: None,
            schedule: RSchedule::Constant,
            known: Known::Clean,
            jump_length: None,
            resamplings: None,
        }
    }
}

/// What acts on the chain, and for DDRM what also makes its x_T.
pub struct Prepared<'a> {
    /// The evidence.
    pub evidence: Box<dyn Evidence + 'a>,
    /// DDRM once more.
    pub start: Option<Ddrm<&'a dyn LinearOperator>>,
}

impl MethodArgs {
    /// A method with its usual options.
    pub fn of(method: MethodKind) -> Self {
        Self { method: Some(method), ..Self::default() }
    }

    /// As the user types it.
    pub fn name(&self) -> &'static str {
        match self.said() {
            Named::Kind(kind) => kind.name(),
            Named::Auto => AUTO,
            Named::OfDenoiser(of) => of.name(),
        }
    }

    fn said(&self) -> Named {
        match (self.of_denoiser, self.method) {
            (Some(of), _) => Named::OfDenoiser(of),
            (None, Some(kind)) => Named::Kind(kind),
            (None, None) => Named::Auto,
        }
    }

    /// The option that was given and the method does not read, if there is one.
    pub fn unread(&self) -> Option<&str> {
        let known = options(self.said());
        self.given.iter().map(String::as_str).find(|o| !known.contains(o))
    }

    /// Takes an option if it is one of these; its value is read from `args`.
    pub fn option(&mut self, name: &str, args: &mut Args) -> Outcome<bool> {
        let above_0 = f64::MIN_POSITIVE..=1e6;
        match name {
            "method" => {
                self.is_said = true;
                (self.method, self.of_denoiser) = match args.choice(&named())? {
                    Named::Kind(kind) => (Some(kind), None),
                    Named::Auto => (None, None),
                    // No product of the network is needed.
                    Named::OfDenoiser(of) => (Some(MethodKind::DiffPir), Some(of)),
                };
                return Ok(true);
            }
            "iterations" => self.iterations = args.number("a whole number", 1..=1000)?,
            "variance-products" => self.variance_products = Some(args.number("a whole number", 0..=16)?),
            "ensemble" => self.ensemble = Some(args.number("a whole number", 1..=1_000_000)?),
            "ladder-top" => self.split_gibbs.largest = args.number("a number", above_0)?,
            "ladder-ratio" => self.split_gibbs.ratio = Some(args.number("a number", 0.01..=0.999)?),
            "langevin-steps" => self.daps.langevin_steps = args.number("a whole number", 1..=1_000_000)?,
            "langevin-length" => self.daps.langevin_length = args.number("a number", f64::MIN_POSITIVE..=1.999)?,
            "flow-steps" => self.daps.flow_steps = args.number("a whole number", 1..=1000)?,
            "gradient-steps" => self.sitcom.gradient_steps = args.number("a whole number", 1..=100_000)?,
            "stop" => self.sitcom.stop = Some(args.number("a number", 0.0..=1e6)?),
            "calls" => self.calls = Some(args.number("a whole number", 1..=usize::MAX)?),
            "prior-variance" => self.prior_variance = args.number("a number", above_0)?,
            "zeta" => self.zeta = Some(args.number("a number", above_0)?),
            "misfit" => self.misfit = args.choice(&Misfit::NAMES)?,
            "rule" => {
                self.rule = args.choice(&[("published", PigdmRule::Published), ("score", PigdmRule::Score)])?;
            }
            "eta-b" => self.eta_b = args.number("a number", 0.0..=1.0)?,
            "lambda" => self.lambda = Some(args.number("a number", above_0)?),
            "rate" => self.rate = Some(args.number("a number", above_0)?),
            "schedule" => {
                self.schedule = args.choice(&[("constant", RSchedule::Constant), ("ramp", RSchedule::Ramp)])?;
            }
            "known" => self.known = args.choice(&[("clean", Known::Clean), ("renoised", Known::Renoised)])?,
            "jump-length" => self.jump_length = Some(args.number("a whole number", 1..=1_000_000)?),
            "resamplings" => self.resamplings = Some(args.number("a whole number", 1..=1_000_000)?),
            _ => return Ok(false),
        }
        self.given.push(name.into());
        Ok(true)
    }

    /// Checks that method, options, operator and noise go together. Gives the noise: `sigma`, or what suits the method.
    pub fn check(&self, operator: &OperatorArgs, sigma: Option<f64>) -> Outcome<f64> {
        let (method, name) = (self.method, self.name());
        if let Some(option) = self.given.iter().find(|o| !options(self.said()).contains(&o.as_str())) {
            let owners = named().into_iter().filter(|(_, m)| options(*m).contains(&option.as_str()));
            let owners = owners.map(|(name, _)| name).collect::<Vec<_>>().join(", ");
            return usage!("--{option} is for {owners}; --method {name} does not read it");
        }
        if method == Some(MethodKind::SplitGibbs) && self.variance_products == Some(0) {
            return usage!("--variance-products is 0, expected 1 to 16 for split-gibbs");
        }
        if method == Some(MethodKind::DiffPir) && self.zeta.is_some_and(|z| z > 1.0) {
            return usage!("--zeta is {}, expected at most 1 for diffpir", self.zeta.unwrap_or_default());
        }
        if self.of_denoiser.is_some() && !operator.is_identity() {
            return usage!(
                "--method {name} takes noise out of a picture, and no --operator {}: take diffpir",
                operator.text()
            );
        }
        let noise = method.map_or(MethodNoise::Any, |kind| kind.traits().noise);
        let noise = if self.of_denoiser.is_some() { MethodNoise::Positive } else { noise };
        let sigma = sigma.unwrap_or(if noise == MethodNoise::Zero { 0.0 } else { DEFAULT_SIGMA });
        let instead = fitting(operator, sigma);
        if method.is_some_and(|kind| !takes_operator(kind, operator)) {
            let what = if operator.is_linear() { "sets known pixels, not" } else { "is for linear operators, not" };
            return usage!("--method {name} {what} --operator {}: take {instead}", operator.text());
        }
        if !noise.takes(sigma) {
            return match noise {
                MethodNoise::Zero => {
                    usage!("--method {name} is for measurements without noise, --sigma 0: take {instead}")
                }
                _ => usage!("--method {name} needs noise, --sigma above 0: take {instead}"),
            };
        }
        Ok(sigma)
    }

    /// How the method runs on an operator unless more is said.
    pub fn recommended(&self, operator: &OperatorArgs) -> Recommended {
        match self.method {
            None => Recommended::CALIBRATED,
            Some(MethodKind::DiffPir) => Recommended::diffpir(self.zeta(operator)),
            Some(MethodKind::Daps) => Recommended::daps(self.daps.flow_steps),
            Some(MethodKind::Sitcom) => Recommended::sitcom(self.sitcom.gradient_steps),
            Some(kind) => kind.traits().recommended,
        }
    }

    /// The options of split Gibbs sampling.
    fn split_gibbs(&self) -> SplitGibbsOptions {
        let products = self.variance_products.unwrap_or(self.split_gibbs.products);
        SplitGibbsOptions { products, ensemble: self.ensemble.unwrap_or(self.split_gibbs.ensemble), ..self.split_gibbs }
    }

    /// The options of SITCOM.
    fn sitcom(&self) -> SitcomOptions {
        let usual = self.sitcom;
        SitcomOptions { rate: self.rate.unwrap_or(usual.rate), lambda: self.lambda.unwrap_or(usual.lambda), ..usual }
    }

    /// The options of FPS.
    fn fps(&self) -> FpsOptions {
        self.ensemble.map_or(FpsOptions::default(), |ensemble| FpsOptions { ensemble })
    }

    /// How many samples are weighed against one another; 1 where each is by itself.
    pub fn ensemble(&self) -> usize {
        match self.method {
            Some(MethodKind::SplitGibbs) => self.split_gibbs().ensemble,
            Some(MethodKind::Fps) => self.fps().ensemble,
            _ => 1,
        }
    }

    /// How far and how often RePaint goes back: what was said, or `usual`.
    pub fn jumps(&self, usual: Jumps) -> Jumps {
        Jumps {
            length: self.jump_length.unwrap_or(usual.length),
            resamplings: self.resamplings.unwrap_or(usual.resamplings),
        }
    }

    /// The option that only jumps read, if one was given.
    pub fn of_jumps(&self) -> Option<&str> {
        self.given.iter().map(String::as_str).find(|o| ["jump-length", "resamplings"].contains(o))
    }

    /// zeta: what was said, or what was published for the kind of operator; of DiffPIR the best measured.
    pub fn zeta(&self, operator: &OperatorArgs) -> f64 {
        let published = match (self.method, operator.task()) {
            // Published are 0.25 for scaling and 0.1 for blur, which have 1.5 to 2.7 dB less on the digits and 0.5 to
            // 2.4 on photographs.
            (Some(MethodKind::DiffPir), _) => 1.0,
            (_, Task::Scaling | Task::Blur) => 0.3,
            (_, Task::Other) => 0.5,
        };
        self.zeta.unwrap_or(published)
    }

    /// Vector-Jacobian products of a step.
    pub fn products(&self) -> usize {
        match self.method {
            Some(MethodKind::Calibrated) => self.iterations + self.variance_products.unwrap_or(1),
            Some(MethodKind::SplitGibbs) => self.split_gibbs().products,
            method => method.map_or(0, |kind| kind.traits().products),
        }
    }

    /// The evidence: `y` has one row for all samples, or one for `each` from sample 0 on.
    pub fn prepare<'a>(
        &self,
        operator: &'a Operator,
        zeta: f64,
        y: &[f32],
        each: bool,
        sigma: f64,
    ) -> Result<Prepared<'a>> {
        let seen = || measure(operator.linear()?, y, each, sigma);
        let any = || measure(operator.forward(), y, each, sigma);
        let Some(kind) = self.method else {
            return Err(Error::new(ErrorKind::InvalidArgument, "--method auto has chosen no method"));
        };
        let evidence: Box<dyn Evidence + 'a> = match kind {
            MethodKind::Calibrated => {
                let calibrated = Calibrated::new(seen()?, self.iterations)?;
                Box::new(calibrated.with_variance_products(self.variance_products.unwrap_or(1))?)
            }
            MethodKind::SplitGibbs => Box::new(SplitGibbs::new(seen()?, &self.split_gibbs())?),
            MethodKind::CalibratedWhite => Box::new(CalibratedWhite::new(seen()?, self.prior_variance)?),
            MethodKind::Dps => Box::new(Dps::new(any()?, zeta, self.misfit)?),
            MethodKind::Daps => Box::new(Daps::new(any()?, &self.daps)?),
            MethodKind::RedDiff => {
                Box::new(RedDiff::new(any()?, self.rate.unwrap_or(0.1), self.lambda.unwrap_or(0.25))?)
            }
            MethodKind::Sitcom => Box::new(Sitcom::new(any()?, &self.sitcom())?),
            MethodKind::Fps => Box::new(Fps::new(seen()?, &self.fps())?),
            MethodKind::Mcg => Box::new(Mcg::new(seen()?, zeta)?),
            MethodKind::Pigdm => Box::new(Pigdm::new(seen()?, self.rule)?),
            MethodKind::Tmpd => Box::new(Tmpd::new(seen()?)?),
            MethodKind::Ddrm => {
                let ddrm = Ddrm::new(seen()?, self.eta_b)?;
                return Ok(Prepared { evidence: Box::new(ddrm.clone()), start: Some(ddrm) });
            }
            MethodKind::Ddnm => Box::new(Ddnm::new(seen()?)?),
            MethodKind::DdnmPlus => Box::new(Ddrm::ddnm_plus(seen()?)?),
            MethodKind::DiffPir => Box::new(DiffPir::new(seen()?, self.lambda.unwrap_or(1.0))?),
            MethodKind::KnownPixels => match operator {
                Operator::Mask(mask) => Box::new(KnownPixels::new(measure(mask.clone(), y, each, sigma)?)?),
                other => {
                    let name = other.forward().label();
                    let text = format!("RePaint fills in the pixels that a mask hides; {name} is no mask");
                    return Err(Error::new(ErrorKind::Unsupported, text));
                }
            },
            MethodKind::ExactProduct => Box::new(ExactProduct::new(seen()?, self.schedule)?),
            MethodKind::MeanShift => Box::new(MeanShift::new(seen()?, self.schedule)),
            MethodKind::Clamp => Box::new(Clamp::new(seen()?, self.known)?),
            other => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!("this program does not know the method {other}"),
                ));
            }
        };
        Ok(Prepared { evidence, start: None })
    }
}

fn measure<O: ForwardOperator>(operator: O, y: &[f32], each: bool, sigma: f64) -> Result<Measurement<O>> {
    match (each, sigma == 0.0) {
        (true, _) => Measurement::each(operator, y, 0, sigma),
        (false, true) => Measurement::exact(operator, y),
        (false, false) => Measurement::new(operator, y, sigma),
    }
}
