"""One bell answered: the path that every step takes, whatever its kind; never what a kind sends."""
