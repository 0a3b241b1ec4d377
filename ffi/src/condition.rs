//! What a network takes beside x and the level: listed, and given.

use alloc::ffi::CString;
use alloc::format;
use alloc::vec::Vec;
use core::ffi::c_char;
use core::mem::MaybeUninit;

use undiffuse::denoiser::{Conditions, Denoiser, Guidance};
use undiffuse::graph::{Input, Role};
use undiffuse::tensor::MAX_RANK;

use crate::enums::undiffuse_input_role::{self, *};
use crate::guard::{ok, read, slice, string, write};
use crate::model::{Model, Network, undiffuse_model};
use crate::options::{give, options, sized};
use crate::session::undiffuse_session;
use crate::status::{Failure, Outcome, undiffuse_error, undiffuse_status};

/// Values for an input of a network beside x and the level. It never grows, since it stands in arrays.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct undiffuse_condition {
    /// The input's name, as undiffuse_model_get_input says; UTF-8, ends with a NUL.
    pub name: *const c_char,
    /// Rows of the input's `len` floats (undiffuse_input_info): sample number i gets row i modulo their number, so one
    /// row serves all. Copied.
    pub values: *const f32,
    /// Floats at `values`: a multiple of the input's `len`.
    pub values_len: usize,
}

/// Classifier-free guidance. With c the prediction under the conditions and u that under the negative ones, it is u +
/// scale (c - u), of one call with twice the batch.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct undiffuse_guidance {
    /// sizeof(undiffuse_guidance); set by undiffuse_guidance_init.
    pub struct_size: usize,
    /// 1 is none, 0 the negative conditions alone.
    pub scale: f64,
    /// 0 (none) to 1: how much of the guided prediction gets the standard deviation of c (diffusers' guidance_rescale).
    pub rescale: f64,
    /// It guides only where interval_low < sigma / alpha <= interval_high.
    pub interval_low: f64,
    /// See `interval_low`.
    pub interval_high: f64,
    /// What u is given in place of the conditions of the same names, at least one; for a class model the label that
    /// stands for none, under the name of the class input. Read during the call.
    pub negative: *const undiffuse_condition,
    /// How many stand at `negative`.
    pub negative_count: usize,
}

sized!(undiffuse_guidance {
    scale: 1.0,
    rescale: 0.0,
    interval_low: 0.0,
    interval_high: f64::INFINITY,
    negative: core::ptr::null(),
    negative_count: 0,
});

/// Fills guidance with the defaults: scale 1, no rescaling, all levels, no negative condition. `struct_size` is
/// sizeof(undiffuse_guidance) as your program was compiled. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_guidance_init(
    guidance: *mut undiffuse_guidance,
    struct_size: usize,
) -> undiffuse_status {
    // SAFETY: pointers are what the header asks for, here and below.
    unsafe { ok(core::ptr::null_mut(), || crate::options::init(guidance, struct_size)) }
}

/// An input of a network.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct undiffuse_input_info {
    /// sizeof(undiffuse_input_info); you set it before the call.
    pub struct_size: usize,
    /// Its name, which ends with a NUL; valid as long as the model.
    pub name: *const c_char,
    /// What it is for.
    pub role: MaybeUninit<undiffuse_input_role>,
    /// 1 if its values are whole numbers from 0 to class_count - 1, 0 for any finite float. They are given as floats
    /// either way.
    pub is_whole: u32,
    /// Dimensions of one row.
    pub rank: usize,
    /// The dimensions as you give them, outermost first: [C, H, W] of an image, [L, D] of L tokens. Those beyond the
    /// rank are 0.
    pub dims: [usize; 4],
    /// Floats of one row: the product of the dimensions.
    pub len: usize,
    /// See `is_whole`.
    pub class_count: usize,
}

sized!(undiffuse_input_info {
    name: core::ptr::null(),
    role: MaybeUninit::new(UNDIFFUSE_INPUT_VALUE),
    is_whole: 0,
    rank: 0,
    dims: [0; 4],
    len: 0,
    class_count: 0,
});

/// Fills *info with input number `index` of the model, below `input_count` of undiffuse_model_info. Those of the roles
/// SAMPLE and TIMESTEP the library fills; the others you give, in `conditions` of undiffuse_session_options, or a class
/// in `classes`. info->struct_size must be set. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_model_get_input(
    model: *const undiffuse_model,
    index: usize,
    info: *mut undiffuse_input_info,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        ok(error, || {
            let model = read(model)?;
            let inputs = &model.inputs;
            let Some((name, input)) = inputs.get(index) else {
                let text = format!("input {index} of a model that has {}", inputs.len());
                return Err(Failure::argument(text));
            };
            let mut i = <undiffuse_input_info as crate::options::VersionedStruct>::defaults();
            let dims = input.given_dims();
            i.name = name.as_ptr();
            i.role = MaybeUninit::new(role(input.role));
            i.is_whole = u32::from(input.rows.is_some());
            i.class_count = input.rows.unwrap_or(0);
            i.rank = dims.rank();
            i.dims[..MAX_RANK.min(dims.rank())].copy_from_slice(dims.as_slice());
            i.len = dims.elements();
            give(info, &i)
        })
    }
}

