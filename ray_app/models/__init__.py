"""What we believe: embedders, channels, rankers, diversity, and their evaluation."""
