//! A compiled network on a device, and its calls.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use std::sync::Mutex;

use super::Precision;
use super::compile::{Halves, Origin, Program, compile};
use super::gpu::{Counted, Gpu, Pipeline, lock};
use super::kernels::{Access, Operand};
use super::memory::{ALIGNMENT, View};
use super::weights::{Entry, Places, place};
use crate::backend::{Network, ParamSource, check_run};
use crate::cancel::Cancel;
use crate::error::{Result, ensure, err};
use crate::graph::fuse::{fuse, fuse_backward};
use crate::graph::{Graph, Input};
use crate::memory::room;
use crate::tensor::Dims;
use ::wgpu::BufferUsages as Usage;

mod transfer;

use transfer::{Call, put, write};

/// The most bytes through which weights are uploaded at a time.
const STAGING: usize = 8 << 20;

/// The most bytes of one buffer of weights.
const WEIGHT_BUFFER: usize = 256 << 20;

/// A network compiled for a device: see [`Network`] for how to call it.
///
/// A call's memory on the device is allocated by [`Network::prepare`], or by the first call, for the largest batch so
/// far; calls from several threads take turns.
pub struct WgpuNetwork {
    gpu: Arc<Gpu>,
    inputs: Vec<Dims>,
    signature: Vec<Input>,
    outputs: Vec<Dims>,
    program: Program,
    places: Places,
    weights: Vec<Counted>,
    state: Mutex<Option<Prepared>>,
}

/// What calls of up to `capacity` samples need on the device.
struct Prepared {
    capacity: usize,
    arena: Counted,
    upload: Counted,
    download: Counted,
    call: Counted,
    /// Kept for the bind groups.
    _params: Counted,
    steps: Vec<Step>,
}

struct Step {
    pipeline: Pipeline,
    bindings: wgpu::BindGroup,
}

/// How the memory of calls of up to `capacity` samples is cut, in bytes.
struct Layout {
    arena: usize,
    /// The call's parameters come first in the upload.
    uploads: Vec<usize>,
    upload: usize,
    downloads: Vec<usize>,
    download: usize,
    params: usize,
}

impl Layout {
    fn new(program: &Program, capacity: usize) -> Option<Self> {
        let size = |v: &View| program.sizes.get(v.buffer)?.checked_mul(capacity);
        let mut upload = ALIGNMENT;
        let mut uploads = Vec::new();
        for (_, view) in &program.uploads {
            uploads.push(upload);
            upload = upload.checked_add(size(view)?)?;
        }
        let mut download = 0usize;
        let mut downloads = Vec::new();
        for view in &program.outputs {
            downloads.push(download);
            download = download.checked_add(size(view)?)?;
        }
        let arena = program.arena.size.checked_mul(capacity)?.max(ALIGNMENT);
        let params = program.launches.len().max(1).checked_mul(ALIGNMENT)?;
        Some(Self { arena, uploads, upload, downloads, download, params })
    }

    fn total(&self) -> usize {
        // Capacities are such that each of these is far below the largest number.
        self.arena + self.upload + self.download + self.params + ALIGNMENT
    }
}

impl WgpuNetwork {
    pub(super) fn new(gpu: Arc<Gpu>, precision: Precision, graph: &Graph, source: &dyn ParamSource) -> Result<Self> {
        Self::unfused(gpu, precision, &fuse(&fuse_backward(graph)?)?, source)
    }

    /// Compiles the operations as they are.
    pub(super) fn unfused(
        gpu: Arc<Gpu>,
        precision: Precision,
        graph: &Graph,
        source: &dyn ParamSource,
    ) -> Result<Self> {
        let program = compile(graph, precision)?;
        let places = place(&program.weights, WEIGHT_BUFFER.min(gpu.max_buffer));
        let mut network = Self {
            inputs: graph.inputs().iter().map(|p| graph.dims(p.value)).collect(),
            signature: graph.signature(),
            outputs: graph.outputs().iter().map(|p| graph.dims(p.value)).collect(),
            gpu,
            program,
            places,
            weights: Vec::new(),
            state: Mutex::new(None),
        };
        network.max_piece()?;
        for &bytes in &network.places.buffers {
            let usage = Usage::STORAGE | Usage::COPY_DST;
            network.weights.push(network.gpu.buffer("the weights", bytes, usage)?);
        }
        // Nothing is read before the memory is there.
        network.upload_weights(graph, source)?;
        for (origin, _) in &mut network.program.uploads {
            if let Origin::Host(value) = origin {
                value.load(graph, source)?;
            }
        }
        Ok(network)
    }

