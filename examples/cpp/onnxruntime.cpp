// A network that ONNX Runtime runs, behind the callback of undiffuse: for programs that keep their engine. The network is class-conditional, and
// the callback does classifier-free guidance, both halves of it in one run of the engine.
//
//     onnxruntime_cpp unet.onnx scheduler_config.json LABEL SCALE samples.f32 [MODEL]
//
// unet.onnx takes sample [n, C, H, W], timestep [n] (int64) and class_labels [n] (int64), its last class standing for none, as
// examples/cpp/export_onnx.py writes it. samples.f32 gets 4 samples of 20 steps of DDIM. With MODEL, the same network as undiffuse reads it, its
// samples of the same seed are compared, and more than 1e-3 between any two values is a failure.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include <onnxruntime_cxx_api.h>
#include <undiffuse.hpp>

namespace {

constexpr std::size_t batch = 4;

class guided_network {
 public:
  guided_network(const char *path, std::int64_t label, std::int64_t none, float scale)
      : session_(env_, path, options()), label_(label), none_(none), scale_(scale) {
    const auto input = session_.GetInputTypeInfo(0);
    shape_ = input.GetTensorTypeAndShapeInfo().GetShape();
    if (shape_.size() != 4 || shape_[1] < 1 || shape_[2] < 1 || shape_[3] < 1)
      throw std::runtime_error("the network's first input is not [n, C, H, W] of fixed C, H and W");
  }

  std::vector<std::size_t> dims() const { return {shape_.begin() + 1, shape_.end()}; }

  // out = u + scale (c - u), c being the prediction under the label and u that under none.
  void predict(const undiffuse::call &call, undiffuse::view<const float> x, undiffuse::view<float> out) {
    const std::size_t n = call.count;
    // A sample's prediction does not depend on the others in the batch, so both may run in one.
    both_.assign(x.data(), x.data() + x.size());
    both_.insert(both_.end(), x.data(), x.data() + x.size());
    times_.assign(2 * n, std::llround(call.level.timestep));
    labels_.assign(n, label_);
    labels_.resize(2 * n, none_);
    auto shape = shape_;
    shape[0] = static_cast<std::int64_t>(2 * n);
    const std::int64_t rows[] = {shape[0]};
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    const std::array<Ort::Value, 3> inputs{Ort::Value::CreateTensor<float>(memory, both_.data(), both_.size(), shape.data(), shape.size()),
                                           Ort::Value::CreateTensor<std::int64_t>(memory, times_.data(), times_.size(), rows, 1),
                                           Ort::Value::CreateTensor<std::int64_t>(memory, labels_.data(), labels_.size(), rows, 1)};
    static constexpr const char *names[] = {"sample", "timestep", "class_labels"}, *made[] = {"out"};
    const auto result = session_.Run(Ort::RunOptions{nullptr}, names, inputs.data(), inputs.size(), made, 1);
    if (result[0].GetTensorTypeAndShapeInfo().GetElementCount() != 2 * out.size())
      throw std::runtime_error("the network's output has not the size of its input");
    const float *c = result[0].GetTensorData<float>(), *u = c + out.size();
    for (std::size_t i = 0; i < out.size(); i++) out[i] = u[i] + scale_ * (c[i] - u[i]);
  }

 private:
  static Ort::SessionOptions options() {
    Ort::SessionOptions options;
    options.SetIntraOpNumThreads(2);
    return options;
  }
  Ort::Env env_{ORT_LOGGING_LEVEL_WARNING, "undiffuse"};
  Ort::Session session_;
  std::int64_t label_, none_;
  float scale_;
  std::vector<std::int64_t> shape_, times_, labels_;
  std::vector<float> both_;
};

std::vector<float> samples(const undiffuse::model &model, const undiffuse::session_options &options) {
  undiffuse::sampler_options how;
  how.kind = UNDIFFUSE_SAMPLER_DDIM;
  how.steps = 20;
  undiffuse::session session(model, undiffuse::sampler(model, how), options);
  session.run();
  const auto x = session.x();
  return {x.data(), x.data() + x.size()};
}

}  // namespace

int main(int argc, char **argv) try {
  if (argc != 6 && argc != 7) {
    std::fprintf(stderr, "usage: %s UNET.onnx SCHEDULER.json LABEL SCALE OUTPUT.f32 [MODEL]\n", argv[0]);
    return 2;
  }
  const long label = std::strtol(argv[3], nullptr, 10);
  const double scale = std::strtod(argv[4], nullptr);
  // The class that export_onnx.py trained for none.
  constexpr long none = 10;
  std::ifstream scheduler(argv[2]);
  if (!scheduler) throw std::runtime_error(std::string(argv[2]) + " cannot be read");

  guided_network network(argv[1], label, none, static_cast<float>(scale));
  undiffuse::denoiser denoiser;
  denoiser.predict = [&](const undiffuse::call &call, undiffuse::view<const float> x, undiffuse::view<float> out) { network.predict(call, x, out); };
  denoiser.dims = network.dims();
  denoiser.name = "ONNX Runtime";
  denoiser.scheduler_json.assign(std::istreambuf_iterator<char>(scheduler), {});
  undiffuse::session_options options;
  options.batch = batch;
  options.seed = 42;
  const auto x = samples(undiffuse::model::from_denoiser(denoiser), options);
  std::ofstream file(argv[5], std::ios::binary);
  file.write(reinterpret_cast<const char *>(x.data()), static_cast<std::streamsize>(x.size() * sizeof(float)));
  if (!file.flush()) throw std::runtime_error(std::string(argv[5]) + " cannot be written");
  std::printf("%s: %zu samples of seed 42 by ONNX Runtime %s\n", argv[5], batch, OrtGetApiBase()->GetVersionString());
  if (argc == 6) return 0;

  // The same weights in undiffuse, which guides by itself.
  const auto model = undiffuse::model::load(argv[6]);
  options.classes = {static_cast<float>(label)};
  options.guidance.scale = scale;
  options.guidance.negative = {{"class_labels", {static_cast<float>(none)}}};
  const auto own = samples(model, options);
  if (own.size() != x.size()) throw std::runtime_error("the two networks have samples of different sizes");
  double most = 0, difference = 0, length = 0;
  for (std::size_t i = 0; i < x.size(); i++) {
    const double d = static_cast<double>(x[i]) - own[i];
    most = std::max(most, std::abs(d));
    difference += d * d;
    length += static_cast<double>(own[i]) * own[i];
  }
  std::printf("undiffuse's own: relative L2 difference %.2e, at most %.2e\n", std::sqrt(difference / length), most);
  return !(most <= 1e-3);
} catch (const std::exception &e) {
  std::fprintf(stderr, "%s\n", e.what());
  return 1;
}
