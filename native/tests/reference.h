// One step in plain double arithmetic, as in tests/oracle.py: cut into rows, compare, project.
#pragma once

#include <utility>

#include "tests/memory.h"

namespace tangential::test {

constexpr double TINY = 1e-30;  // instead of 0 / 0 where a row is 0

struct Expected {
  Vector w{}, g{}, m{}, v{};
  Vector signed_g{}, u{};  // before the projection
  Decision decision = Decision::none;
  double largest_w = 0, largest_m = 0;  // before the step
  std::vector<size_t> doubtful{};       // elements whose sign, for caution, depends on rounding
};

// Remove the part of x along w in every piece of `unit_size` elements, unless it is not finite.
inline void project(Vector& x, const Vector& w, int64_t unit_size, double eps) {
  for (auto [a, b] = std::pair(x.data(), w.data()); a < x.data() + x.size();
       a += unit_size, b += unit_size) {
    double squares = 0, radial = 0;
    for (int64_t i = 0; i < unit_size; i++) squares += b[i] * b[i];
    const double norm = std::sqrt(squares) + eps;
    for (int64_t i = 0; i < unit_size; i++) radial += a[i] * (b[i] / norm);
    if (!std::isfinite(radial)) continue;
    for (int64_t i = 0; i < unit_size; i++) a[i] -= radial * (b[i] / norm);
  }
}

inline bool all_orthogonal(const Vector& x, const Vector& y, int64_t unit_size, const Options& o) {
  for (auto [a, b] = std::pair(x.data(), y.data()); a < x.data() + x.size();
       a += unit_size, b += unit_size) {
    double aa = 0, bb = 0, ab = 0;
    for (int64_t i = 0; i < unit_size; i++) aa += a[i] * a[i], bb += b[i] * b[i], ab += a[i] * b[i];
    const double norms = std::max(std::sqrt(aa), o.eps) * std::max(std::sqrt(bb), o.eps);
    if (!(std::fabs(ab) / norms < o.delta / std::sqrt(double(unit_size)))) return false;
  }
  return true;
}

inline Decision decide(const TestWeight& weight, const Vector& w, const Vector& g,
                       const Options& o) {
  const int64_t size = weight.layout.size, unit_size = weight.unit_size();
  if (!weight.layout.units || o.projection == Projection::off) return Decision::none;
  if (o.projection == Projection::weight) return size > 1 ? Decision::weight : Decision::none;
  if (o.projection == Projection::row) return unit_size > 1 ? Decision::row : Decision::none;
  if (unit_size > 1 && all_orthogonal(w, g, unit_size, o)) return Decision::row;
  return size > 1 && all_orthogonal(w, g, size, o) ? Decision::weight : Decision::none;
}

inline double largest(const Vector& x) {
  double result = TINY;
  for (double value : x)
    if (std::isfinite(value)) result = std::max(result, std::fabs(value));
  return result;
}

inline Expected expected(const TestWeight& weight, const Options& o) {
  Expected e;
  e.w = weight.w.read(), e.g = weight.g.read(), e.m = weight.m.read(), e.v = weight.v.read();
  const size_t n = e.w.size();
  const bool adam = o.rule == Rule::adam;
  const double scale1 = 1 - std::pow(o.beta1, weight.step + 1);
  const double scale2 = std::sqrt(1 - std::pow(o.beta2, weight.step + 1));
  if (o.rounding == Rounding::kahan) {
    const Vector low = weight.low.read();
    for (size_t i = 0; i < n; i++) e.w[i] += low[i];
  }
  e.largest_w = largest(e.w), e.largest_m = largest(e.m);
  Vector g(n), u(n);
  for (size_t i = 0; i < n; i++) {
    e.g[i] *= o.unscale;
    g[i] = o.maximize ? -e.g[i] : e.g[i];
    e.m[i] = (o.beta1 == 0 && !adam ? 0 : o.beta1 * e.m[i]) + o.take1 * g[i];
    if (adam) {
      e.v[i] = o.beta2 * e.v[i] + (1 - o.beta2) * g[i] * g[i];
      const double ahead = o.nesterov ? o.beta1 * e.m[i] + o.take1 * g[i] : e.m[i];
      u[i] = ahead / scale1 / (std::sqrt(e.v[i]) / scale2 + o.eps);
    } else {
      u[i] = o.nesterov ? g[i] + o.beta1 * e.m[i] : e.m[i];
    }
  }
  e.signed_g = g, e.u = u;
  e.decision = decide(weight, e.w, g, o);
  const auto tangent = [&](Vector& x) {
    if (e.decision == Decision::none || x.empty()) return;
    project(x, e.w, e.decision == Decision::row ? weight.unit_size() : weight.layout.size, o.eps);
  };
  tangent(u);
  if (o.project_buffer && !adam && !o.nesterov) e.m = u;
  if (o.caution && n) {
    tangent(g);
    const double largest_u = largest(u), largest_g = largest(g);
    double agreeing = 0;
    for (size_t i = 0; i < n; i++) {
      const bool exact = e.g[i] == 0 && e.decision != Decision::weight;
      const double least = std::min(std::fabs(u[i]) / largest_u, std::fabs(g[i]) / largest_g);
      if (least < weight.w.format().tolerance / 4 && !exact) e.doubtful.push_back(i);
      u[i] = u[i] * g[i] > 0 ? u[i] : 0;
      agreeing += u[i] != 0;
    }
    for (double& x : u) x /= std::max(agreeing / double(n), 1e-3);
    tangent(u);
  }
  const double decay = o.decay * (e.decision == Decision::none ? 1 : o.wd_ratio);
  for (size_t i = 0; i < n; i++) e.w[i] = e.w[i] * (1 - o.lr * decay) - o.lr * u[i];
  return e;
}

// Whether rounding explains all differences: `steps` times the spacing of the numbers, and a small
// part of `scale`.
inline bool near(const Vector& actual, const Vector& wanted, double scale, const Format& f,
                 double steps) {
  const double small = f.tolerance * std::max(scale, largest(wanted));
  for (size_t i = 0; i < wanted.size(); i++) {
    const double a = actual[i], x = wanted[i];
    if (std::isfinite(x) ? !(std::fabs(a - x) <= small + steps * f.spacing(x))
                         : !(a == x || (std::isnan(a) && std::isnan(x))))
      return false;
  }
  return true;
}

inline void compare(const TestWeight& before, const TestWeight& after, const Expected& e,
                    const Options& o) {
  Format f = before.w.format();
  const Format& state = before.m.format();
  const bool stochastic = o.rounding == Rounding::stochastic, adam = o.rule == Rule::adam;
  Vector w = after.w.read();
  check(near(w, e.w, e.largest_w, f, stochastic ? 1 : .5), "weight");
  if (stochastic && w.size() > 9999) {
    double drift = 0, spacing = 0;
    for (size_t i = 0; i < w.size(); i++) {
      if (!std::isfinite(w[i])) continue;
      drift += std::fabs(w[i]) - std::fabs(e.w[i]);
      spacing += f.spacing(e.w[i]);
    }
    check(std::fabs(drift) < .02 * spacing, "drift of stochastic rounding");
  }
  if (o.rounding == Rounding::kahan) {
    const Vector low = after.low.read();
    for (size_t i = 0; i < w.size(); i++) w[i] += low[i];
    f.least += f.digits + 1;
    f.digits += f.digits + 1;
    check(near(w, e.w, e.largest_w, f, 1), "weight and what rounding dropped");
  }
  check(near(after.m.read(), e.m, e.largest_m, state, .5), "first state");
  check(adam ? near(after.v.read(), e.v, 0, state, .5) : after.v == before.v, "second state");
  check(o.unscale == 1 ? after.g == before.g : near(after.g.read(), e.g, 0, f, .5), "gradient");
  check(after.step == before.step + (adam || stochastic), "step count");
}

}  // namespace tangential::test
