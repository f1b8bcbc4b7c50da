"""How good a selection is, by measures that say what they reward and how they can be gamed, and by intervals."""
