/* Evidence of bits and of classes, by functions; what does not suit is refused. */
#include "check.h"

enum { N = 16 };

/* Of real values: its network suits neither. */
static undiffuse_model *model;

/* A network that knows nothing: x_(t-1) is the forward step reversed in a white chain. */
static int32_t white_bits(void *user_data, const undiffuse_call *call, const float *x, float *out) {
  size_t i;
  (void)user_data;
  for (i = 0; i < call->count * call->sample_len; i++) out[i] = x[i] ? 0.9f : 0.1f;
  return 0;
}

static int32_t odds_of_ones(void *user_data, const undiffuse_call *call, const float *x, float *out) {
  size_t i;
  (void)user_data;
  (void)x;
  CHECK(call->count == 1 && call->sample_len == 8);
  for (i = 0; i < 8; i++) out[i] = i < 4 ? 1.0f : 0.5f;
  return 0;
}

static void bits(void) {
  undiffuse_sampler_options how;
  undiffuse_denoiser d;
  undiffuse_model *m = NULL;
  undiffuse_bit_evidence b;
  undiffuse_evidence *e = NULL;
  undiffuse_session_options o = session_options(4, 9);
  undiffuse_sampler *real = NULL;
  undiffuse_session *session = NULL;
  float odds[8] = {1, 1, 1, 1, 0.5f, 0.5f, 0.5f, 0.5f}, x[32];
  int round;
  size_t i;
  memset(&d, 0, sizeof d);
  d.struct_size = sizeof d;
  d.predict = white_bits;
  d.rank = 1;
  d.dims[0] = 8;
  d.scheduler_json =
      "{\"_class_name\": \"Bits2015Scheduler\", \"num_train_timesteps\": 30, \"bit_output\": \"probability\"}";
  OK(undiffuse_model_from_denoiser(&d, &m, E));
  memset(&b, 0, sizeof b);
  b.struct_size = sizeof b;
  for (round = 0; round < 4; round++) {
    b.odds = round < 3 ? odds : NULL;
    b.odds_len = round < 3 ? 8 : 0;
    b.r_schedule = (undiffuse_r_schedule)(round < 3 ? round : 0);
    b.function = round < 3 ? NULL : odds_of_ones;
    OK(undiffuse_evidence_from_bits(&b, &e, E));
    undiffuse_sampler_options_init(&how, sizeof how);
    OK(undiffuse_evidence_recommend_sampler(e, m, &how, E));
    CHECK(how.kind == UNDIFFUSE_SAMPLER_OF_SCHEDULE && how.steps == 0);
    OK(undiffuse_sample(m, NULL, e, &o, x, 32, E));
    for (i = 0; i < 32; i++) CHECK((x[i] == 0 || x[i] == 1) && (i % 8 >= 4 || x[i] == 1));
    undiffuse_evidence_free(e);
    e = NULL;
  }
  b.odds = odds;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_evidence_from_bits(&b, &e, E)); /* both */
  b.function = NULL;
  b.odds_len = 8;
  odds[0] = 1.5f;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_evidence_from_bits(&b, &e, E));
  odds[0] = 1;
  b.reserved = 1;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_evidence_from_bits(&b, &e, E));
  b.reserved = 0;
  OK(undiffuse_evidence_from_bits(&b, &e, E));
  /* Evidence about bits needs a binary chain, a binary chain its own configuration. */
  FAILS(UNDIFFUSE_UNSUPPORTED, undiffuse_session_new(model, NULL, e, &o, &session, E));
  CHECK(session == NULL && real == NULL);
  undiffuse_evidence_free(e);
  undiffuse_model_free(m);
}

/* A network that knows nothing of classes: the same logit for all. */
static int32_t white_classes(void *user_data, const undiffuse_call *call, const float *x, float *out) {
  size_t i;
  (void)user_data;
  (void)x;
  for (i = 0; i < call->count * call->sample_len; i++) out[i] = 0.25f;
  return 0;
}

/* Three positions of four classes, the last of which is the mask. */
static void classes(void) {
  static const float weights[12] = {0, 0, 1, 1, 0.5f, 0.5f, 0, 1, 1, 1, 1, 1};
  undiffuse_denoiser d;
  undiffuse_model *m = NULL;
  undiffuse_class_evidence c;
  undiffuse_evidence *e = NULL;
  undiffuse_session_options o = session_options(16, 9);
  undiffuse_sampler_options how;
  undiffuse_sampler *s = NULL;
  undiffuse_sampler_info info;
  undiffuse_session *session = NULL;
  float x[192];
  size_t i, k;
  uint32_t round;
  memset(&d, 0, sizeof d);
  d.struct_size = sizeof d;
  d.predict = white_classes;
  d.rank = 2;
  d.dims[0] = 3;
  d.dims[1] = 4;
  d.scheduler_json =
      "{\"_class_name\": \"D3PMScheduler\", \"num_train_timesteps\": 30, \"num_classes\": 4, \"transition\": \"absorbing\"}";
  OK(undiffuse_model_from_denoiser(&d, &m, E));
  OK(undiffuse_sampler_options_init(&how, sizeof how));
  how.kind = UNDIFFUSE_SAMPLER_D3PM;
  how.steps = 10;
  OK(undiffuse_sampler_from_model(m, &how, &s, E));
  memset(&info, 0, sizeof info);
  info.struct_size = sizeof info;
  OK(undiffuse_sampler_get_info(s, &info, E));
  CHECK(info.class_count == 4 && info.is_binary == 0 && info.step_count == 10);
  memset(&c, 0, sizeof c);
  c.struct_size = sizeof c;
  c.weights = weights;
  c.weights_len = 12;
  c.class_count = 4;
  c.r_schedule = UNDIFFUSE_R_WHITE;
  c.has_mask = 1;
  c.mask_class = 3;
  for (round = 0; round < 2; round++) {
    c.calibrated = round;
    OK(undiffuse_evidence_from_classes(&c, &e, E));
    OK(undiffuse_sample(m, s, e, &o, x, 192, E));
    for (i = 0; i < 48; i++) {
      size_t ones = 0;
      for (k = 0; k < 4; k++) ones += x[4 * i + k] == 1;
      CHECK(ones == 1 && x[4 * i + 3] == 0);
      CHECK(i % 3 != 0 || x[4 * i + 2] == 1);
      CHECK(i % 3 != 1 || x[4 * i + 2] == 0);
    }
    FAILS(UNDIFFUSE_UNSUPPORTED, undiffuse_session_new(model, NULL, e, &o, &session, E));
    undiffuse_evidence_free(e);
    e = NULL;
  }
  c.mask_class = 4;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_evidence_from_classes(&c, &e, E));
  c.mask_class = 3;
  c.weights_len = 11;
  FAILS(UNDIFFUSE_SHAPE, undiffuse_evidence_from_classes(&c, &e, E));
  c.weights_len = 12;
  c.reserved = 1;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_evidence_from_classes(&c, &e, E));
  CHECK(e == NULL);
  undiffuse_sampler_free(s);
  undiffuse_model_free(m);
}

int main(void) {
  model = gaussian_model(NULL, 1, 4, 4);
  bits();
  classes();
  undiffuse_model_free(model);
  return 0;
}
