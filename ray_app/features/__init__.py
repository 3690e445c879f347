"""What it means: what an event writes, what a request reads, and the view that training and serving share."""
