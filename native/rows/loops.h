// The loops over a row: one template for all rules and dtypes. Only rows.cpp includes this file.
#pragma once

#include "rows/packs.h"

namespace tangential::ISA {
namespace {

INLINE const Scalars<float>& scalars(const Constants& c, float) { return c.in_float; }
INLINE const Scalars<double>& scalars(const Constants& c, double) { return c.in_double; }

// Bytes to prefetch: the hardware's prefetcher stops at the ends of pages. Weights that do not fit
// into cache are stepped 1.1 times as fast with it. 2048 was best on Sapphire Rapids with AVX-512;
// on Zen 3 with AVX2, whose first cache is smaller, SGDP is 1.1 times as fast with 1024.
constexpr int64_t AHEAD = 32 * WIDTH;
// Elements that stay in the first cache, and whose sum is added up in Real; a multiple of PACK.
constexpr int64_t PIECE = 1024;

template <class Weight, class State, Rule rule, bool nesterov>
struct Rows {
  using Real = typename Computed<Weight>::type;
  using V = Vector<Real>;
  using P = Pointers<Weight, State, Real>;

  // `plain`: gradients are neither scaled nor negated
  template <bool plain = false>
  static INLINE V gradient(const P& p, const Constants& c, int at) {
    if constexpr (plain) return load(p.g + at);
    V g = load(p.g + at) * scalars(c, Real()).unscale;
    return c.maximize ? -g : g;
  }

  static INLINE V update(V g, V m, V v, const Scalars<Real>& c) {
    if constexpr (rule == Rule::sgd) {
      return nesterov ? fused(V{} + c.keep1, m, g) : m;
    } else {
      V ahead = nesterov ? fused(V{} + c.keep1, m, c.take1 * g) : m;
      return ahead * c.scale1 / (root(v) * c.scale2 + c.eps);
    }
  }

