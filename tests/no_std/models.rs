//! The models that programs without an operating system have as parts of themselves, and how each is sampled: read by
//! their build scripts, by the programs and by `examples/embedded`, which says what they must print.

use undiffuse::backend::cpu::WeightType;
use undiffuse::pipeline::Precision;
use undiffuse::sampler::{SamplerKind, SamplerOptions, Steps};

/// One of them.
pub struct Case {
    /// The name of its program.
    pub name: &'static str,
    /// Where its file lies in the repository.
    pub file: &'static str,
    pub weights: WeightType,
    pub precision: Precision,
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

const fn case(
    name: &'static str,
    file: &'static str,
    weights: WeightType,
    precision: Precision,
    sampler: fn() -> SamplerOptions,
) -> Case {
    Case { name, file, weights, precision, sampler }
}

pub const CASES: [Case; 7] = [
    case("swiss_roll", "pretrained/swiss_roll.safetensors", WeightType::F32, Precision::F32, roll),
    case("spikes", "tests/no_std/spikes.safetensors", WeightType::F32, Precision::F32, bits),
    case("digits", DIGITS, WeightType::F32, Precision::F32, two_steps),
    case("digits_f16", DIGITS, WeightType::F16, Precision::F32, two_steps),
    case("digits_int8", DIGITS, WeightType::Int8, Precision::F32, two_steps),
    case("digits_int4", DIGITS, WeightType::Int4, Precision::F32, two_steps),
    case("digits_integers", DIGITS, WeightType::Int8, Precision::Int8, two_steps),
];

/// The seed of all of them; sample 0 is made.
pub const SEED: u64 = 42;

/// FNV-1a over the bytes of a sample.
pub fn checksum(values: &[f32]) -> u64 {
    let bytes = values.iter().flat_map(|v| v.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}
