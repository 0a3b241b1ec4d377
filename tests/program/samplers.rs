//! What `sample` says and does of samplers that are not like the others.

use std::path::Path;

use crate::program::{ok, refused};
use crate::tiny;
use crate::tiny_scratch::scratch;

/// The bytes of a file that `sample model` writes with these options.
fn sampled(dir: &Path, options: &str) -> Vec<u8> {
    let mut args = vec!["sample", "model", "--output", "x.npy"];
    args.extend(options.split_whitespace());
    ok(dir, &args);
    std::fs::read(dir.join("x.npy")).unwrap()
}

#[test]
fn rk45_chooses_its_calls_for_each_sample() {
    let s = scratch();
    let rk45 = |options: &str| sampled(s.path(), &format!("--sampler rk45 --tolerance 1e-2 --count 3 {options}"));
    let whole = rk45("--steps 5");
    // Neither the batch nor the levels that are seen change a sample; the tolerance does.
    assert!(whole == rk45("--steps 5 --batch 1") && whole == rk45("--steps 1 --batch 2"));
    assert!(whole != sampled(s.path(), "--sampler rk45 --tolerance 1e-4 --count 3 --steps 5"));
    let said = ok(s.path(), &["sample", "model", "--sampler", "rk45", "--steps", "2", "--count", "1"]);
    assert!(said.contains("2 steps of RK45"), "{said}");
    refused(s.path(), &["sample", "model", "--sampler", "rk45", "--tolerance", "1e-9"], 2, "tolerance");
    refused(s.path(), &["sample", "model", "--sampler", "rk45", "--timesteps", "9,5"], 1, "a number of steps");
}

#[test]
fn sigmas_are_a_list_or_a_name() {
    let s = scratch();
    let euler = |options: &str| sampled(s.path(), &format!("--sampler euler --count 1 --steps 5 {options}"));
    let names = ["karras", "exponential", "beta", "lu", "simple", "ays-sd15", "ays-sdxl"];
    let mut all: Vec<Vec<u8>> = names.iter().map(|name| euler(&format!("--sigmas {name}"))).collect();
    all.sort();
    // Evenly in the logarithm over the schedule's ends is what `lu` is too.
    all.dedup();
    assert!(all.len() >= names.len() - 1, "{}", all.len());
    refused(s.path(), &["sample", "model", "--sampler", "euler", "--sigmas", "karas"], 2, "karas");
    refused(s.path(), &["sample", "model", "--sampler", "ddim", "--steps", "5", "--sigmas", "simple"], 1, "Simple");
}

/// As diffusers' DPMSolverSDEScheduler: one motion for all samples, whose seed is the file's or comes after x_T.
#[test]
fn torchs_noise_of_dpmsolver_sde_is_a_brownian_tree() {
    let s = scratch();
    let sde = |options: &str| sampled(s.path(), &format!("--sampler dpmsolver-sde --steps 4 --count 3 {options}"));
    let drawn = sde("--noise torch-cpu --seed 5");
    assert!(drawn == sde("--noise torch-cpu --seed 5 --batch 1") && drawn != sde("--seed 5"));
    let seeded = tiny::scheduler_config().replace('{', r#"{"noise_sampler_seed": 3,"#);
    s.write("model/scheduler/scheduler_config.json", seeded);
    let given = sde("--noise torch-cpu --seed 5");
    assert!(given != drawn && given == sde("--noise torch-cpu --seed 5 --batch 2"));
    let wrong = tiny::scheduler_config().replace('{', r#"{"noise_sampler_seed": -3,"#);
    s.write("model/scheduler/scheduler_config.json", wrong);
    let args = ["sample", "model", "--sampler", "dpmsolver-sde", "--steps", "4", "--noise", "torch-cpu"];
    refused(s.path(), &args, 1, "noise_sampler_seed");
}
