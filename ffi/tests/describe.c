/* Loads a small model, says what it runs on and draws one sample. */
#include <stdio.h>
#include <undiffuse.h>

int main(int argc, char **argv) {
  undiffuse_model *model = NULL;
  undiffuse_session *session = NULL;
  undiffuse_session_options options;
  undiffuse_error *error = NULL;
  char text[100];
  const float *x = NULL;
  size_t len = sizeof text - 1;
  int failed;
  undiffuse_session_options_init(&options, sizeof options);
  failed = argc != 2 || undiffuse_model_load(argv[1], NULL, &model, &error) ||
           undiffuse_session_new(model, NULL, NULL, &options, &session, &error) ||
           undiffuse_session_describe(session, text, &len, &error) || undiffuse_session_run(session, &error) ||
           undiffuse_session_x(session, &x, NULL, &error);
  if (failed) {
    fprintf(stderr, "%s\n", undiffuse_error_message(error));
  } else {
    text[len] = 0;
    printf("%s: x = %.6f %.6f\n", text, x[0], x[1]);
  }
  undiffuse_error_free(error);
  undiffuse_session_free(session);
  undiffuse_model_free(model);
  return failed;
}
