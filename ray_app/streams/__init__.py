"""Read in order: the engine that runs flows over the event log. It knows no subject."""
