//! A compiled network as a denoiser.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::conditions::{Held, MAX_INPUTS};
use super::guidance::{Guidance, Pair};
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
///
/// All memory is allocated when it is made, for a largest batch, so that a call allocates nothing. `M` is that memory:
/// a `Vec` of its own, or the caller's `&mut [f32]`.
///
/// Which input is which, the roles of the network's [signature](Network::signature) say; of a network without,
/// their order: x, the timestep, a class. See [`Conditions`] for which sample gets what.
pub struct NetworkDenoiser<M = Vec<f32>> {
    networks: Networks,
    name: String,
    parts: Parts,
    conditions: Vec<Held>,
    pair: Option<Pair>,
    identity: u64,
    memory: M,
}

/// Where the inputs stand and how the memory is cut.
#[derive(Clone, Copy)]
struct Parts {
    max_batch: usize,
    /// Samples of a call of the network for each of the denoiser's: 2 with guidance.
    calls: usize,
    /// The number of the input of x, and of the timestep if there is one.
    sample: usize,
    timestep: Option<usize>,
    sample_dims: Dims,
    inputs: usize,
    output: usize,
    workspace: usize,
    /// What guidance takes at the end of the memory.
    guided: usize,
    /// All together: also a prediction for the gradient network to write, which nobody reads.
    total: usize,
}

/// The inputs of a call, in the network's order, and a place for a cotangent.
type Inputs<'m> = [&'m [f32]; MAX_INPUTS + 1];

impl Parts {
    fn new(networks: &Networks, max_batch: usize, guided: bool) -> Result<(Self, Vec<Held>)> {
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
        let too_large = || err!(OutOfMemory, "a batch of {max_batch} is too large for this machine");
        let calls = if guided { 2 } else { 1 };
        let capacity = max_batch.checked_mul(calls).ok_or_else(too_large)?;
        let mut workspace = network.workspace_len(capacity)?;
        let mut unused = 0;
        if let Some(gradient) = &networks.gradient {
            let fits = gradient.inputs() == [network.inputs(), outputs].concat()
                && gradient.outputs() == [output, sample_dims];
            ensure!(fits, InvalidArgument, "the gradient network is not of this network");
            workspace = workspace.max(gradient.workspace_len(capacity)?);
            unused = output.elements();
        }
        // x and the predictions of both; for products, besides, cotangents and products of both.
        let pairs = if networks.gradient.is_some() { 2 } else { 1 };
        let pair = if guided { sample_dims.elements().checked_add(output.elements()) } else { Some(0) };
        let guided = pair.and_then(|n| n.checked_mul(pairs)?.checked_mul(capacity)).ok_or_else(too_large)?;
        let each = conditions.iter().try_fold(1usize, |n, c| n.checked_add(c.len()));
        let total = each
            .and_then(|n| n.checked_add(unused))
            .and_then(|n| n.checked_mul(capacity))
            .and_then(|n| n.checked_add(workspace)?.checked_add(guided))
            .ok_or_else(too_large)?;
        let (timestep, inputs, output) = (place(Role::Timestep), inputs.len(), output.elements());
        let parts = Self { max_batch, calls, sample, timestep, sample_dims, inputs, output, workspace, guided, total };
        Ok((parts, conditions))
    }

    /// Cuts the memory into the inputs beside x, filled, and the rest, which begins with the workspace. With
    /// `negative`, the first half of the batch is given the conditions and the second the negative ones.
    fn fill<'m>(
        &self,
        batch: usize,
        call: &Call<'_>,
        x: &'m [f32],
        conditions: &[Held],
        negative: Option<&Pair>,
        memory: &'m mut [f32],
    ) -> (Inputs<'m>, &'m mut [f32]) {
        let capacity = self.max_batch * self.calls;
        let mut inputs: Inputs<'m> = [&[]; MAX_INPUTS + 1];
        let (time, mut rest) = memory.split_at_mut(capacity);
        let time = &mut time[..batch];
        time.fill(call.level.timestep as f32);
        inputs[self.sample] = x;
        if let Some(slot) = self.timestep {
            inputs[slot] = time;
        }
        for (i, held) in conditions.iter().enumerate() {
            let (part, others) = rest.split_at_mut(capacity * held.len());
            rest = others;
            let part = &mut part[..batch * held.len()];
            match negative {
                None => held.fill(call.first_sample, part),
                Some(pair) => {
                    let (positive, negative) = part.split_at_mut(batch / 2 * held.len());
                    held.fill(call.first_sample, positive);
                    pair.negative.get(i).and_then(Option::as_ref).unwrap_or(held).fill(call.first_sample, negative);
                }
            }
            inputs[held.slot] = part;
        }
        (inputs, rest)
    }

    fn check(&self, batch: usize) -> Result<()> {
        let max_batch = self.max_batch;
        ensure!(
            (1..=max_batch).contains(&batch),
            InvalidArgument,
            "the denoiser got {batch} samples, expected 1 to {max_batch}"
        );
        Ok(())
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
    ///
    /// Errors: as [`NetworkDenoiser::new`]; those of the conditions name them: kind `InvalidArgument` for one that
    /// is missing or that the network has not, `Shape` where there are no whole rows, `NonFinite`.
    pub fn with_conditions(networks: Networks, max_batch: usize, conditions: &Conditions) -> Result<Self> {
        let len = Self::memory_len(&networks, max_batch)?;
        Self::with_conditions_in_memory(networks, max_batch, conditions, zeros("a workspace", len)?)
    }

    /// As [`NetworkDenoiser::with_conditions`], guided. Errors: as there; kind `InvalidArgument` for a guidance out of
    /// its ranges, or one without a negative condition of the network's.
    pub fn guided(networks: Networks, max_batch: usize, conditions: &Conditions, guidance: &Guidance) -> Result<Self> {
        let len = Self::guided_memory_len(&networks, max_batch)?;
        Self::guided_in_memory(networks, max_batch, conditions, guidance, zeros("a workspace", len)?)
    }
}

