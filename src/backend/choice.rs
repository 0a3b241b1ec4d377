//! Which backend runs a network, as users say it.

use alloc::boxed::Box;
use core::fmt;
use core::str::FromStr;

use super::cpu::{Cpu, CpuOptions, WeightType};
use super::reference::Reference;
use super::{Backend, Network, ParamSource};
use crate::error::{Error, ErrorKind, Result, ensure, err};
use crate::graph::Graph;

/// A backend by name: `auto`, `cpu`, `wgpu`, `wgpu:INDEX` or `reference`.
///
/// ```
/// use undiffuse::backend::Choice;
/// # fn main() -> undiffuse::Result<()> {
/// assert_eq!("wgpu:1".parse::<Choice>()?, Choice::Wgpu(Some(1)));
/// assert!("gpu".parse::<Choice>().is_err());
/// let backend = Choice::Cpu.open(&Default::default())?;
/// assert_eq!(backend.name(), "cpu");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The first real GPU if this build has the feature `wgpu` and there is one that can run the network, else the CPU.
    #[default]
    Auto,
    /// The CPU. No driver of a GPU is touched.
    Cpu,
    /// A GPU: the adapter of this number, or the first real GPU. A software adapter is used only if it is named by its
    /// number.
    Wgpu(Option<usize>),
    /// Plain loops in f64.
    Reference,
}

impl FromStr for Choice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong =
            || err!(InvalidArgument, "the backend is {text:?}, expected auto, cpu, wgpu, wgpu:INDEX or reference");
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "wgpu" => Ok(Self::Wgpu(None)),
            "reference" => Ok(Self::Reference),
            other => {
                let index = other.strip_prefix("wgpu:").filter(|n| n.bytes().all(|b| b.is_ascii_digit()));
                Ok(Self::Wgpu(Some(index.and_then(|n| n.parse().ok()).ok_or_else(wrong)?)))
            }
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Wgpu(None) => f.write_str("wgpu"),
            Self::Wgpu(Some(index)) => write!(f, "wgpu:{index}"),
            Self::Reference => f.write_str("reference"),
        }
    }
}

impl Choice {
    /// Opens the backend; `cpu` is how the CPU runs, if it does, as it does where [`Choice::Auto`] meets weights that
    /// are not f32.
    ///
    /// # Errors
    /// `Device` if the named GPU is missing or cannot be opened; `Unsupported` if this build is without the feature
    /// `wgpu`, or for another backend than the CPU with weights that are not f32; and those of [`Cpu::with_options`].
    /// [`Choice::Auto`] takes the CPU instead of failing for a GPU.
    pub fn open(&self, cpu: &CpuOptions) -> Result<Box<dyn Backend>> {
        let named = matches!(self, Self::Reference | Self::Wgpu(_));
        ensure!(
            !named || cpu.weights == WeightType::F32,
            Unsupported,
            "the backend {self} has no {} weights, which are the cpu backend's",
            cpu.weights
        );
        match self {
            Self::Reference => Ok(Box::new(Reference)),
            Self::Cpu => Ok(Box::new(Cpu::with_options(*cpu)?)),
            Self::Wgpu(index) => open_gpu(*index),
            // Weights of another type are a wish for the CPU.
            Self::Auto if cpu.weights != WeightType::F32 => Ok(Box::new(Cpu::with_options(*cpu)?)),
            Self::Auto => {
                let cpu = Cpu::with_options(*cpu)?;
                // A machine without a GPU is no error here; naming one tells what is wrong with it.
                Ok(match open_gpu(None) {
                    Ok(gpu) => Box::new(Auto { gpu, cpu }),
                    Err(_) => Box::new(cpu),
                })
            }
        }
    }
}

#[cfg(feature = "wgpu")]
fn open_gpu(index: Option<usize>) -> Result<Box<dyn Backend>> {
    Ok(Box::new(super::wgpu::Wgpu::open(index, super::wgpu::WgpuOptions::default())?))
}

#[cfg(not(feature = "wgpu"))]
fn open_gpu(_: Option<usize>) -> Result<Box<dyn Backend>> {
    Err(err!(Unsupported, "this build is without the feature `wgpu`"))
}

/// A GPU if it runs the network, else the CPU.
struct Auto {
    gpu: Box<dyn Backend>,
    cpu: Cpu,
}

impl Backend for Auto {
    fn name(&self) -> &'static str {
        self.gpu.name()
    }

    fn compile(&self, graph: &Graph, params: &dyn ParamSource) -> Result<Box<dyn Network>> {
        match self.gpu.compile(graph, params) {
            // What the device cannot do or has no room for, the CPU may.
            Err(e) if matches!(e.kind(), ErrorKind::Device | ErrorKind::Unsupported | ErrorKind::OutOfMemory) => {
                self.cpu.compile(graph, params)
            }
            made => made,
        }
    }

    fn bf16_beats_winograd(&self) -> bool {
        // No GPU has layers of bf16.
        self.cpu.bf16_beats_winograd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_rounds_the_layers_that_its_cpu_would() {
        let options = CpuOptions { threads: Some(1), ..CpuOptions::default() };
        let cpu = Cpu::with_options(options).unwrap();
        for choice in [Choice::Cpu, Choice::Auto] {
            let opened = choice.open(&options).unwrap();
            assert_eq!(opened.bf16_beats_winograd(), cpu.bf16_beats_winograd(), "{choice}");
        }
    }
}