    fn staging(&self) -> usize {
        let largest = self.program.weights.iter().map(Entry::bytes).max().unwrap_or(0);
        largest.min(STAGING)
    }

    fn upload_weights(&self, graph: &Graph, source: &dyn ParamSource) -> Result<()> {
        let never = Cancel::new();
        let staging = match self.staging() {
            0 => return Ok(()),
            n => self.gpu.buffer("the staging memory of weights", n, Usage::MAP_WRITE | Usage::COPY_SRC)?,
        };
        let size = self.staging();
        for (entry, &(buffer, at)) in self.program.weights.iter().zip(&self.places.of) {
            let values = entry.values(graph, source)?;
            let mut bytes = room("weights", entry.bytes())?;
            for v in &values {
                put(&mut bytes, *v, entry.dtype);
            }
            bytes.resize(entry.bytes(), 0);
            drop(values);
            let target = self.weights.get(buffer).ok_or_else(|| err!(Weights, "weights without a buffer"))?;
            for (i, piece) in bytes.chunks(size).enumerate() {
                self.gpu.map(&staging.buffer, piece.len(), wgpu::MapMode::Write, &never)?;
                write(&staging.buffer, 0, piece)?;
                staging.buffer.unmap();
                self.gpu.guarded(|| {
                    let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
                    let to = (at + i * size) as u64;
                    encoder.copy_buffer_to_buffer(&staging.buffer, 0, &target.buffer, to, piece.len() as u64);
                    self.gpu.submit(encoder);
                    Ok(())
                })?;
            }
        }
        // The staging memory is given back once nothing reads it.
        self.gpu.map(&staging.buffer, size, wgpu::MapMode::Write, &never)
    }

    /// The most samples that one submission can have.
    fn max_piece(&self) -> Result<usize> {
        let gpu = &self.gpu;
        let largest = self.program.sizes.iter().copied().max().unwrap_or(0).max(1);
        let io = |views: &mut dyn Iterator<Item = &View>| {
            views.filter_map(|v| self.program.sizes.get(v.buffer)).fold(1usize, |sum, n| sum.saturating_add(*n))
        };
        let host = gpu.max_buffer.saturating_sub(ALIGNMENT);
        let piece = (gpu.max_binding() / largest)
            .min(gpu.max_buffer / self.program.arena.size.max(1))
            .min(host / io(&mut self.program.uploads.iter().map(|u| &u.1)))
            .min(host / io(&mut self.program.outputs.iter()));
        ensure!(
            piece > 0,
            Unsupported,
            "a value of this network takes {largest} bytes and all together {}; a binding of {} has at most {}, a buffer {}",
            self.program.arena.size,
            gpu.summary.name,
            gpu.max_binding(),
            gpu.max_buffer
        );
        // Kernels count with 32 bits, so this bounds what they count too.
        Ok(piece.min(1 << 16))
    }

    /// Samples of a submission, where a batch is cut into equal pieces.
    fn capacity(&self, batch: usize) -> Result<usize> {
        ensure!(batch > 0, InvalidArgument, "the batch is 0, expected at least 1");
        let pieces = batch.div_ceil(self.max_piece()?);
        Ok(batch.div_ceil(pieces))
    }

    fn layout(&self, capacity: usize) -> Result<Layout> {
        Layout::new(&self.program, capacity)
            .ok_or_else(|| err!(OutOfMemory, "a batch of {capacity} is too large for this machine"))
    }

    /// How many dispatches a call has.
    pub fn dispatches(&self) -> usize {
        self.program.launches.len()
    }

    /// Submissions that this network's device has had so far, from all its networks.
    pub fn submissions(&self) -> u64 {
        self.gpu.submissions.load(Ordering::SeqCst)
    }

    /// The most bytes that the device's buffers have taken together so far, those of its other networks counted.
    pub fn peak_device_bytes(&self) -> u64 {
        self.gpu.account.peak()
    }

