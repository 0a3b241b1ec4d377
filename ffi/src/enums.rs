//! The enums of the options. In structs they are uint32_t; a number that is none of the values is refused.

use crate::options::c_enum;

/// What runs networks.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum undiffuse_backend {
    /// The CPU, with the fastest kernels that it supports.
    UNDIFFUSE_BACKEND_CPU = 0,
    /// Plain loops in double precision: the reference that the others are tested against. Only in builds for tests.
    UNDIFFUSE_BACKEND_REFERENCE = 1,
    /// A GPU, through wgpu and Vulkan, in builds that include it.
    UNDIFFUSE_BACKEND_WGPU = 2,
}
c_enum!(undiffuse_backend: UNDIFFUSE_BACKEND_CPU, UNDIFFUSE_BACKEND_REFERENCE, UNDIFFUSE_BACKEND_WGPU);

/// What a network computes in, and how it keeps the values between layers.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum undiffuse_precision {
    /// As 32-bit floats.
    UNDIFFUSE_PRECISION_F32 = 0,
    /// As 16-bit floats, about 1e-3 relative; arithmetic stays in 32 bits, as do models with gradients. Not on the cpu.
    UNDIFFUSE_PRECISION_F16 = 1,
    /// Convolutions and linear layers of images in 8-bit integers, of a model that `undiffuse pack --calibrate` wrote,
    /// on the cpu and the reference backend. Values between layers are bf16; gradients stay in 32 bits.
    UNDIFFUSE_PRECISION_INT8 = 2,
    /// Linear maps and small convolutions of bf16, with AMX (which Linux is asked for) large ones and attention too;
    /// sums and all else in 32 bits; not on wgpu. It gains where the processor multiplies bf16 fast: AMX, AMD's
    /// AVX-512.
    UNDIFFUSE_PRECISION_BF16 = 3,
}
c_enum!(undiffuse_precision: UNDIFFUSE_PRECISION_F32, UNDIFFUSE_PRECISION_F16, UNDIFFUSE_PRECISION_INT8, UNDIFFUSE_PRECISION_BF16);

/// How the CPU keeps the weights of convolutions and linear layers; sums, activations and all other weights are f32.
/// Narrow weights take fewer bytes, and less time where a network's time is that of reading them: few values per
/// weight, as in a policy's 1-D UNet at batch 1.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum undiffuse_weight_type {
    /// 4 bytes.
    UNDIFFUSE_WEIGHT_F32 = 0,
    /// 2 bytes, rounded to the nearest; exact where the file has f16. A weight beyond 65504 is refused.
    UNDIFFUSE_WEIGHT_F16 = 1,
    /// 2 bytes, rounded to the nearest; exact where the file has bf16.
    UNDIFFUSE_WEIGHT_BF16 = 2,
    /// 1 byte: s round(w / s), where s is the largest |w| of an output channel divided by 127. With 8 and 4 bits,
    /// layers of fewer than 16 output channels, or of fewer than 64 weights for each, stay f32.
    UNDIFFUSE_WEIGHT_INT8 = 3,
    /// 9/16 byte: s q, q from -8 to 7; a bf16 s for each 32 of an output channel in the order (ky, kx, input channel).
    UNDIFFUSE_WEIGHT_INT4 = 4,
}
c_enum!(undiffuse_weight_type: UNDIFFUSE_WEIGHT_F32, UNDIFFUSE_WEIGHT_F16, UNDIFFUSE_WEIGHT_BF16, UNDIFFUSE_WEIGHT_INT8, UNDIFFUSE_WEIGHT_INT4);

/// Whether a model can also give vector-Jacobian products.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum undiffuse_gradient {
    /// No.
    UNDIFFUSE_GRADIENT_NONE = 0,
    /// Fastest: everything that the backward pass needs is kept in the workspace.
    UNDIFFUSE_GRADIENT_FULL = 1,
    /// About half of that memory: most of the forward pass is computed twice.
    UNDIFFUSE_GRADIENT_RECOMPUTE = 2,
}
c_enum!(undiffuse_gradient: UNDIFFUSE_GRADIENT_NONE, UNDIFFUSE_GRADIENT_FULL, UNDIFFUSE_GRADIENT_RECOMPUTE);

