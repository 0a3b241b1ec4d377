//! What a backward sweep keeps of the forward pass, and how it gets the rest back.
//!
//! The network is cut into segments where few values cross (between the blocks of a UNet). What crosses a cut is kept;
//! what a sweep needs of the inside of a segment it computes again from there, when it comes to it, and then drops
//! (Chen, Xu, Zhang and Guestrin 2016). The last segment is not worth it: the sweep begins there.

use alloc::vec::Vec;

use super::plan::last_uses;
use super::rebuild::Rebuild;
use super::{Graph, Op, ValueId};
use crate::error::{Result, err};

/// A choice of cuts, and what was computed again so far.
pub(super) struct Again {
    /// Values that cross a cut, that do not depend on the input (they are small), or that stand behind the last cut.
    kept: Vec<bool>,
    /// The first node behind the last cut.
    last: usize,
    /// Of each old value: its second computation, or another name of a kept one.
    again: Vec<Option<ValueId>>,
}

/// Where a network can be cut, each as the number of its last node before the cut: where the values that cross are a
/// local minimum.
pub(super) fn cuts(graph: &Graph, depends: &[bool]) -> Vec<usize> {
    let last = last_uses(graph);
    let crossing = |p: usize| -> usize {
        let crosses = |id: &ValueId| {
            depends[id.index()] && last[id.index()] > p + 1 && !matches!(graph.node(*id).op, Op::SliceChannels { .. })
        };
        graph.ids().take(p + 1).filter(crosses).map(|id| graph.dims(id).elements()).sum()
    };
    let sizes: Vec<usize> = (0..graph.nodes().len()).map(crossing).collect();
    let concat = |p: usize| graph.nodes().get(p).is_some_and(|n| n.op == Op::Concat);
    let mut found = Vec::new();
    let mut fell = false;
    for p in 1..sizes.len().saturating_sub(1) {
        let [before, here, after] = [sizes[p - 1], sizes[p], sizes[p + 1]];
        fell = here < before || (here == before && fell);
        // At the end of the low, where what belongs to an operation's end is fused with it; but before a concatenation,
        // which is then not kept but made again of its parts.
        if fell && here > 0 && !concat(p) && (here < after || (here == after && concat(p + 1))) {
            found.push(p);
        }
    }
    found
}

impl Again {
    /// For the given cuts, in rising order, at least one.
    pub fn new(graph: &Graph, depends: &[bool], cuts: &[usize]) -> Self {
        let uses = last_uses(graph);
        let last = cuts.last().map_or(0, |c| c + 1);
        let crosses = |id: ValueId| cuts.iter().any(|&c| id.index() <= c && uses[id.index()] > c + 1);
        let keep = |id: ValueId| !depends[id.index()] || id.index() >= last || crosses(id) || inputs(graph, id);
        Self { kept: graph.ids().map(keep).collect(), last, again: alloc::vec![None; graph.nodes().len()] }
    }

    /// The value `old` as the gradient of node `of` needs it.
    pub fn value(&mut self, forward: &mut Rebuild<'_>, depends: &[bool], of: ValueId, old: ValueId) -> Result<ValueId> {
        if of.index() >= self.last || !depends[old.index()] {
            return forward.mapped(old);
        }
        let mut wanted = alloc::vec![old];
        while let Some(&id) = wanted.last() {
            if self.again[id.index()].is_some() {
                wanted.pop();
                continue;
            }
            if self.kept[id.index()] {
                // Under another name, so that nothing made of it is taken for what the forward pass made.
                let channels = forward.old.dims(id).channels();
                let value = forward.mapped(id)?;
                let name = forward.new.push(Op::SliceChannels { start: 0, len: channels }, &[value])?;
                self.again[id.index()] = Some(name);
                continue;
            }
            let node = forward.old.node(id);
            let missing = |a: &&ValueId| depends[a.index()] && self.again[a.index()].is_none();
            let before = wanted.len();
            wanted.extend(node.args.iter().filter(missing));
            if wanted.len() > before {
                continue;
            }
            let arg = |a: &ValueId| match self.again[a.index()] {
                Some(value) => Ok(value),
                None => forward.mapped(*a),
            };
            let args = node.args.iter().map(arg).collect::<Result<Vec<_>>>()?;
            self.again[id.index()] = Some(forward.new.push(node.op.clone(), &args)?);
        }
        self.again[old.index()].ok_or_else(|| err!(InvalidArgument, "value {} was not computed again", old.index()))
    }
}

fn inputs(graph: &Graph, id: ValueId) -> bool {
    matches!(graph.node(id).op, Op::Input(_))
}
