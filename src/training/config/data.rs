//! The data of a training, as a configuration names them.

use alloc::string::String;
use alloc::vec::Vec;
use std::path::{Path, PathBuf};

use super::keys::Keys;
use crate::error::{Result, ensure, err};
use crate::json::Value;
use crate::tensor::Dims;
use crate::training::data::{
    Augment, Collision, Colors, Dataset, DeadLeaves, Flips, LeafShape, Scale, SpikeTimes, SwissRoll, Values,
    heartbeats, read_idx, read_npy, read_png_folder,
};

/// Where samples come from.
#[derive(Clone, Debug, PartialEq)]
pub enum DataKind {
    /// `swiss_roll`: `count`, `from`, `to`, `noise`.
    SwissRoll(SwissRoll, usize),
    /// `heartbeat`: `count`.
    Heartbeat(usize),
    /// `dead_leaves`: `count`, `size`, `min_radius`, `max_radius`, `exponent`, `max_ratio` (above 1 for ellipses),
    /// `subpixels`.
    DeadLeaves(DeadLeaves, usize),
    /// `npy`: `path`.
    Npy(PathBuf),
    /// `idx`: `path`.
    Idx(PathBuf),
    /// `png_folder`: `path`, `colors` (`grey`, the default, `rgb`, `to_grey` or `to_rgb`: see [`Colors`]).
    PngFolder(PathBuf, Colors),
    /// `spikes`: `path`, `from`, `to`, `bin`, `bins`, `stride`.
    Spikes {
        /// The text of spike times.
        path: PathBuf,
        /// The first time.
        from: f64,
        /// The last.
        to: f64,
        /// The width of a bin.
        bin: f64,
        /// Bins of a window.
        bins: usize,
        /// Bins from one window to the next.
        stride: usize,
    },
}

/// What brings values to the scale that a model is trained on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum ScaleConfig {
    /// As they are.
    #[default]
    None,
    /// Mean 0 and variance 1 of all values together: `"unit_variance"`.
    UnitVariance,
    /// `[scl, shft]`.
    Given(Scale),
}

/// The data: `kind` and its keys (see [`DataKind`]; relative paths are beside the configuration), then for all kinds
///
/// - `seed`: of a generator, by default that of the training
/// - `dims`: the dimensions of a sample, such as `[1, 28, 28]`, if the file says them otherwise
/// - `values` of a file, what its numbers are, unless their type says it (see [`Values`]): `bytes` (0 to 255), `unit`
///   (0 to 1) and ranges such as `0..65535` are brought to [-1, 1], the scale of all images of this library; `data`
///   stay as they are
/// - `take`: only the first so many samples, so that others can be held out
/// - `scale`: `"unit_variance"` or `[scl, shft]`
/// - `dequantise` (in the scale after `values`; a grey level of images is 1 / 127.5), `crop` `[height, width]`, `flips`
///   (`none`, `horizontal`, `both`): see [`Augment`]
#[derive(Clone, Debug, PartialEq)]
pub struct DataConfig {
    /// Where samples come from.
    pub kind: DataKind,
    /// Of a generator.
    pub seed: Option<u64>,
    /// The dimensions of a sample.
    pub dims: Option<Vec<usize>>,
    /// What the values are, if not what is usual for the kind.
    pub values: Option<Values>,
    /// Only the first so many.
    pub take: Option<usize>,
    /// The scale.
    pub scale: ScaleConfig,
    /// What is done to a sample each time it is drawn; its scale is not set.
    pub augment: Augment,
}

const MAX_COUNT: usize = 1 << 30;

