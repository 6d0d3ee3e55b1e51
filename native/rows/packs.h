// Rows in packs of 64 bytes, and rounding to weights that are narrower than what is computed in.
// Only rows.cpp includes this file.
#pragma once

#include "rows/vectors.h"

namespace tangential::ISA {
namespace {

// C. Wellons' "lowbias32": a hash of counters.
INLINE BitVector<float> noise(uint32_t seed, int64_t index) {
  BitVector<float> x;
  for (int i = 0; i < LANES<float>; i++) x[i] = (uint32_t)i;
  x = (x + (uint32_t)index) ^ (seed + (uint32_t)(index >> 32) * 0x9e3779b9u);
  x = (x ^ (x >> 16)) * 0x7feb352du;
  x = (x ^ (x >> 15)) * 0x846ca68bu;
  return x ^ (x >> 16);
}

INLINE Vector<float> round_randomly(Vector<float> x, BitVector<float> noise, uint32_t dropped) {
  BitVector<float> bits = (BitVector<float>)x;
  BitVector<float> up = (bits + (noise & dropped)) & ~dropped;
  return (Vector<float>)((bits & 0x7f800000) == 0x7f800000 ? bits : up);
}

template <class T>
constexpr uint32_t DROPPED = 0;  // the bits of a float that T drops
template <>
constexpr uint32_t DROPPED<bfloat16> = 0xffff;
template <>
constexpr uint32_t DROPPED<float16> = 0x1fff;

template <class Weight>
INLINE auto load_weight(const Weight* w, const Weight* low, const Constants& c) {
  auto x = load(w);
  if constexpr (DROPPED<Weight> != 0) {
    if (c.rounding == Rounding::kahan) x += load(low);
  }
  return x;
}

template <class Weight>
INLINE auto load_first_weight(const Weight* w, const Weight* low, int64_t n, const Constants& c) {
  auto x = load_first(w, n);
  if constexpr (DROPPED<Weight> != 0) {
    if (c.rounding == Rounding::kahan) x += load_first(low, n);
  }
  return x;
}

template <class Weight, class V>
INLINE void store_weight(Weight* w, Weight* low, V x, const Constants& c, int64_t index) {
  if constexpr (DROPPED<Weight> != 0) {
    if (c.rounding == Rounding::stochastic)
      x = round_randomly(x, noise(c.seed, index), DROPPED<Weight>);
    store(w, x);
    if (c.rounding != Rounding::kahan) return;
    V rest = x - load(w);
    store(low, rest - rest == 0 ? rest : V{});
  } else {
    store(w, x);
  }
}

template <class Weight, class State, class Real>
struct Pointers {
  Weight* w;
  Weight* g;
  State* m;
  State* v;
  Weight* low;
  Real* u;
  int64_t index;

  INLINE Pointers operator+(int64_t n) const {
    return {w + n, g + n, m + n, v ? v + n : v, low ? low + n : low, u ? u + n : u, index + n};
  }
};

template <class T>
INLINE void copy(T* to, const T* from, int64_t n) {
  for (int64_t i = 0; i < n; i++) to[i] = from[i];
}

// What a loop writes; `update` is u.
enum Writes : int { nothing = 0, weight = 1, state = 2, grad = 4, update = 8 };

// Call `pack` for every PACK elements. The last elements are copied into a full pack whose other
// lanes have no effect, so that no bit depends on where in memory a row begins or ends.
template <class Real, class Weight, class State, class Body>
INLINE void for_packs(const Segment& s, void* u, int writes, Body pack) {
  using P = Pointers<Weight, State, Real>;
  P p{(Weight*)s.w, (Weight*)s.g, (State*)s.m, (State*)s.v, (Weight*)s.low, (Real*)u, s.index};
  int64_t rest = s.n % PACK<Real>, whole = s.n - rest;
  for (int64_t i = 0; i < whole; i += PACK<Real>) pack(p + i);
  if (!rest) return;
  p = p + whole;
  Weight w[PACK<Real>]{}, g[PACK<Real>]{}, low[PACK<Real>]{};
  State m[PACK<Real>]{}, v[PACK<Real>]{};
  Real saved_u[PACK<Real>]{};
  for (int k = 0; k < VECTORS; k++) store(v + k * LANES<Real>, Vector<Real>{} + 1);  // not 0 / 0
  copy(w, p.w, rest);
  copy(g, p.g, rest);
  copy(m, p.m, rest);
  if (p.v) copy(v, p.v, rest);
  if (p.low) copy(low, p.low, rest);
  if (p.u) copy(saved_u, p.u, rest);
  pack(P{w, g, m, v, low, saved_u, p.index});
  if (writes & weight) copy(p.w, w, rest);
  if (writes & weight && p.low) copy(p.low, low, rest);
  if (writes & grad) copy(p.g, g, rest);
  if (writes & state) copy(p.m, m, rest);
  if (writes & state && p.v) copy(p.v, v, rest);
  if (writes & update) copy(p.u, saved_u, rest);
}

// A sum in 64 bytes of lanes.
template <class Real>
struct Lanes {
  Vector<Real> sum[VECTORS]{};

  // The first step of adding lane i and lane i + half of the lanes, as far as whole vectors go.
  INLINE auto folded() const {
    if constexpr (LANES<Real> == 2)
      return __builtin_shufflevector(sum[0] + sum[2], sum[1] + sum[3], 0, 1, 2, 3);
    else if constexpr (VECTORS == 4)
      return (sum[0] + sum[2]) + (sum[1] + sum[3]);
    else if constexpr (VECTORS == 2)
      return sum[0] + sum[1];
    else
      return sum[0];
  }

  INLINE double total() const {
    const auto x = folded();
    return (double)totals<Real>(x, x, x, x)[0];
  }
};

template <class Real>
struct LaneMoments {
  Lanes<Real> ww, gg, gw, uw;

  INLINE void add(int k, Vector<Real> w, Vector<Real> g, Vector<Real> u) {
    ww.sum[k] += w * w;
    gg.sum[k] += g * g;
    gw.sum[k] += g * w;
    uw.sum[k] += u * w;
  }

  INLINE void add_to(Moments& moments) const {
    const Four<Real> t = totals<Real>(ww.folded(), gg.folded(), gw.folded(), uw.folded());
    moments.ww += (double)t[0];
    moments.gg += (double)t[1];
    moments.gw += (double)t[2];
    moments.uw += (double)t[3];
  }
};

}  // namespace
}  // namespace tangential::ISA
