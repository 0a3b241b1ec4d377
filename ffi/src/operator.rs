//! Operators: what a measurement did to a sample. Those that are not linear are in `forward`.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ffi::c_void;
use core::mem::MaybeUninit;

use undiffuse::error::check_finite;
use undiffuse::posterior::operator::{
    Bicubic, BlockAverage, Channels, CircularBlur, Dense, ForwardOperator, Grey, Hadamard, Identity, LinearOperator,
    Mask, Padding, SeparableBlur, Svd, gaussian_kernel,
};
use undiffuse::tensor::Dims;
use undiffuse::{Error, ErrorKind};

use crate::callbacks::returned;
use crate::enums::undiffuse_padding::{self, *};
use crate::guard::{Handle, check_apart, free_handle, null, ok, opaque, output, read, slice, slice_mut, void};
use crate::memory::scratch;
use crate::options::{give, options, sized, value};
use crate::status::undiffuse_status::UNDIFFUSE_UNSUPPORTED;
use crate::status::{Failure, Outcome, undiffuse_error, undiffuse_status};

/// An operator that evidence shares.
#[derive(Clone)]
pub(crate) struct Operator {
    pub forward: Arc<dyn ForwardOperator + Send + Sync>,
    /// The same where it is linear.
    pub linear: Option<Arc<dyn LinearOperator + Send + Sync>>,
    /// For the methods that need one.
    pub mask: Option<Mask>,
}

impl<O: LinearOperator + Send + Sync + 'static> From<O> for Operator {
    fn from(operator: O) -> Self {
        let linear: Shared = Arc::new(operator);
        Self { forward: Arc::new(Arc::clone(&linear)), linear: Some(linear), mask: None }
    }
}

impl Operator {
    /// As one that is linear, for what needs it to be.
    pub fn linear(&self) -> Outcome<&Shared> {
        let text = || format!("{} is not linear, as this needs it to be", self.forward.label());
        self.linear.as_ref().ok_or_else(|| Failure::new(UNDIFFUSE_UNSUPPORTED, text()))
    }
}

/// A map A from a sample to a measurement, mostly linear. It is never changed, so any number of threads may use one at
/// once. Evidence made with it keeps what it needs: you may free it before.
pub struct undiffuse_operator(Handle<Operator>);

opaque!(undiffuse_operator, "operator", Operator);

/// Information about an operator.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct undiffuse_operator_info {
    /// sizeof(undiffuse_operator_info); you set it before the call.
    pub struct_size: usize,
    /// n: floats of a sample.
    pub input_len: usize,
    /// m: floats of a measurement.
    pub output_len: usize,
    /// Dimensions of a measurement.
    pub output_rank: usize,
    /// The dimensions, outermost first. Those beyond the rank are 0.
    pub output_dims: [usize; 4],
    /// 1 if its singular value decomposition is known, which some methods need.
    pub has_svd: u32,
    /// 1 if it is linear.
    pub linear: u32,
}

sized!(undiffuse_operator_info {
    input_len: 0,
    output_len: 0,
    output_rank: 0,
    output_dims: [0; 4],
    has_svd: 0,
    linear: 0,
});

/// A map of yours: reads `from_len` floats at `from` and writes all `to_len` floats at `to`. Returns as
/// undiffuse_predict_fn. Called on the thread that called the library; if several sessions use it, on several at once.
pub type undiffuse_map_fn = Option<
    unsafe extern "C" fn(user_data: *mut c_void, from: *const f32, from_len: usize, to: *mut f32, to_len: usize) -> i32,
>;

