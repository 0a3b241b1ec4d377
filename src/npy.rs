//! NumPy's `.npy` arrays (NEP 1, versions 1 to 3), read.
//!
//! ```
//! let mut file = b"\x93NUMPY\x01\x00\x3a\x00".to_vec();
//! file.extend(b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1)}\n");
//! file.extend([1.5f32, -2.0].iter().flat_map(|v| v.to_le_bytes()));
//! let array = undiffuse::npy::parse(&file)?;
//! assert_eq!((array.shape, array.values), (vec![2, 1], vec![1.5, -2.0]));
//! # Ok::<(), undiffuse::Error>(())
//! ```

use alloc::string::String;
use alloc::vec::Vec;

use crate::error::{Result, ensure, err};
use crate::tensor::Dims;

/// An array of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct NpyArray {
    /// Its dimensions, outermost first; none for a single number.
    pub shape: Vec<usize>,
    /// Its elements in row-major order, rounded to f32; as many as the product of `shape`. They may be NaN or infinite.
    pub values: Vec<f32>,
    /// The type of the elements in the file; [`Values`](crate::values::Values) says what numbers of each type mean.
    pub element: Element,
}

impl NpyArray {
    /// The array as samples, which its first dimension counts: the dimensions of one, `[1]` where there is no other
    /// dimension, and the values.
    ///
    /// Errors: kind `InvalidArgument` for an array without a dimension; kind `Shape` for dimensions that [`Dims`] has
    /// no room for.
    pub fn into_samples(self) -> Result<(Dims, Vec<f32>)> {
        let Some((_, sample)) = self.shape.split_first() else {
            return Err(err!(InvalidArgument, "the .npy array has no dimension, expected one that counts samples"));
        };
        Ok((Dims::new(if sample.is_empty() { &[1] } else { sample })?, self.values))
    }
}

/// The array of a `.npy` file of at most 4 GiB.
///
/// Errors as [`parse`], and kind `Io`; the message names the file.
#[cfg(feature = "std")]
pub fn read(path: impl AsRef<std::path::Path>) -> Result<NpyArray> {
    let path = path.as_ref();
    let bytes = crate::files::read_bounded(path, crate::files::MAX_BYTES)?;
    parse(&bytes).map_err(|e| e.context(path.display()))
}

/// The array in the bytes of a `.npy` file: bool, integers of 1 to 8 bytes, f16, f32 and f64 in either order of bytes,
/// each rounded to f32. What the file holds in Fortran order, as NumPy saves a transposed array, is brought to
/// row-major order.
///
/// Errors: kind `InvalidArgument` for bytes that are no such file, or that do not fit its header; `Unsupported` for
/// another element type; `OutOfMemory`.
pub fn parse(bytes: &[u8]) -> Result<NpyArray> {
    let cut = || err!(InvalidArgument, "the .npy file is cut within its header");
    let rest = bytes
        .strip_prefix(b"\x93NUMPY")
        .ok_or_else(|| err!(InvalidArgument, "no .npy file: it does not begin with \\x93NUMPY"))?;
    let (version, rest) = rest.split_first_chunk::<2>().ok_or_else(cut)?;
    let (len, rest) = match version[0] {
        1 => rest.split_first_chunk::<2>().map(|(n, rest)| (u32::from(u16::from_le_bytes(*n)), rest)),
        2 | 3 => rest.split_first_chunk::<4>().map(|(n, rest)| (u32::from_le_bytes(*n), rest)),
        other => return Err(err!(Unsupported, "the .npy file has version {other}, expected 1 to 3")),
    }
    .ok_or_else(cut)?;
    let (header, data) = usize::try_from(len).ok().and_then(|n| rest.split_at_checked(n)).ok_or_else(cut)?;
    let header = core::str::from_utf8(header).map_err(|_| err!(InvalidArgument, "the .npy header is no text"))?;
    let Header { element, big_endian, fortran, shape } = Header::parse(header)?;
    // Before any memory is asked for.
    let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    let expected = count.and_then(|n| n.checked_mul(element.size()));
    ensure!(
        expected == Some(data.len()),
        InvalidArgument,
        "the .npy array of shape {shape:?} has {} bytes of {}-byte elements",
        data.len(),
        element.size()
    );
    let count = count.unwrap_or(0);
    let mut values = Vec::new();
    values.try_reserve_exact(count).map_err(|_| err!(OutOfMemory, "no memory for {count} values of a .npy array"))?;
    if big_endian {
        // A few at a time, turned round.
        let mut little = Vec::with_capacity(TURNED);
        for part in data.chunks(TURNED) {
            little.clear();
            part.chunks_exact(element.size()).for_each(|bytes| little.extend(bytes.iter().rev()));
            element.read(&little, &mut values);
        }
    } else {
        element.read(data, &mut values);
    }
    if fortran && shape.len() > 1 {
        values = row_major(&shape, &values)?;
    }
    Ok(NpyArray { shape, values, element })
}

