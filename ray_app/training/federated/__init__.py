"""Learning of many stores together: each store's orders stay in its own process, and only weights travel."""
