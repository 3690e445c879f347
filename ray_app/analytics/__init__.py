"""What it added up to: counts of this minute, and what was shown as examples."""
