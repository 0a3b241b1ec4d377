//! The weights that a training begins with.

use alloc::vec::Vec;
use std::path::Path;

use crate::error::{Result, ensure};
use crate::graph::{Graph, Param};
use crate::memory::zeros;
use crate::model::ModelConfig;
use crate::training::config::TrainConfig;
use crate::training::init::initial;
use crate::weights::packed::PackedConfigs;
use crate::weights::{DiffusersNames, SafeTensorsFile, check_params, read_param};

/// Where the first weights come from.
pub(super) enum First {
    /// What the configuration says.
    Own,
    /// A checkpoint, which replaces them: no file is read for them.
    Replaced,
}

/// Those of a packed file where the configuration names one, else drawn; in the order of the graph's parameters.
pub(super) fn weights(
    first: &First,
    config: &TrainConfig,
    beside: &Path,
    model: &ModelConfig,
    graph: &Graph,
) -> Result<Vec<f32>> {
    match config.weights.as_ref().filter(|_| matches!(first, First::Own)) {
        None => Ok(initial(model, graph, &config.init, config.seed)?.concat()),
        Some(path) => {
            let path = beside.join(path);
            read(&path, model, graph).map_err(|e| e.context(format_args!("init.weights, {}", path.display())))
        }
    }
}

fn read(path: &Path, model: &ModelConfig, graph: &Graph) -> Result<Vec<f32>> {
    let file = SafeTensorsFile::open(path)?;
    let found = PackedConfigs::from_metadata(|key| file.metadata(key))?;
    ensure!(
        ModelConfig::from_json(&found.model)? == *model,
        Config,
        "its model's configuration is not that of the training config, expected the same"
    );
    let weights = DiffusersNames::new(file)?;
    check_params(graph, &weights)?;
    let values = |param: &Param| {
        let mut values = zeros(&param.name, param.dims.elements())?;
        read_param(&weights, &param.name, &param.dims, &mut values)?;
        Ok(values)
    };
    Ok(graph.params().iter().map(values).collect::<Result<Vec<_>>>()?.concat())
}
