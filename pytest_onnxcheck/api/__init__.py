"""What the doors can do, as functions: one module a verb, with typed results.

Nothing is imported here: each module is imported by whoever needs its verb.
"""
