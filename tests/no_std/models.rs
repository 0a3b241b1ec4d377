//! The models that programs without an operating system have as parts of themselves, and how each is sampled: read by
//! their build scripts, by the programs and by `examples/embedded`, which says what they must print.

use undiffuse::backend::cpu::WeightType;
use undiffuse::sampler::{SamplerKind, SamplerOptions, Steps};

/// One of them.
pub struct Case {
    /// The name of its program.
    pub name: &'static str,
    /// Where its file lies in the repository.
    pub file: &'static str,
    pub weights: WeightType,
    pub sampler: fn() -> SamplerOptions,
}

fn all_steps(sampler: SamplerKind) -> SamplerOptions {
    SamplerOptions { sampler: Some(sampler), steps: Steps::All, ..Default::default() }
}

fn roll() -> SamplerOptions {
    all_steps(SamplerKind::Ancestral2015)
}

fn bits() -> SamplerOptions {
    all_steps(SamplerKind::Bits2015)
}

/// Few steps, since an emulator takes seconds for each.
fn two_steps() -> SamplerOptions {
    SamplerOptions { sampler: Some(SamplerKind::UniPc), steps: Steps::Count(2), ..Default::default() }
}

const DIGITS: &str = "pretrained/digits.safetensors";

pub const CASES: [Case; 5] = [
    Case { name: "swiss_roll", file: "pretrained/swiss_roll.safetensors", weights: WeightType::F32, sampler: roll },
    Case { name: "spikes", file: "tests/no_std/spikes.safetensors", weights: WeightType::F32, sampler: bits },
    Case { name: "digits", file: DIGITS, weights: WeightType::F32, sampler: two_steps },
    Case { name: "digits_f16", file: DIGITS, weights: WeightType::F16, sampler: two_steps },
    Case { name: "digits_int8", file: DIGITS, weights: WeightType::Int8, sampler: two_steps },
];

/// The seed of all of them; sample 0 is made.
pub const SEED: u64 = 42;

/// FNV-1a over the bytes of a sample.
pub fn checksum(values: &[f32]) -> u64 {
    let bytes = values.iter().flat_map(|v| v.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}
