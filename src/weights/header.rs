//! The header of a safetensors file: 8 bytes of length, then JSON that says where each tensor lies.
//!
//! The `safetensors` crate gives the entry's form; the checks are here because it keeps the last of two equal names and
//! its errors do not say which tensor is wrong.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use safetensors::tensor::{Dtype, TensorInfo as StoredInfo};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use super::TensorInfo;
use crate::error::{Result, ensure, err};
use crate::int4;
use crate::sniff::seems_to_be;
use crate::tensor::{DType, MAX_ELEMENTS};

/// The longest header that the format allows.
const MAX_HEADER: u64 = 100_000_000;
/// Bytes of the length that stands first.
pub(super) const LENGTH_BYTES: u64 = 8;

/// Where a tensor lies and what it is.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub info: TensorInfo,
    /// Bytes from the end of the header.
    pub data: Range<u64>,
    /// Of 8-bit integers: where the factors of their rows lie, as f32; of 4-bit integers, where their scales lie, as
    /// bf16.
    pub factors: Option<Range<u64>>,
}

/// A checked header: every tensor lies within the file, none overlaps another and no byte is left over.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub tensors: BTreeMap<String, Entry>,
    pub metadata: BTreeMap<String, String>,
}

/// Checks the length that opens a file of `file_len` bytes, before anything is allocated for it.
pub(super) fn header_len(start: &[u8], file_len: u64) -> Result<u64> {
    let bytes: [u8; LENGTH_BYTES as usize] = start
        .get(..LENGTH_BYTES as usize)
        .and_then(|b| b.try_into().ok())
        .ok_or_else(|| err!(Weights, "the safetensors file has {file_len} bytes, expected at least {LENGTH_BYTES}"))?;
    let len = u64::from_le_bytes(bytes);
    let most = MAX_HEADER.min(file_len.saturating_sub(LENGTH_BYTES));
    if len > most {
        let seems = seems_to_be(start);
        ensure!(seems.is_empty(), Weights, "this is no safetensors file{seems}");
        return Err(err!(Weights, "the safetensors header claims {len} bytes, expected at most {most}"));
    }
    Ok(len)
}

impl Header {
    /// Parses the JSON of a header. `data_len` is the number of bytes behind it.
    pub fn parse(json: &[u8], data_len: u64) -> Result<Self> {
        let raw: Raw =
            serde_json::from_slice(json).map_err(|e| err!(Weights, "the safetensors header is malformed: {e}"))?;
        let mut tensors = BTreeMap::new();
        let has = |name: &str| raw.tensors.binary_search_by(|(n, _)| n.as_str().cmp(name)).is_ok();
        for (name, stored) in &raw.tensors {
            let pairs = stored.dtype == Dtype::U8 && has(&scales_of(name));
            tensors.insert(name.clone(), check(name, stored, data_len, pairs)?);
        }
        check_cover(&tensors, data_len)?;
        let integers: Vec<String> =
            tensors.iter().filter(|(_, e)| e.info.dtype == DType::I8).map(|(n, _)| n.clone()).collect();
        for name in integers {
            let factors = tensors.remove(&factors_of(&name));
            let Some(entry) = tensors.get_mut(&name) else { continue };
            let rows = entry.info.shape.get(..1).unwrap_or(&[]);
            let fits = |f: &Entry| f.info.dtype == DType::F32 && f.info.shape == rows;
            entry.factors = factors.filter(fits).map(|f| f.data);
            ensure!(
                entry.factors.is_some(),
                Weights,
                "tensor {name} has 8-bit integers and {} has not their factors, expected a tensor F32 {rows:?}",
                factors_of(&name)
            );
        }
        let pairs: Vec<String> =
            tensors.iter().filter(|(_, e)| e.info.dtype == DType::I4).map(|(n, _)| n.clone()).collect();
        for name in pairs {
            let scales = tensors.remove(&scales_of(&name));
            let Some(entry) = tensors.get_mut(&name) else { continue };
            let shape = scales_shape(&entry.info.shape);
            let fits = |s: &Entry| s.info.dtype == DType::BF16 && s.info.shape == shape;
            entry.factors = scales.filter(fits).map(|s| s.data);
            ensure!(
                entry.factors.is_some(),
                Weights,
                "tensor {name} has 4-bit integers and {} has not their scales, expected a tensor BF16 {shape:?}",
                scales_of(&name)
            );
        }
        Ok(Self { tensors, metadata: raw.metadata })
    }
}

/// The name of the scales of a tensor of 4-bit integers.
pub(super) fn scales_of(name: &str) -> String {
    format!("{name}/scales")
}

/// The dimensions of the scales of 4-bit integers of this shape.
pub(super) fn scales_shape(shape: &[usize]) -> [usize; 2] {
    let fan_in = shape.iter().skip(1).fold(1usize, |n, &d| n.saturating_mul(d));
    [shape.first().copied().unwrap_or(0), int4::groups(fan_in)]
}

/// The dimensions of the bytes of 4-bit integers of this shape, `[out, in, ...]` of an even `in`: `[out, ..., in / 2]`.
pub(super) fn pairs_shape(shape: &[usize]) -> Option<Vec<usize>> {
    let [out, ins, taps @ ..] = shape else { return None };
    let mut pairs = Vec::from([*out]);
    pairs.extend_from_slice(taps);
    pairs.push(ins / 2);
    ins.is_multiple_of(2).then_some(pairs)
}

