/*
 * undiffuse: runs pretrained diffusion models, the reverse chain and posterior-perturbed
 * sampling.
 *
 * This file is generated from ffi/src; see ffi/cbindgen.toml. It needs C99 or C++11, or later.
 *
 * A first program, which draws 36 digits as `undiffuse sample` does, UniPC with 20 steps:
 *
 *     #include <stdio.h>
 *     #include <undiffuse.h>
 *
 *     static float images[36 * 28 * 28];
 *
 *     int main(int argc, char **argv) {
 *       const char *path = argc > 1 ? argv[1] : "digits.safetensors";
 *       undiffuse_model *model = NULL;
 *       undiffuse_session_options options;
 *       undiffuse_error *error = NULL;
 *       int failed;
 *
 *       undiffuse_session_options_init(&options, sizeof options);
 *       options.batch = 16;
 *       failed = undiffuse_model_load(path, NULL, &model, &error) ||
 *                undiffuse_sample(model, NULL, NULL, &options, images, 36 * 28 * 28, &error);
 *       if (failed) fprintf(stderr, "%s\n", undiffuse_error_message(error));
 *       undiffuse_error_free(error);
 *       undiffuse_model_free(model);
 *       if (!failed) {
 *         FILE *out = fopen("digits.f32", "wb");
 *         failed = !out || fwrite(images, sizeof *images, 36 * 28 * 28, out) != 36 * 28 * 28;
 *         if (out) fclose(out);
 *       }
 *       return failed;
 *     }
 *
 * CONVENTIONS
 *
 * Arguments. The object comes first, then inputs, then outputs, and the error last. An array is a
 * pointer followed by its length in elements; it may be NULL if the length is 0. Arrays of floats
 * are row-major with the batch outermost: [count, channels, height, width] for images. Strings are
 * UTF-8.
 *
 * Status. A function that can fail returns an undiffuse_status: 0 for success, positive for an
 * outcome that is not an error, negative for an error. Handles and numbers are written on success
 * only; the contents of arrays that a failed call was to fill are unspecified. Any call may return
 * UNDIFFUSE_INVALID_ARGUMENT, UNDIFFUSE_OUT_OF_MEMORY, UNDIFFUSE_BUSY, UNDIFFUSE_POISONED and
 * UNDIFFUSE_PANIC; each comment names the others to expect. Compilers warn when the status of a
 * function that takes an undiffuse_error is ignored; define UNDIFFUSE_NO_NODISCARD to turn this off.
 *
 * Numbers. NaN and infinity are errors, in what you pass as in what a model or a callback returns:
 * UNDIFFUSE_NON_FINITE for arrays, UNDIFFUSE_INVALID_ARGUMENT for options.
 *
 * Errors. The last argument, undiffuse_error **error, may be NULL. If it is not and the call fails
 * (a negative status), *error is set to a new object that holds a message for people; free it with
 * undiffuse_error_free. If there is no memory for it, *error is set to NULL. The old value of
 * *error is never read, so it need not be initialised, and it is left alone on success. There is no
 * global or per-thread last error.
 *
 * Ownership. You own what a function named _new, _load... or _from... returns, and free it with the
 * _free function of its type, which accepts NULL. You keep ownership of what you pass in; it is not
 * used after the call returns, unless a comment says that it is borrowed for longer. Objects keep
 * alive what they need of one another, so you can free them in any order.
 *
 * Threads. A `const T *` may be used by several threads at once, a `T *` by one thread at a time
 * (any thread); functions that differ say so. A call on an object that another call is changing
 * fails with UNDIFFUSE_BUSY, also from within a callback. There is no global state: objects that
 * share nothing do not affect one another. After a fork the child has only the thread that forked:
 * it must not run a session of its parent that has threads of the library's own.
 *
 * Options. A struct that begins with struct_size can grow. Fill it with its _init function, passing
 * sizeof your struct; where there is no _init function, clear it (= {0}) and set struct_size (each
 * field's comment says what 0 means). Fields that are missing from an older program's struct take
 * their defaults; fields of a newer program that this library does not know must be zero. An enum
 * in a struct is a uint32_t. Numbers that are not among its values are refused, and so are flags
 * other than 0 and 1.
 *
 * Lists and texts. Functions with a buffer and a size_t *len write the required length to *len if
 * the buffer is NULL. Texts that they write are not NUL-terminated.
 *
 * Callbacks. The first argument is your user_data. Callbacks belong to the object that they were
 * given with; none is global. They run on the thread that called the library (except for the tasks
 * of undiffuse_threads) and must not throw or longjmp through it.
 *
 * Memory. Weights and workspaces, the only large blocks, come from malloc or from your allocator or
 * workspace. Handles, tables and texts come from malloc, when handles are made. A session allocates
 * nothing after it is made. If malloc or your allocator fails, the call returns
 * UNDIFFUSE_OUT_OF_MEMORY (without an error object, if there is no memory for one) after freeing
 * what it allocated, and your objects are unchanged. To get that far it reserves 4 MiB of zeroed
 * address space, which takes no physical memory until it is used. A call that makes a handle then
 * also returns UNDIFFUSE_OUT_OF_MEMORY if the call of another thread drew on this reserve meanwhile:
 * the library cannot tell which of the two a block was for, and refuses both. Try again. Two things
 * can still end the process: small allocations of concurrent calls that together exceed
 * the reserve while malloc fails, and an allocation failure while one of the library's own threads
 * starts (with undiffuse_threads, none is started).
 *
 * Bugs. A panic inside the library never unwinds into your code: the call returns UNDIFFUSE_PANIC,
 * and the objects that it was using refuse further calls with UNDIFFUSE_POISONED but can be freed.
 *
 * Unloading. The library installs no signal or exit handlers, keeps no threads except those of
 * sessions that have not been freed, and opens no GPU driver until a GPU backend is requested.
 *
 * Results. On the CPU a sample has the same bits for any batch, number of threads and shard, on all
 * machines where undiffuse_session_describe names the same kernels.
 */

#ifndef UNDIFFUSE_H
#define UNDIFFUSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/**
 * Stands before every function. Define UNDIFFUSE_SHARED where a Windows program uses the DLL, or
 * define this macro yourself.
 */
#ifndef UNDIFFUSE_API
#if defined(_WIN32) && defined(UNDIFFUSE_SHARED)
#define UNDIFFUSE_API __declspec(dllimport)
#elif defined(__GNUC__) && !defined(_WIN32)
#define UNDIFFUSE_API __attribute__((visibility("default")))
#else
#define UNDIFFUSE_API
#endif
#endif

/** Stands before every function whose status must not be ignored. */
#if defined(UNDIFFUSE_NO_NODISCARD)
#define UNDIFFUSE_NODISCARD
#elif defined(__cplusplus) && __cplusplus >= 201703L
#define UNDIFFUSE_NODISCARD [[nodiscard]]
#elif defined(__GNUC__) || defined(__clang__)
#define UNDIFFUSE_NODISCARD __attribute__((warn_unused_result))
#elif defined(_Check_return_)
#define UNDIFFUSE_NODISCARD _Check_return_
#else
#define UNDIFFUSE_NODISCARD
#endif

/**
 * Begins an enum that is as wide as `type`: by the language in C++ and C23; in older C, the name
 * stands for the integer type.
 */
#if defined(__cplusplus)
#define UNDIFFUSE_ENUM(name, type) enum name : type
#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 202311L
#define UNDIFFUSE_ENUM(name, type) \
  enum name : type;                \
  typedef enum name name;          \
  enum name : type
#else
#define UNDIFFUSE_ENUM(name, type) \
  typedef type name;               \
  enum name
#endif

/**
 * The ABI that this header describes. It grows when functions, options or values are added; nothing
 * is ever taken away from an ABI that UNDIFFUSE_ABI_OLDEST includes.
 */
#define UNDIFFUSE_ABI_VERSION 1

/** The oldest ABI whose programs run with a library of this version. */
#define UNDIFFUSE_ABI_OLDEST 1

/**
 * The version of the library that this header came with, major * 1000000 + minor * 1000 + patch.
 */
#define UNDIFFUSE_VERSION 1000

/**
 * The draw by which an encoder's distribution of latents is sampled (undiffuse_codec_encode),
 * sample being the image's number: no chain's, whose draws are numbered by its steps.
 */
#define UNDIFFUSE_ENCODER_DRAW 4611686018427387904

/**
 * What a call returns. The values never change; new ones may be added, so treat an unknown one as
 * an error.
 */
UNDIFFUSE_ENUM(undiffuse_status, int32_t) {
  /** Success. */
  UNDIFFUSE_OK = 0,
  /**
   * Not an error: the progress callback asked to stop. The session is at a step boundary and can be
   * continued.
   */
  UNDIFFUSE_STOPPED = 1,
  /**
   * An argument or option is out of its range, NULL where it must not be, or two of them contradict
   * each other.
   */
  UNDIFFUSE_INVALID_ARGUMENT = -1,
  /** A buffer or tensor has the wrong shape or length for the call. */
  UNDIFFUSE_SHAPE = -2,
  /** A model, scheduler or pipeline configuration is malformed or holds an unknown key or value. */
  UNDIFFUSE_CONFIG = -3,
  /**
   * A weight file is malformed, or a tensor in it is missing, unexpected, misshapen or not finite.
   */
  UNDIFFUSE_WEIGHTS = -4,
  /** The request is well formed, but this build or backend does not support it. */
  UNDIFFUSE_UNSUPPORTED = -5,
  /** Reading or writing a file failed. */
  UNDIFFUSE_IO = -6,
  /**
   * A cancel flag was set. The session is at the end of its last complete step and can be
   * continued.
   */
  UNDIFFUSE_CANCELLED = -7,
  /** Memory could not be allocated, or a workspace is too small. */
  UNDIFFUSE_OUT_OF_MEMORY = -8,
  /**
   * A callback of yours returned a failure, or your threads did not do the work they were given.
   */
  UNDIFFUSE_CALLBACK = -9,
  /**
   * NaN or infinity, in an array that you passed or in what a network, callback or evidence
   * returned.
   */
  UNDIFFUSE_NON_FINITE = -10,
  /** The caller's buffer is too small; the required length was written. */
  UNDIFFUSE_BUFFER_TOO_SMALL = -11,
  /** Another call is using this handle, for example the one whose callback is running. */
  UNDIFFUSE_BUSY = -12,
  /** An earlier call on this handle returned UNDIFFUSE_PANIC. It can only be freed. */
  UNDIFFUSE_POISONED = -13,
  /**
   * A bug of this library, caught before it could reach your code. The handles of the call are
   * poisoned.
   */
  UNDIFFUSE_PANIC = -14,
  /** An error for which this version of the ABI has no code; see the message. */
  UNDIFFUSE_OTHER = -15,
  /** A GPU or its driver is missing, failed or was lost. */
  UNDIFFUSE_DEVICE = -16,
};

/** What runs networks. */
UNDIFFUSE_ENUM(undiffuse_backend, uint32_t) {
  /** The CPU, with the fastest kernels that it supports. */
  UNDIFFUSE_BACKEND_CPU = 0,
  /**
   * Plain loops in double precision: the reference that the others are tested against. Only in
   * builds for tests.
   */
  UNDIFFUSE_BACKEND_REFERENCE = 1,
  /** A GPU, through wgpu and Vulkan, in builds that include it. */
  UNDIFFUSE_BACKEND_WGPU = 2,
};

/** Whether a model can also give vector-Jacobian products. */
UNDIFFUSE_ENUM(undiffuse_gradient, uint32_t) {
  /** No. */
  UNDIFFUSE_GRADIENT_NONE = 0,
  /** Fastest: everything that the backward pass needs is kept in the workspace. */
  UNDIFFUSE_GRADIENT_FULL = 1,
  /** About half of that memory: most of the forward pass is computed twice. */
  UNDIFFUSE_GRADIENT_RECOMPUTE = 2,
};

/** What a network computes in, and how it keeps the values between layers. */
UNDIFFUSE_ENUM(undiffuse_precision, uint32_t) {
  /** As 32-bit floats. */
  UNDIFFUSE_PRECISION_F32 = 0,
  /**
   * As 16-bit floats, about 1e-3 relative; arithmetic stays in 32 bits, as do models with
   * gradients. Not on the cpu.
   */
  UNDIFFUSE_PRECISION_F16 = 1,
  /**
   * Convolutions and linear layers of images in 8-bit integers, of a model that `undiffuse pack
   * --calibrate` wrote, on the cpu and the reference backend. Values between layers are bf16;
   * gradients stay in 32 bits.
   */
  UNDIFFUSE_PRECISION_INT8 = 2,
  /**
   * Linear maps and small convolutions of bf16, with AMX (which Linux is asked for) large ones and
   * attention too; sums and all else in 32 bits; not on wgpu. It gains where the processor
   * multiplies bf16 fast: AMX, AMD's AVX-512.
   */
  UNDIFFUSE_PRECISION_BF16 = 3,
};

/**
 * How the CPU keeps the weights of convolutions and linear layers; sums, activations and all other
 * weights are f32. Narrow weights take fewer bytes, and less time where a network's time is that of
 * reading them: few values per weight, as in a policy's 1-D UNet at batch 1.
 */
UNDIFFUSE_ENUM(undiffuse_weight_type, uint32_t) {
  /** 4 bytes. */
  UNDIFFUSE_WEIGHT_F32 = 0,
  /**
   * 2 bytes, rounded to the nearest; exact where the file has f16. A weight beyond 65504 is
   * refused.
   */
  UNDIFFUSE_WEIGHT_F16 = 1,
  /** 2 bytes, rounded to the nearest; exact where the file has bf16. */
  UNDIFFUSE_WEIGHT_BF16 = 2,
  /**
   * 1 byte: s round(w / s), where s is the largest |w| of an output channel divided by 127. With 8
   * and 4 bits, layers of fewer than 16 output channels, or of fewer than 64 weights for each, stay
   * f32.
   */
  UNDIFFUSE_WEIGHT_INT8 = 3,
  /**
   * 9/16 byte: s q, q from -8 to 7; a bf16 s for each 32 of an output channel in the order (ky, kx,
   * input channel).
   */
  UNDIFFUSE_WEIGHT_INT4 = 4,
};

/** How beta depends on t; the names are diffusers'. */
UNDIFFUSE_ENUM(undiffuse_beta_schedule, uint32_t) {
  /** Evenly from beta_start to beta_end. */
  UNDIFFUSE_BETAS_LINEAR = 0,
  /** The square of an even grid from sqrt(beta_start) to sqrt(beta_end). */
  UNDIFFUSE_BETAS_SCALED_LINEAR = 1,
  /** From abar(t) = cos^2((t + 0.008) / 1.008 pi / 2), each at most 0.999. */
  UNDIFFUSE_BETAS_SQUAREDCOS_CAP_V2 = 2,
  /** A sigmoid from beta_start to beta_end. */
  UNDIFFUSE_BETAS_SIGMOID = 3,
  /** From the Laplace signal-to-noise curve. */
  UNDIFFUSE_BETAS_LAPLACE = 4,
  /** From abar(t) = exp(-12 t). */
  UNDIFFUSE_BETAS_EXP = 5,
  /**
   * 1 / (T - t + 1): the 2015 paper's, which erases a constant fraction of the signal's variance in
   * each step.
   */
  UNDIFFUSE_BETAS_ERASING_EVENLY_2015 = 6,
  /** The code of the 2015 paper's authors, without learned coefficients. */
  UNDIFFUSE_BETAS_AUTHORS_2015 = 7,
};

/** The variance of a DDPM step; the names are diffusers'. */
UNDIFFUSE_ENUM(undiffuse_variance_type, uint32_t) {
  /** That of q(x_s | x_t, x_0). */
  UNDIFFUSE_VARIANCE_FIXED_SMALL = 0,
  /** The same, computed through its logarithm. */
  UNDIFFUSE_VARIANCE_FIXED_SMALL_LOG = 1,
  /** beta. */
  UNDIFFUSE_VARIANCE_FIXED_LARGE = 2,
  /** The same, computed through its logarithm. */
  UNDIFFUSE_VARIANCE_FIXED_LARGE_LOG = 3,
  /** The second half of the network's output. */
  UNDIFFUSE_VARIANCE_LEARNED = 4,
  /** The second half of the output interpolates between the logarithms of small and large. */
  UNDIFFUSE_VARIANCE_LEARNED_RANGE = 5,
};

