"""Values that every room may import: frozen, typed, without patient data unless they say so."""
