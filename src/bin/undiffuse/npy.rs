//! Reading NumPy's .npy: bytes and floats, as they are met in sets of images.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use undiffuse::{Error, ErrorKind, Result};

use crate::arrays::Array;

/// The longest header that is read; NumPy's own has some 80 bytes.
const MAX_HEADER: usize = 1 << 16;

/// How the elements of a file are stored.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Byte,
    Float,
    Double,
}

/// An array of a file as it stands there, and whether its elements are bytes (or booleans).
pub fn read_npy(path: &Path) -> Result<(Array, bool)> {
    let read = || {
        let file = BufReader::new(File::open(path)?);
        parse(file)
    };
    read().map_err(|e| e.context(path.display()))
}

fn malformed(text: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument, text)
}

fn parse(mut from: impl Read) -> Result<(Array, bool)> {
    let mut start = [0; 8];
    from.read_exact(&mut start)?;
    let length = match start {
        [0x93, b'N', b'U', b'M', b'P', b'Y', 1, _] => {
            let mut bytes = [0; 2];
            from.read_exact(&mut bytes)?;
            usize::from(u16::from_le_bytes(bytes))
        }
        [0x93, b'N', b'U', b'M', b'P', b'Y', 2 | 3, _] => {
            let mut bytes = [0; 4];
            from.read_exact(&mut bytes)?;
            u32::from_le_bytes(bytes) as usize
        }
        _ => return Err(malformed("this is no .npy file")),
    };
    if length > MAX_HEADER {
        return Err(malformed(format!(
            "the header of the .npy file has {length} bytes, expected at most {MAX_HEADER}"
        )));
    }
    let mut header = vec![0; length];
    from.read_exact(&mut header)?;
    let (kind, shape) = parse_header(&String::from_utf8_lossy(&header))?;
    let mut array = Array::zeros("the array", &shape)?;
    let width = match kind {
        Kind::Byte => 1,
        Kind::Float => 4,
        Kind::Double => 8,
    };
    let mut buffer = vec![0; 8192 * width];
    for part in array.data.chunks_mut(8192) {
        let Some(bytes) = buffer.get_mut(..part.len() * width) else { continue };
        from.read_exact(bytes)
            .map_err(|e| Error::from(e).context(format!("an array of shape {shape:?} has fewer elements")))?;
        for (to, b) in part.iter_mut().zip(bytes.chunks_exact(width)) {
            *to = match (kind, b) {
                (Kind::Byte, &[b]) => f32::from(b),
                (Kind::Float, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
                (Kind::Double, &[a, b, c, d, e, f, g, h]) => f64::from_le_bytes([a, b, c, d, e, f, g, h]) as f32,
                _ => 0.0,
            };
        }
    }
    if from.read(&mut [0])? != 0 {
        return Err(malformed(format!("an array of shape {shape:?} has more elements than that")));
    }
    Ok((array, kind == Kind::Byte))
}

/// The text of a key's value, up to what ends it.
fn value<'a>(header: &'a str, key: &str, end: char) -> Result<&'a str> {
    header
        .split_once(&format!("'{key}':"))
        .and_then(|(_, rest)| rest.split_once(end))
        .map(|(value, _)| value.trim())
        .ok_or_else(|| malformed(format!("the header of the .npy file has no {key}")))
}

fn parse_header(header: &str) -> Result<(Kind, Vec<usize>)> {
    let kind = match value(header, "descr", ',')?.trim_matches('\'') {
        "|u1" | "|b1" => Kind::Byte,
        "<f4" => Kind::Float,
        "<f8" => Kind::Double,
        other => {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("the elements of the .npy file are {other}, expected |u1, |b1, <f4 or <f8"),
            ));
        }
    };
    match value(header, "fortran_order", ',')? {
        "False" => {}
        _ => return Err(Error::new(ErrorKind::Unsupported, "the .npy file is in Fortran order, expected C order")),
    }
    let list = value(header, "shape", ')')?.trim_start_matches('(');
    let dims = list.split(',').map(str::trim).filter(|d| !d.is_empty()).map(str::parse);
    let shape: std::result::Result<Vec<usize>, _> = dims.collect();
    Ok((kind, shape.map_err(|_| malformed(format!("the .npy file has the shape ({list})")))?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arrays::write_npy;

    fn file(descr: &str, order: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        for shape in [&[2, 3][..], &[6], &[1, 1, 2, 3]] {
            let array = Array { shape: shape.to_vec(), data: (0..6).map(|i| i as f32 / 3.0 - 1.0).collect() };
            let mut bytes = Vec::new();
            write_npy(&array, &mut bytes).unwrap();
            assert_eq!(parse(bytes.as_slice()).unwrap(), (array, false));
        }
        let (array, bytes) = parse(file("|u1", "False", "(1, 3)", &[0, 7, 255]).as_slice()).unwrap();
        assert_eq!((array.shape, array.data, bytes), (vec![1, 3], vec![0.0, 7.0, 255.0], true));
        let double = parse(file("<f8", "False", "(1,)", &0.25f64.to_le_bytes()).as_slice()).unwrap();
        assert_eq!(double.0.data, [0.25]);
        assert_eq!(parse(file("<f4", "False", "()", &1f32.to_le_bytes()).as_slice()).unwrap().0.shape, [0usize; 0]);
    }

    #[test]
    fn what_is_no_array_is_refused() {
        for (bytes, text) in [
            (b"PNG".to_vec(), ""),
            (b"\x93NUMPY\x09\x00\x00\x00".to_vec(), "no .npy"),
            (b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec(), "header"),
            (file(">f4", "False", "(1,)", &[0; 4]), ">f4"),
            (file("<i8", "False", "(1,)", &[0; 8]), "<i8"),
            (file("|O", "False", "(1,)", &[0; 8]), "|O"),
            (file("<f4", "True", "(1,)", &[0; 4]), "Fortran"),
            (file("<f4", "False", "(2,)", &[0; 4]), "fewer"),
            (file("<f4", "False", "(1,)", &[0; 8]), "more"),
            (file("<f4", "False", "(-1,)", &[0; 8]), "shape"),
            (file("<f4", "False", "(99999999999, 99999999999)", &[0; 8]), "memory"),
        ] {
            let e = parse(bytes.as_slice()).unwrap_err();
            assert!(e.to_string().contains(text), "{e}");
        }
    }
}
