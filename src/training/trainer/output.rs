//! What a training leaves: one packed file.

use alloc::string::String;
use alloc::vec::Vec;

use super::Trainer;
use crate::error::{Result, ensure, err};
use crate::tensor::DType;
use crate::training::engine::ParamSlot;
use crate::weights::packed::{self, PackedConfigs};
use crate::weights::{TensorInfo, WeightSource};

/// Weights in the flat vector of an engine.
struct Flat<'a> {
    slots: &'a [ParamSlot],
    values: &'a [f32],
}

impl Flat<'_> {
    fn slot(&self, name: &str) -> Option<&ParamSlot> {
        self.slots.iter().find(|s| s.name == name)
    }
}

impl WeightSource for Flat<'_> {
    fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.slots.iter().map(|s| s.name.as_str()).collect();
        names.sort_unstable();
        names
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        self.slot(name).map(|s| TensorInfo { dtype: DType::F32, shape: s.dims.as_slice().into() })
    }

    fn read_f32(&self, name: &str, out: &mut [f32]) -> Result<()> {
        let slot = self.slot(name).ok_or_else(|| err!(Weights, "there is no weight {name}"))?;
        let values = self.values.get(slot.offset..slot.offset + slot.dims.elements()).unwrap_or(&[]);
        ensure!(values.len() == out.len(), Weights, "{name} has {} values, expected {}", values.len(), out.len());
        out.copy_from_slice(values);
        Ok(())
    }
}

impl Trainer {
    /// Writes the weights as they are now (the average, if there is one) with both configurations as a packed file,
    /// piece by piece, as [`packed::write`] does.
    pub fn pack(&self, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let values = self.weights()?;
        let weights = Flat { slots: self.engine.params(), values: &values };
        let scheduler = Some(self.scheduler_json());
        let configs = PackedConfigs {
            model: self.model_json(),
            scheduler,
            preconditioning: None,
            activations: None,
            decoder: None,
        };
        packed::write(&configs, &weights, self.config.dtype, sink)
    }

    /// The model's configuration as it is written.
    pub fn model_json(&self) -> String {
        self.config.model.clone()
    }
}
