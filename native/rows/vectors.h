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

}  // namespace
}  // namespace tangential::ISA
