"""The report in every form that somebody reads: Markdown and HTML, SARIF, CycloneDX, and JSON for the next run."""
