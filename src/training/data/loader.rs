//! Batches by (seed, step).

use alloc::vec::Vec;

use super::{Dataset, Scale, draw};
use crate::error::{Result, ensure, err};
use crate::noise::Stream;
use crate::tensor::Dims;

/// Which mirror images count as data too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flips {
    /// None.
    #[default]
    None,
    /// Left and right swapped, half of the time.
    Horizontal,
    /// That, and independently upside down half of the time; for textures.
    Both,
}

/// What is done to a sample each time it is drawn, in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Augment {
    /// Cuts a piece of this height and width out of an image, each place as likely as any other.
    pub crop: Option<[usize; 2]>,
    /// Mirror images.
    pub flips: Flips,
    /// Adds noise uniform in [0, this): one [`GREY_LEVEL`](super::GREY_LEVEL) makes a density of the grey levels of
    /// images.
    pub dequantise: f64,
    /// Then x scl + shft.
    pub scale: Scale,
}

/// Makes batches of a data set.
///
/// Each epoch goes through the data in an order of its own; what is left after the last whole batch is left out of that
/// epoch. A batch depends on the seed and the step alone.
///
/// ```
/// use undiffuse::training::data::{Augment, Loader, heartbeats};
///
/// let mut loader = Loader::new(heartbeats(7, 100)?, 32, 7, Augment::default())?;
/// let (mut a, mut b) = (vec![0.0; loader.batch_len()], vec![0.0; loader.batch_len()]);
/// loader.fill(5, &mut a)?;
/// loader.fill(6, &mut b)?;
/// loader.fill(5, &mut b)?;
/// assert_eq!(a, b);
/// # Ok::<(), undiffuse::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Loader {
    data: Dataset,
    batch: usize,
    seed: u64,
    augment: Augment,
    dims: Dims,
    /// The order of the data in an epoch, and which.
    order: Vec<usize>,
    epoch: Option<u64>,
}

impl Loader {
    /// Batches of `batch` samples.
    ///
    /// Errors: kind `InvalidArgument` for a batch of none or of more than there are, a crop larger than the images, a
    /// crop or flip of samples that are no images, noise or a scale that is negative or not finite.
    pub fn new(data: Dataset, batch: usize, seed: u64, augment: Augment) -> Result<Self> {
        let count = data.count();
        ensure!(
            (1..=count).contains(&batch),
            InvalidArgument,
            "a batch of {batch} samples, expected 1 to {count}, which is all there are"
        );
        let image = match *data.dims().as_slice() {
            [c, h, w] => Some([c, h, w]),
            _ => None,
        };
        let plain = augment.crop.is_none() && augment.flips == Flips::None;
        ensure!(
            plain || image.is_some(),
            InvalidArgument,
            "samples of {} cannot be cropped or flipped, expected [C, H, W]",
            data.dims()
        );
        let dims = match (augment.crop, image) {
            (Some([h, w]), Some([c, height, width])) => {
                ensure!(
                    h <= height && w <= width,
                    InvalidArgument,
                    "a crop of {h} x {w} does not fit images of {height} x {width}"
                );
                Dims::new(&[c, h, w])?
            }
            _ => data.dims(),
        };
        let finite = |v: f64| v.is_finite();
        ensure!(
            augment.dequantise >= 0.0 && finite(augment.dequantise),
            InvalidArgument,
            "dequantisation noise of width {}, expected 0 or more",
            augment.dequantise
        );
        ensure!(
            finite(augment.scale.scl) && augment.scale.scl != 0.0 && finite(augment.scale.shft),
            InvalidArgument,
            "a scale of {} and a shift of {}, expected finite values and no scale of 0",
            augment.scale.scl,
            augment.scale.shft
        );
        Ok(Self { data, batch, seed, augment, dims, order: Vec::new(), epoch: None })
    }

    /// The dimensions of a sample of a batch, after the crop.
    pub fn dims(&self) -> Dims {
        self.dims
    }

    /// Samples in a batch.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Values in a batch.
    pub fn batch_len(&self) -> usize {
        self.batch * self.dims.elements()
    }

    /// Batches in an epoch.
    pub fn steps_per_epoch(&self) -> u64 {
        (self.data.count() / self.batch) as u64
    }

    /// The data that the batches are made of.
    pub fn data(&self) -> &Dataset {
        &self.data
    }

