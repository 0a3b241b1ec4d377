//! Weights in memory.

use alloc::vec::Vec;
use core::ops::Range;

use super::header::{Header, LENGTH_BYTES, header_len, scales_shape};
use super::{TensorInfo, WeightSource, convert, missing};
use crate::error::{Result, ensure, err};
use crate::tensor::DType;

/// A safetensors file in memory: from a file system, a memory map, flash, or embedded in the program. Nothing is copied
/// but the header.
///
/// ```
/// use undiffuse::weights::{SafeTensorsView, WeightSource};
/// # fn main() -> undiffuse::Result<()> {
/// let header = br#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
/// let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
/// bytes.extend_from_slice(header);
/// bytes.extend_from_slice(&1.5f32.to_le_bytes());
/// bytes.extend_from_slice(&(-2.0f32).to_le_bytes());
/// let view = SafeTensorsView::parse(&bytes)?;
/// let mut w = [0.0; 2];
/// view.read_f32("w", &mut w)?;
/// assert_eq!(w, [1.5, -2.0]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct SafeTensorsView<'a> {
    header: Header,
    data: &'a [u8],
}

impl<'a> SafeTensorsView<'a> {
    /// Parses the header and checks that the tensors fill the bytes behind it. Takes time in proportion to the header.
    /// Errors (kind `Weights`): the bytes are no safetensors file, or name a tensor that is malformed or not within
    /// them.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let len = header_len(bytes, bytes.len() as u64)?;
        let start = LENGTH_BYTES as usize;
        let end = start.saturating_add(usize::try_from(len).unwrap_or(usize::MAX));
        let (json, data) = bytes
            .get(start..end)
            .zip(bytes.get(end..))
            .ok_or_else(|| err!(Weights, "the safetensors header of {len} bytes is truncated"))?;
        Ok(Self { header: Header::parse(json, data.len() as u64)?, data })
    }

    /// A text of the file's metadata.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.header.metadata.get(key).map(|s| s.as_str())
    }
}

/// A byte range of checked 64-bit ends as one of this machine.
fn narrow(r: &Range<u64>) -> Option<Range<usize>> {
    Some(usize::try_from(r.start).ok()?..usize::try_from(r.end).ok()?)
}

impl WeightSource for SafeTensorsView<'_> {
    fn names(&self) -> Vec<&str> {
        self.header.tensors.keys().map(|s| s.as_str()).collect()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        self.header.tensors.get(name).map(|e| e.info.clone())
    }

    fn read_f32(&self, name: &str, out: &mut [f32]) -> Result<()> {
        let entry = self.header.tensors.get(name).ok_or_else(|| missing(name))?;
        convert::check_float(name, entry.info.dtype)?;
        let bytes = narrow(&entry.data)
            .and_then(|r| self.data.get(r))
            .ok_or_else(|| err!(Weights, "tensor {name} is not within the file"))?;
        let four = entry.info.dtype == DType::I4;
        let count = if four { entry.info.shape.iter().product() } else { bytes.len() / entry.info.dtype.size() };
        ensure!(out.len() == count, Weights, "tensor {name} has {count} elements, expected {}", out.len());
        if four {
            let scales = entry.factors.as_ref().and_then(narrow).and_then(|r| self.data.get(r)).unwrap_or(&[]);
            let [rows, groups] = scales_shape(&entry.info.shape);
            let (row, channels) = (count / rows.max(1), entry.info.shape.get(1).copied().unwrap_or(1));
            let parts = bytes.chunks_exact((row / 2).max(1)).zip(scales.chunks_exact((2 * groups).max(1)));
            for (r, (out, (pairs, scales))) in out.chunks_exact_mut(row.max(1)).zip(parts).enumerate() {
                convert::decode_pairs(name, [pairs, scales], channels, out, r)?;
            }
            return Ok(());
        }
        convert::decode(name, entry.info.dtype, bytes, out, 0)?;
        let Some(factors) = &entry.factors else { return Ok(()) };
        let bytes = narrow(factors).and_then(|r| self.data.get(r)).unwrap_or(&[]);
        // A row at a time, so that nothing is copied.
        let row = entry.info.shape.iter().skip(1).product::<usize>().max(1);
        for (r, (row, factor)) in out.chunks_mut(row).zip(bytes.chunks_exact(size_of::<f32>())).enumerate() {
            let mut one = [0.0];
            convert::decode(name, DType::F32, factor, &mut one, r as u64).map_err(|e| e.context("a factor"))?;
            convert::scale(name, &one, row.len(), row, 0)?;
        }
        Ok(())
    }
}
