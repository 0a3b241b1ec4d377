//! Operations that make each float of a value out of floats at the same place.
// Calls the generic vector code, and reads and writes rows of the arena, in place where the plan says so.
#![allow(unsafe_code)]

use super::super::isa::Isa;
use super::super::memory::View;
use super::super::simd::{Simd, dispatch};
use super::activation::activate;
use super::{Run, Step};
use crate::error::{Result, ensure};
use crate::graph::{Activation, Binary};

/// What is done to a row.
#[derive(Clone, Copy, Debug)]
pub enum Map {
    /// Nothing but copying it.
    Copy,
    /// Zeros in its place.
    Zero,
    /// An activation.
    Activation(Activation),
    /// `x * scale + shift`.
    Affine { scale: f32, shift: f32 },
    /// `x op y`, y with rows of its own.
    Binary { op: Binary, y: View },
    /// `x op y`, y one row for each sample.
    Channel { op: Binary, y: View },
    /// `x op y`, y one float for each sample.
    Scalar { op: Binary, y: View },
    /// `x * a + b` with a and b one row for each sample, `[2 * C]`, then an activation.
    ApplyAffine { ab: View, activation: Option<Activation> },
}

/// `out = map(x)`. `out` may be `x` or the `y` of [`Map::Binary`]; else they do not overlap.
#[derive(Debug)]
pub struct Elementwise {
    pub name: &'static str,
    pub x: View,
    pub out: View,
    pub map: Map,
}

impl Step for Elementwise {
    fn name(&self) -> &'static str {
        self.name
    }

    fn run(&self, run: &Run<'_>) -> Result<()> {
        let Self { x, out, .. } = *self;
        let (positions, c) = (x.positions(), x.channels);
        let rows = positions * run.batch;
        let (y, y_rows, y_channels) = match self.map {
            Map::Binary { y, .. } => (Some(y), rows, c),
            Map::Channel { y, .. } => (Some(y), run.batch, c),
            Map::Scalar { y, .. } => (Some(y), run.batch, 1),
            Map::ApplyAffine { ab, .. } => (Some(ab), run.batch, 2 * c),
            _ => (None, 0, 0),
        };
        // SAFETY: the plan gives this step's arguments and result to this step alone. Only pointers are made of them,
        // as `out` may be an argument.
        let memory = |v: &View| unsafe { run.memory.write(v) };
        let (from, to, y_from) = (memory(&x), memory(&out), y.as_ref().map(memory));
        let y_stride = y.map_or(0, |y| y.stride);
        let fits = |len: usize, stride: usize, rows: usize, c: usize| rows == 0 || (rows - 1) * stride + c <= len;
        ensure!(
            fits(from.len(), x.stride, rows, c)
                && fits(to.len(), out.stride, rows, c)
                && y_from.is_none_or(|y| fits(y.len(), y_stride, y_rows, y_channels)),
            Shape,
            "the arena is too small for {rows} rows of {c} channels"
        );
        // Where rows have nothing between them and no row is mapped by its channels, a task's are one: of few channels
        // rows are many.
        let alike = !matches!(self.map, Map::Channel { .. } | Map::Scalar { .. } | Map::ApplyAffine { .. });
        let whole = alike && x.stride == c && out.stride == c && y.is_none_or(|y| y.stride == c);
        run.each_rows(rows, c, &|first, last| {
            let at_once = if whole { last - first } else { 1 };
            for r in (first..last).step_by(at_once.max(1)) {
                let y_row = if y_rows == rows { r } else { r / positions };
                // SAFETY: `at_once` rows from r on were found inside above, and those of the result are one task's.
                unsafe {
                    let y = y_from.map_or(core::ptr::null_mut(), |y| y.as_ptr().add(y_row * y_stride));
                    let (x, to) = (from.as_ptr().add(r * x.stride), to.as_ptr().add(r * out.stride));
                    self.row(run.isa, x, y, to, at_once * c);
                }
            }
            Ok(())
        })
    }
}

