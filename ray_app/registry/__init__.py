"""Which is live: versions of trained artifacts."""
