//! Intel's AMX: products of whole tiles of bf16, 16 rows by 16 columns by up to 32 values, in one instruction.
//!
//! Linux keeps the registers of a tile for a process that asks for them, once, and each thread of it that uses them
//! then has 8 KiB more of state. [`permit`] asks when the first layer of bf16 is packed, so that a host that wants f32
//! never does. The registers are a thread's while it holds [`Tiles`], for the time of a task: nothing of them is seen
//! outside, and a thread that is not at it is switched as fast as any.
#![allow(unsafe_code)] // Questions to the processor and to Linux, and a kernel of instructions that Rust does not know.

use core::arch::asm;
use core::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use core::marker::PhantomData;
use core::mem::offset_of;

use super::gemm::Segment;

/// Rows, and columns, of a tile of sums.
pub const SIDE: usize = 16;
/// The most pairs of values along which one instruction sums.
pub const DEEPEST: usize = 16;

/// Whether the processor has tiles of bf16 and Linux keeps their registers.
pub fn found() -> bool {
    if !cfg!(target_os = "linux") {
        return false;
    }
    const OSXSAVE: u32 = 1 << 27;
    const BF16_AND_TILES: u32 = 1 << 22 | 1 << 24;
    const TILE_STATES: u64 = 3 << 17;
    #[allow(unused_unsafe)] // The questions to CPUID are safe in newer Rust.
    // SAFETY: every x86-64 has CPUID, and with OSXSAVE XGETBV.
    unsafe {
        if __cpuid(0).eax < 7 || __cpuid(1).ecx & OSXSAVE == 0 {
            return false;
        }
        #[target_feature(enable = "xsave")]
        fn kept() -> u64 {
            // SAFETY: the first register of extended states, which is there with OSXSAVE.
            unsafe { _xgetbv(0) }
        }
        __cpuid_count(7, 0).edx & BF16_AND_TILES == BF16_AND_TILES && kept() & TILE_STATES == TILE_STATES
    }
}

/// Whether the processor is one of Intel's.
pub fn is_intel() -> bool {
    #[allow(unused_unsafe)] // As above.
    // SAFETY: every x86-64 has CPUID.
    let maker = unsafe { __cpuid(0) };
    [maker.ebx, maker.edx, maker.ecx].map(u32::to_le_bytes).as_flattened() == b"GenuineIntel"
}

/// Asks Linux for the registers; whether this process may use them. Asked again it is as before.
#[cfg(target_os = "linux")]
pub fn permit() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
    const XFEATURE_XTILEDATA: i64 = 18;
    let result: i64;
    // SAFETY: a system call that touches no memory of the process.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XFEATURE_XTILEDATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result == 0
}

/// Nobody to ask.
#[cfg(not(target_os = "linux"))]
pub fn permit() -> bool {
    false
}

/// How the registers are cut: sums in the first four, rows of A in two, B in two.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Shapes {
    palette: u8,
    start: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Shapes {
    /// For sums along `depth` pairs in each instruction, `1..=DEEPEST`.
    pub fn new(depth: usize) -> Self {
        let depth = depth.clamp(1, DEEPEST) as u8;
        let (mut row_bytes, mut rows) = ([0; 16], [0; 16]);
        for tile in 0..8 {
            (row_bytes[tile], rows[tile]) = match tile {
                4 | 5 => (4 * u16::from(depth), SIDE as u8),
                6 | 7 => (4 * SIDE as u16, depth),
                _ => (4 * SIDE as u16, SIDE as u8),
            };
        }
        Self { palette: 1, start: 0, reserved: [0; 14], row_bytes, rows }
    }
}

/// A thread's registers, cut by [`Shapes`], until it is dropped.
#[derive(Debug)]
pub struct Tiles {
    /// Of the thread that made it.
    _here: PhantomData<*const ()>,
}

impl Tiles {
    /// # Safety
    /// [`permit`] was given, and this thread holds no others.
    pub unsafe fn new(shapes: &Shapes) -> Self {
        // SAFETY: the process may use them, and the shapes are of palette 1, which such processors have.
        unsafe { asm!("ldtilecfg [{}]", in(reg) shapes, options(nostack)) };
        Self { _here: PhantomData }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: they are this thread's, and nothing in them is wanted any more.
        unsafe { asm!("tilerelease", options(nostack)) };
    }
}

/// What a [`Multiply`] multiplies.
#[derive(Debug)]
pub struct Operands<'a> {
    /// The first row of A, pairs of bf16, and bytes from one row to the next.
    pub a: *const f32,
    pub row: usize,
    /// The steps of the sum, at least one: `depth` pairs of a row from an offset on.
    pub steps: &'a [Segment],
    /// Rows of B, pairs of bf16, one after the other, and bytes from one to the next.
    pub b: *const u8,
    pub panel: usize,
    /// Bytes from one step's rows of B to those of the next.
    pub step: usize,
    /// Bytes from one row of sums to the next.
    pub pitch: usize,
    /// What is asked for meanwhile, from its first byte on, which need not be there, and cache lines of it at each
    /// step.
    pub ahead: *const u8,
    pub lines: usize,
}

