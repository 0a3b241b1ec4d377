//! B packed into panels: columns in groups of the path's panel width, each group stored row after row.
//!
//! The panel that starts at column `j` begins at `k * j` floats. All panels have the full width `nr` but the last,
//! which is rounded up to whole vectors; its missing columns are zeros.

use super::super::isa::Isa;
use super::kernels;
use crate::error::{Result, ensure, err};

/// Where B is packed from at run time. `B[k][n]` is the entry at row k, column n.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// `data[k * stride + n]`.
    Rows {
        /// The floats.
        data: &'a [f32],
        /// Floats from one row to the next, at least n.
        stride: usize,
    },
    /// `data[n * stride + k]`: B is the transpose of what is stored.
    Columns {
        /// The floats.
        data: &'a [f32],
        /// Floats from one column to the next, at least k.
        stride: usize,
    },
}

/// Floats that B of `k` rows and `n` columns takes when packed for `isa`; `None` if that overflows.
pub fn packed_len(isa: Isa, k: usize, n: usize) -> Option<usize> {
    let kn = kernels(isa);
    let last = n % kn.nr();
    let width = (n - last).checked_add(kn.panel_width(last))?;
    width.checked_mul(k).filter(|len| *len <= isize::MAX as usize / 4)
}

/// Calls `fill(panel, width, j, have)` for each panel of `dst`: `width` floats a row, of which `have` are the columns
/// from `j` on and the rest zeros to be.
///
/// # Errors
/// `Shape` if `dst` has not the floats that `k` rows of `n` columns take.
pub fn for_each_panel<T>(
    isa: Isa,
    k: usize,
    n: usize,
    dst: &mut [T],
    mut fill: impl FnMut(&mut [T], usize, usize, usize),
) -> Result<()> {
    let need = packed_len(isa, k, n).ok_or_else(|| err!(OutOfMemory, "a matrix of {k} x {n} is too large"))?;
    ensure!(dst.len() == need, Shape, "packed matrix has {} entries, expected {need}", dst.len());
    let kn = kernels(isa);
    let mut rest = dst;
    let mut j = 0;
    while j < n && k > 0 {
        let width = kn.panel_width(n - j);
        let (panel, tail) = rest.split_at_mut(width * k);
        rest = tail;
        fill(panel, width, j, width.min(n - j));
        j += width;
    }
    Ok(())
}

/// Packs `at(k, n)` for all `k` and `n` into `dst` of [`packed_len`] entries of any type. For weights, once.
///
/// # Errors
/// `Shape` if `dst` has another length.
pub fn pack_with<T: Copy + Default>(
    isa: Isa,
    k: usize,
    n: usize,
    dst: &mut [T],
    at: impl Fn(usize, usize) -> T,
) -> Result<()> {
    for_each_panel(isa, k, n, dst, |panel, width, j, have| {
        for (r, row) in panel.chunks_exact_mut(width).enumerate() {
            for (c, v) in row.iter_mut().enumerate() {
                *v = if c < have { at(r, j + c) } else { T::default() };
            }
        }
    })
}

/// Packs B from rows or columns into `dst` of [`packed_len`] floats. For attention, at each call.
///
/// # Errors
/// `Shape` if `dst` or the source has not the floats that `k` and `n` ask for.
pub fn pack(isa: Isa, k: usize, n: usize, source: Source<'_>, dst: &mut [f32]) -> Result<()> {
    match source {
        Source::Rows { data, stride } => check("rows", data.len(), stride, k, n)?,
        Source::Columns { data, stride } => check("columns", data.len(), stride, n, k)?,
    }
    for_each_panel(isa, k, n, dst, |panel, width, j, have| {
        for row in panel.chunks_exact_mut(width) {
            row[have..].fill(0.0);
        }
        match source {
            Source::Rows { data, stride } => {
                for (row, from) in panel.chunks_exact_mut(width).zip(data[j..].chunks(stride.max(1))) {
                    row[..have].copy_from_slice(&from[..have]);
                }
            }
            Source::Columns { data, stride } => transpose(&data[j * stride..], stride, [have, k], panel, width),
        }
    })
}

