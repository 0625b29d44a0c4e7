// Calls torch's own operators through its C interface.

#include <torch/csrc/inductor/aoti_torch/generated/c_shim_cpu.h>
#include <torch/csrc/stable/c/shim.h>

#include <cstring>
#include <initializer_list>
#include <stdexcept>

using Tensor = AtenTensorHandle;
using Value = StableIValue;

namespace {

bool make_tensor(Tensor& made, void* data, int64_t dims, std::initializer_list<int64_t> shape,
                 std::initializer_list<int64_t> stride, int32_t dtype) {
  return aoti_torch_create_tensor_from_blob(data, dims, shape.begin(), stride.begin(), 0, dtype, 0, 0, &made) == 0;
}

void delete_tensor(Tensor& tensor) {
  if (tensor != nullptr) aoti_torch_delete_tensor_object(tensor);
  tensor = nullptr;
}

void require(int32_t code) {
  if (code != 0) throw std::runtime_error("an operator of torch failed");
}

template <typename T>
Value pack(T plain) {
  Value value = 0;
  std::memcpy(&value, &plain, sizeof(T));
  return value;
}

// The dispatcher takes its tensors for good, so it gets a further handle of ours.
Value lend(Tensor tensor) {
  Tensor further = nullptr;
  require(aoti_torch_new_tensor_handle(tensor, &further));
  return pack(further);
}

Value absent() { return pack<void*>(nullptr); }

Value present(Value inner) {
  Value* box = nullptr;
  require(torch_new_stable_ivalue(&box));
  *box = inner;
  return pack(box);
}

void call(const char* name, const char* overload, Value* stack) {
  require(torch_call_dispatcher(name, overload, stack, TORCH_ABI_VERSION));
}

// Takes a result; `target` is where the kernels expect it, or null for one that was changed in place.
void receive(Value value, Tensor target) {
  Tensor made = nullptr;
  std::memcpy(&made, &value, sizeof(made));
  const int32_t code = target == nullptr ? 0 : aoti_torch_copy_(target, made, 0);
  aoti_torch_delete_tensor_object(made);
  require(code);
}

}  // namespace
