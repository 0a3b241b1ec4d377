/* Evidence by a function of yours: r(x_0) = N(mean of x_0's pixels; aim, s^2), which asks for digits of another weight of strokes.
 *
 *     own_evidence digits.safetensors bold.png     # four digits without evidence, then the same seeds with it
 */
#include "example.h"

enum { LEN = 28 * 28, COUNT = 4 };

/* The gradient of log r at x_t. x_t's mean is alpha times that of x_0 and the mean of the noise, whose variance is sigma^2 / n: so
 * r_t(x_t) = N(mean of x_t; alpha aim, alpha^2 s^2 + sigma^2 / n). */
static int32_t bolder(void *user_data, const undiffuse_call *call, const float *x, float *out) {
  const double aim = *(const double *)user_data, s2 = 0.02 * 0.02, n = (double)call->sample_len;
  const double alpha = call->level.alpha, sigma = call->level.sigma;
  for (size_t i = 0; i < call->count; i++, x += call->sample_len, out += call->sample_len) {
    double mean = 0;
    for (size_t j = 0; j < call->sample_len; j++) mean += x[j] / n;
    const double gradient = (alpha * aim - mean) / (alpha * alpha * s2 + sigma * sigma / n) / n;
    for (size_t j = 0; j < call->sample_len; j++) out[j] = (float)gradient;
  }
  return UNDIFFUSE_OK;
}

static double mean_of(const float *x) {
  double sum = 0;
  for (int i = 0; i < COUNT * LEN; i++) sum += x[i];
  return sum / (COUNT * LEN);
}

int main(int argc, char **argv) {
  undiffuse_model *model = NULL;
  undiffuse_sampler *sampler = NULL;
  undiffuse_evidence *evidence = NULL;
  undiffuse_error *error = NULL;
  static float x[2 * COUNT * LEN];
  double aim = -0.5;
  int result = 1;
  if (argc != 3) {
    fprintf(stderr, "usage: %s MODEL OUTPUT.png\n", argv[0]);
    return 2;
  }
  if (failed(undiffuse_model_load(argv[1], NULL, &model, &error), &error)) goto end;
  undiffuse_sampler_options how;
  undiffuse_sampler_options_init(&how, sizeof how);
  how.kind = UNDIFFUSE_SAMPLER_DDIM;
  how.steps = 50;
  how.eta = 1;
  if (failed(undiffuse_sampler_from_model(model, &how, &sampler, &error), &error)) goto end;

  undiffuse_gradient_evidence by = {.struct_size = sizeof by};
  by.user_data = &aim; /* must live as long as the evidence and its sessions */
  by.gradient = bolder;
  by.rule = UNDIFFUSE_GRADIENT_SCORE;
  by.name = "bolder digits";
  if (failed(undiffuse_evidence_from_gradient(&by, &evidence, &error), &error)) goto end;

  undiffuse_session_options options;
  undiffuse_session_options_init(&options, sizeof options);
  options.batch = COUNT;
  options.seed = 3;
  if (failed(undiffuse_sample(model, sampler, NULL, &options, x, COUNT * LEN, &error), &error)) goto end;
  if (failed(undiffuse_sample(model, sampler, evidence, &options, x + COUNT * LEN, COUNT * LEN, &error), &error)) goto end;
  if (!write_png(argv[2], x, 2 * COUNT, 28, 28)) {
    perror(argv[2]);
    goto end;
  }
  const double before = mean_of(x), after = mean_of(x + COUNT * LEN);
  printf("%s: mean pixel %.3f without, %.3f with evidence that asks for %.1f\n", argv[2], before, after, aim);
  result = !(after > before + 0.03); /* r_t takes pixels for independent, which asks for less than the exact r_t would */
end:
  undiffuse_evidence_free(evidence);
  undiffuse_sampler_free(sampler);
  undiffuse_model_free(model);
  return result;
}
