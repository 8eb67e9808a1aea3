"""The read side: what people are shown; never a change of anything."""