/// The reverse process, one network call a step.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum undiffuse_sampler_kind {
    /// The one that the scheduler's configuration names.
    UNDIFFUSE_SAMPLER_OF_SCHEDULE = 0,
    /// DDPM (Ho 2020): ancestral sampling.
    UNDIFFUSE_SAMPLER_DDPM = 1,
    /// DDIM (Song 2020).
    UNDIFFUSE_SAMPLER_DDIM = 2,
    /// Ancestral steps that also go back in noise (Lugmayr 2022), for the evidence method of that name.
    UNDIFFUSE_SAMPLER_REPAINT = 3,
    /// The Gaussian chain of Sohl-Dickstein et al. 2015, in double precision: every step unless fewer are asked for.
    UNDIFFUSE_SAMPLER_ANCESTRAL_2015 = 4,
    /// The binomial chain of the same paper: samples are bits, as floats that are 0 or 1.
    UNDIFFUSE_SAMPLER_BITS_2015 = 5,
    /// DDIM from data to noise. Start from a picture, not from noise.
    UNDIFFUSE_SAMPLER_DDIM_INVERSE = 6,
    /// DPM-Solver and DPM-Solver++ by multiple steps (Lu 2022), also stochastic.
    UNDIFFUSE_SAMPLER_DPM_SOLVER_MULTISTEP = 7,
    /// The same by single steps.
    UNDIFFUSE_SAMPLER_DPM_SOLVER_SINGLESTEP = 8,
    /// DPM-Solver++ SDE: two calls a step, noise at both.
    UNDIFFUSE_SAMPLER_DPM_SOLVER_SDE = 9,
    /// UniPC (Zhao 2023).
    UNDIFFUSE_SAMPLER_UNIPC = 10,
    /// DEIS (Zhang 2023).
    UNDIFFUSE_SAMPLER_DEIS = 11,
    /// SA-Solver (Xue 2023).
    UNDIFFUSE_SAMPLER_SA_SOLVER = 12,
    /// Euler's method in sigma (Karras 2022).
    UNDIFFUSE_SAMPLER_EULER = 13,
    /// The same with fresh noise at each step.
    UNDIFFUSE_SAMPLER_EULER_ANCESTRAL = 14,
    /// Heun's method in sigma: two calls a step.
    UNDIFFUSE_SAMPLER_HEUN = 15,
    /// The midpoint method in sigma: two calls a step.
    UNDIFFUSE_SAMPLER_KDPM2 = 16,
    /// The same with fresh noise at each step.
    UNDIFFUSE_SAMPLER_KDPM2_ANCESTRAL = 17,
    /// Linear multistep in sigma, order 4.
    UNDIFFUSE_SAMPLER_LMS = 18,
    /// PNDM (Liu 2022).
    UNDIFFUSE_SAMPLER_PNDM = 19,
    /// Adams and Bashforth on a trigonometric schedule.
    UNDIFFUSE_SAMPLER_IPNDM = 20,
    /// Euler's method for networks behind EDM's preconditioning.
    UNDIFFUSE_SAMPLER_EDM_EULER = 21,
    /// DPM-Solver++ for such networks.
    UNDIFFUSE_SAMPLER_EDM_DPM_SOLVER = 22,
    /// Stochastic DPM-Solver++ for such networks.
    UNDIFFUSE_SAMPLER_COSINE_DPM_SOLVER = 23,
    /// Latent consistency (Luo 2023).
    UNDIFFUSE_SAMPLER_LCM = 24,
    /// Trajectory consistency (Zheng 2024).
    UNDIFFUSE_SAMPLER_TCD = 25,
    /// Multistep consistency (Song 2023).
    UNDIFFUSE_SAMPLER_CM = 26,
    /// Euler's method on a flow (Lipman 2023).
    UNDIFFUSE_SAMPLER_FLOW_EULER = 27,
    /// Heun's method on a flow.
    UNDIFFUSE_SAMPLER_FLOW_HEUN = 28,
    /// A flow whose x_0 is noised anew at each step.
    UNDIFFUSE_SAMPLER_FLOW_LCM = 29,
    /// DPM-Solver++ from data to noise.
    UNDIFFUSE_SAMPLER_DPM_SOLVER_INVERSE = 30,
    /// EDM's own sampler: Heun's method with noise before each step (Karras et al. 2022, algorithm 2).
    UNDIFFUSE_SAMPLER_EDM_HEUN = 31,
    /// The same of a network that gives -eps.
    UNDIFFUSE_SAMPLER_KARRAS_VE = 32,
    /// The variance-exploding predictor-corrector (Song et al. 2021).
    UNDIFFUSE_SAMPLER_SCORE_SDE_VE = 33,
    /// The variance-preserving reverse equation of continuous time (Song et al. 2021).
    UNDIFFUSE_SAMPLER_SCORE_SDE_VP = 34,
    /// Ancestral steps to x_0, then back into ever less noise and down again, for the evidence method of that name.
    UNDIFFUSE_SAMPLER_SPLIT_GIBBS = 35,
    /// The probability flow by adaptive Runge-Kutta (Dormand and Prince 1980; Song et al. 2021).
    UNDIFFUSE_SAMPLER_RK45 = 36,
    /// The chain of classes (Austin et al. 2021): samples are one-hot rows, as floats that are 0 or 1; only for a
    /// scheduler configuration of its class, D3PMScheduler.
    UNDIFFUSE_SAMPLER_D3PM = 37,
    /// Levels that are drawn anew from x_0, to which each leads in `flow_steps` calls (Zhang et al. 2024): for DAPS.
    UNDIFFUSE_SAMPLER_DECOUPLED_ANNEALING = 38,
    /// Levels at each of which the network is called `gradient_steps` times before the next is drawn anew from x_0
    /// (Alkhouri et al. 2025): for SITCOM.
    UNDIFFUSE_SAMPLER_INPUT_OPTIMIZATION = 39,
}
c_enum!(undiffuse_sampler_kind: UNDIFFUSE_SAMPLER_OF_SCHEDULE, UNDIFFUSE_SAMPLER_DDPM, UNDIFFUSE_SAMPLER_DDIM, UNDIFFUSE_SAMPLER_REPAINT,
    UNDIFFUSE_SAMPLER_ANCESTRAL_2015, UNDIFFUSE_SAMPLER_BITS_2015, UNDIFFUSE_SAMPLER_DDIM_INVERSE, UNDIFFUSE_SAMPLER_DPM_SOLVER_MULTISTEP, UNDIFFUSE_SAMPLER_DPM_SOLVER_SINGLESTEP, UNDIFFUSE_SAMPLER_DPM_SOLVER_SDE, UNDIFFUSE_SAMPLER_UNIPC, UNDIFFUSE_SAMPLER_DEIS, UNDIFFUSE_SAMPLER_SA_SOLVER, UNDIFFUSE_SAMPLER_EULER, UNDIFFUSE_SAMPLER_EULER_ANCESTRAL, UNDIFFUSE_SAMPLER_HEUN, UNDIFFUSE_SAMPLER_KDPM2, UNDIFFUSE_SAMPLER_KDPM2_ANCESTRAL, UNDIFFUSE_SAMPLER_LMS, UNDIFFUSE_SAMPLER_PNDM, UNDIFFUSE_SAMPLER_IPNDM, UNDIFFUSE_SAMPLER_EDM_EULER, UNDIFFUSE_SAMPLER_EDM_DPM_SOLVER, UNDIFFUSE_SAMPLER_COSINE_DPM_SOLVER, UNDIFFUSE_SAMPLER_LCM, UNDIFFUSE_SAMPLER_TCD, UNDIFFUSE_SAMPLER_CM, UNDIFFUSE_SAMPLER_FLOW_EULER, UNDIFFUSE_SAMPLER_FLOW_HEUN, UNDIFFUSE_SAMPLER_FLOW_LCM, UNDIFFUSE_SAMPLER_DPM_SOLVER_INVERSE, UNDIFFUSE_SAMPLER_EDM_HEUN, UNDIFFUSE_SAMPLER_KARRAS_VE, UNDIFFUSE_SAMPLER_SCORE_SDE_VE, UNDIFFUSE_SAMPLER_SCORE_SDE_VP, UNDIFFUSE_SAMPLER_SPLIT_GIBBS, UNDIFFUSE_SAMPLER_RK45, UNDIFFUSE_SAMPLER_D3PM, UNDIFFUSE_SAMPLER_DECOUPLED_ANNEALING,
    UNDIFFUSE_SAMPLER_INPUT_OPTIMIZATION);

