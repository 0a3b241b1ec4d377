//! Evidence by functions of the caller: the gradient of log r, or the odds of bits.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::ffi::{c_char, c_void};
use core::mem::MaybeUninit;

use undiffuse::noise::Fingerprint;
use undiffuse::posterior::{At, BitProduct, BitR, Classifier, ClassifierRule, LogR, MeanShift, RSchedule};
use undiffuse::schedule::Level;
use undiffuse::{Error, ErrorKind};

use crate::callbacks::{returned, undiffuse_call};
use crate::enums::undiffuse_gradient_rule::{self, *};
use crate::enums::undiffuse_r_schedule::{self, *};
use crate::guard::{null, string};
use crate::options::{sized, value};
use crate::recipe::{BoxedEvidence, Recipe, r_schedule};
use crate::status::{Failure, Outcome};

/// The gradient of log r: reads `x`, [count, sample_len], at the level of `call`, and writes all of `out`, as many.
/// What it does to a sample must not depend on the others. Returns as undiffuse_predict_fn; called on the thread that
/// called the library.
pub type undiffuse_gradient_fn = Option<
    unsafe extern "C" fn(user_data: *mut c_void, call: *const undiffuse_call, x: *const f32, out: *mut f32) -> i32,
>;

/// Your own evidence: p(x) r(x) with r known by the gradient of its logarithm.
///
/// If several sessions use it at once the function is called from several threads at once.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct undiffuse_gradient_evidence {
    /// sizeof(undiffuse_gradient_evidence).
    pub struct_size: usize,
    /// Passed to the function.
    pub user_data: *mut c_void,
    /// Must not be NULL.
    pub gradient: undiffuse_gradient_fn,
    /// What is done with the gradient.
    pub rule: MaybeUninit<undiffuse_gradient_rule>,
    /// How r depends on the level, where the rule is UNDIFFUSE_GRADIENT_MEAN_SHIFT_2015.
    pub r_schedule: MaybeUninit<undiffuse_r_schedule>,
    /// The gradient is multiplied by it, where the rule is another. 0 stands for 1, p(x) r(x).
    pub scale: f64,
    /// A number that differs between functions that differ, for saved sessions.
    pub fingerprint: u64,
    /// A name for messages, or NULL. Copied.
    pub name: *const c_char,
}

sized!(undiffuse_gradient_evidence {
    user_data: core::ptr::null_mut(),
    gradient: None,
    rule: MaybeUninit::new(UNDIFFUSE_GRADIENT_SCORE),
    r_schedule: MaybeUninit::new(UNDIFFUSE_R_CONSTANT),
    scale: 1.0,
    fingerprint: 0,
    name: core::ptr::null(),
});

/// Evidence for a binary chain.
///
/// Either `odds`: for each bit d = r(x_i = 1) / (r(x_i = 1) + r(x_i = 0)); 0.5 where nothing is known, 0 or 1 for a
/// known bit. Or `function`, which gives these d for all bits of x_t at once, the other bits as in `x`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct undiffuse_bit_evidence {
    /// sizeof(undiffuse_bit_evidence).
    pub struct_size: usize,
    /// The odds, one for each bit of a sample, 0 to 1. Copied. NULL with a function.
    pub odds: *const f32,
    /// How many.
    pub odds_len: usize,
    /// How the odds depend on the level.
    pub r_schedule: MaybeUninit<undiffuse_r_schedule>,
    /// Must be 0.
    pub reserved: u32,
    /// With UNDIFFUSE_R_WHITE: the stationary probability of a 1, as in the sampler's options; 0 stands for 0.5.
    pub pi: f64,
    /// Your function, one sample at a time, or NULL.
    pub function: undiffuse_gradient_fn,
    /// Passed to the function. It must live until the evidence and all sessions made with it are freed.
    pub user_data: *mut c_void,
    /// A number that differs between functions that differ, for saved sessions.
    pub fingerprint: u64,
}

sized!(undiffuse_bit_evidence {
    odds: core::ptr::null(),
    odds_len: 0,
    r_schedule: MaybeUninit::new(UNDIFFUSE_R_CONSTANT),
    reserved: 0,
    pi: 0.5,
    function: None,
    user_data: core::ptr::null_mut(),
    fingerprint: 0,
});

type Function = unsafe extern "C" fn(*mut c_void, *const undiffuse_call, *const f32, *mut f32) -> i32;

/// The caller's function and what it is called.
#[derive(Clone)]
struct Host {
    function: Function,
    user_data: *mut c_void,
    fingerprint: u64,
    name: String,
}

// SAFETY: the header asks for functions that the threads of the sessions may call.
unsafe impl Send for Host {}
// SAFETY: as above.
unsafe impl Sync for Host {}

