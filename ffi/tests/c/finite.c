/* NaN and infinity, wherever floats enter: each is refused, and the same call with the number that stood there goes. c_programs.rs sees
 * to it that every float of the header is named here. argv[1]: a small network. */
#include "check.h"

enum { SIDE = 8, N = SIDE * SIDE };

/* Sets *place to NaN and both infinities, one after the other: each call must fail for that reason. */
#define REFUSES(what, place, call)                                                                                    \
  do {                                                                                                                \
    const double bad[3] = {NAN, INFINITY, -INFINITY};                                                                 \
    size_t which;                                                                                                     \
    check_status((int)(call), UNDIFFUSE_OK, what, __FILE__, __LINE__);                                                \
    for (which = 0; which < 3; which++) {                                                                             \
      const double saved = (double)(place);                                                                           \
      int status;                                                                                                     \
      SET(place, bad[which]);                                                                                         \
      status = (int)(call);                                                                                           \
      SET(place, saved);                                                                                              \
      if (status != UNDIFFUSE_NON_FINITE && status != UNDIFFUSE_INVALID_ARGUMENT && status != UNDIFFUSE_CONFIG) {      \
        fprintf(stderr, "%s: %s is %g: %s (%s)\n", __FILE__, what, bad[which], undiffuse_status_name(status),         \
                undiffuse_error_message(last_error));                                                                 \
        failures++;                                                                                                   \
      }                                                                                                               \
      undiffuse_error_free(last_error);                                                                               \
      last_error = NULL;                                                                                              \
    }                                                                                                                 \
  } while (0)
#define SET(place, value)                                               \
  do {                                                                  \
    if (sizeof(place) == sizeof(float))                                 \
      *(float *)(void *)&(place) = (float)(value);                      \
    else                                                                \
      *(double *)(void *)&(place) = (value);                            \
  } while (0)

static int failures;
static undiffuse_model *model;
static undiffuse_sampler *sampler;
static float x[N], other[N], out[N], again[N];
static const size_t dims[3] = {1, SIDE, SIDE};

/* What a callback gives in the middle of what it writes. */
static float given = 0.25f;

static int32_t predict(void *user_data, const undiffuse_call *call, const float *from, float *to) {
  size_t i, n = call->count * call->sample_len;
  (void)user_data;
  for (i = 0; i < n; i++) to[i] = 0.5f * from[i];
  to[n / 2] = given;
  return 0;
}

static int32_t vjp(void *user_data, const undiffuse_call *call, const float *from, const float *v, float *to) {
  (void)from;
  return predict(user_data, call, v, to);
}

static int32_t map(void *user_data, const float *from, size_t from_len, float *to, size_t to_len) {
  (void)user_data;
  CHECK(from_len == to_len);
  memcpy(to, from, to_len * sizeof *to);
  to[to_len / 2] = given;
  return 0;
}

static int32_t forward_vjp(void *user_data, const float *of, size_t of_len, const float *v, size_t v_len, float *to, size_t to_len) {
  (void)of;
  (void)of_len;
  return map(user_data, v, v_len, to, to_len);
}

static int32_t fill(void *user_data, undiffuse_noise_kind kind, uint64_t first, uint64_t draw, size_t len, size_t count, float *to) {
  size_t i;
  (void)user_data;
  (void)kind;
  (void)first;
  (void)draw;
  for (i = 0; i < len * count; i++) to[i] = 0.5f;
  to[len / 2] = given;
  return 0;
}

static int sampler_of(const undiffuse_schedule_options *schedule, const undiffuse_sampler_options *options) {
  undiffuse_sampler *made = NULL;
  const int status = (int)undiffuse_sampler_new(schedule, options, &made, E);
  undiffuse_sampler_free(made);
  return status;
}

static int op_of(undiffuse_status status, undiffuse_operator **op) {
  undiffuse_operator_free(*op);
  *op = NULL;
  return (int)status;
}

static int run(const undiffuse_model *of, const undiffuse_evidence *evidence, undiffuse_session_options *o) {
  return (int)undiffuse_sample(of, sampler, evidence, o, out, N, E);
}

