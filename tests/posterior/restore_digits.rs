//! The small and fast version of `tests/judge/restore_digits.py`: calibrated evidence with the embedded model, on
//! digits that the model itself has drawn. They come from the very prior, so true samples of the posterior miss y by as
//! much as the truth does,
//! |y - A x| = s sqrt(m).

use undiffuse::backend::cpu::Cpu;
use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::noise::{NoiseSource, Seeded};
use undiffuse::pipeline::{Gradient, Pipeline, PipelineOptions};
use undiffuse::posterior::operator::{BlockAverage, Identity, LinearOperator, Mask};
use undiffuse::posterior::{Calibrated, Evidence, Measurement, Moments, NoEvidence};
use undiffuse::sampler::{Jumps, Sampler, SamplerKind, SamplerOptions, Steps};
use undiffuse::tensor::Dims;

const SIDE: usize = 28;
const N: usize = SIDE * SIDE;
const DIGITS: usize = 4;
/// The noise of denoising: the standard deviation of the digits, an SNR of 1.
const SNR_1: f64 = 0.6;
const JUMPS: Option<Jumps> = Some(Jumps { length: 4, resamplings: 2 });

fn dims() -> Dims {
    Dims::new(&[1, SIDE, SIDE]).unwrap()
}

/// Without `jumps` by DDIM with eta 1, else by RePaint, as the program does for calibrated evidence.
fn sample(pipeline: &Pipeline, seed: u64, steps: usize, jumps: Option<Jumps>, evidence: impl Evidence) -> Vec<f32> {
    let sampler = Some(SamplerKind::Ddim);
    let options = SamplerOptions { sampler, steps: Steps::Count(steps), eta: 1.0, ..Default::default() };
    let sampler: Box<dyn Sampler> = match jumps {
        Some(jumps) => Box::new(pipeline.scheduler().unwrap().repaint(&options, jumps).unwrap()),
        None => pipeline.sampler(&options).unwrap(),
    };
    let denoiser = pipeline.denoiser(DIGITS, &[]).unwrap();
    let options = ChainOptions { batch: DIGITS, first_sample: 0 };
    let mut chain = Chain::with_evidence(denoiser, sampler, Seeded::new(seed), evidence, &options).unwrap();
    chain.run().unwrap();
    chain.x().to_vec()
}

/// y = A x + s z for each digit.
fn measure(operator: &dyn LinearOperator, x: &[f32], s: f64) -> Vec<f32> {
    let m = operator.output_dims().elements();
    let (mut y, mut z) = (vec![0.0; x.len() / N * m], vec![0.0; x.len() / N * m]);
    Seeded::new(99).normal(0, 0, m, &mut z).unwrap();
    let mut scratch = vec![0.0; operator.scratch_len()];
    for (y, x) in y.chunks_exact_mut(m).zip(x.chunks_exact(N)) {
        operator.apply(x, y, &mut scratch).unwrap();
    }
    y.iter_mut().zip(z).for_each(|(y, z)| *y += s as f32 * z);
    y
}

/// |y - A x| / (s sqrt(m)) over all digits.
fn consistency(operator: &dyn LinearOperator, y: &[f32], x: &[f32], s: f64) -> f64 {
    let ax = measure(operator, x, 0.0);
    let gaps = y.iter().zip(&ax).map(|(y, a)| f64::from(y - a).powi(2));
    (gaps.sum::<f64>() / y.len() as f64).sqrt() / s
}

/// Over the range of 2, of values clipped to [-1, 1], averaged over digits.
fn psnr(x: &[f32], truth: &[f32]) -> f64 {
    let one = |(x, t): (&[f32], &[f32])| {
        let error: f64 = x.iter().zip(t).map(|(x, t)| f64::from(x.clamp(-1.0, 1.0) - t).powi(2)).sum();
        10.0 * (4.0 * N as f64 / error).log10()
    };
    x.chunks_exact(N).zip(truth.chunks_exact(N)).map(one).sum::<f64>() / DIGITS as f64
}

#[test]
fn calibrated_evidence_denoises_and_completes_digits() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/pretrained/digits.safetensors");
    let options = PipelineOptions { gradient: Gradient::Full, ..PipelineOptions::default() };
    let pipeline = Pipeline::open(path, &Cpu::new().unwrap(), &options).unwrap();
    let truth = sample(&pipeline, 1, 50, None, NoEvidence);

    let id = Identity::new(dims()).unwrap();
    let noisy = measure(&id, &truth, SNR_1);
    let mut maps = Moments::new(Dims::new(&[DIGITS, 1, SIDE, SIDE]).unwrap()).unwrap();
    for seed in 2..5 {
        let seen = Measurement::each(&id, &noisy, 0, SNR_1).unwrap();
        let x = sample(&pipeline, seed, 20, JUMPS, Calibrated::new(seen, 2).unwrap());
        let agreed = consistency(&id, &noisy, &x, SNR_1);
        println!("denoising: {:.1} dB, noisy {:.1}; consistency {agreed:.3}", psnr(&x, &truth), psnr(&noisy, &truth));
        assert!((0.9..1.1).contains(&agreed), "consistency {agreed}");
        maps.add(&x).unwrap();
    }
    let mean: Vec<f32> = maps.mean().iter().map(|&m| m as f32).collect();
    let gain = psnr(&mean, &truth) - psnr(&noisy, &truth);
    println!("the mean of three: {gain:.1} dB above the noisy digits");
    assert!(gain >= 8.0, "{gain} dB");

    let upper: Box<dyn LinearOperator> = Box::new(Mask::without_box(dims(), SIDE / 2, 0, SIDE / 2, SIDE).unwrap());
    let small: Box<dyn LinearOperator> = Box::new(BlockAverage::new(dims(), 4).unwrap());
    for (what, operator) in [("completing halves", upper), ("4 x 4 means", small)] {
        let y = measure(&*operator, &truth, 0.05);
        let seen = Measurement::each(&*operator, &y, 0, 0.05).unwrap();
        let x = sample(&pipeline, 6, 20, JUMPS, Calibrated::new(seen, 2).unwrap());
        let agreed = consistency(&*operator, &y, &x, 0.05);
        println!("{what}: {:.1} dB; consistency {agreed:.3}", psnr(&x, &truth));
        assert!((0.9..1.1).contains(&agreed), "{what}: consistency {agreed}");
    }
}
