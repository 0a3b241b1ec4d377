//! Data of a command line, in the scale that models' samples are written in.

use std::path::{Path, PathBuf};

use undiffuse::noise::Stream;
use undiffuse::npy::{self, Element};
use undiffuse::tensor::Dims;
use undiffuse::values::{GREY_LEVEL, Scale, Values};
use undiffuse::{Error, ErrorKind, Result};

/// The draw of dequantisation noise, that of `undiffuse::training::data::draw`.
const DEQUANTISE: u64 = 4 << 40;

/// Which data.
#[derive(Debug, Default)]
pub struct Data {
    /// A file, a folder or a generator.
    pub from: Option<PathBuf>,
    /// What its values are.
    pub values: Option<Values>,
    /// Samples left out at the beginning.
    pub skip: usize,
    /// Samples taken after that.
    pub count: Option<usize>,
    /// Whether noise over one grey level is added.
    pub dequantize: bool,
    /// Of the generators and that noise.
    pub seed: u64,
    /// Colours become grey.
    pub grey: bool,
    /// Grey becomes three equal channels.
    pub colour: bool,
    /// Whether they are what a model sampled.
    pub sampled: bool,
    /// What the model takes.
    pub of: Expected,
}

/// What a model's samples are, as far as that says how data are read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expected {
    /// Channels of images.
    pub channels: Option<usize>,
    /// Whether they are bits.
    pub bits: bool,
}

/// Images of floats that nobody called anything else are far outside of [-1, 1] beyond this.
const FAR: f32 = 2.0;
/// A model's own samples may go further, as those of one that has hardly been trained do; grey levels go beyond this.
const FAR_OF_SAMPLES: f32 = 16.0;

/// What was read.
pub struct Loaded {
    /// The dimensions of a sample.
    pub dims: Dims,
    /// The samples.
    pub x: Vec<f32>,
    /// What the file's values were multiplied by.
    pub scale: f64,
    /// Whether they are 256 grey levels over [-1, 1].
    pub levels: bool,
}

impl Loaded {
    /// x `scale` + `shift`, a model's own scale.
    pub fn rescale(&mut self, scale: f64, shift: f64) {
        Scale { scl: scale, shft: shift }.apply(&mut self.x);
        self.scale *= scale;
        self.levels &= scale == 1.0 && shift == 0.0;
    }
}

impl Data {
    /// Reads it.
    pub fn read(&self) -> Result<Loaded> {
        let missing = || Error::new(ErrorKind::InvalidArgument, "no data is given");
        let path = self.from.as_deref().ok_or_else(missing)?;
        let (dims, all, element) = self.find(path)?;
        let named = |text: String| Error::new(ErrorKind::InvalidArgument, format!("{}: {text}", path.display()));
        let (n, there) = (dims.elements(), all.len() / dims.elements());
        let count = self.count.unwrap_or(there.saturating_sub(self.skip));
        if count == 0 || self.skip.checked_add(count).is_none_or(|end| end > there) {
            return Err(named(format!("{} samples after the first {} of {there}", count, self.skip)));
        }
        let mut x = all.get(self.skip * n..(self.skip + count) * n).unwrap_or(&[]).to_vec();
        if x.iter().any(|v| !v.is_finite()) {
            return Err(Error::new(ErrorKind::NonFinite, format!("{}: a value is not finite", path.display())));
        }
        let values = self.meaning(element, &dims).map_err(named)?;
        let scale = values.scale();
        scale.apply(&mut x);
        let most = x.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        if values != Values::Data && most > 1.0 + 1e-6 {
            let has = if self.values.is_some() { "" } else { ", which its type says" };
            return Err(named(format!("values are out of the range {values}{has}: give --values with their range")));
        }
        let images = self.of.channels.is_some() || dims.rank() == 3;
        let far = if self.sampled { FAR_OF_SAMPLES } else { FAR };
        if self.values.is_none() && images && element.is_some() && most > far {
            let advice = if self.sampled {
                "as `undiffuse sample` writes them"
            } else {
                "or give --values 0..255, 0..1 or data"
            };
            return Err(named(format!(
                "the numbers go to {}, expected -1 to 1, {advice}",
                crate::output::number(most)
            )));
        }
        if self.dequantize {
            for (i, sample) in x.chunks_exact_mut(n).enumerate() {
                let mut stream = Stream::new(self.seed, (self.skip + i) as u64, DEQUANTISE);
                sample.iter_mut().for_each(|v| *v = (f64::from(*v) + GREY_LEVEL * stream.uniform()) as f32);
            }
        }
        let levels = values != Values::Data && !self.dequantize;
        Ok(Loaded { dims, x, scale: scale.scl, levels })
    }

