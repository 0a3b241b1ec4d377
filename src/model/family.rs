//! Networks of other code bases: what each says of itself, so that a new one is a folder and a line here.

use alloc::vec::Vec;
use core::ops::RangeInclusive;

use super::adm::AdmConfig;
use super::dit::DitConfig;
use super::dncnn::DnCnnConfig;
use super::drunet::DrUnetConfig;
use super::edm::EdmConfig;
use super::ffdnet::FfdNetConfig;
use super::fields::{Fields, integer};
use super::lucidrains::{AnnotatedUNetConfig, KarrasUnetConfig, Unet1dConfig, UnetConfig};
use super::monai::DiffusionModelUNetConfig;
use super::policy1d::ConditionalUnet1dConfig;
use super::unet1d::UNet1DConfig;
use super::unet2d::conditional::{self, UNet2DConditionConfig};
use crate::error::{Result, ensure};
use crate::graph::Graph;

/// What a program asks of an architecture beside its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Description {
    /// The value of `_class_name` in the configuration.
    pub class_name: &'static str,
    /// Channels of a sample.
    pub channels: usize,
    /// The usual height and width; a one-dimensional sample has a height of 1.
    pub sample_size: Option<[usize; 2]>,
    /// What divides the height and the width that it can be built for.
    pub multiple: [usize; 2],
    /// The classes that it tells apart, if it takes a class as a number.
    pub classes: Option<usize>,
}

/// What an architecture is to the rest of the library.
pub(super) trait Architecture {
    /// What it says of itself.
    fn describe(&self) -> Description;

    /// The network for samples of this height and width, which [`Description::multiple`] divides.
    fn build(&self, size: [usize; 2]) -> Result<Graph>;

    /// See [`ModelConfig::reach`](super::ModelConfig::reach).
    fn reach(&self) -> Option<usize> {
        None
    }

    /// What the network's own code makes of a parameter before it uses it; mostly nothing.
    fn adapt(&self, _name: &str, _dims: &[usize], _values: &mut [f32]) {}
}

