//! What a network is given beside x and the level.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::backend::Network;
use crate::error::{Error, Result, check_finite, ensure, err};
use crate::graph::{Input, Role};
use crate::noise::Fingerprint;

/// The name of the class input of a network that says nothing of its inputs.
const CLASS_LABELS: &str = "class_labels";
/// The most inputs of a network that is a denoiser.
pub(super) const MAX_INPUTS: usize = 16;

/// Values for the inputs of a network beside x and the level, under the inputs' names: class labels, embeddings,
/// images.
///
/// Of each it has rows, a row for a sample: sample number i gets row i modulo their number, so one row serves all,
/// and what a sample gets does not depend on its batch. A row has the input's dimensions as [`Input::given_dims`]
/// says, row by row.
///
/// ```
/// use undiffuse::denoiser::Conditions;
///
/// let conditions = Conditions::new().with("image", &[0.5; 16 * 16]).with_classes(&[3, 5]);
/// assert_eq!(conditions.get("class_labels"), Some(&[3.0, 5.0][..]));
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conditions {
    entries: Vec<(String, Vec<f32>)>,
}

impl Conditions {
    /// None, as most networks need.
    pub const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// With the rows of one more input; rows that it had under the same name are gone. What they should be, a denoiser
    /// knows.
    #[must_use]
    pub fn with(mut self, name: &str, rows: &[f32]) -> Self {
        self.set(name, rows.to_owned());
        self
    }

    /// As [`Conditions::with`], for the input `class_labels` and labels as Python writes them. Labels over 2^24 are not
    /// exact.
    #[must_use]
    pub fn with_classes(mut self, labels: &[i64]) -> Self {
        self.set(CLASS_LABELS, labels.iter().map(|&c| c as f32).collect());
        self
    }

    /// As [`Conditions::with`].
    pub fn set(&mut self, name: &str, rows: Vec<f32>) {
        match self.entries.iter_mut().find(|(n, _)| n == name) {
            Some((_, old)) => *old = rows,
            None => self.entries.push((name.to_owned(), rows)),
        }
    }

    /// The rows of an input, if they are given.
    pub fn get(&self, name: &str) -> Option<&[f32]> {
        self.entries.iter().find(|(n, _)| n == name).map(|(_, rows)| rows.as_slice())
    }

    /// The names of what is given, in the order in which it was.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(name, _)| name.as_str())
    }

    /// Whether nothing is given.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// The inputs of a network that is a denoiser: those that it names, or, of one that says nothing, x, the timestep and
/// perhaps a class.
///
/// Errors (kind `InvalidArgument`): inputs that are no denoiser's.
pub fn inputs_of(network: &dyn Network) -> Result<Vec<Input>> {
    let (signature, dims) = (network.signature(), network.inputs());
    ensure!(
        dims.len() <= MAX_INPUTS,
        InvalidArgument,
        "the network has {} inputs, expected at most {MAX_INPUTS}",
        dims.len()
    );
    if signature.iter().any(|i| i.role == Role::Sample) {
        if let Some(cotangent) = signature.iter().find(|i| i.role == Role::Cotangent) {
            return Err(err!(InvalidArgument, "the network is one of gradients, with the input {:?}", cotangent.name));
        }
        return Ok(signature.to_vec());
    }
    let fits = (2..=3).contains(&dims.len()) && dims.get(1).is_some_and(|d| d.as_slice() == [1]);
    ensure!(
        fits,
        InvalidArgument,
        "the network has inputs {dims:?}, expected an image, a timestep [1] and at most a class, or inputs with roles"
    );
    let class = dims.get(2).map_or(Role::Class, |d| if d.elements() == 1 { Role::Class } else { Role::ClassVector });
    let names = [("sample", Role::Sample), ("timestep", Role::Timestep), (CLASS_LABELS, class)];
    Ok(dims.iter().zip(names).map(|(d, (name, role))| Input::new(name, role, *d)).collect())
}

/// An input beside x and the level, with what it is given.
#[derive(Clone)]
pub(super) struct Held {
    /// The number of the network's input.
    pub slot: usize,
    pub input: Input,
    /// As the network takes them; at least one once they are set.
    rows: Vec<f32>,
}

