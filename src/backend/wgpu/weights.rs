//! What lies in the weight buffers: how much is known from the graph alone, then each entry is read, packed and
//! uploaded.

use alloc::vec::Vec;

use super::kernels::conv::{BLOCK, blocks};
use super::memory::{ALIGNMENT, MAX_BINDING};
use crate::backend::ParamSource;
use crate::error::{Result, ensure, err};
use crate::graph::{Graph, Kernel, ParamId};
use crate::memory::zeros;
use crate::tensor::{DType, Dims};

/// How an entry is made of parameters.
#[derive(Clone, Debug)]
pub(super) enum Pack {
    /// The matrix of a convolution: for each tap, for each source, blocks of 16 channels; the columns are the kernels'
    /// output channels, stacked and padded to quads. What is padding is 0.
    Conv {
        kernels: Vec<Kernel>,
        /// Channels of each source.
        sources: Vec<usize>,
        /// Rows and columns of the filter.
        kernel: [usize; 2],
        columns: usize,
    },
    /// The matrix of the adjoint of a convolution from `inputs` channels to `outputs`, those of all weights stacked:
    /// the filter is turned round, and its input and output channels change places.
    Adjoint { weights: Vec<ParamId>, inputs: usize, outputs: usize, kernel: [usize; 2], columns: usize },
    /// Biases stacked; a kernel without one has zeros.
    Bias { kernels: Vec<Kernel>, columns: usize },
    /// Parameters as they are, one after the other.
    Plain(Vec<ParamId>),
    /// A parameter as a value of these dimensions, of as many elements, channels last.
    ChannelsLast(ParamId, Dims),
    /// Values that the graph holds.
    Values(Vec<f32>),
}

/// An entry of the weights.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub pack: Pack,
    /// How many values.
    pub len: usize,
    pub dtype: DType,
}

impl Entry {
    /// Checks the size of an entry.
    pub fn new(pack: Pack, graph: &Graph, dtype: DType) -> Result<Self> {
        let rows = |kernel: &[usize; 2], blocks: usize| {
            kernel[0].checked_mul(kernel[1]).and_then(|n| n.checked_mul(blocks)).and_then(|n| n.checked_mul(BLOCK))
        };
        let len = match &pack {
            Pack::Conv { sources, kernel, columns, .. } => {
                rows(kernel, blocks(sources.iter().copied())).and_then(|n| n.checked_mul(*columns))
            }
            Pack::Adjoint { outputs, kernel, columns, .. } => {
                rows(kernel, blocks([*outputs])).and_then(|n| n.checked_mul(*columns))
            }
            Pack::Bias { columns, .. } => Some(*columns),
            Pack::Plain(ids) => ids.iter().try_fold(0usize, |n, id| n.checked_add(graph.param(*id).dims.elements())),
            Pack::ChannelsLast(id, _) => Some(graph.param(*id).dims.elements()),
            Pack::Values(v) => Some(v.len()),
        };
        let fits = len.filter(|n| n.checked_mul(dtype.size()).is_some_and(|bytes| bytes <= MAX_BINDING));
        let len = fits.ok_or_else(|| {
            err!(Unsupported, "the weights of one operation take more than {MAX_BINDING} bytes, the most of a binding")
        })?;
        Ok(Self { pack, len, dtype })
    }

    /// Bytes in its buffer.
    pub fn bytes(&self) -> usize {
        (self.len * self.dtype.size()).next_multiple_of(ALIGNMENT)
    }