macro_rules! families {
    ($($(#[$doc:meta])* $name:ident($config:ty), $class:expr;)*) => {
        /// The configuration of a network of another code base than diffusers' `UNet2DModel`.
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        #[allow(clippy::large_enum_variant)] // There is one for a model, and it is not moved about.
        pub enum Family {
            $($(#[$doc])* $name($config),)*
        }

        impl Family {
            /// The class names in configurations.
            pub const CLASSES: &'static [&'static str] = &[$($class),*];

            /// Reads a configuration of this class; `None` if it is no family's.
            pub(super) fn from_json(class: &str, json: &str) -> Option<Result<Self>> {
                $(if class == $class {
                    return Some(<$config>::from_json(json).map(Self::$name));
                })*
                None
            }

            fn architecture(&self) -> &dyn Architecture {
                match self {
                    $(Self::$name(config) => config,)*
                }
            }
        }
    };
}

families! {
    /// guided-diffusion's and improved-diffusion's `UNetModel` (ADM).
    Adm(AdmConfig), super::adm::CLASS;
    /// EDM's `SongUNet` (ddpm++, ncsn++) and `DhariwalUNet`.
    Edm(EdmConfig), super::edm::CLASS;
    /// The `ConditionalUnet1D` of Diffusion Policy and LeRobot.
    ConditionalUnet1d(ConditionalUnet1dConfig), super::policy1d::CLASS;
    /// The `Unet` of denoising-diffusion-pytorch.
    Unet(UnetConfig), super::lucidrains::CLASS;
    /// The `Unet1D` of denoising-diffusion-pytorch.
    Unet1d(Unet1dConfig), super::lucidrains::ONE_DIM;
    /// The `KarrasUnet` of denoising-diffusion-pytorch.
    KarrasUnet(KarrasUnetConfig), super::lucidrains::KARRAS;
    /// The `UNet` of "The Annotated Diffusion Model".
    AnnotatedUNet(AnnotatedUNetConfig), super::lucidrains::ANNOTATED;
    /// FFDNet, a denoiser of a stated sigma.
    FfdNet(FfdNetConfig), super::ffdnet::CLASS;
    /// DRUNet, a denoiser of a stated sigma.
    DrUnet(DrUnetConfig), super::drunet::CLASS;
    /// DnCNN, a denoiser that is told no level.
    DnCnn(DnCnnConfig), super::dncnn::CLASS;
    /// diffusers' `DiTTransformer2DModel`.
    Dit(DitConfig), super::dit::CLASS;
    /// diffusers' `UNet2DConditionModel`.
    UNet2DCondition(UNet2DConditionConfig), conditional::CLASS;
    /// diffusers' `UNet1DModel`.
    UNet1D(UNet1DConfig), super::unet1d::CLASS;
    /// MONAI's `DiffusionModelUNet` of two dimensions.
    DiffusionModelUNet(DiffusionModelUNetConfig), super::monai::CLASS;
}

impl Family {
    /// What it says of itself.
    pub fn describe(&self) -> Description {
        self.architecture().describe()
    }

    pub(super) fn reach(&self) -> Option<usize> {
        self.architecture().reach()
    }

    /// See [`ModelConfig::adapt`](super::ModelConfig::adapt).
    pub(super) fn adapt(&self, name: &str, dims: &[usize], values: &mut [f32]) {
        self.architecture().adapt(name, dims, values);
    }

    /// The network. `size` is the height and width of its samples, `None` the usual ones.
    ///
    /// Errors: kind `Config` for a size that it cannot take, or none where it has no usual one.
    pub fn build(&self, size: Option<[usize; 2]>) -> Result<Graph> {
        let Description { class_name, sample_size, multiple, .. } = self.describe();
        let size = size.or(sample_size);
        let [h, w] = size.unwrap_or([0, 0]);
        let fits = (1..=MAX_SIZE).contains(&h) && (1..=MAX_SIZE).contains(&w);
        ensure!(
            fits && h.is_multiple_of(multiple[0]) && w.is_multiple_of(multiple[1]),
            Config,
            "a {class_name} of {h} x {w} samples, expected multiples of {} and {} up to {MAX_SIZE}",
            multiple[0],
            multiple[1]
        );
        self.architecture().build([h, w])
    }
}

/// The largest height or width.
pub(super) const MAX_SIZE: usize = 1 << 13;
/// The most channels of one value.
pub(super) const MAX_CHANNELS: usize = 1 << 16;
/// The most levels or blocks.
pub(super) const MAX_LEVELS: usize = 16;

/// A list of whole numbers, as JSON's or as Python's flags write it: `"16,8"`. Empty is a list too.
pub(super) fn integers(
    f: &mut Fields,
    key: &str,
    default: &[usize],
    range: RangeInclusive<usize>,
) -> Result<Vec<usize>> {
    let expected = alloc::format!("at most {MAX_LEVELS} whole numbers from {} to {}", range.start(), range.end());
    f.with(key, default.to_vec(), expected, |v| {
        let read: Vec<usize> = match (v.as_array(), v.as_str()) {
            (Some(list), _) => list.iter().map(|v| integer(v, &range)).collect::<Option<_>>()?,
            (None, Some("")) => Vec::new(),
            (None, Some(text)) => {
                let number = |t: &str| t.trim().parse::<usize>().ok().filter(|n| range.contains(n));
                text.split(',').map(number).collect::<Option<_>>()?
            }
            (None, None) => alloc::vec![integer(v, &range)?],
        };
        (read.len() <= MAX_LEVELS).then_some(read)
    })
}

/// Takes keys that change nothing here: of training, or of memory.
pub(super) fn skip(f: &mut Fields, keys: &[&str]) {
    for key in keys {
        f.take(key);
    }
}
