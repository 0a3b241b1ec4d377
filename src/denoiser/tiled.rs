//! A denoiser of small images as one of images of any size.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{Call, Denoiser, check_batch, check_given};
use crate::error::{Result, ensure, err};
use crate::graph::{Input, Role};
use crate::memory::zeros;
use crate::noise::Fingerprint;
use crate::tensor::Dims;
use crate::tiles::{Axis, Overlap, Tile, tiles};

/// Pixels over which the weight of one tile becomes that of the next.
const RAMP: usize = 16;

/// Predicts for images `[C, H, W]` of any size with a denoiser of tiles `[C, h, w]`, in the memory of one tile.
///
/// Tiles overlap, and where they do their predictions are blended. A prediction of a fully convolutional network at a
/// pixel depends on the input within a `reach` of the square of `multiple` pixels that it lies in alone
/// ([`ModelConfig::reach`](crate::model::ModelConfig::reach)). What is nearer than that to a border that is none of the
/// image's has no weight, so the prediction is that of the image in one piece but for the rounding of sums (1e-6 of the
/// range), whatever the size of the tiles, and there is no seam. The chain, its noise and its evidence know nothing of
/// tiles: they work on the whole image. Of a network that sees all of its input (attention, norms over all positions)
/// there is no reach; with any number for it the blend is smooth, and no more is known of it.
///
/// Beyond the last row and column, where tiles or the network's `multiple` go further than the image, these are
/// repeated, as FFDNet's own code does for odd sides. A network that sees zeros there predicts otherwise near the last
/// pixels, so a tile is best no larger than the image's sides, rounded up to `multiple`.
///
/// ```
/// use undiffuse::Cancel;
/// use undiffuse::denoiser::{Call, Denoiser, FnDenoiser, Tiled};
/// use undiffuse::schedule::Level;
/// use undiffuse::tensor::Dims;
///
/// // The sum of a pixel's neighbours to the left and right.
/// let tile = FnDenoiser::new("sum", Dims::new(&[1, 1, 40])?, |_, x, out| {
///     let at = |i: usize| x.get(i).copied().unwrap_or(0.0);
///     out.iter_mut().enumerate().for_each(|(i, o)| *o = at(i.wrapping_sub(1)) + at(i + 1));
///     Ok(())
/// });
/// let mut whole = Tiled::new(tile, [1, 101], 1, [1, 1])?;
/// let x: Vec<f32> = (0..101).map(|i| (i % 7) as f32).collect();
/// let (level, cancel) = (Level::exploding(0.0, 0.1), Cancel::new());
/// let mut out = vec![0.0; 101];
/// whole.predict(&Call { level, first_sample: 0, cancel: &cancel }, &x, &mut out)?;
/// assert!((out[50] - x[49] - x[51]).abs() < 1e-5 && (out[100] - x[99]).abs() < 1e-5);
/// # Ok::<(), undiffuse::Error>(())
/// ```
pub struct Tiled<D> {
    inner: D,
    name: String,
    dims: Dims,
    size: [usize; 2],
    axes: [Axis; 2],
    output: usize,
    /// A tile of x, of the prediction and, with products, a cotangent and a product.
    memory: Vec<f32>,
}

impl<D: Denoiser> Tiled<D> {
    /// For images of `size`, height and width. The reach of the network is in pixels; `multiple` is what divides the
    /// places of tiles, rows and columns: what divides the sides that the network takes.
    ///
    /// Errors: kind `Shape` where the samples of `inner` are no images; kind `InvalidArgument` for a size of 0, or
    /// tiles that `multiple` does not divide or that are no larger than their [overlap](Self::overlap);
    /// kind `Unsupported` where it takes an image as a condition, which would be of the tile; kind `OutOfMemory`.
    pub fn new(inner: D, size: [usize; 2], reach: usize, multiple: [usize; 2]) -> Result<Self> {
        let own = inner.sample_dims();
        let &[channels, height, width] = own.as_slice() else {
            return Err(err!(Shape, "the samples of \"{}\" are {own}, expected images [C, H, W]", inner.name()));
        };
        if let Some(image) =
            inner.inputs().iter().find(|i| i.dims.rank() > 2 || matches!(i.role, Role::Image | Role::Mask))
        {
            return Err(err!(Unsupported, "the condition {:?} is an image, which tiles do not share out", image.name));
        }
        let axis = |side: usize, tile: usize, multiple: usize| -> Result<Axis> {
            ensure!(
                side > 0 && multiple > 0 && tile.is_multiple_of(multiple),
                InvalidArgument,
                "{side} pixels in tiles of {tile}, expected more than 0 and tiles of whole {multiple}"
            );
            let cells = side.div_ceil(multiple).max(tile / multiple);
            let overlap = Overlap::beyond(reach.div_ceil(multiple), RAMP.div_ceil(multiple));
            ensure!(
                cells == tile / multiple || tile / multiple > overlap.least,
                InvalidArgument,
                "tiles of {tile} pixels for {side}, expected more than the {} that they overlap",
                overlap.least * multiple
            );
            Ok(Axis::new(cells, tile / multiple, multiple, overlap))
        };
        let axes = [axis(size[0], height, multiple[0])?, axis(size[1], width, multiple[1])?];
        let planes = inner.output_len() / (height * width).max(1);
        let output = planes.checked_mul(size[0]).and_then(|n| n.checked_mul(size[1]));
        let output = output.ok_or_else(|| err!(OutOfMemory, "an image of {size:?} is too large for this machine"))?;
        let dims = Dims::new(&[channels, size[0], size[1]])?;
        let memory = zeros("a tile", Self::memory_len(&inner))?;
        let name = format!("{} in {} tiles of {height} x {width}", inner.name(), axes[0].count() * axes[1].count());
        Ok(Self { inner, name, dims, size, axes, output, memory })
    }