impl DataConfig {
    pub(super) fn read(mut k: Keys) -> Result<Self> {
        let kind: String = k.text("kind")?;
        let kind = match kind.as_str() {
            "swiss_roll" => {
                let d = SwissRoll::default();
                let roll = SwissRoll {
                    from: k.number("from", Some(d.from), 0.0..=1e3)?,
                    to: k.number("to", Some(d.to), 0.0..=1e3)?,
                    noise: k.number("noise", Some(d.noise), 1e-4..=1e3)?,
                };
                DataKind::SwissRoll(roll, k.count("count", None, MAX_COUNT)?)
            }
            "heartbeat" => DataKind::Heartbeat(k.count("count", None, MAX_COUNT)?),
            "dead_leaves" => {
                let d = DeadLeaves::new(k.count("size", None, 4096)?);
                let max_ratio = k.number("max_ratio", Some(1.0), 1.0..=10.0)?;
                let shape = if max_ratio > 1.0 { LeafShape::Ellipse { max_ratio } } else { LeafShape::Disc };
                let leaves = DeadLeaves {
                    min_radius: k.number("min_radius", Some(d.min_radius), 0.5 / 16.0..=1e4)?,
                    max_radius: k.number("max_radius", Some(d.max_radius), 0.5..=2e4)?,
                    exponent: k.number("exponent", Some(d.exponent), 0.0..=10.0)?,
                    shape,
                    subpixels: k.count("subpixels", Some(d.subpixels), 16)?,
                    ..d
                };
                DataKind::DeadLeaves(leaves, k.count("count", None, MAX_COUNT)?)
            }
            "npy" => DataKind::Npy(k.text("path")?.into()),
            "idx" => DataKind::Idx(k.text("path")?.into()),
            "png_folder" => {
                let colors = k.word("colors", Some(Colors::Grey), &Colors::NAMES)?;
                DataKind::PngFolder(k.text("path")?.into(), colors)
            }
            "spikes" => DataKind::Spikes {
                path: k.text("path")?.into(),
                from: k.number("from", None, -1e12..=1e12)?,
                to: k.number("to", None, -1e12..=1e12)?,
                bin: k.number("bin", None, 1e-12..=1e12)?,
                bins: k.count("bins", None, 1 << 16)?,
                stride: k.count("stride", Some(1), 1 << 16)?,
            },
            other => {
                let other: String = other.chars().take(40).collect();
                return Err(err!(
                    Config,
                    "data.kind is {other:?} in the training config, expected swiss_roll, heartbeat, dead_leaves, npy, idx, \
                     png_folder or spikes"
                ));
            }
        };
        let crop = match k.counts("crop", 1 << 20)?.as_deref() {
            None => None,
            Some(&[h, w]) => Some([h, w]),
            Some(other) => return Err(err!(Config, "data.crop has {} numbers, expected 2", other.len())),
        };
        let flips = [("none", Flips::None), ("horizontal", Flips::Horizontal), ("both", Flips::Both)];
        let config = Self {
            kind,
            seed: if k.has("seed") { Some(k.integer("seed", None, 0..=u64::MAX)?) } else { None },
            dims: k.counts("dims", 1 << 30)?,
            values: if k.has("values") { Some(values(&k.text("values")?)?) } else { None },
            take: if k.has("take") { Some(k.count("take", None, MAX_COUNT)?) } else { None },
            scale: scale(k.take("scale"))?,
            augment: Augment {
                crop,
                flips: k.word("flips", Some(Flips::None), &flips)?,
                dequantise: k.number("dequantise", Some(0.0), 0.0..=1e6)?,
                scale: Scale::default(),
            },
        };
        k.finish()?;
        Ok(config)
    }

