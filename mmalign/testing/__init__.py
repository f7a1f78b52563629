"""Fakes and helpers for tests, of the engine and of plug-ins."""