/// How beta depends on t; the names are diffusers'.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum undiffuse_beta_schedule {
    /// Evenly from beta_start to beta_end.
    UNDIFFUSE_BETAS_LINEAR = 0,
    /// The square of an even grid from sqrt(beta_start) to sqrt(beta_end).
    UNDIFFUSE_BETAS_SCALED_LINEAR = 1,
    /// From abar(t) = cos^2((t + 0.008) / 1.008 pi / 2), each at most 0.999.
    UNDIFFUSE_BETAS_SQUAREDCOS_CAP_V2 = 2,
    /// A sigmoid from beta_start to beta_end.
    UNDIFFUSE_BETAS_SIGMOID = 3,
    /// From the Laplace signal-to-noise curve.
    UNDIFFUSE_BETAS_LAPLACE = 4,
    /// From abar(t) = exp(-12 t).
    UNDIFFUSE_BETAS_EXP = 5,
    /// 1 / (T - t + 1): the 2015 paper's, which erases a constant fraction of the signal's variance in each step.
    UNDIFFUSE_BETAS_ERASING_EVENLY_2015 = 6,
    /// The code of the 2015 paper's authors, without learned coefficients.
    UNDIFFUSE_BETAS_AUTHORS_2015 = 7,
}
c_enum!(undiffuse_beta_schedule: UNDIFFUSE_BETAS_LINEAR, UNDIFFUSE_BETAS_SCALED_LINEAR, UNDIFFUSE_BETAS_SQUAREDCOS_CAP_V2,
    UNDIFFUSE_BETAS_SIGMOID, UNDIFFUSE_BETAS_LAPLACE, UNDIFFUSE_BETAS_EXP, UNDIFFUSE_BETAS_ERASING_EVENLY_2015, UNDIFFUSE_BETAS_AUTHORS_2015);

