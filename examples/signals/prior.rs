//! Signals with independent increments, their Gibbs samplers, and the exact denoiser that these make.
//!
//! Every law of an increment is a mixture of centred Gaussians, so given the variances v of the increments the signal
//! is a Gaussian random walk: seen with white noise, it is smoothed by one pass forward and one back. The variances are
//! drawn given the signal, but for the choice between a jump and none, which is drawn with the signal integrated out,
//! as a step of size 0 could otherwise never become a jump.

use undiffuse::denoiser::{Call, Denoiser};
use undiffuse::noise::Stream;
use undiffuse::tensor::Dims;
use undiffuse::{Error, ErrorKind, Result};

/// How often increments are exchanged in a sweep.
pub const EXCHANGES: usize = 4;
/// Values of a signal.
pub const LENGTH: usize = 64;
pub type Signal = [f64; LENGTH];

/// The law of an increment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Law {
    /// Of this variance.
    Gauss(f64),
    /// Of this scale.
    Laplace(f64),
    /// 0, but with this probability Laplace of this scale.
    BernoulliLaplace(f64, f64),
    /// Of these degrees of freedom.
    Student(f64),
}

/// Whether a move is made whose likelihood is so many times that of none, in its logarithm.
pub fn accepts(log_ratio: f64, rng: &mut Stream) -> bool {
    log_ratio >= 0.0 || rng.uniform().ln() < log_ratio
}

/// One with rate 1.
fn exponential(rng: &mut Stream) -> f64 {
    -(1.0 - rng.uniform()).ln()
}

/// Gamma of this shape, at least 1/2, and scale 1 (Marsaglia and Tsang 2000).
fn gamma(shape: f64, rng: &mut Stream) -> f64 {
    if shape < 1.0 {
        let boost = (1.0 - rng.uniform()).powf(1.0 / shape);
        return gamma(shape + 1.0, rng) * boost;
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let z = rng.normal();
        let v = (1.0 + c * z).powi(3);
        if v > 0.0 && (1.0 - rng.uniform()).ln() < 0.5 * z * z + d - d * v + d * v.ln() {
            return d * v;
        }
    }
}

/// Inverse Gaussian (Michael, Schucany and Haas 1976).
fn inverse_gaussian(mean: f64, shape: f64, rng: &mut Stream) -> f64 {
    let y = rng.normal().powi(2);
    // The smaller root, in the form that does not cancel.
    let a = mean * y / (2.0 * shape);
    let x = mean / (1.0 + a + (a * a + 2.0 * a).sqrt());
    if rng.uniform() <= mean / (mean + x) { x } else { mean * mean / x }
}

/// The variance of a Laplace increment given the increment.
fn laplace_variance(b: f64, u: f64, rng: &mut Stream) -> f64 {
    let size = u.abs().max(1e-9 * b);
    1.0 / inverse_gaussian(1.0 / (b * size), 1.0 / (b * b), rng).max(1e-12)
}

impl Law {
    pub const ALL: [(&'static str, Self); 6] = [
        ("Gauss(0, 0.25)", Self::Gauss(0.25)),
        ("Laplace(1)", Self::Laplace(1.0)),
        ("Bernoulli-Laplace(0.1, 1)", Self::BernoulliLaplace(0.1, 1.0)),
        ("Student-t(1)", Self::Student(1.0)),
        ("Student-t(2)", Self::Student(2.0)),
        ("Student-t(3)", Self::Student(3.0)),
    ];

    /// The variance of an increment, a jump if the law has others.
    fn variance_from_prior(&self, rng: &mut Stream) -> f64 {
        match *self {
            Self::Gauss(v) => v,
            Self::Laplace(b) | Self::BernoulliLaplace(_, b) => 2.0 * b * b * exponential(rng),
            Self::Student(df) => 0.5 * df / gamma(0.5 * df, rng),
        }
    }

    /// Whether an increment is a jump, from the prior.
    fn jumps(&self, rng: &mut Stream) -> bool {
        if let Self::BernoulliLaplace(p, _) = *self { rng.uniform() < p } else { true }
    }

    fn variance_given(&self, u: f64, rng: &mut Stream) -> f64 {
        match *self {
            Self::Gauss(v) => v,
            Self::Laplace(b) | Self::BernoulliLaplace(_, b) => laplace_variance(b, u, rng),
            Self::Student(df) => 0.5 * (df + u * u) / gamma(0.5 * (df + 1.0), rng),
        }
    }

    pub fn draw(&self, rng: &mut Stream) -> Signal {
        let (mut x, mut at) = ([0.0; LENGTH], 0.0);
        for x in &mut x {
            let (jumps, v) = (self.jumps(rng), self.variance_from_prior(rng));
            at += if jumps { v.sqrt() * rng.normal() } else { 0.0 };
            *x = at;
        }
        x
    }

    /// log of the density of the increments of x, up to a constant. That of the law with atoms counts increments below
    /// a tenth of its scale as none: a function whose highest sets can be compared, in place of a density that there is
    /// not.
    pub fn log_density(&self, x: &[f64]) -> f64 {
        let mut before = 0.0;
        let terms = x.iter().map(|&x| {
            let u = x - std::mem::replace(&mut before, x);
            match *self {
                Self::Gauss(v) => -0.5 * u * u / v,
                Self::Laplace(b) => -u.abs() / b,
                Self::BernoulliLaplace(p, b) => {
                    let none = (-0.5 * (10.0 * u / b).powi(2)).exp() * 10.0 / (b * (2.0 * std::f64::consts::PI).sqrt());
                    (p * (-u.abs() / b).exp() / (2.0 * b) + (1.0 - p) * none).ln()
                }
                Self::Student(df) => -0.5 * (df + 1.0) * (1.0 + u * u / df).ln(),
            }
        });
        terms.sum()
    }
}

/// The variances of the increments, and which are jumps.
#[derive(Clone)]
pub struct Latent {
    pub variance: Signal,
    pub jumps: [bool; LENGTH],
}

impl Latent {
    pub fn from_prior(law: Law, rng: &mut Stream) -> Self {
        let mut latent = Self { variance: [0.0; LENGTH], jumps: [true; LENGTH] };
        for (v, j) in latent.variance.iter_mut().zip(&mut latent.jumps) {
            (*v, *j) = (law.variance_from_prior(rng), law.jumps(rng));
        }
        latent
    }

