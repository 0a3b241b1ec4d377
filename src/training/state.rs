//! The state of training as named arrays, so that a run that was stopped goes on in the same bits.
//!
//! Optimisers and averages give a list of [`StateArray`] and take it back; a checkpoint keeps them as a safetensors
//! file ([`to_bytes`], [`from_bytes`]). Whoever keeps several states in one file puts a prefix before the names.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::error::{Result, ensure, err};

/// The numbers of a [`StateArray`].
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Single precision.
    F32(Vec<f32>),
    /// Double precision.
    F64(Vec<f64>),
    /// Counters.
    U64(Vec<u64>),
}

impl Values {
    fn dtype(&self) -> Dtype {
        match self {
            Values::F32(_) => Dtype::F32,
            Values::F64(_) => Dtype::F64,
            Values::U64(_) => Dtype::U64,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Values::F32(v) => v.len(),
            Values::F64(v) => v.len(),
            Values::U64(v) => v.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn bytes(&self) -> Vec<u8> {
        match self {
            Values::F32(v) => v.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Values::F64(v) => v.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Values::U64(v) => v.iter().flat_map(|v| v.to_le_bytes()).collect(),
        }
    }
}

/// One named array of a state.
#[derive(Clone, Debug, PartialEq)]
pub struct StateArray {
    /// Its name, unique within the state.
    pub name: String,
    /// Its numbers.
    pub values: Values,
}

impl StateArray {
    /// An array of single precision.
    pub fn f32(name: &str, values: &[f32]) -> Self {
        Self { name: name.to_string(), values: Values::F32(values.to_vec()) }
    }

    /// An array of double precision.
    pub fn f64(name: &str, values: &[f64]) -> Self {
        Self { name: name.to_string(), values: Values::F64(values.to_vec()) }
    }

    /// An array of counters.
    pub fn u64(name: &str, values: &[u64]) -> Self {
        Self { name: name.to_string(), values: Values::U64(values.to_vec()) }
    }
}

/// The arrays as a safetensors file, each with one dimension. The bytes depend on the arrays' names and values alone.
///
/// Errors: kind `InvalidArgument` for two arrays of one name.
///
/// ```
/// use undiffuse::training::state::{StateArray, from_bytes, to_bytes};
///
/// let state = [StateArray::u64("step", &[7]), StateArray::f64("weights", &[0.1])];
/// let mut read = from_bytes(&to_bytes(&state)?)?;
/// read.sort_by(|a, b| a.name.cmp(&b.name));
/// assert_eq!(read, state);
/// # Ok::<(), undiffuse::Error>(())
/// ```
pub fn to_bytes(state: &[StateArray]) -> Result<Vec<u8>> {
    let mut names: Vec<&str> = state.iter().map(|a| a.name.as_str()).collect();
    names.sort_unstable();
    if let Some([twice, _]) = names.windows(2).find(|w| w.first() == w.last()) {
        return Err(err!(InvalidArgument, "the state holds the array {twice} twice"));
    }
    let data: Vec<Vec<u8>> = state.iter().map(|a| a.values.bytes()).collect();
    let failed = |e| err!(InvalidArgument, "the state cannot be written: {e}");
    let mut views = Vec::new();
    for (array, data) in state.iter().zip(&data) {
        let shape = [array.values.len()].to_vec();
        views.push((array.name.as_str(), TensorView::new(array.values.dtype(), shape, data).map_err(failed)?));
    }
    safetensors::serialize(views, None).map_err(failed)
}

/// The arrays of a safetensors file that [`to_bytes`] wrote, in no certain order.
///
/// Errors: kind `Weights` if the bytes are no safetensors file, or hold an array of another type or of more dimensions.
pub fn from_bytes(bytes: &[u8]) -> Result<Vec<StateArray>> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| err!(Weights, "the saved state is malformed: {e}"))?;
    let mut state = Vec::new();
    for (name, view) in file.iter() {
        ensure!(
            view.shape().len() == 1,
            Weights,
            "array {name} of the saved state is {:?}, expected one dimension",
            view.shape()
        );
        let eights = || view.data().as_chunks::<8>().0.iter().copied();
        let values = match view.dtype() {
            Dtype::F32 => Values::F32(view.data().as_chunks::<4>().0.iter().copied().map(f32::from_le_bytes).collect()),
            Dtype::F64 => Values::F64(eights().map(f64::from_le_bytes).collect()),
            Dtype::U64 => Values::U64(eights().map(u64::from_le_bytes).collect()),
            other => return Err(err!(Weights, "array {name} of the saved state is {other}, expected F32, F64 or U64")),
        };
        state.push(StateArray { name: name.to_string(), values });
    }
    Ok(state)
}

