//! Which adapters there are. Listing them is what opens a driver, and nothing else here does.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::memory::MAX_BINDING;
use crate::error::{Result, ensure, err};

/// What kind of device an adapter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdapterKind {
    /// A card of its own.
    Discrete,
    /// Part of the processor, with its memory.
    Integrated,
    /// Of a virtual machine.
    Virtual,
    /// A program that plays a GPU on the processor. Used only when it is named.
    Software,
    /// Unknown.
    Other,
}

/// What is known of an adapter before it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterSummary {
    /// Its number, as in `wgpu:INDEX`.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: AdapterKind,
    /// The interface, `"vulkan"`.
    pub interface: String,
    /// The driver and its version.
    pub driver: String,
    /// Whether shaders have half precision.
    pub f16: bool,
    /// Whether shaders have subgroup operations, and the sizes of a subgroup.
    pub subgroups: Option<[u32; 2]>,
    /// The most bytes of one buffer.
    pub max_buffer: u64,
    /// Why the backend cannot use it, if so.
    pub unusable: Option<String>,
}

/// All adapters of this machine, in the driver's order. It opens the drivers. An empty list if there is none.
pub fn adapters() -> Vec<AdapterSummary> {
    let instance = instance();
    all(&instance).iter().enumerate().map(|(i, a)| summary(i, a)).collect()
}

pub(super) fn instance() -> wgpu::Instance {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::VULKAN;
    descriptor.flags = wgpu::InstanceFlags::empty();
    wgpu::Instance::new(descriptor)
}

fn all(instance: &wgpu::Instance) -> Vec<wgpu::Adapter> {
    pollster::block_on(instance.enumerate_adapters(wgpu::Backends::VULKAN))
}

fn summary(index: usize, adapter: &wgpu::Adapter) -> AdapterSummary {
    let (info, features, limits) = (adapter.get_info(), adapter.features(), adapter.limits());
    AdapterSummary {
        index,
        kind: match info.device_type {
            wgpu::DeviceType::DiscreteGpu => AdapterKind::Discrete,
            wgpu::DeviceType::IntegratedGpu => AdapterKind::Integrated,
            wgpu::DeviceType::VirtualGpu => AdapterKind::Virtual,
            wgpu::DeviceType::Cpu => AdapterKind::Software,
            wgpu::DeviceType::Other => AdapterKind::Other,
        },
        interface: format!("{}", info.backend),
        driver: format!("{} {}", info.driver, info.driver_info).trim().into(),
        f16: features.contains(wgpu::Features::SHADER_F16),
        subgroups: features
            .contains(wgpu::Features::SUBGROUP)
            .then_some([info.subgroup_min_size, info.subgroup_max_size]),
        max_buffer: limits.max_buffer_size,
        unusable: lacks(&limits),
        name: info.name,
    }
}

/// What the kernels need and an adapter lacks.
fn lacks(limits: &wgpu::Limits) -> Option<String> {
    let wanted = wgpu::Limits::default();
    let pairs = [
        ("storage buffers", limits.max_storage_buffers_per_shader_stage.into(), 8),
        ("invocations of a workgroup", limits.max_compute_invocations_per_workgroup.into(), 256),
        ("bytes of workgroup memory", limits.max_compute_workgroup_storage_size.into(), 16384),
        ("bytes of a binding", limits.max_storage_buffer_binding_size, MAX_BINDING as u64),
        (
            "workgroups",
            limits.max_compute_workgroups_per_dimension.into(),
            wanted.max_compute_workgroups_per_dimension.into(),
        ),
    ];
    pairs
        .into_iter()
        .find(|(_, has, needs)| has < needs)
        .map(|(what, has, needs)| format!("it has {has} {what}, expected at least {needs}"))
}

/// The beginnings of the names in /dev through which drivers reach a GPU: of the kernel's own (all but a few), of
/// NVIDIA's, WSL's, Qualcomm's, Arm's, Imagination's and VeriSilicon's.
#[cfg(target_os = "linux")]
const DEVICES: [&str; 9] = ["dri", "nvidia", "nvhost", "nvgpu", "dxg", "kgsl", "mali", "pvr", "galcore"];

/// Whether asking the drivers may find a GPU. Mesa's software adapter alone takes some 80 ms and 20 MB to say that it
/// is none.
#[cfg(target_os = "linux")]
pub(super) fn may_have_gpu() -> bool {
    let Ok(entries) = std::fs::read_dir("/dev") else { return true };
    entries.flatten().any(|e| e.file_name().to_str().is_some_and(|name| DEVICES.iter().any(|d| name.starts_with(d))))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn may_have_gpu() -> bool {
    true
}

/// The adapter of this number; without one, the first that is no software and can be used, discrete ones first.
pub(super) fn pick(instance: &wgpu::Instance, index: Option<usize>) -> Result<(wgpu::Adapter, AdapterSummary)> {
    let adapters = all(instance);
    let summaries: Vec<_> = adapters.iter().enumerate().map(|(i, a)| summary(i, a)).collect();
    let chosen = match index {
        Some(i) => {
            let s = summaries.get(i).ok_or_else(|| {
                err!(
                    Device,
                    "there is no adapter wgpu:{i}: this machine has {} (see `undiffuse devices`)",
                    summaries.len()
                )
            })?;
            if let Some(why) = &s.unusable {
                return Err(err!(Device, "wgpu:{i}, {}, cannot be used: {why}", s.name));
            }
            i
        }
        None => {
            let rank = |kind| match kind {
                AdapterKind::Discrete => 0,
                AdapterKind::Integrated => 1,
                _ => 2,
            };
            let usable = summaries.iter().filter(|s| s.kind != AdapterKind::Software && s.unusable.is_none());
            let best = usable.min_by_key(|s| (rank(s.kind), s.index)).map(|s| s.index);
            best.ok_or_else(|| {
                let software = summaries.iter().filter(|s| s.kind == AdapterKind::Software).count();
                err!(
                    Device,
                    "no GPU was found ({software} software adapters, which are used only when named as wgpu:INDEX)"
                )
            })?
        }
    };
    let found = adapters.into_iter().zip(summaries).nth(chosen);
    let (adapter, summary) = found.ok_or_else(|| err!(Device, "the adapter wgpu:{chosen} is gone"))?;
    ensure!(summary.unusable.is_none(), Device, "{} cannot be used", summary.name);
    Ok((adapter, summary))
}
