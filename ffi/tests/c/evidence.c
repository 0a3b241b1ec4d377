/* Evidence: every method on a prior that is known exactly, gradients by functions; what does not suit is refused. */
#include "check.h"

enum { N = 16, KNOWN = 8, BATCH = 64 };

static undiffuse_model *model;
static undiffuse_operator *identity, *mask;

static undiffuse_evidence *measured(uint32_t method, undiffuse_operator *op, const float *y, size_t len, double sigma,
                                    undiffuse_status wanted) {
  undiffuse_measurement m;
  undiffuse_method_options o;
  undiffuse_evidence *e = NULL;
  memset(&m, 0, sizeof m);
  m.struct_size = sizeof m;
  m.op = op;
  m.y = y;
  m.y_len = len;
  m.sigma = sigma;
  OK(undiffuse_method_options_init(&o, sizeof o));
  o.method = (undiffuse_method)method;
  o.variance = 0.25;
  o.pigdm_rule = UNDIFFUSE_PIGDM_SCORE;
  FAILS(wanted, undiffuse_evidence_from_measurement(&m, &o, &e, E));
  CHECK((e != NULL) == (wanted == UNDIFFUSE_OK));
  return e;
}

/* Samples with DDPM or with DDIM and eta; gives the mean over samples of elements 0 to 7 and of 8 to 15. */
static void sample(uint32_t kind, const undiffuse_evidence *e, double *known, double *unknown) {
  static float x[BATCH * N];
  undiffuse_session_options o = session_options(BATCH, 3);
  undiffuse_sampler_options so;
  undiffuse_sampler *s = NULL;
  size_t i;
  OK(undiffuse_sampler_options_init(&so, sizeof so));
  so.kind = (undiffuse_sampler_kind)kind;
  so.eta = 0.85;
  so.ddim_noise = UNDIFFUSE_DDIM_NOISE_LEVEL;
  so.arithmetic = UNDIFFUSE_ARITHMETIC_FLOAT64;
  so.jump_length = so.resamplings = 3;
  OK(undiffuse_sampler_from_model(model, &so, &s, E));
  OK(undiffuse_sample(model, s, e, &o, x, BATCH * N, E));
  *known = *unknown = 0;
  for (i = 0; i < BATCH * N; i++) *(i % N < 8 ? known : unknown) += x[i] / (BATCH * 8);
  undiffuse_sampler_free(s);
}

/* The data are N(0, 1/4). */
static void methods(void) {
  static const struct {
    uint32_t method, sampler;
    double sigma;
    int mask;
  } cases[] = {
      {UNDIFFUSE_METHOD_CALIBRATED, UNDIFFUSE_SAMPLER_DDPM, 0.5, 0},
      {UNDIFFUSE_METHOD_CALIBRATED_WHITE, UNDIFFUSE_SAMPLER_DDPM, 0.5, 0},
      {UNDIFFUSE_METHOD_DPS, UNDIFFUSE_SAMPLER_DDPM, 0.5, 0},
      {UNDIFFUSE_METHOD_MCG, UNDIFFUSE_SAMPLER_DDPM, 0.0, 1},
      {UNDIFFUSE_METHOD_PIGDM, UNDIFFUSE_SAMPLER_DDPM, 0.5, 0},
      {UNDIFFUSE_METHOD_TMPD, UNDIFFUSE_SAMPLER_DDPM, 0.5, 0},
      {UNDIFFUSE_METHOD_DDRM, UNDIFFUSE_SAMPLER_DDIM, 0.1, 0},
      {UNDIFFUSE_METHOD_DDNM, UNDIFFUSE_SAMPLER_DDIM, 0.0, 1},
      {UNDIFFUSE_METHOD_DDNM_PLUS, UNDIFFUSE_SAMPLER_DDIM, 0.1, 0},
      {UNDIFFUSE_METHOD_DIFFPIR, UNDIFFUSE_SAMPLER_DDIM, 0.1, 0},
      {UNDIFFUSE_METHOD_REPAINT, UNDIFFUSE_SAMPLER_REPAINT, 0.0, 1},
      {UNDIFFUSE_METHOD_CLAMP, UNDIFFUSE_SAMPLER_DDPM, 0.0, 1},
      {UNDIFFUSE_METHOD_EXACT_PRODUCT, UNDIFFUSE_SAMPLER_DDPM, 0.5, 0},
      {UNDIFFUSE_METHOD_MEAN_SHIFT, UNDIFFUSE_SAMPLER_DDPM, 2.0, 0},
  };
  float y[N];
  size_t i;
  for (i = 0; i < N; i++) y[i] = 1.0f;
  for (i = 0; i < COUNT(cases); i++) {
    double known, unknown;
    size_t len = cases[i].mask ? 8 : N;
    undiffuse_evidence *e =
        measured(cases[i].method, cases[i].mask ? mask : identity, y, len, cases[i].sigma, UNDIFFUSE_OK);
    CHECK(cases[i].method == i);
    sample(cases[i].sampler, e, &known, &unknown);
    if (cases[i].mask) {
      /* Known elements are what was measured, the others are the prior's. */
      CHECK(fabs(known - 1) < 0.05 && fabs(unknown) < 0.1);
    } else {
      /* y = 1 pulls the mean of the prior, 0, towards it. */
      CHECK(known > 0.05 && known < 1.3);
      /* 1/4 / (1/4 + 1/4), but for the steps' coarseness. */
      if (i < 2) CHECK(fabs((known + unknown) / 2 - 0.5) < (i ? 0.1 : 0.04));
    }
    undiffuse_evidence_free(e);
  }
}

