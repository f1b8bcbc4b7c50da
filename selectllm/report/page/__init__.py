"""A run as one page of HTML that needs no network: what was chosen, from what, and why, from the store alone."""
