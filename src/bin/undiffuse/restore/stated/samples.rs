//! Samples of pictures by a chain that begins at them.
//!
//! What is held at once is what is read, the picture that is made, its prediction, and a few arrays of one channel
//! where the operator does the same to all.

use std::cell::Cell;

use undiffuse::chain::InPlace;
use undiffuse::noise::Stream;
use undiffuse::pipeline::Source;
use undiffuse::posterior::NoProducts;
use undiffuse::posterior::operator::LinearOperator;
use undiffuse::sampler::{Plan, Sampler};
use undiffuse::values::Scale;
use undiffuse::{Error, ErrorKind, Result};

use super::super::figures::{Collected, Mean};
use super::super::method::OfDenoiser;
use super::super::run::{Done, Places};
use super::super::sheet::picture;
use super::super::start;
use super::Work;
use super::truth::Truth;
use crate::arrays::Array;
use crate::interrupt;
use crate::output::progress;
use crate::source::ModelArgs;

/// The draw of the noise that a restoration begins with: x_T's.
const FIRST_DRAW: u64 = 0;
/// Columns of a sheet at most.
const COLUMNS: usize = 8;

/// What is kept of the samples.
enum Kept {
    /// They themselves, of which there is one for each picture.
    One(Array),
    /// The first of each, and their moments.
    Many { x: Vec<f32>, collected: Box<Collected> },
}

/// A measurement of pictures in other units: of scl x + shft it is scl y + shft A 1.
struct Seen {
    scale: Scale,
    /// A 1 of a part.
    ones: Option<Vec<f32>>,
}

impl Seen {
    fn new(scale: Scale, operator: &dyn LinearOperator) -> Result<Self> {
        if scale == Scale::default() {
            return Ok(Self { scale, ones: None });
        }
        let mut x = Array::zeros("a picture", operator.input_dims().as_slice())?.data;
        x.fill(1.0);
        let mut ones = Array::zeros("A 1", operator.output_dims().as_slice())?.data;
        let mut scratch = Array::zeros("the scratch", &[operator.scratch_len()])?.data;
        operator.apply(&x, &mut ones, &mut scratch)?;
        // Most often all are 1, which is not worth the memory.
        let ones = ones.iter().any(|v| *v != 1.0).then_some(ones);
        Ok(Self { scale, ones })
    }

    fn each(&self, y: &mut [f32], of: impl Fn(f64, f64) -> f64) {
        let one = |i: usize| self.ones.as_ref().and_then(|o| o.get(i % o.len().max(1))).map_or(1.0, |v| f64::from(*v));
        if self.scale != Scale::default() {
            y.iter_mut().enumerate().for_each(|(i, y)| *y = of(f64::from(*y), one(i)) as f32);
        }
    }

    /// Measurements of whole parts, of pictures into those of what the model makes.
    fn apply(&self, y: &mut [f32]) {
        let Scale { scl, shft } = self.scale;
        self.each(y, |y, one| scl * y + shft * one);
    }

    /// And back.
    fn undo(&self, y: &mut [f32]) {
        let Scale { scl, shft } = self.scale;
        self.each(y, |y, one| (y - shft * one) / scl);
    }
}

/// The sum of the squares of y - A x, and the largest. `memory` holds A x, and becomes longer where it is too short.
fn misfit(operator: &dyn LinearOperator, x: &[f32], y: &[f32], memory: &mut Vec<f32>) -> Result<(f64, f64)> {
    if memory.len() < y.len() {
        *memory = Array::zeros("A x", &[y.len()])?.data;
    }
    let ax = memory.get_mut(..y.len()).unwrap_or(&mut []);
    let mut scratch = Array::zeros("the scratch", &[operator.scratch_len()])?.data;
    operator.apply(x, ax, &mut scratch)?;
    let gaps = y.iter().zip(&*ax).map(|(y, a)| f64::from(y - a));
    Ok(gaps.fold((0.0, 0.0), |(sum, most): (f64, f64), g| (sum + g * g, most.max(g.abs()))))
}

