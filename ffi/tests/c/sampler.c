/* Bare samplers: another engine calls the network, step by step; the result is that of a session. */
#include "check.h"

enum { N = 12, BATCH = 3, LEN = N * BATCH };

static void by_hand(const undiffuse_sampler *sampler, uint64_t seed, float *x) {
  undiffuse_sampler_info info;
  size_t step, i;
  for (i = 0; i < BATCH; i++) OK(undiffuse_noise_normal(seed, i, 0, x + i * N, N, E));
  info.struct_size = sizeof info;
  OK(undiffuse_sampler_get_info(sampler, &info, E));
  CHECK(info.step_count > 0 && info.initial_scale == 1.0 && !info.is_binary && info.fingerprint != 0);
  for (step = 0; step < info.step_count; step++) {
    float scaled[LEN], output[LEN], noise[LEN], next[LEN], x0[LEN];
    undiffuse_step_info s;
    undiffuse_step_io io;
    undiffuse_call call;
    s.struct_size = sizeof s;
    OK(undiffuse_sampler_get_step_info(sampler, step, &s, E));
    OK(undiffuse_sampler_scale_model_input(sampler, step, x, LEN, scaled, E));
    memset(&call, 0, sizeof call);
    call.level = s.level;
    call.count = BATCH;
    call.sample_len = N;
    gaussian_predict(NULL, &call, scaled, output);
    memset(&io, 0, sizeof io);
    io.struct_size = sizeof io;
    io.count = BATCH;
    io.sample_len = N;
    io.model_output = output;
    io.x = x;
    if (s.needs_noise) {
      for (i = 0; i < BATCH; i++) OK(undiffuse_noise_normal(seed, i, step + 1, noise + i * N, N, E));
      io.noise = noise;
    }
    io.next = next;
    io.x0 = step % 2 ? x0 : NULL;
    OK(undiffuse_sampler_step(sampler, step, &io, E));
    memcpy(x, next, sizeof next);
  }
}

/* What runs where nothing is chosen: UniPC with 20 steps, by every way to say nothing; all T where T is small. */
static void by_default(const undiffuse_model *model) {
  undiffuse_sampler *made[4] = {NULL, NULL, NULL, NULL}, *few = NULL;
  undiffuse_sampler_options o;
  undiffuse_sampler_info info, first;
  undiffuse_session_options so = session_options(1, 5);
  undiffuse_session *session = NULL;
  undiffuse_session_info si;
  float x[N], y[N];
  size_t i;
  OK(undiffuse_sampler_from_model(model, NULL, &made[0], E));
  OK(undiffuse_sampler_options_init(&o, sizeof o));
  OK(undiffuse_sampler_from_model(model, &o, &made[1], E));
  o.kind = UNDIFFUSE_SAMPLER_UNIPC;
  OK(undiffuse_sampler_from_model(model, &o, &made[2], E));
  o.steps = 20;
  OK(undiffuse_sampler_from_model(model, &o, &made[3], E));
  first.struct_size = info.struct_size = sizeof info;
  OK(undiffuse_sampler_get_info(made[3], &first, E));
  CHECK(first.step_count == 20);
  for (i = 0; i < 4; i++) {
    OK(undiffuse_sampler_get_info(made[i], &info, E));
    CHECK(info.fingerprint == first.fingerprint);
  }
  OK(undiffuse_session_new(model, NULL, NULL, &so, &session, E));
  si.struct_size = sizeof si;
  OK(undiffuse_session_get_info(session, &si, E));
  CHECK(si.step_count == 20);
  undiffuse_session_free(session);
  OK(undiffuse_sample(model, NULL, NULL, &so, x, N, E));
  OK(undiffuse_sample(model, made[3], NULL, &so, y, N, E));
  CHECK(same_floats(x, y, N));
  OK(undiffuse_sampler_from_json("{\"_class_name\": \"DDPMScheduler\", \"num_train_timesteps\": 30}", 0, NULL, &few, E));
  OK(undiffuse_sampler_get_info(few, &info, E));
  CHECK(info.step_count == 30);
  undiffuse_sampler_free(few);
  for (i = 0; i < 4; i++) undiffuse_sampler_free(made[i]);
}

static void like_a_session(const undiffuse_model *model, const undiffuse_sampler *sampler) {
  float x[LEN], wanted[LEN];
  undiffuse_session_options o = session_options(2, 11);
  by_hand(sampler, 11, x);
  OK(undiffuse_sample(model, sampler, NULL, &o, wanted, LEN, E));
  CHECK(same_floats(x, wanted, LEN));
}

