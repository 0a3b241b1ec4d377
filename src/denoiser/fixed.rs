//! A network that is a part of the program, as a denoiser.

use super::conditions::MAX_INPUTS;
use super::{Call, Denoiser, check_batch, check_gave, check_given};
use crate::backend::cpu::parts::FixedNetwork;
use crate::error::{Result, check_finite, ensure, err};
use crate::graph::Role;
use crate::tensor::Dims;

const NAME: &str = "network of the program";

/// An input of a network that is a part of the program.
#[derive(Clone, Copy, Debug)]
pub struct Port {
    /// Its name, under which a condition is given.
    pub name: &'static str,
    /// What it is for.
    pub role: Role,
    /// Dimensions of one sample's values, as the network has them.
    pub dims: Dims,
}

/// Rows of values for the inputs beside x and the timestep, with the inputs' names: of each one row for all samples, or
/// several, of which sample number i gets row i modulo their number. A row is laid out as in
/// [`Conditions`](super::Conditions).
pub type Given<'a> = &'a [(&'a str, &'a [f32])];

/// Predicts with a network that is a part of the program, in memory of the caller's. Nothing is allocated, neither when
/// it is made nor in a call. Guidance it has not.
pub struct FixedDenoiser<'w> {
    network: &'static FixedNetwork,
    inputs: &'static [Port],
    sample: usize,
    sample_dims: Dims,
    output: usize,
    /// Rows for each input, none for x and the timestep.
    rows: [&'w [f32]; MAX_INPUTS],
    memory: &'w mut [f32],
}

impl<'w> FixedDenoiser<'w> {
    /// A denoiser for batches up to the network's largest, in memory of at least [`FixedDenoiser::memory_len`] values.
    ///
    /// # Errors
    /// `OutOfMemory` for shorter memory, see [`Error::lengths`](crate::Error::lengths); of conditions `InvalidArgument`
    /// for one that is missing or that the network has not, `Shape` where they are no whole rows, `NonFinite`.
    pub fn new(
        network: &'static FixedNetwork,
        inputs: &'static [Port],
        conditions: Given<'w>,
        memory: &'w mut [f32],
    ) -> Result<Self> {
        let (got, need) = (memory.len(), Self::memory_len(network, inputs));
        if got < need {
            return Err(
                err!(OutOfMemory, "the denoiser's memory has {got} values, expected {need}").with_lengths(got, need)
            );
        }
        let sample = inputs.iter().position(|i| i.role == Role::Sample);
        let sample = sample.ok_or_else(|| err!(InvalidArgument, "the network has no input for x"))?;
        let (dims, outputs) = (inputs.get(sample).map(|i| i.dims), network.outputs());
        let (Some(sample_dims), &[output], true) = (dims, outputs, inputs.len() <= MAX_INPUTS) else {
            return Err(err!(InvalidArgument, "the network has {} inputs, {} outputs", inputs.len(), outputs.len()));
        };
        let mut rows: [&'w [f32]; MAX_INPUTS] = [&[]; MAX_INPUTS];
        for (input, to) in inputs.iter().zip(&mut rows).filter(|(i, _)| i.role.is_condition()) {
            let found = conditions.iter().find(|(name, _)| *name == input.name);
            let found = found.ok_or_else(|| err!(InvalidArgument, "the condition {:?} is missing", input.name))?;
            let len = input.dims.elements();
            ensure!(
                !found.1.is_empty() && found.1.len().is_multiple_of(len),
                Shape,
                "the condition {:?} has {} values, expected rows of {len}",
                input.name,
                found.1.len()
            );
            check_finite("a condition", found.1)?;
            *to = found.1;
        }
        for (name, _) in conditions {
            let known = inputs.iter().any(|i| i.role.is_condition() && i.name == *name);
            ensure!(known, InvalidArgument, "the network has no condition {name:?}");
        }
        Ok(Self { network, inputs, sample, sample_dims, output: output.elements(), rows, memory })
    }

    /// The `f32` values of memory that it needs.
    pub const fn memory_len(network: &FixedNetwork, inputs: &[Port]) -> usize {
        let mut each = 0;
        let mut i = 0;
        while i < inputs.len() {
            if !matches!(inputs[i].role, Role::Sample) {
                each += inputs[i].dims.count();
            }
            i += 1;
        }
        each * network.batch() + network.workspace_len()
    }
}

/// Row `number` of `rows` as the network takes it.
fn fill(input: &Port, rows: &[f32], number: u64, to: &mut [f32]) {
    let len = to.len().max(1);
    let count = (rows.len() / len).max(1) as u64;
    let row = rows.get((number % count) as usize * len..).unwrap_or(&[]);
    match (input.role, input.dims.as_slice()) {
        (Role::Tokens, &[d, l]) => {
            let at = |i: usize| row.get(i % l * d + i / l).copied().unwrap_or(f32::NAN);
            to.iter_mut().enumerate().for_each(|(i, to)| *to = at(i));
        }
        _ => to.iter_mut().zip(row).for_each(|(to, v)| *to = *v),
    }
}

impl Denoiser for FixedDenoiser<'_> {
    fn name(&self) -> &str {
        NAME
    }

    fn sample_dims(&self) -> Dims {
        self.sample_dims
    }

    fn output_len(&self) -> usize {
        self.output
    }

    fn max_batch(&self) -> usize {
        self.network.batch()
    }

    fn looks_at_numbers(&self) -> bool {
        self.inputs.iter().zip(&self.rows).any(|(input, rows)| rows.len() > input.dims.elements())
    }

    fn predict(&mut self, call: &Call<'_>, x: &[f32], out: &mut [f32]) -> Result<()> {
        let batch = check_batch(NAME, self.sample_dims.elements(), x, self.output, out)?;
        check_given(NAME, "x", x)?;
        let most = self.network.batch();
        ensure!((1..=most).contains(&batch), InvalidArgument, "the denoiser got {batch} samples, expected 1 to {most}");
        let mut values: [&[f32]; MAX_INPUTS] = [&[]; MAX_INPUTS];
        let mut rest = &mut *self.memory;
        for (i, (input, rows)) in self.inputs.iter().zip(&self.rows).enumerate() {
            if i == self.sample {
                values[i] = x;
                continue;
            }
            let len = input.dims.elements();
            let short = || err!(OutOfMemory, "the denoiser's memory is too short");
            let (part, others) = rest.split_at_mut_checked(batch * len).ok_or_else(short)?;
            rest = others;
            for (to, number) in part.chunks_exact_mut(len.max(1)).zip(call.first_sample..) {
                match input.role {
                    Role::Timestep => to.fill(call.level.timestep as f32),
                    _ => fill(input, rows, number, to),
                }
            }
            values[i] = part;
        }
        let inputs = values.get(..self.inputs.len()).unwrap_or(&[]);
        self.network.run(batch, inputs, &mut [&mut *out], rest, call.cancel)?;
        check_gave(NAME, call, self.output, out)
    }
}
