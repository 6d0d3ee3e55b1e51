#include "python/tensors.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <stdexcept>
#include <utility>

namespace nb = nanobind;

namespace tangential {
namespace {

enum Field : int { M, V, LOW, STEP };

bool key_at(PyObject* dict, Py_ssize_t at, PyObject* key) {
  PyObject* candidate;
  return PyDict_Next(dict, &at, &candidate, nullptr) && candidate == key;
}

// Where PyDict_Next finds a key; it tries `guess` first.
Py_ssize_t position(PyObject* dict, PyObject* key, Py_ssize_t guess) {
  if (key_at(dict, guess, key)) return guess;
  PyObject* candidate;
  for (Py_ssize_t at = 0, next = 0; PyDict_Next(dict, &next, &candidate, nullptr); at = next)
    if (candidate == key) return at;
  return 0;
}

// The value of a key, borrowed, or null. States are mostly in the order of their weights: then the
// next one is found without the hash of a tensor, which is a call through Python.
PyObject* value_of(PyObject* dict, PyObject* key, Py_ssize_t& at) {
  PyObject* value;
  if (key_at(dict, at, key)) return PyDict_Next(dict, &at, nullptr, &value), value;
  value = PyDict_GetItemWithError(dict, key);
  if (!value && PyErr_Occurred()) nb::raise_python_error();
  return value;
}

bool is_count(const void* step) {
  const float value = *static_cast<const float*>(step);
  return value >= 0 && std::isfinite(value);
}

}  // namespace

Tensors::Tensors(nb::list weights, const nb::list& states, const nb::tuple& names,
                 const nb::object& exchange)
    : weights_(std::move(weights)), reader_(exchange) {
  if (names.size() != FIELDS) throw nb::value_error("names: expected 4 names of states");
  if (states.size() != weights_.size())
    throw nb::value_error("states: expected one dict per weight");
  for (int k = 0; k < FIELDS; k++) names_[k] = names[size_t(k)];
  std::map<std::pair<Form, std::vector<Axis>>, uint32_t> known;
  for (size_t i = 0; i < weights_.size(); i++) {
    auto [form, axes] = form_of(weights_[i].ptr(), nb::cast<nb::dict>(states[i]));
    const auto [at, is_new] = known.try_emplace({form, axes}, uint32_t(forms_.size()));
    if (is_new) {
      form.first_axis = uint32_t(axes_.size());
      forms_.push_back(form);
      axes_.insert(axes_.end(), axes.begin(), axes.end());
    }
    entries_.push_back({at->second, {}, {}});
  }
  forms_.shrink_to_fit();
  axes_.shrink_to_fit();
  entries_.shrink_to_fit();
  memory_.resize(entries_.size());
}

std::pair<Tensors::Form, std::vector<Tensors::Axis>> Tensors::form_of(PyObject* weight,
                                                                      const nb::dict& state) {
  View view{};
  if (!reader_.read(weight, view)) throw nb::value_error("weights: one has no strides");
  Form form{kind_of(view.dtype), 0, 0, view.ndim, 0};
  std::vector<Axis> axes;
  for (int axis = 0; axis < view.ndim; axis++)
    axes.push_back({view.shape[axis], view.strides[axis]});
  for (int k = 0; k < FIELDS; k++)
    if (nb::len(names_[k]) && state.contains(names_[k])) form.fields |= 1 << k;
  if (!reader_.read(nb::object(state[names_[M]]).ptr(), view))
    throw nb::value_error("states: one has no strides");
  form.state_kind = kind_of(view.dtype);
  if (is_complex(form.kind) != is_complex(form.state_kind))
    throw nb::value_error("states: a weight and its state must both be real or both be complex");
  return {form, axes};
}

bool Tensors::locate(const nb::object& params, const nb::dict& states,
                     const nb::list& other_params) {
  if (taken_) throw std::runtime_error("tensors: another thread is in a step of these weights");
  const nb::object sequence = nb::steal(PySequence_Fast(params.ptr(), "params: expected a list"));
  if (!sequence.is_valid()) nb::raise_python_error();
  if (size()) first_state_ = position(states.ptr(), weights_[0].ptr(), first_state_);
  Py_ssize_t at = first_state_;
  located_ = false;
  used_.clear();
  size_t ours = 0, others = 0;
  const Py_ssize_t count = PySequence_Size(sequence.ptr());
  for (Py_ssize_t i = 0; i < count; i++) {
    const nb::object param = nb::steal(PySequence_GetItem(sequence.ptr(), i));
    const nb::object grad = nb::steal(PyObject_GetAttr(param.ptr(), Torch::get().grad));
    if (!grad.is_valid()) nb::raise_python_error();
    if (grad.is_none()) continue;
    if (ours < size() && weights_[ours].is(param)) {
      const nb::object state = nb::borrow(value_of(states.ptr(), param.ptr(), at));
      if (!state.is_valid() || !PyDict_Check(state.ptr()) ||
          !locate_weight(param.ptr(), grad.ptr(), state.ptr(), ours))
        return false;
      ours++;
    } else if (others < other_params.size() && other_params[others].is(param)) {
      others++;
    } else {
      return false;
    }
  }
  return located_ = ours == size() && others == other_params.size();
}

const Memory* Tensors::take() {
  if (!std::exchange(located_, false))
    throw nb::value_error("tensors: locate them before every step");
  taken_ = true;
  return memory_.data();
}

void Tensors::release() {
  if (!taken_) used_.clear();
}

bool Tensors::locate_weight(PyObject* weight, PyObject* grad, PyObject* state, size_t i) {
  Entry& entry = entries_[i];
  Memory& memory = memory_[i];
  const Form& form = forms_[entry.form];
  if (!matches(weight, form, form.kind, memory.w, &entry.weight)) return false;
  if (!is_plain(grad) || !matches(grad, form, form.kind, memory.g, nullptr)) return false;
  if (is_true(Torch::get().is_neg, grad)) return false;  // autograd may negate lazily
  void* step = memory.step;
  void** const at[FIELDS] = {&memory.m, &memory.v, &memory.low, &step};
  for (int k = 0; k < FIELDS; k++) {
    if (!(form.fields >> k & 1)) continue;
    const nb::object tensor = nb::borrow(PyDict_GetItemWithError(state, names_[k].ptr()));
    if (!tensor.is_valid() && PyErr_Occurred()) nb::raise_python_error();
    if (!tensor.is_valid() || !is_plain(tensor.ptr())) return false;
    const int64_t kind = k == LOW ? form.kind : form.state_kind;
    Storage* const known = &entry.fields[k];
    if (!(k == STEP ? is_step_count(tensor.ptr(), *at[k], known)
                    : matches(tensor.ptr(), form, kind, *at[k], known)))
      return false;
  }
  memory.step = static_cast<float*>(step);
  return true;
}

// Whether a tensor has the axes of a form, the dtype `kind`, and memory in this process.
bool Tensors::matches(PyObject* tensor, const Form& form, int64_t kind, void*& address,
                      Storage* known) {
  View view{};
  if (!reader_.read(tensor, view) || kind_of(view.dtype) != kind || view.ndim != form.ndim)
    return false;
  bool same = true, empty = false;
  for (int i = 0; i < view.ndim; i++) {
    const auto [extent, stride] = axes_[form.first_axis + size_t(i)];
    if (view.shape[i] != extent) return false;
    same &= extent == 1 || view.strides[i] == stride;
    empty |= extent == 0;
  }
  return (same || empty) && !(is_complex(kind) && is_true(Torch::get().is_conj, tensor)) &&
         has_memory(tensor, view.data, bytes_of(view), address, known);
}

bool Tensors::is_step_count(PyObject* tensor, void*& address, Storage* known) {
  View view{};
  return reader_.read(tensor, view) && kind_of(view.dtype) == kind_of(FLOAT32) &&
         std::all_of(view.shape, view.shape + view.ndim, [](int64_t n) { return n == 1; }) &&
         has_memory(tensor, view.data, sizeof(float), address, known) && is_count(view.data);
}

// Whether all bytes of a dense tensor at `at` are in its storage, which may have been freed or cut
// (`resize_`). For a weight or state at the same address as before, only the size of its storage is
// checked. Gradients (`known` null) are new in every step.
bool Tensors::has_memory(PyObject* tensor, void* at, size_t bytes, void*& address, Storage* known) {
  const Torch& torch = Torch::get();
  if (bytes && !(known && at == address && known->object.is_valid() &&
                 number(torch.storage_bytes, known->object.ptr()) == known->bytes)) {
    nb::object storage = call(torch.untyped_storage, tensor);
    const size_t from = size_t(at), all = number(torch.storage_bytes, storage.ptr()),
                 first = number(torch.storage_data_ptr, storage.ptr());
    if (!first || from < first || all < bytes || from - first > all - bytes) return false;
    if (known && is_true(torch.is_neg, tensor)) return false;
    if (known) *known = {std::move(storage), all};
  }
  address = at;
  used_.push_back(nb::borrow(tensor));  // another thread may drop it during the step
  return true;
}

int Tensors::traverse(visitproc visit, void* arg) const {
  Py_VISIT(weights_.ptr());
  return 0;
}

void Tensors::clear() {
  weights_ = nb::list();
  memory_.clear();
  entries_.clear();
  located_ = false;
}

size_t Tensors::bytes() const {
  return forms_.capacity() * sizeof(Form) + axes_.capacity() * sizeof(Axis) +
         entries_.capacity() * sizeof(Entry) + memory_.capacity() * sizeof(Memory) +
         used_.capacity() * sizeof(nb::object) + reader_.bytes() +
         weights_.size() * sizeof(PyObject*);
}

}  // namespace tangential
