// torch's tensors, read through Python: no libtorch, one build for every torch.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstdint>
#include <utility>
#include <vector>

namespace tangential {

using View = nanobind::dlpack::dltensor;

constexpr nanobind::dlpack::dtype FLOAT32{uint8_t(nanobind::dlpack::dtype_code::Float), 32, 1};

// A dtype as one number.
constexpr uint16_t kind_of(nanobind::dlpack::dtype dtype) {
  return uint16_t(dtype.code << 8 | dtype.bits);
}

inline bool is_complex(int64_t kind) {
  return kind >> 8 == int(nanobind::dlpack::dtype_code::Complex);
}

// Types, attribute names and methods of torch, which live as long as the process.
struct Torch {
  PyObject *tensor, *parameter;
  std::vector<std::pair<PyObject*, nanobind::dlpack::dtype>> dtypes;
  PyObject *grad, *is_cpu, *data_ptr, *shape, *stride, *dtype;  // names
  // methods: to look one up takes a third as long as to call it
  PyObject *is_neg, *is_conj, *untyped_storage, *storage_bytes, *storage_data_ptr;

  static const Torch& get() {
    static const Torch torch;
    return torch;
  }

 private:
  Torch();
};

// Reads where a tensor is in memory.
class TensorReader {
 public:
  // exchange: torch.Tensor.__dlpack_c_exchange_api__, or None (before torch 2.10), which is slower.
  explicit TensorReader(const nanobind::object& exchange);

  // False, without a Python error, for a tensor that has no strides or is on another device. The
  // view holds until the next call.
  bool read(PyObject* tensor, View& view) {
    const bool ok = exchange_ ? exchange_(tensor, &view) == 0 : read_attributes(tensor, view);
    if (!ok) PyErr_Clear();
    return ok && view.device.device_type == nanobind::device::cpu::value;
  }
  size_t bytes() const { return axes_.capacity() * sizeof(int64_t); }

 private:
  bool read_attributes(PyObject* tensor, View& view);

  int (*exchange_)(void*, View*) = nullptr;
  std::vector<int64_t> axes_;  // shape and strides of the last view, without exchange
};

// Whether `x` is a plain tensor or parameter: a subclass might store its values elsewhere.
inline bool is_plain(PyObject* x) {
  const auto* type = reinterpret_cast<PyObject*>(Py_TYPE(x));
  return type == Torch::get().tensor || type == Torch::get().parameter;
}

// The result of a method without arguments.
inline nanobind::object call(PyObject* method, PyObject* self) {
  nanobind::object result = nanobind::steal(PyObject_CallFunctionObjArgs(method, self, nullptr));
  if (!result.is_valid()) nanobind::raise_python_error();
  return result;
}

inline bool is_true(PyObject* method, PyObject* self) { return call(method, self).is(Py_True); }

inline size_t number(PyObject* method, PyObject* self) {
  return PyLong_AsSize_t(call(method, self).ptr());
}

inline size_t bytes_of(const View& view) {
  size_t elements = 1;
  for (int i = 0; i < view.ndim; i++) elements *= size_t(view.shape[i]);
  return elements * view.dtype.bits / 8;
}

}  // namespace tangential
