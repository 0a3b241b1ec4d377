//! Saving a chain to bytes and taking it up again.
//!
//! All numbers are little-endian: the magic `UNDIFFCH`, version (u32), 0 (u32), then as u64 the fingerprint of
//! denoiser, sampler, noise, evidence and dims, the next step, the step it started from, the first sample, the number
//! of samples, the values of one sample and of its state; x, x_0 and the state of each sample as f32; last the FNV-1a
//! 64 of all before.

use alloc::vec::Vec;

use super::{Chain, all_finite};
use crate::denoiser::Denoiser;
use crate::error::{Result, ensure, err};
use crate::memory::zeros;
use crate::noise::{Fingerprint, NoiseSource};
use crate::posterior::Evidence;
use crate::sampler::Sampler;

const MAGIC: &[u8; 8] = b"UNDIFFCH";
/// 1 knew a model by another sum over its weights.
const VERSION: u32 = 2;
const HEADER: usize = 8 + 4 + 4 + 7 * 8;
const CHECKSUM: usize = 8;

impl<D: Denoiser, S: Sampler, N: NoiseSource, E: Evidence> Chain<'_, D, S, N, E> {
    /// The bytes that [`Chain::save_into`] writes for the samples of this run.
    pub fn saved_len(&self) -> usize {
        // Two samples and a state per sample are below the arena's checked size.
        HEADER + CHECKSUM + 4 * self.count * (2 * self.layout.sample + self.layout.state)
    }

    /// Saves the position, x, x_0 and the sampler's state. Restored, the run ends in the same bits as one that was
    /// never interrupted.
    ///
    /// Errors: kind `OutOfMemory`.
    pub fn save(&self) -> Result<Vec<u8>> {
        let mut bytes = zeros("a saved chain", self.saved_len())?;
        self.save_into(&mut bytes)?;
        Ok(bytes)
    }

    /// As [`Chain::save`], into a buffer of exactly [`Chain::saved_len`] bytes; kind `Shape` for another length.
    pub fn save_into(&self, bytes: &mut [u8]) -> Result<()> {
        let expected = self.saved_len();
        ensure!(
            bytes.len() == expected,
            Shape,
            "the buffer for a saved chain has {} bytes, expected {expected}",
            bytes.len()
        );
        let arena = self.arena.get();
        let state = self.layout.state(arena, self.count);
        let header = [
            self.fingerprint(),
            self.step as u64,
            self.start as u64,
            self.first_sample,
            self.count as u64,
            self.layout.sample as u64,
            self.layout.state as u64,
        ];
        let mut rest = &mut *bytes;
        put(&mut rest, MAGIC);
        put(&mut rest, &VERSION.to_le_bytes());
        put(&mut rest, &[0; 4]);
        header.iter().for_each(|v| put(&mut rest, &v.to_le_bytes()));
        for values in [self.x(), self.x0(), state] {
            values.iter().for_each(|v| put(&mut rest, &v.to_le_bytes()));
        }
        let body = expected - CHECKSUM;
        let sum = Fingerprint::new().bytes(bytes.get(..body).unwrap_or(&[])).finish();
        if let Some(tail) = bytes.get_mut(body..) {
            tail.copy_from_slice(&sum.to_le_bytes());
        }
        Ok(())
    }

    /// Takes up what [`Chain::save`] gave, in a chain made with the same denoiser, sampler settings and noise and room
    /// for as many samples.
    ///
    /// Errors (kind `InvalidArgument`): the bytes are no saved chain, are cut or damaged, are of another version, or
    /// were saved with other settings. The chain is then where it was.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<()> {
        let mut rest = bytes;
        let magic: [u8; 8] = get(&mut rest)?;
        ensure!(magic == *MAGIC, InvalidArgument, "these bytes are no saved chain");
        let version = u32::from_le_bytes(get(&mut rest)?);
        ensure!(
            version == VERSION,
            InvalidArgument,
            "the saved chain has version {version}, this library reads version {VERSION}"
        );
        let _reserved: [u8; 4] = get(&mut rest)?;
        let mut number = || get(&mut rest).map(u64::from_le_bytes);
        let (fingerprint, step, start) = (number()?, number()?, number()?);
        let (first_sample, count) = (number()?, number()?);
        let (sample, state) = (number()?, number()?);
        // The sum comes first, so that a damaged byte is called that and nothing else.
        let body = bytes.len().saturating_sub(CHECKSUM);
        let sum = Fingerprint::new().bytes(bytes.get(..body).unwrap_or(&[])).finish();
        ensure!(
            bytes.get(body..) == Some(&sum.to_le_bytes()),
            InvalidArgument,
            "the saved chain is cut or damaged: its checksum does not fit its {} bytes",
            bytes.len()
        );
        ensure!(
            fingerprint == self.fingerprint()
                && sample == self.layout.sample as u64
                && state == self.layout.state as u64,
            InvalidArgument,
            "the saved chain was made with another denoiser, sampler setting, seed, evidence or sample shape"
        );
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        self.check_samples(first_sample, count).map_err(|e| e.context("the saved chain"))?;
        let to_usize = |v: u64| usize::try_from(v).unwrap_or(usize::MAX);
        let (step, start) = (to_usize(step), to_usize(start));
        let steps = self.steps();
        ensure!(
            start <= step && step <= steps,
            InvalidArgument,
            "the saved chain stands at step {step} from {start} of {steps}"
        );
        let (n, s) = (self.layout.sample, self.layout.state);
        let values = count * (2 * n + s);
        let payload = rest.get(..rest.len().saturating_sub(CHECKSUM)).unwrap_or(&[]);
        ensure!(
            payload.len() == 4 * values,
            InvalidArgument,
            "the saved chain holds {} bytes of values, expected {}",
            payload.len(),
            4 * values
        );
        // Into the buffers that a step overwrites anyway; x, x_0 and the state only once all is known to be good.
        let b = self.layout.split(self.arena.values(), count)?;
        let mut read = payload.chunks_exact(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]]));
        for to in [&mut *b.spare, &mut *b.x0_next, &mut *b.next_state] {
            to.iter_mut().zip(&mut read).for_each(|(to, v)| *to = v);
            ensure!(all_finite(to), InvalidArgument, "the saved chain holds NaN or infinity");
        }
        b.x.copy_from_slice(b.spare);
        b.x0.copy_from_slice(b.x0_next);
        b.state.copy_from_slice(b.next_state);
        (self.first_sample, self.count, self.step, self.start) = (first_sample, count, step, start);
        Ok(())
    }
}

/// Writes `bytes` and moves on. The buffer's length was checked.
fn put(rest: &mut &mut [u8], bytes: &[u8]) {
    if let Some((head, tail)) = core::mem::take(rest).split_at_mut_checked(bytes.len()) {
        head.copy_from_slice(bytes);
        *rest = tail;
    }
}

fn get<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N]> {
    let (head, tail) = rest
        .split_first_chunk()
        .ok_or_else(|| err!(InvalidArgument, "the saved chain is cut: its header is incomplete"))?;
    *rest = tail;
    Ok(*head)
}