static void samplers(void) {
  undiffuse_schedule_options s;
  undiffuse_sampler_options o;
  undiffuse_step_io io;
  undiffuse_sampler *made = NULL;
  double betas[4] = {0.1, 0.2, 0.3, 0.4}, sigmas[3] = {40, 2, 0}, largest = FLT_MAX;
  OK(undiffuse_schedule_options_init(&s, sizeof s));
  OK(undiffuse_sampler_options_init(&o, sizeof o));
  o.steps = 4;
  REFUSES("undiffuse_schedule_options.beta_start", s.beta_start, sampler_of(&s, &o));
  REFUSES("undiffuse_schedule_options.beta_end", s.beta_end, sampler_of(&s, &o));
  REFUSES("undiffuse_schedule_options.clip_sample_range", s.clip_sample_range, sampler_of(&s, &o));
  s.thresholding = 1;
  REFUSES("undiffuse_schedule_options.dynamic_thresholding_ratio", s.dynamic_thresholding_ratio, sampler_of(&s, &o));
  REFUSES("undiffuse_schedule_options.sample_max_value", s.sample_max_value, sampler_of(&s, &o));
  s.thresholding = 0;
  o.kind = UNDIFFUSE_SAMPLER_UNIPC;
  o.steps = 0;
  o.sigmas = sigmas;
  o.sigmas_len = 3;
  REFUSES("undiffuse_sampler_options.sigmas", sigmas[1], sampler_of(&s, &o));
  o.sigmas = NULL;
  o.sigmas_len = 0;
  o.steps = 4;
  o.kind = UNDIFFUSE_SAMPLER_SPLIT_GIBBS;
  o.ladder_smallest = 0.5;
  REFUSES("undiffuse_sampler_options.ladder_largest", o.ladder_largest, sampler_of(&s, &o));
  REFUSES("undiffuse_sampler_options.ladder_smallest", o.ladder_smallest, sampler_of(&s, &o));
  REFUSES("undiffuse_sampler_options.ladder_ratio", o.ladder_ratio, sampler_of(&s, &o));
  o.kind = UNDIFFUSE_SAMPLER_RK45;
  REFUSES("undiffuse_sampler_options.rtol", o.rtol, sampler_of(&s, &o));
  REFUSES("undiffuse_sampler_options.atol", o.atol, sampler_of(&s, &o));
  o.kind = UNDIFFUSE_SAMPLER_DDIM;
  REFUSES("undiffuse_sampler_options.eta", o.eta, sampler_of(&s, &o));
  s.trained_betas = betas;
  s.trained_betas_len = s.num_train_timesteps = 4;
  REFUSES("undiffuse_schedule_options.trained_betas", betas[1], sampler_of(&s, &o));
  o.kind = UNDIFFUSE_SAMPLER_BITS_2015;
  o.steps = 0;
  REFUSES("undiffuse_sampler_options.pi", o.pi, sampler_of(&s, &o));

  /* A step, of each kind, with noise. Clipping would make a number of an infinity. */
  o.eta = 1;
  for (o.kind = UNDIFFUSE_SAMPLER_DDPM; o.kind <= UNDIFFUSE_SAMPLER_REPAINT; o.kind = (undiffuse_sampler_kind)(o.kind + 1)) {
    OK(undiffuse_sampler_new(&s, &o, &made, E));
    memset(&io, 0, sizeof io);
    io.struct_size = sizeof io;
    io.count = 2;
    io.sample_len = N / 2;
    io.model_output = other;
    io.x = x;
    io.noise = again;
    io.next = out;
    REFUSES("undiffuse_step_io.x", x[N - 1], undiffuse_sampler_step(made, 0, &io, E));
    REFUSES("undiffuse_step_io.model_output", other[N - 1], undiffuse_sampler_step(made, 0, &io, E));
    REFUSES("undiffuse_step_io.noise", again[N - 1], undiffuse_sampler_step(made, 0, &io, E));
    REFUSES("undiffuse_sampler_scale_model_input.x", x[3], undiffuse_sampler_scale_model_input(made, 0, x, N, out, E));
    REFUSES("undiffuse_sampler_scale_model_input.x", x[3], undiffuse_sampler_scale_model_input(made, 0, x, N, x, E));
    REFUSES("undiffuse_sampler_add_noise.x0", x[3], undiffuse_sampler_add_noise(made, 0, x, other, N, out, E));
    REFUSES("undiffuse_sampler_add_noise.noise", other[3], undiffuse_sampler_add_noise(made, 0, x, other, N, out, E));
    /* No sampler of this version has a history: state and next_state, "undiffuse_step_io.state", are empty. */
    x[0] = (float)largest; /* What is finite, but whose step is not. */
    other[0] = (float)-largest;
    s.clip_sample = 0;
    undiffuse_sampler_free(made);
    made = NULL;
    OK(undiffuse_sampler_new(&s, &o, &made, E));
    FAILS(UNDIFFUSE_NON_FINITE, undiffuse_sampler_step(made, 0, &io, E));
    x[0] = other[0] = 0;
    s.clip_sample = 1;
    undiffuse_sampler_free(made);
    made = NULL;
  }
}