/// The variance of a DDPM step; the names are diffusers'.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum undiffuse_variance_type {
    /// That of q(x_s | x_t, x_0).
    UNDIFFUSE_VARIANCE_FIXED_SMALL = 0,
    /// The same, computed through its logarithm.
    UNDIFFUSE_VARIANCE_FIXED_SMALL_LOG = 1,
    /// beta.
    UNDIFFUSE_VARIANCE_FIXED_LARGE = 2,
    /// The same, computed through its logarithm.
    UNDIFFUSE_VARIANCE_FIXED_LARGE_LOG = 3,
    /// The second half of the network's output.
    UNDIFFUSE_VARIANCE_LEARNED = 4,
    /// The second half of the output interpolates between the logarithms of small and large.
    UNDIFFUSE_VARIANCE_LEARNED_RANGE = 5,
}
c_enum!(undiffuse_variance_type: UNDIFFUSE_VARIANCE_FIXED_SMALL, UNDIFFUSE_VARIANCE_FIXED_SMALL_LOG, UNDIFFUSE_VARIANCE_FIXED_LARGE,
    UNDIFFUSE_VARIANCE_FIXED_LARGE_LOG, UNDIFFUSE_VARIANCE_LEARNED, UNDIFFUSE_VARIANCE_LEARNED_RANGE);

/// What the network was trained to give.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum undiffuse_prediction_type {
    /// The noise.
    UNDIFFUSE_PREDICTION_EPSILON = 0,
    /// x_0.
    UNDIFFUSE_PREDICTION_SAMPLE = 1,
    /// v = alpha eps - sigma x_0.
    UNDIFFUSE_PREDICTION_V = 2,
    /// The velocity eps - x_0 of a flow.
    UNDIFFUSE_PREDICTION_FLOW = 3,
}
c_enum!(undiffuse_prediction_type: UNDIFFUSE_PREDICTION_EPSILON, UNDIFFUSE_PREDICTION_SAMPLE, UNDIFFUSE_PREDICTION_V,
    UNDIFFUSE_PREDICTION_FLOW);

/// Which of the T timesteps a shorter run visits; the names are diffusers'.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum undiffuse_timestep_spacing {
    /// 0, r, 2 r, ... with r = T / N rounded down, plus steps_offset.
    UNDIFFUSE_SPACING_LEADING = 0,
    /// round(linspace(0, T - 1, N)).
    UNDIFFUSE_SPACING_LINSPACE = 1,
    /// round(T, T - T/N, ...) - 1.
    UNDIFFUSE_SPACING_TRAILING = 2,
}
c_enum!(undiffuse_timestep_spacing: UNDIFFUSE_SPACING_LEADING, UNDIFFUSE_SPACING_LINSPACE, UNDIFFUSE_SPACING_TRAILING);

/// Whose formulas a sampler takes where it runs a model that was saved with another.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum undiffuse_compat {
    /// diffusers', but the model's clip of x_0 holds, and solvers over sigmas spread them from 60 down by Karras's rule
    /// unless the configuration says how.
    UNDIFFUSE_COMPAT_USUAL = 0,
    /// diffusers' in everything.
    UNDIFFUSE_COMPAT_DIFFUSERS = 1,
    /// As usual, with what diffusers has wrong put right: third orders, churn, some grids.
    UNDIFFUSE_COMPAT_FIXED = 2,
}
c_enum!(undiffuse_compat: UNDIFFUSE_COMPAT_USUAL, UNDIFFUSE_COMPAT_DIFFUSERS, UNDIFFUSE_COMPAT_FIXED);

/// What DDIM's eta is a fraction of.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum undiffuse_ddim_noise {
    /// The standard deviation of q(x_s | x_t, x_0), as Song 2020 and diffusers say.
    UNDIFFUSE_DDIM_NOISE_POSTERIOR = 0,
    /// All of the noise in x_s, as DDRM, DDNM and DiffPIR say.
    UNDIFFUSE_DDIM_NOISE_LEVEL = 1,
}
c_enum!(undiffuse_ddim_noise: UNDIFFUSE_DDIM_NOISE_POSTERIOR, UNDIFFUSE_DDIM_NOISE_LEVEL);

