"""The reviewers' page: its values, its figures, and the one file that holds all of it."""
