"""Tables of runs: which column means what, in which unit, and what makes a table unusable.

`columns` names the roles, `units` judges the counts, `table` is the value that all other packages take, and `read`
makes it.
"""
