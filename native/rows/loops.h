// The loops over a row: one template for all rules and dtypes. Only rows.cpp includes this file.
#pragma once

#include "rows/packs.h"

namespace tangential::ISA {
namespace {

INLINE const Scalars<float>& scalars(const Constants& c, float) { return c.in_float; }
INLINE const Scalars<double>& scalars(const Constants& c, double) { return c.in_double; }

// Bytes to prefetch: the hardware's prefetcher stops at the ends of rows and pages.
constexpr int64_t AHEAD = 2048;
constexpr int64_t FOLD = 4096;  // elements summed in Real before the sum is added to a double

template <class Weight, class State, Rule rule, bool nesterov>
struct Rows {
  using Real = typename Computed<Weight>::type;
  using V = Vector<Real>;
  using P = Pointers<Weight, State, Real>;

  static INLINE V gradient(const P& p, const Constants& c, int at) {
    V g = load(p.g + at) * scalars(c, Real()).unscale;
    return c.maximize ? -g : g;
  }

  static INLINE V update(V g, V m, V v, const Scalars<Real>& c) {
    if constexpr (rule == Rule::sgd) {
      return nesterov ? g + c.keep1 * m : m;
    } else {
      V ahead = nesterov ? c.keep1 * m + c.take1 * g : m;
      return ahead * c.scale1 / (root(v) * c.scale2 + c.eps);
    }
  }

  // u of the vector at `at`, after m and v are advanced; they are stored if `write`
  template <bool write>
  static INLINE V advanced(const P& p, V g, const Constants& constants, int at) {
    const auto& c = scalars(constants, Real());
    V m = load(p.m + at), v{};
    if constexpr (rule == Rule::sgd) {
      if (constants.no_momentum) m = V{};
    }
    m = c.keep1 * m + c.take1 * g;
    if constexpr (rule == Rule::adam) v = c.keep2 * load(p.v + at) + c.take2 * g * g;
    if constexpr (write) {
      store(p.m + at, m);
      if constexpr (rule == Rule::adam) store(p.v + at, v);
      if (constants.write_grad) store(p.g + at, constants.maximize ? -g : g);
    }
    return update(g, m, v, c);
  }

  // u again, from what `advanced` stored
  static INLINE V resumed(const P& p, const Constants& constants, int at) {
    V g = load(p.g + at), v{};
    if constexpr (rule == Rule::adam) v = load(p.v + at);
    return update(constants.maximize ? -g : g, load(p.m + at), v, scalars(constants, Real()));
  }

  static INLINE void fetch(const P& p) {
    auto ahead = [](const void* at)
                     LAMBDA { __builtin_prefetch((const void*)((uintptr_t)at + AHEAD)); };
    ahead(p.w);
    ahead(p.g);
    ahead(p.m);
    if constexpr (rule == Rule::adam) ahead(p.v);
  }

  // What is added to w. An infinite w is limited first: 0 * inf and inf - inf would be NaN.
  static INLINE V change(V w, V u, Real r, Real lr) {
    constexpr Real largest = sizeof(Real) == 8 ? (Real)__DBL_MAX__ : (Real)__FLT_MAX__;
    const V limited = w > largest ? V{} + largest : w < -largest ? V{} - largest : w;
    return r * limited - lr * u;
  }

  // Heavy-ball momentum is its own update: u need not be stored as well.
  static constexpr bool M_IS_U = rule == Rule::sgd && !nesterov && sizeof(State) == sizeof(Real);

  static INLINE V stored_update(const P& p, int at) {
    if constexpr (M_IS_U)
      return load(p.m + at);
    else
      return load(p.u + at);
  }

  static constexpr auto no_more = [](int64_t) {};

  // The loop behind measure, advance, advance_apply and step.
  template <bool write, bool sums, bool keep, bool apply, class Also>
  static INLINE void pass(const Segment& s, const Constants& c, double factor, void* u,
                          Moments* out, Also also) {
    const Real r = (Real)factor, lr = scalars(c, Real()).lr;
    for (int64_t start = 0; start < s.n; start += FOLD) {
      LaneMoments<Real> lanes;
      const Segment piece = part(s, start, sums ? FOLD : s.n);
      const int writes = (write ? state : nothing) | (write && c.write_grad ? grad : nothing) |
                         (keep ? Writes::update : nothing) | (apply ? weight : nothing);
      for_packs<Real, Weight, State>(
          piece, keep ? (Real*)u + start : nullptr, writes, [&](const P& p) LAMBDA {
            fetch(p);
            for (int k = 0; k < VECTORS; k++) {
              const int at = k * LANES<Real>;
              V g = gradient(p, c, at), w = load_weight(p.w + at, p.low + at, c);
              V x = advanced<write>(p, g, c, at);
              if constexpr (sums) lanes.add(k, w, g, x);
              if constexpr (keep) store(p.u + at, x);
              if constexpr (apply)
                store_weight(p.w + at, p.low + at, w + change(w, x, r, lr), c, p.index + at);
            }
            also(p.index - s.index);
          });
      if constexpr (!sums) return;
      lanes.add_to(*out);
    }
  }

  static INLINE Segment part(const Segment& s, int64_t start, int64_t length) {
    auto at = [&](void* p, auto size) { return p ? (char*)p + start * size : p; };
    const int64_t n = s.n - start < length ? s.n - start : length;
    return {at(s.w, (int64_t)sizeof(Weight)),
            at(s.g, (int64_t)sizeof(Weight)),
            at(s.m, (int64_t)sizeof(State)),
            at(s.v, (int64_t)sizeof(State)),
            at(s.low, (int64_t)sizeof(Weight)),
            n,
            s.index + start};
  }

