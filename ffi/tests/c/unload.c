/* Loads the shared library, uses it with threads, unloads it, again and again. argv[1]: a small network, argv[2]: the library. */
#include <dirent.h>
#include <dlfcn.h>

#define CHECK_ONLY
#include "check.h"

/* How many threads the process has. */
static int threads(void) {
  DIR *dir = opendir("/proc/self/task");
  int count = 0;
  CHECK(dir != NULL);
  while (readdir(dir)) count++;
  closedir(dir);
  return count - 2;
}

/* A function of the library; ISO C knows no other way from an object to a function. */
#define LOOK_UP(name)                            \
  do {                                           \
    void *symbol = dlsym(library, #name);        \
    CHECK(symbol != NULL);                       \
    memcpy(&name##_, &symbol, sizeof symbol);    \
  } while (0)

int main(int argc, char **argv) {
  int round;
  CHECK(argc == 3 && threads() == 1);
  for (round = 0; round < 3; round++) {
    void *library = dlopen(argv[2], RTLD_NOW | RTLD_LOCAL);
    undiffuse_status (*undiffuse_session_options_init_)(undiffuse_session_options *, size_t);
    undiffuse_status (*undiffuse_model_load_)(const char *, const undiffuse_model_options *, undiffuse_model **, undiffuse_error **);
    undiffuse_status (*undiffuse_session_new_)(const undiffuse_model *, const undiffuse_sampler *, const undiffuse_evidence *,
                                               const undiffuse_session_options *, undiffuse_session **, undiffuse_error **);
    undiffuse_status (*undiffuse_session_step_)(undiffuse_session *, undiffuse_error **);
    void (*undiffuse_session_free_)(undiffuse_session *);
    void (*undiffuse_model_free_)(undiffuse_model *);
    undiffuse_session_options o;
    undiffuse_model *model = NULL;
    undiffuse_session *session = NULL;
    CHECK(library != NULL);
    LOOK_UP(undiffuse_session_options_init);
    LOOK_UP(undiffuse_model_load);
    LOOK_UP(undiffuse_session_new);
    LOOK_UP(undiffuse_session_step);
    LOOK_UP(undiffuse_session_free);
    LOOK_UP(undiffuse_model_free);
    CHECK(undiffuse_session_options_init_(&o, sizeof o) == UNDIFFUSE_OK);
    o.thread_count = 3;
    CHECK(undiffuse_model_load_(argv[1], NULL, &model, NULL) == UNDIFFUSE_OK && threads() == 1);
    CHECK(undiffuse_session_new_(model, NULL, NULL, &o, &session, NULL) == UNDIFFUSE_OK && threads() == 3);
    CHECK(undiffuse_session_step_(session, NULL) == UNDIFFUSE_OK);
    undiffuse_session_free_(session);
    CHECK(threads() == 1);
    undiffuse_model_free_(model);
    CHECK(dlclose(library) == 0);
  }
  return 0;
}
