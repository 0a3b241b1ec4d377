//! Constants: what initialisers hold and what is known of a file without running it.

use alloc::sync::Arc;
use alloc::vec::Vec;

use half::{bf16, f16};

use super::model::TensorProto;
use super::protobuf::shown;
use super::translate::External;
use crate::error::{Result, ensure, err};

/// Elements in row-major order. Truth values are whole numbers, 0 and 1.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Data {
    Float(Arc<Vec<f32>>),
    Int(Arc<Vec<i64>>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tensor {
    pub shape: Vec<usize>,
    pub data: Data,
    /// What the file calls the tensor that it was made of, if it was made of one.
    pub name: Option<Arc<str>>,
}

/// The most dimensions of what is made of tensors on the way.
pub(super) const MOST_AXES: usize = 16;

/// The number of elements, if it is one of this machine.
pub(super) fn count(shape: &[usize]) -> Result<usize> {
    ensure!(
        shape.len() <= MOST_AXES,
        Unsupported,
        "a tensor of {} dimensions, expected at most {MOST_AXES}",
        shape.len()
    );
    let n = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    n.filter(|&n| n <= 1 << 40).ok_or_else(|| err!(Shape, "a tensor of shape {shape:?} has too many elements"))
}

/// How far apart neighbours of each dimension are.
pub(super) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides: Vec<usize> = alloc::vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i].saturating_mul(shape[i]);
    }
    strides
}

/// The shape of two that are broadcast together.
pub(super) fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>> {
    let n = a.len().max(b.len());
    let at = |s: &[usize], i: usize| (i + s.len()).checked_sub(n).and_then(|i| s.get(i)).copied().unwrap_or(1);
    let one = |i| match (at(a, i), at(b, i)) {
        (x, y) if x == y => Ok(x),
        (1, y) => Ok(y),
        (x, 1) => Ok(x),
        _ => Err(err!(Shape, "values of {a:?} and {b:?} do not broadcast")),
    };
    (0..n).map(one).collect()
}

impl Tensor {
    pub fn floats(shape: &[usize], values: Vec<f32>) -> Self {
        Self { shape: shape.to_vec(), data: Data::Float(Arc::new(values)), name: None }
    }

    pub fn ints(shape: &[usize], values: Vec<i64>) -> Self {
        Self { shape: shape.to_vec(), data: Data::Int(Arc::new(values)), name: None }
    }

    pub fn len(&self) -> usize {
        match &self.data {
            Data::Float(v) => v.len(),
            Data::Int(v) => v.len(),
        }
    }

    pub fn is_int(&self) -> bool {
        matches!(self.data, Data::Int(_))
    }

    pub fn get(&self, i: usize) -> f64 {
        match &self.data {
            Data::Float(v) => v.get(i).map_or(0.0, |&v| f64::from(v)),
            Data::Int(v) => v.get(i).map_or(0.0, |&v| v as f64),
        }
    }

    /// The only element.
    pub fn single(&self) -> Option<f64> {
        (self.len() == 1).then(|| self.get(0))
    }

    /// The element that all are equal to.
    pub fn uniform(&self) -> Option<f64> {
        let first = self.get(0);
        (self.len() > 0 && (0..self.len()).all(|i| self.get(i) == first)).then_some(first)
    }

    /// Its elements as whole numbers.
    pub fn whole(&self, what: &str) -> Result<&[i64]> {
        match &self.data {
            Data::Int(v) => Ok(v),
            Data::Float(_) => Err(err!(InvalidArgument, "{what} are floats, expected whole numbers")),
        }
    }

    /// Its elements as sizes.
    pub fn sizes(&self, what: &str) -> Result<Vec<usize>> {
        let one = |&n: &i64| {
            let n = usize::try_from(n).ok().filter(|&n| n <= 1 << 40);
            n.ok_or_else(|| err!(InvalidArgument, "{what} are {:?}, expected sizes", self.brief()))
        };
        self.whole(what)?.iter().map(one).collect()
    }

    pub fn to_floats(&self) -> Arc<Vec<f32>> {
        match &self.data {
            Data::Float(v) => v.clone(),
            Data::Int(v) => Arc::new(v.iter().map(|&v| v as f32).collect()),
        }
    }

