//! A lean runtime for pretrained diffusion models: the reverse chain, and sampling from p(x) r(x), a model p under
//! evidence r.
//!
//! It loads a model that was trained and exported elsewhere, a pipeline directory of diffusers or one packed file, and
//! runs it on the CPU with kernels of its own, without `std` if need be, or on a GPU. The same seed gives the same bits
//! for any batch and number of threads.
//!
//! ```
//! use undiffuse::backend::cpu::Cpu;
//! use undiffuse::chain::{Chain, ChainOptions};
//! use undiffuse::noise::Seeded;
//! use undiffuse::pipeline::{Pipeline, PipelineOptions};
//! use undiffuse::sampler::{SamplerOptions, Steps};
//!
//! let pipeline = Pipeline::open("pretrained/digits.safetensors", &Cpu::new()?, &PipelineOptions::default())?;
//! // What `undiffuse sample` runs, UniPC, in fewer steps than its 20.
//! let usual = SamplerOptions::default_for(&pipeline.scheduler()?, None);
//! let sampler = pipeline.sampler(&SamplerOptions { steps: Steps::Count(10), ..usual })?;
//! let mut chain = Chain::new(pipeline.denoiser(2, &[])?, sampler, Seeded::new(42), &ChainOptions { batch: 2, first_sample: 0 })?;
//! chain.run()?;
//! let images: &[f32] = chain.x(); // [2, 1, 28, 28], in [-1, 1]
//! assert_eq!(images.len(), 2 * 28 * 28);
//! # Ok::<(), undiffuse::Error>(())
//! ```
//!
//! # Where to go
//!
//! - A model from disk or memory: [`pipeline`]. Networks of your own engine: [`denoiser::FnDenoiser`].
//! - A run that is stepped, watched, cancelled, saved: [`chain`]. Steps without a chain: [`sampler::Sampler::step`].
//! - Restoring what was measured, and which method does it best: [`posterior`].
//! - How likely data are under a model: [`evaluate`].
//! - Without `std`: the crate without default features, `examples/embedded`; for one model in little flash, [`embed`].
//! - From C and C++: `include/undiffuse.h` says all there is to know.
//!
//! What is public but not in this documentation is there for the program, the C library and tests, and may change in
//! any version.
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `std` | yes | files, the choice of kernels at run time |
//! | `messages` | with `std` | errors that name values; without it their texts are fixed, and a program is 100 kB smaller |
//! | `threads` | yes | the cpu backend's own thread pool |
//! | `ndarray` | yes | views from and to `ndarray` |
//! | `embed` | no | models as parts of programs, for build scripts |
//! | `import` | no | ONNX files of denoisers, translated |
//! | `training` | no | gradients by parameters and training |
//! | `wgpu` | no | the GPU backend |
//! | `cli` | no | the program `undiffuse` |
//!
//! # The modules
//!
//! Each may use only those above it; ARCHITECTURE.md says why.
//!
//! | module | what it is for |
//! |---|---|
//! | [`error`] | the one error: a kind for code, one line for a person |
//! | [`tensor`] | dimensions and element types, with checked products |
//! | [`json`] | JSON as Python writes it, with NaN and infinities, bounded |
//! | [`npy`] | NumPy's arrays, read |
//! | [`values`] | what the values of a file mean, the affine maps between scales |
//! | [`cancel`] | the flag that stops a run from any thread |
//! | [`noise`] | streams of normals keyed by seed, sample and draw; noise that the caller gives; the generators of PyTorch, NumPy and JAX |
//! | [`schedule`] | betas, cumulative alphas, timesteps, grids of sigmas |
//! | [`process`] | the Gaussian, binomial and categorical processes: forward and posterior moments, divergences, continuous time, what a prediction means |
//! | [`sampler`] | one file per algorithm, nearly all of them lists of network calls with mixing coefficients (`Plan`); diffusers' scheduler configurations |
//! | [`posterior`] | evidence: operators, linear and not, the methods that draw from p(x) r(x) |
//! | [`graph`] | a network as data: values, operations, shapes; fusion; the plan of memory |
//! | [`weights`] | bounded readers of safetensors, diffusers directories and packed files |
//! | `import` | ONNX files of denoisers, translated into graphs (feature `import`) |
//! | [`model`] | each turns a configuration into a graph |
//! | [`backend`] | runs a graph: `reference` (the oracle), `cpu`, and `wgpu` behind the feature of its name; which of them, by name |
//! | [`denoiser`] | what predicts: a compiled network, a closure, an analytic prior; one of tiles for images of any size |
//! | [`chain`] | the loop as a resumable state machine |
//! | [`evaluate`] | bounds on the log-likelihood and on entropies, the Parzen window estimate |
//! | [`codec`] | between samples and data: the scale of 2015's models, the decoder of latents and their encoder, in tiles |
//! | [`pipeline`] | a model and its scheduler, and of a latent model its decoder and encoder, from one directory or file |
//! | [`calibrate`] | the scales with which a model computes in 8-bit integers, measured by sampling from it |
//! | [`embed`] | a model that is a part of the program, and the writer of such (feature `embed`) |
//! | `arrays` | views from and to `ndarray` at the public edge (feature `ndarray`) |
//! | `training` | networks from data: gradients for a batch, losses, optimisers, readers and generators, the loop, minimum probability flow, mean-field theory of deep networks (feature `training`) |
#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(unsafe_code)]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

#[cfg(feature = "ndarray")]
pub mod arrays;
pub mod backend;
pub mod calibrate;
#[doc(hidden)]
pub mod cancel;
pub mod chain;
pub mod codec;
pub mod denoiser;
pub mod embed;
mod emit;
#[doc(hidden)]
pub mod error;
pub mod evaluate;
#[cfg(feature = "std")]
mod files;
pub mod graph;
#[cfg(feature = "import")]
pub mod import;
mod int4;
#[doc(hidden)]
pub mod json;
mod matmul;
mod memory;
pub mod model;
pub mod noise;
#[doc(hidden)]
pub mod npy;
pub mod pipeline;
pub mod posterior;
pub mod process;
pub mod sampler;
pub mod schedule;
mod sniff;
pub mod tensor;
mod tiles;
#[cfg(feature = "training")]
pub mod training;
pub mod values;
pub mod weights;

#[doc(inline)]
pub use cancel::Cancel;
#[doc(inline)]
pub use error::{Error, ErrorKind, Result};

/// The README's example is a test like any other.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