/// Which timestep a DDIM step leads to.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum undiffuse_ddim_previous {
    /// t - T / N, as diffusers computes it.
    UNDIFFUSE_DDIM_PREVIOUS_DIFFUSERS = 0,
    /// The next timestep of the list.
    UNDIFFUSE_DDIM_PREVIOUS_NEXT = 1,
}
c_enum!(undiffuse_ddim_previous: UNDIFFUSE_DDIM_PREVIOUS_DIFFUSERS, UNDIFFUSE_DDIM_PREVIOUS_NEXT);

/// The precision of schedules and of the scalars of a step.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum undiffuse_arithmetic {
    /// As diffusers on PyTorch computes them, value for value.
    UNDIFFUSE_ARITHMETIC_FLOAT32 = 0,
    /// Double precision.
    UNDIFFUSE_ARITHMETIC_FLOAT64 = 1,
}
c_enum!(undiffuse_arithmetic: UNDIFFUSE_ARITHMETIC_FLOAT32, UNDIFFUSE_ARITHMETIC_FLOAT64);

/// What the network of a 2015 chain gives.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum undiffuse_readout_2015 {
    /// Mean and variance as the authors' code reads them: two values for each of a sample's.
    UNDIFFUSE_READOUT_2015_CODE = 0,
    /// Mean and variance by the paper's equations 64 and 65.
    UNDIFFUSE_READOUT_2015_PAPER = 1,
    /// One value for each, as prediction_type says.
    UNDIFFUSE_READOUT_2015_PREDICTION = 2,
}
c_enum!(undiffuse_readout_2015: UNDIFFUSE_READOUT_2015_CODE, UNDIFFUSE_READOUT_2015_PAPER, UNDIFFUSE_READOUT_2015_PREDICTION);

/// How a 2015 chain ends.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum undiffuse_ending_2015 {
    /// T network calls, the last of which gives its mean (in a binary chain, bits).
    UNDIFFUSE_ENDING_2015_MEAN = 0,
    /// The original loop: T - 1 calls, each with noise.
    UNDIFFUSE_ENDING_2015_ORIGINAL = 1,
}
c_enum!(undiffuse_ending_2015: UNDIFFUSE_ENDING_2015_MEAN, UNDIFFUSE_ENDING_2015_ORIGINAL);

/// Which probability the network of a binary chain predicts.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum undiffuse_bit_prediction {
    /// That the bit before the step's noise is 1.
    UNDIFFUSE_BITS_PREVIOUS = 0,
    /// That the bit of x_0 is 1.
    UNDIFFUSE_BITS_CLEAN = 1,
}
c_enum!(undiffuse_bit_prediction: UNDIFFUSE_BITS_PREVIOUS, UNDIFFUSE_BITS_CLEAN);

/// What a filter sees beyond the edge of an image.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum undiffuse_padding {
    /// The image mirrored with its edge element repeated.
    UNDIFFUSE_PADDING_SYMMETRIC = 0,
    /// The image repeated.
    UNDIFFUSE_PADDING_CIRCULAR = 1,
    /// Zeros.
    UNDIFFUSE_PADDING_ZERO = 2,
}
c_enum!(undiffuse_padding: UNDIFFUSE_PADDING_SYMMETRIC, UNDIFFUSE_PADDING_CIRCULAR, UNDIFFUSE_PADDING_ZERO);

