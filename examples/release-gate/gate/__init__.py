"""May this Python environment ship? Pure analyzers over its files; nothing audited is ever imported or run."""