impl<M: AsMut<[f32]>> NetworkDenoiser<M> {
    /// The `f32` values of memory that a denoiser for this batch needs; their bytes are four times as many.
    pub fn memory_len(networks: &Networks, max_batch: usize) -> Result<usize> {
        Ok(Parts::new(networks, max_batch, false)?.0.total)
    }

    /// As [`NetworkDenoiser::memory_len`], with guidance, which takes about twice as much.
    pub fn guided_memory_len(networks: &Networks, max_batch: usize) -> Result<usize> {
        Ok(Parts::new(networks, max_batch, true)?.0.total)
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
        memory: M,
    ) -> Result<Self> {
        Self::made(networks, max_batch, conditions, None, memory)
    }

    /// As [`NetworkDenoiser::guided`], in memory of at least [`NetworkDenoiser::guided_memory_len`] values.
    pub fn guided_in_memory(
        networks: Networks,
        max_batch: usize,
        conditions: &Conditions,
        guidance: &Guidance,
        memory: M,
    ) -> Result<Self> {
        Self::made(networks, max_batch, conditions, Some(guidance), memory)
    }

    fn made(
        networks: Networks,
        max_batch: usize,
        conditions: &Conditions,
        guidance: Option<&Guidance>,
        mut memory: M,
    ) -> Result<Self> {
        let (parts, mut held) = Parts::new(&networks, max_batch, guidance.is_some())?;
        let (got, need) = (memory.as_mut().len(), parts.total);
        if got < need {
            let e = err!(OutOfMemory, "the denoiser's memory has {got} values, expected {need}");
            return Err(e.with_lengths(got, need));
        }
        check_conditions(&inputs_of(networks.predict.as_ref())?, conditions)?;
        for held in &mut held {
            held.set(conditions.get(&held.input.name).unwrap_or_default())?;
        }
        let pair = guidance.map(|g| Pair::new(g, &held)).transpose()?;
        let capacity = parts.max_batch * parts.calls;
        networks.predict.prepare(capacity)?;
        if let Some(gradient) = &networks.gradient {
            gradient.prepare(capacity)?;
        }
        let name = format!("network on {}", networks.predict.describe());
        Ok(Self { networks, name, parts, conditions: held, pair, identity: 0, memory })
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
        self.parts.output
    }

    fn max_batch(&self) -> usize {
        self.parts.max_batch
    }

    fn looks_at_numbers(&self) -> bool {
        self.conditions.iter().any(|c| c.count() > 1) || self.pair.as_ref().is_some_and(Pair::looks_at_numbers)
    }