    /// What the numbers of a file are; those that were made here are as they are.
    fn meaning(&self, element: Option<Element>, dims: &Dims) -> std::result::Result<Values, String> {
        let Some(element) = element else { return Ok(self.values.unwrap_or_default()) };
        // 0 and 1, which the chain of bits checks.
        let bits = self.of.bits && matches!(element, Element::Bool | Element::U8);
        let images = self.of.channels.is_some() || dims.rank() == 3;
        let usual = Values::usual(element).filter(|v| images || *v == Values::Data);
        let usual = if bits { Some(Values::Data) } else { usual };
        self.values.or(usual).ok_or_else(|| match element {
            other if self.sampled => {
                format!("the numbers are {}, expected floats as `undiffuse sample` writes them", other.name())
            }
            Element::Bool => "the numbers are bool, expected a model's samples: give --values data for 0 and 1".into(),
            other if !images => format!(
                "the numbers are {}, expected floats where there are no images: give --values data to take them as they are",
                other.name()
            ),
            other => format!(
                "the numbers are {}, grey levels of a range that the type does not say: give --values 0..255, or what it is",
                other.name()
            ),
        })
    }

    /// The dimensions of a sample, all samples, and the type of their numbers in a file.
    fn find(&self, path: &Path) -> Result<(Dims, Vec<f32>, Option<Element>)> {
        if path.extension().is_some_and(|e| e == "npy") {
            let array = npy::read(path)?;
            let element = array.element;
            let (dims, x) = array.into_samples().map_err(|e| e.context(path.display()))?;
            return Ok((dims, x, Some(element)));
        }
        self.other(path)
    }

    #[cfg(not(feature = "training"))]
    fn other(&self, path: &Path) -> Result<(Dims, Vec<f32>, Option<Element>)> {
        let text = "this build, without the feature training, reads .npy files only";
        Err(Error::new(ErrorKind::Unsupported, format!("{}: {text}", path.display())))
    }

    #[cfg(feature = "training")]
    fn other(&self, path: &Path) -> Result<(Dims, Vec<f32>, Option<Element>)> {
        use std::f64::consts::PI;

        use undiffuse::training::data::{Colors, SwissRoll, heartbeats, read_idx, read_png_folder};
        let named = path.to_str().and_then(|p| p.split_once(':'));
        let count = |text: &str| text.parse::<usize>().ok();
        let roll = named.filter(|(name, _)| *name == "swiss_roll").and_then(|(_, rest)| {
            let parts: Vec<&str> = rest.split(':').collect();
            let number = |at: usize, usual: f64| parts.get(at).map_or(Some(usual), |text| text.parse::<f64>().ok());
            let usual = SwissRoll::default();
            let roll = SwissRoll {
                noise: number(1, usual.noise)?,
                from: PI * number(2, usual.from / PI)?,
                to: PI * number(3, usual.to / PI)?,
            };
            count(parts.first()?).filter(|_| parts.len() <= 4).map(|n| (n, roll))
        });
        let data = match (named, roll) {
            (_, Some((n, roll))) => roll.points(self.seed, n)?,
            (Some(("heartbeat", n)), _) if count(n).is_some() => heartbeats(self.seed, count(n).unwrap_or(0))?,
            _ if path.is_dir() => {
                let colors = match (self.of.channels, self.grey, self.colour) {
                    (Some(3), _, false) => Colors::Rgb,
                    (_, _, true) => Colors::ToRgb,
                    (_, true, _) => Colors::ToGrey,
                    _ => Colors::Grey,
                };
                let advice = |e: Error| match (e.kind(), colors) {
                    (ErrorKind::Shape, Colors::Grey) => {
                        Error::new(ErrorKind::Shape, format!("{e}: give --grey, or a model of colours"))
                    }
                    (ErrorKind::Shape, Colors::Rgb) => {
                        Error::new(ErrorKind::Shape, format!("{e}: give --colour, or a model of grey images"))
                    }
                    _ => e,
                };
                read_png_folder(path, colors).map_err(advice)?
            }
            _ => read_idx(path)?,
        };
        Ok((data.dims(), data.values().to_vec(), data.element()))
    }
}

/// Whether samples of dimensions `found` are what a model takes as `expected`: those, or without the one channel, or
/// the values of one channel in a row. Other dimensions of as many values may be in another order.
pub fn fits(found: &Dims, expected: &Dims) -> bool {
    match expected.as_slice() {
        [1, rest @ ..] if !rest.is_empty() => {
            let all = expected.elements();
            found == expected || found.as_slice() == rest || found.as_slice() == [all]
        }
        other => found.as_slice() == other,
    }
}
