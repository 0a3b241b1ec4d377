//! An open device: its errors as values, its memory counted, its pipelines kept.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};

use super::adapter::{AdapterSummary, instance, may_have_gpu, pick};
use super::kernels::{Access, Launch};
use super::memory::MAX_BINDING;
use crate::cancel::Cancel;
use crate::error::{Error, Result, ensure, err};

/// How long a wait for the device sleeps before it looks at the cancel flag again.
const PATIENCE: Duration = Duration::from_millis(20);

/// What a thread that panicked left in a mutex is as good as any other state here.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes of the buffers that this device holds, now and at most so far.
#[derive(Debug, Default)]
pub(super) struct Account {
    now: AtomicU64,
    peak: AtomicU64,
}

impl Account {
    fn add(&self, bytes: u64) {
        let now = self.now.fetch_add(bytes, Ordering::SeqCst) + bytes;
        self.peak.fetch_max(now, Ordering::SeqCst);
    }

    /// The most bytes so far.
    pub fn peak(&self) -> u64 {
        self.peak.load(Ordering::SeqCst)
    }
}

/// A buffer that the account knows of.
#[derive(Debug)]
pub(super) struct Counted {
    pub buffer: wgpu::Buffer,
    account: Arc<Account>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.buffer.destroy();
        self.account.now.fetch_sub(self.buffer.size(), Ordering::SeqCst);
    }
}

/// A pipeline with the layout of its bindings.
#[derive(Clone, Debug)]
pub(super) struct Pipeline {
    pub pipeline: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
}

/// What goes wrong outside of a call, kept for the next one.
#[derive(Debug, Default)]
struct Trouble {
    /// Why the device is lost.
    lost: Option<String>,
    /// An error that no scope caught.
    uncaught: Option<String>,
}

/// An open device.
#[derive(Debug)]
pub(super) struct Gpu {
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    pub summary: AdapterSummary,
    /// Whether kernels use subgroup operations.
    pub subgroups: bool,
    pub account: Arc<Account>,
    pub submissions: AtomicU64,
    pub max_buffer: usize,
    pub max_workgroups: usize,
    pipelines: Mutex<BTreeMap<String, Pipeline>>,
    trouble: Arc<Mutex<Trouble>>,
}

