#include "tensors.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <stdexcept>
#include <tuple>
#include <utility>

namespace nb = nanobind;

namespace tangential {
namespace {

// DLPack 1.3, "C exchange API": the functions that we do not call are pointers without a type.
struct ExchangeApi {
  struct {
    uint32_t major, minor;
    void* previous;
  } header;
  void *allocate, *to_managed, *from_managed;
  int (*view)(void* tensor, nb::dlpack::dltensor* into);
  void* stream;
};
constexpr uint32_t API_VERSION = 1;

enum FormField : int { KIND, STATE_KIND, PRESENT, NDIM, AXES };
enum Field : int { M, V, LOW, STEP };
constexpr nb::dlpack::dtype FLOAT32{uint8_t(nb::dlpack::dtype_code::Float), 32, 1};

constexpr uint16_t kind_of(nb::dlpack::dtype dtype) {
  return uint16_t(dtype.code << 8 | dtype.bits);
}

bool is_complex(int64_t kind) { return kind >> 8 == int(nb::dlpack::dtype_code::Complex); }

// Kept for good, as torch itself is.
struct Torch {
  PyObject *tensor, *parameter;
  std::vector<std::pair<PyObject*, nb::dlpack::dtype>> dtypes;
  PyObject *grad, *is_cpu, *data_ptr, *shape, *stride, *dtype;  // names
  // methods, found once: looking one up takes a third as long as calling it
  PyObject *is_neg, *is_conj, *untyped_storage, *storage_bytes, *storage_data_ptr;

  static const Torch& get() {
    static const Torch found;
    return found;
  }