/// Your own operator. That `adjoint` is the adjoint of `apply` is yours to see to: <A u, v> = <u, A^T v> for random u
/// and v.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct undiffuse_operator_callbacks {
    /// sizeof(undiffuse_operator_callbacks).
    pub struct_size: usize,
    /// Passed to the functions. It must live until the operator and all that was made with it are freed.
    pub user_data: *mut c_void,
    /// y = A x; must not be NULL.
    pub apply: undiffuse_map_fn,
    /// x = A^T y; must not be NULL.
    pub adjoint: undiffuse_map_fn,
    /// x = A^+ y, or NULL.
    pub pseudo_inverse: undiffuse_map_fn,
    /// Dimensions of a measurement, 1 to 4.
    pub output_rank: usize,
    /// The dimensions, outermost first; the rest is ignored.
    pub output_dims: [usize; 4],
}

sized!(undiffuse_operator_callbacks {
    user_data: core::ptr::null_mut(),
    apply: None,
    adjoint: None,
    pseudo_inverse: None,
    output_rank: 0,
    output_dims: [0; 4],
});

type Map = unsafe extern "C" fn(*mut c_void, *const f32, usize, *mut f32, usize) -> i32;

struct Host {
    user_data: *mut c_void,
    input: Dims,
    output: Dims,
    apply: Map,
    adjoint: Map,
    pseudo_inverse: Option<Map>,
}

// SAFETY: the header asks for functions that the threads of the sessions may call.
unsafe impl Send for Host {}
// SAFETY: as above.
unsafe impl Sync for Host {}

impl Host {
    fn call(&self, what: &str, map: Map, from: &[f32], to: &mut [f32], lens: [Dims; 2]) -> undiffuse::Result<()> {
        let [expected, gives] = lens.map(|d| d.elements());
        if from.len() != expected || to.len() != gives {
            let text = format!("{what} got {} and {} values, expected {expected} and {gives}", from.len(), to.len());
            return Err(Error::new(ErrorKind::Shape, text));
        }
        // SAFETY: the header says what the function may do; the lengths are those it is told.
        let code = unsafe { map(self.user_data, from.as_ptr(), from.len(), to.as_mut_ptr(), to.len()) };
        returned(what, code)?;
        match to.iter().position(|v| !v.is_finite()) {
            None => Ok(()),
            Some(i) => {
                Err(Error::new(ErrorKind::NonFinite, format!("{what} gave a value that is not finite at element {i}")))
            }
        }
    }
}

impl LinearOperator for Host {
    fn name(&self) -> &'static str {
        "callback operator"
    }

    fn input_dims(&self) -> Dims {
        self.input
    }

    fn output_dims(&self) -> Dims {
        self.output
    }

    fn apply(&self, x: &[f32], y: &mut [f32], _: &mut [f32]) -> undiffuse::Result<()> {
        self.call("the callback for A", self.apply, x, y, [self.input, self.output])
    }

    fn adjoint(&self, y: &[f32], x: &mut [f32], _: &mut [f32]) -> undiffuse::Result<()> {
        self.call("the callback for A^T", self.adjoint, y, x, [self.output, self.input])
    }

    fn svd(&self) -> Option<&dyn Svd> {
        None
    }

    fn pseudo_inverse(&self, y: &[f32], x: &mut [f32], _: &mut [f32]) -> undiffuse::Result<()> {
        let map = self.pseudo_inverse;
        let map =
            map.ok_or_else(|| Error::new(ErrorKind::Unsupported, "the callback operator has no pseudo-inverse"))?;
        self.call("the callback for A^+", map, y, x, [self.output, self.input])
    }
}

/// Dimensions that the caller gives.
///
/// # Safety
/// `dims` are `rank` values.
pub(crate) unsafe fn read_dims(dims: *const usize, rank: usize) -> Outcome<Dims> {
    if rank > 4 {
        return Err(Failure::argument(format!("rank is {rank}, expected 1 to 4")));
    }
    // SAFETY: the caller's promise.
    Ok(Dims::new(unsafe { slice(dims, rank, "dims") }?)?)
}

