//! The command-line program as its users run it.

#[path = "../common/pcg.rs"]
mod pcg;
#[path = "../common/program.rs"]
mod program;
#[path = "../common/scratch.rs"]
mod scratch;
#[path = "../common/seeded.rs"]
mod seeded;
#[path = "../common/seeded_file.rs"]
mod seeded_file;
#[path = "../common/tiny.rs"]
mod tiny;
#[path = "../common/tiny_scratch.rs"]
mod tiny_scratch;

mod cli;
mod conditions;
mod directories;
mod evaluate;
mod formats;
mod from_image;
mod groups;
mod import;
mod latent;
mod models;
mod nonlinear;
mod output;
mod photographs;
mod pictures;
mod restore;
mod samplers;
mod scheduler_files;
#[cfg(feature = "training")]
mod train;
