// One optimizer step over many weights: moments -> gate -> apply. No Python, no libtorch.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "dispatch.h"
#include "gate.h"

namespace tangential {

struct Options {
  Rule rule = Rule::adam;
  double lr = 0, beta1 = 0, beta2 = 0, take1 = 0;  // SGD: beta1 its momentum, take1 1 - dampening
  double eps = 0, decay = 0, wd_ratio = 0, delta = 0, unscale = 1;
  bool nesterov = false, maximize = false, caution = false, project_buffer = false;
  Projection projection = Projection::automatic;
  Rounding rounding = Rounding::nearest;
};

// `units` vectors of `fan` consecutive elements, or, never to be projected, units = 0.
struct Layout {
  Dtype dtype, state_dtype;
  int64_t units, fan, size;

  auto operator<=>(const Layout&) const = default;
};

struct Memory {
  void *w, *g, *m, *v, *low;
  float* step;  // steps taken before this one; counts on
};

struct Watched {
  Sums* rows;         // [Plan::rows], one weight's below another's
  Verdict* verdicts;  // [Plan::size]
};

// What a list of weights needs beside its memory: made once, used at every step.
class Plan {
 public:
  // Seeds tell weights apart in stochastic rounding. Throws if a layout has no code.
  Plan(const std::vector<Layout>& weights, const std::vector<uint32_t>& seeds,
       const InstructionSet& set);
  ~Plan();

  // Advance every weight by one step; the result does not depend on `threads`. What the gate saw
  // goes into `watched`, if that is not null. Throws, before anything has changed, during another
  // step, or where `memory` lacks what `options` need.
  void step(const Memory* memory, const Options& options, int threads,
            const Watched* watched = nullptr);

  size_t size() const;
  size_t rows() const;   // of all weights that may be projected
  size_t bytes() const;  // of memory that it holds

 private:
  struct Inside;
  std::unique_ptr<Inside> inside_;
};

}  // namespace tangential
