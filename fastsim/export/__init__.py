"""What a run did, event by event, in files that other tools open."""
