//! A compiled network as a denoiser.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::conditions::{Held, MAX_INPUTS};
use super::{Call, Conditions, Denoiser, check_batch, check_conditions, check_gave, check_given, inputs_of};
use crate::backend::Network;
use crate::backend::threads::Threads;
use crate::error::{Result, ensure, err};
use crate::graph::{Input, Role};
use crate::memory::zeros;
use crate::tensor::Dims;

/// A compiled network, and perhaps one for its vector-Jacobian product, compiled from [`vjp`](crate::graph::vjp::vjp)
/// of the same graph, its output 0 and its input 0. Threads may share them.
#[derive(Clone)]
pub struct Networks {
    /// The network.
    pub predict: Arc<dyn Network>,
    /// The network that also takes a cotangent and gives the product.
    pub gradient: Option<Arc<dyn Network>>,
}

impl Networks {
    /// The same networks on other threads, see [`Network::on_threads`].
    pub fn on_threads(&self, threads: Arc<dyn Threads>) -> Result<Self> {
        let gradient = self.gradient.as_ref().map(|g| g.on_threads(Arc::clone(&threads))).transpose()?;
        Ok(Self { predict: self.predict.on_threads(threads)?, gradient })
    }
}

impl From<Arc<dyn Network>> for Networks {
    fn from(predict: Arc<dyn Network>) -> Self {
        Self { predict, gradient: None }
    }
}

/// Predicts with a compiled network whose inputs are x, mostly the level's timestep `[1]`, and the conditions that it
/// names.
// / / All memory is had when it is made, for a largest batch, so that a call allocates nothing. `M` is that memory: a
// `Vec` of its own, or / the caller's `&mut [f32]`. / / Which input is which, the roles of the network's
// [signature](Network::signature) say; of a network without, their order: x, the timestep, / a class. See
// [`Conditions`] for which sample gets what.
pub struct NetworkDenoiser<M = Vec<f32>> {
    networks: Networks,
    name: String,
    parts: Parts,
    conditions: Vec<Held>,
    identity: u64,
    memory: M,
}

/// Where the inputs stand and how the memory is cut.
#[derive(Clone, Copy)]
struct Parts {
    max_batch: usize,
    /// The number of the input of x, and of the timestep if there is one.
    sample: usize,
    timestep: Option<usize>,
    sample_dims: Dims,
    inputs: usize,
    workspace: usize,
    /// All together: also a prediction for the gradient network to write, which nobody reads.
    total: usize,
}

/// The inputs of a call, in the network's order, and a place for a cotangent.
type Inputs<'m> = [&'m [f32]; MAX_INPUTS + 1];

impl Parts {
    fn new(networks: &Networks, max_batch: usize) -> Result<(Self, Vec<Held>)> {
        let network = networks.predict.as_ref();
        let inputs = inputs_of(network)?;
        let place = |role: Role| inputs.iter().position(|i| i.role == role);
        let sample = place(Role::Sample).ok_or_else(|| err!(InvalidArgument, "the network has no input for x"))?;
        let sample_dims = inputs.get(sample).map(|i| i.dims);
        let sample_dims = sample_dims.ok_or_else(|| err!(InvalidArgument, "the network has no input for x"))?;
        let held = |(slot, input): (usize, &Input)| input.role.is_condition().then(|| Held::new(slot, input));
        let conditions: Vec<Held> = inputs.iter().enumerate().filter_map(held).collect();
        let outputs = network.outputs();
        let &[output] = outputs else {
            return Err(err!(InvalidArgument, "the network has {} outputs, expected 1", outputs.len()));
        };
        let mut workspace = network.workspace_len(max_batch)?;
        let mut unused = 0;
        if let Some(gradient) = &networks.gradient {
            let fits = gradient.inputs() == [network.inputs(), outputs].concat()
                && gradient.outputs() == [output, sample_dims];
            ensure!(fits, InvalidArgument, "the gradient network is not of this network");
            workspace = workspace.max(gradient.workspace_len(max_batch)?);
            unused = output.elements();
        }
        let each = conditions.iter().try_fold(1usize, |n, c| n.checked_add(c.len()));
        let total = each
            .and_then(|n| n.checked_add(unused))
            .and_then(|n| n.checked_mul(max_batch))
            .and_then(|n| n.checked_add(workspace))
            .ok_or_else(|| err!(OutOfMemory, "a batch of {max_batch} is too large for this machine"))?;
        let (timestep, inputs) = (place(Role::Timestep), inputs.len());
        Ok((Self { max_batch, sample, timestep, sample_dims, inputs, workspace, total }, conditions))
    }

