//! Operators that do the same to every channel: what is known of one channel is enough for all.

use std::rc::Rc;

use undiffuse::Result;
use undiffuse::posterior::operator::LinearOperator;
use undiffuse::tensor::Dims;

use super::input::Input;
use super::operator::{Operator, OperatorArgs};
use super::reading::Reading;

/// An operator of pictures as one of their parts: of each channel by itself, in the memory of one, or of all as one.
#[derive(Clone)]
pub struct Parts {
    /// The operator of a part.
    pub one: Rc<Operator>,
    /// How many parts a picture has.
    pub count: usize,
    /// The dimensions of a part.
    pub dims: Dims,
}

impl Parts {
    /// The operator that was asked for, for pictures `dims`. Errors: as [`OperatorArgs::build`]; it is not linear.
    pub fn new(args: &OperatorArgs, dims: Dims, seed: u64, image: &Input, reading: &Reading) -> Result<Self> {
        let whole = || args.build(dims, seed, Some(image), reading);
        let (one, count, dims) = match *dims.as_slice() {
            [channels, h, w] if channels > 1 && args.is_of_channels() => {
                let channel = Dims::new(&[1, h, w])?;
                match args.build(channel, seed, Some(image), reading) {
                    Ok(one) => (one, channels, channel),
                    // A mask that differs between channels, or what is wrong with all.
                    Err(_) => (whole()?, 1, dims),
                }
            }
            _ => (whole()?, 1, dims),
        };
        one.linear()?;
        Ok(Self { one: Rc::new(one), count, dims })
    }

    /// The operator of a part, which is linear.
    pub fn linear(&self) -> Result<&dyn LinearOperator> {
        self.one.linear()
    }

    /// Values of a part of a picture, and of a measurement.
    pub fn lens(&self) -> [usize; 2] {
        let forward = self.one.forward();
        [forward.domain().elements(), forward.codomain().elements()]
    }

    /// The operator of whole pictures.
    pub fn whole(&self) -> Result<Operator> {
        let of = |dims: Dims| {
            let (first, rest) = dims.as_slice().split_first().map_or((1, &[][..]), |(f, r)| (*f, r));
            Dims::new(&[&[first.saturating_mul(self.count)], rest].concat())
        };
        let forward = self.one.forward();
        let (input, output) = (of(forward.domain())?, of(forward.codomain())?);
        Ok(Operator::Other(Box::new(Whole { parts: self.clone(), input, output })))
    }

    /// Whether it is a mask.
    pub fn picks(&self) -> bool {
        matches!(*self.one, Operator::Mask(_))
    }

    /// Bytes that the operator holds, as far as it tells.
    pub fn bytes(&self) -> usize {
        let Some(svd) = self.one.as_linear().and_then(LinearOperator::svd) else { return 0 };
        let places = if self.picks() { size_of::<usize>() } else { 0 };
        svd.singular_values().len().saturating_mul(size_of::<f32>() + places)
    }
}

/// Part after part.
struct Whole {
    parts: Parts,
    input: Dims,
    output: Dims,
}

impl Whole {
    fn each(
        &self,
        [from, to]: [usize; 2],
        (read, write): (&[f32], &mut [f32]),
        mut map: impl FnMut(&dyn LinearOperator, &[f32], &mut [f32]) -> Result<()>,
    ) -> Result<()> {
        let one = self.parts.linear()?;
        let rows = read.chunks(from.max(1)).zip(write.chunks_mut(to.max(1)));
        rows.take(self.parts.count).try_for_each(|(read, write)| map(one, read, write))
    }
}

impl LinearOperator for Whole {
    fn name(&self) -> &'static str {
        self.parts.one.forward().label()
    }
    fn input_dims(&self) -> Dims {
        self.input
    }
    fn output_dims(&self) -> Dims {
        self.output
    }
    fn scratch_len(&self) -> usize {
        self.parts.one.forward().forward_scratch_len()
    }
    fn solve_scratch_len(&self) -> usize {
        self.parts.one.as_linear().map_or(0, LinearOperator::solve_scratch_len)
    }
    fn apply(&self, x: &[f32], y: &mut [f32], scratch: &mut [f32]) -> Result<()> {
        self.each(self.parts.lens(), (x, y), |one, x, y| one.apply(x, y, scratch))
    }
    fn adjoint(&self, y: &[f32], x: &mut [f32], scratch: &mut [f32]) -> Result<()> {
        let [n, m] = self.parts.lens();
        self.each([m, n], (y, x), |one, y, x| one.adjoint(y, x, scratch))
    }
    fn pseudo_inverse(&self, y: &[f32], x: &mut [f32], scratch: &mut [f32]) -> Result<()> {
        let [n, m] = self.parts.lens();
        self.each([m, n], (y, x), |one, y, x| one.pseudo_inverse(y, x, scratch))
    }
    fn solve(&self, c: f64, r: &[f32], out: &mut [f32], scratch: &mut [f32]) -> Result<()> {
        let [_, m] = self.parts.lens();
        self.each([m, m], (r, out), |one, r, out| one.solve(c, r, out, scratch))
    }
}