int main(void) {
  undiffuse_model *model = gaussian_model(NULL, 1, 3, 4);
  undiffuse_sampler *sampler = NULL, *other = NULL;
  undiffuse_sampler_options o;
  undiffuse_schedule_options s;
  undiffuse_sampler_info info, info2;
  undiffuse_step_info step;
  undiffuse_step_io io;
  double betas[3] = {0.1, 0.2, 0.3}, times[100];
  uint32_t list[3] = {90, 40, 2}, kind;
  size_t len, i;
  float x[4] = {1, 2, 3, 4}, z[4] = {1, 1, -1, -1}, out[4], next[4];
  info.struct_size = info2.struct_size = sizeof info;
  step.struct_size = sizeof step;

  by_default(model);
  for (kind = UNDIFFUSE_SAMPLER_OF_SCHEDULE; kind <= UNDIFFUSE_SAMPLER_DDIM; kind++) {
    OK(undiffuse_sampler_options_init(&o, sizeof o));
    o.kind = (undiffuse_sampler_kind)kind;
    o.steps = 10;
    o.eta = kind == UNDIFFUSE_SAMPLER_DDIM ? 0.5 : 0.0;
    OK(undiffuse_sampler_from_model(model, &o, &sampler, E));
    like_a_session(model, sampler);
    undiffuse_sampler_free(sampler);
  }
  OK(undiffuse_sampler_options_init(&o, sizeof o));
  o.kind = UNDIFFUSE_SAMPLER_REPAINT;
  o.steps = 20;
  o.jump_length = 5;
  o.resamplings = 2;
  OK(undiffuse_sampler_from_model(model, &o, &sampler, E));
  like_a_session(model, sampler);
  undiffuse_sampler_free(sampler);

  /* What chooses its calls makes no step by hand, and a chain runs it. */
  OK(undiffuse_sampler_options_init(&o, sizeof o));
  CHECK(o.rtol == 1e-5 && o.atol == 1e-5);
  o.kind = UNDIFFUSE_SAMPLER_RK45;
  o.steps = 4;
  OK(undiffuse_sampler_from_model(model, &o, &sampler, E));
  OK(undiffuse_sampler_get_info(sampler, &info, E));
  CHECK(info.step_count == 4);
  undiffuse_sampler_free(sampler);
  o.rtol = 1e-9;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_sampler_from_model(model, &o, &sampler, E));

  /* The same by values, and from JSON. */
  OK(undiffuse_schedule_options_init(&s, sizeof s));
  s.clip_sample = 0;
  s.num_train_timesteps = 100;
  s.beta_start = 0.001;
  s.beta_end = 0.2;
  OK(undiffuse_sampler_options_init(&o, sizeof o));
  o.steps = 100; /* Steps without a kind are DDPM's, the configuration's own. */
  OK(undiffuse_sampler_new(&s, &o, &sampler, E));
  o.kind = UNDIFFUSE_SAMPLER_DDPM;
  o.steps = 0; /* All. */
  OK(undiffuse_sampler_from_json(PLAIN_DDPM, strlen(PLAIN_DDPM), &o, &other, E));
  OK(undiffuse_sampler_get_info(sampler, &info, E));
  OK(undiffuse_sampler_get_info(other, &info2, E));
  CHECK(info.fingerprint == info2.fingerprint && info.step_count == 100);
  undiffuse_sampler_free(other);
  other = NULL;

  len = 0;
  OK(undiffuse_sampler_timesteps(sampler, NULL, &len, E));
  CHECK(len == 100);
  len = 99;
  FAILS(UNDIFFUSE_BUFFER_TOO_SMALL, undiffuse_sampler_timesteps(sampler, times, &len, E));
  CHECK(len == 100);
  OK(undiffuse_sampler_timesteps(sampler, times, &len, E));
  for (i = 0; i < 100; i++) CHECK(times[i] == 99.0 - (double)i);
  OK(undiffuse_sampler_state_len(sampler, 12, &len, E));
  CHECK(len == 0);

  /* The last 30 of 100 steps. */
  OK(undiffuse_sampler_start_of_strength(sampler, 0.3, &len, E));
  CHECK(len == 70);
  OK(undiffuse_sampler_start_of_strength(sampler, 1.0, &len, E));
  CHECK(len == 0);
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_sampler_start_of_strength(sampler, 0.0, &len, E));
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_sampler_start_of_strength(sampler, 0.009, &len, E));
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_sampler_start_of_strength(sampler, 1.5, &len, E));
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_sampler_start_of_strength(sampler, NAN, &len, E));
  CHECK(len == 0);

  /* add_noise: alpha x + sigma z. */
  OK(undiffuse_sampler_get_step_info(sampler, 50, &step, E));
  CHECK(step.needs_noise == 1 && step.input_scale == 1.0 && step.level.timestep == 49.0 && step.target.timestep == 48.0);
  OK(undiffuse_sampler_add_noise(sampler, 50, x, z, 4, out, E));
  for (i = 0; i < 4; i++) CHECK(fabs(out[i] - (step.level.alpha * x[i] + step.level.sigma * z[i])) < 1e-6);
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_sampler_add_noise(sampler, 50, x, z, 4, x, E));
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_sampler_add_noise(sampler, 100, x, z, 4, out, E));
  OK(undiffuse_sampler_scale_model_input(sampler, 1, x, 4, x, E));
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_sampler_scale_model_input(sampler, 1, x, 3, x + 1, E));
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_sampler_get_step_info(sampler, 100, &step, E));

  /* What a step refuses. */
  memset(&io, 0, sizeof io);
  io.struct_size = sizeof io;
  io.count = 1;
  io.sample_len = 4;
  io.model_output = z;
  io.x = x;
  io.next = next;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_sampler_step(sampler, 0, &io, E)); /* no noise */
  io.noise = z;
  OK(undiffuse_sampler_step(sampler, 0, &io, E));
  io.x0 = next;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_sampler_step(sampler, 0, &io, E)); /* both outputs in one place */
  io.x0 = NULL;
  io.next = x;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_sampler_step(sampler, 0, &io, E));
  io.next = next;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_sampler_step(sampler, 100, &io, E));
  io.output_len = 5;
  FAILS(UNDIFFUSE_SHAPE, undiffuse_sampler_step(sampler, 0, &io, E));
  io.output_len = 0;
  io.count = (size_t)-1;
  FAILS(UNDIFFUSE_SHAPE, undiffuse_sampler_step(sampler, 0, &io, E));
  io.count = 0;
  FAILS(UNDIFFUSE_SHAPE, undiffuse_sampler_step(sampler, 0, &io, E));
  undiffuse_sampler_free(sampler);
  sampler = NULL;

  /* Lists of timesteps and of betas. */
  OK(undiffuse_sampler_options_init(&o, sizeof o));
  o.timesteps = list;
  o.timesteps_len = 3;
  OK(undiffuse_sampler_new(NULL, &o, &sampler, E));
  len = 3;
  OK(undiffuse_sampler_timesteps(sampler, times, &len, E));
  CHECK(times[0] == 90.0 && times[2] == 2.0);
  undiffuse_sampler_free(sampler);
  sampler = NULL;
  o.steps = 3;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_sampler_new(NULL, &o, &sampler, E));
  o.steps = 0;
  list[0] = 1;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_sampler_new(NULL, &o, &sampler, E));
  OK(undiffuse_schedule_options_init(&s, sizeof s));
  s.trained_betas = betas;
  s.trained_betas_len = 3;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_sampler_new(&s, NULL, &sampler, E));
  s.num_train_timesteps = 3;
  OK(undiffuse_sampler_new(&s, NULL, &sampler, E));
  undiffuse_sampler_free(sampler);
  sampler = NULL;

  /* Every curve and every chain of 2015. */
  for (i = UNDIFFUSE_BETAS_LINEAR; i <= UNDIFFUSE_BETAS_AUTHORS_2015; i++) {
    OK(undiffuse_schedule_options_init(&s, sizeof s));
    OK(undiffuse_sampler_options_init(&o, sizeof o));
    s.num_train_timesteps = 40;
    s.beta_schedule = (undiffuse_beta_schedule)i;
    o.kind = UNDIFFUSE_SAMPLER_ANCESTRAL_2015;
    OK(undiffuse_sampler_new(&s, &o, &sampler, E));
    undiffuse_sampler_free(sampler);
    sampler = NULL;
  }
  OK(undiffuse_sampler_options_init(&o, sizeof o));
  s.num_train_timesteps = 40;
  s.beta_schedule = UNDIFFUSE_BETAS_ERASING_EVENLY_2015;
  o.kind = UNDIFFUSE_SAMPLER_BITS_2015;
  o.pi = 0.2;
  OK(undiffuse_sampler_new(&s, &o, &sampler, E));
  OK(undiffuse_sampler_get_info(sampler, &info, E));
  CHECK(info.is_binary == 1 && fabs(info.ones - 0.2) < 1e-6 && info.step_count == 40);
  FAILS(UNDIFFUSE_UNSUPPORTED, undiffuse_sampler_add_noise(sampler, 1, x, z, 4, out, E));
  undiffuse_sampler_free(sampler);
  sampler = NULL;