    /// Whether these floats are its elements.
    pub fn holds(&self, values: &Arc<Vec<f32>>) -> bool {
        matches!(&self.data, Data::Float(own) if Arc::ptr_eq(own, values) || own == values)
    }

    pub fn named(mut self, name: Option<Arc<str>>) -> Self {
        self.name = name;
        self
    }

    pub fn with_shape(&self, shape: &[usize]) -> Self {
        Self { shape: shape.to_vec(), data: self.data.clone(), name: self.name.clone() }
    }

    /// Elements by their places.
    pub fn pick(&self, shape: &[usize], places: impl Iterator<Item = usize>) -> Self {
        let data = match &self.data {
            Data::Float(v) => Data::Float(Arc::new(places.map(|i| v.get(i).copied().unwrap_or_default()).collect())),
            Data::Int(v) => Data::Int(Arc::new(places.map(|i| v.get(i).copied().unwrap_or_default()).collect())),
        };
        Self { shape: shape.to_vec(), data, name: self.name.clone() }
    }

    /// The same elements in another order of axes.
    pub fn transposed(&self, order: &[usize]) -> Self {
        let from = strides(&self.shape);
        let shape: Vec<usize> = order.iter().map(|&a| self.shape[a]).collect();
        let steps: Vec<usize> = order.iter().map(|&a| from[a]).collect();
        let places = places(&shape, &steps);
        self.pick(&shape, places)
    }

    /// Broadcast to a shape, which was checked to be one that it broadcasts to.
    pub fn expanded(&self, shape: &[usize]) -> Self {
        if self.shape == shape {
            return self.clone();
        }
        let (own, lift) = (strides(&self.shape), shape.len().saturating_sub(self.shape.len()));
        let step = |i: usize| i.checked_sub(lift).filter(|&i| self.shape[i] != 1).map_or(0, |i| own[i]);
        let steps: Vec<usize> = (0..shape.len()).map(step).collect();
        let places = places(shape, &steps);
        self.pick(shape, places)
    }

    /// A few of its elements, for a message.
    pub fn brief(&self) -> Vec<f64> {
        (0..self.len().min(8)).map(|i| self.get(i)).collect()
    }
}

/// The places of elements whose neighbours along each dimension of `shape` are so many places apart.
pub(super) fn places<'a>(shape: &'a [usize], steps: &'a [usize]) -> impl Iterator<Item = usize> + use<'a> {
    let total: usize = shape.iter().product();
    let mut index = alloc::vec![0usize; shape.len()];
    let mut at = 0usize;
    (0..total).map(move |_| {
        let here = at;
        for ((i, &d), &step) in index.iter_mut().zip(shape).zip(steps).rev() {
            *i += 1;
            at += step;
            if *i < d {
                break;
            }
            at -= d * step;
            *i = 0;
        }
        here
    })
}

/// The name of an element type.
pub(super) fn type_name(data_type: i64) -> &'static str {
    match data_type {
        1 => "float32",
        2 => "uint8",
        3 => "int8",
        4 => "uint16",
        5 => "int16",
        6 => "int32",
        7 => "int64",
        8 => "string",
        9 => "bool",
        10 => "float16",
        11 => "float64",
        12 => "uint32",
        13 => "uint64",
        14 => "complex64",
        15 => "complex128",
        16 => "bfloat16",
        _ => "unknown",
    }
}

/// Whether it is a type of floats, of those that are read.
pub(super) fn is_float(data_type: i64) -> Option<bool> {
    match data_type {
        1 | 10 | 11 | 16 => Some(true),
        2..=7 | 9 | 12 | 13 => Some(false),
        _ => None,
    }
}

