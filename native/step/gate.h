// The twin of tangential.maths.gate, coef and damp, for one weight's moments instead of arrays; a
// test holds the two equal on random tables. Source: Heo et al., "AdamP", ICLR 2021, section 2.3.
#pragma once

#include <cmath>
#include <cstdint>

#include "rows/rows.h"

namespace tangential {

enum class Projection : int { automatic, row, weight, off };
enum class Decision : int32_t { none, row, weight };

// |cos(w, g)| < threshold, each norm at least eps. False where a norm overflows, and for NaN: every
// comparison with it is false. (std::fmax would be a call.)
inline bool orthogonal(const Moments& s, double threshold, double eps) {
  // squares tell without roots, unless both sides are nearly equal, out of range, or NaN
  const double square = s.gw * s.gw, least = eps * eps, ww = least > s.ww ? least : s.ww;
  const double most = threshold * threshold * (ww * (least > s.gg ? least : s.gg));
  if (1e-290 < most && most < 1e290) {
    if (square < most * (1 - 1e-12)) return true;
    if (square > most * (1 + 1e-12)) return false;
  }
  const double w = std::sqrt(s.ww), g = std::sqrt(s.gg);
  const double norms = (w > eps ? w : eps) * (g > eps ? g : eps);
  return std::fabs(s.gw) / norms < threshold && std::isfinite(norms) && std::isfinite(s.ww) &&
         std::isfinite(s.gg);
}

inline double threshold(double delta, int64_t size) { return delta / std::sqrt(double(size)); }

// failing: how many rows are not orthogonal; whole: the moments of the weight.
inline Decision gate(int64_t failing, const Moments& whole, int64_t unit_size, int64_t size,
                     Projection projection, double delta, double eps) {
  switch (projection) {
    case Projection::off: return Decision::none;
    case Projection::row: return unit_size > 1 ? Decision::row : Decision::none;
    case Projection::weight: return size > 1 ? Decision::weight : Decision::none;
    case Projection::automatic: break;
  }
  if (failing == 0 && unit_size > 1) return Decision::row;
  return size > 1 && orthogonal(whole, threshold(delta, size), eps) ? Decision::weight
                                                                    : Decision::none;
}

// c for which x - c w has no radial part; 0 where c is not finite.
inline double coef(double ww, double xw, double eps) {
  const double norm = std::sqrt(ww) + eps, c = xw / (norm * norm);
  return c - c == 0 ? c : 0;  // finite, in a form that compilers turn into vectors
}

}  // namespace tangential
