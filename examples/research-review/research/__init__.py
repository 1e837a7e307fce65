"""From a folder of texts to a report that quotes them: pure steps over plain values; files only where a name says so."""
