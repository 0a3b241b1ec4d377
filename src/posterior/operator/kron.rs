//! Operators that act on channels, rows and columns apart: A = A_C (x) A_H (x) A_W with small dense factors.

use alloc::vec::Vec;

use super::jacobi::{Matrix, decompose};
use super::{RANK_TOLERANCE, check_len, split};
use crate::error::{Result, ensure};
use crate::memory::filled;
use crate::tensor::Dims;

/// The longest shorter side of a factor: its decomposition takes O(n^3), about half a second at 256 and half a minute
/// at 1024.
pub(super) const MAX_SIDE: usize = 1024;

/// A small matrix of f32, row by row.
#[derive(Clone, Debug)]
struct Small {
    rows: usize,
    cols: usize,
    data: Vec<f32>,
}

impl Small {
    fn new(m: &Matrix) -> Self {
        Self { rows: m.rows, cols: m.cols, data: m.data.iter().map(|&v| v as f32).collect() }
    }
}

/// What one axis does.
#[derive(Clone, Debug)]
enum Axis {
    /// Nothing, to this many elements.
    Same(usize),
    Dense {
        a: Small,
        ut: Small,
        vt: Small,
        s: Vec<f64>,
    },
}

/// A factor before its decomposition.
pub(super) enum Factor {
    Same(usize),
    Dense(Matrix),
}

/// Which of the six maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Map {
    A,
    At,
    V,
    Vt,
    U,
    Ut,
}

impl Map {
    fn name(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::At => "A^T",
            Self::V => "V",
            Self::Vt => "V^T",
            Self::U => "U",
            Self::Ut => "U^T",
        }
    }
}

impl Axis {
    fn new(factor: Factor) -> Result<Self> {
        match factor {
            Factor::Same(n) => Ok(Self::Same(n)),
            Factor::Dense(m) => {
                let d = decompose(&m)?;
                Ok(Self::Dense { a: Small::new(&m), ut: Small::new(&d.ut), vt: Small::new(&d.vt), s: d.s })
            }
        }
    }

    /// The matrix of a map and whether it is to be transposed; `None` for no change.
    fn matrix(&self, map: Map) -> Option<(&Small, bool)> {
        let Self::Dense { a, ut, vt, .. } = self else { return None };
        Some(match map {
            Map::A => (a, false),
            Map::At => (a, true),
            Map::V => (vt, true),
            Map::Vt => (vt, false),
            Map::U => (ut, true),
            Map::Ut => (ut, false),
        })
    }

    /// (input, output, decomposition) lengths.
    fn lens(&self) -> [usize; 3] {
        match self {
            Self::Same(n) => [*n; 3],
            Self::Dense { a, s, .. } => [a.cols, a.rows, s.len()],
        }
    }
}

/// A Kronecker product of three factors with its decomposition.
#[derive(Clone, Debug)]
pub(super) struct Kron {
    name: &'static str,
    axes: [Axis; 3],
    input: Dims,
    output: Dims,
    s: Vec<f32>,
    intermediate: usize,
}

