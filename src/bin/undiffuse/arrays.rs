//! Arrays of `f32` in files: safetensors in and out, npy out.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use undiffuse::tensor::DType;
use undiffuse::weights::{SafeTensorsFile, TensorToWrite, WeightSource, write_safetensors};
use undiffuse::{Error, ErrorKind, Result};

/// An array in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Its dimensions, outermost first.
    pub shape: Vec<usize>,
    /// As many elements as the product of `shape`.
    pub data: Vec<f32>,
}

impl Array {
    /// Zeros. Errors (kind `OutOfMemory`): there is no memory for them.
    pub fn zeros(what: &str, shape: &[usize]) -> Result<Self> {
        let data = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).and_then(|n| {
            let mut data = Vec::new();
            data.try_reserve_exact(n).ok()?;
            data.resize(n, 0.0);
            Some(data)
        });
        let shape = shape.to_vec();
        match data {
            Some(data) => Ok(Self { shape, data }),
            None => {
                Err(Error::new(ErrorKind::OutOfMemory, format!("there is no memory for {what} of shape {shape:?}")))
            }
        }
    }
}

/// The tensors of a safetensors file. Errors: the file is malformed, or holds a tensor of another name than `names`.
pub struct ArrayFile {
    file: SafeTensorsFile,
    path: String,
}

impl ArrayFile {
    /// Opens a file that may hold the tensors `names` and no others.
    pub fn open(path: &Path, names: &[&str]) -> Result<Self> {
        let file = Self::open_any(path)?;
        file.check_names(names)?;
        Ok(file)
    }

    /// Opens a file whose names are checked later.
    pub fn open_any(path: &Path) -> Result<Self> {
        Ok(Self { file: SafeTensorsFile::open(path)?, path: path.display().to_string() })
    }

    /// That the file holds no tensors but `names`.
    pub fn check_names(&self, names: &[&str]) -> Result<()> {
        if let Some(other) = self.file.names().into_iter().find(|n| !names.contains(n)) {
            let text = format!("{}: unknown tensor {other}, expected {}", self.path, names.join(", "));
            return Err(Error::new(ErrorKind::Weights, text));
        }
        Ok(())
    }

    /// A tensor, converted to `f32`, or `None` if there is none of that name.
    pub fn get(&self, name: &str) -> Result<Option<Array>> {
        let Some(info) = self.file.info(name) else { return Ok(None) };
        let mut array = Array::zeros(name, &info.shape)?;
        self.file.read_f32(name, &mut array.data)?;
        Ok(Some(array))
    }

    /// A tensor of labels or timesteps, which may be whole numbers in the file, or `None`.
    pub fn numbers(&self, name: &str) -> Result<Option<Array>> {
        let Some(info) = self.file.info(name) else { return Ok(None) };
        let mut array = Array::zeros(name, &info.shape)?;
        self.file.read_numbers(name, &mut array.data)?;
        Ok(Some(array))
    }

    /// The error for a tensor that must be there.
    pub fn missing(&self, name: &str) -> Error {
        Error::new(ErrorKind::Weights, format!("{}: the tensor {name} is missing", self.path))
    }

    /// A tensor that must be there.
    pub fn need(&self, name: &str) -> Result<Array> {
        self.get(name)?.ok_or_else(|| self.missing(name))
    }
}

/// Writes arrays as safetensors, `f32`, little-endian.
pub fn write_safetensors_f32(arrays: &[(&str, &Array)], out: &mut impl Write) -> Result<()> {
    let tensors: Vec<_> =
        arrays.iter().map(|(name, array)| TensorToWrite { name, dtype: DType::F32, shape: &array.shape }).collect();
    let mut fill = |name: &str, to: &mut [f32]| -> Result<()> {
        for (_, array) in arrays.iter().filter(|(n, _)| *n == name) {
            to.copy_from_slice(&array.data);
        }
        Ok(())
    };
    write_safetensors(&tensors, &BTreeMap::new(), &mut fill, &mut |bytes| Ok(out.write_all(bytes)?))
}

/// Writes an array in NumPy's format, version 1.0: `<f4`, C order.
pub fn write_npy(array: &Array, out: &mut impl Write) -> Result<()> {
    let dims: Vec<String> = array.shape.iter().map(|d| d.to_string()).collect();
    let comma = if dims.len() == 1 { "," } else { "" };
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}{comma}), }}", dims.join(", "));
    // Magic, version, length and header end at a multiple of 64; the last byte is a line break.
    const BEFORE: usize = 10;
    let length = (BEFORE + header.len() + 1).next_multiple_of(64) - BEFORE;
    header.extend(std::iter::repeat_n(' ', length - header.len() - 1));
    header.push('\n');
    let length = u16::try_from(length)
        .map_err(|_| Error::new(ErrorKind::Shape, format!("{:?} has too many dimensions for .npy", array.shape)))?;
    out.write_all(b"\x93NUMPY\x01\x00")?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    for value in &array.data {
        out.write_all(&value.to_le_bytes())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn npy_is_what_numpy_writes() {
        let array = Array { shape: vec![2, 1], data: vec![1.0, -2.5] };
        let mut bytes = Vec::new();
        write_npy(&array, &mut bytes).unwrap();
        // numpy.save of the same array.
        let mut expected =
            b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1), }".to_vec();
        expected.resize(127, b' ');
        expected.push(b'\n');
        expected.extend(1f32.to_le_bytes());
        expected.extend((-2.5f32).to_le_bytes());
        assert_eq!(String::from_utf8_lossy(&bytes), String::from_utf8_lossy(&expected));
    }
}
