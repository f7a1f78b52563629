"""A world of sums and invented people: some answers are known by heart, others take a tool.

Questions ask for easy sums, hard sums, facts about cities, facts about people, and facts about the
town where somebody lives, which take two searches. The base model knows easy sums and all cities
by heart, and yet it calls a tool for most of them, and often the same tool again.
"""

from mmalign.datasets.lookups.reader import SPLITS, corpus, read, read_lessons

__all__ = ["SPLITS", "corpus", "read", "read_lessons"]