/// How a measurement acts on the chain. "VJP" marks those that need a vector-Jacobian product of the network.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum undiffuse_method {
    /// r at every level from the model's own covariance: the posterior, as far as one Gaussian at each level says it.
    /// `iterations` VJPs a step. Noise above 0.
    UNDIFFUSE_METHOD_CALIBRATED = 0,
    /// The same with a white prior of `variance`: no VJP. Noise above 0; a sampler that adds noise.
    UNDIFFUSE_METHOD_CALIBRATED_WHITE = 1,
    /// DPS (Chung 2022) with step `zeta` and `misfit`. VJP.
    UNDIFFUSE_METHOD_DPS = 2,
    /// MCG (Chung 2022) with step `zeta`. No noise. VJP.
    UNDIFFUSE_METHOD_MCG = 3,
    /// PiGDM (Song 2023) by `pigdm_rule`. VJP.
    UNDIFFUSE_METHOD_PIGDM = 4,
    /// TMPD. Two VJPs a step.
    UNDIFFUSE_METHOD_TMPD = 5,
    /// DDRM (Kawar 2022) with `eta_b`.
    UNDIFFUSE_METHOD_DDRM = 6,
    /// DDNM (Wang 2022). No noise.
    UNDIFFUSE_METHOD_DDNM = 7,
    /// DDNM+. Noise above 0.
    UNDIFFUSE_METHOD_DDNM_PLUS = 8,
    /// DiffPIR (Zhu 2023) with weight `lambda`.
    UNDIFFUSE_METHOD_DIFFPIR = 9,
    /// RePaint (Lugmayr 2022): known elements renoised after each step. A mask, no noise.
    UNDIFFUSE_METHOD_REPAINT = 10,
    /// Known elements set after each step, by `known`: the 2015 paper's inpainting. A mask.
    UNDIFFUSE_METHOD_CLAMP = 11,
    /// The exact product of each step's Gaussian with r(x_s), by `r_schedule`: the 2015 paper's denoising.
    UNDIFFUSE_METHOD_EXACT_PRODUCT = 12,
    /// The mean of each step moved by its variance times the gradient of log r, by `r_schedule`. Noise above 0.
    UNDIFFUSE_METHOD_MEAN_SHIFT = 13,
    /// Split Gibbs sampling in groups of `ensemble` samples that are weighed against one another: the posterior for
    /// priors of any shape, several modes too, where the number of measured values times the precision is small.
    /// `prior_products` VJPs a step. Noise above 0; the batch holds whole groups; the sampler is what
    /// undiffuse_evidence_recommend_sampler says. Of mixtures in 2 and 8 dimensions 157 to 252 calls are within 4 % of
    /// the mean and 2 points of a mode's weight; the calibrated method misses the mean by 18 to 40 %.
    UNDIFFUSE_METHOD_SPLIT_GIBBS = 14,
    /// DAPS (Zhang 2024): each level is drawn anew from x_0, which `langevin_steps` steps of Langevin dynamics draw
    /// given y. No VJP. Noise above 0; operators that are not linear too; the sampler is what
    /// undiffuse_evidence_recommend_sampler says, or DDIM of eta 1 of the level's noise. Its variance is a guess.
    UNDIFFUSE_METHOD_DAPS = 15,
    /// RED-diff (Mardani 2023): one point for each sample, moved by Adam with `rate` and `red_diff_lambda` to near a
    /// mode of the posterior: no variance. No VJP. Operators that are not linear too; samplers as DAPS.
    UNDIFFUSE_METHOD_RED_DIFF = 16,
    /// SITCOM (Alkhouri 2025): at each level the network's input is moved by up to `gradient_steps` steps of Adam with
    /// `sitcom_rate` and `sitcom_lambda` until its prediction meets y to `sitcom_stop`: next to no variance where y
    /// sees. VJP. Operators that are not linear too; the sampler is what undiffuse_evidence_recommend_sampler says.
    UNDIFFUSE_METHOD_SITCOM = 17,
    /// FPS (Dou 2024): a filter of groups of `fps_ensemble` particles that sees y noised as x is. No VJP. A
    /// decomposition of A; the batch holds whole groups; samplers as DDRM. It counts y once for each level: the mean is
    /// right where y has little noise, the variance a half (one particle) to a tenth (many) of the posterior's.
    UNDIFFUSE_METHOD_FPS = 18,
}
c_enum!(undiffuse_method: UNDIFFUSE_METHOD_CALIBRATED, UNDIFFUSE_METHOD_CALIBRATED_WHITE, UNDIFFUSE_METHOD_DPS, UNDIFFUSE_METHOD_MCG,
    UNDIFFUSE_METHOD_PIGDM, UNDIFFUSE_METHOD_TMPD, UNDIFFUSE_METHOD_DDRM, UNDIFFUSE_METHOD_DDNM, UNDIFFUSE_METHOD_DDNM_PLUS,
    UNDIFFUSE_METHOD_DIFFPIR, UNDIFFUSE_METHOD_REPAINT, UNDIFFUSE_METHOD_CLAMP, UNDIFFUSE_METHOD_EXACT_PRODUCT,
    UNDIFFUSE_METHOD_MEAN_SHIFT, UNDIFFUSE_METHOD_SPLIT_GIBBS, UNDIFFUSE_METHOD_DAPS,
    UNDIFFUSE_METHOD_RED_DIFF, UNDIFFUSE_METHOD_SITCOM, UNDIFFUSE_METHOD_FPS);

/// Which noise of a measurement a method takes.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum undiffuse_method_noise {
    /// Any: `sigma` of 0 and above.
    UNDIFFUSE_METHOD_NOISE_ANY = 0,
    /// Some: `sigma` above 0.
    UNDIFFUSE_METHOD_NOISE_POSITIVE = 1,
    /// None: `sigma` of 0.
    UNDIFFUSE_METHOD_NOISE_ZERO = 2,
}
c_enum!(undiffuse_method_noise: UNDIFFUSE_METHOD_NOISE_ANY, UNDIFFUSE_METHOD_NOISE_POSITIVE, UNDIFFUSE_METHOD_NOISE_ZERO);

