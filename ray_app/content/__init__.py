"""Where items come from: sources are read, their pages fetched, extracted, told from copies, and appended as items."""
