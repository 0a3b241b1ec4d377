"""Golden trajectories of every sampler: with given noise and an exact denoiser, over a pairwise cover of the options.

Made with diffusers 0.42.1, torch 2.15.0 (CPU), numpy 2.4.6, scipy 1.17.1 (LMS and the beta sigmas use it) and safetensors 0.8.0;
torchsde 0.2.6 must be there, since diffusers imports it for two classes, but no tree of it is used. No download. Run by hand from
the repository root:

    python tests/golden/make_samplers.py

It writes tests/golden/samplers.json (the cases) and tests/golden/samplers.safetensors (their arrays, one after the other in the
order of the cases).

Each case is run twice: as diffusers is (state and coefficients in f32) and with every float32 in the source of its scheduler read
as float64, which shows its equations to 1e-15. Each scheduler is made from a file that save_pretrained wrote.

samplers.json:
  defaults   class -> what save_pretrained writes for the class's own defaults (lambda_min_clipped: -Infinity is left out: it is no
             JSON, and the default). A case's file is {"_class_name": class, **defaults[class], **config}.
  cases      class, config, `set` (the arguments of set_timesteps), `step` (the options of step), `prediction` (what the denoiser
             gives, see below), and the counts `calls`, `draws`, `sigmas`, `timesteps`; `brownian`: each draw is the increment over
             an interval of sigma, divided by the root of its length; `begin_index`: set_begin_index(0) was called, without which
             diffusers raises (see refusals); `solver_p`: the class of UniPC's predictor, made from the same configuration;
             `f32_differs`: by how much diffusers parts from the f64 run, and from an f64 run with the betas and alphas of f32
             (greatest |difference| of x, over max(1, |x|)).
  refusals   what diffusers raises for: class, config, set, steps, where (init, set_timesteps, step), error, message.
  nonfinite  what diffusers answers with NaN or infinities, without an error.

samplers.safetensors (f64 run; a name that ends in _f32: diffusers as it is):
  timesteps, sigmas      as after set_timesteps, all of them (sigmas with the final one; none for classes without). The timesteps
                         are diffusers' own, in f32; a case has `timesteps_f64` where the f64 run's differ (it cuts 998.9999 to 998)
  init                   init_noise_sigma after set_timesteps, one a case
  levels      [call, 2]  alpha, sigma of each call: the network's input is scale * x = alpha x_0 + sigma eps, where scale is
                         alpha in the cases that say `scaled`, and 1 in the others
  x           [call, 2]  the first two channels of the first sample after each call of step
  x_f32       [call, 6]  x of both samples, each with 3 channels of 1 x 1
  intervals   [draw, 2]  for `brownian` cases: the sigmas between which the draw is taken

Start and noise, in order of draws, come from pcg.py: x_T = init * uniform(3, 1, 6, ROOT3); draw k = uniform(3, 2 + k, 6, ROOT3).

The denoiser: channel c has the prior 0.3 N(-0.6 + 0.1 c, 0.25^2) + 0.7 N(0.5 - 0.1 c, 0.4^2). With y = scale * x, v_i = (alpha s_i)^2
+ sigma^2, r_i the softmax of ln w_i - ln(v_i) / 2 - (y - alpha m_i)^2 / (2 v_i) and q_i = (y - alpha m_i) / v_i:
x0 = sum r_i (m_i + alpha s_i^2 q_i), eps = sigma sum r_i q_i. All in f64; the output is rounded once where the run is in f32.
  epsilon: eps. sample: x0. v_prediction: alpha eps - sigma x0. flow_prediction: eps - x0. score: -eps / sigma. neg_epsilon: -eps.
  edm: (x0 - c_skip x) / c_out with c_skip = d^2 / (s^2 + d^2), c_out = s d / sqrt(s^2 + d^2), s = sigma / alpha, d = sigma_data;
  edm_v: minus that.
A learned variance follows in 3 further channels, with the value 0.2 + 0.1 c in channel c.
"""

import importlib
import itertools
import json
import math
import pathlib
import sys
import tempfile
import types
import warnings

import diffusers
import numpy as np
import torch
from diffusers.utils import logging
from safetensors.numpy import save_file

from pcg import uniform

assert diffusers.__version__ == "0.42.1"
logging.set_verbosity_error()
warnings.simplefilter("ignore")

ROOT3 = 3.0**0.5
SHAPE = (2, 3, 1, 1)
WEIGHTS, SPREADS = (0.3, 0.7), (0.25, 0.4)
MEANS = [-0.6 + 0.1 * np.arange(3.0), 0.5 - 0.1 * np.arange(3.0)]


# --- the denoiser ------------------------------------------------------------------------------------------------------


