//! What crosses between the host and the device in a call: rows of channels there, planes here.

use alloc::vec::Vec;

use half::f16;

use super::{Layout, Prepared, WgpuNetwork};
use crate::backend::wgpu::compile::{Halves, Origin, scale};
use crate::cancel::Cancel;
use crate::error::{Result, err};
use crate::tensor::{DType, Dims};

/// The buffers of one call.
pub(super) struct Call<'a, 'o> {
    pub inputs: &'a [&'a [f32]],
    pub outputs: &'a mut [&'o mut [f32]],
    pub cancel: &'a Cancel,
}

impl<'a> Call<'a, '_> {
    /// The `n` values of sample `s` in input `i`.
    fn sample(&self, i: usize, s: usize, n: usize) -> Result<&'a [f32]> {
        let x = self.inputs.get(i).and_then(|x| x.get(s * n..(s + 1) * n));
        x.ok_or_else(|| err!(Shape, "input {i} is too short"))
    }
}

impl WgpuNetwork {
    /// Fills the mapped upload with what samples `first .. first + count` of a call have.
    pub(super) fn write_uploads(
        &self,
        state: &Prepared,
        layout: &Layout,
        call: &Call<'_, '_>,
        first: usize,
        count: usize,
    ) -> Result<()> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&(count as u32).to_le_bytes());
        bytes.resize(16, 0);
        write(&state.upload.buffer, 0, &bytes)?;
        for ((origin, view), &at) in self.program.uploads.iter().zip(&layout.uploads) {
            bytes.clear();
            for s in first..first + count {
                match origin {
                    Origin::Input(i) => {
                        let positions = view.positions();
                        let x = call.sample(*i, s, view.channels * positions)?;
                        let by = match &self.program.halves {
                            Halves::Backward(b) if b.cotangent == *i => scale(x),
                            _ => 1.0,
                        };
                        for p in 0..positions {
                            for v in x.iter().skip(p).step_by(positions) {
                                put(&mut bytes, *v * by, view.dtype);
                            }
                            for _ in view.channels..view.stride {
                                put(&mut bytes, 0.0, view.dtype);
                            }
                        }
                    }
                    Origin::Host(value) => {
                        let of = &value.of;
                        let x = call.sample(of.input, s, of.len)?.get(of.index).copied().unwrap_or(f32::NAN);
                        value.each(x, &mut |v| put(&mut bytes, v, view.dtype))?;
                        for _ in view.channels..view.stride {
                            put(&mut bytes, 0.0, view.dtype);
                        }
                    }
                }
            }
            write(&state.upload.buffer, at, &bytes)?;
        }
        Ok(())
    }

    /// Reads their outputs from the mapped download.
    pub(super) fn read_outputs(
        &self,
        state: &Prepared,
        layout: &Layout,
        call: &mut Call<'_, '_>,
        first: usize,
        count: usize,
    ) -> Result<()> {
        let outputs = self.program.outputs.iter().zip(&layout.downloads).enumerate();
        for (i, (view, &at)) in outputs {
            let (n, positions) = (view.channels * view.positions(), view.positions());
            let bytes = positions * view.stride * 4 * count;
            let mapped = state.download.buffer.slice(at as u64..(at + bytes) as u64).get_mapped_range();
            let mapped = mapped.map_err(|e| err!(Device, "the download: {e}"))?;
            let rows: &[f32] = bytemuck::try_cast_slice(&mapped).map_err(|e| err!(Device, "the download: {e}"))?;
            for (s, rows) in rows.chunks_exact(positions * view.stride).enumerate().map(|(s, r)| (first + s, r)) {
                let by = match &self.program.halves {
                    Halves::Backward(b) if b.outputs.get(i) == Some(&true) => {
                        let cotangent = self.inputs.get(b.cotangent).map_or(0, Dims::elements);
                        1.0 / scale(call.sample(b.cotangent, s, cotangent)?)
                    }
                    _ => 1.0,
                };
                let out = call.outputs.get_mut(i).and_then(|y| y.get_mut(s * n..(s + 1) * n));
                let out = out.ok_or_else(|| err!(Shape, "output {i} is too short"))?;
                for (p, row) in rows.chunks_exact(view.stride).enumerate() {
                    for (to, v) in out.iter_mut().skip(p).step_by(positions).zip(row) {
                        *to = *v * by;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Appends a number as it is kept.
pub(super) fn put(bytes: &mut Vec<u8>, v: f32, dtype: DType) {
    match dtype {
        DType::F16 => bytes.extend_from_slice(&f16::from_f32(v).to_le_bytes()),
        _ => bytes.extend_from_slice(&v.to_le_bytes()),
    }
}

/// Writes to a mapped buffer.
pub(super) fn write(buffer: &wgpu::Buffer, at: usize, bytes: &[u8]) -> Result<()> {
    let end = (at + bytes.len()) as u64;
    let mapped = buffer.slice(at as u64..end).get_mapped_range_mut();
    mapped.map_err(|e| err!(Device, "the upload: {e}"))?.copy_from_slice(bytes);
    Ok(())
}
