//! A Cortex-M program with one model as a part of it, without a heap: `digits_int4` of tests/no_std/models.rs.
#![no_std]
#![no_main]

#[path = "../board.rs"]
mod board;

include!(concat!(env!("OUT_DIR"), "/digits_int4.rs"));

#[cortex_m_rt::entry]
fn main() -> ! {
    static mut WORKSPACE: [f32; MODEL.workspace_len()] = [0.0; MODEL.workspace_len()];
    board::run("digits_int4", &MODEL, WORKSPACE)
}