/** What the network was trained to give. */
UNDIFFUSE_ENUM(undiffuse_prediction_type, uint32_t) {
  /** The noise. */
  UNDIFFUSE_PREDICTION_EPSILON = 0,
  /** x_0. */
  UNDIFFUSE_PREDICTION_SAMPLE = 1,
  /** v = alpha eps - sigma x_0. */
  UNDIFFUSE_PREDICTION_V = 2,
  /** The velocity eps - x_0 of a flow. */
  UNDIFFUSE_PREDICTION_FLOW = 3,
};

/** Which of the T timesteps a shorter run visits; the names are diffusers'. */
UNDIFFUSE_ENUM(undiffuse_timestep_spacing, uint32_t) {
  /** 0, r, 2 r, ... with r = T / N rounded down, plus steps_offset. */
  UNDIFFUSE_SPACING_LEADING = 0,
  /** round(linspace(0, T - 1, N)). */
  UNDIFFUSE_SPACING_LINSPACE = 1,
  /** round(T, T - T/N, ...) - 1. */
  UNDIFFUSE_SPACING_TRAILING = 2,
};

/** The reverse process, one network call a step. */
UNDIFFUSE_ENUM(undiffuse_sampler_kind, uint32_t) {
  /** The one that the scheduler's configuration names. */
  UNDIFFUSE_SAMPLER_OF_SCHEDULE = 0,
  /** DDPM (Ho 2020): ancestral sampling. */
  UNDIFFUSE_SAMPLER_DDPM = 1,
  /** DDIM (Song 2020). */
  UNDIFFUSE_SAMPLER_DDIM = 2,
  /**
   * Ancestral steps that also go back in noise (Lugmayr 2022), for the evidence method of that
   * name.
   */
  UNDIFFUSE_SAMPLER_REPAINT = 3,
  /**
   * The Gaussian chain of Sohl-Dickstein et al. 2015, in double precision: every step unless fewer
   * are asked for.
   */
  UNDIFFUSE_SAMPLER_ANCESTRAL_2015 = 4,
  /** The binomial chain of the same paper: samples are bits, as floats that are 0 or 1. */
  UNDIFFUSE_SAMPLER_BITS_2015 = 5,
  /** DDIM from data to noise. Start from a picture, not from noise. */
  UNDIFFUSE_SAMPLER_DDIM_INVERSE = 6,
  /** DPM-Solver and DPM-Solver++ by multiple steps (Lu 2022), also stochastic. */
  UNDIFFUSE_SAMPLER_DPM_SOLVER_MULTISTEP = 7,
  /** The same by single steps. */
  UNDIFFUSE_SAMPLER_DPM_SOLVER_SINGLESTEP = 8,
  /** DPM-Solver++ SDE: two calls a step, noise at both. */
  UNDIFFUSE_SAMPLER_DPM_SOLVER_SDE = 9,
  /** UniPC (Zhao 2023). */
  UNDIFFUSE_SAMPLER_UNIPC = 10,
  /** DEIS (Zhang 2023). */
  UNDIFFUSE_SAMPLER_DEIS = 11,
  /** SA-Solver (Xue 2023). */
  UNDIFFUSE_SAMPLER_SA_SOLVER = 12,
  /** Euler's method in sigma (Karras 2022). */
  UNDIFFUSE_SAMPLER_EULER = 13,
  /** The same with fresh noise at each step. */
  UNDIFFUSE_SAMPLER_EULER_ANCESTRAL = 14,
  /** Heun's method in sigma: two calls a step. */
  UNDIFFUSE_SAMPLER_HEUN = 15,
  /** The midpoint method in sigma: two calls a step. */
  UNDIFFUSE_SAMPLER_KDPM2 = 16,
  /** The same with fresh noise at each step. */
  UNDIFFUSE_SAMPLER_KDPM2_ANCESTRAL = 17,
  /** Linear multistep in sigma, order 4. */
  UNDIFFUSE_SAMPLER_LMS = 18,
  /** PNDM (Liu 2022). */
  UNDIFFUSE_SAMPLER_PNDM = 19,
  /** Adams and Bashforth on a trigonometric schedule. */
  UNDIFFUSE_SAMPLER_IPNDM = 20,
  /** Euler's method for networks behind EDM's preconditioning. */
  UNDIFFUSE_SAMPLER_EDM_EULER = 21,
  /** DPM-Solver++ for such networks. */
  UNDIFFUSE_SAMPLER_EDM_DPM_SOLVER = 22,
  /** Stochastic DPM-Solver++ for such networks. */
  UNDIFFUSE_SAMPLER_COSINE_DPM_SOLVER = 23,
  /** Latent consistency (Luo 2023). */
  UNDIFFUSE_SAMPLER_LCM = 24,
  /** Trajectory consistency (Zheng 2024). */
  UNDIFFUSE_SAMPLER_TCD = 25,
  /** Multistep consistency (Song 2023). */
  UNDIFFUSE_SAMPLER_CM = 26,
  /** Euler's method on a flow (Lipman 2023). */
  UNDIFFUSE_SAMPLER_FLOW_EULER = 27,
  /** Heun's method on a flow. */
  UNDIFFUSE_SAMPLER_FLOW_HEUN = 28,
  /** A flow whose x_0 is noised anew at each step. */
  UNDIFFUSE_SAMPLER_FLOW_LCM = 29,
  /** DPM-Solver++ from data to noise. */
  UNDIFFUSE_SAMPLER_DPM_SOLVER_INVERSE = 30,
  /**
   * EDM's own sampler: Heun's method with noise before each step (Karras et al. 2022, algorithm 2).
   */
  UNDIFFUSE_SAMPLER_EDM_HEUN = 31,
  /** The same of a network that gives -eps. */
  UNDIFFUSE_SAMPLER_KARRAS_VE = 32,
  /** The variance-exploding predictor-corrector (Song et al. 2021). */
  UNDIFFUSE_SAMPLER_SCORE_SDE_VE = 33,
  /** The variance-preserving reverse equation of continuous time (Song et al. 2021). */
  UNDIFFUSE_SAMPLER_SCORE_SDE_VP = 34,
  /**
   * Ancestral steps to x_0, then back into ever less noise and down again, for the evidence method
   * of that name.
   */
  UNDIFFUSE_SAMPLER_SPLIT_GIBBS = 35,
  /** The probability flow by adaptive Runge-Kutta (Dormand and Prince 1980; Song et al. 2021). */
  UNDIFFUSE_SAMPLER_RK45 = 36,
  /**
   * The chain of classes (Austin et al. 2021): samples are one-hot rows, as floats that are 0 or 1;
   * only for a scheduler configuration of its class, D3PMScheduler.
   */
  UNDIFFUSE_SAMPLER_D3PM = 37,
  /**
   * Levels that are drawn anew from x_0, to which each leads in `flow_steps` calls (Zhang et al.
   * 2024): for DAPS.
   */
  UNDIFFUSE_SAMPLER_DECOUPLED_ANNEALING = 38,
  /**
   * Levels at each of which the network is called `gradient_steps` times before the next is drawn
   * anew from x_0 (Alkhouri et al. 2025): for SITCOM.
   */
  UNDIFFUSE_SAMPLER_INPUT_OPTIMIZATION = 39,
};

/** The precision of schedules and of the scalars of a step. */
UNDIFFUSE_ENUM(undiffuse_arithmetic, uint32_t) {
  /** As diffusers on PyTorch computes them, value for value. */
  UNDIFFUSE_ARITHMETIC_FLOAT32 = 0,
  /** Double precision. */
  UNDIFFUSE_ARITHMETIC_FLOAT64 = 1,
};

/** What DDIM's eta is a fraction of. */
UNDIFFUSE_ENUM(undiffuse_ddim_noise, uint32_t) {
  /** The standard deviation of q(x_s | x_t, x_0), as Song 2020 and diffusers say. */
  UNDIFFUSE_DDIM_NOISE_POSTERIOR = 0,
  /** All of the noise in x_s, as DDRM, DDNM and DiffPIR say. */
  UNDIFFUSE_DDIM_NOISE_LEVEL = 1,
};

/** Which timestep a DDIM step leads to. */
UNDIFFUSE_ENUM(undiffuse_ddim_previous, uint32_t) {
  /** t - T / N, as diffusers computes it. */
  UNDIFFUSE_DDIM_PREVIOUS_DIFFUSERS = 0,
  /** The next timestep of the list. */
  UNDIFFUSE_DDIM_PREVIOUS_NEXT = 1,
};

/** What the network of a 2015 chain gives. */
UNDIFFUSE_ENUM(undiffuse_readout_2015, uint32_t) {
  /** Mean and variance as the authors' code reads them: two values for each of a sample's. */
  UNDIFFUSE_READOUT_2015_CODE = 0,
  /** Mean and variance by the paper's equations 64 and 65. */
  UNDIFFUSE_READOUT_2015_PAPER = 1,
  /** One value for each, as prediction_type says. */
  UNDIFFUSE_READOUT_2015_PREDICTION = 2,
};

/** How a 2015 chain ends. */
UNDIFFUSE_ENUM(undiffuse_ending_2015, uint32_t) {
  /** T network calls, the last of which gives its mean (in a binary chain, bits). */
  UNDIFFUSE_ENDING_2015_MEAN = 0,
  /** The original loop: T - 1 calls, each with noise. */
  UNDIFFUSE_ENDING_2015_ORIGINAL = 1,
};

/** Which probability the network of a binary chain predicts. */
UNDIFFUSE_ENUM(undiffuse_bit_prediction, uint32_t) {
  /** That the bit before the step's noise is 1. */
  UNDIFFUSE_BITS_PREVIOUS = 0,
  /** That the bit of x_0 is 1. */
  UNDIFFUSE_BITS_CLEAN = 1,
};

/** Whose formulas a sampler takes where it runs a model that was saved with another. */
UNDIFFUSE_ENUM(undiffuse_compat, uint32_t) {
  /**
   * diffusers', but the model's clip of x_0 holds, and solvers over sigmas spread them from 60 down
   * by Karras's rule unless the configuration says how.
   */
  UNDIFFUSE_COMPAT_USUAL = 0,
  /** diffusers' in everything. */
  UNDIFFUSE_COMPAT_DIFFUSERS = 1,
  /** As usual, with what diffusers has wrong put right: third orders, churn, some grids. */
  UNDIFFUSE_COMPAT_FIXED = 2,
};

/** What a filter sees beyond the edge of an image. */
UNDIFFUSE_ENUM(undiffuse_padding, uint32_t) {
  /** The image mirrored with its edge element repeated. */
  UNDIFFUSE_PADDING_SYMMETRIC = 0,
  /** The image repeated. */
  UNDIFFUSE_PADDING_CIRCULAR = 1,
  /** Zeros. */
  UNDIFFUSE_PADDING_ZERO = 2,
};

/**
 * How a measurement acts on the chain. "VJP" marks those that need a vector-Jacobian product of the
 * network.
 */
UNDIFFUSE_ENUM(undiffuse_method, uint32_t) {
  /**
   * r at every level from the model's own covariance: the posterior, as far as one Gaussian at each
   * level says it. `iterations` VJPs a step. Noise above 0.
   */
  UNDIFFUSE_METHOD_CALIBRATED = 0,
  /**
   * The same with a white prior of `variance`: no VJP. Noise above 0; a sampler that adds noise.
   */
  UNDIFFUSE_METHOD_CALIBRATED_WHITE = 1,
  /** DPS (Chung 2022) with step `zeta` and `misfit`. VJP. */
  UNDIFFUSE_METHOD_DPS = 2,
  /** MCG (Chung 2022) with step `zeta`. No noise. VJP. */
  UNDIFFUSE_METHOD_MCG = 3,
  /** PiGDM (Song 2023) by `pigdm_rule`. VJP. */
  UNDIFFUSE_METHOD_PIGDM = 4,
  /** TMPD. Two VJPs a step. */
  UNDIFFUSE_METHOD_TMPD = 5,
  /** DDRM (Kawar 2022) with `eta_b`. */
  UNDIFFUSE_METHOD_DDRM = 6,
  /** DDNM (Wang 2022). No noise. */
  UNDIFFUSE_METHOD_DDNM = 7,
  /** DDNM+. Noise above 0. */
  UNDIFFUSE_METHOD_DDNM_PLUS = 8,
  /** DiffPIR (Zhu 2023) with weight `lambda`. */
  UNDIFFUSE_METHOD_DIFFPIR = 9,
  /** RePaint (Lugmayr 2022): known elements renoised after each step. A mask, no noise. */
  UNDIFFUSE_METHOD_REPAINT = 10,
  /** Known elements set after each step, by `known`: the 2015 paper's inpainting. A mask. */
  UNDIFFUSE_METHOD_CLAMP = 11,
  /**
   * The exact product of each step's Gaussian with r(x_s), by `r_schedule`: the 2015 paper's
   * denoising.
   */
  UNDIFFUSE_METHOD_EXACT_PRODUCT = 12,
  /**
   * The mean of each step moved by its variance times the gradient of log r, by `r_schedule`. Noise
   * above 0.
   */
  UNDIFFUSE_METHOD_MEAN_SHIFT = 13,
  /**
   * Split Gibbs sampling in groups of `ensemble` samples that are weighed against one another: the
   * posterior for priors of any shape, several modes too, where the number of measured values times
   * the precision is small. `prior_products` VJPs a step. Noise above 0; the batch holds whole
   * groups; the sampler is what undiffuse_evidence_recommend_sampler says. Of mixtures in 2 and 8
   * dimensions 157 to 252 calls are within 4 % of the mean and 2 points of a mode's weight; the
   * calibrated method misses the mean by 18 to 40 %.
   */
  UNDIFFUSE_METHOD_SPLIT_GIBBS = 14,
  /**
   * DAPS (Zhang 2024): each level is drawn anew from x_0, which `langevin_steps` steps of Langevin
   * dynamics draw given y. No VJP. Noise above 0; operators that are not linear too; the sampler is
   * what undiffuse_evidence_recommend_sampler says, or DDIM of eta 1 of the level's noise. Its
   * variance is a guess.
   */
  UNDIFFUSE_METHOD_DAPS = 15,
  /**
   * RED-diff (Mardani 2023): one point for each sample, moved by Adam with `rate` and
   * `red_diff_lambda` to near a mode of the posterior: no variance. No VJP. Operators that are not
   * linear too; samplers as DAPS.
   */
  UNDIFFUSE_METHOD_RED_DIFF = 16,
  /**
   * SITCOM (Alkhouri 2025): at each level the network's input is moved by up to `gradient_steps`
   * steps of Adam with `sitcom_rate` and `sitcom_lambda` until its prediction meets y to
   * `sitcom_stop`: next to no variance where y sees. VJP. Operators that are not linear too; the
   * sampler is what undiffuse_evidence_recommend_sampler says.
   */
  UNDIFFUSE_METHOD_SITCOM = 17,
  /**
   * FPS (Dou 2024): a filter of groups of `fps_ensemble` particles that sees y noised as x is. No
   * VJP. A decomposition of A; the batch holds whole groups; samplers as DDRM. It counts y once for
   * each level: the mean is right where y has little noise, the variance a half (one particle) to a
   * tenth (many) of the posterior's.
   */
  UNDIFFUSE_METHOD_FPS = 18,
};

/** How DPS measures the misfit. */
UNDIFFUSE_ENUM(undiffuse_misfit, uint32_t) {
  /** By its length. */
  UNDIFFUSE_MISFIT_GAUSSIAN = 0,
  /** Weighted by the variance of counts, which is the measurement itself; it must be above 0. */
  UNDIFFUSE_MISFIT_POISSON = 1,
  /** |r|_1 / sqrt(m), for Laplace noise: values that are far off weigh no more than others. */
  UNDIFFUSE_MISFIT_LAPLACE = 2,
};

/** What PiGDM does with its guidance. */
UNDIFFUSE_ENUM(undiffuse_pigdm_rule, uint32_t) {
  /** As the paper's Algorithm 1 adds it. */
  UNDIFFUSE_PIGDM_PUBLISHED = 0,
  /** As part of the score; exact for a white prior. */
  UNDIFFUSE_PIGDM_SCORE = 1,
};

/** What known elements are set to. */
UNDIFFUSE_ENUM(undiffuse_known, uint32_t) {
  /** Their value at every level: the 2015 paper's delta r. */
  UNDIFFUSE_KNOWN_CLEAN = 0,
  /** Their value noised to the level. */
  UNDIFFUSE_KNOWN_RENOISED = 1,
};

/** How r depends on the level. */
UNDIFFUSE_ENUM(undiffuse_r_schedule, uint32_t) {
  /** Not at all: all of the 2015 paper's experiments. */
  UNDIFFUSE_R_CONSTANT = 0,
  /** r^((T - t) / T): none at x_T, all of it at x_0. */
  UNDIFFUSE_R_RAMP = 1,
  /** Only for bits: calibrated, with the prior's bits taken for independent and at chance. */
  UNDIFFUSE_R_WHITE = 2,
};

