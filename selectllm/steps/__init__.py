"""The steps of a run: each is looked up in the store, and made and stored only where it is not there intact."""
