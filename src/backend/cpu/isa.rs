//! Which instruction set a kernel uses.
//!
//! An [`Isa`] can only be made by a check that the CPU has the instructions, so holding one is the proof that the
//! kernels of its path may run. Nothing here reads the environment: a caller or a test that wants a certain path asks
//! [`Isa::try_new`] for it.

use core::fmt;

/// The kernel families that exist. A build has only those of its target architecture and [`Path::Portable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Path {
    /// Plain Rust, which the compiler vectorises for the target's base instruction set. Multiply and add round apart.
    Portable,
    /// x86-64 with AVX2, FMA and F16C, as all with AVX2 have: 8 lanes.
    Avx2,
    /// x86-64 with AVX-512 F, VL, DQ and BW: 16 lanes. 8-bit integers are multiplied by VNNI where there is that too.
    Avx512,
    /// AArch64 Advanced SIMD: 4 lanes. 8-bit integers are multiplied by ARMv8.2's dot products where there are those
    /// too.
    Neon,
    /// WebAssembly's simd128, in a build that has the target feature: 4 lanes. The bits of
    /// [`Portable`](Self::Portable), since WebAssembly has no fused multiply-add.
    Simd128,
}

impl Path {
    /// Every path, from the slowest to the fastest.
    pub const ALL: [Self; 5] = [Self::Portable, Self::Simd128, Self::Neon, Self::Avx2, Self::Avx512];
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Neon => "neon",
            Self::Simd128 => "simd128",
        })
    }
}

/// How products of bf16 are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Halves {
    /// Of floats.
    Floats,
    /// Two at a time, by AVX-512's VDPBF16PS.
    Pairs,
    /// Tiles at a time, by AMX, where the process is given its registers and a layer fills them.
    Tiles,
}

/// A path that this CPU was found to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Isa {
    path: Path,
    dots: bool,
    halves: Halves,
}

impl Isa {
    /// Plain Rust, which every CPU runs.
    pub const PORTABLE: Self = Self { path: Path::Portable, dots: false, halves: Halves::Floats };

    /// The given path, if this build has it and this CPU can run it. With `std` the CPU is asked at run time; without
    /// it only what the build's target features promise is used.
    pub fn try_new(path: Path) -> Option<Self> {
        let present = match path {
            Path::Portable => true,
            Path::Avx2 => has_avx2(),
            Path::Avx512 => has_avx512(),
            Path::Neon => cfg!(all(target_arch = "aarch64", target_feature = "neon")),
            Path::Simd128 => cfg!(all(target_arch = "wasm32", target_feature = "simd128")),
        };
        let dots = match path {
            Path::Avx512 => has_vnni(),
            Path::Neon => has_dotprod(),
            _ => false,
        };
        let halves = match path {
            Path::Avx512 if has_amx() => Halves::Tiles,
            Path::Avx512 if has_bf16() && !slow_pairs() => Halves::Pairs,
            _ => Halves::Floats,
        };
        present.then_some(Self { path, dots, halves })
    }

    /// The fastest path of this CPU.
    pub fn best() -> Self {
        Path::ALL.into_iter().rev().find_map(Self::try_new).unwrap_or(Self::PORTABLE)
    }

    /// The path this value stands for.
    pub fn path(self) -> Path {
        self.path
    }

    /// Whether there are also dot products of four 8-bit integers in vectors of the path's size, which not all CPUs
    /// with its other instructions have: VNNI's with AVX-512, ARMv8.2's with NEON.
    pub fn has_dot_products(self) -> bool {
        self.dots
    }

    /// The same path without them.
    pub fn without_dot_products(self) -> Self {
        Self { dots: false, halves: Halves::Floats, ..self }
    }

    /// How it multiplies bf16.
    pub fn halves(self) -> Halves {
        self.halves
    }

    /// Whether it multiplies bf16 by tiles, and this process is given their registers: it asks for them.
    pub fn permits_tiles(self) -> bool {
        #[cfg(all(target_arch = "x86_64", feature = "std"))]
        return self.halves == Halves::Tiles && super::amx::permit();
        #[cfg(not(all(target_arch = "x86_64", feature = "std")))]
        false
    }

    /// The same path without AMX: by pairs, if there are such, even where floats are faster.
    pub fn without_tiles(self) -> Self {
        match self.path {
            Path::Avx512 if has_bf16() && self.halves != Halves::Floats => Self { halves: Halves::Pairs, ..self },
            _ => Self { halves: Halves::Floats, ..self },
        }
    }

