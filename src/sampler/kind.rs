//! The samplers by name, and the equation of each.

use super::solvers::SOLVERS;

/// The samplers there are. More may be added.
///
/// x is the noisy sample at a level (alpha, sigma), x_t = alpha x_0 + sigma eps; x_0 and eps are predicted there, and s
/// names the next level; abar = alpha^2 where noise preserves the variance; z is standard normal; lambda = ln(alpha /
/// sigma), and h what a step gains in it. Where slopes d = (x - x_0) / sigma are named, x is in the units of the
/// variance-exploding process. All keys of a scheduler's configuration that its class has are obeyed. Orders of
/// convergence are those that `tests/references/order.rs` measures once earlier outputs are there; a whole run has
/// order 2 at most where its first step is of first order. An `Err` of [`SchedulerConfig::sampler`] has kind
/// `InvalidArgument` for steps, orders or levels that the sampler has not, and for a coefficient that is not finite.
///
/// [`SchedulerConfig::sampler`]: super::SchedulerConfig::sampler
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum SamplerKind {
    /// DDPM (Ho et al. 2020, eq. 7, between visited timesteps): x_s = sqrt(abar_s) b / (1 - abar_t) x_0 + sqrt(1 - b)
    /// (1 - abar_s) / (1 - abar_t) x_t + noise, b = 1 - abar_t / abar_s. The noise is
    /// [`VarianceType`](super::VarianceType)'s.
    Ddpm,
    /// DDIM (Song et al. 2021, eq. 12 and 16): x_s = sqrt(abar_s) x_0 + sqrt(1 - abar_s - v^2) eps + v z with v = eta
    /// sqrt((1 - abar_s) / (1 - abar_t) (1 - abar_t / abar_s)). eta 0 is deterministic, eta 1 is DDPM's variance.
    Ddim,
    /// The Gaussian chain of Sohl-Dickstein et al. 2015: x_(t-1) = mu + sqrt(Sigma) z for t = T .. 1, every step of the
    /// schedule, of networks that give mu and Sigma. Fewer steps are those of [`Self::Ddim`] with its x_0 and eps. For
    /// models whose scheduler configuration is of it.
    Ancestral2015,
    /// The binomial chain of the same paper: each bit of x_(t-1) is 1 with the probability that the network gives. For
    /// models whose scheduler configuration is of it.
    Bits2015,
    /// DDIM of eta 0 from data to noise: x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps with x_0 and eps predicted at
    /// the level below, over rising timesteps. Give the picture to
    /// [`Chain::start_from`](crate::chain::Chain::start_from) as step 0.
    DdimInverse,
    /// DPM-Solver and DPM-Solver++ by multiple steps, orders 1 to 3 (Lu et al. 2022): in first order x_s = (sigma_s /
    /// sigma) x - alpha_s (exp(-h) - 1) x_0, or (alpha_s / alpha) x - sigma_s (exp(h) - 1) eps; higher orders add
    /// divided differences of earlier outputs. Its stochastic forms have weak order 1 in first order and 2 in higher.
    DpmSolverMultistep,
    /// The same by single steps: a step of order k makes k calls, at levels in between, from one x.
    DpmSolverSinglestep,
    /// Two ancestral steps, to the geometric mean of sigma and sigma_s and, with the x_0 found there, to sigma_s, whose
    /// noises are increments of one Brownian motion. Two calls a step; weak order 2.
    DpmSolverSde,
    /// UniPC (Zhao et al. 2023, eq. 5 to 9): each call first corrects the x at which it was made, by its own output,
    /// and then predicts the next. Order: one more than `solver_order`.
    UniPc,
    /// DEIS, orders 1 to 3 (Zhang and Chen 2023): x_s / alpha_s = x / alpha + sum_i C_i eps_i, C_i the integral of the
    /// Lagrange polynomial in ln(sigma / alpha) through the levels of the last outputs.
    Deis,
    /// Euler's method: x_s = x + (sigma_s - sigma) d. With churn, noise is added to x after the network has seen it, as
    /// diffusers has it.
    Euler,
    /// Euler's method to a lower level and back up with fresh noise: sigma_up^2 = sigma_s^2 (sigma^2 - sigma_s^2) /
    /// sigma^2, sigma_down^2 = sigma_s^2 - sigma_up^2. Weak order 1.
    EulerAncestral,
    /// Heun's method: two calls a step, one for a step that ends without noise. The first goes to x + h d with h =
    /// sigma_s - sigma, the second from there back to x and on by h (d + d') / 2. Order 2.
    Heun,
    /// The midpoint method (Karras et al. 2022): two calls a step, by Euler to the geometric mean of sigma and sigma_s
    /// and from x by the slope there. Order 2.
    Kdpm2,
    /// The same to a lower level, and back up with fresh noise as in [`Self::EulerAncestral`]. Weak order 2.
    Kdpm2Ancestral,
    /// Adams-Bashforth of up to 4 slopes: x_s = x + the integral of the polynomial through the last slopes d.
    Lms,
    /// PNDM (Liu et al. 2022, eq. 11): with e a combination of outputs, x_s = sqrt(abar_s / abar) x - (abar_s - abar) e
    /// / (abar sqrt(1 - abar_s) + sqrt(abar (1 - abar) abar_s)). Order 2.
    Pndm,
    /// Adams-Bashforth of order 4 on the flow of v with sigma = sin^2(pi t / 2), as `IPNDMScheduler`. A whole run has
    /// order 1, since diffusers leaves alpha_s x_0 out of the first step.
    Ipndm,
    /// [`Self::Euler`] of a network behind EDM's preconditioning (Karras et al. 2022).
    EdmEuler,
    /// [`Self::DpmSolverMultistep`] of a network behind EDM's preconditioning.
    EdmDpmSolver,
    /// [`Self::DpmSolverMultistep`] of the stochastic equation, of a network of a cosine schedule.
    CosineDpmSolver,
    /// Latent consistency (Luo et al. 2023): y = c_skip x + c_out x_0 with c_skip = d^2 / (s^2 + d^2), c_out = s /
    /// sqrt(s^2 + d^2), s = `timestep_scaling` t, d = 0.5; x_s = sqrt(abar_s) y + sqrt(1 - abar_s) z, at the end y.
    Lcm,
    /// Trajectory consistency (Zheng et al. 2024): along the flow to (1 - gamma) of the next timestep, and back up with
    /// noise. x_0 is not clipped.
    Tcd,
    /// Multistep consistency (Song et al. 2023, algorithm 1): x_0 = c_skip x + c_out F, x_s = x_0 + sqrt(sigma_s^2 -
    /// sigma_min^2) z. The network sees x / sqrt(sigma^2 + sigma_data^2) and is told 250 ln sigma.
    Cm,
    /// Euler's method on the flow x_t = (1 - sigma) x_0 + sigma z of a network that gives v = z - x_0: x_s = x +
    /// (sigma_s - sigma) v.
    FlowEuler,
    /// [`Self::Heun`] on the flow.
    FlowHeun,
    /// The predicted x_0 of a flow noised anew: x_s = (1 - sigma_s) x_0 + sigma_s z.
    FlowLcm,
    /// SA-Solver (Xue et al. 2023, eq. 14 and 17): predictor and corrector of the stochastic equation with tau 1 where
    /// noise is drawn and 0, the flow, elsewhere. Weak order 1, of higher orders 2.
    SaSolver,
    /// [`Self::DpmSolverMultistep`] from data to noise; begins as [`Self::DdimInverse`] does.
    DpmSolverInverse,
    /// EDM's own sampler (Karras et al. 2022, algorithm 2): noise takes x to sigma_h = (1 + gamma) sigma, x + sqrt(
    /// sigma_h^2 - sigma^2) S_noise z, then [`Self::Heun`] steps from there. Of a network behind EDM's preconditioning.
    EdmHeun,
    /// The same of a network that gives -eps, as `KarrasVeScheduler`.
    KarrasVe,
    /// The variance-exploding predictor-corrector (Song et al. 2021): steps of Langevin dynamics at each sigma, then
    /// x_s = x + d^2 score + d z with d^2 the fall of sigma^2. The network is told sigma and gives the score.
    ScoreSdeVe,
    /// The reverse equation of the variance-preserving process by Euler's method in steps of 1 / N: x_s = x + (beta / 2
    /// x + beta score) / N + sqrt(beta / N) z. The last step adds no noise.
    ScoreSdeVp,
    /// The probability flow by Dormand and Prince's embedded methods of order 5 and 4, of whatever process the model
    /// was trained for: each step as long as the tolerances allow, for each sample its own; the steps of
    /// `scipy.integrate.solve_ivp`. Evidence cannot act in it.
    Rk45,
    /// Classes at each position (Austin et al. 2021): x_s is drawn from the kernel that follows from the network's
    /// p(x_0), uniform or absorbing. Samples are one-hot rows. For models whose scheduler configuration is of it.
    D3pm,
}

impl SamplerKind {
    /// All of them, with the names that the command line uses.
    pub const NAMES: [(&'static str, Self); SOLVERS.len()] = {
        let mut names = [("", Self::Ddpm); SOLVERS.len()];
        let mut i = 0;
        while i < SOLVERS.len() {
            names[i] = (SOLVERS[i].name, SOLVERS[i].kind);
            i += 1;
        }
        names
    };

    /// Whether it is a chain of 2015, which has a configuration of its own.
    pub const fn is_2015(self) -> bool {
        matches!(self, Self::Ancestral2015 | Self::Bits2015)
    }

    /// Whether its scheduler configuration is of a class of this library's own, which no other sampler reads: the
    /// chains of 2015, and of classes.
    pub const fn has_own_class(self) -> bool {
        self.is_2015() || matches!(self, Self::D3pm)
    }
}