impl Elementwise {
    /// `n` floats: a row, or rows that follow each other.
    ///
    /// # Safety
    /// `x` and `out` are valid for `n` floats and equal or apart; `y` is valid for what the map reads of it.
    unsafe fn row(&self, isa: Isa, x: *const f32, y: *const f32, out: *mut f32, n: usize) {
        // SAFETY: the caller's contract, and the isa's for the vector code.
        unsafe {
            let activation = match self.map {
                Map::Copy => {
                    core::ptr::copy(x, out, n);
                    None
                }
                Map::Zero => {
                    core::ptr::write_bytes(out, 0, n);
                    None
                }
                Map::Activation(f) => {
                    core::ptr::copy(x, out, n);
                    Some(f)
                }
                Map::Affine { scale, shift } => {
                    affine_raw(isa, out, x, n, scale, shift);
                    None
                }
                Map::Binary { op, .. } | Map::Channel { op, .. } => {
                    binary_raw(isa, out, x, y, n, op);
                    None
                }
                Map::Scalar { op, .. } => {
                    scalar_raw(isa, out, x, *y, n, op);
                    None
                }
                Map::ApplyAffine { activation, .. } => {
                    channel_affine_raw(isa, out, x, y, y.add(n), n);
                    activation
                }
            };
            if let Some(f) = activation {
                activate(isa, f, core::slice::from_raw_parts_mut(out, n));
            }
        }
    }
}

/// A place in a row: `n` floats from `i` on, at most a vector.
#[derive(Clone, Copy)]
struct Place {
    i: usize,
    n: usize,
}

impl Place {
    #[inline(always)]
    unsafe fn load<S: Simd>(self, p: *const f32) -> S::V {
        // SAFETY: the caller's row holds the place.
        unsafe { S::load_most(p.add(self.i), self.n) }
    }
}

/// `out = f(place)` for each vector of a row of `n` floats.
#[inline(always)]
unsafe fn vectors<S: Simd>(n: usize, out: *mut f32, f: impl Fn(Place) -> S::V) {
    let mut i = 0;
    // SAFETY: i + LANES <= n, or the tail's length is given; the callers' pointers hold n floats.
    unsafe {
        while i + S::LANES <= n {
            S::store(out.add(i), f(Place { i, n: S::LANES }));
            i += S::LANES;
        }
        if i < n {
            S::store_n(out.add(i), n - i, f(Place { i, n: n - i }));
        }
    }
}

#[inline(always)]
unsafe fn combine<S: Simd>(op: Binary, a: S::V, b: S::V) -> S::V {
    // SAFETY: the caller's contract is that of S.
    unsafe {
        match op {
            Binary::Add => S::add(a, b),
            Binary::Mul => S::mul(a, b),
            Binary::Div => S::div(a, b),
        }
    }
}

#[inline(always)]
unsafe fn affine_body<S: Simd>(out: *mut f32, x: *const f32, n: usize, scale: f32, shift: f32) {
    // SAFETY: the caller's contract: n floats at out and x.
    unsafe { vectors::<S>(n, out, |at| S::mul_add(at.load::<S>(x), S::splat(scale), S::splat(shift))) }
}
dispatch! { unsafe fn affine_raw = affine_body(out: *mut f32, x: *const f32, n: usize, scale: f32, shift: f32) }

#[inline(always)]
unsafe fn binary_body<S: Simd>(out: *mut f32, x: *const f32, y: *const f32, n: usize, op: Binary) {
    // SAFETY: the caller's contract: n floats at out, x and y.
    unsafe { vectors::<S>(n, out, |at| combine::<S>(op, at.load::<S>(x), at.load::<S>(y))) }
}
dispatch! { unsafe fn binary_raw = binary_body(out: *mut f32, x: *const f32, y: *const f32, n: usize, op: Binary) }

#[inline(always)]
unsafe fn scalar_body<S: Simd>(out: *mut f32, x: *const f32, y: f32, n: usize, op: Binary) {
    // SAFETY: the caller's contract: n floats at out and x.
    unsafe { vectors::<S>(n, out, |at| combine::<S>(op, at.load::<S>(x), S::splat(y))) }
}
dispatch! { unsafe fn scalar_raw = scalar_body(out: *mut f32, x: *const f32, y: f32, n: usize, op: Binary) }

#[inline(always)]
unsafe fn channel_affine_body<S: Simd>(out: *mut f32, x: *const f32, a: *const f32, b: *const f32, n: usize) {
    // SAFETY: the caller's contract: n floats at out, x, a and b.
    unsafe { vectors::<S>(n, out, |at| S::mul_add(at.load::<S>(x), at.load::<S>(a), at.load::<S>(b))) }
}
dispatch! {
    unsafe fn channel_affine_raw = channel_affine_body(out: *mut f32, x: *const f32, a: *const f32, b: *const f32, n: usize)
}
