// The storage types that a tensor may have. Those of integers, and bool, are targets' only.
#pragma once

namespace vae_ext {

enum class Storage { kFloat, kDouble, kHalf, kBFloat16, kByte, kInt16, kUInt16, kInt32, kInt64 };

constexpr bool is_floating(Storage storage) { return storage <= Storage::kBFloat16; }

}  // namespace vae_ext
