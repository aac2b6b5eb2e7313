"""Property tests of the core: pure worlds, many of them."""
