//! What is chosen when a bound is evaluated.

/// At which steps the divergence is evaluated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Times {
    /// At each of them.
    #[default]
    All,
    /// At so many for each data point and draw: the steps are cut into as many strata of (nearly) equal length, one
    /// step is chosen in each by a uniform value of that data point's own, and counts for its stratum. The sum stays
    /// unbiased; its variance goes into the standard error. A denoiser that treats samples differently (class labels)
    /// needs batches of 1 with it, because a call names the number of its first sample only.
    Sampled(usize),
}

/// What stands for p(x^0 | x^1) and p(x^T), the ends of the chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Edges {
    /// The paper's (appendix "edge effects", and the authors' code): p(x^0 | x^1) is the forward step reversed in a
    /// white chain, and both ends are averaged over white data, which leaves H_start = H_q(X^1 | X^0), H_end =
    /// H_q(X^T | X^0) and H_prior = H_p(X^T). The mean over a data set is a bound where the data have unit variance
    /// (for bits: chance pi of a 1); for a single point it is not.
    #[default]
    Entropies,
    /// The same p(x^0 | x^1) and p(x^T), evaluated for each data point: a bound whatever the data.
    White,
    /// p(x^0 | x^1) is the chain's own last step: for real numbers N(its mean, beta_1), for bits and classes the
    /// probability that it draws with. The sampler's last step must lead to x_0 itself.
    Network,
    /// As `Network`, but the data are `levels` grey levels evenly spread over [-1, 1], and p(x^0 | x^1) is the
    /// Gaussian's mass between the midpoints, the outermost reaching to infinity (Ho, Jain and Abbeel 2020, eq. 13): K
    /// is then a bound on the log-probability of the grey levels themselves. Real numbers only.
    Discretized {
        /// Grey levels, 2 or more; 256 for bytes.
        levels: u32,
    },
}

/// The options of [`bound`](super::bound). The default evaluates all steps once with the paper's ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoundOptions {
    /// At which steps.
    pub times: Times,
    /// How often x_t is drawn for each data point and step, 1 or more. From 2 on the Monte Carlo part of the error is
    /// known.
    pub draws: usize,
    /// The ends.
    pub edges: Edges,
    /// Rows of one network call, 1 or more.
    pub batch: usize,
    /// The number of the first data point, which keys its noise: a part of a data set gives what the whole would.
    pub first_sample: u64,
}

impl Default for BoundOptions {
    fn default() -> Self {
        Self { times: Times::All, draws: 1, edges: Edges::Entropies, batch: 32, first_sample: 0 }
    }
}
