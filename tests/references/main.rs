//! What is equal to arrays and constants of others: each module names its source.

#[path = "../common/golden.rs"]
mod golden;
#[path = "../common/layout_suite.rs"]
mod layout_suite;
#[path = "../common/pcg.rs"]
mod pcg;
#[path = "../common/seeded.rs"]
mod seeded;

mod autoencoders;
mod brownian;
mod chains;
mod conditions;
mod continuous;
mod d3pm;
mod edm;
mod families;
mod fixed;
mod grids;
mod noise;
mod operations;
mod order;
mod pcg_recipe;
mod posterior;
mod preconditioning;
mod rk45;
mod samplers;
mod schedulers;
mod sde_third_order;
mod seeds;
mod unet;
mod usual;