    /// Cuts the memory into the inputs beside x, filled, and the rest, which begins with the workspace.
    fn fill<'m>(
        &self,
        batch: usize,
        call: &Call<'_>,
        x: &'m [f32],
        conditions: &[Held],
        memory: &'m mut [f32],
    ) -> Result<(Inputs<'m>, &'m mut [f32])> {
        let max_batch = self.max_batch;
        ensure!(
            (1..=max_batch).contains(&batch),
            InvalidArgument,
            "the denoiser got {batch} samples, expected 1 to {max_batch}"
        );
        let mut inputs: Inputs<'m> = [&[]; MAX_INPUTS + 1];
        let (time, mut rest) = memory.split_at_mut(max_batch);
        let time = &mut time[..batch];
        time.fill(call.level.timestep as f32);
        inputs[self.sample] = x;
        if let Some(slot) = self.timestep {
            inputs[slot] = time;
        }
        for held in conditions {
            let (part, others) = rest.split_at_mut(max_batch * held.len());
            rest = others;
            let part = &mut part[..batch * held.len()];
            held.fill(call.first_sample, part);
            inputs[held.slot] = part;
        }
        Ok((inputs, rest))
    }
}

impl NetworkDenoiser<Vec<f32>> {
    /// A denoiser for batches of up to `max_batch` samples, with memory of its own. `classes` holds whole rows of the
    /// network's class input, none for a model without. Errors: kind `InvalidArgument` for a batch of 0, a network with
    /// other inputs, or classes that do not suit it; kind `NonFinite` for classes; kind `OutOfMemory`.
    pub fn new(networks: Networks, max_batch: usize, classes: &[f32]) -> Result<Self> {
        let len = Self::memory_len(&networks, max_batch)?;
        Self::in_memory(networks, max_batch, classes, zeros("a workspace", len)?)
    }

    /// As [`NetworkDenoiser::new`], with all that the network is to be given beside x and the level, classes under
    /// their name too.
    // / / Errors: as [`NetworkDenoiser::new`]; those of the conditions name them: kind `InvalidArgument` for one that
    // is missing or that the / network has not, `Shape` where there are no whole rows, `NonFinite`.
    pub fn with_conditions(networks: Networks, max_batch: usize, conditions: &Conditions) -> Result<Self> {
        let len = Self::memory_len(&networks, max_batch)?;
        Self::with_conditions_in_memory(networks, max_batch, conditions, zeros("a workspace", len)?)
    }
}

impl<M: AsMut<[f32]>> NetworkDenoiser<M> {
    /// The `f32` values of memory that a denoiser for this batch needs; their bytes are four times as many.
    pub fn memory_len(networks: &Networks, max_batch: usize) -> Result<usize> {
        Ok(Parts::new(networks, max_batch)?.0.total)
    }

    /// As [`NetworkDenoiser::new`], in memory of at least [`NetworkDenoiser::memory_len`] values.
    pub fn in_memory(networks: Networks, max_batch: usize, classes: &[f32], memory: M) -> Result<Self> {
        let conditions = classes_of(networks.predict.as_ref(), classes)?;
        Self::with_conditions_in_memory(networks, max_batch, &conditions, memory)
    }

    /// As [`NetworkDenoiser::with_conditions`], in memory of at least [`NetworkDenoiser::memory_len`] values.
    pub fn with_conditions_in_memory(
        networks: Networks,
        max_batch: usize,
        conditions: &Conditions,
        mut memory: M,
    ) -> Result<Self> {
        let (parts, mut held) = Parts::new(&networks, max_batch)?;
        let got = memory.as_mut().len();
        ensure!(got >= parts.total, OutOfMemory, "the denoiser's memory has {got} values, expected {}", parts.total);
        check_conditions(&inputs_of(networks.predict.as_ref())?, conditions)?;
        for held in &mut held {
            held.set(conditions.get(&held.input.name).unwrap_or_default())?;
        }
        networks.predict.prepare(max_batch)?;
        if let Some(gradient) = &networks.gradient {
            gradient.prepare(max_batch)?;
        }
        let name = format!("network on {}", networks.predict.describe());
        Ok(Self { networks, name, parts, conditions: held, identity: 0, memory })
    }

