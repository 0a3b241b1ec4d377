//! Files as Python writes them, and what is in those that the program writes.

use std::collections::BTreeMap;
use std::path::Path;

use undiffuse::tensor::DType;
use undiffuse::weights::{SafeTensorsFile, TensorToWrite, WeightSource, write_safetensors};

/// The words of a command line.
pub fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

/// A tensor of a file.
pub fn tensor(dir: &Path, file: &str, name: &str) -> Vec<f32> {
    let file = SafeTensorsFile::open(dir.join(file)).unwrap();
    let mut values = vec![0.0; file.info(name).unwrap().shape.iter().product()];
    file.read_f32(name, &mut values).unwrap();
    values
}

/// A safetensors file of these names, shapes and values.
pub fn safetensors(tensors: &[(&str, &[usize], &[f32])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let list: Vec<_> =
        tensors.iter().map(|&(name, shape, _)| TensorToWrite { name, dtype: DType::F32, shape }).collect();
    let mut fill = |name: &str, out: &mut [f32]| {
        out.copy_from_slice(tensors.iter().find(|t| t.0 == name).unwrap().2);
        Ok(())
    };
    write_safetensors(&list, &BTreeMap::new(), &mut fill, &mut |b| {
        bytes.extend_from_slice(b);
        Ok(())
    })
    .unwrap();
    bytes
}

/// A `.npy` file of this type and shape.
pub fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}");
    header += &" ".repeat(118 - 1 - header.len());
    header.push('\n');
    [&b"\x93NUMPY\x01\x00\x76\x00"[..], header.as_bytes(), data].concat()
}

/// The bytes of these values.
pub fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}