impl TensorProto<'_> {
    /// The tensor. `external` gives bytes of another file: its name, where they begin and how many they are.
    pub fn read(&self, external: &mut External<'_>) -> Result<Tensor> {
        self.elements(external).map_err(|e| e.context(format_args!("tensor {}", shown(self.name))))
    }

    fn elements(&self, external: &mut External<'_>) -> Result<Tensor> {
        let kind = is_float(self.data_type);
        let kind = kind.filter(|_| !self.has_other).ok_or_else(|| {
            let name = type_name(self.data_type);
            err!(Unsupported, "its elements are of type {} ({name}), expected floats or whole numbers", self.data_type)
        })?;
        let size = |&d: &i64| usize::try_from(d).ok();
        let shape: Option<Vec<usize>> = self.dims.iter().map(size).collect();
        let shape = shape.ok_or_else(|| err!(Shape, "its dimensions are {:?}, expected sizes", self.dims))?;
        let n = count(&shape)?;
        let owned;
        let raw = match self.raw {
            _ if self.is_external => {
                owned = self.outside(n, external)?;
                Some(owned.as_slice())
            }
            raw => raw,
        };
        let fits = |got: usize, unit: &str| {
            ensure!(got == n, InvalidArgument, "it has {got} {unit}, expected the {n} elements of {shape:?}");
            Ok(())
        };
        let Some(raw) = raw else {
            if kind && !matches!(self.data_type, 10 | 16) {
                fits(self.floats.len(), "floats")?;
                return Ok(Tensor::floats(&shape, self.floats.clone()));
            }
            fits(self.ints.len(), "numbers")?;
            // Halves stand as their bits.
            let bits = |&v: &i64| v as u16;
            return Ok(match self.data_type {
                10 => Tensor::floats(&shape, self.ints.iter().map(|v| f16::from_bits(bits(v)).to_f32()).collect()),
                16 => Tensor::floats(&shape, self.ints.iter().map(|v| bf16::from_bits(bits(v)).to_f32()).collect()),
                _ => Tensor::ints(&shape, self.ints.clone()),
            });
        };
        let width = element_size(self.data_type);
        ensure!(raw.len().is_multiple_of(width), InvalidArgument, "it has {} bytes", raw.len());
        fits(raw.len() / width, "elements")?;
        macro_rules! each {
            ($n:literal, $make:ident, $of:expr) => {
                Tensor::$make(&shape, raw.as_chunks::<$n>().0.iter().map(|b| $of(*b)).collect())
            };
        }
        Ok(match self.data_type {
            1 => each!(4, floats, f32::from_le_bytes),
            10 => each!(2, floats, |b| f16::from_le_bytes(b).to_f32()),
            16 => each!(2, floats, |b| bf16::from_le_bytes(b).to_f32()),
            11 => each!(8, floats, |b| f64::from_le_bytes(b) as f32),
            7 | 13 => each!(8, ints, i64::from_le_bytes),
            6 => each!(4, ints, |b| i64::from(i32::from_le_bytes(b))),
            12 => each!(4, ints, |b| i64::from(u32::from_le_bytes(b))),
            4 => each!(2, ints, |b| i64::from(u16::from_le_bytes(b))),
            5 => each!(2, ints, |b| i64::from(i16::from_le_bytes(b))),
            3 => each!(1, ints, |b: [u8; 1]| i64::from(b[0].cast_signed())),
            _ => each!(1, ints, |b: [u8; 1]| i64::from(b[0])),
        })
    }

    /// The bytes of a tensor whose data stand in another file.
    fn outside(&self, n: usize, external: &mut External<'_>) -> Result<Vec<u8>> {
        let get = |key: &str| self.external.iter().find(|(k, _)| *k == key).map(|(_, v)| *v);
        let known = ["location", "offset", "length", "checksum"];
        if let Some((key, _)) = self.external.iter().find(|(k, _)| !known.contains(k)) {
            return Err(err!(Unsupported, "its data are said to be elsewhere by the unknown key {:?}", shown(key)));
        }
        let place =
            get("location").ok_or_else(|| err!(InvalidArgument, "its data are elsewhere, but not said where"))?;
        let number = |key: &str, default: u64| match get(key) {
            None => Ok(default),
            Some(text) => text.parse::<u64>().map_err(|_| err!(InvalidArgument, "its {key} is {:?}", shown(text))),
        };
        let bytes = n.saturating_mul(element_size(self.data_type));
        let length = number("length", bytes as u64)?;
        ensure!(length == bytes as u64, InvalidArgument, "its data have {length} bytes, expected {bytes}");
        external(place, number("offset", 0)?, bytes)
    }
}

fn element_size(data_type: i64) -> usize {
    match data_type {
        7 | 11 | 13 => 8,
        1 | 6 | 12 => 4,
        4 | 5 | 10 | 16 => 2,
        _ => 1,
    }
}