def posterior(y, alpha, sigma):
    """E[x_0] and E[eps] of y = alpha x_0 + sigma eps, [2, 3, 1, 1] in f64."""
    y = y.reshape(2, 3)
    logs, qs = [], []
    for w, m, s in zip(WEIGHTS, MEANS, SPREADS):
        v = (alpha * s) ** 2 + sigma**2
        qs.append((y - alpha * m) / v)
        logs.append(math.log(w) - 0.5 * math.log(v) - (y - alpha * m) ** 2 / (2 * v))
    top = np.maximum(*logs)
    rs = [np.exp(a - top) for a in logs]
    total = rs[0] + rs[1]
    rs = [r / total for r in rs]
    x0 = sum(r * (m + alpha * s * s * q) for r, m, s, q in zip(rs, MEANS, SPREADS, qs))
    eps = sigma * sum(r * q for r, q in zip(rs, qs))
    return x0.reshape(SHAPE), eps.reshape(SHAPE)


def predict(x, level, prediction, learned, sigma_data):
    scale, alpha, sigma = level
    x = x.numpy().astype(np.float64)
    x0, eps = posterior(scale * x, alpha, sigma)
    if prediction.startswith("edm"):
        s = sigma / alpha
        c_skip = sigma_data**2 / (s**2 + sigma_data**2)
        c_out = s * sigma_data / (s**2 + sigma_data**2) ** 0.5
        out = (x0 - c_skip * x) / (-c_out if prediction == "edm_v" else c_out)
    else:
        out = {
            "epsilon": lambda: eps,
            "sample": lambda: x0,
            "v_prediction": lambda: alpha * eps - sigma * x0,
            "flow_prediction": lambda: eps - x0,
            "score": lambda: -eps / sigma,
            "neg_epsilon": lambda: -eps,
        }[prediction]()
    if learned:
        variance = np.broadcast_to((0.2 + 0.1 * np.arange(3.0)).reshape(1, 3, 1, 1), SHAPE)
        out = np.concatenate([out, variance], axis=1)
    return torch.from_numpy(out).to(torch.get_default_dtype())


# --- diffusers in f32 and in f64 ---------------------------------------------------------------------------------------


def in_f64(module):
    """The module anew, from its source with f64 for f32."""
    source = pathlib.Path(module.__file__).read_text()
    source = source.replace("torch.float32", "torch.float64").replace("np.float32", "np.float64")
    other = types.ModuleType(module.__name__ + "_f64")
    other.__package__ = module.__package__
    other.__file__ = module.__file__
    sys.modules[other.__name__] = other
    exec(compile(source, module.__file__, "exec"), other.__dict__)
    return other


MODULES = {}


def modules_of(name):
    found = getattr(diffusers.schedulers, name, None) or getattr(diffusers.schedulers.deprecated, name)
    if found.__module__ not in MODULES:
        module = importlib.import_module(found.__module__)
        MODULES[found.__module__] = (module, in_f64(module))
    return found, MODULES[found.__module__]


class Given:
    """Stands in for randn_tensor and for the Brownian tree's sampler: draw k is stream 2 + k of the recipe."""

    def __init__(self):
        self.reset()

    def reset(self):
        self.draws, self.intervals = 0, []

    def __call__(self, shape, dtype=None, **_):
        assert math.prod(shape) == 6, shape
        z = uniform(3, 2 + self.draws, 6, ROOT3).reshape(SHAPE)
        self.draws += 1
        return torch.from_numpy(z).to(dtype or torch.get_default_dtype())

    def tree(self, *_, **__):
        def between(sigma, sigma_next):
            self.intervals.append([float(sigma), float(sigma_next)])
            return self(SHAPE)

        return between


given = Given()


def level_of(s, name, t):
    """Input scale, alpha and sigma of the call that is about to be made."""
    if name in ("DDPMScheduler", "DDPMParallelScheduler", "DDIMScheduler", "DDIMParallelScheduler", "DDIMInverseScheduler",
                "PNDMScheduler", "LCMScheduler", "TCDScheduler"):
        abar = float(s.alphas_cumprod[int(t)])
        return 1.0, math.sqrt(abar), math.sqrt(1 - abar)
    if name == "IPNDMScheduler":
        if s.step_index is None:
            s._init_step_index(t)
        return 1.0, float(s.alphas[s.step_index]), float(s.betas[s.step_index])
    if s.step_index is None:
        s._init_step_index(t)
    i = s.step_index
    sigma = float(s.sigmas[i])
    if name == "KDPM2DiscreteScheduler" and not s.state_in_first_order:
        sigma = float(s.sigmas_interpol[i])
    if name == "KDPM2AncestralDiscreteScheduler" and not s.state_in_first_order:
        sigma = float(s.sigmas_interpol[i - 1])
    if name == "DPMSolverSDEScheduler" and not s.state_in_first_order:
        sigma = float(s.mid_point_sigma)
    if name.startswith("FlowMatch") or s.config.get("use_flow_sigmas"):
        if s.config.get("invert_sigmas"):
            sigma = 1.0 - sigma
        return 1.0, 1.0 - sigma, sigma
    if name in ("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler", "CosineDPMSolverMultistepScheduler",
                "CMStochasticIterativeScheduler"):
        c = (sigma**2 + s.config.sigma_data**2) ** -0.5
        return c, c, sigma * c
    a = (sigma**2 + 1) ** -0.5
    if name.startswith(("DPMSolverM", "DPMSolverSing", "UniPC", "DEIS", "SASolver")):
        return 1.0, a, sigma * a
    return a, a, sigma * a


