//! What the values of a file mean, and the affine maps between scales.

use core::fmt;

use crate::error::{Result, err};
use crate::npy::Element;

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
#[doc(hidden)]
pub const GREY_LEVEL: f64 = 1.0 / 127.5;

/// What the numbers of a file are. A model's samples are [`Values::Data`]: images lie in [-1, 1].
///
/// ```
/// use undiffuse::values::Values;
///
/// let mut bytes = [0.0, 127.5, 255.0];
/// Values::Bytes.scale().apply(&mut bytes);
/// assert_eq!(bytes, [-1.0, 0.0, 1.0]);
/// assert_eq!(Values::parse("0..255"), Some(Values::Bytes));
/// ```
///
/// What numbers of each type are, unless somebody says:
///
/// | the file | its numbers |
/// |---|---|
/// | PNG, JPEG, WebP, of 8 or 16 bits | grey levels, from black to white of their own range |
/// | an array of uint8 | grey levels from 0 to 255 |
/// | an array of float16, float32, float64 | as samples are written: images in [-1, 1]; refused where they are far outside |
/// | an array of any other integer | refused: they could be grey levels of any range |
/// | an array of bool | refused: a mask, and nothing else |
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Values {
    /// Grey levels 0 to 255.
    Bytes,
    /// The same divided by 255.
    Unit,
    /// As samples are written: images in [-1, 1], others as they are.
    #[default]
    Data,
    /// Grey levels of another range.
    Range {
        /// What becomes -1.
        black: f64,
        /// What becomes 1; not equal to `black`.
        white: f64,
    },
}

impl Values {
    /// The names of configurations and of the command line, beside ranges: see [`Values::parse`].
    pub const NAMES: [(&'static str, Self); 3] = [("bytes", Self::Bytes), ("unit", Self::Unit), ("data", Self::Data)];

    /// From one of [`Values::NAMES`], or from a range `BLACK..WHITE` of two different finite numbers.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some((_, values)) = Self::NAMES.iter().find(|(name, _)| *name == text) {
            return Some(*values);
        }
        let (black, white) = text.split_once("..")?;
        let (black, white) = (black.parse::<f64>().ok()?, white.parse::<f64>().ok()?);
        let wide = black.is_finite() && white.is_finite() && (white - black).is_finite() && white != black;
        Some(match (black, white) {
            (0.0, 255.0) => Self::Bytes,
            (0.0, 1.0) => Self::Unit,
            (-1.0, 1.0) => Self::Data,
            _ if wide => Self::Range { black, white },
            _ => return None,
        })
    }

    /// What numbers of a type are, if nobody says; `None` for types of which that cannot be known.
    pub fn usual(element: Element) -> Option<Self> {
        match element {
            Element::U8 => Some(Self::Bytes),
            Element::F16 | Element::F32 | Element::F64 => Some(Self::Data),
            _ => None,
        }
    }

    /// What the numbers of a file of samples are: `said`, or what is usual for their type.
    ///
    /// Errors: kind `InvalidArgument` if nobody says and the type does not tell.
    ///
    /// ```
    /// use undiffuse::npy::Element;
    /// use undiffuse::values::Values;
    ///
    /// assert_eq!(Values::of(Element::U8, None)?, Values::Bytes);
    /// assert_eq!(Values::of(Element::F32, None)?, Values::Data);
    /// assert!(Values::of(Element::I64, None).is_err());
    /// assert_eq!(Values::of(Element::I64, Values::parse("0..255"))?, Values::Bytes);
    /// # Ok::<(), undiffuse::Error>(())
    /// ```
    pub fn of(element: Element, said: Option<Self>) -> Result<Self> {
        said.or(Self::usual(element)).ok_or_else(|| match element {
            Element::Bool => err!(
                InvalidArgument,
                "the numbers are bool, which only a mask is: say what they are by values, data for bits as they are"
            ),
            other => err!(
                InvalidArgument,
                "the numbers are {}, which may be grey levels of any range: say which by values, as in 0..255",
                other.name()
            ),
        })
    }

    /// What brings a file's values to the scale of samples.
    pub fn scale(self) -> Scale {
        match self {
            Self::Bytes => Scale { scl: 1.0 / 127.5, shft: -1.0 },
            Self::Unit => Scale { scl: 2.0, shft: -1.0 },
            Self::Data => Scale::default(),
            Self::Range { black, white } => {
                Scale { scl: 2.0 / (white - black), shft: -(white + black) / (white - black) }
            }
        }
    }
}

impl fmt::Display for Values {
    /// As [`Values::parse`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes => f.write_str("0..255"),
            Self::Unit => f.write_str("0..1"),
            Self::Data => f.write_str("data"),
            Self::Range { black, white } => write!(f, "{black}..{white}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn a_range_is_what_it_says() {
        for (text, values) in [
            ("bytes", Values::Bytes),
            ("0..255", Values::Bytes),
            ("unit", Values::Unit),
            ("0..1", Values::Unit),
            ("data", Values::Data),
            ("-1..1", Values::Data),
            ("0..65535", Values::Range { black: 0.0, white: 65535.0 }),
            ("-1000..3000", Values::Range { black: -1000.0, white: 3000.0 }),
            ("1..0", Values::Range { black: 1.0, white: 0.0 }),
        ] {
            assert_eq!(Values::parse(text), Some(values), "{text}");
            assert_eq!(Values::parse(&values.to_string()), Some(values), "{text}");
        }
        for text in ["", "byte", "0", "..", "0..", "..255", "3..3", "0..nan", "0..inf", "-1e308..1e308", "0..1..2"] {
            assert_eq!(Values::parse(text), None, "{text}");
        }
        let mut x = [-1000.0, 1000.0, 3000.0];
        Values::Range { black: -1000.0, white: 3000.0 }.scale().apply(&mut x);
        assert_eq!(x, [-1.0, 0.0, 1.0]);
    }

    #[test]
    fn only_bytes_and_floats_need_no_word() {
        use Element::{Bool, F16, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64};
        for (element, values) in [(U8, Values::Bytes), (F16, Values::Data), (F32, Values::Data), (F64, Values::Data)] {
            assert_eq!(Values::of(element, None).unwrap(), values);
        }
        for element in [Bool, I8, U16, I16, U32, I32, U64, I64] {
            let e = Values::of(element, None).unwrap_err();
            assert!(e.message().contains(element.name()), "{e}");
            assert_eq!(Values::of(element, Some(Values::Unit)).unwrap(), Values::Unit);
        }
    }
}