/// `to[j * to_stride + i] = from[i * stride + j]` for `rows` rows of `columns` floats, both at least 1.
pub fn transpose(from: &[f32], stride: usize, [rows, columns]: [usize; 2], to: &mut [f32], to_stride: usize) {
    // Four by four go through registers, in strips of a cache line, that lines are read as a whole.
    const SIDE: usize = 4;
    const STRIP: usize = 16;
    let (whole, even) = (rows - rows % SIDE, columns - columns % SIDE);
    for begin in (0..even).step_by(STRIP) {
        for i in (0..whole).step_by(SIDE) {
            for j in (begin..even.min(begin + STRIP)).step_by(SIDE) {
                let mut square = [[0.0; SIDE]; SIDE];
                for (r, row) in square.iter_mut().enumerate() {
                    row.copy_from_slice(&from[(i + r) * stride + j..][..SIDE]);
                }
                for c in 0..SIDE {
                    let column = [square[0][c], square[1][c], square[2][c], square[3][c]];
                    to[(j + c) * to_stride + i..][..SIDE].copy_from_slice(&column);
                }
            }
        }
    }
    for i in 0..rows {
        let rest = if i < whole { even } else { 0 };
        for j in rest..columns {
            to[j * to_stride + i] = from[i * stride + j];
        }
    }
}

/// Checks that `count` lines of `len` floats, `stride` apart, lie in `have` floats.
pub(super) fn check(what: &str, have: usize, stride: usize, count: usize, len: usize) -> Result<()> {
    let need = count.checked_sub(1).map_or(Some(0), |c| c.checked_mul(stride)?.checked_add(len));
    ensure!(
        (count <= 1 || stride >= len) && need.is_some_and(|n| n <= have),
        Shape,
        "matrix of {count} {what} of {len} floats, {stride} apart, does not fit in {have} floats"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::super::isa::Path;
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    #[test]
    fn panels_hold_every_entry_once_and_zeros() {
        for isa in Path::ALL.into_iter().filter_map(Isa::try_new) {
            let kn = kernels(isa);
            for (k, n) in [(1, 1), (3, 5), (7, 16), (2, 31), (5, 32), (4, 33), (3, 70)] {
                let b: Vec<f32> = (0..k * n).map(|i| i as f32 + 1.0).collect();
                let bt: Vec<f32> = (0..k * n).map(|i| b[(i % k) * n + i / k]).collect();
                let len = packed_len(isa, k, n).unwrap();
                let (mut p, mut q) = (vec![-1.0; len], vec![-1.0; len]);
                pack(isa, k, n, Source::Rows { data: &b, stride: n }, &mut p).unwrap();
                pack(isa, k, n, Source::Columns { data: &bt, stride: k }, &mut q).unwrap();
                assert_eq!(p, q);
                for r in 0..k {
                    for c in 0..n {
                        let j = c / kn.nr() * kn.nr();
                        let width = kn.panel_width(n - j);
                        assert_eq!(p[j * k + r * width + (c - j)], b[r * n + c]);
                    }
                }
                assert_eq!(p.iter().filter(|v| **v == 0.0).count(), len - k * n);
            }
        }
    }

    #[test]
    fn wrong_sizes_are_refused() {
        let isa = Isa::best();
        let mut dst = vec![0.0; packed_len(isa, 4, 4).unwrap()];
        assert!(pack(isa, 4, 4, Source::Rows { data: &[0.0; 15], stride: 4 }, &mut dst).is_err());
        assert!(pack(isa, 4, 4, Source::Rows { data: &[0.0; 64], stride: 3 }, &mut dst).is_err());
        assert!(pack(isa, 4, 4, Source::Columns { data: &[0.0; 64], stride: usize::MAX }, &mut dst).is_err());
        assert!(pack(isa, 5, 4, Source::Rows { data: &[0.0; 64], stride: 4 }, &mut dst).is_err());
        assert_eq!(packed_len(isa, usize::MAX, 2), None);
        assert_eq!(packed_len(isa, 2, usize::MAX), None);
    }
}
