#include "python/torch_tensor.h"

#include <tuple>

namespace nb = nanobind;

namespace tangential {
namespace {

// DLPack 1.3, "C exchange API". Functions that we do not call are pointers without a type.
struct ExchangeApi {
  struct {
    uint32_t major, minor;
    void* previous;
  } header;
  void *allocate, *to_managed, *from_managed;
  int (*view)(void* tensor, View* into);
  void* stream;
};
constexpr uint32_t API_VERSION = 1;

}  // namespace

Torch::Torch() {
  const nb::module_ torch = nb::module_::import_("torch");
  const auto attribute = [](const nb::object& of, const char* name) {
    return of.attr(name).inc_ref().ptr();
  };
  tensor = attribute(torch, "Tensor");
  parameter = attribute(torch.attr("nn"), "Parameter");
  using Code = nb::dlpack::dtype_code;
  const std::tuple<const char*, Code, int> known[] = {
      {"float32", Code::Float, 32},     {"float64", Code::Float, 64},
      {"float16", Code::Float, 16},     {"bfloat16", Code::Bfloat, 16},
      {"complex64", Code::Complex, 64}, {"complex128", Code::Complex, 128}};
  for (const auto& [name, code, bits] : known)
    dtypes.push_back({attribute(torch, name), {uint8_t(code), uint8_t(bits), 1}});
  const auto interned = [](const char* name) { return PyUnicode_InternFromString(name); };
  grad = interned("grad"), is_cpu = interned("is_cpu"), data_ptr = interned("data_ptr");
  shape = interned("shape"), stride = interned("stride"), dtype = interned("dtype");
  const nb::object tensors = torch.attr("Tensor"), storages = torch.attr("UntypedStorage");
  is_neg = attribute(tensors, "is_neg"), is_conj = attribute(tensors, "is_conj");
  untyped_storage = attribute(tensors, "untyped_storage");
  storage_bytes = attribute(storages, "nbytes"), storage_data_ptr = attribute(storages, "data_ptr");
}

TensorReader::TensorReader(const nb::object& exchange) {
  if (exchange.is_none()) return;
  const auto* api =
      static_cast<const ExchangeApi*>(PyCapsule_GetPointer(exchange.ptr(), "dlpack_exchange_api"));
  if (!api) nb::raise_python_error();
  if (api->header.major == API_VERSION) exchange_ = api->view;
}

bool TensorReader::read_attributes(PyObject* tensor, View& view) {
  const Torch& torch = Torch::get();
  const auto get = [&](PyObject* name) { return nb::steal(PyObject_GetAttr(tensor, name)); };
  const auto call = [&](PyObject* name) {
    return nb::steal(PyObject_CallMethodObjArgs(tensor, name, nullptr));
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
  view.ndim = int32_t(PyTuple_Size(shape.ptr()));
  axes_.resize(2 * size_t(view.ndim));
  view.shape = axes_.data();
  view.strides = axes_.data() + view.ndim;
  for (int i = 0; i < view.ndim; i++) {
    view.shape[i] = PyLong_AsLongLong(PyTuple_GetItem(shape.ptr(), i));
    view.strides[i] = PyLong_AsLongLong(PyTuple_GetItem(strides.ptr(), i));
  }
  view.data = PyLong_AsVoidPtr(address.ptr());
  return !PyErr_Occurred();
}

}  // namespace tangential
