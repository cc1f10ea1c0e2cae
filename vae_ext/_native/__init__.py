"""The native libraries, and the dispatcher's side of their ops."""