/// Bytes of big-endian elements that are turned round at once: whole elements.
const TURNED: usize = 1 << 12;

/// The elements of an array of `shape` in row-major order, from those in column-major order.
fn row_major(shape: &[usize], columns: &[f32]) -> Result<Vec<f32>> {
    let len = columns.len();
    let mut rows = Vec::new();
    rows.try_reserve_exact(len).map_err(|_| err!(OutOfMemory, "no memory for {len} values of a .npy array"))?;
    // How far apart neighbours of each dimension are in the file.
    let mut strides = Vec::new();
    let mut stride = 1;
    for &d in shape {
        strides.push(stride);
        stride *= d;
    }
    let mut index = alloc::vec![0; shape.len()];
    let mut at = 0;
    while rows.len() < len {
        rows.push(columns.get(at).copied().unwrap_or_default());
        for ((i, &d), &stride) in index.iter_mut().zip(shape).zip(&strides).rev() {
            *i += 1;
            at += stride;
            if *i < d {
                break;
            }
            at -= d * stride;
            *i = 0;
        }
    }
    Ok(rows)
}

/// The type of an array's elements in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Element {
    Bool,
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F16,
    F32,
    F64,
}

impl Element {
    /// NumPy's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::U8 => "uint8",
            Self::I8 => "int8",
            Self::U16 => "uint16",
            Self::I16 => "int16",
            Self::U32 => "uint32",
            Self::I32 => "int32",
            Self::U64 => "uint64",
            Self::I64 => "int64",
            Self::F16 => "float16",
            Self::F32 => "float32",
            Self::F64 => "float64",
        }
    }

    /// From what NumPy calls it, and whether the bytes of an element begin with the highest.
    fn parse(descr: &str) -> Result<(Self, bool)> {
        let refused = || {
            let shown: String = descr.chars().take(40).collect();
            err!(Unsupported, "the .npy array is of type {shown}, expected bool, integers or floats of at most 8 bytes")
        };
        let mut letters = descr.chars();
        let order = letters.next().ok_or_else(refused)?;
        let element = match letters.as_str() {
            "b1" => Element::Bool,
            "u1" => Element::U8,
            "i1" => Element::I8,
            "u2" => Element::U16,
            "i2" => Element::I16,
            "u4" => Element::U32,
            "i4" => Element::I32,
            "u8" => Element::U64,
            "i8" => Element::I64,
            "f2" => Element::F16,
            "f4" => Element::F32,
            "f8" => Element::F64,
            _ => return Err(refused()),
        };
        match (order, element.size()) {
            ('|', 1) => Ok((element, false)),
            ('<', 2..) => Ok((element, false)),
            ('>', 2..) => Ok((element, true)),
            _ => Err(refused()),
        }
    }

    fn size(self) -> usize {
        match self {
            Element::Bool | Element::U8 | Element::I8 => 1,
            Element::U16 | Element::I16 | Element::F16 => 2,
            Element::U32 | Element::I32 | Element::F32 => 4,
            Element::U64 | Element::I64 | Element::F64 => 8,
        }
    }

    fn read(self, data: &[u8], out: &mut Vec<f32>) {
        let twos = data.as_chunks::<2>().0.iter().copied();
        let fours = data.as_chunks::<4>().0.iter().copied();
        let eights = data.as_chunks::<8>().0.iter().copied();
        match self {
            Element::Bool | Element::U8 => out.extend(data.iter().map(|&v| f32::from(v))),
            Element::I8 => out.extend(data.iter().map(|&v| f32::from(v as i8))),
            Element::U16 => out.extend(twos.map(|b| f32::from(u16::from_le_bytes(b)))),
            Element::I16 => out.extend(twos.map(|b| f32::from(i16::from_le_bytes(b)))),
            Element::F16 => out.extend(twos.map(|b| half::f16::from_le_bytes(b).to_f32())),
            Element::U32 => out.extend(fours.map(|b| u32::from_le_bytes(b) as f32)),
            Element::I32 => out.extend(fours.map(|b| i32::from_le_bytes(b) as f32)),
            Element::F32 => out.extend(fours.map(f32::from_le_bytes)),
            Element::U64 => out.extend(eights.map(|b| u64::from_le_bytes(b) as f32)),
            Element::I64 => out.extend(eights.map(|b| i64::from_le_bytes(b) as f32)),
            Element::F64 => out.extend(eights.map(|b| f64::from_le_bytes(b) as f32)),
        }
    }
}

