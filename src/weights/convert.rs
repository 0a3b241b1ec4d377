//! Stored elements to `f32` and back.

use half::{bf16, f16};

use crate::error::{Result, ensure, err};
use crate::int4;
use crate::tensor::DType;

/// Refuses whole numbers, which weights are not.
pub(super) fn check_float(name: &str, dtype: DType) -> Result<()> {
    ensure!(!dtype.is_integer(), Weights, "tensor {name} has elements of type {dtype}, expected f64, f32, f16 or bf16");
    Ok(())
}

/// Converts little-endian elements; `bytes` holds exactly `out.len()` of them. The first element that is not finite as
/// `f32` is an error; `at` is the place of `out[0]` in the tensor.
pub(super) fn decode(name: &str, dtype: DType, bytes: &[u8], out: &mut [f32], at: u64) -> Result<()> {
    let refuse = |i: usize, v: f32| {
        Err(err!(
            Weights,
            "tensor {name} holds {v} at element {}, expected finite numbers",
            at.saturating_add(i as u64)
        ))
    };
    macro_rules! each {
        ($n:literal, $from:expr) => {{
            // Looked at once all are there, so that several are converted at a time.
            let mut finite = true;
            for (o, b) in out.iter_mut().zip(bytes.as_chunks::<$n>().0) {
                *o = $from(*b);
                finite &= o.is_finite();
            }
            if !finite && let Some((i, v)) = out.iter().enumerate().find(|(_, v)| !v.is_finite()) {
                return refuse(i, *v);
            }
        }};
    }
    // Above 2^24 not every whole number is one of f32.
    macro_rules! whole {
        ($n:literal, $from:expr) => {
            for (i, (o, b)) in out.iter_mut().zip(bytes.as_chunks::<$n>().0).enumerate() {
                let v = i64::from($from(*b));
                *o = v as f32;
                if v.unsigned_abs() > 1 << 24 {
                    let at = at.saturating_add(i as u64);
                    return Err(err!(Weights, "tensor {name} holds {v} at element {at}, expected at most 2^24"));
                }
            }
        };
    }
    match dtype {
        DType::I64 => whole!(8, i64::from_le_bytes),
        DType::I32 => whole!(4, i32::from_le_bytes),
        DType::F64 => each!(8, |b| f64::from_le_bytes(b) as f32),
        DType::F32 => each!(4, f32::from_le_bytes),
        DType::F16 => each!(2, |b| f16::from_le_bytes(b).to_f32()),
        DType::BF16 => each!(2, |b| bf16::from_le_bytes(b).to_f32()),
        DType::I8 => each!(1, |b| f32::from(i8::from_le_bytes(b))),
        // They come in pairs, see `decode_pairs`.
        DType::I4 => return Err(err!(Weights, "tensor {name} has 4-bit integers, expected none")),
    }
    Ok(())
}

/// Converts row `row` of a tensor of 4-bit integers for `channels` input channels: pairs in the order (tap, channel), a
/// bf16 for each group of them; `out` is in the order (channel, tap). A value that is not finite is an error.
pub(super) fn decode_pairs(
    name: &str,
    [pairs, scales]: [&[u8]; 2],
    channels: usize,
    out: &mut [f32],
    row: usize,
) -> Result<()> {
    let n = out.len();
    for (g, (pairs, scale)) in pairs.chunks(int4::GROUP / 2).zip(scales.as_chunks::<2>().0).enumerate() {
        let scale = bf16::from_le_bytes(*scale).to_f32();
        for (i, q) in pairs.iter().flat_map(|b| int4::unpair(*b)).enumerate() {
            let (k, v) = (g * int4::GROUP + i, f32::from(q) * scale);
            ensure!(v.is_finite(), Weights, "tensor {name} holds {v} in row {row}, expected finite numbers");
            if let Some(to) = out.get_mut(int4::place(k, n, channels)) {
                *to = v;
            }
        }
    }
    Ok(())
}

/// The groups of a row of weights in the order (channel, tap).
pub(super) fn groups(row: &[f32], channels: usize) -> impl Iterator<Item = int4::Group> {
    let n = row.len();
    (0..n).step_by(int4::GROUP).map(move |first| {
        let at = |i| row.get(int4::place(first + i, n, channels)).copied().unwrap_or(0.0);
        int4::Group::of(n - first, at)
    })
}

/// Multiplies 8-bit integers, of which `out[0]` is number `at` of the tensor, by the factors of their rows of `row`
/// elements.
pub(super) fn scale(name: &str, factors: &[f32], row: usize, out: &mut [f32], at: u64) -> Result<()> {
    for (i, v) in out.iter_mut().enumerate() {
        let of = usize::try_from(at.saturating_add(i as u64) / row.max(1) as u64).ok().and_then(|r| factors.get(r));
        *v *= of.copied().ok_or_else(|| err!(Weights, "tensor {name} has fewer factors than rows"))?;
    }
    Ok(())
}

/// The factor of a row of 8-bit integers: the largest absolute value is 127 of them. It is one that whoever looks for
/// the factor of the integers' values finds again.
pub(super) fn factor(row: &[f32]) -> f32 {
    let mut factor = row.iter().fold(0f32, |m, v| m.max(v.abs())) / 127.0;
    while factor.is_finite() && factor * 127.0 / 127.0 != factor {
        factor = factor.next_up();
    }
    factor
}

/// The integer that stands for a value; the factor may be 0.
pub(super) fn quantised(v: f32, factor: f32) -> i8 {
    libm::roundf(v / factor).clamp(-127.0, 127.0) as i8
}

/// Converts values to little-endian elements, which `sink` gets in pieces of at most 1 KiB. A finite value that the
/// type cannot hold is an error.
pub(super) fn encode(
    name: &str,
    dtype: DType,
    values: &[f32],
    sink: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut piece = [0u8; 1024];
    let size = dtype.size();
    for values in values.chunks(piece.len() / size) {
        for (v, to) in values.iter().zip(piece.chunks_exact_mut(size)) {
            let fits = match dtype {
                DType::F64 => {
                    to.copy_from_slice(&f64::from(*v).to_le_bytes());
                    true
                }
                DType::F32 => {
                    to.copy_from_slice(&v.to_le_bytes());
                    true
                }
                DType::F16 => {
                    let h = f16::from_f32(*v);
                    to.copy_from_slice(&h.to_le_bytes());
                    h.is_finite() || !v.is_finite()
                }
                DType::BF16 => {
                    let h = bf16::from_f32(*v);
                    to.copy_from_slice(&h.to_le_bytes());
                    h.is_finite() || !v.is_finite()
                }
                // The only caller has refused them.
                DType::I64 | DType::I32 | DType::I8 | DType::I4 => false,
            };
            if !fits {
                return Err(err!(Weights, "tensor {name} holds {v}, which {dtype} cannot hold"));
            }
        }
        sink(piece.get(..values.len() * size).unwrap_or(&piece))?;
    }
    Ok(())
}
