//! Data of a command line, in the scale that models' samples are written in.

use std::path::{Path, PathBuf};

use undiffuse::noise::Stream;
use undiffuse::tensor::Dims;
use undiffuse::training::data::{
    Colors, Dataset, GREY_LEVEL, Scale, SwissRoll, Values, draw, heartbeats, read_idx, read_npy, read_png_folder,
};
use undiffuse::{Error, ErrorKind, Result};

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
        let (data, usual) = self.find(path)?;
        let named = |text: String| Error::new(ErrorKind::InvalidArgument, format!("{}: {text}", path.display()));
        let (dims, n, there) = (data.dims(), data.dims().elements(), data.count());
        let count = self.count.unwrap_or(there.saturating_sub(self.skip));
        if count == 0 || self.skip.checked_add(count).is_none_or(|end| end > there) {
            return Err(named(format!("{} samples after the first {} of {there}", count, self.skip)));
        }
        let mut x = data.values().get(self.skip * n..(self.skip + count) * n).unwrap_or(&[]).to_vec();
        let values = self.values.unwrap_or(usual);
        let scale = values.scale();
        scale.apply(&mut x);
        if values != Values::Data && x.iter().any(|v| v.abs() > 1.0) {
            let name = Values::NAMES.iter().find(|(_, v)| *v == values).map_or("", |(name, _)| name);
            return Err(named(format!("values are out of the range of \"{name}\": give --values")));
        }
        if self.dequantize {
            for (i, sample) in x.chunks_exact_mut(n).enumerate() {
                let mut stream = Stream::new(self.seed, (self.skip + i) as u64, draw::DEQUANTISE);
                sample.iter_mut().for_each(|v| *v = (f64::from(*v) + GREY_LEVEL * stream.uniform()) as f32);
            }
        }
        let levels = values != Values::Data && !self.dequantize;
        Ok(Loaded { dims, x, scale: scale.scl, levels })
    }

    /// The data set and what its values are if nobody says.
    fn find(&self, path: &Path) -> Result<(Dataset, Values)> {
        if let Some((name, count)) = path.to_str().and_then(|p| p.split_once(':')) {
            let (count, noise) = match count.split_once(':') {
                Some((count, noise)) => (count, noise.parse().ok()),
                None => (count, Some(SwissRoll::default().noise)),
            };
            match (name, count.parse().ok(), noise) {
                ("swiss_roll", Some(count), Some(noise)) => {
                    let roll = SwissRoll { noise, ..SwissRoll::default() };
                    return Ok((roll.points(self.seed, count)?, Values::Data));
                }
                ("heartbeat", Some(count), _) => return Ok((heartbeats(self.seed, count)?, Values::Data)),
                _ => {}
            }
        }
        if path.is_dir() {
            return Ok((read_png_folder(path, Colors::Grey)?, Values::Bytes));
        }
        if path.extension().is_some_and(|e| e == "npy") {
            return Ok((read_npy(path)?, Values::Data));
        }
        Ok((read_idx(path)?, Values::Bytes))
    }
}
