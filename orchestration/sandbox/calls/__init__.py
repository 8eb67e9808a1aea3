"""One call and its answer, as every part of the sandbox passes them on."""
