//! AArch64 as QEMU's machine virt has it: a serial port, semihosting to end the emulation, counted cycles.

use core::arch::{asm, global_asm};

// NEON is switched on, and so is memory translation, one to one: without it all memory counts as a device's, which a
// vector may not be read from wherever it lies. The first GiB is devices, the second RAM.
global_asm!(
    ".section .text.reset, \"ax\"",
    ".global reset",
    "reset:",
    "mov x0, #(3 << 20)",
    "msr cpacr_el1, x0",
    "ldr x0, =vectors",
    "msr vbar_el1, x0",
    "ldr x0, =0xff00",
    "msr mair_el1, x0",
    "ldr x0, =translation",
    "msr ttbr0_el1, x0",
    "ldr x0, =0x803520",
    "msr tcr_el1, x0",
    "isb",
    "mrs x0, sctlr_el1",
    "ldr x1, =0x1005",
    "orr x0, x0, x1",
    "bic x0, x0, #2",
    "msr sctlr_el1, x0",
    "isb",
    "ldr x0, =_stack_top",
    "mov sp, x0",
    "ldr x0, =_bss_start",
    "ldr x1, =_bss_end",
    "1: cmp x0, x1",
    "b.hs 2f",
    "str xzr, [x0], #8",
    "b 1b",
    "2: bl start",
    "3: b 3b",
    ".ltorg",
    ".balign 2048",
    "vectors:",
    ".rept 16",
    "bl fault",
    ".balign 128",
    ".endr",
    ".section .rodata.translation, \"a\"",
    ".balign 4096",
    "translation:",
    ".quad 0x00000000 + 0x401",
    ".quad 0x40000000 + 0x705",
    ".quad 0",
    ".quad 0",
);

pub fn print(text: &str) {
    let port = core::ptr::with_exposed_provenance_mut::<u32>(0x0900_0000);
    for byte in text.bytes() {
        // SAFETY: the serial port, which QEMU empties at once.
        unsafe { port.write_volatile(u32::from(byte)) }
    }
}

pub fn exit(good: bool) -> ! {
    // ADP_Stopped_ApplicationExit and the status.
    let block = [0x20026u64, u64::from(!good)];
    // SAFETY: SYS_EXIT; QEMU is started with semihosting on and reads the block.
    unsafe { asm!("hlt #0xf000", in("x0") 0x18u64, in("x1") block.as_ptr()) }
    loop {}
}

/// Cycles so far, which are instructions when QEMU counts one for each nanosecond: its processors have 1 GHz.
pub fn instructions() -> u64 {
    let count: u64;
    // SAFETY: switches the cycle counter on and reads it.
    unsafe {
        asm!("msr pmcr_el0, {}", in(reg) 0x41u64);
        asm!("msr pmcntenset_el0, {}", in(reg) 1u64 << 31);
        asm!("isb", "mrs {}, pmccntr_el0", out(reg) count);
    }
    count
}
