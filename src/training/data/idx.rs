//! The idx format of MNIST and Fashion-MNIST.

use alloc::vec::Vec;
use std::io::Read;
use std::path::Path;

use super::{Dataset, MAX_BYTES, read_bounded, room};
use crate::error::{Result, ensure, err};
use crate::npy::Element;
use crate::tensor::Dims;

/// Reads a file of images or labels, packed by gzip or not. Images of `[H, W]` become samples of `[1, H, W]`.
///
/// Errors as [`parse_idx`], and kind `Io`; the message names the file.
pub fn read_idx(path: &Path) -> Result<Dataset> {
    let mut bytes = read_bounded(path)?;
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let mut plain = Vec::new();
        // One byte more than is allowed, to tell.
        let mut reader = flate2::read::MultiGzDecoder::new(bytes.as_slice()).take(MAX_BYTES + 1);
        reader.read_to_end(&mut plain).map_err(|e| crate::Error::from(e).context(path.display()))?;
        ensure!(
            plain.len() as u64 <= MAX_BYTES,
            InvalidArgument,
            "{}: unpacks to more than {MAX_BYTES} bytes",
            path.display()
        );
        bytes = plain;
    }
    parse_idx(&bytes).map_err(|e| e.context(path.display()))
}

/// The array in the bytes of an idx file: two zeros, the element's type (8 u8, 9 i8, 11 i16, 12 i32, 13 f32, 14 f64),
/// the number of dimensions, each as a big-endian u32, and the elements, big-endian. The first dimension counts the
/// samples.
///
/// Errors: kind `InvalidArgument` for bytes that are no such file; those of [`Dataset::new`].
pub fn parse_idx(bytes: &[u8]) -> Result<Dataset> {
    let cut = || err!(InvalidArgument, "the idx file is cut within its header");
    let (&[a, b, kind, rank], mut rest) = bytes.split_first_chunk::<4>().ok_or_else(cut)?;
    ensure!(a == 0 && b == 0, InvalidArgument, "no idx file: it begins with {a} {b}, expected 0 0");
    ensure!((1..=4).contains(&rank), InvalidArgument, "the idx file has {rank} dimensions, expected 1 to 4");
    let mut shape = Vec::new();
    for _ in 0..rank {
        let (dim, after) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
        shape.push(usize::try_from(u32::from_be_bytes(*dim)).map_err(|_| err!(InvalidArgument, "too many samples"))?);
        rest = after;
    }
    let (&count, sample) = shape.split_first().ok_or_else(cut)?;
    let dims = match *sample {
        [] => Dims::new(&[1])?,
        [height, width] => Dims::new(&[1, height, width])?,
        _ => Dims::new(sample)?,
    };
    let (size, element) = match kind {
        8 => (1, Element::U8),
        9 => (1, Element::I8),
        11 => (2, Element::I16),
        12 => (4, Element::I32),
        13 => (4, Element::F32),
        14 => (8, Element::F64),
        other => return Err(err!(InvalidArgument, "the idx file has elements of type {other}, expected 8 to 14")),
    };
    // Before any memory is asked for.
    ensure!(
        count.checked_mul(dims.elements()).and_then(|n| n.checked_mul(size)) == Some(rest.len()),
        InvalidArgument,
        "the idx file of shape {shape:?} has {} bytes of {size}-byte elements",
        rest.len()
    );
    let mut values = room("the idx file", count, &dims)?;
    let fours = || rest.as_chunks::<4>().0.iter().copied();
    match kind {
        8 => values.extend(rest.iter().map(|&v| f32::from(v))),
        9 => values.extend(rest.iter().map(|&v| f32::from(v as i8))),
        11 => values.extend(rest.as_chunks::<2>().0.iter().map(|b| f32::from(i16::from_be_bytes(*b)))),
        12 => values.extend(fours().map(|b| i32::from_be_bytes(b) as f32)),
        13 => values.extend(fours().map(f32::from_be_bytes)),
        _ => values.extend(rest.as_chunks::<8>().0.iter().map(|b| f64::from_be_bytes(*b) as f32)),
    }
    Ok(Dataset::new(dims, values)?.of_element(element))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(kind: u8, shape: &[u32], data: &[u8]) -> Vec<u8> {
        let mut bytes = [0, 0, kind, shape.len() as u8].to_vec();
        bytes.extend(shape.iter().flat_map(|d| d.to_be_bytes()));
        bytes.extend(data);
        bytes
    }

    #[test]
    fn images_and_labels_are_read() {
        let images = file(8, &[2, 2, 1], &[0, 128, 255, 3]);
        let data = parse_idx(&images).unwrap();
        assert_eq!((data.count(), data.dims().as_slice()), (2, &[1, 2, 1][..]));
        assert_eq!(data.values(), [0.0, 128.0, 255.0, 3.0]);
        assert_eq!(parse_idx(&file(11, &[1], &(-5i16).to_be_bytes())).unwrap().values(), [-5.0]);
        assert_eq!(parse_idx(&file(13, &[1], &1.5f32.to_be_bytes())).unwrap().values(), [1.5]);
        assert_eq!(parse_idx(&file(14, &[1], &0.1f64.to_be_bytes())).unwrap().values(), [0.1]);
        for cut in 0..images.len() {
            assert!(parse_idx(&images[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn a_packed_file_is_unpacked() {
        let images = file(8, &[1, 2, 2], &[1, 2, 3, 4]);
        let path = std::env::temp_dir().join(alloc::format!("undiffuse-idx-{}.gz", std::process::id()));
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(&images).unwrap();
        let packed = packer.finish().unwrap();
        std::fs::write(&path, &packed).unwrap();
        assert_eq!(read_idx(&path).unwrap().values(), [1.0, 2.0, 3.0, 4.0]);
        std::fs::write(&path, &packed[..packed.len() - 9]).unwrap();
        assert!(read_idx(&path).is_err());
        std::fs::remove_file(&path).unwrap();
        assert!(read_idx(&path).unwrap_err().message().contains("undiffuse-idx"));
    }

    #[test]
    fn what_is_no_idx_file_is_refused() {
        for bytes in [
            file(8, &[], &[]),
            file(8, &[1, 1, 1, 1, 1], &[1]),
            file(10, &[1], &[1]),
            file(8, &[0], &[]),
            file(8, &[2], &[1]),
            file(8, &[u32::MAX, u32::MAX, u32::MAX, u32::MAX], &[1]),
            file(8, &[u32::MAX], &[1]),
            [1, 0, 8, 1, 0, 0, 0, 1, 7].to_vec(),
            file(13, &[1], &f32::NAN.to_be_bytes()),
        ] {
            assert!(parse_idx(&bytes).is_err(), "{bytes:?}");
        }
    }
}
