//! The Jacobian of the predicted x_0, from the denoiser's.

use crate::denoiser::{Call, Denoiser, check_gave};
use crate::error::{Result, ensure, err};
use crate::posterior::Jacobian;
use crate::process::Linear;

/// x_0 = x0_x x + x0_output d(scale x), with d the network's output; so J^T v = x0_x v + scale D^T (x0_output v).
pub(super) struct NetworkJacobian<'a, D> {
    pub denoiser: &'a mut D,
    pub call: Call<'a>,
    /// scale x, for the batch.
    pub input: &'a [f32],
    pub scale: f32,
    /// `None` where the evidence did not ask for it.
    pub linear: Option<Linear>,
    /// `[batch, output]`, or empty likewise.
    pub cotangent: &'a mut [f32],
    pub sample: usize,
    pub output: usize,
}

impl<D: Denoiser> Jacobian for NetworkJacobian<'_, D> {
    fn vjp(&mut self, v: &[f32], out: &mut [f32]) -> Result<()> {
        let linear = self.linear.ok_or_else(|| {
            err!(Unsupported, "a vector-Jacobian product was asked for that was not announced (Evidence::needs_vjp)")
        })?;
        ensure!(
            v.len() == self.input.len() && out.len() == self.input.len(),
            Shape,
            "a vector-Jacobian product got {} and {} values, expected {}",
            v.len(),
            out.len(),
            self.input.len()
        );
        let to_output = linear.x0_output as f32;
        // A learned variance has no part in x_0.
        for (c, v) in self.cotangent.chunks_exact_mut(self.output.max(1)).zip(v.chunks_exact(self.sample.max(1))) {
            c.fill(0.0);
            c.iter_mut().zip(v).for_each(|(c, v)| *c = to_output * v);
        }
        self.denoiser.vjp(&self.call, self.input, self.cotangent, out)?;
        check_gave(self.denoiser.name(), &self.call, self.sample, out)?;
        let direct = linear.x0_x as f32;
        out.iter_mut().zip(v).for_each(|(o, v)| *o = direct * v + self.scale * *o);
        Ok(())
    }
}
