"""Training and inference compute from named assumptions, step by step: of a published analysis, or of runs of ours."""
