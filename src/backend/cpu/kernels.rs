//! The door for `benches/kernels.rs` (feature `bench`). No promise of any kind stands behind what it shows.
//!
//! What is safe here is so: one piece of memory cannot be the output of two calls at once.
//!
//! ```
//! # use undiffuse::backend::cpu::kernels::*;
//! # let (isa, size) = (Isa::best(), ConvShape::linear(1, 1));
//! let conv = PackedConv::with_algorithm(isa, size, Algorithm::Direct, &[2.0], None)?;
//! let call = conv.bind(1, ConvArgs::new(&[3.0], 1))?;
//! let (mut out, mut others) = ([0.0], [0.0]);
//! std::thread::scope(|s| {
//!     s.spawn(|| call.run(&mut out, &mut [], &mut []));
//!     s.spawn(|| call.run(&mut others, &mut [], &mut []));
//! });
//! assert_eq!((out, others), ([6.0], [6.0]));
//! # Ok::<(), undiffuse::Error>(())
//! ```
//!
//! The same with one output for both is refused:
//!
//! ```compile_fail,E0499
//! # #![forbid(unsafe_code)]
//! # use undiffuse::backend::cpu::kernels::*;
//! # let (isa, size) = (Isa::best(), ConvShape::linear(1, 1));
//! let conv = PackedConv::with_algorithm(isa, size, Algorithm::Direct, &[2.0], None)?;
//! let call = conv.bind(1, ConvArgs::new(&[3.0], 1))?;
//! let mut out = [0.0];
//! std::thread::scope(|s| {
//!     s.spawn(|| call.run(&mut out, &mut [], &mut []));
//!     s.spawn(|| call.run(&mut out, &mut [], &mut []));
//! });
//! # Ok::<(), undiffuse::Error>(())
//! ```

pub use super::aligned::SharedMut;
pub use super::conv::{Algorithm, ConvArgs, ConvShape, PackedConv, choose_algorithm};
pub use super::gather::{Affine, GatherArgs, GatherSource};
pub use super::isa::Isa;
pub use super::vmath::Activation;
