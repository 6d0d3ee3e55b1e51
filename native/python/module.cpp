#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include "python/tensors.h"
#include "step/changes.h"
#include "step/plan.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace tangential;

namespace {

using LayoutTuple = std::tuple<Dtype, Dtype, int64_t, int64_t, int64_t, uint32_t>;

void make_plan(Plan* self, const std::vector<LayoutTuple>& weights, const std::string& wanted) {
  std::vector<WeightSpec> specs;
  for (const auto& [dtype, state_dtype, units, unit_size, size, seed] : weights)
    specs.push_back({{dtype, state_dtype, units, unit_size, size}, seed});
  for (const InstructionSet& set : instruction_sets())
    if (wanted.empty() || wanted == set.name) {
      new (self) Plan(specs, set);
      return;
    }
  throw nb::value_error("instruction_set: this machine cannot run it");
}

template <class T>
using Array = nb::ndarray<T, nb::c_contig, nb::device::cpu>;

void step(Plan& plan, Tensors& tensors, const Options& options, int threads,
          const GateRecord* record = nullptr) {
  if (tensors.size() != plan.size())
    throw nb::value_error("tensors: expected as many as the plan has weights");
  const Memory* memory = tensors.take();
  struct GiveBack {
    Tensors& tensors;
    ~GiveBack() { tensors.give_back(); }
  } give_back{tensors};
  nb::gil_scoped_release release;
  plan.step(memory, options, threads, record);
}

void step_recorded(Plan& plan, Tensors& tensors, const Options& options, int threads,
                   const Array<double>& rows, const Array<int32_t>& decisions) {
  if (decisions.size() != plan.size())
    throw nb::value_error("decisions: expected as many as the plan has weights");
  if (rows.size() * sizeof(double) != plan.rows() * sizeof(Moments))
    throw nb::value_error("rows: expected [plan.rows, 5]");
  const GateRecord record{reinterpret_cast<Moments*>(rows.data()),
                          reinterpret_cast<Decision*>(decisions.data())};
  step(plan, tensors, options, threads, &record);
}

// Per weight: dtype, units, unit_size, the addresses of the weight before and after the step and of
// its gradient, keep.
using ChangeTuple = std::tuple<Dtype, int64_t, int64_t, uintptr_t, uintptr_t, uintptr_t, double>;

// The same without gradient and keep, and whether all units are amended as one vector.
using AmendsTuple = std::tuple<Dtype, int64_t, int64_t, uintptr_t, uintptr_t, bool>;

void check_dtype(Dtype dtype) {
  if (dtype != Dtype::float32 && dtype != Dtype::float64)
    throw nb::value_error("dtype: must be float32 or float64");
}

void* pointer(uintptr_t address) { return reinterpret_cast<void*>(address); }

void measure_changes(const std::vector<ChangeTuple>& weights, const Array<double>& rows,
                     int threads, bool copies) {
  std::vector<WeightChange> all;
  auto* moments = reinterpret_cast<Moments*>(rows.data());
  int64_t units = 0;
  for (const auto& [dtype, count, unit_size, before, after, g, keep] : weights) {
    check_dtype(dtype);
    all.push_back({dtype, count, unit_size, pointer(before), pointer(after), pointer(g), keep,
                   moments + units});
    units += count;
  }
  if (rows.size() * sizeof(double) != size_t(units) * sizeof(Moments))
    throw nb::value_error("rows: expected [units of all weights, 5]");
  nb::gil_scoped_release release;
  (copies ? copy : measure)(all, instruction_sets().front(), threads);
}

void amend_changes(const std::vector<AmendsTuple>& weights,
                   const std::optional<Array<double>>& scale, const Array<double>& shrink,
                   const std::optional<Array<double>>& slope, int threads) {
  std::vector<WeightAmends> all;
  int64_t units = 0;
  const auto from = [&](const std::optional<Array<double>>& x) {
    return x ? x->data() + units : nullptr;
  };
  for (const auto& [dtype, count, unit_size, before, after, whole] : weights) {
    check_dtype(dtype);
    all.push_back({dtype, count, unit_size, pointer(before), pointer(after), from(scale),
                   shrink.data() + units, from(slope), whole});
    units += count;
  }
  for (const auto& x : {scale, std::optional(shrink), slope})
    if (x && x->size() != size_t(units))
      throw nb::value_error("scale, shrink, slope: expected [units of all weights]");
  nb::gil_scoped_release release;
  amend(all, instruction_sets().front(), threads);
}

// A hook on a weight may refer to its optimizer: Python's garbage collector must see this cycle.
int traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  if (!nb::inst_ready(self)) return 0;
  return nb::inst_ptr<Tensors>(self)->traverse(visit, arg);
}

int clear(PyObject* self) {
  nb::inst_ptr<Tensors>(self)->clear();
  return 0;
}