def prediction_of(name, config):
    if name in ("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler", "CosineDPMSolverMultistepScheduler"):
        return "edm_v" if config["prediction_type"] == "v_prediction" else "edm"
    fixed = {"CMStochasticIterativeScheduler": "edm", "IPNDMScheduler": "v_prediction", "ScoreSdeVeScheduler": "score",
             "ScoreSdeVpScheduler": "epsilon", "KarrasVeScheduler": "neg_epsilon"}
    if name in fixed:
        return fixed[name]
    return "flow_prediction" if name.startswith("FlowMatch") else config["prediction_type"]


class Stage(Exception):
    pass


def loop(s, name, step_options, model, dtype):
    """The pipeline's loop. Yields x after each call of step."""
    x = torch.from_numpy(uniform(3, 1, 6, ROOT3).reshape(SHAPE)).to(dtype)
    x = x * getattr(s, "init_noise_sigma", 1.0)
    x = x.to(dtype)
    if name == "ScoreSdeVeScheduler":
        for i, t in enumerate(s.timesteps):
            level = (1.0, 1.0, float(s.sigmas[i]))
            for _ in range(s.config.correct_steps):
                x = s.step_correct(model(x, level), x).prev_sample
                yield x
            out = s.step_pred(model(x, level), t, x)
            x = out.prev_sample
            yield x
        return
    if name == "ScoreSdeVpScheduler":
        for t in s.timesteps:
            log_mean = float(-0.25 * t**2 * (s.config.beta_max - s.config.beta_min) - 0.5 * t * s.config.beta_min)
            level = (1.0, math.exp(log_mean), math.sqrt(1 - math.exp(2 * log_mean)))
            x, _ = s.step_pred(model(x, level), x, t)
            yield x
        return
    if name == "KarrasVeScheduler":
        for t in s.timesteps:
            sigma = s.schedule[t]
            sigma_prev = s.schedule[t - 1] if t > 0 else 0
            hat, sigma_hat = s.add_noise_to_input(x, sigma)
            out = s.step(model(hat, (1.0, 1.0, float(sigma_hat))), sigma_hat, sigma_prev, hat)
            x = out.prev_sample
            yield x
            if sigma_prev != 0:
                output = model(x, (1.0, 1.0, float(sigma_prev)))
                x = s.step_correct(output, sigma_hat, sigma_prev, hat, x, out.derivative).prev_sample
                yield x
        return
    for t in s.timesteps:
        y = s.scale_model_input(x, t) if hasattr(s, "scale_model_input") else x
        level = level_of(s, name, t)
        assert torch.allclose(y, x * level[0], rtol=1e-5, equal_nan=True), (name, t, y / x, level)
        out = s.step(model(x, level), t, x, **step_options)
        x = out.prev_sample
        yield x


TABLES = ("betas", "alphas", "alphas_cumprod", "alpha_t", "sigma_t", "lambda_t", "final_alpha_cumprod", "initial_alpha_cumprod")


def run(name, cls, module, folder, case, dtype, tables=None):
    """One run: the arrays of a case. Raises Stage with the place where diffusers raised. `tables`: a scheduler whose tables are
    taken in place of its own."""
    torch.set_default_dtype(dtype)
    module.randn_tensor = given
    module.BrownianTreeNoiseSampler = given.tree
    given.reset()
    where = "init"
    try:
        s = cls.from_pretrained(folder)
        if "solver_p" in case:
            s.solver_p = modules_of(case["solver_p"])[1][dtype == torch.float64].__dict__[case["solver_p"]].from_config(s.config)
        for table in TABLES:
            if tables is not None and hasattr(tables, table) and name != "IPNDMScheduler":
                setattr(s, table, getattr(tables, table).to(dtype))
        where = "set_timesteps"
        s.set_timesteps(**case["set"])
        if name == "ScoreSdeVeScheduler":
            s.set_sigmas(case["set"]["num_inference_steps"])
        timesteps = np.array(s.timesteps.to(torch.float64))
        sigmas = getattr(s, "schedule", None) if name == "KarrasVeScheduler" else getattr(s, "sigmas", None)
        sigmas = np.zeros(0) if sigmas is None else np.array(sigmas.to(torch.float64))
        init = float(getattr(s, "init_noise_sigma", 1.0))
        where = "step"
        if case.get("begin_index"):
            s.set_begin_index(0)
        levels, xs = [], []
        learned = str(s.config.get("variance_type") or "").startswith("learned")

        def model(x, level):
            levels.append(level)
            return predict(x, level, case["prediction"], learned, s.config.get("sigma_data", 1.0))

        for x in loop(s, name, case.get("step", {}), model, dtype):
            assert x.dtype == dtype, x.dtype
            xs.append(x.numpy().reshape(6))
    except Exception as e:
        raise Stage(where, type(e).__name__, str(e)) from e
    finally:
        torch.set_default_dtype(torch.float32)
    return timesteps, sigmas, init, np.array(levels).reshape(-1, 3), np.array(xs).reshape(-1, 6), given.draws, given.intervals


