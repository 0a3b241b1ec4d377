#include <stdio.h>
#include <undiffuse.h>

/* Says that x_0 is 0 everywhere: the noise is x / sigma. */
static int32_t predict(void *user_data, const undiffuse_call *call, const float *x, float *out) {
  size_t i;
  (void)user_data;
  for (i = 0; i < call->count * call->sample_len; i++) out[i] = (float)(x[i] / call->level.sigma);
  return 0;
}

int main(void) {
  undiffuse_denoiser denoiser = {0};
  undiffuse_model *model = NULL;
  undiffuse_error *error = NULL;
  float x[4] = {1, 1, 1, 1};
  denoiser.struct_size = sizeof denoiser;
  denoiser.predict = predict;
  denoiser.rank = 1;
  denoiser.dims[0] = 4;
  if (undiffuse_model_from_denoiser(&denoiser, &model, &error) ||
      undiffuse_sample(model, NULL, NULL, NULL, x, 4, &error))
    fprintf(stderr, "%s\n", undiffuse_error_message(error));
  undiffuse_error_free(error);
  undiffuse_model_free(model);
  printf("C: libundiffuse %s, abi %u, x = %.3f\n", undiffuse_version_string(), (unsigned)undiffuse_abi_version(), x[0]);
  return undiffuse_abi_version() < UNDIFFUSE_ABI_VERSION || x[0] * x[0] > 1e-6f;
}
