// Vectors of WIDTH bytes in the type that a step computes in, loaded from and stored to each dtype.
// Only rows.cpp includes this file.
#pragma once

#include "rows/rows.h"

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

// What a dtype is computed in.
template <class T>
struct Computed {
  using type = float;
};
template <>
struct Computed<double> {
  using type = double;
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
constexpr int LANES = WIDTH / sizeof(Real);  // elements of a vector
template <class Real>
constexpr int PACK = 64 / sizeof(Real);  // elements of a pack, whatever WIDTH is
constexpr int VECTORS = 64 / WIDTH;      // vectors of a pack

template <class Real>
using Four = VectorOf<Real, 4 * sizeof(Real)>::type;

template <int...>
struct Integers {};

using HalfVector = VectorOf<uint16_t, WIDTH / 2>::type;

// a * b + c with one rounding where the instruction set has that. The compiler contracts a sum of
// products in its own way wherever it is inlined; with this, all instances give the same bits.
INLINE Vector<float> fused(Vector<float> a, Vector<float> b, Vector<float> c) {
#if WIDTH == 64
  return (Vector<float>)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif WIDTH == 32
  return (Vector<float>)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__aarch64__)
  return (Vector<float>)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
  return a * b + c;
#endif
}
INLINE Vector<double> fused(Vector<double> a, Vector<double> b, Vector<double> c) {
#if WIDTH == 64
  return (Vector<double>)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
#elif WIDTH == 32
  return (Vector<double>)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
#elif defined(__aarch64__)
  return (Vector<double>)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
#else
  return a * b + c;
#endif
}

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
  // the exponent is 112 too small, and subnormals are not normalized: scaling corrects both
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
  // below 2^-14: adding 1/2 leaves the nearest multiple of 2^-24 in the last bits
  BitVector<float> small = (BitVector<float>)((Vector<float>)size + 0.5f) - 0x3f000000;
  BitVector<float> half = size < (113u << 23) ? small : normal;
  half = size >= 0x477ff000 ? BitVector<float>{} + 0x7c00 : half;  // at least 65520
  half = size > 0x7f800000 ? BitVector<float>{} + 0x7e00 : half;   // NaN
  store_half(p, half | (sign >> 16));
}

// The first n elements of a vector, none if n is negative; the others are 0.
template <class T>
INLINE auto load_first(const T* p, int64_t n) {
  constexpr int64_t ALL = LANES<typename Computed<T>::type>;
  T x[ALL]{};
  for (int64_t i = 0; i < (n < ALL ? n : ALL); i++) x[i] = p[i];
  return load(x);
}

#if WIDTH == 64
INLINE int64_t clamp(int64_t n, int64_t most) { return n < 0 ? 0 : n < most ? n : most; }

INLINE Vector<float> load_first(const float* p, int64_t n) {
  return (Vector<float>)_mm512_maskz_loadu_ps((__mmask16)((1u << clamp(n, 16)) - 1), p);
}
INLINE Vector<double> load_first(const double* p, int64_t n) {
  return (Vector<double>)_mm512_maskz_loadu_pd((__mmask8)((1u << clamp(n, 8)) - 1), p);
}
#elif WIDTH == 32
INLINE Vector<float> load_first(const float* p, int64_t n) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return (Vector<float>)_mm256_maskload_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), lane));
}
INLINE Vector<double> load_first(const double* p, int64_t n) {
  const __m256i lane = _mm256_setr_epi64x(0, 1, 2, 3);
  return (Vector<double>)_mm256_maskload_pd(p, _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), lane));
}
#endif

// Lane i of a plus lane i + half of the lanes, and then those of b.
template <class V, int... lane>
INLINE V halve(V a, V b, Integers<lane...>) {
  constexpr int HALF = sizeof...(lane);
  return __builtin_shufflevector(a, b, lane..., (2 * HALF + lane)...) +
         __builtin_shufflevector(a, b, (HALF + lane)..., (3 * HALF + lane)...);
}

// The sums of all lanes of a, b, c and d. Lane i is added to lane i + half of the lanes, and so on.
template <class Real, class V>
INLINE Four<Real> totals(V a, V b, V c, V d) {
  constexpr int LANES = sizeof(V) / sizeof(Real);
  if constexpr (LANES == 16) {
    const Integers<0, 1, 2, 3, 4, 5, 6, 7> half;
    const V ab = halve(a, b, half), cd = halve(c, d, half);
    const V x =
        __builtin_shufflevector(ab, cd, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
        __builtin_shufflevector(ab, cd, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
    const V y =
        x + __builtin_shufflevector(x, x, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
    const V z =
        y + __builtin_shufflevector(y, y, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
    return __builtin_shufflevector(z, z, 0, 4, 8, 12);
  } else if constexpr (LANES == 8) {
    const Integers<0, 1, 2, 3> half;
    const V ab = halve(a, b, half), cd = halve(c, d, half);
    const V x = __builtin_shufflevector(ab, cd, 0, 1, 8, 9, 4, 5, 12, 13) +
                __builtin_shufflevector(ab, cd, 2, 3, 10, 11, 6, 7, 14, 15);
    const V y = x + __builtin_shufflevector(x, x, 1, 0, 3, 2, 5, 4, 7, 6);
    return __builtin_shufflevector(y, y, 0, 4, 2, 6);
  } else {
    const Integers<0, 1> half;
    const V ab = halve(a, b, half), cd = halve(c, d, half);
    return __builtin_shufflevector(ab, cd, 0, 2, 4, 6) +
           __builtin_shufflevector(ab, cd, 1, 3, 5, 7);
  }
}

}  // namespace
}  // namespace tangential::ISA
