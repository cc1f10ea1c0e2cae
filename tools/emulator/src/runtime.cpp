// The CUDA runtime as the library calls it, and what it asks of torch about devices: launches go to
// the emulator, and CUDA's dispatch key is the CPU's. Loaded before vae_ext._cuda, under the name
// of the runtime that it was linked with.
#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>

#include "block.h"
#include "handlers.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace sass {

const Instruction* current_access();
void print_table();

namespace {

struct Size {
  unsigned x, y, z;
};
struct Configuration {
  Size grid, block;
  size_t shared;
  void* stream;
};

std::map<const void*, std::string>& names() {
  static std::map<const void*, std::string> found;
  return found;
}

thread_local Configuration pushed;
uint64_t launches = 0;

// Of a launch, the blocks that are run: so many at most, the first or the last.
int64_t most_blocks = INT64_MAX;
bool from_the_end = false;

const char* running = "no kernel";

void on_fault(int) {
  const Instruction* access = current_access();
  const char* what = access == nullptr ? "outside of an access" : access->text.c_str();
  char message[512];
  const int n =
      std::snprintf(message, sizeof message, "emulator: a segmentation fault: %x %s in %s\n",
                    access == nullptr ? 0 : access->pc, what, running);
  if (::write(2, message, static_cast<size_t>(n)) < 0) _exit(98);
  _exit(99);
}

void launch(const std::string& name, unsigned grid, unsigned threads, void** arguments) {
  static const bool once = [] {
    std::signal(SIGSEGV, on_fault);
    disturb_special_functions(std::getenv("VAE_EXT_EMULATED_DISTURBANCE") != nullptr);
    return true;
  }();
  (void)once;
  Kernel& kernel = find_kernel(name);
  ++kernel.launches;
  ++launches;
  running = kernel.title.c_str();
  kernel.grid = grid;
  std::vector<uint8_t> bank0(0x4000, 0xee);
  const uint32_t sizes[] = {threads, 1, 1, grid, 1, 1};
  std::memcpy(bank0.data(), sizes, sizeof sizes);
  for (size_t k = 0; k < kernel.parameters.size(); ++k) {
    const Parameter& p = kernel.parameters[k];
    std::memcpy(bank0.data() + kernel.first_parameter() + p.offset, arguments[k],
                static_cast<size_t>(p.size));
  }
  Block block(kernel, bank0, threads);
  const int64_t count = std::min<int64_t>(most_blocks, grid),
                first = from_the_end ? grid - count : 0;
  for (int64_t n = 0; n < count; ++n) block.run(static_cast<uint32_t>(first + n));
}

const char* pipe_name(Pipe pipe) {
  constexpr const char* kNames[] = {"alu", "fma", "fmaheavy", "fp64",
                                    "xu",  "lsu", "uniform",  "control"};
  return kNames[static_cast<int>(pipe)];
}

}  // namespace
}  // namespace sass

// ---- The runtime -------------------------------------------------------------------------------

