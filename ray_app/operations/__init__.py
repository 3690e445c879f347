"""Keep it well: import data, load the example, show what came of it."""
