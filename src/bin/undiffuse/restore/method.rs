//! Which method: its name and options on the command line, what it goes with, and what makes it.

use undiffuse::posterior::operator::LinearOperator;
use undiffuse::posterior::{
    Algorithm, Calibrated, CalibratedWhite, Clamp, Ddnm, Ddrm, DiffPir, Dps, Evidence, ExactProduct, Known,
    KnownPixels, Mcg, MeanShift, Measurement, Misfit, Pigdm, PigdmRule, RSchedule, Recommended, SplitGibbs,
    SplitGibbsOptions, Tmpd,
};
use undiffuse::sampler::{Jumps, Ladder};
use undiffuse::{Error, ErrorKind, Result};

use super::operator::{Operator, OperatorArgs, Task};
use crate::args::{Args, Outcome, usage};

/// The standard deviation of the noise, where nothing is said and the method needs some.
pub const DEFAULT_SIGMA: f64 = 0.01;

/// The methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Chosen when model, operator and noise are known: see [`super::auto`].
    Auto,
    Calibrated,
    SplitGibbs,
    White,
    Dps,
    Mcg,
    Pigdm,
    Tmpd,
    Ddrm,
    Ddnm,
    DdnmPlus,
    DiffPir,
    Repaint,
    ExactProduct,
    MeanShift,
    Clamp,
}

/// What a method needs of the measurement's noise.
#[derive(Clone, Copy, PartialEq)]
enum Noise {
    Some,
    None,
    Any,
}

/// The algorithms that carry evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SamplerName {
    Ddim,
    Ddpm,
    Ancestral2015,
    RePaint,
    /// No word on the command line: it is that of its method alone.
    SplitGibbs,
}

impl SamplerName {
    /// The name of what a method recommends.
    pub fn of(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Ddpm => Self::Ddpm,
            Algorithm::Ddim { .. } => Self::Ddim,
            Algorithm::RePaint(_) => Self::RePaint,
            Algorithm::SplitGibbs(_) => Self::SplitGibbs,
        }
    }
}

impl Method {
    /// All that sample.
    pub const ALL: [Self; 15] = [
        Self::Calibrated,
        Self::SplitGibbs,
        Self::White,
        Self::Dps,
        Self::Mcg,
        Self::Pigdm,
        Self::Tmpd,
        Self::Ddrm,
        Self::Ddnm,
        Self::DdnmPlus,
        Self::DiffPir,
        Self::Repaint,
        Self::ExactProduct,
        Self::MeanShift,
        Self::Clamp,
    ];

    /// As the user types it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Calibrated => "calibrated",
            Self::SplitGibbs => "split-gibbs",
            Self::White => "white",
            Self::Dps => "dps",
            Self::Mcg => "mcg",
            Self::Pigdm => "pigdm",
            Self::Tmpd => "tmpd",
            Self::Ddrm => "ddrm",
            Self::Ddnm => "ddnm",
            Self::DdnmPlus => "ddnm+",
            Self::DiffPir => "diffpir",
            Self::Repaint => "repaint",
            Self::ExactProduct => "exact-product",
            Self::MeanShift => "mean-shift",
            Self::Clamp => "clamp",
        }
    }

    /// All that may be asked for, by their names.
    pub fn named() -> Vec<(&'static str, Self)> {
        let mut names: Vec<_> = Self::ALL.iter().map(|m| (m.name(), *m)).collect();
        names.push((Self::Auto.name(), Self::Auto));
        names
    }

    /// The options that it reads.
    fn options(self) -> &'static [&'static str] {
        match self {
            Self::Calibrated => &["iterations", "variance-products", "jump-length", "resamplings"],
            Self::SplitGibbs => &["variance-products", "ensemble", "ladder-top", "ladder-ratio"],
            Self::Auto => &["calls"],
            Self::White => &["prior-variance"],
            Self::Dps | Self::Mcg => &["zeta"],
            Self::Pigdm => &["rule"],
            Self::Ddrm => &["eta-b"],
            Self::DiffPir => &["zeta", "lambda"],
            Self::Repaint => &["jump-length", "resamplings"],
            Self::ExactProduct | Self::MeanShift => &["schedule"],
            Self::Clamp => &["known"],
            Self::Tmpd | Self::Ddnm | Self::DdnmPlus => &[],
        }
    }

    fn noise(self) -> Noise {
        match self {
            Self::Calibrated | Self::SplitGibbs | Self::White | Self::Tmpd | Self::DdnmPlus | Self::MeanShift => {
                Noise::Some
            }
            Self::Mcg | Self::Ddnm | Self::Repaint => Noise::None,
            Self::Auto | Self::Dps | Self::Pigdm | Self::Ddrm | Self::DiffPir | Self::ExactProduct | Self::Clamp => {
                Noise::Any
            }
        }
    }

    fn takes_operator(self, operator: &OperatorArgs) -> bool {
        match self {
            Self::Repaint => operator.is_mask(),
            Self::Clamp => operator.picks_pixels(),
            _ => true,
        }
    }

    fn takes_noise(self, sigma: f64) -> bool {
        match self.noise() {
            Noise::Some => sigma > 0.0,
            Noise::None => sigma == 0.0,
            Noise::Any => true,
        }
    }

    /// The methods for an operator and a noise, for messages.
    fn fitting(operator: &OperatorArgs, sigma: f64) -> String {
        // Whether the mean shift goes depends on the noise of each step, so it is not advised unseen.
        let fits = Self::ALL.iter().filter(|m| **m != Self::MeanShift);
        let fits = fits.filter(|m| m.takes_operator(operator) && m.takes_noise(sigma));
        fits.map(|m| m.name()).collect::<Vec<_>>().join(", ")
    }

    /// Whether it needs the network's vector-Jacobian product.
    pub fn needs_vjp(self) -> bool {
        matches!(self, Self::Calibrated | Self::SplitGibbs | Self::Dps | Self::Mcg | Self::Pigdm | Self::Tmpd)
    }
}

