"""Work not lost: the seat of the scheduler, a detached actor that outlives every replica."""
