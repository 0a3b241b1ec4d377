//! `digits_int4` of tests/no_std/write_models.rs as a program.
#![no_std]
#![no_main]

#[path = "../run.rs"]
mod run;

include!(concat!(env!("OUT_DIR"), "/digits_int4.rs"));

static mut WORKSPACE: [f32; MODEL.workspace_len()] = [0.0; MODEL.workspace_len()];

#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    // SAFETY: the program begins here, once.
    run::run(&MODEL, &[], unsafe { &mut *(&raw mut WORKSPACE) })
}
