"""One pass over the families: gather, decide, apply, settle. Sees the edges only through `ports`."""
