"""What happened: the schema of events and the log that keeps them."""
