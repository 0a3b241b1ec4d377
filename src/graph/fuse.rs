//! Rewrites a model's graph into few, large operations that backends run well.
//!
//! - The same operation on the same arguments is done once.
//! - Linear maps of the same value become one with stacked outputs (q, k, v; all time projections), read through
//!   slices.
//! - What stands before a convolution goes into its [`Prologue`]: concatenation, group norm (as a per-channel affine
//!   map, with a scale-shift modulation folded in), activation, nearest upsampling.
//! - What stands behind it goes into its [`Epilogue`]: a per-channel addition, a residual, a factor, an activation.
//! - Other group norms become their statistics and one elementwise map.
//!
//! The fused graph computes the same function; only roundings differ. The reference backend runs both, which is how
//! this pass is tested.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::rebuild::Rebuild;
use super::{Activation, Binary, Epilogue, FusedConv, Graph, GroupNorm, Kernel, Node, Op, Prologue, ValueId, Window};
use crate::error::Result;

mod backward;

pub use backward::fuse_backward;

/// Rewrites `graph` as the module says. The parameters stay as they are, in the same order.
pub fn fuse(graph: &Graph) -> Result<Graph> {
    let merged = merge_linears(&share_equal(graph)?)?;
    let fused = Fuser::new(&merged).run()?;
    remove_dead(&fused)
}

/// Drops what no output needs. Inputs stay, so that a network's arguments do not depend on what it does with them.
fn remove_dead(graph: &Graph) -> Result<Graph> {
    let mut live = alloc::vec![false; graph.nodes().len()];
    for port in graph.outputs() {
        live[port.value.index()] = true;
    }
    for id in graph.ids().rev() {
        live[id.index()] |= matches!(graph.node(id).op, Op::Input(_));
        if live[id.index()] {
            for a in &graph.node(id).args {
                live[a.index()] = true;
            }
        }
    }
    let mut rebuild = Rebuild::new(graph);
    for id in graph.ids().filter(|id| live[id.index()]) {
        rebuild.copy(id)?;
    }
    rebuild.finish()
}

/// Computes equal operations on equal arguments once: every residual block of a UNet activates the same time embedding.
fn share_equal(graph: &Graph) -> Result<Graph> {
    let mut made: BTreeMap<Vec<ValueId>, Vec<ValueId>> = BTreeMap::new();
    let mut rebuild = Rebuild::new(graph);
    for (id, node) in graph.ids().zip(graph.nodes()) {
        if node.args.is_empty() {
            rebuild.copy(id)?;
            continue;
        }
        let args = rebuild.mapped_all(&node.args)?;
        let same_args = made.entry(args).or_default();
        match same_args.iter().find(|&&other| graph.node(other).op == node.op) {
            Some(&other) => {
                let value = rebuild.mapped(other)?;
                rebuild.set(id, value);
            }
            None => {
                same_args.push(id);
                rebuild.copy(id)?;
            }
        }
    }
    rebuild.finish()
}

/// Gives linear maps of one value one stacked map, placed at the first of them, and slices of its result.
fn merge_linears(graph: &Graph) -> Result<Graph> {
    let mut siblings: BTreeMap<ValueId, Vec<(ValueId, Kernel)>> = BTreeMap::new();
    for (id, node) in graph.ids().zip(graph.nodes()) {
        if let (Op::Linear(k), [x]) = (&node.op, node.args.as_slice()) {
            siblings.entry(*x).or_default().push((id, *k));
        }
    }
    siblings.retain(|_, group| group.len() > 1);
    let mut rebuild = Rebuild::new(graph);
    for (id, node) in graph.ids().zip(graph.nodes()) {
        let group = match node.op {
            Op::Linear(_) => node.args.first().and_then(|x| siblings.get(x).map(|group| (*x, group))),
            _ => None,
        };
        match group {
            None => rebuild.copy(id)?,
            Some((x, group)) if group.first().is_some_and(|g| g.0 == id) => {
                let conv = FusedConv::plain(Window::POINT, group.iter().map(|g| g.1).collect());
                let stacked = rebuild.mapped(x)?;
                let stacked = rebuild.new.push(Op::FusedConv(conv), &[stacked])?;
                let mut start = 0;
                for (member, _) in group {
                    let len = graph.dims(*member).channels();
                    let slice = rebuild.new.slice_channels(stacked, start, len)?;
                    rebuild.set(*member, slice);
                    start += len;
                }
            }
            // A later sibling: its slice is there already.
            Some(_) => {}
        }
    }
    rebuild.finish()
}

