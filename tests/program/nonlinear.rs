//! `restore` with operators that are not linear: what the library makes of them, what is written, who refuses.

use crate::program::{self, files, ok, refused};
use crate::restore::{N, floats, picture, values};
use crate::tiny::SIDE;
use crate::tiny_scratch::scratch;
use undiffuse::backend::cpu::Cpu;
use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::noise::Seeded;
use undiffuse::pipeline::{Gradient, Pipeline, PipelineOptions};
use undiffuse::posterior::operator::{Clip, ForwardOperator, Identity};
use undiffuse::posterior::{
    Daps, DapsOptions, Dps, Evidence, Fps, FpsOptions, Measurement, Misfit, Sitcom, SitcomOptions,
};
use undiffuse::sampler::{DdimNoise, Sampler, SamplerKind, SamplerOptions, Steps};
use undiffuse::tensor::Dims;

#[test]
fn methods_and_operators_that_are_not_linear_run() {
    let s = scratch();
    let dir = s.path();
    s.write("x.npy", floats(&[SIDE, SIDE], &picture(0)));
    for operator in ["clip", "clip:3", "gamma:2.2", "gamma:0.45", "quantize:5", "phase", "phase:1.5"] {
        for method in ["dps", "daps --langevin-steps 3 --flow-steps 2", "red-diff", "sitcom --gradient-steps 2"] {
            let words = format!(
                "restore x.npy --simulate --operator {operator} --method {method} --sigma 0.1 --steps 3 --model model \
                 --output out.npy --sheet sheet.png --measured y.npy"
            );
            let said = ok(dir, &words.split_whitespace().collect::<Vec<_>>());
            // Magnitudes are no picture to compare with the truth.
            let compared = if operator.starts_with("phase") { "PSNR: samples" } else { "PSNR: measurement" };
            assert!(said.contains(compared) && said.contains("consistency"), "{words}: {said}");
            assert!(values(dir.join("out.npy")).1.iter().all(|v| v.is_finite()), "{words}");
        }
    }
    assert_eq!(values(dir.join("y.npy")).1.len(), (SIDE * 3 / 2).pow(2));
    // A measurement from a file.
    let words = "restore y.npy --operator phase:1.5 --sigma 0.1 --method daps --steps 3 --model model --output out.npy";
    ok(dir, &words.split_whitespace().collect::<Vec<_>>());
    let words = "restore x.npy --simulate --operator clip --sigma 0.1 --method auto --model model --output out.npy";
    let out = program::run(dir, &words.split_whitespace().collect::<Vec<_>>());
    let (said, told) = (String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap());
    assert!(out.status.success() && said.contains("by DAPS") && told.contains("auto takes daps"), "{said} {told}");
    let before = files(dir);
    for (words, text) in [
        (
            "restore x.npy --operator clip --method diffpir --sigma 0.1 --model model",
            "is for linear operators, not --operator clip: take dps, daps, red-diff, sitcom",
        ),
        ("restore x.npy --operator clip", "--method calibrated is for linear operators"),
        ("restore x.npy --operator phase:0.5 --method daps", "--operator is \"phase:0.5\""),
        ("restore x.npy --operator quantize --method daps", "expected identity, mask"),
        ("restore x.npy --operator sr2 --method daps --sampler ddim", "leave out --sampler"),
        ("restore x.npy --operator sr2 --method daps --sigma 0", "--method daps needs noise"),
        ("restore x.npy --operator sr2 --method daps --langevin-length 2", "--langevin-length"),
        ("restore x.npy --operator sr2 --rate 2", "--rate is for red-diff, sitcom"),
        ("restore x.npy --operator sr2 --method sitcom --sampler ddim", "leave out --sampler"),
        ("restore x.npy --operator sr2 --method sitcom --stop -1", "--stop"),
        ("restore x.npy --operator clip --method fps", "is for linear operators"),
        ("restore x.npy --operator sr2 --method dps --misfit cauchy", "expected gaussian or poisson or laplace"),
        ("restore x.npy --operator sr2 --misfit laplace", "--misfit is for dps"),
    ] {
        refused(dir, &words.split_whitespace().collect::<Vec<_>>(), 2, text);
    }
    assert_eq!(files(dir), before);
}

