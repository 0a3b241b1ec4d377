//! RMSProp (Tieleman and Hinton 2012), the optimiser of the 2015 authors' code.

use alloc::vec::Vec;

use super::{Evaluation, Optimizer, check, check_decay, check_positive};
use crate::error::Result;
use crate::memory::zeros;
use crate::training::state::{Saved, StateArray};

/// What keeps the division from one by zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RmsFloor {
    /// The root is at least this; the authors' library, which names the reciprocal `max_scaling` = 1e5.
    AtLeast(f64),
    /// This is added to the root (`torch.optim.RMSprop`'s `eps`).
    Added(f64),
}

/// The constants of [`RmsProp`]; the default is the authors': decay 0.9, the root at least 1e-5. Their learning rate is
/// [`LearningRate::authors_2015`](super::LearningRate::authors_2015).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RmsPropOptions {
    /// The decay of the mean of squared gradients (PyTorch's `alpha`).
    pub decay: f64,
    /// What keeps the root from zero.
    pub floor: RmsFloor,
}

impl Default for RmsPropOptions {
    fn default() -> Self {
        Self { decay: 0.9, floor: RmsFloor::AtLeast(1e-5) }
    }
}

/// RMSProp: v <- decay v + (1 - decay) g^2, theta <- theta - rate g / root, where root is max(sqrt(v), floor) or
/// sqrt(v) + eps.
///
/// v is f32; each element is computed in f64 and rounded once.
#[derive(Clone, Debug)]
pub struct RmsProp {
    options: RmsPropOptions,
    v: Vec<f32>,
}

impl RmsProp {
    /// An optimiser for `len` parameters.
    ///
    /// Errors: kind `InvalidArgument` for a decay outside of [0, 1), or a floor that is not above 0; `OutOfMemory`.
    pub fn new(options: RmsPropOptions, len: usize) -> Result<Self> {
        check_decay("the decay of RMSProp", options.decay)?;
        let (RmsFloor::AtLeast(floor) | RmsFloor::Added(floor)) = options.floor;
        check_positive("the floor of RMSProp", floor)?;
        Ok(Self { options, v: zeros("RMSProp", len)? })
    }
}

impl Optimizer for RmsProp {
    fn name(&self) -> &'static str {
        "rmsprop"
    }

    fn step(&mut self, params: &mut [f32], at: Evaluation<'_>, rate: f64) -> Result<()> {
        check(self.name(), self.v.len(), params, &at, rate)?;
        let RmsPropOptions { decay, floor } = self.options;
        for ((p, g), v) in params.iter_mut().zip(at.gradient).zip(&mut self.v) {
            let g = f64::from(*g);
            let square = decay * f64::from(*v) + (1.0 - decay) * g * g;
            *v = square as f32;
            let root = match floor {
                RmsFloor::AtLeast(floor) => libm::sqrt(square).max(floor),
                RmsFloor::Added(eps) => libm::sqrt(square) + eps,
            };
            *p = (f64::from(*p) - rate * g / root) as f32;
        }
        Ok(())
    }

    fn state(&self) -> Vec<StateArray> {
        [StateArray::f32("v", &self.v)].to_vec()
    }

    fn restore(&mut self, state: &[StateArray]) -> Result<()> {
        let mut saved = Saved::new(self.name(), state);
        let v = saved.f32("v", self.v.len())?;
        saved.finish()?;
        self.v.copy_from_slice(v);
        Ok(())
    }
}
