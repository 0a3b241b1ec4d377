//! The packed file: one safetensors file that holds a whole pipeline.
//!
//! Its metadata has `undiffuse.format` (a version), `undiffuse.model` (or `undiffuse.graph`, the network itself) and,
//! where there was one, `undiffuse.scheduler` and `undiffuse.preconditioning` (configurations as JSON text), of a
//! latent model also `undiffuse.decoder`, so any safetensors reader can open it and this library needs no other file.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::{SafeTensorsView, TensorToWrite, WeightSource, write_safetensors};
use crate::error::{Result, ensure, err};
use crate::graph::{Quantisation, data};
use crate::int4;
use crate::json::{self, Value};
use crate::tensor::DType;

const FORMAT: &str = "undiffuse.format";
const MODEL: &str = "undiffuse.model";
/// In the place of the model's configuration: the text of a graph, see [`data`](crate::graph::data).
const GRAPH: &str = "undiffuse.graph";
/// The configuration of an autoencoder whose decoder makes data of the model's samples. Its tensors stand under
/// `decoder/` and their own names.
const DECODER: &str = "undiffuse.decoder";
const SCHEDULER: &str = "undiffuse.scheduler";
/// Of a file that was calibrated: for each layer that may compute in integers, by the name of its weight, the scale and
/// the zero of its input.
const ACTIVATIONS: &str = "undiffuse.activations";
/// How the network is to be called, see `sampler::ModelPreconditioning`.
const PRECONDITIONING: &str = "undiffuse.preconditioning";
/// The version that this library writes and the only one it reads.
const VERSION: &str = "1";

/// The configurations of a packed file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedConfigs {
    /// The model's configuration, as in `unet/config.json`, or the text of a [graph](crate::graph::data).
    pub model: String,
    /// The scheduler's configuration, as in `scheduler/scheduler_config.json`; not every model comes with one.
    pub scheduler: Option<String>,
    /// How the network is to be called, as in `preconditioning.json`, where it is behind a preconditioning.
    pub preconditioning: Option<String>,
    /// How the inputs of layers become 8-bit integers, as [`activations_json`] writes it, where that was measured.
    pub activations: Option<String>,
    /// The configuration of the autoencoder of a latent model, as in `vae/config.json`.
    pub decoder: Option<String>,
}

impl PackedConfigs {
    /// Whether a file's metadata says that it is a packed file, of whatever version.
    pub fn is_in<'a>(get: impl Fn(&str) -> Option<&'a str>) -> bool {
        get(FORMAT).is_some()
    }

    /// Takes the configurations from a file's metadata, `get` being its look-up.
    /// Errors (kind `Weights`): the file was not packed by this library or is of another version.
    pub fn from_metadata<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Result<Self> {
        let version = get(FORMAT).ok_or_else(|| {
            err!(Weights, "the file has weights but no configuration: give a pipeline directory, or a file that `undiffuse pack` wrote")
        })?;
        ensure!(version == VERSION, Weights, "the packed file has format version {version:?}, expected {VERSION:?}");
        let model = match (get(MODEL), get(GRAPH)) {
            (Some(model), None) => model,
            (None, Some(graph)) => {
                let of = json::parse_object(graph)
                    .map_err(|e| err!(Weights, "the packed file's {GRAPH} is no text of a graph: {}", e.message()))?;
                ensure!(is_class(&of), Weights, "the packed file's {GRAPH} is not of the class {:?}", data::CLASS);
                graph
            }
            (None, None) => return Err(err!(Weights, "the packed file has neither {MODEL} nor {GRAPH}")),
            (Some(_), Some(_)) => {
                return Err(err!(Weights, "the packed file has both {MODEL} and {GRAPH}, expected one"));
            }
        };
        let text = |key: &str| get(key).map(ToString::to_string);
        Ok(Self {
            model: model.to_string(),
            scheduler: text(SCHEDULER),
            preconditioning: text(PRECONDITIONING),
            activations: text(ACTIVATIONS),
            decoder: text(DECODER),
        })
    }
}

/// Whether a model's text is that of a graph.
fn is_graph(text: &str) -> bool {
    json::parse_object(text).is_ok_and(|map| is_class(&map))
}

fn is_class(map: &json::Object) -> bool {
    map.get("_class_name").is_some_and(|c| c.as_str() == Some(data::CLASS))
}

