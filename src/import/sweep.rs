//! The graph without the nodes that nothing uses: what was a part of a pattern that became one operation.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::error::{Result, err};
use crate::graph::Graph;
use crate::json::{self, Object, Value};

/// The attributes that name parameters.
const PARAMETERS: [&str; 4] = ["weight", "bias", "table", "param"];

/// The graph of those nodes alone that its outputs need, and of its inputs; and the parameters that it kept.
pub(super) fn sweep(graph: &Graph) -> Result<Graph> {
    let lost = || err!(InvalidArgument, "the graph is not as it was written");
    let mut live = alloc::vec![false; graph.nodes().len()];
    for port in graph.outputs().iter().chain(graph.inputs()) {
        if let Some(l) = live.get_mut(port.value.index()) {
            *l = true;
        }
    }
    for (i, node) in graph.nodes().iter().enumerate().rev() {
        if live.get(i) == Some(&true) {
            for arg in &node.args {
                if let Some(l) = live.get_mut(arg.index()) {
                    *l = true;
                }
            }
        }
    }
    let mut places = Vec::new();
    let mut next = 0i128;
    for &l in &live {
        places.push(next);
        next += i128::from(l);
    }
    let place = |v: &Value| -> Result<Value> {
        let i = v.as_u64().and_then(|i| usize::try_from(i).ok()).and_then(|i| places.get(i));
        i.map(|&n| Value::Integer(n)).ok_or_else(lost)
    };
    // In the text of the graph every operation is written alike.
    let mut all = json::parse_object(&graph.to_json()?)?;
    let mut used: BTreeSet<String> = BTreeSet::new();
    let mut nodes = Vec::new();
    let old = all.remove("nodes").ok_or_else(lost)?;
    for (node, _) in old.as_array().ok_or_else(lost)?.iter().zip(&live).filter(|(_, l)| **l) {
        let mut node: Object = node.as_object().ok_or_else(lost)?.clone();
        if let Some(args) = node.remove("args") {
            let args: Result<Vec<Value>> = args.as_array().ok_or_else(lost)?.iter().map(place).collect();
            node.insert("args".to_string(), Value::Array(args?));
        }
        used.extend(PARAMETERS.iter().filter_map(|p| node.get(*p).and_then(Value::as_str).map(ToString::to_string)));
        nodes.push(Value::Object(node));
    }
    let mut outputs = Vec::new();
    let old = all.remove("outputs").ok_or_else(lost)?;
    for output in old.as_array().ok_or_else(lost)? {
        let mut output = output.as_object().ok_or_else(lost)?.clone();
        let at = place(&output.remove("value").ok_or_else(lost)?)?;
        output.insert("value".to_string(), at);
        outputs.push(Value::Object(output));
    }
    let parameters = all.remove("parameters").ok_or_else(lost)?;
    let kept: Object = parameters
        .as_object()
        .ok_or_else(lost)?
        .iter()
        .filter(|(name, _)| used.contains(name.as_str()))
        .map(|(name, dims)| (name.clone(), dims.clone()))
        .collect();
    all.insert("parameters".to_string(), Value::Object(kept));
    all.insert("nodes".to_string(), Value::Array(nodes));
    all.insert("outputs".to_string(), Value::Array(outputs));
    Graph::from_json(&Value::Object(all).to_string())
}
