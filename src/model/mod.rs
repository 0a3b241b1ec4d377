//! Architectures: each turns its configuration into a [`Graph`] whose parameters bear the names of the weight files.
//!
//! Models are data for the backends; nothing here computes. [`ModelConfig`] reads the configuration of any of them. To
//! add one, add a folder with its configuration and its translation, and a variant.

use alloc::string::String;

use crate::error::{Result, ensure, err};
use crate::graph::{Activation, Graph, Role, data};
use crate::json::Value;
use crate::tensor::Dims;

#[doc(hidden)]
pub mod adm;
#[doc(hidden)]
pub mod autoencoder;
#[doc(hidden)]
pub mod dit;
#[doc(hidden)]
pub mod dncnn;
#[doc(hidden)]
pub mod drunet;
#[doc(hidden)]
pub mod edm;
mod family;
#[doc(hidden)]
pub mod ffdnet;
mod fields;
mod known;
#[doc(hidden)]
pub mod lucidrains;
#[doc(hidden)]
pub mod mlp2015;
#[doc(hidden)]
pub mod monai;
#[doc(hidden)]
pub mod multiscale2015;
#[doc(hidden)]
pub mod policy1d;
#[doc(hidden)]
pub mod rbf2015;
mod role;
#[doc(hidden)]
pub mod unet1d;
#[doc(hidden)]
pub mod unet2d;

pub use family::{Description, Family};
pub use role::ParamRole;

use autoencoder::AutoencoderConfig;
use fields::Fields;
use mlp2015::Mlp2015Config;
use multiscale2015::Multiscale2015Config;
use rbf2015::Rbf2015Config;
use unet2d::UNet2DConfig;

/// The name of the input and of the output of every model.
pub const SAMPLE: &str = "sample";
/// The name of the time input of every model: `[1]`, a timestep.
pub const TIMESTEP: &str = "timestep";
/// The name of the input of a model of images that sees another image beside x, concatenated to it along the channels.
pub const IMAGE: &str = "image";
/// The name of the class input of every model that has one.
pub const CLASS_LABELS: &str = unet2d::CLASS_LABELS;

/// The configuration of a model of any architecture.
///
/// ```
/// use undiffuse::model::ModelConfig;
///
/// let config = ModelConfig::from_json(r#"{"_class_name": "Rbf2015", "features": 2, "units": 16, "num_train_timesteps": 40}"#)?;
/// let graph = config.build(None)?;
/// assert_eq!(graph.params()[0].name, "basis.centres");
/// assert_eq!(graph.params()[0].dims.as_slice(), [16, 2]);
/// # Ok::<(), undiffuse::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ModelConfig {
    /// diffusers' `UNet2DModel`.
    UNet2D(UNet2DConfig),
    /// `Multiscale2015`, of images.
    Multiscale2015(Multiscale2015Config),
    /// `Rbf2015`, of points.
    Rbf2015(Rbf2015Config),
    /// `Mlp2015`, of vectors and bits.
    Mlp2015(Mlp2015Config),
    /// A network of another code base.
    Family(Family),
    /// A graph that stands in the file itself: see [`graph::data`](crate::graph::data).
    Graph(Graph),
}

/// The class names of this library's own architectures.
const MULTISCALE: &str = "Multiscale2015";
const RBF: &str = "Rbf2015";
const MLP: &str = "Mlp2015";

impl ModelConfig {
    /// Reads the text of a `config.json`; `_class_name` says of which architecture, a text without one is of a
    /// `UNet2DModel`.
    ///
    /// Errors: kind `Unsupported` for another class; kind `Config` for whatever the architecture's configuration
    /// refuses.
    pub fn from_json(json: &str) -> Result<Self> {
        let class = Fields::parse(json)?.take("_class_name");
        if let Some(family) = class.as_ref().and_then(Value::as_str).and_then(|class| Family::from_json(class, json)) {
            return family.map(Self::Family);
        }
        Ok(match class.as_ref().map(Value::as_str) {
            Some(Some(data::CLASS)) => Self::Graph(of_graph(Graph::from_json(json)?)?),
            Some(Some(class)) if AutoencoderConfig::CLASSES.contains(&class) => {
                return Err(err!(
                    Unsupported,
                    "{class} is an autoencoder and no denoiser: give the pipeline's directory, which has it beside one"
                ));
            }
            Some(Some(class)) if known::is_of_diffusers(class) => {
                return Err(err!(
                    Unsupported,
                    "the model class {class} of diffusers is not implemented, expected UNet2DModel or one of {}",
                    Family::CLASSES.join(", ")
                ));
            }
            Some(Some(MULTISCALE)) => Self::Multiscale2015(Multiscale2015Config::from_json(json)?),
            Some(Some(RBF)) => Self::Rbf2015(Rbf2015Config::from_json(json)?),
            Some(Some(MLP)) => Self::Mlp2015(Mlp2015Config::from_json(json)?),
            _ => Self::UNet2D(UNet2DConfig::from_json(json)?),
        })
    }