  // u of the vector at `at`, after m and v are advanced; they are stored if `write`
  template <bool write, bool plain = false>
  static INLINE V advanced(const P& p, V g, const Constants& constants, int at) {
    const auto& c = scalars(constants, Real());
    V m = load(p.m + at), v{};
    if constexpr (rule == Rule::sgd) {
      if (constants.no_momentum) m = V{};
    }
    m = fused(V{} + c.keep1, m, c.take1 * g);
    if constexpr (rule == Rule::adam) v = fused(V{} + c.keep2, load(p.v + at), c.take2 * g * g);
    if constexpr (write) {
      store(p.m + at, m);
      if constexpr (rule == Rule::adam) store(p.v + at, v);
      if (!plain && constants.write_grad) store(p.g + at, constants.maximize ? -g : g);
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
    const auto ahead = [](const void* at)
                           LAMBDA { __builtin_prefetch((const void*)((uintptr_t)at + AHEAD)); };
    ahead(p.w);
    ahead(p.g);
    ahead(p.m);
    if constexpr (rule == Rule::adam) ahead(p.v);
  }

  // What is added to w. An infinite w is limited first: 0 * inf and inf - inf would be NaN.
  template <class R>
  static INLINE V change(V w, V u, R r, Real lr) {
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

  static INLINE Segment part(const Segment& s, int64_t start, int64_t length) {
    auto at = [&](void* p, auto size) { return p ? (char*)p + start * size : p; };
    const int64_t n = s.n - start < length ? s.n - start : length;
    return {at(s.w, (int64_t)sizeof(Weight)),
            at(s.g, (int64_t)sizeof(Weight)),
            at(s.m, (int64_t)sizeof(State)),
            at(s.v, (int64_t)sizeof(State)),
            at(s.low, (int64_t)sizeof(Weight)),
            n,
            s.index + start,
            1};
  }

  // The updates of consecutive elements, whatever their rows.
  template <bool write, bool plain>
  static INLINE void update_piece(const Segment& s, const Constants& c, void* u) {
    constexpr bool keep = !(write && M_IS_U);
    const int writes = (write ? state : nothing) | (write && c.write_grad ? grad : nothing) |
                       (keep ? Writes::update : nothing);
    for_packs<Real, Weight, State>(s, keep ? u : nullptr, writes, [&](const P& p) LAMBDA {
      for (int k = 0; k < VECTORS; k++) {
        const int at = k * LANES<Real>;
        V x = advanced<write, plain>(p, gradient<plain>(p, c, at), c, at);
        if constexpr (keep) store(p.u + at, x);
      }
    });
  }

  // The moments of rows, with the gradient as it is in memory.
  template <class U>
  static __attribute__((noinline)) void take_moments(P p, const U* u, int64_t rows,
                                                     int64_t row_size, const Constants& c,
                                                     Moments* moments) {
    for (; rows--; p = p + row_size, u += row_size, moments++) {
      Moments sums;
      for (int64_t start = 0; start < row_size; start += PIECE) {
        const int64_t end = row_size - start < PIECE ? row_size : start + PIECE;
        LaneMoments<Real> lanes;
        int64_t i = start;
        for (; i + PACK<Real> <= end; i += PACK<Real>)
          for (int k = 0; k < VECTORS; k++) {
            const int64_t at = i + k * LANES<Real>;
            lanes.add(k, load_weight(p.w + at, p.low + at, c), load(p.g + at), load(u + at));
          }
        if (i < end)
          for (int k = 0; k < VECTORS; k++) {
            const int64_t at = i + k * LANES<Real>, n = end - at;
            lanes.add(k, load_first_weight(p.w + at, p.low + at, n, c), load_first(p.g + at, n),
                      load_first(u + at, n));
          }
        lanes.add_to(sums);
      }
      *moments = sums;
    }
  }

  static INLINE P pointers(const Segment& s, const void* u) {
    return {(Weight*)s.w,   (Weight*)s.g, (State*)s.m, (State*)s.v,
            (Weight*)s.low, (Real*)u,     s.index};
  }

  template <bool finite, class Factor>
  static INLINE void apply_pack(const P& p, const Constants& c, Factor factor) {
    const Real lr = scalars(c, Real()).lr;
    for (int k = 0; k < VECTORS; k++) {
      const int at = k * LANES<Real>;
      V w = load_weight(p.w + at, p.low + at, c), u = stored_update(p, at);
      const V r = factor(at), more = finite ? r * w - lr * u : change(w, u, r, lr);
      store_weight(p.w + at, p.low + at, w + more, c, p.index + at);
    }
  }

  // `update_piece` and `take_moments` in one pass over rows of whole packs, which meanwhile applies
  // the same number of pending rows.
  template <bool write, bool plain, bool applies>
  static INLINE void update_and_add(P p, int64_t rows, int64_t row_size, const Constants& c,
                                    Moments* moments, const Pending* pending) {
    P q = applies ? pointers(pending->s, pending->u) : p;
    for (int64_t row = 0; row < rows; row++) {
      const V r = V{} + (Real)(applies ? pending->r[row] : 0);
      Moments sums;
      for (int64_t left = row_size; left;) {
        const int64_t n = left < PIECE ? left : PIECE;
        LaneMoments<Real> lanes;
        for (int64_t i = 0; i < n; i += PACK<Real>, p = p + PACK<Real>) {
          fetch(p);
          for (int k = 0; k < VECTORS; k++) {
            const int at = k * LANES<Real>;
            const V g = gradient<plain>(p, c, at), u = advanced<write, plain>(p, g, c, at);
            if constexpr (!(write && M_IS_U)) store(p.u + at, u);
            lanes.add(k, load_weight(p.w + at, p.low + at, c), g, u);
          }
          if constexpr (applies) {
            apply_pack<true>(q, c, [&](int) LAMBDA { return r; });
            q = q + PACK<Real>;
          }
        }
        lanes.add_to(sums);
        left -= n;
      }
      moments[row] = sums;
    }
  }

  template <bool write, bool plain>
  static INLINE void gather(const Segment& s, const Constants& constants, void* u, Moments* moments,
                            const Pending* pending) {
    const Constants c = constants;  // a copy, because no store can change it
    const P all = pointers(s, u);
    const int64_t row_size = s.row_size();
    if (row_size % PACK<Real> == 0) {
      const bool fits = pending && pending->finite && pending->s.n == s.n;
      if constexpr (write)
        if (fits)
          return update_and_add<write, plain, true>(all, s.rows, row_size, c, moments, pending);
      if (pending) apply(*pending, c);
      return update_and_add<write, plain, false>(all, s.rows, row_size, c, moments, nullptr);
    }
    if (pending) apply(*pending, c);
    Constants raw = c;
    raw.write_grad = false;  // until all moments are taken: a narrow gradient may become 0
    const int64_t group = row_size < PIECE ? PIECE / row_size : 1;
    int64_t updated = 0;
    for (int64_t row = 0, rows; row < s.rows; row += rows) {
      rows = s.rows - row < group ? s.rows - row : group;
      for (; updated < (row + rows) * row_size; updated += PIECE)
        update_piece<write, plain>(part(s, updated, PIECE), raw, (Real*)u + updated);
      const P p = all + row * row_size;
      if constexpr (write && M_IS_U)
        take_moments(p, p.m, rows, row_size, c, moments + row);
      else
        take_moments(p, p.u, rows, row_size, c, moments + row);
    }
    if constexpr (!plain) unscale<write>(s, c, moments);
  }

  // Correct moments that were taken of a scaled gradient; unscale the gradient itself if `write`.
  template <bool write>
  static INLINE void unscale(const Segment& s, const Constants& c, Moments* moments) {
    const Real factor = scalars(c, Real()).unscale;
    for (int64_t row = 0; row < s.rows; row++) {
      moments[row].gg *= (double)factor * (double)factor;
      moments[row].gw *= c.maximize ? -(double)factor : (double)factor;
    }
    if (!write || !c.write_grad) return;
    for_packs<Real, Weight, State>(s, nullptr, grad, [&](const P& p) LAMBDA {
      for (int k = 0; k < VECTORS; k++) {
        Weight* const g = p.g + k * LANES<Real>;
        store(g, load(g) * factor);
      }
    });
  }

  static void advance(const Segment& s, const Constants& c, void* u, Moments* moments,
                      const Pending* pending) {
    const bool plain = scalars(c, Real()).unscale == 1 && !c.maximize;
    plain ? gather<true, true>(s, c, u, moments, pending)
          : gather<true, false>(s, c, u, moments, pending);
  }

  static void measure(const Segment& s, const Constants& c, void* u, Moments* moments) {
    gather<false, false>(s, c, u, moments, nullptr);
  }

  static void add_squares(const Segment& s, const void* u, bool advanced, Moments* moments) {
    const Real* x = advanced && M_IS_U ? (const Real*)s.m : (const Real*)u;
    const int64_t row_size = s.row_size();
    for (int64_t row = 0; row < s.rows; row++)
      for (int64_t left = row_size; left > 0; left -= PIECE) {
        const int64_t n = left < PIECE ? left : PIECE;
        Lanes<Real> squares;
        for (int64_t i = 0; i < n; i += PACK<Real>)
          for (int k = 0; k < VECTORS; k++) {
            const int64_t at = i + k * LANES<Real>;
            const V more = load_first(x + at, n - at);
            squares.sum[k] += more * more;
          }
        moments[row].uu += squares.total();
        x += n;
      }
  }

  static void step(const Segment& s, const Constants& constants, double factor) {
    const Constants c = constants;
    const Real r = (Real)factor, lr = scalars(c, Real()).lr;
    const int writes = weight | state | (c.write_grad ? grad : nothing);
    for_packs<Real, Weight, State>(s, nullptr, writes, [&](const P& p) LAMBDA {
      fetch(p);
      for (int k = 0; k < VECTORS; k++) {
        const int at = k * LANES<Real>;
        V w = load_weight(p.w + at, p.low + at, c);
        V u = advanced<true>(p, gradient(p, c, at), c, at);
        store_weight(p.w + at, p.low + at, w + change(w, u, r, lr), c, p.index + at);
      }
    });
  }

  static void apply(const Pending& rows, const Constants& c) {
    rows.finite ? apply_rows<true>(rows, c) : apply_rows<false>(rows, c);
  }

  template <bool finite>
  static INLINE void apply_rows(const Pending& rows, const Constants& constants) {
    const Constants c = constants;
    const Segment& s = rows.s;
    const int64_t row_size = s.row_size();
    const auto pieces = [&](int64_t start, int64_t length, auto factor) LAMBDA {
      for_packs<Real, Weight, State>(
          part(s, start, length), M_IS_U ? nullptr : (Real*)rows.u + start, weight,
          [&](const P& p) LAMBDA {
            const int64_t i = p.index - s.index - start;
            apply_pack<finite>(p, c, [&](int at) LAMBDA { return factor(i + at); });
          });
    };
    if (row_size % PACK<Real> == 0 || s.rows == 1) {
      for (int64_t row = 0; row < s.rows; row++) {
        const V same = V{} + (Real)rows.r[row];
        pieces(row * row_size, row_size, [&](int64_t) LAMBDA { return same; });
      }
      return;
    }
    Real each[PIECE + PACK<Real>];  // the factors of a piece; a row may begin before it
    int64_t row = 0, end = row_size;
    for (int64_t start = 0; start < s.n; start += PIECE) {
      for (int64_t i = 0; i < PIECE && row < s.rows; row++, end += row_size) {
        const V same = V{} + (Real)rows.r[row];
        const int64_t last = end - start < PIECE ? end - start : PIECE;
        for (; i < last; i += LANES<Real>) store(each + i, same);
        i = last;
        if (end - start > PIECE) break;
      }
      pieces(start, PIECE, [&](int64_t at) LAMBDA { return load(each + at); });
    }
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
    for (int64_t start = 0; start < s.n; start += PIECE) {
      Lanes<Real> ww, uw, count;
      for_packs<Real, Weight, State>(
          part(s, start, PIECE), nullptr, nothing, [&](const P& p) LAMBDA {
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

  static constexpr RowFunctions functions{advance, measure, add_squares, apply,
                                          step,    correct, agree,       step_tangent};
};

}  // namespace
}  // namespace tangential::ISA
