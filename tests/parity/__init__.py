"""Every loss, lambda weight and metric beside its peer: what `docs/parity.md` is made of."""
