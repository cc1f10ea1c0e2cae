// Gradients of inputs that are one row for all, such as a dispersion per gene, summed where they
// are computed: they are never of the full shape. In double and in an order that depends on the
// shape alone: a thread goes down a few rows, and a second kernel adds what those of a column
// found.
#pragma once

#include "gradients.cuh"

namespace vae_ext {

constexpr int kMaxRows = 2;  // inputs whose gradients are summed in one pass

// A map whose outputs are stored where they are wanted, but those of `row`, which are its terms.
template <class Formula>
struct ColumnMap : Map<Formula, 0> {
  using Base = Map<Formula, 0>;
  static constexpr bool kCostly = true;  // sums of 8 columns would take too many registers
  int row[kMaxRows] = {-1, -1};

  template <class V, class Terms>
  VAE_EXT_DEVICE void run_row(int64_t start, Terms& terms) const {
    typename V::T y[Base::kOutputs][V::kWidth];
    if (!this->template compute<V, ExpRange::kBounded>(start, y)) {
      this->template compute<V, ExpRange::kFull>(start, y);
    }
#pragma unroll
    for (int i = 0; i < Base::kOutputs; ++i) {
      if (this->wanted[i]) store<V>(this->out[i], start, y[i]);
#pragma unroll
      for (int r = 0; r < kMaxRows; ++r) {
        if (row[r] != i) continue;
#pragma unroll
        for (int j = 0; j < V::kWidth; ++j) terms[r][j] = y[i][j];
      }
    }
  }
};

// Threads of adjacent columns side by side, and blocks one below the other.
template <class V, class Body>
__global__ void __launch_bounds__(kThreads, kMinColumnBlocks<V>)
    column_sums_kernel(VAE_EXT_PARAMETER Body body, VAE_EXT_PARAMETER ColumnPlan plan,
                       double* partial) {
  const int64_t down = blockIdx.x / plan.blocks_across;
  const int64_t column = (blockIdx.x % plan.blocks_across * kThreads + threadIdx.x) * V::kWidth;
  if (column >= plan.columns) return;
  double sums[kMaxRows][V::kWidth] = {};
  const int64_t end = smaller((down + 1) * plan.height, plan.rows);
  for (int64_t row = down * plan.height; row < end; ++row) {
    typename V::T terms[kMaxRows][V::kWidth] = {};
    body.template run_row<V>(row * plan.columns + column, terms);
#pragma unroll
    for (int r = 0; r < kMaxRows; ++r) {
#pragma unroll
      for (int j = 0; j < V::kWidth; ++j) sums[r][j] += static_cast<double>(terms[r][j]);
    }
  }
#pragma unroll
  for (int r = 0; r < kMaxRows; ++r) {
    if (body.row[r] < 0) continue;
    double* out = partial + (r * plan.down + down) * plan.columns + column;
#pragma unroll
    for (int j = 0; j < V::kWidth; ++j) out[j] = sums[r][j];
  }
}

// A thread per column.
template <class = void>
__global__ void __launch_bounds__(kThreads, 1)
    add_columns_kernel(const double* partial, VAE_EXT_PARAMETER ColumnPlan plan, SumOut out) {
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (column >= plan.columns) return;
  double sum = 0;
  for (int64_t down = 0; down < plan.down; ++down) sum += partial[down * plan.columns + column];
  out.write(column, sum);
}

// The outputs whose sums by columns serve: as many as there may be, of the same row, whole groups
// of which are enough for a few blocks.
template <size_t N>
std::array<int, kMaxRows> summed_rows(const ReductionPlan& plan,
                                      const std::array<InputGradient, N>& of) {
  std::array<int, kMaxRows> rows{-1, -1};
  int64_t columns = 0;
  int found = 0;
  for (size_t i = 0; i < N && found < kMaxRows; ++i) {
    if (!of[i] || !of[i].is_one_row(plan)) continue;
    const int64_t own = of[i].input->numel();
    if (own % 8 != 0 || own < ColumnPlan::kFewest || (found > 0 && own != columns)) continue;
    columns = own;
    rows[static_cast<size_t>(found++)] = static_cast<int>(i);
  }
  return rows;
}

// As input_gradients(), with those of `rows` summed.
template <class Formula, size_t N, class Fill>
std::array<MaybeTensor, N> gradients_with_rows(const Launcher& launcher, const ReductionPlan& plan,
                                               bool is_double, const Tensor& lead,
                                               const std::array<InputGradient, N>& of,
                                               const std::array<int, kMaxRows>& rows, Fill fill) {
  const auto summed = [&](size_t i) {
    return std::find(rows.begin(), rows.end(), static_cast<int>(i)) != rows.end();
  };
  std::array<MaybeTensor, N> out;
  for (size_t i = 0; i < N; ++i) {
    if (!of[i].input) continue;
    const Tensor& input = *of[i].input;
    out[i] = summed(i) ? empty(shape_of(input), input.scalar_type(), input)
                       : allocate_gradient(plan, of[i]);
  }
  const int64_t columns = out[static_cast<size_t>(rows[0])]->numel();
  const auto make = [&](int width) {
    ColumnMap<Formula> body;
    fill(body, width);
    std::copy(rows.begin(), rows.end(), body.row);
    for (size_t i = 0; i < N; ++i) {
      if (of[i] && !summed(i)) body.set(static_cast<int>(i), Operand(*out[i], plan.shape, width));
    }
    return body;
  };
  std::optional<Tensor> workspace;
  std::optional<ColumnPlan> chosen;
  with_variant(lead.scalar_type(), is_double, columns, make, [&](auto variant, const auto& body) {
    using V = decltype(variant);
    chosen.emplace(plan.numel / columns, columns, V::kWidth);
    const int64_t sums = kMaxRows - std::count(rows.begin(), rows.end(), -1);
    workspace = empty({sums, chosen->down, columns}, ScalarType::Double, lead);
    launcher(column_sums_kernel<V, std::decay_t<decltype(body)>>, chosen->blocks(), body, *chosen,
             static_cast<double*>(workspace->data_ptr()));
  });
  for (size_t r = 0; r < kMaxRows && rows[r] >= 0; ++r) {
    const Tensor& sum = *out[static_cast<size_t>(rows[r])];
    const auto* partial = static_cast<const double*>(workspace->data_ptr()) +
                          static_cast<int64_t>(r) * chosen->down * columns;
    launcher(add_columns_kernel<>, ceil_div(columns, kThreads), partial, *chosen,
             SumOut{static_cast<char*>(sum.data_ptr()), storage_of(sum.scalar_type()), 1.0});
  }
  for (size_t i = 0; i < N; ++i) {
    if (of[i] && !summed(i)) out[i] = fit_gradient(plan, of[i], *out[i]);
  }
  return out;
}

}  // namespace vae_ext