    /// The value of `_class_name`.
    pub fn class_name(&self) -> &'static str {
        match self {
            Self::UNet2D(_) => "UNet2DModel",
            Self::Multiscale2015(_) => MULTISCALE,
            Self::Rbf2015(_) => RBF,
            Self::Mlp2015(_) => MLP,
            Self::Family(f) => f.describe().class_name,
            Self::Graph(_) => data::CLASS,
        }
    }

    /// The usual height and width of a model of images, if it has one.
    pub fn sample_size(&self) -> Option<[usize; 2]> {
        match self {
            Self::UNet2D(c) => c.sample_size,
            Self::Multiscale2015(c) => c.sample_size,
            Self::Family(f) => f.describe().sample_size,
            Self::Graph(g) => image_of(g).map(|[_, h, w]| [h, w]),
            Self::Rbf2015(_) | Self::Mlp2015(_) => None,
        }
    }

    /// Whether the height and width must be given to [`ModelConfig::build`].
    pub fn needs_size(&self) -> bool {
        self.is_of_images() && self.sample_size().is_none()
    }

    /// Whether its samples are images, `[channels, height, width]`.
    pub fn is_of_images(&self) -> bool {
        match self {
            Self::UNet2D(_) | Self::Multiscale2015(_) | Self::Family(_) => true,
            Self::Graph(g) => image_of(g).is_some(),
            Self::Rbf2015(_) | Self::Mlp2015(_) => false,
        }
    }

    /// Of a fully convolutional model of images: how many pixels, each way, around the square of
    /// [`multiple`](Self::multiple) that a pixel lies in its prediction depends on. Images of any size can go through
    /// it in tiles that overlap by twice as much, and nothing changes: see [`Tiled`](crate::denoiser::Tiled). `None`
    /// where attention or a norm sees all, or it is not known.
    pub fn reach(&self) -> Option<usize> {
        match self {
            Self::Family(f) => f.reach(),
            _ => None,
        }
    }

    /// What divides the height and the width of the images that a model of another code base takes; 1 where that is not
    /// known before it is built.
    pub fn multiple(&self) -> [usize; 2] {
        match self {
            Self::Family(f) => f.describe().multiple,
            _ => [1; 2],
        }
    }

    /// The channels of its images, if its samples are images: those of x, without what is concatenated to it.
    pub fn channels(&self) -> Option<usize> {
        match self {
            Self::UNet2D(c) => Some(c.sample_channels()),
            Self::Multiscale2015(c) => Some(c.in_channels),
            Self::Family(f) => Some(f.describe().channels),
            Self::Graph(g) => image_of(g).map(|[c, ..]| c),
            Self::Rbf2015(_) | Self::Mlp2015(_) => None,
        }
    }

    /// The classes that it tells apart, if it takes a class as a number.
    pub fn classes(&self) -> Option<usize> {
        match self {
            Self::UNet2D(c) if c.class_embed_type.is_none() => c.num_class_embeds,
            Self::Family(f) => f.describe().classes,
            Self::Graph(g) => g.signature().iter().find(|i| i.role == Role::Class).and_then(|i| i.rows),
            _ => None,
        }
    }

    /// The values of a sample, where it is no image.
    pub fn features(&self) -> Option<usize> {
        match self {
            Self::UNet2D(_) | Self::Multiscale2015(_) | Self::Family(_) => None,
            Self::Graph(g) if image_of(g).is_none() => sample_of(g).map(|d| d.elements()),
            Self::Graph(_) => None,
            Self::Rbf2015(c) => Some(c.features),
            Self::Mlp2015(c) => Some(c.features),
        }
    }

    /// Whether its readout is a table with a matrix for each step.
    pub fn has_table_of_readouts(&self) -> bool {
        matches!(self, Self::Rbf2015(_) | Self::Mlp2015(_))
    }

    /// T, where the network itself depends on it.
    pub fn num_train_timesteps(&self) -> Option<usize> {
        match self {
            Self::UNet2D(_) | Self::Family(_) | Self::Graph(_) => None,
            Self::Multiscale2015(c) => Some(c.num_train_timesteps),
            Self::Rbf2015(c) => Some(c.num_train_timesteps),
            Self::Mlp2015(c) => Some(c.num_train_timesteps),
        }
    }

    /// The network. `size` is the height and width of images; `None` is [`ModelConfig::sample_size`].
    ///
    /// Errors (kind `Config` or `Shape`): a model of images has no size, or one that it cannot take; a size for another
    /// model.
    pub fn build(&self, size: Option<[usize; 2]>) -> Result<Graph> {
        match self {
            Self::UNet2D(c) => unet2d::build(c, c.size(size)?),
            Self::Multiscale2015(c) => multiscale2015::build(c, c.size(size)?),
            Self::Family(f) => f.build(size),
            Self::Graph(g) => {
                let own = image_of(g).map(|[_, h, w]| [h, w]);
                ensure!(
                    size.is_none() || size == own,
                    Config,
                    "the graph was written for {}, not for another size",
                    sample_of(g).map_or(String::new(), |d| alloc::format!("{d}"))
                );
                Ok(g.clone())
            }
            Self::Rbf2015(_) | Self::Mlp2015(_) => {
                ensure!(
                    size.is_none(),
                    Config,
                    "a {} has no images, but a height and width are given",
                    self.class_name()
                );
                match self {
                    Self::Rbf2015(c) => rbf2015::build(c),
                    Self::Mlp2015(c) => mlp2015::build(c),
                    _ => Err(err!(Config, "a {} has no network", self.class_name())),
                }
            }
        }
    }

    /// What the network's own code makes of a parameter of these dimensions, as the weights have it, before it uses it:
    /// the values that [`ModelConfig::build`]'s graph takes. Only `KarrasUnet` changes any, whose weights are
    /// normalised. A [`Pipeline`](crate::pipeline::Pipeline) does it by itself.
    pub fn adapt(&self, name: &str, dims: &[usize], values: &mut [f32]) {
        if let Self::Family(f) = self {
            f.adapt(name, dims, values);
        }
    }

    /// The network for its usual size or, where there is none, the smallest: what its parameters are does not depend on
    /// it.
    pub fn build_any(&self) -> Result<Graph> {
        let size = self.needs_size().then(|| {
            if let Self::Family(f) = self {
                return f.describe().multiple;
            }
            let halvings = match self {
                Self::UNet2D(c) => c.block_out_channels.len().saturating_sub(1),
                Self::Multiscale2015(c) => c.scales.saturating_sub(1),
                _ => 0,
            };
            [1usize << halvings.min(16); 2]
        });
        self.build(size)
    }
}

