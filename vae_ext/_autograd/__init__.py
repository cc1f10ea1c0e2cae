"""The torch.autograd Functions: the native ops with their hand-derived backward ops."""
