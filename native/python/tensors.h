// The weights of a group, their gradients and states: where they are in memory.
#pragma once

#include <compare>

#include "python/torch_tensor.h"
#include "step/plan.h"

namespace tangential {

// The weights of a group and their states. It remembers the strides that a plan was made for, and
// checks them before every step: between two steps anything may have been moved or replaced.
class Tensors {
 public:
  // weights: tensors with strides; states: one dict per weight, with tensors under `names`: those
  // of m, v, low and step, "" for none. Later only names are looked up that a dict has now.
  // exchange: see TensorReader.
  Tensors(nanobind::list weights, const nanobind::list& states, const nanobind::tuple& names,
          const nanobind::object& exchange);

  // Find all memory, for one step. True if exactly our weights and `other_params` have a gradient,
  // each in the order of `params`, and if every weight of ours, its gradient and its state have
  // memory and the strides that they had. Throws during a step.
  bool locate(const nanobind::object& params, const nanobind::dict& states,
              const nanobind::list& other_params);

  int traverse(visitproc visit, void* arg) const;  // for Python's garbage collector
  void clear();

  // What `locate` found, once; throws without. Until `give_back`, `locate` throws.
  const Memory* take();
  void give_back() { taken_ = false; }
  void release();  // the tensors that `locate` keeps alive
  size_t size() const { return memory_.size(); }
  size_t bytes() const;

 private:
  static constexpr int FIELDS = 4;  // m, v, low, step

  struct Axis {
    int64_t extent, stride;
    auto operator<=>(const Axis&) const = default;
  };

  struct Form {  // what a weight and its state must look like
    int32_t kind, state_kind;
    int32_t fields;  // bit k: the state has field k
    int32_t ndim;
    uint32_t first_axis;  // in axes_: kept together, which saves a cache miss per weight
    auto operator<=>(const Form&) const = default;
  };

  struct Storage {  // of a tensor, when all of it was last seen there
    nanobind::object object;
    size_t bytes = 0;
  };

  struct Entry {  // a weight
    uint32_t form;
    Storage weight, fields[FIELDS];
  };

  std::pair<Form, std::vector<Axis>> form_of(PyObject* weight, const nanobind::dict& state);
  bool locate_weight(PyObject* weight, PyObject* grad, PyObject* state, size_t i);
  bool matches(PyObject* tensor, const Form& form, int64_t kind, void*& address, Storage* known);
  bool is_step_count(PyObject* tensor, void*& address, Storage* known);
  bool has_memory(PyObject* tensor, void* at, size_t bytes, void*& address, Storage* known);

  nanobind::list weights_;
  nanobind::object names_[FIELDS];
  TensorReader reader_;
  std::vector<Form> forms_;  // each once
  std::vector<Axis> axes_;   // of all forms
  std::vector<Entry> entries_;
  std::vector<Memory> memory_;          // of each weight, where it was last
  std::vector<nanobind::object> used_;  // tensors, from `locate` to `release`
  bool located_ = false, taken_ = false;
  Py_ssize_t first_state_ = 0;  // position of our first weight in the optimizer's states
};

}  // namespace tangential
