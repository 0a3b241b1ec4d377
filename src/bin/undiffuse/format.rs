//! The formats that samples are written in.

use std::ffi::OsStr;
use std::path::Path;

use undiffuse::tensor::Dims;
use undiffuse::{Error, ErrorKind, Result};

use crate::arrays::{Array, write_npy, write_safetensors_f32};
use crate::image::Grid;
use crate::output::Output;

/// How the samples are written.
pub enum Format {
    /// A grid of pictures.
    Png(Grid),
    /// NumPy's format.
    Npy,
    /// One tensor, `x_0`.
    SafeTensors,
}

impl Format {
    /// By the extension, for `count` samples of `dims`.
    pub fn of(path: &Path, count: usize, dims: &Dims) -> Result<Self> {
        match path.extension().and_then(OsStr::to_str).map(str::to_ascii_lowercase).as_deref() {
            Some("png") => Grid::new(count, dims.as_slice()).map(Self::Png),
            Some("npy") => Ok(Self::Npy),
            Some("safetensors") => Ok(Self::SafeTensors),
            _ => Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("{}: unknown kind of file, expected .png, .npy or .safetensors", path.display()),
            )),
        }
    }

    /// Writes samples of the count and dimensions that it was made for, and gives the file its name.
    pub fn write(&self, samples: &Array, mut out: Output) -> Result<()> {
        match self {
            Self::Png(grid) => grid.write(&samples.data, &mut out)?,
            Self::Npy => write_npy(samples, &mut out)?,
            Self::SafeTensors => write_safetensors_f32(&[("x_0", samples)], &mut out)?,
        }
        out.finish()
    }
}
