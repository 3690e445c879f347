"""Generated from `proto/`: proto/build.py."""
