//! Writing safetensors.

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use safetensors::tensor::{Dtype, TensorInfo as StoredInfo};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::convert;
use super::header::{factors_of, pairs_shape, scales_of, scales_shape};
use crate::error::{Result, ensure, err};
use crate::int4;
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

/// What stands in the file: a tensor, or the factors or scales of one of integers.
struct Part<'a> {
    name: String,
    dtype: DType,
    shape: Cow<'a, [usize]>,
    of: &'a TensorToWrite<'a>,
}

/// Writes a safetensors file. The bytes depend on the arguments' values alone: tensors stand by falling element size,
/// then by name.
///
/// A tensor of [`DType::I8`] is stored as integers beside a tensor `NAME/factors` of f32, one for each of its rows
/// (its first dimension, which it must have): an element is the integer times its row's factor, the largest absolute
/// value of the row being 127 factors.
///
/// A tensor of [`DType::I4`] has two dimensions or more, `[out, in, ...]`, and an even `in`. It is stored as `U8` of
/// the shape `[out, ..., in / 2]`, two integers from -8 to 7 a byte, the first one in the lower half, beside a tensor
/// `NAME/scales` of BF16 `[out, ceil(n / 32)]`, n being the elements of an `out`: an element is its integer times the
/// scale that it shares with the 32 neighbours of its group, in the order in which they are stored.
///
/// `fill` is called for each tensor in that order (for one of integers twice, first for its factors), with its
/// name and a slice of its element count to fill; `sink` gets the file piece by piece. One tensor is held in memory at
/// a time. Errors: two tensors of one name, the reserved name `__metadata__`, more elements than memory allows, a value
/// that the stored type cannot hold, or what `fill` and `sink` return.
pub fn write_safetensors(
    tensors: &[TensorToWrite<'_>],
    metadata: &BTreeMap<String, String>,
    fill: &mut dyn FnMut(&str, &mut [f32]) -> Result<()>,
    sink: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut order: Vec<Part<'_>> = Vec::new();
    for t in tensors {
        order.push(Part { name: t.name.into(), dtype: t.dtype, shape: t.shape.into(), of: t });
        if t.dtype == DType::I8 {
            let rows = t.shape.get(..1).ok_or_else(|| err!(Unsupported, "tensor {} has no rows", t.name))?;
            order.push(Part { name: factors_of(t.name), dtype: DType::F32, shape: rows.into(), of: t });
        }
        if let (DType::I4, Some(part)) = (t.dtype, order.last_mut()) {
            part.shape = pairs_shape(t.shape)
                .ok_or_else(|| {
                    let (name, shape) = (t.name, t.shape);
                    err!(
                        Unsupported,
                        "tensor {name} of shape {shape:?} cannot be int4, expected [out, in, ...] of an even in"
                    )
                })?
                .into();
            let shape = scales_shape(t.shape).to_vec().into();
            order.push(Part { name: scales_of(t.name), dtype: DType::BF16, shape, of: t });
        }
    }
    order.sort_by(|a, b| (b.dtype.size(), &a.name).cmp(&(a.dtype.size(), &b.name)));
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
            DType::I8 => Dtype::I8,
            DType::I4 => Dtype::U8,
            DType::I64 | DType::I32 => {
                return Err(err!(Unsupported, "tensor {} cannot be written as {}", t.name, t.dtype));
            }
        };
        entries.push((&t.name, StoredInfo { dtype, shape: t.shape.to_vec(), data_offsets: (at, end) }));
        at = end;
    }
    let mut names: Vec<&str> = order.iter().map(|t| t.name.as_str()).collect();
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
    for t in &order {
        // No overflow: of the tensor or, of its factors, of the tensor that was found to fit above.
        let count = t.of.shape.iter().try_fold(1, |n: usize, &d| n.checked_mul(d));
        let count = count.ok_or_else(|| err!(Shape, "tensor {} has too many elements", t.of.name))?;
        values.clear();
        values
            .try_reserve(count)
            .map_err(|_| err!(OutOfMemory, "no memory for tensor {} of {count} elements", t.name))?;
        values.resize(count, 0.0);
        fill(t.of.name, &mut values)?;
        if !matches!(t.of.dtype, DType::I8 | DType::I4) {
            convert::encode(&t.name, t.dtype, &values, sink)?;
            continue;
        }
        if let Some(v) = values.iter().find(|v| !v.is_finite()) {
            return Err(err!(Weights, "tensor {} holds {v}, which {} cannot hold", t.of.name, t.of.dtype));
        }
        if t.of.dtype == DType::I4 {
            write_groups(t, &values, sink)?;
            continue;
        }
        for row in values.chunks(t.of.shape.iter().skip(1).product::<usize>().max(1)) {
            let factor = convert::factor(row);
            if t.dtype == DType::F32 {
                sink(&factor.to_le_bytes())?;
                continue;
            }
            let mut piece = [0u8; 1024];
            for row in row.chunks(piece.len()) {
                row.iter().zip(&mut piece).for_each(|(v, to)| *to = convert::quantised(*v, factor).cast_unsigned());
                sink(piece.get(..row.len()).unwrap_or(&piece))?;
            }
        }
    }
    Ok(())
}

/// The scales or the pairs of a tensor of 4-bit integers.
fn write_groups(t: &Part<'_>, values: &[f32], sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let channels = t.of.shape.get(1).copied().unwrap_or(1);
    let rows = t.of.shape.first().copied().unwrap_or(1);
    for row in values.chunks((values.len() / rows.max(1)).max(1)) {
        for (g, group) in convert::groups(row, channels).enumerate() {
            if t.dtype == DType::BF16 {
                sink(&group.scale.to_le_bytes())?;
                continue;
            }
            let mut bytes = [0; int4::GROUP / 2];
            for (to, [a, b]) in bytes.iter_mut().zip(group.integers.as_chunks::<2>().0) {
                *to = int4::pair(*a, *b);
            }
            let len = int4::GROUP.min(row.len() - g * int4::GROUP) / 2;
            sink(bytes.get(..len).unwrap_or(&bytes))?;
        }
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