impl Host {
    fn call(&self, call: &undiffuse_call, x: &[f32], out: &mut [f32]) -> undiffuse::Result<()> {
        if x.len() != out.len() || call.count.checked_mul(call.sample_len) != Some(x.len()) {
            return Err(Error::new(ErrorKind::Shape, format!("\"{}\" got buffers that do not fit", self.name)));
        }
        // SAFETY: the header says what the function may do; the lengths were checked.
        returned(&self.name, unsafe { (self.function)(self.user_data, call, x.as_ptr(), out.as_mut_ptr()) })?;
        match out.iter().position(|v| !v.is_finite()) {
            None => Ok(()),
            Some(i) => {
                Err(Error::new(ErrorKind::NonFinite, format!("\"{}\" gave {} at element {i}", self.name, out[i])))
            }
        }
    }
}

fn call_at(at: &At, level: Level, first_sample: u64, x: &[f32]) -> undiffuse_call {
    undiffuse_call {
        level: level.into(),
        step: at.step,
        steps: at.steps,
        first_sample,
        count: x.len() / at.sample_len.max(1),
        sample_len: at.sample_len,
    }
}

struct Guidance {
    host: Host,
    scale: f64,
    rule: ClassifierRule,
}

impl Recipe for Guidance {
    fn make(&self) -> Outcome<BoxedEvidence> {
        let (host, scale) = (self.host.clone(), self.scale);
        let f =
            move |at: &At, x: &[f32], out: &mut [f32]| host.call(&call_at(at, at.level, at.first_sample, x), x, out);
        let fingerprint = Fingerprint::new().bytes(b"gradient").u64(self.host.fingerprint).finish();
        let evidence = Classifier::new(self.host.name.clone(), scale, self.rule, f)?;
        Ok(Box::new(evidence.with_fingerprint(fingerprint)))
    }
}

impl LogR for Host {
    fn name(&self) -> &str {
        &self.name
    }

    fn gradient(
        &mut self,
        sample: u64,
        level: &Level,
        x: &[f32],
        out: &mut [f32],
        _: &mut [f32],
    ) -> undiffuse::Result<()> {
        let call = undiffuse_call {
            level: (*level).into(),
            step: 0,
            steps: 0,
            first_sample: sample,
            count: 1,
            sample_len: x.len(),
        };
        self.call(&call, x, out)
    }

    fn fingerprint(&self) -> u64 {
        Fingerprint::new().bytes(b"gradient").u64(self.fingerprint).finish()
    }
}

struct Shift(Host, RSchedule);

impl Recipe for Shift {
    fn make(&self) -> Outcome<BoxedEvidence> {
        Ok(Box::new(MeanShift::new(self.0.clone(), self.1)))
    }
}

/// What sessions make their evidence from.
///
/// # Safety
/// The pointers of `o` are what the header asks for.
pub(crate) unsafe fn recipe(o: &undiffuse_gradient_evidence) -> Outcome<Arc<dyn Recipe>> {
    let function = o.gradient.ok_or_else(|| null("undiffuse_gradient_evidence.gradient"))?;
    let name = if o.name.is_null() {
        "callback"
    } else {
        // SAFETY: the caller's promise.
        unsafe { string(o.name, "undiffuse_gradient_evidence.name") }?
    };
    let scale = if o.scale == 0.0 { 1.0 } else { o.scale };
    if !scale.is_finite() {
        return Err(Failure::argument(format!("the scale of the gradient is {}, expected a finite number", o.scale)));
    }
    let host = Host { function, user_data: o.user_data, fingerprint: o.fingerprint, name: name.to_string() };
    let schedule = r_schedule(o.r_schedule)?;
    let guidance = |rule| Guidance { host: host.clone(), scale, rule };
    Ok(match value(o.rule)? {
        UNDIFFUSE_GRADIENT_SCORE => Arc::new(guidance(ClassifierRule::Score)),
        UNDIFFUSE_GRADIENT_MEAN => Arc::new(guidance(ClassifierRule::Mean)),
        UNDIFFUSE_GRADIENT_MEAN_SHIFT_2015 => Arc::new(Shift(host, schedule)),
    })
}

/// Evidence about bits by the caller's function.
#[derive(Clone)]
pub(crate) struct HostBits(Host);

impl HostBits {
    /// `None` where the caller gives odds.
    pub fn new(o: &undiffuse_bit_evidence) -> Outcome<Option<Self>> {
        if o.reserved != 0 {
            return Err(Failure::argument("undiffuse_bit_evidence.reserved is not 0"));
        }
        value(o.r_schedule)?;
        let Some(function) = o.function else { return Ok(None) };
        if !o.odds.is_null() {
            return Err(Failure::argument("undiffuse_bit_evidence: odds and a function are both given"));
        }
        let name = "bit callback".to_string();
        Ok(Some(Self(Host { function, user_data: o.user_data, fingerprint: o.fingerprint, name })))
    }
}

impl BitR for HostBits {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn odds(&mut self, at: &At, sample: u64, x: &[f32], out: &mut [f32]) -> undiffuse::Result<()> {
        self.0.call(&call_at(at, at.target, sample, x), x, out)
    }

    fn fingerprint(&self) -> u64 {
        Fingerprint::new().bytes(b"bit callback").u64(self.0.fingerprint).finish()
    }
}

impl Recipe for HostBits {
    fn make(&self) -> Outcome<BoxedEvidence> {
        Ok(Box::new(BitProduct::new(self.clone())))
    }
}