/// Which operators a method takes.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum undiffuse_method_operator {
    /// All that are linear.
    UNDIFFUSE_METHOD_OPERATOR_ANY = 0,
    /// Those whose every measured value is an element of x_0: masks and the identity.
    UNDIFFUSE_METHOD_OPERATOR_ELEMENTS = 1,
    /// undiffuse_operator_mask.
    UNDIFFUSE_METHOD_OPERATOR_MASK = 2,
    /// All, and those that are not linear.
    UNDIFFUSE_METHOD_OPERATOR_FORWARD = 3,
}
c_enum!(undiffuse_method_operator: UNDIFFUSE_METHOD_OPERATOR_ANY, UNDIFFUSE_METHOD_OPERATOR_ELEMENTS, UNDIFFUSE_METHOD_OPERATOR_MASK,
    UNDIFFUSE_METHOD_OPERATOR_FORWARD);

/// How DPS measures the misfit.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum undiffuse_misfit {
    /// By its length.
    UNDIFFUSE_MISFIT_GAUSSIAN = 0,
    /// Weighted by the variance of counts, which is the measurement itself; it must be above 0.
    UNDIFFUSE_MISFIT_POISSON = 1,
    /// |r|_1 / sqrt(m), for Laplace noise: values that are far off weigh no more than others.
    UNDIFFUSE_MISFIT_LAPLACE = 2,
}
c_enum!(undiffuse_misfit: UNDIFFUSE_MISFIT_GAUSSIAN, UNDIFFUSE_MISFIT_POISSON, UNDIFFUSE_MISFIT_LAPLACE);

/// What PiGDM does with its guidance.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum undiffuse_pigdm_rule {
    /// As the paper's Algorithm 1 adds it.
    UNDIFFUSE_PIGDM_PUBLISHED = 0,
    /// As part of the score; exact for a white prior.
    UNDIFFUSE_PIGDM_SCORE = 1,
}
c_enum!(undiffuse_pigdm_rule: UNDIFFUSE_PIGDM_PUBLISHED, UNDIFFUSE_PIGDM_SCORE);

/// What known elements are set to.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum undiffuse_known {
    /// Their value at every level: the 2015 paper's delta r.
    UNDIFFUSE_KNOWN_CLEAN = 0,
    /// Their value noised to the level.
    UNDIFFUSE_KNOWN_RENOISED = 1,
}
c_enum!(undiffuse_known: UNDIFFUSE_KNOWN_CLEAN, UNDIFFUSE_KNOWN_RENOISED);

/// How r depends on the level.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum undiffuse_r_schedule {
    /// Not at all: all of the 2015 paper's experiments.
    UNDIFFUSE_R_CONSTANT = 0,
    /// r^((T - t) / T): none at x_T, all of it at x_0.
    UNDIFFUSE_R_RAMP = 1,
    /// Only for bits: calibrated, with the prior's bits taken for independent and at chance.
    UNDIFFUSE_R_WHITE = 2,
}
c_enum!(undiffuse_r_schedule: UNDIFFUSE_R_CONSTANT, UNDIFFUSE_R_RAMP, UNDIFFUSE_R_WHITE);

/// How the gradient of log r is applied.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum undiffuse_gradient_rule {
    /// It is added to the score, at x_t: eps -= sigma g and x_0 += sigma^2 / alpha g. Works with any sampler.
    UNDIFFUSE_GRADIENT_SCORE = 0,
    /// The mean of x_s is moved by its variance times it, taken at x_t: classifier guidance. The sampler must add
    /// noise.
    UNDIFFUSE_GRADIENT_MEAN = 1,
    /// The same, taken at the mean itself: the 2015 paper's equation 61. `x` is then that mean and the level that of
    /// x_s.
    UNDIFFUSE_GRADIENT_MEAN_SHIFT_2015 = 2,
}
c_enum!(undiffuse_gradient_rule: UNDIFFUSE_GRADIENT_SCORE, UNDIFFUSE_GRADIENT_MEAN, UNDIFFUSE_GRADIENT_MEAN_SHIFT_2015);