impl Kron {
    /// From the factors for channels, rows and columns.
    ///
    /// Errors: kind `InvalidArgument` if a factor's shorter side is above [`MAX_SIDE`] or a factor is zero.
    pub fn new(name: &'static str, factors: [Factor; 3]) -> Result<Self> {
        for f in &factors {
            if let Factor::Dense(m) = f {
                let n = m.rows.min(m.cols);
                ensure!(
                    n <= MAX_SIDE,
                    InvalidArgument,
                    "{name}: a matrix of {} x {}, expected at most {MAX_SIDE} for the shorter side",
                    m.rows,
                    m.cols
                );
            }
        }
        let [c, h, w] = factors;
        let axes = [Axis::new(c)?, Axis::new(h)?, Axis::new(w)?];
        let lens = [axes[0].lens(), axes[1].lens(), axes[2].lens()];
        let shape = |i: usize| Dims::new(&[lens[0][i], lens[1][i], lens[2][i]]);
        let most = |axis: &[usize; 3]| axis.iter().copied().max().unwrap_or(1);
        let intermediate = Dims::new(&[most(&lens[0]), most(&lens[1]), most(&lens[2])])?.elements();
        let values = |axis: &Axis, i: usize| match axis {
            Axis::Same(_) => 1.0,
            Axis::Dense { s, .. } => s.get(i).copied().unwrap_or(0.0),
        };
        // The values of a factor decrease, so the first of all is the largest.
        let largest = values(&axes[0], 0) * values(&axes[1], 0) * values(&axes[2], 0);
        let mut s = filled("an operator", shape(2)?.elements(), 0.0f32)?;
        let [_, rh, rw] = [lens[0][2], lens[1][2], lens[2][2]];
        for (i, v) in s.iter_mut().enumerate() {
            let product = values(&axes[0], i / (rh * rw)) * values(&axes[1], i / rw % rh) * values(&axes[2], i % rw);
            *v = if product > RANK_TOLERANCE * largest { product as f32 } else { 0.0 };
        }
        Ok(Self { name, input: shape(0)?, output: shape(1)?, axes, s, intermediate })
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    pub fn input(&self) -> Dims {
        self.input
    }

    pub fn output(&self) -> Dims {
        self.output
    }

    pub fn singular_values(&self) -> &[f32] {
        &self.s
    }

    /// One intermediate array between two axes that do something, two that take turns between three.
    pub fn scratch_len(&self) -> usize {
        let active = self.axes.iter().filter(|a| matches!(a, Axis::Dense { .. })).count();
        self.intermediate.saturating_mul(active.saturating_sub(1))
    }

    /// `to` = map of `from`.
    pub fn map(&self, map: Map, from: &[f32], to: &mut [f32], scratch: &mut [f32]) -> Result<()> {
        let (source, target) = match map {
            Map::A => (0, 1),
            Map::At => (1, 0),
            Map::V => (2, 0),
            Map::Vt => (0, 2),
            Map::U => (2, 1),
            Map::Ut => (1, 2),
        };
        let lens = [self.axes[0].lens(), self.axes[1].lens(), self.axes[2].lens()];
        let mut shape = [lens[0][source], lens[1][source], lens[2][source]];
        check_len(self.name, map.name(), "an input", from.len(), shape.iter().product())?;
        check_len(self.name, map.name(), "an output", to.len(), lens.iter().map(|l| l[target]).product())?;
        let needed = self.scratch_len();
        ensure!(
            scratch.len() >= needed,
            Shape,
            "{}: {} was given {} values of scratch, expected at least {needed}",
            self.name,
            map.name(),
            scratch.len()
        );
        let (mut free, mut busy) = split(scratch, needed.min(self.intermediate))?;
        // Columns, rows, channels; those that change something. The last one writes to the output.
        let active = |i: usize| self.axes[i].matrix(map);
        let mut todo = (0..3).rev().filter(|&i| active(i).is_some()).peekable();
        if todo.peek().is_none() {
            to.copy_from_slice(from);
            return Ok(());
        }
        let mut first = true;
        while let Some(i) = todo.next() {
            let Some((matrix, transposed)) = active(i) else { continue };
            let outer: usize = shape[..i].iter().product();
            let inner: usize = shape[i + 1..].iter().product();
            let (before, after) = (shape[i], lens[i][target]);
            let read: &[f32] = if first { from } else { &busy[..outer * before * inner] };
            let write: &mut [f32] = match todo.peek() {
                None => to,
                Some(_) => &mut free[..outer * after * inner],
            };
            contract(matrix, transposed, before, after, inner, read, write);
            shape[i] = after;
            core::mem::swap(&mut free, &mut busy);
            first = false;
        }
        Ok(())
    }
}

/// The sum of products in eight lanes, which keeps its error low and lets it run in vector registers.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a8.remainder().iter().zip(b8.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a8.zip(b8) {
        for (lane, (x, y)) in lanes.iter_mut().zip(x.iter().zip(y)) {
            *lane += x * y;
        }
    }
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + b) + (c + d)) + ((e + f) + (g + h)) + rest
}

