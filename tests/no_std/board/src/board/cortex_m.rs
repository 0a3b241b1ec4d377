//! Cortex-M4 and -M7 as QEMU's mps2 boards have them: semihosting prints, a timer counts instructions.

use core::arch::{asm, global_asm};

// The vector table; then the floating-point unit is switched on and initial data goes from flash to RAM.
global_asm!(
    ".section .vectors, \"a\"",
    ".word _stack_top",
    ".word reset",
    ".rept 14",
    ".word fault_entry",
    ".endr",
    ".section .text.reset, \"ax\"",
    ".global reset",
    ".type reset, %function",
    ".thumb_func",
    "reset:",
    "ldr r0, =0xe000ed88",
    "ldr r1, [r0]",
    "orr r1, r1, #0xf00000",
    "str r1, [r0]",
    "dsb",
    "isb",
    "ldr r0, =_data_start",
    "ldr r1, =_data_end",
    "ldr r2, =_data_load",
    "1: cmp r0, r1",
    "beq 2f",
    "ldr r3, [r2], #4",
    "str r3, [r0], #4",
    "b 1b",
    "2: ldr r0, =_bss_start",
    "ldr r1, =_bss_end",
    "movs r3, #0",
    "3: cmp r0, r1",
    "beq 4f",
    "str r3, [r0], #4",
    "b 3b",
    "4: bl start",
    "udf #0",
    ".type fault_entry, %function",
    ".thumb_func",
    "fault_entry:",
    "bl fault",
    "udf #0",
    ".ltorg",
);

/// A call of the debugger that QEMU plays.
fn semihosting(operation: usize, argument: usize) {
    // SAFETY: QEMU is started with semihosting on; it reads what the argument points at and changes r0 alone.
    unsafe { asm!("bkpt 0xab", inlateout("r0") operation => _, in("r1") argument) }
}

pub fn print(text: &str) {
    // SYS_WRITE0 takes a string that ends in 0.
    for piece in text.as_bytes().chunks(63) {
        let mut buffer = [0u8; 64];
        buffer.iter_mut().zip(piece).for_each(|(to, from)| *to = *from);
        semihosting(0x04, buffer.as_ptr().addr());
    }
}

pub fn exit(good: bool) -> ! {
    // SYS_EXIT with ADP_Stopped_ApplicationExit, or with a reason that QEMU takes for a failure.
    semihosting(0x18, if good { 0x20026 } else { 0x20024 });
    loop {}
}

const TIMER: usize = 0x4000_0000;

/// Instructions so far, in steps of 40, when QEMU counts one for each nanosecond: the timer runs at 25 MHz. It lasts
/// for 170 thousand million of them.
pub fn instructions() -> u64 {
    let register = |offset: usize| core::ptr::with_exposed_provenance_mut::<u32>(TIMER + offset);
    // SAFETY: the registers of the board's first timer: control, value, reload.
    unsafe {
        if register(0).read_volatile() == 0 {
            register(8).write_volatile(u32::MAX);
            register(4).write_volatile(u32::MAX);
            register(0).write_volatile(1);
        }
        u64::from(u32::MAX - register(4).read_volatile()) * 40
    }
}
