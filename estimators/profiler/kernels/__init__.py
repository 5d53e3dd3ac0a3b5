"""The operators of a serving engine as plain functions on tensors, and how each is made ready for timing.

Importing it imports torch.
"""
