// Loops over one row of a weight, compiled once for each instruction set. No Python, no libtorch.
//
// Legend: w weight, g gradient, m exp_avg or momentum_buffer, v exp_avg_sq, u update before the
// learning rate, low what rounding lost of w (Kahan), r what of w itself is added to it: a step is
// w <- w + (r w - lr u). In (1 + r) w - lr u a decay of less than 2^-24 a step would round to none.
#pragma once

#include <cstdint>

namespace tangential {

enum class Dtype : int { float32, float64, bfloat16, float16 };
enum class Rule : int { adam, sgd };
enum class Rounding : int { nearest, stochastic, kahan };

// What a step multiplies with, in the type it computes in: float, or double for float64 weights.
template <class Real>
struct Scalars {
  Real keep1, take1;    // m <- keep1 m + take1 g
  Real keep2, take2;    // v <- keep2 v + take2 g g
  Real scale1, scale2;  // u = scale1 m / (scale2 sqrt(v) + eps)
  Real eps, lr, unscale;
};

struct Constants {
  Scalars<float> single;
  Scalars<double> twice;
  Rounding rounding;
  uint32_t seed;    // of stochastic rounding, in this step
  bool forget;      // SGD without momentum: not 0 * inf
  bool write_grad;  // AMP: the gradient is left unscaled
  bool maximize;
};

// A row, or a piece of one: n consecutive elements.
struct Segment {
  void *w, *g, *m, *v, *low;
  int64_t n;
  int64_t index;  // of its first element in the weight
};

struct Sums {
  double ww = 0, gg = 0, gw = 0, uw = 0, uu = 0;
};

struct Kept {  // of a cautious update
  double ww = 0, kw = 0;
  int64_t count = 0;
};

// A row that has been advanced and waits to be applied.
struct Waiting {
  Segment s;
  double r;
  const void* u;
  bool finite;  // all of w is known to be: then apply is faster
};

struct RowFunctions {
  // the sums; nothing is written
  void (*measure)(const Segment&, const Constants&, Sums&);
  // advance m and v; the sums. The update is left in u [n of Real], or, with heavy-ball
  // momentum, in m, where `apply` finds it.
  void (*advance)(const Segment&, const Constants&, void* u, Sums&);
  // the same, and meanwhile apply a row of equal length, so that memory does not idle
  void (*advance_and_apply)(const Segment&, const Constants&, void* u, Sums&, const Waiting&);
  // w <- w + (r w - lr u); faster where all of w is known to be finite
  void (*apply)(const Segment&, const Constants&, double r, const void* u, bool finite);
  // advance and apply in one go, and the sums of what was there before
  void (*advance_apply)(const Segment&, const Constants&, double r, Sums&);
  // the same without the sums
  void (*step)(const Segment&, const Constants&, double r);
  // after advance: w was made with `was` (-1: not at all), make it what r gives
  void (*amend)(const Segment&, const Constants&, double was, double r);
  // how much of u - cu w agrees in sign with g - cg w; nothing is written
  void (*weigh)(const Segment&, const Constants&, double cu, double cg, Kept&);
  // step with the tangent update u - cu w: kept in m if asked; of a cautious one what agrees with
  // g - cg w times `enlarged` (0: not cautious)
  void (*step_tangent)(const Segment&, const Constants&, double r, double cu, double cg,
                       double enlarged, bool keep);
};

// A row before and after a step of whatever kind, and its gradient: n consecutive elements each.
struct Moved {
  const void *before, *after, *g;
  int64_t n;
  double keep;  // a in after = a before + e
};

// The sums of a moved row, with e for u; null where the dtype is too narrow for a difference.
using MeasureMoved = void (*)(const Moved&, Sums&);

// [dtype and state dtype][rule][nesterov]; null where there is no such pair of dtypes.
using RowTable = const RowFunctions* (*)(Dtype weight, Dtype state, Rule rule, bool nesterov);

}  // namespace tangential
