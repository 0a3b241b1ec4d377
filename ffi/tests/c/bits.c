/* Writes samples to standard output as floats, for same_bits.rs: DDPM, DDIM, and DDPM with a calibrated mask. argv[1]: a small network. */
#include "check.h"

enum { N = 64, BATCH = 3 };

static undiffuse_model *model;

static void sample(uint32_t kind, double eta, const undiffuse_evidence *evidence, size_t threads) {
  undiffuse_session_options o = session_options(BATCH, 42);
  undiffuse_sampler_options so;
  undiffuse_sampler *sampler = NULL;
  float x[BATCH * N];
  OK(undiffuse_sampler_options_init(&so, sizeof so));
  so.kind = (undiffuse_sampler_kind)kind;
  so.steps = 9;
  so.eta = eta;
  OK(undiffuse_sampler_from_model(model, &so, &sampler, E));
  o.first_sample = 5;
  o.thread_count = threads;
  OK(undiffuse_sample(model, sampler, evidence, &o, x, BATCH * N, E));
  CHECK(fwrite(x, sizeof *x, BATCH * N, stdout) == BATCH * N);
  undiffuse_sampler_free(sampler);
}

int main(int argc, char **argv) {
  undiffuse_model_options o;
  undiffuse_operator *op = NULL;
  undiffuse_evidence *evidence = NULL;
  undiffuse_measurement m;
  size_t dims[3] = {1, 8, 8}, i;
  unsigned char known[N];
  float y[22];
  CHECK(argc == 2);
  OK(undiffuse_model_options_init(&o, sizeof o));
  o.gradient = UNDIFFUSE_GRADIENT_FULL;
  OK(undiffuse_model_load(argv[1], &o, &model, E));
  sample(UNDIFFUSE_SAMPLER_DDPM, 0.0, NULL, 2);
  sample(UNDIFFUSE_SAMPLER_DDIM, 0.7, NULL, 1);
  for (i = 0; i < N; i++) known[i] = i % 3 == 0;
  for (i = 0; i < COUNT(y); i++) y[i] = (float)i / 32.0f - 0.25f;
  OK(undiffuse_operator_mask(dims, 3, known, N, &op, E));
  memset(&m, 0, sizeof m);
  m.struct_size = sizeof m;
  m.op = op;
  m.y = y;
  m.y_len = COUNT(y);
  m.sigma = 0.25;
  OK(undiffuse_evidence_from_measurement(&m, NULL, &evidence, E));
  sample(UNDIFFUSE_SAMPLER_DDPM, 0.0, evidence, 2);
  undiffuse_evidence_free(evidence);
  undiffuse_operator_free(op);
  undiffuse_model_free(model);
  return 0;
}
