"""What a training compute buys, what a loss costs, and which runs to add, from any table of runs.

One question goes in at `answer`, and one of two methods answers it: `by_forms` (several forms of the loss together, for
runs that come in compute budgets) or `by_law` (one fitted law). `forecast` makes the record that a sweep keeps.
"""