/// to += c from.
pub(super) fn axpy(c: f32, from: &[f32], to: &mut [f32]) {
    to.iter_mut().zip(from).for_each(|(t, f)| *t += c * f);
}

/// `read` `[outer, before, inner]` to `write` `[outer, after, inner]` by the matrix along the middle axis.
fn contract(m: &Small, transposed: bool, before: usize, after: usize, inner: usize, read: &[f32], write: &mut [f32]) {
    if before == 0 || after == 0 || inner == 0 {
        return;
    }
    for (from, to) in read.chunks_exact(before * inner).zip(write.chunks_exact_mut(after * inner)) {
        if inner == 1 && !transposed {
            to.iter_mut().zip(m.data.chunks_exact(m.cols)).for_each(|(t, row)| *t = dot(row, from));
            continue;
        }
        to.fill(0.0);
        if inner == 1 {
            from.iter().zip(m.data.chunks_exact(m.cols)).for_each(|(&f, row)| axpy(f, row, to));
            continue;
        }
        for (i, to) in to.chunks_exact_mut(inner).enumerate() {
            for (j, from) in from.chunks_exact(inner).enumerate() {
                let at = if transposed { j * m.cols + i } else { i * m.cols + j };
                match m.data.get(at) {
                    Some(&c) if c != 0.0 => axpy(c, from, to),
                    _ => {}
                }
            }
        }
    }
}

/// Both traits for a type that holds a [`Kron`] in its field `kron`.
macro_rules! is_kron {
    ($($of:ty),*) => {$(
        impl crate::posterior::operator::LinearOperator for $of {
            fn name(&self) -> &'static str {
                self.kron.name()
            }
            fn input_dims(&self) -> crate::tensor::Dims {
                self.kron.input()
            }
            fn output_dims(&self) -> crate::tensor::Dims {
                self.kron.output()
            }
            fn scratch_len(&self) -> usize {
                self.kron.scratch_len()
            }
            fn apply(&self, x: &[f32], y: &mut [f32], scratch: &mut [f32]) -> crate::Result<()> {
                self.kron.map(crate::posterior::operator::kron::Map::A, x, y, scratch)
            }
            fn adjoint(&self, y: &[f32], x: &mut [f32], scratch: &mut [f32]) -> crate::Result<()> {
                self.kron.map(crate::posterior::operator::kron::Map::At, y, x, scratch)
            }
            fn svd(&self) -> Option<&dyn crate::posterior::operator::Svd> {
                Some(self)
            }
        }
        impl crate::posterior::operator::Svd for $of {
            fn singular_values(&self) -> &[f32] {
                self.kron.singular_values()
            }
            fn vt(&self, x: &[f32], z: &mut [f32], scratch: &mut [f32]) -> crate::Result<()> {
                self.kron.map(crate::posterior::operator::kron::Map::Vt, x, z, scratch)
            }
            fn v(&self, z: &[f32], x: &mut [f32], scratch: &mut [f32]) -> crate::Result<()> {
                self.kron.map(crate::posterior::operator::kron::Map::V, z, x, scratch)
            }
            fn ut(&self, y: &[f32], w: &mut [f32], scratch: &mut [f32]) -> crate::Result<()> {
                self.kron.map(crate::posterior::operator::kron::Map::Ut, y, w, scratch)
            }
            fn u(&self, w: &[f32], y: &mut [f32], scratch: &mut [f32]) -> crate::Result<()> {
                self.kron.map(crate::posterior::operator::kron::Map::U, w, y, scratch)
            }
        }
    )*};
}
pub(super) use is_kron;
