"""What there is: tenants, items, users, scenarios, and the shelf that serves them."""
