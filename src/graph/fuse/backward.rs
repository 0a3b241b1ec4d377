//! Fuses what [`vjp`](crate::graph::vjp) adds to a graph, before [`fuse`](super::fuse) sees it.
//!
//! - The gradient of a group norm takes in that of the activation and of the modulation behind it. It computes the
//!   norm's value again from the norm's argument, so nothing but that argument is kept from the forward pass, and the
//!   forward pass can be fused as if there were no gradient. Where the argument is a concatenation, its parts are read
//!   where they lie.
//! - The adjoints of linear maps of one value (q, k, v), whose arguments are slices side by side, become one.
//! - The sum of a gradient with what came another way is a residual of the operation that made it.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::{Fuser, remove_dead};
use crate::error::Result;
use crate::graph::rebuild::Rebuild;
use crate::graph::{Binary, FusedConvAdjoint, FusedNormGrad, Graph, Op, ParamId, ValueId};

/// Rewrites `graph` as the module says; a graph without gradients stays as it is. A backend that has the fused backward
/// operations calls it before [`fuse`](super::fuse).
pub fn fuse_backward(graph: &Graph) -> Result<Graph> {
    let fuser = Fuser::new(graph);
    let mut made = BTreeMap::new();
    for id in graph.ids().filter(|&id| is_adjoint(graph, id) || is_norm_grad(graph, id)) {
        if let Some(fused) = fuser.norm_grad(id) {
            made.insert(id, fused);
        } else if let Op::ConvAdjoint { window, weight, dims } = graph.node(id).op {
            let op = FusedConvAdjoint { window, weights: alloc::vec![weight], dims, residual: false };
            made.insert(id, Fused { args: graph.node(id).args.clone(), op: Op::FusedConvAdjoint(op) });
        }
    }
    // From the front, so that a sum takes in what the sum before it became.
    for id in graph.ids() {
        if let Some(sum) = fuser.sum(id, &made) {
            made.insert(id, sum);
        }
    }
    let mut rebuild = Rebuild::new(graph);
    for id in graph.ids() {
        match made.get(&id) {
            None => rebuild.copy(id)?,
            Some(fused) => {
                let args = rebuild.mapped_all(&fused.args)?;
                let value = rebuild.new.push(fused.op.clone(), &args)?;
                rebuild.set(id, value);
            }
        }
    }
    remove_dead(&rebuild.finish()?)
}

/// What a value is made by: an operation and its arguments, values of the old graph.
#[derive(Clone, Debug)]
struct Fused {
    op: Op,
    args: Vec<ValueId>,
}

fn is_adjoint(graph: &Graph, id: ValueId) -> bool {
    matches!(graph.node(id).op, Op::ConvAdjoint { window, .. } if window.groups == 1)
}

fn is_norm_grad(graph: &Graph, id: ValueId) -> bool {
    matches!(graph.node(id).op, Op::GroupNormGrad(_))
}

/// One adjoint of some: its weight and the channels of the common value that it reads.
#[derive(Clone, Copy)]
struct Part {
    start: usize,
    len: usize,
    weight: ParamId,
}

impl Fuser<'_> {
    /// The gradient of a group norm with what stands behind the norm.
    fn norm_grad(&self, id: ValueId) -> Option<Fused> {
        let (Op::GroupNormGrad(norm), &[x, dn]) = (&self.node(id).op, self.node(id).args.as_slice()) else {
            return None;
        };
        let (mut modulation, mut activation, mut dy) = (None, None, dn);
        let through = match (&self.node(dn).op, self.node(dn).args.as_slice()) {
            (Op::Binary(Binary::Mul), &[dq, m]) if self.used_once(dn) && self.is_channel_vector(m, dn) => {
                Some((dq, Some(m)))
            }
            (Op::ActivationGrad(_), _) => Some((dn, None)),
            _ => None,
        };
        if let Some((dq, factor)) = through
            && let (&Op::ActivationGrad(f), &[q, behind]) = (&self.node(dq).op, self.node(dq).args.as_slice())
            && self.used_once(dq)
            && let Some(n) = self.norm(q)
            && n.x == x
            && n.norm == norm
            && n.modulation.map(|[m, _]| m) == factor
        {
            (modulation, activation, dy) = (n.modulation, Some(f), behind);
        }
        let parts = self.sources(x);
        let mut args = if parts.is_empty() { alloc::vec![x] } else { parts.to_vec() };
        let sources = args.len();
        args.extend(modulation.iter().flatten());
        args.push(dy);
        let op = FusedNormGrad { norm: *norm, sources, modulated: modulation.is_some(), activation, residual: false };
        Some(Fused { op: Op::FusedNormGrad(op), args })
    }

    /// A sum of gradients as what one of its terms becomes when it takes in the other.
    fn sum(&self, id: ValueId, made: &BTreeMap<ValueId, Fused>) -> Option<Fused> {
        let (Op::Binary(Binary::Add), &[a, b]) = (&self.node(id).op, self.node(id).args.as_slice()) else {
            return None;
        };
        if self.graph.dims(a) != self.graph.dims(b) {
            return None;
        }
        if let Some(stacked) = self.stacked(id) {
            return Some(stacked);
        }
        // The later one takes in the other: its value may already be there.
        for (term, other) in [(b.max(a), a.min(b)), (a.min(b), b.max(a))] {
            let Some(mut fused) = made.get(&term).filter(|_| self.used_once(term)).cloned() else { continue };
            let free = match &mut fused.op {
                Op::FusedNormGrad(n) => !core::mem::replace(&mut n.residual, true),
                Op::FusedConvAdjoint(c) => !core::mem::replace(&mut c.residual, true),
                _ => false,
            };
            if free {
                fused.args.push(other);
                return Some(fused);
            }
        }
        None
    }

    /// A sum of adjoints that read the slices of one value, all of it, as one adjoint of that value.
    fn stacked(&self, sum: ValueId) -> Option<Fused> {
        let (mut parts, mut common) = (Vec::<Part>::new(), None);
        let mut terms = alloc::vec![sum];
        while let Some(id) = terms.pop() {
            let node = self.node(id);
            match (&node.op, node.args.as_slice()) {
                _ if id != sum && !self.used_once(id) => return None,
                (Op::Binary(Binary::Add), &[a, b]) => terms.extend([a, b]),
                (&Op::ConvAdjoint { window, weight, dims }, &[dy]) => {
                    let (&Op::SliceChannels { start, len }, &[base]) =
                        (&self.node(dy).op, self.node(dy).args.as_slice())
                    else {
                        return None;
                    };
                    if *common.get_or_insert((base, window, dims)) != (base, window, dims) {
                        return None;
                    }
                    let at = parts.partition_point(|p| p.start <= start);
                    parts.insert(at, Part { start, len, weight });
                }
                _ => return None,
            }
        }
        let end = parts.iter().try_fold(0, |at, p| (p.start == at).then_some(at + p.len))?;
        let (base, window, dims) = common.filter(|(base, ..)| end == self.graph.dims(*base).channels())?;
        let weights = parts.iter().map(|p| p.weight).collect();
        let op = FusedConvAdjoint { window, weights, dims, residual: false };
        Some(Fused { op: Op::FusedConvAdjoint(op), args: alloc::vec![base] })
    }
}
