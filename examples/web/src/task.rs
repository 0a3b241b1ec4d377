//! What a page can ask for.

use serde::Deserialize;

/// A task, as JSON: `{"task": "sample", "steps": 20, ...}`. Unknown fields are refused.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "task", rename_all = "lowercase", deny_unknown_fields)]
pub enum Task {
    /// Samples of the model.
    Sample {
        /// By the name that the command line uses; without it the model's own, or UniPC where that is DDPM.
        sampler: Option<String>,
        /// How many; without it what the sampler usually takes.
        steps: Option<usize>,
        /// DDIM's eta, 0 to 1.
        #[serde(default)]
        eta: f64,
        /// One row of the model's class values for each sample.
        #[serde(default)]
        classes: Vec<f32>,
        /// Which noise.
        #[serde(default)]
        seed: u64,
        /// How many at once.
        #[serde(default = "one")]
        count: usize,
    },
    /// The picture in the values is a clean one plus normal noise of standard deviation `sigma`, in units of [-1, 1].
    Denoise {
        /// Above 0.
        sigma: f64,
        /// How.
        #[serde(default)]
        method: Method,
        /// One row of the model's class values for each sample.
        #[serde(default)]
        classes: Vec<f32>,
        /// Which noise.
        #[serde(default)]
        seed: u64,
        /// How many draws.
        #[serde(default = "one")]
        count: usize,
    },
    /// Of the picture in the values, the pixels are known whose flag is not 0, each with normal noise of standard
    /// deviation `sigma`. The flags follow the picture, one for each position or each value.
    Inpaint {
        /// Above 0.
        sigma: f64,
        /// How.
        #[serde(default)]
        method: Method,
        /// One row of the model's class values for each sample.
        #[serde(default)]
        classes: Vec<f32>,
        /// Which noise.
        #[serde(default)]
        seed: u64,
        /// How many draws.
        #[serde(default = "one")]
        count: usize,
    },
}

/// How a picture is restored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// 20 network calls, no gradients: [`undiffuse::posterior::Ddrm`].
    #[default]
    Ddrm,
    /// Nearer to the posterior, for 36 calls with gradients: [`undiffuse::posterior::Calibrated`].
    Calibrated,
}

fn one() -> usize {
    1
}
