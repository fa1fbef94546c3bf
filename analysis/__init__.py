"""Numbers in; laws, forecasts, estimates, figures and the reviewers' page out. Imports `scaling.core` and no torch.

Each folder may import those before it: `tables` (runs as rows), `laws` (forms, fits, intervals), `forecast` (what a
compute buys, what a loss costs), `estimate` (training and inference compute), `figures`, `report` (the page).
"""