static void ddrm_start(void) {
  float y[N], x[2 * N], before;
  undiffuse_evidence *e;
  undiffuse_sampler *s = ddim_of(model, 20, 0.85);
  size_t i;
  for (i = 0; i < N; i++) y[i] = 1.0f;
  OK(undiffuse_noise_normal(1, 0, 0, x, N, E));
  OK(undiffuse_noise_normal(1, 1, 0, x + N, N, E));
  before = x[0];
  e = measured(UNDIFFUSE_METHOD_DDRM, identity, y, N, 0.1, UNDIFFUSE_OK);
  OK(undiffuse_evidence_start(e, s, 0, x, 2 * N, E));
  CHECK(x[0] != before);
  FAILS(UNDIFFUSE_SHAPE, undiffuse_evidence_start(e, s, 0, x, N + 1, E));
  undiffuse_evidence_free(e);
  e = measured(UNDIFFUSE_METHOD_CALIBRATED, identity, y, N, 0.1, UNDIFFUSE_OK);
  FAILS(UNDIFFUSE_UNSUPPORTED, undiffuse_evidence_start(e, s, 0, x, N, E));
  undiffuse_evidence_free(e);
  undiffuse_sampler_free(s);
}

/* What each method is best run with, of a model of 100 timesteps; options that it does not concern stay. */
static void recommended(void) {
  static const struct {
    undiffuse_method method;
    double sigma;
    undiffuse_sampler_kind kind;
    size_t steps, calls;
  } cases[] = {
    {UNDIFFUSE_METHOD_CALIBRATED, 0.1, UNDIFFUSE_SAMPLER_REPAINT, 20, 36},
    {UNDIFFUSE_METHOD_CALIBRATED_WHITE, 0.1, UNDIFFUSE_SAMPLER_DDPM, 100, 100},
    {UNDIFFUSE_METHOD_PIGDM, 0.1, UNDIFFUSE_SAMPLER_DDIM, 100, 100},
    {UNDIFFUSE_METHOD_DDRM, 0.1, UNDIFFUSE_SAMPLER_DDIM, 20, 20},
    {UNDIFFUSE_METHOD_DDNM_PLUS, 0.1, UNDIFFUSE_SAMPLER_DDIM, 100, 100},
    {UNDIFFUSE_METHOD_DPS, 0.1, UNDIFFUSE_SAMPLER_DDPM, 0, 100},
    {UNDIFFUSE_METHOD_SPLIT_GIBBS, 0.5, UNDIFFUSE_SAMPLER_SPLIT_GIBBS, 60, 0},
    {UNDIFFUSE_METHOD_DAPS, 0.1, UNDIFFUSE_SAMPLER_DECOUPLED_ANNEALING, 50, 0},
    {UNDIFFUSE_METHOD_RED_DIFF, 0.1, UNDIFFUSE_SAMPLER_DDIM, 100, 100},
    {UNDIFFUSE_METHOD_SITCOM, 0.1, UNDIFFUSE_SAMPLER_INPUT_OPTIMIZATION, 20, 420},
    {UNDIFFUSE_METHOD_FPS, 0.1, UNDIFFUSE_SAMPLER_DDIM, 100, 100},
  };
  float y[N] = {0};
  size_t i;
  for (i = 0; i < sizeof cases / sizeof *cases; i++) {
    undiffuse_evidence *e = measured(cases[i].method, identity, y, N, cases[i].sigma, UNDIFFUSE_OK);
    undiffuse_sampler_options how;
    undiffuse_sampler_info info;
    undiffuse_sampler *s;
    undiffuse_sampler_options_init(&how, sizeof how);
    how.arithmetic = UNDIFFUSE_ARITHMETIC_FLOAT64;
    OK(undiffuse_evidence_recommend_sampler(e, model, &how, E));
    CHECK(how.kind == cases[i].kind && how.steps == cases[i].steps && how.arithmetic == UNDIFFUSE_ARITHMETIC_FLOAT64);
    OK(undiffuse_sampler_from_model(model, &how, &s, E));
    info.struct_size = sizeof info;
    OK(undiffuse_sampler_get_info(s, &info, E));
    CHECK(cases[i].calls ? info.step_count == cases[i].calls : info.step_count > 100);
    undiffuse_sampler_free(s);
    how.struct_size = 3;
    FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_evidence_recommend_sampler(e, model, &how, E));
    undiffuse_evidence_free(e);
  }
}

