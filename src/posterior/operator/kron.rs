//! Operators that act on channels, rows and columns apart: A = A_C (x) A_H (x) A_W.

use alloc::vec::Vec;

use super::axis::{Axis, Factor};
use super::{RANK_TOLERANCE, check_len, split};
use crate::error::{Result, ensure};
use crate::memory::filled;
use crate::tensor::Dims;

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
    /// Errors: those of [`Axis::new`].
    pub fn new(name: &'static str, [c, h, w]: [Factor<'_>; 3]) -> Result<Self> {
        let axes = [Axis::new(name, c)?, Axis::new(name, h)?, Axis::new(name, w)?];
        let lens = [axes[0].lens(), axes[1].lens(), axes[2].lens()];
        let shape = |i: usize| Dims::new(&[lens[0][i], lens[1][i], lens[2][i]]);
        let most = |axis: &[usize; 3]| axis.iter().copied().max().unwrap_or(1);
        let intermediate = Dims::new(&[most(&lens[0]), most(&lens[1]), most(&lens[2])])?.elements();
        let largest = |axis: usize| (0..lens[axis][2]).map(|i| axes[axis].value(i)).fold(0.0, f64::max);
        let largest = largest(0) * largest(1) * largest(2);
        let mut s = filled("an operator", shape(2)?.elements(), 0.0f32)?;
        let [_, rh, rw] = [lens[0][2], lens[1][2], lens[2][2]];
        for (i, v) in s.iter_mut().enumerate() {
            let product = axes[0].value(i / (rh * rw)) * axes[1].value(i / rw % rh) * axes[2].value(i % rw);
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

    /// One intermediate array between two axes that write what they make elsewhere, two that take turns between three;
    /// and what an axis needs.
    pub fn scratch_len(&self) -> usize {
        self.between().saturating_add(self.axes.iter().map(Axis::scratch_len).max().unwrap_or(0))
    }

    fn between(&self) -> usize {
        self.intermediate.saturating_mul(self.moves(Map::A).saturating_sub(1))
    }

    /// The axes that change something in a map: columns, rows, channels.
    fn active(&self, map: Map) -> impl Iterator<Item = usize> {
        (0..3).rev().filter(move |&i| self.axes[i].changes(map))
    }

    /// How often the values go from one array to another in a map: by the first axis, and by each that cannot do its
    /// work in place.
    fn moves(&self, map: Map) -> usize {
        let mut active = self.active(map);
        usize::from(active.next().is_some()) + active.filter(|&i| !self.axes[i].is_in_place()).count()
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
        let (between, scratch) = split(scratch, self.between())?;
        let (mut free, mut busy) = split(between, self.between().min(self.intermediate))?;
        // The last move writes to the output.
        let mut moves = self.moves(map);
        if moves == 0 {
            to.copy_from_slice(from);
            return Ok(());
        }
        let mut first = true;
        for i in self.active(map) {
            let outer: usize = shape[..i].iter().product();
            let inner: usize = shape[i + 1..].iter().product();
            let (before, after) = (shape[i], lens[i][target]);
            shape[i] = after;
            if !first && self.axes[i].is_in_place() {
                let values = if moves == 0 { &mut *to } else { &mut busy[..outer * after * inner] };
                self.axes[i].run_in_place(map, inner, values, scratch);
                continue;
            }
            moves -= 1;
            let read: &[f32] = if first { from } else { &busy[..outer * before * inner] };
            let write = if moves == 0 { &mut *to } else { &mut free[..outer * after * inner] };
            self.axes[i].run(map, inner, read, write, scratch);
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
