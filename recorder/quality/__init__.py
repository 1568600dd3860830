"""Judgements about what is missing: pure folds over journal entries."""