# --- the cases ---------------------------------------------------------------------------------------------------------


def cover(options):
    """A deterministic pairwise cover of the product of `options`: every pair of values of two options stands in some row."""
    names = list(options)
    missing = {
        ((a, i), (b, j))
        for a, b in itertools.combinations(range(len(names)), 2)
        for i in range(len(options[names[a]]))
        for j in range(len(options[names[b]]))
    }
    rows = []
    while missing:
        row = dict(min(missing))
        for a in range(len(names)):
            if a in row:
                continue

            def gain(i):
                pairs = [tuple(sorted([(a, i), (b, j)])) for b, j in row.items()]
                return sum(p in missing for p in pairs)

            turn = 0 if names[a] == "steps" else len(rows)
            row[a] = max(range(len(options[names[a]])), key=lambda i: (gain(i), -((i - turn) % 7)))
        missing -= set(itertools.combinations(sorted(row.items()), 2))
        rows.append({names[a]: options[names[a]][i] for a, i in row.items()})
    return rows


SIGMAS = {"karras": {"use_karras_sigmas": True}, "exponential": {"use_exponential_sigmas": True},
          "beta": {"use_beta_sigmas": True}, "lu": {"use_lu_lambdas": True}, None: {}}
STEPS = [4, 1, 10, 15]
SPACING = ["linspace", "leading", "trailing"]
BETAS = [{}, {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
         {"beta_schedule": "squaredcos_cap_v2"}]
EPV = ["epsilon", "v_prediction", "sample"]
ZERO = [{}, {"rescale_betas_zero_snr": True}]
CLIP = [{}, {"thresholding": True, "sample_max_value": 1.2, "dynamic_thresholding_ratio": 0.9}]
FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}


def rows_of(options):
    """Each row of the cover as (config, set, step)."""
    for row in cover(options):
        config, set_, step = {}, {}, {}
        for key, value in row.items():
            if key == "steps":
                set_["num_inference_steps"] = value
            elif key == "sigmas":
                config |= SIGMAS[value]
            elif key.startswith("@"):
                step |= value
            elif key.startswith("!"):
                set_ |= value
            elif isinstance(value, dict):
                config |= value
            else:
                config[key] = value
        yield config, set_, step


