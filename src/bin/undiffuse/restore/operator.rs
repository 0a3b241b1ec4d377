//! Which operator: its name on the command line, and what makes it.

use std::path::PathBuf;

use undiffuse::noise::Stream;
use undiffuse::posterior::operator::{
    Bicubic, BlockAverage, Channels, CircularBlur, Clip, Dense, ForwardOperator, FourierMagnitude, Gamma, Grey,
    Hadamard, Identity, LinearOperator, Mask, Padding, Quantize, SeparableBlur, gaussian_kernel,
};
use undiffuse::tensor::Dims;
use undiffuse::{Error, ErrorKind, Result};

use super::input::Input;
use super::reading::Reading;
use crate::args::{Args, Outcome, usage};

/// The draw of a random mask; no chain comes near it.
const MASK_DRAW: u64 = u64::MAX - 1;
/// The standard deviation of `blur`, in pixels.
const BLUR_SIGMA: f64 = 1.5;
/// The share of pixels that `random` hides.
const RANDOM_HIDDEN: f64 = 0.5;
/// What `clip` multiplies by and the longer sides of `phase`.
const CLIP_GAIN: f64 = 2.0;
const OVERSAMPLING: f64 = 2.0;
/// The largest whole number in an operator.
const MAX_NUMBER: usize = 1 << 16;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Side {
    Upper,
    Lower,
    Left,
    Right,
}

#[derive(Clone, Debug, PartialEq)]
enum Spec {
    Identity,
    Mask,
    Box { at: Option<[usize; 2]>, size: Option<[usize; 2]> },
    Half(Side),
    Random(f64),
    Channels(Vec<usize>),
    Average(usize),
    Bicubic(usize),
    Blur { sigma: f64, taps: Option<usize> },
    Kernel,
    Grey,
    Hadamard(Option<usize>),
    Dense,
    Clip(f64),
    Gamma(f64),
    Quantize(u32),
    Phase(f64),
}

/// `--operator` and the files that some operators need.
#[derive(Debug)]
pub struct OperatorArgs {
    spec: Spec,
    text: String,
    mask: Option<PathBuf>,
    alpha: bool,
    kernel: Option<PathBuf>,
    matrix: Option<PathBuf>,
}

/// What papers tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Super-resolution.
    Scaling,
    /// Deblurring.
    Blur,
    /// Inpainting and anything else.
    Other,
}

/// An operator; a mask is kept as one, because some methods need to know.
pub enum Operator {
    /// Known pixels.
    Mask(Mask),
    /// Anything else that is linear.
    Other(Box<dyn LinearOperator>),
    /// What is not.
    Forward(Box<dyn ForwardOperator>),
}

impl Operator {
    /// As any operator.
    pub fn forward(&self) -> &dyn ForwardOperator {
        match self {
            Self::Mask(m) => m,
            Self::Other(o) => o,
            Self::Forward(o) => o.as_ref(),
        }
    }

    /// As one that is linear, where it is.
    pub fn as_linear(&self) -> Option<&dyn LinearOperator> {
        match self {
            Self::Mask(m) => Some(m),
            Self::Other(o) => Some(o.as_ref()),
            Self::Forward(_) => None,
        }
    }

    /// As one that is linear. Errors: kind `Unsupported`, for a method that needs it to be.
    pub fn linear(&self) -> Result<&dyn LinearOperator> {
        self.as_linear().ok_or_else(|| {
            let text = format!("{} is not linear, as this method needs it to be", self.forward().label());
            Error::new(ErrorKind::Unsupported, text)
        })
    }
}

impl OperatorArgs {
    /// The operator that a command begins with.
    pub fn new(text: &str) -> Self {
        let spec = parse(text).unwrap_or(Spec::Identity);
        Self { spec, text: text.into(), mask: None, alpha: false, kernel: None, matrix: None }
    }

