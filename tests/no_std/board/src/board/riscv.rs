//! RISC-V, 32 and 64 bits, as QEMU's machine virt has it: a serial port, a device that ends the emulation, counted
//! instructions.

use core::arch::{asm, global_asm};

// Where there is a floating-point unit it is switched on (mstatus.FS). What is not zero lies where it is used.
global_asm!(
    ".section .text.reset, \"ax\"",
    ".global reset",
    "reset:",
    "la sp, _stack_top",
    "la t0, fault_entry",
    "csrw mtvec, t0",
    "li t0, 0x2000",
    "csrs mstatus, t0",
    "la t0, _bss_start",
    "la t1, _bss_end",
    "1: bgeu t0, t1, 2f",
    "sw zero, 0(t0)",
    "addi t0, t0, 4",
    "j 1b",
    "2: call start",
    ".balign 4",
    "fault_entry:",
    "call fault",
    "3: j 3b",
);

pub fn print(text: &str) {
    let port = core::ptr::with_exposed_provenance_mut::<u8>(0x1000_0000);
    for byte in text.bytes() {
        // SAFETY: the serial port, which QEMU empties at once.
        unsafe { port.write_volatile(byte) }
    }
}

pub fn exit(good: bool) -> ! {
    let finisher = core::ptr::with_exposed_provenance_mut::<u32>(0x0010_0000);
    // SAFETY: the device that ends QEMU, with status 0 or 1.
    unsafe { finisher.write_volatile(if good { 0x5555 } else { 0x1_3333 }) }
    loop {}
}

/// Instructions so far.
pub fn instructions() -> u64 {
    #[cfg(target_arch = "riscv64")]
    {
        let count: u64;
        // SAFETY: reads a counter.
        unsafe { asm!("csrr {}, minstret", out(reg) count) }
        count
    }
    #[cfg(target_arch = "riscv32")]
    loop {
        let (high, low, again): (u32, u32, u32);
        // SAFETY: as above, in two halves.
        unsafe {
            asm!("csrr {}, minstreth", "csrr {}, minstret", "csrr {}, minstreth", out(reg) high, out(reg) low, out(reg) again)
        }
        if high == again {
            return u64::from(high) << 32 | u64::from(low);
        }
    }
}