impl FusedConv {
    /// A convolution with nothing around it.
    pub fn plain(window: Window, kernels: Vec<Kernel>) -> Self {
        Self {
            window,
            kernels,
            prologue: Prologue { sources: 1, affine: false, activation: None, upsample: 1 },
            epilogue: Epilogue { channel: false, residual: false, scale: 1.0, activation: None },
        }
    }
}

/// A convolution and what stands behind it, up to the node whose value the fused operation makes.
#[derive(Clone, Copy)]
struct Tail {
    conv: ValueId,
    channel: Option<ValueId>,
    residual: Option<ValueId>,
    scale: f32,
    activation: Option<Activation>,
}

/// A group norm and, if it is modulated, the factor and offset applied to its result.
struct Norm<'a> {
    norm: &'a GroupNorm,
    x: ValueId,
    modulation: Option<[ValueId; 2]>,
}

struct Fuser<'a> {
    graph: &'a Graph,
    uses: Vec<usize>,
    /// For a value with one use by a node: that node.
    consumer: Vec<Option<ValueId>>,
}

impl<'a> Fuser<'a> {
    fn new(graph: &'a Graph) -> Self {
        let mut consumer = alloc::vec![None; graph.nodes().len()];
        for (id, node) in graph.ids().zip(graph.nodes()) {
            for a in &node.args {
                consumer[a.index()] = Some(id);
            }
        }
        Self { graph, uses: graph.use_counts(), consumer }
    }

    fn run(&self) -> Result<Graph> {
        let mut tails: BTreeMap<ValueId, Tail> = BTreeMap::new();
        let mut claimed = alloc::vec![false; self.graph.nodes().len()];
        // From the back, so that of two convolutions that are added the later one takes the other as its residual.
        for id in self.graph.ids().rev().filter(|&id| self.conv(id).is_some()) {
            let (end, tail) = self.tail(id, &mut claimed);
            tails.insert(end, tail);
        }
        let mut rebuild = Rebuild::new(self.graph);
        for id in self.graph.ids() {
            if let Some(tail) = tails.get(&id) {
                self.emit(&mut rebuild, id, tail)?;
            } else if let Some(n) = self.norm(id) {
                let ab = self.emit_affine(&mut rebuild, &n)?;
                let x = rebuild.mapped(n.x)?;
                let y = rebuild.new.push(Op::ApplyAffine { activation: None }, &[x, ab])?;
                rebuild.set(id, y);
            } else if let Some((f, n)) = self.activated_norm(id) {
                let ab = self.emit_affine(&mut rebuild, &n)?;
                let x = rebuild.mapped(n.x)?;
                let y = rebuild.new.push(Op::ApplyAffine { activation: Some(f) }, &[x, ab])?;
                rebuild.set(id, y);
            } else {
                rebuild.copy(id)?;
            }
        }
        rebuild.finish()
    }

