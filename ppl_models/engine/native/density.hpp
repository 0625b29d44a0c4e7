// The density as nutpie calls it: any number of threads at once, each with a frame of its own while it runs.

#include <atomic>
#include <type_traits>

namespace {

using Real = std::conditional_t<FIRST_RESULT_IS_DOUBLE, double, float>;

struct Slot {
  std::atomic_flag busy = ATOMIC_FLAG_INIT;
  Frame* frame = nullptr;
};

constexpr int NOT_FINITE = 1;  // nutpie rejects the point and goes on where a code is positive
constexpr int BROKEN = -1;

}  // namespace

struct Pool {
  int size;
  Slot* slots;
  std::atomic<int64_t> calls;
};

extern "C" {

void ppl_pool_delete(Pool* pool) {
  if (pool == nullptr) return;
  for (int i = 0; i < pool->size; ++i) ppl_frame_delete(pool->slots[i].frame);
  delete[] pool->slots;
  delete pool;
}

Pool* ppl_pool_new(char* const* bound, int size) {
  Pool* pool = new (std::nothrow) Pool{};
  if (pool == nullptr) return nullptr;
  pool->size = size;
  pool->slots = new (std::nothrow) Slot[size];
  if (pool->slots == nullptr) {
    delete pool;
    return nullptr;
  }
  for (int i = 0; i < size; ++i) {
    pool->slots[i].frame = ppl_frame_new(bound);
    if (pool->slots[i].frame == nullptr) {
      ppl_pool_delete(pool);
      return nullptr;
    }
  }
  return pool;
}

int64_t ppl_pool_calls(Pool* pool) { return pool->calls.load(); }

// Value in nats and gradient of the log density at `point`; both real whatever the precision of the graph.
int64_t ppl_density(size_t dim, const double* point, double* gradient, double* value, void* user) noexcept {
  Pool* pool = static_cast<Pool*>(user);
  Slot* slot = nullptr;
  for (int i = 0; slot == nullptr; i = (i + 1) % pool->size) {
    if (!pool->slots[i].busy.test_and_set(std::memory_order_acquire)) slot = &pool->slots[i];
  }
  pool->calls.fetch_add(1, std::memory_order_relaxed);
  int64_t code = BROKEN;
  try {
    Frame& frame = *slot->frame;
    Real* place = reinterpret_cast<Real*>(frame.arena + STREAM_SLOT[0]);
    for (size_t i = 0; i < dim; ++i) place[i] = static_cast<Real>(point[i]);
    step(frame);
    *value = *reinterpret_cast<const Real*>(result(frame, 0));
    const Real* slopes = reinterpret_cast<const Real*>(result(frame, 1));
    bool finite = std::isfinite(*value);
    for (size_t i = 0; i < dim; ++i) {
      gradient[i] = slopes[i];
      finite = finite && std::isfinite(gradient[i]);
    }
    code = finite ? 0 : NOT_FINITE;
  } catch (...) {
  }
  slot->busy.clear(std::memory_order_release);
  return code;
}

// nutpie keeps unconstrained draws; they are mapped to the model's own space afterwards, all at once.
int64_t ppl_expand(size_t dim, size_t, const double* point, double* expanded, void*) noexcept {
  std::memcpy(expanded, point, dim * sizeof(double));
  return 0;
}
}