fn padding(raw: MaybeUninit<undiffuse_padding>) -> Outcome<Padding> {
    Ok(match value(raw)? {
        UNDIFFUSE_PADDING_SYMMETRIC => Padding::Symmetric,
        UNDIFFUSE_PADDING_CIRCULAR => Padding::Circular,
        UNDIFFUSE_PADDING_ZERO => Padding::Zero,
    })
}

/// What every function that makes an operator does around `make`.
///
/// # Safety
/// The pointers are what the header asks for.
unsafe fn new<O: Into<Operator>>(
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
            out.give_handle(made.into())
        })
    }
}

/// A = I: the measurement is the sample itself, for denoising.
///
/// As for every operator: a sample has the `rank` dimensions at `dims`, outermost first ([channels, height, width] for
/// images); arrays are read during the call; on success *op is yours, free it with undiffuse_operator_free. Status:
/// UNDIFFUSE_SHAPE where operator and dimensions do not suit each other, UNDIFFUSE_NON_FINITE for taps that are not
/// finite. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_operator_identity(
    dims: *const usize,
    rank: usize,
    op: *mut *mut undiffuse_operator,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: pointers are what the header asks for, here and below.
    unsafe { new(dims, rank, op, error, |dims| Ok(Identity::new(dims)?)) }
}

/// A keeps the elements whose byte in `known` is not 0, in ascending order: for inpainting.
///
/// `known` has `known_len` bytes: one for each element of a sample, or one for each position (height x width), for all
/// channels. A mask that hides nothing is refused (for denoising there is undiffuse_operator_identity), as is one that
/// hides everything.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_operator_mask(
    dims: *const usize,
    rank: usize,
    known: *const u8,
    known_len: usize,
    op: *mut *mut undiffuse_operator,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        new(dims, rank, op, error, |dims| {
            let known: Vec<bool> = slice(known, known_len, "known")?.iter().map(|&k| k != 0).collect();
            let mask = Mask::new(dims, &known)?;
            Ok(Operator { mask: Some(mask.clone()), ..Operator::from(mask) })
        })
    }
}

/// A keeps all of an image but the rectangle of `height` x `width` from row `top` and column `left`, in all channels.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_operator_without_box(
    dims: *const usize,
    rank: usize,
    top: usize,
    left: usize,
    height: usize,
    width: usize,
    op: *mut *mut undiffuse_operator,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        new(dims, rank, op, error, |dims| {
            let mask = Mask::without_box(dims, top, left, height, width)?;
            Ok(Operator { mask: Some(mask.clone()), ..Operator::from(mask) })
        })
    }
}

/// A keeps the `count` channels of an image that `channels` names, in that order.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_operator_channels(
    dims: *const usize,
    rank: usize,
    channels: *const usize,
    count: usize,
    op: *mut *mut undiffuse_operator,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe { new(dims, rank, op, error, |dims| Ok(Channels::new(dims, slice(channels, count, "channels")?)?)) }
}

/// A sums the channels of an image with `count` weights, one for each channel; NULL and 0 for their mean.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_operator_grey(
    dims: *const usize,
    rank: usize,
    weights: *const f64,
    count: usize,
    op: *mut *mut undiffuse_operator,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        new(dims, rank, op, error, |dims| {
            let weights = slice(weights, count, "weights")?;
            Ok(if weights.is_empty() { Grey::mean(dims)? } else { Grey::weighted(dims, weights)? })
        })
    }
}

/// A takes the mean of blocks of `factor` x `factor`; the factor divides both sides of the image.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_operator_block_average(
    dims: *const usize,
    rank: usize,
    factor: usize,
    op: *mut *mut undiffuse_operator,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe { new(dims, rank, op, error, |dims| Ok(BlockAverage::new(dims, factor)?)) }
}

/// A shrinks an image by `factor` with the anti-aliased bicubic filter; the factor divides both sides.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_operator_bicubic(
    dims: *const usize,
    rank: usize,
    factor: usize,
    padding: MaybeUninit<undiffuse_padding>,
    op: *mut *mut undiffuse_operator,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe { new(dims, rank, op, error, |dims| Ok(Bicubic::new(dims, factor, self::padding(padding)?)?)) }
}

