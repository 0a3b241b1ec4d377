//! Weights as they lie in memory: f32, or narrower and decoded in registers.
//!
//! A network that works on few rows, as those of robot policies and of latents do at batch 1, takes the time that its
//! weights take to come from memory. Half the bytes are then half the time. Sums are of f32 whatever the weights are,
//! and activations stay f32.
#![allow(unsafe_code)] // One buffer is seen as numbers of several sizes.

use core::fmt;
use core::str::FromStr;

use half::{bf16, f16};

use super::aligned::{AlignedBuf, Floats};
use super::gemm::pack::{Source, for_each_panel, pack, pack_with, packed_len};
use super::gemm::{Tiles, kernels, tiles};
use super::heap::Heap;
use super::isa::Isa;
use crate::error::{Error, Result, ensure, err};
use crate::int4;

/// How the cpu backend keeps the weights of convolutions and linear layers. Biases, norms and embeddings are f32
/// always.
///
/// | type | bytes | a weight w becomes |
/// |---|---|---|
/// | [`F32`](Self::F32) | 4 | w |
/// | [`F16`](Self::F16) | 2 | the nearest f16: w itself where the file has f16; one beyond 65,504 is refused |
/// | [`Bf16`](Self::Bf16) | 2 | the nearest bf16: w itself where the file has bf16 |
/// | [`Int8`](Self::Int8) | 1 | s round(w / s), where s is the largest abs w of an output channel / 127 |
/// | [`Int4`](Self::Int4) | 9/16 | s q, q an integer from -8 to 7; s is a bf16 of either sign, one for each group |
///
/// A group of 4-bit weights is 32 neighbours of an output channel in the order (ky, kx, input channel); its s is found
/// by a search for a small sum of squared errors. Weights that were rounded so before stay what they are.
///
/// With 8 and 4 bits, layers of fewer than 16 output channels, or of fewer than 64 weights for each, stay f32. A
/// network's gradients take the same weights. The bits of a sample do not depend on batch or threads, as with f32.
/// What 4 bits cost the embedded digits is in `pretrained/README.md`.
///
/// ```
/// use undiffuse::backend::cpu::WeightType;
///
/// assert_eq!("int8".parse::<WeightType>()?, WeightType::Int8);
/// assert_eq!(WeightType::Bf16.to_string(), "bf16");
/// # Ok::<(), undiffuse::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WeightType {
    /// Single precision.
    #[default]
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of single precision.
    Bf16,
    /// Integers with a factor for each output channel.
    Int8,
    /// Integers of 4 bits with a scale for each 32 of them.
    Int4,
}

impl WeightType {
    /// Every type.
    pub const ALL: [Self; 5] = [Self::F32, Self::F16, Self::Bf16, Self::Int8, Self::Int4];

    /// The name, as it is parsed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
            Self::Int4 => "int4",
        }
    }

    /// Bytes of `k` weights of a channel with their scales; `None` if that overflows.
    const fn bytes(self, k: usize) -> Option<usize> {
        match self {
            Self::F32 => k.checked_mul(4),
            Self::F16 | Self::Bf16 => k.checked_mul(2),
            Self::Int8 => Some(k),
            Self::Int4 => int4::groups(k).checked_mul(GROUP_BYTES),
        }
    }

    /// What a layer of `outs` output channels with `fan_in` weights each gets. The first and the last layer of a
    /// network, which have few of either, are where 8 bits lose most and save least: of the embedded digits, the last
    /// layer has 288 of 1.1 million weights and made two thirds of the error at high noise.
    pub(super) fn of_layer(self, outs: usize, fan_in: usize) -> Self {
        let pays = int4::pays(outs, fan_in);
        if matches!(self, Self::Int8 | Self::Int4) && !pays { Self::F32 } else { self }
    }

    /// The type for the adjoint of a layer of this type, whose factors would be by rows.
    pub(super) fn of_adjoint(self) -> Self {
        if matches!(self, Self::Int8 | Self::Int4) { Self::F32 } else { self }
    }

    /// Replaces `weights` (`[out][in][tap]`) of layers of `outs` channels by what they become.
    pub(super) fn round(self, weights: &mut [f32], outs: usize, [ins, taps]: [usize; 2]) {
        let fan_in = ins.saturating_mul(taps);
        match self.of_layer(outs, fan_in) {
            Self::F32 => {}
            Self::F16 => weights.iter_mut().for_each(|w| *w = f16::from_f32(*w).to_f32()),
            Self::Bf16 => weights.iter_mut().for_each(|w| *w = bf16::from_f32(*w).to_f32()),
            Self::Int8 => {
                for row in weights.chunks_mut(fan_in.max(1)) {
                    let scale = factor(row.iter().copied());
                    row.iter_mut().for_each(|w| *w = f32::from(quantised(*w, scale)) * scale);
                }
            }
            Self::Int4 => weights.chunks_mut(fan_in.max(1)).for_each(|row| int4::round(row, ins)),
        }
    }
}

