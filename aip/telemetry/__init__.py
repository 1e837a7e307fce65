"""What happened in a run, as others read it: the tree of causes, OpenTelemetry spans, OTLP."""
