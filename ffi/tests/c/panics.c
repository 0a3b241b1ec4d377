/* A panic inside any call becomes a status; the handles that the call was using say so from then on, and can be freed. Needs a library
 * built with the feature inject-panic. */
#include "check.h"

void undiffuse_test_panic_in(int64_t calls);

static undiffuse_model *model;
static undiffuse_sampler *sampler;
static undiffuse_operator *op;
static undiffuse_evidence *evidence;
static undiffuse_session *session;
static undiffuse_bound *bound;
static float x[4], y[4];

static void make(void) {
  size_t dims[3] = {1, 2, 2};
  undiffuse_measurement m;
  model = gaussian_model(NULL, 1, 2, 2);
  sampler = ddim_of(model, 4, 0.5);
  OK(undiffuse_operator_identity(dims, 3, &op, E));
  memset(&m, 0, sizeof m);
  m.struct_size = sizeof m;
  m.op = op;
  m.y = x;
  m.y_len = 4;
  m.sigma = 1;
  OK(undiffuse_evidence_from_measurement(&m, NULL, &evidence, E));
  OK(undiffuse_session_new(model, sampler, evidence, NULL, &session, E));
  OK(undiffuse_bound_new(model, NULL, NULL, x, 4, &bound, E));
}

static void destroy(void) {
  undiffuse_bound_free(bound);
  undiffuse_session_free(session);
  undiffuse_evidence_free(evidence);
  undiffuse_operator_free(op);
  undiffuse_sampler_free(sampler);
  undiffuse_model_free(model);
}

static size_t panics, poisoned;

/* The panic comes at each place of the call where one can come, until the call goes through. */
#define PANICS(call)                                                                   \
  do {                                                                                 \
    int64_t place;                                                                     \
    for (place = 1;; place++) {                                                        \
      undiffuse_status status;                                                         \
      make();                                                                          \
      undiffuse_test_panic_in(place);                                                  \
      status = (call);                                                                 \
      undiffuse_test_panic_in(0);                                                      \
      if (status != UNDIFFUSE_PANIC) {                                                 \
        CHECK(place > 1);                                                              \
        undiffuse_error_free(last_error);                                              \
        last_error = NULL;                                                             \
        destroy();                                                                     \
        break;                                                                         \
      }                                                                                \
      FAILS(UNDIFFUSE_PANIC, status);                                                  \
      panics++;                                                                        \
      status = (call);                                                                 \
      /* The first place is before any handle is in use. */                            \
      if (place > 1) {                                                                 \
        FAILS(UNDIFFUSE_POISONED, status);                                             \
        poisoned++;                                                                    \
      } else {                                                                         \
        undiffuse_error_free(last_error);                                              \
        last_error = NULL;                                                             \
      }                                                                                \
      destroy();                                                                       \
    }                                                                                  \
  } while (0)

int main(void) {
  undiffuse_model_info model_info;
  undiffuse_session_info session_info;
  undiffuse_sampler_options how;
  undiffuse_cancel *cancel = NULL;
  const float *view;
  size_t len = 0;
  uint32_t count;
  double k;
  model_info.struct_size = sizeof model_info;
  session_info.struct_size = sizeof session_info;
  PANICS(undiffuse_model_get_info(model, &model_info, E));
  PANICS(undiffuse_model_scheduler_json(model, NULL, &len, E));
  PANICS(undiffuse_sampler_timesteps(sampler, NULL, &len, E));
  PANICS(undiffuse_sampler_add_noise(sampler, 0, x, x, 4, y, E));
  PANICS(undiffuse_operator_apply(op, x, 4, y, 4, E));
  undiffuse_sampler_options_init(&how, sizeof how);
  PANICS(undiffuse_evidence_recommend_sampler(evidence, model, &how, E));
  PANICS(undiffuse_evidence_start(evidence, sampler, 0, x, 4, E));
  PANICS(undiffuse_session_get_info(session, &session_info, E));
  PANICS(undiffuse_session_step(session, E));
  PANICS(undiffuse_session_run(session, E));
  PANICS(undiffuse_session_x(session, &view, &len, E));
  PANICS(undiffuse_session_restart(session, 0, 1, E));
  PANICS(undiffuse_session_start_from(session, 0, x, 4, 0, E));
  PANICS(undiffuse_session_save(session, NULL, &len, E));
  PANICS(undiffuse_session_restore(session, x, 4, E));
  PANICS(undiffuse_session_predict(session, 0, 0, x, 4, y, 4, E));
  PANICS(undiffuse_session_required_bytes(model, sampler, evidence, NULL, &len, E));
  PANICS(undiffuse_sample(model, sampler, evidence, NULL, y, 4, E));
  PANICS(undiffuse_bound_per_sample(bound, &k, &len, E));

  /* Calls without a handle. */
  make();
  undiffuse_test_panic_in(1);
  FAILS(UNDIFFUSE_PANIC, undiffuse_noise_normal(0, 0, 0, x, 4, E));
  undiffuse_test_panic_in(1);
  FAILS(UNDIFFUSE_PANIC, undiffuse_device_count(UNDIFFUSE_BACKEND_CPU, &count, E));
  undiffuse_test_panic_in(1);
  FAILS(UNDIFFUSE_PANIC, undiffuse_cancel_new(&cancel, E));
  CHECK(cancel == NULL);
  /* Calls that return nothing. */
  undiffuse_test_panic_in(1);
  undiffuse_session_free(NULL);
  /* The others go on as if nothing had happened. */
  OK(undiffuse_session_run(session, E));
  destroy();
  printf("%d panics became a status, %d handles were poisoned\n", (int)panics, (int)poisoned);
  return 0;
}