    /// Takes an option if it is one of these; its value is read from `args`.
    pub fn option(&mut self, name: &str, args: &mut Args) -> Outcome<bool> {
        match name {
            "operator" => {
                let text = args.text()?;
                match parse(&text) {
                    Some(spec) => (self.spec, self.text) = (spec, text),
                    None => {
                        return usage!(
                            "--operator is {text:?}, expected identity, mask, box, half, random, channels:LIST, srN, \
                             bicubic-srN, blur, kernel, grey, hadamard, dense, clip, gamma, quantize or phase; {}",
                            args.see_help()
                        );
                    }
                }
            }
            "mask" => self.mask = Some(args.path()?),
            "alpha-mask" => self.alpha = true,
            "kernel" => self.kernel = Some(args.path()?),
            "matrix" => self.matrix = Some(args.path()?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Checks that the files are there that the operator needs, and no others.
    pub fn check(&self) -> Outcome {
        for (option, given, needed) in [
            ("--mask", self.mask.is_some(), self.spec == Spec::Mask && !self.alpha),
            ("--alpha-mask", self.alpha, self.spec == Spec::Mask && self.alpha),
            ("--kernel", self.kernel.is_some(), self.spec == Spec::Kernel),
            ("--matrix", self.matrix.is_some(), self.spec == Spec::Dense),
        ] {
            if given && !needed {
                let with = if self.alpha && option != "--alpha-mask" {
                    "alpha-mask".into()
                } else {
                    format!("operator {}", self.text)
                };
                return usage!("{option} has no use with --{with}");
            }
            if needed && !given {
                let or = if self.spec == Spec::Mask { " or --alpha-mask" } else { "" };
                return usage!("--operator {} needs {option} FILE{or}", self.text);
            }
        }
        Ok(())
    }

    /// As the user wrote it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the picture itself is seen.
    pub fn is_identity(&self) -> bool {
        self.spec == Spec::Identity
    }

    /// Whether it picks pixels: masks of all kinds and the identity.
    pub fn picks_pixels(&self) -> bool {
        self.is_mask() || self.spec == Spec::Identity
    }

    /// Whether it is a mask of any kind.
    pub fn is_mask(&self) -> bool {
        matches!(self.spec, Spec::Mask | Spec::Box { .. } | Spec::Half(_) | Spec::Random(_))
    }

    /// Whether it does the same to each channel, and nothing between them, unless its mask says otherwise.
    pub fn is_of_channels(&self) -> bool {
        self.picks_pixels()
            || matches!(self.spec, Spec::Average(_) | Spec::Bicubic(_) | Spec::Blur { .. } | Spec::Kernel)
    }

    /// Whether it is linear.
    pub fn is_linear(&self) -> bool {
        !matches!(self.spec, Spec::Clip(_) | Spec::Gamma(_) | Spec::Quantize(_) | Spec::Phase(_))
    }

    /// The kind of task, where published step sizes differ.
    pub fn task(&self) -> Task {
        match self.spec {
            Spec::Average(_) | Spec::Bicubic(_) => Task::Scaling,
            Spec::Blur { .. } | Spec::Kernel => Task::Blur,
            _ => Task::Other,
        }
    }

    /// Whether a measurement comes as a whole picture, of which what is not seen is ignored.
    pub fn sees_whole(&self) -> bool {
        self.is_mask() || matches!(self.spec, Spec::Channels(_))
    }

    /// The file of the mask, if one was given.
    pub fn mask_file(&self) -> Option<&PathBuf> {
        self.mask.as_ref()
    }

    /// Whether the mask is the transparency of the picture.
    pub fn is_alpha(&self) -> bool {
        self.alpha
    }

    /// Whether values of a measurement lie where those of pictures do, but for noise.
    pub fn keeps_range(&self) -> Result<bool> {
        Ok(match (&self.spec, &self.kernel) {
            (Spec::Hadamard(_) | Spec::Dense | Spec::Phase(_), _) => false,
            // Taps that add up to no more than 1.
            (Spec::Kernel, Some(path)) => {
                let taps = Input::read(path)?;
                taps.numbers()?.data.iter().map(|tap| f64::from(tap.abs())).sum::<f64>() < 1.001
            }
            _ => true,
        })
    }

    /// The channels of a measurement of pictures of so many; `None` where it is no picture.
    pub fn channels(&self, channels: usize) -> Option<usize> {
        match self.spec {
            Spec::Grey => Some(1),
            Spec::Hadamard(_) | Spec::Dense | Spec::Phase(_) => None,
            _ => Some(channels),
        }
    }

    /// The size of the pictures behind a measurement of `size`; `None` where it does not tell.
    pub fn picture_size(&self, [h, w]: [usize; 2]) -> Option<[usize; 2]> {
        match self.spec {
            Spec::Average(n) | Spec::Bicubic(n) => Some([h.checked_mul(n)?, w.checked_mul(n)?]),
            Spec::Hadamard(_) | Spec::Dense | Spec::Phase(_) => None,
            _ => Some([h, w]),
        }
    }

    /// The operator for samples of `dims`. The alpha of `image` is the mask, where that was asked for.
    pub fn build(&self, dims: Dims, seed: u64, image: Option<&Input>, reading: &Reading) -> Result<Operator> {
        let whole = |channels: &[f32]| -> Result<Box<dyn LinearOperator>> {
            Ok(Box::new(SeparableBlur::new(dims, channels, channels, Padding::Symmetric)?))
        };
        let file = |path: &Option<PathBuf>| match path {
            Some(path) => Input::read(path),
            None => Err(Error::new(ErrorKind::InvalidArgument, format!("{} needs a file", self.text))),
        };
        let other: Box<dyn LinearOperator> = match &self.spec {
            Spec::Mask => {
                if let (true, Some(image)) = (self.alpha, image) {
                    let mask = Mask::new(dims, &image.alpha_mask(&dims, reading)?);
                    return Ok(Operator::Mask(mask.map_err(|e| e.context(image.name()))?));
                }
                let input = file(&self.mask)?;
                let mask = Mask::new(dims, &input.mask(&dims, reading)?);
                return Ok(Operator::Mask(mask.map_err(|e| e.context(input.name()))?));
            }
            Spec::Box { .. } | Spec::Half(_) | Spec::Random(_) => {
                return self.made_mask(dims, seed).map(Operator::Mask);
            }
            Spec::Identity => Box::new(Identity::new(dims)?),
            Spec::Channels(kept) => Box::new(Channels::new(dims, kept)?),
            Spec::Average(n) => Box::new(BlockAverage::new(dims, *n)?),
            Spec::Bicubic(n) => Box::new(Bicubic::new(dims, *n, Padding::Symmetric)?),
            Spec::Blur { sigma, taps } => {
                // Three standard deviations to each side.
                let taps = taps.unwrap_or_else(|| 2 * (3.0 * sigma).ceil().min(512.0) as usize + 1);
                whole(&gaussian_kernel(taps, *sigma)?)?
            }
            Spec::Kernel => {
                let input = file(&self.kernel)?;
                let kernel = input.numbers()?;
                let &[h, w] = kernel.shape.as_slice() else {
                    let text = format!("{}: the kernel has shape {:?}, expected [H, W]", input.name(), kernel.shape);
                    return Err(Error::new(ErrorKind::Shape, text));
                };
                Box::new(CircularBlur::new(dims, &kernel.data, h, w).map_err(|e| e.context(input.name()))?)
            }
            Spec::Clip(gain) => return Ok(Operator::Forward(Box::new(Clip::new(dims, *gain)?))),
            Spec::Gamma(g) => return Ok(Operator::Forward(Box::new(Gamma::new(dims, *g)?))),
            Spec::Quantize(levels) => return Ok(Operator::Forward(Box::new(Quantize::new(dims, *levels)?))),
            Spec::Phase(by) => return Ok(Operator::Forward(Box::new(FourierMagnitude::new(dims, *by)?))),
            Spec::Grey => Box::new(Grey::mean(dims)?),
            Spec::Hadamard(m) => {
                Box::new(Hadamard::new(dims, m.unwrap_or_else(|| (dims.positions() / 4).max(1)), seed)?)
            }
            Spec::Dense => {
                let input = file(&self.matrix)?;
                let matrix = input.numbers()?;
                let &[m, _] = matrix.shape.as_slice() else {
                    let text = format!("{}: the matrix has shape {:?}, expected [m, n]", input.name(), matrix.shape);
                    return Err(Error::new(ErrorKind::Shape, text));
                };
                Box::new(Dense::new(dims, Dims::new(&[m])?, &matrix.data).map_err(|e| e.context(input.name()))?)
            }
        };
        Ok(Operator::Other(other))
    }

    fn made_mask(&self, dims: Dims, seed: u64) -> Result<Mask> {
        let &[_, h, w] = dims.as_slice() else {
            return Err(Error::new(ErrorKind::Shape, format!("{} needs images, got samples of {dims}", self.text)));
        };
        match self.spec {
            Spec::Box { at, size } => {
                let [height, width] = size.unwrap_or([h / 2, w / 2]);
                let centre = [h.saturating_sub(height) / 2, w.saturating_sub(width) / 2];
                let [top, left] = at.unwrap_or(centre);
                Mask::without_box(dims, top, left, height, width)
            }
            Spec::Half(seen) => match seen {
                Side::Upper => Mask::without_box(dims, h / 2, 0, h - h / 2, w),
                Side::Lower => Mask::without_box(dims, 0, 0, h - h / 2, w),
                Side::Left => Mask::without_box(dims, 0, w / 2, h, w - w / 2),
                Side::Right => Mask::without_box(dims, 0, 0, h, w - w / 2),
            },
            _ => {
                let hidden = if let Spec::Random(p) = self.spec { p } else { RANDOM_HIDDEN };
                let mut stream = Stream::new(seed, 0, MASK_DRAW);
                let known: Vec<bool> = (0..dims.positions()).map(|_| stream.uniform() >= hidden).collect();
                Mask::new(dims, &known)
            }
        }
    }
}

/// An operator from its text, `NAME` or `NAME:DETAILS`.
fn parse(text: &str) -> Option<Spec> {
    let number = |s: &str| s.parse().ok().filter(|n| (1..=MAX_NUMBER).contains(n));
    let size = |s: &str| {
        let (h, w) = s.split_once('x')?;
        Some([number(h)?, number(w)?])
    };
    let positive = |s: &str| s.parse().ok().filter(|v: &f64| *v > 0.0 && v.is_finite());
    let (name, details) = match text.split_once(':') {
        Some((name, details)) => (name, Some(details)),
        None => (text, None),
    };
    Some(match (name, details) {
        ("identity", None) => Spec::Identity,
        ("mask", None) => Spec::Mask,
        ("kernel", None) => Spec::Kernel,
        ("grey" | "gray", None) => Spec::Grey,
        ("dense", None) => Spec::Dense,
        ("box", None) => Spec::Box { at: None, size: None },
        ("box", Some(d)) => match d.split(',').collect::<Vec<_>>().as_slice() {
            [s] => Spec::Box { at: None, size: Some(size(s)?) },
            [top, left, s] => Spec::Box { at: Some([top.parse().ok()?, left.parse().ok()?]), size: Some(size(s)?) },
            _ => return None,
        },
        ("half", d) => Spec::Half(match d {
            None | Some("upper") => Side::Upper,
            Some("lower") => Side::Lower,
            Some("left") => Side::Left,
            Some("right") => Side::Right,
            _ => return None,
        }),
        ("random", None) => Spec::Random(RANDOM_HIDDEN),
        ("random", Some(p)) => Spec::Random(positive(p).filter(|p| *p < 1.0)?),
        ("channels", Some(list)) => Spec::Channels(list.split(',').map(|c| c.parse().ok()).collect::<Option<_>>()?),
        ("blur", None) => Spec::Blur { sigma: BLUR_SIGMA, taps: None },
        ("blur", Some(d)) => match d.split_once(',') {
            None => Spec::Blur { sigma: positive(d)?, taps: None },
            Some((sigma, taps)) => Spec::Blur { sigma: positive(sigma)?, taps: Some(number(taps)?) },
        },
        ("clip", None) => Spec::Clip(CLIP_GAIN),
        ("clip", Some(gain)) => Spec::Clip(positive(gain)?),
        ("gamma", Some(g)) => Spec::Gamma(positive(g)?),
        ("quantize", Some(levels)) => Spec::Quantize(levels.parse().ok().filter(|l| (2..=65536).contains(l))?),
        ("phase", None) => Spec::Phase(OVERSAMPLING),
        ("phase", Some(by)) => Spec::Phase(positive(by).filter(|by| *by >= 1.0)?),
        ("hadamard", None) => Spec::Hadamard(None),
        ("hadamard", Some(m)) => Spec::Hadamard(Some(number(m)?)),
        (name, None) => match (name.strip_prefix("bicubic-sr"), name.strip_prefix("sr")) {
            (Some(n), _) => Spec::Bicubic(number(n)?),
            (_, Some(n)) => Spec::Average(number(n)?),
            _ => return None,
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_nonsense_is_not() {
        for (text, spec) in [
            ("box:3,4,5x6", Spec::Box { at: Some([3, 4]), size: Some([5, 6]) }),
            ("box:100x100", Spec::Box { at: None, size: Some([100, 100]) }),
            ("half:left", Spec::Half(Side::Left)),
            ("random:0.9", Spec::Random(0.9)),
            ("channels:0,2", Spec::Channels(vec![0, 2])),
            ("sr4", Spec::Average(4)),
            ("bicubic-sr2", Spec::Bicubic(2)),
            ("blur:2.5,9", Spec::Blur { sigma: 2.5, taps: Some(9) }),
            ("hadamard:64", Spec::Hadamard(Some(64))),
            ("clip", Spec::Clip(2.0)),
            ("clip:1.5", Spec::Clip(1.5)),
            ("gamma:0.45", Spec::Gamma(0.45)),
            ("quantize:4", Spec::Quantize(4)),
            ("phase:1.5", Spec::Phase(1.5)),
        ] {
            assert_eq!(parse(text), Some(spec), "{text}");
        }
        for text in [
            "",
            "sr",
            "sr0",
            "srx",
            "box:",
            "box:3",
            "box:1,2",
            "box:0x4",
            "half:top",
            "random:0",
            "random:1",
            "random:nan",
            "blur:0",
            "blur:inf",
            "blur:-1",
            "channels",
            "channels:",
            "channels:a",
            "mask:x",
            "hadamard:0",
            "sr2:3",
            "identity:1",
            "clip:0",
            "gamma",
            "gamma:-1",
            "quantize",
            "quantize:1",
            "phase:0.5",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn halves_and_boxes_are_where_they_are_said_to_be() {
        let dims = Dims::new(&[1, 4, 4]).unwrap();
        let known = |text: &str| match OperatorArgs::new(text).build(dims, 3, None, &Reading::default()).unwrap() {
            Operator::Mask(m) => m.known().to_vec(),
            _ => Vec::new(),
        };
        assert_eq!(known("half"), (0..8).collect::<Vec<_>>());
        assert_eq!(known("half:lower"), (8..16).collect::<Vec<_>>());
        assert_eq!(known("half:left"), [0, 1, 4, 5, 8, 9, 12, 13]);
        assert_eq!(known("half:right"), [2, 3, 6, 7, 10, 11, 14, 15]);
        assert_eq!(known("box"), [0, 1, 2, 3, 4, 7, 8, 11, 12, 13, 14, 15]);
        assert_eq!(known("box:0,1,4x3"), [0, 4, 8, 12]);
        let random = known("random:0.25");
        assert!((8..16).contains(&random.len()) && random == known("random:0.25"));
    }
}
