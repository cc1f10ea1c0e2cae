"""In csrc/node and vae_ext: what calls the kernels."""

from __future__ import annotations

from tools.mutants.mutant import Mutant

AUTOGRAD = [
    Mutant(
        "a gradient that is never scaled",
        "vae_ext/_autograd/formulas.py",
        "if not (grad.is_cpu and grad.item() == ctx.expected):",
        "if False:",
        "node",
    ),
    Mutant(
        "a gradient that is given away twice",
        "vae_ext/_autograd/formulas.py",
        "found, ctx.found = ctx.found, None",
        "found = ctx.found",
        "node",
    ),
    Mutant(
        "saved where edits are not seen",
        "vae_ext/_autograd/formulas.py",
        "        function = ctx._forward_cls\n        inputs = ctx.saved_tensors",
        "        function = ctx._forward_cls\n"
        "        inputs = ctx.needs_input_grad[:-1] if ctx.found else ctx.saved_tensors",
        "node",
    ),
    Mutant(
        "a node's gradient that is never scaled",
        "csrc/node/op_function.cpp",
        "if (grad.is_cpu() && grad.item<double>() == *call.expected) return found;",
        "return found;",
        "parity",
    ),
    Mutant(
        "a node's gradient that is given away twice",
        "csrc/node/op_function.cpp",
        "std::move(found->second).toTensor());\n    data.erase(found);",
        "found->second.toTensor());",
        "faults",
    ),
    Mutant(
        "a node whose gradients have none themselves",
        "csrc/node/op_function.cpp",
        "if (at::GradMode::is_enabled() || ",
        "if (",
        "transforms",
    ),
    Mutant(
        "an op without its derivative",
        "vae_ext/_native/registration.py",
        "return function.fast_apply(*args[:n], args[n:])",
        "pass",
        "ops",
    ),
    Mutant(
        "one noise for all examples of a vmap",
        "vae_ext/_native/seeds.py",
        '(new_seed_for_vmap if within("Vmap") else new_seed_tensor)(mu.device)',
        "new_seed_tensor(mu.device)",
        "transforms",
    ),
    Mutant(
        "samples that are not weighted",
        "vae_ext/_weighting.py",
        "if grad_z is None or grad_zeros is None:",
        "if True:",
        "estimators",
    ),
    Mutant(
        "a carry lost between halves of a product",
        "vae_ext/_reference/philox.py",
        "high_half(other) + (carry >> 16)",
        "high_half(other)",
        "noise",
    ),
    Mutant(
        "the same seed for every call",
        "vae_ext/_native/seeds.py",
        "return (None, library.new_cpu_seed()) if",
        "return (None, 1) if",
        "noise",
    ),
    Mutant(
        "a mean by weights that counts elements",
        "vae_ext/functional/_reduction.py",
        "SUM if self.by_weights else code",
        "code",
        "weights",
    ),
    Mutant(
        "a weight of 0 with a gradient",
        "vae_ext/_autograd/formulas.py",
        ".masked_fill(weights == 0, 0.0)",
        "",
        "weights",
    ),
    Mutant(
        "a sample's own weight in the aggregated posterior",
        "vae_ext/_total_correlation.py",
        "weights.masked_fill(step == 0, 1 / n_data)",
        "weights.masked_fill(step == 0, 1 / (n_data + 1))",
        "total_correlation",
    ),
]