    fn predict(&mut self, call: &Call<'_>, x: &[f32], out: &mut [f32]) -> Result<()> {
        let batch = check_batch(&self.name, self.sample_dims().elements(), x, self.output_len(), out)?;
        check_given(&self.name, "x", x)?;
        self.parts.check(batch)?;
        let Self { networks, name, parts, conditions, pair, memory, .. } = self;
        let memory = memory.as_mut();
        match pair.as_ref().filter(|p| p.acts(&call.level)) {
            None => {
                let (inputs, rest) = parts.fill(batch, call, x, conditions, None, memory);
                networks.predict.run(batch, &inputs[..parts.inputs], &mut [&mut *out], rest, call.cancel)?;
            }
            Some(pair) => {
                let (rest, own) = memory.split_at_mut(parts.total - parts.guided);
                let y = predict_both(&networks.predict, parts, call, x, conditions, pair, rest, own)?.1;
                let (c, u) = y.split_at(batch * parts.output);
                let n = parts.sample_dims.elements();
                for ((c, u), out) in each(c, parts.output).zip(each(u, parts.output)).zip(each_mut(out, parts.output)) {
                    pair.combine(c, u, n, out);
                }
            }
        }
        check_gave(name, call, parts.output, out)
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
        self.parts.check(batch)?;
        let Self {
            networks: Networks { gradient: Some(gradient), predict },
            name,
            parts,
            conditions,
            pair,
            memory,
            ..
        } = self
        else {
            return Err(err!(Unsupported, "the denoiser \"{}\" was made without a gradient network", self.name));
        };
        let short = || err!(OutOfMemory, "the denoiser's memory is too short");
        let memory = memory.as_mut();
        match pair.as_ref().filter(|p| p.acts(&call.level)) {
            None => {
                let (mut inputs, rest) = parts.fill(batch, call, x, conditions, None, memory);
                inputs[parts.inputs] = v;
                // The gradient network also predicts; that prediction is dropped.
                let (workspace, y) = rest.split_at_mut(parts.workspace);
                let y = y.get_mut(..batch * output_len).ok_or_else(short)?;
                gradient.run(batch, &inputs[..=parts.inputs], &mut [y, &mut *out], workspace, call.cancel)?;
            }
            Some(pair) => {
                let (rest, own) = memory.split_at_mut(parts.total - parts.guided);
                let (own, others) = own.split_at_mut(parts.guided / 2);
                let (x, y) = predict_both(predict, parts, call, x, conditions, pair, rest, own)?;
                let both = 2 * batch;
                let (cotangents, products) = others.split_at_mut(parts.calls * parts.max_batch * output_len);
                let (cotangents, products) = (&mut cotangents[..both * output_len], &mut products[..both * n]);
                let ((c, u), (to_c, to_u)) =
                    (y.split_at(batch * output_len), cotangents.split_at_mut(batch * output_len));
                let given = each(c, output_len).zip(each(u, output_len)).zip(each(v, output_len));
                let to = each_mut(to_c, output_len).zip(each_mut(to_u, output_len));
                for (((c, u), v), (to_c, to_u)) in given.zip(to) {
                    pair.cotangents([c, u, v], n, to_c, to_u);
                }
                let (mut inputs, rest) = parts.fill(both, call, x, conditions, Some(pair), rest);
                inputs[parts.inputs] = cotangents;
                let (workspace, y) = rest.split_at_mut(parts.workspace);
                let y = y.get_mut(..both * output_len).ok_or_else(short)?;
                gradient.run(both, &inputs[..=parts.inputs], &mut [y, &mut *products], workspace, call.cancel)?;
                let (by_c, by_u) = products.split_at(batch * n);
                out.iter_mut().zip(by_c.iter().zip(by_u)).for_each(|(o, (c, u))| *o = c + u);
            }
        }
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

    fn set_negative(&mut self, name: &str, rows: &[f32]) -> Result<()> {
        match &mut self.pair {
            Some(pair) => pair.set(name, rows),
            None => {
                Err(err!(InvalidArgument, "a negative condition {name:?} is given, but the denoiser is not guided"))
            }
        }
    }

    fn fingerprint(&self) -> u64 {
        if self.identity == 0 {
            return 0;
        }
        let none = crate::noise::Fingerprint::new().finish();
        let class = |c: &&Held| c.input.role.is_class();
        let others = self.conditions.iter().filter(|c| !class(c)).fold(0, |sum, c| sum ^ c.fingerprint());
        let guided = self.pair.as_ref().map_or(0, Pair::fingerprint);
        self.identity ^ guided ^ others ^ self.conditions.iter().find(class).map_or(none, Held::fingerprint)
    }
}

fn each(values: &[f32], len: usize) -> impl Iterator<Item = &[f32]> {
    values.chunks_exact(len.max(1))
}

fn each_mut(values: &mut [f32], len: usize) -> impl Iterator<Item = &mut [f32]> {
    values.chunks_exact_mut(len.max(1))
}

/// One call for the conditions and the negative ones: x of both, and the predictions of both, in `own`.
#[allow(clippy::too_many_arguments)] // What a denoiser is made of, apart, because parts of it are borrowed.
fn predict_both<'m>(
    network: &Arc<dyn Network>,
    parts: &Parts,
    call: &Call<'_>,
    x: &[f32],
    conditions: &[Held],
    pair: &Pair,
    memory: &mut [f32],
    own: &'m mut [f32],
) -> Result<(&'m [f32], &'m [f32])> {
    let n = parts.sample_dims.elements();
    let both = x.len() / n.max(1) * 2;
    let (twice, y) = own.split_at_mut(parts.calls * parts.max_batch * n);
    let (twice, y) = (&mut twice[..both * n], &mut y[..both * parts.output]);
    let (first, second) = twice.split_at_mut(x.len());
    first.copy_from_slice(x);
    second.copy_from_slice(x);
    let (inputs, rest) = parts.fill(both, call, twice, conditions, Some(pair), memory);
    network.run(both, &inputs[..parts.inputs], &mut [&mut *y], rest, call.cancel)?;
    Ok((twice, y))
}
