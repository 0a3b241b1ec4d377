//! The words that options take, for completions.

use undiffuse::sampler::SamplerKind;
use undiffuse::values::Values;

use crate::picture::Fit;
use crate::restore;

/// The words of an option of a command; none where it takes anything else.
pub fn of(command: &str, option: &str) -> Vec<&'static str> {
    let restores = ["denoise", "inpaint", "restore", "posterior"].contains(&command);
    match option {
        "backend" => vec!["auto", "cpu", "wgpu", "reference"],
        "fit" => Fit::NAMES.map(|(name, _)| name).to_vec(),
        "values" => Values::NAMES.map(|(name, _)| name).to_vec(),
        "axes" => restore::reading::AXES.to_vec(),
        "format" => vec!["png", "jpg", "webp", "npy", "safetensors"],
        "depth" => vec!["8", "16"],
        "precision" => vec!["f32", "bf16", "int8"],
        "dtype" => vec!["f16", "bf16", "f32", "int8", "int4"],
        "sampler" if restores => vec!["ddim", "ddpm", "ancestral2015", "repaint"],
        "sampler" => SamplerKind::NAMES.iter().map(|(name, _)| *name).collect(),
        "method" => restore::method_names(),
        "rule" => vec!["published", "score"],
        "misfit" => vec!["gaussian", "poisson", "laplace"],
        "known" => vec!["clean", "renoised"],
        "schedule" => vec!["constant", "ramp"],
        "ends" => vec!["entropies", "white", "network", "grey"],
        "bits-per" => vec!["dim", "sample"],
        _ => Vec::new(),
    }
}