/** How the gradient of log r is applied. */
UNDIFFUSE_ENUM(undiffuse_gradient_rule, uint32_t) {
  /**
   * It is added to the score, at x_t: eps -= sigma g and x_0 += sigma^2 / alpha g. Works with any
   * sampler.
   */
  UNDIFFUSE_GRADIENT_SCORE = 0,
  /**
   * The mean of x_s is moved by its variance times it, taken at x_t: classifier guidance. The
   * sampler must add noise.
   */
  UNDIFFUSE_GRADIENT_MEAN = 1,
  /**
   * The same, taken at the mean itself: the 2015 paper's equation 61. `x` is then that mean and the
   * level that of x_s.
   */
  UNDIFFUSE_GRADIENT_MEAN_SHIFT_2015 = 2,
};

/** Which noise of a measurement a method takes. */
UNDIFFUSE_ENUM(undiffuse_method_noise, uint32_t) {
  /** Any: `sigma` of 0 and above. */
  UNDIFFUSE_METHOD_NOISE_ANY = 0,
  /** Some: `sigma` above 0. */
  UNDIFFUSE_METHOD_NOISE_POSITIVE = 1,
  /** None: `sigma` of 0. */
  UNDIFFUSE_METHOD_NOISE_ZERO = 2,
};

/** Which operators a method takes. */
UNDIFFUSE_ENUM(undiffuse_method_operator, uint32_t) {
  /** All that are linear. */
  UNDIFFUSE_METHOD_OPERATOR_ANY = 0,
  /** Those whose every measured value is an element of x_0: masks and the identity. */
  UNDIFFUSE_METHOD_OPERATOR_ELEMENTS = 1,
  /** undiffuse_operator_mask. */
  UNDIFFUSE_METHOD_OPERATOR_MASK = 2,
  /** All, and those that are not linear. */
  UNDIFFUSE_METHOD_OPERATOR_FORWARD = 3,
};

/** What kind of values a noise callback is asked for. */
UNDIFFUSE_ENUM(undiffuse_noise_kind, uint32_t) {
  /** Standard normal. */
  UNDIFFUSE_NOISE_NORMAL = 0,
  /** Uniform in [0, 1), for binary chains. */
  UNDIFFUSE_NOISE_UNIFORM = 1,
};

/** Whose generator makes a seed's noise. */
UNDIFFUSE_ENUM(undiffuse_generator, uint32_t) {
  /** The library's, whose samples do not depend on each other. */
  UNDIFFUSE_GENERATOR_OWN = 0,
  /**
   * torch.Generator("cpu"): torch.randn of contiguous tensors. A draw of fewer than 16 values is
   * another one than the beginning of a longer draw. Of the seed, the lower 32 bits count.
   */
  UNDIFFUSE_GENERATOR_TORCH_CPU = 1,
  /** torch.Generator("cuda"). See undiffuse_noise.gpu_threads. */
  UNDIFFUSE_GENERATOR_TORCH_CUDA = 2,
  /** numpy.random.default_rng: standard_normal in double precision, rounded. */
  UNDIFFUSE_GENERATOR_NUMPY = 3,
  /**
   * numpy.random.RandomState, also numpy.random.seed: standard_normal in double precision, rounded.
   * The seed is below 2^32.
   */
  UNDIFFUSE_GENERATOR_NUMPY_LEGACY = 4,
  /**
   * jax.random.normal with the key fold_in(key(seed), k) for the k-th draw, from 0. The seed is
   * below 2^32.
   */
  UNDIFFUSE_GENERATOR_JAX = 5,
};

/** The type that the other program draws in. Values are 32-bit floats here. */
UNDIFFUSE_ENUM(undiffuse_drawn_in, uint32_t) {
  /** 32-bit floats. */
  UNDIFFUSE_DRAWN_IN_F32 = 0,
  /** 16-bit floats: PyTorch draws 32-bit floats and rounds. */
  UNDIFFUSE_DRAWN_IN_F16 = 1,
  /** bfloat16: the same. */
  UNDIFFUSE_DRAWN_IN_BF16 = 2,
};

/** What an input of a network is for. */
UNDIFFUSE_ENUM(undiffuse_input_role, uint32_t) {
  /** A condition of which nothing is said. */
  UNDIFFUSE_INPUT_VALUE = 0,
  /** x; the library fills it. */
  UNDIFFUSE_INPUT_SAMPLE = 1,
  /** The timestep of the level; the library fills it. */
  UNDIFFUSE_INPUT_TIMESTEP = 2,
  /** The number of a class. */
  UNDIFFUSE_INPUT_CLASS = 3,
  /** A class as a vector, [D]. */
  UNDIFFUSE_INPUT_CLASS_VECTOR = 4,
  /** A vector, [D]. */
  UNDIFFUSE_INPUT_VECTOR = 5,
  /** A sequence of tokens, [L, D]. */
  UNDIFFUSE_INPUT_TOKENS = 6,
  /** An image beside x, [C, H, W]. */
  UNDIFFUSE_INPUT_IMAGE = 7,
  /** Which parts of x are meant, [C, H, W]. */
  UNDIFFUSE_INPUT_MASK = 8,
};

/** How the two ends of the chain enter a bound. */
UNDIFFUSE_ENUM(undiffuse_edges, uint32_t) {
  /** The 2015 paper's: averaged over white data. A bound in the mean over data of unit variance. */
  UNDIFFUSE_EDGES_ENTROPIES = 0,
  /** The same, evaluated for each data point: a bound whatever the data. */
  UNDIFFUSE_EDGES_WHITE = 1,
  /** The chain's own last step, which must lead to x_0. */
  UNDIFFUSE_EDGES_NETWORK = 2,
  /** The same for grey levels: a bound on the log-probability of the levels themselves. */
  UNDIFFUSE_EDGES_DISCRETIZED = 3,
};

/**
 * A bound and what it consists of. It is never changed, so any number of threads may read one at
 * once.
 */
typedef struct undiffuse_bound undiffuse_bound;

/**
 * A flag that stops what is running. All functions on it but _new and _free may be called from any
 * thread at any time, also while a session uses it.
 */
typedef struct undiffuse_cancel undiffuse_cancel;

/**
 * Makes data of a model's samples, and samples of data: decodes the latents of a latent model or
 * encodes to them, undoes the scale of a 2015 one or applies it, copies for others. One thread at a
 * time may use it, any thread. It keeps what it needs of the model: you may free that before.
 */
typedef struct undiffuse_codec undiffuse_codec;

/**
 * Why a call failed: a status and one line of text for a person, which names the thing, what was
 * expected and what was got.
 */
typedef struct undiffuse_error undiffuse_error;

/**
 * Evidence r: sessions made with it sample from p(x) r(x). It is never changed, so any number of
 * threads and sessions may use one at once. Sessions keep what they need of it: you may free it
 * before them.
 */
typedef struct undiffuse_evidence undiffuse_evidence;

/**
 * What predicts: a network compiled from weights, or callbacks of yours; with the configuration of
 * its scheduler.
 *
 * It is never changed, so any number of threads and sessions may use one at once. Sessions keep
 * what they need of it: you may free it before them.
 */
typedef struct undiffuse_model undiffuse_model;

/**
 * A map A from a sample to a measurement, mostly linear. It is never changed, so any number of
 * threads may use one at once. Evidence made with it keeps what it needs: you may free it before.
 */
typedef struct undiffuse_operator undiffuse_operator;

/**
 * A reverse process with its steps fixed. It draws no random number, calls no network and keeps no
 * history, so one serves any number of threads and sessions at once.
 */
typedef struct undiffuse_sampler undiffuse_sampler;

/**
 * A run of a model: one batch of samples on its way from noise to x_0. One thread at a time may use
 * it, any thread; several sessions run at once without knowing of one another. After
 * undiffuse_session_new it allocates nothing.
 */
typedef struct undiffuse_session undiffuse_session;

/** One device of a backend. */
typedef struct undiffuse_device_info {
  /** sizeof(undiffuse_device_info); you set it before the call. */
  size_t struct_size;
  /** Number of threads that it runs at once; 0 where that does not apply. */
  size_t thread_count;
  /** What it is, such as "cpu avx512": UTF-8, NUL-terminated, truncated if it is longer. */
  char name[128];
} undiffuse_device_info;

/**
 * Allocates `size` bytes, above 0, aligned to `alignment`, a power of two (64); the content is
 * unspecified. Returns NULL on failure: the call of the library then returns
 * UNDIFFUSE_OUT_OF_MEMORY after freeing what it allocated.
 */
typedef void *(*undiffuse_allocate_fn)(void *user_data, size_t size, size_t alignment);

/** Frees a block of the allocate function, with the same size and alignment; never NULL. */
typedef void (*undiffuse_deallocate_fn)(void *user_data, void *block, size_t size, size_t alignment);

/**
 * Your allocator.
 *
 * What goes through it: the packed weights of a model and, while it is loaded, the weights of one
 * layer as they are read; the workspace of a session. What does not: handles, tables of schedules,
 * copies of measured values, the factors of operators, texts and (from a file) a read buffer of at
 * most 1 MiB. Those come from malloc, when handles are made: a session allocates nothing after
 * undiffuse_session_new.
 *
 * Both functions are called on the threads that call the library, and must be ready to be called
 * from several at once if you use several. They must not call the library. `user_data` must live
 * until every object that was made with the allocator is freed.
 */
typedef struct undiffuse_allocator {
  /** sizeof(undiffuse_allocator). */
  size_t struct_size;
  /** Passed to both functions. */
  void *user_data;
  /** Must not be NULL. */
  undiffuse_allocate_fn allocate;
  /** Must not be NULL. */
  undiffuse_deallocate_fn deallocate;
} undiffuse_allocator;

/** How a model is loaded. */
typedef struct undiffuse_model_options {
  /** sizeof(undiffuse_model_options); set by undiffuse_model_options_init. */
  size_t struct_size;
  /** What runs the network. */
  undiffuse_backend backend;
  /** Which of the backend's devices, from 0. See undiffuse_device_count. */
  uint32_t device;
  /** Height of the images; 0, with a width of 0, is the size that the model was trained for. */
  size_t height;
  /** Width of the images. */
  size_t width;
  /**
   * Whether sessions can also give vector-Jacobian products, which some evidence needs. It doubles
   * the bytes of the weights.
   */
  undiffuse_gradient gradient;
  /** What the network computes in. */
  undiffuse_precision precision;
  /**
   * The text of a diffusers scheduler_config.json to take the place of the model's own, which is
   * then not looked at, or NULL. Read during the call; judged when a sampler is made.
   */
  const char *scheduler_json;
  /** Bytes of that text; 0 if it ends with a NUL. */
  size_t scheduler_json_len;
  /** Your allocator for the weights, or NULL for malloc. The struct is read during the call. */
  const undiffuse_allocator *allocator;
  /**
   * Of a latent model (a pipeline with vae or vqvae): decodes in tiles what would take more than so
   * many bytes in one piece, where 0 leaves the decoder out: samples are then latents. 1 GiB by
   * default.
   */
  size_t decode_bytes;
  /** How the CPU keeps weights. */
  undiffuse_weight_type weights;
  /**
   * Of a latent model: loads the encoder too, which undiffuse_codec_encode needs, and encodes in
   * tiles what would take more than so many bytes in one piece. 0, the default, leaves it out.
   */
  size_t encode_bytes;
} undiffuse_model_options;

/**
 * How noisy a sample is: x = alpha x_0 + sigma eps. Other structs hold it, so it never grows: what
 * later versions tell of a level is in new fields at the end of these.
 */
typedef struct undiffuse_level {
  /**
   * What the network is told, in the unit it was trained with: 0 to T - 1 for diffusers' discrete
   * models.
   */
  double timestep;
  /** The factor of x_0. */
  double alpha;
  /** The factor of the noise. */
  double sigma;
} undiffuse_level;

/**
 * What a callback is told beside its arrays. It lives during the call; later versions may append
 * fields.
 */
typedef struct undiffuse_call {
  /** How noisy the samples are. */
  undiffuse_level level;
  /**
   * The step of the chain, from 0, and how many there are; both 0 where that is not known (a
   * denoiser).
   */
  size_t step;
  /** See `step`. */
  size_t steps;
  /** The number of the first sample of the batch. */
  uint64_t first_sample;
  /** Samples in this call. */
  size_t count;
  /** Floats of one sample. */
  size_t sample_len;
} undiffuse_call;

/**
 * Predicts: reads `x`, [count, sample_len], and writes all of `out`, [count, output_len]. The
 * arrays do not overlap and are yours during the call. A sample's prediction must not depend on the
 * others in the batch.
 *
 * Returns UNDIFFUSE_OK; UNDIFFUSE_CANCELLED to stop as if the cancel flag were set; any other value
 * fails the call that asked with UNDIFFUSE_CALLBACK. Called on the thread that called the library.
 * It may call the library, but not with the session it serves.
 */
typedef int32_t (*undiffuse_predict_fn)(void *user_data,
                                        const undiffuse_call *call,
                                        const float *x,
                                        float *out);

/**
 * The vector-Jacobian product of the prediction: reads `x`, [count, sample_len], and `v`, [count,
 * output_len], and writes out = J^T v, [count, sample_len], with J = d predict(x) / d x of each
 * sample. Otherwise as undiffuse_predict_fn.
 */
typedef int32_t (*undiffuse_vjp_fn)(void *user_data,
                                    const undiffuse_call *call,
                                    const float *x,
                                    const float *v,
                                    float *out);

/**
 * Your own denoiser. Clear the struct, then set struct_size and what you need.
 *
 * If several sessions use it at once its functions are called from several threads at once.
 */
typedef struct undiffuse_denoiser {
  /** sizeof(undiffuse_denoiser). */
  size_t struct_size;
  /** Passed to the functions. */
  void *user_data;
  /** Must not be NULL. */
  undiffuse_predict_fn predict;
  /** NULL if there is none; some evidence needs it. */
  undiffuse_vjp_fn vjp;
  /** How many dimensions a sample has, 1 to 4. */
  size_t rank;
  /** The dimensions, outermost first: [channels, height, width] for images. The rest is ignored. */
  size_t dims[4];
  /**
   * Floats that it gives for a sample; 0 for as many as a sample has. Twice as many where it
   * learned a variance.
   */
  size_t output_len;
  /** The largest batch of one call; 0 for any. */
  size_t max_batch;
  /**
   * A number that differs between denoisers that predict differently, for saved sessions; 0 if you
   * have none.
   */
  uint64_t fingerprint;
  /** A name for messages, or NULL. Copied. */
  const char *name;
  /**
   * The scheduler it was trained for: the text of a diffusers scheduler_config.json, or NULL for
   * diffusers' DDPM defaults. Read during the call.
   */
  const char *scheduler_json;
  /** Bytes of that text; 0 if it ends with a NUL. */
  size_t scheduler_json_len;
} undiffuse_denoiser;

/** Information about a model. */
typedef struct undiffuse_model_info {
  /** sizeof(undiffuse_model_info); you set it before the call. */
  size_t struct_size;
  /** Dimensions of one sample: 3 for images. */
  size_t rank;
  /** The dimensions, outermost first: channels, height, width. Those beyond the rank are 0. */
  size_t dims[4];
  /** Floats of one sample: the product of the dimensions. */
  size_t sample_len;
  /**
   * Floats that the network gives for a sample: as many, or twice as many where it learned a
   * variance.
   */
  size_t output_len;
  /**
   * How many classes a class model knows, which are the whole numbers below; 0 for others, also for
   * those of `class_len` above 0 that take any number or a vector.
   */
  size_t class_count;
  /** How many weights the network has; 0 for callbacks. */
  uint64_t parameter_count;
  /** Floating-point operations of one network call for one sample; 0 where it is not known. */
  uint64_t flops;
  /** Bytes of the packed weights, all of them from your allocator if you gave one. */
  size_t weight_bytes;
  /**
   * x, on which the chain works, is sample_scale times the data plus sample_shift. Mostly 1 and 0:
   * image models work on -1 to 1.
   */
  double sample_scale;
  /** See `sample_scale`. */
  double sample_shift;
  /** A number that differs between models that predict differently; 0 where it is not known. */
  uint64_t fingerprint;
  /** 1 if sessions can give vector-Jacobian products. */
  uint32_t has_gradient;
  /** 0. */
  uint32_t reserved;
  /**
   * Floats of one entry of `classes` in undiffuse_session_options and undiffuse_bound_options: 0
   * for a model without classes and for callbacks, 1 where a class is a number, more where it is a
   * vector.
   */
  size_t class_len;
  /**
   * Inputs of the network, x and the timestep among them, see undiffuse_model_get_input; 0 for
   * callbacks.
   */
  size_t input_count;
  /**
   * Floats of one sample's data, see undiffuse_codec: those of an image where samples are latents,
   * else as many as of a sample.
   */
  size_t data_len;
  /** Dimensions of the data. */
  size_t data_rank;
  /** The dimensions, outermost first. Those beyond the rank are 0. */
  size_t data_dims[4];
  /** Bytes of the packed weights of the decoder of latents; 0 for other models. */
  size_t decoder_weight_bytes;
  /**
   * Bytes of the packed weights of the encoder, see `encode_bytes` of undiffuse_model_options; 0
   * where there is none.
   */
  size_t encoder_weight_bytes;
} undiffuse_model_info;

