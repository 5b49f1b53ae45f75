"""Stratified Mixture-of-Experts translation models on DeepSpeed."""

__version__ = "0.1.0"
