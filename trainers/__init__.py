"""Capture: tasks, networks in training, and the stream of their activations into a store.

Needs PyTorch (``pip install 'ipstore[train]'``), save `ipstore.trainers.tasks` and `ipstore.trainers.config`.
"""