    /// Writes the batch of `step`, counted from 0 over all epochs: `[batch, dims]`.
    ///
    /// Errors: kind `Shape` unless `out` has [`Loader::batch_len`] values; `OutOfMemory`.
    pub fn fill(&mut self, step: u64, out: &mut [f32]) -> Result<()> {
        let expected = self.batch_len();
        ensure!(out.len() == expected, Shape, "a buffer of {} for a batch of {expected} values", out.len());
        let per_epoch = self.steps_per_epoch();
        self.shuffle(step / per_epoch)?;
        let first = (step % per_epoch) as usize * self.batch;
        let indices = self.order.get(first..).unwrap_or(&[]);
        for (j, (out, &index)) in out.chunks_exact_mut(self.dims.elements()).zip(indices).enumerate() {
            let key = step.wrapping_mul(self.batch as u64).wrapping_add(j as u64);
            self.place(self.data.sample(index), key, out);
            if self.augment.dequantise > 0.0 {
                let mut noise = Stream::new(self.seed, key, draw::DEQUANTISE);
                out.iter_mut().for_each(|v| *v = (f64::from(*v) + self.augment.dequantise * noise.uniform()) as f32);
            }
            if self.augment.scale != Scale::default() {
                self.augment.scale.apply(out);
            }
        }
        Ok(())
    }

    /// Fisher and Yates's shuffle, for the epoch that is wanted.
    fn shuffle(&mut self, epoch: u64) -> Result<()> {
        if self.epoch == Some(epoch) {
            return Ok(());
        }
        let count = self.data.count();
        self.order.clear();
        self.order.try_reserve_exact(count).map_err(|_| err!(OutOfMemory, "no memory for an order of {count}"))?;
        self.order.extend(0..count);
        let mut stream = Stream::new(self.seed, epoch, draw::ORDER);
        for last in (1..count).rev() {
            self.order.swap(last, below(&mut stream, last + 1));
        }
        self.epoch = Some(epoch);
        Ok(())
    }

    /// Copies a sample, cropped and flipped.
    fn place(&self, sample: &[f32], key: u64, out: &mut [f32]) {
        let (&[_, height, width], &[_, h, w]) = (self.data.dims().as_slice(), self.dims.as_slice()) else {
            out.copy_from_slice(sample);
            return;
        };
        let mut stream = Stream::new(self.seed, key, draw::AUGMENT);
        let (top, left) = (below(&mut stream, height - h + 1), below(&mut stream, width - w + 1));
        let bits = stream.bits();
        let (across, over) = match self.augment.flips {
            Flips::None => (false, false),
            Flips::Horizontal => (bits >> 63 == 1, false),
            Flips::Both => (bits >> 63 == 1, bits >> 62 & 1 == 1),
        };
        for (out, plane) in out.chunks_exact_mut(h * w).zip(sample.chunks_exact(height * width)) {
            for (y, out) in out.chunks_exact_mut(w).enumerate() {
                let from = top + if over { h - 1 - y } else { y };
                let row = plane.chunks_exact(width).nth(from).and_then(|r| r.get(left..left + w)).unwrap_or(&[]);
                out.iter_mut().zip(row).for_each(|(to, v)| *to = *v);
                if across {
                    out.reverse();
                }
            }
        }
    }
}

