//! Sampling from p(x) r(x): a pretrained model p times evidence r.
//!
//! Evidence is mostly a noisy linear measurement y = A x_0 + s n: an [`operator`] A with what it saw is a [`Measurement`].
//! A method is an [`Evidence`]: the chain calls it at three places of each step and gives it what it needs. Nothing here
//! calls a network or draws noise of its own accord.

mod bits;
pub mod calibrated;
mod classifier;
mod ddnm;
mod ddrm;
mod diffpir;
mod dps;
mod evidence;
mod log_r;
mod measurement;
mod moments;
pub mod operator;
pub mod paper2015;
mod pigdm;
mod repaint;
mod spectral;
mod tmpd;

pub use bits::{BitProduct, BitR, BitSchedule, FnBitR, IndependentBits};
pub use calibrated::{Calibrated, CalibratedWhite};
pub use classifier::{Classifier, ClassifierRule};
pub use ddnm::Ddnm;
pub use ddrm::Ddrm;
pub use diffpir::DiffPir;
pub use dps::{Dps, Mcg, Misfit};
pub use evidence::{At, DRAWS_A_STEP, Evidence, Jacobian, Kernel, NoEvidence};
pub use log_r::{FnLogR, LogR, RSchedule};
pub use measurement::Measurement;
pub use moments::Moments;
pub use paper2015::{Clamp, ExactProduct, Known, MeanShift};
pub use pigdm::{Pigdm, PigdmRule};
pub use repaint::Repaint;
pub use tmpd::Tmpd;