/// The dimensions of a graph's x.
fn sample_of(graph: &Graph) -> Option<Dims> {
    let slot = graph.input_of(Role::Sample)?;
    graph.inputs().get(slot).map(|port| graph.dims(port.value))
}

/// The same, of images.
fn image_of(graph: &Graph) -> Option<[usize; 3]> {
    sample_of(graph)?.as_slice().try_into().ok()
}

/// A graph that is a denoiser's.
fn of_graph(graph: Graph) -> Result<Graph> {
    let x = sample_of(&graph).ok_or_else(|| err!(Config, "the graph has no input of the role \"sample\""))?;
    let outputs = graph.outputs().len();
    ensure!(outputs == 1, Config, "the graph has {outputs} outputs, expected 1");
    let made = graph.outputs().first().map_or(0, |p| graph.dims(p.value).elements());
    let n = x.elements();
    ensure!(
        made == n || Some(made) == n.checked_mul(2),
        Config,
        "the graph makes {made} values of a sample of {n}, expected as many, or twice as many with a learned variance"
    );
    Ok(graph)
}

/// The nonlinearities of the 2015 networks.
const ACTIVATIONS: [(&str, Activation); 5] = [
    ("leaky_relu", Activation::LeakyRelu { slope: 0.05 }),
    ("softplus", Activation::Softplus),
    ("tanh", Activation::Tanh),
    ("relu", Activation::Relu),
    ("silu", Activation::Silu),
];

/// Takes `_class_name`, which must be `class`.
fn take_class(f: &mut Fields, class: &str) -> Result<()> {
    let got = f.take("_class_name");
    let fits = got.as_ref().is_none_or(|v| v.as_str() == Some(class));
    ensure!(
        fits,
        Unsupported,
        "the model is of class {}, expected {class:?}",
        got.map_or(String::new(), |v| v.brief())
    );
    Ok(())
}

/// The most steps of a chain.
const MAX_STEPS: usize = 100_000;
/// The most features of a value or units of a layer.
const MAX_FEATURES: usize = 1 << 16;

/// Takes `num_train_timesteps`, which has no default: tables depend on it.
fn take_steps(f: &mut Fields) -> Result<usize> {
    let steps = f.integer_or_null("num_train_timesteps", None, 2..=MAX_STEPS)?;
    steps.ok_or_else(|| err!(Config, "num_train_timesteps is missing from the model config"))
}

/// Takes a list of layers' widths, which may be empty.
fn take_widths(f: &mut Fields, key: &str, default: &[usize], max: usize) -> Result<alloc::vec::Vec<usize>> {
    let expected = alloc::format!("a list of at most {max}, each a whole number from 1 to {MAX_FEATURES}");
    f.with(key, default.to_vec(), expected, |v| {
        let items = v.as_array().filter(|a| a.len() <= max)?;
        items.iter().map(|v| fields::integer(v, &(1..=MAX_FEATURES))).collect()
    })
}