    /// Values of memory beside the inner denoiser's.
    fn memory_len(inner: &D) -> usize {
        let one = inner.sample_dims().elements() + inner.output_len();
        if inner.has_vjp() { 2 * one } else { one }
    }

    /// Pixels that tiles overlap by at least, for a network of this reach.
    pub fn overlap(reach: usize) -> usize {
        2 * reach + RAMP
    }

    /// How many tiles there are, which is the number of calls of the inner denoiser for an image.
    pub fn tiles(&self) -> usize {
        self.axes[0].count() * self.axes[1].count()
    }

    /// The denoiser of a tile.
    pub fn inner(&self) -> &D {
        &self.inner
    }
}

fn short() -> crate::Error {
    err!(OutOfMemory, "the memory of a tile is too short")
}

impl<D: Denoiser> Denoiser for Tiled<D> {
    fn name(&self) -> &str {
        &self.name
    }

    fn sample_dims(&self) -> Dims {
        self.dims
    }

    fn output_len(&self) -> usize {
        self.output
    }

    fn looks_at_numbers(&self) -> bool {
        self.inner.looks_at_numbers()
    }

    fn predict(&mut self, call: &Call<'_>, x: &[f32], out: &mut [f32]) -> Result<()> {
        let n = self.dims.elements();
        check_batch(&self.name, n, x, self.output, out)?;
        check_given(&self.name, "x", x)?;
        let (given, rest) = self.memory.split_at_mut_checked(self.inner.sample_dims().elements()).ok_or_else(short)?;
        let made = rest.get_mut(..self.inner.output_len()).ok_or_else(short)?;
        let numbers = call.first_sample..=u64::MAX;
        for ((x, out), first_sample) in x.chunks_exact(n).zip(out.chunks_exact_mut(self.output)).zip(numbers) {
            out.fill(0.0);
            for at in tiles(&self.axes) {
                let tile = Tile::new(&self.axes, at, self.size);
                tile.cut(x, given, None);
                self.inner.predict(&Call { first_sample, ..*call }, given, made)?;
                tile.blend(made, out);
            }
        }
        Ok(())
    }

    fn has_vjp(&self) -> bool {
        self.inner.has_vjp()
    }

    fn vjp(&mut self, call: &Call<'_>, x: &[f32], v: &[f32], out: &mut [f32]) -> Result<()> {
        let n = self.dims.elements();
        check_batch(&self.name, n, x, self.output, v)?;
        check_batch(&self.name, n, x, n, out)?;
        check_given(&self.name, "x", x)?;
        check_given(&self.name, "v", v)?;
        let (sample, output) = (self.inner.sample_dims().elements(), self.inner.output_len());
        if !self.inner.has_vjp() {
            return self.inner.vjp(call, &[], &[], &mut []);
        }
        let (given, rest) = self.memory.split_at_mut_checked(sample).ok_or_else(short)?;
        let (cotangent, rest) = rest.split_at_mut_checked(output).ok_or_else(short)?;
        let made = rest.get_mut(..sample).ok_or_else(short)?;
        let numbers = call.first_sample..=u64::MAX;
        let rows = x.chunks_exact(n).zip(v.chunks_exact(self.output)).zip(out.chunks_exact_mut(n));
        for (((x, v), out), first_sample) in rows.zip(numbers) {
            out.fill(0.0);
            for at in tiles(&self.axes) {
                let tile = Tile::new(&self.axes, at, self.size);
                tile.cut(x, given, None);
                tile.unblend(v, cotangent);
                self.inner.vjp(&Call { first_sample, ..*call }, given, cotangent, made)?;
                tile.uncut(made, out);
            }
        }
        Ok(())
    }

    fn inputs(&self) -> Vec<Input> {
        self.inner.inputs()
    }

    fn set_condition(&mut self, name: &str, rows: &[f32]) -> Result<()> {
        self.inner.set_condition(name, rows)
    }

    fn set_negative(&mut self, name: &str, rows: &[f32]) -> Result<()> {
        self.inner.set_negative(name, rows)
    }

