//! Weights in a file, read on demand.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::header::{Entry, Header, LENGTH_BYTES, header_len, scales_shape};
use super::{TensorInfo, WeightSource, convert, missing};
use crate::error::{Error, Result, ensure, err};
use crate::tensor::DType;

/// Bytes read at a time; a multiple of every element size.
const PIECE: usize = 1 << 16;

/// A safetensors file on disk. Only the header stays in memory; a tensor is read, 64 KiB at a time, when it is asked
/// for.
#[derive(Debug)]
pub struct SafeTensorsFile {
    header: Header,
    /// Where the data begins in the file.
    data_start: u64,
    /// Behind a lock because reading moves its position.
    file: Mutex<File>,
    path: PathBuf,
}

impl SafeTensorsFile {
    /// Opens a file and checks its header. Errors: kind `Io` if it cannot be read, `Weights` if it is malformed.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::open_inner(path).map_err(|e| e.context(path.display()))
    }

    fn open_inner(path: &Path) -> Result<Self> {
        let mut file = File::open(path)?;
        let meta = file.metadata()?;
        ensure!(meta.is_file(), Io, "this is no regular file");
        let mut start = [0; LENGTH_BYTES as usize];
        let available = start.len().min(usize::try_from(meta.len()).unwrap_or(start.len()));
        let start = &mut start[..available];
        file.read_exact(start)?;
        let len = header_len(start, meta.len())?;
        let mut json = Vec::new();
        let bytes = usize::try_from(len).map_err(|_| err!(Weights, "the header is too long for this machine"))?;
        json.try_reserve_exact(bytes).map_err(|_| err!(OutOfMemory, "no memory for a header of {len} bytes"))?;
        json.resize(bytes, 0);
        file.read_exact(&mut json)?;
        let data_start = LENGTH_BYTES + len;
        let header = Header::parse(&json, meta.len().saturating_sub(data_start))?;
        Ok(Self { header, data_start, file: Mutex::new(file), path: path.to_path_buf() })
    }

    /// A text of the file's metadata.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.header.metadata.get(key).map(|s| s.as_str())
    }

    /// As [`WeightSource::read_f32`], but of whole numbers (int64, int32) too, which are no weights: class labels,
    /// timesteps. A number beyond 2^24, of which `f32` lacks some, is an error.
    pub fn read_numbers(&self, name: &str, out: &mut [f32]) -> Result<()> {
        self.read(name, out, true).map_err(|e| e.context(self.path.display()))
    }

    fn read(&self, name: &str, out: &mut [f32], integers: bool) -> Result<()> {
        let entry = self.header.tensors.get(name).ok_or_else(|| missing(name))?;
        if !integers {
            convert::check_float(name, entry.info.dtype)?;
        }
        if entry.info.dtype == DType::I4 {
            return self.read_pairs(name, entry, out);
        }
        let mut factors =
            vec![0.0; if entry.factors.is_some() { entry.info.shape.first().copied().unwrap_or(0) } else { 0 }];
        if let Some(range) = &entry.factors {
            self.decode(name, DType::F32, range, &mut factors, &[], 1).map_err(|e| e.context("a factor"))?;
        }
        let row = entry.info.shape.iter().skip(1).product();
        self.decode(name, entry.info.dtype, &entry.data, out, &factors, row)
    }

    /// Reads 4-bit integers, a row at a time.
    fn read_pairs(&self, name: &str, entry: &Entry, out: &mut [f32]) -> Result<()> {
        let shape = &entry.info.shape;
        let count: usize = shape.iter().product();
        ensure!(out.len() == count, Weights, "tensor {name} has {count} elements, expected {}", out.len());
        let [rows, groups] = scales_shape(shape);
        let (row, channels) = (count / rows.max(1), shape.get(1).copied().unwrap_or(1));
        let first = |bytes: u64| self.data_start.saturating_add(bytes);
        let (pairs_at, scales_at) = (first(entry.data.start), first(entry.factors.as_ref().map_or(0, |f| f.start)));
        let (mut pairs, mut scales) = (vec![0; row / 2], vec![0; 2 * groups]);
        // A panic while the lock was held cannot leave the file worse than at another position.
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        for (r, out) in out.chunks_exact_mut(row.max(1)).enumerate() {
            for (at, bytes) in [(pairs_at, &mut pairs), (scales_at, &mut scales)] {
                let at = at.saturating_add((r as u64).saturating_mul(bytes.len() as u64));
                let io = |e: std::io::Error| Error::from(e).context(format_args!("tensor {name}"));
                file.seek(SeekFrom::Start(at)).map_err(io)?;
                file.read_exact(bytes).map_err(io)?;
            }
            convert::decode_pairs(name, [&pairs, &scales], channels, out, r)?;
        }
        Ok(())
    }

    /// Reads elements and, where there are factors, multiplies each row of `row` by its own.
    fn decode(
        &self,
        name: &str,
        dtype: DType,
        data: &Range<u64>,
        out: &mut [f32],
        factors: &[f32],
        row: usize,
    ) -> Result<()> {
        let size = dtype.size();
        let count = (data.end - data.start) / size as u64;
        ensure!(out.len() as u64 == count, Weights, "tensor {name} has {count} elements, expected {}", out.len());
        // A panic while the lock was held cannot leave the file worse than at another position.
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let io = |e: std::io::Error| Error::from(e).context(format_args!("tensor {name}"));
        file.seek(SeekFrom::Start(self.data_start.saturating_add(data.start))).map_err(io)?;
        let mut piece = vec![0; PIECE.min(out.len().saturating_mul(size))];
        let mut at = 0u64;
        for part in out.chunks_mut(PIECE / size) {
            let bytes =
                piece.get_mut(..part.len() * size).ok_or_else(|| err!(Weights, "tensor {name} is too large"))?;
            file.read_exact(bytes).map_err(io)?;
            convert::decode(name, dtype, bytes, part, at)?;
            if !factors.is_empty() {
                convert::scale(name, factors, row, part, at)?;
            }
            at += part.len() as u64;
        }
        Ok(())
    }
}

impl WeightSource for SafeTensorsFile {
    fn names(&self) -> Vec<&str> {
        self.header.tensors.keys().map(|s| s.as_str()).collect()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        self.header.tensors.get(name).map(|e| e.info.clone())
    }

    fn read_f32(&self, name: &str, out: &mut [f32]) -> Result<()> {
        self.read(name, out, false).map_err(|e| e.context(self.path.display()))
    }
}
