//! Layers of bf16: input and weights are rounded to it, products are added in f32.
//!
//! The input is rounded once for a whole call, in a stage of its own. Where the processor multiplies bf16, by tiles
//! ([`tiles`](super::tiles)) or by pairs ([`pairs`]), two neighbours of it share a float. Elsewhere rounded floats meet
//! weights that are kept as bf16: the same numbers but for the roundings of the sums, in the time that f32 takes.
#![allow(unsafe_code)] // Raw rows and shared memory, within bounds that `bind` and `on` check.

use alloc::vec::Vec;

use super::super::gemm::Segment;
#[cfg(target_arch = "x86_64")]
use super::super::gemm::pairs;
#[cfg(target_arch = "x86_64")]
use super::super::halves::narrow;
use super::super::heap::Heap;
use super::super::isa::{Halves, Isa, Path};
use super::super::simd::{Simd, dispatch};
use super::super::stored::{Stored, WeightType};
use super::direct::{self, Operand};
use super::{Algorithm, ConvShape, ConvTasks, Method, PackedConv, split};
use crate::error::Result;

/// Values that a task rounds.
const RUN: usize = 1 << 14;

/// How the work is cut: runs of pixels of the padded input, then as the direct method cuts it.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    pixels: usize,
    runs: usize,
    pub(super) direct: direct::Cut,
}

impl Cut {
    /// `direct` cuts the products.
    pub(super) fn new(conv: &PackedConv, batch: usize, direct: direct::Cut) -> Option<Self> {
        let [ph, pw] = conv.shape.padded()?;
        let pixels = batch.checked_mul(ph)?.checked_mul(pw)?;
        let runs = pixels.checked_mul(conv.shape.in_channels)?.div_ceil(RUN).min(pixels);
        Some(Self { pixels, runs, direct })
    }

    pub fn stages(&self) -> usize {
        if self.direct.tasks() > 0 { 2 } else { 0 }
    }

    pub fn tasks(&self, stage: usize) -> usize {
        match stage {
            0 => self.runs,
            1 => self.direct.tasks(),
            _ => 0,
        }
    }
}

/// The rounded input, multiplied as it is: as floats and as pairs.
pub(super) static METHODS: [Method; 2] = [method::<false>(), method::<true>()];

const fn method<const PAIRS: bool>() -> Method {
    Method {
        algorithm: Algorithm::Bf16,
        scratch_len: |_| 0,
        shared_len: |conv, batch| conv.input_len(batch).map(|n| if PAIRS { n / 2 } else { n }),
        cut: |conv, batch, _| {
            let out = batch.checked_mul(conv.out_size[0])?.checked_mul(conv.out_size[1])?;
            Cut::new(conv, batch, direct::Cut::new(conv, out)).map(super::Cut::Bf16)
        },
        run_task: |tasks, stage, i, _| match &tasks.call.cut {
            // SAFETY: the caller's contract.
            super::Cut::Bf16(cut) if stage == 0 => unsafe { round::<PAIRS>(tasks, cut, i) },
            // SAFETY: the caller's contract; the rounded input has all pixels of all channels.
            super::Cut::Bf16(cut) => unsafe {
                let channels = tasks.call.conv.shape.in_channels / if PAIRS { 2 } else { 1 };
                let data = [tasks.shared.part(0, cut.pixels * channels).as_ptr(), core::ptr::null()];
                let input = Operand { data, channels: [channels, 0], segments: &tasks.call.conv.segments };
                direct::run_task(tasks, &cut.direct, i, &input)
            },
            super::Cut::Direct(_) | super::Cut::Winograd(_) => tasks.call.conv.isa.path(),
        },
        halves: PAIRS,
        filter: None,
    }
}

/// How a layer's products are made: by tiles where those do the shape and the system lets this process have them.
pub(super) fn choose(isa: Isa, shape: &ConvShape) -> Halves {
    #[cfg(all(target_arch = "x86_64", feature = "std"))]
    if isa.halves() == Halves::Tiles {
        return if super::tiles::can(shape) && isa.permits_tiles() { Halves::Tiles } else { Halves::Floats };
    }
    let _ = shape;
    isa.halves()
}

pub(super) fn method_of(how: Halves) -> &'static Method {
    match how {
        #[cfg(all(target_arch = "x86_64", feature = "std"))]
        Halves::Tiles => &super::tiles::METHOD,
        Halves::Pairs => &METHODS[1],
        _ => &METHODS[0],
    }
}

