//! What an operator that acts on channels, rows and columns apart does along one of them, with its decomposition.

use alloc::vec::Vec;

use super::cosine::Cosine;
use super::jacobi::{Matrix, decompose};
use super::kron::{Map, axpy, dot};
use crate::error::{Result, ensure};

/// The longest shorter side of a matrix: its decomposition takes O(n^3), about half a second at 256 and half a minute
/// at 1024.
const MAX_SIDE: usize = 1024;

/// A small matrix of f32, row by row.
#[derive(Clone, Debug)]
pub(super) struct Small {
    rows: usize,
    cols: usize,
    data: Vec<f32>,
}

impl Small {
    fn new(m: &Matrix) -> Self {
        Self { rows: m.rows, cols: m.cols, data: m.data.iter().map(|&v| v as f32).collect() }
    }
}

/// What is done along an axis, before its decomposition.
pub(super) enum Factor<'a> {
    /// Nothing, to this many elements.
    Same(usize),
    Dense(Matrix),
    /// Of so many elements the means of blocks of so many.
    Means(usize, usize),
    /// A blur with taps that [suit](Cosine::suits), of so many elements.
    Blur(&'a [f32], usize),
}

#[derive(Clone, Debug)]
pub(super) enum Axis {
    Same(usize),
    Dense {
        a: Small,
        ut: Small,
        vt: Small,
        s: Vec<f64>,
    },
    /// Of blocks: V has 1 / sqrt(block) in a block's rows, U is the identity.
    Means {
        blocks: usize,
        block: usize,
    },
    Cosine(Cosine),
}

impl Axis {
    /// Errors: kind `InvalidArgument` for a matrix whose shorter side is above [`MAX_SIDE`], and for what is zero.
    pub fn new(name: &str, factor: Factor<'_>) -> Result<Self> {
        Ok(match factor {
            Factor::Same(n) => Self::Same(n),
            Factor::Dense(m) => {
                ensure!(
                    m.rows.min(m.cols) <= MAX_SIDE,
                    InvalidArgument,
                    "{name}: a matrix of {} x {}, expected at most {MAX_SIDE} for the shorter side",
                    m.rows,
                    m.cols
                );
                let d = decompose(&m)?;
                Self::Dense { a: Small::new(&m), ut: Small::new(&d.ut), vt: Small::new(&d.vt), s: d.s }
            }
            Factor::Means(n, block) => Self::Means { blocks: n / block.max(1), block },
            Factor::Blur(taps, n) => Self::Cosine(Cosine::new(taps, n)?),
        })
    }

    /// (input, output, decomposition) lengths.
    pub fn lens(&self) -> [usize; 3] {
        match self {
            Self::Same(n) => [*n; 3],
            Self::Dense { a, s, .. } => [a.cols, a.rows, s.len()],
            Self::Means { blocks, block } => [blocks * block, *blocks, *blocks],
            Self::Cosine(c) => [c.len(); 3],
        }
    }

    /// Singular value `i`.
    pub fn value(&self, i: usize) -> f64 {
        match self {
            Self::Same(_) => 1.0,
            Self::Dense { s, .. } => s.get(i).copied().unwrap_or(0.0),
            Self::Means { block, .. } => 1.0 / libm::sqrt(*block as f64),
            Self::Cosine(c) => c.singular_values().get(i).copied().unwrap_or(0.0),
        }
    }

    /// Whether a map may change anything.
    pub fn changes(&self, map: Map) -> bool {
        match self {
            Self::Same(_) => false,
            Self::Means { .. } => !matches!(map, Map::U | Map::Ut),
            Self::Dense { .. } | Self::Cosine(_) => true,
        }
    }

    /// f32 values of scratch that [`run`](Self::run) needs.
    pub fn scratch_len(&self) -> usize {
        match self {
            Self::Cosine(c) => c.scratch_len(),
            Self::Same(_) | Self::Dense { .. } | Self::Means { .. } => 0,
        }
    }

    /// `read` `[outer, before, inner]` to `write` `[outer, after, inner]` along the middle axis.
    pub fn run(&self, map: Map, inner: usize, read: &[f32], write: &mut [f32], scratch: &mut [f32]) {
        if inner == 0 || read.is_empty() || write.is_empty() {
            return;
        }
        match self {
            Self::Same(_) => write.copy_from_slice(read),
            Self::Dense { a, ut, vt, .. } => {
                let (matrix, transposed) = match map {
                    Map::A => (a, false),
                    Map::At => (a, true),
                    Map::V => (vt, true),
                    Map::Vt => (vt, false),
                    Map::U => (ut, true),
                    Map::Ut => (ut, false),
                };
                contract(matrix, transposed, inner, read, write);
            }
            Self::Means { block, .. } => {
                let by = match map {
                    Map::A | Map::At => 1.0 / *block as f64,
                    _ => self.value(0),
                };
                match map {
                    Map::A | Map::Vt => gather(*block, by as f32, inner, read, write),
                    Map::At | Map::V => spread(*block, by as f32, inner, read, write),
                    Map::U | Map::Ut => write.copy_from_slice(read),
                }
            }
            Self::Cosine(c) => {
                write.copy_from_slice(read);
                c.run(map, inner, write, scratch);
            }
        }
    }

    /// Whether [`run_in_place`](Self::run_in_place) is for it.
    pub fn is_in_place(&self) -> bool {
        matches!(self, Self::Cosine(_))
    }

    /// As [`run`](Self::run), in the memory of `values`.
    pub fn run_in_place(&self, map: Map, inner: usize, values: &mut [f32], scratch: &mut [f32]) {
        if let (Self::Cosine(c), 1..) = (self, inner) {
            c.run(map, inner, values, scratch);
        }
    }
}

/// Sums of blocks, times `by`.
fn gather(block: usize, by: f32, inner: usize, read: &[f32], write: &mut [f32]) {
    for (from, to) in read.chunks_exact(block * inner).zip(write.chunks_exact_mut(inner)) {
        to.fill(0.0);
        from.chunks_exact(inner).for_each(|from| axpy(by, from, to));
    }
}

/// A value times `by` to each of its block.
fn spread(block: usize, by: f32, inner: usize, read: &[f32], write: &mut [f32]) {
    for (from, to) in read.chunks_exact(inner).zip(write.chunks_exact_mut(block * inner)) {
        for to in to.chunks_exact_mut(inner) {
            to.iter_mut().zip(from).for_each(|(to, from)| *to = by * from);
        }
    }
}

/// The matrix along the middle axis.
fn contract(m: &Small, transposed: bool, inner: usize, read: &[f32], write: &mut [f32]) {
    let (before, after) = if transposed { (m.rows, m.cols) } else { (m.cols, m.rows) };
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