/// A blurs each channel: `down` are `down_len` taps along columns, `across` `across_len` taps along rows, each centred
/// at half its length. Its decomposition is computed here, in a time that grows with the cube of a side: half a second
/// for 256.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_operator_separable_blur(
    dims: *const usize,
    rank: usize,
    down: *const f32,
    down_len: usize,
    across: *const f32,
    across_len: usize,
    padding: MaybeUninit<undiffuse_padding>,
    op: *mut *mut undiffuse_operator,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        new(dims, rank, op, error, |dims| {
            let (down, across) = (slice(down, down_len, "down")?, slice(across, across_len, "across")?);
            Ok(SeparableBlur::new(dims, down, across, self::padding(padding)?)?)
        })
    }
}

/// A convolves each channel with a kernel of `kernel_height` rows of `kernel_width` taps, the image repeated beyond its
/// edges.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_operator_circular_blur(
    dims: *const usize,
    rank: usize,
    kernel: *const f32,
    kernel_height: usize,
    kernel_width: usize,
    op: *mut *mut undiffuse_operator,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        new(dims, rank, op, error, |dims| {
            let len = kernel_height.checked_mul(kernel_width);
            let len = len.ok_or_else(|| Failure::argument("the kernel is too large"))?;
            Ok(CircularBlur::new(dims, slice(kernel, len, "kernel")?, kernel_height, kernel_width)?)
        })
    }
}

/// A is a dense matrix of `output_len` rows of n values, n the elements of a sample. Its decomposition is computed
/// here.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_operator_dense(
    dims: *const usize,
    rank: usize,
    matrix: *const f32,
    output_len: usize,
    op: *mut *mut undiffuse_operator,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        new(dims, rank, op, error, |dims| {
            let m = Dims::new(&[output_len])?;
            let len = output_len.checked_mul(dims.elements());
            let len = len.ok_or_else(|| Failure::argument("the matrix is too large"))?;
            Ok(Dense::new(dims, m, slice(matrix, len, "matrix")?)?)
        })
    }
}

/// A shuffles the positions of an image by `seed`, transforms each channel by the Walsh-Hadamard matrix and keeps the
/// first `measurements` coefficients: compressed sensing. height x width must be a power of 2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_operator_hadamard(
    dims: *const usize,
    rank: usize,
    measurements: usize,
    seed: u64,
    op: *mut *mut undiffuse_operator,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe { new(dims, rank, op, error, |dims| Ok(Hadamard::new(dims, measurements, seed)?)) }
}

/// A by functions of yours. `callbacks` is read during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_operator_from_callbacks(
    dims: *const usize,
    rank: usize,
    callbacks: *const undiffuse_operator_callbacks,
    op: *mut *mut undiffuse_operator,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        new(dims, rank, op, error, |input| {
            let o = options(callbacks)?;
            let apply = o.apply.ok_or_else(|| null("undiffuse_operator_callbacks.apply"))?;
            let adjoint = o.adjoint.ok_or_else(|| null("undiffuse_operator_callbacks.adjoint"))?;
            let output = o.output_dims.get(..o.output_rank);
            let output = output
                .ok_or_else(|| Failure::argument(format!("output_rank is {}, expected 1 to 4", o.output_rank)))?;
            let pseudo_inverse = o.pseudo_inverse;
            Ok(Host { user_data: o.user_data, input, output: Dims::new(output)?, apply, adjoint, pseudo_inverse })
        })
    }
}