impl fmt::Display for WeightType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for WeightType {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|t| t.name() == text);
        found.ok_or_else(|| err!(InvalidArgument, "weights are {text:?}, expected f32, f16, bf16, int8 or int4"))
    }
}

/// The factor of a channel's integers.
fn factor(weights: impl Iterator<Item = f32>) -> f32 {
    weights.fold(0f32, |m, w| m.max(w.abs())) / 127.0
}

fn quantised(w: f32, scale: f32) -> i8 {
    // The factor may be 0 or round to 0; the cast takes NaN to 0 and what is too large to the end of the range.
    libm::roundf(w / scale).clamp(-127.0, 127.0) as i8
}

/// Bytes of a group of 4-bit weights with their scale.
const GROUP_BYTES: usize = 2 + int4::GROUP / 2;

/// Matrix B packed into panels, its entries of one type. Of 4 bits, a panel is, for each group of rows, a row of scales
/// and then the group's rows; the last group has all of its rows, which nothing reads.
#[derive(Debug)]
pub struct Stored {
    pub kind: WeightType,
    /// Bytes that a column takes in its panel.
    pub column: usize,
    pub buffer: Floats,
    /// A factor for each column, rounded up to whole panels; empty without factors.
    pub factors: Floats,
    /// The kernels that read them.
    pub tiles: Tiles,
}

impl Stored {
    /// Packs `at(k, n)` for `k` rows and `n` columns.
    ///
    /// # Errors
    /// `Shape` if the size overflows; `Unsupported` for an entry beyond the type's range; `OutOfMemory`.
    pub fn pack(
        heap: &Heap,
        isa: Isa,
        kind: WeightType,
        [k, n]: [usize; 2],
        at: impl Fn(usize, usize) -> f32,
    ) -> Result<Self> {
        let too_large = || err!(Shape, "a matrix of {k} x {n} is too large");
        let column = kind.bytes(k).ok_or_else(too_large)?;
        let len = packed_len(isa, k, n).ok_or_else(too_large)?;
        let bytes = packed_len(isa, column, n).ok_or_else(too_large)?;
        let mut buffer = heap.zeroed(bytes.div_ceil(4))?;
        let mut factors = heap.zeroed(0)?;
        match kind {
            WeightType::F32 => pack_with(isa, k, n, &mut buffer, at)?,
            WeightType::F16 => {
                let largest =
                    (0..n).flat_map(|n| (0..k).map(move |k| (k, n))).fold(0f32, |m, (k, n)| m.max(at(k, n).abs()));
                let fits = largest <= f16::MAX.to_f32();
                ensure!(fits, Unsupported, "a weight of size {largest} does not fit in f16: give bf16 or f32 weights");
                pack_with(isa, k, n, halves(&mut buffer, len), |k, n| f16::from_f32(at(k, n)).to_bits())?;
            }
            WeightType::Bf16 => {
                pack_with(isa, k, n, halves(&mut buffer, len), |k, n| bf16::from_f32(at(k, n)).to_bits())?;
            }
            WeightType::Int8 => {
                factors = heap.zeroed(n.next_multiple_of(kernels(isa).nr()))?;
                for (n, s) in factors.iter_mut().enumerate().take(n) {
                    *s = factor((0..k).map(|k| at(k, n)));
                }
                let scale = |n: usize| factors.get(n).copied().unwrap_or(0.0);
                pack_with(isa, k, n, integers(&mut buffer, len), |k, n| quantised(at(k, n), scale(n)))?;
            }
            WeightType::Int4 => pack_groups(isa, [k, n], integers(&mut buffer, bytes), at)?,
        }
        Ok(Self { kind, column, buffer: buffer.into(), factors: factors.into(), tiles: tiles(isa, kind) })
    }

