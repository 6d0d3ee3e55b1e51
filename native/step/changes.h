// The step of any optimizer: copies of weights before it, what it did to them, and amends.
#pragma once

#include <cstdint>
#include <vector>

#include "rows/dispatch.h"

namespace tangential {

// `units` vectors of `unit_size` consecutive elements, before the step and after it.
struct WeightChange {
  Dtype dtype;  // float32 or float64
  int64_t units, unit_size;
  const void* before;
  void* after;
  const void* g;
  double keep;       // a in after = a before + e
  Moments* moments;  // [units], written; with e for u
};

// after <- before + scale e - shrink before, where e = after - before.
struct WeightAmends {
  Dtype dtype;
  int64_t units, unit_size;
  const void* before;
  void* after;
  const double* scale;   // [units]; null for 1
  const double* shrink;  // [units]
  const double* slope;   // [units]: slope e.before is added to shrink; null for 0
  bool whole;            // e.before of the whole weight
};

void measure(const std::vector<WeightChange>& weights, const InstructionSet& set, int threads);

// Copies every `before` to `after`, which makes e = 0, and measures.
void copy(const std::vector<WeightChange>& weights, const InstructionSet& set, int threads);

void amend(const std::vector<WeightAmends>& weights, const InstructionSet& set, int threads);

}  // namespace tangential
