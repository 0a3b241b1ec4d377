//! How the files of a command line are read: what their numbers and axes mean, and what is done with other channels and
//! sizes.

use undiffuse::values::Values;

use crate::args::{Args, Outcome, usage};
use crate::picture::Fit;

/// The axes that an array may have, in the letters of `--axes`: N pictures, C channels, H rows, W columns.
pub const AXES: [&str; 6] = ["hw", "chw", "nhw", "nchw", "hwc", "nhwc"];

/// `--grey`, `--colour`, `--values`, `--axes`, `--fit` and `--mask-threshold`.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// Colours become grey.
    pub grey: bool,
    /// Grey becomes three equal channels.
    pub colour: bool,
    /// What the numbers of arrays are.
    pub values: Option<Values>,
    /// The axes of arrays.
    pub axes: Option<&'static str>,
    /// How pictures are brought to the size of the model's.
    pub fit: Option<Fit>,
    /// The share of white from which a mask's pixel is known.
    pub threshold: Option<f32>,
}

impl Reading {
    /// Takes an option if it is one of these; its value is read from `args`.
    pub fn option(&mut self, name: &str, args: &mut Args) -> Outcome<bool> {
        match name {
            "grey" => self.grey = true,
            "colour" => self.colour = true,
            "values" => self.values = Some(values(args)?),
            "axes" => self.axes = Some(args.choice(&AXES.map(|axes| (axes, axes)))?),
            "fit" => self.fit = Some(args.choice(&Fit::NAMES)?),
            "mask-threshold" => self.threshold = Some(args.number("a number", f32::MIN_POSITIVE..=1.0)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Checks what concerns several options.
    pub fn check(&self) -> Outcome {
        if self.grey && self.colour {
            return usage!("--grey and --colour exclude each other");
        }
        Ok(())
    }
}

/// The value of `--values`.
pub fn values(args: &mut Args) -> Outcome<Values> {
    let text = args.text()?;
    match Values::parse(&text) {
        Some(values) => Ok(values),
        None => usage!("--values is {text:?}, expected bytes, unit, data or BLACK..WHITE, as in 0..65535"),
    }
}