/// Writes information about the operator to *info, whose struct_size you set. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_operator_get_info(
    op: *const undiffuse_operator,
    info: *mut undiffuse_operator_info,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        ok(error, || {
            let o = read(op)?;
            let dims = o.forward.codomain();
            let mut i = <undiffuse_operator_info as crate::options::VersionedStruct>::defaults();
            i.input_len = o.forward.domain().elements();
            i.output_len = dims.elements();
            i.output_rank = dims.rank();
            i.output_dims[..dims.rank()].copy_from_slice(dims.as_slice());
            i.has_svd = u32::from(o.linear.as_ref().is_some_and(|o| o.svd().is_some()));
            i.linear = u32::from(o.linear.is_some());
            give(info, &i)
        })
    }
}

/// y = A x, of any operator: reads the n floats of a sample at `x` and writes the m floats of a measurement at `y`,
/// which do not overlap. Scratch comes from malloc. Status: UNDIFFUSE_SHAPE, UNDIFFUSE_NON_FINITE. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_operator_apply(
    op: *const undiffuse_operator,
    x: *const f32,
    x_len: usize,
    y: *mut f32,
    y_len: usize,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        map(op, ("x", x, x_len), ("y", y, y_len), error, |o, from, to| {
            Ok(o.forward.forward(from, to, &mut scratch(o.forward.forward_scratch_len())?)?)
        })
    }
}

/// x = A^T y, of a linear operator (undiffuse_operator_vjp is of any): reads m floats at `y` and writes n floats at
/// `x`. Otherwise as undiffuse_operator_apply.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_operator_adjoint(
    op: *const undiffuse_operator,
    y: *const f32,
    y_len: usize,
    x: *mut f32,
    x_len: usize,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        map(op, ("y", y, y_len), ("x", x, x_len), error, |o, from, to| {
            let o = o.linear()?;
            Ok(o.adjoint(from, to, &mut scratch(o.scratch_len())?)?)
        })
    }
}

/// x = A^+ y, the minimum-norm least-squares solution of A x = y. Status: UNDIFFUSE_UNSUPPORTED where the operator has
/// none. Otherwise as undiffuse_operator_adjoint.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_operator_pseudo_inverse(
    op: *const undiffuse_operator,
    y: *const f32,
    y_len: usize,
    x: *mut f32,
    x_len: usize,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        map(op, ("y", y, y_len), ("x", x, x_len), error, |o, from, to| {
            let o = o.linear()?;
            Ok(o.pseudo_inverse(from, to, &mut scratch(o.solve_scratch_len())?)?)
        })
    }
}

type Shared = Arc<dyn LinearOperator + Send + Sync>;

/// # Safety
/// The pointers are what the header asks for.
unsafe fn map(
    op: *const undiffuse_operator,
    (from_name, from, from_len): (&str, *const f32, usize),
    (to_name, to, to_len): (&str, *mut f32, usize),
    error: *mut *mut undiffuse_error,
    f: impl FnOnce(&Operator, &[f32], &mut [f32]) -> Outcome<()>,
) -> undiffuse_status {
    // SAFETY: the caller's promise.
    unsafe {
        ok(error, || {
            let o = read(op)?;
            let from = slice(from, from_len, from_name)?;
            check_apart(&[(from_name, from)], &[(to_name, to, to_len)])?;
            let to = slice_mut(to, to_len, to_name)?;
            check_finite(from_name, from)?;
            f(&o, from, to)?;
            Ok(check_finite(to_name, to)?)
        })
    }
}

/// Writes a normalised Gaussian kernel of an odd number `len` of taps and standard deviation `sigma`, in elements, to
/// `taps`. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_gaussian_kernel(
    len: usize,
    sigma: f64,
    taps: *mut f32,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        ok(error, || {
            let kernel = gaussian_kernel(len, sigma)?;
            slice_mut(taps, len, "taps")?.copy_from_slice(&kernel);
            Ok(())
        })
    }
}

/// Frees an operator. Evidence made with it stays usable. NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_operator_free(op: *mut undiffuse_operator) {
    // SAFETY: as above.
    void(|| unsafe { free_handle(op) });
}