/// `--method` and its options.
#[derive(Clone, Debug)]
pub struct MethodArgs {
    /// The method.
    pub method: Method,
    given: Vec<String>,
    iterations: usize,
    variance_products: Option<usize>,
    split_gibbs: SplitGibbsOptions,
    /// What `auto` may spend: network calls of a sample, a product counted as two.
    pub calls: Option<usize>,
    prior_variance: f64,
    zeta: Option<f64>,
    rule: PigdmRule,
    eta_b: f64,
    lambda: f64,
    schedule: RSchedule,
    known: Known,
    jump_length: Option<usize>,
    resamplings: Option<usize>,
}

impl Default for MethodArgs {
    fn default() -> Self {
        Self {
            method: Method::Calibrated,
            given: Vec::new(),
            iterations: 2,
            variance_products: None,
            split_gibbs: SplitGibbsOptions::default(),
            calls: None,
            prior_variance: 1.0,
            zeta: None,
            rule: PigdmRule::Published,
            eta_b: 1.0,
            lambda: 1.0,
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
    pub fn of(method: Method) -> Self {
        Self { method, ..Self::default() }
    }

    /// Takes an option if it is one of these; its value is read from `args`.
    pub fn option(&mut self, name: &str, args: &mut Args) -> Outcome<bool> {
        let above_0 = f64::MIN_POSITIVE..=1e6;
        match name {
            "method" => {
                self.method = args.choice(&Method::named())?;
                return Ok(true);
            }
            "iterations" => self.iterations = args.number("a whole number", 1..=1000)?,
            "variance-products" => self.variance_products = Some(args.number("a whole number", 0..=16)?),
            "ensemble" => self.split_gibbs.ensemble = args.number("a whole number", 1..=1_000_000)?,
            "ladder-top" => self.split_gibbs.largest = args.number("a number", above_0)?,
            "ladder-ratio" => self.split_gibbs.ratio = Some(args.number("a number", 0.01..=0.999)?),
            "calls" => self.calls = Some(args.number("a whole number", 1..=usize::MAX)?),
            "prior-variance" => self.prior_variance = args.number("a number", above_0)?,
            "zeta" => self.zeta = Some(args.number("a number", above_0)?),
            "rule" => {
                self.rule = args.choice(&[("published", PigdmRule::Published), ("score", PigdmRule::Score)])?;
            }
            "eta-b" => self.eta_b = args.number("a number", 0.0..=1.0)?,
            "lambda" => self.lambda = args.number("a number", above_0)?,
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
        let (method, name) = (self.method, self.method.name());
        if let Some(option) = self.given.iter().find(|o| !method.options().contains(&o.as_str())) {
            let owners = Method::named().into_iter().filter(|(_, m)| m.options().contains(&option.as_str()));
            let owners = owners.map(|(name, _)| name).collect::<Vec<_>>().join(", ");
            return usage!("--{option} is for {owners}; --method {name} does not read it");
        }
        if method == Method::SplitGibbs && self.variance_products == Some(0) {
            return usage!("--variance-products is 0, expected 1 to 16 for split-gibbs");
        }
        if method == Method::DiffPir && self.zeta.is_some_and(|z| z > 1.0) {
            return usage!("--zeta is {}, expected at most 1 for diffpir", self.zeta.unwrap_or_default());
        }
        let sigma = sigma.unwrap_or(if method.noise() == Noise::None { 0.0 } else { DEFAULT_SIGMA });
        let instead = Method::fitting(operator, sigma);
        if !method.takes_operator(operator) {
            return usage!("--method {name} sets known pixels, not --operator {}: take {instead}", operator.text());
        }
        if !method.takes_noise(sigma) {
            return match method.noise() {
                Noise::None => usage!("--method {name} is for measurements without noise, --sigma 0: take {instead}"),
                _ => usage!("--method {name} needs noise, --sigma above 0: take {instead}"),
            };
        }
        Ok(sigma)
    }

    /// How the method runs on an operator unless more is said.
    pub fn recommended(&self, operator: &OperatorArgs) -> Recommended {
        match self.method {
            Method::Auto | Method::Calibrated => Recommended::CALIBRATED,
            // Its ladder follows from the measurement.
            Method::SplitGibbs => Recommended::split_gibbs(Ladder::to(1.0)),
            Method::White => Recommended::CALIBRATED_WHITE,
            Method::Pigdm => Recommended::PIGDM,
            Method::Tmpd => Recommended::TMPD,
            Method::Ddrm => Recommended::DDRM,
            Method::Ddnm | Method::DdnmPlus => Recommended::DDNM,
            Method::DiffPir => Recommended::diffpir(self.zeta(operator)),
            Method::Repaint => Recommended::REPAINT,
            Method::Dps | Method::Mcg | Method::ExactProduct | Method::MeanShift | Method::Clamp => {
                Recommended::EVERY_STEP
            }
        }
    }

    /// The options of split Gibbs sampling.
    fn split_gibbs(&self) -> SplitGibbsOptions {
        SplitGibbsOptions { products: self.variance_products.unwrap_or(self.split_gibbs.products), ..self.split_gibbs }
    }

    /// How many samples are weighed against one another; 1 where each is by itself.
    pub fn ensemble(&self) -> usize {
        if self.method == Method::SplitGibbs { self.split_gibbs.ensemble } else { 1 }
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

    /// zeta: what was said, or what was published for the kind of operator.
    pub fn zeta(&self, operator: &OperatorArgs) -> f64 {
        let published = match (self.method, operator.task()) {
            (Method::DiffPir, Task::Scaling) => 0.25,
            (Method::DiffPir, Task::Blur) => 0.1,
            (Method::DiffPir, Task::Other) => 1.0,
            (_, Task::Scaling | Task::Blur) => 0.3,
            (_, Task::Other) => 0.5,
        };
        self.zeta.unwrap_or(published)
    }

    /// Vector-Jacobian products of a step.
    pub fn products(&self) -> usize {
        match self.method {
            Method::Calibrated => self.iterations + self.variance_products.unwrap_or(1),
            Method::SplitGibbs => self.split_gibbs().products,
            Method::Tmpd => 2,
            method => usize::from(method.needs_vjp()),
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
        let seen = || measure(operator.linear(), y, each, sigma);
        let evidence: Box<dyn Evidence + 'a> = match self.method {
            Method::Calibrated => {
                let calibrated = Calibrated::new(seen()?, self.iterations)?;
                Box::new(calibrated.with_variance_products(self.variance_products.unwrap_or(1))?)
            }
            Method::SplitGibbs => Box::new(SplitGibbs::new(seen()?, &self.split_gibbs())?),
            Method::Auto => {
                return Err(Error::new(ErrorKind::InvalidArgument, "--method auto has chosen no method"));
            }
            Method::White => Box::new(CalibratedWhite::new(seen()?, self.prior_variance)?),
            Method::Dps => Box::new(Dps::new(seen()?, zeta, Misfit::Gaussian)?),
            Method::Mcg => Box::new(Mcg::new(seen()?, zeta)?),
            Method::Pigdm => Box::new(Pigdm::new(seen()?, self.rule)?),
            Method::Tmpd => Box::new(Tmpd::new(seen()?)?),
            Method::Ddrm => {
                let ddrm = Ddrm::new(seen()?, self.eta_b)?;
                return Ok(Prepared { evidence: Box::new(ddrm.clone()), start: Some(ddrm) });
            }
            Method::Ddnm => Box::new(Ddnm::new(seen()?)?),
            Method::DdnmPlus => Box::new(Ddrm::ddnm_plus(seen()?)?),
            Method::DiffPir => Box::new(DiffPir::new(seen()?, self.lambda)?),
            Method::Repaint => match operator {
                Operator::Mask(mask) => Box::new(KnownPixels::new(measure(mask.clone(), y, each, sigma)?)?),
                Operator::Other(o) => {
                    let text = format!("RePaint fills in the pixels that a mask hides; {} is no mask", o.name());
                    return Err(Error::new(ErrorKind::Unsupported, text));
                }
            },
            Method::ExactProduct => Box::new(ExactProduct::new(seen()?, self.schedule)?),
            Method::MeanShift => Box::new(MeanShift::new(seen()?, self.schedule)),
            Method::Clamp => Box::new(Clamp::new(seen()?, self.known)?),
        };
        Ok(Prepared { evidence, start: None })
    }
}

fn measure<O: LinearOperator>(operator: O, y: &[f32], each: bool, sigma: f64) -> Result<Measurement<O>> {
    match (each, sigma == 0.0) {
        (true, _) => Measurement::each(operator, y, 0, sigma),
        (false, true) => Measurement::exact(operator, y),
        (false, false) => Measurement::new(operator, y, sigma),
    }
}
