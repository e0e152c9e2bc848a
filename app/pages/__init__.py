"""Pages for people: the report of a job."""
