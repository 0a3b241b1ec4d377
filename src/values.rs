//! What the values of a file mean, and the affine maps between scales.

/// An affine map of all values: x scl + shft, the authors' names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// The factor.
    pub scl: f64,
    /// What is added after it.
    pub shft: f64,
}

impl Default for Scale {
    /// None: 1 and 0.
    fn default() -> Self {
        Self { scl: 1.0, shft: 0.0 }
    }
}

impl Scale {
    /// x scl + shft, in f64, rounded once.
    pub fn apply(&self, values: &mut [f32]) {
        values.iter_mut().for_each(|v| *v = (f64::from(*v) * self.scl + self.shft) as f32);
    }

    /// The inverse of [`Scale::apply`].
    pub fn undo(&self, values: &mut [f32]) {
        values.iter_mut().for_each(|v| *v = ((f64::from(*v) - self.shft) / self.scl) as f32);
    }

    /// What is added to a log-likelihood of scaled values to get that of the raw ones, in bits per dimension: log2 scl.
    pub fn bits_per_dim(&self) -> f64 {
        libm::log2(self.scl.abs())
    }
}

/// One grey level in the scale of samples: uniform noise of this width makes a density of whole numbers.
pub const GREY_LEVEL: f64 = 1.0 / 127.5;

/// What a file's values are. A model's samples are [`Values::Data`]: images lie in [-1, 1].
///
/// ```
/// use undiffuse::values::Values;
///
/// let mut bytes = [0.0, 127.5, 255.0];
/// Values::Bytes.scale().apply(&mut bytes);
/// assert_eq!(bytes, [-1.0, 0.0, 1.0]);
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
