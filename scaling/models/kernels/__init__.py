"""What the models compute in a way chosen for speed: hand-written backward passes, packed layouts, fused products.

Each function here has a plain reference beside it, whose name ends in `_reference`, which reads like the equation;
tests/test_kernels.py shows that the two agree, forward and backward. No model is defined here.
"""
