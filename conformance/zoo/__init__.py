"""Reference model zoo: one module per family, each with factories returning eval-mode models.

A factory draws its initial parameters from torch's global random number generator, which the
caller seeds, and never reseeds it.
"""
