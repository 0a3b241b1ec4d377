//! What graph transforms share: copying a graph node by node while some of its nodes become others.

use alloc::vec::Vec;

use super::{Graph, GraphBuilder, Op, ValueId};
use crate::error::{Result, err};

/// A graph being rebuilt node by node: where each old value went.
pub(super) struct Rebuild<'a> {
    pub old: &'a Graph,
    pub new: GraphBuilder,
    map: Vec<Option<ValueId>>,
}

/// The graph of one node alone: its arguments are the inputs, its value the output.
pub(crate) fn alone(graph: &Graph, id: ValueId) -> Result<Graph> {
    let node = graph.node(id);
    let mut g = GraphBuilder::rewriting(graph);
    let mut args = Vec::new();
    for (i, &a) in node.args.iter().enumerate() {
        args.push(g.input(&alloc::format!("argument {i}"), graph.dims(a).as_slice())?);
    }
    let value = g.push(node.op.clone(), &args)?;
    g.output("value", value)?;
    g.finish()
}

impl<'a> Rebuild<'a> {
    /// Starts with the parameters of `old` and no node.
    pub fn new(old: &'a Graph) -> Self {
        Self { old, new: GraphBuilder::rewriting(old), map: alloc::vec![None; old.nodes().len()] }
    }

    /// What an old value became. It is there once the value's node has been rebuilt.
    pub fn mapped(&self, id: ValueId) -> Result<ValueId> {
        self.map[id.index()].ok_or_else(|| err!(InvalidArgument, "value {} is used before it is made", id.index()))
    }

    /// [`Rebuild::mapped`] for several.
    pub fn mapped_all(&self, ids: &[ValueId]) -> Result<Vec<ValueId>> {
        ids.iter().map(|&id| self.mapped(id)).collect()
    }

    /// Says what an old value became.
    pub fn set(&mut self, old: ValueId, new: ValueId) {
        self.map[old.index()] = Some(new);
    }

    /// Copies a node with its arguments renamed.
    pub fn copy(&mut self, id: ValueId) -> Result<()> {
        let node = self.old.node(id);
        let new = match &node.op {
            Op::Input(slot) => {
                let port = &self.old.inputs()[slot.index()];
                self.new.input_as(port.role, &port.name, node.ty.dims.as_slice())?
            }
            op => self.new.push(op.clone(), &self.mapped_all(&node.args)?)?,
        };
        self.set(id, new);
        Ok(())
    }

    /// Names the old outputs.
    pub fn outputs(&mut self) -> Result<()> {
        for port in self.old.outputs() {
            let value = self.mapped(port.value)?;
            self.new.output(&port.name, value)?;
        }
        Ok(())
    }

    /// The new graph, with the old outputs.
    pub fn finish(mut self) -> Result<Graph> {
        self.outputs()?;
        self.new.finish()
    }
}
