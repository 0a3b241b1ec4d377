/* What denoise.c and inpaint.c share: measure a digit that the model drew, restore it from the measurement, and write both. */
#ifndef RESTORE_H
#define RESTORE_H

#include <math.h>

#include "example.h"

enum { SIDE = 28, LEN = SIDE * SIDE };

/* The distance of two images per pixel, as PSNR in dB over the range of 2. */
static inline double psnr(const float *a, const float *b) {
  double sum = 0;
  for (int i = 0; i < LEN; i++) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return 10 * log10(4 * LEN / sum);
}

/* Restores with the operator that `make` makes and noise of `sigma`; shows truth, A^T y and three samples in `path`. */
static inline int restore(const char *weights, const char *path, double sigma,
                          undiffuse_status (*make)(undiffuse_operator **op, undiffuse_error **error)) {
  undiffuse_model *model = NULL;
  undiffuse_operator *op = NULL;
  undiffuse_evidence *evidence = NULL;
  undiffuse_sampler *sampler = NULL;
  undiffuse_session *session = NULL;
  undiffuse_error *error = NULL;
  static float shown[5 * LEN], y[LEN], noise[LEN];
  int result = 1;

  /* The default method needs vector-Jacobian products. */
  undiffuse_model_options load;
  undiffuse_model_options_init(&load, sizeof load);
  load.gradient = UNDIFFUSE_GRADIENT_FULL;
  if (failed(undiffuse_model_load(weights, &load, &model, &error), &error)) goto end;
  undiffuse_sampler_options how;
  undiffuse_sampler_options_init(&how, sizeof how);
  how.kind = UNDIFFUSE_SAMPLER_DDIM;
  how.steps = 20;
  how.eta = 1;
  if (failed(undiffuse_sampler_from_model(model, &how, &sampler, &error), &error)) goto end;

  /* The truth: one sample without evidence. */
  undiffuse_session_options options;
  undiffuse_session_options_init(&options, sizeof options);
  options.seed = 7;
  if (failed(undiffuse_sample(model, sampler, NULL, &options, shown, LEN, &error), &error)) goto end;

  /* The measurement y = A x + sigma n. */
  if (failed(make(&op, &error), &error)) goto end;
  undiffuse_operator_info info = {.struct_size = sizeof info};
  if (failed(undiffuse_operator_get_info(op, &info, &error), &error)) goto end;
  if (info.input_len != LEN || info.output_len > LEN) {
    fprintf(stderr, "the operator is of other images\n");
    goto end;
  }
  if (failed(undiffuse_operator_apply(op, shown, LEN, y, info.output_len, &error), &error)) goto end;
  if (failed(undiffuse_noise_normal(8, 0, 0, noise, info.output_len, &error), &error)) goto end;
  for (size_t i = 0; i < info.output_len; i++) y[i] += (float)sigma * noise[i];
  if (failed(undiffuse_operator_adjoint(op, y, info.output_len, shown + LEN, LEN, &error), &error)) goto end;

  /* Three samples of p(x) r(x). */
  undiffuse_measurement measurement = {.struct_size = sizeof measurement};
  measurement.op = op;
  measurement.y = y;
  measurement.y_len = info.output_len;
  measurement.sigma = sigma;
  if (failed(undiffuse_evidence_from_measurement(&measurement, NULL, &evidence, &error), &error)) goto end;
  options.batch = 3;
  options.seed = 9;
  undiffuse_sampler_free(sampler);
  sampler = NULL;
  if (failed(undiffuse_evidence_recommend_sampler(evidence, model, &how, &error), &error)) goto end;
  if (failed(undiffuse_sampler_from_model(model, &how, &sampler, &error), &error)) goto end;
  if (failed(undiffuse_session_new(model, sampler, evidence, &options, &session, &error), &error)) goto end;
  if (failed(undiffuse_session_run(session, &error), &error)) goto end;
  const float *x;
  if (failed(undiffuse_session_x(session, &x, NULL, &error), &error)) goto end;
  memcpy(shown + 2 * LEN, x, sizeof(float) * 3 * LEN);
  if (!write_png(path, shown, 5, SIDE, SIDE)) {
    perror(path);
    goto end;
  }
  printf("%s: measured %.1f dB, restored %.1f, %.1f and %.1f dB\n", path, psnr(shown, shown + LEN), psnr(shown, x),
         psnr(shown, x + LEN), psnr(shown, x + 2 * LEN));
  result = 0;
end:
  undiffuse_session_free(session);
  undiffuse_sampler_free(sampler);
  undiffuse_evidence_free(evidence);
  undiffuse_operator_free(op);
  undiffuse_model_free(model);
  return result;
}

#endif