/**
 * The schedule that a model was trained with. Names and defaults are those of diffusers'
 * DDPMScheduler and DDIMScheduler.
 */
typedef struct undiffuse_schedule_options {
  /** sizeof(undiffuse_schedule_options); set by undiffuse_schedule_options_init. */
  size_t struct_size;
  /** T, 1 to 100000. */
  size_t num_train_timesteps;
  /** The first beta. */
  double beta_start;
  /** The last beta. */
  double beta_end;
  /** T betas in place of start, end and curve, or NULL. Read during the call. */
  const double *trained_betas;
  /** Number of betas. */
  size_t trained_betas_len;
  /** The range of clip_sample. */
  double clip_sample_range;
  /** The quantile of thresholding. */
  double dynamic_thresholding_ratio;
  /** The largest threshold of thresholding. */
  double sample_max_value;
  /** The curve of the betas. */
  undiffuse_beta_schedule beta_schedule;
  /** DDPM's variance. */
  undiffuse_variance_type variance_type;
  /** What the network gives. */
  undiffuse_prediction_type prediction_type;
  /** How the visited timesteps are spaced. */
  undiffuse_timestep_spacing timestep_spacing;
  /** 1: x_0 is clamped to plus or minus clip_sample_range. */
  uint32_t clip_sample;
  /** 1: dynamic thresholding of x_0; takes precedence over clip_sample. */
  uint32_t thresholding;
  /** Added to the timesteps of leading spacing. */
  uint32_t steps_offset;
  /** 1: the betas are rescaled to zero terminal SNR. */
  uint32_t rescale_betas_zero_snr;
  /** 1: DDIM's last step leads to abar = 1; 0: to abar_0. */
  uint32_t set_alpha_to_one;
  /** Must be 0. */
  uint32_t reserved;
} undiffuse_schedule_options;

/** The options of a run. */
typedef struct undiffuse_sampler_options {
  /** sizeof(undiffuse_sampler_options); set by undiffuse_sampler_options_init. */
  size_t struct_size;
  /** The algorithm. */
  undiffuse_sampler_kind kind;
  /** The precision of schedules and of the scalars of a step. */
  undiffuse_arithmetic arithmetic;
  /**
   * How many steps are made. 0 is the default: 20 of UniPC, DPM-Solver multistep and DEIS, all T of
   * DDPM and the 2015 chains, 4 of distilled samplers, 50 of the others, or T if that is less. If
   * `kind` is UNDIFFUSE_SAMPLER_OF_SCHEDULE, 0 also chooses the sampler as the program `undiffuse
   * sample` does: UniPC for a model saved with DDPM, its own for every other.
   */
  size_t steps;
  /** The timesteps themselves, decreasing, each below T, or NULL. Read during the call. */
  const uint32_t *timesteps;
  /** Number of timesteps. */
  size_t timesteps_len;
  /** DDIM: 0 is deterministic, 1 has the variance of DDPM. */
  double eta;
  /** DDIM: what eta is a fraction of. */
  undiffuse_ddim_noise ddim_noise;
  /** DDIM: which timestep a step leads to. With a list of timesteps it is always the next. */
  undiffuse_ddim_previous ddim_previous;
  /** 1: eps is recomputed from the clipped x_0. */
  uint32_t use_clipped_model_output;
  /** Binary chain: 1 if the network gives log p / (1 - p) in place of p. */
  uint32_t logits;
  /** RePaint: how many timesteps of the list a jump goes back. */
  size_t jump_length;
  /**
   * RePaint: how many times each stretch of `jump_length` timesteps is traversed; 1 disables jumps.
   */
  size_t resamplings;
  /**
   * 2015: what the Gaussian chain's network gives. This field and those after it are read only if
   * `kind` names a chain other than the scheduler configuration's own, which specifies them itself.
   */
  undiffuse_readout_2015 readout;
  /** 2015: how the chain ends. */
  undiffuse_ending_2015 ending;
  /** Binary chain: the stationary probability of a 1, between 0 and 1. */
  double pi;
  /** Binary chain: which probability the network predicts. */
  undiffuse_bit_prediction bit_prediction;
  /** Whose formulas are taken. */
  undiffuse_compat compat;
  /**
   * The sigmas themselves, sqrt((1 - abar) / abar), falling, with that of the result (0 as a rule)
   * at the end; or NULL. For solvers over sigmas. Read during the call.
   */
  const double *sigmas;
  /** Number of sigmas, one more than the steps. */
  size_t sigmas_len;
  /** The order of a solver that has one; 0 for its usual one. */
  size_t order;
  /**
   * Split Gibbs: sigma / alpha of the first return into noise. `steps` are the levels on the way
   * down.
   */
  double ladder_largest;
  /**
   * Split Gibbs: that of the last, sigma of the measurement over the largest singular value of its
   * operator. 0, the default, is no ladder: undiffuse_evidence_recommend_sampler fills it in.
   */
  double ladder_smallest;
  /** Split Gibbs: the fall from one return to the next, above 0 and below 1. */
  double ladder_ratio;
  /** Split Gibbs: how often the last return is made. */
  size_t ladder_last;
  /** RK45: the relative tolerance of a step, 1e-7 to 1. */
  double rtol;
  /** RK45: the absolute tolerance of a step, 1e-7 to 1. */
  double atol;
  /**
   * Decoupled annealing: network calls from each level to x_0, at least 1. `steps` are the levels.
   */
  size_t flow_steps;
  /**
   * Input optimization: network calls at each level before the one that leads on, at least 1.
   * `steps` are the levels.
   */
  size_t gradient_steps;
} undiffuse_sampler_options;

/** Information about a sampler. */
typedef struct undiffuse_sampler_info {
  /** sizeof(undiffuse_sampler_info); you set it before the call. */
  size_t struct_size;
  /** Number of steps of a run, and so of network calls. */
  size_t step_count;
  /** x_T is standard normal noise times this. */
  double initial_scale;
  /** Binary chains: the probability of a 1 in x_T; 0 otherwise. */
  double ones;
  /** A number that differs between samplers that compute different steps. */
  uint64_t fingerprint;
  /** 1 for a binary chain: samples are 0 or 1, noise is uniform in [0, 1). */
  uint32_t is_binary;
  /**
   * Of a chain of classes how many there are: samples are one-hot rows of so many, noise is uniform
   * in [0, 1), a value for each of them. 0 for other samplers.
   */
  uint32_t class_count;
} undiffuse_sampler_info;

/** Information about one step. */
typedef struct undiffuse_step_info {
  /** sizeof(undiffuse_step_info); you set it before the call. */
  size_t struct_size;
  /** The level of x_t, for which the network is called. */
  undiffuse_level level;
  /** The level of x_s, to which the step leads. */
  undiffuse_level target;
  /** What x_t is multiplied by before the network sees it. */
  double input_scale;
  /** 1 if the step adds noise. */
  uint32_t needs_noise;
  /** 0. */
  uint32_t reserved;
} undiffuse_step_info;

/** The arrays of one step. They are yours; an array that is written overlaps no other. */
typedef struct undiffuse_step_io {
  /** sizeof(undiffuse_step_io). */
  size_t struct_size;
  /** Samples. */
  size_t count;
  /** Floats of one sample. */
  size_t sample_len;
  /**
   * Floats of one sample's model output: sample_len, or twice as many where a variance was learned.
   * 0 stands for sample_len.
   */
  size_t output_len;
  /** In: the network's output, [count, output_len]. */
  const float *model_output;
  /** In: x_t, [count, sample_len]. */
  const float *x;
  /**
   * In: standard normal values (uniform ones in a binary chain), [count, sample_len]. May be NULL
   * where the step needs none.
   */
  const float *noise;
  /** Out: x_s, [count, sample_len]. */
  float *next;
  /**
   * Out: the predicted x_0, clipped as the schedule says, [count, sample_len]. NULL if you do not
   * want it.
   */
  float *x0;
  /**
   * In: history of samplers that have one, [count, undiffuse_sampler_state_len]; otherwise NULL.
   */
  const float *state;
  /** Out: the history after the step; otherwise NULL. */
  float *next_state;
  /** How many steps of this run were made before; a sampler with history begins with 0. */
  size_t done;
} undiffuse_step_io;

/**
 * A map of yours: reads `from_len` floats at `from` and writes all `to_len` floats at `to`. Returns
 * as undiffuse_predict_fn. Called on the thread that called the library; if several sessions use
 * it, on several at once.
 */
typedef int32_t (*undiffuse_map_fn)(void *user_data,
                                    const float *from,
                                    size_t from_len,
                                    float *to,
                                    size_t to_len);

/**
 * Your own operator. That `adjoint` is the adjoint of `apply` is yours to see to: <A u, v> = <u,
 * A^T v> for random u and v.
 */
typedef struct undiffuse_operator_callbacks {
  /** sizeof(undiffuse_operator_callbacks). */
  size_t struct_size;
  /**
   * Passed to the functions. It must live until the operator and all that was made with it are
   * freed.
   */
  void *user_data;
  /** y = A x; must not be NULL. */
  undiffuse_map_fn apply;
  /** x = A^T y; must not be NULL. */
  undiffuse_map_fn adjoint;
  /** x = A^+ y, or NULL. */
  undiffuse_map_fn pseudo_inverse;
  /** Dimensions of a measurement, 1 to 4. */
  size_t output_rank;
  /** The dimensions, outermost first; the rest is ignored. */
  size_t output_dims[4];
} undiffuse_operator_callbacks;

/** Information about an operator. */
typedef struct undiffuse_operator_info {
  /** sizeof(undiffuse_operator_info); you set it before the call. */
  size_t struct_size;
  /** n: floats of a sample. */
  size_t input_len;
  /** m: floats of a measurement. */
  size_t output_len;
  /** Dimensions of a measurement. */
  size_t output_rank;
  /** The dimensions, outermost first. Those beyond the rank are 0. */
  size_t output_dims[4];
  /** 1 if its singular value decomposition is known, which some methods need. */
  uint32_t has_svd;
  /** 1 if it is linear. */
  uint32_t linear;
} undiffuse_operator_info;

/**
 * What an operator of yours does backwards: reads the sample `x` and a measurement's cotangent `v`,
 * and writes all `out_len` floats of J(x)^T v at `out`, J being the derivative of the operator at
 * x; `out_len` is `x_len`. Returns as undiffuse_predict_fn. Called as undiffuse_map_fn.
 */
typedef int32_t (*undiffuse_forward_vjp_fn)(void *user_data,
                                            const float *x,
                                            size_t x_len,
                                            const float *v,
                                            size_t v_len,
                                            float *out,
                                            size_t out_len);

/** Your own operator that is not linear. That `vjp` belongs to `forward` is yours to see to. */
typedef struct undiffuse_forward_callbacks {
  /** sizeof(undiffuse_forward_callbacks). */
  size_t struct_size;
  /**
   * Passed to the functions. It must live until the operator and all that was made with it are
   * freed.
   */
  void *user_data;
  /** y = A(x); must not be NULL. */
  undiffuse_map_fn forward;
  /** J(x)^T v; must not be NULL. */
  undiffuse_forward_vjp_fn vjp;
  /** Dimensions of a measurement, 1 to 4. */
  size_t output_rank;
  /** The dimensions, outermost first; the rest is ignored. */
  size_t output_dims[4];
} undiffuse_forward_callbacks;

/** How a measurement is used. A method reads the fields that its description names. */
typedef struct undiffuse_method_options {
  /** sizeof(undiffuse_method_options); set by undiffuse_method_options_init. */
  size_t struct_size;
  /** The method. */
  undiffuse_method method;
  /** DPS. */
  undiffuse_misfit misfit;
  /** PiGDM. */
  undiffuse_pigdm_rule pigdm_rule;
  /** Clamp. */
  undiffuse_known known;
  /** Exact product and mean shift. */
  undiffuse_r_schedule r_schedule;
  /** Must be 0. */
  uint32_t reserved;
  /** Calibrated: vector-Jacobian products a step; 1 to 5 are enough for images. */
  size_t iterations;
  /** Calibrated for a white prior: the variance of the data's elements. */
  double variance;
  /** DPS and MCG: the length of a step, above 0; published are 0.3 to 0.5. */
  double zeta;
  /** DiffPIR: the weight of the model against the measurement, above 0. */
  double lambda;
  /** DDRM: 0 to 1. */
  double eta_b;
  /**
   * Calibrated: vector-Jacobian products a step for the covariance of the step, 0 to 16. With 0 the
   * step has the sampler's own variance, far too small in few steps (0.44 of a Gaussian posterior's
   * in 36 calls); with 1, the default, it has the right trace, which suits networks best; with 2
   * the right variance in every direction where the denoiser is exact.
   */
  size_t variance_products;
  /**
   * Split Gibbs: K samples are weighed against one another, at least 1; samples i K to i K + K - 1
   * are a group, and batches hold whole ones.
   */
  size_t ensemble;
  /**
   * Split Gibbs: vector-Jacobian products a step, 1 to 16; 2 are right where the denoiser is exact.
   */
  size_t prior_products;
  /** Split Gibbs: sigma / alpha of the first return into noise. */
  double ladder_largest;
  /**
   * Split Gibbs: the fall from one return to the next, below 1; 0 for one that follows from the
   * number of measured values.
   */
  double ladder_ratio;
  /** Split Gibbs: how often the last return is made, at least 1. */
  size_t ladder_last;
  /** DAPS: steps of Langevin dynamics at each level, 1 to 1,000,000; no network is called. */
  size_t langevin_steps;
  /**
   * DAPS: the length of these steps at the first level, as a fraction of the inverse of the largest
   * curvature, above 0 and below 2.
   */
  double langevin_length;
  /**
   * DAPS: what the length has fallen to at the last level, as a fraction, above 0 and at most 1.
   */
  double langevin_decay;
  /**
   * DAPS: network calls from each level to x_0, at least 1; for
   * undiffuse_evidence_recommend_sampler.
   */
  size_t flow_steps;
  /** RED-diff: Adam's rate, above 0. */
  double rate;
  /** RED-diff: the weight of the model against the measurement, above 0. */
  double red_diff_lambda;
  /** SITCOM: the most gradient steps at each level, 1 to 100,000, a network call and a VJP each. */
  size_t gradient_steps;
  /** SITCOM: Adam's rate, above 0. */
  double sitcom_rate;
  /** SITCOM: the weight of the distance from x_t, 0 or above. */
  double sitcom_lambda;
  /**
   * SITCOM: a level's steps end where |y - A x_0| is below this times sqrt(m), 0 or above; below 0
   * for the noise of y and 0.001 more.
   */
  double sitcom_stop;
  /**
   * FPS: the particles that are weighed against one another, at least 1; samples i M to i M + M - 1
   * are a group, and batches hold whole ones.
   */
  size_t fps_ensemble;
} undiffuse_method_options;

/**
 * A noisy measurement y = A x_0 + sigma n with n standard normal, in the units of the model's
 * samples.
 */
typedef struct undiffuse_measurement {
  /** sizeof(undiffuse_measurement). */
  size_t struct_size;
  /** A. Kept by the evidence; you may free your handle afterwards. */
  const undiffuse_operator *op;
  /** What was measured: m floats for all samples, or [rows, m] with `each`. Copied. */
  const float *y;
  /** Floats at `y`. */
  size_t y_len;
  /**
   * The standard deviation of the measurement's noise; 0 for none, which some methods need and
   * others refuse.
   */
  double sigma;
  /** With `each`: the number of the sample that the first row belongs to. */
  uint64_t first_sample;
  /** 1: row i of `y` belongs to sample first_sample + i; 0: one measurement for all samples. */
  uint32_t each;
  /** Must be 0. */
  uint32_t reserved;
} undiffuse_measurement;

/**
 * The gradient of log r: reads `x`, [count, sample_len], at the level of `call`, and writes all of
 * `out`, as many. What it does to a sample must not depend on the others. Returns as
 * undiffuse_predict_fn; called on the thread that called the library.
 */
