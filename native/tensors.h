// Where torch's tensors lie, asked by way of Python: no libtorch, one build for every torch.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstdint>
#include <vector>

#include "step.h"

namespace tangential {

// The weights of a group and their states. It knows how each must lie for a plan to hold, and looks
// anew at every step: between two of them anything may have been moved or replaced.
class Tensors {
 public:
  // weights: tensors with strides; states: a dict for each, with tensors under `names`: those of m,
  // v, low and step, "" for none; what a dict lacks is not looked for later. exchange:
  // torch.Tensor.__dlpack_c_exchange_api__, or None (before torch 2.10), which is slower.
  Tensors(nanobind::list weights, const nanobind::list& states, const nanobind::tuple& names,
          const nanobind::object& exchange);

  // Find all memory. False if not just our weights and those in `left` have a gradient, each in the
  // order of `params`, or if one of ours, its gradient or its state lies otherwise than it did, or
  // has no memory. What it finds holds for one step; throws during one.
  bool locate(const nanobind::object& params, const nanobind::dict& states,
              const nanobind::list& left);

  int traverse(visitproc visit, void* arg) const;  // for Python's garbage collector
  void clear();

  // What `locate` has found; throws if it failed, or that was taken. Until `give_back`, `locate`
  // throws.
  const Memory* take();
  void give_back() { taken_ = false; }
  void release();  // the tensors that `locate` has kept alive
  size_t size() const { return memory_.size(); }
  size_t bytes() const;

 private:
  using View = nanobind::dlpack::dltensor;
  static constexpr int FIELDS = 4;  // m, v, low, step

  struct Storage {  // of a weight or state, when it was last seen whole
    nanobind::object object;
    size_t bytes = 0;
  };

  bool locate_one(PyObject* weight, PyObject* grad, PyObject* state, size_t i);
  bool lies(PyObject* tensor, const int64_t* form, int64_t kind, void*& place, Storage* known);
  bool counts(PyObject* tensor, void*& place, Storage* known);
  bool allocated(PyObject* tensor, void* at, size_t bytes, void*& place, Storage* known);
  bool read(PyObject* tensor, View& view);
  bool read_attributes(PyObject* tensor, View& view);

  nanobind::list weights_;
  nanobind::object names_[FIELDS];
  int (*exchange_)(void*, View*) = nullptr;
  // Of each kind of weight: its dtype, the state's, which fields there are, its number of axes, and
  // of each axis the extent and the stride.
  std::vector<int64_t> forms_;
  std::vector<uint32_t> form_;          // of each weight: where in forms_
  std::vector<Memory> memory_;          // as it was found last
  std::vector<Storage> storages_;       // of each weight: those of its fields, then its own
  std::vector<nanobind::object> used_;  // tensors, from `locate` to `release`
  bool located_ = false, taken_ = false;
  Py_ssize_t first_state_ = 0;  // where in the optimizer's states ours begin
  std::vector<int64_t> axes_;   // of the tensor that was last read by its attributes
};

}  // namespace tangential
