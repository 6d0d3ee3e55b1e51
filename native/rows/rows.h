// Loops over one row of a weight, compiled once per instruction set. No Python, no libtorch.
//
// Legend: w weight, g gradient, m exp_avg or momentum_buffer, v exp_avg_sq, u update before the
// learning rate, low what rounding dropped from w (Kahan), r the factor of w in what a step adds:
// w <- w + (r w - lr u). The form (1 + r) w - lr u would lose a decay of less than 2^-24 per step.
#pragma once

#include <cstdint>

namespace tangential {

enum class Dtype : int { float32, float64, bfloat16, float16 };
enum class Rule : int { adam, sgd };
enum class Rounding : int { nearest, stochastic, kahan };

// Factors of a step in the type it computes in: float, or double for float64 weights.
template <class Real>
struct Scalars {
  Real keep1, take1;    // m <- keep1 m + take1 g
  Real keep2, take2;    // v <- keep2 v + take2 g g
  Real scale1, scale2;  // u = scale1 m / (scale2 sqrt(v) + eps)
  Real eps, lr, unscale;
};

struct Constants {
  Scalars<float> in_float;
  Scalars<double> in_double;
  Rounding rounding;
  uint32_t seed;     // of stochastic rounding, in this step
  bool no_momentum;  // SGD: m is dropped, because 0 * inf would be NaN
  bool write_grad;   // AMP: the gradient is left unscaled
  bool maximize;
};

// A row, or a piece of one: n consecutive elements.
struct Segment {
  void *w, *g, *m, *v, *low;
  int64_t n;
  int64_t index;  // of its first element in the weight
};

// Inner products of w, g and u.
struct Moments {
  double ww = 0, gg = 0, gw = 0, uw = 0, uu = 0;
};

// Sums for a cautious step; u keeps only the elements that agree in sign with g.
struct Agreement {
  double ww = 0, uw = 0;
  int64_t count = 0;  // elements that agree
};

// A row that was advanced and is still to be applied.
struct PendingRow {
  Segment s;
  double r;
  const void* u;
  bool finite;  // all of w is known to be finite: then apply is faster
};

struct RowFunctions {
  // the moments; nothing is written
  void (*measure)(const Segment&, const Constants&, Moments&);
  // advance m and v; the moments. The update is left in u [n of Real], or, with heavy-ball
  // momentum, in m, where `apply` finds it.
  void (*advance)(const Segment&, const Constants&, void* u, Moments&);
  // the same, and meanwhile apply a row of equal length, so that memory is never idle
  void (*advance_and_apply)(const Segment&, const Constants&, void* u, Moments&, const PendingRow&);
  // w <- w + (r w - lr u); faster where all of w is known to be finite
  void (*apply)(const Segment&, const Constants&, double r, const void* u, bool finite);
  // advance and apply in one pass, and the moments from before
  void (*advance_apply)(const Segment&, const Constants&, double r, Moments&);
  // the same without the moments
  void (*step)(const Segment&, const Constants&, double r);
  // after advance: w was applied with `previous` (-1: not applied); make it what r gives
  void (*correct)(const Segment&, const Constants&, double previous, double r);
  // how much of u - cu w agrees in sign with g - cg w; nothing is written
  void (*agree)(const Segment&, const Constants&, double cu, double cg, Agreement&);
  // step with the tangent update u - cu w, which also becomes m if `keep`. A cautious step uses
  // only what agrees with g - cg w, times `enlarge` (0: not cautious).
  void (*step_tangent)(const Segment&, const Constants&, double r, double cu, double cg,
                       double enlarge, bool keep);
};

// A row before and after the step of any optimizer, and its gradient: n consecutive elements each.
struct RowChange {
  const void *before, *after, *g;
  int64_t n;
  double keep;  // a in after = a before + e
};

// The moments of a row and its change, with e for u.
using MeasureChange = void (*)(const RowChange&, Moments&);

// A row before the step of any optimizer and after it: n consecutive elements each.
struct RowMix {
  const void* before;
  void* after;
  int64_t n;
  double scale, shrink;
};

// after <- before + scale (after - before) - shrink before
using MixRow = void (*)(const RowMix&);

// The functions for a pair of dtypes; null where no code exists for the pair.
using RowTable = const RowFunctions* (*)(Dtype weight, Dtype state, Rule rule, bool nesterov);

}  // namespace tangential
