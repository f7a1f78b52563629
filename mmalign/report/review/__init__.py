"""The page on which a person browses, judges and edits what a run has built."""

from mmalign.report.review.app import RunPages, guarded_app
from mmalign.report.review.server import serve

__all__ = ["RunPages", "guarded_app", "serve"]
