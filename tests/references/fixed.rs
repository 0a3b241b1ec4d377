//! `Compat::Fixed` is right where diffusers is not: by the standard deviation that comes out of N(0, 0.5^2), whose
//! denoiser is known and linear, so that a state is its coefficients over the start and the noises drawn, and no
//! sampling error is made. (`findings` has the same of diffusers.)

use undiffuse::sampler::{Churn, Compat, SamplerOptions, SchedulerConfig, StepIo, Steps};
use undiffuse::schedule::{Arithmetic, NoiseSchedule};

const S: f64 = 0.5;

/// The standard deviation of what a sampler makes. The network knows its training's levels by the timestep that it is
/// told.
fn spread(json: &str, options: SamplerOptions) -> f64 {
    let config = SchedulerConfig::from_json(json).unwrap();
    let sampler = config.sampler(&options).unwrap();
    let abar = NoiseSchedule::new(&config.betas(), Arithmetic::Float64).unwrap().alphas_cumprod().to_vec();
    let last = abar.len() - 1;
    let log = |i: usize| {
        let a = abar[i].max(1e-30);
        0.5 * ((1.0 - a) / a).ln()
    };
    let steps = sampler.levels().len();
    let n = steps + 2;
    let mut x = vec![0f32; n];
    x[0] = sampler.initial_scale();
    let mut state = vec![0.0; sampler.state_len(n)];
    for (step, level) in sampler.levels().iter().enumerate() {
        let at = level.timestep.clamp(0.0, last as f64);
        let low = (at as usize).min(last - 1);
        let ratio = (log(low) + (at - low as f64) * (log(low + 1) - log(low))).exp();
        let alpha = 1.0 / (1.0 + ratio * ratio).sqrt();
        let sigma = ratio * alpha;
        let by = sigma / ((alpha * S).powi(2) + sigma * sigma) * f64::from(sampler.input_scale(step));
        let mut output: Vec<f32> = x.iter().map(|x| (by * f64::from(*x)) as f32).collect();
        let mut noise = Vec::new();
        if sampler.needs_noise(step) {
            noise = vec![0.0; n];
            noise[step + 1] = 1.0;
        }
        let mut next_state = state.clone();
        let (mut eps, mut x0, mut next) = (vec![0.0; n], vec![0.0; n], vec![0.0; n]);
        let io = StepIo {
            x: &x,
            output: &mut output,
            noise: &noise,
            state: &state,
            next_state: &mut next_state,
            eps: &mut eps,
            x0: &mut x0,
            next: &mut next,
        };
        sampler.step(step, step, io).unwrap();
        (x, state) = (next, next_state);
    }
    x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt()
}

fn options(count: usize, compat: Compat) -> SamplerOptions {
    SamplerOptions { steps: Steps::Count(count), compat, arithmetic: Arithmetic::Float64, ..Default::default() }
}

/// Errors of diffusers' formulas and of the fixed ones.
fn errors(json: &str, count: usize) -> [f64; 2] {
    [Compat::Diffusers, Compat::Fixed].map(|compat| (spread(json, options(count, compat)) - S).abs())
}

#[test]
fn churn_goes_before_the_network() {
    let json = r#"{"_class_name": "EulerDiscreteScheduler", "use_karras_sigmas": true}"#;
    for s_churn in [5.0, 10.0, 40.0] {
        let churn = Churn { s_churn, ..Churn::default() };
        let of = |count, compat| spread(json, SamplerOptions { churn, ..options(count, compat) });
        // Algorithm 2 with Euler's steps, on the same sigmas.
        let published = |count: usize| {
            let config = SchedulerConfig::from_json(json).unwrap();
            let sampler = config.sampler(&options(count, Compat::Diffusers)).unwrap();
            let sigmas: Vec<f64> = sampler.levels().iter().map(|l| l.sigma).chain([0.0]).collect();
            let mut variance = f64::from(sampler.initial_scale()).powi(2);
            for pair in sigmas.windows(2) {
                let raised = pair[0] * (1.0 + (s_churn / count as f64).min(2f64.sqrt() - 1.0));
                variance += raised * raised - pair[0] * pair[0];
                variance *= (1.0 + raised / (S * S + raised * raised) * (pair[1] - raised)).powi(2);
            }
            variance.sqrt()
        };
        let fixed: Vec<f64> = [50, 100, 200].map(|n| of(n, Compat::Fixed)).into();
        for (n, got) in [50, 100, 200].into_iter().zip(&fixed) {
            println!("s_churn {s_churn}, {n} steps: diffusers {:.4}, fixed {got:.4}", of(n, Compat::Diffusers));
            assert!((got - published(n)).abs() < 2e-4, "{n}: {got} {}", published(n));
            assert!(s_churn < 10.0 || of(n, Compat::Diffusers) > S, "{n}");
        }
        // Of first order in the step, where no step is at the most churn that there is.
        let away = |x: f64| (x - S).abs();
        assert!(
            s_churn > 20.0 || away(fixed[2]) < 0.65 * away(fixed[1]) && away(fixed[1]) < 0.65 * away(fixed[0]),
            "{fixed:?}"
        );
    }
}