#define REFUSED(field, value)                                                                  \
  do {                                                                                         \
    OK(undiffuse_sampler_options_init(&o, sizeof o));                                          \
    o.kind = UNDIFFUSE_SAMPLER_DDIM;                                                           \
    o.field = value;                                                                           \
    FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_sampler_new(NULL, &o, &sampler, E));           \
  } while (0)
  REFUSED(kind, (undiffuse_sampler_kind)999);
  REFUSED(arithmetic, (undiffuse_arithmetic)2);
  REFUSED(ddim_noise, (undiffuse_ddim_noise)2);
  REFUSED(ddim_previous, (undiffuse_ddim_previous)2);
  REFUSED(readout, (undiffuse_readout_2015)3);
  REFUSED(ending, (undiffuse_ending_2015)2);
  REFUSED(bit_prediction, (undiffuse_bit_prediction)2);
  REFUSED(use_clipped_model_output, 2);
  REFUSED(logits, 2);
  REFUSED(eta, 1.5);
  REFUSED(eta, NAN);
  REFUSED(steps, 1001);
  REFUSED(compat, (undiffuse_compat)3);
  OK(undiffuse_sampler_options_init(&o, sizeof o));
  o.kind = UNDIFFUSE_SAMPLER_DDIM;
  o.order = 2; /* DDIM has one only. */
  FAILS(UNDIFFUSE_UNSUPPORTED, undiffuse_sampler_new(NULL, &o, &sampler, E));
