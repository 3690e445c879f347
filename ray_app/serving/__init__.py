"""The doors: one table of use cases behind HTTP and gRPC."""