    fn prepared(&self, capacity: usize) -> Result<Prepared> {
        let (gpu, layout) = (&self.gpu, self.layout(capacity)?);
        let arena_usage = Usage::STORAGE | Usage::COPY_SRC | Usage::COPY_DST;
        let arena = gpu.buffer("the memory of values", layout.arena, arena_usage)?;
        let upload = gpu.buffer("the upload", layout.upload, Usage::MAP_WRITE | Usage::COPY_SRC)?;
        let download = gpu.buffer("the download", layout.download, Usage::MAP_READ | Usage::COPY_DST)?;
        let call = gpu.buffer("the call's parameters", ALIGNMENT, Usage::UNIFORM | Usage::COPY_DST)?;
        let params =
            gpu.buffer("the kernels' parameters", layout.params, Usage::UNIFORM | Usage::STORAGE | Usage::COPY_DST)?;
        self.upload_params(&params, &upload)?;
        let mut steps = Vec::new();
        for (i, launch) in self.program.launches.iter().enumerate() {
            let pipeline = gpu.pipeline(launch, capacity).map_err(|e| e.context(launch.op))?;
            let part = |buffer, at: usize, size: usize| {
                wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer,
                    offset: at as u64,
                    size: wgpu::BufferSize::new(size as u64),
                })
            };
            let mut entries = alloc::vec![
                part(&call.buffer, 0, 16),
                part(&params.buffer, i * ALIGNMENT, launch.params.len().next_multiple_of(4) * 4),
            ];
            for (operand, access) in launch.operands.iter().zip(launch.code.bindings) {
                let missing = || err!(InvalidArgument, "{}: an operand without a place", launch.op);
                entries.push(match (*operand, access) {
                    (Operand::Value(b), _) => {
                        let (at, size) =
                            self.program.arena.offsets.get(b).zip(self.program.sizes.get(b)).ok_or_else(missing)?;
                        part(&arena.buffer, at * capacity, size * capacity)
                    }
                    (Operand::Weight(w), _) => {
                        let (&(b, at), entry) =
                            self.places.of.get(w).zip(self.program.weights.get(w)).ok_or_else(missing)?;
                        part(&self.weights.get(b).ok_or_else(missing)?.buffer, at, entry.bytes())
                    }
                    // What a kernel does not use gets something harmless of the right kind.
                    (Operand::None, Access::Value) => part(&arena.buffer, 0, ALIGNMENT),
                    (Operand::None, Access::Weight) => part(&params.buffer, 0, ALIGNMENT),
                });
            }
            let entries: Vec<_> = entries
                .into_iter()
                .enumerate()
                .map(|(i, resource)| wgpu::BindGroupEntry { binding: i as u32, resource })
                .collect();
            let bindings = gpu.guarded(|| {
                Ok(gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
                    label: Some(launch.op),
                    layout: &pipeline.layout,
                    entries: &entries,
                }))
            })?;
            steps.push(Step { pipeline, bindings });
        }
        Ok(Prepared { capacity, arena, upload, download, call, _params: params, steps })
    }

    /// Fills `params`, in pieces that fit `through`.
    fn upload_params(&self, params: &Counted, through: &Counted) -> Result<()> {
        let mut bytes = Vec::new();
        for launch in &self.program.launches {
            let begin = bytes.len();
            bytes.extend(launch.params.iter().flat_map(|w| w.to_le_bytes()));
            ensure!(bytes.len() - begin <= ALIGNMENT, Unsupported, "{}: too many parameters", launch.op);
            bytes.resize(begin + ALIGNMENT, 0);
        }
        let size = through.buffer.size() as usize / ALIGNMENT * ALIGNMENT;
        let mut at = 0;
        for piece in bytes.chunks(size.max(ALIGNMENT)) {
            self.gpu.map(&through.buffer, piece.len(), wgpu::MapMode::Write, &Cancel::new())?;
            write(&through.buffer, 0, piece)?;
            through.buffer.unmap();
            self.gpu.guarded(|| {
                let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
                encoder.copy_buffer_to_buffer(&through.buffer, 0, &params.buffer, at, piece.len() as u64);
                self.gpu.submit(encoder);
                Ok(())
            })?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// Runs samples `first .. first + count` of a call.
    fn piece(&self, state: &Prepared, call: &mut Call<'_, '_>, first: usize, count: usize) -> Result<()> {
        let (gpu, layout) = (&self.gpu, self.layout(state.capacity)?);
        gpu.map(&state.upload.buffer, layout.upload, wgpu::MapMode::Write, call.cancel)?;
        let written = self.write_uploads(state, &layout, call, first, count);
        state.upload.buffer.unmap();
        written?;
        gpu.guarded(|| {
            let mut encoder = gpu.device.create_command_encoder(&Default::default());
            encoder.copy_buffer_to_buffer(&state.upload.buffer, 0, &state.call.buffer, 0, 16);
            let place = |v: &View| -> Option<(u64, u64)> {
                let at = self.program.arena.offsets.get(v.buffer)?.checked_mul(state.capacity)?;
                let bytes = v.positions() * v.stride * v.dtype.size() * count;
                Some((at as u64, bytes as u64))
            };
            let missing = || err!(InvalidArgument, "a value without a place");
            for ((_, view), &from) in self.program.uploads.iter().zip(&layout.uploads) {
                let (at, bytes) = place(view).ok_or_else(missing)?;
                encoder.copy_buffer_to_buffer(&state.upload.buffer, from as u64, &state.arena.buffer, at, bytes);
            }
            let mut pass = encoder.begin_compute_pass(&Default::default());
            for (launch, step) in self.program.launches.iter().zip(&state.steps) {
                pass.set_pipeline(&step.pipeline.pipeline);
                pass.set_bind_group(0, &step.bindings, &[]);
                let n = launch.grid.workgroups(count, state.capacity);
                let x = n.min(gpu.max_workgroups);
                pass.dispatch_workgroups(x as u32, n.div_ceil(x.max(1)) as u32, 1);
            }
            drop(pass);
            for (view, &to) in self.program.outputs.iter().zip(&layout.downloads) {
                let (at, bytes) = place(view).ok_or_else(missing)?;
                encoder.copy_buffer_to_buffer(&state.arena.buffer, at, &state.download.buffer, to as u64, bytes);
            }
            gpu.submit(encoder);
            Ok(())
        })?;
        gpu.map(&state.download.buffer, layout.download, wgpu::MapMode::Read, call.cancel)?;
        let read = self.read_outputs(state, &layout, call, first, count);
        state.download.buffer.unmap();
        read
    }
}

impl Network for WgpuNetwork {
    fn inputs(&self) -> &[Dims] {
        &self.inputs
    }

    fn signature(&self) -> &[Input] {
        &self.signature
    }

    fn outputs(&self) -> &[Dims] {
        &self.outputs
    }

    fn weight_bytes(&self) -> usize {
        self.places.buffers.iter().sum()
    }

    fn workspace_len(&self, batch: usize) -> Result<usize> {
        self.layout(self.capacity(batch)?)?;
        Ok(0)
    }

    fn device_bytes(&self, batch: usize) -> Result<usize> {
        let call = self.layout(self.capacity(batch)?)?.total();
        Ok(self.weight_bytes() + call.max(self.staging()))
    }

    fn prepare(&self, batch: usize) -> Result<()> {
        let capacity = self.capacity(batch)?;
        let mut state = lock(&self.state);
        if state.as_ref().is_none_or(|s| s.capacity < capacity) {
            // The smaller memory goes first, so that there are never both.
            *state = None;
            *state = Some(self.prepared(capacity)?);
        }
        Ok(())
    }

    fn describe(&self) -> String {
        let s = &self.gpu.summary;
        let half = match self.program.halves {
            Halves::None => "",
            Halves::All => ", f16",
            Halves::Backward(_) => ", gradients in f16",
        };
        format!("wgpu:{} {}, {}{half}", s.index, s.name, s.interface)
    }

    fn run(
        &self,
        batch: usize,
        inputs: &[&[f32]],
        outputs: &mut [&mut [f32]],
        workspace: &mut [f32],
        cancel: &Cancel,
    ) -> Result<()> {
        check_run(self, batch, inputs, outputs, workspace)?;
        cancel.check()?;
        self.prepare(batch)?;
        let state = lock(&self.state);
        let state = state.as_ref().ok_or_else(|| err!(Device, "the network has no memory on the device"))?;
        let mut call = Call { inputs, outputs, cancel };
        for first in (0..batch).step_by(state.capacity) {
            cancel.check()?;
            self.piece(state, &mut call, first, state.capacity.min(batch - first))?;
        }
        Ok(())
    }
}