    /// The path for rows of eight values: AVX2 in place of AVX-512, which has all of it.
    pub fn of_eight_lanes(self) -> Self {
        match self.path {
            Path::Avx512 => Self { path: Path::Avx2, dots: false, halves: Halves::Floats },
            _ => self,
        }
    }
}

#[cfg(all(target_arch = "x86_64", feature = "std"))]
fn has_avx2() -> bool {
    std::arch::is_x86_feature_detected!("avx2")
        && std::arch::is_x86_feature_detected!("fma")
        && std::arch::is_x86_feature_detected!("f16c")
}

#[cfg(not(all(target_arch = "x86_64", feature = "std")))]
fn has_avx2() -> bool {
    cfg!(all(target_arch = "x86_64", target_feature = "avx2", target_feature = "fma", target_feature = "f16c"))
}

#[cfg(all(target_arch = "x86_64", feature = "std"))]
fn has_avx512() -> bool {
    has_avx2()
        && std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512vl")
        && std::arch::is_x86_feature_detected!("avx512dq")
        && std::arch::is_x86_feature_detected!("avx512bw")
}

#[cfg(not(all(target_arch = "x86_64", feature = "std")))]
fn has_avx512() -> bool {
    cfg!(all(
        target_arch = "x86_64",
        target_feature = "avx2",
        target_feature = "fma",
        target_feature = "f16c",
        target_feature = "avx512f",
        target_feature = "avx512vl",
        target_feature = "avx512dq",
        target_feature = "avx512bw"
    ))
}

#[cfg(all(target_arch = "x86_64", feature = "std"))]
fn has_vnni() -> bool {
    std::arch::is_x86_feature_detected!("avx512vnni")
}

#[cfg(not(all(target_arch = "x86_64", feature = "std")))]
fn has_vnni() -> bool {
    cfg!(all(target_arch = "x86_64", target_feature = "avx512vnni"))
}

#[cfg(all(target_arch = "x86_64", feature = "std"))]
fn has_bf16() -> bool {
    std::arch::is_x86_feature_detected!("avx512bf16")
}

#[cfg(not(all(target_arch = "x86_64", feature = "std")))]
fn has_bf16() -> bool {
    cfg!(all(target_arch = "x86_64", target_feature = "avx512bf16"))
}

/// Whether AVX-512's dot products of bf16 take as long as the products of floats that they replace, or longer: Intel's
/// make one each two cycles, half of what fused multiply-adds do; AMD's, two each cycle.
fn slow_pairs() -> bool {
    #[cfg(all(target_arch = "x86_64", feature = "std"))]
    return super::amx::is_intel();
    #[cfg(not(all(target_arch = "x86_64", feature = "std")))]
    false
}

fn has_amx() -> bool {
    #[cfg(all(target_arch = "x86_64", feature = "std"))]
    return super::amx::found();
    #[cfg(not(all(target_arch = "x86_64", feature = "std")))]
    false
}

#[cfg(all(target_arch = "aarch64", feature = "std"))]
fn has_dotprod() -> bool {
    std::arch::is_aarch64_feature_detected!("dotprod")
}

#[cfg(not(all(target_arch = "aarch64", feature = "std")))]
fn has_dotprod() -> bool {
    cfg!(all(target_arch = "aarch64", target_feature = "dotprod"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portable_is_always_there_and_best_is_a_path_of_this_cpu() {
        assert_eq!(Isa::try_new(Path::Portable).map(Isa::path), Some(Path::Portable));
        let best = Isa::best();
        assert_eq!(Isa::try_new(best.path()), Some(best));
    }

    #[test]
    fn dot_products_can_be_done_without() {
        for isa in Path::ALL.into_iter().filter_map(Isa::try_new) {
            assert!(!isa.has_dot_products() || matches!(isa.path(), Path::Avx512 | Path::Neon));
            assert!(isa.halves() == Halves::Floats || isa.path() == Path::Avx512);
            assert!(isa.without_tiles().halves() != Halves::Tiles);
            let without = isa.without_dot_products();
            assert_eq!((without.has_dot_products(), without.halves()), (false, Halves::Floats));
            assert_eq!(without.path(), isa.path());
            let eight = isa.of_eight_lanes();
            let want = if isa.path() == Path::Avx512 { Path::Avx2 } else { isa.path() };
            // Nothing is used that was not found.
            assert_eq!((Isa::try_new(want), eight.path()), (Some(eight), want));
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn no_path_of_another_architecture() {
        assert_eq!(Isa::try_new(Path::Neon), None);
        assert_eq!(Isa::try_new(Path::Simd128), None);
    }
}
