//! Adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019).

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use std::sync::{Mutex, PoisonError};

use super::{Evaluation, Optimizer, check, check_decay, check_size};
use crate::backend::threads::{Serial, Threads, for_each};
use crate::cancel::Cancel;
use crate::error::Result;
use crate::memory::zeros;
use crate::training::state::{Saved, StateArray};

/// How weights are drawn to zero.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum WeightDecay {
    /// Not at all.
    #[default]
    None,
    /// Adam's: w theta is added to the gradient, so the moments see it (`torch.optim.Adam`'s `weight_decay`).
    Coupled(f64),
    /// AdamW's: theta is first multiplied by 1 - rate w (`torch.optim.AdamW`).
    Decoupled(f64),
}

/// The constants of [`Adam`]; the default is PyTorch's Adam.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamOptions {
    /// The decay of the mean of gradients.
    pub beta1: f64,
    /// The decay of the mean of their squares.
    pub beta2: f64,
    /// What is added to the root of the mean square.
    pub eps: f64,
    /// How weights are drawn to zero.
    pub weight_decay: WeightDecay,
}

impl Default for AdamOptions {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: WeightDecay::None }
    }
}

impl AdamOptions {
    /// PyTorch's AdamW: decoupled decay of 0.01.
    pub fn adamw() -> Self {
        Self { weight_decay: WeightDecay::Decoupled(0.01), ..Self::default() }
    }
}

/// Adam, with weight decay as its options say.
///
/// ```text
/// m <- beta1 m + (1 - beta1) g           v <- beta2 v + (1 - beta2) g^2
/// theta <- theta - rate * (m / (1 - beta1^k)) / (sqrt(v / (1 - beta2^k)) + eps)        after k steps
/// ```
///
/// m and v are f32; each element is computed in f64 and rounded once.
#[derive(Clone)]
pub struct Adam {
    options: AdamOptions,
    m: Vec<f32>,
    v: Vec<f32>,
    steps: u64,
    threads: Arc<dyn Threads>,
}

impl fmt::Debug for Adam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Adam({:?}, {} parameters, {} steps)", self.options, self.m.len(), self.steps)
    }
}

/// Parameters that a thread takes at a time.
const PIECE: usize = 1 << 15;

/// A piece of the parameters, gradient and moments.
type Piece<'a> = (&'a mut [f32], &'a [f32], &'a mut [f32], &'a mut [f32]);

impl Adam {
    /// An optimiser for `len` parameters.
    ///
    /// Errors: kind `InvalidArgument` for a beta outside of [0, 1), an `eps` or decay below 0 or not finite;
    /// `OutOfMemory`.
    pub fn new(options: AdamOptions, len: usize) -> Result<Self> {
        check_decay("beta1", options.beta1)?;
        check_decay("beta2", options.beta2)?;
        check_size("eps", options.eps)?;
        if let WeightDecay::Coupled(w) | WeightDecay::Decoupled(w) = options.weight_decay {
            check_size("the weight decay", w)?;
        }
        let threads = Arc::new(Serial);
        Ok(Self { options, m: zeros("Adam", len)?, v: zeros("Adam", len)?, steps: 0, threads })
    }

    /// The same on these threads, and to the same bits.
    pub fn on(self, threads: Arc<dyn Threads>) -> Self {
        Self { threads, ..self }
    }
}

impl Optimizer for Adam {
    fn name(&self) -> &'static str {
        match self.options.weight_decay {
            WeightDecay::Decoupled(_) => "adamw",
            WeightDecay::None | WeightDecay::Coupled(_) => "adam",
        }
    }

    fn step(&mut self, params: &mut [f32], at: Evaluation<'_>, rate: f64) -> Result<()> {
        check(self.name(), self.m.len(), params, &at, rate)?;
        let AdamOptions { beta1, beta2, eps, weight_decay } = self.options;
        self.steps = self.steps.saturating_add(1);
        let correction = |beta: f64| 1.0 - libm::pow(beta, self.steps as f64);
        let (scale, root) = (rate / correction(beta1), libm::sqrt(correction(beta2)));
        let (coupled, keep) = match weight_decay {
            WeightDecay::None => (0.0, 1.0),
            WeightDecay::Coupled(w) => (w, 1.0),
            WeightDecay::Decoupled(w) => (0.0, 1.0 - rate * w),
        };
        let pieces = params.chunks_mut(PIECE).zip(at.gradient.chunks(PIECE));
        let moments = self.m.chunks_mut(PIECE).zip(self.v.chunks_mut(PIECE));
        let pieces: Vec<Mutex<Piece<'_>>> =
            pieces.zip(moments).map(|((p, g), (m, v))| Mutex::new((p, g, m, v))).collect();
        for_each(&*self.threads, self.threads.count(), &Cancel::new(), pieces.len(), &|_, i| {
            let Some(piece) = pieces.get(i) else { return Ok(()) };
            let mut piece = piece.lock().unwrap_or_else(PoisonError::into_inner);
            let (params, gradient, m, v) = &mut *piece;
            for (((p, g), m), v) in params.iter_mut().zip(*gradient).zip(&mut **m).zip(&mut **v) {
                let theta = f64::from(*p);
                let g = f64::from(*g) + coupled * theta;
                let mean = beta1 * f64::from(*m) + (1.0 - beta1) * g;
                let square = beta2 * f64::from(*v) + (1.0 - beta2) * g * g;
                (*m, *v) = (mean as f32, square as f32);
                *p = (keep * theta - scale * mean / (libm::sqrt(square) / root + eps)) as f32;
            }
            Ok(())
        })
    }

    fn state(&self) -> Vec<StateArray> {
        [StateArray::f32("m", &self.m), StateArray::f32("v", &self.v), StateArray::u64("step", &[self.steps])].to_vec()
    }

    fn restore(&mut self, state: &[StateArray]) -> Result<()> {
        let mut saved = Saved::new(self.name(), state);
        let (m, v) = (saved.f32("m", self.m.len())?, saved.f32("v", self.v.len())?);
        let steps = saved.u64("step", 1)?;
        saved.finish()?;
        self.m.copy_from_slice(m);
        self.v.copy_from_slice(v);
        self.steps = steps.iter().sum();
        Ok(())
    }
}
