"""The cases of make_samplers.py: for every class of diffusers a pairwise cover of its options, and what is wanted besides."""

import itertools


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