 private:
  Torch() {
    const nb::module_ torch = nb::module_::import_("torch");
    const auto attribute = [&](const char* name) { return torch.attr(name).inc_ref().ptr(); };
    tensor = attribute("Tensor");
    parameter = torch.attr("nn").attr("Parameter").inc_ref().ptr();
    using Code = nb::dlpack::dtype_code;
    const std::tuple<const char*, Code, int> known[] = {
        {"float32", Code::Float, 32},     {"float64", Code::Float, 64},
        {"float16", Code::Float, 16},     {"bfloat16", Code::Bfloat, 16},
        {"complex64", Code::Complex, 64}, {"complex128", Code::Complex, 128}};
    for (const auto& [name, code, bits] : known)
      dtypes.push_back({attribute(name), {uint8_t(code), uint8_t(bits), 1}});
    const auto interned = [](const char* name) { return PyUnicode_InternFromString(name); };
    grad = interned("grad"), is_cpu = interned("is_cpu"), data_ptr = interned("data_ptr");
    shape = interned("shape"), stride = interned("stride"), dtype = interned("dtype");
    const nb::object plain = torch.attr("Tensor"), storage = torch.attr("UntypedStorage");
    const auto method = [](const nb::object& type, const char* name) {
      return type.attr(name).inc_ref().ptr();
    };
    is_neg = method(plain, "is_neg"), is_conj = method(plain, "is_conj");
    untyped_storage = method(plain, "untyped_storage");
    storage_bytes = method(storage, "nbytes"), storage_data_ptr = method(storage, "data_ptr");
  }
};

nb::object called(PyObject* method, PyObject* self) {
  nb::object answer = nb::steal(PyObject_CallOneArg(method, self));
  if (!answer.is_valid()) nb::raise_python_error();
  return answer;
}

bool says(PyObject* tensor, PyObject* question) { return called(question, tensor).is(Py_True); }

size_t number(PyObject* method, PyObject* self) {
  return PyLong_AsSize_t(called(method, self).ptr());
}

// A subclass might keep its values elsewhere.
bool plain(PyObject* x) {
  const auto* type = reinterpret_cast<PyObject*>(Py_TYPE(x));
  return type == Torch::get().tensor || type == Torch::get().parameter;
}

bool key_at(PyObject* dict, Py_ssize_t at, PyObject* key) {
  PyObject* found;
  return PyDict_Next(dict, &at, &found, nullptr) && found == key;
}

// Where PyDict_Next comes to a key; `guess` if it may be there.
Py_ssize_t position(PyObject* dict, PyObject* key, Py_ssize_t guess) {
  if (key_at(dict, guess, key)) return guess;
  PyObject* found;
  for (Py_ssize_t at = 0, next = 0; PyDict_Next(dict, &next, &found, nullptr); at = next)
    if (found == key) return at;
  return 0;
}

// The value of a key, borrowed; null if there is none. States mostly lie in the order of their
// weights: then they are found without the hash of a tensor, which is a call of Python.
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

size_t bytes_of(const nb::dlpack::dltensor& view) {
  size_t elements = 1;
  for (int i = 0; i < view.ndim; i++) elements *= size_t(view.shape[i]);
  return elements * view.dtype.bits / 8;
}

bool same_axes(const nb::dlpack::dltensor& view, const int64_t* form) {
  if (view.ndim != form[NDIM]) return false;
  bool same = true, empty = false;
  for (int i = 0; i < view.ndim; i++) {
    const int64_t extent = form[AXES + 2 * i], stride = form[AXES + 2 * i + 1];
    if (view.shape[i] != extent) return false;
    same &= extent == 1 || view.strides[i] == stride;
    empty |= extent == 0;
  }
  return same || empty;
}

}  // namespace

Tensors::Tensors(nb::list weights, const nb::list& states, const nb::tuple& names,
                 const nb::object& exchange)
    : weights_(std::move(weights)) {
  if (names.size() != FIELDS || states.size() != weights_.size())
    throw nb::value_error("names: four are allowed; states: one a weight is allowed");
  if (!exchange.is_none()) {
    const auto* api = static_cast<const ExchangeApi*>(
        PyCapsule_GetPointer(exchange.ptr(), "dlpack_exchange_api"));
    if (!api) nb::raise_python_error();
    if (api->header.major == API_VERSION) exchange_ = api->view;
  }
  for (int k = 0; k < FIELDS; k++) names_[k] = names[size_t(k)];
  std::map<std::vector<int64_t>, uint32_t> known;
  for (size_t i = 0; i < weights_.size(); i++) {
    const nb::dict state = nb::cast<nb::dict>(states[i]);
    View view{};
    if (!read(weights_[i].ptr(), view)) throw nb::value_error("weights: one has no strides");
    std::vector<int64_t> form{kind_of(view.dtype), 0, 0, view.ndim};
    for (int axis = 0; axis < view.ndim; axis++)
      form.insert(form.end(), {view.shape[axis], view.strides[axis]});
    for (int k = 0; k < FIELDS; k++)
      if (nb::len(names_[k]) && state.contains(names_[k])) form[PRESENT] |= 1 << k;
    if (!read(state[names_[M]].ptr(), view)) throw nb::value_error("states: one has no strides");
    form[STATE_KIND] = kind_of(view.dtype);
    if (is_complex(form[KIND]) != is_complex(form[STATE_KIND]))
      throw nb::value_error("states: one is real and its weight complex, or the reverse");
    const auto [at, fresh] = known.try_emplace(form, uint32_t(forms_.size()));
    if (fresh) forms_.insert(forms_.end(), form.begin(), form.end());
    form_.push_back(at->second);
  }
  forms_.shrink_to_fit();
  form_.shrink_to_fit();
  memory_.resize(form_.size());
  storages_.resize(form_.size() * (FIELDS + 1));
}

bool Tensors::locate(const nb::object& params, const nb::dict& states, const nb::list& left) {
  if (taken_) throw std::runtime_error("tensors: another thread is in a step of these weights");
  const nb::object sequence = nb::steal(PySequence_Fast(params.ptr(), "params: a list is allowed"));
  if (!sequence.is_valid()) nb::raise_python_error();
  if (size()) first_state_ = position(states.ptr(), weights_[0].ptr(), first_state_);
  Py_ssize_t at = first_state_;
  located_ = false;
  used_.clear();
  size_t ours = 0, others = 0;
  for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(sequence.ptr()); i++) {
    const nb::object param = nb::borrow(PySequence_Fast_GET_ITEM(sequence.ptr(), i));
    const nb::object grad = nb::steal(PyObject_GetAttr(param.ptr(), Torch::get().grad));
    if (!grad.is_valid()) nb::raise_python_error();
    if (grad.is_none()) continue;
    if (ours < size() && weights_[ours].is(param)) {
      const nb::object state = nb::borrow(value_of(states.ptr(), param.ptr(), at));
      if (!state.is_valid() || !PyDict_Check(state.ptr()) ||
          !locate_one(param.ptr(), grad.ptr(), state.ptr(), ours))
        return false;
      ours++;
    } else if (others < left.size() && left[others].is(param)) {
      others++;
    } else {
      return false;
    }
  }
  return located_ = ours == size() && others == left.size();
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

bool Tensors::locate_one(PyObject* weight, PyObject* grad, PyObject* state, size_t i) {
  const int64_t* form = &forms_[form_[i]];
  Memory& memory = memory_[i];
  Storage* const known = &storages_[i * (FIELDS + 1)];
  if (!lies(weight, form, form[KIND], memory.w, known + FIELDS)) return false;
  if (!plain(grad) || !lies(grad, form, form[KIND], memory.g, nullptr)) return false;
  if (says(grad, Torch::get().is_neg)) return false;  // as autograd may leave it
  void* step = memory.step;
  void** const at[FIELDS] = {&memory.m, &memory.v, &memory.low, &step};
  for (int k = 0; k < FIELDS; k++) {
    if (!(form[PRESENT] >> k & 1)) continue;
    const nb::object tensor = nb::borrow(PyDict_GetItemWithError(state, names_[k].ptr()));
    if (!tensor.is_valid() && PyErr_Occurred()) nb::raise_python_error();
    if (!tensor.is_valid() || !plain(tensor.ptr())) return false;
    const int64_t kind = form[k == LOW ? KIND : STATE_KIND];
    if (!(k == STEP ? counts(tensor.ptr(), *at[k], known + k)
                    : lies(tensor.ptr(), form, kind, *at[k], known + k)))
      return false;
  }
  memory.step = static_cast<float*>(step);
  return true;
}

// Whether a tensor of `kind` is in this process's memory in the weight's order.
bool Tensors::lies(PyObject* tensor, const int64_t* form, int64_t kind, void*& place,
                   Storage* known) {
  View view{};
  return read(tensor, view) && kind_of(view.dtype) == kind && same_axes(view, form) &&
         !(is_complex(kind) && says(tensor, Torch::get().is_conj)) &&
         allocated(tensor, view.data, bytes_of(view), place, known);
}

bool Tensors::counts(PyObject* tensor, void*& place, Storage* known) {
  View view{};
  return read(tensor, view) && kind_of(view.dtype) == kind_of(FLOAT32) &&
         std::all_of(view.shape, view.shape + view.ndim, [](int64_t n) { return n == 1; }) &&
         allocated(tensor, view.data, sizeof(float), place, known) && is_count(view.data);
}

// Whether all bytes of a dense tensor at `at` are in its storage, which may have been freed or cut
// short (`resize_`). Where a weight or state is where it was, its storage is asked for its size
// alone; gradients (null) are new at every step.
bool Tensors::allocated(PyObject* tensor, void* at, size_t bytes, void*& place, Storage* known) {
  const Torch& torch = Torch::get();
  if (bytes && !(known && at == place && known->object.is_valid() &&
                 number(torch.storage_bytes, known->object.ptr()) == known->bytes)) {
    nb::object storage = called(torch.untyped_storage, tensor);
    const size_t from = size_t(at), all = number(torch.storage_bytes, storage.ptr()),
                 first = number(torch.storage_data_ptr, storage.ptr());
    if (!first || from < first || all < bytes || from - first > all - bytes) return false;
    if (known && says(tensor, torch.is_neg)) return false;
    if (known) *known = {std::move(storage), all};
  }
  place = at;
  used_.push_back(nb::borrow(tensor));  // another thread may drop it during the step
  return true;
}

// False, without an error, for what has no strides or is on another device.
bool Tensors::read(PyObject* tensor, View& view) {
  const bool found = exchange_ ? exchange_(tensor, &view) == 0 : read_attributes(tensor, view);
  if (!found) PyErr_Clear();
  return found && view.device.device_type == nb::device::cpu::value;
}

bool Tensors::read_attributes(PyObject* tensor, View& view) {
  const Torch& torch = Torch::get();
  const auto get = [&](PyObject* name) { return nb::steal(PyObject_GetAttr(tensor, name)); };
  const auto call = [&](PyObject* name) {
    return nb::steal(PyObject_CallMethodNoArgs(tensor, name));
  };
  const nb::object cpu = get(torch.is_cpu), dtype = get(torch.dtype), shape = get(torch.shape);
  const nb::object strides = call(torch.stride), address = call(torch.data_ptr);
  if (!cpu.is_valid() || !dtype.is_valid() || !shape.is_valid() || !strides.is_valid() ||
      !address.is_valid())
    return false;
  view.device = {cpu.ptr() == Py_True ? nb::device::cpu::value : nb::device::none::value, 0};
  view.dtype = {};
  for (const auto& [known, as] : torch.dtypes)
    if (dtype.ptr() == known) view.dtype = as;
  view.ndim = int32_t(PyTuple_GET_SIZE(shape.ptr()));
  axes_.resize(2 * size_t(view.ndim));
  view.shape = axes_.data();
  view.strides = axes_.data() + view.ndim;
  for (int i = 0; i < view.ndim; i++) {
    view.shape[i] = PyLong_AsLongLong(PyTuple_GET_ITEM(shape.ptr(), i));
    view.strides[i] = PyLong_AsLongLong(PyTuple_GET_ITEM(strides.ptr(), i));
  }
  view.data = PyLong_AsVoidPtr(address.ptr());
  return !PyErr_Occurred();
}

int Tensors::traverse(visitproc visit, void* arg) const {
  Py_VISIT(weights_.ptr());
  return 0;
}

void Tensors::clear() {
  weights_ = nb::list();
  memory_.clear();
  storages_.clear();
  located_ = false;
}

size_t Tensors::bytes() const {
  return forms_.capacity() * sizeof(int64_t) + form_.capacity() * sizeof(uint32_t) +
         memory_.capacity() * sizeof(Memory) + storages_.capacity() * sizeof(Storage) +
         used_.capacity() * sizeof(nb::object) + axes_.capacity() * sizeof(int64_t) +
         weights_.size() * sizeof(PyObject*);
}

}  // namespace tangential