static void operators(void) {
  undiffuse_operator *op = NULL;
  undiffuse_operator_callbacks c;
  undiffuse_forward_callbacks f;
  double weights[1] = {0.5}, sigma = 1.0, real = 1.5;
  float v[N];
  float taps[3] = {0.25f, 0.5f, 0.25f}, matrix[2 * N], y[2];
  size_t i;
  for (i = 0; i < 2 * N; i++) matrix[i] = (float)(i % 7) + 0.5f;
  REFUSES("undiffuse_operator_grey.weights", weights[0], op_of(undiffuse_operator_grey(dims, 3, weights, 1, &op, E), &op));
  REFUSES("undiffuse_operator_separable_blur.down", taps[1],
          op_of(undiffuse_operator_separable_blur(dims, 3, taps, 3, taps + 1, 1, UNDIFFUSE_PADDING_ZERO, &op, E), &op));
  REFUSES("undiffuse_operator_separable_blur.across", taps[1],
          op_of(undiffuse_operator_separable_blur(dims, 3, taps, 1, taps, 3, UNDIFFUSE_PADDING_ZERO, &op, E), &op));
  REFUSES("undiffuse_operator_circular_blur.kernel", taps[1],
          op_of(undiffuse_operator_circular_blur(dims, 3, taps, 1, 3, &op, E), &op));
  REFUSES("undiffuse_operator_dense.matrix", matrix[3], op_of(undiffuse_operator_dense(dims, 3, matrix, 2, &op, E), &op));
  REFUSES("undiffuse_gaussian_kernel.sigma", sigma, undiffuse_gaussian_kernel(3, sigma, taps, E));
  OK(undiffuse_operator_dense(dims, 3, matrix, 2, &op, E));
  y[0] = y[1] = 1;
  REFUSES("undiffuse_operator_apply.x", x[N - 1], undiffuse_operator_apply(op, x, N, y, 2, E));
  REFUSES("undiffuse_operator_adjoint.y", y[1], undiffuse_operator_adjoint(op, y, 2, out, N, E));
  REFUSES("undiffuse_operator_pseudo_inverse.y", y[1], undiffuse_operator_pseudo_inverse(op, y, 2, out, N, E));
  for (i = 0; i < N; i++) x[i] = FLT_MAX;
  FAILS(UNDIFFUSE_NON_FINITE, undiffuse_operator_apply(op, x, N, y, 2, E));
  for (i = 0; i < N; i++) x[i] = 0.125f;
  op_of(UNDIFFUSE_OK, &op);
  memset(&c, 0, sizeof c);
  c.struct_size = sizeof c;
  c.apply = c.adjoint = c.pseudo_inverse = map;
  c.output_rank = 1;
  c.output_dims[0] = N;
  OK(undiffuse_operator_from_callbacks(dims, 3, &c, &op, E));
  REFUSES("undiffuse_map_fn.to", given, undiffuse_operator_apply(op, x, N, out, N, E));
  REFUSES("undiffuse_map_fn.to", given, undiffuse_operator_adjoint(op, x, N, out, N, E));
  REFUSES("undiffuse_map_fn.to", given, undiffuse_operator_pseudo_inverse(op, x, N, out, N, E));
  op_of(UNDIFFUSE_OK, &op);
  REFUSES("undiffuse_operator_clip.gain", real, op_of(undiffuse_operator_clip(dims, 3, real, &op, E), &op));
  REFUSES("undiffuse_operator_gamma.exponent", real, op_of(undiffuse_operator_gamma(dims, 3, real, &op, E), &op));
  REFUSES("undiffuse_operator_fourier_magnitude.oversampling", real,
          op_of(undiffuse_operator_fourier_magnitude(dims, 3, real, &op, E), &op));
  memset(&f, 0, sizeof f);
  f.struct_size = sizeof f;
  f.forward = map;
  f.vjp = forward_vjp;
  f.output_rank = 1;
  f.output_dims[0] = N;
  OK(undiffuse_operator_from_forward_callbacks(dims, 3, &f, &op, E));
  for (i = 0; i < N; i++) v[i] = 0.5f;
  REFUSES("undiffuse_operator_vjp.x", x[3], undiffuse_operator_vjp(op, x, N, v, N, out, N, E));
  REFUSES("undiffuse_operator_vjp.v", v[3], undiffuse_operator_vjp(op, x, N, v, N, out, N, E));
  REFUSES("undiffuse_forward_vjp_fn.out", given, undiffuse_operator_vjp(op, x, N, v, N, out, N, E));
  op_of(UNDIFFUSE_OK, &op);
}

