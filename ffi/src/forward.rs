//! Operators that are not linear.

use alloc::format;
use alloc::sync::Arc;
use core::ffi::c_void;

use undiffuse::error::check_finite;
use undiffuse::posterior::operator::{Clip, ForwardOperator, FourierMagnitude, Gamma, Quantize};
use undiffuse::tensor::Dims;
use undiffuse::{Error, ErrorKind};

use crate::callbacks::returned;
use crate::guard::{check_apart, null, ok, output, read, slice, slice_mut};
use crate::memory::scratch;
use crate::operator::{Operator, read_dims, undiffuse_map_fn, undiffuse_operator};
use crate::options::{options, sized};
use crate::status::{Failure, Outcome, undiffuse_error, undiffuse_status};

/// What an operator of yours does backwards: reads the sample `x` and a measurement's cotangent `v`, and writes all
/// `out_len` floats of J(x)^T v at `out`, J being the derivative of the operator at x; `out_len` is `x_len`. Returns as
/// undiffuse_predict_fn. Called as undiffuse_map_fn.
pub type undiffuse_forward_vjp_fn = Option<
    unsafe extern "C" fn(
        user_data: *mut c_void,
        x: *const f32,
        x_len: usize,
        v: *const f32,
        v_len: usize,
        out: *mut f32,
        out_len: usize,
    ) -> i32,
>;

/// Your own operator that is not linear. That `vjp` belongs to `forward` is yours to see to.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct undiffuse_forward_callbacks {
    /// sizeof(undiffuse_forward_callbacks).
    pub struct_size: usize,
    /// Passed to the functions. It must live until the operator and all that was made with it are freed.
    pub user_data: *mut c_void,
    /// y = A(x); must not be NULL.
    pub forward: undiffuse_map_fn,
    /// J(x)^T v; must not be NULL.
    pub vjp: undiffuse_forward_vjp_fn,
    /// Dimensions of a measurement, 1 to 4.
    pub output_rank: usize,
    /// The dimensions, outermost first; the rest is ignored.
    pub output_dims: [usize; 4],
}

sized!(undiffuse_forward_callbacks {
    user_data: core::ptr::null_mut(),
    forward: None,
    vjp: None,
    output_rank: 0,
    output_dims: [0; 4],
});

type Map = unsafe extern "C" fn(*mut c_void, *const f32, usize, *mut f32, usize) -> i32;
type Vjp = unsafe extern "C" fn(*mut c_void, *const f32, usize, *const f32, usize, *mut f32, usize) -> i32;

struct Host {
    user_data: *mut c_void,
    domain: Dims,
    codomain: Dims,
    forward: Map,
    vjp: Vjp,
}

// SAFETY: the header asks for functions that the threads of the sessions may call.
unsafe impl Send for Host {}
// SAFETY: as above.
unsafe impl Sync for Host {}

fn check(what: &str, got: [usize; 2], expected: [Dims; 2]) -> undiffuse::Result<()> {
    let expected = expected.map(|d| d.elements());
    if got == expected {
        return Ok(());
    }
    let text = format!("{what} got {} and {} values, expected {} and {}", got[0], got[1], expected[0], expected[1]);
    Err(Error::new(ErrorKind::Shape, text))
}

impl ForwardOperator for Host {
    fn label(&self) -> &'static str {
        "callback operator"
    }

    fn domain(&self) -> Dims {
        self.domain
    }

    fn codomain(&self) -> Dims {
        self.codomain
    }

    fn forward(&self, x: &[f32], y: &mut [f32], _: &mut [f32]) -> undiffuse::Result<()> {
        let what = "the callback for A(x)";
        check(what, [x.len(), y.len()], [self.domain, self.codomain])?;
        // SAFETY: the header says what the function may do; the lengths are those it is told.
        let code = unsafe { (self.forward)(self.user_data, x.as_ptr(), x.len(), y.as_mut_ptr(), y.len()) };
        returned(what, code)?;
        check_finite(what, y)
    }

    fn vjp(&self, x: &[f32], v: &[f32], out: &mut [f32], _: &mut [f32]) -> undiffuse::Result<()> {
        let what = "the callback for J(x)^T v";
        check(what, [x.len(), v.len()], [self.domain, self.codomain])?;
        check(what, [out.len(), v.len()], [self.domain, self.codomain])?;
        let (user_data, len) = (self.user_data, out.len());
        // SAFETY: as above.
        let code = unsafe { (self.vjp)(user_data, x.as_ptr(), x.len(), v.as_ptr(), v.len(), out.as_mut_ptr(), len) };
        returned(what, code)?;
        check_finite(what, out)
    }
}

