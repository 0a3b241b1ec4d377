//! Data of a command line, in the scale that models' samples are written in.

use std::path::{Path, PathBuf};

use undiffuse::noise::Stream;
use undiffuse::npy;
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
}

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
        let (dims, all, usual) = self.find(path)?;
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
        let values = self.values.unwrap_or(usual);
        let scale = values.scale();
        scale.apply(&mut x);
        if values != Values::Data && x.iter().any(|v| v.abs() > 1.0) {
            let name = Values::NAMES.iter().find(|(_, v)| *v == values).map_or("", |(name, _)| name);
            return Err(named(format!("values are out of the range of \"{name}\": give --values")));
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

    /// The dimensions of a sample, all samples, and what their values are if nobody says.
    fn find(&self, path: &Path) -> Result<(Dims, Vec<f32>, Values)> {
        if path.extension().is_some_and(|e| e == "npy") {
            let (dims, x) = npy::read(path)?.into_samples().map_err(|e| e.context(path.display()))?;
            return Ok((dims, x, Values::Data));
        }
        self.other(path)
    }

    #[cfg(not(feature = "training"))]
    fn other(&self, path: &Path) -> Result<(Dims, Vec<f32>, Values)> {
        let text = "this build, without the feature training, reads .npy files only";
        Err(Error::new(ErrorKind::Unsupported, format!("{}: {text}", path.display())))
    }

    #[cfg(feature = "training")]
    fn other(&self, path: &Path) -> Result<(Dims, Vec<f32>, Values)> {
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
        let (data, values) = match (named, roll) {
            (_, Some((n, roll))) => (roll.points(self.seed, n)?, Values::Data),
            (Some(("heartbeat", n)), _) if count(n).is_some() => {
                (heartbeats(self.seed, count(n).unwrap_or(0))?, Values::Data)
            }
            _ if path.is_dir() => (read_png_folder(path, Colors::Grey)?, Values::Bytes),
            _ => (read_idx(path)?, Values::Bytes),
        };
        Ok((data.dims(), data.values().to_vec(), values))
    }
}
