"""Scaling laws from any table of runs: forms, estimators, intervals, verdicts and advice. Never imports torch.

Read in this order: `points` (what is fitted), `forms` (to what), `newton` and `starts` (how), `fit` (the result),
`bootstrap` (how sure), `sensitivity` and `validation` (how far to trust it), `allocation` and `design` (what to do).
"""
