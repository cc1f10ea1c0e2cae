// The ops of a mixture, the same on every device. Included by each device's file within its
// namespace, after its forward and backward.

void mixture_log_density_op(Stack& stack) {
  const MixtureArguments a(stack);
  const auto out = a.allocate();
  a.is_double() ? forward<double>(a, out) : forward<float>(a, out);
  stack.give(0, out[0]);
  stack.give(1, out[1]);
}

void mixture_log_density_backward_op(Stack& stack) {
  const MixtureIncoming in(stack);
  const MixtureArguments a(stack);
  const OutputMask mask(stack.take_int());
  const auto out = a.allocate_gradients(mask);
  a.is_double() ? backward<double>(in, a, mask, out) : backward<float>(in, a, mask, out);
  for (int i = 0; i < 4; ++i) stack.give(i, out[i]);
}
