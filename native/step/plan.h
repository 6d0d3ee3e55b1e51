// One optimizer step over many weights: moments -> gate -> apply. No Python, no libtorch.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "rows/dispatch.h"
#include "step/gate.h"

namespace tangential {

struct Options {
  Rule rule = Rule::adam;
  double lr = 0, beta1 = 0, beta2 = 0, take1 = 0;  // SGD: beta1 momentum, take1 1 - dampening
  double eps = 0, decay = 0, wd_ratio = 0, delta = 0, unscale = 1;
  bool nesterov = false, maximize = false, caution = false, project_buffer = false;
  Projection projection = Projection::automatic;
  Rounding rounding = Rounding::nearest;
};

// `units` vectors of `unit_size` consecutive elements; no units: the weight is never projected.
struct Layout {
  Dtype dtype, state_dtype;
  int64_t units, unit_size, size;

  auto operator<=>(const Layout&) const = default;
};

struct WeightSpec {
  Layout layout;
  uint32_t seed;  // of stochastic rounding: different for every weight
};

// The buffers of one weight; those that the options do not need may be null.
struct Memory {
  void *w, *g, *m, *v, *low;
  float* step;  // steps before this one; the step adds 1
};

// What the gate saw and decided, for a monitor.
struct GateRecord {
  Moments* rows;        // [Plan::rows], weight after weight
  Decision* decisions;  // [Plan::size]
};

// What a step needs apart from the buffers of its weights: made once, used in every step.
class Plan {
 public:
  // Throws if there is no code for a layout.
  Plan(const std::vector<WeightSpec>& weights, const InstructionSet& set);
  ~Plan();

  // Advance every weight by one step; the result does not depend on `threads`. `record` is written
  // if it is not null. Throws, before anything has changed, during another step, or if `memory`
  // [size] lacks a buffer that `options` need.
  void step(const Memory* memory, const Options& options, int threads,
            const GateRecord* record = nullptr);

  size_t size() const;
  size_t rows() const;   // of all weights that may be projected
  size_t bytes() const;  // of memory that the plan holds

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tangential