    /// Reads or makes the data, and finds their scale. `beside` is where relative paths begin; `seed` that of the
    /// training.
    ///
    /// Errors: what readers and generators refuse; kind `InvalidArgument` if fewer samples are there than `take` says.
    pub fn load(&self, beside: &Path, seed: u64) -> Result<(Dataset, Scale)> {
        let seed = self.seed.unwrap_or(seed);
        let mut data = match &self.kind {
            DataKind::SwissRoll(roll, count) => roll.points(seed, *count)?,
            DataKind::Heartbeat(count) => heartbeats(seed, *count)?,
            DataKind::DeadLeaves(leaves, count) => leaves.images(seed, *count)?,
            DataKind::Npy(path) => read_npy(&beside.join(path))?,
            DataKind::Idx(path) => read_idx(&beside.join(path))?,
            DataKind::PngFolder(path, colors) => read_png_folder(&beside.join(path), *colors)?,
            DataKind::Spikes { path, from, to, bin, bins, stride } => {
                SpikeTimes::read(&beside.join(path))?.windows(*from, *to, *bin, *bins, *stride, Collision::Refuse)?
            }
        };
        if let Some(dims) = &self.dims {
            data = data.with_dims(Dims::new(dims)?)?;
        }
        data = self.in_model_units(data)?;
        if let Some(take) = self.take {
            let count = data.count();
            ensure!(take <= count, InvalidArgument, "data.take is {take}, but there are {count} samples");
            if take < count {
                data = data.split(take)?.0;
            }
        }
        let scale = match self.scale {
            ScaleConfig::None => Scale::default(),
            ScaleConfig::UnitVariance => data.unit_variance()?,
            ScaleConfig::Given(scale) => scale,
        };
        Ok((data, scale))
    }
}

/// Values of images that nobody called anything else are far outside of [-1, 1] beyond this.
const FAR: f32 = 2.0;

impl DataConfig {
    /// Grey levels become -1 to 1.
    fn in_model_units(&self, data: Dataset) -> Result<Dataset> {
        let Some(element) = data.element() else {
            return Ok(data.rescaled(self.values.unwrap_or_default().scale()));
        };
        let values = Values::of(element, self.values).map_err(|e| e.context("data.values in the training config"))?;
        ensure!(
            self.values.is_some() || values == Values::Data || data.dims().rank() == 3,
            InvalidArgument,
            "the data are {} of {}, which are no images: give data.values in the training config, data for numbers as \
             they are",
            data.dims(),
            element.name()
        );
        let data = data.rescaled(values.scale());
        let most = data.values().iter().fold(0.0f32, |m, v| m.max(v.abs()));
        ensure!(
            values == Values::Data || most <= 1.0 + 1e-6,
            InvalidArgument,
            "data.values is {values} in the training config, but the data have values outside of that range"
        );
        // A scale of one's own says that the values were looked at.
        let unsaid = self.values.is_none() && self.scale == ScaleConfig::None && data.dims().rank() == 3;
        ensure!(
            !unsaid || most <= FAR,
            InvalidArgument,
            "the data are images of floats up to {most}, expected -1 to 1: give data.values in the training config, \
             0..255 for grey levels or data if they are meant as they are"
        );
        Ok(data)
    }
}

fn values(text: &str) -> Result<Values> {
    Values::parse(text).ok_or_else(|| {
        let shown: String = text.chars().take(40).collect();
        err!(
            Config,
            "data.values is {shown:?} in the training config, expected bytes, unit, data or a range such as 0..65535"
        )
    })
}

