//! Dead leaves for `examples/experiments/dead_leaves.json`, and what a strong model of another kind makes of them.
//!
//! `cargo run --release --features training --example dead_leaves -- FOLDER [IMAGES [NOISE]]`
//!
//! Writes `dead_leaves_train.npy` (2,000 images, or IMAGES) and `dead_leaves_test.npy` (250): 64 x 64 pixels of 8 bits,
//! discs of radius 1/8 to 32 pixels with the density r^-3, greys uniform in 0 .. 1, 8 x 8 points a pixel, then Gaussian
//! noise of deviation 0.02 (or NOISE) as a camera has, cut off at 0 and 1. A likelihood depends on that noise most of
//! all: without any, what lies within one leaf is known to the last grey level.
//!
//! Then fits mixtures of conditional Gaussians to the first and prints the mean log-likelihood of a pixel of the
//! second, given the 24 pixels up to three rows above and three columns beside that come before it in the order of
//! reading: of values with unit variance, whose 8 bits were filled with uniform noise, as `undiffuse evaluate
//! --dequantize` has them. The pixels counted have all 24, so this is an estimate of the entropy rate; a model of whole
//! images has a harder time at the edges. The error is that of a mean over images.
//!
//! The mixture (Theis, Hosseini and Bethge 2012 have it as MCG, and go on to scale mixtures) is that of full Gaussians
//! over a pixel and its neighbours together, fitted by expectation and maximisation, and then divided by what it says
//! of the neighbours alone.

mod mixture;

use std::f64::consts::{LN_2, TAU};
use std::path::Path;

use mixture::{DIM, Mixture};
use undiffuse::noise::Stream;
use undiffuse::tensor::Dims;
use undiffuse::training::data::{Dataset, DeadLeaves};
use undiffuse::{Error, ErrorKind, Result};

const SIZE: usize = 64;
/// The largest radius.
const LARGEST: f64 = 32.0;
/// Test images.
const TEST: usize = 250;
/// Rows above and columns beside that are looked at.
const REACH: usize = 3;
/// Patches that a mixture is fitted to.
const PATCHES: usize = 200_000;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some(folder) = args.first() else {
        eprintln!("usage: dead_leaves FOLDER [IMAGES [NOISE]]");
        std::process::exit(2);
    };
    let wrong = |what: &str, e: String| Error::new(ErrorKind::InvalidArgument, format!("{what}: {e}"));
    let count = args.get(1).map_or(Ok(2000), |n| n.parse::<usize>()).map_err(|e| wrong("IMAGES", e.to_string()))?;
    let noise = args.get(2).map_or(Ok(0.02), |n| n.parse::<f64>()).map_err(|e| wrong("NOISE", e.to_string()))?;
    let leaves = DeadLeaves { min_radius: 0.125, max_radius: LARGEST, subpixels: 8, ..DeadLeaves::new(SIZE) };
    let [train, test] = [("train", 1, count), ("test", 2, TEST)].map(|(name, seed, count)| -> Result<Vec<u8>> {
        let images = leaves.images(seed, count)?;
        let mut stream = Stream::new(seed, 0, 1 << 40);
        let bytes: Vec<u8> =
            images.values().iter().map(|v| ((f64::from(*v) + noise * stream.normal()) * 256.0) as u8).collect();
        write(&Path::new(folder).join(format!("dead_leaves_{name}.npy")), &bytes)?;
        Ok(bytes)
    });
    let (train, test) = (train?, test?);
    // The scale of the training images, as the configuration takes it.
    let all = Dataset::new(Dims::new(&[1, SIZE, SIZE])?, filled(&train, 3))?;
    let scale = all.unit_variance()?;
    let scaled = |bytes: &[u8], seed: u64| {
        let mut values = filled(bytes, seed);
        scale.apply(&mut values);
        values
    };
    let fit = every(&patches(&scaled(&train, 3)), PATCHES);
    let held: Vec<_> = scaled(&test, 4).chunks_exact(SIZE * SIZE).map(patches).collect();
    println!("{count} images, noise {noise}, scl {:.4}, shft {:.4}", scale.scl, scale.shft);
    println!("{} training patches, {} test images; bits a pixel, unit variance", fit.len(), held.len());
    let (null, _) = by_image(&held, |p| -0.5 * (p[DIM - 1].powi(2) + TAU.ln()));
    println!("L_null {null:.4}");
    println!("components   training       test   +-");
    for (components, rounds) in [(1, 1), (4, 40), (16, 60), (32, 60)] {
        let mut mixture = Mixture::new(&fit, components);
        for _ in 0..rounds {
            mixture.improve(&fit);
        }
        let seen: f64 = fit.iter().map(|p| mixture.log_conditional(p)).sum::<f64>() / (fit.len() as f64 * LN_2);
        let (test, error) = by_image(&held, |p| mixture.log_conditional(p));
        println!("{components:10} {seen:10.4} {test:10.4}   {error:.4}");
    }
    Ok(())
}

/// The mean of a log density over the patches of each image, in bits: its mean over images and that mean's error.
fn by_image(images: &[Vec<[f64; DIM]>], log: impl Fn(&[f64; DIM]) -> f64) -> (f64, f64) {
    let of = |image: &Vec<[f64; DIM]>| image.iter().map(&log).sum::<f64>() / (image.len() as f64 * LN_2);
    let each: Vec<f64> = images.iter().map(of).collect();
    let n = each.len() as f64;
    let mean = each.iter().sum::<f64>() / n;
    (mean, (each.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n * (n - 1.0))).sqrt())
}

/// Grey levels of [-1, 1] with noise over each.
fn filled(bytes: &[u8], seed: u64) -> Vec<f32> {
    let mut stream = Stream::new(seed, 0, 0);
    bytes.iter().map(|&b| ((f64::from(b) + stream.uniform()) / 127.5 - 1.0) as f32).collect()
}

/// A pixel, last, after those that come before it.
fn patches(values: &[f32]) -> Vec<[f64; DIM]> {
    let mut found = Vec::new();
    for image in values.chunks_exact(SIZE * SIZE) {
        for y in REACH..SIZE {
            for x in REACH..SIZE - REACH {
                let mut patch = [0.0; DIM];
                let before = (0..REACH).flat_map(|r| (0..=2 * REACH).map(move |c| (y - REACH + r, x - REACH + c)));
                let here = (x - REACH..=x).map(|c| (y, c));
                for (to, (row, column)) in patch.iter_mut().zip(before.chain(here)) {
                    *to = f64::from(image[row * SIZE + column]);
                }
                found.push(patch);
            }
        }
    }
    found
}

/// At most so many, evenly spread.
fn every(patches: &[[f64; DIM]], most: usize) -> Vec<[f64; DIM]> {
    let step = patches.len().div_ceil(most).max(1);
    patches.iter().step_by(step).copied().collect()
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let shape = format!("({}, 1, {SIZE}, {SIZE})", bytes.len() / (SIZE * SIZE));
    let header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}\n");
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.bytes());
    file.extend(bytes);
    std::fs::write(path, file).map_err(|e| Error::from(e).context(path.display()))
}