/* Groups of 64 samples: the mean of the posterior; batches that hold no whole groups, and chains without a ladder, are refused. */
static void split_gibbs(void) {
  static float x[BATCH * N], again[BATCH * N];
  undiffuse_session_options o = session_options(BATCH, 3);
  undiffuse_sampler_options how;
  undiffuse_sampler *s;
  undiffuse_session *none;
  undiffuse_evidence *e;
  float y[N];
  double mean = 0;
  size_t i;
  for (i = 0; i < N; i++) y[i] = 1.0f;
  e = measured(UNDIFFUSE_METHOD_SPLIT_GIBBS, identity, y, N, 0.5, UNDIFFUSE_OK);
  undiffuse_sampler_options_init(&how, sizeof how);
  OK(undiffuse_evidence_recommend_sampler(e, model, &how, E));
  CHECK(how.ladder_smallest == 0.5 && how.ladder_largest == 1.0 && how.ladder_last == 2);
  OK(undiffuse_sampler_from_model(model, &how, &s, E));
  OK(undiffuse_sample(model, s, e, &o, x, BATCH * N, E));
  for (i = 0; i < BATCH * N; i++) mean += x[i] / (BATCH * N);
  CHECK(fabs(mean - 0.5) < 0.05);
  /* Without a sampler it is the recommended one. */
  OK(undiffuse_sample(model, NULL, e, &o, again, BATCH * N, E));
  CHECK(!memcmp(x, again, sizeof x));
  o.batch = BATCH - 1;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_session_new(model, s, e, &o, &none, E));
  o.batch = BATCH;
  undiffuse_sampler_free(s);
  how.kind = UNDIFFUSE_SAMPLER_DDPM;
  OK(undiffuse_sampler_from_model(model, &how, &s, E));
  FAILS(UNDIFFUSE_UNSUPPORTED, undiffuse_session_new(model, s, e, &o, &none, E));
  undiffuse_sampler_free(s);
  how.kind = UNDIFFUSE_SAMPLER_SPLIT_GIBBS;
  how.ladder_smallest = 0;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_sampler_from_model(model, &how, &s, E));
  undiffuse_evidence_free(e);
  measured(UNDIFFUSE_METHOD_SPLIT_GIBBS, identity, y, N, 0, UNDIFFUSE_INVALID_ARGUMENT);
}

