/* Draws eight samples of a model and writes them as one PNG.
 *
 *     sample digits.safetensors samples.png
 */
#include "example.h"

static int32_t progress(void *user_data, const undiffuse_progress *p) {
  (void)user_data;
  fprintf(stderr, "\rstep %zu of %zu", p->step + 1, p->step_count);
  return 0; /* any other value stops the run */
}

int main(int argc, char **argv) {
  undiffuse_model *model = NULL;
  undiffuse_sampler *sampler = NULL;
  undiffuse_session *session = NULL;
  undiffuse_error *error = NULL;
  int result = 1;
  if (argc != 3) {
    fprintf(stderr, "usage: %s MODEL OUTPUT.png\n", argv[0]);
    return 2;
  }
  if (failed(undiffuse_model_load(argv[1], NULL, &model, &error), &error)) goto end;

  undiffuse_model_info info = {.struct_size = sizeof info};
  if (failed(undiffuse_model_get_info(model, &info, &error), &error)) goto end;
  if (info.rank != 3 || info.dims[0] != 1) {
    fprintf(stderr, "%s is no model of grey images\n", argv[1]);
    goto end;
  }
  undiffuse_sampler_options how;
  undiffuse_sampler_options_init(&how, sizeof how);
  how.kind = UNDIFFUSE_SAMPLER_DDIM;
  how.steps = 50;
  how.eta = 1;
  if (failed(undiffuse_sampler_from_model(model, &how, &sampler, &error), &error)) goto end;

  undiffuse_session_options options;
  undiffuse_session_options_init(&options, sizeof options);
  options.batch = 8;
  options.seed = 42;
  options.progress = progress;
  if (failed(undiffuse_session_new(model, sampler, NULL, &options, &session, &error), &error)) goto end;
  if (failed(undiffuse_session_run(session, &error), &error)) goto end;

  const float *x;
  if (failed(undiffuse_session_x(session, &x, NULL, &error), &error)) goto end;
  if (!write_png(argv[2], x, options.batch, info.dims[1], info.dims[2])) {
    perror(argv[2]);
    goto end;
  }
  printf("\n%s: 8 samples of seed 42\n", argv[2]);
  result = 0;
end:
  undiffuse_session_free(session);
  undiffuse_sampler_free(sampler);
  undiffuse_model_free(model);
  return result;
}
