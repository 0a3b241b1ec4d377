"""Single modules of installed packages, for make_families.py and real_weights.py."""

import importlib
import importlib.util
import pathlib
import sys
import types


def module(package, name):
    """A module of an installed package, without what the package itself imports."""
    where = importlib.util.find_spec("einops").origin
    stub = types.ModuleType(package)
    stub.__path__ = [str(pathlib.Path(where).parent.parent / package)]
    sys.modules.setdefault(package, stub)
    return importlib.import_module(f"{package}.{name}")
