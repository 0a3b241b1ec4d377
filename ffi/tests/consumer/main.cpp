#include <cmath>
#include <cstdio>
#include <undiffuse.hpp>

int main() {
  undiffuse::denoiser denoiser;
  denoiser.dims = {4};
  denoiser.predict = [](const undiffuse::call &call, undiffuse::view<const float> x, undiffuse::view<float> out) {
    for (std::size_t i = 0; i < x.size(); i++) out[i] = static_cast<float>(x[i] / call.level.sigma);
  };
  auto model = undiffuse::model::from_denoiser(denoiser);
  auto x = undiffuse::sample(model, 1);
  std::printf("C++: libundiffuse %s, x = %.3f\n", undiffuse_version_string(), x[0]);
  return std::fabs(x[0]) < 1e-3f ? 0 : 1;
}
