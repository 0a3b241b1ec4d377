//! The caller's own denoiser, as a closure.

use alloc::string::String;

use super::{Call, Denoiser, check_batch, check_gave, check_given};
use crate::error::{Result, ensure, err};
use crate::tensor::Dims;

/// The type of the absent second closure of an [`FnDenoiser`].
pub type NoVjp = fn(&Call<'_>, &[f32], &[f32], &mut [f32]) -> Result<()>;

/// A denoiser made of a closure `predict(call, x, out)` and, if the caller has one, a closure `vjp(call, x, v, out)`.
///
/// Lengths and values are checked before a closure is called, and the values that it gives after; an error that it
/// returns is passed on. A closure that stands for another engine's failure returns kind
/// [`Callback`](crate::ErrorKind::Callback).
pub struct FnDenoiser<P, V = NoVjp> {
    name: String,
    dims: Dims,
    output_len: usize,
    predict: P,
    vjp: Option<V>,
    fingerprint: u64,
}

impl<P> FnDenoiser<P>
where
    P: FnMut(&Call<'_>, &[f32], &mut [f32]) -> Result<()>,
{
    /// A denoiser for samples of `dims` that gives as many values as it takes.
    pub fn new(name: impl Into<String>, dims: Dims, predict: P) -> Self {
        Self { name: name.into(), dims, output_len: dims.elements(), predict, vjp: None, fingerprint: 0 }
    }
}

impl<P, V> FnDenoiser<P, V> {
    /// For a learned variance: the closure gives `output_len` values per sample, as many as a sample has or twice as
    /// many.
    ///
    /// Errors: kind `InvalidArgument` for another length.
    pub fn with_output_len(self, output_len: usize) -> Result<Self> {
        let n = self.dims.elements();
        ensure!(
            output_len == n || Some(output_len) == n.checked_mul(2),
            InvalidArgument,
            "the denoiser \"{}\" gives {output_len} values for a sample of {n}, expected as many or twice as many",
            self.name
        );
        Ok(Self { output_len, ..self })
    }

    /// Adds the vector-Jacobian product.
    pub fn with_vjp<W>(self, vjp: W) -> FnDenoiser<P, W>
    where
        W: FnMut(&Call<'_>, &[f32], &[f32], &mut [f32]) -> Result<()>,
    {
        let Self { name, dims, output_len, predict, fingerprint, .. } = self;
        FnDenoiser { name, dims, output_len, predict, vjp: Some(vjp), fingerprint }
    }

    /// Gives it an identity that saved chains remember.
    #[must_use]
    pub fn with_fingerprint(self, fingerprint: u64) -> Self {
        Self { fingerprint, ..self }
    }
}

impl<P, V> Denoiser for FnDenoiser<P, V>
where
    P: FnMut(&Call<'_>, &[f32], &mut [f32]) -> Result<()>,
    V: FnMut(&Call<'_>, &[f32], &[f32], &mut [f32]) -> Result<()>,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn sample_dims(&self) -> Dims {
        self.dims
    }

    fn output_len(&self) -> usize {
        self.output_len
    }

    fn predict(&mut self, call: &Call<'_>, x: &[f32], out: &mut [f32]) -> Result<()> {
        check_batch(&self.name, self.dims.elements(), x, self.output_len, out)?;
        check_given(&self.name, "x", x)?;
        call.cancel.check()?;
        (self.predict)(call, x, out)?;
        check_gave(&self.name, call, self.output_len, out)
    }

    fn has_vjp(&self) -> bool {
        self.vjp.is_some()
    }

    fn vjp(&mut self, call: &Call<'_>, x: &[f32], v: &[f32], out: &mut [f32]) -> Result<()> {
        let n = self.dims.elements();
        check_batch(&self.name, n, x, self.output_len, v)?;
        check_batch(&self.name, n, x, n, out)?;
        check_given(&self.name, "x", x)?;
        check_given(&self.name, "v", v)?;
        call.cancel.check()?;
        match &mut self.vjp {
            Some(vjp) => vjp(call, x, v, out)?,
            None => return Err(err!(Unsupported, "the denoiser \"{}\" has no vector-Jacobian product", self.name)),
        }
        check_gave(&self.name, call, n, out)
    }

    fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancel::Cancel;
    use crate::error::ErrorKind;
    use crate::schedule::Level;

    #[test]
    fn lengths_cancel_and_absence_are_errors() {
        let dims = Dims::new(&[2]).unwrap();
        let mut d = FnDenoiser::new("copy", dims, |_, x, out| {
            out.copy_from_slice(x);
            Ok(())
        });
        let cancel = Cancel::new();
        let call = Call { level: Level::variance_preserving(0.0, 0.5), first_sample: 0, cancel: &cancel };
        let mut out = [0.0; 4];
        assert!(d.predict(&call, &[1.0; 4], &mut out).is_ok());
        assert_eq!(d.predict(&call, &[1.0; 3], &mut out).unwrap_err().kind(), ErrorKind::Shape);
        assert_eq!(d.predict(&call, &[1.0; 2], &mut out).unwrap_err().kind(), ErrorKind::Shape);
        let e = d.vjp(&call, &[1.0; 4], &[1.0; 4], &mut out).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported);
        assert!(e.message().contains("copy") && !d.has_vjp());
        cancel.cancel();
        assert_eq!(d.predict(&call, &[1.0; 4], &mut out).unwrap_err().kind(), ErrorKind::Cancelled);
        cancel.reset();
        assert!(d.predict(&call, &[1.0; 4], &mut out).is_ok());
        let mut d = d.with_vjp(|_, _, v, out| {
            out.copy_from_slice(v);
            Ok(())
        });
        d.vjp(&call, &[1.0; 4], &[1.0, 2.0, 3.0, 4.0], &mut out).unwrap();
        assert_eq!((out, d.has_vjp()), ([1.0, 2.0, 3.0, 4.0], true));
        assert!(d.with_output_len(3).is_err());
    }
}