def all_cases():
    plans = []

    def plan(name, options, *more):
        for config, set_, step in rows_of(options):
            plans.append((name, config, set_, step, {}))
        for config, set_, step, *rest in more:
            plans.append((name, config, set_, step, *(rest or [{}])))

    n = lambda k: {"num_inference_steps": k}
    karras4 = [None, "karras", "exponential", "beta"]

    ddpm = {"prediction_type": EPV, "variance_type": ["fixed_small", "fixed_large", "learned_range", "learned", "fixed_small_log"],
            "timestep_spacing": SPACING, "steps": STEPS,
            "clip": [{"clip_sample": False}, {"clip_sample_range": 0.8}, CLIP[1]],
            "betas": BETAS + [{"beta_schedule": "sigmoid"}], "zero": ZERO}
    plan("DDPMScheduler", ddpm, ({}, {"timesteps": [999, 700, 400, 90, 3]}, {}), ({"steps_offset": 1}, n(10), {}))
    plan("DDPMParallelScheduler", {"prediction_type": EPV, "steps": [10, 4]})
    ddim = {"prediction_type": EPV, "timestep_spacing": SPACING, "steps": STEPS,
            "@eta": [{"eta": 0.0}, {"eta": 1.0}, {"eta": 0.5, "use_clipped_model_output": True}],
            "one": [{}, {"set_alpha_to_one": False, "steps_offset": 1}],
            "clip": [{"clip_sample": False}, {"clip_sample_range": 0.8}, CLIP[1]], "betas": BETAS, "zero": ZERO}
    plan("DDIMScheduler", ddim)
    plan("DDIMParallelScheduler", {"prediction_type": EPV, "steps": [10, 4]})
    plan("DDIMInverseScheduler", {"prediction_type": EPV, "timestep_spacing": ["leading", "trailing"], "steps": STEPS,
                                  "one": [{}, {"set_alpha_to_one": False, "steps_offset": 1}],
                                  "clip": [{"clip_sample": False}, {"clip_sample_range": 0.8}], "betas": BETAS, "zero": ZERO},
         ({"timestep_spacing": "linspace"}, n(10), {}))

    kinds = ["dpmsolver++", "sde-dpmsolver++", "dpmsolver", "sde-dpmsolver"]
    dpm = {"solver_order": [2, 3, 1], "solver_type": ["midpoint", "heun"], "algorithm_type": kinds, "steps": STEPS,
           "final": [{}, {"final_sigmas_type": "sigma_min"}], "sigmas": [*karras4, "lu"], "timestep_spacing": SPACING,
           "prediction_type": EPV, "lower": [{}, {"lower_order_final": False}, {"euler_at_final": True}], "betas": BETAS,
           "zero": ZERO}
    more = []
    # Each solver by itself, with the defaults otherwise: orders 1 to 3, both kinds, all four algorithms.
    for kind, order, solver in itertools.product(kinds, [1, 2, 3], ["midpoint", "heun"]):
        final = {} if kind.endswith("++") else {"final_sigmas_type": "sigma_min"}
        more.append(({"algorithm_type": kind, "solver_order": order, "solver_type": solver, **final}, n(10), {}))
    more += [
        ({"variance_type": "learned_range"}, n(4), {}),
        ({"variance_type": "learned", "algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"}, n(4), {}),
        ({**CLIP[1]}, n(10), {}),
        ({**CLIP[1], "algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"}, n(10), {}),
        ({"lambda_min_clipped": -5.1, "beta_schedule": "squaredcos_cap_v2"}, n(10), {}),
        ({"algorithm_type": "deis", "solver_type": "bh2"}, n(4), {}),
        ({"steps_offset": 1, "timestep_spacing": "leading"}, n(10), {}),
        ({}, {"timesteps": [999, 800, 500, 300, 100, 20]}, {}),
        ({**FLOW}, n(4), {}), ({**FLOW, "flow_shift": 3.0}, n(10), {}),
        ({**FLOW, "flow_shift": 3.0, "algorithm_type": "sde-dpmsolver++"}, n(10), {}),
        ({**FLOW, "flow_shift": 3.0, "solver_order": 3}, n(15), {}),
        ({**FLOW, "use_dynamic_shifting": True}, {**n(4), "mu": 0.7}, {}),
        ({"use_karras_sigmas": True, "use_beta_sigmas": True}, n(4), {}),
        ({"use_karras_sigmas": True}, {"timesteps": [999, 500]}, {}),
    ]
    plan("DPMSolverMultistepScheduler", dpm, *more)

    inverse = dict(dpm)
    inverse.pop("final"), inverse.pop("zero")
    inverse |= {"sigmas": karras4, "timestep_spacing": SPACING}
    plan("DPMSolverMultistepInverseScheduler", inverse)

    single = {k: dpm[k] for k in ("solver_order", "solver_type", "steps", "final", "prediction_type", "betas")}
    single |= {"algorithm_type": kinds[:3], "sigmas": karras4, "lower": [{}, {"lower_order_final": True}]}
    more = []
    for kind, order, solver in itertools.product(kinds[:3], [1, 2, 3], ["midpoint", "heun"]):
        more.append(({"algorithm_type": kind, "solver_order": order, "solver_type": solver, "lower_order_final": True,
                      "final_sigmas_type": "sigma_min"}, n(10), {}))
    more += [({"solver_order": k, "final_sigmas_type": "sigma_min"}, n(m), {}) for k, m in [(2, 4), (3, 6), (3, 9), (3, 10), (3, 8)]]
    more += [({**CLIP[1]}, n(4), {}), ({"variance_type": "learned_range"}, n(4), {}), ({**FLOW, "flow_shift": 3.0}, n(4), {}),
             ({}, {"timesteps": [999, 600, 300, 100]}, {})]
    plan("DPMSolverSinglestepScheduler", single, *more)

    plan("DPMSolverSDEScheduler", {"sigmas": karras4, "prediction_type": EPV, "timestep_spacing": SPACING, "steps": STEPS,
                                   "betas": BETAS})

    unipc = {"solver_order": [2, 3, 1, 4], "solver_type": ["bh2", "bh1"], "predict_x0": [True, False], "sigmas": karras4,
             "prediction_type": EPV, "timestep_spacing": SPACING, "steps": STEPS, "lower": [{}, {"lower_order_final": False}],
             "off": [{}, {"disable_corrector": [0, 1, 2]}], "final": [{}, {"final_sigmas_type": "sigma_min"}], "betas": BETAS,
             "zero": ZERO}
    # B(h) = h (bh1) and the prediction of noise give NaN where the last sigma is 0.
    more = [({"solver_order": k, "solver_type": b, "predict_x0": p, **({} if b == "bh2" and p else {"final_sigmas_type": "sigma_min"})},
             n(10), {}) for k, b, p in itertools.product([1, 2, 3, 4], ["bh1", "bh2"], [True, False])]
    more += [({"solver_type": "bh1"}, n(4), {}), ({"predict_x0": False}, n(4), {})]
    more += [
        ({**CLIP[1]}, n(10), {}),
        ({**FLOW, "flow_shift": 3.0}, n(4), {}),
        ({**FLOW, "flow_shift": 3.0, "solver_order": 3, "final_sigmas_type": "sigma_min"}, n(10), {}),
        ({**FLOW, "use_dynamic_shifting": True}, {**n(4), "mu": 0.7}, {}),
        ({**FLOW, "use_dynamic_shifting": True, "time_shift_type": "linear"}, {**n(4), "mu": 1.7}, {}),
        ({**FLOW, "shift_terminal": 0.1}, n(4), {}),
        ({**FLOW, "use_karras_sigmas": True}, n(4), {}),
        ({**FLOW}, {"sigmas": [1.0, 0.7, 0.3]}, {}),
        ({}, {"sigmas": [10.0, 1.0]}, {}),
        ({"shift_terminal": 0.1}, n(4), {}),
        ({**FLOW, "use_dynamic_shifting": True}, n(4), {}),
        ({"sigma_min": 0.05, "sigma_max": 20.0, "use_karras_sigmas": True}, n(4), {}),
        ({"solver_order": 2}, n(10), {}, {"solver_p": "DPMSolverMultistepScheduler"}),
        ({"solver_order": 3, "disable_corrector": [0]}, n(4), {}, {"solver_p": "UniPCMultistepScheduler"}),
    ]
    plan("UniPCMultistepScheduler", unipc, *more)

    deis = {"solver_order": [2, 3, 1], "sigmas": karras4, "prediction_type": EPV, "timestep_spacing": SPACING, "steps": STEPS,
            "lower": [{}, {"lower_order_final": False}], "clip": CLIP, "betas": BETAS}
    plan("DEISMultistepScheduler", deis, ({**FLOW, "flow_shift": 3.0}, n(4), {}),
         *[({"solver_order": k}, n(10), {}) for k in (1, 2, 3)], ({"algorithm_type": "dpmsolver++", "solver_type": "midpoint"}, n(4), {}))

    churn = [{}, {"s_churn": 3.0, "s_noise": 1.007}, {"s_churn": 40.0, "s_tmin": 0.05, "s_tmax": 10.0}]
    euler = {"sigmas": karras4, "prediction_type": EPV, "timestep_spacing": SPACING, "steps": STEPS, "betas": BETAS, "zero": ZERO,
             "final": [{}, {"final_sigmas_type": "sigma_min"}], "@churn": churn}
    plan("EulerDiscreteScheduler", euler,
         ({"interpolation_type": "log_linear"}, n(10), {}),
         ({"timestep_type": "continuous", "prediction_type": "v_prediction", "use_karras_sigmas": True, "sigma_min": 0.002,
           "sigma_max": 80.0}, n(10), {}),
         ({"steps_offset": 1, "timestep_spacing": "leading"}, n(10), {}),
         ({}, {"sigmas": [10.0, 5.0, 1.0]}, {}), ({}, {"timesteps": [999, 500, 100]}, {}),
         ({"use_karras_sigmas": True}, {"timesteps": [999, 500, 100]}, {}))
    plan("EulerAncestralDiscreteScheduler", {"prediction_type": EPV[:2], "timestep_spacing": SPACING, "steps": STEPS,
                                             "betas": BETAS, "zero": ZERO}, ({"prediction_type": "sample"}, n(4), {}))
    plan("HeunDiscreteScheduler", {"sigmas": karras4, "prediction_type": EPV, "timestep_spacing": SPACING, "steps": STEPS,
                                   "betas": BETAS + [{"beta_schedule": "exp"}], "clip": [{}, {"clip_sample": True, "clip_sample_range": 0.8}]},
         ({}, {"timesteps": [999, 500, 100]}, {}))
    for name in ("KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler"):
        plan(name, {"sigmas": karras4, "prediction_type": EPV[:2], "timestep_spacing": SPACING, "steps": STEPS, "betas": BETAS},
             ({"prediction_type": "sample"}, n(4), {}))
    plan("LMSDiscreteScheduler", {"sigmas": karras4, "prediction_type": EPV, "timestep_spacing": SPACING, "steps": STEPS,
                                  "@order": [{}, {"order": 1}, {"order": 3}], "betas": BETAS})
    plan("PNDMScheduler", {"skip_prk_steps": [True, False], "prediction_type": EPV[:2], "timestep_spacing": SPACING,
                           "steps": STEPS, "one": [{}, {"set_alpha_to_one": True}, {"steps_offset": 1}], "betas": BETAS},
         ({"prediction_type": "sample"}, n(4), {}), ({"prediction_type": "sample", "skip_prk_steps": True}, n(4), {}))
    plan("IPNDMScheduler", {"steps": [*STEPS, 2, 3, 5], "none": [{}]}, ({"trained_betas": [1.0, 0.8, 0.5, 0.3, 0.0]}, n(4), {}))

    edm = {"sigma_schedule": ["karras", "exponential"], "prediction_type": EPV[:2], "steps": STEPS,
           "final": [{}, {"final_sigmas_type": "sigma_min"}], "range": [{}, {"sigma_min": 0.01, "sigma_max": 50.0, "rho": 5.0, "sigma_data": 1.0}]}
    plan("EDMEulerScheduler", {**edm, "@churn": churn})
    plan("EDMDPMSolverMultistepScheduler", {**edm, "solver_order": [2, 3, 1], "solver_type": ["midpoint", "heun"],
         "algorithm_type": kinds[:2], "lower": [{}, {"lower_order_final": False}, {"euler_at_final": True}], "clip": CLIP},
         ({"prediction_type": "sample"}, n(4), {}), ({"algorithm_type": "dpmsolver"}, n(4), {}))
    edm["range"] = [{}, {"sigma_min": 0.01, "sigma_max": 50.0, "rho": 5.0, "sigma_data": 0.5}]
    plan("CosineDPMSolverMultistepScheduler", {**edm, "solver_order": [2, 1], "solver_type": ["midpoint", "heun"],
         "lower": [{}, {"lower_order_final": False}, {"euler_at_final": True}]}, ({"solver_order": 3}, n(4), {}))

    plan("KarrasVeScheduler", {"steps": [10, 4], "churn": [{}, {"s_churn": 5.0, "s_noise": 1.0, "s_min": 0.0, "s_max": 1e6}],
                               "range": [{}, {"sigma_min": 0.1, "sigma_max": 8.0}]}, ({}, n(1), {}))
    plan("ScoreSdeVeScheduler", {"steps": [10, 4], "correct_steps": [1, 2], "range": [{}, {"sigma_max": 50.0, "snr": 0.075}]},
         ({}, n(1), {}))
    plan("ScoreSdeVpScheduler", {"steps": [10, 4, 15], "range": [{}, {"beta_min": 0.2, "beta_max": 12.0, "sampling_eps": 1e-2}]},
         ({}, n(1), {}))

    lcm = {"prediction_type": EPV, "steps": [4, 10, 15, 1], "clip": [{}, {"clip_sample": True, "clip_sample_range": 0.8}, CLIP[1]],
           "original_inference_steps": [50, 20], "betas": [{}, *BETAS[2:]], "zero": ZERO}
    plan("LCMScheduler", {**lcm, "timestep_scaling": [10.0, 3.0]}, ({}, n(60), {}), ({}, {"timesteps": [999, 759, 499, 259]}, {}),
         ({}, {"num_inference_steps": 4, "original_inference_steps": 30}, {}))
    plan("TCDScheduler", {**lcm, "@eta": [{}, {"eta": 0.0}, {"eta": 1.0}], "one": [{}, {"set_alpha_to_one": False}]},
         ({}, {"num_inference_steps": 4, "original_inference_steps": 30}, {}), ({}, n(60), {}))
    plan("CMStochasticIterativeScheduler", {"steps": STEPS, "clip_denoised": [True, False], "s_noise": [1.0, 1.3],
                                            "num_train_timesteps": [40, 201]}, ({}, n(41), {}), ({}, {"timesteps": [22, 0]}, {}))

    flow = {"shift": [1.0, 3.0], "sigmas": karras4, "steps": STEPS, "kind": [{}, {"shift_terminal": 0.1}],
            "stochastic": [{}, {"stochastic_sampling": True}]}
    dynamic = [({"use_dynamic_shifting": True}, {**n(4), "mu": 0.7}, {}),
               ({"use_dynamic_shifting": True, "time_shift_type": "linear"}, {**n(10), "mu": 1.7}, {}),
               ({"use_dynamic_shifting": True}, n(4), {}),
               ({"shift": 3.0}, {"sigmas": [1.0, 0.7, 0.3]}, {}), ({"shift": 3.0}, {"timesteps": [1000.0, 700.0, 300.0]}, {}),
               ({"use_karras_sigmas": True, "use_beta_sigmas": True}, n(4), {})]
    plan("FlowMatchEulerDiscreteScheduler", flow, *dynamic, ({"invert_sigmas": True, "shift": 3.0}, n(4), {}))
    plan("FlowMatchHeunDiscreteScheduler", {"shift": [1.0, 3.0], "steps": STEPS, "@churn": churn[:2]})
    flow.pop("stochastic")
    plan("FlowMatchLCMScheduler", flow, *dynamic)

    sa = {"predictor_order": [2, 1, 3], "corrector_order": [2, 3, 1, 4], "algorithm_type": ["data_prediction", "noise_prediction"],
          "sigmas": karras4, "prediction_type": EPV, "timestep_spacing": SPACING, "steps": STEPS,
          "lower": [{}, {"lower_order_final": False}], "betas": BETAS}
    plan("SASolverScheduler", sa, ({**CLIP[1]}, n(10), {}), ({**FLOW, "flow_shift": 3.0}, n(4), {}),
         *[({"predictor_order": p, "corrector_order": c}, n(10), {}) for p, c in [(1, 1), (2, 2), (3, 3), (3, 4), (2, 3), (4, 4)]])
    return plans


