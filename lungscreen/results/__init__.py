"""What a report says, typed (`document`), how it is made, read and written, and where results lie (`folder`)."""
