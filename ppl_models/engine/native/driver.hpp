// Runs the generated function `step` without Python: one step after another, or as a density for nutpie.
//
// The generated part, which stands before this text, defines:
//   NUM_INPUTS, NUM_STREAMS, NUM_RESULTS, ARENA_BYTES, FIRST_RESULT_IS_DOUBLE
//   STREAMS[], STREAM_BYTES[], STREAM_SLOT[]   inputs that are new at every step; arena offset of a copy, or -1
//   RESULT_BYTES[]                             size of each result
//   struct Frame, bind(Frame&), release(Frame&), step(Frame&), result(const Frame&, int)

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>

namespace {

constexpr int64_t FAILED = -1;

void set_stream(Frame& frame, int which, char* from) {
  if (STREAM_SLOT[which] >= 0) {
    std::memcpy(frame.arena + STREAM_SLOT[which], from, STREAM_BYTES[which]);
  } else {
    frame.inputs[STREAMS[which]] = from;
  }
}

bool first_result_is_finite(const Frame& frame) {
  const char* place = result(frame, 0);
  return FIRST_RESULT_IS_DOUBLE ? std::isfinite(*reinterpret_cast<const double*>(place))
                                : std::isfinite(*reinterpret_cast<const float*>(place));
}

}  // namespace

extern "C" {

void ppl_frame_delete(Frame* frame) {
  if (frame == nullptr) return;
  release(*frame);
  std::free(frame->arena);
  delete frame;
}

// Memory for one caller at a time. `bound`: pointers of all inputs; those of streams are not read.
Frame* ppl_frame_new(char* const* bound) {
  Frame* frame = new (std::nothrow) Frame{};
  if (frame == nullptr) return nullptr;
  frame->arena = static_cast<char*>(std::aligned_alloc(64, ARENA_BYTES));
  if (frame->arena == nullptr) {
    delete frame;
    return nullptr;
  }
  std::memset(frame->arena, 0, ARENA_BYTES);
  std::memcpy(frame->inputs, bound, NUM_INPUTS * sizeof(char*));
  for (int i = 0; i < NUM_STREAMS; ++i) {
    if (STREAM_SLOT[i] >= 0) frame->inputs[STREAMS[i]] = frame->arena + STREAM_SLOT[i];
  }
  if (!bind(*frame)) {
    ppl_frame_delete(frame);
    return nullptr;
  }
  return frame;
}

// Runs up to `count` steps. Each stream and each result is one block of memory with a slice for every step.
// Returns the number of steps made; with `guard`, it stops behind a step whose first result is not finite.
int64_t ppl_run(Frame* frame, int64_t count, char* const* streams, char* const* results, int guard) noexcept {
  try {
    for (int64_t i = 0; i < count; ++i) {
      for (int j = 0; j < NUM_STREAMS; ++j) set_stream(*frame, j, streams[j] + i * STREAM_BYTES[j]);
      step(*frame);
      for (int j = 0; j < NUM_RESULTS; ++j) {
        std::memcpy(results[j] + i * RESULT_BYTES[j], result(*frame, j), RESULT_BYTES[j]);
      }
      if (guard && !first_result_is_finite(*frame)) return i + 1;
    }
    return count;
  } catch (...) {
    return FAILED;
  }
}
}