#[test]
fn it_is_what_the_library_makes() {
    let s = scratch();
    let dir = s.path();
    let dims = Dims::new(&[1, SIDE, SIDE]).unwrap();
    let clip = Clip::new(dims, 1.5).unwrap();
    let mut y = [0.0; N];
    clip.forward(&picture(0), &mut y, &mut []).unwrap();
    s.write("y.npy", floats(&[SIDE, SIDE], &y));
    let words = "restore y.npy --operator clip:1.5 --method daps --sigma 0.2 --langevin-steps 7 --langevin-length 0.3 \
                 --flow-steps 2 --steps 4 --seed 3 --model model --output a.npy";
    ok(dir, &words.split_whitespace().collect::<Vec<_>>());
    let pipeline = Pipeline::open(dir.join("model"), &Cpu::new().unwrap(), &PipelineOptions::default()).unwrap();
    let run = SamplerOptions { sampler: Some(SamplerKind::Ddpm), steps: Steps::Count(4), ..Default::default() };
    let sampler = pipeline.scheduler().unwrap().decoupled_annealing(&run, 2).unwrap();
    let how = DapsOptions { langevin_steps: 7, langevin_length: 0.3, flow_steps: 2, ..DapsOptions::default() };
    let evidence = Daps::new(Measurement::new(clip, &y, 0.2).unwrap(), &how).unwrap();
    let options = ChainOptions { batch: 1, first_sample: 0 };
    let denoiser = pipeline.denoiser(1, &[]).unwrap();
    let mut chain = Chain::with_evidence(denoiser, sampler, Seeded::new(3), evidence, &options).unwrap();
    chain.run().unwrap();
    assert_eq!(values(dir.join("a.npy")).1, chain.x());
}

#[test]
fn sitcom_and_fps_are_what_the_library_makes() {
    let s = scratch();
    let dir = s.path();
    let dims = Dims::new(&[1, SIDE, SIDE]).unwrap();
    let y = picture(0);
    s.write("y.npy", floats(&[SIDE, SIDE], &y));
    let settings = PipelineOptions { gradient: Gradient::Full, ..Default::default() };
    let pipeline = Pipeline::open(dir.join("model"), &Cpu::new().unwrap(), &settings).unwrap();
    let seen = || Measurement::new(Identity::new(dims).unwrap(), &y, 0.2).unwrap();
    let run = |evidence: Box<dyn Evidence>, sampler: &dyn Sampler| {
        let options = ChainOptions { batch: 2, first_sample: 0 };
        let denoiser = pipeline.denoiser(2, &[]).unwrap();
        let mut chain = Chain::with_evidence(denoiser, sampler, Seeded::new(3), evidence, &options).unwrap();
        chain.run().unwrap();
        chain.x().to_vec()
    };
    let of = |words: &str| {
        let words = format!(
            "restore y.npy --operator identity --sigma 0.2 --seed 3 --count 2 --model model --output a.npy {words}"
        );
        ok(dir, &words.split_whitespace().collect::<Vec<_>>());
        values(dir.join("a.npy")).1
    };
    let four = |sampler| SamplerOptions { sampler: Some(sampler), steps: Steps::Count(4), ..Default::default() };

    let got = of("--method sitcom --gradient-steps 3 --rate 0.05 --lambda 0.5 --stop 0.1 --steps 4");
    let options = SitcomOptions { gradient_steps: 3, rate: 0.05, lambda: 0.5, stop: Some(0.1) };
    let sampler = pipeline.scheduler().unwrap().input_optimization(&four(SamplerKind::Ddpm), 3).unwrap();
    assert_eq!(got, run(Box::new(Sitcom::new(seen(), &options).unwrap()), &sampler));

    let got = of("--method fps --ensemble 2 --steps 4");
    let noisy = SamplerOptions { eta: 0.95f64.sqrt(), ddim_noise: DdimNoise::Level, ..four(SamplerKind::Ddim) };
    let sampler = pipeline.sampler(&noisy).unwrap();
    assert_eq!(got, run(Box::new(Fps::new(seen(), &FpsOptions { ensemble: 2 }).unwrap()), &sampler));

    let got = of("--method dps --misfit laplace --zeta 0.3 --steps 4");
    let sampler = pipeline.sampler(&four(SamplerKind::Ddpm)).unwrap();
    assert_eq!(got, run(Box::new(Dps::new(seen(), 0.3, Misfit::Laplace).unwrap()), &sampler));
}
