//! Writing safetensors.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use safetensors::tensor::{Dtype, TensorInfo as StoredInfo};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::convert;
use crate::error::{Result, ensure, err};
use crate::tensor::DType;

/// A tensor to be written: its name, how to store it, and its dimensions, outermost first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorToWrite<'a> {
    /// The name.
    pub name: &'a str,
    /// How its elements are stored.
    pub dtype: DType,
    /// Its dimensions.
    pub shape: &'a [usize],
}

/// Writes a safetensors file. The bytes depend on the arguments' values alone: tensors stand by falling element size,
/// then by name.
///
/// `fill` is called for each tensor in that order, with its name and a slice of its element count to fill; `sink` gets
/// the file piece by piece. One tensor is held in memory at a time. Errors: two tensors of one name, the reserved name
/// `__metadata__`, more elements than memory allows, a value that the stored type cannot hold, or what `fill` and
/// `sink` return.
pub fn write_safetensors(
    tensors: &[TensorToWrite<'_>],
    metadata: &BTreeMap<String, String>,
    fill: &mut dyn FnMut(&str, &mut [f32]) -> Result<()>,
    sink: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut order: Vec<&TensorToWrite<'_>> = tensors.iter().collect();
    order.sort_by_key(|t| (core::cmp::Reverse(t.dtype.size()), t.name));
    let mut entries: Vec<(&str, StoredInfo)> = Vec::new();
    let mut at = 0usize;
    for t in &order {
        ensure!(t.name != "__metadata__", InvalidArgument, "a tensor cannot be named __metadata__");
        let bytes = t.shape.iter().try_fold(t.dtype.size(), |n, &d| n.checked_mul(d));
        let end = bytes
            .and_then(|b| at.checked_add(b))
            .ok_or_else(|| err!(Shape, "tensor {} of shape {:?} has too many elements", t.name, t.shape))?;
        let dtype = match t.dtype {
            DType::F64 => Dtype::F64,
            DType::F32 => Dtype::F32,
            DType::F16 => Dtype::F16,
            DType::BF16 => Dtype::BF16,
            DType::I64 | DType::I32 => {
                return Err(err!(Unsupported, "tensor {} cannot be written as {}", t.name, t.dtype));
            }
        };
        entries.push((t.name, StoredInfo { dtype, shape: t.shape.into(), data_offsets: (at, end) }));
        at = end;
    }
    let mut names: Vec<&str> = order.iter().map(|t| t.name).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|w| w[0] == w[1]) {
        return Err(err!(InvalidArgument, "tensor {} is given twice", twice[0]));
    }

    let mut json = serde_json::to_vec(&Header { metadata, entries: &entries })
        .map_err(|e| err!(InvalidArgument, "the header cannot be written: {e}"))?;
    // Aligned, so that a memory map can be read in place.
    json.resize(json.len().next_multiple_of(8), b' ');
    sink(&(json.len() as u64).to_le_bytes())?;
    sink(&json)?;

    let mut values: Vec<f32> = Vec::new();
    for (t, (_, info)) in order.iter().zip(&entries) {
        let count = (info.data_offsets.1 - info.data_offsets.0) / t.dtype.size();
        values.clear();
        values
            .try_reserve(count)
            .map_err(|_| err!(OutOfMemory, "no memory for tensor {} of {count} elements", t.name))?;
        values.resize(count, 0.0);
        fill(t.name, &mut values)?;
        convert::encode(t.name, t.dtype, &values, sink)?;
    }
    Ok(())
}

struct Header<'a> {
    metadata: &'a BTreeMap<String, String>,
    entries: &'a [(&'a str, StoredInfo)],
}

impl Serialize for Header<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> core::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if !self.metadata.is_empty() {
            map.serialize_entry("__metadata__", self.metadata)?;
        }
        for (name, info) in self.entries {
            map.serialize_entry(name, info)?;
        }
        map.end()
    }
}
