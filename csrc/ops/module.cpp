// The schemas of the ops and the module vae_ext._C; nothing else. The kernels register themselves
// beside their code. reduction: 0 none, 1 event, 2 sum, 3 mean, 4 batchmean; the last two divide by
// `count` if there is one. n_samples = 0: no sample dimension. output_mask: bit i asks for the
// gradient of input i; the others come back empty.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <torch/csrc/stable/library.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "../cpu/kernels.h"
#include "../math/count_mixtures.h"
#include "../math/divergences.h"
#include "../math/groups.h"
#include "../math/likelihoods.h"
#include "../math/philox.h"
#include "arguments.h"

#define VAE_EXT_NOISE                                                                \
  "Tensor? noise, Tensor? seed, SymInt seed_value, SymInt stream, SymInt[]? places," \
  " SymInt n_samples"
#define VAE_EXT_EVENT "SymInt? count, int event_dims, int reduction"

namespace {

// "(Tensor, Tensor)" for so many.
std::string tensors(int n) {
  std::string all = "(Tensor";
  for (int i = 1; i < n; ++i) all += ", Tensor";
  return all + ")";
}

// The arguments of a formula's op.
std::string arguments(const std::string& inputs, const std::string& numbers) {
  return inputs + ", Tensor? weights, " + numbers + (numbers.empty() ? "" : ", ") + VAE_EXT_EVENT;
}

void define(torch::stable::detail::StableLibrary& m, const std::string& schema) {
  m.def(schema.c_str());
}

}  // namespace

