// Kernels by name, from the files that tools/emulator/extract.py wrote:
//   K name title            a kernel; what follows is its own
//   A architecture registers shared_bytes
//   P offset size           a parameter
//   C bank words            of constants, in hexadecimal
//   I pc instruction
#include "program.h"

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <mutex>
#include <sstream>
#include <unordered_map>

namespace sass {
namespace {

struct Place {
  std::string file;
  std::streamoff offset;
};

std::map<std::string, uint64_t>& problems() {
  static std::map<std::string, uint64_t> found;
  return found;
}

void index_file(const std::string& path, std::unordered_map<std::string, Place>& places) {
  // The index beside it: "offset name" of every kernel.
  std::ifstream in(path + ".index");
  if (!in) {
    std::fprintf(stderr, "emulator: no program %s\n", path.c_str());
    std::abort();
  }
  std::streamoff offset;
  for (std::string name; in >> offset >> name;) places[name] = {path, offset};
}

std::unordered_map<std::string, Place>& places() {
  static std::unordered_map<std::string, Place> found = [] {
    std::unordered_map<std::string, Place> all;
    const char* paths = std::getenv("VAE_EXT_EMULATED_PROGRAMS");
    std::stringstream list(paths == nullptr ? "" : paths);
    for (std::string path; std::getline(list, path, ':');) index_file(path, all);
    return all;
  }();
  return found;
}

std::map<std::string, std::unique_ptr<Kernel>>& kernels() {
  static std::map<std::string, std::unique_ptr<Kernel>> loaded;
  return loaded;
}

std::unique_ptr<Kernel> load(const std::string& name, const Place& place) {
  auto kernel = std::make_unique<Kernel>();
  kernel->name = name;
  std::ifstream in(place.file);
  in.seekg(place.offset);
  bool mine = false;
  for (std::string line; std::getline(in, line);) {
    std::stringstream rest(line.substr(1));
    if (line[0] == 'K') {
      if (mine) break;
      mine = true;
      std::string mangled;
      rest >> mangled >> std::ws;
      std::getline(rest, kernel->title);
    } else if (line[0] == 'A') {
      rest >> kernel->architecture >> kernel->registers >> kernel->shared_bytes;
    } else if (line[0] == 'P') {
      Parameter p{};
      rest >> p.offset >> p.size;
      kernel->parameters.push_back(p);
    } else if (line[0] == 'C') {
      size_t bank = 0;
      rest >> bank;
      uint32_t word;
      while (rest >> std::hex >> word) kernel->constants[bank].push_back(word);
    } else {
      std::string pc;
      rest >> pc;
      const auto at = static_cast<uint32_t>(std::strtoul(pc.c_str(), nullptr, 16));
      if (at != 16 * kernel->code.size()) problem("code with holes in " + kernel->title);
      kernel->code.push_back(parse_instruction(
          at, std::string_view(line).substr(static_cast<size_t>(rest.tellg()) + 1)));
    }
  }
  return kernel;
}

}  // namespace

void problem(const std::string& what) {
  if (problems()[what]++ == 0) std::fprintf(stderr, "emulator: %s\n", what.c_str());
}

uint64_t problem_count() {
  uint64_t sum = 0;
  for (const auto& [what, count] : problems()) sum += count;
  return sum;
}

void print_problems() {
  for (const auto& [what, count] : problems()) {
    std::fprintf(stderr, "emulator: %lu times: %s\n", count, what.c_str());
  }
}

Kernel& find_kernel(const std::string& name) {
  auto& kernel = kernels()[name];
  if (kernel == nullptr) {
    const auto place = places().find(name);
    if (place == places().end()) {
      std::fprintf(stderr, "emulator: no machine code of %s\n", name.c_str());
      std::abort();
    }
    kernel = load(name, place->second);
  }
  return *kernel;
}

std::vector<Kernel*> launched_kernels() {
  std::vector<Kernel*> found;
  for (const auto& [name, kernel] : kernels()) {
    if (kernel != nullptr && kernel->launches > 0) found.push_back(kernel.get());
  }
  return found;
}

}  // namespace sass
