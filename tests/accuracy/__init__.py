"""How far every result is from the exact one, beside what people use instead.

make accuracy      measures everything, prints it, writes docs/accuracy.md; fails where the
                   contract is broken
pytest tests       runs the smaller sets of it
"""