EXPORT void** __cudaRegisterFatBinary(void*) {
  static void* handle[4];
  return handle;
}
EXPORT void __cudaRegisterFatBinaryEnd(void**) {}
EXPORT void __cudaUnregisterFatBinary(void**) {}
EXPORT char __cudaInitModule(void**) { return 1; }
EXPORT void __cudaRegisterFunction(void**, const char* host, char*, const char* device, int, void*,
                                   void*, void*, void*, int*) {
  sass::names()[host] = device;
}
EXPORT void __cudaRegisterVar(void**, char*, char*, const char*, int, size_t, int, int) {}
EXPORT unsigned __cudaPushCallConfiguration(sass::Size grid, sass::Size block, size_t shared,
                                            void* stream) {
  sass::pushed = {grid, block, shared, stream};
  return 0;
}
EXPORT int __cudaPopCallConfiguration(sass::Size* grid, sass::Size* block, size_t* shared,
                                      void* stream) {
  *grid = sass::pushed.grid;
  *block = sass::pushed.block;
  *shared = sass::pushed.shared;
  *static_cast<void**>(stream) = sass::pushed.stream;
  return 0;
}
EXPORT int __cudaGetKernel(const void** kernel, const void* host) {
  *kernel = host;
  return 0;
}
EXPORT int __cudaLaunchKernel(const void* host, sass::Size grid, sass::Size block, void** arguments,
                              size_t, void*) {
  sass::launch(sass::names().at(host), grid.x, block.x, arguments);
  return 0;
}
EXPORT int cudaLaunchKernel(const void* host, sass::Size grid, sass::Size block, void** arguments,
                            size_t, void*) {
  sass::launch(sass::names().at(host), grid.x, block.x, arguments);
  return 0;
}
EXPORT int cudaLaunchKernelExC(const void* configuration, const void* host, void** arguments) {
  struct Launch {
    sass::Size grid, block;
  };
  const auto* c = static_cast<const Launch*>(configuration);
  sass::launch(sass::names().at(host), c->grid.x, c->block.x, arguments);
  return 0;
}
EXPORT int cudaGetLastError() { return 0; }
EXPORT const char* cudaGetErrorString(int) { return "no error"; }

// ---- torch's C interface -----------------------------------------------------------------------

EXPORT int aoti_torch_library_init_impl(const char* library, const char* key, const char* file,
                                        uint32_t line, void** made) {
  using Init = int (*)(const char*, const char*, const char*, uint32_t, void**);
  static const auto init = [] {
    // torch's library is not in the global scope.
    void* torch = dlopen("libtorch_cpu.so", RTLD_NOW | RTLD_NOLOAD);
    return reinterpret_cast<Init>(dlsym(torch, "aoti_torch_library_init_impl"));
  }();
  return init(library, std::string(key) == "CUDA" ? "CPU" : key, file, line, made);
}
EXPORT int aoti_torch_create_device_guard(int32_t, void** made) {
  static int guard;
  *made = &guard;
  return 0;
}
EXPORT int aoti_torch_delete_device_guard(void*) { return 0; }
EXPORT int aoti_torch_get_current_cuda_stream(int32_t, void** stream) {
  *stream = nullptr;
  return 0;
}

// ---- What tests and tools ask ------------------------------------------------------------------

EXPORT int64_t launches() { return static_cast<int64_t>(sass::launches); }
EXPORT int64_t emulator_problems() {
  sass::print_problems();
  return static_cast<int64_t>(sass::problem_count());
}
EXPORT void emulator_run_blocks(int64_t most, int last) {
  sass::most_blocks = most;
  sass::from_the_end = last != 0;
}
EXPORT void emulator_disturb(int on) { sass::disturb_special_functions(on != 0); }
EXPORT void emulator_forget_counts() {
  for (sass::Kernel* k : sass::launched_kernels()) {
    k->launches = k->blocks = k->threads = 0;
    for (const sass::Instruction& i : k->code) i.warps = i.lanes = i.sectors = i.rounds = 0;
  }
}
// K title | L launches blocks threads grid registers shared | I pipe warps lanes sectors rounds
// text
EXPORT void emulator_write_counts(const char* path) {
  FILE* out = std::fopen(path, "w");
  for (const sass::Kernel* k : sass::launched_kernels()) {
    std::fprintf(out, "K %s\nL %lu %lu %lu %lu %d %d\n", k->title.c_str(), k->launches, k->blocks,
                 k->threads, k->grid, k->registers, k->shared_bytes);
    for (const sass::Instruction& i : k->code) {
      if (i.warps == 0) continue;
      std::fprintf(out, "I %s %lu %lu %lu %lu %x %s\n", sass::pipe_name(i.pipe), i.warps, i.lanes,
                   i.sectors, i.rounds, i.pc, i.text.c_str());
    }
  }
  std::fclose(out);
}
EXPORT void emulator_print_instructions() { sass::print_table(); }