    fn node(&self, id: ValueId) -> &'a Node {
        self.graph.node(id)
    }

    fn used_once(&self, id: ValueId) -> bool {
        self.uses[id.index()] == 1
    }

    /// The window and kernels of a convolution that has no epilogue yet.
    fn conv(&self, id: ValueId) -> Option<FusedConv> {
        match &self.node(id).op {
            // A grouped one is several convolutions for a backend, with nothing around them.
            Op::Conv2d { window, kernel } if window.groups == 1 => {
                Some(FusedConv::plain(*window, alloc::vec![*kernel]))
            }
            Op::Linear(kernel) => Some(FusedConv::plain(Window::POINT, alloc::vec![*kernel])),
            // One that has its surroundings already is left as it is.
            Op::FusedConv(c) if *c == FusedConv::plain(c.window, c.kernels.clone()) => Some(c.clone()),
            _ => None,
        }
    }

    /// Follows single uses from a convolution as long as they fit its epilogue and no other convolution has claimed
    /// them.
    fn tail(&self, conv: ValueId, claimed: &mut [bool]) -> (ValueId, Tail) {
        let mut tail = Tail { conv, channel: None, residual: None, scale: 1.0, activation: None };
        let mut end = conv;
        let dims = self.graph.dims(conv);
        while tail.activation.is_none() && self.used_once(end) {
            let Some(next) = self.consumer[end.index()].filter(|next| !claimed[next.index()]) else { break };
            let node = self.node(next);
            match (&node.op, node.args.as_slice()) {
                (Op::Binary(Binary::Add), &[a, b]) if tail.scale == 1.0 && tail.residual.is_none() => {
                    let other = if a == end { b } else { a };
                    let other_dims = self.graph.dims(other);
                    if other_dims == dims {
                        tail.residual = Some(other);
                    } else if a == end && tail.channel.is_none() && other_dims.as_slice() == [dims.channels()] {
                        tail.channel = Some(other);
                    } else {
                        break;
                    }
                }
                (&Op::Affine { scale, shift: 0.0 }, _) if tail.scale == 1.0 => tail.scale = scale,
                (&Op::Activation(f), _) => tail.activation = Some(f),
                _ => break,
            }
            claimed[next.index()] = true;
            end = next;
        }
        (end, tail)
    }

    /// A group norm with its modulation, if this value is one.
    fn norm(&self, id: ValueId) -> Option<Norm<'a>> {
        let node = self.node(id);
        match (&node.op, node.args.as_slice()) {
            (Op::GroupNorm(norm), &[x]) => Some(Norm { norm, x, modulation: None }),
            (Op::Binary(Binary::Add), &[product, offset])
                if self.is_channel_vector(offset, id) && self.used_once(product) =>
            {
                let inner = self.node(product);
                match (&inner.op, inner.args.as_slice()) {
                    (Op::Binary(Binary::Mul), &[normed, factor])
                        if self.is_channel_vector(factor, product) && self.used_once(normed) =>
                    {
                        let n = self.norm(normed).filter(|n| n.modulation.is_none())?;
                        Some(Norm { modulation: Some([factor, offset]), ..n })
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// An activation right after a group norm that nothing else uses.
    fn activated_norm(&self, id: ValueId) -> Option<(Activation, Norm<'a>)> {
        let node = self.node(id);
        match (&node.op, node.args.as_slice()) {
            (&Op::Activation(f), &[x]) if self.used_once(x) => self.norm(x).map(|n| (f, n)),
            _ => None,
        }
    }

    /// Whether `v` is one number for each channel of `of`, which has positions besides.
    fn is_channel_vector(&self, v: ValueId, of: ValueId) -> bool {
        let of = self.graph.dims(of);
        of.rank() > 1 && self.graph.dims(v).as_slice() == [of.channels()]
    }

    /// What a value is a concatenation of: itself, unless it is one.
    fn sources(&self, x: ValueId) -> &[ValueId] {
        match &self.node(x).op {
            Op::Concat => &self.node(x).args,
            _ => &[],
        }
    }

    fn mapped_sources(&self, rebuild: &Rebuild<'_>, x: ValueId) -> Result<Vec<ValueId>> {
        match self.sources(x) {
            [] => Ok(alloc::vec![rebuild.mapped(x)?]),
            parts => rebuild.mapped_all(parts),
        }
    }

    fn emit_affine(&self, rebuild: &mut Rebuild<'_>, n: &Norm<'_>) -> Result<ValueId> {
        let mut args = self.mapped_sources(rebuild, n.x)?;
        let sources = args.len();
        if let Some(modulation) = &n.modulation {
            args.extend(rebuild.mapped_all(modulation)?);
        }
        let op = Op::GroupNormAffine { norm: *n.norm, sources, modulated: n.modulation.is_some() };
        rebuild.new.push(op, &args)
    }

    /// Emits the fused convolution of `tail` as the value `end`.
    fn emit(&self, rebuild: &mut Rebuild<'_>, end: ValueId, tail: &Tail) -> Result<()> {
        let (Some(mut conv), Some(&(mut x))) = (self.conv(tail.conv), self.node(tail.conv).args.first()) else {
            return rebuild.copy(end);
        };
        if let (&Op::UpsampleNearest { factor }, true) = (&self.node(x).op, self.used_once(x)) {
            conv.prologue.upsample = factor;
            x = self.node(x).args[0];
        }
        if let (&Op::Activation(f), true) = (&self.node(x).op, self.used_once(x)) {
            conv.prologue.activation = Some(f);
            x = self.node(x).args[0];
        }
        let mut affine = None;
        if let Some(n) = self.norm(x).filter(|_| self.used_once(x)) {
            affine = Some(self.emit_affine(rebuild, &n)?);
            conv.prologue.affine = true;
            x = n.x;
        }
        let mut args = self.mapped_sources(rebuild, x)?;
        conv.prologue.sources = args.len();
        args.extend(affine);
        for (present, value) in
            [(&mut conv.epilogue.channel, tail.channel), (&mut conv.epilogue.residual, tail.residual)]
        {
            *present = value.is_some();
            if let Some(v) = value {
                args.push(rebuild.mapped(v)?);
            }
        }
        conv.epilogue.scale = tail.scale;
        conv.epilogue.activation = tail.activation;
        let fused = rebuild.new.push(Op::FusedConv(conv), &args)?;
        rebuild.set(end, fused);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
