#include "rows/dispatch.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace tangential {

#define DECLARE(isa)                                  \
  namespace isa {                                     \
  const RowFunctions* rows(Dtype, Dtype, Rule, bool); \
  MeasureChange measure_change(Dtype);                \
  MixRow mix_row(Dtype);                              \
  }

DECLARE(plain)
#if defined(__x86_64__)
DECLARE(avx2)
DECLARE(avx512)
#endif

namespace {

std::vector<InstructionSet> available() {
#if defined(__x86_64__)
  std::vector<InstructionSet> sets;
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("bmi2");
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    sets.push_back({"AVX-512", avx512::rows, avx512::measure_change, avx512::mix_row});
  if (avx2) sets.push_back({"AVX2", avx2::rows, avx2::measure_change, avx2::mix_row});
  sets.push_back({"SSE2", plain::rows, plain::measure_change, plain::mix_row});
  return sets;
#elif defined(__aarch64__)
  return {{"NEON", plain::rows, plain::measure_change, plain::mix_row}};
#else
  return {{"portable", plain::rows, plain::measure_change, plain::mix_row}};
#endif
}

std::vector<InstructionSet> chosen() {
  const char* const wanted = std::getenv("TANGENTIAL_ISA");
  std::vector<InstructionSet> sets = available();
  if (!wanted || !*wanted) return sets;
  std::string names;
  for (const InstructionSet& set : sets) {
    if (std::string(set.name) == wanted) return {set};
    names += (names.empty() ? "" : ", ") + std::string(set.name);
  }
  throw std::invalid_argument("the environment variable TANGENTIAL_ISA is \"" +
                              std::string(wanted) + "\"; this machine has " + names);
}

}  // namespace

const std::vector<InstructionSet>& instruction_sets() {
  static const std::vector<InstructionSet> sets = chosen();
  return sets;
}

}  // namespace tangential
