"""Agents: one module per method, each builds a LangGraph graph."""