    /// Reads and packs the values.
    pub fn values(&self, graph: &Graph, source: &dyn ParamSource) -> Result<Vec<f32>> {
        let mut out = zeros("weights", self.len)?;
        match &self.pack {
            Pack::Conv { kernels, sources, kernel, columns } => {
                let taps = kernel[0] * kernel[1];
                let inputs: usize = sources.iter().sum();
                // For each input channel, its row at the first tap.
                let mut rows = Vec::new();
                let mut begin = 0;
                for &channels in sources {
                    rows.extend(begin..begin + channels);
                    begin += channels.next_multiple_of(BLOCK);
                }
                let mut first = 0;
                for k in kernels {
                    let values = read(graph, source, k.weight)?;
                    let size = inputs * taps;
                    ensure!(size > 0, InvalidArgument, "a kernel without weights");
                    for (o, filter) in values.chunks_exact(size).enumerate() {
                        for (channel, row) in filter.chunks_exact(taps).zip(&rows) {
                            for (tap, &w) in channel.iter().enumerate() {
                                put(&mut out, ((tap * begin + row) * columns).saturating_add(first + o), w)?;
                            }
                        }
                    }
                    first += values.len() / size;
                }
            }
            Pack::Adjoint { weights, inputs, outputs, kernel, columns } => {
                let taps = kernel[0] * kernel[1];
                let rows = outputs.next_multiple_of(BLOCK);
                ensure!(taps > 0 && *inputs > 0, InvalidArgument, "a kernel without weights");
                let mut first = 0;
                for &weight in weights {
                    let values = read(graph, source, weight)?;
                    for (i, filter) in values.chunks_exact(taps).enumerate() {
                        let (output, input) = (first + i / inputs, i % inputs);
                        for (tap, &w) in filter.iter().rev().enumerate() {
                            put(&mut out, (tap * rows + output) * columns + input, w)?;
                        }
                    }
                    first += values.len() / taps / inputs;
                }
            }
            Pack::Bias { kernels, .. } => {
                let mut first = 0;
                for k in kernels {
                    let len = graph.param(k.weight).dims.channels();
                    if let Some(b) = k.bias {
                        for (i, v) in read(graph, source, b)?.into_iter().enumerate() {
                            put(&mut out, first + i, v)?;
                        }
                    }
                    first += len;
                }
            }
            Pack::Plain(ids) => {
                let mut first = 0;
                for id in ids {
                    let param = graph.param(*id);
                    let end = first + param.dims.elements();
                    let part = out.get_mut(first..end).ok_or_else(|| err!(Weights, "{} has no place", param.name))?;
                    source.read(&param.name, &param.dims, part)?;
                    first = end;
                }
            }
            Pack::ChannelsLast(id, dims) => {
                let values = read(graph, source, *id)?;
                for (c, plane) in values.chunks_exact(dims.positions()).enumerate() {
                    for (p, &v) in plane.iter().enumerate() {
                        put(&mut out, p * dims.channels() + c, v)?;
                    }
                }
            }
            Pack::Values(values) => out.copy_from_slice(values),
        }
        Ok(out)
    }
}

fn put(out: &mut [f32], at: usize, value: f32) -> Result<()> {
    *out.get_mut(at).ok_or_else(|| err!(Weights, "a weight at {at} is outside of its matrix"))? = value;
    Ok(())
}

/// The values of a parameter.
pub(super) fn read(graph: &Graph, source: &dyn ParamSource, id: ParamId) -> Result<Vec<f32>> {
    let param = graph.param(id);
    let mut values = zeros(&param.name, param.dims.elements())?;
    source.read(&param.name, &param.dims, &mut values)?;
    Ok(values)
}

/// Where the entries lie: in which buffer, from which byte on; and the bytes of each buffer.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    pub of: Vec<(usize, usize)>,
    pub buffers: Vec<usize>,
}

/// Lays entries out one after the other in buffers of at most `max` bytes.
pub(super) fn place(entries: &[Entry], max: usize) -> Places {
    let mut places = Places::default();
    for e in entries {
        match places.buffers.last_mut() {
            Some(used) if *used + e.bytes() <= max => {
                let at = *used;
                *used += e.bytes();
                places.of.push((places.buffers.len() - 1, at));
            }
            _ => {
                places.buffers.push(e.bytes());
                places.of.push((places.buffers.len() - 1, 0));
            }
        }
    }
    places
}
