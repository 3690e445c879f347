"""What shops report: events of stores, kept and searchable, and what each does to behaviours, items and stock."""
