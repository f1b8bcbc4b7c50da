"""A row's whole way through a run, as the store has kept it: nothing is computed again, and no model is asked."""
