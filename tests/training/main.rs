//! Training: engine, optimisers, and what is fitted.

#[path = "../common/draw.rs"]
mod draw;
#[path = "../common/op_suite.rs"]
mod op_suite;
#[path = "../common/pcg.rs"]
mod pcg;
#[path = "../common/scratch.rs"]
mod scratch;

mod datasets;
mod engine;
mod experiments;
mod learned_betas;
mod mean_field;
mod mpf;
mod optim;
mod sfo;