/// What the dictionary of the header says.
struct Header {
    element: Element,
    big_endian: bool,
    fortran: bool,
    shape: Vec<usize>,
}

impl Header {
    /// Parses the Python literal `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }`, its keys in any order.
    fn parse(text: &str) -> Result<Self> {
        let malformed = || err!(InvalidArgument, "the .npy header is no dictionary of descr, fortran_order and shape");
        let mut rest = text.trim().strip_prefix('{').and_then(|t| t.strip_suffix('}')).ok_or_else(malformed)?.trim();
        let (mut element, mut fortran, mut shape) = (None, None, None);
        while !rest.is_empty() {
            let (key, value) = rest.split_once(':').ok_or_else(malformed)?;
            let value = value.trim_start();
            let end = match value.strip_prefix('(') {
                Some(_) => value.find(')').map(|at| at + 1),
                None => Some(value.find(',').unwrap_or(value.len())),
            };
            let (value, after) = end.and_then(|at| value.split_at_checked(at)).ok_or_else(malformed)?;
            let value = value.trim();
            let new = match key.trim() {
                "'descr'" => {
                    let descr = value.strip_prefix('\'').and_then(|v| v.strip_suffix('\'')).ok_or_else(malformed)?;
                    element.replace(Element::parse(descr)?).is_none()
                }
                "'fortran_order'" => fortran.replace(boolean(value).ok_or_else(malformed)?).is_none(),
                "'shape'" => shape.replace(tuple(value).ok_or_else(malformed)?).is_none(),
                _ => false,
            };
            ensure!(new, InvalidArgument, "the .npy header has an unknown key, or one twice");
            let after = after.trim_start();
            rest = after.strip_prefix(',').unwrap_or(after).trim();
            ensure!(after.starts_with(',') || rest.is_empty(), InvalidArgument, "the .npy header lacks a comma");
        }
        match (element, fortran, shape) {
            (Some((element, big_endian)), Some(fortran), Some(shape)) => {
                Ok(Self { element, big_endian, fortran, shape })
            }
            _ => Err(malformed()),
        }
    }
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "True" => Some(true),
        "False" => Some(false),
        _ => None,
    }
}

