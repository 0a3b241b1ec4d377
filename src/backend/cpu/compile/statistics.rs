//! Which norms keep the statistics of their groups for the gradient, so that they are computed once.

use alloc::vec::Vec;

use super::super::memory::{View, lines};
use super::super::steps::norm;
use crate::error::{Result, err};
use crate::graph::plan::Buffer;
use crate::graph::{FusedNormGrad, Graph, GroupNorm, Op, ValueId};

/// What statistics are of.
#[derive(Clone, Debug, PartialEq)]
struct Key {
    sources: Vec<ValueId>,
    groups: usize,
    eps: f32,
}

impl Key {
    fn new(norm: &GroupNorm, sources: &[ValueId]) -> Self {
        Self { sources: sources.to_vec(), groups: norm.groups, eps: norm.eps }
    }
}

pub(super) struct Statistics {
    /// The gradients, and when each runs.
    wanted: Vec<(Key, usize)>,
    /// What norms have kept so far.
    kept: Vec<(Key, View)>,
}

impl Statistics {
    pub fn of(graph: &Graph) -> Self {
        let mut wanted = Vec::new();
        for id in graph.ids() {
            let node = graph.node(id);
            let (norm, sources) = match &node.op {
                Op::FusedNormGrad(FusedNormGrad { norm, sources, .. }) => (norm, *sources),
                Op::GroupNormGrad(norm) => (norm, 1),
                _ => continue,
            };
            let args = node.args.get(..sources).unwrap_or(&[]);
            wanted.push((Key::new(norm, args), id.index() + 1));
        }
        Self { wanted, kept: Vec::new() }
    }

    /// A place for the statistics of a norm that runs at time `now`, if a gradient asks for them later.
    pub fn keep(
        &mut self,
        norm: &GroupNorm,
        sources: &[ValueId],
        now: usize,
        buffers: &mut Vec<Buffer>,
    ) -> Result<Option<View>> {
        let key = Key::new(norm, sources);
        let last = self.wanted.iter().filter(|(k, time)| *k == key && *time > now).map(|(_, time)| *time).max();
        let Some(last) = last else { return Ok(None) };
        let floats = norm.groups.checked_mul(norm::Statistics::FLOATS);
        let floats = floats.ok_or_else(|| err!(Shape, "{} groups are too many", norm.groups))?;
        buffers.push(Buffer { size: lines(floats)?, first: now, last });
        let buffer = buffers.len() - 1;
        let view = View { buffer, start: 0, stride: floats, channels: floats, height: 1, width: 1, half: false };
        self.kept.push((key, view));
        Ok(Some(view))
    }

    /// Where the last norm of these sources has kept them.
    pub fn kept(&self, norm: &GroupNorm, sources: &[ValueId]) -> Option<View> {
        let key = Key::new(norm, sources);
        self.kept.iter().rev().find(|(k, _)| *k == key).map(|(_, view)| *view)
    }
}