/// How the two ends of the chain enter a bound.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum undiffuse_edges {
    /// The 2015 paper's: averaged over white data. A bound in the mean over data of unit variance.
    UNDIFFUSE_EDGES_ENTROPIES = 0,
    /// The same, evaluated for each data point: a bound whatever the data.
    UNDIFFUSE_EDGES_WHITE = 1,
    /// The chain's own last step, which must lead to x_0.
    UNDIFFUSE_EDGES_NETWORK = 2,
    /// The same for grey levels: a bound on the log-probability of the levels themselves.
    UNDIFFUSE_EDGES_DISCRETIZED = 3,
}
c_enum!(undiffuse_edges: UNDIFFUSE_EDGES_ENTROPIES, UNDIFFUSE_EDGES_WHITE, UNDIFFUSE_EDGES_NETWORK, UNDIFFUSE_EDGES_DISCRETIZED);

/// What kind of values a noise callback is asked for.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum undiffuse_noise_kind {
    /// Standard normal.
    UNDIFFUSE_NOISE_NORMAL = 0,
    /// Uniform in [0, 1), for binary chains.
    UNDIFFUSE_NOISE_UNIFORM = 1,
}

/// Whose generator makes a seed's noise.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum undiffuse_generator {
    /// The library's, whose samples do not depend on each other.
    UNDIFFUSE_GENERATOR_OWN = 0,
    /// torch.Generator("cpu"): torch.randn of contiguous tensors. A draw of fewer than 16 values is another one than
    /// the beginning of a longer draw. Of the seed, the lower 32 bits count.
    UNDIFFUSE_GENERATOR_TORCH_CPU = 1,
    /// torch.Generator("cuda"). See undiffuse_noise.gpu_threads.
    UNDIFFUSE_GENERATOR_TORCH_CUDA = 2,
    /// numpy.random.default_rng: standard_normal in double precision, rounded.
    UNDIFFUSE_GENERATOR_NUMPY = 3,
    /// numpy.random.RandomState, also numpy.random.seed: standard_normal in double precision, rounded. The seed is
    /// below 2^32.
    UNDIFFUSE_GENERATOR_NUMPY_LEGACY = 4,
    /// jax.random.normal with the key fold_in(key(seed), k) for the k-th draw, from 0. The seed is below 2^32.
    UNDIFFUSE_GENERATOR_JAX = 5,
}
c_enum!(undiffuse_generator: UNDIFFUSE_GENERATOR_OWN, UNDIFFUSE_GENERATOR_TORCH_CPU, UNDIFFUSE_GENERATOR_TORCH_CUDA, UNDIFFUSE_GENERATOR_NUMPY,
    UNDIFFUSE_GENERATOR_NUMPY_LEGACY, UNDIFFUSE_GENERATOR_JAX);

/// The type that the other program draws in. Values are 32-bit floats here.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum undiffuse_drawn_in {
    /// 32-bit floats.
    UNDIFFUSE_DRAWN_IN_F32 = 0,
    /// 16-bit floats: PyTorch draws 32-bit floats and rounds.
    UNDIFFUSE_DRAWN_IN_F16 = 1,
    /// bfloat16: the same.
    UNDIFFUSE_DRAWN_IN_BF16 = 2,
}
c_enum!(undiffuse_drawn_in: UNDIFFUSE_DRAWN_IN_F32, UNDIFFUSE_DRAWN_IN_F16, UNDIFFUSE_DRAWN_IN_BF16);

/// What an input of a network is for.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum undiffuse_input_role {
    /// A condition of which nothing is said.
    UNDIFFUSE_INPUT_VALUE = 0,
    /// x; the library fills it.
    UNDIFFUSE_INPUT_SAMPLE = 1,
    /// The timestep of the level; the library fills it.
    UNDIFFUSE_INPUT_TIMESTEP = 2,
    /// The number of a class.
    UNDIFFUSE_INPUT_CLASS = 3,
    /// A class as a vector, [D].
    UNDIFFUSE_INPUT_CLASS_VECTOR = 4,
    /// A vector, [D].
    UNDIFFUSE_INPUT_VECTOR = 5,
    /// A sequence of tokens, [L, D].
    UNDIFFUSE_INPUT_TOKENS = 6,
    /// An image beside x, [C, H, W].
    UNDIFFUSE_INPUT_IMAGE = 7,
    /// Which parts of x are meant, [C, H, W].
    UNDIFFUSE_INPUT_MASK = 8,
}
c_enum!(undiffuse_input_role: UNDIFFUSE_INPUT_VALUE, UNDIFFUSE_INPUT_SAMPLE, UNDIFFUSE_INPUT_TIMESTEP, UNDIFFUSE_INPUT_CLASS,
    UNDIFFUSE_INPUT_CLASS_VECTOR, UNDIFFUSE_INPUT_VECTOR, UNDIFFUSE_INPUT_TOKENS, UNDIFFUSE_INPUT_IMAGE, UNDIFFUSE_INPUT_MASK);
