/* Any engine can run the network: here a function that knows the answer for data that are normal with mean 2 and deviation 0.5. */
#include <math.h>

#include "example.h"

enum { LEN = 64, BATCH = 256 };
static const float mean = 2, deviation = 0.5f;

/* The noise in x = alpha x_0 + sigma eps, as far as x tells: E[eps | x] = sigma (x - alpha mean) / (alpha^2 v + sigma^2). */
static int32_t predict(void *user_data, const undiffuse_call *call, const float *x, float *out) {
  size_t *calls = user_data;
  const float alpha = (float)call->level.alpha, sigma = (float)call->level.sigma;
  const float variance = alpha * alpha * deviation * deviation + sigma * sigma;
  for (size_t i = 0; i < call->count * call->sample_len; i++) out[i] = sigma * (x[i] - alpha * mean) / variance;
  ++*calls;
  return UNDIFFUSE_OK;
}

int main(void) {
  undiffuse_model *model = NULL;
  undiffuse_sampler *sampler = NULL;
  undiffuse_error *error = NULL;
  static float x[BATCH * LEN];
  size_t calls = 0;
  int result = 1;

  undiffuse_denoiser denoiser = {.struct_size = sizeof denoiser};
  denoiser.user_data = &calls;
  denoiser.predict = predict;
  denoiser.rank = 1;
  denoiser.dims[0] = LEN;
  denoiser.name = "a normal distribution";
  denoiser.scheduler_json = "{\"_class_name\": \"DDPMScheduler\", \"num_train_timesteps\": 1000, \"clip_sample\": false}";
  if (failed(undiffuse_model_from_denoiser(&denoiser, &model, &error), &error)) goto end;
  undiffuse_session_options options;
  undiffuse_session_options_init(&options, sizeof options);
  options.batch = BATCH;
  /* DDPM with all of its steps: a chain of few steps is narrower than the data. */
  undiffuse_sampler_options steps;
  undiffuse_sampler_options_init(&steps, sizeof steps);
  steps.kind = UNDIFFUSE_SAMPLER_DDPM;
  if (failed(undiffuse_sampler_from_model(model, &steps, &sampler, &error), &error)) goto end;
  if (failed(undiffuse_sample(model, sampler, NULL, &options, x, BATCH * LEN, &error), &error)) goto end;

  double sum = 0, squares = 0;
  for (int i = 0; i < BATCH * LEN; i++) sum += x[i], squares += (double)x[i] * x[i];
  const double m = sum / (BATCH * LEN), s = sqrt(squares / (BATCH * LEN) - m * m);
  printf("%zu calls; mean %.3f (2), deviation %.3f (0.5)\n", calls, m, s);
  result = !(fabs(m - mean) < 0.02 && fabs(s - deviation) < 0.02);
end:
  undiffuse_sampler_free(sampler);
  undiffuse_model_free(model);
  return result;
}