static int evidence_of(const undiffuse_measurement *m, const undiffuse_method_options *o) {
  undiffuse_evidence *made = NULL;
  const int status = (int)undiffuse_evidence_from_measurement(m, o, &made, E);
  undiffuse_evidence_free(made);
  return status;
}

static void evidence(void) {
  undiffuse_operator *op = NULL;
  undiffuse_measurement m;
  undiffuse_method_options o;
  undiffuse_gradient_evidence g;
  undiffuse_bit_evidence b;
  undiffuse_class_evidence c;
  undiffuse_evidence *made = NULL;
  undiffuse_session_options s = session_options(1, 3);
  float odds[4] = {0.5f, 0.25f, 1.0f, 0.0f};
  OK(undiffuse_operator_identity(dims, 3, &op, E));
  memset(&m, 0, sizeof m);
  m.struct_size = sizeof m;
  m.op = op;
  m.y = other;
  m.y_len = N;
  m.sigma = 0.5;
  OK(undiffuse_method_options_init(&o, sizeof o));
  REFUSES("undiffuse_measurement.y", other[5], evidence_of(&m, &o));
  REFUSES("undiffuse_measurement.sigma", m.sigma, evidence_of(&m, &o));
  o.method = UNDIFFUSE_METHOD_CALIBRATED_WHITE;
  REFUSES("undiffuse_method_options.variance", o.variance, evidence_of(&m, &o));
  o.method = UNDIFFUSE_METHOD_DPS;
  REFUSES("undiffuse_method_options.zeta", o.zeta, evidence_of(&m, &o));
  o.method = UNDIFFUSE_METHOD_DIFFPIR;
  REFUSES("undiffuse_method_options.lambda", o.lambda, evidence_of(&m, &o));
  o.method = UNDIFFUSE_METHOD_SPLIT_GIBBS;
  REFUSES("undiffuse_method_options.ladder_largest", o.ladder_largest, evidence_of(&m, &o));
  REFUSES("undiffuse_method_options.ladder_ratio", o.ladder_ratio, evidence_of(&m, &o));
  o.method = UNDIFFUSE_METHOD_DAPS;
  REFUSES("undiffuse_method_options.langevin_length", o.langevin_length, evidence_of(&m, &o));
  REFUSES("undiffuse_method_options.langevin_decay", o.langevin_decay, evidence_of(&m, &o));
  o.method = UNDIFFUSE_METHOD_RED_DIFF;
  REFUSES("undiffuse_method_options.rate", o.rate, evidence_of(&m, &o));
  REFUSES("undiffuse_method_options.red_diff_lambda", o.red_diff_lambda, evidence_of(&m, &o));
  o.method = UNDIFFUSE_METHOD_SITCOM;
  REFUSES("undiffuse_method_options.sitcom_rate", o.sitcom_rate, evidence_of(&m, &o));
  REFUSES("undiffuse_method_options.sitcom_lambda", o.sitcom_lambda, evidence_of(&m, &o));
  REFUSES("undiffuse_method_options.sitcom_stop", o.sitcom_stop, evidence_of(&m, &o));
  o.method = UNDIFFUSE_METHOD_DDRM;
  REFUSES("undiffuse_method_options.eta_b", o.eta_b, evidence_of(&m, &o));
  OK(undiffuse_evidence_from_measurement(&m, &o, &made, E));
  REFUSES("undiffuse_evidence_start.x", x[7], undiffuse_evidence_start(made, sampler, 0, x, N, E));
  undiffuse_evidence_free(made);
  made = NULL;
  undiffuse_operator_free(op);

  memset(&g, 0, sizeof g);
  g.struct_size = sizeof g;
  g.gradient = predict;
  OK(undiffuse_evidence_from_gradient(&g, &made, E));
  REFUSES("undiffuse_gradient_fn.out", given, run(model, made, &s));
  undiffuse_evidence_free(made);
  made = NULL;
  g.scale = 1;
  REFUSES("undiffuse_gradient_evidence.scale", g.scale,
          (undiffuse_evidence_free(made), made = NULL, undiffuse_evidence_from_gradient(&g, &made, E)));
  undiffuse_evidence_free(made);
  made = NULL;

  memset(&b, 0, sizeof b);
  b.struct_size = sizeof b;
  b.odds = odds;
  b.odds_len = 4;
  b.r_schedule = UNDIFFUSE_R_WHITE;
  b.pi = 0.5;
  REFUSES("undiffuse_bit_evidence.odds", odds[2],
          (undiffuse_evidence_free(made), made = NULL, undiffuse_evidence_from_bits(&b, &made, E)));
  undiffuse_evidence_free(made);
  made = NULL;
  REFUSES("undiffuse_bit_evidence.pi", b.pi,
          (undiffuse_evidence_free(made), made = NULL, undiffuse_evidence_from_bits(&b, &made, E)));
  undiffuse_evidence_free(made);
  made = NULL;

  memset(&c, 0, sizeof c);
  c.struct_size = sizeof c;
  c.weights = odds;
  c.weights_len = 4;
  c.class_count = 4;
  REFUSES("undiffuse_class_evidence.weights", odds[2],
          (undiffuse_evidence_free(made), made = NULL, undiffuse_evidence_from_classes(&c, &made, E)));
  undiffuse_evidence_free(made);
}

