//! Gradients by parameters as a graph transform, for training.
//!
//! The backward sweep is that of [`vjp`](super::vjp): this adds, for each use of a parameter, the [`ParamGrad`] that
//! says what the use adds to the parameter's gradient. The result is an ordinary graph in which all nodes of the
//! network stand before the first of the backward sweep, so that a runner can compute a loss and its cotangents in
//! between.

use alloc::format;
use alloc::vec::Vec;

use super::rebuild::Rebuild;
use super::vjp::Reverse;
use super::{Graph, Kernel, Op, ParamGrad, ParamId, Role, ValueId, Window};
use crate::error::{Result, ensure, err};

/// The network with its backward sweep.
#[derive(Clone, Debug)]
pub struct Gradients {
    /// The inputs are those of the network, then a cotangent `cotangent.NAME` for each of its outputs. The outputs are
    /// those of the network; then `gradient.NAME` for each input asked for; then `gradient.NAME` for each use of a
    /// parameter.
    pub graph: Graph,
    /// The parameter of each of the last outputs, in their order. A parameter that several operations use stands here
    /// several times; its gradient is the sum of their values, over all samples of a batch.
    pub params: Vec<ParamId>,
}

/// The network of `graph` and the gradients, by its parameters and by the inputs with these numbers, of the inner
/// product of its outputs with cotangents. Parameters that no output depends on have no gradient; an input that no
/// output depends on is an error.
///
/// Errors: `InvalidArgument` for such an input or a number that is none; `Unsupported` if an operation between a
/// parameter and an output has no derivative (it is named). Fused operations have none: take gradients of the graph as
/// the model built it.
///
/// ```
/// use undiffuse::graph::{GraphBuilder, gradients::gradients};
///
/// let mut g = GraphBuilder::new();
/// let x = g.input("x", &[3])?;
/// let y = g.linear("fc", x, 2, true)?;
/// g.output("y", y)?;
/// let graph = gradients(&g.finish()?, &[])?.graph;
/// let names: Vec<_> = graph.outputs().iter().map(|port| port.name.as_str()).collect();
/// assert_eq!(names, ["y", "gradient.fc.weight", "gradient.fc.bias"]);
/// # Ok::<(), undiffuse::Error>(())
/// ```
pub fn gradients(graph: &Graph, inputs: &[usize]) -> Result<Gradients> {
    let mut depends = alloc::vec![false; graph.nodes().len()];
    let mut wanted = Vec::new();
    for &i in inputs {
        let port =
            graph.inputs().get(i).ok_or_else(|| err!(InvalidArgument, "input {i} of {}", graph.inputs().len()))?;
        depends[port.value.index()] = true;
        wanted.push(port);
    }
    for id in graph.ids() {
        let node = graph.node(id);
        let mut own = node.args.iter().any(|a| depends[a.index()]);
        node.op.for_each_param(|_| own = true);
        depends[id.index()] |= own;
    }

    let mut forward = Rebuild::new(graph);
    for id in graph.ids() {
        forward.copy(id)?;
    }
    let mut cotangents = Vec::new();
    for port in graph.outputs() {
        cotangents.push(forward.new.input_as(
            Role::Cotangent,
            &format!("cotangent.{}", port.name),
            graph.dims(port.value).as_slice(),
        )?);
    }
    let mut reverse = Reverse { forward, depends, gradients: alloc::vec![None; graph.nodes().len()], again: None };
    for (port, cotangent) in graph.outputs().iter().zip(cotangents) {
        reverse.collect(port.value, cotangent)?;
    }
    let mut found = Vec::new();
    for id in graph.ids().rev().filter(|&id| reverse.needs(id)).collect::<Vec<_>>() {
        if let Some(dy) = reverse.gradients[id.index()] {
            parameters(&mut reverse, id, dy, &mut found)
                .and_then(|()| reverse.node(id, dy))
                .map_err(|e| e.context(graph.node(id).op.name()))?;
        }
    }
    let Reverse { mut forward, gradients, .. } = reverse;
    forward.outputs()?;
    for port in wanted {
        let dx = gradients[port.value.index()]
            .ok_or_else(|| err!(InvalidArgument, "no output depends on input {}", port.name))?;
        forward.new.output(&format!("gradient.{}", port.name), dx)?;
    }
    // In the order of the parameters, and of one the earliest use last: the order does not hang on the sweep's
    // direction alone.
    found.sort_by_key(|&(id, _)| id);
    for &(id, value) in &found {
        forward.new.output(&format!("gradient.{}", graph.param(id).name), value)?;
    }
    Ok(Gradients { graph: forward.new.finish()?, params: found.into_iter().map(|(id, _)| id).collect() })
}

/// Notes what the gradient `dy` of a node's value is by each of its parameters.
fn parameters(reverse: &mut Reverse<'_>, id: ValueId, dy: ValueId, found: &mut Vec<(ParamId, ValueId)>) -> Result<()> {
    let node = reverse.forward.old.node(id);
    for (param, of) in uses(&node.op)? {
        let value = if matches!(of, ParamGrad::Bias | ParamGrad::ElementBias) {
            reverse.push(Op::ParamGrad(of), &[dy])?
        } else {
            let x = node.args.first().copied().ok_or_else(|| err!(InvalidArgument, "an argument is missing"))?;
            let x = reverse.forward.mapped(x)?;
            reverse.push(Op::ParamGrad(of), &[x, dy])?
        };
        found.push((param, value));
    }
    Ok(())
}

/// The parameters of an operation with their gradients.
fn uses(op: &Op) -> Result<Vec<(ParamId, ParamGrad)>> {
    let map = |window: Window, kernel: &Kernel| {
        let weight = (kernel.weight, ParamGrad::Weight { window, weight: kernel.weight });
        [Some(weight), kernel.bias.map(|b| (b, ParamGrad::Bias))].into_iter().flatten().collect()
    };
    Ok(match *op {
        Op::Conv2d { window, ref kernel } => {
            ensure!(
                window.is_plain(),
                Unsupported,
                "a convolution with groups or dilation has no derivative by its weight here"
            );
            map(window, kernel)
        }
        Op::Linear(ref kernel) => map(Window::POINT, kernel),
        Op::GroupNorm(norm) => alloc::vec![(norm.weight, ParamGrad::NormWeight(norm)), (norm.bias, ParamGrad::Bias)],
        Op::FourierEmbedding { weight, log, flip_sin_to_cos } => {
            alloc::vec![(weight, ParamGrad::Frequencies { weight, log, flip_sin_to_cos })]
        }
        Op::Embedding { table } => alloc::vec![(table, ParamGrad::Table(table))],
        Op::ElementBias { bias } => alloc::vec![(bias, ParamGrad::ElementBias)],
        Op::RadialBasis { centres, widths } => alloc::vec![
            (centres, ParamGrad::Centres { centres, widths }),
            (widths, ParamGrad::Widths { centres, widths })
        ],
        ref op => {
            let mut none = true;
            op.for_each_param(|_| none = false);
            ensure!(none, Unsupported, "{} has no derivative by its parameters here", op.name());
            Vec::new()
        }
    })
}
