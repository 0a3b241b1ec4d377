//! What is done to each value by itself: clipping, gamma, quantisation.

use super::ForwardOperator;
use crate::error::{Result, ensure};
use crate::tensor::Dims;

/// A map of single values.
trait Pointwise {
    const NAME: &'static str;
    fn dims(&self) -> Dims;
    fn value(&self, x: f64) -> f64;
    fn slope(&self, x: f64) -> f64;
    fn steepest(&self) -> f64;
}

/// y = clamp(gain x, -1, 1): a camera that is overexposed by `gain` (high dynamic range, as DAPS and others test with a
/// gain of 2).
///
/// Its derivative is `gain` where |gain x| < 1 and 0 elsewhere: what is clipped says nothing of by how much, and a
/// method that goes by the gradient does not move it, also where it is clipped at the wrong end. So
/// [`RedDiff`](crate::posterior::RedDiff), which begins within, does best on digits, and
/// [`Daps`](crate::posterior::Daps), whose early levels are wide, worst.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clip {
    dims: Dims,
    gain: f64,
}

impl Clip {
    /// Of samples of any shape. Errors: kind `InvalidArgument` for a gain that is not above 0 or not finite.
    pub fn new(dims: Dims, gain: f64) -> Result<Self> {
        ensure!(gain > 0.0 && gain.is_finite(), InvalidArgument, "clipping with a gain of {gain}, expected above 0");
        Ok(Self { dims, gain })
    }
}

impl Pointwise for Clip {
    const NAME: &'static str = "clipping";
    fn dims(&self) -> Dims {
        self.dims
    }
    fn value(&self, x: f64) -> f64 {
        (self.gain * x).clamp(-1.0, 1.0)
    }
    fn slope(&self, x: f64) -> f64 {
        if (self.gain * x).abs() < 1.0 { self.gain } else { 0.0 }
    }
    fn steepest(&self) -> f64 {
        self.gain
    }
}

/// Below this share of white gamma is a straight line.
const TOE: f64 = 1.0 / 512.0;

/// y = 2 u^g - 1 with u = (x + 1) / 2: the curve of a display or of film on the range [-1, 1] of pictures. For u below
/// 1 / 512 and above 1 it is continued along its tangents, so that it has a derivative everywhere and no x is lost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gamma {
    dims: Dims,
    exponent: f64,
}

impl Gamma {
    /// Of samples of any shape. Errors: kind `InvalidArgument` for an exponent g that is not in 0.1 ..= 10.
    pub fn new(dims: Dims, exponent: f64) -> Result<Self> {
        ensure!((0.1..=10.0).contains(&exponent), InvalidArgument, "a gamma of {exponent}, expected 0.1 to 10");
        Ok(Self { dims, exponent })
    }
}

impl Pointwise for Gamma {
    const NAME: &'static str = "gamma";
    fn dims(&self) -> Dims {
        self.dims
    }
    fn value(&self, x: f64) -> f64 {
        let u = 0.5 * (x + 1.0);
        let on = u.clamp(TOE, 1.0);
        2.0 * (libm::pow(on, self.exponent) + (u - on) * self.slope(x)) - 1.0
    }
    fn slope(&self, x: f64) -> f64 {
        self.exponent * libm::pow((0.5 * (x + 1.0)).clamp(TOE, 1.0), self.exponent - 1.0)
    }
    fn steepest(&self) -> f64 {
        self.slope(-1.0).max(self.slope(1.0))
    }
}

/// y is the nearest of `levels` values that are evenly spread over [-1, 1], both ends among them, as a picture stored
/// in few bits; halves go to the even level.
///
/// A step function has no gradient. What stands for it is that of y = x, which is within half a level of it: where x
/// leads to another level than was measured it is drawn towards it, and where it leads to the same it is left alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantize {
    dims: Dims,
    levels: u32,
}

impl Quantize {
    /// Of samples of any shape. Errors: kind `InvalidArgument` for other than 2 to 65536 levels.
    pub fn new(dims: Dims, levels: u32) -> Result<Self> {
        ensure!((2..=65536).contains(&levels), InvalidArgument, "quantisation to {levels} levels, expected 2 to 65536");
        Ok(Self { dims, levels })
    }
}

impl Pointwise for Quantize {
    const NAME: &'static str = "quantisation";
    fn dims(&self) -> Dims {
        self.dims
    }
    fn value(&self, x: f64) -> f64 {
        let gaps = f64::from(self.levels - 1);
        2.0 * libm::rint(0.5 * (x.clamp(-1.0, 1.0) + 1.0) * gaps) / gaps - 1.0
    }
    fn slope(&self, _: f64) -> f64 {
        1.0
    }
    fn steepest(&self) -> f64 {
        1.0
    }
}

fn check<P: Pointwise>(of: &P, lengths: [usize; 2]) -> Result<()> {
    let n = of.dims().elements();
    let got = lengths.into_iter().find(|&len| len != n);
    ensure!(got.is_none(), Shape, "{} was given {} values, expected {n}", P::NAME, got.unwrap_or(n));
    Ok(())
}

macro_rules! is_pointwise {
    ($($of:ty),*) => {$(
        impl ForwardOperator for $of {
            fn label(&self) -> &'static str {
                <Self as Pointwise>::NAME
            }
            fn domain(&self) -> Dims {
                self.dims
            }
            fn codomain(&self) -> Dims {
                self.dims
            }
            fn forward(&self, x: &[f32], y: &mut [f32], _: &mut [f32]) -> Result<()> {
                check(self, [x.len(), y.len()])?;
                y.iter_mut().zip(x).for_each(|(y, &x)| *y = self.value(f64::from(x)) as f32);
                Ok(())
            }
            fn vjp(&self, x: &[f32], v: &[f32], out: &mut [f32], _: &mut [f32]) -> Result<()> {
                check(self, [x.len(), v.len()])?;
                check(self, [x.len(), out.len()])?;
                for ((out, &x), &v) in out.iter_mut().zip(x).zip(v) {
                    *out = (self.slope(f64::from(x)) * f64::from(v)) as f32;
                }
                Ok(())
            }
            fn steepest(&self) -> Option<f64> {
                Some(Pointwise::steepest(self))
            }
        }
    )*};
}

is_pointwise!(Clip, Gamma, Quantize);
