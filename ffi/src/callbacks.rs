//! The caller's own denoiser.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::ffi::{c_char, c_void};

use undiffuse::denoiser::{Call, Denoiser};
use undiffuse::error::check_finite;
use undiffuse::sampler::{SamplerKind, SchedulerConfig};
use undiffuse::schedule::Level;
use undiffuse::tensor::Dims;
use undiffuse::{Error, ErrorKind};

use crate::guard::string;
use crate::options::sized;
use crate::schedule::scheduler_option;
use crate::status::undiffuse_status::{UNDIFFUSE_CANCELLED, UNDIFFUSE_OK};
use crate::status::{Failure, Outcome};

/// How noisy a sample is: x = alpha x_0 + sigma eps. Other structs hold it, so it never grows: what later versions tell
/// of a level is in new fields at the end of these.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct undiffuse_level {
    /// What the network is told, in the unit it was trained with: 0 to T - 1 for diffusers' discrete models.
    pub timestep: f64,
    /// The factor of x_0.
    pub alpha: f64,
    /// The factor of the noise.
    pub sigma: f64,
}

impl From<Level> for undiffuse_level {
    fn from(l: Level) -> Self {
        Self { timestep: l.timestep, alpha: l.alpha, sigma: l.sigma }
    }
}

/// What a callback is told beside its arrays. It lives during the call; later versions may append fields.
#[repr(C)]
pub struct undiffuse_call {
    /// How noisy the samples are.
    pub level: undiffuse_level,
    /// The step of the chain, from 0, and how many there are; both 0 where that is not known (a denoiser).
    pub step: usize,
    /// See `step`.
    pub steps: usize,
    /// The number of the first sample of the batch.
    pub first_sample: u64,
    /// Samples in this call.
    pub count: usize,
    /// Floats of one sample.
    pub sample_len: usize,
}

/// Predicts: reads `x`, [count, sample_len], and writes all of `out`, [count, output_len]. The arrays do not overlap
/// and are yours during the call. A sample's prediction must not depend on the others in the batch.
///
/// Returns UNDIFFUSE_OK; UNDIFFUSE_CANCELLED to stop as if the cancel flag were set; any other value fails the call
/// that asked with UNDIFFUSE_CALLBACK. Called on the thread that called the library. It may call the library, but not
/// with the session it serves.
pub type undiffuse_predict_fn = Option<
    unsafe extern "C" fn(user_data: *mut c_void, call: *const undiffuse_call, x: *const f32, out: *mut f32) -> i32,
>;

/// The vector-Jacobian product of the prediction: reads `x`, [count, sample_len], and `v`, [count, output_len], and
/// writes out = J^T v, [count, sample_len], with J = d predict(x) / d x of each sample. Otherwise as
/// undiffuse_predict_fn.
pub type undiffuse_vjp_fn = Option<
    unsafe extern "C" fn(
        user_data: *mut c_void,
        call: *const undiffuse_call,
        x: *const f32,
        v: *const f32,
        out: *mut f32,
    ) -> i32,
>;

/// Your own denoiser. Clear the struct, then set struct_size and what you need.
///
/// If several sessions use it at once its functions are called from several threads at once.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct undiffuse_denoiser {
    /// sizeof(undiffuse_denoiser).
    pub struct_size: usize,
    /// Passed to the functions.
    pub user_data: *mut c_void,
    /// Must not be NULL.
    pub predict: undiffuse_predict_fn,
    /// NULL if there is none; some evidence needs it.
    pub vjp: undiffuse_vjp_fn,
    /// How many dimensions a sample has, 1 to 4.
    pub rank: usize,
    /// The dimensions, outermost first: [channels, height, width] for images. The rest is ignored.
    pub dims: [usize; 4],
    /// Floats that it gives for a sample; 0 for as many as a sample has. Twice as many where it learned a variance.
    pub output_len: usize,
    /// The largest batch of one call; 0 for any.
    pub max_batch: usize,
    /// A number that differs between denoisers that predict differently, for saved sessions; 0 if you have none.
    pub fingerprint: u64,
    /// A name for messages, or NULL. Copied.
    pub name: *const c_char,
    /// The scheduler it was trained for: the text of a diffusers scheduler_config.json, or NULL for diffusers' DDPM
    /// defaults. Read during the call.
    pub scheduler_json: *const c_char,
    /// Bytes of that text; 0 if it ends with a NUL.
    pub scheduler_json_len: usize,
}

sized!(undiffuse_denoiser {
    user_data: core::ptr::null_mut(),
    predict: None,
    vjp: None,
    rank: 0,
    dims: [0; 4],
    output_len: 0,
    max_batch: 0,
    fingerprint: 0,
    name: core::ptr::null(),
    scheduler_json: core::ptr::null(),
    scheduler_json_len: 0,
});

type Predict = unsafe extern "C" fn(*mut c_void, *const undiffuse_call, *const f32, *mut f32) -> i32;
type Vjp = unsafe extern "C" fn(*mut c_void, *const undiffuse_call, *const f32, *const f32, *mut f32) -> i32;

/// The caller's functions, checked.
pub(crate) struct HostDenoiser {
    user_data: *mut c_void,
    predict: Predict,
    pub vjp: Option<Vjp>,
    pub dims: Dims,
    pub output_len: usize,
    pub max_batch: usize,
    pub fingerprint: u64,
    name: String,
}