impl Gpu {
    /// Opens an adapter, see [`pick`].
    pub fn open(index: Option<usize>, subgroups: bool) -> Result<Self> {
        ensure!(
            index.is_some() || may_have_gpu(),
            Device,
            "no GPU was found: /dev has none (software adapters are used only when named as wgpu:INDEX)"
        );
        let instance = instance();
        let (adapter, summary) = pick(&instance, index)?;
        let mut features = wgpu::Features::empty();
        if summary.f16 {
            features |= wgpu::Features::SHADER_F16;
        }
        // The kernels have room for the sums of as many subgroups as there are of 4.
        let subgroups = subgroups && summary.subgroups.is_some_and(|[least, _]| least >= 4);
        if subgroups {
            features |= wgpu::Features::SUBGROUP;
        }
        let has = adapter.limits();
        // The defaults are all that the kernels need; only the arena may want a larger buffer.
        let mut limits = wgpu::Limits::default().or_worse_values_from(&has);
        limits.max_buffer_size = has.max_buffer_size;
        let (max_buffer, max_workgroups) = (limits.max_buffer_size, limits.max_compute_workgroups_per_dimension);
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("undiffuse"),
            required_features: features,
            required_limits: limits,
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..Default::default()
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))
            .map_err(|e| err!(Device, "{} cannot be opened: {e}", summary.name))?;
        let trouble = Arc::new(Mutex::new(Trouble::default()));
        let shared = Arc::clone(&trouble);
        device.on_uncaptured_error(Arc::new(move |e: wgpu::Error| {
            lock(&shared).uncaught.get_or_insert_with(|| one_line(&e.to_string()));
        }));
        let shared = Arc::clone(&trouble);
        device.set_device_lost_callback(move |reason, text| {
            lock(&shared).lost.get_or_insert_with(|| one_line(&format!("{reason:?} {text}")));
        });
        Ok(Self {
            device,
            queue,
            summary,
            subgroups,
            account: Arc::default(),
            submissions: AtomicU64::new(0),
            max_buffer: usize::try_from(max_buffer).unwrap_or(usize::MAX),
            max_workgroups: max_workgroups as usize,
            pipelines: Mutex::default(),
            trouble,
        })
    }

    /// What went wrong outside of any call.
    pub fn check(&self) -> Result<()> {
        let mut trouble = lock(&self.trouble);
        if let Some(why) = &trouble.lost {
            return Err(err!(Device, "the device {} is lost: {why}", self.summary.name));
        }
        match trouble.uncaught.take() {
            Some(text) => Err(err!(Device, "{}: {text}", self.summary.name)),
            None => Ok(()),
        }
    }

    /// Does `work` and gives the errors that the device found in it.
    pub fn guarded<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.check()?;
        let scopes = [wgpu::ErrorFilter::Internal, wgpu::ErrorFilter::Validation, wgpu::ErrorFilter::OutOfMemory]
            .map(|filter| self.device.push_error_scope(filter));
        let done = work();
        // Popped in the reverse order; every scope, also after an error.
        let mut found = None;
        for scope in scopes.into_iter().rev() {
            found = pollster::block_on(scope.pop()).or(found);
        }
        self.check()?;
        match found {
            Some(e) => Err(self.error(&e)),
            None => done,
        }
    }

    fn error(&self, e: &wgpu::Error) -> Error {
        match e {
            wgpu::Error::OutOfMemory { .. } => err!(OutOfMemory, "{} has no memory left", self.summary.name),
            other => err!(Device, "{}: {}", self.summary.name, one_line(&other.to_string())),
        }
    }

    /// A buffer of `bytes` bytes.
    pub fn buffer(&self, label: &str, bytes: usize, usage: wgpu::BufferUsages) -> Result<Counted> {
        if bytes > self.max_buffer {
            return Err(err!(
                OutOfMemory,
                "{label} takes {bytes} bytes, and a buffer of {} at most {}",
                self.summary.name,
                self.max_buffer
            ));
        }
        let descriptor =
            wgpu::BufferDescriptor { label: Some(label), size: bytes as u64, usage, mapped_at_creation: false };
        let buffer = self
            .guarded(|| Ok(self.device.create_buffer(&descriptor)))
            .map_err(|e| e.context(format_args!("{label} of {bytes} bytes")))?;
        self.account.add(buffer.size());
        Ok(Counted { buffer, account: Arc::clone(&self.account) })
    }

    /// The pipeline of a launch for so many samples at most, made once.
    pub fn pipeline(&self, launch: &Launch, capacity: usize) -> Result<Pipeline> {
        let constants = launch.constants_for(capacity);
        let key = format!("{} {:?} {constants:?}", launch.code.name, launch.types);
        let mut pipelines = lock(&self.pipelines);
        if let Some(found) = pipelines.get(&key) {
            return Ok(found.clone());
        }
        let made = self
            .guarded(|| Ok(self.new_pipeline(launch, &constants)))
            .map_err(|e| e.context(format_args!("the kernel {}", launch.code.name)))?;
        pipelines.insert(key, made.clone());
        Ok(made)
    }

    fn new_pipeline(&self, launch: &Launch, constants: &[(&str, f64)]) -> Pipeline {
        let device = &self.device;
        let label = Some(launch.code.name);
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label,
            source: wgpu::ShaderSource::Wgsl(launch.source(self.subgroups).into()),
        });
        let entry = |binding: usize, ty| wgpu::BindGroupLayoutEntry {
            binding: binding as u32,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
            count: None,
        };
        let mut entries: Vec<_> = (0..2).map(|i| entry(i, wgpu::BufferBindingType::Uniform)).collect();
        entries.extend(launch.code.bindings.iter().enumerate().map(|(i, access)| {
            entry(i + 2, wgpu::BufferBindingType::Storage { read_only: *access == Access::Weight })
        }));
        let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label, entries: &entries });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label,
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label,
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants,
                // Every kernel writes what it reads.
                zero_initialize_workgroup_memory: false,
            },
            cache: None,
        });
        Pipeline { pipeline, layout }
    }

    /// Hands commands to the device.
    pub fn submit(&self, encoder: wgpu::CommandEncoder) -> wgpu::SubmissionIndex {
        self.submissions.fetch_add(1, Ordering::SeqCst);
        self.queue.submit([encoder.finish()])
    }

    /// Maps a buffer's first `bytes` bytes, once the device is done with it. The thread sleeps meanwhile, and wakes now
    /// and then to look at `cancel`; then the map is given up.
    pub fn map(&self, buffer: &wgpu::Buffer, bytes: usize, mode: wgpu::MapMode, cancel: &Cancel) -> Result<()> {
        let (done, answer) = mpsc::channel();
        buffer.slice(..bytes as u64).map_async(mode, move |result| {
            // Nobody listens any more after a cancel.
            let _ = done.send(result.is_ok());
        });
        loop {
            let polled = self.device.poll(wgpu::PollType::Wait { submission_index: None, timeout: Some(PATIENCE) });
            if let Ok(mapped) = answer.try_recv() {
                let checked = self.check();
                if mapped && checked.is_ok() {
                    return Ok(());
                }
                // An error that is told here is no fault of the buffer: the next call maps it again.
                buffer.unmap();
                checked?;
                return Err(err!(Device, "{}: a buffer could not be read or written", self.summary.name));
            }
            let checked = self.check().and_then(|()| cancel.check());
            let waited = match polled {
                Ok(_) | Err(wgpu::PollError::Timeout) => Ok(()),
                Err(e) => Err(err!(Device, "{}: {e}", self.summary.name)),
            };
            if let Err(e) = checked.and(waited) {
                buffer.unmap();
                return Err(e);
            }
        }
    }

    /// The most bytes of a binding.
    pub const fn max_binding(&self) -> usize {
        MAX_BINDING
    }
}

/// A message without line breaks.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