/// A kernel: the sums of its rows from `sums` on.
pub type Multiply = unsafe fn(&Operands<'_>, sums: *mut f32);

/// A kernel of the given instructions. In them `a` is a step's place in A, `b` in B, and at the end `t`
/// the pitch. Prefetches are for a cache that
/// has room for whole panels.
macro_rules! kernel {
    ($name:ident($o:ident), with: [$($with:tt)*], zero: [$($zero:literal)*], step: [$($step:literal)*], store: [$($store:literal)*]) => {
        /// # Safety
        /// This thread holds `Tiles`; A has 16 or 32 rows of all steps, B all steps of 16 or 32 columns, both of the
        /// depth of their shapes, and `sums` room for as many rows and columns.
        unsafe fn $name($o: &Operands<'_>, sums: *mut f32) {
            // SAFETY: the caller's contract. What the registers hold is this statement's alone.
            unsafe {
                asm!(
                    $($zero,)*
                    "2:",
                    "mov {t}, [{o} + {lines}]",
                    "test {t}, {t}",
                    "jz 4f",
                    "3:",
                    "prefetcht1 [{ahead}]",
                    "add {ahead}, 64",
                    "dec {t}",
                    "jnz 3b",
                    "4:",
                    "mov {t}, [{steps} + {offset}]",
                    "mov {a}, [{o} + {first}]",
                    "lea {a}, [{a} + 4 * {t}]",
                    "add {steps}, {size}",
                    $($step,)*
                    "add {b}, [{o} + {step}]",
                    "dec {count}",
                    "jnz 2b",
                    "mov {t}, [{o} + {pitch}]",
                    $($store,)*
                    o = in(reg) $o,
                    t = out(reg) _,
                    a = out(reg) _,
                    steps = inout(reg) $o.steps.as_ptr() => _,
                    ahead = inout(reg) $o.ahead => _,
                    row = in(reg) $o.row,
                    b = inout(reg) $o.b => _,
                    panel = in(reg) $o.panel,
                    count = inout(reg) $o.steps.len() => _,
                    sums = inout(reg) sums => _,
                    lines = const offset_of!(Operands<'_>, lines),
                    first = const offset_of!(Operands<'_>, a),
                    pitch = const offset_of!(Operands<'_>, pitch),
                    step = const offset_of!(Operands<'_>, step),
                    offset = const offset_of!(Segment, offset),
                    size = const size_of::<Segment>(),
                    $($with)*
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }
    };
}

kernel!(one_by_one(o), with: [],
    zero: ["tilezero tmm0"],
    step: [
        "tileloadd tmm4, [{a} + {row}]" "tileloadd tmm6, [{b} + {panel}]" "tdpbf16ps tmm0, tmm4, tmm6"
    ],
    store: ["tilestored [{sums} + {t}], tmm0"]
);
kernel!(one_by_two(o), with: [],
    zero: ["tilezero tmm0" "tilezero tmm1"],
    step: [
        "tileloadd tmm4, [{a} + {row}]" "tileloadd tmm6, [{b} + {panel}]" "tdpbf16ps tmm0, tmm4, tmm6"
        "tileloadd tmm7, [{b} + {panel} + 64]" "tdpbf16ps tmm1, tmm4, tmm7"
    ],
    store: ["tilestored [{sums} + {t}], tmm0" "tilestored [{sums} + {t} + 64], tmm1"]
);
kernel!(two_by_one(o), with: [down = in(reg) SIDE * o.row,],
    zero: ["tilezero tmm0" "tilezero tmm2"],
    step: [
        "tileloadd tmm4, [{a} + {row}]" "tileloadd tmm6, [{b} + {panel}]" "tdpbf16ps tmm0, tmm4, tmm6"
        "add {a}, {down}" "tileloadd tmm5, [{a} + {row}]" "tdpbf16ps tmm2, tmm5, tmm6"
    ],
    store: [
        "tilestored [{sums} + {t}], tmm0"
        "mov {a}, {t}" "shl {a}, 4" "add {sums}, {a}" "tilestored [{sums} + {t}], tmm2"
    ]
);
kernel!(two_by_two(o), with: [down = in(reg) SIDE * o.row,],
    zero: ["tilezero tmm0" "tilezero tmm1" "tilezero tmm2" "tilezero tmm3"],
    step: [
        "tileloadd tmm4, [{a} + {row}]" "tileloadd tmm6, [{b} + {panel}]" "tdpbf16ps tmm0, tmm4, tmm6"
        "tileloadd tmm7, [{b} + {panel} + 64]" "tdpbf16ps tmm1, tmm4, tmm7"
        "add {a}, {down}" "tileloadd tmm5, [{a} + {row}]" "tdpbf16ps tmm2, tmm5, tmm6" "tdpbf16ps tmm3, tmm5, tmm7"
    ],
    store: [
        "tilestored [{sums} + {t}], tmm0" "tilestored [{sums} + {t} + 64], tmm1"
        "mov {a}, {t}" "shl {a}, 4" "add {sums}, {a}"
        "tilestored [{sums} + {t}], tmm2" "tilestored [{sums} + {t} + 64], tmm3"
    ]
);

/// The kernel for so many tiles of rows and of columns, 1 or 2 of each; the last for more.
pub fn kernel(rows: usize, columns: usize) -> Multiply {
    match (rows, columns) {
        (0 | 1, 0 | 1) => one_by_one,
        (0 | 1, _) => one_by_two,
        (_, 0 | 1) => two_by_one,
        _ => two_by_two,
    }
}
