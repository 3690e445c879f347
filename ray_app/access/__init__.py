"""Who may: API keys."""