    fn fingerprint(&self) -> u64 {
        match self.inner.fingerprint() {
            0 => 0,
            f => {
                let dims = self.inner.sample_dims();
                let f = Fingerprint::new().u64(f);
                dims.as_slice().iter().chain(&self.size).fold(f, |f, n| f.u64(*n as u64)).finish()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::super::FnDenoiser;
    use super::*;
    use crate::cancel::Cancel;
    use crate::error::ErrorKind;
    use crate::schedule::Level;

    /// Each pixel from those within 3 of it, zeros beyond the image; with the product.
    fn local(h: usize, w: usize) -> impl Denoiser {
        let near = move |x: &[f32], out: &mut [f32], other: &dyn Fn(usize) -> f32| {
            let at = |y: isize, x: isize| {
                let inside = (0..h as isize).contains(&y) && (0..w as isize).contains(&x);
                inside.then(|| y as usize * w + x as usize)
            };
            for (i, out) in out.iter_mut().enumerate().take(h * w) {
                let (y, k) = ((i / w) as isize, (i % w) as isize);
                let mut sum = 0.0;
                for (dy, dx, by) in [(0, 0, 0.5f32), (3, -3, 0.25), (-3, 3, 0.25), (-2, -1, 0.125), (2, 1, 0.125)] {
                    if let Some(j) = at(y + dy, k + dx) {
                        sum += by * x[j] * other(j);
                    }
                }
                *out = sum;
            }
        };
        let dims = Dims::new(&[1, h, w]).unwrap();
        FnDenoiser::new("local", dims, move |_: &Call<'_>, x: &[f32], out: &mut [f32]| {
            x.chunks_exact(h * w).zip(out.chunks_exact_mut(h * w)).for_each(|(x, out)| near(x, out, &|j| x[j]));
            Ok(())
        })
        .with_vjp(move |_: &Call<'_>, x: &[f32], v: &[f32], out: &mut [f32]| {
            near(v, out, &|_| 1.0);
            out.iter_mut().zip(x).for_each(|(o, x)| *o *= 2.0 * x);
            Ok(())
        })
    }

    #[test]
    fn tiles_predict_what_one_piece_predicts_and_so_do_products() {
        let (level, cancel) = (Level::exploding(0.0, 0.1), Cancel::new());
        let call = Call { level, first_sample: 0, cancel: &cancel };
        let (h, w) = (61, 47);
        let numbers = |by: usize| (0..h * w).map(|i| (i * by % 29) as f32 / 14.0 - 1.0).collect::<Vec<f32>>();
        let (x, v) = (numbers(7), numbers(11));
        let mut whole = local(h, w);
        let (mut want, mut product) = (vec![0.0; h * w], vec![0.0; h * w]);
        whole.predict(&call, &x, &mut want).unwrap();
        whole.vjp(&call, &x, &v, &mut product).unwrap();
        for (tile, multiple) in [([26, 31], [1, 1]), ([60, 32], [1, 1]), ([25, 47], [1, 1])] {
            let mut tiled = Tiled::new(local(tile[0], tile[1]), [h, w], 3, multiple).unwrap();
            assert!(tiled.tiles() > 1);
            let mut got = vec![f32::NAN; h * w];
            tiled.predict(&call, &x, &mut got).unwrap();
            assert!(got.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-6), "{tile:?}");
            tiled.vjp(&call, &x, &v, &mut got).unwrap();
            assert!(got.iter().zip(&product).all(|(a, b)| (a - b).abs() < 2e-6), "{tile:?}");
        }
        // A larger tile repeats the last row and column, which a cell within the reach of them sees.
        let mut larger = Tiled::new(local(64, 50), [h, w], 3, [2, 2]).unwrap();
        let mut got = vec![0.0; h * w];
        larger.predict(&call, &x, &mut got).unwrap();
        assert_eq!(got[..w - 3], want[..w - 3]);
        assert_ne!(got[h * w - 1], want[h * w - 1]);
        cancel.cancel();
        assert_eq!(larger.predict(&call, &x, &mut got).unwrap_err().kind(), ErrorKind::Cancelled);
    }

    #[test]
    fn tiles_that_cannot_be_are_refused() {
        let refused = |tile: [usize; 2], size, reach, multiple| {
            let made = Tiled::new(local(tile[0], tile[1]), size, reach, multiple);
            made.err().map(|e| (e.kind(), e.message().to_string()))
        };
        use alloc::string::ToString;
        assert_eq!(refused([30, 30], [40, 40], 3, [1, 1]), None);
        let (kind, text) = refused([22, 30], [40, 40], 3, [1, 1]).unwrap();
        assert!(kind == ErrorKind::InvalidArgument && text.contains("more than the 22 that"), "{text}");
        assert!(refused([22, 30], [22, 40], 3, [1, 1]).is_none());
        assert_eq!(refused([29, 30], [40, 40], 3, [2, 2]).unwrap().0, ErrorKind::InvalidArgument);
        assert_eq!(refused([30, 30], [0, 40], 3, [1, 1]).unwrap().0, ErrorKind::InvalidArgument);
        let flat = FnDenoiser::new("flat", Dims::new(&[9]).unwrap(), |_, _, _| Ok(()));
        assert_eq!(Tiled::new(flat, [9, 9], 1, [1, 1]).err().unwrap().kind(), ErrorKind::Shape);
    }
}
