// The gradients of an op's inputs.
#pragma once

#include "reduce.h"

namespace vae_ext {

// The elements as rows and columns, in blocks: a block's columns are summed over its rows. By the
// shape alone, whatever the number of threads.
class ColumnBlocks {
 public:
  ColumnBlocks(int64_t numel, int64_t columns)
      : columns_(columns),
        rows_(numel / columns),
        width_(std::min<int64_t>(columns, 4 * kTile)),
        height_(std::max<int64_t>(64, kChunk / width_)),
        across_((columns + width_ - 1) / width_),
        down_((rows_ + height_ - 1) / height_) {}

  int64_t columns() const { return columns_; }
  int64_t down() const { return down_; }

  // body(block of rows, start, n) for all tiles, on all threads; no tile lies in two blocks.
  template <class Body>
  void parallel(Body body) const {
    const int64_t grain = std::max<int64_t>(1, kGrain / (width_ * height_));
    torch::stable::parallel_for(0, down_ * across_, grain, [&](int64_t first, int64_t last) {
      for (int64_t block = first; block < last; ++block) {
        const int64_t down = block / across_, left = block % across_ * width_;
        const int64_t right = std::min(left + width_, columns_);
        const int64_t top = down * height_, bottom = std::min(top + height_, rows_);
        const auto tile = [&](int64_t start, int n) { body(down, start, n); };
        if (across_ == 1) {  // whole rows lie side by side
          for_each_tile(top * columns_, bottom * columns_, tile);
          continue;
        }
        for (int64_t row = top; row < bottom; ++row) {
          for_each_tile(row * columns_ + left, row * columns_ + right, tile);
        }
      }
    });
  }

 private:
  int64_t columns_, rows_, width_, height_, across_, down_;
};

// The sums over rows of what is computed tile by tile, in double and in the order of the rows.
class ColumnSums {
 public:
  explicit ColumnSums(const ColumnBlocks& blocks)
      : blocks_(blocks), sums_(static_cast<size_t>(blocks.down() * blocks.columns()), 0.0) {}

  template <class T>
  void add(int64_t down, int64_t start, int n, const T* x) {
    const int64_t columns = blocks_.columns();
    double* sums = sums_.data() + down * columns;
    for (int at = 0; at < n;) {  // cut the tile where rows end
      const int64_t column = (start + at) % columns;
      const int count = static_cast<int>(std::min<int64_t>(n - at, columns - column));
      kernels<T>().add_to_sums(count, sums + column, x + at);
      at += count;
    }
  }

  void store(const Tensor& out) {
    const auto columns = static_cast<int>(blocks_.columns());
    for (int64_t down = 1; down < blocks_.down(); ++down) {
      kernels<double>().add(columns, sums_.data(), sums_.data() + down * columns);
    }
    kernels<double>().store(columns, storage_of(out.scalar_type()), sums_.data(),
                            out.mutable_data_ptr(), 1);
  }

 private:
  const ColumnBlocks& blocks_;
  std::vector<double> sums_;
};

// compute(start, n, out) writes to those of out[N] that are not null the elements of gradients, in
// one pass over the elements. Each gradient comes in its input's shape, layout and dtype. That of
// an input that was broadcast is summed: in the kernel where the input is a single element, or one
// row for all, and after it elsewhere. What is not wanted is empty; an absent input has none.
template <class T, size_t N, class Compute>
std::array<MaybeTensor, N> input_gradients(const ReductionPlan& plan,
                                           const std::array<InputGradient, N>& of,
                                           Compute compute) {
  std::array<MaybeTensor, N> found;
  std::array<std::optional<Output<T>>, N> written;
  std::array<std::optional<ColumnSums>, N> sums;
  std::optional<ColumnBlocks> blocks;
  bool any = false;
  for (size_t i = 0; i < N; ++i) {
    if (of[i].input == nullptr) continue;
    if (of[i].is_one_element(plan)) {
      found[i] = empty(shape_of(*of[i].input), of[i].input->scalar_type(), *of[i].input);
      const ReductionPlan total(plan.shape,
                                {plan.event_dims, static_cast<int64_t>(Reduction::kSum)});
      reduce_terms<T>(total, *found[i], [&](int64_t start, int n, T* values) {
        T* out[N] = {};
        out[i] = values;
        compute(start, n, out);
      });
      continue;
    }
    any = any || of[i];
    const int64_t columns = of[i].input->numel();
    if (of[i].is_one_row(plan) && (!blocks || blocks->columns() == columns)) {
      found[i] = empty(shape_of(*of[i].input), of[i].input->scalar_type(), *of[i].input);
      if (!blocks) blocks.emplace(plan.numel, columns);
      sums[i].emplace(*blocks);
      continue;
    }
    found[i] = allocate_gradient(plan, of[i]);
    if (of[i]) written[i].emplace(*found[i]);
  }
  const auto tile = [&](int64_t down, int64_t start, int n) {
    alignas(64) T buffer[N][kTile];
    T* out[N] = {};
    for (size_t i = 0; i < N; ++i) {
      if (written[i]) out[i] = written[i]->begin(start, n, buffer[i]);
      if (sums[i]) out[i] = buffer[i];
    }
    compute(start, n, out);
    for (size_t i = 0; i < N; ++i) {
      if (written[i]) written[i]->finish(start, n, out[i], buffer[i]);
      if (sums[i]) sums[i]->add(down, start, n, buffer[i]);
    }
  };
  if (blocks) {
    blocks->parallel(tile);
  } else if (any) {
    parallel_tiles(plan.numel, [&](int64_t start, int n) { tile(0, start, n); });
  }
  for (size_t i = 0; i < N; ++i) {
    if (sums[i]) sums[i]->store(*found[i]);
    if (written[i]) found[i] = fit_gradient(plan, of[i], *found[i]);
  }
  return found;
}

}  // namespace vae_ext
