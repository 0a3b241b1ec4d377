"""Enough of undiffuse.h for Python by ctypes, with no package but the standard library's: load a model, sample from it.

    UNDIFFUSE_LIBRARY=/usr/local/lib/libundiffuse.so python examples/python/undiffuse.py digits.safetensors
"""
import ctypes as c
import os
import sys

lib = c.CDLL(os.environ.get("UNDIFFUSE_LIBRARY", "libundiffuse.so"))
DDIM = 2


class SamplerOptions(c.Structure):
    """undiffuse_sampler_options: what follows `eta` keeps the defaults that _init wrote."""

    _fields_ = [
        ("struct_size", c.c_size_t), ("kind", c.c_uint32), ("arithmetic", c.c_uint32), ("steps", c.c_size_t),
        ("timesteps", c.c_void_p), ("timesteps_len", c.c_size_t), ("eta", c.c_double),
    ]


class SessionOptions(c.Structure):
    """undiffuse_session_options, likewise."""

    _fields_ = [
        ("struct_size", c.c_size_t), ("batch", c.c_size_t), ("first_sample", c.c_uint64), ("seed", c.c_uint64),
        ("noise", c.c_void_p), ("thread_count", c.c_size_t),
    ]


class ModelInfo(c.Structure):
    """undiffuse_model_info, likewise."""

    _fields_ = [("struct_size", c.c_size_t), ("rank", c.c_size_t), ("dims", c.c_size_t * 4), ("sample_len", c.c_size_t)]


lib.undiffuse_error_message.restype = c.c_char_p
lib.undiffuse_error_message.argtypes = [c.c_void_p]
for name in ["error", "model", "sampler"]:
    free = getattr(lib, f"undiffuse_{name}_free")
    free.argtypes, free.restype = [c.c_void_p], None


def call(function, *args):
    """Calls a function whose last argument is undiffuse_error **; raises what it says."""
    error = c.c_void_p()
    if getattr(lib, function)(*args, c.byref(error)) < 0:
        text = lib.undiffuse_error_message(error).decode()
        lib.undiffuse_error_free(error)
        raise RuntimeError(text)


def options(kind, struct):
    """The defaults: a struct that ends early is one of an older program, and the library fills in the rest."""
    o = struct()
    if getattr(lib, f"undiffuse_{kind}_options_init")(c.byref(o), c.c_size_t(c.sizeof(o))) < 0:
        raise RuntimeError(f"the library knows no {kind} options of {c.sizeof(o)} bytes")
    return o


def sample(path, count, seed=0, first_sample=0, steps=20):
    """`count` samples from number `first_sample` on of `seed`, as one array of floats."""
    model, sampler = c.c_void_p(), c.c_void_p()
    try:
        call("undiffuse_model_load", path.encode(), None, c.byref(model))
        info = ModelInfo(struct_size=c.sizeof(ModelInfo))
        call("undiffuse_model_get_info", model, c.byref(info))
        how = options("sampler", SamplerOptions)
        how.kind, how.steps = DDIM, steps
        call("undiffuse_sampler_from_model", model, c.byref(how), c.byref(sampler))
        o = options("session", SessionOptions)
        o.batch, o.seed, o.first_sample, o.thread_count = count, seed, first_sample, 1
        out = (c.c_float * (count * info.sample_len))()
        call("undiffuse_sample", model, sampler, None, c.byref(o), out, c.c_size_t(len(out)))
        return out
    finally:
        lib.undiffuse_sampler_free(sampler)
        lib.undiffuse_model_free(model)


if __name__ == "__main__":
    image = sample(sys.argv[1], 1, seed=1)
    for y in range(0, 28, 2):
        print("".join(" .:-=+*#%@"[min(9, int((max(-1, v) + 1) * 4.5))] for v in image[y * 28 : y * 28 + 28]))
