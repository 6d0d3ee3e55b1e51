// This file is compiled once for each instruction set, as namespace ISA with vectors of WIDTH
// bytes. It calls no inline function of the standard library: the linker would keep one copy of it
// for all of them, perhaps one that this machine cannot run.
//
// Sums run in 64 bytes of lanes whatever WIDTH is, then lane by lane, so that the same fused
// multiply-adds give the same bits on every vector width.

#include "rows.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace tangential::ISA {
namespace {

#define INLINE inline __attribute__((always_inline))
#define LAMBDA __attribute__((always_inline))

struct bfloat16 {
  uint16_t bits;
};
struct float16 {
  uint16_t bits;
};

template <class T, int bytes>
struct VectorOf {
  typedef T type __attribute__((vector_size(bytes)));
};
template <class T>
using Vector = typename VectorOf<T, WIDTH>::type;

template <class Real>
struct Bits;
template <>
struct Bits<float> {
  using type = uint32_t;
};
template <>
struct Bits<double> {
  using type = uint64_t;
};
template <class Real>
using BitVector = Vector<typename Bits<Real>::type>;

template <class Real>
constexpr int LANES = WIDTH / sizeof(Real);  // of a vector
template <class Real>
constexpr int PACK = 64 / sizeof(Real);  // worked on together
constexpr int VECTORS = 64 / WIDTH;      // in a pack

using HalfVector = VectorOf<uint16_t, WIDTH / 2>::type;

INLINE Vector<float> root(Vector<float> x) {
#if WIDTH == 64
  // the unmasked form warns of an uninitialized value under GCC 12
  return (Vector<float>)_mm512_maskz_sqrt_ps(0xffff, (__m512)x);
#elif WIDTH == 32
  return (Vector<float>)_mm256_sqrt_ps((__m256)x);
#elif defined(__x86_64__)
  return (Vector<float>)_mm_sqrt_ps((__m128)x);
#elif defined(__aarch64__)
  return (Vector<float>)vsqrtq_f32((float32x4_t)x);
#else
  for (int i = 0; i < LANES<float>; i++) x[i] = __builtin_sqrtf(x[i]);
  return x;
#endif
}

INLINE Vector<double> root(Vector<double> x) {
#if WIDTH == 64
  return (Vector<double>)_mm512_maskz_sqrt_pd(0xff, (__m512d)x);
#elif WIDTH == 32
  return (Vector<double>)_mm256_sqrt_pd((__m256d)x);
#elif defined(__x86_64__)
  return (Vector<double>)_mm_sqrt_pd((__m128d)x);
#elif defined(__aarch64__)
  return (Vector<double>)vsqrtq_f64((float64x2_t)x);
#else
  for (int i = 0; i < LANES<double>; i++) x[i] = __builtin_sqrt(x[i]);
  return x;
#endif
}

// ---- what lies in memory, as vectors of what is computed in

template <class V>
INLINE V load_as(const void* p) {
  V x;
  __builtin_memcpy(&x, p, sizeof x);
  return x;
}

INLINE Vector<float> load(const float* p) { return load_as<Vector<float>>(p); }
INLINE Vector<double> load(const double* p) { return load_as<Vector<double>>(p); }

INLINE BitVector<float> load_half(const void* p) {
  return __builtin_convertvector(load_as<HalfVector>(p), BitVector<float>);
}

INLINE void store_half(void* p, BitVector<float> bits) {
  HalfVector x = __builtin_convertvector(bits, HalfVector);
  __builtin_memcpy(p, &x, sizeof x);
}

INLINE Vector<float> load(const bfloat16* p) { return (Vector<float>)(load_half(p) << 16); }

INLINE Vector<float> load(const float16* p) {
  BitVector<float> half = load_half(p), rest = (half & 0x7fff) << 13;
  // the exponent is 112 too small, in subnormals too: scaling mends both
  BitVector<float> bits = (BitVector<float>)((Vector<float>)rest * 0x1p112f);
  bits = rest >= (0x7c00u << 13) ? (rest | 0x7f800000) : bits;  // infinity and NaN
  return (Vector<float>)(bits | ((half & 0x8000) << 16));
}

INLINE void store(float* p, Vector<float> x) { __builtin_memcpy(p, &x, sizeof x); }
INLINE void store(double* p, Vector<double> x) { __builtin_memcpy(p, &x, sizeof x); }

INLINE void store(bfloat16* p, Vector<float> x) {
  BitVector<float> bits = (BitVector<float>)x;
  BitVector<float> even = bits + 0x7fff + ((bits >> 16) & 1);
  store_half(p, (x == x ? even : bits | 0x400000) >> 16);
}

INLINE void store(float16* p, Vector<float> x) {
  BitVector<float> bits = (BitVector<float>)x, sign = bits & 0x80000000, size = bits ^ sign;
  BitVector<float> normal = (size + 0xfff + ((size >> 13) & 1) - (112u << 23)) >> 13;
  // below 2^-14, adding 1/2 leaves the nearest multiple of 2^-24 in the last bits
  BitVector<float> small = (BitVector<float>)((Vector<float>)size + 0.5f) - 0x3f000000;
  BitVector<float> half = size < (113u << 23) ? small : normal;
  half = size >= 0x477ff000 ? BitVector<float>{} + 0x7c00 : half;  // 65520 and more
  half = size > 0x7f800000 ? BitVector<float>{} + 0x7e00 : half;   // NaN
  store_half(p, half | (sign >> 16));
}

// ---- rounding of weights narrower than what is computed in

// C. Wellons' "lowbias32": a hash of counters.
INLINE BitVector<float> noise(uint32_t seed, int64_t index) {
  BitVector<float> x;
  for (int i = 0; i < LANES<float>; i++) x[i] = (uint32_t)i;
  x = (x + (uint32_t)index) ^ (seed + (uint32_t)(index >> 32) * 0x9e3779b9u);
  x = (x ^ (x >> 16)) * 0x7feb352du;
  x = (x ^ (x >> 15)) * 0x846ca68bu;
  return x ^ (x >> 16);
}

INLINE Vector<float> shaken(Vector<float> x, BitVector<float> noise, uint32_t lost) {
  BitVector<float> bits = (BitVector<float>)x;
  BitVector<float> up = (bits + (noise & lost)) & ~lost;
  return (Vector<float>)((bits & 0x7f800000) == 0x7f800000 ? bits : up);
}

template <class T>
constexpr uint32_t LOST = 0;  // bits of a float that T has no room for
template <>
constexpr uint32_t LOST<bfloat16> = 0xffff;
template <>
constexpr uint32_t LOST<float16> = 0x1fff;

template <class Weight>
INLINE auto load_weight(const Weight* w, const Weight* low, const Constants& c) {
  auto x = load(w);
  if constexpr (LOST<Weight> != 0) {
    if (c.rounding == Rounding::kahan) x += load(low);
  }
  return x;
}

template <class Weight, class V>
INLINE void store_weight(Weight* w, Weight* low, V x, const Constants& c, int64_t index) {
  if constexpr (LOST<Weight> != 0) {
    if (c.rounding == Rounding::stochastic) x = shaken(x, noise(c.seed, index), LOST<Weight>);
    store(w, x);
    if (c.rounding != Rounding::kahan) return;
    V rest = x - load(w);
    store(low, rest - rest == 0 ? rest : V{});
  } else {
    store(w, x);
  }
}

// ---- rows in packs

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

enum Writes : int { nothing = 0, weight = 1, state = 2, grad = 4, kept_update = 8 };

// Call `pack` for every PACK elements; the last ones by way of a full pack of their own, its other
// lanes without effect, so that no bit depends on where in memory a row begins or ends.
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
  Real kept[PACK<Real>]{};
  for (int k = 0; k < VECTORS; k++) store(v + k * LANES<Real>, Vector<Real>{} + 1);  // not 0 / 0
  copy(w, p.w, rest);
  copy(g, p.g, rest);
  copy(m, p.m, rest);
  if (p.v) copy(v, p.v, rest);
  if (p.low) copy(low, p.low, rest);
  if (p.u) copy(kept, p.u, rest);
  pack(P{w, g, m, v, low, kept, p.index});
  if (writes & weight) copy(p.w, w, rest);
  if (writes & weight && p.low) copy(p.low, low, rest);
  if (writes & grad) copy(p.g, g, rest);
  if (writes & state) copy(p.m, m, rest);
  if (writes & state && p.v) copy(p.v, v, rest);
  if (writes & kept_update) copy(p.u, kept, rest);
}

