// This file is compiled once per instruction set, as namespace ISA with vectors of WIDTH bytes. It
// calls no inline function of the standard library: the linker would keep one copy for all
// instruction sets, perhaps one that this machine cannot run.
//
// Sums use 64 bytes of lanes whatever WIDTH is, and then add lane by lane: the order of additions
// is the same with every vector width. Last bits can still differ, because the compiler chooses
// anew for each instruction set which products it fuses with an addition.

#include "rows/rows.h"

#include "rows/loops.h"

namespace tangential::ISA {
namespace {

template <class Weight, class State>
const RowFunctions* functions_for(Rule rule, bool nesterov) {
  if (rule == Rule::adam)
    return nesterov ? &Rows<Weight, State, Rule::adam, true>::functions
                    : &Rows<Weight, State, Rule::adam, false>::functions;
  return nesterov ? &Rows<Weight, State, Rule::sgd, true>::functions
                  : &Rows<Weight, State, Rule::sgd, false>::functions;
}

template <class Real>
void measure_change(const RowChange& change, Moments& moments) {
  using R = Rows<Real, Real, Rule::sgd, false>;
  using V = Vector<Real>;
  const Segment s{
      (void*)change.before, (void*)change.g, (void*)change.after, nullptr, nullptr, change.n, 0};
  const Real keep = (Real)change.keep;
  for (int64_t start = 0; start < s.n; start += PIECE) {
    LaneMoments<Real> lanes;
    Lanes<Real> ee;
    for_packs<Real, Real, Real>(
        R::part(s, start, PIECE), nullptr, nothing, [&](const typename R::P& p) LAMBDA {
          R::fetch(p);
          for (int k = 0; k < VECTORS; k++) {
            const int at = k * LANES<Real>;
            V w = load(p.w + at), g = load(p.g + at), e = load(p.m + at) - keep * w;
            lanes.add(k, w, g, e);
            ee.sum[k] += e * e;
          }
        });
    lanes.add_to(moments);
    moments.uu += ee.total();
  }
}

template <class Real>
void mix(const RowMix& row) {
  using R = Rows<Real, Real, Rule::sgd, false>;
  using V = Vector<Real>;
  const Segment s{row.after, (void*)row.before, (void*)row.before, nullptr, nullptr, row.n, 0};
  const Real scale = (Real)row.scale, less = (Real)(1 - row.scale), shrink = (Real)row.shrink;
  for_packs<Real, Real, Real>(s, nullptr, weight, [&](const typename R::P& p) LAMBDA {
    R::fetch(p);
    for (int k = 0; k < VECTORS; k++) {
      const int at = k * LANES<Real>;
      V after = load(p.w + at), before = load(p.g + at);
      if (less != 0) after = scale * after + less * before;  // 0 * inf would be NaN
      store(p.w + at, after - shrink * before);
    }
  });
}

}  // namespace

MixRow mix_row(Dtype weight) {
  return weight == Dtype::float32 ? mix<float> : weight == Dtype::float64 ? mix<double> : nullptr;
}

MeasureChange measure_change(Dtype weight) {
  return weight == Dtype::float32   ? measure_change<float>
         : weight == Dtype::float64 ? measure_change<double>
                                    : nullptr;
}

const RowFunctions* rows(Dtype weight, Dtype state, Rule rule, bool nesterov) {
  const bool single = state == Dtype::float32, same = state == weight;
  switch (weight) {
    case Dtype::float32: return same ? functions_for<float, float>(rule, nesterov) : nullptr;
    case Dtype::float64: return same ? functions_for<double, double>(rule, nesterov) : nullptr;
    case Dtype::bfloat16:
      return same     ? functions_for<bfloat16, bfloat16>(rule, nesterov)
             : single ? functions_for<bfloat16, float>(rule, nesterov)
                      : nullptr;
    case Dtype::float16:
      return same     ? functions_for<float16, float16>(rule, nesterov)
             : single ? functions_for<float16, float>(rule, nesterov)
                      : nullptr;
  }
  return nullptr;
}

}  // namespace tangential::ISA