/// What every function that makes such an operator does around `make`.
///
/// # Safety
/// The pointers are what the header asks for.
unsafe fn new<O: ForwardOperator + Send + Sync + 'static>(
    dims: *const usize,
    rank: usize,
    op: *mut *mut undiffuse_operator,
    error: *mut *mut undiffuse_error,
    make: impl FnOnce(Dims) -> Outcome<O>,
) -> undiffuse_status {
    // SAFETY: the caller's promise.
    unsafe {
        ok(error, || {
            let out = output(op, "op")?;
            let made = make(read_dims(dims, rank)?)?;
            out.give_handle(Operator { forward: Arc::new(made), linear: None, mask: None })
        })
    }
}

/// A(x) = clamp(gain x, -1, 1): overexposure. Not linear: for DPS, DAPS, RED-diff and SITCOM, as those below. `gain`
/// is above 0.
///
/// Otherwise as undiffuse_operator_identity.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_operator_clip(
    dims: *const usize,
    rank: usize,
    gain: f64,
    op: *mut *mut undiffuse_operator,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: pointers are what the header asks for, here and below.
    unsafe { new(dims, rank, op, error, |dims| Ok(Clip::new(dims, gain)?)) }
}

/// A(x) = 2 u^exponent - 1 with u = (x + 1) / 2, continued along its tangents below u = 1 / 512 and above 1. `exponent`
/// is 0.1 to 10.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_operator_gamma(
    dims: *const usize,
    rank: usize,
    exponent: f64,
    op: *mut *mut undiffuse_operator,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe { new(dims, rank, op, error, |dims| Ok(Gamma::new(dims, exponent)?)) }
}

/// A(x) is the nearest of `levels` values, 2 to 65536, evenly spread over -1 to 1. Its gradient is taken for that of
/// y = x.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_operator_quantize(
    dims: *const usize,
    rank: usize,
    levels: u32,
    op: *mut *mut undiffuse_operator,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe { new(dims, rank, op, error, |dims| Ok(Quantize::new(dims, levels)?)) }
}

/// A(x) are the magnitudes of the two-dimensional Fourier transform of (x + 1) / 2 among zeros, on sides `oversampling`
/// times as long, 1 or more, rounded up: phase retrieval. The transform keeps the sum of squares. An image turned by
/// 180 degrees has the same.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_operator_fourier_magnitude(
    dims: *const usize,
    rank: usize,
    oversampling: f64,
    op: *mut *mut undiffuse_operator,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe { new(dims, rank, op, error, |dims| Ok(FourierMagnitude::new(dims, oversampling)?)) }
}

/// A by functions of yours that is not linear. `callbacks` is read during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_operator_from_forward_callbacks(
    dims: *const usize,
    rank: usize,
    callbacks: *const undiffuse_forward_callbacks,
    op: *mut *mut undiffuse_operator,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        new(dims, rank, op, error, |domain| {
            let o = options(callbacks)?;
            let forward = o.forward.ok_or_else(|| null("undiffuse_forward_callbacks.forward"))?;
            let vjp = o.vjp.ok_or_else(|| null("undiffuse_forward_callbacks.vjp"))?;
            let codomain = o.output_dims.get(..o.output_rank);
            let codomain = codomain
                .ok_or_else(|| Failure::argument(format!("output_rank is {}, expected 1 to 4", o.output_rank)))?;
            Ok(Host { user_data: o.user_data, domain, codomain: Dims::new(codomain)?, forward, vjp })
        })
    }
}

/// out = J(x)^T v: reads the n floats of a sample at `x` and the m of a measurement at `v`, and writes n floats at
/// `out`, J being the derivative of the operator at x; of a linear one it is A^T v. `out` overlaps neither. Scratch
/// comes from malloc. Status: UNDIFFUSE_SHAPE, UNDIFFUSE_NON_FINITE. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_operator_vjp(
    op: *const undiffuse_operator,
    x: *const f32,
    x_len: usize,
    v: *const f32,
    v_len: usize,
    out: *mut f32,
    out_len: usize,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        ok(error, || {
            let o = read(op)?;
            let (x, v) = (slice(x, x_len, "x")?, slice(v, v_len, "v")?);
            check_apart(&[("x", x), ("v", v)], &[("out", out, out_len)])?;
            let out = slice_mut(out, out_len, "out")?;
            check_finite("x", x)?;
            check_finite("v", v)?;
            o.forward.vjp(x, v, out, &mut scratch(o.forward.forward_scratch_len())?)?;
            Ok(check_finite("out", out)?)
        })
    }
}