static int with_noise(const undiffuse_noise *noise) {
  undiffuse_session_options o = session_options(1, 3);
  o.noise = noise;
  return run(model, NULL, &o);
}

static void sessions(const char *path) {
  undiffuse_model_options mo;
  undiffuse_model *network = NULL, *host = NULL;
  undiffuse_denoiser d;
  undiffuse_session_options o = session_options(1, 3);
  undiffuse_session *s = NULL;
  undiffuse_noise noise;
  undiffuse_bound_options bo;
  undiffuse_bound *bound = NULL;
  static float steps[4 * N];
  float class_list[1] = {1};

  OK(undiffuse_model_options_init(&mo, sizeof mo));
  mo.gradient = UNDIFFUSE_GRADIENT_FULL;
  OK(undiffuse_model_load(path, &mo, &network, E));
  OK(undiffuse_session_new(network, sampler, NULL, &o, &s, E));
  REFUSES("undiffuse_session_predict.x", x[N - 1], undiffuse_session_predict(s, 0, 0, x, N, out, N, E));
  REFUSES("undiffuse_session_vjp.x", x[N - 1], undiffuse_session_vjp(s, 0, 0, x, N, other, N, out, E));
  REFUSES("undiffuse_session_vjp.v", other[N - 1], undiffuse_session_vjp(s, 0, 0, x, N, other, N, out, E));
  REFUSES("undiffuse_session_start_from.x", x[N - 1], undiffuse_session_start_from(s, 0, x, N, 0, E));
  x[0] = FLT_MAX; /* Finite, but what the network makes of it is not. */
  x[1] = -FLT_MAX;
  FAILS(UNDIFFUSE_NON_FINITE, undiffuse_session_predict(s, 0, 0, x, N, out, N, E));
  x[0] = x[1] = 0;
  OK(undiffuse_session_predict(s, 0, 0, x, N, out, N, E)); /* It stays usable. */
  undiffuse_session_free(s);
  s = NULL;

  memset(&d, 0, sizeof d);
  d.struct_size = sizeof d;
  d.predict = predict;
  d.vjp = vjp;
  d.rank = 3;
  memcpy(d.dims, dims, sizeof dims);
  d.name = "of mine";
  OK(undiffuse_model_from_denoiser(&d, &host, E));
  OK(undiffuse_session_new(host, sampler, NULL, &o, &s, E));
  REFUSES("undiffuse_predict_fn.out", given, undiffuse_session_predict(s, 0, 0, x, N, out, N, E));
  REFUSES("undiffuse_predict_fn.out", given, (undiffuse_session_restart(s, 0, 1, E) ? -1 : (int)undiffuse_session_step(s, E)));
  REFUSES("undiffuse_vjp_fn.out", given, undiffuse_session_vjp(s, 0, 0, x, N, other, N, out, E));
  REFUSES("undiffuse_session_predict.x", x[N - 1], undiffuse_session_predict(s, 0, 0, x, N, out, N, E));
  REFUSES("undiffuse_session_vjp.v", other[N - 1], undiffuse_session_vjp(s, 0, 0, x, N, other, N, out, E));
  given = NAN; /* The message has the caller's name. */
  CHECK(undiffuse_session_predict(s, 0, 0, x, N, out, N, E) == UNDIFFUSE_NON_FINITE);
  CHECK(strstr(undiffuse_error_message(last_error), "of mine") != NULL);
  undiffuse_error_free(last_error);
  last_error = NULL;
  given = 0.25f;
  undiffuse_session_free(s);

  memset(&noise, 0, sizeof noise);
  noise.struct_size = sizeof noise;
  noise.x_t = x;
  noise.noise = steps;
  noise.samples = 1;
  noise.steps = 4;
  REFUSES("undiffuse_noise.x_t", x[2], with_noise(&noise));
  REFUSES("undiffuse_noise.noise", steps[4 * N - 1], with_noise(&noise));
  memset(&noise, 0, sizeof noise);
  noise.struct_size = sizeof noise;
  noise.fill = fill;
  REFUSES("undiffuse_noise_fn.out", given, with_noise(&noise));

  OK(undiffuse_bound_options_init(&bo, sizeof bo));
  bo.thread_count = 1;
  REFUSES("undiffuse_bound_new.data", x[9],
          (undiffuse_bound_free(bound), bound = NULL, undiffuse_bound_new(host, NULL, &bo, x, N, &bound, E)));
  REFUSES("undiffuse_predict_fn.out", given,
          (undiffuse_bound_free(bound), bound = NULL, undiffuse_bound_new(host, NULL, &bo, x, N, &bound, E)));
  undiffuse_bound_free(bound);
  {
    undiffuse_codec *codec = NULL;
    float data[N];
    OK(undiffuse_codec_new(network, NULL, &codec, E));
    REFUSES("undiffuse_codec_decode.x", x[3], undiffuse_codec_decode(codec, x, N, data, N, E));
    REFUSES("undiffuse_codec_encode.data", x[3], undiffuse_codec_encode(codec, x, N, NULL, data, N, E));
    {
      float drawn[N] = {0};
      REFUSES("undiffuse_codec_encode.noise", drawn[5], undiffuse_codec_encode(codec, x, N, drawn, data, N, E));
    }
    undiffuse_codec_free(codec);
  }
  /* Of a model without classes they are refused whatever they are; same_bits.rs has a class model. */
  o.classes = class_list; /* "undiffuse_session_options.classes" */
  o.classes_len = 1;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, run(network, NULL, &o));
  /* As are "undiffuse_condition.values" and "undiffuse_guidance.scale", "undiffuse_guidance.rescale", "undiffuse_guidance.interval_low" and
   * "undiffuse_guidance.interval_high" of one that takes no condition; ffi/src/model/tests.rs has a model with conditions. */
  bo.classes = class_list; /* "undiffuse_bound_options.classes" */
  bo.classes_len = 1;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_bound_new(network, NULL, &bo, x, N, &bound, E));
  undiffuse_model_free(host);
  undiffuse_model_free(network);
}

int main(int argc, char **argv) {
  size_t i;
  CHECK(argc == 2);
  for (i = 0; i < N; i++) x[i] = other[i] = again[i] = 0.125f;
  model = gaussian_model(NULL, 1, SIDE, SIDE);
  sampler = NULL;
  {
    undiffuse_sampler_options o;
    OK(undiffuse_sampler_options_init(&o, sizeof o));
    o.kind = UNDIFFUSE_SAMPLER_DDPM;
    o.steps = 4;
    OK(undiffuse_sampler_from_model(model, &o, &sampler, E));
  }
  samplers();
  operators();
  evidence();
  sessions(argv[1]);
  undiffuse_sampler_free(sampler);
  undiffuse_model_free(model);
  CHECK(failures == 0);
  return 0;
}