typedef int32_t (*undiffuse_gradient_fn)(void *user_data,
                                         const undiffuse_call *call,
                                         const float *x,
                                         float *out);

/**
 * Your own evidence: p(x) r(x) with r known by the gradient of its logarithm.
 *
 * If several sessions use it at once the function is called from several threads at once.
 */
typedef struct undiffuse_gradient_evidence {
  /** sizeof(undiffuse_gradient_evidence). */
  size_t struct_size;
  /** Passed to the function. */
  void *user_data;
  /** Must not be NULL. */
  undiffuse_gradient_fn gradient;
  /** What is done with the gradient. */
  undiffuse_gradient_rule rule;
  /** How r depends on the level, where the rule is UNDIFFUSE_GRADIENT_MEAN_SHIFT_2015. */
  undiffuse_r_schedule r_schedule;
  /** The gradient is multiplied by it, where the rule is another. 0 stands for 1, p(x) r(x). */
  double scale;
  /** A number that differs between functions that differ, for saved sessions. */
  uint64_t fingerprint;
  /** A name for messages, or NULL. Copied. */
  const char *name;
} undiffuse_gradient_evidence;

/**
 * Evidence for a binary chain.
 *
 * Either `odds`: for each bit d = r(x_i = 1) / (r(x_i = 1) + r(x_i = 0)); 0.5 where nothing is
 * known, 0 or 1 for a known bit. Or `function`, which gives these d for all bits of x_t at once,
 * the other bits as in `x`.
 */
typedef struct undiffuse_bit_evidence {
  /** sizeof(undiffuse_bit_evidence). */
  size_t struct_size;
  /** The odds, one for each bit of a sample, 0 to 1. Copied. NULL with a function. */
  const float *odds;
  /** How many. */
  size_t odds_len;
  /** How the odds depend on the level. */
  undiffuse_r_schedule r_schedule;
  /** Must be 0. */
  uint32_t reserved;
  /**
   * With UNDIFFUSE_R_WHITE: the stationary probability of a 1, as in the sampler's options; 0
   * stands for 0.5.
   */
  double pi;
  /** Your function, one sample at a time, or NULL. */
  undiffuse_gradient_fn function;
  /**
   * Passed to the function. It must live until the evidence and all sessions made with it are
   * freed.
   */
  void *user_data;
  /** A number that differs between functions that differ, for saved sessions. */
  uint64_t fingerprint;
} undiffuse_bit_evidence;

/** Evidence for a chain of classes. */
typedef struct undiffuse_class_evidence {
  /** sizeof(undiffuse_class_evidence). */
  size_t struct_size;
  /**
   * r of each class at each position of x_0, [positions, class_count], at least 0 and one of a
   * position above 0; all alike where nothing is known. Copied.
   */
  const float *weights;
  /** How many. */
  size_t weights_len;
  /** Classes, the mask among them: undiffuse_sampler_info.class_count. */
  uint32_t class_count;
  /** How the weights depend on the level. With a mask UNDIFFUSE_R_WHITE. */
  undiffuse_r_schedule r_schedule;
  /** With UNDIFFUSE_R_WHITE: 1 if the chain has a mask, which is `mask_class`. */
  uint32_t has_mask;
  /** The mask. */
  uint32_t mask_class;
  /**
   * 1: it is the predicted x_0 that is multiplied, the better for a network that predicts x_0 well;
   * 0: the step.
   */
  uint32_t calibrated;
  /** Must be 0. */
  uint32_t reserved;
} undiffuse_class_evidence;

/** What a method needs and takes, with its options at their defaults. */
typedef struct undiffuse_method_info {
  /** sizeof(undiffuse_method_info); you set it before the call. */
  size_t struct_size;
  /** Its name, which the program's `--method` takes too: ASCII, NUL-terminated. */
  char name[32];
  /** The noise that it takes. */
  undiffuse_method_noise noise;
  /** The operators that it takes. */
  undiffuse_method_operator operators;
  /**
   * Vector-Jacobian products of the network in a step; where it is above 0 the model must have been
   * loaded with a gradient.
   */
  size_t product_count;
} undiffuse_method_info;

/**
 * Fills `out`, [count, sample_len], with draw `draw` of the samples `first_sample`, `first_sample`
 * + 1, ...: values of the kind `kind`. Draw 0 is x_T, draw k the noise of step k - 1; draws from
 * 2^63 on are the evidence's. The same draw of a sample must always be the same values. Returns as
 * undiffuse_predict_fn. Called on the thread that called the library.
 */
typedef int32_t (*undiffuse_noise_fn)(void *user_data,
                                      undiffuse_noise_kind kind,
                                      uint64_t first_sample,
                                      uint64_t draw,
                                      size_t sample_len,
                                      size_t count,
                                      float *out);

/**
 * Where a session gets its noise if not from a seed: from arrays, from a function, or from a Python
 * library's generator with the session's seed, in the order in which diffusers' pipelines draw.
 *
 * Arrays are borrowed: they must stay as they are until the session is freed. With a function or a
 * generator they are NULL.
 */
typedef struct undiffuse_noise {
  /** sizeof(undiffuse_noise). */
  size_t struct_size;
  /** x_T of `samples` samples, [samples, sample_len]: multiplied by the sampler's initial_scale. */
  const float *x_t;
  /** The noise of each step, [steps, samples, sample_len]. NULL where no step needs any. */
  const float *noise;
  /** How many steps have noise. */
  size_t steps;
  /**
   * How many samples the arrays are for. With a generator: how many are drawn at once, from sample
   * 0, and so what all of them depend on; 0 with `each_seed`.
   */
  size_t samples;
  /** The number of the first of them. */
  uint64_t first_sample;
  /** A function in place of arrays, or NULL. */
  undiffuse_noise_fn fill;
  /** Passed to the function. */
  void *user_data;
  /** A number that differs between functions that give different noise, for saved sessions. */
  uint64_t fingerprint;
  /**
   * Whose generator, UNDIFFUSE_GENERATOR_OWN with arrays or a function. Evidence that needs noise
   * of its own fails with such noise. UNDIFFUSE_SAMPLER_DPM_SOLVER_SDE with
   * UNDIFFUSE_GENERATOR_TORCH_CPU has torchsde's Brownian tree, of the `noise_sampler_seed` of the
   * model's scheduler, or drawn after x_T without one; f32 only.
   */
  undiffuse_generator generator;
  /** The type that the other program draws in; UNDIFFUSE_DRAWN_IN_F32 for JAX. */
  undiffuse_drawn_in drawn_in;
  /**
   * 1: sample i has a generator of its own, of the session's seed + i, as diffusers with a list of
   * generators; 0: all have one.
   */
  uint32_t each_seed;
  /**
   * With torch.Generator("cuda"): how many threads the GPU runs at once, its multi_processor_count
   * times max_threads_per_multi_processor. 0 stands for every GPU and allows draws of up to 6144
   * values, which are the same on all.
   */
  uint32_t gpu_threads;
  /**
   * With a generator: the step at which the run begins, for undiffuse_session_start_from; the other
   * program draws nothing for steps before. 0 for a run from x_T.
   */
  size_t first_step;
  /**
   * With a generator: how many images the other program encodes to distributions, which it samples
   * before all else, as diffusers' image to image with an AutoencoderKL does; 0 for none. With
   * `each_seed` any other number stands for an image of each sample. undiffuse_session_noise gives
   * that draw, number UNDIFFUSE_ENCODER_DRAW.
   */
  size_t encoded_images;
} undiffuse_noise;

/**
 * One task of a parallel-for; `index` is its number. It does not return early and throws nothing.
 */
typedef void (*undiffuse_task_fn)(void *task_data, size_t index);

/**
 * Calls `task(task_data, i)` for every i below `count`, on any threads, at the same time where it
 * can, and returns when all calls have returned. `count` is at most `thread_count`. It is called
 * some hundred times during one network call, so it should not start threads. If several sessions
 * that use it run at once it is called from several threads at once, and must then not wait for
 * another call of it. Tasks that it leaves out are noticed: the call of the library returns
 * UNDIFFUSE_CALLBACK unless others did the work.
 */
typedef void (*undiffuse_parallel_for_fn)(void *user_data,
                                          size_t count,
                                          undiffuse_task_fn task,
                                          void *task_data);

/** Your threads. */
typedef struct undiffuse_threads {
  /** sizeof(undiffuse_threads). */
  size_t struct_size;
  /** Passed to the function. It must live until every session that was made with it is freed. */
  void *user_data;
  /** How many tasks can run at once, the calling thread counted: 1 to 256. */
  size_t thread_count;
  /** NULL runs everything on the calling thread. */
  undiffuse_parallel_for_fn parallel_for;
} undiffuse_threads;

/**
 * What the progress callback sees after a step. It lives during the call; later versions may append
 * fields.
 */
typedef struct undiffuse_progress {
  /** The step just made, from 0. */
  size_t step;
  /** How many there are. */
  size_t step_count;
  /** The level at which the network was called. */
  undiffuse_level level;
  /** The number of the first sample of the batch. */
  uint64_t first_sample;
  /** Samples in the batch. */
  size_t count;
  /** Floats of one sample. */
  size_t sample_len;
  /** x after the step, [count, sample_len]. */
  const float *x;
  /** The x_0 that the step predicted, after clipping, [count, sample_len]: a preview. */
  const float *x0;
} undiffuse_progress;

/**
 * Called after each step on the thread that called undiffuse_session_run. Returns 0 to go on; any
 * other value stops the run, which then returns UNDIFFUSE_STOPPED. It may call the library, but not
 * with this session.
 */
typedef int32_t (*undiffuse_progress_fn)(void *user_data, const undiffuse_progress *progress);

/**
 * Values for an input of a network beside x and the level. It never grows, since it stands in
 * arrays.
 */
typedef struct undiffuse_condition {
  /** The input's name, as undiffuse_model_get_input says; UTF-8, ends with a NUL. */
  const char *name;
  /**
   * Rows of the input's `len` floats (undiffuse_input_info): sample number i gets row i modulo
   * their number, so one row serves all. Copied.
   */
  const float *values;
  /** Floats at `values`: a multiple of the input's `len`. */
  size_t values_len;
} undiffuse_condition;

/**
 * Classifier-free guidance. With c the prediction under the conditions and u that under the
 * negative ones, it is u + scale (c - u), of one call with twice the batch.
 */
typedef struct undiffuse_guidance {
  /** sizeof(undiffuse_guidance); set by undiffuse_guidance_init. */
  size_t struct_size;
  /** 1 is none, 0 the negative conditions alone. */
  double scale;
  /**
   * 0 (none) to 1: how much of the guided prediction gets the standard deviation of c (diffusers'
   * guidance_rescale).
   */
  double rescale;
  /** It guides only where interval_low < sigma / alpha <= interval_high. */
  double interval_low;
  /** See `interval_low`. */
  double interval_high;
  /**
   * What u is given in place of the conditions of the same names, at least one; for a class model
   * the label that stands for none, under the name of the class input. Read during the call.
   */
  const undiffuse_condition *negative;
  /** How many stand at `negative`. */
  size_t negative_count;
} undiffuse_guidance;

/** How a session runs. */
typedef struct undiffuse_session_options {
  /** sizeof(undiffuse_session_options); set by undiffuse_session_options_init. */
  size_t struct_size;
  /** Samples at once, at least 1. What a sample becomes does not depend on it. */
  size_t batch;
  /**
   * The number of the first sample. Sample i of a seed is the same in whatever batch, process or
   * machine it is made, so a large run is cut into shards by this number alone.
   */
  uint64_t first_sample;
  /** The seed of the noise. */
  uint64_t seed;
  /**
   * Noise of your own in place of the seed's, or NULL. The struct is read during the call; see it
   * for how long the arrays must live.
   */
  const undiffuse_noise *noise;
  /**
   * How many threads of the library's own the network may use, the calling thread counted: 0 for as
   * many as the process may run at once, 1 for none, at most 256. They sleep when they have nothing
   * to do and end when the session is freed. For the cpu backend; others ignore it.
   */
  size_t thread_count;
  /** Your threads in place of the library's, or NULL. Read during the call. */
  const undiffuse_threads *threads;
  /**
   * Your memory for the session, of at least undiffuse_session_required_bytes, at any address; or
   * NULL. It must stay and be nobody else's until the session is freed.
   */
  void *workspace;
  /** Bytes of that memory. */
  size_t workspace_bytes;
  /**
   * Your allocator in place of malloc, where there is no workspace, or NULL. Read during the call.
   */
  const undiffuse_allocator *allocator;
  /** A flag that stops the session, or NULL. Several sessions may share one. */
  undiffuse_cancel *cancel;
  /** Called after each step of undiffuse_session_run, or NULL. */
  undiffuse_progress_fn progress;
  /** Passed to `progress`. */
  void *progress_user_data;
  /**
   * Class models: entries of `class_len` floats (undiffuse_model_info), each a class or, where that
   * is above 1, a vector; sample number i gets entry i modulo their number. NULL for others.
   * Copied.
   */
  const float *classes;
  /** Floats at `classes`, a multiple of `class_len`. */
  size_t classes_len;
  /**
   * What the model takes beside x, the level and classes (undiffuse_model_get_input): all of it, in
   * any order; NULL for models that take nothing more. Read during the call.
   */
  const undiffuse_condition *conditions;
  /** How many stand at `conditions`. */
  size_t condition_count;
  /**
   * Classifier-free guidance, or NULL for none. It takes about twice the memory. Read during the
   * call.
   */
  const undiffuse_guidance *guidance;
} undiffuse_session_options;

/** An input of a network. */
typedef struct undiffuse_input_info {
  /** sizeof(undiffuse_input_info); you set it before the call. */
  size_t struct_size;
  /** Its name, which ends with a NUL; valid as long as the model. */
  const char *name;
  /** What it is for. */
  undiffuse_input_role role;
  /**
   * 1 if its values are whole numbers from 0 to class_count - 1, 0 for any finite float. They are
   * given as floats either way.
   */
  uint32_t is_whole;
  /** Dimensions of one row. */
  size_t rank;
  /**
   * The dimensions as you give them, outermost first: [C, H, W] of an image, [L, D] of L tokens.
   * Those beyond the rank are 0.
   */
  size_t dims[4];
  /** Floats of one row: the product of the dimensions. */
  size_t len;
  /** See `is_whole`. */
  size_t class_count;
} undiffuse_input_info;

/** How a codec runs. */
typedef struct undiffuse_codec_options {
  /** sizeof(undiffuse_codec_options); set by undiffuse_codec_options_init. */
  size_t struct_size;
  /** As in undiffuse_session_options. */
  size_t thread_count;
  /** As in undiffuse_session_options. */
  const undiffuse_threads *threads;
  /** Your allocator for the codec's memory in place of malloc, or NULL. Read during the call. */
  const undiffuse_allocator *allocator;
  /** A flag that stops undiffuse_codec_decode and undiffuse_codec_encode, or NULL. */
  undiffuse_cancel *cancel;
} undiffuse_codec_options;

/** What a codec does and takes. */
typedef struct undiffuse_codec_info {
  /** sizeof(undiffuse_codec_info); you set it before the call. */
  size_t struct_size;
  /** Floats of one sample. */
  size_t sample_len;
  /** Dimensions of its data: 3 for images. */
  size_t rank;
  /** The dimensions, outermost first: channels, height, width. Those beyond the rank are 0. */
  size_t dims[4];
  /** Floats of the data: the product of the dimensions. */
  size_t data_len;
  /** 1 if samples are latents, which a decoder decodes, else 0. */
  uint32_t is_decoder;
  /** 0. */
  uint32_t reserved;
  /**
   * Tiles in which a sample is decoded, 1 for one piece; see `decode_bytes` of
   * undiffuse_model_options.
   */
  size_t tile_count;
  /** Height and width of a tile in latents. */
  size_t tile[2];
  /** Bytes of the decoder's packed weights, which are the model's. */
  size_t weight_bytes;
  /** Bytes of the codec's memory. */
  size_t workspace_bytes;
  /**
   * Floats of what a sample is encoded from, see undiffuse_codec_encode: mostly `data_len`; 0 where
   * samples are latents and the encoder was left out.
   */
  size_t encoded_len;
  /** The dimensions, outermost first: channels, height, width. Those beyond the rank are 0. */
  size_t encoded_dims[4];
  /** 1 if undiffuse_codec_encode samples a distribution by the noise that it is given, else 0. */
  uint32_t has_posterior;
  /** 0. */
  uint32_t reserved_2;
  /**
   * Tiles in which an image is encoded, 1 for one piece; see `encode_bytes` of
   * undiffuse_model_options.
   */
  size_t encoder_tile_count;
  /** Bytes of the encoder's packed weights, which are the model's. */
  size_t encoder_weight_bytes;
} undiffuse_codec_info;