#[test]
fn grids_that_were_meant() {
    let beta = r#"{"_class_name": "EulerDiscreteScheduler", "use_beta_sigmas": true}"#;
    let log_linear = r#"{"_class_name": "EulerDiscreteScheduler", "interpolation_type": "log_linear"}"#;
    for (name, json, count, most) in [("beta", beta, 20, 0.1), ("log_linear", log_linear, 100, 0.03)] {
        let [theirs, fixed] = errors(json, count);
        let [_, finer] = errors(json, 2 * count);
        println!(
            "{name}, {count} steps: off by {theirs:.4} in diffusers, {fixed:.4} fixed, {finer:.4} with twice the steps"
        );
        assert!(fixed < most && theirs > 2.0 * fixed && finer < 0.7 * fixed, "{name}: {theirs} {fixed} {finer}");
    }
    // Quantiles are symmetric: the middle one is the middle timestep.
    let config = SchedulerConfig::from_json(beta).unwrap();
    let sampler = config.sampler(&options(21, Compat::Fixed)).unwrap();
    assert!((sampler.levels()[10].timestep - 499.5).abs() < 1e-6 && sampler.levels()[0].timestep == 999.0);
}

#[test]
fn ddim_goes_to_the_timestep_that_comes_next() {
    for spacing in ["linspace", "trailing"] {
        let json =
            format!(r#"{{"_class_name": "DDIMScheduler", "clip_sample": false, "timestep_spacing": "{spacing}"}}"#);
        let [theirs, fixed] = errors(&json, 400);
        println!("{spacing}, 400 steps: off by {theirs:.4} in diffusers, {fixed:.4} fixed");
        assert!(fixed < 0.01 && theirs > 5.0 * fixed, "{spacing}: {theirs} {fixed}");
    }
}

#[test]
fn sigmas_rise_to_the_last_without_signal() {
    let json = r#"{"_class_name": "EulerDiscreteScheduler", "rescale_betas_zero_snr": true}"#;
    let fixed = errors_of_fixed(json, 500);
    println!("zero SNR, 500 steps: off by {fixed:.4}");
    let ancestral = json.replace("EulerDiscrete", "EulerAncestralDiscrete");
    let ancestral = errors_of_fixed(&ancestral, 500);
    assert!(fixed < 0.02 && ancestral < 0.05, "{fixed} {ancestral}");
    let config = SchedulerConfig::from_json(json).unwrap();
    let all = |compat| {
        let sampler = config.sampler(&SamplerOptions { steps: Steps::All, ..options(1, compat) });
        sampler.map(|s| s.levels().iter().map(|l| l.sigma).collect::<Vec<f64>>())
    };
    let sigmas = all(Compat::Fixed).unwrap();
    assert!(sigmas.windows(2).all(|w| w[0] > w[1]), "{:?}", &sigmas[..4]);
    // diffusers' rise before they fall.
    assert!(all(Compat::Diffusers).is_err_and(|e| e.message().contains("rise in noise")));
}

fn errors_of_fixed(json: &str, count: usize) -> f64 {
    (spread(json, options(count, Compat::Fixed)) - S).abs()
}

#[test]
fn unipc_ends_at_x_0() {
    for extra in [r#""solver_type": "bh1""#, r#""predict_x0": false"#, r#""predict_x0": false, "solver_type": "bh1""#] {
        let json = format!(r#"{{"_class_name": "UniPCMultistepScheduler", {extra}}}"#);
        let [usual, fixed] = errors(&json, 20);
        let [finer, _] = errors(&json, 40);
        println!("{extra}: off by {usual:.4}, {finer:.4} with twice the steps");
        assert!(usual == fixed && usual < 0.05 && finer < 0.7 * usual, "{extra}: {usual} {finer}");
    }
}
