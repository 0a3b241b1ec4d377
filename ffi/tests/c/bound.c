/* Evaluation of the bound, on a prior that is known exactly. */
#include "check.h"

enum { N = 4, COUNT_OF_DATA = 200 };

static void count_rows(void *user_data, uint64_t done, uint64_t total) {
  CHECK(done <= total);
  *(uint64_t *)user_data = done;
}

int main(void) {
  undiffuse_model *model = gaussian_model(NULL, 1, 2, 2);
  undiffuse_bound_options o;
  undiffuse_sampler_options so;
  undiffuse_bound_info info, other;
  undiffuse_bound *bound = NULL;
  undiffuse_cancel *cancel = NULL;
  undiffuse_sampler *ddim = ddim_of(model, 10, 0.0), *large = NULL;
  const char *fixed_large =
      "{\"_class_name\": \"DDPMScheduler\", \"clip_sample\": false, \"num_train_timesteps\": 100, "
      "\"beta_start\": 0.001, \"beta_end\": 0.2, \"variance_type\": \"fixed_large\"}";
  static float data[N * COUNT_OF_DATA];
  static double k[COUNT_OF_DATA];
  undiffuse_step_bound steps[128];
  uint64_t seen = 0;
  size_t len = 0, i;
  double sum = 0, exact;
  OK(undiffuse_noise_normal(4, 0, 0, data, N * COUNT_OF_DATA, E));
  for (i = 0; i < N * COUNT_OF_DATA; i++) data[i] *= 0.5f;
  OK(undiffuse_bound_options_init(&o, sizeof o));
  o.edges = UNDIFFUSE_EDGES_NETWORK;
  o.draws = 2;
  o.thread_count = 1;
  o.progress = count_rows;
  o.progress_user_data = &seen;
  OK(undiffuse_sampler_options_init(&so, sizeof so));
  so.kind = UNDIFFUSE_SAMPLER_DDPM;
  OK(undiffuse_sampler_from_json(fixed_large, 0, &so, &large, E));
  OK(undiffuse_bound_new(model, large, &o, data, N * COUNT_OF_DATA, &bound, E));
  info.struct_size = other.struct_size = sizeof info;
  OK(undiffuse_bound_get_info(bound, &info, E));
  CHECK(info.count == COUNT_OF_DATA && info.sample_len == N && info.rows == seen && info.calls > 0 && info.seconds >= 0);
  CHECK(fabs(info.k + info.kl + info.start - info.end + info.prior) < 1e-6);
  /* Minus the entropy of N(0, 1/4), from below and, with 100 steps, near. */
  exact = -N * 0.5 * log(2 * 3.14159265358979 * 2.718281828459045 * 0.25);
  CHECK(info.k < exact + 4 * info.standard_error && info.k > exact - 0.6);
  OK(undiffuse_bound_per_sample(bound, NULL, &len, E));
  CHECK(len == COUNT_OF_DATA);
  OK(undiffuse_bound_per_sample(bound, k, &len, E));
  for (i = 0; i < len; i++) sum += k[i] / (double)len;
  CHECK(fabs(sum - info.k) < 1e-9);
  len = 1;
  FAILS(UNDIFFUSE_BUFFER_TOO_SMALL, undiffuse_bound_steps(bound, steps, &len, E));
  CHECK(len > 90 && len <= 100);
  OK(undiffuse_bound_steps(bound, steps, &len, E));
  for (i = 0; i < len; i++) CHECK(steps[i].kl > -1e-6 && steps[i].lower <= steps[i].upper && steps[i].rows > 0);
  {
    undiffuse_bound_step_info one;
    one.struct_size = sizeof one;
    for (i = 0; i < len; i++) {
      OK(undiffuse_bound_get_step_info(bound, i, &one, E));
      CHECK(memcmp(&one.step, &steps[i], sizeof one.step) == 0);
    }
    FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_bound_get_step_info(bound, len, &one, E));
    one.struct_size = 3;
    FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_bound_get_step_info(bound, 0, &one, E));
  }
  undiffuse_bound_free(bound);
  bound = NULL;

  /* A part of the data gives what the whole gives. */
  o.first_sample = 150;
  o.batch = 7;
  OK(undiffuse_bound_new(model, large, &o, data + 150 * N, N * 50, &bound, E));
  len = 50;
  OK(undiffuse_bound_per_sample(bound, k, &len, E));
  OK(undiffuse_bound_get_info(bound, &other, E));
  CHECK(other.count == 50);
  undiffuse_bound_free(bound);
  o.first_sample = 0;
  OK(undiffuse_bound_new(model, large, &o, data, N * COUNT_OF_DATA, &bound, E));
  {
    static double all[COUNT_OF_DATA];
    len = COUNT_OF_DATA;
    OK(undiffuse_bound_per_sample(bound, all, &len, E));
    CHECK(memcmp(all + 150, k, 50 * sizeof *k) == 0);
  }
  undiffuse_bound_free(bound);
  bound = NULL;

  o.edges = UNDIFFUSE_EDGES_DISCRETIZED;
  o.sampled_steps = 10;
  o.batch = 1;
  OK(undiffuse_bound_new(model, NULL, &o, data, N * 2, &bound, E));
  undiffuse_bound_free(bound);
  bound = NULL;
  o.edges = UNDIFFUSE_EDGES_WHITE;
  OK(undiffuse_bound_new(model, NULL, &o, data, N * 2, &bound, E));
  undiffuse_bound_free(bound);
  bound = NULL;

  FAILS(UNDIFFUSE_UNSUPPORTED, undiffuse_bound_new(model, ddim, &o, data, N, &bound, E));
  FAILS(UNDIFFUSE_SHAPE, undiffuse_bound_new(model, NULL, &o, data, N + 1, &bound, E));
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_bound_new(model, NULL, &o, data, 0, &bound, E));
  o.edges = (undiffuse_edges)99;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_bound_new(model, NULL, &o, data, N, &bound, E));
  o.edges = UNDIFFUSE_EDGES_WHITE;
  OK(undiffuse_cancel_new(&cancel, E));
  undiffuse_cancel_set(cancel);
  o.cancel = cancel;
  FAILS(UNDIFFUSE_CANCELLED, undiffuse_bound_new(model, NULL, &o, data, N, &bound, E));
  o.cancel = NULL;
  o.classes = data;
  o.classes_len = 1;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_bound_new(model, NULL, &o, data, N, &bound, E));
  CHECK(bound == NULL);
  undiffuse_bound_free(NULL);
  undiffuse_cancel_free(cancel);
  undiffuse_sampler_free(ddim);
  undiffuse_sampler_free(large);
  undiffuse_model_free(model);
  return 0;
}
