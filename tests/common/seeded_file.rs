//! Seeded weights as a safetensors file. Needs the modules `seeded` and `pcg`.

use std::collections::BTreeMap;

use undiffuse::graph::{Graph, Param};
use undiffuse::tensor::{DType, Dims};
use undiffuse::weights::{TensorToWrite, write_safetensors};

use crate::seeded::Seeded;

/// The parameters of a graph that `wanted` names, drawn by the recipe.
pub fn seeded_file(graph: &Graph, dtype: DType, wanted: impl Fn(&str) -> bool) -> Vec<u8> {
    let params: Vec<Param> = graph.params().iter().filter(|p| wanted(&p.name)).cloned().collect();
    seeded_tensors(&Seeded::new(graph), &params, dtype)
}

/// These parameters.
pub fn seeded_tensors(seeded: &Seeded, params: &[Param], dtype: DType) -> Vec<u8> {
    let tensors: Vec<TensorToWrite<'_>> =
        params.iter().map(|p| TensorToWrite { name: &p.name, dtype, shape: p.dims.as_slice() }).collect();
    let dims: BTreeMap<&str, &Dims> = params.iter().map(|p| (p.name.as_str(), &p.dims)).collect();
    let mut bytes = Vec::new();
    write_safetensors(&tensors, &BTreeMap::new(), &mut |n, out| seeded.read(n, dims[n], out), &mut |b| {
        bytes.extend_from_slice(b);
        Ok(())
    })
    .unwrap();
    bytes
}