template <class Real>
struct Lanes {
  Vector<Real> sum[VECTORS]{};

  INLINE double total() const {
    Real t[PACK<Real>];
    for (int k = 0; k < VECTORS; k++) store(t + k * LANES<Real>, sum[k]);
    for (int half = PACK<Real> / 2; half; half /= 2)
      for (int i = 0; i < half; i++) t[i] += t[i + half];
    return (double)t[0];
  }
};

INLINE const Scalars<float>& scalars(const Constants& c, float) { return c.single; }
INLINE const Scalars<double>& scalars(const Constants& c, double) { return c.twice; }

// Bytes fetched ahead: the processor stops at rows and pages.
constexpr int64_t AHEAD = 2048;
constexpr int64_t FOLD = 4096;  // elements summed in Real before they are added up in double

template <class T>
struct Computed {
  using type = float;
};
template <>
struct Computed<double> {
  using type = double;
};

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

  // m, v and u of the vector at `at`, the first two written if they should be
  template <bool write>
  static INLINE V advanced(const P& p, V g, const Constants& constants, int at) {
    const auto& c = scalars(constants, Real());
    V m = load(p.m + at), v{};
    if constexpr (rule == Rule::sgd) {
      if (constants.forget) m = V{};
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

  // u as it was, from what `advanced` wrote
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

  // What is added to w. Of an infinite w the share is finite: 0 * inf and inf - inf would be NaN.
  static INLINE V change(V w, V u, Real r, Real lr) {
    constexpr Real most = sizeof(Real) == 8 ? (Real)__DBL_MAX__ : (Real)__FLT_MAX__;
    const V limited = w > most ? V{} + most : w < -most ? V{} - most : w;
    return r * limited - lr * u;
  }

  // Heavy-ball momentum is its own update: it need not be kept twice.
  static constexpr bool M_IS_U = rule == Rule::sgd && !nesterov && sizeof(State) == sizeof(Real);

  static INLINE V kept(const P& p, int at) {
    if constexpr (M_IS_U)
      return load(p.m + at);
    else
      return load(p.u + at);
  }

  static constexpr auto nothing_else = [](int64_t) {};

  // The one loop behind measure, advance, advance_apply and step.
  template <bool write, bool sums, bool keep, bool apply, class Also>
  static INLINE void pass(const Segment& s, const Constants& c, double added, void* u, Sums* out,
                          Also also) {
    const Real r = (Real)added, lr = scalars(c, Real()).lr;
    for (int64_t start = 0; start < s.n; start += FOLD) {
      Lanes<Real> ww, gg, gw, uw, uu;
      const Segment piece = part(s, start, sums ? FOLD : s.n);
      const int writes = (write ? state : nothing) | (write && c.write_grad ? grad : nothing) |
                         (keep ? kept_update : nothing) | (apply ? weight : nothing);
      for_packs<Real, Weight, State>(
          piece, keep ? (Real*)u + start : nullptr, writes, [&](const P& p) LAMBDA {
            fetch(p);
            for (int k = 0; k < VECTORS; k++) {
              const int at = k * LANES<Real>;
              V g = gradient(p, c, at), w = load_weight(p.w + at, p.low + at, c);
              V x = advanced<write>(p, g, c, at);
              if constexpr (sums) {
                ww.sum[k] += w * w;
                gg.sum[k] += g * g;
                gw.sum[k] += g * w;
                uw.sum[k] += x * w;
                uu.sum[k] += x * x;
              }
              if constexpr (keep) store(p.u + at, x);
              if constexpr (apply)
                store_weight(p.w + at, p.low + at, w + change(w, x, r, lr), c, p.index + at);
            }
            also(p.index - s.index);
          });
      if constexpr (!sums) return;
      out->ww += ww.total();
      out->gg += gg.total();
      out->gw += gw.total();
      out->uw += uw.total();
      out->uu += uu.total();
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

  static void measure(const Segment& s, const Constants& c, Sums& sums) {
    pass<false, true, false, false>(s, c, 0, nullptr, &sums, nothing_else);
  }

  static void advance(const Segment& s, const Constants& c, void* u, Sums& sums) {
    pass<true, true, !M_IS_U, false>(s, c, 0, u, &sums, nothing_else);
  }

  static void advance_apply(const Segment& s, const Constants& c, double r, Sums& sums) {
    pass<true, true, false, true>(s, c, r, nullptr, &sums, nothing_else);
  }

  static void step(const Segment& s, const Constants& c, double r) {
    pass<true, false, false, true>(s, c, r, nullptr, nullptr, nothing_else);
  }

  static void apply(const Segment& s, const Constants& c, double added, const void* u,
                    bool finite) {
    finite ? apply_to<true>(s, c, added, u) : apply_to<false>(s, c, added, u);
  }

  template <bool finite>
  static INLINE void apply_to(const Segment& s, const Constants& c, double added, const void* u) {
    const Real r = (Real)added, lr = scalars(c, Real()).lr;
    for_packs<Real, Weight, State>(s, (void*)u, weight,
                                   [&](const P& p) LAMBDA { apply_pack<finite>(p, c, r, lr); });
  }

  template <bool finite>
  static INLINE void apply_pack(const P& p, const Constants& c, Real r, Real lr) {
    for (int k = 0; k < VECTORS; k++) {
      const int at = k * LANES<Real>;
      V w = load_weight(p.w + at, p.low + at, c), x = kept(p, at);
      V more = finite ? r * w - lr * x : change(w, x, r, lr);
      store_weight(p.w + at, p.low + at, w + more, c, p.index + at);
    }
  }

  static void advance_and_apply(const Segment& s, const Constants& c, void* u, Sums& sums,
                                const Waiting& last) {
    if (!last.finite) {
      apply(last.s, c, last.r, last.u, false);
      return advance(s, c, u, sums);
    }
    const Real r = (Real)last.r, lr = scalars(c, Real()).lr;
    const int64_t rest = s.n % PACK<Real>, whole = s.n - rest;
    const P row{(Weight*)last.s.w,   (Weight*)last.s.g, (State*)last.s.m, (State*)last.s.v,
                (Weight*)last.s.low, (Real*)last.u,     last.s.index};
    pass<true, true, !M_IS_U, false>(s, c, 0, u, &sums, [&](int64_t at) LAMBDA {
      if (at < whole) apply_pack<true>(row + at, c, r, lr);
    });
    if (rest) apply_to<true>(part(last.s, whole, rest), c, last.r, (const Real*)last.u + whole);
  }

  static void amend(const Segment& s, const Constants& c, double was, double added) {
    const Real r = (Real)added, lr = scalars(c, Real()).lr;
    const Real back = (Real)(was == -1 ? 0 : 1 / (1 + was)), more = (Real)(added - was);
    for_packs<Real, Weight, State>(s, nullptr, weight, [&](const P& p) LAMBDA {
      for (int k = 0; k < VECTORS; k++) {
        const int at = k * LANES<Real>;
        V w = load_weight(p.w + at, p.low + at, c), u = resumed(p, c, at);
        // an infinite weight stays as it is: its update was infinite whatever the share
        V mended = w + more * ((w + lr * u) * back);
        V x = was == -1 ? w + change(w, u, r, lr) : w - w == 0 ? mended : w;
        store_weight(p.w + at, p.low + at, x, c, p.index + at);
      }
    });
  }

  static INLINE auto against(V u, V g) { return u * g <= 0; }

  static void weigh(const Segment& s, const Constants& c, double cu, double cg, Kept& out) {
    for (int64_t start = 0; start < s.n; start += FOLD) {
      Lanes<Real> ww, kw, count;
      for_packs<Real, Weight, State>(
          part(s, start, FOLD), nullptr, nothing, [&](const P& p) LAMBDA {
            for (int k = 0; k < VECTORS; k++) {
              const int at = k * LANES<Real>;
              V g = gradient(p, c, at), w = load_weight(p.w + at, p.low + at, c);
              V u = advanced<false>(p, g, c, at) - (Real)cu * w;
              auto no = against(u, g - (Real)cg * w);
              ww.sum[k] += w * w;
              kw.sum[k] += (no ? V{} : u) * w;
              count.sum[k] += no ? V{} : V{} + 1;
            }
          });
      out.ww += ww.total();
      out.kw += kw.total();
      out.count += (int64_t)count.total();
    }
  }

  static void step_tangent(const Segment& s, const Constants& c, double added, double cu, double cg,
                           double enlarged, bool keep) {
    const Real r = (Real)added, lr = scalars(c, Real()).lr;
    const int writes = weight | state | (c.write_grad ? grad : nothing);
    for_packs<Real, Weight, State>(s, nullptr, writes, [&](const P& p) LAMBDA {
      for (int k = 0; k < VECTORS; k++) {
        const int at = k * LANES<Real>;
        V g = gradient(p, c, at), w = load_weight(p.w + at, p.low + at, c);
        V u = advanced<true>(p, g, c, at) - (Real)cu * w;
        if (keep) store(p.m + at, u);
        if (enlarged) u = (against(u, g - (Real)cg * w) ? V{} : u) * (Real)enlarged;
        store_weight(p.w + at, p.low + at, w + change(w, u, r, lr), c, p.index + at);
      }
    });
  }

  static constexpr RowFunctions functions{
      measure, advance, advance_and_apply, apply, advance_apply, step, amend, weigh, step_tangent};
};

template <class Weight, class State>
const RowFunctions* choose(Rule rule, bool nesterov) {
  if (rule == Rule::adam)
    return nesterov ? &Rows<Weight, State, Rule::adam, true>::functions
                    : &Rows<Weight, State, Rule::adam, false>::functions;
  return nesterov ? &Rows<Weight, State, Rule::sgd, true>::functions
                  : &Rows<Weight, State, Rule::sgd, false>::functions;
}

template <class Real>
void measure_moved(const Moved& moved, Sums& out) {
  using R = Rows<Real, Real, Rule::sgd, false>;
  using V = Vector<Real>;
  const Segment s{
      (void*)moved.before, (void*)moved.g, (void*)moved.after, nullptr, nullptr, moved.n, 0};
  const Real keep = (Real)moved.keep;
  for (int64_t start = 0; start < s.n; start += FOLD) {
    Lanes<Real> ww, gg, gw, ew, ee;
    for_packs<Real, Real, Real>(
        R::part(s, start, FOLD), nullptr, nothing, [&](const typename R::P& p) LAMBDA {
          R::fetch(p);
          for (int k = 0; k < VECTORS; k++) {
            const int at = k * LANES<Real>;
            V w = load(p.w + at), g = load(p.g + at), e = load(p.m + at) - keep * w;
            ww.sum[k] += w * w;
            gg.sum[k] += g * g;
            gw.sum[k] += g * w;
            ew.sum[k] += e * w;
            ee.sum[k] += e * e;
          }
        });
    out.ww += ww.total();
    out.gg += gg.total();
    out.gw += gw.total();
    out.uw += ew.total();
    out.uu += ee.total();
  }
}

}  // namespace

MeasureMoved measure_moved(Dtype weight) {
  return weight == Dtype::float32   ? measure_moved<float>
         : weight == Dtype::float64 ? measure_moved<double>
                                    : nullptr;
}

const RowFunctions* rows(Dtype weight, Dtype state, Rule rule, bool nesterov) {
  const bool single = state == Dtype::float32, same = state == weight;
  switch (weight) {
    case Dtype::float32: return same ? choose<float, float>(rule, nesterov) : nullptr;
    case Dtype::float64: return same ? choose<double, double>(rule, nesterov) : nullptr;
    case Dtype::bfloat16:
      return same     ? choose<bfloat16, bfloat16>(rule, nesterov)
             : single ? choose<bfloat16, float>(rule, nesterov)
                      : nullptr;
    case Dtype::float16:
      return same     ? choose<float16, float16>(rule, nesterov)
             : single ? choose<float16, float>(rule, nesterov)
                      : nullptr;
  }
  return nullptr;
}

}  // namespace tangential::ISA