PyType_Slot collected[] = {{Py_tp_traverse, reinterpret_cast<void*>(traverse)},
                           {Py_tp_clear, reinterpret_cast<void*>(clear)},
                           {0, nullptr}};

// The gate for a table of moments [rows]: its decision, and the coefficient of every row.
std::pair<Decision, std::vector<double>> gate_of(
    const std::vector<std::tuple<double, double, double, double>>& table, int64_t unit_size,
    Projection projection, double delta, double eps) {
  Moments whole;
  int64_t failing = 0;
  for (const auto& [ww, gg, gw, uw] : table) {
    failing += !orthogonal({ww, gg, gw, uw}, threshold(delta, unit_size), eps);
    whole.ww += ww, whole.gg += gg, whole.gw += gw, whole.uw += uw;
  }
  const int64_t size = unit_size * int64_t(table.size());
  const Decision decision = gate(failing, whole, unit_size, size, projection, delta, eps);
  std::vector<double> coefs;
  for (const auto& [ww, gg, gw, uw] : table) {
    coefs.push_back(decision == Decision::none  ? 0
                    : decision == Decision::row ? coef(ww, uw, eps)
                                                : coef(whole.ww, whole.uw, eps));
  }
  return {decision, coefs};
}

}  // namespace

NB_MODULE(_native, m) {
  nb::set_leak_warnings(false);  // an optimizer may live until Python ends
  nb::list names;
  for (const InstructionSet& set : instruction_sets()) names.append(set.name);
  m.attr("instruction_sets") = names;  // the fastest first
  nb::enum_<Dtype>(m, "Dtype")
      .value("float32", Dtype::float32)
      .value("float64", Dtype::float64)
      .value("bfloat16", Dtype::bfloat16)
      .value("float16", Dtype::float16);
  nb::enum_<Rule>(m, "Rule").value("adam", Rule::adam).value("sgd", Rule::sgd);
  nb::enum_<Rounding>(m, "Rounding")
      .value("nearest", Rounding::nearest)
      .value("stochastic", Rounding::stochastic)
      .value("kahan", Rounding::kahan);
  nb::enum_<Projection>(m, "Projection")
      .value("auto", Projection::automatic)
      .value("row", Projection::row)
      .value("weight", Projection::weight)
      .value("off", Projection::off);
  nb::enum_<Decision>(m, "Decision")
      .value("none", Decision::none)
      .value("row", Decision::row)
      .value("weight", Decision::weight);
  nb::class_<Options>(m, "Options")
      .def(nb::init<>())
      .def_rw("rule", &Options::rule)
      .def_rw("lr", &Options::lr)
      .def_rw("beta1", &Options::beta1)
      .def_rw("beta2", &Options::beta2)
      .def_rw("take1", &Options::take1)
      .def_rw("eps", &Options::eps)
      .def_rw("decay", &Options::decay)
      .def_rw("wd_ratio", &Options::wd_ratio)
      .def_rw("delta", &Options::delta)
      .def_rw("unscale", &Options::unscale)
      .def_rw("nesterov", &Options::nesterov)
      .def_rw("maximize", &Options::maximize)
      .def_rw("caution", &Options::caution)
      .def_rw("project_buffer", &Options::project_buffer)
      .def_rw("projection", &Options::projection)
      .def_rw("rounding", &Options::rounding);
  nb::class_<Plan>(m, "Plan")
      .def("__init__", make_plan, "weights"_a, "instruction_set"_a = "")
      .def(
          "step",
          [](Plan& plan, Tensors& tensors, const Options& options, int threads) {
            step(plan, tensors, options, threads);
          },
          "tensors"_a, "options"_a, "threads"_a)
      .def("step", step_recorded, "tensors"_a, "options"_a, "threads"_a, "rows"_a, "decisions"_a)
      .def_prop_ro("rows", &Plan::rows)
      .def_prop_ro("bytes", &Plan::bytes);
  nb::class_<Tensors>(m, "Tensors", nb::type_slots(collected))
      .def(nb::init<nb::list, const nb::list&, const nb::tuple&, const nb::object&>(), "weights"_a,
           "states"_a, "names"_a, "exchange"_a.none())
      .def("locate", &Tensors::locate, "params"_a, "states"_a, "other_params"_a)
      .def("release", &Tensors::release)
      .def_prop_ro("bytes", &Tensors::bytes);
  m.def("measure_changes", measure_changes, "weights"_a, "rows"_a, "threads"_a, "copies"_a = false);
  m.def("amend_changes", amend_changes, "weights"_a, "scale"_a.none(), "shrink"_a, "slope"_a.none(),
        "threads"_a);
  m.def("gate", gate_of, "table"_a, "unit_size"_a, "projection"_a, "delta"_a, "eps"_a);
}