// SAFETY: the header asks for functions that the threads of the sessions may call.
unsafe impl Send for HostDenoiser {}
// SAFETY: as above.
unsafe impl Sync for HostDenoiser {}

impl HostDenoiser {
    /// The denoiser and its scheduler.
    ///
    /// # Safety
    /// The pointers of `d` are what the header asks for.
    pub unsafe fn new(d: &undiffuse_denoiser) -> Outcome<(Self, SchedulerConfig)> {
        let predict = d.predict.ok_or_else(|| crate::guard::null("undiffuse_denoiser.predict"))?;
        let dims = d.dims.get(..d.rank).filter(|s| !s.is_empty());
        let dims = dims.ok_or_else(|| Failure::argument(format!("rank is {}, expected 1 to 4", d.rank)))?;
        let dims = Dims::new(dims)?;
        let n = dims.elements();
        let output_len = if d.output_len == 0 { n } else { d.output_len };
        if output_len != n && Some(output_len) != n.checked_mul(2) {
            return Err(Failure::argument(format!(
                "output_len is {output_len} for samples of {n} values, expected 0, as many or twice as many"
            )));
        }
        let name = if d.name.is_null() {
            "callback"
        } else {
            // SAFETY: the caller's promise.
            unsafe { string(d.name, "undiffuse_denoiser.name") }?
        };
        // SAFETY: the caller's promise.
        let scheduler = unsafe { scheduler_option(d.scheduler_json, d.scheduler_json_len) }?;
        let host = Self {
            user_data: d.user_data,
            predict,
            vjp: d.vjp,
            dims,
            output_len,
            max_batch: if d.max_batch == 0 { usize::MAX } else { d.max_batch },
            fingerprint: d.fingerprint,
            name: name.to_string(),
        };
        Ok((host, scheduler.unwrap_or_else(|| SchedulerConfig::new(SamplerKind::Ddpm))))
    }

    /// What messages call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// That the caller's function gave finite numbers.
    fn check_gave(&self, out: &[f32]) -> undiffuse::Result<()> {
        check_finite("its output", out).map_err(|e| e.context(format!("the denoiser \"{}\"", self.name)))
    }

    fn call(&self, call: &Call<'_>, x: &[f32]) -> undiffuse_call {
        let n = self.dims.elements();
        undiffuse_call {
            level: call.level.into(),
            step: 0,
            steps: 0,
            first_sample: call.first_sample,
            count: x.len() / n.max(1),
            sample_len: n,
        }
    }
}

/// What a callback's return value means.
pub(crate) fn returned(what: &str, code: i32) -> undiffuse::Result<()> {
    const OK: i32 = UNDIFFUSE_OK as i32;
    const CANCELLED: i32 = UNDIFFUSE_CANCELLED as i32;
    match code {
        OK => Ok(()),
        CANCELLED => Err(Error::new(ErrorKind::Cancelled, format!("{what} asked to stop"))),
        _ => Err(Error::new(ErrorKind::Callback, format!("{what} returned {code}"))),
    }
}

/// One session's use of it.
pub(crate) struct Shared(pub Arc<HostDenoiser>);

fn check_lens(name: &str, lens: &[(usize, usize)], x: usize) -> undiffuse::Result<()> {
    let n = lens.first().map_or(1, |l| l.1).max(1);
    let batch = x / n;
    let fits = lens.iter().all(|&(len, each)| Some(len) == batch.checked_mul(each));
    if fits { Ok(()) } else { Err(Error::new(ErrorKind::Shape, format!("\"{name}\" got buffers that do not fit"))) }
}

impl Denoiser for Shared {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn sample_dims(&self) -> Dims {
        self.0.dims
    }

    fn output_len(&self) -> usize {
        self.0.output_len
    }

    fn max_batch(&self) -> usize {
        self.0.max_batch
    }

    fn predict(&mut self, call: &Call<'_>, x: &[f32], out: &mut [f32]) -> undiffuse::Result<()> {
        let host = &*self.0;
        check_lens(&host.name, &[(x.len(), host.dims.elements()), (out.len(), host.output_len)], x.len())?;
        check_finite("x", x)?;
        call.cancel.check()?;
        let c = host.call(call, x);
        // SAFETY: the header says what the function may do; the lengths were checked.
        returned(&host.name, unsafe { (host.predict)(host.user_data, &c, x.as_ptr(), out.as_mut_ptr()) })?;
        host.check_gave(out)
    }

    fn has_vjp(&self) -> bool {
        self.0.vjp.is_some()
    }

    fn vjp(&mut self, call: &Call<'_>, x: &[f32], v: &[f32], out: &mut [f32]) -> undiffuse::Result<()> {
        let host = &*self.0;
        let Some(vjp) = host.vjp else {
            let text = format!("the denoiser \"{}\" has no vector-Jacobian product", host.name);
            return Err(Error::new(ErrorKind::Unsupported, text));
        };
        let n = host.dims.elements();
        check_lens(&host.name, &[(x.len(), n), (v.len(), host.output_len), (out.len(), n)], x.len())?;
        check_finite("x", x)?;
        check_finite("v", v)?;
        call.cancel.check()?;
        let c = host.call(call, x);
        // SAFETY: as above.
        returned(&host.name, unsafe { vjp(host.user_data, &c, x.as_ptr(), v.as_ptr(), out.as_mut_ptr()) })?;
        host.check_gave(out)
    }

    fn fingerprint(&self) -> u64 {
        self.0.fingerprint
    }
}