  static void measure(const Segment& s, const Constants& c, Moments& moments) {
    pass<false, true, false, false>(s, c, 0, nullptr, &moments, no_more);
  }

  static void advance(const Segment& s, const Constants& c, void* u, Moments& moments) {
    pass<true, true, !M_IS_U, false>(s, c, 0, u, &moments, no_more);
  }

  static void advance_apply(const Segment& s, const Constants& c, double r, Moments& moments) {
    pass<true, true, false, true>(s, c, r, nullptr, &moments, no_more);
  }

  static void step(const Segment& s, const Constants& c, double r) {
    pass<true, false, false, true>(s, c, r, nullptr, nullptr, no_more);
  }

  static void apply(const Segment& s, const Constants& c, double factor, const void* u,
                    bool finite) {
    finite ? apply_to<true>(s, c, factor, u) : apply_to<false>(s, c, factor, u);
  }

  template <bool finite>
  static INLINE void apply_to(const Segment& s, const Constants& c, double factor, const void* u) {
    const Real r = (Real)factor, lr = scalars(c, Real()).lr;
    for_packs<Real, Weight, State>(s, (void*)u, weight,
                                   [&](const P& p) LAMBDA { apply_pack<finite>(p, c, r, lr); });
  }

  template <bool finite>
  static INLINE void apply_pack(const P& p, const Constants& c, Real r, Real lr) {
    for (int k = 0; k < VECTORS; k++) {
      const int at = k * LANES<Real>;
      V w = load_weight(p.w + at, p.low + at, c), x = stored_update(p, at);
      V more = finite ? r * w - lr * x : change(w, x, r, lr);
      store_weight(p.w + at, p.low + at, w + more, c, p.index + at);
    }
  }

  static void advance_and_apply(const Segment& s, const Constants& c, void* u, Moments& moments,
                                const PendingRow& pending) {
    if (!pending.finite) {
      apply(pending.s, c, pending.r, pending.u, false);
      return advance(s, c, u, moments);
    }
    const Real r = (Real)pending.r, lr = scalars(c, Real()).lr;
    const int64_t rest = s.n % PACK<Real>, whole = s.n - rest;
    const P row{(Weight*)pending.s.w, (Weight*)pending.s.g,   (State*)pending.s.m,
                (State*)pending.s.v,  (Weight*)pending.s.low, (Real*)pending.u,
                pending.s.index};
    pass<true, true, !M_IS_U, false>(s, c, 0, u, &moments, [&](int64_t at) LAMBDA {
      if (at < whole) apply_pack<true>(row + at, c, r, lr);
    });
    if (rest)
      apply_to<true>(part(pending.s, whole, rest), c, pending.r, (const Real*)pending.u + whole);
  }

  static void correct(const Segment& s, const Constants& c, double previous, double factor) {
    const Real r = (Real)factor, lr = scalars(c, Real()).lr;
    const Real undo = (Real)(previous == -1 ? 0 : 1 / (1 + previous)),
               more = (Real)(factor - previous);
    for_packs<Real, Weight, State>(s, nullptr, weight, [&](const P& p) LAMBDA {
      for (int k = 0; k < VECTORS; k++) {
        const int at = k * LANES<Real>;
        V w = load_weight(p.w + at, p.low + at, c), u = resumed(p, c, at);
        // an infinite w stays: its update was infinite, whatever r is
        V corrected = w + more * ((w + lr * u) * undo);
        V x = previous == -1 ? w + change(w, u, r, lr) : w - w == 0 ? corrected : w;
        store_weight(p.w + at, p.low + at, x, c, p.index + at);
      }
    });
  }

  static INLINE auto disagree(V u, V g) { return u * g <= 0; }

  static void agree(const Segment& s, const Constants& c, double cu, double cg, Agreement& out) {
    for (int64_t start = 0; start < s.n; start += FOLD) {
      Lanes<Real> ww, uw, count;
      for_packs<Real, Weight, State>(
          part(s, start, FOLD), nullptr, nothing, [&](const P& p) LAMBDA {
            for (int k = 0; k < VECTORS; k++) {
              const int at = k * LANES<Real>;
              V g = gradient(p, c, at), w = load_weight(p.w + at, p.low + at, c);
              V u = advanced<false>(p, g, c, at) - (Real)cu * w;
              auto no = disagree(u, g - (Real)cg * w);
              ww.sum[k] += w * w;
              uw.sum[k] += (no ? V{} : u) * w;
              count.sum[k] += no ? V{} : V{} + 1;
            }
          });
      out.ww += ww.total();
      out.uw += uw.total();
      out.count += (int64_t)count.total();
    }
  }

  static void step_tangent(const Segment& s, const Constants& c, double factor, double cu,
                           double cg, double enlarge, bool keep) {
    const Real r = (Real)factor, lr = scalars(c, Real()).lr;
    const int writes = weight | state | (c.write_grad ? grad : nothing);
    for_packs<Real, Weight, State>(s, nullptr, writes, [&](const P& p) LAMBDA {
      for (int k = 0; k < VECTORS; k++) {
        const int at = k * LANES<Real>;
        V g = gradient(p, c, at), w = load_weight(p.w + at, p.low + at, c);
        V u = advanced<true>(p, g, c, at) - (Real)cu * w;
        if (keep) store(p.m + at, u);
        if (enlarge) u = (disagree(u, g - (Real)cg * w) ? V{} : u) * (Real)enlarge;
        store_weight(p.w + at, p.low + at, w + change(w, u, r, lr), c, p.index + at);
      }
    });
  }

  static constexpr RowFunctions functions{measure, advance,       advance_and_apply,
                                          apply,   advance_apply, step,
                                          correct, agree,         step_tangent};
};

}  // namespace
}  // namespace tangential::ISA
