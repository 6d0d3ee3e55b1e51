// Weights in memory for the kernel's tests: encoded in every dtype, and checks that count.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "step/plan.h"

namespace tangential::test {

using Vector = std::vector<double>;

constexpr double INF = std::numeric_limits<double>::infinity();
constexpr double NOT_A_NUMBER = std::numeric_limits<double>::quiet_NaN();

inline std::string context;  // printed with a failure
inline long checks = 0, failures = 0;

inline void check(bool right, const char* what) {
  checks++;
  if (right) return;
  failures++;
  std::printf("FAILED %s: %s\n", what, context.c_str());
}

// A dtype's numbers: multiples of 2^(exponent - digits), where exponent is at least `least`.
struct Format {
  size_t width;
  int digits, least;
  double tolerance;  // of intermediate results

  double spacing(double x) const { return std::ldexp(1, std::max(std::ilogb(x), least) - digits); }
};

constexpr Format FORMATS[] = {// in the order of Dtype
                              {4, 23, -126, 2e-6},
                              {8, 52, -1022, 1e-12},
                              {2, 7, -126, 2e-6},
                              {2, 10, -14, 2e-6}};

// Starts one element into its memory and ends with it: the alignment is odd, and AddressSanitizer
// sees the first byte past the end.
class Array {
 public:
  Array(Dtype dtype, int64_t n)
      : format_(FORMATS[int(dtype)]), bytes_(size_t(n + 1) * format_.width) {}

  void* data() { return bytes_.data() + format_.width; }
  const Format& format() const { return format_; }
  bool operator==(const Array& other) const { return bytes_ == other.bytes_; }

  Vector read() const {
    Vector x(bytes_.size() / format_.width - 1);
    const uint8_t* at = bytes_.data();
    for (double& value : x) value = decoded(at += format_.width);
    return x;
  }

  void write(const Vector& x) {
    uint8_t* at = bytes_.data();
    for (double value : x) encode(at += format_.width, value);
  }

 private:
  template <class T>
  static T as(const uint8_t* at) {
    T x;
    std::memcpy(&x, at, sizeof x);
    return x;
  }

  template <class T>
  static void put(uint8_t* at, T x) {
    std::memcpy(at, &x, sizeof x);
  }

  double decoded(const uint8_t* at) const {
    if (format_.width > 2) return format_.width == 8 ? as<double>(at) : as<float>(at);
    const auto [_, digits, least, __] = format_;
    const int bits = as<uint16_t>(at), exponent = (bits & 0x7fff) >> digits;
    const int rest = bits & ((1 << digits) - 1);
    double x = std::ldexp(exponent ? rest + (1 << digits) : rest,
                          std::max(exponent, 1) - 1 + least - digits);
    if (exponent == 0x7fff >> digits) x = rest ? NOT_A_NUMBER : INF;
    return bits & 0x8000 ? -x : x;
  }

  void encode(uint8_t* at, double x) const {
    if (format_.width == 8) return put(at, x);
    if (format_.width == 4) return put(at, float(x));
    const auto [_, digits, least, __] = format_;
    int bits = (0x7fff >> digits << digits) + std::isnan(x);
    if (std::isfinite(x)) {
      bits = (std::max(std::ilogb(x), least) - least) << digits;
      bits += int(std::nearbyint(std::fabs(x) / format_.spacing(x)));
    }
    put(at, uint16_t(bits | (std::signbit(x) ? 0x8000 : 0)));
  }

  Format format_;
  std::vector<uint8_t> bytes_;
};

struct TestWeight {
  Layout layout;
  uint32_t seed;
  Array w, g, m, v, low;
  float step;

  TestWeight(const Layout& l, uint32_t s)
      : layout(l),
        seed(s),
        w(l.dtype, l.size),
        g(w),
        m(l.state_dtype, l.size),
        v(m),
        low(w),
        step(float(s % 3)) {}

  int64_t rows() const { return std::max<int64_t>(1, layout.units); }
  int64_t unit_size() const { return layout.size / rows(); }
  bool operator==(const TestWeight& o) const {
    return w == o.w && g == o.g && m == o.m && v == o.v && low == o.low && step == o.step;
  }

  Memory memory(const Options& o) {
    const bool adam = o.rule == Rule::adam, counts = adam || o.rounding == Rounding::stochastic;
    return {w.data(),
            g.data(),
            m.data(),
            adam ? v.data() : nullptr,
            o.rounding == Rounding::kahan ? low.data() : nullptr,
            counts ? &step : nullptr};
  }
};

}  // namespace tangential::test