/// Gives other rows to an input of a session's model, from the next step on; see undiffuse_condition. On an error the
/// session is unchanged. Nothing is allocated where it had as many. Status: UNDIFFUSE_INVALID_ARGUMENT for a name that
/// the model has not, UNDIFFUSE_SHAPE, UNDIFFUSE_NON_FINITE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_session_set_condition(
    session: *mut undiffuse_session,
    condition: *const undiffuse_condition,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        ok(error, || {
            let (name, values) = one(condition)?;
            Ok(write(session)?.chain.denoiser_mut().set_condition(name, values)?)
        })
    }
}

/// As undiffuse_session_set_condition, for a negative condition of a session with guidance, which must have been made
/// with one of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_session_set_negative(
    session: *mut undiffuse_session,
    condition: *const undiffuse_condition,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        ok(error, || {
            let (name, values) = one(condition)?;
            Ok(write(session)?.chain.denoiser_mut().set_negative(name, values)?)
        })
    }
}

/// # Safety
/// NULL or a condition whose pointers are what the header asks for.
unsafe fn one<'a>(condition: *const undiffuse_condition) -> Outcome<(&'a str, &'a [f32])> {
    // SAFETY: the caller's promise.
    unsafe {
        let condition = slice(condition, 1, "condition")?.first().ok_or_else(|| crate::guard::null("condition"))?;
        Ok((
            string(condition.name, "undiffuse_condition.name")?,
            slice(condition.values, condition.values_len, "undiffuse_condition.values")?,
        ))
    }
}

/// The conditions of an array.
///
/// # Safety
/// The pointers are what the header asks for.
unsafe fn all(conditions: *const undiffuse_condition, count: usize, option: &str) -> Outcome<Conditions> {
    let mut found = Conditions::new();
    // SAFETY: the caller's promise, here and below.
    for condition in unsafe { slice(conditions, count, option)? } {
        // SAFETY: as above.
        let (name, values) = unsafe { one(condition)? };
        if found.get(name).is_some() {
            return Err(Failure::argument(format!("{option}: {name:?} is given twice")));
        }
        found.set(name, values.to_vec());
    }
    Ok(found)
}

/// What a session's denoiser is given, checked against the model but for the guidance.
///
/// # Safety
/// The pointers are what the header asks for.
pub(crate) unsafe fn given(
    model: &Model,
    classes: &[f32],
    conditions: *const undiffuse_condition,
    count: usize,
) -> Outcome<Conditions> {
    const OPTION: &str = "undiffuse_session_options.conditions";
    // SAFETY: the caller's promise.
    let mut found = unsafe { all(conditions, count, OPTION)? };
    let Network::Pipeline(pipeline) = &model.network else {
        model.check_classes(classes, "undiffuse_session_options.classes")?;
        if !found.is_empty() {
            return Err(Failure::argument(format!("{OPTION}: conditions are given, but the model is a callback")));
        }
        return Ok(found);
    };
    let class = pipeline.inputs().iter().find(|i| i.role.is_class());
    match class {
        Some(class) if found.get(&class.name).is_some() => {
            if !classes.is_empty() {
                return Err(Failure::argument(format!("{OPTION}: {:?} is given, and classes too", class.name)));
            }
        }
        _ => {
            model.check_classes(classes, "undiffuse_session_options.classes")?;
            if let Some(class) = class {
                found.set(&class.name, classes.to_vec());
            }
        }
    }
    pipeline.check_conditions(&found).map_err(|e| e.context(OPTION))?;
    Ok(found)
}

/// The guidance of an option, if there is one.
///
/// # Safety
/// The pointers are what the header asks for.
pub(crate) unsafe fn guidance(guidance: *const undiffuse_guidance) -> Outcome<Option<Guidance>> {
    if guidance.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise, here and below.
    let g = unsafe { options(guidance)? };
    // SAFETY: as above.
    let negative = unsafe { all(g.negative, g.negative_count, "undiffuse_guidance.negative")? };
    let mut made = Guidance::new(g.scale as f32, negative);
    made.rescale = g.rescale as f32;
    made.interval = [g.interval_low, g.interval_high];
    Ok(Some(made))
}

/// The inputs of a model with their names as C has them.
pub(crate) fn named(inputs: &[Input]) -> Outcome<Vec<(CString, Input)>> {
    let name = |i: &Input| match CString::new(i.name.as_str()) {
        Ok(name) => Ok((name, i.clone())),
        Err(_) => Err(Failure::argument(format!("the input {:?} has a NUL in its name", i.name))),
    };
    inputs.iter().map(name).collect()
}

fn role(role: Role) -> undiffuse_input_role {
    match role {
        Role::Sample => UNDIFFUSE_INPUT_SAMPLE,
        Role::Timestep => UNDIFFUSE_INPUT_TIMESTEP,
        Role::Class => UNDIFFUSE_INPUT_CLASS,
        Role::ClassVector => UNDIFFUSE_INPUT_CLASS_VECTOR,
        Role::Vector => UNDIFFUSE_INPUT_VECTOR,
        Role::Tokens => UNDIFFUSE_INPUT_TOKENS,
        Role::Image => UNDIFFUSE_INPUT_IMAGE,
        Role::Mask => UNDIFFUSE_INPUT_MASK,
        _ => UNDIFFUSE_INPUT_VALUE,
    }
}