    /// The variance of increment k as it is.
    pub fn of(&self, k: usize) -> f64 {
        if self.jumps[k] { self.variance[k] } else { 0.0 }
    }

    /// Draws the variances anew, given the increments' values.
    pub fn redraw(&mut self, law: Law, x: &[f64], rng: &mut Stream) {
        let mut before = 0.0;
        for (k, &x) in x.iter().enumerate() {
            let u = x - std::mem::replace(&mut before, x);
            self.variance[k] = if self.jumps[k] { law.variance_given(u, rng) } else { law.variance_from_prior(rng) };
        }
    }

    /// Exchanges the increments of x at k and k + 1 with what is known of them, for every k in turn, where `moves` says
    /// that x_k may move by so much: by the likelihood alone (Metropolis et al. 1953), since increments have one law.
    /// Without it a jump whose place the measurement leaves open stays where it was first found.
    pub fn exchange(&mut self, x: &mut Signal, mut moves: impl FnMut(usize, f64, f64) -> bool) {
        let mut before = 0.0;
        for k in 0..LENGTH - 1 {
            let by = (x[k + 1] - x[k]) - (x[k] - before);
            if moves(k, x[k], by) {
                x[k] += by;
                self.variance.swap(k, k + 1);
                self.jumps.swap(k, k + 1);
            }
            before = x[k];
        }
    }

    /// E[x | y] of y = x + noise of this variance, and a draw if `rng` is there. Linear in y but for the draw.
    pub fn smooth(&self, y: &[f64], noise: f64, rng: Option<&mut Stream>) -> Signal {
        let (mut mean, mut var) = ([0.0; LENGTH], [0.0; LENGTH]);
        let (mut m, mut v) = (0.0, 0.0);
        for k in 0..LENGTH {
            let ahead = v + self.of(k);
            let gain = ahead / (ahead + noise);
            m += gain * (y[k] - m);
            v = gain * noise;
            (mean[k], var[k]) = (m, v);
        }
        let mut rng = rng;
        let mut out = [0.0; LENGTH];
        let mut next = None;
        for k in (0..LENGTH).rev() {
            let (m, v) = match next {
                None => (mean[k], var[k]),
                Some(after) => {
                    let step = self.of(k + 1);
                    let gain = if var[k] + step > 0.0 { var[k] / (var[k] + step) } else { 1.0 };
                    (mean[k] + gain * (after - mean[k]), gain * step)
                }
            };
            out[k] = m + rng.as_mut().map_or(0.0, |rng| v.max(0.0).sqrt() * rng.normal());
            next = Some(out[k]);
        }
        out
    }

    /// Draws every choice between a jump and none with x integrated out, y = x + noise.
    fn choose(&mut self, law: Law, y: &[f64], noise: f64, rng: &mut Stream) {
        let Law::BernoulliLaplace(p, _) = law else { return };
        // What the values from k on say of x_k: precision, and precision times mean.
        let mut ahead = [(0.0, 0.0); LENGTH + 1];
        for k in (0..LENGTH).rev() {
            let (q, h): (f64, f64) = ahead[k + 1];
            let moved = if k + 1 < LENGTH { 1.0 + q * self.of(k + 1) } else { 1.0 };
            ahead[k] = (q / moved + 1.0 / noise, h / moved + y[k] / noise);
        }
        let (mut m, mut v) = (0.0, 0.0);
        for k in 0..LENGTH {
            let (q, h) = ahead[k];
            let log_likelihood = |v: f64| {
                // N(h / q; m, v + 1 / q).
                let total = v + 1.0 / q;
                -0.5 * (total.ln() + (h / q - m).powi(2) / total)
            };
            let odds = (log_likelihood(v + self.variance[k]) - log_likelihood(v)).exp() * p / (1.0 - p);
            self.jumps[k] = rng.uniform() * (1.0 + odds) < odds || odds.is_infinite();
            let ahead = v + self.of(k);
            let gain = ahead / (ahead + noise);
            m += gain * (y[k] - m);
            v = gain * noise;
        }
    }
}

/// The denoiser of the prior by its Gibbs sampler, of signals divided by `scale`: it predicts x_0.
pub struct Gibbs {
    pub law: Law,
    pub scale: f64,
    pub burn_in: usize,
    pub sweeps: usize,
    /// Of the last call, `sweeps` for each sample.
    latents: Vec<Latent>,
    calls: u64,
    dims: Dims,
}

impl Gibbs {
    pub fn new(law: Law, scale: f64, burn_in: usize, sweeps: usize) -> Result<Self> {
        Ok(Self { law, scale, burn_in, sweeps, latents: Vec::new(), calls: 0, dims: Dims::new(&[LENGTH])? })
    }