impl Held {
    /// With nothing yet.
    pub fn new(slot: usize, input: &Input) -> Self {
        Self { slot, input: input.clone(), rows: Vec::new() }
    }

    /// Values of one row.
    pub fn len(&self) -> usize {
        self.input.dims.elements()
    }

    /// How many rows it has.
    pub fn count(&self) -> usize {
        self.rows.len() / self.len().max(1)
    }

    /// Takes rows as a caller gives them. Nothing is allocated where it had as many. After an error it is as before.
    pub fn set(&mut self, rows: &[f32]) -> Result<()> {
        check_rows(&self.input, rows)?;
        if rows.len() > self.rows.capacity() {
            let mut room = Vec::new();
            room.try_reserve_exact(rows.len())
                .map_err(|_| err!(OutOfMemory, "there is no memory for the condition {:?}", self.input.name))?;
            self.rows = room;
        }
        self.rows.clear();
        match (self.input.role, self.input.dims.as_slice()) {
            (Role::Tokens, &[d, l]) => {
                for row in rows.chunks_exact((d * l).max(1)) {
                    self.rows.extend((0..d * l).map(|i| row.get(i % l * d + i / l).copied().unwrap_or(f32::NAN)));
                }
            }
            _ => self.rows.extend_from_slice(rows),
        }
        Ok(())
    }

    /// Fills `to` with the rows of the samples from `first` on.
    pub fn fill(&self, first: u64, to: &mut [f32]) {
        let (len, count) = (self.len().max(1), self.count().max(1) as u64);
        for (to, number) in to.chunks_exact_mut(len).zip(first..) {
            let at = (number % count) as usize * len;
            if let Some(row) = self.rows.get(at..at + len) {
                to.copy_from_slice(row);
            }
        }
    }

    /// A number that differs between rows.
    pub fn fingerprint(&self) -> u64 {
        let rows = Fingerprint::new().f32s(&self.rows).finish();
        // Of classes alone, as it was when there was nothing else.
        if self.input.role.is_class() {
            rows
        } else {
            Fingerprint::new().bytes(self.input.name.as_bytes()).finish() ^ rows.rotate_left(17)
        }
    }
}

/// That rows suit an input. Errors name it: kind `Shape` where they are no whole rows, `NonFinite` for NaN and
/// infinity, `InvalidArgument` for a class that there is not.
pub fn check_rows(input: &Input, rows: &[f32]) -> Result<()> {
    let len = input.dims.elements().max(1);
    if input.role.is_class() {
        ensure!(
            !rows.is_empty() && rows.len().is_multiple_of(len),
            InvalidArgument,
            "{} class values are given, expected rows of {len}: this is a class model",
            rows.len()
        );
        check_finite("the list of classes", rows)?;
    } else {
        let named = |e: Error| e.context(format_args!("the condition {:?}", input.name));
        let whole = !rows.is_empty() && rows.len().is_multiple_of(len);
        ensure!(
            whole,
            Shape,
            "the condition {:?} has {} values, expected {len} for a sample, {}, or so many for each of several",
            input.name,
            rows.len(),
            input.given_dims()
        );
        check_finite("it", rows).map_err(named)?;
    }
    if let Some(count) = input.rows {
        let is = |c: &&f32| **c >= 0.0 && libm::floorf(**c) == **c && (**c as usize) < count;
        if let Some(c) = rows.iter().find(|c| !is(c)) {
            return Err(err!(
                InvalidArgument,
                "{:?} is {c}, which is none of the model's, expected whole numbers from 0 to {}",
                input.name,
                count.saturating_sub(1)
            ));
        }
    }
    Ok(())
}

/// What an input needs, for messages: `the condition "image", [3, 8, 8] for each sample`.
fn needed(input: &Input) -> String {
    format!("{:?}, {} for each sample", input.name, input.given_dims())
}

