"""What an answer means and what follows from it. Pure: no clock, no store, no socket."""