/// `()`, `(2,)` or `(2, 3)`.
fn tuple(text: &str) -> Option<Vec<usize>> {
    let inner = text.strip_prefix('(')?.strip_suffix(')')?.trim();
    let inner = inner.strip_suffix(',').unwrap_or(inner);
    if inner.is_empty() {
        return Some(Vec::new());
    }
    inner.split(',').map(|d| d.trim().parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;
    use crate::ErrorKind;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    fn header(descr: &str, shape: &str) -> String {
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}   \n")
    }

    #[test]
    fn every_type_is_read() {
        let floats: Vec<u8> = [1.5f32, -2.0, 3.0, 4.0, 5.0, 6.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        let data = parse(&file(&header("<f4", "(2, 3)"), &floats)).unwrap();
        assert_eq!((data.shape.as_slice(), &data.values[..3]), (&[2, 3][..], &[1.5, -2.0, 3.0][..]));
        let (dims, values) = data.into_samples().unwrap();
        assert_eq!((dims.as_slice(), values.len()), (&[3][..], 6));
        for (descr, bytes) in [
            ("|u1", &[7u8][..]),
            ("|b1", &[1]),
            ("|i1", &(-3i8).to_le_bytes()),
            ("<u2", &300u16.to_le_bytes()),
            ("<i2", &(-300i16).to_le_bytes()),
            ("<u4", &70_000u32.to_le_bytes()),
            ("<i4", &(-70_000i32).to_le_bytes()),
            ("<u8", &70_000u64.to_le_bytes()),
            ("<i8", &(-70_000i64).to_le_bytes()),
            ("<f2", &half::f16::from_f32(0.5).to_le_bytes()),
            ("<f8", &0.1f64.to_le_bytes()),
        ] {
            let expected = [7.0, 1.0, -3.0, 300.0, -300.0, 70_000.0, -70_000.0, 70_000.0, -70_000.0, 0.5, 0.1];
            let names = ["|u1", "|b1", "|i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f2", "<f8"];
            let want = expected[names.iter().position(|n| *n == descr).unwrap()];
            assert_eq!(parse(&file(&header(descr, "(1,)"), bytes)).unwrap().values, [want], "{descr}");
        }
        let big: Vec<u8> = (0..3000).flat_map(|i| (i as f64 * 0.25).to_be_bytes()).collect();
        let read = parse(&file(&header(">f8", "(3000,)"), &big)).unwrap();
        assert!(read.values.iter().enumerate().all(|(i, &v)| v == i as f32 * 0.25));
        assert_eq!(parse(&file(&header(">i2", "(1,)"), &(-300i16).to_be_bytes())).unwrap().values, [-300.0]);
        // Keys in another order, as some writers have them, and version 2.
        let other = "{'shape': (1,), 'descr': '|u1', 'fortran_order': False}";
        let mut two = b"\x93NUMPY\x02\x00".to_vec();
        two.extend((other.len() as u32).to_le_bytes());
        two.extend(other.as_bytes());
        two.push(9);
        assert_eq!(parse(&two).unwrap().values, [9.0]);
    }

    /// `numpy.save` of `numpy.arange(24, dtype="u1").reshape(shape)` and of the same array as Fortran keeps it.
    #[test]
    fn both_orders_are_the_same_array() {
        for (shape, [a, b, c]) in [("(2, 3, 4)", [2, 3, 4]), ("(24,)", [24, 1, 1]), ("(1, 24)", [1, 24, 1])] {
            let c_order: Vec<u8> = (0..24).collect();
            let at = |i: usize| {
                let (x, y, z) = (i % a, i / a % b, i / a / b);
                c_order[(x * b + y) * c + z]
            };
            let fortran_order: Vec<u8> = (0..24).map(at).collect();
            let header = header("|u1", shape);
            let c_file = parse(&file(&header, &c_order)).unwrap();
            assert_eq!(parse(&file(&header.replace("False", "True"), &fortran_order)).unwrap(), c_file, "{shape}");
        }
        let none = parse(&file(&header("|u1", "(3, 0)").replace("False", "True"), &[])).unwrap();
        assert_eq!((none.shape.as_slice(), none.values.len()), (&[3, 0][..], 0));
    }

    #[test]
    fn what_is_no_array_is_refused() {
        let good = file(&header("|u1", "(2, 2)"), &[1, 2, 3, 4]);
        assert_eq!(parse(&good).unwrap().values, [1.0, 2.0, 3.0, 4.0]);
        for cut in 0..good.len() {
            assert!(parse(&good[..cut]).is_err(), "cut at {cut}");
        }
        let kind = |header: &str| parse(&file(header, &[1, 2, 3, 4])).unwrap_err().kind();
        for descr in [">u1", "|f4", "<f16", "<c8", "|O", "<U3", "=f4", "f4", ""] {
            assert_eq!(kind(&header(descr, "(1,)")), ErrorKind::Unsupported, "{descr}");
        }
        for bad in [
            "",
            "{}",
            "{'descr': '|u1', 'fortran_order': False}",
            "{'descr': '|u1', 'descr': '|u1', 'fortran_order': False, 'shape': (4,)}",
            "{'descr': '|u1', 'fortran_order': False, 'shape': (4,), 'x': 1}",
            "{'descr': '|u1' 'fortran_order': False, 'shape': (4,)}",
            "{'descr': '|u1', 'fortran_order': 0, 'shape': (4,)}",
        ] {
            assert_eq!(kind(bad), ErrorKind::InvalidArgument, "{bad}");
        }
        for shape in ["()", "(0,)", "(-4,)", "(4", "(2, 0)", "(18446744073709551615, 2)", "(9,)"] {
            assert!(parse(&file(&header("|u1", shape), &[1, 2, 3, 4])).is_err(), "{shape}");
        }
    }

    #[test]
    fn what_are_no_samples_is_refused() {
        for (shape, data) in [("()", &[1][..]), ("(1, 1, 1, 1, 1, 2)", &[1, 2]), ("(3, 0)", &[])] {
            let array = parse(&file(&header("|u1", shape), data)).unwrap();
            assert_eq!(array.values.len(), data.len());
            assert!(array.into_samples().is_err(), "{shape}");
        }
        let (dims, values) = parse(&file(&header("|i1", "(2,)"), &[1, 2])).unwrap().into_samples().unwrap();
        assert_eq!((dims.as_slice(), values.len()), (&[1][..], 2));
    }
}
