//! undiffuse for a web page: one model and one run at a time, as plain WebAssembly exports. `undiffuse.js` is the
//! other side; nothing else needs to know this interface.
//!
//! All memory is the module's. The caller asks for room, writes there, and calls; what it reads it finds at an
//! address until the next call. No function takes a pointer, so nothing here can be given a wrong one.
//!
//! | export | what it does |
//! |---|---|
//! | `bytes(n)` | room for a model's file or a task's JSON; its address, 0 where memory is refused |
//! | `values(n)` | room for `n` floats: the picture of a task, then its mask |
//! | `load(gradient)` | makes the model of the bytes, with gradients where not 0 |
//! | `begin()` | begins the task in the bytes: see [`Task`] |
//! | `step()` | makes one step |
//! | `predict(n, t)` | one network call on `n` samples in the values, at timestep `t` |
//! | `x()`, `x0()`, `x_len()` | the samples, what the last step predicted of them, how many floats |
//! | `position()`, `steps()` | the steps made, and in all |
//! | `text()`, `text_len()` | UTF-8: the model's description after `load`, else the error |
//!
//! What can fail returns 0, or 1 and then `text` is the error's kind, a newline and its message.

mod engine;
mod task;

use std::cell::RefCell;

use engine::Engine;
pub use task::{Method, Task};

thread_local! {
    static ENGINE: RefCell<Engine> = RefCell::new(Engine::default());
}

fn with<T>(f: impl FnOnce(&mut Engine) -> T) -> T {
    ENGINE.with_borrow_mut(f)
}

/// 0, or 1 and the error as the text.
fn status(f: impl FnOnce(&mut Engine) -> undiffuse::Result<()>) -> u32 {
    with(|engine| match f(engine) {
        Ok(()) => 0,
        Err(e) => {
            engine.text = format!("{:?}\n{}", e.kind(), e.message());
            1
        }
    })
}

/// Room for `n` bytes, or null.
#[unsafe(no_mangle)]
pub extern "C" fn bytes(n: usize) -> *mut u8 {
    with(|engine| engine.room_for_bytes(n).map_or(std::ptr::null_mut(), |b| b.as_mut_ptr()))
}

/// Room for `n` floats, or null.
#[unsafe(no_mangle)]
pub extern "C" fn values(n: usize) -> *mut f32 {
    with(|engine| engine.room_for_values(n).map_or(std::ptr::null_mut(), |v| v.as_mut_ptr()))
}

/// Makes the model of the bytes.
#[unsafe(no_mangle)]
pub extern "C" fn load(gradient: u32) -> u32 {
    status(|engine| engine.load(gradient != 0))
}

/// Begins the task in the bytes.
#[unsafe(no_mangle)]
pub extern "C" fn begin() -> u32 {
    status(Engine::begin)
}

/// Makes one step.
#[unsafe(no_mangle)]
pub extern "C" fn step() -> u32 {
    status(Engine::step)
}

/// One network call; its result is `x`.
#[unsafe(no_mangle)]
pub extern "C" fn predict(samples: usize, timestep: f64) -> u32 {
    status(|engine| engine.predict(samples, timestep))
}

/// The samples.
#[unsafe(no_mangle)]
pub extern "C" fn x() -> *const f32 {
    with(|engine| engine.x().as_ptr())
}

/// What the last step predicted of them.
#[unsafe(no_mangle)]
pub extern "C" fn x0() -> *const f32 {
    with(|engine| engine.x0().as_ptr())
}

/// Floats of `x` and of `x0`.
#[unsafe(no_mangle)]
pub extern "C" fn x_len() -> usize {
    with(|engine| engine.x().len())
}

/// Steps made.
#[unsafe(no_mangle)]
pub extern "C" fn position() -> usize {
    with(|engine| engine.position())
}

/// Steps in all.
#[unsafe(no_mangle)]
pub extern "C" fn steps() -> usize {
    with(|engine| engine.steps())
}

/// The description or the error.
#[unsafe(no_mangle)]
pub extern "C" fn text() -> *const u8 {
    with(|engine| engine.text.as_ptr())
}

/// Bytes of it.
#[unsafe(no_mangle)]
pub extern "C" fn text_len() -> usize {
    with(|engine| engine.text.len())
}
