//! What the repository promises of itself.

extern crate alloc;

#[path = "../common/pcg.rs"]
mod pcg;
#[path = "../../examples/embedded/samples.rs"]
mod samples;
#[path = "../common/tiny.rs"]
mod tiny;

mod layering;
mod links;
mod no_std;
mod public_api;
