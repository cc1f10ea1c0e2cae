"""Faults that the tests must notice: `python -m tools.mutants` plants them."""

from tools.mutants.autograd import AUTOGRAD
from tools.mutants.formulas import FORMULAS
from tools.mutants.kernels import KERNELS

MUTANTS = [*FORMULAS, *KERNELS, *AUTOGRAD]
