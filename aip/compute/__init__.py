"""Where agents' code comes from and what it runs in: bundles by digest, and what their agents can do."""
