"""A row's whole way through a run: what became of it at every step, who said so, and why it was chosen or not.

Everything is read from the store, as it was kept: nothing is computed again, and no model is asked.
"""