impl PackedConv {
    /// [`in_heap`](Self::in_heap) for products of bf16, of an even number of input channels.
    ///
    /// # Errors
    /// As `in_heap`; `Unsupported` for an odd number.
    pub fn in_bf16(heap: &Heap, isa: Isa, shape: ConvShape, weights: &[f32], bias: Option<&[f32]>) -> Result<Self> {
        Self::pack(heap, isa, WeightType::Bf16, shape, Algorithm::Bf16, weights, bias)
    }
}

/// Packs `at(k, n)`, k rising over (tap, channel). Errors: as [`Stored::pack`].
pub(super) fn pack(
    heap: &Heap,
    isa: Isa,
    how: Halves,
    [k, n]: [usize; 2],
    at: impl Fn(usize, usize) -> f32,
) -> Result<Stored> {
    #[cfg(target_arch = "x86_64")]
    if how != Halves::Floats {
        // The upper half is of a finite number, so that the float is no NaN and moves as it is.
        let pair = |k: usize, o: usize| {
            let [low, high] = [at(2 * k, o), at(2 * k + 1, o)].map(|w| u32::from(narrow(w)));
            f32::from_bits(high << 16 | low)
        };
        let packed = Stored::pack(heap, isa, WeightType::F32, [k / 2, n], pair)?;
        return Ok(Stored { tiles: pairs::TILES, ..packed });
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = how; // Pairs and tiles are x86-64's.
    Stored::pack(heap, isa, WeightType::Bf16, [k, n], at)
}

/// The runs of a filter in the rounded input; of tiles, the steps of the sum.
pub(super) fn segments(how: Halves, of: Vec<Segment>) -> Result<Vec<Segment>> {
    let paired = |s: Segment| Segment { offset: s.offset / 2, len: s.len / 2, ..s };
    Ok(match how {
        Halves::Floats => of,
        Halves::Pairs => of.into_iter().map(paired).collect(),
        #[cfg(all(target_arch = "x86_64", feature = "std"))]
        Halves::Tiles => super::tiles::steps(of.into_iter().map(paired))?,
        #[cfg(not(all(target_arch = "x86_64", feature = "std")))]
        Halves::Tiles => of,
    })
}

/// Pixels of the input on their way to bf16, one after the other.
struct Line {
    inputs: [*const f32; 2],
    channels: [usize; 2],
    pixels: usize,
    /// bf16, or floats.
    out: *mut f32,
    pairs: bool,
}

#[inline(always)]
unsafe fn round_body<S: Simd>(l: &Line) {
    // SAFETY: the caller gives `pixels` pixels of each input, and room for as many of all channels.
    unsafe {
        let all = l.channels[0] + l.channels[1];
        for pixel in 0..l.pixels {
            let mut before = pixel * all;
            for (input, channels) in l.inputs.iter().zip(l.channels) {
                let mut c = 0;
                while c < channels {
                    let n = (channels - c).min(S::LANES);
                    let v = S::load_most(input.add(pixel * channels + c), n);
                    if l.pairs {
                        S::store_bf16(l.out.cast::<u16>().add(before + c), n, v);
                    } else {
                        let mut halves = [0u16; 16];
                        S::store_bf16(halves.as_mut_ptr(), n, v);
                        S::store_most(l.out.add(before + c), n, S::load_bf16(halves.as_ptr()));
                    }
                    c += n;
                }
                before += channels;
            }
        }
    }
}
dispatch! { unsafe fn round_raw = round_body(l: &Line) }

/// Rounds the pixels of task `i` of the first stage.
///
/// # Safety
/// There is such a task, and nobody else touches its part of the shared memory.
pub(super) unsafe fn round<const PAIRS: bool>(tasks: &ConvTasks<'_>, cut: &Cut, i: usize) -> Path {
    let call = &tasks.call;
    let conv = call.conv;
    let channels = conv.shape.in_channels / if PAIRS { 2 } else { 1 };
    let (from, to) = (split(cut.pixels, cut.runs, i), split(cut.pixels, cut.runs, i + 1));
    let second = call.args.second.map_or(core::ptr::null(), |(x, _)| x.as_ptr().wrapping_add(from * call.second));
    // SAFETY: these pixels are this task's.
    let out = unsafe { tasks.shared.part(from * channels, (to - from) * channels) };
    let line = Line {
        inputs: [call.args.input.as_ptr().wrapping_add(from * call.first), second],
        channels: [call.first, call.second],
        pixels: if out.is_empty() { 0 } else { to - from },
        out: out.as_mut_ptr(),
        pairs: PAIRS,
    };
    // SAFETY: `bind` found these pixels in both inputs.
    unsafe { round_raw(conv.isa, &line) };
    conv.isa.path()
}
