"""Where a run meets LangGraph."""
