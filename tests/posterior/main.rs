//! Samples of p(x) r(x) against posteriors that are known, and the rules of the methods.

#[path = "../common/affine.rs"]
mod affine;
#[path = "../common/every_sampler.rs"]
mod every_sampler;
#[path = "../common/golden.rs"]
mod golden;
#[path = "../common/pcg.rs"]
mod pcg;

mod binary_chain;
mod class_chain;
mod daps;
mod dps_density;
mod exact;
mod exact_gaussian;
mod fps;
mod from_data;
mod gradient;
mod kinds;
mod lahmc;
mod matrix;
mod methods;
mod mixture;
mod nonlinear;
mod particles;
mod red_diff;
mod restore_digits;
mod rules;
mod same_bits;
mod sitcom;
mod split_gibbs;
mod stopped;
mod variance;
mod zero_snr;
