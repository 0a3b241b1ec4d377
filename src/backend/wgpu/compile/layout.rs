//! What moves values about, norms at a position, pooling, linear attention and values without arguments.

use alloc::vec::Vec;

use super::Compiler;
use crate::backend::wgpu::kernels::channel_norm::{self, Stored};
use crate::backend::wgpu::kernels::linear_attention::{self, Heads, Stage};
use crate::backend::wgpu::kernels::moves::{self, Move};
use crate::backend::wgpu::kernels::windows::{self, Look};
use crate::backend::wgpu::memory::View;
use crate::backend::wgpu::weights::Pack;
use crate::error::{Result, ensure, err};
use crate::graph::{ChannelNorm, Node, Op, ParamId, ValueId, Window};
use crate::tensor::DType;

impl Compiler<'_> {
    /// The launches of a node of these kinds. Errors: kind `Unsupported` for any other.
    pub(super) fn layout(&mut self, name: &'static str, id: ValueId, node: &Node) -> Result<View> {
        let what = match node.op {
            Op::Parameter { param, dims } => Move::Parameter(self.weight(Pack::ChannelsLast(param, dims), DType::F32)?),
            Op::PositionEmbedding { dims, scale } => {
                Move::Parameter(self.weight(Pack::Values(positions(dims, scale)), DType::F32)?)
            }
            Op::DepthToSpace { factor, blocks_first } => Move::DepthToSpace { factor, blocks_first },
            Op::SpaceToDepth { factor, blocks_first } => Move::SpaceToDepth { factor, blocks_first },
            Op::ReflectPad(p) => Move::ReflectPad([p.top, p.left]),
            Op::ReflectPadAdjoint(p) => Move::ReflectPadAdjoint([p.top, p.left]),
            Op::ShuffleChannels { rows, columns } => Move::ShuffleChannels { rows, columns },
            Op::SlicePositions { start, .. } => Move::Positions(start as isize),
            Op::PadPositions { before, .. } => Move::Positions(-(before as isize)),
            Op::ConcatPositions => {
                let parts = self.views(node)?;
                let out = self.fresh(id)?;
                let mut start = 0;
                for x in parts {
                    self.push(moves::launch(name, Move::Place(start), Some(x), out)?);
                    start += x.positions();
                }
                return Ok(out);
            }
            Op::ChannelNorm(ref n) => {
                let [x] = self.exactly(node)?;
                return self.channel_norm(name, id, n, x, None);
            }
            Op::ChannelNormGrad(ref n) => {
                let [x, dy] = self.exactly(node)?;
                return self.channel_norm(name, id, n, x, Some(dy));
            }
            Op::MaxPool(window) => {
                let [x] = self.exactly(node)?;
                return self.look(name, id, Look::MaxPool, x, &window);
            }
            Op::MaxPoolGrad(window) => {
                let [x, dy] = self.exactly(node)?;
                return self.look(name, id, Look::MaxPoolGrad(dy), x, &window);
            }
            Op::NearestRow { table } => {
                let [x] = self.exactly(node)?;
                let rows = self.graph.param(table).dims.channels();
                let table = self.weight(Pack::Plain(alloc::vec![table]), DType::F32)?;
                return self.look(name, id, Look::NearestRow { table, rows }, x, &Window::POINT);
            }
            Op::LinearAttention { heads } => {
                let [q, k, v] = self.exactly(node)?;
                let out = self.fresh(id)?;
                self.linear_attention(name, heads, [q, k, v], out)?;
                return Ok(out);
            }
            Op::LinearAttentionGrad { heads } => {
                let [q, k, v, dy] = self.exactly(node)?;
                let out = self.fresh(id)?;
                self.linear_attention_grad(name, heads, [q, k, v, dy], out)?;
                return Ok(out);
            }
            _ => return Err(err!(Unsupported, "wgpu has no kernel for this operation, use the cpu backend")),
        };
        let x = match node.args.as_slice() {
            [] => None,
            _ => Some(self.exactly::<1>(node)?[0]),
        };
        let out = self.fresh(id)?;
        self.push(moves::launch(name, what, x, out)?);
        Ok(out)
    }

    fn look(&mut self, name: &'static str, id: ValueId, what: Look, x: View, window: &Window) -> Result<View> {
        let out = self.fresh(id)?;
        self.push(windows::launch(name, what, x, window, out)?);
        Ok(out)
    }

    fn channel_norm(
        &mut self,
        name: &'static str,
        id: ValueId,
        n: &ChannelNorm,
        x: View,
        dy: Option<View>,
    ) -> Result<View> {
        let weight = self.stored(n.weight)?;
        let bias = if dy.is_none() { self.stored(n.bias)? } else { None };
        let out = self.fresh(id)?;
        self.push(channel_norm::launch(name, n, x, dy, [weight, bias], out)?);
        Ok(out)
    }

    fn stored(&mut self, id: Option<ParamId>) -> Result<Stored> {
        let Some(id) = id else { return Ok(None) };
        let count = self.graph.param(id).dims.elements();
        Ok(Some((self.weight(Pack::Plain(alloc::vec![id]), DType::F32)?, count)))
    }

    /// The softmax of q at each position, that of k over positions, and the matrix that it makes with v.
    fn coupled(&mut self, name: &'static str, heads: Heads, [q, k, v]: [View; 3]) -> Result<[View; 3]> {
        let like = |x: View| [x.channels, x.height, x.width];
        let soft_q = self.temporary(like(q), DType::F32)?;
        let soft_k = self.temporary(like(k), DType::F32)?;
        self.push(linear_attention::launch(name, Stage::SoftmaxChannels, heads, q, None, soft_q)?);
        self.push(linear_attention::launch(name, Stage::SoftmaxPositions, heads, k, None, soft_k)?);
        let context = self.matrix(heads)?;
        self.push(linear_attention::launch(name, Stage::Couple, heads, soft_k, Some(v), context)?);
        Ok([soft_q, soft_k, context])
    }

    /// A matrix for each head.
    fn matrix(&mut self, Heads { heads, d, e }: Heads) -> Result<View> {
        let n = heads.checked_mul(d).and_then(|n| n.checked_mul(e));
        let n = n.ok_or_else(|| err!(OutOfMemory, "{heads} matrices of {d} x {e} are too large"))?;
        self.temporary([n, 1, 1], DType::F32)
    }

    fn linear_attention(&mut self, name: &'static str, heads: usize, qkv: [View; 3], out: View) -> Result<()> {
        let heads = of(heads, qkv)?;
        let [soft_q, _, context] = self.coupled(name, heads, qkv)?;
        self.push(linear_attention::launch(name, Stage::Apply, heads, context, Some(soft_q), out)?);
        Ok(())
    }

    fn linear_attention_grad(
        &mut self,
        name: &'static str,
        heads: usize,
        [q, k, v, dy]: [View; 4],
        out: View,
    ) -> Result<()> {
        let heads = of(heads, [q, k, v])?;
        let [soft_q, soft_k, context] = self.coupled(name, heads, [q, k, v])?;
        let [dq, dk, dv] = [
            out.slice(0, q.channels),
            out.slice(q.channels, k.channels),
            out.slice(q.channels + k.channels, v.channels),
        ];
        let back = self.matrix(heads)?;
        let (of_q, of_k) = (
            self.temporary([q.channels, q.height, q.width], DType::F32)?,
            self.temporary([k.channels, k.height, k.width], DType::F32)?,
        );
        for (stage, a, b, to) in [
            (Stage::ApplyTransposed, context, dy, of_q),
            (Stage::GradientChannels, soft_q, of_q, dq),
            (Stage::Couple, soft_q, dy, back),
            (Stage::Apply, back, soft_k, dv),
            (Stage::ApplyTransposed, back, v, of_k),
            (Stage::GradientPositions, soft_k, of_k, dk),
        ] {
            self.push(linear_attention::launch(name, stage, heads, a, Some(b), to)?);
        }
        Ok(())
    }
}

fn of(heads: usize, [q, _, v]: [View; 3]) -> Result<Heads> {
    ensure!(heads > 0, InvalidArgument, "attention without heads");
    Ok(Heads { heads, d: q.channels / heads, e: v.channels / heads })
}

/// The values of [`Op::PositionEmbedding`], channels last.
fn positions([dim, height, width]: [usize; 3], scale: f64) -> Vec<f32> {
    let quarter = (dim / 4).max(1);
    let value = |row: usize, column: usize, c: usize| {
        let at = if c < 2 * quarter { column } else { row };
        let angle = at as f64 * scale * libm::pow(10_000.0, -((c % quarter) as f64) / quarter as f64);
        (if (c / quarter).is_multiple_of(2) { libm::sin(angle) } else { libm::cos(angle) }) as f32
    };
    let places = (0..height).flat_map(|row| (0..width).map(move |column| (row, column)));
    places.flat_map(|(row, column)| (0..dim).map(move |c| value(row, column, c))).collect()
}
