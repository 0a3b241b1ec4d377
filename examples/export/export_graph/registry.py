"""The table of ATen operations and what makes nodes of them.

A mapping is a function of the graph and of the operation's arguments, under the names that its schema gives them (`self` and `input` are
`x`); an overload's arguments that a mapping does not name make a call that is refused.
"""

MAPPINGS = {}
# Says nothing about the values of a graph in f32.
IGNORED = {"dtype", "layout", "device", "pin_memory", "non_blocking", "copy", "memory_format", "implicit", "generator", "half_to_float", "train",
           "training", "cudnn_enabled", "cudnn_enable", "momentum", "inplace", "p"}


def maps(*names):
    def register(mapping):
        MAPPINGS.update({name: mapping for name in names})
        return mapping

    return register


def arguments(target, args, kwargs):
    """The arguments of a call by name, with the defaults of the schema."""
    given = {}
    for i, argument in enumerate(target._schema.arguments):
        name = "x" if argument.name in ("self", "input") else argument.name
        if i < len(args):
            given[name] = args[i]
        elif argument.name in kwargs:
            given[name] = kwargs[argument.name]
        elif argument.has_default_value():
            given[name] = argument.default_value
    return given