/// [`PackedConfigs::activations`] as text: an object of `[scale, zero]` by the names of weights.
pub fn activations_json(activations: &BTreeMap<String, Quantisation>) -> String {
    let pair = |q: &Quantisation| {
        Value::Array([Value::Number(q.scale().into()), Value::Integer(q.zero().into())].into_iter().collect())
    };
    Value::Object(activations.iter().map(|(name, q)| (name.clone(), pair(q))).collect()).to_string()
}

/// The opposite of [`activations_json`]. Errors (kind `Config`): the text is no such object.
pub fn activations_from_json(text: &str) -> Result<BTreeMap<String, Quantisation>> {
    let read = |value: &Value| {
        let [scale, zero] = value.as_array()? else { return None };
        let zero = zero.as_f64().filter(|z| libm::rint(*z) == *z && (-128.0..=127.0).contains(z))?;
        Quantisation::new(scale.as_f64()? as f32, zero as i8).ok()
    };
    let map = json::parse_object(text).map_err(|e| e.context(ACTIVATIONS))?;
    let each = map.into_iter().map(|(name, value)| {
        let q = read(&value);
        let q =
            q.ok_or_else(|| err!(Config, "{ACTIVATIONS} of {name} is {}, expected [scale, zero]", value.brief()))?;
        Ok((name, q))
    });
    each.collect()
}

/// A packed file in memory, opened: its weights and its configurations. Errors: as [`SafeTensorsView::parse`] and
/// [`PackedConfigs::from_metadata`].
pub fn open(bytes: &[u8]) -> Result<(SafeTensorsView<'_>, PackedConfigs)> {
    let view = SafeTensorsView::parse(bytes)?;
    let configs = PackedConfigs::from_metadata(|key| view.metadata(key))?;
    Ok((view, configs))
}

/// Writes a packed file, piece by piece, to `sink`. Matrices and convolution kernels are stored as `dtype`; vectors
/// (biases, norms, Fourier frequencies) stay `f32`, because they are few and the results hang on them. Equal arguments
/// give equal bytes.
///
/// With [`DType::I8`] an element is an integer times the factor of its row (output channel); matrices of fewer than 16
/// rows, or of fewer than 64 elements a row, stay f32: as the cpu backend keeps weights of
/// `WeightType::Int8`, so that it finds these integers and factors again. With [`DType::I4`] it is an integer times the
/// scale of its group, see [`write_safetensors`]; the same matrices stay f32, and one with an odd number of columns
/// (input channels) becomes I8.
pub fn write(
    configs: &PackedConfigs,
    weights: &dyn WeightSource,
    dtype: DType,
    sink: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut shapes: Vec<(&str, Vec<usize>)> = Vec::new();
    for name in weights.names() {
        let info = weights.info(name).ok_or_else(|| super::missing(name))?;
        shapes.push((name, info.shape));
    }
    let tensors: Vec<TensorToWrite<'_>> = shapes
        .iter()
        .map(|(name, shape)| {
            let rows = shape.first().copied().unwrap_or(0);
            let pays = int4::pays(rows, shape.iter().skip(1).product());
            let odd = shape.get(1).is_some_and(|n| n % 2 == 1);
            let dtype = match dtype {
                _ if shape.len() < 2 => DType::F32,
                DType::I8 | DType::I4 if !pays => DType::F32,
                DType::I4 if odd => DType::I8,
                other => other,
            };
            TensorToWrite { name, dtype, shape }
        })
        .collect();
    let scheduler = configs.scheduler.as_deref().map(|text| (SCHEDULER, text));
    let preconditioning = configs.preconditioning.as_deref().map(|text| (PRECONDITIONING, text));
    let activations = configs.activations.as_deref().map(|text| (ACTIVATIONS, text));
    let decoder = configs.decoder.as_deref().map(|text| (DECODER, text));
    let model = if is_graph(&configs.model) { GRAPH } else { MODEL };
    let metadata: BTreeMap<String, String> = [(FORMAT, VERSION), (model, &configs.model)]
        .into_iter()
        .chain(scheduler)
        .chain(preconditioning)
        .chain(activations)
        .chain(decoder)
        .map(|(k, v)| (k.to_string(), v.to_string()))
        .collect();
    write_safetensors(&tensors, &metadata, &mut |name, out| weights.read_f32(name, out), sink)
        .map_err(|e| e.context(format_args!("packing as {dtype}")))
}
