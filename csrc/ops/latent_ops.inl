// The ops of a latent, the same on every device. Included by each device's file within its
// namespace, after its sample, kl_to_standard, sample_and_kl, gradients and noise_gradient.

void reparameterize_op(Stack& stack) {
  auto mu = stack.take<Tensor>(), logvar = stack.take<Tensor>();
  stack.give(0, sample(LatentArguments(std::move(mu), std::move(logvar), stack.take_noise())));
}

void reparameterize_with_kl_op(Stack& stack) {
  const auto [z, kl] = sample_and_kl(stack.take_latent_with_kl());
  stack.give(0, z);
  stack.give(1, kl);
}

void latent_op(Stack& stack) {
  const LatentOp op = stack.take_latent();
  const LatentArguments& a = op.arguments;
  const OutputMask outputs(stack.take_int());
  const auto [z, kl] = outputs[0] && outputs[1] ? sample_and_kl(a)
                       : outputs[0]             ? std::pair{sample(a), a.no_kl()}
                                                : std::pair{a.no_z(), kl_to_standard(a)};
  stack.give(0, z);
  stack.give(1, kl);
}

void reparameterize_backward_op(Stack& stack) {
  const auto grad_z = stack.take<Tensor>(), logvar = stack.take<Tensor>();
  NoiseArguments noise = stack.take_noise();
  // mu itself is not needed, nor kept: its gradient has the shape and dtype of one sample.
  Tensor mu = noise.n_samples > 0 ? torch::stable::select(grad_z, 0, 0) : grad_z;
  const LatentArguments a(std::move(mu), logvar, std::move(noise));
  stack.give_pair(gradients(a, grad_z, std::nullopt, OutputMask(stack.take_int())));
}

void reparameterize_with_kl_backward_op(Stack& stack) {
  const auto grad_z = stack.take<MaybeTensor>(), grad_kl = stack.take<MaybeTensor>();
  const LatentArguments a = stack.take_latent_with_kl();
  stack.give_pair(gradients(a, grad_z, grad_kl, OutputMask(stack.take_int())));
}

void latent_backward_op(Stack& stack) {
  const auto grad_z = stack.take<MaybeTensor>(), grad_kl = stack.take<MaybeTensor>();
  const LatentOp op = stack.take_latent();
  stack.give_pair(op.gradients(OutputMask(stack.take_int()), [&](OutputMask mask, auto... outs) {
    return gradients(op.arguments, grad_z, grad_kl, mask, outs...);
  }));
}

void reparameterize_dnoise_op(Stack& stack) {
  const auto grad_z = stack.take<Tensor>(), logvar = stack.take<Tensor>();
  stack.give(0, noise_gradient(grad_z, logvar, stack.take<Tensor>()));
}