STABLE_TORCH_LIBRARY(vae_ext, m) {
  m.def("reparameterize(Tensor mu, Tensor logvar, " VAE_EXT_NOISE ") -> Tensor");
  m.def("reparameterize_backward(Tensor grad_z, Tensor logvar, " VAE_EXT_NOISE
        ", int output_mask) -> (Tensor, Tensor)");
  m.def("reparameterize_dnoise(Tensor grad_z, Tensor logvar, Tensor noise) -> Tensor");

  m.def("reparameterize_with_kl(Tensor mu, Tensor logvar, " VAE_EXT_NOISE ", " VAE_EXT_EVENT
        ") -> (Tensor, Tensor)");
  m.def(
      "reparameterize_with_kl_backward(Tensor? grad_z, Tensor? grad_kl, Tensor mu, Tensor logvar,"
      " " VAE_EXT_NOISE ", " VAE_EXT_EVENT ", int output_mask) -> (Tensor, Tensor)");

  // Either output or both (bits 0 and 1 of `outputs`). form: logvar is 0 that, 1 log_std or 2 std.
  // A logvar is kept between bounds: 0 not, 1 by a cut, 2 by a tanh. Without a logvar, `mu` holds
  // both, as halves along dimension `dim`, and their gradients come back as one tensor.
  m.def("latent(Tensor mu, Tensor? logvar, " VAE_EXT_NOISE
        ", int form, int bounds, float low, float high, " VAE_EXT_EVENT
        ", int dim, int outputs) -> (Tensor, Tensor)");
  m.def("latent_backward(Tensor? grad_z, Tensor? grad_kl, Tensor mu, Tensor? logvar, " VAE_EXT_NOISE
        ", int form, int bounds, float low, float high, " VAE_EXT_EVENT
        ", int dim, int output_mask) -> (Tensor, Tensor)");

  // n_samples >= 1. z, log_q and log_p, [n_samples, events]. gradient: a DrawGradient. With
  // kStickingTheLanding there is a fourth result, zeros [n_samples, events]: whoever weights the
  // samples lets the weights come back as its gradient.
  m.def("sample_with_log_densities(Tensor mu, Tensor logvar, " VAE_EXT_NOISE
        ", int event_dims, int gradient) -> (Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "sample_with_log_densities_backward(Tensor? grad_z, Tensor? grad_q, Tensor? grad_p,"
      " Tensor mu, Tensor logvar, " VAE_EXT_NOISE
      ", int event_dims, int gradient, int output_mask) -> (Tensor, Tensor)");

  // Of every formula forward, backward, and both in one pass where the reduction gives a scalar:
  // those gradients are for an incoming one of the value expected, and scale_gradient_ multiplies
  // them by what came instead. weights are the elements': one of weight 0 is 0, with gradients 0,
  // whatever it holds. "mean" divides by the number of elements all the same, or by `count`.
#define VAE_EXT_FORMULA(op, Formula, inputs, numbers)                           \
  define(m, #op "(" + arguments(inputs, numbers) + ") -> Tensor");              \
  define(m, #op "_backward(Tensor grad, " + arguments(inputs, numbers) +        \
                ", int output_mask) -> " + tensors(vae_ext::Formula::kInputs)); \
  define(m, #op "_with_gradients(" + arguments(inputs, numbers) +               \
                ", float expected, int output_mask) -> " +                      \
                tensors(1 + vae_ext::Formula::kInputs));
#define VAE_EXT_DIVERGENCE(name, Formula, inputs, numbers) \
  VAE_EXT_FORMULA(name, Formula, inputs, numbers)
#define VAE_EXT_LIKELIHOOD(name, Formula, inputs, numbers) \
  VAE_EXT_FORMULA(name##_log_likelihood, Formula, inputs, numbers)
#define VAE_EXT_GROUP(name, Formula, inputs, numbers) \
  VAE_EXT_FORMULA(name##_log_likelihood, Formula, inputs, numbers)
#include "formulas.def"
#include "groups.def"

  // The log-density of events [rows, groups, dims] under a mixture of as many diagonal Gaussians,
  // [components, groups, dims], for each group: [rows, groups]. log_weights: [1, components], or of
  // each row its own. The second result is the first in float64, without a gradient.
  m.def(
      "mixture_log_density(Tensor z, Tensor means, Tensor logvars, Tensor log_weights)"
      " -> (Tensor, Tensor)");
  m.def(
      "mixture_log_density_backward(Tensor grad, Tensor log_sum, Tensor z, Tensor means,"
      " Tensor logvars, Tensor log_weights, int output_mask) -> (Tensor, Tensor, Tensor, Tensor)");
  m.def("scale_gradient_(Tensor(a!) gradient, Tensor incoming, float expected) -> ()");

  m.def("philox_words(Tensor(a!) out, int seed, int stream) -> ()");
}

namespace {

std::vector<std::string> simd_levels(bool supported_only) {
  std::vector<std::string> names;
  for (int i = 0; i < vae_ext::kernel_set_count(); ++i) {
    if (supported_only && !vae_ext::kernel_set_supported(i)) continue;
    names.emplace_back(vae_ext::kernel_set(i).level);
  }
  return names;
}

}  // namespace

// Nothing here or in the kernels is shared between threads but what atomics and locks hold.
PYBIND11_MODULE(_C, m, pybind11::mod_gil_not_used()) {
  m.doc() = "Native kernels of vae_ext: importing this module registers torch.ops.vae_ext.*";
  m.attr("version") = VAE_EXT_VERSION;
  m.attr("compiler") = __VERSION__;
  // The numbers by which ops are told names, for a test that Python has the same.
  using Codes = std::map<std::string, std::map<std::string, double>>;
  using vae_ext::Bounds, vae_ext::DrawGradient, vae_ext::Reduction;
  const auto code = [](auto value) { return static_cast<double>(value); };
  m.attr("codes") = Codes{
      {"reductions",
       {{"none", code(Reduction::kNone)},
        {"event", code(Reduction::kEvent)},
        {"sum", code(Reduction::kSum)},
        {"mean", code(Reduction::kMean)},
        {"batchmean", code(Reduction::kBatchMean)}}},
      {"draw_gradients",
       {{"reparameterized", code(DrawGradient::kReparameterized)},
        {"score", code(DrawGradient::kScore)},
        {"sticking-the-landing", code(DrawGradient::kStickingTheLanding)}}},
      {"bounds",
       {{"none", code(Bounds::kNone)},
        {"hard", code(Bounds::kHard)},
        {"soft", code(Bounds::kSoft)}}},
  };
  m.def("simd_levels", &simd_levels, pybind11::arg("supported_only") = true,
        "Instruction sets compiled in, best first; by default those that this processor runs.");
  m.def(
      "simd_level", [] { return vae_ext::active_kernels().level; }, "The instruction set in use.");
  m.def("set_simd_level", &vae_ext::set_simd_level, pybind11::arg("level"),
        "Force an instruction set, as the environment variable VAE_EXT_SIMD does.");
  m.def(
      "new_cpu_seed",
      [] {
        // torch.empty((), dtype=torch.int64).random_() without what it costs to come here through
        // Python. The tensor is never destroyed, since threads may end after torch does.
        thread_local int64_t seed = 0;
        thread_local const auto* out = new torch::stable::Tensor(vae_ext::wrap_scalar(&seed));
        StableIValue stack[] = {torch::stable::detail::from(*out),
                                torch::stable::detail::from(std::optional<int64_t>())};
        TORCH_ERROR_CODE_CHECK(
            torch_call_dispatcher("aten::random_", "", stack, TORCH_ABI_VERSION));
        torch::stable::detail::to<torch::stable::Tensor>(stack[0]);  // owned: the result
        return seed;
      },
      "63 random bits from torch's default CPU generator.");
  m.def(
      "philox4x32_10",
      [](std::vector<uint32_t> counter, std::vector<uint32_t> key) {
        if (counter.size() != 4 || key.size() != 2) {
          throw pybind11::value_error("expected 4 counter words and 2 key words");
        }
        const auto block =
            vae_ext::philox4x32_10(counter[0], counter[1], counter[2], counter[3], key[0], key[1]);
        return std::vector<uint32_t>(block.word, block.word + 4);
      },
      pybind11::arg("counter"), pybind11::arg("key"), "One block of the generator, for tests.");
  m.def(
      "philox_words_at",
      [](uint64_t seed, uint64_t stream, uint64_t start, int n) {
        if (n < 0 || n > vae_ext::kTile)
          throw pybind11::value_error("expected n of at most a tile");
        std::vector<int64_t> words(static_cast<size_t>(n));
        vae_ext::kernels<float>().words(n, seed, stream, start, words.data());
        return words;
      },
      pybind11::arg("seed"), pybind11::arg("stream"), pybind11::arg("start"), pybind11::arg("n"),
      "The words of elements start ... start + n - 1, for tests.");
#if defined(__SANITIZE_ADDRESS__)
  m.def(
      "read_past_the_end",
      [](int n) {
        const std::vector<float> x(static_cast<size_t>(n), 1.f);
        return vae_ext::kernels<float>().sum(n + 1, x.data());
      },
      "A kernel's read beyond its tile by one, which the sanitizer must report.");
#endif
}
