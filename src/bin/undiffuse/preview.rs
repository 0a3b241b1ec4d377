//! `--preview`: the x_0 that a run predicts, drawn while it runs.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use undiffuse::chain::never;
use undiffuse::codec::Codec;
use undiffuse::pipeline::Pipeline;
use undiffuse::tensor::Dims;
use undiffuse::{Error, ErrorKind, Result};

use crate::image::{Grid, Kind, to_byte};
use crate::output::{Output, STANDARD, note};

/// How long a picture stays at least.
const EVERY: Duration = Duration::from_millis(250);
/// The most samples of a picture.
const SAMPLES: usize = 64;
/// The most columns of a terminal that are drawn in, one for each pixel.
const COLUMNS: usize = 64;

/// Where predictions are drawn.
pub struct Preview {
    to: To,
    /// Dimensions of a picture.
    dims: Dims,
    codec: Codec,
    /// How many are drawn.
    most: usize,
    drawn: Option<Instant>,
}

enum To {
    File(PathBuf),
    /// Standard error; the lines that the last picture has there.
    Terminal(usize),
}

impl Preview {
    /// For `--preview PATH` where it was given. Errors: the samples are no pictures, or PATH is no .png that can be
    /// written.
    pub fn new(path: Option<&Path>, pipeline: &Pipeline) -> Result<Option<Self>> {
        let Some(path) = path else { return Ok(None) };
        let dims = pipeline.data_dims()?;
        Grid::new(1, dims.as_slice())?;
        let to = if path == Path::new(STANDARD) {
            To::Terminal(0)
        } else {
            if path.extension().is_none_or(|e| !e.eq_ignore_ascii_case("png")) {
                let text = format!("{}: a preview is a .png file, or - for the terminal", path.display());
                return Err(Error::new(ErrorKind::InvalidArgument, text));
            }
            drop(Output::create(path)?);
            To::File(path.into())
        };
        // Decoding takes its time.
        let most = if pipeline.decoder().is_some() { 1 } else { SAMPLES };
        Ok(Some(Self { to, dims, codec: pipeline.codec()?, most, drawn: None }))
    }

    /// Whether it draws where a bar would be.
    pub fn is_on_terminal(&self) -> bool {
        matches!(self.to, To::Terminal(_))
    }

    /// Draws the predictions of a batch, `[N, ...dims]`, unless the last picture is too young. What cannot be drawn
    /// ends no run: it is said, and `None` stands for this preview from now on.
    pub fn show(this: &mut Option<Self>, x0: &[f32], is_last: bool) {
        let Some(preview) = this else { return };
        if !is_last && preview.drawn.is_some_and(|at| at.elapsed() < EVERY) {
            return;
        }
        if let Err(e) = preview.draw(x0) {
            // Nobody is left to tell if standard error is closed.
            let _ = note(&format!("no further preview: {e}"));
            *this = None;
        }
    }

    fn draw(&mut self, x0: &[f32]) -> Result<()> {
        let n = self.dims.elements();
        let len = self.codec.sample_dims().elements().max(1);
        let count = (x0.len() / len).min(self.most);
        let mut shown = vec![0.0; count * n];
        self.codec.decode(x0.get(..count * len).unwrap_or(&[]), &mut shown, never())?;
        match &mut self.to {
            To::File(path) => {
                let mut out = Output::create(path)?;
                Grid::new(shown.len() / n.max(1), self.dims.as_slice())?.write(&shown, Kind::Png, &mut out)?;
                out.finish()?;
            }
            To::Terminal(lines) => {
                let text = blocks(&shown, self.dims.as_slice());
                let mut err = std::io::stderr().lock();
                // Over the last one.
                let up = if *lines > 0 && err.is_terminal() { format!("\x1b[{lines}A") } else { String::new() };
                *lines = text.lines().count();
                err.write_all(format!("{up}{text}").as_bytes())?;
            }
        }
        self.drawn = Some(Instant::now());
        Ok(())
    }
}

/// The first sample of `[N, C, H, W]` as lines of upper half blocks in 24-bit colours: two pixels a character.
fn blocks(samples: &[f32], dims: &[usize]) -> String {
    let &[channels, h, w] = dims else { return String::new() };
    let step = w.div_ceil(COLUMNS).max(1);
    let (height, width) = (h.div_ceil(step), w.div_ceil(step));
    // The mean of step x step pixels, as far as they are there.
    let pixel = |y: usize, x: usize| -> [u8; 3] {
        [0, 1, 2].map(|c| {
            let plane = c.min(channels - 1) * h * w;
            let (mut sum, mut count) = (0.0, 0.0f32);
            for row in (y * step..(y + 1) * step).take_while(|&row| row < h) {
                let line = samples.get(plane + row * w..plane + (row + 1) * w).unwrap_or(&[]);
                for v in line.iter().skip(x * step).take(step) {
                    sum += v;
                    count += 1.0;
                }
            }
            to_byte(sum / count.max(1.0))
        })
    };
    let mut text = String::new();
    for y in (0..height).step_by(2) {
        for x in 0..width {
            let [r, g, b] = pixel(y, x);
            text.push_str(&format!("\x1b[38;2;{r};{g};{b}m"));
            if y + 1 < height {
                let [r, g, b] = pixel(y + 1, x);
                text.push_str(&format!("\x1b[48;2;{r};{g};{b}m"));
            }
            text.push('▀');
        }
        text.push_str("\x1b[0m\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_pixels_stand_in_a_character() {
        let text = blocks(&[-1.0, 1.0, 1.0, -1.0, 0.0, 0.0], &[1, 3, 2]);
        let lines: Vec<&str> = text.lines().collect();
        let (black, white, grey) = ("0;0;0m", "255;255;255m", "128;128;128m");
        assert_eq!(
            lines,
            [
                format!("\x1b[38;2;{black}\x1b[48;2;{white}▀\x1b[38;2;{white}\x1b[48;2;{black}▀\x1b[0m"),
                format!("\x1b[38;2;{grey}▀\x1b[38;2;{grey}▀\x1b[0m"),
            ]
        );
        // A wide one is made smaller: 3 pixels a column, the last of fewer.
        let wide: Vec<f32> = (0..3 * 130).map(|i| if i < 130 { 1.0 } else { -1.0 }).collect();
        assert_eq!(blocks(&wide, &[3, 1, 130]).matches('▀').count(), 44);
    }
}
