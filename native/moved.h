// What the step of any optimizer did to weights that were copied before it.
#pragma once

#include <cstdint>
#include <vector>

#include "dispatch.h"

namespace tangential {

// `units` vectors of `fan` consecutive elements.
struct MovedWeight {
  Dtype dtype;  // float32 or float64
  int64_t units, fan;
  const void *before, *after, *g;
  double keep;       // a in after = a before + e
  Moments* moments;  // [units], written; with e for u
};

void measure(const std::vector<MovedWeight>& weights, const InstructionSet& set, int threads);

}  // namespace tangential
