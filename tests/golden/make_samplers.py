"""Golden trajectories of every sampler: with given noise and an exact denoiser, over a pairwise cover of the options.

Made with diffusers 0.42.1, torch 2.15.0 (CPU), numpy 2.4.6, scipy 1.17.1 (LMS and the beta sigmas use it) and safetensors 0.8.0;
torchsde 0.2.6 must be there, since diffusers imports it for two classes, but no tree of it is used. No download. Run by hand from
the repository root:

    python tests/golden/make_samplers.py

The cases are those of sampler_cases.py. It writes tests/golden/samplers.json (the cases) and tests/golden/samplers.safetensors (their arrays, one after the other in the
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
ScoreSdeVe and ScoreSdeVp end with the mean of the last step, as their pipelines do. The corrections of ScoreSdeVe, which diffusers sizes by
means over the batch, are made for each sample by itself, as in a batch of one.

A learned variance follows in 3 further channels, with the value 0.2 + 0.1 c in channel c.
"""

import importlib
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
from sampler_cases import all_cases

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
        self.draws, self.intervals, self.only = 0, [], None

    def __call__(self, shape, dtype=None, **_):
        assert math.prod(shape) == (6 if self.only is None else 3), shape
        z = uniform(3, 2 + self.draws, 6, ROOT3).reshape(SHAPE)
        if self.only is not None:
            z = z[self.only : self.only + 1]
        # The draw of one sample is a part of that of both.
        self.draws += self.only != 0
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
                score, parts = model(x, level), []
                for given.only in range(2):
                    one = slice(given.only, given.only + 1)
                    parts.append(s.step_correct(score[one], x[one]).prev_sample)
                given.only = None
                x = torch.cat(parts)
                yield x
            out = s.step_pred(model(x, level), t, x)
            x = out.prev_sample_mean if i + 1 == len(s.timesteps) else out.prev_sample
            yield x
        return
    if name == "ScoreSdeVpScheduler":
        for i, t in enumerate(s.timesteps):
            log_mean = float(-0.25 * t**2 * (s.config.beta_max - s.config.beta_min) - 0.5 * t * s.config.beta_min)
            level = (1.0, math.exp(log_mean), math.sqrt(1 - math.exp(2 * log_mean)))
            x, mean = s.step_pred(model(x, level), x, t)
            yield mean if i + 1 == len(s.timesteps) else x
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
