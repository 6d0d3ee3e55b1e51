// The twin of tangential.maths.gate, coef and damp, on sums instead of arrays; a test holds the two
// equal on random tables. Source: Heo et al., "AdamP", ICLR 2021, section 2.3.
#pragma once

#include <cmath>
#include <cstdint>

#include "rows.h"

namespace tangential {

enum class Projection : int { automatic, row, weight, off };
enum class Verdict : int { none, row, weight };

// |cos(w, g)| < delta / sqrt(size), each norm no less than eps; never where a norm overflows.
inline bool orthogonal(const Sums& s, double size, double delta, double eps) {
  const double norms = std::fmax(std::sqrt(s.ww), eps) * std::fmax(std::sqrt(s.gg), eps);
  // fmax drops a NaN, which must fire nothing
  return std::fabs(s.gw) / norms < delta / std::sqrt(size) && std::isfinite(norms) &&
         std::isfinite(s.ww) && std::isfinite(s.gg);
}

// `failing` rows are not orthogonal; `whole` are the sums over the weight.
inline Verdict gate(int64_t failing, const Sums& whole, int64_t fan, int64_t size,
                    Projection projection, double delta, double eps) {
  switch (projection) {
    case Projection::off: return Verdict::none;
    case Projection::row: return fan > 1 ? Verdict::row : Verdict::none;
    case Projection::weight: return size > 1 ? Verdict::weight : Verdict::none;
    case Projection::automatic: break;
  }
  if (failing == 0 && fan > 1) return Verdict::row;
  return size > 1 && orthogonal(whole, (double)size, delta, eps) ? Verdict::weight : Verdict::none;
}

// c with which x - c w has no radial part; 0 where that is not finite.
inline double coef(double ww, double xw, double eps) {
  const double norm = std::sqrt(ww) + eps, c = xw / (norm * norm);
  return std::isfinite(c) ? c : 0;
}

}  // namespace tangential