/// A whole number below `n`, n at most 2^53: floor(n u). Its bias is below n 2^-53.
fn below(stream: &mut Stream, n: usize) -> usize {
    ((stream.uniform() * n as f64) as usize).min(n.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn numbers(count: usize, dims: &[usize]) -> Dataset {
        let dims = Dims::new(dims).unwrap();
        Dataset::new(dims, (0..count * dims.elements()).map(|v| v as f32).collect()).unwrap()
    }

    #[test]
    fn an_epoch_sees_each_sample_once_in_an_order_of_its_own() {
        let mut loader = Loader::new(numbers(10, &[1]), 5, 3, Augment::default()).unwrap();
        let mut epoch = |e: u64| {
            let mut all = vec![0.0; 10];
            all.chunks_exact_mut(5).zip(2 * e..).for_each(|(out, step)| loader.fill(step, out).unwrap());
            all
        };
        let (first, second) = (epoch(0), epoch(1));
        assert_ne!(first, second);
        for mut order in [first, second] {
            order.sort_by(f32::total_cmp);
            assert_eq!(order, (0..10).map(|v| v as f32).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_step_does_not_depend_on_what_ran_before() {
        let augment =
            Augment { crop: Some([2, 3]), flips: Flips::Both, dequantise: 1.0, scale: Scale { scl: 0.1, shft: -1.0 } };
        let make = |seed| Loader::new(numbers(7, &[2, 4, 5]), 3, seed, augment).unwrap();
        let (mut one, mut other) = (make(1), make(1));
        let mut a = vec![0.0; one.batch_len()];
        let mut b = a.clone();
        assert_eq!((one.dims().as_slice(), one.steps_per_epoch()), (&[2, 2, 3][..], 2));
        (0..9).for_each(|step| one.fill(step, &mut a).unwrap());
        other.fill(8, &mut b).unwrap();
        assert_eq!(a, b);
        make(2).fill(8, &mut b).unwrap();
        assert_ne!(a, b);
    }

    #[test]
    fn crops_and_flips_are_pieces_of_the_image() {
        let augment = Augment { crop: Some([2, 2]), flips: Flips::Both, ..Default::default() };
        let mut loader = Loader::new(numbers(1, &[1, 3, 3]), 1, 0, augment).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for step in 0..400 {
            let mut out = [0.0; 4];
            loader.fill(step, &mut out).unwrap();
            seen.insert(out.map(|v| v as u8));
        }
        // Four places, four mirror images of each.
        let mut expected = std::collections::BTreeSet::new();
        for start in [0u8, 1, 3, 4] {
            let [a, b, c, d] = [start, start + 1, start + 3, start + 4];
            expected.extend([[a, b, c, d], [b, a, d, c], [c, d, a, b], [d, c, b, a]]);
        }
        assert_eq!(seen, expected);
    }

    #[test]
    fn noise_and_scale_are_what_they_say() {
        let data = Dataset::new(Dims::new(&[2000]).unwrap(), vec![5.0; 2000]).unwrap();
        let augment = Augment { dequantise: 2.0, scale: Scale { scl: 3.0, shft: 1.0 }, ..Default::default() };
        let mut out = vec![0.0; 2000];
        Loader::new(data, 1, 0, augment).unwrap().fill(0, &mut out).unwrap();
        // 3 (5 + uniform in [0, 2)) + 1: from 16 to 22, mean 19, standard deviation 6 / sqrt 12.
        assert!(out.iter().all(|v| (16.0..22.0).contains(v)));
        let mean = out.iter().sum::<f32>() / 2000.0;
        assert!((mean - 19.0).abs() < 4.0 * 1.7321 / 2000f32.sqrt(), "{mean}");
    }

    #[test]
    fn unit_variance_is_reached_and_undone() {
        let data = numbers(4, &[3]);
        let scale = data.unit_variance().unwrap();
        let mut values = data.values().to_vec();
        scale.apply(&mut values);
        let square = values.iter().map(|v| v * v).sum::<f32>() / 12.0;
        assert!(values.iter().sum::<f32>().abs() < 1e-5 && (square - 1.0).abs() < 1e-6);
        scale.undo(&mut values);
        assert!(values.iter().zip(data.values()).all(|(a, b)| (a - b).abs() < 1e-5));
        // The variance of 0 .. 11 is 143 / 12.
        assert!((scale.bits_per_dim() + 0.5 * (143.0f64 / 12.0).log2()).abs() < 1e-12);
        assert!(Dataset::new(Dims::new(&[1]).unwrap(), vec![2.0; 3]).unwrap().unit_variance().is_err());
    }

    #[test]
    fn nonsense_is_refused() {
        let make = |batch, augment| Loader::new(numbers(4, &[1, 3, 3]), batch, 0, augment).is_err();
        assert!(make(0, Augment::default()) && make(5, Augment::default()));
        assert!(make(1, Augment { crop: Some([4, 1]), ..Default::default() }));
        assert!(make(1, Augment { crop: Some([0, 1]), ..Default::default() }));
        assert!(make(1, Augment { dequantise: -1.0, ..Default::default() }));
        assert!(make(1, Augment { scale: Scale { scl: 0.0, shft: 0.0 }, ..Default::default() }));
        assert!(make(1, Augment { scale: Scale { scl: 1.0, shft: f64::NAN }, ..Default::default() }));
        let flips = Augment { flips: Flips::Horizontal, ..Default::default() };
        assert!(Loader::new(numbers(4, &[3]), 1, 0, flips).is_err());
        let mut loader = Loader::new(numbers(4, &[3]), 2, 0, Augment::default()).unwrap();
        assert!(loader.fill(0, &mut [0.0; 5]).is_err());
        assert!(numbers(4, &[3]).split(4).is_err() && numbers(4, &[3]).split(1).is_ok());
    }
}
