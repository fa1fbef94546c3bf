"""Tables of runs: which column means what, in which unit, and what makes a table unusable.

`column_roles` names the roles, `units` judges the counts, `table` is the value that all other packages take, and `read`
makes it. `files` reads a file of any kind, with `text_encoding`, `separators`, `delimited`, `json_rows`, `numerals` and
`number_columns`.
"""