/// That every condition of the inputs is given, no other, and each as it should be. Errors: as [`check_rows`]; kind
/// `InvalidArgument` for one that is missing or that there is not.
pub fn check_conditions(inputs: &[Input], conditions: &Conditions) -> Result<()> {
    for (name, rows) in &conditions.entries {
        match inputs.iter().find(|i| i.name == *name && i.role.is_condition()) {
            Some(input) => check_rows(input, rows)?,
            None => {
                let known: Vec<&str> =
                    inputs.iter().filter(|i| i.role.is_condition()).map(|i| i.name.as_str()).collect();
                return Err(match known.as_slice() {
                    [] => err!(InvalidArgument, "the condition {name:?} is given, but the model takes none"),
                    known => {
                        err!(InvalidArgument, "the model has no condition {name:?}, expected {}", known.join(", "))
                    }
                });
            }
        }
    }
    for input in inputs.iter().filter(|i| i.role.is_condition()) {
        if conditions.get(&input.name).is_none() {
            if input.role.is_class() {
                return Err(err!(
                    InvalidArgument,
                    "0 class values are given, expected rows of {}: this is a class model",
                    input.dims.elements()
                ));
            }
            return Err(err!(InvalidArgument, "the model needs the condition {}", needed(input)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::tensor::Dims;
    use alloc::vec;

    fn input(name: &str, role: Role, dims: &[usize]) -> Input {
        Input::new(name, role, Dims::new(dims).unwrap())
    }

    #[test]
    fn samples_get_their_rows_by_their_number() {
        let mut held = Held::new(2, &input("v", Role::Vector, &[2]));
        held.set(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        let mut to = [0.0; 8];
        held.fill(2, &mut to);
        assert_eq!(to, [5.0, 6.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        // Beyond the last number there are none.
        held.fill(u64::MAX, &mut to[..2]);
        assert_eq!(to[..2], [1.0, 2.0]);
    }

    #[test]
    fn tokens_are_given_as_pytorch_has_them() {
        let mut held = Held::new(2, &input("context", Role::Tokens, &[2, 3]));
        held.set(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        assert_eq!(held.rows, [1.0, 3.0, 5.0, 2.0, 4.0, 6.0]);
        assert_eq!(held.input.given_dims().as_slice(), [3, 2]);
    }

    #[test]
    fn what_does_not_suit_is_refused_by_name() {
        let image = input("image", Role::Image, &[1, 2, 2]);
        let vector = input("embedding", Role::Vector, &[3]);
        let inputs = [input("sample", Role::Sample, &[1, 2, 2]), image, vector];
        let good = Conditions::new().with("image", &[0.0; 4]).with("embedding", &[0.0; 6]);
        check_conditions(&inputs, &good).unwrap();
        let refused = [
            (Conditions::new().with("image", &[0.0; 4]), ErrorKind::InvalidArgument, "\"embedding\", [3]"),
            (
                good.clone().with("mask", &[0.0]),
                ErrorKind::InvalidArgument,
                "no condition \"mask\", expected image, embedding",
            ),
            (good.clone().with("sample", &[0.0; 4]), ErrorKind::InvalidArgument, "no condition \"sample\""),
            (good.clone().with("image", &[0.0; 5]), ErrorKind::Shape, "\"image\" has 5 values, expected 4"),
            (good.clone().with("image", &[]), ErrorKind::Shape, "\"image\" has 0 values"),
            (good.clone().with("embedding", &[0.0, f32::NAN, 0.0]), ErrorKind::NonFinite, "\"embedding\""),
        ];
        for (conditions, kind, text) in refused {
            let e = check_conditions(&inputs, &conditions).unwrap_err();
            assert!(e.kind() == kind && e.message().contains(text), "{e}");
        }
        let mut class = input("class_labels", Role::Class, &[1]);
        class.rows = Some(3);
        for bad in [3.0, -1.0, 0.5] {
            let e = check_rows(&class, &[bad]).unwrap_err();
            assert!(e.message().contains("whole numbers from 0 to 2"), "{e}");
        }
        check_rows(&class, &[2.0, 0.0]).unwrap();
    }

    #[test]
    fn a_set_that_fails_leaves_what_was() {
        let mut held = Held::new(0, &input("v", Role::Vector, &[2]));
        held.set(&[1.0, 2.0]).unwrap();
        held.set(&[1.0]).unwrap_err();
        held.set(&[1.0, f32::INFINITY]).unwrap_err();
        assert_eq!(held.rows, vec![1.0, 2.0]);
    }
}
