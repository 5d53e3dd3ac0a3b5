"""What to deploy: the capacity of one configuration under service level objectives, and searches over many."""
