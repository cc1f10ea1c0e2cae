// What the tests ask of csrc/cuda when it is compiled for the host: index arithmetic that a
// simulated grid is too slow to reach, and whether the simulation has run at all.
#include "../cuda/reduce.cuh"

#define EXPORT extern "C" __attribute__((visibility("default")))

using namespace vae_ext;

EXPORT int64_t launches() { return SimulatedBlock::launches; }

EXPORT int64_t quotient(int64_t n, int64_t size) { return Divider(size).quotient(n); }

// Where element i lies of a tensor with these sizes and strides, innermost dimension last.
EXPORT int64_t offset(int64_t i, int ndim, const int64_t* sizes, const int64_t* strides) {
  const Layout layout(Shape(sizes, sizes + ndim), sizes, strides, static_cast<size_t>(ndim));
  Operand o;
  o.access = Access::kStrided;
  o.ndim = layout.ndim();
  for (int d = 0; d < o.ndim; ++d) {
    o.size[d] = Divider(layout.size(d));
    o.stride[d] = layout.stride(d);
  }
  return strided_offset(o, i);
}

// How sums are cut up: blocks, events of a block, pieces of an event, elements of a piece.
EXPORT void sum_plan(int64_t events, int64_t size, int width, int sums, bool share, int64_t* out) {
  const SumPlan plan(events, size, width, sums, share);
  out[0] = plan.blocks();
  out[1] = plan.events_per_block;
  out[2] = plan.chunks;
  out[3] = plan.chunk_size;
}
