//! Where each buffer of a run lives: lifetimes to one arena, so that the bytes are known before anything runs.

use alloc::vec::Vec;

use super::{Graph, Op};

/// A buffer that a run needs: its size and the steps during which it holds something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Size in units of the caller's choice, for one sample. 0 takes no space.
    pub size: usize,
    /// The step that writes it first.
    pub first: usize,
    /// The last step that reads it; at least `first`.
    pub last: usize,
}

/// Offsets for a list of buffers, in the same units. Buffers that are alive at the same step do not overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArenaPlan {
    /// Where each buffer begins.
    pub offsets: Vec<usize>,
    /// The arena's size.
    pub size: usize,
}

/// Places the buffers, largest first, each at the lowest offset where nothing alive at the same time lies.
///
/// Sizes are per sample and every one grows with the batch alike, so for a batch of n all offsets and the size are n
/// times these.
pub fn plan(buffers: &[Buffer]) -> ArenaPlan {
    let mut order: Vec<usize> = (0..buffers.len()).filter(|&i| buffers[i].size > 0).collect();
    order.sort_by_key(|&i| (core::cmp::Reverse(buffers[i].size), buffers[i].first));
    let mut offsets = alloc::vec![0; buffers.len()];
    let mut size = 0;
    let mut placed: Vec<usize> = Vec::new();
    let mut taken: Vec<(usize, usize)> = Vec::new();
    for i in order {
        let b = buffers[i];
        taken.clear();
        taken.extend(
            placed
                .iter()
                .filter(|&&j| buffers[j].first <= b.last && b.first <= buffers[j].last)
                .map(|&j| (offsets[j], offsets[j] + buffers[j].size)),
        );
        taken.sort_unstable();
        let mut at = 0;
        for &(begin, end) in &taken {
            if begin >= at + b.size {
                break;
            }
            at = at.max(end);
        }
        offsets[i] = at;
        size = size.max(at + b.size);
        placed.push(i);
    }
    ArenaPlan { offsets, size }
}

/// For each value the last time that it is read, by itself or through a slice, which is no copy; 0 for a value that
/// nobody reads. Node i runs at time i + 1, and outputs are read one after the last.
pub fn last_uses(graph: &Graph) -> Vec<usize> {
    let mut last = alloc::vec![0; graph.nodes().len()];
    for port in graph.outputs() {
        last[port.value.index()] = graph.nodes().len() + 1;
    }
    for id in graph.ids().rev() {
        let node = graph.node(id);
        // Reading a slice is reading what it is of.
        let time = match node.op {
            Op::SliceChannels { .. } => last[id.index()],
            _ => id.index() + 1,
        };
        for a in &node.args {
            last[a.index()] = last[a.index()].max(time);
        }
    }
    last
}

/// The most values alive at once in a run of `graph` for one sample: what its arena comes to, but for what steps need
/// for themselves.
pub fn most_alive(graph: &Graph) -> usize {
    let last = last_uses(graph);
    let mut change = alloc::vec![0isize; graph.nodes().len() + 3];
    for (id, node) in graph.ids().zip(graph.nodes()) {
        if !matches!(node.op, Op::SliceChannels { .. }) {
            let size = node.ty.dims.elements() as isize;
            let first = if matches!(node.op, Op::Input(_)) { 0 } else { id.index() + 1 };
            change[first] += size;
            change[last[id.index()].max(first) + 1] -= size;
        }
    }
    let (mut alive, mut most) = (0, 0);
    for c in change {
        alive += c;
        most = most.max(alive);
    }
    most.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_chain_of_equal_buffers_needs_two() {
        let chain: Vec<_> = (0..10).map(|i| Buffer { size: 8, first: i, last: i + 1 }).collect();
        assert_eq!(plan(&chain).size, 16);
    }

    proptest! {
        #[test]
        fn living_buffers_never_overlap(spec in proptest::collection::vec((0usize..50, 0usize..20, 0usize..8), 0..40)) {
            let buffers: Vec<_> = spec.iter().map(|&(size, first, len)| Buffer { size, first, last: first + len }).collect();
            let p = plan(&buffers);
            for (i, a) in buffers.iter().enumerate() {
                prop_assert!(p.offsets[i] + a.size <= p.size || a.size == 0);
                for (j, b) in buffers.iter().enumerate().skip(i + 1) {
                    let together = a.first <= b.last && b.first <= a.last;
                    let apart = p.offsets[i] + a.size <= p.offsets[j] || p.offsets[j] + b.size <= p.offsets[i];
                    prop_assert!(!together || apart || a.size == 0 || b.size == 0);
                }
            }
            let peak = (0..30).map(|t| buffers.iter().filter(|b| b.first <= t && t <= b.last).map(|b| b.size).sum::<usize>()).max();
            prop_assert!(p.size >= peak.unwrap_or(0));
        }
    }
}
