#!/bin/sh
# pip install . as a stranger does it: an isolated build in a new environment, with the native
# library and without it. Usage: check_install.sh python
set -eu
python=$1
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# From a copy of the sources, so that nothing built here is picked up.
git -C "$root" ls-files -co --exclude-standard -z | (cd "$root" && xargs -0 tar cf -) \
  | (mkdir "$work/src" && cd "$work/src" && tar xf -)

check() {
  name=$1 native=$2 expected=$3
  "$python" -m venv "$work/$name"
  # The constraint reaches the isolated build, too.
  PIP_CONSTRAINT="$root/constraints.txt" VAE_EXT_NATIVE=$native \
    "$work/$name/bin/python" -m pip --disable-pip-version-check install --quiet "$work/src"
  cd "$work"
  "$work/$name/bin/python" -W ignore::RuntimeWarning - "$expected" <<'PYTHON'
import sys
from importlib.util import find_spec

import torch
import vae_ext
from vae_ext._native import library as native

assert native.available == (sys.argv[1] == "native"), native.unavailable_reason
mu = torch.randn(4, 8, requires_grad=True)
z, kl = vae_ext.reparameterize_with_kl(mu, mu)
(z.sum() + kl.sum()).backward()
assert mu.grad is not None
assert find_spec("vae_ext.integrations.diffusers")
print(f"isolated build, {sys.argv[1]}: vae_ext {vae_ext.__version__} works", vae_ext.simd_levels())
PYTHON
}

check with-native 1 native
check without-native 0 reference