/// Takes the arrays of a saved state one by one and sees to it that none is left over.
#[derive(Debug)]
pub struct Saved<'a> {
    what: &'a str,
    arrays: &'a [StateArray],
    taken: usize,
}

impl<'a> Saved<'a> {
    /// The state of `what`, a name for messages.
    pub fn new(what: &'a str, arrays: &'a [StateArray]) -> Self {
        Self { what, arrays, taken: 0 }
    }

    fn take(&mut self, name: &str, len: Option<usize>, kind: &str) -> Result<&'a Values> {
        let array = self
            .arrays
            .iter()
            .find(|a| a.name == name)
            .ok_or_else(|| err!(Weights, "the saved state of {} lacks the array {name}", self.what))?;
        if let Some(len) = len {
            let got = array.values.len();
            ensure!(
                got == len,
                Weights,
                "array {name} of the saved state of {} has {got} values, expected {len}",
                self.what
            );
        }
        ensure!(
            array.values.dtype().to_string() == kind,
            Weights,
            "array {name} of the saved state of {} is {}, expected {kind}",
            self.what,
            array.values.dtype()
        );
        self.taken += 1;
        Ok(&array.values)
    }

    fn finite(&self, name: &str, finite: bool) -> Result<()> {
        ensure!(finite, Weights, "array {name} of the saved state of {} holds NaN or infinity", self.what);
        Ok(())
    }

    /// An array of single precision, of `len` values, all finite.
    pub fn f32(&mut self, name: &str, len: usize) -> Result<&'a [f32]> {
        let Values::F32(v) = self.take(name, Some(len), "F32")? else { return Ok(&[]) };
        self.finite(name, v.iter().all(|v| v.is_finite()))?;
        Ok(v)
    }

    /// An array of double precision, all finite, of `len` values, or of any number.
    pub fn f64(&mut self, name: &str, len: Option<usize>) -> Result<&'a [f64]> {
        let Values::F64(v) = self.take(name, len, "F64")? else { return Ok(&[]) };
        self.finite(name, v.iter().all(|v| v.is_finite()))?;
        Ok(v)
    }

    /// An array of counters, of `len` values.
    pub fn u64(&mut self, name: &str, len: usize) -> Result<&'a [u64]> {
        let Values::U64(v) = self.take(name, Some(len), "U64")? else { return Ok(&[]) };
        Ok(v)
    }

    /// Kind `Weights` if the state holds more arrays than were taken.
    pub fn finish(self) -> Result<()> {
        ensure!(
            self.taken == self.arrays.len(),
            Weights,
            "the saved state of {} has {} arrays, expected {}",
            self.what,
            self.arrays.len(),
            self.taken
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let state = [
            StateArray::f32("a", &[1.5, f32::MIN_POSITIVE]),
            StateArray::f64("b", &[0.1, -1e-300, 3.0]),
            StateArray::u64("c", &[u64::MAX]),
            StateArray::f32("empty", &[]),
        ];
        let bytes = to_bytes(&state).unwrap();
        let mut read = from_bytes(&bytes).unwrap();
        read.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(read, state);
        for cut in 0..bytes.len() {
            assert!(from_bytes(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        assert!(to_bytes(&[StateArray::u64("c", &[1]), StateArray::u64("c", &[2])]).is_err());
    }

    #[test]
    fn a_state_that_does_not_fit_is_refused() {
        let state = [StateArray::f32("m", &[1.0, 2.0]), StateArray::u64("step", &[3])];
        let mut saved = Saved::new("it", &state);
        assert_eq!(saved.f32("m", 2).unwrap(), [1.0, 2.0]);
        assert!(saved.f32("m", 3).unwrap_err().message().contains("2 values, expected 3"));
        assert!(saved.f64("m", None).unwrap_err().message().contains("F64"));
        assert!(saved.f32("v", 2).unwrap_err().message().contains("lacks"));
        assert!(saved.finish().unwrap_err().message().contains("2 arrays"));
        let nan = [StateArray::f32("m", &[f32::NAN])];
        assert!(Saved::new("it", &nan).f32("m", 1).is_err());
    }
}
