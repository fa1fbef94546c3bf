"""Figures. Each function draws values that others computed; all that it evaluates is a law along a line."""
