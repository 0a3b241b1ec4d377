//! The methods by name, with what each needs and takes. It is said once, here; the program, C and C++ read it.

use core::fmt;
use core::str::FromStr;

use super::{DapsOptions, Recommended, SitcomOptions};
use crate::error::{Error, Result, err};
use crate::sampler::Ladder;

/// A method that samples from the posterior of a [`Measurement`](super::Measurement).
///
/// ```
/// use undiffuse::posterior::{MethodKind, MethodNoise};
///
/// let kind: MethodKind = "pigdm".parse()?;
/// assert_eq!(kind.traits().products, 1);
/// assert_eq!(MethodKind::Ddnm.traits().noise, MethodNoise::Zero);
/// let without_products = MethodKind::NAMES.iter().filter(|(_, kind)| !kind.needs_vjp());
/// assert_eq!(without_products.count(), 12);
/// # Ok::<(), undiffuse::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MethodKind {
    /// [`Calibrated`](super::Calibrated).
    Calibrated,
    /// [`SplitGibbs`](super::SplitGibbs).
    SplitGibbs,
    /// [`CalibratedWhite`](super::CalibratedWhite).
    CalibratedWhite,
    /// [`Dps`](super::Dps).
    Dps,
    /// [`Daps`](super::Daps).
    Daps,
    /// [`RedDiff`](super::RedDiff).
    RedDiff,
    /// [`Sitcom`](super::Sitcom).
    Sitcom,
    /// [`Fps`](super::Fps).
    Fps,
    /// [`Mcg`](super::Mcg).
    Mcg,
    /// [`Pigdm`](super::Pigdm).
    Pigdm,
    /// [`Tmpd`](super::Tmpd).
    Tmpd,
    /// [`Ddrm`](super::Ddrm).
    Ddrm,
    /// [`Ddnm`](super::Ddnm).
    Ddnm,
    /// [`Ddrm::ddnm_plus`](super::Ddrm::ddnm_plus).
    DdnmPlus,
    /// [`DiffPir`](super::DiffPir).
    DiffPir,
    /// [`KnownPixels`](super::KnownPixels), with RePaint's jumps.
    KnownPixels,
    /// [`ExactProduct`](super::ExactProduct).
    ExactProduct,
    /// [`MeanShift`](super::MeanShift).
    MeanShift,
    /// [`Clamp`](super::Clamp).
    Clamp,
}

/// Which standard deviations of a measurement's noise a method takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MethodNoise {
    /// 0 and above.
    Any,
    /// Above 0.
    Positive,
    /// 0: it takes what was measured as exact, so noise in it would be kept as data.
    Zero,
}

impl MethodNoise {
    /// Whether it takes this standard deviation.
    pub fn takes(self, sigma: f64) -> bool {
        match self {
            Self::Any => sigma >= 0.0,
            Self::Positive => sigma > 0.0,
            Self::Zero => sigma == 0.0,
        }
    }
}

/// Which operators a method takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MethodOperator {
    /// All that are linear.
    Any,
    /// All, and those that are not linear.
    Forward,
    /// Those whose every measured value is an element of x_0: masks and the identity.
    Elements,
    /// [`Mask`](super::operator::Mask).
    Mask,
}

/// What a method needs and takes, with its options at their defaults.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct MethodTraits {
    /// Its name, as in [`MethodKind::NAMES`].
    pub name: &'static str,
    /// The noise that it takes.
    pub noise: MethodNoise,
    /// The operators that it takes.
    pub operator: MethodOperator,
    /// Vector-Jacobian products of the network in a step; a method with none needs no gradient of it.
    pub products: usize,
    /// The reverse chain that it is best run with.
    pub recommended: Recommended,
}

impl MethodKind {
    /// Every method and its name.
    pub const NAMES: [(&'static str, Self); 19] = [
        ("calibrated", Self::Calibrated),
        ("split-gibbs", Self::SplitGibbs),
        ("white", Self::CalibratedWhite),
        ("dps", Self::Dps),
        ("daps", Self::Daps),
        ("red-diff", Self::RedDiff),
        ("sitcom", Self::Sitcom),
        ("fps", Self::Fps),
        ("mcg", Self::Mcg),
        ("pigdm", Self::Pigdm),
        ("tmpd", Self::Tmpd),
        ("ddrm", Self::Ddrm),
        ("ddnm", Self::Ddnm),
        ("ddnm+", Self::DdnmPlus),
        ("diffpir", Self::DiffPir),
        ("repaint", Self::KnownPixels),
        ("exact-product", Self::ExactProduct),
        ("mean-shift", Self::MeanShift),
        ("clamp", Self::Clamp),
    ];

    /// Its name, as in [`MethodKind::NAMES`].
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }

    /// Whether it needs the network's vector-Jacobian products.
    pub fn needs_vjp(self) -> bool {
        self.traits().products > 0
    }

    /// What it needs and takes.
    pub fn traits(self) -> MethodTraits {
        use MethodNoise::{Any as AnyNoise, Positive, Zero};
        use MethodOperator::{Any, Elements, Forward, Mask};
        let (noise, operator, products, recommended) = match self {
            Self::Calibrated => (Positive, Any, 3, Recommended::CALIBRATED),
            // Its ladder follows from the measurement.
            Self::SplitGibbs => (Positive, Any, 2, Recommended::split_gibbs(Ladder::to(1.0))),
            Self::CalibratedWhite => (Positive, Any, 0, Recommended::CALIBRATED_WHITE),
            Self::Dps => (AnyNoise, Forward, 1, Recommended::EVERY_STEP),
            Self::Daps => (Positive, Forward, 0, Recommended::daps(DapsOptions::default().flow_steps)),
            Self::RedDiff => (AnyNoise, Forward, 0, Recommended::RED_DIFF),
            Self::Sitcom => (AnyNoise, Forward, 1, Recommended::sitcom(SitcomOptions::default().gradient_steps)),
            Self::Fps => (AnyNoise, Any, 0, Recommended::fps()),
            Self::Mcg => (Zero, Any, 1, Recommended::EVERY_STEP),
            Self::Pigdm => (AnyNoise, Any, 1, Recommended::PIGDM),
            Self::Tmpd => (Positive, Any, 2, Recommended::TMPD),
            Self::Ddrm => (AnyNoise, Any, 0, Recommended::DDRM),
            Self::Ddnm => (Zero, Any, 0, Recommended::DDNM),
            Self::DdnmPlus => (Positive, Any, 0, Recommended::DDNM),
            Self::DiffPir => (AnyNoise, Any, 0, Recommended::diffpir(1.0)),
            Self::KnownPixels => (Zero, Mask, 0, Recommended::REPAINT),
            Self::ExactProduct => (AnyNoise, Any, 0, Recommended::EVERY_STEP),
            Self::MeanShift => (Positive, Any, 0, Recommended::EVERY_STEP),
            Self::Clamp => (AnyNoise, Elements, 0, Recommended::EVERY_STEP),
        };
        MethodTraits { name: self.name(), noise, operator, products, recommended }
    }
}

impl fmt::Display for MethodKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for MethodKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match Self::NAMES.iter().find(|(name, _)| *name == text) {
            Some((_, kind)) => Ok(*kind),
            None => {
                let names = Self::NAMES.map(|(name, _)| name).join(", ");
                Err(err!(InvalidArgument, "method \"{text}\", expected one of {names}"))
            }
        }
    }
}