    /// As [`pack`](Self::pack), f32 of which `rows` has the columns one after the other.
    ///
    /// # Errors
    /// As `pack`; `Shape` if `rows` has other than k n floats.
    pub fn pack_rows(heap: &Heap, isa: Isa, [k, n]: [usize; 2], rows: &[f32]) -> Result<Self> {
        let len = packed_len(isa, k, n).ok_or_else(|| err!(Shape, "a matrix of {k} x {n} is too large"))?;
        let mut buffer = heap.zeroed(len)?;
        pack(isa, k, n, Source::Columns { data: rows, stride: k }, &mut buffer)?;
        let (kind, factors) = (WeightType::F32, heap.zeroed(0)?.into());
        Ok(Self { kind, column: k * size_of::<f32>(), buffer: buffer.into(), factors, tiles: tiles(isa, kind) })
    }

    /// The type of its entries.
    pub fn kind(&self) -> WeightType {
        self.kind
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        (self.buffer.len() + self.factors.len()) * size_of::<f32>()
    }

    /// Where the panel that begins with this column lies, inside the buffer or at its end.
    pub fn panel(&self, column: usize) -> *const u8 {
        let end = self.buffer.len() * size_of::<f32>();
        self.buffer.as_ptr().cast::<u8>().wrapping_add(column.saturating_mul(self.column).min(end))
    }

    /// Where column `n`'s factor lies; null without factors.
    pub fn factor(&self, n: usize) -> *const f32 {
        self.factors.get(n..).filter(|f| !f.is_empty()).map_or(core::ptr::null(), <[f32]>::as_ptr)
    }

    /// The memory of columns `first..last` of whole panels, cut off at the end, as floats of no meaning.
    pub fn memory(&self, first: usize, last: usize) -> &[f32] {
        let float = |n: usize| (n.saturating_mul(self.column) / 4).min(self.buffer.len());
        self.buffer.get(float(first)..float(last)).unwrap_or(&[])
    }
}

/// Packs `at(k, n)` as groups of 4-bit weights into zeros.
fn pack_groups(isa: Isa, [k, n]: [usize; 2], to: &mut [i8], at: impl Fn(usize, usize) -> f32) -> Result<()> {
    for_each_panel(isa, int4::groups(k) * GROUP_BYTES, n, to, |panel, width, j, have| {
        for (g, block) in panel.chunks_exact_mut(GROUP_BYTES * width).enumerate() {
            let first = g * int4::GROUP;
            let (scales, rows) = block.split_at_mut(2 * width);
            for (c, scale) in scales.as_chunks_mut::<2>().0.iter_mut().enumerate().take(have) {
                let group = int4::Group::of(k - first, |i| at(first + i, j + c));
                *scale = group.scale.to_ne_bytes().map(u8::cast_signed);
                for (row, q) in rows.chunks_exact_mut(width / 2).zip(group.integers) {
                    let [low, high] = int4::unpair(row[c / 2].cast_unsigned());
                    let both = if c % 2 == 0 { int4::pair(q, high) } else { int4::pair(low, q) };
                    row[c / 2] = both.cast_signed();
                }
            }
        }
    })
}

/// The first `len` halves of a buffer that is long enough.
fn halves(buffer: &mut AlignedBuf, len: usize) -> &mut [u16] {
    debug_assert!(len <= 2 * buffer.len());
    // SAFETY: a buffer of f32 is aligned for halves, holds two for each float, and any bits are a number.
    unsafe { core::slice::from_raw_parts_mut(buffer.as_mut_ptr().cast(), len.min(2 * buffer.len())) }
}

/// The first `len` bytes of a buffer that is long enough.
fn integers(buffer: &mut AlignedBuf, len: usize) -> &mut [i8] {
    debug_assert!(len <= 4 * buffer.len());
    // SAFETY: as in `halves`, with four for each float.
    unsafe { core::slice::from_raw_parts_mut(buffer.as_mut_ptr().cast(), len.min(4 * buffer.len())) }
}