/* Methods with options of their own: FPS in groups, SITCOM, DPS with the misfit of Laplace noise. */
static void options_of_methods(void) {
  static float x[BATCH * N];
  static const struct {
    undiffuse_method method;
    double least, most;
  } cases[] = {
    {UNDIFFUSE_METHOD_FPS, 0.4, 0.9},
    {UNDIFFUSE_METHOD_SITCOM, 0.4, 1.0},
    {UNDIFFUSE_METHOD_DPS, 0.1, 1.3},
  };
  undiffuse_session_options so = session_options(BATCH, 3);
  undiffuse_measurement m;
  undiffuse_method_options o;
  undiffuse_session *none;
  undiffuse_evidence *none_made = NULL;
  float y[N];
  size_t i, k;
  for (i = 0; i < N; i++) y[i] = 1.0f;
  memset(&m, 0, sizeof m);
  m.struct_size = sizeof m;
  m.op = identity;
  m.y = y;
  m.y_len = N;
  m.sigma = 0.5;
  OK(undiffuse_method_options_init(&o, sizeof o));
  CHECK(o.fps_ensemble == 5 && o.gradient_steps == 20 && o.sitcom_stop < 0);
  o.misfit = UNDIFFUSE_MISFIT_LAPLACE;
  for (k = 0; k < COUNT(cases); k++) {
    undiffuse_evidence *e = NULL;
    double mean = 0;
    o.method = cases[k].method;
    o.fps_ensemble = 5;
    OK(undiffuse_evidence_from_measurement(&m, &o, &e, E));
    if (k == 0) {
      /* 64 samples are no whole groups of 5. */
      FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_session_new(model, NULL, e, &so, &none, E));
      undiffuse_evidence_free(e);
      o.fps_ensemble = 4;
      OK(undiffuse_evidence_from_measurement(&m, &o, &e, E));
    }
    OK(undiffuse_sample(model, NULL, e, &so, x, BATCH * N, E));
    for (i = 0; i < BATCH * N; i++) mean += x[i] / (BATCH * N);
    CHECK(mean > cases[k].least && mean < cases[k].most);
    undiffuse_evidence_free(e);
  }
  o.method = UNDIFFUSE_METHOD_FPS;
  o.fps_ensemble = 0;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_evidence_from_measurement(&m, &o, &none_made, E));
  o.method = UNDIFFUSE_METHOD_SITCOM;
  o.gradient_steps = 0;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_evidence_from_measurement(&m, &o, &none_made, E));
}

/* y = sin x, element by element, whose slope is nowhere above 1; the state is what to return. */
static int32_t wave(void *user_data, const float *from, size_t from_len, float *to, size_t to_len) {
  size_t i;
  CHECK(from_len == to_len);
  for (i = 0; i < to_len; i++) to[i] = (float)sin(from[i]);
  return *(int32_t *)user_data;
}

static int32_t of_wave(void *user_data, const float *x, size_t x_len, const float *v, size_t v_len, float *out, size_t out_len) {
  size_t i;
  CHECK(x_len == v_len && x_len == out_len);
  for (i = 0; i < out_len; i++) out[i] = (float)cos(x[i]) * v[i];
  return *(int32_t *)user_data;
}

