//! Gradients by parameters, added up over the samples of a chunk.

use alloc::vec::Vec;

use super::value::Value;
use super::{basis, conv, embed, norm};
use crate::backend::cpu::isa::Isa;
use crate::error::{Result, err};
use crate::graph::{ParamGrad, ParamId};

/// Adds what the samples of a chunk give to the gradient of a parameter. `param` looks parameters up.
pub(super) fn add<'p>(
    isa: Isa,
    of: &ParamGrad,
    args: &[Value<'_>],
    to: &mut [f32],
    param: &dyn Fn(ParamId) -> &'p [f32],
    scratch: &mut Vec<f32>,
) -> Result<()> {
    match (of, args) {
        (ParamGrad::Weight { window, .. }, [x, dy]) => return conv::add_weight(isa, *x, *dy, window, to, scratch),
        (ParamGrad::Bias, [dy]) => {
            to.iter_mut().zip(dy.data.chunks_exact(dy.row())).for_each(|(to, dy)| *to += sum(dy));
        }
        (ParamGrad::NormWeight(n), [x, dy]) => norm::add_weight(*x, *dy, n, to),
        (&ParamGrad::Frequencies { weight, log, flip_sin_to_cos }, [x, dy]) => {
            embed::add_frequencies(*x, *dy, param(weight), log, flip_sin_to_cos, to);
        }
        (ParamGrad::Table(_), [x, dy]) => {
            let n = dy.channels();
            for (sample, &row) in x.data.iter().enumerate() {
                // The forward pass has refused a number that is no row.
                let row = to.get_mut(row as usize * n..).and_then(|r| r.get_mut(..n)).unwrap_or_default();
                row.iter_mut().enumerate().for_each(|(c, to)| *to += dy.data[c * dy.batch + sample]);
            }
        }
        (ParamGrad::ElementBias, [dy]) => {
            for (to, dy) in to.chunks_exact_mut(dy.positions()).zip(dy.data.chunks_exact(dy.row())) {
                for dy in dy.chunks_exact(to.len()) {
                    to.iter_mut().zip(dy).for_each(|(to, dy)| *to += dy);
                }
            }
        }
        (&ParamGrad::Centres { centres, widths }, [x, dy]) => {
            basis::add_centres(*x, *dy, param(centres), param(widths), to);
        }
        (&ParamGrad::Widths { centres, widths }, [x, dy]) => {
            basis::add_widths(*x, *dy, param(centres), param(widths), to);
        }
        (of, _) => return Err(err!(Unsupported, "{of:?} with {} arguments", args.len())),
    }
    Ok(())
}

/// A sum in 8 parts, which the compiler turns into vectors; its order depends on the length alone.
pub(super) fn sum(x: &[f32]) -> f32 {
    let (parts, rest) = x.as_chunks::<8>();
    let mut sums = [0f32; 8];
    for part in parts {
        sums.iter_mut().zip(part).for_each(|(s, v)| *s += v);
    }
    sums.iter().sum::<f32>() + rest.iter().sum::<f32>()
}