/** The state of a session. */
typedef struct undiffuse_session_info {
  /** sizeof(undiffuse_session_info); you set it before the call. */
  size_t struct_size;
  /** The next step, from 0; equal to `step_count` when the run is done. */
  size_t step;
  /** Number of steps of a run, and so of network calls. */
  size_t step_count;
  /** The number of the first sample. */
  uint64_t first_sample;
  /** Samples in this run. */
  size_t count;
  /** The most samples that a run of this session can have. */
  size_t batch;
  /** Floats of one sample. */
  size_t sample_len;
  /** Floats that the network gives for a sample. */
  size_t output_len;
  /** Bytes of the session's workspace. */
  size_t workspace_bytes;
} undiffuse_session_info;

/**
 * Called after each network call of an evaluation, on the calling thread: `done` of `total` rows
 * have gone through the network. To stop, set the cancel flag.
 */
typedef void (*undiffuse_bound_progress_fn)(void *user_data, uint64_t done, uint64_t total);

/** How a bound is evaluated. */
typedef struct undiffuse_bound_options {
  /** sizeof(undiffuse_bound_options); set by undiffuse_bound_options_init. */
  size_t struct_size;
  /** How the two ends of the chain enter the bound. */
  undiffuse_edges edges;
  /**
   * Grey levels, evenly over -1 to 1, where the ends are UNDIFFUSE_EDGES_DISCRETIZED; 2 or more.
   */
  uint32_t levels;
  /** At how many steps, chosen anew for each data point, the divergence is evaluated; 0 for all. */
  size_t sampled_steps;
  /**
   * Number of draws of x_t for each data point and step, at least 1; monte_carlo_error needs at
   * least 2.
   */
  size_t draws;
  /** Rows of one network call, at least 1. The result does not depend on it. */
  size_t batch;
  /**
   * The number of the first data point, which keys its noise: a part of a data set gives what the
   * whole would.
   */
  uint64_t first_sample;
  /** The seed of the noise. */
  uint64_t seed;
  /** As in undiffuse_session_options. */
  size_t thread_count;
  /** As in undiffuse_session_options. */
  const undiffuse_threads *threads;
  /** As in undiffuse_session_options. */
  undiffuse_cancel *cancel;
  /** Called after each network call, or NULL. */
  undiffuse_bound_progress_fn progress;
  /** Passed to `progress`. */
  void *progress_user_data;
  /** As in undiffuse_session_options. */
  const float *classes;
  /** Floats at `classes`. */
  size_t classes_len;
} undiffuse_bound_options;

/**
 * What an evaluation found. All values are nats per sample (divide by log(2) and sample_len for
 * bits per dimension); k = -(kl + start - end + prior) is the bound.
 */
typedef struct undiffuse_bound_info {
  /** sizeof(undiffuse_bound_info); you set it before the call. */
  size_t struct_size;
  /** Data points. */
  size_t count;
  /** Floats of one. */
  size_t sample_len;
  /** K, averaged over the data points. */
  double k;
  /**
   * Its standard error as an estimate for the distribution that the data come from; NaN for one
   * data point.
   */
  double standard_error;
  /** The part of it that more draws would remove; NaN for a single draw. */
  double monte_carlo_error;
  /** What white data would have; k - l_null is what the chain learned. */
  double l_null;
  /** The sum of the divergences. */
  double kl;
  /** Minus the mean of log p(x_0 | x_1). */
  double start;
  /** The entropy of q(x_T | x_0). */
  double end;
  /** Minus the mean of log p(x_T). */
  double prior;
  /** Network calls. */
  uint64_t calls;
  /** Rows in them. */
  uint64_t rows;
  /** How long it took. */
  double seconds;
} undiffuse_bound_info;

/**
 * One step of a bound, nats per sample. It stands in arrays, so it never grows;
 * undiffuse_bound_step_info can.
 */
typedef struct undiffuse_step_bound {
  /** The level of x_t. */
  undiffuse_level level;
  /** KL(q(x_s | x_t, x_0) || p(x_s | x_t)), averaged over the rows seen; 0 if there were none. */
  double kl;
  /**
   * The entropy of p(x_s | x_t), averaged likewise; a chain that fits its data keeps it between the
   * two bounds.
   */
  double entropy;
  /** The lower bound on the entropy of q(x_s | x_t). */
  double lower;
  /** The upper bound. */
  double upper;
  /** Rows seen at this step. */
  uint64_t rows;
} undiffuse_step_bound;

/** One step of a bound, in a struct that can grow; the values are nats per sample. */
typedef struct undiffuse_bound_step_info {
  /** sizeof(undiffuse_bound_step_info); you set it before the call. */
  size_t struct_size;
  /** The step's values. */
  undiffuse_step_bound step;
} undiffuse_bound_step_info;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/* ---- Errors -------------------------------------------------------------------------- */

/**
 * A short name of a status, such as "out of memory"; "unknown status" for a number that is none.
 *
 * The string is static: never free it. Any thread.
 */
UNDIFFUSE_API
const char *undiffuse_status_name(int32_t status);

/** The status that the failed call returned; UNDIFFUSE_OK for NULL. */
UNDIFFUSE_API
undiffuse_status undiffuse_error_status(const undiffuse_error *error);

/** The text, UTF-8 on one line; "" for NULL. It lives as long as the error object. */
UNDIFFUSE_API
const char *undiffuse_error_message(const undiffuse_error *error);

/** Frees an error object. NULL is ignored. */
UNDIFFUSE_API
void undiffuse_error_free(undiffuse_error *error);

/* ---- Versions ------------------------------------------------------------------------ */

/**
 * The version of the library that the program runs with, such as "0.1.0". The string is static:
 * never free it. Any thread.
 */
UNDIFFUSE_API
const char *undiffuse_version_string(void);

/** UNDIFFUSE_VERSION of the library that the program runs with. Any thread. */
UNDIFFUSE_API
uint32_t undiffuse_version(void);

/**
 * UNDIFFUSE_ABI_VERSION of the library that the program runs with: at least the header's if all
 * that the header has is there. Any thread.
 */
UNDIFFUSE_API
uint32_t undiffuse_abi_version(void);

/**
 * UNDIFFUSE_ABI_OLDEST of the library that the program runs with: at most the header's
 * UNDIFFUSE_ABI_VERSION if the program runs with it. Any thread.
 */
UNDIFFUSE_API
uint32_t undiffuse_abi_oldest(void);

/* ---- Cancel flags -------------------------------------------------------------------- */

/** Makes a flag that is not set. You free it with undiffuse_cancel_free. */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_cancel_new(undiffuse_cancel **cancel,
                                      undiffuse_error **error);

/**
 * Sets the flag: each session that uses it returns UNDIFFUSE_CANCELLED within the time of one layer
 * of the network, and stays usable.
 *
 * Any thread, also a signal handler: it is one atomic store. NULL is ignored.
 */
UNDIFFUSE_API
void undiffuse_cancel_set(undiffuse_cancel *cancel);

/**
 * Clears the flag, for the next run. Nothing clears it by itself. Any thread, also a signal
 * handler; NULL is ignored.
 */
UNDIFFUSE_API
void undiffuse_cancel_reset(undiffuse_cancel *cancel);

/** Whether the flag is set; false for NULL. Any thread, also a signal handler. */
UNDIFFUSE_API
bool undiffuse_cancel_is_set(const undiffuse_cancel *cancel);

/**
 * Frees the flag. Sessions that use it keep what they need of it, so the order does not matter.
 * NULL is ignored.
 */
UNDIFFUSE_API
void undiffuse_cancel_free(undiffuse_cancel *cancel);

/* ---- Devices ------------------------------------------------------------------------- */

/**
 * Writes to *count how many devices a backend has; 0 for one that is built in but finds none on
 * this machine.
 *
 * No GPU driver is loaded unless you ask for a GPU backend. Status: UNDIFFUSE_UNSUPPORTED for a
 * backend that is not built in. Any thread.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_device_count(undiffuse_backend backend,
                                        uint32_t *count,
                                        undiffuse_error **error);

/**
 * Writes information about device `index` of a backend, counted from 0, to *info, whose struct_size
 * you set. Any thread.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_device_get_info(undiffuse_backend backend,
                                           uint32_t index,
                                           undiffuse_device_info *info,
                                           undiffuse_error **error);

/* ---- Models -------------------------------------------------------------------------- */

/**
 * Fills options with the defaults: the cpu backend, the model's own size and scheduler, no
 * gradient, malloc.
 *
 * `struct_size` is sizeof(undiffuse_model_options) as your program was compiled. Any thread.
 */
UNDIFFUSE_API
undiffuse_status undiffuse_model_options_init(undiffuse_model_options *options,
                                              size_t struct_size);

/**
 * Loads a diffusers pipeline directory, a model's own directory, one of its weight files, or a
 * packed file.
 *
 * `path` is UTF-8. `options` may be NULL for the defaults. On success *model is yours; free it with
 * undiffuse_model_free. The file is read during the call alone. A file that is malformed in any way
 * is refused with a message that names what is wrong. The scheduler may be of any class, or
 * missing: a sampler of the kind DDIM or DDPM can be made of those with betas, and `scheduler_json`
 * gives another.
 *
 * Status: UNDIFFUSE_IO, UNDIFFUSE_CONFIG, UNDIFFUSE_WEIGHTS, UNDIFFUSE_SHAPE for a size that the
 * network cannot have, UNDIFFUSE_UNSUPPORTED (in a build without files always), UNDIFFUSE_DEVICE
 * where a GPU fails. Any thread.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_model_load(const char *path,
                                      const undiffuse_model_options *options,
                                      undiffuse_model **model,
                                      undiffuse_error **error);

/**
 * Loads a packed file that is in memory, `len` bytes at `data`: for a model that is a C array of
 * your program, or was decrypted.
 *
 * The bytes are borrowed for the call and not needed afterwards: the weights are packed into memory
 * of the model's own. Otherwise as undiffuse_model_load.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_model_load_memory(const uint8_t *data,
                                             size_t len,
                                             const undiffuse_model_options *options,
                                             undiffuse_model **model,
                                             undiffuse_error **error);

/**
 * Loads the handwritten digits that come with the library: 1 x 28 x 28, values -1 to 1.
 *
 * Status: UNDIFFUSE_UNSUPPORTED in a build without them; otherwise as undiffuse_model_load. Any
 * thread.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_model_load_embedded(const undiffuse_model_options *options,
                                               undiffuse_model **model,
                                               undiffuse_error **error);

/**
 * Makes a model of your own functions: any other engine runs the network, this library runs the
 * chain.
 *
 * `denoiser` is read during the call; its `user_data` must live until the model and all sessions
 * made from it are freed. On success *model is yours; free it with undiffuse_model_free. Status:
 * UNDIFFUSE_SHAPE, UNDIFFUSE_CONFIG, UNDIFFUSE_UNSUPPORTED. Any thread.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_model_from_denoiser(const undiffuse_denoiser *denoiser,
                                               undiffuse_model **model,
                                               undiffuse_error **error);

/** Writes information about the model to *info, whose struct_size you set. Any thread. */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_model_get_info(const undiffuse_model *model,
                                          undiffuse_model_info *info,
                                          undiffuse_error **error);

/**
 * The model's scheduler as the text of a diffusers scheduler_config.json, without a NUL at the end:
 * all keys, or, of a class that this library does not know, as it was found; of length 0 where the
 * model came without one.
 *
 * With a NULL `buffer`, *len is set to the required number of bytes. Otherwise *len is the size of
 * `buffer`, and is set to the bytes written. Status: UNDIFFUSE_BUFFER_TOO_SMALL, then *len is the
 * required length. Any thread.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_model_scheduler_json(const undiffuse_model *model,
                                                char *buffer,
                                                size_t *len,
                                                undiffuse_error **error);

/**
 * The text of the model's configuration, a diffusers config.json; of length 0 for callbacks. As
 * undiffuse_model_scheduler_json.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_model_config_json(const undiffuse_model *model,
                                             char *buffer,
                                             size_t *len,
                                             undiffuse_error **error);

/** Frees a model. Sessions made from it stay usable. NULL is ignored. */
UNDIFFUSE_API
void undiffuse_model_free(undiffuse_model *model);

/* ---- Samplers ------------------------------------------------------------------------ */

/**
 * Fills a schedule with diffusers' defaults. `struct_size` is sizeof(undiffuse_schedule_options) as
 * your program was compiled. Any thread.
 */
UNDIFFUSE_API
undiffuse_status undiffuse_schedule_options_init(undiffuse_schedule_options *options,
                                                 size_t struct_size);

/**
 * Fills options with the defaults: UniPC with 20 steps for a model saved with DDPM, its own sampler
 * for every other. `struct_size` is sizeof(undiffuse_sampler_options) as your program was compiled.
 * Any thread.
 */
UNDIFFUSE_API
undiffuse_status undiffuse_sampler_options_init(undiffuse_sampler_options *options,
                                                size_t struct_size);

/**
 * Makes a sampler from a schedule given by values.
 *
 * Either struct may be NULL for its defaults; both are read during the call.
 * UNDIFFUSE_SAMPLER_OF_SCHEDULE is UniPC with 20 steps if no steps are given, otherwise DDPM. On
 * success *sampler is yours; free it with undiffuse_sampler_free. Status: UNDIFFUSE_CONFIG,
 * UNDIFFUSE_UNSUPPORTED. Any thread.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_sampler_new(const undiffuse_schedule_options *schedule,
                                       const undiffuse_sampler_options *options,
                                       undiffuse_sampler **sampler,
                                       undiffuse_error **error);

/**
 * Makes a sampler from the text of a diffusers scheduler_config.json of `len` bytes; 0 if it ends
 * with a NUL.
 *
 * With a kind of DDPM or DDIM the text may name any of diffusers' schedulers whose model has the
 * same kind of schedule, as diffusers' from_config allows. Unknown keys and values are refused.
 * Otherwise as undiffuse_sampler_new.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_sampler_from_json(const char *json,
                                             size_t len,
                                             const undiffuse_sampler_options *options,
                                             undiffuse_sampler **sampler,
                                             undiffuse_error **error);

/**
 * Makes a sampler as a model's scheduler configuration says. Its class matters as little as to
 * undiffuse_sampler_from_json. Otherwise as undiffuse_sampler_new.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_sampler_from_model(const undiffuse_model *model,
                                              const undiffuse_sampler_options *options,
                                              undiffuse_sampler **sampler,
                                              undiffuse_error **error);

/** Writes information about the sampler to *info, whose struct_size you set. Any thread. */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_sampler_get_info(const undiffuse_sampler *sampler,
                                            undiffuse_sampler_info *info,
                                            undiffuse_error **error);

