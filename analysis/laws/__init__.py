"""Scaling laws from any table of runs: forms, estimators, intervals and verdicts. Never imports torch.

Read in this order: `points` (what is fitted), `forms` (to what), `newton` and `starts` (how), `fit` (the result),
`bootstrap` (how sure it is), `sensitivity` and `validation` (how far to trust it), `assessment` (all of these
together), `optimal_split` (the best N and D of a compute). What a law predicts for the next run is in
`analysis.forecast`.
"""
