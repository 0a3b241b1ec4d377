//! The files that samples are written to: which kinds, one or many.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use undiffuse::tensor::Dims;
use undiffuse::{Error, ErrorKind, Result};

use crate::args::{Args, Outcome, usage};
use crate::arrays::{Array, write_npy, write_safetensors_f32};
use crate::image::{Grid, Kind};
use crate::output::{Output, STANDARD};

/// What stands for the number of a sample in a name.
const NUMBER: &str = "{}";
/// The most files of one run.
const MAX_FILES: usize = 1_000_000;

/// The kinds by the names of `--format`, which are also the extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Png,
    Jpeg,
    WebP,
    Npy,
    SafeTensors,
}

const NAMES: [(&str, Name); 6] = [
    ("png", Name::Png),
    ("jpg", Name::Jpeg),
    ("jpeg", Name::Jpeg),
    ("webp", Name::WebP),
    ("npy", Name::Npy),
    ("safetensors", Name::SafeTensors),
];

/// `--format` and `--depth`.
#[derive(Clone, Debug, Default)]
pub struct FormatArgs {
    format: Option<Name>,
    depth: Option<u32>,
}

impl FormatArgs {
    /// Takes an option if it is one of these; its value is read from `args`.
    pub fn option(&mut self, name: &str, args: &mut Args) -> Outcome<bool> {
        match name {
            "format" => self.format = Some(args.choice(&NAMES)?),
            "depth" => self.depth = Some(args.choice(&[("8", 8), ("16", 16)])?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Checks the options against the names of all outputs that they are for.
    pub fn check(&self, outputs: &[&PathBuf]) -> Outcome {
        let standard = outputs.iter().filter(|p| p.as_path() == Path::new(STANDARD)).count();
        if self.format.is_some() && standard == 0 {
            return usage!("--format is for standard output, `-`; a file's name says it by its extension");
        }
        let png = |p: &&PathBuf| self.name(p) == Some(Name::Png);
        if self.depth == Some(16) && !outputs.iter().any(png) {
            return usage!("--depth 16 is for a .png");
        }
        Ok(())
    }

    /// Whether an output is a picture, which has no values outside of [-1, 1].
    pub fn is_picture(&self, path: &Path) -> bool {
        matches!(self.name(path), Some(Name::Png | Name::Jpeg | Name::WebP))
    }

    fn name(&self, path: &Path) -> Option<Name> {
        if path == Path::new(STANDARD) {
            return Some(self.format.unwrap_or(Name::Png));
        }
        let extension = path.extension().and_then(OsStr::to_str)?.to_ascii_lowercase();
        NAMES.iter().find(|(name, _)| *name == extension).map(|(_, kind)| *kind)
    }
}

/// How samples are written.
#[derive(Debug)]
enum Format {
    /// A grid of pictures.
    Picture(Grid, Kind),
    /// NumPy's format.
    Npy,
    /// One tensor, `x_0`.
    SafeTensors,
}

impl Format {
    /// By the extension, for `count` samples of `dims`.
    fn of(path: &Path, count: usize, dims: &Dims, args: &FormatArgs) -> Result<Self> {
        let picture = |kind| {
            let grid = Grid::new(count, dims.as_slice())?;
            grid.check(kind)?;
            Ok(Self::Picture(grid, kind))
        };
        match args.name(path) {
            Some(Name::Png) => picture(if args.depth == Some(16) { Kind::Png16 } else { Kind::Png }),
            Some(Name::Jpeg) => picture(Kind::Jpeg),
            Some(Name::WebP) => picture(Kind::WebP),
            Some(Name::Npy) => Ok(Self::Npy),
            Some(Name::SafeTensors) => Ok(Self::SafeTensors),
            None => Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("{}: unknown kind of file, expected .png, .jpg, .webp, .npy or .safetensors", path.display()),
            )),
        }
    }

    fn write(&self, samples: &Array, out: &mut Output) -> Result<()> {
        match self {
            Self::Picture(grid, kind) => grid.write(&samples.data, *kind, out),
            Self::Npy => write_npy(samples, out),
            Self::SafeTensors => write_safetensors_f32(&[("x_0", samples)], out),
        }
    }
}

/// Where samples of a run will be: one file for all, or with `{}` in its name one for each.
#[derive(Debug)]
pub struct Place {
    format: Format,
    to: To,
}

#[derive(Debug)]
enum To {
    One(Output),
    Each { pattern: String, first: u64, digits: usize },
}

impl Place {
    /// For `count` samples of `dims`, the first of which has the number `first`. Errors: the samples do not fit the
    /// kind of file, or the place cannot be written.
    pub fn new(path: &Path, first: u64, count: usize, dims: &Dims, args: &FormatArgs) -> Result<Self> {
        let invalid = |text: String| Error::new(ErrorKind::InvalidArgument, format!("{}: {text}", path.display()));
        let text = path.to_string_lossy();
        if !text.contains(NUMBER) {
            let format = Format::of(path, count, dims, args)?;
            return Ok(Self { format, to: To::One(Output::create(path)?) });
        }
        let pattern = path.to_str().ok_or_else(|| invalid("no UTF-8".into()))?.to_string();
        if count > MAX_FILES {
            return Err(invalid(format!("{count} files, expected at most {MAX_FILES}")));
        }
        let format = Format::of(path, 1, dims, args)?;
        let digits = first.saturating_add(count.saturating_sub(1) as u64).to_string().len();
        let to = To::Each { pattern, first, digits };
        // That there can be files is known before the work.
        drop(Output::create(&name(&to, 0))?);
        Ok(Self { format, to })
    }

    /// Writes the samples of the count and dimensions that it was made for, and gives the files their names when all
    /// are written.
    pub fn write(self, samples: &Array) -> Result<()> {
        match self.to {
            To::One(mut out) => {
                self.format.write(samples, &mut out)?;
                out.finish()
            }
            to => {
                let shape = samples.shape.get(1..).unwrap_or(&[]);
                let n: usize = shape.iter().product();
                let mut all = Vec::new();
                for (i, sample) in samples.data.chunks_exact(n.max(1)).enumerate() {
                    let one = Array { shape: [&[1], shape].concat(), data: sample.to_vec() };
                    let mut out = Output::create(&name(&to, i))?;
                    self.format.write(&one, &mut out)?;
                    out.close()?;
                    all.push(out);
                }
                all.into_iter().try_for_each(Output::finish)
            }
        }
    }
}

/// The name of the file of sample `i` of a run.
fn name(to: &To, i: usize) -> PathBuf {
    match to {
        To::Each { pattern, first, digits } => {
            let number = first.saturating_add(i as u64);
            PathBuf::from(pattern.replace(NUMBER, &format!("{number:0digits$}")))
        }
        To::One(_) => PathBuf::new(),
    }
}
