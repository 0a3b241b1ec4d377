//! The methods, with what each needs and takes.

use core::ffi::c_char;
use core::mem::MaybeUninit;

use undiffuse::posterior::{MethodKind, MethodNoise, MethodOperator};

use crate::enums::undiffuse_method::{self, *};
use crate::enums::undiffuse_method_noise::{self, *};
use crate::enums::undiffuse_method_operator::{self, *};
use crate::guard::ok;
use crate::options::{VersionedStruct, give, sized, value};
use crate::status::{Failure, undiffuse_error, undiffuse_status};

/// What the library calls each method.
const METHODS: [(undiffuse_method, MethodKind); 19] = [
    (UNDIFFUSE_METHOD_CALIBRATED, MethodKind::Calibrated),
    (UNDIFFUSE_METHOD_CALIBRATED_WHITE, MethodKind::CalibratedWhite),
    (UNDIFFUSE_METHOD_DPS, MethodKind::Dps),
    (UNDIFFUSE_METHOD_MCG, MethodKind::Mcg),
    (UNDIFFUSE_METHOD_PIGDM, MethodKind::Pigdm),
    (UNDIFFUSE_METHOD_TMPD, MethodKind::Tmpd),
    (UNDIFFUSE_METHOD_DDRM, MethodKind::Ddrm),
    (UNDIFFUSE_METHOD_DDNM, MethodKind::Ddnm),
    (UNDIFFUSE_METHOD_DDNM_PLUS, MethodKind::DdnmPlus),
    (UNDIFFUSE_METHOD_DIFFPIR, MethodKind::DiffPir),
    (UNDIFFUSE_METHOD_REPAINT, MethodKind::KnownPixels),
    (UNDIFFUSE_METHOD_CLAMP, MethodKind::Clamp),
    (UNDIFFUSE_METHOD_EXACT_PRODUCT, MethodKind::ExactProduct),
    (UNDIFFUSE_METHOD_MEAN_SHIFT, MethodKind::MeanShift),
    (UNDIFFUSE_METHOD_SPLIT_GIBBS, MethodKind::SplitGibbs),
    (UNDIFFUSE_METHOD_DAPS, MethodKind::Daps),
    (UNDIFFUSE_METHOD_RED_DIFF, MethodKind::RedDiff),
    (UNDIFFUSE_METHOD_SITCOM, MethodKind::Sitcom),
    (UNDIFFUSE_METHOD_FPS, MethodKind::Fps),
];

/// What a method needs and takes, with its options at their defaults.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct undiffuse_method_info {
    /// sizeof(undiffuse_method_info); you set it before the call.
    pub struct_size: usize,
    /// Its name, which the program's `--method` takes too: ASCII, NUL-terminated.
    pub name: [c_char; 32],
    /// The noise that it takes.
    pub noise: MaybeUninit<undiffuse_method_noise>,
    /// The operators that it takes.
    pub operators: MaybeUninit<undiffuse_method_operator>,
    /// Vector-Jacobian products of the network in a step; where it is above 0 the model must have been loaded with a
    /// gradient.
    pub product_count: usize,
}

sized!(undiffuse_method_info {
    name: [0; 32],
    noise: MaybeUninit::new(UNDIFFUSE_METHOD_NOISE_ANY),
    operators: MaybeUninit::new(UNDIFFUSE_METHOD_OPERATOR_ANY),
    product_count: 0,
});

/// Writes what a method needs and takes to *info, whose struct_size you set; so a program can offer the methods that
/// suit a measurement and a model. Status: UNDIFFUSE_INVALID_ARGUMENT for a number that is no method. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_method_get_info(
    method: MaybeUninit<undiffuse_method>,
    info: *mut undiffuse_method_info,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        ok(error, || {
            let method = value(method)?;
            let kind = METHODS.iter().find(|(m, _)| *m == method).map(|(_, kind)| *kind);
            let of = kind.ok_or_else(|| Failure::argument("the method is not in the table"))?.traits();
            let mut i = <undiffuse_method_info as VersionedStruct>::defaults();
            let room = i.name.len() - 1;
            i.name.iter_mut().zip(of.name.bytes().take(room)).for_each(|(to, b)| *to = b as c_char);
            i.noise = MaybeUninit::new(match of.noise {
                MethodNoise::Positive => UNDIFFUSE_METHOD_NOISE_POSITIVE,
                MethodNoise::Zero => UNDIFFUSE_METHOD_NOISE_ZERO,
                _ => UNDIFFUSE_METHOD_NOISE_ANY,
            });
            i.operators = MaybeUninit::new(match of.operator {
                MethodOperator::Elements => UNDIFFUSE_METHOD_OPERATOR_ELEMENTS,
                MethodOperator::Mask => UNDIFFUSE_METHOD_OPERATOR_MASK,
                MethodOperator::Forward => UNDIFFUSE_METHOD_OPERATOR_FORWARD,
                _ => UNDIFFUSE_METHOD_OPERATOR_ANY,
            });
            i.product_count = of.products;
            give(info, &i)
        })
    }
}