impl Work<'_> {
    /// Samples of every picture.
    pub fn samples(
        &self,
        model: &mut ModelArgs,
        source: &Source<'_>,
        truth: Option<Array>,
        mut y: Array,
    ) -> Result<Done> {
        let (job, n, parts) = (self.job, self.dims.elements(), self.parts);
        let (one, [part, part_m]) = (parts.linear()?, parts.lens());
        let m = part_m.saturating_mul(parts.count).max(1);
        let images = y.shape.first().copied().unwrap_or_default();
        let total = images.checked_mul(job.count).filter(|&t| t > 0);
        let total = total.ok_or_else(|| Error::new(ErrorKind::InvalidArgument, "too many samples"))?;
        let scale = self.scale();
        let sigma = scale.scl * job.sigma;
        let plan = self.plan(sigma)?;
        let operator = parts.whole()?;
        let places = Places::new(job, images, &self.dims, &operator.forward().codomain(), truth.is_some())?;

        let reverse = job.method.of_denoiser == Some(OfDenoiser::Reverse);
        let evidence = |y: &[f32]| {
            let prepared = job.method.prepare(&parts.one, job.method.zeta(&job.operator), y, false, sigma);
            prepared.map(|p| p.evidence)
        };
        let (mut method, mut scratch_len) = (OfDenoiser::Reverse.name().to_string(), 0);
        if !reverse {
            let evidence = evidence(y.data.get(..part_m).unwrap_or(&[]))?;
            evidence.check(parts.dims, &plan)?;
            (method, scratch_len) = (evidence.name().to_string(), evidence.scratch_len(parts.dims, 1));
        }
        let single = job.count == 1 && job.variance.is_none();
        let measured = if places.take_measured() { y.data.len() } else { 0 };
        let sheet = if job.sheet.is_some() { COLUMNS.saturating_mul(n).saturating_mul(images) } else { 0 };
        // A sample, the moments and the pictures that are kept; or the pictures alone.
        let kept = if single { images } else { 5 + images.saturating_mul(places.kept + 2) };
        let seen = Seen::new(scale, one)?;
        // Beside a step's scratch a part's measurement, or what its beginning takes.
        let begun = match parts.picks() {
            true => part / 2,
            false if self.is_like_pictures()? => 0,
            false => part.saturating_add(part_m).saturating_add(one.solve_scratch_len()),
        };
        let gaps = one.scratch_len();
        let step = if reverse { gaps } else { scratch_len.saturating_add(part_m.max(begun).max(gaps)) };
        let truth = truth.map(Truth::new);
        let values = [
            y.data.len(),
            seen.ones.as_ref().map_or(0, Vec::len),
            measured,
            sheet,
            n,
            part,
            step,
            InPlace::<Plan>::MEMORY,
        ];
        let values = values.into_iter().fold(n.saturating_mul(kept), usize::saturating_add);
        let held = values.saturating_mul(size_of::<f32>()).saturating_add(parts.bytes());
        let held = held.saturating_add(truth.as_ref().map_or(0, Truth::bytes));
        let compiled = self.stated.compile(model, source, self, held)?;
        let pipeline = &compiled.pipeline;
        let tiles = self.tiles(compiled.tile)?;
        self.say(&compiled, tiles)?;
        let mut tile = model.given(pipeline)?.denoiser(pipeline, 1)?;
        let cancel = interrupt::install()?;
        let (steps, first) = (plan.levels().len(), plan.levels().first().copied());
        if let Some(level) = first {
            self.tell(&compiled, &mut tile, level, [total * tiles, steps], cancel)?;
        }
        let bar = progress(total * tiles * steps, None);
        let calls = Cell::new(0);
        let mut denoiser = self.denoiser(tile, &bar, &calls)?;

        let mut measured_psnr = Mean::default();
        if let Some(truth) = &truth {
            for (image, y) in y.data.chunks_exact(m).enumerate() {
                let psnr = picture(&operator, y, &self.dims)?.and_then(|x| truth.psnr(&x, image));
                psnr.into_iter().for_each(|psnr| measured_psnr.add(psnr));
            }
        }
        let asked = if places.take_measured() { Some(y.clone()) } else { None };
        y.data.chunks_exact_mut(part_m.max(1)).for_each(|y| seen.apply(y));

        let mut kept = if single {
            Kept::One(Array::zeros("the pictures", &[&[images], self.dims.as_slice()].concat())?)
        } else {
            let collected = Box::new(Collected::new(self.dims, images, job.count, places.kept)?);
            Kept::Many { x: Array::zeros("a picture", &[n])?.data, collected }
        };
        let mut x0 = Array::zeros("a prediction", &[n])?.data;
        let mut eps = Array::zeros("the noise of a part", &[part])?.data;
        let mut scratch = Array::zeros("the scratch", &[scratch_len])?.data;
        let mut run = InPlace::new(&plan)?;
        let (mut consistency, mut agreement) = (Mean::default(), Mean::default());
        for number in 0..total {
            let image = number / job.count;
            let y = y.data.chunks_exact(m).nth(image).unwrap_or(&[]);
            let x = match &mut kept {
                Kept::One(made) => made.data.get_mut(image * n..(image + 1) * n).unwrap_or(&mut []),
                Kept::Many { x, .. } => x,
            };
            if reverse {
                x.copy_from_slice(y);
            } else {
                self.start(y, &seen, number as u64, &plan, x)?;
            }
            let buffers = [&mut *x, &mut x0, eps.get_mut(..part).unwrap_or(&mut [])];
            run.run(&mut denoiser, job.seed, number as u64, buffers, cancel, |at, k, x, x0, eps| {
                match y.chunks_exact(part_m.max(1)).nth(k) {
                    Some(y) if !reverse => evidence(y)?.estimate(at, x, x0, eps, &mut NoProducts, &mut scratch),
                    _ => Ok(()),
                }
            })?;
            let (mut sum, mut most) = (0.0, 0.0f64);
            for (x, y) in x.chunks_exact(part.max(1)).zip(y.chunks_exact(part_m.max(1))) {
                let (squares, largest) = misfit(one, x, y, &mut eps)?;
                (sum, most) = (sum + squares, most.max(largest));
            }
            consistency.add(if sigma > 0.0 { (sum / m as f64).sqrt() / sigma } else { most / scale.scl });
            scale.undo(x);
            truth.as_ref().and_then(|t| t.psnr(x, image)).into_iter().for_each(|psnr| agreement.add(psnr));
            if let Kept::Many { x, collected } = &mut kept {
                collected.add(x)?;
            }
        }
        bar.finish_and_clear();
        drop((x0, eps, scratch, y, denoiser));
        let mut means = Mean::default();
        if let (Kept::Many { collected, .. }, true, Some(truth)) = (&kept, job.count > 1, &truth) {
            for (image, x) in collected.mean.data.chunks_exact(n).enumerate() {
                truth.psnr(x, image).into_iter().for_each(|psnr| means.add(psnr));
            }
        }
        let done = Done {
            images,
            dims: self.dims,
            method,
            chosen: None,
            effective: None,
            sampler: plan.name(),
            calls: steps,
            products: 0,
            consistency: consistency.get(),
            device: pipeline.network().describe(),
            psnr: [measured_psnr.get(), agreement.get(), means.get()],
            tiles: Some(tiles),
            memory: Some(compiled.bytes),
        };
        let rows = asked.as_ref().filter(|_| job.sheet.is_some()).map_or(&[][..], |y| &y.data);
        let rows: Vec<Option<Vec<f32>>> =
            rows.chunks_exact(m).map(|y| picture(&operator, y, &self.dims)).collect::<Result<_>>()?;
        let asked = asked.unwrap_or(Array { shape: Vec::new(), data: Vec::new() });
        let truth = truth.filter(|_| job.sheet.is_some()).map(Truth::array);
        let truth = truth.as_ref();
        match kept {
            Kept::One(made) => places.write_one(truth, &asked, &rows, &made)?,
            Kept::Many { collected, .. } => places.write(truth, &asked, &rows, &collected)?,
        }
        Ok(done)
    }

    /// Whether a measurement has a picture's dimensions, and is where its restoration begins.
    fn is_like_pictures(&self) -> Result<bool> {
        Ok(self.parts.linear()?.output_dims() == self.parts.dims)
    }

    /// x of the first level: the picture that y suggests, and noise.
    fn start(&self, y: &[f32], seen: &Seen, number: u64, plan: &Plan, x: &mut [f32]) -> Result<()> {
        let [part, part_m] = self.parts.lens();
        let by = plan.levels().first().map_or(0.0, |l| l.sigma) as f32;
        let mut stream = Stream::new(self.job.seed, number, FIRST_DRAW);
        for (x, y) in x.chunks_exact_mut(part.max(1)).zip(y.chunks_exact(part_m.max(1))) {
            if self.parts.picks() {
                start::picture(&self.parts.one, y, &self.parts.dims, x)?;
            } else if self.is_like_pictures()? {
                x.copy_from_slice(y);
                seen.undo(x);
                seen.scale.apply(x);
            } else {
                // In the units of pictures, whose 0 is the grey of what no measurement sees.
                let mut y = y.to_vec();
                seen.undo(&mut y);
                start::picture(&self.parts.one, &y, &self.parts.dims, x)?;
                seen.scale.apply(x);
            }
            x.iter_mut().for_each(|x| *x += by * stream.normal() as f32);
        }
        Ok(())
    }
}