/**
 * Writes information about step `step`, counted from 0, to *info, whose struct_size you set. Any
 * thread.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_sampler_get_step_info(const undiffuse_sampler *sampler,
                                                 size_t step,
                                                 undiffuse_step_info *info,
                                                 undiffuse_error **error);

/**
 * The timestep of each network call, in order.
 *
 * With a NULL `timesteps`, *len is set to their number. Otherwise *len is the size of `timesteps`,
 * and is set to the number written. Status: UNDIFFUSE_BUFFER_TOO_SMALL, then *len is the required
 * length. Any thread.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_sampler_timesteps(const undiffuse_sampler *sampler,
                                             double *timesteps,
                                             size_t *len,
                                             undiffuse_error **error);

/**
 * Writes to *state_len the floats of history that a sample of `sample_len` floats carries from step
 * to step; 0 where it keeps none. Any thread.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_sampler_state_len(const undiffuse_sampler *sampler,
                                             size_t sample_len,
                                             size_t *state_len,
                                             undiffuse_error **error);

/**
 * Scales `len` floats of x_t for the network at step `step`: diffusers' scale_model_input. `out`
 * may be `x` itself.
 *
 * Status: UNDIFFUSE_NON_FINITE. Any thread.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_sampler_scale_model_input(const undiffuse_sampler *sampler,
                                                     size_t step,
                                                     const float *x,
                                                     size_t len,
                                                     float *out,
                                                     undiffuse_error **error);

/**
 * Writes to *step the step at which image to image begins, for a strength above 0 and at most 1: of
 * the sampler's N steps the last min(int(N strength), N) are run, as diffusers' pipelines have it;
 * a step may be several calls. Noise the pictures with undiffuse_sampler_add_noise at that step,
 * and give them to undiffuse_session_start_from.
 *
 * Status: UNDIFFUSE_INVALID_ARGUMENT for other strengths and where none of the steps is left;
 * UNDIFFUSE_UNSUPPORTED for chains of bits and classes, and for samplers whose noise rises on the
 * way. Any thread.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_sampler_start_of_strength(const undiffuse_sampler *sampler,
                                                     double strength,
                                                     size_t *step,
                                                     undiffuse_error **error);

/**
 * Adds noise to `len` floats of x_0, to the level of step `step`: out = alpha x_0 + sigma noise,
 * diffusers' add_noise. `out` overlaps neither.
 *
 * Status: UNDIFFUSE_UNSUPPORTED for binary chains, UNDIFFUSE_NON_FINITE. Any thread.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_sampler_add_noise(const undiffuse_sampler *sampler,
                                             size_t step,
                                             const float *x0,
                                             const float *noise,
                                             size_t len,
                                             float *out,
                                             undiffuse_error **error);

/**
 * Makes step `step`, from 0, of samples that you hold: from model_output, x_t and noise it computes
 * x_s and x_0. Any engine may have run the network.
 *
 * A sample's result has the same bits in any batch. Scratch of one sample comes from malloc. On an
 * error `next`, `x0` and `next_state` are unspecified.
 *
 * Status: UNDIFFUSE_SHAPE, UNDIFFUSE_INVALID_ARGUMENT, UNDIFFUSE_NON_FINITE where an array or what
 * the step makes of it holds NaN or infinity, UNDIFFUSE_OUT_OF_MEMORY. Any thread.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_sampler_step(const undiffuse_sampler *sampler,
                                        size_t step,
                                        const undiffuse_step_io *io,
                                        undiffuse_error **error);

/** Frees a sampler. Sessions made from it stay usable. NULL is ignored. */
UNDIFFUSE_API
void undiffuse_sampler_free(undiffuse_sampler *sampler);

/* ---- Noise --------------------------------------------------------------------------- */

/**
 * Fills `out` with `len` standard normal values: those that a session of this seed sees in draw
 * `draw` of sample `sample`.
 *
 * Draw 0 is x_T, draw k the noise of step k - 1. The values depend on (seed, sample, draw) and
 * their position alone, on every platform. Any thread.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_noise_normal(uint64_t seed,
                                        uint64_t sample,
                                        uint64_t draw,
                                        float *out,
                                        size_t len,
                                        undiffuse_error **error);

/** As undiffuse_noise_normal, but uniform in [0, 1): the noise of binary chains. */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_noise_uniform(uint64_t seed,
                                         uint64_t sample,
                                         uint64_t draw,
                                         float *out,
                                         size_t len,
                                         undiffuse_error **error);

/* ---- Operators ----------------------------------------------------------------------- */

/**
 * A = I: the measurement is the sample itself, for denoising.
 *
 * As for every operator: a sample has the `rank` dimensions at `dims`, outermost first ([channels,
 * height, width] for images); arrays are read during the call; on success *op is yours, free it
 * with undiffuse_operator_free. Status: UNDIFFUSE_SHAPE where operator and dimensions do not suit
 * each other, UNDIFFUSE_NON_FINITE for taps that are not finite. Any thread.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_operator_identity(const size_t *dims,
                                             size_t rank,
                                             undiffuse_operator **op,
                                             undiffuse_error **error);

/**
 * A keeps the elements whose byte in `known` is not 0, in ascending order: for inpainting.
 *
 * `known` has `known_len` bytes: one for each element of a sample, or one for each position (height
 * x width), for all channels. A mask that hides nothing is refused (for denoising there is
 * undiffuse_operator_identity), as is one that hides everything.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_operator_mask(const size_t *dims,
                                         size_t rank,
                                         const uint8_t *known,
                                         size_t known_len,
                                         undiffuse_operator **op,
                                         undiffuse_error **error);

/**
 * A keeps all of an image but the rectangle of `height` x `width` from row `top` and column `left`,
 * in all channels.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_operator_without_box(const size_t *dims,
                                                size_t rank,
                                                size_t top,
                                                size_t left,
                                                size_t height,
                                                size_t width,
                                                undiffuse_operator **op,
                                                undiffuse_error **error);

/** A keeps the `count` channels of an image that `channels` names, in that order. */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_operator_channels(const size_t *dims,
                                             size_t rank,
                                             const size_t *channels,
                                             size_t count,
                                             undiffuse_operator **op,
                                             undiffuse_error **error);

/**
 * A sums the channels of an image with `count` weights, one for each channel; NULL and 0 for their
 * mean.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_operator_grey(const size_t *dims,
                                         size_t rank,
                                         const double *weights,
                                         size_t count,
                                         undiffuse_operator **op,
                                         undiffuse_error **error);

/**
 * A takes the mean of blocks of `factor` x `factor`; the factor divides both sides of the image.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_operator_block_average(const size_t *dims,
                                                  size_t rank,
                                                  size_t factor,
                                                  undiffuse_operator **op,
                                                  undiffuse_error **error);

/**
 * A shrinks an image by `factor` with the anti-aliased bicubic filter; the factor divides both
 * sides.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_operator_bicubic(const size_t *dims,
                                            size_t rank,
                                            size_t factor,
                                            undiffuse_padding padding,
                                            undiffuse_operator **op,
                                            undiffuse_error **error);

/**
 * A blurs each channel: `down` are `down_len` taps along columns, `across` `across_len` taps along
 * rows, each centred at half its length. Its decomposition is computed here, in a time that grows
 * with the cube of a side: half a second for 256.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_operator_separable_blur(const size_t *dims,
                                                   size_t rank,
                                                   const float *down,
                                                   size_t down_len,
                                                   const float *across,
                                                   size_t across_len,
                                                   undiffuse_padding padding,
                                                   undiffuse_operator **op,
                                                   undiffuse_error **error);

/**
 * A convolves each channel with a kernel of `kernel_height` rows of `kernel_width` taps, the image
 * repeated beyond its edges.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_operator_circular_blur(const size_t *dims,
                                                  size_t rank,
                                                  const float *kernel,
                                                  size_t kernel_height,
                                                  size_t kernel_width,
                                                  undiffuse_operator **op,
                                                  undiffuse_error **error);

/**
 * A is a dense matrix of `output_len` rows of n values, n the elements of a sample. Its
 * decomposition is computed here.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_operator_dense(const size_t *dims,
                                          size_t rank,
                                          const float *matrix,
                                          size_t output_len,
                                          undiffuse_operator **op,
                                          undiffuse_error **error);

/**
 * A shuffles the positions of an image by `seed`, transforms each channel by the Walsh-Hadamard
 * matrix and keeps the first `measurements` coefficients: compressed sensing. height x width must
 * be a power of 2.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_operator_hadamard(const size_t *dims,
                                             size_t rank,
                                             size_t measurements,
                                             uint64_t seed,
                                             undiffuse_operator **op,
                                             undiffuse_error **error);

/** A by functions of yours. `callbacks` is read during the call. */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_operator_from_callbacks(const size_t *dims,
                                                   size_t rank,
                                                   const undiffuse_operator_callbacks *callbacks,
                                                   undiffuse_operator **op,
                                                   undiffuse_error **error);

/** Writes information about the operator to *info, whose struct_size you set. Any thread. */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_operator_get_info(const undiffuse_operator *op,
                                             undiffuse_operator_info *info,
                                             undiffuse_error **error);

/**
 * y = A x, of any operator: reads the n floats of a sample at `x` and writes the m floats of a
 * measurement at `y`, which do not overlap. Scratch comes from malloc. Status: UNDIFFUSE_SHAPE,
 * UNDIFFUSE_NON_FINITE. Any thread.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_operator_apply(const undiffuse_operator *op,
                                          const float *x,
                                          size_t x_len,
                                          float *y,
                                          size_t y_len,
                                          undiffuse_error **error);

/**
 * x = A^T y, of a linear operator (undiffuse_operator_vjp is of any): reads m floats at `y` and
 * writes n floats at `x`. Otherwise as undiffuse_operator_apply.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_operator_adjoint(const undiffuse_operator *op,
                                            const float *y,
                                            size_t y_len,
                                            float *x,
                                            size_t x_len,
                                            undiffuse_error **error);

/**
 * x = A^+ y, the minimum-norm least-squares solution of A x = y. Status: UNDIFFUSE_UNSUPPORTED
 * where the operator has none. Otherwise as undiffuse_operator_adjoint.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_operator_pseudo_inverse(const undiffuse_operator *op,
                                                   const float *y,
                                                   size_t y_len,
                                                   float *x,
                                                   size_t x_len,
                                                   undiffuse_error **error);

/**
 * Writes a normalised Gaussian kernel of an odd number `len` of taps and standard deviation
 * `sigma`, in elements, to `taps`. Any thread.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_gaussian_kernel(size_t len,
                                           double sigma,
                                           float *taps,
                                           undiffuse_error **error);

/** Frees an operator. Evidence made with it stays usable. NULL is ignored. */
UNDIFFUSE_API
void undiffuse_operator_free(undiffuse_operator *op);

/**
 * A(x) = clamp(gain x, -1, 1): overexposure. Not linear: for DPS, DAPS, RED-diff and SITCOM, as
 * those below. `gain` is above 0.
 *
 * Otherwise as undiffuse_operator_identity.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_operator_clip(const size_t *dims,
                                         size_t rank,
                                         double gain,
                                         undiffuse_operator **op,
                                         undiffuse_error **error);

/**
 * A(x) = 2 u^exponent - 1 with u = (x + 1) / 2, continued along its tangents below u = 1 / 512 and
 * above 1. `exponent` is 0.1 to 10.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_operator_gamma(const size_t *dims,
                                          size_t rank,
                                          double exponent,
                                          undiffuse_operator **op,
                                          undiffuse_error **error);

/**
 * A(x) is the nearest of `levels` values, 2 to 65536, evenly spread over -1 to 1. Its gradient is
 * taken for that of y = x.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_operator_quantize(const size_t *dims,
                                             size_t rank,
                                             uint32_t levels,
                                             undiffuse_operator **op,
                                             undiffuse_error **error);

/**
 * A(x) are the magnitudes of the two-dimensional Fourier transform of (x + 1) / 2 among zeros, on
 * sides `oversampling` times as long, 1 or more, rounded up: phase retrieval. The transform keeps
 * the sum of squares. An image turned by 180 degrees has the same.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_operator_fourier_magnitude(const size_t *dims,
                                                      size_t rank,
                                                      double oversampling,
                                                      undiffuse_operator **op,
                                                      undiffuse_error **error);

/** A by functions of yours that is not linear. `callbacks` is read during the call. */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_operator_from_forward_callbacks(const size_t *dims,
                                                           size_t rank,
                                                           const undiffuse_forward_callbacks *callbacks,
                                                           undiffuse_operator **op,
                                                           undiffuse_error **error);

/**
 * out = J(x)^T v: reads the n floats of a sample at `x` and the m of a measurement at `v`, and
 * writes n floats at `out`, J being the derivative of the operator at x; of a linear one it is A^T
 * v. `out` overlaps neither. Scratch comes from malloc. Status: UNDIFFUSE_SHAPE,
 * UNDIFFUSE_NON_FINITE. Any thread.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_operator_vjp(const undiffuse_operator *op,
                                        const float *x,
                                        size_t x_len,
                                        const float *v,
                                        size_t v_len,
                                        float *out,
                                        size_t out_len,
                                        undiffuse_error **error);

/* ---- Evidence ------------------------------------------------------------------------ */

/**
 * Fills options with the defaults: calibrated evidence with 2 iterations and 1 product for the
 * variance, and the published constants of the others. `struct_size` is
 * sizeof(undiffuse_method_options) as your program was compiled. Any thread.
 */
UNDIFFUSE_API
undiffuse_status undiffuse_method_options_init(undiffuse_method_options *options,
                                               size_t struct_size);

/**
 * Makes evidence of a measurement.
 *
 * `options` may be NULL for the defaults; both structs are read during the call, the measured
 * values are copied. On success *evidence is yours; free it with undiffuse_evidence_free.
 *
 * Status: UNDIFFUSE_SHAPE, UNDIFFUSE_INVALID_ARGUMENT, UNDIFFUSE_NON_FINITE, UNDIFFUSE_UNSUPPORTED
 * where operator and method do not suit each other. Whether the method suits a sampler and a model
 * is checked when a session is made. Any thread.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_evidence_from_measurement(const undiffuse_measurement *measurement,
                                                     const undiffuse_method_options *options,
                                                     undiffuse_evidence **evidence,
                                                     undiffuse_error **error);

/**
 * Makes what is no evidence but goes where evidence goes: samples of the model itself, whose steps
 * have the covariance that steps of their length should have, from `variance_products`
 * vector-Jacobian products a step, 1 to 16; 2 are enough. With it a chain of few steps has the
 * variances of one of a thousand, whatever `variance_type` the model was saved with. For DDPM, DDIM
 * and RePaint's sampler.
 *
 * On success *evidence is yours; free it with undiffuse_evidence_free. Status:
 * UNDIFFUSE_INVALID_ARGUMENT. Any thread.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_evidence_optimal_variance(size_t variance_products,
                                                     undiffuse_evidence **evidence,
                                                     undiffuse_error **error);

/**
 * Makes evidence of your own: a function that gives the gradient of log r.
 *
 * `gradient` is read during the call; its `user_data` must live until the evidence and all sessions
 * made with it are freed. Otherwise as undiffuse_evidence_from_measurement.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_evidence_from_gradient(const undiffuse_gradient_evidence *gradient,
                                                  undiffuse_evidence **evidence,
                                                  undiffuse_error **error);

/**
 * Makes evidence for a binary chain: about each bit by itself, or by a function. `bits` is read
 * during the call, `odds` are copied. Otherwise as undiffuse_evidence_from_measurement.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_evidence_from_bits(const undiffuse_bit_evidence *bits,
                                              undiffuse_evidence **evidence,
                                              undiffuse_error **error);

/**
 * Makes evidence for a chain of classes: about each position by itself. `classes` is read during
 * the call, `weights` are copied. Otherwise as undiffuse_evidence_from_measurement.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_evidence_from_classes(const undiffuse_class_evidence *classes,
                                                 undiffuse_evidence **evidence,
                                                 undiffuse_error **error);

/**
 * Chooses the sampler that the evidence is best run with on a model: the one its method was
 * published with; for calibrated evidence RePaint's jumps, with which digits were restored best;
 * DDPM's every step for evidence that nothing is known of.
 *
 * *options, which you have initialised, gets `kind` and `steps` and, of `eta`, `ddim_noise`,
 * `jump_length`, `resamplings`, `flow_steps`, `gradient_steps` and what begins with `ladder`, those
 * that the kind reads; the rest stays. DiffPIR's is for inpainting: for super-resolution it was
 * published with an `eta` of 0.5, for deblurring of 0.316. A model of 2015 or of bits has its own
 * chain, whatever the evidence. Any thread.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_evidence_recommend_sampler(const undiffuse_evidence *evidence,
                                                      const undiffuse_model *model,
                                                      undiffuse_sampler_options *options,
                                                      undiffuse_error **error);

/**
 * Turns standard normal noise into the x_T that DDRM and DDNM+ begin with, in place: `x` are `len`
 * floats of whole samples, the first of them number `first_sample`. Give it to
 * undiffuse_session_start_from with step 0.
 *
 * Status: UNDIFFUSE_UNSUPPORTED for evidence without a beginning of its own, UNDIFFUSE_NON_FINITE.
 * Any thread.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_evidence_start(const undiffuse_evidence *evidence,
                                          const undiffuse_sampler *sampler,
                                          uint64_t first_sample,
                                          float *x,
                                          size_t len,
                                          undiffuse_error **error);

/** Frees evidence. Sessions made with it stay usable. NULL is ignored. */
UNDIFFUSE_API
void undiffuse_evidence_free(undiffuse_evidence *evidence);

/**
 * Writes what a method needs and takes to *info, whose struct_size you set; so a program can offer
 * the methods that suit a measurement and a model. Status: UNDIFFUSE_INVALID_ARGUMENT for a number
 * that is no method. Any thread.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_method_get_info(undiffuse_method method,
                                           undiffuse_method_info *info,
                                           undiffuse_error **error);

/* ---- Sessions ------------------------------------------------------------------------ */

/**
 * Fills options with the defaults: one sample, number 0 of seed 0, all cores, malloc. `struct_size`
 * is sizeof(undiffuse_session_options) as your program was compiled. Any thread.
 */
UNDIFFUSE_API
undiffuse_status undiffuse_session_options_init(undiffuse_session_options *options,
                                                size_t struct_size);