/* Operators that are not linear, with the methods that take them and one that does not. */
static void nonlinear(void) {
  static float x[BATCH * N];
  const uint32_t takes[] = {UNDIFFUSE_METHOD_DPS, UNDIFFUSE_METHOD_DAPS, UNDIFFUSE_METHOD_RED_DIFF, UNDIFFUSE_METHOD_SITCOM};
  size_t dims[3] = {1, 4, 4}, k, i;
  undiffuse_session_options o = session_options(BATCH, 3);
  undiffuse_operator_info info;
  undiffuse_operator *op = NULL;
  undiffuse_forward_callbacks c;
  float y[64], back[N], one[64];
  int32_t status = 0;
  memset(&c, 0, sizeof c);
  c.struct_size = sizeof c;
  c.user_data = &status;
  c.forward = wave;
  c.vjp = of_wave;
  c.output_rank = 1;
  c.output_dims[0] = N;
  info.struct_size = sizeof info;
  for (k = 0; k < 5; k++) {
    double mean = 0;
    size_t m;
    if (k == 0) OK(undiffuse_operator_clip(dims, 3, 2.0, &op, E));
    if (k == 1) OK(undiffuse_operator_gamma(dims, 3, 2.2, &op, E));
    if (k == 2) OK(undiffuse_operator_quantize(dims, 3, 4, &op, E));
    if (k == 3) OK(undiffuse_operator_fourier_magnitude(dims, 3, 2.0, &op, E));
    if (k == 4) OK(undiffuse_operator_from_forward_callbacks(dims, 3, &c, &op, E));
    OK(undiffuse_operator_get_info(op, &info, E));
    m = info.output_len;
    CHECK(info.input_len == N && m == (k == 3 ? 64u : N) && !info.linear && !info.has_svd);
    for (i = 0; i < N; i++) x[i] = 0.3f;
    for (i = 0; i < m; i++) one[i] = 1.0f;
    OK(undiffuse_operator_apply(op, x, N, y, m, E));
    OK(undiffuse_operator_vjp(op, x, N, one, m, back, N, E));
    if (k == 0) CHECK(fabs(y[0] - 0.6) < 1e-6 && fabs(back[3] - 2) < 1e-6);
    if (k == 2) CHECK(fabs(y[0] - 1.0 / 3) < 1e-6 && back[3] == 1);
    if (k == 4) CHECK(fabs(y[0] - sin(0.3)) < 1e-6 && fabs(back[3] - cos(0.3)) < 1e-6);
    FAILS(UNDIFFUSE_UNSUPPORTED, undiffuse_operator_adjoint(op, y, m, back, N, E));
    FAILS(UNDIFFUSE_UNSUPPORTED, undiffuse_operator_pseudo_inverse(op, y, m, back, N, E));
    FAILS(UNDIFFUSE_SHAPE, undiffuse_operator_vjp(op, x, N, one, m - 1, back, N, E));
    FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_operator_vjp(op, x, N, one, m, x, N, E));
    measured(UNDIFFUSE_METHOD_CALIBRATED, op, y, m, 0.1, UNDIFFUSE_UNSUPPORTED);
    for (i = 0; i < COUNT(takes); i++) {
      undiffuse_evidence *e = measured(takes[i], op, y, m, 0.1, UNDIFFUSE_OK);
      if (takes[i] == UNDIFFUSE_METHOD_DAPS) {
        size_t j;
        OK(undiffuse_sample(model, NULL, e, &o, x, BATCH * N, E));
        for (j = 0; j < BATCH * N; j++) mean += x[j] / (BATCH * N);
        /* What is one to one and seen with little noise is found; waves, levels and magnitudes say less. */
        CHECK(mean == mean && (k != 1 || fabs(mean - 0.3) < 0.15));
      }
      undiffuse_evidence_free(e);
    }
    if (k < 4) undiffuse_operator_free(op);
  }
  status = 5;
  FAILS(UNDIFFUSE_CALLBACK, undiffuse_operator_apply(op, x, N, y, N, E));
  FAILS(UNDIFFUSE_CALLBACK, undiffuse_operator_vjp(op, x, N, one, N, back, N, E));
  undiffuse_operator_free(op);
  op = NULL;
  c.output_rank = 5;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_operator_from_forward_callbacks(dims, 3, &c, &op, E));
  c.output_rank = 1;
  c.vjp = NULL;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_operator_from_forward_callbacks(dims, 3, &c, &op, E));
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_operator_clip(dims, 3, 0.0, &op, E));
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_operator_gamma(dims, 3, 11.0, &op, E));
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_operator_quantize(dims, 3, 1, &op, E));
  FAILS(UNDIFFUSE_SHAPE, undiffuse_operator_fourier_magnitude(dims, 1, 2.0, &op, E));
  CHECK(op == NULL);
  /* Of a linear one it is the adjoint. */
  OK(undiffuse_operator_get_info(identity, &info, E));
  CHECK(info.linear);
  for (i = 0; i < N; i++) x[i] = y[i] = (float)i;
  OK(undiffuse_operator_vjp(identity, x, N, y, N, back, N, E));
  CHECK(!memcmp(back, y, sizeof back));
}

/* log r = -(x - 1)^2 / 2 at every level; stops or fails as the state says. */
typedef struct gradient_state {
  int calls, fail_at, fail_with;
  size_t count;
} gradient_state;

static int32_t towards_one(void *user_data, const undiffuse_call *call, const float *x, float *out) {
  gradient_state *s = (gradient_state *)user_data;
  size_t i;
  if (++s->calls == s->fail_at) {
    if (s->fail_with) return s->fail_with;
    out[0] = NAN;
    return 0;
  }
  s->count = call->count;
  CHECK(call->sample_len == N);
  for (i = 0; i < call->count * call->sample_len; i++) out[i] = 1 - x[i];
  return 0;
}

