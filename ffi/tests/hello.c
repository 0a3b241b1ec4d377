/* The least that is useful: a file is loaded, one sample is made. ffi/sizes.sh measures it. */
#include <stdio.h>
#include <undiffuse.h>

static float x[1 << 16];

int main(int argc, char **argv) {
  undiffuse_model *model = NULL;
  undiffuse_model_info info = {sizeof info};
  undiffuse_error *error = NULL;
  int status = undiffuse_model_load(argc > 1 ? argv[1] : "", NULL, &model, &error);
  if (!status) status = undiffuse_model_get_info(model, &info, &error);
  if (!status && info.sample_len > sizeof x / sizeof *x) status = UNDIFFUSE_SHAPE;
  if (!status) status = undiffuse_sample(model, NULL, NULL, NULL, x, info.sample_len, &error);
  if (status) fprintf(stderr, "%s\n", undiffuse_error_message(error));
  undiffuse_error_free(error);
  undiffuse_model_free(model);
  return status != 0;
}
