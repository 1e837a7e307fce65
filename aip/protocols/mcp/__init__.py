"""The Model Context Protocol (modelcontextprotocol.io), on the official SDK."""