static void gradients(void) {
  undiffuse_gradient_evidence g;
  gradient_state state = {0, 0, 0, 0};
  uint32_t rule;
  double known, unknown;
  undiffuse_evidence *e = NULL;
  undiffuse_session_options o = session_options(2, 1);
  undiffuse_session *session = NULL;
  memset(&g, 0, sizeof g);
  g.struct_size = sizeof g;
  g.user_data = &state;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_evidence_from_gradient(&g, &e, E));
  g.gradient = towards_one;
  for (rule = UNDIFFUSE_GRADIENT_SCORE; rule <= UNDIFFUSE_GRADIENT_MEAN_SHIFT_2015; rule++) {
    g.rule = (undiffuse_gradient_rule)rule;
    g.name = rule ? "towards one" : NULL;
    OK(undiffuse_evidence_from_gradient(&g, &e, E));
    state.calls = 0;
    sample(UNDIFFUSE_SAMPLER_DDPM, e, &known, &unknown);
    CHECK(known > 0.05 && known < 0.9 && fabs(known - unknown) < 0.1);
    CHECK(state.count == (rule == UNDIFFUSE_GRADIENT_MEAN_SHIFT_2015 ? 1 : BATCH) && state.calls > 90);
    undiffuse_evidence_free(e);
  }
  /* A failure names the function, and the session goes on from where it was. */
  g.rule = UNDIFFUSE_GRADIENT_SCORE;
  OK(undiffuse_evidence_from_gradient(&g, &e, E));
  OK(undiffuse_session_new(model, NULL, e, &o, &session, E));
  undiffuse_evidence_free(e);
  state.calls = 0;
  state.fail_at = 5;
  state.fail_with = 77;
  CHECK(undiffuse_session_run(session, E) == UNDIFFUSE_CALLBACK);
  CHECK(strstr(undiffuse_error_message(last_error), "77") && strstr(undiffuse_error_message(last_error), "step 5"));
  undiffuse_error_free(last_error);
  last_error = NULL;
  state.fail_at = 10;
  state.fail_with = 0;
  FAILS(UNDIFFUSE_NON_FINITE, undiffuse_session_run(session, E));
  state.fail_at = 12;
  state.fail_with = UNDIFFUSE_CANCELLED;
  FAILS(UNDIFFUSE_CANCELLED, undiffuse_session_run(session, E));
  OK(undiffuse_session_run(session, E));
  undiffuse_session_free(session);
  e = NULL;
  g.scale = INFINITY;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_evidence_from_gradient(&g, &e, E));
  g.scale = 0;
  g.rule = (undiffuse_gradient_rule)99;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_evidence_from_gradient(&g, &e, E));
  g.rule = UNDIFFUSE_GRADIENT_SCORE;
  g.r_schedule = UNDIFFUSE_R_WHITE;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_evidence_from_gradient(&g, &e, E));
  CHECK(e == NULL);
}

/* What each method says of itself. */
static void information(void) {
  undiffuse_method_info i;
  undiffuse_measurement m;
  undiffuse_method_options o;
  undiffuse_evidence *e = NULL;
  float y[N] = {0};
  uint32_t method;
  size_t without_products = 0;
  memset(&m, 0, sizeof m);
  m.struct_size = sizeof m;
  m.y = y;
  OK(undiffuse_method_options_init(&o, sizeof o));
  i.struct_size = sizeof i;
  for (method = UNDIFFUSE_METHOD_CALIBRATED; method <= UNDIFFUSE_METHOD_FPS; method++) {
    OK(undiffuse_method_get_info((undiffuse_method)method, &i, E));
    CHECK(i.name[0] != 0 && i.product_count <= 3);
    without_products += i.product_count == 0;
    /* What it takes is taken, what it does not take is refused. */
    o.method = (undiffuse_method)method;
    m.op = i.operators == UNDIFFUSE_METHOD_OPERATOR_ANY || i.operators == UNDIFFUSE_METHOD_OPERATOR_FORWARD ? identity : mask;
    m.y_len = m.op == mask ? KNOWN : N;
    m.sigma = i.noise == UNDIFFUSE_METHOD_NOISE_ZERO ? 0 : 0.5;
    OK(undiffuse_evidence_from_measurement(&m, &o, &e, E));
    undiffuse_evidence_free(e);
    e = NULL;
    /* The mean shift looks at it together with the sampler. */
    if (i.noise != UNDIFFUSE_METHOD_NOISE_POSITIVE || method == UNDIFFUSE_METHOD_MEAN_SHIFT) continue;
    m.sigma = 0;
    FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_evidence_from_measurement(&m, &o, &e, E));
  }
  CHECK(without_products == 12);
  OK(undiffuse_method_get_info(UNDIFFUSE_METHOD_DDNM_PLUS, &i, E));
  CHECK(!strcmp(i.name, "ddnm+") && i.noise == UNDIFFUSE_METHOD_NOISE_POSITIVE && i.product_count == 0);
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_method_get_info((undiffuse_method)99, &i, E));
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_method_get_info(UNDIFFUSE_METHOD_DPS, NULL, E));
}