    /// x_t as a signal with noise, and the noise's variance, in the signal's own units.
    fn seen(&self, call: &Call<'_>, x: &[f32]) -> (Signal, f64) {
        let by = self.scale / call.level.alpha;
        let mut y = [0.0; LENGTH];
        y.iter_mut().zip(x).for_each(|(y, &x)| *y = by * f64::from(x));
        (y, (call.level.sigma * by).powi(2))
    }
}

impl Denoiser for Gibbs {
    fn name(&self) -> &str {
        "Gibbs sampler"
    }
    fn sample_dims(&self) -> Dims {
        self.dims
    }
    fn has_vjp(&self) -> bool {
        true
    }
    fn predict(&mut self, call: &Call<'_>, x: &[f32], out: &mut [f32]) -> Result<()> {
        self.calls += 1;
        self.latents.clear();
        for (i, (x, out)) in x.chunks_exact(LENGTH).zip(out.chunks_exact_mut(LENGTH)).enumerate() {
            call.cancel.check()?;
            let (y, noise) = self.seen(call, x);
            let mut rng = Stream::new(77, call.first_sample + i as u64, self.calls);
            let mut latent = Latent::from_prior(self.law, &mut rng);
            let mut sum = [0.0; LENGTH];
            for sweep in 0..self.burn_in + self.sweeps {
                latent.choose(self.law, &y, noise, &mut rng);
                if sweep >= self.burn_in {
                    let mean = latent.smooth(&y, noise, None);
                    sum.iter_mut().zip(mean).for_each(|(s, m)| *s += m);
                    self.latents.push(latent.clone());
                }
                let mut drawn = latent.smooth(&y, noise, Some(&mut rng));
                for _ in 0..EXCHANGES {
                    latent.exchange(&mut drawn, |k, x, by| accepts(by * (y[k] - x - 0.5 * by) / noise, &mut rng));
                }
                latent.redraw(self.law, &drawn, &mut rng);
            }
            let by = 1.0 / (self.scale * self.sweeps as f64);
            out.iter_mut().zip(sum).for_each(|(o, s)| *o = (s * by) as f32);
        }
        Ok(())
    }
    /// J = alpha / sigma^2 Cov[x_0 | x_t], which is symmetric: the mean over the latents of their smoothers, and the
    /// covariance of their means.
    fn vjp(&mut self, call: &Call<'_>, x: &[f32], v: &[f32], out: &mut [f32]) -> Result<()> {
        let samples = x.len() / LENGTH;
        if self.latents.len() != samples * self.sweeps {
            return Err(Error::new(ErrorKind::InvalidArgument, "the product is taken of another call than the last"));
        }
        let rows = x.chunks_exact(LENGTH).zip(v.chunks_exact(LENGTH)).zip(out.chunks_exact_mut(LENGTH));
        for (((x, v), out), latents) in rows.zip(self.latents.chunks_exact(self.sweeps)) {
            let (y, noise) = self.seen(call, x);
            let mut direction = [0.0; LENGTH];
            direction.iter_mut().zip(v).for_each(|(d, &v)| *d = f64::from(v));
            let means: Vec<Signal> = latents.iter().map(|l| l.smooth(&y, noise, None)).collect();
            let count = self.sweeps as f64;
            let mut total = [0.0; LENGTH];
            for l in latents {
                total.iter_mut().zip(l.smooth(&direction, noise, None)).for_each(|(t, s)| *t += s / count);
            }
            let mut mean = [0.0; LENGTH];
            means.iter().for_each(|m| mean.iter_mut().zip(m).for_each(|(a, b)| *a += b / count));
            for m in &means {
                let along: f64 = (0..LENGTH).map(|k| (m[k] - mean[k]) * direction[k]).sum();
                let by = along / (noise * (count - 1.0).max(1.0));
                total.iter_mut().zip(m.iter().zip(&mean)).for_each(|(t, (m, a))| *t += by * (m - a));
            }
            // d x_0 / d x_t = (d mean / d y) / alpha, and d mean / d y = Cov / noise.
            out.iter_mut().zip(total).for_each(|(o, t)| *o = (t / call.level.alpha) as f32);
        }
        Ok(())
    }
}