    /// Gives it an identity, above 0, that saved chains remember together with the conditions.
    #[must_use]
    pub fn with_fingerprint(self, fingerprint: u64) -> Self {
        Self { identity: fingerprint, ..self }
    }
}

/// A list of classes as the condition that it is, for a network that has a class.
pub fn classes_of(network: &dyn Network, classes: &[f32]) -> Result<Conditions> {
    let inputs = inputs_of(network)?;
    match inputs.iter().find(|i| i.role.is_class()) {
        None => {
            ensure!(classes.is_empty(), InvalidArgument, "classes are given, but the model takes none");
            Ok(Conditions::new())
        }
        Some(input) => Ok(Conditions::new().with(&input.name, classes)),
    }
}

impl<M: AsMut<[f32]>> Denoiser for NetworkDenoiser<M> {
    fn name(&self) -> &str {
        &self.name
    }

    fn sample_dims(&self) -> Dims {
        self.parts.sample_dims
    }

    fn output_len(&self) -> usize {
        self.networks.predict.outputs()[0].elements()
    }

    fn max_batch(&self) -> usize {
        self.parts.max_batch
    }

    fn looks_at_numbers(&self) -> bool {
        self.conditions.iter().any(|c| c.count() > 1)
    }

    fn predict(&mut self, call: &Call<'_>, x: &[f32], out: &mut [f32]) -> Result<()> {
        let batch = check_batch(&self.name, self.sample_dims().elements(), x, self.output_len(), out)?;
        check_given(&self.name, "x", x)?;
        let output_len = self.output_len();
        let Self { networks, name, parts, conditions, memory, .. } = self;
        let (inputs, rest) = parts.fill(batch, call, x, conditions, memory.as_mut())?;
        networks.predict.run(batch, &inputs[..parts.inputs], &mut [&mut *out], rest, call.cancel)?;
        check_gave(name, call, output_len, out)
    }

    fn has_vjp(&self) -> bool {
        self.networks.gradient.is_some()
    }

    fn vjp(&mut self, call: &Call<'_>, x: &[f32], v: &[f32], out: &mut [f32]) -> Result<()> {
        let (n, output_len) = (self.sample_dims().elements(), self.output_len());
        let batch = check_batch(&self.name, n, x, output_len, v)?;
        check_batch(&self.name, n, x, n, out)?;
        check_given(&self.name, "x", x)?;
        check_given(&self.name, "v", v)?;
        let Self { networks: Networks { gradient: Some(gradient), .. }, name, parts, conditions, memory, .. } = self
        else {
            return Err(err!(Unsupported, "the denoiser \"{}\" was made without a gradient network", self.name));
        };
        let (mut inputs, rest) = parts.fill(batch, call, x, conditions, memory.as_mut())?;
        inputs[parts.inputs] = v;
        // The gradient network also predicts; that prediction is dropped.
        let (workspace, y) = rest.split_at_mut(parts.workspace);
        let y =
            y.get_mut(..batch * output_len).ok_or_else(|| err!(OutOfMemory, "the denoiser's memory is too short"))?;
        gradient.run(batch, &inputs[..=parts.inputs], &mut [y, &mut *out], workspace, call.cancel)?;
        check_gave(name, call, n, out)
    }

    fn inputs(&self) -> Vec<Input> {
        self.conditions.iter().map(|c| c.input.clone()).collect()
    }

    fn set_condition(&mut self, name: &str, rows: &[f32]) -> Result<()> {
        match self.conditions.iter_mut().find(|c| c.input.name == name) {
            Some(held) => held.set(rows),
            None => check_conditions(&self.inputs(), &Conditions::new().with(name, rows)),
        }
    }

    fn fingerprint(&self) -> u64 {
        if self.identity == 0 {
            return 0;
        }
        let none = crate::noise::Fingerprint::new().finish();
        let class = |c: &&Held| c.input.role.is_class();
        let others = self.conditions.iter().filter(|c| !class(c)).fold(0, |sum, c| sum ^ c.fingerprint());
        self.identity ^ others ^ self.conditions.iter().find(class).map_or(none, Held::fingerprint)
    }
}