static void rows(void) {
  float y[2 * N], x[2 * N], wanted[N];
  undiffuse_measurement m;
  undiffuse_method_options method;
  undiffuse_evidence *e = NULL;
  undiffuse_session_options o = session_options(2, 1);
  size_t i;
  for (i = 0; i < 2 * N; i++) y[i] = i < N ? 1.0f : -1.0f;
  memset(&m, 0, sizeof m);
  m.struct_size = sizeof m;
  m.op = identity;
  m.y = y;
  m.y_len = 2 * N;
  m.sigma = 0.3;
  m.each = 1;
  m.first_sample = 10;
  OK(undiffuse_method_options_init(&method, sizeof method));
  OK(undiffuse_evidence_from_measurement(&m, &method, &e, E));
  o.first_sample = 10;
  OK(undiffuse_sample(model, NULL, e, &o, x, 2 * N, E));
  CHECK(x[0] > 0 && x[N] < 0);
  o.first_sample = 11;
  OK(undiffuse_sample(model, NULL, e, &o, wanted, N, E));
  CHECK(same_floats(x + N, wanted, N));
  o.first_sample = 9;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_sample(model, NULL, e, &o, x, N, E));
  undiffuse_evidence_free(e);
  e = NULL;
  m.each = 2;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_evidence_from_measurement(&m, &method, &e, E));
  m.each = 0;
  FAILS(UNDIFFUSE_SHAPE, undiffuse_evidence_from_measurement(&m, &method, &e, E));
  m.y_len = N;
  y[3] = NAN;
  FAILS(UNDIFFUSE_NON_FINITE, undiffuse_evidence_from_measurement(&m, &method, &e, E));
  y[3] = 0;
  method.method = (undiffuse_method)99;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_evidence_from_measurement(&m, &method, &e, E));
  method.method = UNDIFFUSE_METHOD_REPAINT;
  FAILS(UNDIFFUSE_UNSUPPORTED, undiffuse_evidence_from_measurement(&m, &method, &e, E));
  method.method = UNDIFFUSE_METHOD_CALIBRATED;
  method.iterations = 0;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_evidence_from_measurement(&m, &method, &e, E));
  method.iterations = 2;
  method.variance_products = 17;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_evidence_from_measurement(&m, &method, &e, E));
  method.variance_products = 2;
  method.reserved = 1;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_evidence_from_measurement(&m, &method, &e, E));
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_evidence_optimal_variance(0, &e, E));
  m.op = NULL;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_evidence_from_measurement(&m, NULL, &e, E));
  CHECK(e == NULL);
}

int main(void) {
  size_t dims[3] = {1, 4, 4};
  unsigned char known[N] = {1, 1, 1, 1, 1, 1, 1, 1}; /* KNOWN of them */
  model = gaussian_model(NULL, 1, 4, 4);
  OK(undiffuse_operator_identity(dims, 3, &identity, E));
  OK(undiffuse_operator_mask(dims, 3, known, N, &mask, E));
  methods();
  ddrm_start();
  recommended();
  split_gibbs();
  options_of_methods();
  nonlinear();
  gradients();
  information();
  rows();
  undiffuse_evidence_free(NULL);
  undiffuse_operator_free(identity);
  undiffuse_operator_free(mask);
  undiffuse_operator_free(NULL);
  undiffuse_model_free(model);
  return 0;
}
