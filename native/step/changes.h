// What the step of any optimizer did to weights that were copied before it.
#pragma once

#include <cstdint>
#include <vector>

#include "rows/dispatch.h"

namespace tangential {

// `units` vectors of `unit_size` consecutive elements.
struct WeightChange {
  Dtype dtype;  // float32 or float64
  int64_t units, unit_size;
  const void *before, *after, *g;
  double keep;       // a in after = a before + e
  Moments* moments;  // [units], written; with e for u
};

void measure(const std::vector<WeightChange>& weights, const InstructionSet& set, int threads);

}  // namespace tangential