/// The opposite of [`pairs_shape`].
fn shape_of_pairs(pairs: &[usize]) -> Option<Vec<usize>> {
    let (&out, rest) = pairs.split_first()?;
    let (&half, taps) = rest.split_last()?;
    let mut shape = Vec::from([out, half.checked_mul(2)?]);
    shape.extend_from_slice(taps);
    shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
    Some(shape)
}

/// The name of the factors of a tensor of 8-bit integers.
pub(super) fn factors_of(name: &str) -> String {
    format!("{name}/factors")
}

/// `pairs` says that bytes are pairs of 4-bit integers.
fn check(name: &str, stored: &StoredInfo, data_len: u64, pairs: bool) -> Result<Entry> {
    let dtype = match stored.dtype {
        Dtype::F64 => DType::F64,
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::I64 => DType::I64,
        Dtype::I32 => DType::I32,
        Dtype::I8 => DType::I8,
        Dtype::U8 if pairs => DType::I4,
        other => {
            return Err(err!(Weights, "tensor {name} has elements of type {other}, expected F64, F32, F16 or BF16"));
        }
    };
    let bytes = stored
        .shape
        .iter()
        .try_fold(1u64, |n, &d| n.checked_mul(u64::try_from(d).ok()?).filter(|&n| n <= MAX_ELEMENTS))
        .and_then(|n| n.checked_mul(dtype.size() as u64))
        .ok_or_else(|| err!(Weights, "tensor {name} of shape {:?} has too many elements", stored.shape))?;
    let (start, end) = (stored.data_offsets.0 as u64, stored.data_offsets.1 as u64);
    ensure!(
        start <= end && end <= data_len,
        Weights,
        "tensor {name} claims bytes {start} to {end}, but the file has {data_len} bytes of data (is it truncated?)"
    );
    ensure!(
        end - start == bytes,
        Weights,
        "tensor {name} of shape {:?} and type {dtype} claims {} bytes, expected {bytes}",
        stored.shape,
        end - start
    );
    let shape = match dtype {
        DType::I4 => shape_of_pairs(&stored.shape).ok_or_else(|| {
            err!(
                Weights,
                "tensor {name} of 4-bit integers has the shape {:?}, expected two or more that this machine can count",
                stored.shape
            )
        })?,
        _ => stored.shape.clone(),
    };
    Ok(Entry { info: TensorInfo { dtype, shape }, data: start..end, factors: None })
}

fn check_cover(tensors: &BTreeMap<String, Entry>, data_len: u64) -> Result<()> {
    let mut order: Vec<(&String, &Range<u64>)> = tensors.iter().map(|(n, e)| (n, &e.data)).collect();
    order.sort_by_key(|(_, r)| (r.start, r.end));
    let mut at = 0;
    for (name, range) in order {
        ensure!(range.start >= at, Weights, "tensor {name} at byte {} overlaps the tensor before it", range.start);
        ensure!(range.start == at, Weights, "bytes {at} to {} before tensor {name} belong to no tensor", range.start);
        at = range.end;
    }
    ensure!(at == data_len, Weights, "the tensors end at byte {at} of the data, but the file has {data_len}");
    Ok(())
}

/// The header as it stands, with equal names refused.
struct Raw {
    tensors: Vec<(String, StoredInfo)>,
    metadata: BTreeMap<String, String>,
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> core::result::Result<Self, D::Error> {
        struct RawVisitor;
        impl<'de> Visitor<'de> for RawVisitor {
            type Value = Raw;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> core::result::Result<Raw, A::Error> {
                let mut seen = BTreeMap::new();
                let mut metadata = None;
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        // Null is read as none by the format's own crate.
                        let text: Option<UniqueMap> = map.next_value()?;
                        if metadata.replace(text.map_or_else(BTreeMap::new, |t| t.0)).is_some() {
                            return Err(A::Error::custom("__metadata__ stands twice"));
                        }
                        continue;
                    }
                    let info: StoredInfo =
                        map.next_value().map_err(|e| A::Error::custom(format!("tensor {name}: {e}")))?;
                    if seen.insert(name.clone(), info).is_some() {
                        return Err(A::Error::custom(format!("tensor {name} stands twice")));
                    }
                }
                Ok(Raw { tensors: seen.into_iter().collect(), metadata: metadata.unwrap_or_default() })
            }
        }
        deserializer.deserialize_map(RawVisitor)
    }
}

/// A map from strings to strings in which no key stands twice.
pub(super) struct UniqueMap(pub BTreeMap<String, String>);

impl<'de> Deserialize<'de> for UniqueMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> core::result::Result<Self, D::Error> {
        struct UniqueVisitor;
        impl<'de> Visitor<'de> for UniqueVisitor {
            type Value = UniqueMap;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from strings to strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> core::result::Result<UniqueMap, A::Error> {
                let mut out = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, String>()? {
                    if out.insert(key.clone(), value).is_some() {
                        return Err(A::Error::custom(format!("{key} stands twice")));
                    }
                }
                Ok(UniqueMap(out))
            }
        }
        deserializer.deserialize_map(UniqueVisitor)
    }
}
