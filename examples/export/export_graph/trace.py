"""The walk over an exported program."""

import operator

import torch

from . import arithmetic, attention, embeddings, norms, shapes, windows  # noqa: F401 (they fill the table)
from .layout import Layout
from .registry import IGNORED, MAPPINGS, arguments
from .values import HELD, Angle, Centred, Log, Moment, Padded, Scores, Soft, Squared, Turned, Unmapped, Value


class Graph(Layout):
    """Translates one call after the other; `new_shape` is what PyTorch says of the present one's result."""

    def settled(self, v):
        """What was held back as a value of its own."""
        if isinstance(v, (list, tuple)):
            return type(v)(self.settled(x) for x in v)
        if not isinstance(v, HELD):
            return v
        if getattr(v, "own", None) is None:
            v.own = self.of_held(v)
        return v.own

    def of_held(self, v):
        if isinstance(v, Padded):
            return windows.zeros(self, v.of, v.padding)
        if isinstance(v, Angle):
            return embeddings.alone(self, v)
        if isinstance(v, Soft):
            return attention.soft(self, v)
        if isinstance(v, Moment):
            return norms.settled_moment(self, v)
        if isinstance(v, Centred):
            return norms.settled_centred(self, v)
        if isinstance(v, Squared):
            of = self.settled(v.of)
            return arithmetic.binary(self, "mul", of, of)
        if isinstance(v, (Scores, Turned)):
            raise Unmapped("products of queries and keys that are no attention")
        raise Unmapped("the logarithm of a number that is not embedded")

    def call(self, target, args, kwargs):
        name = target._schema.name.split("::")[1]
        if name.endswith("_") and not name.startswith("_"):
            raise Unmapped("it changes a value in place")
        given = arguments(target, args, kwargs)
        for step in (attention.scores, norms.moment, embeddings.angle):
            made = step(self, name, given)
            if made is not None:
                return made
        if name in ("cat", "concat", "concatenate", "stack") and any(isinstance(v, Angle) for v in given["tensors"]):
            given["tensors"] = given["tensors"] if name == "stack" else embeddings.pairs(self, given["tensors"])
        mapping = MAPPINGS.get(name)
        if mapping is None:
            raise Unmapped("there is no such operation in a graph")
        keep = mapping is windows.conv
        given = {k: v if keep and isinstance(v, Padded) else self.settled(v) for k, v in given.items()}
        takes = mapping.__code__.co_varnames[: mapping.__code__.co_argcount]
        given = {k: v for k, v in given.items() if k in takes or k not in IGNORED}
        if "name" in takes:
            given["name"] = name
        return mapping(self, **given)


def shape_of(value):
    if isinstance(value, torch.Tensor):
        return tuple(value.shape)
    return [shape_of(v) for v in value] if isinstance(value, (list, tuple)) else None


def input_of(graph, name, role, example):
    shape = tuple(example.shape)
    if role in ("timestep", "class"):
        return Value(graph.add("input", [], [1], name=name, role=role, dims=[1]), shape or (1,), [])
    if role == "tokens":
        dims, channels, positions = [shape[2], shape[1]], [2], [1]
    else:
        dims, channels, positions = list(shape[1:]), [1], range(2, len(shape))
    return Value(graph.add("input", [], dims, name=name, role=role, dims=dims), shape, channels, positions)


def graph_of(model, inputs):
    """The graph and the weights of a model; see `export` for the inputs."""
    model = model.eval()
    examples = tuple(example for _, example in inputs.values())
    for (name, (_, example)) in inputs.items():
        if example.ndim and example.shape[0] != 1:
            raise Unmapped(f"the example of {name} has the shape {tuple(example.shape)}, expected a batch of 1")
    with torch.no_grad():
        program = torch.export.export(model, examples, strict=False)
        # Without what changes values in place; nothing is taken apart.
        program = program.run_decompositions({})
    signature = program.graph_signature
    stored = {**dict(program.state_dict), **program.constants}
    fixed = {**signature.inputs_to_parameters, **signature.inputs_to_buffers, **signature.inputs_to_lifted_tensor_constants}
    graph = Graph()
    known, given, results = {}, iter(inputs.items()), None
    for node in program.graph.nodes:
        if node.op == "placeholder":
            if node.name in fixed:
                known[node] = stored[fixed[node.name]].detach()
                graph.names[id(known[node])] = graph.names[id(stored[fixed[node.name]])] = fixed[node.name]
                continue
            name, (role, example) = next(given)
            known[node] = input_of(graph, name, role, example)
        elif node.op == "call_function":
            known[node] = call(graph, node, known)
        elif node.op == "output":
            made = dict(zip((spec.arg.name for spec in signature.output_specs), node.args[0]))
            results = [made[name] for name in signature.user_outputs if name in made]
    result = graph.settled(known.get(results[0])) if results else None
    if not isinstance(result, Value):
        raise Unmapped("the output does not depend on the input")
    if result.shape[0] != 1 or not 2 <= len(result.shape) <= 4:
        raise Unmapped(f"the output has the shape {result.shape}, expected [1, C, ..] with at most two axes behind the channels")
    result = graph.laid(result, [1], range(2, len(result.shape)))
    at = graph.fit(result.at, result.shape[1:])
    data = {"_class_name": "Graph", "version": 1, "parameters": {k: list(v.shape) for k, v in graph.weights.items()}, "nodes": graph.nodes,
            "outputs": [{"name": "sample", "value": at}]}
    return data, graph.weights


def call(graph, node, known):
    """What a call makes: of constants a constant."""
    said = f"the node {node.name} = {node.target}({', '.join(map(str, node.args))})"
    args = torch.fx.node.map_arg(node.args, lambda n: known[n])
    kwargs = torch.fx.node.map_arg(node.kwargs, lambda n: known[n])
    if node.target is operator.getitem:
        return args[0][args[1]]
    name = str(node.target)
    if "_assert" in name or "sym_" in name:
        return None
    if not any(isinstance(v, (Value, *HELD)) for v in torch.utils._pytree.tree_leaves((args, kwargs))):
        if not isinstance(node.target, torch._ops.OpOverload):
            raise Unmapped(f"{said}: it is no operation of ATen")
        with torch.no_grad():
            return node.target(*args, **kwargs)
    graph.new_shape = shape_of(node.meta["val"])
    try:
        if not isinstance(node.target, torch._ops.OpOverload):
            raise Unmapped("it is no operation of ATen")
        return graph.call(node.target, list(args), dict(kwargs))
    except Unmapped as e:
        raise Unmapped(f"{said}: {e}") from None
    except (AttributeError, TypeError, IndexError, KeyError, ValueError, RuntimeError) as e:
        raise Unmapped(f"{said}: its arguments are not understood ({type(e).__name__}: {e})") from e
