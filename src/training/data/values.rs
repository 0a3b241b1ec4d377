//! What the values of a file mean.

use super::Scale;

/// One grey level in the scale of samples: uniform noise of this width makes a density of whole numbers.
pub const GREY_LEVEL: f64 = 1.0 / 127.5;

/// What a file's values are. A model's samples are [`Values::Data`]: images lie in [-1, 1].
///
/// ```
/// use undiffuse::tensor::Dims;
/// use undiffuse::training::data::{Dataset, Values};
///
/// let bytes = Dataset::new(Dims::new(&[3])?, vec![0.0, 127.5, 255.0])?;
/// assert_eq!(bytes.rescaled(Values::Bytes.scale()).values(), [-1.0, 0.0, 1.0]);
/// # Ok::<(), undiffuse::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Values {
    /// Grey levels 0 to 255.
    Bytes,
    /// The same divided by 255.
    Unit,
    /// As samples are written: images in [-1, 1], others as they are.
    #[default]
    Data,
}

impl Values {
    /// The names of configurations and of the command line.
    pub const NAMES: [(&'static str, Self); 3] = [("bytes", Self::Bytes), ("unit", Self::Unit), ("data", Self::Data)];

    /// What brings a file's values to the scale of samples.
    pub fn scale(self) -> Scale {
        match self {
            Self::Bytes => Scale { scl: 1.0 / 127.5, shft: -1.0 },
            Self::Unit => Scale { scl: 2.0, shft: -1.0 },
            Self::Data => Scale::default(),
        }
    }
}