#define REFUSED_SCHEDULE(field, value)                                                         \
  do {                                                                                         \
    OK(undiffuse_schedule_options_init(&s, sizeof s));                                         \
    s.field = value;                                                                           \
    FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_sampler_new(&s, NULL, &sampler, E));           \
  } while (0)
  REFUSED_SCHEDULE(beta_schedule, (undiffuse_beta_schedule)8);
  REFUSED_SCHEDULE(variance_type, (undiffuse_variance_type)6);
  REFUSED_SCHEDULE(prediction_type, (undiffuse_prediction_type)4);
  REFUSED_SCHEDULE(timestep_spacing, (undiffuse_timestep_spacing)3);
  REFUSED_SCHEDULE(clip_sample, 2);
  REFUSED_SCHEDULE(thresholding, 3);
  REFUSED_SCHEDULE(rescale_betas_zero_snr, 3);
  REFUSED_SCHEDULE(set_alpha_to_one, 3);
  REFUSED_SCHEDULE(num_train_timesteps, 0);
  REFUSED_SCHEDULE(num_train_timesteps, (size_t)-1);
  REFUSED_SCHEDULE(beta_start, NAN);
  REFUSED_SCHEDULE(clip_sample_range, -1.0);
  REFUSED_SCHEDULE(reserved, 1);
  FAILS(UNDIFFUSE_CONFIG, undiffuse_sampler_from_json("{\"_class_name\": \"DDIMScheduler\", \"eta_\": 1}", 0, NULL, &sampler, E));
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_sampler_from_json("\xff\xff", 2, NULL, &sampler, E));
  CHECK(sampler == NULL);

  /* Noise: a sample is the same alone and in a longer buffer's begin. */
  OK(undiffuse_noise_normal(5, 6, 7, x, 4, E));
  OK(undiffuse_noise_normal(5, 6, 7, z, 2, E));
  CHECK(same_floats(x, z, 2));
  OK(undiffuse_noise_uniform(5, 6, 7, x, 4, E));
  for (i = 0; i < 4; i++) CHECK(x[i] >= 0.0f && x[i] < 1.0f);
  OK(undiffuse_noise_normal(5, 6, 7, NULL, 0, E));
  undiffuse_model_free(model);
  return 0;
}
