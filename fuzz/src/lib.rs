//! What each fuzz target does with its bytes.
//!
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run NAME` runs a target; `.ci/run fuzz` runs all of them for a short time. The seeds,
//! cut short and changed a little, are also a test: `tests/networks/seeds.rs`, and `ffi/tests/seeds.rs` of the calls
//! through C. `cargo run --bin make_corpus` writes the committed seeds anew.

pub mod c_calls;
mod inputs;

pub use inputs::*;