/**
 * Writes to *bytes how much memory undiffuse_session_new takes for these arguments, at whatever
 * address: of your workspace, your allocator or malloc. Nothing is allocated but small temporaries,
 * and no thread is started.
 *
 * As for undiffuse_session_new: `sampler` may be NULL for the usual one, `evidence` for none,
 * `options` for the defaults. Any thread.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_session_required_bytes(const undiffuse_model *model,
                                                  const undiffuse_sampler *sampler,
                                                  const undiffuse_evidence *evidence,
                                                  const undiffuse_session_options *options,
                                                  size_t *bytes,
                                                  undiffuse_error **error);

/**
 * Makes a session at x_T.
 *
 * `sampler` may be NULL: with evidence for the sampler that undiffuse_evidence_recommend_sampler
 * chooses, without for the default of undiffuse_sampler_options. `evidence` may be NULL for none,
 * `options` for the defaults. All that they point at is read during the call; see
 * undiffuse_session_options for what must live longer. The handles may be freed afterwards. On
 * success *session is yours; free it with undiffuse_session_free.
 *
 * Status: UNDIFFUSE_UNSUPPORTED where evidence needs a vector-Jacobian product that the model has
 * not, or does not suit the sampler; UNDIFFUSE_SHAPE, UNDIFFUSE_INVALID_ARGUMENT,
 * UNDIFFUSE_OUT_OF_MEMORY. Any thread.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_session_new(const undiffuse_model *model,
                                       const undiffuse_sampler *sampler,
                                       const undiffuse_evidence *evidence,
                                       const undiffuse_session_options *options,
                                       undiffuse_session **session,
                                       undiffuse_error **error);

/**
 * What the session runs on, such as "network on cpu avx512, 2 threads", without a NUL at the end.
 *
 * With a NULL `buffer`, *len is set to the required number of bytes. Otherwise *len is the size of
 * `buffer`, and is set to the bytes written. Status: UNDIFFUSE_BUFFER_TOO_SMALL, then *len is the
 * required length.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_session_describe(const undiffuse_session *session,
                                            char *buffer,
                                            size_t *len,
                                            undiffuse_error **error);

/* ---- Conditions ---------------------------------------------------------------------- */

/**
 * Fills guidance with the defaults: scale 1, no rescaling, all levels, no negative condition.
 * `struct_size` is sizeof(undiffuse_guidance) as your program was compiled. Any thread.
 */
UNDIFFUSE_API
undiffuse_status undiffuse_guidance_init(undiffuse_guidance *guidance,
                                         size_t struct_size);

/**
 * Fills *info with input number `index` of the model, below `input_count` of undiffuse_model_info.
 * Those of the roles SAMPLE and TIMESTEP the library fills; the others you give, in `conditions` of
 * undiffuse_session_options, or a class in `classes`. info->struct_size must be set. Any thread.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_model_get_input(const undiffuse_model *model,
                                           size_t index,
                                           undiffuse_input_info *info,
                                           undiffuse_error **error);

/**
 * Gives other rows to an input of a session's model, from the next step on; see
 * undiffuse_condition. On an error the session is unchanged. Nothing is allocated where it had as
 * many. Status: UNDIFFUSE_INVALID_ARGUMENT for a name that the model has not, UNDIFFUSE_SHAPE,
 * UNDIFFUSE_NON_FINITE.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_session_set_condition(undiffuse_session *session,
                                                 const undiffuse_condition *condition,
                                                 undiffuse_error **error);

/**
 * As undiffuse_session_set_condition, for a negative condition of a session with guidance, which
 * must have been made with one of this name.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_session_set_negative(undiffuse_session *session,
                                                const undiffuse_condition *condition,
                                                undiffuse_error **error);

/**
 * Fills options with the defaults: all cores, malloc. `struct_size` is
 * sizeof(undiffuse_codec_options) as your program was compiled. Any thread.
 */
UNDIFFUSE_API
undiffuse_status undiffuse_codec_options_init(undiffuse_codec_options *options,
                                              size_t struct_size);

/**
 * Makes a codec. `options` may be NULL for the defaults. On success *codec is yours; free it with
 * undiffuse_codec_free. Status: UNDIFFUSE_OUT_OF_MEMORY, UNDIFFUSE_INVALID_ARGUMENT. Any thread.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_codec_new(const undiffuse_model *model,
                                     const undiffuse_codec_options *options,
                                     undiffuse_codec **codec,
                                     undiffuse_error **error);

/** Writes what the codec does and takes to *info, whose struct_size you set. */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_codec_get_info(const undiffuse_codec *codec,
                                          undiffuse_codec_info *info,
                                          undiffuse_error **error);

/**
 * Writes the data of whole samples: `x` are `x_len` floats, [samples, sample_len], as
 * undiffuse_session_x gives them; `data` receives [samples, data_len], `len` floats. Images are in
 * -1 to 1 as far as the decoder keeps them there; nothing is clamped. Arrays do not overlap.
 * Allocates nothing (a GPU's driver may).
 *
 * Status: UNDIFFUSE_SHAPE for other lengths, UNDIFFUSE_NON_FINITE for NaN or infinity in `x`,
 * UNDIFFUSE_CANCELLED, UNDIFFUSE_DEVICE.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_codec_decode(undiffuse_codec *codec,
                                        const float *x,
                                        size_t x_len,
                                        float *data,
                                        size_t len,
                                        undiffuse_error **error);

/**
 * The way back, for image to image: writes the samples of whole data, `data_len` floats, [samples,
 * encoded_len] of undiffuse_codec_info; `x` receives [samples, sample_len], `x_len` floats. Noise
 * them by undiffuse_sampler_add_noise for undiffuse_session_start_from. Images are in -1 to 1.
 * Arrays do not overlap. Allocates nothing (a GPU's driver may).
 *
 * An AutoencoderKL encodes to a Gaussian: `noise`, as many standard normal values as `x`, samples
 * it, as diffusers does for image to image; NULL takes its mean. For others it is not looked at.
 * Take draw UNDIFFUSE_ENCODER_DRAW of undiffuse_session_noise: of a seed no session's, of another
 * program's generator the one that it draws first (see `encoded_images` of undiffuse_noise).
 *
 * Status: UNDIFFUSE_UNSUPPORTED where samples are latents and the encoder was left out (see
 * `encode_bytes` of undiffuse_model_options); UNDIFFUSE_SHAPE for other lengths,
 * UNDIFFUSE_NON_FINITE for NaN or infinity in `data` or `noise`, UNDIFFUSE_CANCELLED,
 * UNDIFFUSE_DEVICE.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_codec_encode(undiffuse_codec *codec,
                                        const float *data,
                                        size_t data_len,
                                        const float *noise,
                                        float *x,
                                        size_t x_len,
                                        undiffuse_error **error);

/** Frees a codec. NULL is ignored. */
UNDIFFUSE_API
void undiffuse_codec_free(undiffuse_codec *codec);

/**
 * Makes all remaining steps, calling the progress callback after each.
 *
 * Returns UNDIFFUSE_OK when the run is done, UNDIFFUSE_STOPPED when the callback stopped it. After
 * that, and after every error but UNDIFFUSE_PANIC, the session is at the end of its last complete
 * step, and another call continues from there.
 *
 * Status: UNDIFFUSE_CANCELLED, UNDIFFUSE_CALLBACK, UNDIFFUSE_NON_FINITE, UNDIFFUSE_DEVICE.
 * Allocates nothing (a callback of yours aside; a GPU's driver may).
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_session_run(undiffuse_session *session,
                                       undiffuse_error **error);

/**
 * Makes one step if one remains; otherwise it does nothing. The progress callback is not called.
 *
 * Status as undiffuse_session_run; undiffuse_session_get_info tells whether the run is done.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_session_step(undiffuse_session *session,
                                        undiffuse_error **error);

/** Writes the state of the session to *info, whose struct_size you set. */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_session_get_info(const undiffuse_session *session,
                                            undiffuse_session_info *info,
                                            undiffuse_error **error);

/**
 * Points *x at the samples where they stand, [count, sample_len], and writes their number of floats
 * to *len (which may be NULL). Once the run is done they are the result: for images [count,
 * channels, height, width], in the units that the model was trained with, mostly -1 to 1.
 *
 * The memory is the session's: it is valid until the next call with a pointer to this session that
 * is not const.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_session_x(const undiffuse_session *session,
                                     const float **x,
                                     size_t *len,
                                     undiffuse_error **error);

/**
 * As undiffuse_session_x for the x_0 that the last step predicted, after clipping; zeros before the
 * first.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_session_x0(const undiffuse_session *session,
                                      const float **x0,
                                      size_t *len,
                                      undiffuse_error **error);

/**
 * Begins again at x_T with `count` samples, at most the batch, the first of them number
 * `first_sample`. Allocates nothing. On an error the session is unchanged.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_session_restart(undiffuse_session *session,
                                           uint64_t first_sample,
                                           size_t count,
                                           undiffuse_error **error);

/**
 * Begins in the middle: `x`, `len` floats of whole samples, is taken for x_t of step `step`; with
 * the number of steps the run is done. For images that you noised (undiffuse_sampler_add_noise) and
 * for x_T of your own, with step 0. `x` is copied. On an error the session is unchanged. Status:
 * UNDIFFUSE_SHAPE, UNDIFFUSE_NON_FINITE.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_session_start_from(undiffuse_session *session,
                                              size_t step,
                                              const float *x,
                                              size_t len,
                                              uint64_t first_sample,
                                              undiffuse_error **error);

/**
 * Fills `out`, `len` floats of whole samples, with the normal values that the session's noise has
 * for draw `draw` of the samples from `first_sample` on, whatever the noise comes from. Draw 0 is
 * what x_T is made of, and what undiffuse_sampler_add_noise adds in image to image; draw k the
 * noise of step k - 1; UNDIFFUSE_ENCODER_DRAW samples what undiffuse_codec_encode encodes. No
 * result of the session changes. Status: UNDIFFUSE_SHAPE; UNDIFFUSE_INVALID_ARGUMENT for a draw or
 * sample that the noise has not.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_session_noise(undiffuse_session *session,
                                         uint64_t first_sample,
                                         uint64_t draw,
                                         float *out,
                                         size_t len,
                                         undiffuse_error **error);

/**
 * Saves position, x, x_0 and the sampler's history. A session made of the same model, sampler,
 * evidence and seed that restores them ends in the same bits as if it had never stopped, in
 * whatever process.
 *
 * With a NULL `buffer`, *len is set to the required number of bytes. Otherwise *len is the size of
 * `buffer`, and is set to the bytes written. Status: UNDIFFUSE_BUFFER_TOO_SMALL, then *len is the
 * required length.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_session_save(const undiffuse_session *session,
                                        void *buffer,
                                        size_t *len,
                                        undiffuse_error **error);

/**
 * Restores what undiffuse_session_save wrote, `len` bytes. Damaged bytes, and those of a session
 * with other settings, are refused with UNDIFFUSE_INVALID_ARGUMENT, and the session is unchanged.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_session_restore(undiffuse_session *session,
                                           const void *bytes,
                                           size_t len,
                                           undiffuse_error **error);

/**
 * Calls the network alone, at the level of step `step`: `x` are `x_len` floats of whole samples, at
 * most the batch, scaled as the network takes them (undiffuse_sampler_scale_model_input); `out`
 * receives [samples, output_len]. The first of the samples counts as number `first_sample`, which
 * matters to class models. The run is not changed. Arrays do not overlap.
 *
 * Status: UNDIFFUSE_SHAPE, UNDIFFUSE_CANCELLED, UNDIFFUSE_CALLBACK, UNDIFFUSE_NON_FINITE for NaN or
 * infinity in `x` or in the prediction.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_session_predict(undiffuse_session *session,
                                           size_t step,
                                           uint64_t first_sample,
                                           const float *x,
                                           size_t x_len,
                                           float *out,
                                           size_t out_len,
                                           undiffuse_error **error);

/**
 * The vector-Jacobian product of the network at the level of step `step`: out = J^T v for each
 * sample, with J = d predict(x) / d x. `x` and `out` have `x_len` floats, `v` as many as the
 * prediction, `v_len`. Otherwise as undiffuse_session_predict.
 *
 * Status: UNDIFFUSE_UNSUPPORTED for a model without a gradient.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_session_vjp(undiffuse_session *session,
                                       size_t step,
                                       uint64_t first_sample,
                                       const float *x,
                                       size_t x_len,
                                       const float *v,
                                       size_t v_len,
                                       float *out,
                                       undiffuse_error **error);

/**
 * All in one call: makes a session, runs it for as many samples as `out` holds, batch by batch, and
 * frees it.
 *
 * `out` has `out_len` floats: [samples, sample_len], the first sample number options->first_sample;
 * of a latent model [samples, data_len] (undiffuse_model_info), decoded, in memory of the allocator
 * or malloc. Arguments and status otherwise as undiffuse_session_new and undiffuse_session_run. If
 * it returns UNDIFFUSE_STOPPED or an error, `out` is unspecified. Any thread.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_sample(const undiffuse_model *model,
                                  const undiffuse_sampler *sampler,
                                  const undiffuse_evidence *evidence,
                                  const undiffuse_session_options *options,
                                  float *out,
                                  size_t out_len,
                                  undiffuse_error **error);

/**
 * Frees a session, ends its threads and waits for them. Your workspace is yours again. NULL is
 * ignored. It must not be called from a callback of the same session.
 */
UNDIFFUSE_API
void undiffuse_session_free(undiffuse_session *session);

/* ---- Evaluation ---------------------------------------------------------------------- */

/**
 * Fills options with the defaults: all steps, one draw, the paper's ends. `struct_size` is
 * sizeof(undiffuse_bound_options) as your program was compiled. Any thread.
 */
UNDIFFUSE_API
undiffuse_status undiffuse_bound_options_init(undiffuse_bound_options *options,
                                              size_t struct_size);

/**
 * Evaluates a lower bound K <= log p(data) of the chain that `sampler` makes of `model`
 * (Sohl-Dickstein et al. 2015, Eqs. 10 to 15).
 *
 * `data` are `data_len` floats of whole samples, in the scale that the model was trained on; bits
 * are 0 or 1. The sampler must draw each step from a density: a 2015 chain or DDPM, not DDIM; NULL
 * is the model's own with all its steps. `options` may be NULL for the defaults. Memory, about
 * batch (3 sample_len + output_len) floats and count (draws + 2) doubles beside the network's own,
 * comes from malloc. On success *bound is yours; free it with undiffuse_bound_free.
 *
 * Status: UNDIFFUSE_SHAPE, UNDIFFUSE_INVALID_ARGUMENT, UNDIFFUSE_UNSUPPORTED, UNDIFFUSE_NON_FINITE,
 * UNDIFFUSE_CANCELLED, UNDIFFUSE_OUT_OF_MEMORY, UNDIFFUSE_CALLBACK. Any thread.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_bound_new(const undiffuse_model *model,
                                     const undiffuse_sampler *sampler,
                                     const undiffuse_bound_options *options,
                                     const float *data,
                                     size_t data_len,
                                     undiffuse_bound **bound,
                                     undiffuse_error **error);

/** Writes what the evaluation found to *info, whose struct_size you set. Any thread. */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_bound_get_info(const undiffuse_bound *bound,
                                          undiffuse_bound_info *info,
                                          undiffuse_error **error);

/**
 * K of each data point. With the paper's ends only the mean is a bound.
 *
 * With a NULL `k`, *len is set to their number. Otherwise *len is the size of `k`, and is set to
 * the number written. Status: UNDIFFUSE_BUFFER_TOO_SMALL, then *len is the required length. Any
 * thread.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_bound_per_sample(const undiffuse_bound *bound,
                                            double *k,
                                            size_t *len,
                                            undiffuse_error **error);

/**
 * The steps that have a divergence, from the noisiest on. As undiffuse_bound_per_sample. What later
 * versions tell of a step is in undiffuse_bound_get_step_info.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_bound_steps(const undiffuse_bound *bound,
                                       undiffuse_step_bound *steps,
                                       size_t *len,
                                       undiffuse_error **error);

/**
 * Writes step `index`, counted as undiffuse_bound_steps lists them, to *info, whose struct_size you
 * set. Any thread.
 */
UNDIFFUSE_NODISCARD UNDIFFUSE_API
undiffuse_status undiffuse_bound_get_step_info(const undiffuse_bound *bound,
                                               size_t index,
                                               undiffuse_bound_step_info *info,
                                               undiffuse_error **error);

/** Frees a bound. NULL is ignored. */
UNDIFFUSE_API
void undiffuse_bound_free(undiffuse_bound *bound);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* UNDIFFUSE_H */
