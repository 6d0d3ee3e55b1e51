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

// Consecutive rows of equal length, or a piece of one row.
struct Segment {
  void *w, *g, *m, *v, *low;
  int64_t n;      // elements of all rows
  int64_t index;  // of its first element in the weight
  int64_t rows = 1;

  int64_t row_size() const { return rows == 1 ? n : n / rows; }
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

// Rows that were advanced and are still to be applied.
struct Pending {
  Segment s;
  const double* r;  // [rows]
  const void* u;
  bool finite;  // all of w is known to be finite: then `apply` is faster
};

// Updates [n of Real] are stored at `u`, except that heavy-ball momentum in the type of a step's
// computations is its own update: `apply` finds it in m.
struct RowFunctions {
  // advance m and v, store the updates, and write the moments of every row, all but uu. Meanwhile
  // apply `pending`, if any, so that neither memory nor arithmetic waits for the other.
  void (*advance)(const Segment&, const Constants&, void* u, Moments*, const Pending* pending);
  // the updates and moments that `advance` would give; m and v stay
  void (*measure)(const Segment&, const Constants&, void* u, Moments*);
  // add uu to the moments that `advance` (or `measure`) has written
  void (*add_squares)(const Segment&, const void* u, bool advanced, Moments*);
  // after advance: w <- w + (r w - lr u) with r of every row
  void (*apply)(const Pending&, const Constants&);
  // the same in one pass over a piece of a row, without the moments
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