fn scale(value: Option<Value>) -> Result<ScaleConfig> {
    match &value {
        None => return Ok(ScaleConfig::None),
        Some(Value::String(s)) if s == "unit_variance" => return Ok(ScaleConfig::UnitVariance),
        Some(Value::Array(a)) => {
            if let [Some(scl), Some(shft)] = *a.iter().map(Value::as_f64).collect::<Vec<_>>() {
                return Ok(ScaleConfig::Given(Scale { scl, shft }));
            }
        }
        _ => {}
    }
    Err(err!(Config, "data.scale in the training config is neither \"unit_variance\" nor [scl, shft]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(name: &str, bytes: &[u8], config: &str) -> Result<(Dataset, Scale)> {
        let folder = std::env::temp_dir();
        let path = folder.join(std::format!("undiffuse-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes)?;
        let text = config.replace("PATH", &path.to_string_lossy());
        let found = Keys::parse(&text).and_then(DataConfig::read).and_then(|c| c.load(&folder, 0));
        std::fs::remove_file(&path)?;
        found
    }

    #[test]
    fn grey_levels_of_files_become_images_between_minus_one_and_one() {
        // Two images of 1 x 2 bytes.
        let idx = [0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, 0, 255, 51, 204];
        let (data, scale) = load("a", &idx, r#"{"kind": "idx", "path": "PATH"}"#).unwrap();
        assert_eq!((data.values(), scale), (&[-1.0, 1.0, -0.6, 0.6][..], Scale::default()));
        let (data, _) = load("b", &idx, r#"{"kind": "idx", "path": "PATH", "values": "data"}"#).unwrap();
        assert_eq!(data.values(), [0.0, 255.0, 51.0, 204.0]);
        // The scale of the model is that of images, whose variance is 0.68.
        let (_, scale) = load("c", &idx, r#"{"kind": "idx", "path": "PATH", "scale": "unit_variance"}"#).unwrap();
        assert!((scale.scl - 0.68f64.sqrt().recip()).abs() < 1e-7 && scale.shft.abs() < 1e-7, "{scale:?}");
        let e = load("d", &idx, r#"{"kind": "idx", "path": "PATH", "values": "grey"}"#).unwrap_err();
        assert!(e.message().contains("values"), "{e}");
    }

    fn read(json: &str) -> Result<DataConfig> {
        DataConfig::read(Keys::parse(json)?)
    }

    #[test]
    fn numbers_of_a_file_are_what_their_type_says_or_the_configuration() {
        let folder = std::env::temp_dir().join(alloc::format!("undiffuse-values-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let write = |descr: &str, data: &[u8]| {
            let header = alloc::format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (2, 1, 1, 2), }}\n");
            let mut file = b"\x93NUMPY\x01\x00".to_vec();
            file.extend((header.len() as u16).to_le_bytes());
            file.extend(header.bytes());
            file.extend(data);
            std::fs::write(folder.join("x.npy"), file).unwrap();
        };
        let load = |more: &str| {
            let config = read(&alloc::format!(r#"{{"kind": "npy", "path": "x.npy"{more}}}"#))?;
            Ok::<_, crate::Error>(config.load(&folder, 0)?.0.values().to_vec())
        };
        let refused = |more: &str, text: &str| {
            let e = load(more).unwrap_err();
            assert!(e.message().contains(text), "{e}");
        };
        let grey = [-1.0, 1.0, -1.0 + 51.0 / 127.5, 0.2];
        let close = |x: &[f32]| x.iter().zip(grey).all(|(x, g)| (x - g).abs() < 1e-6);
        write("|u1", &[0, 255, 51, 153]);
        assert!(close(&load("").unwrap()));
        assert_eq!(load(r#", "values": "data""#).unwrap(), [0.0, 255.0, 51.0, 153.0]);
        refused(r#", "values": "unit""#, "outside of that range");
        refused(r#", "values": "0.255""#, "a range such as 0..65535");
        write("<u2", &[0, 0, 255, 0, 51, 0, 153, 0]);
        refused("", "the numbers are uint16");
        // What it advises.
        assert!(close(&load(r#", "values": "0..255""#).unwrap()));
        write("|b1", &[0, 1, 1, 0]);
        refused("", "the numbers are bool");
        assert_eq!(load(r#", "values": "data""#).unwrap(), [0.0, 1.0, 1.0, 0.0]);
        let floats = |x: [f32; 4]| x.iter().flat_map(|v| v.to_le_bytes()).collect::<alloc::vec::Vec<u8>>();
        write("|u1", &[0, 1, 1, 0]);
        refused(r#", "dims": [2]"#, "of uint8, which are no images: give data.values");
        assert_eq!(load(r#", "dims": [2], "values": "data""#).unwrap(), [0.0, 1.0, 1.0, 0.0]);
        write("<f4", &floats(grey));
        assert_eq!(load("").unwrap(), grey);
        write("<f4", &floats([0.0, 255.0, 51.0, 153.0]));
        refused("", "images of floats up to 255");
        assert!(close(&load(r#", "values": "0..255""#).unwrap()));
        // A scale of one's own is for values that were looked at.
        assert_eq!(load(r#", "scale": "unit_variance""#).unwrap()[1], 255.0);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
