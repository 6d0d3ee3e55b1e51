"""Which weights of a model are scale-invariant: the audit."""