# --- all of it ---------------------------------------------------------------------------------------------------------


def saved(cls, config, folder):
    """What save_pretrained writes, as a dict of the class's own keys."""
    cls(**config).save_pretrained(folder)
    text = (pathlib.Path(folder) / "scheduler_config.json").read_text()
    file = json.loads(text)
    return {k: v for k, v in file.items() if not k.startswith("_") and v != -math.inf}


def main():
    defaults, cases, refusals, nonfinite = {}, [], [], []
    kept = {k: [] for k in ("timesteps", "sigmas", "sigmas_f32", "init", "init_f32", "levels",
                            "x", "x_f32", "intervals")}
    worst = {}
    seen = set()
    plans = all_cases()
    for name, config, set_, step, extra in plans:
        key = json.dumps([name, config, set_, step, extra], sort_keys=True)
        if key in seen:
            continue
        seen.add(key)
        cls, (f32, f64) = modules_of(name)
        case = {"class": name, "config": config, "set": set_, **({"step": step} if step else {}), **extra}
        with tempfile.TemporaryDirectory() as folder:
            if name not in defaults:
                defaults[name] = saved(cls, {}, folder)
            try:
                file = saved(cls, config, folder)
            except Exception as e:
                refusals.append({**case, "where": "init", "error": type(e).__name__, "message": str(e)[:60]})
                continue
            case["config"] = {k: v for k, v in file.items() if k not in defaults[name] or defaults[name][k] != v}
            case["prediction"] = prediction_of(name, file)
            try:
                a = run(name, cls, f32, folder, case, torch.float32)
                b = run(name, f64.__dict__[name], f64, folder, case, torch.float64)
                mixed = run(name, f64.__dict__[name], f64, folder, case, torch.float64, cls.from_pretrained(folder))
            except Stage as e:
                where, error, message = e.args
                refusals.append({**case, "where": where, "error": error, "message": message[:60]})
                # A first timestep that stands in the list twice: diffusers starts at the second, and has then one sigma too few.
                if where == "step" and "out of bounds" in message or error == "AssertionError" and not extra:
                    plans.append((name, config, set_, step, {"begin_index": True}))
                continue
        if not (np.isfinite(a[4]).all() and np.isfinite(b[4]).all()):
            bad = [bool(np.isfinite(r[4]).all()) for r in (a, b)]
            nonfinite.append({**case, "first": int(np.argmin(np.isfinite(a[4]).all(axis=1))), "finite": bad})
            continue
        assert a[5] == b[5] and a[4].shape == b[4].shape
        scale = np.maximum(1.0, np.abs(b[4]).max(axis=1, keepdims=True))
        d, e = (float((np.abs(a[4] - r[4]) / scale).max()) for r in (b, mixed))
        worst[name] = np.maximum(worst.get(name, 0.0), [d, e])
        scaled = bool(len(b[3]) and b[3][0, 0] == b[3][0, 1] and b[3][0, 0] != 1.0)
        case |= {**({"scaled": True} if scaled else {}), "timesteps": len(a[0]), "sigmas": len(a[1]), "calls": len(a[3]), "draws": a[5],
                 "f32_differs": [float(f"{d:.1e}"), float(f"{e:.1e}")]}
        assert len(a[3]) == len(a[4])
        if b[6]:
            case["brownian"] = True
            assert len(b[6]) == b[5]
        cases.append(case)
        kept["timesteps"].append(a[0].astype(np.float32))
        if np.abs(a[0] - b[0]).max() > 1e-3:
            case["timesteps_f64"] = b[0].tolist()
        kept["sigmas"].append(b[1]), kept["sigmas_f32"].append(a[1].astype(np.float32))
        kept["init"].append([b[2]]), kept["init_f32"].append(np.float32([a[2]]))
        assert (b[3][:, 0] == (b[3][:, 1] if scaled else 1.0)).all()
        kept["levels"].append(b[3][:, 1:])
        kept["x"].append(b[4][:, :2]), kept["x_f32"].append(a[4].astype(np.float32))
        kept["intervals"].append(np.array(b[6]).reshape(-1, 2))
    arrays = {k: np.concatenate(v) for k, v in kept.items()}
    folder = pathlib.Path(__file__).parent
    save_file(arrays, folder / "samplers.safetensors")
    lines = lambda rows: "[\n" + ",\n".join(json.dumps(r, separators=(",", ":")) for r in rows) + "\n]"
    text = '{"defaults":{\n' + ",\n".join(f"{json.dumps(k)}:{json.dumps(v, separators=(',', ':'))}" for k, v in defaults.items())
    text += '\n},\n"cases":' + lines(cases) + ',\n"refusals":' + lines(refusals) + ',\n"nonfinite":' + lines(nonfinite) + "}\n"
    (folder / "samplers.json").write_text(text)
    json.loads(text)
    for name, d in worst.items():
        print(f"{name:40} {sum(c['class'] == name for c in cases):3} cases, f32 from f64 by {d[0]:.1e}, with f32 tables {d[1]:.1e}")
    print(len(cases), "cases,", len(refusals), "refusals,", len(nonfinite), "not finite;",
          (folder / "samplers.json").stat().st_size, (folder / "samplers.safetensors").stat().st_size, "bytes")


if __name__ == "__main__":
    main()
